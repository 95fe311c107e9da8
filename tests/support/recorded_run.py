"""A trainer with its record, and run.json read by its schema."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import jsonschema
import torch
from monai.data import DataLoader
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import from_engine
from monai.transforms import Compose
from torch import nn

import volseg
from volseg.bundle import Recipe
from volseg.cohort import Cohort
from volseg.training import (
    CachedDataset,
    Checkpoints,
    Handlers,
    Progress,
    Record,
    Resume,
    Stopwatch,
    Validation,
    VolumetricDice,
    nan_safe_greater,
)
from volseg.transforms import augmentation, preprocessing, region_masks

SCHEMA = json.loads((Path(volseg.__file__).parent / "report" / "run.schema.json").read_text())


ROI = [16, 16, 8]


def read(output_dir: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((output_dir / "run.json").read_text())
    jsonschema.Draft202012Validator(SCHEMA).validate(content)
    return content


def trainer_of(
    cohort: Cohort,
    output_dir: Path,
    *,
    max_epochs: int = 4,
    resume: bool = False,
    progress: bool = True,
    first: Sequence[Any] = (),
    last: Sequence[Any] = (),
    track: Callable[[SupervisedEvaluator], Any] | None = None,
) -> SupervisedTrainer:
    """A trainer of a linear network that validates every second epoch, with the handlers in a bundle's order."""
    torch.manual_seed(0)
    labels, grid = cohort.labels, {"channels": 1, "spacing_mm": [1.5, 1.5, 3.0]}
    steps = [preprocessing(labels, **grid, roi_size=ROI), augmentation(labels, roi_size=ROI, crops=1)]
    training = CachedDataset(cohort.datalist("training"), Compose(steps).flatten())
    validation = CachedDataset(cohort.datalist("validation"), preprocessing(labels, **grid))
    network = nn.Conv3d(1, 2, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    schedule = torch.optim.lr_scheduler.StepLR(optimizer, 1, gamma=1.0)
    recipe = Recipe(labels, cohort.channel_names, [1.5, 1.5, 3.0], ROI, {}, {"fold": 0})
    checkpoints = Checkpoints(output_dir, {"model": network, "recipe": recipe})
    metric = VolumetricDice(labels, output_transform=from_engine(["pred", "label"]))
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(validation),
        network=network,
        postprocessing=region_masks(labels),
        key_val_metric={"val_mean_dice": metric},
        val_handlers=[checkpoints],
        metric_cmp_fn=nan_safe_greater,
    )
    stopwatch = Stopwatch()
    parts = {"evaluator": evaluator, "recipe": recipe}
    state = {"schedule": schedule, "parts": {"checkpoints": checkpoints}, "settings": {}, "share": 1e9}  # each epoch
    handlers: list[Any] = [
        stopwatch,
        Validation(evaluator, interval=2),
        Record(output_dir, **parts, network=network, cohort=cohort, stopwatch=stopwatch, scores=metric),
        Resume(output_dir, **parts, resume=resume, **state),
        track(evaluator) if track else None,
    ]
    return SupervisedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=DataLoader(training, batch_size=1),
        network=network,
        optimizer=optimizer,
        loss_function=lambda logits, target: nn.functional.binary_cross_entropy_with_logits(logits, target.float()),
        train_handlers=[Handlers([*first, *handlers, Progress(evaluator) if progress else None, *last])],
    )

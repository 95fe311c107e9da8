"""A training of a few seconds that is random wherever a real one is: order, transforms, dropout."""

from __future__ import annotations

import os
import signal
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from ignite.engine import Events
from monai.data import DataLoader, Dataset
from monai.engines import SupervisedEvaluator, SupervisedTrainer
from monai.handlers import LrScheduleHandler, MeanDice
from monai.transforms import Compose, Lambdad, RandGaussianNoised
from torch import nn

from volseg.bundle import Recipe
from volseg.labels import LabelTable
from volseg.training import (
    Average,
    Checkpoints,
    EpochSeeds,
    GradientClipping,
    Patience,
    Progress,
    Resume,
    TimeLimit,
    Validation,
    nan_safe_greater,
    warmup_cosine,
)

CASES = 7


def trainer_of(
    output_dir: Path,
    *,
    resume: bool | str = False,
    seed: int | None = 3,
    max_epochs: int = 6,
    max_minutes: float = 0,
    now: Callable[[], float] = time.monotonic,
    rate: float = 0.05,
    accumulate: int = 2,
    clip_norm: float = 1.0,
    ema_decay: float = 0.9,
    keep: int = 2,
    patience: int = 0,
    name: str = "a",
    workers: int = 0,
    width: int = 3,
    share: float = 1e9,  # last.pt is written after each epoch
) -> SupervisedTrainer:
    """A trainer that validates every second epoch, with all handlers of a bundle; `output_dir` gets its files."""
    torch.manual_seed(0)
    table = LabelTable.exclusive([name])
    cases = [{"key": f"case{n}", "image": torch.randn(1, 4, 4, 4)} for n in range(CASES)]
    cases = [{**case, "label": (case["image"] > 0.3).to(torch.uint8)} for case in cases]
    dataset = Dataset(cases, Compose([RandGaussianNoised("image", prob=0.5)]))
    loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=workers)
    network = nn.Sequential(
        nn.Conv3d(1, width, 3, padding=1), nn.BatchNorm3d(width), nn.Dropout(0.2), nn.ReLU(), nn.Conv3d(width, 2, 1)
    )
    average = Average(network, decay=ema_decay)
    optimizer = torch.optim.AdamW(network.parameters(), lr=rate)
    schedule = warmup_cosine(optimizer, iterations=max_epochs * len(loader))
    limit = TimeLimit(max_minutes, schedule=schedule, now=now)
    recipe = Recipe(table, ["MR"], [1, 1, 1], [4, 4, 4], {"width": width})
    checkpoints = Checkpoints(output_dir, {"model": average.network, "recipe": recipe}, keep=keep)
    evaluator = SupervisedEvaluator(
        device="cpu",
        val_data_loader=DataLoader(Dataset(cases[:3])),
        network=average.network,
        postprocessing=Lambdad(["pred", "label"], func=_mask),
        key_val_metric={"val_mean_dice": MeanDice(output_transform=_pred_and_label)},
        val_handlers=[checkpoints],
        metric_cmp_fn=nan_safe_greater,
    )
    settings = {"seed": seed, "accumulate": accumulate, "clip_norm": clip_norm, "ema_decay": ema_decay}
    return SupervisedTrainer(
        device="cpu",
        max_epochs=max_epochs,
        train_data_loader=loader,
        network=network,
        optimizer=optimizer,
        loss_function=_loss,
        accumulation_steps=accumulate,
        train_handlers=[
            EpochSeeds(seed),
            GradientClipping(clip_norm=clip_norm),
            average,
            LrScheduleHandler(schedule, epoch_level=False, print_lr=False),
            limit,
            Validation(evaluator, interval=2),
            Resume(
                output_dir,
                resume=resume,
                evaluator=evaluator,
                recipe=recipe,
                schedule=schedule,
                parts={"average": average, "checkpoints": checkpoints, "limit": limit},
                settings=settings,
                share=share,
            ),
            Patience(evaluator, validations=patience, interval=2),
            Progress(evaluator, interval=1),
        ],
    )


def _mask(tensor: torch.Tensor) -> torch.Tensor:
    return (tensor.argmax(0, keepdim=True) if tensor.is_floating_point() else tensor > 0).float()


def _pred_and_label(output: list[dict[str, Any]]) -> tuple[list[torch.Tensor], list[torch.Tensor]]:
    return [item["pred"] for item in output], [item["label"] for item in output]


def _loss(logits: torch.Tensor, target: torch.Tensor) -> torch.Tensor:
    return nn.functional.cross_entropy(logits, target[:, 0].long())


if __name__ == "__main__":  # python small_training.py OUTPUT_DIR ITERATION: resume, and be killed at that iteration
    trainer = trainer_of(Path(sys.argv[1]), resume=True)
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED(once=int(sys.argv[2])), lambda: os.kill(os.getpid(), signal.SIGKILL)
    )
    trainer.run()

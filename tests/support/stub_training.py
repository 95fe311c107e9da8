"""A training that writes a small network at once and counts its calls, and a prediction that moves the reference."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tiny_bundle import ROI, write_checkpoint

from volseg.cohort import Cohort, write_labels, write_uncertainty
from volseg.crossval import CrossvalSettings
from volseg.jobs import WorkerOptions
from volseg.volume import Volume, read_volume, write_volume

logger = logging.getLogger("volseg.training")


class StubTraining:
    """Stands for `volseg.training.train`; `stop` is raised once, in the fold that it names, before anything is written.

    The weights differ by bundle and fold, and are the same at each call.
    """

    def __init__(self) -> None:
        self.calls: list[tuple[str, int]] = []
        self.given: list[Mapping[str, Any]] = []
        self.stop: tuple[str, int, BaseException] | None = None

    def __call__(self, bundle: Path, *, overrides: Mapping[str, Any], more: Sequence[Path] = ()) -> Path:
        del more
        name, fold, run = Path(bundle).name, overrides["fold"], Path(overrides["output_dir"])
        self.calls.append((name, fold))
        self.given.append(overrides)
        if self.stop is not None and self.stop[:2] == (name, fold):
            error, self.stop = self.stop[2], None
            raise error
        logger.warning("warning: fold %d of %s is small", fold, name)
        cohort = Cohort.open(overrides["dataset_dir"])
        for file in ("model.pt", "last.pt"):
            path = write_checkpoint(run / file, cohort.labels, fold=fold)
            content = torch.load(path, weights_only=True)
            generator = torch.Generator().manual_seed(7 * fold + len(name) + len(file))
            for tensor in content["model"].values():
                tensor += 0.05 * torch.randn(tensor.shape, generator=generator)
            torch.save({**content, "optimizer": {}}, path)
        record = {"history": [{}], "timing": {"iterations": 1, "seconds": 60.0}, "network": {"parameters": len(ROI)}}
        (run / "run.json").write_text(json.dumps(record))
        return run / "model.pt"


def stub_prediction(
    settings: CrossvalSettings,
    members: list[tuple[str, Path]],
    fold: int,
    output_dir: Path,
    *,
    device: str | None,
    worker_options: WorkerOptions,
    name: str = "predict",
) -> dict[str, str]:
    """Stands for `volseg.crossval.fold.predict_fold`: the reference, moved further the longer the bundle's name is."""
    del device, worker_options, name
    cohort = Cohort.open(settings.cohort)
    write_labels(output_dir, cohort.labels, channel_names=cohort.channel_names)
    steps = min(len(Path(bundle).name) for bundle, _ in members)
    for place, key in enumerate(cohort.fold(fold).validation):
        label = read_volume(cohort.label_path(key))
        moved = np.roll(label.voxels, steps + place % 2, axis=0)
        write_volume(output_dir / f"{key}.nii.gz", Volume(moved, label.affine_ras))
        write_uncertainty(output_dir, {key: dict.fromkeys(cohort.labels.names, 0.5)})
    return {}

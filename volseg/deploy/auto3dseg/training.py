"""What `scripts/train.py` of a template does: the data list becomes a cohort, `volseg train` trains the fold."""

from __future__ import annotations

import json
import logging
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.errors import UsageError
from volseg.files import atomic

logger = logging.getLogger(__name__)

COHORT = "volseg_cohort"
MODEL = "model"
# What the templates of MONAI call their settings, and what they are here; None has no counterpart.
_SETTINGS = {
    "num_epochs": "max_epochs",
    "num_epochs_per_validation": "val_interval",
    "num_images_per_batch": "batch_size",
    "num_crops_per_image": "crops_per_case",
    "num_warmup_epochs": None,
    "num_steps_per_image": None,
    "num_sw_batch_size": None,
    "num_cache_workers": None,
    "num_workers": "loader_workers",
    "cache_rate": None,
    "ckpt_path": None,
    "mlflow_tracking_uri": None,
    "mlflow_experiment_name": None,
}


def train(config_file: str | Sequence[str], **overrides: object) -> None:
    """Train one fold, and write `progress.yaml` with its Dice beside `configs/`.

    The list is converted once for all folds, into `volseg_cohort/` beside the folders of the algorithms.

    Args:
        config_file: `configs/hyper_parameters.yaml`, or a list that holds it.
        overrides: Settings of the bundle's train.json, and those of MONAI's templates that have a counterpart:
            `num_epochs`, `num_epochs_per_validation`, `num_images_per_batch`, `num_crops_per_image`, `num_workers`.

    Raises:
        UsageError: The configuration was not filled.
        SystemExit: Conversion or training failed; its message was printed.
    """
    folder = algorithm_folder(config_file)
    values = hyper_parameters(folder)
    cohort = folder.parent / COHORT
    listed = folder.parent / f"{COHORT}_list"
    listed.mkdir(exist_ok=True)
    _write(listed / "dataset.json", json.dumps(values["dataset"], indent=1))
    _volseg("convert", "decathlon", str(listed), str(cohort))
    (bundle,) = (folder / "bundle").iterdir()
    output = folder / MODEL
    words = [f"--{name}={json.dumps(value)}" for name, value in settings(overrides).items()]
    _volseg(
        *("train", str(bundle), "--dataset_dir", str(cohort), "--output_dir", str(output)),
        *("--fold", str(values["cohort_fold"]), *words),
    )
    best = json.loads((output / "run.json").read_text(encoding="utf-8"))["best"] or {}
    score = float(best.get("dice") or 0)
    progress = [{"best_avg_dice_score": score, "best_avg_dice_score_epoch": int(best.get("epoch") or 0)}]
    _write(folder / "progress.yaml", json.dumps(progress))


def algorithm_folder(config_file: str | Sequence[str]) -> Path:
    """The folder of the algorithm whose configuration is named.

    >>> algorithm_folder("'/data/auto/volsegunet_0/configs/hyper_parameters.yaml'").as_posix()
    '/data/auto/volsegunet_0'
    """
    files = config_file.strip("'\"").split(",") if isinstance(config_file, str) else list(config_file)
    return Path(str(files[0]).strip("'\" ")).absolute().parent.parent


def hyper_parameters(folder: Path) -> dict[str, Any]:
    """The values that `VolsegAlgo` filled in.

    Raises:
        UsageError: It did not.
    """
    path = folder / "configs" / "hyper_parameters.yaml"
    try:
        values: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise UsageError(f"{path} cannot be read ({error}); generate the algorithm again with BundleGen") from error
    if "dataset" not in values:
        raise UsageError(f"{path} names no data; generate the algorithm with BundleGen, and train what it wrote")
    return values


def settings(overrides: Mapping[str, object]) -> dict[str, object]:
    """The settings of volseg for those that were given; what has no counterpart is left out and logged.

    >>> settings({"num_epochs": 2, "learning_rate": 0.001})
    {'max_epochs': 2, 'learning_rate': 0.001}
    """
    found: dict[str, object] = {}
    for name, value in overrides.items():
        own = _SETTINGS.get(name, name)
        if own is None:
            logger.warning("%s has no counterpart in volseg and is left out", name)
        else:
            found[own] = value
    return found


def _write(path: Path, text: str) -> None:
    with atomic(path) as partial:
        partial.write_text(f"{text}\n", encoding="utf-8")


def _volseg(*words: str) -> None:
    code = subprocess.run([sys.executable, "-c", "from volseg.cli import main; main()", *words], check=False).returncode
    if code:
        raise SystemExit(code)  # the command has said why

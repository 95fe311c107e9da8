"""The work on one fold of one network: train, then predict the cases that it has not trained on."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from gc import collect
from pathlib import Path
from typing import Any

from volseg.crossval.folder import CrossvalFolder
from volseg.crossval.settings import CrossvalSettings
from volseg.files import atomic
from volseg.jobs import Do, Facts, Job, Journal, Predicting, WorkerOptions, WorkerSlot, predict_cases, stamp

_SOME = 12  # warnings of a fold that are told
_TOLD = ".volseg/warnings.json"


def job_key(network: str, fold: int) -> str:
    """The key of the job of a fold.

    >>> parts_of(job_key("a", 2))
    ('a', 2)
    """
    return f"{network}/fold_{fold}"


def parts_of(key: str) -> tuple[str, int]:
    """The network and the fold of a key."""
    network, _, fold = key.rpartition("/fold_")
    return network, int(fold)


@dataclass(frozen=True)
class FoldTraining:
    """The work of training and predicting a fold, in any process that sees the same files.

    A fold whose network is there is not trained again, and a prediction that its journal knows is not made again, so
    that a fold that was killed at any moment goes on.

    Attributes:
        folder: Folder of the cross-validation.
        settings: Settings of the cross-validation.
        anyway: Whether a training goes on although its data have changed.
    """

    folder: CrossvalFolder
    settings: CrossvalSettings
    anyway: bool = False

    @property
    def digest(self) -> str:
        """The digest of the settings."""
        return self.settings.digest

    def start(self, place: WorkerSlot) -> Do:
        """Return the function that does a fold on the device of this worker."""
        device = self.settings.device(place.number)
        if not self.settings.devices:
            from volseg.inference import worker_device

            device = worker_device(device, place.number)

        def do(job: Job) -> Facts:
            network, fold = parts_of(job.key)
            return self._do(network, fold, device)

        return do

    def _do(self, network: str, fold: int, device: str | None) -> Facts:
        run = self.folder.run(network, fold)
        began = time.time()
        with Journal(run / ".volseg" / "fold.jsonl"), logged(self.folder.log(network, fold)) as told:
            if not self.folder.network(network, fold).is_file():
                self._train(network, fold, device, told)
                collect()  # the loaders' volumes, before the prediction needs memory
            told[:0] = _told_before(run)
            failed = self._predict(network, fold, device)
            facts = {
                **_run_facts(run),
                "seconds": round(time.time() - began, 1),
                "warnings": list(dict.fromkeys(told))[:_SOME],
                "not_predicted": failed,
            }
            self._conclude(network, fold, facts)
        return facts

    def _train(self, network: str, fold: int, device: str | None, told: list[str]) -> None:
        from volseg.training import train, write_network

        run = self.folder.run(network, fold)
        overrides: dict[str, Any] = {
            **self.settings.overrides,
            "dataset_dir": str(self.settings.cohort),
            "output_dir": str(run),
            "fold": fold,
            "resume": "anyway" if self.anyway else True,
        }
        if self.settings.minutes is not None:
            overrides["max_minutes"] = self.settings.minutes
        if device is not None:
            overrides["device"] = device
        with warnings.catch_warnings():
            # Notices of third parties about their own future, as in `volseg train`.
            warnings.simplefilter("ignore", FutureWarning)
            warnings.simplefilter("ignore", DeprecationWarning)
            best = train(self.settings.networks[network], overrides=overrides, more=self.settings.config_files)
        with atomic(run / _TOLD) as partial:  # a later call that finds the network trained tells them too
            partial.write_text(json.dumps(told) + "\n", encoding="utf-8")
        last = run / "last.pt"
        write_network(best if self.settings.take == "best" else last, self.folder.network(network, fold))
        last.unlink(missing_ok=True)  # of the optimizer's state nothing is needed any more

    def _predict(self, network: str, fold: int, device: str | None) -> dict[str, str]:
        """Predict the cases of the fold; returns the errors of those that could not be predicted."""
        members = [(str(self.settings.networks[network]), self.folder.network(network, fold))]
        return predict_fold(
            self.settings,
            members,
            fold,
            self.folder.validation(network, fold),
            device=device,
            worker_options=WorkerOptions(),
        )

    def _conclude(self, network: str, fold: int, facts: Facts) -> None:
        checkpoint = stamp(self.folder.network(network, fold))
        content = {
            "network": network,
            "fold": fold,
            "bytes": checkpoint.size,
            "sha256": checkpoint.sha256,
            "inference": dict(vars(self.settings.inference)),
            **facts,
        }
        with atomic(self.folder.done(network, fold)) as partial:
            partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")


def predict_fold(
    settings: CrossvalSettings,
    members: list[tuple[str, Path]],
    fold: int,
    output_dir: Path,
    *,
    device: str | None,
    worker_options: WorkerOptions,
    name: str = "predict",
) -> dict[str, str]:
    """Predict the cases that one fold validates, by networks that have not seen them.

    Args:
        settings: Settings of the cross-validation.
        members: Bundle and checkpoint of each network.
        fold: Number of the fold.
        output_dir: Folder of the predictions; it may hold those of other folds.
        device: Device; None for the best.
        worker_options: Options of the workers, whose journal is in the output folder under `name`.
        name: Name of the journal.

    Returns:
        The error of each case that could not be predicted, by key.
    """
    from volseg.cohort import write_labels
    from volseg.inference import count_windows, find_inputs

    inference = settings.inference
    asked = Predicting(members, device, inference.engine, inference.overrides, calibrated=False)
    predictor = asked.load(device, flips=inference.flips)
    recipe, work = predictor.recipe, asked.of(predictor)
    cases = find_inputs(settings.cohort, channels=recipe.image_channels, part="validation", fold=fold)
    windows = count_windows(cases, grid_mm=recipe.spacing_mm, roi_size=recipe.roi_size, overlap=inference.overlap)
    made_with = work.made_with(recipe.labels)
    write_labels(output_dir, recipe.labels, channel_names=recipe.image_channels, made_with=made_with)
    worker_options = WorkerOptions(
        worker_options.workers, worker_options.ray, journal=output_dir / ".volseg" / f"{name}.jsonl"
    )
    done = predict_cases(
        work,
        cases,
        output_dir,
        worker_options=worker_options,
        choose=(lambda engine: predictor.with_engine(engine, windows=windows)) if worker_options.alone else None,
    )
    return dict(done.failed)


@contextmanager
def logged(path: Path) -> Iterator[list[str]]:
    """Send what this process prints and logs to the end of a file; gives the list of volseg's warnings.

    The file descriptors are turned, so that libraries in C write there too.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    warned = _Warnings()
    logger = logging.getLogger("volseg")
    logger.addHandler(warned)
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    before = [os.dup(number) for number in (1, 2)]
    try:
        with path.open("ab") as file:
            for number in (1, 2):
                os.dup2(file.fileno(), number)
        yield warned.told
    finally:
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        for number, old in zip((1, 2), before, strict=True):
            os.dup2(old, number)
            os.close(old)
        logger.removeHandler(warned)


class _Warnings(logging.Handler):
    """Keep warnings as texts."""

    def __init__(self) -> None:
        super().__init__(logging.WARNING)
        self.told: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        """Keep one."""
        self.told.append(record.getMessage().removeprefix("warning: "))


def _told_before(run: Path) -> list[str]:
    """The warnings of the training."""
    try:
        return [str(one) for one in json.loads((run / _TOLD).read_text(encoding="utf-8"))]
    except (OSError, ValueError, TypeError):
        return []


def _run_facts(run: Path) -> dict[str, Any]:
    """Epochs, minutes and weights of a training from its record."""
    try:
        record = json.loads((run / "run.json").read_text(encoding="utf-8"))
        return {
            "epochs": len(record["history"]),
            "iterations": record["timing"]["iterations"],
            "trained_minutes": round(record["timing"]["seconds"] / 60, 2),
            "parameters": record["network"]["parameters"],
        }
    except (OSError, ValueError, KeyError, TypeError):
        return {}

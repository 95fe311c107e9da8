"""nnU-Net v2 on a cohort: planned and preprocessed by its own commands, trained with a budget by `BudgetTrainer`.

A cohort folder is a raw dataset of nnU-Net as it is; its folds are handed over, so that both train on the same cases.
"""

from __future__ import annotations

import json
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from harness import measurement

NUMBER, NAME = "4", "Dataset004_Cohort"
_TRAIN = Path(__file__).with_name("nnunet_train.py")
_PROBE = 10  # iterations of a trial
_WARM = 4  # of these not counted


@dataclass(frozen=True)
class NnUNet:
    """The dataset in a working folder of its own.

    Attributes:
        place: holds nnU-Net's raw, preprocessed and results folders.
        device: cpu or cuda.
        memory_gb: Memory of the GPU that nnU-Net plans for, its option `-gpu_memory_target`; its default where None. It
            decides the windows of a batch.
        configuration: `3d_fullres`, or `2d` for images of one slice.
        python: Python of the environment that holds nnU-Net; that of run.sh where None.
    """

    place: Path
    device: str = "cpu"
    memory_gb: float | None = None
    configuration: str = "3d_fullres"
    python: Path | None = None

    def prepare(self, cohort: Path) -> None:
        """Plan and preprocess with nnU-Net's defaults, once."""
        python = self.python or measurement.peer("nnunet")
        done = self.place / "preprocessed" / NAME / "splits_final.json"
        if done.is_file():
            return
        for name in ("raw", "preprocessed", "results"):
            (self.place / name).mkdir(parents=True, exist_ok=True)
        raw = self.place / "raw" / NAME
        if not raw.exists():
            raw.symlink_to(cohort.resolve(), target_is_directory=True)
        words = ["-d", NUMBER, "-c", self.configuration, "-npfp", "2", "-np", "2", "--verify_dataset_integrity"]
        if self.memory_gb is not None:
            words += ["-gpu_memory_target", f"{self.memory_gb:g}", "-overwrite_plans_name", self._plans]
        self._run([python.with_name("nnUNetv2_plan_and_preprocess"), *words], workers=1)
        folds = json.loads((cohort / "splits.json").read_text())
        names = {"training": "train", "validation": "val", "train": "train", "val": "val"}
        done.write_text(json.dumps([{names[part]: keys for part, keys in fold.items()} for fold in folds]))

    def train(self, *, epochs: int, iterations: int, predict: bool, workers: int) -> dict[str, Any]:
        """Train fold 0 anew; the contents of `steps.json`."""
        shutil.rmtree(self.place / "results" / NAME, ignore_errors=True)
        budget = json.dumps({"epochs": epochs, "iterations": iterations, "predict": predict})
        words = [self.python or measurement.peer("nnunet"), _TRAIN, NUMBER, self.configuration, "0"]
        words += ["-p", self._plans, "-device", self.device]
        self._run(words, workers=workers, VOLSEG_BUDGET=budget)
        facts: dict[str, Any] = json.loads((self._fold / "steps.json").read_text())
        return {**facts, "workers": workers}

    def faster(self) -> tuple[int, float]:
        """The number of augmenting processes, 1 or 2, with which a trial is faster, and its seconds per iteration."""
        trials = {}
        for workers in (1, 2):
            facts = self.train(epochs=1, iterations=_PROBE, predict=False, workers=workers)
            times = [step + wait for step, wait in zip(facts["steps_s"], facts["waits_s"], strict=True)][_WARM:]
            trials[workers] = sum(times) / len(times)
        best = min(trials, key=lambda number: trials[number])
        return best, trials[best]

    @property
    def predictions(self) -> Path:
        """The held-out cases as nnU-Net's own validation writes them: native grid, mirror images, Gaussian."""
        return self._fold / "validation"

    @property
    def _plans(self) -> str:
        return "nnUNetPlans" if self.memory_gb is None else f"nnUNetPlans_{self.memory_gb:g}GB"

    @property
    def _fold(self) -> Path:
        return self.place / "results" / NAME / f"BudgetTrainer__{self._plans}__{self.configuration}" / "fold_0"

    def _run(self, words: list[str | Path], *, workers: int, **more: str) -> None:
        environment = {
            **measurement.environment_of_peers(),
            **{f"nnUNet_{name}": str(self.place / name) for name in ("raw", "preprocessed", "results")},
            "nnUNet_n_proc_DA": str(workers),
            "nnUNet_def_n_proc": "2",
            **more,
        }
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
        (self.place / "log.txt").write_text(done.stdout + done.stderr)
        if done.returncode:
            said = (done.stdout + done.stderr).strip()[-2000:]
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {done.returncode}:\n{said}")


def schedule(seconds: float, iteration_s: float) -> tuple[int, int]:
    """Epochs and iterations of each that end with a time: twenty steps of the learning rate where there are so many.

    Half an iteration is taken off for the one of validation in each epoch.

    >>> schedule(1200, 4.0)
    (20, 14)
    >>> schedule(10, 4.0)
    (1, 2)
    """
    fitting = seconds / iteration_s
    epochs = max(1, min(20, int(fitting / 4)))
    return epochs, max(1, int(fitting / epochs - 0.5))

"""The folder of a cross-validation: where its runs, predictions, tables and the ensemble are."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

OOF = "oof"
ENSEMBLE = "ensemble"
COMPARISON = "comparison"
CHOSEN = "chosen"
RESERVED = (OOF, ENSEMBLE, COMPARISON, CHOSEN, "report_data")
"""Names in the folder that no network may have."""


@dataclass(frozen=True)
class CrossvalFolder:
    """The paths inside the folder of a cross-validation.

    Attributes:
        path: The folder.

    >>> CrossvalFolder(Path("cv")).network("a", 2).as_posix()
    'cv/a/fold_2/final.pt'
    """

    path: Path

    @property
    def settings(self) -> Path:
        """The settings that a later call is compared with."""
        return self.path / "crossval.json"

    @property
    def summary(self) -> Path:
        """The result for programs."""
        return self.path / "summary.json"

    @property
    def table(self) -> Path:
        """The out-of-fold table: one row per case, region and candidate."""
        return self.path / OOF / "table.csv"

    @property
    def ensemble(self) -> Path:
        """The ensemble folder."""
        return self.path / ENSEMBLE

    def run(self, network: str, fold: int) -> Path:
        """The run folder of a fold."""
        return self.path / network / f"fold_{fold}"

    def network(self, network: str, fold: int) -> Path:
        """The trained network of a fold; it is there once the training is finished."""
        return self.run(network, fold) / "final.pt"

    def done(self, network: str, fold: int) -> Path:
        """The facts of a finished fold, trained and predicted."""
        return self.run(network, fold) / "done.json"

    def log(self, network: str, fold: int) -> Path:
        """The log of the training of a fold."""
        return self.run(network, fold) / "train.log"

    def validation(self, network: str, fold: int) -> Path:
        """The predictions of the cases that a fold has not trained on."""
        return self.run(network, fold) / "validation"

    def oof(self, candidate: str) -> Path:
        """The out-of-fold predictions of a candidate, of all folds together."""
        return self.path / OOF / candidate

    def report(self, candidate: str) -> Path:
        """The report of a candidate."""
        return self.oof(candidate) / "report"

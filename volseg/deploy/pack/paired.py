"""Dice of label maps by two precisions of one network, on the same cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import read_label_map
from volseg.deploy.pack.file_digest import sha256
from volseg.errors import UsageError
from volseg.inference import ArrayPredictor
from volseg.labels import LabelTable
from volseg.metrics import dice

# What a change of precision may cost, as Dice: in the mean, and in a case (the mean of its regions).
MEAN_FALL = 0.001
CASE_FALL = 0.01
# Bytes of preprocessed cases that stay in memory; others are read anew for each pass.
_KEPT_BYTES = 2**30


class Windows(Protocol):
    """Logits (n, channels, *roi) of windows (n, C, *roi)."""

    name: str
    precision: str

    @property
    def windows_at_once(self) -> int:
        """Number of windows per call that is fastest."""
        ...

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits."""
        ...


@dataclass(frozen=True)
class Change:
    """The change of Dice by another precision.

    Attributes:
        cases: Number of cases.
        dice: Mean Dice in single precision, over regions and cases.
        mean_change: Change of the mean.
        worst_change: Change of the case that falls most.
        worst_image_sha256: Digest of that case's first image.
        regions_lost: Number of regions of cases that single precision finds in part, and the other one nowhere.
    """

    cases: int
    dice: float
    mean_change: float
    worst_change: float
    worst_image_sha256: str
    regions_lost: int

    @property
    def reason(self) -> str:
        """What is too much of it; empty if nothing is."""
        if self.regions_lost:
            return f"regions that fp32 finds are lost: {self.regions_lost}"
        if self.mean_change < -MEAN_FALL:
            return f"the mean Dice falls by {-self.mean_change:.4f} (at most {MEAN_FALL:g})"
        if self.worst_change < -CASE_FALL:
            return f"the Dice of a case falls by {-self.worst_change:.4f} (at most {CASE_FALL:g})"
        return ""

    @property
    def told(self) -> str:
        """The figures in words."""
        return (
            f"{self.cases} validation cases: mean Dice {self.dice:.4f} in fp32, {self.mean_change:+.4f} in INT8, worst "
            f"case {self.worst_change:+.4f}, {self.regions_lost} regions lost"
        )


class PairedCases:
    """Cases with reference labels, each predicted in single precision once.

    Args:
        predictor: Predictor of the network.
        cases: Key, one image per channel, and label map of each case.
        labels: Labels of the label maps.
        exact: Network in single precision.
    """

    def __init__(
        self,
        predictor: ArrayPredictor,
        cases: Sequence[tuple[str, Sequence[Path], Path | None]],
        labels: LabelTable,
        *,
        exact: Windows,
    ) -> None:
        self._predictor, self._labels = predictor, labels
        self._cases = [(key, list(images), label) for key, images, label in cases if label is not None]
        self._kept: dict[str, dict[str, Any]] = {}
        self._bytes = 0
        if not self._cases:
            raise UsageError("a comparison of precisions needs cases with labels, got none")
        self._exact = self._dice(exact, range(len(self._cases)))
        if np.isnan(self._exact).all() or not np.nansum(self._exact):
            raise UsageError(
                "INT8 is compared by Dice, and the network finds no region of its cohort in single precision; train it "
                "longer, or pack without --int8"
            )

    def __len__(self) -> int:
        return len(self._cases)

    def change(self, windows: Windows) -> Change:
        """The change of Dice on all cases by a network in another precision."""
        other = self._dice(windows, range(len(self)))
        changes = _changes(self._exact, other)
        worst = int(np.argmin(changes))
        return Change(
            len(self),
            round(_mean(self._exact), 5),
            round(float(np.mean(changes)), 5),
            round(float(changes[worst]), 5),
            sha256(self._cases[worst][1][0]),
            _lost(self._exact, other),
        )

    def badness(self, windows: Windows, numbers: Sequence[int]) -> tuple[float, list[float]]:
        """The change on some cases as a fraction of what is allowed, in all and of each; above 1 is too much."""
        chosen = self._exact[list(numbers)]
        other = self._dice(windows, numbers)
        changes = _changes(chosen, other)
        each = [-float(change) / CASE_FALL for change in changes]
        lost = [_lost(chosen[[row]], other[[row]]) for row in range(len(chosen))]
        each = [one + 10 * count for one, count in zip(each, lost, strict=True)]
        return max(-float(np.mean(changes)) / MEAN_FALL, *each), each

    def _dice(self, windows: Windows, numbers: Sequence[int]) -> NDArray[np.float64]:
        """Dice (cases, regions) of some cases; NaN where a region is neither there nor found."""
        predictor = replace(self._predictor, windows=windows)
        rows = []
        for number in numbers:
            key, images, label = self._cases[number]
            found = predictor.postprocess(predictor.infer(self._read(key, images))).label_map
            reference = read_label_map("reference", label, found, self._labels)
            seen = found.voxels
            if (ignored := self._labels.ignored(reference.voxels)) is not None:  # nobody looked there
                seen = np.where(ignored, np.uint8(0), seen)
            masks = zip(self._labels.each_mask(seen), self._labels.each_mask(reference.voxels), strict=True)
            rows.append([dice(predicted, there) for predicted, there in masks])
        return np.array(rows, dtype=np.float64)

    def _read(self, key: str, images: Sequence[Path]) -> dict[str, Any]:
        if key in self._kept:
            return self._kept[key]
        item = self._predictor.preprocess(images, key=key)
        self._bytes += item["image"].nbytes
        if self._bytes <= _KEPT_BYTES:
            self._kept[key] = item
        return item


def _changes(exact: NDArray[np.float64], other: NDArray[np.float64]) -> NDArray[np.float64]:
    """The change of each case's Dice, the mean of its regions; one that is absent and not found counts as right."""
    changes: NDArray[np.float64] = (np.nan_to_num(other, nan=1.0) - np.nan_to_num(exact, nan=1.0)).mean(axis=1)
    return changes


def _lost(exact: NDArray[np.float64], other: NDArray[np.float64]) -> int:
    """The number of regions that one found in part, and the other nowhere."""
    return int(((np.nan_to_num(exact) > 0) & (np.nan_to_num(other) == 0)).sum())


def _mean(values: NDArray[np.float64]) -> float:
    return float(np.nanmean(values))

"""How like two cases are, by numbers of the image and of what is segmented in it, without the network."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volseg.labels import LabelTable
from volseg.metrics import Mask, bounding_box, count_objects, volume_ml
from volseg.volume import Volume

Description = Mapping[str, float]
"""Numbers of a case by name; those of a region begin with its name and a slash."""

_MAD_TO_SIGMA = 1.4826
# A number that is this many spreads off is as unlike as can be, so that all that is far off is alike.
_LARGEST_Z = 4.0
# A region that only one of two cases has sets them as far apart as a number can.
_ABSENT = 2 * _LARGEST_Z
_SHELL = 2  # voxels outside the surface whose intensities are compared with those inside
_MOST_VOXELS = 500_000  # of an image, for its percentiles
_MOST_PAIRS = 4_000_000  # numbers held at once


def describe(images: Sequence[Volume], label: Volume, labels: LabelTable, names: Sequence[str]) -> dict[str, float]:
    """Describe a case by its intensities, and each region by size, shape and the intensities around its surface.

    All intensities count from the 1st to the 99th percentile of the channel, so that the units of the scanner do not
    matter. A region that is absent has no numbers.

    Args:
        images: Channels of the image.
        label: Label map on their grid, predicted or drawn.
        labels: Its label table.
        names: Regions to describe.

    >>> voxels = np.arange(64.0).reshape(4, 4, 4)
    >>> image, label = Volume(voxels, np.eye(4)), Volume((voxels > 31).astype(np.uint8), np.eye(4))
    >>> found = describe([image], label, LabelTable.exclusive(["liver"]), ["liver"])
    >>> round(found["middle 0"], 2), round(found["liver/inside 0 middle"], 2), round(found["liver/parts"], 2)
    (0.5, 0.76, 0.0)
    """
    found: dict[str, float] = {"slice_mm": math.log(max(label.spacing_mm))}
    scales = []
    for number, image in enumerate(images):
        thin = _thinned(image.voxels)
        start, end = np.percentile(thin, (1, 99)).tolist()
        scales.append((start, end - start if end > start else math.inf))
        if end > start:
            found[f"range {number}"] = math.log(end - start)
        low, middle, high = np.percentile(_scaled(thin, *scales[-1]), (25, 50, 75)).tolist()
        found |= {f"low {number}": low, f"middle {number}": middle, f"high {number}": high}
    for name, mask in zip(labels.names, labels.each_mask(label.voxels), strict=True):
        if name in names and mask.any():
            found |= {f"{name}/{what}": value for what, value in _region(mask, images, scales).items()}
    return found


def _thinned(voxels: NDArray[Any]) -> NDArray[np.float32]:
    step = math.ceil((voxels.size / _MOST_VOXELS) ** (1 / 3))
    thin = voxels[tuple(slice(None, None, min(step, max(1, side // 16))) for side in voxels.shape)]
    return _finite(thin)


def _finite(voxels: NDArray[Any]) -> NDArray[np.float32]:
    return np.nan_to_num(voxels.astype(np.float32), posinf=0.0, neginf=0.0)


def _scaled(values: NDArray[np.float32], start: float, width: float) -> NDArray[np.float32]:
    """Intensities with the 1st percentile of the channel as 0 and the 99th as 1."""
    scaled: NDArray[np.float32] = np.clip((values - start) / width, -0.5, 1.5)
    return scaled


def _region(mask: Mask, images: Sequence[Volume], scales: Sequence[tuple[float, float]]) -> dict[str, float]:
    spacing_mm = images[0].spacing_mm
    box = tuple(
        slice(max(0, one.start - _SHELL), min(length, one.stop + _SHELL))
        for one, length in zip(bounding_box(mask), mask.shape, strict=True)
    )
    inside = mask[box]
    rim = inside & ~ndimage.binary_erosion(inside)
    shell = ndimage.binary_dilation(inside, iterations=_SHELL) & ~inside
    extents_mm = sorted((float(np.ptp(axis)) + 1) * mm for axis, mm in zip(np.nonzero(inside), spacing_mm, strict=True))
    ml = volume_ml(inside, spacing_mm)
    found = {
        "volume": math.log(ml),
        "parts": math.log(count_objects(inside)),
        "filled": 1000 * ml / math.prod(extents_mm),  # less for what is bent or torn
        "long": math.log(extents_mm[2] / extents_mm[0]),
        "thin": float(rim.sum() / inside.sum()),
    }
    for number, (image, scale) in enumerate(zip(images, scales, strict=True)):
        values = _scaled(_finite(image.voxels[box]), *scale)
        for what, part in (("inside", inside), ("outside", shell)):
            if part.any():
                low, middle, high = np.percentile(values[part], (10, 50, 90)).tolist()
                found |= {
                    f"{what} {number} low": low,
                    f"{what} {number} middle": middle,
                    f"{what} {number} high": high,
                }
    return found


@dataclass(frozen=True, eq=False)
class Likeness:
    """How like cases are, from 0 for cases that have nothing in common to 1 for cases that cannot be told apart.

    A number counts in spreads of all cases, and beyond four of them as four. Where the mean squared difference of the
    numbers of two cases is d times that of a usual pair, the median, their likeness is 0.5 ** ((d / 2) ** 2): 0.84 for
    a usual pair, and a half at twice its difference. For a region, its own numbers and those of the image count.

    Attributes:
        cases: Description of each case by key.
    """

    cases: Mapping[str, Description]

    def of(self, keys: Sequence[str], others: Sequence[str], *, region: str = "") -> NDArray[np.float64]:
        """The likeness (keys, others) of cases to other ones; a case without a description is like itself alone.

        Args:
            keys: Keys of cases.
            others: Keys of others, or of the same.
            region: Region that they are compared by; all of them if empty.

        >>> cases = {f"usual{n}": {"x": n / 10} for n in range(9)} | {"dark": {"x": -5.0}, "dark too": {"x": -5.0}}
        >>> Likeness(cases).of(["dark"], ["usual0", "dark too", "of no numbers"]).round(2).tolist()
        [[0.0, 1.0, 0.0]]
        """
        known = sorted(self.cases)
        table, usual = self._table(known, region)
        place = {key: row for row, key in enumerate(known)}
        found = np.array([[float(key == other) for other in others] for key in keys]).reshape(len(keys), len(others))
        rows = [row for row, key in enumerate(keys) if key in place]
        columns = [column for column, key in enumerate(others) if key in place]
        if rows and columns and table.shape[1]:
            apart = _apart(table[[place[keys[row]] for row in rows]], table[[place[others[one]] for one in columns]])
            found[np.ix_(rows, columns)] = np.where(apart > 0, 0.5 ** ((apart / (2 * usual)) ** 2), 1.0)
        elif rows and columns:  # nothing tells them apart
            found[np.ix_(rows, columns)] = 1.0
        return found

    def _table(self, keys: Sequence[str], region: str) -> tuple[NDArray[np.float64], float]:
        """Numbers (cases, features) in spreads, NaN where there are none; mean square apart of a usual pair."""
        names = sorted({name for case in self.cases.values() for name in case if _counts(name, region)})
        columns = []
        for name in names:
            values = np.array([self.cases[key].get(name, math.nan) for key in keys])
            there = values[~np.isnan(values)]
            middle = float(np.median(there))
            spread = _MAD_TO_SIGMA * float(np.median(np.abs(there - middle))) or float(np.std(there))
            if spread > 1e-9 * max(1.0, abs(middle)):
                columns.append(np.clip((values - middle) / spread, -_LARGEST_Z, _LARGEST_Z))
            elif np.isnan(values).any():
                columns.append(np.where(np.isnan(values), math.nan, 0.0))
        table = np.stack(columns, axis=1) if columns else np.empty((len(keys), 0))
        if not columns or len(keys) < 2:
            return table, 1.0
        some = table[:: max(1, len(keys) // 500)]
        apart = _apart(some, some)[np.triu_indices(len(some), 1)]
        usual = float(np.median(apart)) or float(apart.mean()) or 1.0
        return table, usual


def _counts(name: str, region: str) -> bool:
    owner, slash, _ = name.rpartition("/")
    return not slash or not region or owner == region


def _apart(some: NDArray[np.float64], others: NDArray[np.float64]) -> NDArray[np.float64]:
    """Mean squared difference (some, others) over features; absent on both sides is no difference."""
    found = np.empty((len(some), len(others)))
    step = max(1, _MOST_PAIRS // max(1, others.size))
    for start in range(0, len(some), step):
        left, right = some[start : start + step, None], others[None]
        difference = np.minimum(np.abs(left - right), 2 * _LARGEST_Z)
        difference = np.where(np.isnan(left) != np.isnan(right), _ABSENT, np.nan_to_num(difference))
        found[start : start + step] = (difference**2).mean(axis=2)
    return found

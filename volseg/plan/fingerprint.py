"""The fingerprint of a cohort: what a plan is made from."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.volume import nearest_index

_QUANTILES = (0.005, 0.05, 0.5, 0.95, 0.995)


@dataclass(frozen=True)
class Intensities:
    """Intensities of one channel in a set of voxels.

    Attributes:
        mean: Mean.
        std: Standard deviation.
        quantiles: Values below which 0.5, 5, 50, 95 and 99.5 % of the voxels lie.
    """

    mean: float
    std: float
    quantiles: tuple[float, ...]

    @classmethod
    def of(cls, values: NDArray[np.float32]) -> Intensities | None:
        """The intensities of a sample; None of an empty one.

        >>> Intensities.of(np.array([1, 2, 3], np.float32)).mean
        2.0
        """
        if not len(values):
            return None
        exact = values.astype(np.float64)
        low = tuple(float(value) for value in np.quantile(exact, _QUANTILES))
        return cls(float(exact.mean()), float(exact.std()), low)


@dataclass(frozen=True)
class RegionFacts:
    """One region over the cases whose labels were read.

    Attributes:
        name: Name of the region.
        cases: Number of cases that hold it.
        voxels: Median number of its voxels where it is.
        volume_mm3: Median volume in mm3 where it is.
        share: Median fraction of the image's voxels where it is.
        extent: Smallest number of slices along X, Y, Z that it takes in a case.
        extent_mm: Median size of its bounding box in mm along X, Y, Z.
        smallest_case: Key of the case that holds the fewest of its voxels.
        smallest_voxels: Number of them.
        parts: Median number of connected parts; None if they were not counted.
        intensities: Intensities per channel; empty if no image was read, and None for a channel without a finite value.
        symmetry: Overlap of its profile along X, Y, Z with the mirrored one, 0 to 1, over all cases together.
    """

    name: str
    cases: int
    voxels: float = 0.0
    volume_mm3: float = 0.0
    share: float = 0.0
    extent: tuple[int, ...] = ()
    extent_mm: tuple[float, ...] = ()
    smallest_case: str = ""
    smallest_voxels: int = 0
    parts: float | None = None
    intensities: tuple[Intensities | None, ...] = ()
    symmetry: tuple[float, ...] = ()


@dataclass(frozen=True)
class SmallRegion:
    """A small region of one case, of which it can be said which grids lose it.

    Attributes:
        key: Key of the case.
        name: Name of the region.
        shape: Number of voxels of the case along X, Y, Z.
        spacing_mm: Spacing of the case in mm along X, Y, Z.
        extent: Number of slices that the region takes along X, Y, Z.
        positions: Indices of its voxels (n, 3).
    """

    key: str
    name: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    extent: tuple[int, ...]
    positions: NDArray[np.int32] = field(repr=False)

    def kept_on(self, spacing_mm: Sequence[float]) -> int:
        """Number of its voxels that a grid of that spacing takes: the one that MONAI's `Spacing` makes.

        That grid begins at the first voxel and ends within half of its own voxels of the last; each of its voxels takes
        the label of the nearest one, see `volseg.volume.nearest_voxels`.
        """
        held = np.ones(len(self.positions), bool)
        for axis, (n, mm, to) in enumerate(zip(self.shape, self.spacing_mm, spacing_mm, strict=True)):
            count = int(np.rint((n - 1) * mm / to + 1))  # as in MONAI, halves to the even number
            picks = nearest_index(np.arange(count, dtype=np.float64) * (float(to) / mm), n, upwards=True)
            taken = np.zeros(n, bool)
            taken[picks] = True
            held &= taken[self.positions[:, axis]]
        return int(np.count_nonzero(held))


@dataclass(frozen=True)
class Fingerprint:
    """What a cohort is, for a plan. Axes X, Y, Z run right, anterior, superior.

    Attributes:
        cases: Number of labelled cases that are not kept for a test; of all cases if none is labelled.
        patients: Number of their patients.
        shape: Median number of voxels along X, Y, Z.
        shape_range: Smallest and largest number along each.
        spacing_mm: Median spacing in mm along X, Y, Z.
        spacing_range_mm: Smallest, 10th percentile, 90th percentile and largest spacing along each.
        channel_names: Name of each channel.
        flat: Whether each case is one slice.
        regions: Regions in the order of the label table.
        background: Intensities outside all regions per channel; empty if no image was read.
        foreground: The same inside any region.
        constant: Names of channels that hold one value in each image that was read.
        constant_cases: Keys of cases by the name of a channel that holds one value in them, but not in all.
        looked_at: Number of cases whose label was read.
        images_read: Number of cases whose images were read too.
        unreadable: Error by key of the cases that could not be read.
        folds: Number of training and validation cases of each fold.
        region_cases: Number of training and validation cases that hold a region, by name, per fold; of the cases read.
        small: Smallest regions.
        unlike: Sentences on folds and cases that are unlike the others, and on images that make no sense.
    """

    cases: int
    patients: int
    shape: tuple[int, ...]
    shape_range: tuple[tuple[int, int], ...]
    spacing_mm: tuple[float, ...]
    spacing_range_mm: tuple[tuple[float, float, float, float], ...]
    channel_names: tuple[str, ...]
    flat: bool
    regions: tuple[RegionFacts, ...]
    background: tuple[Intensities | None, ...] = ()
    foreground: tuple[Intensities | None, ...] = ()
    constant: tuple[str, ...] = ()
    constant_cases: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    looked_at: int = 0
    images_read: int = 0
    unreadable: Mapping[str, str] = field(default_factory=dict)
    folds: tuple[tuple[int, int], ...] = ()
    region_cases: Mapping[str, tuple[tuple[int, int], ...]] = field(default_factory=dict)
    small: tuple[SmallRegion, ...] = ()
    unlike: tuple[str, ...] = ()

    @property
    def anisotropy(self) -> float:
        """The coarsest median spacing over the finest; of images of one slice in their plane."""
        along = [mm for mm, n in zip(self.spacing_mm, self.shape, strict=True) if n > 1] or list(self.spacing_mm)
        return max(along) / min(along)

    @property
    def voxels(self) -> int:
        """Number of voxels of the median shape."""
        return math.prod(self.shape)

    def shape_on(self, spacing_mm: Sequence[float]) -> list[int]:
        """The median shape on a grid of another spacing; one slice stays one.

        >>> ranges = ((10, 10),) * 3, (1.0, 1.0, 5.0), ((1.0,) * 4,) * 3
        >>> facts = Fingerprint(1, 1, (10, 10, 4), *ranges, ("CT",), False, ())
        >>> facts.shape_on([2, 2, 5])
        [5, 5, 4]
        """
        along = zip(self.shape, self.spacing_mm, spacing_mm, strict=True)
        return [n if n == 1 else max(1, round(n * mm / to)) for n, mm, to in along]

    def to_json(self) -> dict[str, Any]:
        """The fingerprint for `plan.json`, without positions of voxels."""
        content = asdict(self)
        content["small"] = [
            {"key": one.key, "region": one.name, "voxels": len(one.positions), "extent": list(one.extent)}
            for one in self.small
        ]
        content["anisotropy"] = self.anisotropy
        return _plain(content)  # type: ignore[no-any-return]


def _plain(value: Any) -> Any:  # noqa: ANN401 - any JSON value
    """A value as JSON has it: lists for tuples, null for what is not finite."""
    if isinstance(value, Mapping):
        return {name: _plain(one) for name, one in value.items()}
    if isinstance(value, (list, tuple)):
        return [_plain(one) for one in value]
    if isinstance(value, float):
        return float(f"{value:.6g}") if math.isfinite(value) else None
    return value

"""What one case holds, slice by slice: sizes, extents and intensities of its regions, in bounded memory."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort
from volseg.errors import VolumeError, naming
from volseg.volume import Grid, SliceStream, Volume, aligned, orientation, read_grid, read_volume

BINS = 16
"""Number of equal parts of an axis over which the voxels of a region are counted."""
_KEPT = 4096  # voxels of a region whose positions are kept: of a smaller one it is known exactly which grid loses it
_SAMPLE = 1000  # intensities kept per case, region and channel
_COUNTED_VOXELS = 3e7  # of a case whose connected parts are counted
_VALUES = 256


@dataclass(frozen=True)
class RegionInCase:
    """A region of one case.

    Attributes:
        voxels: Number of its voxels.
        extent: Number of slices that its bounding box takes along the RAS axes.
        parts: Number of connected parts, joined over faces, edges and corners; None if they were not counted.
        profile: Fractions of its voxels in 16 equal parts of each RAS axis, (3, 16).
        positions: Index of each voxel along the RAS axes (n, 3); None for a region of more than 4,096 voxels.
        intensities: Sample of its intensities per channel; empty if the image was not read.
    """

    voxels: int
    extent: tuple[int, ...]
    parts: int | None
    profile: NDArray[np.float64]
    positions: NDArray[np.int32] | None
    intensities: tuple[NDArray[np.float32], ...] = ()


@dataclass(frozen=True)
class CaseFacts:
    """One case.

    Attributes:
        key: Key of the case.
        shape: Number of voxels along the RAS axes.
        spacing_mm: Spacing in mm along them.
        regions: Regions that it holds, by name.
        background: Sample of the intensities outside all regions per channel; empty if the image was not read.
        foreground: The same inside any region.
        limits: Lowest and highest value of each channel; empty if the image was not read.
        broken: Number of voxels that are NaN or infinite per channel.
    """

    key: str
    shape: tuple[int, ...]
    spacing_mm: tuple[float, ...]
    regions: Mapping[str, RegionInCase]
    background: tuple[NDArray[np.float32], ...] = ()
    foreground: tuple[NDArray[np.float32], ...] = ()
    limits: tuple[tuple[float, float], ...] = ()
    broken: tuple[int, ...] = ()


@dataclass(frozen=True)
class _Turned:
    """A volume in memory whose axes were turned to those of the image, in chunks as those of a `SliceStream`."""

    path: Path
    volume: Volume

    @property
    def shape(self) -> tuple[int, ...]:
        return self.volume.shape

    def chunks(self, slices: int | None = None) -> Iterator[tuple[int, NDArray[Any]]]:
        """The index of each chunk's first slice, and its voxels [X, Y, slices]."""
        step = slices or self.shape[2]
        for first in range(0, self.shape[2], step):
            yield first, self.volume.voxels[:, :, first : first + step]


def _stream(path: Path, grid: Grid) -> SliceStream | _Turned:
    """The slices of a file along the axes of the image's grid, whatever the file's own axes are."""
    stream = SliceStream.open(path)
    if orientation(stream.affine_ras) == orientation(grid.affine_ras):
        return stream
    return _Turned(path, aligned(read_volume(path), grid)[0])


def look_at_case(cohort: Cohort, key: str, *, images: bool) -> CaseFacts:
    """Read a labelled case once, a few slices at a time.

    Args:
        cohort: Cohort of the case.
        key: Its key.
        images: Whether its channels are read beside the label.

    Raises:
        VolsegError: A file cannot be read, or does not fit the other; the message begins with the key.
    """
    with naming(key):
        path = cohort.label_path(key)
        if path is None:
            raise VolumeError("the case has no label")
        files = cohort.image_paths(key)
        shape, affine_ras = read_grid(files[0])
        x, y, z = shape[:3]
        grid = Grid((x, y, z), affine_ras)
        label = _stream(path, grid)
        channels = [_stream(image, grid) for image in files] if images else []
        for channel in channels:
            if channel.shape != label.shape:
                raise VolumeError(
                    f"{channel.path.name} has shape {channel.shape}, its label {label.shape}; convert the case again"
                )
        return _Look(cohort, key, label.shape, len(channels)).take(label, channels)


@dataclass
class _Sample:
    """Values in the order in which they come, thinned evenly to at most twice the size that is kept."""

    stride: int = 1
    seen: int = 0
    parts: list[NDArray[np.float32]] = field(default_factory=list)
    held: int = 0

    def add(self, values: NDArray[Any]) -> None:
        # The next value to keep lies where the stride puts it, whatever the chunks are.
        kept = np.asarray(values[-self.seen % self.stride :: self.stride], np.float32)
        self.seen += len(values)
        self.parts.append(kept)
        self.held += len(kept)
        while self.held > 2 * _SAMPLE:
            joined = np.concatenate(self.parts)[::2]
            self.parts, self.held, self.stride = [joined], len(joined), 2 * self.stride

    def values(self, *, every: int = 1) -> NDArray[np.float32]:
        joined = np.concatenate(self.parts)[::every] if self.parts else np.empty(0, np.float32)
        return joined[np.isfinite(joined)]


class _Look:
    """The sums of one case while its slices go by; axes are those of the file until the end."""

    def __init__(self, cohort: Cohort, key: str, shape: Sequence[int], channels: int) -> None:
        self.cohort, self.key, self.shape = cohort, key, tuple(shape)
        self.counts = np.zeros(_VALUES, np.int64)
        self.along = [np.zeros((_VALUES, n), np.int64) for n in shape]
        self.positions: dict[int, list[NDArray[np.int32]] | None] = {}
        self.inside: dict[tuple[int, int], _Sample] = {}
        self.outside = [_Sample() for _ in range(channels)]
        self.within = [_Sample() for _ in range(channels)]
        self.limits = [(math.inf, -math.inf)] * channels
        self.broken = [0] * channels
        small = math.prod(shape) <= _COUNTED_VOXELS
        self.whole = np.zeros(shape, np.uint8, order="F") if small else None

    def take(self, label: SliceStream | _Turned, channels: Sequence[SliceStream | _Turned]) -> CaseFacts:
        streams = [channel.chunks(_slices(label.shape)) for channel in channels]
        for first, voxels in label.chunks(_slices(label.shape)):
            checked = self.cohort.labels.check(voxels)
            if self.whole is not None:
                self.whole[:, :, first : first + checked.shape[2]] = checked
            flat = checked.reshape(-1, order="F")
            unseen = self.cohort.labels.ignored(flat)  # of no region, though not 0
            there = np.flatnonzero(flat if unseen is None else (flat != 0) & ~unseen)
            values = flat[there]
            self._count(there, values, first)
            for number, stream in enumerate(streams):
                _, image = next(stream)
                self._intensities(number, image.reshape(-1, order="F"), there, values, flat)
        return self._facts()

    def _count(self, there: NDArray[np.intp], values: NDArray[np.uint8], first: int) -> None:
        width, height, _ = self.shape
        z, rest = np.divmod(there, width * height)
        y, x = np.divmod(rest, width)
        z = z + first
        self.counts += np.bincount(values, minlength=_VALUES)
        for axis, index in enumerate((x, y, z)):
            n = self.shape[axis]
            joint = np.bincount(values.astype(np.int64) * n + index, minlength=_VALUES * n)
            self.along[axis] += joint.reshape(_VALUES, n)
        for value in np.flatnonzero(np.bincount(values, minlength=_VALUES)).tolist():
            held = self.positions.setdefault(value, [])
            if held is None or self.counts[value] > _KEPT:
                self.positions[value] = None
            else:
                own = values == value
                held.append(np.stack([x[own], y[own], z[own]], axis=1).astype(np.int32))

    def _intensities(
        self,
        number: int,
        image: NDArray[Any],
        there: NDArray[np.intp],
        values: NDArray[np.uint8],
        label: NDArray[np.uint8],
    ) -> None:
        if image.dtype.kind == "f":
            finite = np.isfinite(image)
            lost = int(image.size - np.count_nonzero(finite))
            self.broken[number] += lost
            known = image[finite] if lost else image
        else:
            known = image
        if known.size:
            low, high = self.limits[number]
            self.limits[number] = (min(low, float(known.min())), max(high, float(known.max())))
        # A step that is odd and no multiple of usual widths, so that a sample is not of one column.
        step = 1 + 2 * (math.prod(self.shape) // (16 * _SAMPLE))
        some = image[::step]
        self.outside[number].add(some[label[::step] == 0])
        inside = image[there]
        self.within[number].add(inside)
        for value in np.flatnonzero(np.bincount(values, minlength=_VALUES)).tolist():
            self.inside.setdefault((value, number), _Sample()).add(inside[values == value])

    def _facts(self) -> CaseFacts:
        row = self.cohort.rows[self.key]
        order = [int(axis) for axis in row.along_ras([0, 1, 2])]  # the axis of the file along each of RAS
        backward = [row.orientation[axis] in "LPI" for axis in order]
        regions = {}
        for region in self.cohort.labels.regions:
            found = self._region(region.values, order, backward)
            if found is not None:
                regions[region.name] = found
        return CaseFacts(
            self.key,
            tuple(self.shape[axis] for axis in order),
            row.along_ras(row.spacing_mm),
            regions,
            tuple(sample.values() for sample in self.outside),
            tuple(sample.values() for sample in self.within),
            tuple(limits if limits[0] <= limits[1] else (math.nan, math.nan) for limits in self.limits),
            tuple(self.broken),
        )

    def _region(self, values: Sequence[int], order: Sequence[int], backward: Sequence[bool]) -> RegionInCase | None:
        own = list(values)
        voxels = int(self.counts[own].sum())
        if not voxels:
            return None
        extents, profiles = [], []
        for axis, turned in zip(order, backward, strict=True):
            along = self.along[axis][own].sum(axis=0)
            along = along[::-1] if turned else along
            held = np.flatnonzero(along)
            extents.append(int(held[-1] - held[0] + 1))
            profiles.append(_binned(along))
        intensities = tuple(
            _joined([self.inside[value, number] for value in own if (value, number) in self.inside])
            for number in range(len(self.outside))
        )
        positions = None
        kept = [self.positions.get(value, []) for value in own]
        if voxels <= _KEPT and all(parts is not None for parts in kept):
            found = np.concatenate([part for parts in kept if parts is not None for part in parts])
            last = [self.shape[axis] - 1 for axis in order]
            positions = np.stack(
                [last[i] - found[:, axis] if backward[i] else found[:, axis] for i, axis in enumerate(order)], axis=1
            )
        return RegionInCase(voxels, tuple(extents), self._parts(own), np.stack(profiles), positions, intensities)

    def _parts(self, values: Sequence[int]) -> int | None:
        """The number of connected parts of a region, within its bounding box."""
        if self.whole is None:
            return None
        from scipy import ndimage

        box = []
        for along in self.along:
            held = np.flatnonzero(along[list(values)].sum(axis=0))
            box.append(slice(int(held[0]), int(held[-1]) + 1))
        belongs = np.zeros(_VALUES, bool)
        belongs[list(values)] = True
        _, count = ndimage.label(belongs[self.whole[tuple(box)]], structure=np.ones((3, 3, 3)))
        return int(count)


def _slices(shape: Sequence[int]) -> int:
    """Number of slices per chunk: of all files of a case the same, 2 million voxels."""
    return max(1, 2**21 // (shape[0] * shape[1]))


def _binned(along: NDArray[np.int64]) -> NDArray[np.float64]:
    """Fractions of the voxels in `BINS` equal parts of an axis; a voxel on a border belongs to both in proportion."""
    edges = np.linspace(0, len(along), BINS + 1)
    total = np.concatenate([[0], np.cumsum(along)])
    below = np.interp(edges, np.arange(len(along) + 1), total)
    return np.asarray(np.diff(below) / max(1, total[-1]))


def _joined(samples: Sequence[_Sample]) -> NDArray[np.float32]:
    """The samples of the values of a region as one, in which a voxel of each counts alike: at the widest stride."""
    widest = max((sample.stride for sample in samples), default=1)
    found = [sample.values(every=widest // sample.stride) for sample in samples]  # strides are powers of 2
    joined = np.concatenate(found) if found else np.empty(0, np.float32)
    return joined[:: max(1, math.ceil(len(joined) / _SAMPLE))]

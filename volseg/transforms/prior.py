"""An earlier day of the same patient as further channels of a network's input: a hint, and never the truth.

The earlier image is put where the alignment says, rigid or deformable, each region of the earlier contours becomes a
blurred probability (its signed distance through a sigmoid), and one more channel is 1 where the earlier contours tell
something: within the earlier field of view, where somebody looked. Elsewhere that channel and the probabilities are 0.
Without a prior all of them are 0 everywhere, as a network with a prior sees it in a share of its training.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import GeometryError, VolsegError, VolumeError
from volseg.labels import LabelTable
from volseg.volume import (
    Deformation,
    Grid,
    Registration,
    Volume,
    aligned,
    covered,
    nearest_voxels,
    placed,
    read_case_channels,
    read_volume,
    resampled,
    sampled,
)

WIDTH_MM = 8.0
"""Width over which the probability rises from 12 to 88 % where none was measured: an assumption of how far contours of
two days lie apart."""
CORRECTED, PREDICTED, FOREIGN = "corrected", "predicted", "foreign"
_DISTANCE_GRID_MM = 3.0
_FAR_MM = 96.0


@dataclass(frozen=True)
class PriorFiles:
    """An earlier day: its files and where they lie in today's image.

    Attributes:
        key: Key of the earlier case.
        images: One image file per channel of today's image.
        label: File of its label map.
        labels: Label table of that map, which may have other values than the network's; as `dataset.json` states it.
        registration: Alignment from today's image to the earlier one.
        kind: `corrected` contours, `predicted` ones, or those of another patient, `foreign`.
        widths_mm: Width of each region's blur, see `prior_arrays`; `WIDTH_MM` for those that are not named.
        deformation: File of the deformable alignment that follows the rigid one; None for none.
    """

    key: str
    images: tuple[str, ...]
    label: str
    labels: Mapping[str, Any]
    registration: Registration
    kind: str = CORRECTED
    widths_mm: Mapping[str, float] = field(default_factory=dict)
    deformation: str | None = None

    @property
    def files(self) -> tuple[str, ...]:
        """All files: if one of them changes, so does the prior."""
        return (*self.images, self.label, *([] if self.deformation is None else [self.deformation]))

    @property
    def reading(self) -> str:
        """What decides beside the files about the channels: label table, rigid alignment, kind, widths; as JSON.

        The alignment is rounded to 1e-5, so that machines whose last digits differ tell the same.
        """
        told = {name: value for name, value in self.to_json().items() if name not in ("files", "deformation")}
        told["matrix_ras"] = [[round(value, 5) + 0.0 for value in row] for row in self.registration.matrix_ras]
        return json.dumps(told, sort_keys=True)

    def to_json(self) -> dict[str, Any]:
        """The entry of a datalist; the paths come first, so that a cache sees when a file changes."""
        bent = {} if self.deformation is None else {"deformation": self.deformation}
        return {
            "files": [*self.images, self.label],
            "key": self.key,
            "labels": dict(self.labels),
            "matrix_ras": [list(row) for row in self.registration.matrix_ras],
            "kind": self.kind,
            "widths_mm": dict(self.widths_mm),
            **bent,
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> PriorFiles:
        """The inverse of `to_json`; of the alignment only the matrix comes back."""
        matrix = tuple(tuple(float(value) for value in row) for row in entry["matrix_ras"])
        files = [str(file) for file in entry["files"]]
        found = Registration(matrix, 1.0, 1.0, 0.0, 0.0)
        kind, widths = str(entry["kind"]), entry.get("widths_mm", {})
        bent = entry.get("deformation")
        return cls(str(entry["key"]), tuple(files[:-1]), files[-1], entry["labels"], found, kind, widths, bent)


class _OnToday:
    """Volumes of the earlier day on today's grid, by the rigid alignment and the deformable one if there is one."""

    def __init__(self, prior: PriorFiles, grid: Grid) -> None:
        self.registration = prior.registration
        self.grid = grid
        self.points: NDArray[np.float32] | None = None
        if prior.deformation is not None:
            try:
                bent = Deformation.read(Path(prior.deformation))
            except (OSError, ValueError, KeyError, TypeError) as error:
                raise VolumeError(
                    f"the deformable alignment of the prior {prior.key} must be a readable file, got "
                    f"{prior.deformation} ({error}); run the command again, which aligns anew"
                ) from error
            self.points = replace(bent, registration=prior.registration).points(grid)

    def linear(self, volume: Volume) -> NDArray[np.float32]:
        """An image, linear between voxels; beyond its field of view the least value of it."""
        moved = placed(volume, self.registration)
        if self.points is None:
            return resampled(moved, self.grid)[0].voxels
        values, within = sampled(moved, self.points)
        values[~within] = np.asarray(volume.voxels).min()
        return values

    def covered(self, volume: Volume) -> NDArray[np.bool_]:
        """Which voxels of today lie within the earlier field of view."""
        moved = placed(volume, self.registration)
        return covered(moved.grid, self.grid) if self.points is None else sampled(moved, self.points, nearest=True)[1]

    def nearest(self, volume: Volume) -> NDArray[Any]:
        """A label map, the nearest value of each voxel."""
        moved = placed(volume, self.registration)
        if self.points is not None:
            return sampled(moved, self.points, nearest=True)[0]
        return nearest_voxels(
            moved.voxels, np.asarray(moved.affine_ras), self.grid.shape, np.asarray(self.grid.affine_ras)
        )


def prior_arrays(prior: PriorFiles, grid: Grid, labels: LabelTable) -> NDArray[np.float32]:
    """The earlier image, its blurred contours and where they are known, on today's grid.

    Args:
        prior: Earlier day, whose alignment has not failed.
        grid: Grid of today's image.
        labels: Label table of the network, whose regions the earlier table must have by name.

    Returns:
        Array (channels + regions + 1, X, Y, Z). A region's probability rises from 12 to 88 % over its width. The last
        channel is 1 within the earlier field of view, without voxels of the label `ignore`; elsewhere it and the
        probabilities are 0.

    Raises:
        VolumeError: The earlier table lacks a region, its label map is on another grid than its image, or the file of
            the deformable alignment is absent or damaged.
    """
    images = read_case_channels(list(prior.images), names=len(prior.images))
    today = _OnToday(prior, grid)
    found = [today.linear(image) for image in images]
    distances, known = _distances(prior, today, labels, image_grid=images[0].grid)
    for name, distance in distances.items():
        width = float(prior.widths_mm.get(name, WIDTH_MM))
        found.append(np.where(known, 1 / (1 + np.exp(np.clip(distance / width, -20, 20) * 4)), 0))
    return np.stack([*found, known]).astype(np.float32)


def prior_distances(
    prior: PriorFiles, grid: Grid, labels: LabelTable
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """The signed distance of each voxel of today's grid to the earlier contours, and where these tell something.

    Args:
        prior: Earlier day, whose alignment has not failed.
        grid: Grid.
        labels: Label table of the network, whose regions the earlier table must have by name.

    Returns:
        Distances (X, Y, Z) in mm by region, negative inside, as they were on the earlier day; and the mask (X, Y, Z) of
        what is known.

    Raises:
        VolumeError: The earlier table lacks a region, or the file of the deformable alignment is absent or damaged.
    """
    return _distances(prior, _OnToday(prior, grid), labels)


def _distances(
    prior: PriorFiles, today: _OnToday, labels: LabelTable, *, image_grid: Grid | None = None
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """What `prior_distances` gives, of a label map that must be on the grid of its image if that is given."""
    table = LabelTable.from_dataset_json(dict(prior.labels))
    missing = [name for name in labels.names if name not in table.names]
    if missing:
        raise VolumeError(
            f"the prior {prior.key} has no region {', '.join(missing)}, only {', '.join(table.names)}; name a prior "
            "with the regions of the network"
        )
    label = read_volume(prior.label)
    if image_grid is not None:
        try:
            label, _ = aligned(label, image_grid)
        except GeometryError as error:
            raise VolumeError(
                f"the label map of the prior {prior.key} is not on the grid of its image: {error}"
            ) from error
    try:
        values = table.check(label.voxels)
    except VolsegError as error:
        raise VolumeError(f"the prior {prior.key}: {error.message}") from error
    ignored = table.ignored(values)
    known = today.covered(label)
    if ignored is not None:
        known &= today.nearest(Volume(ignored.astype(np.uint8), label.affine_ras)) == 0
    masks = dict(zip(table.names, table.masks(values), strict=True))
    found = {}
    for name in labels.names:
        found[name] = today.linear(_signed_distance(masks[name], label, ignored))
    return found, known


def _signed_distance(mask: NDArray[np.bool_], label: Volume, ignored: NDArray[np.bool_] | None) -> Volume:
    """The distance in mm to a region's border, negative inside, on a grid of about 3 mm; far away if it is absent.

    The edge of what was ignored is no border.
    """
    from scipy.ndimage import distance_transform_edt

    factors = [
        max(1, min(n, round(_DISTANCE_GRID_MM / mm))) for n, mm in zip(mask.shape, label.spacing_mm, strict=True)
    ]
    first = [f // 2 for f in factors]
    every = tuple(slice(a, None, f) for a, f in zip(first, factors, strict=True))
    coarse = mask[every]
    beyond = ~coarse if ignored is None else ~(coarse | ignored[every])
    affine = np.array(label.affine_ras, dtype=np.float64)
    affine[:3, 3] += affine[:3, :3] @ np.array(first, dtype=np.float64)
    affine[:3, :3] *= factors
    spacing = [f * mm for f, mm in zip(factors, label.spacing_mm, strict=True)]
    far = _FAR_MM
    if not coarse.any():
        return Volume(np.full(coarse.shape, far, np.float32), affine)
    outside = distance_transform_edt(~coarse, spacing)
    inside = distance_transform_edt(~beyond, spacing) if beyond.any() else np.full(coarse.shape, far)
    half = 0.5 * min(spacing)  # the border lies between the voxels
    distance = np.where(coarse, -(inside - half), outside - half)
    return Volume(np.clip(distance, -far, far).astype(np.float32), affine)

"""An earlier day of the same patient as further channels of a network's input: a hint, and never the truth.

The earlier image is put where the alignment says, each region of the earlier contours becomes a blurred probability
(its signed distance through a sigmoid), and one more channel is 1 where the earlier contours tell something: within the
earlier field of view, where somebody looked. Elsewhere that channel and the probabilities are 0. Without a prior all of
them are 0 everywhere, as a network with a prior sees it in a share of its training.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import VolumeError
from volseg.labels import LabelTable
from volseg.volume import (
    Grid,
    Registration,
    Volume,
    covered,
    nearest_voxels,
    placed,
    read_case_channels,
    read_volume,
    resampled,
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
    """

    key: str
    images: tuple[str, ...]
    label: str
    labels: Mapping[str, Any]
    registration: Registration
    kind: str = CORRECTED
    widths_mm: Mapping[str, float] = field(default_factory=dict)

    def to_json(self) -> dict[str, Any]:
        """The entry of a datalist; the paths come first, so that a cache sees when a file changes."""
        return {
            "files": [*self.images, self.label],
            "key": self.key,
            "labels": dict(self.labels),
            "matrix_ras": [list(row) for row in self.registration.matrix_ras],
            "kind": self.kind,
            "widths_mm": dict(self.widths_mm),
        }

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> PriorFiles:
        """The inverse of `to_json`; of the alignment only the matrix comes back."""
        matrix = tuple(tuple(float(value) for value in row) for row in entry["matrix_ras"])
        files = [str(file) for file in entry["files"]]
        found = Registration(matrix, 1.0, 1.0, 0.0, 0.0)
        kind, widths = str(entry["kind"]), entry.get("widths_mm", {})
        return cls(str(entry["key"]), tuple(files[:-1]), files[-1], entry["labels"], found, kind, widths)


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
        VolumeError: The earlier table lacks a region, or its label map is on another grid than its image.
    """
    images = read_case_channels(list(prior.images), names=len(prior.images))
    found = [resampled(placed(image, prior.registration), grid)[0].voxels for image in images]
    distances, known = prior_distances(prior, grid, labels, image_grid=images[0].grid)
    for name, distance in distances.items():
        width = float(prior.widths_mm.get(name, WIDTH_MM))
        found.append(np.where(known, 1 / (1 + np.exp(np.clip(distance / width, -30, 30) * 4)), 0))
    return np.stack([*found, known]).astype(np.float32)


def prior_distances(
    prior: PriorFiles, grid: Grid, labels: LabelTable, *, image_grid: Grid | None = None
) -> tuple[dict[str, NDArray[np.float32]], NDArray[np.bool_]]:
    """The signed distance of each voxel of today's grid to the earlier contours, and where these tell something.

    Args:
        prior: Earlier day, whose alignment has not failed.
        grid: Grid.
        labels: Label table of the network, whose regions the earlier table must have by name.
        image_grid: Grid that the earlier label map must have; None to trust it.

    Returns:
        Distances (X, Y, Z) in mm by region, negative inside; and the mask (X, Y, Z) of what is known.

    Raises:
        VolumeError: The earlier table lacks a region, or its label map is on another grid than its image.
    """
    table = LabelTable.from_dataset_json(dict(prior.labels))
    missing = [name for name in labels.names if name not in table.names]
    if missing:
        raise VolumeError(
            f"the prior {prior.key} has no region {', '.join(missing)}, only {', '.join(table.names)}; name a prior "
            "with the regions of the network"
        )
    label = read_volume(prior.label)
    if image_grid is not None and (difference := image_grid.difference(label.grid)):
        raise VolumeError(f"the label map of the prior {prior.key} is not on the grid of its image: {difference}")
    values = table.check(label.voxels)
    ignored = table.ignored(values)
    there = placed(label, prior.registration)
    known = covered(there.grid, grid)
    if ignored is not None:
        affines = np.asarray(there.affine_ras), np.asarray(grid.affine_ras)
        known &= nearest_voxels(ignored.astype(np.uint8), affines[0], grid.shape, affines[1]) == 0
    masks = dict(zip(table.names, table.masks(values), strict=True))
    found = {}
    for name in labels.names:
        distance = placed(_signed_distance(masks[name], label, ignored), prior.registration)
        found[name] = resampled(distance, grid)[0].voxels
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

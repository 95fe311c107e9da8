"""The data of the 3D viewer: image, reference, prediction and difference as NIfTI in base64, and colours."""

from __future__ import annotations

import base64
import gzip
import json
import tempfile
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.files import atomic
from volseg.labels import LabelMap, LabelTable
from volseg.pictures.case import ReviewCase
from volseg.pictures.rendering import DIFFERENCE_COLOURS, DIFFERENCE_NAMES, difference_masks, grey_levels
from volseg.volume import Volume, write_volume

_LARGEST = 200  # voxels along an axis of the image; a longer axis is averaged in blocks
_LEVEL = 6


def viewer_data(review_case: ReviewCase) -> str:
    """Pack the volumes of a case as JSON: `image`, `reference`, `prediction`, `difference` and colours.

    The volumes are NIfTI files, packed by gzip and base64. The image has 256 levels between its 0.5th and 99.5th
    percentile (a soft tissue window for CT) and at most 200 voxels per axis; the label maps are not reduced.

    Returns:
        JSON without `<`, which is safe in a `<script>` element.
    """
    return pack_volumes(
        review_case.image,
        review_case.labels,
        prediction=review_case.prediction,
        reference=review_case.reference,
        window=review_case.window,
    )


def pack_volumes(
    image: Volume,
    labels: LabelTable,
    *,
    prediction: Volume,
    reference: Volume | None = None,
    window: tuple[float, float] | None = None,
) -> str:
    """Pack volumes of one grid into JSON; without a reference there is no `reference` and no `difference`.

    Args:
        image: Image of any scale.
        labels: Label table of the values.
        prediction: Label map of the prediction, uint8.
        reference: Label map of the reference, uint8, or None.
        window: Values shown black and white; None for the 0.5th and 99.5th percentile.
    """
    window = window or _percentiles(image.voxels)
    small = shrink(image)
    there = [prediction] if reference is None else [reference, prediction]
    content = {
        "image": _packed(Volume(grey_levels(small.voxels, window=window), small.affine_ras)),
        "prediction": _packed(prediction),
        "centre": _centre_mm(there[0]),
        "extent": round(max(n * mm for n, mm in zip(image.shape, image.spacing_mm, strict=True)), 2),
        "regions": colour_table(labels, held=np.unique(np.concatenate([_held(volume) for volume in there])).tolist()),
        "differences": _table([(0, 0, 0), *DIFFERENCE_COLOURS], ["", *DIFFERENCE_NAMES], [0, 1, 2, 3]),
    }
    if reference is not None:
        content["reference"] = _packed(reference)
        content["difference"] = _packed(
            Volume(_difference(reference.voxels, prediction.voxels, labels), reference.affine_ras)
        )
    return json.dumps(content, separators=(",", ":")).replace("<", "\\u003c")


def write_volumes(
    path: Path,
    image: Volume,
    labels: LabelTable,
    *,
    prediction: Volume,
    reference: Volume | None = None,
    window: tuple[float, float] | None = None,
) -> None:
    """Write what the viewer shows, see `pack_volumes`: whole or not at all.

    Args:
        path: Ends in `.json`.
        image: Image of any scale.
        labels: Label table of the values.
        prediction: Label map of the prediction, uint8.
        reference: Label map of the reference, uint8, or None.
        window: Values shown black and white; None for the 0.5th and 99.5th percentile.
    """
    packed = pack_volumes(image, labels, prediction=prediction, reference=reference, window=window)
    with atomic(path) as partial:
        partial.write_text(packed)


def _difference(reference: LabelMap, prediction: LabelMap, labels: LabelTable) -> NDArray[np.uint8]:
    """The kind of disagreement in each voxel, 0 where there is none, see `difference_masks`.

    It is looked up for each pair of values, so that no region needs a mask of its own.
    """
    of_values = labels.masks(np.arange(256, dtype=np.uint8))
    kinds = np.zeros((256, 256), np.uint8)
    for value, mask in enumerate(difference_masks(of_values[:, :, None], of_values[:, None, :]), start=1):
        kinds[mask] = value
    apart = reference != prediction
    difference = np.zeros(reference.shape, np.uint8)
    difference[apart] = kinds[reference[apart], prediction[apart]]
    return difference


def shrink(volume: Volume, *, largest: int = _LARGEST) -> Volume:
    """Reduce a volume to at most `largest` voxels per axis: means of blocks, the affine moved to their centres.

    >>> small = shrink(Volume(np.zeros((401, 90, 20)), np.diag([1.0, 1, 3, 1])))
    >>> small.shape, small.affine_ras[:3, 3].tolist()
    ((133, 90, 20), [1.0, 0.0, 0.0])
    """
    factors = [-(-n // largest) for n in volume.shape]
    if max(factors) == 1:
        return volume
    sizes = [n // factor for n, factor in zip(volume.shape, factors, strict=True)]
    (a, x), (b, y), (c, z) = zip(sizes, factors, strict=True)
    voxels = volume.voxels[: a * x, : b * y, : c * z]
    blocks = voxels.reshape(a, x, b, y, c, z)  # X, x in the block, Y, y in the block, Z, z in the block
    means = blocks.mean(axis=(1, 3, 5), dtype=np.float32)
    step = np.diag([*factors, 1.0])
    step[:3, 3] = [(factor - 1) / 2 for factor in factors]
    return Volume(means, volume.affine_ras @ step)


def colour_table(labels: LabelTable, *, held: Sequence[int]) -> dict[str, Any]:
    """NiiVue's table of label colours; a value of several regions has the mean of their colours and all their names.

    Args:
        labels: Label table.
        held: Values that occur; the others get no name, so that the legend stays short.
    """
    colours, names = [(0, 0, 0)], [""]
    for value in labels.values[1:]:
        owners = [region for region in labels.regions if value in region.values]
        r, g, b = np.mean([region.colour for region in owners], axis=0).round().astype(int).tolist()
        colours.append((r, g, b))
        names.append(" and ".join(region.name for region in owners) if value in held else "")
    return _table(colours, names, list(labels.values))


def _table(colours: list[tuple[int, int, int]], names: list[str], values: list[int]) -> dict[str, Any]:
    r, g, b = (list(channel) for channel in zip(*colours, strict=True))
    return {"R": r, "G": g, "B": b, "A": [0 if value == 0 else 255 for value in values], "I": values, "labels": names}


def _percentiles(voxels: NDArray[Any]) -> tuple[float, float]:
    finite = voxels[np.isfinite(voxels)] if voxels.dtype.kind == "f" else voxels
    if not finite.size:
        return 0.0, 1.0
    low, high = np.percentile(finite, (0.5, 99.5)).tolist()
    return low, high


def _held(volume: Volume) -> NDArray[Any]:
    return np.unique(volume.voxels)


def _centre_mm(label: Volume) -> list[float]:
    """The middle of a label map's organs, else of the grid, in RAS mm."""
    middle = [_median_place(np.count_nonzero(label.voxels, axis=others)) for others in ((1, 2), (0, 2), (0, 1))]
    centre: list[float] = (label.affine_ras @ [*middle, 1.0])[:3].round(2).tolist()
    return centre


def _median_place(counts: NDArray[np.int64]) -> float:
    """The median place of voxels of which each place has so many; the middle if there are none.

    >>> _median_place(np.array([0, 2, 2])), _median_place(np.array([0, 0, 0, 0]))
    (1.5, 1.5)
    """
    until = np.cumsum(counts)
    if not until[-1]:
        return (len(counts) - 1) / 2
    low, high = np.searchsorted(until, [(until[-1] - 1) // 2, until[-1] // 2], side="right").tolist()
    return (int(low) + int(high)) / 2


def _packed(volume: Volume) -> str:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "volume.nii"
        write_volume(path, volume)
        return base64.b64encode(gzip.compress(path.read_bytes(), _LEVEL, mtime=0)).decode()

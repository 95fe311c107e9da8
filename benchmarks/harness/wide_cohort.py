"""A cohort whose organs fill a small part of each scan: small real scans within a wider field of view.

What lies around each scan is a random texture with the grey levels and the spatial correlation of that scan: white
noise convolved with it (Galerne et al. 2011, doi:10.1109/TIP.2010.2052822). So it holds no second organ, as a mirrored
or repeated scan would, and no voxel of it is air, which both ways of a prediction would skip.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import Cohort, Fold, write_splits
from volseg.volume import Volume, read_volume, write_volume

SEAM = 4  # voxels over which a scan passes into its surroundings


def write_wide_cohort(
    cohort: Cohort, folder: Path, *, keys: Sequence[str], shape: Sequence[int], validated: int
) -> None:
    """Write the cases of a cohort in a wider field of view, with the first fold of that cohort; finished cases stay.

    Args:
        cohort: Cohort of one channel.
        folder: Folder of the new cohort.
        keys: Cases.
        shape: Voxels of each new scan.
        validated: Number of held-out cases that a training scores; the others are in no part of the fold.
    """
    for key in keys:
        paths = folder / "imagesTr" / f"{key}_0000.nii.gz", folder / "labelsTr" / f"{key}.nii.gz"
        if all(path.exists() for path in paths):
            continue
        image, label = read_volume(cohort.image_paths(key)[0]), read_volume(cohort.label_path(key) or "")
        generator = np.random.default_rng([*key.encode()])
        room = [wide - n for wide, n in zip(shape, image.shape, strict=True)]
        starts = [int(generator.integers(n // 4, n - n // 4 + 1)) for n in room]
        affine = image.affine_ras.copy()
        affine[:3, 3] -= affine[:3, :3] @ starts
        box = tuple(slice(start, start + n) for start, n in zip(starts, image.shape, strict=True))
        wide = np.zeros(shape, label.voxels.dtype)
        wide[box] = label.voxels
        write_volume(paths[0], Volume(_surrounded(image.voxels, shape, box, generator), affine))
        write_volume(paths[1], Volume(wide, affine))
    dataset = json.loads((cohort.folder / "dataset.json").read_text()) | {"numTraining": len(keys)}
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))
    held_out = [key for key in cohort.part("validation") if key in keys]
    training = [key for key in cohort.part("training") if key in keys]
    write_splits(folder, [Fold(tuple(training), tuple(held_out[:validated]))])


def _surrounded(
    voxels: NDArray[np.generic], shape: Sequence[int], box: tuple[slice, ...], generator: np.random.Generator
) -> NDArray[np.float32]:
    """The scan at its place in a texture of its own."""
    scan = voxels.astype(np.float64)
    found = _texture(scan, shape, generator)
    share = np.ones(scan.shape)  # of the scan: less within a seam
    for axis, n in enumerate(scan.shape):
        depth = np.minimum(np.arange(n), np.arange(n)[::-1]) + 1
        share = np.minimum(share, np.expand_dims(depth / SEAM, [other for other in range(3) if other != axis]))
    found[box] = share * scan + (1 - share) * found[box]
    return found.astype(np.float32)


def _texture(scan: NDArray[np.float64], shape: Sequence[int], generator: np.random.Generator) -> NDArray[np.float64]:
    """A texture with the correlation of a scan up to its size, and its grey levels."""
    taper = [np.hanning(n + 2)[1:-1] for n in scan.shape]
    kernel = (scan - scan.mean()) * np.einsum("x,y,z->xyz", *taper)
    noise = np.fft.rfftn(generator.standard_normal(shape))
    drawn = np.fft.irfftn(noise * np.fft.rfftn(kernel, s=shape, axes=(0, 1, 2)), s=shape, axes=(0, 1, 2))
    rank = np.empty(drawn.size)
    rank[np.argsort(drawn, axis=None)] = np.linspace(0, 1, drawn.size)
    return np.quantile(scan, rank).reshape(shape)

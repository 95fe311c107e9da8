"""Cohorts with ground truth, made by code: what a recipe tuned on MR of the abdomen gets wrong without a word.

- `ct`: anisotropic CT, 0.8 x 0.8 x 5 mm, in Hounsfield units: body, liver, a kidney, and a lesion of the liver that is
  one or two slices thick and 50 units darker, where air is -1000 and bone 700.
- `pet`: 4 mm, uptake values: a bladder at 7 and a lesion at 21 that takes 0.2 % of the volume.
- `mr4`: four channels, of which only the third shows the lesion; the others show the head.
- `pet_body`: what `pet` shows, from the head to the thighs: 288 x 256 x 640 mm, with up to three lesions.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage

from volseg.cohort import CaseRow, split_by_patient, write_splits
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

CASES = 30  # five folds: 24 to train on, 6 held out

Channels = list[NDArray[np.float32]]


def write_made_cohort(name: str, folder: Path, *, cases: int = CASES, first: int = 0) -> None:
    """Write a cohort with folds; the same cases at each call.

    Args:
        name: `ct`, `pet`, `mr4` or `pet_body`.
        folder: Folder of the cohort.
        cases: Number of cases, each of a patient of its own.
        first: Number of the first case.
    """
    make, channels, regions, spacing_mm = (MADE | WIDER)[name]
    affine = np.diag([*spacing_mm, 1.0])
    rows = []
    for number in range(first, first + cases):
        key = f"{name}{number:03d}"
        images, label = make(np.random.default_rng([number, len(name)]))
        for channel, image in enumerate(images):
            write_volume(folder / "imagesTr" / f"{key}_{channel:04d}.nii.gz", Volume(image, affine))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
        rows.append(CaseRow(key, key, "", label.shape, tuple(spacing_mm), "RAS", name, ()))
    dataset = {
        "channel_names": {str(number): channel for number, channel in enumerate(channels)},
        **LabelTable.exclusive(list(regions)).to_dataset_json(),
        "numTraining": cases,
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset, indent=1))
    write_splits(folder, split_by_patient(rows, folds=5 if cases >= 5 else cases))


def _grid(shape: Sequence[int], spacing_mm: Sequence[float]) -> NDArray[np.float64]:
    """The position of each voxel in mm from the centre, (3, X, Y, Z)."""
    steps = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing_mm, strict=True)]
    return np.stack(np.meshgrid(*steps, indexing="ij"))


def _ellipsoid(
    grid: NDArray[np.float64], centre: Sequence[float], radii: Sequence[float], generator: np.random.Generator
) -> NDArray[np.bool_]:
    """An ellipsoid whose surface undulates by up to a tenth."""
    along = [(grid[axis] - centre[axis]) / radii[axis] for axis in range(3)]
    waves = sum(np.sin(generator.uniform(2, 4) * one + generator.uniform(0, 6)) for one in along) / 30
    inside: NDArray[np.bool_] = sum(one**2 for one in along) < (1 + waves) ** 2
    return inside


def _ct(generator: np.random.Generator) -> tuple[Channels, NDArray[np.uint8]]:
    shape, spacing = (128, 112, 24), (0.8, 0.8, 5.0)
    grid = _grid(shape, spacing)
    jitter = generator.uniform(-4, 4, 3)
    body = _ellipsoid(grid, (0, 0, 0), (48, 40, 90), generator)
    liver = _ellipsoid(grid, np.array([16, 4, 5]) + jitter, (18, 16, 32), generator) & body
    kidney = _ellipsoid(grid, np.array([-22, -12, -8]) + jitter, (8, 7, 22), generator) & body
    spine = _ellipsoid(grid, (0, -30, 0), (7, 7, 200), generator) & body
    image = np.full(shape, -1000.0)
    image[body] = -90 + 20 * generator.standard_normal()
    soft = _ellipsoid(grid, (0, 2, 0), (42, 33, 85), generator) & body
    image[soft] = 45
    image[liver], image[kidney], image[spine] = 105, 175, 700
    place = np.argwhere(ndimage.binary_erosion(liver, iterations=4))
    x, y, z = place[generator.integers(len(place))]
    radius = generator.uniform(3.5, 5.5)
    thick = int(generator.integers(1, 3))
    near = np.hypot(grid[0] - grid[0][x, y, z], grid[1] - grid[1][x, y, z]) < radius
    slices = np.abs(np.arange(shape[2]) - z - (thick - 1) / 2) <= thick / 2 - 0.4
    lesion = near & slices[None, None, :] & liver
    image[lesion] = 55
    label = (liver + kidney * np.uint8(2)).astype(np.uint8)
    label[kidney & liver] = 1
    label[lesion] = 3
    image = ndimage.gaussian_filter(image, (0.6, 0.6, 0)) + generator.normal(0, 14, shape)
    return [np.rint(image.clip(-1024, 3071)).astype(np.float32)], label


def _pet(generator: np.random.Generator) -> tuple[Channels, NDArray[np.uint8]]:
    shape, spacing = (56, 48, 56), (4.0, 4.0, 4.0)
    grid = _grid(shape, spacing)
    body = _ellipsoid(grid, (0, 0, 0), (88, 66, 140), generator)
    image = np.where(body, generator.uniform(0.8, 1.2), 0.0)
    for _ in range(6):  # muscle, marrow, bowel: uptake that is no lesion
        spot = _ellipsoid(grid, generator.uniform(-60, 60, 3), generator.uniform(8, 24, 3), generator) & body
        image[spot] = generator.uniform(1.5, 3.5)
    bladder = _ellipsoid(grid, np.add(generator.uniform(-8, 8, 3), (0, 0, -70)), (22, 20, 20), generator) & body
    image[bladder] = 7
    centre = generator.uniform([-45, -30, -20], [45, 30, 80])
    radius = (3 * 0.002 * np.prod(shape) * np.prod(spacing) / (4 * np.pi)) ** (1 / 3)
    lesion = _ellipsoid(grid, centre, [radius] * 3, generator) & body & ~bladder
    image[lesion] = 21
    label = bladder.astype(np.uint8)
    label[lesion] = 2
    image = ndimage.gaussian_filter(image, 0.6)
    return [
        np.maximum(image + 0.15 * np.sqrt(image + 0.1) * generator.standard_normal(shape), 0).astype(np.float32)
    ], label


def _pet_body(generator: np.random.Generator) -> tuple[Channels, NDArray[np.uint8]]:
    shape, spacing = (72, 64, 160), (4.0, 4.0, 4.0)
    grid = _grid(shape, spacing)
    body = _ellipsoid(grid, (0, 0, 0), (125, 92, 390), generator)
    image = np.where(body, generator.uniform(0.8, 1.2), 0.0)

    def blob(centre: NDArray[np.float64], radii: Sequence[float]) -> tuple[tuple[slice, ...], NDArray[np.bool_]]:
        """An ellipsoid of the body: a box, and its voxels."""
        middle = [c / mm + (n - 1) / 2 for c, mm, n in zip(centre, spacing, shape, strict=True)]
        reach = [1.1 * radius / mm + 1 for radius, mm in zip(radii, spacing, strict=True)]
        box = tuple(slice(max(0, int(m - r)), int(m + r) + 2) for m, r in zip(middle, reach, strict=True))
        return box, _ellipsoid(grid[(slice(None), *box)], centre, radii, generator) & body[box]

    for _ in range(30):
        box, inside = blob(generator.uniform((-90, -65, -300), (90, 65, 300)), generator.uniform(8, 24, 3))
        image[box][inside] = generator.uniform(1.5, 3.5)
    label = np.zeros(shape, np.uint8)
    box, inside = blob(np.add(generator.uniform(-8, 8, 3), (0, 0, -210)), (22, 20, 20))
    image[box][inside], label[box][inside] = 7, 1
    for _ in range(int(generator.integers(1, 4))):
        box, inside = blob(generator.uniform((-75, -55, -150), (75, 55, 260)), [generator.uniform(14, 18)] * 3)
        image[box][inside], label[box][inside] = 21, 2
    image = ndimage.gaussian_filter(image, 0.6)
    return [
        np.maximum(image + 0.15 * np.sqrt(image + 0.1) * generator.standard_normal(shape), 0).astype(np.float32)
    ], label


def _mr4(generator: np.random.Generator) -> tuple[Channels, NDArray[np.uint8]]:
    shape, spacing = (56, 56, 48), (2.0, 2.0, 2.0)
    grid = _grid(shape, spacing)
    head = _ellipsoid(grid, (0, 0, 0), (48, 50, 44), generator)
    inner = _ellipsoid(grid, (0, 0, 0), (36, 38, 32), generator) & head
    core = _ellipsoid(grid, generator.uniform(-4, 4, 3), (9, 14, 9), generator) & inner
    lesion = _ellipsoid(grid, generator.uniform(-18, 18, 3), generator.uniform(5, 9, 3), generator) & inner
    label = core.astype(np.uint8)
    label[lesion] = 2
    images = []
    for channel in range(4):
        gain = generator.uniform(200, 900)
        image = head * 0.5 + inner * generator.uniform(0.3, 0.5) + core * generator.uniform(0.3, 0.6)
        if channel == 2:
            image = image + lesion * 0.6
        field = 1 + 0.1 * np.sin(grid[channel % 3] / 30 + generator.uniform(0, 6))
        noise = 0.06 * generator.standard_normal(shape)
        images.append((gain * np.abs(image * field + noise)).astype(np.float32))
    return images, label


_Made = tuple[
    Callable[[np.random.Generator], tuple[Channels, NDArray[np.uint8]]],
    tuple[str, ...],
    tuple[str, ...],
    tuple[float, float, float],
]
MADE: dict[str, _Made] = {
    "ct": (_ct, ("CT",), ("liver", "kidney", "lesion"), (0.8, 0.8, 5.0)),
    "pet": (_pet, ("PET",), ("bladder", "lesion"), (4.0, 4.0, 4.0)),
    "mr4": (_mr4, ("T1", "T2", "FLAIR", "PD"), ("core", "lesion"), (2.0, 2.0, 2.0)),
}
# Of the same kind as one of these, for its networks.
WIDER: dict[str, _Made] = {"pet_body": (_pet_body, ("PET",), ("bladder", "lesion"), (4.0, 4.0, 4.0))}

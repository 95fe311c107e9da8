"""Deformable alignment after the rigid one: a B-spline by elastix (Klein 2010, doi:10.1109/TMI.2009.2035616), optional.

Organs that are filled otherwise and loops that have moved are beyond a rigid motion. The earlier image, rigidly
aligned, is bent to today's by maximising the normalised cross-correlation on a grid of 4 mm with few control points:
what is wanted is a better hint within seconds, not the path of each loop. The package `itk-elastix` (Apache-2.0) is an
extra, `volseg[elastix]`.
"""

from __future__ import annotations

import importlib.util
import json
import tempfile
import time
import zipfile
import zlib
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import UsageError
from volseg.files import atomic
from volseg.volume.registration import GRID_MM, Registration, placed
from volseg.volume.registration_steps import Level, agreement, residual_mm
from volseg.volume.resampling import resampled, sampled
from volseg.volume.volume import Grid, Volume

CONTROL_MM = 40.0
"""Distance between the control points of the finest B-spline."""
_RESOLUTIONS, _ITERATIONS, _SAMPLES, _SEED = 2, 200, 4000, 1
_MOST_FOLDED = 0.01  # share of the voxels at which the motion turns space inside out, above which it has failed
_MODULE = "itk.itkElastixRegistrationMethodPython"


@dataclass(frozen=True, eq=False)
class Deformation:
    """The outcome of a deformable alignment.

    Attributes:
        registration: Rigid alignment that it follows.
        grid: Grid in the fixed image's space that the motion is given on.
        motion_mm: Motion (3, X, Y, Z) in mm along the axes of the array `grid`: the point of the rigidly aligned image
            that is wanted at each voxel, less the voxel itself.
        ncc: Normalised cross-correlation of the two within the fixed body, before and after.
        residual_mm: Median shift that blocks of the body would still need, before and after.
        seconds: Wall time of the bending alone.
        failure: Reason why the motion must not be used, which is then 0; empty where it may.
    """

    registration: Registration
    grid: Grid
    motion_mm: NDArray[np.float32]
    ncc: tuple[float, float]
    residual_mm: tuple[float, float]
    seconds: float
    failure: str = ""

    def bent(self, volume: Volume, grid: Grid, *, labels: bool = False) -> NDArray[Any]:
        """The moving image, or a label map on its grid, where it belongs on a grid of the fixed image's space.

        Args:
            volume: Moving image or its label map.
            grid: Grid to resample to.
            labels: Whether each voxel takes the nearest value; else it is linear between voxels.

        Returns:
            Array of the grid's shape; beyond the moving image the values of its edge are continued.
        """
        return sampled(placed(volume, self.registration), self.points(grid), nearest=labels)[0]

    def points(self, grid: Grid) -> NDArray[np.float32]:
        """The points of the rigidly aligned image that are wanted at the voxels of a grid.

        Args:
            grid: Grid of the fixed image's space.

        Returns:
            Points (3, X, Y, Z) in RAS mm; beyond the motion's own grid the motion at its edge is continued.
        """
        from scipy.ndimage import map_coordinates

        affine, own = (np.asarray(one.affine_ras, dtype=np.float64) for one in (grid, self.grid))
        to_motion = np.linalg.inv(own) @ affine
        directions = own[:3, :3] / np.array(self.grid.spacing_mm)  # (3 of RAS, 3 axes)
        points = np.empty((3, *grid.shape), np.float32)
        index = np.stack(np.broadcast_arrays(0, *np.indices(grid.shape[1:]))).astype(np.float64)  # (3, Y, Z)
        for x in range(grid.shape[0]):
            index[0] = x
            there = np.tensordot(to_motion[:3, :3], index, 1) + to_motion[:3, 3][:, None, None]
            along = np.stack([map_coordinates(one, there, order=1, mode="nearest") for one in self.motion_mm])
            points[:, x] = np.tensordot(affine[:3, :3], index, 1) + affine[:3, 3][:, None, None]
            points[:, x] += np.tensordot(directions, along, 1)
        return points

    def write(self, path: Path) -> None:
        """Write all of it to a `.npz` file, whole or not at all; the motion in steps of a hundredth of a mm."""
        told = {
            "registration": self.registration.to_json(),
            "ncc": self.ncc,
            "residual_mm": self.residual_mm,
            "seconds": round(self.seconds, 2),
            "failure": self.failure,
        }
        path.parent.mkdir(parents=True, exist_ok=True)
        hundredths = np.clip(np.rint(self.motion_mm * 100), -32768, 32767).astype(np.int16)
        with atomic(path) as partial, partial.open("wb") as file:
            np.savez_compressed(
                file, motion=hundredths, affine_ras=np.asarray(self.grid.affine_ras), told=np.array(json.dumps(told))
            )

    @classmethod
    def read(cls, path: Path) -> Deformation:
        """The inverse of `write`.

        Raises:
            OSError, ValueError, KeyError, TypeError: There is no such file, or it is damaged.
        """
        try:
            with path.open("rb") as file, np.load(file, allow_pickle=False) as content:
                told = json.loads(str(content["told"]))
                motion, affine = content["motion"].astype(np.float32) / 100, content["affine_ras"]
        except (zipfile.BadZipFile, zlib.error, EOFError) as error:
            raise ValueError(f"{path} is damaged: {error}") from error
        grid = Grid(motion.shape[1:], affine)
        ncc, residual_mm = ((float(told[name][0]), float(told[name][1])) for name in ("ncc", "residual_mm"))
        found = Registration.from_json(told["registration"])
        return cls(found, grid, motion, ncc, residual_mm, float(told["seconds"]), str(told["failure"]))


def elastix_is_installed() -> bool:
    """Whether `itk-elastix` is there."""
    try:
        return importlib.util.find_spec(_MODULE) is not None
    except ModuleNotFoundError:
        return False


def check_elastix(asked: str, *, otherwise: str | None = None) -> None:
    """Refuse what needs `itk-elastix` where it is absent.

    Args:
        asked: What needs it, as the user named it.
        otherwise: What to do without it; by default, to leave out what was asked.

    Raises:
        UsageError: It is absent.
    """
    if not elastix_is_installed():
        cure = otherwise or f"leave {asked} out"
        raise UsageError(f"{asked} needs itk-elastix: pip install 'volseg[elastix]', or {cure}")


def deform(fixed: Volume, moving: Volume, registration: Registration) -> Deformation:
    """Bend the moving image to the fixed one after their rigid alignment.

    Args:
        fixed: Image that stays.
        moving: Image that is bent.
        registration: Rigid alignment of the two, which has not failed.

    Returns:
        The deformation. If it gains nothing or folds, its `failure` says so, and it moves nothing.

    Raises:
        UsageError: `itk-elastix` is not installed.
        ValueError: The registration has failed.
    """
    check_elastix("a deformable alignment")
    began = time.perf_counter()
    today = Level.of(fixed, GRID_MM)
    grid = Grid(today.voxels.shape, today.affine)
    earlier = Level.of(placed(moving, registration), GRID_MM)
    there = resampled(Volume(earlier.voxels, earlier.affine), grid)[0].voxels
    try:
        motion, failure = _elastix(today.voxels, there, grid.spacing_mm), ""
    except RuntimeError as error:  # as ITK's errors are
        motion, failure = np.zeros((3, *grid.shape), np.float32), f"elastix: {str(error).strip().splitlines()[-1]}"
    before = Level(there, today.affine, today.body, today.step_mm)
    same = np.eye(4)
    after = Level(_bent(there, motion, grid), today.affine, today.body, today.step_mm)
    ncc = agreement(same, today, before)[0], agreement(same, today, after)[0]
    left = residual_mm(same, today, before), residual_mm(same, today, after)
    folded = float((jacobian(motion, grid) <= 0).mean())
    if not failure and folded > _MOST_FOLDED:
        failure = f"the motion folds at {folded:.0%} of the voxels"
    if not failure and not ncc[1] > ncc[0]:
        failure = f"it gains nothing: the images correlate by {ncc[0]:.2f} before and {ncc[1]:.2f} after"
    if failure:
        motion = np.zeros_like(motion)
    return Deformation(registration, grid, motion, ncc, left, time.perf_counter() - began, failure)


def _bent(voxels: NDArray[np.float32], motion_mm: NDArray[np.float32], grid: Grid) -> NDArray[np.float32]:
    """An image on the motion's own grid, bent."""
    from scipy.ndimage import map_coordinates

    index = np.indices(voxels.shape) + motion_mm / np.array(grid.spacing_mm)[:, None, None, None]
    return np.asarray(map_coordinates(voxels, index, order=1, mode="nearest"), dtype=np.float32)


def jacobian(motion_mm: NDArray[np.float32], grid: Grid) -> NDArray[np.float64]:
    """The change of volume (X, Y, Z) that a motion makes at each voxel: 1 for none, below 0 where it folds.

    >>> grid = Grid((6, 6, 6), np.diag([4.0, 4, 4, 1]))
    >>> motion = np.zeros((3, 6, 6, 6), np.float32)
    >>> motion[0] = 0.5 * 4 * np.arange(6)[:, None, None]  # stretched by a half along x
    >>> float(jacobian(motion, grid).mean())
    1.5
    """
    slopes = np.stack([np.stack(np.gradient(one.astype(np.float64), *grid.spacing_mm)) for one in motion_mm])
    found: NDArray[np.float64] = np.linalg.det(np.moveaxis(slopes, (0, 1), (-2, -1)) + np.eye(3))
    return found


def _elastix(
    fixed: NDArray[np.float32], moving: NDArray[np.float32], spacing_mm: Sequence[float]
) -> NDArray[np.float32]:
    """The motion (3, X, Y, Z) in mm along the array axes that brings one array to another on the same grid."""
    import itk

    images = []
    for one in (fixed, moving):
        image = itk.image_from_array(np.ascontiguousarray(one.T, dtype=np.float32))  # ITK's first axis is the last
        image.SetSpacing([float(mm) for mm in spacing_mm])
        images.append(image)
    settings = itk.ParameterObject.New()
    chosen = settings.GetDefaultParameterMap("bspline", _RESOLUTIONS, CONTROL_MM)
    for name in ("Metric0Weight", "Metric1Weight"):
        if name in chosen:
            del chosen[name]
    for name, value in {
        "Registration": "MultiResolutionRegistration",
        "Metric": "AdvancedNormalizedCorrelation",
        "ImageSampler": "RandomCoordinate",
        "NewSamplesEveryIteration": "true",
        "NumberOfSpatialSamples": _SAMPLES,
        "MaximumNumberOfIterations": _ITERATIONS,
        "NumberOfResolutions": _RESOLUTIONS,
        "FinalGridSpacingInPhysicalUnits": CONTROL_MM,
        "BSplineInterpolationOrder": 1,
        "RandomSeed": _SEED,
        "WriteResultImage": "false",
    }.items():
        chosen[name] = [str(value)]
    settings.AddParameterMap(chosen)
    _, found = itk.elastix_registration_method(
        *images, parameter_object=settings, log_to_console=False, number_of_threads=1
    )
    with tempfile.TemporaryDirectory() as folder:  # it writes the field into the working directory otherwise
        moved = itk.transformix_deformation_field(images[1], found, output_directory=folder)
        field = itk.array_from_image(moved)  # (Z, Y, X, 3)
    return np.ascontiguousarray(field.transpose(3, 2, 1, 0), dtype=np.float32)

"""Where a bundle stands, where its data go, and how its numbers follow from a cohort."""

from __future__ import annotations

import math
import sys
from collections.abc import Sequence
from pathlib import Path

from volseg.errors import BundleError

_CONFIGS = ("train.json", "inference.json")


def root() -> str:
    """The absolute folder of the bundle that MONAI is running, whatever the working directory is.

    MONAI gives a config no word of its own place. It does put the bundle's folder on `sys.path` when it runs it, behind
    the first entry, which is the working directory or the script's; and the command line names the config file. The
    working directory, which may be another bundle, comes last.
    """
    for folder in map(Path, sys.path[1:]):
        if _is_bundle(folder):
            return str(folder.resolve())
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--config_file":
            folder = Path((value or following).strip("[]'\" ").split(",")[0].strip("'\" ")).resolve().parent
            return str(folder.parent if folder.name == "configs" else folder)
    return str(Path.cwd())


def data_dir(bundle_root: str | Path) -> str:
    """The folder that a bundle writes under: `data/` of the checkout it stands in, else `data/` of its own.

    >>> data_dir("/nowhere/bundle")
    '/nowhere/bundle/data'
    """
    folder = Path(bundle_root).resolve()
    checkout = folder.parent.parent
    if folder.parent.name == "bundles" and (checkout / "setup.cfg").is_file():
        return str(checkout / "data")
    return str(folder / "data")


# Slices that a window keeps of a network that looks at each in turn: its neighbours in the window give the context.
_SLICES = 8


def fit_roi(shape: Sequence[int], *, divisor: int | Sequence[int], voxels: int, slices: int | None = None) -> list[int]:
    """The training window for a cohort: near its median shape, within a budget, on the network's grid.

    Each axis is rounded to the nearest multiple of its divisor; then the largest axis shrinks until at most `voxels`
    remain. Where the network halves an axis (divisor above 1), two multiples stay along one such axis, since
    normalisation over a single voxel at the bottom is undefined. An axis that it does not halve may be one voxel.

    A network that takes slice after slice sees no more by more slices, but by larger ones: the axis that they lie along
    shrinks before the others, down to 8.

    Args:
        shape: median voxels along X, Y, Z.
        divisor: what each axis must be a multiple of; one number, or one an axis.
        voxels: the budget.
        slices: the axis along which slices lie, for a network that takes them one by one.

    >>> fit_roi([35, 50, 36], divisor=32, voxels=64 * 64 * 32)
    [32, 64, 32]
    >>> fit_roi([266, 266, 1], divisor=[32, 32, 1], voxels=256 * 256)
    [256, 256, 1]
    >>> fit_roi([266, 266, 144], divisor=[32, 32, 1], voxels=2**20, slices=2)
    [256, 256, 16]
    """
    steps = axis_divisors(divisor, axes=len(shape))
    roi = [max(1, math.floor(n / step + 0.5)) * step for n, step in zip(shape, steps, strict=True)]
    roi = grow_roi(roi, steps, shape=shape)
    while math.prod(roi) > voxels:
        smaller = [[n - steps[i] if i == axis else n for i, n in enumerate(roi)] for axis in range(len(roi))]
        fits = [axis for axis, to in enumerate(smaller) if to[axis] and grow_roi(to, steps, shape=shape) == to]
        if not fits:
            break
        first = slices is not None and slices in fits and smaller[slices][slices] >= _SLICES
        roi = smaller[slices if first and slices is not None else max(fits, key=lambda axis: (roi[axis], axis))]
    return roi


def grow_roi(roi: Sequence[int], divisors: Sequence[int], *, shape: Sequence[int]) -> list[int]:
    """The window, with a second multiple along its longest halved axis where each would shrink to a single voxel.

    >>> grow_roi([32, 32, 7], [32, 32, 1], shape=[20, 30, 7])
    [32, 64, 7]
    """
    grown = list(roi)
    halved = [axis for axis, step in enumerate(divisors) if step > 1]
    if halved and all(roi[axis] == divisors[axis] for axis in halved):
        axis = max(halved, key=lambda axis: (shape[axis], -axis))
        grown[axis] += divisors[axis]
    return grown


def axis_divisors(divisor: int | Sequence[int], *, axes: int = 3) -> list[int]:
    """One divisor an axis.

    Raises:
        BundleError: no whole numbers above 0, or not one an axis.

    >>> axis_divisors(32), axis_divisors([32, 32, 1])
    ([32, 32, 32], [32, 32, 1])
    """
    divisors = [divisor] * axes if isinstance(divisor, int) else list(divisor)
    if len(divisors) != axes or not all(isinstance(step, int) and step > 0 for step in divisors):
        raise BundleError(f"roi_divisor is {divisor!r}, expected a whole number or {axes} of them, such as [32, 32, 1]")
    return divisors


def find(bundle: str | Path) -> Path:
    """The folder of a bundle by path, or by name in `bundles/` of the working directory.

    Raises:
        BundleError: it is neither; the message lists what is there.
    """
    for folder in (Path(bundle), Path("bundles") / bundle):
        if _is_bundle(folder):
            return folder.resolve()
    there = sorted(path.parent.name for path in Path("bundles").glob("*/train.json"))
    known = f"; bundles/ holds {', '.join(there)}" if there else ""
    raise BundleError(f"{bundle} is no bundle: it needs {' and '.join(_CONFIGS)}{known}")


def config(folder: Path, name: str) -> Path:
    """One config of a bundle, in its own folder or, in the model zoo's layout, in `configs/`."""
    for path in (folder / name, folder / "configs" / name):
        if path.is_file():
            return path
    raise BundleError(f"the bundle {folder} has no {name}")


def _is_bundle(folder: Path) -> bool:
    return any(all((place / name).is_file() for name in _CONFIGS) for place in (folder, folder / "configs"))

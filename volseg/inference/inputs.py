"""The cases that are to be predicted, from what a user names; how much work they are, and where results must not go."""

from __future__ import annotations

import logging
import math
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from volseg import volume
from volseg.cohort import Cohort, cohort_note
from volseg.errors import UsageError, VolsegError
from volseg.files import SERIES
from volseg.volume import Affine, Volume, read_aligned, read_volume, spacing_mm

logger = logging.getLogger(__name__)


def find_inputs(
    path: str | Path, *, channels: int = 1, part: str = "all", fold: int = 0, modality: str | None = None
) -> list[tuple[str, list[Path]]]:
    """The cases to predict, each with its key and one file a channel.

    Args:
        path: a NIfTI file; a folder of `KEY.nii.gz`, or of `KEY_0000.nii.gz` and so on; a cohort; or a folder of DICOM
            files, each of whose series is a case.
        channels: of the network; a folder's files are grouped by it.
        part: of a cohort, as in `Cohort.part`.
        fold: of a cohort.
        modality: of a folder of DICOM files, which series; needed where there are several modalities.

    Raises:
        UsageError: nothing there.
    """
    path = Path(path)
    cohort = input_cohort(path)
    if cohort is not None:
        if note := cohort_note(cohort):
            logger.warning("%s", note)
        return [(key, cohort.image_paths(key)) for key in cohort.part(part, fold=fold)]
    if part != "all":
        raise UsageError(f"--part {part} was asked for and {path} is no cohort")
    if path.is_file():
        files = [] if path.suffix == ".dcm" else [path]
    elif path.is_dir():
        files = sorted(file for file in path.iterdir() if _is_nifti(file))
    else:
        raise UsageError(f"there is no file or folder {path}")
    if not files:
        from volseg.dicom import list_series

        files = list_series(path, modality=modality)
    cases: dict[str, list[Path]] = {}
    for file in files:
        stem = file.name.removesuffix(".gz").removesuffix(".nii").removesuffix(SERIES)
        numbered = len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdigit()
        cases.setdefault(stem[:-5] if numbered else stem, []).append(file)
    if path.is_file() and channels > 1:
        raise UsageError(f"the network takes {channels} channels; name the folder that holds KEY_0000.nii.gz and so on")
    return list(cases.items())


def input_cohort(path: Path) -> Cohort | None:
    """The cohort that a path names, or None where it names something else."""
    if (path / "dataset.json").is_file() and any((path / images).is_dir() for images in ("imagesTr", "imagesTs")):
        return Cohort.open(path)
    return None


def read_image(path: str | Path) -> Volume:
    """Read what `find_inputs` lists: a NIfTI file, or the list of a DICOM series.

    Raises:
        VolumeError, GeometryError, SourceError: The file or the series cannot be read as one volume.
    """
    if Path(path).suffix == SERIES:
        from volseg.dicom import read_listed

        return read_listed(Path(path))
    return read_volume(path)


def read_images(images: Sequence[str | Path | Volume]) -> list[Volume]:
    """Read one volume per channel, all on the grid of the first. Errors as in `read_image` and `read_aligned`."""
    return read_aligned([image if isinstance(image, Volume) else read_image(image) for image in images])


def read_grid(path: str | Path) -> tuple[tuple[int, ...], Affine]:
    """Shape and affine (RAS mm) of what `read_image` reads, from headers alone. Errors as in `read_image`."""
    if Path(path).suffix == SERIES:
        from volseg.dicom import listed_grid

        return listed_grid(Path(path))
    return volume.read_grid(path)


def count_windows(
    cases: Iterable[tuple[str, Sequence[Path]]],
    *,
    grid_mm: Sequence[float],
    roi_size: Sequence[int],
    overlap: float,
    enough: int = 5000,
) -> int:
    """How many windows a sliding window visits in the cases, from the headers of their files.

    Args:
        cases: (key, one file a channel); one that cannot be read counts nothing.
        grid_mm: spacing that volumes are resampled to, along X, Y, Z of the turned axes.
        roi_size: the window in voxels of that grid.
        overlap: share of a window that its neighbour covers.
        enough: stop counting there.
    """
    count = 0
    for _, files in cases:
        try:
            shape, affine = read_grid(files[0])
        except VolsegError:
            continue
        world = np.abs(affine[:3, :3]).argmax(axis=0)  # voxel axis -> the axis of the body it runs along
        sizes = [1.0] * 3
        for n, mm, axis in zip(shape, spacing_mm(affine), world, strict=False):
            sizes[axis] = n * mm / grid_mm[axis]
        steps = [max(1, int(roi * (1 - overlap))) for roi in roi_size]
        count += math.prod(
            math.ceil(max(0, round(size) - roi) / step) + 1
            for size, roi, step in zip(sizes, roi_size, steps, strict=True)
        )
        if count >= enough:
            break
    return count


def check_output(output_dir: Path, cases: Iterable[tuple[str, Sequence[Path]]], *, inputs: Path | None = None) -> None:
    """Refuse to write predictions over images or into a cohort, whose files have the same names.

    Args:
        output_dir: where predictions would go.
        cases: (key, one file a channel).
        inputs: what `find_inputs` was given: a folder of DICOM files is no place for predictions either.

    Raises:
        UsageError: the folder holds an image of a case, is a cohort, or is the folder of the inputs.
    """
    place = output_dir.resolve()
    if inputs is not None and inputs.resolve() == place:
        raise UsageError(f"{output_dir} holds the images; name another folder with -o")
    if any(path.resolve().parent == place for _, images in cases for path in images):
        raise UsageError(f"{output_dir} holds the images, which predictions would replace; name another folder with -o")
    if any((place / images).is_dir() for images in ("imagesTr", "imagesTs")):
        raise UsageError(f"{output_dir} is a cohort, whose dataset.json would be replaced; name another folder with -o")


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")

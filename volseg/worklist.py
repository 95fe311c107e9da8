"""The cases that are to be predicted, from what a user names; and where their predictions must not go."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path

from volseg.cohort import Cohort
from volseg.errors import UsageError


def find_inputs(
    path: str | Path, *, channels: int = 1, part: str = "all", fold: int = 0
) -> list[tuple[str, list[Path]]]:
    """The cases to predict, each with its key and one file a channel.

    Args:
        path: a NIfTI file; a folder of `KEY.nii.gz`, or of `KEY_0000.nii.gz` and so on; or a cohort.
        channels: of the network; a folder's files are grouped by it.
        part: of a cohort, as in `Cohort.part`.
        fold: of a cohort.

    Raises:
        UsageError: nothing there.
    """
    path = Path(path)
    if (path / "dataset.json").is_file() and any((path / images).is_dir() for images in ("imagesTr", "imagesTs")):
        cohort = Cohort.open(path)
        return [(key, cohort.image_paths(key)) for key in cohort.part(part, fold=fold)]
    if part != "all":
        raise UsageError(f"--part {part} was asked for and {path} is no cohort")
    if path.is_file():
        files = [path]
    elif path.is_dir():
        files = sorted(file for file in path.iterdir() if _is_nifti(file))
    else:
        raise UsageError(f"there is no file or folder {path}")
    if not files:
        raise UsageError(f"{path} holds no .nii or .nii.gz file")
    cases: dict[str, list[Path]] = {}
    for file in files:
        stem = file.name.removesuffix(".gz").removesuffix(".nii")
        numbered = len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdigit()
        cases.setdefault(stem[:-5] if numbered else stem, []).append(file)
    if path.is_file() and channels > 1:
        raise UsageError(f"the network takes {channels} channels; name the folder that holds KEY_0000.nii.gz and so on")
    return list(cases.items())


def check_output(output_dir: Path, cases: Iterable[tuple[str, Sequence[Path]]]) -> None:
    """Refuse to write predictions over images or into a cohort, whose files have the same names.

    Raises:
        UsageError: the folder holds an image of a case, or is a cohort.
    """
    place = output_dir.resolve()
    if any(path.resolve().parent == place for _, images in cases for path in images):
        raise UsageError(f"{output_dir} holds the images, which predictions would replace; name another folder with -o")
    if any((place / images).is_dir() for images in ("imagesTr", "imagesTs")):
        raise UsageError(f"{output_dir} is a cohort, whose dataset.json would be replaced; name another folder with -o")


def _is_nifti(path: Path) -> bool:
    return path.name.endswith((".nii", ".nii.gz")) and not path.name.startswith(".")

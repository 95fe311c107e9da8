"""What a folder without `dataset.json` looks like: public layouts, and the command that makes a cohort of each."""

from __future__ import annotations

from pathlib import Path

from volseg.volume import image_suffix

_LOOKED_AT = 20
_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
_MASK_FOLDERS = {"segmentations", "masks", "labels", "seg"}


def raw_note(folder: Path) -> str:
    """A sentence with the command for what a folder holds, where another one was given it; empty if nothing is known.

    Args:
        folder: Looked at two levels deep, the first 20 files and folders of each.
    """
    if not folder.is_dir():
        return ""
    if (folder / "dataset.json").is_file() and (folder / "cases.csv").is_file():
        return f"it is a cohort already: run `volseg check {folder}`"
    if (folder / "dataset.json").is_file():
        return f"it has a dataset.json: run `volseg convert decathlon {folder} COHORT`"
    if note := layout_note(folder):
        return note
    there = _visible(folder)
    files = [*there, *(file for below in there if below.is_dir() for file in _visible(below))]
    for file in files:
        if file.is_file() and image_suffix(file.name):
            return (
                f"it holds volumes such as {file.relative_to(folder).as_posix()}: `volseg convert decathlon` takes a "
                "dataset.json that lists image and label of each case, `volseg convert class_masks` a folder per case "
                "with one mask per class"
            )
    if any(file.is_file() and (file.suffix.lower() == ".dcm" or file.name == "DICOMDIR") for file in files):
        return f"it holds DICOM files: run `volseg convert dicom {folder} COHORT`"
    pictures = next((file for file in files if file.is_file() and file.suffix.lower() in _PICTURES), None)
    if pictures is not None:
        found = pictures.relative_to(folder).as_posix()
        return f"it holds pictures such as {found}: run `volseg convert images {folder} COHORT`"
    return ""


def _visible(folder: Path) -> list[Path]:
    return sorted(path for path in folder.iterdir() if not path.name.startswith("."))[:_LOOKED_AT]


def _holds_volumes(folder: Path) -> bool:
    return any(path.is_file() and image_suffix(path.name) is not None for path in _visible(folder))


def layout_note(folder: Path) -> str:
    """A sentence that names a known public layout and what `volseg convert` needs for it; empty for any other folder.

    Args:
        folder: Looked at one level deep, its first 20 folders.
    """
    below = sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith("."))[:_LOOKED_AT]
    names = {path.name.casefold() for path in below}
    listed = "write a dataset.json that lists image and label of each case, and run `volseg convert decathlon`"
    for case in below:
        files = [path.name.casefold() for path in case.iterdir()]
        masks = [path for path in case.iterdir() if path.is_dir() and path.name.casefold() in _MASK_FOLDERS]
        if "segmentations" in files or (_holds_volumes(case) and any(map(_holds_volumes, masks))):
            what = "it looks like TotalSegmentator's data, one mask file per class"
            return f"{what}: run `volseg convert class_masks {folder} COHORT`"
        if any(name.startswith("imaging.nii") for name in files):
            return f"it looks like KiTS: {listed}"
        if any("_seg.nii" in name or "-seg.nii" in name for name in files):
            return f"it looks like BraTS: {listed}, with the four images of a case as a list under image"
        if any("_frame" in name and "_gt.nii" in name for name in files):
            return f"it looks like ACDC: {listed}, one entry per frame"
    if {"img", "label"} <= names or any({"img", "label"} <= {p.name for p in case.iterdir()} for case in below):
        return f"it looks like BTCV: {listed}"
    return ""

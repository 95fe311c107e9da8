"""What a folder without `dataset.json` looks like: public layouts, and the command that makes a cohort of each."""

from __future__ import annotations

from pathlib import Path

_LOOKED_AT = 20


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
        if "segmentations" in files:
            return f"it looks like TotalSegmentator's data: run `volseg convert class_masks {folder} COHORT`"
        if any(name.startswith("imaging.nii") for name in files):
            return f"it looks like KiTS: {listed}"
        if any("_seg.nii" in name or "-seg.nii" in name for name in files):
            return f"it looks like BraTS: {listed}, with the four images of a case as a list under image"
        if any("_frame" in name and "_gt.nii" in name for name in files):
            return f"it looks like ACDC: {listed}, one entry per frame"
    if {"img", "label"} <= names or any({"img", "label"} <= {p.name for p in case.iterdir()} for case in below):
        return f"it looks like BTCV: {listed}"
    return ""

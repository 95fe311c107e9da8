"""Illustration: reading a case of a cohort with its reference and a prediction, and drawing it to a file."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from volseg.cohort import Cohort, Predictions, read_label_map
from volseg.errors import UsageError, VolsegError
from volseg.pictures.animation import MOVING, STILL, write_animation, write_png
from volseg.pictures.case import window_of
from volseg.pictures.case_view import CaseView, Style, draw, frames
from volseg.pictures.dice_curve import beside
from volseg.pictures.layout import padded
from volseg.pictures.orientation import Plane
from volseg.pictures.rendering import DIFFERENCE_COLOURS
from volseg.pictures.snapshot import read_snapshots
from volseg.volume import RGB, UNMEASURED, read_volume


def read_case_view(
    cohort: Cohort, key: str, *, predictions: Path | None = None, plane: Plane = "axial", channel: int | None = None
) -> CaseView:
    """Read the data for the pictures of a case.

    Args:
        cohort: Cohort of the case.
        key: Key of the case.
        predictions: Folder of label maps `KEY.nii.gz`, or None.
        plane: Plane of the slices.
        channel: Channel of the image, from 0; None for the colours of an image that has them, else for the first.

    Raises:
        CohortError: There is no such case.
        UsageError: There is no such channel.
        VolsegError: A file cannot be read, is on another grid, or has an undeclared value; the message names the key.
    """
    paths = cohort.image_paths(key)
    colours = channel is None and cohort.channel_names == RGB
    channel = channel or 0
    if not 0 <= channel < len(paths):
        raise UsageError(f"the channel must be 0 to {len(paths) - 1}, got {channel}; give one that the cohort has")
    try:
        image = read_volume(paths[channel])
        label = cohort.label_path(key)
        files, match = {"reference": label}, None
        if predictions is not None:
            folder = Predictions(Path(predictions))
            files["prediction"], match = folder.path(key), folder.match(cohort)
        voxels = np.stack([read_volume(file).voxels for file in paths]) if colours else image.voxels
        maps = {
            role: read_label_map(role, path, image, cohort.labels, match=match if role == "prediction" else None).voxels
            for role, path in files.items()
            if path is not None
        }
        unseen = cohort.labels.ignored(maps["reference"]) if "reference" in maps else None
    except VolsegError as error:
        raise error.of_case(key) from error
    return CaseView.of(
        voxels,
        image.affine_ras,
        cohort.labels,
        reference=maps.get("reference"),
        prediction=maps.get("prediction"),
        name=key,
        plane=plane,
        window=window_of(cohort.channel_names[channel]),
        measured=UNMEASURED not in cohort.rows[key].warnings,
        unseen=unseen,
    )


def illustrate(
    case_view: CaseView, path: Path, *, style: Style = "panels", number: int | None = None, scale: int | None = None
) -> None:
    """Draw a case to a .png, or all its slices in turn to a .gif or .webp.

    Args:
        case_view: Case as it is shown.
        path: File, whose ending decides.
        style: Style, see `volseg.pictures.draw`.
        number: Number of the slice, see `View.number`; only for a .png.
        scale: Number of pixels for a stored pixel; None for a picture of convenient size.

    Raises:
        UsageError: The ending is none of the three, or the options contradict each other.
    """
    ending = Path(path).suffix.lower()
    if ending in STILL:
        write_png(path, draw(case_view, style=style, number=number, scale=scale))
    elif ending in MOVING:
        if number is not None:
            raise UsageError("an animation shows all slices; leave --slice out or write a .png")
        colours = [*(region.colour for region in case_view.labels.regions), *DIFFERENCE_COLOURS]
        # Titles differ in length, which may widen a picture.
        write_animation(path, padded(list(frames(case_view, style=style, scale=scale))), colours=colours)
    else:
        raise UsageError(f"a picture must be a .png, .gif or .webp file, got {Path(path).name}; give another name")


def animate_training(run: Path, path: Path) -> int:
    """Join the snapshots of a training run, with the Dice of their case, to an animation; returns their number.

    Raises:
        UsageError: There is no snapshot, or the path ends neither in .gif nor in .webp.
    """
    snapshots = read_snapshots(run)
    pictures = padded([snapshot.picture for snapshot in snapshots])  # legends may differ in what each validation found
    snapshots = [replace(one, picture=picture) for one, picture in zip(snapshots, pictures, strict=True)]
    colours = [colour for snapshot in snapshots for colour in snapshot.colours.values()]
    write_animation(path, beside(snapshots), colours=colours, ms=500)
    return len(snapshots)

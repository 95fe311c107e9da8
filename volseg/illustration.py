"""Illustration: a case of a cohort, with its reference and a prediction, is read and drawn to a file."""

from __future__ import annotations

from pathlib import Path

from volseg.cohort import FILE_ENDING, Cohort
from volseg.errors import GeometryError, UsageError, VolsegError
from volseg.geometry import space_difference
from volseg.labels import Masks
from volseg.report.animation import MOVING, STILL, read_snapshots, write_animation, write_png
from volseg.report.picture import DIFFERENCE_COLOURS
from volseg.report.scene import Scene, Style, draw, frames
from volseg.report.view import Plane
from volseg.volume import Volume, read_volume


def read_scene(
    cohort: Cohort, key: str, *, predictions: Path | None = None, plane: Plane = "axial", channel: int = 0
) -> Scene:
    """Read what the pictures of a case need.

    Args:
        cohort: holds the case.
        key: of the case.
        predictions: folder of label maps `KEY.nii.gz`, or None.
        plane: of the slices.
        channel: of the image, from 0.

    Raises:
        CohortError: no such case.
        UsageError: no such channel.
        VolsegError: a file that cannot be read, another grid, an undeclared value; with the case's key.
    """
    paths = cohort.image_paths(key)
    if not 0 <= channel < len(paths):
        raise UsageError(f"channel {channel} was asked for; the cohort has the channels 0 to {len(paths) - 1}")
    try:
        image = read_volume(paths[channel])
        label = cohort.label_path(key)
        reference = None if label is None else _masks("reference", label, image, cohort)
        prediction = None
        if predictions is not None:
            prediction = _masks("prediction", Path(predictions) / f"{key}{FILE_ENDING}", image, cohort)
    except VolsegError as error:
        raise error.of_case(key) from error
    return Scene.of(
        image.voxels,
        image.affine_ras,
        cohort.labels,
        reference=reference,
        prediction=prediction,
        name=key,
        plane=plane,
    )


def illustrate(
    scene: Scene, path: Path, *, style: Style = "panels", number: int | None = None, scale: int | None = None
) -> None:
    """Draw a scene to a .png, or walk through its slices in a .gif or .webp.

    Args:
        scene: the case.
        path: its ending decides.
        style: as in `volseg.report.scene.draw`.
        number: the slice as the file stores it, from 0; only for a .png.
        scale: how many pixels a stored pixel becomes; None for a picture of a handy size.

    Raises:
        UsageError: an ending that is none of the three, or options that do not go together.
    """
    ending = Path(path).suffix.lower()
    if ending in STILL:
        write_png(path, draw(scene, style=style, number=number, scale=scale))
    elif ending in MOVING:
        if number is not None:
            raise UsageError("an animation shows all slices; leave --slice out or write a .png")
        colours = [*(region.colour for region in scene.labels.regions), *DIFFERENCE_COLOURS]
        write_animation(path, list(frames(scene, style=style, scale=scale)), colours=colours)
    else:
        raise UsageError(f"{Path(path).name} was asked for; pictures are written as .png, .gif or .webp")


def animate_training(run: Path, path: Path) -> int:
    """Join the snapshots of a training run to an animation, and say how many there were.

    Raises:
        UsageError: no snapshot, or a path that ends neither in .gif nor in .webp.
    """
    pictures = read_snapshots(run)
    write_animation(path, pictures, ms=500)
    return len(pictures)


def _masks(role: str, path: Path, image: Volume, cohort: Cohort) -> Masks:
    try:
        volume = read_volume(path)
        difference = space_difference(image.shape, image.affine_ras, volume.shape, volume.affine_ras)
        if difference:
            raise GeometryError(f"not on the image's grid: {difference}; write it on the grid of the case's image")
        return cohort.labels.masks(cohort.labels.check(volume.voxels))
    except VolsegError as error:
        raise type(error)(f"the {role}: {error.message}") from error

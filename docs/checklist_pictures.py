"""The pictures of the checklist for 3D Slicer, in docs/images: what a person should see there.

    python docs/checklist_pictures.py

It makes the folder of the checklist (the same commands stand in docs/how-to/corrections.md) and draws its only case.
"""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image, ImageDraw

from volseg.datasets import write_phantom
from volseg.formats import UwMadison, read_segmentation, write_segmentation
from volseg.labels import LabelTable
from volseg.pictures import panel
from volseg.volume import Volume

IMAGES = Path(__file__).parent / "images"
PLANES = (("Axial (red)", 2), ("Coronal (green)", 1), ("Sagittal (yellow)", 0))
SCALE = 2
_GREY = (128, 128, 128)


def slice_of(volume: NDArray[np.generic], affine: NDArray[np.float64], axis: int, place: int) -> NDArray[np.generic]:
    """One slice as 3D Slicer shows it: left of the patient at the right side, front or head at the top."""
    taken = np.take(volume, place, axis=axis)
    first, second = (one for one in range(3) if one != axis)
    world = [int(np.argmax(np.abs(affine[:3, one]))) for one in (first, second)]
    signs = [np.sign(affine[row, one]) for row, one in zip(world, (first, second), strict=True)]
    # Columns run to the patient's left (R falls) or, in the sagittal plane, from front to back; rows from the top.
    for number, sign in enumerate(signs):
        if sign > 0:
            taken = np.flip(taken, axis=number)
    return taken.T


def draw(image: Volume, segments: dict[str, tuple[NDArray[np.bool_], tuple[int, int, int]]], path: Path) -> None:
    """Three planes through the middle of all segments, with outlines, names, colours and places in mm."""
    joined = np.any([mask for name, (mask, _) in segments.items() if name != LabelTable.IGNORE], axis=0)
    centre = [int(np.median(places)) for places in np.nonzero(joined)]
    low, high = np.percentile(image.voxels, [1, 99])
    grey = np.clip((image.voxels - low) / (high - low) * 255, 0, 255).astype(np.uint8)
    spacing = image.spacing_mm
    drawn = []
    for title, axis in PLANES:
        masks = np.stack([slice_of(mask, image.affine_ras, axis, centre[axis]) for mask, _ in segments.values()])
        first, second = (one for one in range(3) if one != axis)
        pixels = panel(
            np.ascontiguousarray(slice_of(grey, image.affine_ras, axis, centre[axis])),
            np.ascontiguousarray(masks),
            [colour for _, colour in segments.values()],
            fill=0.25,
            line=True,
            pixel_mm=(spacing[second], spacing[first]),
            scale=SCALE,
        )
        place = (image.affine_ras @ [*centre, 1])[axis]
        drawn.append((f"{title}, {'RAS'[axis]} = {place:.1f} mm", Image.fromarray(pixels)))
    width = sum(one.width for _, one in drawn) + 10 * (len(drawn) + 1)
    height = max(one.height for _, one in drawn) + 40 + 18 * len(segments)
    canvas = Image.new("RGB", (width, height), (24, 24, 27))
    pen, left = ImageDraw.Draw(canvas), 10
    for title, one in drawn:
        pen.text((left, 6), title, fill=(235, 235, 235))
        canvas.paste(one, (left, 24))
        left += one.width + 10
    for number, (name, (mask, colour)) in enumerate(segments.items()):
        top = height - 18 * (len(segments) - number)
        ml = mask.sum() * np.prod(spacing) / 1000
        pen.rectangle((10, top, 22, top + 12), fill=colour)
        pen.text((30, top), f"{name}   RGB {colour}   {ml:.1f} ml", fill=(235, 235, 235))
    canvas.quantize(256).save(path, optimize=True)


def segments_of(path: Path, labels: LabelTable) -> dict[str, tuple[NDArray[np.bool_], tuple[int, int, int]]]:
    """Mask and colour of each segment of a file, read back as `volseg adopt` reads it."""
    file = read_segmentation(path)
    colours = {region.name: region.colour for region in labels.regions}
    return {one.name: (file.mask(one), colours.get(one.name, _GREY)) for one in file.segments}


def main() -> None:
    """Make the case and draw it as it is written out, and with five slices that nobody looked at."""
    with tempfile.TemporaryDirectory() as made:
        raw = Path(made) / "raw"
        write_phantom(raw, patients=1, days=1, seed=0, kind="mild", workers=1)
        source = UwMadison(raw)
        (key,) = source.keys()
        case = source.load(key)
        image, label, labels = case.channels[0], case.label, source.labels
        if label is None:
            raise SystemExit(f"{key} has no label")
        path = Path(made) / f"{key}.seg.nrrd"
        write_segmentation(path, label, labels)
        draw(image, segments_of(path, labels), IMAGES / "checklist_opened.png")
        table = LabelTable.from_dataset_json(
            {"labels": {**labels.to_dataset_json()["labels"], "ignore": labels.values[-1] + 1}}
        )
        unseen = label.voxels.copy()
        unseen[..., :5] = table.ignore or 0
        write_segmentation(path, Volume(unseen, label.affine_ras), table)
        draw(image, segments_of(path, labels), IMAGES / "checklist_ignored.png")


if __name__ == "__main__":
    main()

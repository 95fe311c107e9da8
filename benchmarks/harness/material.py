"""What benchmarks work on: scans at the real size of the UW-Madison data, thousands of small ones, a tiny network."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
from PIL import Image
from scipy import ndimage

from harness import measurement
from volseg.cohort import Case
from volseg.datasets import LABELS, phantom_case
from volseg.formats import Row, write_scan
from volseg.volume import Volume, affine_of_axes

# Columns, rows, slices and millimetres of the two commonest kinds of scan in the UW-Madison data.
REAL_SIZES = (((266, 266, 144), (1.5, 1.5, 3.0)), ((360, 310, 144), (1.5, 1.5, 3.0)))
REAL_SCANS = 274
NOISE = 0.028  # of the scanner's scale, as the phantom has it


def enlarged(case: Case, shape: Sequence[int], spacing_mm: Sequence[float], *, seed: int = 0) -> Case:
    """A scan of the phantom on a finer grid, with noise of that grid, since noise decides how well slices compress."""
    image, label = case.channels[0].voxels, case.label.voxels if case.label else None
    factors = [n / was for n, was in zip(shape, image.shape, strict=True)]
    generator = np.random.default_rng(seed)
    fine = ndimage.zoom(image.astype(np.float32), factors, order=1)
    sigma = NOISE * 3000
    fine = np.hypot(fine + generator.normal(0, sigma, shape), generator.normal(0, sigma, shape))
    affine = affine_of_axes("LPI", (spacing_mm[0], spacing_mm[1], spacing_mm[2]))
    masks = [ndimage.zoom(mask.astype(np.float32), factors, order=1) > 0.5 for mask in LABELS.masks(label)]
    return replace(
        case,
        channels=(Volume(np.clip(np.rint(fine), 0, 65535).astype(np.uint16), affine),),
        label=Volume(LABELS.encode(np.stack(masks)), affine),
    )


def write_real_scans(folder: Path, *, counts: Sequence[int], slices: int = 144) -> None:
    """Raw folders `rawN` of N scans each, at the real sizes in turn, and each with a train.csv of the real length.

    Two scans are drawn; the others are links to their files under other names. train.csv has the rows of `REAL_SCANS`
    scans in any case, as everyone who converts a few of them meets it. The PNG files are Pillow's, with its choice of
    row filters: those of the data set are unknown.
    """
    drawn = []
    for number, (shape, spacing) in enumerate(REAL_SIZES):
        case = enlarged(phantom_case(patient=201 + number, day=0), (*shape[:2], slices), spacing, seed=number)
        rows = write_scan(folder / "drawn", case, LABELS)
        scan = folder / "drawn" / "train" / case.patient / case.key
        for path in scan.glob("scans/*.png"):
            with Image.open(path) as one:
                one.load()
                one.save(path)
        drawn.append((scan, rows))
    for count in counts:
        write_links(folder / f"raw{count}", drawn, scans=count, listed=REAL_SCANS)


def write_small_scans(raw: Path, *, scans: int, side: int, kinds: int = 20) -> None:
    """A raw folder of cubes with three balls in noise; `kinds` are drawn, the others are links to them."""
    drawn = []
    for number in range(min(kinds, scans)):
        image, label = small_volume(number, side)
        key = f"case{number}_day0"
        rows = write_scan(raw / "drawn", Case(key, f"case{number}", "day0", (image,), label, ""), LABELS)
        drawn.append((raw / "drawn" / "train" / f"case{number}" / key, rows))
    write_links(raw, drawn, scans=scans, listed=scans)


def write_links(raw: Path, drawn: Sequence[tuple[Path, list[Row]]], *, scans: int, listed: int) -> None:
    """A raw folder whose scans are those drawn in turn under other names; train.csv lists `listed`, or more scans."""
    raw.mkdir(parents=True, exist_ok=True)
    with (raw / "train.csv").open("w", newline="", encoding="utf-8") as file:
        table = csv.writer(file, lineterminator="\n")
        table.writerow(("id", "class", "segmentation"))
        for number in range(max(scans, listed)):
            source, rows = drawn[number % len(drawn)]
            patient = f"case{1001 + number // 4}"
            key = f"{patient}_day{number % 4}"
            table.writerows((row[0].replace(source.name, key, 1), *row[1:]) for row in rows)
            if number < scans:
                place = raw / "train" / patient / key / "scans"
                place.mkdir(parents=True)
                for path in (source / "scans").iterdir():
                    os.link(path, place / path.name)


def small_volume(number: int, side: int) -> tuple[Volume, Volume]:
    """An image and its label map: three overlapping balls in noise, others for each number."""
    generator = np.random.default_rng(number)
    grid = np.meshgrid(*[np.arange(side, dtype=np.float32)] * 3, indexing="ij", sparse=True)
    masks = []
    for _ in LABELS.names:
        centre = generator.uniform(0.35, 0.65, 3) * side
        masks.append(sum((axis - c) ** 2 for axis, c in zip(grid, centre, strict=True)) < (0.2 * side) ** 2)
    image = generator.integers(0, 400, (side, side, side), dtype=np.uint16) + 300 * np.any(masks, axis=0)
    affine = affine_of_axes("LPI", (1.5, 1.5, 3.0))
    return Volume(image.astype(np.uint16), affine), Volume(LABELS.encode(np.stack(masks)), affine)


def write_tiny_bundle(folder: Path, *, side: int) -> Path:
    """A bundle whose network has a few hundred random weights and a cube as window; its checkpoint is returned."""
    import torch
    from monai.networks.nets import UNet

    from volseg.bundle import Recipe

    folder.mkdir(parents=True)
    source = measurement.ROOT / "bundles" / "swinunetr"
    for name in ("train.json", "metadata.json"):
        (folder / name).write_text((source / name).read_text())
    content = json.loads((source / "inference.json").read_text())
    widths = {"spatial_dims": 3, "channels": [4, 8], "strides": [2]}
    of_recipe = {"in_channels": "$len(@recipe.channel_names)", "out_channels": "$@labels.channels"}
    content["network_def"] = {"_target_": "monai.networks.nets.UNet", **widths, **of_recipe}
    (folder / "inference.json").write_text(json.dumps(content))
    torch.manual_seed(0)
    network = UNet(in_channels=1, out_channels=LABELS.channels, **widths)
    recipe = Recipe(LABELS, ["MR"], [1.5, 1.5, 3.0], [side] * 3, {})
    torch.save({"model": network.state_dict(), "recipe": recipe.state_dict()}, folder / "model.pt")
    return folder / "model.pt"


def write_subset(cohort: Path, folder: Path, *, training: int, validation: int, fold: int = 0) -> None:
    """The first cases of a fold as a cohort of their own, by links."""
    splits = json.loads((cohort / "splits.json").read_text())[fold]
    chosen = {"train": splits["train"][:training], "val": splits["val"][:validation]}
    keys = [key for part in chosen.values() for key in part]
    for part in ("imagesTr", "labelsTr"):
        (folder / part).mkdir(parents=True, exist_ok=True)
        for key in keys:
            for path in [*(cohort / part).glob(f"{key}_*.nii.gz"), *(cohort / part).glob(f"{key}.nii.gz")]:
                target = folder / part / path.name
                target.unlink(missing_ok=True)
                target.symlink_to(path.resolve())
    dataset = json.loads((cohort / "dataset.json").read_text()) | {"numTraining": len(keys)}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "splits.json").write_text(json.dumps([chosen]))
    with (cohort / "cases.csv").open(encoding="utf-8", newline="") as file:
        header, *rows = csv.reader(file)
    with (folder / "cases.csv").open("w", encoding="utf-8", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows([header, *(row for row in rows if row[0] in set(keys))])

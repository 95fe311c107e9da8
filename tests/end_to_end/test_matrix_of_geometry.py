"""Positions through the whole walk, whoever wrote the files: convert, check, train, predict, evaluate, export and back.

Images and labels are written by nibabel and ITK here, with the headers that SimpleITK, plastimatch and dcm2niix give
(recorded in `headers_of_writers.json`), in eight orientations, straight, oblique and under a tilted gantry, with qform,
sform, both, and both in contradiction. What volseg writes is read by nibabel, by ITK and by slicerio: no labelled voxel
may be 1 % of a voxel away. Series of DICOM are walked in `test_matrix_of_dicom.py`.
"""

from __future__ import annotations

import csv
import gzip
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import itk
import nibabel as nib
import numpy as np
import pytest
from positions import (
    LABELS,
    NEAR,
    ORIENTATIONS,
    TURNS,
    WORST,
    by_itk,
    by_nibabel,
    by_slicerio,
    check_near,
    grid,
    itk_image,
    label_of,
    places,
    run,
    turned,
    write_network,
)

from volseg.cohort import Cohort
from volseg.formats import UwMadison
from volseg.transforms import preprocessing
from volseg.volume import read_volume

FORMS = ("sform", "qform", "both", "itk", "template", "contradict", "sizes", "micrometres")
# What `check` says of each form that programs read in several ways.
SAID = {
    "contradict": "qform and sform place voxels more than a tenth of a voxel apart",
    "tilt 12": "qform and sform place voxels more than a tenth of a voxel apart",
    "sizes": "the voxel sizes of the sform contradict pixdim",
    "micrometres": "lengths are stated in micrometres",
}


@dataclass(frozen=True)
class Scan:
    """One case: how its header is written, and where its voxels truly lie (RAS mm)."""

    key: str
    shape: tuple[int, int, int]
    truth: np.ndarray
    form: str
    header: dict[str, Any]

    @property
    def consistent(self) -> bool:
        """Whether every program reads the same from its header."""
        return self.form not in ("contradict", "sizes")

    @property
    def sheared(self) -> bool:
        """Whether its axes are not at right angles, so that no distance in mm is computed."""
        axes = self.truth[:3, :3] / np.linalg.norm(self.truth[:3, :3], axis=0)
        return float(np.abs(axes.T @ axes - np.eye(3)).max()) > 1e-3

    @property
    def label(self) -> np.ndarray:
        """What is labelled in it, and bright."""
        return label_of(self.shape)


def scans_of(axes, turn) -> Iterator[Scan]:
    """A grid with each form of header."""
    shape, affine = grid(axes, turn)
    for form in FORMS:
        yield Scan(f"{axes}_{turn}_{form}".lower(), shape, affine, form, {})


def recorded() -> Iterator[Scan]:
    for header in json.loads((Path(__file__).parent / "headers_of_writers.json").read_text()):
        key = re.sub("[^a-z0-9]+", "_", f"{header['writer'].split()[0]} {header['name']}".lower())
        if "marker" in header:  # the true affine: the sform, which its own marker bears out below
            truth = np.eye(4)
            truth[:3] = np.array(header["srow"]).reshape(3, 4)
            yield Scan(key, tuple(header["shape"]), truth, "tilt 12" if header["name"] == "tilt 12" else "both", header)
        else:
            yield Scan(key, *grid(header["axes"], header["turn"]), "both", header)


def write(path: Path, voxels: np.ndarray, scan: Scan, *, by: str | None = None) -> None:
    """Write a file as another program would: `by` the form of the header, else as the scan has it."""
    form = by or scan.form
    if form == "itk":
        itk.imwrite(itk_image(voxels, scan.truth), str(path))
        return
    if scan.header:
        header = nib.Nifti1Header()
        header.set_data_dtype(voxels.dtype)
        header.set_data_shape(voxels.shape)
        fields = scan.header
        header["qform_code"], header["sform_code"] = fields["codes"]
        header["pixdim"][:4], header["xyzt_units"], header["vox_offset"] = fields["pixdim"], fields["xyzt_units"], 352
        header["scl_slope"] = 1
        for name, value in zip("bcd", fields["quatern"], strict=True):
            header[f"quatern_{name}"] = value
        for index, name in enumerate("xyz"):
            header[f"qoffset_{name}"] = fields["offset"][index]
            header[f"srow_{name}"] = fields["srow"][4 * index : 4 * index + 4]
        header["magic"] = b"n+1"
        path.write_bytes(gzip.compress(header.binaryblock + bytes(4) + voxels.tobytes(order="F"), 1))
        return
    unit = np.diag([1000.0] * 3 + [1.0]) if form == "micrometres" else np.eye(4)
    image = nib.Nifti1Image(voxels, unit @ scan.truth)  # sform alone, as nibabel does
    if form == "micrometres":
        image.set_qform(unit @ scan.truth, 1)
        image.header.set_xyzt_units("micron")
    elif form != "sform":
        qform, sform, code = scan.truth, scan.truth, {"qform": 0, "template": 4, "contradict": 2}.get(form, 1)
        if form == "contradict":
            qform = of_qform(scan)
        elif form == "sizes":  # as in ACDC: directions without the sizes of voxels
            sform = np.diag([-1.0, -1.0, 1.0, 1.0])
        image.set_qform(qform, 1)
        image.set_sform(sform, code)
        image.header["pixdim"][1:4] = np.linalg.norm(qform[:3, :3], axis=0)
    nib.save(image, path)


def of_qform(scan: Scan) -> np.ndarray:
    """What the contradicting qform says: 10 degrees and 9 mm away."""
    other = np.eye(4)
    other[:3, :3], other[:3, 3] = turned(10, 0), (0, 9, 0)
    return other @ scan.truth


def walk(folder: Path, scans: list[Scan]) -> None:
    """Send all scans through every command, and look at each result with the peers."""
    raw, cohort_at = folder / "raw", folder / "cohort"
    for part in ("imagesTr", "labelsTr"):
        (raw / part).mkdir(parents=True)
    for number, scan in enumerate(scans):
        write(raw / "imagesTr" / f"{scan.key}_0000.nii.gz", scan.label.astype(np.int16) * 1000, scan)
        # Every second label of a consistent scan is written by another program than its image.
        other = (
            ("itk", "sform", "both")[number // 2 % 3] if number % 2 and scan.consistent and not scan.sheared else None
        )
        write(raw / "labelsTr" / f"{scan.key}.nii.gz", scan.label, Scan(*vars(scan).values()) if other is None else
              Scan(scan.key, scan.shape, scan.truth, other, {}))  # fmt: skip
    facts = {"channel_names": {"0": "CT"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}
    (raw / "dataset.json").write_text(json.dumps({**facts, "numTraining": len(scans)}))

    run("convert", "decathlon", raw, cohort_at, "--folds", "2")
    cohort = Cohort.open(cohort_at)
    assert sorted(cohort.keys) == sorted(scan.key for scan in scans)
    for scan in scans:
        image, label = cohort.image_paths(scan.key)[0], cohort.label_path(scan.key)
        check_files("cohort", scan, image, label)
        check_read("image", scan, image)
        check_read("label", scan, label)

    # What all programs read alike needs no word; of the others `check` says each kind once.
    odd = {scan.key for scan in scans if scan.form in SAID}
    assert {row.key for row in cohort.rows.values() if row.warnings} == odd
    told = run("check", cohort_at)
    for words in set(SAID.values()):
        count = sum(SAID.get(scan.form) == words for scan in scans)
        assert told.count(words) == (count > 0)
        assert not count or re.search(rf"{words}[^\n]*in {count} of {len(scans)} cases", told.replace("\n", " "))
    run("check", cohort_at, "--strict", code=1 if odd else 0)

    bundle, checkpoint = write_network(folder)
    settings = ("--dataset_dir", cohort_at, "--output_dir", folder / "run", "--spacing_mm", "[1.2,0.9,2.5]")
    assert "the checks passed" in run("train", bundle, *settings, "--roi_size", "[8,8,8]", "--dry")

    run(
        "predict",
        bundle,
        cohort_at,
        "-o",
        folder / "pred",
        "--checkpoint",
        checkpoint,
        "--engine",
        "torch",
        "--no-skip-empty",
    )
    for scan in scans:
        prediction = folder / "pred" / f"{scan.key}.nii.gz"
        if not scan.sheared:  # those are resampled for the network, and so a little smoothed
            check_files("prediction", scan, cohort.image_paths(scan.key)[0], prediction)
            check_read("prediction", scan, prediction)
        check_grid(scan, cohort.image_paths(scan.key)[0], prediction)

    # Tilted grids are named and not scored: their distances in mm would be wrong.
    tilted = [scan.key for scan in scans if scan.sheared]
    run("evaluate", folder / "pred", cohort_at, "-o", folder / "report", "--no-html", code=1 if tilted else 0)
    with (folder / "report" / "cases.csv").open() as table:
        rows = {row["key"]: row for row in csv.DictReader(table)}
    assert {key: float(row["dice"]) for key, row in rows.items() if key not in tilted} == {
        scan.key: 1.0 for scan in scans if not scan.sheared
    }
    assert {row["surface_dice"] for key, row in rows.items() if key not in tilted} == {"1.0"}
    assert all("right angles" in rows[key]["error"] for key in tilted)

    run("export", "slicer", folder / "pred", "-o", folder / "slicer")
    for scan in scans:
        predicted = nib.load(folder / "pred" / f"{scan.key}.nii.gz").get_fdata()
        for reader in (by_slicerio,) if scan.sheared else (by_itk, by_slicerio):
            voxels, affine = reader(folder / "slicer" / f"{scan.key}.seg.nrrd")
            at = places(predicted, scan.truth)  # of a sheared one a little smoothed, but where the file says
            check_near(f"seg.nrrd by {reader.__name__}", places(voxels, affine), at, scan.truth, scan.key)
    code = 1 if tilted else 0
    run("evaluate", folder / "slicer", folder / "cohort", "-o", folder / "home", "--no-html", code=code)
    with (folder / "home" / "cases.csv").open() as table:
        assert {row["key"]: row["dice"] for row in csv.DictReader(table) if row["key"] not in tilted} == {
            scan.key: "1.0" for scan in scans if not scan.sheared
        }
    check_slices(folder, cohort, scans)


def check_scan(what: str, held: np.ndarray, scan: Scan) -> None:
    check_near(what, held, places(scan.label, scan.truth), scan.truth, scan.key)


def check_files(what: str, scan: Scan, image: Path, label: Path) -> None:
    """Both peers see the label where they see the image, and where the header is of one mind, at the true place."""
    for reader in (by_nibabel, by_itk):
        if reader is by_itk and scan.sheared:
            continue  # ITK holds no sheared grid
        grey, on = reader(image)
        voxels, affine = reader(label)
        name = f"{what} by {reader.__name__}"
        check_near(name, places(voxels, affine), places(grey > 500, on), scan.truth, scan.key)
        if scan.consistent or (reader is by_nibabel and scan.form == "contradict"):
            check_scan(name, places(voxels, affine), scan)


def check_read(what: str, scan: Scan, path: Path) -> None:
    volume = read_volume(path)
    held = volume.voxels > (500 if volume.voxels.max() > 1 else 0)
    check_scan(f"{what} by volseg", places(held, volume.affine_ras), scan)


def check_grid(scan: Scan, image: Path, prediction: Path) -> None:
    """The prediction's file says of its grid what that of the image says, to each peer."""
    ours, theirs = nib.load(prediction), nib.load(image)
    assert ours.shape == theirs.shape
    tolerance = NEAR * float(np.linalg.norm(scan.truth[:3, :3], axis=0).min())
    assert np.allclose(ours.affine, theirs.affine, atol=tolerance), scan.key
    if not scan.sheared:
        assert np.allclose(by_itk(prediction)[1], by_itk(image)[1], atol=tolerance), scan.key


def check_slices(folder: Path, cohort: Cohort, scans: list[Scan]) -> None:
    """Slices and run lengths, read again by their own reader."""
    run("export", "slices", cohort.folder, folder / "slices")
    source = UwMadison(folder / "slices", labels=LABELS)
    for scan in scans:
        case = source.load(f"{scan.key}_day0")
        for held in (case.label, case.channels[0]):
            voxels = held.voxels > (500 if held.voxels.max() > 1 else 0)
            check_scan("slices back in", places(voxels, held.affine_ras), scan)


def test_what_dcm2niix_records_is_where_the_series_lies():
    """The sform of its files against the place of a marker that the DICOM series states, but for a tilted gantry."""
    for header in json.loads((Path(__file__).parent / "headers_of_writers.json").read_text()):
        if "marker" in header:
            found = np.array(header["srow"]).reshape(3, 4) @ [*header["marker"], 1]
            away = np.abs(found - header["marker_ras_mm"]).max() / header["pixdim"][1]
            assert away < NEAR or header["name"] == "tilt 12", header["name"]


# Change of the image per mm to the right, the front and the head.
_SLOPE = np.array([20.0, 28.0, -24.0])


@pytest.mark.parametrize("axes", ORIENTATIONS)
def test_predicted_voxels_under_a_tilted_gantry(tmp_path, axes):
    """Where an image grows linearly in space, what is brighter than a value ends in a plane, whatever grid it is on.

    Resampling a linear function changes nothing within the image. So the voxels that the network finds are those on one
    side of a plane, to 1 % of a voxel, on the sheared grid of the file; and the plane lies near the middle.
    """
    bundle, checkpoint = write_network(tmp_path, slope=0.05)
    (tmp_path / "in").mkdir()
    truth = {}
    for tilt in (5, 12, 20):
        shape, affine = grid(axes, "straight", tilt=tilt)
        values = places(np.ones(shape), affine) @ _SLOPE
        values -= values.mean()
        truth[f"tilt_{tilt}"] = (values, shape, affine)
        image = nib.Nifti1Image(values.reshape(shape).astype(np.float32), affine)
        nib.save(image, tmp_path / "in" / f"tilt_{tilt}_0000.nii.gz")
    options = ("--checkpoint", checkpoint, "--engine", "torch", "--no-skip-empty")
    run("predict", bundle, tmp_path / "in", "-o", tmp_path / "pred", *options)
    before = preprocessing(LABELS, channels=1, spacing_mm=[1.2, 0.9, 2.5], label=False)
    for key, (values, shape, affine) in truth.items():
        predicted = nib.load(tmp_path / "pred" / f"{key}.nii.gz").get_fdata().ravel() > 0
        seen = before({"key": key, "image": [str(tmp_path / "in" / f"{key}_0000.nii.gz")]})["image"]
        threshold = normalised_at_0(seen.numpy()[0], seen.affine.numpy(), affine, shape)
        steps = np.abs(_SLOPE @ affine[:3, :3])  # the change from voxel to voxel along each axis
        inner = np.zeros(shape, bool)
        inner[1:-1, 1:-1, 1:-1] = True  # beyond the image its border is repeated, which is no linear function
        wrong = (predicted != (values > threshold)) & inner.ravel()
        away = float(np.abs(values[wrong] - threshold).max(initial=0) / steps.max())
        WORST["tilted prediction"] = max(WORST.get("tilted prediction", 0.0), away)
        assert away < NEAR, (key, int(wrong.sum()))
        assert abs(threshold) < 0.3 * steps.max(), "the working grid has the middle of the image"


def normalised_at_0(seen, working, affine, shape):
    """The value of the image that became 0, by a line through the voxels of the working grid within the image."""
    at = places(np.ones(seen.shape), working)
    index = (at - affine[:3, 3]) @ np.linalg.inv(affine[:3, :3]).T
    within = ((index > 0) & (index < np.array(shape) - 1)).all(axis=1) & (np.abs(seen.ravel()) < 1)
    middle = places(np.ones(shape), affine).mean(axis=0)
    true, got = ((at - middle) @ _SLOPE)[within], seen.ravel()[within]
    slope, offset = np.polyfit(got, true, 1)
    assert np.abs(slope * got + offset - true).max() < NEAR * np.abs(_SLOPE @ affine[:3, :3]).min()
    return offset


def test_a_share_of_the_matrix(tmp_path):
    """Each orientation, turn and form at least once, and all recorded headers."""
    names = list(TURNS)
    some = [scan for number, axes in enumerate(ORIENTATIONS)
            for place, scan in enumerate(scans_of(axes, names[number % 3])) if (number + place) % 3 == 0]  # fmt: skip
    walk(tmp_path, [*some, *recorded()])


@pytest.mark.slow
def test_the_whole_matrix(tmp_path):
    walk(tmp_path, [scan for axes in ORIENTATIONS for turn in TURNS for scan in scans_of(axes, turn)])
    (tmp_path / "farthest.json").write_text(json.dumps(WORST))  # for docs/reference/formats.md

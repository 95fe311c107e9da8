"""Positions through the whole walk, whoever wrote the files: convert, check, train, predict, evaluate, export.

Images and labels are written by nibabel and ITK here, with the headers that SimpleITK and dcm2niix give (recorded in
`headers_of_writers.json`), in eight orientations, straight and oblique, with qform, sform, both, and both in
contradiction. What volseg writes is read by nibabel, by ITK and by slicerio: no labelled voxel may be
1 % of a voxel away.
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
import slicerio
import tiny_bundle
import torch
from scipy.spatial import cKDTree
from typer.testing import CliRunner

from volseg.bundle import Recipe
from volseg.cli import app
from volseg.cohort import Cohort
from volseg.labels import LabelTable
from volseg.volume import read_volume

LABELS = LabelTable.exclusive(["organ"])
ORIENTATIONS = ("RAS", "LPS", "LPI", "RPI", "AIR", "SLP", "PSR", "IAL")
TURNS = {"straight": (0, 0), "oblique": (20, 0), "double": (-13, 27)}
FORMS = ("sform", "qform", "both", "itk", "template", "contradict", "sizes", "micrometres")
# What `check` says of each form that programs read in several ways.
SAID = {
    "contradict": "qform and sform place voxels more than a tenth of a voxel apart",
    "tilt 12": "qform and sform place voxels more than a tenth of a voxel apart",
    "sizes": "the voxel sizes of the sform contradict pixdim",
    "micrometres": "lengths are stated in micrometres",
}
SPACING, COUNT = {"R": 1.2, "A": 0.9, "S": 2.5}, {"R": 10, "A": 12, "S": 8}
LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
NEAR = 0.01  # of a voxel


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
        """Two boxes and a single voxel: no flip and no turn leaves it as it is."""
        voxels = np.zeros(self.shape, np.uint8)
        voxels[2:6, 3:7, 2:4] = voxels[2:4, 3:5, 4:6] = voxels[-2, -3, -2] = 1
        return voxels


def turned(tilt, about_head):
    t, u = np.radians((tilt, about_head))
    one = np.array([[1, 0, 0], [0, np.cos(t), -np.sin(t)], [0, np.sin(t), np.cos(t)]])
    return one @ np.array([[np.cos(u), -np.sin(u), 0], [np.sin(u), np.cos(u), 0], [0, 0, 1]])


def grid(axes, turn):
    """Shape and affine of a grid whose spacings belong to the body's axes, so that each orientation has its own."""
    steps, shape = np.zeros((3, 3)), []
    for column, letter in enumerate(axes):
        towards = letter if letter in "RAS" else "RAS"["LPI".index(letter)]
        steps["RAS".index(towards), column] = SPACING[towards] * (1 if letter == towards else -1)
        shape.append(COUNT[towards])
    affine = np.eye(4)
    affine[:3, :3] = turned(*TURNS[turn]) @ steps
    affine[:3, 3] = (11.3, -27.7, 312.9) - affine[:3, :3] @ ((np.array(shape) - 1) / 2)
    return tuple(shape), affine


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


def itk_image(voxels, affine_ras):
    lps = LPS @ affine_ras
    steps = np.linalg.norm(lps[:3, :3], axis=0)
    image = itk.image_from_array(np.ascontiguousarray(voxels.T))
    image.SetSpacing(steps.tolist())
    image.SetOrigin(lps[:3, 3].tolist())
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(lps[:3, :3] / steps)))
    return image


def by_nibabel(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = nib.load(path)
    return np.asarray(image.dataobj), image.affine


def by_itk(path: Path) -> tuple[np.ndarray, np.ndarray]:
    image = itk.imread(str(path))
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(image.GetDirection()) @ np.diag(list(image.GetSpacing()))
    affine[:3, 3] = list(image.GetOrigin())
    return itk.array_from_image(image).T, LPS @ affine


def by_slicerio(path: Path) -> tuple[np.ndarray, np.ndarray]:
    found = slicerio.read_segmentation(str(path))
    return found["voxels"], LPS @ found["ijkToLPS"]


def places(voxels: np.ndarray, affine: np.ndarray) -> np.ndarray:
    """(N, 3) in RAS mm: the centres of what is labelled."""
    at = np.argwhere(voxels)
    return at @ np.asarray(affine)[:3, :3].T + np.asarray(affine)[:3, 3]


def apart(one: np.ndarray, other: np.ndarray, voxel_mm: float) -> float:
    """The largest distance from a place of either to the nearest of the other, in voxels; inf where one is empty."""
    if not len(one) or not len(other):
        return np.inf
    return float(max(cKDTree(a).query(b)[0].max() for a, b in ((one, other), (other, one)))) / voxel_mm


def run(*words: object, code: int = 0) -> str:
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, f"{result.output}\n{result.exception!r}"
    return result.output


def write_network(folder: Path) -> tuple[Path, Path]:
    """A bundle whose network finds what is brighter than the mean: a convolution of one voxel."""
    bundle = tiny_bundle.write_bundle(folder / "bundle")
    for name, channels in (("train.json", "cohort"), ("inference.json", "recipe")):
        content = json.loads((bundle / name).read_text())
        content["network_def"] = {
            "_target_": "torch.nn.Conv3d",
            "in_channels": f"$len(@{channels}.channel_names)",
            "out_channels": "$@labels.channels",
            "kernel_size": 1,
        }
        (bundle / name).write_text(json.dumps(content))
    network = torch.nn.Conv3d(1, 2, 1)
    with torch.no_grad():
        network.weight[:] = torch.tensor([-5.0, 5.0]).reshape(2, 1, 1, 1, 1)
        network.bias[:] = 0
    recipe = Recipe(LABELS, ["CT"], [1.2, 0.9, 2.5], [16, 16, 16], {"feature_size": 12, "window_size": 4}, {})
    torch.save({"model": network.state_dict(), "recipe": recipe.state_dict()}, folder / "model.pt")
    return bundle, folder / "model.pt"


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
        check_files(scan, image, label)
        check_read(scan, image)
        check_read(scan, label)

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
            check_files(scan, cohort.image_paths(scan.key)[0], prediction)
            check_read(scan, prediction)
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
        if scan.sheared:
            continue
        file = folder / "slicer" / f"{scan.key}.seg.nrrd"
        for reader in (by_itk, by_slicerio):
            voxels, affine = reader(file)
            assert apart(places(voxels, affine), places(scan.label, scan.truth), voxel(scan)) < NEAR, (scan.key, reader)


def voxel(scan: Scan) -> float:
    return float(np.linalg.norm(scan.truth[:3, :3], axis=0).min())


def check_files(scan: Scan, image: Path, label: Path) -> None:
    """Both peers see the label where they see the image, and where the header is of one mind, at the true place."""
    for reader in (by_nibabel, by_itk):
        if reader is by_itk and scan.sheared:
            continue  # ITK holds no sheared grid
        grey, on = reader(image)
        voxels, affine = reader(label)
        assert apart(places(voxels, affine), places(grey > 500, on), voxel(scan)) < NEAR, (scan.key, reader.__name__)
        if scan.consistent or (reader is by_nibabel and scan.form == "contradict"):
            assert apart(places(voxels, affine), places(scan.label, scan.truth), voxel(scan)) < NEAR, scan.key


def check_read(scan: Scan, path: Path) -> None:
    volume = read_volume(path)
    held = volume.voxels > (500 if volume.voxels.max() > 1 else 0)
    assert apart(places(held, volume.affine_ras), places(scan.label, scan.truth), voxel(scan)) < NEAR, scan.key


def check_grid(scan: Scan, image: Path, prediction: Path) -> None:
    """The prediction's file says of its grid what that of the image says, to each peer."""
    ours, theirs = nib.load(prediction), nib.load(image)
    assert ours.shape == theirs.shape
    assert np.allclose(ours.affine, theirs.affine, atol=NEAR * voxel(scan)), scan.key
    if not scan.sheared:
        assert np.allclose(by_itk(prediction)[1], by_itk(image)[1], atol=NEAR * voxel(scan)), scan.key


def test_what_dcm2niix_records_is_where_the_series_lies():
    """The sform of its files against the place of a marker that the DICOM series states, but for a tilted gantry."""
    for header in json.loads((Path(__file__).parent / "headers_of_writers.json").read_text()):
        if "marker" in header:
            found = np.array(header["srow"]).reshape(3, 4) @ [*header["marker"], 1]
            away = np.abs(found - header["marker_ras_mm"]).max() / header["pixdim"][1]
            assert away < NEAR or header["name"] == "tilt 12", header["name"]


def test_a_share_of_the_matrix(tmp_path):
    """Each orientation, turn and form at least once, and all recorded headers."""
    names = list(TURNS)
    some = [scan for number, axes in enumerate(ORIENTATIONS)
            for place, scan in enumerate(scans_of(axes, names[number % 3])) if (number + place) % 3 == 0]  # fmt: skip
    walk(tmp_path, [*some, *recorded()])


@pytest.mark.slow
def test_the_whole_matrix(tmp_path):
    walk(tmp_path, [scan for axes in ORIENTATIONS for turn in TURNS for scan in scans_of(axes, turn)])

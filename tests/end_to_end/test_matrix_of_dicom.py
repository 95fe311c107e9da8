"""Positions through the walk of DICOM series: convert, check, train, predict, evaluate, export, and back in.

Labels are SEG objects by highdicom, written here, and RTSTRUCTs with the outlines that rt-utils and plastimatch drew of
the same label on the same series (recorded in `contours_of_writers.json`). What volseg writes is read by nibabel, ITK,
slicerio, highdicom and by plain arithmetic on the elements of the objects: no labelled voxel may be 1 % of a voxel off.
"""

from __future__ import annotations

import csv
import json
from pathlib import Path

import highdicom
import numpy as np
import pydicom
import pytest
from dicom_series import save, series, structure_set
from positions import (
    LABELS,
    LPS,
    ORIENTATIONS,
    TURNS,
    WORST,
    by_itk,
    by_nibabel,
    by_slicerio,
    check_near,
    grid,
    label_of,
    places,
    run,
    write_network,
)
from pydicom.sr.codedict import codes
from pydicom.uid import generate_uid

from volseg.cohort import Cohort
from volseg.formats import UwMadison

RECORDED = json.loads((Path(__file__).parent / "contours_of_writers.json").read_text())


def segmentation(images, label):
    """The object that highdicom writes for a label [X, Y, Z] on the images of a series."""
    organ = highdicom.seg.SegmentDescription(
        segment_number=1,
        segment_label="organ",
        segmented_property_category=codes.SCT.Organ,
        segmented_property_type=codes.SCT.Liver,
        algorithm_type="MANUAL",
    )
    return highdicom.seg.Segmentation(
        source_images=images,
        pixel_array=np.ascontiguousarray(label.transpose(2, 1, 0)),
        segmentation_type="BINARY",
        segment_descriptions=[organ],
        series_instance_uid=generate_uid(),
        series_number=50,
        sop_instance_uid=generate_uid(),
        instance_number=1,
        manufacturer="a",
        manufacturer_model_name="b",
        software_versions="c",
        device_serial_number="d",
    )


def write_series(folder, key, affine, number):
    """A series of which the label is the bright part, in a study of its own."""
    shape = tuple(int(n) for n in number[0])
    images = series(
        label_of(shape).astype(np.int16) * (1000 + int(number[1])),
        LPS @ affine,
        PatientID=key,
        study=f"1.2.826.0.1.3680043.8.498.2.{number[1]}",
    )
    save(folder / key, images)
    return images


def outlines_of(axes, turn, writer):
    """The outlines (n, 3) in LPS mm that a program drew; None if none are recorded."""
    found = [r for r in RECORDED if (r["axes"], r["turn"]) == (axes, turn) and r["writer"].startswith(writer)]
    return [np.array(points).reshape(-1, 3) for points in found[0]["contours"]] if found else None


def by_highdicom(path):
    volume = highdicom.seg.segread(path).get_volume(combine_segments=True)
    return volume.array > 0, LPS @ volume.affine


def by_elements_of_seg(path):
    """(N, 3) in RAS mm: the marked pixels of each frame, by its position, orientation and spacing alone."""
    read = pydicom.dcmread(path)
    shared, frames = read.SharedFunctionalGroupsSequence[0], read.PerFrameFunctionalGroupsSequence
    across, down = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float).reshape(2, 3)
    rows_mm, columns_mm = map(float, shared.PixelMeasuresSequence[0].PixelSpacing)
    found = []
    for pixels, frame in zip(np.atleast_3d(read.pixel_array.reshape(-1, read.Rows, read.Columns)), frames, strict=True):
        row, column = np.nonzero(pixels)
        start = np.array(frame.PlanePositionSequence[0].ImagePositionPatient, float)
        found.append(start + column[:, None] * columns_mm * across + row[:, None] * rows_mm * down)
    return np.concatenate(found) @ LPS[:3, :3]


def by_elements_of_rtstruct(path, shape, affine):
    """(N, 3) in RAS mm: the voxels whose centre lies within an outline, by the rule of even and odd crossings."""
    inside = np.zeros(shape, bool)
    x, y = np.meshgrid(np.arange(shape[0]) + 1e-6, np.arange(shape[1]) + 1e-6, indexing="ij")
    for contour in pydicom.dcmread(path).ROIContourSequence[0].ContourSequence:
        points = np.array(contour.ContourData, float).reshape(-1, 3)
        at = np.linalg.solve(np.linalg.inv(np.linalg.inv(LPS @ affine)), np.c_[points, np.ones(len(points))].T)[:3].T
        z = np.rint(at[:, 2])
        assert np.abs(at[:, 2] - z).max() < 0.01, "an outline lies in the plane of its slice"
        odd = np.zeros(shape[:2], bool)
        for (x0, y0, _), (x1, y1, _) in zip(at, np.roll(at, -1, axis=0), strict=True):
            crosses = (y0 > y) != (y1 > y)
            with np.errstate(divide="ignore", invalid="ignore"):
                odd ^= crosses & (x < (x1 - x0) * (y - y0) / (y1 - y0) + x0)
        inside[:, :, int(z[0])] ^= odd
    return places(inside, affine)


def walk(folder, grids):
    """Send series on all grids through every command, and look at each result with the peers."""
    truth, images = {}, {}
    writers = {}
    for number, (axes, turn) in enumerate(grids):
        key = f"{axes}_{turn}".lower()
        shape, affine = grid(axes, turn)
        truth[key] = (shape, affine, places(label_of(shape), affine))
        images[key] = write_series(folder / "images", key, affine, (shape, number))
        save(folder / "raw" / key, images[key])
        writers[key] = ("plastimatch", "highdicom")[number % 2]
        outlines = outlines_of(axes, turn, writers[key])
        if outlines is None:
            writers[key] = "highdicom"
            save(folder / "raw" / key, [segmentation(images[key], label_of(shape))], name="seg{}.dcm".format)
        else:
            save(folder / "raw" / key, [structure_set(images[key], {"organ": outlines})], name="rt{}.dcm".format)
    shape, sheared = grid("LPI", "straight", tilt=12)
    tilted = write_series(folder / "raw", "tilted", sheared, (shape, 99))
    save(folder / "raw" / "tilted", [segmentation(tilted, label_of(shape))], name="s{}.dcm".format)

    own = ("--keep-ids", "--key", "{patient_id}")
    told = run("convert", "dicom", folder / "raw", folder / "cohort", *own, code=1)
    assert "12 degrees (a tilted gantry)" in " ".join(told.split()), "and no grid is made up for it"
    cohort = Cohort.open(folder / "cohort")
    assert sorted(cohort.keys) == sorted(truth)
    for key, (_, affine, at) in truth.items():
        for name, path in (("image", cohort.image_paths(key)[0]), ("label", cohort.label_path(key))):
            for reader in (by_nibabel, by_itk):
                voxels, on = reader(path)
                held = places(voxels > (500 if name == "image" else 0), on)
                check_near(f"{name} of {writers[key]} by {reader.__name__}", held, at, affine, key)
    # Outlines on some slices alone may be told, and that the values are no Hounsfield units; of positions nothing is.
    told = run("check", folder / "cohort")
    others = [line for line in told.splitlines() if "warning:" in line and "is outlined on" not in line]
    assert all("Hounsfield" in line for line in others), others

    bundle, checkpoint = write_network(folder)
    settings = ("--dataset_dir", folder / "cohort", "--output_dir", folder / "run", "--spacing_mm", "[1.2,0.9,2.5]")
    assert "the checks passed" in run("train", bundle, *settings, "--roi_size", "[8,8,8]", "--dry")
    options = ("--checkpoint", checkpoint, "--engine", "torch", "--no-skip-empty")
    run("predict", bundle, folder / "cohort", "-o", folder / "pred", *options)
    run("evaluate", folder / "pred", folder / "cohort", "-o", folder / "report", "--no-html")
    with (folder / "report" / "cases.csv").open() as table:
        assert {(float(row["dice"]), float(row["surface_dice"])) for row in csv.DictReader(table)} == {(1.0, 1.0)}

    for kind in ("dicom-seg", "rtstruct"):
        run("export", kind, folder / "pred", "--dicom", folder / "images", "-o", folder / kind, *own[1:])
    check_objects(folder, truth, own)
    run("export", "slicer", folder / "pred", "-o", folder / "slicer")
    for key, (_, affine, at) in truth.items():
        for reader in (by_itk, by_slicerio):
            voxels, on = reader(folder / "slicer" / f"{key}.seg.nrrd")
            check_near(f"seg.nrrd by {reader.__name__}", places(voxels, on), at, affine, key)
    run("evaluate", folder / "slicer", folder / "cohort", "-o", folder / "home", "--no-html")
    with (folder / "home" / "cases.csv").open() as table:
        assert {float(row["dice"]) for row in csv.DictReader(table)} == {1.0}
    check_slices(folder, truth)


def check_objects(folder, truth, own):
    for kind in ("dicom-seg", "rtstruct"):
        back = folder / f"back {kind}"
        for key, (shape, affine, at) in truth.items():
            ending = "seg" if kind == "dicom-seg" else "rtstruct"
            path = folder / kind / f"{key}.{ending}.dcm"
            if kind == "dicom-seg":
                check_near("SEG by highdicom", places(*by_highdicom(path)), at, affine, key)
                check_near("SEG by its elements", by_elements_of_seg(path), at, affine, key)
            else:
                check_near("RTSTRUCT by even-odd", by_elements_of_rtstruct(path, shape, affine), at, affine, key)
            save(back / key, [pydicom.dcmread(path)], name="object{}.dcm".format)
            for image in sorted((folder / "images" / key).iterdir()):
                (back / key / image.name).write_bytes(image.read_bytes())
        run("convert", "dicom", back, folder / f"cohort {kind}", *own)
        cohort = Cohort.open(folder / f"cohort {kind}")
        for key, (_, affine, at) in truth.items():
            for reader in (by_nibabel, by_itk):
                voxels, on = reader(cohort.label_path(key))
                check_near(f"{kind} back in by {reader.__name__}", places(voxels, on), at, affine, key)


def check_slices(folder, truth):
    run("export", "slices", folder / "cohort", folder / "slices")
    source = UwMadison(folder / "slices", labels=LABELS)
    for key, (_, affine, at) in truth.items():
        case = source.load(f"{key}_day0")
        check_near("slices back in", places(case.label.voxels, case.label.affine_ras), at, affine, key)
        held = case.channels[0].voxels > 500
        check_near("slices back in", places(held, case.channels[0].affine_ras), at, affine, key)


def test_outlines_of_rt_utils_lie_where_they_were_drawn(tmp_path):
    """Of pixels that are square: for others rt-utils 1.2.7 takes the spacing of rows for that of columns."""
    truth = {}
    for number, record in enumerate(r for r in RECORDED if r["writer"].startswith("rt-utils")):
        key = f"{record['axes']}_{record['turn']}".lower()
        shape, affine = grid(record["axes"], record["turn"], square=True)
        truth[key] = (affine, places(label_of(shape), affine))
        images = write_series(tmp_path / "raw", key, affine, (shape, number))
        outlines = [np.array(points).reshape(-1, 3) for points in record["contours"]]
        save(tmp_path / "raw" / key, [structure_set(images, {"organ": outlines})], name="rt{}.dcm".format)
    run("convert", "dicom", tmp_path / "raw", tmp_path / "cohort", "--keep-ids", "--key", "{patient_id}")
    cohort = Cohort.open(tmp_path / "cohort")
    for key, (affine, at) in truth.items():
        for reader in (by_nibabel, by_itk):
            voxels, on = reader(cohort.label_path(key))
            check_near(f"label of rt-utils by {reader.__name__}", places(voxels, on), at, affine, key)


def test_a_share_of_the_matrix_of_dicom(tmp_path):
    """Half of the orientations, with labels of highdicom and of plastimatch."""
    walk(tmp_path, [("AIR", "oblique"), ("LPI", "double"), ("IAL", "double"), ("PSR", "straight")])


@pytest.mark.slow
@pytest.mark.parametrize("first", [0, 1])  # each grid with a SEG of highdicom, and with outlines if they are recorded
def test_the_whole_matrix_of_dicom(tmp_path, first):
    grids = [(axes, turn) for axes in ORIENTATIONS for turn in TURNS]
    walk(tmp_path, [*grids[first:], *grids[:first]])
    (tmp_path / "farthest.json").write_text(json.dumps(WORST))  # for docs/reference/formats.md

"""Folders as clinics have them: what is one stack, what lies beside it, and which object may be written for it."""

from __future__ import annotations

import logging
import os
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import grid, image, noise, save, series, set_pixels
from pydicom import Dataset

from volseg.cohort import Cohort, write_cohort
from volseg.dicom import (
    Dicom,
    export_objects,
    list_series,
    place,
    read_listed,
    read_object_masks,
    read_stack,
    record_of,
    scan,
    write_dicom_seg,
    write_rtstruct,
)
from volseg.errors import LabelError, VolsegError
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

SHAPE = (7, 6, 6)
TABLE = LabelTable.exclusive(["liver"])


def warnings_of(folder: Path) -> list[str]:
    """The warnings of each case of a folder."""
    source = Dicom(folder)
    return ["; ".join(source.load(key).warnings) for key in source.keys()]  # noqa: SIM118


def written(folder: Path, out: Path) -> list[tuple[str, str]]:
    """Predict each series of a folder as one block, and write objects for them; what failed."""
    for path in list_series(folder):
        label = read_listed(path)
        voxels = np.zeros(label.shape, np.uint8)
        voxels[2:4, 2:4] = 1
        key = path.name.removesuffix("_0000.series")
        write_volume(out / f"predictions/{key}.nii.gz", Volume(voxels, label.affine_ras))
    found = []
    for write, ending in ((write_rtstruct, ".rt.dcm"), (write_dicom_seg, ".seg.dcm")):
        found += export_objects(out / "predictions", folder, out / "objects", TABLE, write, ending=ending)
    return found


@pytest.mark.parametrize("cut", [2, 3, 4])
def test_a_stack_under_two_series_uids_is_told(tmp_path: Path, cut: int) -> None:
    images = series(noise(SHAPE), grid(SHAPE))
    for one in images[cut:]:
        one.SeriesInstanceUID += ".5"
    save(tmp_path, images)
    told = sorted(text.partition(" ")[0] for text in warnings_of(tmp_path) if "continue its places and numbers" in text)
    assert told == sorted([str(cut), str(6 - cut)])


@pytest.mark.parametrize("elements", [{"SeriesNumber": 4}, {"SeriesDescription": "Pelvis"}, {"InstanceNumber": 1}])
def test_series_that_abut_are_not_told(tmp_path: Path, elements: dict[str, object]) -> None:
    images = series(noise(SHAPE), grid(SHAPE))
    for number, one in enumerate(images[3:]):
        one.SeriesInstanceUID += ".5"
        for name, value in elements.items():
            setattr(one, name, value + number if name == "InstanceNumber" else value)
    save(tmp_path, images)
    assert warnings_of(tmp_path) == ["", ""]


def secondary_capture(number: int) -> Dataset:
    """A page of doses, as scanners put them at the end of a series."""
    page = image("CT", SOPClassUID="1.2.840.10008.5.1.4.1.1.7", InstanceNumber=number)
    page.file_meta.MediaStorageSOPClassUID = page.SOPClassUID
    page.ImageType = ["DERIVED", "SECONDARY", "SCREEN SAVE"]
    set_pixels(page, np.zeros((6, 7), np.int16))
    return page


@pytest.mark.parametrize("number", [0, 7])
def test_a_page_of_doses_in_a_series_is_no_lost_slice(tmp_path: Path, number: int) -> None:
    save(tmp_path, [*series(noise(SHAPE), grid(SHAPE)), secondary_capture(number)])
    assert warnings_of(tmp_path) == [""]


def test_a_slice_that_lost_its_place_is_a_lost_slice_beside_a_page_of_doses(tmp_path: Path) -> None:
    images = [*series(noise(SHAPE), grid(SHAPE)), secondary_capture(7)]
    del images[5].ImagePositionPatient
    save(tmp_path, images)
    source = Dicom(tmp_path)
    with pytest.raises(VolsegError, match=r"image 6 is absent, at -31\.5, 12\.25, -87\.5 mm"):
        source.load(source.keys()[0])


def test_no_object_is_written_for_two_frames_of_reference(tmp_path: Path) -> None:
    images = series(noise(SHAPE), grid(SHAPE))
    for one in images[3:]:
        one.FrameOfReferenceUID += ".5"
    save(tmp_path / "in", images)
    told = written(tmp_path / "in", tmp_path)
    assert ["state 2 frames of reference" in reason for _, reason in told] == [True, True]
    assert not list(tmp_path.rglob("*.rt.dcm"))


def test_two_days_under_the_same_uids_each_get_their_own_objects(tmp_path: Path) -> None:
    for day, (date, z) in enumerate((("20240103", -100), ("20240110", -98.75))):
        save(tmp_path / f"in/{day}", series(noise(SHAPE), grid(SHAPE, origin=(-31.5, 12.25, z)), StudyDate=date))
    assert written(tmp_path / "in", tmp_path) == []
    dates = sorted(pydicom.dcmread(path).StudyDate for path in tmp_path.rglob("*.seg.dcm"))
    assert dates == ["20240103", "20240110"]


@pytest.mark.parametrize(
    ("elements", "told"),
    [
        ({"ImagesInAcquisition": 9}, "its headers state 9 images, and 6 are there"),
        ({"PhotometricInterpretation": "MONOCHROME1"}, "low numbers bright"),
    ],
)
def test_a_prediction_tells_what_a_conversion_tells(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, elements: dict[str, object], told: str
) -> None:
    save(tmp_path, series(noise(SHAPE), grid(SHAPE), **elements))
    (warned,) = warnings_of(tmp_path)
    assert told in warned
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        (path,) = list_series(tmp_path)
        read_listed(path)
    (record,) = caplog.records
    assert record.getMessage() == f"{path.name.removesuffix('_0000.series')}: {warned}"


def test_a_folder_that_cannot_be_listed_fails_as_a_damaged_file_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its series were missing without a word."""
    save(tmp_path / "one", series(noise(SHAPE), grid(SHAPE)))
    (tmp_path / "two").mkdir()
    scandir = os.scandir

    def scan(path: str = ".") -> object:
        if Path(path) == tmp_path / "two":
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)
    source = Dicom(tmp_path, keep_ids=True)
    (key,) = [key for key in source.keys() if key.startswith("damaged")]  # noqa: SIM118
    with pytest.raises(VolsegError, match=r"two: a folder cannot be listed \(Permission denied\)"):
        source.load(key)


@pytest.mark.parametrize("ending", [".rt.dcm", ".seg.dcm"])
def test_a_prediction_in_floats_loses_no_voxel_in_an_object(tmp_path: Path, ending: str) -> None:
    """Programs that resample save 0.99999994 for 1: such voxels were not outlined, and a segmentation failed."""
    save(tmp_path / "series", series(noise(SHAPE), grid(SHAPE)))
    (path,) = list_series(tmp_path / "series")
    image = read_listed(path)
    voxels = np.zeros(image.shape, np.float32)
    voxels[2:5, 2:5, 1:4] = 1
    voxels[3] *= np.float32(0.99999994)
    key = path.name.removesuffix("_0000.series")
    write_volume(tmp_path / "predictions" / f"{key}.nii.gz", Volume(voxels, image.affine_ras))
    write = write_rtstruct if ending == ".rt.dcm" else write_dicom_seg
    out = tmp_path / "objects"
    assert not export_objects(tmp_path / "predictions", tmp_path / "series", out, TABLE, write, ending=ending)
    found = read_object_masks(out / f"{key}{ending}", image.grid)
    assert np.array_equal(found.masks["liver"], voxels > 0)
    half = place(Volume((voxels > 0) / 2, image.affine_ras), read_stack(scan(tmp_path / "series").series[0]))
    with pytest.raises(LabelError, match=r"holds 0\.5, expected whole numbers"):
        write(tmp_path / "half.dcm", half, TABLE)


def test_what_other_files_say_of_a_case_is_told_anew_at_the_next_conversion(tmp_path: Path) -> None:
    """The warnings of before stayed, or stayed away, whatever had been mended or added."""
    other = {"PatientName": "Babbage^Charles", "PatientBirthDate": "17911226"}
    save(tmp_path / "raw/a", series(noise()))

    def told() -> str:
        write_cohort(Dicom(tmp_path / "raw"), tmp_path / "cohort")
        rows = Cohort.open(tmp_path / "cohort").rows
        return "; ".join(rows[record_of(scan(tmp_path / "raw/a").series[0]).name].warnings)

    assert told() == ""
    save(tmp_path / "raw/b", series(noise(seed=1), series="2", study="1.2.3.4", **other))
    assert "one patient ID stands for 2 names" in told()
    save(tmp_path / "raw/b", series(noise(seed=1), series="2", study="1.2.3.4", PatientID="4712", **other))
    assert told() == ""

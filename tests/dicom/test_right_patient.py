"""A label is on the series that it was drawn on, and an object for the series that it was made from: no other."""

from __future__ import annotations

import shutil
from dataclasses import replace
from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pydicom
import pytest
from dicom_series import grid, noise, save, series
from dicom_set_ups import SHAPE, Place, SetUp, set_ups
from hypothesis import given, settings
from pydicom.uid import generate_uid

from volseg.dicom import Dicom, export_objects, record_of, scan, write_rtstruct
from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.volume import Volume, provenance_of, read_volume, with_provenance, write_volume

TABLE = LabelTable.exclusive(["organ"])


def read(set_up: SetUp, folder: Path) -> tuple[dict[tuple[Place, str], set[int]], dict[Place, str]]:
    """The slices of each region on each series, and the warnings of each series; each modality by itself."""
    slices: dict[tuple[Place, str], set[int]] = {}
    warned: dict[Place, str] = {}
    for modality in sorted({set_up.modality_of(one) for one in set_up.there}):
        source = Dicom(folder, modality=modality, keep_ids=True)
        for key in source.keys():  # noqa: SIM118
            case = source.load(key)
            name = source._cases[key][0].first.first.name
            (place,) = [one for one in set_up.there if name.startswith(f"{one.name}_")]
            warned[place] = " ".join(case.warnings)
            for region in source.labels.regions if case.label is not None else ():
                there = np.isin(case.label.voxels, region.values).any(axis=(0, 1))
                if there.any():
                    slices[place, region.name] = set(np.flatnonzero(there).tolist())
    return slices, warned


def check_labels(set_up: SetUp) -> None:
    """No region on a series that it was not drawn on, and each on its own where the drawing says so."""
    with TemporaryDirectory() as name:
        set_up.write(Path(name))
        slices, warned = read(set_up, Path(name))
    for drawing in set_up.drawn:
        for target in filter(None, (drawing.target, drawing.second)):
            for place, told in warned.items():
                held = slices.get((place, target.name), set())
                if held:
                    assert not set_up.contradicted(drawing), (drawing, place)
                    if "frame" not in drawing.ways or set_up.frames == "absent":
                        assert "no frame of reference" in told, (drawing, told)
                for z in held:
                    if drawing.owner(target, z) != place:
                        assert set_up.may_label(drawing, place), (drawing, place, set_up)
                        assert "was matched by" in told, (drawing, told)
            if drawing.explicit and target in warned and not set_up.contradicted(drawing):
                drawn = {z for z in (0, 1) if drawing.owner(target, z) == target}
                assert slices.get((target, target.name), set()) == drawn, (drawing, set_up, warned)


@given(set_ups())
@settings(max_examples=40)
def test_no_label_is_on_what_it_was_not_drawn_on(set_up: SetUp) -> None:
    check_labels(set_up)


@pytest.mark.long
@given(set_ups())
@settings(max_examples=1000)
def test_no_label_is_on_what_it_was_not_drawn_on_in_a_thousand_set_ups(set_up: SetUp) -> None:
    check_labels(set_up)


# --- objects


def predicted(place: Place, set_up: SetUp, folder: Path) -> tuple[str, Path]:
    """The key of a series, and a prediction of it with its record."""
    save(folder / "from" / place.name, set_up.images_of(place))
    source = Dicom(folder / "from" / place.name)
    (key,) = source.keys()
    image = source.load(key).channels[0]
    path = folder / "predictions" / f"{key}.nii.gz"
    write_volume(path, Volume(np.ones(image.shape, np.uint8), image.affine_ras))
    return key, path


def exported(path: Path, archive: Path, out: Path, **options: str) -> str:
    """Why an object was not written; empty if it was."""
    told = export_objects(path, archive, out, TABLE, write_rtstruct, ending=".dcm", **options)
    return told[0][1] if told else ""


@given(set_ups())
@settings(max_examples=15)
def test_an_object_is_written_for_the_series_of_its_prediction_alone(set_up: SetUp) -> None:
    with TemporaryDirectory() as name:
        folder = Path(name)
        replace(set_up, drawn=()).write(folder / "archive")
        for place in {drawing.target for drawing in set_up.drawn} | set(sorted(set_up.there, key=str)[:1]):
            key, path = predicted(place, set_up, folder)
            for count, stem in enumerate((key, "liver")):
                out = folder / f"{place.name}{count}.dcm"
                told = exported(path.rename(path.with_name(f"{stem}.nii.gz")), folder / "archive", out)
                path = path.with_name(f"{stem}.nii.gz")
                stated = bool(set_up.frame_of(place))
                assert (place in set_up.there and stated) == (told == ""), (place, set_up, told)
                if place not in set_up.there:
                    assert f"made from {key}, which is not in the folder" in told
                    assert not out.exists()
                elif stated:
                    written = pydicom.dcmread(out)
                    assert str(written.StudyInstanceUID) == set_up.study_of(place)
                    series_ = written.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
                    uid = series_.RTReferencedSeriesSequence[0].SeriesInstanceUID
                    assert uid == set_up.images_of(place)[0].SeriesInstanceUID


ONE = SetUp(frozenset({Place(0, 0, 1)}), (), "study", "own")


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"PatientID": "another"}, "of another patient"),
        (
            {"StudyInstanceUID": "1.2.3.4", "StudyDate": "20240201"},
            "of another study of this patient, on another day perhaps",
        ),
        ({"SeriesInstanceUID": "1.2.3.5"}, "another series of this study"),
        ({"SOPInstanceUID": None}, "of other images, or of another day, under the same UIDs"),
        ({"StudyDate": "20240201"}, "of other images, or of another day, under the same UIDs"),
        ({"AcquisitionDate": "20240201"}, "of other images, or of another day, under the same UIDs"),
        ({"FrameOfReferenceUID": "1.2.3.6"}, "of another frame of reference"),
    ],
)
def test_what_tells_a_series_from_that_of_a_prediction(tmp_path: Path, change: dict[str, str], told: str) -> None:
    (place,) = ONE.there
    key, path = predicted(place, ONE, tmp_path)
    images = ONE.images_of(place)
    for item in images:
        for name, value in change.items():
            setattr(item, name, value or generate_uid())
    save(tmp_path / "archive", images)
    out = tmp_path / "out.dcm"
    reason = exported(path, tmp_path / "archive", out)
    assert f"made from {key}, which is not in the folder" in reason
    assert f" there is {told}; name the folder of its own series" in reason
    assert not out.exists()
    asked = reason.rpartition(" ")[2]
    assert exported(path, tmp_path / "archive", out, for_series=asked) == ""
    assert exported(path, tmp_path / "archive", out, for_series=str(images[0].SeriesInstanceUID)) == ""


def test_a_prediction_whose_file_has_a_space_in_its_name_is_exported(tmp_path: Path) -> None:
    place = Place(0, 0, 1)
    _, path = predicted(place, ONE, tmp_path)
    assert exported(path.rename(path.with_name("Müller 1.nii.gz")), tmp_path / "from", tmp_path / "out") == ""
    assert (tmp_path / "out" / "Müller 1.dcm").is_file()


def test_for_series_checks_the_voxels_and_names_one_series(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    place = Place(0, 0, 1)
    _, path = predicted(place, ONE, tmp_path)
    other = series(noise(SHAPE), grid(SHAPE, origin=(0, 0, 0)), series="5", PatientID="B")
    save(tmp_path / "archive", other)
    uid = str(other[0].SeriesInstanceUID)
    out = tmp_path / "out.dcm"
    assert "does not lie on the voxels" in exported(path, tmp_path / "archive", out, for_series=uid)
    with pytest.raises(UsageError, match="is no series of the folder; there are p"):
        exported(path, tmp_path / "archive", out, for_series="1.2.3")
    shutil.copy(path, path.with_name("second.nii.gz"))
    with pytest.raises(UsageError, match="holds 2 predictions; name one"):
        exported(path.parent, tmp_path / "archive", tmp_path / "out", for_series=uid)
    save(tmp_path / "both", series(noise(SHAPE), grid(SHAPE), series="5", PatientID="B"))
    caplog.clear()
    assert exported(path, tmp_path / "both", out, for_series=uid) == ""
    assert "its record names p" in caplog.text
    assert pydicom.dcmread(out).PatientID == "B"


def test_predictions_of_other_programs_need_a_key_or_a_word(tmp_path: Path) -> None:
    """Without a record a key that names patient and series counts, and no other name does."""
    place = Place(0, 0, 1)
    key, path = predicted(place, ONE, tmp_path)
    ONE.write(tmp_path / "archive")
    bare = read_volume(path)
    write_volume(path, Volume(bare.voxels, np.array(bare.affine_ras)))
    out = tmp_path / "out.dcm"
    assert exported(path, tmp_path / "archive", out) == ""
    for stem, pattern, reason in (
        ("liver", "{patient}_{series}", f"name the series with --for-series {key}"),
        ("day0", "{session}", "does not tell patients and series apart"),
        ("p0123456789_s01234567", "{patient}_{series}", "may be another patient's or another day's"),
    ):
        path = path.rename(path.with_name(f"{stem}.nii.gz"))
        out.unlink(missing_ok=True)
        assert reason in exported(path, tmp_path / "archive", out, key=pattern)
        assert not out.exists()
    assert exported(path, tmp_path / "archive", out, for_series=key) == ""


def test_a_record_that_contradicts_the_name_or_is_damaged_is_refused(tmp_path: Path) -> None:
    place = Place(0, 0, 1)
    key, path = predicted(place, ONE, tmp_path)
    ONE.write(tmp_path / "archive")
    renamed = path.with_name("p0123456789_s01234567.nii.gz")
    shutil.copy(path, renamed)
    out = tmp_path / "out.dcm"
    assert f"named after the series p0123456789_s01234567, and was made from {key}" in exported(
        renamed, tmp_path / "archive", out
    )
    label = read_volume(path)
    damaged = with_provenance(label.affine_ras, provenance_of(label.affine_ras)[:-3])
    write_volume(path, Volume(label.voxels, damaged))
    assert "is damaged (70 letters)" in exported(path, tmp_path / "archive", out)


def test_a_record_that_was_made_with_a_secret_needs_it(tmp_path: Path) -> None:
    place = Place(0, 0, 1)
    ONE.write(tmp_path / "archive")
    source = Dicom(tmp_path / "archive", secret="of the hospital")
    (key,) = source.keys()
    image = source.load(key).channels[0]
    path = tmp_path / "liver.nii.gz"
    write_volume(path, Volume(np.ones(image.shape, np.uint8), image.affine_ras))
    plain = record_of(scan(tmp_path / "archive").series[0])
    assert not set(provenance_of(image.affine_ras).split()[2:]) & set(str(plain).split())
    out = tmp_path / "out.dcm"
    assert "made with a secret; name it with --secret-file" in exported(path, tmp_path / "archive", out)
    assert "which is not in the folder" in exported(path, tmp_path / "archive", out, secret="another")
    assert exported(path, tmp_path / "archive", out, secret="of the hospital") == ""
    key, path = predicted(place, ONE, tmp_path)  # without a secret, as `volseg predict` of a folder of DICOM has it
    assert exported(path, tmp_path / "archive", out, secret="of the hospital") == ""


def test_a_copy_under_other_uids_is_a_series_of_its_own(tmp_path: Path) -> None:
    """Reading counts it once, and an object refers to the images of one of the two, never of both."""
    place = Place(0, 0, 1)
    _, path = predicted(place, ONE, tmp_path)
    images, copies = ONE.images_of(place), ONE.images_of(place)
    for z, item in enumerate(copies):
        item.SeriesInstanceUID = "1.2.3.7"
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.7.{z}"
    save(tmp_path / "archive/a", images)
    save(tmp_path / "archive/b", copies)
    out = tmp_path / "out.dcm"
    for options, own in (({}, images), ({"for_series": "1.2.3.7"}, copies)):
        assert exported(path, tmp_path / "archive", out, **options) == ""
        referred = pydicom.dcmread(out).ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence[0]
        (one,) = referred.RTReferencedSeriesSequence
        assert one.SeriesInstanceUID == own[0].SeriesInstanceUID
        uids = [item.ReferencedSOPInstanceUID for item in one.ContourImageSequence]
        assert uids == [item.SOPInstanceUID for item in own]
    save(tmp_path / "both/a", images)
    save(tmp_path / "both/b", copies)
    source = Dicom(tmp_path / "both")
    label = source.load(source.keys()[0]).channels[0]
    write_volume(path, Volume(np.ones(label.shape, np.uint8), label.affine_ras))
    path = path.rename(path.with_name("liver.nii.gz"))
    told = [exported(path, tmp_path / "archive" / folder, out) for folder in ("a", "b")]
    assert sorted(map(bool, told)) == [False, True]  # the record is that of the one that was read

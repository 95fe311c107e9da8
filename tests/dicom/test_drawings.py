"""What a drawing says of the images that it was made on: parts, frames, approval, days; what is told of the rest."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import numpy as np
import pytest
from command import told
from dicom_series import grid, noise, save, series, square, structure_set
from pydicom import Dataset
from pydicom.uid import generate_uid

from volseg.cohort import Cohort, inspect_cohort
from volseg.dicom import Dicom, matching
from volseg.errors import SourceError


def boxes(*slices: int) -> list[np.ndarray]:
    return [square(grid(), 0.6, 3.4, z) for z in slices]


def shown(images: list[Dataset]) -> list[Dataset]:
    """References to images, as a contour has them."""
    found = []
    for item in images:
        reference = Dataset()
        reference.ReferencedSOPClassUID, reference.ReferencedSOPInstanceUID = item.SOPClassUID, item.SOPInstanceUID
        found.append(reference)
    return found


def loaded(folder: Path, **options: object) -> dict[str, tuple[dict[str, list[int]], tuple[str, ...]]]:
    """The slices of each region and the warnings, by series number."""
    source = Dicom(folder, key="n{number}-{series}", **options)
    found = {}
    for key in source.keys():  # noqa: SIM118
        case = source.load(key)
        slices = {}
        if case.label is not None:
            for name, mask in zip(source.labels.names, source.labels.masks(case.label.voxels), strict=True):
                slices[name] = np.flatnonzero(mask.any(axis=(0, 1))).tolist()
        found[key.partition("-")[0]] = slices, case.warnings
    return found


def two(folder: Path, modality: str = "CT") -> tuple[list[Dataset], list[Dataset]]:
    """Two series of one study on one grid."""
    one = series(noise(), SeriesNumber=1)
    other = series(noise(seed=1), None, modality, series="2", SeriesNumber=2)
    save(folder / "one", one)
    save(folder / "two", other)
    return one, other


# --- parts


@pytest.mark.parametrize("there", [True, False])
def test_outlines_of_another_series_are_not_drawn_on_this_one(tmp_path: Path, there: bool) -> None:
    """Whether that series is in the folder, and whatever the structure set refers to as a whole."""
    one = series(noise(), SeriesNumber=1)
    other = series(noise(seed=1), series="2", SeriesNumber=2)
    drawn = structure_set(one, {"GTV": boxes(0, 1, 2), "Node": boxes(3)})
    gtv, node = (outline.ContourSequence for outline in drawn.ROIContourSequence)
    for contour, image in zip(gtv, (one[0], other[1], one[2]), strict=True):
        contour.ContourImageSequence = shown([image])
    node[0].ContourImageSequence = shown([other[3]])
    save(tmp_path, [*one, *(other if there else []), drawn])
    slices, warnings = loaded(tmp_path)["n1"]
    assert slices == {"GTV": [0, 2]}
    assert "1 outlines of GTV refer to no image of this series" in " ".join(warnings)
    assert "Node of the RTSTRUCT refers to images of another series and was left out" in " ".join(warnings)
    if there:
        assert loaded(tmp_path)["n2"] == ({}, ())


def test_a_structure_set_of_two_series_labels_each_with_its_own_parts(tmp_path: Path) -> None:
    one, other = two(tmp_path)
    drawn = structure_set([*one, *other], {"GTV": boxes(0, 1)})
    for contour, image in zip(drawn.ROIContourSequence[0].ContourSequence, (one[0], other[1]), strict=True):
        contour.ContourImageSequence = shown([image])
    save(tmp_path / "drawn", [drawn])
    found = loaded(tmp_path)
    assert (found["n1"][0], found["n2"][0]) == ({"GTV": [0]}, {"GTV": [1]})


@pytest.mark.parametrize("modality", ["CT", "PT"])
def test_the_series_that_was_asked_for_decides(tmp_path: Path, modality: str) -> None:
    """A structure set that refers to both, by its parts to none."""
    one, other = two(tmp_path, modality)
    save(tmp_path / "drawn", [structure_set([*one, *other], {"GTV": boxes(1)})])
    chosen = loaded(tmp_path, modality="CT", series="^Abdomen$") if modality == "PT" else None
    if chosen is not None:
        slices, warnings = chosen["n1"]
        assert slices == {"GTV": [1]}
        assert "may belong to several series, of which this one was asked for" in warnings[0]
        return
    for slices, warnings in loaded(tmp_path).values():
        assert slices == {}
        assert "fits 2 series here; --modality or --series chooses one; it was left out" in warnings[0]
    for item in other:
        item.SeriesDescription = "Other"
    save(tmp_path / "two", other)
    assert loaded(tmp_path, series="other")["n2"][0] == {"GTV": [1]}
    assert loaded(tmp_path, channels=["a=abdomen,b=other"]).popitem()[1][0] == {"GTV": [1]}


def test_an_outline_that_refers_to_an_image_elsewhere_is_drawn_where_it_lies_and_told(tmp_path: Path) -> None:
    one = series(noise(), SeriesNumber=1)
    drawn = structure_set(one, {"GTV": boxes(1, 2)})
    for contour in drawn.ROIContourSequence[0].ContourSequence:
        contour.ContourImageSequence = shown([one[2]])
    save(tmp_path, [*one, drawn])
    slices, warnings = loaded(tmp_path)["n1"]
    assert slices == {"GTV": [1, 2]}
    assert warnings == ("1 outlines of GTV refer to images of other slices, and were drawn where they lie themselves",)


def test_a_region_without_a_frame_in_an_object_of_two_is_not_guessed(tmp_path: Path) -> None:
    one = series(noise(), SeriesNumber=1)
    drawn = structure_set(one, {"GTV": boxes(1), "Node": boxes(2)})
    second = Dataset()
    second.FrameOfReferenceUID = "1.2.3"
    drawn.ReferencedFrameOfReferenceSequence.append(second)
    del drawn.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
    save(tmp_path, [*one, drawn])
    assert loaded(tmp_path)["n1"][0] == {"Node": [2]}
    drawn.ROIContourSequence[0].ContourSequence[0].ContourImageSequence = shown([one[1]])
    save(tmp_path / "drawn", [drawn])
    (tmp_path / "005.dcm").unlink()
    assert loaded(tmp_path)["n1"][0] == {"GTV": [1], "Node": [2]}


@pytest.mark.parametrize("place", ["object", "item", "region"])
def test_a_frame_of_reference_that_differs_is_seen_wherever_it_is_stated(tmp_path: Path, place: str) -> None:
    one = series(noise(), SeriesNumber=1)
    drawn = structure_set(one, {"GTV": boxes(1)})
    if place == "object":
        drawn.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = ""
        del drawn.StructureSetROISequence[0].ReferencedFrameOfReferenceUID
        drawn.FrameOfReferenceUID = "1.2.3"
    elif place == "item":
        drawn.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    else:
        drawn.StructureSetROISequence[0].ReferencedFrameOfReferenceUID = "1.2.3"
    save(tmp_path, [*one, drawn])
    slices, warnings = loaded(tmp_path)["n1"]
    assert slices == {}
    assert "states another frame of reference" in " ".join(warnings)


# --- patients and days


def test_a_drawing_of_another_patient_is_no_label_even_if_uids_agree(tmp_path: Path) -> None:
    one = series(noise(), SeriesNumber=1)
    drawn = structure_set(one, {"GTV": boxes(1)})
    drawn.PatientID = "another"
    save(tmp_path, [*one, drawn])
    slices, warnings = loaded(tmp_path, carry_over=True)["n1"]
    assert slices == {}
    assert "is of another patient" in warnings[0]


def days(folder: Path, *, frame: str = "", drawn_on: int = 1) -> None:
    """Two days of one patient on one grid, the outlines of the first, and of the second too with `drawn_on` 2."""
    for day in (1, 2):
        study = f"1.2.3.{day}"
        images = series(noise(seed=day), study=study, StudyDate=f"2024010{day}", SeriesNumber=day)
        for item in images:
            item.FrameOfReferenceUID = frame or f"{study}.9"
        save(folder / f"day{day}", images)
        if day <= drawn_on:
            save(folder / f"drawn{day}", [structure_set(images, {"GTV": boxes(day)})])


@pytest.mark.parametrize("frame", ["", "1.2.3.9"])
def test_the_outlines_of_a_day_label_another_only_when_asked(tmp_path: Path, frame: str) -> None:
    days(tmp_path, frame=frame)
    found = loaded(tmp_path)
    assert (found["n1"][0], found["n2"]) == ({"GTV": [1]}, ({}, ()))
    slices, warnings = loaded(tmp_path, carry_over=True)["n2"]
    assert slices == {"GTV": [1]}
    assert "was drawn on another series of the patient, and was carried over" in warnings[0]
    assert ("nothing was registered" in warnings[0]) == (frame == "")


def test_a_day_with_outlines_of_its_own_keeps_them(tmp_path: Path) -> None:
    days(tmp_path, drawn_on=2)
    for carry_over in (False, True):
        found = loaded(tmp_path, carry_over=carry_over)
        assert (found["n1"], found["n2"]) == (({"GTV": [1]}, ()), ({"GTV": [2]}, ()))


def test_outlines_of_a_day_that_is_not_there_are_told(tmp_path: Path) -> None:
    days(tmp_path)
    for path in (tmp_path / "day1").iterdir():
        path.unlink()
    slices, warnings = loaded(tmp_path)["n2"]
    assert slices == {}
    assert "refers to a series that is not here; --carry-over takes it" in warnings[0]
    assert loaded(tmp_path, carry_over=True)["n2"][0] == {"GTV": [1]}


@pytest.mark.parametrize("carry_over", [False, True])
def test_series_and_outlines_are_read_once_for_all_that_may_fit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, carry_over: bool
) -> None:
    """Drawings of days that are not there, as of a patient who comes daily, are compared with each series that is."""
    for number in range(4):
        save(tmp_path / f"day{number}", series(noise(seed=number), series=f"1{number}", SeriesNumber=number))
    for number in range(3):
        absent = series(noise(), series=f"2{number}")
        drawn = structure_set(absent, {"GTV": boxes(1)})
        drawn.SeriesInstanceUID, drawn.SOPInstanceUID = generate_uid(), generate_uid()
        drawn.file_meta.MediaStorageSOPInstanceUID = drawn.SOPInstanceUID
        drawn.StructureSetTime = f"0{number}0000"
        save(tmp_path / f"drawn{number}", [drawn])
    read: list[str] = []
    for name in ("read_stack", "read_header"):
        real = getattr(matching, name)
        monkeypatch.setattr(matching, name, lambda *args, _name=name, _real=real: read.append(_name) or _real(*args))
    source = Dicom(tmp_path, carry_over=carry_over)
    assert Counter(read) == {"read_stack": 4, "read_header": 3}
    assert [source.labelled(key) for key in source.keys()] == [carry_over] * 4  # noqa: SIM118


def test_one_id_of_several_people_carries_nothing_over(tmp_path: Path) -> None:
    for day in (1, 2):
        images = series(
            noise(seed=day), study=f"1.2.3.{day}", PatientID="ANON", PatientName=f"Person^{day}", SeriesNumber=day
        )
        save(tmp_path / f"day{day}", images)
        if day == 1:
            save(tmp_path / "drawn", [structure_set(images, {"GTV": boxes(1)})])
    assert loaded(tmp_path, carry_over=True)["n2"][0] == {}


# --- approval


@pytest.mark.parametrize(
    ("first", "second", "kept", "word"),
    [
        ("APPROVED", "UNAPPROVED", [1], "approved one"),
        ("APPROVED", "", [1], "approved one"),
        ("APPROVED", "REJECTED", [1], "approved one"),
        ("", "REJECTED", [1], "one that was not rejected"),
        ("APPROVED", "APPROVED", [2], "later one"),
        ("UNAPPROVED", "", [2], "later one"),
        ("REJECTED", "REJECTED", [2], "later one"),
    ],
)
def test_an_approved_drawing_counts_before_others(
    tmp_path: Path, first: str, second: str, kept: list[int], word: str
) -> None:
    one = series(noise(), SeriesNumber=1)
    for n, approval in enumerate((first, second), start=1):
        drawn = structure_set(one, {"GTV": boxes(n)}, date=f"2024010{n}")
        drawn.ApprovalStatus = approval
        save(tmp_path / f"drawn{n}", [drawn])
    save(tmp_path, one)
    slices, warnings = loaded(tmp_path)["n1"]
    assert slices == {"GTV": kept}
    assert f"two objects hold GTV, and the {word} was taken" in warnings
    rejected = "the RTSTRUCT was rejected (ApprovalStatus)" in warnings
    assert rejected == ("REJECTED" in (first, second))


def test_two_approved_drawings_of_one_date_are_refused(tmp_path: Path) -> None:
    one = series(noise(), SeriesNumber=1)
    for n in (1, 2):
        drawn = structure_set(one, {"GTV": boxes(n)})
        drawn.ApprovalStatus = "APPROVED"
        save(tmp_path / f"drawn{n}", [drawn])
    save(tmp_path, one)
    source = Dicom(tmp_path)
    with pytest.raises(SourceError, match="two objects of one date hold 'GTV'"):
        source.load(source.keys()[0])


# --- what check tells


def test_check_tells_what_was_left_out_of_a_case_and_of_the_cohort(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    one = series(noise() - 100, SeriesNumber=1)
    drawn = structure_set(one, {"GTV": boxes(1)})
    drawn.ReferencedFrameOfReferenceSequence[0].FrameOfReferenceUID = "1.2.3"
    elsewhere = series(noise(), grid(origin=(500, 0, 0)), study="1.2.3.4", PatientID="B")
    lost = structure_set(elsewhere, {"Node": [square(grid(origin=(500, 0, 0)), 0.6, 3.4, 1)]})
    save(tmp_path / "in", [*one, drawn, lost])
    assert told(capsys, "convert", "dicom", tmp_path / "in", tmp_path / "cohort")[0] == 0
    (row,) = Cohort.open(tmp_path / "cohort").rows.values()
    assert "states another frame of reference" in row.warnings[0]
    warnings = inspect_cohort(Cohort.open(tmp_path / "cohort")).warnings
    assert [one for one in warnings if "another frame of reference" in one and "in 1 of 1 cases" in one]
    assert "an RTSTRUCT refers to a series that is not here; it was left out" in warnings
    assert told(capsys, "check", tmp_path / "cohort")[0] == 0
    code, printed = told(capsys, "check", tmp_path / "cohort", "--strict")
    assert code == 1
    assert printed.count("it was left out") == 2


def test_convert_takes_the_outlines_of_another_day_with_carry_over(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    days(tmp_path / "in")
    words = ("convert", "dicom", tmp_path / "in", tmp_path / "cohort")
    assert told(capsys, *words)[0] == 0
    assert len(Cohort.open(tmp_path / "cohort").labelled) == 1
    assert told(capsys, *words, "--carry-over")[0] == 0  # which changes the digest of the second day alone
    assert len(Cohort.open(tmp_path / "cohort").labelled) == 2


def test_uids_of_others_in_the_object_are_no_reference(tmp_path: Path) -> None:
    """A structure set whose images were sent again under new UIDs refers to none of them."""
    one = series(noise(), SeriesNumber=1)
    drawn = structure_set(one, {"GTV": boxes(1)})
    for item in one:
        item.SOPInstanceUID = item.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        item.SeriesInstanceUID = "1.2.3.77"
    save(tmp_path, [*one, drawn])
    slices, warnings = loaded(tmp_path)["n1"]
    assert slices == {}
    assert "refers to a series that is not here" in warnings[0]


@pytest.mark.parametrize(
    ("spacing", "model", "told"),
    [
        ((0.8, 0.9, 2.5), "rt-utils", True),
        ((0.8, 0.9, 2.5), "RT-Utils", True),
        ((0.8, 0.9, 2.5), "Eclipse", False),
        ((0.8, 0.8, 2.5), "rt-utils", False),
        ((0.8, 0.80001, 2.5), "rt-utils", False),
    ],
)
def test_outlines_of_rt_utils_on_oblong_pixels_are_told(
    tmp_path: Path, spacing: tuple[float, float, float], model: str, told: bool
) -> None:
    one = series(noise(), grid(spacing=spacing), SeriesNumber=1)
    drawn = structure_set(one, {"GTV": [square(grid(spacing=spacing), 0.6, 3.4, 1)]})
    drawn.Manufacturer, drawn.ManufacturerModelName = "Qurit", model
    save(tmp_path, [*one, drawn])
    slices, warnings = loaded(tmp_path)["n1"]
    assert slices == {"GTV": [1]}
    assert any("written by rt-utils" in text and "0.8 x 0.9 mm" in text for text in warnings) == told


def test_two_regions_of_one_name_in_one_object_count_as_one_and_are_told(tmp_path: Path) -> None:
    one = series(noise(), SeriesNumber=1)
    drawn = structure_set(one, {"GTV": boxes(1), "other": boxes(3)})
    drawn.StructureSetROISequence[1].ROIName = "GTV"
    save(tmp_path, [*one, drawn])
    slices, warnings = loaded(tmp_path)["n1"]
    assert slices == {"GTV": [1, 3]}
    assert warnings == ("2 regions of one object are called GTV, and count as one",)

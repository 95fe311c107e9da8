"""Drawings whose parts contradict each other: numbers, names, copies, and what lies beyond the image."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_series import grid, noise, save, series, square, structure_set
from pydicom import Dataset
from pydicom.uid import generate_uid

from volseg.cohort import Case
from volseg.dicom import Dicom, place, read_object_masks, read_stack, scan, write_dicom_seg
from volseg.errors import SourceError, VolsegError
from volseg.labels import LabelTable
from volseg.volume import Grid, Volume

SHAPE = (12, 10, 4)
AFFINE = grid(SHAPE)


def images() -> list[Dataset]:
    return series(noise(SHAPE), AFFINE)


def drawn(of: Sequence[Dataset], *regions: str, low: float = 1.5, date: str = "20240104") -> Dataset:
    """A structure set with a square of 4 x 4 voxels per region, each on a slice of its own."""
    outlines = {name: [square(AFFINE, low, low + 4, z)] for z, name in enumerate(regions)}
    return structure_set(of, outlines, date=date)


def segmented(folder: Path, of: Sequence[Dataset]) -> Dataset:
    """A SEG of two segments, liver of 6 voxels and spleen of 8."""
    save(folder / "source", of)
    stack = read_stack(scan(folder / "source").series[0])
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[1:3, 1:4, 1], voxels[5:9, 5:7, 2] = 1, 2
    path = folder / "seg.dcm"
    table = LabelTable.exclusive(["liver", "spleen"])
    write_dicom_seg(path, place(Volume(voxels, stack.affine_ras), stack), table)
    return _read(path)


def _read(path: Path) -> Dataset:
    import pydicom

    return pydicom.dcmread(path)


def only(folder: Path, files: Sequence[Dataset], **options: object) -> tuple[Case, Dicom]:
    """The one case of some files."""
    save(folder / "raw", files)
    source = Dicom(folder / "raw", **options)  # type: ignore[arg-type]
    (key,) = source.keys()
    return source.load(key), source


def counts(case: Case, source: Dicom) -> dict[str, int]:
    assert case.label is not None
    return {region.name: int(np.isin(case.label.voxels, region.values).sum()) for region in source.labels.regions}


def outlines_too(file: Dataset) -> None:
    file.StructureSetROISequence[1].ROINumber = file.ROIContourSequence[1].ReferencedROINumber = 1


def names_alone(file: Dataset) -> None:
    file.StructureSetROISequence[1].ROINumber = 1


def segments(file: Dataset) -> None:
    file.SegmentSequence[1].SegmentNumber = 1


@pytest.mark.parametrize("damage", [outlines_too, names_alone, segments])
def test_two_regions_of_one_number_are_not_guessed(tmp_path: Path, damage: Callable[[Dataset], None]) -> None:
    of = images()
    file = segmented(tmp_path, of) if damage is segments else drawn(of, "liver", "spleen")
    damage(file)
    save(tmp_path / "raw", [*of, file])
    source = Dicom(tmp_path / "raw")
    failed, whole = sorted(source.keys())
    assert not source.labelled(whole)
    with pytest.raises(SourceError, match=r"'liver' and 'spleen', have the number 1.*export it again"):
        source.load(failed)


def unnamed_outline(file: Dataset) -> None:
    file.StructureSetROISequence[1].ROIName = ""


def other_number(file: Dataset) -> None:
    file.ROIContourSequence[1].ReferencedROINumber = 9


@pytest.mark.parametrize("damage", [unnamed_outline, other_number])
def test_outlines_of_no_named_region_are_told(tmp_path: Path, damage: Callable[[Dataset], None]) -> None:
    of = images()
    file = drawn(of, "liver", "spleen")
    damage(file)
    case, source = only(tmp_path, [*of, file])
    assert counts(case, source) == {"liver": 16}
    assert case.warnings == ("1 outlines of the RTSTRUCT are of a region that it does not name, and were left out",)


def test_an_object_whose_outlines_are_all_of_no_region_is_told_of_the_cohort(tmp_path: Path) -> None:
    of = images()
    file = drawn(of, "liver")
    file.ROIContourSequence[0].ReferencedROINumber = 9
    _, source = only(tmp_path, [*of, file])
    assert any("a region that it does not name" in warning for warning in source.warnings)


def test_frames_of_no_segment_and_values_of_none_are_told(tmp_path: Path) -> None:
    of = images()
    file = segmented(tmp_path, of)
    del file.SegmentSequence[1]
    case, source = only(tmp_path, [*of, file])
    assert counts(case, source) == {"liver": 6}
    assert any(text.startswith("1 frames of the DICOM SEG are of a segment") for text in case.warnings)


def test_values_of_a_label_map_that_name_no_segment_are_told(tmp_path: Path) -> None:
    hd = pytest.importorskip("highdicom")
    from pydicom.sr.codedict import codes

    of = images()
    voxels = np.zeros(SHAPE[::-1], np.uint8)
    voxels[1, 1:4, 1:3], voxels[2, 5:7, 5:9] = 1, 2
    described = [
        hd.seg.SegmentDescription(number, name, codes.SCT.Organ, codes.SCT.Liver, "MANUAL")
        for number, name in ((1, "liver"), (2, "spleen"))
    ]
    uids = {"series_instance_uid": generate_uid(), "sop_instance_uid": generate_uid()}
    made = {"manufacturer": "x", "manufacturer_model_name": "x", "software_versions": "1", "device_serial_number": "1"}
    file = hd.seg.Segmentation(of, voxels, "LABELMAP", described, series_number=9, instance_number=1, **uids, **made)
    file.SegmentSequence = [item for item in file.SegmentSequence if item.SegmentLabel != "spleen"]
    case, source = only(tmp_path, [*of, file])
    assert counts(case, source) == {"liver": 6}
    assert "the DICOM SEG holds the values 2, which it does not name, and they were left out" in case.warnings
    (path,) = (path for path in (tmp_path / "raw").iterdir() if _read(path).Modality == "SEG")
    found = read_object_masks(path, Grid(SHAPE, read_stack(scan(tmp_path / "raw").series[0]).affine_ras))
    assert any("the values 2" in note for note in found.notes)


@pytest.mark.parametrize(("low", "held", "told"), [(-3.0, 4, True), (-0.5, 16, False), (9.5, 0, True)])
def test_outlines_beyond_the_edge_of_the_image_are_told(tmp_path: Path, low: float, held: int, told: bool) -> None:
    of = images()
    case, source = only(tmp_path, [*of, drawn(of, "liver", low=low)])
    assert counts(case, source) == {"liver": held}
    assert ("outlines of liver reach beyond the image on 1 slices and were cut off" in case.warnings) == told


@pytest.mark.parametrize("other_uid", [False, True])
def test_a_drawing_that_was_sent_twice_counts_once(tmp_path: Path, other_uid: bool) -> None:
    of = images()
    first = drawn(of, "liver", "spleen")
    again = copy.deepcopy(first)
    if other_uid:
        again.SOPInstanceUID = again.file_meta.MediaStorageSOPInstanceUID = generate_uid()
    case, source = only(tmp_path, [*of, first, again])
    assert counts(case, source) == {"liver": 16, "spleen": 16}
    assert "two objects hold liver with the same voxels, and it was taken once" in case.warnings


def test_a_later_drawing_counts_before_two_equal_ones(tmp_path: Path) -> None:
    of = images()
    first = drawn(of, "liver")
    case, _ = only(tmp_path, [*of, first, copy.deepcopy(first), drawn(of, "liver", low=3.5, date="20240105")])
    assert case.label is not None
    assert case.label.voxels[7, 7, 0] == 1
    assert case.warnings == ("two objects hold liver, and the later one was taken",)


def test_two_drawings_of_one_date_that_differ_are_refused(tmp_path: Path) -> None:
    of = images()
    with pytest.raises(VolsegError, match="two objects of one date hold 'liver' and differ"):
        only(tmp_path, [*of, drawn(of, "liver"), drawn(of, "liver", low=3.5)])


def test_a_dated_drawing_counts_before_one_without_a_date_and_that_is_said(tmp_path: Path) -> None:
    of = images()
    undated = drawn(of, "liver", date="")
    undated.StructureSetTime = ""
    case, _ = only(tmp_path, [*of, undated, drawn(of, "liver", low=3.5)])
    assert case.warnings == ("two objects hold liver, and the one that states a date was taken",)


def test_a_prediction_beside_a_drawing_never_counts_before_it(tmp_path: Path) -> None:
    of = images()
    prediction = drawn(of, "liver", low=3.5, date="20240301")
    prediction.Manufacturer = "volseg"
    case, _ = only(tmp_path, [*of, prediction, drawn(of, "liver")])
    assert case.label is not None
    assert (case.label.voxels[2, 2, 0], case.label.voxels[7, 7, 0]) == (1, 0)
    assert "two objects hold liver, and the one that is no prediction of volseg was taken" in case.warnings

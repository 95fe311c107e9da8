"""Codes of regions as users type them and other programs state them, in the objects that are written, and back."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import noise, save, series

from volseg.dicom import place, read_stack, scan, write_dicom_seg, write_rtstruct
from volseg.dicom.contours import read_code
from volseg.formats import write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume

_WRITERS = pytest.mark.parametrize("write", [write_dicom_seg, write_rtstruct])
_NATIONAL = "32570231000036109"  # of 17 digits, as extensions of SNOMED CT have them


def table(*code: object) -> LabelTable:
    stated = {"labels": {"background": 0, "liver": 1}, "volseg": {"codes": {"liver": list(code)}}}
    return LabelTable.from_dataset_json(stated)


def written(folder: Path, write, labels: LabelTable) -> pydicom.Dataset:
    save(folder / "images", series(noise()))
    stack = read_stack(scan(folder / "images").series[0])
    label = np.zeros(stack.shape, np.uint8)
    label[1:4, 1:4, 1:4] = 1
    write(folder / "out.dcm", place(Volume(label, stack.affine_ras), stack), labels)
    return pydicom.dcmread(folder / "out.dcm")


def code_of(dataset: pydicom.Dataset) -> tuple[str, str, str]:
    if "SegmentSequence" in dataset:
        found = read_code(dataset.SegmentSequence[0], "SegmentedPropertyTypeCodeSequence")
    else:
        found = read_code(dataset.RTROIObservationsSequence[0], "RTROIIdentificationCodeSequence")
    assert found is not None
    return found.scheme, found.value, found.meaning


@_WRITERS
def test_a_code_that_is_written_as_a_number_is_its_digits(tmp_path: Path, write) -> None:
    labels = table("SCT", 10200004, "Liver")
    assert code_of(written(tmp_path, write, labels)) == ("SCT", "10200004", "Liver")
    write_segmentation(tmp_path / "a.seg.nrrd", Volume(np.ones((2, 2, 2), np.uint8), np.eye(4)), labels)


@_WRITERS
def test_the_words_of_a_code_are_cut_to_what_dicom_holds(tmp_path: Path, write) -> None:
    """DICOM holds 64 letters; other programs write more into a SEG, which `convert dicom` takes."""
    assert code_of(written(tmp_path, write, table("99X", "1", "m" * 70))) == ("99X", "1", "m" * 64)


@_WRITERS
def test_a_long_value_of_a_code_goes_where_it_fits_and_comes_back(tmp_path: Path, write) -> None:
    dataset = written(tmp_path, write, table("SCT", _NATIONAL, "Liver"))
    assert code_of(dataset) == ("SCT", _NATIONAL, "Liver")
    assert not [item for item in dataset.iterall() if item.keyword == "CodeValue" and len(item.value) > 16]

"""Label Map Segmentations whose background is not 0, and segments of one series that lie in several objects."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from copy import deepcopy
from pathlib import Path

import numpy as np
import pytest
from dicom_series import grid, noise, save, series
from pydicom import Dataset
from pydicom.uid import generate_uid

from volseg.cohort import Case
from volseg.dicom import Dicom

hd = pytest.importorskip("highdicom")
SHAPE = (12, 10, 4)
VOXELS = np.zeros(SHAPE[::-1], np.uint8)  # [slice, row, column]
VOXELS[1, 1:4, 1:3], VOXELS[2, 5:7, 5:9] = 1, 2
SIZES = {"liver": 6, "spleen": 8}


def images() -> list[Dataset]:
    return series(noise(SHAPE), grid(SHAPE))


def segmentation(of: Sequence[Dataset], kind: str, voxels: np.ndarray, names: Sequence[str]) -> Dataset:
    """A SEG whose segments are numbered from 1 in the order of their names."""
    from pydicom.sr.codedict import codes

    described = [
        hd.seg.SegmentDescription(number, name, codes.SCT.Organ, codes.SCT.Liver, "MANUAL")
        for number, name in enumerate(names, start=1)
    ]
    uids = {"series_instance_uid": generate_uid(), "sop_instance_uid": generate_uid()}
    made = {"manufacturer": "x", "manufacturer_model_name": "x", "software_versions": "1", "device_serial_number": "1"}
    return hd.seg.Segmentation(of, voxels, kind, described, series_number=9, instance_number=1, **uids, **made)


def renumbered(file: Dataset, numbers: Mapping[int, int], *, padding: int | None) -> Dataset:
    """The same label map with other numbers, where 0 is the background; `padding` is its PixelPaddingValue."""
    table = np.arange(256, dtype=np.uint8)
    table[list(numbers)] = list(numbers.values())
    file = deepcopy(file)
    file.PixelData = table[np.frombuffer(file.PixelData, np.uint8)].tobytes()
    for item in file.SegmentSequence:
        item.SegmentNumber = int(table[item.SegmentNumber])
    if "PixelPaddingValue" in file:
        del file.PixelPaddingValue
    if padding is not None:
        file.PixelPaddingValue = padding
    return file


def sizes(folder: Path, files: Sequence[Dataset], **options: object) -> tuple[dict[str, int], Case]:
    """The voxels of each region of the one case."""
    save(folder, files)
    source = Dicom(folder, **options)  # type: ignore[arg-type]
    (key,) = source.keys()
    case = source.load(key)
    assert case.label is not None
    masks = source.labels.masks(case.label.voxels)
    return dict(zip(source.labels.names, masks.sum(axis=(1, 2, 3)).tolist(), strict=True)), case


@pytest.mark.parametrize(
    ("numbers", "padding"),
    [({}, None), ({}, 0), ({0: 5}, 5), ({0: 5, 1: 0}, 5), ({0: 255, 1: 2, 2: 0}, 255), ({0: 2, 2: 7}, 2)],
)
def test_the_padding_value_is_the_background(tmp_path: Path, numbers: dict[int, int], padding: int | None) -> None:
    of = images()
    file = renumbered(segmentation(of, "LABELMAP", VOXELS, list(SIZES)), numbers, padding=padding)
    found, case = sizes(tmp_path, [*of, file])
    assert found == SIZES
    assert case.warnings == ()


@pytest.mark.parametrize(("numbers", "padding"), [({0: 5}, 5), ({0: 5}, None), ({}, None)])
def test_a_background_that_is_described_is_no_region(
    tmp_path: Path, numbers: dict[int, int], padding: int | None
) -> None:
    from pydicom.sr.codedict import codes

    of = images()
    file = renumbered(segmentation(of, "LABELMAP", VOXELS, list(SIZES)), numbers, padding=padding)
    background = deepcopy(file.SegmentSequence[0])
    background.SegmentNumber, background.SegmentLabel = numbers.get(0, 0), "Background"
    background.SegmentedPropertyTypeCodeSequence = [hd.sr.CodedConcept.from_code(codes.DCM.Background)]
    file.SegmentSequence = [item for item in file.SegmentSequence if item.SegmentLabel in SIZES] + [background]
    assert sizes(tmp_path, [*of, file])[0] == SIZES


@pytest.mark.parametrize("kinds", [("BINARY", "BINARY"), ("BINARY", "FRACTIONAL"), ("LABELMAP", "BINARY")])
@pytest.mark.parametrize("overlap", [False, True])
def test_segments_in_several_objects_of_a_series_are_one_label(
    tmp_path: Path, kinds: tuple[str, str], overlap: bool
) -> None:
    of = images()
    liver, spleen = (VOXELS == 1).astype(np.uint8), (VOXELS == 2).astype(np.uint8)
    if overlap:
        spleen = np.maximum(spleen, liver)
    files = []
    for kind, mask, name in zip(kinds, (liver, spleen), SIZES, strict=True):
        values = mask.astype(np.float32) if kind == "FRACTIONAL" else mask
        files.append(segmentation(of, kind, values, [name]))
    found, case = sizes(tmp_path, [*of, *files])
    assert found == {"liver": 6, "spleen": 14 if overlap else 8}
    assert case.warnings == ()


def test_one_segment_in_two_objects_is_never_half_of_it(tmp_path: Path) -> None:
    of = images()
    halves = [np.where(np.arange(10)[None, :, None] < 2, VOXELS == 1, False), (VOXELS == 1)]
    halves[1] = halves[1] & ~halves[0]
    files = [segmentation(of, "BINARY", half.astype(np.uint8), ["liver"]) for half in halves]
    for file, date in zip(files, ("20240104", "20240105"), strict=True):
        file.ContentDate = date
    found, case = sizes(tmp_path, [*of, *files])
    assert found == {"liver": 4}
    assert case.warnings == ("two objects hold liver, and the later one was taken",)

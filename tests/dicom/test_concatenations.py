"""Concatenations: a multi-frame object that is stored in several files is one volume, whole or refused."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import grid, multi_frame, noise, save, set_pixels
from pydicom import Dataset
from pydicom.uid import generate_uid

from volseg.dicom import Dicom, export_objects, list_series, read_listed, write_dicom_seg, write_rtstruct
from volseg.errors import VolsegError
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

SHAPE = (7, 6, 5)
SOURCE = "1.2.826.0.1.3680043.8.498.7.1"


def parts(*ends: int, concatenation: str = SOURCE, seed: int = 0, **elements: object) -> list[Dataset]:
    """The frames of an enhanced CT in several objects, each of which ends before one of `ends`."""
    voxels = noise(SHAPE, seed=seed)
    whole = multi_frame(voxels, grid(SHAPE), **elements)
    stored = voxels.transpose(2, 1, 0)[::-1]
    found = []
    for number, (start, end) in enumerate(zip((0, *ends), ends, strict=False), start=1):
        part = deepcopy(whole)
        part.SOPInstanceUID = part.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        part.NumberOfFrames = end - start
        part.PerFrameFunctionalGroupsSequence = list(whole.PerFrameFunctionalGroupsSequence)[start:end]
        set_pixels(part, stored[start:end])
        part.ConcatenationUID, part.SOPInstanceUIDOfConcatenationSource = concatenation, f"{concatenation}.1"
        part.InConcatenationNumber, part.InConcatenationTotalNumber = number, len(ends)
        part.ConcatenationFrameOffsetNumber = start
        found.append(part)
    return found


def told(folder: Path) -> str:
    """Why the only case of a folder is refused."""
    source = Dicom(folder)
    (key,) = source.keys()
    with pytest.raises(VolsegError) as error:
        source.load(key)
    return error.value.message


@pytest.mark.parametrize("ends", [(2, 5), (1, 2, 5), (4, 5)])
@pytest.mark.parametrize("backwards", [False, True])
def test_all_parts_are_one_volume(tmp_path: Path, ends: tuple[int, ...], backwards: bool) -> None:
    found = parts(*ends)
    save(tmp_path, found[::-1] if backwards else found)
    (path,) = list_series(tmp_path)
    np.testing.assert_array_equal(read_listed(path).voxels, noise(SHAPE) - 1024)


def test_two_concatenations_of_a_series_and_a_copy_of_one_are_two_volumes(tmp_path: Path) -> None:
    save(tmp_path / "one", parts(2, 5))
    save(tmp_path / "two", parts(3, 5, concatenation=f"{SOURCE}.2", seed=1))
    save(tmp_path / "copy", parts(2, 5, concatenation=f"{SOURCE}.3"))
    found = [read_listed(path).voxels for path in list_series(tmp_path)]
    assert len(found) == 2
    for seed in (0, 1):
        assert sum(np.array_equal(voxels, noise(SHAPE, seed=seed) - 1024) for voxels in found) == 1


def test_a_part_that_is_absent_is_named(tmp_path: Path) -> None:
    for absent in (0, 1, 2):
        there = parts(1, 3, 5)
        del there[absent]
        save(tmp_path / str(absent), there)
        assert f"part {absent + 1} of 3 of its concatenation is absent" in told(tmp_path / str(absent))


def test_parts_that_do_not_say_how_many_or_which_they_are(tmp_path: Path) -> None:
    unstated = parts(2, 5)
    for part in unstated:
        del part.InConcatenationTotalNumber
    save(tmp_path / "total", unstated)
    (key,) = (source := Dicom(tmp_path / "total")).keys()
    case = source.load(key)
    assert case.channels[0].shape == SHAPE
    assert "does not state how many parts it has, and 2 are there" in " ".join(case.warnings)
    save(tmp_path / "first", unstated[1:])  # nothing but its number says that it is the second
    assert "part 1 of 2 of its concatenation is absent" in told(tmp_path / "first")
    del unstated[0].InConcatenationNumber
    save(tmp_path / "number", unstated)
    assert "does not state its number" in told(tmp_path / "number")


def test_objects_refer_to_the_part_that_holds_a_slice(tmp_path: Path) -> None:
    save(tmp_path / "in", parts(2, 5))
    (path,) = list_series(tmp_path / "in")
    image = read_listed(path)
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[2:5, 1:4, 1:4] = 1
    write_volume(tmp_path / "liver.nii.gz", Volume(voxels, image.affine_ras))
    table, out = LabelTable.exclusive(["liver"]), tmp_path / "in/object.dcm"

    def written(write: object) -> list[tuple[str, str]]:
        return export_objects(tmp_path / "liver.nii.gz", tmp_path / "in", out, table, write, ending=".dcm")  # type: ignore[arg-type]

    assert "a concatenation), to which a segmentation cannot refer" in written(write_dicom_seg)[0][1]
    assert not out.exists()
    assert written(write_rtstruct) == []
    outlines = pydicom.dcmread(out).ROIContourSequence[0].ContourSequence
    shown = {
        (
            str(one.ContourImageSequence[0].ReferencedSOPInstanceUID),
            int(one.ContourImageSequence[0].ReferencedFrameNumber),
        )
        for one in outlines
    }
    uids = [str(pydicom.dcmread(tmp_path / f"in/{number:03d}.dcm").SOPInstanceUID) for number in (0, 1)]
    assert shown == {(uids[0], 2), (uids[1], 1), (uids[1], 2)}  # slices 3, 2 and 1; frames run from the last slice on
    source = Dicom(tmp_path / "in")
    label = source.load(source.keys()[0]).label
    assert label is not None
    np.testing.assert_array_equal(label.voxels, voxels)

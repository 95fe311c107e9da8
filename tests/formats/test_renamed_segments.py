"""A segment that a user renamed is still its region's, unless the new name or the new code says otherwise."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
import slicerio

from volseg.deploy.corrections.answers import Answers
from volseg.deploy.corrections.edited_label import edited_label
from volseg.errors import LabelError
from volseg.formats import read_named_masks, write_segmentation
from volseg.formats.imported_predictions import read_named
from volseg.labels import LabelTable
from volseg.volume import Volume

AFFINE = np.diag([-1.0, -1.5, 2.0, 1.0])
BARE = LabelTable.exclusive(["lesion", "cyst of the left side"])  # which have no code of their own
CODED = LabelTable.exclusive(["liver", "spleen"])


def label_of(table: LabelTable) -> Volume:
    voxels = np.random.default_rng(0).choice(np.array(table.values, np.uint8), (6, 5, 4))
    return Volume(voxels, AFFINE)


def edited(
    path: Path, table: LabelTable, *names: str, code: tuple[str, str, str] | None = None, copy: str = ""
) -> Path:
    """A file of a table whose segments got other names, and the first another code or a copy of it, by slicerio."""
    write_segmentation(path, label_of(table), table)
    read = slicerio.read_segmentation(str(path))
    for segment, name in zip(read["segments"], names, strict=False):
        segment["name"] = name
    if code:
        read["segments"][0]["terminology"]["type"] = list(code)
    if copy:
        read["segments"].append({**read["segments"][0], "id": "Segment_1", "name": copy, "labelValue": 9})
    slicerio.write_segmentation(str(path), read)
    return path


@pytest.mark.parametrize("table", [BARE, CODED], ids=["without codes", "with codes"])
@pytest.mark.parametrize("names", [["mended by hand"], ["one", "two"], ["Läsion", "2"]])
def test_a_renamed_segment_is_its_regions(tmp_path: Path, table: LabelTable, names: list[str]) -> None:
    names = [name.encode("ascii", "ignore").decode() for name in names]  # slicerio 1.4.0 drops the others
    path = edited(tmp_path / "a.seg.nrrd", table, *names)
    label, notes = read_named(path, table, label_of(table))
    np.testing.assert_array_equal(label.voxels, label_of(table).voxels)
    for new, old in zip(names, table.names, strict=False):
        assert f"the segment {new} was taken for {old}, as which it was exported" in notes


def test_names_decide_where_they_are_those_of_regions(tmp_path: Path) -> None:
    swapped = edited(tmp_path / "a.seg.nrrd", BARE, *reversed(BARE.names))
    label, notes = read_named(swapped, BARE, label_of(BARE))
    np.testing.assert_array_equal(label.voxels, np.array([0, 2, 1], np.uint8)[label_of(BARE).voxels])
    assert notes == []
    moved = edited(tmp_path / "b.seg.nrrd", BARE, BARE.names[1], "former cyst")
    with pytest.raises(LabelError, match="no segment of lesion"):
        read_named(moved, BARE, label_of(BARE))


def test_another_code_makes_another_organ(tmp_path: Path) -> None:
    path = edited(tmp_path / "a.seg.nrrd", CODED, "pancreas", code=("SCT", "15776009", "Pancreas"))
    with pytest.raises(LabelError, match="no segment of liver; there are pancreas, spleen"):
        read_named(path, CODED, label_of(CODED))
    path = edited(tmp_path / "b.seg.nrrd", BARE, "pancreas", code=("SCT", "15776009", "Pancreas"))
    with pytest.raises(LabelError, match="no segment of lesion"):
        read_named(path, BARE, label_of(BARE))


def test_what_a_person_says_of_a_renamed_segment_goes_first(tmp_path: Path) -> None:
    named = read_named_masks(edited(tmp_path / "a.seg.nrrd", BARE, "scar"))
    image = label_of(BARE)
    label, notes = edited_label(named, BARE, image, None, Answers())
    np.testing.assert_array_equal(label.voxels, image.voxels)
    assert "the segment scar was taken for lesion, as which it was exported" in notes
    with pytest.raises(LabelError, match="there is no segment of lesion"):
        edited_label(named, BARE, image, None, Answers(drop=["scar"]))
    label, _ = edited_label(named, BARE, image, None, Answers(drop=["scar"], missing="empty"))
    np.testing.assert_array_equal(label.voxels, np.where(image.voxels == 2, 2, 0))


def test_a_copy_of_a_segment_is_another_one(tmp_path: Path) -> None:
    named = read_named_masks(edited(tmp_path / "a.seg.nrrd", BARE, copy="metastasis"))
    with pytest.raises(LabelError, match="metastasis is no region of the cohort"):
        edited_label(named, BARE, label_of(BARE), None, Answers())

"""Margins: against brute force on anisotropic grids, as regions that nobody takes for the organ, and in the archive."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import noise, save, series

from volseg.cohort import RegionBounds, bounds_as_text, margin_name, preparing, with_margins
from volseg.cohort.margins import with_descriptions
from volseg.dicom import Dicom, place, read_stack, scan, write_dicom_seg, write_rtstruct
from volseg.errors import GeometryError
from volseg.formats import write_segmentation
from volseg.labels import Code, LabelTable, Region
from volseg.metrics import grown, margin_to_contain
from volseg.volume import Volume

TABLE = LabelTable.of({"liver": [1, 3], "tumour": [2, 3]})
BOUNDS = {
    "liver": RegionBounds(0.8, 1.0, 2.0, 2.5, 0.01, 0.9),
    "tumour": RegionBounds(not_comparable="the spacing is 5 mm along z, calibrated 0.9 to 1.1 mm"),
}


def brute_force(mask: np.ndarray, spacing_mm: tuple[float, ...]) -> np.ndarray:
    """The distance of each voxel centre to the nearest one of the mask in mm."""
    places = np.stack(np.meshgrid(*map(np.arange, mask.shape), indexing="ij"), axis=-1) * np.array(spacing_mm)
    inside = places[mask]
    return np.linalg.norm(places[..., None, :] - inside, axis=-1).min(axis=-1)


@pytest.mark.parametrize("spacing_mm", [(1.0, 1.0, 1.0), (0.8, 0.8, 5.0), (3.0, 0.7, 1.3)])
def test_a_margin_is_the_largest_distance_and_what_is_grown_by_it_contains_the_whole(spacing_mm) -> None:
    for seed in range(6):
        draw = np.random.default_rng(seed)
        prediction, reference = draw.random((2, 9, 8, 5)) > 0.93
        prediction[4, 4, 2] = True
        distance = brute_force(prediction, spacing_mm)
        margin = margin_to_contain(prediction, reference, spacing_mm)
        assert margin == pytest.approx(distance[reference].max())
        for mm in (margin, 1.0, 4.9, 5.0):
            assert np.array_equal(grown(prediction, mm, spacing_mm), distance <= mm + 1e-5)
        assert (grown(prediction, margin, spacing_mm) | ~reference).all()
        assert margin == 0 or not (grown(prediction, 0.99 * margin, spacing_mm) | ~reference).all()


def test_nothing_predicted_nothing_to_find_and_another_grid() -> None:
    empty, full = np.zeros((3, 3, 3), bool), np.ones((3, 3, 3), bool)
    assert margin_to_contain(empty, full, (1, 1, 1)) == np.inf
    assert margin_to_contain(empty, empty, (1, 1, 1)) == 0
    assert not grown(empty, 5, (1, 1, 1)).any()
    with pytest.raises(GeometryError):
        margin_to_contain(empty, np.ones((3, 3, 2), bool), (1, 1, 1))


@pytest.mark.parametrize("spacing_mm", [(-1, 1, 3), (0, 1, 3), (1, 1), (1, 1, float("nan"))])
def test_a_voxel_of_no_size_or_of_a_negative_one_is_refused(spacing_mm) -> None:
    """SciPy takes a negative one, as a NIfTI affine holds on its diagonal, and its distances are wrong then."""
    one, other = np.zeros((2, 6, 6, 3), bool)
    one[:, 0], other[:, 3] = True, True
    with pytest.raises(GeometryError, match="3 lengths in mm, each above 0"):
        margin_to_contain(one, other, spacing_mm)
    with pytest.raises(GeometryError, match="3 lengths in mm, each above 0"):
        grown(one, 2, spacing_mm)


def label_map() -> np.ndarray:
    label = np.zeros((16, 14, 6), np.uint8)
    label[4:9, 4:9, 1:4] = 1
    label[6:11, 6:11, 2:5] = 2
    label[6:9, 6:9, 2:4] = 3
    return label


def test_organs_keep_their_voxels_and_a_margin_is_no_organ() -> None:
    label = Volume(label_map(), np.diag([-1.0, 1.0, 3.0, 1.0]))
    both = {**BOUNDS, "tumour": RegionBounds(0.5, 0.1, 1.0, 3.0, 0.1, 0.8)}
    for bounds, names in ((BOUNDS, ["liver"]), (both, ["liver", "tumour"])):
        got, table = with_margins(label, TABLE, bounds)
        masks, before = table.masks(got.voxels), TABLE.masks(label.voxels)
        assert np.array_equal(masks[:2], before)
        assert list(table.names[2:]) == [margin_name(name, bounds[name].level) for name in names]
        for number, name in enumerate(names):
            organ = before[TABLE.names.index(name)]
            assert np.array_equal(masks[2 + number], grown(organ, bounds[name].margin_mm, (1.0, 1.0, 3.0)))
        assert all(
            region.code != organ.code or organ.code == Code("85756007", "Tissue")
            for region in table.regions[2:]
            for organ in TABLE.regions
        )
        assert all(
            "not the organ" in region.name and "Not an organ" in region.description for region in table.regions[2:]
        )
    # Overlap and margins make more combinations than the two organs have, each with a value of its own.
    assert len(np.unique(got.voxels)) > 4


def test_long_names_stay_within_dicom_and_apart() -> None:
    names = [f"{'part_of_the_abdomen_with_a_long_name_' * 2}{side}" for side in ("left", "right")]
    label = np.zeros((6, 6, 6), np.uint8)
    label[1], label[4] = 1, 2
    bounds = {name: RegionBounds(margin_mm=1.0, level=0.9) for name in names}
    _, table = with_margins(Volume(label, np.eye(4)), LabelTable.exclusive(names), bounds)
    margins = table.names[2:]
    assert len(set(margins)) == 2
    assert all(len(name) <= 64 and name.startswith("MARGIN 90%") for name in margins)


def test_segmentation_and_structure_set_hold_the_margin_and_the_bounds(tmp_path: Path) -> None:
    shape = label_map().shape
    save(tmp_path / "images", series(noise(shape)))
    stack = read_stack(scan(tmp_path / "images").series[0])
    coded = LabelTable(tuple(Region(r.name, r.values, r.colour, Code("10200004", "Liver")) for r in TABLE.regions))
    got, table = with_margins(Volume(label_map(), stack.affine_ras), coded, BOUNDS)
    target = place(got, stack)
    write_rtstruct(tmp_path / "rt.dcm", target, table)
    write_dicom_seg(tmp_path / "seg.dcm", target, table)
    rois = pydicom.dcmread(tmp_path / "rt.dcm").StructureSetROISequence
    segments = pydicom.dcmread(tmp_path / "seg.dcm").SegmentSequence
    expected = [bounds_as_text(BOUNDS["liver"]), bounds_as_text(BOUNDS["tumour"])]
    for items, name, text in ((rois, "ROIName", "ROIDescription"), (segments, "SegmentLabel", "SegmentDescription")):
        assert [item[name].value for item in items] == ["liver", "tumour", margin_name("liver", 0.9)]
        assert [item[text].value for item in items][:2] == expected
        assert "Not an organ" in items[2][text].value
    kinds = [item.SegmentedPropertyTypeCodeSequence[0].CodeMeaning for item in segments]
    assert kinds == ["Liver", "Liver", "Tissue"]
    # The file of a label map with margins is read back with the organs alone.
    (tmp_path / "images" / "seg.dcm").write_bytes((tmp_path / "seg.dcm").read_bytes())
    source = Dicom(tmp_path / "images", labels=["liver,tumour"])
    case = source.load(source.keys()[0])
    assert np.array_equal(source.labels.masks(case.label.voxels), coded.masks(label_map()))


def test_the_organs_keep_their_label_value_in_a_file_for_slicer(tmp_path: Path) -> None:
    label = Volume(label_map(), np.diag([-1.0, 1.0, 3.0, 1.0]))
    got, table = with_margins(label, TABLE, BOUNDS)
    write_segmentation(tmp_path / "a.seg.nrrd", got, table, values=(1, 2, 4))
    text = (tmp_path / "a.seg.nrrd").read_bytes()
    assert b"Segment0_LabelValue:=1\n" in text
    assert b"Segment2_LabelValue:=4\n" in text
    assert b"Segment2_Name:=MARGIN 90% of liver (not the organ)\n" in text


def test_a_grid_that_leans_gets_no_margin_and_says_so(caplog):
    """A gantry tilted by 20 degrees: 3 mm along its slices are other mm in space."""
    affine = np.diag([1.0, 1.0, 3.0, 1.0])
    affine[1, 2] = 3 * np.tan(np.radians(20))
    label = Volume(label_map(), affine)
    with pytest.raises(GeometryError, match="at right angles for margins"):
        with_margins(label, TABLE, BOUNDS)
    got, table = preparing({"a": BOUNDS}, match=None, margin=True)("a", label, TABLE)
    assert np.array_equal(got.voxels, label.voxels)
    assert table.names == TABLE.names
    assert "a: written without margins" in caplog.text


def test_margins_of_long_names_that_begin_alike_have_names_of_their_own():
    """Three such regions were one margin for ever: the export never ended."""
    names = [f"Superior_Longitudinal_Fascicle_of_the_left_side_{number}" for number in range(12)]
    table = LabelTable.exclusive(names)
    voxels = np.zeros((40, 3, 3), np.uint8)
    voxels[1:37:3, 1, 1] = range(1, 13)
    bounds = {name: RegionBounds(0.8, 1, 2, 1.0, 0.01, 0.9) for name in names}
    label, labels = with_margins(Volume(voxels, np.eye(4)), table, bounds)
    margins = labels.names[12:]
    assert len(set(margins)) == 12
    assert max(map(len, margins)) == 64
    assert (margins[0][-4:], margins[1][-5:], margins[11][-5:]) == ("gan)", "rga 2", "rg 12")
    held = dict(zip(labels.names, labels.masks(label.voxels), strict=True))
    assert [int(held[name].sum()) for name in margins] == [7] * 12  # by hand: a voxel and its six neighbours


def test_bounds_as_descriptions_keep_all_else_of_the_table():
    table = LabelTable.from_dataset_json({"labels": {"background": 0, "liver": 1, "ignore": 2}})
    described = with_descriptions(table, {"liver": BOUNDS["liver"]})
    assert described.ignore == 2
    assert described.regions[0].description

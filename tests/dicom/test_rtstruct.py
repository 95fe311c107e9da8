"""RTSTRUCT: outlines become voxels, voxels become outlines, and each is the other's inverse."""

from __future__ import annotations

import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import PATIENT, STUDY, grid, image, multi_frame, noise, save, series, square, structure_set
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from PIL import Image, ImageDraw
from scipy import ndimage

from volseg.dicom import Dicom, export_objects, place, read_object_masks, read_stack, scan, write_rtstruct
from volseg.dicom.contours import fill, rasterise, read_contours, read_rois
from volseg.dicom.file import Quiet
from volseg.dicom.names import parse_rules
from volseg.dicom.outlines import outlines
from volseg.errors import GeometryError, LabelError, SourceError, UsageError, VolsegError
from volseg.labels import Code, LabelTable, Region
from volseg.volume import Volume, ras_to_lps, write_volume

TABLE = LabelTable(
    (
        Region("large_bowel", (1, 3), (230, 159, 0), Code("14742008", "Large intestine")),
        Region("stomach", (2, 3), (204, 121, 167), Code("69695003", "Stomach")),
        Region("never", (4,), (1, 2, 3), Code("85756007", "Tissue")),
    )
)
masks = hnp.arrays(bool, st.tuples(st.integers(1, 9), st.integers(1, 9)))


def labelled(shape=(12, 11, 5)) -> np.ndarray:
    """Two overlapping regions with a hole, an island in the hole, and an empty slice between."""
    label = np.zeros(shape, np.uint8)
    label[1:9, 1:9, 1:4] = 1
    label[3:7, 3:7, 1:4] = 0
    label[5, 5, 1:4] = 1
    label[6:11, 2:10, 1:4] |= 2
    label[:, :, 2] = 0
    return label


# --- masks and outlines


@given(masks)
def test_outlines_hold_exactly_the_pixels_they_were_drawn_around(mask: np.ndarray) -> None:
    """Together, and combined by exclusive or: each keyholed outline stands for itself."""
    found = outlines(mask)
    apart = np.zeros(mask.shape, bool)
    for outline in found:
        apart ^= fill([outline], mask.shape)
    np.testing.assert_array_equal(apart, mask)
    if found:
        np.testing.assert_array_equal(fill(found, mask.shape), mask)


def test_thousands_of_holes_take_a_time_that_grows_with_their_number() -> None:
    mask = np.random.default_rng(0).random((400, 400)) > 0.3
    began = time.process_time()
    found = outlines(mask)
    assert time.process_time() - began < 12  # minutes, if each hole is looked for along its outline
    np.testing.assert_array_equal(fill(found, mask.shape), mask)


@given(masks)
def test_an_outline_is_a_component_and_keeps_its_area(mask: np.ndarray) -> None:
    found = outlines(mask)
    holes = ndimage.label(~np.pad(mask, 1), np.ones((3, 3)))[1] - 1
    area = sum(0.5 * (x @ np.roll(y, -1) - y @ np.roll(x, -1)) for x, y in (outline.T for outline in found))
    assert len(found) == ndimage.label(mask)[1]
    assert area == pytest.approx(mask.sum() - 0.5 * len(found) + 0.5 * holes)


@given(masks)
def test_an_outline_stays_within_half_a_pixel_of_the_edges_of_pixels(mask: np.ndarray) -> None:
    padded = np.pad(mask, 1)
    edges = []
    for axis in (0, 1):
        for i, j in np.argwhere(np.diff(padded, axis=axis)) - 1:
            middle = np.array([i + 0.5, j]) if axis == 0 else np.array([i, j + 0.5])
            along = np.array([0, 1]) if axis == 0 else np.array([1, 0])
            edges += [middle + step * along for step in np.linspace(-0.5, 0.5, 5)]
    # A channel of a keyhole runs through the inside; there the path comes back over itself.
    for outline in outlines(mask & ~(ndimage.binary_fill_holes(mask) & ~mask)):
        ends = np.roll(outline, -1, axis=0)
        back = {(*a, *b) for a, b in zip(ends.tolist(), outline.tolist(), strict=True)}
        for a, b in zip(outline.tolist(), ends.tolist(), strict=True):
            if (*a, *b) not in back:
                distance = np.linalg.norm(np.array(edges) - (np.array(a) + b) / 2, axis=1).min()
                assert distance <= 0.5


@settings(max_examples=40)
@given(st.lists(st.tuples(st.floats(-2, 12), st.floats(-2, 12)), min_size=3, max_size=9))
def test_a_polygon_holds_what_a_ray_says_it_holds(points: list[tuple[float, float]]) -> None:
    """Against the crossing number, pixel by pixel; centres near a side may count either way."""
    polygon = np.array(points)
    inside, near = np.zeros((10, 10), bool), np.zeros((10, 10), bool)
    for i, j in np.ndindex(10, 10):
        for a, b in zip(polygon, np.roll(polygon, -1, axis=0), strict=True):
            if (a[1] > j) != (b[1] > j):
                inside[i, j] ^= bool(i < a[0] + (j - a[1]) * (b[0] - a[0]) / (b[1] - a[1]))
            run = b - a
            share = np.clip((np.array([i, j]) - a) @ run / max(run @ run, 1e-300), 0, 1)
            near[i, j] |= np.linalg.norm(a + share * run - (i, j)) < 0.01
    got = fill([polygon], (10, 10))
    np.testing.assert_array_equal(got[~near], inside[~near])


def test_centres_on_the_outline_are_inside() -> None:
    """PS3.3 C.8.8.6.3; programs that draw through centres are read back whole."""
    drawn = np.array([[1, 1], [4, 1], [4, 3], [1, 3]], float)
    expected = np.zeros((6, 5), bool)
    expected[1:5, 1:4] = True
    np.testing.assert_array_equal(fill([drawn], (6, 5)), expected)
    np.testing.assert_array_equal(fill([drawn[::-1]], (6, 5)), expected)


def test_holes_by_exclusive_or_and_doubles() -> None:
    affine = grid(angles=(0.1, 0.2, 0.3))
    outer, inner = square(affine, 0.6, 5.4, 2), square(affine, 2.6, 3.4, 2)
    mask = rasterise([outer, inner, outer], (7, 6, 5), ras_to_lps(affine))
    expected = np.zeros((7, 6, 5), bool)
    expected[1:6, 1:6, 2] = True
    expected[3, 3, 2] = False
    np.testing.assert_array_equal(mask, expected)


def test_outlines_that_lie_elsewhere_are_refused() -> None:
    affine = grid()
    with pytest.raises(SourceError, match="lies between two slices"):
        rasterise([square(affine, 1, 3, 1.5)], (7, 6, 5), ras_to_lps(affine))
    tilted = square(affine, 1, 3, 1)
    tilted[0, 2] += 2.5
    with pytest.raises(SourceError, match="plane of the slices"):
        rasterise([tilted], (7, 6, 5), ras_to_lps(affine))


# --- reading


def folder(tmp_path: Path, rois: dict[str, list[np.ndarray]], **options) -> list:
    images = series(noise())
    save(tmp_path / "images", images)
    save(tmp_path / "drawn", [structure_set(images, rois, **options)])
    return images


def test_regions_become_labels_with_their_names_and_colours(tmp_path: Path) -> None:
    affine = grid()
    folder(tmp_path, {"GTV 1": [square(affine, 0.6, 3.4, 1)], "Liver": [square(affine, 2.6, 5.4, z) for z in (1, 2)]})
    source = Dicom(tmp_path)
    assert source.labels.names == ("GTV 1", "Liver")
    assert source.labels.regions[0].colour == (10, 20, 30)
    (key,) = source.keys()
    assert source.labelled(key)
    case = source.load(key)
    gtv, liver = source.labels.masks(case.label.voxels)
    assert (gtv.sum(), liver.sum(), (gtv & liver).sum()) == (9, 18, 1)
    assert gtv[1:4, 1:4, 1].all()
    assert case.warnings == ()


def test_rules_choose_rename_and_unite(tmp_path: Path) -> None:
    affine = grid()
    rois = {
        "GTV1": [square(affine, 0.6, 1.4, 1)],
        "gtv_node": [square(affine, 3.6, 4.4, 1)],
        "Cord": [square(affine, 0, 5, 1)],
    }
    folder(tmp_path, rois)
    source = Dicom(tmp_path, labels=["GTV*=tumour"])
    assert source.labels.names == ("tumour",)
    assert source.load(source.keys()[0]).label.voxels.sum() == 2
    with pytest.raises(UsageError, match="asks for lung, and no region fits; there are: Cord, GTV1, gtv_node"):
        Dicom(tmp_path, labels=["cord,lung"])
    with pytest.raises(UsageError, match="rename it"):
        Dicom(tmp_path, labels=["Cord=background"])
    for wrong in ("=tumour", "GTV=", ","):
        with pytest.raises(UsageError, match="PATTERN=NAME"):
            parse_rules([wrong])


def test_a_series_whose_drawing_holds_none_of_the_regions_is_unlabelled(tmp_path: Path) -> None:
    affine = grid()
    folder(tmp_path, {"Cord": [square(affine, 0, 5, 1)]})
    more = series(noise(seed=1), series="2")
    save(tmp_path / "more", [*more, structure_set(more, {"GTV": [square(affine, 0, 5, 1)]})])
    source = Dicom(tmp_path, labels=["GTV"])
    assert sorted(source.labelled(key) for key in source.keys()) == [False, True]  # noqa: SIM118


def test_absent_images_are_matched_by_series_and_position_and_it_says_so(tmp_path: Path) -> None:
    folder(tmp_path, {"GTV": [square(grid(), 0.6, 3.4, 1)]}, images=False)
    case = Dicom(tmp_path).load(Dicom(tmp_path).keys()[0])
    assert case.label.voxels.sum() == 9
    assert case.warnings == ("the RTSTRUCT refers to images that its series does not have, and was placed by position",)


@pytest.mark.parametrize(("frame", "how"), [(f"{STUDY}.99", "frame of reference and position"), ("", "by position")])
def test_without_references_a_series_is_found_by_frame_of_reference_or_position(
    tmp_path: Path, frame: str, how: str
) -> None:
    images = series(noise())
    drawn = structure_set(images, {"GTV": [square(grid(), 0.6, 3.4, 1)]}, images=False)
    reference = drawn.ReferencedFrameOfReferenceSequence[0]
    reference.RTReferencedStudySequence = []
    reference.FrameOfReferenceUID = drawn.FrameOfReferenceUID = frame
    other = series(noise(seed=1), grid(origin=(500, 0, 0)), series="2")
    save(tmp_path, [*images, *other, drawn])
    source = Dicom(tmp_path)
    cases = [source.load(key) for key in source.keys()]  # noqa: SIM118
    (case,) = [case for case in cases if case.label is not None]
    assert case.label.voxels.sum() == 9
    assert how in case.warnings[0]


def test_a_drawing_that_fits_several_series_or_none_is_left_out_aloud(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    images = series(noise())
    drawn = structure_set(images, {"GTV": [square(grid(), 0.6, 3.4, 1)]}, images=False)
    drawn.ReferencedFrameOfReferenceSequence[0].RTReferencedStudySequence = []
    save(tmp_path, [*images, *series(noise(seed=1), series="2"), drawn])
    assert Dicom(tmp_path).labels.names == ("structure",)
    assert "fits 2 series here" in caplog.text
    drawn.ROIContourSequence[0].ContourSequence[0].ContourData[2] = "999"
    save(tmp_path, [*images, *series(noise(seed=1), series="2"), drawn])
    Dicom(tmp_path)
    assert "fits none of the series here" in caplog.text


def test_of_two_drawings_of_one_region_the_later_counts(tmp_path: Path) -> None:
    affine = grid()
    images = folder(tmp_path, {"GTV": [square(affine, 0.6, 1.4, 1)]}, date="20240105")
    older = structure_set(images, {"GTV": [square(affine, 0.6, 5.4, 1)], "Cord": [square(affine, 0, 0.4, 1)]})
    save(tmp_path / "older", [older])
    source = Dicom(tmp_path)
    case = source.load(source.keys()[0])
    cord, gtv = source.labels.masks(case.label.voxels)
    assert (cord.sum(), gtv.sum()) == (1, 1)
    assert case.warnings == ("two objects hold GTV, and the later one was taken",)
    older.StructureSetDate = "20240105"
    save(tmp_path / "older", [older])
    source = Dicom(tmp_path)
    with pytest.raises(SourceError, match="two objects of one date hold 'GTV'"):
        source.load(source.keys()[0])


def test_what_an_annotator_should_look_at_is_a_warning(tmp_path: Path) -> None:
    affine = grid((7, 6, 9))
    images = series(noise((7, 6, 9)))
    rois = {
        "gaps": [square(affine, 0.6, 5.4, z) for z in (0, 2, 4, 6, 8)],
        "beyond": [square(affine, 0.6, 5.4, z) for z in (7, 8, 9)],
        "tiny": [square(affine, 1.3, 1.7, 3)],
        "one": [square(affine, 0.6, 3.4, z) for z in (0, 1, 3, 4, 5)],
        "two": [square(affine, 0.6, 3.4, z) for z in (0, 1, 2, 5, 6, 7, 8)],
        "apart": [square(affine, *((0.6, 1.4) if z < 3 else (3.6, 4.4)), z) for z in (0, 1, 2, 4, 5)],
    }
    save(tmp_path, [*images, structure_set(images, rois)])
    source = Dicom(tmp_path)
    assert set(source.load(source.keys()[0]).warnings) == {
        "gaps is outlined on 5 of 9 slices, and none was filled in",
        "outlines of beyond lie beyond the slices of the image and were cut off",
        "no voxel of tiny lies in the image",
        "one is outlined above and below 1 slices and not on them, and none was filled in",
        "two is outlined above and below 2 slices and not on them, and none was filled in",
    }


def test_more_than_eight_regions_must_not_overlap(tmp_path: Path) -> None:
    affine = grid((12, 12, 3))
    images = series(noise((12, 12, 3)))
    rois = {f"r{n}": [square(affine, n - 0.4, n + 0.4, 1)] for n in range(9)}
    save(tmp_path, [*images, structure_set(images, rois)])
    source = Dicom(tmp_path)
    assert source.load(source.keys()[0]).label.voxels[range(9), range(9), 1].tolist() == list(range(1, 10))
    rois["r9"] = [square(affine, 0.6, 3.4, 1)]
    save(tmp_path, [*images, structure_set(images, rois)])
    source = Dicom(tmp_path)
    with pytest.raises(LabelError, match="r1 and r9 overlap, and a table of 10 regions keeps no overlap; keep it with"):
        source.load(source.keys()[0])


def test_every_overlap_of_many_regions_is_kept_where_that_is_asked_for(tmp_path: Path) -> None:
    """As in radiotherapy, where the outline of the body holds all organs, and a target crosses some of them."""
    shape = (14, 12, 3)
    affine = grid(shape)
    organs = {f"organ{n:02}": (n + 0.6, n + 1.4) for n in range(10)}
    for case, target in ((1, (0.6, 3.4)), (2, (4.6, 8.4))):
        images = series(noise(shape), study=f"{STUDY}.{case}")
        drawn = {"body": (0.6, 10.4), **organs, "target": target}
        rois = {name: [square(affine, *ends, 1)] for name, ends in drawn.items()}
        save(tmp_path / f"{case}", [*images, structure_set(images, rois)])
    source = Dicom(tmp_path, overlaps=True)
    assert len(source.labels.names) == 12
    assert source.labels.activation == "sigmoid"
    for key in source.keys():  # noqa: SIM118 - a source is no dict
        label = source.load(key).label
        found = dict(zip(source.labels.names, source.labels.masks(label.voxels), strict=True))
        assert found["body"].sum() == 100
        assert [int(found[name].sum()) for name in organs] == [1] * 10
        assert found["target"].sum() in (9, 16)
    # The table of the first case alone has no value for the overlaps of the second.
    first = Dicom(tmp_path / "1", overlaps=True)
    assert first.labels.digest != source.labels.digest
    assert len(first.labels.values) < len(source.labels.values) < 40


def test_damaged_drawings_fail_their_case(tmp_path: Path) -> None:
    for damage, reason in ((["1", "2"], "no list of points"), (["nan"] * 9, "no list of points")):
        images = series(noise())
        drawn = structure_set(images, {"GTV": [square(grid(), 0.6, 3.4, 1)]})
        with Quiet():  # pydicom warns of what is written here on purpose
            drawn.ROIContourSequence[0].ContourSequence[0].ContourData = damage
            save(tmp_path, [*images, drawn])
        source = Dicom(tmp_path)
        with pytest.raises(VolsegError, match=reason):
            source.load(source.keys()[0])


def test_a_region_that_cannot_be_drawn_is_named_and_may_be_left_out(tmp_path: Path) -> None:
    images = series(noise())
    drawn = structure_set(
        images, {"GTV": [square(grid(), 0.6, 3.4, 1)], "Couch Surface": [square(grid(), 0.6, 3.4, 1.5)]}
    )
    save(tmp_path, [*images, drawn])
    source = Dicom(tmp_path)
    told = "the region 'Couch Surface': an outline lies between two slices.*; --labels can leave the region out"
    with pytest.raises(SourceError, match=told):
        source.load(source.keys()[0])
    source = Dicom(tmp_path, labels=["GTV"])
    case = source.load(source.keys()[0])
    assert case.label.voxels.any()
    with pytest.raises(SourceError, match="the region 'Couch Surface': an outline lies between two slices"):
        read_object_masks(tmp_path / "005.dcm", case.channels[0].grid)


def test_points_and_open_lines_are_no_regions(tmp_path: Path) -> None:
    images = series(noise())
    drawn = structure_set(images, {"POI": [square(grid(), 0, 1, 1)], "GTV": [square(grid(), 0.6, 3.4, 1)]})
    drawn.ROIContourSequence[0].ContourSequence[0].ContourGeometricType = "POINT"
    save(tmp_path, [*images, drawn])
    assert Dicom(tmp_path).labels.names == ("GTV",)


def test_real_outlines_agree_with_a_drawn_polygon_within_one_layer(shared_data: Path) -> None:
    """Three patients' series whose RTSTRUCT refers to absent images; against PIL's polygon, drawn 8 times as fine."""
    for name, voxels in (("CT", 17090), ("MR_T1", 17090), ("PET", 555)):
        root = shared_data / "ibsi_dicom/STS_002" / name
        source = Dicom(root, labels=["GTV*=tumour"])
        case = source.load(source.keys()[0])
        assert "placed by position" in case.warnings[0]
        mask = case.label.voxels == 1
        assert mask.sum() == voxels
        drawn = _drawn(pydicom.dcmread(root / "mask/RS.dcm"), mask.shape, case.label.affine_ras)
        layer = np.ones((3, 3, 1), bool)
        assert not (drawn & ~ndimage.binary_dilation(mask, layer)).any()
        assert not (mask & ~ndimage.binary_dilation(drawn, layer)).any()
        assert 2 * (mask & drawn).sum() / (mask.sum() + drawn.sum()) > 0.97


def _drawn(dataset: pydicom.Dataset, shape: tuple[int, ...], affine_ras: np.ndarray) -> np.ndarray:
    """A reference rasterisation: PIL paints each polygon on a grid 8 times as fine; half of a voxel makes it one."""
    fine = 8
    mask = np.zeros(shape, bool)
    to_index = np.linalg.inv(ras_to_lps(affine_ras))
    for contour in read_contours(dataset, read_rois(dataset)[0].number):
        points = contour @ to_index[:3, :3].T + to_index[:3, 3]
        canvas = Image.new("1", (shape[0] * fine, shape[1] * fine))
        corners = [tuple(point) for point in ((points[:, :2] + 0.5) * fine - 0.5).tolist()]
        ImageDraw.Draw(canvas).polygon(corners, fill=1)
        share = np.asarray(canvas, float).T.reshape(shape[0], fine, shape[1], fine).mean(axis=(1, 3))
        mask[:, :, round(points[0, 2])] ^= share > 0.5
    return mask


# --- writing


@pytest.mark.parametrize("multi", [False, True])
def test_a_prediction_is_written_and_read_back_to_the_voxel(tmp_path: Path, multi: bool) -> None:
    label, affine = labelled(), grid(angles=(0.2, -0.1, 0.4))
    images = [multi_frame(noise(label.shape), affine)] if multi else series(noise(label.shape), affine)
    save(tmp_path / "images", images)
    stack = read_stack(scan(tmp_path / "images").series[0])
    # The prediction may lie with other axes, as NIfTI files of other programs do.
    turned = Volume(label[::-1].transpose(2, 0, 1), stack.affine_ras @ _turn(label.shape))
    write_rtstruct(tmp_path / "images/out.dcm", place(turned, stack), TABLE)
    source = Dicom(tmp_path / "images", labels=["large_bowel,stomach"])
    case = source.load(source.keys()[0])
    np.testing.assert_array_equal(case.label.voxels, label)
    assert [(region.colour, region.code) for region in source.labels.regions] == [
        (region.colour, region.code) for region in TABLE.regions[:2]
    ]
    assert case.warnings == ("the RTSTRUCT is a prediction of volseg",)


def _turn(shape: tuple[int, ...]) -> np.ndarray:
    """Index of the turned voxels [z, -x, y] to that of the label."""
    turn = np.zeros((4, 4))
    turn[2, 0] = turn[1, 2] = turn[3, 3] = 1
    turn[0, 1], turn[0, 3] = -1, shape[0] - 1
    return turn


def test_the_object_says_whose_it_is_and_what_it_was_drawn_on(tmp_path: Path) -> None:
    label = labelled()
    images = series(noise(label.shape))
    del images[0].PatientBirthDate
    save(tmp_path / "images", images)
    stack = read_stack(scan(tmp_path / "images").series[0])
    write_rtstruct(tmp_path / "out.dcm", place(Volume(label, stack.affine_ras), stack), TABLE)
    got = pydicom.dcmread(tmp_path / "out.dcm")
    assert (got.PatientName, got.PatientID) == (PATIENT["PatientName"], PATIENT["PatientID"])
    assert got.StudyInstanceUID == STUDY
    assert got.SeriesInstanceUID != images[0].SeriesInstanceUID
    assert [roi.ROIName for roi in got.StructureSetROISequence] == ["large_bowel", "stomach"]
    frame = got.ReferencedFrameOfReferenceSequence[0]
    assert frame.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    one = frame.RTReferencedStudySequence[0].RTReferencedSeriesSequence[0]
    assert one.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert [item.ReferencedSOPInstanceUID for item in one.ContourImageSequence] == [i.SOPInstanceUID for i in images]
    drawn_on = {
        part.ContourImageSequence[0].ReferencedSOPInstanceUID: round(float(part.ContourData[2]), 3)
        for part in got.ROIContourSequence[0].ContourSequence
    }
    assert drawn_on == {images[z].SOPInstanceUID: float(images[z].ImagePositionPatient[2]) for z in (1, 3)}


def test_a_prediction_on_other_voxels_is_refused(tmp_path: Path) -> None:
    save(tmp_path, series(noise()))
    stack = read_stack(scan(tmp_path).series[0])
    moved = stack.affine_ras.copy()
    moved[0, 3] += 0.4
    with pytest.raises(
        GeometryError, match=r"does not lie on the voxels of the series: a corner of the grid is 0\.4 mm"
    ):
        place(Volume(np.ones(stack.shape, np.uint8), moved), stack)
    with pytest.raises(GeometryError, match="shape"):
        place(Volume(np.ones((7, 6, 4), np.uint8), stack.affine_ras), stack)


def test_nothing_to_write_and_names_too_long_are_refused(tmp_path: Path) -> None:
    save(tmp_path, series(noise()))
    stack = read_stack(scan(tmp_path).series[0])
    empty = place(Volume(np.zeros(stack.shape, np.uint8), stack.affine_ras), stack)
    with pytest.raises(LabelError, match="nothing to write"):
        write_rtstruct(tmp_path / "out.dcm", empty, TABLE)
    full = place(Volume(np.ones(stack.shape, np.uint8), stack.affine_ras), stack)
    with pytest.raises(LabelError, match="64"):
        write_rtstruct(tmp_path / "out.dcm", full, LabelTable.exclusive(["x" * 65]))
    assert not list(tmp_path.glob("out*"))


def test_a_series_that_nothing_can_refer_to_is_refused(tmp_path: Path) -> None:
    images = series(noise())
    for item in images:
        del item.FrameOfReferenceUID
    save(tmp_path, images)
    stack = read_stack(scan(tmp_path).series[0])
    full = place(Volume(np.ones(stack.shape, np.uint8), stack.affine_ras), stack)
    with pytest.raises(SourceError, match="the series has no FrameOfReferenceUID"):
        write_rtstruct(tmp_path / "out.dcm", full, TABLE)


def test_predictions_find_their_series_by_key_or_are_told_it(tmp_path: Path) -> None:
    save(tmp_path / "images/a", series(noise()))
    save(tmp_path / "images/b", series(noise(), grid(origin=(0, 0, 0)), series="2"))
    source = Dicom(tmp_path / "images")
    for key in source.keys():  # noqa: SIM118
        image_ = source.load(key).channels[0]
        write_volume(tmp_path / f"predictions/{key}.nii.gz", Volume(np.ones(image_.shape, np.uint8), image_.affine_ras))
    stack = read_stack(scan(tmp_path / "images/b").series[0])
    write_volume(tmp_path / "predictions/other.nii.gz", Volume(np.ones(stack.shape, np.uint8), stack.affine_ras))
    out = tmp_path / "out"
    steps = []
    failed = export_objects(
        tmp_path / "predictions",
        tmp_path / "images",
        out,
        TABLE,
        write_rtstruct,
        ending=".rtstruct.dcm",
        progress=lambda done, total: steps.append((done, total)),
    )
    assert [key for key, _ in failed] == ["other"]
    assert "no series has this key" in failed[0][1]
    assert sorted(path.name for path in out.iterdir()) == sorted(f"{key}.rtstruct.dcm" for key in source.keys())  # noqa: SIM118
    assert steps == [(1, 3), (2, 3), (3, 3)]
    one, file = tmp_path / "predictions/other.nii.gz", tmp_path / "one.dcm"
    ((_, reason),) = export_objects(one, tmp_path / "images", file, TABLE, write_rtstruct, ending=".dcm")
    name = reason.partition("--for-series ")[2].partition(",")[0]
    for asked in (name, f"{STUDY}.2"):
        file.unlink(missing_ok=True)
        words = (one, tmp_path / "images", file, TABLE, write_rtstruct)
        assert not export_objects(*words, ending=".dcm", for_series=asked)
        assert pydicom.dcmread(file).StudyInstanceUID == STUDY
    save(tmp_path / "images/c", series(noise(), grid(origin=(0, 0, 0)), series="3"))
    ((_, reason),) = export_objects(one, tmp_path / "images", out, TABLE, write_rtstruct, ending=".dcm")
    assert "it lies on the voxels of 2 of 3 there" in reason
    with pytest.raises(UsageError, match="holds no prediction"):
        export_objects(tmp_path / "images", tmp_path / "images", out, TABLE, write_rtstruct, ending=".dcm")


def test_the_series_are_read_once_for_all_predictions_that_are_of_none(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    save(tmp_path / "images/a", series(noise()))
    save(tmp_path / "images/b", series(noise(), grid(origin=(0, 0, 0)), series="2"))
    stack = read_stack(scan(tmp_path / "images/b").series[0])
    for number in range(4):
        label = Volume(np.ones(stack.shape, np.uint8), stack.affine_ras)
        write_volume(tmp_path / f"predictions/other_{number}.nii.gz", label)
    read: list[object] = []

    def counted(*args: object, **options: object) -> object:
        read.append(args)
        return read_stack(*args, **options)

    monkeypatch.setattr("volseg.dicom.export.read_stack", counted)
    where = tmp_path / "predictions", tmp_path / "images", tmp_path / "out"
    failed = export_objects(*where, TABLE, write_rtstruct, ending=".dcm")
    assert len(failed) == 4
    assert all("whose voxels it has" in reason for _, reason in failed)
    assert len(read) == 2


def test_a_report_of_a_drawing_that_is_damaged_is_a_case(tmp_path: Path) -> None:
    save(tmp_path, series(noise()))
    broken = image("RTSTRUCT", SOPClassUID="1.2.840.10008.5.1.4.1.1.481.3")
    broken.ROIContourSequence = []
    path = save(tmp_path / "drawn", [broken])[0]
    content = path.read_bytes()
    path.write_bytes(content.replace(b"\x06\x30\x39\x00SQ", b"\x06\x30\x39\x00LO"))
    source = Dicom(tmp_path)
    for key in source.keys():  # noqa: SIM118
        try:
            source.load(key)
        except VolsegError:
            continue


def test_outlines_of_another_frame_of_reference_are_no_label(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    """Whether they refer to the images of the series, to the series, or to neither."""
    for way in ("images", "series", "neither"):
        images = series(noise())
        drawn = structure_set(images, {"GTV": [square(grid(), 0.6, 3.4, 1)]}, images=way == "images")
        reference = drawn.ReferencedFrameOfReferenceSequence[0]
        reference.FrameOfReferenceUID = drawn.FrameOfReferenceUID = "1.2.3"
        if way == "neither":
            reference.RTReferencedStudySequence = []
        save(tmp_path / way, [*images, drawn])
        caplog.clear()
        source = Dicom(tmp_path / way)
        assert not source.labelled(source.keys()[0]), way
        assert "another frame of reference" in caplog.text


def test_a_region_of_another_frame_is_left_out_and_told(tmp_path: Path) -> None:
    """One structure set on two images: each region states its own frame of reference."""
    images = series(noise())
    outlines = {"GTV": [square(grid(), 0.6, 3.4, 1)], "Node": [square(grid(), 0.6, 2.4, 2)]}
    drawn = structure_set(images, outlines)
    drawn.StructureSetROISequence[1].ReferencedFrameOfReferenceUID = "1.2.3"
    save(tmp_path, [*images, drawn])
    source = Dicom(tmp_path)
    case = source.load(source.keys()[0])
    assert source.labels.names == ("GTV",)
    assert case.label.voxels.sum() == 9
    assert "Node of the RTSTRUCT lies in another frame of reference and was left out" in " ".join(case.warnings)


def test_no_object_is_written_for_another_patient_or_day(tmp_path: Path) -> None:
    save(tmp_path / "a", series(noise()))
    save(tmp_path / "b", series(noise(), study="1.2.3.4", PatientID="another"))
    save(tmp_path / "c", series(noise(), study="1.2.3.5", StudyDate="20240203"))
    source = Dicom(tmp_path / "a")
    (key,) = source.keys()
    image_ = source.load(key).channels[0]
    label = Volume(np.ones(image_.shape, np.uint8), image_.affine_ras)
    one, unnamed = tmp_path / f"p/{key}.nii.gz", tmp_path / "p/liver.nii.gz"
    write_volume(one, label)
    write_volume(unnamed, label)
    for folder in ("b", "c"):
        out = tmp_path / "out.dcm"
        ((_, reason),) = export_objects(one, tmp_path / folder, out, TABLE, write_rtstruct, ending=".dcm")
        assert f"was made from {key}, which is not in the folder" in reason
        assert f"is of another {'patient' if folder == 'b' else 'study of this patient'}" in reason
        assert not out.exists()
    save(tmp_path / "two/d", series(noise(), grid(origin=(0, 0, 0)), study="1.2.3.6", PatientID="third"))
    save(tmp_path / "two/e", series(noise()))
    ((_, reason),) = export_objects(unnamed, tmp_path / "two", tmp_path, TABLE, write_rtstruct, ending=".dcm")
    assert f"{key} there is of other images, or of another day, under the same UIDs" in reason


def test_a_rejected_drawing_never_beats_another_and_is_never_used_silently(tmp_path: Path) -> None:
    affine = grid()
    images = folder(tmp_path, {"GTV": [square(affine, 0.6, 1.4, 1)]}, date="20240103")
    later = structure_set(images, {"GTV": [square(affine, 0.6, 5.4, 1)], "Cord": [square(affine, 0, 0.4, 1)]})
    later.ApprovalStatus = "REJECTED"
    save(tmp_path / "later", [later])
    source = Dicom(tmp_path)
    case = source.load(source.keys()[0])
    cord, gtv = source.labels.masks(case.label.voxels)
    assert (cord.sum(), gtv.sum()) == (1, 1)
    assert case.warnings == (
        "the RTSTRUCT was rejected (ApprovalStatus)",
        "two objects hold GTV, and the one that was not rejected was taken",
    )


def test_a_frame_of_reference_that_is_not_stated_is_a_warning(tmp_path: Path) -> None:
    images = series(noise())
    for item in images:
        item.FrameOfReferenceUID = ""
    save(tmp_path, [*images, structure_set(series(noise()), {"GTV": [square(grid(), 0.6, 3.4, 1)]})])
    source = Dicom(tmp_path)
    assert "the image states no frame of reference" in " ".join(source.load(source.keys()[0]).warnings)

"""Pictures: radiological display of any stored orientation, contours, differences, sheets, animations, commands."""

from __future__ import annotations

import itertools
import json
import shutil
from pathlib import Path

import nibabel
import numpy as np
import pytest
from PIL import Image

from volseg.cli import main
from volseg.cohort import Cohort
from volseg.errors import GeometryError, LabelError, UsageError
from volseg.labels import LabelTable
from volseg.pictures import (
    PLANES,
    CaseView,
    ReviewCase,
    Snapshot,
    animate_training,
    draw,
    draw_case,
    illustrate,
    panel,
    panel_size,
    read_case_view,
    snapshot_path,
    write_snapshot,
)
from volseg.pictures.animation import write_animation, write_png
from volseg.pictures.case_view import STYLES, frames
from volseg.pictures.layout import Entry, arrange_panels, round_length_mm
from volseg.pictures.orientation import View
from volseg.pictures.rendering import INVENTED, MISSED, difference_masks, grey_levels, outline, triptych
from volseg.pictures.snapshot import read_snapshots
from volseg.pictures.viewer import _difference, _median_place
from volseg.volume import Volume, read_volume, write_volume

LABELS = LabelTable.exclusive(["a", "b"])
SPACING = (1.0, 2.0, 4.0)  # of RAS axes
# One of every axis order and a mix of directions: UW-Madison's, NIfTI's, a sagittal acquisition, ...
ORIENTATIONS = ["RAS", "LPS", "ASL", "PIR", "SAR", "IPL", "LAS", "RSA"]


def body() -> np.ndarray:
    """(9, 8, 7) in RAS: a ramp, so that every voxel is its own."""
    return np.arange(9 * 8 * 7, dtype=np.float32).reshape(9, 8, 7)


def stored(voxels: np.ndarray, orientation: str) -> Volume:
    """The same body, written in another orientation."""
    image = nibabel.Nifti1Image(voxels, np.diag([*SPACING, 1]))
    to = nibabel.orientations.axcodes2ornt(orientation)
    turned = image.as_reoriented(nibabel.orientations.ornt_transform(nibabel.io_orientation(image.affine), to))
    return Volume(np.asarray(turned.dataobj), turned.affine)


@pytest.mark.parametrize("plane", PLANES)
@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_the_same_body_looks_the_same_however_it_is_stored(orientation, plane):
    expected = View.of(np.diag([*SPACING, 1]), plane)
    volume = stored(body(), orientation)
    view = View.of(volume.affine_ras, plane)
    np.testing.assert_array_equal(view.apply(volume.voxels), expected.apply(body()))
    assert view.pixel_mm == pytest.approx(expected.pixel_mm)
    assert view.thickness_mm == pytest.approx(expected.thickness_mm)


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_right_is_left_and_front_and_head_are_up(orientation):
    # One voxel at the patient's right, front and top: the largest index along each RAS axis.
    mark = np.zeros((9, 8, 7), np.float32)
    mark[8, 7, 6] = 1
    volume = stored(mark, orientation)
    found = {
        plane: tuple(int(i) for i in np.argwhere(View.of(volume.affine_ras, plane).apply(volume.voxels))[0])
        for plane in PLANES
    }
    # (slice, row, column). RAS: +X is the patient's right, shown left; +Y the front; +Z the head.
    assert found["axial"][1:] == (0, 0)
    assert found["coronal"][1:] == (0, 0)
    assert found["sagittal"][1:] == (0, 0)
    assert View.of(volume.affine_ras, "sagittal").edges == ("A", "S")
    assert View.of(volume.affine_ras, "axial").edges == ("R", "A")


@pytest.mark.parametrize("orientation", ORIENTATIONS)
def test_a_slice_is_numbered_as_the_file_stores_it(orientation):
    volume = stored(body(), orientation)
    for plane in PLANES:
        view = View.of(volume.affine_ras, plane)
        shown = view.apply(volume.voxels)
        for number in range(len(shown)):
            as_stored = np.take(volume.voxels, number, axis=view.axes[0])
            place = view.place(number + 1, len(shown))
            assert set(shown[place].ravel()) == set(as_stored.ravel())
            assert view.number(place, len(shown)) == number + 1
    with pytest.raises(UsageError, match="must be 1 to 7, got 8"):
        View.of(np.eye(4)).place(8, 7)


def test_an_oblique_grid_is_shown_along_its_own_axes():
    turn = np.deg2rad(20)
    affine = np.diag([1.0, 1, 1, 1])
    affine[:2, :2] = [[np.cos(turn), -np.sin(turn)], [np.sin(turn), np.cos(turn)]]
    assert View.of(affine).axes == View.of(np.eye(4)).axes
    with pytest.raises(UsageError, match="must be one of axial"):
        View.of(np.eye(4), "oblique")


def test_pixels_are_square_in_mm():
    case_view = CaseView.of(body(), np.diag([*SPACING, 1]), LABELS, plane="coronal")
    # X has 9 voxels of 1 mm, Z has 7 of 4 mm.
    assert panel_size(case_view.intensity.shape[1:], pixel_mm=case_view.view.pixel_mm, scale=3) == (7 * 4 * 3, 9 * 3)


def test_a_contour_is_one_pixel_wide_at_any_scale_and_in_the_regions_colour():
    mask = np.zeros((1, 12, 12), bool)
    mask[0, 3:9, 2:10] = True
    colour = (10, 200, 30)
    for scale in (1, 2, 5):
        picture = panel(np.zeros((12, 12), np.uint8), mask, [colour], fill=0, line=True, scale=scale)
        drawn = (picture == colour).all(axis=2)
        assert not picture[~drawn].any()
        height, width = 6 * scale, 8 * scale
        assert drawn.sum() == 2 * (height + width) - 4
        assert drawn[3 * scale, 2 * scale : 10 * scale].all()  # on the voxel's edge, inside
        assert not drawn[3 * scale - 1].any()


@pytest.mark.parametrize("seed", range(5))
def test_an_outline_is_the_mask_without_its_inside(seed):
    from scipy import ndimage

    mask = np.random.default_rng(seed).random((20, 30)) < 0.7
    np.testing.assert_array_equal(outline(mask), mask & ~ndimage.binary_erosion(mask))


def test_an_axial_slice_is_drawn_as_a_radiologist_sees_it():
    image = np.zeros((6, 4, 1))
    masks = np.zeros((2, 6, 4, 1), bool)
    masks[0, 5, 3] = True  # the patient's right and front corner in RAS: largest X is right
    view = View.of(np.eye(4))
    shown = view.apply(masks)[:, 0]
    picture = triptych(grey_levels(view.apply(image)[0]), shown, np.zeros_like(shown), LABELS)
    assert picture.shape == (4, 18, 3)
    rows, columns = np.nonzero(picture.sum(axis=2))
    assert (rows.tolist(), columns.tolist()) == ([0], [6])  # front is up, right is left, in the reference's panel


def test_differences_of_equal_masks_are_none_and_swapping_them_swaps_the_colours():
    generator = np.random.default_rng(0)
    a, b = generator.random((2, 3, 10, 10)) < 0.5
    assert not difference_masks(a, a).any()
    forth, back = difference_masks(a, b), difference_masks(b, a)
    np.testing.assert_array_equal(forth, back[[1, 0, 2]])
    assert forth.sum(axis=0).max() == 1
    np.testing.assert_array_equal(forth.any(axis=0), (a != b).any(axis=0))


def test_grey_levels_of_odd_images():
    assert grey_levels(np.full((2, 2), 7.0)).tolist() == [[0, 0], [0, 0]]
    assert grey_levels(np.array([np.nan, np.inf, -np.inf, 0.0, 1.0]), window=(0, 1)).tolist() == [0, 0, 0, 0, 255]
    assert grey_levels(np.full(3, np.nan)).tolist() == [0, 0, 0]


def test_masks_that_do_not_fit_are_refused():
    with pytest.raises(LabelError, match="1 colours"):
        panel(np.zeros((4, 4), np.uint8), np.zeros((2, 4, 4), bool), [(1, 2, 3)])
    with pytest.raises(UsageError, match=r"the shape \(2, 9, 8, 7\)"):
        CaseView.of(body(), np.eye(4), LABELS, reference=np.zeros((1, 9, 8, 7), bool))
    with pytest.raises(UsageError, match="above 0"):
        panel(np.zeros((4, 4), np.uint8), scale=0)


def test_a_sheet_holds_its_panels_unchanged():
    generator = np.random.default_rng(0)
    panels = [(f"p{i}", generator.integers(0, 255, (90, 120, 3), dtype=np.uint8)) for i in range(5)]
    legend = [Entry(f"a region with a long name {i}", (250, i, 7), line=i % 2 == 0) for i in range(6)]
    picture = arrange_panels(panels, title="title", legend=legend, columns=2)
    windows = np.lib.stride_tricks.sliding_window_view(picture[:, :, 0], (90, 120))
    for _, part in panels:
        corners = np.argwhere(windows[:, :, 0, 0] == part[0, 0, 0])
        assert any(np.array_equal(picture[y : y + 90, x : x + 120], part) for y, x in corners)
    for entry in legend:
        assert (picture == entry.colour).all(axis=2).any()
    with pytest.raises(UsageError, match="one size"):
        arrange_panels([("a", np.zeros((2, 2, 3), np.uint8)), ("b", np.zeros((3, 2, 3), np.uint8))])
    with pytest.raises(UsageError, match="one or more"):
        arrange_panels([])


def test_the_scale_bar_is_as_long_as_it_says():
    picture = arrange_panels([("", np.full((100, 200, 3), 90, np.uint8))], mm_per_pixel=0.5)
    white = (picture == 255).all(axis=2)
    longest = max((len(list(run)) for row in white for on, run in itertools.groupby(row) if on), default=0)
    # At most 0.3 x 200 pixels of 0.5 mm = 30 mm: the bar says 20 mm, 40 pixels with its dark rim.
    assert longest == 39
    assert round_length_mm(30) == 20


def screen_of(reference=True, prediction=True) -> CaseView:
    masks = np.zeros((2, 9, 8, 7), bool)
    masks[0, 2:5, 2:5, 1:5] = True
    masks[1, 5:7, 2:5, 2:4] = True
    return CaseView.of(
        body(),
        np.diag([*SPACING, 1]),
        LABELS,
        reference=masks if reference else None,
        prediction=np.roll(masks, 1, axis=1) if prediction else None,
        name="case1",
    )


@pytest.mark.parametrize("style", STYLES)
def test_every_style_draws(style):
    picture = draw(screen_of(), style=style)
    assert picture.dtype == np.uint8
    assert picture.std() > 5
    colours = {tuple(colour) for colour in picture.reshape(-1, 3).tolist()}
    assert colours >= {region.colour for region in LABELS.regions}
    if style == "overlay":
        assert {MISSED, INVENTED} <= colours


def test_what_is_not_there_has_no_panel():
    widths = [draw(screen_of(*there), scale=20).shape[1] for there in ((True, True), (True, False), (False, False))]
    assert widths[0] > widths[1] > widths[2]
    with pytest.raises(UsageError, match="--predictions"):
        draw(screen_of(True, False), style="overlay")
    with pytest.raises(UsageError, match="many slices"):
        draw(screen_of(), style="montage", number=2)
    with pytest.raises(UsageError, match="must be one of panels"):
        draw(screen_of(), style="nice")
    assert len(list(frames(screen_of()))) == 7  # slices 1 to 4, two more on each side as far as there are
    with pytest.raises(UsageError, match="does not move"):
        list(frames(screen_of(), style="montage"))


def test_a_long_legend_names_what_is_in_the_slice():
    labels = LabelTable.exclusive([f"region_{i}" for i in range(30)])
    masks = np.zeros((30, 9, 8, 7), bool)
    masks[3, :, :, 2] = masks[7, :, :, 5] = True
    case_view = CaseView.of(body(), np.eye(4), labels, reference=masks)
    assert draw(case_view, number=2, scale=20).shape[0] < 330
    pictures = {picture.shape for picture in frames(case_view, scale=20)}
    assert len(pictures) == 1  # the legend stays where it is


def test_the_fullest_slice_is_taken():
    case_view = screen_of()
    assert case_view.fullest in (2, 3)
    assert screen_of(False, False).fullest == 3


def test_animations_keep_frames_times_and_colours(tmp_path: Path):
    pictures = list(frames(screen_of(), scale=10))
    colours = [region.colour for region in LABELS.regions]
    for name in ("a.gif", "a.webp"):
        write_animation(tmp_path / name, pictures, colours=colours, ms=100)
        with Image.open(tmp_path / name) as moving:
            assert moving.n_frames == len(pictures)
            for i, expected in enumerate(pictures):
                moving.seek(i)
                got = np.asarray(moving.convert("RGB"))
                for colour in colours:
                    np.testing.assert_array_equal((got == colour).all(axis=2), (expected == colour).all(axis=2))
                if name == "a.webp":
                    np.testing.assert_array_equal(got, expected)
    with pytest.raises(UsageError, match=r"\.gif or \.webp"):
        write_animation(tmp_path / "a.mp4", pictures)
    with pytest.raises(UsageError, match="one size"):
        write_animation(tmp_path / "a.gif", [])
    assert sorted(path.name for path in tmp_path.iterdir()) == ["a.gif", "a.webp"]


def test_snapshots_are_joined_in_the_order_of_the_epochs(tmp_path: Path):
    run = tmp_path / "run"
    for epoch, level in ((10_000, 30), (2, 10), (4, 20)):
        write_png(snapshot_path(run, epoch), np.full((40, 50, 3), level, np.uint8))
    assert [int(snapshot.picture[0, 0, 0]) for snapshot in read_snapshots(run)] == [10, 20, 30]
    assert animate_training(run, tmp_path / "training.webp") == 3
    with pytest.raises(SystemExit) as left:
        main(["animate", str(run), "-o", str(tmp_path / "training.gif")])
    assert left.value.code == 0
    with Image.open(tmp_path / "training.gif") as moving:
        assert moving.n_frames == 3
        assert moving.size == (50, 40)  # pictures without a Dice have no curve
    (run / "snapshots" / "epoch_0006.png").write_bytes(b"no picture")
    with pytest.raises(UsageError, match="is no snapshot"):
        read_snapshots(run)
    with pytest.raises(UsageError, match="holds no snapshots"):
        read_snapshots(tmp_path)


def test_the_dice_of_the_snapshots_is_drawn_beside_them(tmp_path: Path):
    colours = {region.name: region.colour for region in LABELS.regions}
    scores = [{}, {"a": 0.0}, {"a": 0.5, "b": 0.9}]  # b is empty at first, and nothing was there before
    for epoch, dice in enumerate(scores, start=1):
        write_snapshot(tmp_path, Snapshot(np.zeros((60, 50, 3), np.uint8), epoch, dice, colours))
    assert [snapshot.dice for snapshot in read_snapshots(tmp_path)] == scores
    assert read_snapshots(tmp_path)[0].colours == colours
    assert animate_training(tmp_path, tmp_path / "training.webp") == 3
    drawn = []
    with Image.open(tmp_path / "training.webp") as moving:
        for frame in range(3):
            moving.seek(frame)
            pixels = np.asarray(moving.convert("RGB"))
            assert not pixels[:60, :50].any()
            drawn.append([int((pixels[:, 50:] == colour).all(axis=2).sum()) for colour in colours.values()])
    a, b = zip(*drawn, strict=True)
    assert a[0] < a[1] < a[2]  # the key; a point; a line
    assert b[0] == b[1] < b[2]


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    """One case, stored LPS."""
    folder = tmp_path / "cohort"
    affine = np.diag([-1.5, -1.5, 3, 1])
    label = np.zeros((24, 20, 10), np.uint8)
    label[4:10, 4:12, 2:8] = 1
    label[12:18, 4:12, 3:7] = 2
    image = label * 40 + np.random.default_rng(0).integers(0, 50, label.shape)
    write_volume(folder / "imagesTr/case1_0000.nii.gz", Volume(image.astype(np.int16), affine))
    write_volume(folder / "labelsTr/case1.nii.gz", Volume(label, affine))
    dataset = {"channel_names": {"0": "MR"}, "file_ending": ".nii.gz", **LABELS.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return folder


def predict(cohort: Path, folder: Path) -> str:
    opened = Cohort.open(cohort)
    key = opened.keys[0]
    reference = read_volume(opened.label_path(key))
    write_volume(folder / f"{key}.nii.gz", Volume(np.roll(reference.voxels, 1, axis=0), reference.affine_ras))
    return key


def test_the_command_draws_what_was_asked_for(cohort: Path, tmp_path: Path):
    key = predict(cohort, tmp_path / "predictions")
    words = ["picture", str(cohort), key, "--predictions", str(tmp_path / "predictions")]
    for more, name in (
        (["--style", "overlay"], "a.png"),
        (["--plane", "sagittal", "--slice", "3"], "b.png"),
        (["--style", "montage"], "c.png"),
        ([], "d.gif"),
        (["--style", "overlay", "--plane", "coronal"], "e.webp"),
    ):
        with pytest.raises(SystemExit) as left:
            main([*words, *more, "-o", str(tmp_path / name)])
        assert left.value.code == 0
        with Image.open(tmp_path / name) as picture:
            picture.load()
            assert (getattr(picture, "n_frames", 1) > 1) == (name[0] in "de")


def test_nothing_differs_where_nobody_looked(cohort: Path, tmp_path: Path):
    shutil.copytree(cohort, tmp_path / "sparse")
    opened = Cohort.open(tmp_path / "sparse")
    key = predict(cohort, tmp_path)
    path = opened.label_path(key)
    label = read_volume(path)
    dataset = json.loads((opened.folder / "dataset.json").read_text())
    dataset["labels"]["ignore"] = 200
    (opened.folder / "dataset.json").write_text(json.dumps(dataset))
    for ignored in (0, 200):
        write_volume(path, Volume(np.full_like(label.voxels, ignored), label.affine_ras))
        case_view = read_case_view(Cohort.open(opened.folder), key, predictions=tmp_path)
        shown = case_view.view.number(int(case_view.prediction.sum(axis=(0, 2, 3)).argmax()), case_view.slices)
        picture = draw(case_view, style="overlay", number=shown)
        differences = picture[: 3 * picture.shape[0] // 4, 3 * picture.shape[1] // 4 :]  # the last panel
        found = (np.abs(differences.astype(int) - INVENTED).max(axis=2) < 65).sum()
        assert (found > 50) == (ignored == 0)


def test_a_case_that_cannot_be_drawn_says_why(cohort: Path, tmp_path: Path):
    opened = Cohort.open(cohort)
    key = predict(cohort, tmp_path)
    case_view = read_case_view(opened, key)
    with pytest.raises(UsageError, match=r"\.png, \.gif or \.webp"):
        illustrate(case_view, tmp_path / "a.jpg")
    with pytest.raises(UsageError, match="leave --slice out"):
        illustrate(case_view, tmp_path / "a.gif", number=3)
    with pytest.raises(UsageError, match="must be 0 to 0, got 1"):
        read_case_view(opened, key, channel=1)
    prediction = read_volume(tmp_path / f"{key}.nii.gz")
    write_volume(tmp_path / f"{key}.nii.gz", Volume(prediction.voxels[1:], prediction.affine_ras))
    with pytest.raises(GeometryError, match=f"{key}: the prediction: it is not on the image's grid"):
        read_case_view(opened, key, predictions=tmp_path)
    with pytest.raises(SystemExit) as left:
        main(["picture", str(cohort), "nobody", "-o", str(tmp_path / "a.png")])
    assert left.value.code == 2


@pytest.mark.parametrize("labels", [LabelTable.overlapping(["a", "b", "c"]), LabelTable.exclusive(list("abcdefg"))])
def test_the_difference_in_the_viewer_is_that_of_the_masks(labels):
    reference, prediction = np.random.default_rng(0).integers(0, 8, (2, 9, 8, 7)).astype(np.uint8)
    masks = difference_masks(labels.masks(reference), labels.masks(prediction))
    assert np.array_equal(_difference(reference, prediction, labels), masks[0] + masks[1] * 2 + masks[2] * np.uint8(3))


@pytest.mark.parametrize("held", [1, 2, 5, 40])
def test_the_centre_is_the_median_of_the_places(held):
    places = np.random.default_rng(held).integers(0, 20, held)
    assert _median_place(np.bincount(places, minlength=20)) == np.median(places)


@pytest.mark.parametrize("unit", [1.0, 1e-9, 1e9])
def test_grey_levels_do_not_depend_on_the_unit(unit):
    """Diffusion in m2/s has values of 1e-9: such an image was black."""
    image = np.array([0.0, 1.0, 2.0, np.nan], np.float32) * np.float32(unit)
    assert grey_levels(image, window=(0, 2 * unit)).tolist() == [0, 128, 255, 0]
    assert grey_levels(np.array([0, 0, 5]), window=(0, 0)).tolist() == [0, 0, 255]


@pytest.mark.parametrize("name", ["case.gif", "case.webp"])
def test_the_title_of_a_long_key_is_no_obstacle_to_an_animation(tmp_path, name):
    case_view = CaseView.of(np.zeros((4, 4, 12)), np.eye(4), LABELS, name="PATIENT_WITH_A_LONG_NAME_2024-01-31")
    sizes = [frame.shape for frame in frames(case_view)]
    assert len(set(sizes)) > 1, "slice 9 of 12 is narrower than slice 10 of 12"
    illustrate(case_view, tmp_path / name)
    with Image.open(tmp_path / name) as picture:
        assert picture.n_frames == len(sizes)


def test_a_training_of_many_regions_is_animated_whatever_each_validation_found(tmp_path):
    labels = LabelTable.exclusive([f"region {number}" for number in range(20)])
    image, nothing = np.zeros((30, 30, 1)), np.zeros((20, 30, 30, 1), bool)
    for epoch, found in enumerate((1, 20), start=1):
        prediction = nothing.copy()
        prediction[:found, 3:9] = True
        picture = draw(CaseView.of(image, np.eye(4), labels, reference=nothing, prediction=prediction))
        write_snapshot(tmp_path, Snapshot(picture, epoch, {"region 0": 0.5}))
    assert len({snapshot.picture.shape for snapshot in read_snapshots(tmp_path)}) == 2
    assert animate_training(tmp_path, tmp_path / "training.gif") == 2


def test_a_slice_of_many_thousand_pixels_is_drawn_small_and_loses_no_region(tmp_path):
    shape = (30, 6000, 1)  # three panels of it would be wider than a WebP may be
    image, label_map = np.zeros(shape, np.int16), np.zeros(shape, np.uint8)
    label_map[11, 4001] = 1
    volumes = [Volume(voxels, np.eye(4)) for voxels in (image, label_map, label_map)]
    picture = draw_case(ReviewCase("case", volumes[0], "MR", *volumes[1:], LABELS))
    assert max(picture.size) <= 3 * 1600
    drawn = draw(CaseView.of(image, np.eye(4), LABELS, prediction=LABELS.masks(label_map)), style="montage")
    assert max(drawn.shape) <= 1700
    small = panel(image[..., 0].astype(np.uint8), LABELS.masks(label_map[..., 0]), [(250, 0, 0)] * 2, fill=1, scale=0.1)
    assert np.argwhere(small[..., 0]).tolist() == [[1, 400]]


@pytest.mark.parametrize("scale", [0, -1])
def test_a_scale_that_is_asked_for_is_a_number_of_pixels(scale):
    with pytest.raises(UsageError, match="the scale must be at least 1"):
        draw(CaseView.of(body(), np.eye(4), LABELS), scale=scale)


@pytest.mark.parametrize("regions", [2, 12])  # of more than eight the legend names those that are there
@pytest.mark.parametrize("style", STYLES)
def test_a_label_map_is_drawn_as_its_masks_are(style, regions):
    labels = LabelTable.exclusive([f"region {number}" for number in range(regions)])
    generator = np.random.default_rng(0)
    reference, prediction = generator.integers(0, 3, (2, 9, 8, 7)).astype(np.uint8)
    for one, other in ((reference, prediction), (np.zeros_like(reference), prediction)):
        views = [
            CaseView.of(body(), np.eye(4), labels, reference=of(one), prediction=of(other), plane="coronal")
            for of in (lambda label_map: label_map, labels.masks)
        ]
        assert np.array_equal(views[0].area, views[1].area)
        assert np.array_equal(draw(views[0], style=style), draw(views[1], style=style))
    with pytest.raises(UsageError, match="the masks must have the shape"):
        CaseView.of(body(), np.eye(4), labels, reference=reference.T)

"""Cohorts of one-slice volumes go the whole way: check, split, evaluate with objects, picture, slices."""

from __future__ import annotations

import csv
import json
import shutil

import numpy as np
import pytest
from image_files import colours, save
from PIL import Image
from scipy import ndimage
from typer.testing import CliRunner

from volseg.cli import app
from volseg.cohort import Cohort, inspect_cohort, write_cohort
from volseg.errors import LabelError
from volseg.evaluation import EvaluationSettings, evaluate
from volseg.evaluation.region import score_region
from volseg.formats import Images
from volseg.labels import LabelTable
from volseg.metrics import match_objects, surface_distances
from volseg.pictures import draw, read_case_view
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (60, 90)


def run(*words, code=0):
    result = CliRunner().invoke(app, [str(word) for word in words])
    assert result.exit_code == code, result.output
    return result.output


@pytest.fixture(scope="module")
def cells(tmp_path_factory):
    """Colour images of cells, two of which touch; one mask a cell; and predictions that join these two."""
    raw = tmp_path_factory.mktemp("cells")
    for number, name in enumerate("abcd"):
        save(raw / name / "image.png", colours(*SHAPE, seed=number))
        for cell, (row, column) in enumerate([(10, 10), (10, 20), (40, 30), (35, 70)][: number + 1]):
            mask = np.zeros(SHAPE, np.uint8)
            mask[row : row + 10, column : column + 10] = 255
            save(raw / name / f"cell{cell}.png", mask)
    source = Images(raw, images="{key}/image.png", masks=["cell={key}/cell*.png"], objects="files", spacing_mm=[0.5])
    folder = raw.parent / f"{raw.name}_cohort"
    assert not write_cohort(source, folder, folds=2).failed
    predictions = raw.parent / f"{raw.name}_predictions"
    for key in "abcd":
        write_volume(predictions / f"{key}.nii.gz", read_volume(folder / "labelsTr" / f"{key}.nii.gz"))
    return folder, predictions


def test_check_tells_areas_and_objects(cells):
    text = run("check", cells[0])
    assert "cell: in 4 of 4 labels, median 62.5 mm2" in text
    assert "objects told apart: 10" in text
    assert "folds: 2/2, 2/2" in text
    assert run("split", cells[0], "--folds", "4").count("3 training, 1 validation") == 4


def test_objects_that_touch_count_by_the_maps_of_the_cohort(cells, tmp_path):
    folder, predictions = cells
    output = run("evaluate", predictions, folder, "-o", tmp_path / "report", "--workers", "1")
    head, line = [line for line in output.splitlines() if not line.startswith("note")][:2]
    assert head.split()[-3:] == ["objects", "of", "F1"]
    assert line.split()[-3:-1] == ["7", "10"]  # the two that touch are one part of a prediction
    with (tmp_path / "report" / "cases.csv").open() as file:
        rows = {row["key"]: row for row in csv.DictReader(file)}
    found = [[int(rows[key][f"{kind}_objects"]) for kind in ("predicted", "reference", "matched")] for key in "abcd"]
    assert found == [[1, 1, 1], [1, 2, 0], [2, 3, 1], [3, 4, 2]]
    assert float(rows["d"]["object_f1"]) == pytest.approx(4 / 7, abs=1e-6)
    assert rows["a"]["hd95_mm"] == "0.0"
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert summary["method"]["objects"]
    assert summary["method"]["instances"]
    assert summary["regions"]["cell"]["reference_objects"]["mean"] == 2.5
    for name in ("report.md", "report.html"):
        text = (tmp_path / "report" / name).read_text()
        assert "Object F1" in text
        assert "against the cohort's maps of objects" in text.replace("&#x27;", "'")
        assert "0.001 ml is 1 mm2" in text
    assert "data-volumes" not in (tmp_path / "report" / "report.html").read_text()  # nothing to turn round in 3D


def test_summary_fits_its_schema_with_and_without_objects(cells, tmp_path):
    from importlib.resources import files

    import jsonschema

    schema = json.loads(files("volseg.report").joinpath("summary.schema.json").read_text())
    for option in ("--objects", "--no-objects"):
        run("evaluate", cells[1], cells[0], "-o", tmp_path / option, "--no-html", option)
        summary = json.loads((tmp_path / option / "summary.json").read_text())
        jsonschema.validate(summary, schema)
        assert (summary["regions"]["cell"]["object_f1"]["mean"] is not None) == (option == "--objects")


def test_without_maps_objects_are_connected_parts(cells):
    rows = evaluate(cells[1], Cohort.open(cells[0]), method=EvaluationSettings(objects=True))
    assert [(row.reference_objects, row.predicted_objects, row.object_f1) for row in rows] == [
        (1, 1, 1.0),
        (1, 1, 1.0),
        (2, 2, 1.0),
        (3, 3, 1.0),
    ]


def test_a_map_of_objects_may_say_nothing_where_nobody_looked(cells, tmp_path):
    folder = tmp_path / "cohort"
    shutil.copytree(cells[0], folder)
    dataset = json.loads((folder / "dataset.json").read_text())
    value = 1 + max(dataset["labels"].values())
    dataset["labels"]["ignore"] = value
    (folder / "dataset.json").write_text(json.dumps(dataset))
    path = folder / "labelsTr" / "d.nii.gz"
    label = read_volume(path)
    voxels = label.voxels.copy()
    voxels[:5] = value
    write_volume(path, Volume(voxels, label.affine_ras))
    assert inspect_cohort(Cohort.open(folder)).failed == {}
    objects = folder / "instancesTr" / "d.nii.gz"
    write_volume(objects, Volume(np.zeros_like(label.voxels), label.affine_ras))
    assert "marks other voxels" in inspect_cohort(Cohort.open(folder)).failed["d"]


def test_a_lost_or_wrong_map_is_an_error_of_its_case(cells, tmp_path):
    folder = tmp_path / "cohort"
    shutil.copytree(cells[0], folder)
    (folder / "instancesTr" / "a.nii.gz").unlink()
    label = read_volume(folder / "labelsTr" / "b.nii.gz")
    write_volume(folder / "instancesTr" / "b.nii.gz", Volume(np.zeros_like(label.voxels), label.affine_ras))
    cohort = Cohort.open(folder)
    failed = inspect_cohort(cohort).failed
    assert "must have a map of objects" in failed["a"]
    assert "marks other voxels than the label" in failed["b"]
    rows = evaluate(cells[1], cohort, method=EvaluationSettings(objects=True, instances=True))
    assert [row.error is None for row in rows] == [False, False, True, True]
    assert "must belong to an object" in rows[1].error


@pytest.mark.parametrize("reading", ["directed", "pooled", "surfel"])
@pytest.mark.parametrize("thin", [0, 1, 2])
def test_surfaces_of_one_slice_are_those_of_the_plane(reading, thin):
    generator = np.random.default_rng(0)
    blobs = ndimage.gaussian_filter(generator.normal(size=(2, 40, 30)), (0, 3, 3)) > 0.03
    wide = (0.5, 0.75)
    expected = surface_distances(*blobs, wide, reading=reading)
    spacing = [*wide]
    spacing.insert(thin, 4.0)
    guess, truth = (np.expand_dims(blob, thin) for blob in blobs)
    row = score_region(
        "a",
        "a",
        "x",
        guess,
        truth,
        image_shape=guess.shape,
        spacing_mm=tuple(spacing),
        method=EvaluationSettings(reading=reading),
    )
    assert row.hd95_mm == pytest.approx(expected.hausdorff_mm())
    assert row.mean_surface_distance_mm == pytest.approx(expected.mean_mm())
    assert row.surface_dice == pytest.approx(expected.surface_dice(3.0))
    # A filled mask has its rim for a boundary, not all of itself, as a slab in space would.
    assert row.hd95_mm > 0


def test_a_shift_in_the_plane_is_a_distance_of_its_rim():
    truth = np.zeros((40, 40, 1), bool)
    truth[5:25, 5:25] = True
    guess = np.roll(truth, 3, axis=0)
    row = score_region(
        "a", "a", "x", guess, truth, image_shape=truth.shape, spacing_mm=(2.0, 2.0, 1.0), method=EvaluationSettings()
    )
    assert (row.hausdorff_mm, row.hd95_mm) == (6.0, 6.0)
    slab = surface_distances(guess, truth, (2.0, 2.0, 1.0))
    assert slab.mean_mm() < row.mean_surface_distance_mm


def test_rims_of_surfels_are_lengths():
    """A square of 10 pixels: each side is 9 steps of straight rim, and each corner a cut of half a diagonal."""
    square = np.zeros((20, 20), bool)
    square[5:15, 5:15] = True
    found = surface_distances(square, square, (0.5, 0.5), reading="surfel")
    assert found.reference_weights.sum() == pytest.approx(4 * 9 * 0.5 + 4 * np.hypot(0.25, 0.25))


def test_an_empty_slice_and_a_single_voxel_do_not_break_it():
    nothing, dot = np.zeros((1, 1, 1), bool), np.ones((1, 1, 1), bool)
    for guess, truth in ((nothing, nothing), (dot, nothing), (dot, dot)):
        for reading in ("directed", "surfel"):
            for shape in ((1, 1, 1), (5, 1, 1), (5, 5, 1)):
                method = EvaluationSettings(objects=True, reading=reading)
                row = score_region("a", "a", "x", guess, truth, image_shape=shape, spacing_mm=(1, 1, 1), method=method)
                assert row.predicted_objects == int(guess.any())


def test_instances_are_counted_within_the_mask_and_must_cover_it():
    reference = np.array([[1, 1, 1, 1, 0]], bool)
    numbers = np.array([[7, 7, 2, 2, 5]])
    found = match_objects(reference, reference, instances=numbers)
    assert (found.predicted, found.reference, found.matched) == (1, 2, 0)
    with pytest.raises(LabelError, match="got 2 that belong to none"):
        match_objects(reference, reference, instances=np.array([[7, 7, 0, 0, 5]]))


def test_a_picture_shows_colours_at_full_resolution(cells, tmp_path):
    folder, predictions = cells
    run("picture", folder, "c", "--predictions", predictions, "-o", tmp_path / "c.png", "--scale", "1")
    picture = np.asarray(Image.open(tmp_path / "c.png"))
    expected = colours(*SHAPE, seed=2)
    upper = expected[:30]  # above the scale bar
    places = np.lib.stride_tricks.sliding_window_view(picture[..., 0], upper.shape[:2])
    ((row, column),) = np.argwhere((places == upper[..., 0]).all(axis=(2, 3)))
    assert np.array_equal(picture[row : row + 30, column : column + SHAPE[1]], upper)
    case_view = read_case_view(Cohort.open(folder), "c")
    assert case_view.intensity.shape == (1, *SHAPE, 3)
    assert case_view.edges is None  # nobody said where the patient's right is
    assert case_view.mm_per_pixel(2) == 0.25
    assert read_case_view(Cohort.open(folder), "c", channel=1).intensity.shape == (1, *SHAPE)
    assert draw(case_view, scale=1).shape[2] == 3


def test_no_scale_bar_where_the_spacing_is_unknown(tmp_path):
    save(tmp_path / "raw" / "a.png", colours()[..., 0])
    write_cohort(Images(tmp_path / "raw"), tmp_path / "cohort")
    case_view = read_case_view(Cohort.open(tmp_path / "cohort"), "a")
    assert case_view.mm_per_pixel(1) is None


def test_an_image_of_oblong_pixels_is_drawn_in_its_own_plane(tmp_path):
    from volseg.pictures import draw_case, read_review_case

    save(tmp_path / "raw" / "a.png", colours()[..., 0])
    save(tmp_path / "raw" / "a_mask.png", np.full((24, 40), 255, np.uint8))
    source = Images(tmp_path / "raw", masks=["{key}_mask.png"], spacing_mm=[1.0, 3.0])
    write_cohort(source, tmp_path / "cohort")
    (tmp_path / "predictions").mkdir()
    shutil.copy(tmp_path / "cohort" / "labelsTr" / "a.nii.gz", tmp_path / "predictions")
    picture = draw_case(read_review_case("a", tmp_path / "predictions", Cohort.open(tmp_path / "cohort")))
    assert (picture.plane, picture.slices) == ("axial", 1)


def test_slices_out_and_in_again(tmp_path):
    from volseg.formats import UwMadison

    save(tmp_path / "raw" / "a.png", colours()[..., 0])
    save(tmp_path / "raw" / "a_mask.png", np.eye(24, 40, dtype=np.uint8))
    write_cohort(Images(tmp_path / "raw", masks=["lung={key}_mask.png"]), tmp_path / "cohort")
    run("export", "slices", tmp_path / "cohort", tmp_path / "slices")
    case = UwMadison(tmp_path / "slices", labels=LabelTable.exclusive(["lung"])).load("a_day0")
    original = read_volume(tmp_path / "cohort" / "imagesTr" / "a_0000.nii.gz")
    assert np.array_equal(case.channels[0].voxels, original.voxels)
    assert np.allclose(case.channels[0].affine_ras, original.affine_ras)
    assert np.array_equal(case.label.voxels > 0, np.eye(24, 40).T[..., None] > 0)


def test_real_nuclei_against_themselves_without_two(shared_data, tmp_path):
    raw = shared_data / "tissue_nuclei"
    source = Images(raw, images="{key}/images/{key}.png", masks=["nucleus={key}/masks/*.png"], objects="files")
    key = min(source.keys(), key=lambda one: len(source._pairs[one].masks[0]))
    case = source.load(key)
    write_volume(tmp_path / "cohort" / "labelsTr" / f"{key}.nii.gz", case.label)
    write_volume(tmp_path / "cohort" / "instancesTr" / f"{key}.nii.gz", case.instances)
    for number, channel in enumerate(case.channels):
        write_volume(tmp_path / "cohort" / "imagesTr" / f"{key}_{number:04d}.nii.gz", channel)
    dataset = {"channel_names": {"0": "red", "1": "green", "2": "blue"}, "file_ending": ".nii.gz"}
    dataset |= source.labels.to_dataset_json()
    (tmp_path / "cohort" / "dataset.json").write_text(json.dumps(dataset))
    cohort = Cohort.open(tmp_path / "cohort")
    kept = Volume(np.where(case.instances.voxels > 2, 1, 0).astype(np.uint8), case.label.affine_ras)
    write_volume(tmp_path / "predictions" / f"{key}.nii.gz", kept)
    (row,) = evaluate(tmp_path / "predictions", cohort, method=EvaluationSettings(objects=True, instances=True))
    count = len(list((raw / key / "masks").glob("*.png")))
    assert row.reference_objects == count
    assert row.predicted_objects <= count - 2
    assert row.matched_objects <= row.predicted_objects

from __future__ import annotations

import inspect
import json
import math
import threading
from dataclasses import fields

import numpy as np
import pytest
from scored_cohort import AFFINE, REFERENCE, SHAPE, TABLE, box, label_map, make_cohort, write

from volseg.cli import main
from volseg.cohort import Cohort, read_volume_as
from volseg.errors import UsageError
from volseg.evaluation import METRICS, EvaluationSettings, RegionScores, evaluate
from volseg.metrics import margin_to_contain
from volseg.volume import Volume, read_volume, write_volume

VOXEL_ML = 1.5 * 1.5 * 3 / 1000


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(tmp_path / "cohort", {"p1_day1": REFERENCE, "p1_day2": REFERENCE, "p2_day1": REFERENCE})


@pytest.fixture
def predictions(tmp_path):
    folder = tmp_path / "predictions"
    folder.mkdir()
    return folder


def numbers(row: RegionScores) -> dict[str, float]:
    """The numbers of a row that are defined."""
    values = {metric.name: getattr(row, metric.name) for metric in METRICS}
    return {name: value for name, value in values.items() if value is not None}


def only(rows: list[RegionScores]) -> RegionScores:
    assert len(rows) == 1
    return rows[0]


def assert_failed(row: RegionScores, key: str, patient: str, *words: str) -> None:
    assert row == RegionScores(key, patient, "", error=row.error)  # every number is empty
    for word in words:
        assert word in row.error


def test_a_case_by_hand(cohort, predictions):
    # Large bowel: the same 64 voxels. Small bowel: shifted by one voxel along X: 48 of 64 voxels shared, HD95 1.5 mm.
    # Stomach: one voxel invented.
    predicted = label_map(
        large_bowel=box(1, 5, 1, 5, 1, 5), small_bowel=box(4, 8, 3, 7, 1, 5), stomach=box(0, 1, 0, 1, 0, 1)
    )
    write(predictions / "p1_day1.nii.gz", predicted)
    large, small, stomach = evaluate(predictions, cohort)
    ml = 64 * VOXEL_ML
    # Contour of a slice: 12 pixels. Shifted by one along X, 4 pixels of the side and 2 of the middle are not covered:
    # 6 pixels of 1.5 mm in 4 slices. Within 3 mm nothing is to be corrected. Time saved: 4 slices pass, 4 are empty.
    assert numbers(large) == {
        **{"dice": 1, "surface_dice": 1, "jaccard": 1, "precision": 1, "recall": 1, "uw_madison_score": 1},
        **{"hd95_mm": 0, "hausdorff_mm": 0, "mean_surface_distance_mm": 0},
        **{"reference_ml": ml, "predicted_ml": ml, "volume_error_ml": 0, "volume_error_percent": 0},
        **{"added_path_length_mm": 0, "slices_to_correct": 0, "correction_minutes": 0},
        **{"tolerant_path_length_mm": 0, "tolerant_minutes": 0},
        **{"time_saved": 5, "time_saved_from_empty": 2.5},
    }
    diagonal = math.hypot(*SHAPE)
    assert numbers(small) == {
        **{"dice": 0.75, "surface_dice": 1, "jaccard": 48 / 80, "precision": 0.75, "recall": 0.75},
        **{"uw_madison_score": pytest.approx(0.4 * 0.75 + 0.6 * (1 - 1 / diagonal))},
        **{"hd95_mm": 1.5, "hausdorff_mm": 1.5, "mean_surface_distance_mm": small.mean_surface_distance_mm},
        **{"reference_ml": ml, "predicted_ml": ml, "volume_error_ml": 0, "volume_error_percent": 0},
        **{"added_path_length_mm": 36, "slices_to_correct": 0, "correction_minutes": pytest.approx(0.036 * 2)},
        **{"tolerant_path_length_mm": 0, "tolerant_minutes": 0},
        **{"time_saved": 3, "time_saved_from_empty": 1.5},
    }
    assert 0 < small.mean_surface_distance_mm < 1.5
    assert numbers(stomach) == {
        **{"dice": 0, "surface_dice": 0, "jaccard": 0, "precision": 0},
        **{"reference_ml": 0, "predicted_ml": pytest.approx(VOXEL_ML), "volume_error_ml": pytest.approx(VOXEL_ML)},
        **{"added_path_length_mm": 0, "slices_to_correct": 1, "correction_minutes": 0},
        **{"tolerant_path_length_mm": 0, "tolerant_minutes": 0},
        **{"time_saved": (7 * 2 - 4) / 8, "time_saved_from_empty": 7 * 2 / 8},
    }
    assert [row.outcome for row in (large, small, stomach)] == ["both present", "both present", "invented"]


def test_overlapping_regions_are_scored_as_regions(cohort, predictions):
    # The reference's overlap holds the value 3; a prediction of large bowel alone has all of it, and no small bowel.
    write(predictions / "p1_day1.nii.gz", label_map(large_bowel=box(1, 5, 1, 5, 1, 5)))
    large, small, stomach = evaluate(predictions, cohort)
    assert (large.dice, large.outcome) == (1.0, "both present")
    assert (small.dice, small.hd95_mm, small.outcome) == (0.0, None, "missed")
    assert (stomach.dice, stomach.hd95_mm, stomach.outcome) == (None, None, "both empty")
    assert (stomach.reference_ml, stomach.predicted_ml) == (0.0, 0.0)


def test_two_empty_label_maps(tmp_path, predictions):
    nothing = np.zeros(SHAPE, np.uint8)
    write(predictions / "p1_day1.nii.gz", nothing)
    rows = evaluate(predictions, make_cohort(tmp_path / "cohort", {"p1_day1": nothing}))
    assert {(row.dice, row.hd95_mm, row.outcome, row.error) for row in rows} == {(None, None, "both empty", None)}


def test_all_predictions_are_found_and_the_order_is_that_of_the_keys(cohort, predictions):
    for key in ("p2_day1", "p1_day1"):
        write(predictions / f"{key}.nii.gz", REFERENCE)
    (predictions / ".partial-x-p1_day2.nii.gz").write_bytes(b"a killed run")
    (predictions / "notes.txt").write_text("no prediction")
    rows = evaluate(predictions, cohort)
    assert [(row.key, row.region) for row in rows] == [(k, r) for k in ("p1_day1", "p2_day1") for r in TABLE.names]
    rows = evaluate(predictions, cohort, keys=["p2_day1", "p1_day1"])
    assert [row.key for row in rows] == ["p2_day1"] * 3 + ["p1_day1"] * 3


def test_pairing_is_by_key_not_by_position(tmp_path, predictions):
    # One reference more than predictions: by position each prediction would meet a neighbour's reference.
    at = {f"p{i}_day1": label_map(stomach=box(i, i + 2, 0, 3, 0, 3)) for i in range(5)}
    cohort = make_cohort(tmp_path / "cohort", at)
    for key in list(at)[1:]:
        write(predictions / f"{key}.nii.gz", at[key])
    rows = evaluate(predictions, cohort, workers=2)
    assert [row.dice for row in rows if row.region == "stomach"] == [1.0] * 4


def test_the_box_around_the_labels_changes_no_number(tmp_path, predictions):
    # A region at the edge of the grid and one that ends inside: compared with the metrics on the whole grid.
    from volseg.metrics import dice
    from volseg.metrics.surface import hausdorff_mm

    generator = np.random.default_rng(0)
    truth, guess = (generator.random((3, *SHAPE)) < 0.2 for _ in range(2))
    truth[:, :, :2] = guess[:, :, :2] = False
    write(predictions / "p_1.nii.gz", TABLE.encode(guess))
    rows = evaluate(predictions, make_cohort(tmp_path / "cohort", {"p_1": TABLE.encode(truth)}))
    for row, a, b in zip(rows, guess, truth, strict=True):
        assert row.dice == dice(a, b)
        assert row.hd95_mm == pytest.approx(hausdorff_mm(a, b, (1.5, 1.5, 3)))
        assert row.predicted_ml == pytest.approx(a.sum() * VOXEL_ML)


def test_float_predictions_of_whole_numbers_are_read(cohort, predictions):
    write(predictions / "p1_day1.nii.gz", REFERENCE.astype(np.float32))
    assert [row.dice for row in evaluate(predictions, cohort)] == [1.0, 1.0, None]


def test_a_prediction_of_another_shape_is_a_row_with_its_error(cohort, predictions):
    write(predictions / "p1_day1.nii.gz", REFERENCE[:-1])
    row = only(evaluate(predictions, cohort))
    assert_failed(row, "p1_day1", "p1", "must be on the reference's grid", "10 x 9 x 8 against 9 x 9 x 8")


@pytest.mark.parametrize("affine", [np.diag([1.5, 1.5, 3, 1]), np.diag([-1.5, -1.5, 2.5, 1]), np.eye(4)])
def test_a_prediction_with_another_affine_is_a_row_with_its_error(cohort, predictions, affine):
    write(predictions / "p1_day1.nii.gz", REFERENCE, affine)
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "must be on the reference's grid", "mm away")


def test_an_undeclared_value_is_a_row_that_names_the_file(cohort, predictions):
    write(predictions / "p1_day1.nii.gz", np.full(SHAPE, 9, np.uint8))
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "the prediction", "holds 9")


@pytest.mark.parametrize("value", [0.5, np.nan])
def test_a_probability_map_is_no_label_map(cohort, predictions, value):
    write(predictions / "p1_day1.nii.gz", np.full(SHAPE, value, np.float32))
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "the prediction")


def test_an_undeclared_value_in_the_reference_names_the_reference(cohort, predictions):
    write(predictions / "p1_day1.nii.gz", REFERENCE)
    write(cohort.folder / "labelsTr" / "p1_day1.nii.gz", np.full(SHAPE, 200, np.uint8))
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "the reference", "holds 200")


def test_a_file_cut_short_is_a_row_with_its_error(cohort, predictions):
    path = predictions / "p1_day1.nii.gz"
    write(path, np.random.default_rng(0).integers(0, 8, SHAPE, np.uint8))
    path.write_bytes(path.read_bytes()[:-100])
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "the prediction", "cut short")


def test_an_empty_file_is_a_row_with_its_error(cohort, predictions):
    (predictions / "p1_day1.nii.gz").touch()
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "the prediction", "cannot be read")


def test_a_file_without_orientation_is_a_row_with_its_error(cohort, predictions):
    import nibabel

    image = nibabel.Nifti1Image(REFERENCE, AFFINE)
    image.set_qform(None, code=0)
    image.set_sform(None, code=0)
    nibabel.save(image, predictions / "p1_day1.nii.gz")
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "the prediction", "orientation")


def test_an_expected_case_without_prediction_is_a_row_with_its_error(cohort, predictions):
    write(predictions / "p1_day1.nii.gz", REFERENCE)
    rows = evaluate(predictions, cohort, keys=cohort.keys)
    assert [row.key for row in rows] == ["p1_day1"] * 3 + ["p1_day2", "p2_day1"]
    for row, patient in zip(rows[3:], ("p1", "p2"), strict=True):
        assert_failed(row, row.key, patient, f"no prediction {row.key}.nii.gz")


def test_a_prediction_without_reference_is_a_row_with_its_error(tmp_path, predictions):
    cohort = make_cohort(tmp_path / "cohort", {"p1_day1": REFERENCE, "p9_day1": None})
    write(predictions / "p9_day1.nii.gz", REFERENCE)
    assert_failed(only(evaluate(predictions, cohort)), "p9_day1", "p9", "must have a reference label")


@pytest.mark.parametrize("key", ["p7_day1", "../cohort/labelsTr/p1_day1"])
def test_a_key_the_cohort_does_not_know_is_a_row_with_its_error(cohort, predictions, key):
    assert_failed(only(evaluate(predictions, cohort, keys=[key])), key, "", "must have the key of a case of the cohort")


def test_a_sheared_grid_is_a_row_with_its_error(tmp_path, predictions):
    sheared = AFFINE.copy()
    sheared[1, 2] = 0.5
    cohort = make_cohort(tmp_path / "cohort", {"p1_day1": REFERENCE})
    for path in (cohort.folder / "labelsTr" / "p1_day1.nii.gz", predictions / "p1_day1.nii.gz"):
        import nibabel

        image = nibabel.Nifti1Image(REFERENCE, sheared)
        image.set_sform(sheared, code=1)
        nibabel.save(image, path)
    assert_failed(only(evaluate(predictions, cohort)), "p1_day1", "p1", "right angles")


def test_one_failure_does_not_touch_the_other_cases(cohort, predictions):
    write(predictions / "p1_day1.nii.gz", REFERENCE)
    (predictions / "p1_day2.nii.gz").write_bytes(b"no NIfTI" * 100)
    write(predictions / "p2_day1.nii.gz", REFERENCE)
    rows = evaluate(predictions, cohort, workers=3)
    assert [(row.key, row.error is None) for row in rows] == [
        *[("p1_day1", True)] * 3,
        ("p1_day2", False),
        *[("p2_day1", True)] * 3,
    ]


def test_a_case_without_memory_is_a_row_and_the_others_are_scored(cohort, predictions, monkeypatch):
    for key in ("p1_day1", "p1_day2", "p2_day1"):
        write(predictions / f"{key}.nii.gz", REFERENCE)

    def read(role, path):
        if path.name.startswith("p1_day2"):
            raise MemoryError("Unable to allocate 90 GiB")
        return read_volume_as(role, path)

    monkeypatch.setattr("volseg.evaluation.case.read_volume_as", read)
    rows = evaluate(predictions, cohort, too_large={"p2_day1": "the case has 9 x 9 x 9 voxels"})
    errors = {row.key: row.error for row in rows}
    assert errors["p1_day1"] is None
    assert "the memory ran out (Unable to allocate 90 GiB)" in errors["p1_day2"]
    assert errors["p2_day1"] == "the case has 9 x 9 x 9 voxels"


def test_every_number_of_a_row_is_described_once():
    numeric = {field.name for field in fields(RegionScores)} - {
        "key",
        "patient",
        "region",
        "outcome",
        "error",
        "bounds",
        "ignored",
    }
    names = [metric.name for metric in METRICS]
    assert len(set(names)) == len(names)
    assert set(names) == numeric | {"volume_error_ml", "volume_error_percent", "dice_at_least"}
    assert all(metric.title and metric.definition.endswith(".") for metric in METRICS)


def test_the_margin_that_contains_the_reference_is_measured_where_asked_for(cohort, predictions):
    write(predictions / "p1_day1.nii.gz", label_map(large_bowel=box(1, 3, 1, 5, 1, 5)))
    truth = REFERENCE
    assert evaluate(predictions, cohort)[0].margin_mm is None
    rows = evaluate(predictions, cohort, method=EvaluationSettings(margins=True))
    spacing_mm = read_volume(predictions / "p1_day1.nii.gz").spacing_mm
    masks = TABLE.masks(truth), TABLE.masks(read_volume(predictions / "p1_day1.nii.gz").voxels)
    for row, reference, predicted in zip(rows, *masks, strict=True):
        whole = margin_to_contain(predicted, reference, spacing_mm)  # of the whole grid, not of a box
        assert row.margin_mm == (whole if np.isfinite(whole) else None)
    assert rows[0].margin_mm > 0


def test_objects_are_counted_where_asked_for(cohort, predictions):
    predicted = label_map(large_bowel=box(1, 5, 1, 5, 1, 5), stomach=box(0, 1, 0, 1, 0, 1))
    predicted[2, 2, 2] = 0  # a hole
    write(predictions / "p1_day1.nii.gz", predicted)
    assert evaluate(predictions, cohort)[0].reference_objects is None
    large, small, stomach = evaluate(predictions, cohort, method=EvaluationSettings(objects=True))
    assert (large.reference_objects, large.predicted_objects, large.matched_objects, large.object_f1) == (1, 1, 1, 1)
    assert (large.reference_holes, large.predicted_holes) == (0, 1)
    assert (small.reference_objects, small.predicted_objects, small.object_f1) == (1, 0, 0)
    assert (stomach.reference_objects, stomach.predicted_objects, stomach.object_f1) == (0, 1, 0)
    write(predictions / "p1_day1.nii.gz", np.zeros(SHAPE, np.uint8))
    stomach = evaluate(predictions, cohort, method=EvaluationSettings(objects=True))[2]
    assert (stomach.reference_objects, stomach.predicted_objects, stomach.object_f1) == (0, 0, None)


def test_the_method_changes_what_it_names(cohort, predictions):
    predicted = label_map(small_bowel=box(4, 8, 3, 7, 1, 5))
    predicted[box(8, 10, 7, 9, 7, 8)] = 2  # 4 strays beside 56 boundary voxels: above 5 % of one, not of both
    write(predictions / "p1_day1.nii.gz", predicted)
    rows = {
        name: evaluate(predictions, cohort, method=EvaluationSettings(**{name: value}))[1]
        for name, value in {"reading": "pooled", "tolerance_mm": 1.0, "minutes_per_metre": 4.0}.items()
    }
    standard = evaluate(predictions, cohort)[1]
    assert rows["reading"].hd95_mm != standard.hd95_mm
    assert rows["reading"].hausdorff_mm == standard.hausdorff_mm
    assert rows["tolerance_mm"].surface_dice < standard.surface_dice
    assert rows["tolerance_mm"].slices_to_correct > standard.slices_to_correct
    assert rows["minutes_per_metre"].correction_minutes == pytest.approx(2 * standard.correction_minutes)
    surfel = evaluate(predictions, cohort, method=EvaluationSettings(reading="surfel"))[1]
    assert surfel.hd95_mm > 0
    for wrong in (
        {"reading": "nearest"},
        {"tolerance_mm": -1.0},
        {"minutes_per_metre": math.nan},
        {"apl_tolerance_mm": -1.0},
    ):
        with pytest.raises(UsageError):
            EvaluationSettings(**wrong)
    with pytest.raises(UsageError, match="tolerance of the added path length"):
        EvaluationSettings(apl_tolerance_mm=-1.0)


def test_no_more_cases_than_workers_are_held(tmp_path, predictions):
    """Streaming: the peak memory of 16 cases is that of 4; with one worker, whose peak does not depend on timing."""
    import tracemalloc

    label = np.zeros((60, 60, 60), np.uint8)
    label[10:50, 10:50, 10:50] = 3
    cohort = make_cohort(tmp_path / "cohort", {f"p{i}_1": label for i in range(16)})
    for key in cohort.keys:
        write(predictions / f"{key}.nii.gz", label)
    peaks = []
    for count in (2, 4, 16):  # the first loads what is loaded once
        tracemalloc.start()
        evaluate(predictions, cohort, keys=cohort.keys[:count], workers=1)
        peaks.append(tracemalloc.get_traced_memory()[1])
        tracemalloc.stop()
    assert peaks[2] < 1.3 * peaks[1]


def test_workers_change_nothing(tmp_path, predictions):
    generator = np.random.default_rng(0)
    cohort = make_cohort(
        tmp_path / "cohort", {f"p{i}_1": generator.integers(0, 8, SHAPE).astype(np.uint8) for i in range(6)}
    )
    for key in cohort.keys:
        write(predictions / f"{key}.nii.gz", generator.integers(0, 8, SHAPE).astype(np.uint8))
    assert evaluate(predictions, cohort, workers=3) == evaluate(predictions, cohort)


def test_progress_is_told_from_the_calling_thread(cohort, predictions):
    seen = []
    evaluate(
        predictions,
        cohort,
        keys=cohort.keys,
        workers=2,
        progress=lambda done, total: seen.append((done, total, threading.get_ident())),
    )
    assert seen == [(i, 3, threading.get_ident()) for i in (1, 2, 3)]


def test_what_cannot_be_is_refused(cohort, predictions, tmp_path):
    with pytest.raises(UsageError, match="is no folder"):
        evaluate(tmp_path / "nowhere", cohort)
    with pytest.raises(UsageError, match="holds no prediction"):
        evaluate(predictions, cohort)
    with pytest.raises(UsageError, match="more than once"):
        evaluate(predictions, cohort, keys=["p1_day1", "p1_day1"])
    with pytest.raises(UsageError, match="at least 1, got 0"):
        evaluate(predictions, cohort, keys=["p1_day1"], workers=0)


def test_real_hippocampi_against_their_own_shift(shared_data, tmp_path, predictions):
    """References of the decathlon, opened as a cohort; predictions are the references moved by one voxel along Z."""
    from volseg.volume import read_volume

    raw = shared_data / "Task04_Hippocampus"
    files = sorted((raw / "labelsTr").glob("[!.]*.nii.gz"))[:6]
    folder = tmp_path / "hippocampi"
    for path in files:
        key = path.name.removesuffix(".nii.gz")
        label = read_volume(path)
        write_volume(folder / "labelsTr" / path.name, label)
        write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", label)
        write_volume(predictions / path.name, Volume(np.roll(label.voxels, 1, axis=2), label.affine_ras))
    dataset = {
        "channel_names": {"0": "MR"},
        "labels": {"background": 0, "Anterior": 1, "Posterior": 2},
        "numTraining": len(files),
        "file_ending": ".nii.gz",
    }
    (folder / "dataset.json").write_text(json.dumps(dataset))
    rows = evaluate(predictions, Cohort.open(folder), workers=2)
    assert len(rows) == 2 * len(files)
    for row in rows:
        assert row.error is None
        assert row.outcome == "both present"
        assert 0.75 < row.dice < 0.98
        assert row.hd95_mm == pytest.approx(1.0)  # mm: the shift
        assert row.reference_ml == pytest.approx(row.predicted_ml)
        assert 0.5 < row.reference_ml < 4  # half a hippocampus


def test_the_command_has_the_defaults_of_the_method():
    from volseg.cli.evaluate import evaluate as command

    defaults = {name: parameter.default for name, parameter in inspect.signature(command).parameters.items()}
    standard = EvaluationSettings()
    assert defaults["tolerance_mm"].default == standard.tolerance_mm
    assert defaults["hd_reading"].default == standard.reading
    assert defaults["minutes_per_metre"].default == standard.minutes_per_metre
    assert defaults["apl_tolerance"].default == standard.apl_tolerance_mm
    assert defaults["objects"].default is None  # the cohort decides
    assert not standard.objects


def test_the_command_passes_the_method_on(cohort, predictions, tmp_path):
    from volseg.cli import main

    write(predictions / "p1_day1.nii.gz", REFERENCE)
    words = ["evaluate", str(predictions), str(cohort.folder), "-o", str(tmp_path / "report"), "--no-html"]
    words += ["--tolerance-mm", "2", "--hd-reading", "surfel", "--minutes-per-metre", "1.5", "--objects"]
    words += ["--apl-tolerance", "2.5"]
    with pytest.raises(SystemExit) as stopped:
        main(words)
    assert not stopped.value.code
    method = json.loads((tmp_path / "report" / "summary.json").read_text())["method"]
    assert method == {
        "tolerance_mm": 2.0,
        "reading": "surfel",
        "minutes_per_metre": 1.5,
        "apl_tolerance_mm": 2.5,
        "objects": True,
        "instances": False,
        "margins": False,
    }


def test_the_command_says_what_it_takes_and_what_it_leaves(cohort, predictions, tmp_path, capsys):
    """Label maps of another ending, and a folder that does not say what its values mean."""
    write(predictions / "p1_day1.nii.gz", REFERENCE)
    write(predictions / "p1_day2.nii", REFERENCE)
    words = ["evaluate", str(predictions), str(cohort.folder), "-o", str(tmp_path / "report"), "--no-html"]
    for stated in (False, True):
        if stated:
            (predictions / "p1_day2.nii").unlink()
            (predictions / "dataset.json").write_text((cohort.folder / "dataset.json").read_text())
        with pytest.raises(SystemExit):
            main(words)
        told = " ".join(capsys.readouterr().err.split())
        assert ("files of other endings than .nii.gz are left out, 1 in all: p1_day2.nii" in told) is not stated
        assert ("so they are taken as the cohort has them: 1/3/5/7 large_bowel, 2/3/6/7 small" in told) is not stated


def test_a_folder_of_other_endings_is_named(cohort, predictions):
    write(predictions / "p1_day1.nii", REFERENCE)
    with pytest.raises(UsageError, match=r"holds no prediction KEY\.nii\.gz, but p1_day1\.nii; write them as"):
        evaluate(predictions, cohort)

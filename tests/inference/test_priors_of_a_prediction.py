"""The priors of cases to predict: the last earlier day of the same patient, aligned, or none and why."""

from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
import torch
from bent_days import bend_all, without_elastix
from scored_cohort import make_cohort
from tiny_bundle import ROI, network, write_bundle
from treatment_days import write_days

from volseg.bundle import Recipe
from volseg.cohort import Alignments
from volseg.errors import CheckpointError, UsageError, VolumeError
from volseg.inference import Predictor, PriorRow, PriorSource, find_priors, write_priors
from volseg.inference.ensemble import check_members
from volseg.jobs.job import input_digest
from volseg.jobs.networks import Predicting
from volseg.labels import LabelTable, prior_channels
from volseg.training import Priors
from volseg.transforms import preprocessing, prior_arrays
from volseg.volume import Volume, read_volume, write_volume


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    return write_days(tmp_path_factory.mktemp("days"), twins=("day9",))


@pytest.fixture(scope="module")
def alignments(tmp_path_factory):
    return Alignments(tmp_path_factory.mktemp("alignments"))


def cases(cohort, keys):
    return [(key, cohort.image_paths(key)) for key in keys]


def found(cohort, source, alignments, keys, **given):
    return find_priors(cases(cohort, keys), source, cohort=cohort, alignments=alignments, labels=cohort.labels, **given)


def test_the_last_earlier_session_of_the_same_patient(cohort, alignments, tmp_path):
    source = PriorSource.open(cohort.folder, channels=1)
    keys = ["a_day0", "a_day10", "a_day9", "a_day9x", "b_day10"]
    priors, rows = found(cohort, source, alignments, keys)
    assert {key: prior.key for key, prior in priors.items()} == {
        "a_day10": "a_day9",
        "a_day9": "a_day0",
        "a_day9x": "a_day0",
        "b_day10": "b_day9",
    }
    by_key = {row.key: row for row in rows}
    assert by_key["a_day10"].gap_days == 1
    assert by_key["a_day9"].gap_days == 9
    assert not by_key["a_day0"].used
    assert "no earlier session of a" in by_key["a_day0"].reason
    assert by_key["a_day10"].misalignment_mm < 4
    path = write_priors(tmp_path, rows)
    table = {row["key"]: row for row in csv.DictReader(path.read_text().splitlines())}
    assert (table["a_day9"]["prior"], table["a_day9"]["used"], table["a_day0"]["used"]) == ("a_day0", "yes", "no")


def test_label_maps_beside_their_images_and_predictions_with_images_of_the_cohort(cohort, alignments, tmp_path):
    shutil.copy(cohort.folder / "dataset.json", tmp_path)
    shutil.copy(cohort.label_path("a_day0"), tmp_path / "a_day0.nii.gz")
    with pytest.raises(UsageError, match="not its image a_day0_0000"):
        PriorSource.open(tmp_path, channels=1)
    source = PriorSource.open(tmp_path, channels=1, images=cohort.folder)
    shutil.copy(cohort.image_paths("a_day0")[0], tmp_path / "a_day0_0000.nii.gz")
    beside = PriorSource.open(tmp_path, channels=1)
    assert list(beside.rows) == list(source.rows) == ["a_day0"]
    priors, rows = found(cohort, beside, alignments, ["a_day10"])
    assert priors["a_day10"].label == str(tmp_path / "a_day0.nii.gz")
    assert rows[0].used


def test_a_cohort_without_labels_is_no_source_of_priors(tmp_path):
    """Images in imagesTs beside an empty imagesTr ended with an unexpected StopIteration."""
    images = make_cohort(tmp_path / "images", {"a_day0": None})
    (images.folder / "imagesTr").mkdir(exist_ok=True)
    with pytest.raises(UsageError, match="must hold labelled cases, got none; name a cohort with labels"):
        PriorSource.open(images.folder, channels=1)


def test_another_patients_prior_is_refused_by_its_key_and_allowed_by_a_flag(cohort, alignments, tmp_path):
    shutil.copy(cohort.folder / "dataset.json", tmp_path)
    shutil.copy(cohort.label_path("a_day0"), tmp_path / "a_day0.nii.gz")
    source = PriorSource.open(tmp_path, channels=1, images=cohort.folder)
    with pytest.raises(UsageError, match="the prior a_day0 is of the patient a, and b_day9 is of b"):
        found(cohort, source, alignments, ["b_day9"])
    # It is meant for a case that is there: the others are predicted without one, as with two priors.
    priors, rows = found(cohort, source, alignments, ["b_day9", "a_day9"])
    assert set(priors) == {"a_day9"}
    assert rows[0].reason == f"no earlier session of b in {tmp_path.name}"
    priors, rows = found(cohort, source, alignments, ["b_day9"], any_patient=True)
    assert rows[0].patient == "a"
    assert rows[0].gap_days is None
    assert set(priors) <= {"b_day9"}


def test_an_alignment_that_leaves_more_than_days_of_one_patient_gives_no_prior(cohort, alignments):
    source = PriorSource.open(cohort.folder, channels=1)
    measured = {"misalignment_mm": 0.001, "widths_mm": {"ball": 20.0}}
    priors, rows = found(cohort, source, alignments, ["a_day10"], measured=measured)
    assert priors == {}
    assert "days of one patient by at most 0.0 mm where the network was trained; is it the same" in rows[0].reason
    assert rows[0].misalignment_mm > 0
    forced, _ = found(cohort, source, alignments, ["a_day10"], measured=measured, any_patient=True)
    assert forced["a_day10"].widths_mm == {"ball": 20.0}
    known, _ = found(cohort, source, alignments, ["a_day10"], measured={**measured, "misalignment_mm": 5.0})
    assert set(known) == {"a_day10"}
    before, _ = found(cohort, source, alignments, ["a_day10"])
    assert before["a_day10"].widths_mm == {}, "networks of before have the width that they were trained with"


def test_a_prior_is_read_anew_if_its_label_table_says_something_else(cohort, tmp_path):
    alignments = Alignments(tmp_path / "alignments")
    images = cohort.image_paths("a_day9")
    shutil.copy(cohort.label_path("a_day0"), tmp_path / "a_day0.nii.gz")
    digests = []
    for labels in ({"ball": 1}, {"ball": 1}, {"other": 1, "ball": 2}):
        dataset = json.loads((cohort.folder / "dataset.json").read_text())
        (tmp_path / "dataset.json").write_text(json.dumps({**dataset, "labels": {"background": 0, **labels}}))
        source = PriorSource.open(tmp_path, channels=1, images=cohort.folder)
        work = Predicting([], priors=found(cohort, source, alignments, ["a_day9"])[0])
        digests.append(input_digest(work.inputs("a_day9", images), work.facts("a_day9")))
    assert digests[0] == digests[1] != digests[2]
    prior = work.priors["a_day9"]
    moved = replace(
        prior.registration, matrix_ras=tuple((*row[:3], row[3] + 1) for row in prior.registration.matrix_ras)
    )
    for other in (
        replace(prior, widths_mm={"ball": 12.0}),
        replace(prior, kind="predicted"),
        replace(prior, registration=moved),
    ):
        assert other.reading != prior.reading
    assert Predicting([]).facts("a_day9") == "", "what was predicted without priors stays"


def test_a_table_without_the_regions_is_refused(cohort, alignments):
    source = PriorSource.open(cohort.folder, channels=1)
    with pytest.raises(UsageError, match="lacks bowel of the network"):
        find_priors(
            cases(cohort, ["a_day9"]),
            source,
            cohort=cohort,
            alignments=alignments,
            labels=LabelTable.exclusive(["bowel"]),
        )


def test_a_failed_alignment_is_a_row_and_no_prior(tmp_path):
    cohort = write_days(tmp_path / "days", patients=("a",), days=("day0", "day1"))
    path = cohort.image_paths("a_day0")[0]
    image = read_volume(path)
    write_volume(path, type(image)(np.zeros(image.shape, np.float32), image.affine_ras))
    source = PriorSource.open(cohort.folder, channels=1)
    priors, rows = found(cohort, source, Alignments(tmp_path / "x"), ["a_day1"])
    assert priors == {}
    assert rows[0].prior == "a_day0"
    assert not rows[0].used
    assert "alignment failed" in rows[0].reason


def test_keys_tell_patients_where_there_is_no_table(cohort, alignments):
    source = PriorSource.open(cohort.folder, channels=1)
    priors, _ = find_priors(
        cases(cohort, ["a_day10"]), source, cohort=None, alignments=alignments, labels=cohort.labels
    )
    assert priors["a_day10"].key == "a_day9"


def test_an_alignment_is_computed_once_and_its_inverse_serves_the_other_direction(cohort, tmp_path):
    read = []

    def reader(path):
        read.append(path)
        return read_volume(path)

    kept = Alignments(tmp_path, read=reader)
    first, last = cohort.image_paths("a_day0")[0], cohort.image_paths("a_day10")[0]
    there = kept.of(first, last)
    back = kept.of(last, first)
    again = Alignments(tmp_path, read=reader).of(first, last)
    assert len(read) == 2
    assert again == there
    assert np.allclose(there.matrix @ back.matrix, np.eye(4))
    next(tmp_path.glob("*.json")).write_text("{")
    assert np.allclose(Alignments(tmp_path).of(first, last).matrix, there.matrix)


@pytest.mark.parametrize("alignment", [None, "deformable"])
def test_training_and_inference_show_the_network_the_same(cohort, tmp_path, monkeypatch, alignment):
    bend_all(monkeypatch, 8.0)
    bundle = write_bundle(tmp_path / "bundle")
    names = ["MR", *prior_channels(["MR"], ["ball"])]
    schemes = [{"scheme": name} for name in ("mr", "mr", "none", "none")]
    facts = {} if alignment is None else {"prior_alignment": alignment}  # networks of before do not say it
    recipe = Recipe(cohort.labels, names, [4, 4, 4], list(ROI), {"feature_size": 12, "window_size": 4}, facts, schemes)
    assert recipe.prior_alignment == (alignment or "rigid")
    checkpoint = tmp_path / "model.pt"
    weights = network(cohort.labels, channels=4).state_dict()
    torch.save({"model": weights, "recipe": recipe.state_dict()}, checkpoint)
    predictor = Predictor.from_bundle(bundle, checkpoint=checkpoint, device="cpu")
    assert predictor.recipe.image_channels == ("MR",)
    kept = Alignments(tmp_path / "cache" / "alignments")
    files = cohort.image_paths("b_day10")
    way = predictor.recipe.prior_alignment
    told = Priors(cohort, on=True, cache_dir=str(tmp_path / "cache"), alignment=way)
    source = PriorSource.open(cohort.folder, channels=1)
    priors, _ = found(cohort, source, kept, ["b_day10"], measured=told.measured, alignment=way)
    assert (priors["b_day10"].deformation is None) == (alignment is None)
    steps = preprocessing(cohort.labels, channels=1, spacing_mm=(4, 4, 4), normalisation=[{"scheme": "mr"}], prior=True)
    trained = {item["key"]: np.asarray(steps(item)["image"]) for item in told.datalist("validation")}
    alone = predictor.preprocess(files, key="b_day10")["image"]
    assert alone.shape[0] == 4
    assert not alone[1:].any()
    assert np.allclose(predictor.preprocess(cohort.image_paths("b_day0"), key="b_day0")["image"], trained["b_day0"])
    seen = replace(predictor, priors=priors).preprocess(files, key="b_day10")["image"]
    assert np.allclose(np.asarray(seen), trained["b_day10"], atol=1e-4)
    prediction = replace(predictor, priors=priors).predict(files, key="b_day10")
    assert prediction.label_map.shape == read_volume(files[0]).shape
    assert prediction.note == predictor.predict(files, key="b_day10").note == ""


def test_sessions_without_an_order_of_time_are_no_priors_of_each_other(tmp_path, alignments):
    """By the alphabet `post` was the earlier session of `pre`."""
    unordered = write_days(tmp_path, patients=("a", "b"), days=("post", "pre"))
    source = PriorSource.open(unordered.folder, channels=1)
    priors, rows = found(unordered, source, alignments, ["a_pre", "a_post"])
    assert not priors
    for row in rows:
        assert row.reason.startswith("the sessions of a, post, pre, tell no order of time, so none is known to be")
        assert row.doubtful


def test_a_key_without_a_session_does_not_say_which_day_it_is(cohort, alignments):
    source = PriorSource.open(cohort.folder, channels=1)
    cases = [("a", cohort.image_paths("a_day10"))]
    priors, (row,) = find_priors(cases, source, cohort=None, alignments=alignments, labels=cohort.labels)
    assert not priors
    assert "the sessions of a, one without a name, day0, day9, day10, tell no order of time" in row.reason
    assert row.doubtful


def test_first_days_are_not_doubtful_and_priors_that_are_not_used_are(cohort, alignments):
    source = PriorSource.open(cohort.folder, channels=1)
    measured = {"misalignment_mm": 1e-9}
    _, (first, later) = found(cohort, source, alignments, ["a_day0", "a_day9"], measured=measured)
    assert (first.doubtful, first.used) == (False, False)
    assert (later.doubtful, later.used) == (True, False)


def test_an_empty_prior_is_told(tmp_path, alignments, caplog):
    cohort = write_days(tmp_path)
    label = read_volume(cohort.label_path("a_day0"))
    write_volume(cohort.label_path("a_day0"), Volume(np.zeros_like(label.voxels), label.affine_ras))
    priors, _ = found(cohort, PriorSource.open(tmp_path, channels=1), alignments, ["a_day9", "b_day9"])
    assert sorted(priors) == ["a_day9", "b_day9"]
    (told,) = [record.getMessage() for record in caplog.records]
    assert told == "a_day9: the label map of its prior a_day0 is empty, so the network is told of no region"


def test_a_prior_with_a_value_of_no_region_is_named(tmp_path, alignments):
    cohort = write_days(tmp_path)
    label = read_volume(cohort.label_path("a_day0"))
    write_volume(cohort.label_path("a_day0"), Volume(label.voxels * 7, label.affine_ras))
    priors, _ = found(cohort, PriorSource.open(tmp_path, channels=1), alignments, ["a_day9"])
    with pytest.raises(VolumeError, match="the prior a_day0: the label map holds 7"):
        prior_arrays(priors["a_day9"], read_volume(cohort.image_paths("a_day9")[0]).grid, cohort.labels)


def test_a_prior_of_other_channels_or_without_a_table_is_refused(cohort, tmp_path):
    with pytest.raises(UsageError, match=r"must have 2 channels, as the network, got 1 \(MR\); name a cohort"):
        PriorSource.open(cohort.folder, channels=2)
    shutil.copy(cohort.label_path("a_day0"), tmp_path / "a_day0.nii.gz")
    with pytest.raises(UsageError, match=r"has no dataset.json, which says what the values of its label maps mean"):
        PriorSource.open(tmp_path, channels=1)


def test_absent_folders_are_named(tmp_path):
    with pytest.raises(UsageError, match="must be a cohort or a folder of label maps"):
        PriorSource.open(tmp_path / "nowhere", channels=1)


def test_the_table_says_how_each_prior_was_aligned_and_why_not_otherwise(cohort, tmp_path, monkeypatch):
    source = PriorSource.open(cohort.folder, channels=1)
    for name, failure, way in (("bent", "", "deformable"), ("failed", "the motion folds", "rigid")):
        bend_all(monkeypatch, 4.0, failure)
        kept = Alignments(tmp_path / name)
        priors, rows = found(cohort, source, kept, ["a_day0", "a_day10"], alignment="deformable")
        path = write_priors(tmp_path, rows)
        first, second = csv.DictReader(path.read_text().splitlines())
        assert (first["used"], first["alignment"], first["not_deformed"]) == ("no", "", "")
        assert (second["used"], second["alignment"], second["not_deformed"]) == ("yes", way, failure)
        assert (priors["a_day10"].deformation is None) == bool(failure)
    _, rows = found(cohort, source, Alignments(tmp_path / "rigid"), ["a_day10"])
    assert (rows[0].alignment, rows[0].not_deformed) == ("rigid", "")


def test_a_table_of_before_gets_the_new_columns(cohort, alignments, tmp_path):
    (tmp_path / "priors.csv").write_text(
        "key,prior,patient,gap_days,misalignment_mm,correlation,used,reason\nz,,,,,,no,x\n"
    )
    _, rows = found(cohort, PriorSource.open(cohort.folder, channels=1), alignments, ["a_day10"])
    table = list(csv.DictReader(write_priors(tmp_path, rows).read_text().splitlines()))
    assert [(row["key"], row["alignment"]) for row in table] == [("a_day10", "rigid"), ("z", "")]


def test_a_table_that_a_spreadsheet_saved_keeps_its_rows(tmp_path):
    path = write_priors(tmp_path, [PriorRow("a", "z", "p", 2.5, used=True)])
    path.write_text("\ufeff" + path.read_text().replace(",", ";").replace("2.5", "2,5"), encoding="utf-8")
    write_priors(tmp_path, [PriorRow("b", reason="no earlier session")])
    first, second = csv.DictReader(path.read_text().splitlines())
    assert (first["key"], first["prior"], first["gap_days"]) == ("a", "z", "2,5")
    assert second["key"] == "b"
    path.write_text("name,age\nAnn,3\n")
    with pytest.raises(UsageError, match="is no table of priors"):
        write_priors(tmp_path, [PriorRow("b")])


def test_without_elastix_a_network_of_deformed_priors_is_one_line_with_the_cure(cohort, alignments, monkeypatch):
    without_elastix(monkeypatch)
    source = PriorSource.open(cohort.folder, channels=1)
    with pytest.raises(UsageError, match=r"needs itk-elastix: pip install 'volseg\[elastix\]', or leave --prior out"):
        found(cohort, source, alignments, ["a_day10"], alignment="deformable")


def test_networks_of_an_ensemble_have_priors_of_one_alignment(cohort, tmp_path):
    names = ["MR", *prior_channels(["MR"], ["ball"])]
    rigid, bent, plain = (
        Recipe(cohort.labels, channels, [4, 4, 4], list(ROI), {}, facts)
        for channels, facts in ((names, {}), (names, {"prior_alignment": "deformable"}), (["MR"], {}))
    )
    with pytest.raises(CheckpointError, match="prior_alignment of an ensemble's networks must be the same, got rigid"):
        check_members([(tmp_path / "a.pt", rigid), (tmp_path / "b.pt", bent)])
    check_members([(tmp_path / "a.pt", rigid), (tmp_path / "b.pt", rigid)])
    assert plain.prior_alignment == "rigid"

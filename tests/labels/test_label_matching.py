"""Regions of predictions and references are paired by name: the order, the values and the spelling do not count."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from typer.testing import CliRunner

from volseg.cli import app
from volseg.cohort import Cohort, Predictions
from volseg.errors import LabelError
from volseg.evaluation import evaluate, rank
from volseg.jobs import WorkerOptions, evaluate_cases
from volseg.labels import LabelTable, fold_name, match_labels
from volseg.metrics import dice
from volseg.pictures import read_review_case
from volseg.volume import Volume, write_volume

WORDS = ["large bowel", "small bowel", "stomach", "left kidney", "right kidney", "L1 2", "L12", "GTV 1"]
SPELLINGS = [str, str.upper, str.title, lambda name: name.replace(" ", "_"), lambda name: name.replace(" ", "-")]


@st.composite
def tables(draw):
    """A table, and the same one in another order, with other values and other spellings; overlapping or not."""
    names = draw(st.lists(st.sampled_from(WORDS), min_size=1, max_size=4, unique=True))
    order = draw(st.permutations(range(len(names))))
    count = 2 ** len(names) - 1 if draw(st.booleans()) else 0
    numbers = st.lists(st.integers(1, 255), min_size=count or len(names), max_size=count or len(names), unique=True)
    ours, theirs = draw(numbers), draw(numbers)

    def table(values, places, spelt):
        def of(place):
            return [values[c - 1] for c in range(1, count + 1) if c >> place & 1] if count else values[place]

        return LabelTable.of({spelt(names[place]): of(place) for place in places})

    return (
        table(ours, range(len(names)), str),
        table(theirs, order, draw(st.sampled_from(SPELLINGS))),
        np.array([0, *ours], np.uint8),
        np.array([0, *theirs], np.uint8),
        draw(st.integers(0, 999)),
    )


@settings(max_examples=80, deadline=None)
@given(tables())
def test_a_permuted_table_gives_the_same_dice(case):
    ours, theirs, our_values, their_values, seed = case
    rng = np.random.default_rng(seed)
    truth, guess = rng.integers(0, len(our_values), (2, 5, 6, 7))
    match = match_labels(ours, theirs)
    assert match.names == ours.names
    assert match.notes == ()
    masks = match.scored.masks(our_values[truth])
    for one, two, same in zip(
        masks, match.shared.masks(their_values[guess]), ours.masks(our_values[guess]), strict=True
    ):
        assert dice(two, one) == pytest.approx(dice(same, one), nan_ok=True)
    np.testing.assert_array_equal(match.translate(their_values[guess]), our_values[guess])


def test_names_as_the_field_writes_them():
    assert (
        len({fold_name(name) for name in ("large_bowel", "Large Bowel", "LARGE-BOWEL", "LargeBowel", " large  bowel")})
        == 1
    )
    assert fold_name("organ_1") == fold_name("Organ 1") == fold_name("organ1")
    assert fold_name("L1_2") != fold_name("L12")
    assert fold_name("Ki67+") != fold_name("Ki67-")
    assert fold_name("Herz\N{LATIN SMALL LETTER O WITH DIAERESIS}") == fold_name("HERZO\N{COMBINING DIAERESIS}")


def test_the_case_of_another_order():
    one = LabelTable.of({"background": 0, "liver": 1, "kidney": 2})
    other = LabelTable.of({"background": 0, "kidney": 2, "liver": 1})
    match = match_labels(one, other)
    assert match.notes == ()
    assert [r.values for r in match.shared.regions] == [(1,), (2,)]


def test_regions_that_only_one_has_are_told():
    ours, theirs = LabelTable.of({"liver": 1, "spleen": 2}), LabelTable.of({"Spleen": 1, "pancreas": 2})
    match = match_labels(ours, theirs)
    assert match.names == ("spleen",)
    assert match.notes == (
        "the references hold liver too, which the predictions do not; it is not scored",
        "the predictions hold pancreas too, which the references do not; it is not scored",
    )
    with pytest.raises(LabelError, match="liver, spleen and the predictions a, b: no region is the same"):
        match_labels(ours, LabelTable.of({"a": 1, "b": 2}))
    mapped = match_labels(ours, LabelTable.of({"a": 1, "b": 2}), regions=["spleen=a"])
    assert mapped.pairs == {"spleen": "a"}
    assert mapped.shared.regions[0].values == (1,)
    with pytest.raises(LabelError, match="--regions liver=OTHER"):
        match_labels(ours, theirs, regions=["liver"])
    with pytest.raises(LabelError, match="--regions names 'hepar'"):
        match_labels(ours, theirs, regions=["hepar"])
    with pytest.raises(LabelError, match="twice"):
        match_labels(ours, theirs, regions=["spleen", "liver=Spleen"])


def test_what_is_spelt_alike_twice_is_refused_unless_one_is_exact():
    two = LabelTable.of({"Heart": 1, "heart": 2})
    with pytest.raises(LabelError, match="not clear which is which"):
        match_labels(LabelTable.of({"HEART": 1}), two)
    assert match_labels(LabelTable.of({"heart": 1}), two).shared.regions[0].values == (2,)
    assert match_labels(LabelTable.of({"HEART": 1}), two, regions=["HEART=heart"]).shared.regions[0].values == (2,)


def test_a_code_pairs_what_is_named_otherwise_and_never_a_left_with_a_right():
    bowel = LabelTable.of({"large_bowel": 1})
    coded = {"codes": {"Dickdarm": ["SCT", "14742008", "Large intestine"]}}
    match = match_labels(bowel, LabelTable.of({"Dickdarm": 5}, coded))
    assert match.pairs == {"large_bowel": "Dickdarm"}
    assert match.notes == ("Dickdarm of the predictions is taken for large_bowel, which has the same code",)
    kidney = ["SCT", "64033007", "Kidney"]
    left = LabelTable.of({"kidney_left": 1}, {"codes": {"kidney_left": kidney}})
    for name in ("kidney_right", "kidney", "R kidney"):
        with pytest.raises(LabelError, match="no region is the same"):
            match_labels(left, LabelTable.of({name: 1}, {"codes": {name: kidney}}))
    fourth = ["SCT", "11994002", "Fourth lumbar vertebra"]  # L is no side in L4
    one, other = ({name: 1} for name in ("L4", "lumbar 4"))
    match = match_labels(
        LabelTable.of(other, {"codes": {"lumbar 4": fourth}}), LabelTable.of(one, {"codes": {"L4": fourth}})
    )
    assert dict(match.pairs) == {"lumbar 4": "L4"}
    with pytest.raises(LabelError, match="no region"):  # the code of anything: tissue
        match_labels(LabelTable.of({"a": 1}), LabelTable.of({"b": 1}))


@pytest.mark.parametrize(
    ("one", "other"),
    [
        ("KidneyLeft", "KidneyRight"),
        ("LeftKidney", "Right Kidney"),
        ("leftkidney", "kidneyright"),
        ("LKidney", "RKidney"),
        ("kidneyL", "kidneyR"),
        ("lkidney", "rkidney"),
        ("kidney_lh", "kidney_rh"),
        ("Niere links", "Niere rechts"),
    ],
)
def test_sides_in_any_spelling_are_never_paired_by_a_code(one, other):
    kidney = ["SCT", "64033007", "Kidney"]
    a, b, plain = (LabelTable.of({name: 1}, {"codes": {name: kidney}}) for name in (one, other, "Ren 7"))
    for ours, theirs in ((a, b), (b, a)):
        with pytest.raises(LabelError, match="no region is the same"):
            match_labels(ours, theirs)
    if one != "lkidney":  # of which nothing but its pair tells that it names a side
        with pytest.raises(LabelError, match="no region is the same"):
            match_labels(a, plain)


def test_a_code_that_several_regions_share_pairs_none_of_them():
    rib = ["SCT", "113197003", "Rib"]

    def ribs(*names):
        return LabelTable.of({name: n for n, name in enumerate(names, start=1)}, {"codes": dict.fromkeys(names, rib)})

    for ours, theirs in ((("rib 1", "rib 2"), ("rib 1", "rib 3")), (("rib 1", "rib 2"), ("rib 1",))):
        for one, other in ((ours, theirs), (theirs, ours)):
            assert match_labels(ribs(*one), ribs(*other)).pairs == {"rib 1": "rib 1"}
    with pytest.raises(LabelError, match="no region is the same"):
        match_labels(ribs("rib 1", "rib 2"), ribs("Costa"))


def test_words_that_hold_a_side_by_chance_name_none():
    code = {name: ["SCT", "87979003", "Cleft palate"] for name in ("cleft palate", "bright palate", "palatoschisis")}
    ours = LabelTable.of({"palatoschisis": 1}, {"codes": code})
    for name in ("cleft palate", "bright palate"):
        assert match_labels(ours, LabelTable.of({name: 1}, {"codes": code})).pairs == {"palatoschisis": name}


def test_overlap_in_one_table_only_is_told():
    nested = LabelTable.of({"whole": [1, 2], "core": 2})
    match = match_labels(nested, LabelTable.of({"core": 1, "whole": 2}))
    assert "whole and core may overlap in the references and not in the predictions" in match.notes[0]


OURS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
THEIRS = LabelTable.of({"Stomach": [3, 5, 6, 7], "Small Bowel": [2, 4, 6, 7], "Large Bowel": [1, 4, 5, 7], "liver": 9})
# The value of THEIRS for each combination of OURS: bits large, small, stomach.
TURNED = np.array([0, 1, 2, 4, 3, 5, 6, 7], np.uint8)


def write_sets(folder: Path, *, cases: int = 3) -> tuple[Cohort, Path, Path]:
    """A cohort, predictions in its own values, and the same ones as another network writes them."""
    affine = np.diag([2.0, 2.0, 3.0, 1.0])
    rng = np.random.default_rng(3)
    cohort, plain, turned = folder / "cohort", folder / "plain", folder / "turned"
    for path, table in ((cohort, OURS), (plain, OURS), (turned, THEIRS)):
        path.mkdir(parents=True)
        entries = {
            "channel_names": {"0": "MR"},
            **table.to_dataset_json(),
            "numTraining": cases,
            "file_ending": ".nii.gz",
        }
        (path / "dataset.json").write_text(json.dumps(entries))
    for number in range(cases):
        truth = np.kron(rng.integers(0, 8, (3, 3, 2)), np.ones((4, 4, 3))).astype(np.uint8)
        guess = np.where(rng.random(truth.shape) < 0.2, rng.integers(0, 8, truth.shape), truth).astype(np.uint8)
        key = f"case{number}"
        write_volume(cohort / f"imagesTr/{key}_0000.nii.gz", Volume(truth.astype(np.int16), affine))
        write_volume(cohort / f"labelsTr/{key}.nii.gz", Volume(truth, affine))
        write_volume(plain / f"{key}.nii.gz", Volume(guess, affine))
        theirs = TURNED[guess]
        theirs[0, 0, 0] = 9  # of a region that the cohort does not have
        guess[0, 0, 0] = 0
        write_volume(plain / f"{key}.nii.gz", Volume(guess, affine))
        write_volume(turned / f"{key}.nii.gz", Volume(theirs, affine))
    return Cohort.open(cohort), plain, turned


@pytest.fixture(scope="module")
def sets(tmp_path_factory):
    return write_sets(tmp_path_factory.mktemp("sets"), cases=5)


def test_predictions_of_another_table_score_as_their_own_translation(sets):
    cohort, plain, turned = sets
    rows = evaluate(plain, cohort)
    assert not any(row.error for row in rows)
    assert evaluate(turned, cohort) == rows
    scene, same = (read_review_case("case1", folder, cohort) for folder in (turned, plain))
    np.testing.assert_array_equal(scene.prediction.voxels, same.prediction.voxels)


def test_quality_reads_each_folder_by_its_own_table(sets):
    _cohort, plain, turned = sets
    told = [[(q.key, q.score, q.disagreement) for q in rank(folder, OURS, others=[other])] for folder, other in
            ((plain, plain), (turned, plain), (plain, turned), (turned, turned))]  # fmt: skip
    assert told[0] == told[1] == told[2] == told[3]
    assert all(apart == 0 for _, _, apart in told[0])


def test_a_fleet_scores_again_when_the_table_of_the_predictions_changes(sets, tmp_path):
    cohort, plain, turned = sets
    folder = shutil.copytree(turned, tmp_path / "turned")
    worker_options = WorkerOptions.parse(workers=1, journal=tmp_path / "journal.jsonl")

    def rows():
        from volseg.evaluation import STANDARD

        return evaluate_cases(folder, cohort, tmp_path, worker_options=worker_options, method=STANDARD)

    expected = evaluate(plain, cohort)
    assert rows() == expected
    entries = json.loads((folder / "dataset.json").read_text())
    entries["labels"]["Stomach"], entries["labels"]["Large Bowel"] = (
        entries["labels"]["Large Bowel"],
        entries["labels"]["Stomach"],
    )
    (folder / "dataset.json").write_text(json.dumps(entries))
    assert rows() == evaluate(folder, cohort) != expected


def test_the_commands_take_them_and_say_what_is_left_out(sets, tmp_path):
    cohort, plain, turned = sets
    run = CliRunner().invoke
    one = run(app, ["evaluate", str(plain), str(cohort.folder), "-o", str(tmp_path / "a"), "--no-html"])
    two = run(app, ["evaluate", str(turned), str(cohort.folder), "-o", str(tmp_path / "b")])
    assert one.exit_code == two.exit_code == 0
    assert (tmp_path / "a/cases.csv").read_text() == (tmp_path / "b/cases.csv").read_text()
    assert "the predictions hold liver too" in two.output
    assert "the predictions hold liver too" in (tmp_path / "b/report.md").read_text()
    some = run(
        app,
        ["evaluate", str(turned), str(cohort.folder), "-o", str(tmp_path / "c"), "--no-html", "--regions", "stomach"],
    )
    assert some.exit_code == 0
    assert "note" not in some.output
    lines = (tmp_path / "c/cases.csv").read_text().splitlines()[1:]
    assert len(lines) == 5
    assert all("stomach" in line for line in lines)
    three = run(app, ["compare", str(cohort.folder), str(plain), str(turned), "-o", str(tmp_path / "d")])
    assert three.exit_code == 0, three.output
    found = json.loads((tmp_path / "d/comparison.json").read_text())
    assert {row["mean"] for row in found["differences"]} == {0.0}
    images, other = str(cohort.folder), str(plain)
    four = run(app, ["quality", str(turned), "--images", images, "--other", other, "-o", str(tmp_path / "e")])
    assert four.exit_code == 0, four.output


def test_no_shared_region_is_refused(sets, tmp_path):
    cohort, _, turned = sets
    folder = shutil.copytree(turned, tmp_path / "other")
    entries = json.loads((folder / "dataset.json").read_text())
    (folder / "dataset.json").write_text(json.dumps({**entries, "labels": {"background": 0, "brain": 1}}))
    with pytest.raises(LabelError, match="no region is the same"):
        Predictions.open(folder).match(cohort)
    told = CliRunner().invoke(app, ["evaluate", str(folder), str(cohort.folder), "-o", str(tmp_path / "out")])
    assert told.exit_code != 0

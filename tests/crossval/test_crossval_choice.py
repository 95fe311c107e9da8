"""The choice among networks, and the clean-up: what is ahead of chance is taken, and noise is not."""

from __future__ import annotations

import json

import numpy as np
import pytest

from volseg.cohort import Cohort, write_labels
from volseg.crossval import Candidate, choose, choose_cleanup
from volseg.crossval.cleanup import dice_of_largest, write_cleaned
from volseg.errors import UsageError
from volseg.evaluation import RegionScores
from volseg.labels import Cleanup, LabelTable
from volseg.metrics import FEWEST
from volseg.volume import Volume, read_volume, write_volume

A, B, C = Candidate(("a",)), Candidate(("b",)), Candidate(("c",))
AB = Candidate(("a", "b"))


def rows(values, *, region="organ", days=1):
    """One row per value; `days` of them are of one patient."""
    return [RegionScores(f"case{n}", f"p{n // days}", region, dice=value) for n, value in enumerate(values)]


def test_the_network_of_the_highest_dice_is_chosen_whatever_the_order():
    sets = {"a": rows([0.7] * 8), "b": rows([0.8] * 8), "c": rows([0.6] * 8)}
    for order in ([A, B, C], [C, B, A]):
        choice = choose(order, sets)
        assert choice.chosen == B
        assert [one.candidate for one in choice.standings] == [B, A, C]
    gap = choice.standings[1].difference
    assert (gap.mean, choice.standings[1].patients_worse) == (pytest.approx(-0.1), 8)


def test_an_ensemble_is_chosen_only_ahead_of_chance():
    base = np.linspace(0.6, 0.9, 16)
    sure = {"a": rows(base), "b": rows(base - 0.05), "a+b": rows(base + 0.01)}
    choice = choose([A, B, AB], sure)
    assert choice.chosen == AB
    assert choice.reason.startswith("a+b is 0.010 of Dice ahead of a, p < 0.001")
    noise = base + np.where(np.arange(16) % 2, 0.03, -0.02)  # a higher mean, and no more patients than by a coin
    choice = choose([A, B, AB], {**sure, "a+b": rows(noise)})
    assert choice.standings[0].candidate == AB
    assert choice.chosen == A
    assert "no ensemble is ahead of it by more than chance" in choice.reason


def test_the_days_of_a_patient_are_one_witness():
    base = np.linspace(0.6, 0.9, 20)
    sets = {"a": rows(base, days=5), "b": rows(base - 0.1, days=5), "a+b": rows(base + 0.01, days=5)}
    choice = choose([A, B, AB], sets)
    assert choice.chosen == A  # four patients prove nothing, though twenty days would
    assert f"fewer than {FEWEST} patients differ" in choice.reason
    assert choose([A, B, AB], {name: rows([r.dice for r in of_set]) for name, of_set in sets.items()}).chosen == AB


def test_a_region_that_is_absent_and_left_empty_counts_against_one_that_is_invented():
    right = [0.8] * 7 + [None]
    invented = [0.85] * 7 + [0.0]  # of the cases that hold it the better one
    choice = choose([A, B], {"a": rows(invented), "b": rows(right)})
    assert choice.chosen == B
    assert choice.standings[0].dice.mean == pytest.approx((7 * 0.8 + 1) / 8)
    both = choose([A, B], {"a": rows([0.8] * 7 + [None]), "b": rows([0.7] * 7 + [None])})
    assert both.standings[0].dice.cases == 7  # where all leave it empty it is no case


def test_failed_cases_are_left_out_for_all():
    failed = [RegionScores("case0", "p0", "", error="no prediction"), *rows([0, 0.9, 0.9])[1:]]
    choice = choose([A, B], {"a": failed, "b": rows([1.0, 0.8, 0.8])})
    assert choice.chosen == A
    assert choice.standings[1].dice.mean == pytest.approx(0.8)
    with pytest.raises(UsageError, match="must share a case that could be scored"):
        choose([A, B], {"a": failed[:1], "b": rows([1.0])})
    with pytest.raises(UsageError, match="no held-out case holds a region"):
        choose([A], {"a": rows([None, None])})


# --- the clean-up


def decide(before, after, *, days=1, folds=2):
    keys = [f"case{n}" for n in range(len(before))]
    return choose_cleanup(
        {key: ([float(x)], [float(y)]) for key, x, y in zip(keys, before, after, strict=True)},
        ["organ"],
        patients={key: f"p{n // days}" for n, key in enumerate(keys)},
        folds={key: n // days % folds for n, key in enumerate(keys)},
    )[0]


def test_what_helps_most_patients_is_chosen_and_holds_on_the_other_folds():
    before = np.full(32, 0.7)
    found = decide(before, before + np.linspace(0, 0.05, 32))
    assert found.chosen
    assert found.gain == pytest.approx(0.025)
    assert found.crossfitted_gain == pytest.approx(0.025)  # each fold is decided alike by the others
    assert (found.cases, found.changed) == (32, 31)


@pytest.mark.parametrize(
    ("gains", "reason"),
    [
        ([0.0] * 32, "it changes no case"),
        ([0.001] * 31 + [-0.5], "it does not raise the mean Dice"),  # many small gains, and one organ lost
        ([0.2] * 3 + [0.0] * 29, f"fewer than {FEWEST} patients change"),
        ([0.02, -0.03, 0.04, -0.025] * 8, "the gain is not above chance"),
        ([0.02] * 31 + [-0.5], "the interval of the gain holds 0"),
    ],
)
def test_what_does_not_help_is_not_chosen_and_says_why(gains, reason):
    before = np.full(32, 0.7)
    found = decide(before, before + gains)
    assert (found.chosen, found.reason) == (False, reason)


def test_eight_days_of_four_patients_are_four():
    before = np.full(32, 0.7)
    assert decide(before, before + 0.02).chosen
    assert not decide(before, before + 0.02, days=8).chosen


def test_noise_is_chosen_at_most_as_often_as_the_test_says():
    chosen, fitted = 0, []
    for seed in range(30):  # 16 patients and more: up to 13 all patterns of signs would be counted, which takes time
        found = decide(np.full(32, 0.7), 0.7 + np.random.default_rng(seed).normal(0, 0.02, 32))
        chosen += found.chosen
        fitted.append(found.crossfitted_gain)
    assert chosen <= 3  # 0.75 are expected: half of two-sided 5 %
    assert abs(np.mean(fitted)) < 0.001


def test_the_largest_part_is_measured_and_written_as_predict_does(tmp_path):
    """An organ of 4x4x4 and a false part of 2x2x2, in nested regions: the table decides about what is left."""
    labels = LabelTable.exclusive(["organ", "other"])
    affine = np.diag([1.0, 1.0, 2.0, 1.0])
    truth = np.zeros((12, 10, 8), np.uint8)
    truth[1:5, 1:5, 1:5] = 1
    truth[8:11, 1:3, 1:3] = 2
    guess = truth.copy()
    guess[8:10, 6:8, 5:7] = 1
    cohort = tmp_path / "cohort"
    for key in ("a", "b"):
        write_volume(cohort / "imagesTr" / f"{key}_0000.nii.gz", Volume(truth.astype(np.int16), affine))
        write_volume(cohort / "labelsTr" / f"{key}.nii.gz", Volume(truth, affine))
        write_volume(tmp_path / "p" / f"{key}.nii.gz", Volume(guess, affine))
    dataset = {"channel_names": {"0": "MR"}, **labels.to_dataset_json(), "numTraining": 2, "file_ending": ".nii.gz"}
    (cohort / "dataset.json").write_text(json.dumps(dataset))
    write_labels(tmp_path / "p", labels, channel_names=["MR"])
    opened = Cohort.open(cohort)
    pairs = dice_of_largest(tmp_path / "p", opened, ["a", "b", "c"][:2])
    before, after = pairs["a"]
    assert before == pytest.approx([2 * 64 / (64 + 72), 1.0])
    assert after == pytest.approx([1.0, 1.0])
    write_cleaned(tmp_path / "p", tmp_path / "q", Cleanup(keep_largest=["organ"]), opened, ["a", "b"])
    cleaned = read_volume(tmp_path / "q" / "a.nii.gz")
    assert np.array_equal(cleaned.voxels, truth)
    assert np.array_equal(cleaned.affine_ras, affine)
    stamp = (tmp_path / "q" / "a.nii.gz").stat().st_mtime_ns
    write_cleaned(tmp_path / "p", tmp_path / "q", Cleanup(keep_largest=["organ"]), opened, ["a"])
    assert (tmp_path / "q" / "a.nii.gz").stat().st_mtime_ns == stamp  # what is right is not written again
    assert not (tmp_path / "q" / "b.nii.gz").exists()

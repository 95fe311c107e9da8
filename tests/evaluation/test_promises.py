"""Promises checked: coverage by patient, by hand, and what reports show of it."""

from __future__ import annotations

import json
import time
from types import SimpleNamespace

import numpy as np
import pytest
from command import told
from scored_cohort import box, label_map, make_cohort, write

from volseg.cohort import RegionBounds, write_uncertainty
from volseg.evaluation import RegionScores, check_promises, review_curve, with_bounds
from volseg.labels import LabelTable
from volseg.metrics import share_interval
from volseg.report import short_promises
from volseg.report.promises import promise_section, promises_as_json, promises_as_markdown


def row(
    key: str,
    dice: float | None,
    at_least: float | None,
    *,
    ml: float = 1.0,
    margin_mm: float | None = None,
    predicted_ml: float = 1.0,
    reason: str = "",
) -> RegionScores:
    bounds = RegionBounds(at_least, 0.9, 1.2, None if reason else 3.0, 0.1, 0.8, reason)
    outcome = "both empty" if dice is None else "both present"
    scores = RegionScores(
        key,
        key.partition("_")[0],
        "liver",
        dice=dice,
        reference_ml=ml,
        predicted_ml=predicted_ml,
        outcome=outcome,
        margin_mm=margin_mm,
    )
    (got,) = with_bounds([scores], {key: {"leber": bounds}}, pairs={"liver": "leber"})
    return got


def test_bounds_and_dice_of_1_are_drawn() -> None:
    rows = [row("a_1", 1.0, 1.0), row("b_1", 1.0, 1.0)]
    assert "<svg" in promise_section(rows, SimpleNamespace(labels=LabelTable.exclusive(["liver"])), {})


def test_a_table_by_hand() -> None:
    rows = [
        row("a_1", 0.9, 0.8),
        row("a_2", 0.7, 0.8),  # one of the two days of this patient
        row("b_1", 0.8, 0.8),
        row("c_1", 0.9, 0.5, ml=2.0),
        row("d_1", 0.1, None, reason="noise"),
        row("e_1", None, 0.5, ml=0.9),  # both empty: no Dice
        RegionScores("f_1", "f", "", error="damaged"),
    ]
    (check,) = check_promises(rows)
    assert (check.answered, check.withheld, check.level) == (5, 1, 0.8)
    assert (check.dice.mean, check.dice.patients) == (pytest.approx(2.5 / 3), 3)
    assert (check.volume.mean, check.volume.patients) == (pytest.approx(3 / 4), 4)
    assert check.slack == pytest.approx((0.1 - 0.1 + 0.0 + 0.4) / 4)
    assert not check.broken
    assert "1 of 6 withheld" in short_promises(rows)
    assert rows[0].dice_at_least == 0.8
    assert rows[-1].dice_at_least is None


def test_a_promise_that_is_broken_by_more_than_chance_is_named() -> None:
    rows = [row(f"p{number}", 0.5 if number < 10 else 0.9, 0.8) for number in range(20)]
    assert check_promises(rows)[0].broken
    assert "THE PROMISE IS BROKEN" in short_promises(rows)
    assert check_promises([RegionScores("a", "a", "liver", dice=1.0)]) == []


def test_a_reference_of_which_a_part_was_drawn_breaks_no_promise(tmp_path, capsys) -> None:
    """The volume of one drawn slice of six was compared with the bounds of the whole region: THE PROMISE IS BROKEN."""
    whole = label_map(stomach=box(2, 6, 2, 6, 1, 7))
    drawn = whole.copy()
    drawn[..., :3] = drawn[..., 4:] = 8
    cohort = make_cohort(tmp_path / "cohort", {f"p{number}": drawn for number in range(5)} | {"q": whole})
    dataset = json.loads((cohort.folder / "dataset.json").read_text())
    dataset["labels"]["ignore"] = 8
    (cohort.folder / "dataset.json").write_text(json.dumps(dataset))
    ml = np.count_nonzero(whole) * 1.5 * 1.5 * 3 / 1000
    bound = RegionBounds(dice_at_least=0.8, ml_low=0.9 * ml, ml_high=1.1 * ml, margin_mm=1.0, level=0.9)
    for key in cohort.keys:
        write(tmp_path / "predictions" / f"{key}.nii.gz", whole)
    bounds = {key: {"stomach": bound} for key in cohort.keys}
    write_uncertainty(tmp_path / "predictions", {key: {} for key in cohort.keys}, bounds=bounds)
    words = ("evaluate", tmp_path / "predictions", cohort.folder, "-o", tmp_path / "report", "--no-html")
    for more in ((), ("--journal", tmp_path / "journal.jsonl")):
        code, text = told(capsys, *words, *more)
        assert (code, "THE PROMISE IS BROKEN" in text) == (0, False), text
        (of_stomach,) = json.loads((tmp_path / "report" / "summary.json").read_text())["promises"]
        assert (of_stomach["answered"], of_stomach["volume"]["share"]) == (1, 1.0)


def test_margins_are_checked_by_patient() -> None:
    rows = [
        row("a_1", 0.9, 0.8, margin_mm=3.0),  # exactly the margin
        row("a_2", 0.9, 0.8, margin_mm=3.2),  # one of the two days of this patient
        row("b_1", 0.9, 0.8, margin_mm=0.0),
        row("c_1", 0.0, 0.8, margin_mm=None, predicted_ml=0.0),  # nothing predicted: no margin contains the reference
        row("d_1", 0.9, None, margin_mm=9.0, reason="noise"),  # withheld
    ]
    (check,) = check_promises(rows)
    assert (check.margin.mean, check.margin.patients, check.median_margin_mm) == (pytest.approx(0.5), 3, 3.0)
    assert "within its margin of 3.0 mm in 50 %" in short_promises(rows)
    # Margins that nobody measured are not counted, and are no broken promise.
    (check,) = check_promises([row("a_1", 0.9, 0.8), row("b_1", 0.9, 0.8)])
    assert check.margin.cases == 0
    assert not check.broken
    broken = [row(f"p{number}", 0.9, 0.8, margin_mm=2.0 + 2.0 * (number < 10)) for number in range(20)]
    assert check_promises(broken)[0].broken == ("margin",)
    assert "THE PROMISE IS BROKEN (margin)" in short_promises(broken)
    assert promises_as_json(broken)[0]["margin"]["share"] == 0.5
    assert "3.00" in promises_as_markdown(broken)[-1]


def test_the_worst_first_leaves_less_risk() -> None:
    rows = [row("a", 0.9, 0.8), row("b", 0.5, 0.4), row("c", 0.2, None, reason="noise"), row("d", 0.8, 0.7)]
    assert review_curve(rows) == [
        (0.0, pytest.approx(0.4)),
        (0.25, pytest.approx(0.8 / 3)),
        (0.5, pytest.approx(0.15)),
        (0.75, pytest.approx(0.1)),
    ]


def test_the_risk_of_many_cases_takes_no_time() -> None:
    rows = [row(f"{number:05d}", number % 7 / 7, number % 11 / 11) for number in range(10_000)]
    began = time.process_time()
    curve = review_curve(rows)
    assert time.process_time() - began < 1
    order = sorted(rows, key=lambda one: (one.dice_at_least, one.key))
    for place in (0, 1, 4_999, 9_999):
        assert curve[place] == (place / 10_000, pytest.approx(1 - np.mean([one.dice for one in order[place:]])))


def test_the_interval_of_a_share_is_that_of_clopper_and_pearson() -> None:
    found = share_interval([1.0] * 18 + [0.0] * 2, [str(number) for number in range(20)])
    assert (found.low, found.high) == (pytest.approx(0.683, abs=5e-4), pytest.approx(0.988, abs=5e-4))  # their table
    assert share_interval([1.0, 1.0], ["a", "a"]).patients == 1
    assert (share_interval([0.0], ["a"]).low, share_interval([1.0], ["a"]).high) == (0.0, 1.0)

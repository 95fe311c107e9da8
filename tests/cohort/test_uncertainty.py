"""What a network expects of its own predictions: the number, and the file beside the predictions."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest

from volseg.cohort import RegionBounds, mean_expected_dice, read_bounds, read_uncertainty, write_uncertainty
from volseg.cohort.uncertainty import FILE
from volseg.errors import GeometryError, UsageError
from volseg.metrics import dice, expected_dice


@pytest.mark.parametrize("seed", range(4))
def test_it_is_the_mean_dice_of_truths_drawn_from_the_probabilities(seed):
    generator = np.random.default_rng(seed)
    probability = generator.beta(0.3, 0.5, (12, 10, 8))
    decision = probability > 0.5
    drawn = [dice(decision, generator.random(probability.shape) < probability) for _ in range(400)]
    assert expected_dice(probability, decision) == pytest.approx(np.mean(drawn), abs=0.003)


def test_the_surer_the_network_the_higher():
    decision = np.zeros((4, 4, 4), bool)
    decision[1:3, 1:3] = True
    assert expected_dice(decision.astype(np.float32), decision) == 1
    values = [expected_dice(np.where(decision, 0.5 + sure, 0.5 - sure), decision) for sure in (0.1, 0.2, 0.4)]
    assert values == sorted(values)
    assert math.isnan(expected_dice(np.full((2, 2), 0.4), np.zeros((2, 2), bool)))
    with pytest.raises(GeometryError, match=r"\(2, 2\)"):
        expected_dice(np.zeros((2, 2)), np.zeros((2, 3), bool))


def test_sums_of_single_precision_are_exact_enough():
    probability = np.full((300, 300, 100), 0.1, np.float32)
    decision = np.ones(probability.shape, bool)
    assert expected_dice(probability, decision) == pytest.approx(0.2 / 1.1, rel=1e-7)


def test_the_table_keeps_the_cases_of_earlier_runs(tmp_path: Path):
    assert read_uncertainty(tmp_path) == {}
    write_uncertainty(tmp_path, {}, forget=["a"])
    assert not (tmp_path / FILE).exists()
    write_uncertainty(
        tmp_path, {"b": {"large bowel, left": 0.5, "x": None}, "a": {"large bowel, left": 0.25, "x": 1.0}}
    )
    write_uncertainty(tmp_path, {"a": {"large bowel, left": 0.75, "x": None}, "c": {}})
    assert read_uncertainty(tmp_path) == {
        "a": {"large bowel, left": 0.75, "x": None},
        "b": {"large bowel, left": 0.5, "x": None},
        "c": {"large bowel, left": None, "x": None},
    }
    write_uncertainty(tmp_path, {}, forget=["b", "nobody"])
    assert list(read_uncertainty(tmp_path)) == ["a", "c"]
    assert [mean_expected_dice(case) for case in read_uncertainty(tmp_path).values()] == [0.75, None]


def test_a_table_that_a_spreadsheet_saved_is_read(tmp_path: Path):
    """The line was to remove it, after a look at it in a spreadsheet with decimal commas."""
    bounds = {"a": {"x": RegionBounds(0.5, 1.5, 2.5, 3.5, 0.25, 0.9)}}
    write_uncertainty(tmp_path, {"a": {"x": 0.75}, "b": {"x": None}}, bounds=bounds)
    text = (tmp_path / FILE).read_text()
    (tmp_path / FILE).write_text(text.replace(",", ";").replace(".", ","), encoding="utf-8-sig")
    assert read_uncertainty(tmp_path) == {"a": {"x": 0.75}, "b": {"x": None}}
    assert read_bounds(tmp_path) == bounds


@pytest.mark.parametrize(
    "content", [b"\xff\xfe\x00", b"name,value\na,1\n", b"key,expected_dice,expected_dice x\na,1,high\n"]
)
def test_another_file_of_that_name_is_refused(tmp_path: Path, content: bytes):
    (tmp_path / FILE).write_bytes(content)
    with pytest.raises(UsageError, match=r"uncertainty\.csv is no table"):
        read_uncertainty(tmp_path)

"""The page of the benchmark of days: a row per way, two figures, and nothing from a network."""

from __future__ import annotations

import re

from volseg.crossval import MODES
from volseg.report import write_days_page


def value(mean, low=None, high=None):
    return {"mean": mean, "low": low, "high": high, "values": 4}


def mode(dice, *, days):
    whole = value(dice, dice - 0.02, dice + 0.02)
    region = dict.fromkeys(("dice", "hd95_mm", "surface_dice", "added_path_length_mm"), whole)
    return {
        "dice": whole,
        "gain_dice": value(0.031, 0.01, 0.05),
        "minutes": value(12.25, 10.0, 14.0),
        "gain_minutes": value(None),
        "cases": 8,
        "regions": {"small_bowel": region},
        "by_day": {str(n): value(dice + 0.01 * n, dice - 0.03, dice + 0.03) for n in days},
        "by_gap": {"1 to 3 days": value(dice), "more": value(None)},
    }


CONTENT = {
    "bundle": "unet",
    "minutes": None,
    "epochs": 32,
    "seed": 0,
    "modes": {"none": mode(0.7, days=(0, 1, 2)), "prior": mode(0.74, days=(1, 2))},
    "definitions": {"none": "a network <without> a prior", "prior": "with one"},
}


def test_a_row_per_way_and_curves_by_day_and_gap(tmp_path):
    page = write_days_page(CONTENT, tmp_path).read_text()
    assert page.count("<svg") == 2
    assert "0.700 [0.680, 0.720]" in page
    assert "12.2 [10.0, 14.0]" in page
    assert "32 epochs" in page
    assert "&lt;without&gt;" in page
    assert "src=" not in page
    assert len(re.findall(r"<circle", page)) == 3 + 2 + 2
    assert page.count("<polyline") == 4


def test_a_mean_of_0_is_a_point_of_its_curve(tmp_path):
    """As of contours that were copied from where the organ no longer is."""
    missed = {**mode(0.7, days=()), "by_day": {"1": value(0.0), "2": value(0.4), "3": value(0.0)}, "by_gap": {}}
    page = write_days_page({**CONTENT, "modes": {"copied": missed}}, tmp_path).read_text()
    assert len(re.findall(r"<circle", page)) == 3


def test_ways_without_a_later_day_have_no_curve(tmp_path):
    empty = {**mode(0.7, days=()), "by_gap": {"more": value(None)}}
    page = write_days_page({**CONTENT, "modes": {"none": empty}}, tmp_path).read_text()
    assert "<svg" not in page


def test_every_way_has_a_colour_of_its_own(tmp_path):
    modes = {name: mode(0.7, days=(1, 2)) for name in MODES}
    page = write_days_page({**CONTENT, "modes": modes}, tmp_path).read_text()
    assert len(set(re.findall(r'<polyline[^>]* stroke="(#\w+)"', page))) == len(MODES)

"""The promise: laws of the bounds, and their coverage on patients that the calibration has not seen."""

from __future__ import annotations

import json
import math
import random
from dataclasses import replace
from pathlib import Path

import jsonschema
import numpy as np
import pytest
from measured_cases import REGION, measured_case, measured_cases

import volseg.calibration as room
from volseg.calibration import (
    CALIBRATION,
    MeasuredCase,
    attainable_level,
    find_calibration,
    fit_calibration,
    patient_quantile,
    read_calibration,
    set_apart,
)
from volseg.calibration.checking import check_region
from volseg.cli.calibrate import _lines
from volseg.errors import CheckpointError, UsageError

DIGEST = "0" * 16
OF_NETWORK = {"networks": (DIGEST,), "plans": (DIGEST,), "labels": "0" * 12, "cases": DIGEST}


def test_a_quantile_of_one_scan_per_patient_is_that_of_split_conformal_prediction() -> None:
    scores = np.random.default_rng(0).normal(size=57)
    names = [f"p{number}" for number in range(57)]
    for level in (0.5, 0.8, 0.9, 0.95):
        assert patient_quantile(scores, names, level) == np.sort(scores)[math.ceil(level * 58) - 1]
    assert patient_quantile(scores[:5], names[:5], 0.9) == math.inf


def test_a_patient_with_many_scans_weighs_as_much_as_one_with_a_single_scan() -> None:
    scores = [1.0, 2.0, 9.0, 9.0, 9.0, 9.0, 9.0, 9.0]
    assert patient_quantile(scores, ["a", "b", *"cccccc"], 0.5) == 2.0
    assert patient_quantile(scores, list("abcdefgh"), 0.5) == 9.0
    with pytest.raises(UsageError, match="one per scan"):
        patient_quantile([math.nan], ["a"], 0.5)


def test_bounds_hold_as_often_as_promised_for_new_patients() -> None:
    held: dict[str, list[bool]] = {"dice": [], "volume": [], "margin": []}
    slack = []
    for seed in range(40):
        cases = measured_cases(100, seed=seed)
        calibration = fit_calibration(cases[:60], [REGION], checked=False)
        for case in cases[60:]:
            one = case.regions[REGION]
            got = calibration.regions[REGION].bounds(one.features)
            if got.withheld:
                continue
            assert got.dice_at_least is not None
            assert None not in (got.ml_low, got.ml_high, got.margin_mm)
            assert 0 <= got.dice_at_least <= 1
            held["dice"].append(one.dice >= got.dice_at_least)
            held["volume"].append(got.ml_low <= one.reference_ml <= got.ml_high)
            held["margin"].append(one.margin_mm <= got.margin_mm)
            slack.append(one.dice - got.dice_at_least)
    for name, values in held.items():
        assert 0.88 <= np.mean(values) <= 0.93, name
    assert np.mean(slack) < 0.05


def test_days_of_a_patient_are_not_patients() -> None:
    """What all days of a patient share is seen once per patient: with the day as the unit too little is promised."""
    short = {"patient": 0, "day": 0}
    for seed in range(40):
        generator = np.random.default_rng(seed)
        cases = [
            measured_case(generator, f"p{number}", day=day, bad=bad)
            for number, bad in enumerate(generator.exponential(0.1, 14))
            for day in range(5)
        ]
        by_day = [MeasuredCase(case.key, case.key, case.scan, case.regions) for case in cases]
        new = [measured_case(generator, "new", bad=bad) for bad in generator.exponential(0.1, 200)]
        for name, known in (("patient", cases), ("day", by_day)):
            region = fit_calibration(known, [REGION], checked=False).regions[REGION]
            errors = [1 - case.regions[REGION].dice for case in new]
            bounds = [region.dice.bound(case.regions[REGION].features) for case in new]
            short[name] += sum(error > bound for error, bound in zip(errors, bounds, strict=True))
    assert short["patient"] / 8000 <= 0.105 < short["day"] / 8000


def test_the_order_of_the_cases_does_not_matter_and_a_file_keeps_everything(tmp_path: Path) -> None:
    cases = measured_cases(90)
    calibration = fit_calibration(cases, [REGION], **OF_NETWORK)
    assert calibration.regions[REGION].set_apart == 22
    random.Random(0).shuffle(cases)
    assert fit_calibration(cases, [REGION], **OF_NETWORK) == calibration
    path = calibration.save(tmp_path / CALIBRATION)
    assert read_calibration(path) == calibration
    schema = json.loads((Path(room.__file__).parent / "calibration.schema.json").read_text())
    jsonschema.validate(json.loads(path.read_text()), schema)
    text = path.read_text()
    assert not any(case.key in text or case.patient in text for case in cases)
    assert 0.8 < calibration.regions[REGION].checked["dice"] <= 1


@pytest.mark.parametrize("count", [1, 5, 8])
def test_few_patients_promise_what_they_can(count: int, tmp_path: Path) -> None:
    calibration = fit_calibration(measured_cases(count), [REGION], **OF_NETWORK)
    region = calibration.regions[REGION]
    assert region.level == pytest.approx(count / (count + 1)) == attainable_level(count, 0.9)
    got = region.bounds(measured_cases(count)[0].regions[REGION].features)
    assert got.level == region.level
    assert got.dice_at_least is not None
    assert 0 <= got.dice_at_least <= 1
    assert read_calibration(calibration.save(tmp_path / CALIBRATION)) == calibration


def test_whoever_chooses_does_not_count() -> None:
    names = [f"p{number}" for number in range(200)]
    apart = set_apart(names)
    assert len(apart) == 50 == len(set_apart(list(reversed(names))) & apart)
    assert set_apart(names[:79]) == frozenset()
    region = fit_calibration(measured_cases(100), [REGION], checked=False).regions[REGION]
    assert (region.patients, region.set_apart) == (75, 25)


def test_a_region_that_nobody_predicted_and_one_that_was_not_predicted_here() -> None:
    cases = measured_cases(20)
    nothing = [
        MeasuredCase(case.key, case.patient, {}, {REGION: type(one)({}, 0.0, 0.0, one.reference_ml, math.inf)})
        for case in cases
        for one in case.regions.values()
    ]
    got = fit_calibration(nothing, [REGION]).bounds({REGION: {}}, {})[REGION]
    assert got.withheld
    got = fit_calibration([*cases, *nothing[:4]], [REGION]).bounds({REGION: {}}, {})[REGION]
    assert (got.dice_at_least, got.missed) == (0.0, pytest.approx(4.5 / 5))


def test_what_was_not_seen_is_not_comparable() -> None:
    cases = measured_cases(60)
    calibration = fit_calibration(cases, [REGION])
    usual = cases[0].regions[REGION].features
    assert not calibration.bounds({REGION: usual}, cases[0].scan)[REGION].withheld
    for scan, reason in (({"middle 0": 0.95}, "median intensity"), ({"middle 0": math.nan}, "median intensity")):
        assert reason in calibration.bounds({REGION: usual}, scan)[REGION].not_comparable
    doubtful = {**usual, "expected_loss": 0.5}
    assert "the expected Dice is 0.500" in calibration.bounds({REGION: doubtful}, cases[0].scan)[REGION].not_comparable
    # More certain than any is no reason.
    assert not calibration.bounds({REGION: {**usual, "expected_loss": 0.0}}, cases[0].scan)[REGION].withheld
    apart = calibration.bounds({REGION: usual}, cases[0].scan, apart="predicted otherwise")[REGION]
    assert apart.not_comparable == "predicted otherwise"
    assert apart.dice_at_least is None


def test_the_calibration_of_another_network_or_label_table_is_refused(tmp_path: Path) -> None:
    calibration = fit_calibration(measured_cases(10), [REGION], **OF_NETWORK)
    right = {"networks": [DIGEST], "plans": [DIGEST], "labels": "0" * 12, "path": Path("calibration.json")}
    calibration.check(**right)
    for change, told in (
        ({"networks": ["1" * 16]}, "another network"),
        ({"plans": ["1" * 16]}, "another network"),
        ({"networks": [DIGEST] * 2, "plans": [DIGEST] * 2}, "other networks"),
        ({"labels": "1" * 12}, "another label table"),
    ):
        with pytest.raises(CheckpointError, match=told):
            calibration.check(**{**right, **change})
    path = tmp_path / CALIBRATION
    path.write_text('{"schema": "volseg.calibration/2"}')
    with pytest.raises(CheckpointError, match="update volseg"):
        read_calibration(path)
    content = {**calibration.to_json(), "regions": {REGION: {}}}
    path.write_text(json.dumps(content))
    with pytest.raises(CheckpointError, match="make it again"):
        read_calibration(path)


def test_it_is_found_beside_a_network_and_in_the_folder_of_an_ensemble(tmp_path: Path) -> None:
    models = [tmp_path / f"unet_fold_{fold}" / "model.pt" for fold in range(2)]
    for model in models:
        model.parent.mkdir()
        model.touch()
    assert find_calibration(models) is None
    (tmp_path / CALIBRATION).touch()
    assert find_calibration(models) == tmp_path / CALIBRATION
    assert find_calibration(models[:1]) is None
    (models[0].parent / CALIBRATION).touch()
    assert find_calibration(models[:1]) == models[0].parent / CALIBRATION
    assert find_calibration([models[0], tmp_path / "elsewhere" / "x" / "model.pt"]) is None


def test_margins_that_cannot_be_measured_are_none_that_held():
    """On grids whose axes lean no margin is given; all of them counted as right, with a median of None mm."""
    cases = [
        replace(case, regions={REGION: replace(case.regions[REGION], margin_mm=math.inf)})
        for case in measured_cases(30, seed=1)
    ]
    checked = check_region([(case.patient, case.regions[REGION]) for case in cases], level=0.9)
    assert "margin" not in checked
    assert checked["median_margin_mm"] is None
    (*_, line) = _lines(fit_calibration(cases, [REGION]))
    assert "; no margin; " in line
    assert "None" not in line
    (*_, line) = _lines(fit_calibration(measured_cases(30, seed=1), [REGION]))
    assert "; margin 9" in line or "; margin 8" in line or "; margin 100" in line

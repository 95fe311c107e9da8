"""Training runs read back and put side by side."""

from __future__ import annotations

import copy
import json
import re
import xml.etree.ElementTree as ET

import pytest
from run_example import RUN

from volseg.cli import main
from volseg.errors import UsageError
from volseg.metrics import mean_interval
from volseg.report import check_alike, is_run, read_run
from volseg.report.runs import runs_as_json, runs_as_markdown
from volseg.report.runs_figure import runs_figure
from volseg.report.training_run import TrainingRun, differing_settings

REGIONS = ["anterior", "posterior"]


def record(scores, *, given=None, name="Net", digest="0" * 16, seconds=60.0):
    """A record whose best validation has these Dice, one pair a case, each case of a patient of its own."""
    run = copy.deepcopy(RUN)
    cases = [
        {"key": f"case{n}", "patient": f"p{n}", "dice": dict(zip(REGIONS, pair, strict=True))}
        for n, pair in enumerate(scores)
    ]
    means = {region: sum(case["dice"][region] for case in cases) / len(cases) for region in REGIONS}
    dice = sum(means.values()) / 2
    run["cohort"] |= {"digest": digest, "regions": REGIONS, "validation_cases": len(cases)}
    run["network"]["name"] = name
    run["settings"] = {"given": given or {}, "values": {"batch_size": 4, "crops_per_case": 2}}
    run["timing"] = {"seconds": seconds, "iterations": 50, "seconds_per_iteration": 0.8, "data_wait_share": 0.01}
    run["sessions"] = [{**run["sessions"][0], "trained_s": 40.0}]
    run["history"] = [
        {**run["history"][0], "epoch": epoch, "elapsed_s": 30.0 * epoch, "dice": value, "regions": means}
        for epoch, value in ((1, dice - 0.2), (2, dice))
    ]
    run["best"] = {"epoch": 2, "dice": dice, "regions": means, "cases": cases}
    return run


def run_of(*arguments, **options):
    return TrainingRun(None, record(*arguments, **options))


GOOD = [(0.90, 0.88), (0.91, 0.86), (0.89, 0.87), (0.92, 0.85), (0.90, 0.89), (0.88, 0.86), (0.93, 0.88)]
POOR = [(a - 0.05, b - 0.03) for a, b in GOOD]


def test_what_a_run_tells():
    run = run_of([(0.9, 0.7), (0.8, 0.6)])
    assert [(row.key, row.patient, row.region, row.dice) for row in run.rows] == [
        ("case0", "p0", "anterior", 0.9),
        ("case0", "p0", "posterior", 0.7),
        ("case1", "p1", "anterior", 0.8),
        ("case1", "p1", "posterior", 0.6),
    ]
    assert run.interval.mean == pytest.approx(0.75)
    assert (run.interval.low, run.interval.high) == pytest.approx((0.7, 0.8))
    # Two processes, each of which takes batches of its own: four cases with two windows.
    assert run.record["machine"]["processes"] == 2
    assert run.windows_per_s == pytest.approx(2 * 4 * 2 / 0.8)
    # 60 s less 40 s of training, over two validations of two cases.
    assert run.validation_s_per_case == pytest.approx(20 / 4)
    assert run.curve == [(0.5, pytest.approx(0.55)), (1.0, pytest.approx(0.75))]


def test_a_region_that_no_reference_has_is_none_of_the_mean():
    """Its Dice is undefined in the record; the interval is that of the others, and JSON knows no NaN."""
    runs = {}
    for name, scores in (("good", GOOD), ("poor", POOR)):
        run = run_of(scores)
        for case in run.record["best"]["cases"]:
            case["dice"]["posterior"] = None
        means = {"anterior": run.record["best"]["regions"]["anterior"], "posterior": None}
        run.record["best"] |= {"regions": means, "dice": means["anterior"]}
        runs[name] = run
    anterior = mean_interval([one for one, _ in GOOD], [f"p{n}" for n in range(len(GOOD))])
    assert (runs["good"].interval.mean, runs["good"].interval.low) == pytest.approx((anterior.mean, anterior.low))
    content = json.loads(json.dumps(runs_as_json(runs, title="Two"), allow_nan=False))
    assert content["runs"]["good"]["low"] == pytest.approx(anterior.low, abs=1e-6)
    assert "nan" not in runs_as_markdown(runs, title="Two")


def test_the_tables_and_the_figure():
    runs = {"good": run_of(GOOD, given={"learning_rate": 1}), "poor": run_of(POOR)}
    page = runs_as_markdown({"poor": runs["poor"], "good": runs["good"]}, title="Two")
    lines = [line for line in page.splitlines() if line.startswith("| good") or line.startswith("| poor")]
    assert lines[0].startswith("| good | 1 | 0.887 [0.880, 0.89")  # the best first, with what was set
    assert lines[1].startswith("| poor | default | 0.847")
    content = runs_as_json(runs, title="Two")
    assert content["schema"] == "volseg.runs/1"
    assert content["runs"]["good"]["windows_per_s"] == 20
    figure = runs_figure({name: run.curve for name, run in runs.items()})
    assert ET.fromstring(figure).tag.endswith("svg")
    assert "good: 0.887 after 1.0 min" in figure
    assert runs_figure({"none": []})


def test_a_point_just_below_the_last_validations_is_inside_the_figure():
    bottom = 440 - 52
    for lowest, inside in ((0.779, True), (0.2, False)):
        figure = runs_figure({"a": [(1, lowest), (2, 0.85), (3, 0.86)]})
        path = re.search(r'd="M[\d.]+ ([\d.]+)L', figure)
        assert (float(path[1]) <= bottom) == inside


def test_only_settings_that_differ_are_told():
    runs = [run_of(GOOD, given=given) for given in ({"a": 1, "b": 2, "output_dir": "x"}, {"a": 1, "c": [1]})]
    assert differing_settings(runs) == ["b", "c"]


def test_runs_on_other_cases_are_refused():
    with pytest.raises(UsageError, match=r"one has the cohort digest 0{16} and two has 1{16}: they were validated on"):
        check_alike({"one": run_of(GOOD), "two": run_of(GOOD, digest="1" * 16)})


def test_a_folder_that_is_no_run(tmp_path):
    assert not is_run(tmp_path)
    with pytest.raises(UsageError, match=r"holds no run\.json; name a folder that `volseg train` wrote"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text("{")
    with pytest.raises(UsageError, match="cannot be read"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**record(GOOD), "schema": "volseg.run/9"}))
    with pytest.raises(UsageError, match=r"has the schema 'volseg\.run/9'"):
        read_run(tmp_path)
    (tmp_path / "run.json").write_text(json.dumps({**record(GOOD), "best": None}))
    with pytest.raises(UsageError, match="has no validation whose cases are known"):
        read_run(tmp_path)


def test_from_the_command_line(tmp_path, capsys):
    for name, scores in (("good", GOOD), ("poor", POOR)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "run.json").write_text(json.dumps(record(scores)))

    def told_by(code, *words):
        with pytest.raises(SystemExit) as stop:
            main(list(words))
        assert (stop.value.code or 0) == code
        return "".join(capsys.readouterr())

    words = ["compare", str(tmp_path / "poor"), str(tmp_path / "good"), "-o", str(tmp_path / "out")]
    told = told_by(0, *words)
    assert "good − poor" in told
    assert "7/0/0" in told  # better in every case and region
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"runs.md", "runs.json", "runs.svg", "comparison.json", "comparison.md", "comparison.svg"}
    assert "a training run knows Dice alone" in told_by(2, *words, "--metric", "hd95_mm")
    assert "holds no run.json" in told_by(2, *words, str(tmp_path / "nowhere"))

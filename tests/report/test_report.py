from __future__ import annotations

import csv
import json
import random
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import pytest

import volseg.report
from volseg.errors import UsageError
from volseg.evaluation import METRICS, EvaluationSettings, RegionScores
from volseg.labels import LabelTable
from volseg.report import Summary, short_table, summarise, write_report
from volseg.report.html_tables import result_table

DETAILS = {"cohort": "test cohort", "model": "none"}


def scored(
    key: str, patient: str, region: str, dice: float, hd95_mm: float, reference_ml=10.0, predicted_ml=10.0
) -> RegionScores:
    return RegionScores(key, patient, region, dice, hd95_mm, reference_ml, predicted_ml, "both present")


def missed(key: str, patient: str, region: str, reference_ml: float) -> RegionScores:
    return RegionScores(key, patient, region, 0.0, None, reference_ml, 0.0, "missed")


def invented(key: str, patient: str, region: str, predicted_ml: float) -> RegionScores:
    return RegionScores(key, patient, region, 0.0, None, 0.0, predicted_ml, "invented")


def both_empty(key: str, patient: str, region: str) -> RegionScores:
    return RegionScores(key, patient, region, None, None, 0.0, 0.0, "both empty")


ROWS = [
    scored("p1_1", "p1", "colon", 0.8, 4.0, 10, 12),
    both_empty("p1_1", "p1", "stomach"),
    scored("p1_2", "p1", "colon", 0.6, 6.0, 10, 9),
    scored("p1_2", "p1", "stomach", 0.9, 2.0, 5, 5),
    missed("p2_1", "p2", "colon", 7),
    scored("p2_1", "p2", "stomach", 0.7, 3.0, 5, 4),
    RegionScores("p3_1", "p3", "", error="there is no prediction p3_1.nii.gz; run the prediction of this case"),
    invented("p4_1", "p4", "colon", 2),
    scored("p4_1", "p4", "stomach", 0.5, 8.0, 5, 8),
]


def test_a_summary_by_hand():
    summary = summarise(ROWS)
    colon, stomach = summary.regions
    assert (summary.cases, summary.patients, [row.key for row in summary.failures]) == (4, 3, ["p3_1"])
    assert (colon.region, colon.cases) == ("colon", 4)
    assert colon.outcomes == {"both present": 2, "missed": 1, "invented": 1, "both empty": 0}
    assert stomach.outcomes == {"both present": 3, "missed": 0, "invented": 0, "both empty": 1}
    # Missed and invented count as Dice 0: (0.8 + 0.6 + 0 + 0) / 4.
    assert colon.dice.mean == pytest.approx(0.35)
    assert colon.dice.median == pytest.approx(0.3)
    assert colon.dice.std == pytest.approx(0.4123, abs=1e-4)
    # They have no HD95, and none is made up.
    assert (colon.hd95_mm.mean, colon.hd95_mm.median, colon.hd95_mm.cases, colon.hd95_mm.patients) == (5.0, 5.0, 2, 1)
    assert (colon.hd95_mm.low, colon.hd95_mm.high, colon.hd95_mm.draws) == (None, None, 0)  # of one patient
    # +2, -1, -7, +2
    assert colon.volume_error_ml.mean == pytest.approx(-1)
    assert colon.absolute_volume_error_ml.mean == pytest.approx(3)
    # Both empty is no case of Dice: (0.9 + 0.7 + 0.5) / 3.
    assert stomach.dice.mean == pytest.approx(0.7)
    assert (stomach.dice.cases, stomach.dice.patients, stomach.dice.draws) == (3, 3, 2000)
    assert (stomach.dice.low, stomach.dice.high) == pytest.approx((0.5, 0.9))
    assert (stomach.volume_error_ml.cases, stomach.volume_error_ml.mean) == (3, pytest.approx(2 / 3))
    assert summary.mean_dice.mean == pytest.approx((0.35 + 0.7) / 2)
    assert summary.mean_dice.low <= summary.mean_dice.mean <= summary.mean_dice.high
    assert summary.mean_hd95_mm.mean == pytest.approx((5 + 13 / 3) / 2)


def test_worst_cases_come_first_and_equal_ones_by_volume_error():
    worst = summarise(ROWS).worst
    assert [(row.key, row.region) for row in worst[:4]] == [
        ("p2_1", "colon"),  # 7 ml missed
        ("p4_1", "colon"),  # 2 ml invented
        ("p4_1", "stomach"),
        ("p1_2", "colon"),
    ]
    assert len(worst) == 7  # both empty is neither good nor bad
    many = [scored(f"p{i}_1", f"p{i}", "colon", i / 100, 1.0) for i in range(30)]
    assert [row.dice for row in summarise(many).worst] == [i / 100 for i in range(10)]


def test_a_region_without_any_hd95_leaves_the_mean_of_regions_undefined():
    summary = summarise([scored("a", "a", "colon", 0.8, 4.0), missed("a", "a", "stomach", 3)])
    assert summary.mean_dice.mean == pytest.approx(0.4)
    assert summary.mean_hd95_mm.mean is None


def test_the_order_of_the_rows_changes_no_number():
    shuffled = ROWS.copy()
    random.Random(0).shuffle(shuffled)
    ours = {region.region: region for region in summarise(ROWS).regions}
    theirs = {region.region: region for region in summarise(shuffled).regions}
    assert ours.keys() == theirs.keys()
    for name, region in ours.items():
        assert region.outcomes == theirs[name].outcomes
        assert region.dice.mean == pytest.approx(theirs[name].dice.mean)
        assert (region.dice.low, region.dice.high) == pytest.approx((theirs[name].dice.low, theirs[name].dice.high))


@pytest.mark.parametrize(
    "rows",
    [
        [ROWS[0], ROWS[0]],
        [ROWS[0], RegionScores("p1_1", "p1", "", error="unreadable")],
        [RegionScores("p1_1", "p1", "", error="unreadable")] * 2,
    ],
)
def test_a_case_that_is_there_twice_is_refused(rows):
    with pytest.raises(UsageError, match="p1_1"):
        summarise(rows)


def test_the_csv_holds_every_row_and_leaves_the_undefined_empty(tmp_path):
    path, _, _ = write_report(ROWS, tmp_path, title="Test", details=DETAILS)
    with path.open(newline="") as file:
        lines = list(csv.DictReader(file))
    assert len(lines) == len(ROWS)
    assert list(lines[0]) == ["key", "patient", "region", "outcome", *(metric.name for metric in METRICS), "error"]
    assert {name: value for name, value in lines[0].items() if value} == {
        "key": "p1_1",
        "patient": "p1",
        "region": "colon",
        "dice": "0.8",
        "hd95_mm": "4.0",
        "reference_ml": "10",
        "predicted_ml": "12",
        "volume_error_ml": "2",
        "volume_error_percent": "20.0",
        "outcome": "both present",
    }
    assert (lines[1]["dice"], lines[1]["hd95_mm"], lines[1]["outcome"]) == ("", "", "both empty")
    failed = lines[6]
    assert failed["error"].startswith("there is no prediction")
    assert {failed[name] for name in ("region", "dice", "hd95_mm", "reference_ml", "predicted_ml", "outcome")} == {""}


def test_the_json_has_its_schema(tmp_path):
    _, path, _ = write_report(ROWS, tmp_path, title="Test", details=DETAILS)
    content = json.loads(path.read_text())
    assert content["schema"] == "volseg.report/1"
    assert content["title"] == "Test"
    assert content["details"].items() >= DETAILS.items()
    assert content["method"] == {
        "tolerance_mm": 3.0,
        "reading": "directed",
        "minutes_per_metre": 2.0,
        "apl_tolerance_mm": None,
        "objects": False,
        "instances": False,
        "margins": False,
    }
    assert [metric["name"] for metric in content["metrics"]] == [metric.name for metric in METRICS]
    assert content["cases"] == {"scored": 4, "failed": 1, "patients": 3}
    assert content["bootstrap"] == {"unit": "patient", "draws": 2000, "level": 0.95, "seed": 0}
    assert list(content["regions"]) == ["colon", "stomach"]
    colon = content["regions"]["colon"]
    names = [metric.name for metric in METRICS]
    assert list(colon) == ["cases", "outcomes", *names, "absolute_volume_error_ml"]
    assert colon["surface_dice"] == {**dict.fromkeys(colon["dice"], None), "cases": 0, "patients": 0}
    assert colon["dice"]["mean"] == 0.35
    assert colon["dice"]["interval_method"] == "bootstrap by patient, 3 patients, 2000 draws"
    assert colon["hd95_mm"] == {
        "cases": 2,
        "patients": 1,
        "mean": 5.0,
        "interval": None,
        "interval_method": None,
        "median": 5.0,
        "std": 1.414214,
    }
    assert content["mean_of_regions"]["dice"]["mean"] == 0.525
    assert content["failures"] == [{"key": "p3_1", "patient": "p3", "error": ROWS[6].error}]
    assert "larger of the two directed 95th percentiles" in content["definitions"]["hd95_mm"]


@pytest.mark.parametrize("rows", [ROWS, [], ROWS[6:7], ROWS[:1]])
@pytest.mark.parametrize(
    "method", [EvaluationSettings(), EvaluationSettings(tolerance_mm=2, reading="surfel", objects=True)]
)
def test_the_json_keeps_to_its_published_schema(tmp_path, rows, method):
    jsonschema = pytest.importorskip("jsonschema")
    schema = json.loads((Path(volseg.report.__file__).parent / "summary.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    _, path, _ = write_report(rows, tmp_path, title="Test", details=DETAILS, method=method)
    content = json.loads(path.read_text())
    jsonschema.validate(content, schema)
    content["regions"]["made up"] = {"cases": 1}
    with pytest.raises(jsonschema.ValidationError):
        jsonschema.validate(content, schema)


def test_every_report_names_its_reading_and_tolerance(tmp_path):
    method = EvaluationSettings(tolerance_mm=1.5, reading="pooled", minutes_per_metre=3, apl_tolerance_mm=2.5)
    _, summary, page = write_report(ROWS, tmp_path, title="T", details=DETAILS, method=method)
    text = page.read_text(encoding="utf-8")
    assert "- HD95 reading: pooled: one percentile" in text
    assert "- Tolerance: 1.5 mm, of surface Dice" in text
    assert "- Time to correct: 3 minutes a metre" in text
    assert json.loads(summary.read_text())["method"]["reading"] == "pooled"


def test_the_second_table_has_the_other_metrics_and_what_each_covers(tmp_path):
    rows = [replace(row, time_saved=1.0, recall=None if row.outcome == "invented" else 0.5) for row in ROWS]
    page = write_report(rows, tmp_path, title="T", details={})[2].read_text(encoding="utf-8")
    header, *lines = table_after(page, "## Further metrics")
    assert header == ["Metric", "Region", "Mean [95 % CI]", "Median", "Cases covered", "Left out (undefined)"]
    found = {(line[0], line[1]): line for line in lines}
    assert found["Recall", "colon"][4:] == ["3", "1"]
    assert found["Time saved (points a slice)", "Mean of regions"][2].startswith("1.00")
    assert not [line for line in lines if line[0].startswith(("Dice", "Object F1"))]
    assert "Object F1 =" not in page  # not computed, so not defined either
    assert "Recall =" in page


def table_after(page: str, heading: str) -> list[list[str]]:
    """The cells of the first table below a heading, the line of dashes left out."""
    lines = page.split(heading, 1)[1].splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("|"))
    cells = []
    for line in lines[start:]:
        if not line.startswith("|"):
            break
        cells.append([cell.strip() for cell in line.replace("\\|", "¦").strip("|").split("|")])
    return [cells[0], *cells[2:]]


def test_the_page_states_the_numbers_their_cover_and_the_failures(tmp_path):
    _, _, path = write_report(ROWS, tmp_path, title="Bowel and stomach", details=DETAILS)
    page = path.read_text(encoding="utf-8")
    assert page.startswith("# Bowel and stomach\n\n- cohort: test cohort\n")
    header, colon, stomach, mean = table_after(page, "## Result")
    assert len(header) == 11
    row = dict(zip(header, colon, strict=True))
    assert (row["Region"], row["Cases"], row["Dice median"]) == ("colon", "4", "0.300")
    assert row["Dice mean [95 % CI]"].startswith("0.350 [")
    assert row["HD95 mean [95 % CI] (mm)"] == "5.00 [–]"
    assert row["Volume error mean [95 % CI] (ml)"].startswith("-1.00 [")
    assert (row["Missed"], row["Invented"], row["Both empty"]) == ("1", "1", "0")
    assert stomach[2] == "0.700 [0.500, 0.900]"
    assert (mean[0], mean[2].split()[0]) == ("Mean of regions", "0.525")
    assert "95 % CI: bootstrap by patient, 3 patients, 2000 draws" in page
    cover = table_after(page, "## What each mean covers")
    assert ["colon", "HD95", "2", "2", "no interval"] in cover
    assert ["stomach", "Dice", "3", "1", "bootstrap by patient, 3 patients, 2000 draws"] in cover
    covered = next(line for line in cover if line[:2] == ["Mean of regions", "HD95"])
    assert covered[2:4] == ["2 to 3", "1 to 2"]  # of colon and stomach; all four cases have one of them
    assert table_after(page, "## Failed cases")[1] == ["p3_1", "p3", ROWS[6].error]
    worst = table_after(page, "## Worst cases")
    assert len(worst) == 1 + 7
    assert worst[1] == ["p2_1", "p2", "colon", "0.000", "–", "7.00", "0.00", "-7.00", "missed"]
    assert "HD95 = the larger of the two directed 95th percentiles" in page
    assert "| nan" not in page


def test_the_mean_of_regions_tells_how_many_cases_its_regions_have():
    """It stood beside the number of all cases, though a region had fewer."""
    lines = [line.split() for line in short_table(summarise(ROWS)).splitlines()]
    assert [line[1] for line in lines[1:3]] == ["4", "3"]
    assert lines[3][:6] == ["mean", "of", "regions", "3", "to", "4"]


def test_volumes_of_cells_are_not_rounded_to_nothing(tmp_path):
    """A cell has some 1e-9 ml; with six decimals each volume of a microscope's stack was 0 in the files."""
    rows = [
        scored("c1", "c1", "cell", 0.8, 0.002, 5.2e-10, 4.1e-10),
        scored("c2", "c2", "cell", 0.9, 0.001, 5e-10, 5e-10),
    ]
    table, summary, page = write_report(rows, tmp_path, title="T", details={})
    first, second = csv.DictReader(table.read_text().splitlines())
    assert (first["reference_ml"], first["volume_error_ml"]) == ("5.2e-10", "-1.1e-10")
    assert second["volume_error_ml"] == "0.0"
    region = json.loads(summary.read_text())["regions"]["cell"]
    assert region["reference_ml"]["mean"] == pytest.approx(5.1e-10)
    told = page.read_text(encoding="utf-8")
    assert "-5.5e-11 [-1.1e-10, +0.00]" in told  # the mean volume error, whose upper end is nothing
    assert "| 0.0015 [0.001, 0.002] | 0.0015 |" in told  # HD95 in mm
    assert ">-5.5e-11</span>" in result_table(summarise(rows), LabelTable.exclusive(["cell"]))


def test_a_summary_that_was_made_before_is_taken(tmp_path, monkeypatch):
    """`evaluate` made it three times, which took as long as 1,000 cases of 115 regions took to read."""
    made = summarise(ROWS)
    before = write_report(ROWS, tmp_path / "a", title="T", details={})
    monkeypatch.setattr(volseg.report.table, "summarise", None)
    after = write_report(ROWS, tmp_path / "b", title="T", details={}, summary=made)
    assert [one.read_bytes() for one in before] == [one.read_bytes() for one in after]


def test_one_region_needs_no_mean_of_regions(tmp_path):
    rows = [row for row in ROWS if row.region == "colon"]
    page = write_report(rows, tmp_path, title="Test", details={})[2].read_text(encoding="utf-8")
    assert "| Mean of regions" not in page


def test_text_from_outside_cannot_break_the_table(tmp_path):
    rows = [scored("p1_1", "p1", "a|b", 0.5, 1.0), RegionScores("p2_1", "p2", "", error="line one\nline | two <img>")]
    page = write_report(rows, tmp_path, title="A\n# B", details={"x": "1\n2"})[2].read_text(encoding="utf-8")
    assert page.startswith("# A # B\n\n- x: 1 2\n")
    assert table_after(page, "## Failed cases")[1] == ["p2_1", "p2", "line one line ¦ two &lt;img>"]
    assert table_after(page, "## Result")[1][0] == "a¦b"


@pytest.mark.parametrize("rows", [[], [ROWS[6]]])
def test_nothing_scored_gives_no_number(tmp_path, rows):
    _, summary, page = write_report(rows, tmp_path, title="Test", details={})
    content = json.loads(summary.read_text())
    assert content["regions"] == {}
    assert content["mean_of_regions"]["dice"]["mean"] is None
    assert "No case could be scored." in page.read_text(encoding="utf-8")


def test_equal_rows_give_equal_bytes_and_files_are_replaced_whole(tmp_path):
    first = [path.read_bytes() for path in write_report(ROWS, tmp_path / "a", title="T", details=DETAILS)]
    write_report(ROWS[:3], tmp_path / "b", title="T", details=DETAILS)
    again = write_report(ROWS, tmp_path / "b", title="T", details=DETAILS)
    assert [path.read_bytes() for path in again] == first
    assert sorted(path.name for path in (tmp_path / "b").iterdir()) == ["cases.csv", "report.md", "summary.json"]


def test_the_summary_is_typed_and_ready_to_print():
    summary = summarise(ROWS)
    assert isinstance(summary, Summary)
    assert summary.regions[1].dice.method == "bootstrap by patient, 3 patients, 2000 draws"


def test_metrics_evaluation_and_report_load_neither_torch_nor_monai():
    code = (
        "import sys, volseg.report, volseg.evaluation.case, volseg.metrics.surface, volseg.metrics.interval; "
        "sys.exit(bool({'torch', 'monai'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0

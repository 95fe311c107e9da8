"""The benchmark suite: pairing and ratios by hand, results by their schema, the page by its markers, every --help."""

from __future__ import annotations

import doctest
import json
import os
import re
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import jsonschema
import numpy as np
import pytest

from volseg.evaluation import RegionScores
from volseg.formats import UwMadison
from volseg.report.table import rows_as_csv

ROOT = Path(__file__).resolve().parents[2]
HERE = ROOT / "benchmarks"
sys.path.insert(0, str(HERE))

import accuracy  # noqa: E402 - the scripts are no package
import loop_tables  # noqa: E402
import networks  # noqa: E402
from harness import clinic, glance, growth_figure, material, measurement, rendering  # noqa: E402
from harness.measurement import CPU, PEAK, WALL, LeftOut, Measure  # noqa: E402
from peers import nnunet  # noqa: E402

SCHEMA = json.loads((HERE / "harness" / "result.schema.json").read_text())
NAMES = re.findall(r'^names="(.*)"$', (HERE / "run.sh").read_text(), re.M)[0].split()
# These run in an environment of a peer.
OF_PEERS = {"usual_conversion.py", "nnunet_train.py"}


def check(content: Any) -> None:
    jsonschema.Draft202012Validator(SCHEMA, format_checker=jsonschema.FormatChecker()).validate(content)


def a_result(name: str = "startup", *, quick: bool = False) -> dict[str, Any]:
    """Two ways in three rounds, ours 2, 4, 10 and theirs 4, 12, 15: ratios 2, 3 and 1.5."""
    found = {
        "ours": [
            {"wall_s": 2.0, "peak_mib": 100.0},
            {"wall_s": 4.0, "peak_mib": 100.0},
            {"wall_s": 10.0, "peak_mib": 90},
        ],
        "theirs": [{"wall_s": 4.0}, {"wall_s": 12.0}, {"wall_s": 15.0}],
    }
    facts: dict[str, Any] = {"theirs": {"Note": "own plans", "Number": 3.5, "None": None}}
    table = measurement.table(
        "A table", [WALL, CPU, PEAK], found, reference="ours", facts=facts, left_out={"third": "not installed"}
    )
    return measurement.result(
        name,
        [table],
        quick=quick,
        machine=measurement.machine(),
        versions=measurement.versions("volseg", "numpy", "no-such-package"),
        notes=["A note."],
    )


# --- measuring


def test_rounds_alternate_and_go_backwards_every_second_time():
    called = []

    def way(name, value):
        def once():
            called.append(name)
            return {"wall_s": value}

        return once

    found, left_out = measurement.paired({"ours": way("ours", 1.0), "theirs": way("theirs", 2.0)}, rounds=3)
    assert called == ["ours", "theirs", "theirs", "ours", "ours", "theirs"]
    assert found == {"ours": [{"wall_s": 1.0}] * 3, "theirs": [{"wall_s": 2.0}] * 3}
    assert left_out == {}


def test_a_way_that_cannot_go_is_left_out_with_its_reason():
    def never():
        raise LeftOut("this CPU has no bfloat16")

    found, left_out = measurement.paired({"ours": lambda: {"wall_s": 1.0}, "theirs": never}, rounds=2)
    assert list(found) == ["ours"]
    assert left_out == {"theirs": "this CPU has no bfloat16"}


def test_a_peer_that_fails_is_left_out_and_ours_is_not():
    def fails():
        raise RuntimeError("peer ended with 1:\na long log")

    found, left_out = measurement.paired({"ours": lambda: {"wall_s": 1.0}, "theirs": fails}, rounds=2)
    assert list(found) == ["ours"]
    assert left_out == {"theirs": "peer ended with 1:"}
    with pytest.raises(RuntimeError, match="peer ended"):
        measurement.paired({"ours": fails, "theirs": lambda: {"wall_s": 1.0}}, rounds=1)


def test_ratios_are_of_the_same_round_and_their_median():
    # 4/2, 12/4, 15/10; the ratio of the medians would be 12/4 = 3.
    assert measurement.ratio([4.0, 12.0, 15.0], [2.0, 4.0, 10.0]) == {"median": 2.0, "low": 1.5, "high": 3.0}
    assert measurement.ratio([1.0], [0.0]) is None, "nothing is infinitely slower"


def test_a_table_keeps_every_round():
    (table,) = a_result()["tables"]
    ours, theirs = table["rows"]
    assert table["rounds"] == 3
    assert theirs["values"] == {"wall_s": [4, 12, 15]}
    assert theirs["median"] == {"wall_s": 12}
    assert theirs["ratio"] == {"wall_s": {"median": 2, "low": 1.5, "high": 3}}
    assert (ours["reference"], ours["ratio"], theirs["reference"]) == (None, {}, "ours")


def test_methods_can_have_references_of_their_own():
    found = {name: [{"wall_s": value}] for name, value in {"a": 1.0, "b": 2.0, "x": 3.0, "y": 8.0}.items()}
    table = measurement.table("", [WALL], found, reference={"x": "a", "y": "b"})
    assert [row["ratio"].get("wall_s", {}).get("median") for row in table["rows"]] == [None, None, 3.0, 4.0]


def test_a_program_is_measured_with_its_children_and_without_this_process():
    held = np.ones(200 * 2**17)  # 200 MiB here
    child = "import subprocess, sys; subprocess.run([sys.executable, '-c', 'sum(range(3_000_000))'])"
    values = measurement.run([sys.executable, "-c", child])
    alone = measurement.run([sys.executable, "-c", "pass"])
    assert values["cpu_s"] > alone["cpu_s"]
    assert values["wall_s"] > 0
    larger = measurement.run([sys.executable, "-c", f"b = bytearray({100 * 2**20}); b[::4096] = b[::4096]"])
    assert larger["peak_mib"] >= 100
    assert held.size


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_memory_is_what_an_action_adds_and_not_what_was_freed_before():
    def fill() -> bytes:
        parts = [b"x" * 2**16 for _ in range(1600)]  # 100 MiB, in pieces that stay on the heap
        return b"".join(parts[:320])

    fill()  # freed again: a fork that took its memory from here would add nothing
    found = measurement.memory_of(fill)
    assert found is not None
    assert 110 <= found["peak"] <= 150
    assert 19 <= found["kept"] <= 40


@pytest.mark.skipif(sys.platform != "linux", reason="reads Linux's /proc")
def test_what_ends_the_measured_process_is_said():
    with pytest.raises(RuntimeError, match="ended its process with 5"):
        measurement.memory_of(lambda: os._exit(5))


def test_a_program_that_fails_says_what_it_said():
    with pytest.raises(RuntimeError, match=r"ended with 3:\nno disk"):
        measurement.run([sys.executable, "-c", "import sys; print('no disk'); sys.exit(3)"])


def test_a_peer_that_is_not_installed_is_left_out():
    with pytest.raises(LeftOut, match=r"data/peers/nobody is not there"):
        measurement.peer("nobody")


def test_a_schedule_fits_the_time():
    for seconds in (1.0, 30.0, 1200.0, 36000.0):
        for iteration_s in (0.05, 0.7, 4.0):
            epochs, iterations = nnunet.schedule(seconds, iteration_s)
            assert epochs >= 1
            assert iterations >= 1
            if seconds > 4 * iteration_s:
                assert 0.7 * seconds <= epochs * (iterations + 0.5) * iteration_s <= seconds * 1.2


# --- results


def test_a_result_follows_the_schema():
    jsonschema.Draft202012Validator.check_schema(SCHEMA)
    check(a_result())
    assert "no-such-package" not in a_result()["versions"]


@pytest.mark.parametrize(
    "change",
    [
        {"schema": "volseg.benchmark/0"},
        {"tables": []},
        {"machine": {}},
        {"name": "Two words"},
        {"versions": {}},
        {"x": 1},
    ],
)
def test_another_content_is_refused(change):
    with pytest.raises(jsonschema.ValidationError):
        check({**a_result(), **change})


def test_numbers_that_json_does_not_know_become_null():
    table = measurement.table("", [WALL], {"ours": [{"wall_s": float("inf")}]})
    content = measurement.result("x", [table], quick=True, machine={}, versions={})
    assert content["tables"][0]["rows"][0]["median"] == {"wall_s": None}


@pytest.mark.parametrize(
    "path",
    [*sorted((ROOT / "docs" / "benchmarks").glob("*.json")), *sorted(measurement.RESULTS.glob("*.json"))],
    ids=lambda path: f"{path.parent.parent.name}/{path.name}",
)
def test_the_results_that_are_there_follow_the_schema(path):
    content = json.loads(path.read_text())
    if path.parent == rendering.PUBLISHED or content.get("schema") == measurement.SCHEMA:
        check(content)
        assert content["name"] == path.stem
    if path.parent == rendering.PUBLISHED:  # others, such as any_size, have pages that are written by hand
        assert content["name"] in NAMES
        assert not content["quick"]


# --- the page


def test_each_benchmark_has_its_place_in_one_page():
    everything = "\n".join(rendering.pages().values())
    for name in NAMES:
        rendering.marked(everything, name)


def test_the_pages_show_the_published_results():
    for path, page in rendering.pages().items():
        assert rendering.rendered(page, rendering.published()) == page, f"{path.name}: sh benchmarks/run.sh render"


def test_the_page_of_the_clinic_shows_its_records(monkeypatch, capsys):
    page = (rendering.PUBLISHED / "loop.md").read_text()
    commands = re.findall(r"^    python benchmarks/(loop_tables\.py .*) --page", page.replace("\\\n", ""), re.M)
    assert len(commands) == 2
    monkeypatch.chdir(ROOT)
    for command in commands:
        monkeypatch.setattr(sys, "argv", command.split())
        loop_tables.main()
        printed = [line for line in capsys.readouterr().out.splitlines() if line.count("|") == 8 and "---" not in line]
        assert len(printed) > 6
        assert [line for line in printed if line not in page] == []


def test_a_strategy_that_was_begun_anew_has_a_start_of_its_own():
    def record(strategy, number, dice, **more):
        cases = {f"case_{n}": {"liver": dice} for n in range(3)}
        return {"seed": 0, "strategy": strategy, "round": number, "cases": 10, "mm": 100.0, "dice": cases, **more}

    shared = [record("start", 0, 0.8, mm=0.0), record("random", 1, 0.9)]
    again = [record("start", 0, 0.7, mm=0.0, of="review"), record("review", 1, 0.9)]
    assert [[point.dice.mean for point in curve.points] for curve in clinic.curves([*shared, *again])] == [
        pytest.approx([0.8, 0.9]),
        pytest.approx([0.7, 0.9]),
    ]
    assert clinic.at_equal_mm([*again, *shared], "review").mean == pytest.approx(-0.05)
    assert "| 0 | review | 0.7000, 0.9000 |" in "\n".join(clinic.seed_table([*shared, *again]))


def test_the_summary_is_short():
    assert len((rendering.PUBLISHED / "index.md").read_text().splitlines()) <= 200


def test_the_readme_shows_the_published_results():
    page = rendering.README.read_text()
    assert rendering.readme(page, rendering.published()) == page, "sh benchmarks/run.sh render"


def test_the_table_at_the_head_says_where_volseg_is_not_ahead():
    fast = glance.Glimpse("Time", "startup", "A", "wall_s", "ours", ("theirs", "not measured"))
    behind = fast._replace(title="Turned round", own="theirs", others=("ours",))
    found = glance.as_markdown([a_result()], [fast, behind, fast._replace(name="another")])
    assert found.splitlines()[2:] == [
        "| Time | 4.00 s | theirs | 12.00 s | **2.00** [1.50, 3.00] |  |",
        "| Turned round | 12.00 s | ours | 4.00 s | **0.50** [0.33, 0.67] | **behind** |",
    ]


def test_of_dice_more_is_better():
    dice = Measure("dice", "Dice", "", 3, compared=False)
    found = {"ours": [{"dice": 0.8}], "worse": [{"dice": 0.7}], "better": [{"dice": 0.9}]}
    content = {"name": "accuracy", "tables": [measurement.table("20 minutes", [dice], found)]}
    one = glance.Glimpse("Dice", "accuracy", "20", "dice", "ours", ("worse", "better"))
    assert glance.as_markdown([content], [one]).splitlines()[2:] == [
        "| Dice | 0.800 | worse | 0.700 |  |  |",
        "|  |  | better | 0.900 |  | **behind** |",
    ]


def test_the_readme_shows_the_dice_after_each_budget_of_a_cpu():
    measures = [Measure("dice", "Dice", "", 3, compared=False), Measure("million_parameters", "M", "", 1)]
    rows = {"unet batch 2": 0.9, "nnU-Net v2": 0.8, "segformer": 0.7}

    def a_table(title: str, names: Sequence[str]) -> Any:
        found = {name: [{"dice": rows[name], "million_parameters": 0.16}] for name in names}
        facts = {name: {"Dice, 95 % CI": "[0, 1]"} for name in names}
        return measurement.table(title, measures, found, facts=facts)

    budgets = {"20 minutes of training each": list(rows)[:2], "40 minutes of training each": list(rows)[1:]}
    tables = [a_table(title, names) for title, names in budgets.items()]
    tables.append(a_table("20 minutes of training each, cuda", list(rows)))
    content = {"name": "accuracy", "tables": tables}
    page = "<!-- equal time table -->\nold\n<!-- end of equal time table -->\n"
    assert rendering.readme(page, [content]).splitlines()[1:-1] == [
        "| Trained by | Dice after 20 minutes | Dice after 40 minutes | Million weights |",
        "| --- | --- | --- | --- |",
        "| volseg unet batch 2 | 0.900 [0, 1] | – | 0.16 |",
        "| nnU-Net v2 | 0.800 [0, 1] | 0.800 [0, 1] | 0.16 |",
        "| volseg segformer | – | 0.700 [0, 1] | 0.16 |",
    ]
    assert rendering.readme("page", []) == "page"


def test_rendering_changes_what_is_between_the_markers_alone():
    page = "Before.\n<!-- startup table -->\nold\n<!-- end of startup table -->\nAfter.\n"
    one = a_result()  # the load of the machine is in it
    once = rendering.rendered(page, [one])
    assert once.startswith("Before.\n<!-- startup table -->\n")
    assert once.endswith("<!-- end of startup table -->\nAfter.\n")
    assert "old" not in once
    assert rendering.rendered(once, [one]) == once
    assert "| theirs | 12.00 | – | **2.00** [1.50, 3.00] | own plans | 3.5 |  |" in once
    assert "| Way | Wall (s) | Peak memory (MiB) | Wall, times ours's | Note | Number | None |" in once
    assert "Left out: third (not installed)." in once
    assert "- A note." in once


@pytest.mark.parametrize(
    "page",
    [
        "<!-- startup table -->\n",
        "<!-- end of startup table -->\n<!-- startup table -->\n",
        "<!-- startup table -->\n<!-- end of startup table -->\n" * 2,
    ],
)
def test_a_page_without_one_pair_of_markers_is_refused(page):
    with pytest.raises(ValueError, match=r"expected one line <!-- startup table -->"):
        rendering.rendered(page, [a_result()])


def test_only_whole_results_are_published(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "PUBLISHED", tmp_path / "published")
    for name, quick in (("startup", False), ("metrics", True)):
        (tmp_path / f"{name}.json").write_text(json.dumps(a_result(name, quick=quick)))
    (tmp_path / "plan.json").write_text("{}")
    assert rendering.take(tmp_path) == ["metrics.json is of --quick and was not taken"]
    assert [content["name"] for content in rendering.published()] == ["startup"]


def test_the_records_of_accuracy_are_published_with_it(tmp_path, monkeypatch):
    monkeypatch.setattr(rendering, "PUBLISHED", tmp_path / "published")
    places = [tmp_path / "results" / "accuracy" / part for part in ("cpu_20_minutes", "quick/cpu_0.2_minutes")]
    for place in places:
        place.mkdir(parents=True)
        (place / "unet.json").write_text("{}")
    rendering.take(tmp_path / "results")
    found = [path.relative_to(tmp_path / "published") for path in (tmp_path / "published").rglob("*.json")]
    assert found == [Path("accuracy/cpu_20_minutes/unet.json")]


# --- accuracy


def test_dice_of_cases_is_read_from_the_table_of_an_evaluation(tmp_path):
    table = rows_as_csv(
        [
            RegionScores("a", "p", "left", dice=0.5),
            RegionScores("a", "p", "right"),
            RegionScores("b", "q", "left", dice=0.25),
        ]
    )
    (tmp_path / "cases.csv").write_text(table)
    assert accuracy.dice_of_cases(tmp_path / "cases.csv") == {"left": {"a": 0.5, "b": 0.25}, "right": {"a": None}}


def test_differences_to_the_first_are_others_less_first_by_case():
    keys = [f"k{number}" for number in range(8)]
    first = {"left": {key: 0.8 + 0.01 * i for i, key in enumerate(keys)}}
    second = {"left": {key: 0.7 + 0.01 * i for i, key in enumerate(keys)}}
    found = {"slow": {"cases": second}, "fast": {"cases": first}}
    # Eight patients, all worse: 2 / 2^8.
    said = accuracy.against("fast", found, {key: key for key in keys})
    assert said == {"slow": "left -0.100 [-0.100, -0.100], p 0.008"}


def test_a_record_is_taken_before_a_published_one_and_neither_is_a_reason(tmp_path):
    def asked(only):
        settings = {"minutes": 1, "device": "cpu", "budgets": [1], "runs": None}
        return accuracy.compete("unet", tmp_path, here, only=only, **settings)

    here, published = tmp_path / "here", tmp_path / "published"
    for folder in (here, published):
        folder.mkdir()
        (folder / "unet.json").write_text(json.dumps({"from": folder.name}))
    assert asked(None) == {"from": "here"}
    (here / "unet.json").unlink()
    assert asked([here, published]) == {"from": "published"}
    with pytest.raises(LeftOut, match="not measured"):
        asked([here])


def test_one_training_of_the_zoo_serves_all_minutes(tmp_path, monkeypatch):
    def train(words, **_):
        trained.append(words)
        minutes = words[words.index("--minutes") + 1 : words.index("--rate")]
        for one in minutes:
            state = words[3] / f"{float(one):g}_minutes"
            (state / "predictions").mkdir(parents=True)
            (state / "predictions" / "minutes").write_text(one)
            facts = {"seconds": 60 * float(one), "parameters": 1, "steps_s": [1.0], "batch_size": 8, "patch": [1, 2, 3]}
            (state / "result.json").write_text(json.dumps(facts))

    trained = []
    name = "MONAI zoo 1e-4"
    monkeypatch.setattr(accuracy.subprocess, "run", train)
    for minutes in (20.0, 40.0):
        place = tmp_path / f"cpu_{minutes:g}_minutes"
        facts = accuracy.with_monai(name, tmp_path, place, minutes=minutes, device="cpu", budgets=[20.0, 40.0])
        assert facts["minutes"] == minutes
        assert (place / "predictions" / "MONAI_zoo_1e-4" / "minutes").read_text() == str(minutes)
        accuracy.record_of(name, place).write_text("{}")
    assert len(trained) == 1
    accuracy.record_of(name, place).unlink()
    accuracy.with_monai(name, tmp_path, place, minutes=40.0, device="cpu", budgets=[20.0, 40.0])
    assert trained[1][4:6] == ["--minutes", "40.0"], "what has a record is not trained for again"
    assert "--rate" in trained[1][6]


def test_each_published_accuracy_has_its_record():
    for content in rendering.published():
        if content["name"] != "accuracy":
            continue
        for table in content["tables"]:
            minutes, _, device = table["title"].partition(" minutes of training each")
            place = rendering.PUBLISHED / "accuracy" / f"{device.strip(', ') or 'cpu'}_{minutes}_minutes"
            for row in table["rows"]:
                record = json.loads((place / f"{accuracy.folder_of(row['name'])}.json").read_text())
                means = [sum(cases.values()) / len(cases) for cases in record["cases"].values()]
                assert sum(means) / len(means) == pytest.approx(row["median"]["dice"], abs=1e-4)


def growth() -> dict[str, Any]:
    further = Measure("further", "CPU of a further case", "ms", 1, compared=False)
    tables = []
    for command in ("convert", "predict", "evaluate"):
        for by, names in (
            ("by number of cases", ["10 cases", "1,000 cases"]),
            ("by size", ["16 x 16 x 16", "64 x 64 x 64"]),
        ):
            rows = {name: [{"wall_s": 1.0, "cpu_s": 0.02 * 8**i, "peak_mib": 150.0}] for i, name in enumerate(names)}
            tables.append(measurement.table(f"volseg {command}, {by}", [WALL, CPU, further, PEAK], rows))
    return measurement.result("growth", tables, quick=False, machine={}, versions={})


def test_the_figure_shows_every_line_in_every_panel():
    tree = ElementTree.fromstring(growth_figure.growth_figure(growth()))
    lines = tree.findall("{*}polyline")
    assert len(lines) == 4 * 3
    width, height = (float(tree.attrib[side]) for side in ("width", "height"))
    for line in lines:
        for point in line.attrib["points"].split():
            x, y = map(float, point.split(","))
            assert 0 < x < width
            assert 0 < y < height
    assert len(tree.findall("{*}circle")) == 4 * 3 * 2


def test_the_figure_is_that_of_the_published_result():
    for content in rendering.published():
        if content["name"] == "growth":
            assert (ROOT / "docs" / "images" / "growth.svg").read_text() == growth_figure.growth_figure(content)


# --- what is worked on


def test_links_make_a_raw_folder_of_any_number_of_scans(tmp_path):
    material.write_small_scans(tmp_path / "raw", scans=5, side=8, kinds=2)
    source = UwMadison(tmp_path / "raw")
    assert len(source.keys()) == 5
    for number, key in enumerate(sorted(source.keys())):
        case, (image, label) = source.load(key), material.small_volume(number % 2, 8)
        np.testing.assert_array_equal(case.channels[0].voxels, image.voxels)
        np.testing.assert_array_equal(case.label.voxels, label.voxels)


def test_a_subset_is_a_cohort(tmp_path):
    cohort = tmp_path / "cohort"
    for part in ("imagesTr", "labelsTr"):
        (cohort / part).mkdir(parents=True)
    for key in ("case1", "case10", "case2", "case3"):
        (cohort / "imagesTr" / f"{key}_0000.nii.gz").write_text(key)
        (cohort / "labelsTr" / f"{key}.nii.gz").write_text(key)
    (cohort / "splits.json").write_text(json.dumps([{"train": ["case1", "case10"], "val": ["case2", "case3"]}]))
    (cohort / "dataset.json").write_text('{"numTraining": 4}')
    (cohort / "cases.csv").write_text("key\ncase1\ncase10\ncase2\ncase3\n")
    material.write_subset(cohort, tmp_path / "part", training=1, validation=1)
    assert sorted(path.name for path in (tmp_path / "part" / "imagesTr").iterdir()) == [
        "case1_0000.nii.gz",
        "case2_0000.nii.gz",
    ]
    assert (tmp_path / "part" / "labelsTr" / "case2.nii.gz").read_text() == "case2"
    assert (tmp_path / "part" / "cases.csv").read_text() == "key\ncase1\ncase2\n"
    assert json.loads((tmp_path / "part" / "splits.json").read_text()) == [{"train": ["case1"], "val": ["case2"]}]


# --- the scripts


SCRIPTS = [
    path
    for path in sorted([*HERE.glob("*.py"), *HERE.glob("peers/*.py")])
    if "argparse" in path.read_text() or "measurement.options" in path.read_text()
    if path.name not in OF_PEERS | {"measurement.py"}
]


@pytest.mark.parametrize("path", SCRIPTS, ids=lambda path: path.name)
def test_a_script_explains_itself(path, help_of_script):
    told = help_of_script(path)
    assert told.startswith(f"usage: {path.name}")
    if path.stem in NAMES:
        assert "--quick" in told


def test_there_is_a_script_for_each_name():
    for name in NAMES:
        assert (HERE / f"{name}.py").is_file()
        assert f"\n  {name} " in (HERE / "run.sh").read_text()


def test_what_runs_beside_a_peer_can_be_read():
    for name in OF_PEERS:
        (path,) = HERE.rglob(name)
        compile(path.read_text(), path, "exec")
        assert "volseg" not in re.findall(r"^(?:import|from) (\w+)", path.read_text(), re.M)


def test_an_unknown_benchmark_is_refused_before_anything_is_installed(tmp_path):
    done = subprocess.run(["sh", HERE / "run.sh", "speed"], capture_output=True, text=True, check=False, cwd=tmp_path)
    assert done.returncode == 2
    assert "there is no benchmark 'speed'" in done.stderr


@pytest.mark.parametrize(
    "module",
    [measurement, rendering, glance, networks, nnunet, growth_figure, accuracy],
    ids=lambda module: module.__name__,
)
def test_the_examples_in_the_scripts_are_true(module):
    assert doctest.testmod(module).failed == 0

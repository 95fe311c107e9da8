"""The page of a run: what it says of any run that the schema allows."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import jsonschema
import pytest
from run_example import RUN

import volseg
from volseg.report import run_as_markdown

SCHEMA = json.loads((Path(volseg.__file__).parent / "report" / "run.schema.json").read_text())


def page(**changes: Any) -> str:
    run = {**copy.deepcopy(RUN), **changes}
    jsonschema.Draft202012Validator(SCHEMA).validate(run)
    return run_as_markdown(run)


def test_the_page_says_what_counts() -> None:
    text = page()
    for told in (
        "# Training of mine",
        "**Finished** after 100 of 100 epochs, 2 h 5 min.",
        "40 validation cases of fold 1: **0.900**, epoch 51",
        "62.2 million parameters; window 128 x 128 x 64, 764 GFLOP; scratch",
        "160 cases to train on, 40 to validate",
        "`--roi_size [64,32,32]`",
        "| Seed | 7 |",
        "0.250 s per iteration, 1600 iterations; 2.1 % of the time waiting for data",
        "1.00 GiB resident, 3.00 GiB on the GPU at the peak",
        "| GPU X, 2 cores, on h; 2 processes |",
        "commit 000000000000, with changes, python 3.11",
    ):
        assert told in text, told
    assert "transformers" not in text
    assert "x" * 90 not in text


def test_long_histories_are_thinned_with_the_best_and_the_last_epoch() -> None:
    rows = [line for line in page().splitlines() if line.startswith(("| **", "| 1", "| 5", "| 9"))]
    assert len([line for line in page().splitlines() if line.startswith("|")]) < 45
    assert "| **51** | **0.020** | **0.001** | **0.900** | **0.900** | **–** |" in rows
    assert any(line.startswith("| 100 ") for line in rows)


def test_every_row_of_a_table_has_the_cells_of_its_head() -> None:
    lines = [line.replace("\\|", "") for line in page().splitlines() if line.startswith("|")]
    assert {line.count("|") for line in lines[: lines.index(next(one for one in lines if "epoch" in one))]} == {3}
    assert {line.count("|") for line in lines[-20:]} == {7}


def test_commands_survive_a_shell() -> None:
    assert "--checkpoint '/data/my runs/one/model.pt' -o '/data/my runs/one/predictions'" in page()
    assert "volseg train /b/mine --config_file '/data/my runs/one/train.json'" in page()


@pytest.mark.parametrize(
    ("seconds", "told"), [(0.0, "0 s"), (59.6, "1 min 0 s"), (383, "6 min 23 s"), (3600, "1 h 0 min")]
)
def test_a_duration_has_two_units(seconds: float, told: str) -> None:
    assert f" epochs, {told}." in page(timing={**RUN["timing"], "seconds": seconds})


def test_a_run_without_anything_yet_has_a_page() -> None:
    nothing = {"seconds": 0.0, "iterations": 0, "seconds_per_iteration": None, "data_wait_share": None}
    memory = {"resident_bytes": None, "cuda_bytes": None}
    text = page(
        status="failed", error="no", history=[], best=None, checkpoints=[], timing=nothing, git=None, memory=memory
    )
    assert "**Failed** after 0 of 100 epochs, 0 s.\n\nError: no\n" in text
    assert "not measured" in text
    assert "## " not in text

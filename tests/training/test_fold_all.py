"""`--fold all`: a training on every case, which validates none and keeps the network of the last step."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace
from pathlib import Path
from typing import Any

import jsonschema
import pytest
import torch
from ignite.engine import Engine
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from shipped_bundles import BUNDLES, TINY

import volseg
from volseg.cohort import ALL, Cohort, Fold, write_splits
from volseg.errors import UsageError
from volseg.report import read_run
from volseg.training import Validation
from volseg.training.checks import preflight

SMALL: dict[str, Any] = {**TINY["dense_unet"], "device": "cpu", "precision": "fp32", "max_epochs": 3, "val_interval": 2}


def parser_of(cohort: Path, output_dir: Path, **settings: Any) -> ConfigParser:
    folder = BUNDLES / "dense_unet"
    parser = ConfigParser()
    parser.read_config(folder / "train.json")
    places = {"bundle_root": str(folder), "dataset_dir": str(cohort), "output_dir": str(output_dir)}
    parser.update({**SMALL, **places, "fold": ALL, **settings})
    return parser


def run(parser: ConfigParser) -> None:
    try:
        parser.get_parsed_content("initialize")
        parser.get_parsed_content("training")
    finally:
        set_determinism(None)


def test_the_network_of_the_last_step_is_kept_and_a_stopped_training_goes_on(tiny_cohort: Path, tmp_path: Path) -> None:
    run(parser_of(tiny_cohort, tmp_path / "whole"))
    run(parser_of(tiny_cohort, tmp_path / "parts", max_epochs=1))
    run(parser_of(tiny_cohort, tmp_path / "parts", resume=True))
    for name in ("whole", "parts"):
        best, last = (torch.load(tmp_path / name / file, weights_only=True) for file in ("model.pt", "last.pt"))
        assert best["validation"]["epoch"] == last["epoch"] == 3
        assert all(torch.equal(tensor, last["network"][key]) for key, tensor in best["model"].items())
    record = json.loads((tmp_path / "whole" / "run.json").read_text())
    schema = json.loads((Path(volseg.__file__).parent / "report" / "run.schema.json").read_text())
    jsonschema.validate(record, schema)
    assert (record["cohort"]["fold"], record["cohort"]["training_cases"], record["cohort"]["validation_cases"]) == (
        ALL,
        5,
        0,
    )
    assert record["best"] is None
    assert [row["dice"] for row in record["history"]] == [None] * 3
    page = (tmp_path / "whole" / "summary.md").read_text()
    assert "Every case was trained on" in page
    assert "volseg evaluate" not in page
    with pytest.raises(UsageError, match="no Dice to compare"):
        read_run(tmp_path / "whole")


def test_all_are_the_cases_of_the_folds(tiny_cohort: Path, tmp_path: Path) -> None:
    cohort = Cohort.open(shutil.copytree(tiny_cohort, tmp_path / "cohort"))
    assert cohort.fold(ALL) == Fold(cohort.keys, ())
    one, two, three, *_ = cohort.keys
    write_splits(cohort.folder, [Fold((one,), (two,)), Fold((two,), (three,))])
    assert cohort.fold(ALL) == Fold((one, two, three), ())
    assert cohort.datalist("validation", fold=ALL) == []


def test_without_a_split_all_are_those_that_a_split_would_take(tiny_cohort: Path, tmp_path: Path) -> None:
    cohort = Cohort.open(shutil.copytree(tiny_cohort, tmp_path / "cohort", ignore=lambda *_: ["splits.json"]))
    one, two, *rest = cohort.keys
    marked = {one: replace(cohort.rows[one], warnings=("test",)), two: replace(cohort.rows[two], warnings=("suspect",))}
    assert replace(cohort, rows={**cohort.rows, **marked}).fold(ALL).training == tuple(rest)


@pytest.mark.parametrize("asked", [True, 1.0, "0", "every"])
def test_a_fold_that_is_none_is_refused(asked: Any, tiny_cohort: Path) -> None:
    with pytest.raises(UsageError, match="whole number from 0, or all"):
        Cohort.open(tiny_cohort).fold(asked)


def test_what_needs_a_validation_is_refused_with_all(tiny_cohort: Path, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--patience counts validations"):
        preflight(parser_of(tiny_cohort, tmp_path, patience=2))
    before = parser_of(tiny_cohort, tmp_path, **{"validation_handler#checkpoints": None})
    handler = Validation(before.get_parsed_content("validate#evaluator"))
    with pytest.raises(UsageError, match="hands validation_handler no checkpoints"):
        handler.attach(Engine(lambda *_: None))


def test_cases_in_no_fold_are_told(tiny_cohort: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    cohort = Cohort.open(shutil.copytree(tiny_cohort, tmp_path / "cohort"))
    write_splits(cohort.folder, [Fold(cohort.keys[:3], cohort.keys[3:4])])
    preflight(parser_of(cohort.folder, tmp_path / "run"))
    assert f"1 labelled cases are in no fold and are not trained on ({cohort.keys[4]})" in caplog.text

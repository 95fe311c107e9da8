"""The record of a run: valid by its schema at any moment, right after a resume, honest about how a run ended."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import monai.bundle
import pytest
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.engines import SupervisedTrainer
from recorded_run import ROI, read, trainer_of

from volseg.cohort import Cohort
from volseg.errors import VolsegError
from volseg.report import run_as_markdown
from volseg.training import RaiseErrors, Settings
from volseg.training.handlers.run_facts import commit
from volseg.training.settings import settings_of_earlier_config


@pytest.fixture
def cohort(tiny_cohort: Path) -> Cohort:
    return Cohort.open(tiny_cohort)


def test_a_run_is_recorded_from_its_first_epoch_to_its_end(cohort: Cohort, tmp_path: Path) -> None:
    seen: list[tuple[str, int]] = []
    trainer = trainer_of(cohort, tmp_path)

    @trainer.on(Events.EPOCH_STARTED)
    def look(_: object) -> None:
        run = read(tmp_path)
        seen.append((run["status"], len(run["history"])))

    trainer.run()
    assert seen == [("running", 0), ("running", 1), ("running", 2), ("running", 3)]
    run = read(tmp_path)
    assert run["status"] == "finished"
    assert [row["epoch"] for row in run["history"]] == [1, 2, 3, 4]
    assert [row["dice"] is None for row in run["history"]] == [True, False, True, False]
    assert run["history"][0]["loss"] > run["history"][3]["loss"] > 0
    assert set(run["history"][1]["regions"]) == {"large", "small"}
    assert run["best"]["dice"] == max(row["dice"] for row in run["history"] if row["dice"] is not None)
    # The cases of the best validation, from which runs are compared.
    cases = run["best"]["cases"]
    assert [case["key"] for case in cases] == sorted(cohort.fold(0).validation)
    for region in ("large", "small"):
        mean = sum(case["dice"][region] for case in cases) / len(cases)
        assert mean == pytest.approx(run["best"]["regions"][region], abs=1e-5)
    assert run["timing"]["iterations"] == 12
    assert 0 < run["timing"]["data_wait_share"] < 1
    assert run["network"] == {
        **{"name": "Conv3d", "parameters": 4, "trainable": 4, "roi_size": ROI, "initialisation": "scratch"},
        "flops": 2 * 2 * 16 * 16 * 8,
    }
    assert run["cohort"]["digest"] == cohort.digest
    assert (run["cohort"]["training_cases"], run["cohort"]["validation_cases"]) == (3, 2)
    assert [one["file"] for one in run["checkpoints"]] == ["model.pt", "last.pt"]
    assert run["memory"]["resident_bytes"] > 2**20
    page = (tmp_path / "summary.md").read_text()
    assert page == run_as_markdown(run)
    assert f"**{run['best']['dice']:.3f}**, epoch {run['best']['epoch']}" in page


def test_each_epoch_becomes_text_once(cohort: Cohort, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All of them did after each epoch: of 20,000 epochs, as of a few cases by the clock, 0.3 s of a core."""
    made = []

    def dumps(content: Any, **options: Any) -> str:
        if isinstance(content, dict):
            made.extend(content.get("history", [content] if {"data_wait_share", "epoch"} <= content.keys() else []))
        return json.dumps(content, **options)

    monkeypatch.setattr("volseg.training.handlers.record.json", SimpleNamespace(dumps=dumps, loads=json.loads))
    trainer_of(cohort, tmp_path, max_epochs=4).run()
    assert [row["epoch"] for row in made] == [1, 2, 3, 4]
    trainer_of(cohort, tmp_path, max_epochs=6, resume=True).run()
    assert [row["epoch"] for row in made] == [1, 2, 3, 4, 1, 2, 3, 4, 5, 6]
    assert [row["epoch"] for row in read(tmp_path)["history"]] == [1, 2, 3, 4, 5, 6]


def test_the_cases_trained_on_are_those_of_the_list_each_once(cohort: Cohort, tmp_path: Path) -> None:
    """As after corrections: some stand several times, and some are in no fold."""
    trainer = trainer_of(cohort, tmp_path, max_epochs=1)
    dataset = trainer.data_loader.dataset
    assert len({item["key"] for item in dataset.data}) == 3
    dataset.data = [*dataset.data, dataset.data[0], {**dataset.data[0], "key": "corrected"}]
    trainer.run()
    assert read(tmp_path)["cohort"]["training_cases"] == 4


def test_the_last_epoch_is_validated_too(cohort: Cohort, tmp_path: Path) -> None:
    trainer_of(cohort, tmp_path, max_epochs=3).run()
    assert [row["dice"] is None for row in read(tmp_path)["history"]] == [True, False, False]


def stop_at(trainer: SupervisedTrainer, epoch: int, error: BaseException) -> None:
    def stop() -> None:
        raise error

    trainer.add_event_handler(Events.EPOCH_STARTED(once=epoch), stop)


@pytest.mark.parametrize("last", [[RaiseErrors()], []])
@pytest.mark.parametrize("progress", [True, False])
@pytest.mark.parametrize(
    ("error", "status", "told"),
    [
        (VolsegError("NaN", case="case1"), "failed", "case1: NaN"),
        (KeyboardInterrupt(), "interrupted", "stopped by SIGINT"),
    ],
)
def test_an_error_is_recorded_and_goes_on_its_way(
    cohort: Cohort, tmp_path: Path, error: BaseException, status: str, told: str | None, progress: bool, last: list[Any]
) -> None:
    """Whether `RaiseErrors` is there, as in a bundle, or not, as in the train.json of version 0.1."""
    seen: list[BaseException] = []
    trainer = trainer_of(cohort, tmp_path, progress=progress, last=last)
    if not last:  # even what is attached after the record sees the error
        trainer.add_event_handler(Events.EXCEPTION_RAISED, lambda _, error: seen.append(error))
    stop_at(trainer, 3, error)
    with pytest.raises(type(error)):
        trainer.run()
    run = read(tmp_path)
    assert (run["status"], run["error"], len(run["history"])) == (status, told, 2)
    assert seen == ([] if last else [error])
    assert ("Error: case1: NaN" in (tmp_path / "summary.md").read_text()) == (status == "failed")


def test_an_error_before_the_first_epoch_is_no_record_and_is_not_lost(cohort: Cohort, tmp_path: Path) -> None:
    class Refuse:
        """A handler that refuses to start."""

        def attach(self, engine: Engine) -> None:
            engine.add_event_handler(Events.STARTED, self)

        def __call__(self) -> None:
            raise VolsegError("no")

    trainer = trainer_of(cohort, tmp_path, progress=False, first=[Refuse()])
    with pytest.raises(VolsegError, match="no"):
        trainer.run()
    assert not (tmp_path / "run.json").exists()


def test_a_run_that_stops_early_says_so(cohort: Cohort, tmp_path: Path) -> None:
    trainer = trainer_of(cohort, tmp_path)
    trainer.add_event_handler(Events.EPOCH_COMPLETED(once=2), lambda: trainer.terminate())
    trainer.run()
    assert (read(tmp_path)["status"], len(read(tmp_path)["history"])) == ("stopped early", 2)


def test_a_resumed_run_goes_on_with_its_history(cohort: Cohort, tmp_path: Path) -> None:
    trainer_of(cohort, tmp_path / "whole").run()
    first = trainer_of(cohort, tmp_path / "parts")
    stop_at(first, 3, KeyboardInterrupt())
    with pytest.raises(KeyboardInterrupt):
        first.run()
    # As if it had been killed in epoch 4: the record is ahead of the checkpoint, and nobody wrote how it ended.
    before = read(tmp_path / "parts")
    ahead = [*before["history"], {**before["history"][-1], "epoch": 3, "loss": 99.0}]
    sessions = [{**before["sessions"][0], "status": "running"}]
    content = {**before, "history": ahead, "sessions": sessions, "status": "running"}
    del content["best"]["cases"]  # as in the first versions of volseg
    (tmp_path / "parts" / "run.json").write_text(json.dumps(content))

    trainer_of(cohort, tmp_path / "parts", resume=True).run()
    run = read(tmp_path / "parts")
    assert [row["epoch"] for row in run["history"]] == [1, 2, 3, 4]
    assert [(one["first_epoch"], one["epochs"], one["status"]) for one in run["sessions"]] == [
        (1, 2, "killed"),
        (3, 2, "finished"),
    ]
    assert run["started"] == before["started"]
    assert run["timing"]["iterations"] == 12
    elapsed = [row["elapsed_s"] for row in run["history"]]
    assert elapsed == sorted(elapsed)
    whole = read(tmp_path / "whole")
    assert [row["epoch"] for row in whole["history"]] == [row["epoch"] for row in run["history"]]
    assert "Resumed | 2 sessions: epochs from 1 (killed), epochs from 3 (finished)" in run_as_markdown(run)

    trainer_of(cohort, tmp_path / "parts", resume=True).run()  # nothing is left to do
    again = read(tmp_path / "parts")
    assert again["history"] == run["history"]
    assert (again["status"], again["sessions"][-1]["epochs"]) == ("finished", 0)


def test_a_new_run_in_the_same_folder_sets_the_record_aside(cohort: Cohort, tmp_path: Path) -> None:
    for epochs in (2, 3):
        trainer_of(cohort, tmp_path, max_epochs=epochs).run()
    assert len(read(tmp_path)["history"]) == 3
    assert len(read(tmp_path)["sessions"]) == 1
    (earlier,) = (tmp_path / "earlier").glob("run_*.json")
    assert len(json.loads(earlier.read_text())["history"]) == 2


@pytest.mark.parametrize("resume", [False, True])
def test_curves_and_snapshots_of_another_run_are_set_aside_and_those_of_a_resumed_one_stay(
    cohort: Cohort, tmp_path: Path, resume: bool
) -> None:
    """TensorBoard joined the curves of both runs into one, and `volseg animate` their snapshots into one film."""
    trainer_of(cohort, tmp_path, max_epochs=2).run()
    before = tmp_path / "events.out.tfevents.1700000000.elsewhere.1.0"
    before.write_bytes(b"curves")
    own = tmp_path / f"events.out.tfevents.1700000009.{socket.gethostname()}.{os.getpid()}.0"
    own.write_bytes(b"curves of today")
    (tmp_path / "snapshots").mkdir()
    (tmp_path / "snapshots" / "epoch_0001.png").write_bytes(b"picture")
    trainer_of(cohort, tmp_path, max_epochs=3, resume=resume).run()
    assert own.read_bytes() == b"curves of today"
    assert before.is_file() == resume
    assert (tmp_path / "snapshots" / "epoch_0001.png").is_file() == resume
    aside = [path.read_bytes() for path in sorted((tmp_path / "earlier").rglob("e*")) if path.is_file()]
    assert aside == ([] if resume else [b"curves", b"picture"])


# --- what a bundle was set to


class Part:
    """Something that a config builds."""

    def __init__(self, settings: Settings | None = None, **_: Any) -> None:
        self.settings = settings if settings is not None else settings_of_earlier_config()


CONFIG: dict[str, Any] = {
    "rate": 0.5,
    "gpu": "$False",
    "double": "$2 * @rate",
    "unused": "$1 / 0",
    "sizes": [1, "$1 + 1"],
    "device": "$torch.device('cpu')",
    "imports": ["$import torch"],
    "train": {"part": {"_target_": f"{__name__}.Part", "x": "@double", "y": "@sizes", "z": ["@device", "@gpu"]}},
    "run": ["$@train#part"],
}
HANDED = ("bundle_root", "rate", "gpu", "double", "sizes", "device")
CHANGES = {"rate": 2.0, "train#part#x": "$@double + 1"}
VALUES = {"rate": 2.0, "double": 4.0, "sizes": [1, 2], "device": "cpu", "gpu": False}
MONAI = str(Path(monai.bundle.__file__).parent / "__main__.py")


def bundle_of(folder: Path, *, hand: bool = True) -> str:
    """The path of a train.json that hands its settings over, or that does not, as in version 0.1."""
    folder.mkdir(exist_ok=True)
    config = json.loads(json.dumps({"bundle_root": str(folder), **CONFIG}))
    if hand:
        values = {name: f"@{name}" for name in HANDED}
        config["settings"] = {"_target_": "volseg.training.Settings", "values": values}
        config["train"]["part"]["settings"] = "@settings"
    for name in ("train.json", "inference.json"):
        (folder / name).write_text(json.dumps(config))
    return str(folder / "train.json")


def settings_of(file: str, changes: dict[str, Any], *, hand_parser: bool = False) -> Settings:
    parser = ConfigParser()
    parser.read_config(file)
    parser.update(changes)
    if hand_parser:
        parser["settings#parser"] = parser
    found = parser.get_parsed_content("train#part").settings
    assert isinstance(found, Settings)
    return found


def by_volseg(file: str, changes: dict[str, Any], _: pytest.MonkeyPatch) -> Settings:
    """As `volseg train` builds a trainer: the parser is handed over."""
    return settings_of(file, changes, hand_parser=True)


def by_monai(file: str, changes: dict[str, Any], monkeypatch: pytest.MonkeyPatch) -> Settings:
    """As `python -m monai.bundle run` does, whose command line tells the changes."""
    given = [word for name, value in changes.items() for word in (f"--{name}", str(value))]
    monkeypatch.setattr(sys, "argv", [MONAI, "run", "training", "--config_file", file, *given])
    return settings_of(file, changes)


def by_program(file: str, changes: dict[str, Any], _: pytest.MonkeyPatch) -> Settings:
    """As a program does that uses MONAI's classes: nobody tells the changes."""
    return settings_of(file, changes)


def of_version_0_1(file: str, changes: dict[str, Any], _: pytest.MonkeyPatch) -> Settings:
    with pytest.warns(DeprecationWarning, match="hands no settings to its record"):
        return settings_of(bundle_of(Path(file).parent, hand=False), changes)


@pytest.mark.parametrize("way", [by_volseg, by_monai, of_version_0_1])
def test_settings_are_the_values_that_they_came_to(
    tmp_path: Path, way: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = way(bundle_of(tmp_path), CHANGES, monkeypatch)
    assert settings.values() == {"bundle_root": str(tmp_path), **VALUES}
    assert settings.given() == CHANGES
    again = json.loads(json.dumps(settings.config()))
    assert again["unused"] == "$1 / 0"
    assert again["train"]["part"]["y"] == "@sizes"
    assert again["train"]["part"]["x"] == CHANGES["train#part#x"]
    assert ConfigParser(again).get_parsed_content("double") == 4.0
    if way is not of_version_0_1:
        assert again["settings"] == json.loads((tmp_path / "train.json").read_text())["settings"]
        assert ConfigParser(again).get_parsed_content("train#part").settings.values() == settings.values()


@pytest.mark.parametrize(
    "words",
    [
        "run --run_id training --meta_file x.json --config_file={bundle} --rate=3.0",
        "run training --args_file {args}",
        "run training --config_file ['{bundle}','{more}']",
        "run training --config-file={bundle},{more}",
        "run_workflow --workflow_name ConfigWorkflow --config_file {bundle} --rate 3.0",
    ],
)
def test_the_command_line_is_read_as_monai_reads_it(
    tmp_path: Path, words: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = bundle_of(tmp_path / "bundle")
    places = {"bundle": file, "args": tmp_path / "args.json", "more": tmp_path / "more.json"}
    (tmp_path / "args.json").write_text(json.dumps({"config_file": file, "rate": 3.0}))
    (tmp_path / "more.json").write_text(json.dumps({"rate": 3.0}))
    nested = ["--train#part#x", "$@double + 1"]
    monkeypatch.setattr(sys, "argv", [MONAI, *words.format(**places).split(), *nested])
    given = {"rate": 3.0, "train#part#x": "$@double + 1"}
    assert settings_of(file, given).given() == given


def test_the_command_line_of_another_config_does_not_count(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = bundle_of(tmp_path / "other")
    monkeypatch.setattr(sys, "argv", [MONAI, "run", "training", "--config_file", other, "--rate", "7.0"])
    assert settings_of(bundle_of(tmp_path / "one"), {"sizes": [5]}).given() == {"sizes": [5]}


def test_of_a_program_that_hands_no_parser_over_the_changes_at_the_top_are_known(tmp_path: Path) -> None:
    settings = settings_of(bundle_of(tmp_path), {"rate": 2.0, "gpu": True, "double": "$@rate + 5"})
    assert settings.given() == {"rate": 2.0, "gpu": True, "double": 7.0}
    assert settings.values() == {"bundle_root": str(tmp_path), **VALUES, "gpu": True, "double": 7.0}
    assert ConfigParser(settings.config()).get_parsed_content("double") == 7.0


@pytest.mark.parametrize("way", [by_volseg, by_program, by_monai, of_version_0_1])
def test_without_a_change_nothing_was_given(
    tmp_path: Path, way: Callable[..., Settings], monkeypatch: pytest.MonkeyPatch
) -> None:
    assert way(bundle_of(tmp_path), {}, monkeypatch).given() == {}


def test_without_a_bundle_there_are_no_settings() -> None:
    assert Part().settings is None


def test_in_a_config_that_has_settings_nobody_looks_for_others(tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(bundle_of(tmp_path))
    del parser["train"]["part"]["settings"]
    assert parser.get_parsed_content("train#part").settings is None


def test_the_commit_tells_of_changes(tmp_path: Path) -> None:
    assert commit(tmp_path) is None
    identity = ["-c", "user.name=a", "-c", "user.email=a@b", "-c", "commit.gpgsign=false"]
    for words in (["init", "-q"], ["add", "file"], [*identity, "commit", "-qm", "one"]):
        (tmp_path / "file").write_text("one")
        subprocess.run(["git", "-C", tmp_path, *words], check=True)
    found = commit(tmp_path)
    assert found is not None
    assert (len(found["commit"]), found["dirty"]) == (40, False)
    (tmp_path / "file").write_text("two")
    found = commit(tmp_path)
    assert found is not None
    assert found["dirty"]

"""What trackers are told of a run: TensorBoard in any case, MLflow and Weights & Biases where they are named."""

from __future__ import annotations

import json
import struct
import sys
import time
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from ignite.engine import Engine, Events
from monai.engines import SupervisedTrainer
from recorded_run import read, trainer_of
from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

from volseg.cohort import Cohort
from volseg.errors import UsageError
from volseg.training import Tracking
from volseg.training.handlers import tracking

SETTINGS: Any = SimpleNamespace(values=lambda: {"learning_rate": 0.1, "roi_size": [16, 16, 8], "output_dir": "/x"})


def made(cohort: Path, folder: Path, *, tracker: str | None = None, **options: Any) -> SupervisedTrainer:
    return trainer_of(
        Cohort.open(cohort),
        folder,
        track=lambda evaluator: Tracking(folder, evaluator=evaluator, tracker=tracker, settings=SETTINGS),
        **options,
    )


class StubWandb(ModuleType):
    """Weights & Biases, as far as a training calls it."""

    def __init__(self) -> None:
        super().__init__("wandb")
        self.runs: list[dict[str, Any]] = []

    def init(self, **given: Any) -> Any:
        run: dict[str, Any] = {**given, "rows": {}, "exit_code": None}
        self.runs.append(run)
        return SimpleNamespace(
            log=lambda row, step: run["rows"].update({step: row}),
            finish=lambda exit_code: run.update(exit_code=exit_code),
        )


@pytest.fixture
def wandb(monkeypatch: pytest.MonkeyPatch) -> StubWandb:
    stub = StubWandb()
    monkeypatch.setitem(sys.modules, "wandb", stub)
    monkeypatch.setattr(tracking, "check_tracker", lambda name: None)
    return stub


def test_tensorboard_gets_the_learning_rate_and_the_hyper_parameters(tiny_cohort: Path, tmp_path: Path) -> None:
    made(tiny_cohort, tmp_path, max_epochs=4).run()
    board = EventAccumulator(str(tmp_path)).Reload()
    assert [(event.step, round(event.value, 6)) for event in board.Scalars("learning_rate")] == [
        (epoch, 0.1) for epoch in (1, 2, 3, 4)
    ]
    assert 0 <= board.Scalars("best_val_mean_dice")[0].value <= 1
    data = board.SummaryMetadata("_hparams_/session_start_info").plugin_data.content
    assert b"learning_rate" in data
    assert b"[16, 16, 8]" in data
    assert b"/x" not in data
    assert not (tmp_path / ".volseg" / "wandb.txt").exists()


def test_wandb_gets_each_epoch_and_goes_on_with_a_resumed_run(
    tiny_cohort: Path, tmp_path: Path, wandb: StubWandb
) -> None:
    trainer = made(tiny_cohort, tmp_path, tracker="wandb", max_epochs=4)

    def stop(_: Engine) -> None:
        raise KeyboardInterrupt

    trainer.add_event_handler(Events.EPOCH_STARTED(once=3), stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    made(tiny_cohort, tmp_path, tracker="wandb", max_epochs=4, resume=True).run()
    made(tiny_cohort, tmp_path, tracker="wandb", max_epochs=2).run()
    first, resumed, anew = wandb.runs
    assert (first["exit_code"], resumed["exit_code"]) == (1, 0)
    assert first["id"] == resumed["id"] != anew["id"]
    assert first["config"] == {"learning_rate": 0.1, "roi_size": "[16, 16, 8]"}
    assert sorted(first["rows"]) == [1, 2]
    assert sorted(resumed["rows"]) == [3, 4]
    assert set(first["rows"][1]) == {"learning_rate", "train_loss"}
    assert {"learning_rate", "train_loss", "val_mean_dice"} <= set(first["rows"][2])


@pytest.mark.parametrize(
    ("name", "told"),
    [
        ("mlflw", "--tracker must be mlflow or wandb, got 'mlflw'"),
        (3, "--tracker must be mlflow or wandb, got 3"),
        ("mlflow", "--tracker mlflow needs its package: pip install 'volseg"),
        ("wandb", "--tracker wandb needs its package: pip install 'volseg"),
    ],
)
def test_a_tracker_that_is_not_there_is_refused(monkeypatch: pytest.MonkeyPatch, name: object, told: str) -> None:
    monkeypatch.setattr(tracking.importlib.util, "find_spec", lambda name: None)
    with pytest.raises(UsageError, match=told):
        tracking.check_tracker(name)


def test_a_tracker_that_cannot_begin_leaves_the_earlier_run_alone(
    tiny_cohort: Path, tmp_path: Path, wandb: StubWandb, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Such as one whose server is not reached, or where nobody has logged in."""
    made(tiny_cohort, tmp_path, tracker="wandb", max_epochs=2).run()
    before = {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()}
    assert tmp_path / "last.pt" in before

    def refused(**_: Any) -> None:
        raise OSError("api_key not configured (no-tty).\nCall wandb.login")

    monkeypatch.setattr(wandb, "init", refused)
    with pytest.raises(UsageError, match=r"--tracker wandb cannot begin \(api_key not configured \(no-tty\)\.\); see"):
        made(tiny_cohort, tmp_path, tracker="wandb", max_epochs=2).run()
    assert {path: path.read_bytes() for path in tmp_path.rglob("*") if path.is_file()} == before


def test_mlflow_gets_the_run_by_the_handlers_of_monai(
    tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    mlflow = pytest.importorskip("mlflow", reason="mlflow is not installed")
    monkeypatch.setenv("MLFLOW_TRACKING_URI", f"sqlite:///{tmp_path}/mlruns.db")
    trainer = made(tiny_cohort, tmp_path / "run", tracker="mlflow", max_epochs=4)

    def stop(_: Engine) -> None:
        raise KeyboardInterrupt

    trainer.add_event_handler(Events.EPOCH_STARTED(once=3), stop)
    with pytest.raises(KeyboardInterrupt):
        trainer.run()
    client = mlflow.MlflowClient()
    (experiment,) = [one for one in client.search_experiments() if one.name == "volseg"]
    (first,) = client.search_runs([experiment.experiment_id])
    assert (first.info.status, first.data.params["roi_size"]) == ("FAILED", "[16, 16, 8]")
    made(tiny_cohort, tmp_path / "run", tracker="mlflow", max_epochs=4, resume=True).run()
    (run,) = client.search_runs([experiment.experiment_id])
    assert (run.info.run_id, run.info.status) == (first.info.run_id, "FINISHED")
    losses = [one.value for one in client.get_metric_history(run.info.run_id, "train_loss")]
    assert losses == pytest.approx([entry["loss"] for entry in read(tmp_path / "run")["history"]], rel=1e-6)
    assert [one.step for one in client.get_metric_history(run.info.run_id, "val_mean_dice")] == [2, 4]


def records_of(path: Path) -> list[Any]:
    """The records of an offline run: LevelDB's log format behind a header of seven bytes, protobuf in it."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, place, parts, found = path.read_bytes(), 7, b"", []
    while place + 7 <= len(content):
        left = 32768 - place % 32768
        if left < 7:  # too short for a head: zeros up to the next block
            place += left
            continue
        _, length, kind = struct.unpack_from("<IHB", content, place)
        parts += content[place + 7 : place + 7 + length]
        place += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(parts))
            parts = b""
    return found


def test_an_offline_run_of_wandb_holds_the_values_of_the_run(
    tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What its own package writes for `wandb sync` is read back and compared with run.json."""
    pytest.importorskip("wandb", reason="wandb is not installed")
    for name, value in {"MODE": "offline", "SILENT": "true", "PROJECT": "bowel"}.items():
        monkeypatch.setenv(f"WANDB_{name}", value)
    made(tiny_cohort, tmp_path / "run", tracker="wandb", max_epochs=4).run()
    (path,) = (tmp_path / "run" / "wandb").glob("offline-run-*/run-*.wandb")
    deadline = time.monotonic() + 60
    records = records_of(path)
    while not any(record.HasField("exit") for record in records):  # `finish` of wandb 0.31.0 returns before it is there
        assert time.monotonic() < deadline, "wandb has not written its file"
        time.sleep(0.1)
        records = records_of(path)
    (run,) = [record.run for record in records if record.HasField("run")]
    assert (run.project, run.display_name) == ("bowel", "run")
    config = {item.key: json.loads(item.value_json) for item in run.config.update}
    assert (config["learning_rate"], config["roi_size"]) == (0.1, "[16, 16, 8]")
    assert "output_dir" not in config
    assert [record.exit.exit_code for record in records if record.HasField("exit")] == [0]
    rows: dict[str, dict[int, float]] = {}
    for record in records:
        if record.HasField("history"):
            row = {item.key or ".".join(item.nested_key): json.loads(item.value_json) for item in record.history.item}
            for name, value in row.items():
                rows.setdefault(name, {})[row["_step"]] = value
    history = read(tmp_path / "run")["history"]
    for name, field in {"learning_rate": "learning_rate", "train_loss": "loss", "val_mean_dice": "dice"}.items():
        told = {entry["epoch"]: entry[field] for entry in history if entry[field] is not None}
        assert rows[name] == pytest.approx(told, rel=1e-6), name
    assert sorted(rows["train_loss"]) == [1, 2, 3, 4]
    assert sorted(rows["val_mean_dice"]) == [2, 4]

"""A tracker that goes away, hangs, refuses or comes back while a training runs: the training goes on to its end."""

from __future__ import annotations

import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from monai.engines import SupervisedTrainer
from monai.handlers import mlflow_handler
from recorded_run import read, trainer_of

from volseg.cohort import Cohort
from volseg.errors import UsageError
from volseg.training import Tracking
from volseg.training.handlers import sending, tracking
from volseg.training.handlers.sending import Sender, answer_within

SETTINGS: Any = SimpleNamespace(values=lambda: {"learning_rate": 0.1})


def made(cohort: Path, folder: Path, tracker: str, **options: Any) -> SupervisedTrainer:
    return trainer_of(
        Cohort.open(cohort),
        folder,
        track=lambda evaluator: Tracking(folder, evaluator=evaluator, tracker=tracker, settings=SETTINGS),
        **options,
    )


class Server:
    """What a tracker's server was told, and how it answers: `up`, `down`, `refuses`, or `hangs` until it is let go."""

    def __init__(self) -> None:
        self.how = "up"
        self.rows: list[tuple[int, dict[str, float]]] = []
        self.ended: list[str] = []
        self.asked = 0
        self.freed = threading.Event()

    def answer(self) -> None:
        self.asked += 1
        if self.how == "down":
            raise ConnectionError("connection refused\nby the peer")
        if self.how == "refuses":
            raise RefusedError("run 7 is not there")
        if self.how == "hangs":
            self.freed.wait(60)

    def log(self, step: int, row: dict[str, float]) -> None:
        self.answer()
        self.rows.append((step, row))

    def end(self, how: str) -> None:
        self.answer()
        self.ended.append(how)


class RefusedError(Exception):
    """As MLflow's exceptions."""

    def get_http_status_code(self) -> int:
        return 404


@pytest.fixture
def server() -> Iterator[Server]:
    made = Server()
    yield made
    made.freed.set()


class StubWandb(ModuleType):
    def __init__(self, server: Server) -> None:
        super().__init__("wandb")
        self.server = server

    def init(self, **_: Any) -> Any:
        return SimpleNamespace(
            log=lambda row, step: self.server.log(step, row), finish=lambda exit_code: self.server.end(str(exit_code))
        )


class StubMLflow:
    """MLflow, as far as MONAI's handler calls it."""

    entities = SimpleNamespace(
        RunStatus=SimpleNamespace(FINISHED=3, to_string=lambda _: "FINISHED"),
        LifecycleStage=SimpleNamespace(ACTIVE="active"),
        Param=lambda key, value: (key, value),
        Metric=lambda key, value, timestamp, step: (key, value, step),
    )

    def __init__(self, server: Server) -> None:
        self.server = server

    def MlflowClient(self, tracking_uri: str | None = None) -> Any:  # noqa: N802 - as MLflow has it
        run = SimpleNamespace(
            info=SimpleNamespace(run_id="7", run_name="run", status="RUNNING"), data=SimpleNamespace()
        )
        run.data.params = {}

        def log_batch(run_id: str, metrics: list[Any], params: list[Any], tags: list[Any]) -> None:
            for key, value, step in metrics:
                self.server.log(step, {key: value})

        def asked(answer: Any) -> Callable[..., Any]:
            def ask(*_: Any, **__: Any) -> Any:
                self.server.answer()
                return answer

            return ask

        experiment = SimpleNamespace(experiment_id="1", lifecycle_stage="active")
        return SimpleNamespace(
            get_experiment_by_name=asked(experiment),
            search_runs=asked([]),
            create_run=asked(run),
            get_run=asked(run),
            log_param=asked(None),
            log_batch=log_batch,
            set_terminated=lambda _, status: self.server.end(status),
        )


@pytest.fixture(params=["wandb", "mlflow"])
def tracker(request: pytest.FixtureRequest, server: Server, monkeypatch: pytest.MonkeyPatch) -> str:
    monkeypatch.setitem(sys.modules, "wandb", StubWandb(server))
    monkeypatch.setattr(mlflow_handler, "mlflow", StubMLflow(server))
    monkeypatch.setenv("MLFLOW_TRACKING_URI", "http://127.0.0.1:9")
    monkeypatch.setattr(tracking, "check_tracker", lambda _: None)
    monkeypatch.setattr(tracking, "_END_LIMIT_S", 0.3)
    monkeypatch.setattr(sending, "_AGAIN_S", 0.02)
    monkeypatch.setattr(tracking, "Sender", lambda name: Sender(name, again_s=0.02, late_s=0.05))
    return str(request.param)


def at(trainer: SupervisedTrainer, epoch: int, act: Callable[[], object]) -> None:
    """Act once an epoch has begun, before the tracker is told of it."""
    from ignite.engine import Events

    trainer.add_event_handler(Events.EPOCH_STARTED(once=epoch), lambda _: act())


def lines_of(caplog: pytest.LogCaptureFixture, *, of: str) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.getMessage().startswith(of)]


@pytest.mark.parametrize("how", ["down", "hangs"])
def test_the_training_goes_on_to_its_end_and_says_so_once(
    tiny_cohort: Path, tmp_path: Path, server: Server, tracker: str, how: str, caplog: pytest.LogCaptureFixture
) -> None:
    trainer = made(tiny_cohort, tmp_path, tracker, max_epochs=6)
    told_before: list[int] = []
    at(trainer, 3, lambda: (setattr(server, "how", how), told_before.append(len(server.rows))))
    at(trainer, 5, lambda: time.sleep(0.2))
    began = time.monotonic()
    trainer.run()
    assert time.monotonic() - began < 20
    content = read(tmp_path)
    assert (content["status"], len(content["history"])) == ("finished", 6)
    assert len(server.rows) <= told_before[0] + 1
    told = lines_of(caplog, of=tracker)
    assert len([line for line in told if "the training goes on" in line]) == 1
    assert len([line for line in told if "the training ends without it" in line]) == 1
    assert len(told) == 2
    assert all("\n" not in line for line in told)


def test_one_that_comes_back_is_told_what_it_missed(
    tiny_cohort: Path, tmp_path: Path, server: Server, tracker: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    trainer = made(tiny_cohort, tmp_path, tracker, max_epochs=6)
    at(trainer, 2, lambda: setattr(server, "how", "down"))
    at(trainer, 4, lambda: time.sleep(0.1))
    at(trainer, 5, lambda: setattr(server, "how", "up"))
    trainer.run()
    losses = {step: row["train_loss"] for step, row in server.rows if "train_loss" in row}
    assert list(losses.values()) == pytest.approx([entry["loss"] for entry in read(tmp_path)["history"]], rel=1e-6)
    assert list(losses) == sorted(losses)
    assert len(server.ended) == 1
    away, back = lines_of(caplog, of=tracker)
    assert "connection refused" in away
    assert "answers again" in back


def test_one_that_refuses_is_not_asked_again_and_again(
    tiny_cohort: Path, tmp_path: Path, server: Server, tracker: str, caplog: pytest.LogCaptureFixture
) -> None:
    """Such as a server that comes back with an empty database."""
    trainer = made(tiny_cohort, tmp_path, tracker, max_epochs=4)
    at(trainer, 2, lambda: setattr(server, "how", "refuses"))
    trainer.run()
    assert read(tmp_path)["status"] == "finished"
    (told,) = lines_of(caplog, of=tracker)
    assert "refuses what it is told (run 7 is not there); the training goes on" in told


def test_a_validation_asks_the_server_for_nothing(
    tiny_cohort: Path, tmp_path: Path, server: Server, tracker: str
) -> None:
    """MONAI's handler asks for the run at the start of each, and the training would wait for the answer."""
    trainer = made(tiny_cohort, tmp_path, tracker, max_epochs=4)
    at(trainer, 1, lambda: setattr(server, "asked", 0))
    trainer.run()
    assert server.asked == len(server.rows) + len(server.ended)


def test_one_that_never_answers_is_refused_before_the_first_epoch(
    tiny_cohort: Path, tmp_path: Path, server: Server, tracker: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    if tracker == "wandb":
        pytest.skip("wandb.init has a limit of its own")
    monkeypatch.setattr(tracking, "START_LIMIT_S", 0.2)
    server.how = "hangs"
    with pytest.raises(UsageError, match=r"mlflow cannot begin \(it has not answered for 0.2 s\); see to its"):
        made(tiny_cohort, tmp_path, tracker, max_epochs=2).run()


def test_calls_are_made_in_their_order_and_the_rest_is_counted() -> None:
    done: list[int] = []
    hanging = threading.Event()
    sender = Sender("tracker", again_s=0.01)
    for number in range(100):
        sender.send(done.append, number)
    sender.send(hanging.wait, 60)
    sender.send(done.append, 100)
    assert sender.close(within_s=0.3) == 2
    assert done == list(range(100))
    hanging.set()
    again = Sender("tracker")
    again.send(done.append, 101)
    assert again.close(within_s=10) == 0
    assert done[-1] == 101


def test_the_attempts_of_the_client_are_not_told(caplog: pytest.LogCaptureFixture) -> None:
    """MLflow's client makes each call eight times in four minutes, with a line of urllib3 for each attempt."""
    log = logging.getLogger("urllib3.connectionpool")
    before = list(log.filters)  # such as one of a sender of an earlier test, which may end any time
    sender = Sender("tracker")
    sender.send(log.warning, "Retrying of the tracker")
    log.warning("Retrying of others")
    assert sender.close(within_s=10) == 0
    log.warning("Retrying afterwards")
    told = [record.getMessage() for record in caplog.records]
    assert told == ["Retrying of others", "Retrying afterwards"]
    assert [one for one in log.filters if one not in before] == []


def test_an_error_of_a_call_with_a_limit_is_raised() -> None:
    with pytest.raises(ValueError, match="wrong"):
        answer_within(lambda: int("wrong"), 10)
    assert answer_within(lambda: None, 10) is None

"""Learning rate and settings in TensorBoard; and, where asked for, the whole run in MLflow or Weights & Biases."""

from __future__ import annotations

import importlib.util
import math
import os
import secrets
from collections.abc import Callable, Mapping
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any, Protocol

import torch
from ignite.engine import Engine, Events, RemovableEventHandle
from monai.handlers import MLFlowHandler
from torch import Tensor
from torch.utils.tensorboard import SummaryWriter
from torch.utils.tensorboard.summary import hparams

from volseg.bundle import is_path_setting
from volseg.errors import UsageError
from volseg.files import atomic
from volseg.training.handlers.sending import START_LIMIT_S, Sender, answer_within
from volseg.training.settings import Settings

TRACKERS = ("mlflow", "wandb")
"""The trackers that a training can report to; each is a package, and an extra of volseg."""

_EXPERIMENT = "volseg"  # the experiment of MLflow, and the project of Weights & Biases unless the environment names one
# How long the end of a training waits for a tracker that does not answer. After SIGTERM little time is left.
_END_LIMIT_S, _STOP_LIMIT_S = 30.0, 5.0


class _Backend(Protocol):
    """A tracker that is told of a run."""

    def start(self, engine: Engine, /) -> None:
        """Begin, or go on with the run of the same folder."""

    def epoch(self, metrics: Mapping[str, float], *, number: int) -> None:
        """Add the numbers of an epoch."""

    def end(self, *, failed: bool) -> None:
        """End the run."""


def check_tracker(name: object) -> None:
    """Refuse a tracker that is not known or not installed.

    Raises:
        UsageError: It is one of these; the message names the cure.

    >>> check_tracker(None)
    >>> check_tracker("tensorbord")
    Traceback (most recent call last):
    volseg.errors.UsageError: --tracker must be mlflow or wandb, got 'tensorbord'; TensorBoard is written in any case
    """
    if name is None:
        return
    if name not in TRACKERS:
        raise UsageError(f"--tracker must be {' or '.join(TRACKERS)}, got {name!r}; TensorBoard is written in any case")
    if importlib.util.find_spec(str(name)) is None:
        raise UsageError(f"--tracker {name} needs its package: pip install 'volseg[{name}]'")


class Tracking:
    """Tell trackers of a run; a handler for MONAI's SupervisedTrainer, placed after those that validate and resume.

    TensorBoard gets the learning rate per epoch, and the settings with the best validation as hyper-parameters (its tab
    HPARAMS). With `tracker` MLflow (MONAI's MLFlowHandler) or Weights & Biases get settings, loss, learning rate and
    the Dice of each validation too. Where these go, their own environment says: MLFLOW_TRACKING_URI, WANDB_PROJECT,
    WANDB_MODE. A resumed training goes on with its run. Among several processes the first one alone needs the handler.
    A tracker that goes away costs the training nothing: it is told by a thread, see `Sender`, and at the end the
    training waits for it half a minute at most.

    Args:
        output_dir: Folder of the run.
        evaluator: Evaluator, whose key metric is the score.
        tracker: `mlflow` or `wandb`; None for TensorBoard alone.
        settings: Settings of the run; without a bundle there are none to tell.

    Raises:
        UsageError: The tracker is unknown or not installed; in training, it cannot begin: it is not reached within a
            minute, say, or nobody has logged in.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        evaluator: Engine,
        tracker: str | None = None,
        settings: Settings | None = None,
    ) -> None:
        check_tracker(tracker)
        self.output_dir = Path(output_dir)
        self.evaluator = evaluator
        self.tracker = tracker
        self.settings = settings
        self._writer: SummaryWriter | None = None
        self._backend: _Backend | None = None
        self._losses: list[Tensor] = []

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, lambda _: self._losses.clear())
        engine.add_event_handler(Events.ITERATION_COMPLETED, self._iteration)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._end, failed=False)
        engine.add_event_handler(Events.EXCEPTION_RAISED, self._fail)

    def _start(self, engine: Engine) -> None:
        told = told_settings(self.settings.values() if self.settings is not None else {})
        if self.tracker is not None:  # before anything is written: it may refuse
            self._backend = self._started(self.tracker, told, engine)
        self._writer = SummaryWriter(log_dir=str(self.output_dir))
        experiment, session, _ = hparams(told, {f"best_{self._metric}": 0.0})  # type: ignore[no-untyped-call]
        for summary in (experiment, session):  # the third says that the session has ended
            self._file_writer.add_summary(summary)

    def _started(self, tracker: str, told: Mapping[str, Any], engine: Engine) -> _Backend:
        name = _run_id(self.output_dir, tracker, resumed=engine.state.epoch > 0)
        try:
            backend: _Backend = (
                _MLflow(name, told, self.evaluator, engine, self._loss)
                if tracker == "mlflow"
                else _Wandb(name, self.output_dir, told)
            )
            backend.start(engine)
        except Exception as error:  # each of the two has errors of its own, which nothing else has
            first = (str(error).strip().splitlines() or [type(error).__name__])[0]
            raise UsageError(
                f"--tracker {tracker} cannot begin ({first}); see to its server and login, or leave --tracker out"
            ) from error
        with atomic(_run_file(self.output_dir, tracker)) as partial:
            partial.write_text(name + "\n", encoding="utf-8")
        return backend

    @property
    def _file_writer(self) -> Any:  # noqa: ANN401 - of TensorBoard, without types
        return self._writer.file_writer if self._writer is not None else None

    @property
    def _metric(self) -> str:
        return str(self.evaluator.state.key_metric_name or "val_mean_dice")

    def _iteration(self, engine: Engine) -> None:
        output = engine.state.output
        output = output[0] if isinstance(output, list) else output
        if self._backend is not None and isinstance(output, Mapping) and "loss" in output:
            self._losses.append(torch.as_tensor(output["loss"]).detach())  # no value is asked for: a GPU need not wait

    def _loss(self) -> float | None:
        """The mean loss of the epoch so far, which `run.json` has too."""
        return float(torch.stack(self._losses).float().mean()) if self._losses else None

    def _epoch(self, engine: Engine) -> None:
        number, rate = engine.state.epoch, max(float(group["lr"]) for group in engine.optimizer.param_groups)
        if self._writer is not None:
            self._writer.add_scalar("learning_rate", rate, number)
        if self._backend is not None:
            state = self.evaluator.state
            validated = state.metrics if state.epoch == number else {}
            found = {"learning_rate": rate, "train_loss": self._loss(), **validated}
            numbers = {name: float(value) for name, value in found.items() if value is not None}
            numbers = {name: value for name, value in numbers.items() if math.isfinite(value)}
            self._backend.epoch(numbers, number=number)

    def _fail(self, engine: Engine, _: BaseException) -> None:
        self._end(engine, failed=True)

    def _end(self, _: Engine, *, failed: bool) -> None:
        if self._writer is not None:
            best = self.evaluator.state.best_metric
            score = float(best) if isinstance(best, (int, float)) and math.isfinite(best) else 0.0
            self._writer.add_scalar(f"best_{self._metric}", score, 0)
            self._file_writer.add_summary(hparams({}, {})[2])  # type: ignore[no-untyped-call]
            self._writer.close()
            self._writer = None
        if self._backend is not None:
            self._backend.end(failed=failed)
            self._backend = None


def told_settings(values: Mapping[str, Any]) -> dict[str, bool | int | float | str]:
    """The settings as trackers take them: numbers and words, without folders and files of this machine.

    >>> told_settings({"max_epochs": 3, "roi_size": [32, 32, 16], "dataset_dir": "/data/cohort", "plan_file": None})
    {'max_epochs': 3, 'roi_size': '[32, 32, 16]'}
    """
    return {
        name: value if isinstance(value, (bool, int, float, str)) else str(value)
        for name, value in values.items()
        if value is not None and not is_path_setting(name) and name != "bundle_root"
    }


class _MLflow:
    """MONAI's handlers of the two engines on one run of MLflow, its settings, and how it ended.

    Of the handlers the start and the events with numbers are taken. `MLFlowHandler.attach` would ask the server for the
    run at the start of each validation, and wait for the answer.
    """

    def __init__(
        self,
        name: str,
        settings: Mapping[str, Any],
        evaluator: Engine,
        trainer: Engine,
        loss: Callable[[], float | None],
    ) -> None:
        self._name, self._settings, self._loss = name, settings, loss
        self._trainer, self._evaluator = trainer, evaluator
        self._attached: list[RemovableEventHandle] = []
        self._client: Any = None
        self._run = ""
        self._sender: Sender | None = None

    def start(self, engine: Engine) -> None:
        handlers = answer_within(self._begun, START_LIMIT_S)
        of_training, of_validation = handlers
        self._client, self._run = of_training.client, of_training.cur_run.info.run_id
        self._sender = Sender("mlflow")
        later = SimpleNamespace(log_batch=partial(self._sender.send, self._client.log_batch))
        for handler in handlers:
            handler.client = later
        last = Events.ITERATION_COMPLETED(event_filter=lambda engine, number: number % engine.state.epoch_length == 0)
        self._attached = [
            engine.add_event_handler(last, of_training.iteration_completed),
            self._evaluator.add_event_handler(Events.EPOCH_COMPLETED, of_validation.epoch_completed),
        ]

    def _begun(self) -> tuple[MLFlowHandler, MLFlowHandler]:
        """The two handlers, on a run that is there and knows the settings."""
        run = {"experiment_name": _EXPERIMENT, "run_name": self._name}
        of_training = MLFlowHandler(**run, output_transform=lambda _: {"train_loss": self._loss()})
        of_validation = MLFlowHandler(**run, global_epoch_transform=lambda _: self._trainer.state.epoch)
        of_training.start(self._trainer)
        client, number = of_training.client, of_training.cur_run.info.run_id
        known = client.get_run(number).data.params  # of a resumed run, some of whose settings may differ now
        for name, value in self._settings.items():
            if name not in known:
                client.log_param(number, name, value)
        of_validation.experiment, of_validation.cur_run = of_training.experiment, of_training.cur_run
        return of_training, of_validation

    def epoch(self, metrics: Mapping[str, float], *, number: int) -> None:
        """MONAI's handlers tell the loss, the learning rate and the metrics."""

    def end(self, *, failed: bool) -> None:
        for handle in self._attached:
            handle.remove()
        if self._sender is not None:
            self._sender.send(self._client.set_terminated, self._run, "FAILED" if failed else "FINISHED")
            self._sender.close(within_s=_STOP_LIMIT_S if failed else _END_LIMIT_S)


class _Wandb:
    """A run of Weights & Biases; MONAI has no handler of it."""

    def __init__(self, name: str, output_dir: Path, settings: Mapping[str, Any]) -> None:
        self._name, self._folder, self._settings = name, output_dir, dict(settings)
        self._run: Any = None
        self._sender: Sender | None = None

    def start(self, _: Engine) -> None:
        import wandb

        self._run = wandb.init(
            project=os.environ.get("WANDB_PROJECT", _EXPERIMENT),
            name=self._folder.name,
            id=self._name,
            resume="allow",
            dir=str(self._folder),
            config=self._settings,
        )
        self._sender = Sender("wandb")

    def epoch(self, metrics: Mapping[str, float], *, number: int) -> None:
        if self._sender is not None:
            self._sender.send(self._run.log, dict(metrics), step=number)

    def end(self, *, failed: bool) -> None:
        if self._sender is not None:
            self._sender.send(self._run.finish, exit_code=int(failed))
            self._sender.close(within_s=_STOP_LIMIT_S if failed else _END_LIMIT_S)


def _run_file(output_dir: Path, tracker: str) -> Path:
    return output_dir / ".volseg" / f"{tracker}.txt"


def _run_id(output_dir: Path, tracker: str, *, resumed: bool) -> str:
    """The word for a run at a tracker: that of the earlier session if the training was resumed, else a new one."""
    path = _run_file(output_dir, tracker)
    if resumed and path.is_file():
        return path.read_text(encoding="utf-8").strip()
    return f"{output_dir.resolve().name}-{secrets.token_hex(4)}"

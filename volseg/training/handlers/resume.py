"""Resuming an interrupted training: its state is written at the ends of epochs and read at the start."""

from __future__ import annotations

import json
import logging
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LRScheduler

from volseg.bundle import Recipe, checkpoint_damage, recipe_direction, resume_problem
from volseg.errors import CheckpointError, UsageError
from volseg.training.cache import Digests, data_change, data_digests
from volseg.training.handlers.checkpoints import save, set_aside, state_of
from volseg.training.handlers.loss_facts import loss_facts

logger = logging.getLogger("volseg.training")

_SCHEMA = 1


class Resume:
    """Write `last.pt` at the ends of epochs and, on request, resume from it; a handler for SupervisedTrainer.

    The file is written after the first epoch, after the last, and after others as long as saving takes no more than a
    fraction of the time. An epoch that was interrupted is repeated from its beginning: with `EpochSeeds`, on a CPU, a
    run that was killed and resumed ends with the same weights, to the bit, as one that was not. Place it after the
    handler that validates, and before those that show the progress or stop early.

    Args:
        output_dir: Folder of the run.
        resume: Whether to resume the run in that folder; if there is none, a new one begins, so that a command can
            simply be repeated. If false, an existing `last.pt` is moved aside once every handler has started, so that
            a training which cannot begin leaves it alone. (On MONAI's command line `true` is a word.) `anyway` resumes
            with a warning although images, labels or cases have changed since.
        evaluator: Evaluator, whose best and last metrics are saved too.
        recipe: Recipe, which must be the stored one, apart from its facts.
        schedule: Schedule of the learning rate.
        parts: Further objects with `state_dict` and `load_state_dict`, by name; if one has a method `resumed`, it is
            called with the trainer when all is loaded.
        settings: Further values that must be the stored ones.
        share: Largest fraction of the time that saving may take.

    Raises:
        UsageError: `resume` is none of these; in training, the run in the folder has other settings, images, labels or
            cases.
        CheckpointError: In training, `last.pt` is damaged or of another network.
        OSError: In training, the disk is full; the existing file stays.
    """

    def __init__(
        self,
        output_dir: str | Path,
        *,
        resume: bool | str,
        evaluator: Engine,
        recipe: Recipe,
        schedule: LRScheduler,
        parts: Mapping[str, Any],
        settings: Mapping[str, Any],
        share: float = 0.02,
    ) -> None:
        resume = check_resume(resume)
        self.path = Path(output_dir) / "last.pt"
        self.resume = bool(resume)
        self.anyway = resume == "anyway"
        self.evaluator = evaluator
        self.recipe = recipe
        self.schedule = schedule
        self.parts = parts
        self.settings = settings
        self.share = share
        self._max_epochs = 0  # as the settings say; a limit of time may change that of the trainer
        self._saved_epoch = 0
        self._replaces = False  # whether a file of an earlier run is still to be moved aside
        self._saved_at = 0.0
        self._cost_s = 0.0
        self._data: Digests = {}

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.STARTED, self._start)
        engine.add_event_handler(Events.EPOCH_STARTED, self._begin)
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._epoch)
        engine.add_event_handler(Events.COMPLETED, self._complete)

    def _start(self, engine: Engine) -> None:
        self._max_epochs = engine.state.max_epochs
        if idist.get_rank() == 0 or self.resume:
            self._data = data_digests(
                {"training": _datalist(engine.state.dataloader), "validation": _datalist(self._validated_on())}
            )
        if self.resume and self.path.is_file():
            self._load(engine)
        elif self.resume:
            logger.info("there is no %s to go on from: the training begins", self.path)
        self._replaces = not self.resume
        self._saved_epoch = engine.state.epoch

    def _begin(self, _: Engine) -> None:
        if self._replaces:
            set_aside(self.path)
            self._replaces = False

    def _epoch(self, engine: Engine) -> None:
        if self._cost_s <= self.share * (time.monotonic() - self._saved_at):
            self._save(engine)

    def _complete(self, engine: Engine) -> None:
        if engine.state.epoch > self._saved_epoch:
            self._save(engine)

    def _save(self, engine: Engine) -> None:
        if idist.get_rank() > 0:
            return
        began = time.monotonic()
        state = self.evaluator.state
        content = {
            "schema": _SCHEMA,
            "settings": json.dumps(self._settings(engine), default=str),
            "data": json.dumps(self._data),
            "epoch": engine.state.epoch,
            "max_epochs": self._max_epochs,
            "best": [float(state.best_metric), int(state.best_metric_epoch)],
            "metrics": {name: float(value) for name, value in state.metrics.items()},
            "schedule": self.schedule.state_dict(),
            **{name: state_of(part) for name, part in self._parts(engine).items()},
            # What `volseg predict` reads from a checkpoint. The file holds these tensors once: they are those above.
            "model": state_of(self._validated(engine)),
            "recipe": self.recipe.state_dict(),
        }
        save(content, self.path)
        self._saved_epoch = engine.state.epoch
        self._saved_at = time.monotonic()
        self._cost_s = self._saved_at - began

    def _load(self, engine: Engine) -> None:
        try:
            stored = torch.load(self.path, map_location="cpu", weights_only=True)
        except Exception as error:  # a damaged file raises errors of any kind
            reason = checkpoint_damage(self.path, error)
            raise CheckpointError(
                f"{self.path} cannot be resumed from, since {reason}; or begin anew, without --resume"
            ) from error
        try:
            schema, settings = stored["schema"], json.loads(stored["settings"])
        except (KeyError, TypeError, ValueError) as error:
            raise CheckpointError(
                f"{self.path} holds no state of a training, so it cannot be resumed from; train without --resume"
            ) from error
        if schema != _SCHEMA:
            raise CheckpointError(f"{self.path} has schema {schema}, this volseg goes on from {_SCHEMA} only")
        if problem := resume_problem(settings, self.recipe):
            raise UsageError(f"{self.path} is of another training: {problem}")
        self._check_data(stored)  # before the settings, which another number of cases changes too
        self._check(settings, engine)
        epoch, before, now = stored["epoch"], stored["max_epochs"], self._max_epochs
        if now < before:
            raise UsageError(
                f"{self.path} is of a training of {before} epochs, which cannot be resumed as one of {now}"
            )
        longer = now > before
        if longer:
            self._forward(engine, epoch * engine.state.epoch_length)
        for name, part in self._parts(engine).items():
            part = part.module if isinstance(part, DistributedDataParallel) else part
            if name not in stored and not state_of(part):  # a part of later versions that keeps nothing
                continue
            try:
                part.load_state_dict(stored[name])
            except (KeyError, RuntimeError, ValueError) as error:
                raise CheckpointError(f"the {name} in {self.path} is of another network or another volseg") from error
        own = engine.network.module if isinstance(engine.network, DistributedDataParallel) else engine.network
        if list(stored["network"]) != list(own.state_dict()):  # an optimizer knows parameters by their order
            raise UsageError(
                f"{self.path} holds the network's tensors under other names or in another order than they have now: it "
                "was written with another version of transformers; go on with that one, or train anew, without --resume"
            )
        groups = engine.optimizer.param_groups
        rates = [group["lr"] for group in groups]
        if longer:
            for group, rate in zip(groups, self.schedule.get_last_lr(), strict=True):
                group["lr"] = rate
        else:
            self.schedule.load_state_dict(stored["schedule"])
            if rates != [group["lr"] for group in groups]:
                raise UsageError(
                    f"{self.path} is of a training with another schedule of the learning rate; give that one"
                )
        engine.state.epoch, engine.state.iteration = epoch, epoch * engine.state.epoch_length
        state = self.evaluator.state
        state.best_metric, state.best_metric_epoch = stored["best"]
        state.metrics.update(stored["metrics"])
        if longer:
            logger.warning(
                "it was planned with %d epochs: the learning rate goes on as in a training of %d epochs, at %.3g, and "
                "the result is not that of either",
                *(before, now, engine.optimizer.param_groups[0]["lr"]),
            )
        for part in self.parts.values():
            if hasattr(part, "resumed"):
                part.resumed(engine)
        self._tell(engine)

    def _check(self, stored: Mapping[str, Any], engine: Engine) -> None:
        now = json.loads(json.dumps(self._settings(engine), default=str))
        stored = {**{name: usual for name, usual in _BEFORE.items() if name in now}, **stored}
        if isinstance(stored.get("loss"), str):  # of before, when its class alone was written down
            stored = {**stored, "loss": {"class": stored["loss"]}}
        before, now = (
            _flat({name: value for name, value in some.items() if name != "slices"}) for some in (stored, now)
        )
        other = [
            name
            for name in {**before, **now}
            if before.get(name) != now.get(name)
            and not (_is_recent(name) and (name not in before or name not in now))  # which tells nothing
        ]
        if other:
            before_schemes = "; --normalisation percentiles is what it had" * (
                "normalisation" in other and "normalisation" not in before
            )
            told = "; ".join(f"{name} was {_short(before.get(name))} and is {_short(now.get(name))}" for name in other)
            raise UsageError(
                f"{self.path} is of a training with other settings: {told}{before_schemes}. "
                "Resume with the same, or train anew, without --resume"
            )

    def _check_data(self, stored: Mapping[str, Any]) -> None:
        """Refuse to resume with other data than the training began with; old files do not record the data."""
        change = data_change(json.loads(stored["data"]), self._data) if "data" in stored else ""
        if change and not self.anyway:
            raise UsageError(
                f"{self.path} is of a training on other data: {change}. Train anew, without --resume, or go on "
                "with --resume anyway"
            )
        if change:
            logger.warning("the data have changed since %s was written: %s", self.path, change)

    def _validated_on(self) -> object:
        """The evaluator's loader, which MONAI keeps under a name of its own."""
        return getattr(self.evaluator, "data_loader", None) or getattr(self.evaluator.state, "dataloader", None)

    def _forward(self, engine: Engine, steps: int) -> None:
        """Step the schedule, which is another than the stored one, to the current iteration."""
        engine.optimizer.zero_grad(set_to_none=True)
        engine.optimizer.step()  # changes nothing without gradients; torch warns of a schedule that steps first
        for _ in range(steps):
            self.schedule.step()

    def _tell(self, engine: Engine) -> None:
        epoch, last = engine.state.epoch, engine.state.max_epochs
        following = "the training goes on from there" if epoch < last else "nothing is left to do"
        logger.info("%s: epoch %d of %d is done, %s", self.path, epoch, last, following)

    def _validated(self, engine: Engine) -> Any:  # noqa: ANN401 - a network
        """The network that is validated: the averaged one if there is one."""
        return getattr(self.parts.get("average"), "network", engine.network)

    def _parts(self, engine: Engine) -> dict[str, Any]:
        parts = {"network": engine.network, "optimizer": engine.optimizer, **self.parts}
        return {**parts, "scaler": engine.scaler} if engine.scaler is not None else parts

    def _settings(self, engine: Engine) -> dict[str, Any]:
        optimizer, recipe = engine.optimizer, self.recipe
        return {
            "labels": recipe.labels.to_dataset_json(),
            "channel_names": list(recipe.channel_names),
            "spacing_mm": [float(mm) for mm in recipe.spacing_mm],
            "roi_size": list(recipe.roi_size),
            "slices": recipe_direction(recipe),
            "network": dict(recipe.network),
            **({} if recipe.normalisation is None else {"normalisation": recipe.normalisation}),
            "loss": loss_facts(engine.loss_function),
            "optimizer": {"name": type(optimizer).__name__, **optimizer.defaults},
            "lr_scheduler": type(self.schedule).__name__,
            "batches of an epoch": engine.state.epoch_length,
            **self.settings,
        }


def check_resume(resume: object) -> bool | str:
    """The setting as True, False or `anyway`, of which MONAI's command line makes words.

    Raises:
        UsageError: It is none of these.

    >>> check_resume("true"), check_resume("anyway")
    (True, 'anyway')
    """
    found = {"true": True, "false": False}.get(resume, resume) if isinstance(resume, str) else resume
    if not isinstance(found, bool) and found != "anyway":
        raise UsageError(f"--resume must be true, false or anyway, got {resume!r}")
    return found


def _datalist(loader: object) -> object:
    """The datalist of a loader's data set, if it is MONAI's."""
    return getattr(getattr(loader, "dataset", None), "data", None)


# What trainings did before a setting was one.
_BEFORE = {"background_share": 1 / 3}
# Settings that trainings of before do not tell; of a loss, those of its class alone.
_RECENT = ("prior_dropout", "prior_alignment")


def _is_recent(name: str) -> bool:
    return name in _RECENT or name.startswith("loss ")


def _flat(settings: Mapping[str, Any]) -> dict[str, Any]:
    """Flatten settings to one level of names: {"optimizer": {"lr": 0.1}} is {"optimizer lr": 0.1}."""
    flat = {}
    for name, value in settings.items():
        inner = value if isinstance(value, dict) and value else {}
        flat.update({f"{name} {key}": content for key, content in inner.items()} or {name: value})
    return flat


def _short(value: object) -> str:
    text = str(value)
    return text if len(text) <= 100 else f"{text[:97]}..."

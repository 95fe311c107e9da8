"""The checkpoints of the best validations: written whole or not at all, the best one always `model.pt`."""

from __future__ import annotations

import errno
import logging
import math
import os
import re
import shutil
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, NamedTuple

import ignite.distributed as idist
import torch
from ignite.engine import Engine, Events
from torch.nn.parallel import DistributedDataParallel

from volseg.errors import UsageError
from volseg.files import PARTIAL, atomic

logger = logging.getLogger("volseg.training")

_NAME = re.compile(r"model(_\d+)?\.pt")
_OF_A_NETWORK = {f"model.{ending}" for ending in ("ts", "onnx", "xml", "bin", "safetensors")} | {"calibration.json"}


class _Kept(NamedTuple):
    score: float
    epoch: int
    path: Path


class Checkpoints:
    """Keep the networks of the best validations as model.pt, model_2.pt, ...; a handler for MONAI's evaluator.

    The best has the highest key metric; of equal ones the first is better. Validations with a key metric of 0 or NaN do
    not rank the networks: of these the last is kept. Each file holds the state of every entry of `contents`, and
    `validation`: the epoch and the metrics. (MONAI's CheckpointSaver removes an old file before the new one is written,
    and gives several files no fixed names.) Files of an earlier run are moved aside before the first is written, unless
    `load_state_dict` says that this run resumes it.

    Args:
        output_dir: Folder of the files.
        contents: Objects with a `state_dict`, by their names in the file.
        keep: Number of files to keep, 1 by default.

    Raises:
        UsageError: `keep` is below 1.
        OSError: The disk is full; the existing files stay as they are.
    """

    def __init__(self, output_dir: str | Path, contents: Mapping[str, Any], *, keep: int = 1) -> None:
        if not isinstance(keep, int) or keep < 1:
            raise UsageError(f"--keep must be a number of checkpoints of at least 1, got {keep!r}")
        self.output_dir = Path(output_dir)
        self.contents = contents
        self.keep = keep
        self._goes_on = False
        self._kept: list[_Kept] | None = None  # best first; None: nothing was looked at yet

    def attach(self, engine: Engine) -> None:
        """Attach the handler to an evaluator."""
        engine.add_event_handler(Events.EPOCH_COMPLETED, self._save)

    def state_dict(self) -> dict[str, Any]:
        """Return nothing: the files themselves hold the state."""
        return {}

    def load_state_dict(self, _: Mapping[str, Any]) -> None:
        """Keep the existing files."""
        self._goes_on = True

    def save_unscored(self, engine: Engine, epoch: int) -> None:
        """Save after an epoch of a training without a validation case: of such networks the last is kept.

        Args:
            engine: Evaluator, which names the key metric and has not run.
            epoch: Number of the epoch.
        """
        if idist.get_rank() == 0:
            self._keep(engine.state.key_metric_name, epoch, {engine.state.key_metric_name: math.nan})

    def _save(self, engine: Engine) -> None:
        if idist.get_rank() == 0:
            metrics = {metric: float(value) for metric, value in engine.state.metrics.items()}
            self._keep(engine.state.key_metric_name, engine.state.epoch, metrics)

    def _keep(self, name: str, epoch: int, metrics: Mapping[str, float]) -> None:
        if self._kept is None:
            self._kept = self._found(name)
        score = _order(metrics[name])
        # An existing epoch came after the state from which the run was resumed, and is done again.
        others = [kept for kept in self._kept if kept.epoch != epoch]
        rank = sum(kept.score >= score if score > 0 else kept.score > 0 for kept in others)
        if rank >= self.keep:
            return
        states = {part: state_of(thing) for part, thing in self.contents.items()}
        content = {part: state for part, state in states.items() if state}
        content["validation"] = {"epoch": epoch, **metrics}
        new = _Kept(score, epoch, self.output_dir / f"{PARTIAL}model.pt")
        save(content, new.path)
        self._kept = self._arranged([*others[:rank], new, *others[rank:]][: self.keep])

    def _found(self, name: str) -> list[_Kept]:
        """The files of the resumed run; those of another are moved aside."""
        kept: dict[int, _Kept] = {}
        if not self._goes_on:  # what an earlier network was written to, in a package, is not this one's
            for path in sorted(path for path in self.output_dir.glob("*") if path.name in _OF_A_NETWORK):
                set_aside(path)
        for path in sorted(path for path in self.output_dir.glob("model*.pt") if _NAME.fullmatch(path.name)):
            if not self._goes_on:
                set_aside(path)
                continue
            try:
                told = torch.load(path, map_location="cpu", weights_only=True, mmap=True)["validation"]
            except Exception as error:  # noqa: BLE001 - a damaged file raises errors of any kind; it is no reason to stop
                logger.warning("%s cannot be read and is left out of the best (%s)", path, type(error).__name__)
            else:
                kept.setdefault(told["epoch"], _Kept(_order(told[name]), told["epoch"], path))
        return sorted(kept.values(), key=lambda one: (-one.score, one.epoch if one.score > 0 else -one.epoch))

    def _arranged(self, kept: list[_Kept]) -> list[_Kept]:
        """Give each file the name of its rank; if this is interrupted, each of them still has some name."""
        placed = [one._replace(path=self.output_dir / _name(rank)) for rank, one in enumerate(kept)]
        moves = []
        for one, there in zip(kept, placed, strict=True):
            source = one.path
            if source == there.path:
                continue
            if not source.name.startswith("."):
                source = source.with_name(f"{PARTIAL}{one.epoch}.pt")
                _link(one.path, source)
            moves.append((source, there.path))
        for source, target in reversed(moves):
            source.replace(target)
        return placed


def save(content: Mapping[str, Any], path: Path) -> None:
    """Write a checkpoint for `torch.load(weights_only=True)`; an existing file stays until the new one is complete.

    Raises:
        OSError: The disk is full or not writable.
    """
    try:
        with atomic(path) as partial, partial.open("wb") as file:
            torch.save(dict(content), file)
    except (OSError, RuntimeError) as error:
        # torch puts an error of its own before that of the file, and before a signal that ends the training.
        cause = error if isinstance(error, OSError) else error.__context__
        if cause is not None and not isinstance(cause, Exception):
            raise cause from None
        if not isinstance(cause, OSError):
            cause = OSError(errno.EIO, str(error).splitlines()[0])
        raise OSError(cause.errno, f"{cause.strerror}, while a checkpoint was saved", str(path)) from error


def set_aside(path: Path) -> None:
    """Move a file of an earlier run to the folder `earlier` beside it, under its name and the time of its writing."""
    if path.is_file() and idist.get_rank() == 0:
        written = time.strftime("%Y-%m-%d_%H%M%S", time.localtime(path.stat().st_mtime))
        place = path.parent / "earlier" / f"{path.stem}_{written}{path.suffix}"
        place.parent.mkdir(exist_ok=True)
        path.replace(place)
        logger.info("%s, of an earlier run, is now %s", path, place)


def state_of(part: Any) -> Any:  # noqa: ANN401 - whatever a part's state is
    """The `state_dict` of a part; of a network, without the names that a distributed wrapper adds."""
    return (part.module if isinstance(part, DistributedDataParallel) else part).state_dict()


def _name(rank: int) -> str:
    return f"model_{rank + 1}.pt" if rank else "model.pt"


def _order(score: float) -> float:
    """The key by which files are ordered: a score of 0 or NaN has no meaning, and such files are equal."""
    return score if score > 0 else 0.0


def _link(source: Path, target: Path) -> None:
    """Make a second name for a file, or a copy if the file system has no hard links."""
    target.unlink(missing_ok=True)
    try:
        os.link(source, target)
    except OSError:
        shutil.copyfile(source, target)

"""What ends with a visitor who leaves: the windows of a segmentation, and an upload that broke off."""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.errors import UsageError

if TYPE_CHECKING:
    from torch import Tensor

    from volseg.inference import AnyPredictor, Predictor


class LeftError(UsageError):
    """The visitor has left, so nobody waits for the result."""


@dataclass(frozen=True)
class UntilLeft:
    """An engine that computes no further window once the visitor has left.

    Attributes:
        engine: Engine that computes.
        left: Event that is set when the visitor leaves.
    """

    engine: Any
    left: threading.Event

    def __call__(self, windows: Tensor) -> Tensor:
        """Compute the logits of windows.

        Raises:
            LeftError: The visitor has left.
        """
        check_there(self.left)
        logits: Tensor = self.engine(windows)
        return logits

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what the engine has
        return getattr(self.engine, name)


def check_there(left: threading.Event) -> None:
    """Stop where a visitor has left.

    Raises:
        LeftError: The event is set.
    """
    if left.is_set():
        raise LeftError("the visitor has left; the segmentation was stopped")


def until_left(predictor: AnyPredictor, left: threading.Event) -> AnyPredictor:
    """The same predictor, whose networks stop at the next window once an event is set."""
    from volseg.inference import CascadePredictor, Predictor

    if isinstance(predictor, CascadePredictor):
        first = None if predictor.first is None else _each_until_left(predictor.first, left)
        return replace(predictor, first=first, second=_each_until_left(predictor.second, left))
    return _each_until_left(predictor, left) if isinstance(predictor, Predictor) else predictor


def _each_until_left(predictor: Predictor, left: threading.Event) -> Predictor:
    others = tuple(replace(other, engine=UntilLeft(other.engine, left)) for other in predictor.others)
    return replace(predictor, engine=UntilLeft(predictor.engine, left), others=others)


class Uploads:
    """Uploads under way. Gradio writes each to a plain file in its folder and moves it below it when it is whole.

    A plain file is taken for one of all uploads that were under way when it was first seen, and is deleted when the
    last of them has ended.

    Args:
        folder: Folder of the uploads.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._under_way: set[object] = set()
        self._owners: dict[Path, set[object]] = {}

    def watching(self, receive: Callable[[], Any], upload: object) -> Callable[[], Any]:
        """Pass the messages of an upload on, and look at the folder before each."""
        self._look()
        self._under_way.add(upload)

        async def receiving() -> Any:  # noqa: ANN401
            self._look()
            return await receive()

        return receiving

    def ended(self, upload: object) -> None:
        """Delete what an upload has left behind, whole or broken off."""
        self._look()
        self._under_way.discard(upload)
        for file, owners in list(self._owners.items()):
            owners.discard(upload)
            if not owners:
                del self._owners[file]
                with suppress(OSError):
                    file.unlink()

    def _look(self) -> None:
        there = {path for path in self._folder.iterdir() if path.is_file()} if self._folder.is_dir() else set()
        for gone in self._owners.keys() - there:
            del self._owners[gone]
        for new in there - self._owners.keys():
            self._owners[new] = set(self._under_way)

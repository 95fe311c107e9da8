"""The handlers of a bundle in their order, and the end of every error: it is raised once all of them have seen it."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from ignite.engine import Engine, Events


class Handlers:
    """Attach several handlers to an engine, one after the other; a handler for MONAI's trainer and evaluator.

    The handlers of train.json are ids at its top, and this one attaches them. A plain list of ids would not do: MONAI
    1.6.1 keeps the None of a part with `_disabled_` in it, and MONAI Label 0.8.5 expects each entry to be a dictionary.

    Args:
        handlers: Handlers with a method `attach(engine)`, in the order in which ignite calls them; None is left out.
    """

    def __init__(self, handlers: Iterable[Any]) -> None:
        self.handlers = [handler for handler in handlers if handler is not None]

    def attach(self, engine: Engine) -> None:
        """Attach the handlers to an engine."""
        for handler in self.handlers:
            handler.attach(engine)


class RaiseErrors:
    """Raise an error once every other handler has seen it; a handler for a trainer, which is placed last.

    ignite 0.5.5 takes an error for settled as soon as a handler of `EXCEPTION_RAISED` has seen it. So one of them has
    to raise it, after those that write down or tidy up.
    """

    def attach(self, engine: Engine) -> None:
        """Attach the handler to a trainer."""
        engine.add_event_handler(Events.EXCEPTION_RAISED, _raise)


def raised_later(engine: Engine) -> bool:
    """Whether `RaiseErrors` is attached to an engine, so that another handler may leave an error to it.

    >>> engine = Engine(lambda engine, batch: None)
    >>> raised_later(engine), RaiseErrors().attach(engine), raised_later(engine)
    (False, None, True)
    """
    return bool(engine.has_event_handler(_raise, Events.EXCEPTION_RAISED))


def raise_at_last(engine: Engine) -> None:
    """Attach `RaiseErrors` at the start of a run that has none, as the trainers of earlier versions."""
    if not raised_later(engine):
        RaiseErrors().attach(engine)


def _raise(_: Engine, error: BaseException) -> None:
    raise error

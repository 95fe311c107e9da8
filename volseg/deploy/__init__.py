"""Use outside the checkout: packages of the model zoo's layout, a watch folder, a page in the browser."""

from __future__ import annotations

import importlib
from types import ModuleType


def __getattr__(name: str) -> ModuleType:
    """A room of this one, opened at first use: the train.json of a package names `volseg.deploy.pack`."""
    if name in ("demo", "pack", "watch"):
        return importlib.import_module(f"{__name__}.{name}")
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")

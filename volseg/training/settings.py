"""The settings of a bundle that MONAI runs: the config behind the running code, its values, and the user's changes."""

from __future__ import annotations

import copy
import inspect
import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from monai.bundle import ConfigParser

from volseg.bundle import config, literal, literal_text
from volseg.errors import BundleError

# Ids that are no settings: MONAI's imports and expressions to run, and its metadata.
_NO_SETTINGS = {"imports", "initialize", "training", "evaluating", "finalize", "run", "_meta_", "_workflow_"}


class Settings:
    """The settings of one run, read from MONAI's ConfigParser as its parts are built.

    Args:
        parser: Parser of the config, after the user's overrides.
    """

    def __init__(self, parser: ConfigParser) -> None:
        self.parser = parser

    @classmethod
    def running(cls) -> Settings | None:
        """The settings of the config that is just building the caller, or None outside a bundle.

        MONAI tells a part nothing of the config that contains it, whether `volseg train`, `monai.bundle run` or another
        program reads it; but the parser is among the callers of whatever the parser builds.
        """
        frame = inspect.currentframe()
        while frame is not None:
            parser = frame.f_locals.get("self")
            if isinstance(parser, ConfigParser):
                return cls(parser)
            frame = frame.f_back
        return None

    def values(self) -> dict[str, Any]:
        """Every setting at the top of the config with its final value, as JSON knows it."""
        found = {}
        for name, raw in self.parser.get().items():
            known, value = _as_json(self.parser.ref_resolver.resolved_content.get(name, raw))
            if known and name not in _NO_SETTINGS and not _is_reference(value):
                found[name] = value
        return found

    def given(self) -> dict[str, Any]:
        """The differences from the bundle's own train.json: values by id, with `#` between levels."""
        root = self.values().get("bundle_root")
        try:
            own = ConfigParser.load_config_file(str(config(Path(str(root)), "train.json")))
        except (BundleError, ValueError, OSError):
            return {}
        before, now = _leaves(own), _leaves(self.parser.get())
        return {
            name: value
            for name, value in now.items()
            if name.partition("#")[0] not in {*_NO_SETTINGS, "bundle_root"} and before.get(name, _ABSENT) != value
        }

    def config(self) -> dict[str, Any]:
        """The whole config with these values: it can be run again, from any folder."""
        whole = {name: copy.deepcopy(raw) for name, raw in self.parser.get().items() if not name.startswith("_")}
        return {**whole, **{name: _stated(value) for name, value in self.values().items() if name in whole}}


_ABSENT = object()


def _stated(value: object) -> object:
    """A value as a config must state it."""
    return literal(value) if isinstance(value, str) else value


def _is_reference(value: object) -> bool:
    """Whether MONAI has not yet evaluated a value."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _as_json(value: object) -> tuple[bool, Any]:
    """Whether a value is a plain setting, and its form in JSON."""
    if isinstance(value, (torch.device, Path)):
        return True, str(value)
    if isinstance(value, float) and not math.isfinite(value):
        return True, str(value)
    if isinstance(value, (str, int, float, bool)) or value is None:
        return True, value
    if isinstance(value, (list, tuple)):
        parts = [_as_json(one) for one in value]
        return all(known for known, _ in parts), [one for _, one in parts]
    return False, None


def _leaves(raw: object, prefix: str = "") -> dict[str, Any]:
    """The lowest ids of a config with their values, spelled as in a file: after parsing, MONAI has `::` for `#`."""
    if isinstance(raw, Mapping):
        items = [(str(name), value) for name, value in raw.items()]
    elif isinstance(raw, list) and any(isinstance(one, (Mapping, list)) for one in raw):
        items = [(str(number), value) for number, value in enumerate(raw)]
    else:
        text = literal_text(raw)  # a path that was stated so that MONAI keeps it
        value = text if text is not raw else json.loads(json.dumps(raw, default=str).replace("::", "#"))
        return {prefix.removesuffix("#"): value}
    return {id_: leaf for name, value in items for id_, leaf in _leaves(value, f"{prefix}{name}#").items()}

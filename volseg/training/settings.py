"""The settings of a bundle that MONAI runs: their final values, the user's changes, and the config to run again."""

from __future__ import annotations

import copy
import inspect
import json
import math
import sys
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import fire
import torch
from monai.bundle import ConfigParser, ConfigWorkflow, ReferenceResolver, update_kwargs

from volseg.bundle import config, literal, literal_text
from volseg.errors import BundleError

# Ids that are no settings: MONAI's imports and expressions to run, its metadata, and what hands the settings over.
_NO_SETTINGS = {
    "imports",
    "initialize",
    "training",
    "evaluating",
    "finalize",
    "run",
    "settings",
    "_meta_",
    "_workflow_",
}


class Settings:
    """The settings of one run, which its train.json hands over: `settings` names each id with its final value.

    MONAI 1.6.1 hands values to the parts of a config, and never the config itself. So the user's changes below the top
    level (`--optimizer#weight_decay 0.1`) come from the parser that `volseg train` hands over, or from the command line
    of `python -m monai.bundle run`. A program that runs MONAI's ConfigWorkflow by itself can hand its parser over too:
    `workflow.parser["settings#parser"] = workflow.parser`, before it initializes the workflow. Without a parser,
    changes at the top level alone are known.

    Args:
        values: Final values of the settings by id, and the objects from which others of them follow.
        parser: Parser of the config, after the user's overrides; by default that of the command line.
    """

    def __init__(self, values: Mapping[str, Any], *, parser: ConfigParser | None = None) -> None:
        self._handed = dict(values)
        self._parser = parser if parser is not None else _parser_of_command_line(self._handed)

    def values(self) -> dict[str, Any]:
        """Every setting at the top of the config with its final value, as JSON knows it."""
        raw: Mapping[str, Any] = self._handed if self._parser is None else self._parser.get()
        resolved: Mapping[str, Any] = {} if self._parser is None else self._parser.ref_resolver.resolved_content
        found = {}
        for name in raw:
            known, value = _as_json(resolved.get(name, self._handed.get(name, raw[name])))
            if known and name not in _NO_SETTINGS and not _is_reference(value):
                found[name] = value
        return found

    def given(self) -> dict[str, Any]:
        """The differences from the bundle's own train.json: values by id, with `#` between levels."""
        own = self._own()
        if self._parser is None:
            return self._changed(own)
        before, now = _leaves(_settings(own)), _leaves(_settings(self._parser.get()))
        return {name: value for name, value in now.items() if own and before.get(name, _ABSENT) != value}

    def config(self) -> dict[str, Any]:
        """The whole config with these values: it can be run again, from any folder."""
        raw = self._own() if self._parser is None else self._parser.get()
        whole = {name: value for name, value in raw.items() if not name.startswith("_")}
        if "settings" in whole:
            whole["settings"] = {name: value for name, value in whole["settings"].items() if name != "parser"}
        stated = {name: _stated(value) for name, value in self.values().items() if name in whole}
        return {**copy.deepcopy(whole), **stated}

    def _own(self) -> dict[str, Any]:
        """The bundle's own train.json; empty if there is none."""
        root = self.values().get("bundle_root")
        try:
            return dict(ConfigParser.load_config_file(str(config(Path(str(root)), "train.json"))))
        except (BundleError, ValueError, OSError):
            return {}

    def _changed(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """The settings whose value is not what the bundle's own train.json gives, all others being as they are."""
        pinned = {name: _stated(value) for name, value in self._handed.items()}
        changed = {}
        for name, value in self.values().items():
            needed = set(ReferenceResolver.match_refs_pattern(str(own.get(name))))
            if name == "bundle_root" or name not in own or not needed <= pinned.keys():
                continue
            parser = ConfigParser({**pinned, "imports": own.get("imports", []), name: own[name]})
            if _as_json(parser.get_parsed_content(name))[1] != value:
                changed[name] = value
        return changed


def settings_of_earlier_config() -> Settings | None:
    """The settings for a record to which its config hands none: of the parser that is just building it.

    Deprecated: the train.json of version 0.1 alone needs it, and it goes with the next minor version. The parser is
    among the callers of whatever it builds. None outside a bundle, and if the config has `settings`.
    """
    frame = inspect.currentframe()
    while frame is not None:
        parser = frame.f_locals.get("self")
        if isinstance(parser, ConfigParser):
            if "settings" in parser.get():
                return None
            told = "this train.json is of volseg 0.1 and hands no settings to its record; take the bundle's of today"
            warnings.warn(told, DeprecationWarning, stacklevel=2)
            return Settings({}, parser=parser)
        frame = frame.f_back
    return None


def _parser_of_command_line(values: Mapping[str, Any]) -> ConfigParser | None:
    """The config of `python -m monai.bundle run ...` with its overrides; None if this process runs something else.

    Args:
        values: Values that the running config hands over, which the command line's must be.
    """
    if Path(sys.argv[0]).parts[-3:] != ("monai", "bundle", "__main__.py"):
        return None
    words: dict[str, Any] = {}

    def collect(*_: str, **given: Any) -> None:  # noqa: ANN401
        words.update(given)

    try:
        fire.Fire({"run": collect, "run_workflow": collect}, command=sys.argv[1:])  # as MONAI reads them
        words = update_kwargs(words.pop("args_file", None), **words)
        parser = ConfigParser()
        parser.read_config(words.pop("config_file"))
        parser.update({name: value for name, value in words.items() if name not in _WORDS_OF_MONAI})
        parser.resolve_macro_and_relative_ids()
    except (fire.core.FireExit, KeyError, ValueError, OSError):
        return None
    for name in parser.get().keys() & values.keys():
        known, value = _as_json(literal_text(parser[name]))
        if known and not _has_reference(value) and value != _as_json(values[name])[1]:
            return None
    return parser


_WORDS_OF_MONAI = {"workflow_name", *inspect.signature(ConfigWorkflow).parameters}
_ABSENT = object()


def _settings(raw: Mapping[str, Any]) -> dict[str, Any]:
    """A config without the ids that are no settings, and without the bundle's folder."""
    return {name: value for name, value in raw.items() if name not in {*_NO_SETTINGS, "bundle_root"}}


def _stated(value: object) -> object:
    """A value as a config must state it."""
    return literal(value) if isinstance(value, str) else value


def _is_reference(value: object) -> bool:
    """Whether MONAI has not yet evaluated a value."""
    return isinstance(value, str) and value.startswith(("$", "@", "%"))


def _has_reference(value: object) -> bool:
    """Whether MONAI has not yet evaluated a value or a part of it."""
    return any(map(_has_reference, value)) if isinstance(value, list) else _is_reference(value)


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

"""The settings of a cross-validation, and what has changed since a folder was begun with others."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import volseg
from volseg import bundle as bundles
from volseg.cohort import Cohort
from volseg.crossval.folder import RESERVED, CrossvalFolder
from volseg.errors import UsageError
from volseg.files import atomic

SCHEMA = "volseg.crossval-settings/1"
TAKES = ("last", "best")

_SET_HERE = {
    "fold": "give --folds",
    "dataset_dir": "the cohort is named behind the bundles",
    "output_dir": "give -o",
    "resume": "a cross-validation always goes on",
    "max_minutes": "give --minutes",
}


@dataclass(frozen=True)
class Inference:
    """How the cases that a fold has not trained on are predicted; the names are those of `volseg predict`.

    Attributes:
        overlap: Share of a window that its neighbour covers.
        engine: Engine of the network. `torch` is the default since its results do not depend on a trial of speed.
        flips: Mirror images: `none`, `trained`, or axes.
        save_probabilities: Whether probabilities are kept.

    Raises:
        UsageError: There is no such engine, or the mirror images are no axes: told before a network is trained.
    """

    overlap: float = 0.5
    engine: str = "torch"
    flips: str = "none"
    save_probabilities: bool = False

    def __post_init__(self) -> None:
        from volseg.inference import check_words, flip_axes

        check_words(engine=self.engine)
        if self.flips != "trained":  # what a training mirrors, its network alone tells
            flip_axes(self.flips, [])

    @property
    def overrides(self) -> dict[str, Any]:
        """The settings of inference.json that differ from the default, as `volseg predict` gives them."""
        more = {"save_probabilities": True} if self.save_probabilities else {}
        return {"overlap": self.overlap, "precision": "auto", **more}


@dataclass(frozen=True)
class CrossvalSettings:
    """What a cross-validation trains, and how.

    Attributes:
        cohort: Folder of the cohort.
        networks: Folder of each bundle by its name, in the order that was given.
        folds: Numbers of the folds, from 0.
        minutes: Minutes of training per fold; None for the epochs that the bundle states.
        overrides: Values by id of train.json, the same for all bundles.
        config_files: Further config files of the training.
        take: `last` for the network after the last step; `best` for that of the best validation, which has seen the
            cases that it is scored on.
        inference: Settings of the prediction.
        devices: Devices, one per worker in turn; none for the best.
    """

    cohort: Path
    networks: Mapping[str, Path]
    folds: Sequence[int]
    minutes: float | None = None
    overrides: Mapping[str, Any] = field(default_factory=dict)
    config_files: Sequence[Path] = ()
    take: str = "last"
    inference: Inference = field(default_factory=Inference)
    devices: Sequence[str] = ()

    def __post_init__(self) -> None:
        for name in self.overrides:
            if name in _SET_HERE:
                raise UsageError(f"--{name} cannot be set for all folds; {_SET_HERE[name]}")
        if self.take not in TAKES:
            raise UsageError(f"--take must be one of {', '.join(TAKES)}, got {self.take!r}")
        if self.minutes is not None and not 0 < self.minutes < float("inf"):
            raise UsageError(f"--minutes must be a number above 0, got {self.minutes:g}")

    @classmethod
    def of(
        cls,
        cohort: Cohort,
        networks: Sequence[str | Path],
        *,
        folds: Sequence[int] | None = None,
        **options: Any,  # noqa: ANN401 - the attributes
    ) -> CrossvalSettings:
        """The settings for bundles by name or folder, on the folds of a cohort.

        Args:
            cohort: Cohort, whose folds must be fit for a cross-validation, see `check_folds`.
            networks: Names or folders of bundles.
            folds: Numbers of the folds; None for all.
            options: Further attributes.

        Raises:
            UsageError: Two bundles have one name, a name is taken, or there is no such fold.
            BundleError: There is no such bundle.
        """
        found: dict[str, Path] = {}
        for given in networks:
            folder = bundles.find(given)
            if folder.name in found:
                raise UsageError(f"two bundles are called {folder.name}; give one of them a folder of another name")
            if folder.name in RESERVED or "+" in folder.name:
                raise UsageError(f"a bundle must not be called {folder.name} here; give its folder another name")
            found[folder.name] = folder
        there = range(len(cohort.folds()))
        chosen = list(there) if folds is None else sorted(set(folds))
        if not chosen or set(chosen) - set(there):
            raise UsageError(
                f"the folds {','.join(map(str, chosen)) or 'none'} were asked for; {cohort.folder} has the folds 0 to "
                f"{there[-1]}"
            )
        return cls(cohort.folder.resolve(), found, chosen, **options)

    def device(self, worker: int) -> str | None:
        """The device that was asked for by its number of the worker; None for the best."""
        stated = self.overrides.get("device")
        if isinstance(stated, str):
            return stated
        return self.devices[worker % len(self.devices)] if self.devices else None

    @property
    def notes(self) -> list[str]:
        """What makes the out-of-fold Dice too high, a line each."""
        told = []
        if self.overrides.get("patience"):
            told.append("--patience ends a training by the held-out cases, which makes their Dice too high")
        if self.take == "best":
            told.append("--take best chooses each network by the held-out cases, which makes their Dice too high")
        return told

    @property
    def files(self) -> dict[str, Path]:
        """The files that settings name, by the setting."""
        named = {name: value for name, value in self.overrides.items() if bundles.is_path_setting(name)}
        return {name: Path(value) for name, value in named.items() if isinstance(value, str) and Path(value).is_file()}

    @property
    def jobs(self) -> list[tuple[str, int]]:
        """Each network and fold, fold after fold, so that the first folds of all networks are done first."""
        return [(name, fold) for fold in self.folds for name in self.networks]

    def facts(self) -> dict[str, Any]:
        """What decides about the weights of every fold, in words: a later call must have the same."""
        return {
            "minutes": self.minutes,
            "take": self.take,
            "settings": {
                **json.loads(json.dumps(dict(self.overrides), default=str)),
                # A file that a setting names, such as a plan, decides by its content.
                **{f"{name} (content)": _sha(path) for name, path in self.files.items()},
            },
            "config files": {path.name: _sha(path) for path in self.config_files},
        }

    def bundle_facts(self) -> dict[str, str]:
        """The digest of each bundle's configs, by its name."""
        return {
            name: "".join(_sha(bundles.config(folder, file)) for file in ("train.json", "inference.json"))
            for name, folder in self.networks.items()
        }

    @property
    def digest(self) -> str:
        """A word that changes with the settings of training and inference; bundles and data are compared elsewhere."""
        content = json.dumps([self.facts(), vars(self.inference)], sort_keys=True)
        return hashlib.sha256(content.encode()).hexdigest()[:16]


def data_of(cohort: Cohort, folds: Sequence[int]) -> dict[str, dict[str, str]]:
    """The digests of the cases that each fold holds out, and the keys that it trains on, by case key."""
    from volseg.training import data_digests

    found = data_digests({f"fold {number}": cohort.datalist("validation", fold=number) for number in folds})
    for number in folds:
        found[f"training of fold {number}"] = dict.fromkeys(cohort.fold(number).training, "")
    return found


def begin(
    folder: CrossvalFolder, settings: CrossvalSettings, data: Mapping[str, Mapping[str, str]], *, anyway: bool = False
) -> list[str]:
    """Begin a folder, or go on with one that was begun with the same settings and data.

    Networks and folds may be added; a changed setting of inference predicts anew and trains nothing.

    Args:
        folder: Folder of the cross-validation.
        settings: Settings of this call.
        data: Digests of the cases of each fold, see `volseg.training.data_digests`.
        anyway: Whether to go on although something has changed; what is finished is kept.

    Returns:
        What has changed, in words; empty unless `anyway`.

    Raises:
        UsageError: Something has changed; the message names it.
    """
    bundle_facts = settings.bundle_facts()
    content = {
        "schema": SCHEMA,
        "volseg": volseg.__version__,
        "cohort": str(settings.cohort),
        **settings.facts(),
        "networks": bundle_facts,
        "data": {side: dict(cases) for side, cases in data.items()},
    }
    changes: list[str] = []
    before = _read(folder.settings)
    if before is not None:
        changes = _changes(before, content)
        if changes and not anyway:
            raise UsageError(
                f"{folder.path} was begun with other settings or data: {'; '.join(changes)}. Give the same, name "
                "another folder with -o, or go on with --anyway, which keeps the folds that are finished"
            )
        content["networks"] = {**before["networks"], **bundle_facts}
        content["data"] = {**before["data"], **content["data"]}
    elif folder.path.is_dir() and any(not path.name.startswith(".") for path in folder.path.iterdir()):
        raise UsageError(f"{folder.path} holds something else than a cross-validation; name another folder with -o")
    with atomic(folder.settings) as partial:
        partial.write_text(json.dumps(content, indent=1) + "\n", encoding="utf-8")
    return changes


def _read(path: Path) -> dict[str, Any] | None:
    try:
        content: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
        if content["schema"] != SCHEMA or not isinstance(content["networks"], dict):
            raise UsageError(f"{path} must have the schema {SCHEMA}, got {content['schema']!r}; use the same volseg")
    except FileNotFoundError:
        return None
    except (ValueError, KeyError, TypeError) as error:
        raise UsageError(f"{path} is damaged ({error}); name another folder with -o") from error
    return content


def _changes(before: Mapping[str, Any], now: Mapping[str, Any]) -> list[str]:
    """The differences in words."""
    from volseg.training import data_change

    told = []
    for name, word in (("minutes", "--minutes"), ("take", "--take")):
        if before.get(name) != now[name]:
            told.append(f"{word} was {_shown(before.get(name))} and is {_shown(now[name])}")
    for group, form in (("settings", "--{}"), ("config files", "the config file {}")):
        old, new = before.get(group, {}), now[group]
        for name in sorted({*old, *new}):
            if old.get(name) != new.get(name):
                shown = form.format(name)
                if group == "settings":
                    told.append(f"{shown} was {_shown(old.get(name))} and is {_shown(new.get(name))}")
                else:
                    told.append(f"{shown} {'changed' if name in old and name in new else 'came or went'}")
    old, new = before["networks"], now["networks"]
    told += [f"the configs of the bundle {name} changed" for name in new if name in old and old[name] != new[name]]
    shared = {side: cases for side, cases in now["data"].items() if side in before["data"]}
    if change := data_change({side: before["data"][side] for side in shared}, shared):
        told.append(change)
    return told


def _shown(value: object) -> str:
    return "not given" if value is None else str(value)


def _sha(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()[:16]
    except FileNotFoundError:
        raise UsageError(f"there is no config file {path}; name one that is there") from None

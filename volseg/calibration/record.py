"""The calibration of a network: `calibration.json` beside its checkpoint; schema `calibration.schema.json` here."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import volseg
from volseg.calibration.checking import check_region
from volseg.calibration.measured import MeasuredCase
from volseg.calibration.ranges import learn_ranges, outside
from volseg.calibration.region import Quantile, RegionCalibration, calibrate_region
from volseg.cohort import Bounds, RegionBounds
from volseg.errors import CheckpointError
from volseg.files import atomic
from volseg.metrics import Scaling

CALIBRATION = "calibration.json"
CALIBRATION_SCHEMA = "volseg.calibration/1"
LEVEL = 0.9


@dataclass(frozen=True)
class Calibration:
    """What out-of-fold predictions say about a network.

    Attributes:
        networks: Digest of the weights of each network, sorted.
        plans: Digest of spacing, window, channels and normalisation of each network, sorted.
        labels: Digest of the label table.
        cases: Digest of the calibrated cases and their references.
        level: Probability that was asked for.
        regions: Calibration by region.
        scan: Comparable ranges of the scan.
        options: Options of inference that change the prediction.
        patients: Number of patients.
        facts: Further facts for readers.
    """

    networks: tuple[str, ...]
    plans: tuple[str, ...]
    labels: str
    cases: str
    level: float
    regions: Mapping[str, RegionCalibration]
    scan: Mapping[str, tuple[float, float]]
    options: Mapping[str, Any] = field(default_factory=dict)
    patients: int = 0
    facts: Mapping[str, Any] = field(default_factory=dict)

    @property
    def digest(self) -> str:
        """Sixteen hexadecimal digits of the whole content."""
        return hashlib.sha256(json.dumps(self.to_json(), sort_keys=True).encode()).hexdigest()[:16]

    @property
    def temperatures(self) -> dict[str, float]:
        """The temperature of each region."""
        return {name: one.temperature for name, one in self.regions.items()}

    @property
    def decision(self) -> str | dict[str, list[float]]:
        """The decision `auto`: `threshold`, or temperature and shift of each region that is decided by its Dice."""
        chosen = {name: list(one.scaling) for name, one in self.regions.items() if one.decision["rule"] == "dice"}
        return chosen or "threshold"

    def bounds(
        self, features: Mapping[str, Mapping[str, float]], scan: Mapping[str, float], *, apart: str = ""
    ) -> Bounds:
        """The bounds of a case by region.

        Args:
            features: Numbers of the prediction by region; empty ones where nothing was predicted.
            scan: Numbers of the scan.
            apart: Reason why the prediction was made otherwise than the calibrated ones; empty if it was not.
        """
        reason = apart or outside(scan, self.scan)
        if reason:
            return {name: RegionBounds(not_comparable=reason) for name in self.regions}
        return {name: one.bounds(features.get(name, {})) for name, one in self.regions.items()}

    def check(self, *, networks: Sequence[str], plans: Sequence[str], labels: str, path: Path) -> None:
        """Refuse a calibration of other networks or labels.

        Args:
            networks: Digest of the weights of each network.
            plans: Digest of the plan of each network.
            labels: Digest of the label table.
            path: File, for the message.

        Raises:
            CheckpointError: It is of others.
        """
        cure = "calibrate again with `volseg calibrate`, or predict with --no-calibration"
        if labels != self.labels:
            raise CheckpointError(f"{path} was made for another label table, of {', '.join(self.regions)}; {cure}")
        if tuple(sorted(networks)) != self.networks or tuple(sorted(plans)) != self.plans:
            count = "another network" if len(networks) == len(self.networks) == 1 else "other networks"
            raise CheckpointError(f"{path} was made for {count} than those of this prediction; {cure}")

    def to_json(self) -> dict[str, Any]:
        """The content of the file."""
        return {
            "schema": CALIBRATION_SCHEMA,
            "volseg": volseg.__version__,
            "networks": list(self.networks),
            "plans": list(self.plans),
            "labels": self.labels,
            "cases": self.cases,
            "patients": self.patients,
            "level": self.level,
            "options": dict(self.options),
            "regions": {name: _region_as_json(one) for name, one in self.regions.items()},
            "scan": {name: list(ends) for name, ends in self.scan.items()},
            "facts": dict(self.facts),
        }

    def save(self, path: Path) -> Path:
        """Write the file, whole or not at all."""
        text = json.dumps(self.to_json(), indent=1, allow_nan=False) + "\n"
        with atomic(path) as partial:
            partial.write_text(text, encoding="utf-8")
        return path


def fit_calibration(
    measured: Sequence[MeasuredCase],
    names: Sequence[str],
    *,
    level: float = LEVEL,
    temperatures: Mapping[str, float] | None = None,
    scalings: Mapping[str, Scaling] | None = None,
    decisions: Mapping[str, Mapping[str, Any]] | None = None,
    checked: bool = True,
    **digests: Any,  # noqa: ANN401 - the other attributes of `Calibration`
) -> Calibration:
    """Calibrate every region by measured cases; the order of the cases does not matter.

    Args:
        measured: Cases that no network of the calibration has trained on.
        names: Names of the regions.
        level: Probability of the bounds, between 0 and 1.
        temperatures: Temperature of each region; 1 by default.
        scalings: Correction of the probabilities for the decision of each region; its temperature by default.
        decisions: Facts of the choice of each region's decision.
        checked: Whether coverage is estimated by leaving out patients by turns.
        digests: Further attributes of `Calibration`.
    """
    regions = {}
    for name in names:
        cases = [(case.patient, case.regions[name]) for case in measured if name in case.regions]
        regions[name] = replace(
            calibrate_region(cases, level=level),
            decision=(decisions or {}).get(name, {"rule": "threshold"}),
            temperature=(temperatures or {}).get(name, 1.0),
            scaling=(scalings or {}).get(name, Scaling((temperatures or {}).get(name, 1.0))),
            checked=check_region(cases, level=level) if checked else {},
        )
    return Calibration(
        **{"networks": (), "plans": (), "labels": "", "cases": "", **digests},
        level=level,
        regions=regions,
        scan=learn_ranges([case.scan for case in measured]),
        patients=len({case.patient for case in measured}),
    )


def find_calibration(checkpoints: Sequence[Path]) -> Path | None:
    """The `calibration.json` beside a checkpoint, or in the ensemble folder of several; None if there is none.

    Args:
        checkpoints: Checkpoint of each network.

    >>> find_calibration([Path("/nowhere/model.pt")]) is None
    True
    """
    folders = {path.resolve().parent for path in checkpoints}
    if len(checkpoints) > 1:
        folders = {folder.parent for folder in folders}
    if len(folders) != 1:
        return None
    path = folders.pop() / CALIBRATION
    return path if path.is_file() else None


def read_calibration(path: str | Path) -> Calibration:
    """Read a `calibration.json`.

    Raises:
        CheckpointError: The file is absent, damaged, or of a newer volseg.
    """
    try:
        content = json.loads(Path(path).read_text(encoding="utf-8"))
        if content["schema"] != CALIBRATION_SCHEMA:
            raise CheckpointError(
                f"{path} must have the schema {CALIBRATION_SCHEMA}, got {content['schema']}; update volseg"
            )
        return Calibration(
            networks=tuple(content["networks"]),
            plans=tuple(content["plans"]),
            labels=str(content["labels"]),
            cases=str(content["cases"]),
            level=float(content["level"]),
            regions={str(name): _region_of_json(one) for name, one in content["regions"].items()},
            scan=_ranges(content["scan"]),
            options=dict(content["options"]),
            patients=int(content["patients"]),
            facts=dict(content["facts"]),
        )
    except FileNotFoundError:
        raise CheckpointError(f"there is no calibration {path}; make it with `volseg calibrate`") from None
    except (KeyError, TypeError, ValueError, AttributeError) as error:
        raise CheckpointError(f"{path} cannot be read ({error}); make it again with `volseg calibrate`") from error


def _region_as_json(one: RegionCalibration) -> dict[str, Any]:
    return {
        "level": one.level,
        "patients": one.patients,
        "cases": one.cases,
        "set_apart": one.set_apart,
        "temperature": one.temperature,
        "scaling": {"temperature": one.scaling.temperature, "shift": one.scaling.shift},
        "decision": dict(one.decision),
        "dice": one.dice.to_json(),
        "volume": one.volume.to_json(),
        "margin": one.margin.to_json(),
        "missed": {"found": list(one.missed_found), "empty": list(one.missed_empty)},
        "ranges": {name: list(ends) for name, ends in one.ranges.items()},
        "checked": dict(one.checked),
    }


def _region_of_json(content: Mapping[str, Any]) -> RegionCalibration:
    found, empty = (
        (float(missed), int(patients)) for missed, patients in (content["missed"][k] for k in ("found", "empty"))
    )
    level, temperature = float(content["level"]), float(content["temperature"])
    if not (0 < level < 1 and 0 < temperature < math.inf):
        raise ValueError(f"level {level:g} and temperature {temperature:g}")
    given = content.get("scaling", {"temperature": temperature})
    scaling = Scaling(**{name: float(value) for name, value in given.items()})
    if not (0 < scaling.temperature < math.inf and math.isfinite(scaling.shift)):
        raise ValueError(f"{scaling}")
    return RegionCalibration(
        level=level,
        patients=int(content["patients"]),
        cases=int(content["cases"]),
        set_apart=int(content["set_apart"]),
        dice=Quantile.from_json(content["dice"]),
        volume=Quantile.from_json(content["volume"]),
        margin=Quantile.from_json(content["margin"]),
        missed_found=found,
        missed_empty=empty,
        ranges=_ranges(content["ranges"]),
        temperature=temperature,
        scaling=scaling,
        decision=dict(content["decision"]),
        checked=dict(content["checked"]),
    )


def _ranges(content: Mapping[str, Any]) -> dict[str, tuple[float, float]]:
    return {str(name): (float(low), float(high)) for name, (low, high) in content.items()}

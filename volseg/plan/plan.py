"""A plan as a file: `plan.json`, whose JSON Schema is `plan.schema.json` beside this module."""

from __future__ import annotations

import json
import logging
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import volseg
from volseg.cohort import Cohort
from volseg.errors import BundleError
from volseg.files import atomic, read_json_object
from volseg.plan.decision import Decision

SCHEMA = "volseg.plan/1"

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class BundlePlan:
    """What a plan says of one bundle.

    Attributes:
        settings: Values of settings of its `train.json`.
        decisions: Decisions that concern this bundle.
        trial: Facts of the measured steps; None if nothing was measured.
        refusal: Sentence on why it cannot take the cohort; empty if it can.
    """

    settings: Mapping[str, Any]
    decisions: tuple[Decision, ...] = ()
    trial: Mapping[str, Any] | None = None
    refusal: str = ""


@dataclass(frozen=True)
class Plan:
    """A plan for a cohort on a machine.

    Attributes:
        cohort: Facts of the cohort: folder, digest, labels digest, channel names.
        machine: Facts of the machine: device, cores, memory, minutes.
        fingerprint: The fingerprint as JSON.
        decisions: Decisions that concern all bundles.
        bundles: Plan of each bundle by name.
        advised: Name of the bundle that is advised; None if none takes the cohort.
        warnings: Sentences.
        version: Version of volseg that made it.
    """

    cohort: Mapping[str, Any]
    machine: Mapping[str, Any]
    fingerprint: Mapping[str, Any]
    decisions: tuple[Decision, ...]
    bundles: Mapping[str, BundlePlan]
    advised: str | None
    warnings: tuple[str, ...] = ()
    version: str = field(default=volseg.__version__)

    def settings(self, bundle: str) -> Mapping[str, Any]:
        """The settings of a bundle.

        Raises:
            BundleError: The plan does not have it, or it cannot take the cohort.
        """
        if bundle not in self.bundles:
            raise BundleError(
                f"the plan is of {', '.join(self.bundles) or 'no bundle'} and not of {bundle}; make one with "
                f"`volseg plan {self.cohort.get('folder', 'COHORT')} --bundle {bundle}`"
            )
        found = self.bundles[bundle]
        if found.refusal:
            raise BundleError(f"{bundle} cannot take the cohort: {found.refusal}")
        return found.settings

    def check(self, cohort: Cohort) -> Plan:
        """Return the plan if it can be of this cohort; log where cases have changed since.

        Raises:
            BundleError: Labels or channels differ.
        """
        if self.cohort.get("labels") != cohort.labels.digest or self.cohort.get("channels") != list(
            cohort.channel_names
        ):
            raise BundleError(
                f"the plan is of {self.cohort.get('folder')}, whose labels or channels differ from those of "
                f"{cohort.folder}; make one with `volseg plan {cohort.folder}`"
            )
        if self.cohort.get("digest") != cohort.digest:
            logger.warning(
                "warning: cases or folds of %s are others than when the plan was made; `volseg plan` makes it anew",
                cohort.folder,
            )
        return self

    def to_json(self) -> dict[str, Any]:
        """The content of `plan.json`."""
        return {
            "schema": SCHEMA,
            "volseg": self.version,
            "cohort": dict(self.cohort),
            "machine": dict(self.machine),
            "advised": self.advised,
            "warnings": list(self.warnings),
            "decisions": [decision.to_json() for decision in self.decisions],
            "bundles": {
                name: {
                    "settings": dict(one.settings),
                    "decisions": [decision.to_json() for decision in one.decisions],
                    "trial": None if one.trial is None else dict(one.trial),
                    "refusal": one.refusal,
                }
                for name, one in self.bundles.items()
            },
            "fingerprint": dict(self.fingerprint),
        }

    def write(self, path: Path) -> None:
        """Write `plan.json`, whole or not at all."""
        with atomic(path) as partial:
            partial.write_text(
                json.dumps(self.to_json(), indent=1, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8"
            )


def is_plan(path: str | Path) -> bool:
    """Whether a file is a plan, of any version.

    >>> is_plan("/nowhere/train.json")
    False
    """
    content = read_json_object(Path(path)) or {}
    return str(content.get("schema", "")).startswith("volseg.plan/")


def read_plan(path: str | Path) -> Plan:
    """Read a `plan.json`.

    Raises:
        BundleError: The file is absent or no plan of this version.
    """
    path = Path(path)
    if path.is_dir():
        path /= "plan.json"
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        raise BundleError(f"there is no plan {path}; make one with `volseg plan COHORT`") from None
    except (ValueError, OSError) as error:
        raise BundleError(f"{path} is no plan ({error}); make one with `volseg plan COHORT`") from error
    if not isinstance(content, dict) or content.get("schema") != SCHEMA:
        raise BundleError(f"{path} must be a plan with the schema {SCHEMA}; make one with `volseg plan COHORT`")
    try:
        return Plan(
            content["cohort"],
            content["machine"],
            content["fingerprint"],
            tuple(map(Decision.from_json, content["decisions"])),
            {
                name: BundlePlan(
                    one["settings"], tuple(map(Decision.from_json, one["decisions"])), one["trial"], one["refusal"]
                )
                for name, one in content["bundles"].items()
            },
            content["advised"],
            tuple(content["warnings"]),
            content["volseg"],
        )
    except (KeyError, TypeError, AttributeError) as error:
        raise BundleError(f"{path} is no whole plan (no {error}); make it again with `volseg plan`") from error

"""A decision of a plan: its value, its reason, and what would change it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from volseg.errors import BundleError


@dataclass(frozen=True)
class Decision:
    """One decision.

    Attributes:
        name: Name, that of the setting of `train.json` if there is one.
        value: Value as JSON has it.
        reason: Sentence on why, with the numbers that it was taken from.
        change: Sentence on what would change it.
    """

    name: str
    value: Any
    reason: str
    change: str

    def to_json(self) -> dict[str, Any]:
        """The decision for `plan.json`."""
        return {"name": self.name, "value": self.value, "reason": self.reason, "change": self.change}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Decision:
        """The inverse of `to_json`.

        Raises:
            BundleError: An entry is missing.
        """
        try:
            return cls(content["name"], content["value"], content["reason"], content["change"])
        except (KeyError, TypeError) as error:
            raise BundleError(
                f"a decision of the plan has no {error}; make the plan again with `volseg plan`"
            ) from error


def shown(value: Any) -> str:  # noqa: ANN401 - any JSON value
    """A value for people.

    >>> shown([1.5, 1.5, 3.0]), shown([]), shown(True), shown(0.25), shown(None)
    ('1.5 x 1.5 x 3', 'none', 'yes', '0.25', 'none')
    """
    if value is None or value == [] or value == {}:
        return "none"
    if isinstance(value, bool):
        return "yes" if value else "no"
    if isinstance(value, float):
        return f"{value:.6g}"
    if isinstance(value, Mapping):
        return ", ".join(f"{name} {shown(one)}" for name, one in value.items())
    if isinstance(value, (list, tuple)):
        simple = all(isinstance(one, (int, float)) for one in value)
        return (" x " if simple else ", ").join(shown(one) for one in value)
    return str(value)

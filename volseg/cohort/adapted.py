"""What adapted networks have seen, as a predictions folder states it, and the refusal to score such cases."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.cohort.folder import Cohort
from volseg.cohort.sessions import check_order, sessions_of
from volseg.errors import CohortError, UsageError, naming

ADAPTED = "adapted"
"""Entry of a recipe's facts, and of the `volseg` object of the `dataset.json` beside predictions."""


@dataclass(frozen=True)
class Adaptation:
    """The sessions of one patient that a network was adapted on.

    Attributes:
        patient: The patient, a pseudonymous key as everywhere.
        sessions: Names of the sessions, the earliest first.
        keys: Keys of the cases.
        cases: Keys of the cases that it has predicted; None for all of a folder.
    """

    patient: str
    sessions: tuple[str, ...]
    keys: tuple[str, ...]
    cases: tuple[str, ...] | None = None

    def to_json(self) -> dict[str, Any]:
        """The content for a file."""
        cases = {} if self.cases is None else {"cases": list(self.cases)}
        return {"patient": self.patient, "sessions": list(self.sessions), "keys": list(self.keys), **cases}

    @classmethod
    def from_json(cls, content: Mapping[str, Any]) -> Adaptation:
        """The inverse of `to_json`."""
        cases = content.get("cases")
        return cls(
            str(content["patient"]),
            tuple(map(str, content["sessions"])),
            tuple(map(str, content["keys"])),
            None if cases is None else tuple(map(str, cases)),
        )


def adaptations_of(predictions: Path) -> list[Adaptation]:
    """The adaptations that the `dataset.json` of a predictions folder states; none if it states none.

    Raises:
        CohortError: It states adaptations of no known form.
    """
    path = predictions / "dataset.json"
    try:
        stated = json.loads(path.read_text(encoding="utf-8-sig"))["volseg"][ADAPTED]
    except (OSError, ValueError, KeyError, TypeError):
        return []
    try:
        return [Adaptation.from_json(one) for one in stated]
    except (KeyError, TypeError) as error:
        raise CohortError(
            f'{path} does not tell what its networks were adapted on: "{ADAPTED}" is {stated!r}; predict again'
        ) from error


def check_unseen(predictions: Path, cohort: Cohort, keys: Iterable[str]) -> None:
    """Refuse to score a case that its network was adapted on, or that lies before a session that it was adapted on.

    Args:
        predictions: Folder of the predictions.
        cohort: Cohort of the references, whose table orders the sessions.
        keys: Keys of the cases to score.

    Raises:
        UsageError: There is such a case; the message names it.
        CohortError: The names of the sessions of an adapted network's patient tell no order of time.
    """
    told = adaptations_of(predictions)
    if not told:
        return
    sessions = sessions_of(cohort.rows.values())
    for key in keys:
        row = cohort.rows.get(key)
        for one in told:
            if one.cases is not None and key not in one.cases:
                continue
            if key in one.keys:
                raise UsageError(
                    f"{key} was predicted by a network that was adapted on it, so its score would say nothing; leave "
                    f"it out, or predict it with one adapted before that session"
                )
            if row is None or row.patient != one.patient:
                continue
            own = sessions.get(row.patient, [])
            with naming(key):
                check_order(row.patient, own)
            place = next(number for number, session in enumerate(own) if key in session.keys)
            late = [session.name for session in own[place:] if set(session.keys) & set(one.keys)]
            if late:
                raise UsageError(
                    f"{key} lies before or on the session {late[-1]} that its network was adapted on; score later "
                    "sessions alone, or predict it with one adapted before"
                )

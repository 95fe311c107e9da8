"""Where adapted networks lie, and which of them may predict a case."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from pathlib import Path

from volseg.cohort.adapted import Adaptation
from volseg.cohort.folder import Cohort
from volseg.cohort.sessions import is_ordered, sessions_of
from volseg.cohort.table import CaseRow
from volseg.errors import UsageError, first_names
from volseg.files import read_json_object


def adapted_path(run: Path, patient: str, session: str) -> Path:
    """The checkpoint of a network adapted to a patient up to a session.

    >>> adapted_path(Path("run"), "case401", "day8").as_posix()
    'run/adapted/case401/after_day8.pt'
    >>> adapted_path(Path("run"), "Müller", "day8") == adapted_path(Path("run"), "Möller", "day8")
    False
    """
    return run / "adapted" / _word(patient) / f"after_{_word(session) or 'only'}.pt"


def _word(name: str) -> str:
    """The name of a patient or session as that of a file; a name with other letters keeps its own by a digest."""
    plain = re.sub(r"[^A-Za-z0-9._-]", "_", name)
    return plain if plain == name else f"{plain}-{hashlib.sha256(name.encode()).hexdigest()[:8]}"


def adapted_networks(folder: Path) -> dict[Path, Adaptation]:
    """The adapted networks below a folder: a run, its `adapted`, or one patient's.

    Raises:
        UsageError: There is none, or they are of several runs, of which one may have trained on the patient itself.
    """
    found = {}
    for path in sorted(folder.rglob("after_*.json")):
        told, network = read_json_object(path), path.with_suffix(".pt")
        if told is not None and network.is_file():
            found[network] = Adaptation.from_json(told)
    if not found:
        raise UsageError(f"{folder} holds no adapted network; make one with `volseg adapt RUN COHORT --patient P`")
    runs = sorted({str(path.resolve().parents[2]) for path in found})  # RUN/adapted/PATIENT/after_SESSION.pt
    if len(runs) > 1:
        raise UsageError(
            f"{folder} must hold the adapted networks of one run, got those of {first_names(runs)}; name the one that "
            "--checkpoint is of"
        )
    return found


def network_for(row: CaseRow, networks: Mapping[Path, Adaptation], cohort: Cohort) -> Path | None:
    """The network that was adapted to the case's patient on most of the sessions before the case, and on no other.

    None if there is none, or if the names of the patient's sessions tell no order of time.

    Args:
        row: Case to predict.
        networks: Adapted networks, see `adapted_networks`.
        cohort: Cohort that orders the sessions.
    """
    mine = {path: told for path, told in networks.items() if told.patient == row.patient}
    if not mine:
        return None
    rows = {other.key: other for other in cohort.rows.values() if other.patient == row.patient}
    own = sessions_of({**rows, row.key: row}.values())[row.patient]
    if not is_ordered(own):
        return None
    place = next(number for number, session in enumerate(own) if row.key in session.keys)
    earlier = {key for session in own[:place] for key in session.keys}
    fitting = [(len(told.keys), path) for path, told in mine.items() if set(told.keys) <= earlier]
    return max(fitting)[1] if fitting else None

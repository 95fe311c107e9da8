"""What to adapt, and how."""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from pathlib import Path

from volseg.cohort import Adaptation, Cohort, Session, adapted_path, check_order, sessions_of
from volseg.errors import UsageError

LAYERS = ("all", "decoder", "norms", "norms+head")


@dataclass(frozen=True)
class Adapting:
    """What to adapt, and how.

    Attributes:
        run: Folder of a training, with `model.pt` and `train.json`.
        bundle: Name or folder of its bundle; None for the one that `train.json` states.
        cohort: Cohort with the patient's earlier days.
        patient: Patient.
        before: Session of the patient that no day on or after is learnt from; None for all days.
        minutes: Minutes of training; reading and resampling come before.
        steps: Number of steps after which it ends, whatever the time; None for `minutes`.
        layers: Layers that learn: `all`, `decoder` (the later half), `norms` or `norms+head`, the layers that give a
            channel per region too.
        base_share: Share of the windows that come from other patients, against forgetting, 0 to below 1.
        seed: Seed of the windows.
        device: Device; None for the best.
        cache_dir: Folder of the alignments; None for the cohort's own.
    """

    run: Path
    cohort: Cohort
    patient: str
    bundle: str | Path | None = None
    before: str | None = None
    minutes: float = 3.0
    steps: int | None = None
    layers: str = "all"
    base_share: float = 0.5
    seed: int = 0
    device: str | None = None
    cache_dir: Path | None = None

    def __post_init__(self) -> None:
        if self.layers not in LAYERS:
            raise UsageError(f"--layers must be one of {', '.join(LAYERS)}, got {self.layers!r}")
        if not 0 < self.minutes < math.inf:
            raise UsageError(f"--minutes must be a number above 0, got {self.minutes!r}")
        if self.steps is not None and self.steps < 1:
            raise UsageError(f"--steps must be a number from 1 on, got {self.steps!r}")
        if not 0 <= self.base_share < 1:
            raise UsageError(f"--base-share must be from 0 to below 1, got {self.base_share!r}")

    @property
    def sessions(self) -> list[Session]:
        """The sessions that are learnt from, with a label and not kept for a test, the earliest first.

        Raises:
            UsageError: There is no such patient or session, or no labelled day before it.
            CohortError: There is a `before`, and the names of the sessions tell no order of time.
        """
        rows = self.cohort.rows.values()
        own = sessions_of(rows).get(self.patient)
        if own is None:
            some = ", ".join(sorted({row.patient for row in rows})[:3])
            raise UsageError(f"{self.cohort.folder} has no patient {self.patient}; name one such as {some}")
        if self.before is not None:
            names = [one.name for one in own]
            if self.before not in names:
                raise UsageError(
                    f"{self.patient} has the sessions {', '.join(names)}, and no {self.before}; name one of them"
                )
            own = [one for one in own if one.name == self.before or self.cohort.labelled.intersection(one.keys)]
            check_order(self.patient, own)
            own = own[: [one.name for one in own].index(self.before)]
        learnt = {key for key in self.cohort.labelled if not self.cohort.rows[key].test}
        found = [replace(one, keys=tuple(key for key in one.keys if key in learnt)) for one in own]
        found = [one for one in found if one.keys]
        if not found:
            when = f" before {self.before}" if self.before is not None else ""
            raise UsageError(f"{self.patient} has no session with a label{when}, so there is nothing to adapt on")
        return found

    @property
    def adaptation(self) -> Adaptation:
        """What the network will have seen."""
        sessions = self.sessions
        return Adaptation(
            self.patient, tuple(one.name for one in sessions), tuple(key for one in sessions for key in one.keys)
        )

    @property
    def target(self) -> Path:
        """The checkpoint to write: `RUN/adapted/PATIENT/after_SESSION.pt`."""
        return adapted_path(self.run, self.patient, self.sessions[-1].name)

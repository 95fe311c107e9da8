"""Which case a client is to look at next, so that two clients are never given the same one."""

from __future__ import annotations

import threading
import time
from collections.abc import Collection, Mapping, Sequence
from pathlib import Path

import numpy as np

from volseg.cohort import Cohort, corrected_keys
from volseg.deploy.corrections.choice import Candidate, choose
from volseg.deploy.corrections.expected import expected_mm, lacking_dice, read_promises
from volseg.deploy.corrections.likeness import Likeness
from volseg.deploy.serve.described import Described
from volseg.labels import LabelMatch

STRATEGIES = {
    "review": "Most Dice to be won per mm of contour first, among the cases that were predicted; else any",
    "random": "Any case without a label",
}


class NextCases:
    """The cases that clients were given, and the choice of the next one.

    Args:
        predictions: Folder of the predictions.
        match: Regions that the cohort and the network share.
        lease_s: Seconds for which a case that one client was given is given to no other.
    """

    def __init__(self, predictions: Path, match: LabelMatch, *, lease_s: float) -> None:
        self._predictions = predictions
        self._match = match
        self._lease_s = lease_s
        self._lock = threading.Lock()
        self._given: dict[str, tuple[str, float]] = {}

    def next(self, cohort: Cohort, described: Mapping[str, Described], client: str) -> str:
        """Key of the case that a client is given; empty if there is none.

        Args:
            cohort: Cohort as it is now.
            described: Cases by which `review` chooses; without any the case is drawn.
            client: Name of the client; empty if it gave none.
        """
        tests = {key for key, row in cohort.rows.items() if row.test}
        done = cohort.labelled | set(corrected_keys(cohort.folder)) | tests
        with self._lock:
            now = time.monotonic()
            fresh = {key: (who, at) for key, (who, at) in self._given.items() if now - at < self._lease_s}
            # Clients without a name are not told apart: each question of theirs counts as another client's.
            taken = {key for key, (who, _) in fresh.items() if not client or who != client}
            keys = [key for key in cohort.keys if key not in done and key not in taken]
            if not keys and not client:  # rather the case of the oldest nameless question than none
                nameless = [key for key, (who, _) in fresh.items() if not who and key not in done]
                keys = sorted(nameless, key=lambda key: fresh[key][1])[:1]
            if not keys:
                return ""
            key = keys[int(np.random.default_rng(int(now * 1000) % 2**32).integers(len(keys)))]
            if described:
                key = self._first(cohort, keys, described, taken) or key
            self._given[key] = (client, now)
        return key

    def remove(self, key: str) -> None:
        """Forget to whom a case was given, as its label is home."""
        with self._lock:
            self._given.pop(key, None)

    def _first(
        self, cohort: Cohort, keys: Sequence[str], described: Mapping[str, Described], taken: Collection[str]
    ) -> str | None:
        """The case of most Dice to be won per mm among those that were predicted; None if none was.

        A case counts less the more of its like is labelled, or taken by another client: that is known soon.
        """
        known = [key for key, one in described.items() if one.numbers and (one.labelled or key in taken)]
        found = {key: described[key].extents for key in keys if key in described and not described[key].labelled}
        promised = read_promises(self._predictions, found, self._match.pairs)
        lacking = {key: lacking_dice(promises, 1.0) for key, promises in promised.items()}
        mm = expected_mm(found, lacking)
        cases = [Candidate(key, cohort.patient(key), mm[key], lacking[key]) for key in found]
        likeness = Likeness({key: one.numbers for key, one in described.items() if one.numbers})
        return choose(cases, budget=1, likeness=likeness, known=known)[0].candidate.key if cases else None

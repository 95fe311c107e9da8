"""Data that are not the user's own: the phantom, public data sets, the cohort that bundles train on by default."""

from __future__ import annotations

from volseg.datasets.catalogue import PUBLISHED, Published, find
from volseg.datasets.embedded import PackageCohort, open_cohort
from volseg.datasets.fetching import fetch
from volseg.datasets.phantom import LABELS, phantom_case, write_phantom

__all__ = [
    "LABELS",
    "PUBLISHED",
    "PackageCohort",
    "Published",
    "fetch",
    "find",
    "open_cohort",
    "phantom_case",
    "write_phantom",
]

"""Data that are not the user's own: the phantom, public data sets, the cohort that bundles train on by default."""

from __future__ import annotations

from volseg.datasets.catalogue import PUBLISHED, Published, find
from volseg.datasets.embedded import PackageCohort, open_cohort
from volseg.datasets.fetching import fetch
from volseg.datasets.networks import catalogue_of_networks, find_network, read_networks, write_networks
from volseg.datasets.phantom import LABELS, phantom_case, write_phantom

__all__ = [
    "LABELS",
    "PUBLISHED",
    "PackageCohort",
    "Published",
    "catalogue_of_networks",
    "fetch",
    "find",
    "find_network",
    "open_cohort",
    "phantom_case",
    "read_networks",
    "write_networks",
    "write_phantom",
]

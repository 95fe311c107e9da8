"""volseg: volumetric medical image segmentation on MONAI, from slices to a Dice report."""

from __future__ import annotations

import importlib
from types import ModuleType

__version__ = "0.1.0"

# The rooms, opened at first use: `import volseg` is instant, and a bundle's JSON reaches all of them by one import.
_ROOMS = frozenset(
    {"bundle", "case", "cleanup", "cohort", "conversion", "decision", "engines", "errors", "evaluation", "export"}
    | {"fetch", "fleet", "geometry", "inference", "inspection", "labels", "metrics", "native", "networks", "packing"}
    | {"recipe", "remote", "report", "rle", "sources", "training", "transforms", "volume", "working_grid"}
)


def __getattr__(name: str) -> ModuleType:
    if name in _ROOMS:
        return importlib.import_module(f"volseg.{name}")
    raise AttributeError(f"module 'volseg' has no attribute {name!r}")

"""The facts of a recipe as they are given away, with a package or a file of tensors."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

_WEIGHTS_OF = "weights of "  # how `volseg.training.start_from` begins the initialisation


def without_folders(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for publication: of a path only the last part is kept.

    That is done with the folder of the cohort, the file of the weights that the training began with, and any absolute
    path.

    >>> without_folders({"cohort": "patients/liver", "weights": "/home/ann/mit-b0", "fold": 0})
    {'cohort': 'liver', 'weights': 'mit-b0', 'fold': 0}
    >>> without_folders({"initialisation": "weights of /home/ann/patients/liver.pt"})
    {'initialisation': 'weights of liver.pt'}
    """
    return {key: _last_part(key, fact) if isinstance(fact, str) else fact for key, fact in facts.items()}


def _last_part(key: str, text: str) -> str:
    if key == "initialisation" and text.startswith(_WEIGHTS_OF):
        return f"{_WEIGHTS_OF}{PureWindowsPath(text.removeprefix(_WEIGHTS_OF)).name}"
    for kind in (PureWindowsPath, PurePosixPath):
        path = kind(text)
        if path.is_absolute() or (key == "cohort" and len(path.parts) > 1):
            return path.name
    return text

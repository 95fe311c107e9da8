"""A bundle and its trained network as one package in the layout of MONAI's model zoo."""

from __future__ import annotations

from volseg.deploy.pack.card import read_card
from volseg.deploy.pack.exports import FORMATS
from volseg.deploy.pack.package import pack, refresh

__all__ = [
    "FORMATS",
    "pack",
    "read_card",
    "refresh",
]

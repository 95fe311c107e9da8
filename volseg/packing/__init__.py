"""A bundle and its trained network as one package in the layout of MONAI's model zoo."""

from volseg.packing.exports import FORMATS
from volseg.packing.package import pack

__all__ = ["FORMATS", "pack"]

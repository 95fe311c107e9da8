"""Networks that MONAI does not have, and the settings that fit its networks to a cohort."""

from __future__ import annotations

from volseg import names_of_before
from volseg.networks.architecture import narrow_head, settings_of
from volseg.networks.dense_unet import DenseUNet
from volseg.networks.in_plane import in_plane
from volseg.networks.slicewise import SlicewiseNetwork

__all__ = [
    "DenseUNet",
    "SlicewiseNetwork",
    "in_plane",
    "narrow_head",
    "settings_of",
]

__getattr__ = names_of_before(__name__)

"""Networks that MONAI does not have, and the settings that fit its networks to a cohort."""

from __future__ import annotations

from volseg.networks.architecture import narrow_head, settings_of
from volseg.networks.dense_unet import DenseUNet
from volseg.networks.in_plane import in_plane
from volseg.networks.pyramid import Pyramid, fit_divisor, fit_pyramid
from volseg.networks.slicewise import SlicewiseNetwork

__all__ = [
    "DenseUNet",
    "Pyramid",
    "SlicewiseNetwork",
    "fit_divisor",
    "fit_pyramid",
    "in_plane",
    "narrow_head",
    "settings_of",
]

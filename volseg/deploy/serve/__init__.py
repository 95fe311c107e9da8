"""A server that the plug-in of MONAI Label for 3D Slicer speaks to: a cohort, its predictions, labels and training."""

from __future__ import annotations

from volseg.deploy.serve.app import make_app
from volseg.deploy.serve.networks import GivenNetworks, given_networks
from volseg.deploy.serve.rounds import Rounds, served_note
from volseg.deploy.serve.service import Service
from volseg.deploy.serve.sessions import NotFoundError
from volseg.deploy.serve.training import BusyError, Training, volseg_command

__all__ = [
    "BusyError",
    "GivenNetworks",
    "NotFoundError",
    "Rounds",
    "Service",
    "Training",
    "given_networks",
    "make_app",
    "served_note",
    "volseg_command",
]

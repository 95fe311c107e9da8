"""Day after day: a patient's own network from his earlier days, and the benchmark of priors and adapted networks."""

from __future__ import annotations

from volseg.days.adaptation import LAYERS, Adapting, adapt
from volseg.days.folder import adapted_networks, adapted_path, network_for

__all__ = ["LAYERS", "Adapting", "adapt", "adapted_networks", "adapted_path", "network_for"]

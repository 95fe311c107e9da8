"""The rule of intensities: how each channel is normalised, from its name, checked against what it holds."""

from __future__ import annotations

from typing import Any

from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint, Intensities
from volseg.volume import scheme_of_channel

_AIR_HU = -500.0  # a CT holds air below it, unless it was cropped to the body
_LEAST_HU = -1100.0
_WHY = {
    "ct": "named as CT: one range for the whole cohort",
    "pet": "a quantity whose proportions count: scaled, never cut",
    "rgb": "a colour: by channel",
    "none": "its name asks for none",
}


def plan_normalisation(facts: Fingerprint) -> Decision:
    """The scheme of each channel, see `volseg.volume.ChannelNormalisation`, with the numbers of the cohort for `ct`.

    Args:
        facts: Fingerprint.

    Returns:
        A decision whose value has an entry per channel: `scheme`, and for `ct` `lower` and `upper`, `mean` and `std`
        inside the regions. 0.5 and 99.5 % of the voxels inside the regions lie below the limits, and no region, however
        small, has more of its voxels beyond them.
    """
    chosen: list[dict[str, Any]] = []
    told = []
    for number, name in enumerate(facts.channel_names):
        inside = facts.foreground[number] if facts.foreground else None
        outside = facts.background[number] if facts.background else None
        scheme, why = _scheme(name, inside, outside)
        entry: dict[str, Any] = {"scheme": scheme}
        if scheme == "ct" and inside is not None:
            found = [region.intensities[number] for region in facts.regions if region.intensities]
            each = [inside, *(one for one in found if one is not None)]
            lower, upper = min(one.quantiles[0] for one in each), max(one.quantiles[-1] for one in each)
            entry |= {"lower": lower, "upper": upper, "mean": inside.mean, "std": max(inside.std, 1e-8)}
            why += f", {lower:.4g} to {upper:.4g} inside the regions, mean {inside.mean:.4g}"
        elif scheme == "ct":
            why += ", measured when the training starts: no labelled image was read"
        chosen.append(entry)
        told.append(f"{name}: {entry['scheme']} ({why})")
    return Decision("normalisation", chosen, "; ".join(told), "--normalisation, a scheme per channel by commas")


def _scheme(name: str, inside: Intensities | None, outside: Intensities | None) -> tuple[str, str]:
    found = scheme_of_channel(name)
    if found in (None, "mr"):
        if _is_hounsfield(inside, outside):
            return "mr", "by its own mean and deviation; it holds values as a CT does: name it CT if it is one"
        return "mr", "by the mean and deviation of the body of each image"
    if found == "ct" and inside is not None and not _is_hounsfield(inside, outside):
        low = min(one.quantiles[0] for one in (inside, outside) if one is not None)
        high = max(one.quantiles[-1] for one in (inside, outside) if one is not None)
        if low >= 0 and high <= 255:
            return "mr", f"named as CT, but its values from {low:.4g} to {high:.4g} are no Hounsfield units"
    return found, _WHY.get(found, "its name asks for it")


def _is_hounsfield(inside: Intensities | None, outside: Intensities | None) -> bool:
    """Whether values reach down to air and not far below: no other modality does."""
    low = min((one.quantiles[0] for one in (inside, outside) if one is not None), default=0.0)
    return _LEAST_HU <= low <= _AIR_HU

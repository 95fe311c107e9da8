"""The rule of intensities: how each channel is normalised, from its name, checked against what it holds."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint, Intensities

_AIR_HU = -500.0  # a CT holds air below it, unless it was cropped to the body
_LEAST_HU = -1100.0
_WORDS: Mapping[str, frozenset[str]] = {
    "ct": frozenset({"ct", "cta", "cect", "ncct", "ldct", "cbct", "hu"}),
    "pet": frozenset(
        {"pet", "pt", "suv", "spect", "nm", "adc", "dose", "cbf", "cbv", "mtt", "tmax", "t1map", "t2map", "ki"}
    ),
    "rgb": frozenset({"rgb", "red", "green", "blue", "r", "g", "b", "alpha"}),
    "none": frozenset({"nonorm", "nonormalization", "nonormalisation", "mask", "probability"}),
}


def plan_normalisation(facts: Fingerprint) -> Decision:
    """The scheme of each channel: `ct`, `mr`, `pet`, `rgb` or `none`, with the numbers of the cohort for `ct`.

    Args:
        facts: Fingerprint.

    Returns:
        A decision whose value has an entry per channel: `scheme`, and for `ct` `lower` and `upper` (0.5 and 99.5 % of
        the voxels inside regions lie below), `mean` and `std`.
    """
    chosen: list[dict[str, Any]] = []
    told = []
    for number, name in enumerate(facts.channel_names):
        inside = facts.foreground[number] if facts.foreground else None
        outside = facts.background[number] if facts.background else None
        scheme, why = _scheme(name, inside, outside)
        entry: dict[str, Any] = {"scheme": scheme}
        if scheme == "ct" and inside is not None:
            lower, upper = inside.quantiles[0], inside.quantiles[-1]
            entry |= {"lower": lower, "upper": upper, "mean": inside.mean, "std": max(inside.std, 1e-8)}
            why += f", {lower:.4g} to {upper:.4g} inside the regions, mean {inside.mean:.4g}"
        elif scheme == "ct":
            entry, why = {"scheme": "mr"}, "named as CT, but no labelled image was read that tells its range in regions"
        chosen.append(entry)
        told.append(f"{name}: {entry['scheme']} ({why})")
    return Decision("normalisation", chosen, "; ".join(told), "--normalisation, a scheme per channel by commas")


def _scheme(name: str, inside: Intensities | None, outside: Intensities | None) -> tuple[str, str]:
    words = {word for word in re.split(r"[\W_]+", name.casefold()) if word}
    found = next((scheme for scheme, known in _WORDS.items() if words & known), None)
    if found is None:
        if _is_hounsfield(inside, outside):
            return "mr", "by its own mean and deviation; it holds values as a CT does: name it CT if it is one"
        return "mr", "by the mean and deviation of each image"
    if found == "ct" and inside is not None and not _is_hounsfield(inside, outside):
        low = min(one.quantiles[0] for one in (inside, outside) if one is not None)
        high = max(one.quantiles[-1] for one in (inside, outside) if one is not None)
        if low >= 0 and high <= 255:
            return "mr", f"named as CT, but its values from {low:.4g} to {high:.4g} are no Hounsfield units"
    why = {
        "ct": "named as CT: one range for the whole cohort",
        "pet": "a quantity whose proportions count: divided, never cut",
        "rgb": "a colour: by channel",
        "none": "its name asks for none",
    }
    return found, why[found]


def _is_hounsfield(inside: Intensities | None, outside: Intensities | None) -> bool:
    """Whether values reach down to air and not far below: no other modality does."""
    low = min((one.quantiles[0] for one in (inside, outside) if one is not None), default=0.0)
    return _LEAST_HU <= low <= _AIR_HU

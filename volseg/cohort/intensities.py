"""What the intensities of a cohort tell against the names of its channels."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from volseg.volume import body_statistics, scheme_of_channel

_UPTAKE = {"pet", "pt", "suv", "suvbw", "suvlbm", "fdg", "psma", "bqml"}
_UNITS_APART = 20.0
"""Factor between the bodies of two PET scans above which they are not of one unit."""
_SLIGHTLY = 0.01
"""Fraction of the highest uptake down to which negative values are noise of a reconstruction."""
_AIR_HU = -900.0
"""Value in Hounsfield units that air reaches and soft tissue does not."""


@dataclass(frozen=True)
class ChannelRange:
    """What is measured of one channel of one case: its lowest and highest value, and the mean of its body."""

    low: float
    high: float
    body: float


def range_of(voxels: NDArray[Any]) -> ChannelRange:
    """Measure a volume of finite values, see `volseg.volume.body_statistics`."""
    low, high = float(voxels.min()), float(voxels.max())
    return ChannelRange(low, high, body_statistics(voxels, low=low)[0])


def intensity_notes(
    channel_names: Sequence[str],
    ranges: Mapping[str, Mapping[int, ChannelRange]],
    *,
    schemes: Sequence[str] | None = None,
) -> list[str]:
    """What is doubtful about the intensities of a cohort's channels, one sentence each.

    Args:
        channel_names: Names of the channels.
        ranges: Measured channels by number, for each case by key.
        schemes: Scheme of each channel; by default what its name asks for.
    """
    notes = []
    for number, name in enumerate(channel_names):
        of_cases = {key: found[number] for key, found in ranges.items() if number in found}
        scheme = schemes[number] if schemes is not None else scheme_of_channel(name) or "mr"
        told = f"channel {number} ({name})"
        if flat := [key for key, one in of_cases.items() if one.low == one.high]:
            notes.append(f"{told} has one value everywhere in {_of(flat, of_cases)}: a network sees nothing in it")
        varied = {key: one for key, one in of_cases.items() if one.low < one.high}
        notes += [f"{told} {note}" for check in _CHECKS.get(scheme, ()) for note in check(name, varied)]
    return notes


def _ct(name: str, ranges: Mapping[str, ChannelRange]) -> list[str]:  # noqa: ARG001 - as every check
    high = [key for key, one in ranges.items() if one.low >= 0]
    if not high:
        return []
    return [
        f"is never below 0 in {_of(high, ranges)}, and Hounsfield units are about -1000 in air and -100 in fat: values "
        "that were shifted or scaled are clipped wrongly; convert them to Hounsfield units, or train with "
        "--normalisation MR"
    ]


def _pet(name: str, ranges: Mapping[str, ChannelRange]) -> list[str]:
    notes = []
    uptake = bool(_UPTAKE & set(re.findall(r"[a-z]+", name.casefold())))
    negative = [key for key, one in ranges.items() if one.low < -_SLIGHTLY * max(one.high, 0.0)]
    if uptake and negative:
        notes.append(
            f"is below 0 in {_of(negative, ranges)}, and uptake is not: were these values normalised before, or is "
            "this another modality?"
        )
    bodies = {key: one.body for key, one in ranges.items() if one.body > 0}
    if bodies and max(bodies.values()) > _UNITS_APART * min(bodies.values()):
        low, high = min(bodies, key=lambda key: bodies[key]), max(bodies, key=lambda key: bodies[key])
        notes.append(
            f"has a mean of {bodies[low]:.3g} in the body of {low} and of {bodies[high]:.3g} in {high}: one scale "
            "cannot serve both; convert all to one unit (such as SUV), or train with --normalisation MR"
        )
    return notes


def _rgb(name: str, ranges: Mapping[str, ChannelRange]) -> list[str]:  # noqa: ARG001 - as every check
    other = [key for key, one in ranges.items() if one.low < 0 or one.high > 255]
    return [f"has values outside 0 to 255 in {_of(other, ranges)}, and a colour of 8 bits has none"] if other else []


def _mr(name: str, ranges: Mapping[str, ChannelRange]) -> list[str]:  # noqa: ARG001 - as every check
    air = [key for key, one in ranges.items() if -1.5e4 < one.low <= _AIR_HU and 100 < one.high < 3.5e4]
    if not air or 2 * len(air) < len(ranges):
        return []
    return [
        f"reaches {max(ranges[key].low for key in air):g} or less in {_of(air, ranges)}, as Hounsfield units do in "
        'air: if this is CT, call it "CT" in dataset.json, or train with --normalisation CT'
    ]


_CHECKS: dict[str, tuple[Callable[[str, Mapping[str, ChannelRange]], list[str]], ...]] = {
    "ct": (_ct,),
    "pet": (_pet,),
    "rgb": (_rgb,),
    "mr": (_mr,),
    "zscore": (_mr,),
}


def _of(keys: Sequence[str], among: Mapping[str, object]) -> str:
    """`2 of 40 cases (a, b)`."""
    shown = ", ".join(keys[:3]) + (", ..." if len(keys) > 3 else "")
    return f"{len(keys)} of {len(among)} {'case' if len(among) == 1 else 'cases'} ({shown})"

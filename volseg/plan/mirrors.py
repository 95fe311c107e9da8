"""The rule of mirroring: only along axes along which the cohort is symmetric."""

from __future__ import annotations

import re
from collections.abc import Sequence

from volseg.cohort import AXIS_NAMES
from volseg.plan.decision import Decision
from volseg.plan.fingerprint import Fingerprint
from volseg.volume import scheme_of_channel

_SYMMETRIC = 0.85  # overlap of a region's profile with the mirrored one
_FEWEST = 8  # cases from which a profile counts
_MICROSCOPE_MM = 0.1
_SIDES = re.compile(r"(^|[\W_])((left|right|links|rechts|lt|rt)($|[\W_\d])|[lr]($|[\W_]))", re.IGNORECASE)
_WITHIN = re.compile(r"(?<!c)left|(?<![bp])right", re.IGNORECASE)  # as in leftlung, but not in cleft and bright
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # KidneyL, LLung
_NUMBERED = re.compile(r"(^|[\W_])([lr])\d", re.IGNORECASE)  # sides too if both letters occur; L4 alone is a vertebra
# Parts of the words of organs of the trunk, where no organ lies on both sides alike.
_TRUNK = (
    *("bowel", "colon", "rectum", "stomach", "liver", "spleen", "pancreas", "duoden", "gallbladder", "kidney", "renal"),
    *("adrenal", "aorta", "cava", "esophag", "oesophag", "heart", "atri", "ventric", "myocard", "hepat", "splen"),
)
_NO_TRUNK = re.compile(r"matri(x|ces)|(lateral|third|fourth|3rd|4th|cerebr|brain)\w*[\W_]*ventric", re.IGNORECASE)


def plan_flip_axes(facts: Fingerprint) -> Decision:
    """The axes along which windows are mirrored half of the time.

    Nothing is mirrored if a region is named left or right, or is an organ of the trunk. Else right and left are, if the
    voxels of each region lie on both sides alike over at least eight cases; the axes of a slice of a microscope, which
    have no direction in a body, likewise. Front and back, head and feet of a body never are.

    Args:
        facts: Fingerprint.
    """
    held = [region for region in facts.regions if region.cases]
    names = [region.name for region in facts.regions]
    sided = sided_names(names)
    trunk = [name for name in names if any(word in _NO_TRUNK.sub("", name.casefold()) for word in _TRUNK)]
    if sided:
        return _none(
            f"{sided[0]} names a side of the body, and a mirrored image would show the other", "names without a side"
        )
    if trunk:
        return _none(
            f"{trunk[0]} is an organ of the trunk, which is not symmetric", "--flip_axes '[0]', if that is wrong"
        )
    fewest = min((region.cases for region in held), default=0)
    if fewest < _FEWEST:
        return _none(
            f"a region was seen in {fewest} cases, and it takes {_FEWEST} to tell whether the cohort is symmetric",
            "more labelled cases",
        )
    microscope = (
        facts.flat and max(mm for mm, n in zip(facts.spacing_mm, facts.shape, strict=True) if n > 1) < _MICROSCOPE_MM
    )
    coloured = all(scheme_of_channel(name) == "rgb" for name in facts.channel_names)  # not slices of three MR sequences
    microscope = microscope or (facts.flat and coloured)
    allowed = [axis for axis in range(3) if facts.shape[axis] > 1] if microscope else [0]
    found = {axis: min(region.symmetry[axis] for region in held) for axis in allowed if facts.shape[axis] > 1}
    axes = [axis for axis, overlap in found.items() if overlap >= _SYMMETRIC]
    if not axes:
        told = "; ".join(f"{AXIS_NAMES[axis]} {100 * overlap:.0f} %" for axis, overlap in found.items()) or "no axis"
        return _none(
            f"the voxels of a region and their mirror image overlap too little ({told}; "
            f"{100 * _SYMMETRIC:.0f} % count)",
            "--flip_axes '[0]', if both sides look alike",
        )
    told = ", ".join(f"{AXIS_NAMES[axis]} {100 * found[axis]:.0f} %" for axis in axes)
    return Decision(
        "flip_axes",
        axes,
        f"no region is named after a side, and over {fewest} cases each lies on both sides alike (overlap with its "
        f"mirror image: {told})",
        "a region named left or right, or --flip_axes []",
    )


def sided_names(names: Sequence[str]) -> list[str]:
    """The names that tell a side of the body, which a mirrored image would exchange.

    Args:
        names: Names of regions.

    >>> sided_names(["kidney_L", "lung left2", "vertebra L4", "clear"]), sided_names(["L1", "R1"])
    (['kidney_L', 'lung left2'], ['L1', 'R1'])
    >>> sided_names(["LeftHand", "handR", "rightlung", "cleft", "MRlesion"])
    ['LeftHand', 'handR', 'rightlung']
    """
    numbered = {name: found[2].casefold() for name in names if (found := _NUMBERED.search(name))}
    both = len(set(numbered.values())) > 1

    def is_sided(name: str) -> bool:
        return bool(_SIDES.search(_CAMEL.sub(" ", name)) or _WITHIN.search(name)) or (both and name in numbered)

    return [name for name in names if is_sided(name)]


def _none(reason: str, change: str) -> Decision:
    return Decision("flip_axes", [], reason, change)

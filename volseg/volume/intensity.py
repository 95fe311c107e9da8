"""How the intensities of a channel are normalised: the schemes, the words that name them, and their constants."""

from __future__ import annotations

import math
import re
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import UsageError

SCHEMES: dict[str, tuple[str, ...]] = {
    "ct": ("lower", "upper", "mean", "std"),
    "mr": (),
    "pet": ("std",),
    "rgb": ("upper",),
    "none": (),
    "zscore": (),
    "rescale_to_0_1": (),
    "percentiles": (),
}
"""The schemes of normalisation, and the constants of the cohort that each needs."""

BODY_SAMPLE = 2**18
"""Voxels of a volume that the statistics of its body are taken of; those of larger volumes are drawn evenly."""
_FEW = 2000  # voxels above the lowest value that a sample must hold; with fewer, all voxels are looked at
_OF_BODY = 0.1  # fraction of the robust range above which a voxel is of the body
_LEAST_CONTRAST = 0.25  # least standard deviation, as a fraction of the step from the background to the body's mean

_CONSTANTS = ("lower", "upper", "mean", "std")

# Whole names, and words of a name, in lower case, letters and digits alone.
_WHOLE = {
    "nonorm": "none",
    "none": "none",
    "zscore": "zscore",
    "rescaleto01": "rescale_to_0_1",
    "rgbto01": "rgb",
    "percentiles": "percentiles",
    **dict.fromkeys(("rgb", "r", "g", "b", "red", "green", "blue"), "rgb"),
}
_QUANTITIES = (
    "pet pt suv suvbw suvlbm fdg psma dotatate dotatoc bqml adc fa md ktrans cbf cbv rcbv mtt tmax ttp dose rtdose "
    "t1map t2map t2starmap r2star r1map r2map t1rho pdff qsm quantitative"
)
_WORDS = {
    **dict.fromkeys(("ct", "cta", "ctp", "cbct", "ncct", "cect", "ldct", "hdct", "hrct", "hu", "hounsfield"), "ct"),
    **dict.fromkeys(_QUANTITIES.split(), "pet"),
}


@dataclass(frozen=True)
class ChannelNormalisation:
    """The scheme by which one image channel is normalised, and its constants.

    | scheme | what a network is given | constants |
    |---|---|---|
    | `ct` | values clipped to `lower` and `upper`, less `mean`, divided by `std` (nnU-Net's CT scheme) | all four |
    | `mr` | the deviation from the volume's own body, in its own standard deviations; nothing is cut off | |
    | `pet` | asinh(value / `std`): in proportion below `std`, by ratio far above it; nothing is cut off | `std` |
    | `rgb` | value / `upper`, brought to -2 to 2 | `upper`, 255 for 8 bits |
    | `none` | the values of the file (nnU-Net's `noNorm`) | |
    | `zscore` | mean 0 and standard deviation 1 over the volume (nnU-Net's default) | |
    | `rescale_to_0_1` | the volume's lowest value becomes 0, its highest 1 (nnU-Net) | |
    | `percentiles` | clipped to the volume's 0.5 and 99.5 percentiles, then as `zscore`: networks up to volseg 0.1 | |

    Attributes:
        scheme: Name of the scheme.
        lower: Lower limit, in the unit of the file.
        upper: Upper limit, in the unit of the file.
        mean: Mean of the cohort.
        std: Standard deviation or scale of the cohort, above 0.

    >>> ChannelNormalisation.from_json({"scheme": "ct", "lower": -160, "upper": 240, "mean": 90, "std": 40}).upper
    240.0
    """

    scheme: str
    lower: float | None = None
    upper: float | None = None
    mean: float | None = None
    std: float | None = None

    def __post_init__(self) -> None:
        if self.scheme not in SCHEMES:
            raise UsageError(f"the normalisation {self.scheme!r} must be one of {', '.join(SCHEMES)}")
        for name in _CONSTANTS:
            value = getattr(self, name)
            if value is None:
                continue
            if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
                raise UsageError(f"{name} of the normalisation {self.scheme} must be a finite number, got {value!r}")
            object.__setattr__(self, name, float(value))
        if self.std is not None and self.std <= 0:
            raise UsageError(f"std of the normalisation {self.scheme} must be above 0, got {self.std:g}")
        if self.lower is not None and self.upper is not None and self.lower >= self.upper:
            raise UsageError(
                f"the normalisation {self.scheme} must have lower below upper, got {self.lower:g} and {self.upper:g}"
            )
        if self.scheme == "rgb" and self.upper is not None and self.upper <= 0:
            raise UsageError(f"upper of the normalisation rgb must be above 0, got {self.upper:g}")

    @property
    def missing(self) -> tuple[str, ...]:
        """The constants that the scheme needs and that are not given yet."""
        return tuple(name for name in SCHEMES[self.scheme] if getattr(self, name) is None)

    def constant(self, name: str) -> float:
        """A constant that the scheme needs.

        Raises:
            UsageError: It is not given.
        """
        value: float | None = getattr(self, name)
        if value is None:
            raise UsageError(f"the normalisation {self.scheme} must state {name}")
        return value

    @classmethod
    def from_json(cls, entry: Mapping[str, Any]) -> ChannelNormalisation:
        """The inverse of `to_json`.

        Raises:
            UsageError: There is no such scheme, or a constant is no number, or has a name that no scheme knows.
        """
        unknown = [str(name) for name in entry if name not in ("scheme", *_CONSTANTS)]
        if unknown or not isinstance(entry.get("scheme"), str):
            raise UsageError(
                f"a normalisation must be given as {{'scheme': 'ct', 'lower': …, 'upper': …, 'mean': …, 'std': …}}, "
                f"got {dict(entry)!r}"
            )
        return cls(**{str(name): value for name, value in entry.items()})

    def to_json(self) -> dict[str, Any]:
        """The scheme and the constants that are given."""
        return {name: value for name, value in asdict(self).items() if value is not None}


class InputSpacing(list[float]):
    """A spacing in mm along X, Y, Z that states, too, how the channels of the same network are normalised.

    The `inference.json` of every bundle hands the spacing of a recipe to `volseg.transforms.preprocessing`, and
    nothing else that could tell the normalisation; so it travels with the spacing, also through bundles and packages
    that were written before there were schemes.

    >>> spacing = InputSpacing.of([1, 1, 3], [{"scheme": "mr"}])
    >>> spacing, spacing.normalisation
    ([1, 1, 3], [{'scheme': 'mr'}])
    """

    normalisation: list[dict[str, Any]] | None = None

    @classmethod
    def of(cls, spacing_mm: Iterable[float], normalisation: Sequence[Mapping[str, Any]] | None) -> InputSpacing:
        """Join a spacing and the normalisation of each channel; None for that of networks of before."""
        made = cls(spacing_mm)
        made.normalisation = None if normalisation is None else [dict(entry) for entry in normalisation]
        return made


def scheme_of_channel(name: str) -> str | None:
    """The scheme that a channel's name asks for, in volseg's, nnU-Net's or DICOM's words; None if it says nothing.

    >>> [scheme_of_channel(name) for name in ("CT", "PT", "ct_portal", "R", "noNorm", "T1w", "T1 map")]
    ['ct', 'pet', 'ct', 'rgb', 'none', None, 'pet']
    """
    words = re.findall(r"[a-z]+\d*[a-z]*|\d+", name.casefold())
    whole = "".join(words)
    if whole in SCHEMES:
        return whole
    if whole in _WHOLE:
        return _WHOLE[whole]
    if whole in _WORDS:
        return _WORDS[whole]
    return next((_WORDS[word] for word in words if word in _WORDS), None)


def check_normalisation(
    entries: Sequence[Mapping[str, Any] | ChannelNormalisation] | None, *, channels: int
) -> tuple[ChannelNormalisation, ...] | None:
    """The normalisation of each channel, ready to be used; None if all are as before there were schemes.

    Args:
        entries: One entry per channel, see `ChannelNormalisation.from_json`; None for `percentiles`.
        channels: Number of channels.

    Raises:
        UsageError: Their number is another one, or an entry is wrong or lacks a constant.
    """
    if entries is None:
        return None
    found = tuple(
        one if isinstance(one, ChannelNormalisation) else ChannelNormalisation.from_json(one) for one in entries
    )
    if len(found) != channels:
        raise UsageError(f"{len(found)} normalisations were given for {channels} channels; give one per channel")
    for number, one in enumerate(found):
        if one.missing:
            raise UsageError(f"the normalisation {one.scheme} of channel {number} must state {', '.join(one.missing)}")
    return None if all(one.scheme == "percentiles" for one in found) else found


def body_statistics(voxels: NDArray[Any], *, low: float | None = None) -> tuple[float, float]:
    """Mean and standard deviation of the body in a volume, whatever surrounds it and however bright a few voxels are.

    The body is what lies a tenth of the robust range above the darkest voxels, which is how the Brain Extraction Tool
    tells the head from the background (Smith 2002, doi:10.1002/hbm.10062): the range is from the 2nd percentile to the
    98th, the latter of those voxels that are above the lowest value, so that padding does not move it. Both numbers are
    of the body clipped to its own 2nd and 98th percentiles. The standard deviation is at least a quarter of the
    distance from the 2nd percentile to the mean, for bodies of nearly one value.

    Args:
        voxels: Finite values of any shape.
        low: Lowest value, if it is known.

    Returns:
        Mean and standard deviation; the latter is 0 if there is but one value.

    >>> body_statistics(np.array([0.0] * 990 + [100.0] * 10))
    (100.0, 25.0)
    """
    flat = voxels.reshape(-1)
    low = flat.min() if low is None else low
    # An odd stride is no multiple of a row's length that is a power of two.
    sample = np.sort(flat[:: len(flat) // BODY_SAMPLE | 1])
    above = sample[np.searchsorted(sample, low, "right") :]
    if len(above) < _FEW and len(sample) < len(flat):
        above = np.sort(flat[flat > low])
    if not len(above):
        return float(low), 0.0
    dark, bright = _quantile(sample, 0.02), _quantile(above, 0.98)
    body = above[np.searchsorted(above, dark + _OF_BODY * (bright - dark), "right") :]
    body = body if len(body) else above
    body = body.astype(np.float64).clip(_quantile(body, 0.02), _quantile(body, 0.98))
    mean = float(body.mean())
    std = max(float(body.std()), _LEAST_CONTRAST * (mean - dark))
    return mean, std if std > 0 else float(flat.astype(np.float64).std())


def _quantile(ordered: NDArray[Any], share: float) -> float:
    """The value below which a share of sorted values lies."""
    return float(ordered[min(len(ordered) - 1, int(share * len(ordered)))])

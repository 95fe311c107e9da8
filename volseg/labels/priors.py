"""The names of the channels by which a network sees an earlier day: after those of the image itself.

They are the earlier image after its alignment, one blurred probability per region, and a constant that is 1 where there
is a prior. A network without them is one without a prior.
"""

from __future__ import annotations

from collections.abc import Sequence

RIGID, DEFORMABLE = "rigid", "deformable"
"""How an earlier day is brought to today's: by a rigid motion, or bent by a deformable one after it."""
_PREFIX = "prior: "
_GIVEN = f"{_PREFIX}given"


def prior_channels(channel_names: Sequence[str], regions: Sequence[str]) -> tuple[str, ...]:
    """The names of the channels of the prior.

    >>> prior_channels(["MR"], ["colon"])
    ('prior: image MR', 'prior: region colon', 'prior: given')
    """
    images = [f"{_PREFIX}image {name}" for name in channel_names]
    return (*images, *(f"{_PREFIX}region {name}" for name in regions), _GIVEN)


def image_channels(channel_names: Sequence[str]) -> tuple[str, ...]:
    """The names of a network's channels that are those of today's image.

    >>> image_channels(["MR", "prior: image MR", "prior: given"])
    ('MR',)
    """
    return (
        tuple(channel_names)
        if not takes_prior(channel_names)
        else tuple(name for name in channel_names if not name.startswith(_PREFIX))
    )


def takes_prior(channel_names: Sequence[str]) -> bool:
    """Whether a network of these channels takes a prior."""
    return bool(channel_names) and channel_names[-1] == _GIVEN

"""Image channels matched by name: which of the given ones are those that a network was trained on."""

from __future__ import annotations

import logging
import re
from collections.abc import Sequence

from volseg.errors import UsageError
from volseg.labels.matching import fold_name

logger = logging.getLogger(__name__)

# Other spellings of one channel, as BraTS, the decathlon, BIDS and scanners write them, after folding.
_SPELLINGS = {
    "mri": "mr",
    "t1w": "t1",
    "t1n": "t1",
    "t2w": "t2",
    "t2f": "flair",
    "t2flair": "flair",
    "t1ce": "t1c",
    "t1gd": "t1c",
    "t1post": "t1c",
    "pet": "pt",
    "r": "red",
    "g": "green",
    "b": "blue",
}
# Words that are no names: numbers, and those with which nnU-Net says how a channel is normalised.
_UNNAMED = re.compile(r"(channel|modality|image|input|c)?\d*|(mr|ct)\d+|nonorm|zscore|rescaleto01|rgbto01")


def fold_channel(name: str) -> str:
    """A channel's name in one spelling.

    >>> fold_channel("T1w") == fold_channel("t1"), fold_channel("T1ce") == fold_channel("T1")
    (True, False)
    """
    plain = fold_name(name)
    return _SPELLINGS.get(plain, plain)


def channel_order(given: Sequence[str], wanted: Sequence[str], *, source: str) -> list[int]:
    """The index of each channel of a network among the given ones, by name.

    Channels without names keep their order, with a warning if there are several. A single channel is taken whatever its
    name is, with a warning if the names disagree.

    Args:
        given: Names of the image's channels, in the order of its files.
        wanted: Names of the channels that the network was trained on.
        source: Source of the given names, for messages.

    Raises:
        UsageError: By their names, the channels are not those of the network.

    >>> channel_order(["T2", "T1"], ["T1w", "T2w"], source="the cohort")
    [1, 0]
    """
    ours, theirs = [fold_channel(name) for name in wanted], [fold_channel(name) for name in given]
    if ours == theirs:
        if list(given) != list(wanted):
            logger.info("%s calls the channels %s, which are the network's %s", source, _told(given), _told(wanted))
        return list(range(len(ours)))
    if len(ours) == len(theirs) == 1:
        if not (_is_unnamed(wanted) or _is_unnamed(given)):
            logger.warning(
                "%s holds the channel %s, and the network was trained on %s: look at the result",
                *(source, _told(given), _told(wanted)),
            )
        return [0]
    if len(set(ours)) == len(ours) and all(theirs.count(name) == 1 for name in ours):
        order = [theirs.index(name) for name in ours]
        logger.warning(
            "%s holds the channels %s; by name the network's %s are numbers %s of them",
            *(source, _told(given), _told(wanted), ", ".join(map(str, order))),
        )
        return order
    if len(ours) == len(theirs) and (_is_unnamed(wanted) or _is_unnamed(given)):
        logger.warning(
            "%s calls the channels %s and the network calls them %s, which says not which is which: they are taken in "
            "their order",
            *(source, _told(given), _told(wanted)),
        )
        return list(range(len(ours)))
    raise UsageError(
        f"the network takes the channels {_told(wanted)}, and {source} holds {_told(given)}; if they are the same, say "
        f"what the files _0000, _0001, ... hold with --channels, such as --channels {','.join(wanted)}"
    )


def _is_unnamed(names: Sequence[str]) -> bool:
    """Whether names carry no meaning: numbers, placeholders, or several times the same."""
    folded = [fold_channel(name) for name in names]
    if len(folded) > 1 and len(set(folded)) < len(folded):
        return True
    return all(_UNNAMED.fullmatch(name) for name in folded)


def _told(names: Sequence[str]) -> str:
    return ", ".join(names)

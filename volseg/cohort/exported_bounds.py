"""What an export adds to the regions of a prediction: its bounds as descriptions, and margins if they are asked for."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

from volseg.cohort.margins import with_descriptions, with_margins
from volseg.cohort.uncertainty import read_bounds
from volseg.errors import UsageError
from volseg.labels import LabelMatch, LabelTable
from volseg.volume import Volume

logger = logging.getLogger(__name__)


def exported_bounds(
    predictions: Path, match: LabelMatch | None = None, *, margin: bool = False
) -> Callable[[str, Volume, LabelTable], tuple[Volume, LabelTable]] | None:
    """A function of key, label map and regions that adds the bounds of the case; None if there are no bounds.

    Args:
        predictions: Folder of predictions with their uncertainty.csv.
        match: Match of the predictions' regions with those of the export; None if they are the same.
        margin: Whether each region gets a further one that contains the whole organ.

    Raises:
        UsageError: Margins are asked for and no prediction has one.
    """
    try:
        bounds = read_bounds(predictions)
    except UsageError:
        if margin:
            raise
        return None
    if margin and not any(one.margin_mm is not None for case in bounds.values() for one in case.values()):
        raise UsageError(
            f"{predictions} has no margins in uncertainty.csv; calibrate the network with `volseg calibrate`, and "
            "predict again"
        )
    if not bounds:
        return None
    names = {} if match is None else {other: name for name, other in match.pairs.items()}

    def prepare(key: str, label: Volume, labels: LabelTable) -> tuple[Volume, LabelTable]:
        own = {names.get(name, name): one for name, one in bounds.get(key, {}).items()}
        if not margin:
            return label, with_descriptions(labels, own)
        for name, one in own.items():
            if one.withheld:
                logger.warning("%s: no margin of %s: %s", key, name, one.not_comparable)
        return with_margins(label, labels, own)

    return prepare

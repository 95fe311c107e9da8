"""What an export adds to the regions of a prediction: its bounds as descriptions, and margins if they are asked for."""

from __future__ import annotations

import logging
from pathlib import Path

from volseg.cohort.margins import Prepare, preparing
from volseg.cohort.uncertainty import read_bounds
from volseg.errors import UsageError
from volseg.labels import LabelMatch

logger = logging.getLogger(__name__)


def exported_bounds(predictions: Path, match: LabelMatch | None = None, *, margin: bool = False) -> Prepare | None:
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
        if held := [(key, one.not_comparable) for key, case in bounds.items() for one in case.values() if one.withheld]:
            raise UsageError(
                f"every margin in {predictions}/uncertainty.csv is withheld, that of {held[0][0]} since {held[0][1]}; "
                "export without --margin, or calibrate on cases that are like these"
            )
        raise UsageError(
            f"{predictions} has no margins in uncertainty.csv; calibrate the network with `volseg calibrate`, and "
            "predict again"
        )
    for key, case in bounds.items() if margin else ():
        for name, one in case.items():
            if one.withheld:
                logger.warning("%s: no margin of %s: %s", key, name, one.not_comparable)
    return preparing(bounds, match=match, margin=margin) if bounds else None

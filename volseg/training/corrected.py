"""The cases of a training after corrections: corrected ones come more often, and validation stays what it was."""

from __future__ import annotations

import logging
from typing import Any

from volseg.cohort import Cohort, corrected_cases
from volseg.errors import UsageError
from volseg.training.priors import Priors

logger = logging.getLogger(__name__)


def corrected_datalist(
    cohort: Cohort, *, fold: int | str = 0, times: int = 3, priors: Priors | None = None
) -> list[dict[str, Any]]:
    """The datalist of a training in which each corrected case stands several times.

    Corrected cases that no fold names, since they had no label when the folds were drawn, are trained on too. The
    validation of the fold stays as it is: a corrected case of it, or of one of its patients, is not trained on, and
    the log says so.

    Args:
        cohort: Cohort with a `corrections.csv`, see `volseg adopt`.
        fold: Number of the fold, or `all`.
        times: Number of times that a corrected case stands in the list.
        priors: Priors of the training, which each case gets; None for a training without them.

    Raises:
        UsageError: No case was corrected, or `times` is below 1.
    """
    if isinstance(times, bool) or not isinstance(times, int) or times < 1:
        raise UsageError(f"a corrected case must stand at least once in the list, got {times!r}")
    corrected = corrected_cases(cohort.folder, cohort.labelled)
    chosen = cohort.fold(fold)
    held_out = {cohort.patient(key) for key in chosen.validation}
    left = [key for key in corrected if cohort.patient(key) in held_out or cohort.rows[key].test]
    if left:
        logger.warning(
            "%d corrected cases are of patients of the validation or kept for a test, and are not trained on: %s",
            *(len(left), ", ".join(left[:5])),
        )
        changed = [key for key in left if key in chosen.validation]
        if changed:
            logger.warning(
                "%s of the validation has another label now: compare with earlier runs by `volseg evaluate` alone",
                ", ".join(changed[:5]),
            )
    taken = [key for key in corrected if key not in left]
    keys = [*(key for key in chosen.training if key not in taken), *(key for key in taken for _ in range(times))]
    logger.info("training on %d cases, %d of them corrected and each taken %d times", len(set(keys)), len(taken), times)
    items = [
        {"key": key, "image": [str(path) for path in cohort.image_paths(key)], "label": str(cohort.label_path(key))}
        for key in keys
    ]
    return items if priors is None else priors.added(items)

"""The cohort that a bundle trains on by default: the phantom, written on first use."""

from __future__ import annotations

import logging
from pathlib import Path

from volseg.cohort import Cohort, cohort_note, write_cohort
from volseg.errors import CohortError
from volseg.remote import local

logger = logging.getLogger(__name__)


def open_cohort(folder: str | Path, *, embedded: str | Path | None = None) -> Cohort:
    """Open a cohort; where `folder` is the `embedded` default and absent, make the phantom cohort there first.

    A phantom cohort that was stopped half way is finished. Of a URL, such as s3://bucket/cohort, a copy is kept here.
    A cohort in which an earlier version let slices run to the head is told in the log.
    """
    folder = local(folder)
    raw = folder.parent / f"{folder.name}_raw"
    default = embedded is not None and folder.resolve() == Path(embedded).resolve()
    if default and (not folder.exists() or (raw.exists() and not (folder / "splits.json").is_file())):
        from volseg.datasets.phantom import write_phantom
        from volseg.formats import UwMadison

        logger.warning(
            "there is no cohort at %s: writing the embedded phantom there (synthetic, takes seconds)", folder
        )
        if not raw.exists():
            write_phantom(raw)
        result = write_cohort(UwMadison(raw), folder)
        if result.failed:
            raise CohortError(f"the phantom could not be written: {result.failed}")
    cohort = Cohort.open(folder)
    if note := cohort_note(cohort):
        logger.warning("%s", note)
    return cohort

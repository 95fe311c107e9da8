"""What a user names to be read: a path stays one, and a URL is copied, with a progress bar in MiB."""

from __future__ import annotations

from pathlib import Path

from volseg.cli.bar import bar
from volseg.errors import UsageError

_MIB = 20
_SUMMARIES = {"crossval": "crossval.json", "days": "days.json"}
"""Commands whose folders hold a `summary.json`, and the file that tells such a folder."""


def check_order(first: Path, cohort: Path, words: str) -> None:
    """Refuse two folders that were named in the wrong order.

    Args:
        first: Folder that should hold predictions.
        cohort: Folder that should be a cohort.
        words: What the help calls both.

    Raises:
        UsageError: The first is a cohort and the second is none.
    """
    if _is_cohort(first) and cohort.is_dir() and not _is_cohort(cohort):
        raise UsageError(f"the order is {words}: {first} is a cohort and {cohort} is none; swap them")


def check_report_folder(output: Path) -> None:
    """Refuse a folder for a report that holds files of the same names of another kind.

    Args:
        output: Folder to write.

    Raises:
        UsageError: It is a cohort, or the folder of `volseg crossval` or `volseg days`.
    """
    if _has_images(output):
        raise UsageError(f"-o must be no cohort, whose cases.csv would be replaced, got {output}; name another folder")
    for command, file in _SUMMARIES.items():
        if (output / file).is_file():
            raise UsageError(
                f"-o must be no folder of volseg {command}, whose summary.json would be replaced, got {output}; name "
                "another folder"
            )


def _is_cohort(folder: Path) -> bool:
    return (folder / "dataset.json").is_file() and _has_images(folder)


def _has_images(folder: Path) -> bool:
    return any((folder / name).is_dir() for name in ("imagesTr", "imagesTs"))


def fetched(place: str) -> Path:
    """The local path of what is to be read: the path itself, or that of a copy of the URL."""
    from volseg.remote import is_url, local

    if not is_url(place):
        return Path(place)
    with bar("fetch, MiB") as progress:
        return local(place, progress=lambda done, total: progress(done >> _MIB, total >> _MIB))

"""The one tree of errors that volseg raises on purpose.

    VolsegError              anything that volseg refuses, in a sentence with the cure
    ├── UsageError           a wrong option, path or name typed by the user
    ├── SourceError          raw data that cannot become a case
    │   └── RleError         a run-length string that does not describe a mask
    ├── VolumeError          a file that is not a readable volume
    │   └── GeometryError    an affine or a grid that cannot be right, or two grids that differ
    ├── LabelError           a label value, name or table that does not fit
    ├── CohortError          a cohort folder that breaks its contract
    ├── RemoteError          a place behind a URL, or a download, that cannot be had or is not what it should be
    ├── BundleError          a bundle or an override that cannot work
    └── CheckpointError      a checkpoint that cannot be read or does not fit the network

Each message says what was got, what was expected and the cure. The case key is added once, at the door, with
`VolsegError.of_case`.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import TypeVar

_E = TypeVar("_E", bound="VolsegError")


class VolsegError(Exception):
    """Anything that volseg refuses; `case` is the key of the case concerned, where there is one.

    >>> str(VolsegError("the label is empty", case="case1_day2"))
    'case1_day2: the label is empty'
    """

    def __init__(self, message: str, *, case: str | None = None) -> None:
        super().__init__(message)
        self.message = message
        self.case = case

    def __str__(self) -> str:
        return f"{self.case}: {self.message}" if self.case else self.message

    def of_case(self: _E, case: str) -> _E:
        """Return the same error with the case's key, unless it already carries one.

        >>> str(VolsegError("no voxels").of_case("case1_day2").of_case("other"))
        'case1_day2: no voxels'
        """
        if self.case is not None:
            return self
        named = type(self)(self.message, case=case)
        named.__cause__ = self.__cause__
        return named


class UsageError(VolsegError):
    """A wrong option, path or name typed by the user."""


class SourceError(VolsegError):
    """Raw data that cannot become a case."""


class RleError(SourceError):
    """A run-length string that does not describe a mask."""


class VolumeError(VolsegError):
    """A file that is not a readable volume."""


class GeometryError(VolumeError):
    """An affine or a grid that cannot be right, or two grids that differ."""


class LabelError(VolsegError):
    """A label value, name or table that does not fit."""


class CohortError(VolsegError):
    """A cohort folder that breaks its contract."""


class RemoteError(VolsegError):
    """A place behind a URL, or a download, that cannot be had or is not what it should be."""


class BundleError(VolsegError):
    """A bundle or an override that cannot work."""


class CheckpointError(VolsegError):
    """A checkpoint that cannot be read or does not fit the network."""


def root_error(error: BaseException) -> VolsegError:
    """The VolsegError behind an error that MONAI has wrapped, or a new one with the innermost message.

    >>> str(root_error(RuntimeError("applying transform X")))
    'applying transform X'
    """
    inner: BaseException = error
    while True:
        if isinstance(inner, VolsegError):
            return inner
        following = inner.__cause__ or inner.__context__
        if following is None:
            return VolsegError(str(inner).strip() or type(inner).__name__)
        inner = following


@contextmanager
def naming(key: str) -> Iterator[None]:
    """Whatever MONAI and torch raise becomes a VolsegError with the case's key; a VolsegError gets the key.

    >>> with naming("case1"):
    ...     raise ValueError("no voxels")
    Traceback (most recent call last):
    volseg.errors.VolsegError: case1: no voxels
    """
    try:
        yield
    except VolsegError as error:
        raise error.of_case(key) from error.__cause__
    except (MemoryError, RuntimeError, ValueError) as error:
        root = root_error(error)
        raise (_of_memory(error, root.message) or root).of_case(key) from error


@contextmanager
def telling_memory() -> Iterator[None]:
    """A lack of memory becomes a VolsegError, which is one case's: the others go on.

    >>> with telling_memory():
    ...     raise MemoryError("Unable to allocate 90 GiB")
    Traceback (most recent call last):
    volseg.errors.VolsegError: the memory ran out (Unable to allocate 90 GiB); close other programs, or take ...
    """
    try:
        yield
    except (MemoryError, RuntimeError) as error:
        told = _of_memory(error, str(error))
        if told is None:
            raise
        raise told from error


# How PyTorch's and OpenVINO's errors say that memory ran out, which are RuntimeErrors.
_NO_MEMORY = re.compile(
    r"can't allocate memory|alloc_cpu\.cpp|out of memory|not enough memory|bad_alloc", re.IGNORECASE
)


def _of_memory(error: BaseException, text: str) -> VolsegError | None:
    """The error to tell if memory ran out, else None."""
    if not isinstance(error, MemoryError) and not _NO_MEMORY.search(text):
        return None
    first = (text.strip().splitlines() or [""])[0]
    return VolsegError(
        f"the memory ran out{f' ({first})' if first else ''}; close other programs, or take fewer --workers"
    )


def first_names(names: Iterable[str], *, count: int = 3) -> str:
    """The first names in their order, and how many more there are; for a message.

    >>> first_names(["a", "b", "c", "d", "e"])
    'a, b, c and 2 more'
    >>> first_names(sorted({"b", "a"}))
    'a, b'
    """
    known = list(names)
    rest = f" and {len(known) - count} more" if len(known) > count else ""
    return ", ".join(known[:count]) + rest

"""What lies behind an error that MONAI has wrapped."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from volseg.errors import VolsegError


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
    except (RuntimeError, ValueError) as error:
        raise root_error(error).of_case(key) from error

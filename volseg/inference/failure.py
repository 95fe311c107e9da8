"""What lies behind an error that MONAI has wrapped."""

from __future__ import annotations

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

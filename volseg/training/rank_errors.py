"""One error message for a training on several processes, from the process that failed."""

from __future__ import annotations

import json
import logging
import os
import sys
import time
from pathlib import Path
from types import TracebackType

from volseg.errors import VolsegError, root_error

_TOLD = "volseg_told"
_WAIT_S = 3.0  # for the message of a process that this one has lost
# Messages of Gloo and NCCL about a process that has ended.
_LOST = ("closed by peer", "connection reset", "broken pipe", "gloo", "nccl", "process group", "socket")


def tell_errors_once() -> None:
    """Report an error that ends this training once per machine, by the first process that has one.

    `torchrun` starts the processes; Python would print a traceback of MONAI's for each, and PyTorch puts its rank
    before every line of it. An error that volseg raises on purpose is one line; another one keeps its traceback. The
    line also goes into the error file that torchrun reads, and so into its own final message.
    """
    if "TORCHELASTIC_RUN_ID" in os.environ and not isinstance(sys.excepthook, _Hook):
        sys.excepthook = _Hook()


def told_error() -> str | None:
    """The error that another process of this training reported on this machine; None if none did.

    >>> told_error() is None
    True
    """
    place = _place()
    try:
        return (place.read_text() or None) if place is not None else None
    except OSError:
        return None


class _Hook:
    """The hook that Python calls with an uncaught error."""

    def __call__(self, kind: type[BaseException], error: BaseException, trace: TracebackType | None) -> None:
        message = _message(error)
        if not (_is_lost(error) and _wait()) and _claim(message) and not isinstance(error, KeyboardInterrupt):
            if _is_ours(error):
                sys.stderr.write(f"volseg: {message}\n")
            else:
                sys.__excepthook__(kind, error, trace)
        _write_error_file(message)
        logging.shutdown()
        sys.stdout.flush()
        sys.stderr.flush()
        # Python's normal exit would release Gloo's threads while they run, and abort.
        os._exit(130 if isinstance(error, KeyboardInterrupt) else 1)


def _message(error: BaseException) -> str:
    words = str(root_error(error)).strip().splitlines() or [type(error).__name__]
    return f"process {os.environ.get('RANK', '0')} of {os.environ.get('WORLD_SIZE', '1')}: {words[0]}"


def _is_ours(error: BaseException | None) -> bool:
    while error is not None:
        if isinstance(error, VolsegError):
            return True
        error = error.__cause__ or error.__context__
    return False


def _is_lost(error: BaseException) -> bool:
    """Whether this process fails because another has ended."""
    message = str(root_error(error)).lower()
    return not _is_ours(error) and any(word in message for word in _LOST)


def _wait() -> bool:
    ends = time.monotonic() + _WAIT_S
    while told_error() is None:
        if time.monotonic() > ends:
            return False
        time.sleep(0.05)
    return True


def _claim(message: str) -> bool:
    """Whether this process is the first to report; if torchrun gives no folder, each process reports its own error."""
    place = _place()
    if place is None:
        return True
    try:
        with place.open("x") as file:
            file.write(message)
    except FileExistsError:
        return False
    except OSError:
        return True
    return True


def _place() -> Path | None:
    """A file that the processes of this attempt share on this machine: torchrun has a folder for it."""
    error_file = os.environ.get("TORCHELASTIC_ERROR_FILE")
    return Path(error_file).parent.parent / _TOLD if error_file else None


def _write_error_file(message: str) -> None:
    """Write an error file in the form of `torch.distributed.elastic.multiprocessing.errors`."""
    path = os.environ.get("TORCHELASTIC_ERROR_FILE")
    if path:
        told = {"message": message, "extraInfo": {"py_callstack": message, "timestamp": str(int(time.time()))}}
        try:
            Path(path).write_text(json.dumps({"message": told}))
        except OSError:
            logging.getLogger(__name__).debug("%s cannot be written", path)

"""How this process keeps memory, lets threads wait and loads nibabel; set once, before PyTorch is loaded."""

from __future__ import annotations

import ctypes
import os
import sys
from typing import Any

# Each layer of a network takes and gives back memory of megabytes. By default glibc returns that to the system every
# time, and every page is cleared when it is taken again: a fifth to a third of the processor time of a network. It also
# gives threads arenas of their own, made of pieces of 64 MiB that are returned in any case: with one arena for all, a
# training step of Swin UNETR whose windows have a thread each takes half the time.
_ALLOCATION = {"MALLOC_MMAP_THRESHOLD_": 4294967296, "MALLOC_TRIM_THRESHOLD_": 8589934592, "MALLOC_ARENA_MAX": 1}
_OPTIONS = {"MALLOC_MMAP_THRESHOLD_": -3, "MALLOC_TRIM_THRESHOLD_": -1, "MALLOC_ARENA_MAX": -8}  # of mallopt(3)
_LARGEST = 2**31 - 1  # mallopt takes an int


def settle() -> None:
    """Keep freed memory for the next layer (glibc), and let idle threads of OpenMP sleep instead of spin.

    Spinning threads make training many times slower where another process uses the cores. What the environment says
    already stays; processes started from this one inherit the same.

    >>> settle()
    >>> os.environ["OMP_WAIT_POLICY"]
    'passive'
    """
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None) if os.name == "posix" else None
    for name, value in _ALLOCATION.items():
        if name not in os.environ:
            os.environ[name] = str(value)  # for processes started from this one
            if mallopt is not None:
                mallopt(_OPTIONS[name], min(value, _LARGEST))


def load_nibabel() -> None:
    """Import nibabel without pydicom, which takes four times as long as nibabel itself.

    nibabel imports pydicom where it is installed, for an extension of NIfTI headers that volseg does not read. Whoever
    imports pydicom afterwards gets it. Nothing is done in a process that has loaded either.
    """
    modules: dict[str, Any] = sys.modules
    if "nibabel" in modules or "pydicom" in modules:
        return
    modules["pydicom"] = None  # an import of it fails now
    try:
        import nibabel  # noqa: F401
    finally:
        del modules["pydicom"]

"""How this process keeps memory and lets threads wait; set once, before PyTorch is loaded."""

from __future__ import annotations

import ctypes
import os
import sys
from collections.abc import Sequence
from importlib.abc import MetaPathFinder
from types import ModuleType

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


class _WithoutPydicom(MetaPathFinder):
    """Lets nibabel be imported without pydicom, which takes longer than nibabel itself.

    nibabel asks for it as it is imported, for the headers of Siemens alone; volseg reads DICOM files by itself.
    """

    def find_spec(
        self,
        name: str,
        path: Sequence[str] | None = None,  # noqa: ARG002 - the signature of a finder
        target: ModuleType | None = None,  # noqa: ARG002
    ) -> None:
        """Refuse pydicom while nibabel is being imported, and leave everything else to others."""
        if name == "pydicom" and "nibabel" in sys.modules and not hasattr(sys.modules["nibabel"], "load"):
            raise ModuleNotFoundError(f"{name} is not looked for here", name=name)


def import_nibabel_alone() -> None:
    """From here on nibabel is imported without what it can do without."""
    sys.meta_path.insert(0, _WithoutPydicom())

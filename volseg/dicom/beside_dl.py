"""Once imported, pydicom can be, beside a folder called `dl` too, which python-gdcm takes for a module."""

from __future__ import annotations

import sys
from contextlib import suppress
from importlib import import_module
from importlib.util import find_spec


def import_gdcm_beside_dl() -> None:
    """Import python-gdcm where a folder called `dl`, as for deep learning, would keep pydicom from being imported.

    python-gdcm 3.2.6 looks for a module `dl`, which Python gave up with version 3. A folder of that name in the working
    directory, or a package of the user, is taken for it: "module 'dl' has no attribute 'RTLD_NOW'".
    """
    there = sys.modules.get("dl")
    if "gdcm" in sys.modules or (there is None and not _is_found("dl")) or not _is_found("gdcm"):
        return
    sys.modules["dl"] = None  # type: ignore[assignment]  # as Python has it: not to be imported
    try:
        with suppress(ImportError):
            import_module("gdcm")
    finally:
        del sys.modules["dl"]
        if there is not None:
            sys.modules["dl"] = there


def _is_found(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ValueError:  # a module without a specification, or one that must not be imported
        return False


import_gdcm_beside_dl()

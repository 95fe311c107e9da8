"""Where a bundle stands, where its data go, and how its numbers follow from a cohort."""

from __future__ import annotations

import sys
from pathlib import Path

from volseg.bundle.config_text import check_words
from volseg.errors import BundleError

_CONFIGS = ("train.json", "inference.json")


def root() -> str:
    """The absolute folder of the bundle that MONAI is running, whatever the working directory is.

    MONAI gives a config no word of its own place. It does put the bundle's folder on `sys.path` when it runs it, behind
    the first entry, which is the working directory or the script's; and the command line names the config file. The
    working directory, which may be another bundle, comes last.
    """
    for folder in map(Path, sys.path[1:]):
        if _is_bundle(folder):
            return str(folder.resolve())
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--config_file":
            folder = Path((value or following).strip("[]'\" ").split(",")[0].strip("'\" ")).resolve().parent
            return str(folder.parent if folder.name == "configs" else folder)
    return str(Path.cwd())


def data_dir(bundle_root: str | Path) -> str:
    """The folder that a bundle writes under: `data/` of the checkout it stands in, else `data/` of its own.

    >>> data_dir("/nowhere/bundle")
    '/nowhere/bundle/data'
    """
    check_words()
    folder = Path(bundle_root).resolve()
    checkout = folder.parent.parent
    if folder.parent.name == "bundles" and (checkout / "setup.cfg").is_file():
        return str(checkout / "data")
    return str(folder / "data")


def find(bundle: str | Path) -> Path:
    """The folder of a bundle by path, or by name in `bundles/` of the working directory.

    Raises:
        BundleError: it is neither; the message lists what is there.
    """
    for folder in (Path(bundle), Path("bundles") / bundle):
        if _is_bundle(folder):
            return folder.resolve()
    there = sorted(path.parent.name for path in Path("bundles").glob("*/train.json"))
    known = f"; bundles/ holds {', '.join(there)}" if there else ""
    raise BundleError(f"{bundle} is no bundle: it needs {' and '.join(_CONFIGS)}{known}")


def config(folder: Path, name: str) -> Path:
    """One config of a bundle, in its own folder or, in the model zoo's layout, in `configs/`."""
    for path in (folder / name, folder / "configs" / name):
        if path.is_file():
            return path
    raise BundleError(f"the bundle {folder} has no {name}")


def _is_bundle(folder: Path) -> bool:
    return any(all((place / name).is_file() for name in _CONFIGS) for place in (folder, folder / "configs"))

"""The folder of a bundle and that of its data."""

from __future__ import annotations

import re
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from volseg.bundle.config_text import check_words
from volseg.errors import BundleError

_CONFIGS = ("train.json", "inference.json")
_DATA_DIR = "$volseg.bundle.data_dir(@bundle_root)"
_CHECKPOINT = re.compile(r"\$@(data_dir|bundle_root) \+ '(/[^'\\]*)'")


def root() -> str:
    """The absolute folder of the bundle that MONAI is running, whatever the working directory is.

    MONAI does not tell a config its own folder. But it puts the bundle's folder on `sys.path` when it runs it, after
    the first entry, which is the working directory or the script's; and the command line names the config file. The
    working directory, which may be another bundle, is tried last.
    """
    for folder in map(Path, sys.path[1:]):
        if is_bundle(folder):
            return str(folder.resolve())
    for word, following in zip(sys.argv, [*sys.argv[1:], ""], strict=True):
        name, _, value = word.partition("=")
        if name == "--config_file":
            folder = Path((value or following).strip("[]'\" ").split(",")[0].strip("'\" ")).resolve().parent
            return str(folder.parent if folder.name == "configs" else folder)
    return str(Path.cwd())


def data_dir(bundle_root: str | Path) -> str:
    """The folder that a bundle writes to: `data/` of the checkout that contains it, else its own `data/`.

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
    """Find the folder of a bundle by path, or by name in `bundles/` of the working directory.

    Raises:
        BundleError: It is neither; the message lists the bundles there.
    """
    for folder in (Path(bundle), Path("bundles") / bundle):
        if is_bundle(folder):
            return folder.resolve()
    there = sorted(path.parent.name for path in Path("bundles").glob("*/train.json"))
    known = f"; bundles/ holds {', '.join(there)}" if there else ""
    raise BundleError(f"{bundle} is no bundle: it needs {' and '.join(_CONFIGS)}{known}")


def find_all(folder: str | Path = "bundles") -> list[Path]:
    """All bundles of a folder, by name; `bundles/` of the working directory by default.

    >>> find_all("/nowhere")
    []
    """
    return sorted(path.resolve() for path in Path(folder).glob("*") if is_bundle(path))


def config(folder: Path, name: str) -> Path:
    """The path of a bundle's config, in its own folder or, in the model zoo's layout, in `configs/`."""
    for path in (folder / name, folder / "configs" / name):
        if path.is_file():
            return path
    raise BundleError(f"the bundle {folder} has no {name}")


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds the configs of a bundle, directly or in `configs/`."""
    return any(all((place / name).is_file() for name in _CONFIGS) for place in (folder, folder / "configs"))


def stated_checkpoint(folder: Path, content: Mapping[str, Any]) -> Path | None:
    """The checkpoint that an `inference.json` names in the words of volseg's bundles; None if only MONAI can tell.

    Args:
        folder: Folder of the bundle.
        content: Content of its `inference.json`.

    >>> stated_checkpoint(Path("/b"), {"checkpoint": "$@bundle_root + '/models/model.pt'", "data_dir": _DATA_DIR})
    PosixPath('/b/models/model.pt')
    """
    stated = content.get("checkpoint")
    found = _CHECKPOINT.fullmatch(stated) if isinstance(stated, str) else None
    if found is None or content.get("data_dir") != _DATA_DIR:
        return None
    return Path((data_dir(folder) if found[1] == "data_dir" else str(folder)) + found[2])

"""The folder of a bundle and that of its data."""

from __future__ import annotations

import json
import re
import shutil
import sys
from collections.abc import Mapping
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any

import volseg
from volseg.bundle.config_text import check_words
from volseg.errors import BundleError

_CONFIGS = ("train.json", "inference.json")
_DATA_DIR = "$volseg.bundle.data_dir(@bundle_root)"
_CHECKPOINT = re.compile(r"\$@(data_dir|bundle_root) \+ '(/[^'\\]*)'")
_FOLDER = "bundles"
_WEIGHTS = (".pt", ".pth", ".safetensors")
_MODELS = ("models/model.pt", "models/model.safetensors")


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

    A bundle that was installed with volseg writes to `data/` of the working directory, never to where it is installed.

    >>> data_dir("/nowhere/bundle")
    '/nowhere/bundle/data'
    """
    check_words()
    folder = Path(bundle_root).resolve()
    if is_installed(folder):
        return str(Path.cwd() / "data")
    checkout = folder.parent.parent
    if folder.parent.name == "bundles" and (checkout / "setup.cfg").is_file():
        return str(checkout / "data")
    return str(folder / "data")


def models_dir(bundle_root: str | Path) -> str:
    """The folder that a package writes its trained network to: its own `models/`.

    A package that was installed with volseg writes to `data/runs/NAME` of the working directory.

    >>> models_dir("/nowhere/package")
    '/nowhere/package/models'
    """
    check_words()
    folder = Path(bundle_root).resolve()
    return str(Path(data_dir(folder)) / "runs" / folder.name if is_installed(folder) else folder / "models")


def installed() -> Path:
    """The folder of the bundles that come with volseg; in a checkout its `bundles/`."""
    package = Path(str(files("volseg")))
    folder, checkout = package / _FOLDER, package.parent
    return checkout / _FOLDER if not folder.is_dir() and (checkout / "setup.cfg").is_file() else folder


def is_installed(folder: Path) -> bool:
    """Whether a bundle came with an installed volseg; one of a checkout is the user's own."""
    return Path(str(files("volseg"))).resolve() / _FOLDER in folder.resolve().parents


def find(bundle: str | Path) -> Path:
    """Find the folder of a bundle by path, or by name: in `bundles/` of the working directory, then those of volseg.

    Raises:
        BundleError: It is none of these; the message lists the bundles that there are, and where they were looked for.
    """
    named = len(Path(bundle).parts) == 1 and str(bundle) not in ("", ".", "..")
    for folder in (Path(bundle), Path(_FOLDER) / bundle, *([installed() / bundle] if named else [])):
        if is_bundle(folder):
            return folder.resolve()
    if Path(bundle).suffix == ".zip":
        is_file = Path(bundle).is_file()
        raise BundleError(
            f"{bundle} is a zip; unpack it, and name the folder" if is_file else f"there is no file {bundle}"
        )
    if (Path(bundle).suffix in _WEIGHTS and Path(bundle).is_file()) or (Path(bundle) / "model.pt").is_file():
        raise BundleError(
            f"{bundle} is a trained network and no bundle; name the bundle that it was trained with, and this with "
            "--checkpoint, or to train on with --weights"
        )
    names = [path.name for path in find_all()]
    like = get_close_matches(str(bundle), names, n=1)
    meant = f"; did you mean {like[0]}?" if like else ""
    places = [place for place in dict.fromkeys((Path(_FOLDER).absolute(), installed().absolute())) if _of(place)]
    there = "".join(f"; {place} holds {', '.join(path.name for path in _of(place))}" for place in places)
    raise BundleError(f"{bundle} is no bundle: it needs {' and '.join(_CONFIGS)}{meant}{there}")


def find_all(folder: str | Path | None = None) -> list[Path]:
    """All bundles of a folder by name; by default those of `bundles/` of the working directory, then those of volseg.

    >>> find_all("/nowhere")
    []
    """
    if folder is not None:
        return _of(Path(folder))
    found = {path.name: path for place in (installed(), Path(_FOLDER)) for path in _of(place)}
    return [found[name] for name in sorted(found)]


def is_trained(folder: Path) -> bool:
    """Whether a bundle brings a trained network, as a package does."""
    return any((folder / file).is_file() for file in _MODELS)


def about(folder: Path) -> str:
    """One sentence about a bundle, from its metadata; empty if it states none."""
    try:
        return str(read_config(folder, "metadata.json").get("description", "")).strip()
    except (BundleError, OSError):
        return ""


def newer_version(folder: Path) -> str:
    """The version of volseg that wrote a package, if it is newer than this one; else empty."""
    try:
        stated = str(read_config(folder, "metadata.json")["required_packages_version"]["volseg"])
    except (BundleError, OSError, TypeError, KeyError):
        return ""
    return stated if _parts(stated) > _parts(volseg.__version__) else ""


def _parts(version: str) -> list[int]:
    """The numbers of a version, in their order.

    >>> _parts("0.10.1") > _parts("0.9"), _parts("0.1.0") > _parts("0.1.0.dev3")
    (True, False)
    """
    return [int(number) for number in re.findall(r"\d+", version)]


def copy(bundle: str | Path, folder: str | Path) -> Path:
    """Copy a bundle to a new folder, to be edited there.

    Args:
        bundle: Name or folder of the bundle.
        folder: Folder to write, which is absent or empty.

    Raises:
        BundleError: There is no such bundle, or the folder holds something, or lies within the bundle.
    """
    source, target = find(bundle), Path(folder)
    if target.is_file() or (target.is_dir() and any(target.iterdir())):
        raise BundleError(f"{target} is there already; name a new folder")
    if source in (target.resolve(), *target.resolve().parents):
        raise BundleError(f"{target} lies within the bundle {source}; name another folder")
    shutil.copytree(source, target, dirs_exist_ok=True, ignore=shutil.ignore_patterns("__pycache__", "data"))
    return target


def _of(folder: Path) -> list[Path]:
    return sorted(path.resolve() for path in folder.glob("*") if is_bundle(path))


def config(folder: Path, name: str) -> Path:
    """The path of a bundle's config, in its own folder or, in the model zoo's layout, in `configs/`."""
    for path in (folder / name, folder / "configs" / name):
        if path.is_file():
            return path
    raise BundleError(f"the bundle {folder} has no {name}")


def read_config(folder: Path, name: str) -> dict[str, Any]:
    """The content of a bundle's config, see `config`.

    Raises:
        BundleError: The bundle has no such file, or it holds no JSON object: cut short by a copy, or edited wrongly.
    """
    return read_config_file(config(folder, name))


def read_config_file(path: Path) -> dict[str, Any]:
    """The content of a config by its path.

    Raises:
        BundleError: It holds no JSON object.
    """
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except ValueError as error:
        raise BundleError(f"{path} must be JSON, and is not ({error}); correct it, or copy it again") from error
    if not isinstance(content, dict):
        raise BundleError(f"{path} must hold a JSON object, got {type(content).__name__}; correct it")
    return content


def is_bundle(folder: Path) -> bool:
    """Whether a folder holds the configs of a bundle, directly or in `configs/`.

    >>> is_bundle(Path("/nowhere"))
    False
    """
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

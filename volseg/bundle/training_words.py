"""Checks of what a user typed for a training, from words and JSON alone: before PyTorch and MONAI are loaded."""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeGuard

from volseg.bundle.folder import config, data_dir, find, read_config_file
from volseg.bundle.overrides import lay_overrides
from volseg.cohort import Cohort, check_prior_alignment

_LEAST_FREE = 2**20  # bytes that a disk must have for the smallest of files


def check_training_words(
    bundle: str | Path,
    *,
    overrides: Mapping[str, Any],
    more: Sequence[str | Path] = (),
    options: Sequence[str] = (),
) -> dict[str, Any]:
    """Check bundle, ids, cohort and output folder of a training as far as text and headers tell.

    Args:
        bundle: Name or folder of the bundle.
        overrides: Values by id of train.json.
        more: Further config files in JSON, whose entries replace those of train.json.
        options: Options of the command, without their dashes, one of which a wrong setting may mean.

    Returns:
        The config with the user's values, its expressions not evaluated.

    Raises:
        BundleError: There is no such bundle, or a config is no JSON.
        UsageError: There is no such setting, or the way of aligning priors is none or needs a package that is absent.
        CohortError: The cohort is absent or damaged.
        OSError: The output folder cannot be written.
    """
    folder = find(bundle)
    whole: dict[str, Any] = {}
    for file in (config(folder, "train.json"), *map(Path, more)):
        if file.suffix == ".json":  # YAML is MONAI's affair
            whole |= read_config_file(file)
    if all(Path(file).suffix == ".json" for file in more):
        whole = lay_overrides(whole, {**overrides, "bundle_root": str(folder)}, options=options)
    stated = overrides.get("dataset_dir")
    if _is_path(stated) and Path(stated).resolve().parent != Path(data_dir(folder)).resolve():
        Cohort.open(stated)
    if whole.get("prior") is True and isinstance(whole.get("prior_alignment"), str):
        check_prior_alignment(whole["prior_alignment"], asked="--prior_alignment")
    output = overrides.get("output_dir")
    if _is_path(output):
        check_writable(Path(output))
    return whole


def check_writable(folder: Path) -> None:
    """Refuse a folder that cannot be made or written, or whose disk is full.

    Raises:
        OSError: It is so.
    """
    there = next(place for place in (folder, *folder.absolute().parents) if place.exists())
    if not there.is_dir():
        raise NotADirectoryError(errno.ENOTDIR, os.strerror(errno.ENOTDIR), str(there))
    if not os.access(there, os.W_OK | os.X_OK):
        raise PermissionError(errno.EACCES, os.strerror(errno.EACCES), str(there))
    if shutil.disk_usage(there).free < _LEAST_FREE:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(there))


def _is_path(value: Any) -> TypeGuard[str]:  # noqa: ANN401 - any value
    """Whether a value is a path, not an expression, reference or URL."""
    return isinstance(value, str) and not value.startswith(("$", "@", "%")) and "://" not in value

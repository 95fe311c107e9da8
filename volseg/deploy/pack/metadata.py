"""metadata.json of a package, and its configs: what the checkpoint knows stands in place of what the bundle assumed."""

from __future__ import annotations

import re
from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import volseg
from volseg.bundle import Recipe
from volseg.errors import BundleError

_VERSIONS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def filled(metadata: Mapping[str, Any], recipe: Recipe, *, checkpoint_sha256: str) -> dict[str, Any]:
    """The metadata with the labels, channels, window and spacing of a recipe, and the versions at hand.

    The bundle's own name and descriptions stay where the labels are those that it declares.

    Args:
        metadata: of the bundle.
        recipe: of the checkpoint.
        checkpoint_sha256: of the file that was packed, to tell which training it came from.
    """
    labels = recipe.labels
    entries: dict[str, Any] = {**metadata, **{key: _version(package) for key, package in _VERSIONS.items()}}
    needed = metadata.get("required_packages_version", {})
    entries["required_packages_version"] = {**{name: _version(name) for name in needed}, "volseg": volseg.__version__}
    regions = ", ".join(labels.names)
    kind = "overlapping" if labels.overlap else "exclusive"
    declared = metadata["network_data_format"]["outputs"]["pred"].get("channel_def", {})
    if list(declared.values()) != list(labels.channel_names):
        entries["name"] = f"{metadata['name'].partition(' for ')[0]} for {regions}"
        entries["task"] = f"Segmentation of {regions}"
        entries["description"] = f"Outlines {regions} on volumes."
        entries["data_source"] = str(recipe.facts.get("cohort", "not stated"))
        entries["image_classes"] = f"image channels: {', '.join(recipe.channel_names)}"
    entries["label_classes"] = f"{kind} regions: {regions}"
    entries["pred_classes"] = f"{labels.channels} {labels.activation} channels: {', '.join(labels.channel_names)}"
    data_format = metadata["network_data_format"]
    sizes = {"spatial_shape": [int(n) for n in recipe.roi_size]}
    image = {
        **data_format["inputs"]["image"],
        **sizes,
        "num_channels": len(recipe.channel_names),
        "channel_def": {str(i): name for i, name in enumerate(recipe.channel_names)},
    }
    pred = {
        **data_format["outputs"]["pred"],
        **sizes,
        "num_channels": labels.channels,
        "channel_def": {str(i): name for i, name in enumerate(labels.channel_names)},
    }
    entries["network_data_format"] = {**data_format, "inputs": {"image": image}, "outputs": {"pred": pred}}
    entries["volseg"] = {
        "labels": labels.to_dataset_json(),
        "spacing_mm": [float(mm) for mm in recipe.spacing_mm],
        "network": dict(recipe.network),
        "facts": dict(recipe.facts),
        "checkpoint_sha256": checkpoint_sha256,
    }
    return entries


def packed_configs(configs: Mapping[str, Mapping[str, Any]], recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The bundle's configs with the package's own paths, and the recipe in words, so that no checkpoint is read first.

    Args:
        configs: JSON content by file name.
        recipe: of the checkpoint.

    Raises:
        BundleError: a name that MONAI would run as code.
    """
    packed = {name: dict(content) for name, content in configs.items()}
    packed["inference.json"]["checkpoint"] = "$@bundle_root + '/models/model.pt'"
    packed["inference.json"]["recipe"] = _literal(
        {
            "_target_": "volseg.bundle.Recipe",
            "labels": {
                "_target_": "volseg.labels.LabelTable.from_dataset_json",
                "dataset": recipe.labels.to_dataset_json(),
            },
            "channel_names": list(recipe.channel_names),
            "spacing_mm": [float(mm) for mm in recipe.spacing_mm],
            "roi_size": [int(n) for n in recipe.roi_size],
            "network": dict(recipe.network),
        }
    )
    packed["train.json"]["output_dir"] = "$@bundle_root + '/models'"
    return packed


def without_folders(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts to be given away: of the cohort's folder and of any absolute path, the last part alone.

    >>> without_folders({"cohort": "patients/liver", "weights": "/home/ann/mit-b0", "fold": 0})
    {'cohort': 'liver', 'weights': 'mit-b0', 'fold': 0}
    """
    return {key: _last_part(key, fact) if isinstance(fact, str) else fact for key, fact in facts.items()}


def _last_part(key: str, text: str) -> str:
    for kind in (PureWindowsPath, PurePosixPath):
        path = kind(text)
        if path.is_absolute() or (key == "cohort" and len(path.parts) > 1):
            return path.name
    return text


def _literal(content: Any) -> Any:  # noqa: ANN401 - JSON
    """The content, once no text in it is one that MONAI's parser would evaluate or replace.

    >>> _literal(["$import os"])
    Traceback (most recent call last):
    volseg.errors.BundleError: '$import os' in the checkpoint's recipe would be run as code; rename it in the cohort
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key != "_target_":
                _literal(str(key))
                _literal(value)
    elif isinstance(content, list):
        for value in content:
            _literal(value)
    elif isinstance(content, str) and re.match(r"[$@%_]|.*::", content):
        raise BundleError(f"{content!r} in the checkpoint's recipe would be run as code; rename it in the cohort")
    return content


def _version(package: str) -> str:
    """The installed version without its local suffix, or that nothing is installed."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"

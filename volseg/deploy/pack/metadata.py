"""metadata.json of a package: facts of the checkpoint replace the assumptions of the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from pathlib import PurePosixPath, PureWindowsPath
from typing import Any

import volseg
from volseg.bundle import Recipe
from volseg.labels import LabelTable

_OF_CARD = {"title": "name", "description": "description", "task": "task", "weights_licence": "license"}
_WORDS = ("name", "task", "description")
_VERSIONS = {"monai_version": "monai", "pytorch_version": "torch", "numpy_version": "numpy"}


def filled(
    metadata: Mapping[str, Any],
    recipe: Recipe,
    *,
    checkpoint_sha256: str,
    card: Mapping[str, Any] | None = None,
    scores: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The metadata with the labels, channels, window and spacing of a recipe, and the installed versions.

    The bundle's own name and descriptions stay if the labels are those that it declares; those of a card come first.

    Args:
        metadata: Metadata of the bundle, or of a package.
        recipe: Recipe of the checkpoint.
        checkpoint_sha256: SHA-256 of the packed file, which identifies its training.
        card: What its author tells of the network and its data, see `read_card`.
        scores: Dice on cases that were not trained on, see `held_out_scores`.
    """
    labels = recipe.labels
    # Of a package the words of its bundle, which those of an earlier card have replaced.
    of_bundle = metadata.get("volseg", {}).get("bundle") or {
        name: metadata[name] for name in _WORDS if name in metadata
    }
    metadata = {name: entry for name, entry in metadata.items() if name != "license"} | of_bundle
    entries: dict[str, Any] = {**metadata, **{key: _version(package) for key, package in _VERSIONS.items()}}
    needed = metadata.get("required_packages_version", {})
    entries["required_packages_version"] = {**{name: _version(name) for name in needed}, "volseg": volseg.__version__}
    regions = ", ".join(labels.names)
    kind = "overlapping" if labels.overlap else "exclusive"
    declared = metadata["network_data_format"]["outputs"]["pred"].get("channel_def", {})
    if list(declared.values()) not in (list(labels.channel_names), list(value_names(labels).values())):
        entries["name"] = f"{metadata['name'].partition(' for ')[0]} for {regions}"
        entries["task"] = f"Segmentation of {regions}"
        entries["description"] = f"Outlines {regions} on volumes."
        entries["image_classes"] = f"image channels: {', '.join(recipe.channel_names)}"
    entries["data_source"] = data_source(recipe)
    if card is not None:
        entries |= {key: card[name] for name, key in _OF_CARD.items() if name in card}
    if card is not None and "data" in card:
        data = card["data"]
        entries["data_source"] = ", ".join(data[key] for key in ("name", "url", "licence") if key in data)
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
        "channel_def": value_names(labels),
    }
    entries["network_data_format"] = {**data_format, "inputs": {"image": image}, "outputs": {"pred": pred}}
    entries["volseg"] = {
        "labels": labels.to_dataset_json(),
        "channels": list(labels.channel_names),
        "spacing_mm": [float(mm) for mm in recipe.spacing_mm],
        **({} if recipe.normalisation is None else {"normalisation": recipe.normalisation}),
        "network": dict(recipe.network),
        "facts": dict(recipe.facts),
        "checkpoint_sha256": checkpoint_sha256,
        "bundle": of_bundle,
        **({} if card is None else {"card": dict(card)}),
        **({} if scores is None else {"scores": dict(scores)}),
    }
    return entries


def data_source(recipe: Recipe) -> str:
    """What a network was trained on, in a few words."""
    source = recipe.facts.get("source")
    if isinstance(source, Mapping) and source.get("phantom"):
        return "the synthetic phantom of volseg; no patient was imaged"
    return str(recipe.facts.get("cohort", "not stated"))


def value_names(labels: LabelTable) -> dict[str, str]:
    """The name of each value of a label map, for programs that read names of values from `channel_def`.

    MONAI Label names the segments of a label map by it. A combination of regions has a value of its own, and so a name
    of its own; of several values that mean the same, only the first is ever written. The network's channels, which
    `channel_def` is for, are in `volseg#channels`.

    >>> value_names(LabelTable.overlapping(["bowel", "stomach"]))
    {'0': 'background', '1': 'bowel', '2': 'stomach', '3': 'bowel and stomach'}
    >>> value_names(LabelTable.exclusive(["anterior", "posterior"]))
    {'0': 'background', '1': 'anterior', '2': 'posterior'}
    """
    names: dict[str, str] = {}
    for value in labels.values:
        meant = " and ".join(region.name for region in labels.regions if value in region.values) or "background"
        if meant not in names.values():
            names[str(value)] = meant
    return names


def without_folders(facts: Mapping[str, Any]) -> dict[str, Any]:
    """Facts for publication: of the cohort's folder and of any absolute path, only the last part is kept.

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


def _version(package: str) -> str:
    """The installed version without its local suffix, or that nothing is installed."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"

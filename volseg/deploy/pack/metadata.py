"""metadata.json of a package: facts of the checkpoint replace the assumptions of the bundle."""

from __future__ import annotations

from collections.abc import Mapping
from importlib.metadata import PackageNotFoundError, version
from typing import Any

import volseg
from volseg.bundle import Recipe
from volseg.errors import BundleError
from volseg.labels import LabelTable

_OF_CARD = {"title": "name", "description": "description", "task": "task", "weights_licence": "license"}
_WORDS = ("name", "task", "description", "image_classes")
_DECLARED = "declared"  # entry of the bundle's words: the regions and channels that they are true of
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

    The bundle's own name and descriptions stay if labels and channels are those that it declares; those of a card come
    first.

    Args:
        metadata: Metadata of the bundle, or of a package.
        recipe: Recipe of the checkpoint.
        checkpoint_sha256: SHA-256 of the packed file, which identifies its training.
        card: What its author tells of the network and its data, see `read_card`.
        scores: Dice on cases that were not trained on, see `held_out_scores`.

    Raises:
        BundleError: The metadata lack an entry that a package needs.
    """
    labels = recipe.labels
    data_format, declared_image, declared_pred = _declared(metadata)
    # Of a package the words of its bundle, which those of an earlier card have replaced.
    of_bundle = dict(metadata.get("volseg", {}).get("bundle") or {})
    if _DECLARED not in of_bundle:
        of_bundle = _words_of_bundle(metadata, of_bundle, declared_image, declared_pred)
    words = {name: of_bundle[name] for name in _WORDS if name in of_bundle}
    metadata = {name: entry for name, entry in metadata.items() if name != "license"} | words
    entries: dict[str, Any] = {**metadata, **{key: _version(package) for key, package in _VERSIONS.items()}}
    needed = metadata.get("required_packages_version", {})
    entries["required_packages_version"] = {**{name: _version(name) for name in needed}, "volseg": volseg.__version__}
    regions = ", ".join(labels.names)
    kind = "overlapping" if labels.overlap else "exclusive"
    channels = list(recipe.channel_names)
    declared = of_bundle[_DECLARED]
    own_regions = declared["regions"] in (list(labels.channel_names), list(value_names(labels).values()))
    own_channels = declared["channels"] == channels
    if not (own_regions and own_channels):
        entries["name"] = f"{str(words.get('name', 'Network')).partition(' for ')[0]} for {regions}"
        entries["task"] = f"Segmentation of {regions}"
        entries["description"] = f"Outlines {regions} on volumes."
        entries["image_classes"] = f"image channels: {', '.join(channels)}"
    entries["data_source"] = data_source(recipe)
    if card is not None:
        entries |= {key: card[name] for name, key in _OF_CARD.items() if name in card}
    if card is not None and "data" in card:
        data = card["data"]
        entries["data_source"] = ", ".join(data[key] for key in ("name", "url", "licence") if key in data)
    entries["label_classes"] = f"{kind} regions: {regions}"
    entries["pred_classes"] = f"{labels.channels} {labels.activation} channels: {', '.join(labels.channel_names)}"
    sizes = {"spatial_shape": [int(n) for n in recipe.roi_size]}
    image = {
        **declared_image,
        **sizes,
        "modality": (declared["modality"] if own_channels else "") or ", ".join(recipe.image_channels),
        "num_channels": len(channels),
        "channel_def": {str(i): name for i, name in enumerate(channels)},
    }
    pred = {
        **declared_pred,
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


def _declared(metadata: Mapping[str, Any]) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """The entry `network_data_format`, and what it says of the image and of the output."""
    try:
        data_format = dict(metadata["network_data_format"])
        return data_format, dict(data_format["inputs"]["image"]), dict(data_format["outputs"]["pred"])
    except (KeyError, TypeError, ValueError) as error:
        raise BundleError(
            "metadata.json must describe `image` and `pred` under `network_data_format`, as MONAI's specification has "
            "it; take that of a bundle that comes with volseg as an example"
        ) from error


def _words_of_bundle(
    metadata: Mapping[str, Any], kept: Mapping[str, Any], image: Mapping[str, Any], pred: Mapping[str, Any]
) -> dict[str, Any]:
    """The words of a bundle, with the regions and channels that they are true of.

    Args:
        metadata: Metadata of the bundle, or of a package.
        kept: Words that a package has kept of its bundle; those of earlier versions do not say what they are true of.
        image: What the metadata say of the image.
        pred: What the metadata say of the output.
    """
    found = {name: metadata[name] for name in _WORDS if name in metadata} | dict(kept)
    replaced = any(found.get(name) != metadata.get(name) for name in kept)  # by words of other regions, or a card's
    return {
        **found,
        _DECLARED: {
            "regions": [] if replaced else list(dict(pred.get("channel_def") or {}).values()),
            "channels": list(dict(image.get("channel_def") or {}).values()),
            "modality": "" if kept else image.get("modality", ""),  # earlier versions left it as it was
        },
    }


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


def _version(package: str) -> str:
    """The installed version without its local suffix, or that nothing is installed."""
    try:
        return version(package).partition("+")[0]
    except PackageNotFoundError:
        return "not installed"

"""The page of a package: its network, its data, its Dice and its commands, from its own metadata."""

from __future__ import annotations

import re
import shlex
from collections.abc import Mapping, Sequence
from typing import Any

from volseg.bundle import LONGEST_IMAGE, Recipe
from volseg.deploy.pack.exports import Export
from volseg.deploy.pack.metadata import data_source

_FROM_SCRATCH = re.compile(r",\s+trained\s+from\s+scratch(?=[.,;])|Trained\s+from\s+scratch[;.]\s+(\w?)")
_NETWORK = re.compile(r"^- \*\*Network:\*\*.*?(?=^- \*\*|^#|^\s*$|\Z)", re.MULTILINE | re.DOTALL)


def page(
    metadata: Mapping[str, Any], recipe: Recipe, *, name: str, bundle_page: str, exports: Sequence[Export] = ()
) -> str:
    """The page, of which nothing is true of another network.

    Args:
        metadata: Metadata of the package, see `filled`.
        recipe: Recipe of the checkpoint.
        name: Name of the package's folder.
        bundle_page: Page of the bundle, or of an earlier package, of which the description of the network is taken.
        exports: Exports of the network in other formats.
    """
    card = metadata["volseg"].get("card", {})
    scores = metadata["volseg"].get("scores")
    found = _NETWORK.search(bundle_page)
    parts = [
        f"# {metadata['name']}",
        f"{metadata['description']}\n\nResearch only; not a medical device.",
        _facts(recipe),
        f"## Network\n\n{_network(found[0], recipe)}" if found else "",
        _data(card, recipe),
        _scores(scores) if scores else "",
        _commands(name),
        _again(name),
        _exports(exports) if exports else "",
        _int8(metadata["volseg"]["int8"]) if "int8" in metadata["volseg"] else "",
        _limits(card),
        _licence(card),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _network(text: str, recipe: Recipe) -> str:
    """The bundle's words about the network; `scratch` is told of one alone that was trained from it."""
    if recipe.facts.get("initialisation", "scratch") != "scratch":
        text = _FROM_SCRATCH.sub(lambda found: (found[1] or "").upper(), text)
    return text.strip()


def _facts(recipe: Recipe) -> str:
    labels = recipe.labels
    channels = "; ".join(f"{i} {channel}" for i, channel in enumerate(labels.channel_names))
    facts = [f"{key} {_told(fact)}" for key, fact in recipe.facts.items() if key != LONGEST_IMAGE]
    longest = " x ".join(f"{mm:g}" for mm in recipe.longest_image_mm or ())
    lines = [
        "## This package",
        "",
        "Written by `volseg pack`.",
        "",
        "| | |",
        "|---|---|",
        f"| regions | {', '.join(labels.names)} |",
        f"| image channels | {', '.join(recipe.channel_names)} |",
        f"| output channels ({labels.activation}) | {channels} |",
        f"| grid | {' x '.join(f'{mm:g}' for mm in recipe.spacing_mm)} mm |",
        f"| window | {' x '.join(map(str, recipe.roi_size))} voxels |",
        f"| intensities | {'; '.join(_normalisations(recipe))} |",
        *([f"| longest training image | {longest} mm |"] if longest else []),
        *([f"| training | {', '.join(facts)} |"] if facts else []),
    ]
    return "\n".join(lines)


def _data(card: Mapping[str, Any], recipe: Recipe) -> str:
    data = card.get("data", {})
    lines = ["## Data", ""]
    if not data:
        return "\n".join([*lines, f"Trained on: {data_source(recipe)}."])
    licence = data.get("licence", "")
    if "licence_url" in data:
        licence = f"[{licence or data['licence_url']}]({data['licence_url']})"
    told = {
        "Trained on": data.get("name", data_source(recipe)),
        "From": data.get("url"),
        "Licence": licence,
        "Citation": data.get("citation"),
        "Changes": data.get("changes"),
    }
    lines += [f"- **{what}:** {text}" for what, text in told.items() if text]
    if "training" in card:
        lines += ["", card["training"]]
    return "\n".join(lines)


def _scores(scores: Mapping[str, Any]) -> str:
    regions = list(scores["all"]["regions"])
    lines = [
        "## Dice on cases that were not trained on",
        "",
        f"Of {len(scores['folds'])} networks, each trained with the same settings on all folds but one and scored on "
        "that one, by `volseg crossval`: the mean over cases with a 95 % interval (bootstrap over patients). The "
        "network of this package is a further one, so no case scores it; these tell what to expect on such scans.",
        "",
        f"| fold | cases | {' | '.join(regions)} | mean of the regions |",
        "|---" * (3 + len(regions)) + "|",
    ]
    rows = [(str(one["fold"]), one) for one in scores["folds"]] + [("all", scores["all"])]
    for fold, one in rows:
        cells = [*(_cell(one["regions"][region]) for region in regions), _cell(one["mean"])]
        lines.append(f"| {fold} | {one['cases']} | {' | '.join(cells)} |")
    return "\n".join(lines)


def _cell(one: Mapping[str, Any]) -> str:
    if one["dice"] is None:
        return "–"
    ends = "" if one["interval"] is None else " [{:.3f}, {:.3f}]".format(*one["interval"])
    return f"{one['dice']:.3f}{ends}"


def _commands(name: str) -> str:
    folder, configs = shlex.quote(name), shlex.quote(f"{name}/configs/inference.json")
    meta = shlex.quote(f"{name}/configs/metadata.json")
    lines = [
        "## Use",
        "",
        "From the folder that holds this package, with `volseg` installed:",
        "",
        f"    volseg predict {folder} IMAGES -o PREDICTIONS",
        f"    python -m monai.bundle run --config_file {configs} --dataset_dir COHORT",
        f"    python -m monai.bundle verify_net_in_out network_def --meta_file {meta} --config_file {configs}",
        f"    python -m monai.bundle ckpt_export network_def --bundle_root {folder} --config_file {configs} "
        "--key_in_ckpt model --use_trace True",
        "",
        f"`monai.bundle.load(name={name!r}, bundle_dir=FOLDER)` gives the network with its weights; FOLDER holds "
        "this package. `channel_def` of `configs/metadata.json` names the values of the label map.",
    ]
    return "\n".join(lines)


def _again(name: str) -> str:
    word = shlex.quote(name)
    return (
        "## Train it further, or anew\n\n"
        f"`volseg train {word} --dataset_dir COHORT` trains a network of its kind from random weights; "
        f"`--weights {word}` starts from those of this package. `models/model.pt` is replaced, what was there is moved "
        "to `models/earlier/`, and the configs, the metadata and this page are written anew from the new network. Give "
        "`--output_dir` to keep the package as it is; one that was installed with volseg is kept in any case, and its "
        f"trainings go to `data/runs/{name}`. The settings are those of the bundle that it was packed from."
    )


def _exports(exports: Sequence[Export]) -> str:
    lines = [
        "## Other formats",
        "",
        "The same network in other formats, compared with PyTorch in single precision on three random windows:",
        "",
        "| file | what | largest difference of logits | largest logit |",
        "|---|---|---|---|",
        *(f"| `{e.file}` | {e.note} | {e.difference:.1e} | {e.largest_logit:.3g} |" for e in exports),
    ]
    return "\n".join(lines)


def _int8(facts: Mapping[str, Any]) -> str:
    layers, change, calibration = facts["layers"], facts["validation"], facts["calibration"]
    seconds = ", ".join(f"{name} {1000 * one:.1f} ms" for name, one in facts["seconds_per_window"].items())
    lines = [
        "## INT8",
        "",
        f"`models/model_int8.xml` holds {layers['int8']} of {layers['all']} layers in 8 bits, the others in "
        f"{layers['rest']}. {calibration['windows']} windows of {len(calibration['images_sha256'])} training images "
        "calibrated it; their digests are in `configs/metadata.json`.",
        "",
        f"On {change['cases']} cases ({change['part']}) the mean Dice is {change['dice']:.4f} in single precision and "
        f"changes by {change['mean_change']:+.4f}; the case that falls most changes by {change['worst_change']:+.4f}, "
        f"and {change['regions_lost']} regions are lost. Processor time per window on {facts['processor']}: {seconds}.",
    ]
    return "\n".join(lines)


def _limits(card: Mapping[str, Any]) -> str:
    own = f"{card['limits']} " if "limits" in card else ""
    return (
        f"## Use and limits\n\n{own}Meant for research on segmentation and for comparison of methods. It may fail on "
        "scans of another scanner, sequence or part of the body without a sign of it. Look at every segmentation "
        "before it is used for anything."
    )


def _licence(card: Mapping[str, Any]) -> str:
    weights = (
        f"The weights are given under {card['weights_licence']}"
        if "weights_licence" in card
        else "The weights may be bound by the licence of the data that they were trained on"
    )
    return f"## Licence\n\nThe configs are under the licence in `LICENSE`. {weights}."


def _normalisations(recipe: Recipe) -> list[str]:
    """How each channel is normalised, in words."""
    entries = recipe.normalisation or [{"scheme": "percentiles"}] * len(recipe.channel_names)
    return [
        " ".join([name, *(f"{key} {value:g}" if key != "scheme" else str(value) for key, value in entry.items())])
        for name, entry in zip(recipe.channel_names, entries, strict=True)
    ]


def _told(fact: object) -> str:
    """A fact in words: of several under one name, those that say something."""
    if not isinstance(fact, Mapping):
        return str(fact)
    return " ".join(f"{name} {value}" for name, value in fact.items() if value)

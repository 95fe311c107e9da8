"""The page of a package: the bundle's README, and the facts of this package."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from volseg.bundle import Recipe
from volseg.deploy.pack.exports import Export

_HEADING = "## This package"


def page(readme: str, recipe: Recipe, *, name: str, exports: Sequence[Export]) -> str:
    """The README with a section about the labels, the grid, the files and the commands of the package.

    Args:
        readme: README of the bundle; an earlier section of the same kind is replaced.
        recipe: Recipe of the checkpoint.
        name: Name of the package's folder.
        exports: Exports of the network in other formats.
    """
    labels = recipe.labels
    shape = " x ".join(map(str, recipe.roi_size))
    grid = " x ".join(f"{mm:g}" for mm in recipe.spacing_mm)
    channels = "; ".join(f"{i} {channel}" for i, channel in enumerate(labels.channel_names))
    facts = [f"{key} {_told(fact)}" for key, fact in recipe.facts.items()]
    lines = [
        readme.partition(_HEADING)[0].rstrip(),
        "",
        _HEADING,
        "",
        "Written by `volseg pack`. Paths in the commands above are those of a checkout; in this folder they are these.",
        "",
        "| | |",
        "|---|---|",
        f"| image channels | {', '.join(recipe.channel_names)} |",
        f"| output channels ({labels.activation}) | {channels} |",
        f"| grid | {grid} mm |",
        f"| window | {shape} voxels |",
        f"| intensities | {'; '.join(_normalisations(recipe))} |",
        *([f"| trained on | {', '.join(facts)} |"] if facts else []),
        "",
        "From the folder that holds this package, with `volseg` installed:",
        "",
        f"    volseg predict {name} IMAGES -o PREDICTIONS",
        f"    python -m monai.bundle run --config_file {name}/configs/inference.json --dataset_dir COHORT",
        f"    python -m monai.bundle verify_net_in_out network_def --meta_file {name}/configs/metadata.json "
        f"--config_file {name}/configs/inference.json",
        f"    python -m monai.bundle ckpt_export network_def --bundle_root {name} "
        f"--config_file {name}/configs/inference.json --key_in_ckpt model --use_trace True",
        "",
        f"`monai.bundle.load(name={name!r}, bundle_dir=FOLDER)` gives the network with its weights; FOLDER holds "
        "this package. `channel_def` of `configs/metadata.json` names the values of the label map.",
        "",
        f"Training here (`volseg train {name} --dataset_dir COHORT`) starts from random weights and replaces "
        "`models/model.pt`; give `--output_dir` to keep it.",
    ]
    if exports:
        lines += [
            "",
            "The same network in other formats, compared with PyTorch in single precision on three random windows:",
            "",
            "| file | what | largest difference of logits | largest logit |",
            "|---|---|---|---|",
            *(f"| `{e.file}` | {e.note} | {e.difference:.1e} | {e.largest_logit:.3g} |" for e in exports),
        ]
    return "\n".join(lines) + "\n"


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

"""The tables of docs/benchmarks/index.md and README.md: one figure of volseg per line, beside those of others."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, NamedTuple

import networks

from harness import cells, measurement


class Glimpse(NamedTuple):
    """What is compared.

    Attributes:
        title: Title of the line.
        name: Name of the benchmark.
        table: how the title of its table begins.
        measure: its name.
        own: the row that is volseg's.
        others: the rows beside it.
    """

    title: str
    name: str
    table: str
    measure: str
    own: str
    others: tuple[str, ...]


_MORE = {"dice"}  # measures of which more is better
_BEHIND = "**behind**"
_SCRIPTS = ("usual script", "usual script, careful")
_RECIPES = ("MONAI zoo 1e-3", "nnU-Net v2 batch 2", "nnU-Net v2")
_PLAIN = ("MONAI plain recipe",)
_SETS = ("MONAI CacheDataset", "MONAI PersistentDataset")
_LARGE, _SMALL = "Volume 160 x 160 x 96, window 64", "Volume 35 x 51 x 35"
_PREDICTORS = ("monai", "monai batch 4", "nnunet")
_SCORERS = ("MONAI", "scipy distance transform")
_COMMANDS = ("python -m monai.bundle --help", "nnUNetv2_train --help")
GLIMPSES = (
    Glimpse("Slices to a volume, CPU", "conversion", "24", "scan_cpu_s", "volseg", _SCRIPTS),
    Glimpse("A step of training", "training", "20", "step_s", "volseg unet", _PLAIN),
    Glimpse("A million voxels of training", "training", "20", "mvoxel_s", "volseg unet", ("nnU-Net, its own plans",)),
    Glimpse("Memory of training", "training", "20", "peak_mib", "volseg unet", _PLAIN),
    Glimpse("Dice after 20 minutes of training", "accuracy", "20", "dice", "unet batch 2", _RECIPES),
    Glimpse("Dice after 40", "accuracy", "40", "dice", "unet batch 2", _RECIPES),
    Glimpse("A random crop", "loading", "A", "ms", "volseg, memory", _SETS),
    Glimpse("A large volume predicted", "inference", _LARGE, "wall_s", "volseg torch", _PREDICTORS),
    Glimpse("- with a compiled network", "inference", _LARGE, "wall_s", "volseg compiled", _PREDICTORS),
    Glimpse("Memory that it adds", "inference", _LARGE, "added_mib", "volseg torch", _PREDICTORS),
    Glimpse("- with a compiled network", "inference", _LARGE, "added_mib", "volseg compiled", _PREDICTORS),
    Glimpse("A small volume predicted", "inference", _SMALL, "wall_s", "volseg torch", _PREDICTORS),
    Glimpse("- with a compiled network", "inference", _SMALL, "wall_s", "volseg compiled", _PREDICTORS),
    Glimpse("Dice, HD95, surface Dice, CPU", "metrics", "Good", "cpu_ms", "volseg", _SCORERS),
    Glimpse("- by surface elements, CPU", "metrics", "Good", "cpu_ms", "volseg, surfel reading", ("surface-distance",)),
    Glimpse("Start", "startup", "From", "wall_s", "volseg --help", _COMMANDS),
)


def as_markdown(contents: Iterable[Mapping[str, Any]], glimpses: Sequence[Glimpse] = GLIMPSES) -> str:
    """What volseg takes, what others take, the ratio with its range, and where volseg is not ahead."""
    found = {content["name"]: content["tables"] for content in contents}
    lines = [cells.line(["What", "volseg", "Beside it", "", "Times volseg's", ""]), cells.line(["---"] * 6)]
    for glimpse in glimpses:
        for table in found.get(glimpse.name, []):
            if table["title"].startswith(glimpse.table) and any(row["name"] == glimpse.own for row in table["rows"]):
                lines += _lines(glimpse, table)
    return "\n".join(lines) + "\n"


def _lines(glimpse: Glimpse, table: Mapping[str, Any]) -> list[str]:
    """One for each of the others that was measured."""
    rows = {row["name"]: row for row in table["rows"]}
    own, key = rows[glimpse.own], glimpse.measure
    measure = next(one for one in table["measures"] if one["name"] == key)

    def figure(row: Mapping[str, Any]) -> str:
        return f"{cells.number(row['median'][key], measure['digits'])} {measure['unit']}".rstrip()

    lines, words = [], [glimpse.title, figure(own)]
    for name in (name for name in glimpse.others if name in rows):
        other = rows[name]
        if key in _MORE:
            verdict = ["", _BEHIND if own["median"][key] < other["median"][key] else ""]
        else:
            ratio = measurement.ratio(other["values"][key], own["values"][key])
            verdict = [cells.ratio(ratio), standing(ratio)]
        lines.append(cells.line([*words, name, figure(other), *verdict]))
        words = ["", ""]
    return lines


def of_accuracy(content: Mapping[str, Any]) -> str:
    """Dice with its interval after each budget of a CPU, the best of the first budget first; volseg's are named so."""
    tables = {
        table["title"].split(" of ")[0]: {row["name"]: row for row in table["rows"]}
        for table in content["tables"]
        if "," not in table["title"]
    }
    shown: dict[str, dict[str, Any]] = {}
    for rows in tables.values():
        shown |= {name: row for name, row in rows.items() if name not in shown}
    lines = [cells.line(["Trained by", *(f"Dice after {title}" for title in tables), "Million weights"])]
    lines += [cells.line(["---"] * (len(tables) + 2))]
    for name, row in shown.items():
        own = name.partition(" batch ")[0] in networks.NETWORKS
        words = [f"{'volseg ' if own else ''}{name}"]
        for rows in tables.values():
            dice = rows[name]["median"]["dice"] if name in rows else None
            span = f" {rows[name]['facts']['Dice, 95 % CI']}" if name in rows else ""
            words.append(cells.number(dice, 3) + span)
        weights = row["median"]["million_parameters"]
        lines.append(cells.line([*words, cells.number(weights, 1 if weights >= 1 else 2)]))
    return "\n".join(lines) + "\n"


def standing(ratio: Mapping[str, float] | None) -> str:
    """Nothing where volseg takes less in every round.

    >>> standing({"median": 0.9, "low": 0.8, "high": 1.1})
    'within the spread'
    """
    if ratio is None or ratio["low"] > 1:
        return ""
    return _BEHIND if ratio["high"] < 1 else "within the spread"

"""A training run on one page: the content of run.json as Markdown."""

from __future__ import annotations

import shlex
from collections.abc import Mapping, Sequence
from typing import Any

_MOST_ROWS = 20


def run_as_markdown(run: Mapping[str, Any]) -> str:
    """The page: status and settings of the run, its validations, and the commands that use its network.

    Args:
        run: Content of run.json, see run.schema.json.
    """
    parts = [f"# {_title(run)}", _outcome(run), _facts(run), _validations(run), _commands(run)]
    return "\n\n".join(part for part in parts if part) + "\n"


def _title(run: Mapping[str, Any]) -> str:
    return f"Training of {run['bundle'] or run['network']['name']}"


def _outcome(run: Mapping[str, Any]) -> str:
    epochs = run["history"][-1]["epoch"] if run["history"] else 0
    took = _duration(run["timing"]["seconds"])
    lines = [f"**{run['status'].capitalize()}** after {epochs} of {run['max_epochs']} epochs, {took}."]
    if run["error"]:
        lines.append(f"Error: {run['error']}")
    best = run["best"]
    if best:
        cohort = run["cohort"]
        lines.append(
            f"Best mean Dice of the {cohort['validation_cases']} validation cases of fold {cohort['fold']}: "
            f"**{best['dice']:.3f}**, epoch {best['epoch']}. It chose the checkpoint, so it is slightly optimistic."
        )
    elif not run["cohort"]["validation_cases"]:
        lines.append("Every case was trained on, so no Dice was measured; model.pt is the network of the last step.")
    elif run["checkpoints"] and run["history"]:
        lines.append(
            "No validation tells one network from another: each mean Dice is 0 or undefined. model.pt is the network "
            "of the last validation, and not the best of several."
        )
    return "\n\n".join(lines)


def _facts(run: Mapping[str, Any]) -> str:
    network, cohort, timing, machine = run["network"], run["cohort"], run["timing"], run["machine"]
    window = " x ".join(map(str, network["roi_size"]))
    flops = "" if network["flops"] is None else f", {network['flops'] / 1e9:.3g} GFLOP"
    rows = {
        "Network": f"{network['name']}, {network['parameters'] / 1e6:.3g} million parameters; window {window}{flops}; "
        f"{network['initialisation']}",
        "Cohort": f"{cohort['folder']}, digest {cohort['digest']}; fold {cohort['fold']}: "
        f"{cohort['training_cases']} cases to train on, {cohort['validation_cases']} to validate",
        "Regions": ", ".join(cohort["regions"]),
        "Given": ", ".join(f"`--{name} {_word(value)}`" for name, value in run["settings"]["given"].items())
        or "nothing: all settings are the bundle's own",
        "Seed": str(run["settings"]["values"].get("seed", "none")),
        "Speed": _speed(timing),
        "Memory": _memory(run["memory"]),
        "Machine": f"{machine['gpu'] or machine['processor']}, {machine['cores']} cores, on {machine['host']}"
        + (f"; {machine['processes']} processes" if machine["processes"] > 1 else ""),
        "Versions": _versions(run),
        "Checkpoints": ", ".join(f"{one['file']} ({one['bytes'] / 2**20:.0f} MiB)" for one in run["checkpoints"])
        or "none yet",
    }
    if len(run["sessions"]) > 1:
        told = (f"epochs from {one['first_epoch']} ({one['status']})" for one in run["sessions"])
        rows["Resumed"] = f"{len(run['sessions'])} sessions: {', '.join(told)}"
    return "\n".join(["| | |", "|---|---|", *(f"| {name} | {_cell(text)} |" for name, text in rows.items())])


def _speed(timing: Mapping[str, Any]) -> str:
    if timing["seconds_per_iteration"] is None:
        return "not measured yet"
    wait = timing["data_wait_share"] or 0.0
    return (
        f"{timing['seconds_per_iteration']:.3f} s per iteration, {timing['iterations']} iterations; "
        f"{100 * wait:.1f} % of the time waiting for data"
    )


def _memory(memory: Mapping[str, Any]) -> str:
    told = [
        f"{memory[name] / 2**30:.2f} GiB {where}"
        for name, where in (("resident_bytes", "resident"), ("cuda_bytes", "on the GPU"))
        if memory[name] is not None
    ]
    return ", ".join(told) + " at the peak" if told else "not measured"


def _versions(run: Mapping[str, Any]) -> str:
    told = [f"{name} {version}" for name, version in run["versions"].items() if version]
    if run["git"]:
        changed = ", with changes" if run["git"]["dirty"] else ""
        told.insert(0, f"commit {run['git']['commit'][:12]}{changed}")
    return ", ".join(told)


def _validations(run: Mapping[str, Any]) -> str:
    rows = [row for row in run["history"] if row["dice"] is not None]
    best = run["best"]["epoch"] if run["best"] else 0
    if not rows:
        return ""
    regions = run["cohort"]["regions"]
    lines = [
        "## Validations",
        "",
        f"| epoch | loss | learning rate | mean Dice | {' | '.join(map(_cell, regions))} |",
        "|---" * (4 + len(regions)) + "|",
    ]
    for row in _thinned(rows, best=best):
        mark = "**" if row["epoch"] == best else ""
        dice = [_dice(row["dice"]), *(_dice((row["regions"] or {}).get(region)) for region in regions)]
        loss = "" if row["loss"] is None else f"{row['loss']:.3f}"
        cells = [str(row["epoch"]), loss, f"{row['learning_rate']:.2g}", *dice]
        lines.append("| " + " | ".join(f"{mark}{cell}{mark}" if cell else "" for cell in cells) + " |")
    return "\n".join(lines)


def _thinned(rows: Sequence[Mapping[str, Any]], *, best: int) -> list[Mapping[str, Any]]:
    """At most one page of rows: evenly chosen, the best and the last among them."""
    step = -(-len(rows) // _MOST_ROWS)
    last = rows[-1]["epoch"]
    return [row for number, row in enumerate(rows, start=1) if number % step == 0 or row["epoch"] in (best, last)]


def _commands(run: Mapping[str, Any]) -> str:
    if not any(one["file"] == "model.pt" for one in run["checkpoints"]):
        return ""
    bundle = run["settings"]["values"].get("bundle_root") or run["bundle"]
    if not bundle:
        return ""
    folder, cohort = run["folder"], run["cohort"]
    predictions = f"{folder}/predictions"
    fold = ["--part", "validation", "--fold", str(cohort["fold"])]
    checkpoint = ["--checkpoint", f"{folder}/model.pt"]
    commands = [
        ["volseg", "predict", bundle, cohort["folder"], *fold, *checkpoint, "-o", predictions],
        ["volseg", "evaluate", predictions, cohort["folder"], *fold, "-o", f"{folder}/report"],
        ["volseg", "train", bundle, "--config_file", f"{folder}/train.json", "--output_dir", f"{folder}_again"],
    ]
    told = ["Segment the validation cases, report on them, and train the same again:"]
    if not cohort["validation_cases"]:
        commands[:2] = [["volseg", "predict", bundle, "IMAGES", *checkpoint, "-o", predictions]]
        told = ["Segment images, and train the same again:"]
    return "\n".join(["## Use it", "", *told, "", *(f"    {shlex.join(words)}" for words in commands)])


def _dice(value: float | None) -> str:
    return "–" if value is None else f"{value:.3f}"


def _duration(seconds: float) -> str:
    """A duration in two units, such as `6 min 23 s` or `2 h 5 min`."""
    minutes, rest = divmod(round(seconds), 60)
    hours, minutes = divmod(minutes, 60)
    if hours:
        return f"{hours} h {minutes} min"
    return f"{minutes} min {rest} s" if minutes else f"{rest} s"


def _word(value: object) -> str:
    text = str(value).replace(" ", "") if isinstance(value, (list, bool)) else str(value)
    return text if len(text) < 80 else f"{text[:77]}..."


def _cell(text: str) -> str:
    return text.replace("|", "\\|").replace("\n", " ")

"""`volseg calibrate RUN|CROSSVAL COHORT`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from volseg.cli.shared_options import file_to_write

if TYPE_CHECKING:
    from volseg.calibration import Calibration
    from volseg.cohort import Cohort
    from volseg.labels import Cleanup


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg calibrate data/crossval data/cohort")(calibrate)


def calibrate(
    run: Path = typer.Argument(help="Folder of a training or of a cross-validation.", metavar="RUN|CROSSVAL"),
    cohort: Path = typer.Argument(help="Cohort that it was trained on."),
    *,
    level: float = typer.Option(0.9, min=0.5, max=0.99, help="Probability of the bounds, 0.5 to 0.99."),
    predictions: Path | None = typer.Option(
        None, help="Predictions of held-out cases with --save-probabilities; by default found, or made for a RUN."
    ),
    bundle: str | None = typer.Option(None, help="Bundle of a RUN; by default the one that its run.json names."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default."),
    output: Path | None = typer.Option(
        None,
        "-o",
        "--output",
        help="File; calibration.json beside the checkpoint by default, where predict finds it.",
        callback=file_to_write,
    ),
    workers: int = typer.Option(2, min=1, help="Number of cases read at once."),
) -> None:
    """Learn from held-out cases what predictions of new ones may promise, and write calibration.json.

    It holds the temperature of each region, whether its largest expected Dice beats the threshold, and the quantiles of
    a lower bound of Dice, of an interval of the volume, and of a margin in mm. The unit is the patient.
    """
    from volseg.calibration import CALIBRATION, HeldOut, calibrate
    from volseg.cli.bar import bar
    from volseg.cohort import Cohort, Predictions

    opened = Cohort.open(cohort)
    source = _crossval(run, opened) or _run(run, opened, bundle=bundle)
    checkpoints = _checked(source.members, opened)
    folder = predictions or source.predictions
    if folder is None:
        folder = _predicted(source, cohort, device=device)
    held = Predictions.open(folder)
    keys = [key for key in source.keys if predictions is None or held.probabilities_path(key).is_file()]
    made_with = {} if predictions is None else _options(predictions)
    with bar("calibrate") as progress:
        calibration = calibrate(
            HeldOut(held, opened, keys, source.cleanup, workers),
            level=level,
            progress=progress,
            options={**source.options, **made_with, **_shown_priors(source.members, folder)},
            **checkpoints,
        )
    path = calibration.save(output or source.folder / CALIBRATION)
    for note in source.notes:
        typer.secho(f"note  {note}", fg="yellow", err=True)
    for line in _lines(calibration):
        typer.echo(line)
    typer.echo(f"wrote {path}; `volseg predict` uses it where it lies beside the checkpoint")


_LEAST_SHARE = 0.6  # of the steps of the fold that was trained longest


@dataclass(frozen=True)
class _Source:
    """What is calibrated, and the cases that it has not trained on."""

    members: Sequence[tuple[str, Path]]
    folder: Path
    keys: Sequence[str]
    predictions: Path | None
    cleanup: Cleanup
    options: Mapping[str, Any]
    fold: int = 0
    notes: Sequence[str] = field(default_factory=tuple)


def _crossval(folder: Path, cohort: Cohort) -> _Source | None:
    """The ensemble of a cross-validation; None of another folder."""
    from volseg.bundle import is_ensemble, read_ensemble
    from volseg.crossval import CrossvalFolder
    from volseg.errors import UsageError

    if is_ensemble(folder) and (folder.parent / "crossval.json").is_file():
        folder = folder.parent
    there = CrossvalFolder(folder)
    if not there.settings.is_file():
        return None
    if not is_ensemble(there.ensemble):
        raise UsageError(f"{folder} has no ensemble yet; run its `volseg crossval` to the end")
    ensemble = read_ensemble(there.ensemble)
    members = list(ensemble.facts["members"])
    names = list(dict.fromkeys(str(member["bundle"]) for member in members))
    folds = sorted({int(member["fold"]) for member in members})
    keys = [key for fold in folds for key in cohort.fold(fold).validation]
    one = there.validation(names[0], folds[0]) if len(names) == 1 else there.oof("+".join(names))
    options = {"overlap": 0.5, "flips": [], **_options(one), "cleanup": ensemble.cleanup.to_json()}
    steps = {(name, fold): _steps(there.network(name, fold)) for name in names for fold in folds}
    alone = len(ensemble.members) == 1  # of one fold: `volseg predict` looks beside its checkpoint
    return _Source(
        ensemble.members,
        ensemble.members[0][1].parent if alone else there.ensemble,
        keys,
        there.oof("+".join(names)),
        ensemble.cleanup,
        options,
        folds[0],
        unlike_folds(steps),
    )


def _steps(checkpoint: Path) -> int:
    """Steps that a network was trained for, of the run.json beside it; 0 if it is not known."""
    import json

    record = checkpoint.with_name("run.json")
    facts = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    return int(facts.get("timing", {}).get("iterations") or 0)


def unlike_folds(steps: Mapping[tuple[str, int], int]) -> list[str]:
    """A note per bundle whose folds were trained for very unlike numbers of steps, as minutes on a busy machine do it.

    Args:
        steps: Steps of each bundle and fold; 0 if they are not known.

    >>> unlike_folds({("unet", 0): 1760, ("unet", 1): 480})  # doctest: +ELLIPSIS
    ['fold 1 of unet was trained for 480 steps and fold 0 for 1,760: ...']
    >>> unlike_folds({("unet", 0): 1760, ("unet", 1): 1440, ("unet", 2): 0})
    []
    """
    notes = []
    for name in dict.fromkeys(name for name, _ in steps):
        known = {fold: count for (bundle, fold), count in steps.items() if bundle == name and count}
        if not known:
            continue
        least, most = min(known, key=lambda fold: known[fold]), max(known, key=lambda fold: known[fold])
        if known[least] < _LEAST_SHARE * known[most]:
            notes.append(
                f"fold {least} of {name} was trained for {known[least]:,} steps and fold {most} for {known[most]:,}: "
                "the folds are not alike, and bounds are as wide as their mixture needs; give --max_epochs rather than "
                "minutes where the machine is shared"
            )
    return notes


def _run(folder: Path, cohort: Cohort, *, bundle: str | None) -> _Source:
    """The network of a training.

    Raises:
        UsageError: The folder holds none, or it is not known of which bundle it is.
    """
    import json

    from volseg.bundle import read_recipe
    from volseg.cohort import ALL
    from volseg.errors import UsageError
    from volseg.labels import Cleanup

    checkpoint = folder if folder.is_file() else folder / "model.pt"
    if not folder.exists():
        raise UsageError(f"there is no {folder}; name the folder of a training or a cross-validation")
    if not checkpoint.is_file():
        raise UsageError(
            f"{folder} holds neither crossval.json nor model.pt; name the folder of a training or a cross-validation"
        )
    record = checkpoint.with_name("run.json")
    facts = json.loads(record.read_text(encoding="utf-8")) if record.is_file() else {}
    name = bundle or facts.get("bundle")
    if not name:
        raise UsageError(f"{checkpoint.parent} has no run.json that names the bundle; name it with --bundle")
    recipe = read_recipe(checkpoint)
    fold = recipe.facts.get("fold")
    if fold is None:
        raise UsageError(f"{checkpoint} does not say which fold it was trained on, so no case is known to be held out")
    if fold == ALL:
        raise UsageError(
            f"{checkpoint} was trained on every case (--fold {ALL}), so none is held out; calibrate the run of a fold, "
            "or a cross-validation"
        )
    notes = []
    if facts.get("cohort", {}).get("digest") not in (None, cohort.digest):
        notes.append(
            f"{cohort.folder} has other cases or folds than at the training; a case that the network has trained on "
            "makes the bounds too high"
        )
    validation = cohort.fold(int(fold)).validation
    notes.append(
        f"the {len(validation)} held-out cases of fold {fold} may have chosen the best epoch too, which makes the "
        "bounds slightly too high; `volseg crossval` and its ensemble have five times as many"
    )
    options = {"overlap": 0.5, "flips": [], "cleanup": {}}
    return _Source([(str(name), checkpoint)], checkpoint.parent, validation, None, Cleanup(), options, int(fold), notes)


def _options(folder: Path) -> dict[str, Any]:
    """The options of inference that a folder of predictions was made with; none if it does not say."""
    import json

    path = folder / "run_report.json"
    if not path.is_file():
        return {}
    stated = json.loads(path.read_text(encoding="utf-8")).get("options", {})
    return {"overlap": stated.get("overlap", 0.5), "flips": stated.get("flips", [])}


def _shown_priors(members: Sequence[tuple[str, Path]], folder: Path) -> dict[str, bool]:
    """Whether networks that take a prior were shown one in a folder of predictions; nothing of other networks."""
    from volseg.bundle import read_recipe
    from volseg.inference import PRIORS

    takes = any(read_recipe(path).takes_prior for _, path in members)
    return {"prior": (folder / PRIORS).is_file()} if takes else {}


def _checked(members: Sequence[tuple[str, Path]], cohort: Cohort) -> dict[str, Any]:
    """The digests of the networks and their plans.

    Raises:
        LabelError: They have other labels than the cohort.
    """
    from volseg.bundle import read_recipe, weights_digest
    from volseg.errors import LabelError

    recipes = [read_recipe(path) for _, path in members]
    for recipe in recipes:
        if recipe.labels.digest != cohort.labels.digest:
            raise LabelError(
                f"the network segments {list(recipe.labels.names)}, the cohort has {list(cohort.labels.names)} with "
                "other names, values or in another order; name the cohort that it was trained on"
            )
    networks = sorted(weights_digest(path) for _, path in members)
    return {"networks": tuple(networks), "plans": tuple(sorted(recipe.plan_digest for recipe in recipes))}


def _predicted(source: _Source, cohort: Path, *, device: str | None) -> Path:
    """Predict the held-out cases of a training, with their probabilities."""
    from volseg.cli.bar import bar, tell_failures
    from volseg.cohort import write_labels
    from volseg.inference import find_inputs
    from volseg.jobs import Predicting, WorkerOptions, predict_cases

    folder = source.folder / "calibration"
    overrides = {"overlap": source.options["overlap"], "precision": "auto", "save_probabilities": True}
    asked = Predicting(source.members, device, "auto", overrides, calibrated=False)
    predictor = asked.load(device)
    work, recipe = asked.of(predictor), predictor.recipe
    write_labels(folder, recipe.labels, channel_names=recipe.image_channels, made_with=work.made_with(recipe.labels))
    cases = find_inputs(cohort, channels=recipe.image_channels, part="validation", fold=source.fold)
    with bar("predict") as progress:
        done = predict_cases(
            work,
            cases,
            folder,
            worker_options=WorkerOptions(),
            choose=predictor.with_engine,
            progress=progress,
        )
    tell_failures(done.failed)
    return folder


def _lines(calibration: Calibration) -> list[str]:
    """What was found, in a few lines per region."""
    told = []
    for name, one in calibration.regions.items():
        level = f"{100 * one.level:.0f} %"
        few = "" if one.level >= calibration.level else f", the most that {one.patients} patients can give"
        told.append(f"{name}: bounds at {level}{few}; {one.patients} patients, {one.set_apart} set apart to choose")
        facts = one.decision
        if facts.get("gain") is not None:
            p = "no p" if facts["p"] is None else f"p {facts['p']:.2g}"
            told.append(
                f"  decision: {facts['rule']}; Dice {facts['dice_of_threshold']:.3f} by threshold, "
                f"{facts['dice_of_dice']:.3f} for the largest expected Dice ({facts['gain']:+.4f}, {p})"
            )
        told.append(
            f"  scaling of the decision: temperature {one.scaling.temperature:g}, shift {one.scaling.shift:+g}; of the "
            f"bounds: temperature {one.temperature:g}; normaliser of Dice: {one.dice.normaliser.name}"
        )
        if one.checked.get("median_bound") is not None:
            margin = "margin {margin:.1%}, median {median_margin_mm} mm" if "margin" in one.checked else "no margin"
            told.append(
                (
                    "  patients left out by turns: Dice bound {dice:.1%} right, median {median_bound:.3f}, {slack:.3f} "
                    f"below the true Dice; volume {{volume:.1%}}; {margin}; {{answered:.1%}} comparable"
                ).format(**one.checked)
            )
    return told

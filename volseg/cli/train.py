"""`volseg train BUNDLE`."""

from __future__ import annotations

import ast
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import typer
from typer.core import TyperCommand

from volseg.errors import UsageError


class TrainCommand(TyperCommand):
    """The command, whose help lists the settings of the bundle that stands before `--help`."""

    def parse_args(self, ctx: Any, args: list[str]) -> list[str]:  # noqa: ANN401 - typer has its own click
        """Parse the words after `train`."""
        ctx.meta[_WORDS] = [word for word in args if not word.startswith("-")]
        return super().parse_args(ctx, args)

    def format_help(self, ctx: Any, formatter: Any) -> None:  # noqa: ANN401
        """Write the help, and the settings of a bundle that was named."""
        super().format_help(ctx, formatter)
        formatter.write(_settings_of(ctx.meta.get(_WORDS, ())))


_WORDS = "volseg.words"
_TIMES = 3
_INDENT = 6
_MORE = "volseg train BUNDLE --help lists the settings of a bundle too.\n"


def _settings_of(words: Sequence[str]) -> str:
    """The settings of the first word that is a bundle, each with type, default and sentence."""
    if not words:
        return _MORE
    import shutil
    import textwrap

    from volseg.bundle import find, settings_table
    from volseg.errors import BundleError

    width = min(100, shutil.get_terminal_size().columns)
    for word in words:
        try:
            folder = find(word)
        except BundleError:
            continue
        lines = [f"Settings of {folder.name}, each given as --NAME VALUE:", ""]
        for setting in settings_table(folder):
            gpu = f"; on a GPU {setting.default_gpu}" if setting.default_gpu != setting.default else ""
            lines.append(f"  --{setting.name}  <{setting.kind}>  default: {setting.default}{gpu}")
            lines += textwrap.wrap(
                setting.meaning, width, initial_indent=" " * _INDENT, subsequent_indent=" " * _INDENT
            )
        return "\n".join([*lines, ""])
    return _MORE


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        cls=TrainCommand,
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog="Example: volseg train swinunetr --dataset_dir data/cohort --max_epochs 100",
    )(train)


def train(
    context: typer.Context,
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    config_file: list[Path] = typer.Option(
        [], "--config-file", "--config_file", help="A further config laid over train.json; may be repeated."
    ),
    corrections: str | None = typer.Option(
        None, metavar="RUN", help="Go on from the network of RUN with the cases that `volseg adopt` corrected."
    ),
    times: int | None = typer.Option(
        None, min=1, help=f"How often an epoch takes each corrected case, with --corrections; {_TIMES} by default."
    ),
    dry: bool = typer.Option(False, help="Check everything and stop before training."),
) -> None:
    """Check a bundle and its cohort, then train. Any setting of train.json can be given: --max_epochs 100.

    --resume goes on with an interrupted training of the same output_dir, or begins where there is none.
    """
    overrides = _overrides(context.args)
    if times is not None and corrections is None:
        raise UsageError("--times says how often corrected cases are taken; give --corrections RUN too")
    times = times or _TIMES
    if corrections is not None:
        overrides = _with_corrections(overrides, corrections, times=times)
    for file in config_file:
        if not file.is_file():
            raise UsageError(f"there is no file {file}; correct --config-file")
    if isinstance(overrides.get("dataset_dir"), str):
        from volseg.cli.place import fetched

        fetched(str(overrides["dataset_dir"]))  # with a bar; the bundle opens it again
    if corrections is not None:
        overrides = _as_before(bundle, overrides, config_file, corrections)
    whole = check_words(bundle, overrides, config_file, context.command)
    if corrections is not None and "priors" in whole:  # which the train.json of version 0.1 does not have
        overrides["train#dataset#data"] = _WITH_PRIORS.format(times=times)
    _check_cohort(bundle, overrides, corrected=corrections is not None)
    import warnings

    with warnings.catch_warnings():
        # Notices of third parties about their own future; `python -m monai.bundle run` shows them.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from volseg.training import train as run

        checkpoint = run(bundle, overrides=overrides, more=config_file, dry=dry)
    from volseg.cohort import ALL
    from volseg.report import has_best

    if corrections is not None and not dry:
        typer.echo(f"compare both: volseg compare {corrections} {checkpoint.parent} -o FOLDER")
    if dry:
        typer.echo("the checks passed")
    elif overrides.get("fold") == ALL:
        typer.echo(f"the network of the last step is {checkpoint}; it was trained on every case and validated on none")
    elif has_best(checkpoint.parent):
        typer.echo(f"the best network is {checkpoint}")
    else:
        typer.echo(
            f"no validation tells one network from another (Dice 0 or undefined); {checkpoint} is the last of them"
        )


def _with_corrections(overrides: dict[str, object], run: str, *, times: int) -> dict[str, object]:
    """The overrides of a training that starts from a run and takes corrected cases several times.

    The fold is that of the run, so that the validation is the same; a package is of another cohort, and states none.
    --weights and --train#dataset#data are refused.
    """
    from volseg.bundle import read_recipe

    own = {"weights": run, "train#dataset#data": _DATALIST.format(times=times)}
    if given := [name for name in own if name in overrides]:
        raise UsageError(f"--corrections says where to start and on which cases; leave --{given[0]} out")
    if (checkpoint := _checkpoint_of(run)) is not None and not _is_package(run):
        fold = read_recipe(checkpoint).facts.get("fold", 0)
        if overrides.setdefault("fold", fold) != fold:
            raise UsageError(
                f"{run} was trained on fold {fold}; a training after corrections keeps it, leave --fold out"
            )
    return {**overrides, **own}


def _checkpoint_of(run: str) -> Path | None:
    """The checkpoint of a run, a package or a file; None of what holds no recipe, or of what the training tells."""
    from volseg.bundle import weights_file
    from volseg.errors import CheckpointError

    try:
        found = weights_file(run)
    except CheckpointError:
        return None
    return None if found.suffix == ".pth" else found


def _is_package(run: str) -> bool:
    """Whether the folder or the name of a package was given."""
    from volseg.bundle import find
    from volseg.errors import BundleError

    try:
        find(run)
    except BundleError:
        return False
    return True


def _as_before(bundle: str, overrides: dict[str, object], more: Sequence[Path], run: str) -> dict[str, object]:
    """The overrides of a training that goes on, with the settings of the run that the user does not state himself."""
    from volseg.bundle import PLANNED, find, run_settings
    from volseg.cohort import Cohort
    from volseg.errors import VolsegError
    from volseg.plan import is_plan

    checkpoint = _checkpoint_of(run)
    if checkpoint is None or not isinstance(overrides.get("dataset_dir"), str):
        return overrides
    try:
        names = Cohort.open(str(overrides["dataset_dir"])).channel_names
        found = run_settings(checkpoint, find(bundle), channel_names=names)
    except VolsegError:  # what is wrong with the cohort or the bundle is told where the training opens them
        return overrides
    stated = {name.replace("::", "#").partition("#")[0] for name in overrides}
    for file in more:
        stated |= set(PLANNED if is_plan(file) else _ids_of(file))
    stated |= set(PLANNED) if overrides.get("plan_file") else set()
    stated |= {"roi_size"} if stated & {"spacing_mm", "roi_voxels"} else set()
    kept = {name: value for name, value in found.items() if name.partition("#")[0] not in stated}
    if kept:
        told = ", ".join(f"{name} {_told(value)}" for name, value in kept.items())
        typer.echo(f"as {run} was trained: {told}", err=True)
    return {**kept, **overrides}


def _told(value: object) -> str:
    """A setting in a few words."""
    if isinstance(value, list) and value and all(isinstance(one, Mapping) for one in value):
        return ",".join(str(one["scheme"]) for one in value)
    return f"{value:.3g}" if isinstance(value, float) else str(value)


def _ids_of(file: Path) -> set[str]:
    """The ids at the top of a config in JSON or YAML; none of a file that is neither, which MONAI tells."""
    import yaml  # type: ignore[import-untyped]

    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))  # JSON is YAML too
    except (yaml.YAMLError, ValueError):
        return set()
    return {str(name).replace("::", "#").partition("#")[0] for name in content} if isinstance(content, dict) else set()


_DATALIST = "$volseg.training.corrected_datalist(@cohort, fold=@fold, times={times})"
_WITH_PRIORS = "$volseg.training.corrected_datalist(@cohort, fold=@fold, times={times}, priors=@priors)"


def check_words(
    bundle: str | Path, overrides: Mapping[str, object], more: Sequence[Path], command: object
) -> dict[str, Any]:
    """Tell what words and JSON tell before PyTorch is loaded; returns the config with the user's values."""
    from volseg.bundle import check_training_words
    from volseg.cli.mistakes import option_names
    from volseg.plan import check_roi, is_plan

    whole = check_training_words(
        bundle,
        overrides=overrides,
        more=[file for file in more if not is_plan(file)],
        options=[name.lstrip("-") for name in option_names(command)],
    )
    roi, divisor = overrides.get("roi_size"), whole.get("roi_divisor")
    if isinstance(roi, (list, tuple)) and isinstance(divisor, (int, list)):
        check_roi(roi, divisor=divisor)
    return whole


def _check_cohort(bundle: str, overrides: dict[str, object], *, corrected: bool) -> None:
    """Tell that a cohort is not there, is none or has no corrected case, before PyTorch is loaded.

    The phantom is written where it is not.
    """
    from volseg.bundle import data_dir, find
    from volseg.cohort import Cohort, corrected_cases, read_dataset_json
    from volseg.remote import is_url

    named = overrides.get("dataset_dir")
    if not isinstance(named, str) or named.startswith(("$", "@")) or is_url(named):
        return
    if Path(named).resolve() != (Path(data_dir(find(bundle))) / "phantom").resolve():
        read_dataset_json(Path(named))
        if corrected:
            corrected_cases(Path(named), Cohort.open(named).labelled)


def _overrides(words: list[str]) -> dict[str, object]:
    """`--name value` and `--name=value` as a dictionary; values are read as Python literals where they are some.

    `--resume` alone is true.
    """
    from volseg.bundle import is_path_setting

    result: dict[str, object] = {}
    rest = list(words)
    while rest:
        word = rest.pop(0)
        if not word.startswith("--"):
            raise UsageError(f"settings are given as --name value, got {word!r}; write the name with -- before it")
        name, equals, value = word[2:].partition("=")
        if not equals:
            bare = not rest or rest[0].startswith("--")
            if bare and rest and is_path_setting(name):
                raise UsageError(f"--{name} has no value; a path that begins with -- is given as --{name}={rest[0]}")
            if bare and name == "resume":
                result[name] = True
                continue
            if bare:
                raise UsageError(f"--{name} has no value; settings are given as --name value")
            value = rest.pop(0)
        result[name] = _path(value) if is_path_setting(name) else _literal(value)
    return result


def _literal(value: str) -> object:
    """A Python literal, or a word of JSON; any other text as it is."""
    try:
        return ast.literal_eval(value)
    except (ValueError, SyntaxError):
        return {"true": True, "false": False, "null": None}.get(value, value)


def _path(value: str) -> object:
    """A path as it was typed, so that a folder `2024` or `[1]` stays one; quotes around all of it fall off."""
    found = _literal(value)
    return found if (isinstance(found, str) and not Path(value).exists()) or found is None else value

"""`volseg train BUNDLE`."""

from __future__ import annotations

import ast
from pathlib import Path

import typer

from volseg.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(
        context_settings={"allow_extra_args": True, "ignore_unknown_options": True},
        epilog="Example: volseg train swinunetr --dataset_dir data/cohort --max_epochs 100",
    )(train)


def train(
    context: typer.Context,
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    config_file: list[Path] = typer.Option(
        [], "--config-file", "--config_file", help="A further config laid over train.json; may be repeated."
    ),
    dry: bool = typer.Option(False, help="Check everything and stop before training."),
) -> None:
    """Check a bundle and its cohort, then train. Any setting of train.json can be given: --max_epochs 100.

    --resume goes on with an interrupted training of the same output_dir, or begins where there is none.
    """
    overrides = _overrides(context.args)
    for file in config_file:
        if not file.is_file():
            raise UsageError(f"there is no file {file}; correct --config-file")
    if isinstance(overrides.get("dataset_dir"), str):
        from volseg.cli.place import fetched

        fetched(str(overrides["dataset_dir"]))  # with a bar; the bundle opens it again
    import warnings

    with warnings.catch_warnings():
        # Notices of third parties about their own future; `python -m monai.bundle run` shows them.
        warnings.simplefilter("ignore", FutureWarning)
        warnings.simplefilter("ignore", DeprecationWarning)
        from volseg.training import train as run

        checkpoint = run(bundle, overrides=overrides, more=config_file, dry=dry)
    from volseg.cohort import ALL
    from volseg.report import has_best

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

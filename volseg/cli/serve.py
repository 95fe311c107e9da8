"""`volseg serve BUNDLE --cohort COHORT`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

import typer

from volseg.errors import UsageError

if TYPE_CHECKING:
    from volseg.inference import AnyPredictor


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg serve unet --cohort data/cohort --checkpoint data/runs/unet/model.pt")(serve)


def serve(
    bundle: str | None = typer.Argument(
        None, help="Name in bundles/, folder, or zip of `volseg pack`; not needed where --checkpoint tells it."
    ),
    cohort: Path = typer.Option(..., help="Cohort whose cases are corrected; the labels that come home are its own."),
    checkpoint: Path | None = typer.Option(
        None, help="Checkpoint, folder of a run, ensemble folder, or zip of `volseg pack`; the bundle's by default."
    ),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; others than this computer need --token-file."),
    port: int = typer.Option(8000, min=1, max=65535, help="Port to listen at."),
    token_file: Path | None = typer.Option(None, help="File whose text every client must give as password."),
    train_minutes: float = typer.Option(20.0, min=0.1, help="Minutes of a training that a client starts."),
) -> None:
    """Serve a network and a cohort to 3D Slicer, by the plug-in of MONAI Label.

    It lists cases, says which to look at first, predicts, takes corrected labels into the cohort as `volseg adopt`
    does, and trains on them. /docs shows all requests.
    """
    try:
        import uvicorn

        from volseg.deploy.serve import (
            Rounds,
            Service,
            Training,
            given_networks,
            make_app,
            served_note,
            volseg_command,
        )
    except ImportError as error:
        raise UsageError(f"volseg serve needs {error.name}; install it with: pip install 'volseg[serve]'") from error
    from volseg.cohort import Cohort
    from volseg.deploy.demo.server import is_local
    from volseg.inference import load_predictor

    token = _token(token_file)
    if not is_local(host) and not token:
        raise UsageError(f"{host} can be reached by others; give a --token-file that clients must know")
    found = given_networks(bundle, checkpoint, unpacked=Cohort.open(cohort).folder / ".volseg" / "serve" / "packages")
    folder = found.bundle
    cleanup = {"cleanup": found.cleanup.to_json()} if found.cleanup else {}
    given = load_predictor(found.members, overrides=cleanup)
    alone = len(given.networks) == 1
    rounds = Rounds(cohort, folder, given.networks[0].checkpoint, minutes=train_minutes)

    def newest() -> AnyPredictor:
        latest = rounds.latest()
        if not alone or latest == rounds.given:
            return given
        return load_predictor([(str(folder), latest)], overrides=cleanup)

    def command(parameters: Mapping[str, Any]) -> list[str]:
        if not alone:
            raise UsageError(f"{len(given.networks)} networks are served, and a training goes on from one; serve one")
        return volseg_command(rounds.words(parameters))

    def done() -> str:
        if worse := rounds.worse():
            return f"the network of before is served on: {worse}"
        service.take_network(newest())
        return f"{rounds.latest()} is served from now on"

    training = Training(command, done=done, before=rounds.last_state(found.name) if alone else None, possible=alone)
    service = Service(found.name, cohort, newest(), training)
    hosts = ("localhost", "127.0.0.1", "[::1]", host) if is_local(host) else ("*",)
    typer.echo(f"http://{host}:{port} serves {found.name} and {cohort}; put this address into MONAI Label's plug-in")
    for note in (*service.notes, *([served_note(rounds)] if alone else [])):
        if note:
            typer.echo(note)
    uvicorn.run(make_app(service, token=token, hosts=hosts), host=host, port=port, log_level="warning")


def _token(path: Path | None) -> str:
    """The word of a token file; empty without one.

    Raises:
        UsageError: The file cannot be read, or holds nothing.
    """
    if path is None:
        return ""
    if not path.is_file():
        raise UsageError(f"there is no file {path}; correct --token-file")
    try:
        word = path.read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise UsageError(f"--token-file {path} cannot be read ({error})") from error
    if not word:
        raise UsageError(f"--token-file {path} is empty; put the word into it that clients must give")
    return word

"""`volseg serve BUNDLE --cohort COHORT`."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import typer

from volseg.errors import UsageError


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg serve unet --cohort data/cohort --checkpoint data/runs/unet/model.pt")(serve)


def serve(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    cohort: Path = typer.Option(..., help="Cohort whose cases are corrected; the labels that come home are its own."),
    checkpoint: Path | None = typer.Option(None, help="Checkpoint of the network; that of the bundle by default."),
    host: str = typer.Option("127.0.0.1", help="Address to listen at; others than this computer need --token-file."),
    port: int = typer.Option(8000, min=1, max=65535, help="Port to listen at."),
    token_file: Path | None = typer.Option(None, help="File whose text every client must give as password."),
    train_minutes: float = typer.Option(20.0, min=0.1, help="Minutes of a training that a client starts."),
) -> None:
    """Serve a network and a cohort to 3D Slicer and OHIF, by the plug-ins of MONAI Label.

    It lists cases, says which to look at first, predicts, takes corrected labels into the cohort as `volseg adopt`
    does, and trains on them. /docs shows all requests.
    """
    try:
        import uvicorn

        from volseg.deploy.serve import Service, Training, make_app
    except ImportError as error:
        raise UsageError(f"volseg serve needs {error.name}; install it with: pip install 'volseg[serve]'") from error
    from volseg.bundle import find
    from volseg.deploy.demo.server import is_local
    from volseg.inference import Predictor

    token = token_file.read_text(encoding="utf-8").strip() if token_file else ""
    if not is_local(host) and not token:
        raise UsageError(f"{host} can be reached by others; give a --token-file that clients must know")
    folder = find(bundle)
    predictor = Predictor.from_bundle(folder, checkpoint=checkpoint)

    def command(_: Mapping[str, Any]) -> list[str]:
        runs = cohort / ".volseg" / "serve" / "runs"
        number = 1 + len(list(runs.glob("*")))
        words = ["train", str(folder), "--dataset_dir", str(cohort), "--corrections", str(checkpoint or folder)]
        words += ["--output_dir", str(runs / f"{number:03d}"), "--max_minutes", str(train_minutes)]
        return [sys.executable, "-c", "from volseg.cli import main; main()", *words]

    service = Service(folder.name, cohort, predictor, Training(command))
    hosts = ("localhost", "127.0.0.1", "[::1]", host) if is_local(host) else ("*",)
    typer.echo(f"http://{host}:{port} serves {folder.name} and {cohort}; put this address into MONAI Label's plug-in")
    uvicorn.run(make_app(service, token=token, hosts=hosts), host=host, port=port, log_level="warning")

"""`volseg demo BUNDLE`."""

from __future__ import annotations

from pathlib import Path

import typer

_HOST, _PORT, _ENGINE = "127.0.0.1", 7860, "torch"


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg demo swinunetr --cohort data/cohort")(demo)


def demo(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    checkpoint: Path | None = typer.Option(None, help="The trained network; the bundle's own by default."),
    cohort: Path | None = typer.Option(None, help="A cohort whose cases can be picked, with Dice and time saved."),
    host: str = typer.Option(_HOST, help="Address to listen at; by default nobody else reaches it."),
    port: int = typer.Option(_PORT, min=0, max=65535, help="Port to listen at; 0 takes a free one."),
    name: list[str] = typer.Option(
        [], help="A name by which browsers may call this computer, others are refused; repeat it for more."
    ),
    max_mb: float = typer.Option(
        512, min=0.001, help="Size of the largest upload in MiB; a zip may unpack to eight times that."
    ),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default."),
    engine: str = typer.Option(
        _ENGINE, help="torch; compiled, openvino: on the CPU; auto: the fastest in a short trial."
    ),
    axes: str | None = typer.Option(
        None, help="Where columns, rows and slices of uploads point to; LPI for slices and LPS for an image by default."
    ),
    write_space: Path | None = typer.Option(
        None, metavar="FOLDER", help="Write the folder of a hosted demo (a Hugging Face Space) instead of serving."
    ),
) -> None:
    """A page in the browser: upload a volume or pick a case, see the prediction in slices and 3D, download it.

    The prediction is that of `volseg predict` with the same engine. Uploads lie
    in a temporary folder that only you can read, and are deleted when the page
    is closed and when the program ends. It needs `pip install "volseg[demo]"`.
    """
    from importlib.util import find_spec

    from volseg.errors import UsageError

    if write_space is not None:
        of_serving = {
            "--cohort": cohort is not None,
            "--host": host != _HOST,
            "--port": port != _PORT,
            "--name": bool(name),
            "--device": device is not None,
            "--engine": engine != _ENGINE,
            "--axes": axes is not None,
        }
        if given := [option for option, is_given in of_serving.items() if is_given]:
            raise UsageError(
                f"--write-space writes the folder of a demo elsewhere, which {', '.join(given)} would not reach; leave "
                "it out"
            )
        from volseg.deploy.demo.space import write_space as write

        write(write_space, bundle, checkpoint=checkpoint, max_mb=max_mb)
        typer.echo(f"wrote {write_space}: push it to a Hugging Face Space, or run `python app.py` in it")
        return
    if find_spec("gradio") is None:
        raise UsageError('the demo needs Gradio, which is not installed: pip install "volseg[demo]"')
    from volseg.deploy.demo.run import run

    def ready(url: str, *, local: bool) -> None:
        seen = "" if local else "; whoever reaches this address can use it"
        typer.echo(f"{url}  (Ctrl-C ends the demo and deletes all uploads{seen})")

    run(
        bundle,
        checkpoint=checkpoint,
        cohort=cohort,
        host=host,
        port=port,
        names=name,
        max_mb=max_mb,
        device=device,
        engine=engine,
        axes=axes,
        ready=ready,
    )

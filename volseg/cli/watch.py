"""`volseg watch IN OUT BUNDLE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

if TYPE_CHECKING:
    from volseg.watch.segmenting import Segmenting


def register(app: typer.Typer) -> None:
    """Add the command."""
    app.command(epilog="Example: volseg watch /data/inbox /data/segmented swinunetr --dicom-seg")(watch)


def watch(
    inbox: Path = typer.Argument(help="Folder that DICOM series or NIfTI files are dropped into.", metavar="IN"),
    output: Path = typer.Argument(help="Folder for KEY/KEY.nii.gz, series.csv and the journal.", metavar="OUT"),
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    checkpoint: Path | None = typer.Option(None, help="The trained network; the bundle's own by default."),
    settle: float = typer.Option(60.0, min=0, help="Seconds without a change after which a series is complete."),
    poll: float = typer.Option(5.0, min=0.05, help="Seconds between two looks at the folder."),
    once: bool = typer.Option(False, "--once", help="Do all that is there, once it is complete, and end: for cron."),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="Try series again that failed in former runs."),
    dicom_seg: bool = typer.Option(False, "--dicom-seg", help="Write a DICOM Segmentation of each series too."),
    rtstruct: bool = typer.Option(False, "--rtstruct", help="Write an RT Structure Set of each series too."),
    modality: str | None = typer.Option(None, help="Only DICOM series of CT, MR, PT; others are left aside."),
    secret_file: Path | None = typer.Option(None, help="A file whose text keys the words for patients."),
    device: str | None = typer.Option(None, help="cpu, cuda, cuda:1, ...; the best by default."),
    overlap: float = typer.Option(0.5, min=0, max=0.9, help="Share of a window that its neighbour covers."),
    precision: str = typer.Option("auto", help="fp32, bf16, or auto: bf16 where the hardware has it."),
    engine: str = typer.Option(
        "auto", help="torch; compiled, openvino: on the CPU; auto: the fastest in a short trial."
    ),
) -> None:
    """Segment each series that is dropped into a folder, once, when it is complete.

    A series is complete when none of its files has changed, grown or appeared
    for --settle seconds, as this program sees it; temporary names (.x, ~x,
    x.tmp, x.part, x.partial, ...) are waited for. Outputs appear at once, in a
    folder of their own. Files that come later make a new version, KEY_v2.
    What fails is tried once more. Ctrl-C and SIGTERM end it after the series in
    hand. Run again after a stop or a crash: nothing is lost or done twice.
    Files in IN are only read.
    """
    import signal
    import threading

    from volseg import bundle as bundles
    from volseg.cli.bar import tell_failures
    from volseg.errors import UsageError
    from volseg.sources.dicom_identity import read_secret
    from volseg.watch.inbox import Inbox
    from volseg.watch.ledger import Ledger
    from volseg.watch.segmenting import load_segmenting
    from volseg.watch.watcher import Watcher, check_folders
    from volseg.worklist import check_output

    bundles.config(bundles.find(bundle), "inference.json")
    if checkpoint is not None and not checkpoint.is_file():
        raise UsageError(f"there is no checkpoint {checkpoint}; name the model.pt of a training")
    secret = read_secret(secret_file)
    source = Inbox(inbox, settle_s=settle)
    check_folders(inbox, output)
    check_output(output, [])
    stop = threading.Event()

    def end(number: int, _: object) -> None:
        typer.echo("volseg: ending after the series in hand; a second signal ends at once", err=True)
        stop.set()
        signal.signal(number, signal.SIG_DFL if number == signal.SIGTERM else signal.default_int_handler)

    def load() -> Segmenting:
        segmenting, ledger.work = load_segmenting(
            output,
            bundle=bundle,
            checkpoint=checkpoint,
            device=device,
            engine=engine,
            overrides={"overlap": overlap, "precision": precision},
            dicom_seg=dicom_seg,
            rtstruct=rtstruct,
        )
        return segmenting

    ledger = Ledger(output, retry=retry_failed)
    try:
        handlers = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            typer.echo(f"{output}: {len(ledger)} series finished before; watching {inbox}", err=True)
            watcher = Watcher(source, ledger, load, secret=secret, modality=modality, poll_s=poll, stop=stop)
            told = watcher.run(once=once)
        finally:
            for number, handler in handlers.items():
                signal.signal(number, handler)
    finally:
        ledger.close()
    before = f"{told.before} found finished" + (f", {told.given_up} given up before" if told.given_up else "")
    typer.echo(f"{output}: {told.done} segmented, {before}, {len(told.failed)} failed")
    if once:
        tell_failures(told.failed)

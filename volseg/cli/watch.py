"""`volseg watch IN OUT BUNDLE`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.cli.network_options import NetworkOptions, with_network_options
from volseg.cli.shared_options import BValue, Echo, ImageType, Phase, Where, folder_to_write

if TYPE_CHECKING:
    from volseg.deploy.watch import Segmenting


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "Example: volseg watch /data/inbox /data/segmented swinunetr --dicom-seg"
    app.command(epilog=example)(with_network_options(watch))


def watch(
    inbox: Path = typer.Argument(help="Folder that DICOM series or NIfTI files are dropped into.", metavar="IN"),
    output: Path = typer.Argument(
        help="Folder for KEY/KEY.nii.gz, series.csv and the journal.", metavar="OUT", callback=folder_to_write
    ),
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    *,
    options: NetworkOptions,
    settle: float = typer.Option(60.0, min=0, help="Seconds without a change after which a series is complete."),
    poll: float = typer.Option(5.0, min=0.05, help="Seconds between two readings of the folder."),
    once: bool = typer.Option(False, "--once", help="Do all that is there, once it is complete, and end: for cron."),
    retry_failed: bool = typer.Option(False, "--retry-failed", help="Try series again that failed in former runs."),
    dicom_seg: bool = typer.Option(False, "--dicom-seg", help="Write a DICOM Segmentation of each series too."),
    rtstruct: bool = typer.Option(False, "--rtstruct", help="Write an RT Structure Set of each series too."),
    modality: str | None = typer.Option(
        None, help="Only DICOM series of this modality: CT, MR or PT; others are left aside."
    ),
    echo: Echo = None,
    phase: Phase = None,
    b_value: BValue = None,
    image_type: ImageType = None,
    where: Where = None,
    secret_file: Path | None = typer.Option(
        None, help="File whose text keys the words that stand for patients and series."
    ),
) -> None:
    """Segment each series that is dropped into a folder, once, when it is complete.

    A series is complete when none of its files has changed, grown or appeared
    for --settle seconds, as this program sees it; temporary names (.x, ~x,
    x.tmp, x.part, x.partial, ...) are waited for. Outputs appear at once, in a
    folder of their own. Files that come later make a new version, KEY_v2.
    What fails is tried once more. Ctrl-C and SIGTERM end it after the series in
    hand. Run again after a stop or a crash: nothing is lost or done twice.
    Files in IN are only read. The options of the networks are those of
    `volseg predict`.
    """
    import signal
    import threading

    from volseg.cli.bar import tell_failures
    from volseg.deploy.watch import Inbox, Ledger, Watcher, check_folders, load_segmenting
    from volseg.dicom import Choice, read_secret
    from volseg.errors import UsageError
    from volseg.inference import check_output

    asked = options.asked(bundle)
    if asked.step is not None and asked.step.folder is not None:
        raise UsageError("--within names label maps, which series that come later cannot have; name a bundle")
    choice = Choice.of(echo=echo, phase=phase, b_value=b_value, image_type=image_type, where=where or ())
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
        segmenting = load_segmenting(output, asked, flips=options.flips, dicom_seg=dicom_seg, rtstruct=rtstruct)
        ledger.work = segmenting.work.digest
        return segmenting

    ledger = Ledger(output, retry=retry_failed)
    try:
        handlers = {number: signal.signal(number, end) for number in (signal.SIGINT, signal.SIGTERM)}
        try:
            typer.echo(f"{output}: {len(ledger)} series finished before; watching {inbox}", err=True)
            watcher = Watcher(
                source, ledger, load, secret=secret, modality=modality, choice=choice, poll_s=poll, stop=stop
            )
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

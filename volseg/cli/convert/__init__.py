"""`volseg convert KIND RAW COHORT`: a command per kind of raw data. A new kind is a file here and a line in `KINDS`."""

from __future__ import annotations

import typer

from volseg.cli.convert import class_masks, decathlon, dicom, images, uw_madison
from volseg.cli.convert.group import KindCommand, KindGroup
from volseg.cli.convert.kind import converting

KINDS = (uw_madison.KIND, decathlon.KIND, dicom.KIND, images.KIND, class_masks.KIND)

app = typer.Typer(
    cls=KindGroup,
    no_args_is_help=True,
    subcommand_metavar="KIND RAW COHORT",
    short_help="Turn raw slices, volumes or images into a cohort folder of NIfTI volumes.",
    help="Turn raw slices, volumes or images into a cohort folder of NIfTI volumes; `volseg convert KIND --help` shows "
    "the options of a kind. Run again to go on after a stop.",
    epilog="Example: volseg convert uw_madison data/uw-madison data/cohort --case case123",
)
for kind in KINDS:
    app.command(kind.name, cls=KindCommand, epilog=f"Example: {kind.example}", rich_help_panel="Kinds")(
        converting(kind)
    )

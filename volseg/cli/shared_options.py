"""Options that several commands have, each declared once, and the way to give a command parameters from elsewhere."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from volseg.errors import UsageError

# Names that end like these are those of files.
_FILE_ENDINGS = (
    *(
        ".nii",
        ".gz",
        ".nrrd",
        ".nhdr",
        ".mha",
        ".mhd",
        ".mgz",
        ".dcm",
        ".tif",
        ".tiff",
        ".png",
        ".jpg",
        ".jpeg",
        ".gif",
    ),
    *(".webp", ".svg", ".pdf", ".json", ".jsonl", ".csv", ".tsv", ".xlsx", ".txt", ".md", ".html", ".htm", ".xml"),
    *(".yaml", ".yml", ".zip", ".tar", ".tgz", ".pt", ".pth", ".ckpt", ".safetensors", ".onnx", ".npy", ".npz"),
)

PatientPattern = Annotated[
    str | None,
    typer.Option(
        help="Regular expression whose group is the patient in each key, as 'genius_(\\d\\d)'; by default the usual "
        "forms are known, as case7_day2, patient001_frame12 or sub-01_ses-02."
    ),
]
RayAddress = Annotated[
    str | None, typer.Option(help="Address of a Ray cluster, or auto; --workers 0 then takes all of its room.")
]
ShardOfCases = Annotated[
    str | None, typer.Option(help="I/N: only the I-th of N fixed shares of the cases, counted from 0, as 0/8.")
]

_SEVERAL = "Options for DICOM series that hold several volumes"
Echo = Annotated[
    str | None,
    typer.Option("--echo", metavar="NUMBER|TIME", rich_help_panel=_SEVERAL, help="This echo: 2, or by its time 4.6ms."),
]
Phase = Annotated[
    str | None,
    typer.Option(
        "--phase",
        metavar="NUMBER|TIME|PERCENT",
        rich_help_panel=_SEVERAL,
        help="This phase of the heart or position in time: 3, by its time 300ms, or by its share of the cycle 40%.",
    ),
]
BValue = Annotated[
    str | None,
    typer.Option("--b-value", metavar="NUMBER", rich_help_panel=_SEVERAL, help="This b-value of diffusion, in s/mm2."),
]
ImageType = Annotated[
    str | None,
    typer.Option(
        "--image-type",
        metavar="WORD",
        rich_help_panel=_SEVERAL,
        help="This kind of image, by a word of ImageType or FrameType: IN_PHASE, WATER, MAGNITUDE, ADC.",
    ),
]
Where = Annotated[
    list[str] | None,
    typer.Option(
        "--where",
        metavar="KEYWORD=VALUE",
        rich_help_panel=_SEVERAL,
        help="Any other attribute by its keyword in DICOM, as InversionTime=900; may be repeated.",
    ),
]


FoldOfPart = Annotated[
    int | None, typer.Option(min=0, help="Number of the fold that --part is of, from 0; the first by default.")
]
PARTS_OF_A_FOLD = ("training", "validation")


def fold_of(part: str | None, fold: int | None) -> int:
    """The fold that a part is of.

    Raises:
        UsageError: A fold is given for what is of none: without a word, the cases of all folds would be taken.

    >>> fold_of("validation", None), fold_of("validation", 2), fold_of("all", None)
    (0, 2, 0)
    >>> fold_of("all", 2)
    Traceback (most recent call last):
    volseg.errors.UsageError: --fold must be given with --part training or validation, got --part all; name one, or ...
    """
    if fold is not None and part not in PARTS_OF_A_FOLD:
        got = f"--part {part}" if part else "no --part"
        raise UsageError(
            f"--fold must be given with --part {' or '.join(PARTS_OF_A_FOLD)}, got {got}; name one, or leave --fold out"
        )
    return fold or 0


def with_parameters(command: Callable[..., None], parameters: Sequence[inspect.Parameter]) -> Callable[..., None]:
    """Give a function the parameters that typer shall see, and return it.

    Args:
        command: Function that takes what is parsed by keyword.
        parameters: Parameters in the order of the help, with resolved annotations.
    """
    told: Any = command
    told.__signature__ = inspect.Signature(list(parameters))
    told.__annotations__ = {parameter.name: parameter.annotation for parameter in parameters}
    return command


def folder_to_write(parameter: typer.CallbackParam, value: Any) -> Any:  # noqa: ANN401 - a path or a URL
    """Refuse the name of a file where a command writes a folder; a callback of options and arguments.

    Raises:
        UsageError: The name ends as that of a file does, and no folder has it.
    """
    name = str(value).rstrip("/") if value is not None else ""
    if name.lower().endswith(_FILE_ENDINGS) and ("://" in name or not Path(name).is_dir()):
        place = parameter.metavar or (parameter.name or "").upper()
        option = next((word for word in parameter.opts if word.startswith("-")), place)
        raise UsageError(
            f"{option} must be a folder, got {name.rpartition('/')[2]}, the name of a file; name a folder, into which "
            "the files are written"
        )
    return value


def file_to_write(parameter: typer.CallbackParam, value: Any) -> Any:  # noqa: ANN401 - a path or None
    """Refuse a folder where a command writes a file, before its work; a callback of options.

    Raises:
        UsageError: There is a folder of this name.
    """
    if value is not None and Path(value).is_dir():
        option = next((word for word in parameter.opts if word.startswith("-")), parameter.name or "")
        raise UsageError(f"{option} must be a file, got the folder {value}; name a file in it")
    return value

"""A kind of raw data, and the command made of it: its own options, and those that all kinds share."""

from __future__ import annotations

import inspect
from collections.abc import Callable, Sequence
from copy import copy
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, get_args

import typer

from volseg.cli.shared_options import PatientPattern, RayAddress, ShardOfCases, folder_to_write, with_parameters
from volseg.errors import UsageError

if TYPE_CHECKING:
    from volseg.cohort import Fold, Source

_DRAWN_FOLDS = 5
_SHARED = "Options of every kind"


@dataclass(frozen=True)
class RawData:
    """What a kind finds in a raw folder.

    Attributes:
        source: Source of the cases.
        validation: Keys to validate on, if the options choose them; then there is one fold.
        folds: Folds that the raw data state, which count unless `--folds` or `--seed` is given.
    """

    source: Source
    validation: frozenset[str] = frozenset()
    folds: tuple[Fold, ...] = ()


@dataclass(frozen=True)
class Kind:
    """A kind of raw data that `volseg convert` reads.

    Attributes:
        name: Word that a user types.
        read: Function that opens a raw folder. Its first parameter is the folder, the others are the options, annotated
            for typer; the first line of its docstring stands in the list of kinds.
        example: Command line that works.
        also_called: Other words that a user may try, for which `name` is suggested.
    """

    name: str
    read: Callable[..., RawData]
    example: str
    also_called: tuple[str, ...] = ()


def converting(kind: Kind) -> Callable[..., None]:
    """Make the command of a kind: its options, then those of every kind."""

    def command(
        raw: Annotated[str, typer.Argument(help="The raw folder, or its URL; it is only read.", metavar="RAW")],
        cohort: Annotated[
            str,
            typer.Argument(
                help="The cohort folder to write, or to go on with; or its URL.",
                metavar="COHORT",
                callback=folder_to_write,
            ),
        ],
        *,
        patient_pattern: PatientPattern = None,
        folds: Annotated[
            int | None,
            typer.Option(
                min=2,
                help=f"Number of folds in splits.json, grouped by patient; by default those that the raw data state, "
                f"else {_DRAWN_FOLDS}.",
            ),
        ] = None,
        seed: Annotated[
            int | None, typer.Option(help="Seed of drawn folds: another seed, other folds; 0 by default.")
        ] = None,
        workers: Annotated[
            int,
            typer.Option(
                min=0, help="Number of threads; with --journal or --shard of processes, with --ray of Ray workers."
            ),
        ] = 2,
        ray: RayAddress = None,
        shard: ShardOfCases = None,
        journal: Annotated[
            Path | None,
            typer.Option(
                help="File that gets a line per case; COHORT/.volseg/convert.jsonl by default with --ray or --shard."
            ),
        ] = None,
        **own: Any,  # noqa: ANN401 - what typer has parsed
    ) -> None:
        from volseg.cli.bar import bar, tell_failures
        from volseg.cli.place import fetched
        from volseg.cohort import PatientsByPattern, write_cohort
        from volseg.jobs import WorkerOptions, convert_cases
        from volseg.remote import check_apart, writing

        worker_options = WorkerOptions.parse(workers=workers, ray=ray, shard=shard, journal=journal)
        check_apart(raw, cohort)
        found = kind.read(fetched(raw), **own)
        source = PatientsByPattern(found.source, patient_pattern) if patient_pattern else found.source
        drawn = folds is not None or seed is not None
        if drawn and found.validation:
            raise UsageError("--validation chooses the cases of the only fold; leave --folds and --seed out")
        split: dict[str, Any] = {
            "folds": _DRAWN_FOLDS if folds is None else folds,
            "seed": seed or 0,
            "redraw": drawn,
            "validation": found.validation,
            "given": () if drawn else found.folds,
        }
        with writing(cohort, apart=shard or "") as target, bar("convert") as progress:
            told = target.watched(progress)
            if ray or shard or journal:
                done = convert_cases(source, target.folder, worker_options=worker_options, progress=told, **split)
            else:
                done = write_cohort(source, target.folder, workers=workers, progress=told, alone=True, **split)
        typer.echo(
            f"{cohort}: {len(done.written)} written, {len(done.finished_before)} finished before, "
            f"{len(done.failed)} failed"
        )
        tell_failures(done.failed)

    command.__doc__ = kind.read.__doc__
    shared = [
        parameter
        for parameter in inspect.signature(command, eval_str=True).parameters.values()
        if parameter.kind is not inspect.Parameter.VAR_KEYWORD
    ]
    return with_parameters(command, [*shared[:2], *_own(kind.read), *map(_in_panel, shared[2:])])


def _own(read: Callable[..., RawData]) -> Sequence[inspect.Parameter]:
    """The parameters after the raw folder, as keywords."""
    _, *options = inspect.signature(read, eval_str=True).parameters.values()
    return [option.replace(kind=inspect.Parameter.KEYWORD_ONLY) for option in options]


def _in_panel(parameter: inspect.Parameter) -> inspect.Parameter:
    """The same option in the panel of those that every kind has."""
    hint, declared = get_args(parameter.annotation)
    option = copy(declared)  # other commands have the same one
    option.rich_help_panel = _SHARED
    return parameter.replace(annotation=Annotated[hint, option])

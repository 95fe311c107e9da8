"""`volseg predict BUNDLE INPUT -o OUT`."""

from __future__ import annotations

import functools
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import typer

from volseg.cli.answer import AsJson
from volseg.cli.network_options import NetworkOptions, with_network_options
from volseg.cli.shared_options import (
    BValue,
    Echo,
    FoldOfPart,
    ImageType,
    Phase,
    RayAddress,
    ShardOfCases,
    Where,
    fold_of,
    folder_to_write,
)

if TYPE_CHECKING:
    from volseg.bundle import Recipe
    from volseg.inference import AnyPredictor, PriorRow
    from volseg.jobs import Predicting, RunResult, StatedPredictor
    from volseg.labels import LabelTable

    Group = tuple[Predicting, list[tuple[str, Sequence[Path]]]]
    """Work, and the cases that it does."""


def register(app: typer.Typer) -> None:
    """Add the command."""
    example = "Example: volseg predict swinunetr data/cohort --part validation -o data/predictions"
    app.command(epilog=example)(with_network_options(predict))


def predict(
    bundle: str = typer.Argument(help="Name in bundles/, or folder."),
    images: str = typer.Argument(help="NIfTI file, folder of them, cohort, DICOM; or its URL.", metavar="INPUT"),
    output: str = typer.Option(
        ..., "-o", "--output", help="Folder or URL for KEY.nii.gz and uncertainty.csv.", callback=folder_to_write
    ),
    *,
    options: NetworkOptions,
    channels: str | None = typer.Option(
        None,
        metavar="NAME,NAME",
        help="What the files _0000, _0001, ... hold; by default as dataset.json names them. Of DICOM files the series "
        "of each study, as 'T1=*t1*,T2=*t2*'.",
    ),
    modality: str | None = typer.Option(None, help="Only DICOM series of this modality: CT, MR or PT."),
    echo: Echo = None,
    phase: Phase = None,
    b_value: BValue = None,
    image_type: ImageType = None,
    where: Where = None,
    resample_channels: bool = typer.Option(
        False, "--resample-channels", help="Resample DICOM channels on other voxels to those of the first."
    ),
    prior: str | None = typer.Option(
        None,
        metavar="FOLDER|COHORT",
        help="Earlier days of the patients: a cohort, or label maps with their images; for networks trained with a "
        "prior. The last earlier session of the same patient counts.",
    ),
    prior_of_any_patient: bool = typer.Option(
        False, "--prior-of-any-patient", help="Of --prior: another patient's day where the own has none, for a test."
    ),
    adapted: Path | None = typer.Option(
        None, help="A run with networks of `volseg adapt`: each case by that of its patient's earlier days."
    ),
    part: str = typer.Option("all", help="Part of a cohort: all, labelled, training, validation or test."),
    fold: FoldOfPart = None,
    workers: int = typer.Option(1, min=0, help="Number of processes: one per GPU, or several that share the cores."),
    ray: RayAddress = None,
    shard: ShardOfCases = None,
    journal: Path | None = typer.Option(
        None, help="File that gets a line per case; OUTPUT/.volseg/predict.jsonl by default."
    ),
    as_json: bool = AsJson,
) -> None:
    """Segment volumes, each on the grid of its own input; uncertainty.csv holds the Dice that the network expects.

    Run again to go on after a stop: what is finished, by the same networks from the same files, is not done again. Of
    several networks and mirror images the mean of the probabilities counts. The clean-up is off unless asked for, goes
    region by region, and is recorded in dataset.json and run_report.json. With --within a first network, or label maps
    made before, say where to look: what lies outside that region is background.
    """
    from volseg.bundle import tell_networks
    from volseg.cli.answer import answer, print_answer
    from volseg.cli.bar import bar, tell_failures
    from volseg.cli.place import fetched
    from volseg.cohort import ADAPTED, FILE_ENDING, write_labels
    from volseg.errors import UsageError
    from volseg.inference import (
        ArrayPredictor,
        check_output,
        find_inputs,
        input_cohort,
        tell_sizes,
        write_priors,
    )
    from volseg.jobs import WorkerOptions, predict_cases, remove_unproven
    from volseg.remote import check_apart, writing

    worker_options = WorkerOptions.parse(workers=workers, ray=ray, shard=shard, journal=journal)
    number = fold_of(part, fold)
    check_apart(images, output)
    asked = options.asked(bundle)

    def load(work: Predicting) -> AnyPredictor:
        return work.load("cpu" if gpus() or ray else options.device, flips=options.flips)

    @functools.cache
    def gpus() -> bool:  # workers on GPUs load their own networks; this process then needs none
        if worker_options.alone:
            return False
        from volseg.inference import worker_device

        return str(worker_device(options.device, 0)).startswith("cuda")

    # All that words and headers tell is told before PyTorch is loaded.
    stated = asked.check(flips=options.flips)
    predictor = None if stated is not None else load(asked)
    found = stated or predictor
    if found is None:
        raise UsageError(f"{bundle} holds no network")
    recipe = found.recipe
    inputs = fetched(images)
    patterns = channels is not None and "=" in channels
    given = [channels] if channels and patterns else [name.strip() for name in (channels or "").split(",") if channels]
    chosen = {"echo": echo, "phase": phase, "b_value": b_value, "image_type": image_type, "where": where or None}
    cases = find_inputs(
        inputs,
        channels=recipe.image_channels,
        part=part,
        fold=number,
        modality=modality,
        given=given,
        choice={name: value for name, value in chosen.items() if value is not None},
        resample_channels=resample_channels,
    )
    # Within a region that a first step finds, how much the whole image shows does not matter.
    tell_sizes(cases, recipe.spacing_mm, recipe.longest_image_mm if asked.step is None else None)

    prior_rows: list[PriorRow] = []
    if prior is not None:
        asked, prior_rows = _with_priors(asked, prior, cases, recipe, inputs, output, any_patient=prior_of_any_patient)
        predictor = None
    elif prior_of_any_patient:
        raise UsageError("--prior-of-any-patient needs --prior, which names the earlier days")
    tell_networks([*found.first_networks, *found.networks], input_cohort(inputs))
    groups: list[Group] = [(asked, [*cases])]
    if adapted is not None:
        groups = _by_adapted_network(asked, adapted, cases, inputs, labels=recipe.labels)
    of_shard = [key for key, _ in cases if key in worker_options.shard]
    # Before anything is written: a network that does not fit is told only as it is loaded. Those of further patients
    # are loaded in their turn: all of a clinic together would fill any memory.
    network = predictor if predictor is not None and groups[0][0] is asked else load(groups[0][0])
    if isinstance(network, ArrayPredictor):
        network.check_sizes(cases)
        network.check_network()
    done = finished_before = first = 0
    seconds = 0.0
    devices: dict[str, int] = {}
    ways: set[str] = set()
    notes: dict[str, str] = {}
    failures: dict[str, str] = {}
    with writing(output, apart=shard or "") as place, bar("predict") as progress:
        check_output(place.folder, cases, inputs=inputs, labels=recipe.labels)
        if asked.step is not None:
            asked.step.check_output(place.folder)
        remove_unproven(place.folder, place.fetched, keys={key for key, _ in cases})
        made_with = asked.of(found).made_with(recipe.labels)
        if seen := _adaptations(place.folder, asked, found, groups, {key for key, _ in cases}):
            made_with[ADAPTED] = seen
        # Cases that are predicted without a prior now have no row of before.
        write_priors(place.folder, prior_rows, forget=() if prior is not None else {key for key, _ in cases})
        write_labels(place.folder, recipe.labels, channel_names=recipe.image_channels, made_with=made_with)
        earlier: list[tuple[Predicting, RunResult]] = []
        started = time.time()
        for number, (of_group, all_of_group) in enumerate(groups):
            mine = [case for case in all_of_group if case[0] in worker_options.shard]
            if number and not mine:
                continue
            network = load(of_group) if number else network
            work = of_group.of(found if of_group is asked else network)
            result = predict_cases(
                work,
                mine,
                place.folder,
                worker_options=worker_options,
                choose=None if gpus() or ray else _chooser(network, mine, options.overlap),
                progress=place.watched(_from(progress, first, len(of_shard))),
                earlier=earlier,
                started=started,
            )
            earlier.append((work, result))
            first += len(mine)
            done, finished_before = done + result.done, finished_before + result.before
            ways |= {way.partition(",")[0] for way in result.devices}
            notes |= result.notes
            seconds += result.seconds
            devices = _summed(devices, result.devices)
            failures |= result.failed
    before = f", {finished_before} finished before" if finished_before else ""
    told = f"{done} predicted{before}, {len(failures)} failed"
    if as_json:
        facts = {
            "output": output,
            "done": done,
            "before": finished_before,
            "predictions": [f"{key}{FILE_ENDING}" for key in of_shard if key not in failures],
            "devices": devices,
            "notes": notes,
            "seconds": round(seconds, 3),
        }
        print_answer(answer("predict", facts, failed=failures))
    else:
        typer.echo(f"{output}: {told} ({', '.join(sorted(ways)) or 'nothing done'})")
    for key, note in notes.items():
        typer.secho(f"note  {key}: {note}", fg="yellow", err=True)
    tell_failures(failures)


def _chooser(
    predictor: AnyPredictor, cases: Sequence[tuple[str, Sequence[Path]]], overlap: float
) -> Callable[[str], AnyPredictor]:
    """The function that gives a predictor with an engine, fit for the number of windows to come."""
    from volseg.inference import count_windows

    recipe = predictor.recipe

    def choose(name: str) -> AnyPredictor:
        windows = count_windows(cases, grid_mm=recipe.spacing_mm, roi_size=recipe.roi_size, overlap=overlap)
        return predictor.with_engine(name, windows=windows)

    return choose


def _summed(first: Mapping[str, int], second: Mapping[str, int]) -> dict[str, int]:
    """The cases by engine and device of two groups together."""
    return {way: first.get(way, 0) + second.get(way, 0) for way in {**first, **second}}


def _from(progress: Callable[[int, int], None], first: int, total: int) -> Callable[[int, int], None]:
    """A progress that begins at a case, for one of several groups."""
    return lambda done, _: progress(min(first + done, total), total)


def _by_adapted_network(
    asked: Predicting,
    folder: Path,
    cases: Sequence[tuple[str, Sequence[Path]]],
    inputs: Path,
    *,
    labels: LabelTable,
) -> list[Group]:
    """The cases grouped by the network that was adapted to their patient before them; the first group by none.

    The labels are those of the network that was named, which `dataset.json` states.
    """
    from volseg.bundle import read_recipe
    from volseg.cohort import adapted_networks, network_for
    from volseg.errors import UsageError
    from volseg.inference import input_cohort

    cohort = input_cohort(inputs)
    if cohort is None:
        raise UsageError("--adapted needs a cohort as its input, whose cases.csv says which patient each case is of")
    if len(asked.members) > 1:
        raise UsageError("--adapted must be given with one network, got an ensemble; name one checkpoint")
    networks = adapted_networks(folder)
    of_network: dict[Path | None, list[tuple[str, Sequence[Path]]]] = {None: []}
    for key, images in cases:
        of_network.setdefault(network_for(cohort.rows[key], networks, cohort), []).append((key, images))
    groups: list[Group] = []
    for path, mine in of_network.items():
        if not mine:
            continue
        if path is None:
            typer.echo(f"{len(mine)} cases have no network of their own and are predicted by that of the run", err=True)
            groups.append((asked, mine))
            continue
        own = read_recipe(path).labels
        if own.digest != labels.digest:
            raise UsageError(
                f"--adapted must hold networks for {', '.join(labels.names)}, as the named one, got {path} for "
                f"{', '.join(own.names)}; name the run that the named network is of"
            )
        groups.append((replace(asked, members=[(asked.members[0][0], path)]), mine))
    return groups


def _adaptations(
    folder: Path,
    asked: Predicting,
    stated: AnyPredictor | StatedPredictor,
    groups: Sequence[Group],
    keys: set[str],
) -> list[dict[str, object]]:
    """What the networks have seen, by the cases that each predicts, and what those of before had for other cases."""
    from volseg.bundle import read_recipe
    from volseg.cohort import ADAPTED, Adaptation, adaptations_of

    found = []
    for one in adaptations_of(folder):
        left = None if one.cases is None else tuple(key for key in one.cases if key not in keys)
        if left:
            found.append(replace(one, cases=left).to_json())
    for work, mine in groups:
        own = [read_recipe(path) for _, path in work.members if path is not None]
        for recipe in [network.recipe for network in stated.networks] if work is asked else own:
            told = recipe.facts.get(ADAPTED)
            if told:
                cases = tuple(key for key, _ in mine)
                found.append(replace(Adaptation.from_json(told), cases=cases).to_json())
    return found


def _with_priors(
    asked: Predicting,
    prior: str,
    cases: Sequence[tuple[str, Sequence[Path]]],
    recipe: Recipe,
    inputs: Path,
    output: str,
    *,
    any_patient: bool,
) -> tuple[Predicting, list[PriorRow]]:
    """The same work with the earlier day of each case, aligned, and a row for each."""
    from volseg.cli.bar import bar
    from volseg.cli.place import fetched
    from volseg.cohort import Alignments
    from volseg.errors import UsageError
    from volseg.inference import PriorSource, find_priors, input_cohort, read_images
    from volseg.remote import is_url

    if not recipe.takes_prior:
        raise UsageError(
            "--prior needs a network that was trained with one (`volseg train BUNDLE --prior true`); this one takes "
            f"{', '.join(recipe.channel_names)} alone"
        )
    if asked.step is not None:
        raise UsageError("--prior must not be given with --within, which shows the network a part of the image")
    cohort = input_cohort(inputs)
    earlier = fetched(prior)
    source = PriorSource.open(
        earlier, channels=len(recipe.image_channels), images=None if cohort is None else cohort.folder
    )
    if not is_url(output):
        folder = Path(output) / ".volseg" / "alignments"
    elif not is_url(prior):
        folder = earlier / ".volseg" / "alignments"
    else:
        folder = earlier.parent / "alignments"  # beside the copy, from which goes whatever is not behind its URL
    with bar("align") as progress:
        found, rows = find_priors(
            cases,
            source,
            cohort=cohort,
            alignments=Alignments(folder, read=lambda path: read_images([path])[0]),
            labels=recipe.labels,
            measured=recipe.facts.get("prior"),
            any_patient=any_patient,
            alignment=recipe.prior_alignment,
            progress=progress,
        )
    for row in rows:
        if row.doubtful:
            typer.secho(f"note  {row.key}: {row.reason}; it is predicted without a prior", fg="yellow", err=True)
        if row.not_deformed:
            told = f"note  {row.key}: the deformable alignment failed: {row.not_deformed}; the rigid one is used"
            typer.secho(told, fg="yellow", err=True)
    typer.echo(f"{len(found)} of {len(cases)} cases have a prior; the others are predicted without one", err=True)
    return replace(asked, priors=found), rows

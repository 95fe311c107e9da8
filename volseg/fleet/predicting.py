"""Prediction as the work of a fleet: `KEY.nii.gz` a case, `uncertainty.csv` of all, and the report of the run."""

from __future__ import annotations

import hashlib
import json
import time
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg import bundle as bundles
from volseg.errors import UsageError
from volseg.fleet.job import Do, Facts, Job, Place, reason, stamp
from volseg.fleet.journal import History, Journal, siblings
from volseg.fleet.report import write_run_report
from volseg.fleet.run import Tally, run_jobs
from volseg.fleet.team import Team
from volseg.uncertainty import write_uncertainty
from volseg.volume import SERIES

if TYPE_CHECKING:
    from volseg.inference import Predictor

Cases = Sequence[tuple[str, Sequence[Path]]]
"""(key, one file a channel) of each case."""


Member = tuple[str, Path | None]
"""A bundle, by name or folder, and its checkpoint; None for the bundle's own."""


def members_of(bundle: str, checkpoints: Sequence[Path], also: Sequence[str] = ()) -> list[Member]:
    """The networks that a user names, the first of which gives the way of inference.

    Args:
        bundle: name or folder.
        checkpoints: files, or folders of runs; none for the bundle's own.
        also: further bundles, `BUNDLE` or `BUNDLE=CHECKPOINT`.

    Raises:
        CheckpointError: a folder without checkpoints.
    """
    from volseg.inference import find_checkpoints

    members: list[Member] = []
    for name, paths in ((bundle, checkpoints), *((word, None) for word in also)):
        if paths is None:
            name, _, path = name.partition("=")
            paths = [Path(path)] if path else []
        members += [(name, path) for path in find_checkpoints(paths)] if paths else [(name, None)]
    return members


@dataclass(frozen=True)
class Predicting:
    """What makes a predictor, in any process and on any machine that sees the same files.

    Attributes:
        bundle: name or folder.
        checkpoint: the file that was asked for; None for the bundle's own.
        device: the one that was asked for; None for the best.
        engine: auto, torch, compiled or openvino.
        overrides: of the bundle's config.
        others: further networks of the ensemble.
        flips: axes along which mirror images are looked at too.
        weights: name, bytes and sha256 of each checkpoint.
        digest: of the weights, of the bundles' way of inference, and of the options.
    """

    bundle: str
    checkpoint: Path | None = None
    device: str | None = None
    engine: str = "auto"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    others: Sequence[Member] = ()
    flips: Sequence[int] = ()
    weights: Sequence[Mapping[str, Any]] = ()
    digest: str = ""

    @classmethod
    def of(
        cls,
        predictor: Predictor,
        *,
        bundle: str,
        checkpoint: Path | None = None,
        device: str | None = None,
        engine: str = "auto",
        overrides: Mapping[str, Any] | None = None,
        others: Sequence[Member] = (),
    ) -> Predicting:
        """The work of a predictor that was made with these arguments."""
        weights, identity = [], []
        for (name, _), member in zip([(bundle, checkpoint), *others], [predictor, *predictor.others], strict=True):
            read = stamp(member.checkpoint)
            weights.append({"name": member.checkpoint.name, "bytes": read.size, "sha256": read.sha256})
            identity.append([read.sha256, stamp(bundles.config(bundles.find(name), "inference.json")).sha256])
        options = [engine, dict(overrides or {}), list(predictor.flips)]
        digest = hashlib.sha256(json.dumps([identity, options], sort_keys=True, default=str).encode()).hexdigest()[:16]
        return cls(
            bundle, checkpoint, device, engine, dict(overrides or {}), tuple(others), predictor.flips, weights, digest
        )

    @property
    def options(self) -> dict[str, Any]:
        """For the report."""
        flips = {"flips": list(self.flips)} if self.flips else {}
        return {**self.overrides, **flips, "engine": self.engine}

    def load(self, device: str | None) -> Predictor:
        """The networks on a device, with PyTorch as their engine."""
        from volseg.inference import Predictor

        first, *others = [
            Predictor.from_bundle(bundle, checkpoint=checkpoint, device=device, overrides=self.overrides)
            for bundle, checkpoint in ((self.bundle, self.checkpoint), *self.others)
        ]
        return first.joined(others, flips=self.flips)

    def start(self, place: Place) -> Do:
        """Load the networks, on the GPU of the worker where there is one."""
        from volseg.inference import worker_device

        return doing(self.load(worker_device(self.device, place.number)).with_engine(self.engine))


class _Doing:
    """What a worker does to a case, at once or in stages."""

    def __init__(self, predictor: Predictor) -> None:
        from volseg.training.provenance import machine

        of_machine = machine(predictor.device)
        self._predictor = predictor
        self._device = f"{predictor.device} {of_machine['gpu'] or of_machine['processor']}".strip()
        self._engine = f"{predictor.engine.name} {predictor.engine.precision}"

    def __call__(self, job: Job) -> Facts:
        """All three stages."""
        return self.write(job, self.compute(job, self.read(job)))

    def read(self, job: Job) -> dict[str, Any]:
        """Files to the image that the network takes."""
        return self._predictor.read(job.inputs, key=job.key)

    def compute(self, _: Job, read: dict[str, Any]) -> dict[str, Any]:
        """The logits."""
        return self._predictor.look(read)

    def write(self, job: Job, computed: dict[str, Any]) -> Facts:
        """The label map, decided and written."""
        from volseg.inference import write_prediction

        prediction = self._predictor.decide(computed)
        write_prediction(job.outputs[0], prediction)
        return {"uncertainty": dict(prediction.uncertainty), "engine": self._engine, "device": self._device}


def doing(predictor: Predictor) -> Do:
    """What a worker does with a predictor that it has loaded."""
    return _Doing(predictor)


def predict_cases(
    work: Predicting,
    cases: Cases,
    output_dir: Path,
    *,
    team: Team,
    choose: Callable[[str], Predictor] | None = None,
    progress: Callable[[int, int], None] | None = None,
) -> Tally:
    """Predict the cases that no former run has done; write `uncertainty.csv` and `run_report.json` at the end.

    Args:
        work: what makes the predictor.
        cases: all of them; those of other shards are left out.
        output_dir: where predictions go.
        team: who does it.
        choose: gives the predictor with an engine of that name. It is called once, in this process, so that all workers
            use the engine that it chooses; None lets each worker choose.
        progress: called with the number of cases done and of all.

    Raises:
        UsageError: another run is at work there, or lists of DICOM files that other machines cannot see.
        OSError: the outputs cannot be written; run again when they can.
    """
    mine = [(key, images) for key, images in cases if key in team.shard]
    if team.ray is not None and any(path.suffix == SERIES for _, images in mine for path in images):
        raise UsageError(
            "a folder of DICOM files is read on this machine alone; run `volseg convert dicom` first, or drop --ray"
        )
    started = time.time()
    tally = Tally()
    path = team.journal_path(output_dir, "predict")
    with Journal(path) as journal:
        history = History(siblings(path))
        _forget(output_dir, mine, history, work.digest)
        work = replace(work, engine=_engine_before(history, work.digest) or work.engine)
        predictor = choose(work.engine) if choose and (team.alone or work.engine == "auto") else None
        if predictor is not None:
            work = replace(work, engine=predictor.engine.name)
        crew = team.crew(jobs=len(mine), do=doing(predictor) if predictor and team.alone else None)
        del predictor  # the workers have their own
        try:
            run_jobs(
                work,
                (Job(key, tuple(images), _outputs(work, output_dir, key)) for key, images in mine),
                crew=crew,
                journal=journal,
                history=history,
                tally=tally,
                progress=progress and (lambda done: progress(done, len(mine))),
            )
        except BaseException as stopped:
            with suppress(OSError):  # the disk may be full for this too
                _conclude(output_dir, path, work, tally, team, crew.engine, len(mine), started, reason(stopped))
            raise
        _conclude(output_dir, path, work, tally, team, crew.engine, len(mine), started, None)
    return tally


def _conclude(
    output_dir: Path,
    path: Path,
    work: Predicting,
    tally: Tally,
    team: Team,
    engine: str,
    cases: int,
    started: float,
    error: str | None,
) -> None:
    """Write the tables of all that is done, and the report of this run."""
    tally.devices = _collect(output_dir, path, work.digest)
    write_run_report(
        output_dir,
        tally,
        command="predict",
        team=team,
        engine=engine,
        cases=cases,
        started=started,
        error=error,
        options=work.options,
        checkpoints=work.weights,
    )


def _outputs(work: Predicting, output_dir: Path, key: str) -> tuple[Path, ...]:
    """The files of a case."""
    name = f"{key}.nii.gz"
    probabilities = (output_dir / "probabilities" / name,) if work.overrides.get("save_probabilities") else ()
    return (output_dir / name, *probabilities)


def _forget(output_dir: Path, cases: Cases, history: History, digest: str) -> None:
    """Take the lines of an earlier network out of `uncertainty.csv`: they must not stay if this run is stopped."""
    current = {entry.key for entry in history if entry.work == digest and entry.error is None}
    write_uncertainty(output_dir, {}, forget=[key for key, _ in cases if key not in current])


def _engine_before(history: History, digest: str) -> str | None:
    """The engine of the former runs of this work, so that all of a cohort is of one."""
    for entry in history:
        if entry.work == digest and entry.error is None:
            return str(entry.facts["engine"]).split()[0]
    return None


def _collect(output_dir: Path, path: Path, digest: str) -> Counter[str]:
    """Write `uncertainty.csv` from the journals of all shards; cases by engine and device.

    Two shards may end at the same moment: whoever wrote looks again, so that the last one has seen everything.
    """
    while True:
        seen = _sizes(path)
        devices: Counter[str] = Counter()
        rows = {}
        for entry in History(siblings(path)):
            if entry.work == digest and entry.error is None:
                rows[entry.key] = entry.facts["uncertainty"]
                devices[f"{entry.facts['engine']}, {entry.facts['device']}"] += 1
        write_uncertainty(output_dir, rows)
        if _sizes(path) == seen:
            return devices


def _sizes(path: Path) -> dict[Path, int]:
    return {sibling: sibling.stat().st_size for sibling in siblings(path) if sibling.is_file()}

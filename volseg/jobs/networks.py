"""The networks of a run, in the form in which they are sent to workers, and what a worker does with them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg import bundle as bundles
from volseg.bundle import Member, Recipe
from volseg.cohort import FILE_ENDING, PROBABILITIES
from volseg.errors import BundleError, UsageError
from volseg.files import SERIES
from volseg.inference import RegionOfInterest, device_name, is_calibrated
from volseg.jobs.job import Do, Facts, Job, WorkerSlot, stamp
from volseg.labels import Cleanup, LabelTable
from volseg.remote import identity

if TYPE_CHECKING:
    from volseg.inference import AnyPredictor, ArrayPredictor, Predictor, PriorFiles

logger = logging.getLogger(__name__)

_SAMPLE_BYTES = 2**16


@dataclass(frozen=True)
class StatedNetwork:
    """A network by its files alone.

    Attributes:
        checkpoint: File of the weights.
        recipe: Recipe that it holds.
    """

    checkpoint: Path
    recipe: Recipe


@dataclass(frozen=True)
class StatedPredictor:
    """The networks of a predictor that is not loaded yet.

    Attributes:
        networks: Networks that are averaged; the first sets the settings of inference.
        first_networks: Networks of a first step.
        flips: Axes along which mirror images are predicted too.
    """

    networks: tuple[StatedNetwork, ...]
    first_networks: tuple[StatedNetwork, ...]
    flips: tuple[int, ...]

    calibration = None
    decision = None

    @property
    def recipe(self) -> Recipe:
        """Recipe of the first network."""
        return self.networks[0].recipe


@dataclass(frozen=True)
class Predicting:
    """The work of predicting a case, in any process and on any machine that sees the same files.

    Attributes:
        members: Networks; the bundle of the first one sets the settings of inference.
        device: Device that was asked for; None for the best.
        engine: `auto`, `torch`, `compiled` or `openvino`.
        overrides: Settings of the bundles and their values.
        flips: Axes along which mirror images are predicted too.
        step: First step that finds the region, if the networks are restricted to one.
        weights: Name, bytes and sha256 of each checkpoint.
        step_weights: Name, bytes and sha256 of each checkpoint of the first step.
        calibrated: Whether a `calibration.json` beside the checkpoints is used.
        calibration: Digest of the calibration that is used; empty if there is none.
        decision: Decision of the calibration, if it made one.
        digest: Digest of the weights, of the bundles' settings of inference, and of the options.
        priors: Earlier day of the patient by case key, for networks that take one.
        memory: Bytes that a prediction may take; None for what is free.
        crop_first: Whether a coarse pass tells where to look.
    """

    members: Sequence[Member]
    device: str | None = None
    engine: str = "auto"
    overrides: Mapping[str, Any] = field(default_factory=dict)
    flips: Sequence[int] = ()
    step: RegionOfInterest | None = None
    weights: Sequence[Mapping[str, Any]] = ()
    step_weights: Sequence[Mapping[str, Any]] = ()
    calibrated: bool = True
    calibration: str = ""
    decision: Any = None
    digest: str = ""
    priors: Mapping[str, PriorFiles] = field(default_factory=dict)
    memory: int | None = None
    crop_first: bool = False

    def of(self, predictor: AnyPredictor | StatedPredictor) -> Predicting:
        """The same work with the digests and mirror images of a predictor that was loaded with it."""
        weights, identity = _identity(self.members, predictor.networks)
        flips = list(predictor.flips)
        content: list[Any] = [identity, [self.engine, dict(self.overrides), flips]]
        step_weights: list[dict[str, Any]] = []
        if self.step is not None:
            step_weights, found_by = _identity(self.step.members, predictor.first_networks)
            labels = self.step.labels.digest if self.step.labels is not None else None
            content.append([found_by, labels, self.step.to_json()])
        calibration, decision = predictor.calibration, predictor.decision
        if self.crop_first:
            content.append("crop first")
        if calibration is not None:
            content.append({"calibration": calibration.digest})
        digest = hashlib.sha256(json.dumps(content, sort_keys=True, default=str).encode()).hexdigest()[:16]
        return replace(
            self,
            flips=flips,
            weights=weights,
            step_weights=step_weights,
            calibration="" if calibration is None else calibration.digest,
            decision=decision,
            digest=digest,
        )

    @property
    def options(self) -> dict[str, Any]:
        """The options, for the report."""
        flips = {"flips": list(self.flips)} if self.flips else {}
        crop = {"crop_first": True} if self.crop_first else {}
        return {**self.overrides, **flips, **self.within, **crop, "engine": self.engine}

    @property
    def within(self) -> dict[str, Any]:
        """The first step, for the report and dataset.json; empty if there is none."""
        if self.step is None:
            return {}
        found_by = [dict(one) for one in self.step_weights] if self.step.members else "label maps"
        return {"within": {**self.step.to_json(), "found_by": found_by}}

    def made_with(self, labels: LabelTable) -> dict[str, Any]:
        """The settings that changed the label maps, for `dataset.json`; the labels are those of the predictor."""
        made_with = {
            "cleanup": self.overrides.get("cleanup"),
            "decision": _stated(self.overrides.get("decision", self.decision)),
            "calibration": self.calibration,
            "flips": list(self.flips),
            "probabilities": list(labels.channel_names) if self.overrides.get("save_probabilities") else [],
            **self.within,
            "crop_first": self.crop_first,
        }
        return {name: value for name, value in made_with.items() if value}

    def load(self, device: str | None, *, flips: str | None = None) -> AnyPredictor:
        """Load the networks on a device, with PyTorch as their engine.

        Args:
            device: Device, see `volseg.inference.load_predictor`.
            flips: Mirror images as text, see `volseg.inference.flip_axes`; None (the default) for the known axes.
        """
        plain = self._plain(device, flips=flips)
        if plain is not None:
            return plain
        from volseg.inference import flip_axes, load_predictor

        if self.memory is not None and flips is not None:  # once, and not by each worker
            logger.warning(
                "warning: --memory is kept by one network on a CPU, without mirror images, --within, --prior and "
                "calibration; here it limits nothing"
            )
        loaded = load_predictor(
            self.members,
            device=device,
            overrides=self.overrides,
            flips=self.flips,
            step=self.step,
            calibrated=self.calibrated,
        )
        loaded = _with_priors(loaded, self.priors)
        if flips is None:
            return loaded
        return loaded.with_members(flips=flip_axes(flips, [network.recipe for network in loaded.networks]))

    def _plain(self, device: str | None, *, flips: str | None) -> ArrayPredictor | None:
        """The predictor of one network on a CPU without MONAI; None if more is asked for.

        Raises:
            UsageError: More is asked for, and a coarse pass, which is made there alone.
        """
        from volseg.inference import array_predictor

        bare = self.step is None and not self._takes_prior() and (flips == "none" or (flips is None and not self.flips))
        plain = None
        if bare and not (self.calibrated and self._has_calibration()):
            plain = array_predictor(
                self.members,
                device=device,
                overrides=self.overrides,
                memory=self.memory,
                crop_first=self.crop_first,
            )
        if plain is None and self.crop_first:
            raise UsageError(
                "--crop-first is for one network of volseg's own steps on a CPU, without mirror images, --within and "
                "--prior, and with a calibration beside it for --no-calibration; leave it out, or add --device cpu"
            )
        return plain

    def check(self, *, flips: str | None = None) -> StatedPredictor | None:
        """Check words, configs and headers of checkpoints, without PyTorch: in milliseconds.

        Args:
            flips: Mirror images as text, see `load`.

        Returns:
            What the networks will be; None if only MONAI can tell where the checkpoint of a bundle is.

        Raises:
            BundleError: There is no such bundle, or it cannot take an override.
            CheckpointError: A checkpoint is absent, damaged, or of another network, or makes no ensemble.
            UsageError: There is no such engine, precision or device, or the clean-up names no region.
        """
        from volseg.inference import check_members, check_words, flip_axes

        check_words(engine=self.engine, precision=str(self.overrides.get("precision", "auto")), device=self.device)
        if self.crop_first:
            self._plain(self.device, flips=flips)
        networks = _by_files(self.members, self.overrides)
        first = _by_files(self.step.members, {}) if self.step is not None else ()
        if networks is None or first is None or (self.calibrated and self._has_calibration()):
            return None
        check_members([(one.checkpoint, one.recipe) for one in networks])
        Cleanup(**dict(self.overrides.get("cleanup", {}))).check(networks[0].recipe.labels)
        recipes = [one.recipe for one in networks]
        axes = tuple(self.flips) if flips is None else flip_axes(flips, recipes, tell=False)  # `load` does
        return StatedPredictor(networks, first, axes)

    def _takes_prior(self) -> bool:
        """Whether a network was trained to see an earlier day, whose channels its own preprocessing fills."""
        networks = _by_files(self.members, self.overrides) or ()
        return bool(self.priors) or any(one.recipe.takes_prior for one in networks)

    def _has_calibration(self) -> bool:
        """Whether a calibration lies beside the checkpoints, by which the whole predictor is needed."""
        networks = _by_files(self.members, self.overrides)
        return networks is not None and is_calibrated([one.checkpoint for one in networks])

    def start(self, place: WorkerSlot) -> Do:
        """Load the networks, on the GPU of the worker if there is one."""
        from volseg.inference import worker_device

        return doing(self.load(worker_device(self.device, place.number)).with_engine(self.engine), sources=True)

    def inputs(self, key: str, images: Sequence[Path]) -> tuple[Path, ...]:
        """The input files of a case: its images, and the label map of its region if there is one."""
        region = self.step.path(key) if self.step is not None else None
        prior = self.priors.get(key)
        if prior is not None:  # so that a case is predicted anew if its prior changes
            return (*images, *map(Path, prior.files))
        return (*images, region) if region is not None else tuple(images)

    def facts(self, key: str) -> str:
        """What a case is made of beside its files: how its prior is read, its label table among it; empty without."""
        prior = self.priors.get(key)
        return "" if prior is None else prior.reading

    def outputs(self, folder: Path, name: str) -> tuple[Path, ...]:
        """The output files of a case."""
        file = f"{name}{FILE_ENDING}"
        more = (folder / PROBABILITIES / file,) if self.overrides.get("save_probabilities") else ()
        return (folder / file, *more)


class _Doing:
    """The work on a case, at once or in stages."""

    def __init__(self, predictor: AnyPredictor, *, sources: bool) -> None:
        self._predictor = predictor
        self._sources = sources
        self._device = f"{predictor.device} {device_name(str(predictor.device))}".strip()
        self._engine = f"{predictor.engine.name} {predictor.engine.precision}"

    def __call__(self, job: Job) -> Facts:
        """Do all three stages."""
        return self.write(job, self.compute(job, self.read(job)))

    def read(self, job: Job) -> dict[str, Any]:
        """Read the files into the input of the network."""
        prior = getattr(self._predictor, "priors", {}).get(job.key)
        images = job.inputs if prior is None else job.inputs[: -len(prior.files)]
        return self._predictor.preprocess(images, key=job.key)

    def compute(self, _: Job, read: dict[str, Any]) -> dict[str, Any]:
        """Compute the logits."""
        return self._predictor.infer(read)

    def write(self, job: Job, computed: dict[str, Any]) -> Facts:
        """Decide and write the label map."""
        from volseg.cohort import write_prediction

        prediction = self._predictor.postprocess(computed)
        write_prediction(job.outputs[0], prediction)
        note = {"note": prediction.note} if prediction.note else {}
        read_from = source_of(job.key, job.inputs) if self._sources else {}
        source = {"source": {**read_from, "sample": sample_of(job.inputs[0])}} if read_from else {}
        told = {"uncertainty": dict(prediction.uncertainty), "engine": self._engine, "device": self._device}
        bounds = {name: one.to_json() for name, one in prediction.bounds.items()}
        return {**told, **note, **source, **({"bounds": bounds} if bounds else {})}


def _with_priors(loaded: AnyPredictor, priors: Mapping[str, PriorFiles]) -> AnyPredictor:
    """The predictor with the priors of its cases.

    Raises:
        UsageError: The network takes none, or it is restricted to a region.
    """
    from volseg.inference import Predictor

    if not priors:
        return loaded
    if not isinstance(loaded, Predictor):
        raise UsageError("--prior must not be given with --within, which shows the network a part of the image")
    return replace(loaded, priors=priors)


def doing(predictor: AnyPredictor, *, sources: bool = False) -> Do:
    """The function of a worker for a predictor that it has loaded.

    Args:
        predictor: Predictor with the networks.
        sources: Whether the journal distinguishes files of one name in two folders, see `source_of`.
    """
    found = _Doing(predictor, sources=sources)
    # Of a limited memory no part goes to a case that is read ahead.
    return found if getattr(predictor, "memory", None) is None else found.__call__


def source_of(key: str, inputs: Sequence[Path]) -> dict[str, Any]:
    """Where a case was read from, in words of which no path can be read: its folder, that folder's name, and its size.

    Empty for a DICOM series, whose key is its own, and for the copy of a remote file.
    """
    first = inputs[0]
    if first.suffix == SERIES or identity(first) is not None:
        return {}
    folder = first.resolve().parent
    path, name = (hashlib.sha256(f"{key}\n{one}".encode(errors="surrogateescape")) for one in (folder, folder.name))
    return {"path": path.hexdigest()[:8], "folder": name.hexdigest()[:8], "bytes": first.stat().st_size}


def sample_of(path: Path) -> str:
    """Digits that differ between images of one size, as uncompressed scans of two patients are: of its middle bytes."""
    with path.open("rb") as file:
        file.seek(max(0, path.stat().st_size // 2 - _SAMPLE_BYTES // 2))
        return hashlib.sha256(file.read(_SAMPLE_BYTES)).hexdigest()[:8]


def _by_files(members: Sequence[Member], overrides: Mapping[str, Any]) -> tuple[StatedNetwork, ...] | None:
    """The networks of some members by their files, see `Predicting.check`."""
    found = []
    for name, given in members:
        folder = bundles.find(name)
        content = bundles.read_config(folder, "inference.json")
        unknown = [setting for setting in overrides if setting not in content and setting != "decision"]
        if unknown:
            raise BundleError(f"the bundle {folder.name} has no setting {', '.join(unknown)}; pack it with this volseg")
        checkpoint = Path(given) if given is not None else bundles.stated_checkpoint(folder, content)
        if checkpoint is None:
            return None
        recipe = bundles.read_recipe(checkpoint)
        bundles.check_settings(folder, recipe, checkpoint=checkpoint)
        found.append(StatedNetwork(checkpoint, recipe))
    return tuple(found)


def _identity(
    members: Sequence[Member], networks: Sequence[Predictor | ArrayPredictor | StatedNetwork]
) -> tuple[list[dict[str, Any]], list[list[str]]]:
    """Name, bytes and sha256 of each checkpoint; and what tells the networks and their inference from others."""
    weights, identity = [], []
    for (name, _), network in zip(members, networks, strict=True):
        read = stamp(network.checkpoint)
        weights.append({"name": network.checkpoint.name, "bytes": read.size, "sha256": read.sha256})
        identity.append([read.sha256, stamp(bundles.config(bundles.find(name), "inference.json")).sha256])
    return weights, identity


def _stated(decision: object) -> object:
    """The decision for dataset.json; that of the threshold is not stated."""
    return None if decision == "threshold" else decision

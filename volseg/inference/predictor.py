"""A trained network with the bundle's steps before and after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from volseg import bundle as bundles
from volseg import method_of_before
from volseg.bundle import Recipe, check_settings, read_checkpoint, read_recipe, weights_digest
from volseg.calibration import Calibration, region_features, scan_features
from volseg.cohort import FILE_ENDING, Bounds, Prediction, Uncertainty, write_prediction, write_uncertainty
from volseg.errors import BundleError, CheckpointError, UsageError, VolsegError, naming, root_error
from volseg.inference.arrays.packed import need_int8
from volseg.inference.arrays.settings import ArraySettings
from volseg.inference.engines import EXPORTED, Engine, OpenVinoEngine, TorchEngine, check_device, choose
from volseg.inference.ensemble import LogitsFunction, check_members, image_order, in_order, mean_logits, region_order
from volseg.inference.lazy_monai import name_modules
from volseg.inference.normalisation import check_intensities, normalise_alike
from volseg.inference.outputs import check_apart
from volseg.inference.reading import check_there, is_foreign, read_images
from volseg.inference.sizes import notes_on
from volseg.transforms import (
    CONSTANT,
    Decision,
    NativeProbabilitiesd,
    PriorFiles,
    affine_of_file,
    prior_arrays,
    split_at_normalisation,
    with_decision,
    with_measure,
)
from volseg.volume import Grid, Volume, read_volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network, or several, with the bundle's steps before and after.

    Attributes:
        network: Network in evaluation mode, on `device`.
        preprocessing, inferer, postprocessing: Steps of the bundle; the last one gives `pred` as a label map.
        checkpoint: File of the weights.
        recipe: Recipe that the checkpoint holds.
        device: Device of the network.
        engine: Engine that computes the logits of windows; the network in PyTorch at first, see `with_engine`.
        exported: Network for OpenVINO, if the bundle was packed with it.
        others: Further networks, whose probabilities are averaged with those of this one; see `with_members`.
        flips: Axes along which the networks predict mirror images too.
        priors: Earlier day of the patient by case key, for a network that takes one; a case without is seen alone.
        calibration: Calibration, by which predictions get bounds; see `with_calibration`.
        decision: Decision that a calibration made; None for that of the bundle or of the overrides.
        apart: Reason why predictions are made otherwise than the calibrated ones; empty if they are not.
    """

    network: nn.Module
    preprocessing: Compose
    inferer: Inferer
    postprocessing: Compose
    checkpoint: Path
    recipe: Recipe
    device: torch.device
    engine: Engine
    exported: Path | None = None
    others: tuple[Predictor, ...] = ()
    flips: tuple[int, ...] = ()
    priors: Mapping[str, PriorFiles] = field(default_factory=dict)
    calibration: Calibration | None = None
    decision: Decision | None = None
    apart: str = ""

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path,
        *,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Predictor:
        """Build from the `inference.json` of a bundle.

        Args:
            bundle: Name or folder of the bundle.
            checkpoint: File of the weights; the bundle's default otherwise.
            device: `cpu`, `cuda:1`, ...; the bundle's choice otherwise.
            overrides: Settings of the bundle and their values, as `monai.bundle run` takes them; and `decision`, the
                rule by which probabilities become a label map, see `volseg.transforms.DECISIONS`.

        Raises:
            BundleError: There is no such bundle, or it cannot take an override.
            UsageError: There is no such device.
            CheckpointError: The checkpoint is absent, damaged, or of another network.
        """
        from monai.bundle import ConfigParser

        folder = bundles.find(bundle)
        parser = ConfigParser()
        parser.read_config(name_modules(ConfigParser.load_config_file(str(bundles.config(folder, "inference.json")))))
        overrides = dict(overrides or {})
        decision = overrides.pop("decision", None)
        int8 = overrides.get("precision") == "int8"  # that of a packed network, which the bundle's steps do not know
        overrides |= {"precision": "fp32"} if int8 else {}
        unknown = [name for name in overrides if name not in parser]
        if unknown:
            raise BundleError(f"the bundle {folder.name} has no setting {', '.join(unknown)}; pack it with this volseg")
        settings = {"bundle_root": str(folder), "output_dir": None, **overrides}
        parser.update(bundles.path_values(settings, ids=list(parser.get())))
        if checkpoint is not None:  # a packed bundle states the recipe of its own one in words
            stated = bundles.literal(str(checkpoint))
            parser.update({"checkpoint": stated, "recipe": "$volseg.bundle.read_recipe(@checkpoint)"})
        if device is not None:
            parser.update({"device": str(check_device(device))})
        path = Path(parser.get_parsed_content("checkpoint"))
        recipe = read_recipe(path)
        check_settings(folder, recipe, checkpoint=path)
        parts = ("network", "preprocessing", "inferer", "postprocessing", "device")
        try:
            network, before, inferer, after, place = (parser.get_parsed_content(part) for part in parts)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise root_error(error) from error
        after = after if decision in (None, "threshold") else with_decision(after, decision)
        state = read_checkpoint(path)
        try:
            network.load_state_dict(state["model"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(
                f"the weights must be those of the network of {folder.name}, got {path} of another one; name its own "
                "bundle"
            ) from error
        check_intensities(before, recipe, checkpoint=path)
        place = torch.device(place)
        engine: Engine = TorchEngine(network.eval(), device=place, precision=getattr(inferer, "precision", "fp32"))
        exported = folder / EXPORTED
        own = checkpoint is None and exported.is_file()
        if int8:
            if place.type != "cpu":
                raise UsageError(f"--precision int8 runs on the CPU, not on {place}; add --device cpu, or use bf16")
            exported = need_int8(ArraySettings(folder, path, checkpoint is None))
            window = (len(recipe.channel_names), *recipe.roi_size)
            engine = OpenVinoEngine(network, window=window, precision="int8", exported=exported)
        return cls(network, before, inferer, after, path, recipe, place, engine, exported if own else None)

    @property
    def networks(self) -> tuple[Predictor, ...]:
        """This predictor, then those averaged with it."""
        return (self, *self.others)

    @property
    def first_networks(self) -> tuple[Predictor, ...]:
        """Networks of a first step: none here, see `volseg.inference.CascadePredictor`."""
        return ()

    def with_members(self, others: Iterable[Predictor] = (), *, flips: Iterable[int] = ()) -> Predictor:
        """The same predictor with further networks beside its own, and with mirror images: an ensemble.

        Args:
            others: Networks for the same regions and channels; spacing, windows and architectures may differ.
            flips: Axes 0 to 2 to mirror, see `volseg.inference.flip_axes`.

        Raises:
            CheckpointError: The networks have other regions or channels.
        """
        joined = replace(self, others=(*self.others, *others), flips=tuple(flips))
        check_members([(member.checkpoint, member.recipe) for member in joined.networks])
        for members in joined.grids if len(joined.grids) > 1 else ():
            to_native(members[0])
        return joined

    def with_calibration(
        self, calibration: Calibration, *, path: Path, decision: Decision | None = None, apart: str = ""
    ) -> Predictor:
        """The same predictor with bounds of its predictions.

        Args:
            calibration: Calibration of these very networks.
            path: File that it was read from, for messages.
            decision: Decision to make; None for the one that was given at loading.
            apart: Reason why predictions are made otherwise than the calibrated ones, so that bounds are withheld.

        Raises:
            CheckpointError: It is of other networks or labels.
        """
        calibration.check(
            networks=[weights_digest(network.checkpoint) for network in self.networks],
            plans=[network.recipe.plan_digest for network in self.networks],
            labels=self.recipe.labels.digest,
            path=path,
        )
        temperatures = calibration.temperatures
        after = with_measure(
            self.postprocessing,
            lambda name, probability, mask, voxel_ml: region_features(
                probability, mask, voxel_ml=voxel_ml, temperature=temperatures.get(name, 1.0)
            ),
        )
        after = after if decision in (None, "threshold") else with_decision(after, decision)
        return replace(self, postprocessing=after, calibration=calibration, decision=decision, apart=apart)

    def with_engine(self, name: str, *, windows: int | None = None) -> Predictor:
        """The same predictor with another engine, in the precision of its inferer; the log says which engine it is.

        Args:
            name: `auto`, `torch`, `compiled` or `openvino`, see `volseg.inference.choose`.
            windows: Number of windows to come, if known: with few of them `auto` makes no trial.
        """
        engine = (
            self.engine
            if self.engine.precision == "int8"
            else choose(
                self.network,
                name=name,
                window=(len(self.recipe.channel_names), *self.recipe.roi_size),
                device=self.device,
                precision=getattr(self.inferer, "precision", "fp32"),
                windows=windows and windows * 2 ** len(self.flips),
                exported=self.exported,
            )
        )
        others = tuple(other.with_engine(engine.name) for other in self.others)  # all by the engine of the first
        return replace(self, engine=engine, others=others)

    def predict(self, images: Sequence[str | Path | Volume], *, key: str) -> Prediction:
        """Predict the label map of one case and its uncertainty.

        Args:
            images: One file per channel, or the volumes read from them.
            key: Key that names the case in errors.

        Raises:
            VolsegError: A file cannot be read or used; the message names the key.
        """
        return self.postprocess(self.infer(self.preprocess(images, key=key)))

    def preprocess(self, images: Sequence[str | Path | Volume], *, key: str) -> dict[str, Any]:
        """Read files into the input of the network: the first of three stages of `predict`, on the CPU."""
        with naming(key):
            grids = self.grids
            names = self.recipe.image_channels
            given: list[Any] = list(images)
            check_there(given, names=names)
            prior = self.priors.get(key) if self.recipe.takes_prior else None
            if len(grids) > 1 or len(given) != len(names) or any(map(is_foreign, given)) or prior is not None:
                given = read_images(given, names=names)  # of which the transforms read NIfTI by themselves
            if self.recipe.takes_prior and (prior is not None or len(grids) > 1):
                given += prior_volumes(given[0].grid, prior, self.recipe)
            item, *others = [
                before({"key": key, "image": in_order(given, members[0].recipe, like=self.recipe)})
                for members in grids
                # Networks of one grid and several normalisations share the resampled image, and normalise it each.
                for before in [members[0].preprocessing if _alike(members) else members[0]._grid_and_intensities[0]]
            ]
            scan = {}
            if self.calibration is not None:
                volumes = (one if isinstance(one, Volume) else read_volume(one) for one in given)
                scan = {"scan": scan_features(list(volumes))}
            return {**item, **scan, **({"others": others} if others else {})}

    def infer(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Add the logits, `pred`, to the item: the second stage, on the network's device; the logits are on the CPU."""
        with naming(item["key"]), torch.inference_mode():
            logits = self._mean_logits(item, self.grids[0])
            # Each further grid is resampled to that of the files and added to one sum: their number costs no memory.
            total: Tensor | None = None
            for members, other in zip(self.grids[1:], item.get("others", ()), strict=True):
                seen = {"image": other["image"], "pred": self._mean_logits(other, members)}
                share = to_native(members[0])(seen)["pred"].as_tensor().mul_(len(members))
                total = share if total is None else total.add_(share)
            kept = {name: value for name, value in item.items() if name != "others"}
            return {**kept, "pred": logits, **({} if total is None else {"total": total})}

    def postprocess(self, item: Mapping[str, Any]) -> Prediction:
        """Turn logits into a label map on the grid of the files: the last stage, on the CPU."""
        with naming(item["key"]), torch.inference_mode():
            done = self.postprocessing(dict(item)) if "total" not in item else self._postprocess_sum(item)
        # The inverse transforms restore the affine but for rounding; the file's own is exact.
        label_map = Volume(done["pred"].numpy()[0], affine_of_file(item["image"]))
        note = "; ".join([*self._constant(item["image"]), *notes_on(label_map, self.recipe.spacing_mm)])
        bounds: Bounds = {}
        if self.calibration is not None:
            apart = self.apart or self._apart(self.calibration)
            bounds = self.calibration.bounds(done.get("features", {}), item.get("scan", {}), apart=apart)
        return Prediction(label_map, done.get("uncertainty", {}), done.get("probabilities"), note, bounds)

    @property
    def grids(self) -> list[list[Predictor]]:
        """Group the networks by the spacing of their input; the group of this predictor is the first."""
        found: dict[tuple[float, ...], list[Predictor]] = {}
        for network in self.networks:
            found.setdefault(tuple(round(float(mm), 3) for mm in network.recipe.spacing_mm), []).append(network)
        return list(found.values())

    def _mean_logits(self, item: Mapping[str, Any], members: Sequence[Predictor]) -> Tensor:
        """Compute the mean logits of some networks on the grid of an item."""
        image = item["image"].as_tensor()[None]
        alike = _alike(members)
        image = image.to(self.device) if alike else image
        logits_of = [member._logits_like(self.recipe, given=members[0].recipe, normalised=alike) for member in members]
        return mean_logits(image, logits_of, self.recipe.labels, flips=self.flips)

    def _postprocess_sum(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Run the postprocessing, and add the sum of the other grids' probabilities after its first step."""
        native = to_native(self)(dict(item))
        total, share = native.pop("total"), native["pred"]
        mean = share.as_tensor().mul_(len(self.grids[0])).add_(total).div_(len(self.networks))
        done: dict[str, Any] = Compose(self.postprocessing.transforms[1:])(
            {**native, "pred": MetaTensor(mean, affine=share.affine)}
        )
        return done

    def _logits_like(self, first: Recipe, *, given: Recipe, normalised: bool = True) -> LogitsFunction:
        """A function that computes logits of an image with regions in the order of another network.

        Args:
            first: Recipe of the network whose order of regions is taken.
            given: Recipe of the network whose channels the image has, in its order.
            normalised: Whether the image is ready; if not, it is on the CPU and is normalised as this network has it.
        """
        regions = region_order(self.recipe.labels, like=first.labels)
        channels = image_order(self.recipe.channel_names, among=given.channel_names)
        ordered = regions in (None, sorted(regions or ())) and channels in (None, sorted(channels or ()))
        if not normalised:
            return lambda image: self._logits(self._normalised(image if ordered else image[:, channels]))[
                slice(None) if ordered else regions
            ]
        if ordered:
            return self._logits
        return lambda image: self._logits(image[:, channels])[regions]

    def _normalised(self, image: Tensor) -> Tensor:
        """An image (1, C, X, Y, Z) of this network's channels in its normalisation, on its device."""
        item = {"image": MetaTensor(image[0].clone())}
        normalised: Tensor = self._grid_and_intensities[1](item)["image"].as_tensor()
        return normalised[None].to(self.device)

    @property
    def _grid_and_intensities(self) -> tuple[Compose, Compose]:
        """The two parts of the preprocessing: up to the image's grid, and from there on."""
        return split_at_normalisation(self.preprocessing)

    def _constant(self, image: MetaTensor) -> list[str]:
        """The note on channels in which nothing is to be seen."""
        numbers = image.meta.get(CONSTANT, "")
        names = [self.recipe.channel_names[int(number)] for number in numbers.split(",")] if numbers else []
        return [f"{' and '.join(names)} has one value everywhere, so the network saw nothing in it"] if names else []

    def _apart(self, calibration: Calibration) -> str:
        """The reason why networks or mirror images are others than those of the calibration, if they are."""
        if len(self.networks) != len(calibration.networks):
            return f"predicted by {len(self.networks)} networks, calibrated for {len(calibration.networks)}"
        known = list(calibration.options.get("flips", ()))
        if list(self.flips) != known:
            return f"predicted with mirror images along {list(self.flips)}, calibrated with those along {known}"
        return ""

    def _logits(self, image: Tensor) -> Tensor:
        """Compute the logits of an image (1, C, X, Y, Z), without the batch axis."""
        logits: Tensor = self.inferer(image, self.engine)
        return logits[0]

    def predict_to(
        self,
        cases: Iterable[tuple[str, Sequence[Path]]],
        output_dir: Path,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, str]:
        """Write `KEY.nii.gz` and one row of `uncertainty.csv` per case; a failed case is reported, the others go on.

        Args:
            cases: Pairs of a key and one file per channel.
            output_dir: Folder of the predictions.
            progress: Function that is called with the number of finished cases.

        Returns:
            The error of each failed key.

        Raises:
            UsageError: Two cases would be written to one file.
        """
        failed: dict[str, str] = {}
        uncertainties: dict[str, Uncertainty] = {}
        bounds: dict[str, Bounds] = {}
        cases = list(cases)
        check_apart(output_dir, cases)
        # Rows of an earlier network are removed first: they must not stay if this run is stopped.
        write_uncertainty(output_dir, {}, forget=[key for key, _ in cases])
        try:
            for done, (key, images) in enumerate(cases, start=1):
                try:
                    prediction = self.predict(images, key=key)
                    write_prediction(output_dir / f"{key}{FILE_ENDING}", prediction)
                    uncertainties[key] = prediction.uncertainty
                    bounds[key] = prediction.bounds
                except VolsegError as error:
                    failed[key] = error.message
                    logger.error("%s", error)
                if progress:
                    progress(done)
        finally:
            write_uncertainty(output_dir, uncertainties, bounds=bounds)
        return failed

    joined = method_of_before("with_members")
    read = method_of_before("preprocess")
    look = method_of_before("infer")
    decide = method_of_before("postprocess")


def _alike(members: Sequence[Predictor]) -> bool:
    return normalise_alike([member.recipe for member in members])


def to_native(predictor: Predictor) -> Callable[..., dict[Hashable, Any]]:
    """The step of a bundle that resamples logits to the grid of the files, as probabilities, for several grids.

    Raises:
        CheckpointError: The postprocessing of the bundle begins with another step.
    """
    steps = predictor.postprocessing.transforms
    if not steps or not isinstance(steps[0], NativeProbabilitiesd):
        raise CheckpointError(
            f"{predictor.checkpoint} makes an ensemble of several spacings, and its bundle's postprocessing does not "
            "begin with the way back to the grid of the files; pack it with this volseg, or predict with it alone"
        )
    return steps[0]


def prior_volumes(grid: Grid, prior: PriorFiles | None, recipe: Recipe) -> list[Volume]:
    """The channels of a prior on the grid of today's image: empty ones if there is none."""
    if prior is None:
        voxels = np.zeros((len(recipe.channel_names) - len(recipe.image_channels), *grid.shape), np.float32)
    else:
        arrays = prior_arrays(prior, grid, recipe.labels)
        voxels = np.concatenate([arrays, np.ones((1, *grid.shape), np.float32)])
    return [Volume(channel, grid.affine_ras) for channel in voxels]

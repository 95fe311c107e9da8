"""A trained network with the bundle's steps before and after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from volseg import method_of_before
from volseg.bundle import WITHOUT_PRIOR, Recipe, weights_digest
from volseg.calibration import Calibration, region_features, scan_features
from volseg.cohort import FILE_ENDING, Bounds, Prediction, Uncertainty, write_prediction, write_uncertainty
from volseg.errors import VolsegError, naming
from volseg.inference.bundle_parts import BundleParts, read_parts
from volseg.inference.engines import Engine, choose
from volseg.inference.ensemble import check_members, in_order
from volseg.inference.network_grids import (
    group_by_spacing,
    logits_of_grid,
    postprocess_sum,
    steps_to_image,
    to_native,
)
from volseg.inference.outputs import check_apart
from volseg.inference.priors import prior_volumes
from volseg.inference.reading import check_there, constant_notes, is_foreign, read_images
from volseg.inference.sizes import notes_on
from volseg.transforms import CONSTANT, Decision, PriorFiles, affine_of_file, with_decision, with_measure
from volseg.volume import Volume, read_volume

logger = logging.getLogger(__name__)


_SHOWN = "shown_prior"
"""Entry of an item whose network is shown a prior."""


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
        without_prior: Network for cases without a prior, if the checkpoint of a network with a prior holds one.
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
    without_prior: Predictor | None = None

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
        return cls._of_parts(read_parts(bundle, checkpoint=checkpoint, device=device, overrides=overrides))

    @classmethod
    def _of_parts(cls, parts: BundleParts) -> Predictor:
        return cls(
            parts.network,
            parts.preprocessing,
            parts.inferer,
            parts.postprocessing,
            parts.checkpoint,
            parts.recipe,
            parts.device,
            parts.engine,
            parts.exported,
            without_prior=None if parts.without_prior is None else cls._of_parts(parts.without_prior),
        )

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
        plain = [network.without_prior for network in joined.networks if network.without_prior is not None]
        if len(plain) < len(joined.networks):  # of some networks alone it would be another ensemble
            return replace(joined, without_prior=None)
        first = replace(plain[0], others=(), flips=())
        return replace(joined, without_prior=first.with_members(plain[1:], flips=flips))

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
        calibrated = self._calibrated(calibration, decision, apart)
        if self.without_prior is None:
            return calibrated
        if not apart and _calibrated_with_prior(calibration):
            apart = "predicted without a prior, by another network than the calibrated one"
        return replace(calibrated, without_prior=self.without_prior._calibrated(calibration, decision, apart))

    def _calibrated(self, calibration: Calibration, decision: Decision | None, apart: str) -> Predictor:
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
        plain = None if self.without_prior is None else self.without_prior.with_engine(engine.name)
        return replace(self, engine=engine, others=others, without_prior=plain)

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
        if self.without_prior is not None and key not in self.priors:
            return {**self.without_prior.preprocess(images, key=key), WITHOUT_PRIOR: True}
        with naming(key):
            grids = self.grids
            names = self.recipe.image_channels
            given: list[Any] = list(images)
            check_there(given, names=names)
            prior = self.priors.get(key) if self.recipe.takes_prior else None
            if len(grids) > 1 or len(given) != len(names) or any(map(is_foreign, given)) or prior is not None:
                given = read_images(given, names=names)  # of which the transforms read NIfTI by themselves
            if self.recipe.takes_prior and (prior is not None or len(grids) > 1):
                channels = prior_volumes(given[0].grid, prior, self.recipe)
                if prior is not None and self.without_prior is not None and not channels[-1].voxels.any():
                    logger.warning(
                        "%s: the prior %s tells nothing of what the image shows, so it is predicted without one",
                        *(key, prior.key),
                    )
                    return {**self.without_prior.preprocess(given, key=key), WITHOUT_PRIOR: True}
                given += channels
            item, *others = [
                steps_to_image(members)({"key": key, "image": in_order(given, members[0].recipe, like=self.recipe)})
                for members in grids
            ]
            scan = {}
            if self.calibration is not None:
                volumes = (one if isinstance(one, Volume) else read_volume(one) for one in given)
                scan = {"scan": scan_features(list(volumes))}
            shown = {} if prior is None else {_SHOWN: True}
            return {**item, **scan, **shown, **({"others": others} if others else {})}

    def infer(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Add the logits, `pred`, to the item: the second stage, on the network's device; the logits are on the CPU."""
        if self.without_prior is not None and item.get(WITHOUT_PRIOR):
            return self.without_prior.infer(item)
        with naming(item["key"]), torch.inference_mode():
            logits = logits_of_grid(item, self.grids[0], like=self)
            # Each further grid is resampled to that of the files and added to one sum: their number costs no memory.
            total: Tensor | None = None
            for members, other in zip(self.grids[1:], item.get("others", ()), strict=True):
                seen = {"image": other["image"], "pred": logits_of_grid(other, members, like=self)}
                share = to_native(members[0])(seen)["pred"].as_tensor().mul_(len(members))
                total = share if total is None else total.add_(share)
            kept = {name: value for name, value in item.items() if name != "others"}
            return {**kept, "pred": logits, **({} if total is None else {"total": total})}

    def postprocess(self, item: Mapping[str, Any]) -> Prediction:
        """Turn logits into a label map on the grid of the files: the last stage, on the CPU."""
        if self.without_prior is not None and item.get(WITHOUT_PRIOR):
            return self.without_prior.postprocess(item)
        with naming(item["key"]), torch.inference_mode():
            done = self.postprocessing(dict(item)) if "total" not in item else postprocess_sum(self, item)
        # The inverse transforms restore the affine but for rounding; the file's own is exact.
        label_map = Volume(done["pred"].numpy()[0], affine_of_file(item["image"]))
        note = "; ".join(
            [
                *blind_channels(item, self.recipe),
                *notes_on(label_map, self.recipe.spacing_mm, self.recipe.longest_image_mm),
            ]
        )
        bounds: Bounds = {}
        if self.calibration is not None:
            apart = self.apart or self._apart(self.calibration, shown=bool(item.get(_SHOWN)))
            bounds = self.calibration.bounds(done.get("features", {}), item.get("scan", {}), apart=apart)
        return Prediction(label_map, done.get("uncertainty", {}), done.get("probabilities"), note, bounds)

    @property
    def grids(self) -> list[list[Predictor]]:
        """Group the networks by the spacing of their input; the group of this predictor is the first."""
        return group_by_spacing(self.networks)

    def _apart(self, calibration: Calibration, *, shown: bool) -> str:
        """The reason why networks, mirror images or priors are not as in the calibration, if they are not.

        Args:
            calibration: Calibration.
            shown: Whether the network was shown a prior.
        """
        if len(self.networks) != len(calibration.networks):
            return f"predicted by {len(self.networks)} networks, calibrated for {len(calibration.networks)}"
        known = list(calibration.options.get("flips", ()))
        if list(self.flips) != known:
            return f"predicted with mirror images along {list(self.flips)}, calibrated with those along {known}"
        if self.recipe.takes_prior and shown != _calibrated_with_prior(calibration):
            now, before = ("with", "without") if shown else ("without", "with")
            return f"predicted {now} a prior, calibrated {before}"
        return ""

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


def _calibrated_with_prior(calibration: Calibration) -> bool:
    """Whether the calibrated predictions were shown priors: those that `volseg calibrate` makes are not."""
    return bool(calibration.options.get("prior", False))


def blind_channels(item: Mapping[str, Any], recipe: Recipe) -> list[str]:
    """The note on channels of a preprocessed item in which nothing is to be seen; none if there is no such channel."""
    numbers = [int(number) for number in item["image"].meta.get(CONSTANT, "").split(",") if number]
    return constant_notes(recipe.channel_names, numbers)

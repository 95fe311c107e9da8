"""Two steps: a first network finds a region, and a second one predicts within it, for a label map of the whole grid."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from volseg import method_of_before
from volseg.bundle import Member, Recipe
from volseg.calibration import Calibration, find_calibration, read_calibration
from volseg.cohort import Prediction
from volseg.errors import CheckpointError, GeometryError, UsageError, VolumeError, naming
from volseg.inference.arrays import ArrayPredictor
from volseg.inference.engines import Engine
from volseg.inference.predictor import Predictor, blind_channels
from volseg.inference.reading import read_images
from volseg.inference.region_of_interest import RegionOfInterest
from volseg.inference.sizes import notes_on
from volseg.labels import Cleanup, LabelTable, fold_channel
from volseg.transforms import Decision
from volseg.volume import Affine, Crop, Volume, aligned, read_volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class CascadePredictor:
    """A predictor that is restricted to a region, with the three stages of a `Predictor`.

    The region is found on the grid of the image's files. The second step gets a box of their own voxels as if it were a
    file: with an affine that is moved to the box's corner, and with intensities normalised by those in the box.

    Attributes:
        second: Predictor of the second step.
        step: Definition of the region.
        first: Predictor that finds the region; None if its label maps exist, each as the last file of its case.
    """

    second: Predictor
    step: RegionOfInterest
    first: Predictor | None = None

    def __post_init__(self) -> None:
        self.step.check(self.region_labels)
        if self.first is not None:
            channels_of(self.first.recipe, among=self.second.recipe)

    @property
    def region_labels(self) -> LabelTable:
        """Labels of the first step."""
        labels = self.first.recipe.labels if self.first is not None else self.step.labels
        if labels is None:
            raise UsageError("a first step must have networks, or label maps with their labels, got neither")
        return labels

    @property
    def recipe(self) -> Recipe:
        """Recipe of the second step."""
        return self.second.recipe

    @property
    def device(self) -> torch.device:
        """Device of both steps."""
        return self.second.device

    @property
    def engine(self) -> Engine:
        """Engine of the second step."""
        return self.second.engine

    @property
    def networks(self) -> tuple[Predictor, ...]:
        """Networks of the second step, see `Predictor.networks`."""
        return self.second.networks

    @property
    def first_networks(self) -> tuple[Predictor, ...]:
        """Networks of the first step; none if its label maps exist already."""
        return self.first.networks if self.first is not None else ()

    @property
    def calibration(self) -> Calibration | None:
        """Calibration of the second step, see `Predictor.calibration`."""
        return self.second.calibration

    @property
    def decision(self) -> Decision | None:
        """Decision that the calibration made, see `Predictor.decision`."""
        return self.second.decision

    @property
    def flips(self) -> tuple[int, ...]:
        """Axes along which the networks of the second step predict mirror images too."""
        return self.second.flips

    def with_members(self, others: Iterable[Predictor] = (), *, flips: Iterable[int] = ()) -> CascadePredictor:
        """The same predictor with further networks and mirror images in the second step."""
        return replace(self, second=self.second.with_members(others, flips=flips))

    def with_engine(self, name: str, *, windows: int | None = None) -> CascadePredictor:
        """The same predictor with another engine for both steps, which is chosen by the second step."""
        second = self.second.with_engine(name, windows=windows)
        first = self.first.with_engine(second.engine.name) if self.first is not None else None
        return replace(self, second=second, first=first)

    def predict(self, images: Sequence[str | Path | Volume], *, key: str) -> Prediction:
        """Predict the label map of one case, see `preprocess`.

        Raises:
            VolsegError: A file cannot be read or used, or there is no such region; the message names the key.
        """
        return self.postprocess(self.infer(self.preprocess(images, key=key)))

    def preprocess(self, images: Sequence[str | Path | Volume], *, key: str) -> dict[str, Any]:
        """Read the files into the input of the first network, or of the second one if the region has a label map.

        Args:
            images: One file per channel; without a first network, followed by the label map of the region.
            key: Key that names the case in errors.
        """
        with naming(key):
            if self.first is None:
                volumes = read_images(images[:-1], names=self.recipe.image_channels)
                return self._within(volumes, self._read_region(images), key)
            volumes = read_images(images, names=self.recipe.image_channels)
            wanted = channels_of(self.first.recipe, among=self.second.recipe)
            return {
                "key": key,
                "volumes": volumes,
                "first": self.first.preprocess([volumes[c] for c in wanted], key=key),
            }

    def infer(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Run the networks on their device; returns the item with the logits of the box, unless the region is empty."""
        if self.first is not None:
            region = self.first.postprocess(self.first.infer(item["first"])).label_map
            with naming(item["key"]):
                item = self._within(item["volumes"], region, item["key"])
        return self.second.infer(item) if item["crop"] is not None else dict(item)

    def postprocess(self, item: Mapping[str, Any]) -> Prediction:
        """Turn the logits of the box into a label map on the grid of the files."""
        labels, crop, affine = self.recipe.labels, item["crop"], item["affine_ras"]
        if crop is None:
            return self._empty(item["shape"], affine, item["notes"])
        part = self.second.postprocess(item)
        probabilities = part.probabilities
        if probabilities is not None:
            probabilities = crop.paste(probabilities, outside=labels.background_probabilities)
        label_map = Volume(crop.paste(part.label_map.voxels), affine)
        # Notes on the position of voxels are those of the whole image; that on channels is of the box.
        note = "; ".join([*blind_channels(item, self.recipe), *filter(None, [item["notes"]])])
        return replace(part, label_map=label_map, probabilities=probabilities, note=note)

    def _read_region(self, images: Sequence[str | Path | Volume]) -> Volume:
        """The last of the images, the label map of the region, after a check that it is on their grid."""
        *_, path = images
        if isinstance(path, Volume):
            return path
        if not Path(path).is_file():
            raise VolumeError(
                f"the label map of the region must be there, got no file {path}; predict the region of this case too, "
                "or leave the case out"
            )
        return read_volume(path)

    def _within(self, volumes: Sequence[Volume], region: Volume, key: str) -> dict[str, Any]:
        """The input of the second network, and what restores the whole grid; `crop` is None without a region."""
        image = volumes[0]
        try:
            region, _ = aligned(region, image.grid)
        except GeometryError as error:
            raise VolumeError(
                f"the label map of the region must be on the grid of the image, got another one: {error}"
            ) from error
        found = self.step.crop(region, self.region_labels)
        whole: dict[str, Any] = {"key": key, "shape": image.shape, "affine_ras": image.affine_ras}
        whole["notes"] = "; ".join(notes_on(image, self.recipe.spacing_mm))
        if found is None:
            if self.step.absent == "fail":
                raise VolumeError(
                    f"{self._nothing} was found in the image, so there is no place to look in; is it an image of that "
                    "part of the body? --absent empty takes it for an empty label map"
                )
            return {**whole, "crop": None}
        crop, masks = found
        parts = [masks.of(crop.cut(volume)) for volume in volumes]
        return {**self.second.preprocess(parts, key=key), **whole, "crop": crop, "kept": masks.kept}

    @property
    def _nothing(self) -> str:
        return f"no voxel of {self.step.told(self.region_labels)}"

    def _empty(self, shape: tuple[int, int, int], affine_ras: Affine, notes: str) -> Prediction:
        """A prediction of background in every voxel."""
        labels = self.recipe.labels
        label_map = Volume(np.zeros(shape, np.uint8), affine_ras)
        probabilities = None
        if any(getattr(step, "keep_probabilities", False) for step in self.second.postprocessing.transforms):
            whole = Crop((0, 0, 0), (0, 0, 0), shape)
            probabilities = whole.paste(
                np.zeros((labels.channels, 0, 0, 0), np.float32), outside=labels.background_probabilities
            )
        note = "; ".join(filter(None, [f"{self._nothing} was found, so the label map is empty", notes]))
        return Prediction(label_map, dict.fromkeys(labels.names), probabilities, note)

    joined = method_of_before("with_members")
    read = method_of_before("preprocess")
    look = method_of_before("infer")
    decide = method_of_before("postprocess")


AnyPredictor = Predictor | CascadePredictor | ArrayPredictor


def load_predictor(
    members: Sequence[Member],
    *,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    flips: Iterable[int] = (),
    step: RegionOfInterest | None = None,
    calibrated: bool = True,
) -> AnyPredictor:
    """Load the networks that a user named, and the calibration beside them if there is one.

    Args:
        members: Networks of an ensemble, or one; the first sets the settings of inference.
        device: `cpu`, `cuda:1`, ...; the bundle's choice by default.
        overrides: Settings of the bundle and their values. Clean-up, probabilities and decision apply to the
            second step alone.
        flips: Axes to mirror, in the second step alone.
        step: First step that finds the region, if the networks are restricted to one.
        calibrated: Whether a `calibration.json` is used: for bounds, and for the decision unless one is named.

    Raises:
        CheckpointError: The calibration is of other networks or labels, or damaged.
    """

    def load(named: Sequence[Member], settings: Mapping[str, Any]) -> Predictor:
        first, *others = [
            Predictor.from_bundle(bundle, checkpoint=checkpoint, device=device, overrides=settings)
            for bundle, checkpoint in named
        ]
        return first.with_members(others, flips=flips if named is members else ())

    settings = dict(overrides or {})
    second = load(members, settings)
    if calibrated:
        second = with_own_calibration(second, settings, within=step is not None)
    if step is None:
        return second
    if not step.members:
        return CascadePredictor(second, step)
    plain = {
        name: value for name, value in settings.items() if name not in ("cleanup", "save_probabilities", "decision")
    }
    made = CascadePredictor(second, step, load(step.members, plain))
    known = {fold_channel(name) for name in second.recipe.image_channels}
    if made.first is not None and not {fold_channel(name) for name in made.first.recipe.image_channels} <= known:
        logger.warning(
            "the first step was trained on %s, the second one on %s: channels are taken in their order",
            ", ".join(made.first.recipe.image_channels),
            ", ".join(second.recipe.image_channels),
        )
    return made


def own_calibration(predictor: Predictor) -> Calibration | None:
    """The calibration beside the checkpoints of a predictor; None if there is none.

    Raises:
        CheckpointError: It is of other networks or labels, or damaged.
    """
    path = find_calibration([network.checkpoint for network in predictor.networks])
    if path is None:
        return None
    calibration = read_calibration(path)
    predictor.with_calibration(calibration, path=path)  # which says what does not fit
    return calibration


def with_own_calibration(
    predictor: Predictor, settings: Mapping[str, Any] | None = None, *, within: bool = False
) -> Predictor:
    """The predictor with the calibration beside its checkpoint; as it is if there is none.

    Args:
        predictor: Predictor with all its networks.
        settings: Overrides that it was loaded with. With another overlap or clean-up than the calibrated ones, by
            these or by the bundle itself, or with another decision, no bound is given.
        within: Whether it predicts within the region of a first step.

    Raises:
        CheckpointError: The calibration is of other networks or labels, or damaged.
    """
    settings = dict(settings or {})
    path = find_calibration([network.checkpoint for network in predictor.networks])
    if path is None:
        return predictor
    calibration = read_calibration(path)
    named = settings.get("decision")
    decision = calibration.decision if named is None else named
    used = {**_steps_of(predictor), "decision": decision}
    known = {**calibration.options, "decision": calibration.decision}
    apart = "; ".join(
        f"predicted with {name} {_told(value)}, calibrated with {_told(known[name])}"
        for name, value in used.items()
        if name in known and known[name] != value
    )
    if within:
        apart = "predicted within the region of a first step, which the calibration does not know"
    if apart:
        logger.warning("no bounds: %s", apart)
    chosen = decision if named is None and decision != "threshold" else None
    return predictor.with_calibration(calibration, path=path, decision=chosen, apart=apart)


def _steps_of(predictor: Predictor) -> dict[str, Any]:
    """The overlap and the clean-up of a predictor; without those that only the bundle knows."""
    overlap = getattr(getattr(predictor.inferer, "inferer", predictor.inferer), "overlap", None)
    found: dict[str, Any] = {} if overlap is None else {"overlap": overlap}
    for step in predictor.postprocessing.transforms:
        if isinstance(cleanup := getattr(step, "cleanup", None), Cleanup):
            found["cleanup"] = cleanup.to_json()
    return found


def _told(value: object) -> str:
    return "nothing" if value in ([], {}, None) else str(value)


def channels_of(recipe: Recipe, *, among: Recipe) -> list[int]:
    """The indices of the channels that the first step takes: those of the same names, or all if there are as many.

    Channels of a prior are none of the image's: neither step is shown one.

    Args:
        recipe: Recipe of the first step.
        among: Recipe of the second step, whose channels the image has.

    Raises:
        CheckpointError: The image does not have the channels of the first step.
    """
    wanted, there = list(recipe.image_channels), list(among.image_channels)
    ours, theirs = [fold_channel(name) for name in wanted], [fold_channel(name) for name in there]
    if len(set(theirs)) == len(theirs) and set(ours) <= set(theirs):
        return [theirs.index(name) for name in ours]
    if len(wanted) == len(there):
        return list(range(len(there)))
    raise CheckpointError(
        f"the channels of the first step must be those of the second one, {there}, got {wanted}; predict the first "
        "step alone on its own images, and name the folder of its label maps with --within"
    )

"""Two steps: a first network finds a region, a second one looks within it; its answer goes back to the whole grid."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from volseg.bundle import Member, Recipe
from volseg.cohort import Prediction
from volseg.errors import CheckpointError, GeometryError, UsageError, VolumeError, naming
from volseg.inference.engines import Engine
from volseg.inference.first_step import FirstStep
from volseg.inference.inputs import read_images
from volseg.inference.predictor import Predictor
from volseg.labels import LabelTable
from volseg.volume import Affine, Crop, Volume, aligned, read_volume

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class TwoStep:
    """A predictor that looks only within a region, in the three stages of a `Predictor`.

    The region is decided on the grid of the image's files. The second step is given a box of their own voxels, as if it
    were a file: with an affine that is moved to the box's corner, and with grey values normalised by what is in it.

    Attributes:
        second: looks within the region.
        step: what the region is.
        first: finds it; None where label maps are there already, each the last of the files of its case.
    """

    second: Predictor
    step: FirstStep
    first: Predictor | None = None

    def __post_init__(self) -> None:
        self.step.check(self.region_labels)
        if self.first is not None:
            channels_of(self.first.recipe, among=self.second.recipe)

    @property
    def region_labels(self) -> LabelTable:
        """Of the first step."""
        labels = self.first.recipe.labels if self.first is not None else self.step.labels
        if labels is None:
            raise UsageError("a first step needs networks, or label maps with their labels")
        return labels

    @property
    def recipe(self) -> Recipe:
        """Of the second step."""
        return self.second.recipe

    @property
    def device(self) -> torch.device:
        """Of both steps."""
        return self.second.device

    @property
    def engine(self) -> Engine:
        """Of the second step."""
        return self.second.engine

    @property
    def networks(self) -> tuple[Predictor, ...]:
        """Of the second step, see `Predictor.networks`."""
        return self.second.networks

    @property
    def first_networks(self) -> tuple[Predictor, ...]:
        """Of the first step; none where label maps are there already."""
        return self.first.networks if self.first is not None else ()

    @property
    def flips(self) -> tuple[int, ...]:
        """Axes along which the networks of the second step look at mirror images too."""
        return self.second.flips

    def joined(self, others: Iterable[Predictor] = (), *, flips: Iterable[int] = ()) -> TwoStep:
        """The same with further networks and mirror images in the second step, see `Predictor.joined`."""
        return replace(self, second=self.second.joined(others, flips=flips))

    def with_engine(self, name: str, *, windows: int | None = None) -> TwoStep:
        """The same with another engine, which the second step chooses for both."""
        second = self.second.with_engine(name, windows=windows)
        first = self.first.with_engine(second.engine.name) if self.first is not None else None
        return replace(self, second=second, first=first)

    def predict(self, images: Sequence[str | Path | Volume], *, key: str) -> Prediction:
        """The label map of one case, see `read`.

        Raises:
            VolsegError: a file that cannot be read or used, or a region that is not there, with the key.
        """
        return self.decide(self.look(self.read(images, key=key)))

    def read(self, images: Sequence[str | Path | Volume], *, key: str) -> dict[str, Any]:
        """Files to what the first network takes; to what the second one takes where there is a label map.

        Args:
            images: one file a channel; without a first network, the label map of the region behind them.
            key: names the case in errors.
        """
        with naming(key):
            if self.first is None:
                return self._within(read_images(images[:-1]), self._read_region(images), key)
            volumes = read_images(images)
            wanted = channels_of(self.first.recipe, among=self.second.recipe)
            if len(volumes) <= max(wanted):
                raise VolumeError(f"{len(volumes)} image files were given, the first step takes {wanted[-1] + 1}")
            return {"key": key, "volumes": volumes, "first": self.first.read([volumes[c] for c in wanted], key=key)}

    def look(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The networks on their device: the item with the logits of the box, unless the region is empty."""
        if self.first is not None:
            region = self.first.decide(self.first.look(item["first"])).label_map
            with naming(item["key"]):
                item = self._within(item["volumes"], region, item["key"])
        return self.second.look(item) if item["crop"] is not None else dict(item)

    def decide(self, item: Mapping[str, Any]) -> Prediction:
        """Logits of the box to a label map on the grid of the files."""
        labels, crop, affine = self.recipe.labels, item["crop"], item["affine_ras"]
        if crop is None:
            return self._empty(item["shape"], affine, item["notes"])
        part = self.second.decide(item)
        probabilities = part.probabilities
        if probabilities is not None:
            probabilities = crop.paste(probabilities, outside=labels.background_probabilities)
        label_map = Volume(crop.paste(part.label_map.voxels), affine)
        return replace(part, label_map=label_map, probabilities=probabilities, note=item["notes"])

    def _read_region(self, images: Sequence[str | Path | Volume]) -> Volume:
        """The label map behind the images, once it is on their grid."""
        *_, path = images
        if isinstance(path, Volume):
            return path
        if not Path(path).is_file():
            raise VolumeError(f"there is no label map {path}; predict the region of this case too, or leave it out")
        return read_volume(path)

    def _within(self, volumes: Sequence[Volume], region: Volume, key: str) -> dict[str, Any]:
        """What the second network takes, and what is needed to put its answer back; `crop` is None without region."""
        image = volumes[0]
        try:
            region, _ = aligned(region, image.grid)
        except GeometryError as error:
            raise VolumeError(f"the label map of the region is not on the grid of the image: {error}") from error
        found = self.step.crop(region, self.region_labels)
        whole: dict[str, Any] = {"key": key, "shape": image.shape, "affine_ras": image.affine_ras}
        whole["notes"] = "; ".join(image.notes)
        if found is None:
            if self.step.absent == "fail":
                raise VolumeError(
                    f"{self._nothing} was found in the image, so there is no place to look in; is it an image of that "
                    "part of the body? --absent empty takes it for an empty label map"
                )
            return {**whole, "crop": None}
        crop, sight = found
        parts = [sight.of(crop.cut(volume)) for volume in volumes]
        return {**self.second.read(parts, key=key), **whole, "crop": crop, "kept": sight.kept}

    @property
    def _nothing(self) -> str:
        return f"no voxel of {self.step.told(self.region_labels)}"

    def _empty(self, shape: tuple[int, int, int], affine_ras: Affine, notes: str) -> Prediction:
        """Background everywhere."""
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


AnyPredictor = Predictor | TwoStep


def load_predictor(
    members: Sequence[Member],
    *,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    flips: Iterable[int] = (),
    step: FirstStep | None = None,
) -> AnyPredictor:
    """Load the networks that a user named.

    Args:
        members: an ensemble, or one; the first gives the way of inference.
        device: as in `Predictor.from_bundle`.
        overrides: ids of the config and their values. Clean-up and probabilities are those of the second step alone.
        flips: axes to mirror, in the second step alone.
        step: what finds the region, if the networks are to look within one.
    """

    def load(named: Sequence[Member], settings: Mapping[str, Any]) -> Predictor:
        first, *others = [
            Predictor.from_bundle(bundle, checkpoint=checkpoint, device=device, overrides=settings)
            for bundle, checkpoint in named
        ]
        return first.joined(others, flips=flips if named is members else ())

    settings = dict(overrides or {})
    second = load(members, settings)
    if step is None:
        return second
    if not step.members:
        return TwoStep(second, step)
    plain = {name: value for name, value in settings.items() if name not in ("cleanup", "save_probabilities")}
    made = TwoStep(second, step, load(step.members, plain))
    if made.first is not None and not set(made.first.recipe.channel_names) <= set(second.recipe.channel_names):
        logger.warning(
            "the first step was trained on %s, the second one on %s: channels are taken in their order",
            ", ".join(made.first.recipe.channel_names),
            ", ".join(second.recipe.channel_names),
        )
    return made


def channels_of(recipe: Recipe, *, among: Recipe) -> list[int]:
    """Which channels of an image the first step takes: those of the same names, or all where there are as many.

    Args:
        recipe: of the first step.
        among: of the second step, whose channels the image has.

    Raises:
        CheckpointError: there are no such channels.
    """
    wanted, there = list(recipe.channel_names), list(among.channel_names)
    if len(set(there)) == len(there) and set(wanted) <= set(there):
        return [there.index(name) for name in wanted]
    if len(wanted) == len(there):
        return list(range(len(there)))
    raise CheckpointError(
        f"the first step takes the channels {wanted}, the second one {there}; predict the first step alone on its own "
        "images, and name the folder of its label maps with --within"
    )

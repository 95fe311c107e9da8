"""From probabilities to a label map, and its files: the last steps of `volseg.transforms.postprocessing`."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai import transforms as mt
from monai.config import KeysCollection
from monai.data import MetaTensor
from numpy.typing import NDArray

from volseg.errors import UsageError
from volseg.labels import Cleanup, LabelTable
from volseg.metrics import (
    Mask,
    Scaling,
    decide_by_dice,
    decide_some_by_dice,
    dice_threshold,
    expected_dice,
    regions_by_dice,
    share_voxels,
)
from volseg.transforms.file_header import affine_of_file
from volseg.transforms.native_grid import NativeChannels
from volseg.transforms.rules import Decision, check_decision
from volseg.volume import FILE_ENDING, Volume, write_probabilities, write_volume

MeasureRegion = Callable[[str, NDArray[np.floating[Any]], Mask, float], Mapping[str, float]]
"""Numbers of a region from its name, its probabilities, its decision (X, Y, Z), and the volume of a voxel in ml."""

MANY = 8
"""Channels of a softmax above which the label map is decided channel by channel, without all of them in memory."""


class Decided(mt.MapTransform):  # type: ignore[misc]  # MONAI has no types
    """Probabilities (channels, X, Y, Z) as a uint8 label map (1, X, Y, Z); `uncertainty` is what they expect of it.

    If the item has `kept`, a mask (X, Y, Z), everything outside it is background; the clean-up comes after that. With
    `measure`, which `with_measure` sets, `features` holds what it gives of each region.

    Args:
        keys: Keys of probabilities.
        labels: Label table.
        cleanup: Clean-up of the label map.
        keep_probabilities: Whether they stay in the item, as an array.
        decision: Rule of the decision, see `Decision`.

    Raises:
        UsageError: There is no such rule.
    """

    def __init__(
        self,
        keys: KeysCollection,
        *,
        labels: LabelTable,
        cleanup: Cleanup | None = None,
        keep_probabilities: bool = False,
        decision: Decision = "threshold",
    ) -> None:
        super().__init__(keys)
        self.decision = check_decision(decision)
        self.measure: MeasureRegion | None = None
        self.labels = labels
        self.cleanup = cleanup or Cleanup()
        self.cleanup.check(labels)
        self.keep_probabilities = keep_probabilities

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Add the decision on the same grid, and its `volseg.cohort.Uncertainty`."""
        item = dict(data)
        for key in self.keys:
            if isinstance(item[key], NativeChannels):
                self._decide_each(key, item)
                continue
            probabilities, affine = item[key].detach().cpu().numpy(), item[key].affine
            if "kept" in item:
                outside = np.array(self.labels.background_probabilities, probabilities.dtype)
                probabilities = np.where(item["kept"], probabilities, outside[:, None, None, None])
            label_map = self.decide(probabilities)
            voxel_ml = abs(float(np.linalg.det(affine[:3, :3].numpy()))) / 1000
            label_map = self.cleanup.apply(label_map, self.labels, voxel_ml=voxel_ml)
            item[key] = MetaTensor(torch.from_numpy(label_map[None]), affine=affine)
            names = self.labels.names
            of_regions = probabilities[-len(names) :]  # a softmax has the background before them
            masks = self.labels.masks(label_map)
            expected = map(expected_dice, of_regions, masks)
            item["uncertainty"] = {
                name: None if math.isnan(value) else value for name, value in zip(names, expected, strict=True)
            }
            if self.measure is not None:
                found = zip(names, of_regions, masks, strict=True)
                item["features"] = {name: self.measure(name, p, mask, voxel_ml) for name, p, mask in found}
            if self.keep_probabilities:
                item["probabilities"] = probabilities
        return item

    def decide(self, probabilities: NDArray[np.floating[Any]]) -> NDArray[np.uint8]:
        """Decide the label map (X, Y, Z) by the rule, from probabilities (channels, X, Y, Z)."""
        if self.decision == "threshold":
            return self.labels.decide(probabilities)
        of_regions = probabilities[-len(self.labels.names) :]  # a softmax has the background before them
        if not isinstance(self.decision, str):
            scalings = [self._scaling(name) for name in self.labels.names]
            exclusive = not self.labels.overlap
            given = [one for one in scalings if one is not None]
            if len(given) == len(scalings):
                return self._by_dice(probabilities, given)
            plain = self.labels.masks(self.labels.decide(probabilities))
            return self.labels.encode(decide_some_by_dice(of_regions, plain, scalings, exclusive=exclusive))
        return self._by_dice(probabilities, None)

    def _by_dice(
        self, probabilities: NDArray[np.floating[Any]], scalings: Sequence[Scaling] | None
    ) -> NDArray[np.uint8]:
        """The label map (X, Y, Z) with the largest expected Dice of all regions, from all channels."""
        if self.labels.overlap:
            return self.labels.encode(decide_by_dice(probabilities, exclusive=False, scalings=scalings))
        background, of_regions = probabilities[0], probabilities[1:]
        return self.labels.from_numbers(regions_by_dice(of_regions, scalings, background=background))

    def _scaling(self, name: str) -> Scaling | None:
        """The correction of a region that is decided by its Dice; None for others."""
        given = None if isinstance(self.decision, str) else self.decision.get(name)
        return None if given is None else Scaling(*given)

    def _decide_each(self, key: Hashable, item: dict[Hashable, Any]) -> None:
        """Do the same for the channels of a softmax one after the other; no probabilities are kept."""
        channels: NativeChannels = item[key]
        kept = item.get("kept")

        def channel(number: int) -> NDArray[np.float32]:
            found = channels[number]
            return found if kept is None else np.where(kept, found, np.float32(number == 0))

        sums: list[float] = []

        def each() -> Iterator[NDArray[np.float32]]:
            for number in range(len(channels)):
                found = channel(number)
                sums.append(float(found.sum(dtype=np.float64)))
                yield found

        if self.decision == "threshold":
            label_map, winner = self.labels.decide_each(each(), channels=len(channels))
        elif not isinstance(self.decision, str):
            label_map, winner = self.labels.decide_each(each(), channels=len(channels))
            self._decide_some(channel, label_map, winner)
        else:
            found = [dice_threshold(one) for one in each()]
            of_regions = (channel(number) for number in range(1, len(channels)))
            numbers, winner = share_voxels(of_regions, found[1:])
            label_map = self.labels.from_numbers(numbers)
        voxel_ml = abs(float(np.linalg.det(channels.affine[:3, :3].numpy()))) / 1000
        label_map = self.cleanup.apply(label_map, self.labels, voxel_ml=voxel_ml)
        names, expected, features = self.labels.names, {}, {}
        for number, (name, mask) in enumerate(zip(names, self.labels.each_mask(label_map), strict=True), start=1):
            # The winner is the region's own probability, but in holes that were filled.
            of_region = channel(number) if name in self.cleanup.fill_holes else winner
            value = expected_dice(of_region, mask, total=sums[number])
            expected[name] = None if math.isnan(value) else value
            if self.measure is not None:
                features[name] = self.measure(name, channel(number), mask, voxel_ml)
        if self.measure is not None:
            item["features"] = features
        item[key] = MetaTensor(torch.from_numpy(label_map[None]), affine=channels.affine)
        item["uncertainty"] = expected

    def _decide_some(
        self,
        channel: Callable[[int], NDArray[np.float32]],
        label_map: NDArray[np.uint8],
        winner: NDArray[np.floating[Any]],
    ) -> None:
        """Let the regions that are decided by their Dice share out what the others leave, in place."""
        names = self.labels.names
        scalings = {number: found for number, name in enumerate(names, start=1) if (found := self._scaling(name))}
        chosen = list(scalings)
        values = self.labels.from_numbers(np.arange(len(names) + 1, dtype=np.uint16))
        free = np.isin(label_map, values[[0, *chosen]])

        def each() -> Iterator[NDArray[np.float32]]:
            for number in chosen:
                yield np.where(free, scalings[number].apply(channel(number)), np.float32(0))

        numbers, _ = share_voxels(each(), [dice_threshold(one) for one in each()])
        label_map[free] = values[np.array([0, *chosen])][numbers[free]]
        for place, number in enumerate(chosen, start=1):
            np.copyto(winner, channel(number), where=numbers == place)


def with_decision(postprocessing: mt.Compose, decision: Decision) -> mt.Compose:
    """The same steps with another rule of the decision.

    Args:
        postprocessing: Steps of which one is `Decided`, as `volseg.transforms.postprocessing` makes them.
        decision: Rule of the decision, see `Decision`.

    Raises:
        UsageError: There is no such rule, or none of the steps decides.
    """
    check_decision(decision)
    steps, deciding = _copied(postprocessing)
    if not deciding:
        raise UsageError(f"the bundle's postprocessing decides by itself; it cannot take the decision {decision!r}")
    for step in deciding:
        step.decision = decision
    return steps


def with_measure(postprocessing: mt.Compose, measure: MeasureRegion) -> mt.Compose:
    """The same steps with a function that measures each region of a decision, for the item's `features`.

    Args:
        postprocessing: Steps of which one is `Decided`.
        measure: Function of a region.

    Raises:
        UsageError: None of the steps decides.
    """
    steps, deciding = _copied(postprocessing)
    if not deciding:
        raise UsageError("the bundle's postprocessing decides by itself, so its predictions cannot be measured")
    for step in deciding:
        step.measure = measure
    return steps


def _copied(postprocessing: mt.Compose) -> tuple[mt.Compose, list[Decided]]:
    """A copy of the steps, and those of them that decide."""
    steps = [copy.copy(step) for step in postprocessing.transforms]
    return mt.Compose(steps), [step for step in steps if isinstance(step, Decided)]


class SaveImageLabelMapd(mt.SaveImaged):  # type: ignore[misc]  # MONAI has no types
    """Write `KEY.nii.gz` on the grid that the image had on disk, and `probabilities/KEY.nii.gz` if there are some.

    It is a subclass of MONAI's `SaveImaged`, and has SaveImage in its name: MONAI Label leaves out the one and MONAI
    Deploy the other, to write results themselves.
    """

    def __init__(self, keys: KeysCollection, *, output_dir: str | Path) -> None:
        mt.MapTransform.__init__(self, keys)
        self.output_dir = Path(output_dir)

    def __call__(self, data: Mapping[Hashable, Any]) -> dict[Hashable, Any]:
        """Write the files; the item is returned unchanged."""
        for key in self.keys:
            affine = affine_of_file(data["image"])
            name = str(data.get("key") or key_of(data["image"].meta["filename_or_obj"]))
            voxels = np.asarray(data[key].cpu().numpy())[0].astype(np.uint8)
            if "probabilities" in data:
                write_probabilities(
                    self.output_dir / "probabilities" / f"{name}{FILE_ENDING}", data["probabilities"], affine
                )
            write_volume(self.output_dir / f"{name}{FILE_ENDING}", Volume(voxels, affine))
        return dict(data)


SaveLabelMapd = SaveImageLabelMapd  # its name before


def key_of(paths: object) -> str:
    """The case key in a file name; `the image` if it is no path.

    >>> key_of("data/case1_day2_0000.nii.gz")
    'case1_day2'
    """
    first = paths[0] if isinstance(paths, (list, tuple)) and paths else paths
    if not isinstance(first, (str, Path)):
        return "the image"
    name = Path(str(first)).name.removesuffix(".gz").removesuffix(".nii")
    return name.removesuffix("_0000")

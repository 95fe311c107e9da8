"""A trained network with the steps of volseg's own bundles on arrays, without MONAI; packed, without PyTorch."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from volseg.bundle import Recipe
from volseg.cohort import Prediction
from volseg.errors import UsageError, VolsegError, naming
from volseg.inference.arrays.crop_first import CropFirst
from volseg.inference.arrays.decision import decide_all, needs_all
from volseg.inference.arrays.grid import NetworkGrid
from volseg.inference.arrays.memory import Size, Way, way_of
from volseg.inference.arrays.native import NativeGrid, SlabDecision
from volseg.inference.arrays.network import TorchWindows, free_bytes, packed_network, torch_network
from volseg.inference.arrays.packed import packed_windows
from volseg.inference.arrays.reading import read_input
from volseg.inference.arrays.settings import ArraySettings
from volseg.inference.arrays.slabs import axis_of_slabs, by_slabs
from volseg.inference.arrays.windows import WindowFunction, Windows, windows_that_fit
from volseg.inference.reading import constant_notes, read_grid
from volseg.inference.sizes import notes_on
from volseg.volume import Crop, Volume

if TYPE_CHECKING:
    from volseg.inference.predictor import Predictor

logger = logging.getLogger(__name__)

_ROOM = 0.9  # share of the free memory that a prediction may take


@dataclass(frozen=True, eq=False)
class ArrayPredictor:
    """A predictor with the three stages of `volseg.inference.Predictor`, and the same results.

    Attributes:
        settings: Settings of the bundle.
        memory: Bytes that the process may take; None for what is free.
        windows: Function that computes logits; chosen by `with_engine`.
        crop_first: Settings of a coarse pass that tells where to look; None to look everywhere.
    """

    settings: ArraySettings
    memory: int | None = None
    windows: WindowFunction | None = None
    crop_first: CropFirst | None = None

    device = "cpu"
    flips: tuple[int, ...] = ()
    first_networks: tuple[Any, ...] = ()
    calibration = None
    decision = None

    @property
    def recipe(self) -> Recipe:
        """Recipe that the checkpoint holds."""
        return self.settings.recipe

    @property
    def checkpoint(self) -> Path:
        """File of the weights."""
        return self.settings.checkpoint

    @property
    def networks(self) -> tuple[ArrayPredictor, ...]:
        """This predictor alone."""
        return (self,)

    @property
    def engine(self) -> WindowFunction:
        """What computes the logits."""
        return self.windows if self.windows is not None else self.with_engine("torch").engine

    def whole(self) -> Predictor:
        """The same network with the steps of MONAI, for what arrays do not do."""
        from volseg.inference.predictor import Predictor

        one = self.settings
        overrides = {
            "precision": one.precision,
            "overlap": one.overlap,
            "decision": one.decision,
            **({} if one.skip_empty else {"skip_empty": False}),
            **({"cleanup": dict(one.cleanup)} if one.cleanup else {}),
            **({"save_probabilities": True} if one.save_probabilities else {}),
        }
        checkpoint = None if one.own else one.checkpoint
        return Predictor.from_bundle(one.folder, checkpoint=checkpoint, device="cpu", overrides=overrides)

    def with_members(self, others: Iterable[Any] = (), *, flips: Iterable[int] = ()) -> ArrayPredictor | Predictor:
        """The same predictor with further networks or mirror images, which MONAI's steps then do."""
        others, flips = tuple(others), tuple(flips)
        return self.whole().with_members(others, flips=flips) if others or flips else self

    def with_engine(self, name: str, *, windows: int | None = None) -> ArrayPredictor:
        """The same predictor with another engine, see `volseg.inference.Predictor.with_engine`.

        With `auto` a packed OpenVINO network of these weights is taken without a trial.
        """
        window = (len(self.recipe.channel_names), *(int(n) for n in self.recipe.roi_size))
        packed = packed_windows(self.settings, window=window) if name in ("auto", "openvino") else None
        if packed is not None:
            return replace(self, windows=packed)
        import torch

        from volseg.inference.engines import EXPORTED, choose

        exported = self.settings.folder / EXPORTED
        engine = choose(
            torch_network(self.settings.folder, self.settings.checkpoint),
            name=name,
            window=window,
            device=torch.device("cpu"),
            precision=self.settings.precision,
            windows=windows,
            exported=exported if self.settings.own and exported.is_file() else None,
        )
        return replace(self, windows=TorchWindows(engine))

    def check_network(self) -> None:
        """Build the network, unless a packed one is used: one that does not fit is told before anything is written.

        Raises:
            CheckpointError: The checkpoint is of another network.
        """
        if packed_network(self.settings) is None:
            torch_network(self.settings.folder, self.settings.checkpoint)

    def check_size(self, images: Sequence[str | Path | Volume], *, key: str) -> Way:
        """How the logits of a case are summed, from the headers of its files.

        Raises:
            UsageError: The case does not fit into the memory; the message says what it would need.
        """
        first = images[0]
        shape, affine = (first.shape, first.affine_ras) if isinstance(first, Volume) else read_grid(first)
        grid = NetworkGrid.of(shape[:3], affine, self.recipe.spacing_mm)
        native = NativeGrid(np.linalg.inv(grid.affine_ras) @ affine, shape[:3], grid.shape)
        size = Size(
            shape[:3],
            grid.shape,
            len(self.recipe.channel_names),
            self.recipe.labels.channels,
            self.recipe.roi_size,
            whole=needs_all(self.settings) or native.axes is None,
            crop_first=self.crop_first is not None,
        )
        free = free_bytes(self.memory)
        return way_of(size, free if self.memory is not None or free is None else int(_ROOM * free), key=key)

    def check_sizes(self, cases: Iterable[tuple[str, Sequence[Path]]]) -> None:
        """Refuse to begin if no case fits into the memory; one that does not is a failed case beside others that do.

        Raises:
            UsageError: None fits; the message is that of the first one.
        """
        first: UsageError | None = None
        for key, images in cases:
            try:
                self.check_size(images, key=key)
            except UsageError as error:
                first = first or error
                continue
            except VolsegError:  # it is told when the case is read
                pass
            return
        if first is not None:
            raise first

    def predict(self, images: Sequence[str | Path | Volume], *, key: str) -> Prediction:
        """Predict the label map of one case and its uncertainty; errors as in `volseg.inference.Predictor.predict`."""
        return self.postprocess(self.infer(self.preprocess(images, key=key)))

    def preprocess(self, images: Sequence[str | Path | Volume], *, key: str) -> dict[str, Any]:
        """Read files into the input of the network: the first stage."""
        with naming(key):
            way = self.check_size(images, key=key) if all(_is_there(image) for image in images) else Way()
            seen = read_input(images, self.recipe, key=key)
            return {"key": key, "way": way, **seen}

    def infer(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """Compute the logits: the second stage. With little memory each slab of them is decided at once."""
        kept = {name: value for name, value in item.items() if name != "image"}
        with naming(item["key"]):

            def compute(image: NDArray[np.float32], grid: NativeGrid) -> dict[str, Any]:
                return self._compute(image, grid, item["way"], key=item["key"])

            if self.crop_first is not None:
                return {**kept, **self.crop_first.run(item, self.engine, compute)}
            return {**kept, **compute(item["image"], item["grid"])}

    def _compute(self, image: NDArray[np.float32], grid: NativeGrid, way: Way, *, key: str) -> dict[str, Any]:
        """The logits of an image, `pred`, or the label map if it is decided slab by slab, `decided`."""
        labels, roi_size, engine = self.recipe.labels, self.recipe.roi_size, self.engine
        axis = axis_of_slabs(image, roi_size) if way.slabs else 0
        windows = Windows(
            image,
            roi_size,
            overlap=self.settings.overlap,
            background=labels.background_logits if self.settings.skip_empty else None,
            axis=axis,
        )
        if way.slabs:
            return {"decided": by_slabs(windows, engine, grid, labels, way=way, axis=axis, key=key)}
        run = windows_that_fit(engine, alone=False)
        return {"pred": windows.whole(engine, channels=labels.channels, at_once=run)}

    def postprocess(self, item: Mapping[str, Any]) -> Prediction:
        """Turn logits into a label map on the grid of the files: the last stage."""
        with naming(item["key"]):
            probabilities = None
            if "decided" in item:
                label_map, expected = item["decided"]
            elif needs_all(self.settings) or item["grid"].axes is None:
                label_map, expected, probabilities = decide_all(
                    item["pred"], item["grid"], self.settings, affine_ras=item["affine_ras"]
                )
            else:
                decision = SlabDecision(item["grid"], self.recipe.labels, axis=0)
                decision(0, item["pred"])
                label_map, expected = decision.label_map, decision.expected_dice()
            crop: Crop | None = item.get("crop")
            if crop is not None:
                label_map = crop.paste(label_map)
                if probabilities is not None:
                    probabilities = crop.paste(probabilities, outside=self.recipe.labels.background_probabilities)
        volume = Volume(label_map, item["affine_ras"])
        told = [item["told"]] if "told" in item else []
        note = "; ".join(
            [
                *constant_notes(self.recipe.channel_names, item["constant"]),
                *notes_on(volume, self.recipe.spacing_mm, self.recipe.longest_image_mm),
                *told,
            ]
        )
        return Prediction(volume, expected, probabilities, note)


def _is_there(image: str | Path | Volume) -> bool:
    return isinstance(image, Volume) or Path(image).exists()

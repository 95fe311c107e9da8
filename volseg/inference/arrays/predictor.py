"""A trained network with the steps of volseg's own bundles on arrays, without MONAI; packed, without PyTorch."""

from __future__ import annotations

import logging
import os
import sys
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from volseg.bundle import Member, Recipe, check_settings
from volseg.cohort import Prediction
from volseg.errors import UsageError, VolsegError, VolumeError, naming
from volseg.inference.arrays.crop_first import CropFirst, calibrated_margin_mm
from volseg.inference.arrays.grid import NetworkGrid
from volseg.inference.arrays.intensity import normalise
from volseg.inference.arrays.memory import Size, Way, way_of
from volseg.inference.arrays.native import NativeGrid, Probabilities, SlabDecision
from volseg.inference.arrays.network import TorchWindows, free_bytes, packed_network, torch_network
from volseg.inference.arrays.packed import need_int8, packed_windows
from volseg.inference.arrays.settings import ArraySettings, own_settings
from volseg.inference.arrays.windows import WindowFunction, Windows, slab_axis
from volseg.inference.engines import PRECISIONS, release_freed_memory
from volseg.inference.reading import read_grid, read_images
from volseg.inference.sizes import notes_on
from volseg.labels import Cleanup
from volseg.metrics import decide_by_dice, expected_dice
from volseg.volume import Crop, Volume, check_normalisation

if TYPE_CHECKING:
    from volseg.inference.predictor import Predictor

logger = logging.getLogger(__name__)

_MANY = 8  # as volseg.transforms: channels of a softmax above which they are decided one by one
_COARSER = 1.05  # as volseg.transforms: a grid is coarser from this factor on
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
            whole=self._needs_all or native.axes is None,
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
            volumes = read_images(images, names=self.recipe.channel_names)
            shape, affine_ras = volumes[0].shape, volumes[0].affine_ras
            schemes = check_normalisation(self.recipe.normalisation, channels=len(volumes))
            grid = NetworkGrid.of(shape, affine_ras, self.recipe.spacing_mm)
            parts: list[NDArray[np.float32]] = []
            constant = []
            volumes.reverse()
            while volumes:  # of each file only its normalised channel stays in memory
                part = self._channel(volumes.pop(), grid, name=_name_of(images, len(parts), key))
                normalise(part, None if schemes is None else schemes[len(parts)])
                if part.min() == part.max():
                    constant.append(len(parts))
                parts.append(part)
            image = parts[0][None] if len(parts) == 1 else np.stack(parts)
        if constant:
            told = " and ".join(map(str, constant))
            logger.warning("%s: channel %s has one value everywhere, so the network sees nothing in it", key, told)
        return {
            "key": key,
            "image": image,
            "grid": NativeGrid(np.linalg.inv(grid.affine_ras) @ affine_ras, shape, grid.shape),
            "affine_ras": affine_ras,
            "constant": constant,
            "way": way,
        }

    def _channel(self, volume: Volume, grid: NetworkGrid, *, name: str) -> NDArray[np.float32]:
        """One channel on the network's grid, in an array of its own, not normalised.

        An image of one slice is smoothed if that grid is coarser, as `volseg.transforms` does.
        """
        voxels = volume.voxels
        if voxels.dtype.kind == "f" and not np.isfinite(voxels).all():
            raise VolumeError(f"{name} holds NaN or infinity; replace them by the background's value")
        turned = grid.turned(voxels).astype(np.float32, order="C")
        spacing = [volume.spacing_mm[axis] for axis in grid.axes]
        del voxels, volume
        if 1 in turned.shape:
            turned = self._smooth(turned, spacing)
        return grid.resampled(turned)

    def _smooth(self, turned: NDArray[np.float32], spacing_mm: Sequence[float]) -> NDArray[np.float32]:
        """An image of one slice, smoothed if the network's grid is coarser."""
        factors = [
            to / mm if n > 1 else 1.0
            for n, mm, to in zip(turned.shape, spacing_mm, self.recipe.spacing_mm, strict=True)
        ]
        if max(factors) < _COARSER:
            return turned
        from scipy.ndimage import gaussian_filter

        smooth: NDArray[np.float32] = gaussian_filter(
            turned, [max(0.0, (factor - 1) / 2) for factor in factors], mode="nearest"
        )
        return smooth

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
        labels = self.recipe.labels
        axis = (
            slab_axis(
                [max(n, int(r)) for n, r in zip(image.shape[1:], self.recipe.roi_size, strict=True)],
                self.recipe.roi_size,
            )
            if way.slabs
            else 0
        )
        windows = Windows(
            image,
            self.recipe.roi_size,
            overlap=self.settings.overlap,
            background=labels.background_logits if self.settings.skip_empty else None,
            axis=axis,
        )
        engine = self.engine
        run = _at_once(engine, alone=way.slabs)
        if way.slabs:
            release_freed_memory()  # of reading
            logger.info("%s: by slabs%s, to keep to the memory", key, " in half precision" * way.half)
            decision = SlabDecision(grid, labels, axis=axis)
            dtype = np.float16 if way.half else np.float32
            windows.slabs(
                engine,
                decision,
                channels=labels.channels,
                at_once=run,
                dtype=dtype,
                exclusive=not labels.overlap,
            )
            return {"decided": (decision.label_map, decision.expected_dice())}
        return {"pred": windows.whole(engine, channels=labels.channels, at_once=run)}

    def postprocess(self, item: Mapping[str, Any]) -> Prediction:
        """Turn logits into a label map on the grid of the files: the last stage."""
        with naming(item["key"]):
            probabilities = None
            if "decided" in item:
                label_map, expected = item["decided"]
            elif self._needs_all or item["grid"].axes is None:
                label_map, expected, probabilities = self._decide_all(item)
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
        note = "; ".join([*self._constant(item["constant"]), *notes_on(volume, self.recipe.spacing_mm), *told])
        return Prediction(volume, expected, probabilities, note)

    @property
    def _needs_all(self) -> bool:
        """Whether a step needs all probabilities at once on the file's grid."""
        one = self.settings
        return bool(one.cleanup) or one.save_probabilities or one.decision != "threshold"

    def _decide_all(
        self, item: Mapping[str, Any]
    ) -> tuple[NDArray[np.uint8], dict[str, float | None], NDArray[np.float32] | None]:
        """Decide from the probabilities of all channels, as `volseg.transforms` does."""
        labels, grid = self.recipe.labels, item["grid"]
        of_logits = Probabilities(item["pred"], sigmoid=labels.overlap)
        native = np.empty((labels.channels, *grid.shape), np.float32)
        for number in range(labels.channels):
            native[number] = grid.whole(of_logits[number])
        of_regions = native[-len(labels.names) :]  # a softmax has the background before them
        if self.settings.decision == "threshold":
            label_map = labels.decide(native)
        else:
            label_map = labels.encode(decide_by_dice(of_regions, exclusive=not labels.overlap))
        voxel_ml = abs(float(np.linalg.det(np.asarray(item["affine_ras"])[:3, :3]))) / 1000
        label_map = Cleanup(**self.settings.cleanup).apply(label_map, labels, voxel_ml=voxel_ml)
        expected: dict[str, float | None] = {}
        for name, channel, mask in zip(labels.names, of_regions, labels.each_mask(label_map), strict=True):
            value = expected_dice(channel, mask)
            expected[name] = None if np.isnan(value) else value
        return label_map, expected, native if self.settings.save_probabilities else None

    def _constant(self, numbers: Sequence[int]) -> list[str]:
        """The note on channels in which nothing is to be seen."""
        names = [self.recipe.channel_names[number] for number in numbers]
        return [f"{' and '.join(names)} has one value everywhere, so the network saw nothing in it"] if names else []


def array_predictor(
    members: Sequence[Member],
    *,
    device: str | None = None,
    overrides: Mapping[str, Any] | None = None,
    memory: int | None = None,
    crop_first: bool = False,
) -> ArrayPredictor | None:
    """The predictor of one network of volseg's own bundles on a CPU; None if MONAI's steps or a GPU are needed.

    Args:
        members: Networks.
        device: Device that was asked for; None for the best.
        overrides: Settings of the bundle and their values.
        memory: Bytes that the process may take; None for what is free.
        crop_first: Whether a coarse pass tells where to look.

    Raises:
        BundleError: There is no such bundle.
        CheckpointError: The checkpoint is absent, damaged, or of another network.
        UsageError: A setting is wrong.
    """
    if len(members) != 1 or not (device == "cpu" or (device is None and not gpu_may_be_there())):
        return None
    bundle, checkpoint = members[0]
    settings = own_settings(bundle, checkpoint=checkpoint, overrides=overrides)
    if settings is None:
        return None
    recipe = settings.recipe
    check_settings(settings.folder, recipe, checkpoint=settings.checkpoint)
    Cleanup(**settings.cleanup).check(recipe.labels)
    if (
        recipe.labels.activation == "softmax"
        and recipe.labels.channels > _MANY
        and (settings.cleanup or settings.decision != "threshold")
        and not settings.save_probabilities
    ):
        return None  # they are decided channel by channel there
    if settings.precision not in PRECISIONS:
        raise UsageError(f"precision must be {', '.join(PRECISIONS[:-1])} or int8, got {settings.precision!r}")
    if settings.precision == "int8":
        need_int8(settings)
    if not crop_first:
        return ArrayPredictor(settings, memory)
    found = CropFirst(recipe, calibrated_margin_mm(settings.checkpoint), settings.overlap, settings.skip_empty)
    return ArrayPredictor(settings, memory, crop_first=found)


def gpu_may_be_there() -> bool:
    """Whether PyTorch may find a GPU, without asking it."""
    if "torch" in sys.modules:
        return bool(sys.modules["torch"].cuda.is_available())
    if os.environ.get("CUDA_VISIBLE_DEVICES", "0") in ("", "-1"):
        return False
    return any(Path(name).exists() for name in ("/dev/nvidiactl", "/dev/kfd", "/dev/dxg")) or sys.platform == "win32"


def _name_of(images: Sequence[str | Path | Volume], number: int, key: str) -> str:
    """The name of a channel's file, else the key."""
    image = images[min(number, len(images) - 1)]
    return key if isinstance(image, Volume) else Path(image).name


def _is_there(image: str | Path | Volume) -> bool:
    return isinstance(image, Volume) or Path(image).exists()


def _at_once(engine: WindowFunction, *, alone: bool) -> Any:  # noqa: ANN401 - a function without arguments
    """Tells how many windows go into one call: as many as fit beside the first, by what that took."""
    from volseg.inference.engines import affordable_windows, resident_bytes

    held = resident_bytes()
    if alone:
        return lambda: 1
    counts: list[int] = []

    def told() -> int:
        if not counts:
            counts.append(affordable_windows(engine.windows_at_once, held))
        return counts[0]

    return told

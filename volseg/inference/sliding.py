"""A sliding window over a whole volume, whose weighted logits are added to one sum of the volume's size."""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Iterable, Sequence
from typing import Any

import torch
from monai.data import MetaTensor
from monai.data.utils import compute_importance_map, dense_patch_slices
from monai.inferers import Inferer
from torch import Tensor, nn
from torch.nn import functional

from volseg.errors import VolsegError
from volseg.inference.engines import (
    MixedPrecision,
    ParallelWindows,
    affordable_windows,
    available_bytes,
    resident_bytes,
)

logger = logging.getLogger(__name__)

Box = tuple[slice, ...]
"""The position of a window, one slice object per axis."""

# A voxel is no air if it is above the channel's lowest value by this fraction of its range: less than one step of 16
# bits.
_SOMETHING = 1e-5
# Fraction of a GPU's free memory that the sum may take.
_ROOM = 0.9
# Bytes of a sum that is made whatever the system says.
_SMALL_SUM = 2**30


def sliding_window(
    roi_size: Sequence[int],
    *,
    overlap: float = 0.5,
    windows_at_once: int = 1,
    precision: str = "auto",
    background: Sequence[float] | None = None,
) -> MixedPrecision:
    """Make an inferer for windows over a whole volume, averaged with Gaussian weights.

    Args:
        roi_size: Window size in voxels along X, Y, Z.
        overlap: Fraction of a window that its neighbour covers too, 0 to below 1.
        windows_at_once: Number of windows per pass of the network; on a CPU see `SlidingWindow`.
        precision: `fp32`, `bf16` or `auto`, see `MixedPrecision`.
        background: Logits of the background, see `SlidingWindow`; None computes every window.
    """
    inferer = SlidingWindow(roi_size, overlap=overlap, windows_at_once=windows_at_once, background=background)
    return MixedPrecision(inferer, precision=precision)


class SlidingWindow(Inferer):  # type: ignore[misc]  # MONAI has no types
    """The mean of a network's logits over overlapping windows, as MONAI's SlidingWindowInferer with mode="gaussian".

    Positions, weights and the padding of volumes smaller than the window (zeros, half on either side) are MONAI's. What
    differs is how the logits are averaged: each window is added at once to one sum of the volume's size, which is
    divided by the weights as soon as no window is to come. The sum is on the network's device if it fits into the
    memory that is free after a first pass, else on the CPU. If a GPU's memory runs out all the same, the volume is
    begun once more with the sum on the CPU and one window at a time, and the log says so. There are no gradients.

    On a CPU of several cores up to four windows are computed side by side, see `volseg.inference.ParallelWindows`: as
    many as fit into half of the free memory, by what the first one took.

    With `background`, empty windows are not computed. A window is empty if no channel rises above the channel's lowest
    value in the volume by more than 1/100,000 of its range: air or padding around a scan, clipped to one value. No
    structure is lost, since its contrast would be less than one step of a 16-bit image. What other windows cover too
    takes their mean; what none covers becomes background.

    Args:
        roi_size: Window size in voxels, one number per axis.
        overlap: Fraction of a window that its neighbour covers too, 0 to below 1.
        windows_at_once: Number of windows per pass of the network.
        background: Logits of the background, one per channel, for what empty windows alone cover; None (the default)
            computes every window.

    Raises:
        VolsegError: The overlap or the number of windows is out of range.

    >>> halves = SlidingWindow([4, 4, 4])
    >>> halves(torch.ones(1, 1, 6, 4, 3), lambda windows: 2 * windows).unique()
    tensor([2.])
    """

    def __init__(
        self,
        roi_size: Sequence[int],
        *,
        overlap: float = 0.5,
        windows_at_once: int = 1,
        background: Sequence[float] | None = None,
    ) -> None:
        if not 0 <= overlap < 1:
            raise VolsegError(f"overlap must be from 0 to below 1, got {overlap}")
        if windows_at_once < 1:
            raise VolsegError(f"windows_at_once must be at least 1, got {windows_at_once}")
        self.roi_size = tuple(int(n) for n in roi_size)
        self.overlap = overlap
        self.windows_at_once = windows_at_once
        self.background = None if background is None else tuple(background)
        self._lanes = ParallelWindows()

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        *args: Any,  # noqa: ANN401 - whatever the network takes
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor | list[Tensor]:
        """Compute logits (B, channels, X, Y, Z), float32, of (B, C, X, Y, Z); a list if the network returns several.

        Args:
            inputs: Images (B, C, X, Y, Z) on the network's device.
            network: Function of windows (n, C, *roi_size); each of its outputs may be coarser than the window.
            args: Further arguments of the network.
            kwargs: Further keyword arguments of the network.
        """
        if inputs.ndim != len(self.roi_size) + 2:
            raise VolsegError(
                f"the input must have batch, channels and {len(self.roi_size)} axes, got shape {tuple(inputs.shape)}"
            )
        if isinstance(inputs, MetaTensor):
            inputs = inputs.as_tensor()

        def call(windows: Tensor) -> list[Tensor]:
            outputs = self._lanes(windows, network, *args, **kwargs)
            several.append(isinstance(outputs, (list, tuple)))
            return [part.float() for part in (outputs if several[-1] else [outputs])]

        def at_best() -> int:
            if isinstance(network, nn.Module):
                return self._lanes.windows_at_once(network)
            return int(getattr(network, "windows_at_once", 1))

        several: list[bool] = []
        with torch.no_grad():
            volumes = [self._volume(volume, call, at_best) for volume in inputs]
        # One volume is the rule, and its batch axis costs no copy.
        parts = [part[0][None] if len(part) == 1 else torch.stack(part) for part in zip(*volumes, strict=True)]
        return parts if several[-1] else parts[0]

    def _volume(
        self, image: Tensor, call: Callable[[Tensor], list[Tensor]], at_best: Callable[[], int]
    ) -> list[Tensor]:
        """Compute each output (channels, X, Y, Z) of an image (C, X, Y, Z)."""
        try:
            return self._summed(image, call, at_best, windows_at_once=self.windows_at_once)
        except torch.OutOfMemoryError:
            logger.warning("the memory of %s ran out: the volume is begun again with its sum on the CPU", image.device)
        # Only here are the tensors of the first attempt released, which the error had kept.
        if image.device.type == "cuda":
            torch.cuda.empty_cache()
        return self._summed(image, call, at_best, windows_at_once=1, place=torch.device("cpu"))

    def _summed(
        self,
        image: Tensor,
        call: Callable[[Tensor], list[Tensor]],
        at_best: Callable[[], int],
        *,
        windows_at_once: int,
        place: torch.device | None = None,
    ) -> list[Tensor]:
        """Compute the outputs as in `_volume`, with the sums on `place`, or on the device they fit into."""
        # Axis by axis: zeros in front, zeros behind.
        missing = [max(0, roi - n) for roi, n in zip(self.roi_size, image.shape[1:], strict=True)]
        pads = [(short // 2, short - short // 2) for short in missing]
        padded = functional.pad(image, [n for pad in reversed(pads) for n in pad]) if any(missing) else image
        boxes = positions(padded.shape[1:], self.roi_size, overlap=self.overlap)
        if self.background is not None:
            boxes = self._looked_at(image, boxes, pads)
        sums: list[_Sum] = []
        # On a CPU the first window is computed alone and shows how much memory a window takes.
        alone = image.device.type == "cpu" and windows_at_once == 1
        done = 0
        while done < len(boxes):
            batch = boxes[done : done + windows_at_once]
            done += len(batch)
            held = resident_bytes() if alone and not sums else None
            windows = [padded[(slice(None), *box)] for box in batch]
            outputs = call(windows[0][None] if len(windows) == 1 else torch.stack(windows))
            if not sums:
                shape = tuple(padded.shape[1:])
                place = place or _place(outputs, shape, self.roi_size)
                _check_sum(outputs, shape, self.roi_size, place)
                sums = [_Sum(part, shape, self.roi_size, place, self.background) for part in outputs]
                if alone:
                    windows_at_once = affordable_windows(at_best(), held)
            for total, part in zip(sums, outputs, strict=True):
                for box, logits in zip(batch, part, strict=True):
                    total.add([axis.start for axis in box], logits)
        return [total.result(pads, image.shape[1:]) for total in sums]

    def _looked_at(self, image: Tensor, boxes: list[Box], pads: Sequence[tuple[int, int]]) -> list[Box]:
        """The windows that are not empty; the first one if all are."""
        flat = image.flatten(1)
        lowest, highest = flat.amin(1), flat.amax(1)
        threshold = (lowest + _SOMETHING * (highest - lowest)).view(-1, *[1] * len(self.roi_size))
        something = (image > threshold).any(dim=0)
        something = functional.pad(something, [n for pad in reversed(pads) for n in pad])
        held = torch.stack([something[box].any() for box in boxes]).tolist()  # one answer, so a GPU is asked once
        kept = [box for box, holds in zip(boxes, held, strict=True) if holds] or boxes[:1]
        if len(kept) < len(boxes):
            logger.info("%d of %d windows are empty and skipped", len(boxes) - len(kept), len(boxes))
        return kept


def positions(shape: Sequence[int], roi_size: Sequence[int], *, overlap: float) -> list[Box]:
    """The positions of windows in a volume of at least their size, first axis slowest; the last end with it.

    >>> positions([6, 4], [4, 4], overlap=0.5)
    [(slice(0, 4, None), slice(0, 4, None)), (slice(2, 6, None), slice(0, 4, None))]
    """
    steps = [roi if roi == n else max(1, int(roi * (1 - overlap))) for roi, n in zip(roi_size, shape, strict=True)]
    boxes = dense_patch_slices(shape, roi_size, steps)
    return [tuple(slice(int(axis.start), int(axis.stop)) for axis in box) for box in boxes]


@functools.lru_cache(maxsize=16)
def gaussian(roi_size: tuple[int, ...], device: torch.device) -> Tensor:
    """MONAI's weights of a window's voxels, largest in its middle; kept, since every window needs them."""
    with torch.inference_mode(False):
        weights: Tensor = compute_importance_map(roi_size, mode="gaussian", device=device)
        return weights


class _Sum:
    """The mean of weighted windows over a volume, for one output of the network.

    Windows come in the order of their starts along the first axis:

                    finished     covered by the windows of now      to come
        rows     0 .......... done ...................... done + window ... n
        weights               0 ......................... window

    so the weights are kept for as many rows as a window has, and what lies before them is divided and final.
    """

    def __init__(
        self,
        part: Tensor,
        shape: tuple[int, ...],
        roi_size: tuple[int, ...],
        place: torch.device,
        background: tuple[float, ...] | None,
    ) -> None:
        channels, window = part.shape[1], tuple(part.shape[2:])
        if background is not None and len(background) != channels:
            raise VolsegError(
                f"background logits must be one per channel of the network, {channels}, got {len(background)}"
            )
        self._zoom = [n / roi for n, roi in zip(window, roi_size, strict=True)]  # 1 unless the output is coarser
        shape = tuple(int(n * zoom) for n, zoom in zip(shape, self._zoom, strict=True))
        self._window = gaussian(roi_size, place)
        if window != roi_size:
            self._window = functional.interpolate(self._window[None, None], window)[0, 0]
        self._background = background
        self._total = torch.zeros((channels, *shape), device=place)
        self._weights = torch.zeros((window[0], *shape[1:]), device=place)
        self._done = 0

    def add(self, start: Sequence[int], logits: Tensor) -> None:
        """Add a window's logits (channels, ...); no window before it may start later along the first axis."""
        start = [int(n * zoom) for n, zoom in zip(start, self._zoom, strict=True)]
        self._finish(start[0])
        box = tuple(slice(n, n + size) for n, size in zip(start, self._window.shape, strict=True))
        self._total[(slice(None), *box)].addcmul_(logits.to(self._total.device), self._window)
        self._weights[(slice(None), *box[1:])] += self._window

    def result(self, pads: Iterable[tuple[int, int]], shape: Iterable[int]) -> Tensor:
        """The mean, without the padding."""
        self._finish(self._total.shape[1])
        cut = [
            slice(round(before * zoom), round((before + n) * zoom))
            for (before, _), n, zoom in zip(pads, shape, self._zoom, strict=True)
        ]
        return self._total[(slice(None), *cut)]

    def _finish(self, row: int) -> None:
        """Divide all rows before this one."""
        while self._done < row:
            count = min(row - self._done, len(self._weights))
            rows, weights = self._total[:, self._done : self._done + count], self._weights[:count]
            if self._background is None:
                rows /= weights
            else:
                unseen = weights == 0
                rows /= weights.masked_fill(unseen, 1)
                for channel, logit in zip(rows, self._background, strict=True):
                    channel.masked_fill_(unseen, logit)
            kept = self._weights[count:].clone()
            self._weights[: len(kept)] = kept
            self._weights[len(kept) :] = 0
            self._done += count


def _sum_bytes(outputs: Sequence[Tensor], shape: Sequence[int], roi_size: Sequence[int]) -> float:
    """Bytes of the sums for a volume of that shape: a number of 32 bits per channel and voxel."""
    windows = torch.Size(shape).numel() / torch.Size(roi_size).numel()
    return sum(part[0].numel() * 4 for part in outputs) * windows


def _check_sum(outputs: Sequence[Tensor], shape: Sequence[int], roi_size: Sequence[int], place: torch.device) -> None:
    """Refuse a volume whose sums are larger than all free memory, before the system ends the process for it.

    What this process holds counts as free too: it keeps the memory of earlier volumes for the next.

    Raises:
        VolsegError: The sums do not fit.
    """
    needed, free = _sum_bytes(outputs, shape, roi_size), available_bytes()
    if place.type != "cpu" or free is None or needed < _SMALL_SUM:
        return
    free += resident_bytes() or 0
    if needed > free:
        channels = sum(part.shape[1] for part in outputs)
        raise VolsegError(
            f"the logits of {channels} channels on {' x '.join(map(str, shape))} voxels take {needed / 2**30:.1f} GiB, "
            f"and {free / 2**30:.1f} GiB are free; predict with more memory, with fewer --workers, or --within a first "
            "network"
        )


def _place(outputs: Sequence[Tensor], shape: Sequence[int], roi_size: Sequence[int]) -> torch.device:
    """The device of the outputs if sums for a volume of that shape fit into its free memory, else the CPU."""
    device = outputs[0].device
    if device.type != "cuda":
        return device
    needed = _sum_bytes(outputs, shape, roi_size)
    free, _ = torch.cuda.mem_get_info(device)
    if needed < _ROOM * free:
        return device
    logger.info("the sum is on the CPU: it takes %.1f GiB, %.1f are free on %s", needed / 2**30, free / 2**30, device)
    return torch.device("cpu")

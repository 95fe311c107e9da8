"""The sum of windows: whole and in slabs along each axis it is the weighted mean, in both precisions."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from volseg.errors import VolsegError
from volseg.inference.arrays import window_sum
from volseg.inference.arrays.window_sum import WindowSum, gaussian
from volseg.inference.arrays.windows import Windows

ROI, SHAPE = (6, 5, 4), (13, 4, 19)  # rows that wrap around, and an axis that is padded


def logits_of(windows):
    return np.concatenate([windows, 2 - windows**2], axis=1)


def expected(image, *, background=None, kept=None):
    """The mean by its definition, window by window over the whole padded image."""
    windows = Windows(image, ROI, overlap=0.5, background=None)
    padded = np.pad(image, [(0, 0), (0, 0), (0, 1), (0, 0)])
    total, weights = np.zeros((2, *padded.shape[1:])), np.zeros(padded.shape[1:])
    for box in windows.boxes if kept is None else kept:
        total[(slice(None), *box)] += logits_of(padded[(slice(None), *box)][None])[0] * gaussian(ROI)
        weights[box] += gaussian(ROI)
    mean = total / np.where(weights == 0, 1, weights)
    for channel, logit in zip(mean, background or (), strict=False):
        channel[weights == 0] = logit
    return mean[:, :, :4]


def by_slabs(windows, axis, **options):
    rows, firsts = [], []

    def give(first, part):
        firsts.append((first, part.shape[1]))
        rows.append(part.copy())

    windows.slabs(logits_of, give, channels=2, at_once=lambda: 1, **options)
    assert [first for first, _ in firsts] == list(np.cumsum([0, *(count for _, count in firsts)]))[:-1]
    order = [axis, *(other for other in range(3) if other != axis)]
    return np.concatenate(rows, axis=1).transpose(0, *(order.index(place) + 1 for place in range(3)))


@pytest.mark.parametrize("axis", [0, 1, 2])
@pytest.mark.parametrize("piece", [1, 2**27])
def test_slabs_and_the_whole_are_the_mean_of_the_windows(monkeypatch, axis, piece):
    monkeypatch.setattr(window_sum, "PIECE_BYTES", piece)
    image = np.random.default_rng(axis).normal(0, 2, (1, *SHAPE)).astype(np.float32)
    windows = Windows(image, ROI, overlap=0.5, background=None, axis=axis)
    mean = expected(image)
    np.testing.assert_allclose(windows.whole(logits_of, channels=2, at_once=lambda: 3), mean, atol=1e-5)
    np.testing.assert_allclose(by_slabs(windows, axis), mean, atol=1e-5)
    np.testing.assert_allclose(by_slabs(windows, axis, dtype=np.float16), mean, rtol=4e-3, atol=4e-3)


@pytest.mark.parametrize("axis", [0, 2])
@pytest.mark.parametrize("dtype", [np.float32, np.float16])
def test_what_no_window_covers_is_background(axis, dtype):
    image = np.zeros((1, *SHAPE), np.float32)
    image[0, 11, 2, 17] = 1
    windows = Windows(image, ROI, overlap=0.5, background=[7.0, -7.0], axis=axis)
    assert 0 < len(windows.boxes) < len(list(itertools.product(range(4), range(1), range(9))))
    mean = expected(image, background=[7.0, -7.0], kept=windows.boxes)
    assert (mean[0] == 7).sum() > 300
    np.testing.assert_allclose(by_slabs(windows, axis, dtype=dtype), mean, rtol=4e-3, atol=4e-3)


def test_numpy_alone_sums_in_half_precision_too(monkeypatch):
    image = np.random.default_rng(1).normal(0, 2, (1, *SHAPE)).astype(np.float32)
    windows = Windows(image, ROI, overlap=0.5, background=None, axis=2)
    with_torch = by_slabs(windows, 2, dtype=np.float16)
    monkeypatch.setattr(window_sum, "_torch", lambda: None)
    np.testing.assert_allclose(by_slabs(windows, 2, dtype=np.float16), with_torch, rtol=2e-3, atol=2e-3)


def test_probabilities_in_half_precision_are_those_of_single_precision():
    draw = np.random.default_rng(3)
    image = np.zeros((1, 24, 24, 40), np.float32)
    drawn = [draw.normal(0, 3, (1, 5, 12, 12, 12)).astype(np.float32) + 20 for _ in range(3**2 * 6)]
    found = []
    for dtype in (np.float32, np.float16):
        windows, logits, rows = Windows(image, (12, 12, 12), overlap=0.5, background=None, axis=2), iter(drawn), []
        windows.slabs(
            lambda _, logits=logits: next(logits).copy(),
            lambda _, part, rows=rows: rows.append(part.copy()),
            channels=5,
            at_once=lambda: 1,
            dtype=dtype,
            exclusive=True,
        )
        summed = np.concatenate(rows, axis=1)
        powers = np.exp(summed - summed.max(axis=0))
        found.append(powers / powers.sum(axis=0))
    assert np.abs(found[0] - found[1]).max() < 2e-3  # drawn windows contradict each other, as those of a network do not


@pytest.mark.parametrize("value", [1e5, -1e5, np.nan])
def test_logits_beyond_half_precision_are_refused(value):
    total = WindowSum((4, 4, 4), (4, 4, 4), [(0, 0)] * 3, axis=0, channels=1, background=None, dtype=np.float16)
    with pytest.raises(VolsegError, match=r"logits must be at most 2000 .*--memory"):
        total.add([0, 0, 0], np.full((1, 4, 4, 4), value, np.float32))

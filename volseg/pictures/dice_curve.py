"""The curve beside the snapshots of a training run: the Dice of the case that they show, epoch by epoch."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from volseg.pictures.layout import BACKGROUND, QUIET, TEXT
from volseg.pictures.rendering import Colour, Pixels
from volseg.pictures.snapshot import Snapshot

_WIDTH = 330
_FONT = 13
_LINE = 18
_LEFT, _RIGHT, _TOP, _FOOT = 40, 16, 38, 44  # margins of the axes
_GRID: Colour = (58, 58, 64)
_MEAN = "mean of regions"
_REGIONS = 8  # number of regions up to which each has a curve; of more only the mean is shown


def beside(snapshots: Sequence[Snapshot]) -> list[Pixels]:
    """Draw each snapshot's picture with the curve up to its epoch on its right.

    Pictures are returned unchanged if fewer than two snapshots have a Dice.

    Returns:
        Pictures (height, width, 3).
    """
    if sum(bool(snapshot.dice) for snapshot in snapshots) < 2:
        return [snapshot.picture for snapshot in snapshots]
    lines = {name: (colour, [s.dice.get(name) for s in snapshots]) for name, colour in _named(snapshots).items()}
    if len(lines) > 1:  # the mean is drawn first, under the others
        means = [sum(s.dice.values()) / len(s.dice) if s.dice else None for s in snapshots]
        lines = {
            _MEAN: (TEXT, means),
            **(lines if len(lines) <= _REGIONS else {}),
        }
    epochs = [snapshot.epoch for snapshot in snapshots]
    frames = []
    for shown, snapshot in enumerate(snapshots):
        height = max(snapshot.picture.shape[0], _TOP + _FOOT + 90 + (len(lines) + 1) * _LINE)
        frame = np.full((height, snapshot.picture.shape[1] + _WIDTH, 3), BACKGROUND, np.uint8)
        frame[: snapshot.picture.shape[0], :-_WIDTH] = snapshot.picture
        frame[:, -_WIDTH:] = _panel(epochs, lines, shown, height)
        frames.append(frame)
    return frames


def _named(snapshots: Sequence[Snapshot]) -> dict[str, Colour]:
    names = dict.fromkeys(name for snapshot in snapshots for name in snapshot.dice)
    return {name: next((s.colours[name] for s in snapshots if name in s.colours), QUIET) for name in names}


def _panel(
    epochs: Sequence[int], lines: dict[str, tuple[Colour, list[float | None]]], shown: int, height: int
) -> Pixels:
    font = ImageFont.load_default(_FONT)
    canvas = Image.new("RGB", (_WIDTH, height), BACKGROUND)
    pen = ImageDraw.Draw(canvas)
    right, bottom = _WIDTH - _RIGHT, height - _FOOT - len(lines) * _LINE
    first, span = epochs[0], max(epochs[-1] - epochs[0], 1)

    def x(epoch: int) -> float:
        return _LEFT + (epoch - first) / span * (right - _LEFT)

    def y(dice: float) -> float:
        return bottom - dice * (bottom - _TOP)

    pen.text((_LEFT, 12), "Dice of this case", fill=TEXT, font=font)
    for fifth in range(6):
        level = y(fifth / 5)
        pen.line((_LEFT, level, right, level), fill=_GRID)
        pen.text((_LEFT - 6, level), f"{fifth / 5:.1f}", fill=QUIET, font=font, anchor="rm")
    for epoch, anchor in ((epochs[0], "la"), (epochs[-1], "ra")):
        pen.text((x(epoch), bottom + 5), f"epoch {epoch}", fill=QUIET, font=font, anchor=anchor)
    for row, (name, (colour, values)) in enumerate(lines.items()):
        points = [(x(epoch), y(dice)) for epoch, dice in zip(epochs, values, strict=True) if dice is not None]
        reached = sum(dice is not None for dice in values[: shown + 1])
        if reached > 1:
            pen.line(points[:reached], fill=colour, width=2)
        now = values[shown]
        if now is not None:
            at_x, at_y = points[reached - 1]
            pen.ellipse((at_x - 3, at_y - 3, at_x + 3, at_y + 3), fill=colour)
        level = bottom + 28 + row * _LINE
        pen.line((_LEFT, level + 8, _LEFT + 14, level + 8), fill=colour, width=2)
        said = f"{name.replace('_', ' ')}  {'–' if now is None else f'{now:.2f}'}"
        pen.text((_LEFT + 20, level), said, fill=TEXT, font=font)
    return np.asarray(canvas, dtype=np.uint8)

"""Masks of an image from its mask files: by threshold, by the values or colours of classes, or object by object."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.errors import LabelError, SourceError, UsageError
from volseg.formats.picture import Picture
from volseg.labels import LabelMap, LabelTable

Mask = NDArray[np.bool_]

# JPEG blurs the edge of a mask: the middle of 0 and 255.
LOSSY_THRESHOLD = 128
_SHOWN = 6
# What one region is marked by: 1, and the largest of 8 or 16 bits, or white.
_MARKS = (1, 255, 65535, 0xFFFFFF)
# From here on a pixel of a JPEG is not black; this far from 255 it is not white.
_FAINT = 32
_EVERY, _STEP, _FLAT = 3, 2, 12  # an area is flat if pixels 3 x 2 apart differ by less than 12
_CLASSES_SHARE = 0.02  # of the pixels that are not black
_CLASS = re.compile(r"(.+)=(?:(\d{1,10})|#([0-9A-Fa-f]{6}))")


@dataclass(frozen=True)
class Classes:
    """What the values or the colours of class masks mean.

    Attributes:
        names: Names of the classes, in the order of their labels 1, 2, ...; the last may be `ignore`, for pixels that
            nobody looked at.
        codes: Label by value, or by colour as 0xRRGGBB; 0 is background.
        colours: Whether the codes are colours.

    >>> Classes.parse(["lung=1", "heart=2", "lung=3"]).codes
    {0: 0, 1: 1, 2: 2, 3: 1}
    >>> Classes.parse(["lung=#ff0000", "background=#ffffff"]).codes == {0xFF0000: 1, 0xFFFFFF: 0}
    True
    """

    names: tuple[str, ...]
    codes: dict[int, int]
    colours: bool

    @classmethod
    def parse(cls, texts: Sequence[str]) -> Classes:
        """Read `NAME=VALUE` or `NAME=#rrggbb`; the background is 0 or black unless `background=...` says otherwise.

        Raises:
            UsageError: Another form, values and colours together, a value that stands twice, or no class.
        """
        found = [_CLASS.fullmatch(text) for text in texts]
        wrong = [text for text, match in zip(texts, found, strict=True) if match is None]
        if wrong:
            raise UsageError(f"a class must be NAME=VALUE or NAME=#rrggbb, got {wrong[0]!r}; write it as lung=1")
        parts = [(m[1], int(m[2]) if m[2] else int(m[3], 16), m[2] is None) for m in found if m]
        kinds = {colour for _, _, colour in parts}
        if len(kinds) > 1:
            raise UsageError("values and colours were given; masks hold either the one or the other")
        names = list(dict.fromkeys(name for name, _, _ in parts if name != "background"))
        names.sort(key=lambda name: name == LabelTable.IGNORE)  # which has the largest value, as nnU-Net demands
        if not names or names == [LabelTable.IGNORE]:
            raise UsageError("no class besides background was given; add NAME=VALUE")
        codes: dict[int, int] = {}
        for name, code, _ in parts:
            if code in codes:
                raise UsageError(f"two classes have the code {_shown(code, colours=True in kinds)}; give each its own")
            codes[code] = 0 if name == "background" else names.index(name) + 1
        if 0 not in codes.values():
            if 0 in codes:
                raise UsageError(f"{_shown(0, colours=True in kinds)} is given to a class; say what is background")
            codes = {0: 0, **codes}
        return cls(tuple(names), codes, True in kinds)


def binary(mask: Picture, *, name: str, threshold: int | None = None) -> tuple[Mask, tuple[str, ...]]:
    """The pixels of a mask file from a threshold on, of the brightest of its channels, and what is to be said of them.

    A file that stores white as zero is read by its stored numbers, as tifffile and ImageJ write masks.

    Args:
        mask: File of the mask.
        name: Name of the file in messages.
        threshold: None for 128 where the compression is lossy, else for all that is not 0.

    Returns:
        (rows, columns) or (slices, rows, columns), and notes.

    Raises:
        LabelError: There are several values or colours beside 0, and nothing says what they mean.
        SourceError: The mask is a JPEG of classes, or one in which nothing reaches the threshold.
    """
    _refuse_clear(mask, name)
    values = _brightest(mask.pixels) if mask.colour else mask.pixels
    if mask.inverted and mask.numbers is not None:
        values = mask.numbers
    if threshold is None and mask.lossy:
        _refuse_classes(mask, values, name)
        threshold = LOSSY_THRESHOLD
    if threshold is not None:
        marked = np.asarray(values >= threshold)
        notes = note_inverted(mask, marked)
        if not marked.any() and (largest := values.max()) > 0:
            notes += (
                f"masks in which nothing reaches the threshold of {threshold} (the largest value is {largest:g})",
            )
        return marked, notes
    inside = np.asarray(values != 0)
    codes = values if not mask.colour else _colours(mask, name) if mask.numbers is None else mask.numbers
    coloured = mask.colour and mask.numbers is None
    marks = codes[inside]
    held = np.unique(marks) if marks.size and (marks != marks[0]).any() else marks[:1]
    listed = [_shown(value, colours=coloured) for value in held]
    if len(held) > 1:
        more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
        if values.dtype.kind == "f" and held[0] > 0 and held[-1] <= 1:
            raise LabelError(
                f"{name} holds fractions of 1 ({', '.join(listed[:_SHOWN])}{more}), as probabilities do; decide which "
                "pixels are marked, and save them as 0 and 1"
            )
        objects = "" if coloured else "--objects values if they number objects, or "
        raise LabelError(
            f"{name} holds {len(held)} {'colours' if coloured else 'values'} beside the background "
            f"({', '.join(listed[:_SHOWN])}{more}), and nothing says what they mean; give --classes NAME={listed[0]} "
            f"--classes NAME={listed[1]} and so on, {objects}--threshold 1 if all are one region"
        )
    notes = note_inverted(mask, inside)
    if len(held) and held[0] not in _MARKS:
        notes += (f"masks marked by {listed[0]} alone, taken for the region (--classes tells values apart)",)
    if mask.colour and mask.numbers is not None and (inside != (mask.numbers != 0)).any():
        notes += ("masks whose palette shows 0 as another colour than black: what is not black is taken as marked",)
    return inside, notes


def _brightest(pixels: NDArray[Any]) -> NDArray[Any]:
    """The largest of red, green and blue; several times faster than a maximum along the last axis."""
    largest: NDArray[Any] = np.maximum(np.maximum(pixels[..., 0], pixels[..., 1]), pixels[..., 2])
    return largest


def note_inverted(mask: Picture, marked: NDArray[Any]) -> tuple[str, ...]:
    """What is to be said of a mask whose stored 0 is white, unless its writer is known to mean the numbers.

    Args:
        mask: File of the mask.
        marked: Pixels that were taken as marked, not 0.
    """
    if not mask.inverted or mask.writer:
        return ()
    share = 100 * np.count_nonzero(marked) / max(1, marked.size)
    return (
        f"masks that store white as zero: stored numbers above 0 are taken as marked, {share:.0f} % of the pixels; if "
        "white was meant, give --classes NAME=0 --classes background=NUMBER",
    )


def _refuse_classes(mask: Picture, values: NDArray[Any], name: str) -> None:
    """Refuse a JPEG that shows more than one region, or none though it is not black."""
    largest = int(values.max())
    if 0 < largest < LOSSY_THRESHOLD:
        raise SourceError(
            f"{name} is a JPEG whose largest value is {largest}, and masks in JPEG files are marked from "
            f"{LOSSY_THRESHOLD} on; give --threshold {max(1, largest // 2)}"
        )
    # Every third pixel tells as much. Edges of a mask are blurred too, but they are nowhere flat.
    thin = values[..., ::_EVERY, ::_EVERY].astype(np.int16)
    marked = max(1, int(np.count_nonzero(thin >= _FAINT)))
    coloured = 0
    if mask.colour:
        darkest = -_brightest(-mask.pixels[..., ::_EVERY, ::_EVERY, :].astype(np.int16))
        coloured = int(np.count_nonzero(thin - darkest > LOSSY_THRESHOLD // 2))
    here, step = thin[..., _STEP:, _STEP:], _STEP
    flat = (here >= _FAINT) & (here < 256 - _FAINT)
    if flat.any():
        for near in (thin[..., :-step, step:], thin[..., step:, :-step], thin[..., :-step, :-step]):
            flat &= np.abs(here - near) < _FLAT
    if np.count_nonzero(flat) > _CLASSES_SHARE * marked or coloured > _CLASSES_SHARE * marked:
        what = "colours" if coloured > _CLASSES_SHARE * marked else "levels between black and white"
        raise SourceError(
            f"{name} is a JPEG of {what}, as of several classes; take the PNG or TIFF it was made from, or give "
            "--threshold if all of them are one region"
        )


def class_map(mask: Picture, classes: Classes, *, name: str) -> LabelMap:
    """The label map of a mask of classes.

    Args:
        mask: File of the mask.
        classes: Declared classes.
        name: Name of the file in messages.

    Returns:
        (rows, columns) or (slices, rows, columns), 0 for the background and 1, 2, ... for the classes in their order.

    Raises:
        SourceError: The mask is a JPEG, or has colours although values were declared.
        LabelError: Values or colours are not declared; the message has the number of their pixels.
    """
    _refuse_lossy(mask, name)
    _refuse_clear(mask, name)
    values = _colours(mask, name) if classes.colours else _numbers(mask, name)
    held, places, counts = np.unique(values, return_inverse=True, return_counts=True)
    unknown = [(int(n), int(code)) for n, code in zip(counts, held, strict=True) if int(code) not in classes.codes]
    if unknown:
        told = [f"{_shown(code, colours=classes.colours)} in {n} pixels" for n, code in sorted(unknown, reverse=True)]
        more = f" and {len(told) - _SHOWN} more" if len(told) > _SHOWN else ""
        raise LabelError(
            f"{name} holds what --classes does not declare: {', '.join(told[:_SHOWN])}{more}; add NAME=CODE for each, "
            "background=CODE where nothing is meant"
        )
    table = np.array([classes.codes[int(code)] for code in held], dtype=np.uint8)
    label_map: LabelMap = table[places.reshape(values.shape)]
    return label_map


def numbered(mask: Picture, *, name: str) -> NDArray[np.int64]:
    """The objects of a mask whose values number them: (rows, columns), numbered from 1 anew, 0 outside.

    Raises:
        SourceError: The mask is a JPEG or has colours.
    """
    _refuse_lossy(mask, name)
    _refuse_clear(mask, name)
    values = _numbers(mask, name)
    held, places = np.unique(values, return_inverse=True)
    first = 0 if held[0] == 0 else 1
    return np.asarray(places.reshape(values.shape) + first, dtype=np.int64)


def stack_objects(shape: tuple[int, ...], masks: Sequence[NDArray[Any]]) -> tuple[NDArray[np.int64], int, int]:
    """One number an object over several masks: of pixels that several objects claim, the first keeps them.

    Args:
        shape: (rows, columns).
        masks: Masks of that shape, with True for the one object of the mask, or with objects numbered 1, 2, ...

    Returns:
        (rows, columns) numbered from 1 without gaps, the number of pixels that several claim, and the number of objects
        that are left without a pixel.

    >>> objects, shared, lost = stack_objects((1, 3), [np.array([[1, 1, 0]], bool), np.array([[0, 1, 1]], bool)])
    >>> objects.tolist(), shared, lost
    ([[1, 1, 2]], 1, 0)
    """
    objects = np.zeros(shape, dtype=np.int64)
    shared = np.zeros(shape, dtype=bool)
    number = lost = 0
    for mask in masks:
        marked, free = mask != 0, objects == 0
        shared |= marked & ~free
        kept, places = np.unique(mask[marked & free], return_inverse=True)
        objects[marked & free] = number + 1 + places
        number += len(kept)
        lost += (1 if mask.dtype == np.bool_ else int(mask.max())) - len(kept)
    return objects, int(np.count_nonzero(shared)), lost


def _colours(mask: Picture, name: str) -> NDArray[np.int64]:
    """(..., rows, columns), 0xRRGGBB."""
    if mask.pixels.dtype != np.uint8:
        raise SourceError(f"{name} holds grey values of {mask.pixels.dtype}, expected colours; declare NAME=VALUE")
    pixels = mask.pixels if mask.colour else np.repeat(mask.pixels[..., None], 3, axis=-1)
    return np.asarray(pixels.astype(np.int64) @ np.array([1 << 16, 1 << 8, 1]), dtype=np.int64)


def _numbers(mask: Picture, name: str) -> NDArray[Any]:
    """(..., rows, columns), whole numbers as stored."""
    values = mask.numbers
    if values is None:
        if (mask.pixels != mask.pixels[..., :1]).any():
            raise SourceError(f"{name} holds colours, expected values; declare NAME=#rrggbb")
        values = mask.pixels[..., 0]
    if values.dtype.kind == "f":
        if (values != np.rint(values)).any():
            raise SourceError(f"{name} holds fractions, expected whole numbers; write it with integers")
        values = values.astype(np.int64)
    if values.min() < 0:
        raise SourceError(f"{name} holds the value {values.min()}, expected 0 or more; write it anew")
    return values


def _refuse_lossy(mask: Picture, name: str) -> None:
    if mask.lossy:
        raise SourceError(
            f"{name} is a JPEG, whose compression changes values at every edge; take the PNG or TIFF it was made from"
        )


def _refuse_clear(mask: Picture, name: str) -> None:
    if mask.clear:
        raise SourceError(
            f"{name} has {mask.clear} pixels that are not opaque, and whether they are marked cannot be told; "
            "save the mask without transparency"
        )


def _shown(code: float, *, colours: bool) -> str:
    return f"#{int(code):06x}" if colours else f"{code:g}" if isinstance(code, float | np.floating) else str(int(code))

"""One region of a label table, and how names, values, colours and codes of `dataset.json` declare it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from volseg.errors import LabelError
from volseg.labels.terms import _KNOWN, _PALETTE, TISSUE, Code


@dataclass(frozen=True)
class Region:
    """One organ or structure: its name, the label values that belong to it, its colour (RGB 0 to 255) and code.

    `description` is a text for the objects of an archive, such as a bound of one prediction; mostly empty.
    """

    name: str
    values: tuple[int, ...]
    colour: tuple[int, int, int]
    code: Code
    description: str = ""


def declared_regions(
    values: Mapping[str, int | Sequence[int]], details: Mapping[str, Any] | None = None
) -> tuple[Region, ...]:
    """Read the regions from names and values; arguments and errors as in `volseg.labels.LabelTable.of`."""
    try:
        colours = dict((details or {}).get("colours", {}))
        codes = dict((details or {}).get("codes", {}))
    except (AttributeError, TypeError, ValueError):
        raise LabelError('"colours" and "codes" in dataset.json must be objects by region name') from None
    regions: list[Region] = []
    for name, value in values.items():
        if name.casefold() == "background":
            if value not in (0, [0], (0,)):
                raise LabelError(f"label {name!r} must have the value 0, got {value!r}; correct dataset.json")
            continue
        numbers: Sequence[Any] = value if isinstance(value, (list, tuple)) else [value]
        if not all(isinstance(number, (int, np.integer)) and not isinstance(number, bool) for number in numbers):
            raise LabelError(f"label {name!r} has the value {value!r}, expected a whole number or a list of them")
        if 0 in numbers:
            raise LabelError(
                f"label {name!r} has the value {value!r}, and 0 is the value of the background; if nothing is labelled "
                "so, call it background in dataset.json, else give it another value"
            )
        known_colour, known_code = _KNOWN.get(name, (_PALETTE[len(regions) % len(_PALETTE)], TISSUE))
        try:
            r, g, b = map(_channel, colours.get(name, known_colour))
            stated = codes.get(name, (known_code.scheme, known_code.value, known_code.meaning))
            scheme, code_value, meaning = map(_text, stated)
        except (TypeError, ValueError):
            raise LabelError(
                f"label {name!r} has the colour {colours.get(name)!r} and the code {codes.get(name)!r}, "
                "expected [red, green, blue], whole numbers from 0 to 255, and [scheme, value, meaning], texts"
            ) from None
        values_of_region = tuple(sorted({int(number) for number in numbers}))
        regions.append(Region(name, values_of_region, (r, g, b), Code(code_value, meaning, scheme)))
    return tuple(regions)


def _channel(value: object) -> int:
    """A channel of a colour: a whole number from 0 to 255; a ValueError or TypeError otherwise."""
    number = float(value)  # type: ignore[arg-type]  # what is no number is told by what it raises
    if not (0 <= number <= 255 and number.is_integer()):
        raise ValueError
    return int(number)


def _text(value: object) -> str:
    """A part of a code, whose value may be written as a number; a TypeError otherwise."""
    if isinstance(value, bool) or not isinstance(value, (str, int)):
        raise TypeError
    return str(value)


def _as_number(value: object) -> Any:  # noqa: ANN401 - what is none is told where it is used
    """A whole number that is written as text or as 1.0, also in a list; anything else as it is."""
    if isinstance(value, list):
        return [_as_number(one) for one in value]
    if isinstance(value, str) and value.strip().isdecimal():
        return int(value)
    return int(value) if isinstance(value, float) and value.is_integer() else value


def declared_labels(dataset: Mapping[str, Any]) -> Mapping[str, int | Sequence[int]]:
    """Read the values by name from a `dataset.json`; errors as in `volseg.labels.LabelTable.from_dataset_json`."""
    labels = dataset.get("labels")
    if not isinstance(labels, Mapping):
        raise LabelError('dataset.json has no "labels" object; add {"background": 0, "organ": 1, ...}')
    if labels and all(isinstance(key, str) and key.isdigit() for key in labels):
        if not all(isinstance(name, str) for name in labels.values()):
            raise LabelError(f"dataset.json must give each value one name, got {dict(labels)}; write it as a text")
        if len(set(labels.values())) < len(labels):
            raise LabelError(f"dataset.json gives several values one name: {dict(labels)}; name each value")
        return {str(name): int(value) for value, name in labels.items()}
    return {name: _as_number(value) for name, value in labels.items()}

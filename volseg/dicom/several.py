"""What to say of a series that holds several volumes: what differs between them, and which option chooses."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Mapping, Sequence

from pydicom import Dataset

from volseg.dicom.attributes import (
    ATTRIBUTES,
    ECHO,
    MOST_TOLD,
    PHASES,
    STACK,
    TIMES,
    Attribute,
    Value,
    in_order,
    told_value,
)


def several(frames: Sequence[Dataset], places: Sequence[Sequence[int]]) -> str:
    """What to say of a series that holds several volumes: the attributes that differ, their values, and the options.

    Args:
        frames: what each image says of itself.
        places: the images of each place in space, by number.
    """
    values = {attribute.name: [attribute.read(frame) for frame in frames] for attribute in ATTRIBUTES}
    resolving = [item for item in ATTRIBUTES if _left_over([values[item.name]], places) == 0]
    differing = resolving[:1] or _greedy(values, places)
    start = f"{len(frames)} images lie at {len(places)} places, several at one"
    if not differing:
        return f"{start}, and nothing in their headers tells them apart; keep one of each place"
    told = " and ".join(_told(item, values[item.name], places) for item in differing)
    rest = _left_over([values[item.name] for item in differing], places)
    more = "; of one value several are left, which nothing tells apart" if rest else ""
    return f"{start}, so it holds several volumes: {told}{more}"


def of_several_geometries(
    frames: Sequence[Dataset], valid: Callable[[Sequence[int]], bool], *, stacks_alone: bool = False
) -> str:
    """What to say of images that are no volume together, and are volumes by the value of one attribute; empty if not.

    Args:
        frames: what each image says of itself.
        valid: whether images, by number, are volumes.
        stacks_alone: only StackID counts: where slices are absent, any other attribute may differ beyond the gap.
    """
    for attribute in (STACK, *(item for item in ATTRIBUTES if item not in TIMES and not stacks_alone)):
        values = [attribute.read(frame) for frame in frames]
        groups: dict[Value | None, list[int]] = {}
        for number, value in enumerate(values):
            groups.setdefault(value, []).append(number)
        if None in groups or not 1 < len(groups) <= MOST_TOLD or min(map(len, groups.values())) < 2:
            continue
        if all(map(valid, groups.values())):
            told = _told(attribute, values, [range(len(frames))])
            return f"it holds several volumes, each in a geometry of its own: {told}"
    return ""


def _greedy(values: Mapping[str, Sequence[Value | None]], places: Sequence[Sequence[int]]) -> list[Attribute]:
    """Attributes that tell images of one place apart, as long as each tells more than those before it."""
    chosen: list[Attribute] = []
    left = _left_over([], places)
    for attribute in ATTRIBUTES:
        now = _left_over([*(values[item.name] for item in chosen), values[attribute.name]], places)
        if now < left and left:
            chosen.append(attribute)
            left = now
    return chosen


def _left_over(values: Sequence[Sequence[Value | None]], places: Sequence[Sequence[int]]) -> int:
    """How many images there are beyond one of each place and value."""
    return sum(len(place) - len({tuple(column[number] for column in values) for number in place}) for place in places)


def _told(attribute: Attribute, values: Sequence[Value | None], places: Sequence[Sequence[int]]) -> str:
    """An attribute, its values, and the option that chooses by it. A value of one image alone may be damage."""
    counts = Counter(value for value in values if value is not None)
    texts = {value: told_value(attribute.name, value) for value in counts}
    common = [value for value, count in counts.items() if count > 1 and texts[value]]
    option = attribute.option or f"--where {attribute.name}=VALUE"
    if attribute in (*PHASES, *TIMES):
        most = max(len({values[number] for number in place}) for place in places)
        return f"{attribute.name} has {most} values at one place ({option} 1 to {most})"
    if attribute.name == "ImageType":
        shared = frozenset.intersection(*(frozenset(str(value).split("\\")) for value in counts))
        words = sorted({"/".join(sorted(set(str(value).split("\\")) - shared)) or "none of these" for value in common})
        return f"{attribute.name} differs, {', '.join(words[:MOST_TOLD])} ({option} WORD)"
    shown = sorted(common, key=in_order)[:MOST_TOLD]
    more = f" and {len(counts) - len(shown)} more" if len(counts) > len(shown) and shown else ""
    unit = f" {attribute.unit}" if attribute.unit and shown else ""
    told = ", ".join(texts[value] for value in shown)
    is_told = f"is {told}{unit}{more}" if told else "differs"
    numbers = f" 1 to {len(counts)}" if attribute is ECHO else " VALUE" if attribute.option else ""
    return f"{attribute.name} {is_told} ({option}{numbers})"

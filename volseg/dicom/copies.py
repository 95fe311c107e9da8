"""Series that are copies of others: the same images under other UIDs, however they are encoded."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from dataclasses import replace
from pathlib import Path

from volseg.dicom.contents import Contents
from volseg.dicom.instance import Series
from volseg.dicom.pixels import Frames
from volseg.errors import SourceError


def without_copies(series: Sequence[Series]) -> list[Series]:
    """The series, each once: the images of a copy are added to those of its original, where they count once.

    Only series of one study that agree in all that their headers say are compared, and no further than to the first
    image that differs. So what is drawn on the copy is a label of the original, and there is one case.

    Args:
        series: Series of a folder, sorted by UID; the first of equals keeps its UID.
    """
    alike: dict[Hashable, list[int]] = {}
    for number, item in enumerate(series):
        alike.setdefault(_facts(item), []).append(number)
    found: dict[int, Series] = dict(enumerate(series))
    for numbers in alike.values():
        if len(numbers) < 2:
            continue
        with Frames() as frames:
            contents = Contents(frames)
            for place, number in enumerate(numbers):
                original = next(
                    (one for one in numbers[:place] if one in found and _same(series[one], series[number], contents)),
                    None,
                )
                if original is not None:
                    both = (*found[original].instances, *series[number].instances)
                    ordered = tuple(sorted(both, key=lambda instance: (instance.sop_uid, instance.name)))
                    found[original] = replace(found[original], instances=ordered)
                    del found[number]
    return list(found.values())


def _facts(series: Series) -> Hashable:
    """What a copy shares with its original."""
    first = series.first
    images = sorted(
        (item.position_lps, item.part_number, item.order or 0, item.acquired, item.study_date)
        for item in series.instances
    )
    return (
        *(first.patient, first.study_uid, first.frame_uid, first.sop_class, series.modality, first.description),
        *(
            first.rows,
            first.columns,
            sum(item.frames for item in series.instances),
            first.image_type,
            series.part,
            tuple(images),
        ),
    )


def _same(one: Series, other: Series, contents: Contents) -> bool:
    """Whether two series hold the same images."""
    try:
        return all(contents.same(a, b) for a, b in zip(_in_order(one), _in_order(other), strict=True))
    except (SourceError, OSError):
        return False  # which is told where they are read


def _in_order(series: Series) -> list[Path]:
    ordered = sorted(
        series.instances, key=lambda item: (item.position_lps, item.part_number, item.order or 0, item.acquired)
    )
    return [item.path for item in ordered]

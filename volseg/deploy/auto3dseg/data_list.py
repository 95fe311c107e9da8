"""The data source of Auto3DSeg as the list that volseg converts: cases with folds, channels, and what labels mean."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.errors import UsageError

_BACKGROUND = "background"


def cohort_list(source: Mapping[str, Any], data: Mapping[str, Any], stats: Mapping[str, Any]) -> dict[str, Any]:
    """The content of a `dataset.json` for `volseg convert decathlon`, with absolute paths.

    Args:
        source: Content of the data source: `modality`, `dataroot`, and `class_names` where it has them; a list of names
            in the order of the values, or of objects with `name` and `index`, the values of a region.
        data: Content of its data list: `training` with `image`, `label` and `fold`; perhaps `validation`.
        stats: Content of `datastats.yaml`, as `DataAnalyzer` writes it; empty if there is none.

    Raises:
        UsageError: It lacks a list, folds, or what the label values mean.

    >>> source = {"modality": "MRI", "dataroot": "/data", "class_names": ["front", "back"]}
    >>> made = cohort_list(source, {"training": [{"image": "a.nii", "label": "b.nii", "fold": 0}]}, {})
    >>> made["labels"], made["training"][0]["image"]
    ({'background': 0, 'front': 1, 'back': 2}, '/data/a.nii')
    """
    root = Path(str(source.get("dataroot") or ".")).expanduser().absolute()
    training = _entries(data, "training", root)
    validation = _entries(data, "validation", root) if data.get("validation") else []
    if not training:
        raise UsageError('the data list holds no case under "training"; add {"image": ..., "label": ..., "fold": 0}')
    if not validation and not any(entry.get("fold") is not None for entry in training):
        raise UsageError(
            'the data list gives no case a "fold" and has no "validation"; add "fold": 0, 1, ... to each case, as '
            "AutoRunner does"
        )
    labels, order = _labels(source.get("class_names"), stats)
    channels = _channels(training[0]["image"], stats)
    modality = str(source.get("modality") or "image")
    names = [modality.upper()] if channels == 1 else [f"{modality.upper()}_{n}" for n in range(channels)]
    return {
        "channel_names": {str(number): name for number, name in enumerate(names)},
        "labels": labels,
        **({"regions_class_order": order} if order else {}),
        "training": training,
        **({"validation": validation} if validation else {}),
    }


def fold_number(data: Mapping[str, Any], fold: int) -> int:
    """The number that volseg gives to a fold of the list: folds count without gaps, in their order.

    Raises:
        UsageError: No case has that fold.

    >>> fold_number({"training": [{"fold": 0}, {"fold": 2}]}, 2)
    1
    """
    stated = {entry.get("fold") for entry in data.get("training") or [] if isinstance(entry, Mapping)} - {None, ""}
    numbers = sorted(int(str(one)) for one in stated) if stated else [0]
    if fold not in numbers:
        raise UsageError(f"no case of the data list has the fold {fold}, there are {numbers}; generate only those")
    return numbers.index(fold)


def _entries(data: Mapping[str, Any], part: str, root: Path) -> list[dict[str, Any]]:
    listed = data.get(part) or []
    if not isinstance(listed, list) or not all(isinstance(entry, Mapping) and entry.get("image") for entry in listed):
        raise UsageError(f'the data list must hold objects with "image" and "label" under "{part}"')
    return [
        {name: _absolute(value, root) if name in ("image", "label") else value for name, value in entry.items()}
        for entry in listed
    ]


def _absolute(value: object, root: Path) -> object:
    if isinstance(value, list):
        return [_absolute(one, root) for one in value]
    return str(root / value) if isinstance(value, str) and value else value


def _labels(names: object, stats: Mapping[str, Any]) -> tuple[dict[str, Any], list[int]]:
    """The labels of a `dataset.json`, and the order in which regions are painted, if there are regions."""
    values = _summary(stats, "label_stats", "labels")
    found = sorted({int(value) for value in values}) if isinstance(values, list) else []
    if isinstance(names, Sequence) and not isinstance(names, str) and names:
        if all(isinstance(name, Mapping) and {"name", "index"} <= name.keys() for name in names):
            return _regions([dict(name) for name in names])
        listed = [str(name) for name in names]
        if listed[0].casefold() == _BACKGROUND:
            listed = listed[1:]
        labels = {_BACKGROUND: 0, **{name: value for value, name in enumerate(listed, start=1)}}
        if len(labels) != len(listed) + 1:
            raise UsageError(f"class_names lists {listed}, one of them twice; name each value")
    elif found:
        labels = {_BACKGROUND: 0, **{f"class_{value}": value for value in found if value}}
    else:
        raise UsageError("the data source names no classes, and there are no data stats; add class_names: [...]")
    known = set(labels.values())
    if unknown := [value for value in found if value not in known]:
        raise UsageError(
            f"the label maps hold the value {unknown[0]}, class_names names {len(known) - 1}; name all values from 1 on"
        )
    if sorted(known) != list(range(len(known))):
        raise UsageError(
            f"the label values are {sorted(known)}, and an ensemble of MONAI writes the number of the channel; number "
            "them 0, 1, 2, ... without gaps, or state class_names as objects with name and index"
        )
    return labels, []


def _regions(names: Sequence[Mapping[str, Any]]) -> tuple[dict[str, Any], list[int]]:
    """Regions by their values; of each the value that fewest others have is the one that it is painted with."""
    labels: dict[str, Any] = {_BACKGROUND: 0}
    for entry in names:
        index = entry["index"]
        values = [int(one) for one in (index if isinstance(index, list) else [index])]
        labels[str(entry["name"])] = values if len(values) > 1 else values[0]
    if len(labels) != len(names) + 1:
        raise UsageError(f"class_names lists {[str(n['name']) for n in names]}, one of them twice; name each region")
    sets = [set(value if isinstance(value, list) else [value]) for value in list(labels.values())[1:]]
    order = [min(own, key=lambda value: (sum(value in other for other in sets), value)) for own in sets]
    return labels, order


def _channels(image: object, stats: Mapping[str, Any]) -> int:
    """The number of channels, by the list, by the data stats, or one."""
    if isinstance(image, list) and len(image) > 1:
        return len(image)
    counted = _summary(stats, "image_stats", "channels")
    most = counted.get("max") if isinstance(counted, Mapping) else None
    return int(most) if isinstance(most, int | float) and most > 0 else 1


def _summary(stats: Mapping[str, Any], part: str, name: str) -> object:
    summary = stats.get("stats_summary")
    entry = summary.get(part) if isinstance(summary, Mapping) else None
    return entry.get(name) if isinstance(entry, Mapping) else None

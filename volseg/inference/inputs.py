"""The cases to predict, from what a user names: a file, a folder, a cohort or DICOM series."""

from __future__ import annotations

import logging
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from volseg.cohort import Cohort, cohort_note, read_dataset_json
from volseg.errors import UsageError
from volseg.inference.file_names import group_files, image_stem, is_segmentation, lone_key, series_in_time, some_names
from volseg.inference.modality import tell_modalities
from volseg.inference.outputs import is_predicted
from volseg.inference.reading import check_one_channel, read_grid
from volseg.labels import channel_order
from volseg.volume import (
    IMAGE_SUFFIXES,
)

logger = logging.getLogger(__name__)

_PICTURES = {".png", ".jpg", ".jpeg", ".tif", ".tiff", ".bmp", ".gif", ".webp"}
_FOLDERS_OF_MASKS = {"labelstr", "labelsts", "labels", "segmentations", "segmentation", "masks", "mask", "gt"}


def find_inputs(
    path: str | Path,
    *,
    channels: int | Sequence[str] = 1,
    part: str = "all",
    fold: int = 0,
    modality: str | None = None,
    given: Sequence[str] = (),
    choice: Mapping[str, Any] | None = None,
    resample_channels: bool = False,
) -> list[tuple[str, list[Path]]]:
    """Find the cases to predict, each with its key and one file per channel, or one file that holds all channels.

    Files with names of segmentations are left out of a folder, and the log says so once. Channels are matched by name
    if a `dataset.json` names them, see `channel_order`; otherwise they are taken in the order of their numbers.

    Args:
        path: Image file; folder of `KEY.nii.gz`, or of `KEY_0000.nii.gz` and so on; cohort; or folder of DICOM files,
            each of whose series is a case.
        channels: Names of the network's channels in its order, or their number. A number at the end of a file's name is
            that of a channel if `_0000` is beside it, see `group_files`.
        part: Part of a cohort, see `Cohort.part`.
        fold: Fold of a cohort.
        modality: Modality of the DICOM series to take; needed if a folder has several.
        given: Names of the channels that the files hold, in the order of their numbers, if `dataset.json` does not name
            them. Of DICOM files patterns of series, `NAME=PATTERN`, see `volseg.dicom.parse_channels`.
        choice: Volume of each DICOM series that holds several: the options of `volseg.dicom.Choice.of`.
        resample_channels: Whether DICOM channels on other grids than the first are resampled to it.

    Raises:
        UsageError: There is nothing to predict, or the channels are not those of the network.
    """
    path = Path(path)
    patterns = [text for text in given if "=" in text]
    if patterns or choice:
        return _chosen_series(path, modality, patterns, channels, choice or {}, resample=resample_channels)
    cohort = input_cohort(path)
    if cohort is not None:
        _no_modality(modality, path)
        if note := cohort_note(cohort):
            logger.warning("%s", note)
        order = _order(tuple(given) or cohort.channel_names, channels, source=f"the cohort {path}")
        cases = [(key, cohort.image_paths(key)) for key in cohort.some_part(part, fold=fold)]
        return [(key, [files[place] for place in order] if order else files) for key, files in cases]
    if part != "all":
        raise UsageError(
            f"--part must be all if the input is no cohort, got {part} with {path}; leave it out, or name a cohort"
        )
    if path.is_file():
        if image_stem(path.name) is None:
            return group_files(_series(path, modality, channels))
        _no_modality(modality, path)
        return [_named_file(path, channels)]
    if not path.is_dir():
        if any(letter in path.name for letter in "*?["):
            raise UsageError(
                f"the input must be one file or one folder, got the pattern {path}; name the folder, or one with links "
                "to the files that are meant"
            )
        raise UsageError(f"the input must be a file or a folder, got {path}, which is not there; correct the path")
    there = sorted(file for file in path.iterdir() if image_stem(file.name) is not None)
    files = [file for file in there if not is_segmentation(file.name)]
    if len(files) < len(there):
        aside = [file.name for file in there if is_segmentation(file.name)]
        if not files:
            raise UsageError(
                f"{path} must hold images, got only files that are called as segmentations are ({some_names(aside)}); "
                "name the folder of the images, or a file itself if it is an image"
            )
        logger.warning("%s: left out as segmentations, by their names: %s", path, some_names(aside))
    if whole := series_in_time([file.name for file in files]):
        logger.warning("%s: left out as series in time, whose frames lie beside them: %s", path, some_names(whole))
        files = [file for file in files if file.name not in whole]
    if not files:
        return group_files(_series(path, modality, channels))
    _no_modality(modality, path)
    if path.name.casefold() in _FOLDERS_OF_MASKS:
        logger.warning("%s is called as a folder of segmentations is; are these images?", path)
    elif is_predicted(path):
        logger.warning("%s holds predictions of volseg; are these images?", path)
    stated = tuple(given) or _stated_channels(path)
    order = _order(stated, channels, source=str(path)) if stated else []
    found = group_files(files, channels=channels if not stated or isinstance(channels, int) else stated)
    if order != sorted(order) or len(order) != len(stated):
        for key, of_case in found:
            if len(of_case) == 1 and len(stated) > 1:
                raise UsageError(
                    f"the fourth axis of {key} must have the network's channels in its order, got {', '.join(stated)} "
                    "in one file; convert them with `volseg convert decathlon`, and predict that cohort"
                )
    return [(key, [of_case[place] for place in order] if _fits(of_case, order) else of_case) for key, of_case in found]


def _no_modality(modality: str | None, path: Path) -> None:
    """Refuse a choice among DICOM series where there is none.

    Raises:
        UsageError: A modality is named.
    """
    if modality is not None:
        raise UsageError(f"--modality must be given with DICOM files, got {path}, which holds none; leave it out")


def _named_file(path: Path, channels: int | Sequence[str]) -> tuple[str, list[Path]]:
    """The case of one file that a user named."""
    count = channels if isinstance(channels, int) else len(channels)
    if is_segmentation(path.name):
        logger.warning("%s is called as a segmentation is; it is taken for an image", path.name)
    if count > 1:
        shape, _ = read_grid(path)
        if len(shape) < 4 or math.prod(shape[3:]) != count:
            raise UsageError(
                f"the input must have the network's {count} channels, got one file without them; name the folder that "
                f"holds KEY_0000.nii.gz and so on, or one file with {count} volumes along its fourth axis"
            )
    return lone_key(path.name), [path]


def _chosen_series(
    path: Path,
    modality: str | None,
    patterns: Sequence[str],
    channels: int | Sequence[str],
    choice: Mapping[str, Any],
    *,
    resample: bool,
) -> list[tuple[str, list[Path]]]:
    """List the cases of a folder of DICOM files whose series are chosen, or are the channels of a case."""
    from volseg.dicom import Choice, list_series, parse_channels

    one = Choice.of(
        echo=choice.get("echo"),
        phase=choice.get("phase"),
        b_value=choice.get("b_value"),
        image_type=choice.get("image_type"),
        where=choice.get("where") or (),
    )
    if input_cohort(path) is not None:
        raise UsageError(
            f"the input must be DICOM files where series are chosen, got the cohort {path}; choose with `volseg "
            "convert dicom`"
        )
    try:
        files = list_series(path, modality=modality, choice=one, channels=patterns, resample_channels=resample)
    except UsageError as error:
        there = [path] if path.is_file() else sorted(path.iterdir()) if path.is_dir() else []
        image = next((file.name for file in there if image_stem(file.name) is not None), None)
        if image is None:
            raise
        raise UsageError(
            f"the input must be DICOM files where series are chosen, got {path} with {image}; leave out the options "
            "that choose series (--echo, --phase, --b-value, --image-type, --where, NAME=PATTERN of --channels)"
        ) from error
    names = tuple(channel.name for channel in parse_channels(patterns))
    if not names:
        check_one_channel(channels)
    tell_modalities(files, names or (() if isinstance(channels, int) else channels))
    order = _order(names, channels, source="--channels") if names else []
    return [(key, [of_case[place] for place in order] if order else of_case) for key, of_case in group_files(files)]


def _series(path: Path, modality: str | None, channels: int | Sequence[str]) -> list[Path]:
    """List one entry per DICOM series of a file or folder; a series of another modality than the channel's is told.

    Raises:
        UsageError: There is no series; the message says what is there instead.
    """
    from volseg.dicom import list_series

    try:
        files = list_series(path, modality=modality)
    except UsageError as error:
        if path.is_file():
            raise UsageError(
                f"an image must be DICOM or {' '.join(IMAGE_SUFFIXES)}, got {path.name}; convert pictures with `volseg "
                "convert images`"
            ) from error
        deeper = next((file for file in sorted(path.glob("*/*")) if image_stem(file.name) and file.is_file()), None)
        if deeper is None:
            there = sorted(file for file in path.rglob("*") if file.is_file())
            pictures = next((file for file in there if file.suffix.lower() in _PICTURES), None)
            if pictures is not None:
                raise UsageError(
                    f"{path} holds pictures such as {pictures.relative_to(path)} and no volume; make a cohort of them "
                    "with `volseg convert images`, and predict that"
                ) from error
            if not there:
                raise UsageError(f"{path} is an empty folder; name the folder that holds the images") from error
            raise
        raise UsageError(
            f"{path} must hold images, got none, and folders that do, such as {deeper.relative_to(path)}; name one of "
            "these folders, or make a cohort of them with `volseg convert`"
        ) from error
    check_one_channel(channels)
    tell_modalities(files, () if isinstance(channels, int) else channels)
    return files


def _order(given: Sequence[str], channels: int | Sequence[str], *, source: str) -> list[int]:
    """The indices of the network's channels among the given ones; empty if the network's names are not known."""
    return [] if isinstance(channels, int) else channel_order(given, channels, source=source)


def _fits(files: Sequence[Path], order: Sequence[int]) -> bool:
    """Whether there is one file per channel; if not, reading the case reports it."""
    return len(order) > 0 and len(files) > max(order)


def _stated_channels(folder: Path) -> tuple[str, ...]:
    """The names of channels in the `dataset.json` of a folder of images or of the cohort around it, in their order."""
    for place in (folder, folder.parent) if folder.name in ("imagesTr", "imagesTs") else (folder,):
        if (place / "dataset.json").is_file():
            dataset = read_dataset_json(place)
            names = dataset.get("channel_names") or dataset.get("modality")
            if isinstance(names, Mapping) and all(str(key).isdigit() for key in names):
                return tuple(str(names[key]) for key in sorted(names, key=int))
    return ()


def input_cohort(path: Path) -> Cohort | None:
    """The cohort that a path names; None if it names something else.

    Raises:
        UsageError: The path is a folder of the decathlon, whose images lie one folder deeper.
        CohortError: The cohort is damaged, see `Cohort.open`.
    """
    there = [images for images in ("imagesTs", "imagesTr") if (path / images).is_dir()]
    if not there or not (path / "dataset.json").is_file():
        return None
    dataset = read_dataset_json(path)
    if "channel_names" not in dataset and "modality" in dataset:
        raise UsageError(
            f"the input must be a cohort, images or DICOM files, got {path}, which is laid out as the decathlon is; "
            f"name its images, such as {path / there[0]}, or make a cohort of it with `volseg convert decathlon`"
        )
    return Cohort.open(path)

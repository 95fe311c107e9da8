"""The cases to predict from what a user names, the number of their windows, and checks of the output folder."""

from __future__ import annotations

import logging
import math
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from volseg import volume
from volseg.cohort import FILE_ENDING, Cohort, Predictions, cohort_note, read_dataset_json
from volseg.errors import UsageError, VolsegError, VolumeError
from volseg.files import SERIES, ignores_case
from volseg.inference.file_names import NIFTI, group_files, image_stem, is_segmentation, lone_key
from volseg.labels import LabelTable, channel_order
from volseg.volume import (
    IMAGE_SUFFIXES,
    Affine,
    Volume,
    check_channels,
    read_case_channels,
    read_image_file,
    spacing_mm,
)

logger = logging.getLogger(__name__)

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
        cases = [(key, cohort.image_paths(key)) for key in cohort.part(part, fold=fold)]
        return [(key, [files[place] for place in order] if order else files) for key, files in cases]
    if part != "all":
        raise UsageError(f"--part {part} needs a cohort, and {path} is none")
    if path.is_file():
        if image_stem(path.name) is None:
            return group_files(_series(path, modality))
        _no_modality(modality, path)
        return [_named_file(path, channels)]
    if not path.is_dir():
        raise UsageError(f"there is no file or folder {path}")
    there = sorted(file for file in path.iterdir() if image_stem(file.name) is not None)
    files = [file for file in there if not is_segmentation(file.name)]
    if len(files) < len(there):
        aside = [file.name for file in there if is_segmentation(file.name)]
        if not files:
            raise UsageError(
                f"{path} holds only files that are called as segmentations are ({_some(aside)}); name the folder of "
                "the images, or a file itself if it is an image"
            )
        logger.warning("%s: left out as segmentations, by their names: %s", path, _some(aside))
    if not files:
        files = _series(path, modality)
        return group_files(files)
    _no_modality(modality, path)
    if path.name.casefold() in _FOLDERS_OF_MASKS:
        logger.warning("%s is called as a folder of segmentations is; are these images?", path)
    stated = tuple(given) or _stated_channels(path)
    order = _order(stated, channels, source=str(path)) if stated else []
    found = group_files(files, channels=channels if not stated or isinstance(channels, int) else stated)
    if order != sorted(order) or len(order) != len(stated):
        for key, of_case in found:
            if len(of_case) == 1 and len(stated) > 1:
                raise UsageError(
                    f"{key} is one file, whose fourth axis has the channels {', '.join(stated)}, and the network takes "
                    "others or in another order; convert them with `volseg convert decathlon`, and predict that cohort"
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
                f"the network takes {count} channels; name the folder that holds KEY_0000.nii.gz and so on, or one "
                f"file with {count} volumes along its fourth axis"
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
        raise UsageError(f"{path} is a cohort; series are chosen from DICOM files, by `volseg convert dicom` before")
    files = list_series(path, modality=modality, choice=one, channels=patterns, resample_channels=resample)
    names = tuple(channel.name for channel in parse_channels(patterns))
    order = _order(names, channels, source="--channels") if names else []
    return [(key, [of_case[place] for place in order] if order else of_case) for key, of_case in group_files(files)]


def _series(path: Path, modality: str | None) -> list[Path]:
    """List one entry per DICOM series of a file or folder.

    Raises:
        UsageError: There is no series; the message says what is there instead.
    """
    from volseg.dicom import list_series

    try:
        return list_series(path, modality=modality)
    except UsageError as error:
        if path.is_file():
            raise UsageError(
                f"{path.name} is no image that is read: these are DICOM and {' '.join(IMAGE_SUFFIXES)}; convert "
                "pictures with `volseg convert images`"
            ) from error
        deeper = next((file for file in sorted(path.glob("*/*")) if image_stem(file.name) and file.is_file()), None)
        if deeper is None:
            raise
        raise UsageError(
            f"{path} holds no image, and folders that do, such as {deeper.relative_to(path)}; name one of these "
            "folders, or make a cohort of them with `volseg convert`"
        ) from error


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
            f"{path} is laid out as the decathlon is; name its images, such as {path / there[0]}, or make a cohort "
            "of it with `volseg convert decathlon`"
        )
    return Cohort.open(path)


def read_image(path: str | Path) -> Volume:
    """Read an image of one channel: a file of `volseg.volume.IMAGE_SUFFIXES`, or a DICOM series.

    Raises:
        VolumeError, GeometryError, SourceError: The file or the series cannot be read as one volume.
    """
    return _read_file(path, names=1)[0]


def read_images(images: Sequence[str | Path | Volume], *, names: Sequence[str] | int | None = None) -> list[Volume]:
    """Read one volume per channel, all on the grid of the first. Errors as in `read_image` and `read_case_channels`.

    Args:
        images: Files that `find_inputs` lists for a case, or volumes that have been read; one file may hold all
            channels.
        names: Names of the channels, or their number; None (the default) for as many as there are images.
    """
    names = len(images) if names is None else names
    check_there(images, names=names)
    if len(images) == 1 and not isinstance(images[0], Volume):
        return read_case_channels(_read_file(images[0], names=names), names=names)
    given = [image if isinstance(image, Volume) or not is_foreign(image) else read_image(image) for image in images]
    return read_case_channels(given, names=names)


def _read_file(path: str | Path, *, names: Sequence[str] | int) -> list[Volume]:
    """The channels that one file holds."""
    path = Path(path)
    if path.suffix == SERIES:
        from volseg.dicom import read_listed

        return [read_listed(path)]
    volumes = read_image_file(path)
    check_channels(len(volumes), name=path.name, names=names)
    return volumes


def check_there(images: Sequence[str | Path | Volume], *, names: Sequence[str] | int | None = None) -> None:
    """Refuse a case of several files of which one is not there.

    Args:
        images: One file per channel.
        names: Names of the channels, or their number, for the message.

    Raises:
        VolumeError: A file is absent; the message names it.
    """
    files = [Path(image) for image in images if not isinstance(image, Volume)]
    absent = [file.name for file in files if not file.exists()] if len(files) > 1 else []
    if absent:
        told = f": the network takes {', '.join(names)}, one file each" if isinstance(names, Sequence) else ""
        raise VolumeError(f"{' and '.join(absent)} is not there{told}")


def is_foreign(image: str | Path | Volume) -> bool:
    """Whether the transforms, which take volumes and read NIfTI, cannot read a file by themselves."""
    return not isinstance(image, Volume) and not str(image).lower().endswith(NIFTI)


def read_grid(path: str | Path) -> tuple[tuple[int, ...], Affine]:
    """Read shape and affine (RAS mm) of an image, of NIfTI and DICOM from headers alone; errors as in `read_image`."""
    if Path(path).suffix == SERIES:
        from volseg.dicom import listed_grid

        return listed_grid(Path(path))
    if is_foreign(path):
        volumes = read_image_file(path)
        return (*volumes[0].shape, *([len(volumes)] if len(volumes) > 1 else [])), volumes[0].affine_ras
    return volume.read_grid(path)


def count_windows(
    cases: Iterable[tuple[str, Sequence[Path]]],
    *,
    grid_mm: Sequence[float],
    roi_size: Sequence[int],
    overlap: float,
    enough: int = 5000,
) -> int:
    """Count the windows that a sliding window visits in the cases, from the headers of their files.

    Args:
        cases: Pairs of a key and one file per channel; a case that cannot be read counts nothing.
        grid_mm: Spacing in mm that volumes are resampled to, along X, Y, Z of the reoriented axes.
        roi_size: Window size in voxels of that grid.
        overlap: Fraction of a window that its neighbour covers.
        enough: Number at which counting stops.
    """
    count = 0
    foreign: tuple[tuple[int, ...], Affine] | None = None  # whole files are read for it, so one stands for all
    for _, files in cases:
        whole = is_foreign(files[0]) and files[0].suffix != SERIES
        try:
            shape, affine = foreign if foreign and whole else read_grid(files[0])
        except VolsegError:
            continue
        if whole:
            foreign = shape, affine
        world = np.abs(affine[:3, :3]).argmax(axis=0)  # voxel axis -> the axis of the body it runs along
        sizes = [1.0] * 3
        for n, mm, axis in zip(shape, spacing_mm(affine), world, strict=False):
            sizes[axis] = n * mm / grid_mm[axis]
        steps = [max(1, int(roi * (1 - overlap))) for roi in roi_size]
        count += math.prod(
            math.ceil(max(0, round(size) - roi) / step) + 1
            for size, roi, step in zip(sizes, roi_size, steps, strict=True)
        )
        if count >= enough:
            break
    return count


def check_output(
    output_dir: Path,
    cases: Iterable[tuple[str, Sequence[Path]]],
    *,
    inputs: Path | None = None,
    labels: LabelTable | None = None,
) -> None:
    """Refuse to write predictions over images, over each other, or into a cohort, whose files have the same names.

    Args:
        output_dir: Folder of the predictions.
        cases: Pairs of a key and one file per channel.
        inputs: Path that `find_inputs` got; predictions may not go into a folder of DICOM files either.
        labels: Labels of the network; existing predictions of other labels that would stay are refused.

    Raises:
        UsageError: The folder holds an image of a case, is a cohort, or is the folder of the inputs; two cases would be
            written to one file; or `dataset.json` would no longer be true of what is there.
    """
    cases = list(cases)
    place = output_dir.resolve()
    if inputs is not None and inputs.resolve() == place:
        raise UsageError(f"{output_dir} holds the images; name another folder with -o")
    if any(path.resolve().parent == place for _, images in cases for path in images):
        raise UsageError(f"{output_dir} holds the images, which predictions would replace; name another folder with -o")
    if any((place / images).is_dir() for images in ("imagesTr", "imagesTs")):
        raise UsageError(f"{output_dir} is a cohort, whose dataset.json would be replaced; name another folder with -o")
    check_apart(output_dir, cases)
    if labels is not None and (place / "dataset.json").is_file():
        there = Predictions(place)
        stay = sorted(set(there.keys()) - {key for key, _ in cases})
        if stay and _meaning(there.labels(option="-o")) != _meaning(labels):
            raise UsageError(
                f"{output_dir} holds predictions of a network with other labels ({_some(stay)}), of which its "
                "dataset.json would no longer be true; name another folder with -o"
            )


def check_apart(output_dir: Path, cases: Iterable[tuple[str, Sequence[Path]]]) -> None:
    """Refuse two cases that would be written to one file.

    Args:
        output_dir: Folder of the predictions; its file system decides whether upper and lower case differ.
        cases: Pairs of a key and one file per channel.

    Raises:
        UsageError: There are two such cases; the message names their images.
    """
    folded = ignores_case(output_dir)
    seen: dict[str, tuple[str, Sequence[Path]]] = {}
    for key, files in cases:
        name = unicodedata.normalize("NFC", key).casefold() if folded else key
        if name in seen:
            other, others = seen[name]
            one, two = _told_file(others, files), _told_file(files, others)
            raise UsageError(
                f"{one} and {two} would both be written to {other}{FILE_ENDING}; rename one, or predict them into two "
                "folders"
            )
        seen[name] = (key, files)


def _told_file(files: Sequence[Path], others: Sequence[Path]) -> str:
    """The first file of a case, with its folder if another case has a file of that name."""
    first = files[0]
    return str(first) if others and others[0].name == first.name else first.name


def _meaning(labels: LabelTable) -> dict[str, tuple[int, ...]]:
    """The values of label maps by region, whatever the order of the regions."""
    return {region.name: region.values for region in labels.regions}


def _some(names: Sequence[str]) -> str:
    return ", ".join(names[:3]) + (f" and {len(names) - 3} more" if len(names) > 3 else "")

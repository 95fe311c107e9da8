"""An upload: a visitor's file becomes the files of one case for the network, or is refused with a reason."""

from __future__ import annotations

import shutil
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from volseg.bundle import Recipe
from volseg.cohort import FILE_ENDING, SLICE_AXES, told_axes
from volseg.deploy.demo.image_check import check_grid, check_voxels
from volseg.deploy.demo.uploaded_zip import unpack
from volseg.dicom import KEY, Series, identify, is_dicom, scan, volumes_among, write_list
from volseg.errors import SourceError, VolsegError
from volseg.formats import SUFFIXES, Images, is_slice, read_scan, safe_key
from volseg.inference import find_inputs, read_grid, read_image
from volseg.volume import RGB, UNMEASURED, Volume, write_volume

_ACCEPTED = "a NIfTI file, an image (PNG, JPEG, TIFF), or a zip of DICOM files, of slices or of these"
_IMAGES = {
    **{b"\x89PNG": ".png", b"\xff\xd8\xff": ".jpg", b"II*\0": ".tif", b"MM\0*": ".tif", b"II+\0": ".tif"},
    **{b"MM\0+": ".tif", b"GIF8": ".gif", b"BM": ".bmp", b"RIFF": ".webp"},
    **{b"P%d" % number: ".pnm" for number in range(1, 7)},
}
_LONGEST = 80  # characters of a key


@dataclass(frozen=True)
class Upload:
    """One case as it was uploaded.

    Attributes:
        key: Word that is safe as a file name.
        files: One file per channel, as `volseg.inference.Predictor` takes them.
        what: Description for people, such as `NIfTI file` or `CT series of 120 files`.
        measured: Whether the spacing is known; else voxels count as 1 mm.
    """

    key: str
    files: tuple[Path, ...]
    what: str
    measured: bool = True


def receive(path: Path, folder: Path, *, name: str, recipe: Recipe, max_bytes: int, axes: str | None = None) -> Upload:
    """Identify a file by its content, and make the files of a case from it.

    A series of DICOM files, slices and images are read as in `volseg predict` and `volseg convert`.

    Args:
        path: File, which is only read.
        folder: Folder for the written files; no other is changed.
        name: Name of the file at the visitor's.
        recipe: Recipe of the network, with its channels and its grid.
        max_bytes: Largest number of bytes that a zip may unpack to.
        axes: Directions of columns, rows and slices of slices and images; None for the default of `volseg convert`.

    Raises:
        VolsegError: The file is refused; the message is one sentence for the visitor.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        return _receive(path, folder, name=name, recipe=recipe, max_bytes=max_bytes, axes=axes)
    except VolsegError as error:  # messages hold the whole path, which means nothing to a visitor
        raise type(error)(error.message.replace(f"{folder}/", "")) from error


def _receive(path: Path, folder: Path, *, name: str, recipe: Recipe, max_bytes: int, axes: str | None) -> Upload:
    kind = _kind(path, name)
    if kind == "zip":
        files = unpack(path, folder / "unpacked", max_bytes=max_bytes, name=name)
        upload = _of_files(files, folder, name=name, recipe=recipe, axes=axes)
    else:
        # Readers depend on the ending; the visitor's may be missing or wrong.
        copy = folder / "uploaded" / f"{_key(name)}{kind}"
        copy.parent.mkdir()
        shutil.copyfile(path, copy)
        upload = _of_files([copy], folder, name=name, recipe=recipe, axes=axes)
    grids = [read_grid(file) for file in upload.files]
    for shape, affine in grids:
        check_grid(shape, affine, grid_mm=recipe.spacing_mm, name=name)
    for file in upload.files:
        check_voxels(read_image(file).voxels, name=name)
    return upload


def _kind(path: Path, name: str) -> str:
    """`zip`, or the ending that the file should have."""
    with path.open("rb") as file:
        head = file.read(16)
    if not head:
        raise SourceError(f"{name} is empty (0 bytes); upload it again")
    if head[:4] in (b"PK\3\4", b"PK\5\6"):
        return "zip"
    if head[:2] == b"\x1f\x8b":
        return ".nii.gz"
    if head[:4] in (b"\x5c\1\0\0", b"\0\0\1\x5c", b"\x1c\2\0\0", b"\0\0\2\x1c"):  # 348 or 540, the header's length
        return ".nii"
    if is_dicom(path):
        return ".dcm"
    for first, ending in _IMAGES.items():
        if head.startswith(first):
            return ending
    raise SourceError(f"{name} is of no known kind (it starts with {head[:4]!r}); upload {_ACCEPTED}")


def _of_files(files: Sequence[Path], folder: Path, *, name: str, recipe: Recipe, axes: str | None) -> Upload:
    """The single case in some files: volumes, else DICOM, else slices, else an image."""
    channels = recipe.image_channels
    volumes = [file for file in files if file.name.lower().endswith((".nii", ".nii.gz"))]
    if volumes:
        return _of_volumes(volumes, name=name, channels=channels)
    index = scan(_above(files))
    if index.unreadable:
        reason = next(iter(index.unreadable.values()))
        raise SourceError(f"{name} holds a damaged DICOM file: {reason}")
    if index.series:
        return _of_series(volumes_among(index.series), folder, name=name, channels=channels)
    images = [file for file in files if file.suffix.lower() in SUFFIXES]
    if not images:
        aside = ", ".join(f"{count} {what}" for what, count in sorted(index.skipped.items()))
        raise SourceError(f"{name} holds no image ({aside or 'nothing'}); upload {_ACCEPTED}")
    slices = [file for file in images if is_slice(file.name)]
    if slices:
        return _of_slices(slices, folder, name=name, channels=channels, axes=axes or SLICE_AXES)
    if len(images) > 1:
        raise SourceError(
            f"{name} holds {len(images)} images that are not called slice_0001_266_266_1.50_1.50.png and so on "
            "(number, width, height, mm, mm); upload one image, or slices called so"
        )
    return _of_image(images[0], folder, name=name, channels=channels, axes=axes)


def _of_volumes(files: Sequence[Path], *, name: str, channels: Sequence[str]) -> Upload:
    cases = find_inputs(_above(files), channels=len(channels)) if len(files) > 1 else [(files[0].name, [files[0]])]
    if len(cases) != 1 or len(cases[0][1]) != len(channels) or len(files) != len(channels):
        expected = "KEY_0000.nii.gz and so on in a zip" if len(channels) > 1 else "the image alone"
        raise SourceError(
            f"{name} holds {_counted(len(files), 'NIfTI file')}, the network takes "
            f"{_counted(len(channels), 'channel')} ({', '.join(channels)}); upload {expected}"
        )
    key, paths = cases[0]
    return Upload(_key(key), tuple(paths), "NIfTI file" if len(files) == 1 else f"{len(files)} NIfTI files")


def _of_series(series: Sequence[Series], folder: Path, *, name: str, channels: Sequence[str]) -> Upload:
    if len(series) > 1:
        told = ", ".join(f"{item.modality or 'unknown'} of {len(item.instances)} files" for item in series[:4])
        raise SourceError(f"{name} holds {len(series)} DICOM series ({told}); upload one of them")
    _one_channel(channels, name, "a DICOM series")
    (item,) = series
    (identity,) = identify(series, among=series, key=KEY)
    paths = [instance.path for instance in item.instances]
    listed = write_list(folder, identity.key, paths)
    what = f"{item.modality or 'DICOM'} series of {_counted(len(paths), 'file')}"
    return Upload(identity.key, (listed,), what)


def _of_slices(files: Sequence[Path], folder: Path, *, name: str, channels: Sequence[str], axes: str) -> Upload:
    folders = {file.parent for file in files}
    if len(folders) > 1:
        raise SourceError(f"{name} holds slices in {len(folders)} folders; upload the slices of one scan")
    _one_channel(channels, name, "a stack of slices")
    image = read_scan(folders.pop(), axes=axes)
    what = f"{_counted(len(files), 'slice')} ({told_axes(axes)})"
    return Upload(_key(name), _written([image], folder, _key(name)), what)


def _of_image(file: Path, folder: Path, *, name: str, channels: Sequence[str], axes: str | None) -> Upload:
    colour = tuple(channels) == RGB
    if not colour:
        _one_channel(channels, name, "an image")
    alone = folder / "image" / f"image{file.suffix.lower()}"
    alone.parent.mkdir()
    file.replace(alone)
    source = Images(alone.parent, colour="rgb" if colour else "grey", axes=axes)
    try:
        case = source.load(source.keys()[0])
    except VolsegError as error:
        raise type(error)(error.message.replace(alone.name, name)) from error
    paths = _written(case.channels, folder, _key(name))
    what = "image (directions assumed)" if axes is None else f"image ({told_axes(axes, third='third axis')})"
    return Upload(_key(name), paths, what, measured=UNMEASURED not in case.warnings)


def _written(channels: Sequence[Volume], folder: Path, key: str) -> tuple[Path, ...]:
    paths = tuple(folder / f"{key}_{number:04d}{FILE_ENDING}" for number in range(len(channels)))
    for path, channel in zip(paths, channels, strict=True):
        write_volume(path, channel)
    return paths


def _one_channel(channels: Sequence[str], name: str, what: str) -> None:
    if len(channels) > 1:
        raise SourceError(
            f"{name} is {what}, of one channel; the network takes {len(channels)} ({', '.join(channels)}): upload a "
            "zip of KEY_0000.nii.gz and so on"
        )


def _above(files: Sequence[Path]) -> Path:
    """The common parent folder of all files."""
    above = files[0].parent
    while not all(file.is_relative_to(above) for file in files):
        above = above.parent
    return above


def _key(name: str) -> str:
    """A key from a file's name, without its endings and the number of its channel."""
    stem = name
    for ending in (".gz", ".nii", ".zip", ".dcm", *SUFFIXES):
        if stem.lower().endswith(ending):
            stem = stem[: -len(ending)]
    if len(stem) > 5 and stem[-5] == "_" and stem[-4:].isdigit():
        stem = stem[:-5]
    return safe_key("", stem)[:_LONGEST]


def _counted(count: int, noun: str) -> str:
    return f"{count} {noun}{'' if count == 1 else 's'}"

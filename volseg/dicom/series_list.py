"""A DICOM series as a file: a list of its images, which `volseg.inference` reads where it reads NIfTI.

Whoever predicts from a folder of DICOM gets one such file a series. Nothing is converted before it is needed, and no
volume is written. The lists hold paths, which may name patients; so they lie in a folder of their own that is removed
at the end.
"""

from __future__ import annotations

import atexit
import json
import shutil
import tempfile
from collections.abc import Iterable
from pathlib import Path

from volseg.dicom.identity import KEY, identify, word
from volseg.dicom.image import Stack, read_image, read_stack
from volseg.dicom.index import index_files, scan
from volseg.dicom.record import record_of
from volseg.errors import SourceError, UsageError, VolumeError
from volseg.files import SERIES
from volseg.volume import Affine, Volume, with_provenance


def list_series(folder: Path, *, modality: str | None = None, key: str = KEY, secret: str = "") -> list[Path]:
    """Write a list `KEY_0000.series` for each series below a folder, and one for each damaged file.

    The keys are those of `volseg convert dicom` with the same pattern and secret. The lists go when Python ends.

    Args:
        folder: or a single file.
        modality: which series; needed where there are several modalities.
        key: pattern of the keys.
        secret: of the keys.

    Raises:
        UsageError: no series, or several modalities.
    """
    index = scan(folder)
    series = index.chosen(modality=modality)
    if not series and not index.unreadable:
        raise UsageError(f"{folder} holds no .nii or .nii.gz file and no DICOM series that can be a volume")
    place = Path(tempfile.mkdtemp(prefix="volseg-dicom-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    content: dict[str, object] = {}
    for identity, item in zip(identify(series, among=index.series, key=key, secret=secret), series, strict=True):
        if item.damage:
            content[identity.key] = {"error": item.damage}
            continue
        record = str(record_of(item, secret=secret)) if secret else ""
        write_list(place, identity.key, [instance.path for instance in item.instances], record=record)
    for name, reason in index.unreadable.items():
        content[word(name, letter="damaged_", length=12, secret=secret)] = {"error": reason}
    for key_, told in content.items():
        (place / f"{key_}_0000{SERIES}").write_text(json.dumps(told), encoding="utf-8")
    return sorted(place.iterdir())


def write_list(folder: Path, key: str, files: Iterable[Path], *, record: str = "") -> Path:
    """Write the list of one series, `KEY_0000.series`; it holds paths, which may name patients.

    Args:
        folder: Folder that the list goes into.
        key: Key of the case.
        files: Files of the series.
        record: Record that the volume carries, see `record_of`; by default the one that is made without a secret.
    """
    path = folder / f"{key}_0000{SERIES}"
    paths = [str(file.resolve()) for file in files]
    path.write_text(json.dumps({"files": paths, "record": record} if record else paths), encoding="utf-8")
    return path


def read_listed(path: Path) -> Volume:
    """The volume of a list.

    Raises:
        VolumeError: no such list, or a damaged one.
        SourceError, GeometryError: the series is refused; the message says why.
    """
    stack, record = _stack(path)
    volume = read_image(stack)
    return Volume(volume.voxels, with_provenance(volume.affine_ras, record))


def listed_grid(path: Path) -> tuple[tuple[int, int, int], Affine]:
    """Shape and affine (RAS mm) of a list's volume, from headers alone. Errors as in `read_listed`."""
    stack, _ = _stack(path)
    return stack.shape, stack.affine_ras


def _stack(path: Path) -> tuple[Stack, str]:
    """The series of a list, and its record."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path.name} cannot be read as a list of DICOM files") from error
    if isinstance(told, dict) and "files" not in told:
        raise SourceError(str(told.get("error")))
    index = index_files([Path(name) for name in (told["files"] if isinstance(told, dict) else told)])
    if index.unreadable:
        raise SourceError(next(iter(index.unreadable.values())))
    if len(index.series) != 1:
        raise SourceError(f"the files make {len(index.series)} series now, expected one; start again")
    (series,) = index.series
    return read_stack(series), told["record"] if isinstance(told, dict) else str(record_of(series))

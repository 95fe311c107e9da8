"""A DICOM series as a file: a list of its images, which `volseg.inference` reads where it reads NIfTI.

Whoever predicts from a folder of DICOM gets one such file a series. Nothing is converted before it is needed, and no
volume is written. The lists hold paths, which may name patients; so they lie in a folder of their own that is removed
at the end.
"""

from __future__ import annotations

import atexit
import json
import logging
import shutil
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from volseg.dicom.channels import Combined, combine, parse_channels
from volseg.dicom.choice import EVERYTHING, Choice
from volseg.dicom.identity import KEY, STUDY_KEY, identify, word
from volseg.dicom.image import Stack, read_image, read_stack
from volseg.dicom.images import Part, check_frame, on_grid, outside
from volseg.dicom.index import index_files, picture_note, scan
from volseg.dicom.record import read_record, record_of, volume_key
from volseg.errors import SourceError, UsageError, VolumeError
from volseg.files import SERIES
from volseg.volume import Affine, Volume, with_provenance

logger = logging.getLogger(__name__)


def list_series(
    folder: Path,
    *,
    modality: str | None = None,
    key: str = KEY,
    secret: str = "",
    choice: Choice = EVERYTHING,
    channels: Sequence[str] = (),
    resample_channels: bool = False,
) -> list[Path]:
    """Write a list `KEY_0000.series` for each series below a folder, and one for each damaged file.

    The keys are those of `volseg convert dicom` with the same pattern and secret. The lists go when Python ends.

    Args:
        folder: or a single file.
        modality: which series; needed where there are several modalities.
        key: pattern of the keys.
        secret: Secret of the keys.
        choice: which volume is meant, where a series holds several.
        channels: Channels, as `Dicom` takes them; each case then has `KEY_0000.series`, `KEY_0001.series` and so on.
        resample_channels: channels on other grids than the first are resampled to it.

    Raises:
        UsageError: no series, several modalities, or none of the channels.
    """
    asked = parse_channels(channels)
    index = scan(folder, choices=[choice, *(channel.choice for channel in asked)])
    if asked and choice:
        raise UsageError("with --channels, what is chosen of a series stands in it, as DWI=*dwi*@b-value=800")
    series = index.chosen(modality=modality, mixed=bool(asked))
    if not series and not index.unreadable:
        there = ", ".join(f"{count} {what}" for what, count in sorted(index.skipped.items()))
        raise UsageError(
            f"{folder} holds no .nii or .nii.gz file and no DICOM series that can be a volume"
            f"{f': {there}' if there else ''}{picture_note(index.skipped)}"
        )
    combined = combine(series, asked) if asked else [Combined((item,)) for item in series]
    place = Path(tempfile.mkdtemp(prefix="volseg-dicom-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    pattern = STUDY_KEY if asked and key == KEY else key
    named = identify([item.first for item in combined], among=index.series, key=pattern, secret=secret)
    count = max(1, len(asked))
    for identity, item in zip(named, combined, strict=True):
        problem = item.problem or next((part.damage for part in item.parts if part is not None and part.damage), "")
        if problem:
            _write_error(place, identity.key, problem, count)
            continue
        # Read by itself, a scan of a series that holds several is not told from the others.
        record = str(record_of(item.first, secret=secret)) if secret or asked or item.first.part else ""
        parts = [
            {
                "name": asked[number].name if asked else "",
                "files": [str(instance.path.resolve()) for instance in part.instances],
                "choice": chosen.to_json() if (chosen := asked[number].choice if asked else choice) else {},
                "modality": part.modality,
                "warnings": list(part.warnings),  # of which some are seen in the whole folder alone
            }
            for number, part in enumerate(item.parts)
            if part is not None
        ]
        for number, told in enumerate(parts):
            onto = {"onto": parts[0], "resample": resample_channels} if number else {}
            content = {**told, "record": record, **onto}
            if secret:
                content["volume_key"] = volume_key(secret)
            (place / f"{identity.key}_{number:04d}{SERIES}").write_text(json.dumps(content), encoding="utf-8")
    for name, reason in index.unreadable.items():
        _write_error(place, word(name, letter="damaged_", length=12, secret=secret), reason, count)
    return sorted(place.iterdir())


def _write_error(folder: Path, key: str, reason: str, count: int) -> None:
    """Lists of a case that cannot be read, one per channel."""
    for number in range(count):
        (folder / f"{key}_{number:04d}{SERIES}").write_text(json.dumps({"error": reason}), encoding="utf-8")


def write_list(
    folder: Path,
    key: str,
    files: Iterable[Path],
    *,
    record: str = "",
    choice: Choice = EVERYTHING,
    secret: str = "",
) -> Path:
    """Write the list of one series, `KEY_0000.series`; it holds paths, which may name patients.

    Args:
        folder: Folder that the list goes into.
        key: Key of the case.
        files: Files of the series.
        record: Record that the volume carries, see `record_of`; by default the one that is made without a secret.
        choice: Volume that is meant where the series holds several.
        secret: Secret of the words of the record.
    """
    path = folder / f"{key}_0000{SERIES}"
    paths = [str(file.resolve()) for file in files]
    told: dict[str, object] = {"files": paths, **({"record": record} if record else {})}
    if choice:
        told["choice"] = choice.to_json()
    if secret:
        told["volume_key"] = volume_key(secret)
    path.write_text(json.dumps(told if len(told) > 1 else paths), encoding="utf-8")
    return path


def read_listed(path: Path) -> Volume:
    """The volume of a list; what a reader should know of the series is logged.

    Raises:
        VolumeError: no such list, or a damaged one.
        SourceError, GeometryError: the series is refused; the message says why.
    """
    told = _told(path)
    part, stack = _part(told)
    first, reference = part, stack
    onto = told.get("onto")
    if not isinstance(onto, dict):
        volume = read_image(stack)
        warnings = list(stack.warnings)
    else:
        first, reference = _part(onto)
        warnings = [*stack.warnings, *check_frame(first, part)]
        volume, share = on_grid(first.name, part.name, stack, reference, resample=bool(told.get("resample")))
        warnings += outside(first.name, share)
    of_folder = told.get("warnings")
    for warning in dict.fromkeys([*map(str, of_folder if isinstance(of_folder, list) else []), *warnings]):
        logger.warning("%s: %s", path.name.removesuffix(SERIES).rpartition("_")[0], warning)
    record = read_record(str(told.get("record") or "")) or record_of(first.series)
    key = str(told.get("volume_key") or "")
    if first is part:
        record = record.of_values(volume, key=key)
    elif first.choice:  # whose voxels are read with its own list
        record = record.of_images(reference, key=key)
    return Volume(volume.voxels, with_provenance(volume.affine_ras, str(record)))


def listed_modality(path: Path) -> str:
    """The modality of a list's series, such as `MR`; empty if the list does not say it."""
    try:
        return str(_told(path).get("modality", ""))
    except (SourceError, VolumeError):
        return ""


def listed_grid(path: Path) -> tuple[tuple[int, int, int], Affine]:
    """Shape and affine (RAS mm) of a list's volume, from headers alone. Errors as in `read_listed`."""
    told = _told(path)
    onto = told.get("onto")
    _, stack = _part(onto if isinstance(onto, dict) else told)
    return stack.shape, stack.affine_ras


def _told(path: Path) -> Mapping[str, object]:
    """What a list says."""
    try:
        told = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise VolumeError(f"{path.name} cannot be read as a list of DICOM files") from error
    content: Mapping[str, object] = told if isinstance(told, dict) else {"files": told}
    if "files" not in content:
        raise SourceError(str(content.get("error")))
    return content


def _part(told: Mapping[str, object]) -> tuple[Part, Stack]:
    """The series of a list, and its slices."""
    files, stated = told["files"], told.get("choice")
    choice = Choice.from_json(stated) if isinstance(stated, dict) else EVERYTHING
    index = index_files([Path(str(name)) for name in files] if isinstance(files, list) else [], choices=[choice])
    if index.unreadable:
        raise SourceError(next(iter(index.unreadable.values())))
    if len(index.series) != 1:
        raise SourceError(f"the files make {len(index.series)} series now, expected one; start again")
    part = Part(str(told.get("name") or ""), index.series[0], choice)
    return part, read_stack(part.series, choice=part.choice)

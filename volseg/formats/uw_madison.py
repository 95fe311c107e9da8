"""Reader of the UW-Madison GI tract layout: 16-bit PNG slices a treatment day, masks as run lengths in train.csv.

RAW/
  train.csv                                            id,class,segmentation: one row per class and slice
  train/case123/case123_day20/scans/slice_0001_266_266_1.50_1.50.png      number, width, height, mm, mm
  test/...                                             the same, without rows (optional)
  geometry.json                                        key to affine (optional, written by `volseg export slices`)
"""

from __future__ import annotations

import hashlib
import json
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import SLICE_AXES, SLICE_VERSION, Case, axes_of_raw, raw_note
from volseg.errors import SourceError, UsageError, VolsegError, first_names
from volseg.formats.png import read_grey
from volseg.formats.train_csv import check_rows, label_map, read_table, split_key
from volseg.labels import LabelTable
from volseg.volume import Affine, Volume, affine_of_axes, check_affine, check_axes

logger = logging.getLogger(__name__)

LABELS = LabelTable.overlapping(("large_bowel", "small_bowel", "stomach"))
THICKNESS_MM = 3.0
GEOMETRY_FILE = "geometry.json"

# The organisers' list of badly labelled scans.
SUSPECT = frozenset(
    {
        "case7_day0",
        "case9_day27",
        "case13_day0",
        "case34_day20",
        "case43_day18",
        "case43_day26",
        "case61_day14",
        "case81_day30",
        "case83_day11",
        "case124_day19",
        "case138_day0",
        "case144_day15",
    }
)
_SUSPECT_WARNING = "suspect: listed by the organisers as badly labelled"

_SLICE = re.compile(r"slice_([0-9]{4,9})_([0-9]+)_([0-9]+)_([0-9]+(?:\.[0-9]+)?)_([0-9]+(?:\.[0-9]+)?)\.(?:png|PNG)")


@dataclass(frozen=True)
class _Scan:
    """Where one scan lies."""

    folder: Path
    patient: str
    session: str
    labelled: bool


@dataclass(frozen=True)
class _Stack:
    """The slices of one scan in order, and what their names say of each."""

    files: tuple[Path, ...]
    size: tuple[int, int]  # width, height
    spacing: tuple[float, float]


class UwMadison:
    r"""Cases of the UW-Madison GI tract image segmentation data (Lee et al. 2024, doi:10.1016/j.dib.2024.111159).

    Voxels are [X, Y, Z] = [column, row, slice] with the file's 16 bits. Columns run to the patient's left, rows to the
    back and slices to the feet: the files do not say so, the scans show it (slice 5 holds heart and lungs, 65 the
    kidneys, 105 the pelvis). The first voxel lies at the origin. `geometry.json` overrides that for cases written by
    `volseg.formats.uw_madison_writer`.
    Opening lists the folders and reads train.csv once; `load` may run in several threads at once.

    Args:
        raw: Folder that holds `train` and `train.csv`, or the folder above it. Any subset of cases will do.
        cases: Patients (`case1`) or keys (`case1_day2`) to keep, each matched whole; None keeps all.
        thickness_mm: Distance between slices in mm, which the file names do not tell.
        labels: Classes of train.csv, if they are not the three organs.
        axes: Directions of columns, rows and slices, as three letters; None for LPI, and for what `phantom.json` says
            of a phantom. Affines in `geometry.json` stay as they are.

    Raises:
        SourceError: There is no `train` or no scan, or train.csv cannot be read or names no case.
        UsageError: A name in `cases` is no case, the thickness is not positive, or the axes are none.

    >>> import tempfile
    >>> from volseg.formats.png import write_grey
    >>> with tempfile.TemporaryDirectory() as raw:
    ...     scans = Path(raw, "train/case1/case1_day2/scans")
    ...     scans.mkdir(parents=True)
    ...     write_grey(scans / "slice_0001_3_2_1.50_1.50.png", np.full((2, 3), 700, np.uint16))
    ...     rows = ["large_bowel,", "small_bowel,2 3", "stomach,4 1"]
    ...     lines = ["id,class,segmentation", *(f"case1_day2_slice_0001,{row}" for row in rows)]
    ...     _ = Path(raw, "train.csv").write_text("\n".join(lines))
    ...     case = UwMadison(raw).load("case1_day2")
    >>> case.patient, case.session, case.channels[0].shape, case.channels[0].spacing_mm
    ('case1', 'day2', (3, 2, 1), (1.5, 1.5, 3.0))
    >>> case.label.voxels[:, :, 0].T.tolist()  # rows and columns; 6 is small bowel (2) and stomach (4)
    [[0, 2, 2], [6, 0, 0]]
    """

    kind = "uw_madison"
    source_version = SLICE_VERSION  # raise it when the same files give another case
    channel_names: tuple[str, ...] = ("MR",)

    def __init__(
        self,
        raw: str | Path,
        *,
        cases: Sequence[str] | None = None,
        thickness_mm: float = THICKNESS_MM,
        labels: LabelTable | None = None,
        axes: str | None = None,
    ) -> None:
        if not 0 < thickness_mm < np.inf:
            raise UsageError(
                f"the slice thickness must be above 0 mm, got {thickness_mm}; give the distance between slices"
            )
        self.raw = _find_raw(Path(raw))
        self.thickness_mm = float(thickness_mm)
        self.labels = labels or LABELS
        self.axes = axes_of_raw(self.raw) if axes is None else check_axes(axes)
        self._scans = _find_scans(self.raw)
        found = frozenset(self._scans)
        if cases is not None:
            self._scans = _chosen(self._scans, cases)
        self._rows = read_table(self.raw / "train.csv")
        absent = sorted(self._rows.keys() - found) if cases is None else []
        self.warnings = (
            [f"train.csv has rows of {len(absent)} scans that are not there: {first_names(absent)}"] if absent else []
        )
        for warning in self.warnings:
            logger.warning("%s", warning)
        self._geometry = _read_geometry(self.raw / GEOMETRY_FILE)
        stated = self._geometry.keys() & self._scans.keys()
        if axes is not None and stated:
            logger.warning("%s states the affine of %d cases, which --axes does not change", GEOMETRY_FILE, len(stated))

    def keys(self) -> Sequence[str]:
        """The keys of all cases, sorted."""
        return sorted(self._scans)

    def labelled(self, key: str) -> bool:
        """Whether the scan lies in `train`."""
        return self._scan(key).labelled

    def digest(self, key: str) -> str:
        """Changes with the name, size or time of any slice, with the case's rows, its affine, and the options."""
        scan = self._scan(key)
        facts: list[Any] = [self.kind, self.source_version, self.axes, self.thickness_mm]
        facts += [self.labels.digest, scan.labelled]
        facts += [_trace(path) for path in _pngs(scan.folder)]
        facts.append(self._geometry.get(key))
        rows = self._rows.get(key) if scan.labelled else None
        if rows is not None:
            facts.append([rows.slices.tolist(), rows.classes, rows.texts, rows.malformed])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def load(self, key: str) -> Case:
        """Read one case.

        Raises:
            SourceError: Slices are missing, unreadable or of several sizes; rows are absent, repeated, malformed, of an
                unknown class or of a slice that is not there.
            RleError: A segmentation describes no mask of its slice.
            UsageError: There is no such case.
        """
        scan = self._scan(key)
        try:
            return self._load(key, scan)
        except VolsegError as error:
            raise error.of_case(key) from error

    def _load(self, key: str, scan: _Scan) -> Case:
        stack = _read_stack(scan.folder)
        affine = self._affine(key, stack)
        warnings = [_SUSPECT_WARNING] if key in SUSPECT else []
        rows = self._rows.get(key) if scan.labelled else None
        if rows is not None:
            names = self.labels.names
            check_rows(rows, key, count=len(stack.files), names=names)
            absent = len(stack.files) * len(names) - len(rows.slices)
            if absent:
                warnings.append(f"{absent} rows are absent from train.csv and were taken as empty masks")
        elif scan.labelled:
            raise SourceError(
                "train.csv has no row of this scan; get the whole train.csv, or move the scan to `test` to use it "
                "without labels"
            )
        # The one transpose, of pixels and masks alike; no copy, and X runs fastest in memory, as NIfTI stores it:
        #
        #     [slice, row, column]  --.T-->  [column, row, slice] = [X, Y, Z]
        #
        cube = _read_pixels(stack)
        image = Volume(cube.T, affine)
        label = None if rows is None else Volume(label_map(rows, cube.shape, self.labels).T, affine)
        source = scan.folder.parent.relative_to(self.raw).as_posix()
        return Case(key, scan.patient, scan.session, (image,), label, source, tuple(warnings))

    def _scan(self, key: str) -> _Scan:
        try:
            return self._scans[key]
        except KeyError:
            raise UsageError(
                f"{self.raw} holds no case {key!r}; name one of {first_names(sorted(self._scans))}"
            ) from None

    def _affine(self, key: str, stack: _Stack) -> Affine:
        if key not in self._geometry:
            return affine_of_axes(self.axes, (*stack.spacing, self.thickness_mm))
        try:
            return check_affine(self._geometry[key])
        except (VolsegError, TypeError, ValueError) as error:
            raise SourceError(f"{GEOMETRY_FILE}: {error}; correct the affine or remove the entry") from error


def is_slice(name: str) -> bool:
    """Whether a file is called as a slice is.

    >>> is_slice("slice_0001_266_266_1.50_1.50.png"), is_slice("slice_1.png")
    (True, False)
    """
    return _SLICE.fullmatch(name) is not None


def read_scan(folder: Path, *, thickness_mm: float = THICKNESS_MM, axes: str = SLICE_AXES) -> Volume:
    """The image of one scan from the folder of its slices alone, with no key, no train.csv and no labels.

    Raises:
        SourceError: Slices are missing, unreadable or of several sizes.
    """
    stack = _read_stack(folder)
    return Volume(_read_pixels(stack).T, affine_of_axes(axes, (*stack.spacing, thickness_mm)))


def _find_raw(raw: Path) -> Path:
    if not raw.is_dir():
        raise SourceError(f"{raw} is no folder; name the one that holds `train` and `train.csv`")
    if not (raw / "train").is_dir():
        inner = [folder for folder in raw.iterdir() if (folder / "train").is_dir() and (folder / "train.csv").is_file()]
        if len(inner) == 1:
            return inner[0]
        note = raw_note(raw)
        above = f": {raw.parent}" if (raw.parent / "train.csv").is_file() else f"; {note}" if note else ""
        raise SourceError(f"{raw} holds no folder `train`; name the folder that holds `train` and `train.csv`{above}")
    return raw


def _find_scans(raw: Path) -> dict[str, _Scan]:
    scans: dict[str, _Scan] = {}
    for part in ("train", "test"):
        for folder in sorted(path for path in (raw / part).glob("[!.]*/[!.]*") if path.is_dir()):
            names = split_key(folder.name)
            if names is None or names[0] != folder.parent.name:
                above = split_key(folder.parent.name) if folder.name == "scans" else None
                if above is not None:
                    logger.warning(
                        "%s is left out, since it lies in no folder of its patient; move it into %s",
                        *(folder.parent.relative_to(raw), f"{part}/{above[0]}"),
                    )
                else:
                    logger.warning(
                        *("%s is left out: its name is not %s_day and a number", folder.relative_to(raw)),
                        folder.parent.name,
                    )
                continue
            if folder.name in scans:
                raise SourceError("the scan lies in both `train` and `test`; remove one", case=folder.name)
            scans[folder.name] = _Scan(folder / "scans", *names, labelled=part == "train")
    if not scans:
        raise SourceError(f"{raw} holds no scan; expected folders like train/case1/case1_day2/scans with PNG slices")
    return scans


def _chosen(scans: Mapping[str, _Scan], cases: Sequence[str]) -> dict[str, _Scan]:
    wanted = {cases} if isinstance(cases, str) else set(cases)
    known = set(scans) | {scan.patient for scan in scans.values()}
    unknown = sorted(wanted - known)
    if unknown or not wanted:
        raise UsageError(
            f"there is no case {', '.join(unknown) or 'to keep'}; name some of {first_names(sorted(known))}"
        )
    return {key: scan for key, scan in scans.items() if key in wanted or scan.patient in wanted}


def _read_geometry(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return {}
    except (OSError, ValueError) as error:
        raise SourceError(f"{path} cannot be read ({error}); copy it again or remove it") from error
    if not isinstance(content, dict):
        raise SourceError(f"{path} is no JSON object of keys and affines; copy it again or remove it")
    return content


def _pngs(folder: Path) -> list[Path]:
    """The PNG files of a folder in the order of their names; empty where there is no folder.

    Raises:
        SourceError: The folder cannot be listed.
    """
    try:
        found = list(folder.iterdir())
    except (FileNotFoundError, NotADirectoryError):
        return []
    except OSError as error:
        raise SourceError(
            f"the folder `scans` cannot be listed ({error.strerror}); give the right to read it"
        ) from error
    return sorted(path for path in found if path.name[-4:].lower() == ".png" and not path.name.startswith("."))


def _trace(path: Path) -> list[str | int]:
    """Name, size and time of a file; the name alone where it cannot be asked for the others."""
    try:
        stat = path.stat()
    except OSError:
        return [path.name]
    return [path.name, stat.st_size, stat.st_mtime_ns]


def _read_stack(folder: Path) -> _Stack:
    """List the slices of a scan, from 1 on without gap and all alike."""
    found: dict[int, tuple[Path, tuple[int, int], tuple[float, float]]] = {}
    for path in _pngs(folder):
        match = _SLICE.fullmatch(path.name)
        if match is None:
            raise SourceError(f"{path.name} is no slice's name, expected slice_0001_266_266_1.50_1.50.png or the like")
        number, width, height, x, y = match.groups()
        if int(number) in found:
            raise SourceError(f"slice {number} is there twice ({found[int(number)][0].name}, {path.name}); remove one")
        found[int(number)] = path, (int(width), int(height)), (float(x), float(y))
    if not found:
        raise SourceError("the folder `scans` holds no PNG slice; copy the scan again")
    missing = next((i for i in range(1, len(found) + 1) if i not in found), None)
    if missing is not None:
        raise SourceError(
            f"slice {missing:04d} is missing ({len(found)} slices, the last is {max(found):04d}; they count from 0001 "
            "without gap); copy the scan again"
        )
    _, size, spacing = found[1]
    for path, other_size, other_spacing in found.values():
        if (other_size, other_spacing) != (size, spacing):
            raise SourceError(
                f"{path.name} and {found[1][0].name} differ in size or spacing; all slices of a scan must be alike"
            )
    if min(spacing) <= 0:
        raise SourceError(f"{found[1][0].name} states a pixel spacing of 0 mm; correct the names of the scan")
    return _Stack(tuple(found[i][0] for i in range(1, len(found) + 1)), size, spacing)


def _read_pixels(stack: _Stack) -> NDArray[np.uint16]:
    """(slices, rows, columns)."""
    cube: NDArray[np.uint16] | None = None
    for z, path in enumerate(stack.files):
        pixels = read_grey(path, size=stack.size)
        if pixels.dtype != np.uint16:
            raise SourceError(
                f"{path.name} has 8 bits, expected 16; 8 bits lose the intensity between slices, take the originals"
            )
        if cube is None:  # only now is the size known to be true
            cube = np.empty((len(stack.files), *pixels.shape), dtype=np.uint16)
        cube[z] = pixels
    if cube is None:
        raise SourceError("the scan has no slice")
    return cube

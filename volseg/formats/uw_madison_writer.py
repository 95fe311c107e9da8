"""Cases written as 16-bit PNG slices and run-length masks: the UW-Madison layout, the inverse of its reader."""

from __future__ import annotations

import csv
import json
import logging
import shutil
import uuid
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import SLICE_AXES, Case
from volseg.errors import LabelError, SourceError, UsageError
from volseg.files import PARTIAL
from volseg.formats import rle
from volseg.formats.png import write_grey
from volseg.formats.train_csv import slice_id, split_key
from volseg.formats.uw_madison import GEOMETRY_FILE, THICKNESS_MM
from volseg.labels import LabelTable
from volseg.volume import affine_of_axes

logger = logging.getLogger(__name__)

Row = tuple[str, str, str]
"""One line of train.csv: id, class, segmentation."""


def write_raw(raw: str | Path, cases: Iterable[Case], labels: LabelTable, *, ignored_as_empty: bool = False) -> None:
    """Write cases as a folder that `volseg.formats.UwMadison` reads back, whole or not at all.

    Labelled cases go to `train`, the others to `test`. An affine that the layout cannot state (it knows a spacing of
    two decimals, 3 mm between slices, axes L, P, I and the origin 0) goes to `geometry.json` and comes back exactly.
    The layout keeps regions, not label values: values that belong to the same regions come back as one.

    Args:
        raw: Folder to make; absent or empty.
        cases: Cases, read one at a time.
        labels: Table of the label maps; its names become the classes.
        ignored_as_empty: Whether voxels that nobody looked at are written as free of every region.

    Raises:
        UsageError: `raw` is not empty.
        SourceError: There is no case, two cases have one key, or `write_scan` refuses a case.
        LabelError: The table does not declare a label value, or nobody looked at a voxel.

    >>> import tempfile
    >>> from volseg.formats.uw_madison import LABELS, UwMadison
    >>> from volseg.volume import Volume
    >>> affine = affine_of_axes("LPI", (1.5, 1.5, 3))
    >>> image = Volume(np.arange(24, dtype=np.uint16).reshape(2, 3, 4), affine)
    >>> case = Case("case1_day0", "case1", "day0", (image,), Volume((image.voxels % 8).astype(np.uint8), affine), "")
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     write_raw(Path(folder) / "raw", [case], LABELS)
    ...     back = UwMadison(Path(folder) / "raw").load("case1_day0")
    >>> bool((back.channels[0].voxels == image.voxels).all() and (back.label.voxels == case.label.voxels).all())
    True
    """
    raw = Path(raw)
    if raw.exists() and (not raw.is_dir() or any(raw.iterdir())):
        raise UsageError(f"{raw} is not empty; remove it or name a new folder")
    geometry: dict[str, list[list[float]]] = {}
    written: set[str] = set()
    with _whole_folder(raw) as partial:
        (partial / "train").mkdir()
        with (partial / "train.csv").open("w", newline="", encoding="utf-8") as file:
            table = csv.writer(file, lineterminator="\n")
            table.writerow(("id", "class", "segmentation"))
            for case in cases:
                key = _scan_key(case)
                if key in written:
                    raise SourceError(f"two cases are written under the key {key}; rename one", case=case.key)
                table.writerows(write_scan(partial, case, labels, ignored_as_empty=ignored_as_empty))
                written.add(key)
                affine = case.channels[0].affine_ras
                if not np.array_equal(affine, _implied_affine(case)):
                    geometry[key] = affine.tolist()
        if not written:
            raise SourceError("there is no case to write")
        if geometry:
            text = json.dumps(geometry, indent=1) + "\n"
            (partial / GEOMETRY_FILE).write_text(text, encoding="utf-8")


def write_scan(raw: str | Path, case: Case, labels: LabelTable, *, ignored_as_empty: bool = False) -> list[Row]:
    """Write the slices of one case under `raw`; its folder appears whole or not at all.

    Args:
        raw: Folder that holds `train` and `test`.
        case: One channel of whole numbers from 0 to 65535. A case without label goes to `test`.
        labels: Table of the label map.
        ignored_as_empty: Whether voxels that nobody looked at are written as free of every region.

    Returns:
        The rows (id, class, segmentation) of the case for train.csv: one per region and slice, an empty segmentation
        where the region is not in the slice; no row for a case without label.

    Raises:
        SourceError: The case has several channels, or intensities beyond 16 bits, or its scan is there already.
        LabelError: The table does not declare a label value, or nobody looked at a voxel.
    """
    key = _scan_key(case)
    patient, _ = split_key(key) or (key, "")
    if case.patient != patient:
        logger.warning("%s: the layout takes the patient from the key, %s becomes %s", case.key, case.patient, patient)
    cube = _grey_values(case).T  # [X, Y, Z] = [column, row, slice]  --.T-->  [slice, row, column]
    rows = [] if case.label is None else _rows(key, labels, _seen(case, labels, ignored_as_empty=ignored_as_empty).T)
    folder = Path(raw) / ("test" if case.label is None else "train") / patient / key
    if folder.exists():
        raise SourceError(f"{folder} is there already; remove it or write to another folder", case=case.key)
    x, y = _stated_spacing(case)
    _, height, width = cube.shape
    with _whole_folder(folder) as partial:
        scans = partial / "scans"
        scans.mkdir()
        for number, pixels in enumerate(cube, start=1):
            write_grey(scans / f"slice_{number:04d}_{width}_{height}_{x:.2f}_{y:.2f}.png", pixels)
    return rows


def _scan_key(case: Case) -> str:
    """The key of a case in this layout: its own where it ends in `_day` and a number, else with `_day0` added."""
    return case.key if split_key(case.key) else f"{case.key}_day0"


def _seen(case: Case, labels: LabelTable, *, ignored_as_empty: bool) -> NDArray[np.uint8]:
    """The label map; what nobody looked at cannot be said by run lengths."""
    checked = labels.check(case.label.voxels if case.label else np.zeros(0, np.uint8), case=case.key)
    if not ignored_as_empty:
        try:
            labels.check_seen(checked, target="train.csv", cure=", or write them so with --ignored-as-empty")
        except LabelError as error:
            raise error.of_case(case.key) from error
    elif (ignored := labels.ignored(checked)) is not None:
        logger.warning("%s: %d voxels that nobody looked at are written as empty", case.key, int(ignored.sum()))
    return checked


def _rows(key: str, labels: LabelTable, cube: NDArray[np.uint8]) -> list[Row]:
    """Rows of a label map (slices, rows, columns)."""
    rows = []
    for number, values in enumerate(cube, start=1):
        masks = labels.masks(values) if values.any() else ()
        texts = [rle.encode(mask) for mask in masks] or [""] * len(labels.names)
        rows += [(slice_id(key, number), name, text) for name, text in zip(labels.names, texts, strict=True)]
    return rows


def _grey_values(case: Case) -> NDArray[np.uint16]:
    """The voxels of the only channel as uint16, without loss."""
    if len(case.channels) != 1:
        raise SourceError(
            f"the case has {len(case.channels)} channels, the slices hold one; write each channel as a case of its own",
            case=case.key,
        )
    voxels: NDArray[Any] = case.channels[0].voxels
    if voxels.dtype.kind == "f" and not (np.isfinite(voxels).all() and (voxels == np.rint(voxels)).all()):
        raise SourceError(
            "the intensities hold fractions, NaN or infinity, 16-bit slices hold whole numbers; "
            "scale and round the image first, or keep it as NIfTI",
            case=case.key,
        )
    low, high = voxels.min(), voxels.max()
    if low < 0 or high > np.iinfo(np.uint16).max:
        raise SourceError(
            f"the intensities run from {low:g} to {high:g}, 16-bit slices hold 0 to 65535; "
            "shift the image by its minimum or scale it first, or keep it as NIfTI",
            case=case.key,
        )
    return voxels.astype(np.uint16)


def _stated_spacing(case: Case) -> tuple[float, float]:
    """The pixel spacing as the file names state it: two decimals, never 0."""
    x, y, _ = case.channels[0].spacing_mm
    return max(round(x, 2), 0.01), max(round(y, 2), 0.01)


def _implied_affine(case: Case) -> NDArray[np.float64]:
    """The affine that a reader takes from the layout alone."""
    return affine_of_axes(SLICE_AXES, (*_stated_spacing(case), THICKNESS_MM))


@contextmanager
def _whole_folder(folder: Path) -> Iterator[Path]:
    """Give a hidden folder beside `folder`; it gets the name `folder` at the end, or is removed on an error."""
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.with_name(f"{PARTIAL}{uuid.uuid4().hex[:12]}-{folder.name}")
    partial.mkdir()
    try:
        yield partial
        if folder.exists():
            folder.rmdir()  # only an empty one goes
        partial.replace(folder)
    finally:
        shutil.rmtree(partial, ignore_errors=True)

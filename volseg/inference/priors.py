"""The priors of the cases to predict: which earlier day of the patient each has, aligned; and the table of them."""

from __future__ import annotations

import csv
import logging
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from volseg.bundle import Recipe
from volseg.cohort import (
    Alignments,
    CaseRow,
    Cohort,
    Predictions,
    check_order,
    check_prior_alignment,
    day_of_session,
    is_ordered,
    patient_of,
    read_dataset_json,
    read_rows,
    session_order,
    sessions_of,
)
from volseg.errors import UsageError, VolsegError
from volseg.files import atomic
from volseg.labels import DEFORMABLE, RIGID, LabelTable
from volseg.volume import FILE_ENDING, Grid, Registration, Volume, orientation, read_grid, read_volume, spacing_mm

if TYPE_CHECKING:
    from volseg.transforms import PriorFiles

logger = logging.getLogger(__name__)

PRIORS = "priors.csv"
"""Name of the table beside predictions that were made with priors."""
_COLUMNS = (
    *("key", "prior", "patient", "gap_days", "misalignment_mm", "correlation"),
    *("used", "reason", "alignment", "not_deformed"),
)


@dataclass(frozen=True)
class PriorRow:
    """What became of the prior of one case: a row of `priors.csv`.

    Attributes:
        key: Case to predict.
        prior: Key of the earlier case; empty if there is none.
        patient: Patient of the earlier case.
        gap_days: Days between the two, if both sessions tell their day.
        misalignment_mm: What the rigid alignment left, see `volseg.volume.Registration.residual_mm`.
        correlation: Correlation of the two images after it.
        used: Whether the network sees it.
        reason: Reason why it does not; empty if it does.
        alignment: How the prior that it sees is aligned: `rigid` or `deformable`; empty if it sees none.
        not_deformed: Reason why it is aligned rigidly though the network was trained with deformable alignments.
        doubtful: Whether somebody should look: there is a prior that cannot be used, or nothing tells whether another
            session of the patient lies before this one. A first day is not doubtful.
    """

    key: str
    prior: str = ""
    patient: str = ""
    gap_days: float | None = None
    misalignment_mm: float | None = None
    correlation: float | None = None
    used: bool = False
    reason: str = ""
    alignment: str = ""
    not_deformed: str = ""
    doubtful: bool = False


@dataclass(frozen=True, eq=False)
class PriorSource:
    """The earlier days that a user names: a cohort, or a folder of label maps with their images.

    Attributes:
        folder: The folder.
        rows: Rows of the earlier cases that have a label map, by key.
        images: Image files of each, by key.
        label: Label map of each, by key.
        labels: Label table.
    """

    folder: Path
    rows: Mapping[str, CaseRow]
    images: Mapping[str, tuple[Path, ...]]
    label: Mapping[str, Path]
    labels: LabelTable

    @classmethod
    def open(cls, folder: str | Path, *, channels: int, images: str | Path | None = None) -> PriorSource:
        """Open a cohort, whose labelled cases count, or a folder with `KEY.nii.gz` beside `KEY_0000.nii.gz`.

        Args:
            folder: The folder; its `dataset.json` says what the values of the label maps mean.
            channels: Number of image channels of the network.
            images: Cohort that holds the images if `folder` has label maps alone, such as predictions.

        Raises:
            UsageError: There is no such folder or no label map, it says not what values mean, or an image is absent.
        """
        folder = Path(folder)
        if not folder.is_dir():
            raise UsageError(f"--prior must be a cohort or a folder of label maps with their images, got {folder}")
        if (folder / "imagesTr").is_dir():
            cohort = Cohort.open(folder)
            if len(cohort.channel_names) != channels:
                raise UsageError(
                    f"--prior {folder} must have {channels} channels, as the network, got {len(cohort.channel_names)} "
                    f"({', '.join(cohort.channel_names)}); name a cohort with the same channels"
                )
            keys = sorted(cohort.labelled)
            if not keys:
                raise UsageError(f"--prior {folder} must hold labelled cases, got none; name a cohort with labels")
            paths = {key: cohort.label_path(key) for key in keys}
            return cls(
                folder,
                {key: cohort.rows[key] for key in keys},
                {key: tuple(cohort.image_paths(key)) for key in keys},
                {key: path for key, path in paths.items() if path is not None},
                cohort.labels,
            )
        if not (folder / "dataset.json").is_file():
            raise UsageError(
                f"--prior {folder} has no dataset.json, which says what the values of its label maps mean; copy that "
                "of the cohort or of the predictions that they are from"
            )
        there = Predictions.open(folder)
        labels = LabelTable.from_dataset_json(read_dataset_json(folder))
        keys = [key for key in there.keys() if not _is_channel(key, there)]  # noqa: SIM118 - no dict
        known = Cohort.open(images) if images is not None and (Path(images) / "dataset.json").is_file() else None
        rows, found = {}, {}
        for key in keys:
            beside = [folder / f"{key}_{number:04d}{FILE_ENDING}" for number in range(channels)]
            if not all(path.is_file() for path in beside) and known is not None and key in known.rows:
                beside, rows[key] = known.image_paths(key), known.rows[key]
            missing = next((path.name for path in beside if not path.is_file()), None)
            if missing is not None:
                raise UsageError(
                    f"{folder} has the prior {key}{FILE_ENDING} and not its image {missing}; a prior needs the image "
                    "that it was drawn on, beside it or in a cohort"
                )
            rows.setdefault(key, _row_of(key, beside[0]))
            found[key] = tuple(beside)
        if not keys:
            raise UsageError(f"{folder} holds no label map KEY{FILE_ENDING}; name a folder with some for --prior")
        return cls(folder, rows, found, {key: there.path(key) for key in keys}, labels)

    def of(self, row: CaseRow, *, any_patient: bool = False) -> str | None:
        """The key of the last earlier session of the case's patient; None if there is none.

        Cases of the same session are never taken, and neither are later ones. If the names of the patient's sessions
        tell no order of time, such as `post` and `pre`, none is known to be earlier.

        Args:
            row: Case to predict.
            any_patient: Whether the prior of another patient is taken where the own one has none: a test of what a
                wrong prior does.

        Raises:
            CohortError: The order of the patient's sessions is not known.
        """
        own = {key: one for key, one in self.rows.items() if one.patient == row.patient}
        sessions = sessions_of([*own.values(), *([] if row.key in own else [row])]).get(row.patient, [])
        check_order(row.patient, sessions)
        place = next(number for number, one in enumerate(sessions) if row.key in one.keys)
        for session in sessions[:place][::-1]:
            for key in session.keys:
                if key in own:
                    return key
        if any_patient:
            others = sorted(key for key, one in self.rows.items() if one.patient != row.patient)
            return others[sum(row.key.encode()) % len(others)] if others else None
        return None


def _is_channel(key: str, there: Predictions) -> bool:
    """Whether a file is an image channel: KEY_0000 beside a label map KEY."""
    stem, _, number = key.rpartition("_")
    return len(number) == 4 and number.isdigit() and there.path(stem).is_file()


def _row_of(key: str, image: Path) -> CaseRow:
    shape, affine = read_grid(image)
    patient, session = patient_of(key)
    return CaseRow(key, patient, session, shape[:3], spacing_mm(affine), orientation(affine), image.name, ())


def find_priors(
    cases: Sequence[tuple[str, Sequence[Path]]],
    source: PriorSource,
    *,
    cohort: Cohort | None,
    alignments: Alignments,
    labels: LabelTable,
    measured: Mapping[str, Any] | None = None,
    any_patient: bool = False,
    alignment: str = RIGID,
    progress: Callable[[int, int], None] | None = None,
) -> tuple[dict[str, PriorFiles], list[PriorRow]]:
    """Find and align the prior of each case.

    Args:
        cases: Keys with their image files.
        source: The earlier days.
        cohort: Cohort of the cases if they are one: its table tells patients and sessions. Else the keys do.
        alignments: Alignments that are kept.
        labels: Label table of the network.
        measured: What the training measured on pairs of days, the fact `prior` of the recipe: how far contours move,
            and what an alignment may leave. If it leaves more, the prior is not used, unless `any_patient`.
        any_patient: Whether another patient's contours may serve, see `PriorSource.of`.
        alignment: How the network's priors were aligned in its training, `Recipe.prior_alignment`; where a deformable
            alignment fails, the rigid one counts, and the row says so.
        progress: Function that is called with the number of finished cases and of all.

    Returns:
        The prior of each case that has one that can be used, by key, and a row for each case.

    Raises:
        UsageError: The earlier table lacks a region of the network; a lone prior is of none of the patients; or
            a deformable alignment is asked for and `itk-elastix` is not installed.
    """
    check_prior_alignment(
        alignment,
        asked="--prior with a network of prior_alignment",
        otherwise="leave --prior out, which predicts without earlier days",
    )
    missing = [name for name in labels.names if name not in source.labels.names]
    if missing:
        raise UsageError(
            f"--prior {source.folder} has the regions {', '.join(source.labels.names)} and lacks {', '.join(missing)} "
            "of the network; name one with the same regions"
        )
    found: dict[str, PriorFiles] = {}
    rows = []
    of_cases = [_row_to_predict(key, cohort, source) for key, _ in cases]
    if not any_patient:
        _check_lone_prior(of_cases, source)
    for number, (row, (_, images)) in enumerate(zip(of_cases, cases, strict=True), start=1):
        told, prior = _prior_of(
            row,
            Path(images[0]),
            source,
            alignments,
            measured=measured or {},
            any_patient=any_patient,
            alignment=alignment,
        )
        rows.append(told)
        if prior is not None:
            found[row.key] = prior
        if progress:
            progress(number, len(cases))
    return found, rows


def _row_to_predict(key: str, cohort: Cohort | None, source: PriorSource) -> CaseRow:
    row = cohort.rows[key] if cohort is not None and key in cohort.rows else source.rows.get(key)
    return row or CaseRow(key, *patient_of(key), (1, 1, 1), (1.0, 1.0, 1.0), "RAS", "", ())


def _check_lone_prior(rows: Sequence[CaseRow], source: PriorSource) -> None:
    """Refuse a single prior that is of none of the patients: whoever names one means it for a case."""
    only = next(iter(source.rows.values()))
    if rows and len(source.rows) == 1 and only.patient not in {row.patient for row in rows}:
        raise UsageError(
            f"the prior {only.key} is of the patient {only.patient}, and {rows[0].key} is of {rows[0].patient}; name a "
            "prior of the same patient, or allow another's with --prior-of-any-patient"
        )


def _prior_of(
    row: CaseRow,
    image: Path,
    source: PriorSource,
    alignments: Alignments,
    *,
    measured: Mapping[str, Any],
    any_patient: bool,
    alignment: str,
) -> tuple[PriorRow, PriorFiles | None]:
    try:
        key = source.of(row, any_patient=any_patient)
    except VolsegError as error:
        return PriorRow(row.key, reason=error.message, doubtful=True), None
    if key is None:
        return PriorRow(row.key, reason=f"no earlier session of {row.patient} in {source.folder.name}"), None
    earlier = source.rows[key]
    days = [day_of_session(one) for one in (row, earlier)]
    gap = None if days[0] is None or days[1] is None or row.patient != earlier.patient else days[0] - days[1]
    registration = alignments.of(image, source.images[key][0])
    failure = registration.failure and f"the alignment failed: {registration.failure}"
    if not failure and not any_patient:
        failure = unlike_own_days(registration, measured)
    told = PriorRow(
        row.key,
        key,
        earlier.patient,
        gap,
        None if registration.failure else round(registration.residual_mm, 2),
        None if registration.failure else round(registration.ncc, 3),
        not failure,
        failure,
        doubtful=bool(failure),
    )
    if failure:
        return told, None
    if not _is_drawn(source.label[key]):
        logger.warning("%s: the label map of its prior %s is empty, so the network is told of no region", row.key, key)
    pair = alignments.pair(image, source.images[key][0], alignment=alignment)
    way = RIGID if pair.deformation is None else DEFORMABLE
    told = replace(told, alignment=way, not_deformed=pair.deformation_failure)
    from volseg.transforms import PriorFiles

    return told, PriorFiles(
        key,
        tuple(map(str, source.images[key])),
        str(source.label[key]),
        source.labels.to_dataset_json(),
        registration,
        widths_mm=dict(measured.get("widths_mm", {})),
        deformation=None if pair.deformation is None else str(pair.deformation),
    )


def _is_drawn(path: Path) -> bool:
    """Whether a label map holds anything; one that cannot be read is told where it is used."""
    try:
        return bool(read_volume(path).voxels.any())
    except VolsegError:
        return True


def unlike_own_days(registration: Registration, measured: Mapping[str, Any]) -> str:
    """The reason why an alignment leaves too much for two days of one patient; empty if it does not.

    Args:
        registration: Alignment that has not failed.
        measured: What the training measured, see `find_priors`.
    """
    limit = measured.get("misalignment_mm")
    if limit is None or not registration.residual_mm > limit:
        return ""
    return (
        f"the aligned images differ by {registration.residual_mm:.1f} mm, and days of one patient by at most "
        f"{limit:.1f} mm where the network was trained; is it the same patient?"
    )


def prior_volumes(grid: Grid, prior: PriorFiles | None, recipe: Recipe) -> list[Volume]:
    """The channels of a prior on the grid of today's image: empty ones if there is none."""
    from volseg.transforms import prior_arrays

    if prior is None:
        voxels = np.zeros((len(recipe.channel_names) - len(recipe.image_channels), *grid.shape), np.float32)
    else:
        voxels = prior_arrays(prior, grid, recipe.labels)
    return [Volume(channel, grid.affine_ras) for channel in voxels]


def is_after(row: CaseRow, other: CaseRow) -> bool:
    """Whether a case lies after another one of the same patient, by the order of their sessions.

    >>> rows = [CaseRow(d, "p", d, (1, 1, 1), (1, 1, 1), "RAS", "", ()) for d in ("day9", "day10")]
    >>> is_after(rows[1], rows[0]), is_after(rows[0], rows[1])
    (True, False)
    """
    if row.patient != other.patient or session_order(row) == session_order(other):
        return False
    sessions = sessions_of([row, other])[row.patient]
    return is_ordered(sessions) and row.key in sessions[-1].keys


def write_priors(folder: Path, rows: Sequence[PriorRow], *, forget: Collection[str] = ()) -> Path:
    """Write `priors.csv`, a row per case; rows of before stay but for the keys to forget, and an empty file goes."""
    path = folder / PRIORS
    try:
        before = {row["key"]: row for row in read_rows(path) if row["key"] not in forget} if path.is_file() else {}
    except (ValueError, KeyError, csv.Error) as error:
        raise UsageError(f"{path} is no table of priors as `volseg predict` writes it ({error}); remove it") from error
    for row in rows:
        values = {name: getattr(row, name) for name in _COLUMNS}
        values["used"] = "yes" if row.used else "no"
        before[row.key] = {name: "" if value is None else str(value) for name, value in values.items()}
    if not before:
        path.unlink(missing_ok=True)
        return path
    with atomic(path) as partial, partial.open("w", newline="", encoding="utf-8") as file:
        writer = csv.DictWriter(file, _COLUMNS, extrasaction="ignore", lineterminator="\n")
        writer.writeheader()
        writer.writerows(before[key] for key in sorted(before))
    return path

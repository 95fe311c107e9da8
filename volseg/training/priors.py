"""The priors of a training: which earlier or later days each case may be shown, and the channels that they are."""

from __future__ import annotations

import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any

from volseg.cohort import (
    Alignments,
    Cohort,
    PairAlignment,
    Predictions,
    Session,
    check_prior_alignment,
    earlier_sessions,
    other_sessions,
    sessions_of,
)
from volseg.errors import UsageError
from volseg.labels import RIGID, prior_channels
from volseg.training.prior_measure import largest_misalignment_mm, measured_widths, told
from volseg.transforms import CORRECTED, FOREIGN, PREDICTED, PriorFiles
from volseg.volume import FILE_ENDING, Registration

logger = logging.getLogger("volseg.training")

_MEASURED_PAIRS = 24
PRIOR_DROPOUT = 0.4
"""Share of the training windows that are shown without a prior, unless the training says otherwise."""
MOST_DAYS = 3
"""Other days of a patient that a case is trained with; of more, those nearest in the order of sessions."""
_SECONDS_BETWEEN_LINES = 10.0


@dataclass(frozen=True)
class Priors:
    """The priors of the cases of one fold; without `on` all is as in a training without them.

    Attributes:
        cohort: Cohort of the cases.
        on: Whether the network takes a prior.
        fold: Number of the fold.
        dropout: Share of the training cases that are shown without a prior.
        predictions: Folder of out-of-fold predictions, which serve as contours of other days too; None for none.
        cache_dir: Folder whose `alignments` are kept.
        alignment: How other days of the patient are aligned: `rigid`, or `deformable` after it, where that succeeds.
    """

    cohort: Cohort
    on: bool = False
    fold: int | str = 0
    dropout: float = PRIOR_DROPOUT
    predictions: str | None = None
    cache_dir: str | None = None
    alignment: str = RIGID

    def __post_init__(self) -> None:
        if not isinstance(self.on, bool):
            raise UsageError(f"--prior must be true or false, got {self.on!r}")
        if not isinstance(self.dropout, (int, float)) or not 0 <= self.dropout <= 1:
            raise UsageError(f"--prior_dropout must be a number from 0 to 1, got {self.dropout!r}")
        if self.on and self.cohort.flat:
            raise UsageError("--prior must be false for images of one slice, which cannot be aligned; leave it out")
        if self.on or self.alignment == RIGID:
            check_prior_alignment(self.alignment, asked="--prior_alignment")

    @property
    def recorded_alignment(self) -> str | None:
        """How the priors are aligned, for the recipe; None without a prior."""
        return self.alignment if self.on else None

    @property
    def channel_names(self) -> tuple[str, ...]:
        """Names of the network's input channels."""
        names = self.cohort.channel_names
        return (*names, *prior_channels(names, self.cohort.labels.names)) if self.on else names

    @property
    def cached_channels(self) -> int:
        """Channels of a preprocessed training case at most."""
        images, regions = self.cohort.channels, len(self.cohort.labels.names)
        days = MOST_DAYS * (2 if self.predictions else 1) + 1
        return images + days * (images + regions + 1) if self.on else images

    @cached_property
    def measured(self) -> dict[str, Any] | None:
        """What pairs of days of training patients tell, for the recipe; None without a prior or without such pairs.

        `widths_mm` is how far each region's contours move, see `measured_widths`; `misalignment_mm` is what an
        alignment may leave between two days of one patient, see `largest_misalignment_mm`; `pairs` is their number.
        The widths are of days aligned as the network sees them, what is left is that of the rigid alignment, since a
        deformable one makes strangers alike.
        """
        if not self.on:
            return None
        own, strangers = [], []
        for key in self.cohort.fold(self.fold).training:
            wanted = self._wanted(key, training=True)
            days = [(key, other) for other, kind in wanted if kind == CORRECTED]
            own += [(one, self._files(one, other, CORRECTED)) for one, other in days[:1]]
            strangers += [self._registered(key, other) for other, kind in wanted if kind == FOREIGN]
            if len(own) >= _MEASURED_PAIRS:
                break
        own = [(key, files) for key, files in own if not files.registration.failure]
        if not own:
            return None
        limit = largest_misalignment_mm(
            [files.registration.residual_mm for _, files in own],
            [one.residual_mm for one in strangers if not one.failure],
        )
        pairs = [(str(self.cohort.label_path(key)), files) for key, files in own]
        widths = measured_widths(pairs, self.cohort.labels)
        found = {"widths_mm": widths, "misalignment_mm": limit, "pairs": len(own)}
        logger.info("%s", told(found))
        return found

    def augmentation(self, spacing_mm: Sequence[float]) -> dict[str, Any] | None:
        """The arguments of the step that draws a prior, see `volseg.transforms.augmentation`."""
        if not self.on:
            return None
        return {
            "image_channels": self.cohort.channels,
            "regions": len(self.cohort.labels.names),
            "spacing_mm": [float(mm) for mm in spacing_mm],
            "dropout": float(self.dropout),
        }

    def schemes(self, normalisation: Sequence[Mapping[str, Any]]) -> list[dict[str, Any]]:
        """The normalisation of all input channels from that of the image's."""
        images = [dict(one) for one in normalisation]
        if not self.on:
            return images
        none = [{"scheme": "none"}] * (len(self.cohort.labels.names) + 1)
        return [*images, *(dict(one) for one in images), *none]

    def datalist(self, part: str) -> list[dict[str, Any]]:
        """The cases of `training` or `validation`, with the priors of each.

        A training case gets other days of its patient, before and after it and never its own, and one of another
        patient. A validation case gets the last earlier day. An alignment that failed gives no prior.

        Args:
            part: Side of the fold.
        """
        return self.added(self.cohort.datalist(part, fold=self.fold), part=part)

    def added(self, items: list[dict[str, Any]], *, part: str = "training") -> list[dict[str, Any]]:
        """The items of a datalist with the priors of each, see `datalist`; as they are without a prior.

        Args:
            items: Items of a datalist, with the keys of the cohort; a case may stand several times.
            part: Side of the fold.
        """
        if not self.on:
            return items
        items = [dict(item) for item in items]
        began = last = time.monotonic()
        counted = failed = 0
        for number, item in enumerate(items, start=1):
            wanted = self._wanted(item["key"], training=part == "training")
            found = [self.files(item["key"], *one) for one in wanted]
            item["prior"] = [one.to_json() for one in found if not one.registration.failure]
            # Flat, so that a cache on disk sees when one of them changes.
            item["prior_files"] = [file for one in found if not one.registration.failure for file in one.files]
            for one in found:
                if one.registration.failure:
                    failed += 1
                    logger.warning(
                        "warning: %s cannot be aligned to %s and is no prior of it: %s",
                        *(one.key, item["key"], one.registration.failure),
                    )
            counted += len(item["prior"])
            now = time.monotonic()
            if now - last > _SECONDS_BETWEEN_LINES and number < len(items):
                last = now
                left = (now - began) / number * (len(items) - number)
                logger.info("aligned the days of %d of %d %s cases, %.0f s left", number, len(items), part, left)
        logger.info("%d %s cases have %d priors, %d could not be aligned", len(items), part, counted, failed)
        return items

    def _wanted(self, key: str, *, training: bool) -> list[tuple[str, str]]:
        """Keys of other days, each with its kind."""
        sessions = self._sessions
        row = self.cohort.rows[key]
        if not training:
            return [(session.keys[0], CORRECTED) for session in earlier_sessions(sessions, row)[:1]]
        own = sessions[row.patient]
        place = next(number for number, one in enumerate(own) if key in one.keys)
        others = sorted(
            other_sessions(sessions, row), key=lambda session: (abs(own.index(session) - place), own.index(session))
        )
        days = [session.keys[0] for session in others[:MOST_DAYS]]
        found = [(day, CORRECTED) for day in days]
        if self.predictions is not None:
            there = Predictions(Path(self.predictions))
            found += [(day, PREDICTED) for day in days if there.path(day).is_file()]
        stranger = self._stranger(key)
        return found if stranger is None else [*found, (stranger, FOREIGN)]

    @cached_property
    def _sessions(self) -> dict[str, list[Session]]:
        """Those with a label, without what is kept for a test, whose labels no training sees."""
        rows = (self.cohort.rows[one] for one in self.cohort.labelled)
        return sessions_of(row for row in rows if not row.test)

    @cached_property
    def _training(self) -> tuple[tuple[str, ...], dict[str, list[int]]]:
        """The training cases of the fold, and the places of each patient's among them."""
        keys = self.cohort.fold(self.fold).training
        places: dict[str, list[int]] = {}
        for place, key in enumerate(keys):
            places.setdefault(self.cohort.patient(key), []).append(place)
        return keys, places

    def _stranger(self, key: str) -> str | None:
        """A training case of another patient, the same at each call; None if there is none."""
        keys, places = self._training
        own = places.get(self.cohort.patient(key), [])
        if len(own) == len(keys):
            return None
        place = sum(key.encode()) % (len(keys) - len(own))  # among those of others
        for one in own:
            place += one <= place
        return keys[place]

    def files(self, key: str, other: str, kind: str, *, widths_mm: Mapping[str, float] | None = None) -> PriorFiles:
        """The files of another case as a prior of a case, aligned.

        Args:
            key: Case.
            other: Other case of the cohort.
            kind: `corrected`, `predicted` or `foreign`.
            widths_mm: Width of each region's blur in mm; None for those that are measured.
        """
        widths = (self.measured or {}).get("widths_mm", {}) if widths_mm is None else widths_mm
        return replace(self._files(key, other, kind), widths_mm=dict(widths))

    @property
    def _alignments(self) -> Alignments:
        return Alignments(Path(str(self.cache_dir or self.cohort.folder / ".volseg")) / "alignments")

    def _registered(self, key: str, other: str, *, rough: bool = False) -> Registration:
        today, earlier = self.cohort.image_paths(key)[0], self.cohort.image_paths(other)[0]
        return self._alignments.of(today, earlier, rough=rough)

    def _aligned(self, key: str, other: str, kind: str) -> PairAlignment:
        """Another patient's day is aligned roughly alone: what a wrong prior looks like."""
        if kind == FOREIGN:
            return PairAlignment(self._registered(key, other, rough=True))
        found = self._alignments.pair(
            self.cohort.image_paths(key)[0], self.cohort.image_paths(other)[0], alignment=self.alignment
        )
        if found.deformation_failure:
            logger.info(
                "%s is aligned rigidly to %s, since the deformable alignment failed: %s",
                *(other, key, found.deformation_failure),
            )
        return found

    def _files(self, key: str, other: str, kind: str) -> PriorFiles:
        images = self.cohort.image_paths(other)
        found = self._aligned(key, other, kind)
        label = self.cohort.label_path(other)
        labels = self.cohort.labels
        if kind == PREDICTED and self.predictions is not None:
            there = Predictions(Path(self.predictions))
            label, labels = there.folder / f"{other}{FILE_ENDING}", there.labels(option="--prior_predictions")
        bent = None if found.deformation is None else str(found.deformation)
        return PriorFiles(
            other,
            tuple(map(str, images)),
            str(label),
            labels.to_dataset_json(),
            found.registration,
            kind,
            deformation=bent,
        )

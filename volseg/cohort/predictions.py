"""A folder of predictions: one label map per case, what its values mean, and the files of one case."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.cohort.bounds import Bounds
from volseg.cohort.folder import Cohort, read_dataset_json
from volseg.cohort.uncertainty import Uncertainty
from volseg.errors import CohortError, LabelError, UsageError, first_names
from volseg.files import atomic
from volseg.labels import LabelMatch, LabelTable, match_labels
from volseg.volume import FILE_ENDING, Volume, image_suffix, write_probabilities, write_volume

_OF_A_COHORT = ("labelsTr", "labelsTs")
PROBABILITIES = "probabilities"
"""The folder of probabilities, inside that of the predictions."""


@dataclass(frozen=True)
class Predictions:
    """A folder of predicted label maps `KEY.nii.gz`, with a `dataset.json` that says what their values mean.

    Any program may have written the folder; `dataset.json` is there if `volseg predict` did.

    Attributes:
        folder: Folder that holds the label maps.

    >>> Predictions(Path("predictions")).path("case1_day0").as_posix()
    'predictions/case1_day0.nii.gz'
    """

    folder: Path

    @classmethod
    def open(cls, folder: str | Path) -> Predictions:
        """The predictions of a folder that is there.

        Raises:
            UsageError: The folder is absent.
        """
        if not Path(folder).is_dir():
            raise UsageError(f"{folder} is no folder; name the folder that holds the predictions KEY{FILE_ENDING}")
        return cls(Path(folder))

    def path(self, key: str) -> Path:
        """The label map of a case, whether it is there or not."""
        return self.folder / f"{key}{FILE_ENDING}"

    def probabilities_path(self, key: str) -> Path:
        """The probabilities of a case, whether they are there or not."""
        return self.folder / PROBABILITIES / f"{key}{FILE_ENDING}"

    def keys(self) -> list[str]:
        """The keys of the label maps, sorted; hidden and half-written files do not count."""
        names = (path.name for path in self.folder.iterdir() if path.is_file())
        return sorted(
            name.removesuffix(FILE_ENDING) for name in names if name.endswith(FILE_ENDING) and not name.startswith(".")
        )

    def other_files(self) -> list[str]:
        """The names of volumes in the folder that are no label maps of the form, such as `KEY.nii`, sorted."""
        names = (path.name for path in self.folder.iterdir() if path.is_file() and not path.name.startswith("."))
        return sorted(name for name in names if image_suffix(name) and not name.endswith(FILE_ENDING))

    def some_keys(self) -> list[str]:
        """As `keys`, of a folder that must not be empty.

        Raises:
            UsageError: There is no label map.
        """
        keys = self.keys()
        if not keys:
            if others := self.other_files():
                raise UsageError(
                    f"{self.folder} holds no prediction KEY{FILE_ENDING}, but {first_names(others)}; write them as "
                    f"KEY{FILE_ENDING}"
                )
            raise UsageError(
                f"{self.folder} holds no prediction KEY{FILE_ENDING}; name the folder that `volseg predict` wrote"
            )
        return keys

    @property
    def stated(self) -> LabelTable | None:
        """The label table of the folder's `dataset.json`, or of the cohort whose `labelsTr` it is; None without one.

        Raises:
            CohortError: The folder's own file is no JSON object.
            LabelError: Its own file holds no label table.
        """
        if (self.folder / "dataset.json").is_file():
            return LabelTable.from_dataset_json(read_dataset_json(self.folder))
        place = self.folder.absolute()
        if place.name in _OF_A_COHORT and (place.parent / "dataset.json").is_file():
            with suppress(CohortError, LabelError):  # it is no table
                return LabelTable.from_dataset_json(read_dataset_json(place.parent))
        return None

    def labels(self, *, option: str) -> LabelTable:
        """The label table, from the `dataset.json` that `volseg predict` writes.

        Args:
            option: Option of the command that names a cohort instead; for the error.

        Raises:
            UsageError: The folder does not say what its labels mean.
        """
        stated = self.stated
        if stated is None:
            raise UsageError(
                f"{self.folder} has no dataset.json, which says what its labels mean; name a cohort with {option}"
            )
        return stated

    def match(self, cohort: Cohort, *, regions: Sequence[str] = ()) -> LabelMatch:
        """The regions that the predictions share with a cohort, by name, see `volseg.labels.match_labels`.

        Predictions without a table, see `stated`, are taken for those of the cohort's own.

        Args:
            cohort: Holds the references.
            regions: Regions to take, `NAME` or `NAME=OTHER`; all that both have by default.

        Raises:
            LabelError: The tables share no region, or it is not clear which is which.
        """
        return self.match_table(cohort.labels, regions=regions)

    def match_table(self, labels: LabelTable, *, regions: Sequence[str] = ()) -> LabelMatch:
        """As `match`, with a label table instead of a cohort."""
        table = self.stated
        try:
            return match_labels(labels, labels if table is None else table, regions=regions)
        except LabelError as error:
            raise LabelError(f"{self.folder}: {error.message}") from error

    def match_all(self, labels: LabelTable, *, option: str) -> LabelMatch | None:
        """The match with a table that names the labels in place of the folder's own one; None if the folder has none.

        Args:
            labels: Table that an option of the command names.
            option: That option, for the error.

        Raises:
            LabelError: The two tables do not have the same regions, or `labels` has no value for some combination.
        """
        own = self.stated
        if own is None:
            return None
        told = f"{self.folder / 'dataset.json'} names {', '.join(own.names)}, and {option} {', '.join(labels.names)}"
        cure = f"leave {option} out, or name the cohort of these predictions"
        try:
            match = match_labels(labels, own)
        except LabelError as error:
            raise LabelError(f"{told}: they are not the same; {cure}") from error
        if not len(match.pairs) == len(labels.names) == len(own.names):
            raise LabelError(f"{told}: they are not the same; {cure}")
        values = np.array(own.values, np.uint8)
        if not np.array_equal(labels.masks(match.translate(values)), match.shared.masks(values)):
            raise LabelError(f"{told}, which has no value for two of them in one voxel; {cure}")
        return match

    def check_labels(self, cohort: Cohort) -> None:
        """Refuse predictions whose own `dataset.json` shares no region with the cohort, as in `match`.

        Raises:
            LabelError: The tables share no region; the message holds both.
        """
        self.match(cohort)


def read_labels(predictions: Path, *, option: str) -> LabelTable:
    """`Predictions.labels` of a folder.

    Raises:
        UsageError: The folder is absent, or it does not say what its labels mean.
    """
    return Predictions.open(predictions).labels(option=option)


def check_labels(predictions: Path, cohort: Cohort) -> None:
    """`Predictions.check_labels` of a folder."""
    Predictions(predictions).check_labels(cohort)


def predicted_keys(folder: Path) -> list[str]:
    """`Predictions.keys` of a folder."""
    return Predictions(folder).keys()


@dataclass(frozen=True, eq=False)
class Prediction:
    """One predicted case.

    Attributes:
        label_map: Label map (uint8) on the very grid of the image's files.
        uncertainty: Dice that the network expects of it, by region.
        probabilities: (channels, X, Y, Z) on the same grid, where they were asked for.
        note: Note for readers; mostly empty.
        bounds: Bounds by region, of a calibrated network; empty otherwise.
    """

    label_map: Volume
    uncertainty: Uncertainty
    probabilities: NDArray[np.floating[Any]] | None = None
    note: str = ""
    bounds: Bounds = field(default_factory=dict)


def write_prediction(path: Path, prediction: Prediction) -> None:
    """Write the label map, and the probabilities where there are some; those of an earlier run go.

    Args:
        path: File `FOLDER/KEY.nii.gz` of the label map; probabilities go to `FOLDER/probabilities/KEY.nii.gz`.
        prediction: What was predicted of the case.
    """
    probable = path.parent / PROBABILITIES / path.name
    if prediction.probabilities is not None:
        write_probabilities(probable, prediction.probabilities, prediction.label_map.affine_ras)
    else:
        probable.unlink(missing_ok=True)
    write_volume(path, prediction.label_map)


def write_labels(
    output_dir: Path,
    labels: LabelTable,
    *,
    channel_names: Sequence[str],
    made_with: Mapping[str, Any] | None = None,
) -> None:
    """Write the `dataset.json` that tells readers of the predictions what the values mean.

    Args:
        output_dir: Folder of the predictions.
        labels: Label table of the network.
        channel_names: Its image channels, in order.
        made_with: Options that changed the label maps, such as the clean-up; kept under `volseg`.
    """
    entries = {
        "channel_names": {str(i): name for i, name in enumerate(channel_names)},
        **labels.to_dataset_json(),
        "file_ending": FILE_ENDING,
    }
    entries["volseg"] |= dict(made_with or {})
    with atomic(output_dir / "dataset.json") as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n")

"""The cohort that a bundle or a package trains on by default: the phantom, written on first use."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from volseg.cohort import Cohort, cohort_note, write_cohort
from volseg.errors import CohortError
from volseg.labels import LabelTable
from volseg.remote import local

logger = logging.getLogger(__name__)


def open_cohort(folder: str | Path, *, embedded: str | Path | None = None) -> Cohort:
    """Open a cohort; where `folder` is the `embedded` default and absent, make the phantom cohort there first.

    A phantom cohort that was stopped half way is finished. Of a URL, such as s3://bucket/cohort, a copy is kept here.
    A cohort in which an earlier version let slices run to the head is told in the log.
    """
    folder = local(folder)
    raw = folder.parent / f"{folder.name}_raw"
    default = embedded is not None and folder.resolve() == Path(embedded).resolve()
    if default and (not folder.exists() or (raw.exists() and not (folder / "splits.json").is_file())):
        from volseg.datasets.phantom import write_phantom
        from volseg.formats import UwMadison

        logger.warning(
            "there is no cohort at %s: writing the embedded phantom there (synthetic, takes seconds)", folder
        )
        if not raw.exists():
            write_phantom(raw)
        result = write_cohort(UwMadison(raw), folder)
        if result.failed:
            raise CohortError(f"the phantom could not be written: {result.failed}")
    cohort = Cohort.open(folder)
    if note := cohort_note(cohort):
        logger.warning("%s", note)
    return cohort


class PackageCohort:
    """What a package knows of its cohort while none is named: enough to build its network, without any file.

    The cases may be handed over by another program, as MONAI Label does; then nothing else is asked for, and folder and
    digest are not stated. Or `cases` names a cohort of the same regions, which is trained on with the package's own
    network, window and spacing. Else, where a case is asked for, the embedded phantom answers from then on, which is
    written for that as for a bundle. So `monai.bundle.load` gives the package's own network and leaves nothing behind.

    Args:
        labels: Label table of the package.
        channel_names: Name per image channel.
        roi_size: Window in voxels.
        embedded: Folder of the phantom cohort, which may be absent.
        cases: Folder of a cohort to train on; None for none.

    Raises:
        CohortError: A case is needed, and the package has other regions or channels than the phantom; or the cohort
            has other regions, values or channels than the package.
    """

    def __init__(
        self,
        labels: LabelTable,
        channel_names: Sequence[str],
        roi_size: Sequence[int],
        *,
        embedded: str | Path,
        cases: str | Path | None = None,
    ) -> None:
        self.labels, self.channel_names = labels, tuple(channel_names)
        self._roi_size, self._embedded = [int(n) for n in roi_size], embedded
        self._opened = None if cases is None else self._checked(open_cohort(cases))

    @property
    def channels(self) -> int:
        """The number of image channels."""
        return len(self.channel_names)

    @property
    def folder(self) -> Path:
        """The folder of the cases."""
        return Path("not stated") if self._opened is None else self._opened.folder

    @property
    def digest(self) -> str:
        """The digest of the cases; empty while they are not known."""
        return "" if self._opened is None else self._opened.digest

    @property
    def provenance(self) -> dict[str, Any]:
        """What is known of the source of the cases."""
        return {} if self._opened is None else self._opened.provenance

    def longest_image_mm(self, *, fold: int | str) -> list[float] | None:
        """The largest lengths of the training images, see `volseg.cohort.Cohort`; None while they are not known."""
        return None if self._opened is None else self._opened.longest_image_mm(fold=fold)

    @property
    def flat(self) -> bool:
        """Whether the windows are one slice thick."""
        return 1 in self._roi_size

    def median_shape(self, spacing_mm: Sequence[float]) -> list[int]:
        """The window, in the place of a median of cases."""
        return list(self._roi_size) if len(spacing_mm) == len(self._roi_size) else []

    def __getattr__(self, name: str) -> Any:  # noqa: ANN401 - what a cohort has
        if name.startswith("_"):
            raise AttributeError(name)
        if self._opened is None:
            self._opened = self._phantom()
        return getattr(self._opened, name)

    def _checked(self, cohort: Cohort) -> Cohort:
        """The cohort, if its labels and channels mean what the package's do."""
        own, other = (table.to_dataset_json()["labels"] for table in (self.labels, cohort.labels))
        if own != other or len(cohort.channel_names) != len(self.channel_names):
            raise CohortError(
                f"{cohort.folder} has labels {other} and {len(cohort.channel_names)} channels, the package {own} and "
                f"{len(self.channel_names)}; convert it so, or name it with --dataset_dir for a network of its own"
            )
        return cohort

    def _phantom(self) -> Cohort:
        """The embedded phantom, if the package is of its regions."""
        from volseg.datasets.phantom import LABELS

        if self.labels.names != LABELS.names or len(self.channel_names) != 1:
            raise CohortError(
                f"this package segments {', '.join(self.labels.names)} and brings no cohort to train on; name yours "
                "with --dataset_dir"
            )
        return open_cohort(self._embedded, embedded=self._embedded)

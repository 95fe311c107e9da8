"""The first step of a two-step analysis: what finds the region, and what of it the second step sees and keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from volseg import bundle as bundles
from volseg.bundle import Member, members_of
from volseg.cohort import Predictions, read_labels
from volseg.errors import BundleError, UsageError
from volseg.labels import LabelMap, LabelTable
from volseg.metrics import Mask
from volseg.volume import Crop, Volume, grown

OUTSIDE = ("keep", "erase")
ABSENT = ("fail", "empty")


@dataclass(frozen=True)
class FirstStep:
    """What finds the region in which another network looks.

    The region is the union of some regions of the first step, on the grid of the image. The second step sees the box
    around the region and its margin, and keeps what lies in the region.

    Attributes:
        members: the networks that find it; none where `folder` holds it.
        folder: of label maps `KEY.nii.gz` that were made before.
        labels: what those label maps hold; of networks it is known once they are loaded.
        regions: their names; none for all.
        margin_mm: what lies this near to the region is seen too.
        outside: `keep` shows the box as it is; `erase` shows the lowest value of the box beyond the margin.
        keep_margin: keep what the second step finds in the margin as well.
        absent: where there is no such region, `fail`, or an `empty` label map.
    """

    members: tuple[Member, ...] = ()
    folder: Path | None = None
    labels: LabelTable | None = None
    regions: tuple[str, ...] = ()
    margin_mm: float = 10.0
    outside: str = "keep"
    keep_margin: bool = False
    absent: str = "fail"

    def __post_init__(self) -> None:
        for option, value, expected in (("outside", self.outside, OUTSIDE), ("absent", self.absent, ABSENT)):
            if value not in expected:
                raise UsageError(f"--{option} {value} was asked for, expected {' or '.join(expected)}")
        if not 0 <= self.margin_mm < 10_000:
            raise UsageError(f"--margin-mm {self.margin_mm:g} was asked for, expected millimetres from 0 on")
        if self.labels is not None:
            self.check(self.labels)

    @classmethod
    def parse(
        cls,
        within: str,
        *,
        regions: Sequence[str] = (),
        margin_mm: float = 10.0,
        outside: str = "keep",
        keep_margin: bool = False,
        absent: str = "fail",
    ) -> FirstStep:
        """From the words of the command line.

        Args:
            within: a folder of label maps with `dataset.json`, a cohort (its labels), `BUNDLE`, or `BUNDLE=CHECKPOINT`.
            regions: names, also several with commas.
            margin_mm: as in the class; so are the others.
            outside: of the box.
            keep_margin: of the answer.
            absent: what follows.

        Raises:
            UsageError: neither a bundle nor such a folder, no such region, or wrong options.
            CheckpointError: a checkpoint that is not there.
        """
        names = tuple(word.strip() for text in regions for word in text.split(",") if word.strip())
        options = (names, margin_mm, outside, keep_margin, absent)
        folder = Path(within)
        if not (folder / "dataset.json").is_file():
            return cls(tuple(members_of(*_bundle(within))), None, None, *options)
        place = folder / "labelsTr" if (folder / "labelsTr").is_dir() else folder
        return cls((), place, read_labels(folder, option="--within"), *options)

    def to_json(self) -> dict[str, Any]:
        """The options, for reports and dataset.json."""
        return {
            "regions": list(self.regions) or "all",
            "margin_mm": self.margin_mm,
            "outside": self.outside,
            "keep_margin": self.keep_margin,
            "absent": self.absent,
        }

    def check(self, labels: LabelTable) -> None:
        """Refuse regions that the first step does not have.

        Raises:
            UsageError: such a region.
        """
        for name in self.regions:
            if name not in labels.names:
                raise UsageError(f"--region {name} was asked for, the first step finds {', '.join(labels.names)}")

    def check_output(self, output: Path) -> None:
        """Refuse to write predictions over the label maps of the region.

        Raises:
            UsageError: they lie there.
        """
        if self.folder is not None and self.folder.resolve() == output.resolve():
            raise UsageError(f"{output} holds the label maps of --within; name another folder for the predictions")

    def told(self, labels: LabelTable) -> str:
        """The region in words."""
        return " and ".join(self.regions or labels.names)

    def path(self, key: str) -> Path | None:
        """The label map of a case, where it was made before."""
        return Predictions(self.folder).path(key) if self.folder is not None else None

    def crop(self, label_map: Volume, labels: LabelTable) -> tuple[Crop, Sight] | None:
        """The box around the region, and what of it is seen and kept; None where the region is empty.

        Args:
            label_map: of the first step, on the grid of the image.
            labels: what its values mean.

        Raises:
            UsageError: regions that the table does not have.
            LabelError: values that the table does not have.
        """
        self.check(labels)
        values = [v for r in labels.regions if not self.regions or r.name in self.regions for v in r.values]
        chosen = np.zeros(256, dtype=bool)
        chosen[values] = True
        checked: LabelMap = labels.check(label_map.voxels)
        region: Mask = chosen[checked]
        crop = Crop.around(region, spacing_mm=label_map.spacing_mm, margin_mm=self.margin_mm)
        if crop is None:
            return None
        kept = region[crop.box]
        if self.outside == "keep" and not self.keep_margin:
            return crop, Sight(None, kept)
        near = grown(kept, spacing_mm=label_map.spacing_mm, margin_mm=self.margin_mm)
        return crop, Sight(near if self.outside == "erase" else None, near if self.keep_margin else kept)


@dataclass(frozen=True, eq=False)
class Sight:
    """What the second step sees of a box, and what it keeps of its answer.

    Attributes:
        seen: (x, y, z); None for all.
        kept: (x, y, z).
    """

    seen: Mask | None
    kept: Mask

    def of(self, part: Volume) -> Volume:
        """The box of one channel, with its lowest value where nothing is to be seen."""
        if self.seen is None:
            return part
        return Volume(np.where(self.seen, part.voxels, part.voxels.min()), part.affine_ras)


def _bundle(word: str) -> tuple[str, list[Path]]:
    """The name and the checkpoints of `BUNDLE[=CHECKPOINT]`, if there is such a bundle."""
    name, _, path = word.partition("=")
    try:
        bundles.find(name)
    except BundleError as error:
        if Path(word).is_dir():
            raise UsageError(
                f"--within {word} is neither a bundle nor a folder of label maps with the dataset.json that "
                "`volseg predict` writes"
            ) from error
        raise BundleError(f"--within {word}: {error.message}") from error
    return name, [Path(path)] if path else []

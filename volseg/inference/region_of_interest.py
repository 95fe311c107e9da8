"""The first step of a two-step analysis: it finds the region, and says what of it the second step sees and keeps."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg import bundle as bundles
from volseg.bundle import Member, members_of
from volseg.cohort import Predictions, read_labels
from volseg.errors import BundleError, UsageError
from volseg.labels import LabelMap, LabelTable
from volseg.volume import Crop, Volume, grown

OUTSIDE = ("keep", "erase")
ABSENT = ("fail", "empty")


@dataclass(frozen=True)
class RegionOfInterest:
    """The settings of the first step, which finds the region to which another network is restricted.

    The region is the union of some regions of the first step, on the grid of the image. The second step sees the box
    around the region and its margin, and keeps what lies in the region.

    Attributes:
        members: Networks that find the region; none if `folder` holds it.
        folder: Folder of label maps `KEY.nii.gz` that were made before; None if networks find the region.
        labels: Labels of those label maps; those of networks are known once they are loaded.
        regions: Names of the regions whose union is taken; none for all.
        margin_mm: Margin around the region, in mm, that the second step sees too.
        outside: `keep` shows the box as it is; `erase` shows the lowest value of the box beyond the margin.
        keep_margin: Whether what the second step finds in the margin is kept as well.
        absent: What happens if there is no such region: `fail`, or an `empty` label map.
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
                raise UsageError(f"--{option} must be {' or '.join(expected)}, got {value}")
        if not 0 <= self.margin_mm < 10_000:
            raise UsageError(f"--margin-mm must be at least 0 mm and below 10,000 mm, got {self.margin_mm:g}")
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
    ) -> RegionOfInterest:
        """Build a first step from the options of the command line.

        Args:
            within: Folder of label maps with `dataset.json`, a cohort (its labels), `BUNDLE`, or `BUNDLE=CHECKPOINT`.
            regions: Names of regions, each of which may hold several, separated by commas.
            margin_mm: Margin around the region in mm.
            outside: What the second step sees beyond the margin, `keep` or `erase`.
            keep_margin: Whether what is found in the margin is kept.
            absent: What happens without such a region, `fail` or `empty`.

        Raises:
            UsageError: `within` is neither a bundle nor such a folder, a region is unknown, or an option is wrong.
            CheckpointError: The checkpoint is not there.
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
            UsageError: The first step does not have one of the regions.
        """
        for name in self.regions:
            if name not in labels.names:
                raise UsageError(
                    f"--region must be one that the first step finds ({', '.join(labels.names)}), got {name}"
                )

    def check_output(self, output: Path) -> None:
        """Refuse to write predictions over the label maps of the region.

        Raises:
            UsageError: The label maps lie in that folder.
        """
        if self.folder is not None and self.folder.resolve() == output.resolve():
            raise UsageError(
                f"-o must be another folder than that of the label maps of --within, got {output}; name another one"
            )

    def told(self, labels: LabelTable) -> str:
        """The region in words."""
        return " and ".join(self.regions or labels.names)

    def path(self, key: str) -> Path | None:
        """The path of a case's label map, if it was made before."""
        return Predictions(self.folder).path(key) if self.folder is not None else None

    def crop(self, label_map: Volume, labels: LabelTable) -> tuple[Crop, RoiMasks] | None:
        """The box around the region, and what of it is seen and kept; None if the region is empty.

        Args:
            label_map: Label map of the first step, on the grid of the image.
            labels: Labels of its values.

        Raises:
            UsageError: The table lacks one of the regions.
            LabelError: The label map has a value that the table lacks.
        """
        self.check(labels)
        values = [v for r in labels.regions if not self.regions or r.name in self.regions for v in r.values]
        chosen = np.zeros(256, dtype=bool)
        chosen[values] = True
        checked: LabelMap = labels.check(label_map.voxels)
        region: NDArray[np.bool_] = chosen[checked]
        crop = Crop.around(region, spacing_mm=label_map.spacing_mm, margin_mm=self.margin_mm)
        if crop is None:
            return None
        kept = region[crop.box]
        if self.outside == "keep" and not self.keep_margin:
            return crop, RoiMasks(None, kept)
        near = grown(kept, spacing_mm=label_map.spacing_mm, margin_mm=self.margin_mm)
        return crop, RoiMasks(near if self.outside == "erase" else None, near if self.keep_margin else kept)


@dataclass(frozen=True, eq=False)
class RoiMasks:
    """The voxels of a box that the second step sees, and those whose labels are kept.

    Attributes:
        seen: Mask (x, y, z) of the voxels that are shown; None for all.
        kept: Mask (x, y, z) of the voxels whose labels are kept.
    """

    seen: NDArray[np.bool_] | None
    kept: NDArray[np.bool_]

    def of(self, part: Volume) -> Volume:
        """The box of one channel, with its lowest value in all voxels that are not shown."""
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
                "--within must be a bundle, or a folder of label maps with the dataset.json that `volseg predict` "
                f"writes, got {word}"
            ) from error
        raise BundleError(f"--within {word}: {error.message}") from error
    return name, [Path(path)] if path else []

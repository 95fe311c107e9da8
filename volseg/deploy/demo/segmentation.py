"""One segmentation of the demo: the files of a case in, label map, .seg.nrrd and numbers out."""

from __future__ import annotations

import itertools
import threading
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from volseg.cohort import FILE_ENDING, Cohort, RegionBounds, read_label_map, write_prediction
from volseg.deploy.demo.abandon import check_there, until_left
from volseg.errors import LabelError
from volseg.evaluation import STANDARD, RegionScores, score_case
from volseg.formats import write_segmentation
from volseg.inference import Predictor, channel_order, read_image
from volseg.labels import LabelTable
from volseg.metrics import added_path_length_mm
from volseg.pictures import PLANES, CaseView, Plane, plane_of_slices, window_of, write_volumes
from volseg.volume import RGB, UNMEASURED, Volume, check_axes, slice_axis

VOLUMES = "volumes.json"


@dataclass(frozen=True)
class RegionResult:
    """The numbers of one region.

    Attributes:
        name: Name of the region.
        colour: Colour, RGB, 0 to 255.
        predicted_ml: Volume of the prediction in ml.
        expected_dice: Dice that the network expects of itself; None if it found nothing.
        score: Scores against the reference; None without one.
        by_hand_minutes: Minutes for drawing the reference's contours, by the model of `metrics.effort`.
        bounds: Bounds that a calibrated network gives; None without a calibration.
    """

    name: str
    colour: tuple[int, int, int]
    predicted_ml: float
    expected_dice: float | None = None
    score: RegionScores | None = None
    by_hand_minutes: float | None = None
    bounds: RegionBounds | None = None

    @property
    def saved_minutes(self) -> float | None:
        """Minutes of drawing by hand minus those of correcting the prediction; None without a reference."""
        if self.score is None or self.score.correction_minutes is None or self.by_hand_minutes is None:
            return None
        return self.by_hand_minutes - self.score.correction_minutes


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmented case.

    Attributes:
        key: Key of the case.
        what: Source of the image, for people.
        labels: Label table of the regions.
        image: Channels (C, X, Y, Z) of the image.
        prediction: Label map of the prediction, uint8.
        reference: Label map of the reference, uint8, with no region where nobody looked, or None.
        regions: Results of the regions, in the order of the table.
        seconds: Seconds that the network took, with reading and deciding.
        channel_names: One name per channel.
        measured: Whether the spacing is known.
        folder: Folder of its files.
    """

    key: str
    what: str
    labels: LabelTable
    image: Sequence[Volume]
    prediction: Volume
    reference: Volume | None
    regions: tuple[RegionResult, ...]
    seconds: float
    channel_names: tuple[str, ...]
    measured: bool
    folder: Path
    _shown: dict[Plane, CaseView] = field(default_factory=dict, init=False, repr=False)

    @property
    def files(self) -> tuple[str, str]:
        """Names of the files to download: the label map, and the segmentation for 3D Slicer."""
        return f"{self.key}{FILE_ENDING}", f"{self.key}.seg.nrrd"

    @property
    def flat(self) -> bool:
        """Whether the case is a single slice."""
        return 1 in self.prediction.shape

    @property
    def plane(self) -> Plane:
        """The plane in which the case is shown first: that of a single slice, else the axial one."""
        return plane_of_slices(self.prediction.affine_ras, self.prediction.shape) if self.flat else PLANES[0]

    def case_view(self, plane: Plane) -> CaseView:
        """The case as it is shown in a plane; that of the last plane is kept, as one slice after the other is asked."""
        found = self._shown.get(plane)
        if found is None:
            self._shown.clear()
            found = self._shown[plane] = self._case_view(plane)
        return found

    def _case_view(self, plane: Plane) -> CaseView:
        first = self.image[0]
        colours = self.channel_names == RGB
        return CaseView.of(
            np.stack([channel.voxels for channel in self.image]) if colours else first.voxels,
            first.affine_ras,
            self.labels,
            reference=None if self.reference is None else self.reference.voxels,
            prediction=self.prediction.voxels,
            name=self.key,
            plane=plane,
            window=window_of(self.channel_names[0]),
            measured=self.measured,
        )


@dataclass(frozen=True, eq=False)
class Segmenter:
    """A loaded network, and the cohort whose cases can be picked.

    Attributes:
        predictor: Predictor with the network.
        cohort: Cohort whose cases can be picked, or None.
        axes: Directions of columns, rows and slices of uploaded slices and images; None for the default of `convert`.

    Raises:
        LabelError: The cohort has other regions than the network.
        UsageError: The axes are invalid.
    """

    predictor: Predictor
    cohort: Cohort | None = None
    axes: str | None = None

    def __post_init__(self) -> None:
        if self.axes is not None:
            check_axes(self.axes)
        recipe = self.predictor.recipe
        if self.cohort is None:
            return
        if self.cohort.labels.digest != recipe.labels.digest:
            raise LabelError(
                f"the network segments {list(recipe.labels.names)}, the cohort has {list(self.cohort.labels.names)} "
                "with other names, values or in another order; name the cohort it was trained on, or none"
            )
        if self.cohort.channels != len(recipe.image_channels):
            raise LabelError(
                f"the network takes {len(recipe.image_channels)} channels, the cohort has {self.cohort.channels}; "
                "name another"
            )
        if self.cohort.channels > 1:
            channel_order(self.cohort.channel_names, recipe.image_channels, source=f"the cohort {self.cohort.folder}")

    def case(self, key: str, folder: Path, *, left: threading.Event | None = None) -> Segmentation:
        """Segment a case of the cohort, and score it if it has a reference.

        Args:
            key: Key of the case.
            folder: Folder for the files.
            left: Event that ends the work at the next window, see `segment`.

        Raises:
            VolsegError: The case cannot be segmented.
        """
        if self.cohort is None:
            raise LabelError("no cohort was named at the start; upload a file")
        measured = UNMEASURED not in self.cohort.rows[key].warnings if key in self.cohort.rows else True
        paths = self.cohort.image_paths(key)
        wanted = self.predictor.recipe.image_channels
        if len(wanted) > 1:
            order = channel_order(self.cohort.channel_names, wanted, source=f"the cohort {self.cohort.folder}")
            paths = [paths[place] for place in order]
        scored = key in self.cohort.labelled
        return self.segment(
            *(key, paths, folder),
            what=f"case of {self.cohort.folder.name}",
            measured=measured,
            scored=scored,
            left=left,
        )

    def segment(
        self,
        key: str,
        files: Sequence[Path],
        folder: Path,
        *,
        what: str,
        measured: bool = True,
        scored: bool = False,
        left: threading.Event | None = None,
    ) -> Segmentation:
        """Segment files as `volseg predict` does, and write the files for the visitor.

        Args:
            key: Key of the case.
            files: One file per channel.
            folder: Folder for `KEY.nii.gz`, `KEY.seg.nrrd` and, unless the case is flat, `volumes.json` for the viewer.
            what: Source of the image, for people.
            measured: Whether the spacing is known.
            scored: Whether the cohort has a reference of this key.
            left: Event that is set when the visitor leaves: no further window is computed, and nothing is written.

        Raises:
            LeftError: The visitor has left.
            VolsegError: A file cannot be read or used.
        """
        left = left or threading.Event()
        start = time.perf_counter()
        prediction = until_left(self.predictor, left).predict(files, key=key)
        check_there(left)
        seconds = time.perf_counter() - start
        write_prediction(folder / f"{key}{FILE_ENDING}", prediction)
        labels, label_map = self.predictor.recipe.labels, prediction.label_map
        write_segmentation(folder / f"{key}.seg.nrrd", label_map, labels)
        image = [read_image(file) for file in files]
        reference, rows, compared = None, {}, label_map
        if scored and self.cohort is not None and (path := self.cohort.label_path(key)) is not None:
            reference = read_label_map("reference", path, image[0], self.cohort.labels)
            if (ignored := self.cohort.labels.ignored(reference.voxels)) is not None:  # nobody looked there
                reference, compared = (
                    Volume(np.where(ignored, np.uint8(0), one.voxels), one.affine_ras) for one in (reference, label_map)
                )
            scores = score_case(key, folder, self.cohort, known=frozenset(self.cohort.keys), method=STANDARD)
            rows = {row.region: row for row in scores}
        regions = []
        none = itertools.repeat(None)
        truths = none if reference is None else labels.each_mask(reference.voxels)
        across = slice_axis(label_map.affine_ras, label_map.shape)
        for region, mask, truth in zip(labels.regions, labels.each_mask(label_map.voxels), truths, strict=False):
            by_hand = None
            if truth is not None:
                nothing = np.zeros_like(truth)
                path_mm = added_path_length_mm(nothing, truth, label_map.spacing_mm, slice_axis=across)
                by_hand = path_mm / 1000 * STANDARD.minutes_per_metre
            regions.append(
                RegionResult(
                    region.name,
                    region.colour,
                    int(np.count_nonzero(mask)) * label_map.voxel_ml,
                    prediction.uncertainty.get(region.name),
                    rows.get(region.name),
                    by_hand,
                    prediction.bounds.get(region.name),
                )
            )
        done = Segmentation(
            key=key,
            what=what,
            labels=labels,
            image=image,
            prediction=label_map,
            reference=reference,
            regions=tuple(regions),
            seconds=seconds,
            channel_names=tuple(self.predictor.recipe.image_channels),
            measured=measured,
            folder=folder,
        )
        if not done.flat:
            window = window_of(done.channel_names[0])
            write_volumes(folder / VOLUMES, image[0], labels, prediction=compared, reference=reference, window=window)
        return done

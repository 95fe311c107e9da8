"""Segmenting: an item becomes the files of its folder, a label map and, on request, DICOM objects for the archive."""

from __future__ import annotations

import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.bundle import tell_networks
from volseg.cohort import FILE_ENDING, RegionBounds, read_labels, with_descriptions
from volseg.deploy.watch.item import Item
from volseg.errors import SourceError, UsageError
from volseg.inference import group_files, other_modality
from volseg.jobs import Do, Facts, Job, Predicting
from volseg.labels import LabelTable
from volseg.volume import read_volume

if TYPE_CHECKING:
    from volseg.dicom import Stack


@dataclass(frozen=True)
class Segmenting:
    """The work on an item, with a loaded network.

    Attributes:
        predict: Function that writes the label map of a job.
        work: Networks and their options.
        labels: Label table of the regions.
        dicom_seg: Whether a DICOM Segmentation of a series is written too.
        rtstruct: Whether an RT Structure Set of a series is written too.
        channel_names: Names of the network's channels, by which the channels of NIfTI files are found.
    """

    predict: Do
    work: Predicting
    labels: LabelTable
    dicom_seg: bool = False
    rtstruct: bool = False
    channel_names: Sequence[str] = ()

    def __call__(self, item: Item, folder: Path, name: str) -> Facts:
        """Write `NAME.nii.gz`, `NAME.seg.dcm` and `NAME.rtstruct.dcm` into the folder, and what else was asked for.

        Raises:
            VolsegError: The item has an error.
        """
        if item.error is not None:
            raise SourceError(item.error)
        path = folder / f"{name}{FILE_ENDING}"
        with tempfile.TemporaryDirectory(prefix="volseg-dicom-") as place:
            files = item.files
            if item.series is not None:
                from volseg.dicom import write_list

                one = write_list(
                    Path(place), item.key, files, record=item.record, choice=item.choice, secret=item.secret
                )
                files = (one,)
            elif self.channel_names:
                files = self._in_order(files)
            facts: dict[str, Any] = dict(self.predict(Job(item.key, files, self.work.outputs(folder, name))))
        notes = [facts.get("note", ""), self._other_modality(item)]
        stack = self._stack(item)
        notes += [] if stack is None else stack.warnings
        if self.dicom_seg or self.rtstruct:
            notes.append(self._write_objects(stack, path, facts.get("bounds") or {}))
        if any(notes):
            facts["note"] = "; ".join(note for note in notes if note)
        return facts

    def _other_modality(self, item: Item) -> str:
        """The note on a series of another modality than that of the network's only channel."""
        if item.series is None or len(self.channel_names) != 1:
            return ""
        return other_modality(item.series.modality, self.channel_names[0])

    def _in_order(self, files: tuple[Path, ...]) -> tuple[Path, ...]:
        """Order the files by channel, one file per channel.

        Raises:
            SourceError: A file is missing; its name is not told, since it may be a patient's.
        """
        cases = group_files(files, channels=self.channel_names)
        found = tuple(cases[0][1]) if len(cases) == 1 else files
        absent = [f"_{number:04d}" for number, file in enumerate(found) if file not in files]
        if absent:
            raise SourceError(
                f"the network takes the channels {', '.join(self.channel_names)}, and the file {' and '.join(absent)} "
                "is not there; drop it beside _0000"
            )
        return found

    def _stack(self, item: Item) -> Stack | None:
        """The slices of a series, with what a reader should know of them."""
        from volseg.dicom import read_stack

        return None if item.series is None else read_stack(item.series, choice=item.choice)

    def _write_objects(self, stack: Stack | None, path: Path, bounds: Mapping[str, Mapping[str, Any]]) -> str:
        """Write the DICOM objects of a label map; returns the reason if there are none."""
        from volseg.dicom import place, write_dicom_seg, write_rtstruct

        if stack is None:
            return "no DICOM series, so no DICOM object"
        label = read_volume(path)
        if not label.voxels.any():
            return "no region was found, so no DICOM object"
        target = place(label, stack)
        labels = with_descriptions(self.labels, {name: RegionBounds(**one) for name, one in bounds.items()})
        stem = path.name.removesuffix(FILE_ENDING)
        if self.dicom_seg:
            write_dicom_seg(path.with_name(f"{stem}.seg.dcm"), target, labels)
        if self.rtstruct:
            write_rtstruct(path.with_name(f"{stem}.rtstruct.dcm"), target, labels)
        return ""


def load_segmenting(
    output: Path, asked: Predicting, *, flips: str = "none", dicom_seg: bool = False, rtstruct: bool = False
) -> Segmenting:
    """Load the networks, and write the meaning of the values into `dataset.json` of the outputs.

    Args:
        output: Folder of the outputs.
        asked: Networks and their options.
        flips: Mirror images, see `volseg.inference.flip_axes`.
        dicom_seg: Whether a DICOM Segmentation is written, see `Segmenting`.
        rtstruct: Whether an RT Structure Set is written, see `Segmenting`.

    Raises:
        VolsegError: The networks cannot be loaded.
        UsageError: The existing outputs have other labels.
    """
    from volseg.cohort import write_labels
    from volseg.jobs import doing

    predictor = asked.load(asked.device, flips=flips)
    tell_networks([*predictor.first_networks, *predictor.networks])
    labels = predictor.recipe.labels
    if (output / "dataset.json").is_file() and read_labels(output, option="OUT").digest != labels.digest:
        raise UsageError(f"{output} holds outputs of a network with other labels; name another folder")
    work = asked.of(predictor)
    predictor = predictor.with_engine(asked.engine)
    write_labels(output, labels, channel_names=predictor.recipe.image_channels, made_with=work.made_with(labels))
    return Segmenting(doing(predictor), work, labels, dicom_seg, rtstruct, tuple(predictor.recipe.image_channels))

"""Reader of DICOM: any folder tree with CT, MR or PET series, and the RTSTRUCT and DICOM SEG objects drawn on them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path

from volseg.cohort import Case, raw_note
from volseg.dicom.channels import Combined, combine, parse_channels
from volseg.dicom.choice import Choice
from volseg.dicom.drawing import Drawing, read_drawing
from volseg.dicom.identity import KEY, STUDY_KEY, Identity, identify, word
from volseg.dicom.image import read_stack
from volseg.dicom.images import Images, Part, draw_case, read_images, read_labels
from volseg.dicom.index import PACKED, picture_note, scan
from volseg.dicom.labels import OVERLAPPING, label_table, of_several_codes, regions_of, rules_of, spelled
from volseg.dicom.matching import match
from volseg.dicom.names import parse_rules
from volseg.dicom.record import record_of, volume_key
from volseg.errors import SourceError, UsageError, VolsegError
from volseg.labels import LabelTable, RegionCanvas, overlaps_that_occur
from volseg.volume import Volume, with_provenance

logger = logging.getLogger(__name__)


class Dicom:
    """The series of a folder tree, each a case; nothing that it yields names a patient, unless that is asked for.

    Series are found by their UID, whatever files and folders are called. What was never meant as a volume (localizers,
    single images, colour images, reports) is left aside and counted in the log. What is a volume and cannot be read,
    a series with a slice missing for instance, is a case that fails with the reason. So is every damaged file.

    Numbers are rescaled as each slice says: Hounsfield units for CT, for PET mostly Bq/ml; no SUV is computed.

    Args:
        raw: the folder.
        modality: only `CT`, `MR`, `PT`; needed where there are several.
        series: only series whose description matches this regular expression, whatever its case.
        labels: `PATTERN=NAME` or `NAME`, separated by commas: which regions are labels, and what they are called.
        key: pattern of the case keys, see `volseg.dicom.identify`.
        secret: makes the words that stand for patients and series unknowable to who does not have it.
        keep_ids: patient IDs and file names may stand in tables and messages.
        carry_over: whether outlines and segmentations of another series of the patient, on another day perhaps, label a
            series that has none, where they lie on its grid.
        echo, phase, b_value, image_type, where: which volume is meant where a series holds several, see `Choice`.
        channels: `NAME=PATTERN` of the series of a study and day that are the channels of a case, separated by commas,
            see `parse_channels`; keys are then `{patient}_{study}`.
        resample_channels: channels on other grids than the first are resampled to it.
        overlaps: every overlap of more than 8 regions is kept: all drawings are read once more, beforehand, for the
            combinations that occur. Up to 8 regions keep their overlaps without it.
        progress: function that is called with (cases done, cases in all) while they are read for that.

    Raises:
        UsageError: no such folder, or options that fit nothing in it.
        SourceError: no series that can be a volume.
    """

    kind = "dicom"

    def __init__(
        self,
        raw: str | Path,
        *,
        modality: str | None = None,
        series: str | None = None,
        labels: Sequence[str] = (),
        key: str = KEY,
        secret: str = "",
        keep_ids: bool = False,
        carry_over: bool = False,
        echo: str | None = None,
        phase: str | None = None,
        b_value: str | None = None,
        image_type: str | None = None,
        where: Sequence[str] = (),
        channels: Sequence[str] = (),
        resample_channels: bool = False,
        overlaps: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self.raw = Path(raw)
        self._choice = Choice.of(echo=echo, phase=phase, b_value=b_value, image_type=image_type, where=where)
        self._keep_ids = keep_ids
        self._rules = parse_rules(labels)
        self._channels = parse_channels(channels)
        self._resample = resample_channels
        if self._channels and self._choice:
            raise UsageError("with --channels, what is chosen of a series stands in it, as DWI=*dwi*@b-value=800")
        index = scan(self.raw, choices=[self._choice, *(channel.choice for channel in self._channels)])
        chosen = index.chosen(modality=modality, description=series, mixed=bool(self._channels))
        if self._channels:
            combined = combine(chosen, self._channels, keep_ids=keep_ids)
            key = STUDY_KEY if key == KEY else key
        else:
            combined = [Combined((item,)) for item in chosen]
        identities = identify(
            [item.first for item in combined], among=index.series, key=key, secret=secret, keep_ids=keep_ids
        )
        self._cases: dict[str, tuple[Combined, Identity]] = {
            identity.key: (item, identity) for item, identity in zip(combined, identities, strict=True)
        }
        self._volume_key = volume_key(secret)
        self._records = {key: record_of(item.first, secret=secret) for key, (item, _) in self._cases.items()}
        self._damaged: dict[str, str] = {}
        drawings: list[Drawing] = []
        for instance in (*index.outlines, *index.segmentations):
            try:
                drawings.append(read_drawing(instance))
            except SourceError as error:
                index.unreadable[instance.name] = error.message
        for name, reason in sorted(index.unreadable.items()):
            told = f"{name}: {reason}" if keep_ids else f"{reason} (--keep-ids tells the file)"
            self._damaged[word(name, letter="damaged_", length=12, secret=secret)] = told
        if not self._cases and not self._damaged:
            note = raw_note(self.raw)
            note = "" if not note or "convert dicom" in note else f"; {note}"  # which was tried here
            note = note or picture_note(index.skipped)
            raise SourceError(f"{self.raw} holds no DICOM series that can be a volume{_told(index.skipped)}{note}")
        if index.skipped:
            logger.info("left aside%s", _told(index.skipped))
        empty = sum(not drawing.rois for drawing in drawings)
        if empty:
            logger.warning(
                "%d RTSTRUCT or DICOM SEG objects hold no closed outline or segment with a name; they label nothing",
                empty,
            )
        of_cases = [[part for part in item.parts if part is not None] for item in combined if not item.problem]
        taken = [part for parts in of_cases for part in parts]
        matched = match(drawings, index, chosen=taken, together=of_cases, carry_over=carry_over)
        used = [found.drawing for part in taken for found in matched.of(part)]
        self._named = rules_of(used, self._rules)
        self.labels: LabelTable = label_table(used, self._named)
        # A drawing of other things than those asked for is no label: what it leaves out is not known to be absent.
        self._drawings = {
            key: [
                [found for found in matched.of(part) if regions_of(found.drawing, self._named)]
                for part in item.parts
                if part is not None
            ]
            for key, (item, _) in self._cases.items()
        }
        self._left = {
            key: [told for part in item.parts if part is not None for told in matched.left_of(part)]
            for key, (item, _) in self._cases.items()
        }
        if overlaps and len(self.labels.regions) > OVERLAPPING:
            keys = [key for key in self._cases if self.labelled(key)]
            self.labels = self.labels.with_overlaps(overlaps_that_occur(keys, self._drawn_alone, progress=progress))
        of_none = [f"{note}; it labels nothing" for item in drawings if not item.rois for note in item.notes]
        packed = index.skipped[PACKED]
        unopened = [f"{packed} archives (.zip, .gz and others) lie in the folder and were not opened; unpack them"]
        doubtful = of_several_codes(used, self._named)
        for note in doubtful:
            logger.warning("%s", note)
        self.warnings = tuple(dict.fromkeys([*matched.lost, *of_none, *doubtful, *(unopened if packed else [])]))
        names = tuple(channel.name for channel in self._channels)
        self.channel_names: tuple[str, ...] = names or ((chosen[0].modality if chosen else "") or "image",)

    def keys(self) -> Sequence[str]:
        """The keys of all series and of all damaged files, sorted."""
        return sorted([*self._cases, *self._damaged])

    def labelled(self, key: str) -> bool:
        """Whether an RTSTRUCT or DICOM SEG holds a region of the table for a series of the case."""
        return any(self._drawings.get(key, ()))

    def digest(self, key: str) -> str:
        """Changes with any file of the series or its drawings, and with the patient, the session, table or options."""
        combined, identity = self._case(key)
        series = [part for part in combined.parts if part is not None]
        matches = [found for some in self._drawings[key] for found in some]
        drawings = [found.drawing.instance for found in matches]
        facts: list[object] = [self.kind, 2, identity.patient, identity.session, self.labels.digest, self._rules]
        facts += [str(self._records[key]), self._left[key], [found.note for found in matches]]
        if self._choice:
            facts.append(self._choice.to_json())
        if self._channels:
            facts.append([[[channel.name, channel.choice.to_json()] for channel in self._channels], self._resample])
        if any(item.part or item.first.mosaic for item in series):
            facts.append("apart")  # which earlier versions did not take apart
        if told := [*identity.warnings, *(warning for item in series for warning in item.warnings)]:
            facts.append(told)  # what the other files of the folder say of the case; they may be mended or added to
        for instance in (*(instance for item in series for instance in item.instances), *drawings):
            try:
                stat = instance.path.stat()
            except OSError as error:
                raise SourceError(f"a file of the series cannot be opened ({error.strerror})") from error
            facts.append([instance.sop_uid, stat.st_size, stat.st_mtime_ns])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def load(self, key: str) -> Case:
        """Read the series of a case and their labels, on the grid of its slices: columns, rows, and along the normal.

        Raises:
            SourceError, GeometryError, LabelError: a series or a drawing is refused; the message says why.
        """
        combined, identity = self._case(key)
        first = combined.first
        try:
            images = read_images(self._parts(combined), resample=self._resample)
            warnings = [*identity.warnings, *images.warnings, *self._left[key]]
            label = None
            if self.labelled(key):
                drawings = self._drawings[key]
                if not self._rules:
                    warnings += spelled([found.drawing for some in drawings for found in some], self._named)
                label, told = read_labels(drawings, images, self.labels, self._named)
                warnings += told
        except VolsegError as error:
            if self._keep_ids:
                raise type(error)(f"{error.message} ({first.first.name})", case=key) from error
            raise error.of_case(key) from error
        record = self._records[key].of_values(images.volumes[0], key=self._volume_key)
        return Case(
            key,
            identity.patient,
            identity.session,
            tuple(Volume(one.voxels, with_provenance(one.affine_ras, str(record))) for one in images.volumes),
            label,
            self._source(combined, images),
            tuple(dict.fromkeys(warnings)),
            units=images.units,
        )

    def _drawn_alone(self, key: str) -> RegionCanvas:
        """The regions of a case; the pixels of a single series are not read for them."""
        parts = self._parts(self._cases[key][0])
        drawings, names = self._drawings[key], self.labels.names
        if len(parts) == 1:
            stack = read_stack(parts[0].series, choice=parts[0].choice)
            return draw_case(drawings, [stack], [False], names, self._named)[0]
        images = read_images(parts, resample=self._resample)
        return draw_case(drawings, images.stacks, images.moved, names, self._named)[0]

    def _parts(self, combined: Combined) -> list[Part]:
        if combined.problem:
            raise SourceError(combined.problem)
        if not self._channels:
            return [Part("", combined.first, self._choice)]
        return [
            Part(channel.name, series, channel.choice)
            for channel, series in zip(self._channels, combined.parts, strict=True)
            if series is not None
        ]

    def _source(self, combined: Combined, images: Images) -> str:
        """Where a case came from, in words."""
        told = []
        for part, moved in zip(self._parts(combined), images.moved, strict=True):
            count, modality = len(part.series.instances), part.series.modality or "DICOM"
            words = [
                f"{modality} image" if part.series.first.projection else f"{modality} series of {count} files",
                part.choice.told,
            ]
            words += ["resampled"] if moved else []
            told.append(f"{part.name} " * bool(part.name) + ", ".join(filter(None, words)))
        source = " + ".join(told)
        if self._keep_ids:
            source += f" in {combined.first.first.name.rpartition('/')[0] or '.'}"
        return source

    def _case(self, key: str) -> tuple[Combined, Identity]:
        if key in self._damaged:
            raise SourceError(self._damaged[key], case=key)
        return self._cases[key]


def _told(skipped: dict[str, int]) -> str:
    return ": " + ", ".join(f"{count} {what}" for what, count in sorted(skipped.items())) if skipped else ""

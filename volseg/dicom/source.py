"""Reader of DICOM: any folder tree with CT, MR or PET series, and the RTSTRUCT and DICOM SEG objects drawn on them."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Sequence
from pathlib import Path

from volseg.cohort import Case, raw_note
from volseg.dicom.choice import Choice
from volseg.dicom.identity import KEY, Identity, identify, word
from volseg.dicom.image import read_image, read_stack
from volseg.dicom.index import scan
from volseg.dicom.instance import Series
from volseg.dicom.labels import Drawing, label_table, match, read_drawing, read_label, regions_of, rules_of, spelled
from volseg.dicom.names import parse_rules
from volseg.dicom.record import record_of
from volseg.errors import SourceError, VolsegError
from volseg.labels import LabelTable
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
        echo: str | None = None,
        phase: str | None = None,
        b_value: str | None = None,
        image_type: str | None = None,
        where: Sequence[str] = (),
    ) -> None:
        self.raw = Path(raw)
        self._choice = Choice.of(echo=echo, phase=phase, b_value=b_value, image_type=image_type, where=where)
        self._keep_ids = keep_ids
        self._rules = parse_rules(labels)
        index = scan(self.raw)
        chosen = index.chosen(modality=modality, description=series)
        identities = identify(chosen, among=index.series, key=key, secret=secret, keep_ids=keep_ids)
        self._cases: dict[str, tuple[Series, Identity]] = {
            identity.key: (item, identity) for item, identity in zip(chosen, identities, strict=True)
        }
        self._records = {key: str(record_of(item, secret=secret)) for key, (item, _) in self._cases.items()}
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
            note = "; " + note if (note := raw_note(self.raw)) else ""
            raise SourceError(f"{self.raw} holds no DICOM series that can be a volume{_told(index.skipped)}{note}")
        if index.skipped:
            logger.info("left aside%s", _told(index.skipped))
        empty = sum(not drawing.rois for drawing in drawings)
        if empty:
            logger.warning(
                "%d RTSTRUCT or DICOM SEG objects hold no closed outline and no segment; they label nothing", empty
            )
        matched = match(drawings, index)
        used = [drawing for item in chosen for drawing, _ in matched.get(item.first.name, [])]
        self._named = rules_of(used, self._rules)
        self.labels: LabelTable = label_table(used, self._named)
        # A drawing of other things than those asked for is no label: what it leaves out is not known to be absent.
        self._drawings = {
            key: [pair for pair in matched.get(item.first.name, []) if regions_of(pair[0], self._named)]
            for key, (item, _) in self._cases.items()
        }
        self.channel_names: tuple[str, ...] = (chosen[0].modality or "image",) if chosen else ("image",)

    def keys(self) -> Sequence[str]:
        """The keys of all series and of all damaged files, sorted."""
        return sorted([*self._cases, *self._damaged])

    def labelled(self, key: str) -> bool:
        """Whether an RTSTRUCT or DICOM SEG holds a region of the table for the series."""
        return bool(self._drawings.get(key))

    def digest(self, key: str) -> str:
        """Changes with any file of the series or its drawings, and with the patient, the session or the table."""
        series, identity = self._case(key)
        drawings = [drawing.instance for drawing, _ in self._drawings[key]]
        facts: list[object] = [self.kind, 1, identity.patient, identity.session, self.labels.digest, self._rules]
        for instance in (*series.instances, *drawings):
            try:
                stat = instance.path.stat()
            except OSError as error:
                raise SourceError(f"a file of the series cannot be opened ({error.strerror})") from error
            facts.append([instance.sop_uid, stat.st_size, stat.st_mtime_ns])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def load(self, key: str) -> Case:
        """Read one series and its labels, on the grid of its slices: columns, rows, and along the normal.

        Raises:
            SourceError, GeometryError, LabelError: the series or a drawing is refused; the message says why.
        """
        series, identity = self._case(key)
        try:
            stack = read_stack(series, choice=self._choice)
            volume = read_image(stack)
            volume = Volume(volume.voxels, with_provenance(volume.affine_ras, self._records[key]))
            warnings = [*identity.warnings, *stack.warnings]
            label = None
            if self.labelled(key):
                if not self._rules:
                    warnings += spelled(self._drawings[key], self._named)
                label, told = read_label(self._drawings[key], stack, self.labels, self._named)
                warnings += told
        except VolsegError as error:
            if self._keep_ids:
                raise type(error)(f"{error.message} ({series.first.name})", case=key) from error
            raise error.of_case(key) from error
        source = f"{series.modality or 'DICOM'} series of {len(series.instances)} files"
        if self._keep_ids:
            source += f" in {series.first.name.rpartition('/')[0] or '.'}"
        return Case(
            key, identity.patient, identity.session, (volume,), label, source, tuple(warnings), units=stack.units
        )

    def _case(self, key: str) -> tuple[Series, Identity]:
        if key in self._damaged:
            raise SourceError(self._damaged[key], case=key)
        return self._cases[key]


def _told(skipped: dict[str, int]) -> str:
    return ": " + ", ".join(f"{count} {what}" for what, count in sorted(skipped.items())) if skipped else ""

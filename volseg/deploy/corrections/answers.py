"""What a person says about segments that are not the cohort's regions, and about regions without a segment."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

from volseg.errors import LabelError, UsageError
from volseg.labels import LabelTable, fold_name

MISSING = ("ask", "keep", "empty")


@dataclass(frozen=True)
class Answers:
    """Answers to what a segmentation leaves open; without them it is refused.

    Attributes:
        take: Region of the cohort by the name of the segment that is it.
        drop: Names of segments that are left out.
        missing: What becomes of a region without a segment: `ask` refuses it, `keep` keeps the voxels that it had, and
            `empty` takes it for absent.
        empty: Whether a segmentation is taken whose segments are all empty.
        flat: Whether a label map is taken that cannot hold the overlaps that were there before.
        resample: Whether a segmentation on other voxels is resampled to the nearest ones of the image.
    """

    take: Mapping[str, str] = field(default_factory=dict)
    drop: Sequence[str] = ()
    missing: str = "ask"
    empty: bool = False
    flat: bool = False
    resample: bool = False

    @classmethod
    def parse(
        cls,
        *,
        take: Sequence[str] = (),
        drop: Sequence[str] = (),
        missing: str = "ask",
        empty: bool = False,
        flat: bool = False,
        resample: bool = False,
    ) -> Answers:
        """Read the options of the command line, in which `take` is SEGMENT=REGION.

        Raises:
            UsageError: A word is not of this form.

        >>> Answers.parse(take=["Segment_4=stomach"]).take
        {'Segment_4': 'stomach'}
        """
        if missing not in MISSING:
            raise UsageError(f"--missing must be one of {', '.join(MISSING)}, got {missing!r}")
        pairs = {}
        for text in take:
            name, equals, region = text.rpartition("=")
            if not (equals and name.strip() and region.strip()):
                raise UsageError(f"--take must be SEGMENT=REGION, got {text!r}")
            pairs[name.strip()] = region.strip()
        return cls(pairs, tuple(drop), missing, empty, flat, resample)

    def check(self, labels: LabelTable) -> None:
        """Refuse regions that the cohort does not have.

        Raises:
            UsageError: There is one.
        """
        for name, region in self.take.items():
            if region not in labels.names:
                raise UsageError(
                    f"--take {name}={region}: the cohort has no region {region}; it has {_told(labels.names)}"
                )

    def drops(self, name: str) -> bool:
        """Whether a segment is left out."""
        return any(fold_name(name) == fold_name(one) for one in self.drop)


class OpenQuestionError(LabelError):
    """A segmentation that lacks a region of the cohort, or holds a segment that is none, and no answer to it.

    Attributes:
        missing: Regions without a segment.
        extra: Segments that are no region.
    """

    def __init__(
        self, message: str, *, missing: Sequence[str] = (), extra: Sequence[str] = (), case: str | None = None
    ) -> None:
        super().__init__(message, case=case)
        self.missing = tuple(missing)
        self.extra = tuple(extra)

    def of_case(self, case: str) -> OpenQuestionError:
        """Return the same error with the key of the case."""
        return OpenQuestionError(self.message, missing=self.missing, extra=self.extra, case=self.case or case)


def question(missing: Sequence[str], extra: Sequence[str]) -> OpenQuestionError:
    """The question that both leave open, in one line."""
    told, cures = [], []
    if missing:
        told.append(f"there is no segment of {_told(missing)}")
        cures.append("--missing keep (as it was) or --missing empty (there is none)")
    if extra:
        told.append(
            f"{_told(extra)} is no region of the cohort" if len(extra) == 1 else f"{_told(extra)} are no regions"
        )
        cures.append(f"--take {extra[0]!r}=REGION or --drop {extra[0]!r}".replace("'", '"'))
    return OpenQuestionError(f"{', and '.join(told)}; say {' and '.join(cures)}", missing=missing, extra=extra)


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:6]) + (f" and {len(names) - 6} more" if len(names) > 6 else "")

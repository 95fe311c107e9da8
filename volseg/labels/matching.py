"""The match of two label tables: the same regions, by name as spelt in the field, else by code."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Callable, Hashable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np

from volseg.errors import LabelError
from volseg.labels.encoding import LabelMap
from volseg.labels.regions import Region
from volseg.labels.table import LabelTable

_SIDES = {
    **dict.fromkeys(("l", "left", "lt", "lh", "links"), "left"),
    **dict.fromkeys(("r", "right", "rt", "rh", "rechts"), "right"),
}
# Words for a side; left and right also within a word, as in leftkidney, but not in cleft and bright. L4 is a vertebra.
_SIDE = re.compile(r"(?<!c)left|(?<![bp])right|(?<![a-z])(?:lt|rt|lh|rh|links|rechts|[lr](?!\d))(?![a-z])")
_L_AND_R = frozenset("lr")
_CAMEL = re.compile(r"(?<=[a-z])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")  # KidneyLeft, LKidney
# Between two digits a separator distinguishes numbers: L1_2 is not L12.
_SEPARATORS = re.compile(r"(?<=[^\W_])[\s_\-]+(?=[^\W_])")


def fold_name(name: str) -> str:
    """A name without differences of spelling: capitals, and spaces, hyphens and underscores between words.

    A separator between two digits stays, and so does a sign at the end, as in CD4-.

    >>> fold_name("Large Bowel") == fold_name("large_bowel") == fold_name("large-bowel")
    True
    >>> fold_name("L1_2") == fold_name("L12"), fold_name("CD4-") == fold_name("CD4")
    (False, False)
    """
    plain = unicodedata.normalize("NFKC", name).casefold().strip()

    def joined(found: re.Match[str]) -> str:
        return "_" if plain[found.start() - 1].isdigit() and plain[found.end()].isdigit() else ""

    return _SEPARATORS.sub(joined, plain)


@dataclass(frozen=True)
class LabelMatch:
    """The regions that the references and the predictions share, whatever their order, values and spelling.

    Attributes:
        reference: Label table of the references.
        prediction: Label table of the predictions.
        shared: Table of the prediction's values under the reference's names, in the reference's order; its regions are
            those that both have, and that were asked for.
        pairs: Name in the prediction of each shared region, by its name in the reference.
        notes: Sentences for readers of the numbers; empty if the tables are equal.
    """

    reference: LabelTable
    prediction: LabelTable
    shared: LabelTable
    pairs: Mapping[str, str]
    notes: tuple[str, ...] = ()

    @property
    def names(self) -> tuple[str, ...]:
        """The shared regions, by the reference's names."""
        return self.shared.names

    @property
    def same(self) -> bool:
        """Whether the tables have the same regions, named alike in the same order, with the same values."""
        return self.shared.digest == self.reference.digest == self.prediction.digest

    @cached_property
    def scored(self) -> LabelTable:
        """The reference's table with the shared regions alone, in the same order as `shared`."""
        return LabelTable(tuple(region for region in self.reference.regions if region.name in self.shared.names))

    def only(self, names: Sequence[str]) -> LabelMatch:
        """The match restricted to some of the shared regions.

        Raises:
            LabelError: None of them is shared.
        """
        kept = [name for name in self.names if name in names]
        pairs = {name: self.pairs[name] for name in kept}
        return replace(self, shared=replace_names(self.shared, {name: name for name in kept}), pairs=pairs)

    def translate(self, label_map: LabelMap) -> LabelMap:
        """The prediction's label map in the reference's values, as pictures need it.

        Args:
            label_map: Label map (...) with values of the prediction's table.

        Returns:
            Label map (...), uint8. Regions that the reference does not have become background, and so do voxels that
            nobody looked at if the reference declares no label `ignore`. A combination that the
            reference has no value for is painted as `LabelTable.encode` does.

        >>> ours, theirs = LabelTable.of({"liver": 1, "spleen": 2}), LabelTable.of({"Spleen": 1, "Liver": 7})
        >>> match_labels(ours, theirs).translate(np.array([0, 1, 7], np.uint8)).tolist()
        [0, 2, 1]
        """
        return self._translated[label_map]

    @cached_property
    def _translated(self) -> LabelMap:
        """The reference's value for each of the prediction's, (256,)."""
        masks = np.zeros((len(self.reference.regions), 256), dtype=np.bool_)
        for region in self.shared.regions:
            masks[self.reference.names.index(region.name), list(region.values)] = True
        found = self.reference.encode(masks)
        if self.prediction.ignore is not None and self.reference.ignore is not None:
            found[self.prediction.ignore] = self.reference.ignore
        return found


def match_labels(reference: LabelTable, prediction: LabelTable, *, regions: Sequence[str] = ()) -> LabelMatch:
    """Find the regions that two tables share: by the same name, by names spelt alike, else by the same code.

    Args:
        reference: Label table of the references.
        prediction: Label table of the predictions.
        regions: Regions to take, by the reference's names; `NAME=OTHER` gives the prediction's name. By default all
            that both have by default.

    Raises:
        LabelError: No region is shared, a named one does not exist, or a name fits several regions.

    >>> ours = LabelTable.of({"large_bowel": 1, "stomach": 2})
    >>> theirs = LabelTable.of({"background": 0, "Stomach": 1, "Large Bowel": 2, "liver": 3})
    >>> found = match_labels(ours, theirs)
    >>> [(region.name, region.values) for region in found.shared.regions]
    [('large_bowel', (2,)), ('stomach', (1,))]
    >>> found.notes
    ('the predictions hold liver too, which the references do not; it is not scored',)
    """
    if reference.digest == prediction.digest and not regions:
        return LabelMatch(reference, prediction, prediction, {name: name for name in reference.names})
    pairs = _pairs(reference, prediction, strict=not regions)
    notes: list[str] = []
    if regions:
        pairs = _chosen(regions, reference, prediction, pairs)
    if not pairs:
        raise LabelError(
            f"the references hold {_told(reference.names)} and the predictions {_told(prediction.names)}: no region is "
            "the same; say which are with --regions NAME=OTHER, or name the references of these regions"
        )
    if not regions:
        lost = [name for name in reference.names if name not in pairs]
        extra = [name for name in prediction.names if name not in pairs.values()]
        notes += _left_out(lost, extra)
    notes += [
        f"{other} of the predictions is taken for {name}, which has the same code"
        for name, other in pairs.items()
        if fold_name(name) != fold_name(other) and not regions
    ]
    notes += _overlaps(reference, prediction, pairs)
    names = {other: name for name, other in pairs.items()}
    return LabelMatch(reference, prediction, replace_names(prediction, names), pairs, tuple(notes))


def replace_names(table: LabelTable, names: Mapping[str, str]) -> LabelTable:
    """Restrict a table to the named regions, under other names, in the order of the new names.

    Args:
        table: Table, whose values, colours and codes stay.
        names: New name by name in the table; other regions are left out.

    >>> replace_names(LabelTable.of({"a": 1, "b": 2}), {"b": "c"}).regions[0].values
    (2,)
    """
    regions = {region.name: region for region in table.regions}
    return LabelTable(tuple(replace(regions[name], name=new) for name, new in names.items()))


def _pairs(reference: LabelTable, prediction: LabelTable, *, strict: bool) -> dict[str, str]:
    """Name in the prediction by name in the reference, in the reference's order; `strict` refuses ambiguous names."""
    pairs: dict[str, str] = {}
    steps: tuple[Callable[[Region], Hashable], ...] = (
        lambda region: region.name,
        lambda region: fold_name(region.name),
    )
    for step, key in enumerate(steps):
        ours = _groups([region for region in reference.regions if region.name not in pairs], key)
        theirs = _groups([region for region in prediction.regions if region.name not in pairs.values()], key)
        for word, names in ours.items():
            others = theirs.get(word, [])
            if len(names) == len(others) == 1:
                pairs[names[0]] = others[0]
            elif step == 1 and strict and others:
                raise LabelError(
                    f"{' and '.join(others)} of the predictions and {' and '.join(names)} of the references are spelt "
                    "alike, so it is not clear which is which; rename one in dataset.json"
                )
    # A code that several regions of a table share, as ribs do, tells none of them, though the others have been found.
    ours, theirs = (_groups(table.regions, _code) for table in (reference, prediction))
    for code, names in ours.items():
        others = theirs.get(code, [])
        if code is None or len(names) != 1 or len(others) != 1 or _mirrored(names[0], others[0]):
            continue
        if names[0] not in pairs and others[0] not in pairs.values():
            pairs[names[0]] = others[0]
    return {name: pairs[name] for name in reference.names if name in pairs}


def _groups(regions: Sequence[Region], key: Callable[[Region], Hashable]) -> dict[Hashable, list[str]]:
    groups: dict[Hashable, list[str]] = {}
    for region in regions:
        groups.setdefault(key(region), []).append(region.name)
    return groups


def _code(region: Region) -> tuple[str, str, str] | None:
    """The code of a region with the side in its name; None if the code has no specific meaning.

    DICOM has one code for both kidneys, and states the side separately.
    """
    code = region.code
    sides = {_SIDES[word] for word in _SIDE.findall(_CAMEL.sub(" ", region.name).casefold())}
    return None if code.general else (code.scheme, code.value, " ".join(sorted(sides)))


def _mirrored(one: str, other: str) -> bool:
    """Whether two names are one but for an l that is an r in the other, as lkidney and rkidney."""
    letters = [pair for pair in zip(fold_name(one), fold_name(other), strict=False) if pair[0] != pair[1]]
    return len(fold_name(one)) == len(fold_name(other)) and bool(letters) and set(map(frozenset, letters)) == {_L_AND_R}


def _chosen(
    regions: Sequence[str], reference: LabelTable, prediction: LabelTable, pairs: Mapping[str, str]
) -> dict[str, str]:
    """The pairs that were asked for, in the reference's order."""
    chosen: dict[str, str] = {}
    for word in regions:
        name, mapped, other = (part.strip() for part in word.partition("="))
        ours = _named(name, reference, "the references")
        if mapped:
            theirs = _named(other, prediction, "the predictions")
        elif ours in pairs:
            theirs = pairs[ours]
        else:
            raise LabelError(
                f"--regions {name} was asked for, and the predictions hold {_told(prediction.names)}; say which of "
                f"them it is with --regions {name}=OTHER"
            )
        if ours in chosen or theirs in chosen.values():
            raise LabelError(f"--regions names {ours} or {theirs} twice; name each once")
        chosen[ours] = theirs
    return {name: chosen[name] for name in reference.names if name in chosen}


def _named(name: str, table: LabelTable, whose: str) -> str:
    """The region of a table with this name, or with a name spelt alike."""
    alike = [one for one in table.names if one == name] or [
        one for one in table.names if fold_name(one) == fold_name(name)
    ]
    if len(alike) != 1:
        raise LabelError(f"--regions names {name!r}, {whose} hold {_told(table.names)}; name one of them")
    return alike[0]


def _left_out(lost: Sequence[str], extra: Sequence[str]) -> list[str]:
    notes = []
    if lost:
        notes.append(
            f"the references hold {_told(lost)} too, which the predictions do not; "
            f"{'it is' if len(lost) == 1 else 'they are'} not scored"
        )
    if extra:
        notes.append(
            f"the predictions hold {_told(extra)} too, which the references do not; "
            f"{'it is' if len(extra) == 1 else 'they are'} not scored"
        )
    return notes


def _overlaps(reference: LabelTable, prediction: LabelTable, pairs: Mapping[str, str]) -> list[str]:
    """Notes on shared regions that overlap in one table and cannot in the other."""
    ours = {region.name: set(region.values) for region in reference.regions}
    theirs = {region.name: set(region.values) for region in prediction.regions}
    names = list(pairs)
    told: dict[str, list[str]] = {}
    for i, one in enumerate(names):
        for two in names[i + 1 :]:
            may, can = bool(ours[one] & ours[two]), bool(theirs[pairs[one]] & theirs[pairs[two]])
            if may != can:
                where = "references and not in the predictions" if may else "predictions and not in the references"
                told.setdefault(where, []).append(f"{one} and {two}")
    return [
        f"{'; '.join(found[:3])}{' and others' if len(found) > 3 else ''} may overlap in the {where}: look whether one "
        "was meant to hold the other"
        for where, found in told.items()
    ]


def _told(names: Sequence[str]) -> str:
    return ", ".join(names[:8]) + (f" and {len(names) - 8} more" if len(names) > 8 else "")

"""Whether a patient ID stands for one person: anonymisers give one ID to everybody, or two to one study."""

from __future__ import annotations

import re
import unicodedata
from collections.abc import Mapping, Sequence

from volseg.dicom.instance import Instance, Series
from volseg.dicom.scans import day_of

# Words that programs put in the place of an ID; so is a number of zeros.
_PLACEHOLDER = re.compile(
    r"(anon(ym(ous|i[sz]ed|e|us)?)?|de-?identified|unknown|none|null|no[ _-]?id|not?[ _-]?(available|applicable)|n/?a|"
    r"removed|deleted|redacted|patient|patid|pat|id|test|dummy|default|subject|x+|0+|[-_.*#?]+)"
    r"([ ^_-]*(patient|name|id|subject|person))?\^*",
    re.IGNORECASE,
)
_LIFETIME_DAYS = 40 * 365
# More IDs than this for one name and birth date are the work of an anonymiser that gives both to everybody.
_IDS_OF_ONE = 3


def owner_of(series: Series) -> str:
    """Whose series it is: the patient ID, else the study."""
    first = series.first
    return first.patient or first.study_uid or series.uid


def doubts(series: Sequence[Series]) -> Mapping[str, tuple[str, ...]]:
    """What speaks against one person behind each ID, by `owner_of`; no value of a patient stands in it.

    Args:
        series: all of a folder.
    """
    owned: dict[str, list[Series]] = {}
    studies: dict[str, set[str]] = {}
    for item in series:
        owned.setdefault(owner_of(item), []).append(item)
        if item.first.study_uid:
            studies.setdefault(item.first.study_uid, set()).add(owner_of(item))
    shared = {owner for owners in studies.values() if len(owners) > 1 for owner in owners}
    people: dict[tuple[str, str], set[str]] = {}
    for owner, items in owned.items():
        for instance in (item.first for item in items):
            if instance.patient and (name := _name(instance)) and len(instance.person) > 1 and instance.person[1]:
                people.setdefault((name, instance.person[1]), set()).add(owner)
    alike = {owner for owners in people.values() if 1 < len(owners) <= _IDS_OF_ONE for owner in owners}
    found = {}
    for owner, items in owned.items():
        told = [_several(items)]
        if owner in shared:
            told.append(
                "one study stands under several patient IDs, so a fold may have one person on both sides - give both "
                "the same ID, or --patient-pattern"
            )
        elif owner in alike:
            told.append(
                "another patient ID has the same name and birth date, so a fold may have one person on both sides - "
                "give both the same ID if they are one, or --patient-pattern"
            )
        found[owner] = tuple(filter(None, told))
    return found


def _several(items: Sequence[Series]) -> str:
    """The doubt that one ID stands for several people."""
    people = [instance for item in items for instance in item.instances]
    names = {name for instance in people if (name := _name(instance))}
    births = {instance.person[1] for instance in people if len(instance.person) > 1 and instance.person[1]}
    sexes = {instance.person[2] for instance in people if len(instance.person) > 2} & {"M", "F"}
    studies = {instance.study_uid for instance in people}
    days = [day for instance in people if (day := day_of(instance.study_date)) is not None]
    facts = [
        f"{len(values)} {what}"
        for values, what in ((names, "names"), (births, "birth dates"), (sexes, "sexes"))
        if len(values) > 1
    ]
    if days and (max(days) - min(days)).days > _LIFETIME_DAYS:
        facts.append(f"studies {(max(days) - min(days)).days // 365} years apart")
    if not facts and len(studies) > 1 and _PLACEHOLDER.fullmatch(people[0].patient.strip()):
        facts.append(f"{len(studies)} studies, and is a word that stands for any patient")
    if not facts:
        return ""
    return (
        f"one patient ID stands for {' and '.join(facts)}, and its cases count as one patient - give each an ID "
        "(dcmodify), or count each study as one with --key '{study}_{series}' --patient-pattern 't[0-9a-f]+'"
    )


def _name(instance: Instance) -> str:
    """A name as it counts: case, delimiters and the form of accents do not; a word that stands for any is none."""
    if not instance.person or _PLACEHOLDER.fullmatch(instance.person[0].strip()):
        return ""
    plain = unicodedata.normalize("NFKC", instance.person[0].split("=")[0]).casefold()
    return " ".join(re.sub(r"[\^,._\s]+", " ", plain).split())

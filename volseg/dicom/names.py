"""What regions are called: the rules of `--labels`, and one name for spellings that differ in case and spaces only."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Sequence
from functools import lru_cache

from volseg.errors import UsageError

Rules = Sequence[tuple[str, str]]


def fold(name: str) -> str:
    """What spellings of one name share: case, spaces, underscores and the form of accents do not count.

    >>> fold(" Left_Lung ") == fold("LEFT  lung")
    True
    """
    return " ".join(unicodedata.normalize("NFKC", name).replace("_", " ").casefold().split())


def parse_rules(labels: Sequence[str]) -> list[tuple[str, str]]:
    r"""The pairs of pattern and name of `--labels`.

    A backslash takes the next character as it is, where a name holds a comma, an equals sign, `*` or `?`.

    >>> parse_rules(["GTV*=tumour, Liver"])
    [('GTV*', 'tumour'), ('Liver', 'Liver')]
    >>> parse_rules([r"PTV 60\,4=ptv"])
    [('PTV 60\\,4', 'ptv')]
    """
    rules = []
    for part in (part.strip() for text in labels for part in _split(text, ",")):
        pattern, *names = (word.strip() for word in _split(part, "="))
        if not pattern or len(names) > 1 or names == [""]:
            raise UsageError(
                f"--labels holds {part!r}, expected NAME or PATTERN=NAME, separated by commas; a comma or an equals "
                "sign within a name needs a backslash before it"
            )
        rules.append((pattern, _plain(names[0] if names else pattern)))
    return rules


def region_of(name: str, rules: Rules) -> str | None:
    """What a region is called: by the rule that names it, else by the first that fits; by itself without rules.

    A rule that spells the name exactly goes before one that spells it in another case or with other spaces, and that
    before a pattern. In patterns `*` stands for any text and `?` for one character; brackets stand for themselves.

    >>> region_of("GTV_Mass_CT", [("gtv*", "tumour")])
    'tumour'
    >>> region_of("GTV 1", [("GTV*", "tumour"), ("GTV 1", "first")])
    'first'
    >>> print(region_of("Cord", [("gtv*", "tumour")]), region_of("GTV 1", [("GTV [1]", "tumour")]))
    None None
    """
    tidy = " ".join(name.split())
    if not rules:
        return tidy
    spelled, alike, patterns = _lookup(tuple(rules))
    if tidy in spelled:
        return spelled[tidy]
    folded = fold(name)
    if folded in alike:
        return alike[folded]
    return next((new for pattern, new in patterns if pattern.fullmatch(folded)), None)


def spellings(names: Iterable[str]) -> dict[str, str]:
    """The name of each region, by `fold`: the spelling that is used most, of equals the first in the alphabet.

    >>> spellings(["Heart", "heart", "HEART", "Heart "])
    {'heart': 'Heart'}
    """
    counts: dict[str, Counter[str]] = {}
    for name in names:
        counts.setdefault(fold(name), Counter())[" ".join(name.split())] += 1
    return {key: min(found, key=lambda name: (-found[name], name)) for key, found in counts.items()}


def clash(names: Iterable[str]) -> tuple[str, str] | None:
    """Two names that differ in case, spaces, underscores or the form of accents only, or None.

    >>> clash(["Heart", "Cord", "heart"]), clash(["Heart", "Heart "])
    (('Heart', 'heart'), None)
    """
    seen: dict[str, str] = {}
    for name in sorted({" ".join(name.split()) for name in names}):
        if fold(name) in seen:
            return seen[fold(name)], name
        seen[fold(name)] = name
    return None


def escaped(name: str) -> str:
    r"""A name as `--labels` takes it.

    >>> print(escaped("PTV 60,4 [2]"))
    PTV 60\,4 [2]
    """
    return re.sub(r"([\\*?,=])", r"\\\1", name)


def _split(text: str, at: str) -> list[str]:
    return re.split(rf"(?<!\\){re.escape(at)}", text)


def _plain(text: str) -> str:
    return re.sub(r"\\([\\*?,=])", r"\1", text)


@lru_cache(maxsize=16)
def _lookup(
    rules: tuple[tuple[str, str], ...],
) -> tuple[dict[str, str], dict[str, str], list[tuple[re.Pattern[str], str]]]:
    """The names of rules by exact spelling and by `fold`, and the patterns; the first of equals counts."""
    spelled: dict[str, str] = {}
    alike: dict[str, str] = {}
    patterns = []
    for pattern, new in rules:
        name = _plain(pattern)
        spelled.setdefault(" ".join(name.split()), new)
        alike.setdefault(fold(name), new)
        parts = _parts(pattern)
        if "*" in parts or "?" in parts:
            patterns.append((_compiled(parts), new))
    return spelled, alike, patterns


def _parts(pattern: str) -> list[str]:
    """The characters of a pattern, escaped ones with their backslash."""
    return re.findall(r"\\[\\*?,=]|.", pattern, re.DOTALL)


def _compiled(parts: Sequence[str]) -> re.Pattern[str]:
    # Folded whole, then put together: the marks of `*` and `?` are characters that no name has.
    marked = "".join({"*": "\0", "?": "\1"}.get(part, part[-1]) for part in parts)
    folded = fold(marked)
    return re.compile("".join({"\0": ".*", "\1": "."}.get(part, re.escape(part)) for part in folded), re.DOTALL)

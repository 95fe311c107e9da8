"""A pattern of file paths with placeholders: `masks/{key}_mask.png`."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property

from volseg.errors import UsageError

_TOKEN = re.compile(r"(\*\*/|\*\*|\*|\?|\{[^{}]*\})")
_PARTS = {"**/": "(?:.*/)?", "**": ".*", "*": "[^/]*", "?": "[^/]"}
_UNSAFE = re.compile(r"[^A-Za-z0-9._-]+")


@dataclass(frozen=True)
class Pattern:
    """Paths below a folder, with `/` between names.

    `*` and `?` stand for letters within a name, `**` for any folders, `{key}` for the word that tells one image from
    another and `{patient}` for the word of those that belong together. A placeholder that stands twice is the same
    word twice.

    >>> Pattern("{patient}/**/{key}_*.png").identify("p7/left/eye_1_mask.png")
    [('p7', 'eye_1'), ('p7', 'eye')]
    >>> Pattern("{key}/images/{key}.png").identify("a/images/b.png")
    []
    """

    text: str

    def __post_init__(self) -> None:
        names = set(re.findall(r"\{([^{}]*)\}", self.text))
        if not names <= {"key", "patient"}:
            unknown = ", ".join(f"{{{name}}}" for name in sorted(names - {"key", "patient"}))
            raise UsageError(f"the pattern {self.text!r} has {unknown}; placeholders are {{key}} and {{patient}}")
        if self.text.startswith("/") or ".." in self.text.split("/"):
            raise UsageError(
                f"the pattern {self.text!r} leaves the folder of the images; name the folder that holds everything"
            )

    @cached_property
    def regexes(self) -> tuple[re.Pattern[str], re.Pattern[str]]:
        """What matches a whole path, with the longest key that fits and with the shortest."""
        return self._regex("[^/]+"), self._regex("[^/]+?")

    def _regex(self, word: str) -> re.Pattern[str]:
        parts, seen = [], set()
        for token in _TOKEN.split(self.text):
            if token in _PARTS:
                parts.append(_PARTS[token])
            elif token in ("{key}", "{patient}"):
                name = token[1:-1]
                found = word if name == "key" else "[^/]+?"
                parts.append(f"(?P={name})" if name in seen else f"(?P<{name}>{found})")
                seen.add(name)
            else:
                parts.append(re.escape(token))
        return re.compile("".join(parts))

    @property
    def grouped(self) -> bool:
        """Whether it names the patient."""
        return "{patient}" in self.text

    @property
    def keyed(self) -> bool:
        """Whether it names the key."""
        return "{key}" in self.text

    def identify(self, path: str) -> list[tuple[str, str]]:
        """Patient (empty where none is named) and key of a path that matches: the longest key, then the shortest."""
        words = [found.groupdict() for regex in self.regexes if (found := regex.fullmatch(path))]
        return list(dict.fromkeys((of_path.get("patient", ""), of_path.get("key", "")) for of_path in words))

    def matches(self, path: str) -> bool:
        """Whether a path matches; a pattern without `/` is compared with the file's name alone.

        >>> Pattern("*03.tif").matches("train/a/slide_03.tif"), Pattern("valid/**").matches("train/valid.tif")
        (True, False)
        """
        return self.regexes[0].fullmatch(path if "/" in self.text else path.rpartition("/")[2]) is not None


def safe_key(patient: str, key: str) -> str:
    """The key of a case: patient and key joined, with `_` for what a file name should not hold.

    >>> safe_key("", "slide 1 (a)"), safe_key("p7", "eye")
    ('slide_1_a_', 'p7_eye')
    """
    return _UNSAFE.sub("_", f"{patient}_{key}" if patient else key).lstrip("._-") or "image"

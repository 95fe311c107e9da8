"""The prose of docstrings and documents: entries of arguments are noun phrases, and "per" says what each has."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
SOURCES = sorted(path for room in ("volseg", "benchmarks", "tests") for path in (ROOT / room).rglob("*.py"))
DOCUMENTS = sorted([*ROOT.glob("*.md"), *(ROOT / "docs").rglob("*.md"), *(ROOT / "bundles").rglob("*.md")])

_SECTION = re.compile(r"(Args|Attributes|Returns|Raises|Yields):$")
_ENTRY = re.compile(r"    (?P<names>\*{0,2}\w+(?:, \*{0,2}\w+)*): +(?P<text>.+)")
_NO_NOUN = re.compile(r"(of|as in|likewise|as for|as|same as|see)\b", re.IGNORECASE)
_OWNER = "channel|region|case|voxel|slice|class|fold|echo|window|iteration|step|core|GPU|worker"
_PER = re.compile(
    r"\b(one|[0-9]+ bytes?|[0-9]+ bits?|bytes|bits|seconds|ms|a)"
    r"( (file|path|row|line|value|image|volume|series|number|column|mask|channel|list|logit|probability))?"
    rf" an? ({_OWNER})\b",
    re.IGNORECASE,
)


def docstrings(source: str) -> Iterator[tuple[str, str]]:
    """Name and docstring of a module, of its classes and functions, private ones too."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, (ast.Module, ast.ClassDef, ast.FunctionDef, ast.AsyncFunctionDef)):
            text = ast.get_docstring(node)
            if text:
                yield getattr(node, "name", "module"), text


def entries(docstring: str) -> Iterator[str]:
    """The entries of the sections of a docstring, without the lines that go on."""
    section = False
    for line in docstring.splitlines():
        if _SECTION.match(line):
            section = True
        elif line and not line.startswith(" "):
            section = False
        elif section and (entry := _ENTRY.match(line)):
            yield entry["text"]


def without_noun(source: str) -> list[str]:
    """Entries that do not begin with a noun phrase."""
    return [f"{name}: {text}" for name, doc in docstrings(source) for text in entries(doc) if _NO_NOUN.match(text)]


def without_per(text: str) -> list[str]:
    """Places where "a channel" stands for "per channel", whatever the channel is, and over the end of a line too."""
    joined = re.sub(r"\s+(#\s+)?", " ", text)
    return [joined[max(0, found.start() - 20) : found.end() + 20] for found in _PER.finditer(joined)]


@pytest.mark.parametrize("room", ["volseg", "benchmarks", "tests"])
def test_entries_are_noun_phrases(room):
    found = {str(path.relative_to(ROOT)): without_noun(path.read_text(encoding="utf-8")) for path in files_of(room)}
    assert {path: lines for path, lines in found.items() if lines} == {}


@pytest.mark.parametrize("room", ["volseg", "benchmarks"])
def test_per_is_said(room):
    found = {str(path.relative_to(ROOT)): without_per(path.read_text(encoding="utf-8")) for path in files_of(room)}
    assert {path: lines for path, lines in found.items() if lines} == {}


def test_per_is_said_in_documents():
    found = {
        str(path.relative_to(ROOT)): without_per(path.read_text(encoding="utf-8"))
        for path in DOCUMENTS
        if path.name not in ("CHANGELOG.md", "README.md") or path.parent != ROOT
    }
    assert {path: lines for path, lines in found.items() if lines} == {}


def files_of(room: str) -> list[Path]:
    """The sources of a room at the root."""
    return [path for path in SOURCES if path.relative_to(ROOT).parts[0] == room]


@pytest.mark.parametrize(
    "text", ["of the grid.", "Of the grid.", "as in `predict`.", "As `predict`.", "likewise.", "Likewise, of it."]
)
def test_an_entry_without_a_noun_is_found(text):
    assert without_noun(f'def f(x):\n    """Do it.\n\n    Args:\n        x: {text}\n    """\n') == [f"f: {text}"]


@pytest.mark.parametrize("text", ["Offset in mm.", "Ascending numbers.", "Affine of the grid.", "office"])
def test_a_noun_phrase_is_not(text):
    assert without_noun(f'def f(x):\n    """Do it.\n\n    Args:\n        x: {text}\n    """\n') == []


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("one file a channel", 1),
        ("one a region", 1),
        ("7 bytes a\n    voxel", 1),
        ("one\n# file a channel", 1),
        ("row a class", 0),
        ("one file per channel", 0),
        ("a case that lacks a channel", 0),
        ("one of a channel", 0),
    ],
)
def test_per_is_told_from_a(text, found):
    assert len(without_per(text)) == found

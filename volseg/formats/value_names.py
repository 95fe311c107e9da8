"""What the values of a label map mean, as other programs write it down beside or into the file.

Colour tables of 3D Slicer (`.ctbl`, `.txt`, `.csv`), label descriptions of ITK-SNAP, `*_dseg.tsv` of BIDS, and the XML
that Caret, Connectome Workbench and TotalSegmentator put into the header of a NIfTI file.
"""

from __future__ import annotations

import codecs
import csv
import io
import re
from collections.abc import Mapping
from pathlib import Path
from xml.etree import ElementTree

from volseg.errors import LabelError

# Names of the value 0 and of no structure.
_BACKGROUND = {"background", "clear label", "clearlabel", "unknown", "none", "???", "(none)", ""}
_Term = tuple[str, str, str]
ColourRow = tuple[str, tuple[int, int, int], tuple[_Term, _Term]]
"""Name, colour (RGB, 0 to 255), and the terms (scheme, value, meaning) of category and type."""
_MAX_TABLE = 16 * 2**20
_ITK_SNAP = re.compile(r'^\s*(\d+)\s+\d+\s+\d+\s+\d+\s+[\d.]+\s+\d+\s+\d+\s+"([^"]*)"\s*$')
_COLOUR_ROW = re.compile(r"^\s*(\d+)\s+(\S.*?)\s+[\d.]+\s+[\d.]+\s+[\d.]+(?:\s+[\d.]+)?\s*$")
_DECIMALS = re.compile(r"\.0*$")  # what data frames write behind whole numbers
_SUFFIXES = (".ctbl", ".csv", ".tsv", ".txt", ".label", ".lut")


def find_table(folder: Path) -> Path | None:
    """The table of names in a folder of label maps, or None.

    Args:
        folder: Holds the label maps; a table is a `.ctbl`, `.csv`, `.tsv`, `.txt`, `.label` or `.lut` file with values.

    Raises:
        LabelError: Several tables say different things.
    """
    found: dict[Path, dict[int, str]] = {}
    for path in sorted(folder.iterdir()):
        if path.suffix.lower() in _SUFFIXES and path.is_file() and not path.name.startswith("."):
            names = _read(path)
            if names:
                found[path] = names
    # Slicer's .ctbl loses letters that .csv keeps: it counts only where no other table stands.
    exact = [path for path in found if path.suffix.lower() != ".ctbl"] or list(found)
    if len({tuple(sorted(found[path].items())) for path in exact}) > 1:
        raise LabelError(
            f"{exact[0].name} and {exact[1].name} give the values different names; leave one table in {folder}"
        )
    return exact[0] if exact else None


def read_table_names(path: Path) -> dict[int, str]:
    r"""The name of each value that a table gives, background left out.

    Args:
        path: File of any of the forms above, which are told apart by their content.

    Raises:
        LabelError: No such table, or one value with two names.

    >>> import tempfile
    >>> with tempfile.TemporaryDirectory() as folder:
    ...     path = Path(folder) / "labels.ctbl"
    ...     _ = path.write_text("# Color table file x\n0 Background 0 0 0 0\n2 large_bowel 230 159 0 255\n")
    ...     read_table_names(path)
    {2: 'large_bowel'}
    """
    try:
        names = _read(path)
    except OSError as error:
        raise LabelError(f"the table {path} cannot be read ({error.strerror or error}); name another one") from error
    if not names:
        raise LabelError(
            f"{path.name} must be a colour table of 3D Slicer, a label description of ITK-SNAP or a dseg.tsv, and "
            "no line "
            "of it gives a value and a name"
        )
    return names


def header_names(extensions: list[tuple[int, bytes]]) -> dict[int, str]:
    """The names in the header of a NIfTI file: the label table of Caret's XML, which TotalSegmentator writes too.

    Args:
        extensions: Code and content of each extension of the header.

    >>> xml = b'<CaretExtension><VolumeInformation><LabelTable><Label Key="3">stomach</Label></LabelTable>'
    >>> header_names([(0, xml + b"</VolumeInformation></CaretExtension>")])
    {3: 'stomach'}
    """
    for _, content in extensions:
        text = content.rstrip(b"\x00").strip()
        # A document type could define entities that grow without bound; Caret writes none.
        if b"LabelTable" not in text or b"<!DOCTYPE" in text or b"<!ENTITY" in text:
            continue
        try:
            root = ElementTree.fromstring(text.decode("utf-8", errors="replace"))
        except ElementTree.ParseError:
            continue
        found: dict[int, str] = {}
        for label in root.iter("Label"):
            key = label.get("Key", "")
            if re.fullmatch(r"\d+", key):
                _add(found, int(key), label.text or "", "the header")
        return found
    return {}


def _read(path: Path) -> dict[int, str]:
    """The names of a table; empty where a file is none."""
    if path.stat().st_size > _MAX_TABLE:
        return {}
    content = path.read_bytes()
    encoding = "utf-16" if content[:2] in (codecs.BOM_UTF16_LE, codecs.BOM_UTF16_BE) else "utf-8-sig"
    text = content.decode(encoding, errors="replace")
    if path.suffix.lower() in (".csv", ".tsv"):
        return _columns(text, path)
    names: dict[int, str] = {}
    for line in text.splitlines():
        if line.lstrip().startswith("#"):
            continue
        row = _ITK_SNAP.match(line) or _COLOUR_ROW.match(line)
        if row is None and line.strip():
            return {}
        if row:
            _add(names, int(row[1]), row[2], path.name)
    return names


def _columns(text: str, path: Path) -> dict[int, str]:
    """Slicer's `LabelValue,Name,...`, or BIDS' `index` and `name` between tabs; a name `NA` is text, not missing.

    Spreadsheets put semicolons where the comma is the decimal sign, may save as UTF-16, and end lines by a carriage
    return alone where they save for an old Macintosh.
    """
    heading = "".join(text.splitlines()[:1])
    delimiter = "\t" if path.suffix.lower() == ".tsv" else ";" if heading.count(";") > heading.count(",") else ","
    reader = csv.DictReader(io.StringIO(text, newline=None), delimiter=delimiter)
    try:
        heads = {str(head).strip().casefold(): str(head) for head in reader.fieldnames or ()}
        value = next((heads[head] for head in ("labelvalue", "index") if head in heads), None)
        name = heads.get("name")
        if value is None or name is None:
            return {}
        rows = list(reader)
    except csv.Error:  # no table, such as one with a cell of more than 128 kB
        return {}
    names: dict[int, str] = {}
    for row in rows:
        number = _DECIMALS.sub("", (row.get(value) or "").strip())
        if number.isdecimal():
            _add(names, int(number), row.get(name) or "", path.name)
    return names


def _add(names: dict[int, str], value: int, name: str, where: str) -> None:
    name = name.strip()
    if value == 0 or name.casefold() in _BACKGROUND:
        return
    if names.setdefault(value, name) != name:
        raise LabelError(f"{where} names the value {value} {names[value]!r} and {name!r}; leave one of them")


def colour_csv(rows: Mapping[int, ColourRow]) -> str:
    """A colour table in the form that keeps names and terms in 3D Slicer.

    Args:
        rows: Per value its name, colour and the codes (scheme, value, meaning) of category and type.
    """
    terms = [
        f"{part}_{fact}"
        for part in ("Category", "Type", "TypeModifier", "Region", "RegionModifier")
        for fact in ("CodingScheme", "CodeValue", "CodeMeaning")
    ]
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(["LabelValue", "Name", "Color_R", "Color_G", "Color_B", "Color_A", *terms])
    for value, (name, colour, (category, kind)) in rows.items():
        writer.writerow([value, name.replace('"', "'"), *colour, 255, *category, *kind, *[""] * 9])
    return text.getvalue()

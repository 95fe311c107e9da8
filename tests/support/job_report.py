"""The report of a job, and the files that it wrote."""

from __future__ import annotations

import json
from pathlib import Path

import jsonschema

import volseg.jobs

SCHEMA = json.loads((Path(volseg.jobs.__file__).parent / "report.schema.json").read_text())


def report(output: Path, name: str = "run_report.json") -> dict[str, dict[str, int]]:
    content: dict[str, dict[str, int]] = json.loads((output / name).read_text())
    jsonschema.validate(content, SCHEMA)
    return content


def contents(output: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in output.iterdir() if path.suffix in (".gz", ".csv")}

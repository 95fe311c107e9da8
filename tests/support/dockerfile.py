"""The Dockerfile and .dockerignore as data, as far as the tests need them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

_OPTION = re.compile(r"--([\w-]+)=(\S+)\s+")


@dataclass(frozen=True)
class Step:
    """One instruction.

    Attributes:
        stage: the name of its stage.
        word: `RUN`, `COPY`, ...
        options: what stands before the rest as `--name=value`.
        rest: its arguments, of joined lines.
    """

    stage: str
    word: str
    options: dict[str, str]
    rest: str


def read_steps(path: Path) -> list[Step]:
    """The instructions in their order; comments are left out."""
    lines = [line for line in path.read_text().splitlines() if not line.lstrip().startswith("#")]
    steps: list[Step] = []
    stage = ""
    for line in re.sub(r"\\\n", "", "\n".join(lines)).splitlines():
        if not line.strip():
            continue
        word, rest = line.split(maxsplit=1)
        options = {}
        while match := _OPTION.match(rest):
            options[match[1]] = match[2]
            rest = rest[match.end() :]
        if word == "FROM":
            stage = rest.split()[-1]
        steps.append(Step(stage, word, options, " ".join(rest.split())))
    return steps


def lineage(steps: list[Step], stage: str) -> list[Step]:
    """The instructions that a stage is made by, those of the stages that it stands on first."""
    own = [step for step in steps if step.stage == stage]
    parent = own[0].rest.split()[0]
    return [*(lineage(steps, parent) if parent in {step.stage for step in steps} else []), *own]


def ignored(name: str, patterns: list[str]) -> bool:
    """Whether a file of the context stays out: the last pattern that fits it or a folder above it decides."""
    parts = name.split("/")
    above = ["/".join(parts[:end]) for end in range(1, len(parts) + 1)]
    out = False
    for pattern in patterns:
        if any(re.fullmatch(_expression(pattern.removeprefix("!")), place) for place in above):
            out = not pattern.startswith("!")
    return out


def read_patterns(path: Path) -> list[str]:
    """The patterns of a .dockerignore."""
    return [line for line in path.read_text().splitlines() if line and not line.startswith("#")]


def _expression(pattern: str) -> str:
    pieces = re.split(r"(\*\*/|\*)", pattern)
    return "".join({"**/": "(?:.*/)?", "*": "[^/]*"}.get(piece, re.escape(piece)) for piece in pieces)

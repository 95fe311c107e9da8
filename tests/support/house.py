"""The house as the imports draw it: rooms, floors, arrows, circles; `python tests/support/house.py` prints the table.

A room is a folder below `volseg`, or a module beside `volseg/__init__.py`. An arrow goes from a room to each other room
that it imports anything of, at the top of a file or inside a function. `__main__` is the door of `cli`, and no room.
"""
# ruff: noqa: T201

from __future__ import annotations

import ast
import sys
from collections import defaultdict
from pathlib import Path

DOORS = {"__init__", "__main__"}
PACKAGE = Path(__file__).resolve().parents[2] / "volseg"


def read_arrows(package: Path = PACKAGE) -> dict[str, set[str]]:
    """The rooms that each room imports."""
    rooms = {path.stem for path in package.iterdir() if path.suffix == ".py" or (path / "__init__.py").is_file()}
    rooms -= DOORS
    arrows: dict[str, set[str]] = {room: set() for room in rooms}
    for path in sorted(package.rglob("*.py")):
        room = path.relative_to(package).parts[0].removesuffix(".py")
        if room in DOORS:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            named: list[str] = []
            if isinstance(node, ast.ImportFrom) and node.module:
                named = [node.module] + [f"{node.module}.{alias.name}" for alias in node.names]
            elif isinstance(node, ast.Import):
                named = [alias.name for alias in node.names]
            for name in named:
                parts = name.split(".")
                if parts[0] == "volseg" and len(parts) > 1 and parts[1] in rooms - {room}:
                    arrows[room].add(parts[1])
    return arrows


def circles(arrows: dict[str, set[str]]) -> list[set[str]]:
    """The sets of rooms that reach one another."""

    def reached(start: str) -> set[str]:
        found: set[str] = set()
        waiting = [start]
        while waiting:
            for room in arrows[waiting.pop()] - found:
                found.add(room)
                waiting.append(room)
        return found

    reach = {room: reached(room) for room in arrows}
    found: list[set[str]] = []
    for room in sorted(arrows):
        if room in reach[room] and not any(room in circle for circle in found):
            found.append({other for other in reach[room] if room in reach[other]})
    return found


def floors(arrows: dict[str, set[str]]) -> dict[str, int]:
    """The lowest floor on which each room can stand if every arrow leads downward; needs that there is no circle."""
    found: dict[str, int] = {}
    while len(found) < len(arrows):
        for room in arrows.keys() - found.keys():
            if arrows[room] <= found.keys():
                found[room] = 1 + max((found[below] for below in arrows[room]), default=0)
    return found


def main() -> None:
    """Print the table."""
    package = Path(sys.argv[1]) if len(sys.argv) > 1 else PACKAGE
    arrows = read_arrows(package)
    turning = circles(arrows)
    loose = [path.name for path in package.glob("*.py") if path.stem not in DOORS]
    short = [path for path in (package / "training").rglob("*.py") if path.read_text(encoding="utf-8").count("\n") < 60]
    print(f"rooms {len(arrows)}, arrows {sum(map(len, arrows.values()))}, circles {len(turning)} {turning or ''}")
    print(f"loose modules {len(loose)}, files of training under 60 lines {len(short)}")
    if not turning:
        stand: dict[int, list[str]] = defaultdict(list)
        for room, floor in floors(arrows).items():
            stand[floor].append(room)
        for floor in sorted(stand, reverse=True):
            print(floor, *sorted(stand[floor]))


if __name__ == "__main__":
    main()

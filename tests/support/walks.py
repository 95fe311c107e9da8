"""How often one changes rooms on three walks through the house; `python tests/support/walks.py` prints the table.

A walk is a real call on a small case that is watched. A move is a pair of rooms of which the one called the other. It
is counted once however often that happens, since whoever reads the code opens a room once from where it is called. A
call from outside of `volseg` (MONAI calls a transform of ours) counts for the room that called what is outside.
"""
# ruff: noqa: T201

from __future__ import annotations

import sys
import tempfile
import threading
from collections.abc import Callable
from pathlib import Path
from types import FrameType

ROOT = Path(__file__).resolve().parents[2]
Move = tuple[str, str]


def moves(walk: Callable[[], object], package: Path = ROOT / "volseg") -> list[Move]:
    """The moves of a walk, in the order in which they are first made."""
    inside = f"{package}/"
    found: dict[Move, None] = {}
    rooms: dict[str, str] = {}

    def room_of(frame: FrameType) -> str:
        file = frame.f_code.co_filename
        if file not in rooms:
            rooms[file] = file.removeprefix(inside).split("/")[0].removesuffix(".py") if file.startswith(inside) else ""
        return rooms[file]

    def look(frame: FrameType, event: str, _: object) -> None:
        if event != "call" or room_of(frame) in ("", "__init__") or frame.f_code.co_name == "<module>":
            return
        before: FrameType | None = frame.f_back
        while before is not None and room_of(before) in ("", "__init__"):
            if before.f_code is moves.__code__ or before.f_code.co_name == "<module>":
                return  # the beginning of the walk, or an import
            before = before.f_back
        if before is not None and room_of(before) != room_of(frame):
            found[room_of(before), room_of(frame)] = None

    threading.setprofile(look)
    sys.setprofile(look)
    try:
        walk()
    finally:
        sys.setprofile(None)
        threading.setprofile(None)
    return list(found)


def own(made: list[Move]) -> list[Move]:
    """The moves that the room makes in which the walk begins: what one opens to read it, and not what that opens."""
    return [move for move in made if move[0] == made[0][0]]


def walks(folder: Path, *, network: bool = True) -> dict[str, Callable[[], object]]:
    """`evaluate` of a cohort, `score_case` of a case, and with a network the demo's segmentation, each to be called."""
    from scored_cohort import box, label_map, make_cohort, write

    from volseg.evaluation import STANDARD, evaluate, score_case

    key, predictions = "case1_day0", folder / "predictions"
    drawn = label_map(large_bowel=box(1, 6, 1, 6, 1, 5), stomach=box(5, 9, 5, 8, 3, 7))
    cohort = make_cohort(folder / "cohort", {key: drawn})
    write(predictions / f"{key}.nii.gz", drawn)
    found: dict[str, Callable[[], object]] = {
        "evaluate (cohort)": lambda: evaluate(predictions, cohort),
        "score_case (key)": lambda: score_case(key, predictions, cohort, known=frozenset([key]), method=STANDARD),
    }
    if network:
        from tiny_bundle import write_bundle, write_checkpoint

        from volseg.deploy.demo.segmentation import Segmenter
        from volseg.inference import Predictor

        bundle, checkpoint = write_bundle(folder / "bundle"), write_checkpoint(folder / "model.pt")
        segmenter = Segmenter(Predictor.from_bundle(bundle, checkpoint=checkpoint, device="cpu"), cohort)
        found["demo's segment (key)"] = lambda: segmenter.case(key, folder / "out")
    return found


def main() -> None:
    """Print the moves of each walk."""
    with tempfile.TemporaryDirectory() as folder:
        for name, walk in walks(Path(folder)).items():
            walk()  # once, so that what is opened at first use is there
            made = moves(walk)
            print(f"{name}: {len(own(made))} moves of its own, {len(made)} with those behind them")
            print("   ", ", ".join(f"{one} > {other}" for one, other in made))


if __name__ == "__main__":
    sys.path[:0] = [str(ROOT), str(Path(__file__).resolve().parent)]
    main()

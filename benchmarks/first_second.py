"""From the command to the first label map: `volseg predict` of one small volume, and of words that cannot work.

    sh benchmarks/run.sh first_second --before TREE --image hippocampus_001.nii.gz dense_unet=runs/model.pt

Each program is a process of its own; processor seconds are user and system time with those of its children, memory is
the kernel's peak of it. `--before` is a checkout of an earlier commit, which the same interpreter runs. OpenVINO
computes in single precision as the first program does, and then in the precision that a user gets who names none.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import measurement, volseg_command
from harness.measurement import Values
from harness.volseg_command import HERE


def ways(given: Any, bundle: str, checkpoint: Path, place: Path) -> dict[str, Callable[[], Values]]:  # noqa: ANN401
    """The programs."""
    package = place / "package"
    if not package.exists():
        volseg_command.run("pack", bundle, "--checkpoint", checkpoint, "-o", package, "--openvino")

    def predict(tree: Path, *words: str | Path) -> Callable[[], Values]:
        def run() -> Values:
            shutil.rmtree(place / "out", ignore_errors=True)
            return volseg_command.run("predict", *words, "-o", place / "out", tree=tree)

        return run

    plain = (bundle, given.image, "--checkpoint", checkpoint, "--engine", "torch")
    packed = (package, given.image, "--precision", "fp32")
    absent = (bundle, given.image, "--checkpoint", place / "absent.pt", "-o", place / "out")
    found = {
        "this commit, torch": predict(HERE, *plain),
        "this commit, packed OpenVINO": predict(HERE, *packed),
        "this commit, packed OpenVINO, precision auto": predict(HERE, package, given.image),
        "this commit, a checkpoint that is not there": lambda: volseg_command.run("predict", *absent, refused=True),
    }
    if given.before is None:
        return found
    return {
        "before, torch": predict(given.before, *plain),
        "before, a checkpoint that is not there": lambda: volseg_command.run(
            "predict", *absent, tree=given.before, refused=True
        ),
        **found,
    }


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("first_second", __doc__)
    parser.add_argument("networks", nargs="+", metavar="BUNDLE=CHECKPOINT")
    parser.add_argument("--image", type=Path, required=True, help="a small volume")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--no-warm-up", action="store_true", help="the files are in memory already")
    given = parser.parse_args()
    given.image = given.image.resolve()
    machine, tables = measurement.machine(), []
    with tempfile.TemporaryDirectory() as folder:
        for named in given.networks:
            bundle, _, checkpoint = named.partition("=")
            place = Path(folder, bundle)
            place.mkdir()
            all_ways = ways(given, bundle, Path(checkpoint).resolve(), place)
            if not given.quick and not given.no_warm_up:
                for way in all_ways.values():  # once, so that files and byte code are in memory
                    way()
            found, left_out = measurement.paired(all_ways, rounds=1 if given.quick else given.rounds)
            tables.append(
                measurement.table(
                    f"One volume of {bundle}",
                    volseg_command.MEASURES,
                    found,
                    way="Program",
                    reference=next(iter(all_ways)),
                    left_out=left_out,
                )
            )
    versions = measurement.versions("volseg", "numpy", "torch", "monai", "openvino", "nibabel")
    measurement.write(measurement.result("first_second", tables, quick=given.quick, machine=machine, versions=versions))


if __name__ == "__main__":
    main()

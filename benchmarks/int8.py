"""fp32, bf16 and INT8 of packed networks, and PyTorch, in `volseg predict` of a folder of volumes.

    sh benchmarks/run.sh int8 --images cohort/imagesTr --cases 8 bundles/mine another/package

The packages are those of `volseg pack --int8`. Each program is a process of its own, of which start and reading are a
part; processor seconds are user and system time with those of its children. With `--labels` the Dice of each precision
is told by `volseg evaluate` on the predictions that are left in `--keep`.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path

from harness import measurement, volseg_command
from harness.measurement import Values

WAYS = {
    "PyTorch, fp32": ("--engine", "torch", "--precision", "fp32"),
    "PyTorch, bf16": ("--engine", "torch", "--precision", "bf16"),
    "OpenVINO, fp32": ("--engine", "openvino", "--precision", "fp32"),
    "OpenVINO, bf16": ("--engine", "openvino", "--precision", "bf16"),
    "OpenVINO, INT8": ("--engine", "openvino", "--precision", "int8"),
}


def way(package: Path, images: Path, out: Path, words: tuple[str, ...]) -> Callable[[], Values]:
    """A program that predicts the images."""

    def run() -> Values:
        shutil.rmtree(out, ignore_errors=True)
        return volseg_command.run("predict", package, images, *words, "-o", out)

    return run


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("int8", __doc__)
    parser.add_argument("packages", nargs="+", type=Path, metavar="PACKAGE")
    parser.add_argument("--images", type=Path, required=True, help="a folder of volumes, one file each")
    parser.add_argument("--cases", type=int, default=8)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--keep", type=Path, help="a folder that keeps the last predictions of each program")
    given = parser.parse_args()
    machine, tables = measurement.machine(), []
    with tempfile.TemporaryDirectory() as folder:
        images = Path(folder, "images")
        images.mkdir()
        files = sorted(given.images.resolve().glob("*.nii.gz"))
        step = max(1, len(files) // given.cases)
        for file in files[::step][: given.cases]:
            (images / file.name).symlink_to(file)
        for package in given.packages:
            place = (given.keep or Path(folder)) / package.resolve().name
            ways = {name: way(package.resolve(), images, place / name, words) for name, words in WAYS.items()}
            found, left_out = measurement.paired(ways, rounds=1 if given.quick else given.rounds)
            tables.append(
                measurement.table(
                    f"{given.cases} volumes by {package.resolve().name}",
                    volseg_command.MEASURES,
                    found,
                    way="Engine",
                    reference=next(iter(ways)),
                    left_out=left_out,
                )
            )
    versions = measurement.versions("volseg", "numpy", "torch", "openvino", "nibabel")
    measurement.write(measurement.result("int8", tables, quick=given.quick, machine=machine, versions=versions))


if __name__ == "__main__":
    main()

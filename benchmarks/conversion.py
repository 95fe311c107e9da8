"""UW-Madison slices to a cohort: `volseg convert` beside the usual script, and beside what no program can save.

    sh benchmarks/run.sh conversion

Phantom scans at the real sizes, 144 slices of 266 x 266 and 360 x 310 pixels in turn, three organs, and a train.csv
with the rows of 274 scans. Each way is a program of its own on one core: once for one scan and once for all; what a
further scan takes is the difference over their number, without the start of Python and the reading of train.csv.

- usual script: see usual_conversion.py; careful: with the file's 16 bits and train.csv arranged by id.
- bound: inflating the PNG files and deflating the same NIfTI files by isal, at volseg's level, and nothing else.
"""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

from harness import measurement
from harness.measurement import CPU, PEAK, WALL, Measure, Values

SCAN_CPU = Measure("scan_cpu_s", "CPU of a further scan", "s", 3)
SCAN_WALL = Measure("scan_wall_s", "Wall of a further scan", "s", 3, compared=False)
WHOLE = [replace(one, compared=False) for one in (CPU, PEAK)]  # of the command, with its start
ONE_THREAD = {"OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}


def bound(raw: Path, nifti: Path, out: Path) -> None:
    """Inflate every PNG below `raw`, and deflate one of the NIfTI contents for each scan, in turn."""
    from isal import igzip, isal_zlib

    contents = [[path.read_bytes() for path in sorted(folder.iterdir())] for folder in sorted(nifti.iterdir())]
    for number, scan in enumerate(sorted((raw / "train").glob("*/*"))):
        for path in sorted((scan / "scans").iterdir()):
            content, at, packed = path.read_bytes(), 8, []
            while at < len(content):  # chunks: length, kind, data, checksum
                length = int.from_bytes(content[at : at + 4], "big")
                if content[at + 4 : at + 8] == b"IDAT":
                    packed.append(content[at + 8 : at + 8 + length])
                at += 12 + length
            isal_zlib.decompress(b"".join(packed))
        for part, voxels in enumerate(contents[number % len(contents)]):
            (out / f"{number}_{part}.nii.gz").write_bytes(igzip.compress(voxels, compresslevel=1))


def prepare(folder: Path, *, scans: int, slices: int) -> None:
    """Raw folders of one and of all scans, and what the bound compresses."""
    from harness.material import write_real_scans

    shutil.rmtree(folder, ignore_errors=True)
    write_real_scans(folder, counts=(1, scans), slices=slices)
    contents(folder, scans=scans)


def contents(folder: Path, *, scans: int) -> None:
    """The contents of the NIfTI files of the first two scans, as volseg writes them."""
    from isal import igzip

    first = folder / "first"
    measurement.run(volseg(folder / f"raw{scans}", first))
    for number, image in enumerate(sorted((first / "imagesTr").glob("*.nii.gz"))[:2]):
        place = folder / "nifti" / str(number)
        place.mkdir(parents=True)
        for path in (image, first / "labelsTr" / image.name.replace("_0000", "")):
            (place / path.parent.name).write_bytes(igzip.decompress(path.read_bytes()))


def volseg(raw: Path, out: Path, *, workers: int = 1) -> list[str | Path]:
    """The command."""
    program = Path(sys.executable).with_name("volseg")
    return [program, "convert", "uw_madison", raw, out, "--workers", str(workers)]


def ways(folder: Path, *, scans: int) -> dict[str, Callable[[], Values]]:
    """What each way is timed at."""

    def timed(words: Callable[[Path, Path], list[str | Path]], name: str) -> Callable[[], Values]:
        def once(count: int) -> Values:
            out = folder / name
            shutil.rmtree(out, ignore_errors=True)
            if name == "bound":
                out.mkdir()
            return measurement.run(words(folder / f"raw{count}", out), env=ONE_THREAD)

        def both() -> Values:
            one, all_ = once(1), once(scans)
            further = {
                f"scan_{part}_s": (all_[f"{part}_s"] - one[f"{part}_s"]) / (scans - 1) for part in ("cpu", "wall")
            }
            return {**all_, **further, "peak_of_one_mib": one["peak_mib"]}

        return both

    def usual(*options: str) -> Callable[[Path, Path], list[str | Path]]:
        script = Path(__file__).with_name("peers") / "usual_conversion.py"
        return lambda raw, out: [measurement.peer("usual"), script, raw, out, *options]

    return {
        "volseg": timed(volseg, "volseg"),
        "usual script": timed(usual(), "usual"),
        "usual script, careful": timed(usual("--careful"), "careful"),
        "bound": timed(lambda raw, out: [sys.executable, __file__, "--bound", raw, folder / "nifti", out], "bound"),
    }


def check_equal(folder: Path) -> int:
    """Voxels that differ between volseg's and the usual script's files, images and labels alike."""
    import numpy as np

    from volseg.volume import read_volume

    differing = 0
    for path in sorted((folder / "careful" / "images").iterdir()):
        key = path.name.partition(".")[0]
        pairs = [
            (path, folder / "volseg" / "imagesTr" / f"{key}_0000.nii.gz"),
            (folder / "careful" / "labels" / path.name, folder / "volseg" / "labelsTr" / path.name),
        ]
        for theirs, ours in pairs:
            differing += int(np.count_nonzero(read_volume(theirs).voxels != read_volume(ours).voxels))
    return differing


def cores(folder: Path, *, scans: int, rounds: int) -> dict[str, list[Values]]:
    """The same command with one worker and with one per core."""

    def with_workers(count: int) -> Callable[[], Values]:
        def once() -> Values:
            shutil.rmtree(folder / "cores", ignore_errors=True)
            return measurement.run(volseg(folder / f"raw{scans}", folder / "cores", workers=count))

        return once

    counts = [1, *[n for n in (2, 4, 8, 16) if n <= measurement.machine()["cores"]]]
    return measurement.paired({f"{n} worker{'s' if n > 1 else ''}": with_workers(n) for n in counts}, rounds=rounds)[0]


def main() -> None:
    """Parse, prepare, measure, write."""
    if sys.argv[1:2] == ["--bound"]:
        bound(*map(Path, sys.argv[2:]))
        return
    parser = measurement.options("conversion", __doc__)
    parser.add_argument("--scans", type=int, default=24)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument(
        "--kept", action="store_true", help="work on the scans that a run with --kept left, and keep them"
    )
    given = parser.parse_args()
    scans, rounds, slices = (3, 1, 16) if given.quick else (given.scans, given.rounds, 144)
    machine, folder = measurement.machine(), given.output
    if not (given.kept and (folder / "nifti").is_dir() and (folder / f"raw{scans}").is_dir()):
        # In a process of its own: this one stays small.
        code = "import sys; from pathlib import Path; sys.path.insert(0, sys.argv[1]); import conversion as c; "
        code += "c.prepare(Path(sys.argv[2]), scans=int(sys.argv[3]), slices=int(sys.argv[4]))"
        here = Path(__file__).parent
        measurement.run([sys.executable, "-c", code, here, folder.resolve(), str(scans), str(slices)])
    found, left_out = measurement.paired(ways(folder.resolve(), scans=scans), rounds=rounds)
    by_cores = cores(folder.resolve(), scans=scans, rounds=min(rounds, 3))
    differing = None if left_out else check_equal(folder)
    one = {name: {"Peak of one scan (MiB)": round(values[0]["peak_of_one_mib"])} for name, values in found.items()}
    title = f"{scans} scans of {slices} slices, 266 x 266 and 360 x 310 in turn; one core"
    tables = [
        measurement.table(
            title, [SCAN_CPU, SCAN_WALL, *WHOLE], found, reference="volseg", facts=one, left_out=left_out
        ),
        measurement.table("volseg convert by --workers", [WALL, *WHOLE], by_cores, way="", reference="1 worker"),
    ]
    notes = ["CPU and peak memory are of the whole command; a further scan is without its start and train.csv."]
    if differing is not None:
        notes.append(f"Voxels that differ between volseg and the careful script, images and labels: {differing}.")
    packages = {**measurement.versions("volseg", "numpy", "pandas", "nibabel", "kornia-rs", "isal")}
    if not left_out:
        usual = measurement.versions("opencv-python-headless", python=measurement.peer("usual"))
        packages |= usual
    measurement.write(
        measurement.result("conversion", tables, quick=given.quick, machine=machine, versions=packages, notes=notes)
    )
    if not (given.quick or given.kept):
        shutil.rmtree(folder, ignore_errors=True)  # gigabytes
    if differing:
        sys.exit("the results differ")


if __name__ == "__main__":
    os.environ.setdefault("OMP_WAIT_POLICY", "passive")
    main()

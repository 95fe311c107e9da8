"""Whole commands beside an earlier commit of volseg: `convert` of slices and of DICOM, and `evaluate`, in CPU seconds.

    python benchmarks/baseline.py --baseline aedfbb2 --pairs 9

The earlier tree is unpacked by `git archive` and runs in the same environment. The two take turns, each first in every
second pair, with one worker and one thread. It writes a table to the standard output.
"""

from __future__ import annotations

import io
import shutil
import statistics
import subprocess
import sys
import tarfile
from collections.abc import Callable, Sequence
from pathlib import Path

import nibabel as nib
import numpy as np
from harness import measurement
from harness.measurement import ROOT, Values, tell
from pydicom import Dataset
from pydicom.dataset import FileMetaDataset
from pydicom.uid import CTImageStorage, ExplicitVRLittleEndian, generate_uid

VOLSEG = Path(sys.executable).parent / "volseg"
SIDE, SLICES = 512, 120
COMMANDS = ("convert uw_madison", "convert dicom", "evaluate")


def unpack(commit: str, folder: Path) -> None:
    """Write the tree of a commit into a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)
    packed = subprocess.run(["git", "-C", str(ROOT), "archive", commit], capture_output=True, check=True).stdout
    with tarfile.open(fileobj=io.BytesIO(packed)) as archive:
        archive.extractall(folder, filter="data")


def write_series(folder: Path) -> None:
    """Write a CT of noise, 120 slices of 512 x 512 pixels of 0.8 mm, 2 mm apart."""
    folder.mkdir(parents=True)
    generator = np.random.default_rng(0)
    study, series, frame = generate_uid(), generate_uid(), generate_uid()
    for number in range(SLICES):
        image = Dataset()
        image.file_meta = FileMetaDataset()
        image.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        image.SOPClassUID = image.file_meta.MediaStorageSOPClassUID = CTImageStorage
        image.SOPInstanceUID = image.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        image.StudyInstanceUID, image.SeriesInstanceUID, image.FrameOfReferenceUID = study, series, frame
        image.PatientID, image.PatientName, image.Modality = "1", "Phantom", "CT"
        image.StudyDate, image.StudyTime, image.InstanceNumber = "20260101", "120000", number + 1
        image.ImagePositionPatient, image.ImageOrientationPatient = [-200, -200, 2.0 * number], [1, 0, 0, 0, 1, 0]
        image.PixelSpacing, image.SliceThickness = [0.8, 0.8], 2
        image.Rows = image.Columns = SIDE
        image.SamplesPerPixel, image.PhotometricInterpretation, image.PixelRepresentation = 1, "MONOCHROME2", 1
        image.BitsAllocated, image.BitsStored, image.HighBit = 16, 16, 15
        image.RescaleSlope, image.RescaleIntercept = 1, -1024
        image.PixelData = generator.integers(900, 1200, (SIDE, SIDE), dtype=np.int16).tobytes()
        image.save_as(folder / f"{number:04d}.dcm", enforce_file_format=True)


def write_predictions(cohort: Path, folder: Path) -> None:
    """Write the labels of a cohort as predictions of it, moved by one voxel along X."""
    folder.mkdir()
    shutil.copy(cohort / "dataset.json", folder)
    for path in sorted((cohort / "labelsTr").glob("*.nii.gz")):
        label = nib.load(path)
        moved = np.roll(np.asanyarray(label.dataobj), 1, axis=0)
        nib.save(nib.Nifti1Image(moved, label.affine, label.header), folder / path.name)


def run(tree: Path, *words: str | Path) -> Values:
    """Run volseg of a tree."""
    env = {"PYTHONPATH": str(tree), "OMP_NUM_THREADS": "1"}
    return measurement.run([VOLSEG, *words, "--workers", "1"], env=env)


def ways(command: str, trees: dict[str, Path], made: Path) -> dict[str, Callable[[], Values]]:
    """The command by each tree."""

    def by(name: str, tree: Path) -> Callable[[], Values]:
        def once() -> Values:
            out = made / "out"
            shutil.rmtree(out, ignore_errors=True)
            if command == "evaluate":
                return run(
                    tree, "evaluate", made / f"{name} predictions", made / f"{name} cohort", "-o", out, "--no-html"
                )
            kind = command.split()[1]
            return run(tree, "convert", kind, made / kind, out)

        return once

    return {name: by(name, tree) for name, tree in trees.items()}


def row(command: str, now: Sequence[Values], before: Sequence[Values]) -> str:
    """A line of the table."""
    own, other = ([values["cpu_s"] for values in found] for found in (now, before))
    each = [one / two for one, two in zip(own, other, strict=True)]
    cells = [
        f"`volseg {command}`",
        str(len(each)),
        *(f"{statistics.median(found):.2f}" for found in (own, other)),
        f"{statistics.median(each):.3f}",
        f"{min(each):.2f} to {max(each):.2f}",
        f"{min(own) / min(other):.3f}",
    ]
    return f"| {' | '.join(cells)} |"


def main() -> None:
    """Parse, prepare, measure, tell."""
    parser = measurement.options("baseline", __doc__)
    parser.add_argument("--baseline", required=True, help="commit to compare with", metavar="COMMIT")
    parser.add_argument("--pairs", type=int, default=9)
    parser.add_argument("--commands", nargs="+", choices=COMMANDS, default=COMMANDS)
    given = parser.parse_args()
    made: Path = given.output
    shutil.rmtree(made, ignore_errors=True)
    trees = {"now": ROOT, "before": made / "tree"}
    unpack(given.baseline, trees["before"])
    measurement.run([VOLSEG, "phantom", made / "uw_madison", *(["--patients", "2"] if given.quick else [])])
    write_series(made / "dicom")
    for name, tree in trees.items():
        run(tree, "convert", "uw_madison", made / "uw_madison", made / f"{name} cohort")
        write_predictions(made / f"{name} cohort", made / f"{name} predictions")
    rows = []
    for command in given.commands:
        found, _ = measurement.paired(ways(command, trees, made), rounds=1 if given.quick else given.pairs)
        rows.append(row(command, found["now"], found["before"]))
    tell(f"\n| command | pairs | now, CPU s | {given.baseline} | median ratio | range | ratio of the minima |")
    tell("\n".join(["|---|---|---|---|---|---|---|", *rows]))


if __name__ == "__main__":
    main()

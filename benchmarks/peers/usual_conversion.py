"""The usual script from UW-Madison slices to NIfTI, as notebooks do it: the peer of benchmarks/conversion.py.

    python benchmarks/peers/usual_conversion.py RAW OUT

Slice by slice: the PNG by OpenCV, its three rows of train.csv by their id, the run lengths by a loop; the stack as
nibabel writes it by default. Volumes are stacked in an array of numpy's default type, float64. With `--careful` they
keep their 16 bits, and train.csv is turned once into a table of a row an id, as the better notebooks do. It needs
opencv-python-headless, pandas and nibabel, and nothing of volseg.
"""

import argparse
from pathlib import Path

import cv2
import nibabel as nib
import numpy as np
import pandas as pd

CLASSES = ("large_bowel", "small_bowel", "stomach")


def rle_decode(text: str, shape: tuple[int, int]) -> np.ndarray:
    """A mask (rows, columns) of a run-length string."""
    numbers = text.split()
    starts = np.asarray(numbers[0::2], dtype=int) - 1
    lengths = np.asarray(numbers[1::2], dtype=int)
    flat = np.zeros(shape[0] * shape[1], dtype=np.uint8)
    for start, length in zip(starts, lengths, strict=True):
        flat[start : start + length] = 1
    return flat.reshape(shape)


def texts_of(table: pd.DataFrame, slice_id: str, careful: bool) -> list:
    """The run-length strings of a slice, one per class; NaN where the organ is not there."""
    if careful:  # a row per id, a column per class
        return table.loc[slice_id, list(CLASSES)].tolist()
    rows = table[table["id"] == slice_id]
    return [rows.loc[rows["class"] == name, "segmentation"].iloc[0] for name in CLASSES]


def convert(scan: Path, table: pd.DataFrame, out: Path, careful: bool) -> None:
    """One scan: its image and its label map, a bit an organ."""
    key = scan.name
    files = sorted((scan / "scans").glob("*.png"))
    _, _, width, height, x_mm, y_mm = files[0].stem.split("_")
    shape = (int(height), int(width))
    image = np.zeros((*shape, len(files)), dtype=np.uint16 if careful else float)
    label = np.zeros((*shape, len(files)), dtype=np.uint8)
    for z, file in enumerate(files):
        image[:, :, z] = cv2.imread(str(file), cv2.IMREAD_UNCHANGED)
        slice_id = f"{key}_{'_'.join(file.stem.split('_')[:2])}"
        for bit, text in enumerate(texts_of(table, slice_id, careful)):
            if isinstance(text, str):
                label[:, :, z] |= rle_decode(text, shape) << bit
    affine = np.diag([-float(x_mm), -float(y_mm), 3.0, 1.0])
    nib.save(nib.Nifti1Image(image.transpose(1, 0, 2), affine), out / "images" / f"{key}.nii.gz")
    nib.save(nib.Nifti1Image(label.transpose(1, 0, 2), affine), out / "labels" / f"{key}.nii.gz")


def main() -> None:
    """Parse and convert every scan."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("raw", type=Path)
    parser.add_argument("out", type=Path)
    parser.add_argument("--careful", action="store_true", help="16 bits, and train.csv by id")
    given = parser.parse_args()
    for name in ("images", "labels"):
        (given.out / name).mkdir(parents=True)
    cv2.setNumThreads(1)
    table = pd.read_csv(given.raw / "train.csv")
    if given.careful:
        table = table.pivot(index="id", columns="class", values="segmentation")  # noqa: PD010
    for scan in sorted((given.raw / "train").glob("*/*_day*")):
        convert(scan, table, given.out, given.careful)


if __name__ == "__main__":
    main()

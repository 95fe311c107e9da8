"""A random crop with its label for training: volseg's ways of keeping cases beside MONAI's, paired in one run.

    sh benchmarks/run.sh loading

Four synthetic volumes with three overlapping organs. The methods take crops in turn, over several rounds; the time is
CPU time of one thread, apart from the line of a disk whose pages the system has dropped, which is time on the wall.
Memory is what preparing the cases and twenty crops add to the resident memory, in a fresh fork.
"""

from __future__ import annotations

import json
import os
import statistics
import tempfile
import time
import warnings
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch
from harness import measurement
from harness.measurement import Measure
from monai import transforms as mt
from monai.data import CacheDataset, Dataset, PersistentDataset

from volseg.cohort import Cohort
from volseg.labels import LabelTable
from volseg.training import CachedDataset
from volseg.transforms import augmentation, preprocessing
from volseg.volume import Volume, write_volume

SHAPE = (266, 266, 144)
SPACING_MM = (1.5, 1.5, 3.0)
ROI = (96, 96, 96)
CASES = 4
LABELS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])

OURS = "volseg, memory"
MEASURES = [
    Measure("ms", "Time of a crop", "ms", 1),
    Measure("peak", "Peak memory", "MiB", 0, compared=False),
    Measure("kept", "Kept in memory", "MiB", 0, compared=False),
]

Crop = Callable[[int], Any]  # of a case, by number


def write_cohort(folder: Path) -> Cohort:
    """Noise in which three ellipsoids stand, as an nnU-Net raw folder."""
    generator = np.random.default_rng(0)
    x, y, z = np.meshgrid(*map(np.arange, SHAPE), indexing="ij", sparse=True)
    for number in range(CASES):
        label = np.zeros(SHAPE, np.uint8)
        for bit in range(3):
            a, b, c = generator.uniform(0.35, 0.65, 3) * SHAPE
            label |= ((((x - a) / 40) ** 2 + ((y - b) / 35) ** 2 + ((z - c) / 20) ** 2 < 1) << bit).astype(np.uint8)
        image = (generator.integers(0, 400, SHAPE) + 300 * (label > 0)).astype(np.uint16)
        affine = np.diag([*SPACING_MM, 1.0])
        write_volume(folder / "imagesTr" / f"case{number}_0000.nii.gz", Volume(image, affine))
        write_volume(folder / "labelsTr" / f"case{number}.nii.gz", Volume(label, affine))
    dataset = {"channel_names": {"0": "MR"}, **LABELS.to_dataset_json(), "numTraining": CASES, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    return Cohort.open(folder)


def by_volseg(cohort: Cohort, cache: str, folder: Path) -> Crop:
    """The bundle's data set, with the crop and its copy alone of the random transforms."""
    before = preprocessing(LABELS, channels=1, spacing_mm=SPACING_MM, roi_size=ROI)
    crop = augmentation(LABELS, roi_size=ROI, crops=1).transforms[:3]
    steps = mt.Compose([before, *crop]).flatten()
    return CachedDataset(cohort.datalist("labelled"), steps, cache=cache, cache_dir=folder).__getitem__


def monai_steps() -> mt.Compose:
    """What MONAI's tutorials do before and at the crop; the organs are one foreground, as its crop knows them."""
    keys = ["image", "label"]
    return mt.Compose(
        [
            mt.LoadImaged(keys),
            mt.EnsureChannelFirstd(keys),
            mt.Orientationd(keys, axcodes="RAS", labels=None),
            mt.Spacingd(keys, pixdim=SPACING_MM, mode=("bilinear", "nearest")),
            mt.NormalizeIntensityd("image", channel_wise=True),
            mt.RandCropByPosNegLabeld(keys, label_key="label", spatial_size=ROI, pos=1, neg=1, num_samples=1),
        ]
    )


def methods(cohort: Cohort, folder: Path) -> dict[str, Callable[[], Crop]]:
    """What prepares the cases of each method and gives its crop."""
    cases = [{**item, "image": item["image"][0]} for item in cohort.datalist("labelled")]
    return {
        OURS: lambda: by_volseg(cohort, "memory", folder),
        "volseg, disk": lambda: by_volseg(cohort, "disk", folder),
        "MONAI CacheDataset": lambda: CacheDataset(cases, monai_steps(), progress=False).__getitem__,
        "MONAI PersistentDataset": lambda: PersistentDataset(cases, monai_steps(), folder / "monai").__getitem__,
        "NIfTI files": lambda: Dataset(cases, monai_steps()).__getitem__,
    }


def dropped(folder: Path) -> None:
    """Let the system forget the pages of all files below a folder."""
    for path in folder.rglob("*"):
        if path.is_file():
            handle = os.open(path, os.O_RDONLY)
            os.posix_fadvise(handle, 0, 0, os.POSIX_FADV_DONTNEED)
            os.close(handle)


def crops_ms(crop: Crop, count: int, clock: Callable[[], float]) -> float:
    """The mean time of a crop, the cases in turn."""
    started = clock()
    for number in range(count):
        crop(number % CASES)
    return 1000 * (clock() - started) / count


def used(prepare: Callable[[], Crop], count: int) -> Crop:
    """Prepare the cases and take so many crops; what gives them keeps its cases."""
    crop = prepare()
    crops_ms(crop, count, time.perf_counter)
    return crop


def benchmark(folder: Path, rounds: int) -> tuple[dict[str, Any], str]:
    """The table of all methods, and what disks have to do with it."""
    cohort, cache = write_cohort(folder / "cohort"), folder / "cache"
    prepared = methods(cohort, cache)
    crops = {name: prepare() for name, prepare in prepared.items()}
    counts = {"NIfTI files": 1, "MONAI CacheDataset": 3, "MONAI PersistentDataset": 3}
    times: dict[str, list[float]] = {name: [] for name in crops}
    for crop in crops.values():
        crops_ms(crop, CASES, time.process_time)  # PersistentDataset writes its files at the first use
    for path in cache.rglob("*.npy"):
        path.read_bytes()  # the system has the pages now, as after an epoch where its memory suffices
    for _ in range(rounds):
        for name, crop in crops.items():
            times[name].append(crops_ms(crop, counts.get(name, 20), time.process_time))
    cold = []
    for number in range(2 * CASES):
        dropped(cache)
        cold.append(crops_ms(lambda _, case=number % CASES: crops["volseg, disk"](case), 1, time.perf_counter))
    crops.clear()
    memory = {
        name: measurement.memory_of(partial(used, prepare, CASES if name == "NIfTI files" else 20))
        for name, prepare in prepared.items()
    }
    found = {name: [{"ms": ms, **(memory[name] or {})} for ms in each] for name, each in times.items()}
    sizes = {}
    for name, paths in {"volseg": [*cache.glob("[!m]*/case*")], "MONAI": [*(cache / "monai").glob("*")]}.items():
        sizes[name] = sum(file.stat().st_size for path in paths for file in files_of(path)) / CASES / 2**20
    note = (
        f"With the pages dropped before each crop, a crop from volseg's files takes {statistics.median(cold):.0f} ms "
        f"on the wall. On disk a case takes {sizes['volseg']:.0f} MiB, as MONAI's PersistentDataset writes it "
        f"{sizes['MONAI']:.0f} MiB."
    )
    return measurement.table("A crop with its label", MEASURES, found, way="Method", reference=OURS), note


def files_of(path: Path) -> Iterator[Path]:
    """A file, or the files of a folder."""
    yield from [path] if path.is_file() else path.iterdir()


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("loading", __doc__)
    parser.add_argument("--rounds", type=int, default=5)
    options = parser.parse_args()
    machine = measurement.machine()
    warnings.simplefilter("ignore")
    torch.set_num_threads(1)
    options.output.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=options.output) as folder:
        table, note = benchmark(Path(folder), 1 if options.quick else options.rounds)
    versions = measurement.versions("volseg", "numpy", "torch", "monai", "nibabel")
    measurement.write(
        measurement.result("loading", [table], quick=options.quick, machine=machine, versions=versions, notes=[note])
    )


if __name__ == "__main__":
    main()

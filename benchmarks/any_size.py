"""Memory and time of `volseg predict`, `check` and `evaluate` by the size of the volume and the number of regions.

    sh benchmarks/run.sh any_size --before TREE --case 104:128,128,128:2GiB --case 1:256,256,256:1GiB
    sh benchmarks/run.sh any_size --files 104:128,128,128 --files 104:256,256,256

The network is one convolution of 1 x 1 x 1, so that what is measured is reading, summing, deciding and writing. Each
prediction is a process of its own; memory is the kernel's peak of it. The label maps of a row are compared. `check` and
`evaluate` read a cohort of one case whose regions are balls, and a prediction that is moved by a voxel.
"""

from __future__ import annotations

import json
import multiprocessing
import shutil
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

from harness import measurement, volseg_command
from harness.measurement import CPU, PEAK, WALL, Values
from harness.volseg_command import HERE

ROI = [96, 96, 96]


def apart(function: Callable[..., Any], *given: Any) -> Any:  # noqa: ANN401
    """Call a function in a process of its own: the peak of a program counts what its parent held when it was begun."""
    with multiprocessing.get_context("spawn").Pool(1) as pool:
        return pool.apply(function, given)


def prepare(folder: Path, regions: int, shape: tuple[int, ...], overlap: float) -> None:
    """A bundle with a network of one convolution, a checkpoint, and a volume of smooth noise."""
    import numpy as np
    import torch

    from volseg.bundle import Recipe
    from volseg.labels import LabelTable
    from volseg.volume import Volume, write_volume

    shutil.copytree(HERE / "bundles" / "unet", folder / "bundle")
    path = folder / "bundle" / "inference.json"
    content = json.loads(path.read_text())
    content["network_def"] = {
        "_target_": "torch.nn.Conv3d",
        "in_channels": 1,
        "out_channels": "$@labels.channels",
        "kernel_size": 1,
    }
    path.write_text(json.dumps({**content, "overlap": overlap}))
    labels = LabelTable.exclusive([f"region_{number}" for number in range(regions)])
    recipe = Recipe(labels, ["MR"], [1, 1, 1], ROI, {}, {"source": {}}, [{"scheme": "mr"}])
    torch.manual_seed(0)
    weights = torch.nn.Conv3d(1, labels.channels, 1).state_dict()
    torch.save({"model": weights, "recipe": recipe.state_dict()}, folder / "model.pt")
    coarse = np.random.default_rng(0).normal(0, 100, [-(-n // 8) for n in shape]).astype(np.float32)
    voxels = coarse.astype(np.int16)
    for axis in range(3):
        voxels = voxels.repeat(8, axis=axis)
    write_volume(folder / "case.nii.gz", Volume(voxels[tuple(map(slice, shape))], np.diag([1.0, 1.0, 1.0, 1.0])))


def ways(given: Any, folder: Path, memory: str) -> dict[str, Callable[[], Values]]:  # noqa: ANN401
    """The programs."""

    def predict(tree: Path, name: str, *words: str) -> Callable[[], Values]:
        def run() -> Values:
            shutil.rmtree(folder / name, ignore_errors=True)
            stated = ["--checkpoint", folder / "model.pt", "--engine", "torch", "--precision", "fp32"]
            stated += ["--no-skip-empty", "--device", "cpu"]
            command = ["predict", folder / "bundle", folder / "case.nii.gz", "-o", folder / name, *stated, *words]
            return volseg_command.run(*command, tree=tree)

        return run

    found = {"whole": predict(HERE, "whole"), f"--memory {memory}": predict(HERE, "slabs", "--memory", memory)}
    return {"before": predict(given.before, "before"), **found} if given.before and not given.alone else found


def prepare_files(folder: Path, regions: int, shape: tuple[int, ...]) -> None:
    """A cohort of one case with balls as regions, and a prediction that is moved by a voxel."""
    import numpy as np

    from volseg.labels import LabelTable
    from volseg.volume import Volume, write_volume

    affine = np.diag([1.0, 1.0, 1.0, 1.0])
    side = next(n for n in range(1, 100) if n**3 >= regions)
    label = np.zeros(shape, np.uint8)
    for number in range(regions):
        place = np.unravel_index(number, (side,) * 3)
        box = tuple(slice(n * p // side, n * (p + 1) // side) for n, p in zip(shape, place, strict=True))
        grids = np.ogrid[tuple(slice(-1, 1, complex(0, one.stop - one.start)) for one in box)]
        label[box][sum(grid**2 for grid in grids) < 0.8] = number + 1
    coarse = np.random.default_rng(0).normal(0, 100, [-(-n // 8) for n in shape]).astype(np.int16)
    for axis in range(3):
        coarse = coarse.repeat(8, axis=axis)
    image = coarse[tuple(map(slice, shape))]
    write_volume(folder / "cohort" / "imagesTr" / "case_0000.nii.gz", Volume(image, affine))
    write_volume(folder / "cohort" / "labelsTr" / "case.nii.gz", Volume(label, affine))
    write_volume(folder / "predictions" / "case.nii.gz", Volume(np.roll(label, 1, axis=0), affine))
    labels = LabelTable.exclusive([f"region_{number}" for number in range(regions)])
    dataset = {"channel_names": {"0": "MR"}, **labels.to_dataset_json(), "numTraining": 1, "file_ending": ".nii.gz"}
    (folder / "cohort" / "dataset.json").write_text(json.dumps(dataset))


def file_ways(given: Any, folder: Path) -> dict[str, Callable[[], Values]]:  # noqa: ANN401
    """`check` and `evaluate`, of this commit and of the one before."""

    def command(tree: Path, *words: str | Path) -> Callable[[], Values]:
        def run() -> Values:
            shutil.rmtree(folder / "report", ignore_errors=True)
            return volseg_command.run(*words, tree=tree)

        return run

    trees = {"": HERE, **({"before, ": given.before} if given.before and not given.alone else {})}
    evaluation: list[str | Path] = ["evaluate", folder / "predictions", folder / "cohort", "-o", folder / "report"]
    found: dict[str, Callable[[], Values]] = {}
    for name, tree in trees.items():
        found[f"{name}check"] = command(tree, "check", folder / "cohort")
        found[f"{name}evaluate"] = command(tree, *evaluation, "--no-html")
        found[f"{name}evaluate with pictures"] = command(tree, *evaluation)
    return found


def main() -> None:
    """Parse, measure, write."""
    parser = measurement.options("any_size", __doc__)
    parser.add_argument("--case", action="append", default=[], metavar="REGIONS:X,Y,Z:MEMORY")
    parser.add_argument("--files", action="append", default=[], metavar="REGIONS:X,Y,Z", help="of check and evaluate")
    parser.add_argument("--before", type=Path, help="a checkout of an earlier commit")
    parser.add_argument("--alone", action="store_true", help="without that of before")
    parser.add_argument("--only-memory", action="store_true", help="only the way that keeps to the memory")
    parser.add_argument("--overlap", type=float, default=0.5, help="of windows; with 0 the sum is as large")
    parser.add_argument("--rounds", type=int, default=3)
    given = parser.parse_args()
    machine, tables, notes = measurement.machine(), [], []
    for stated in given.case:
        regions, sizes, memory = stated.split(":")
        shape = tuple(int(n) for n in sizes.split(","))
        with tempfile.TemporaryDirectory() as place:
            folder = Path(place)
            apart(prepare, folder, int(regions), shape, given.overlap)
            all_ways = ways(given, folder, memory)
            if given.only_memory:
                all_ways = dict(list(all_ways.items())[-1:])
            found, left_out = measurement.paired(all_ways, rounds=1 if given.quick else given.rounds)
            title = f"{regions} region{'s' * (regions != '1')}, {' x '.join(map(str, shape))} voxels"
            title += f", overlap {given.overlap:g}" * (given.overlap != 0.5)
            reference = next(iter(all_ways))
            tables.append(
                measurement.table(
                    title, [PEAK, CPU, WALL], found, way="Prediction", reference=reference, left_out=left_out
                )
            )
            notes += [f"{title}: {apart(differing, folder)}."]
    for stated in given.files:
        regions, sizes = stated.split(":")
        shape = tuple(int(n) for n in sizes.split(","))
        with tempfile.TemporaryDirectory() as place:
            apart(prepare_files, Path(place), int(regions), shape)
            found, left_out = measurement.paired(
                file_ways(given, Path(place)), rounds=1 if given.quick else given.rounds
            )
            title = f"Files: {regions} region{'s' * (regions != '1')}, {' x '.join(map(str, shape))} voxels"
            pairs = {f"before, {name}": name for name in found if f"before, {name}" in found}
            tables.append(
                measurement.table(title, [PEAK, CPU, WALL], found, way="Command", reference=pairs, left_out=left_out)
            )
    versions = measurement.versions("volseg", "numpy", "torch", "monai")
    content = measurement.result("any_size", tables, quick=given.quick, machine=machine, versions=versions, notes=notes)
    measurement.write(content)


def differing(folder: Path) -> str:
    """How many voxels of the label maps differ."""
    from volseg.volume import read_volume

    made = {name: folder / name / "case.nii.gz" for name in ("before", "whole", "slabs")}
    there = {name: read_volume(path).voxels for name, path in made.items() if path.is_file()}
    first, *others = there
    if not others:
        return "nothing to compare with"
    counts = [f"{int((there[first] != there[other]).sum()):,} of {other}" for other in others]
    return f"of {there[first].size:,} voxels {' and '.join(counts)} differ from {first}"


if __name__ == "__main__":
    main()

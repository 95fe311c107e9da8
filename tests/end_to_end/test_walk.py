"""The walk through the whole house, as a user types it: slices, cohort, training, prediction, report, export."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

import jsonschema
import numpy as np
import pytest
import slicerio
from warm_process import WarmCommands

import volseg
from volseg.cohort import Cohort
from volseg.volume import read_volume

ROOT = Path(__file__).resolve().parents[2]
BUNDLE = ROOT / "bundles" / "swinunetr"
TINY = ("--max_epochs", "2", "--val_interval", "1", "--roi_size", "[64,32,32]", "--crops_per_case", "1")
TINY += ("--spacing_mm", "[5.5,5.5,4.5]")  # a window shows a large part of a scan


class Run(Protocol):
    """A command of this Python's environment is run; what it printed, both streams."""

    def __call__(self, *words: str | Path, cwd: Path, code: int = 0) -> str: ...


@pytest.fixture(scope="module")
def run(warm_commands: WarmCommands) -> Run:
    environment = {**os.environ, "PATH": warm_commands.path}

    def command(*words: str | Path, cwd: Path, code: int = 0) -> str:
        found = shutil.which(words[0], path=warm_commands.path)
        done = subprocess.run(
            [str(found), *map(str, words[1:])], cwd=cwd, env=environment, capture_output=True, text=True, check=False
        )
        told = done.stdout + done.stderr
        assert done.returncode == code, told
        return told

    return command


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory, run: Run) -> Path:
    """A working directory outside the checkout with a cohort of four phantom scans and a trained network."""
    folder = tmp_path_factory.mktemp("walk")
    run("volseg", "phantom", "raw", "--patients", "2", "--days", "2", cwd=folder)
    run("volseg", "convert", "uw_madison", "raw", "cohort", cwd=folder)
    told = run("volseg", "train", BUNDLE, "--dataset_dir", "cohort", "--output_dir", "run", *TINY, cwd=folder)
    assert "2 training and 2 validation cases" in told
    assert "epoch 2/2" in told
    assert (folder / "run" / "model.pt").is_file()
    assert list((folder / "run").glob("events.out.tfevents.*"))
    return folder


def test_the_run_is_recorded(place: Path) -> None:
    record = json.loads((place / "run" / "run.json").read_text())
    schema = json.loads((Path(volseg.__file__).parent / "report" / "run.schema.json").read_text())
    jsonschema.Draft202012Validator(schema).validate(record)
    assert (record["status"], record["bundle"], len(record["history"])) == ("finished", BUNDLE.name, 2)
    assert record["settings"]["given"]["roi_size"] == record["settings"]["values"]["roi_size"] == [64, 32, 32]
    assert json.loads((place / "run" / "train.json").read_text())["max_epochs"] == 2
    assert f"volseg predict {BUNDLE}" in (place / "run" / "summary.md").read_text()


def test_conversion_can_be_repeated(place: Path, run: Run) -> None:
    assert "0 written, 4 finished before, 0 failed" in run(
        "volseg", "convert", "uw_madison", "raw", "cohort", cwd=place
    )
    assert "4 cases, 4 with labels, 2 patients" in run("volseg", "check", "cohort", cwd=place)


def test_from_prediction_to_report_and_slicer(place: Path, run: Run) -> None:
    told = run(
        *("volseg", "predict", BUNDLE, "cohort", "--part", "validation", "-o", "pred"),
        *("--checkpoint", "run/model.pt", "--overlap", "0"),
        cwd=place,
    )
    assert "2 predicted, 0 failed" in told
    cohort = Cohort.open(place / "cohort")
    for key in cohort.fold(0).validation:
        image, prediction = read_volume(cohort.image_paths(key)[0]), read_volume(place / "pred" / f"{key}.nii.gz")
        assert prediction.shape == image.shape
        assert np.array_equal(prediction.affine_ras, image.affine_ras)
        assert set(np.unique(prediction.voxels)) <= set(cohort.labels.values)
    told = run("volseg", "evaluate", "pred", "cohort", "--part", "validation", "-o", "report", cwd=place)
    assert "mean of regions" in told
    summary = json.loads((place / "report" / "summary.json").read_text())
    assert list(summary["regions"]) == list(cohort.labels.names)
    assert (place / "report" / "report.md").is_file()
    # A case that was expected and is absent is a row and exit 1; so are unexpected ones.
    told = run("volseg", "evaluate", "pred", "cohort", "--part", "labelled", "-o", "report_all", cwd=place, code=1)
    assert told.count("failed  case") == 2
    run("volseg", "export", "slicer", "pred", "-o", "slicer", cwd=place)
    for key in cohort.fold(0).validation:
        segmentation = slicerio.read_segmentation(str(place / "slicer" / f"{key}.seg.nrrd"))
        assert [segment["name"] for segment in segmentation["segments"]] == list(cohort.labels.names)
    # Back to slices, and from there to the same cohort.
    run("volseg", "export", "slices", "cohort", "raw_again", cwd=place)
    run("volseg", "convert", "uw_madison", "raw_again", "cohort_again", cwd=place)
    for folder in ("imagesTr", "labelsTr"):
        for path in (place / "cohort" / folder).iterdir():
            assert path.read_bytes() == (place / "cohort_again" / folder / path.name).read_bytes()


def test_the_bundle_runs_under_monai_from_any_directory(place: Path, run: Run) -> None:
    monai = ("python", "-m", "monai.bundle", "run")
    train, cohort = BUNDLE / "train.json", ("--dataset_dir", "cohort")
    run(*monai, "training", "--config_file", train, *cohort, "--output_dir", "run_monai", *TINY, cwd=place)
    assert (place / "run_monai" / "model.pt").is_file()
    both = f"['{train}','{BUNDLE / 'evaluate.json'}']"
    told = run(*monai, "evaluating", "--config_file", both, *cohort, "--output_dir", "run_monai", *TINY[4:], cwd=place)
    assert "val_mean_dice" in told
    inference = (BUNDLE / "inference.json", *cohort, "--checkpoint", "run_monai/model.pt", "--output_dir", "pred_monai")
    run(*monai, "inference", "--config_file", *inference, "--overlap", "0", cwd=place)
    written = sorted(path.name for path in (place / "pred_monai").iterdir())
    assert written == [f"{key}.nii.gz" for key in Cohort.open(place / "cohort").keys]
    run(
        *("volseg", "predict", BUNDLE, "cohort", "-o", "pred_own", "--checkpoint", "run_monai/model.pt"),
        # On a busy machine windows take so long that OpenVINO's bfloat16 is tried, and taken.
        *("--overlap", "0", "--engine", "torch", "--precision", "fp32"),
        cwd=place,
    )
    for name in written:  # volseg sums and resamples by NumPy, whose last digits differ: a voxel may lie on the edge
        one, other = (read_volume(place / folder / name) for folder in ("pred_monai", "pred_own"))
        assert np.array_equal(one.affine_ras, other.affine_ras)
        assert np.count_nonzero(one.voxels != other.voxels) <= 1e-5 * one.voxels.size


# Settings of a training with a mistake in them, and what the one line says.
MISTAKES = [
    (("--max_epoch", "3"), "did you mean --max_epochs"),
    (("--learning_rate", "0"), "must be a number above 0"),
    (("--dataset_dir", "cohrt"), "there is no folder cohrt"),
    (("--roi_size", "[50,50,50]"), "try --roi_size [64,64,64]"),
    (("--fold", "9"), "the fold must be 0 to 1 or all in"),
    (("--network_def#out_channels", "2"), "the network has 2 output channels"),
    (("--batch_size",), "has no value"),
    (("--device", "gpu"), "--device must be a device such as cpu, cuda or cuda:1, got gpu"),
    (("--precision", "fp16"), "must be auto, fp32 or bf16"),
]


@pytest.fixture(scope="module")
def mistakes(place: Path, warm_commands: WarmCommands) -> list[list[str]]:
    """The lines that each mistake costs, one after another in one process."""
    script = """
import json, sys
from volseg.cli import main
for words in json.loads(sys.argv[1]):
    try:
        main(words)
        code = 0
    except SystemExit as stop:
        code = stop.code
    for stream in (sys.stdout, sys.stderr):
        print(f"exit {code}", file=stream, flush=True)
"""
    given = ["train", str(BUNDLE), "--dry", "--dataset_dir", "cohort", "--output_dir", "run_dry"]
    command = [warm_commands.python, "-c", script, json.dumps([[*given, *overrides] for overrides, _ in MISTAKES])]
    done = subprocess.run(command, cwd=place, capture_output=True, text=True, check=True)
    told = [stream.split("exit 2\n")[:-1] for stream in (done.stdout, done.stderr)]
    assert [len(parts) for parts in told] == [len(MISTAKES)] * 2, done.stdout + done.stderr
    return [(out + err).splitlines() for out, err in zip(*told, strict=True)]


@pytest.mark.parametrize("number", range(len(MISTAKES)), ids=lambda number: MISTAKES[number][0][0])
def test_a_mistake_costs_one_line(place: Path, mistakes: list[list[str]], number: int) -> None:
    errors = [line for line in mistakes[number] if line.startswith("volseg: ")]
    assert len(errors) == 1
    assert MISTAKES[number][1] in errors[0]
    assert "Traceback" not in "".join(mistakes[number])
    assert not (place / "run_dry").exists()


def test_a_real_abdomen_in_another_orientation(place: Path, run: Run, shared_data: Path) -> None:
    """An MR stored LPS at 3 mm goes through convert, predict and export and comes back on its own grid."""
    from volseg.labels import LabelTable
    from volseg.volume import Volume, write_volume

    image, label = (read_volume(shared_data / "abdomen" / f"{name}.nii.gz") for name in ("mr", "mr_labels"))
    table = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
    organs = table.encode(np.stack([label.voxels == value for value in (15, 13, 6)]))
    raw = place / "abdomen_raw"
    write_volume(raw / "imagesTr" / "abdomen_0000.nii.gz", image)
    write_volume(raw / "labelsTr" / "abdomen.nii.gz", Volume(organs, label.affine_ras))
    (raw / "dataset.json").write_text(json.dumps({"channel_names": {"0": "MR"}, **table.to_dataset_json()}))
    run("volseg", "convert", "decathlon", "abdomen_raw", "abdomen", cwd=place)
    converted = read_volume(place / "abdomen" / "imagesTr" / "abdomen_0000.nii.gz")
    assert np.array_equal(converted.voxels, image.voxels)
    assert np.array_equal(converted.affine_ras, image.affine_ras)
    kept = read_volume(place / "abdomen" / "labelsTr" / "abdomen.nii.gz")
    assert np.array_equal(table.masks(kept.voxels), [label.voxels == value for value in (15, 13, 6)])
    run(
        *("volseg", "predict", BUNDLE, "abdomen", "-o", "abdomen_pred", "--checkpoint", "run/model.pt"),
        *("--overlap", "0"),
        cwd=place,
    )
    prediction = read_volume(place / "abdomen_pred" / "abdomen.nii.gz")
    assert prediction.shape == image.shape
    assert np.array_equal(prediction.affine_ras, image.affine_ras)
    run("volseg", "export", "slicer", "abdomen_pred", cwd=place)
    segmentation = slicerio.read_segmentation(str(place / "abdomen_pred" / "abdomen.seg.nrrd"))
    to_lps = np.diag([-1.0, -1.0, 1.0, 1.0])
    assert np.allclose(segmentation["ijkToLPS"], to_lps @ image.affine_ras, atol=1e-5)
    run("volseg", "evaluate", "abdomen_pred", "abdomen", "-o", "abdomen_report", cwd=place)

"""`scripts/cohort_inference.sh`: the whole run over raw data, repeated, and every wrong use of it."""

from __future__ import annotations

import csv
import os
import shutil
import subprocess
from pathlib import Path
from typing import Protocol

import numpy as np
import pytest
from command import told
from dicom_series import grid, noise, save, series
from warm_process import WarmCommands

from volseg.datasets import write_phantom
from volseg.volume import Volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
SCRIPT = ROOT / "scripts" / "cohort_inference.sh"
SHELL = shutil.which("dash") or shutil.which("sh") or "sh"
QUICK = ("--device", "cpu", "--engine", "torch", "--overlap", "0")


class Run(Protocol):
    """Exit code of the script and what was printed on both streams."""

    def __call__(self, *words: str | Path, cwd: Path) -> tuple[int, str]: ...


@pytest.fixture(scope="module")
def sh(warm_commands: WarmCommands) -> Run:
    environment = {**os.environ, "PATH": warm_commands.path, "OMP_NUM_THREADS": "1"}

    def script(*words: str | Path, cwd: Path) -> tuple[int, str]:
        done = subprocess.run(
            [SHELL, SCRIPT, *words],
            cwd=cwd,
            env=environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        return done.returncode, done.stdout

    return script


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    from tiny_bundle import write_bundle, write_checkpoint

    write_checkpoint(tmp_path / "model.pt")
    return write_bundle(tmp_path / "a bundle")


# --- wrong use


@pytest.mark.parametrize(
    ("words", "reason"),
    [
        ((), "0 words were given"),
        (("raw", "swinunetr"), "2 words were given"),
        (("rwa", "swinunetr", "out"), "there is no folder rwa"),
        (("raw", "swinunet", "out"), "there is no bundle swinunet"),
        (("raw", "swinunetr", "--kind", "dicom"), "come first, before --kind"),
        (("raw", "swinunetr", "out", "--kind", "dcm"), "--kind dcm was given, expected uw_madison"),
        (("raw", "swinunetr", "out", "--kind"), "--kind needs a value"),
        (("raw", "swinunetr", "out", "--kind", "--", "--workers", "2"), "--kind needs a value"),
        (("raw", "swinunetr", "out", "--workers", "2"), "--workers was not understood; options of volseg predict go"),
        (("raw", "swinunetr", "out", "--part", "test"), "--part test was given"),
        (("raw", "swinunetr", "out", "--fold", "1"), "--fold says which fold --part is of; give --part training or"),
        (("raw", "swinunetr", "out", "--kind", "nifti", "--part", "training"), "--part is of a cohort"),
        (("raw", "swinunetr", "out", "--kind", "nifti", "--dicom-seg"), "are for DICOM, and raw is taken for nifti"),
        (("raw", "swinunetr", "out", "--kaggle", "test.csv"), "raw is taken for dicom"),
        (("raw", "swinunetr", "out", "--kind", "uw_madison", "--kaggle", "test.csv"), "there is no file test.csv"),
        (("raw", "swinunetr", "out", "--secret-file", "s"), "there is no file s"),
    ],
)
def test_wrong_use_is_refused_before_anything_is_written(
    sh: Run, tmp_path: Path, words: tuple[str, ...], reason: str
) -> None:
    (tmp_path / "raw").mkdir()
    code, text = sh(*words, cwd=tmp_path)
    assert code == 2
    assert f"cohort_inference.sh: {reason}" in text or reason in text
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


@pytest.mark.parametrize(
    ("file", "kind"),
    [("train.csv", "uw_madison"), ("inner/train.csv", "uw_madison"), ("dataset.json", "decathlon"), ("a.nii", "nifti")],
)
def test_the_kind_is_found_out(sh: Run, tmp_path: Path, file: str, kind: str) -> None:
    """Each is refused for a reason that tells what it was taken for."""
    (tmp_path / "raw" / file).parent.mkdir(parents=True)
    (tmp_path / "raw" / file).touch()
    code, text = sh("raw", "swinunetr", "out", "--rtstruct", cwd=tmp_path)
    assert (code, f"raw is taken for {kind};" in text) == (2, True)


def test_a_step_that_is_refused_stops_the_run_and_is_named(sh: Run, tmp_path: Path) -> None:
    (tmp_path / "raw").mkdir()
    code, text = sh("raw", "swinunetr", "out", cwd=tmp_path)
    assert code == 2
    assert "raw holds no DICOM series" in text
    assert "stopped at: volseg convert dicom raw out/cohort; the same command goes on" in text


# --- the whole run


@pytest.mark.slow
def test_the_phantom_from_slices_to_submission_and_again(
    sh: Run, tmp_path: Path, bundle: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    raw = write_phantom(tmp_path / "raw slices", patients=2, days=1)
    with (raw / "train.csv").open(newline="") as file:
        rows = [line[:2] for line in csv.reader(file)]
    with (tmp_path / "test.csv").open("w", newline="") as file:
        csv.writer(file).writerows(rows)
    words = (raw.name, bundle.name, "out put", "--kaggle", "test.csv", "--", "--checkpoint", "model.pt", *QUICK)
    code, text = sh(*words, cwd=tmp_path)
    assert code == 0, text
    out = tmp_path / "out put"
    assert sorted(path.name for path in out.iterdir()) == [
        *("cohort", "predictions", "report", "slicer", "submission.csv"),
    ]
    assert (out / "report/report.html").is_file()
    assert len(list((out / "slicer").glob("*.seg.nrrd"))) == 2
    assert f"{len(rows) - 1} rows of 2 scans; was read back" in text
    first = (out / "submission.csv").read_bytes()
    code, text = sh(*words, cwd=tmp_path)
    assert code == 0, text
    assert "0 written, 2 finished before, 0 failed" in text
    assert "0 predicted, 2 finished before, 0 failed" in text
    assert (out / "submission.csv").read_bytes() == first
    kaggle = ("export", "kaggle", out / "predictions", out / "cohort", "--test-csv", tmp_path / "test.csv")
    assert told(capsys, *kaggle, "-o", out / "submission.csv", "--check")[0] == 0


@pytest.mark.slow
def test_dicom_with_a_series_that_fails_and_objects_for_the_archive(sh: Run, tmp_path: Path, bundle: Path) -> None:
    shape = (24, 20, 10)
    affine = grid(shape, spacing=(2.0, 2.0, 3.0))
    save(tmp_path / "raw/one", series(noise(shape), affine, "MR"))
    save(
        tmp_path / "raw/gap", [item for z, item in enumerate(series(noise(shape), affine, "MR", series="2")) if z != 4]
    )
    options = ("--dicom-seg", "--rtstruct", "--no-slicer", "--", "--checkpoint", "model.pt", *QUICK)
    code, text = sh("raw", bundle, "out", *options, cwd=tmp_path)
    assert code == 1, text
    assert "cases failed in: volseg convert; each is named above" in text
    assert "1 slices are absent" in text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["cohort", "dicom", "predictions"]
    assert sorted(path.name.partition(".")[2] for path in (tmp_path / "out/dicom").iterdir()) == [
        *("rtstruct.dcm", "seg.dcm"),
    ]


@pytest.mark.slow
def test_nifti_files_need_no_cohort(sh: Run, tmp_path: Path, bundle: Path) -> None:
    for key in "abcde":
        voxels = noise((24, 20, 10), seed=ord(key))
        write_volume(tmp_path / f"raw/{key}.nii.gz", Volume(voxels, np.diag([2.0, 2, 3, 1])))
    code, text = sh("raw", bundle, "out", "--", "--checkpoint", "model.pt", *QUICK, cwd=tmp_path)
    assert code == 0, text
    assert sorted(path.name for path in (tmp_path / "out").iterdir()) == ["predictions", "quality", "slicer"]
    assert len(list((tmp_path / "out/slicer").glob("*.seg.nrrd"))) == 5
    assert (tmp_path / "out/quality/quality.md").is_file()

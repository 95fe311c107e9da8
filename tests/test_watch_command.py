"""`volseg watch` with a network: DICOM in, label map and objects out, and nothing told of the patient."""

from __future__ import annotations

import csv
import gzip
import logging
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import PATIENT, STUDY, grid, noise, save, series
from test_cli import told
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.sources.dicom_image import read_stack
from volseg.sources.dicom_index import scan
from volseg.sources.dicom_segments import read_segments, read_voxels
from volseg.volume import Volume, read_volume, write_volume

WORDS = ("Lovelace", "MRN-4711", "18151210", "20240103", STUDY, "Kensington")
SHAPE = (24, 20, 10)


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a checkpoint, and an inbox with a whole series, one with a gap, and a NIfTI file."""
    folder = tmp_path_factory.mktemp("watch")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "model.pt")
    affine = grid(SHAPE, spacing=(2.0, 2.0, 3.0))
    whole = series(noise(SHAPE), affine, "MR", InstitutionName="Kensington")
    save(folder / "in", whole, "Lovelace Ada/MRN-4711_{}".format)
    gap = series(noise(SHAPE), affine, "MR", series="2")
    save(folder / "in", gap[:3] + gap[5:], "Lovelace Ada/with a gap/{}".format)
    (folder / "in/Lovelace Ada/Ada broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"Lovelace" * 10)
    write_volume(folder / "in/mr7.nii.gz", Volume(noise(SHAPE), np.diag([2.0, 2, 3, 1])))
    return folder


def words(place: Path, out: Path, *more: str) -> list[str]:
    named = ["watch", place / "in", out, place / "bundle", "--checkpoint", place / "model.pt"]
    return [*map(str, named), "--settle", "0", "--poll", "0.05", "--device", "cpu", "--engine", "torch", *more]


def table(out: Path) -> dict[str, dict[str, str]]:
    with (out / "series.csv").open(newline="") as file:
        return {row["key"]: row for row in csv.DictReader(file)}


def test_what_lies_there_is_segmented_and_tells_nothing_of_the_patient(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    out = tmp_path / "out"
    code, text = told(capsys, *words(place, out, "--once", "--dicom-seg", "--rtstruct"))
    assert code == 1
    assert "2 segmented, 0 found finished, 2 failed" in text
    rows = table(out)
    (key,) = [key for key, row in rows.items() if row["status"] == "done" and key != "mr7"]
    assert sorted(path.name for path in (out / key).iterdir()) == [
        f"{key}.nii.gz",
        f"{key}.rtstruct.dcm",
        f"{key}.seg.dcm",
    ]
    assert rows["mr7"]["note"] == "no DICOM series, so no DICOM object"
    assert [path.name for path in (out / "mr7").iterdir()] == ["mr7.nii.gz"]
    assert any("2 slices are absent" in row["error"] for row in rows.values())
    # The object holds the voxels of the label map.
    stack = read_stack(next(s for s in scan(place / "in").series if len(s.instances) == SHAPE[2]))
    label = read_volume(out / key / f"{key}.nii.gz")
    seg = pydicom.dcmread(out / key / f"{key}.seg.dcm")
    assert seg.PatientID == PATIENT["PatientID"]
    found = {roi.number: np.zeros(SHAPE, bool) for roi in read_segments(seg)}
    for number, index in read_voxels(out / key / f"{key}.seg.dcm", found, stack.shape, stack.affine_ras):
        found[number][index] = True
    names = {roi.number: roi.name for roi in read_segments(seg)}
    for number, mask in found.items():
        np.testing.assert_array_equal(mask, LABELS.masks(label.voxels)[LABELS.names.index(names[number])])
    # What is not for the archive names nobody.
    said = (text + caplog.text).replace(str(tmp_path), "").replace(str(place), "")
    for word in WORDS:
        assert word not in said
        for path in out.rglob("*"):
            assert word not in path.name
            if path.is_file() and path.suffix != ".dcm":
                content = path.read_bytes()
                content = gzip.decompress(content) if path.suffix == ".gz" else content
                assert word.encode() not in content, f"{word} in {path.name}"
    lines = [line for line in caplog.text.splitlines() if key in line]
    assert len(lines) == 1, "one line a series"

    code, text = told(capsys, *words(place, out, "--once"))
    assert (code, "0 segmented, 2 found finished, 2 given up before, 0 failed" in text) == (0, True)
    # The files of the series are read by the other commands as they are.
    assert told(capsys, "export", "slicer", out / key, "--labels", out, "-o", tmp_path / "slicer")[0] == 0
    assert (tmp_path / "slicer" / f"{key}.seg.nrrd").is_file()


def test_wrong_use_is_told(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    base = words(place, tmp_path / "out", "--once")
    for at, wrong, reason in (
        (1, tmp_path / "nowhere", "there is no folder"),
        (2, place / "in" / "out", "lie in each other"),
        (2, place, "lie in each other"),
        (3, "swinunet", "is no bundle"),
        (5, tmp_path / "modle.pt", "there is no checkpoint"),
        (5, place / "in/mr7.nii.gz", "checkpoint"),
    ):
        code, text = told(capsys, *base[:at], wrong, *base[at + 1 :])
        assert code == 2, (wrong, text)
        assert reason in text
    code, text = told(capsys, *base, "--settle", "-1")
    assert (code, "--settle" in text) == (2, True)
    (tmp_path / "cohort/imagesTr").mkdir(parents=True)
    code, text = told(capsys, *base[:2], tmp_path / "cohort", *base[3:])
    assert (code, "is a cohort" in text) == (2, True)
    (tmp_path / "other").mkdir()
    (tmp_path / "other/dataset.json").write_text('{"labels": {"background": 0, "liver": 1}}')
    code, text = told(capsys, *base[:2], tmp_path / "other", *base[3:])
    assert (code, "other labels" in text) == (2, True)


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_a_second_watcher_is_refused(
    place: Path, tmp_path: Path, number: signal.Signals, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "out"
    code = "import sys; from volseg.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    run = subprocess.Popen(
        [sys.executable, "-c", code, *words(place, out)],
        cwd=tmp_path,
        env=environment,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    until = time.monotonic() + 200
    while time.monotonic() < until and (not (out / "series.csv").exists() or len(table(out)) < 4):
        assert run.poll() is None, run.communicate()[0]
        time.sleep(0.1)
    assert told(capsys, *words(place, out, "--once"))[0] == 2
    run.send_signal(number)
    text, _ = run.communicate(timeout=100)
    assert run.returncode == 0, text
    assert "ending after the series in hand" in text
    assert "2 segmented, 0 found finished, 2 failed" in text

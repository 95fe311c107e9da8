"""`volseg watch` with a network: DICOM in, label map and objects out, and nothing told of the patient."""

from __future__ import annotations

import csv
import gzip
import json
import logging
import os
import random
import signal
import subprocess
import time
from dataclasses import fields
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from command import told
from dicom_series import PATIENT, STUDY, grid, noise, save, series
from tiny_bundle import LABELS, write_bundle, write_checkpoint
from two_steps import image, write_lungs
from typer.main import get_command
from warm_process import WarmCommands

from volseg.cli import app
from volseg.cli.network_options import NetworkOptions
from volseg.dicom import read_record, read_stack, scan
from volseg.dicom.segments import read_segments, read_voxels
from volseg.volume import Volume, provenance_of, read_volume, write_volume

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
    record = read_record(provenance_of(label.affine_ras))
    assert record is not None
    assert record.name == key
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
    assert (code, "must be no cohort" in text) == (2, True), text
    (tmp_path / "other").mkdir()
    (tmp_path / "other/dataset.json").write_text('{"labels": {"background": 0, "liver": 1}}')
    code, text = told(capsys, *base[:2], tmp_path / "other", *base[3:])
    assert (code, "other labels" in text) == (2, True)


def test_the_options_of_the_networks_are_those_of_predict() -> None:
    commands: Any = get_command(app)
    there = {name: {param.name: param for param in commands.commands[name].params} for name in ("predict", "watch")}
    for field in fields(NetworkOptions):
        one, other = (params[field.name] for params in there.values())
        for fact in ("opts", "secondary_opts", "help", "default", "multiple", "metavar", "is_flag"):
            assert getattr(one, fact) == getattr(other, fact), field.name


def test_it_segments_as_predict_does(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """An ensemble with mirror images, clean-up and probabilities, within a region."""
    write_lungs(tmp_path / "lungs")
    write_checkpoint(tmp_path / "finer.pt", spacing_mm=(1.5, 2, 3))
    for key, blocks in (("mr8", True), ("mr9", False)):
        volume = Volume(image(1, blocks=blocks), np.diag([-2.0, 2.0, 3.0, 1.0]))
        write_volume(tmp_path / "in" / f"{key}.nii.gz", volume)
    asked = ["--checkpoint", place / "model.pt", "--checkpoint", tmp_path / "finer.pt", "--flips", "0,1"]
    asked += ["--within", f"{tmp_path / 'lungs'}={tmp_path / 'lungs/model.pt'}", "--absent", "empty", "--keep-margin"]
    asked += ["--save-probabilities", "--fill-holes", "stomach", "--min-ml", "large_bowel=0.05", "--no-skip-empty"]
    asked += ["--device", "cpu", "--engine", "torch", "--precision", "fp32", "--overlap", "0.25"]
    bundle, out = place / "bundle", tmp_path / "out"
    assert told(capsys, "predict", bundle, tmp_path / "in", "-o", tmp_path / "predicted", *asked)[0] == 0
    code, text = told(capsys, "watch", tmp_path / "in", out, bundle, "--settle", "0", "--once", "--rtstruct", *asked)
    assert (code, "2 segmented" in text) == (0, True), text
    for key in ("mr8", "mr9"):
        for name in (f"{key}.nii.gz", f"probabilities/{key}.nii.gz"):
            assert (out / key / name).read_bytes() == (tmp_path / "predicted" / name).read_bytes()
    assert (out / "dataset.json").read_bytes() == (tmp_path / "predicted/dataset.json").read_bytes()
    assert table(out)["mr8"]["outputs"] == "mr8/mr8.nii.gz mr8/probabilities/mr8.nii.gz"
    empty = "no voxel of left and right was found, so the label map is empty"
    assert table(out)["mr9"]["note"] == f"{empty}; no DICOM series, so no DICOM object"
    # Label maps that are there already are of no use to series that are to come.
    code, text = told(capsys, *words(place, tmp_path / "new"), "--within", tmp_path / "predicted")
    assert (code, "name a bundle" in text) == (2, True)


def start(python: Path, cwd: Path, *words: str) -> subprocess.Popen[str]:
    """The command in a process of its own."""
    code = "import sys; from volseg.cli import main; main(sys.argv[1:])"
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    piped: dict[str, Any] = {"stdout": subprocess.PIPE, "stderr": subprocess.STDOUT, "text": True}
    return subprocess.Popen([python, "-c", code, *words], cwd=cwd, env=environment, **piped)


def states(out: Path) -> list[tuple[str, str]]:
    """(key, state) of each whole line of the journal."""
    path = out / ".volseg/watch.jsonl"
    lines = path.read_bytes().splitlines(keepends=True) if path.exists() else []
    entries = [json.loads(line) for line in lines if line.endswith(b"\n")]
    return [(entry["key"], entry["facts"]["state"]) for entry in entries]


@pytest.mark.slow
def test_killed_at_any_moment_each_series_is_segmented_once(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], warm_commands: WarmCommands
) -> None:
    save(tmp_path / "in", series(noise(SHAPE), grid(SHAPE, spacing=(2.0, 2.0, 3.0)), "MR"), "dicom/{}".format)
    for number in range(8):
        voxels = noise((60, 48, 24), seed=number)
        write_volume(tmp_path / f"in/mr{number}.nii.gz", Volume(voxels, np.diag([2.0, 2, 3, 1])))

    def asked(out: Path, *more: str) -> list[str]:
        named = ["watch", tmp_path / "in", out, place / "bundle", "--checkpoint", place / "model.pt"]
        more = ("--settle", "0", "--poll", "0.05", "--device", "cpu", "--engine", "torch", *more)
        return [*map(str, named), *more, "--save-probabilities", "--dicom-seg"]

    def visible(out: Path) -> dict[str, bytes]:
        files = (path for path in out.rglob("*") if path.is_file() and ".volseg" not in path.parts)
        return {path.relative_to(out).as_posix(): path.read_bytes() for path in files if path.suffix == ".gz"}

    unbroken, out = tmp_path / "unbroken", tmp_path / "out"
    assert told(capsys, *asked(unbroken, "--once"))[0] == 0
    expected, keys = visible(unbroken), set(table(unbroken))
    assert len(keys) == 9
    draw, kills = random.Random(0), 0
    while len({key for key, state in states(out) if state == "done"}) < len(keys) and kills < 4:
        run, before = start(warm_commands.python, tmp_path, *asked(out)), len(states(out))
        until = time.monotonic() + 250
        while time.monotonic() < until and len(states(out)) < before + draw.randint(1, 8):
            assert run.poll() is None, run.communicate()[0]
            time.sleep(0.005)
        time.sleep(draw.random() / 10)
        run.kill()
        run.communicate()
        kills += 1
        for name, content in visible(out).items():
            assert content == expected[name], f"{name} after {kills} kills"
    assert kills >= 2
    code, text = told(capsys, *asked(out, "--once"))
    assert (code, "0 failed" in text) == (0, True)
    assert visible(out) == expected
    done = [key for key, state in states(out) if state == "done"]
    assert sorted(done) == sorted(keys), "each once"
    assert list(table(out)) == done
    with (out / "series.csv").open(newline="") as file:
        assert len(list(csv.DictReader(file))) == len(keys)
    assert {path.name for path in out.iterdir()} == {*keys, "series.csv", "dataset.json", ".volseg"}
    assert not list(out.rglob(".partial-*"))
    assert not list((out / ".volseg").glob("staging/*"))


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_ends_it_well_and_a_second_watcher_is_refused(
    place: Path,
    tmp_path: Path,
    number: signal.Signals,
    capsys: pytest.CaptureFixture[str],
    warm_commands: WarmCommands,
) -> None:
    out = tmp_path / "out"
    run = start(warm_commands.python, tmp_path, *words(place, out))
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

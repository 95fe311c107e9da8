"""`volseg predict` as a fleet: resumed, in shards, over processes; always the same files."""

from __future__ import annotations

import json
import shutil
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from command import told
from job_report import contents, report
from tiny_bundle import write_bundle, write_checkpoint

from volseg.cli import main
from volseg.cohort import read_uncertainty
from volseg.inference import PriorRow, write_priors
from volseg.volume import Volume, read_volume, write_volume


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a checkpoint, five images and a file that is none."""
    folder = tmp_path_factory.mktemp("fleet")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "model.pt")
    draw = np.random.default_rng(0)
    for number in range(5):
        voxels = draw.integers(0, 900, (24, 20, 10)).astype(np.int16)
        write_volume(folder / "images" / f"case{number}.nii.gz", Volume(voxels, np.diag([2.0, 2.0, 3.0, 1.0])))
    (folder / "images" / "damaged.nii.gz").write_bytes(b"no image")
    return folder


def predict(capsys: pytest.CaptureFixture[str], place: Path, output: Path, *more: str) -> tuple[int, str]:
    words = ("--checkpoint", place / "model.pt", "-o", output, "--device", "cpu", "--engine", "torch")
    return told(capsys, "predict", place / "bundle", place / "images", *words, "--precision", "fp32", *more)


@pytest.fixture
def unbroken(capsys: pytest.CaptureFixture[str], place: Path) -> Path:
    """The predictions of one run from beginning to end."""
    output = place / "unbroken"
    if not output.exists():
        code, text = predict(capsys, place, output)
        assert code == 1
        assert "5 predicted, 1 failed (torch fp32)" in text
        assert "failed  damaged: " in text
    return output


def test_a_second_run_does_only_what_failed(
    capsys: pytest.CaptureFixture[str], place: Path, unbroken: Path, tmp_path: Path
) -> None:
    shutil.copytree(unbroken, tmp_path / "again")
    expected = contents(unbroken)
    first = report(unbroken)
    assert first["cases"] == {"all": 6, "done": 5, "done_before": 0, "failed": 1, "tried_twice": 1}
    assert first["checkpoint"]["bytes"] == (place / "model.pt").stat().st_size
    assert first["devices"].popitem()[0].startswith("torch fp32, cpu")
    text = predict(capsys, place, tmp_path / "again")[1]
    assert "0 predicted, 5 finished before, 1 failed" in text
    assert contents(tmp_path / "again") == expected
    assert report(tmp_path / "again")["cases"]["done_before"] == 5


def test_a_run_without_priors_leaves_no_row_that_says_otherwise(
    capsys: pytest.CaptureFixture[str], place: Path, unbroken: Path, tmp_path: Path
) -> None:
    """`volseg calibrate` took the predictions for those of a network that was shown earlier days."""
    output = tmp_path / "again"
    shutil.copytree(unbroken, output)
    rows = [PriorRow("case0", "case1", "p", used=True), PriorRow("of another run", "case1", "p", used=True)]
    write_priors(output, rows)
    predict(capsys, place, output)
    assert [line.partition(",")[0] for line in (output / "priors.csv").read_text().splitlines()[1:]] == [
        "of another run"
    ]
    write_priors(output, rows[:1], forget=["of another run"])
    predict(capsys, place, output)
    assert not (output / "priors.csv").exists()


def test_what_a_killed_run_has_written_survives(
    capsys: pytest.CaptureFixture[str], place: Path, unbroken: Path, tmp_path: Path
) -> None:
    """A kill leaves the journal and files, no uncertainty.csv and no report; the line of one case may be torn."""
    output = tmp_path / "killed"
    shutil.copytree(unbroken, output)
    (output / "uncertainty.csv").unlink()
    (output / "run_report.json").unlink()
    journal = output / ".volseg" / "predict.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    journal.write_bytes(b"".join(lines[:3]) + lines[3][:40])
    (output / ".partial-abcd1234-case4.nii.gz").write_bytes(b"half")
    assert "2 predicted, 3 finished before, 1 failed" in predict(capsys, place, output)[1]
    assert contents(output) == contents(unbroken)


def test_another_network_or_option_does_everything_anew(
    capsys: pytest.CaptureFixture[str], place: Path, unbroken: Path, tmp_path: Path
) -> None:
    output = tmp_path / "other"
    shutil.copytree(unbroken, output)
    assert "5 predicted, 1 failed" in predict(capsys, place, output, "--overlap", "0.25")[1]
    assert read_uncertainty(output).keys() == read_uncertainty(unbroken).keys()


def test_what_a_person_has_changed_in_place_is_kept(
    capsys: pytest.CaptureFixture[str],
    caplog: pytest.LogCaptureFixture,
    place: Path,
    unbroken: Path,
    tmp_path: Path,
) -> None:
    """A correction that was saved over the prediction was lost with the next run of the day, without a word."""
    output = tmp_path / "out"
    shutil.copytree(unbroken, output)
    expected = contents(unbroken)
    for number, value in enumerate((1, 2)):
        drawn = read_volume(output / "case1.nii.gz")
        write_volume(output / "case1.nii.gz", Volume(np.full_like(drawn.voxels, value), drawn.affine_ras))
        edit = (output / "case1.nii.gz").read_bytes()
        text = predict(capsys, place, output)[1]
        kept = output / "edited" / ("case1.nii.gz", "case1 (2).nii.gz")[number]
        assert f"case1: its label map is not the one that was predicted; it is kept as {kept}" in caplog.text
        assert "1 predicted, 4 finished before, 1 failed" in text
        assert kept.read_bytes() == edit
        assert contents(output) == expected
    changed = bytearray((output / "case2.nii.gz").read_bytes())
    changed[9] ^= 1  # of the same size: the byte of the operating system
    (output / "case2.nii.gz").write_bytes(changed)
    shutil.copy(output / "edited" / "case1.nii.gz", output / "damaged.nii.gz")  # drawn where the prediction failed
    caplog.clear()
    predict(capsys, place, output)
    assert caplog.text.count("not the one that was predicted") == 1
    assert (output / "edited" / "damaged.nii.gz").is_file()
    predict(capsys, place, output, "--overlap", "0.25")
    assert (output / "edited" / "case2.nii.gz").read_bytes() == changed
    assert len(list((output / "edited").iterdir())) == 4


def test_a_case_that_fails_now_keeps_no_row_of_before(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    """Its label map was removed, and its expected Dice stood in the table, by which `volseg review` orders."""
    (tmp_path / "images").mkdir()
    for number in range(2):
        shutil.copy(place / "images" / f"case{number}.nii.gz", tmp_path / "images")
    words = ("--checkpoint", place / "model.pt", "-o", tmp_path / "out", "--device", "cpu", "--engine", "torch")
    assert told(capsys, "predict", place / "bundle", tmp_path / "images", *words)[0] == 0
    (tmp_path / "images" / "case1.nii.gz").write_bytes(b"no image")
    code, text = told(capsys, "predict", place / "bundle", tmp_path / "images", *words)
    assert code == 1, text
    assert not (tmp_path / "out" / "case1.nii.gz").exists()
    assert read_uncertainty(tmp_path / "out").keys() == {"case0"}


def test_shards_make_what_one_run_makes(
    capsys: pytest.CaptureFixture[str], place: Path, unbroken: Path, tmp_path: Path
) -> None:
    for number in range(2):
        predict(capsys, place, tmp_path / "out", "--shard", f"{number}/2")
    assert contents(tmp_path / "out") == contents(unbroken)
    parts = [report(tmp_path / "out", f"run_report-{number}-of-2.json") for number in range(2)]
    assert sum(part["cases"]["done"] for part in parts) == 5
    assert [part["shard"] for part in parts] == [{"number": 0, "count": 2}, {"number": 1, "count": 2}]
    assert "5 finished before" in predict(capsys, place, tmp_path / "out")[1]


def test_a_shard_tells_of_its_own_cases_alone(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path
) -> None:
    """The document listed the files of all shards, and the bar ended at the share of its own."""
    moved: list[tuple[int, int]] = []

    @contextmanager
    def bar(_: str) -> Iterator[Callable[[int, int], None]]:
        yield lambda done, total: moved.append((done, total))

    monkeypatch.setattr("volseg.cli.bar.bar", bar)
    files = ("predict", place / "bundle", place / "images", "-o", tmp_path / "out", "--checkpoint", place / "model.pt")
    listed: list[str] = []
    for number in range(2):
        words = (*files, "--device", "cpu", "--engine", "torch", "--json", "--shard", f"{number}/2")
        with pytest.raises(SystemExit):
            main([str(word) for word in words])
        names = json.loads(capsys.readouterr().out)["predictions"]
        assert all((tmp_path / "out" / name).is_file() for name in names)
        listed += names
        assert moved[-1][0] == moved[-1][1]
    assert sorted(listed) == [f"case{number}.nii.gz" for number in range(5)]


def test_wrong_options_are_told(capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path) -> None:
    for words, cure in ((("--shard", "2/2"), "I/N"), (("--workers", "0"), "at least 1")):
        code, text = predict(capsys, place, tmp_path / "out", *words)
        assert code == 2
        assert cure in text
    (tmp_path / "file").touch()
    code, text = predict(capsys, place, tmp_path / "file")
    assert code == 2
    assert "file must be a folder, got a file" in text


@pytest.mark.slow
def test_processes_make_what_one_run_makes(
    capsys: pytest.CaptureFixture[str], place: Path, unbroken: Path, tmp_path: Path
) -> None:
    code, text = predict(capsys, place, tmp_path / "out", "--workers", "2")
    assert code == 1
    assert "5 predicted, 1 failed (torch fp32)" in text
    assert contents(tmp_path / "out") == contents(unbroken)
    told_of = report(tmp_path / "out")
    assert told_of["engine"] == "processes"
    assert len(told_of["workers"]) == 2

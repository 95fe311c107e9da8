"""A volume of a series that holds several, from the choice to the object for the archive, by the commands."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
import pydicom
import pytest
from command import told
from dicom_series import grid, noise, save, series
from tiny_bundle import write_bundle, write_checkpoint

from volseg.dicom import read_record
from volseg.volume import provenance_of, read_volume

SHAPE = (24, 20, 10)
AFFINE = grid(SHAPE, spacing=(2.0, 2.0, 3.0))
ECHOES = {"1": {"EchoTime": "4.6", "InversionTime": "300"}, "2": {"EchoTime": "9.2", "InversionTime": "900"}}


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a checkpoint, a series of two echoes, and the UIDs of each echo's images."""
    folder = tmp_path_factory.mktemp("several")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "model.pt")
    for seed, (echo, elements) in enumerate(ECHOES.items()):
        files = series(noise(SHAPE, seed=seed), AFFINE, "MR", **elements)
        save(folder / "in", files, f"echo{echo}_{{}}".format)
        (folder / f"uids{echo}").write_text("\n".join(file.SOPInstanceUID for file in files))
    return folder


def network(place: Path) -> list[str]:
    words = [place / "bundle", "--checkpoint", place / "model.pt", "--device", "cpu", "--engine", "torch"]
    return list(map(str, words))


def predict(place: Path, out: Path, capsys: pytest.CaptureFixture[str], *options: str) -> Path:
    bundle, *rest = network(place)
    code, text = told(capsys, "predict", bundle, str(place / "in"), "-o", str(out), *rest, *options)
    assert code == 0, text
    (path,) = out.glob("*.nii.gz")
    return path


def referenced(path: Path) -> set[str]:
    """The UIDs of the images that an object of the archive refers to."""
    return {item.value for item in pydicom.dcmread(path).iterall() if item.keyword == "ReferencedSOPInstanceUID"}


def uids(place: Path, echo: str) -> set[str]:
    return set((place / f"uids{echo}").read_text().split())


@pytest.mark.parametrize("kind", ["dicom-seg", "rtstruct"])
def test_an_object_refers_to_the_images_of_the_chosen_volume(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str], kind: str
) -> None:
    made = predict(place, tmp_path / "p", capsys, "--where", "InversionTime=900")
    words = ["export", kind, str(tmp_path / "p"), "--dicom", str(place / "in"), "-o", str(tmp_path / "o")]
    code, text = told(capsys, *words)
    assert code == 1
    assert "EchoTime is 4.6, 9.2 ms (--echo 1 to 2)" in text
    code, text = told(capsys, *words, "--echo", "1")
    assert code == 1
    assert "made from another volume of the series than this, echo 1; choose the volume" in text
    assert told(capsys, *words, "--echo", "2")[0] == 0  # another word for the same images
    (written,) = (tmp_path / "o").iterdir()
    assert referenced(written) & (uids(place, "1") | uids(place, "2")) <= uids(place, "2")
    record = read_record(provenance_of(read_volume(made).affine_ras))
    assert record is not None
    assert record.volume


def test_a_prediction_of_a_converted_echo_knows_its_volume(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    secret = tmp_path / "secret"
    secret.write_text("of the hospital")
    convert = ["convert", "dicom", str(place / "in"), str(tmp_path / "c"), "--secret-file", str(secret)]
    assert told(capsys, *convert, "--image-type", "ORIGINAL", "--where", "EchoTime=4.6")[0] == 0
    bundle, *rest = network(place)
    code, text = told(capsys, "predict", bundle, str(tmp_path / "c"), "-o", str(tmp_path / "p"), *rest)
    assert code == 0, text
    words = ["export", "dicom-seg", str(tmp_path / "p"), "--dicom", str(place / "in"), "--secret-file", str(secret)]
    code, text = told(capsys, *words, "-o", str(tmp_path / "o"), "--echo", "9.2ms")
    assert code == 1
    assert "made from another volume" in text
    code, text = told(capsys, *words, "-o", str(tmp_path / "o"), "--echo", "4.6ms")
    assert code == 0, text


def test_the_other_echo_is_predicted_anew(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    first = read_volume(predict(place, tmp_path / "p", capsys, "--echo", "1")).voxels
    second = read_volume(predict(place, tmp_path / "p", capsys, "--echo", "2")).voxels
    assert (np.asarray(first) != np.asarray(second)).any()


def test_watch_takes_the_chosen_volume_and_another_choice_makes_a_version(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, *rest = network(place)
    words = ["watch", str(place / "in"), str(tmp_path / "o"), bundle, *rest, "--once", "--settle", "0"]
    code, text = told(capsys, *words)
    assert code == 1
    assert "(--echo 1 to 2)" in text
    for echo in ("2", "2", "1"):  # the second time it is done
        code, text = told(capsys, *words, "--dicom-seg", "--echo", echo)
        assert code == 0, text
    with (tmp_path / "o/series.csv").open(newline="") as file:
        done = [row for row in csv.DictReader(file) if row["status"] == "done"]
    assert [row["version"] for row in done] == ["1", "2"]
    for row, echo in zip(done, ("2", "1"), strict=True):
        (written,) = (name for name in row["outputs"].split() if name.endswith(".seg.dcm"))
        assert uids(place, echo) >= referenced(tmp_path / "o" / written) & (uids(place, "1") | uids(place, "2"))

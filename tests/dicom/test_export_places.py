"""Where objects for the archive are written to, and what is told of places that cannot be."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from dicom_series import grid, noise, save, series

from volseg.cli import main
from volseg.cohort import write_labels
from volseg.dicom import Dicom, Series, export_objects, read_stack, scan, write_rtstruct
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

LIVER = LabelTable.exclusive(["liver"])


def predicted(folder: Path, found: Series, key: str = "a") -> Path:
    stack = read_stack(found)
    write_labels(folder, LIVER, channel_names=["CT"])
    write_volume(folder / f"{key}.nii.gz", Volume(np.ones(stack.shape, np.uint8), stack.affine_ras))
    return folder / f"{key}.nii.gz"


def test_the_ending_of_a_single_object_may_be_in_capitals_and_a_folder_may_have_it(tmp_path: Path) -> None:
    save(tmp_path / "images", series(noise()))
    (found,) = scan(tmp_path / "images").series
    one = predicted(tmp_path / "predictions", found)
    (tmp_path / "folder.dcm").mkdir()
    for name in ("one.DCM", "folder.dcm"):
        words = [str(one), "--dicom", str(tmp_path / "images"), "-o", str(tmp_path / name), "--for-series"]
        with pytest.raises(SystemExit) as stop:
            main(["export", "rtstruct", *words, found.uid])
        assert stop.value.code == 0
    assert (tmp_path / "one.DCM").is_file()
    assert [path.name for path in (tmp_path / "folder.dcm").iterdir()] == ["a.rtstruct.dcm"]


def test_a_prediction_that_is_not_there_is_told_as_such(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for output in ("out.dcm", "out"):
        with pytest.raises(SystemExit) as stop:
            main(["export", "rtstruct", str(tmp_path / "a.nii.gz"), "--dicom", str(tmp_path), "-o", output])
        assert stop.value.code == 2
        assert f"there is no {tmp_path / 'a.nii.gz'}" in capsys.readouterr().err


def test_an_object_that_cannot_be_written_keeps_no_other_back(tmp_path: Path) -> None:
    """As `export slicer` has it: the case is named, and the others are written."""
    save(tmp_path / "images/a", series(noise()))
    save(tmp_path / "images/b", series(noise(), grid(origin=(0, 0, 0)), series="2"))
    source = Dicom(tmp_path / "images")
    keys = sorted(source.keys())
    for key in keys:
        image = source.load(key).channels[0]
        write_volume(tmp_path / f"predictions/{key}.nii.gz", Volume(np.ones(image.shape, np.uint8), image.affine_ras))
    (tmp_path / "out" / f"{keys[0]}.dcm").mkdir(parents=True)
    words = (tmp_path / "predictions", tmp_path / "images", tmp_path / "out", LIVER, write_rtstruct)
    ((key, reason),) = export_objects(*words, ending=".dcm")
    assert (key, reason.partition(" cannot be read or written (")[0]) == (keys[0], str(tmp_path / f"out/{keys[0]}.dcm"))
    assert (tmp_path / "out" / f"{keys[1]}.dcm").is_file()

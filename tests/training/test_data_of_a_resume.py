"""A resumed training that is given other data than it began with: told by what the files hold, not by their places."""

from __future__ import annotations

import json
import shutil
import time
from pathlib import Path

import numpy as np
import pytest
import torch
from monai.data import DataLoader, Dataset
from small_training import trainer_of

from volseg.errors import UsageError
from volseg.training import Resume
from volseg.training.cache import data_change, data_digests, file_digest
from volseg.volume import Volume, write_volume


def write(path: Path, value: int) -> Path:
    voxels = np.random.default_rng(0).integers(0, 200, (40, 40, 20)).astype(np.uint8)
    voxels[20, 20, 10] = value
    write_volume(path, Volume(voxels, np.eye(4)))
    return path


def items(folder: Path, keys: str) -> list[dict]:
    return [
        {"key": key, "image": [str(folder / f"{key}_0000.nii.gz")], "label": folder / f"{key}.nii.gz"} for key in keys
    ]


def side(folder: Path, keys: str = "abc") -> list[dict]:
    for key in keys:
        write(folder / f"{key}_0000.nii.gz", ord(key))
        write(folder / f"{key}.nii.gz", 1)
    return items(folder, keys)


def test_one_voxel_changes_the_word_and_a_copy_does_not(tmp_path):
    one = write(tmp_path / "one.nii.gz", 1)
    other = write(tmp_path / "other.nii.gz", 2)
    assert file_digest(one) != file_digest(other)
    assert file_digest(shutil.copyfile(one, tmp_path / "copy.nii.gz")) == file_digest(one)  # another time of change
    big = tmp_path / "big.nii"
    big.write_bytes(bytes(3 * 10**5))
    before = file_digest(big)
    with big.open("r+b") as file:
        file.seek(150_000)
        file.write(b"x")
    assert file_digest(big) != before


def test_what_changed_is_told_by_case_and_side(tmp_path):
    before = data_digests({"training": side(tmp_path), "validation": side(tmp_path, "de")})
    assert data_change(before, json.loads(json.dumps(before))) == ""
    moved = shutil.copytree(tmp_path, tmp_path / "moved")
    assert data_change(before, data_digests({"training": items(moved, "abc"), "validation": items(moved, "de")})) == ""
    write(tmp_path / "a.nii.gz", 2)
    write(tmp_path / "b_0000.nii.gz", 9)
    now = data_digests({"training": items(tmp_path, "abd"), "validation": items(tmp_path, "ec")})
    assert data_change(before, now) == (
        "training: the image of b changed; the label of a changed; d was added; c is gone. "
        "validation: c was added; d is gone"
    )


def test_a_cohort_of_a_thousand_files_costs_little(tmp_path):
    sides = {"training": side(tmp_path) * 170}
    began = time.perf_counter()
    data_digests(sides)
    assert time.perf_counter() - began < 2  # 1,020 files


def test_a_label_that_was_edited_is_refused_unless_one_goes_on_anyway(tmp_path, monkeypatch, caplog):
    listed = side(tmp_path / "cohort")
    monkeypatch.setattr("volseg.training.handlers.resume._datalist", lambda loader: listed if loader else None)
    run = tmp_path / "run"
    trainer_of(run, max_epochs=2).run()
    trainer_of(run, max_epochs=2, resume=True).run()  # nothing has changed
    write(tmp_path / "cohort" / "b.nii.gz", 3)
    with pytest.raises(UsageError, match=r"last\.pt is of a training on other data: training: the label of b changed"):
        trainer_of(run, max_epochs=2, resume=True).run()
    with caplog.at_level("WARNING"):
        trainer_of(run, max_epochs=2, resume="anyway").run()
    assert "the data have changed since" in caplog.text
    content = torch.load(run / "last.pt", weights_only=True)
    torch.save({name: value for name, value in content.items() if name != "data"}, run / "last.pt")
    trainer_of(run, max_epochs=2, resume=True).run()  # of an earlier volseg, which did not say


def test_the_datalist_of_a_loader_is_what_is_looked_at(tmp_path):
    listed = side(tmp_path)
    loader = DataLoader(Dataset(listed))
    from volseg.training.handlers.resume import _datalist

    assert _datalist(loader) == listed
    assert _datalist(None) is None


def test_another_word_for_resume_is_refused(tmp_path):
    with pytest.raises(UsageError, match="must be true, false or anyway"):
        Resume(tmp_path, resume="yes", evaluator=None, recipe=None, schedule=None, parts={}, settings={})


def test_last_pt_is_a_checkpoint_that_predicts(tmp_path):
    from volseg.bundle import read_recipe
    from volseg.errors import CheckpointError

    trainer_of(tmp_path, max_epochs=2).run()
    last, best = (torch.load(tmp_path / name, weights_only=True) for name in ("last.pt", "model.pt"))
    assert read_recipe(tmp_path / "last.pt").spacing_mm == read_recipe(tmp_path / "model.pt").spacing_mm
    assert last["model"].keys() == best["model"].keys()
    earlier = {name: value for name, value in last.items() if name not in ("model", "recipe")}
    torch.save(earlier, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"last\.pt is what an earlier volseg goes on from .*; name .*model\.pt"):
        read_recipe(tmp_path / "last.pt")
    (tmp_path / "model.pt").unlink()
    with pytest.raises(CheckpointError, match=r"go on with --resume, which writes model\.pt"):
        read_recipe(tmp_path / "last.pt")

"""What a user typed for a training is checked from words, JSON and headers, before PyTorch is loaded."""

from __future__ import annotations

import json
import os

import pytest
from tiny_bundle import write_bundle

from volseg.bundle import check_training_words, check_writable
from volseg.errors import BundleError, UsageError, VolsegError


@pytest.fixture
def bundle(tmp_path):
    return write_bundle(tmp_path / "bundle")


@pytest.mark.parametrize(
    ("overrides", "told"),
    [
        ({"max_epoch": 1}, "--max_epoch is no setting of this bundle; did you mean --max_epochs?"),
        ({"train#trainr#x": 1}, "--train#trainr#x is no setting of this bundle"),
        ({"dataset_dir": "nowhere/cohort"}, "nowhere/cohort"),
    ],
)
def test_wrong_settings_and_an_absent_cohort_are_refused(bundle, overrides, told):
    with pytest.raises(VolsegError, match=told):
        check_training_words(bundle, overrides=overrides)


def test_right_settings_are_laid_over_the_config(bundle, tmp_path):
    more = tmp_path / "more.json"
    more.write_text(json.dumps({"max_epochs": 3}))
    whole = check_training_words(bundle, overrides={"batch_size": 1, "train::trainer::amp": False}, more=[more])
    assert (whole["max_epochs"], whole["batch_size"], whole["train"]["trainer"]["amp"]) == (3, 1, False)
    assert check_training_words(bundle, overrides={"dataset_dir": "$@data_dir", "output_dir": "s3://a/b"})


def test_a_config_must_be_json_and_a_bundle_there(bundle, tmp_path):
    broken = tmp_path / "broken.json"
    broken.write_text("{")
    with pytest.raises(BundleError, match=r"broken.json must be JSON"):
        check_training_words(bundle, overrides={}, more=[broken])
    broken.write_text("[]")
    with pytest.raises(BundleError, match="must hold a JSON object, got list"):
        check_training_words(bundle, overrides={}, more=[broken])
    with pytest.raises(BundleError, match="bundle"):
        check_training_words(tmp_path / "nothing", overrides={})
    with pytest.raises(UsageError, match="--x is no setting"):
        check_training_words(bundle, overrides={"x": 1})


def test_a_folder_that_cannot_be_written_is_refused(tmp_path, monkeypatch):
    check_writable(tmp_path / "new" / "folder")
    (tmp_path / "file").write_text("")
    with pytest.raises(NotADirectoryError):
        check_writable(tmp_path / "file" / "folder")
    monkeypatch.setattr("volseg.bundle.training_words.os.access", lambda *_: False)
    with pytest.raises(PermissionError):
        check_writable(tmp_path / "new")
    monkeypatch.undo()
    full = os.statvfs(tmp_path)
    monkeypatch.setattr(
        "volseg.bundle.training_words.shutil.disk_usage",
        lambda _: type("Usage", (), {"total": full.f_blocks, "used": full.f_blocks, "free": 0}),
    )
    with pytest.raises(OSError, match="No space left"):
        check_writable(tmp_path / "new")

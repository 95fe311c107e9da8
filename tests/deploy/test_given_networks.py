"""Which networks `volseg serve` is given: by a bundle, a run, an ensemble folder, or the zip of a package."""

from __future__ import annotations

import hashlib
import json
import zipfile
from pathlib import Path

import pytest

from volseg.bundle import find
from volseg.deploy.serve import given_networks
from volseg.errors import BundleError, CheckpointError, UsageError


@pytest.fixture
def run(tmp_path: Path) -> Path:
    folder = tmp_path / "run"
    folder.mkdir()
    (folder / "model.pt").write_bytes(b"weights")
    (folder / "run.json").write_text(json.dumps({"bundle": "unet"}))
    return folder


def test_a_run_tells_its_bundle(run, tmp_path):
    unet = find("unet")
    alone = given_networks("unet", None, unpacked=tmp_path)
    assert (alone.name, alone.bundle, alone.members) == ("unet", unet, ((str(unet), None),))
    for words in (("unet", run), (None, run), (None, run / "model.pt"), (str(run), None)):
        found = given_networks(*words, unpacked=tmp_path)
        assert (found.name, found.bundle, found.members) == ("unet", unet, ((str(unet), run / "model.pt"),))
    (run / "run.json").unlink()
    (tmp_path / "empty").mkdir()
    with pytest.raises(UsageError, match="beside it that says which bundle"):
        given_networks(None, run, unpacked=tmp_path)
    with pytest.raises(UsageError, match="name a bundle, or a run, an ensemble folder"):
        given_networks(None, None, unpacked=tmp_path)
    with pytest.raises(CheckpointError, match="holds neither"):
        given_networks("unet", tmp_path / "empty", unpacked=tmp_path)


def test_an_ensemble_folder(run, tmp_path):
    member = {"bundle": "unet", "checkpoint": "model.pt", "bytes": 7}
    content = {"schema": "volseg.ensemble/1", "members": [member], "cleanup": {}}
    (run / "ensemble.json").write_text(json.dumps(content))
    for words in ((None, run), (str(run), None), ("unet", run)):
        assert given_networks(*words, unpacked=tmp_path).members == ((str(find("unet")), run / "model.pt"),)
    with pytest.raises(UsageError, match="is an ensemble of unet; leave segformer out"):
        given_networks("segformer", run, unpacked=tmp_path)
    with pytest.raises(UsageError, match="has networks of its own"):
        given_networks(str(run), run, unpacked=tmp_path)


def test_the_zip_of_a_package_is_unpacked_once_and_whole(tmp_path, monkeypatch):
    monkeypatch.delattr(hashlib, "file_digest", raising=False)  # as on Python 3.10
    path, place = tmp_path / "unet.zip", tmp_path / "packages"
    with zipfile.ZipFile(path, "w") as file:
        for name in ("inference.json", "metadata.json", "train.json"):
            file.write(find("unet") / name, f"mine/configs/{name}")
    for words in ((None, path), (str(path), None)):
        found = given_networks(*words, unpacked=place)
        assert (found.name, found.members) == ("mine", ((str(found.bundle), None),))
        assert found.bundle.parent.parent == place
    assert len(list(place.iterdir())) == 1
    with pytest.raises(UsageError, match="is a bundle itself"):
        given_networks("unet", path, unpacked=place)
    broken = tmp_path / "broken.zip"
    broken.write_bytes(path.read_bytes()[:-30])
    with pytest.raises(BundleError, match="cannot be unpacked"):
        given_networks(None, broken, unpacked=place)
    with zipfile.ZipFile(broken, "w") as file:
        file.writestr("notes.txt", "none")
    with pytest.raises(BundleError, match="must hold one bundle, got 0"):
        given_networks(None, broken, unpacked=place)
    assert not list(place.glob(".partial*"))

"""The recipe: it survives the checkpoint, and what is no safe checkpoint of volseg is refused."""

from __future__ import annotations

import json
import os
import pickle
import random
import zipfile

import pytest
import torch

from volseg.bundle import Recipe, read_recipe
from volseg.errors import CheckpointError
from volseg.labels import LabelTable

TABLE = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])


def recipe(labels=TABLE):
    return Recipe(labels, ("T1", "T2"), (1.5, 1.5, 3), (64, 64, 32), {"feature_size": 12}, {"cohort": "x", "fold": 0})


@pytest.fixture
def checkpoint(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"model": torch.nn.Linear(40, 40).state_dict(), "recipe": recipe().state_dict()}, path)
    return path


def test_a_recipe_survives_the_checkpoint(checkpoint):
    content = torch.load(checkpoint, weights_only=True)
    back = read_recipe(checkpoint)
    assert back == Recipe.from_state(content["recipe"])
    assert back.labels == TABLE
    assert (back.channel_names, back.spacing_mm, back.roi_size) == (["T1", "T2"], [1.5, 1.5, 3], [64, 64, 32])
    assert (back.network, back.facts) == ({"feature_size": 12}, {"cohort": "x", "fold": 0})


def test_the_same_labels_are_loaded_and_others_are_refused():
    recipe().load_state_dict(recipe().state_dict())
    red = LabelTable.of({r.name: r.values for r in TABLE.regions}, {"colours": {"stomach": [255, 0, 0]}})
    recipe().load_state_dict(recipe(red).state_dict())
    with pytest.raises(CheckpointError, match=r"segments \['a', 'b'\], this cohort has \['large_bowel'"):
        recipe().load_state_dict(recipe(LabelTable.exclusive(["a", "b"])).state_dict())


def test_an_absent_checkpoint_is_told(tmp_path):
    for path in (tmp_path / "model.pt", tmp_path):
        with pytest.raises(CheckpointError, match=r"there is no checkpoint .*; train first"):
            read_recipe(path)


class Evil:
    """Makes a folder as it is unpickled."""

    def __init__(self, folder):
        self.folder = folder

    def __reduce__(self):
        return os.mkdir, (self.folder,)


@pytest.mark.parametrize("save", [torch.save, lambda content, path: path.write_bytes(pickle.dumps(content))])
@pytest.mark.parametrize("where", ["recipe", "model"])
def test_a_pickle_that_would_run_code_is_refused_and_does_not(tmp_path, save, where):
    path, trace = tmp_path / "model.pt", tmp_path / "trace"
    save({"model": {}, "recipe": recipe().state_dict(), where: Evil(str(trace))}, path)
    with pytest.raises(
        CheckpointError,
        match=r"cannot be loaded: it is a (plain pickle|pickle that names \w+\.mkdir)",
    ):
        read_recipe(path)
    assert not trace.exists()


@pytest.mark.parametrize("share", [0, 0.001, 0.1, 0.5, 0.9, 0.999])
def test_a_truncated_checkpoint_is_refused(checkpoint, share):
    content = checkpoint.read_bytes()
    kept = int(share * len(content))
    checkpoint.write_bytes(content[:kept])
    told = f"it is cut off after {kept:,} bytes; copy it again" if share else "it is empty; copy it again"
    with pytest.raises(CheckpointError, match=rf"model\.pt cannot be loaded: {told}, or train again$"):
        read_recipe(checkpoint)


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (
            b"version https://git-lfs.github.com/spec/v1\noid sha256:0\n",
            "it is a pointer of Git LFS; get the file itself",
        ),
        (b"<!DOCTYPE html><title>404</title>", "it is a web page, perhaps the error of a download; download it again"),
        (b"\n<html>", "it is a web page"),
        (b"\x1f\x8b\x08\0 a volume", "it is no checkpoint of torch; name the model.pt of a training"),
        (b"epochs: 3", "it is no checkpoint of torch"),
    ],
)
def test_a_file_that_is_something_else_is_called_so(tmp_path, content, told):
    path = tmp_path / "model.pt"
    path.write_bytes(content)
    with pytest.raises(CheckpointError, match=told) as caught:
        read_recipe(path)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) - len(str(path)) < 120


def test_a_byte_that_changed_is_damage(checkpoint):
    content = bytearray(checkpoint.read_bytes())
    start = content.index(b"data.pkl") + 80
    content[start : start + 40] = bytes(40)
    checkpoint.write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be loaded: it is (damaged|a pickle)"):
        read_recipe(checkpoint)


@pytest.mark.parametrize("damaged", [b"\x80\x02h\x02.", b"\x80\x02.", b"\x80\x02]]a.", b"\x80\x02}]]s."])
def test_a_pickle_that_its_reader_stumbles_over_is_refused(checkpoint, tmp_path, damaged):
    with zipfile.ZipFile(checkpoint) as whole, zipfile.ZipFile(tmp_path / "damaged.pt", "w") as copy:
        for name in whole.namelist():
            copy.writestr(name, damaged if name.endswith("data.pkl") else whole.read(name))
    with pytest.raises(CheckpointError):
        read_recipe(tmp_path / "damaged.pt")


def test_any_bytes_are_a_recipe_or_a_checkpoint_error(tmp_path):
    path = tmp_path / "model.pt"
    torch.save({"recipe": recipe().state_dict()}, path)
    whole = path.read_bytes()
    generator = random.Random(0)
    refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(4):  # in the pickle, mostly
            content[generator.randrange(700)] = generator.randrange(256)
        for damaged in (content, generator.randbytes(100), b"\x80\x02" + generator.randbytes(100)):
            path.write_bytes(damaged)
            try:
                read_recipe(path)
            except CheckpointError:
                refused += 1
    assert refused > 800


@pytest.mark.parametrize(
    "content",
    [{}, {"model": {}}, [], 3, torch.zeros(3), {"state_dict": {}}],
    ids=lambda content: type(content).__name__,
)
def test_a_checkpoint_without_recipe_is_not_one_of_ours(tmp_path, content):
    torch.save(content, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match=r"model\.pt holds no recipe, so it was not trained with volseg"):
        read_recipe(tmp_path / "model.pt")


GOOD = json.loads(recipe().state_dict()["json"])


@pytest.mark.parametrize(
    "state",
    [
        None,
        3,
        [],
        {},
        torch.zeros(3),
        {"json": None},
        {"json": "{"},
        {"json": "[]"},
        {"json": "null"},
        {"json": json.dumps(GOOD | {"labels": "x"})},
        {"json": json.dumps(GOOD | {"labels": {"labels": {}}})},
        {"json": json.dumps({key: value for key, value in GOOD.items() if key != "roi_size"})},
    ],
    ids=range(12),
)
def test_a_damaged_recipe_is_refused(tmp_path, state):
    torch.save({"recipe": state}, tmp_path / "model.pt")
    with pytest.raises(CheckpointError, match="the checkpoint's recipe cannot be read"):
        read_recipe(tmp_path / "model.pt")


def test_a_recipe_of_a_later_schema_is_refused():
    with pytest.raises(CheckpointError, match="schema 3, this volseg reads up to 2: update volseg"):
        Recipe.from_state({"json": json.dumps(GOOD | {"schema": 3})})

"""An ensemble folder in the place of a bundle, or as its checkpoint."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from command import told
from tiny_bundle import write_bundle, write_checkpoint

from volseg.bundle import members_of, named_ensemble, read_ensemble
from volseg.errors import BundleError, CheckpointError
from volseg.volume import read_volume


@pytest.fixture
def place(tmp_path, monkeypatch):
    """Two bundles, and an ensemble of a network of each."""
    for name in ("one", "other"):
        write_bundle(tmp_path / "bundles" / name)
    write_ensemble(tmp_path / "ensemble", ["one", "other"], tmp_path / "bundles")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def write_ensemble(folder: Path, names: list[str], bundles: Path | None, **more: object) -> None:
    members = []
    for number, name in enumerate(names):
        path = write_checkpoint(folder / f"{name}_fold_{number}" / "model.pt")
        members.append(
            {
                "bundle": name,
                "bundle_folder": None if bundles is None else str(bundles / name),
                "checkpoint": f"{name}_fold_{number}/model.pt",
                "bytes": path.stat().st_size,
            }
        )
    content = {"schema": "volseg.ensemble/1", "members": members, "cleanup": {"keep_largest": ["stomach"]}, **more}
    (folder / "ensemble.json").write_text(json.dumps(content))


def test_each_network_is_read_with_its_own_bundle(place):
    members = members_of("ensemble", [])
    assert [(Path(name).name, path.parent.name) for name, path in members] == [
        *(("one", "one_fold_0"), ("other", "other_fold_1"))
    ]
    assert members_of("one", [Path("ensemble")]) == members
    assert members_of("other", [Path("ensemble")]) == members
    assert members_of("ensemble", [], ["one=more.pt"] if Path("more.pt").is_file() else []) == members
    own = write_checkpoint(place / "more.pt")
    assert members_of("ensemble", [], [f"one={own}"]) == [*members, ("one", own)]


def test_a_folder_that_was_copied_to_another_machine_finds_its_bundles_by_name(place):
    shutil.move(place / "ensemble", place / "moved")
    content = json.loads((place / "moved" / "ensemble.json").read_text())
    for member in content["members"]:
        member["bundle_folder"] = "/nowhere/bundles/" + member["bundle"]
    (place / "moved" / "ensemble.json").write_text(json.dumps(content))
    assert len(members_of("moved", [])) == 2
    shutil.rmtree(place / "bundles" / "other")
    with pytest.raises(
        BundleError, match=r"the bundle other of .* is neither at /nowhere/bundles/other nor in bundles/"
    ):
        members_of("moved", [])


@pytest.mark.parametrize(
    ("break_it", "expected"),
    [
        (lambda e: (e / "one_fold_0/model.pt").unlink(), "which is not there; copy the whole folder"),
        (
            lambda e: (e / "one_fold_0/model.pt").write_bytes(b"half"),
            "must have the .* bytes that ensemble.json states",
        ),
        (lambda e: (e / "ensemble.json").write_text("{"), "cannot be read"),
        (
            lambda e: (e / "ensemble.json").write_text('{"schema": "volseg.ensemble/9"}'),
            "got volseg.ensemble/9; update",
        ),
        (
            lambda e: (e / "ensemble.json").write_text('{"schema": "volseg.ensemble/1", "members": []}'),
            "must list one network or more",
        ),
        (
            lambda e: write_ensemble(e, ["one"], e.parent / "bundles", cleanup={"largest": ["a"]}),
            "cannot be read .*largest",
        ),
    ],
)
def test_a_damaged_ensemble_is_refused_with_the_cause(break_it, expected, place):
    break_it(place / "ensemble")
    with pytest.raises(CheckpointError, match=expected):
        members_of("ensemble", [])


def test_an_ensemble_is_named_alone_and_for_its_own_bundle(place):
    write_bundle(place / "bundles" / "third")
    with pytest.raises(CheckpointError, match="must be an ensemble with a network of third, got one, other"):
        members_of("third", [Path("ensemble")])
    with pytest.raises(CheckpointError, match=r"is an ensemble with checkpoints of its own, and more\.pt is given too"):
        members_of("ensemble", [Path("more.pt")])
    with pytest.raises(CheckpointError, match="is an ensemble of one, other; name it alone"):
        members_of("one", [Path("ensemble"), write_checkpoint(place / "more.pt")])
    assert named_ensemble("one", []) is None
    with pytest.raises(CheckpointError, match=r"has no ensemble\.json"):
        read_ensemble(place)


def test_predict_does_the_clean_up_of_the_ensemble_unless_another_is_asked_for(place, tiny_cohort, capsys):
    write_ensemble(place / "ensemble", ["one"], place / "bundles")
    image = next((tiny_cohort / "imagesTr").iterdir())

    def predicted(out, *words):
        code, text = told(capsys, "predict", "ensemble", image, "-o", out, *words)
        assert code == 0, text
        made = json.loads((place / out / "dataset.json").read_text())["volseg"]
        return made.get("cleanup"), read_volume(next((place / out).glob("*.nii.gz"))).voxels

    stored, cleaned = predicted("stored")
    assert stored == {"keep_largest": ["stomach"]}
    asked, other = predicted("asked", "--keep-largest", "stomach")
    assert asked == stored
    assert np.array_equal(cleaned, other)
    none, raw = predicted("none", "--no-stored-cleanup")
    assert none is None
    assert not np.array_equal(cleaned, raw)
    assert predicted("mine", "--fill-holes", "large_bowel")[0] == {"fill_holes": ["large_bowel"]}

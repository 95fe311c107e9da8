"""`--decision dice` from the command line to the file: ensembles, clean-up, many regions channel by channel."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import told
from monai.data import MetaTensor
from monai.transforms import Compose
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.errors import UsageError
from volseg.inference import Predictor
from volseg.labels import LabelTable
from volseg.metrics import decide_by_dice, share_voxels
from volseg.metrics.dice_decision import dice_threshold
from volseg.transforms import with_decision
from volseg.transforms.decision import Decided
from volseg.transforms.native_grid import NativeChannels
from volseg.volume import Volume, read_volume, write_volume


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, two networks of different weights and an image."""
    folder = tmp_path_factory.mktemp("decision")
    write_bundle(folder / "bundle")
    for fold in range(2):
        path = write_checkpoint(folder / "runs" / f"fold{fold}" / "model.pt", source={})
        state = torch.load(path, weights_only=True)
        torch.manual_seed(fold)
        state["model"] = {name: value + 0.3 * torch.randn_like(value) for name, value in state["model"].items()}
        torch.save(state, path)
    draw = np.random.default_rng(0)
    voxels = (500 + 100 * np.kron(draw.normal(0, 1, (6, 5, 3)), np.ones((4, 4, 4)))).astype(np.int16)
    write_volume(folder / "images" / "case0.nii.gz", Volume(voxels, np.diag([-2.0, 2.0, 3.0, 1.0])))
    return folder


@pytest.mark.parametrize("members", [1, 2])
def test_the_label_map_is_the_set_of_the_largest_expected_dice(place: Path, members: int) -> None:
    settings = {"precision": "fp32", "save_probabilities": True, "decision": "dice"}
    networks = [
        Predictor.from_bundle(place / "bundle", checkpoint=place / f"runs/fold{i}/model.pt", overrides=settings)
        for i in range(members)
    ]
    got = networks[0].with_members(networks[1:]).predict([place / "images" / "case0.nii.gz"], key="case0")
    assert got.probabilities is not None
    masks = decide_by_dice(got.probabilities, exclusive=False)
    assert np.array_equal(got.label_map.voxels, LABELS.encode(masks))
    assert not np.array_equal(got.label_map.voxels, LABELS.decide(got.probabilities))
    for name, one in zip(LABELS.names, got.probabilities, strict=True):
        assert got.uncertainty[name] == pytest.approx(dice_threshold(one).expected_dice, abs=1e-6)


def test_the_command_takes_it_and_the_folder_tells_it(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    words = ["predict", place / "bundle", place / "images", "--checkpoint", place / "runs/fold0/model.pt"]
    words += ["--no-skip-empty", "--engine", "torch"]
    for decision in ("dice", "threshold"):
        code, text = told(capsys, *words, "-o", tmp_path / decision, "--decision", decision)
        assert code == 0, text
        stated = json.loads((tmp_path / decision / "dataset.json").read_text())
        assert ("dice" in json.dumps(stated["volseg"])) == (decision == "dice")
    one, other = (read_volume(tmp_path / name / "case0.nii.gz").voxels for name in ("dice", "threshold"))
    assert not np.array_equal(one, other)
    # Asked otherwise, the finished case is done anew.
    code, text = told(capsys, *words, "-o", tmp_path / "dice", "--decision", "threshold")
    assert code == 0, text
    assert np.array_equal(read_volume(tmp_path / "dice" / "case0.nii.gz").voxels, other)


def test_another_word_is_refused_before_a_network_is_loaded(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    code, text = told(capsys, "predict", place / "bundle", place / "images", "-o", tmp_path, "--decision", "dise")
    assert code == 2
    assert "threshold or dice, got 'dise'" in " ".join(text.split())


def test_a_bundle_that_decides_by_itself_cannot_take_a_rule() -> None:
    with pytest.raises(UsageError, match="decides by itself"):
        with_decision(Compose([]), "dice")


def test_many_regions_are_shared_out_channel_by_channel() -> None:
    table = LabelTable.exclusive([f"organ{number}" for number in range(10)])
    generator = torch.Generator().manual_seed(0)
    logits = 2 * torch.randn(11, 6, 5, 4, generator=generator)
    channels = NativeChannels(logits, np.eye(4), (6, 5, 4), torch.eye(4), sigmoid=False)
    dense = channels.as_tensor().numpy()
    item = Decided("pred", labels=table, decision="dice")({"pred": channels})
    expected = share_voxels(dense[1:], [dice_threshold(one) for one in dense[1:]])[0]
    assert np.array_equal(item["pred"].numpy()[0], expected)
    whole = Decided("pred", labels=table, decision="dice")({"pred": MetaTensor(torch.from_numpy(dense))})
    assert (whole["pred"].numpy()[0] == expected).mean() > 0.8  # which shares out in several rounds
    assert set(item["uncertainty"]) == set(table.names)

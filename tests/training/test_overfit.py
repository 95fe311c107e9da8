"""Each network learns what it is shown by heart: one window in the suite; with `--long` four scans of the phantom."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from monai.bundle import ConfigParser
from torch import Tensor

from volseg.cohort import Cohort, write_cohort
from volseg.datasets import write_phantom
from volseg.formats import UwMadison
from volseg.labels import LabelTable
from volseg.training import DeepSupervision, Patience, dice_ce, train

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
_VIT = {"hidden_size": 96, "num_hidden_layers": 4, "num_attention_heads": 3, "intermediate_size": 192}
# Bundle and settings; the networks of the bundle for slices go by their base model.
SMALL: dict[str, tuple[str, dict[str, Any]]] = {
    "swinunetr": ("swinunetr", {"window_size": 4, "roi_size": [64, 32, 32]}),
    "unetr": ("unetr", {"hidden_size": 96, "mlp_dim": 192, "num_heads": 3}),
    "unet": ("unet", {"width": 8}),
    "dense_unet": ("dense_unet", {"growth_rate": 6}),
    "segformer": ("segformer", {"base_model": "segformer-b0"}),
    "upernet": (
        "segformer",
        {
            "base_model": "upernet-convnext-tiny",
            "config": {
                "hidden_size": 48,
                "backbone_config": {"hidden_sizes": [24, 48, 96, 96], "depths": [1, 1, 1, 1]},
            },
        },
    ),
    "dpt": (
        "segformer",
        {
            "base_model": "dpt-base",
            "config": {
                **_VIT,
                "neck_hidden_sizes": [24, 48, 96, 96],
                "fusion_hidden_size": 48,
                "backbone_out_indices": [0, 1, 2, 3],
            },
        },
    ),
    "beit": (
        "segformer",
        {"base_model": "beit-base", "config": {**_VIT, "out_indices": [1, 2, 3, 4]}},
    ),
}
# Of the long test: UNETR's logits grow slowly.
EPOCHS = {"unetr": 320}
networks = pytest.mark.parametrize("network", SMALL)


def window(shape: list[int]) -> tuple[Tensor, Tensor]:
    """Two ellipsoids that overlap, of different grey, in noise: (1, 1, X, Y, Z) and masks (1, 2, X, Y, Z)."""
    generator = torch.Generator().manual_seed(0)
    x, y, z = torch.meshgrid(*(torch.arange(n) / n for n in shape), indexing="ij")
    a = ((x - 0.35) / 0.25) ** 2 + ((y - 0.45) / 0.3) ** 2 + ((z - 0.5) / 0.45) ** 2 < 1
    b = ((x - 0.62) / 0.25) ** 2 + ((y - 0.55) / 0.3) ** 2 + ((z - 0.5) / 0.4) ** 2 < 1
    image = a + 1.5 * b + 0.3 * torch.randn(shape, generator=generator)
    return (image - image.mean())[None, None] / image.std(), torch.stack([a, b])[None].to(torch.uint8)


def dice(logits: Tensor, target: Tensor) -> float:
    axes = (0, 2, 3, 4)
    mask = logits > 0
    scores = 2 * (mask & (target > 0)).sum(axes) / (mask.sum(axes) + target.sum(axes))
    return float(scores.min())


@pytest.mark.slow
@networks
def test_a_network_learns_one_window_by_heart(network, tiny_cohort):
    bundle, settings = SMALL[network]
    parser = ConfigParser()
    parser.read_config(str(BUNDLES / bundle / "train.json"))
    parser.update({"dataset_dir": str(tiny_cohort), "bundle_root": str(BUNDLES / bundle), "device": "cpu"})
    parser.update({"roi_size": [32, 32, 16], **settings})
    torch.manual_seed(0)
    model = parser.get_parsed_content("network_def").train()
    image, target = window(parser.get_parsed_content("roi_size"))
    loss = DeepSupervision(dice_ce(LabelTable.overlapping(["large", "small"])))
    optimizer = torch.optim.AdamW(model.parameters(), lr=parser.get_parsed_content("learning_rate"))
    for step in range(1, 201):
        optimizer.zero_grad()
        logits = model(image)
        loss(logits, target).backward()
        optimizer.step()
        if step % 20 == 0:
            model.eval()
            with torch.no_grad():
                reached = dice(model(image), target)
            model.train()
            if reached > 0.95:
                return
    pytest.fail(f"the worst Dice after 200 steps is {reached:.3f}")


@pytest.fixture(scope="module")
def phantom(tmp_path_factory):
    """A cohort of two patients: four scans of one to train on."""
    folder = tmp_path_factory.mktemp("overfit")
    write_phantom(folder / "raw", patients=2, days=4)
    write_cohort(UwMadison(folder / "raw"), folder / "cohort")
    keys = list(Cohort.open(folder / "cohort").rows)
    (folder / "cohort" / "splits.json").write_text(json.dumps([{"training": keys[:4], "validation": keys[4:]}]))
    return folder / "cohort"


@pytest.mark.long
@networks
def test_a_network_learns_four_scans_by_heart(network, phantom, tmp_path, monkeypatch):
    bundle, settings = SMALL[network]
    # The bundles as they are on a CPU; of the largest networks, which are made for GPUs, the narrow ones.
    settings = {name: settings[name] for name in ("base_model", "config") if name in settings}
    look = Patience._look

    def look_and_stop(patience, trainer):
        if patience.evaluator.state.best_metric > 0.95:
            trainer.terminate()
        look(patience, trainer)

    monkeypatch.setattr(Patience, "_look", look_and_stop)
    train(
        BUNDLES / bundle,
        overrides={
            **{"dataset_dir": str(phantom), "output_dir": str(tmp_path), "device": "cpu", **settings},
            # Validated on what it is trained on, without augmentation.
            "validate#dataset#data": "$@cohort.datalist('training', fold=@fold)",
            "train#augmentation": "$monai.transforms.Compose(volseg.transforms.augmentation("
            "@labels, roi_size=@roi_size, crops=@crops_per_case).transforms[:3])",
            # A grid on which a window shows nearly all of a scan.
            **{"spacing_mm": [5.5, 5.5, 4.5], "max_epochs": EPOCHS.get(network, 160), "val_interval": 10},
            **{"crops_per_case": 1, "patience": 100},  # looked at after each validation
        },
    )
    best = json.loads((tmp_path / "run.json").read_text())["best"]
    assert best["dice"] > 0.95

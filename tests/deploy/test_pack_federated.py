"""A package as a client of a federation: MONAI's client of 1.6.1, which NVIDIA FLARE's bundle job calls."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tiny_bundle
import torch
from monai.fl.client import MonaiAlgo
from monai.fl.utils.constants import ExtraItems, ModelType
from monai.fl.utils.exchange_object import ExchangeObject
from monai.utils import set_determinism

from volseg.bundle import read_recipe
from volseg.cohort import Cohort
from volseg.deploy.pack import pack
from volseg.inference import Predictor

SMALL = {"crops_per_case": 1, "roi_size": [16, 16, 8], "precision": "fp32", "device": "cpu", "loader_workers": 0}


@pytest.mark.filterwarnings("ignore")  # MONAI's own: that a federation's config is run
def test_rounds_of_a_federation(tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labels = Cohort.open(tiny_cohort).labels
    bundle = tiny_bundle.write_bundle(tmp_path / "of" / "tiny")
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "of" / "model.pt", labels, spacing_mm=(1.5, 1.5, 3.0))
    package = pack(bundle, checkpoint=checkpoint, output=tmp_path / "app" / "mine")
    (tmp_path / "here").mkdir()
    monkeypatch.chdir(tmp_path / "here")
    given: dict[str, Any] = {**SMALL, "dataset_dir": str(tiny_cohort)}
    client = MonaiAlgo(bundle_root="mine", local_epochs=2, train_kwargs=given, eval_kwargs=dict(given))
    try:
        client.initialize(extra={ExtraItems.CLIENT_NAME: "a", ExtraItems.APP_ROOT: str(tmp_path / "app")})
        weights = {name: tensor.clone() for name, tensor in client.trainer.network.state_dict().items()}
        scores = []
        for number in range(2):
            scores.append(client.evaluate(ExchangeObject(weights=dict(weights))).metrics)
            client.train(ExchangeObject(weights=dict(weights)))
            sent = client.get_weights()
            assert sent.statistics["num_executed_iterations"] == 2 * 3
            assert any(difference.abs().max() > 0 for difference in sent.weights.values())
            weights = {name: weights[name] + sent.weights[name] for name in weights}
            assert client.trainer.state.epoch == 2 * (number + 1)
        best = client.get_weights(extra={ExtraItems.MODEL_TYPE: ModelType.BEST_MODEL})
        client.finalize()
    finally:
        set_determinism(None)
    assert {"val_mean_dice", *(f"val_mean_dice_{name}" for name in labels.names)} <= scores[0].keys()
    model = package / "models" / "model.pt"
    stored = torch.load(model, weights_only=True)["model"]
    assert best.weights.keys() == stored.keys() == weights.keys()
    assert read_recipe(model).labels.names == labels.names
    assert json.loads((package / "models" / "run.json").read_text())["status"] == "finished"
    found = Predictor.from_bundle(package).predict(Cohort.open(tiny_cohort).image_paths("case0_day0"), key="a")
    assert set(np.unique(found.label_map.voxels)) <= set(labels.values)
    assert list((tmp_path / "here").iterdir()) == []

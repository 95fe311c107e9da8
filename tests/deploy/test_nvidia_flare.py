"""A package in NVIDIA FLARE's simulator (nvflare 2.7.3, monai-nvflare 0.4.0): two rounds of federated averaging.

`VOLSEG_NVFLARE_PYTHON=ENV/bin/python pytest tests/deploy/test_nvidia_flare.py`, where ENV holds both and what volseg
needs. What FLARE calls of MONAI is tested without it in test_pack_federated.py.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
import torch

from volseg.bundle import read_recipe
from volseg.cohort import Cohort
from volseg.deploy.pack import pack

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("VOLSEG_NVFLARE_PYTHON")
SMALL = {"crops_per_case": 1, "precision": "fp32", "device": "cpu", "loader_workers": 0}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="VOLSEG_NVFLARE_PYTHON names no Python with NVIDIA FLARE"),
]


def write_job(folder: Path, package: Path, cohort: Path) -> Path:
    """The job: the server keeps the weights of the package, the client trains its own copy on its own cohort."""
    shutil.copytree(package, folder.parent / "client" / "mine")
    given = {**SMALL, "cases_dir": str(cohort)}
    algorithm: dict[str, Any] = {"bundle_root": str(folder.parent / "client" / "mine"), "local_epochs": 1}
    common = "nvflare.app_common"
    server = {
        "format_version": 2,
        "workflows": [
            {
                "id": "rounds",
                "path": f"{common}.workflows.scatter_and_gather.ScatterAndGather",
                "args": {
                    "min_clients": 1,
                    "num_rounds": 2,
                    "aggregator_id": "aggregator",
                    "persistor_id": "persistor",
                    "shareable_generator_id": "generator",
                    "train_task_name": "train",
                },
            }
        ],
        "components": [
            {
                "id": "persistor",
                "path": "monai_nvflare.monai_bundle_persistor.MonaiBundlePersistor",
                "args": {"bundle_root": str(package), "source_ckpt_filename": "models/model.pt"},
            },
            {
                "id": "generator",
                "path": f"{common}.shareablegenerators.full_model_shareable_generator.FullModelShareableGenerator",
                "args": {},
            },
            {
                "id": "aggregator",
                "path": f"{common}.aggregators.intime_accumulate_model_aggregator.InTimeAccumulateWeightedAggregator",
                "args": {"expected_data_kind": "WEIGHT_DIFF"},
            },
        ],
    }
    client = {
        "format_version": 2,
        "executors": [
            {
                "tasks": ["train", "submit_model", "validate"],
                "executor": {
                    "path": "monai_nvflare.client_algo_executor.ClientAlgoExecutor",
                    "args": {"client_algo_id": "algorithm", "key_metric": "val_mean_dice"},
                },
            }
        ],
        "components": [
            {
                "id": "algorithm",
                "path": "monai.fl.client.MonaiAlgo",
                "args": {**algorithm, "train_kwargs": given, "eval_kwargs": given},
            }
        ],
    }
    config = folder / "app" / "config"
    config.mkdir(parents=True)
    (config / "config_fed_server.json").write_text(json.dumps(server))
    (config / "config_fed_client.json").write_text(json.dumps(client))
    meta = {"name": "mine", "min_clients": 1, "deploy_map": {"app": ["@ALL"]}, "resource_spec": {}}
    (folder / "meta.json").write_text(json.dumps(meta))
    return folder


def test_two_rounds_in_the_simulator(tiny_cohort: Path, tmp_path: Path) -> None:
    labels = Cohort.open(tiny_cohort).labels
    bundle = tiny_bundle.write_bundle(tmp_path / "of" / "tiny")
    checkpoint = tiny_bundle.write_checkpoint(tmp_path / "of" / "model.pt", labels)
    package = pack(bundle, checkpoint=checkpoint, output=tmp_path / "mine")
    job = write_job(tmp_path / "job", package, tiny_cohort)
    (tmp_path / "here").mkdir()
    environment = {
        "PATH": f"{Path(str(PYTHON)).parent}:/usr/bin:/bin",
        "HOME": str(tmp_path),
        "PYTHONPATH": str(ROOT),
        "OMP_NUM_THREADS": "1",
    }
    words = ["-m", "nvflare.cli", "simulator", str(job), "-w", str(tmp_path / "workspace"), "-n", "1", "-t", "1"]
    done = subprocess.run(
        [str(PYTHON), *words], cwd=tmp_path / "here", env=environment, capture_output=True, text=True, check=False
    )
    told = done.stdout + done.stderr
    (file,) = (tmp_path / "workspace").rglob("FL_global_model.pt") or [None]
    assert file is not None, told[-6000:]
    before = torch.load(checkpoint, weights_only=True)["model"]
    after = torch.load(file, weights_only=False)["model"]
    assert after.keys() == before.keys()
    assert any(not torch.allclose(after[name], before[name]) for name in before), told[-6000:]
    assert "Round 1 finished" in told, told[-6000:]
    trained = tmp_path / "client" / "mine" / "models" / "model.pt"
    assert read_recipe(trained).labels.names == labels.names

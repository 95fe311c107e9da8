"""Packages in the real server of MONAI Label 0.8.5, over HTTP: told, run voxel for voxel, trained, and left consistent.

`VOLSEG_MONAI_LABEL_PYTHON=ENV/bin/python pytest tests/deploy/test_monai_label_server.py`, where ENV holds MONAI Label
and what volseg needs. Two of its dependencies are of no use with NumPy 2 (pydicom-seg 0.4.1, numpymaxflow 0.0.7), and
torchvision comes from PyPI for CUDA alone: empty modules stand for them, and nothing here asks for what they do.
"""

from __future__ import annotations

import json
import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.request import Request, urlopen

import numpy as np
import pytest
import tiny_bundle
import torch

from volseg.bundle import read_recipe
from volseg.deploy.pack import pack
from volseg.inference import Predictor
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("VOLSEG_MONAI_LABEL_PYTHON")
TABLES = {"overlapping": tiny_bundle.LABELS, "exclusive": LabelTable.of({"liver": 2, "spleen": 5})}
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
STUBS = {
    "pydicom_seg.py": "",
    "numpymaxflow.py": "",
    "torchvision/__init__.py": "",
    "torchvision/utils.py": "make_grid = save_image = None\n",
}

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(PYTHON is None, reason="VOLSEG_MONAI_LABEL_PYTHON names no Python with MONAI Label"),
]


def files(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


@pytest.fixture
def studies(tmp_path: Path) -> Path:
    """Five volumes, four of them with a label."""
    folder, random = tmp_path / "studies", np.random.default_rng(0)
    for number in range(5):
        label = np.zeros((40, 36, 20), np.uint8)
        label[4:20, 4:20, 4:12], label[22:34, 20:32, 6:16] = 2, 5
        voxels = (1000 + 100 * random.normal(size=label.shape) + 100 * label).astype(np.float32)
        write_volume(folder / f"case{number}.nii.gz", Volume(voxels, AFFINE))
        if number:
            write_volume(folder / "labels" / "final" / f"case{number}.nii.gz", Volume(label, AFFINE))
    return folder


@contextmanager
def server(folder: Path, studies: Path) -> Iterator[str]:
    """The server with its own bundle app, on this machine; its address."""
    apps = Path(str(PYTHON)).parents[1] / "monailabel" / "sample-apps"
    shutil.copytree(apps / "monaibundle", folder / "app", dirs_exist_ok=True)
    for name, content in STUBS.items():
        (folder / "stubs" / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / "stubs" / name).write_text(content)
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    words = ["start_server", "--app", str(folder / "app"), "--studies", str(studies), "--host", "127.0.0.1"]
    words += ["--port", str(port), "--conf", "models", ",".join(TABLES), "--conf", "zoo_source", "local"]
    (folder / "here").mkdir()
    environment = {
        "PATH": f"{Path(str(PYTHON)).parent}:/usr/bin:/bin",
        "HOME": str(folder),
        "PYTHONPATH": f"{folder / 'stubs'}:{ROOT}",
        "OMP_NUM_THREADS": "1",
    }
    with (folder / "server.log").open("w") as log:
        command = [str(PYTHON), "-m", "monailabel.main", *words]
        process = subprocess.Popen(command, cwd=folder / "here", env=environment, stdout=log, stderr=log)
        address = f"http://127.0.0.1:{port}"
        try:
            for _ in range(900):  # a start takes seconds, and minutes on a busy machine
                assert process.poll() is None, (folder / "server.log").read_text()[-3000:]
                with suppress(URLError, ConnectionError), urlopen(f"{address}/info/", timeout=60):
                    break
                time.sleep(1)
            yield address
        finally:
            process.terminate()
            process.wait()


def asked(address: str, method: str = "GET", body: dict[str, Any] | None = None) -> bytes:
    content = None if body is None else json.dumps(body).encode()
    request = Request(address, data=content, method=method, headers={"Content-Type": "application/json"})
    with urlopen(request, timeout=580) as answer:
        return bytes(answer.read())


def inferred(address: str, name: str, folder: Path) -> Volume:
    """The label map of case0 that the server answers with."""
    content = asked(f"{address}/infer/{name}?image=case0&output=image", "POST", {"device": "cpu"})
    (folder / f"{name}.nii.gz").write_bytes(content)
    return read_volume(folder / f"{name}.nii.gz")


def test_packages_in_the_server(studies: Path, tmp_path: Path) -> None:
    bundle = tiny_bundle.write_bundle(tmp_path / "of" / "tiny")
    model = tmp_path / "app" / "model"
    for name, labels in TABLES.items():
        checkpoint = tiny_bundle.write_checkpoint(tmp_path / "of" / f"{name}.pt", labels)
        pack(bundle, checkpoint=checkpoint, output=model / name)
    expected = {
        name: Predictor.from_bundle(model / name).predict([studies / "case0.nii.gz"], key="case0").label_map
        for name in TABLES
    }
    with server(tmp_path, studies) as address:
        told = json.loads(asked(f"{address}/info/"))["models"]
        assert set(told) == set(TABLES)
        assert told["exclusive"]["labels"] == {"liver": 2, "spleen": 5}
        assert told["overlapping"]["type"] == "segmentation"
        for name, label_map in expected.items():
            got = inferred(address, name, tmp_path)
            assert len(np.unique(label_map.voxels)) > 2
            assert np.array_equal(got.voxels, label_map.voxels), name
            assert np.allclose(got.affine_ras, label_map.affine_ras, atol=1e-5)
            assert set(np.unique(got.voxels)) - {0} <= set(told[name]["labels"].values())

        for name, labels in TABLES.items():
            before, trained = files(tmp_path), model / name / "models" / "model.pt"
            weights = torch.load(trained, weights_only=True)["model"]
            request = {"max_epochs": 1, "device": "cpu", "val_split": 0.25, "multi_gpu": False}
            answer = asked(f"{address}/train/{name}?run_sync=true", "POST", request)
            log = (tmp_path / "server.log").read_text()
            assert b"error" not in answer.lower(), log[-3000:]
            written = {file for file in files(tmp_path) - before if "__pycache__" not in file}
            assert {file for file in written if not file.startswith(f"app/model/{name}/models/")} == set()
            assert read_recipe(trained).labels.names == labels.names
            after = torch.load(trained, weights_only=True)["model"]
            assert any(not torch.equal(after[tensor], weights[tensor]) for tensor in weights), "it learnt"
            metadata = json.loads((model / name / "configs" / "metadata.json").read_text())
            assert LabelTable.from_dataset_json(metadata["volseg"]["labels"]).names == labels.names
            run = json.loads((trained.parent / "run.json").read_text())
            assert (run["cohort"]["training_cases"], run["cohort"]["validation_cases"]) == (3, 1)
            new = Predictor.from_bundle(model / name).predict([studies / "case0.nii.gz"], key="case0").label_map
            assert np.array_equal(inferred(address, name, tmp_path).voxels, new.voxels), (
                "the server runs what it trained"
            )
    assert files(tmp_path / "here") == set()

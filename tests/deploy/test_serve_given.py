"""`volseg serve` with a run, an ensemble folder and the zip of a package: two clients at once, and kills in between."""

from __future__ import annotations

import json
import urllib.error
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("multipart", reason="python-multipart is not installed")

import tiny_bundle
from serve_process import ClientOfMonaiLabel, Server, state, until
from warm_process import WarmCommands

from volseg.cohort import Cohort, read_corrections
from volseg.deploy.pack import pack
from volseg.formats import read_segmentation, write_segmentation
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (32, 20, 18)
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])
TABLE = tiny_bundle.LABELS
pytestmark = pytest.mark.slow


def label(number: int) -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[2:20, 2:12, 4:12] |= 1
    found[10 + number : 26, 6:16, 6:14] |= 2
    found[6:12, 8:14, 8:16] |= 4
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """Nine cases, three of them with a label."""
    cohort, generator = tmp_path / "cohort", np.random.default_rng(0)
    keys = [f"c{number}" for number in range(9)]
    for number, key in enumerate(keys):
        image = 1000 + 100.0 * label(number % 3) + generator.normal(0, 50, SHAPE)
        part = "imagesTr" if number < 3 else "imagesTs"
        write_volume(cohort / part / f"{key}_0000.nii.gz", Volume(image.astype(np.int16), AFFINE))
        if number < 3:
            write_volume(cohort / "labelsTr" / f"{key}.nii.gz", Volume(label(number), AFFINE))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 3, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    (cohort / "dataset.json").write_text(json.dumps(entries))
    (cohort / "splits.json").write_text(json.dumps([{"train": keys[:2], "val": keys[2:3]}]))
    return cohort


def run_folder(folder: Path) -> Path:
    bundle = tiny_bundle.write_bundle(folder / "bundle" / "tiny")
    tiny_bundle.write_checkpoint(folder / "run" / "model.pt", fold=0)
    (folder / "run" / "run.json").write_text(json.dumps({"bundle": str(bundle), "status": "finished"}))
    return folder / "run"


def ensemble_folder(folder: Path) -> Path:
    run = run_folder(folder)
    bundle = json.loads((run / "run.json").read_text())["bundle"]
    member = {"bundle": bundle, "checkpoint": "model.pt", "bytes": (run / "model.pt").stat().st_size}
    made = folder / "ensemble"
    for name in ("one", "two"):
        tiny_bundle.write_checkpoint(made / name / "model.pt", fold=0)
    members = [{**member, "checkpoint": f"{name}/model.pt"} for name in ("one", "two")]
    (made / "ensemble.json").write_text(json.dumps({"schema": "volseg.ensemble/1", "members": members, "cleanup": {}}))
    return made


def package(folder: Path) -> Path:
    run = run_folder(folder)
    return pack(folder / "bundle" / "tiny", checkpoint=run / "model.pt", output=folder / "tiny.zip")


@pytest.mark.parametrize("make", [run_folder, ensemble_folder, package])
def test_what_is_served_serves_two_clients_and_no_kill_loses_anything(
    folder: Path, tmp_path: Path, warm_commands: WarmCommands, make: Callable[[Path], Path]
) -> None:
    given, python = ["--checkpoint", str(make(tmp_path / "given"))], warm_commands.python

    def start() -> Server:
        return Server(python, folder, "--train-minutes", "30", given=given)

    # Two clients at once: each is given a case of its own, predicts it, and saves a label.
    server = start()
    clients = [ClientOfMonaiLabel(server.url, f"client{number}") for number in range(2)]
    info = clients[0].info()
    (model,) = info["models"]
    assert info["labels"] == list(TABLE.names)
    assert bool(info["trainers"]) == (make is not ensemble_folder)

    def work(number: int) -> tuple[str, np.ndarray]:
        client = clients[number]
        key = client.next_sample("review")["id"]
        content, params = client.infer(model, key, result_extension=".seg.nrrd")
        path = tmp_path / f"client{number}.seg.nrrd"
        path.write_bytes(content)
        assert [one.name for one in read_segmentation(path).segments] == list(TABLE.names)
        assert set(params["label_names"]) == set(TABLE.names)
        write_segmentation(path, Volume(label(number), AFFINE), TABLE)
        assert client.save_label(key, path)["label"] == key
        return key, label(number)

    with ThreadPoolExecutor(2) as pool:
        saved = dict(pool.map(work, range(2)))
    assert len(saved) == 2
    both = state(folder)

    # A kill while cases are predicted ahead: what is there is whole, and the labels stay.
    assert server.ask("POST", f"/batch/infer/{model}")["status"] == "RUNNING"
    server.kill()
    assert state(folder) == both
    for path in (folder / ".volseg" / "serve").glob("*.nii.gz"):
        assert read_volume(path).shape == SHAPE

    # A kill in the middle of a training, which an ensemble refuses.
    server = start()
    client = ClientOfMonaiLabel(server.url)
    assert client.info()["datastore"]["completed"] == 5
    if make is ensemble_folder:
        with pytest.raises(urllib.error.HTTPError) as refused:
            client.train_start(model)
        assert "2 networks are served, and a training goes on from one" in json.loads(refused.value.read())["detail"]
    else:
        assert client.train_start(model)["status"] == "RUNNING"
        record = folder / ".volseg" / "serve" / "runs" / "001" / "run.json"
        until(record.is_file)
    server.kill()
    assert state(folder) == both

    # It goes on: the labels are told, the training is resumed and cancelled by a client.
    server = start()
    client = ClientOfMonaiLabel(server.url)
    try:
        told = client.datastore()["objects"]
        assert {key for key in saved if "final" in told[key]["labels"]} == set(saved)
        if make is not ensemble_folder:
            assert client.train_status()["status"] == "ERROR"
            assert client.train_start("")["status"] == "RUNNING"  # without a name: all models, of which there is one
            assert client.train_stop()["status"] == "REVOKED"
            assert sorted(path.name for path in record.parents[1].iterdir()) == ["001", "001.json"]
    finally:
        server.kill()
    assert {row.key for row in read_corrections(folder)} == set(saved)
    cohort = Cohort.open(folder)
    for key, voxels in saved.items():
        np.testing.assert_array_equal(read_volume(cohort.label_path(key)).voxels, voxels)

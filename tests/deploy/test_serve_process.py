"""`volseg serve` as the command that it is: MONAI Label's own client, two clients at once, and a kill in the middle.

VOLSEG_MONAILABEL names a folder of packages with monailabel 0.8.5 (`pip install -t FOLDER --no-deps monailabel`); its
client needs nothing else that is not here. VOLSEG_MONAI_LABEL_PYTHON names the Python of an environment that has it.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import threading
import urllib.error
from pathlib import Path

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("uvicorn")
pytest.importorskip("multipart", reason="python-multipart is not installed")

from serve_process import Server, state, until
from warm_process import WarmCommands

from volseg.cohort import Cohort, read_corrections
from volseg.formats import write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

_PYTHON = Path(os.environ.get("VOLSEG_MONAI_LABEL_PYTHON", ""))
_BESIDE = next(map(str, _PYTHON.parents[1].glob("lib/python*/site-packages")), None) if len(_PYTHON.parts) > 2 else None
MONAILABEL = os.environ.get("VOLSEG_MONAILABEL", _BESIDE)
TABLE = LabelTable.exclusive(["Anterior", "Posterior"])
SHAPE = (32, 48, 40)
AFFINE = np.eye(4)
pytestmark = [pytest.mark.slow, pytest.mark.filterwarnings("ignore::DeprecationWarning")]


def label(seed: int) -> np.ndarray:
    found = np.zeros(SHAPE, np.uint8)
    found[8 + seed : 20, 10:22, 10:30], found[8:20, 22:34, 10:30] = 1, 2
    return found


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    cohort = tmp_path / "cohort"
    generator = np.random.default_rng(0)
    keys = [f"c{number}" for number in range(7)]
    for number, key in enumerate(keys):
        image = label(number % 3) * 200 + generator.normal(300, 20, SHAPE)
        part = "imagesTr" if number < 4 else "imagesTs"
        write_volume(cohort / part / f"{key}_0000.nii.gz", Volume(image.astype(np.int16), AFFINE))
        if number < 4:
            write_volume(cohort / "labelsTr" / f"{key}.nii.gz", Volume(label(number % 3), AFFINE))
    entries = {"channel_names": {"0": "MRI"}, "numTraining": 4, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    (cohort / "dataset.json").write_text(json.dumps(entries))
    (cohort / "splits.json").write_text(json.dumps([{"training": keys[:3], "validation": keys[3:4]}]))
    return cohort


def multipart(name: str, content: bytes) -> tuple[bytes, str]:
    head = f'--b\r\nContent-Disposition: form-data; name="label"; filename="{name}"\r\n\r\n'.encode()
    return head + content + b"\r\n--b--\r\n", "multipart/form-data; boundary=b"


def test_a_kill_in_the_middle_of_each_loses_nothing(folder: Path, tmp_path: Path, warm_commands: WarmCommands) -> None:
    before = state(folder)
    python = warm_commands.python
    server = Server(python, folder, "--train-minutes", "30")
    with pytest.raises(urllib.error.HTTPError) as refused:  # at once, and not by a process that fails later
        server.ask("POST", "/train/hippocampus", b"{}")
    assert "no label was corrected yet" in json.loads(refused.value.read())["detail"]

    # in the middle of predictions ahead
    server.ask("POST", "/batch/infer/hippocampus")
    place = folder / ".volseg" / "serve"
    until(lambda: list(place.glob("*.nii.gz")))
    server.kill()
    assert state(folder) == before
    for path in place.glob("*.nii.gz"):  # what is there is whole
        assert read_volume(path).shape == SHAPE

    # in the middle of the upload of a label
    server = Server(python, folder, "--train-minutes", "30")
    new = label(0).copy()
    new[20:23, 10:22, 15:25] = 1
    path = tmp_path / "c4.seg.nrrd"
    write_segmentation(path, Volume(new, AFFINE), TABLE)
    body, kind = multipart("c4.seg.nrrd", path.read_bytes())
    with socket.create_connection(("127.0.0.1", server.port)) as half:
        head = f"PUT /datastore/label?image=c4 HTTP/1.1\r\nHost: 127.0.0.1\r\nContent-Type: {kind}\r\n"
        half.sendall(f"{head}Content-Length: {len(body)}\r\n\r\n".encode() + body[: len(body) // 2])
        assert server.ask("GET", "/info/")["datastore"]["completed"] == 4  # others do not wait for it
        server.kill()
    assert state(folder) == before

    # in the middle of a training; the label is saved again first
    server = Server(python, folder, "--train-minutes", "30")
    assert server.ask("PUT", "/datastore/label?image=c4", body, kind)["label"] == "c4"
    after = state(folder)
    np.testing.assert_array_equal(read_volume(folder / "labelsTr" / "c4.nii.gz").voxels, new)
    assert server.ask("POST", "/train/hippocampus", b"{}")["status"] == "RUNNING"
    record = place / "runs" / "001" / "run.json"
    until(record.is_file)
    server.kill()
    until(lambda: json.loads(record.read_text())["status"] == "interrupted")  # it does not outlive its server
    assert state(folder) == after

    # and all goes on: the state is told, the training resumed and stopped by a client
    server = Server(python, folder, "--train-minutes", "30")
    try:
        assert server.ask("GET", "/info/")["datastore"]["completed"] == 5
        told = server.ask("GET", "/train/")
        assert told["status"] == "ERROR"
        assert told["details"] == ["interrupted: the server ended; the next training resumes it"]
        began = json.loads(record.read_text())["process"]["pid"]
        assert server.ask("POST", "/train/hippocampus", b"{}")["status"] == "RUNNING"
        until(lambda: record.is_file() and json.loads(record.read_text())["process"]["pid"] != began)
        assert server.ask("DELETE", "/train/")["status"] == "REVOKED"
        assert sorted(path.name for path in (place / "runs").iterdir()) == ["001", "001.json"]
    finally:
        server.kill()
    assert {row.key for row in read_corrections(folder)} == {"c4"}
    assert Cohort.open(folder).labelled == {"c0", "c1", "c2", "c3", "c4"}


@pytest.mark.filterwarnings("ignore::ResourceWarning")  # the client leaves its sockets to the collector
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
@pytest.mark.skipif(
    MONAILABEL is None, reason="neither VOLSEG_MONAILABEL nor VOLSEG_MONAI_LABEL_PYTHON tells of monailabel"
)
def test_the_client_of_monai_label(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, warm_commands: WarmCommands
) -> None:
    monkeypatch.setattr(sys, "path", [*sys.path, str(MONAILABEL)])
    from monailabel.client import MONAILabelClient
    from monailabel.client.client import MONAILabelClientException

    word = tmp_path / "word.txt"
    word.write_text("open sesame\n".replace(" ", "-"))
    server = Server(warm_commands.python, folder, "--token-file", str(word))
    try:
        places = [tmp_path / "one", tmp_path / "two"]
        for place in places:
            place.mkdir()
        one, two = (MONAILabelClient(server.url, tmpdir=str(place)) for place in places)
        assert one.auth_enabled()
        with pytest.raises(MONAILabelClientException, match="401"):
            one.info()
        for client in (one, two):
            client.update_auth(client.auth_token("reader", "open-sesame"))
        assert list(one.info()["models"]) == ["hippocampus"]
        keys = [client.next_sample("review", {})["id"] for client in (one, two)]
        assert len(set(keys)) == 2
        answers: dict[str, tuple[str, dict[str, object]]] = {}

        def infer(client, key):
            answers[key] = client.infer("hippocampus", key, {"result_extension": ".seg.nrrd"})

        threads = [threading.Thread(target=infer, args=pair) for pair in zip((one, two), keys, strict=True)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert set(answers) == set(keys)
        for client, key in zip((one, two), keys, strict=True):
            path = tmp_path / f"{key}.seg.nrrd"
            write_segmentation(path, Volume(label(1), AFFINE), TABLE)
            assert client.save_label(key, str(path), "final", {})["label"] == key
        cohort = Cohort.open(folder)
        for key in keys:
            np.testing.assert_array_equal(read_volume(cohort.label_path(key)).voxels, label(1))
        assert set(one.datastore()["objects"][keys[0]]["labels"]) == {"final", "original"}
        image = str(cohort.image_paths("c0")[0])
        fresh = MONAILabelClient(server.url, tmpdir=str(places[0]))  # 0.8.5 keeps the headers of an upload for the next
        fresh.update_auth(fresh.auth_token("reader", "open-sesame"))
        session = fresh.create_session(image)["session_id"]
        assert one.get_session(session)["name"] == session
        assert one.infer("hippocampus", "", {}, session_id=session)[1]["label_names"].keys() <= {
            "Anterior",
            "Posterior",
        }
        one.remove_session(session)
        assert one.train_start("hippocampus", {})["status"] == "RUNNING"
        assert one.train_status(check_if_running=True)
        with pytest.raises(MONAILabelClientException, match="runs already"):
            two.train_start("hippocampus", {})
        one.train_stop()
        assert one.train_status()["status"] == "REVOKED"
    finally:
        server.kill()

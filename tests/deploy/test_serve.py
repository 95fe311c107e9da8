"""The contract of MONAI Label 0.8.5, by the requests that its client and its plug-in for 3D Slicer send."""

from __future__ import annotations

import json
import sys
import threading
import time
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("multipart", reason="python-multipart is not installed")

from starlette.testclient import TestClient

from volseg.cohort import Cohort, Prediction, read_corrections
from volseg.deploy.serve import Service, Training, make_app
from volseg.formats import read_segmentation, write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (8, 7, 4)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
TABLE = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[1:4, 1:4], LABEL[3:6, 3:6] = 1, 4
LABEL[3, 3] = 5
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Network:
    """Gives the same label map for every case, one case at a time."""

    recipe = SimpleNamespace(labels=TABLE, channel_names=["MR"])
    at_once = 0

    def predict(self, images, *, key):
        self.at_once += 1
        time.sleep(0.02)
        assert self.at_once == 1
        self.at_once -= 1
        grid = read_volume(images[0]).affine_ras
        return Prediction(Volume(LABEL, grid), {"large_bowel": 0.9, "small_bowel": None, "stomach": 0.5})


@pytest.fixture
def served(tmp_path):
    folder = tmp_path / "cohort"
    for number in range(4):
        part = "imagesTr" if number == 0 else "imagesTs"
        write_volume(folder / part / f"c{number}_0000.nii.gz", Volume(LABEL.astype(np.int16) + number, AFFINE))
    write_volume(folder / "labelsTr" / "c0.nii.gz", Volume(LABEL, AFFINE))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 1, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(entries))
    words = [sys.executable, "-c", "import time; print('epoch 1', flush=True); time.sleep(30)"]
    quick = [*words[:2], "pass"]
    training = Training(lambda given: quick if given.get("quick") else words)
    service = Service("unet", folder, Network(), training)
    with TestClient(make_app(service), base_url="http://localhost") as client:
        yield client, folder


def test_what_the_plug_in_asks_for_first(served):
    client, _ = served
    info = client.get("/info/").json()
    assert info["labels"] == list(TABLE.names)
    assert info["models"]["unet"]["type"] == "segmentation"
    assert list(info["strategies"]) == ["review", "random"]
    assert info["datastore"]["total"] == 4
    assert info["datastore"]["completed"] == 1
    assert client.get("/auth/").json() == {"enabled": False}
    assert client.get("/datastore/?output=all").json()["objects"]["c0"]["labels"]["final"]["ext"] == ".seg.nrrd"
    assert client.get("/openapi.json").status_code == 200
    assert client.get("/info/", headers={"host": "elsewhere.example"}).status_code == 400


def test_a_case_is_chosen_fetched_predicted_corrected_and_saved(served, tmp_path):
    client, folder = served
    sample = client.post("/activelearning/review", json={"client_id": "one"}).json()
    other = client.post("/activelearning/review", json={"client_id": "two"}).json()
    assert sample["id"] != other["id"]
    key = sample["id"]
    image = client.get("/datastore/image", params={"image": key})
    assert image.content == (folder / "imagesTs" / f"{key}_0000.nii.gz").read_bytes()

    answer = client.post(f"/infer/unet?image={key}&output=image", data={"params": '{"result_extension": ".seg.nrrd"}'})
    path = tmp_path / "sent.seg.nrrd"
    path.write_bytes(answer.content)
    assert [segment.name for segment in read_segmentation(path).segments] == list(TABLE.names)
    both = client.post(f"/infer/unet?image={key}", data={"params": "{}"})
    boundary = both.headers["content-type"].partition("boundary=")[2]
    _, params, file, _ = both.content.split(f"--{boundary}".encode())
    names = json.loads(params.partition(b"\r\n\r\n")[2])["label_names"]
    assert names == {"large_bowel": 1, "stomach": 4, "large_bowel+stomach": 5}
    assert f'filename="{key}.nii.gz"'.encode() in file

    new = LABEL.copy()
    new[6, 6, 2] = 2
    write_segmentation(path, Volume(new, AFFINE), TABLE)
    info = {"label_info": [{"name": name, "idx": n} for n, name in enumerate(TABLE.names, start=1)]}
    with path.open("rb") as sent:
        saved = client.put(
            f"/datastore/label?image={key}", files={"label": (str(path), sent)}, data={"params": json.dumps(info)}
        )
    assert saved.status_code == 200, saved.text
    assert saved.json()["label"] == key
    cohort = Cohort.open(folder)
    np.testing.assert_array_equal(read_volume(cohort.label_path(key)).voxels, new)
    rows = {row.region: row for row in read_corrections(folder)}
    assert rows["small_bowel"].before == "prediction"
    assert rows["small_bowel"].voxels == 1
    assert client.get("/info/").json()["datastore"]["completed"] == 2
    for tag, content in (("original", LABEL), ("final", new)):
        path.write_bytes(client.get("/datastore/label", params={"label": key, "tag": tag}).content)
        stomach = next(one for one in read_segmentation(path).segments if one.name == "stomach")
        np.testing.assert_array_equal(read_segmentation(path).mask(stomach), (content & 4) > 0)


def test_what_cannot_be_taken_is_told_in_a_line_and_the_cohort_stays(served, tmp_path):
    client, folder = served
    path = tmp_path / "x.nii.gz"
    write_volume(path, Volume(LABEL, AFFINE))
    with path.open("rb") as sent:
        answer = client.put("/datastore/label?image=c1", files={"label": ("x.nii.gz", sent)}, data={"params": "{}"})
    assert answer.status_code == 400
    assert "does not say what its values mean" in answer.json()["detail"]
    assert Cohort.open(folder).labelled == {"c0"}
    assert client.get("/datastore/image?image=../../etc/passwd").status_code == 404
    assert client.post("/infer/other?image=c1").status_code == 404
    assert client.put("/datastore/label?image=c1", files={"label": ("x.exe", b"1")}).status_code == 400
    assert client.post("/activelearning/entropy").status_code == 404


def test_two_clients_at_once_wait_for_one_another(served):
    client, _ = served
    codes = []

    def ask(key):
        codes.append(client.post(f"/infer/unet?image={key}&output=json").status_code)

    threads = [threading.Thread(target=ask, args=(f"c{n}",)) for n in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert codes == [200] * 4


def test_an_image_of_the_clients_own(served, tmp_path):
    client, folder = served
    path = tmp_path / "own.nii.gz"
    write_volume(path, Volume(LABEL.astype(np.int16), AFFINE))
    made = client.put("/session/", files=[("files", ("own.nii.gz", path.read_bytes()))]).json()["session_id"]
    assert client.post(f"/infer/unet?session_id={made}&output=json").json()["label_names"]["stomach"] == 4
    assert client.delete(f"/session/{made}").status_code == 200
    assert client.get(f"/session/{made}").status_code == 404
    added = client.put("/datastore/?image=new1", files={"file": ("own.nii.gz", path.read_bytes())})
    assert added.json() == {"image": "new1"}
    assert "new1" in Cohort.open(folder).keys
    assert client.put("/datastore/?image=new1", files={"file": ("own.nii.gz", path.read_bytes())}).status_code == 400


def test_a_training_runs_waits_and_is_stopped(served):
    client, _ = served
    assert client.get("/train/?check_if_running=true").status_code == 404
    assert client.post("/train/unet", json={}).json()["model"] == "unet"
    assert client.post("/train/unet", json={}).status_code == 429
    assert client.post("/train/unet?enqueue=true", json={"quick": 1}).status_code == 200
    assert client.get("/train/?check_if_running=true").status_code == 200
    assert client.delete("/train/").json()["status"] == "REVOKED"
    for _ in range(200):
        if client.get("/train/?check_if_running=true").status_code == 404:
            break
        time.sleep(0.05)
    client.post("/train/unet", json={"quick": 1})
    for _ in range(200):
        if client.get("/train/").json()["status"] == "DONE":
            break
        time.sleep(0.05)
    assert client.get("/train/").json()["status"] == "DONE"


def test_a_token_is_asked_for(tmp_path, served):
    _, folder = served
    service = Service("unet", folder, Network(), Training(lambda _: []))
    with TestClient(make_app(service, token="word", hosts=("*",)), base_url="http://clinic") as client:
        assert client.get("/info/").status_code == 401
        assert client.get("/auth/").json() == {"enabled": True}
        assert client.post("/auth/token", data={"username": "a", "password": "no"}).status_code == 401
        given = client.post("/auth/token", data={"username": "a", "password": "word"}).json()
        headers = {"Authorization": f"{given['token_type']} {given['access_token']}"}
        assert client.get("/info/", headers=headers).status_code == 200
        assert client.get("/auth/token/valid", headers=headers).status_code == 200
        assert client.get("/auth/token/valid").status_code == 401

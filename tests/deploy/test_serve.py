"""The contract of MONAI Label 0.8.5, by the requests that its client and its plug-in for 3D Slicer send."""

from __future__ import annotations

import dataclasses
import errno
import json
import signal
import subprocess
import sys
import threading
import time
from dataclasses import replace
from types import SimpleNamespace

import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("multipart", reason="python-multipart is not installed")

from starlette.requests import Request
from starlette.testclient import TestClient

from volseg.cli import main
from volseg.cohort import Cohort, Correction, Prediction, RegionBounds, read_bounds, read_corrections
from volseg.cohort.table import write_table
from volseg.deploy.corrections import image_digest
from volseg.deploy.serve import Rounds, Service, Training, make_app, rounds, volseg_command
from volseg.deploy.serve.ahead import Ahead
from volseg.deploy.serve.app import Handed
from volseg.errors import LabelError, UsageError
from volseg.formats import read_segmentation, write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume, read_image_file, read_volume, write_volume

SHAPE = (8, 7, 4)
AFFINE = np.diag([-1.0, -1.0, 2.0, 1.0])
TABLE = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
LABEL = np.zeros(SHAPE, np.uint8)
LABEL[1:4, 1:4], LABEL[3:6, 3:6] = 1, 4
LABEL[3, 3] = 5
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Network:
    """Gives the same label map for every case, one case at a time."""

    recipe = SimpleNamespace(labels=TABLE, image_channels=["MR"])
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


def test_the_plug_in_for_slicer_runs_a_network_and_sends_what_it_got(served, tmp_path):
    """The plug-in of MONAI Label 0.8.5 asks for `.nrrd`, whatever its file extension is, and hands Slicer the names."""
    client, folder = served
    asked = {"result_extension": ".nrrd", "result_dtype": "uint8", "client_id": "user-xyz"}
    answer = client.post("/infer/unet?image=c1", data={"params": json.dumps(asked)})
    assert answer.status_code == 200, answer.text
    _, params, file, _ = answer.content.split(f"--{answer.headers['content-type'].partition('boundary=')[2]}".encode())
    head, content = file.split(b"\r\n\r\n", 1)
    assert b'filename="c1.nrrd"' in head
    path = tmp_path / "c1.nrrd"
    path.write_bytes(content.removesuffix(b"\r\n"))
    (given,) = read_image_file(path)
    np.testing.assert_array_equal(given.voxels, LABEL)
    np.testing.assert_allclose(given.affine_ras, AFFINE)
    names = json.loads(params.partition(b"\r\n\r\n")[2])["label_names"]
    by_order = dict(zip(np.unique(LABEL)[1:].tolist(), names, strict=True))  # as Slicer imports a label map

    table = LabelTable.exclusive([*by_order.values(), "small_bowel"])  # one layer, an empty segment for what is lacking
    voxels = np.searchsorted([0, *by_order], LABEL).astype(np.uint8)
    edit = tmp_path / "edit.seg.nrrd"
    write_segmentation(edit, Volume(voxels, AFFINE), table)
    saved = client.put("/datastore/label?image=c1", files={"label": ("edit.seg.nrrd", edit.read_bytes())})
    assert saved.status_code == 200, saved.text
    np.testing.assert_array_equal(read_volume(Cohort.open(folder).label_path("c1")).voxels, LABEL)
    assert saved.json()["added_path_mm"] == 0


def test_a_region_that_a_prediction_lacks_is_not_named(served):
    """Slicer gives the names to the values that are there in their order: the next one would get the name."""
    client, _ = served
    client.post("/infer/unet?image=c1&output=json", data={"params": "{}"})
    info = client.get("/datastore/?output=all").json()["objects"]["c1"]["labels"]["original"]["info"]
    assert list(info["params"]["label_names"].items()) == [("large_bowel", 1), ("stomach", 4)]
    assert client.get("/datastore/label/info?label=c1&tag=original").json() == info
    assert client.get("/datastore/label/info?label=c2&tag=original").status_code == 404


def test_predictions_of_a_network_with_other_values_are_not_given_out(served):
    """The server begins anew with another network, and what the first had found was told by the names of the second."""
    client, folder = served
    client.post("/infer/unet?image=c1&output=json", data={"params": "{}"})
    training = Training(lambda _: [])
    again = Service("unet", folder, Network(), training)
    assert again.label("c1", "original").is_file()
    again.close()
    other = Network()
    other.recipe = SimpleNamespace(labels=LabelTable.overlapping([*reversed(TABLE.names)]), image_channels=["MR"])
    service = Service("unet", folder, other, training)
    assert service.datastore()["objects"]["c1"]["labels"] == {}
    with pytest.raises(UsageError, match="there is no label original of c1"):
        service.label("c1", "original")
    assert (folder / "labelsTr" / "c0.nii.gz").is_file()
    service.close()


def test_clients_with_the_name_that_the_plug_in_comes_with_get_two_cases(served):
    client, _ = served
    given = [client.post("/activelearning/random", json={"client_id": "user-xyz"}).json()["id"] for _ in range(3)]
    assert sorted(given) == ["c1", "c2", "c3"]


def test_a_case_that_is_kept_for_a_test_is_given_to_nobody(served):
    """It would be learnt from once its label is home."""
    client, folder = served
    rows = [replace(row, warnings=("test",) if key == "c2" else ()) for key, row in Cohort.open(folder).rows.items()]
    write_table(folder / "cases.csv", rows)
    given = [client.post("/activelearning/random", json={"client_id": "user-xyz"}).json()["id"] for _ in range(4)]
    assert set(given) == {"c1", "c3"}


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


def _empty(path):
    write_segmentation(path, Volume(np.zeros_like(LABEL), AFFINE), TABLE)


def _two_of_one_name(path):
    write_segmentation(path, Volume(LABEL, AFFINE), TABLE)
    path.write_bytes(path.read_bytes().replace(b"Name:=small_bowel", b"Name:=stomach"))


def _half(path):
    write_segmentation(path, Volume(LABEL, AFFINE), TABLE)
    path.write_bytes(path.read_bytes()[:-30])


def _another_image(path):
    image = image_digest(Volume(LABEL.astype(np.int16) + 2, AFFINE))
    write_segmentation(path, Volume(LABEL, AFFINE), TABLE, image=image)


def _another_grid(path):
    write_segmentation(path, Volume(LABEL, AFFINE @ np.diag([0.7, 0.7, 1, 1])), TABLE)


def _without_stomach(path):
    write_segmentation(path, Volume(LABEL & 3, AFFINE), LabelTable.overlapping(["large_bowel", "small_bowel"]))


def _another_name(path):
    write_segmentation(path, Volume(LABEL, AFFINE), TABLE)
    named = path.read_bytes().replace(b"Name:=stomach", b"Name:=colon2").replace(b"69695003", b"71854001")
    path.write_bytes(named)


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_empty, "all its segments are empty"),
        (_two_of_one_name, "2 segments named 'stomach'"),
        (_half, "seg.nrrd"),
        (_another_image, "it was written out for the image of c2, not for that of c1"),
        (_another_grid, "another spacing"),
        (_without_stomach, "there is no segment of stomach; add an empty segment of that name if there is none, then"),
        (_another_name, "and colon2 is no region of the cohort; rename or remove it, then submit again"),
    ],
)
def test_labels_that_do_not_come_home_by_the_server(served, tmp_path, make, told):
    client, folder = served
    path = tmp_path / "c1.seg.nrrd"
    make(path)
    before = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file()}
    with path.open("rb") as sent:
        answer = client.put("/datastore/label?image=c1", files={"label": (path.name, sent)}, data={"params": "{}"})
    assert answer.status_code == 400
    assert told in answer.json()["detail"]
    after = {file: file.read_bytes() for file in folder.rglob("*") if file.is_file() and file.name != "lock"}
    assert after == before


def test_a_final_label_has_the_names_of_the_cohort(tmp_path):
    """Whatever the values of the network are: {liver: 2, spleen: 1} of the cohort is no {liver: 1, spleen: 2}."""
    folder = tmp_path / "cohort"
    table = LabelTable.of({"liver": 2, "spleen": 1})
    label = np.zeros(SHAPE, np.uint8)
    label[1:4], label[4:7] = 2, 1
    write_volume(folder / "imagesTr" / "c0_0000.nii.gz", Volume(label.astype(np.int16), AFFINE))
    write_volume(folder / "labelsTr" / "c0.nii.gz", Volume(label, AFFINE))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 1, "file_ending": ".nii.gz", **table.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(entries))
    network = Network()
    network.recipe = SimpleNamespace(labels=LabelTable.exclusive(["liver", "spleen"]), image_channels=["MR"])
    with TestClient(make_app(Service("unet", folder, network, Training(lambda _: []))), base_url="http://x") as client:
        client.base_url = "http://localhost"
        info = client.get("/datastore/label/info?label=c0").json()["params"]["label_names"]
        assert info == {"liver": 2, "spleen": 1}
        path = tmp_path / "x.nii.gz"
        path.write_bytes(client.get("/datastore/label?label=c0").content)
        np.testing.assert_array_equal(read_volume(path).voxels, label)
    network.recipe.labels = TABLE
    with pytest.raises(LabelError, match="no region is the same"):
        Service("unet", folder, network, Training(lambda _: []))


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


def test_the_cohort_is_not_read_while_a_label_comes_home(served, tmp_path, monkeypatch):
    """The image of a case that gets a label moves, and a client who asks for another one must not miss it."""
    service = Service("unet", served[1], Network(), Training(lambda _: []))
    seen, moving, go_on = [], threading.Event(), threading.Event()

    def slowly(*_given, **_named):
        moving.set()
        assert go_on.wait(60)
        raise UsageError("not taken")

    monkeypatch.setattr("volseg.deploy.serve.service.adopt", slowly)
    label = tmp_path / "label.nii.gz"
    keys = sorted(service.cohort().keys)
    write_volume(label, read_volume(service.image(keys[0])))
    saving = threading.Thread(target=lambda: _told(service.save_label, keys[0], label, {}))
    asking = threading.Thread(target=lambda: seen.append(service.image(keys[1])))
    saving.start()
    assert moving.wait(60)
    asking.start()
    asking.join(0.3)
    assert not seen
    go_on.set()
    saving.join(60)
    asking.join(60)
    service.close()
    assert seen


def _told(work, *given):
    with pytest.raises(UsageError, match="not taken"):
        work(*given)


def test_an_image_of_the_clients_own(served, tmp_path):
    client, folder = served
    path = tmp_path / "own.nii.gz"
    write_volume(path, Volume(LABEL.astype(np.int16), AFFINE))
    made = client.put("/session/", files=[("files", ("own.nii.gz", path.read_bytes()))]).json()["session_id"]
    assert client.post(f"/infer/unet?session_id={made}&output=json").json()["label_names"]["stomach"] == 4
    # The plug-in sends the name that the image has in Slicer, and keeps the answer under the name that it gets.
    named = {"image": '3: AX "T1"/FS', "session_id": made}
    assert b'filename="image.nii.gz"' in client.post("/infer/unet", params=named).content
    answer = client.post("/infer/unet", params={**named, "output": "image"})
    assert 'filename="image.nii.gz"' in answer.headers["content-disposition"]
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
    stopped = client.delete("/train/").json()
    assert stopped["status"] == "REVOKED"
    assert "stopped" in stopped["details"], "the plug-in shows the last line, and fails where there is none"
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


def test_clients_without_a_name_get_two_cases_and_then_the_oldest_again(served):
    """MONAI Label's client 0.8.5 sends no client_id unless it is given one."""
    client, _ = served
    assert client.post("/batch/infer/unet").status_code == 200
    until(lambda: client.get("/batch/infer").json()["status"] == "DONE")
    keys = [client.post("/activelearning/review", json={}).json()["id"] for _ in range(4)]
    assert sorted(keys[:3]) == ["c1", "c2", "c3"]
    assert keys[3] == keys[0]
    assert client.post("/activelearning/review", json={"client_id": "named"}).json() == {}


def until(true):
    for _ in range(400):
        if true():
            return
        time.sleep(0.02)
    raise TimeoutError


def test_cases_are_predicted_ahead_so_that_review_can_compare_them(served):
    client, _ = served
    assert client.get("/batch/infer").status_code == 404
    assert client.post("/batch/infer/unet?images=some").status_code == 400
    assert client.post("/batch/infer/unet").json()["details"] == ["3 cases to predict"]
    assert client.post("/batch/infer/unet").status_code == 429
    until(lambda: client.get("/batch/infer").json()["status"] == "DONE")
    assert client.get("/batch/infer?check_if_running=true").status_code == 404
    assert client.get("/datastore/").json()["label_tags"]["original"] == 3
    assert client.post("/batch/infer/unet?images=all").status_code == 200
    assert client.delete("/batch/infer").json()["status"] in ("REVOKED", "DONE")
    told = client.get("/logs/?lines=2").text.splitlines()
    assert len(told) == 2
    assert "predicted c" in told[0]


def test_review_gives_one_case_of_a_kind_before_a_second_one(tmp_path):
    """Cases of bright organs lack most Dice; once one of them is looked at, one of dark organs wins more."""
    folder = tmp_path / "cohort"
    kinds = {"b_bright": 40, "c_bright": 40, "d_dark": -40, "labelled0": 1, "labelled1": 1, "labelled2": 1}
    noise = np.random.default_rng(0).integers(0, 20, SHAPE)
    for seed, (key, contrast) in enumerate(kinds.items()):
        part = "imagesTr" if key.startswith("labelled") else "imagesTs"
        image = (noise + contrast * (LABEL > 0) + (noise * seed) % 3).astype(np.int16)
        write_volume(folder / part / f"{key}_0000.nii.gz", Volume(image, AFFINE))
        if part == "imagesTr":
            write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(LABEL, AFFINE))
    entries = {"channel_names": {"0": "CT"}, "numTraining": 3, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(entries))

    class Unsure(Network):
        def predict(self, images, *, key):
            found = super().predict(images, key=key)
            dice = 0.28 if "bright" in key else 0.3
            return dataclasses.replace(found, uncertainty=dict.fromkeys(TABLE.names, dice))

    def served():
        return Service("unet", folder, Unsure(), Training(lambda _: [sys.executable, "-c", "pass"]))

    service = served()
    for key in ("b_bright", "c_bright", "d_dark"):
        service.infer(key)
    first = service.next_case("review", "one")["id"]
    second = service.next_case("review", "two")["id"]
    assert first.endswith("bright")
    assert second == "d_dark", "the other bright one is known soon"
    service.close()
    content = json.loads((folder / ".volseg" / "serve" / "described.json").read_text())
    assert set(content["cases"]) == set(kinds)
    assert content["cases"]["labelled0"]["labelled"]

    again = served()  # what is described is not described again
    again.described._described = None  # type: ignore[method-assign,assignment]
    assert again.next_case("review", "one")["id"] == first
    again.close()
    (folder / ".volseg" / "serve" / "described.json").write_text("[]")
    damaged = served()
    assert damaged.next_case("review", "one")["id"] == first
    write_volume(folder / ".volseg" / "serve" / "d_dark.nii.gz", Volume(LABEL[:4], AFFINE))  # of another grid
    assert damaged.next_case("review", "one")["id"].endswith("bright")
    assert "d_dark" not in damaged.described.of(damaged.cohort())
    damaged.close()


def test_the_bounds_of_a_calibrated_network_are_told_kept_and_come_before_what_it_expects(served):
    _, folder = served
    sure = {"c1": 0.9, "c2": 0.2, "c3": 0.9}

    class Calibrated(Network):
        def predict(self, images, *, key):
            bounds = {name: RegionBounds(dice_at_least=sure[key]) for name in TABLE.names}
            found = super().predict(images, key=key)  # expects the least of c1 and c3
            return dataclasses.replace(
                found, uncertainty=dict.fromkeys(TABLE.names, 0.95 if key == "c2" else 0.3), bounds=bounds
            )

    service = Service("unet", folder, Calibrated(), Training(lambda _: []))
    for key in sure:
        _, facts = service.infer(key)
        assert {name: one["dice_at_least"] for name, one in facts["bounds"].items()} == dict.fromkeys(
            TABLE.names, sure[key]
        )
        json.dumps(facts)
    assert read_bounds(service.place)["c2"]["stomach"].dice_at_least == 0.2
    assert service.next_case("review", "one")["id"] == "c2"
    service.close()


def test_an_image_is_added_by_the_way_of_today_too(served, tmp_path):
    client, folder = served
    path = tmp_path / "own.nii.gz"
    write_volume(path, Volume(LABEL.astype(np.int16), AFFINE))
    sent = client.put("/datastore/image?image=new2", files={"file": ("own.nii.gz", path.read_bytes())})
    assert sent.json() == {"image": "new2"}
    half = client.put("/datastore/image?image=new3", files={"file": ("own.nii.gz", path.read_bytes()[:-30])})
    assert half.status_code == 400
    assert Cohort.open(folder).keys == ("c0", "c1", "c2", "c3", "new2")


def test_a_training_that_waits_begins_from_what_the_one_before_has_left(tmp_path):
    words = []

    def command(given):
        if given.get("bad"):
            raise UsageError("no label was corrected yet")
        words.append(sorted(path.name for path in tmp_path.iterdir()))
        return [sys.executable, "-c", f"open({str(tmp_path / given['name'])!r}, 'w').close()"]

    done = []
    training = Training(command, done=lambda: done.append(1) or "served", before={"status": "ERROR", "details": ["x"]})
    assert training.state() == {"status": "ERROR", "details": ["x"]}
    with pytest.raises(UsageError, match="no label was corrected"):
        training.start("unet", {"bad": 1})
    assert training.state() == {"status": "ERROR", "details": ["x"]}
    training.start("unet", {"name": "a"})
    training.start("unet", {"bad": 1}, enqueue=True)
    training.start("unet", {"name": "b"}, enqueue=True)
    until(lambda: len(words) == 2 and not training.running)
    assert words == [[], ["a"]]
    assert done == [1, 1]
    assert training.state()["details"] == ["served"]


def test_whatever_goes_wrong_beside_a_training_the_next_one_can_begin():
    """A network that cannot be loaded, or a full disk where the next one is noted, left the server busy for good."""
    begun = []

    def command(given):
        if given.get("full"):
            raise OSError(errno.ENOSPC, "No space left on device")
        begun.append(given)
        return [sys.executable, "-c", "pass"]

    def done():
        raise KeyError("model")

    training = Training(command, done=done)
    first = training.start("unet", {"name": "a"})
    training.start("unet", {"full": True}, enqueue=True)
    training.start("unet", {"name": "b"}, enqueue=True)
    until(lambda: len(begun) == 2 and not training.running)
    assert training.state()["details"] == ["KeyError: 'model'"]
    assert training.state()["status"] == "ERROR"
    assert training.start("unet", {"name": "c"})["id"] != first["id"]
    until(lambda: not training.running)


class Newer(Network):
    """A network that finds nothing, so that its predictions are told from those of the one before."""

    def predict(self, images, *, key):
        found = super().predict(images, key=key)
        return dataclasses.replace(found, label_map=Volume(LABEL * 0, found.label_map.affine_ras))


def test_what_a_client_edits_is_compared_with_what_it_was_shown(served):
    """A newer network predicts all cases ahead; a case that was shown to somebody waits until the edit is home."""
    _, folder = served

    service = Service("unet", folder, Network(), Training(lambda _: [sys.executable, "-c", "pass"]))
    edit, _ = service.infer("c1", ending=".seg.nrrd")
    service.predict_ahead("unlabeled")
    until(lambda: not service.ahead.running)
    service.label("c3", "original")
    service.take_network(Newer())
    service.predict_ahead("unlabeled")
    until(lambda: not service.ahead.running)
    assert read_volume(service.place / "c1.nii.gz").voxels.any()
    assert read_volume(service.place / "c3.nii.gz").voxels.any()
    assert not read_volume(service.place / "c2.nii.gz").voxels.any()
    assert service.save_label("c1", edit, {})["added_path_mm"] == 0
    service.predict_ahead("all")
    until(lambda: not service.ahead.running)
    assert not read_volume(service.place / "c1.nii.gz").voxels.any()
    service.close()


def test_two_clients_with_one_case_edit_the_same_prediction(served):
    """After a training in between the second client still sees what the first one edits; the first may ask anew."""
    _, folder = served

    service = Service("unet", folder, Network(), Training(lambda _: [sys.executable, "-c", "pass"]))
    with TestClient(make_app(service), base_url="http://localhost") as client:

        def infer(name):
            params = {"client_id": name, "result_extension": ".seg.nrrd"}
            facts = client.post("/infer/unet?image=c1&output=json", data={"params": json.dumps(params)}).json()
            return facts, bool(read_volume(service.place / "c1.nii.gz").voxels.any())

        first, _ = infer("one")
        service.take_network(Newer())
        second, held = infer("two")
        assert held
        assert second == {**first, "note": "as another client was shown it, who has not sent a label yet"}
        edit, _ = service.infer("c1", ending=".seg.nrrd", client="two")
        saved = client.put(
            "/datastore/label?image=c1",
            files={"label": ("x.seg.nrrd", edit.read_bytes())},
            data={"params": json.dumps({"client_id": "one"})},
        )
        assert saved.json()["added_path_mm"] == 0
        assert infer("one")[1], "the second client has not sent its label yet"
        service.save_label("c1", edit, {"client_id": "two"})
        assert not infer("one")[1], "no other client has the case before it"


def test_a_client_who_sends_a_label_twice_has_drawn_its_mm_once(served, tmp_path):
    _, folder = served
    service = Service("unet", folder, Network(), Training(lambda _: [sys.executable, "-c", "pass"]))
    for client in ({"client_id": "one"}, {}):
        service.infer("c1", client=str(client.get("client_id", "")))
        drawn = []
        for number in (1, 2):
            masks = np.zeros((3, *SHAPE), bool)
            masks[0, :3, :3, : 2 + number] = True
            file = tmp_path / "edit.seg.nrrd"
            write_segmentation(file, Volume(TABLE.encode(masks), AFFINE), TABLE)
            drawn.append(service.save_label("c1", file, client)["added_path_mm"])
            service.take_network(Newer() if number == 1 else Network())
            service.predict_ahead("all")
            until(lambda: not service.ahead.running)
        assert drawn[1] < drawn[0] / 2, "whatever was predicted meanwhile"
    service.close()


def test_a_case_that_cannot_be_predicted_ahead_stops_no_other():
    seen = []

    def predict(key):
        seen.append(key)
        if key == "b":
            raise KeyError("pred")

    ahead = Ahead(predict)
    ahead.start("unet", ["a", "b", "c"])
    until(lambda: not ahead.running)
    assert seen == ["a", "b", "c"]
    assert ahead.state()["status"] == "ERROR"
    assert ahead.state()["details"] == ["3 of 3 cases done", "b: KeyError: 'pred'"]


def test_a_training_ends_with_its_server():
    """However the server ends, the standard input of its training is closed then."""
    words = volseg_command(["--version"])
    code = words[2].replace("from volseg.cli import main\nmain(sys.argv[1:])", "import time; time.sleep(30)")
    with subprocess.Popen([*words[:2], code], stdin=subprocess.PIPE) as process:
        process.stdin.close()
        assert process.wait(10) == -signal.SIGTERM


def test_trainings_of_a_server_go_on_where_they_were(served, tmp_path, monkeypatch):
    """The last good network is served; what was cut off is resumed, unless labels came home since."""
    _, folder = served
    monkeypatch.setattr(rounds, "weights_digest", lambda path: str(path))
    monkeypatch.setattr(rounds, "read_recipe", lambda path: SimpleNamespace(facts={"fold": "all"}))
    given = tmp_path / "run" / "model.pt"
    chain = Rounds(folder, tmp_path / "bundle", given, minutes=5)
    assert chain.latest() == given
    assert chain.last_state("unet") is None
    with pytest.raises(UsageError, match="no label was corrected yet; submit one, then train"):
        chain.words({})
    table = folder / "corrections.csv"
    head = ",".join(field.name for field in dataclasses.fields(Correction))
    table.write_text(f"{head}\n1,c0,stomach,1,1,1,1,1,,label,a,b\n")
    words = chain.words({})
    run = folder / ".volseg" / "serve" / "runs" / "001"
    assert words[words.index("--output_dir") + 1] == str(run)
    assert words[words.index("--corrections") + 1] == str(given)
    assert "--resume" not in words

    def ends(status, dice):
        run.mkdir(exist_ok=True)
        (run / "model.pt").touch()
        (run / "run.json").write_text(json.dumps({"status": status, "best": {"dice": dice}}))

    ends("interrupted", 0.7)
    again = Rounds(folder, tmp_path / "bundle", given, minutes=5)
    assert again.latest() == given
    assert again.last_state("unet")["status"] == "ERROR"
    assert again.words({}) == [*words, "--resume"]
    table.write_text(table.read_text() + "2,c0,stomach,1,1,1,1,1,,label,b,c\n")
    assert "--resume" not in again.words({})
    assert again.words({})[again.words({}).index("--output_dir") + 1].endswith("002")
    ends("finished", 0.7)
    assert again.latest() == run / "model.pt"
    run = run.with_name("003")
    words = again.words({})
    assert words[words.index("--corrections") + 1].endswith("001/model.pt")
    ends("finished", 0.6)
    assert again.latest() == run.with_name("001") / "model.pt"
    assert again.worse() == "003 has a Dice of 0.600, and its start had 0.700"
    ends("finished", 0.8)
    assert again.latest() == run / "model.pt"
    assert again.worse() == ""
    other = Rounds(folder, tmp_path / "bundle", tmp_path / "other.pt", minutes=5)
    assert other.latest() == tmp_path / "other.pt"
    assert other.last_state("unet") is None


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (["--host", "0.0.0.0"], "can be reached by others; give a --token-file"),
        (["--token-file", "absent.txt"], "there is no file absent.txt; correct --token-file"),
        (["--token-file", "empty.txt"], "--token-file empty.txt is empty"),
    ],
)
def test_a_server_for_others_needs_a_word(tmp_path, monkeypatch, capsys, words, told):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "empty.txt").write_text("\n")
    with pytest.raises(SystemExit) as left:
        main(["serve", "unet", "--cohort", str(tmp_path), *words])
    assert left.value.code == 2
    assert told in capsys.readouterr().err


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


def test_the_image_of_the_next_case_is_fetched_without_the_token_for_a_minute(served):
    """The plug-in for 3D Slicer lets Slicer download it, which has no token."""
    now = 0.0
    handed = Handed(lambda: now)

    def asks(path, *, host="10.0.0.1", method="GET", headers=()):
        place, _, query = path.partition("?")
        return Request(
            {"type": "http", "method": method, "path": place, "query_string": query.encode(), "client": (host, 1)}
            | {"headers": list(headers), "scheme": "http", "server": ("clinic", 80)}
        )

    handed.add(asks("/activelearning/review", method="POST"), "c1")
    handed.add(asks("/activelearning/review", method="POST"), "")
    image = "/datastore/image?image=c1"
    assert not handed.has(asks(image, host="10.0.0.2"))
    passed_on = [(b"x-forwarded-for", b"10.0.0.3")]  # by a proxy, for which all computers are one
    assert not handed.has(asks(image, headers=passed_on))
    assert not handed.has(asks("/datastore/image?image=c2"))
    assert not handed.has(asks("/datastore/label?image=c1"))
    assert not handed.has(asks(image, method="PUT"))
    assert handed.has(asks(image))
    assert not handed.has(asks(image)), "once is enough"
    handed.add(asks("/activelearning/review", method="POST", headers=passed_on), "c1")
    assert not handed.has(asks(image))
    handed.add(asks("/activelearning/review", method="POST"), "c1")
    now = 61.0
    assert not handed.has(asks(image))
    _, folder = served
    service = Service("unet", folder, Network(), Training(lambda _: []))
    with TestClient(make_app(service, token="word", hosts=("*",)), base_url="http://clinic") as client:
        assert client.get("/datastore/image?image=c1").status_code == 401
        headers = {"Authorization": "Bearer word"}
        key = client.post("/activelearning/random", json={}, headers=headers).json()["id"]
        assert client.get("/datastore/image", params={"image": key}).status_code == 200
        assert client.get("/datastore/label", params={"label": key}).status_code == 401

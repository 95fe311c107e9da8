"""Images that clients of `volseg serve` send: two at once for one key, DICOM in its forms, and what is none."""

from __future__ import annotations

import io
import json
import threading
import time
import zipfile
from pathlib import Path
from types import SimpleNamespace

import nibabel
import numpy as np
import pytest

pytest.importorskip("fastapi")
pytest.importorskip("multipart", reason="python-multipart is not installed")

from dicom_series import grid, multi_frame, noise, save, series, structure_set
from starlette.testclient import TestClient

from volseg.cohort import Cohort, Prediction
from volseg.deploy.serve import Service, Training, make_app, service
from volseg.dicom import place, read_stack, scan, write_dicom_seg, write_rtstruct
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

TABLE = LabelTable.exclusive(["organ", "vessel"])
SHAPE = (7, 6, 5)
TURNED = grid(SHAPE, angles=(0.1, 0, 0.2))
pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")


class Network:
    """Gives the voxels above 100 of any image."""

    recipe = SimpleNamespace(labels=TABLE, image_channels=["MR"])

    def predict(self, images, *, key):
        image = read_volume(images[0])
        return Prediction(Volume((image.voxels > 100).astype(np.uint8), image.affine_ras), {"organ": 0.9})


@pytest.fixture
def cohort(tmp_path: Path) -> Path:
    folder = tmp_path / "cohort"
    image = Volume(noise(SHAPE), np.eye(4))
    write_volume(folder / "imagesTr" / "c0_0000.nii.gz", image)
    write_volume(folder / "labelsTr" / "c0.nii.gz", Volume((image.voxels > 100).astype(np.uint8), np.eye(4)))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 1, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(entries))
    return folder


def served(cohort: Path) -> Service:
    return Service("unet", cohort, Network(), Training(lambda _: []))


@pytest.fixture
def client(cohort: Path):
    with TestClient(make_app(served(cohort)), base_url="http://localhost") as made:
        yield made


def nifti(folder: Path, value: int, shape: tuple[int, ...] = SHAPE) -> bytes:
    path = folder / f"sent{value}.nii.gz"
    write_volume(path, Volume(np.full(shape, value, np.int16), np.eye(4)))
    return path.read_bytes()


def zipped(files: dict[str, bytes]) -> bytes:
    made = io.BytesIO()
    with zipfile.ZipFile(made, "w") as content:
        for name, data in files.items():
            content.writestr(name, data)
    return made.getvalue()


@pytest.mark.parametrize("servers", [1, 2])
def test_of_two_clients_who_send_one_key_at_once_one_is_told(cohort, tmp_path, monkeypatch, servers):
    """Also with two servers on one cohort: the image of the first stays, whole."""
    write = service.write_volume

    def slowly(path, volume):
        time.sleep(0.05)
        write(path, volume)

    monkeypatch.setattr(service, "write_volume", slowly)
    sent = [nifti(tmp_path, value) for value in range(4)]
    clients = [TestClient(make_app(served(cohort)), base_url="http://localhost") for _ in range(servers)]
    answers: dict[int, tuple[int, str]] = {}

    def put(value: int) -> None:
        files = {"file": ("new.nii.gz", sent[value])}
        answer = clients[value % servers].put("/datastore/image?image=new", files=files)
        answers[value] = (answer.status_code, answer.text)

    threads = [threading.Thread(target=put, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    (first,) = [value for value, (code, _) in answers.items() if code == 200]
    assert {text for code, text in answers.values() if code == 400} == {
        '{"detail":"the cohort has a case new already"}'
    }
    assert set(np.unique(read_volume(cohort / "imagesTs" / "new_0000.nii.gz").voxels)) == {first}


def test_several_keys_at_once_are_all_there(cohort, client, tmp_path):
    sent = [nifti(tmp_path, value) for value in range(4)]

    def put(value: int) -> None:
        client.put(f"/datastore/image?image=k{value}", files={"file": ("x.nii.gz", sent[value])})

    threads = [threading.Thread(target=put, args=(value,)) for value in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert Cohort.open(cohort).keys == ("c0", "k0", "k1", "k2", "k3")
    for value in range(4):
        assert read_volume(cohort / "imagesTs" / f"k{value}_0000.nii.gz").voxels.max() == value


def test_a_series_comes_in_whatever_its_files_are_packed_in(cohort, client, tmp_path):
    """A zip, all its files in a session, and one file with all slices; the same voxels on the same grid."""
    voxels = noise(SHAPE)
    paths = save(tmp_path / "series", series(voxels, TURNED), "IM{:04d}".format)
    whole = save(tmp_path / "whole", [multi_frame(voxels, TURNED)])[0]
    expected = read_stack(scan(tmp_path / "series").series[0])
    packed = zipped({f"DICOM/{path.name}": path.read_bytes() for path in paths} | {"notes.txt": b"seen by someone"})
    for key, content in (("zipped", packed), ("whole", whole.read_bytes())):
        answer = client.put(f"/datastore/image?image={key}", files={"file": (f"{key}.bin", content)})
        assert answer.json() == {"image": key}, answer.text
        found = read_volume(cohort / "imagesTs" / f"{key}_0000.nii.gz")
        np.testing.assert_array_equal(found.voxels, voxels - (1024 if key == "whole" else 0))
        np.testing.assert_allclose(found.affine_ras, expected.affine_ras, atol=1e-4)
    files = [("files", (path.name, path.read_bytes())) for path in paths]
    for sent in (files, [("files", ("series.zip", packed))]):
        made = client.put("/session/?uncompress=true", files=sent).json()["session_id"]
        answer = client.post(f"/infer/unet?session_id={made}&output=image", data={"params": "{}"})
        (tmp_path / "answer.nii.gz").write_bytes(answer.content)
        np.testing.assert_array_equal(read_volume(tmp_path / "answer.nii.gz").voxels, voxels > 100)
    answer = client.post("/infer/unet?output=json", files={"file": ("series.zip", packed)}, data={"params": "{}"})
    assert answer.json()["label_names"] == {"organ": 1}


@pytest.mark.parametrize("write", [write_dicom_seg, write_rtstruct], ids=["seg", "rtstruct"])
def test_a_label_of_dicom_comes_home(cohort, client, tmp_path, write):
    paths = save(tmp_path / "series", series(noise(SHAPE), TURNED))
    packed = zipped({path.name: path.read_bytes() for path in paths})
    assert client.put("/datastore/image?image=d1", files={"file": ("d1.zip", packed)}).status_code == 200
    stack = read_stack(scan(tmp_path / "series").series[0])
    drawn = np.zeros(SHAPE, np.uint8)
    drawn[1:5, 1:4, 1:4], drawn[5:7, 1:4, 1:4] = 1, 2
    write(tmp_path / "label.dcm", place(Volume(drawn, stack.affine_ras), stack), TABLE)
    answer = client.put(
        "/datastore/label?image=d1", files={"label": ("label.dcm", (tmp_path / "label.dcm").read_bytes())}
    )
    assert answer.status_code == 200, answer.text
    np.testing.assert_array_equal(read_volume(cohort / "labelsTr" / "d1.nii.gz").voxels, drawn)


def slices(folder: Path, number: int = 1) -> dict[str, bytes]:
    paths = save(folder, series(noise(SHAPE, seed=number), TURNED, series=str(number)))
    return {f"{number}_{path.name}": path.read_bytes() for path in paths}


def two_series(folder: Path) -> bytes:
    return zipped(slices(folder / "a") | slices(folder / "b", 2))


def one_slice(folder: Path) -> bytes:
    return next(iter(slices(folder).values()))


def damaged(folder: Path) -> bytes:
    files = slices(folder)
    name = sorted(files)[2]
    return zipped(files | {name: files[name][:-40]})


def outlines(folder: Path) -> bytes:
    made = structure_set(series(noise(SHAPE), TURNED), {"organ": []})
    return save(folder, [made])[0].read_bytes()


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (two_series, "2 DICOM series were sent, and a case is one"),
        (one_slice, "1 series of one image (CT); send an image file, all files of one DICOM series, or a zip of them"),
        (damaged, "the pixels are damaged or cut short"),
        (outlines, "no DICOM series that can be a volume"),
        (lambda _: zipped(slices(_))[:-50], "cannot be unpacked"),
        (lambda _: zipped({"../x.dcm": b"x"}), "leaves its folder"),
        (lambda _: zipped({"a.txt": b"x", "b.txt": b"y"}), "2 files were sent, 0 of them DICOM"),
        (lambda _: b"just words", "neither an image file that is read nor DICOM"),
        (lambda _: b"", "neither an image file that is read nor DICOM"),
    ],
)
def test_what_is_no_image_is_told_in_a_line_without_a_path(cohort, client, tmp_path, make, told):
    content = make(tmp_path / "made")
    for way, path, field in (("PUT", "/datastore/image?image=x", "file"), ("PUT", "/session/", "files")):
        answer = client.request(way, path, files=[(field, ("sent", content))])
        assert answer.status_code == 400, answer.text
        line = answer.json()["detail"]
        assert told in line
        assert "\n" not in line
        assert "volseg-received" not in line
    assert Cohort.open(cohort).keys == ("c0",)


def test_an_image_of_several_channels_is_not_cut_to_the_first(cohort, client, tmp_path):
    path = tmp_path / "two.nii.gz"
    nibabel.save(nibabel.Nifti1Image(np.zeros((*SHAPE, 2), np.int16), np.eye(4)), path)
    answer = client.put("/datastore/image?image=x", files={"file": (path.name, path.read_bytes())})
    assert answer.status_code == 400
    assert "the image has 2 channels" in answer.json()["detail"]
    assert Cohort.open(cohort).keys == ("c0",)


def test_a_zip_of_one_image_file_is_that_image(cohort, client, tmp_path):
    content = zipped({"study/scan.nii.gz": nifti(tmp_path, 7)})
    assert client.put("/datastore/image", files={"file": ("scan.zip", content)}).json() == {"image": "scan"}
    assert read_volume(cohort / "imagesTs" / "scan_0000.nii.gz").voxels.max() == 7

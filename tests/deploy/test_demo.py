"""`volseg demo` without a browser: what it refuses, what it computes, and the folder of a hosted demo."""

from __future__ import annotations

import asyncio
import base64
import json
import math
import os
import shutil
import socket
import subprocess
import sys
import threading
import time
import tracemalloc
import urllib.request
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import yaml
from command import told
from PIL import Image
from tiny_bundle import write_bundle, write_checkpoint
from warm_process import WarmCommands

from volseg.cohort import Cohort
from volseg.deploy.demo import answer, server
from volseg.deploy.demo.abandon import LeftError
from volseg.deploy.demo.segmentation import VOLUMES, Segmentation, Segmenter
from volseg.deploy.demo.server import Door, address, is_local, listen
from volseg.deploy.demo.slices import png, slice_pixels
from volseg.deploy.demo.space import pinned_requirements, write_space
from volseg.deploy.demo.upload import receive
from volseg.errors import LabelError, UsageError
from volseg.inference import Predictor
from volseg.labels import LabelTable
from volseg.metrics import MINUTES_PER_METRE, added_path_length_mm
from volseg.pictures import PLANES
from volseg.volume import Volume, read_volume, write_volume

LABELS = LabelTable.overlapping(["large", "small"])  # those of the tiny cohort
CASE = "case3_day0"
needs_gradio = pytest.mark.skipif(find_spec("gradio") is None, reason="gradio is not installed")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("demo")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "model.pt", LABELS)
    return folder


@pytest.fixture(scope="module")
def segmenter(place: Path, tiny_cohort: Path) -> Segmenter:
    predictor = Predictor.from_bundle(place / "bundle", checkpoint=place / "model.pt", device="cpu")
    return Segmenter(predictor, Cohort.open(tiny_cohort))


# --- who is let in


@pytest.mark.parametrize(
    ("names", "host", "status"),
    [
        (None, "any.example", 200),
        ({"demo.example.org"}, "demo.example.org:7860", 200),
        ({"demo.example.org"}, "evil.example", 421),
        ({"demo.example.org"}, "localhost", 421),
    ],
)
def test_other_names_than_those_given_are_refused(names: set[str] | None, host: str, status: int) -> None:
    answers: list[Any] = []

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await send({"type": "http.response.start", "status": 200, "headers": []})

    async def send(message: Any) -> None:
        answers.append(message)

    async def receive() -> Any:
        return {"type": "http.request"}

    door = Door(app, max_bytes=1, hosts=None if names is None else frozenset(names), framed_by="'self'")
    asyncio.run(door({"type": "http", "path": "/", "headers": [(b"host", host.encode())]}, receive, send))
    assert answers[0]["status"] == status


# --- what is computed


def test_a_case_has_its_files_its_numbers_and_its_pictures(segmenter: Segmenter, tmp_path: Path) -> None:
    found = segmenter.case(CASE, tmp_path)
    assert {path.name for path in tmp_path.iterdir()} == {*found.files, VOLUMES}
    np.testing.assert_array_equal(read_volume(tmp_path / f"{CASE}.nii.gz").voxels, found.prediction.voxels)
    assert segmenter.cohort is not None
    truth = LABELS.masks(read_volume(segmenter.cohort.label_path(CASE)).voxels)  # type: ignore[arg-type]
    for region, mask in zip(found.regions, truth, strict=True):
        whole_mm = added_path_length_mm(np.zeros_like(mask), mask, found.prediction.spacing_mm)
        assert region.by_hand_minutes == pytest.approx(whole_mm / 1000 * MINUTES_PER_METRE)
        assert region.score is not None
        assert region.saved_minutes is not None
        assert 0 <= region.saved_minutes <= region.by_hand_minutes, "correcting draws no more than all of the contour"
    for plane in PLANES:
        case_view = found.case_view(plane)
        assert slice_pixels(case_view, 0).ndim == 3
        bare = slice_pixels(case_view, case_view.fullest, parts=())
        pictures = [slice_pixels(case_view, case_view.fullest, parts=(part,)) for part in ("prediction", "reference")]
        assert all((picture != bare).any() for picture in pictures)
    assert np.array_equal(slice_pixels(case_view, 10**6), slice_pixels(case_view, case_view.slices - 1))
    table = answer.table(found)
    assert "Surface Dice" in table
    assert table.count("<tr>") == 3
    assert f'data-file="results/x/{VOLUMES}"' in answer.viewer(found, "x")


def test_a_visitor_who_leaves_stops_the_windows(segmenter: Segmenter, tmp_path: Path) -> None:
    left, windows = threading.Event(), []
    engine = segmenter.predictor.engine

    class Counting:
        def __call__(self, window: Any) -> Any:
            windows.append(window)
            left.set()
            return engine(window)

    stopped = replace(segmenter, predictor=replace(segmenter.predictor, engine=Counting()))
    with pytest.raises(LeftError, match="the visitor has left"):
        stopped.case(CASE, tmp_path, left=left)
    assert len(windows) == 1
    with pytest.raises(LeftError):
        segmenter.case(CASE, tmp_path, left=left)
    assert list(tmp_path.iterdir()) == []


def a_result(shape: tuple[int, ...], labels: LabelTable, **more: Any) -> Segmentation:
    """A segmentation without a network."""
    image = Volume(np.arange(math.prod(shape), dtype=np.float32).reshape(shape), np.eye(4))
    prediction = Volume(np.ones(shape, np.uint8), np.eye(4))
    facts: dict[str, Any] = {"what": "", "reference": None, "regions": (), "seconds": 1.0, "measured": True}
    facts |= {"key": "a", "channel_names": ("MR",), "folder": Path(), **more}
    return Segmentation(labels=labels, image=[image], prediction=prediction, **facts)


def test_a_slice_alone_is_shown_in_its_own_plane() -> None:
    for shape, plane in (((1, 30, 20), "sagittal"), ((30, 1, 20), "coronal"), ((30, 20, 1), "axial")):
        found = a_result(shape, LABELS)
        assert (found.plane, found.case_view(found.plane).slices) == (plane, 1)
    assert a_result((30, 20, 10), LABELS).plane == "axial"


def test_turning_the_slices_of_many_regions_takes_no_mask_of_each() -> None:
    found = a_result((70, 60, 50), LabelTable.exclusive([f"r{number}" for number in range(100)]))
    tracemalloc.start()
    case_view = found.case_view("coronal")
    assert case_view.reference_masks(3) is None
    assert case_view.fullest == 0
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 60 * 70 * 60 * 50, "a mask of each region would be 100 bytes per voxel"
    assert found.case_view("coronal") is case_view, "the next slice begins with what is there"
    assert found.case_view("axial").slices == 50


def test_an_image_is_counted_in_pixels(segmenter: Segmenter, tmp_path: Path) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (40, 48)).astype(np.uint8)
    Image.fromarray(pixels).save(tmp_path / "lung.png")
    recipe = segmenter.predictor.recipe
    upload = receive(tmp_path / "lung.png", tmp_path / "in", name="lung.png", recipe=recipe, max_bytes=2**20)
    found = segmenter.segment(upload.key, upload.files, tmp_path / "out", what=upload.what, measured=upload.measured)
    assert found.flat
    assert found.prediction.shape == (48, 40, 1)
    assert not (tmp_path / "out" / VOLUMES).exists()
    table = answer.table(found)
    assert "Area (pixels)" in table
    counts = LABELS.masks(found.prediction.voxels).sum(axis=(1, 2, 3))
    assert all(f"<td>{count}</td>" in table for count in counts)
    assert "spacing unknown" in answer.headline(found)
    assert "no third dimension" in answer.viewer(found, "x")
    assert png(slice_pixels(found.case_view("axial"), 0)).startswith(b"\x89PNG")


def test_what_a_visitor_wrote_is_escaped(segmenter: Segmenter, tmp_path: Path) -> None:
    assert "<script>" not in answer.problem("<script>x</script> is empty")
    found = segmenter.case(CASE, tmp_path)
    assert "&lt;b&gt;" in answer.headline(replace(found, what="<b>"))


# --- what is refused


def test_a_cohort_of_other_regions_is_refused(segmenter: Segmenter, place: Path, tmp_path: Path) -> None:
    write_checkpoint(tmp_path / "other.pt", LabelTable.exclusive(["liver"]))
    other = Predictor.from_bundle(place / "bundle", checkpoint=tmp_path / "other.pt", device="cpu")
    with pytest.raises(LabelError, match=r"the network segments \['liver'\], the cohort has \['large', 'small'\]"):
        Segmenter(other, segmenter.cohort)
    with pytest.raises(LabelError, match="no cohort was named"):
        Segmenter(other).case(CASE, tmp_path)


def test_an_address_that_is_taken_is_refused() -> None:
    with listen("127.0.0.1", 0) as listening:
        port = listening.getsockname()[1]
        assert address(listening) == f"http://127.0.0.1:{port}"
        with pytest.raises(UsageError, match=f"127.0.0.1:{port} cannot be listened at"):
            listen("127.0.0.1", port)
    assert [is_local(host) for host in ("127.0.0.7", "::1", "0.0.0.0", "::", "192.168.0.2", "example.org")] == [
        *[True] * 2,
        *[False] * 4,
    ]


@needs_gradio
def test_wrong_use_is_told(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for words, reason in (
        (["swinunet"], "is no bundle"),
        ([place / "bundle", "--checkpoint", tmp_path / "modle.pt"], "there is no checkpoint"),
        ([place / "bundle", "--checkpoint", place / "model.pt", "--cohort", tmp_path / "no"], "there is no folder"),
        ([place / "bundle", "--port", "70000"], "--port"),
        ([place / "bundle", "--checkpoint", place / "model.pt", "--host", "256.0.0.1"], "cannot be listened at"),
        ([place / "bundle", "--checkpoint", place / "model.pt", "--write-space", place], "is there already"),
    ):
        code, text = told(
            capsys, "demo", *words, *([] if {"--port", "--write-space"} & set(words) else ["--port", "0"])
        )
        assert (code, "Traceback" in text) == (2, False), text
        assert reason in text


def test_without_gradio_one_line_says_what_to_install(place: Path, warm_commands: WarmCommands) -> None:
    code = "import sys; sys.modules['gradio'] = None; from volseg.cli import main; main(sys.argv[1:])"
    words = [warm_commands.python, "-c", code, "demo", str(place / "bundle"), "--checkpoint", str(place / "model.pt")]
    done = subprocess.run(words, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 2
    assert done.stderr.strip().splitlines() == [
        'volseg: the demo needs Gradio, which is not installed: pip install "volseg[demo]"'
    ]


# --- the hosted demo


@needs_gradio
def test_the_requirements_are_what_is_installed() -> None:
    lines = pinned_requirements()
    assert all(line.count("==") == 1 and "+" not in line for line in lines)
    assert {"gradio", "monai", "torch"} <= {line.partition("==")[0] for line in lines}


@needs_gradio
@pytest.mark.slow
def test_the_folder_of_a_hosted_demo_serves_the_network(place: Path, tmp_path: Path) -> None:
    space = tmp_path / "space"
    space.mkdir()
    write_space(space, place / "bundle", checkpoint=place / "model.pt", max_mb=3)
    head, _, text = (space / "README.md").read_text().removeprefix("---\n").partition("---\n")
    settings = yaml.safe_load(head)
    assert settings["sdk"] == "gradio"
    assert settings["app_file"] == "app.py"
    assert settings["title"] == "Segmentation of large, small"
    assert f"gradio=={settings['sdk_version']}" in (space / "requirements.txt").read_text().splitlines()
    assert "For research only" in text
    assert not list(space.rglob("__pycache__"))
    assert not list(tmp_path.glob(".partial-*"))
    with pytest.raises(UsageError, match="is there already"):
        write_space(space, place / "bundle", checkpoint=place / "model.pt")
    # In its own folder, with its own copy of the package.
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    environment |= {"GRADIO_SERVER_PORT": str(port), "GRADIO_SERVER_NAME": "127.0.0.1", "TMPDIR": str(tmp_path)}
    with (tmp_path / "log").open("w") as log:
        process = subprocess.Popen([sys.executable, "app.py"], cwd=space, env=environment, stderr=log)
    try:
        until = time.monotonic() + 300
        seen = b""
        while not seen and process.poll() is None and time.monotonic() < until:
            try:
                with urllib.request.urlopen(f"http://127.0.0.1:{port}/", timeout=10) as page:
                    seen = page.read()
                    assert "frame-ancestors https://huggingface.co" in page.headers["content-security-policy"]
            except OSError:
                time.sleep(0.5)
        assert b"Segmentation of large, small" in seen, (tmp_path / "log").read_text()
    finally:
        process.terminate()
        process.wait(60)
    assert list(tmp_path.glob("volseg-demo-*")) == []


def test_the_files_that_the_page_names_are_in_the_packages_that_hold_them() -> None:
    """A browser shows the page without them, so nothing else would tell."""
    named = {word.partition('"')[0] for word in server._HEAD.split('"viewer/')[1:]}
    assert named == {"viewer.js", "viewer.css", "demo.js", "demo.css"} <= server._ASSETS.keys()
    assert all(len(server.asset_bytes(name)) > 500 for name in server._ASSETS)
    assert all(Path(name).suffix in server._KINDS for name in server._ASSETS)


def test_what_nobody_looked_at_is_no_error_of_a_prediction(
    segmenter: Segmenter, tiny_cohort: Path, tmp_path: Path
) -> None:
    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    dataset = json.loads((folder / "dataset.json").read_text())
    dataset["labels"]["ignore"] = 9
    (folder / "dataset.json").write_text(json.dumps(dataset))
    path = folder / "labelsTr" / f"{CASE}.nii.gz"
    label = read_volume(path)
    voxels = label.voxels.copy()
    voxels[: len(voxels) // 2] = 9  # as `volseg adopt` marks what nobody looked at
    write_volume(path, Volume(voxels, label.affine_ras))
    found = replace(segmenter, cohort=Cohort.open(folder)).case(CASE, tmp_path / "out")
    assert found.reference is not None
    np.testing.assert_array_equal(found.reference.voxels, np.where(voxels == 9, 0, voxels))
    assert found.regions[0].score is not None
    content = json.loads((tmp_path / "out" / VOLUMES).read_text())
    (tmp_path / "difference.nii.gz").write_bytes(base64.b64decode(content["difference"]))
    difference = read_volume(tmp_path / "difference.nii.gz").voxels
    assert not difference[: len(voxels) // 2].any()
    assert difference.any()

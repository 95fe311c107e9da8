"""`volseg predict` of a package with OpenVINO: without PyTorch and MONAI, and never by another network's weights."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest
from tiny_bundle import write_bundle, write_checkpoint

from volseg.deploy.pack import pack
from volseg.inference import array_predictor, installed
from volseg.inference.arrays.network import packed_network
from volseg.volume import Volume, read_volume, write_volume

pytestmark = pytest.mark.skipif(not installed(), reason="needs the package openvino")

HEAVY = ("torch", "monai", "ignite", "pandas", "transformers")
RUN = """
import json, sys
sys.argv = ["volseg", *json.load(sys.stdin)]
from volseg.cli import main
try:
    main()
finally:
    loaded = sorted({name.partition(".")[0] for name in sys.modules})
    print("LOADED", json.dumps(loaded))
"""


def volseg(*words, code=0):
    """Run the program; the packages that it loaded, and what it said."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    done = subprocess.run(
        [sys.executable, "-c", RUN],
        input=json.dumps([str(word) for word in words]),
        capture_output=True,
        text=True,
        env=environment,
        check=False,
    )
    assert done.returncode == code, done.stderr
    return set(json.loads(done.stdout.rpartition("LOADED ")[2])), done.stderr


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    folder = tmp_path_factory.mktemp("packed")
    write_bundle(folder / "bundle")
    checkpoint = write_checkpoint(folder / "model.pt", source={})
    voxels = np.random.default_rng(0).normal(500, 90, (40, 30, 22)).astype(np.int16)
    write_volume(folder / "images" / "case.nii.gz", Volume(voxels, np.diag([-1.5, 2.0, 3.0, 1.0])))
    return pack(folder / "bundle", checkpoint=checkpoint, output=folder / "package", formats=["openvino"])


def test_a_package_predicts_without_pytorch(package, tmp_path):
    image = package.parent / "images" / "case.nii.gz"
    words = ("predict", package, image, "--precision", "fp32", "-o", tmp_path / "out")
    loaded, _ = volseg(*words)
    assert not loaded & set(HEAVY), loaded
    plain = array_predictor([(str(package), None)], device="cpu", overrides={"precision": "fp32"})
    expected = plain.with_engine("torch").predict([image], key="case")
    found = read_volume(tmp_path / "out" / "case.nii.gz")
    assert (found.voxels == expected.label_map.voxels).mean() > 0.9995
    assert np.array_equal(found.affine_ras, expected.label_map.affine_ras)


@pytest.mark.parametrize("name", ["model.bin", "model.xml", "model.pt"])
def test_files_of_another_network_are_not_taken_for_packed(package, name):
    settings = array_predictor([(str(package), None)], device="cpu").settings
    assert packed_network(settings) is not None
    file = package / "models" / name
    content = file.read_bytes()
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        assert packed_network(settings) is None
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        (("nothing", "{image}"), "nothing is no bundle"),
        (("{bundle}", "{image}", "--checkpoint", "{folder}/absent.pt"), "there is no checkpoint"),
        (("{bundle}", "{image}", "--checkpoint", "{folder}/cut.pt"), "cannot be loaded: it is cut off"),
        (
            ("{bundle}", "{folder}/absent.nii.gz", "--checkpoint", "{folder}/model.pt"),
            "must be a file or a folder",
        ),
        (("{bundle}", "{image}", "--checkpoint", "{folder}/model.pt", "--engine", "fast"), "--engine must be one of"),
        (("{bundle}", "{image}", "--checkpoint", "{folder}/model.pt", "--device", "gpu 1"), "is no device"),
        (("{bundle}", "{image}", "--checkpoint", "{folder}/model.pt", "--keep-largest", "liver"), "names 'liver'"),
        (("{bundle}", "{image}", "--checkpoint", "{folder}/model.pt", "--memory", "much"), "--memory must be"),
        (("{bundle}", "{image}", "--checkpoint", "{folder}/model.pt", "--decision", "best"), "--decision must be"),
    ],
)
def test_what_is_wrong_is_told_before_pytorch_is_loaded(package, tmp_path, words, told):
    folder = package.parent
    (folder / "cut.pt").write_bytes((folder / "model.pt").read_bytes()[:-200])
    there = {"folder": folder, "bundle": folder / "bundle", "image": folder / "images" / "case.nii.gz"}
    given = [word.format(**there) for word in words]
    loaded, said = volseg("predict", *given, "-o", tmp_path / "out", code=2)
    assert told in said
    assert not loaded & {"torch", "monai"}


def test_openvino_is_imported_without_its_conversion_tools_and_keeps_them():
    code = """
import sys
from volseg.inference.engines import openvino_core
openvino_core()
import openvino
assert "openvino.tools.ovc" not in sys.modules and "torch" not in sys.modules
assert callable(openvino.convert_model)
import openvino.tools.ovc
assert callable(openvino.tools.ovc.convert_model)
"""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    subprocess.run([sys.executable, "-c", code], env=environment, check=True)

"""INT8 of a package: taken where it is that of these weights and does well here, refused where it is not there."""

from __future__ import annotations

import json
import shutil
from dataclasses import replace

import numpy as np
import pytest
from tiny_bundle import write_bundle, write_checkpoint

from volseg.deploy.pack import pack
from volseg.deploy.pack.file_digest import sha256
from volseg.errors import UsageError
from volseg.inference import Predictor, array_predictor, check_words, installed, instructions
from volseg.inference.arrays import packed
from volseg.volume import Volume, write_volume

pytestmark = pytest.mark.skipif(not installed(), reason="needs the package openvino")


@pytest.fixture(scope="module")
def package(tmp_path_factory):
    """A package whose `model_int8.xml` is another network, so that it can be told from `model.xml`."""
    folder = tmp_path_factory.mktemp("packed")
    write_bundle(folder / "bundle")
    made = pack(
        folder / "bundle", checkpoint=write_checkpoint(folder / "model.pt"), output=folder / "p", formats=["openvino"]
    )
    voxels = np.random.default_rng(0).normal(500, 90, (40, 30, 22)).astype(np.int16)
    write_volume(folder / "case.nii.gz", Volume(voxels, np.diag([-2.0, 2.0, 3.0, 1.0])))
    return made


@pytest.fixture(scope="module")
def with_int8(package):
    folder = package.parent / "int8"
    shutil.copytree(package, folder)
    for ending in ("xml", "bin"):
        shutil.copyfile(folder / "models" / f"model.{ending}", folder / "models" / f"model_int8.{ending}")
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    metadata["volseg"]["digests"] |= {f"models/{p.name}": sha256(p) for p in (folder / "models").iterdir()}
    metadata["volseg"]["int8"] = {"instructions": list(instructions())}
    path.write_text(json.dumps(metadata))
    return folder


def predictor(folder, precision, **more):
    return array_predictor([(str(folder), more.get("checkpoint"))], device="cpu", overrides={"precision": precision})


def test_int8_is_taken_where_it_was_measured_on_such_a_processor(with_int8):
    assert predictor(with_int8, "auto").with_engine("auto").engine.precision == "int8"
    assert predictor(with_int8, "int8").with_engine("openvino").engine.precision == "int8"
    for precision in ("fp32", "bf16"):
        assert predictor(with_int8, precision).with_engine("auto").engine.precision != "int8"


@pytest.mark.parametrize(
    ("stated", "like_this", "compared", "taken"),
    [
        ("fp32", True, False, "fp32"),
        ("bf16", True, False, "bf16 or fp32"),
        ("fp32", False, True, "bf16 or fp32"),
        (None, True, True, "bf16 or fp32"),
    ],
)
def test_auto_is_what_the_packing_found_on_such_a_processor(
    package, tmp_path, monkeypatch, stated, like_this, compared, taken
):
    folder = shutil.copytree(package, tmp_path / "package")
    path = folder / "configs" / "metadata.json"
    metadata = json.loads(path.read_text())
    assert metadata["volseg"]["auto_precision"]["instructions"] == list(instructions())
    metadata["volseg"]["auto_precision"]["precision"] = stated
    if stated is None:  # a package of before
        del metadata["volseg"]["auto_precision"]
    path.write_text(json.dumps(metadata))
    if not like_this:
        monkeypatch.setattr(packed, "instructions", lambda: ("another",))
    asked = []
    made = packed.PackedWindows
    monkeypatch.setattr(packed, "PackedWindows", lambda *a, **k: asked.append(k["precision"]) or made(*a, **k))
    assert predictor(folder, "auto").with_engine("auto").engine.precision in taken.split(" or ")
    assert asked == ["auto" if compared else stated]


@pytest.mark.parametrize(("seconds", "taken"), [((1.0, 0.5), "int8"), ((0.5, 1.0), "bf16 or fp32")])
def test_on_another_processor_a_trial_decides(with_int8, monkeypatch, seconds, taken):
    monkeypatch.setattr(packed, "instructions", lambda: ("another",))
    times = dict(zip(("other", "int8"), seconds, strict=True))
    monkeypatch.setattr(packed, "_seconds", lambda way, _: times["int8" if way.precision == "int8" else "other"])
    assert predictor(with_int8, "auto").with_engine("auto").engine.precision in taken.split(" or ")


def test_the_predictor_with_monai_takes_it_when_asked(with_int8):
    found = Predictor.from_bundle(with_int8, device="cpu", overrides={"precision": "int8"})
    assert (found.engine.name, found.engine.precision) == ("openvino", "int8")
    assert found.with_engine("auto").engine.precision == "int8"
    image = with_int8.parent / "case.nii.gz"
    lean = predictor(with_int8, "int8").with_engine("auto").predict([image], key="case")
    assert np.array_equal(found.predict([image], key="case").label_map.voxels, lean.label_map.voxels)


def test_int8_of_other_weights_is_refused(package, with_int8, tmp_path):
    with pytest.raises(UsageError, match="needs a package that holds INT8"):
        predictor(package, "int8")
    with pytest.raises(UsageError, match="a package's own network"):
        predictor(with_int8, "int8", checkpoint=package.parent / "model.pt")
    with pytest.raises(UsageError, match="needs a package that holds INT8"):
        Predictor.from_bundle(package, device="cpu", overrides={"precision": "int8"})


@pytest.mark.parametrize("name", ["model_int8.bin", "model_int8.xml", "model.pt"])
def test_a_changed_file_is_not_taken(with_int8, name):
    file = with_int8 / "models" / name
    content = file.read_bytes()
    settings = replace(predictor(with_int8, "auto").settings, precision="int8")
    try:
        file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
        with pytest.raises(UsageError, match="needs a package that holds INT8"):
            packed.need_int8(settings)
    finally:
        file.write_bytes(content)


@pytest.mark.parametrize(
    ("words", "told"),
    [
        ({"precision": "int8", "engine": "torch"}, "not of --engine torch"),
        ({"precision": "int8", "engine": "compiled"}, "not of --engine compiled"),
        ({"precision": "int8", "device": "cuda"}, "int8 runs on the CPU"),
        ({"precision": "int4"}, "--precision must be auto, fp32, bf16 or int8, got int4"),
    ],
)
def test_words_that_do_not_go_together(words, told, monkeypatch):
    with pytest.raises(UsageError, match=told):
        check_words(**words)


def test_instructions_are_told_once():
    assert len(set(instructions())) == len(instructions())

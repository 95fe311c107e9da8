"""The examples of docs/how-to/extend.md: a reader of a raw format, and the files of a network."""

from __future__ import annotations

import importlib.util
import json
import re
from pathlib import Path

import numpy as np
import pytest

from volseg.cohort import Cohort

ROOT = Path(__file__).resolve().parents[2]
PAGE = (ROOT / "docs" / "how-to" / "extend.md").read_text(encoding="utf-8")


def test_the_reader_writes_a_cohort(tmp_path, monkeypatch):
    (tmp_path / "raw").mkdir()
    label = np.zeros((6, 5, 4), np.uint8)
    label[1:3, 1:4, 1:3] = 1
    image = np.arange(120, dtype=np.int16).reshape(6, 5, 4)
    for number in range(5):
        np.savez(tmp_path / "raw" / f"p{number}.npz", image=image, label=label)
    (tmp_path / "raw" / "p5.npz").write_bytes(b"")
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL)
    found: dict[str, object] = {}
    exec(compile(lines, "extend.md", "exec"), found)
    cohort = Cohort.open(tmp_path / "cohort")
    assert sorted(cohort.keys) == [f"p{number}" for number in range(5)]
    assert list(found["result"].failed) == ["p5"]
    assert cohort.labels.names == ("organ",)


def test_the_files_of_a_network_make_a_bundle(tmp_path, monkeypatch):
    (text,) = re.findall(r"\n( {8}\{\n.*?\n {8}\})\n", PAGE, re.DOTALL)
    own = json.loads(text)
    base = ROOT / "bundles" / "_base"
    spec = importlib.util.spec_from_file_location("compose", base / "compose.py")
    compose = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(compose)
    (tmp_path / "networks").mkdir()
    (tmp_path / "template").symlink_to(base / "template")
    (tmp_path / "networks" / "segresnet.json").write_text(json.dumps(own))
    (tmp_path / "networks" / "segresnet.md").write_bytes((base / "networks" / "dense_unet.md").read_bytes())
    monkeypatch.setattr(compose, "HERE", tmp_path)
    files = compose.composed("segresnet")
    train = json.loads(files["train.json"])
    assert train["network_def"]["_target_"] == "SegResNet"
    assert train["settings"]["values"]["init_filters"] == "@init_filters"
    assert json.loads(files["inference.json"])["network_def"]["init_filters"] == "$@recipe.network['init_filters']"
    assert json.loads(files["metadata.json"])["name"] == "SegResNet for abdominal MR"
    del own["metadata.json"]["name"], own["metadata.json"]["network_data_format#inputs#image#spatial_shape"]
    (tmp_path / "networks" / "segresnet.json").write_text(json.dumps(own))
    with pytest.raises(SystemExit, match="must give name, network_data_format#inputs#image#spatial_shape of metadata"):
        compose.composed("segresnet")

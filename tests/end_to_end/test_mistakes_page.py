"""The page of mistakes tells the truth: each of its commands is run, in a folder made for it, and answers as it says.

`python tests/end_to_end/test_mistakes_page.py` runs all of them and writes their answers into the page.
"""

from __future__ import annotations

import contextlib
import io
import json
import logging
import os
import re
import shlex
import shutil
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from tiny_bundle import write_bundle, write_checkpoint

from volseg.cli import main
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

PAGE = Path(__file__).resolve().parents[2] / "docs" / "how-to" / "mistakes.md"
BLOCK = re.compile(r"```text\n\$ (volseg .*?)\n(.*?)\n```", re.DOTALL)
LABELS = LabelTable.overlapping(["large", "small"])
MOST = 360  # characters of an answer: two lines of a wide terminal
FEWEST = 30


def commands() -> list[tuple[str, str]]:
    """Each command of the page, and its answer there; … stands for a part that depends on the machine."""
    return BLOCK.findall(PAGE.read_text(encoding="utf-8"))


def make_folder(place: Path) -> Path:
    """The folder that the page speaks of."""
    data, affine = place / "data", np.diag([1.5, 1.5, 3.0, 1.0])
    generator = np.random.default_rng(0)
    keys = [f"case{number}_day0" for number in range(4)]
    for key in keys:
        image = generator.integers(0, 900, (20, 18, 10)).astype(np.uint16)
        label = np.zeros(image.shape, np.uint8)
        label[4:12, 4:12, 2:6] = 1
        write_volume(data / "cohort" / "imagesTr" / f"{key}_0000.nii.gz", Volume(image, affine))
        write_volume(data / "cohort" / "labelsTr" / f"{key}.nii.gz", Volume(label, affine))
        write_volume(data / "images" / f"{key}.nii.gz", Volume(image, affine))
    dataset = {"channel_names": {"0": "MR"}, **LABELS.to_dataset_json(), "numTraining": 4, "file_ending": ".nii.gz"}
    (data / "cohort" / "dataset.json").write_text(json.dumps(dataset))
    splits = [{"training": keys[:3], "validation": keys[3:]}]
    (data / "cohort" / "splits.json").write_text(json.dumps(splits))
    shutil.copytree(data / "cohort" / "labelsTr", data / "predictions")
    shutil.copy(data / "cohort" / "dataset.json", data / "predictions")
    shutil.copytree(data / "predictions", data / "other_regions")
    other = {**dataset, **LabelTable.exclusive(["liver", "spleen"]).to_dataset_json()}
    (data / "other_regions" / "dataset.json").write_text(json.dumps(other))
    shutil.copytree(data / "cohort", data / "leaking")
    (data / "leaking" / "splits.json").write_text(json.dumps([{"training": keys[:3], "validation": keys[2:]}]))
    (data / "empty").mkdir()
    (data / "notes.txt").write_text("not a cohort\n")
    for name in ("a1", "a2"):
        for folder, mode in (("images", "RGB"), ("masks", "L")):
            (data / "photos" / folder).mkdir(parents=True, exist_ok=True)
            Image.new(mode, (16, 16)).save(data / "photos" / folder / f"{name}.png")
    write_bundle(place / "bundles" / "mr_bowel")
    write_bundle(place / "bundles" / "other_net")
    for config in ("train.json", "inference.json"):
        path = place / "bundles" / "other_net" / config
        content = json.loads(path.read_text())
        content["network_def"]["channels"] = [24, 24]
        path.write_text(json.dumps(content))
    write_checkpoint(data / "model.pt", LABELS)
    (data / "cut.pt").write_bytes((data / "model.pt").read_bytes()[:3000])
    return place


def agrees(told: str, line: str) -> bool:
    """Whether an answer is that of the page."""
    return re.fullmatch(re.escape(line).replace("…", ".*"), told) is not None


def answer_of(command: str) -> tuple[int, str]:
    """Exit code of a command in this process, and what it says on the standard error."""
    out, root = io.StringIO(), logging.getLogger()
    before, level = root.handlers[:], root.level
    root.handlers = []
    code = 0
    try:
        with contextlib.redirect_stdout(io.StringIO()), contextlib.redirect_stderr(out):
            try:
                main(shlex.split(command)[1:])
            except SystemExit as stop:
                code = int(stop.code or 0)
    finally:
        root.handlers, root.level = before, level
    lines = [line for line in out.getvalue().splitlines() if not re.match(r"\d{4}-\d\d-\d\d ", line)]
    return code, "\n".join(lines).strip()


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    place, before = make_folder(tmp_path_factory.mktemp("mistakes")), Path.cwd()
    os.chdir(place)
    yield place
    os.chdir(before)


@pytest.mark.parametrize(("command", "line"), commands(), ids=[command[7:60] for command, _ in commands()])
def test_the_answer_is_that_of_the_page(folder: Path, command: str, line: str) -> None:
    before = sorted(folder.rglob("*"))
    code, told = answer_of(command)
    assert agrees(told, line), told
    assert code in (1, 2)
    assert sorted(folder.rglob("*")) == before, "nothing was written"


def test_the_page_has_thirty_mistakes_each_in_a_line_or_two() -> None:
    found = commands()
    assert len(found) >= FEWEST
    assert len({command for command, _ in found}) == len(found)
    for command, line in found:
        assert "Traceback" not in line
        assert "unexpected" not in line, command
        assert line.count("\n") <= 1, command
        assert len(line) <= MOST, command


def write() -> None:
    """Write the answers of today into the page."""
    with tempfile.TemporaryDirectory() as place:
        here = Path.cwd()
        os.chdir(make_folder(Path(place)))
        text = PAGE.read_text(encoding="utf-8")
        for command, line in commands():
            _, told = answer_of(command)
            if not agrees(told, line):
                sys.stdout.write(f"$ {command}\n- {line}\n+ {told}\n")
                text = text.replace(f"$ {command}\n{line}\n", f"$ {command}\n{told}\n")
        os.chdir(here)
    PAGE.write_text(text, encoding="utf-8")


if __name__ == "__main__":
    write()

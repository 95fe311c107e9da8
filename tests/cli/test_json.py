"""`--json`: one document on the standard output that has its schema, whatever happens; progress in lines elsewhere."""

from __future__ import annotations

import json
import shutil
import time
from importlib.resources import files
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from jsonschema import Draft202012Validator

from volseg.cli import bar, main
from volseg.cohort import Cohort
from volseg.volume import Volume, read_volume, write_volume

SCHEMA = json.loads(files("volseg.cli").joinpath("answer.schema.json").read_text())


def asked(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, dict[str, Any], str]:
    """Exit code, document and what stands on the standard error."""
    with pytest.raises(SystemExit) as stop:
        main([*map(str, words), "--json"])
    out, err = capsys.readouterr()
    document = json.loads(out)
    Draft202012Validator(SCHEMA).validate(document)
    assert document["exit_code"] == int(stop.value.code or 0)
    return document["exit_code"], document, err


@pytest.fixture
def changed_cohort(tiny_cohort: Path, tmp_path: Path) -> Path:
    """The tiny cohort, whose files may be replaced."""
    for folder in ("imagesTr", "labelsTr"):
        (tmp_path / "cohort" / folder).mkdir(parents=True)
        for file in (tiny_cohort / folder).iterdir():
            (tmp_path / "cohort" / folder / file.name).symlink_to(file)
    for name in ("dataset.json", "splits.json"):
        (tmp_path / "cohort" / name).write_text((tiny_cohort / name).read_text())
    return tmp_path / "cohort"


def test_check_says_what_it_found(capsys: pytest.CaptureFixture[str], tiny_cohort: Path) -> None:
    code, document, _ = asked(capsys, "check", tiny_cohort)
    assert (code, document["cases"], document["labelled"], document["folds"]) == (0, 5, 5, [[3, 2]])
    assert [(region["name"], region["cases"]) for region in document["regions"]] == [("large", 5), ("small", 5)]
    assert document["median_spacing_mm"] == [1.5, 1.5, 3.0]


def test_what_check_calls_wrong_makes_exit_code_1(capsys: pytest.CaptureFixture[str], changed_cohort: Path) -> None:
    keys = sorted(Cohort.open(changed_cohort).keys)
    path = changed_cohort / "splits.json"
    path.write_text(json.dumps([{"training": keys[:3], "validation": ["nobody"]}]))
    code, document, err = asked(capsys, "check", changed_cohort)
    assert code == 1
    assert "fold 0 of" in document["wrong"][0]
    assert f"failed  {document['wrong'][0]}" in err
    path.write_text(json.dumps([{"training": keys[:3], "validation": keys[2:]}]))
    assert "on both sides" in asked(capsys, "check", changed_cohort)[1]["wrong"][0]
    path.unlink()
    assert asked(capsys, "check", changed_cohort)[:1] == (0,), "as a raw folder of nnU-Net"
    label = changed_cohort / "labelsTr" / f"{keys[0]}.nii.gz"
    volume = read_volume(label)
    label.unlink()
    write_volume(label, Volume(np.full_like(volume.voxels, 77), volume.affine_ras))
    code, document, _ = asked(capsys, "check", changed_cohort)
    assert (code, list(document["failed"])) == (1, [keys[0]])


def test_a_cohort_without_labels_has_no_count_of_them(capsys: pytest.CaptureFixture[str], changed_cohort: Path) -> None:
    shutil.rmtree(changed_cohort / "labelsTr")
    (changed_cohort / "imagesTr").rename(changed_cohort / "imagesTs")
    (changed_cohort / "splits.json").unlink()
    with pytest.raises(SystemExit):
        main(["check", str(changed_cohort)])
    text = capsys.readouterr().out
    assert "large: no label to look at" in text
    assert "0 of 0" not in text


def test_evaluate_prints_its_summary(capsys: pytest.CaptureFixture[str], tiny_cohort: Path, tmp_path: Path) -> None:
    words = ("evaluate", tiny_cohort / "labelsTr", tiny_cohort, "-o", tmp_path / "report", "--no-html")
    code, document, _ = asked(capsys, *words)
    assert code == 0
    assert document["summary"] == json.loads((tmp_path / "report" / "summary.json").read_text())
    assert f"{tmp_path}/report/cases.csv" in document["files"]


@pytest.mark.parametrize(
    ("words", "line"),
    [
        ("check nowhere", "there is no folder nowhere"),
        ("check", "COHORT is missing"),
        ("evaluate a b -o c", "there is no folder b"),
        ("evaluate a b -o c --partt all", "evaluate has no option --partt; did you mean --part?"),
    ],
)
def test_a_refusal_is_a_document_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path, words: str, line: str
) -> None:
    monkeypatch.chdir(tmp_path)
    code, document, err = asked(capsys, *words.split())
    assert code == 2
    assert line in document["error"]
    assert err == f"volseg: {document['error']}\n"


def test_a_stop_is_a_document_too(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("volseg.cohort.Cohort.open", stop)
    assert asked(capsys, "check", tmp_path)[1]["error"] == "stopped; run again to go on"


def test_elsewhere_than_on_a_terminal_a_line_a_minute_is_told(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    with bar.bar("predict") as progress:
        progress(1, 4)
    assert capsys.readouterr() == ("", ""), "nothing of a short one"
    monkeypatch.setattr(bar, "_EVERY_S", 0.02)
    with bar.bar("predict") as progress:
        progress(1, 4)
        time.sleep(0.3)
    out, err = capsys.readouterr()
    assert out == ""
    assert err.splitlines()[0].startswith("predict: 1 of 4, 0:00 min elapsed")
    assert len(err.splitlines()) >= 2

"""`volseg calibrate` and everything that reads its file: predict, evaluate, quality, export, pack, demo."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from command import told
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.bundle import weights_digest
from volseg.calibration import read_calibration
from volseg.cohort import CaseRow, read_bounds, write_splits
from volseg.cohort.folds import Fold
from volseg.inference import Predictor, load_predictor
from volseg.metrics import Scaling, decide_some_by_dice
from volseg.volume import Volume, read_probabilities, read_volume, write_volume

SHAPE = (24, 20, 12)
AFFINE = np.diag([-2.0, 2.0, 3.0, 1.0])
PATIENTS = 9


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a run and its cohort, whose references are the network's predictions moved by a voxel now and then."""
    folder = tmp_path_factory.mktemp("calibrate")
    write_bundle(folder / "bundle")
    model = write_checkpoint(folder / "run" / "model.pt", source={}, fold=0)
    predictor = Predictor.from_bundle(folder / "bundle", checkpoint=model, overrides={"precision": "fp32"})
    rows = []
    for number in range(PATIENTS + 2):
        draw = np.random.default_rng(number)
        key = f"p{number:02d}_day0"
        image = (500 + 100 * np.kron(draw.normal(0, 1, (6, 5, 3)), np.ones((4, 4, 4)))).astype(np.int16)
        path = folder / "cohort" / "imagesTr" / f"{key}_0000.nii.gz"
        write_volume(path, Volume(image, AFFINE))
        label = predictor.predict([path], key=key).label_map.voxels
        moved = np.roll(label, int(draw.integers(0, 2)), axis=int(draw.integers(0, 3)))
        write_volume(folder / "cohort" / "labelsTr" / f"{key}.nii.gz", Volume(moved, AFFINE))
        rows.append(CaseRow(key, f"p{number:02d}", "day0", SHAPE, (2.0, 2.0, 3.0), "LAS", "test", ()))
    dataset = {"channel_names": {"0": "MR"}, **LABELS.to_dataset_json(), "numTraining": len(rows)}
    (folder / "cohort" / "dataset.json").write_text(json.dumps({**dataset, "file_ending": ".nii.gz"}))
    keys = [row.key for row in rows]
    write_splits(folder / "cohort", [Fold(tuple(keys[PATIENTS:]), tuple(keys[:PATIENTS]))])
    return folder


@pytest.fixture(scope="module")
def calibrated(place: Path) -> Path:
    """The file that the command writes beside the checkpoint."""
    from volseg.cli import main

    with pytest.raises(SystemExit) as stop:
        main(["calibrate", str(place / "run"), str(place / "cohort"), "--bundle", str(place / "bundle")])
    assert not stop.value.code
    return place / "run" / "calibration.json"


def test_predictions_come_with_bounds_that_every_reader_shows(
    capsys: pytest.CaptureFixture[str], place: Path, calibrated: Path, tmp_path: Path
) -> None:
    calibration = read_calibration(calibrated)
    assert calibration.networks == (weights_digest(place / "run" / "model.pt"),)
    assert calibration.patients == PATIENTS
    words = [place / "bundle", place / "cohort", "--checkpoint", place / "run", "--engine", "torch", "--no-skip-empty"]
    code, text = told(capsys, "predict", *words, "-o", tmp_path / "out", "--part", "validation")
    assert code == 0, text
    bounds = read_bounds(tmp_path / "out")
    assert len(bounds) == PATIENTS
    assert sum(not one.withheld for case in bounds.values() for one in case.values()) > 2 * PATIENTS
    levels = {one.level for case in bounds.values() for one in case.values() if not one.withheld}
    assert levels == {0.9}
    code, text = told(capsys, "evaluate", tmp_path / "out", place / "cohort", "-o", tmp_path / "report")
    assert code == 0, text
    assert text.count("promise  ") == 3
    assert "BROKEN" not in text
    page = (tmp_path / "report" / "report.html").read_text()
    assert 'id="promises"' in page
    assert "Risk against coverage" in page
    assert "## Promises" in (tmp_path / "report" / "report.md").read_text()
    summary = json.loads((tmp_path / "report" / "summary.json").read_text())
    assert [one["region"] for one in summary["promises"]] == list(LABELS.names)
    code, text = told(capsys, "quality", tmp_path / "out", "-o", tmp_path / "quality")
    assert code == 0, text
    ranked = json.loads((tmp_path / "quality" / "quality.json").read_text())["ranked"]
    order = [one["bound"] for one in ranked if not one["alarm"] and one["bound"] is not None]
    assert order == sorted(order)
    code, text = told(capsys, "export", "slicer", tmp_path / "out", "-o", tmp_path / "slicer", "--margin")
    assert code == 0, text
    assert b"Name:=MARGIN 90% of stomach (not the organ)" in (tmp_path / "slicer" / "p00_day0.seg.nrrd").read_bytes()


def test_what_was_predicted_otherwise_gets_the_reason_and_no_bound(
    capsys: pytest.CaptureFixture[str], place: Path, calibrated: Path, tmp_path: Path
) -> None:
    assert calibrated.is_file()
    image = place / "cohort" / "imagesTr" / "p00_day0_0000.nii.gz"
    words = ["predict", place / "bundle", image, "--checkpoint", place / "run", "--engine", "torch"]
    for name, more in (
        ("mirror images", ["--flips", "0"]),
        ("cleanup", ["--keep-largest", "stomach"]),
        ("overlap", ["--overlap", "0.25"]),
    ):
        code, text = told(capsys, *words, *more, "-o", tmp_path / name)
        assert code == 0, text
        (case,) = read_bounds(tmp_path / name).values()
        assert all(name in one.not_comparable and one.dice_at_least is None for one in case.values())
    code, text = told(capsys, "export", "slicer", tmp_path / "overlap", "--margin")
    assert (code, "every margin in" in text, "is withheld, that of p00_day0 since " in text) == (2, True, True), text
    code, text = told(capsys, *words, "--no-calibration", "-o", tmp_path / "without")
    assert (code, read_bounds(tmp_path / "without")) == (0, {})
    code, text = told(capsys, "export", "slicer", tmp_path / "without", "--margin")
    assert (code, "has no margins" in text) == (2, True)


def test_predictions_that_a_user_names_say_how_they_were_made(
    place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    bundle, cohort = ("--bundle", place / "bundle"), place / "cohort"
    made = ("--part", "validation", "--flips", 0, "--overlap", 0.25, "--save-probabilities", "--no-calibration")
    words = ("--checkpoint", place / "run" / "model.pt", "--device", "cpu", "--engine", "torch")
    code, text = told(capsys, "predict", place / "bundle", cohort, "-o", tmp_path / "held", *made, *words)
    assert code == 0, text
    code, text = told(
        capsys,
        *("calibrate", place / "run", cohort, *bundle, "--predictions", tmp_path / "held", "-o", tmp_path / "c.json"),
    )
    assert code == 0, text
    assert read_calibration(tmp_path / "c.json").options == {"overlap": 0.25, "flips": [0], "cleanup": {}}


def test_a_run_of_all_cases_holds_none_out(place: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_checkpoint(tmp_path / "run" / "model.pt", source={}, fold="all")
    code, text = told(capsys, "calibrate", tmp_path / "run", place / "cohort", "--bundle", place / "bundle")
    assert code == 2
    assert "was trained on every case (--fold all), so none is held out; calibrate the run of a fold" in text


def test_the_calibration_of_other_weights_is_refused(place: Path, calibrated: Path, tmp_path: Path) -> None:
    state = torch.load(place / "run" / "model.pt", weights_only=True)
    first = next(iter(state["model"]))
    state["model"][first] = state["model"][first] + 1
    torch.save(state, tmp_path / "model.pt")
    (tmp_path / "calibration.json").write_text(calibrated.read_text())
    member = (str(place / "bundle"), tmp_path / "model.pt")
    with pytest.raises(Exception, match="another network"):
        load_predictor([member])
    assert load_predictor([member], calibrated=False).calibration is None


def test_auto_decides_the_regions_that_gain_by_their_dice_and_leaves_the_others(
    place: Path, calibrated: Path, tmp_path: Path
) -> None:
    content = json.loads(calibrated.read_text())
    content["regions"]["stomach"] |= {"scaling": {"temperature": 1.5, "shift": -0.5}, "decision": {"rule": "dice"}}
    checkpoint = tmp_path / "model.pt"
    checkpoint.write_bytes((place / "run" / "model.pt").read_bytes())
    (tmp_path / "calibration.json").write_text(json.dumps(content))
    image = place / "cohort" / "imagesTr" / "p00_day0_0000.nii.gz"
    settings = {"precision": "fp32", "save_probabilities": True}
    got = load_predictor([(str(place / "bundle"), checkpoint)], overrides=settings).predict([image], key="p00")
    assert got.probabilities is not None
    plain = LABELS.masks(LABELS.decide(got.probabilities))
    expected = decide_some_by_dice(got.probabilities, plain, [None, None, Scaling(1.5, -0.5)], exclusive=False)
    assert np.array_equal(got.label_map.voxels, LABELS.encode(expected))
    assert not np.array_equal(expected[2], plain[2])
    assert np.array_equal(expected[:2], plain[:2])
    named = {**settings, "decision": "threshold"}
    other = load_predictor([(str(place / "bundle"), checkpoint)], overrides=named).predict([image], key="p00")
    assert np.array_equal(other.label_map.voxels, LABELS.encode(plain))
    assert all("decision" in one.not_comparable for one in other.bounds.values())


def test_a_package_takes_the_calibration_along(place: Path, calibrated: Path, tmp_path: Path) -> None:
    from volseg.deploy.pack import pack

    packed = pack(place / "bundle", checkpoint=place / "run" / "model.pt", output=tmp_path / "package")
    assert read_calibration(packed / "models" / "calibration.json") == read_calibration(calibrated)
    image = place / "cohort" / "imagesTr" / "p00_day0_0000.nii.gz"
    bounds = [
        load_predictor([member]).predict([image], key="p00").bounds
        for member in ((str(packed), None), (str(place / "bundle"), place / "run" / "model.pt"))
    ]
    assert bounds[0] == bounds[1]
    assert bounds[0]


def test_probabilities_are_read_as_they_were_written(place: Path, calibrated: Path) -> None:
    assert calibrated.is_file()
    folder = place / "run" / "calibration"
    probabilities = read_probabilities(folder / "probabilities" / "p00_day0.nii.gz")
    label_map = LABELS.encode(probabilities > 0.5)
    assert (label_map == read_volume(folder / "p00_day0.nii.gz").voxels).mean() > 0.999

"""`volseg predict --adapted`: each patient by the network of his earlier days, loaded in its turn."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from command import told
from tiny_bundle import ROI, network, write_bundle
from treatment_days import write_days

from volseg.bundle import Recipe
from volseg.cohort import Adaptation, adaptations_of
from volseg.inference import AnyPredictor
from volseg.jobs import Predicting
from volseg.labels import LabelTable


def write_network(path: Path, labels: LabelTable, **facts: object) -> None:
    recipe = Recipe(labels, ["MR"], [4, 4, 4], list(ROI), {}, {"source": {}, **facts}, [{"scheme": "mr"}])
    path.parent.mkdir(parents=True, exist_ok=True)
    torch.save({"model": network(labels).state_dict(), "recipe": recipe.state_dict()}, path)


def write_adapted(run: Path, labels: LabelTable, patient: str) -> None:
    """A network adapted to the first day of a patient, as `volseg adapt` leaves it."""
    seen = Adaptation(patient, ("day0",), (f"{patient}_day0",)).to_json()
    path = run / "adapted" / patient / "after_day0.pt"
    write_network(path, labels, adapted=seen)
    path.with_suffix(".json").write_text(json.dumps(seen))


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, a cohort of three patients, and a run with networks for two of them."""
    folder = tmp_path_factory.mktemp("adapted")
    write_bundle(folder / "bundle")
    cohort = write_days(folder / "cohort", patients=("a", "b", "c"), days=("day0", "day9"))
    write_network(folder / "run" / "model.pt", cohort.labels)
    for patient in ("a", "b"):
        write_adapted(folder / "run", cohort.labels, patient)
    return folder


def predict(capsys: pytest.CaptureFixture[str], place: Path, output: Path, *more: str | Path) -> tuple[int, str]:
    words = ("--checkpoint", place / "run" / "model.pt", "-o", output, "--device", "cpu", "--engine", "torch", *more)
    return told(capsys, "predict", place / "bundle", place / "cohort", *words)


def test_networks_are_loaded_in_their_turn(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch, place: Path, tmp_path: Path
) -> None:
    """Those of all patients were in memory before the first case: 100 networks of 120 MB."""
    at_load: list[int] = []
    load = Predicting.load

    def counted(self: Predicting, device: str | None, *, flips: str | None = None) -> AnyPredictor:
        at_load.append(len(list(tmp_path.glob("out/*.nii.gz"))))
        return load(self, device, flips=flips)

    monkeypatch.setattr(Predicting, "load", counted)
    code, text = predict(capsys, place, tmp_path / "out", "--adapted", place / "run")
    assert code == 0, text
    assert "6 predicted" in text
    assert at_load == [0, 4, 5]
    seen = [(one.patient, one.cases) for one in adaptations_of(tmp_path / "out")]
    assert seen == [("a", ("a_day9",)), ("b", ("b_day9",))]


def test_shards_load_the_networks_of_their_own_cases_and_tell_of_all(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    for number in range(3):
        code, text = predict(capsys, place, tmp_path / "out", "--adapted", place / "run", "--shard", f"{number}/3")
        assert code == 0, text
        assert len(adaptations_of(tmp_path / "out")) == 2
    assert len(list(tmp_path.glob("out/*.nii.gz"))) == 6
    assert "0 predicted, 6 finished before" in predict(capsys, place, tmp_path / "out", "--adapted", place / "run")[1]


def test_networks_for_other_regions_are_refused(
    capsys: pytest.CaptureFixture[str], place: Path, tmp_path: Path
) -> None:
    """Their label maps lay beside a `dataset.json` that named other regions."""
    write_adapted(tmp_path / "other", LabelTable.of({"liver": 1}), "a")
    code, text = predict(capsys, place, tmp_path / "out", "--adapted", tmp_path / "other")
    assert code == 2
    assert "--adapted must hold networks for ball, as the named one, got" in text
    assert not (tmp_path / "out").exists()

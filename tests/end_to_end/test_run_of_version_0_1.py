"""A run folder of version 0.1, written before the rooms moved: its network predicts, its training goes on, it animates.

`run_of_version_0_1.zip` holds a cohort of five phantoms and the folder of a training of the bundle dense_unet that was
killed after 2 of 4 epochs, by the last commit before the house (volseg 0.1.0, torch 2.13.0, MONAI 1.6.1). The numbers
below are what that version itself predicted, and what it trained when it went on.
"""

from __future__ import annotations

import json
import warnings
import zipfile
from pathlib import Path
from typing import Any

import monai.transforms as mt
import numpy as np
import pytest
from monai.bundle import ConfigParser
from monai.utils import set_determinism
from shipped_bundles import BUNDLES
from typer.testing import CliRunner

from volseg.cli import app
from volseg.inference import Predictor
from volseg.training import train

VOXELS = [4909, 2609, 20293, 989]  # of each value in the prediction of case3_day0
HISTORY = [(1.669182, 0.341848), (1.650395, 0.359225), (1.588375, 0.37012), (1.544214, 0.373424)]  # loss and Dice
COMMAND = {
    **{"device": "cpu", "precision": "fp32", "max_epochs": 4, "val_interval": 1, "crops_per_case": 1, "batch_size": 3},
    **{"growth_rate": 2, "roi_size": [32, 32, 16]},
}


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """The folder with `cohort` and `run`, whose files name it as a user's would."""
    with zipfile.ZipFile(Path(__file__).with_suffix("").with_name("run_of_version_0_1.zip")) as archive:
        archive.extractall(tmp_path)
    for path in (tmp_path / "run").glob("*.json"):
        path.write_text(path.read_text().replace("/PLACE", str(tmp_path)).replace("/CHECKOUT", str(BUNDLES.parent)))
    return tmp_path


@pytest.fixture
def augmentation_of_then(monkeypatch: pytest.MonkeyPatch) -> None:
    """What was mended since: MONAI's low resolution moves an image against its label, its turns in voxels shear it."""
    monkeypatch.setattr("volseg.transforms.window_affine._in_voxels", lambda affine, _: affine)
    of_now = mt.RandSimulateLowResolutiond

    def of_then(keys: str, *, downsample_mode: str, **given: Any) -> Any:
        assert downsample_mode == "area"
        return of_now(keys, **given)

    monkeypatch.setattr(mt, "RandSimulateLowResolutiond", of_then)


def check_history(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "run.json").read_text())
    assert [row["epoch"] for row in content["history"]] == [1, 2, 3, 4]
    assert [(row["loss"], row["dice"]) for row in content["history"]] == [
        (pytest.approx(loss, abs=1e-3), pytest.approx(dice, abs=2e-3)) for loss, dice in HISTORY
    ]
    assert (content["status"], [one["status"] for one in content["sessions"]]) == ("finished", ["killed", "finished"])
    return content


def test_its_checkpoint_predicts(place: Path) -> None:
    predictor = Predictor.from_bundle(BUNDLES / "dense_unet", checkpoint=place / "run" / "model.pt", device="cpu")
    image = place / "cohort" / "imagesTr" / "case3_day0_0000.nii.gz"
    voxels = predictor.predict([image], key="case3_day0").label_map.voxels
    assert np.bincount(voxels.ravel()) == pytest.approx(VOXELS, abs=10)


def test_it_animates(place: Path) -> None:
    done = CliRunner().invoke(app, ["animate", str(place / "run"), "-o", str(place / "run.gif")])
    assert (done.exit_code, "2 pictures" in done.output) == (0, True), done.output
    assert (place / "run.gif").stat().st_size > 10_000


@pytest.mark.usefixtures("augmentation_of_then")
def test_it_goes_on_by_the_command_that_began_it(place: Path) -> None:
    """With the intensities of then, which the refusal of a bundle that fits them to the modality names."""
    settings = {"dataset_dir": str(place / "cohort"), "output_dir": str(place / "run"), **COMMAND, "resume": True}
    settings["normalisation"] = "percentiles"
    try:
        train(BUNDLES / "dense_unet", overrides=settings)
    finally:
        set_determinism(None)
    content = check_history(place / "run")
    assert content["settings"]["given"].keys() == {"dataset_dir", "output_dir", "resume", "normalisation", *COMMAND}


@pytest.mark.usefixtures("augmentation_of_then")
def test_it_goes_on_by_its_own_train_json(place: Path) -> None:
    """As `python -m monai.bundle run training --config_file RUN/train.json --resume true` builds it."""
    parser = ConfigParser()
    parser.read_config(str(place / "run" / "train.json"))
    parser.update({"resume": "true"})
    try:
        with warnings.catch_warnings(record=True) as told:
            warnings.simplefilter("always")
            for part in ("initialize", "training"):
                parser.get_parsed_content(part)
    finally:
        set_determinism(None)
    assert [str(one.message) for one in told if "hands no settings to its record" in str(one.message)]
    content = check_history(place / "run")
    assert content["settings"]["values"].items() >= {"growth_rate": 2, "max_epochs": 4, "resume": "true"}.items()

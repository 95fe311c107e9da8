"""A calibration beside a checkpoint holds for predictions that are made as the calibrated ones, whoever makes them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tiny_bundle import LABELS, write_bundle, write_checkpoint

from volseg.bundle import read_recipe, weights_digest
from volseg.calibration import CALIBRATION, fit_calibration
from volseg.inference import Predictor, load_predictor, with_own_calibration

KEPT = {"keep_largest": ["stomach"]}


@pytest.fixture(scope="module")
def files(tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("files")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "run" / "model.pt")
    return folder


def calibrated(files: Path, **options: object) -> Path:
    """The checkpoint, with a calibration of predictions with these options beside it."""
    checkpoint = files / "run" / "model.pt"
    recipe = read_recipe(checkpoint)
    fit_calibration(
        [],
        LABELS.names,
        networks=(weights_digest(checkpoint),),
        plans=(recipe.plan_digest,),
        labels=recipe.labels.digest,
        options=options,
    ).save(checkpoint.with_name(CALIBRATION))
    return checkpoint


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"overlap": 0.5, "cleanup": {}}, ""),
        ({"overlap": 0.75, "cleanup": {}}, "predicted with overlap 0.5, calibrated with 0.75"),
        ({"overlap": 0.5, "cleanup": KEPT}, f"predicted with cleanup nothing, calibrated with {KEPT}"),
    ],
)
def test_steps_of_the_bundle_itself_are_compared(files, options, reason):
    """`volseg demo` and `volseg serve` state no overlap; that of the calibration was taken for that of the bundle."""
    checkpoint = calibrated(files, **options)
    loaded = Predictor.from_bundle(files / "bundle", checkpoint=checkpoint, device="cpu")
    assert with_own_calibration(loaded).apart == reason
    served = load_predictor([(str(files / "bundle"), checkpoint)], device="cpu")
    assert served.apart == reason
    named = load_predictor([(str(files / "bundle"), checkpoint)], device="cpu", overrides=options)
    assert named.apart == ""


def test_a_bundle_with_a_clean_up_of_its_own_is_known_by_it(files, tmp_path):
    """Its predictions are as the calibrated ones, and had no bounds."""
    bundle = write_bundle(tmp_path / "bundle")
    content = json.loads((bundle / "inference.json").read_text())
    content |= {"cleanup": KEPT, "overlap": 0.25}
    (bundle / "inference.json").write_text(json.dumps(content))
    checkpoint = calibrated(files, overlap=0.25, cleanup=KEPT)
    assert load_predictor([(str(bundle), checkpoint)], device="cpu").apart == ""

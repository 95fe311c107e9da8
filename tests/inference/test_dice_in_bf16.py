"""What `--precision auto` of PyTorch costs in Dice on a CPU that multiplies bfloat16, with the packaged networks.

Both networks have seen cases of these kinds, which does not matter here: the comparison is of two precisions.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from volseg.datasets import phantom_case
from volseg.deploy.pack.paired import CASE_FALL, MEAN_FALL
from volseg.inference import array_predictor
from volseg.metrics import dice
from volseg.volume import Volume, read_volume

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"


def hippocampus(raw: Path) -> Iterator[tuple[Volume, Volume]]:
    """Every fifth of the 200 volumes."""
    for path in sorted((raw / "imagesTr").glob("h*.nii.gz"))[::5]:
        yield read_volume(path), read_volume(raw / "labelsTr" / path.name)


def phantom() -> Iterator[tuple[Volume, Volume]]:
    """Three days of three patients that no network was trained on."""
    for patient in (201, 202, 203):
        for day in range(3):
            case = phantom_case(patient=patient, day=day)
            assert case.label is not None
            yield case.channels[0], case.label


@pytest.mark.slow
@pytest.mark.parametrize(("name", "count", "least"), [("hippocampus", 40, 0.85), ("phantom", 9, 0.7)])
def test_dice_is_that_of_single_precision(request: pytest.FixtureRequest, name: str, count: int, least: float) -> None:
    bundle = str(BUNDLES / name)
    ways: list[Any] = []
    for precision in ("fp32", "auto"):
        made = array_predictor([(bundle, None)], device="cpu", overrides={"precision": precision})
        assert made is not None
        ways.append(made.with_engine("torch"))
    if ways[1].engine.precision != "bf16":
        pytest.skip("this CPU computes in single precision where none is named")
    cases = phantom()
    if name == "hippocampus":
        cases = hippocampus(request.getfixturevalue("shared_data") / "Task04_Hippocampus")
    rows = []
    for image, reference in cases:
        truth = ways[0].recipe.labels.masks(reference.voxels)
        maps = [way.predict([image], key="case").label_map.voxels for way in ways]
        rows.append(
            [
                [dice(m, t) for m, t in zip(way.recipe.labels.masks(v), truth, strict=True)]
                for way, v in zip(ways, maps, strict=True)
            ]
        )
    found = np.nan_to_num(np.array(rows), nan=1.0)  # (cases, 2, regions); absent and not found is right
    assert len(found) == count
    assert found[:, 0].mean() > least
    change = (found[:, 1] - found[:, 0]).mean(axis=1)
    assert abs(change.mean()) <= MEAN_FALL
    assert np.abs(change).max() <= CASE_FALL
    assert not ((found[:, 0] > 0) & (found[:, 1] == 0)).any(), "a region is lost"
    print(f"{name}: {count} cases, {found[:, 0].mean():.4f} {change.mean():+.5f}, largest {np.abs(change).max():.5f}")  # noqa: T201

"""The first step of two: words to options, label maps to what is seen and kept."""

from __future__ import annotations

import json
import re
from pathlib import Path

import numpy as np
import pytest

from volseg.cohort import Cohort
from volseg.errors import BundleError, CheckpointError, LabelError, UsageError
from volseg.inference import RegionOfInterest
from volseg.labels import LabelTable
from volseg.volume import Crop, Volume

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "unet"
LUNGS = LabelTable.exclusive(["left", "right"])


def label_map(values: list[int]) -> Volume:
    """A line of voxels, 2 mm apart."""
    return Volume(np.array(values, np.uint8).reshape(-1, 1, 1), np.diag([2.0, 1.0, 1.0, 1.0]))


def folder_of(place: Path, labels: LabelTable = LUNGS) -> Path:
    place.mkdir()
    (place / "dataset.json").write_text(json.dumps(labels.to_dataset_json()))
    return place


def test_words_name_a_bundle_or_label_maps(tmp_path: Path, tiny_cohort: Path) -> None:
    (tmp_path / "runs/fold0").mkdir(parents=True)
    (tmp_path / "runs/fold1").mkdir()
    for fold in range(2):
        (tmp_path / f"runs/fold{fold}/model.pt").touch()
    step = RegionOfInterest.parse(f"{BUNDLE}={tmp_path / 'runs'}")
    assert step.members == tuple((str(BUNDLE), tmp_path / f"runs/fold{fold}/model.pt") for fold in range(2))
    assert (step.folder, step.labels, step.path("a")) == (None, None, None)
    assert RegionOfInterest.parse(str(BUNDLE)).members == ((str(BUNDLE), None),)

    maps = folder_of(tmp_path / "maps")
    step = RegionOfInterest.parse(str(maps), regions=["left, right"])
    assert (step.members, step.regions) == ((), ("left", "right"))
    assert step.path("a") == maps / "a.nii.gz"
    assert step.labels is not None
    assert step.labels.digest == LUNGS.digest
    cohort = RegionOfInterest.parse(str(tiny_cohort), regions=["small"])
    key = next(iter(Cohort.open(tiny_cohort).rows))
    path = cohort.path(key)
    assert path is not None
    assert path.is_file(), "the references of a cohort"


def test_wrong_words_are_told(tmp_path: Path) -> None:
    maps = folder_of(tmp_path / "maps")
    (tmp_path / "empty").mkdir()
    for word, options, error, reason in (
        (str(maps), {"regions": ["kidney"]}, UsageError, "--region must be one that the first step finds (left, r"),
        (str(maps), {"outside": "mask"}, UsageError, "--outside must be keep or erase, got mask"),
        (str(maps), {"absent": "ignore"}, UsageError, "--absent must be fail or empty, got ignore"),
        (
            str(maps),
            {"margin_mm": float("nan")},
            UsageError,
            "--margin-mm must be at least 0 mm and below 10,000 mm, got nan",
        ),
        (str(maps), {"margin_mm": -1.0}, UsageError, "--margin-mm must be at least 0 mm and below 10,000 mm, got -1"),
        (str(maps), {"margin_mm": 1e5}, UsageError, "--margin-mm must be at least 0 mm and below 10,000 mm, got 1"),
        (str(tmp_path / "empty"), {}, UsageError, "must be a bundle, or a folder of label maps"),
        ("no_such", {}, BundleError, "--within no_such: no_such is no bundle"),
        (f"{BUNDLE}={tmp_path / 'no.pt'}", {}, CheckpointError, "there is no checkpoint"),
    ):
        with pytest.raises(error, match=re.escape(reason)):
            RegionOfInterest.parse(word, **options)
    step = RegionOfInterest.parse(str(maps))
    with pytest.raises(UsageError, match="must be another folder than that of the label maps of --within"):
        step.check_output(tmp_path / "empty" / ".." / "maps")
    step.check_output(tmp_path / "out")


def test_the_region_is_the_union_of_those_that_are_named() -> None:
    values = [0, 1, 0, 0, 2, 0, 0]
    for regions, box in (((), (1, 5)), (("left",), (1, 2)), (("right",), (4, 5)), (("right", "left"), (1, 5))):
        found = RegionOfInterest(regions=regions, margin_mm=0).crop(label_map(values), LUNGS)
        assert found is not None
        crop, sight = found
        assert crop == Crop((box[0], 0, 0), (box[1], 1, 1), (7, 1, 1))
        chosen = [LUNGS.names.index(name) + 1 for name in regions or LUNGS.names]
        assert np.array_equal(sight.kept, np.isin(label_map(values).voxels, chosen)[crop.box])
    overlapping = LabelTable.overlapping(["a", "b"])
    found = RegionOfInterest(regions=("b",), margin_mm=0).crop(label_map([0, 1, 2, 3]), overlapping)
    assert found is not None
    assert found[0].starts == (2, 0, 0)
    assert RegionOfInterest(regions=("left",)).crop(label_map([0, 2, 2]), LUNGS) is None
    with pytest.raises(LabelError, match="holds 3"):
        RegionOfInterest().crop(label_map([0, 3]), LUNGS)
    with pytest.raises(UsageError, match="--region must be one that the first step finds"):
        RegionOfInterest(regions=("kidney",)).crop(label_map([1]), LUNGS)


@pytest.mark.parametrize(
    ("options", "seen", "kept"),
    [
        ({}, "1111111", "0001000"),
        ({"outside": "erase"}, "0011100", "0001000"),
        ({"keep_margin": True}, "1111111", "0011100"),
        ({"outside": "erase", "keep_margin": True}, "0011100", "0011100"),
    ],
)
def test_what_is_seen_and_what_is_kept(options: dict[str, object], seen: str, kept: str) -> None:
    """Along the line the box is that of another voxel, off the line."""
    voxels = np.zeros((7, 7, 1), np.uint8)
    voxels[3, 1, 0] = 1
    step = RegionOfInterest(margin_mm=2, **options)  # type: ignore[arg-type]
    found = step.crop(Volume(voxels, np.diag([2.0, 2.0, 1.0, 1.0])), LabelTable.exclusive(["a"]))
    assert found is not None
    crop, sight = found
    image = Volume(np.arange(100, 149, dtype=np.int16).reshape(7, 7, 1), np.eye(4))
    part = crop.cut(image)
    shown = sight.of(part)
    assert shown.voxels.dtype == np.int16
    erased = shown.voxels != part.voxels
    assert (shown.voxels[erased] == part.voxels.min()).all()
    lines = {}
    for name, mask, outside in (("seen", ~erased, seen[0]), ("kept", sight.kept, "0")):
        whole = crop.paste(mask, outside=outside == "1")
        lines[name] = "".join("1" if value else "0" for value in whole[:, 1, 0])
    assert lines == {"seen": seen, "kept": kept}

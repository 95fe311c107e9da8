"""The normalisation chosen for a cohort, its constants, and its way through recipe and checkpoint."""

from __future__ import annotations

import json

import numpy as np
import pytest

from volseg.bundle import Recipe, asked_schemes, fit_normalisation
from volseg.cohort import Cohort
from volseg.errors import CheckpointError, UsageError
from volseg.labels import LabelTable
from volseg.volume import Volume, scheme_of_channel, write_volume

SHAPE = (16, 14, 12)
ENTRIES = [{"scheme": "ct", "lower": -57.0, "upper": 164.0, "mean": 90.5, "std": 39.25}, {"scheme": "mr"}]
LABELS = LabelTable.exclusive(["organ"])


@pytest.mark.parametrize(
    ("names", "scheme"),
    [
        ("CT ct CTA CT_portal ct-venous HU CBCT NCCT", "ct"),
        ("PET PT SUV FDG-PET pet_suv SUVbw ADC adc_map T1map CBF dose", "pet"),
        ("R G B red green blue RGB rgb_to_0_1", "rgb"),
        ("noNorm none", "none"),
        ("MR mr", "mr"),
        ("zscore zScore", "zscore"),
        ("rescale_to_0_1", "rescale_to_0_1"),
        ("MRI T1 T1w T2 FLAIR t1gd DWI grey image channel_0 US DX octane packet petal direct R2 B1000 dosed", None),
    ],
)
def test_the_words_of_channel_names(names, scheme):
    assert {name: scheme_of_channel(name) for name in names.split()} == dict.fromkeys(names.split(), scheme)


def images(rng):
    ct = rng.normal(-80, 400, SHAPE).round().astype(np.int16)
    pet = rng.gamma(2, 0.5, SHAPE).astype(np.float32)
    return [ct, rng.normal(300, 30, SHAPE).astype(np.float32), pet]


def cohort_of(folder, *, channels=("CT", "MR", "PET"), change=None, label=None, cases=6):
    found = {}
    for number, key in enumerate("abcdefghij"[:cases]):
        rng = np.random.default_rng(number)
        mask = np.zeros(SHAPE, np.uint8)
        mask[2 : 5 + number, 3:9, 2:10] = 1
        mask = mask if label is None else label(key, mask)
        voxels = images(rng)[: len(channels)]
        voxels[0] = np.where(mask > 0, rng.normal(60 + number, 20, SHAPE), voxels[0]).round().astype(np.int16)
        voxels = voxels if change is None else change(key, voxels)
        for channel, one in enumerate(voxels):
            write_volume(folder / "imagesTr" / f"{key}_{channel:04d}.nii.gz", Volume(one, np.eye(4)))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(mask, np.eye(4)))
        found[key] = (voxels, mask)
    names = {str(i): name for i, name in enumerate(channels)}
    (folder / "dataset.json").write_text(json.dumps({"channel_names": names, **LABELS.to_dataset_json()}))
    keys = list(found)
    (folder / "splits.json").write_text(json.dumps([{"training": keys[:4], "validation": keys[4:]}]))
    return Cohort.open(folder), found


def test_constants_are_those_of_the_training_cases(tmp_path):
    cohort, found = cohort_of(tmp_path)
    ct, mr, pet = fit_normalisation(cohort)
    # nnU-Net draws as many voxels of each case as of any other: percentiles of equal weights, by hand.
    inside = [voxels[0][mask > 0].astype(float) for voxels, mask in (found[key] for key in "abcd")]
    copies = np.concatenate([np.tile(one, np.lcm.reduce([len(i) for i in inside]) // len(one)) for one in inside])
    assert [ct["lower"], ct["upper"]] == pytest.approx(np.percentile(copies, [0.5, 99.5]).tolist(), abs=1)
    assert ct["mean"] == pytest.approx(copies.mean(), rel=1e-9)
    assert ct["std"] == pytest.approx(copies.std(), rel=1e-9)
    assert (ct["scheme"], mr) == ("ct", {"scheme": "mr"})
    bodies = [found[key][0][2] for key in "abcd"]
    assert pet["std"] == pytest.approx(np.mean([one[one > 0.1 * one.max() / 2].mean() for one in bodies]), rel=0.15)


def test_ct_constants_are_close_to_those_of_nnunet(tmp_path):
    """nnU-Net 2.8.1's `DatasetFingerprintExtractor` gave `NNUNET` for this fold's training cases."""
    cohort, _ = cohort_of(tmp_path, channels=("CT",))
    [ct] = fit_normalisation(cohort)
    assert ct == {"scheme": "ct", **{name: pytest.approx(value, abs=0.1) for name, value in NNUNET.items()}}


NNUNET = {"lower": 13.0, "upper": 114.0, "mean": 62.010983, "std": 19.772593}


def test_what_nobody_looked_at_is_of_no_region(tmp_path):
    """Half of each case is ignored, as after a correction of some slices: the constants are of the regions."""

    def some(_, mask):
        mask[:, :, 6:] = 3
        return mask

    def air(key, voxels):
        voxels[0][:, :, 6:] = -1000
        return voxels

    _, found = cohort_of(tmp_path, channels=("CT",), label=some, change=air)
    dataset = json.loads((tmp_path / "dataset.json").read_text())
    dataset["labels"]["ignore"] = 3
    (tmp_path / "dataset.json").write_text(json.dumps(dataset))
    [ct] = fit_normalisation(Cohort.open(tmp_path))
    inside = [voxels[0][mask == 1].astype(float) for voxels, mask in (found[key] for key in "abcd")]
    assert ct["mean"] == pytest.approx(np.mean([one.mean() for one in inside]), rel=1e-9)
    square = np.mean([(one**2).mean() for one in inside])
    assert ct["std"] == pytest.approx((square - ct["mean"] ** 2) ** 0.5, rel=1e-9)
    assert ct["lower"] > min(np.percentile(one, 0.1) for one in inside)


def test_many_voxels_of_a_case_become_few_and_percentiles_stay(tmp_path):
    from volseg.bundle.normalisation import _Measured, _of_foreground

    rng = np.random.default_rng(0)
    large, small = rng.normal(100, 30, (60, 60, 60)), rng.normal(50, 5, (10, 10, 10))
    found = _of_foreground([_Measured(large, [large > -1e9]), _Measured(small, [small > -1e9])])
    copies = np.concatenate([large.ravel(), np.tile(small.ravel(), 216)])
    assert [found["lower"], found["upper"]] == pytest.approx(np.percentile(copies, [0.5, 99.5]).tolist(), rel=0.01)
    assert [found["mean"], found["std"]] == pytest.approx([copies.mean(), copies.std()], rel=1e-9)


def test_limits_of_ct_cut_off_no_region_however_small():
    """A calcification of 0.3 % of the labelled voxels lies beyond their 99.5th percentile."""
    from volseg.bundle.normalisation import _Measured, _of_foreground

    rng = np.random.default_rng(0)
    voxels = rng.normal(60, 20, (50, 50, 40))
    stone, air = np.zeros(voxels.shape, bool), np.zeros(voxels.shape, bool)
    stone[:6, :6, :8], air[-4:, -4:, -4:] = True, True
    voxels[stone], voxels[air] = rng.normal(700, 50, stone.sum()), -900
    every = np.ones(voxels.shape, bool)
    found = _of_foreground([_Measured(voxels, [every, ~(stone | air), stone, air]), _Measured(voxels + 1, [every] * 4)])
    assert found["upper"] > 790
    assert found["lower"] < -890
    assert found["mean"] == pytest.approx(voxels.mean() + 0.5)


def test_a_user_names_schemes_in_many_ways(tmp_path):
    cohort, _ = cohort_of(tmp_path)

    def names(asked):
        return [one["scheme"] for one in fit_normalisation(cohort, asked)]

    assert names("CT,MR,PET") == names(["CT", "T1w", "SUV"]) == names(("ct", "mr", "pet")) == ["ct", "mr", "pet"]
    assert names("mr") == names([{"scheme": "mr"}]) == names({"scheme": "mr"}) == ["mr"] * 3
    assert names("noNorm, zscore ,percentiles") == ["none", "zscore", "percentiles"]
    assert names(None) == ["percentiles"] * 3
    assert names([None, "none", "rgb_to_0_1"]) == ["none", "none", "rgb"]
    stated = [{"scheme": "ct", "lower": -160, "upper": 240}, "mr", {"scheme": "pet", "std": 2}]
    ct, _, pet = fit_normalisation(cohort, stated)
    assert (ct["lower"], ct["upper"], pet) == (-160, 240, {"scheme": "pet", "std": 2.0})
    assert ct["mean"] == fit_normalisation(cohort)[0]["mean"]
    with pytest.raises(UsageError, match=r"names 2 schemes, and the cohort has 3 channels \(CT, MR, PET\)"):
        fit_normalisation(cohort, "CT,MR")
    with pytest.raises(UsageError, match="'Cat' must be auto, or one of ct, mr, pet"):
        fit_normalisation(cohort, "Cat")


def test_no_file_is_read_that_is_not_needed(tmp_path):
    cohort, _ = cohort_of(tmp_path, channels=("MR",))
    for path in (tmp_path / "imagesTr").iterdir():
        path.write_bytes(b"")
    assert fit_normalisation(cohort) == [{"scheme": "mr"}]
    assert [one.scheme for one in asked_schemes("auto", ["T1", "PET"])] == ["mr", "pet"]


def test_a_fold_without_a_labelled_voxel_names_the_cure(tmp_path):
    cohort, _ = cohort_of(tmp_path, label=lambda key, mask: mask * (key > "d"))
    with pytest.raises(UsageError, match=r"no training case has a labelled voxel.*--normalisation"):
        fit_normalisation(cohort)
    sparse, _ = cohort_of(tmp_path / "sparse", label=lambda key, mask: mask * (key == "b"))
    assert fit_normalisation(sparse)[0]["mean"] == pytest.approx(61, abs=2)
    one, _ = cohort_of(tmp_path / "one", change=lambda key, voxels: [np.full(SHAPE, 40, np.int16), *voxels[1:]])
    assert fit_normalisation(one)[0] == {"scheme": "ct", "lower": 39.0, "upper": 41.0, "mean": 40.0, "std": 0.5}


def test_colours_of_other_numbers_than_bytes(tmp_path):
    def scaled(factor):
        return lambda key, voxels: [np.abs(voxels[0]) * 255.0 / np.abs(voxels[0]).max() * factor, *voxels[1:]]

    for factor, upper in ((1, 255), (1 / 255, 1), (257, 65535)):
        cohort, _ = cohort_of(tmp_path / str(upper), channels=("red",), change=scaled(factor))
        assert fit_normalisation(cohort) == [{"scheme": "rgb", "upper": upper}]


def test_what_contradicts_the_name_of_a_channel_is_logged(tmp_path, caplog):
    def shifted(key, voxels):
        ct, mr, pet = voxels
        return [ct + 1 - ct.min(), mr, pet * (1e4 if key == "b" else 1) - (1 if key == "a" else 0)]

    cohort, _ = cohort_of(tmp_path, change=shifted)
    fit_normalisation(cohort)
    assert "channel 0 (CT) is never below 0 in 4 of 4 cases (a, b, c, ...)" in caplog.text
    assert "channel 2 (PET) is below 0 in 1 of 4 cases (a)" in caplog.text
    assert "channel 2 (PET) has a mean of" in caplog.text


def recipe(normalisation=ENTRIES):
    names = ["CT", "MR"]
    return Recipe(LABELS, names, [1, 1, 3], [8, 8, 8], {"width": 4}, {"fold": 0}, normalisation)


def test_a_recipe_keeps_the_normalisation():
    stored = recipe().state_dict()
    assert json.loads(stored["json"])["schema"] == 2
    back = Recipe.from_state(stored)
    assert back == recipe()
    assert back.normalisation == ENTRIES
    assert back.spacing_mm.normalisation == ENTRIES
    assert back.spacing_mm == [1, 1, 3]


def test_a_recipe_of_before_is_read_and_one_without_schemes_is_written_as_before():
    before = {
        "schema": 1,
        "volseg": "0.1.0",
        "labels": LABELS.to_dataset_json(),
        "channel_names": ["CT", "MR"],
        "spacing_mm": [1.0, 1.0, 3.0],
        "roi_size": [8, 8, 8],
        "network": {"width": 4},
        "facts": {"fold": 0},
    }
    back = Recipe.from_state({"json": json.dumps(before)})
    assert back.normalisation is None
    assert back.spacing_mm.normalisation is None
    for percentiles in (None, [{"scheme": "percentiles"}] * 2):
        assert json.loads(recipe(percentiles).state_dict()["json"]) == before


@pytest.mark.parametrize(
    "entries", [ENTRIES[:1], [{"scheme": "ct"}, {"scheme": "mr"}], [{"scheme": "cat"}] * 2, "mr", [1]]
)
def test_a_damaged_normalisation_is_refused(entries):
    content = json.loads(recipe().state_dict()["json"]) | {"normalisation": entries}
    with pytest.raises(CheckpointError, match="the checkpoint's recipe cannot be read"):
        Recipe.from_state({"json": json.dumps(content)})

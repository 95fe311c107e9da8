"""nnU-Net's label `ignore`: what nobody looked at counts in no loss and no metric."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from monai.data import MetaTensor
from scored_cohort import AFFINE, SHAPE, TABLE, box, label_map, make_cohort, write

from volseg.cohort import Cohort
from volseg.errors import LabelError
from volseg.evaluation import evaluate
from volseg.labels import LabelTable
from volseg.training import DeepSupervision, bce, dice_ce, dice_focal, tversky
from volseg.transforms.pipelines import region_masks
from volseg.transforms.targets import IGNORED, PositionsOfClassesd, TargetOfLabelMapd

EXCLUSIVE = replace(LabelTable.exclusive(["a", "b"]), ignore=3)
OVERLAPPING = replace(LabelTable.overlapping(["a", "b"]), ignore=4)
tables = pytest.mark.parametrize("labels", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])


def test_the_table_of_nnunet_is_read_and_written():
    labels = {"background": 0, "whole": [1, 2], "core": 2, "ignore": 3}
    table = LabelTable.from_dataset_json({"labels": labels})
    assert table.names == ("whole", "core")
    assert table.ignore == 3
    assert table.to_dataset_json()["labels"] == labels
    assert table.of_predictions.to_dataset_json()["labels"] == {"background": 0, "whole": [1, 2], "core": 2}
    assert table.digest == table.of_predictions.digest
    assert table.check(np.array([0, 3])).tolist() == [0, 3]
    with pytest.raises(LabelError, match=r"holds 3; dataset.json declares \[0, 1, 2\]"):
        table.of_predictions.check(np.array([0, 3]))


@pytest.mark.parametrize("value", [2, 0, 256, [3, 4], "2", "three", True])
def test_a_value_that_is_not_the_largest_is_refused(value):
    with pytest.raises(LabelError, match="'ignore' has the value"):
        LabelTable.from_dataset_json({"labels": {"background": 0, "a": 1, "b": 2, "ignore": value}})


def targets(labels: LabelTable, values: torch.Tensor) -> torch.Tensor:
    found = TargetOfLabelMapd("label", labels=labels)({"label": MetaTensor(values)})["label"]
    return torch.as_tensor(found)


@tables
@pytest.mark.parametrize("make", [dice_ce, bce, dice_focal, tversky], ids=lambda make: make.__name__)
@pytest.mark.parametrize("weights", [None, {"b": 3.0}])
def test_the_loss_is_that_of_the_voxels_that_were_looked_at(labels, make, weights):
    torch.manual_seed(0)
    values = torch.randint(0, 3, (1, 4, 4, 6)).to(torch.uint8)
    looked = values.clone()
    values[..., 4:] = labels.ignore
    logits = torch.randn(1, labels.channels, 4, 4, 6, requires_grad=True)
    loss = make(labels, region_weights=weights)
    found = DeepSupervision(loss)(logits, targets(labels, values)[None])
    expected = loss(logits[..., :4], targets(labels, looked)[None][..., :4])
    assert found.detach().item() == pytest.approx(expected.detach().item(), abs=1e-6)
    found.backward()
    assert not logits.grad[..., 4:].any()
    assert logits.grad[..., :4].any()


@tables
def test_no_window_is_centred_on_a_voxel_that_nobody_looked_at_and_no_mask_holds_it(labels):
    values = torch.zeros(1, 3, 3, 3, dtype=torch.uint8)
    values[0, 0], values[0, 1], values[0, 2] = labels.ignore, 1, 0
    target = targets(labels, values)
    assert (target[:, 0] == IGNORED).all()
    positions = PositionsOfClassesd("label", labels=labels)({"label": target})["label_positions"]
    assert [sorted(np.asarray(one).tolist()) for one in positions] == [list(range(18, 27)), list(range(9, 18)), []]
    logits = torch.full((labels.channels, 3, 3, 3), 5.0)
    masks = region_masks(labels)({"pred": logits, "label": MetaTensor(target)})
    assert not masks["pred"][:, 0].any()
    assert not masks["label"][:, 0].any()
    assert masks["label"][0, 1].all()
    assert masks["pred"].any(dim=0)[1:].all() == labels.overlap  # softmax of equal logits is background


def test_scores_are_those_of_the_slices_that_were_looked_at(tmp_path):
    whole = label_map(stomach=box(2, 6, 2, 6, 0, 8), large_bowel=box(1, 4, 1, 4, 0, 8))
    guess = label_map(stomach=box(2, 6, 2, 7, 0, 8), large_bowel=box(1, 4, 1, 4, 0, 6))
    looked = np.zeros(SHAPE, bool)
    looked[..., :4] = True
    cohorts = {
        "ignored": make_cohort(tmp_path / "ignored", {"c_1": np.where(looked, whole, np.uint8(8))}),
        "cut": make_cohort(tmp_path / "cut", {"c_1": np.where(looked, whole, np.uint8(0))}),
    }
    path = tmp_path / "ignored" / "dataset.json"
    path.write_text(path.read_text().replace('"background": 0,', '"background": 0, "ignore": 8,'))
    cohorts["ignored"] = Cohort.open(tmp_path / "ignored")
    write(tmp_path / "all" / "c_1.nii.gz", guess, AFFINE)
    write(tmp_path / "some" / "c_1.nii.gz", np.where(looked, guess, np.uint8(0)), AFFINE)
    assert cohorts["ignored"].labels.ignore == 8
    found = evaluate(tmp_path / "all", cohorts["ignored"])
    assert not any(row.error for row in found)
    cut = evaluate(tmp_path / "some", cohorts["cut"])
    without = {"ignored": False, "mean_surface_distance_mm": None, "time_saved_from_empty": None}
    plain = [[replace(row, **without) for row in rows] for rows in (found, cut)]
    assert plain[0] == plain[1]
    # Slices that nobody looked at give no points; slices without a region give some.
    bowel = [next(row for row in rows if row.region == "large_bowel") for rows in (found, cut)]
    assert [row.time_saved_from_empty > 0 for row in bowel] == [False, True]
    # The face of the cut is no surface; what of it was right made the mean smaller.
    stomach = [next(row for row in rows if row.region == "stomach") for rows in (found, cut)]
    assert stomach[0].mean_surface_distance_mm > stomach[1].mean_surface_distance_mm
    assert TABLE.names == tuple(row.region for row in found)

"""What a user lays over a bundle's settings: taken, or refused with the nearest word that would do."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import pytest
from monai.bundle import ConfigParser

from volseg.errors import UsageError
from volseg.training.checks.overrides import check_overrides

BUNDLES = sorted(Path(__file__).resolve().parents[2].glob("bundles/*/train.json"))
CONFIG: dict[str, Any] = {
    "learning_rate": 1,
    "network_def": {"_target_": "SwinUNETR", "in_channels": 1, "out_channels": "$@labels.channels"},
    "loss": {"_target_": "volseg.training.dice_ce", "labels": "@labels"},
    "optimizer": {
        "_target_": "torch.optim.AdamW",
        "params": {"_target_": "volseg.training.optimizer_groups", "network": "@network", "lr": "@learning_rate"},
        "lr": "@learning_rate",
        "weight_decay": 0.01,
    },
    "lr_scheduler": {"_target_": "volseg.training.warmup_cosine", "optimizer": "@optimizer", "iterations": 9},
    "train": {
        "dataset": {"_target_": "CacheDataset", "data": [], "transform": None},
        "dataloader": {"_target_": "DataLoader", "dataset": "@train#dataset", "batch_size": 1},
        "trainer": {"max_epochs": 1},
        "handlers": [{"_target_": "StatsHandler"}, {"_target_": "LrScheduleHandler", "lr_scheduler": "@lr_scheduler"}],
    },
}

FITTING = [
    {"learning_rate": 2, "train#trainer#max_epochs": 3},
    {"train::trainer::max_epochs": 3},
    {"train#dataset#cache_rate": 0.5},
    {"train#dataloader#persistent_workers": True},
    {"train#handlers#1#print_lr": False, "train#handlers#0": {"_target_": "StatsHandler", "iteration_log": False}},
    {"network_def#depths": [2, 2, 2, 2], "network_def#_disabled_": False},
    {"optimizer#_target_": "torch.optim.SGD", "optimizer#momentum": 0.99, "optimizer#nesterov": True},
    {"optimizer#nesterov": True, "optimizer#momentum": 0.99, "optimizer#_target_": "torch.optim.SGD"},
    {"optimizer#_target_": "Novograd", "optimizer#grad_averaging": True},
    {"optimizer#_target_": "monai.optimizers.Novograd"},
    {"optimizer#params#decay_norms": False},
    {"optimizer#params": "$@network.parameters()"},
    *({"loss#_target_": f"volseg.training.{name}"} for name in ("bce", "dice_ce", "dice_bce", "dice_focal", "tversky")),
    {"loss#_target_": "volseg.training.tversky", "loss#alpha": 0.2, "loss#region_weights": {"a": 2}},
    {"loss": {"_target_": "monai.losses.DiceLoss", "sigmoid": True}, "loss#batch": True},
    {"loss": "$volseg.training.dice_ce(@labels)"},
    {"loss#_target_": "$volseg.training.dice_ce", "loss#what_an_expression_takes": 1},
    *(
        {"lr_scheduler#_target_": f"volseg.training.{name}"}
        for name in ("warmup_cosine", "polynomial", "multi_step", "one_cycle", "constant")
    ),
    {"lr_scheduler": {"_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@optimizer", "step_size": 5}},
    {"network_def#_target_": "nowhere.at.all", "network_def#_disabled_": True},
]


@pytest.mark.parametrize("overrides", FITTING, ids=lambda overrides: " ".join(overrides))
def test_what_fits_is_taken_and_nothing_is_changed(overrides: dict[str, Any]) -> None:
    config, given = copy.deepcopy(CONFIG), copy.deepcopy(overrides)
    check_overrides(config, given)
    assert config == CONFIG
    assert given == overrides


REFUSED = [
    ({"learningrate": 2}, "--learningrate is no setting of this bundle; did you mean --learning_rate?"),
    ({"zzz": 2}, "--zzz is no setting of this bundle; the names are in its train.json"),
    ({"learning_rate#x": 2}, "--learning_rate#x is no setting of this bundle; did you mean --learning_rate?"),
    ({"train#handlers#2#x": 2}, "did you mean --train#handlers#1?"),
    ({"train#trainer#max_epoch": 2}, "did you mean --train#trainer#max_epochs?"),
    (
        {"train#dataset#cache_rat": 0.5},
        "--train#dataset#cache_rat is no argument of CacheDataset; did you mean --train#dataset#cache_rate?",
    ),
    ({"train#dataloader#batchsize": 1}, "did you mean --train#dataloader#batch_size?"),
    ({"network_def#depth": 2}, "--network_def#depth is no argument of SwinUNETR; did you mean --network_def#depths?"),
    ({"optimizer#momentum": 0.9}, "is no argument of torch.optim.AdamW; it takes params, lr, betas, eps, weight_decay"),
    (
        {"optimizer#_target_": "torch.optim.SGD", "optimizer#momentun": 0.9},
        "--optimizer#momentun is no argument of torch.optim.SGD; did you mean --optimizer#momentum?",
    ),
    ({"optimizer#params#layer_decai": 0.9}, "did you mean --optimizer#params#layer_decay?"),
    ({"loss#gamma": 2}, "--loss#gamma is no argument of volseg.training.dice_ce; it takes labels, region_weights"),
    (
        {"optimizer#_target_": "torch.optim.AdmW"},
        "--optimizer#_target_ torch.optim.AdmW is not there; did you mean torch.optim.AdamW?",
    ),
    ({"optimizer#_target_": "torch.optimm.AdamW"}, "did you mean torch.optim?"),
    ({"optimizer#_target_": "tourch.optim.AdamW"}, "there is no module tourch"),
    ({"loss#_target_": "volseg.training.zzzzzz"}, "volseg.training has no zzzzzz"),
    ({"network_def#_target_": "SwinUNTR"}, "--network_def#_target_ SwinUNTR is not there; did you mean SwinUNETR?"),
    ({"network_def#_target_": "Qwxyzqwxyz"}, "MONAI has no such name; others need their module, as torch.optim.SGD"),
    ({"optimizer#_target_": "torch.optim"}, "torch.optim is a module, expected a class or function"),
    (
        {"lr_scheduler#_target_": "torch.optim.lr_scheduler.StepLR"},
        "torch.optim.lr_scheduler.StepLR takes no 'iterations', which stands in 'lr_scheduler' of train.json; "
        "give the whole part: --lr_scheduler \"{'_target_': 'torch.optim.lr_scheduler.StepLR', ...}\"",
    ),
    (
        {"lr_scheduler": {"_target_": "torch.optim.lr_scheduler.StepLR", "optimizer": "@optimizer"}},
        "torch.optim.lr_scheduler.StepLR needs 'step_size'; give --lr_scheduler#step_size",
    ),
]


@pytest.mark.parametrize(("overrides", "told"), REFUSED, ids=lambda value: " ".join(value) if value is dict else None)
def test_what_cannot_work_is_refused_in_one_line(overrides: dict[str, Any], told: str) -> None:
    with pytest.raises(UsageError) as caught:
        check_overrides(CONFIG, overrides)
    assert told in str(caught.value)
    assert "\n" not in str(caught.value)


def test_a_module_that_fails_as_it_is_imported_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "needs_more.py").write_text("import a_package_that_is_absent\n")
    monkeypatch.syspath_prepend(str(tmp_path))
    with pytest.raises(UsageError, match=r"needs_more\.Loss cannot be imported: No module named 'a_package_that"):
        check_overrides(CONFIG, {"loss#_target_": "needs_more.Loss"})


@pytest.mark.parametrize("path", BUNDLES, ids=lambda path: path.parent.name)
def test_every_part_of_every_bundle_is_taken(path: Path) -> None:
    check_overrides(json.loads(path.read_text()), {})


def test_what_is_taken_is_what_monai_builds() -> None:
    """The optimizer of the README's example, built by MONAI's own parser."""
    import torch

    parser = ConfigParser(CONFIG | {"imports": ["$import torch"], "network": "$torch.nn.Linear(2, 1)"})
    overrides = {
        "optimizer#_target_": "torch.optim.SGD",
        "optimizer#momentum": 0.99,
        "optimizer#nesterov": True,
        "optimizer#params#head_lr_factor": 0.5,
        "lr_scheduler#_target_": "volseg.training.one_cycle",
        "lr_scheduler#warmup": 0.0,
    }
    check_overrides(parser.get(), overrides)
    parser.update(pairs=overrides)
    schedule = parser.get_parsed_content("lr_scheduler")
    assert isinstance(schedule.optimizer, torch.optim.SGD)
    (group,) = schedule.optimizer.param_groups
    assert (group["lr"], group["momentum"], group["nesterov"], group["weight_decay"]) == (0.5, 0.99, True, 0.01)
    assert len(group["params"]) == 2


@pytest.mark.parametrize(
    "name", ["train#handlers#7#every", "validate#handlers#0#tag_name", "validate#checkpoints#keep"]
)
def test_where_a_handler_stood_in_version_0_1_its_id_is_told(name: str) -> None:
    config = json.loads(BUNDLES[0].read_text())
    with pytest.raises(UsageError, match=r"each handler is an id now: .*validation_handler.*checkpoint_handler"):
        check_overrides(config, {name: 2})
    check_overrides(config, {"validation_handler#interval": 2, "checkpoint_handler#keep": 2})

"""An interrupted training that goes on: equal to an unbroken one, and refused where it cannot be."""

from __future__ import annotations

import json
import logging
import random
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest
import small_training
import torch
from ignite.engine import Engine, Events
from monai.bundle import ConfigParser
from monai.data import DataLoader, Dataset
from monai.transforms import RandGaussianNoise
from small_training import trainer_of

from volseg.errors import CheckpointError, UsageError
from volseg.labels import LabelTable
from volseg.training import (
    DeepSupervision,
    EpochSeeds,
    Patience,
    Progress,
    Resume,
    Validation,
    bce,
    dice_bce,
    dice_ce,
    dice_focal,
    one_cycle,
    tversky,
)

EPOCHS, BATCHES = 6, 4


class Killed(Exception):  # noqa: N818 - it is no error
    """What stands for a kill inside this process."""


def interrupted(folder: Path, iteration: int, **settings: object) -> None:
    """A training that goes on with what is there and is stopped after an iteration."""

    def stop() -> None:
        raise Killed

    trainer = trainer_of(folder, resume=True, **settings)
    trainer.add_event_handler(Events.ITERATION_COMPLETED(once=iteration), stop)
    with pytest.raises(Killed):
        trainer.run()


def same(one: object, other: object) -> bool:
    if isinstance(one, torch.Tensor):
        return torch.equal(one, other)
    if isinstance(one, dict):
        return one.keys() == other.keys() and all(same(one[key], other[key]) for key in one)
    if isinstance(one, list):
        return len(one) == len(other) and all(map(same, one, other))
    return one == other


def files_of(folder: Path) -> dict[str, dict]:
    """The files of a training, without the seconds that it took."""
    files = {path.name: torch.load(path, weights_only=True) for path in sorted(folder.glob("*.pt"))}
    for content in files.values():
        content.pop("limit", None)
    return files


@pytest.fixture(scope="module")
def unbroken(tmp_path_factory: pytest.TempPathFactory) -> dict[str, dict]:
    folder = tmp_path_factory.mktemp("unbroken")
    trainer_of(folder).run()
    files = files_of(folder)
    assert list(files) == ["last.pt", "model.pt", "model_2.pt"]
    return files


def test_the_same_command_gives_the_same_weights(unbroken, tmp_path):
    trainer_of(tmp_path).run()
    assert same(files_of(tmp_path), unbroken)
    trainer_of(tmp_path, seed=4).run()
    assert not same(files_of(tmp_path)["last.pt"]["network"], unbroken["last.pt"]["network"])


@pytest.mark.parametrize(
    "kills", [[1], [4], [5], [8], [9], [10, 13, 20], [24], [2, 6, 6, 6, 19], [EPOCHS * BATCHES]], ids=str
)
def test_a_resumed_training_equals_an_unbroken_one_to_the_bit(unbroken, tmp_path, kills):
    """Weights, average, optimizer, best checkpoints, metrics: every byte of every file's content."""
    for iteration in kills:
        interrupted(tmp_path, iteration)
    trainer = trainer_of(tmp_path, resume=True)
    began = []
    trainer.add_event_handler(Events.EPOCH_STARTED(once=(kills[-1] - 1) // BATCHES + 1), lambda: began.append(1))
    trainer.run()
    assert began  # it went on with the epoch that was interrupted, not from the beginning
    assert trainer.state.epoch == EPOCHS
    assert same(files_of(tmp_path), unbroken)


def test_what_is_not_saved_at_each_epoch_is_done_again(unbroken, tmp_path):
    """As where saving is slow: only the first epoch is on disk, and best checkpoints of later ones."""
    interrupted(tmp_path, 5)
    first = (tmp_path / "last.pt").read_bytes()
    interrupted(tmp_path, 23)
    (tmp_path / "last.pt").write_bytes(first)
    trainer_of(tmp_path, resume=True).run()
    assert same(files_of(tmp_path), unbroken)


def test_workers_draw_the_same_after_a_resume(tmp_path):
    trainer_of(tmp_path / "unbroken", workers=2, max_epochs=3).run()
    interrupted(tmp_path / "resumed", 7, workers=2, max_epochs=3)
    trainer_of(tmp_path / "resumed", workers=2, max_epochs=3, resume=True).run()
    assert same(files_of(tmp_path / "resumed"), files_of(tmp_path / "unbroken"))


@pytest.mark.slow
def test_killed_at_random_steps_it_ends_as_an_unbroken_one(unbroken, tmp_path, warm_commands):
    """SIGKILL, which no program can catch, in processes of their own."""
    draw = random.Random()
    for iteration in sorted(draw.sample(range(1, EPOCHS * BATCHES + 1), 4)):
        done = subprocess.run(
            [warm_commands.python, small_training.__file__, str(tmp_path), str(iteration)],
            capture_output=True,
            text=True,
            check=False,
        )
        assert done.returncode == -signal.SIGKILL, done.stderr
    trainer_of(tmp_path, resume=True).run()
    assert same(files_of(tmp_path), unbroken)


def test_where_there_is_nothing_it_begins(unbroken, tmp_path, caplog):
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        trainer_of(tmp_path, resume="true").run()  # as MONAI's command line gives it
    assert "to go on from: the training begins" in caplog.text
    assert same(files_of(tmp_path), unbroken)


def test_a_finished_training_stays_as_it_is(unbroken, tmp_path, caplog):
    trainer_of(tmp_path).run()
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        trainer = trainer_of(tmp_path, resume=True)
        trainer.run()
    assert trainer.state.epoch == EPOCHS
    assert "epoch 6 of 6 is done, nothing is left to do" in caplog.text
    assert same(files_of(tmp_path), unbroken)


def test_without_resume_the_earlier_run_is_set_aside(unbroken, tmp_path):
    interrupted(tmp_path, 9)
    before = (tmp_path / "last.pt").read_bytes()
    trainer = trainer_of(tmp_path)
    trainer.add_event_handler(Events.EPOCH_STARTED(once=1), lambda: _none(tmp_path / "last.pt"))
    trainer.run()
    assert same(files_of(tmp_path), unbroken)
    assert before in [path.read_bytes() for path in (tmp_path / "earlier").glob("last_*.pt")]


def _none(path: Path) -> None:
    assert not path.exists()  # else a kill now would let --resume go on with the other run


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"rate": 0.01}, r"other settings: optimizer lr was 0\.05 and is 0\.01\. Resume"),
        ({"seed": 5}, "seed was 3 and is 5"),
        ({"accumulate": 1}, "accumulate was 2 and is 1"),
        ({"clip_norm": 0.0}, r"clip_norm was 1\.0 and is 0\.0"),
        ({"ema_decay": 0.0}, r"ema_decay was 0\.9 and is 0\.0"),
        ({"name": "b"}, "labels labels was .*'a'.* and is .*'b'"),
        ({"width": 4}, "network width was 3 and is 4"),
        ({"max_epochs": 5}, "of a training of 6 epochs, which cannot be resumed as one of 5"),
    ],
    ids=lambda value: str(value)[:20],
)
def test_another_training_is_refused_and_the_difference_named(tmp_path, changed, told):
    interrupted(tmp_path, 5)
    before = (tmp_path / "last.pt").read_bytes()
    with pytest.raises(UsageError, match=told):
        trainer_of(tmp_path, resume=True, **changed).run()
    assert (tmp_path / "last.pt").read_bytes() == before


TABLE = LabelTable.exclusive(["a"])


@pytest.mark.parametrize(
    ("loss", "told"),
    [
        (tversky(TABLE), "loss overlap was DiceLoss and is TverskyLoss"),
        (bce(TABLE), "loss overlap was DiceLoss and is None"),
        (dice_focal(TABLE), r"loss gamma was 0\.0 and is 2\.0"),
        (dice_ce(TABLE, region_weights={"a": 3}), r"loss weights was None and is \[1\.0, 3\.0\]"),
        (dice_bce(TABLE), r"loss overlap_weight was 1\.0 and is 0\.5"),
    ],
    ids=["tversky", "bce", "focal", "weights", "terms"],
)
def test_another_loss_is_refused(tmp_path, monkeypatch, loss, told):
    """They are of one class in the trainer: a resumed training went on with another one and said nothing."""
    monkeypatch.setattr(small_training, "_loss", DeepSupervision(dice_ce(TABLE)))
    interrupted(tmp_path, 5)
    monkeypatch.setattr(small_training, "_loss", DeepSupervision(loss))
    with pytest.raises(UsageError, match=told):
        trainer_of(tmp_path, resume=True).run()


def test_a_training_that_tells_the_class_of_its_loss_alone_goes_on(tmp_path, monkeypatch):
    monkeypatch.setattr(small_training, "_loss", DeepSupervision(dice_ce(TABLE)))
    interrupted(tmp_path, 5)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    settings = json.loads(content["settings"])
    content["settings"] = json.dumps({**settings, "loss": "DeepSupervision"})
    torch.save(content, tmp_path / "last.pt")
    trainer_of(tmp_path, resume=True).run()


@pytest.mark.parametrize(
    ("stated", "refused"),
    [({"prior_dropout": 0.2}, True), ({"prior_dropout": 0.4}, False), ({}, False)],
    ids=["other", "same", "of before"],
)
def test_another_share_of_windows_without_a_prior_is_refused(tmp_path, monkeypatch, stated, refused):
    def made(more):
        return lambda *places, settings, **rest: Resume(*places, settings={**settings, **more}, **rest)

    monkeypatch.setattr(small_training, "Resume", made(stated))
    interrupted(tmp_path, 5)
    monkeypatch.setattr(small_training, "Resume", made({"prior_dropout": 0.4}))
    if refused:
        with pytest.raises(UsageError, match=r"prior_dropout was 0\.2 and is 0\.4"):
            trainer_of(tmp_path, resume=True).run()
    else:
        trainer_of(tmp_path, resume=True).run()


def test_another_cohort_is_refused(tmp_path, monkeypatch):
    interrupted(tmp_path, 5)
    monkeypatch.setattr(small_training, "CASES", 9)
    with pytest.raises(UsageError, match="batches of an epoch was 4 and is 5"):
        trainer_of(tmp_path, resume=True).run()


def test_another_schedule_is_refused(tmp_path, monkeypatch):
    interrupted(tmp_path, 5)
    monkeypatch.setattr(small_training, "warmup_cosine", one_cycle)
    with pytest.raises(UsageError, match="another schedule"):
        trainer_of(tmp_path, resume=True).run()


def test_a_training_from_before_a_setting_was_one_goes_on_as_it_did(tmp_path, monkeypatch):
    """A third of the windows was centred outside all regions; another share is another training."""

    def stated(share):
        return lambda *places, settings, **rest: Resume(
            *places, settings={**settings, "background_share": share}, **rest
        )

    interrupted(tmp_path, 5)
    monkeypatch.setattr(small_training, "Resume", stated(0.2))
    with pytest.raises(UsageError, match=r"background_share was 0\.333\d* and is 0\.2"):
        trainer_of(tmp_path, resume=True).run()
    monkeypatch.setattr(small_training, "Resume", stated(1 / 3))
    trainer_of(tmp_path, resume=True).run()


def test_another_network_of_the_same_settings_is_refused(tmp_path):
    interrupted(tmp_path, 5)
    content = torch.load(tmp_path / "last.pt", weights_only=True)
    del content["network"]["0.weight"]
    torch.save(content, tmp_path / "last.pt")
    with pytest.raises(CheckpointError, match=r"the network in .*last\.pt is of another network"):
        trainer_of(tmp_path, resume=True).run()


@pytest.mark.parametrize("content", [b"", b"damaged", b"PK\x03\x04"])
def test_a_damaged_file_is_refused(tmp_path, content):
    (tmp_path / "last.pt").write_bytes(content)
    with pytest.raises(CheckpointError, match=r"cannot be resumed from, since .*; or begin anew, without --resume"):
        trainer_of(tmp_path, resume=True).run()


@pytest.mark.parametrize("of_torch", [False, True])
def test_more_epochs_go_on_with_the_schedule_of_the_longer_training(tmp_path, caplog, monkeypatch, of_torch):
    def cosine(optimizer: torch.optim.Optimizer, *, iterations: int) -> torch.optim.lr_scheduler.LRScheduler:
        return torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, iterations)

    if of_torch:
        monkeypatch.setattr(small_training, "warmup_cosine", cosine)
    settings = {"accumulate": 1}  # of torch's own schedules
    trainer_of(tmp_path, **settings).run()
    rates: dict[int, float] = {}
    for folder, resume in ((tmp_path / "whole", False), (tmp_path, True)):
        trainer = trainer_of(folder, max_epochs=8, resume=resume, **settings)
        before, rates = rates, {}
        trainer.add_event_handler(
            Events.ITERATION_STARTED,
            lambda engine, rates=rates: rates.update({engine.state.iteration: engine.optimizer.param_groups[0]["lr"]}),
        )
        trainer.run()
    assert list(rates) == list(range(EPOCHS * BATCHES + 1, 8 * BATCHES + 1))
    assert all(rate == pytest.approx(before[iteration]) for iteration, rate in rates.items())
    assert "it was planned with 6 epochs" in caplog.text


def test_saving_takes_a_share_of_the_time(tmp_path):
    saved = []
    for share in (0.0, 1e9):
        trainer = trainer_of(tmp_path, max_epochs=4, share=share)
        trainer.add_event_handler(Events.EPOCH_COMPLETED, lambda: saved.append(_epoch(tmp_path / "last.pt")))
        trainer.run()
        saved.append(_epoch(tmp_path / "last.pt"))
    assert saved == [1, 1, 1, 1, 4, 1, 2, 3, 4, 4]


def _epoch(path: Path) -> int:
    return int(torch.load(path, weights_only=True)["epoch"])


@pytest.mark.parametrize("resume", [1, 0, None, "yes", "auto"])
def test_resume_is_true_or_false(tmp_path, resume):
    with pytest.raises(UsageError, match="--resume must be"):
        trainer_of(tmp_path, resume=resume)


def test_the_progress_counts_from_where_it_went_on(tmp_path, caplog):
    interrupted(tmp_path, 14)
    caplog.clear()
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        trainer_of(tmp_path, resume=True).run()
    told = [record.getMessage() for record in caplog.records]
    assert "epoch 3 of 6 is done" in told[0]
    assert [line.split("  ")[0] for line in told[1:]] == ["epoch 4/6", "epoch 5/6", "epoch 6/6"]


# ---- random numbers


def drawn(seed: int | None, epochs: list[int]) -> list[list[float]]:
    """What Python, NumPy, torch and a transform draw in some epochs of one run."""
    transform = RandGaussianNoise(prob=1.0)
    found: list[list[float]] = []

    def draw(_: Engine, batch: torch.Tensor) -> None:
        found.append([random.random(), float(np.random.rand()), float(torch.rand(())), float(batch.sum())])  # noqa: NPY002

    engine = Engine(draw)
    engine.data_loader = DataLoader(Dataset(torch.zeros(1, 1, 2, 2, 2), transform))
    EpochSeeds(seed).attach(engine)
    for epoch in epochs:
        engine.state.epoch, engine.state.iteration, engine.state.max_epochs = epoch - 1, epoch - 1, epoch
        engine.state.epoch_length = 1
        engine.run(engine.data_loader)
    return found


def test_an_epoch_draws_the_same_whatever_came_before():
    all_epochs, last = drawn(1, [1, 2, 3]), drawn(1, [3])
    assert last == all_epochs[2:]
    assert len({value for row in all_epochs for value in row}) == 12
    assert drawn(2, [3]) != last


def test_without_a_seed_nothing_is_seeded():
    assert drawn(None, [3]) != drawn(None, [3])


# ---- stopping early


def epochs_of(scores: list[float], *, patience: int, every: int = 1, before: tuple[float, int] = (-1, -1)) -> int:
    """How many epochs a training takes whose validations give these scores."""
    evaluator = Engine(lambda *_: None)
    evaluator.state.best_metric, evaluator.state.best_metric_epoch = before
    evaluator.state.key_metric_name = "dice"
    trainer = Engine(lambda *_: None)

    def validate(engine: Engine) -> None:
        score = scores[engine.state.epoch // every - 1]
        if score > evaluator.state.best_metric:
            evaluator.state.best_metric, evaluator.state.best_metric_epoch = score, engine.state.epoch

    trainer.add_event_handler(Events.EPOCH_COMPLETED(every=every), validate)
    Patience(evaluator, validations=patience, interval=every).attach(trainer)
    trainer.run([0], max_epochs=len(scores) * every)
    return trainer.state.epoch


@pytest.mark.parametrize(
    ("patience", "every", "expected"), [(0, 1, 7), (1, 1, 3), (2, 1, 6), (3, 1, 7), (2, 4, 24), (1, 4, 12)]
)
def test_it_stops_after_so_many_validations_without_a_better_one(patience, every, expected):
    assert epochs_of([0.1, 0.3, 0.2, 0.4, 0.4, 0.3, 0.2], patience=patience, every=every) == expected


def test_it_says_why_it_stopped_and_a_resumed_run_stops_again(tmp_path, caplog):
    settings = {"patience": 1, "max_epochs": 40, "rate": 1e-9}  # hardly anything is learnt
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        trainer_of(tmp_path, **settings).run()
    before = files_of(tmp_path)
    stopped = before["last.pt"]["epoch"]
    assert stopped < 40
    told = f"stopped after epoch {stopped} of 40: no validation was better than that of epoch {stopped - 2} (val_mean_d"
    assert told in caplog.text
    trainer_of(tmp_path, resume=True, **settings).run()
    assert same(files_of(tmp_path), before)
    trainer = trainer_of(tmp_path, resume=True, **{**settings, "patience": 2})
    trainer.run()
    assert trainer.state.epoch > stopped


def test_patience_of_a_bundle_counts_the_validations_that_are_made():
    """Also where `--validation_handler#interval` says how often."""
    bundle = Path(__file__).parents[2] / "bundles" / "unet" / "train.json"
    content = json.loads(bundle.read_text())
    made = {"patience": 3, "val_interval": 4, "validate": {"evaluator": Engine(lambda *_: None)}}
    handlers = {name: content[name] for name in ("validation_handler", "patience_handler")}
    parser = ConfigParser({**made, **handlers, "imports": ["$import volseg"]})
    parser.update({"validation_handler": Validation(None, interval=10)})
    assert parser.get_parsed_content("patience_handler").interval == 10


@pytest.mark.parametrize("interval", [0, -1, 2.5, True, None])
def test_an_interval_that_counts_no_epochs_is_refused(interval):
    """MONAI's own run knows no preflight: 0 ended the training by a division after its first epoch."""
    with pytest.raises(UsageError, match="--validation_handler#interval must be a whole number of epochs"):
        Validation(None, interval=interval)
    with pytest.raises(UsageError, match="--patience_handler#interval must be a whole number of epochs"):
        Patience(Engine(lambda *_: None), validations=3, interval=interval)
    with pytest.raises(UsageError, match="--progress_handler#interval must be a whole number of epochs"):
        Progress(interval=interval)


@pytest.mark.parametrize("patience", [-1, 0.5, "3", None])
def test_another_patience_is_refused(patience):
    with pytest.raises(UsageError, match="--patience must be"):
        Patience(Engine(lambda *_: None), validations=patience, interval=1)

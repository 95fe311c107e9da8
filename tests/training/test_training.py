"""Loss, key metric, progress, pictures and the preflight."""

from __future__ import annotations

import logging
import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from PIL import Image

from volseg.errors import BundleError
from volseg.labels import LabelTable
from volseg.training import Progress, VolumetricDice, dice_ce, nan_safe_greater
from volseg.training.checks.preflight import check_roi

EXCLUSIVE = LabelTable.exclusive(["a", "b"])
OVERLAPPING = LabelTable.overlapping(["a", "b"])


def test_the_loss_of_a_perfect_network_is_near_zero_and_of_a_wrong_one_is_not() -> None:
    target = torch.zeros(2, 2, 4, 4, 4)
    target[:, 0, :2] = 1
    target[:, 1, 1:3] = 1  # overlaps the first region
    loss = dice_ce(OVERLAPPING)
    assert float(loss(target * 40 - 20, target)) < 1e-4
    assert float(loss(20 - target * 40, target)) > 2
    classes = torch.randint(0, 3, (2, 1, 4, 4, 4))
    logits = torch.nn.functional.one_hot(classes[:, 0], 3).movedim(-1, 1).float() * 40
    assert float(dice_ce(EXCLUSIVE)(logits, classes)) < 1e-4


def test_regions_do_not_compete_where_they_overlap() -> None:
    """MONAI's DiceCELoss with sigmoid takes a softmax cross entropy: a voxel in two regions could never be right."""
    target = torch.ones(1, 2, 4, 4, 4)
    assert float(dice_ce(OVERLAPPING)(torch.full_like(target, 20), target)) < 1e-4


def test_mean_dice_owns_emptiness() -> None:
    def masks(a: list[int], b: list[int]) -> torch.Tensor:
        return torch.tensor([a, b], dtype=torch.bool)[:, :, None, None]

    metric = VolumetricDice(EXCLUSIVE)
    metric.update(
        (
            [masks([1, 1, 0, 0], [0, 0, 0, 0]), masks([0, 0, 0, 0], [0, 0, 0, 0])],
            [masks([0, 1, 0, 0], [0, 0, 0, 0]), masks([1, 1, 0, 0], [0, 0, 0, 0])],
            ["case1", "case2"],
        )
    )
    regions = metric.by_region()
    assert regions["a"] == pytest.approx((2 / 3 + 0) / 2)  # the second case is missed
    assert math.isnan(regions["b"])  # in no case: no number
    assert metric.compute() == pytest.approx(1 / 3)
    # A case that comes again, as where several processes come out even by sharing it, counts once.
    metric.update(([masks([1, 0, 0, 0], [0, 0, 0, 0])], [masks([0, 1, 0, 0], [0, 0, 0, 0])], ["case2"]))
    assert metric.by_region()["a"] == pytest.approx(1 / 3)
    metric.reset()
    assert math.isnan(metric.compute())


def test_cases_without_a_key_count_each() -> None:
    """MONAI Label 0.8.5 trains on items that hold image and label alone."""
    metric = VolumetricDice(LabelTable.exclusive(["a"]), output_transform=lambda output: output)
    mask, none = (torch.full((1, 2, 2, 2), value, dtype=torch.bool) for value in (True, False))
    engine = Engine(lambda _, batch: batch)
    for found in (mask, none, mask, mask):
        engine.state.batch, engine.state.output = [{"image": mask}], ([found], [mask])
        metric.iteration_completed(engine)
    assert metric.compute() == pytest.approx(3 / 4)


def test_the_metric_tells_each_region() -> None:
    engine = Engine(lambda *_: ([torch.ones(2, 2, 2, 2, dtype=torch.bool)],) * 2)
    VolumetricDice(EXCLUSIVE).attach(engine, "dice")
    engine.run([[{"key": "case1"}]])
    assert engine.state.metrics == {"dice": 1.0, "dice_a": 1.0, "dice_b": 1.0}


def test_better_never_takes_nan() -> None:
    assert nan_safe_greater(0.5, -1)
    assert not nan_safe_greater(math.nan, -1)
    assert not nan_safe_greater(0.5, 0.5)


def test_progress_writes_a_line_where_there_is_no_terminal(caplog: pytest.LogCaptureFixture) -> None:
    trainer = Engine(lambda *_: [{"loss": torch.tensor(0.5)}])
    evaluator = Engine(lambda *_: None)
    evaluator.state.metrics = {"dice": 0.75, "dice_a": 0.7, "dice_b": 0.8}
    evaluator.state.key_metric_name = "dice"
    evaluator.state.best_metric = 0.76
    Progress(evaluator, interval=2).attach(trainer)
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        trainer.run([0, 1], max_epochs=4)
    lines = [record.getMessage() for record in caplog.records]
    assert [line.split("  ")[0] for line in lines] == ["epoch 1/4", "epoch 2/4", "epoch 4/4"]
    assert "loss 0.500  Dice 0.750 (best 0.760)  [a 0.700, b 0.800]" in lines[0]


def test_no_more_than_a_minute_and_an_epoch_pass_without_a_line(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("volseg.training.handlers.progress._SILENT_S", 0.0)  # seldom validated, long epochs
    trainer = Engine(lambda *_: [{"loss": torch.tensor(0.5)}])
    Progress(interval=1_000_000).attach(trainer)
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        trainer.run([0, 1], max_epochs=3)
    assert [record.getMessage().split("  ")[0] for record in caplog.records] == [f"epoch {n}/3" for n in (1, 2, 3)]


@pytest.mark.parametrize(
    ("roi", "cure"),
    [
        ([64, 64, 50], r"\[64,64,64\]"),
        ([32, 32, 32], r"\[64,32,32\]"),
        ([100, 64, 64], r"\[96,64,64\]"),
        ([10, 64, 64], r"\[32,64,64\]"),
    ],
)
def test_a_window_that_the_network_cannot_take_is_refused_with_the_nearest(roi: list[int], cure: str) -> None:
    with pytest.raises(BundleError, match=cure):
        check_roi(roi, divisor=32)


def test_a_window_of_one_slice_is_taken_where_the_network_does_not_halve_that_axis() -> None:
    assert check_roi([64, 32, 1], divisor=[32, 32, 1]) == [64, 32, 1]
    with pytest.raises(BundleError, match=r"multiples of \[32, 32, 1\].* --roi_size \[64,32,7\]"):
        check_roi([40, 40, 7], divisor=[32, 32, 1])


@pytest.mark.parametrize("roi", [None, 64, [64, 64], [64.0, 64, 64], "64,64,64", [0, 64, 64]])
def test_a_window_that_is_none_is_refused(roi: object) -> None:
    with pytest.raises(BundleError, match="three whole numbers"):
        check_roi(roi, divisor=32)


def test_a_snapshot_of_an_image_in_colours_is_in_colours(tmp_path: Path) -> None:
    from volseg.training import ValidationPictures

    image = torch.full((3, 64, 64, 1), -2.0)
    image[0, 32:] = image[2, :32] = 2.0  # red on one half, blue on the other one, as the scheme rgb gives them
    masks = torch.zeros(2, 64, 64, 1, dtype=torch.bool)
    shades = {}
    for names in (("red", "green", "blue"), ("T1", "T2", "FLAIR")):
        engine = Engine(lambda *_: [{"image": image, "label": masks, "pred": masks}])
        engine.state.epoch = 0
        ValidationPictures(str(tmp_path / names[0]), EXCLUSIVE, names).attach(engine)
        engine.run([0], max_epochs=1)
        with Image.open(tmp_path / names[0] / "snapshots" / "epoch_0001.png") as picture:
            shades[names[0]] = {colour for _, colour in picture.getcolors(maxcolors=1_000_000)}
    assert {(255, 0, 0), (0, 0, 255)} <= shades["red"]
    assert (255, 0, 0) not in shades["T1"]


def test_pictures_write_one_file_and_a_snapshot_at_each_validation(tmp_path: Path) -> None:
    from volseg.training import ValidationPictures

    (tmp_path / "snapshots").mkdir()
    for left in ("epoch_0001.png", "epoch_0009.png"):  # by an earlier session: the later one is done again
        (tmp_path / "snapshots" / left).write_bytes(b"")
    item = {
        "image": torch.rand(1, 8, 8, 4),
        "label": torch.zeros(2, 8, 8, 4, dtype=torch.bool),
        "pred": torch.ones(2, 8, 8, 4, dtype=torch.bool),
    }
    engine = Engine(lambda *_: [item])
    ValidationPictures(str(tmp_path), EXCLUSIVE).attach(engine)
    for epoch in (2, 4):
        engine.state.epoch, engine.state.max_epochs = epoch - 1, epoch
        engine.run([0, 1], max_epochs=epoch)
    assert len(list(tmp_path.glob("events*.pictures"))) == 1
    assert [path.name for path in sorted((tmp_path / "snapshots").iterdir())] == [
        f"epoch_{epoch:04d}.png" for epoch in (1, 2, 4)
    ]
    for left in ("epoch_2000.png", "epoch_10004.png"):
        (tmp_path / "snapshots" / left).write_bytes(b"")
    ValidationPictures(str(tmp_path), EXCLUSIVE)._remove_later(10002)  # of a resumed run
    assert [path.name for path in sorted((tmp_path / "snapshots").iterdir())] == [
        f"epoch_{epoch:04d}.png" for epoch in (1, 2, 4, 2000)
    ]

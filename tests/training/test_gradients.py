"""Gradients: accumulated, clipped, and where they are no numbers."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from small_training import trainer_of
from torch import nn

from volseg.errors import BundleError, UsageError
from volseg.training import GradientClipping
from volseg.training.handlers.optimization import batches_of_step


def batches_of(size: int, items: int = 8) -> list[dict[str, Any]]:
    generator = torch.Generator().manual_seed(1)
    image, label = (torch.randn(items, 1, 4, 4, 4, generator=generator) for _ in range(2))
    keys = [f"case{n}" for n in range(items)]
    parts = [slice(start, start + size) for start in range(0, items, size)]
    return [{"image": image[part], "label": label[part], "key": keys[part]} for part in parts]


def trained(
    batches: list[dict[str, Any]], *, accumulate: int = 1, clip_norm: float = 0.0, epochs: int = 2, loss: Any = None
) -> nn.Module:
    """A network after a training without any chance; double precision, so that the order of sums hardly matters."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Conv3d(1, 2, 3), nn.Tanh(), nn.ConvTranspose3d(2, 1, 3)).double()
    SupervisedTrainer(
        device="cpu",
        max_epochs=epochs,
        train_data_loader=batches,
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1, momentum=0.9),
        loss_function=loss or nn.MSELoss(),
        accumulation_steps=accumulate,
        to_kwargs={"dtype": torch.float64},
        train_handlers=[GradientClipping(clip_norm=clip_norm)],
    ).run()
    return network


def distance(one: nn.Module, other: nn.Module) -> float:
    return max(float((a - b).detach().abs().max()) for a, b in zip(one.parameters(), other.parameters(), strict=True))


def test_four_batches_of_one_are_a_batch_of_four():
    together = trained(batches_of(4))
    apart = trained(batches_of(1), accumulate=4)
    assert distance(together, apart) < 1e-12
    assert distance(together, trained(batches_of(1))) > 1e-4


def test_clipping_comes_after_accumulation():
    together = trained(batches_of(4), clip_norm=0.05)
    assert distance(together, trained(batches_of(1), accumulate=4, clip_norm=0.05)) < 1e-12
    assert distance(together, trained(batches_of(4))) > 1e-4


def test_a_last_group_of_fewer_batches_is_a_step_of_their_mean():
    """Six batches by four: MONAI's trainer alone would halve the second step."""
    six = batches_of(1, 6)
    groups = [
        {"image": torch.cat([item["image"] for item in part]), "label": torch.cat([item["label"] for item in part])}
        for part in (six[:4], six[4:])
    ]
    assert distance(trained(six, accumulate=4), trained(groups)) < 1e-12


@pytest.mark.parametrize(
    ("accumulate", "expected"), [(1, [1] * 5), (2, [0, 2, 0, 2, 1]), (5, [0, 0, 0, 0, 5]), (9, [0, 0, 0, 0, 5])]
)
def test_steps_are_counted_as_the_trainer_makes_them(accumulate, expected):
    told, made = [], []
    network = nn.Linear(1, 1)
    optimizer = torch.optim.SGD(network.parameters(), lr=0.1)
    optimizer.register_step_post_hook(lambda *_: made.append(len(told)))
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=2,
        train_data_loader=[{"image": torch.ones(1, 1), "label": torch.ones(1, 1)}] * 5,
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        accumulation_steps=accumulate,
    )
    trainer.add_event_handler(Events.ITERATION_COMPLETED, lambda engine: told.append(batches_of_step(engine)))
    trainer.run()
    assert told == expected * 2
    assert made == [n for n, batches in enumerate(told) if batches]


@pytest.mark.parametrize("clip_norm", [1e-3, 0.1, 1e6])
def test_the_gradients_are_never_longer_than_the_norm_and_keep_their_direction(clip_norm):
    network = nn.Linear(3, 2)
    seen = []
    optimizer = torch.optim.SGD(network.parameters(), lr=0.0)
    optimizer.register_step_pre_hook(lambda *_: seen.append([p.grad.clone() for p in network.parameters()]))
    for norm in (0.0, clip_norm):
        SupervisedTrainer(
            device="cpu",
            max_epochs=1,
            train_data_loader=[{"image": torch.ones(1, 3), "label": torch.ones(1, 2) * 9}],
            network=network,
            optimizer=optimizer,
            loss_function=nn.MSELoss(),
            train_handlers=[GradientClipping(clip_norm=norm)],
        ).run()
    free, clipped = (torch.cat([grad.flatten() for grad in grads]) for grads in seen)
    assert float(clipped.norm()) == pytest.approx(min(clip_norm, float(free.norm())), rel=1e-4)
    assert torch.allclose(clipped / clipped.norm(), free / free.norm(), atol=1e-5)


def test_schedules_of_torch_do_not_complain_of_accumulation():
    from monai.handlers import LrScheduleHandler

    network = nn.Linear(1, 1)
    optimizer = torch.optim.AdamW(network.parameters(), lr=0.1)
    before = [parameter.clone() for parameter in network.parameters()]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": torch.ones(1, 1), "label": torch.ones(1, 1)}] * 3,
        network=network,
        optimizer=optimizer,
        loss_function=nn.MSELoss(),
        accumulation_steps=3,
        train_handlers=[GradientClipping(), LrScheduleHandler(schedule, epoch_level=False, print_lr=False)],
    )
    still = []
    trainer.add_event_handler(
        Events.ITERATION_STARTED(once=3), lambda: still.extend(map(torch.equal, before, network.parameters()))
    )
    trainer.run()
    assert still == [True, True]  # the step that torch is shown changed nothing


@pytest.mark.parametrize("wrong", [math.nan, math.inf, -math.inf])
def test_a_loss_that_is_no_number_names_the_batch_and_the_cure(wrong):
    def loss(logits, target):
        return nn.functional.mse_loss(logits, target) * (wrong if bool((target == spoilt).all()) else 1)

    batches = batches_of(2)
    spoilt = batches[2]["label"].double()
    with pytest.raises(BundleError) as caught:
        trained(batches, loss=loss)
    told = str(caught.value)
    assert told.startswith(f"the loss is {wrong:g} at epoch 1, iteration 3, learning rate 0.1, batch case4, case5.")
    assert "--learning_rate" in told


def test_gradients_that_are_no_numbers_stop_too_where_they_are_clipped():
    class Rooted(nn.Module):
        def forward(self, logits, target):
            return (logits - logits.detach()).abs().sqrt().mean()  # 0, with infinite slope

    with pytest.raises(BundleError, match=r"the norm of the gradients is (nan|inf) at epoch 1.*batch case0, case1"):
        trained(batches_of(2), loss=Rooted(), clip_norm=1.0)


def test_nothing_is_saved_after_a_loss_that_is_no_number(tmp_path: Path):
    trainer = trainer_of(tmp_path)
    trainer.loss_function = lambda logits, _: logits.mean() * (math.nan if trainer.state.epoch == 3 else 1)
    with pytest.raises(BundleError, match=r"epoch 3, .* batch case\d"):
        trainer.run()
    for name, epoch in (("model", 2), ("last", 2)):
        stored = torch.load(tmp_path / f"{name}.pt", weights_only=True)
        assert stored.get("epoch", stored.get("validation", {}).get("epoch")) == epoch
        weights = stored.get("model", stored.get("network"))
        assert all(bool(torch.isfinite(tensor).all()) for tensor in weights.values())


@pytest.mark.parametrize("norm", [-1, math.nan, math.inf, "1"])
def test_another_norm_is_refused(norm):
    with pytest.raises(UsageError, match="--clip_norm must be"):
        GradientClipping(clip_norm=norm)

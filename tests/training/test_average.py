"""The moving average of the weights."""

from __future__ import annotations

import math
from pathlib import Path

import pytest
import torch
from ignite.engine import Events
from monai.engines import SupervisedTrainer
from small_training import trainer_of
from torch import nn

from volseg.errors import UsageError
from volseg.training import Average


def averages(decay: float, steps: int, *, accumulate: int = 1) -> tuple[list[dict[str, torch.Tensor]], Average]:
    """The network's state after each batch, and the average."""
    torch.manual_seed(0)
    network = nn.Sequential(nn.Linear(2, 2), nn.BatchNorm1d(2))
    average = Average(network, decay=decay)
    trainer = SupervisedTrainer(
        device="cpu",
        max_epochs=1,
        train_data_loader=[{"image": torch.randn(4, 2), "label": torch.randn(4, 2)} for _ in range(steps)],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=nn.MSELoss(),
        accumulation_steps=accumulate,
        train_handlers=[average],
    )
    seen: list[dict[str, torch.Tensor]] = []
    trainer.add_event_handler(
        Events.ITERATION_COMPLETED,
        lambda: seen.append({name: tensor.clone() for name, tensor in network.state_dict().items()}),
    )
    trainer.run()
    return seen, average


@pytest.mark.parametrize("decay", [0.15, 0.5, 0.999])
def test_the_average_follows_its_formula(decay):
    seen, average = averages(decay, 7)
    expected = seen[0]["0.weight"]
    for step, state in enumerate(seen[1:], start=1):
        now = min(decay, (1 + step) / (10 + step))
        expected = now * expected + (1 - now) * state["0.weight"]
    state = average.network.state_dict()
    assert torch.allclose(state["0.weight"], expected, atol=1e-6)
    for name in ("1.running_mean", "1.running_var", "1.num_batches_tracked"):
        assert torch.equal(state[name], seen[-1][name])


def test_the_average_moves_with_the_steps_of_the_optimizer():
    _, often = averages(0.9, 7)
    _, seldom = averages(0.9, 7, accumulate=3)
    assert int(often.state_dict()["n_averaged"]) == 7
    assert int(seldom.state_dict()["n_averaged"]) == 3  # 3, 3 and the one left


def test_the_average_is_another_network_and_without_one_the_same():
    network = nn.Linear(1, 1)
    off, on = Average(network, decay=0), Average(network, decay=0.5)
    assert off.network is network
    assert off.state_dict() == {}
    off.load_state_dict({})
    assert {id(p) for p in on.network.parameters()}.isdisjoint({id(p) for p in network.parameters()})


@pytest.mark.parametrize("decay", [-0.1, 1, 1.5, math.nan, "0.9"])
def test_another_decay_is_refused(decay):
    with pytest.raises(UsageError, match="--ema_decay must be"):
        Average(nn.Linear(1, 1), decay=decay)


def test_the_average_is_validated_and_saved(tmp_path: Path):
    trainer = trainer_of(tmp_path, ema_decay=0.9)
    trainer.run()
    state = torch.load(tmp_path / "last.pt", weights_only=True)
    average = {name.removeprefix("module."): tensor for name, tensor in state["average"].items()}
    model = torch.load(tmp_path / "model.pt", weights_only=True)
    assert model["validation"]["epoch"] == trainer.state.epoch  # the last one is the best here
    assert all(torch.equal(tensor, average[name]) for name, tensor in model["model"].items())
    assert not torch.equal(model["model"]["0.weight"], state["network"]["0.weight"])

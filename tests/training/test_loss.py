"""The losses, against formulas by hand and MONAI's where these are right, and deep supervision."""

from __future__ import annotations

import math
import warnings
from collections.abc import Callable
from typing import Any

import pytest
import torch
from monai.losses import DiceCELoss, DiceLoss, FocalLoss, TverskyLoss
from monai.networks.nets import DynUNet
from torch import Tensor, nn
from torch.nn.functional import binary_cross_entropy_with_logits

from volseg.errors import BundleError, LabelError
from volseg.inference import MixedPrecision
from volseg.labels import LabelTable
from volseg.training import DeepSupervision, bce, dice_bce, dice_ce, dice_focal, tversky
from volseg.training.losses import nearest

EXCLUSIVE = LabelTable.exclusive(["a", "b"])
OVERLAPPING = LabelTable.overlapping(["a", "b"])
LOSSES = (dice_ce, bce, dice_bce, dice_focal, tversky)

losses = pytest.mark.parametrize("make", LOSSES, ids=lambda make: make.__name__)
tables = pytest.mark.parametrize("labels", [EXCLUSIVE, OVERLAPPING], ids=["exclusive", "overlapping"])


def example(labels: LabelTable, *, batch: int = 2, size: int = 4, seed: int = 0) -> tuple[Tensor, Tensor]:
    """Logits and a target of a label table."""
    torch.manual_seed(seed)
    logits = 2 * torch.randn(batch, labels.channels, size, size, size)
    if labels.overlap:
        return logits, (torch.rand(batch, len(labels.names), size, size, size) < 0.4).float()
    return logits, torch.randint(0, labels.channels, (batch, 1, size, size, size)).float()


def certain(labels: LabelTable, target: Tensor, *, logit: float = 40) -> Tensor:
    """The logits of a network that knows the target."""
    masks = target if labels.overlap else nn.functional.one_hot(target[:, 0].long(), labels.channels).movedim(-1, 1)
    return (2 * masks.float() - 1) * logit


# --- the values


@losses
@tables
def test_a_perfect_prediction_costs_nothing_and_a_wrong_one_much(make: Callable[..., nn.Module], labels: Any) -> None:
    _, target = example(labels)
    right = certain(labels, target)
    loss = make(labels)
    assert float(loss(right, target)) == pytest.approx(0, abs=1e-4)
    assert float(loss(-right, target)) > 0.5
    logits, _ = example(labels)
    assert float(loss(right, target)) < float(loss(logits, target)) < float(loss(-right, target))


@losses
def test_regions_do_not_compete_where_they_overlap(make: Callable[..., nn.Module]) -> None:
    """MONAI's DiceCELoss with sigmoid takes a softmax cross entropy: a voxel in two regions could never be right."""
    target = torch.ones(1, 2, 4, 4, 4)
    logits = torch.full_like(target, 20)
    assert float(make(OVERLAPPING)(logits, target)) < 1e-4
    assert float(DiceCELoss(sigmoid=True)(logits, target)) > 1


def test_the_default_is_what_it_was() -> None:
    logits, classes = example(EXCLUSIVE)
    monai = DiceCELoss(to_onehot_y=True, softmax=True, include_background=False, batch=True)
    torch.testing.assert_close(dice_ce(EXCLUSIVE)(logits, classes), monai(logits, classes))
    logits, masks = example(OVERLAPPING)
    parts = DiceLoss(sigmoid=True, batch=True)(logits, masks) + binary_cross_entropy_with_logits(logits, masks)
    torch.testing.assert_close(dice_ce(OVERLAPPING)(logits, masks), parts)


def test_each_term_by_hand() -> None:
    """One voxel a region: probabilities 3/4 where there is one and 1/4 where there is none."""
    three = math.log(3)
    masks = torch.tensor([1.0, 0.0]).view(1, 1, 2, 1, 1)
    logits = torch.tensor([three, -three]).view(1, 1, 2, 1, 1)
    one = LabelTable.of({"a": [1, 2], "b": 2})
    assert one.overlap
    masks, logits = masks.expand(1, 2, 2, 1, 1), logits.expand(1, 2, 2, 1, 1)
    entropy = -math.log(0.75)
    dice = 1 - 2 * 0.75 / (0.75 + 0.25 + 1)
    assert float(bce(one)(logits, masks)) == pytest.approx(entropy, abs=1e-5)
    assert float(dice_ce(one)(logits, masks)) == pytest.approx(dice + entropy, abs=1e-5)
    assert float(dice_bce(one, dice_weight=3, bce_weight=0.1)(logits, masks)) == pytest.approx(
        3 * dice + 0.1 * entropy, abs=1e-5
    )
    assert float(dice_focal(one, gamma=2)(logits, masks)) == pytest.approx(dice + 0.25**2 * entropy, abs=1e-5)
    missed, invented = 0.25, 0.25
    expected = 1 - 0.75 / (0.75 + 0.1 * invented + 0.6 * missed)
    assert float(tversky(one, alpha=0.1, beta=0.6)(logits, masks)) == pytest.approx(expected, abs=1e-5)


def test_softmax_terms_by_hand() -> None:
    """Two voxels of classes 1 and 0; the background has no Dice term."""
    logits = torch.log(torch.tensor([[0.2, 0.7, 0.1], [0.5, 0.25, 0.25]])).T.reshape(1, 3, 2, 1, 1)
    classes = torch.tensor([1, 0]).view(1, 1, 2, 1, 1)
    entropy = -(math.log(0.7) + math.log(0.5)) / 2
    of_a = 1 - 2 * 0.7 / (0.95 + 1)
    of_b = 1.0  # in no voxel, invented by 0.35
    assert float(bce(EXCLUSIVE)(logits, classes)) == pytest.approx(entropy, abs=1e-5)
    assert float(dice_ce(EXCLUSIVE)(logits, classes)) == pytest.approx((of_a + of_b) / 2 + entropy, abs=1e-4)
    weighed = dice_ce(EXCLUSIVE, region_weights={"a": 3, "background": 0.5})(logits, classes)
    expected = (3 * of_a + of_b) / 4 - (3 * math.log(0.7) + 0.5 * math.log(0.5)) / 3.5
    assert float(weighed) == pytest.approx(expected, abs=1e-4)


@pytest.mark.parametrize("gamma", [1, 2, 3.5])
def test_the_focal_loss_is_monais_where_that_is_a_mean_over_voxels(gamma: float) -> None:
    logits, masks = example(OVERLAPPING)
    loss = dice_focal(OVERLAPPING, gamma=gamma, dice_weight=0)
    torch.testing.assert_close(loss(logits, masks), FocalLoss(gamma=gamma)(logits, masks))
    logits, classes = example(EXCLUSIVE)
    loss = dice_focal(EXCLUSIVE, gamma=gamma, dice_weight=0)
    monai = FocalLoss(gamma=gamma, use_softmax=True, to_onehot_y=True)(logits, classes)
    torch.testing.assert_close(loss(logits, classes), monai * EXCLUSIVE.channels)


@tables
def test_the_losses_meet_where_their_options_say_so(labels: LabelTable) -> None:
    logits, target = example(labels)
    default = dice_ce(labels)(logits, target)
    for same in (
        dice_focal(labels, gamma=0),
        dice_bce(labels, dice_weight=1, bce_weight=1),
        tversky(labels, alpha=0.5, beta=0.5, bce_weight=1),
        dice_ce(labels, region_weights={"a": 7, "b": 7} | ({} if labels.overlap else {"background": 7})),
    ):
        torch.testing.assert_close(same(logits, target), default)
    monai = TverskyLoss(alpha=0.2, beta=0.9, batch=True, reduction="mean", **kind(labels))
    torch.testing.assert_close(tversky(labels, alpha=0.2, beta=0.9)(logits, target), monai(logits, target))


def kind(labels: LabelTable) -> dict[str, bool]:
    return {"sigmoid": True} if labels.overlap else {"softmax": True, "to_onehot_y": True, "include_background": False}


@losses
@tables
def test_a_region_of_weight_0_does_not_count(make: Callable[..., nn.Module], labels: LabelTable) -> None:
    logits, target = example(labels)
    loss = make(labels, region_weights={"b": 0})
    if labels.overlap:
        other = logits.clone()
        other[:, 1] = 9
        torch.testing.assert_close(loss(logits, target), loss(other, target))
    else:
        only_b = torch.full_like(target, 2)
        assert math.isfinite(float(loss(logits, only_b)))
        everything = make(labels, region_weights={"b": 0, "background": 0})
        assert math.isfinite(float(everything(logits, only_b)))


@losses
@tables
def test_the_order_of_regions_cases_and_axes_does_not_matter(make: Callable[..., nn.Module], labels: Any) -> None:
    logits, target = example(labels, size=3)
    loss = make(labels)(logits, target)
    torch.testing.assert_close(make(labels)(logits.flip(0), target.flip(0)), loss)
    torch.testing.assert_close(make(labels)(logits.transpose(2, 4), target.transpose(2, 4)), loss)
    if labels.overlap:
        torch.testing.assert_close(make(labels)(logits.flip(1), target.flip(1)), loss)
    else:
        swapped = torch.tensor([0.0, 2.0, 1.0])[target.long()]
        torch.testing.assert_close(make(labels)(logits[:, [0, 2, 1]], swapped), loss)


@pytest.mark.parametrize("weights", [None, {"b": 5}])
@pytest.mark.parametrize("dtype", [torch.uint8, torch.bool, torch.int64, torch.float16])
def test_the_type_of_the_target_does_not_matter(dtype: torch.dtype, weights: Any) -> None:
    for labels in (OVERLAPPING, *([] if dtype == torch.bool else [EXCLUSIVE])):
        logits, target = example(labels)
        for make in LOSSES:
            loss = make(labels, region_weights=weights)
            torch.testing.assert_close(loss(logits, target.to(dtype)), loss(logits, target))


# --- the gradients


@losses
@tables
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["random", "perfect", "wrong", "empty", "full"])
def test_gradients_are_finite(make: Callable[..., nn.Module], labels: Any, dtype: torch.dtype, kind: str) -> None:
    logits, target = example(labels)
    if kind in ("empty", "full"):
        target = torch.full_like(target, kind == "full")
    elif kind != "random":
        logits = certain(labels, target, logit=1000 if kind == "perfect" else -1000)
    logits = logits.to(dtype).requires_grad_()
    for weights in (None, {"a": 0.5}):
        loss = make(labels, region_weights=weights)(logits, target)
        assert loss.dtype == torch.float32
        assert torch.isfinite(loss)
        (gradient,) = torch.autograd.grad(loss, logits)
        assert gradient.dtype == dtype
        assert torch.isfinite(gradient).all()
        # The probabilities of a certain network are flat: only a cross entropy can turn it round.
        assert kind == "perfect" or make is tversky or gradient.abs().max() > 0


@pytest.mark.parametrize("gamma", [0.5, 0.1])
def test_a_focal_loss_of_a_small_gamma_has_a_gradient_where_the_network_is_certain(gamma: float) -> None:
    target = torch.ones(1, 2, 4, 4, 4)
    logits = torch.full_like(target, 200, requires_grad=True)
    dice_focal(OVERLAPPING, gamma=gamma)(logits, target).backward()
    assert logits.grad is not None
    assert torch.isfinite(logits.grad).all()


@losses
@tables
def test_a_step_along_the_gradient_lowers_the_loss(make: Callable[..., nn.Module], labels: LabelTable) -> None:
    logits, target = example(labels)
    logits.requires_grad_()
    loss = make(labels)
    before = loss(logits, target)
    (gradient,) = torch.autograd.grad(before, logits)
    assert loss(logits - gradient, target) < before


def test_an_absent_region_pushes_its_probabilities_down() -> None:
    for make in LOSSES:
        logits = torch.zeros(1, 2, 4, 4, 4, requires_grad=True)
        make(OVERLAPPING)(logits, torch.zeros(1, 2, 4, 4, 4)).backward()
        assert logits.grad is not None
        assert (logits.grad >= 0).all()


# --- what is refused


@pytest.mark.parametrize(
    ("weights", "told"),
    [
        ({"stomache": 2}, r"names 'stomache', which is no region; did you mean stomach\?"),
        ({"background": 2}, r"the names are stomach, bowel"),
        ({"bowel": -1}, "bowel the weight -1, expected a number of at least 0"),
        ({"bowel": "2"}, "expected a number"),
        ({"bowel": math.nan}, "expected a number"),
        ({"bowel": 0, "stomach": 0}, "every region the weight 0"),
        ([1, 2], "must be weights by name such as {'stomach': 2}"),
    ],
)
def test_weights_that_cannot_be_are_refused(weights: Any, told: str) -> None:
    with pytest.raises(LabelError, match=told):
        dice_ce(LabelTable.overlapping(["stomach", "bowel"]), region_weights=weights)


def test_terms_that_cannot_be_are_refused() -> None:
    for options in ({"dice_weight": -1}, {"bce_weight": -0.1}, {"dice_weight": 0, "bce_weight": 0}):
        with pytest.raises(BundleError, match="none may be below 0"):
            dice_bce(EXCLUSIVE, **options)
    with pytest.raises(BundleError, match="gamma is -1"):
        dice_focal(EXCLUSIVE, gamma=-1)


@tables
def test_shapes_that_do_not_fit_are_refused(labels: LabelTable) -> None:
    logits, target = example(labels)
    for wrong in (logits[:, :1], logits[..., :2], logits[:1]):
        with pytest.raises(BundleError, match=f"expected {labels.channels} channels .*a, b"):
            dice_ce(labels)(wrong, target)


# --- deep supervision


class Constant(nn.Module):
    """A loss that notes what it is given, and gives back the mean of the logits."""

    def __init__(self) -> None:
        super().__init__()
        self.given: list[tuple[Tensor, Tensor]] = []

    def forward(self, logits: Tensor, target: Tensor) -> Tensor:
        self.given.append((logits, target))
        return logits.mean()


@losses
@tables
def test_a_single_output_is_just_the_loss(make: Callable[..., nn.Module], labels: LabelTable) -> None:
    logits, target = example(labels)
    loss = make(labels)
    expected = loss(logits, target)
    assert float(DeepSupervision(loss)(logits, target)) == float(expected)
    assert float(DeepSupervision(loss)([logits], target)) == float(expected)
    torch.testing.assert_close(DeepSupervision(loss)((logits, logits, logits), target), expected)
    torch.testing.assert_close(DeepSupervision(loss)(torch.stack([logits] * 3, dim=1), target), expected)


def test_weights_halve_from_output_to_output() -> None:
    outputs = [torch.full((1, 2, 8 // n, 8 // n, 4), float(value)) for n, value in ((1, 7), (2, 70), (4, 700))]
    loss = DeepSupervision(Constant())(outputs, torch.zeros(1, 2, 8, 8, 4))
    assert float(loss) == pytest.approx((4 * 7 + 2 * 70 + 700) / 7)


def test_targets_follow_the_outputs_in_size() -> None:
    inner = Constant()
    target = torch.arange(8.0).view(1, 1, 8, 1, 1).expand(1, 1, 8, 2, 2).to(torch.uint8)
    DeepSupervision(inner)([torch.zeros(1, 1, n, 2, 2) for n in (8, 4, 2, 1)], target)
    assert [given.shape[2:] for _, given in inner.given] == [(8, 2, 2), (4, 2, 2), (2, 2, 2), (1, 2, 2)]
    assert [given[0, 0, :, 0, 0].tolist() for _, given in inner.given[1:]] == [[1, 3, 5, 7], [2, 6], [4]]
    assert all(given.dtype == torch.uint8 for _, given in inner.given)
    assert inner.given[0][1] is target


def test_a_smaller_target_holds_no_value_that_the_target_does_not() -> None:
    target = torch.randint(0, 2, (2, 3, 7, 9, 5)).bool()
    small = nearest(target, (3, 4, 5))
    assert small.shape == (2, 3, 3, 4, 5)
    assert small.dtype == torch.bool
    assert torch.equal(nearest(torch.full((1, 1, 4, 4, 4), 3), (2, 3, 1)), torch.full((1, 1, 2, 3, 1), 3))


@pytest.mark.parametrize("outputs", [[], (), {"logits": 1}, None])
def test_what_is_no_output_is_refused(outputs: Any) -> None:
    with pytest.raises(BundleError, match="expected logits or a list of them"):
        DeepSupervision(Constant())(outputs, torch.zeros(1, 1, 2, 2, 2))


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@tables
def test_one_training_step_of_monais_own_deeply_supervised_network(labels: LabelTable, precision: str) -> None:
    from monai.inferers import SimpleInferer

    torch.manual_seed(0)
    network = DynUNet(
        spatial_dims=3,
        in_channels=1,
        out_channels=labels.channels,
        kernel_size=[3] * 4,
        strides=[1, 2, 2, 2],
        upsample_kernel_size=[2] * 3,
        filters=[4, 4, 4, 4],
        deep_supervision=True,
        deep_supr_num=2,
    )
    _, target = example(labels, size=16)
    inferer = MixedPrecision(SimpleInferer(), precision=precision)
    loss = DeepSupervision(dice_ce(labels))
    outputs = inferer(torch.randn(2, 1, 16, 16, 16), network)
    assert isinstance(outputs, Tensor)
    assert outputs.shape == (2, 3, labels.channels, 16, 16, 16)
    loss(outputs, target).backward()
    assert all(
        parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in network.parameters()
    )
    assert inferer(torch.randn(2, 1, 16, 16, 16), network.eval()).shape == (2, labels.channels, 16, 16, 16)


def test_several_outputs_come_back_as_float32_each() -> None:
    from monai.inferers import SimpleInferer

    layer = nn.Conv3d(1, 2, 1)
    for several in (list, tuple):
        inferer = MixedPrecision(SimpleInferer(), precision="bf16")
        outputs = inferer(
            torch.randn(1, 1, 4, 4, 4), lambda x, several=several: several([layer(x), layer(x[..., ::2])])
        )
        assert [part.dtype for part in outputs] == [torch.float32] * 2
        assert [part.shape[-1] for part in outputs] == [4, 2]


def test_monais_trainer_takes_a_list_of_outputs() -> None:
    """The trainer hands out what the network returned, split into cases."""
    from monai.engines import SupervisedTrainer

    class Network(nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.layer = nn.Conv3d(1, 2, 1)

        def forward(self, x: Tensor) -> list[Tensor]:
            return [self.layer(x), self.layer(x[..., ::2, ::2, ::2])]

    network = Network()
    batch = {"image": torch.randn(3, 1, 4, 4, 4), "label": torch.ones(3, 2, 4, 4, 4)}
    trainer = SupervisedTrainer(
        device=torch.device("cpu"),
        max_epochs=1,
        train_data_loader=[batch],
        network=network,
        optimizer=torch.optim.SGD(network.parameters(), lr=0.1),
        loss_function=DeepSupervision(dice_ce(OVERLAPPING)),
    )
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        trainer.run()
    assert len(trainer.state.output) == 3
    assert math.isfinite(trainer.state.output[0]["loss"])

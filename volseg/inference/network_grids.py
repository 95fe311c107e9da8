"""Networks of an ensemble that see the image on several grids or normalised otherwise, and their mean logits."""

from __future__ import annotations

from collections.abc import Callable, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from monai.data import MetaTensor
from monai.transforms import Compose
from torch import Tensor

from volseg.bundle import Recipe
from volseg.errors import CheckpointError
from volseg.inference.ensemble import LogitsFunction, image_order, mean_logits, region_order
from volseg.inference.normalisation import normalise_alike
from volseg.transforms import NativeProbabilitiesd, split_at_normalisation

if TYPE_CHECKING:
    from volseg.inference.predictor import Predictor


def group_by_spacing(networks: Sequence[Predictor]) -> list[list[Predictor]]:
    """Group networks by the spacing of their input; the group of the first network is the first."""
    found: dict[tuple[float, ...], list[Predictor]] = {}
    for network in networks:
        found.setdefault(tuple(round(float(mm), 3) for mm in network.recipe.spacing_mm), []).append(network)
    return list(found.values())


def steps_to_image(members: Sequence[Predictor]) -> Compose:
    """The preprocessing that the networks of one grid share.

    Those of several normalisations share the resampled image, and each normalises it.
    """
    first = members[0].preprocessing
    return first if _alike(members) else split_at_normalisation(first)[0]


def logits_of_grid(item: Mapping[str, Any], members: Sequence[Predictor], *, like: Predictor) -> Tensor:
    """Compute the mean logits of the networks of one grid, on the CPU.

    Args:
        item: Item of a case whose `image` went through `steps_to_image`.
        members: Networks of one spacing.
        like: Predictor whose order of regions, device and mirror images are taken.
    """
    image = item["image"].as_tensor()[None]
    alike = _alike(members)
    image = image.to(like.device) if alike else image
    logits_of = [_logits_like(one, like.recipe, given=members[0].recipe, normalised=alike) for one in members]
    return mean_logits(image, logits_of, like.recipe.labels, flips=like.flips)


def to_native(predictor: Predictor) -> Callable[..., dict[Hashable, Any]]:
    """The step of a bundle that resamples logits to the grid of the files, as probabilities, for several grids.

    Raises:
        CheckpointError: The postprocessing of the bundle begins with another step.
    """
    steps = predictor.postprocessing.transforms
    if not steps or not isinstance(steps[0], NativeProbabilitiesd):
        raise CheckpointError(
            f"{predictor.checkpoint} makes an ensemble of several spacings, and its bundle's postprocessing does not "
            "begin with the way back to the grid of the files; pack it with this volseg, or predict with it alone"
        )
    return steps[0]


def postprocess_sum(predictor: Predictor, item: Mapping[str, Any]) -> dict[str, Any]:
    """Run the postprocessing, and add the sum of the other grids' probabilities, `total`, after its first step."""
    native = to_native(predictor)(dict(item))
    total, share = native.pop("total"), native["pred"]
    mean = share.as_tensor().mul_(len(predictor.grids[0])).add_(total).div_(len(predictor.networks))
    done: dict[str, Any] = Compose(predictor.postprocessing.transforms[1:])(
        {**native, "pred": MetaTensor(mean, affine=share.affine)}
    )
    return done


def _alike(members: Sequence[Predictor]) -> bool:
    return normalise_alike([member.recipe for member in members])


def _logits_like(member: Predictor, first: Recipe, *, given: Recipe, normalised: bool) -> LogitsFunction:
    """A function that computes logits of an image with regions in the order of another network.

    Args:
        member: Network that computes.
        first: Recipe of the network whose order of regions is taken.
        given: Recipe of the network whose channels the image has, in its order.
        normalised: Whether the image is ready; if not, it is on the CPU and is normalised as the network has it.
    """
    regions = region_order(member.recipe.labels, like=first.labels)
    channels = image_order(member.recipe.channel_names, among=given.channel_names)
    ordered = regions in (None, sorted(regions or ())) and channels in (None, sorted(channels or ()))

    def logits_of(image: Tensor) -> Tensor:
        image = image if ordered else image[:, channels]
        logits: Tensor = member.inferer(image if normalised else _normalised(member, image), member.engine)[0]
        return logits if ordered else logits[regions]

    return logits_of


def _normalised(member: Predictor, image: Tensor) -> Tensor:
    """An image (1, C, X, Y, Z) of a network's channels in its normalisation, on its device."""
    steps = split_at_normalisation(member.preprocessing)[1]
    normalised: Tensor = steps({"image": MetaTensor(image[0].clone())})["image"].as_tensor()
    return normalised[None].to(member.device)

"""The parts of a predictor as the `inference.json` of a bundle builds them, with the weights of a checkpoint."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import nn

import volseg
from volseg import bundle as bundles
from volseg.bundle import WITHOUT_PRIOR, Recipe, check_settings, read_checkpoint, read_recipe
from volseg.errors import BundleError, CheckpointError, UsageError, root_error
from volseg.inference.arrays.packed import need_int8
from volseg.inference.arrays.settings import ArraySettings
from volseg.inference.engines import EXPORTED, Engine, OpenVinoEngine, TorchEngine, check_device
from volseg.inference.lazy_monai import name_modules
from volseg.inference.normalisation import check_intensities
from volseg.transforms import with_decision


@dataclass(frozen=True, eq=False)
class BundleParts:
    """What a `volseg.inference.Predictor` of one network is made of; its attributes are told there."""

    network: nn.Module
    preprocessing: Compose
    inferer: Inferer
    postprocessing: Compose
    checkpoint: Path
    recipe: Recipe
    device: torch.device
    engine: Engine
    exported: Path | None
    without_prior: BundleParts | None = None


def read_parts(
    bundle: str | Path,
    *,
    checkpoint: str | Path | None,
    device: str | None,
    overrides: Mapping[str, Any] | None,
) -> BundleParts:
    """Build the parts; arguments and errors are those of `volseg.inference.Predictor.from_bundle`."""
    from monai.bundle import ConfigParser

    folder = bundles.find(bundle)
    parser = ConfigParser()
    parser.read_config(name_modules(bundles.read_config(folder, "inference.json")))
    overrides = dict(overrides or {})
    decision = overrides.pop("decision", None)
    int8 = overrides.get("precision") == "int8"  # that of a packed network, which the bundle's steps do not know
    overrides |= {"precision": "fp32"} if int8 else {}
    _set(parser, folder, overrides, checkpoint=checkpoint, device=device)
    config = deepcopy(parser.get())
    names = ("network", "preprocessing", "inferer", "postprocessing", "device")
    if missing := [name for name in ("checkpoint", *names) if name not in parser]:
        raise BundleError(
            f"inference.json of {folder.name} has no {' and no '.join(missing)}, as a bundle of volseg has; name one "
            "that `volseg bundles copy` or `volseg pack` wrote"
        )
    path = Path(parser.get_parsed_content("checkpoint"))
    recipe = read_recipe(path)
    check_settings(folder, recipe, checkpoint=path)
    try:
        network, before, inferer, after, place = (parser.get_parsed_content(name) for name in names)
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        if newer := bundles.newer_version(folder):
            raise BundleError(
                f"{folder.name} was written by volseg {newer} and cannot be read by {volseg.__version__} "
                f"({root_error(error)}); update volseg"
            ) from error
        raise root_error(error) from error
    after = after if decision in (None, "threshold") else with_decision(after, decision)
    plain = _of_no_prior(config, path, folder, decision) if recipe.takes_prior else None
    _load_weights(network, path, folder)
    check_intensities(before, recipe, checkpoint=path)
    place = torch.device(place)
    engine: Engine = TorchEngine(network.eval(), device=place, precision=getattr(inferer, "precision", "fp32"))
    exported = folder / EXPORTED
    own = checkpoint is None and exported.is_file()
    if int8:
        if place.type != "cpu":
            raise UsageError(f"--precision int8 runs on the CPU, not on {place}; add --device cpu, or use bf16")
        exported = need_int8(ArraySettings(folder, path, checkpoint is None))
        window = (len(recipe.channel_names), *recipe.roi_size)
        engine = OpenVinoEngine(network, window=window, precision="int8", exported=exported)
    return BundleParts(network, before, inferer, after, path, recipe, place, engine, exported if own else None, plain)


def _of_no_prior(
    config: dict[str, Any], path: Path, folder: Path, decision: str | Mapping[str, Any] | None
) -> BundleParts | None:
    """The network for cases without a prior that a checkpoint holds beside the one with a prior, if it does."""
    from monai.bundle import ConfigParser

    state = read_checkpoint(path)
    if WITHOUT_PRIOR not in state:
        return None
    parser = ConfigParser(config)
    stated = f"$volseg.bundle.read_recipe(@checkpoint, part='{WITHOUT_PRIOR}')"
    parser.update({"checkpoint": bundles.literal(str(path)), "recipe": stated})
    names = ("network", "preprocessing", "inferer", "postprocessing", "device")
    try:
        recipe = read_recipe(path, part=WITHOUT_PRIOR)
        network, before, inferer, after, place = (parser.get_parsed_content(name) for name in names)
        network.load_state_dict(state[WITHOUT_PRIOR]["model"])
    except (RuntimeError, ValueError, TypeError, KeyError, CheckpointError) as error:
        raise CheckpointError(
            f"{path} holds a network for cases without a prior that is none of {folder.name} "
            f"({str(root_error(error)).splitlines()[0]}); train again with --prior true"
        ) from error
    after = after if decision in (None, "threshold") else with_decision(after, decision)
    place = torch.device(place)
    engine = TorchEngine(network.eval(), device=place, precision=getattr(inferer, "precision", "fp32"))
    return BundleParts(network, before, inferer, after, path, recipe, place, engine, None)


def _set(
    parser: Any,  # noqa: ANN401 - a ConfigParser, which MONAI is asked for inside the function above
    folder: Path,
    overrides: Mapping[str, Any],
    *,
    checkpoint: str | Path | None,
    device: str | None,
) -> None:
    """Put the settings of the user into a bundle's configuration."""
    unknown = [name for name in overrides if name not in parser]
    if unknown:
        raise BundleError(f"the bundle {folder.name} has no setting {', '.join(unknown)}; pack it with this volseg")
    settings = {"bundle_root": str(folder), "output_dir": None, **overrides}
    parser.update(bundles.path_values(settings, ids=list(parser.get())))
    if checkpoint is not None:  # a packed bundle states the recipe of its own one in words
        stated = bundles.literal(str(checkpoint))
        parser.update({"checkpoint": stated, "recipe": "$volseg.bundle.read_recipe(@checkpoint)"})
    if device is not None:
        parser.update({"device": str(check_device(device))})


def _load_weights(network: nn.Module, checkpoint: Path, folder: Path) -> None:
    """Put the weights of a checkpoint into the network of a bundle."""
    state = read_checkpoint(checkpoint)
    try:
        network.load_state_dict(state["model"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"the weights must be those of the network of {folder.name}, got {checkpoint} of another one; name its own "
            "bundle"
        ) from error

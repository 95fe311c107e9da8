"""The configs of a package: with the recipe as values, and with the package's own network."""

from __future__ import annotations

import inspect
import json
import logging
import re
from collections.abc import Mapping
from pydoc import locate
from typing import Any

from volseg.bundle import Recipe, literal_text
from volseg.errors import BundleError

logger = logging.getLogger(__name__)

# Settings that name files and folders, and what they are where nobody has typed one.
_PATHS: dict[str, str | None] = {
    "bundle_root": "$volseg.bundle.root()",
    "data_dir": "$volseg.bundle.data_dir(@bundle_root)",
    "embedded_dir": "$@data_dir + '/phantom'",
    "dataset_dir": "$@data_dir + '/phantom'",
    "output_dir": "$@data_dir + '/predictions'",
    "cache_dir": "$@data_dir + '/cache'",
    "plan_file": None,
    "weights": None,
    "prior_predictions": None,
}


def packed_configs(configs: Mapping[str, Mapping[str, Any]], recipe: Recipe) -> dict[str, dict[str, Any]]:
    """The configs with the package's paths and the recipe as values; those of a package are brought up to date.

    Args:
        configs: JSON content by file name.
        recipe: Recipe of the checkpoint.

    Raises:
        BundleError: A name would be run as code by MONAI.
    """
    packed = {name: dict(content) for name, content in configs.items()}
    own = _literal(
        {
            "_target_": "volseg.bundle.Recipe",
            "labels": {
                "_target_": "volseg.labels.LabelTable.from_dataset_json",
                "dataset": recipe.labels.to_dataset_json(),
            },
            "channel_names": list(recipe.channel_names),
            "spacing_mm": [float(mm) for mm in recipe.spacing_mm],
            "roi_size": [int(n) for n in recipe.roi_size],
            "network": dict(recipe.network),
            **({} if recipe.normalisation is None else {"normalisation": recipe.normalisation}),
        }
    )
    inference = packed["inference.json"]
    network = _resolved({**inference, "recipe": own}, "network_def")
    inference |= {
        "checkpoint": "$@bundle_root + '/models/model.pt'",
        "stated_recipe": own,
        "recipe": "$volseg.bundle.packed_recipe(@checkpoint, @stated_recipe)",
    }
    training = packed["train.json"]
    training["output_dir"] = "$volseg.bundle.models_dir(@bundle_root)"
    refresh = "$volseg.deploy.pack.refresh(@bundle_root, output_dir=@output_dir)"
    steps = training.get("training")
    if isinstance(steps, list) and refresh not in steps:
        training["training"] = [*steps, refresh]
    if "of_package" in training:
        training |= {"package": own, "package_network": _arguments(network)}
    elif {"cohort", "dataset_dir", "embedded_dir"} <= training.keys() and isinstance(training.get("network_def"), dict):
        training |= _of_package(training, network=network, recipe=own, flip_axes=recipe.facts.get("flip_axes"))
    return packed


def of_no_machine(config: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config without the files and folders that its author has typed, which no other machine has.

    With a cohort of the author's own as `dataset_dir`, MONAI's tools would look for it before they build the network.
    """
    own = {name: value for name, value in _PATHS.items() if name in config and _is_typed(name, config[name])}
    if "dataset_dir" in own and "embedded_dir" in config:
        own["dataset_dir"] = "@embedded_dir"
    for name, value in own.items():
        logger.info("%s named a place on this machine, and is %s in the package", name, json.dumps(value))
    return {**config, **own}


def _is_typed(name: str, value: object) -> bool:
    """Whether a setting is a path as a user types it, and no expression; `weights` may be a word, such as `auto`."""
    text = literal_text(value)
    if not isinstance(text, str) or text.startswith(("$", "@", "%")):
        return False
    return name != "weights" or "/" in text or "\\" in text


def _of_package(
    training: Mapping[str, Any], *, network: Mapping[str, Any], recipe: Mapping[str, Any], flip_axes: object
) -> dict[str, Any]:
    """The changes in train.json that make network and data handling the package's own until a cohort is named.

    `monai.bundle.load` builds `network_def` of train.json and copies weights by name and shape. MONAI resolves every
    reference of an expression, so the cohort itself must cost nothing: see `volseg.datasets.PackageCohort`. MONAI Label
    replaces the two lists of cases; what else would be measured on a cohort is stated by the recipe then.
    """
    stated = training["network_def"]
    arguments: dict[str, Any] = dict(stated)
    if stated.get("_target_") == network.get("_target_"):
        defaults = _defaults(str(stated["_target_"]))
        for name in [name for name in {**stated, **network} if not name.startswith("_")]:
            if name in network:
                before = stated.get(name, defaults.get(name))
                arguments[name] = _or_of_package(f"@package_network[{name!r}]", before)
            elif name in defaults:  # such as published weights to start from
                arguments[name] = _or_of_package(repr(defaults[name]), stated[name])
    own = {
        "spacing_mm": "list(@package.spacing_mm)",
        "roi_size": "list(@package.roi_size)",
        "normalisation": "@package.normalisation",
        "flip_axes": repr([int(axis) for axis in flip_axes] if isinstance(flip_axes, list) else []),
        "background_share": "volseg.plan.usual_background_share(regions=len(@package.labels.names))",
        "cached_in": (
            "volseg.training.choose_cache(@cache, @cohort, fold=@fold, spacing_mm=@spacing_mm, roi_size=@roi_size, "
            "channels=@priors.cached_channels, cases=[@train#dataset#data, @validate#dataset#data])"
        ),
    }
    return {
        "cases_dir": None,
        "package": recipe,
        "package_network": _arguments(network),
        "of_package": "$@dataset_dir == @embedded_dir",
        "cohort": _or_of_package(
            "volseg.datasets.PackageCohort(@package.labels, @package.channel_names, @package.roi_size, "
            "embedded=@embedded_dir, cases=@cases_dir)",
            training["cohort"],
        ),
        **{name: _or_of_package(value, training[name]) for name, value in own.items() if name in training},
        "network_def": arguments,
    }


def _arguments(network: Mapping[str, Any]) -> dict[str, Any]:
    return {name: value for name, value in network.items() if not name.startswith("_")}


def _or_of_package(own: str, before: Any) -> str:  # noqa: ANN401 - JSON
    """An expression: the package's own value as long as no cohort is named, then the value before."""
    if isinstance(before, str) and before.startswith("$"):
        other = before[1:]
    else:
        other = before if isinstance(before, str) and before.startswith("@") else repr(before)
    return f"${own} if @of_package else ({other})"


def _resolved(config: Mapping[str, Any], name: str) -> dict[str, Any]:
    """One part of a config with its expressions evaluated, without building it.

    Raises:
        BundleError: An argument cannot be written as JSON.
    """
    from monai.bundle import ConfigParser

    stated = config[name]
    # The arguments alone are no component, so that MONAI evaluates them and builds nothing.
    parser = ConfigParser({**config, "arguments": {key: stated[key] for key in stated if key != "_target_"}})
    resolved = {"_target_": stated["_target_"], **parser.get_parsed_content("arguments")}
    try:
        content: dict[str, Any] = json.loads(json.dumps(resolved))
    except TypeError as error:
        raise BundleError(f"{name} of inference.json has an argument that JSON cannot hold: {error}") from error
    return dict(_literal(content))


def _defaults(target: str) -> dict[str, Any]:
    """The default arguments of the class or function that a config names; none if they cannot be determined."""
    from monai.bundle import ComponentLocator

    try:
        path = target if "." in target else ComponentLocator().get_component_module_name(target)
        found = locate(path if "." in target else f"{path}.{target}")
        arguments = inspect.signature(found).parameters.values()  # type: ignore[arg-type]  # checked by what it raises
    except (TypeError, ValueError, AttributeError):
        return {}
    return {argument.name: argument.default for argument in arguments if argument.default is not argument.empty}


def _literal(content: Any) -> Any:  # noqa: ANN401 - JSON
    """The content, once no text in it is one that MONAI's parser would evaluate or replace.

    >>> _literal(["$import os"])
    Traceback (most recent call last):
    volseg.errors.BundleError: '$import os' in the checkpoint's recipe would be run as code; rename it in the cohort
    """
    if isinstance(content, Mapping):
        for key, value in content.items():
            if key != "_target_":
                _literal(str(key))
                _literal(value)
    elif isinstance(content, list):
        for value in content:
            _literal(value)
    elif isinstance(content, str) and re.match(r"[$@%_]|.*::", content):
        raise BundleError(f"{content!r} in the checkpoint's recipe would be run as code; rename it in the cohort")
    return content

"""Collecting the files of a package, and putting it in place whole or not at all."""

from __future__ import annotations

import json
import logging
import os
import shutil
import tempfile
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import torch

from volseg import bundle as bundles
from volseg.deploy.pack import exports
from volseg.deploy.pack.card import licence_text, read_card
from volseg.deploy.pack.configs import of_no_machine, packed_configs
from volseg.deploy.pack.file_digest import sha256
from volseg.deploy.pack.held_out import held_out_scores
from volseg.deploy.pack.int8 import check_nncf, pack_int8
from volseg.deploy.pack.metadata import filled
from volseg.deploy.pack.package_zip import write_zip
from volseg.deploy.pack.page import page
from volseg.errors import BundleError, UsageError
from volseg.files import PARTIAL, atomic
from volseg.inference import AUTO_PRECISION, Predictor, compared_precision, own_calibration

logger = logging.getLogger(__name__)

_LICENCE = "data_license.txt"  # as in MONAI's model zoo
_OF_A_PACKAGE = frozenset({"configs", "docs", "models", "LICENSE", ".fetched.json"})


def pack(
    bundle: str | Path,
    *,
    checkpoint: str | Path | None = None,
    output: str | Path | None = None,
    formats: Collection[str] = (),
    int8: bool = False,
    cohort: str | Path | None = None,
    card: str | Path | None = None,
    crossval: str | Path | None = None,
    overwrite: bool = False,
) -> Path:
    """Write a bundle with a trained network in the model zoo's layout: configs/, docs/, models/, LICENSE.

    The checkpoint keeps its weights and its recipe; of a path in the recipe's facts only the last part is kept, since
    a package is made to be given away. The same input gives the same bytes, but for the seconds that `int8` measures. A
    `calibration.json` beside the checkpoint comes along. Card and scores of a package that is packed again stay, unless
    its checkpoint is another one.

    Args:
        bundle: Name or folder of the bundle.
        checkpoint: File of the weights; the bundle's default otherwise.
        output: Path of a `.zip`, or a folder; `NAME.zip` in the working directory otherwise.
        formats: Formats of `FORMATS` to add.
        int8: Whether a network for OpenVINO in INT8 is added (and `openvino` with it), see `pack_int8`.
        cohort: Cohort of the training, whose windows calibrate INT8; None for the one that the checkpoint names.
        card: JSON file with what its author tells of network and data, see `volseg.deploy.pack.read_card`.
        crossval: Folder of a finished `volseg crossval`, whose out-of-fold Dice the page shows.
        overwrite: Whether an earlier package is replaced; what others have put into its folder stays.

    Returns:
        The zip or the folder.

    Raises:
        BundleError: There is no such bundle, or it lacks a file that a package needs.
        CheckpointError: The checkpoint is absent, damaged, or of another network.
        UsageError: The output exists already, or holds something else; or INT8 is no gain, or costs Dice.
        VolsegError: The network cannot be written in a format.
    """
    source = bundles.find(bundle)
    target = Path(output) if output is not None else Path(f"{source.name}.zip")
    zipped = target.suffix.lower() == ".zip"
    name = target.stem if zipped else target.resolve().name
    _check_target(target, source, overwrite=overwrite)
    if int8:
        check_nncf()  # before another format is written for nothing
    predictor = Predictor.from_bundle(source, checkpoint=checkpoint, device="cpu", overrides={"precision": "fp32"})
    target.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=PARTIAL, dir=target.absolute().parent) as place:
        folder = Path(place) / name
        told = _told(source, predictor, card=card, crossval=crossval, own=checkpoint is None)

        def quantise() -> dict[str, Any]:
            return pack_int8(source, checkpoint, folder, cohort=cohort)

        wanted = {*formats, "openvino"} if int8 else set(formats)
        _fill(folder, source, predictor, name=name, formats=wanted, told=told, quantise=quantise if int8 else None)
        if zipped:
            with atomic(target) as partial:
                write_zip(folder, partial, name=name)
        else:
            _put_in_place(folder, target.absolute())
    return target


def _put_in_place(folder: Path, target: Path) -> None:
    """Give a new package its name. What others have put into the one that it replaces goes over into it.

    That is all that a package is not made of: `data/`, into which MONAI's commands write predictions and runs, the
    networks of before in `models/earlier/`, a repository. The record of a download goes, since this is another package.
    """
    if not target.exists():
        folder.rename(target)
        return
    before = target.with_name(f"{folder.parent.name}-replaced")  # what is not moved yet outlives a stop
    target.rename(before)
    try:
        folder.rename(target)
    except BaseException:
        before.rename(target)
        raise
    if before.is_symlink():  # whose folder, elsewhere, stays as it is
        before.unlink()
        return
    for path in [*before.iterdir(), before / "models" / "earlier"]:
        kept = target / path.relative_to(before)
        if path.name not in _OF_A_PACKAGE and path.exists() and not kept.exists():
            path.rename(kept)
    shutil.rmtree(before)


def _check_target(target: Path, source: Path, *, overwrite: bool) -> None:
    place = target.resolve()
    if source == place or source in place.parents:
        raise UsageError(f"{target} is the bundle itself or inside it; name another place with -o")
    if not target.exists() or (target.is_dir() and not any(target.iterdir())):
        return
    if not overwrite:
        raise UsageError(f"{target} is there already; name another with -o, or replace it with --overwrite")
    ours = target.is_file() if target.suffix.lower() == ".zip" else (target / "configs" / "metadata.json").is_file()
    if not ours:
        raise UsageError(f"{target} holds something other than a package and is not replaced; name another with -o")


def refresh(bundle_root: str | Path, *, output_dir: str | Path) -> None:
    """Bring a package up to date with the network that was trained in it: configs, metadata, page and tensors' names.

    The training of a package calls it at its end. A training that wrote to another folder changes nothing.

    Args:
        bundle_root: Folder of the package.
        output_dir: Folder of the training.
    """
    folder, checkpoint = Path(bundle_root), Path(bundle_root) / "models" / "model.pt"
    place = folder / "configs" / "metadata.json"
    first = int(os.environ.get("RANK", "0")) == 0
    if not first or Path(output_dir).resolve() != checkpoint.parent.resolve() or not place.is_file():
        return
    if not checkpoint.is_file() or not (folder / "configs" / "train.json").is_file():
        return
    content = dict(bundles.read_checkpoint(checkpoint))
    recipe = bundles.read_recipe(checkpoint)
    # Page and metadata are made to be read by others.
    recipe = replace(recipe, facts=bundles.without_folders(recipe.facts))
    stated = bundles.read_config(folder, place.name)
    metadata = filled(stated, recipe, checkpoint_sha256=sha256(checkpoint))
    names = [path.name for path in sorted(place.parent.glob("*.json")) if path != place]
    configs = {name: bundles.read_config(folder, name) for name in names}
    texts = {**packed_configs(configs, recipe), "metadata.json": metadata}
    readme = folder / "docs" / "README.md"
    before = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    with atomic(checkpoint) as partial:
        torch.save(_named(content), partial)
    for file, settings in texts.items():
        with atomic(place.parent / file) as partial:
            partial.write_text(json.dumps(settings, indent=4) + "\n")
    readme.parent.mkdir(exist_ok=True)
    with atomic(readme) as partial:
        partial.write_text(page(metadata, recipe, name=folder.resolve().name, bundle_page=before), encoding="utf-8")
    (folder / "docs" / _LICENCE).unlink(missing_ok=True)
    logger.info("%s: configs, metadata and page are those of the network that was trained", folder)


def _named(content: dict[str, Any]) -> dict[str, Any]:
    """The content with the tensors at the top too: `monai.bundle.load` looks there, unless it is told of "model".

    They are stored once.
    """
    return content | {name: tensor for name, tensor in content["model"].items() if name not in content}


def _shared(part: dict[str, Any]) -> dict[str, Any]:
    """A network of the checkpoint with its recipe, without the folders of the one who trained it."""
    told = json.loads(part["recipe"]["json"])
    told["facts"] = dict(bundles.without_folders(told.get("facts", {})))
    return {"model": part["model"], "recipe": {"json": json.dumps(told)}}


def _told(
    source: Path, predictor: Predictor, *, card: str | Path | None, crossval: str | Path | None, own: bool
) -> dict[str, Any]:
    """Card and scores: those that are given, or those of a package whose own network is packed again."""
    before = bundles.read_config(source, "metadata.json").get("volseg", {}) if own else {}
    found = {name: before[name] for name in ("card", "scores") if name in before}
    if card is not None:
        found["card"] = read_card(card)
    if crossval is not None:
        found["scores"] = held_out_scores(crossval, predictor.recipe, network=source.name)
    return found


def _fill(
    folder: Path,
    source: Path,
    predictor: Predictor,
    *,
    name: str,
    formats: Collection[str],
    told: dict[str, Any],
    quantise: Callable[[], dict[str, Any]] | None,
) -> None:
    """Write all files of the package."""
    for inside in ("configs", "docs", "models"):
        (folder / inside).mkdir(parents=True)
    content = bundles.read_checkpoint(predictor.checkpoint)
    recipe = replace(predictor.recipe, facts=bundles.without_folders(predictor.recipe.facts))
    stored = json.loads(content["recipe"]["json"])  # as it is, since it also tells which volseg trained it
    stored["facts"] = dict(recipe.facts)
    model = folder / "models" / "model.pt"
    held: dict[str, Any] = {"model": content["model"], "recipe": {"json": json.dumps(stored)}}
    if bundles.WITHOUT_PRIOR in content:
        held[bundles.WITHOUT_PRIOR] = _shared(content[bundles.WITHOUT_PRIOR])
    torch.save(_named(held), model)
    _pack_calibration(predictor, folder / "models")

    names = [path.name for path in sorted(bundles.config(source, "train.json").parent.glob("*.json"))]
    configs = {name: of_no_machine(bundles.read_config(source, name)) for name in names}
    if "metadata.json" not in configs:
        raise BundleError(f"the bundle {source} has no metadata.json, which a package needs")
    metadata = filled(configs.pop("metadata.json"), recipe, checkpoint_sha256=sha256(predictor.checkpoint), **told)
    packed = packed_configs(configs, recipe)

    network, window = predictor.network, (len(recipe.channel_names), *recipe.roi_size)
    written = []
    if "safetensors" in formats:
        bundles.write_safetensors(model, model.with_suffix(bundles.SAFETENSORS))
    if "torchscript" in formats:
        texts = {"metadata.json": metadata, "inference.json": packed["inference.json"]}
        written.append(exports.torchscript(network, window, folder, texts=texts))
    if "onnx" in formats:
        logger.info("models/model.onnx: this takes a minute or two for a transformer")
        written.append(exports.onnx(network, window, folder))
    if "openvino" in formats:
        written.append(exports.openvino(network, window, folder))
        metadata["volseg"][AUTO_PRECISION] = compared_precision(folder, window=window)
    if written:
        metadata["volseg"]["exports"] = [asdict(export) for export in written]
    if quantise is not None:
        metadata["volseg"]["int8"] = quantise()
    # By these `volseg predict` knows that a network for OpenVINO is that of the weights, without PyTorch.
    metadata["volseg"]["digests"] = {
        f"models/{path.name}": sha256(path) for path in sorted((folder / "models").iterdir())
    }
    for file, settings in {**packed, "metadata.json": metadata}.items():
        (folder / "configs" / file).write_text(json.dumps(settings, indent=4) + "\n")

    for logging_file in (source / "logging.conf", source / "configs" / "logging.conf"):
        if logging_file.is_file():
            shutil.copyfile(logging_file, folder / "configs" / "logging.conf")
    if (source / "docs").is_dir():
        shutil.copytree(source / "docs", folder / "docs", dirs_exist_ok=True, ignore=shutil.ignore_patterns(_LICENCE))
    if licence := licence_text(told.get("card", {})):
        (folder / "docs" / _LICENCE).write_text(licence, encoding="utf-8")
    if (source / "LICENSE").is_file():
        shutil.copyfile(source / "LICENSE", folder / "LICENSE")
    readme = folder / "docs" / "README.md"
    text = readme.read_text(encoding="utf-8") if readme.is_file() else ""
    readme.write_text(page(metadata, recipe, name=name, bundle_page=text, exports=written), encoding="utf-8")


def _pack_calibration(predictor: Predictor, models: Path) -> None:
    """Put the calibration of the checkpoint beside the packed one, after a check that it is of these weights.

    Raises:
        CheckpointError: It is of another network.
    """
    calibration = own_calibration(predictor)
    if calibration is not None:
        calibration.save(models / "calibration.json")

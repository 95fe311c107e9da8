"""A trained network with all that its bundle does before and after it."""

from __future__ import annotations

import logging
from collections.abc import Callable, Hashable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer
from monai.transforms import Compose
from torch import Tensor, nn

from volseg import bundle as bundles
from volseg.bundle import Recipe, read_recipe
from volseg.cohort import Prediction, Uncertainty, write_prediction, write_uncertainty
from volseg.errors import BundleError, CheckpointError, VolsegError, naming, root_error
from volseg.files import SERIES
from volseg.inference.engines import EXPORTED, Engine, TorchEngine, check_device, choose
from volseg.inference.ensemble import check_members, mean_logits
from volseg.inference.inputs import read_image
from volseg.transforms import NativeProbabilitiesd, affine_of_file
from volseg.volume import Volume, read_aligned

logger = logging.getLogger(__name__)


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network, or several, with all that the bundle does before and after.

    Attributes:
        network: in evaluation mode, on `device`.
        preprocessing, inferer, postprocessing: the bundle's own; the last one gives `pred` as a label map.
        checkpoint: the file that was read.
        recipe: what it says of itself.
        device: where the network runs.
        engine: what computes the logits of windows; the network in PyTorch at first, see `with_engine`.
        exported: the network for OpenVINO, where the bundle was packed with it.
        others: further networks, whose probabilities are averaged with this one's; see `joined`.
        flips: axes along which the networks look at mirror images too.
    """

    network: nn.Module
    preprocessing: Compose
    inferer: Inferer
    postprocessing: Compose
    checkpoint: Path
    recipe: Recipe
    device: torch.device
    engine: Engine
    exported: Path | None = None
    others: tuple[Predictor, ...] = ()
    flips: tuple[int, ...] = ()

    @classmethod
    def from_bundle(
        cls,
        bundle: str | Path,
        *,
        checkpoint: str | Path | None = None,
        device: str | None = None,
        overrides: Mapping[str, Any] | None = None,
    ) -> Predictor:
        """Build from the `inference.json` of a bundle.

        Args:
            bundle: name or folder.
            checkpoint: the file; the bundle's default otherwise.
            device: `cpu`, `cuda:1`, ...; the bundle's choice otherwise.
            overrides: ids of the config and their values, as `monai.bundle run` takes them.

        Raises:
            BundleError: no such bundle, or an override that it cannot take.
            UsageError: no such device.
            CheckpointError: absent, damaged, or of another network.
        """
        from monai.bundle import ConfigParser

        folder = bundles.find(bundle)
        parser = ConfigParser()
        parser.read_config(str(bundles.config(folder, "inference.json")))
        unknown = [name for name in overrides or {} if name not in parser]
        if unknown:
            raise BundleError(f"the bundle {folder.name} has no setting {', '.join(unknown)}; pack it with this volseg")
        parser.update({"bundle_root": str(folder), "output_dir": None, **dict(overrides or {})})
        if checkpoint is not None:  # a packed bundle states the recipe of its own one in words
            parser.update({"checkpoint": str(checkpoint), "recipe": "$volseg.bundle.read_recipe(@checkpoint)"})
        if device is not None:
            parser.update({"device": str(check_device(device))})
        path = Path(parser.get_parsed_content("checkpoint"))
        recipe = read_recipe(path)
        parts = ("network", "preprocessing", "inferer", "postprocessing", "device")
        try:
            network, before, inferer, after, place = (parser.get_parsed_content(part) for part in parts)
        except (RuntimeError, ValueError, TypeError, KeyError) as error:
            raise root_error(error) from error
        state = torch.load(path, map_location="cpu", weights_only=True, mmap=True)
        try:
            network.load_state_dict(state["model"])
        except (KeyError, RuntimeError) as error:
            raise CheckpointError(f"{path} does not fit the network of {folder.name}; name its own bundle") from error
        place = torch.device(place)
        engine = TorchEngine(network.eval(), device=place, precision=getattr(inferer, "precision", "fp32"))
        exported = folder / EXPORTED
        own = checkpoint is None and exported.is_file()
        return cls(network, before, inferer, after, path, recipe, place, engine, exported if own else None)

    @property
    def networks(self) -> tuple[Predictor, ...]:
        """This one, then those beside it."""
        return (self, *self.others)

    @property
    def first_networks(self) -> tuple[Predictor, ...]:
        """Those of an earlier step: none, see `volseg.inference.TwoStep`."""
        return ()

    def joined(self, others: Iterable[Predictor] = (), *, flips: Iterable[int] = ()) -> Predictor:
        """The same predictor with further networks beside its own, and mirror images: an ensemble.

        Args:
            others: networks for the same regions and channels; spacing, windows and architectures may differ.
            flips: axes 0 to 2 to mirror, see `volseg.inference.flip_axes`.

        Raises:
            CheckpointError: networks that do not go together.
        """
        joined = replace(self, others=(*self.others, *others), flips=tuple(flips))
        check_members([(member.checkpoint, member.recipe) for member in joined.networks])
        for members in joined.grids if len(joined.grids) > 1 else ():
            to_native(members[0])
        return joined

    def with_engine(self, name: str, *, windows: int | None = None) -> Predictor:
        """The same predictor with another engine, in the precision of its inferer; says in the log which one it is.

        Args:
            name: auto, torch or openvino, as in `volseg.inference.choose`.
            windows: how many are to come, if known: with few of them `auto` makes no trial.
        """
        engine = choose(
            self.network,
            name=name,
            window=(len(self.recipe.channel_names), *self.recipe.roi_size),
            device=self.device,
            precision=getattr(self.inferer, "precision", "fp32"),
            windows=windows and windows * 2 ** len(self.flips),
            exported=self.exported,
        )
        others = tuple(other.with_engine(engine.name) for other in self.others)  # all by the engine of the first
        return replace(self, engine=engine, others=others)

    def predict(self, images: Sequence[str | Path | Volume], *, key: str) -> Prediction:
        """The label map of one case and how sure of it the network is.

        Args:
            images: one NIfTI file a channel, or what was read from it.
            key: names the case in errors.

        Raises:
            VolsegError: a file that cannot be read or used, with the key.
        """
        return self.decide(self.look(self.read(images, key=key)))

    def read(self, images: Sequence[str | Path | Volume], *, key: str) -> dict[str, Any]:
        """The first third of `predict`, on the CPU: files to what the network takes."""
        with naming(key):
            grids = self.grids
            given: list[Any] = [image if isinstance(image, Volume) else _path_or_series(image) for image in images]
            given = read_aligned(given) if len(grids) > 1 else given
            item, *others = [members[0].preprocessing({"key": key, "image": given}) for members in grids]
            return {**item, **({"others": others} if others else {})}

    def look(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The second third, on the network's device: the item with its logits, `pred`, on the CPU."""
        with naming(item["key"]), torch.inference_mode():
            logits = self._mean_logits(item, self.grids[0])
            # Each further grid is brought home and added to one sum, so that their number costs no memory.
            total: Tensor | None = None
            for members, other in zip(self.grids[1:], item.get("others", ()), strict=True):
                seen = {"image": other["image"], "pred": self._mean_logits(other, members)}
                share = to_native(members[0])(seen)["pred"].as_tensor().mul_(len(members))
                total = share if total is None else total.add_(share)
            kept = {name: value for name, value in item.items() if name != "others"}
            return {**kept, "pred": logits, **({} if total is None else {"total": total})}

    def decide(self, item: Mapping[str, Any]) -> Prediction:
        """The last third, on the CPU: logits to a label map on the grid of the files."""
        with naming(item["key"]), torch.inference_mode():
            done = self.postprocessing(dict(item)) if "total" not in item else self._decided(item)
        # The inverse transforms bring the affine back to rounding; the file's own is exact.
        label_map = Volume(done["pred"].numpy()[0], affine_of_file(item["image"]))
        note = "; ".join(label_map.notes)
        return Prediction(label_map, done.get("uncertainty", {}), done.get("probabilities"), note)

    @property
    def grids(self) -> list[list[Predictor]]:
        """The networks by the spacing that they look at, those of this one's first."""
        found: dict[tuple[float, ...], list[Predictor]] = {}
        for network in self.networks:
            found.setdefault(tuple(round(float(mm), 3) for mm in network.recipe.spacing_mm), []).append(network)
        return list(found.values())

    def _mean_logits(self, item: Mapping[str, Any], members: Sequence[Predictor]) -> Tensor:
        """Of some networks on the grid of an item."""
        image = item["image"].as_tensor()[None].to(self.device)
        looks = [member._logits for member in members]
        return mean_logits(image, looks, self.recipe.labels, flips=self.flips)

    def _decided(self, item: Mapping[str, Any]) -> dict[str, Any]:
        """The postprocessing, with the sum of the other grids' probabilities added after its first step."""
        native = to_native(self)(dict(item))
        total, share = native.pop("total"), native["pred"]
        mean = share.as_tensor().mul_(len(self.grids[0])).add_(total).div_(len(self.networks))
        done: dict[str, Any] = Compose(self.postprocessing.transforms[1:])(
            {**native, "pred": MetaTensor(mean, affine=share.affine)}
        )
        return done

    def _logits(self, image: Tensor) -> Tensor:
        """Of an image (1, C, X, Y, Z), without the batch axis."""
        logits: Tensor = self.inferer(image, self.engine)
        return logits[0]

    def predict_to(
        self,
        cases: Iterable[tuple[str, Sequence[Path]]],
        output_dir: Path,
        *,
        progress: Callable[[int], None] | None = None,
    ) -> dict[str, str]:
        """Write `KEY.nii.gz` and a line of `uncertainty.csv` a case; one that fails is reported and the others go on.

        Args:
            cases: (key, one file a channel).
            output_dir: where predictions go.
            progress: called with the number of cases done.

        Returns:
            The error of each failed key.
        """
        failed: dict[str, str] = {}
        uncertainties: dict[str, Uncertainty] = {}
        cases = list(cases)
        # Lines of an earlier network go first: they must not stay if this run is stopped.
        write_uncertainty(output_dir, {}, forget=[key for key, _ in cases])
        try:
            for done, (key, images) in enumerate(cases, start=1):
                try:
                    prediction = self.predict(images, key=key)
                    write_prediction(output_dir / f"{key}.nii.gz", prediction)
                    uncertainties[key] = prediction.uncertainty
                except VolsegError as error:
                    failed[key] = error.message
                    logger.error("%s", error)
                if progress:
                    progress(done)
        finally:
            write_uncertainty(output_dir, uncertainties)
        return failed


def to_native(predictor: Predictor) -> Callable[..., dict[Hashable, Any]]:
    """The step of a bundle that brings logits to the grid of the files as probabilities, where several grids meet.

    Raises:
        CheckpointError: its postprocessing begins with something else.
    """
    steps = predictor.postprocessing.transforms
    if not steps or not isinstance(steps[0], NativeProbabilitiesd):
        raise CheckpointError(
            f"{predictor.checkpoint} makes an ensemble of several spacings, and its bundle's postprocessing does not "
            "begin with the way back to the grid of the files; pack it with this volseg, or predict with it alone"
        )
    return steps[0]


def _path_or_series(image: str | Path) -> str | Volume:
    """The path of a NIfTI file, which the transforms read; the volume of a DICOM series, which they do not know."""
    return read_image(image) if Path(image).suffix == SERIES else str(image)

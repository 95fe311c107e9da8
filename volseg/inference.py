"""From a checkpoint and a volume on disk to a prediction on the volume's own grid."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import torch
from monai.data import MetaTensor
from monai.inferers import Inferer, SlidingWindowInferer
from monai.transforms import Compose
from torch import Tensor, nn

from volseg import bundle as bundles
from volseg.engines import EXPORTED, Engine, TorchEngine, check_precision, choose, runs_bf16
from volseg.errors import CheckpointError, UsageError, VolsegError
from volseg.recipe import Recipe, read_recipe
from volseg.uncertainty import Uncertainty, write_uncertainty
from volseg.volume import Volume, atomic, write_volume
from volseg.worklist import check_output, count_windows, find_inputs

__all__ = [
    "MixedPrecision",
    "Prediction",
    "Predictor",
    "check_device",
    "check_output",
    "count_windows",
    "find_inputs",
    "root_error",
    "sliding_window",
    "worker_device",
    "write_labels",
]

logger = logging.getLogger(__name__)


class MixedPrecision(Inferer):  # type: ignore[misc]  # MONAI has no types
    """Another inferer under bfloat16 autocast, on a GPU or a CPU; logits come back as float32.

    bfloat16 has the range of float32, so no loss scaling is needed.

    Args:
        inferer: the one that calls the network.
        precision: `fp32`, `bf16`, or `auto`: bf16 where the device multiplies it in hardware (CUDA 8.0 and later, CPUs
            with AMX), else fp32.

    >>> MixedPrecision(SlidingWindowInferer([32, 32, 32]), precision="fp32").bf16(torch.device("cpu"))
    False
    """

    def __init__(self, inferer: Inferer, *, precision: str = "auto") -> None:
        check_precision(precision)
        self.inferer = inferer
        self.precision = precision

    def bf16(self, device: torch.device) -> bool:
        """Whether the network runs in bfloat16 on the device."""
        return runs_bf16(device, precision=self.precision)

    def __call__(
        self,
        inputs: Tensor,
        network: Callable[..., Any],
        *args: Any,  # noqa: ANN401
        **kwargs: Any,  # noqa: ANN401
    ) -> Tensor | list[Tensor]:
        """Logits (B, channels, X, Y, Z) of inputs (B, C, X, Y, Z); a list where the network returns several."""
        if isinstance(inputs, MetaTensor):
            inputs = inputs.as_tensor()  # every operation of a network on a MetaTensor pays for its metadata
        with torch.autocast(inputs.device.type, dtype=torch.bfloat16, enabled=self.bf16(inputs.device)):
            logits = self.inferer(inputs, network, *args, **kwargs)
        if isinstance(logits, (list, tuple)):
            return [part.float() for part in logits]
        return logits.float()  # type: ignore[no-any-return]  # MONAI has no types


def sliding_window(
    roi_size: Sequence[int], *, overlap: float = 0.5, windows_at_once: int = 1, precision: str = "auto"
) -> MixedPrecision:
    """Windows over a whole volume, averaged with Gaussian weights.

    Args:
        roi_size: window along X, Y, Z.
        overlap: share of a window that its neighbour covers too, 0 to below 1.
        windows_at_once: windows in one pass of the network; more than one pays on a GPU only.
        precision: as in `MixedPrecision`.
    """
    inferer = SlidingWindowInferer(
        tuple(roi_size), sw_batch_size=windows_at_once, overlap=overlap, mode="gaussian", cache_roi_weight_map=True
    )
    return MixedPrecision(inferer, precision=precision)


@dataclass(frozen=True, eq=False)
class Prediction:
    """One predicted case.

    Attributes:
        label_map: uint8, on the very grid of the image's files.
        uncertainty: the Dice that the network expects of it, by region.
    """

    label_map: Volume
    uncertainty: Uncertainty


@dataclass(frozen=True, eq=False)
class Predictor:
    """A trained network with all that its bundle does before and after it.

    Attributes:
        network: in evaluation mode, on `device`.
        preprocessing, inferer, postprocessing: the bundle's own; the last one gives `pred` as a label map.
        checkpoint: the file that was read.
        recipe: what it says of itself.
        device: where the network runs.
        engine: what computes the logits of windows; the network in PyTorch at first, see `with_engine`.
        exported: the network for OpenVINO, where the bundle was packed with it.
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
        parser.update({"bundle_root": str(folder), "output_dir": None, **dict(overrides or {})})
        if checkpoint is not None:  # a packed bundle states the recipe of its own one in words
            parser.update({"checkpoint": str(checkpoint), "recipe": "$volseg.recipe.read_recipe(@checkpoint)"})
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

    def with_engine(self, name: str, *, windows: int | None = None) -> Predictor:
        """The same predictor with another engine, in the precision of its inferer; says in the log which one it is.

        Args:
            name: auto, torch or openvino, as in `volseg.engines.choose`.
            windows: how many are to come, if known: with few of them `auto` makes no trial.
        """
        engine = choose(
            self.network,
            name=name,
            window=(len(self.recipe.channel_names), *self.recipe.roi_size),
            device=self.device,
            precision=getattr(self.inferer, "precision", "fp32"),
            windows=windows,
            exported=self.exported,
        )
        return replace(self, engine=engine)

    def predict(self, images: Sequence[str | Path], *, key: str) -> Prediction:
        """The label map of one case and how sure of it the network is.

        Args:
            images: one NIfTI file a channel.
            key: names the case in errors.

        Raises:
            VolsegError: a file that cannot be read or used, with the key.
        """
        try:
            item = self.preprocessing({"key": key, "image": [str(path) for path in images]})
            with torch.inference_mode():
                item["pred"] = self.inferer(item["image"][None].to(self.device), self.engine)[0].to("cpu")
                item = self.postprocessing(item)
        except (RuntimeError, ValueError) as error:
            raise root_error(error).of_case(key) from error
        # The inverse transforms bring the affine back to rounding; the file's own is exact.
        label_map = Volume(item["pred"].numpy()[0], item["image"].meta["original_affine"].numpy())
        return Prediction(label_map, item.get("uncertainty", {}))

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
                    write_volume(output_dir / f"{key}.nii.gz", prediction.label_map)
                    uncertainties[key] = prediction.uncertainty
                except VolsegError as error:
                    failed[key] = error.message
                    logger.error("%s", error)
                if progress:
                    progress(done)
        finally:
            write_uncertainty(output_dir, uncertainties)
        return failed


def check_device(name: str | torch.device) -> torch.device:
    """The device of that name, if it is there.

    Raises:
        UsageError: no such kind of device, or none of it in this machine.

    >>> check_device("cpu")
    device(type='cpu')
    """
    try:
        device = torch.device(name)
    except RuntimeError as error:
        raise UsageError(f"--device {name} is no device; use cpu, cuda or cuda:1") from error
    if device.type == "cuda" and (device.index or 0) >= torch.cuda.device_count():
        there = torch.cuda.device_count()
        raise UsageError(f"--device {name} was asked for and PyTorch finds {there} CUDA devices; use --device cpu")
    return device


def worker_device(name: str | None, number: int) -> str | None:
    """The device of one of several workers on a machine: each has a GPU of its own, in turn, where one is wanted.

    Args:
        name: what the user asked for; None for the best.
        number: of the worker.

    >>> worker_device("cpu", 3), worker_device("cuda:1", 3)
    ('cpu', 'cuda:1')
    """
    gpus = torch.cuda.device_count()
    return f"cuda:{number % gpus}" if name in (None, "cuda") and gpus else name


def write_labels(output_dir: Path, recipe: Recipe) -> None:
    """Write the `dataset.json` that tells readers of the predictions what the values mean."""
    entries = {
        "channel_names": {str(i): name for i, name in enumerate(recipe.channel_names)},
        **recipe.labels.to_dataset_json(),
        "file_ending": ".nii.gz",
    }
    with atomic(output_dir / "dataset.json") as partial:
        partial.write_text(json.dumps(entries, indent=1) + "\n")


def root_error(error: BaseException) -> VolsegError:
    """The VolsegError behind an error that MONAI has wrapped, or a new one with the innermost message.

    >>> str(root_error(RuntimeError("applying transform X")))
    'applying transform X'
    """
    inner: BaseException = error
    while True:
        if isinstance(inner, VolsegError):
            return inner
        following = inner.__cause__ or inner.__context__
        if following is None:
            return VolsegError(str(inner).strip() or type(inner).__name__)
        inner = following

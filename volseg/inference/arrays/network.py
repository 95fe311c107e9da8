"""What computes the logits of windows given as arrays: PyTorch, or a packed OpenVINO network without PyTorch."""

from __future__ import annotations

import functools
import hashlib
import logging
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from volseg import bundle as bundles
from volseg.errors import CheckpointError, root_error
from volseg.inference.arrays.settings import ArraySettings
from volseg.inference.cores import usable_cores
from volseg.inference.engines import EXPORTED, available_bytes, installed, openvino_core

if TYPE_CHECKING:
    from torch import nn

    from volseg.inference.engines import Engine

logger = logging.getLogger(__name__)

_TOLERANCE = 0.1  # largest difference of logits in bfloat16, as a fraction of the largest: as in engines.choice


class TorchWindows:
    """An engine of PyTorch as a function of arrays."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine
        self.name, self.precision = engine.name, engine.precision

    @property
    def windows_at_once(self) -> int:
        """Number of windows per call that is fastest."""
        return int(self._engine.windows_at_once)

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits (n, channels, *roi)."""
        import torch

        with torch.inference_mode():
            logits: NDArray[np.float32] = self._engine(torch.from_numpy(windows)).numpy()
        return logits


class PackedWindows:
    """A network that `volseg pack --openvino` wrote, compiled for the CPU.

    Args:
        path: `.xml` of the network.
        window: Shape (C, X, Y, Z) of a window.
        precision: `auto`, `fp32`, `bf16`, or `int8` if the file's layers are in 8 bits; what is not 8 bits is computed
            in bfloat16 then, if the CPU has it.
    """

    name = "openvino"
    windows_at_once = 1

    def __init__(self, path: Path, *, window: Sequence[int], precision: str = "auto") -> None:
        core = openvino_core()
        self._model = core.read_model(path)
        capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
        if precision == "int8":
            self._compiled, self.precision = self._compile("bf16" if capable else "fp32"), "int8"
            return
        wanted = "bf16" if precision == "bf16" or (precision == "auto" and capable) else "fp32"
        self._compiled = self._compile(wanted)
        self.precision = wanted if capable else "fp32"
        if wanted != self.precision:
            logger.warning("this CPU has no bfloat16, so OpenVINO computes in fp32")
        if precision == "auto" and self.precision == "bf16":
            drawn = np.random.default_rng(0).standard_normal((1, *window), np.float32)
            exact = self._compile("fp32")
            expected = exact(drawn)[0]
            apart, scale = float(np.abs(self._compiled(drawn)[0] - expected).max()), float(np.abs(expected).max())
            if apart > _TOLERANCE * scale:
                logger.info("OpenVINO's logits in bf16 differ by %.3g where the largest is %.3g: fp32", apart, scale)
                self._compiled, self.precision = exact, "fp32"

    def _compile(self, precision: str) -> Any:  # noqa: ANN401 - openvino.CompiledModel
        hints = {
            "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
            "INFERENCE_NUM_THREADS": _threads(),
        }
        return openvino_core().compile_model(self._model, "CPU", hints)

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        """Compute the logits of windows one after the other: on a CPU a batch is not faster."""
        parts = [self._compiled(window[None])[0] for window in windows]
        return parts[0] if len(parts) == 1 else np.concatenate(parts)


def _threads() -> int:
    """The number of threads, as PyTorch would take it."""
    given = os.environ.get("OMP_NUM_THREADS", "")
    return int(given) if given.isdigit() and int(given) > 0 else usable_cores()


def packed_network(settings: ArraySettings) -> Path | None:
    """The packed OpenVINO network of exactly these weights, by its digests; None if there is none."""
    path = settings.folder / EXPORTED
    if not settings.own or not path.is_file() or not installed():
        return None
    metadata = bundles.read_config(settings.folder, "metadata.json")
    stated: Mapping[str, str] = metadata.get("volseg", {}).get("digests", {})
    files = {"models/model.pt": settings.checkpoint, "models/model.xml": path, "models/model.bin": weights_of(path)}
    for name, file in files.items():
        if not file.is_file() or stated.get(name) != sha256(file):
            logger.info("%s is not that of this package's list, so the packed OpenVINO network is checked anew", name)
            return None
    return path


def weights_of(path: Path) -> Path:
    """The file of the weights beside an `.xml`."""
    return path.with_suffix(".bin")


def sha256(path: Path) -> str:
    """The sha256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest() if hasattr(hashlib, "file_digest") else _sha256(file)


def _sha256(file: Any) -> str:  # noqa: ANN401 - Python 3.10 has no file_digest
    digest = hashlib.sha256()
    while block := file.read(2**20):
        digest.update(block)
    return digest.hexdigest()


@functools.lru_cache(maxsize=4)
def torch_network(folder: Path, checkpoint: Path) -> nn.Module:
    """The network of a bundle with the weights of a checkpoint, on the CPU, in evaluation mode.

    Raises:
        CheckpointError: The checkpoint is of another network.
        VolsegError: The network cannot be built.
    """
    from monai.bundle import ConfigParser

    from volseg.inference.lazy_monai import name_modules

    content = bundles.read_config(folder, "inference.json")
    # What a checkpoint's recipe states is data; the bundle's text is volseg's own, see `own_settings`.
    parser = ConfigParser()
    parser.read_config(name_modules({name: content[name] for name in ("imports", "network_def", "network", "labels")}))
    stated = bundles.literal(str(checkpoint))
    parser.update({"device": "cpu", "checkpoint": stated, "recipe": "$volseg.bundle.read_recipe(@checkpoint)"})
    try:
        network: nn.Module = parser.get_parsed_content("network")
    except (RuntimeError, ValueError, TypeError, KeyError) as error:
        raise root_error(error) from error
    state = bundles.read_checkpoint(checkpoint)
    try:
        network.load_state_dict(state["model"])
    except (KeyError, RuntimeError) as error:
        raise CheckpointError(
            f"{checkpoint} does not fit the network of {folder.name}; name the bundle that it was trained with"
        ) from error
    return network.eval()


def free_bytes(memory: int | None) -> int | None:
    """Bytes that a prediction may take: what was allowed, else what is free."""
    return memory if memory is not None else available_bytes()

"""OpenVINO as an engine, on a CPU."""

from __future__ import annotations

import logging
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volseg.errors import UsageError, VolsegError
from volseg.inference.engines.bfloat16 import check_precision
from volseg.inference.engines.openvino_runtime import installed, openvino_core

logger = logging.getLogger(__name__)


class OpenVinoEngine:
    """The network converted by OpenVINO, compiled for the CPU and for one window size.

    Nothing is sent over the network: OpenVINO's own `convert_model` reports its use to its makers, so it is not called.

    Args:
        network: Network in evaluation mode, on the CPU.
        window: Shape (C, X, Y, Z) of a window; windows of other shapes are refused.
        precision: `auto`, `fp32`, `bf16`, or `int8` if `exported` has layers in 8 bits. `auto` takes bf16 if the CPU
            computes it; OpenVINO answers bf16 with fp32 elsewhere.
        exported: `.xml` that `save` or `volseg pack` wrote, taken instead of a conversion.

    Raises:
        UsageError: The package openvino is not installed.
        VolsegError: OpenVINO cannot convert the network.
    """

    name = "openvino"
    windows_at_once = 1

    def __init__(
        self, network: nn.Module, *, window: Sequence[int], precision: str = "auto", exported: Path | None = None
    ) -> None:
        if not installed():
            raise UsageError(
                "--engine openvino needs the package: pip install 'volseg[openvino]', or use --engine torch"
            )
        int8 = precision == "int8" and exported is not None
        if not int8:
            check_precision(precision)
        core = openvino_core()
        self._window = tuple(window)
        self._model = core.read_model(exported) if exported else _converted(network, self._window)
        if precision == "auto" or int8:  # of which what is not 8 bits is bf16, if the CPU has it
            capable = "BF16" in core.get_property("CPU", "OPTIMIZATION_CAPABILITIES")
            precision = "bf16" if capable else "fp32"
        self._compiled = core.compile_model(
            self._model,
            "CPU",
            {
                "INFERENCE_PRECISION_HINT": "bf16" if precision == "bf16" else "f32",
                "INFERENCE_NUM_THREADS": torch.get_num_threads(),
            },
        )
        if int8:
            self.precision = "int8"
            return
        got = self._compiled.get_property("INFERENCE_PRECISION_HINT").to_string()
        self.precision = "bf16" if got == "bf16" else "fp32"
        if self.precision != precision:
            logger.warning("this CPU has no bfloat16, so OpenVINO computes in fp32")

    def __call__(self, windows: Tensor) -> Tensor:
        """Compute the logits of windows one after the other: on a CPU a batch is not faster."""
        if windows.device.type != "cpu" or tuple(windows.shape[1:]) != self._window:
            raise VolsegError(
                f"windows must be {self._window} on the CPU, for which OpenVINO was compiled, got "
                f"{tuple(windows.shape[1:])} on {windows.device}; use --engine torch"
            )
        parts = [self._compiled(window[None].numpy())[0] for window in windows.contiguous()]
        return torch.cat([torch.from_numpy(part) for part in parts])

    def save(self, path: Path) -> None:
        """Write the converted network in single precision: the `.xml` at `path`, and the `.bin` beside it."""
        import openvino

        self._model.set_friendly_name(path.stem)  # its own one counts the models of the process
        openvino.save_model(self._model, path, compress_to_fp16=False)


def _converted(network: nn.Module, window: tuple[int, ...]) -> Any:  # noqa: ANN401 - openvino.Model
    """The network as an OpenVINO model with one input of static shape (1, C, X, Y, Z)."""
    from openvino import PartialShape, Type
    from openvino.frontend import FrontEndManager
    from openvino.frontend.pytorch.ts_decoder import TorchScriptPythonDecoder

    shape = (1, *window)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of the trace, about branches that a fixed window decides
            decoder = TorchScriptPythonDecoder(network, example_input=(torch.zeros(shape),))
        frontend = FrontEndManager().load_by_framework("pytorch")
        loaded = frontend.load(decoder)
        place = loaded.get_inputs()[0]
        loaded.set_partial_shape(place, PartialShape(shape))
        loaded.set_element_type(place, Type.f32)
        return frontend.convert(loaded)
    except Exception as error:  # of many kinds, all meaning that this network cannot be converted
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise VolsegError(f"OpenVINO cannot convert this network ({reason}); use --engine torch") from error

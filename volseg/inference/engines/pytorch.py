"""PyTorch as an engine: the network as it is, or compiled."""

from __future__ import annotations

from collections.abc import Sequence

import torch
from torch import Tensor, nn

from volseg.errors import VolsegError
from volseg.inference.engines.bfloat16 import runs_bf16
from volseg.inference.engines.parallel_windows import ParallelWindows


class TorchEngine:
    """The network itself, under bfloat16 autocast on request; on a CPU by `ParallelWindows`.

    Args:
        network: Network in evaluation mode, on `device`.
        device: Device of the network.
        precision: `auto` (the default), `fp32` or `bf16`.

    >>> engine = TorchEngine(nn.Conv3d(1, 2, 1), device=torch.device("cpu"), precision="bf16")
    >>> engine(torch.ones(1, 1, 4, 4, 4)).dtype
    torch.float32
    """

    name = "torch"

    def __init__(self, network: nn.Module, *, device: torch.device, precision: str = "auto") -> None:
        self.network = network
        self.precision = "bf16" if runs_bf16(device, precision=precision) else "fp32"
        self._lanes = ParallelWindows()

    @property
    def windows_at_once(self) -> int:
        """Number of windows per call that is fastest on a CPU; it is known after the first call."""
        return self._lanes.windows_at_once(self.network)

    def __call__(self, windows: Tensor) -> Tensor:
        """Compute the logits of windows."""
        with torch.autocast(windows.device.type, dtype=torch.bfloat16, enabled=self.precision == "bf16"):
            logits: Tensor = self._lanes(windows, self.network)
        return logits.float()


class CompiledEngine:
    """The network compiled by PyTorch (TorchInductor) for the CPU and for one window size, its weights as constants.

    Norms and activations become one pass over the memory, and the weights of convolutions get the layout in which they
    are computed. Compiling takes one to several minutes and needs a C++ compiler. The result is cached in the folder
    that `TORCHINDUCTOR_CACHE_DIR` names, by default the system's temporary folder, so that later processes start
    faster.

    Args:
        network: Network in evaluation mode, on the CPU; no TorchScript.
        window: Shape (C, X, Y, Z) of a window; windows of other shapes are refused.
        precision: `auto` (the default), `fp32` or `bf16`.

    Raises:
        VolsegError: There is no compiler, or the network cannot be compiled.
    """

    name = "compiled"
    windows_at_once = 1

    def __init__(self, network: nn.Module, *, window: Sequence[int], precision: str = "auto") -> None:
        import torch._dynamo
        import torch._inductor.config

        self._window = tuple(window)
        self.precision = "bf16" if runs_bf16(torch.device("cpu"), precision=precision) else "fp32"
        self._compiled = torch.compile(network, dynamic=False)
        try:
            # Weights become constants only if this is set for the whole compilation, not as an option of it. And
            # compilations of one class of networks count as recompilations of one function, up to a limit.
            with torch._inductor.config.patch(freezing=True), torch._dynamo.config.patch(recompile_limit=1000):
                self(torch.zeros(1, *self._window))
        except Exception as error:  # of many kinds, all meaning that it cannot be compiled here
            reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
            raise VolsegError(
                f"PyTorch cannot compile this network here ({reason}); install a C++ compiler (g++), "
                "or use --engine torch"
            ) from error

    def __call__(self, windows: Tensor) -> Tensor:
        """Compute the logits of windows one after the other: on a CPU a batch is not faster."""
        if windows.device.type != "cpu" or tuple(windows.shape[1:]) != self._window:
            raise VolsegError(
                f"windows must be {self._window} on the CPU, for which the network was compiled, got "
                f"{tuple(windows.shape[1:])} on {windows.device}; use --engine torch"
            )
        # The compiled code is valid for one kind of tensor: copies made in this mode, whatever the mode outside is.
        with (
            torch.inference_mode(),
            torch.autocast("cpu", dtype=torch.bfloat16, enabled=self.precision == "bf16"),
        ):
            parts = [self._compiled(window[None].clone(memory_format=torch.contiguous_format)) for window in windows]
            return torch.cat(parts).float()

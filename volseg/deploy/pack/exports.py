"""The network in the formats of other programs, each read back and compared with PyTorch."""

from __future__ import annotations

import importlib.util
import json
import logging
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from volseg.deploy.pack.package_zip import thin_zip
from volseg.errors import UsageError, VolsegError
from volseg.inference import EXPORTED, OpenVinoEngine, difference

logger = logging.getLogger(__name__)

OPSET = 18  # version of ONNX: the one that PyTorch's exporter is written for
LIMIT = 1e-4  # largest difference of logits in single precision without a line in the log
_WRONG = 1e-3  # difference as a fraction of the largest logit, above which the export is refused
_DRAWS = 3


@dataclass(frozen=True)
class Export:
    """An exported file, and how far its logits are from the eager network's, in fp32 on three random windows.

    Attributes:
        file: Path within the package.
        difference: Largest absolute difference.
        largest_logit: Largest absolute logit of the eager network, on the same windows.
        note: Note for users of the file.
    """

    file: str
    difference: float
    largest_logit: float
    note: str


def torchscript(
    network: nn.Module, window: Sequence[int], folder: Path, *, texts: Mapping[str, Mapping[str, Any]]
) -> Export:
    """Write `models/model.ts`: a trace, with the metadata and configs inside that MONAI Deploy reads.

    Args:
        network: Network in evaluation mode, on the CPU.
        window: Shape (C, X, Y, Z) of a window, the only one that a trace certainly takes.
        folder: Folder of the package.
        texts: JSON files to store inside, by name.
    """
    path = folder / "models" / "model.ts"
    with warnings.catch_warnings(), torch.inference_mode(False), torch.no_grad():
        warnings.simplefilter("ignore")  # about branches that a fixed window decides; the comparison below counts
        traced = torch.jit.trace(  # type: ignore[no-untyped-call]  # PyTorch's own, as the next
            network, torch.zeros(1, *window), check_trace=False
        )
        _follow_input(traced)
        extra = {name: json.dumps(content, indent=4).encode() for name, content in texts.items()}
        torch.jit.save(traced, str(path), _extra_files=extra)
        # The debug files name the folders of this machine's libraries.
        thin_zip(path, keep=lambda name: not name.endswith(".debug_pkl"))
        loaded = torch.jit.load(str(path), map_location="cpu")  # type: ignore[no-untyped-call]
    return _compared(loaded, network, window, "models/model.ts", f"TorchScript trace; windows of {_by(window)} voxels")


def _follow_input(traced: Any) -> None:  # noqa: ANN401 - a ScriptModule, whose graphs have no types
    """Let the tensors that a network makes itself, such as the masks of Swin UNETR, lie on the device of its input.

    A trace states the device on which it was made, the CPU, and `map_location` moves the weights alone: on a GPU the
    network would end with tensors on two devices.
    """
    for module in traced.modules():
        for name in module._c._method_names():  # a module that is called twice has `forward1` too
            graph = module._c._get_method(name).graph
            tensor = next((value for value in graph.inputs() if value.type().kind() == "TensorType"), None)
            for stated in graph.findAllNodes("prim::Constant"):
                if tensor is None or stated.output().type().kind() != "DeviceObjType":
                    continue
                found = graph.create("prim::device", [tensor], 1)
                found.insertAfter(stated)
                found.output().setType(torch._C.DeviceObjType.get())
                stated.output().replaceAllUsesWith(found.output())


def onnx(network: nn.Module, window: Sequence[int], folder: Path) -> Export:
    """Write `models/model.onnx`: input `image`, output `pred`, any number of windows if the network allows it.

    Raises:
        UsageError: onnx, onnxscript or onnxruntime is not installed.
        VolsegError: ONNX cannot express the network.
    """
    _need("onnx", "onnxscript", "onnxruntime")
    path = folder / "models" / "model.onnx"
    try:
        session = _onnx(network, window, path, batches=True)
        batch = "any number of windows"
    except Exception as error:  # noqa: BLE001 - torch.export, the exporter and onnxruntime raise errors of many kinds
        logger.info("ONNX with any number of windows is not possible (%s): one at a time", _reason(error))
        try:
            session = _onnx(network, window, path, batches=False)
        except Exception as final:
            raise VolsegError(f"ONNX cannot express this network ({_reason(final)}); pack without --onnx") from final
        batch = "one window at a time"

    def run(windows: Tensor) -> Tensor:
        return torch.from_numpy(session.run(None, {"image": windows.numpy()})[0])

    note = f"ONNX, opset {OPSET}; {batch}, of {_by(window)} voxels"
    return _compared(run, network, window, "models/model.onnx", note)


def _onnx(network: nn.Module, window: Sequence[int], path: Path, *, batches: bool) -> Any:  # noqa: ANN401
    """Export once, into one file and without output; returns a session of onnxruntime that takes all windows."""
    import onnx
    import onnxruntime

    talkers = {talker: talker.level for talker in map(logging.getLogger, ("torch.onnx", "onnxscript", "onnx_ir"))}
    for talker in talkers:
        talker.setLevel(logging.ERROR)
    # torch.export sees a batch of 1 as a constant, so the sample has two windows where the number is left open.
    sample = torch.zeros(2 if batches else 1, *window)
    shapes = ({0: torch.export.Dim("batch", min=1, max=1024)},) if batches else None
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            program = torch.onnx.export(
                network,
                (sample,),
                None,
                dynamo=True,
                verbose=False,
                opset_version=OPSET,
                input_names=["image"],
                output_names=["pred"],
                dynamic_shapes=shapes,
            )
    finally:
        for talker, level in talkers.items():
            talker.setLevel(level)
    if program is None:
        raise VolsegError("PyTorch's exporter gave no program")
    model = program.model_proto
    for node in model.graph.node:
        del node.metadata_props[:]  # traces of calls, with the folders of this machine's libraries
    onnx.save_model(model, str(path))
    session = onnxruntime.InferenceSession(str(path), providers=["CPUExecutionProvider"])
    for number in (1, 3) if batches else (1,):  # PyTorch may have fixed the number of the sample without a word
        session.run(None, {"image": torch.zeros(number, *window).numpy()})
    return session


def openvino(network: nn.Module, window: Sequence[int], folder: Path) -> Export:
    """Write `models/model.xml` and `.bin`, which `volseg predict` reads instead of converting anew.

    Raises:
        UsageError: The package openvino is not installed.
        VolsegError: OpenVINO cannot convert the network.
    """
    path = folder / EXPORTED
    OpenVinoEngine(network, window=window, precision="fp32").save(path)
    loaded = OpenVinoEngine(network, window=window, precision="fp32", exported=path)
    return _compared(loaded, network, window, "models/model.xml", f"OpenVINO; one window of {_by(window)} voxels")


FORMATS = ("safetensors", "torchscript", "onnx", "openvino")


def _compared(
    written: Callable[[Tensor], Tensor], network: nn.Module, window: Sequence[int], file: str, note: str
) -> Export:
    """The export with its difference.

    Raises:
        VolsegError: The file computes something else.
    """
    apart, scale = difference(written, network, window=window, draws=_DRAWS)
    if not apart <= max(LIMIT, _WRONG * scale):
        raise VolsegError(
            f"{file}: its logits differ from PyTorch's by {apart:.3g} where the largest is {scale:.3g}, "
            f"expected {LIMIT:g} or less; pack without this format"
        )
    if apart > LIMIT:
        logger.warning("%s: its logits differ from PyTorch's by %.2g (largest logit %.3g)", file, apart, scale)
    else:
        logger.info("%s: its logits are PyTorch's within %.1e (largest logit %.3g)", file, apart, scale)
    return Export(file, apart, scale, note)


def _need(*packages: str) -> None:
    missing = [package for package in packages if importlib.util.find_spec(package) is None]
    if missing:
        raise UsageError(f"--onnx needs {' and '.join(missing)}; pip install 'volseg[onnx]'")


def _reason(error: Exception) -> str:
    lines = str(error).strip().splitlines()
    return f"{type(error).__name__}: {lines[0][:120]}" if lines else type(error).__name__


def _by(window: Sequence[int]) -> str:
    return " x ".join(map(str, window[1:]))

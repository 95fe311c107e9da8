"""INT8 for OpenVINO: calibrated on training cases, and packed only if Dice stays and it is faster than bfloat16."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import io
import logging
import os
import time
from collections.abc import Iterator, Sequence
from dataclasses import asdict
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from volseg.bundle import Recipe
from volseg.cohort import ALL, Cohort
from volseg.deploy.pack.file_digest import sha256
from volseg.deploy.pack.paired import Change, PairedCases, Windows
from volseg.deploy.pack.window_seconds import window_seconds
from volseg.errors import UsageError, VolsegError
from volseg.inference import (
    EXPORTED,
    EXPORTED_INT8,
    ArrayPredictor,
    PackedWindows,
    array_predictor,
    find_inputs,
    instructions,
    openvino_core,
    processor,
)
from volseg.volume import read_volume

logger = logging.getLogger(__name__)

CALIBRATION_CASES = 20
WINDOWS_PER_CASE = 2
VALIDATION_CASES = 60
# Operations that go back at most, before INT8 is refused: each costs a pass over the validation cases.
_MOST_REVERTED = 12
MAX_REVERTING_S = 600.0  # of processor time, while operations go back
_TELL_S = 20.0  # of processor time between two lines of progress
_BEST = 100.0
_LAYERS = ("Convolution", "GroupConvolution", "ConvolutionBackpropData", "GroupConvolutionBackpropData", "MatMul")
_MOVES = ("Concat", "Gather", "Reshape", "Squeeze", "Unsqueeze", "Transpose")


def check_nncf() -> None:
    """Refuse to quantise where NNCF is not installed.

    Raises:
        UsageError: It is so.
    """
    if importlib.util.find_spec("nncf") is None:
        raise UsageError("--int8 needs NNCF; pip install 'volseg[int8]', or pack without --int8")


def pack_int8(
    bundle: str | Path, checkpoint: str | Path | None, folder: Path, *, cohort: str | Path | None
) -> dict[str, Any]:
    """Write `models/model_int8.xml` and `.bin` into a package that holds `models/model.xml`, and tell of them.

    NNCF quantises weights per channel and activations symmetrically, by windows of training cases. The label maps of
    validation cases are compared with those in single precision: where the mean Dice falls by more than 0.001, that of
    a case by more than 0.01, or a region is lost, operations go back to bfloat16 one by one, for at most
    `MAX_REVERTING_S`. Each makes the network slower, so that none goes back where INT8 is no faster to begin with.

    Args:
        bundle: Folder of the bundle.
        checkpoint: File of the weights; the bundle's default otherwise.
        folder: Folder of the package.
        cohort: Cohort that the network was trained on; None for the one that its recipe names.

    Returns:
        The entry `int8` of the metadata: calibration with the sha256 of its images, layers, Dice and seconds.

    Raises:
        UsageError: NNCF is not installed, the cohort is absent or of other regions, or INT8 is no gain: the message
            has the figures.
    """
    check_nncf()
    predictor = array_predictor([(str(bundle), _path(checkpoint))], device="cpu", overrides={"precision": "fp32"})
    if predictor is None or predictor.recipe.takes_prior:
        raise UsageError("--int8 needs a network of volseg's own steps that takes no prior; pack it without --int8")
    recipe = predictor.recipe
    opened = _cohort(cohort, recipe)
    training, validation, part = _parts(opened, recipe)
    inputs = dict(find_inputs(opened.folder, channels=recipe.image_channels, part="labelled"))
    calibrated = [(key, inputs[key]) for key in training]
    windows = _windows(predictor, calibrated, opened)
    window = (len(recipe.channel_names), *(int(n) for n in recipe.roi_size))
    exact = PackedWindows(folder / EXPORTED, window=window, precision="fp32")
    half = PackedWindows(folder / EXPORTED, window=window, precision="bf16")
    logger.info("INT8: %d windows of %d training cases calibrate it", len(windows), len(training))
    cases = PairedCases(
        predictor, [(key, inputs[key], opened.label_path(key)) for key in validation], opened.labels, exact=exact
    )
    rest = half.precision  # of what is not in 8 bits; fp32 where the CPU has no bfloat16

    def timed(path: Path) -> dict[str, float]:
        seconds = window_seconds({"fp32": exact, "bf16": half, "int8": _int8(path, window)}, windows)
        if not seconds["int8"] < min(seconds[rest], seconds["fp32"]):
            raise UsageError(
                f"INT8 is not packed: it takes {1000 * seconds['int8']:.1f} ms per window on this CPU and {rest} "
                f"{1000 * seconds[rest]:.1f}; pack without --int8"
            )
        return seconds

    with _nncf() as nncf:
        path = _saved(_quantised(nncf, folder, windows), folder)
    seconds, change = timed(path), cases.change(_int8(path, window))
    if change.reason:
        with _nncf() as nncf:
            path = _saved(_in_part(nncf, folder, windows, cases, change), folder)
        change = cases.change(_int8(path, window))
        seconds = seconds if change.reason else timed(path)
    if change.reason:
        raise UsageError(f"INT8 is not packed: {change.reason}, on {change.told}; pack without --int8")
    left, layers = _layers(path)
    logger.info(
        "INT8: %s; %d of %d layers in 8 bits; ms per window: %s",
        change.told,
        layers - len(left),
        layers,
        ", ".join(f"{name} {1000 * one:.1f}" for name, one in seconds.items()),
    )
    return {
        "calibration": {
            "cohort": opened.folder.resolve().name,
            "fold": recipe.facts.get("fold", 0),
            "windows": len(windows),
            "images_sha256": [sha256(image) for _, images in calibrated for image in images],
        },
        "layers": {"all": layers, "int8": layers - len(left), "left": left, "rest": rest},
        "validation": {"part": part, **asdict(change)},
        "seconds_per_window": {name: round(one, 5) for name, one in seconds.items()},
        "processor": processor(),
        "instructions": list(instructions()),
        "versions": {"openvino": version("openvino"), "nncf": version("nncf")},
    }


def _path(checkpoint: str | Path | None) -> Path | None:
    return None if checkpoint is None else Path(checkpoint)


def _cohort(named: str | Path | None, recipe: Recipe) -> Cohort:
    """The cohort of the training."""
    place = named if named is not None else recipe.facts.get("cohort")
    if place is None or ("://" not in str(place) and not Path(str(place)).is_dir()):
        told = f"; {place}, which the checkpoint names, is not there" if place is not None and named is None else ""
        raise UsageError(
            f"--int8 needs the cohort of the training, whose windows calibrate it{told}; name its folder with --cohort"
        )
    opened = Cohort.open(str(place))
    if opened.labels.digest != recipe.labels.digest or opened.channels != len(recipe.image_channels):
        raise UsageError(
            f"--cohort must be the one that the network was trained on ({', '.join(recipe.labels.names)}; "
            f"{', '.join(recipe.image_channels)}), got {opened.folder} with {', '.join(opened.labels.names)} and "
            f"{', '.join(opened.channel_names)}"
        )
    return opened


def _parts(cohort: Cohort, recipe: Recipe) -> tuple[list[str], list[str], str]:
    """Keys of training cases that calibrate and of validation cases that are compared, and what the latter are."""
    fold = cohort.fold(recipe.facts.get("fold", 0))
    training = _some(fold.training, CALIBRATION_CASES)
    validation, part = list(fold.validation), f"validation of fold {recipe.facts.get('fold', 0)}"
    if not validation:  # trained on all: the comparison is paired, so that a case which trained may take part
        validation = [key for key in fold.training if key not in training] or list(fold.training)
        part = (
            f"training (fold {ALL}), other than the calibration's" if len(fold.training) > len(training) else "training"
        )
    if not training:
        raise UsageError(f"--int8 needs training cases with labels, and {cohort.folder} has none")
    return training, _some(validation, VALIDATION_CASES), part


def _some(keys: Sequence[str], count: int) -> list[str]:
    """At most so many keys, evenly spaced in their order."""
    ordered = sorted(keys)
    if len(ordered) <= count:
        return ordered
    return [ordered[index] for index in np.linspace(0, len(ordered) - 1, count).round().astype(int)]


def _windows(
    predictor: ArrayPredictor, cases: Sequence[tuple[str, Sequence[Path]]], cohort: Cohort
) -> list[NDArray[np.float32]]:
    """Windows (1, C, *roi) of the cases: of each one around the middle of its regions, and others anywhere."""
    generator = np.random.default_rng(0)
    found = []
    roi = np.array([int(n) for n in predictor.recipe.roi_size])
    for key, images in cases:
        item = predictor.preprocess(images, key=key)
        image = item["image"]
        short = np.maximum(0, roi - image.shape[1:])
        image = np.pad(image, [(0, 0), *((n // 2, n - n // 2) for n in short)])
        room = np.array(image.shape[1:]) - roi
        firsts = [generator.integers(0, room + 1) for _ in range(WINDOWS_PER_CASE - 1)]
        if (middle := _middle(cohort.label_path(key), item["grid"].matrix)) is not None:
            firsts.append(np.clip(np.round(middle + short // 2 - roi / 2).astype(int), 0, room))
        for first in firsts:
            box = tuple(slice(start, start + n) for start, n in zip(first, roi, strict=True))
            found.append(np.ascontiguousarray(image[(slice(None), *box)])[None])
    return found


def _middle(label: Path | None, matrix: NDArray[np.float64]) -> NDArray[np.float64] | None:
    """The mean voxel of the regions on the network's grid; None if the label map is empty."""
    if label is None:
        return None
    inside = np.nonzero(read_volume(label).voxels)
    if not inside[0].size:
        return None
    mean = np.array([axis.mean() for axis in inside])
    middle: NDArray[np.float64] = matrix[:3, :3] @ mean + matrix[:3, 3]
    return middle


def _options(nncf: Any, model: Any, windows: Sequence[NDArray[np.float32]]) -> dict[str, Any]:  # noqa: ANN401
    """What NNCF is told of a model, whether or not operations go back."""
    attention = any(op.get_type_name() in ("Softmax", "ScaledDotProductAttention") for op in model.get_ops())
    return {
        "preset": nncf.QuantizationPreset.PERFORMANCE,
        "target_device": nncf.TargetDevice.CPU,
        "subset_size": len(windows),
        "fast_bias_correction": True,
        "model_type": nncf.ModelType.TRANSFORMER if attention else None,
    }


def _single_precision(folder: Path) -> Any:  # noqa: ANN401 - a model of OpenVINO
    """The packed network, with weights that are constants: NNCF 3.4 fails on a slice of weights, as images have it."""
    from openvino.passes import ConstantFolding, Manager

    model = openvino_core().read_model(folder / EXPORTED)  # the first core lives on, see there
    steps = Manager()
    steps.register_pass(ConstantFolding())
    steps.run_passes(model)
    return model


def _quantised(nncf: Any, folder: Path, windows: Sequence[NDArray[np.float32]]) -> Any:  # noqa: ANN401
    """The network in 8 bits: a model of OpenVINO."""
    model = _single_precision(folder)
    return nncf.quantize(model, nncf.Dataset(list(windows)), **_options(nncf, model, windows))


def _in_part(
    nncf: Any,  # noqa: ANN401 - NNCF has no types
    folder: Path,
    windows: Sequence[NDArray[np.float32]],
    cases: PairedCases,
    change: Change,
) -> Any:  # noqa: ANN401 - openvino.Model
    """The network in 8 bits but for operations that went back until the change of Dice was small, if that sufficed.

    Raises:
        UsageError: It took more than `MAX_REVERTING_S` of processor time.
    """
    logger.info("INT8: %s, on %s: operations go back to bfloat16", change.reason, change.told)
    start = told = time.process_time()
    tried = 0

    def validate(compiled: Any, items: Any) -> tuple[float, list[float]]:  # noqa: ANN401 - NNCF has no types
        nonlocal told, tried
        now = time.process_time()
        if now - start > MAX_REVERTING_S:
            raise UsageError(
                f"INT8 is not packed: {change.reason}, on {change.told}, and after {now - start:.0f} s of processor "
                f"time NNCF has not found which operations must go back to bfloat16 ({tried} trials, limit "
                f"{MAX_REVERTING_S:.0f} s); pack without --int8"
            )
        tried += 1
        if now - told > _TELL_S:
            told = now
            logger.info("INT8: %d trials of operations, %.0f of at most %.0f s", tried, now - start, MAX_REVERTING_S)
        score, each = cases.badness(_Compiled(compiled), [int(item) for item in items])
        return _BEST - score, [_BEST - one for one in each]  # NNCF divides by the metric of the original

    model = _single_precision(folder)
    return nncf.quantize_with_accuracy_control(
        model,
        nncf.Dataset(list(windows)),
        nncf.Dataset(list(range(len(cases)))),
        validate,
        max_drop=1.0,  # a score of 1 is what is allowed, see `PairedCases.badness`
        drop_type=nncf.DropType.ABSOLUTE,
        advanced_accuracy_restorer_parameters=nncf.AdvancedAccuracyRestorerParameters(
            max_num_iterations=_MOST_REVERTED, ranking_subset_size=max(1, min(4, len(cases))), num_ranking_workers=1
        ),
        **_options(nncf, model, windows),
    )


@contextlib.contextmanager
def _nncf() -> Iterator[Any]:
    """NNCF without its reports to its makers, which it decides about as it is imported, and without its output."""
    before = os.environ.get("NNCF_CI")
    os.environ["NNCF_CI"] = "1"
    try:
        nncf = importlib.import_module("nncf")
    finally:
        os.environ.pop("NNCF_CI")
        if before is not None:
            os.environ["NNCF_CI"] = before
    talker = logging.getLogger("nncf")
    level, talker.propagate = talker.level, False
    talker.setLevel(logging.ERROR)
    try:
        with contextlib.redirect_stdout(io.StringIO()):
            yield nncf
    except (RuntimeError, ValueError, TypeError, IndexError, ArithmeticError) as error:  # NNCF and OpenVINO raise these
        if isinstance(error, VolsegError):
            raise
        reason = f"{type(error).__name__}: {error}".splitlines()[0][:200]
        raise UsageError(f"NNCF cannot quantise this network ({reason}); pack without --int8") from error
    finally:
        talker.setLevel(level)


class _Compiled:
    """A model that NNCF has compiled, as a function of windows."""

    name, precision, windows_at_once = "openvino", "int8", 1

    def __init__(self, compiled: Any) -> None:  # noqa: ANN401 - openvino.CompiledModel
        self._compiled = compiled

    def __call__(self, windows: NDArray[np.float32]) -> NDArray[np.float32]:
        return np.concatenate([self._compiled(window[None])[0] for window in windows])


def _int8(path: Path, window: Sequence[int]) -> Windows:
    return PackedWindows(path, window=window, precision="int8")


def _saved(model: Any, folder: Path) -> Path:  # noqa: ANN401 - openvino.Model
    import openvino

    path = folder / EXPORTED_INT8
    model.set_friendly_name(path.stem)
    openvino.save_model(model, path, compress_to_fp16=False)
    return path


def _layers(path: Path) -> tuple[list[str], int]:
    """The names of the layers with weights or attention that are not in 8 bits, and the number of all."""
    found = [op for op in openvino_core().read_model(path).get_ordered_ops() if op.get_type_name() in _LAYERS]
    return [op.get_friendly_name() for op in found if not _takes_8_bits(op)], len(found)


def _takes_8_bits(layer: Any) -> bool:  # noqa: ANN401 - a node of OpenVINO
    """Whether all that a layer is given was rounded to 8 bits, joined or given another shape in between or not."""
    given = [layer.input(0).get_source_output().get_node()]
    while given:
        node = given.pop()
        kind = node.get_type_name()
        if kind in _MOVES:
            joined = node.get_input_size() if kind == "Concat" else 1
            given += [node.input(number).get_source_output().get_node() for number in range(joined)]
        elif kind != "FakeQuantize":
            return False
    return True

"""What a prediction costs, file in and file out, beside MONAI's default pipeline and nnU-Net's predictor.

    sh benchmarks/run.sh inference

One network of random weights, one volume, one window and overlap for all: a NIfTI file is read, brought to the network,
segmented and written as a NIfTI file. Each way is a process of its own, so its peak is that of the whole program, and
the ways alternate round by round; figures are medians, and ratios are medians of the rounds' ratios. The network is
MONAI's DynUNet or UNETR in PyTorch's own layers, so that nnU-Net's environment needs no MONAI: it is traced once and
all others load that one file, while volseg's engines take the same weights in their own ways. With --run it is that of
a training, whose decisions are sure of themselves as random ones are not: for the agreement.

- volseg: `Predictor` as `volseg predict` uses it, by engine; every window is looked at. Compiling and converting are
  not counted, as they are done once for a cohort: "ready" is what they took. In single precision unless named.
- monai: LoadImage to SaveImage with MONAI's transforms for the same steps, and SlidingWindowInferer as it comes but for
  window, overlap and mode="gaussian"; "batch 4" shows the network four windows at a time, as MONAI's tutorials do.
- nnunet: nnunetv2's own nnUNetPredictor.predict_sliding_window_return_logits with its defaults (Gaussian, no mirror
  images) around reading and writing with nibabel, and the same normalisation.

Agreement is with volseg's torch engine: voxels whose label differs, and the largest difference of logits.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
from harness import measurement
from harness.measurement import CPU, PEAK, WALL, Measure, Values

WAYS = (
    "volseg torch",
    "volseg torch bf16",
    "volseg compiled",
    "volseg openvino fp32",
    "volseg openvino bf16",
    "monai",
    "monai batch 4",
    "nnunet",
)
CHANNELS = 3
WINDOWS = {"dynunet": [64, 64, 64], "unetr": [96, 96, 96]}
ADDED = Measure("added_mib", "of it added by the case", "MiB", 0)
READY = Measure("ready_s", "Ready", "s", 1, compared=False)


# --- one way, in a process of its own: no import of volseg or MONAI before it is known which way it is


def memory_mib(name: str) -> float:
    """VmRSS, what this process holds, or VmHWM, the most it has held; what getrusage tells may be its parent's."""
    (line,) = (line for line in Path("/proc/self/status").read_text().splitlines() if line.startswith(name))
    return int(line.split()[1]) / 2**10


def begin() -> tuple[float, float, float]:
    """Wall and processor seconds and the memory held (MiB), with libraries and network loaded; the peak is reset."""
    Path("/proc/self/clear_refs").write_text("5")
    return time.perf_counter(), time.process_time(), memory_mib("VmRSS")


def cost(since: tuple[float, float, float]) -> dict[str, float]:
    """Wall and processor seconds since then, the most memory held since, and how much that is above the beginning."""
    wall_s, cpu_s, peak = time.perf_counter() - since[0], time.process_time() - since[1], memory_mib("VmHWM")
    return {"wall_s": wall_s, "cpu_s": cpu_s, "peak_mib": peak, "added_mib": peak - since[2]}


def build(settings: dict[str, Any]) -> Any:  # noqa: ANN401 - torch.nn.Module
    """The network: of a training, or with random weights from a fixed seed."""
    import torch

    if settings["architecture"] == "trained":
        from monai.bundle import ConfigParser

        parser = ConfigParser()
        parser.read_config(str(Path(settings["run"]) / "train.json"))
        network = parser.get_parsed_content("network_def")
        checkpoint = torch.load(Path(settings["run"]) / "model.pt", map_location="cpu", weights_only=True)
        network.load_state_dict(checkpoint["model"])
        return network.eval()
    from monai.networks.nets import UNETR, DynUNet

    torch.manual_seed(0)
    if settings["architecture"] == "unetr":
        return UNETR(1, CHANNELS, settings["window"], feature_size=settings["width"]).eval()
    strides = [[1] * 3, [2] * 3, [2] * 3, [2] * 3]
    filters = [settings["width"] * 2**n for n in range(4)]
    return DynUNet(3, 1, CHANNELS, [[3] * 3] * 4, strides, strides[1:], filters=filters).eval()


def with_volseg(settings: dict[str, Any], way: str, out: Path) -> dict[str, Any]:
    """As `volseg predict` does it."""
    from volseg.cli.process import settle

    settle()  # as the command does, before PyTorch is loaded
    import torch

    from volseg.bundle import Recipe
    from volseg.cohort import write_prediction
    from volseg.inference import CompiledEngine, OpenVinoEngine, Predictor, TorchEngine, sliding_window
    from volseg.labels import LabelTable
    from volseg.transforms import postprocessing, preprocessing

    labels = LabelTable.overlapping([f"region{number}" for number in range(settings["channels"])])
    window, device = settings["window"], torch.device("cpu")
    network = build(settings)
    network.load_state_dict(torch.jit.load(settings["network"]).state_dict())
    _, engine_name, *precision = way.split()
    started = time.perf_counter()
    if engine_name == "torch":
        if precision and not torch.cpu._is_avx512_bf16_supported():
            return {"skipped": "this CPU has no bfloat16, which PyTorch imitates"}
        engine: Any = TorchEngine(network, device=device, precision=precision[0] if precision else "fp32")
    elif engine_name == "compiled":
        engine = CompiledEngine(network, window=(1, *window), precision="fp32")
    else:
        engine = OpenVinoEngine(network, window=(1, *window), precision=precision[0], exported=Path(settings["xml"]))
        if engine.precision != precision[0]:
            return {"skipped": f"this CPU computes {engine.precision} instead"}
    ready_s = time.perf_counter() - started
    before = preprocessing(labels, channels=1, spacing_mm=settings["spacing_mm"], label=False)
    inferer = sliding_window(window, overlap=settings["overlap"], precision="fp32")
    recipe = Recipe(labels, ["MR"], settings["spacing_mm"], window, {})
    after = postprocessing(labels, before)
    predictor = Predictor(network, before, inferer, after, Path(), recipe, device, engine)
    began = begin()
    item = predictor.infer(predictor.preprocess([settings["image"]], key="case"))
    write_prediction(out / "case.nii.gz", predictor.postprocess(item))
    used = cost(began)
    np.save(out / "logits.npy", item["pred"].numpy())
    return {**used, "ready_s": ready_s}


def with_monai(settings: dict[str, Any], out: Path, *, batch: int) -> dict[str, Any]:
    """As MONAI's tutorials and bundles do it."""
    import torch
    from monai import transforms as mt
    from monai.inferers import SlidingWindowInferer

    network = torch.jit.load(settings["network"]).eval()
    before = mt.Compose(
        [
            mt.LoadImaged("image"),
            mt.EnsureChannelFirstd("image"),
            mt.Orientationd("image", axcodes="RAS", labels=None),
            mt.Spacingd("image", pixdim=settings["spacing_mm"], mode="bilinear"),
            mt.ClipIntensityPercentilesd("image", lower=0.5, upper=99.5, channel_wise=True),
            mt.NormalizeIntensityd("image", channel_wise=True),
            mt.EnsureTyped("image", dtype=torch.float32),
        ]
    )
    after = mt.Compose(
        [
            mt.Activationsd("pred", sigmoid=True),
            mt.Invertd("pred", transform=before, orig_keys="image", nearest_interp=False, to_tensor=True),
            mt.AsDiscreted("pred", threshold=0.5),
            mt.SaveImaged("pred", output_dir=out, output_postfix="", separate_folder=False, print_log=False),
        ]
    )
    inferer = SlidingWindowInferer(
        settings["window"], sw_batch_size=batch, overlap=settings["overlap"], mode="gaussian"
    )
    began = begin()
    with torch.inference_mode():
        item = before({"image": settings["image"]})
        logits = inferer(item["image"][None], network)
        item["pred"] = logits[0]
        after(item)
    used = cost(began)
    np.save(out / "logits.npy", torch.as_tensor(logits[0]).numpy())
    return used


def with_nnunet(settings: dict[str, Any], out: Path) -> dict[str, Any]:
    """As nnU-Net's predictor does it, with its defaults and the sum on the CPU."""
    import nibabel
    import torch
    from nnunetv2.inference.predict_from_raw_data import nnUNetPredictor

    class Plans:
        """The three facts that the sliding window asks its plans and labels for."""

        patch_size = tuple(settings["window"])
        num_segmentation_heads = settings["channels"]

    network = torch.jit.load(settings["network"]).eval()
    predictor = nnUNetPredictor(
        tile_step_size=1 - settings["overlap"],
        use_gaussian=True,
        use_mirroring=False,
        perform_everything_on_device=False,
        device=torch.device("cpu"),
        allow_tqdm=False,
    )
    predictor.network = network
    predictor.configuration_manager = Plans()
    predictor.label_manager = Plans()
    predictor.allowed_mirroring_axes = None
    began = begin()
    image = nibabel.as_closest_canonical(nibabel.load(settings["image"]))
    voxels = np.asarray(image.dataobj, dtype=np.float32)
    low, high = np.percentile(voxels, (0.5, 99.5))
    voxels = voxels.clip(low, high)
    voxels = ((voxels - voxels.mean()) / voxels.std()).astype(np.float32)
    with torch.inference_mode():
        logits = predictor.predict_sliding_window_return_logits(torch.from_numpy(voxels)[None])
        decided = (logits.float().sigmoid() > 0.5).numpy()
    regions = (region.astype(np.uint8) << number for number, region in enumerate(decided))
    label_map = sum(regions, np.zeros(decided.shape[1:], np.uint8))
    first = nibabel.orientations.io_orientation(nibabel.load(settings["image"]).affine)
    turned = nibabel.orientations.ornt_transform(nibabel.orientations.axcodes2ornt("RAS"), first)
    back = nibabel.orientations.apply_orientation(label_map, turned)
    nibabel.save(nibabel.Nifti1Image(back, nibabel.load(settings["image"]).affine), out / "case.nii.gz")
    used = cost(began)
    np.save(out / "logits.npy", logits.float().numpy())
    return used


def run_one(way: str, folder: Path) -> None:
    """Do it and leave `result.json`, the label map and the logits."""
    settings = json.loads((folder / "settings.json").read_text())
    out = folder / way.replace(" ", "_")
    out.mkdir(exist_ok=True)
    if way.startswith("monai"):
        result = with_monai(settings, out, batch=4 if way.endswith("4") else 1)
    elif way == "nnunet":
        result = with_nnunet(settings, out)
    else:
        result = with_volseg(settings, way, out)
    (out / "result.json").write_text(json.dumps(result))


# --- all ways, compared


def prepare(options: argparse.Namespace) -> dict[str, Any]:
    """The volume and the network as files, and what all ways are told."""
    import torch
    from scipy.ndimage import zoom

    from volseg.datasets import phantom_case
    from volseg.inference import OpenVinoEngine, installed
    from volseg.volume import Volume, read_grid, spacing_mm, write_volume

    folder: Path = options.output
    folder.mkdir(parents=True, exist_ok=True)
    image = options.image
    if image is None:
        image = folder / "image.nii.gz"
        voxels = phantom_case(patient=201, day=0).channels[0].voxels
        fine = zoom(voxels, [n / was for n, was in zip(options.shape, voxels.shape, strict=True)], order=1)
        write_volume(image, Volume(fine, np.diag([-1.5, -1.5, 3.0, 1.0])))
    shape, affine = read_grid(image)
    settings: dict[str, Any] = {"architecture": options.network, "width": options.width, "window": options.window}
    if options.run:
        settings |= {"architecture": "trained", "run": str(options.run.resolve())}
    network = build(settings)
    with torch.no_grad():
        if not options.run:  # logits as large as those of a trained network
            last = network.out.conv.conv if options.network == "unetr" else network.output_block.conv.conv
            last.weight *= 10
        traced = torch.jit.trace(network, torch.zeros(1, 1, *options.window))
        settings["channels"] = traced(torch.zeros(1, 1, *options.window)).shape[1]
    traced.save(folder / "network.pt")
    if installed():
        OpenVinoEngine(network, window=(1, *options.window), precision="fp32").save(folder / "network.xml")
    settings |= {
        "image": str(image.resolve()),
        "network": str((folder / "network.pt").resolve()),
        "xml": str((folder / "network.xml").resolve()),
        "overlap": options.overlap,
        # MONAI's transforms measure along the turned axes.
        "spacing_mm": [float(mm) for mm in spacing_mm(affine)],
    }
    (folder / "settings.json").write_text(json.dumps(settings))
    return {**settings, "shape": shape, "parameters": sum(p.numel() for p in network.parameters())}


def labels_of(out: Path) -> np.ndarray[Any, Any]:
    """The label map that a way wrote; MONAI writes one channel per region."""
    import nibabel

    (path,) = out.glob("*.nii.gz")
    voxels = np.asarray(nibabel.load(path).dataobj)
    if voxels.ndim == 4:
        regions = (voxels[..., i].astype(np.uint8) << i for i in range(voxels.shape[3]))
        voxels = sum(regions, np.zeros(voxels.shape[:3]))
    return voxels.astype(np.uint8)


def ways(options: argparse.Namespace) -> dict[str, Callable[[], Values]]:
    """What each way is timed at, a process of its own."""

    def timed(way: str) -> Callable[[], Values]:
        def once() -> Values:
            python = options.nnunet_python or measurement.peer("nnunet") if way == "nnunet" else sys.executable
            command = [str(python), __file__, "-o", str(options.output), "--one", way]
            theirs = None if way.startswith("volseg") else measurement.environment_of_peers()
            done = subprocess.run(command, capture_output=True, text=True, check=False, env=theirs)
            if done.returncode:
                raise measurement.LeftOut((done.stderr.strip().splitlines() or ["no message"])[-1])
            found = json.loads((options.output / way.replace(" ", "_") / "result.json").read_text())
            if "skipped" in found:
                raise measurement.LeftOut(found["skipped"])
            return dict(found)

        return once

    return {way: timed(way) for way in WAYS if way not in options.leave_out}


def agreement(folder: Path, names: list[str]) -> dict[str, dict[str, str]]:
    """Voxels whose label differs from volseg's torch engine, and the largest difference of logits."""
    first = folder / WAYS[0].replace(" ", "_")
    plain, logits = labels_of(first), np.load(first / "logits.npy", mmap_mode="r")
    facts = {WAYS[0]: {"Logits that differ by": f"(largest {float(np.abs(logits).max()):.1f})"}}
    for way in names:
        if way != WAYS[0]:
            out = folder / way.replace(" ", "_")
            apart = float(np.abs(np.load(out / "logits.npy", mmap_mode="r") - logits).max())
            differing = float(np.mean(labels_of(out) != plain))
            facts[way] = {"Labels that differ": f"{differing:.1e}", "Logits that differ by": f"{apart:.1e}"}
    return facts


def compared(options: argparse.Namespace) -> Any:  # noqa: ANN401 - JSON
    """The table of one network."""
    settings = prepare(options)
    found, left_out = measurement.paired(ways(options), rounds=options.rounds)
    left_out |= dict.fromkeys(options.leave_out, "not asked for")
    shape, window = (" x ".join(map(str, sizes)) for sizes in (settings["shape"], options.window))
    network = f"{options.network} as trained" if options.run else options.network
    title = (
        f"Volume {shape}, window {window}, overlap {options.overlap}, {network} with "
        f"{settings['parameters'] / 1e6:.1f} million weights"
    )
    facts = agreement(options.output, list(found))
    return measurement.table(
        title, [WALL, CPU, PEAK, ADDED, READY], found, reference=WAYS[0], facts=facts, left_out=left_out
    )


def jobs(given: argparse.Namespace) -> list[argparse.Namespace]:
    """The options of each network: those of random weights, then that of a training, on a volume of its own."""
    from volseg.bundle import read_recipe

    found = []
    for network in given.networks:
        shape, window = given.shape, given.window or WINDOWS[network]
        width, rounds = given.width, given.rounds
        if given.quick:
            shape, window, width, rounds = [64, 64, 48], [32, 32, 32], 4, 1
        own = {"network": network, "run": None, "image": None, "shape": shape, "window": window, "width": width}
        output = given.output / network
        found.append(argparse.Namespace(**{**vars(given), **own, "rounds": rounds, "output": output}))
    if given.run:
        recipe = read_recipe(given.run / "model.pt")
        own = {"network": given.run.resolve().name, "window": list(recipe.roi_size), "output": given.output / "trained"}
        found.append(argparse.Namespace(**{**vars(given), **own}))
    return found


def main() -> None:
    """Parse, run the rounds and write."""
    parser = measurement.options("inference", __doc__)
    parser.add_argument("--shape", type=int, nargs=3, default=[160, 160, 96], help="the phantom is enlarged to")
    parser.add_argument("--window", type=int, nargs=3, help="64 cubed for dynunet, 96 cubed for unetr otherwise")
    parser.add_argument("--networks", nargs="+", choices=tuple(WINDOWS), default=list(WINDOWS))
    parser.add_argument(
        "--run", type=Path, help="folder of a training: its network too, with weights and window; needs --image"
    )
    parser.add_argument("--image", type=Path, help="the NIfTI volume for the network of --run")
    parser.add_argument("--overlap", type=float, default=0.5)
    parser.add_argument("--width", type=int, default=16, help="channels of the network's first stage")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--nnunet-python", type=Path, help="of an environment with nnunetv2; data/peers/nnunet's")
    parser.add_argument("--leave-out", action="append", default=[], choices=WAYS[1:])
    parser.add_argument("--one", choices=WAYS, help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.one:
        run_one(options.one, options.output)
        return
    if (options.run is None) != (options.image is None):
        parser.error("--run and --image go together")
    machine, tables = measurement.machine(), [compared(job) for job in jobs(options)]
    versions = measurement.versions("volseg", "torch", "monai", "openvino", "numpy")
    if any(row["name"] == "nnunet" for table in tables for row in table["rows"]) and not options.nnunet_python:
        versions |= measurement.versions("nnunetv2", python=measurement.peer("nnunet"))
    measurement.write(measurement.result("inference", tables, quick=options.quick, machine=machine, versions=versions))


if __name__ == "__main__":
    main()

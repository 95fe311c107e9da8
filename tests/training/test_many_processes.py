"""Two processes under torchrun train as one that accumulates the gradients of two batches."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

import pytest
import torch

from volseg.errors import UsageError
from volseg.training import rank_device

BUNDLES = Path(__file__).resolve().parents[2] / "bundles"
# One tiny network after another; what the JSON calls its width.
TINY = {
    "swinunetr": ("--window_size", "2"),
    "unetr": ("--feature_size", "4", "--hidden_size", "24", "--mlp_dim", "24", "--num_heads", "2"),
    "unet": ("--width", "4"),
    "dense_unet": ("--growth_rate", "4"),
    "segformer": (),
}
BATCH_STATISTICS = ("running_mean", "running_var", "num_batches_tracked")
ROI = {name: [32, 32, 16] for name in TINY} | {"swinunetr": [64, 32, 32]}


@pytest.fixture(scope="module")
def cohort(tiny_cohort, tmp_path_factory):
    """Four scans for training; one for validation, which both processes take and which counts once."""
    folder = tmp_path_factory.mktemp("many") / "cohort"
    shutil.copytree(tiny_cohort, folder)
    keys = sorted(path.name.removesuffix(".nii.gz") for path in (folder / "labelsTr").iterdir())
    (folder / "splits.json").write_text(json.dumps([{"training": keys[:4], "validation": keys[4:]}]))
    return folder


def train(python, name, cohort, output_dir, *, processes, more=()):
    files = [BUNDLES / name / "train.json"]
    start = [python, "-m", "monai.bundle"]
    if processes > 1:
        files.append(BUNDLES / name / "multi_gpu_train.json")
        start = [python, "-m", "torch.distributed.run", "--standalone", f"--nproc_per_node={processes}"]
        start += ["-m", "monai.bundle"]
    words = [
        *(*start, "run", "training", "--config_file", str([str(file) for file in files])),
        *("--dataset_dir", str(cohort), "--output_dir", str(output_dir), "--max_epochs", "2", "--val_interval", "1"),
        *("--roi_size", str(ROI[name]), "--crops_per_case", "1", "--precision", "fp32", "--device", "cpu"),
        *("--lr_scheduler#_target_", "volseg.training.constant_schedule", *TINY[name], *more),
    ]
    if processes > 1:
        words.remove("--device")
        words.remove("cpu")
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHON_EXEC": str(python)}
    done = subprocess.run(words, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stdout[-2000:] + done.stderr[-4000:]
    return done.stdout + done.stderr


@pytest.mark.slow
@pytest.mark.parametrize("name", sorted(path.parent.name for path in BUNDLES.glob("*/multi_gpu_train.json")))
def test_two_processes_have_the_loss_curve_of_one_with_the_same_batch(name, cohort, tmp_path, warm_commands):
    python = warm_commands.python
    train(python, name, cohort, tmp_path / "one", processes=1, more=("--accumulate", "2"))
    told = train(python, name, cohort, tmp_path / "two", processes=2)
    assert told.count("epoch 2/2") == 1  # the second process is silent
    events = [len(list((tmp_path / run).glob("events.out.tfevents.*"))) for run in ("one", "two")]
    assert events[0] == events[1]
    histories = [json.loads((tmp_path / run / "run.json").read_text())["history"] for run in ("one", "two")]
    for one, two in zip(*histories, strict=True):
        assert two["loss"] == pytest.approx(one["loss"], rel=1e-4)
        if name != "segformer":  # batch normalisation validates with the statistics of the first process
            assert two["dice"] == pytest.approx(one["dice"], abs=1e-3)
            assert two["regions"] == pytest.approx(one["regions"], abs=1e-3)
    one, two = (torch.load(tmp_path / run / "last.pt", weights_only=True)["network"] for run in ("one", "two"))
    assert list(one) == list(two)
    one, two = (
        torch.cat([value.flatten() for key, value in part.items() if not key.endswith(BATCH_STATISTICS)])
        for part in (one, two)
    )
    assert (one - two).norm() < 1e-3 * one.norm()


# The second process asks for a sum, forgets it and ends; the first takes part a second later. While Python still calls
# what was registered for its end, which here keeps the interpreter's lock, Gloo's thread comes to let go of the tensor.
PARTS_IN_A_HURRY = """
import atexit, ctypes, pathlib, time
atexit.register(ctypes.PyDLL(None).usleep, 2_000_000)
import torch
import torch.distributed as dist
from volseg.training import distributed, join, leave
join("cpu")
network = distributed(torch.nn.Linear(4, 4), "cpu")
network(torch.ones(2, 4)).sum().backward()
time.sleep(1 - dist.get_rank())
work = dist.all_reduce(torch.ones(3), async_op=True)
if dist.get_rank() == 0:
    work.wait()
del work
leave()
left = [file.read_text() for file in pathlib.Path("/proc/self/task").glob("*/comm")]
assert not [name for name in left if "gloo" in name], left
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="the threads of a process are listed by Linux alone")
def test_no_thread_of_gloo_ends_a_training_that_is_over(tmp_path, warm_commands):
    (tmp_path / "parts.py").write_text(PARTS_IN_A_HURRY)
    # torchrun begins with its imports done; the two processes, whose end is looked at, are real ones.
    words = [warm_commands.python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": ""}
    done = subprocess.run(
        [*words, str(tmp_path / "parts.py")],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr[-4000:]


def test_it_must_be_started_by_torchrun(monkeypatch):
    monkeypatch.delenv("LOCAL_RANK", raising=False)
    with pytest.raises(UsageError, match=r"start them with torchrun --standalone --nproc_per_node=2 -m monai\.bundle"):
        rank_device()


def test_more_processes_than_gpus_are_refused(monkeypatch):
    monkeypatch.setenv("LOCAL_RANK", "2")
    monkeypatch.setenv("LOCAL_WORLD_SIZE", "3")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: 2)
    with pytest.raises(UsageError, match=r"3 processes were started and PyTorch finds 2 GPUs; use --nproc_per_node=2"):
        rank_device()

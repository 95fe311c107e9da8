"""What a training needs and what the machine has: estimates against what is really kept, limits of containers."""

from __future__ import annotations

import mmap
from pathlib import Path

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from volseg.cohort import Cohort
from volseg.errors import UsageError
from volseg.inference import available_bytes
from volseg.inference.engines.memory import peak_resident_bytes, resident_bytes
from volseg.training import CachedDataset, choose_cache, loader_workers
from volseg.training.cache.dataset import _item_bytes
from volseg.training.checks.capacity import (
    GIB,
    cache_bytes,
    check_disk,
    check_memory,
    check_shared_memory,
    processes_here,
)
from volseg.transforms import preprocessing


@pytest.mark.parametrize("roi", [[16, 16, 8], [64, 32, 32]])
@pytest.mark.parametrize("spacing_mm", [[1.5, 1.5, 3.0], [2.0, 2.0, 2.0]])
def test_the_estimate_is_what_is_kept(tiny_cohort: Path, roi: list[int], spacing_mm: list[float]) -> None:
    cohort = Cohort.open(tiny_cohort)
    kept = 0
    for part, size in (("training", roi), ("validation", None)):
        steps = preprocessing(cohort.labels, channels=1, spacing_mm=spacing_mm, roi_size=size)
        kept += sum(map(_item_bytes, CachedDataset(cohort.datalist(part), steps)._cache))
    positions = 3 * cohort.labels.channels * 8 * 20_000  # fewer are kept of such small regions
    needed = cache_bytes(cohort, fold=0, spacing_mm=spacing_mm, roi_size=roi)
    assert 0.9 * (needed - positions) < kept < 1.1 * needed


def cohort_of(folder: Path, *, side: int) -> Cohort:
    """A cohort whose table claims volumes of side**3 voxels."""
    cohort = Cohort.open(folder)
    row = "{0},{0},,{1}x{1}x{1},1x1x1,RAS,test,"
    lines = ["key,patient,session,shape,spacing_mm,orientation,source,warnings"]
    (folder / "cases.csv").write_text("\n".join([*lines, *(row.format(key, side) for key in cohort.keys)]) + "\n")
    return Cohort.open(folder)


def test_auto_takes_memory_where_it_suffices_and_disk_elsewhere(
    tiny_cohort: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    import shutil

    folder = tmp_path / "cohort"
    shutil.copytree(tiny_cohort, folder)
    grid = {"fold": 0, "spacing_mm": [1.0, 1.0, 1.0], "roi_size": [64, 64, 64]}
    assert choose_cache("auto", cohort_of(folder, side=64), **grid) == "memory"
    huge = cohort_of(folder, side=50_000)
    assert choose_cache("auto", huge, **grid) == "disk"
    assert choose_cache("memory", huge, **grid) == "memory"
    assert choose_cache("disk", cohort_of(folder, side=64), **grid) == "disk"
    with pytest.raises(UsageError, match="--cache must be auto, memory or disk, got 'zarr'"):
        choose_cache("zarr", huge, **grid)
    # Each of torchrun's processes keeps its own.
    monkeypatch.setenv("LOCAL_WORLD_SIZE", str(10**9))
    assert choose_cache("auto", cohort_of(folder, side=64), **grid) == "disk"


def machine(root: Path, *, free_kib: int, files: dict[str, str]) -> Path:
    """The part of a Linux file system that tells about memory."""
    for name, text in {"proc/meminfo": f"MemTotal: 1 kB\nMemAvailable: {free_kib} kB\n", **files}.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)
    return root


def test_free_memory_is_what_the_tightest_limit_leaves(tmp_path: Path) -> None:
    assert available_bytes(tmp_path) is None
    assert available_bytes(machine(tmp_path / "plain", free_kib=8, files={})) == 8 * 1024
    two = {
        "proc/self/cgroup": "0::/job/step\n",
        "sys/fs/cgroup/job/step/memory.max": "max\n",
        "sys/fs/cgroup/job/step/memory.current": "100\n",
        "sys/fs/cgroup/job/memory.max": "5000\n",
        "sys/fs/cgroup/job/memory.current": "3000\n",
        "sys/fs/cgroup/job/memory.stat": "anon 2500\ninactive_file 400\nactive_file 100\n",
    }
    assert available_bytes(machine(tmp_path / "two", free_kib=8, files=two)) == 5000 - 3000 + 400
    assert available_bytes(machine(tmp_path / "tight", free_kib=1, files=two)) == 1024
    one = {
        "proc/self/cgroup": "4:cpu:/job\n3:memory:/docker/abc\n",  # the host's path, absent in the container
        "sys/fs/cgroup/memory/memory.limit_in_bytes": "9000\n",
        "sys/fs/cgroup/memory/memory.usage_in_bytes": "2000\n",
    }
    assert available_bytes(machine(tmp_path / "one", free_kib=8, files=one)) == 7000


def test_memory_that_does_not_suffice_is_refused_with_the_cure() -> None:
    check_memory(5, 10)
    check_memory(5, None)
    with pytest.raises(UsageError, match=r"needs 10\.0 GiB and 10\.0 GiB are free; use --cache disk"):
        check_memory(10 * GIB, 10 * GIB)


def test_a_disk_that_does_not_suffice_is_refused_with_the_cure(tmp_path: Path) -> None:
    check_disk(tmp_path / "not" / "there", 1, what="x", setting="--output_dir")
    assert not (tmp_path / "not").exists()
    with pytest.raises(UsageError, match=r"saving needs .* GiB are free; .* name another folder with --output_dir"):
        check_disk(tmp_path, 2**62, what="saving", setting="--output_dir")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="cannot be written"):
        check_disk(tmp_path / "file" / "run", 1, what="x", setting="--output_dir")


def test_batches_that_do_not_fit_into_shared_memory_are_refused() -> None:
    check_shared_memory(0)
    if not Path("/dev/shm").is_dir():
        pytest.skip("this system has no /dev/shm")
    with pytest.raises(UsageError, match=r"--shm-size, or give fewer --loader_workers"):
        check_shared_memory(2**62)


@given(st.integers(1, 10_000))
def test_loader_processes_share_the_cores(ranks: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("LOCAL_WORLD_SIZE", str(ranks))
        assert processes_here() == ranks
        assert 1 <= loader_workers(gpu=True) <= 8
        assert loader_workers(gpu=False) == 0


def test_the_default_is_no_more_processes_than_cores(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LOCAL_WORLD_SIZE", raising=False)
    assert loader_workers(gpu=True) <= max(1, torch.multiprocessing.cpu_count() - 1)


def test_what_the_process_holds_is_not_above_its_peak() -> None:
    before = resident_bytes()
    kept = mmap.mmap(-1, 2**26)  # 64 MiB of the system's, where a tensor may get what this process has left
    kept.write(bytes(2**26))
    now, peak = resident_bytes(), peak_resident_bytes()
    if before is None or now is None or peak is None:
        pytest.skip("this system does not say what a process holds")
    assert before < now <= peak * 1.01, len(kept)  # the kernel counts the pages of threads a little later

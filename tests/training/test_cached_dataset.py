"""Preprocessed cases in memory and on disk: the same voxels, never stale, shared by processes, nothing foreign lost."""

from __future__ import annotations

import errno
import logging
import multiprocessing
import os
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from monai.data import DataLoader, MetaTensor
from monai.data.utils import set_rnd
from monai.transforms import Compose, Lambdad

from volseg.cohort import Cohort
from volseg.errors import UsageError, VolsegError, root_error
from volseg.training import CachedDataset
from volseg.training.cache.dataset import MappedCases, _storage_error
from volseg.training.cache.mapped_case import clear_abandoned, is_whole, read_case, write_case
from volseg.transforms import augmentation, preprocessing

ROI = [16, 16, 8]


def steps(cohort: Cohort, *, roi: list[int] = ROI, spacing_mm: tuple[float, ...] = (1.5, 1.5, 3.0)) -> Compose:
    before = preprocessing(cohort.labels, channels=1, spacing_mm=spacing_mm, roi_size=roi)
    return Compose([before, augmentation(cohort.labels, roi_size=roi)]).flatten()


def make(cohort: Cohort, *, folder: Path | None = None, **options: Any) -> CachedDataset:
    kept: dict[str, Any] = {"cache": "memory"} if folder is None else {"cache": "disk", "cache_dir": folder}
    return CachedDataset(cohort.datalist("training"), steps(cohort, **options), **kept)


def crops(dataset: CachedDataset, *, workers: int = 0) -> list[torch.Tensor]:
    """Two epochs of what the network is given."""
    torch.manual_seed(0)
    loader = DataLoader(dataset, batch_size=2, shuffle=True, num_workers=workers)
    set_rnd(dataset, 7)
    return [batch[name] for _ in range(2) for batch in loader for name in ("image", "label")]


@pytest.fixture
def cohort(tiny_cohort: Path) -> Cohort:
    return Cohort.open(tiny_cohort)


@pytest.fixture
def copied(tiny_cohort: Path, tmp_path: Path) -> Cohort:
    """A cohort that a test may change."""
    shutil.copytree(tiny_cohort, tmp_path / "copied")
    return Cohort.open(tmp_path / "copied")


def test_memory_and_disk_give_the_network_the_same_bits(cohort: Cohort, tmp_path: Path) -> None:
    memory = make(cohort)
    disk = make(cohort, folder=tmp_path)
    again = make(cohort, folder=tmp_path)
    assert isinstance(disk._cache, MappedCases)
    for a, b, c in zip(crops(memory), crops(disk), crops(again), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)
    for kept, mapped in zip(memory._cache, disk._cache[:], strict=True):
        assert kept.keys() == mapped.keys()
        for name in ("image", "label"):
            assert torch.equal(kept[name].as_tensor(), mapped[name].as_tensor())
            assert kept[name].dtype == mapped[name].dtype
            assert torch.equal(kept[name].affine, mapped[name].affine)
            assert torch.equal(kept[name].meta["original_affine"], mapped[name].meta["original_affine"])
        for a, b in zip(kept["label_positions"], mapped["label_positions"], strict=True):
            assert torch.equal(a, b)


def test_a_case_that_stands_several_times_is_kept_once_and_drawn_anew_each_time(cohort: Cohort, tmp_path: Path) -> None:
    items = cohort.datalist("training")
    twice = [*items, items[0], items[0]]
    for kept in ({}, {"cache": "disk", "cache_dir": tmp_path}):
        dataset = CachedDataset(twice, steps(cohort), **kept)
        plain = CachedDataset(items, steps(cohort), **kept)
        assert len(dataset) == len(twice)
        if not kept:
            assert dataset._cache[0] is dataset._cache[-1]
        else:
            assert len({*dataset._cache.folders}) == len(items)
        for one in (dataset, plain):
            one.epoch_seed = (0, 1)
        drawn = [torch.stack([torch.as_tensor(window["image"]) for window in dataset[n]]) for n in range(len(twice))]
        for number in range(len(items)):
            first = torch.stack([torch.as_tensor(window["image"]) for window in plain[number]])
            assert torch.equal(drawn[number], first)
        assert not torch.equal(drawn[0], drawn[-1])
        assert not torch.equal(drawn[-2], drawn[-1])
    arrays = [{"image": torch.zeros(1, 4, 4, 4) + number} for number in range(2)]
    assert [float(item["image"].max()) for item in CachedDataset(arrays, Compose([]))] == [0.0, 1.0]


def test_worker_processes_draw_what_the_training_itself_would(cohort: Cohort, tmp_path: Path) -> None:
    memory, disk = make(cohort), make(cohort, folder=tmp_path)
    memory.epoch_seed = disk.epoch_seed = (3, 1)  # as Seeds sets it
    for a, b, c in zip(crops(memory), crops(memory, workers=2), crops(disk, workers=2), strict=True):
        assert torch.equal(a, b)
        assert torch.equal(a, c)


def test_a_case_is_mapped_and_its_file_cannot_be_changed_through_it(cohort: Cohort, tmp_path: Path) -> None:
    disk = make(cohort, folder=tmp_path)
    item = disk._cache[0]
    before = item["image"].clone()
    assert not item["image"].as_tensor().untyped_storage().resizable(), "the file's own pages, not a copy"
    item["image"] += 1
    assert torch.equal(disk._cache[0]["image"], before)


def entries(folder: Path) -> dict[str, int]:
    """Every case of a cache and when it was made."""
    return {str(path.parent.relative_to(folder)): path.stat().st_mtime_ns for path in folder.rglob("case.json")}


def test_cases_are_made_once_and_again_after_any_edit(copied: Cohort, tmp_path: Path) -> None:
    folder = tmp_path / "cache"
    make(copied, folder=folder)
    made = entries(folder)
    assert len(made) == 3
    crops(make(copied, folder=folder))
    assert entries(folder) == made, "the same objects in another order of use"

    label = copied.label_path("case1_day0")
    assert label is not None
    status = label.stat()
    os.utime(label, ns=(status.st_atime_ns, status.st_mtime_ns + 1))
    make(copied, folder=folder)
    new = entries(folder).keys() - made
    assert [Path(name).name.split("-")[0] for name in new] == ["case1_day0"]

    for options in ({"roi": [16, 16, 16]}, {"spacing_mm": (3.0, 3.0, 3.0)}):
        before = entries(folder)
        make(copied, folder=folder, **options)
        assert len(entries(folder)) == len(before) + 3
        assert before.items() <= entries(folder).items(), "what is there is left alone"


def test_the_log_tells_sizes_and_what_is_left_of_other_settings(
    cohort: Cohort, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        make(cohort, folder=tmp_path)
        (settings,) = tmp_path.glob("*/settings.json")
        os.utime(settings, (0, 0))
        make(cohort, folder=tmp_path, roi=[16, 16, 16])
        make(cohort, folder=tmp_path)
        make(cohort, folder=tmp_path)
        make(cohort)
    told = [record.getMessage() for record in caplog.records]
    assert told[0].startswith(f"3 cases kept in {settings.parent}: 0.00 GiB on disk; 0 were there, 3 made in ")
    assert told[2].endswith(
        f"that no training has used for a week; 1 of its folders can be removed: {settings.parent.name}"
    )
    assert "; 3 were there, 0 made in " in told[3]
    assert told[5].startswith("3 cases kept in memory: 0.00 GiB")
    assert len(told) == 6


def test_a_damaged_case_is_made_again(cohort: Cohort, tmp_path: Path) -> None:
    expected = crops(make(cohort, folder=tmp_path))
    cases = sorted(path.parent for path in tmp_path.rglob("case.json"))
    with (cases[0] / "image.npy").open("r+b") as file:
        file.truncate(1000)
    (cases[1] / "label.npy").unlink()
    (cases[2] / "case.json").write_text("{")
    assert not any(map(is_whole, cases))
    for a, b in zip(crops(make(cohort, folder=tmp_path)), expected, strict=True):
        assert torch.equal(a, b)
    assert all(map(is_whole, cases))
    assert not list(tmp_path.rglob(".partial-*"))


def _build(folder: Path, cache: Path, results: Any) -> None:
    torch.set_num_threads(1)  # GNU's OpenMP does not survive a fork; the workers of a DataLoader do the same
    results.put([float(tensor.sum()) for tensor in crops(make(Cohort.open(folder), folder=cache))])


def test_processes_that_build_the_same_cache_do_not_disturb_each_other(tiny_cohort: Path, tmp_path: Path) -> None:
    context = multiprocessing.get_context("fork")
    results = context.Queue()
    processes = [context.Process(target=_build, args=(tiny_cohort, tmp_path, results), daemon=True) for _ in range(3)]
    for process in processes:
        process.start()
    first, *others = [results.get(timeout=60) for _ in processes]
    for process in processes:
        process.join()
    assert all(one == first for one in others)
    assert len(entries(tmp_path)) == 3
    assert not list(tmp_path.rglob(".partial-*"))


def test_the_first_of_two_writers_is_kept(tmp_path: Path) -> None:
    folder = tmp_path / "case"
    write_case(folder, {"image": torch.zeros(1, 2, 2, 2)})
    write_case(folder, {"image": torch.ones(1, 2, 2, 2)})
    assert float(read_case(folder)["image"].sum()) == 0


def test_only_what_was_left_half_written_long_ago_is_removed(tmp_path: Path) -> None:
    for name in (".partial-old", ".partial-new", "settings"):
        (tmp_path / name).mkdir()
        (tmp_path / name / "image.npy").touch()
    for name in (".partial-old", "settings"):
        for path in (tmp_path / name / "image.npy", tmp_path / name):
            os.utime(path, (0, 0))
    clear_abandoned(tmp_path)
    assert sorted(path.name for path in tmp_path.iterdir()) == [".partial-new", "settings"]


def test_every_kind_of_value_comes_back(tmp_path: Path) -> None:
    item = {
        "key": "case1",
        "number": 3,
        "array": np.arange(6, dtype=np.int16).reshape(2, 3),
        "tensor": torch.tensor([1.5, float("nan")]),
        "scalar": torch.tensor(2.5),
        "turned": torch.arange(6.0).reshape(2, 3).T,
        "parts": [torch.arange(3), torch.arange(0), torch.arange(2)],
        "volume": MetaTensor(torch.rand(1, 2, 3, 4), affine=torch.diag(torch.tensor([1.1, 2, 3, 1]).double())),
    }
    write_case(tmp_path / "case", item)
    found = read_case(tmp_path / "case")
    assert found.keys() == item.keys()
    assert (found["key"], found["number"]) == ("case1", 3)
    assert np.array_equal(found["array"], item["array"])
    assert torch.equal(found["scalar"], item["scalar"])
    assert torch.equal(found["turned"], item["turned"])
    assert torch.equal(found["tensor"].nan_to_num(9), item["tensor"].nan_to_num(9))
    assert [part.tolist() for part in found["parts"]] == [[0, 1, 2], [], [0, 1]]
    assert torch.equal(found["volume"].affine, item["volume"].affine)
    with pytest.raises(UsageError, match="gives thing as object, which is not kept on disk; use --cache memory"):
        write_case(tmp_path / "other", {"thing": object()})
    assert [path.name for path in tmp_path.iterdir()] == ["case"]


def test_a_case_that_cannot_be_read_is_named(copied: Cohort, tmp_path: Path) -> None:
    copied.image_paths("case2_day0")[0].write_bytes(b"no volume")
    for folder in (None, tmp_path / "cache"):
        with pytest.raises(RuntimeError) as caught:
            make(copied, folder=folder)
        assert root_error(caught.value).case == "case2_day0"


def test_a_place_that_cannot_be_used_costs_a_line(cohort: Cohort, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="--cache must be auto, memory or disk, got 'ram'"):
        CachedDataset([], steps(cohort), cache="ram")
    with pytest.raises(UsageError, match="--cache_dir"):
        CachedDataset([], steps(cohort), cache="disk")
    (tmp_path / "file").touch()
    with pytest.raises(VolsegError, match=r"cannot be written .*; name another folder with --cache_dir"):
        make(cohort, folder=tmp_path / "file")
    full = _storage_error(OSError(errno.ENOSPC, "No space left on device"), tmp_path)
    assert str(full) == f"the disk is full: free some space, or name another folder than {tmp_path} with --cache_dir"


def test_preprocessing_whose_changes_cannot_be_told_stays_in_memory(cohort: Cohort, tmp_path: Path) -> None:
    class Slotted:
        __slots__ = ()

        def __call__(self, image: Any) -> Any:
            return image

    first = preprocessing(cohort.labels, channels=1, spacing_mm=(1.5, 1.5, 3.0), roi_size=ROI)
    transform = Compose([first, Lambdad("image", func=Slotted()), augmentation(cohort.labels, roi_size=ROI)]).flatten()
    with pytest.raises(UsageError, match=r"Slotted, and whether it changes cannot be told; use --cache memory"):
        CachedDataset(cohort.datalist("training"), transform, cache="disk", cache_dir=tmp_path)
    CachedDataset(cohort.datalist("training")[:1], transform)

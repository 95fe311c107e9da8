"""The cases of one side of a fold, preprocessed once: kept in memory, or as memory-mapped files if memory is short."""

from __future__ import annotations

import errno
import json
import logging
import re
import time
from collections.abc import Callable, Mapping, Sequence
from multiprocessing.pool import ThreadPool
from pathlib import Path
from typing import Any

import ignite.distributed as idist
import numpy as np
from monai.data import CacheDataset
from torch import Tensor

from volseg.errors import UsageError, VolsegError
from volseg.files import atomic
from volseg.training.cache.fingerprint import describe_files, describe_steps, digest
from volseg.training.cache.mapped_case import clear_abandoned, is_whole, read_case, size_bytes, write_case

logger = logging.getLogger("volseg.training")

_GIB = 2**30
_SECONDS_BETWEEN_LINES = 10.0
_UNUSED_SECONDS = 7 * 24 * 3600


class CachedDataset(CacheDataset):  # type: ignore[misc]  # MONAI has no types
    """MONAI's CacheDataset with a second form of cache: files, of which a crop reads its own part.

    In both forms the random transforms get the same voxels, to the bit, as views of the cache: they must copy what they
    change, as `volseg.transforms.augmentation` does.

    On disk a case is float32 and uint8 `.npy` in `cache_dir/DIGEST/KEY-DIGEST/`. The first digest is that of the
    deterministic transforms and of the versions, and the second is that of the case's files (path, size, time of
    change). After any edit the names differ and the cases are preprocessed again. Other folders are left alone; the log
    tells their size. Several processes may share the folder and build it together.

    Args:
        data: Datalist: dictionaries of `key` and file paths.
        transform: Compose that is not nested; the steps before its first random transform are done once.
        cache: Form of the cache, `memory` or `disk`.
        cache_dir: Folder of the files, for `disk`.
        num_workers: Number of threads that preprocess.

    Raises:
        UsageError: `cache` is another word, `cache_dir` is missing, or the preprocessing cannot be kept on disk.
        VolsegError: A case cannot be read (the message names its key), or the disk is full.
    """

    def __init__(
        self,
        data: Sequence[Mapping[str, Any]],
        transform: Callable[..., Any],
        *,
        cache: str = "memory",
        cache_dir: str | Path | None = None,
        num_workers: int = 2,
    ) -> None:
        if cache not in ("memory", "disk"):
            raise UsageError(f"--cache must be auto, memory or disk, got {cache!r}")
        if cache == "disk" and cache_dir is None:
            raise UsageError("--cache disk needs a folder; name it with --cache_dir")
        self.folder = Path(cache_dir).expanduser() if cache == "disk" and cache_dir is not None else None
        # The seed of the random transforms, combined with the case's index; None: they continue from case to case.
        self.epoch_seed: tuple[int, int] | None = None
        self._made = 0
        self._constant: dict[int, list[str]] = {}
        super().__init__(data, transform, num_workers=num_workers, progress=False, copy_cache=False)

    def _transform(self, index: int) -> Any:  # noqa: ANN401 - an item, or a list of crops
        """Transform one case; its random transforms are seeded first if there is a seed."""
        if self.epoch_seed is not None:
            seed = np.random.SeedSequence([*self.epoch_seed, index]).generate_state(1)
            self.transform.set_random_state(seed=int(seed[0]))
        return super()._transform(index)

    def _load_cache_item(self, index: int) -> Any:  # noqa: ANN401 - an item
        """Apply the deterministic steps to one case, and note the channels in which nothing is visible."""
        item = super()._load_cache_item(index)
        image = item.get("image") if isinstance(item, Mapping) else None
        if isinstance(image, Tensor) and image.numel() and image.ndim and not image.is_complex():
            today = item.get("image_channels", len(image)) if isinstance(item, Mapping) else len(image)
            for number, channel in enumerate(image.as_subclass(Tensor)[:today]):
                low, high = channel.aminmax()
                if low == high:
                    self._constant.setdefault(number, []).append(_file_name(self.data[index]))
        return item

    def _fill_cache(self, indices: Sequence[int] | None = None) -> Sequence[Any]:
        """Preprocess all cases in threads and log the progress; MONAI calls this to build the cache."""
        wanted = list(range(len(self.data)) if indices is None else indices)
        # A case that stands several times, such as a corrected one, is preprocessed and kept once.
        alike: dict[str, int] = {}
        same = {index: alike.setdefault(_told(self.data[index], index), index) for index in wanted}
        order = list(alike.values())
        # The ranks of one training start at different cases, so that two rarely preprocess the same one.
        first = idist.get_rank() * len(order) // idist.get_world_size()
        order = order[first:] + order[:first]
        load = self._load_cache_item if self.folder is None else self._store(self.folder)
        started = told = time.monotonic()
        kept: dict[int, Any] = {}
        total_bytes = 0
        with ThreadPool(self.num_workers) as pool:
            for index, item in zip(order, pool.imap(load, order), strict=True):
                kept[index] = item
                total_bytes += _item_bytes(item) if self.folder is None else size_bytes(item)
                now = time.monotonic()
                if now - told > _SECONDS_BETWEEN_LINES and len(kept) < len(order):
                    told = now
                    left = (now - started) / len(kept) * (len(order) - len(kept))
                    logger.info(
                        "preprocessed %d of %d cases, %.2f GiB, %.0f s left",
                        *(len(kept), len(order), total_bytes / _GIB, left),
                    )
        items = [kept[same[index]] for index in sorted(wanted)]
        for number, names in sorted(self._constant.items()) if idist.get_rank() == 0 else ():
            logger.warning(
                "%d of %d cases have one value everywhere in channel %d once preprocessed (%s): the network sees no "
                "structure there",
                *(len(names), len(order), number, ", ".join(sorted(names)[:3])),
            )
        seconds = time.monotonic() - started
        if self.folder is None:
            logger.info("%d cases kept in memory: %.2f GiB, %.0f s", len(order), total_bytes / _GIB, seconds)
            return items
        if items:
            self._tell_disk(items[0].parent, total_bytes, len(order), seconds)
        return MappedCases(items)

    def _store(self, folder: Path) -> Callable[[int], Path]:
        """Make a function that ensures that a case is on disk and returns its folder."""
        first_random = self.transform.get_index_of_first(lambda step: not _is_fixed(step))
        description = describe_steps(self.transform.transforms[:first_random])
        place = folder / digest(description)
        try:
            place.mkdir(parents=True, exist_ok=True)
            clear_abandoned(place)
            with atomic(place / "settings.json") as partial:  # written at each use: its time tells when that was
                partial.write_text(json.dumps(description, indent=1) + "\n")
        except OSError as error:
            raise _storage_error(error, folder) from error

        def store(index: int) -> Path:
            item = self.data[index]
            case = place / f"{_file_name(item)}-{digest(describe_files(item))}"
            if not is_whole(case):
                content = self._load_cache_item(index)
                try:
                    write_case(case, content)
                except OSError as error:
                    raise _storage_error(error, folder) from error
                self._made += 1
            return case

        return store

    def _tell_disk(self, place: Path, total_bytes: int, cases: int, seconds: float) -> None:
        logger.info(
            "%d cases kept in %s: %.2f GiB on disk; %d were there, %d made in %.0f s",
            *(cases, place, total_bytes / _GIB, cases - self._made, self._made, seconds),
        )
        long_ago = time.time() - _UNUSED_SECONDS
        unused = [path.parent for path in place.parent.glob("*/settings.json") if path.stat().st_mtime < long_ago]
        if unused:
            logger.info(
                "%s also holds %.2f GiB that no training has used for a week; %d of its folders can be removed: %s",
                *(place.parent, sum(map(size_bytes, unused)) / _GIB, len(unused)),
                ", ".join(path.name for path in unused),
            )


class MappedCases(Sequence[dict[str, Any]]):
    """Cases on disk, each mapped on access, so that no file stays open.

    Args:
        folders: One folder per case, as `write_case` wrote it.
    """

    def __init__(self, folders: Sequence[Path]) -> None:
        self.folders = list(folders)

    def __len__(self) -> int:
        return len(self.folders)

    def __getitem__(self, index: Any) -> Any:  # noqa: ANN401 - a case, or cases for a slice
        if isinstance(index, slice):
            return [read_case(folder) for folder in self.folders[index]]
        return read_case(self.folders[index])


def _is_fixed(step: object) -> bool:
    """Whether MONAI's CacheDataset takes a step for deterministic."""
    from monai.transforms import RandomizableTrait, Transform

    return isinstance(step, Transform) and not isinstance(step, RandomizableTrait)


def _told(item: object, index: int) -> str:
    """The item as text; its index if it holds anything but words and numbers, by which it is like no other."""
    try:
        return json.dumps(item, sort_keys=True)
    except (TypeError, ValueError):
        return str(index)


def _item_bytes(item: Mapping[str, Any]) -> int:
    """Memory in bytes of the tensors and arrays of an item."""
    flat = [one for value in item.values() for one in (value if isinstance(value, list) else [value])]
    return sum(one.nbytes for one in flat if isinstance(one, (Tensor, np.ndarray)))


def _file_name(item: Mapping[str, Any]) -> str:
    """The case's key, or the name of its first file, as part of a folder's name."""
    image = item.get("image", "case")
    name = item.get("key") or Path(str(image[0] if isinstance(image, (list, tuple)) else image)).name
    return re.sub(r"[^A-Za-z0-9_.-]", "_", str(name))[:80].lstrip(".") or "case"


def _storage_error(error: OSError, folder: Path) -> VolsegError:
    if error.errno in (errno.ENOSPC, errno.EDQUOT):
        return VolsegError(f"the disk is full: free some space, or name another folder than {folder} with --cache_dir")
    return VolsegError(f"the cache cannot be written ({error}); name another folder with --cache_dir")

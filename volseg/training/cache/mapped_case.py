"""One preprocessed case as memory-mapped files: a crop reads its own part of them and nothing else."""

from __future__ import annotations

import json
import mmap
import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from monai.data import MetaTensor
from torch import Tensor

from volseg.errors import UsageError
from volseg.files import PARTIAL

_HEADER = "case.json"
_ABANDONED_SECONDS = 24 * 3600


def write_case(folder: Path, item: Mapping[str, Any]) -> None:
    """Write a case, whole or not at all: one `.npy` per array, and `case.json` with all other values.

    Several processes may write the same case at once; the first to finish is kept.

    Args:
        folder: Folder of this case alone; its parent is created.
        item: Tensors, arrays, lists of one-dimensional tensors, and values that JSON knows. The affine and simple
            metadata
            of a MetaTensor are kept, but not its list of transforms: after reading, it cannot be inverted.

    Raises:
        UsageError: A value is of another kind.
        OSError: The disk is full, or the folder may not be written.
    """
    folder.parent.mkdir(parents=True, exist_ok=True)
    partial = folder.parent / f"{PARTIAL}{secrets.token_hex(8)}"
    partial.mkdir()
    try:
        header: dict[str, Any] = {name: _write(partial, name, value) for name, value in item.items()}
        sizes = {path.name: path.stat().st_size for path in sorted(partial.iterdir())}
        with (partial / _HEADER).open("w") as file:
            json.dump({"files": sizes, "items": header}, file)
            file.flush()
            os.fsync(file.fileno())
        if folder.exists() and not is_whole(folder):
            _set_aside(folder)
        try:
            partial.rename(folder)
        except OSError:
            if not is_whole(folder):  # else another process was first
                raise
    finally:
        shutil.rmtree(partial, ignore_errors=True)


def read_case(folder: Path) -> dict[str, Any]:
    """Read a case with mapped arrays: writing to one changes a private copy and never the file."""
    items = json.loads((folder / _HEADER).read_text())["items"]
    return {name: _read(folder, entry) for name, entry in items.items()}


def is_whole(folder: Path) -> bool:
    """Whether a case is there and its files have the size they were written with."""
    try:
        sizes = json.loads((folder / _HEADER).read_text())["files"]
        return all((folder / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError, AttributeError):
        return False


def size_bytes(folder: Path) -> int:
    """Size in bytes of all files below a folder."""
    return sum(path.stat().st_size for path in folder.rglob("*") if path.is_file())


def clear_abandoned(folder: Path) -> None:
    """Remove the unfinished files of killed processes: those that were not changed for a day."""
    for partial in folder.glob(f"{PARTIAL}*"):
        try:
            last = max(path.stat().st_mtime for path in (partial, *partial.iterdir()))
        except OSError:
            continue  # its own process has just finished it
        if time.time() - last > _ABANDONED_SECONDS:
            shutil.rmtree(partial, ignore_errors=True)


def _set_aside(folder: Path) -> None:
    """Move a damaged case away, unless another process does so at the same time."""
    aside = Path(tempfile.mkdtemp(prefix=PARTIAL, dir=folder.parent))
    try:
        folder.rename(aside / "damaged")
    except FileNotFoundError:
        pass
    finally:
        shutil.rmtree(aside, ignore_errors=True)


def _write(folder: Path, name: str, value: object) -> dict[str, Any]:
    """Write an array; returns the entry from which `_read` restores the value."""
    if isinstance(value, MetaTensor):
        meta = {str(key): _as_json(one) for key, one in value.meta.items() if _known(one)}
        return {"kind": "volume", **_save(folder, name, value.as_tensor().numpy()), "meta": meta}
    if isinstance(value, Tensor):
        return {"kind": "tensor", **_save(folder, name, value.numpy())}
    if isinstance(value, np.ndarray):
        return {"kind": "array", **_save(folder, name, value)}
    if isinstance(value, list) and value and all(isinstance(one, Tensor) and one.ndim == 1 for one in value):
        ends = np.cumsum([len(part) for part in value]).tolist()
        return {"kind": "parts", **_save(folder, name, torch.cat(value).numpy()), "ends": ends}
    try:
        json.dumps(value)
    except (TypeError, ValueError):
        raise UsageError(
            f"the preprocessing gives {name} as {type(value).__name__}, which is not kept on disk; use --cache memory"
        ) from None
    return {"kind": "value", "value": value}


def _read(folder: Path, entry: Mapping[str, Any]) -> Any:  # noqa: ANN401 - as it was written
    if entry["kind"] == "value":
        return entry["value"]
    array = _map(folder, entry)
    if entry["kind"] == "array":
        return array
    tensor = torch.from_numpy(array)
    if entry["kind"] == "parts":
        starts = [0, *entry["ends"][:-1]]
        return [tensor[start:end] for start, end in zip(starts, entry["ends"], strict=True)]
    if entry["kind"] == "volume":
        meta = {name: _of_json(value) for name, value in entry["meta"].items()}
        return MetaTensor(tensor, meta=meta)
    return tensor


def _save(folder: Path, name: str, array: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Write a `.npy`; returns the entry that `_map` needs."""
    path = folder / f"{name}.npy"
    array = np.asarray(array, order="C")
    with path.open("wb") as file:
        np.save(file, array, allow_pickle=False)
        file.flush()
        os.fsync(file.fileno())
    offset = path.stat().st_size - array.nbytes
    return {"file": path.name, "dtype": str(array.dtype), "shape": array.shape, "offset": offset}


def _map(folder: Path, entry: Mapping[str, Any]) -> np.ndarray[Any, Any]:
    """Map an array, copied on write; several times as fast as numpy's memmap, which would slow down a crop."""
    with (folder / entry["file"]).open("rb") as file:
        pages = mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_COPY)
    return np.ndarray(tuple(entry["shape"]), dtype=entry["dtype"], buffer=pages, offset=entry["offset"])


def _known(value: object) -> bool:
    return isinstance(value, (str, int, float, bool, Tensor, np.ndarray))


def _as_json(value: object) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, Tensor):
        return {"tensor": value.tolist(), "dtype": str(value.dtype).removeprefix("torch.")}
    if isinstance(value, np.ndarray):
        return {"array": value.tolist(), "dtype": str(value.dtype)}
    return value


def _of_json(value: Any) -> Any:  # noqa: ANN401 - JSON
    if isinstance(value, dict):
        if "tensor" in value:
            return torch.tensor(value["tensor"], dtype=getattr(torch, value["dtype"]))
        return np.array(value["array"], dtype=value["dtype"])
    return value

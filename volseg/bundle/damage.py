"""What is wrong with a file that should be a checkpoint and cannot be loaded, and the cure, in a line."""

from __future__ import annotations

import re
import zipfile
from pathlib import Path

_ZIP = b"PK\x03\x04"
_END_OF_ZIP = b"PK\x05\x06"
_END_BYTES = 22
_TAIL = 2**16 + _END_BYTES  # bytes in which the end of a zip stands
_PICKLE = b"\x80"
_LFS = b"version https://git-lfs"
_FROM_UNSAFE = re.compile(r"GLOBAL ([\w.]+)")


def checkpoint_damage(path: str | Path, error: Exception) -> str:
    """The reason why torch could not load a file, with its cure.

    Args:
        path: File.
        error: Error of `torch.load` with `weights_only=True`.

    >>> import tempfile
    >>> path = Path(tempfile.mkdtemp()) / "model.pt"
    >>> path.write_bytes(b"")
    0
    >>> checkpoint_damage(path, RuntimeError("no archive"))
    'it is empty; copy it again, or train again'
    """
    path = Path(path)
    try:
        size = path.stat().st_size
        with path.open("rb") as file:
            head = file.read(512)
            file.seek(max(0, size - _TAIL))
            tail = file.read()
    except OSError as problem:
        return f"it cannot be read: {problem.strerror}"
    again = "copy it again, or train again"
    if not size:
        return f"it is empty; {again}"
    if head.startswith(_LFS):
        return "it is a pointer of Git LFS; get the file itself with `git lfs pull`"
    if head.lstrip()[:14].lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        return "it is a web page, perhaps the error of a download; download it again"
    end = tail.rfind(_END_OF_ZIP)
    if head.startswith(_ZIP) and (end < 0 or len(tail) - end < _END_BYTES):
        return f"it is cut off after {size:,} bytes; {again}"
    if unsafe := _FROM_UNSAFE.search(str(error)):
        return (
            f"it is a pickle that names {unsafe[1]}, which loading would run; name a file of tensors, such as the "
            "model.pt of a training by volseg"
        )
    if head.startswith(_ZIP) and _holds_bundle(path):
        return "it is the zip of a package; unpack it, and name models/model.pt of its folder"
    if head.startswith(_ZIP):
        reason = f"{type(error).__name__}: {error}".strip().splitlines()[0]
        return f"it is damaged ({reason if len(reason) <= 80 else type(error).__name__}); {again}"
    if head.startswith(_PICKLE):
        return (
            "it is a plain pickle, as torch before 1.6 wrote, which may run code; name a file of tensors, such as the "
            "model.pt of a training by volseg"
        )
    return "it is no checkpoint of torch; name the model.pt of a training"


def _holds_bundle(archive: Path) -> bool:
    """Whether a zip holds the configs of a bundle, as that of a package does."""
    try:
        with zipfile.ZipFile(archive) as content:
            return any(name.endswith("configs/inference.json") for name in content.namelist())
    except (OSError, zipfile.BadZipFile):
        return False

"""Alignments of images in files, each computed once and kept: of images alone, no label is ever read."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path

from volseg.errors import UsageError, VolsegError
from volseg.files import atomic
from volseg.labels import DEFORMABLE, RIGID
from volseg.volume import (
    Deformation,
    Registration,
    Volume,
    check_elastix,
    deform,
    read_volume,
    register,
    register_roughly,
)

_VERSION = 1


@dataclass(frozen=True)
class PairAlignment:
    """The alignment of two images in files.

    Attributes:
        registration: Rigid alignment.
        deformation: File of the deformable alignment after it, which `Deformation.read` reads; None for none.
        deformation_failure: Reason why a deformable alignment that was asked for is not used; empty if it is.
    """

    registration: Registration
    deformation: Path | None = None
    deformation_failure: str = ""


def check_prior_alignment(alignment: object, *, asked: str, otherwise: str | None = None) -> None:
    """Refuse a way of aligning priors that is none, or that needs a package which is absent.

    Args:
        alignment: The way: `rigid` or `deformable`.
        asked: What asks for it, for the message.
        otherwise: What to do without the package, see `volseg.volume.check_elastix`.

    Raises:
        UsageError: It is so.
    """
    if alignment not in (RIGID, DEFORMABLE):
        raise UsageError(f"{asked} must be {RIGID} or {DEFORMABLE}, got {alignment!r}")
    if alignment == DEFORMABLE:
        check_elastix(f"{asked} {DEFORMABLE}", otherwise=otherwise)


class Alignments:
    """A folder of alignments, one small JSON file per pair.

    A pair is known by path, size and time of change of both files; the reverse of a known pair is its inverse. The
    folder can be removed at any time.

    Args:
        folder: Folder of the files; it is made at first use.
        read: Function that reads an image; NIfTI alone by default.
    """

    def __init__(self, folder: Path, *, read: Callable[[Path], Volume] = read_volume) -> None:
        self.folder = Path(folder)
        self._reader = read

    def of(self, fixed: Path, moving: Path, *, rough: bool = False) -> Registration:
        """The alignment of one image file to another; what cannot be read or aligned is a failure with its reason.

        Args:
            fixed: File of the image that stays.
            moving: File of the image that is aligned to it.
            rough: Whether to put the middles of the bodies on one another only.
        """
        for first, second, inverse in ((fixed, moving, False), (moving, fixed, True)):
            known = self._read(self._path(first, second, rough=rough))
            if known is not None:
                return known.inverse if inverse and not known.failure else known
        try:
            images = self._reader(fixed), self._reader(moving)
            found = register_roughly(*images) if rough else register(*images)
        except VolsegError as error:
            nothing = ((1.0, 0.0, 0.0, 0.0), (0.0, 1.0, 0.0, 0.0), (0.0, 0.0, 1.0, 0.0), (0.0, 0.0, 0.0, 1.0))
            return Registration(nothing, 0.0, 0.0, 0.0, 0.0, f"an image cannot be read: {error.message}")
        found = replace(found, seconds=round(found.seconds, 2))
        path = self._path(fixed, moving, rough=rough)
        path.parent.mkdir(parents=True, exist_ok=True)
        with atomic(path) as partial:
            partial.write_text(json.dumps(found.to_json()) + "\n", encoding="utf-8")
        return found

    def pair(self, fixed: Path, moving: Path, *, alignment: str = RIGID) -> PairAlignment:
        """The alignment of a pair in the way that a network with a prior was trained with.

        A deformable alignment that fails or gains nothing leaves the rigid one.

        Args:
            fixed: File of the image that stays.
            moving: File of the image that is aligned to it.
            alignment: The way: `rigid` or `deformable`.

        Raises:
            UsageError: It is deformable and not known yet, and `itk-elastix` is not installed.
        """
        rigid = self.of(fixed, moving)
        bent = None if alignment == RIGID or rigid.failure else self.deformed(fixed, moving)
        if bent is None or bent.failure:
            return PairAlignment(rigid, None, bent.failure if bent else "")
        return PairAlignment(rigid, self._path(fixed, moving, rough=False, bent=True))

    def deformed(self, fixed: Path, moving: Path) -> Deformation | None:
        """The deformable alignment after the rigid one, from fixed to moving; None where the rigid one has failed.

        Args:
            fixed: File of the image that stays.
            moving: File of the image that is bent to it.

        Raises:
            UsageError: It is not known yet, and `itk-elastix` is not installed.
        """
        rigid = self.of(fixed, moving)
        if rigid.failure:
            return None
        path = self._path(fixed, moving, rough=False, bent=True)
        try:
            return Deformation.read(path)
        except (OSError, ValueError, KeyError, TypeError):
            found = deform(self._reader(fixed), self._reader(moving), rigid)
            found.write(path)
            return found

    def _path(self, fixed: Path, moving: Path, *, rough: bool, bent: bool = False) -> Path:
        facts: list[object] = [_VERSION, rough, *(["bent", 1] if bent else [])]
        for file in (fixed, moving):
            there = file.stat() if file.is_file() else None
            facts += [str(file.resolve()), there and there.st_size, there and there.st_mtime_ns]
        ending = ".npz" if bent else ".json"
        return self.folder / f"{hashlib.sha256(json.dumps(facts).encode()).hexdigest()[:24]}{ending}"

    @staticmethod
    def _read(path: Path) -> Registration | None:
        try:
            return Registration.from_json(json.loads(path.read_text(encoding="utf-8")))
        except (OSError, ValueError, KeyError, TypeError):
            return None

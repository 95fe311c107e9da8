"""Segmentations that come back from 3D Slicer: `.seg.nrrd`, whoever saved it last.

Read by Slicer's own rules (its developer guide, "Segmentations", and vtkMRMLSegmentationStorageNode): a segment is a
layer and a value in it, its name says what it is, and neither its number nor its place in the file does, since Slicer
gives both anew when segments are moved or deleted. SimpleITK writes the same file with a first axis of kind `vector`.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from volseg.errors import LabelError, VolumeError
from volseg.labels import Code
from volseg.volume import Affine, Volume, read_nrrd_with_pairs

SEGMENTATION_SUFFIX = ".seg.nrrd"
_FACTS = ("ID", "Name", "LabelValue", "Layer", "Tags")
IMAGE_TAG = "volseg.image"
"""Tag of a segment that states the image it was written out for; programs that edit segments keep their tags."""
_NUMBERED = re.compile(r"Segment(\d+)_")


@dataclass(frozen=True)
class Segment:
    """One segment of a file.

    Attributes:
        name: What the user sees, such as `stomach`.
        code: Its type of the terminology; None where the file states none.
        layer: Number of the layer that holds it, from 0.
        value: Its value in that layer.
        status: `inprogress`, `completed` or `flagged` as Slicer's user set it; empty if not.
        own_id: What the file knows the segment by, which stays when a user renames it.
        image: Digest of the image that it was written out for, see `IMAGE_TAG`; empty where none is stated.
    """

    name: str
    code: Code | None
    layer: int
    value: int
    status: str = ""
    own_id: str = ""
    image: str = ""


@dataclass(frozen=True, eq=False)
class Segmentation:
    """A segmentation as its file has it.

    Attributes:
        layers: One volume of whole numbers per layer, all on one grid.
        segments: In the order of the file, which Slicer shows.
    """

    layers: tuple[Volume, ...]
    segments: tuple[Segment, ...]

    @property
    def affine_ras(self) -> Affine:
        """(4, 4), voxel index to RAS millimetres."""
        return self.layers[0].affine_ras

    def mask(self, segment: Segment) -> NDArray[np.bool_]:
        """(X, Y, Z), where a segment is."""
        found: NDArray[np.bool_] = self.layers[segment.layer].voxels == segment.value
        return found


def segment_id(region: str) -> str:
    """The ID of the segment of a region: Slicer, slicerio and SimpleITK keep it when the segment is renamed.

    >>> segment_id("liver")
    'volseg_ebaf48a97257'
    """
    return f"volseg_{hashlib.sha256(region.encode()).hexdigest()[:12]}"


def read_segmentation(path: str | Path) -> Segmentation:
    """Read a `.seg.nrrd` file as 3D Slicer does.

    Args:
        path: NRRD with the header keys `SegmentN_...`.

    Raises:
        VolumeError: No NRRD, absent data, an encoding that is not read, cut short, or not whole numbers.
        LabelError: No segment, a segment in a layer that is not there, two of one value and layer, numbers with a gap,
            or a representation other than binary labels.
        GeometryError: No orientation.
    """
    path = Path(path)
    layers, pairs = read_nrrd_with_pairs(path)
    _check_representation(pairs, path.name)
    if layers[0].voxels.dtype.kind not in "iu":
        raise VolumeError(f"{path.name} must hold whole numbers, got {layers[0].voxels.dtype}; save a binary labelmap")
    segments = _segments(pairs, path.name, flat=len(layers) == 1)
    for segment in segments:
        if not 0 <= segment.layer < len(layers):
            raise LabelError(
                f"{path.name}: segment {segment.name!r} must be in one of {len(layers)} layers, got layer "
                f"{segment.layer}; save the segmentation again in 3D Slicer"
            )
    found = Segmentation(tuple(layers), segments)
    _check_apart(found, path.name)
    return found


def _check_apart(found: Segmentation, name: str) -> None:
    """Refuse segments that share their voxels, as where a program left the values out."""
    places: dict[tuple[int, int], Segment] = {}
    for segment in found.segments:
        other = places.setdefault((segment.layer, segment.value), segment)
        if other is not segment and found.mask(segment).any():
            raise LabelError(
                f"{name}: segments {other.name!r} and {segment.name!r} have one value, {segment.value}, in one layer, "
                "so their voxels cannot be told apart; save the segmentation again in 3D Slicer"
            )


def _check_representation(pairs: Mapping[str, str], name: str) -> None:
    for key in ("Segmentation_MasterRepresentation", "Segmentation_SourceRepresentation"):
        kind = pairs.get(key, "Binary labelmap")
        if kind != "Binary labelmap":
            raise LabelError(
                f"{name} must hold a binary labelmap, got {kind}; in 3D Slicer make the binary labelmap the source "
                "representation and save again"
            )


def _segments(pairs: Mapping[str, str], name: str, *, flat: bool) -> tuple[Segment, ...]:
    segments: list[Segment] = []
    while f"Segment{len(segments)}_ID" in pairs:
        number = len(segments)
        facts = {fact: pairs.get(f"Segment{number}_{fact}", "") for fact in _FACTS}
        try:
            value = int(facts["LabelValue"] or 1)
            layer = int(facts["Layer"] or (0 if flat else number))
        except ValueError as error:
            raise LabelError(
                f"{name}: segment {number} has a LabelValue or Layer that is no number ({error})"
            ) from error
        if value == 0:
            raise LabelError(f"{name}: segment {facts['Name']!r} has the value 0, which is background; save it again")
        tags = dict(tag.split(":", 1) for tag in facts["Tags"].split("|") if ":" in tag)
        status, image = tags.get("Segmentation.Status", ""), tags.get(IMAGE_TAG, "")
        code = _code(tags.get("TerminologyEntry", ""))
        segments.append(Segment(facts["Name"].strip(), code, layer, value, status, facts["ID"], image))
    if not segments:
        raise LabelError(
            f"{name} names no segment: it is a plain NRRD volume, or a program that does not know segmentations "
            "saved it; "
            "export it from 3D Slicer as a segmentation"
        )
    if beyond := [key for key in pairs if _NUMBERED.match(key) and int(_NUMBERED.findall(key)[0]) >= len(segments)]:
        raise LabelError(
            f"{name} numbers its segments 0 to {len(segments) - 1}, and has {beyond[0]} beyond them, which 3D Slicer "
            "does not see either; number them anew, each with an ID"
        )
    names = [segment.name for segment in segments]
    if twice := sorted({one for one in names if names.count(one) > 1}):
        raise LabelError(
            f"{name} has {names.count(twice[0])} segments named {twice[0]!r}; rename or remove all but one"
        )
    return tuple(segments)


def _code(terminology: str) -> Code | None:
    """The type of a terminology entry `context~category~type~...`, each a triple `scheme^value^meaning`."""
    parts = terminology.split("~")
    words = parts[2].split("^") if len(parts) > 2 else []
    return Code(words[1], words[2], words[0]) if len(words) == 3 and all(words) else None

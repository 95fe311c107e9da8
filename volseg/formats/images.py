"""Reader of folders of images with masks: X-rays, tissue. Each image becomes a volume of one slice, or of a stack."""

from __future__ import annotations

import hashlib
import json
import logging
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from volseg.cohort import ASSUMED, TEST, Case, raw_note, told_axes
from volseg.errors import SourceError, UsageError
from volseg.formats.image_file import MAX_PIXELS, ReadDicom, is_colour, read_picture
from volseg.formats.image_masks import Classes, binary, class_map, note_inverted, numbered, stack_objects
from volseg.formats.image_pairs import Missing, Pair, Pairs, mask_pattern, pair_files
from volseg.formats.image_pattern import Pattern
from volseg.formats.picture import Picture, fit_orientation, luminance
from volseg.labels import LabelMap, LabelTable, RegionCanvas, overlaps_that_occur
from volseg.volume import AXES, RGB, UNMEASURED, Volume, affine_of_axes, check_axes, to_volume

logger = logging.getLogger(__name__)

Colour = Literal["auto", "rgb", "grey"]
Objects = Literal["files", "values"]

COLOURS: tuple[Colour, ...] = get_args(Colour)
OBJECTS: tuple[Objects, ...] = get_args(Objects)
CHANNELS = {"rgb": RGB, "grey": ("grey",)}

_NO_SLICE_DISTANCE = "distance between slices unknown, taken as 1 mm (--spacing-mm X,Y,Z states it)"
_DIRECTIONS = f"{ASSUMED}: {told_axes(AXES, third='third axis')} (--axes states others)"
_REGION = "foreground"
_OVERLAPPING = 8  # regions that one label map keeps with their overlaps
_SHOWN = 3
_NAMED = re.compile(r"([A-Za-z][\w-]*)=(.+)")


@dataclass(frozen=True)
class _Label:
    """The label map of an image (rows, columns) or a stack, its objects by number or None, and notes."""

    label_map: LabelMap
    objects: NDArray[np.int64] | None
    notes: tuple[str, ...]


class Images:
    """Cases of a folder of PNG, JPEG, TIFF and other images with masks.

    What becomes of pixels, colours, spacing and masks stands in `docs/how-to/images.md`.

    Args:
        raw: Folder that holds images and masks.
        images: Pattern of the images, see `Pattern`.
        masks: `[REGION=]PATTERN` for each kind of mask file; the files of one region are united. Without any, no case
            has a label.
        classes: `NAME=VALUE` or `NAME=#rrggbb`; then the masks hold classes instead of one region each.
        threshold: Lowest value of a marked pixel; None for 128 in JPEG files and 1 in others.
        objects: Objects to keep apart: each mask file is one (`files`), or each value in a mask (`values`).
        colour: Three channels or luminance; `auto` takes three if any file is stored in colour.
        spacing_mm: One number, or one between columns and one between rows, then maybe one between slices; None for
            what the files state.
        missing: Meaning of an image without mask, see `pair_files`.
        validation: Patterns of the images that are validated on; then there is one fold.
        test: Patterns of the images that stay out of all folds.
        max_pixels: Largest number of pixels of an image; larger ones are refused.
        axes: Directions of columns, rows and the third axis, as three letters; None for LPS, with a warning.
        read_dicom: Reader of X-ray images in DICOM, such as `volseg.dicom.read_x_ray`; None to refuse them.
        overlaps: Whether every overlap of more than 8 regions is kept: all masks are read once more, beforehand, for
            the combinations that occur. Up to 8 regions keep their overlaps without it.
        progress: Function that is called with (cases done, cases in all) while they are read for that.

    Raises:
        UsageError: Options do not go together, or patterns match nothing.
        SourceError: There is no image, or none that fits a mask.
    """

    kind = "images"
    source_version = 4  # raise it when the same files give another case

    def __init__(
        self,
        raw: str | Path,
        *,
        images: str = "**/{key}.*",
        masks: Sequence[str] = (),
        classes: Sequence[str] = (),
        threshold: int | None = None,
        objects: Objects | None = None,
        colour: Colour = "auto",
        spacing_mm: Sequence[float] | None = None,
        missing: Missing = "refuse",
        validation: Sequence[str] = (),
        test: Sequence[str] = (),
        max_pixels: int = MAX_PIXELS,
        axes: str | None = None,
        read_dicom: ReadDicom | None = None,
        overlaps: bool = False,
        progress: Callable[[int, int], None] | None = None,
    ) -> None:
        self._read_dicom = read_dicom
        self.raw = Path(raw)
        named = [(m[1], m[2]) if (m := _NAMED.fullmatch(text)) else ("", text) for text in masks]
        self.classes = Classes.parse(classes) if classes else None
        self._check_options(named, threshold, objects, colour, max_pixels)
        self.spacing_mm = _spacing(spacing_mm)
        self.axes = AXES if axes is None else check_axes(axes)
        self._notes = (_DIRECTIONS,) if axes is None else ()
        self.threshold, self.objects, self.max_pixels = threshold, objects, max_pixels
        self.regions = tuple(region or _REGION for region, _ in named)
        names = self.classes.names if self.classes else tuple(dict.fromkeys(self.regions)) or (_REGION,)
        overlapping = self.classes is None and len(names) <= _OVERLAPPING
        self.labels = LabelTable.overlapping(names) if overlapping else _exclusive(names)
        pairs = pair_files(self.raw, Pattern(images), [Pattern(text) for _, text in named], missing=missing)
        self._pairs = pairs.by_key
        if overlaps and not overlapping and self.classes is None:
            keys = [key for key, pair in self._pairs.items() if pair.labelled and not pair.problem]
            found = overlaps_that_occur(keys, self._drawn_alone, progress=progress)
            self.labels = self.labels.with_overlaps(found)
        self._called_masks = {} if masks else _called_masks(pairs)
        self._check_pairs(images, pairs)
        self._test = self._matching(test, "--test")
        self.validation = self._matching(validation, "--validation") - self._test
        self._check_groups()
        if colour == "auto":
            files = (pair.image for pair in self._pairs.values() if pair.image)
            colour = "rgb" if any(is_colour(self.raw / file) for file in files) else "grey"
        self.channel_names: tuple[str, ...] = CHANNELS[colour]
        self._facts: list[Any] = [self.kind, self.source_version, self.axes, self._notes, self.spacing_mm, missing]
        self._facts += [colour, self.labels.digest, masks, list(classes), threshold, objects]

    def keys(self) -> Sequence[str]:
        """The keys of all images, and of masks without an image, sorted."""
        return sorted(self._pairs)

    def labelled(self, key: str) -> bool:
        """Whether masks belong to the image."""
        return self._pairs[key].labelled

    def digest(self, key: str) -> str:
        """Changes with an option, or with the name, size or time of any file of the case."""
        pair = self._pairs[key]
        facts = [*self._facts, pair.patient, key in self._test]
        for file in pair.files:
            try:
                stat = (self.raw / file).stat()
            except OSError as error:
                raise SourceError(f"{file} cannot be read ({error.strerror}); copy it again", case=key) from error
            facts.append([file, stat.st_size, stat.st_mtime_ns])
        return hashlib.sha256(json.dumps(facts).encode()).hexdigest()

    def load(self, key: str) -> Case:
        """Read one image and its masks."""
        pair = self._pairs[key]
        if pair.problem:
            raise SourceError(pair.problem, case=key)
        picture = self._read(pair.image)
        pixels, notes = self._channels(picture)
        spacing_mm, told = self._distances(picture)
        notes = (*notes, *told)
        label = instances = None
        if pair.labelled:
            found = self._label(picture, pair)
            notes = (*notes, *found.notes)
            label = self._volume(found.label_map, spacing_mm)
            if found.objects is not None:
                small = int(found.objects.max()) <= np.iinfo(np.uint16).max
                instances = self._volume(found.objects.astype(np.uint16 if small else np.int32), spacing_mm)
        if pair.image in self._called_masks:
            notes = (*notes, "called as a mask is, and taken for an image (--masks names masks)")
        if key in self._test:
            notes = (f"{TEST}: kept out of the folds", *notes)
        channels = tuple(self._volume(channel, spacing_mm) for channel in pixels)
        return Case(key, pair.patient, "", channels, label, pair.image, (*notes, *self._notes), instances)

    def _read(self, file: str) -> Picture:
        return read_picture(self.raw / file, name=file, max_pixels=self.max_pixels, read_dicom=self._read_dicom)

    def _distances(self, picture: Picture) -> tuple[tuple[float, float, float], tuple[str, ...]]:
        """Distances in mm between columns, rows and slices, and what is to be said of them."""
        notes = [picture.spacing_note] if self.spacing_mm is None and picture.spacing_note else []
        x, y, *z = self.spacing_mm or picture.spacing_mm or (1.0, 1.0)
        if self.spacing_mm is None and picture.spacing_mm is None:
            notes.append(UNMEASURED)
        between = z[0] if z else picture.slice_mm
        if between is None and picture.stacked:
            notes.append(_NO_SLICE_DISTANCE)
        return (x, y, between or 1.0), tuple(notes)

    def _volume(self, raster: NDArray[Any], spacing_mm: tuple[float, float, float]) -> Volume:
        """(X, Y, Z) of a raster (rows, columns) or (slices, rows, columns)."""
        if raster.ndim == 2:
            return to_volume(raster, spacing_mm, axes=self.axes)
        return Volume(raster.transpose(2, 1, 0), affine_of_axes(self.axes, spacing_mm))

    def _channels(self, picture: Picture) -> tuple[tuple[NDArray[Any], ...], tuple[str, ...]]:
        """Each channel (rows, columns) or (slices, rows, columns), and notes."""
        notes = list(picture.notes)
        if picture.clear:
            notes.append(f"transparency dropped, {picture.clear} pixels were not opaque")
        pixels = picture.pixels
        plain = not picture.colour or not (pixels != pixels[..., :1]).any()
        if len(self.channel_names) == 3:
            if plain:
                notes.append("the three channels are equal (--colour grey makes one)")
            channels = tuple(pixels[..., channel] for channel in range(3)) if picture.colour else (pixels,) * 3
            return channels, tuple(notes)
        if not picture.colour:
            return (pixels,), tuple(notes)
        if not plain:
            notes.append("colours reduced to luminance (--colour rgb keeps them)")
        return (luminance(pixels),), tuple(notes)

    def _label(self, picture: Picture, pair: Pair) -> _Label:
        shape = picture.shape
        by_region, notes = self._masks(picture, pair)
        if self.classes:
            label_map: LabelMap = by_region[""][0]
            return _Label(label_map, None, tuple(notes))
        label_map = _painted(by_region, shape).label_map(self.labels, cure="keep it with --overlaps")
        objects = None
        if self.objects:
            found = [mask for masks in by_region.values() for mask in masks]
            objects, shared, lost = stack_objects(shape, found)
            if shared:
                notes.append(f"objects share {shared} pixels, each given to the first")
            if lost:
                notes.append(f"{lost} objects have no pixel of their own and are not counted")
        notes = list(dict.fromkeys(notes))
        if len(notes) > _SHOWN:
            notes = [*notes[:_SHOWN], f"and {len(notes) - _SHOWN} more notes of masks"]
        return _Label(label_map, objects, tuple(notes))

    def _drawn_alone(self, key: str) -> RegionCanvas:
        """The regions of a case."""
        picture = self._read(self._pairs[key].image)
        return _painted(self._masks(picture, self._pairs[key])[0], picture.shape)

    def _masks(self, picture: Picture, pair: Pair) -> tuple[dict[str, list[NDArray[Any]]], list[str]]:
        """The masks of each region, and notes; under no name the label map, where masks hold classes."""
        notes: list[str] = []
        by_region: dict[str, list[NDArray[Any]]] = {name: [] for name in self.labels.names}
        for region, files in zip(self.regions, pair.masks, strict=True):
            for file in files:
                mask, said = fit_orientation(self._read(file), picture, name=file, image_name=pair.image)
                notes += said
                if mask.shape != picture.shape:
                    raise SourceError(
                        f"{file} is {mask.size}, its image {pair.image} {picture.size}; take the mask that was drawn "
                        "on this image"
                    )
                if self.classes:
                    label_map = class_map(mask, self.classes, name=file)
                    return {"": [label_map]}, [*notes, *note_inverted(mask, label_map)]
                if self.objects == "values":
                    by_region[region].append(numbered(mask, name=file))
                    notes += note_inverted(mask, by_region[region][-1])
                else:
                    marked, said = binary(mask, name=file, threshold=self.threshold)
                    notes += said
                    by_region[region].append(marked)
        return by_region, notes

    def _check_options(
        self,
        named: Sequence[tuple[str, str]],
        threshold: int | None,
        objects: Objects | None,
        colour: str,
        max_pixels: int,
    ) -> None:
        if self.classes and (threshold is not None or objects or len(named) != 1 or named[0][0]):
            raise UsageError(
                "--classes says what the values of one mask file an image mean; it takes one --masks PATTERN without "
                "a region, and neither --threshold nor --objects"
            )
        if not named and (threshold is not None or objects):
            raise UsageError("--threshold and --objects are of masks; name them with --masks")
        if objects == "values" and threshold is not None:
            raise UsageError("--objects values takes each value for an object, so there is no --threshold")
        if objects not in (None, *OBJECTS):
            raise UsageError(f"objects are {objects!r}, expected {' or '.join(OBJECTS)}")
        if colour not in COLOURS:
            raise UsageError(f"the colour is {colour!r}, expected {', '.join(COLOURS)}")
        if max_pixels < 1:
            raise UsageError(f"--max-pixels must be at least 1, got {max_pixels}; give another number")

    def _check_pairs(self, images: str, pairs: Pairs) -> None:
        others = pairs.others
        if others:
            shown = ", ".join(others[:_SHOWN]) + (" ..." if len(others) > _SHOWN else "")
            logger.warning("%d image files match no pattern and are left out: %s", len(others), shown)
        if not any(pair.image for pair in self._pairs.values()):
            note = "" if others else raw_note(self.raw)
            if not note or "convert images" in note:  # which was tried here
                note = "correct --images"
                if pairs.unread:
                    note = f"{pairs.unread[0]} is of a kind that is not read: save it as PNG or TIFF, or {note}"
            raise SourceError(f"no image in {self.raw} matches {images!r}; {note}")
        problems = [pair.problem for pair in self._pairs.values() if pair.problem]
        if len(problems) == len(self._pairs):
            raise SourceError(f"none of {len(problems)} images is fit to be read; the first: {problems[0]}")
        if self._called_masks:
            file, pattern = next(iter(self._called_masks.items()))
            logger.warning(
                "%d of %d images are called as masks are, such as %s, and are taken for images; --masks %r names them",
                *(len(self._called_masks), len(self._pairs), file, pattern),
            )
        if self.classes:
            for key, pair in self._pairs.items():
                if not pair.problem and len(pair.masks[0]) > 1:
                    problem = f"{len(pair.masks[0])} masks of classes belong to {pair.image}; name one by the pattern"
                    self._pairs[key] = Pair(pair.patient, pair.image, pair.masks, pair.labelled, problem)

    def _matching(self, patterns: Sequence[str], option: str) -> frozenset[str]:
        """The keys of the images that match one of the patterns."""
        found: set[str] = set()
        for text in patterns:
            pattern = Pattern(text)
            if pattern.keyed or pattern.grouped:
                raise UsageError(f"{option} {text!r} has a placeholder; take * instead")
            matching = {key for key, pair in self._pairs.items() if pattern.matches(pair.image)}
            if not matching:
                raise UsageError(f"{option} {text!r} matches no image; patterns are of paths below {self.raw}")
            found |= matching
        return frozenset(found)

    def _check_groups(self) -> None:
        """No patient on two sides."""
        sides: dict[str, set[str]] = {}
        for key, pair in self._pairs.items():
            side = "test" if key in self._test else "validation" if key in self.validation else "training"
            sides.setdefault(pair.patient, set()).add(side)
        split = [patient for patient, of_patient in sorted(sides.items()) if len(of_patient) > 1]
        if split:
            raise UsageError(
                f"{len(split)} patients have images on two sides of the split, such as {split[0]}; correct "
                "--validation and --test"
            )


def _called_masks(pairs: Pairs) -> dict[str, str]:
    """The images that are called as masks are, and the pattern that would name each."""
    found = {pair.image: mask_pattern(pair.image) for pair in pairs.by_key.values() if pair.image and not pair.problem}
    return {image: pattern for image, pattern in found.items() if pattern}


def _painted(by_region: dict[str, list[NDArray[Any]]], shape: tuple[int, ...]) -> RegionCanvas:
    """The regions of an image, each the union of its masks."""
    canvas = RegionCanvas(shape)
    for place, found in enumerate(by_region.values()):
        canvas.paint(_united(found, shape), place)
    return canvas


def _united(masks: Sequence[NDArray[Any]], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """What any of some masks marks: one mask after the other, since an image may have hundreds of its size."""
    union = np.zeros(shape, dtype=bool)
    for mask in masks:
        union |= mask != 0
    return union


def _exclusive(names: Sequence[str]) -> LabelTable:
    """The table of classes that exclude each other; the last may be `ignore`."""
    if names[-1] != LabelTable.IGNORE or len(names) < 2:
        return LabelTable.exclusive(names)
    return replace(LabelTable.exclusive(names[:-1]), ignore=len(names))


def parse_spacing(text: str) -> tuple[float, ...]:
    """Numbers of mm from a text.

    >>> parse_spacing("0.5,0.25")
    (0.5, 0.25)

    Raises:
        UsageError: The value is something else.
    """
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        raise UsageError(f"--spacing-mm must be MM, X,Y or X,Y,Z, got {text!r}; give one to three numbers") from None


def _spacing(given: Sequence[float] | None) -> tuple[float, ...] | None:
    if given is None:
        return None
    if len(given) not in (1, 2, 3) or not all(math.isfinite(mm) and mm > 0 for mm in given):
        raise UsageError(f"the spacing must be one to three numbers above 0, got {list(given)} mm; give them in mm")
    return tuple(given) if len(given) > 1 else (given[0], given[0])

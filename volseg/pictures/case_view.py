"""One case as slices on the screen, and the pictures of it: panels, overlay, montage, all slices in turn."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args

import numpy as np
from numpy.typing import ArrayLike, NDArray

from volseg.errors import UsageError
from volseg.labels import LabelMap, LabelTable, Masks
from volseg.pictures.layout import Entry, arrange_panels
from volseg.pictures.orientation import Plane, View
from volseg.pictures.rendering import (
    DIFFERENCE_COLOURS,
    DIFFERENCE_NAMES,
    Pixels,
    colour_levels,
    convenient_scale,
    difference_masks,
    grey_levels,
    panel,
)

Style = Literal["panels", "overlay", "montage"]

STYLES: tuple[Style, ...] = get_args(Style)

_MONTAGE = 12  # number of slices
_COLUMNS = 4
# Approximate number of pixels of a panel's longer side.
_WIDE = {"panels": 380, "overlay": 380, "montage": 230}
_WIDE_MOVING = 230
_LEGEND = 8  # number of regions up to which all are in the legend, whether in the slice or not
_LIGHT, _STRONG = 0.25, 0.75  # opacity of fills


@dataclass(frozen=True, eq=False)
class CaseView:
    """One case as it is shown.

    Attributes:
        name: Name of the case, for the title.
        intensity: Image (slices, rows, columns), or (slices, rows, columns, 3) in colour.
        drawn: Masks (R, slices, rows, columns) of the reference, or its label map (slices, rows, columns), or None.
        predicted: Those of the prediction, or None.
        labels: Label table of the R regions.
        view: View by which the stored voxels were turned.
        measured: Whether the spacing is known, so that a scale bar has a meaning.
        unseen: Mask (slices, rows, columns) of the voxels that nobody looked at, in which nothing differs; None for
            none.
    """

    name: str
    intensity: Pixels
    drawn: Masks | LabelMap | None
    predicted: Masks | LabelMap | None
    labels: LabelTable
    view: View
    measured: bool = True
    unseen: NDArray[np.bool_] | None = None

    @classmethod
    def of(
        cls,
        image: NDArray[Any],
        affine_ras: ArrayLike,
        labels: LabelTable,
        *,
        reference: Masks | LabelMap | None = None,
        prediction: Masks | LabelMap | None = None,
        name: str = "",
        plane: Plane = "axial",
        window: tuple[float, float] | None = None,
        measured: bool = True,
        unseen: NDArray[np.bool_] | None = None,
    ) -> CaseView:
        """Turn stored voxels into slices of a plane.

        Args:
            image: Image (X, Y, Z) of any scale; or (3, X, Y, Z), red, green and blue.
            affine_ras: Affine (4, 4) from voxel index to RAS mm.
            labels: Label table of the R regions, with their colours.
            reference: Masks (R, X, Y, Z) of the reference, or None; or its label map (X, Y, Z), which takes a byte per
                voxel and not one per voxel and region.
            prediction: Those of the prediction, or None.
            name: Name of the case.
            plane: Plane of the slices.
            window: Values shown black and white; None for the 1st and 99th percentile of the volume. Not used for
                colours.
            measured: Whether the spacing is known.
            unseen: Mask (X, Y, Z) of the voxels that nobody looked at, or None.

        Raises:
            UsageError: The masks have another shape, or there is no such plane.
        """
        grid = image.shape[-3:]
        expected = (len(labels.regions), *grid)
        for masks in (reference, prediction):
            if masks is not None and masks.shape not in (expected, grid):
                raise UsageError(f"the masks must have the shape {expected}, got {masks.shape}; put them on its grid")
        view = View.of(affine_ras, plane)

        def turned(masks: Masks | LabelMap | None) -> Masks | LabelMap | None:
            if masks is None:
                return None
            if masks.ndim == 3:
                return view.apply(masks.astype(np.uint8, copy=False))
            return view.apply(masks.astype(np.bool_, copy=False))

        if image.ndim == 4:
            shown = np.moveaxis(view.apply(colour_levels(image)), 0, -1)
        else:
            shown = view.apply(grey_levels(image, window=window))
        hidden = None if unseen is None else view.apply(unseen)
        return cls(name, shown, turned(reference), turned(prediction), labels, view, measured, hidden)

    @property
    def grey(self) -> Pixels:
        """The intensity under its name of version 0.1."""
        return self.intensity

    @property
    def reference(self) -> Masks | None:
        """Masks (R, slices, rows, columns) of the reference, made anew from a label map; None without a reference."""
        return self._masks(self.drawn, slice(None))

    @property
    def prediction(self) -> Masks | None:
        """Masks (R, slices, rows, columns) of the prediction; None without a prediction."""
        return self._masks(self.predicted, slice(None))

    @property
    def slices(self) -> int:
        """The number of slices in the plane."""
        return int(self.intensity.shape[0])

    @property
    def edges(self) -> tuple[str, str] | None:
        """Letters of the patient's sides; None for a single image, whose affine does not give them."""
        return self.view.edges if self.slices > 1 else None

    def mm_per_pixel(self, scale: float) -> float | None:
        """Millimetres per pixel of a picture enlarged by `scale`; None if the spacing is not known."""
        return min(self.view.pixel_mm) / scale if self.measured else None

    @property
    def area(self) -> NDArray[np.intp]:
        """Pixels per slice (slices,) in a region of the reference, or of the prediction without a reference."""
        for whole in (self.drawn, self.predicted):
            if whole is not None and (counts := self._pixels(whole)).any():
                return counts
        return np.zeros(self.slices, dtype=np.intp)

    def _pixels(self, whole: Masks | LabelMap) -> NDArray[np.intp]:
        """Pixels of all regions per slice (slices,)."""
        if whole.ndim == 4:
            return np.asarray(whole.sum(axis=(0, 2, 3)), dtype=np.intp)
        return np.array([sum(self.labels.voxels_of_regions(one).values()) for one in whole], dtype=np.intp)

    def reference_masks(self, place: int) -> Masks | None:
        """Masks (R, rows, columns) of the reference in a slice, see `fullest`; None without a reference."""
        return self._masks(self.drawn, place)

    def prediction_masks(self, place: int) -> Masks | None:
        """Masks (R, rows, columns) of the prediction in a slice; None without a prediction."""
        return self._masks(self.predicted, place)

    def _masks(self, whole: Masks | LabelMap | None, place: int | slice) -> Masks | None:
        if whole is None:
            return None
        if whole.ndim == 4:
            return whole[:, place].astype(np.bool_, copy=False)
        return self.labels.masks(whole[place].astype(np.uint8, copy=False))

    def held(self, place: int | None) -> list[bool]:
        """Whether each region is in a slice of the reference or the prediction, or for None in any slice."""
        found = np.zeros(len(self.labels.regions), dtype=np.bool_)
        for whole in (self.drawn, self.predicted):
            if whole is not None and whole.ndim == 4:
                found |= (whole if place is None else whole[:, place, None]).any(axis=(1, 2, 3))
            elif whole is not None:
                label_map = whole.astype(np.uint8, copy=False)
                counts = self.labels.voxels_of_regions(label_map if place is None else label_map[place])
                found |= np.array(list(counts.values())) > 0
        return [bool(one) for one in found]

    @property
    def fullest(self) -> int:
        """Index of the slice with most of the regions; the middle one if there is no region."""
        area = self.area
        return int(area.argmax()) if area.any() else self.slices // 2


def draw(
    case_view: CaseView, *, style: Style = "panels", number: int | None = None, scale: int | None = None, note: str = ""
) -> Pixels:
    """Draw the picture of a case.

    - `panels`: image, and reference and prediction if there are such, side by side.
    - `overlay`: these panels, and one of what the prediction missed, invented or took for another region.
    - `montage`: up to twelve slices through the regions; the reference filled, the prediction outlined.

    Args:
        case_view: Case as it is shown.
        style: One of the three styles.
        number: Number of the slice, see `View.number`; None for the one with most of the regions.
        scale: Number of pixels for a stored pixel; None for a picture of convenient size.
        note: Text at the end of the title.

    Returns:
        Picture (height, width, 3).

    Raises:
        UsageError: There is no such slice, an overlay lacks one of the label maps, or a montage has one slice.
    """
    if style not in STYLES:
        raise UsageError(f"the style must be one of {', '.join(STYLES)}, got {style!r}; give another one")
    size = _scale(case_view, _WIDE[style], scale)
    if style == "montage":
        if number is not None:
            raise UsageError("a montage shows many slices; leave --slice out or take another style")
        return _montage(case_view, size, note)
    shown = case_view.fullest if number is None else case_view.view.place(number, case_view.slices)
    return _panels(case_view, shown, size, differences=style == "overlay", note=note)


def frames(case_view: CaseView, *, style: Style = "panels", scale: int | None = None) -> Iterator[Pixels]:
    """Draw all slices that hold a region in turn, and two more at each end; all slices if there is no region.

    Raises:
        UsageError: The options are wrong as in `draw`, or the style is montage, which does not move.
    """
    if style == "montage":
        raise UsageError("a montage does not move; take the style panels or overlay, or write a .png")
    size = _scale(case_view, _WIDE_MOVING, scale)
    held = np.flatnonzero(case_view.area)
    first, last = (int(held[0]) - 2, int(held[-1]) + 2) if held.size else (0, case_view.slices - 1)
    for shown in range(max(first, 0), min(last, case_view.slices - 1) + 1):
        yield _panels(case_view, shown, size, differences=style == "overlay", moving=True)


def _panels(
    case_view: CaseView, shown: int, scale: float, *, differences: bool, note: str = "", moving: bool = False
) -> Pixels:
    colours = [region.colour for region in case_view.labels.regions]
    intensity, pixel_mm = case_view.intensity[shown], case_view.view.pixel_mm
    parts = [("image", panel(intensity, pixel_mm=pixel_mm, scale=scale))]
    reference, prediction = case_view.reference_masks(shown), case_view.prediction_masks(shown)
    for caption, masks in (("reference", reference), ("prediction", prediction)):
        if masks is not None:
            picture = panel(intensity, masks, colours, fill=_LIGHT, line=True, pixel_mm=pixel_mm, scale=scale)
            parts.append((caption, picture))
    legend = _regions(case_view, shown=None if moving else shown) if len(parts) > 1 else []
    if differences:
        if reference is None or prediction is None:
            raise UsageError("an overlay shows how two label maps differ; give a labelled case and --predictions")
        wrong = difference_masks(reference, prediction)
        if case_view.unseen is not None:
            wrong &= ~case_view.unseen[shown]
        picture = panel(intensity, wrong, DIFFERENCE_COLOURS, fill=_STRONG, pixel_mm=pixel_mm, scale=scale)
        parts.append(("differences", picture))
        legend += [Entry(name, colour) for name, colour in zip(DIFFERENCE_NAMES, DIFFERENCE_COLOURS, strict=True)]
    return arrange_panels(
        parts,
        title=_title(case_view, _place(case_view, shown), note),
        legend=legend,
        mm_per_pixel=case_view.mm_per_pixel(scale),
        edges=case_view.edges,
    )


def _montage(case_view: CaseView, scale: float, note: str) -> Pixels:
    colours = [region.colour for region in case_view.labels.regions]
    held = np.flatnonzero(case_view.area)
    first, last = (int(held[0]), int(held[-1])) if held.size else (0, case_view.slices - 1)
    count = min(_MONTAGE, last - first + 1)
    chosen = [round(position) for position in np.linspace(first, last, count).tolist()]
    both = case_view.drawn is not None and case_view.predicted is not None
    labelled = case_view.predicted is not None or case_view.drawn is not None
    outlined = case_view.reference_masks if case_view.predicted is None else case_view.prediction_masks
    pixel_mm = case_view.view.pixel_mm
    parts = [
        (
            f"slice {_number(case_view, shown)}",
            panel(
                case_view.intensity[shown],
                case_view.reference_masks(shown) if both else None,
                colours,
                fill=_LIGHT,
                lines=outlined(shown),
                pixel_mm=pixel_mm,
                scale=scale,
            ),
        )
        for shown in chosen
    ]
    if both:
        note = f"{note} · filled: reference, contour: prediction".removeprefix(" · ")
    elif labelled:
        note = f"{note} · contour: {'reference' if case_view.predicted is None else 'prediction'}".removeprefix(" · ")
    return arrange_panels(
        parts,
        title=_title(case_view, f"{case_view.view.plane} slices", note),
        legend=_regions(case_view, line=not both) if labelled else [],
        mm_per_pixel=case_view.mm_per_pixel(scale),
        edges=case_view.edges,
        columns=_COLUMNS,
    )


def _scale(case_view: CaseView, wide: int, asked: int | None) -> float:
    if asked is not None and asked < 1:
        raise UsageError(f"the scale must be at least 1, got {asked}; give a whole number of pixels per voxel")
    _, rows, columns = case_view.intensity.shape[:3]
    return asked or convenient_scale((rows, columns), pixel_mm=case_view.view.pixel_mm, wide=wide)


def _number(case_view: CaseView, shown: int) -> int:
    return case_view.view.number(shown, case_view.slices)


def _place(case_view: CaseView, shown: int) -> str:
    if case_view.slices == 1:
        return ""
    return f"{case_view.view.plane} slice {_number(case_view, shown)} of {case_view.slices}"


def _title(case_view: CaseView, place: str, note: str) -> str:
    return " · ".join(part for part in (case_view.name, place, note) if part)


def _regions(case_view: CaseView, *, shown: int | None = None, line: bool = False) -> list[Entry]:
    """The legend's regions; of a long table only those in the shown slice, or in the case."""
    regions = case_view.labels.regions
    if len(regions) > _LEGEND:
        kept = case_view.held(shown)
        regions = tuple(region for region, keep in zip(regions, kept, strict=True) if keep)
    return [Entry(region.name.replace("_", " "), region.colour, line) for region in regions]

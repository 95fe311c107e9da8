"""The phantom's anatomy: where each structure of one synthetic abdomen is, as signed distances in millimetres.

Coordinates are patient millimetres around the middle of the scan: x to the left, y to the back, z to the head. A
signed distance is negative inside a structure.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter, generate_binary_structure, label

from volseg.datasets.bowel import draw_colon, draw_small_bowel, draw_stomach
from volseg.datasets.treatment_days import Day, Habits
from volseg.datasets.tube import Field, Hollow, Tube, hollow

# Centre line (x, y, z, radius in mm) of an average patient.
_PANCREAS = ((-32, -4, -4, 11), (-8, -14, 4, 9), (24, -2, 12, 9), (56, 22, 18, 8), (84, 34, 22, 6))
# Share of an organ's tube that what it yields to leaves; how far the wall moves at most for a volume.
_FREE, _MOST_MM, _HALVINGS = 0.85, 8.0, 8


@dataclass(frozen=True)
class Abdomen:
    """Signed distances (X, Y, Z) in mm of all structures, on one grid."""

    body: Field
    muscle: Field
    cavity: Field
    solid: dict[str, Field]
    large_bowel: Hollow
    small_bowel: Hollow
    stomach: Hollow
    vessels: Field

    @property
    def masks(self) -> NDArray[np.bool_]:
        """(3, X, Y, Z): large bowel, small bowel, stomach, as drawn by hand: no pinholes, no slivers."""
        return np.stack([_drawn(organ.distance < 0) for organ in (self.large_bowel, self.small_bowel, self.stomach)])

    def masks_of(self, habits: Habits) -> NDArray[np.bool_]:
        """The same as an annotator of these habits draws them."""
        ends = np.zeros(self.body.shape, dtype=bool)
        ends[:, :, :3] = ends[:, :, -3:] = True
        found = []
        for name in ("large_bowel", "small_bowel", "stomach"):
            organ: Hollow = getattr(self, name)
            found.append(_drawn((habits.drawn_organ(name, organ.distance, organ.along) < 0) & ~ends))
        return np.stack(found)


def smooth_field(rng: np.random.Generator, shape: Sequence[int], waves: Sequence[int]) -> Field:
    """A smooth random field of about unit variance: random sums of the first cosines along each axis.

    >>> smooth_field(np.random.default_rng(0), (8, 6, 4), (3, 3, 2)).shape
    (8, 6, 4)
    """
    field: Field = rng.normal(size=tuple(waves))
    for n, k in zip(shape, waves, strict=True):
        basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(k)) / n)
        basis[:, 1:] *= np.sqrt(2)
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, 0)), 0, -1)  # the next axis comes to the front
    field /= math.sqrt(math.prod(waves))
    return field


def build_abdomen(
    patient: np.random.Generator,
    day: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
    today: Day | None = None,
) -> Abdomen:
    """The abdomen of one patient on one day.

    Args:
        patient: Random numbers for what stays from day to day: size, position and form of the organs, and the course
            of the bowel.
        day: Random numbers for what changes from day to day: filling, and position within some millimetres.
        shape: Shape (X, Y, Z) of the grid.
        spacing: Spacing of the grid in mm.
        today: Changes of a real day; None for a mild one.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    size = patient.uniform((0.90, 0.90, 0.86), (1.03, 1.06, 0.98))
    shift = patient.uniform((-4, -6, -2), (4, 6, 4)) + day.normal(0, (1.5, 1.5, 2))
    if today is None:
        rigid = [
            np.broadcast_to(axis.reshape([-1 if i == d else 1 for i in range(3)]), shape)
            for d, axis in enumerate((axis - shift[d]) / size[d] for d, axis in enumerate(axes))
        ]
    else:
        rigid = _set_up(axes, shift, size, today)
    form = [mm * smooth_field(patient, shape, (3, 3, 3)) for mm in (2.0, 2.0, 1.0)]
    frame = [a + b for a, b in zip(rigid, form, strict=True)]
    motion = [smooth_field(day, shape, (4, 4, 4)) * (1.0 if today is None else today.motion) for _ in range(3)]
    built = [smooth_field(patient, shape, (4, 4, 4)) for _ in range(3)]
    soft = [
        p + own * a + mm * b for p, a, b, own, mm in zip(frame, built, motion, (6, 5, 3), (3.0, 3.0, 2.0), strict=True)
    ]

    body, muscle, cavity, solid = _frame_of(patient, frame)
    solid |= {name: np.maximum(distance, cavity) for name, distance in _solid_organs(patient, soft).items()}
    vessels = np.sqrt(sum(gaussian_filter(patient.normal(size=shape), 2.7) ** 2 for _ in range(2)))
    vessels = vessels / vessels.mean()

    stomach_tube, large_tube, small_tube = (
        draw_stomach(patient, day),
        draw_colon(patient, day),
        draw_small_bowel(patient, day),
    )
    stomach = hollow(_of_day(stomach_tube, "stomach", day, today), soft, exact=True)
    large = hollow(_of_day(large_tube, "large_bowel", day, today), soft)
    small = hollow(_of_day(small_tube, "small_bowel", day, today), soft)
    # What yields to what, and by how much two contours may run into each other.
    hard = np.minimum.reduce([solid[name] for name in ("bone", "psoas", "vessel", "kidney")])
    ends = np.abs(axes[2])[None, None, :] - axes[2][-3]  # nothing is outlined in the last three slices at each end
    wall = np.maximum.reduce([cavity, -hard, np.broadcast_to(ends, shape)])
    voxel_mm3 = math.prod(spacing) / math.prod(size)

    def filled(distance: Field, yields: Field, tube: Tube, name: str) -> Field:
        return (
            _filled(distance, yields, tube, today.filling[name], voxel_mm3) if today else np.maximum(distance, yields)
        )

    large_mm = filled(large.distance, wall, large_tube, "large_bowel")
    stomach_mm = filled(stomach.distance, np.maximum(wall, -large_mm - 2.0), stomach_tube, "stomach")
    yields = np.maximum.reduce([wall, -stomach_mm - 2.0, -large_mm - 2.5])
    small_mm = filled(small.distance - 0.8, yields, small_tube, "small_bowel")
    return Abdomen(
        body=body,
        muscle=muscle,
        cavity=cavity,
        solid=solid,
        large_bowel=Hollow(large_mm, large.along, large.height),
        small_bowel=Hollow(small_mm, small.along, small.height),
        stomach=Hollow(stomach_mm, stomach.along, stomach.height),
        vessels=vessels,
    )


def _set_up(axes: Sequence[NDArray[Any]], shift: Field, size: Field, today: Day) -> list[Field]:
    """Coordinates of a patient who lies shifted and rolled in the field of view."""
    x, y, z = np.meshgrid(*(axis - mm for axis, mm in zip(axes, today.shift_mm, strict=True)), indexing="ij")
    cos, sin = math.cos(today.turn_rad), math.sin(today.turn_rad)
    turned = (cos * x + sin * y, cos * y - sin * x, z)
    return [(p - shift[d]) / size[d] for d, p in enumerate(turned)]


def _of_day(tube: Tube, name: str, day: np.random.Generator, today: Day | None) -> Tube:
    """A hollow organ as it lies and is filled today: loops move, waves of peristalsis narrow them."""
    if today is None:
        return tube
    small = name == "small_bowel"
    knots = max(4, int(tube.length[-1] / (30 if small else 45)))
    at = np.linspace(0, tube.length[-1], knots)
    motion_mm = {"small_bowel": today.loops_mm, "stomach": today.stomach_mm, "large_bowel": today.bends_mm}[name]
    moved = day.normal(0, motion_mm, size=(knots, 3)) * (1.0, 0.8, 0.6)
    wave = 1 + day.normal(0, 0.14 if small else 0.10, size=knots)
    points = tube.points + CubicSpline(at, moved)(tube.length)
    radius = tube.radius * math.sqrt(today.filling[name]) * np.clip(CubicSpline(at, wave)(tube.length), 0.55, 1.5)
    return Tube(points, radius, tube.length)


def _filled(distance: Field, yields: Field, tube: Tube, filling: float, voxel_mm3: float) -> Field:
    """The wall of an organ, further out or in by some mm, so that its volume is that of its tube by the filling.

    What it yields to takes a part of it away, another one each day, and bends make it longer: without this its volume
    would vary far more than its filling.
    """
    wanted = filling * _FREE * math.pi * float(np.trapezoid(tube.radius**2, tube.length))
    low, high = -_MOST_MM, _MOST_MM
    for _ in range(_HALVINGS):
        middle = (low + high) / 2
        volume = np.count_nonzero((distance < middle) & (yields < 0)) * voxel_mm3
        low, high = (low, middle) if volume > wanted else (middle, high)
    return np.maximum(distance - (low + high) / 2, yields)


def _drawn(mask: NDArray[np.bool_]) -> NDArray[np.bool_]:
    """The mask, smoothed in each axial slice and without islands below 1 % of it.

    What lies beyond the image counts as background. A closing is an erosion at last, which would take away what touches
    the border of the image: so it has a margin.
    """
    cross = generate_binary_structure(2, 1)[..., None]
    closed = binary_closing(np.pad(mask, ((1, 1), (1, 1), (0, 0))), cross)[1:-1, 1:-1]
    islands, _ = label(binary_opening(closed, cross))
    voxels = np.bincount(islands.ravel())
    kept = voxels >= 0.01 * voxels[1:].sum()
    kept[0] = False
    return np.asarray(kept[islands], dtype=np.bool_)


def _ellipsoid(at: Sequence[Field], centre: Sequence[float], radii: Sequence[float], *, boxy: bool = False) -> Field:
    """Signed distance, first order, to an ellipsoid (boxy: of power 2.5); an infinite radius makes a cylinder."""
    value, slope = np.zeros(at[0].shape), np.zeros(at[0].shape)
    for p, c, r in zip(at, centre, radii, strict=True):
        if np.isfinite(r):
            part = np.abs(p - c)
            part *= 1 / r
            steep = part * np.sqrt(part) if boxy else part
            value += steep * part
            steep = steep * (1 / r)
            steep *= steep
            slope += steep
    level = value**0.4 if boxy else np.sqrt(value)
    distance: Field = (level - 1) * (level * np.sqrt(level) if boxy else level) / np.sqrt(slope + 1e-12)
    return distance


def _frame_of(patient: np.random.Generator, at: Sequence[Field]) -> tuple[Field, Field, Field, dict[str, Field]]:
    """Body surface, muscle, cavity, and the bones, vessels and muscles that do not move with the bowel."""
    x, y, z = at
    fat = patient.uniform(8, 19)
    waist = 1 + 0.03 * np.cos(2 * np.pi * (z - 10) / 160)
    flat = [x / waist, y, z]
    inf = np.inf
    cavity = _ellipsoid(flat, (0, -5, 0), (126, 78, inf), boxy=True)
    body = _ellipsoid(flat, (0, 2, 0), (138 + fat, 96 + 0.75 * fat, inf), boxy=True)
    sides = 8 + 4 * np.clip(np.abs(x) / 80 - 0.3, 0, 1)
    erector = np.minimum(
        _ellipsoid(at, (-32, 76, 0), (27, 19, inf)),
        _ellipsoid(at, (32, 76, 0), (27, 19, inf)),
    )
    muscle = np.minimum(cavity - sides, erector)
    arch = (z + 0.35 * np.abs(x) * np.sign(60 - y) - 14) % 34 - 17  # ribs run down towards the front
    ribs = np.sqrt((cavity - 5) ** 2 + arch**2) - 4.5
    ribs = np.maximum(ribs, 20 - z - 0.25 * y)
    disc = np.abs((z + 8) % 36 - 18) - 14  # negative: vertebra; positive: disc
    solid = {
        "vertebra": np.maximum(_ellipsoid(at, (0, 44, 0), (23, 18, inf)), disc),
        "disc": np.maximum(_ellipsoid(at, (0, 44, 0), (22, 17, inf)), -disc),
        "canal": _ellipsoid(at, (0, 70, 0), (9, 7, inf)),
        "spine": _ellipsoid(at, (0, 80, 0), (5, 14, inf)),
        "ribs": ribs,
        "lung": np.minimum(
            _ellipsoid(at, (-72, 40, 96), (50, 38, 40)),
            _ellipsoid(at, (72, 40, 96), (50, 38, 40)),
        ),
        "bladder": _ellipsoid(at, (4, -8, -98), (46, 38, 34)),
        "ilium": np.maximum(
            np.abs(_ellipsoid(at, (0, 5, -60), (112, 74, inf))) - 7, np.maximum(z + 42 + 0.35 * y, 10 - y)
        ),
    }
    wider = np.clip(1 - 0.008 * z, 0.3, 1.5)  # the psoas widens downwards and moves outwards
    solid["psoas"] = np.minimum(
        _ellipsoid([(np.abs(x) - 32 + 0.14 * z) / wider, (y - 46) / wider, z], (0, 0, 0), (12, 16, inf)),
        _ellipsoid([np.abs(x) + 0.1 * z, y, z], (60, 66, -40), (18, 7, 50)),
    )
    solid["vessel"] = np.minimum(
        _ellipsoid(at, (9, 19, 0), (8.5, 8.5, inf)),
        _ellipsoid(at, (-17, 20, 0), (11, 8, inf)),
    )
    solid["bone"] = np.minimum.reduce([solid["vertebra"], solid["disc"], solid["ilium"]])
    return body, muscle, cavity, solid


def _solid_organs(patient: np.random.Generator, at: Sequence[Field]) -> dict[str, Field]:
    """Liver, spleen, kidneys, pancreas and gall bladder."""
    x, y, z = at
    grow = patient.uniform(0.92, 1.08, size=4)
    right = _ellipsoid(at, (-70, 4, 36), (60 * grow[0], 74, 58 * grow[0]), boxy=True)
    left = _ellipsoid([x, y, z - 0.12 * x], (-12, -44, 44), (70, 30, 32 * grow[0]))
    tilt = [x + 0.25 * z, y - 0.15 * z, z]
    kidneys = [
        _ellipsoid([x - s * 0.18 * (8 - z), y - 0.12 * (8 - z), z], (s * 62, 48, top), (24 * g, 24 * g, 37 * g))
        for s, top, g in ((-1, -4, grow[1]), (1, 3, grow[2]))
    ]
    kidney = np.minimum(*kidneys)
    hilum = np.minimum(
        _ellipsoid(at, (-50, 42, -4), (14, 9, 20)),
        _ellipsoid(at, (50, 42, 3), (14, 9, 20)),
    )
    pancreas = hollow(Tube.through(np.array(_PANCREAS, dtype=np.float64), step_mm=3), at).distance
    return {
        "liver": np.minimum(right, left),
        "spleen": _ellipsoid(tilt, (105, 38, 33), (22 * grow[3], 40 * grow[3], 36 * grow[3])),
        "kidney": np.maximum(kidney, -hilum),
        "hilum": np.maximum(kidney, hilum),
        "pancreas": pancreas,
        "gall_bladder": _ellipsoid([x, y, z + 0.3 * (y + 40)], (-50, -46, 8), (12, 22, 12)),
    }

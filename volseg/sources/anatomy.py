"""The phantom's anatomy: where each structure of one synthetic abdomen is, as signed distances in millimetres.

Coordinates are patient millimetres around the middle of the scan: x to the left, y to the back, z to the head. A
signed distance is negative inside a structure.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from scipy.interpolate import CubicSpline
from scipy.ndimage import binary_closing, binary_opening, gaussian_filter, generate_binary_structure
from scipy.spatial import KDTree

Field = NDArray[np.float64]
_FAR_MM = 60.0

# Centre lines (x, y, z, radius in mm) of an average patient.
_STOMACH = (
    (58, 26, 34, 19),
    (68, 14, 30, 29),
    (70, -8, 20, 30),
    (60, -32, 5, 27),
    (38, -48, -6, 22),
    (10, -51, -7, 18),
    (-12, -44, -1, 13),
    (-24, -36, 3, 9),
)
_COLON = (
    (-84, -12, -45, 16),
    (-95, -2, -38, 22),
    (-99, 10, -20, 21),
    (-98, 6, -4, 20),
    (-86, -24, 3, 19),
    (-62, -50, -10, 18),
    (-28, -64, -27, 18),
    (12, -66, -33, 17),
    (52, -62, -22, 17),
    (86, -38, 2, 17),
    (103, 0, 20, 17),
    (108, 26, 8, 16),
    (109, 33, -16, 15),
    (104, 26, -38, 14),
    (88, 10, -50, 13),
)
_DUODENUM = ((-30, -32, 3, 10), (-46, -14, -2, 11), (-44, 6, -14, 11), (-24, 14, -20, 10), (10, 2, -18, 10))
_PANCREAS = ((-32, -4, -4, 11), (-8, -14, 4, 9), (24, -2, 12, 9), (56, 22, 18, 8), (84, 34, 22, 6))
# The small bowel visits each node of this lattice once: nodes along x, y, z; first node and step in mm.
_LATTICE, _FIRST_MM, _STEP_MM = (7, 4, 3), (-69.0, -42.0, -52.0), (23.0, 20.5, 19.0)


@dataclass(frozen=True)
class Tube:
    """A curved tube: centre points (N, 3), radius (N,) and length from its start (N,), all in mm."""

    points: Field
    radius: Field
    length: Field

    @classmethod
    def through(cls, knots: Field, *, step_mm: float) -> Tube:
        """The smooth tube through knots (K, 4): x, y, z, radius."""
        at = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(knots[:, :3], axis=0) ** 2).sum(axis=1)))])
        dense = CubicSpline(at, knots)(np.linspace(0, at[-1], max(int(at[-1] / step_mm), 2)))
        length = np.concatenate([[0.0], np.cumsum(np.sqrt((np.diff(dense[:, :3], axis=0) ** 2).sum(axis=1)))])
        return cls(dense[:, :3], dense[:, 3], length)


@dataclass(frozen=True)
class Hollow:
    """A hollow organ on the grid.

    Attributes:
        distance: (X, Y, Z), signed distance to its outer wall.
        along: (X, Y, Z), length along the centre line at the nearest centre point.
        height: (X, Y, Z), how far in front of the centre line (up, in a patient on the back), as part of the radius.
    """

    distance: Field
    along: Field
    height: Field


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
        drawn = [organ.distance < 0 for organ in (self.large_bowel, self.small_bowel, self.stomach)]
        cross = generate_binary_structure(2, 1)[..., None]
        return np.stack([binary_opening(binary_closing(mask, cross), cross) for mask in drawn])


def smooth_field(rng: np.random.Generator, shape: Sequence[int], waves: Sequence[int]) -> Field:
    """A smooth random field of about unit variance: random sums of the first cosines along each axis.

    >>> smooth_field(np.random.default_rng(0), (8, 6, 4), (3, 3, 2)).shape
    (8, 6, 4)
    """
    field = rng.normal(size=tuple(waves))
    for n, k in zip(shape, waves, strict=True):
        basis = np.cos(np.pi * np.outer(np.arange(n) + 0.5, np.arange(k)) / n)
        basis[:, 1:] *= np.sqrt(2)
        field = np.moveaxis(np.tensordot(basis, field, axes=(1, 0)), 0, -1)  # the next axis comes to the front
    return field / np.sqrt(float(np.prod(waves)))


def build_abdomen(
    patient: np.random.Generator,
    day: np.random.Generator,
    *,
    shape: tuple[int, int, int],
    spacing: tuple[float, float, float],
) -> Abdomen:
    """The abdomen of one patient on one day.

    Args:
        patient: what stays from day to day: size, position and form of the organs, the course of the bowel.
        day: what does not: filling, position within some millimetres.
        shape: of the grid.
        spacing: of the grid in mm.
    """
    axes = [(np.arange(n) - (n - 1) / 2) * mm for n, mm in zip(shape, spacing, strict=True)]
    size = np.array([patient.uniform(0.93, 1.05), patient.uniform(0.92, 1.05), patient.uniform(0.90, 0.99)])
    shift = patient.normal(0, (3, 3, 3)) + day.normal(0, (1.5, 1.5, 2))
    rigid = [
        np.broadcast_to(axis.reshape([-1 if i == d else 1 for i in range(3)]), shape)
        for d, axis in enumerate((axis - shift[d]) / size[d] for d, axis in enumerate(axes))
    ]
    form = [mm * smooth_field(patient, shape, (3, 3, 3)) for mm in (2.5, 2.5, 1.5)]
    frame = [a + b for a, b in zip(rigid, form, strict=True)]
    motion = [smooth_field(day, shape, (4, 4, 4)) for _ in range(3)]
    soft = [a + mm * b for a, b, mm in zip(frame, motion, (3.0, 3.0, 2.0), strict=True)]

    body, muscle, cavity, solid = _frame_of(patient, frame)
    solid |= _solid_organs(patient, soft)
    vessels = np.sqrt(sum(gaussian_filter(patient.normal(size=shape), 2.2) ** 2 for _ in range(2)))
    vessels = vessels / vessels.mean()

    stomach = _hollow(_stomach(patient, day), soft, exact=True)
    large = _hollow(_colon(patient, day), soft)
    small = _hollow(_small_bowel(patient, day), soft)
    # What yields to what, and by how much two contours may run into each other.
    hard = np.minimum.reduce([solid[name] for name in ("bone", "psoas", "vessel", "kidney")])
    wall = np.maximum(cavity, -hard)
    stomach_mm = np.maximum(stomach.distance, wall)
    large_mm = np.maximum.reduce([large.distance, wall, -stomach_mm - 2.0])
    small_mm = np.maximum.reduce([small.distance - 0.8, wall, -stomach_mm - 2.0, -large_mm - 2.5])
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


def _ellipsoid(at: Sequence[Field], centre: Sequence[float], radii: Sequence[float], *, power: float = 2.0) -> Field:
    """Signed distance, first order, to a (super)ellipsoid; an infinite radius makes a cylinder."""
    value = np.zeros(at[0].shape)
    slope = np.zeros(at[0].shape)
    for p, c, r in zip(at, centre, radii, strict=True):
        if np.isfinite(r):
            part = np.abs(p - c) / r
            value += part**power
            slope += (part ** (power - 1) / r) ** 2
    level = value ** (1 / power)
    return (level - 1) * level ** (power - 1) / np.sqrt(slope + 1e-12)


def _frame_of(patient: np.random.Generator, at: Sequence[Field]) -> tuple[Field, Field, Field, dict[str, Field]]:
    """Body surface, muscle, cavity, and the bones, vessels and muscles that do not move with the bowel."""
    x, y, z = at
    fat = patient.uniform(9, 24)
    waist = 1 + 0.03 * np.cos(2 * np.pi * (z - 10) / 160)
    flat = [x / waist, y, z]
    inf = np.inf
    cavity = _ellipsoid(flat, (0, -5, 0), (126, 78, inf), power=2.4)
    body = _ellipsoid(flat, (0, 2, 0), (138 + fat, 96 + 0.75 * fat, inf), power=2.3)
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
    wider = 1 - 0.004 * z  # the psoas widens downwards and moves outwards
    solid["psoas"] = _ellipsoid([(np.abs(x) - 36 + 0.1 * z) / wider, (y - 47) / wider, z], (0, 0, 0), (14, 15, inf))
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
    right = _ellipsoid(at, (-70, 4, 36), (60 * grow[0], 74, 58 * grow[0]), power=2.4)
    left = _ellipsoid([x, y, z - 0.12 * x], (-12, -44, 44), (70, 30, 32 * grow[0]))
    tilt = [x + 0.25 * z, y - 0.15 * z, z]
    kidneys = [
        _ellipsoid([x - s * 0.18 * (8 - z), y - 0.12 * (8 - z), z], (s * 62, 46, top), (24 * g, 25 * g, 42 * g))
        for s, top, g in ((-1, 0, grow[1]), (1, 8, grow[2]))
    ]
    kidney = np.minimum(*kidneys)
    hilum = np.minimum(
        _ellipsoid(at, (-50, 40, 0), (13, 10, 22)),
        _ellipsoid(at, (50, 40, 8), (13, 10, 22)),
    )
    pancreas = _hollow(Tube.through(np.array(_PANCREAS, dtype=np.float64), step_mm=3), at).distance
    return {
        "liver": np.minimum(right, left),
        "spleen": _ellipsoid(tilt, (114, 38, 34), (24 * grow[3], 40 * grow[3], 36 * grow[3])),
        "kidney": np.maximum(kidney, -hilum),
        "hilum": np.maximum(kidney, hilum),
        "pancreas": pancreas,
        "gall_bladder": _ellipsoid([x, y, z + 0.3 * (y + 40)], (-50, -46, 8), (12, 22, 12)),
    }


def _hollow(tube: Tube, at: Sequence[Field], *, exact: bool = False) -> Hollow:
    """The tube on the grid; `exact` takes the nearest wall, not the nearest centre point (strong taper, few points)."""
    shape = at[0].shape
    reach = tube.radius.max() + 12
    near = np.ones(shape, dtype=bool)
    for axis in range(3):
        near &= (at[axis] > tube.points[:, axis].min() - reach) & (at[axis] < tube.points[:, axis].max() + reach)
    where = np.stack([p[near] for p in at], axis=1)
    if exact:
        nearest = np.zeros(len(where), dtype=np.intp)
        best = np.full(len(where), np.inf)
        for i, (point, radius) in enumerate(zip(tube.points, tube.radius, strict=True)):
            gap = np.sqrt(((where - point) ** 2).sum(axis=1)) - radius
            closer = gap < best
            best[closer], nearest[closer] = gap[closer], i
    else:
        gap, nearest = KDTree(tube.points).query(where, distance_upper_bound=reach)
        inside = nearest < len(tube.points)
        nearest = np.where(inside, nearest, 0)
        best = np.where(inside, gap - tube.radius[nearest], _FAR_MM)
    distance, along, height = np.full(shape, _FAR_MM), np.zeros(shape), np.zeros(shape)
    distance[near] = best
    along[near] = tube.length[nearest]
    height[near] = (tube.points[nearest, 1] - where[:, 1]) / tube.radius[nearest]
    return Hollow(distance, along, height)


def _stomach(patient: np.random.Generator, day: np.random.Generator) -> Tube:
    knots = np.array(_STOMACH, dtype=np.float64)
    knots[:, :3] += patient.normal(0, 2.5, size=(len(knots), 3)) + day.normal(0, 1.5, size=(len(knots), 3))
    knots[:, 3] *= patient.uniform(0.92, 1.06) * day.uniform(0.84, 1.08)
    return Tube.through(knots, step_mm=4)


def _colon(patient: np.random.Generator, day: np.random.Generator) -> Tube:
    knots = np.array(_COLON, dtype=np.float64)
    knots[:, :3] += patient.normal(0, 4, size=(len(knots), 3)) + day.normal(0, 2, size=(len(knots), 3))
    knots[:, 3] *= patient.uniform(0.9, 1.05) * (1 + day.normal(0, 0.08, size=len(knots)))
    tube = Tube.through(knots, step_mm=2)
    pouch = 2 * np.pi * tube.length / patient.uniform(26, 32) + day.uniform(0, 2 * np.pi)
    haustra = 1 + 0.05 - 0.16 * np.abs(np.cos(pouch / 2)) ** 6 + 0.03 * np.cos(pouch * 0.37)
    return Tube(tube.points, tube.radius * haustra, tube.length)


def _small_bowel(patient: np.random.Generator, day: np.random.Generator) -> Tube:
    nodes = np.array(_walk(patient), dtype=np.float64) * _STEP_MM + _FIRST_MM
    nodes += patient.normal(0, 3.5, size=nodes.shape) + day.normal(0, 2.0, size=nodes.shape)
    # The square cross section of the lattice becomes rounder.
    u, v = nodes[:, 0] / 69, (nodes[:, 1] + 11) / 31
    nodes[:, 0] *= 1 - 0.16 * np.clip(v**2, 0, 1.5)
    nodes[:, 1] = -11 + (nodes[:, 1] + 11) * (1 - 0.16 * np.clip(u**2, 0, 1.5))
    radius = 10.6 * (1 + patient.normal(0, 0.04)) * (1 + day.normal(0, 0.09, size=len(nodes)))
    jejunum = np.column_stack([nodes, radius])
    start = np.array(_DUODENUM, dtype=np.float64)
    start[:, :3] += patient.normal(0, 2, size=(len(start), 3))
    return Tube.through(np.concatenate([start, jejunum]), step_mm=2)


def _walk(rng: np.random.Generator) -> list[tuple[int, int, int]]:
    """A random path that visits each node of the lattice once: a serpentine, shuffled by backbite moves.

    Source: Mansfield, J. Chem. Phys. 77 (1982), doi:10.1063/1.443937.
    """
    nx, ny, nz = _LATTICE
    path = []
    for k in range(nz):
        for j in range(ny)[:: 1 if k % 2 == 0 else -1]:
            path += [(i, j, k) for i in range(nx)[:: 1 if (j + k * (ny - 1)) % 2 == 0 else -1]]
    place = {node: i for i, node in enumerate(path)}
    for end, axis, sign in rng.integers(6, size=(400, 3)) % (2, 3, 2):
        if end:
            path.reverse()
            place = {node: i for i, node in enumerate(path)}
        head = list(path[0])
        head[axis] += 2 * int(sign) - 1
        cut = place.get((head[0], head[1], head[2]), 0)
        if cut > 1:  # join the head to this neighbour: all before it turns round
            path[:cut] = path[:cut][::-1]
            place.update({node: i for i, node in enumerate(path[:cut])})
    return path

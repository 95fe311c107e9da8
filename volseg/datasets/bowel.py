"""The courses of the phantom's hollow organs: stomach, large and small bowel of one patient on one day.

Coordinates are those of `volseg.datasets.anatomy`.
"""

from __future__ import annotations

import numpy as np

from volseg.datasets.tube import Tube

# Centre lines (x, y, z, radius in mm) of an average patient.
_STOMACH = (
    (56, 22, 37, 18),
    (67, 10, 31, 28),
    (70, -9, 20, 30),
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
    (-98, 4, -9, 20),
    (-85, -26, -5, 19),
    (-61, -51, -14, 18),
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
# The small bowel visits each node of this lattice once: nodes along x, y, z; first node and step in mm.
_LATTICE, _FIRST_MM, _STEP_MM = (6, 4, 3), (-66.0, -46.0, -52.0), (26.5, 22.5, 20.5)


def draw_stomach(patient: np.random.Generator, day: np.random.Generator) -> Tube:
    """The stomach of one patient on one day; see `volseg.datasets.anatomy.build_abdomen` for the arguments."""
    knots = np.array(_STOMACH, dtype=np.float64)
    knots[:, :3] += (
        patient.normal(0, (6, 5, 4))
        + patient.normal(0, 3, size=(len(knots), 3))
        + day.normal(0, 1.5, size=(len(knots), 3))
    )
    knots[:, 3] *= patient.uniform(0.84, 1.08) * day.uniform(0.86, 1.06)
    return Tube.through(knots, step_mm=4)


def draw_colon(patient: np.random.Generator, day: np.random.Generator) -> Tube:
    """The large bowel with its pouches; arguments as of `draw_stomach`."""
    knots = np.array(_COLON, dtype=np.float64)
    knots[:, :3] += patient.normal(0, (5.5, 5.5, 4), size=(len(knots), 3)) + day.normal(0, 2, size=(len(knots), 3))
    knots[:, 3] *= patient.uniform(0.9, 1.05) * (1 + day.normal(0, 0.08, size=len(knots)))
    tube = Tube.through(knots, step_mm=2)
    pouch = 2 * np.pi * tube.length / patient.uniform(26, 32) + day.uniform(0, 2 * np.pi)
    haustra = 1 + 0.05 - 0.16 * np.abs(np.cos(pouch / 2)) ** 6 + 0.03 * np.cos(pouch * 0.37)
    return Tube(tube.points, tube.radius * haustra, tube.length)


def draw_small_bowel(patient: np.random.Generator, day: np.random.Generator) -> Tube:
    """The duodenum and the loops behind it; arguments as of `draw_stomach`."""
    nodes = np.array(_walk(patient), dtype=np.float64) * _STEP_MM + _FIRST_MM
    nodes += patient.normal(0, 4.5, size=nodes.shape) + day.normal(0, 2.0, size=nodes.shape)
    # The square cross section of the lattice becomes rounder; the whole lies and spreads otherwise in each patient.
    u, v = nodes[:, 0] / 66, (nodes[:, 1] + 12) / 34
    nodes[:, 0] *= patient.uniform(0.84, 1.08) * (1 - 0.18 * np.clip(v**2, 0, 1.5))
    nodes[:, 1] = -12 + (nodes[:, 1] + 12) * (1 - 0.18 * np.clip(u**2, 0, 1.5))
    nodes += patient.normal(0, (7, 3, 3))
    radius = 11.6 * (1 + patient.normal(0, 0.04)) * (1 + day.normal(0, 0.09, size=len(nodes)))
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

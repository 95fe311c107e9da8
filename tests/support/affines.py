"""Affines of all orientations."""

from __future__ import annotations

import numpy as np


def oblique() -> np.ndarray:
    """Axes turned about all three of the world's, one of them mirrored, voxels of 1.2 x 0.7 x 3.1 mm."""
    turned = np.linalg.qr(np.random.default_rng(3).normal(size=(3, 3)))[0]
    affine = np.eye(4)
    affine[:3, :3] = turned * (1.2, -0.7, 3.1)
    affine[:3, 3] = 101.7, -55.3, 1203.4
    return affine


AFFINES = [np.diag([2.0, 2.0, 3.0, 1.0]), np.diag([-2.0, -1.0, 3.0, 1.0]), np.eye(4)[[2, 0, 1, 3]], oblique()]

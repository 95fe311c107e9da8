"""A made trunk with texture, as an array: what alignments are tried on."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from scipy.ndimage import gaussian_filter


def textured_body() -> NDArray[np.float64]:
    """An oval column (44, 36, 26) of smooth texture around 0.6, with 0 about it."""
    rng = np.random.default_rng(1)
    x, y, z = np.meshgrid(*(np.linspace(-1, 1, n) for n in (44, 36, 26)), indexing="ij")
    inside = (x / 0.8) ** 2 + (y / 0.75) ** 2 < 1 + 0.05 * z
    texture = gaussian_filter(rng.normal(size=inside.shape), 2.0)
    return np.where(inside, 0.6 + texture / texture.std() * 0.15, 0.0)

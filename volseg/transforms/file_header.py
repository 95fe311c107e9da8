"""The header of the file that an image was read from, kept in the metadata of its tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import ArrayLike

from volseg.volume import Affine, NiftiHeader, header_of

_KEY = "nifti_header"


def metadata_of(affine_ras: Affine) -> dict[str, str]:
    """The text that the metadata keep of the header of an affine, which loaders and caches pass on."""
    header = header_of(affine_ras)
    return {_KEY: header.to_text()} if header else {}


def with_header(affine_ras: ArrayLike, meta: Mapping[str, Any]) -> Affine:
    """The affine with the header that the metadata keep, if it is the affine of that file; else unchanged."""
    affine: Affine = np.asarray(affine_ras, dtype=np.float64)
    text = meta.get(_KEY)
    stated = NiftiHeader.from_text(text).affine_ras if isinstance(text, str) else affine
    return stated if np.array_equal(stated, affine) else affine


def affine_of_file(image: MetaTensor) -> Affine:
    """The affine that an image had on disk, with the header of its file if it was a NIfTI file."""
    return with_header(image.meta["original_affine"], image.meta)

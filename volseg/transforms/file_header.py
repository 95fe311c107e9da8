"""The header of the file that an image was read from, and its series, kept in the metadata of its tensor."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from monai.data import MetaTensor
from numpy.typing import ArrayLike

from volseg.volume import Affine, NiftiHeader, header_of, provenance_of, with_provenance

_KEY = "nifti_header"
_SERIES = "provenance"


def metadata_of(affine_ras: Affine) -> dict[str, str]:
    """The texts that the metadata keep of what an affine remembers, which loaders and caches pass on."""
    header, provenance = header_of(affine_ras), provenance_of(affine_ras)
    return {**({_KEY: header.to_text()} if header else {}), **({_SERIES: provenance} if provenance else {})}


def with_header(affine_ras: ArrayLike, meta: Mapping[str, Any]) -> Affine:
    """The affine with the header that the metadata keep, if it is the affine of that file, and with their record."""
    affine: Affine = np.asarray(affine_ras, dtype=np.float64)
    text, series = meta.get(_KEY), meta.get(_SERIES)
    stated = NiftiHeader.from_text(text).affine_ras if isinstance(text, str) else affine
    kept = stated if np.array_equal(stated, affine) else affine
    return with_provenance(kept, series) if isinstance(series, str) else kept


def affine_of_file(image: MetaTensor) -> Affine:
    """The affine that an image had on disk, with the header of its file if it was a NIfTI file, and its series."""
    return with_header(image.meta["original_affine"], image.meta)

"""Volumes: voxels [X, Y, Z] with an affine in RAS millimetres, their geometry, and NIfTI files."""

from __future__ import annotations

from volseg import names_of_before
from volseg.volume.alignment import aligned
from volseg.volume.channels import check_channels, read_case_channels
from volseg.volume.crop import Crop, grown
from volseg.volume.deformation import Deformation, check_elastix, deform, elastix_is_installed
from volseg.volume.geometry import (
    MAX_SKEW,
    PROVENANCE,
    TOLERANCE,
    Affine,
    FileAffine,
    affine_of_axes,
    check_affine,
    check_axes,
    header_of,
    orientation,
    provenance_of,
    ras_to_lps,
    skew,
    space_difference,
    spacing_mm,
    voxel_ml,
    with_provenance,
)
from volseg.volume.header import NiftiHeader
from volseg.volume.image_slice import AXES, RGB, UNMEASURED, to_raster, to_volume
from volseg.volume.intensity import (
    SCHEMES,
    ChannelNormalisation,
    InputSpacing,
    body_statistics,
    check_normalisation,
    scheme_of_channel,
)
from volseg.volume.itk_file import IMAGE_SUFFIXES, image_suffix, read_image_file, read_image_grid
from volseg.volume.nearest import nearest_index, nearest_voxels
from volseg.volume.nifti import (
    FILE_ENDING,
    MAX_BYTES,
    read_aligned,
    read_channels,
    read_grid,
    read_volume,
    write_volume,
)
from volseg.volume.nifti_stream import SliceStream
from volseg.volume.nrrd import read_nrrd_with_pairs, write_nrrd
from volseg.volume.probabilities import read_probabilities, write_probabilities
from volseg.volume.registration import Registration, placed, register, register_roughly
from volseg.volume.resampling import covered, resampled, sampled
from volseg.volume.sizes import size_notes, times_off
from volseg.volume.slices import slice_axis
from volseg.volume.volume import Grid, Volume

__all__ = [
    "AXES",
    "FILE_ENDING",
    "IMAGE_SUFFIXES",
    "MAX_BYTES",
    "MAX_SKEW",
    "PROVENANCE",
    "RGB",
    "SCHEMES",
    "TOLERANCE",
    "UNMEASURED",
    "Affine",
    "ChannelNormalisation",
    "Crop",
    "Deformation",
    "FileAffine",
    "Grid",
    "InputSpacing",
    "NiftiHeader",
    "Registration",
    "SliceStream",
    "Volume",
    "affine_of_axes",
    "aligned",
    "body_statistics",
    "check_affine",
    "check_axes",
    "check_channels",
    "check_elastix",
    "check_normalisation",
    "covered",
    "deform",
    "elastix_is_installed",
    "grown",
    "header_of",
    "image_suffix",
    "nearest_index",
    "nearest_voxels",
    "orientation",
    "placed",
    "provenance_of",
    "ras_to_lps",
    "read_aligned",
    "read_case_channels",
    "read_channels",
    "read_grid",
    "read_image_file",
    "read_image_grid",
    "read_nrrd_with_pairs",
    "read_probabilities",
    "read_volume",
    "register",
    "register_roughly",
    "resampled",
    "sampled",
    "scheme_of_channel",
    "size_notes",
    "skew",
    "slice_axis",
    "space_difference",
    "spacing_mm",
    "times_off",
    "to_raster",
    "to_volume",
    "voxel_ml",
    "with_provenance",
    "write_nrrd",
    "write_probabilities",
    "write_volume",
]

__getattr__ = names_of_before(__name__)

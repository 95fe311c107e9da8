"""Label tables: which values of a label map are which regions, their names, colours and codes."""

from __future__ import annotations

from volseg import names_of_before
from volseg.labels.canvas import RegionCanvas, overlaps_that_occur
from volseg.labels.channels import channel_order, fold_channel
from volseg.labels.cleanup import Cleanup
from volseg.labels.encoding import LabelMap, Masks, RegionEncoding
from volseg.labels.matching import LabelMatch, fold_name, match_labels
from volseg.labels.priors import DEFORMABLE, RIGID, image_channels, prior_channels, takes_prior
from volseg.labels.regions import Region
from volseg.labels.table import LabelTable
from volseg.labels.terms import ANATOMY, TISSUE, Code
from volseg.labels.values import held_values, whole_numbers

__all__ = [
    "ANATOMY",
    "DEFORMABLE",
    "RIGID",
    "TISSUE",
    "Cleanup",
    "Code",
    "LabelMap",
    "LabelMatch",
    "LabelTable",
    "Masks",
    "Region",
    "RegionCanvas",
    "RegionEncoding",
    "channel_order",
    "fold_channel",
    "fold_name",
    "held_values",
    "image_channels",
    "match_labels",
    "overlaps_that_occur",
    "prior_channels",
    "takes_prior",
    "whole_numbers",
]

__getattr__ = names_of_before(__name__)

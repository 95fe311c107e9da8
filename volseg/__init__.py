"""volseg: volumetric medical image segmentation on MONAI, from slices to a Dice report."""

__version__ = "0.1.0"

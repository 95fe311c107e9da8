"""`volseg convert decathlon`: folders with a dataset.json."""

from __future__ import annotations

from pathlib import Path

from volseg.cli.convert.kind import Kind, RawData


def read(raw: Path) -> RawData:
    """Folders with a dataset.json: the Medical Segmentation Decathlon, MONAI's lists, nnU-Net's raw data.

    Files are NIfTI, NRRD, MetaImage or MGH. A split that the list states becomes splits.json.
    """
    from volseg.formats import Decathlon

    source = Decathlon(raw)
    return RawData(source, folds=source.folds)


KIND = Kind(
    "decathlon",
    read,
    "volseg convert decathlon data/Task04_Hippocampus data/cohort",
    also_called=("msd", "nnunet", "nnunet_raw", "datalist", "monai", "nifti", "dataset_json"),
)

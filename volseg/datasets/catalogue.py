"""The catalogue: which public data sets are fetched, from where, and what they must hold."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from volseg.errors import UsageError


@dataclass(frozen=True)
class Published:
    """A public data set that volseg reads.

    Attributes:
        name: Name for `volseg fetch`.
        title: Title for people.
        page: URL of the page about it and its licence, from which people can download it by hand.
        file: Name of the archive.
        about: Size of the archive as its hosts tell it; not exact.
        url: URL of the archive; None if Kaggle gives it to those who have accepted the rules.
        competition: Name of the competition on Kaggle.
        checksum: Checksum `md5:…` of the archive; None if none is published.
        source: Publisher of the checksum.
        root: Folder in the archive that is the data set; empty for the archive's top, `*` for the only folder there.
        folder: Name of the folder below data/.
        holds: Least number of files by pattern.
        licence: Licence that the page states.
        convert: Command that follows, in which {folder} and {cohort} are replaced.
        catalogue: Catalogue of networks that has it; empty for a public data set.
        packed: Whether the file is an archive, which is unpacked.
    """

    name: str
    title: str
    page: str
    file: str
    about: str
    url: str | None
    folder: str
    holds: Mapping[str, int]
    licence: str
    convert: str
    competition: str | None = None
    checksum: str | None = None
    source: str = ""
    root: str = ""
    catalogue: str = ""
    packed: bool = True

    def steps(self, folder: Path) -> str:
        """How to do it by hand, a step a line."""
        inside = {"": "its content", "*": "the folder in it"}.get(self.root, f"its folder {self.root}")
        held = ", ".join(sorted(self.holds))
        known = f" --catalogue {self.catalogue}" if self.catalogue else ""
        yourself = f"unpack it yourself: {inside} becomes {folder}, which then holds {held}" if self.packed else ""
        return (
            f"  1. download {self.file} ({self.about}) from {self.page}\n"
            f"  2. volseg fetch {self.name} {folder}{known} --archive {self.file}\n"
            f"     (or {yourself or f'put it into {folder} yourself'})\n"
            f"  3. {self.command(folder)}"
        )

    def command(self, folder: Path) -> str:
        """The conversion that follows."""
        return self.convert.replace("{folder}", str(folder)).replace("{cohort}", f"{folder}-cohort")


# Task, MD5 of the .tar as MONAI's DecathlonDataset publishes it (monai/apps/datasets.py, Apache-2.0), about its size.
_DECATHLON = {
    "brain-tumour": ("Task01_BrainTumour", "240a19d752f0d9e9101544901065d872", "7.1 GB"),
    "heart": ("Task02_Heart", "06ee59366e1e5124267b774dbd654057", "0.4 GB"),
    "liver": ("Task03_Liver", "a90ec6c4aa7f6a3d087205e23d4e6397", "27 GB"),
    "hippocampus": ("Task04_Hippocampus", "9d24dba78a72977dbd1d2e110310f31b", "27 MB"),
    "prostate": ("Task05_Prostate", "35138f08b1efaef89d7424d2bcc928db", "0.2 GB"),
    "lung": ("Task06_Lung", "8afd997733c7fc0432f71255ba4e52dc", "8.5 GB"),
    "pancreas": ("Task07_Pancreas", "4f7080cfca169fa8066d17ce6eb061e4", "11.5 GB"),
    "hepatic-vessel": ("Task08_HepaticVessel", "641d79e80ec66453921d997fbf12a29c", "8.7 GB"),
    "spleen": ("Task09_Spleen", "410d4a301da4e5b2f6f86ec3ddba524e", "1.5 GB"),
    "colon": ("Task10_Colon", "bad7a188931dc2f6acf72b08eb6202d0", "5.8 GB"),
}


def _decathlon(word: str) -> Published:
    task, md5, about = _DECATHLON[word]
    return Published(
        name=f"msd-{word}",
        title=f"Medical Segmentation Decathlon, {task}",
        page="http://medicaldecathlon.com/",
        file=f"{task}.tar",
        about=about,
        url=f"https://msd-for-monai.s3-us-west-2.amazonaws.com/{task}.tar",
        folder=task,
        holds={"dataset.json": 1, "imagesTr/*.nii.gz": 1, "labelsTr/*.nii.gz": 1},
        licence="CC BY-SA 4.0; Antonelli et al. 2022, doi:10.1038/s41467-022-30695-9",
        convert="volseg convert decathlon {folder} {cohort}",
        checksum=f"md5:{md5}",
        source="MONAI's DecathlonDataset",
        root=task,
    )


_ALL = (
    Published(
        name="uw-madison",
        title="UW-Madison GI tract: stomach and bowels on MR-Linac scans, 85 patients",
        page="https://www.kaggle.com/competitions/uw-madison-gi-tract-image-segmentation/data",
        file="uw-madison-gi-tract-image-segmentation.zip",
        about="about 2.5 GB",
        url=None,
        competition="uw-madison-gi-tract-image-segmentation",
        folder="uw-madison",
        holds={"train.csv": 1, "train/case*": 85},
        licence="the rules of the competition, which each user accepts on Kaggle",
        convert="volseg convert uw_madison {folder} {cohort}",
    ),
    *map(_decathlon, _DECATHLON),
    Published(
        name="montgomery",
        title="Montgomery County chest X-rays with masks of both lungs, 138 images",
        page="https://lhncbc.nlm.nih.gov/LHC-downloads/downloads.html",
        file="NLM-MontgomeryCXRSet.zip",
        about="about 0.6 GB",
        url="https://openi.nlm.nih.gov/imgs/collections/NLM-MontgomeryCXRSet.zip",
        folder="montgomery",
        holds={"CXR_png/*.png": 138, "ManualMask/leftMask/*.png": 138, "ManualMask/rightMask/*.png": 138},
        licence="terms of the page; Jaeger et al. 2014, doi:10.3978/j.issn.2223-4292.2014.11.20",
        convert=(
            'volseg convert images {folder} {cohort} --colour grey --images "CXR_png/{key}.png" '
            '--masks "lung=ManualMask/leftMask/{key}.png" --masks "lung=ManualMask/rightMask/{key}.png"'
        ),
        root="MontgomerySet",
    ),
    Published(
        name="nuclei",
        title="2018 Data Science Bowl, stage 1: nuclei in microscopy, a mask each, 670 images (BBBC038)",
        page="https://bbbc.broadinstitute.org/BBBC038",
        file="stage1_train.zip",
        about="about 0.1 GB",
        url="https://data.broadinstitute.org/bbbc/BBBC038/stage1_train.zip",
        folder="nuclei",
        holds={"*/images/*.png": 670, "*/masks/*.png": 670},
        licence="CC0; Caicedo et al. 2019, doi:10.1038/s41592-019-0612-7",
        convert=(
            'volseg convert images {folder} {cohort} --images "{key}/images/*.png" '
            '--masks "nucleus={key}/masks/*.png" --objects files'
        ),
    ),
)

PUBLISHED: Mapping[str, Published] = {one.name: one for one in _ALL}


def find(name: str) -> Published:
    """A data set by its name.

    Raises:
        UsageError: There is none of this name; the nearest one is told.

    >>> find("msd-hippocampus").file
    'Task04_Hippocampus.tar'
    >>> find("msd-hipocampus")
    Traceback (most recent call last):
    volseg.errors.UsageError: there is no data set 'msd-hipocampus'; did you mean msd-hippocampus? ...
    """
    if name in PUBLISHED:
        return PUBLISHED[name]
    near = difflib.get_close_matches(name, PUBLISHED, n=1)
    hint = f"did you mean {near[0]}? " if near else ""
    raise UsageError(
        f"there is no data set {name!r}; {hint}`volseg fetch --list` shows all, and a network needs --catalogue"
    )

"""Twelve kinds of edit by slicerio, SimpleITK, nibabel, highdicom, rt-utils and plastimatch: what `adopt` takes home.

`VOLSEG_PEERS_PYTHON` names a Python that has them; slicerio 1.4.0, pynrrd 1.1.3, SimpleITK 2.5.7, nibabel 5.4.2,
highdicom 0.28.2, rt-utils 1.2.7 and plastimatch 1.10.0 were run. Some of their files are recorded;
`python THIS_FILE` records them anew.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import subprocess
import tempfile
import zipfile
from pathlib import Path

import edits_of_peers
import numpy as np
import pytest
from dicom_series import grid, noise, save, series

from volseg.cohort import Cohort, read_corrections
from volseg.deploy.corrections import Answers, adopt, undo
from volseg.dicom import Dicom, read_stack, scan
from volseg.errors import VolsegError
from volseg.formats import write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

PYTHON = os.environ.get("VOLSEG_PEERS_PYTHON", "")
SHAPE = (14, 11, 9)
LAYERS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
EXCLUSIVE = LabelTable.of({"stomach": 2, "large_bowel": 1})
TABLES = {"exclusive": EXCLUSIVE, "overlapping": LAYERS}
RECORDED = Path(__file__).parent / "edits_of_peers.zip"
GRIDS = {"anisotropic": (0.0, 0.0, 0.0), "oblique": (0.1, -0.2, 0.3)}
SPACING = (0.9, 0.9, 2.5)  # rt-utils 1.2.7 swaps the spacings of oblong pixels, see findings/rt_utils_oblong_pixels.sh


def label(table: LabelTable) -> np.ndarray:
    """Boxes that overlap where the table lets them; away from the border, so that a file can be cropped."""
    masks = np.zeros((len(table.regions), *SHAPE), bool)
    masks[0, 2:6, 2:6, 2:7] = True
    masks[1, 6:9, 5:9, 2:6] = True
    if table.overlap:
        masks[1, 4:9, 4:9, 3:6] = True
        masks[2, 3:8, 3:7, 4:7] = True
    return table.encode(masks)


def cohort_of(folder: Path, table: LabelTable, angles: tuple[float, ...]) -> tuple[Cohort, Path]:
    """One labelled case that a series was converted to, and the series; the table is that of the test."""
    images = folder / "series"
    save(images, series(noise(SHAPE), grid(SHAPE, SPACING, angles)))
    stack = read_stack(scan(images).series[0])
    place = folder / "cohort"
    source = Dicom(images, key="case")
    (key,) = source.keys()
    image = source.load(key).channels[0]
    assert image.shape == SHAPE
    assert np.allclose(image.affine_ras, stack.affine_ras)
    write_volume(place / "imagesTr" / "case_0000.nii.gz", image)
    write_volume(place / "labelsTr" / "case.nii.gz", Volume(label(table), image.affine_ras))
    entries = {"channel_names": {"0": "CT"}, "numTraining": 1, "file_ending": ".nii.gz", **table.to_dataset_json()}
    (place / "dataset.json").write_text(json.dumps(entries))
    return Cohort.open(place), images


def label_of(cohort: Cohort) -> np.ndarray:
    return read_volume(cohort.folder / "labelsTr" / "case.nii.gz").voxels


# The answer that an open question takes, by kind, and the line that asks; the voxels are those of the edit in any case.
ASKED = {
    "rename": ({}, None),
    "delete": ({"missing": "keep"}, "there is no segment of {first}; say --missing keep"),
    "add": ({"drop": ("Segment_9",)}, "Segment_9 is no region of the cohort; say --take"),
    "nifti_untold": (None, "edit.nii.gz does not say what its values mean; save it as KEY.seg.nrrd"),
}
FLAT = "a label map holds no overlap, and {crowded} voxels belonged to several regions before; save it as KEY.seg.nrrd"


def came_home(cohort: Cohort, table: LabelTable, edit: Path, kind: str) -> str:
    """Adopt one edit, check each region, put everything back; what a table of results says of it."""
    former = label_of(cohort)
    wanted = table.masks(former)
    wanted[1] |= edits_of_peers.block(SHAPE)
    if kind == "swap":
        wanted[[0, 1]] = wanted[[1, 0]]
    (path,) = (file for file in edit.iterdir() if file.name.startswith("edit."))
    words, line = ASKED.get(kind, ({}, None))
    if kind.startswith("nifti") and table.overlap and line is None:
        words, line = None, FLAT
    found = adopt(path, cohort, case="case")
    if line is not None:
        message = str(found.failed["case"])
        assert line.format(first=table.names[0], crowded=(table.masks(former).sum(axis=0) > 1).sum()) in message, (
            message
        )
        assert "\n" not in message
        np.testing.assert_array_equal(label_of(cohort), former)
        if words is None:
            return f"refused: {message}"
        found = adopt(path, cohort, case="case", answers=Answers(**words))
    assert found.failed == {}, found.failed
    np.testing.assert_array_equal(table.masks(label_of(cohort)), wanted)
    rows = {row.region: row for row in read_corrections(cohort.folder)}
    if kind != "swap":
        assert {name for name, row in rows.items() if row.voxels} == {table.names[1]}
        assert rows[table.names[1]].voxels == edits_of_peers.block(SHAPE).sum()
    again = adopt(path, cohort, case="case", answers=Answers(**(words or {})))
    assert not again.adopted["case"].changed
    notes = found.adopted["case"].notes
    undo(cohort)
    np.testing.assert_array_equal(label_of(cohort), former)
    return "exact" + (", asked first" if line else "") + (f" ({'; '.join(notes)})" if notes else "")


def edits(folder: Path, table: LabelTable, angles: tuple[float, ...]) -> tuple[Cohort, Path]:
    """A cohort, and the folder of the edits that the other programs made of its label."""
    cohort, images = cohort_of(folder, table, angles)
    path = folder / "case.seg.nrrd"
    write_segmentation(path, read_volume(cohort.folder / "labelsTr" / "case.nii.gz"), table)
    command = [PYTHON, str(Path(edits_of_peers.__file__)), str(path), str(images), str(folder / "home")]
    done = subprocess.run(command, capture_output=True, text=True, env={})
    assert done.returncode == 0, done.stderr
    return cohort, folder / "home"


def results(cohort: Cohort, table: LabelTable, home: Path) -> dict[str, str]:
    """What came home of each edit of a folder; all that did not is told at once."""
    told, wrong = {}, {}
    for edit in sorted(home.iterdir()):
        kind, writer = edit.name.split("-")
        try:
            told[f"{kind} by {writer}"] = came_home(cohort, table, edit, kind)
        except (AssertionError, VolsegError) as error:
            wrong[f"{kind} by {writer}"] = error
            with contextlib.suppress(VolsegError):
                undo(cohort)
    assert not wrong, "\n".join(f"{name}: {error}" for name, error in wrong.items())
    return told


@pytest.mark.slow
@pytest.mark.skipif(not PYTHON, reason="VOLSEG_PEERS_PYTHON names no Python with the writers")
@pytest.mark.parametrize("name", TABLES)
@pytest.mark.parametrize("angles", GRIDS.values(), ids=GRIDS)
def test_edits_of_other_programs_come_home(tmp_path: Path, name: str, angles: tuple[float, ...]) -> None:
    cohort, home = edits(tmp_path, TABLES[name], angles)
    told = results(cohort, TABLES[name], home)
    (tmp_path / "table.json").write_text(json.dumps(told, indent=1))
    assert len(told) == (28 if TABLES[name].overlap else 29)  # 12 kinds, the spelling, names that change places


@pytest.mark.parametrize("name", TABLES)
def test_recorded_edits_of_other_programs_come_home(tmp_path: Path, name: str) -> None:
    """The same with files of theirs on the oblique grid: those of slicerio overlap, those of SimpleITK do not."""
    with zipfile.ZipFile(RECORDED) as file:
        file.extractall(tmp_path)
    told = results(Cohort.open(tmp_path / name / "cohort"), TABLES[name], tmp_path / name / "home")
    assert len(told) == (15 if TABLES[name].overlap else 17)


def record() -> None:
    """Write the zip of the recorded edits anew."""
    with tempfile.TemporaryDirectory() as made, zipfile.ZipFile(RECORDED, "w", zipfile.ZIP_LZMA) as file:
        for name, table in TABLES.items():
            cohort, home = edits(Path(made) / name, table, GRIDS["oblique"])
            for edit in home.iterdir():
                kind, writer = edit.name.split("-")
                if kind == "nifti_untold" or writer == ("simpleitk" if table.overlap else "slicerio"):
                    shutil.rmtree(edit)
            files = [path for place in (cohort.folder, home) for path in sorted(place.rglob("*")) if path.is_file()]
            for path in files:
                if ".volseg" not in path.parts:
                    file.write(path, path.relative_to(made))


if __name__ == "__main__":
    record()

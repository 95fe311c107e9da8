"""A series that was sent again under its own UIDs: its old prediction is exported if the values are the same."""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import pytest
from dicom_series import save, series
from pydicom import Dataset
from pydicom.pixels.utils import pixel_array
from pydicom.uid import RLELossless

from volseg.dicom import Dicom, Series, export_objects, read_listed, record_of, scan, write_dicom_seg, write_list
from volseg.labels import LabelTable
from volseg.volume import Volume, provenance_of, read_volume, with_provenance, write_volume

TABLE = LabelTable.exclusive(["organ"])
VALUES = np.random.default_rng(0).integers(-500, 1500, (7, 6, 5)).astype(np.int16)


def ours(voxels: np.ndarray = VALUES, **elements: object) -> list[Dataset]:
    """The series, with the same UIDs each time."""
    files = series(voxels, **elements)
    for z, file in enumerate(files):
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"1.2.3.{z + 1}"
    return files


def one_pixel(files: Sequence[Dataset]) -> None:
    pixels = pixel_array(files[2]).copy()
    pixels[3, 3] += 1
    files[2].PixelData = pixels.tobytes()


def intercept(files: Sequence[Dataset]) -> None:
    for file in files:
        file.RescaleSlope, file.RescaleIntercept = 1, -1


def two_slices_exchanged(files: Sequence[Dataset]) -> None:
    files[1].PixelData, files[2].PixelData = files[2].PixelData, files[1].PixelData


def compressed(files: Sequence[Dataset]) -> None:
    for file in files:
        file.compress(RLELossless, generate_instance_uid=False)


def unsigned(files: Sequence[Dataset]) -> None:
    for file in files:
        file.PixelData = (pixel_array(file).astype(np.int32) + 1024).astype(np.uint16).tobytes()
        file.PixelRepresentation, file.RescaleSlope, file.RescaleIntercept = 0, 1, -1024


def other_numbers(files: Sequence[Dataset]) -> None:
    for file in files:
        file.InstanceNumber = 100 - file.InstanceNumber


def predicted(folder: Path, into: Path, *, secret: str = "", listed: bool = False) -> Path:
    """A prediction on the one series of a folder, made from the cohort or from the files themselves."""
    if listed:
        (found,) = scan(folder).series
        image = read_listed(write_list(into, "liver", [item.path for item in found.instances], secret=secret))
    else:
        source = Dicom(folder, secret=secret)
        image = source.load(source.keys()[0]).channels[0]
    path = into / "liver.nii.gz"
    write_volume(path, Volume(np.ones(image.shape, np.uint8), image.affine_ras))
    return path


def exported(path: Path, archive: Path, **options: str) -> str:
    """Reason why no object is written; empty if one is."""
    failures = export_objects(path, archive, path.parent / "o", TABLE, write_dicom_seg, ending=".dcm", **options)
    return failures[0][1] if failures else ""


@pytest.mark.parametrize("change", [one_pixel, intercept, two_slices_exchanged])
@pytest.mark.parametrize("listed", [False, True])
def test_other_values_under_the_same_uids_are_refused(
    tmp_path: Path, change: Callable[[Sequence[Dataset]], None], listed: bool, caplog: pytest.LogCaptureFixture
) -> None:
    save(tmp_path / "in", ours())
    path = predicted(tmp_path / "in", tmp_path, listed=listed)
    assert exported(path, tmp_path / "in") == ""
    files = ours()
    change(files)
    save(tmp_path / "in", files)
    told = exported(path, tmp_path / "in")
    assert "made from other pixels than the series has now, under the same UIDs" in told
    caplog.set_level(logging.WARNING)
    assert exported(path, tmp_path / "in", for_series=told.split()[-1]) == ""
    assert "other pixels" in caplog.text


@pytest.mark.parametrize("change", [compressed, unsigned, other_numbers])
def test_the_same_values_stored_otherwise_are_taken(
    tmp_path: Path, change: Callable[[Sequence[Dataset]], None]
) -> None:
    save(tmp_path / "in", ours())
    path = predicted(tmp_path / "in", tmp_path)
    files = ours()
    change(files)
    save(tmp_path / "in", files)
    assert exported(path, tmp_path / "in") == ""


@pytest.mark.parametrize("listed", [False, True])
def test_fractions_and_a_secret(tmp_path: Path, listed: bool) -> None:
    """With a secret the word is another one, and the record still fits into the header."""
    halves = {"modality": "PT", "RescaleSlope": "0.5", "RescaleIntercept": "0"}
    save(tmp_path / "in", ours(**halves))
    path = predicted(tmp_path / "in", tmp_path, secret="of the hospital", listed=listed)
    assert exported(path, tmp_path / "in", secret="of the hospital") == ""
    save(tmp_path / "in", ours(VALUES + np.int16(1), **halves))
    assert "made from other pixels" in exported(path, tmp_path / "in", secret="of the hospital")


def test_a_record_of_before_names_no_values(tmp_path: Path) -> None:
    save(tmp_path / "in", ours())
    path = predicted(tmp_path / "in", tmp_path)
    label = read_volume(path)
    assert len(provenance_of(label.affine_ras).split()) == 7
    series_of_folder: Series = scan(tmp_path / "in").series[0]
    earlier = with_provenance(label.affine_ras, str(record_of(series_of_folder)))
    write_volume(path, Volume(label.voxels, earlier))
    save(tmp_path / "in", ours(VALUES + np.int16(1)))
    assert exported(path, tmp_path / "in") == ""

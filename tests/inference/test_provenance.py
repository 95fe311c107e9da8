"""The record of a DICOM series travels with an image through every way of predicting, and into the files."""

from __future__ import annotations

import pickle
from pathlib import Path

import numpy as np
import pytest
import torch
from dicom_series import grid, noise, save, series
from monai.bundle import ConfigParser
from tiny_bundle import LABELS, write_bundle, write_checkpoint
from two_steps import image as lung_image
from two_steps import write_lungs

from volseg.dicom import Dicom, export_objects, list_series, read_record, write_rtstruct
from volseg.inference import CascadePredictor, Predictor, RegionOfInterest, load_predictor
from volseg.volume import (
    FileAffine,
    Volume,
    provenance_of,
    read_channels,
    read_grid,
    read_volume,
    with_provenance,
    write_probabilities,
    write_volume,
)

SHAPE = (24, 20, 12)
RECORD = "volseg-series p0123456789 t01234567 s01234567 f01234567 i01234567"


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A bundle, two checkpoints, a series and a NIfTI file with a record."""
    folder = tmp_path_factory.mktemp("provenance")
    write_bundle(folder / "bundle")
    write_checkpoint(folder / "one.pt")
    write_checkpoint(folder / "two.pt", spacing_mm=(1.5, 2, 3))
    save(folder / "dicom", series(noise(SHAPE), grid(SHAPE, spacing=(2.0, 2.0, 3.0)), "MR"))
    write_volume(folder / "image.nii.gz", Volume(lung_image(0), with_provenance(np.diag([2.0, 2, 3, 1]), RECORD)))
    return folder


def predictor(place: Path, name: str = "one") -> Predictor:
    settings = {"precision": "fp32", "save_probabilities": True}
    return Predictor.from_bundle(place / "bundle", checkpoint=place / f"{name}.pt", device="cpu", overrides=settings)


def test_a_file_carries_the_record_in_its_description(tmp_path: Path) -> None:
    nibabel = pytest.importorskip("nibabel")
    affine = with_provenance(np.diag([2.0, 2, 3, 1]), RECORD)
    for name, write in (
        ("a.nii.gz", lambda path: write_volume(path, Volume(noise(), affine))),
        ("b.nii", lambda path: write_volume(path, Volume(noise(), affine))),
        ("p.nii.gz", lambda path: write_probabilities(path, np.zeros((2, 4, 5, 6)), affine)),
    ):
        write(tmp_path / name)
        assert nibabel.load(tmp_path / name).header["descrip"].item().decode() == RECORD
        assert provenance_of(read_channels(tmp_path / name)[0].affine_ras) == RECORD
        assert provenance_of(read_grid(tmp_path / name)[1]) == RECORD
    again = read_volume(tmp_path / "a.nii.gz")
    write_volume(tmp_path / "c.nii.gz", again)  # whose header gives its forms
    assert provenance_of(read_volume(tmp_path / "c.nii.gz").affine_ras) == RECORD
    assert provenance_of(pickle.loads(pickle.dumps(again)).affine_ras) == RECORD
    header = nibabel.load(tmp_path / "a.nii.gz").header
    for text, kept in ((b"FSL5.0", ""), (RECORD.encode() + b"   ", RECORD), (b"volseg-series x", "volseg-series x")):
        header["descrip"] = text
        nibabel.save(nibabel.Nifti1Image(noise(), np.diag([2.0, 2, 3, 1]), header), tmp_path / "d.nii.gz")
        assert provenance_of(read_volume(tmp_path / "d.nii.gz").affine_ras) == kept
    assert provenance_of(np.array(again.affine_ras)) == ""
    assert FileAffine(np.eye(4), None).provenance == ""


def test_a_prediction_has_the_record_of_its_image(place: Path) -> None:
    (listed,) = list_series(place / "dicom")
    source = Dicom(place / "dicom")
    expected = provenance_of(source.load(source.keys()[0]).channels[0].affine_ras)
    assert read_record(expected).name == source.keys()[0]
    one = predictor(place)
    together = one.with_members([predictor(place, "two")], flips=[0])
    for made in (one, together):
        for image, record in ((listed, expected), (place / "image.nii.gz", RECORD)):
            found = made.predict([image], key="case").label_map
            assert provenance_of(found.affine_ras) == record


def test_both_steps_of_a_cascade_keep_the_record(place: Path, tmp_path: Path) -> None:
    lungs = ((str(write_lungs(place / "lungs")), place / "lungs" / "model.pt"),)
    for regions in ("left", "right"):
        step = RegionOfInterest(members=lungs, margin_mm=4, regions=(regions,))
        made = load_predictor([(str(place / "bundle"), place / "one.pt")], device="cpu", step=step)
        assert isinstance(made, CascadePredictor)
        label = made.predict([place / "image.nii.gz"], key="case").label_map
        assert provenance_of(label.affine_ras) == RECORD
    write_volume(
        tmp_path / "dark.nii.gz", Volume(lung_image(0, blocks=False), read_volume(place / "image.nii.gz").affine_ras)
    )
    step = RegionOfInterest(members=lungs, absent="empty")
    made = load_predictor([(str(place / "bundle"), place / "one.pt")], device="cpu", step=step)
    assert provenance_of(made.predict([tmp_path / "dark.nii.gz"], key="case").label_map.affine_ras) == RECORD


def test_a_bundle_that_monai_runs_writes_the_record(place: Path, tmp_path: Path) -> None:
    parser = ConfigParser()
    parser.read_config(str(place / "bundle" / "inference.json"))
    parser.update({"bundle_root": str(place / "bundle"), "checkpoint": str(place / "one.pt")})
    parser.update({"output_dir": str(tmp_path), "device": "cpu"})
    steps = [parser.get_parsed_content(name) for name in ("preprocessing", "postprocessing")]
    item = steps[0]({"key": "case", "image": [place / "image.nii.gz"]})
    steps[1]({**item, "pred": torch.zeros(LABELS.channels, *item["image"].shape[1:])})
    assert provenance_of(read_volume(tmp_path / "case.nii.gz").affine_ras) == RECORD


def test_predictions_of_dicom_and_of_its_cohort_are_written_for_their_series(place: Path, tmp_path: Path) -> None:
    (listed,) = list_series(place / "dicom")
    predictor(place).predict_to([("liver", [listed])], tmp_path)
    label = tmp_path / "liver.nii.gz"
    words = (label, place / "dicom", tmp_path / "out.dcm", LABELS, write_rtstruct)
    assert export_objects(*words, ending=".dcm") == []
    save(tmp_path / "other", series(noise(SHAPE), grid(SHAPE, spacing=(2.0, 2.0, 3.0)), "MR", PatientID="B"))
    ((_, reason),) = export_objects(label, tmp_path / "other", tmp_path, LABELS, write_rtstruct, ending=".dcm")
    assert "is of another patient" in reason

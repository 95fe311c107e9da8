"""X-ray images in DICOM: each is a case of one slice, as it is shown on a screen, with bones bright."""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path

import numpy as np
import pytest
from dicom_series import image, noise, save, series, set_pixels
from PIL import Image

from volseg.cli import main
from volseg.dicom import Dicom, list_series, read_listed, read_x_ray
from volseg.errors import SourceError, UsageError
from volseg.volume import Volume, affine_of_axes, read_volume, spacing_mm, write_volume

PYTHON = os.environ.get("VOLSEG_SIMPLEITK_PYTHON", "")
LABEL = "labelsTr/a.nii.gz"
PIXELS = noise((7, 9), np.uint16, seed=5) % 4096
RAW = "1.2.840.10008.5.1.4.1.1.1.1.1"  # Digital X-Ray Image Storage - For Processing
MIDDLE = float(np.median(PIXELS))


def film(modality: str = "DX", *, pixels: np.ndarray = PIXELS, **elements):
    """An X-ray image without a place in the patient, of 12 bits."""
    made = image(modality, **{"ImageType": ["ORIGINAL", "PRIMARY"], "InstanceNumber": 1, **elements})
    del made.FrameOfReferenceUID
    set_pixels(made, pixels)
    made.BitsStored, made.HighBit = 12, 11
    return made


def only(folder: Path, **options):
    source = Dicom(folder, **options)
    (key,) = source.keys()
    return source.load(key)


def test_each_image_of_a_series_is_a_case_as_it_is_shown(tmp_path: Path) -> None:
    frontal = film(PixelSpacing=[0.2, 0.1], InstanceNumber=1)
    lateral = film(PixelSpacing=[0.2, 0.1], InstanceNumber=2, pixels=PIXELS[::-1].copy())
    save(tmp_path, [frontal, lateral])
    source = Dicom(tmp_path)
    assert len(source.keys()) == 2
    found = [source.load(key) for key in source.keys()]  # noqa: SIM118 - no dict
    assert {case.patient for case in found} == {found[0].patient}
    for case in found:
        (channel,) = case.channels
        assert channel.voxels.shape == (9, 7, 1)
        np.testing.assert_allclose(np.asarray(channel.affine_ras), affine_of_axes("LPS", (0.1, 0.2, 1.0)))
    shown = sorted(case.channels[0].voxels[0, 0, 0] for case in found)
    assert shown == sorted([PIXELS[0, 0], PIXELS[-1, 0]])
    assert source.channel_names == ("DX",)


@pytest.mark.parametrize(
    ("stated", "expected", "told"),
    [
        ({"PixelSpacing": [0.1, 0.1], "ImagerPixelSpacing": [0.2, 0.2]}, 0.1, "which SimpleITK takes"),
        ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.2, 0.2]}, 0.2, ""),
        ({"ImagerPixelSpacing": [0.2, 0.2]}, 0.2, "smaller, by the magnification"),
        (
            {"ImagerPixelSpacing": [0.2, 0.2], "EstimatedRadiographicMagnificationFactor": 1.25},
            *(0.2, "magnification, 1.25 as the file estimates it"),
        ),
        ({"NominalScannedPixelSpacing": [0.175, 0.175]}, 0.175, "of the scanned film"),
        ({}, 1.0, "states no size of a pixel"),
    ],
)
def test_the_size_of_a_pixel_is_the_calibrated_one_else_that_of_the_detector(
    tmp_path: Path, stated: dict, expected: float, told: str
) -> None:
    save(tmp_path, [film("CR", **stated)])
    case = only(tmp_path)
    np.testing.assert_allclose(spacing_mm(case.channels[0].affine_ras)[:2], expected)
    assert any(told in warning for warning in case.warnings) if told else not case.warnings


@pytest.mark.parametrize(
    ("stated", "expected", "told"),
    [
        ([6, 5], (1.0, 1.2), "its height is 1.2 times that (PixelAspectRatio)"),
        ([1, 1], (1.0, 1.0), "states no size of a pixel, and 1 mm was taken"),
        ([0, 1], (1.0, 1.0), "states no size of a pixel, and 1 mm was taken"),
        ([2], (1.0, 1.0), "states no size of a pixel, and 1 mm was taken"),
    ],
)
def test_pixels_of_no_size_that_are_no_squares_are_not_shown_as_squares(
    tmp_path: Path, stated: list[int], expected: tuple[float, float], told: str
) -> None:
    (path,) = save(tmp_path, [film("RF", PixelAspectRatio=stated)])
    case = only(tmp_path)
    np.testing.assert_allclose(spacing_mm(case.channels[0].affine_ras)[:2], expected)
    assert any(told in warning for warning in case.warnings)
    read = read_x_ray(path, 10_000)
    assert (read.spacing_mm or (1.0, 1.0)) == pytest.approx(expected)
    save(tmp_path / "sized", [film("RF", PixelAspectRatio=[6, 5], PixelSpacing=[0.3, 0.3])])
    np.testing.assert_allclose(spacing_mm(only(tmp_path / "sized").channels[0].affine_ras)[:2], 0.3)


def test_bones_are_bright_however_the_image_is_stored(tmp_path: Path) -> None:
    save(tmp_path / "a", [film(PixelSpacing=[1, 1])])
    save(tmp_path / "b", [film(PixelSpacing=[1, 1], pixels=4095 - PIXELS, PhotometricInterpretation="MONOCHROME1")])
    plain, inverse = (only(tmp_path / name) for name in "ab")
    np.testing.assert_array_equal(inverse.channels[0].voxels, plain.channels[0].voxels)
    assert inverse.channels[0].voxels.dtype == plain.channels[0].voxels.dtype
    assert any("MONOCHROME1" in warning for warning in inverse.warnings)


def test_a_slope_is_inverted_with_the_numbers(tmp_path: Path) -> None:
    rescale = {"RescaleSlope": 2, "RescaleIntercept": 10, "PixelSpacing": [1, 1]}
    save(tmp_path, [film(pixels=4095 - PIXELS, PhotometricInterpretation="MONOCHROME1", **rescale)])
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels[:, :, 0].T, 2.0 * PIXELS + 10)


def test_the_same_values_as_simpleitk(tmp_path: Path) -> None:
    """SimpleITK is no dependency of the tests: `VOLSEG_SIMPLEITK_PYTHON` names a Python that has it (2.5.7 was run)."""
    if not PYTHON:
        pytest.skip("VOLSEG_SIMPLEITK_PYTHON names no Python with SimpleITK")
    code = (
        "import json, sys, SimpleITK as sitk; read = sitk.ReadImage(sys.argv[1]); "
        "print(json.dumps([sitk.GetArrayFromImage(read)[0].T.tolist(), read.GetSpacing()[:2]]))"
    )
    for name, kind in (("a", "MONOCHROME1"), ("b", "MONOCHROME2")):
        (path,) = save(tmp_path / name, [film(ImagerPixelSpacing=[0.3, 0.2], PhotometricInterpretation=kind)])
        told = subprocess.run([PYTHON, "-c", code, str(path)], capture_output=True, check=True, text=True)
        values, spacing = json.loads(told.stdout)
        (channel,) = only(tmp_path / name).channels
        np.testing.assert_array_equal(values, channel.voxels[:, :, 0])
        np.testing.assert_allclose(spacing, spacing_mm(channel.affine_ras)[:2])


def test_beside_volumes_they_are_taken_where_they_are_asked_for(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    voxels = noise()
    save(tmp_path, [*series(voxels), film(series="5", PixelSpacing=[1, 1]), film("CR", series="6")])
    with caplog.at_level("INFO"):
        np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels)
    assert "1 X-ray images (DX), which --modality DX takes" in caplog.text
    assert only(tmp_path, modality="DX").channels[0].voxels.shape == (9, 7, 1)


def test_radiographs_of_several_detectors_are_one_cohort_and_mammograms_are_not(tmp_path: Path) -> None:
    save(tmp_path, [film(series="5"), film("CR", series="6")])
    assert len(Dicom(tmp_path).keys()) == 2
    save(tmp_path / "more", [film("MG", series="7")])
    with pytest.raises(UsageError, match="choose one with --modality"):
        Dicom(tmp_path)


@pytest.mark.parametrize("stated", [{"PresentationIntentType": "FOR PROCESSING"}, {"SOPClassUID": RAW}])
def test_numbers_of_the_detector_are_told(tmp_path: Path, stated: dict[str, str]) -> None:
    shown = film("DX", pixels=PIXELS[::-1], PresentationIntentType="FOR PRESENTATION")
    save(tmp_path, [film("DX", **stated), shown])
    source = Dicom(tmp_path)
    cases = [source.load(key) for key in list(source.keys())]
    told = [[one for one in case.warnings if "FOR PROCESSING" in one] for case in cases]
    assert sorted(map(len, told)) == [0, 1]
    assert "bones may be dark" in max(told)[0]


def test_a_copy_under_another_uid_is_one_case_with_the_same_record(tmp_path: Path) -> None:
    save(tmp_path / "one", [film(PixelSpacing=[1, 1])])
    before = only(tmp_path / "one")
    original = film(PixelSpacing=[1, 1], SOPInstanceUID="1.2.3.4")
    again = film(PixelSpacing=[1, 1], SOPInstanceUID="1.2.3.5", series="2")
    save(tmp_path / "two", [original, again])
    assert only(tmp_path / "two").channels[0].voxels.tolist() == before.channels[0].voxels.tolist()


def test_a_list_of_a_prediction_is_read_as_the_cohort_is(tmp_path: Path) -> None:
    save(tmp_path / "in", [film(ImagerPixelSpacing=[0.3, 0.2])])
    (listed,) = list_series(tmp_path / "in")
    volume = read_listed(listed)
    case = only(tmp_path / "in")
    np.testing.assert_array_equal(volume.voxels, case.channels[0].voxels)
    np.testing.assert_array_equal(np.asarray(volume.affine_ras), np.asarray(case.channels[0].affine_ras))


def test_the_command_converts_them(tmp_path: Path) -> None:
    save(tmp_path / "in", [film(ImagerPixelSpacing=[0.3, 0.2], PatientOrientation=["R", "F"])])
    with pytest.raises(SystemExit) as stop:
        main(["convert", "dicom", str(tmp_path / "in"), str(tmp_path / "cohort")])
    assert stop.value.code == 0
    (path,) = (tmp_path / "cohort").glob("images*/*.nii.gz")
    assert read_volume(path).voxels.shape == (9, 7, 1)
    told = (tmp_path / "cohort" / "cases.csv").read_text()
    assert "columns run to the patient's right" in told
    assert "Lovelace" not in told


@pytest.mark.parametrize("spacing", [[0, 0.2], [-0.2, 0.2]])
def test_a_size_that_is_none_is_refused(tmp_path: Path, spacing: list[float]) -> None:
    save(tmp_path, [film(PixelSpacing=spacing)])
    source = Dicom(tmp_path)
    with pytest.raises(Exception, match="write the true size of a pixel"):
        source.load(source.keys()[0])


def test_masks_of_another_program_go_with_dicom_images(tmp_path: Path) -> None:
    raw = tmp_path / "raw"
    mask = PIXELS > MIDDLE
    save(raw, [film(PixelSpacing=[0.2, 0.1])], name="a.dcm".format)
    (raw / "masks").mkdir()
    Image.fromarray(mask.astype(np.uint8) * 255).save(raw / "masks" / "a.png")
    words = ["--images", "{key}.dcm", "--masks", "lung=masks/{key}.png", "--colour", "grey"]
    with pytest.raises(SystemExit) as stop:
        main(["convert", "images", str(raw), str(tmp_path / "cohort"), *words])
    assert stop.value.code == 0
    image_, label = (read_volume(tmp_path / "cohort" / name) for name in ("imagesTr/a_0000.nii.gz", LABEL))
    np.testing.assert_array_equal(image_.voxels[:, :, 0].T, PIXELS)
    np.testing.assert_array_equal(label.voxels[:, :, 0].T, mask)
    np.testing.assert_allclose(spacing_mm(image_.affine_ras), (0.1, 0.2, 1.0))


def test_both_doors_give_the_same_voxels(tmp_path: Path) -> None:
    inverse = film(ImagerPixelSpacing=[0.2, 0.1], PhotometricInterpretation="MONOCHROME1")
    save(tmp_path, [inverse], name="a.dcm".format)
    found = read_x_ray(tmp_path / "a.dcm", 1000)
    case = only(tmp_path)
    np.testing.assert_array_equal(found.pixels, case.channels[0].voxels[:, :, 0].T)
    assert found.spacing_mm == pytest.approx((0.1, 0.2))
    assert set(found.notes) <= set(case.warnings)


def test_pictures_of_other_kinds_are_not_sent_from_one_command_to_the_other(tmp_path: Path) -> None:
    """Each of the two commands named the other one, or nothing."""
    pictures = [film("US", SOPClassUID="1.2.840.10008.5.1.4.1.1.6.1") for _ in range(2)]
    (one, _) = save(tmp_path, pictures)
    with pytest.raises(
        SourceError, match=r"no X-ray image but images without a place .*\(US\); save it as PNG or TIFF$"
    ):
        read_x_ray(one, 1000)
    cure = r"2 images without a place in the patient \(US\); save them as PNG or TIFF, and run `volseg convert images`"
    with pytest.raises(SourceError, match=cure):
        Dicom(tmp_path)


def test_what_is_no_x_ray_image_is_refused_by_the_reader_of_images(tmp_path: Path) -> None:
    (slice_,) = save(tmp_path / "ct", series(noise((7, 6, 1))))
    (large,) = save(tmp_path / "dx", [film()])
    with pytest.raises(SourceError, match=r"no X-ray image but .*\(CT\); use volseg convert dicom"):
        read_x_ray(slice_, 1000)
    with pytest.raises(SourceError, match="--max-pixels 63"):
        read_x_ray(large, 62)


def test_a_prediction_comes_back_as_a_segmentation_of_the_image(tmp_path: Path) -> None:
    pytest.importorskip("highdicom")
    save(tmp_path / "in", [film(PixelSpacing=[0.2, 0.1]), film(PixelSpacing=[0.2, 0.1], pixels=PIXELS[::-1].copy())])
    (first, second) = list_series(tmp_path / "in")
    drawn = {}
    for listed in (first, second):
        image_, key = read_listed(listed), listed.name.removesuffix("_0000.series")
        drawn[key] = (image_.voxels > MIDDLE).astype(np.uint8)
        write_volume(tmp_path / "predictions" / f"{key}.nii.gz", Volume(drawn[key], image_.affine_ras))
    table = {"channel_names": {"0": "DX"}, "labels": {"background": 0, "bone": 1}, "file_ending": ".nii.gz"}
    (tmp_path / "predictions" / "dataset.json").write_text(json.dumps(table))
    words = ["--dicom", str(tmp_path / "in"), "-o", str(tmp_path / "in" / "objects")]
    with pytest.raises(SystemExit) as stop:
        main(["export", "dicom-seg", str(tmp_path / "predictions"), *words])
    assert stop.value.code == 0
    source = Dicom(tmp_path / "in")
    for key, expected in drawn.items():
        case = source.load(key)
        np.testing.assert_array_equal(case.label.voxels, expected)
        assert not any("frame of reference" in warning for warning in case.warnings)
    with pytest.raises(SystemExit) as stop:
        main(["export", "rtstruct", str(tmp_path / "predictions"), "--dicom", str(tmp_path / "in"), "-o", "x"])
    assert stop.value.code == 1

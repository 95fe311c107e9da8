"""What slices of one volume share, where their files may lie, and what values their bits are."""

from __future__ import annotations

import gzip
from collections.abc import Callable, Sequence
from copy import deepcopy
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_series import grid, multi_frame, noise, save, series
from pydicom import Dataset
from pydicom.config import disable_value_validation
from pydicom.uid import NuclearMedicineImageStorage, RTDoseStorage

from volseg.cohort import Case
from volseg.dicom import Dicom, read_stack, scan
from volseg.errors import SourceError, VolsegError

SHAPE = (7, 6, 6)
AFFINE = grid(SHAPE)
VOXELS = noise(SHAPE)


def images(modality: str = "CT", **elements: Any) -> list[Dataset]:
    return series(VOXELS, AFFINE, modality, **elements)


def only(folder: Path, **options: Any) -> Case:
    source = Dicom(folder, **options)
    (key,) = source.keys()
    return source.load(key)


def read(folder: Path, files: Sequence[Dataset], **options: Any) -> Case:
    save(folder, files)
    return only(folder, **options)


def refusals(folder: Path) -> list[str]:
    """Why each case of a folder is refused; empty for one that is not."""
    source, found = Dicom(folder), []
    for key in source.keys():  # noqa: SIM118 - a source is no dict
        try:
            source.load(key)
            found.append("")
        except VolsegError as error:
            found.append(error.message)
    return found


# --- halves


@pytest.mark.parametrize(
    ("element", "value", "what"),
    [("PatientID", "mrn-4711", "patient"), ("PatientID", "", "patient"), ("StudyInstanceUID", "1.2.3.4", "study")],
)
def test_halves_of_a_stack_under_two_patients_or_studies_are_no_volumes(
    tmp_path: Path, element: str, value: str, what: str
) -> None:
    files = images()
    for file in files[:3]:
        setattr(file, element, value)
    save(tmp_path, files)
    told = refusals(tmp_path)
    assert len(told) == 2
    for reason in told:
        assert f"3 more images of its series continue it and state another {what}" in reason
        assert "4711" not in reason


def test_two_patients_of_one_reused_series_uid_are_two_volumes(tmp_path: Path) -> None:
    others = series(noise(SHAPE, seed=1), grid(SHAPE, origin=(-31.5, 12.25, -40.0)), PatientID="other", study="1.2.3")
    for file in others:
        file.SeriesInstanceUID = images()[0].SeriesInstanceUID
    save(tmp_path, [*images(), *others])
    assert refusals(tmp_path) == ["", ""]


# --- what slices share


@pytest.mark.parametrize(
    ("element", "one", "other"),
    [
        ("FrameOfReferenceUID", "1.2.3.4", "1.2.3.5"),
        ("EchoTime", 4.6, 80),
        ("ConvolutionKernel", "B30f", "B70f"),
        ("ImageType", ["ORIGINAL", "PRIMARY", "AXIAL"], ["DERIVED", "SECONDARY", "MIP"]),
        ("PatientPosition", "HFS", "FFS"),
    ],
)
def test_slices_that_differ_in_what_a_volume_shares_are_told(
    tmp_path: Path, element: str, one: Any, other: Any
) -> None:
    files = images("MR")
    for count, file in enumerate(files):
        setattr(file, element, one if count < 4 else other)
    case = read(tmp_path, files)
    np.testing.assert_array_equal(case.channels[0].voxels, VOXELS)
    (warning,) = case.warnings
    assert warning.startswith(f"2 of 6 slices differ from the others in {element}")
    assert "1.2.3" not in warning
    if element == "ConvolutionKernel":
        chosen = only(tmp_path, where=["ConvolutionKernel=B30f"])
        np.testing.assert_array_equal(chosen.channels[0].voxels, VOXELS[:, :, :4])
        assert chosen.warnings == ()


def test_echo_times_that_differ_by_rounding_are_not_told(tmp_path: Path) -> None:
    files = images("MR")
    for count, file in enumerate(files):
        file.EchoTime = 4.6 + 0.01 * count
    assert read(tmp_path, files).warnings == ()


@pytest.mark.parametrize(("step", "thickness", "told"), [(2, 2.5, True), (5, 2.5, True), (2, 5.0, False)])
def test_numbers_that_leave_out_images_between_thin_slices_are_told(
    tmp_path: Path, step: int, thickness: float, told: bool
) -> None:
    files = images()[::step]
    for file in files:
        file.SliceThickness = thickness
    warnings = read(tmp_path, files).warnings
    assert any(f"image numbers go up in steps of {step}" in warning for warning in warnings) == told


# --- values


def test_a_slice_of_ct_without_slope_and_intercept_is_refused_among_others_and_told_elsewhere(tmp_path: Path) -> None:
    for modality in ("CT", "MR"):
        files = images(modality)
        for file in files[:-1]:
            file.RescaleSlope, file.RescaleIntercept = 1, -1024
        save(tmp_path / modality, files)
    assert refusals(tmp_path / "CT")[0].startswith("1 of 6 slices state no RescaleSlope and no RescaleIntercept")
    assert only(tmp_path / "MR").warnings == (
        "1 of 6 slices state no RescaleSlope and no RescaleIntercept, and were taken as stored",
    )


def test_slope_and_intercept_beside_the_functional_groups_count(tmp_path: Path) -> None:
    file = multi_frame(VOXELS, AFFINE, RescaleSlope=1, RescaleIntercept=-1000)
    expected = VOXELS.astype(int) - 1024
    np.testing.assert_array_equal(read(tmp_path / "both", [file]).channels[0].voxels, expected)
    del file.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    np.testing.assert_array_equal(read(tmp_path / "beside", [file]).channels[0].voxels, expected + 24)


def test_each_frame_has_its_own_slope(tmp_path: Path) -> None:
    """SimpleITK takes the first frame's for all, MONAI none: `findings/slopes_of_frames.sh`."""
    file = multi_frame(VOXELS, AFFINE)
    meaning = file.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence[0]
    del file.SharedFunctionalGroupsSequence[0].PixelValueTransformationSequence
    slopes = 0.5 + np.arange(VOXELS.shape[2])  # of the slices; frames are stored from the last slice to the first
    for frame, slope in zip(file.PerFrameFunctionalGroupsSequence, slopes[::-1], strict=True):
        own = deepcopy(meaning)
        own.RescaleSlope, own.RescaleIntercept = float(slope), 0
        frame.PixelValueTransformationSequence = [own]
    np.testing.assert_allclose(read(tmp_path, [file]).channels[0].voxels, VOXELS * slopes)


def test_real_world_values_beside_a_slope_are_no_values(tmp_path: Path) -> None:
    """highdicom takes SUV for Bq/ml where a PET states both: `findings/real_world_values.sh`."""
    mapping = Dataset()
    mapping.RealWorldValueFirstValueMapped, mapping.RealWorldValueLastValueMapped = -2000, 30000
    mapping.RealWorldValueIntercept, mapping.RealWorldValueSlope = 0.0, 0.0005
    files = images("PT", Units="BQML", RealWorldValueMappingSequence=[mapping])
    np.testing.assert_array_equal(read(tmp_path, files).channels[0].voxels, VOXELS)


def test_the_scale_of_a_vendor_beside_a_slope_is_no_value(tmp_path: Path) -> None:
    """dcm2niix divides by it: `findings/philips_values.sh`."""
    files = images("MR", Manufacturer="Philips Medical Systems", RescaleSlope=2, RescaleIntercept=0)
    for file in files:
        private = file.private_block(0x2005, "Philips MR Imaging DD 001", create=True)
        private.add_new(0x0D, "FL", 0.0)
        private.add_new(0x0E, "FL", 0.05)
    np.testing.assert_array_equal(read(tmp_path, files).channels[0].voxels, VOXELS * 2.0)


@pytest.mark.parametrize("modality", ["NM", "RTDOSE"])
def test_frames_that_a_vector_places_are_left_aside(tmp_path: Path, modality: str) -> None:
    """Other programs disagree where they lie: `findings/spect_upside_down.sh`, `findings/dose_planes_one_apart.sh`."""
    file = multi_frame(VOXELS, AFFINE, Modality=modality, SpacingBetweenSlices=-3)
    del file.PerFrameFunctionalGroupsSequence, file.SharedFunctionalGroupsSequence
    file.SOPClassUID = NuclearMedicineImageStorage if modality == "NM" else RTDoseStorage
    file.file_meta.MediaStorageSOPClassUID = file.SOPClassUID
    save(tmp_path, [file])
    with pytest.raises(SourceError, match=rf"1 multi-frame objects that do not place .* \({modality}\)"):
        Dicom(tmp_path)


def test_numbers_of_colours_are_no_values(tmp_path: Path) -> None:
    files = images(PhotometricInterpretation="PALETTE COLOR")
    save(tmp_path, files)
    with pytest.raises(
        SourceError, match=r"6 colour images .*; save colour images as PNG or TIFF, and run `volseg convert images`"
    ):
        Dicom(tmp_path)
    save(tmp_path, images(series="2"), "b{:03d}.dcm".format)
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, VOXELS)


def with_high_bit(shift: int) -> list[Dataset]:
    files = images()
    for file in files:
        pixels = np.frombuffer(file.PixelData, np.uint16) << shift
        file.PixelData, file.PixelRepresentation = pixels.tobytes(), 0
        file.BitsStored, file.HighBit = 12, 15
    return files


def test_values_in_the_upper_bits_are_refused_and_a_wrong_high_bit_alone_is_not(tmp_path: Path) -> None:
    save(tmp_path / "shifted", with_high_bit(4))
    (reason,) = refusals(tmp_path / "shifted")
    assert "its values stand in the bits 4 to 15 (HighBit)" in reason
    np.testing.assert_array_equal(read(tmp_path / "plain", with_high_bit(0)).channels[0].voxels, VOXELS)


@pytest.mark.parametrize("overlay", [False, True])
def test_bits_beyond_those_stored_are_no_part_of_a_value(tmp_path: Path, overlay: bool) -> None:
    meant = np.random.default_rng(7).integers(-1024, 2048, SHAPE).astype(np.int16)
    meant.flat[:2] = -1024, 2047
    files = series(meant, AFFINE, RescaleSlope=1, RescaleIntercept=-1024 if overlay else 0)
    for file in files:
        pixels = np.frombuffer(file.PixelData, np.int16)
        # An overlay of older files lies in bit 12, above unsigned values; else the upper bits of signed ones are 0.
        stored = ((pixels + 1024).astype(np.uint16) | 0x1000) if overlay else pixels.astype(np.uint16) & 0x0FFF
        file.PixelData, file.PixelRepresentation = stored.astype(np.uint16).tobytes(), int(not overlay)
        file.BitsStored, file.HighBit = 12, 11
    np.testing.assert_array_equal(read(tmp_path, files).channels[0].voxels, meant)


def test_a_single_slice_without_a_thickness_is_told_and_a_negative_distance_is_none(tmp_path: Path) -> None:
    for name, distance, expected in (("absent", None, 1.0), ("negative", -5, 5.0)):
        file = multi_frame(VOXELS[:, :, :1], AFFINE)
        (measures,) = file.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
        del measures.SliceThickness
        if distance is not None:
            measures.SpacingBetweenSlices = distance
        case = read(tmp_path / name, [file])
        assert case.channels[0].affine_ras[2, 2] == pytest.approx(expected)
        assert case.warnings == (("its one slice states no thickness, and 1 mm was taken",) if distance is None else ())


# --- files


def without_preamble(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    del dataset.file_meta
    pydicom.dcmwrite(path, dataset, implicit_vr=True, little_endian=True)


def test_old_files_are_known_however_many_words_their_kind_of_image_has(tmp_path: Path) -> None:
    words = ["DERIVED", "PRIMARY", "MPR", "NORM", "DIS2D", "FM3_2", "FIL", "MFSPLIT", "AND_ONE_MORE"]
    files = images(ImageType=words, InstanceCreationDate="20240103", InstanceCreationTime="101500.123456")
    for path in save(tmp_path, files, "IM{:03d}".format):
        without_preamble(path)
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, VOXELS)


def test_folders_behind_links_are_read_once(tmp_path: Path) -> None:
    save(tmp_path / "elsewhere", images())
    raw = tmp_path / "raw"
    raw.mkdir()
    (raw / "a").symlink_to(tmp_path / "elsewhere")
    (raw / "b").symlink_to(tmp_path / "elsewhere")
    (raw / "up").symlink_to(raw)
    case = only(raw)
    np.testing.assert_array_equal(case.channels[0].voxels, VOXELS)
    assert case.warnings == ()


def to_nothing(path: Path) -> None:
    path.unlink()
    path.symlink_to(path.parent / "annexed")


def compressed(path: Path) -> None:
    path.with_name(path.name + ".gz").write_bytes(gzip.compress(path.read_bytes()))
    path.unlink()


def unfinished(path: Path) -> None:
    path.unlink()
    path.with_name(path.name + ".part").write_bytes(bytes(1000))


@pytest.mark.parametrize("damage", [to_nothing, compressed, unfinished])
@pytest.mark.parametrize("name", ["{:03d}.dcm", "IM{:03d}"])
def test_the_last_slice_that_is_not_there_as_a_file_is_missed(
    tmp_path: Path, damage: Callable[[Path], None], name: str
) -> None:
    damage(save(tmp_path, images(), name.format)[-1])
    told = refusals(tmp_path)
    assert len(told) == 2
    assert any("the stack is not whole" in reason and "at -31.5, 12.25, -87.5 mm" in reason for reason in told)


def test_what_is_left_of_a_copy_and_notes_of_macos_are_no_slices(tmp_path: Path) -> None:
    save(tmp_path, images())
    (tmp_path / "003.dcm.part").write_bytes(bytes(1000))
    (tmp_path / "._004.dcm").write_bytes(bytes.fromhex("0005160700020000") + b"Mac OS X".ljust(300))
    case = only(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, VOXELS)
    assert case.warnings == ()


def test_archives_are_told_and_not_opened(tmp_path: Path) -> None:
    save(tmp_path, images())
    (tmp_path / "second.zip").write_bytes(b"PK\3\4" + bytes(200))
    (tmp_path / "image.nii.gz").write_bytes(gzip.compress(bytes(400)))
    source = Dicom(tmp_path)
    assert source.warnings == ("1 archives (.zip, .gz and others) lie in the folder and were not opened; unpack them",)


def test_dates_with_dots_are_days(tmp_path: Path) -> None:
    with disable_value_validation():
        for number, day in enumerate(("1991.12.24", "1991.12.31")):
            save(tmp_path / day, images(study=f"1.2.3.{number}", StudyDate=day))
    source = Dicom(tmp_path)
    assert sorted(source.load(key).session for key in source.keys()) == ["day0", "day7"]  # noqa: SIM118


def test_a_folder_of_images_without_a_place_is_not_sent_to_the_command_that_was_run(tmp_path: Path) -> None:
    files = images()
    for file in files:
        del file.ImagePositionPatient
    save(tmp_path, files)
    with pytest.raises(SourceError) as caught:
        Dicom(tmp_path)
    assert "6 images without a place" in str(caught.value)
    assert "volseg convert dicom" not in str(caught.value)


def test_two_acquisitions_among_each_other_are_told(tmp_path: Path) -> None:
    """Half a slice apart they make an even stack; parts of a scan, one above the other, are no two scans."""
    one = grid()
    other = grid()
    other[2, 3] += 1.25
    for name, second, told in (("among", other, True), ("above", None, False)):
        if second is None:
            second = grid()
            second[2, 3] += 12.5
        files = [*series(noise(), one, AcquisitionNumber="1"), *series(noise(seed=1), second, AcquisitionNumber="2")]
        for number, file in enumerate(files, start=1):
            file.InstanceNumber = number
            file.RescaleSlope, file.RescaleIntercept = 1, 0
        save(tmp_path / name, files)
        stack = read_stack(scan(tmp_path / name).series[0])
        assert stack.shape == (7, 6, 10)
        assert any("differ from the others in AcquisitionNumber" in line for line in stack.warnings) == told


def test_padding_that_is_brighter_than_bone_is_told(tmp_path: Path) -> None:
    """-2000 in 16 bits without a sign is 63536; as -2000 it is air, and usual."""
    for name, dtype, padding, told in (("unsigned", np.uint16, 63536, True), ("signed", np.int16, -2000, False)):
        files = series(noise().astype(dtype), RescaleSlope=1, RescaleIntercept=-1024)
        for file in files:
            file.add_new("PixelPaddingValue", "US" if dtype is np.uint16 else "SS", padding)
        save(tmp_path / name, files)
        warnings = read_stack(scan(tmp_path / name).series[0]).warnings
        assert any("(PixelPaddingValue) has the value 62512, above all tissue" in line for line in warnings) == told

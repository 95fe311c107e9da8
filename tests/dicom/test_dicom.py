"""DICOM in: any tree of files becomes volumes that lie where they were scanned, or says why not."""

from __future__ import annotations

import logging
import os
import random
import shutil
import signal
import warnings
from pathlib import Path

import numpy as np
import pytest
from dicom_series import PATIENT, STUDY, grid, image, multi_frame, noise, place, save, series, set_pixels
from pydicom import Dataset
from pydicom.config import settings
from pydicom.encaps import encapsulate
from pydicom.uid import JPEG2000Lossless, JPEGExtended12Bit, JPEGLSLossless, RLELossless, generate_uid

from volseg.cohort import Case
from volseg.dicom import Dicom, scan
from volseg.dicom.file import Quiet
from volseg.dicom.pixels import Frames
from volseg.dicom.stack import Plane, by_place
from volseg.dicom.stack import grid as grid_of
from volseg.errors import SourceError, UsageError, VolsegError
from volseg.inference import check_output, find_inputs, read_grid, read_image
from volseg.volume import ras_to_lps, read_volume


def only(folder: Path, **options) -> Case:
    source = Dicom(folder, **options)
    (key,) = source.keys()
    source.digest(key)
    return source.load(key)


def refusal(folder: Path, **options) -> str:
    with pytest.raises(VolsegError) as caught:
        only(folder, **options)
    return str(caught.value)


# --- the grid


@pytest.mark.parametrize("angles", [(0, 0, 0), (0.3, 0, 0), (0.2, -0.4, 0.1), (np.pi / 2, 0, 0.05), (0, np.pi, 0)])
def test_a_series_comes_back_voxel_by_voxel_where_it_lies(tmp_path: Path, angles: tuple[float, ...]) -> None:
    """Whatever the order, the names and the folders of the files."""
    voxels, affine = noise(), grid(angles=angles)
    files = series(voxels, affine)
    random.Random(1).shuffle(files)
    save(tmp_path, files, name="{0}/IM{0}".format)
    (tmp_path / "notes.txt").write_text("no DICOM")
    case = only(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)
    assert case.channels[0].voxels.dtype == np.int16
    np.testing.assert_allclose(ras_to_lps(case.channels[0].affine_ras), affine, atol=1e-6)
    assert case.warnings == ()


def test_slices_stored_from_head_to_feet_are_turned_round(tmp_path: Path) -> None:
    """The third axis runs along the normal of the slices, never against it."""
    voxels, affine = noise(), grid()
    backwards = affine.copy()
    backwards[:3, 2] *= -1
    save(tmp_path, series(voxels, backwards))
    got = only(tmp_path).channels[0]
    np.testing.assert_array_equal(got.voxels, voxels[:, :, ::-1])
    assert np.linalg.det(got.affine_ras) > 0
    world = ras_to_lps(got.affine_ras) @ [2, 3, 0, 1]
    np.testing.assert_allclose(world, backwards @ [2, 3, 4, 1], atol=1e-6)


@pytest.mark.slow
def test_real_series_are_read_as_itk_reads_them(shared_data: Path) -> None:
    itk = pytest.importorskip("itk")
    for folder in (
        *("ibsi_dicom/STS_002/CT/image", "ibsi_dicom/STS_002/MR_T1/image", "ibsi_dicom/STS_002/PET/image"),
        *("hippocampus_dicom/Study1/13_HCropVolume", "hippocampus_dicom/Study2/14_HCropVolume"),
        *("dicom_seg/ct-3slice", "dicom_seg/23x38x3/image", "dicom_seg/23x38x3/multiframe"),
    ):
        got = only(shared_data / folder).channels[0]
        voxels, affine = _by_itk(itk, shared_data / folder)
        np.testing.assert_array_equal(got.voxels, voxels, err_msg=folder)
        np.testing.assert_allclose(ras_to_lps(got.affine_ras), affine, atol=1e-9, err_msg=folder)


@pytest.mark.slow
def test_a_real_series_in_jpeg_2000_without_uids_is_read_as_itk_reads_it(shared_data: Path) -> None:
    itk = pytest.importorskip("itk")
    case = only(shared_data / "abdomen/ct_dicom")
    voxels, affine = _by_itk(itk, shared_data / "abdomen/ct_dicom")
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)
    np.testing.assert_allclose(ras_to_lps(case.channels[0].affine_ras), affine, atol=1e-9)
    label = read_volume(shared_data / "abdomen/ct_dicom_labels.nii.gz")
    np.testing.assert_allclose(
        np.abs(np.linalg.inv(label.affine_ras) @ case.channels[0].affine_ras)[:3, :3], np.eye(3), atol=1e-4
    )
    assert case.warnings == ("no patient ID, so the study counts as a patient",)


def _by_itk(itk, folder: Path) -> tuple[np.ndarray, np.ndarray]:
    names = itk.GDCMSeriesFileNames.New()
    names.SetDirectory(str(folder))
    (uid,) = names.GetSeriesUIDs()
    reader = itk.ImageSeriesReader[itk.Image[itk.F, 3]].New()
    reader.SetImageIO(itk.GDCMImageIO.New())
    reader.SetFileNames(names.GetFileNames(uid))
    reader.Update()
    found = reader.GetOutput()
    affine = np.eye(4)
    affine[:3, :3] = itk.array_from_matrix(found.GetDirection()) @ np.diag(list(found.GetSpacing()))
    affine[:3, 3] = list(found.GetOrigin())
    return itk.array_from_image(found).transpose(2, 1, 0), affine


def test_a_multi_frame_object_is_the_volume_of_its_single_images(tmp_path: Path) -> None:
    voxels, affine = noise(), grid(angles=(0.2, 0.1, 0))
    save(tmp_path, [multi_frame(voxels, affine)])
    got = only(tmp_path).channels[0]
    np.testing.assert_array_equal(got.voxels, voxels - 1024)
    np.testing.assert_allclose(ras_to_lps(got.affine_ras), affine, atol=1e-6)


@pytest.mark.parametrize(("kind", "modality"), [("13.1.1", "XA"), ("13.1.2", "DX"), ("13.1.3", "MG")])
def test_tomosynthesis_and_3d_x_ray_objects_are_volumes(tmp_path: Path, kind: str, modality: str) -> None:
    voxels, affine = noise(), grid(angles=(0.2, 0.1, 0))
    made = multi_frame(voxels, affine, Modality=modality)
    made.SOPClassUID = made.file_meta.MediaStorageSOPClassUID = f"1.2.840.10008.5.1.4.1.1.{kind}"
    save(tmp_path, [made])
    got = only(tmp_path).channels[0]
    np.testing.assert_array_equal(got.voxels, voxels - 1024)
    np.testing.assert_allclose(ras_to_lps(got.affine_ras), affine, atol=1e-6)


def test_frames_may_be_stored_in_any_order(tmp_path: Path) -> None:
    """SimpleITK 2.5.7 and TorchIO 1.2.1 keep the order of the file, and take 1 mm."""
    voxels, affine = noise(), grid()
    made, order = multi_frame(voxels, affine), [3, 0, 4, 1, 2]
    pixels = np.frombuffer(made.PixelData, np.int16).reshape(5, 6, 7)
    made.PixelData = pixels[order].tobytes()
    made.PerFrameFunctionalGroupsSequence = [made.PerFrameFunctionalGroupsSequence[place] for place in order]
    save(tmp_path, [made])
    got = only(tmp_path).channels[0]
    np.testing.assert_array_equal(got.voxels, voxels - 1024)
    np.testing.assert_allclose(ras_to_lps(got.affine_ras), affine, atol=1e-6)


def test_each_slice_has_its_own_slope_whatever_that_of_the_first(tmp_path: Path) -> None:
    """SimpleITK 2.5.7 makes whole numbers of all slices where the first slope is one."""
    slices = series(np.full((7, 6, 3), 101, np.uint16), modality="PT", Units="BQML")
    for slice_, slope in zip(slices, (1, 0.37, 1000), strict=True):
        slice_.RescaleSlope, slice_.RescaleIntercept = slope, 0
    save(tmp_path, slices)
    got = only(tmp_path).channels[0].voxels
    np.testing.assert_allclose(got[0, 0], [101, 37.37, 101_000], rtol=1e-6)


def test_a_multi_frame_object_that_describes_other_frames_is_refused(tmp_path: Path) -> None:
    broken = multi_frame(noise())
    del broken.PerFrameFunctionalGroupsSequence[0]
    save(tmp_path, [broken])
    assert "4 frames are described, the header claims 5" in refusal(tmp_path)
    part = multi_frame(noise())
    part.InConcatenationTotalNumber = 2
    save(tmp_path, [part])
    assert "concatenation" in refusal(tmp_path)


# --- what is no volume


def test_a_missing_slice_is_told_with_its_place(tmp_path: Path) -> None:
    files = series(noise((7, 6, 9)))
    save(tmp_path, files[:4] + files[6:])
    assert "2 slices are absent, the first after slice 4 of 7" in refusal(tmp_path)


def test_uneven_slices_are_refused_and_rounded_positions_are_not(tmp_path: Path) -> None:
    files = series(noise((7, 6, 9)))
    for z, file in enumerate(files):
        file.ImagePositionPatient[2] = round(float(file.ImagePositionPatient[2]) + 0.02 * (-1) ** z, 2)
    save(tmp_path, files)
    only(tmp_path)
    files[4].ImagePositionPatient[2] += 0.4
    save(tmp_path, files)
    assert "unevenly spaced" in refusal(tmp_path)


def test_a_tilted_gantry_is_refused_with_its_angle(tmp_path: Path) -> None:
    tilted = grid()
    tilted[1, 2] = 2.5 * np.tan(np.radians(12))
    save(tmp_path, series(noise(), tilted))
    assert "sheared by 12 degrees" in refusal(tmp_path)


def test_slices_of_several_orientations_or_sizes_are_refused(tmp_path: Path) -> None:
    voxels = noise((6, 6, 5))
    save(tmp_path, [*series(voxels), *series(voxels, grid(angles=(np.pi / 2, 0, 0)))])
    assert "2 orientations, as a localizer has" in refusal(tmp_path)
    shutil.rmtree(tmp_path)
    files = series(voxels)
    set_pixels(files[2], voxels[:5, :, 2].T)
    save(tmp_path, files)
    assert "several sizes (6 x 5, 6 x 6 pixels)" in refusal(tmp_path)


def test_a_slice_that_is_stored_twice_counts_once(tmp_path: Path) -> None:
    voxels = noise()
    files = series(voxels)
    paths = save(tmp_path, files)
    shutil.copy(paths[1], tmp_path / "again.dcm")
    files[3].SOPInstanceUID = files[3].file_meta.MediaStorageSOPInstanceUID = generate_uid()
    save(tmp_path / "more", [files[3]])
    case = only(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)
    assert [warning.split()[0] for warning in case.warnings] == ["1", "1"]


def test_two_contents_under_one_uid_or_at_one_place_are_refused(tmp_path: Path) -> None:
    files = series(noise())
    save(tmp_path, files)
    files[1].PixelData = bytes(reversed(files[1].PixelData))
    save(tmp_path / "other", [files[1]])
    assert "the same UID and other content" in refusal(tmp_path)
    shutil.rmtree(tmp_path)
    save(tmp_path, [*series(noise()), *series(noise(seed=1))])
    assert "10 images lie at 5 places" in refusal(tmp_path)


def test_what_was_never_a_volume_is_left_aside_and_counted(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    voxels = noise()
    scout = series(noise(seed=3), series="2", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    colour = image("CT", series="4", SamplesPerPixel=3, PhotometricInterpretation="RGB")
    film = image("DX", series="5")
    single = series(noise((7, 6, 1)), series="6")
    place(colour, grid(), 0)
    for odd in (colour, film):
        set_pixels(odd, noise((3, 3), np.uint8))
    report = image("SR", series="7", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    save(tmp_path, [*series(voxels), *scout, colour, film, *single, report])
    with caplog.at_level("INFO"):
        source = Dicom(tmp_path)
    np.testing.assert_array_equal(source.load(source.keys()[0]).channels[0].voxels, voxels)
    assert len(source.keys()) == 1
    told = " ".join(caplog.messages)
    for reason in ("5 localizers (CT)", "1 colour images (CT)", "1 X-ray images (DX), which --modality DX takes"):
        assert reason in told
    assert "1 series of one image (CT)" in told
    assert "1 objects without an image (Basic Text SR Storage)" in told


def test_a_scout_in_the_series_is_left_out_of_the_volume(tmp_path: Path) -> None:
    voxels = noise((6, 6, 5))
    scout = series(voxels[:, :, :1], grid(angles=(np.pi / 2, 0, 0)), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"])
    save(tmp_path, [*series(voxels), *scout])
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels)


def test_a_folder_without_series_is_refused(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        Dicom(tmp_path / "nowhere")
    (tmp_path / "a.txt").write_text("no DICOM")
    with pytest.raises(SourceError, match="1 other files"):
        Dicom(tmp_path)


def test_planes_that_are_none_are_refused() -> None:
    for change, reason in (
        ({"directions_lps": (1, 0, 0, 1, 0, 0)}, "no two unit vectors"),
        ({"spacing_mm": (0.0, 1.0)}, "pixel spacing"),
    ):
        values = {"position_lps": (0, 0, 0), "directions_lps": (1, 0, 0, 0, 1, 0), "spacing_mm": (1, 1)} | change
        with pytest.raises(VolsegError, match=reason):
            by_place([Plane(**values, rows=4, columns=4)])
    stairs = [Plane((3.0 * (z % 2), 0, z), (1, 0, 0, 0, 1, 0), (1, 1), 4, 4) for z in range(4)]
    with pytest.raises(VolsegError, match="do not lie above each other"):
        grid_of(stairs)


# --- the numbers


def test_hounsfield_units_stay_whole_numbers_in_the_smallest_type(tmp_path: Path) -> None:
    voxels = noise(dtype=np.uint16)
    files = series(voxels, RescaleSlope=1, RescaleIntercept=-1024)
    for file in files:
        file.BitsStored, file.HighBit = 12, 11
    save(tmp_path, files)
    got = only(tmp_path).channels[0].voxels
    assert got.dtype == np.int16
    np.testing.assert_array_equal(got, voxels.astype(int) - 1024)
    wide = series(noise(dtype=np.int16), RescaleSlope=1, RescaleIntercept=-1024)
    save(tmp_path, wide)
    assert only(tmp_path).channels[0].voxels.dtype == np.int16, "16 bits are declared, 12 are used"


def test_each_slice_of_a_pet_has_its_own_slope(tmp_path: Path) -> None:
    voxels = noise()
    files = series(voxels, modality="PT")
    slopes = 0.25 + 0.5 * np.arange(5)
    for file, slope in zip(files, slopes, strict=True):
        file.RescaleSlope, file.RescaleIntercept = slope, 0
    save(tmp_path, files)
    got = only(tmp_path).channels[0].voxels
    assert got.dtype == np.float32
    np.testing.assert_array_equal(got, voxels * slopes)


def test_meanings_of_numbers_that_cannot_be_kept_are_refused(tmp_path: Path) -> None:
    for name, value, reason in (
        ("RescaleSlope", 0, "slope is 0"),
        ("BitsStored", 17, "claims 17 bits stored of 16"),
        ("ModalityLUTSequence", [image()], "table"),
    ):
        files = series(noise())
        setattr(files[2], name, value)
        save(tmp_path, files)
        assert reason in refusal(tmp_path)
    files = series(noise())
    for file in files:  # as parametric maps have
        file.FloatPixelData = noise((7, 6), np.int16).astype(np.float32).tobytes()
        file.BitsAllocated = file.BitsStored = 32
        del file.PixelData
    save(tmp_path, files)
    assert "floating-point numbers (Float Pixel Data), which are not read" in refusal(tmp_path)
    files = series(noise(dtype=np.uint16))
    for file in files:
        file.BitsStored, file.HighBit = 6, 5
    with Quiet():
        save(tmp_path, files)
    assert only(tmp_path).channels[0].voxels.max() < 64, "bits that are not stored are no values"


@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless, JPEG2000Lossless], ids=lambda uid: uid.name)
def test_compressed_slices_are_decoded_to_the_bit(tmp_path: Path, syntax: str) -> None:
    if syntax == JPEG2000Lossless:
        pytest.importorskip("openjpeg")
    voxels = noise((64, 48, 3))
    files = series(voxels, RescaleSlope=1, RescaleIntercept=-5)
    for file in files:
        file.compress(syntax)
    save(tmp_path, files)
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels - 5)


@pytest.mark.parametrize("syntax", [None, RLELossless])
def test_grey_images_that_leave_out_what_they_are_are_read(tmp_path: Path, syntax: str | None) -> None:
    voxels = noise()
    files = series(voxels)
    for file in files:
        if syntax:
            file.compress(syntax)
        del file.SamplesPerPixel, file.PhotometricInterpretation
    save(tmp_path, files)
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels)


def _encapsulated(file: Dataset, stream: bytes, syntax: str) -> None:
    file.file_meta.TransferSyntaxUID = syntax
    file.PixelData = encapsulate([stream])
    file["PixelData"].VR = "OB"
    file["PixelData"].is_undefined_length = True


def _of_bits(bits: int) -> tuple[np.ndarray, list[Dataset]]:
    """Signed voxels and their images, of fewer bits than their words have, as CT is stored."""
    voxels = noise((64, 48, 3)) * 7 - 900
    files = series(voxels)
    for file in files:
        file.BitsStored, file.HighBit = bits, bits - 1
    return voxels, files


@pytest.mark.parametrize("bits", [12, 13, 16])
@pytest.mark.parametrize("syntax", [RLELossless, JPEGLSLossless], ids=lambda uid: uid.name)
def test_signed_values_of_fewer_bits_are_decoded_to_the_bit(tmp_path: Path, syntax: str, bits: int) -> None:
    """pydicom's iterator ends with an error where it mends their sign: `findings/signed_jpeg_ls_frame_by_frame.sh`."""
    voxels, files = _of_bits(bits)
    for file in files:
        file.compress(syntax)
    save(tmp_path, files)
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels)


def test_jpeg_2000_whose_stream_says_nothing_of_a_sign_is_decoded_to_the_bit(tmp_path: Path) -> None:
    imagecodecs = pytest.importorskip("imagecodecs")
    pytest.importorskip("openjpeg")
    voxels, files = _of_bits(12)
    for z, file in enumerate(files):
        stored = (voxels[:, :, z].T & 0xFFF).astype(np.uint16)
        stream = imagecodecs.jpeg2k_encode(stored, bitspersample=12, reversible=True, codecformat="j2k")
        _encapsulated(file, stream, JPEG2000Lossless)
    save(tmp_path, files)
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels)


@pytest.mark.parametrize("signed", [False, True])
def test_jpeg_of_twelve_bits_is_decoded(tmp_path: Path, signed: bool) -> None:
    """GDCM 3.2.6 and Pillow 12.3 decode 8 bits of JPEG Extended."""
    imagecodecs = pytest.importorskip("imagecodecs")
    x, y, z = np.indices((64, 48, 3))
    smooth = 400 * np.sin(x / 20) + 5 * y + 5 * z  # a loss blurs the jump of the stored bits at 0
    voxels = (smooth - 700).astype(np.int16) if signed else (smooth + 500).astype(np.uint16)
    files = series(voxels)
    for number, file in enumerate(files):
        file.BitsStored, file.HighBit = 12, 11
        stored = np.ascontiguousarray(voxels[:, :, number].T.astype(np.int32) & 0xFFF, np.uint16)
        _encapsulated(file, imagecodecs.jpeg8_encode(stored, level=100, bitspersample=12), JPEGExtended12Bit)
    save(tmp_path, files)
    assert np.abs(only(tmp_path).channels[0].voxels.astype(int) - voxels).max() <= 3


def test_jpeg_lossless_is_decoded_to_the_bit(tmp_path: Path) -> None:
    gdcm = pytest.importorskip("gdcm")
    voxels = noise((16, 12, 3))
    for path in save(tmp_path, series(voxels)):
        reader, change, writer = gdcm.ImageReader(), gdcm.ImageChangeTransferSyntax(), gdcm.ImageWriter()
        reader.SetFileName(str(path))
        assert reader.Read()
        change.SetTransferSyntax(gdcm.TransferSyntax(gdcm.TransferSyntax.JPEGLosslessProcess14_1))
        change.SetInput(reader.GetImage())
        assert change.Change()
        writer.SetFile(reader.GetFile())
        writer.SetImage(change.GetOutput())
        writer.SetFileName(str(path))
        assert writer.Write()
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels)


def test_a_compression_that_nothing_decodes_is_told_by_name(tmp_path: Path) -> None:
    files = series(noise())
    files[0].compress(RLELossless)
    files[0].file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.4.100"  # MPEG2
    with Quiet():
        save(tmp_path, files)
    assert "MPEG2" in refusal(tmp_path)


# --- damage


def test_claims_beyond_the_file_are_refused_before_anything_is_allocated(tmp_path: Path) -> None:
    files = series(noise())
    for file in files:
        file.Rows = file.Columns = 65535
    save(tmp_path, files)
    assert "claims 8,589,672,450 bytes" in refusal(tmp_path)
    broken = multi_frame(noise())
    broken.NumberOfFrames = 2**31 - 1
    shutil.rmtree(tmp_path)
    save(tmp_path, [broken])
    assert "the file has" in refusal(tmp_path)


def test_a_file_that_is_cut_short_fails_its_series_wherever_it_is_cut(tmp_path: Path) -> None:
    paths = save(tmp_path, series(noise()))
    content = paths[2].read_bytes()
    for kept in range(150, len(content), 97):
        paths[2].write_bytes(content[:kept])
        source = Dicom(tmp_path)
        for key in source.keys():  # noqa: SIM118 - a source is no dict
            with pytest.raises(VolsegError):
                source.load(key)


def test_a_damaged_file_is_a_case_that_fails_and_is_not_named(tmp_path: Path) -> None:
    voxels = noise()
    save(tmp_path, series(voxels))
    (tmp_path / "Lovelace.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"\x02\x00")
    source = Dicom(tmp_path)
    damaged, good = source.keys()
    assert damaged.startswith("damaged_")
    np.testing.assert_array_equal(source.load(good).channels[0].voxels, voxels)
    with pytest.raises(SourceError) as caught:
        source.digest(damaged)
    assert "Lovelace" not in str(caught.value)
    with pytest.raises(SourceError, match=r"Lovelace\.dcm"):
        Dicom(tmp_path, keep_ids=True).load(damaged)


def test_a_file_without_a_preamble_is_read(tmp_path: Path) -> None:
    voxels = noise()
    for path in save(tmp_path, series(voxels)):
        file = path.read_bytes()
        start = file.index(b"\x08\x00\x08\x00CS") if b"\x08\x00\x08\x00CS" in file else 0
        path.with_suffix("").write_bytes(file[start:])
        path.unlink()
    np.testing.assert_array_equal(only(tmp_path).channels[0].voxels, voxels)


def test_damaged_frames_never_reach_beyond_the_decoder(tmp_path: Path) -> None:
    """Flipped bytes abort some decoders; here they are a refusal or a picture, and the next file is read."""
    (file,) = series(noise((40, 40, 1)))
    file.compress(JPEGLSLossless)
    path = save(tmp_path, [file])[0]
    whole = path.read_bytes()
    with Frames() as frames:
        for seed in range(25):
            chance = random.Random(seed)
            broken = bytearray(whole)
            for _ in range(chance.choice([1, 5, 40])):
                broken[chance.randrange(len(whole) - 1500, len(whole))] = chance.randrange(256)
            path.write_bytes(broken)
            try:
                assert all(frame.shape == (40, 40) for frame in frames.read(path))
            except VolsegError:
                continue
        path.write_bytes(whole)
        assert len(list(frames.read(path))) == 1


@pytest.mark.skipif(os.name != "posix", reason="signals")
def test_a_decoder_that_dies_or_hangs_costs_one_file(tmp_path: Path) -> None:
    (file,) = series(noise((40, 40, 1)))
    file.compress(JPEGLSLossless)
    path = save(tmp_path, [file])[0]
    with Frames() as frames:
        for sent, seconds, reason in (
            (signal.SIGKILL, 60.0, "stopped the decoder"),
            (signal.SIGSTOP, 1.0, "took more than 1 s"),
        ):
            assert len(list(frames.read(path))) == 1
            frames._decoder.send_signal(sent)
            frames._seconds = seconds
            with pytest.raises(SourceError, match=reason):
                list(frames.read(path))
            frames._seconds = 60.0
        next(frames.read(path))
        assert len(list(frames.read(path))) == 1, "a file that was left in the middle does not disturb the next"


def test_pydicom_is_quiet_while_a_file_is_read_and_then_as_before() -> None:
    level, mode = logging.getLogger("pydicom").level, settings.reading_validation_mode
    with Quiet(), Quiet():
        assert not logging.getLogger("pydicom.anything").isEnabledFor(logging.ERROR)
        warnings.warn("patient", stacklevel=1)
    assert (logging.getLogger("pydicom").level, settings.reading_validation_mode) == (level, mode)
    with pytest.warns(UserWarning, match="heard"):
        warnings.warn("heard", stacklevel=1)


def test_malformed_files_are_values_or_refusals(tmp_path: Path) -> None:
    """Flipped, cut, zeroed and inflated bytes, in headers above all."""
    clean = tmp_path / "clean"
    save(clean, [*series(noise((9, 8, 3))), multi_frame(noise((9, 8, 3)), series="8")])
    for seed in range(40):
        chance = random.Random(seed)
        shutil.rmtree(tmp_path / "dirty", ignore_errors=True)
        shutil.copytree(clean, tmp_path / "dirty")
        path = chance.choice(sorted((tmp_path / "dirty").iterdir()))
        path.write_bytes(_damaged(path.read_bytes(), chance))
        try:
            source = Dicom(tmp_path / "dirty")
        except VolsegError:
            continue
        for key in source.keys():  # noqa: SIM118 - a source is no dict
            try:
                source.digest(key)
                source.load(key)
            except VolsegError:
                continue


def _damaged(content: bytes, chance: random.Random) -> bytes:
    broken = bytearray(content)
    at = chance.randrange(128, len(broken) - 8)
    match chance.randrange(5):
        case 0:
            del broken[at:]
        case 1:
            broken[at : at + 4] = chance.choice([b"\xff\xff\xff\xff", b"\xff\xff\xff\x7f", b"\0\0\0\x80"])
        case 2:
            broken[at : at + 100] = bytes(len(broken[at : at + 100]))
        case 3:
            broken[at:at] = chance.randbytes(7)
        case _:
            for _ in range(chance.choice([1, 4, 30])):
                broken[chance.randrange(128, len(broken))] = chance.randrange(256)
    return bytes(broken)


@pytest.mark.slow
def test_real_files_that_are_damaged_are_values_or_refusals(shared_data: Path, tmp_path: Path) -> None:
    for seed in range(60):
        chance = random.Random(seed)
        folder = ["hippocampus_dicom/Study1", "dicom_seg/24x38x3", "dicom_seg/23x38x3"][seed % 3]
        shutil.rmtree(tmp_path / "dirty", ignore_errors=True)
        shutil.copytree(shared_data / folder, tmp_path / "dirty")
        files = [path for path in sorted((tmp_path / "dirty").rglob("*")) if path.suffix in (".dcm", ".seg")]
        for path in chance.sample(files, min(3, len(files))):
            path.write_bytes(_damaged(path.read_bytes(), chance))
        try:
            source = Dicom(tmp_path / "dirty")
        except VolsegError:
            continue
        for key in source.keys():  # noqa: SIM118 - a source is no dict
            try:
                source.load(key)
            except VolsegError:
                continue


# --- who it is


def test_words_for_patients_cannot_be_read_and_stay_the_same(tmp_path: Path) -> None:
    save(tmp_path, series(noise()))
    case = only(tmp_path)
    assert PATIENT["PatientID"] not in repr((case.key, case.patient, case.session, case.source))
    save(tmp_path / "later", series(noise(seed=1), study="1.2.3.4", StudyDate="20240117"))
    other = {**PATIENT, "PatientID": "8", "PatientName": "Hopper^Grace"}
    save(tmp_path / "another", series(noise(seed=2), study="1.2.3.5", **other))
    source = Dicom(tmp_path)
    cases = [source.load(key) for key in source.keys()]  # noqa: SIM118 - a source is no dict
    assert case.key in {found.key for found in cases}
    grace = {found.patient for found in cases} - {case.patient}
    assert len(grace) == 1
    assert sorted(found.session for found in cases if found.patient == case.patient) == ["day0", "day14"]
    assert [found.session for found in cases if found.patient in grace] == ["day0"]
    assert not {case.key for case in cases} & set(Dicom(tmp_path, secret="of the hospital").keys())
    kept = Dicom(tmp_path, keep_ids=True)
    assert {kept.load(key).patient for key in kept.keys()} == {"MRN-4711", "8"}  # noqa: SIM118


def test_an_earlier_study_changes_the_digest_since_sessions_move(tmp_path: Path) -> None:
    save(tmp_path, series(noise()))
    source = Dicom(tmp_path)
    key = source.keys()[0]
    before = source.digest(key)
    assert Dicom(tmp_path).digest(key) == before
    save(tmp_path / "first", series(noise(seed=1), study="1.2.3.4", StudyDate="20231224"))
    source = Dicom(tmp_path)
    assert source.load(key).session == "day10"
    assert source.digest(key) != before


def test_a_pattern_of_keys_is_filled_in_or_refused(tmp_path: Path) -> None:
    save(tmp_path, series(noise()))
    assert only(tmp_path, key="{modality}_{number}").key == "CT_3"
    assert only(tmp_path, key="{patient_id}", keep_ids=True).key == "MRN-4711"
    for key, reason in (
        ("{patient_id}", "--keep-ids"),
        ("{name}", "there are patient, session"),
        ("{patient", "no pattern"),
        ("", "no file name"),
    ):
        assert reason in refusal(tmp_path, key=key)
    save(tmp_path / "more", series(noise(seed=1), series="2"))
    assert "several series the key CT" in refusal(tmp_path, key="{modality}")


def test_series_are_chosen_by_modality_and_description(tmp_path: Path) -> None:
    save(tmp_path / "ct", series(noise()))
    save(tmp_path / "mr", series(noise(seed=1), modality="MR", series="2", SeriesDescription="T2 axial"))
    assert "CT (1), MR (1); choose one with --modality" in refusal(tmp_path)
    assert "there is no PT series" in refusal(tmp_path, modality="PT")
    assert Dicom(tmp_path, modality="mr").channel_names == ("MR",)
    assert Dicom(tmp_path, series="^t2").channel_names == ("MR",)
    assert "matches the description of no series" in refusal(tmp_path, series="T1")
    assert "no regular expression" in refusal(tmp_path, series="(")


def test_images_without_uids_go_together_by_folder(tmp_path: Path) -> None:
    voxels = noise()
    files = series(voxels)
    for file in files:
        file.SeriesInstanceUID = file.StudyInstanceUID = file.SOPInstanceUID = file.SOPClassUID = file.PatientID = ""
        file.PatientName = ""
        file.PatientBirthDate = ""
    for count, file in enumerate(files):
        file.save_as(tmp_path / f"{count}.dcm")
    case = only(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)
    assert case.warnings == ("no patient ID, so the study counts as a patient",)


# --- straight to a prediction


def test_a_folder_of_dicom_is_a_list_of_inputs(tmp_path: Path) -> None:
    voxels, affine = noise(), grid()
    save(tmp_path / "a", series(voxels, affine))
    holes = series(noise((7, 6, 9), seed=1), series="2")
    save(tmp_path / "b", holes[:4] + holes[6:])
    cases = dict(find_inputs(tmp_path))
    with pytest.raises(UsageError, match="must be another folder than that of the images"):
        check_output(tmp_path, list(cases.items()), inputs=tmp_path)
    check_output(tmp_path / "out", list(cases.items()), inputs=tmp_path)
    assert set(cases) == set(Dicom(tmp_path).keys())
    refused, read = [], []
    for (file,) in cases.values():
        assert STUDY not in file.name
        try:
            read.append(read_image(file))
        except VolsegError as error:
            refused.append(str(error))
        else:
            shape, affine_ras = read_grid(file)
            assert shape == voxels.shape
            np.testing.assert_array_equal(affine_ras, read[-1].affine_ras)
    (volume,) = read
    np.testing.assert_array_equal(volume.voxels, voxels)
    assert "2 slices are absent" in refused[0]


def test_one_multi_frame_file_is_an_input(tmp_path: Path) -> None:
    voxels = noise()
    (path,) = save(tmp_path, [multi_frame(voxels)])
    ((_, (file,)),) = find_inputs(path)
    np.testing.assert_array_equal(read_image(file).voxels, voxels - 1024)
    save(tmp_path, [*series(noise()), *series(noise(), modality="MR", series="2")])
    with pytest.raises(UsageError, match="choose one with --modality"):
        find_inputs(tmp_path)


def test_scanning_names_what_refers_to_what(tmp_path: Path) -> None:
    save(tmp_path, series(noise()))
    index = scan(tmp_path)
    assert [len(found.instances) for found in index.series] == [5]
    assert index.series[0].uid == f"{STUDY}.1"

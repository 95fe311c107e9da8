"""Which files are one volume: scans under one UID, mosaics, copies, encodings, localizers, units."""

from __future__ import annotations

import zlib
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import imagecodecs
import numpy as np
import pytest
from dicom_series import grid, image, multi_frame, noise, place, save, series, square, structure_set
from pydicom import Dataset
from pydicom._uid_dict import UID_dictionary
from pydicom.encaps import encapsulate
from pydicom.uid import JPEGLSLossless, RLELossless, generate_uid
from siemens_mosaic import mosaic

from volseg.cohort import Case
from volseg.dicom import Dicom, read_stack, scan, write_dicom_seg, write_rtstruct
from volseg.dicom import place as to_slices
from volseg.dicom.file import Quiet
from volseg.dicom.syntaxes import remedy, syntax_name
from volseg.errors import VolsegError
from volseg.labels import LabelTable
from volseg.volume import Volume, ras_to_lps


def cases(folder: Path, **options: Any) -> list[Case]:
    source = Dicom(folder, **options)
    return [source.load(key) for key in source.keys()]  # noqa: SIM118 - a source is no dict


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(VolsegError) as caught:
        cases(folder, **options)
    return str(caught.value)


def acquired(files: list[Dataset], start: str, seconds: float = 2.0) -> list[Dataset]:
    """The images with times of acquisition, one after the other."""
    moment = datetime.strptime(start, "%Y%m%d %H%M%S")
    for count, file in enumerate(files):
        now = moment + timedelta(seconds=count * seconds)
        file.AcquisitionDate, file.AcquisitionTime = now.strftime("%Y%m%d"), now.strftime("%H%M%S.%f")
    return files


# --- scans under one UID


def two_scans(**second: Any) -> tuple[list[np.ndarray], list[Dataset]]:
    """Two scans of one series UID, the slices of the second in the middle between those of the first."""
    voxels = [noise(), noise(seed=1)]
    other = grid(origin=(-31.5, 12.25, -98.75))
    files = [*series(voxels[0]), *series(voxels[1], other, **second)]
    return voxels, files


@pytest.mark.parametrize("same_uids", [False, True])
def test_two_days_under_one_uid_are_two_volumes(tmp_path: Path, same_uids: bool) -> None:
    voxels, files = two_scans(StudyDate="20240110")
    if same_uids:
        for day0, day7 in zip(files[:5], files[5:], strict=True):
            day7.SOPInstanceUID = day7.file_meta.MediaStorageSOPInstanceUID = day0.SOPInstanceUID
    save(tmp_path, files)
    found = sorted(cases(tmp_path), key=lambda case: case.session)
    assert [case.session for case in found] == ["day0", "day7"]
    for case, expected in zip(found, voxels, strict=True):
        np.testing.assert_array_equal(case.channels[0].voxels, expected)
        assert any("2 scans use the UIDs" in warning for warning in case.warnings)
        assert "2024" not in repr((case.key, case.warnings, case.source))


def test_two_scans_of_one_study_date_are_told_apart_by_the_time_of_acquisition(tmp_path: Path) -> None:
    for folder, second, sessions in (
        ("week", "20240110 101500", ["day0", "day7"]),
        ("day", "20240103 170000", ["day0"] * 2),
    ):
        voxels, files = two_scans()
        save(tmp_path / folder, acquired(files[:5], "20240103 101500") + acquired(files[5:], second))
        found = sorted(cases(tmp_path / folder), key=lambda case: (case.session, case.channels[0].affine_ras[2, 3]))
        assert [case.session for case in found] == sessions
        for case, expected in zip(found, voxels, strict=True):
            np.testing.assert_array_equal(case.channels[0].voxels, expected)


def test_two_people_under_one_id_and_one_uid_are_two_volumes(tmp_path: Path) -> None:
    voxels, files = two_scans(PatientName="Hopper^Grace", PatientBirthDate="19061209")
    save(tmp_path, files)
    found = sorted(cases(tmp_path), key=lambda case: case.channels[0].affine_ras[2, 3])
    for case, expected in zip(found, voxels, strict=True):
        np.testing.assert_array_equal(case.channels[0].voxels, expected)


@pytest.mark.parametrize("element", ["SeriesDate", "SeriesTime", "StudyTime", "ContentDate"])
def test_two_scans_are_told_apart_by_any_date_or_time(tmp_path: Path, element: str) -> None:
    first, second = ("20240103", "20240110") if element.endswith("Date") else ("101500", "171500")
    voxels, files = two_scans()
    for file in files:
        setattr(file, element, first if file in files[:5] else second)
        del file.ImageType
    save(tmp_path, files)
    found = sorted(cases(tmp_path), key=lambda case: case.channels[0].affine_ras[2, 3])
    for case, expected in zip(found, voxels, strict=True):
        np.testing.assert_array_equal(case.channels[0].voxels, expected)


def test_two_scans_that_nothing_tells_apart_are_refused_by_their_numbers(tmp_path: Path) -> None:
    _, files = two_scans()
    save(tmp_path, files)
    assert "image numbers stand 2 times each, among each other in space" in refusal(tmp_path)
    voxels = noise((7, 6, 8))
    files = series(voxels, grid((7, 6, 8)))
    for count, file in enumerate(files):
        file.InstanceNumber = count % 4 + 1  # two slabs, one above the other
    save(tmp_path / "slabs", files)
    np.testing.assert_array_equal(cases(tmp_path / "slabs")[0].channels[0].voxels, voxels)


@pytest.mark.parametrize("make", [multi_frame, lambda voxels: mosaic(voxels.astype(np.uint16), grid())])
def test_two_days_of_objects_that_hold_whole_volumes_are_two_cases(tmp_path: Path, make: Any) -> None:
    voxels = [noise(seed=1), noise(seed=2)]
    objects = [make(volume) for volume in voxels]
    objects[1].StudyDate = "20240110"
    objects[1].SOPInstanceUID = objects[1].file_meta.MediaStorageSOPInstanceUID = objects[0].SOPInstanceUID
    save(tmp_path, objects)
    found = sorted(cases(tmp_path), key=lambda case: case.session)
    assert [case.session for case in found] == ["day0", "day7"]
    shift = 1024 if make is multi_frame else 0
    for case, expected in zip(found, voxels, strict=True):
        np.testing.assert_array_equal(case.channels[0].voxels, expected - shift)


@pytest.mark.parametrize("start", ["20240103 235955", "20240103 101500"])
def test_one_scan_stays_one_volume_past_midnight_and_in_two_passes(tmp_path: Path, start: str) -> None:
    """Odd slices after even ones; the clock passes midnight."""
    voxels = noise((7, 6, 8))
    files = series(voxels, grid((7, 6, 8)))
    acquired([*files[::2], *files[1::2]], start, seconds=120)
    save(tmp_path, files)
    (case,) = cases(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)
    assert case.warnings == ()


def test_parts_of_a_body_with_a_pause_between_stay_one_volume_with_a_warning(tmp_path: Path) -> None:
    voxels = noise((7, 6, 8))
    files = series(voxels, grid((7, 6, 8)))
    acquired(files[:4], "20240103 101500")
    acquired(files[4:], "20240103 141500")
    save(tmp_path, files)
    (case,) = cases(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)
    assert case.warnings == ("its images were acquired up to 4.0 hours apart",)


def test_dates_drawn_anew_for_each_file_take_no_series_apart(tmp_path: Path) -> None:
    voxels = noise()
    files = series(voxels)
    for day, file in enumerate(files):
        file.StudyDate = file.AcquisitionDate = f"202401{10 + 3 * day}"
    save(tmp_path, files)
    (case,) = cases(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)


def test_days_within_one_study_are_sessions(tmp_path: Path) -> None:
    """Days count by the acquisition, where a study has several; a study whose date was changed keeps its intervals."""
    for folder, study_date in (("kept", "20240103"), ("changed", "19000101")):
        for number, when in enumerate(("20240103 101500", "20240103 235900", "20240104 001000", "20240110 090000")):
            files = acquired(series(noise(seed=number), series=str(number), StudyDate=study_date), when)
            save(tmp_path / folder / str(number), files)
        assert sorted(case.session for case in cases(tmp_path / folder)) == ["day0", "day0", "day0", "day7"]


# --- mosaics


@pytest.mark.parametrize("sense", [1, -1])
@pytest.mark.parametrize("count", [4, 7, 9])
def test_a_mosaic_is_taken_apart_into_slices_where_they_lie(tmp_path: Path, sense: int, count: int) -> None:
    shape = (8, 6, count)
    voxels, affine = noise(shape, np.uint16), grid(shape, (2.0, 2.0, 3.3), (0.3, -0.2, 0.1))
    affine[:3, 2] *= sense
    save(tmp_path, [mosaic(voxels, affine)])
    (case,) = cases(tmp_path)
    got = case.channels[0]
    np.testing.assert_array_equal(got.voxels, voxels[:, :, ::sense])
    corner = ras_to_lps(got.affine_ras) @ [0, 0, 0 if sense > 0 else count - 1, 1]
    np.testing.assert_allclose(corner, affine[:, 3], atol=1e-5)
    assert case.warnings == ()


def test_a_mosaic_lies_where_dcm2niix_puts_it(tmp_path: Path) -> None:
    """Recorded from dcm2niix v1.0.20260724 of this very file; its rows run from the last one up."""
    shape = (8, 6, 7)
    save(tmp_path, [mosaic(noise(shape, np.uint16), grid(shape, (2.0, 2.0, 3.3), (0.3, -0.2, 0.1)))])
    (case,) = cases(tmp_path)
    np.testing.assert_allclose(case.channels[0].affine_ras, DCM2NIIX @ FLIP_ROWS, atol=2e-5)


def test_a_mosaic_lies_where_nibabel_puts_it(tmp_path: Path) -> None:
    with Quiet():  # its import warns
        from nibabel.nicom.dicomwrappers import MosaicWrapper

        shape = (8, 6, 7)
        dataset = mosaic(noise(shape, np.uint16), grid(shape, (2.0, 2.0, 3.3), (0.3, -0.2, 0.1)))
        peer = MosaicWrapper(dataset)
        save(tmp_path, [dataset])
        (case,) = cases(tmp_path)
        np.testing.assert_array_equal(case.channels[0].voxels, peer.get_data().swapaxes(0, 1))
        columns_first = peer.affine[:, [1, 0, 2, 3]]
        np.testing.assert_allclose(ras_to_lps(case.channels[0].affine_ras), columns_first, atol=1e-5)


DCM2NIIX = np.array(
    [
        [-1.9503406, -0.1956868, 0.6556088, 32.4784355],
        [-0.0739140, 1.9128501, 0.9557773, -21.8142509],
        [0.4367013, -0.5501917, 3.0897679, -97.2490387],
        [0, 0, 0, 1],
    ]
)
FLIP_ROWS = np.array([[1.0, 0, 0, 0], [0, -1, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1]])


def test_mosaics_that_cannot_be_taken_apart_are_refused_by_name(tmp_path: Path) -> None:
    def without_csa(dataset: Dataset) -> None:
        del dataset[0x0029, 0x1010]

    def without_private(dataset: Dataset) -> None:
        dataset.remove_private_tags()

    def other_count(dataset: Dataset) -> None:
        dataset[0x0019, 0x100A].value = 5

    def no_spacing(dataset: Dataset) -> None:
        del dataset.SpacingBetweenSlices

    def damaged(dataset: Dataset) -> None:
        dataset[0x0029, 0x1010].value = b"SV10\4\3\2\1" + b"\xff" * 40

    for change, reason in (
        (without_csa, "direction its slices follow"),
        (without_private, "how many slices it holds"),
        (other_count, "states 4 slices and 5"),
        (no_spacing, "without SpacingBetweenSlices"),
        (damaged, "(CSA) is damaged"),
    ):
        dataset = mosaic(noise((8, 6, 4), np.uint16), grid((8, 6, 4)))
        change(dataset)
        save(tmp_path, [dataset])
        told = refusal(tmp_path)
        assert reason in told, told
        assert "Siemens mosaic" in told
        assert "dcm2niix" in told


def test_no_object_is_written_for_a_mosaic_whose_slices_nothing_can_refer_to(tmp_path: Path) -> None:
    save(tmp_path, [mosaic(noise((8, 6, 4), np.uint16), grid((8, 6, 4)))])
    stack = read_stack(scan(tmp_path).series[0])
    target = to_slices(Volume(np.ones(stack.shape, np.uint8), stack.affine_ras), stack)
    for write in (write_dicom_seg, write_rtstruct):
        with pytest.raises(VolsegError, match="Siemens mosaic"):
            write(tmp_path / "out.dcm", target, LabelTable.exclusive(["liver"]))


def test_mosaics_of_several_times_or_b_values_are_several_volumes(tmp_path: Path) -> None:
    shape = (8, 6, 4)
    volumes = [noise(shape, np.uint16, seed=seed) for seed in range(3)]
    files = [
        mosaic(voxels, grid(shape), AcquisitionNumber=number + 1, AcquisitionTime=f"10150{number}")
        for number, voxels in enumerate(volumes)
    ]
    save(tmp_path, files)
    assert "AcquisitionNumber has 3 values at one place (--phase 1 to 3)" in refusal(tmp_path)
    (case,) = cases(tmp_path, phase="2")
    np.testing.assert_array_equal(case.channels[0].voxels, volumes[1])
    for file, value in zip(files, (0, 500, 1000), strict=True):
        file.private_block(0x0019, "SIEMENS MR HEADER").add_new(0x0C, "IS", str(value))
    save(tmp_path, files)
    (case,) = cases(tmp_path, b_value="1000")
    np.testing.assert_array_equal(case.channels[0].voxels, volumes[2])


# --- copies


@pytest.mark.parametrize(("syntax", "same_uid"), [(RLELossless, True), (JPEGLSLossless, False)])
def test_a_lossless_copy_beside_its_original_is_taken_once_and_told(
    tmp_path: Path, syntax: str, same_uid: bool
) -> None:
    voxels = noise((16, 12, 3))
    files = series(voxels, RescaleSlope=1, RescaleIntercept=-5)
    save(tmp_path / "a", files)
    for file in files:
        if not same_uid:
            file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = generate_uid()
        file.compress(syntax, generate_instance_uid=False)
        file.RescaleSlope = "1.0"
    save(tmp_path / "b", files)
    (case,) = cases(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels - 5)
    assert [warning.split()[0] for warning in case.warnings] == ["3"]


def test_a_lossless_copy_of_a_multi_frame_object_is_no_second_case(tmp_path: Path) -> None:
    whole = multi_frame(noise((16, 12, 3)))
    save(tmp_path / "a", [whole])
    whole.compress(RLELossless, generate_instance_uid=False)
    save(tmp_path / "b", [whole])
    (case,) = cases(tmp_path)
    assert case.warnings == ("1 files are copies of others",)


@pytest.mark.parametrize("whole", [True, False])
def test_a_copy_under_other_uids_is_no_second_case(tmp_path: Path, whole: bool) -> None:
    """A label that is drawn on the copy is one of the original."""
    voxels = noise((16, 12, 3))
    files = [multi_frame(voxels)] if whole else series(voxels)
    save(tmp_path / "a", files)
    for number, file in enumerate(files):
        file.SeriesInstanceUID = f"{file.StudyInstanceUID}.77"
        file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"{file.StudyInstanceUID}.77.{number}"
    save(tmp_path / "b", files)
    save(tmp_path / "RS", [structure_set(files, {"liver": [square(grid(), 1, 3, 2)]})])
    (case,) = cases(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels - 1024 * whole)
    assert case.label is not None
    assert any("stored twice" in warning for warning in case.warnings)


def test_equal_voxels_of_another_day_are_no_copy(tmp_path: Path) -> None:
    """Under one study UID, as a careless anonymiser leaves it."""
    files = series(noise())
    for day in ("20240101", "20240103"):
        for number, file in enumerate(files):
            file.StudyDate = day
            file.SeriesInstanceUID = f"{file.StudyInstanceUID}.{day}"
            file.SOPInstanceUID = file.file_meta.MediaStorageSOPInstanceUID = f"{file.SeriesInstanceUID}.{number}"
        save(tmp_path / day, files)
    assert sorted(case.session for case in cases(tmp_path)) == ["day0", "day2"]


def test_another_reconstruction_of_one_scan_is_a_case_of_its_own(tmp_path: Path) -> None:
    save(tmp_path / "a", series(noise()))
    save(tmp_path / "b", series(noise(seed=1), series="2"))
    assert len(cases(tmp_path)) == 2


def test_a_copy_with_a_loss_is_refused_with_the_cause(tmp_path: Path) -> None:
    files = series(noise())
    save(tmp_path / "a", files)
    for file in files:
        file.PixelData = bytes(reversed(file.PixelData))
        file.LossyImageCompression = "01"
    save(tmp_path / "b", files)
    assert "compressed with a loss; keep the original" in refusal(tmp_path)


def test_a_copy_in_another_place_is_no_copy(tmp_path: Path) -> None:
    files = series(noise())
    save(tmp_path / "a", files)
    files[1].ImagePositionPatient[0] = "-30.5"
    save(tmp_path / "b", files[1:2])
    assert "the same UID and other content" in refusal(tmp_path)


# --- transfer syntaxes


def encapsulated(folder: Path, files: list[Dataset], kind: str, encode: Any) -> None:
    """Write images in a transfer syntax; pydicom writes none that it does not know, so its UID is put in afterwards."""
    stand_in = "1.2.840.10008.1.2.4.201" if len(kind) == 9 else "1.2.840.10008.1.2.1.98"
    for file in files:
        content = encode(file.PixelData, np.frombuffer(file.PixelData, "<u2").reshape(file.Rows, file.Columns))
        file.PixelData = encapsulate([content + b"\0" * (len(content) % 2)])
        file["PixelData"].VR, file["PixelData"].is_undefined_length = "OB", True
        file.file_meta.TransferSyntaxUID = stand_in
    for path in save(folder, files):
        uid = f"1.2.840.10008.{kind}".encode().ljust(len(stand_in), b"\0")
        path.write_bytes(path.read_bytes().replace(stand_in.encode(), uid, 1))


@pytest.mark.parametrize(("kind", "bits"), [("1.2.1.98", 12), ("1.2.4.110", 12), ("1.2.4.110", 16), ("1.2.8.1", 16)])
def test_encodings_that_pydicom_does_not_decode_are_read_to_the_bit(tmp_path: Path, kind: str, bits: int) -> None:
    def deflate(content: bytes, _: np.ndarray) -> bytes:
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return stream.compress(content) + stream.flush()

    def jpeg_xl(_: bytes, pixels: np.ndarray) -> bytes:
        return imagecodecs.jpegxl_encode(pixels, lossless=True, bitspersample=bits)

    voxels = np.random.default_rng(1).integers(0, 2**bits, (16, 12, 3)).astype(np.uint16)
    files = series(voxels, RescaleSlope=1, RescaleIntercept=-1024)
    for file in files:
        file.BitsStored, file.HighBit = bits, bits - 1
    encode = {"1.2.1.98": lambda content, _: content, "1.2.4.110": jpeg_xl, "1.2.8.1": deflate}[kind]
    encapsulated(tmp_path, files, kind, encode)
    (case,) = cases(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels.astype(int) - 1024)


@pytest.mark.parametrize("kind", ["1.2.1.98", "1.2.4.110", "1.2.8.1"])
def test_damaged_streams_of_these_encodings_are_refused(tmp_path: Path, kind: str) -> None:
    files = series(noise((16, 12, 3), np.uint16))
    encapsulated(tmp_path, files, kind, lambda content, _: content[:100])
    assert any(word in refusal(tmp_path) for word in ("damaged", "a frame holds"))


def test_a_deflated_frame_that_inflates_without_end_is_refused(tmp_path: Path) -> None:
    def bomb(_: bytes, pixels: np.ndarray) -> bytes:
        stream = zlib.compressobj(wbits=-zlib.MAX_WBITS)
        return stream.compress(bytes(10_000_000)) + stream.flush()

    encapsulated(tmp_path, series(noise((16, 12, 3), np.uint16)), "1.2.8.1", bomb)
    assert "a frame holds 386 bytes, the header claims 384" in refusal(tmp_path)


def test_every_transfer_syntax_of_dicom_is_read_or_told_by_name_with_what_to_do() -> None:
    known = [uid for uid, facts in UID_dictionary.items() if facts[1] == "Transfer Syntax"]
    assert len(known) > 50
    for uid in (*known, *(f"1.2.840.10008.1.2.4.{number}" for number in (110, 111, 112)), "1.2.840.10008.1.2.8.1"):
        assert "unknown" not in syntax_name(uid)
        told = remedy(uid)
        assert not told or any(word in told for word in ("pip install", "export", "fetch", "write it anew")), uid
    unread = {uid for uid in known if remedy(uid) and "pip install" not in remedy(uid)}
    assert {"1.2.840.10008.1.2.4.94", "1.2.840.10008.1.2.4.102", "1.2.840.10008.1.2.4.52"} <= unread
    assert not {"1.2.840.10008.1.2", "1.2.840.10008.1.2.1", "1.2.840.10008.1.2.5"} & unread
    assert "damaged" in remedy("Lovelace^Ada")
    assert "Lovelace" not in syntax_name("Lovelace^Ada")


@pytest.mark.parametrize(
    ("kind", "reason"),
    [
        ("1.2.4.102", "it is a video"),
        ("1.2.4.204", "stay on a server (JPIP)"),
        ("1.2.4.92", "write it anew without compression"),
        ("1.2.4.999", "transfer syntax 1.2.840.10008.1.2.4.999"),
    ],
)
def test_an_unreadable_transfer_syntax_is_named_with_its_cure(tmp_path: Path, kind: str, reason: str) -> None:
    files = series(noise((16, 12, 3), np.uint16))
    encapsulated(tmp_path, files, kind, lambda content, _: content)
    told = refusal(tmp_path)
    assert reason in told
    assert "damaged" not in told


# --- localizers


def directions(count: int) -> Dataset:
    """A multi-frame object whose frames look in three directions in turn."""
    whole = multi_frame(noise((6, 6, count)), grid((6, 6, count)))
    del whole.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    for number, frame in enumerate(whole.PerFrameFunctionalGroupsSequence):
        orientation, turned = Dataset(), Dataset()
        place(turned, grid((6, 6, count), angles=[(0, 0, 0), (np.pi / 2, 0, 0), (0, np.pi / 2, 0)][number % 3]), 0)
        orientation.ImageOrientationPatient = turned.ImageOrientationPatient
        frame.PlaneOrientationSequence = [orientation]
    return whole


def by_image_type() -> Dataset:
    return multi_frame(noise(), ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"])


def by_frame_type() -> Dataset:
    whole, kind = multi_frame(noise()), Dataset()
    kind.FrameType = ["ORIGINAL", "PRIMARY", "LOCALIZER", "NONE"]
    whole.SharedFunctionalGroupsSequence[0].MRImageFrameTypeSequence = [kind]
    return whole


@pytest.mark.parametrize("localizer", [by_image_type, by_frame_type, lambda: directions(9)])
def test_an_enhanced_localizer_is_left_aside(tmp_path: Path, localizer: Any, caplog: pytest.LogCaptureFixture) -> None:
    voxels = noise(seed=5)
    scout = localizer()
    scout.SeriesInstanceUID = scout.SeriesInstanceUID + ".7"
    save(tmp_path, [*series(voxels), scout])
    with caplog.at_level("INFO"):
        (case,) = cases(tmp_path)
    np.testing.assert_array_equal(case.channels[0].voxels, voxels)
    assert "localizers" in caplog.text


# --- units


def test_units_of_pet_are_told_and_a_mix_within_a_series_is_refused(tmp_path: Path) -> None:
    files = series(noise(), modality="PT", Units="BQML")
    save(tmp_path, files)
    (case,) = cases(tmp_path)
    assert case.units == "BQML"
    files[2].Units = "CNTS"
    save(tmp_path, files)
    assert "several units, BQML and CNTS" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("elements", "expected"), [({}, "HU"), ({"RescaleType": "HU"}, "HU"), ({"RescaleType": "US"}, "US")]
)
def test_ct_is_in_hounsfield_units_unless_it_says_otherwise(tmp_path: Path, elements: Any, expected: str) -> None:
    save(tmp_path, series(noise(), **elements))
    (case,) = cases(tmp_path)
    assert case.units == expected


def test_a_series_that_nii2dcm_made_of_a_nifti_file_is_told_to_lie_elsewhere(
    tmp_path: Path,
) -> None:
    """nii2dcm 0.1.1 writes the affine's position with the signs of NIfTI, one slice down, and turns the third axis."""
    for name, told in (("nii2dcm_DICOM", True), ("DCM4CHE_5_33", False)):
        files = series(noise())
        for file in files:
            file.file_meta.ImplementationVersionName = name
        save(tmp_path / name, files)
        (found,) = scan(tmp_path / name).series
        assert any("made of a NIfTI file by nii2dcm" in warning for warning in read_stack(found).warnings) == told


def test_an_image_alone_is_still_no_volume(tmp_path: Path) -> None:
    save(
        tmp_path,
        [*series(noise()), *series(noise((7, 6, 1)), series="6"), image("SR", SOPClassUID="1.2.3", series="8")],
    )
    assert len(cases(tmp_path)) == 1

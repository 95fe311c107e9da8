"""Multi-frame objects of several stacks, with odd or absent functional groups: the right volume, or one plain line."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pydicom
import pytest
from dicom_series import grid, multi_frame, noise, save, series
from pydicom import Dataset
from pydicom.uid import EnhancedMRImageStorage

from volseg.dicom import Choice, Dicom, list_series, place, read_listed, read_stack, scan, write_dicom_seg
from volseg.errors import VolsegError
from volseg.labels import LabelTable
from volseg.volume import Volume

FAR = grid(origin=(-31.5, 12.25, -40.0))
TILTED = grid(angles=(0.0, 1.2, 0.0))
COARSE = grid(spacing=(1.6, 1.8, 2.5))


def stacks(volumes: Sequence[tuple[np.ndarray, np.ndarray]], stated: Sequence[dict[str, Any]]) -> Dataset:
    """An enhanced MR of several volumes, each with its grid in its frames, and with a FrameContentSequence."""
    parts = [multi_frame(voxels, affine) for voxels, affine in volumes]
    frames = []
    for part, content in zip(parts, stated, strict=True):
        shared, told = part.SharedFunctionalGroupsSequence[0], Dataset()
        for name, value in content.items():
            setattr(told, name, value)
        for frame in part.PerFrameFunctionalGroupsSequence:
            for name in ("PlaneOrientationSequence", "PixelMeasuresSequence"):
                setattr(frame, name, copy.deepcopy(shared[name].value))
            frame.FrameContentSequence = [copy.deepcopy(told)]
            frames.append(frame)
    whole = parts[0]
    whole.Modality = "MR"
    whole.SOPClassUID = whole.file_meta.MediaStorageSOPClassUID = EnhancedMRImageStorage
    del whole.SharedFunctionalGroupsSequence[0].PlaneOrientationSequence
    del whole.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    whole.PerFrameFunctionalGroupsSequence, whole.NumberOfFrames = frames, len(frames)
    whole.PixelData = b"".join(part.PixelData for part in parts)
    return whole


def voxels_of(folder: Path, **options: Any) -> np.ndarray:
    source = Dicom(folder, **options)
    (key,) = source.keys()
    return np.asarray(source.load(key).channels[0].voxels)


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(VolsegError) as caught:
        voxels_of(folder, **options)
    assert "\n" not in caught.value.message
    return caught.value.message


@pytest.mark.parametrize("affine", [FAR, TILTED, COARSE, grid()], ids=["apart", "tilted", "coarser", "same"])
def test_a_stack_is_chosen_wherever_the_others_lie(tmp_path: Path, affine: np.ndarray) -> None:
    """It was "19 slices are absent; copy the series again", or a localizer whatever was chosen."""
    first, second = noise(), noise(seed=1)
    save(tmp_path, [stacks([(first, grid()), (second, affine)], [{"StackID": "1"}, {"StackID": "2"}])])
    told = refusal(tmp_path)
    assert "--where StackID=" in told
    assert "copy" not in told
    np.testing.assert_array_equal(voxels_of(tmp_path, where=["StackID=1"]), first - 1024)
    np.testing.assert_array_equal(voxels_of(tmp_path, where=["StackID=2"]), second - 1024)


def test_stacks_of_several_points_in_time_are_chosen_by_both(tmp_path: Path) -> None:
    volumes = [noise(seed=seed) for seed in range(4)]
    stated = [{"StackID": str(stack), "TemporalPositionIndex": time} for stack in (1, 2) for time in (1, 2)]
    affines = [grid(), grid(), TILTED, TILTED]
    save(tmp_path, [stacks(list(zip(volumes, affines, strict=True)), stated)])
    assert "--phase 1 to 2" in refusal(tmp_path, where=["StackID=2"])
    np.testing.assert_array_equal(voxels_of(tmp_path, where=["StackID=2"], phase="2"), volumes[3] - 1024)
    np.testing.assert_array_equal(voxels_of(tmp_path, where=["StackID=1"], phase="1"), volumes[0] - 1024)


def test_a_stack_is_chosen_for_a_prediction_and_as_a_channel_too(tmp_path: Path) -> None:
    first, second = noise(), noise(seed=1)
    save(tmp_path, [stacks([(first, grid()), (second, TILTED)], [{"StackID": "1"}, {"StackID": "2"}])])
    (listed,) = list_series(tmp_path, choice=Choice.of(where=["StackID=2"]))
    np.testing.assert_array_equal(read_listed(listed).voxels, second - 1024)


def test_frames_of_several_directions_without_stacks_are_still_localizers(tmp_path: Path) -> None:
    save(tmp_path / "scout", [stacks([(noise(), grid()), (noise(), TILTED)], [{}, {}])])
    told = refusal(tmp_path / "scout", where=["StackID=1"])
    assert "look in several directions, as localizers do" in told
    save(tmp_path / "both", [stacks([(noise(), grid()), (noise(), TILTED)], [{}, {}])], "scout{}.dcm".format)
    save(tmp_path / "both", series(noise(), modality="MR", series="7"))
    np.testing.assert_array_equal(voxels_of(tmp_path / "both"), noise())


def test_absent_slices_of_a_single_stack_are_told_as_that(tmp_path: Path) -> None:
    save(tmp_path, [stacks([(noise(), grid()), (noise(seed=1), FAR)], [{"StackID": "1"}, {"StackID": "1"}])])
    assert "19 slices are absent" in refusal(tmp_path)


def test_single_images_of_two_directions_are_chosen_by_what_differs(tmp_path: Path) -> None:
    axial, other = noise(), noise(seed=1)
    files = [
        *series(axial, modality="MR", InversionTime=100),
        *series(other, TILTED, modality="MR", InversionTime=900),
    ]
    save(tmp_path, files)
    assert "InversionTime is 100, 900" in refusal(tmp_path)
    np.testing.assert_array_equal(voxels_of(tmp_path, where=["InversionTime=900"]), other)


def test_a_stack_of_one_frame_has_its_own_thickness(tmp_path: Path) -> None:
    one = noise((7, 6, 1))
    thick = grid(angles=(0.0, 1.2, 0.0), spacing=(0.8, 0.9, 7.0))
    save(tmp_path, [stacks([(noise(), grid()), (one, thick)], [{"StackID": "1"}, {"StackID": "2"}])])
    source = Dicom(tmp_path, where=["StackID=2"])
    (key,) = source.keys()
    volume = source.load(key).channels[0]
    np.testing.assert_allclose(np.linalg.norm(volume.affine_ras[:3, :3], axis=0), [0.8, 0.9, 7.0], atol=1e-6)


# --- functional groups


def rescaled(made: Dataset) -> None:
    for number, frame in enumerate(made.PerFrameFunctionalGroupsSequence):
        meaning = Dataset()
        meaning.RescaleSlope, meaning.RescaleIntercept, meaning.RescaleType = 1 + number / 10, -number, "HU"
        frame.PixelValueTransformationSequence = [meaning]


def empty_sequences(made: Dataset) -> None:
    for frame in made.PerFrameFunctionalGroupsSequence:
        frame.PlaneOrientationSequence = []


def private_group(made: Dataset) -> None:
    for frame in made.PerFrameFunctionalGroupsSequence:
        inner = Dataset()
        inner.ImagePositionPatient, inner.RescaleSlope = [1, 2, 3], 9
        frame.private_block(0x2005, "Philips MR Imaging DD 005", create=True).add_new(0x0E, "SQ", [inner])


def without_thickness(made: Dataset) -> None:
    del made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SliceThickness


def negative_distance(made: Dataset) -> None:
    made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].SpacingBetweenSlices = -2.5


@pytest.mark.parametrize("change", [rescaled, empty_sequences, private_group, without_thickness, negative_distance])
def test_odd_groups_change_nothing_and_each_frame_has_its_own_slope(
    tmp_path: Path, change: Callable[[Dataset], None]
) -> None:
    voxels, made = noise(), multi_frame(noise())
    change(made)
    save(tmp_path, [made])
    expected: np.ndarray = voxels - 1024
    if change is rescaled:  # frames are stored from the last slice to the first
        number = np.arange(5)[::-1]
        expected = voxels * (1 + number / 10) - number
    np.testing.assert_allclose(voxels_of(tmp_path), expected, rtol=1e-6)
    source = Dicom(tmp_path)
    affine = source.load(source.keys()[0]).channels[0].affine_ras
    np.testing.assert_allclose(np.linalg.norm(affine[:3, :3], axis=0), [0.8, 0.9, 2.5], atol=1e-6)


def lost_position(made: Dataset) -> None:
    made.PerFrameFunctionalGroupsSequence[2].PlanePositionSequence = [Dataset()]


def shared_twice(made: Dataset) -> None:
    made.SharedFunctionalGroupsSequence.append(Dataset())


def mirrored_frame(made: Dataset) -> None:
    way = Dataset()
    way.ImageOrientationPatient = [-1, 0, 0, 0, 1, 0]
    made.PerFrameFunctionalGroupsSequence[2].PlaneOrientationSequence = [way]


def no_pixel_spacing(made: Dataset) -> None:
    del made.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing


def other_units(made: Dataset) -> None:
    meaning = Dataset()
    meaning.RescaleSlope, meaning.RescaleIntercept, meaning.RescaleType = 1, 0, "US"
    made.PerFrameFunctionalGroupsSequence[2].PixelValueTransformationSequence = [meaning]


@pytest.mark.parametrize(
    ("change", "told"),
    [
        (lost_position, "ImagePositionPatient is absent"),
        (shared_twice, "what its frames share is stated 2 times, expected once"),
        (mirrored_frame, "the slices have 2 orientations"),
        (no_pixel_spacing, "PixelSpacing is absent"),
        (other_units, "in several units, HU and US"),
    ],
)
def test_damaged_groups_are_one_line(tmp_path: Path, change: Callable[[Dataset], None], told: str) -> None:
    made = multi_frame(noise())
    change(made)
    save(tmp_path, [made])
    source = Dicom(tmp_path)
    with pytest.raises(VolsegError, match=told) as caught:
        source.load(source.keys()[0])
    assert "\n" not in str(caught.value)


@pytest.mark.parametrize("shared", [False, True])
def test_one_frame_is_a_slice_with_the_thickness_it_states(tmp_path: Path, shared: bool) -> None:
    voxels = noise((7, 6, 1))
    made = multi_frame(voxels)
    if shared:
        (frame,) = made.PerFrameFunctionalGroupsSequence
        made.SharedFunctionalGroupsSequence[0].PlanePositionSequence = frame.PlanePositionSequence
        del frame.PlanePositionSequence, made.NumberOfFrames
    save(tmp_path, [made])
    np.testing.assert_array_equal(voxels_of(tmp_path), voxels - 1024)


@pytest.mark.parametrize("affine", [FAR, TILTED, grid()], ids=["apart", "tilted", "same"])
@pytest.mark.parametrize("stack", ["1", "2"])
def test_a_segmentation_of_one_stack_refers_to_its_frames_and_no_others(
    tmp_path: Path, affine: np.ndarray, stack: str
) -> None:
    """It was refused ("PixelMeasuresSequence, AttributeError"): highdicom takes one of all frames of an object only."""
    pytest.importorskip("highdicom")
    source = stacks([(noise(), grid()), (noise(seed=1), affine)], [{"StackID": "1"}, {"StackID": "2"}])
    save(tmp_path, [source])
    choice = Choice.of(where=[f"StackID={stack}"])
    read = read_stack(scan(tmp_path, choices=[choice]).series[0], choice=choice)
    label = np.random.default_rng(3).integers(0, 4, read.shape).astype(np.uint8)
    table = LabelTable.overlapping(["colon", "liver"])
    write_dicom_seg(tmp_path / "out.dcm", place(Volume(label, read.affine_ras), read), table)
    described = source.PerFrameFunctionalGroupsSequence
    for frame in pydicom.dcmread(tmp_path / "out.dcm").PerFrameFunctionalGroupsSequence:
        (image,) = frame.DerivationImageSequence[0].SourceImageSequence
        drawn_on = described[image.ReferencedFrameNumber - 1]
        assert (image.ReferencedSOPInstanceUID, drawn_on.FrameContentSequence[0].StackID) == (
            source.SOPInstanceUID,
            stack,
        )
        where = [one.PlanePositionSequence[0].ImagePositionPatient for one in (drawn_on, frame)]
        np.testing.assert_allclose(where[0], where[1], atol=1e-3)
    again = Dicom(tmp_path, where=[f"StackID={stack}"], labels=["colon,liver"])
    case = again.load(again.keys()[0])
    np.testing.assert_array_equal(case.label.voxels, label)

"""Several volumes in one series, and several series of one study as the channels of a case."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from command import told
from dicom_series import STUDY, grid, multi_frame, noise, save, series, square, structure_set
from pydicom import Dataset

from volseg.cohort import Case, Cohort, inspect_cohort, write_cohort
from volseg.dicom import Dicom
from volseg.errors import UsageError, VolsegError
from volseg.inference import find_inputs, read_grid, read_image, read_images
from volseg.jobs.job import input_digest
from volseg.volume import Grid, Volume, resampled


def cases(folder: Path, **options: Any) -> list[Case]:
    source = Dicom(folder, **options)
    return [source.load(key) for key in source.keys()]  # noqa: SIM118 - a source is no dict


def refusal(folder: Path, **options: Any) -> str:
    with pytest.raises(VolsegError) as caught:
        cases(folder, **options)
    return str(caught.value)


def voxels_of(folder: Path, **options: Any) -> np.ndarray:
    (case,) = cases(folder, **options)
    return case.channels[0].voxels


# --- several volumes in one series


def several(folder: Path, elements: list[dict[str, Any]], **common: Any) -> list[np.ndarray]:
    """Volumes on one grid in one MR series, each with its elements."""
    volumes = [noise(seed=seed) for seed in range(len(elements))]
    files = [
        file
        for volume, stated in zip(volumes, elements, strict=True)
        for file in series(volume, modality="MR", **common, **stated)
    ]
    save(folder, files)
    return volumes


def test_echoes_are_told_and_chosen_by_number_or_time(tmp_path: Path) -> None:
    volumes = several(tmp_path, [{"EchoTime": "4.6", "EchoNumbers": 1}, {"EchoTime": "9.2", "EchoNumbers": 2}])
    assert "10 images lie at 5 places" in refusal(tmp_path)
    assert "EchoTime is 4.6, 9.2 ms (--echo 1 to 2)" in refusal(tmp_path)
    np.testing.assert_array_equal(voxels_of(tmp_path, echo="2"), volumes[1])
    np.testing.assert_array_equal(voxels_of(tmp_path, echo="4.6ms"), volumes[0])
    assert "there is no echo 3 (--echo); there are the echoes 1, 2" in refusal(tmp_path, echo="3")
    assert "no image has the EchoTime 5ms (--echo); there are the values 4.6, 9.2" in refusal(tmp_path, echo="5ms")


def test_echoes_that_have_one_number_count_by_their_time(tmp_path: Path) -> None:
    volumes = several(tmp_path, [{"EchoTime": "9.2", "EchoNumbers": 1}, {"EchoTime": "4.6", "EchoNumbers": 1}])
    np.testing.assert_array_equal(voxels_of(tmp_path, echo="1"), volumes[1])


@pytest.mark.parametrize(
    ("element", "one", "other", "shown", "asked"),
    [
        ("ScanningSequence", "SE", "GR", "is GR, SE", "gr"),
        ("ScanningSequence", ["GR", "SE"], ["GR", "IR"], r"is GR\IR, GR\SE", r"GR\IR"),
        ("InversionTimes", [100.0, 200.0], [150.0, 300.0], r"is 100\200, 150\300", r"150\300"),
        ("ConvolutionKernel", ["Br40d", "3"], ["Bl57d", "3"], "differs", r"Bl57d\3"),  # no code, so it is not told
    ],
)
def test_codes_are_told_and_several_values_are_chosen_as_dicom_writes_them(
    tmp_path: Path, element: str, one: Any, other: Any, shown: str, asked: str
) -> None:
    volumes = several(tmp_path, [{element: one}, {element: other}])
    assert f"{element} {shown} (--where {element}=VALUE)" in refusal(tmp_path)
    np.testing.assert_array_equal(voxels_of(tmp_path, where=[f"{element}={asked}"]), volumes[1])
    there = f"there are the values {shown[3:]}" if shown.startswith("is") else "others are there"
    assert refusal(tmp_path, where=[f"{element}=XX"]).endswith(there)


@pytest.mark.parametrize("element", ["PatientID", "StudyDate"])
def test_nothing_of_the_patient_is_told_of_what_was_asked_for(tmp_path: Path, element: str) -> None:
    several(tmp_path, [{element: "20240103"}])
    assert refusal(tmp_path, where=[f"{element}=5"]).endswith(
        f"no image has the {element} 5 (--where); others are there"
    )


def test_a_choice_is_what_every_series_must_have(tmp_path: Path) -> None:
    several(tmp_path, [{"EchoTime": "4.6", "EchoNumbers": 1}])
    voxels_of(tmp_path, echo="1", phase="1")
    assert "there is no echo 2" in refusal(tmp_path, echo="2")
    assert "there is no phase 2 (--phase); the series has one" in refusal(tmp_path, phase="2")
    assert "states no DiffusionBValue, so --b-value 800 chooses nothing" in refusal(tmp_path, b_value="800")


@pytest.mark.parametrize("vendor", ["standard", "SIEMENS MR HEADER", "GEMS_PARM_01", "Philips Imaging DD 001", "name"])
def test_b_values_of_the_standard_and_of_each_vendor(tmp_path: Path, vendor: str) -> None:
    volumes = [noise(seed=seed) for seed in range(3)]
    files = []
    for volume, value in zip(volumes, (0, 500, 1000), strict=True):
        for file in series(volume, modality="MR"):
            if vendor == "standard":
                file.DiffusionBValue = float(value)
            elif vendor == "name":
                file.SequenceName = f"*ep_b{value}t"
            else:
                group, element, kind = {
                    "SIEMENS MR HEADER": (0x0019, 0x0C, "IS"),
                    "GEMS_PARM_01": (0x0043, 0x39, "IS"),
                    "Philips Imaging DD 001": (0x2001, 0x03, "FL"),
                }[vendor]
                stored: Any = float(value) if kind == "FL" else str(value)
                stored = [str(1_000_000_000 + value), "8", "0", "0"] if vendor == "GEMS_PARM_01" else stored
                file.private_block(group, vendor, create=True).add_new(element, kind, stored)
            files.append(file)
    save(tmp_path, files)
    told = refusal(tmp_path)
    assert "DiffusionBValue is 0, 500, 1000 (--b-value VALUE)" in told
    np.testing.assert_array_equal(voxels_of(tmp_path, b_value="1000"), volumes[2])


def test_near_b_values_are_two_and_rounded_ones_are_one(tmp_path: Path) -> None:
    volumes = several(tmp_path, [{"DiffusionBValue": value} for value in (0.0, 5.0, 799.98)])
    for asked, volume in zip(("0", "5", "800"), volumes, strict=True):
        np.testing.assert_array_equal(voxels_of(tmp_path, b_value=asked), volume)
    assert "no image has the DiffusionBValue 700" in refusal(tmp_path, b_value="700")


def test_kinds_of_images_are_chosen_by_a_word_or_its_synonym(tmp_path: Path) -> None:
    kinds = ["IP", "OP", "W", "F"]
    volumes = several(tmp_path, [{"ImageType": ["DERIVED", "PRIMARY", kind]} for kind in kinds])
    told = refusal(tmp_path)
    assert "ImageType differs" in told
    assert "--image-type WORD" in told
    assert "IN_PHASE" in told
    for word, volume in zip(("IN_PHASE", "opposed*|opp*", "WATER", "f"), volumes, strict=True):
        np.testing.assert_array_equal(voxels_of(tmp_path, image_type=word), volume)
    assert "there are: DERIVED, F, FAT" in refusal(tmp_path, image_type="T2_MAP")


def test_phases_of_the_heart_are_numbered_in_time_though_each_slice_has_its_own_times(tmp_path: Path) -> None:
    volumes = [noise(seed=seed) for seed in range(3)]
    files = []
    for number, volume in enumerate(volumes):
        for z, file in enumerate(series(volume, modality="MR")):
            file.TriggerTime = str(40 * number + 3 * z)  # the beat was not the same for all slices
            files.append(file)
    save(tmp_path, files)
    assert "TriggerTime has 3 values at one place (--phase 1 to 3)" in refusal(tmp_path)
    for number, volume in enumerate(volumes, start=1):
        np.testing.assert_array_equal(voxels_of(tmp_path, phase=str(number)), volume)
    np.testing.assert_array_equal(voxels_of(tmp_path, phase="45ms"), volumes[1])
    assert "the series has 3" in refusal(tmp_path, phase="4")
    assert "runs from 0 to 80 ms in steps of 40" in refusal(tmp_path, phase="2s")


def test_shares_of_a_cycle_and_numbered_positions_in_time(tmp_path: Path) -> None:
    volumes = several(tmp_path / "a", [{"NominalPercentageOfCardiacPhase": float(share)} for share in (0, 40, 80)])
    np.testing.assert_array_equal(voxels_of(tmp_path / "a", phase="40%"), volumes[1])
    volumes = several(tmp_path / "b", [{"TemporalPositionIdentifier": number} for number in (2, 1)])
    np.testing.assert_array_equal(voxels_of(tmp_path / "b", phase="1"), volumes[1])
    assert "phases of the series have no share of a cycle" in refusal(tmp_path / "b", phase="40%")


def test_any_other_attribute_is_named_and_chosen_by_its_keyword(tmp_path: Path) -> None:
    volumes = several(tmp_path, [{"InversionTime": "700"}, {"InversionTime": "2500"}])
    assert "InversionTime is 700, 2500 (--where InversionTime=VALUE)" in refusal(tmp_path)
    np.testing.assert_array_equal(voxels_of(tmp_path, where=["InversionTime=2500"]), volumes[1])
    assert "no image has the InversionTime 900" in refusal(tmp_path, where=["InversionTime=900"])


def test_attributes_that_differ_together_are_told_together(tmp_path: Path) -> None:
    elements = [
        {"EchoTime": echo, "ImageType": ["ORIGINAL", "PRIMARY", kind]} for echo in ("4.6", "9.2") for kind in ("M", "P")
    ]
    volumes = several(tmp_path, elements)
    told = refusal(tmp_path)
    assert "EchoTime is 4.6, 9.2 ms (--echo 1 to 2) and ImageType differs" in told
    assert "ImageType differs, M/MAGNITUDE, P/PHASE" in refusal(tmp_path, echo="2")
    np.testing.assert_array_equal(voxels_of(tmp_path, echo="2", image_type="phase"), volumes[3])


def test_images_that_nothing_tells_apart_are_refused_as_that(tmp_path: Path) -> None:
    several(tmp_path, [{}, {}])
    assert "nothing in their headers tells them apart" in refusal(tmp_path)


def test_a_value_of_a_single_image_is_not_told(tmp_path: Path) -> None:
    files = [*series(noise(), modality="MR", EchoTime="4"), *series(noise(seed=1), modality="MR", EchoTime="9")]
    files[0].EchoTime = "18151210"
    save(tmp_path, files)
    assert "18151210" not in refusal(tmp_path)


def frames_of(volumes: list[np.ndarray], groups: list[Dataset]) -> Dataset:
    """A multi-frame object of several volumes, each with its own functional groups."""
    parts = [multi_frame(volume) for volume in volumes]
    whole = parts[0]
    frames = []
    for part, group in zip(parts, groups, strict=True):
        for frame in part.PerFrameFunctionalGroupsSequence:
            frame.update(group)
            frames.append(frame)
    whole.NumberOfFrames = len(frames)
    whole.PerFrameFunctionalGroupsSequence = frames
    whole.PixelData = b"".join(part.PixelData for part in parts)
    return whole


def group(sequence: str, **elements: Any) -> Dataset:
    frame, inner = Dataset(), Dataset()
    for name, value in elements.items():
        setattr(inner, name, value)
    setattr(frame, sequence, [inner])
    return frame


@pytest.mark.parametrize(
    ("sequence", "elements", "option", "told"),
    [
        ("MREchoSequence", [{"EffectiveEchoTime": 4.6}, {"EffectiveEchoTime": 9.2}], {"echo": "2"}, "--echo 1 to 2"),
        (
            "MRDiffusionSequence",
            [{"DiffusionBValue": 0.0}, {"DiffusionBValue": 800.0}],
            {"b_value": "800"},
            "--b-value",
        ),
        (
            "FrameContentSequence",
            [{"TemporalPositionIndex": 1}, {"TemporalPositionIndex": 2}],
            {"phase": "2"},
            "--phase",
        ),
        (
            "MRImageFrameTypeSequence",
            [{"ComplexImageComponent": "MAGNITUDE"}, {"ComplexImageComponent": "PHASE"}],
            {"image_type": "PHASE"},
            "--image-type",
        ),
        (
            "CardiacSynchronizationSequence",
            [{"NominalCardiacTriggerDelayTime": 10.0}, {"NominalCardiacTriggerDelayTime": 50.0}],
            {"phase": "50ms"},
            "--phase",
        ),
        (
            "UnassignedPerFrameConvertedAttributesSequence",
            [{"EchoTime": "4.6"}, {"EchoTime": "9.2"}],
            {"echo": "9.2ms"},
            "--echo",
        ),
    ],
)
def test_frames_of_a_multi_frame_object_are_chosen_alike(
    tmp_path: Path, sequence: str, elements: list[dict[str, Any]], option: dict[str, str], told: str
) -> None:
    volumes = [noise(), noise(seed=1)]
    save(tmp_path, [frames_of(volumes, [group(sequence, **stated) for stated in elements])])
    assert told in refusal(tmp_path)
    np.testing.assert_array_equal(voxels_of(tmp_path, **option), volumes[1] - 1024)


@pytest.mark.parametrize(
    ("option", "value"),
    [
        ("echo", "second"),
        ("echo", "0"),
        ("phase", "IN_PHASE"),
        ("b_value", "high"),
        ("where", ["EchoTime"]),
        ("where", ["x=1"]),
    ],
)
def test_choices_that_make_no_sense_are_refused(tmp_path: Path, option: str, value: Any) -> None:
    save(tmp_path, series(noise()))
    with pytest.raises(UsageError, match=r"must be (a number|KEYWORD=VALUE)"):
        Dicom(tmp_path, **{option: value})


def test_another_choice_converts_again(tmp_path: Path) -> None:
    volumes = several(tmp_path / "raw", [{"EchoTime": "4.6"}, {"EchoTime": "9.2"}])
    for echo in ("1", "2", "2"):
        done = write_cohort(Dicom(tmp_path / "raw", echo=echo), tmp_path / "cohort")
    assert len(done.finished_before) == 1
    write_cohort(Dicom(tmp_path / "raw", echo="1"), tmp_path / "cohort")
    opened = Cohort.open(tmp_path / "cohort")
    assert next(iter(opened.rows.values())).source == "MR series of 10 files, echo 1"
    assert len(volumes) == 2


# --- series as channels


def study(folder: Path, *, affine: np.ndarray | None = None, **elements: Any) -> dict[str, list[Dataset]]:
    """T1, T2 and diffusion of one study; T2 on another grid if one is given."""
    found = {
        "T1": series(noise(), modality="MR", series="1", SeriesDescription="AX T1 FSE", **elements),
        "T2": series(
            noise(seed=1), affine, modality="MR", series="2", SeriesNumber=4, SeriesDescription="AX T2 FSE", **elements
        ),
        "DWI": [
            file
            for value in (0, 800)
            for file in series(
                noise(seed=2 + value),
                modality="MR",
                series="3",
                SeriesNumber=5,
                SeriesDescription="ep2d",
                ProtocolName="ax_diffusion",
                DiffusionBValue=float(value),
                **elements,
            )
        ],
    }
    for name, files in found.items():
        save(folder / name, files)
    return found


CHANNELS = ["T1=*t1*,T2=*t2*", "b0=*diffusion@b-value=0, b800=*diffusion@b-value=800"]


def test_series_of_a_study_are_the_channels_of_one_case(tmp_path: Path) -> None:
    drawn = study(tmp_path / "raw")
    save(tmp_path / "raw" / "RS", [structure_set(drawn["T2"], {"liver": [square(grid(), 1, 3, 2)]})])
    source = Dicom(tmp_path / "raw", channels=CHANNELS)
    assert source.channel_names == ("T1", "T2", "b0", "b800")
    done = write_cohort(source, tmp_path / "cohort")
    assert len(done.written) == 1, done.failed
    opened = Cohort.open(tmp_path / "cohort")
    assert opened.channel_names == ("T1", "T2", "b0", "b800")
    (key,) = opened.keys
    assert key in opened.labelled, "the label follows, though it is drawn on another channel"
    assert [path.name[-11:] for path in opened.image_paths(key)] == [f"000{number}.nii.gz" for number in range(4)]
    assert inspect_cohort(opened).failed == {}
    case = source.load(key)
    for channel, seed in zip(case.channels, (0, 1, 2, 802), strict=True):
        np.testing.assert_array_equal(channel.voxels, noise(seed=seed))
    assert case.warnings == ()
    assert case.source.startswith(
        "T1 MR series of 5 files + T2 MR series of 5 files + b0 MR series of 10 files, b-value 0"
    )


def test_a_study_without_a_channel_or_with_two_is_a_refused_row(tmp_path: Path) -> None:
    study(tmp_path / "a")
    study(tmp_path / "b", study="1.2.3.4", PatientID="8")
    save(
        tmp_path / "a" / "again",
        series(noise(seed=9), modality="MR", series="9", SeriesNumber=9, SeriesDescription="T1"),
    )
    for file in (tmp_path / "b" / "T2").iterdir():
        file.unlink()
    save(tmp_path / "c", series(noise(), study="1.2.3.5", PatientID="9", SeriesDescription="chest"))
    source = Dicom(tmp_path, channels=["T1=*t1*,T2=*t2*"])
    told = []
    for key in source.keys():  # noqa: SIM118 - a source is no dict
        with pytest.raises(VolsegError) as caught:
            source.load(key)
        told.append(caught.value.message)
    assert len(told) == 2, "a study without any of the channels is left aside"
    assert any(
        "2 series of the study match T1 (--channels): number 3 of 5 files, number 9 of 5 files" in it for it in told
    )
    assert any("the study has no series for T2 (--channels); it has T1" in it for it in told)
    assert not any("FSE" in it for it in told)
    with pytest.raises(VolsegError, match="'AX T1 FSE'"):
        cases(tmp_path / "a", channels=["T1=*t1*,T2=*t2*"], keep_ids=True)


def test_channels_on_other_grids_are_refused_with_the_distance_or_resampled(tmp_path: Path) -> None:
    shifted = grid(origin=(-30.5, 12.25, -100.0))
    drawn = study(tmp_path, affine=shifted)
    save(tmp_path / "RS", [structure_set(drawn["T2"], {"liver": [square(shifted, 1, 3, 2)]})])
    options = {"channels": ["T1=*t1*,T2=*t2*"]}
    told = refusal(tmp_path, **options)
    assert "T2 does not lie on the voxels of T1" in told
    assert "mm" in told
    assert "--resample-channels" in told
    (case,) = cases(tmp_path, resample_channels=True, **options)
    expected, share = resampled(
        Volume(noise(seed=1), np.diag([-1, -1, 1, 1]) @ shifted),
        Grid(case.channels[0].shape, case.channels[0].affine_ras),
    )
    np.testing.assert_allclose(case.channels[1].voxels, expected.voxels, atol=1e-3)
    assert 0 < share < 1
    assert case.label is not None
    assert int((case.label.voxels > 0).sum()) == 9, "the nearest voxels of a square of 3 x 3"
    assert case.source.endswith("T2 MR series of 5 files, resampled")
    assert any("lie outside" in warning for warning in case.warnings)


def test_channels_of_other_frames_of_reference_are_refused_and_absent_ones_are_told(tmp_path: Path) -> None:
    found = study(tmp_path)
    for file in found["T2"]:
        file.FrameOfReferenceUID = "1.2.3.4"
    save(tmp_path / "T2", found["T2"])
    assert "another frame of reference than T1" in refusal(
        tmp_path, channels=["T1=*t1*,T2=*t2*"], resample_channels=True
    )
    for file in found["T2"]:
        file.FrameOfReferenceUID = ""
    save(tmp_path / "T2", found["T2"])
    (case,) = cases(tmp_path, channels=["T1=*t1*,T2=*t2*"])
    assert case.warnings == ("T2: no frame of reference tells that it lies where T1 does",)


def test_two_days_of_one_study_are_two_cases(tmp_path: Path) -> None:
    for day, name in (("20240103", "a"), ("20240110", "b")):
        found = study(tmp_path / name, AcquisitionDate=day, AcquisitionTime="101500")
        for number, files in enumerate(found.values()):
            for file in files:
                file.SeriesInstanceUID = f"{STUDY}.{name == 'b':d}.{number + 1}"
            save(tmp_path / name / str(number), files)
        for part in found:
            for file in (tmp_path / name / part).iterdir():
                file.unlink()
    found_cases = cases(tmp_path, channels=["T1=*t1*,T2=*t2*"])
    assert sorted(case.session for case in found_cases) == ["day0", "day7"]
    assert len({case.key for case in found_cases}) == 2


def test_modalities_may_be_channels(tmp_path: Path) -> None:
    save(tmp_path / "ct", series(noise()))
    save(tmp_path / "pet", series(noise(seed=1), modality="PT", series="2", Units="BQML", RescaleSlope="0.5"))
    (case,) = cases(tmp_path, channels=["CT=*@modality=CT,PET=@modality=PT"])
    np.testing.assert_array_equal(case.channels[1].voxels, 0.5 * noise(seed=1))
    assert case.units == "HU,BQML"


@pytest.mark.parametrize(
    ("channels", "reason"),
    [
        ("T1", "must be NAME=PATTERN"),
        ("T1=*t1*,t1=*t2*", "twice"),
        ("T1=*t1*@contrast=yes", "there are echo, phase"),
        ("T1=*flair*", "matches none of the 3 series"),
    ],
)
def test_channels_that_make_no_sense_are_refused(tmp_path: Path, channels: str, reason: str) -> None:
    study(tmp_path)
    with pytest.raises(UsageError, match=reason):
        Dicom(tmp_path, channels=[channels])


def test_one_series_for_two_channels_is_a_refused_row(tmp_path: Path) -> None:
    study(tmp_path)
    assert "one series is both T1 and T2" in refusal(tmp_path, channels=["T1=*t1*,T2=*t1*"])


def test_linear_resampling_keeps_a_linear_image_and_says_what_lies_outside() -> None:
    """A ramp is the same ramp on every grid; the oracle is the ramp."""
    rng = np.random.default_rng(0)
    for _ in range(5):
        old = Grid(
            (9, 8, 7), np.diag([-1, -1, 1, 1]) @ grid((9, 8, 7), (1.5, 1.2, 2), rng.uniform(-0.4, 0.4, 3), (0, 0, 0))
        )
        new = Grid(
            (6, 7, 8), np.diag([-1, -1, 1, 1]) @ grid((6, 7, 8), (1, 1.1, 1.3), rng.uniform(-0.4, 0.4, 3), (3, 2, 2))
        )
        slope = rng.normal(size=3)

        def ramp(where: Grid, slope: np.ndarray = slope) -> np.ndarray:
            index = np.stack(np.meshgrid(*map(np.arange, where.shape), indexing="ij"), axis=-1)
            return (index @ where.affine_ras[:3, :3].T + where.affine_ras[:3, 3]) @ slope

        found, share = resampled(Volume(ramp(old).astype(np.float32), old.affine_ras), new)
        index = np.stack(np.meshgrid(*map(np.arange, new.shape), indexing="ij"), axis=-1)
        matrix = np.linalg.inv(old.affine_ras) @ new.affine_ras
        at = index @ matrix[:3, :3].T + matrix[:3, 3]
        within = ((at >= 0) & (at <= np.array(old.shape) - 1)).all(axis=-1)
        assert within.any()
        np.testing.assert_allclose(found.voxels[within], ramp(new)[within], atol=1e-4)
        assert within.mean() <= share <= 1


# --- straight to a prediction, and by processes


def test_inputs_of_a_prediction_are_the_channels_of_the_conversion(tmp_path: Path) -> None:
    shifted = grid(origin=(-30.5, 12.25, -100.0))
    study(tmp_path, affine=shifted)
    channels = ["T1=*t1*,T2=*t2*,b800=*diffusion@b-value=800"]
    (case,) = cases(tmp_path, channels=channels, resample_channels=True)
    network = ["b800", "T1", "T2"]
    ((key, files),) = find_inputs(tmp_path, channels=network, given=channels, resample_channels=True)
    assert key == case.key
    for file, place in zip(files, (2, 0, 1), strict=True):
        np.testing.assert_array_equal(read_image(file).voxels, case.channels[place].voxels)
        assert read_grid(file)[0] == case.channels[0].shape
    ((_, files),) = find_inputs(tmp_path, channels=["T1", "T2"], given=["T1=*t1*,T2=*t2*"])
    with pytest.raises(VolsegError, match="T2 does not lie on the voxels of T1"):
        read_image(files[1])
    with pytest.raises(VolsegError, match="T2"):
        find_inputs(tmp_path, channels=["T1", "T2"], given=["T1=*t1*"])


def test_a_series_alone_is_no_case_of_a_network_of_several_channels(tmp_path: Path) -> None:
    """The cure was to name files KEY_0000, which a folder of DICOM does not have; each case failed twice with it."""
    study(tmp_path)
    for more in ({}, {"choice": {"where": ["Modality=MR"]}}):
        with pytest.raises(UsageError, match='with --channels "T1=PATTERN,T2=PATTERN" of `volseg predict`'):
            find_inputs(tmp_path, channels=["T1", "T2"], **more)
    listed = find_inputs(tmp_path, channels=1)[0][1]
    with pytest.raises(UsageError, match="a DICOM series is one channel, and the network takes 2"):
        read_images(listed, names=["T1", "T2"])  # as a watch folder has it


def test_the_volume_of_a_series_is_chosen_for_a_prediction(tmp_path: Path) -> None:
    volumes = several(tmp_path, [{"EchoTime": "4.6"}, {"EchoTime": "9.2"}])
    read, digests = [], set()
    for echo in ("1", "2"):
        ((_, files),) = find_inputs(tmp_path, choice={"echo": echo})
        read.append(read_image(files[0]).voxels)
        digests.add(input_digest(tuple(files)))
    np.testing.assert_array_equal(read, volumes)
    assert len(digests) == 2, "a former prediction of another echo is not taken for this one's"


def test_a_study_without_a_channel_is_a_failed_input(tmp_path: Path) -> None:
    study(tmp_path)
    ((_, files),) = find_inputs(tmp_path, channels=["T1", "PD"], given=["T1=*t1*,PD=*pd*"])
    with pytest.raises(VolsegError, match="the study has no series for PD"):
        read_image(files[0])


def test_the_command_converts_channels_over_processes_too(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    study(tmp_path / "raw")
    words = ["convert", "dicom", str(tmp_path / "raw"), str(tmp_path / "cohort"), "--channels", "T1=*t1*,T2=*t2*"]
    code, text = told(capsys, *words, "--journal", str(tmp_path / "journal.jsonl"), "--workers", "1")
    assert code == 0, text
    assert Cohort.open(tmp_path / "cohort").channel_names == ("T1", "T2")
    code, text = told(capsys, "convert", "dicom", str(tmp_path / "raw"), str(tmp_path / "again"), "--series", "ep2d")
    assert code == 1
    assert "(--b-value VALUE)" in text
    options = ["--series", "ep2d", "--b-value", "800"]
    assert told(capsys, "convert", "dicom", str(tmp_path / "raw"), str(tmp_path / "again"), *options)[0] == 0


# --- who it is


@pytest.mark.parametrize(
    ("second", "told"),
    [
        ({"PatientName": "Hopper^Grace"}, "2 names"),
        ({"PatientBirthDate": "19061209"}, "2 birth dates"),
        ({"PatientSex": "M"}, "2 sexes"),
        ({"StudyDate": "19640103"}, "studies 60 years apart"),
        ({"PatientName": "lovelace ada"}, ""),
        ({"PatientName": ""}, ""),
    ],
)
def test_one_id_for_several_people_is_warned_about(tmp_path: Path, second: dict[str, str], told: str) -> None:
    save(tmp_path / "raw" / "a", series(noise()))
    save(tmp_path / "raw" / "b", series(noise(seed=1), study="1.2.3.4", **second))
    write_cohort(Dicom(tmp_path / "raw"), tmp_path / "cohort")
    report = inspect_cohort(Cohort.open(tmp_path / "cohort"))
    warnings = [warning for warning in report.warnings if "patient ID" in warning]
    assert len(warnings) == bool(told)
    if told:
        assert told in warnings[0]
        assert "in 2 of 2 cases" in warnings[0]
        assert not any(word in warnings[0] for word in ("Lovelace", "Hopper", "MRN", "1906"))


@pytest.mark.parametrize(
    "people",
    [
        {"PatientID": "ANONYMOUS", "PatientName": "ANONYMOUS", "PatientBirthDate": "", "PatientSex": ""},
        {"PatientID": "", "PatientName": "Anon", "PatientBirthDate": "", "PatientSex": ""},
        {"PatientID": "0", "PatientName": "", "PatientBirthDate": "", "PatientSex": ""},
    ],
)
def test_a_word_that_stands_for_anybody_is_warned_about_where_it_has_several_studies(
    tmp_path: Path, people: dict[str, str]
) -> None:
    save(tmp_path / "a", series(noise(), **people))
    assert cases(tmp_path)[0].warnings == ()
    save(tmp_path / "b", series(noise(seed=1), study="1.2.3.4", **people))
    for case in cases(tmp_path):
        assert any("a word that stands for any patient" in warning for warning in case.warnings)
    apart = [case.key for case in cases(tmp_path, key="{study}_{series}")]
    assert len({key.partition("_")[0] for key in apart}) == 2, "what the warning says is a cure"


@pytest.mark.parametrize(
    ("others", "told"),
    [
        ([{"PatientID": "mrn-4711"}], 2),
        ([{"PatientID": "4711", "PatientName": "LOVELACE ADA"}], 2),
        ([{"PatientID": "4711", "PatientBirthDate": "19061209"}], 0),
        ([{"PatientID": "4711", "PatientName": "Hopper^Grace"}], 0),
        ([{"PatientID": str(number)} for number in range(4)], 0),  # an anonymiser's one name and date for everybody
    ],
)
def test_one_person_under_two_ids_is_warned_about(tmp_path: Path, others: list[dict[str, str]], told: int) -> None:
    save(tmp_path / "a", series(noise()))
    for number, other in enumerate(others):
        save(tmp_path / f"b{number}", series(noise(seed=1), study=f"1.2.3.{number}", **other))
    warned = [case for case in cases(tmp_path) if "same name and birth date" in " ".join(case.warnings)]
    assert len(warned) == told


def test_one_study_under_two_ids_is_warned_about(tmp_path: Path) -> None:
    save(tmp_path / "a", series(noise()))
    save(tmp_path / "b", series(noise(seed=1), series="2", PatientID="8"))
    for case in cases(tmp_path):
        assert any("one study stands under several patient IDs" in warning for warning in case.warnings)


def test_a_mix_of_units_is_warned_about_by_check(tmp_path: Path) -> None:
    for number, units in enumerate(("BQML", "CNTS", "BQML")):
        files = series(noise(seed=number), modality="PT", series=str(number), Units=units)
        save(tmp_path / "raw" / str(number), files)
    write_cohort(Dicom(tmp_path / "raw"), tmp_path / "cohort")
    opened = Cohort.open(tmp_path / "cohort")
    assert sorted(row.units for row in opened.rows.values()) == ["BQML", "BQML", "CNTS"]
    (warning,) = [warning for warning in inspect_cohort(opened).warnings if "several units" in warning]
    assert "Bq/ml (BQML) in 2 cases" in warning
    assert "counts (CNTS) in 1 cases" in warning

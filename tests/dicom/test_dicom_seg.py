"""DICOM SEG: written so that others read the same voxels, read so that what others wrote is not moved; and whose it is
stays between the archive and its objects."""

from __future__ import annotations

import gzip
import logging
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import (
    PATIENT,
    STUDY,
    grid,
    image,
    multi_frame,
    noise,
    save,
    series,
    set_pixels,
    square,
    structure_set,
)
from pydicom import Dataset

from volseg.cli import main
from volseg.cohort import Cohort
from volseg.dicom import Dicom, place, read_object_masks, read_stack, scan, segments, write_dicom_seg
from volseg.dicom.file import Quiet, read_header
from volseg.dicom.segments import read_segments, read_voxels
from volseg.errors import SourceError, UsageError
from volseg.labels import Code, LabelTable, Region
from volseg.volume import Volume, ras_to_lps, write_volume

TABLE = LabelTable(
    (
        Region("large_bowel", (1, 3), (230, 159, 0), Code("14742008", "Large intestine")),
        Region("stomach", (2, 3), (204, 121, 167), Code("69695003", "Stomach")),
        Region("never", (4,), (1, 2, 3), Code("85756007", "Tissue")),
    )
)
EXCLUSIVE = LabelTable(tuple(Region(r.name, (n,), r.colour, r.code) for n, r in enumerate(TABLE.regions, start=1)))


def labels_of(shape: tuple[int, ...] = (7, 6, 5), overlap: bool = True) -> np.ndarray:
    label = np.zeros(shape, np.uint8)
    label[1:4, 1:4, 1:4] = 1
    label[3:6, 3:6, 3:] = 2
    if overlap:
        label[3, 3, 3] = 3
    return label


def masks_of(path: Path, stack) -> dict[str, np.ndarray]:
    """Each segment's voxels, by name."""
    names = {roi.number: roi.name for roi in read_segments(read_header(path))}
    found = {name: np.zeros(stack.shape, bool) for name in names.values()}
    for number, index in read_voxels(path, names, stack.shape, stack.affine_ras):
        found[names[number]][index] = True
    return found


# --- writing


@pytest.mark.parametrize("multi", [False, True])
@pytest.mark.parametrize("overlap", [False, True])
def test_a_prediction_is_written_and_read_back_to_the_voxel(tmp_path: Path, multi: bool, overlap: bool) -> None:
    label, affine, table = labels_of(overlap=overlap), grid(angles=(0.2, -0.1, 0.4)), TABLE if overlap else EXCLUSIVE
    save(tmp_path / "images", [multi_frame(noise(), affine)] if multi else series(noise(), affine))
    stack = read_stack(scan(tmp_path / "images").series[0])
    flipped = stack.affine_ras @ [[1, 0, 0, 0], [0, -1, 0, 5], [0, 0, 1, 0], [0, 0, 0, 1]]
    write_dicom_seg(tmp_path / "images/out.dcm", place(Volume(label[:, ::-1], flipped), stack), table)
    source = Dicom(tmp_path / "images", labels=["large_bowel,stomach"])
    case = source.load(source.keys()[0])
    assert case.warnings == ("the DICOM SEG is a prediction of volseg",)
    np.testing.assert_array_equal(source.labels.masks(case.label.voxels), table.masks(label)[:2])
    assert [(r.name, r.colour, r.code) for r in source.labels.regions] == [
        (r.name, r.colour, r.code) for r in table.regions[:2]
    ]


@pytest.mark.parametrize("thickness", [None, ""])
def test_a_series_that_states_no_thickness_carries_a_segmentation(tmp_path: Path, thickness: str | None) -> None:
    """It was refused ("SliceThickness, AttributeError"), though the distance of the slices is known."""
    images = series(noise(), modality="MR")
    for one in images:
        del one.SliceThickness
        if thickness is not None:
            one.SliceThickness = thickness
    save(tmp_path, images)
    stack = read_stack(scan(tmp_path).series[0])
    write_dicom_seg(tmp_path / "out.dcm", place(Volume(labels_of(), stack.affine_ras), stack), TABLE)
    (measures,) = pydicom.dcmread(tmp_path / "out.dcm").SharedFunctionalGroupsSequence[0].PixelMeasuresSequence
    assert (measures.SliceThickness, measures.SpacingBetweenSlices) == (2.5, 2.5)
    found = masks_of(tmp_path / "out.dcm", stack)
    for name, mask in zip(TABLE.names[:2], TABLE.masks(labels_of()), strict=False):
        np.testing.assert_array_equal(found[name], mask)


@pytest.mark.parametrize(("other", "told"), [("10200004", True), ("69695003", False), ("85756007", False)])
def test_segments_of_one_name_and_several_codes_are_told(tmp_path: Path, other: str, told: bool) -> None:
    """3D Slicer calls segments Segment_1, Segment_2; what they are, the code alone may say."""
    for number, code in enumerate(("69695003", other)):
        folder = tmp_path / f"p{number}"
        save(folder, series(noise(seed=number), study=f"{STUDY}.{number}", PatientID=f"P{number}"))
        stack = read_stack(scan(folder).series[0])
        table = LabelTable((Region("Segment_1", (1,), (1, 2, 3), Code(code, "a structure")),))
        write_dicom_seg(folder / "out.dcm", place(Volume(labels_of(overlap=False) % 2, stack.affine_ras), stack), table)
    found = [note for note in Dicom(tmp_path).warnings if "bear different codes" in note]
    assert [": Segment_1 (2 codes); if they are several structures" in note for note in found] == [True] * told


def test_segments_of_other_slices_stay_apart(tmp_path: Path) -> None:
    """Frames lie where they say: MONAI lays both on the same slices (`findings/segments_of_other_slices.sh`)."""
    label = np.zeros((7, 6, 5), np.uint8)
    label[1:4, 1:4, :2], label[1:4, 1:4, 3:] = 1, 2
    save(tmp_path, series(noise()))
    stack = read_stack(scan(tmp_path).series[0])
    write_dicom_seg(tmp_path / "out.dcm", place(Volume(label, stack.affine_ras), stack), TABLE)
    assert pydicom.dcmread(tmp_path / "out.dcm").NumberOfFrames == 2 + 2, "empty slices are left out"
    found = masks_of(tmp_path / "out.dcm", stack)
    for name, mask in zip(TABLE.names[:2], TABLE.masks(label), strict=False):
        np.testing.assert_array_equal(found[name], mask)


def test_highdicom_and_pydicom_read_the_same_voxels(tmp_path: Path) -> None:
    """Frames only where there is something, each at the place of its slice."""
    highdicom = pytest.importorskip("highdicom")
    label = labels_of()
    images = series(noise())
    save(tmp_path, images)
    stack = read_stack(scan(tmp_path).series[0])
    write_dicom_seg(tmp_path / "out.dcm", place(Volume(label, stack.affine_ras), stack), TABLE)
    with Quiet():
        got = highdicom.seg.segread(tmp_path / "out.dcm")
        uids = [item.SOPInstanceUID for item in images]
        pixels = got.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
    np.testing.assert_array_equal(pixels.transpose(3, 2, 1, 0).astype(bool), TABLE.masks(label)[:2])
    assert got.SegmentationType == "BINARY"
    plain = pydicom.dcmread(tmp_path / "out.dcm")
    frames = plain.pixel_array
    assert plain.NumberOfFrames == 3 + 2
    for frame, pixels in zip(plain.PerFrameFunctionalGroupsSequence, frames, strict=True):
        number = frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber
        depth = float(frame.PlanePositionSequence[0].ImagePositionPatient[2])
        z = [float(item.ImagePositionPatient[2]) for item in images].index(depth)
        np.testing.assert_array_equal(pixels.T.astype(bool), TABLE.masks(label)[number - 1, :, :, z])


def test_the_object_says_whose_it_is_and_what_it_was_drawn_on(tmp_path: Path) -> None:
    images = series(noise(), SpecificCharacterSet="")
    del images[2].PatientSex
    save(tmp_path, images)
    stack = read_stack(scan(tmp_path).series[0])
    write_dicom_seg(tmp_path / "out.dcm", place(Volume(labels_of(), stack.affine_ras), stack), TABLE)
    got = pydicom.dcmread(tmp_path / "out.dcm")
    assert (got.PatientName, got.PatientID, got.StudyInstanceUID) == (*list(PATIENT.values())[:2], STUDY)
    assert got.FrameOfReferenceUID == images[0].FrameOfReferenceUID
    (one,) = got.ReferencedSeriesSequence
    assert one.SeriesInstanceUID == images[0].SeriesInstanceUID
    assert {item.ReferencedSOPInstanceUID for item in one.ReferencedInstanceSequence} == {
        item.SOPInstanceUID for item in images
    }
    segments = got.SegmentSequence
    assert [segment.SegmentLabel for segment in segments] == ["large_bowel", "stomach"], "an empty region is left out"
    kind = segments[1].SegmentedPropertyTypeCodeSequence[0]
    assert (kind.CodeValue, kind.CodingSchemeDesignator, kind.CodeMeaning) == ("69695003", "SCT", "Stomach")
    assert segments[1].SegmentAlgorithmName == "volseg"


def test_a_series_that_cannot_carry_a_segmentation_is_told(tmp_path: Path) -> None:
    images = series(noise())
    for item in images:
        item.StudyInstanceUID = ""
    save(tmp_path, images)
    stack = read_stack(scan(tmp_path).series[0])
    with pytest.raises(SourceError, match="no StudyInstanceUID"):
        write_dicom_seg(tmp_path / "o.dcm", place(Volume(labels_of(), stack.affine_ras), stack), TABLE)


# --- reading


def test_real_segmentations_equal_their_twins(shared_data: Path) -> None:
    """Of dcmqi: overlapping, sparse, with frames that end within a byte, and as label maps."""
    nrrd = pytest.importorskip("nrrd")
    root = shared_data / "dicom_seg"
    compared = 0
    for name, images, twins in (
        ("23x38x3/seg/label.seg", "23x38x3/image", {"23x38x3/nrrd/label.nrrd": {1: "Liver"}}),
        ("24x38x3/seg/label.seg", "24x38x3/image", {"24x38x3/nrrd/label.nrrd": {1: "Liver"}}),
        ("liver.dcm", "ct-3slice", {"liver_seg.nrrd": {1: "Liver"}}),
        (
            "partial_overlaps.dcm",
            "ct-3slice",
            {
                "partial_overlaps-1.nrrd": {1: "GREEN", 4: "LIGHT_BLUE", 5: "DARK_BLUE"},
                "partial_overlaps-2.nrrd": {2: "ORANGE"},
                "partial_overlaps-3.nrrd": {3: "PURPLE"},
            },
        ),
        ("sparse-labelmap-noppv.dcm", "24x38x3/image", {"sparse_labelmap_noppv_seg.nrrd": {1: "Liver"}}),
        ("sparse-labelmap-ppv5.dcm", "24x38x3/image", {"sparse_labelmap_ppv5_seg.nrrd": {1: "Liver"}}),
    ):
        stack = read_stack(scan(root / images).series[0])
        masks = masks_of(root / name, stack)
        for twin, values in twins.items():
            voxels, header = nrrd.read(str(root / twin))
            np.testing.assert_allclose(header["space origin"], ras_to_lps(stack.affine_ras)[:3, 3], atol=1e-4)
            for value, segment in values.items():
                np.testing.assert_array_equal(masks[segment], voxels == value, err_msg=f"{name} {segment}")
                compared += 1
    assert compared == 10


def written(tmp_path: Path) -> tuple[Path, Dataset]:
    """A folder with a series and a SEG of one segment on it, and the SEG to be changed."""
    save(tmp_path, series(noise()))
    stack = read_stack(scan(tmp_path).series[0])
    write_dicom_seg(tmp_path / "out.dcm", place(Volume(labels_of(overlap=False), stack.affine_ras), stack), EXCLUSIVE)
    return tmp_path / "out.dcm", pydicom.dcmread(tmp_path / "out.dcm")


@pytest.mark.parametrize(
    ("change", "reason"),
    [
        (lambda seg: _move(seg, 0.4), "between the voxels"),
        (lambda seg: _move(seg, 100.0), "beyond the image"),
        (lambda seg: _measures(seg, 0.4), "another grid"),
        (lambda seg: seg.PerFrameFunctionalGroupsSequence.pop(), "frames are described"),
        (lambda seg: seg.PerFrameFunctionalGroupsSequence[0].__delattr__("PlanePositionSequence"), "where it lies"),
        (lambda seg: setattr(seg, "NumberOfFrames", 10**9), "bytes of pixels"),
        (lambda seg: setattr(seg, "PixelData", seg.PixelData[:6]), "damaged or cut short|bytes of pixels"),
    ],
)
def test_a_segmentation_that_does_not_fit_is_refused(tmp_path: Path, change, reason: str) -> None:
    path, seg = written(tmp_path)
    change(seg)
    seg.save_as(path)
    source = Dicom(tmp_path)
    with pytest.raises(SourceError, match=reason):
        source.load(source.keys()[0])


def _move(seg: Dataset, mm: float) -> None:
    for frame in seg.PerFrameFunctionalGroupsSequence:
        position = frame.PlanePositionSequence[0].ImagePositionPatient
        position[0] = float(position[0]) + mm


def _measures(seg: Dataset, mm: float) -> None:
    seg.SharedFunctionalGroupsSequence[0].PixelMeasuresSequence[0].PixelSpacing = [mm, mm]


def test_a_smaller_frame_lies_where_it_says(tmp_path: Path) -> None:
    """Cut to a corner and turned: the voxels of the object are still those of the image."""
    path, seg = written(tmp_path)
    affine = grid()
    picture = np.array([[1, 0, 1], [1, 1, 0]], np.uint8)  # 2 rows, 3 columns
    set_pixels(seg, np.stack([picture * 255] * seg.NumberOfFrames))
    seg.SegmentationType, seg.SegmentationFractionalType, seg.MaximumFractionalValue = "FRACTIONAL", "PROBABILITY", 255
    shared = seg.SharedFunctionalGroupsSequence[0]
    shared.PlaneOrientationSequence[0].ImageOrientationPatient = [0, 1, 0, -1, 0, 0]  # columns along Y, rows against X
    shared.PixelMeasuresSequence[0].PixelSpacing = [0.8, 0.9]
    for z, frame in enumerate(seg.PerFrameFunctionalGroupsSequence):
        frame.PlanePositionSequence[0].ImagePositionPatient = list((affine @ [4, 1, z, 1])[:3])
        frame.SegmentIdentificationSequence[0].ReferencedSegmentNumber = 1
    seg.save_as(path)
    masks = masks_of(path, read_stack(scan(tmp_path).series[0]))
    expected = np.zeros((7, 6), bool)
    expected[[4, 3], 1:4] = picture
    np.testing.assert_array_equal(masks["large_bowel"][:, :, 0], expected)
    set_pixels(seg, np.stack([picture * 127] * seg.NumberOfFrames))
    seg.save_as(path)
    assert not masks_of(path, read_stack(scan(tmp_path).series[0]))["large_bowel"].any(), "127 of 255 is less than half"
    source = Dicom(tmp_path)
    told = "large_bowel is drawn in fractions (FRACTIONAL), of which those from half of the maximum on were taken"
    case = source.load(source.keys()[0])
    assert told in case.warnings
    assert told in read_object_masks(path, case.channels[0].grid).notes


# --- the whole walk, and what it tells of the patient


WORDS = ("Lovelace", "MRN-4711", "18151210", "20240103", STUDY, "Kensington", "7c0ffee")


def run(*words: object) -> int:
    """The exit code of `volseg WORDS`."""
    with pytest.raises(SystemExit) as stop:
        main([str(word) for word in words])
    return int(stop.value.code or 0)


def walk(tmp_path: Path, *options: str) -> tuple[Path, Path]:
    """A tree whose folders and files are named after the patient, and a cohort of it."""
    root = tmp_path / "in"
    affine = grid((16, 14, 6))
    ct = series(noise((16, 14, 6)), affine, InstitutionName="Kensington", AccessionNumber="7c0ffee")
    rois = {
        "GTV": [square(affine, 2.6, 7.4, z) for z in (1, 2, 3)],
        "Cord": [square(affine, 5.6, 9.4, z) for z in (2, 3)],
    }
    save(root, [*ct, structure_set(ct, rois)], name="Lovelace Ada/MRN-4711_{}".format)
    gap = series(noise((16, 14, 8)), grid((16, 14, 8)), series="2")
    save(root, gap[:3] + gap[5:], name="Lovelace Ada/with a gap/{}".format)
    (root / "Lovelace Ada/Ada broken.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"Lovelace" * 10)
    odd = image("SR", series="9", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")
    save(root, [odd], name="Lovelace Ada/report{}".format)
    assert run("convert", "dicom", root, tmp_path / "cohort", *options) == 1
    return root, tmp_path / "cohort"


def test_no_output_names_the_patient(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    root, cohort = walk(tmp_path)
    opened = Cohort.open(cohort)
    (key,) = opened.keys
    assert opened.labels.names == ("Cord", "GTV")
    label = tmp_path / "predictions" / f"{key}.nii.gz"
    label.parent.mkdir()
    label.write_bytes(opened.label_path(key).read_bytes())
    (tmp_path / "predictions/dataset.json").write_bytes((opened.folder / "dataset.json").read_bytes())
    assert run("export", "slicer", label.parent, "-o", tmp_path / "slicer") == 0
    assert run("check", cohort) == 0
    for format_ in ("dicom-seg", "rtstruct"):
        assert run("export", format_, label.parent, "--dicom", root, "-o", tmp_path / "objects") == 0
    printed = capsys.readouterr()
    told = (printed.out + printed.err + caplog.text).replace(str(tmp_path), "")
    assert "2 slices are absent" in told
    assert "copy attributes" not in told, "highdicom tells of UIDs"
    assert "damaged" in told
    for word in WORDS:
        assert word not in told
        for folder in ("cohort", "slicer", "predictions", "objects"):
            for path in (tmp_path / folder).rglob("*"):
                assert word not in path.name
                if path.is_file() and folder != "objects":
                    content = path.read_bytes()
                    content = gzip.decompress(content) if path.suffix == ".gz" else content
                    assert word.encode() not in content, f"{word} in {path.name}"
    # The objects are for the archive: they carry the patient, or nobody could file them.
    objects = sorted((tmp_path / "objects").iterdir())
    assert [path.name for path in objects] == [f"{key}.rtstruct.dcm", f"{key}.seg.dcm"]
    assert all(pydicom.dcmread(path).PatientID == PATIENT["PatientID"] for path in objects)
    save(root / "back", [pydicom.dcmread(path) for path in objects[1:]])
    back = Dicom(root, labels=["GTV", "Cord"])
    assert back.labelled(key)


def test_identifiers_are_kept_where_that_is_asked_for(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    _, cohort = walk(tmp_path, "--keep-ids", "--labels", "GTV=tumour", "--key", "{patient_id}_{series}")
    opened = Cohort.open(cohort)
    (row,) = opened.rows.values()
    assert row.patient == "MRN-4711"
    assert row.key.startswith("MRN-4711_s")
    assert "Lovelace Ada" in row.source
    assert opened.labels.names == ("tumour",)
    assert "Ada broken.dcm" in capsys.readouterr().err


def test_options_of_dicom_are_refused_elsewhere(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    (tmp_path / "secret").write_text(" ")
    for words, reason in (
        (["uw_madison", "x", "y", "--modality", "CT"], "--modality is an option of dicom, not of uw_madison"),
        (["dicom", "x", "y", "--case", "a"], "--case is an option of uw_madison, not of dicom"),
        (["dicom", str(tmp_path / "nowhere"), "y"], "there is no folder"),
        (["dicom", str(tmp_path), "y", "--secret-file", str(tmp_path / "secret")], "is empty"),
        (["dicom", str(tmp_path), "y", "--secret-file", str(tmp_path / "absent")], "cannot be read"),
    ):
        assert run("convert", *words) == 2
        assert reason in capsys.readouterr().err


def test_a_secret_keys_the_words_at_both_ends(tmp_path: Path) -> None:
    (tmp_path / "secret").write_text("a long random text\n")
    images = series(noise())
    save(tmp_path / "in", images)
    secret = ("--secret-file", str(tmp_path / "secret"))
    assert run("convert", "dicom", tmp_path / "in", tmp_path / "cohort", *secret) == 0
    (key,) = Cohort.open(tmp_path / "cohort").keys
    assert [key] != Dicom(tmp_path / "in").keys()
    stack = read_stack(scan(tmp_path / "in").series[0])
    write_volume(tmp_path / f"predictions/{key}.nii.gz", Volume(labels_of(), stack.affine_ras))
    (tmp_path / "predictions/dataset.json").write_text('{"labels": {"a": [1, 3], "b": [2, 3]}}')
    words = ("export", "dicom-seg", tmp_path / "predictions", "--dicom", tmp_path / "in", "-o", tmp_path)
    assert run(*words) == 1
    assert run(*words, *secret) == 0
    assert (tmp_path / f"{key}.seg.dcm").is_file()


def test_without_highdicom_segments_are_read_and_writing_says_what_to_do(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As on Python 3.14, where `pip install volseg` leaves it out."""
    dataset = Dataset()
    item = Dataset()
    item.SegmentNumber, item.SegmentLabel, item.RecommendedDisplayCIELabValue = 1, "liver", [30000, 40000, 40000]
    dataset.SegmentSequence = [item]
    assert read_segments(dataset)[0].colour is not None
    monkeypatch.setattr(segments, "find_spec", lambda _: None)
    assert [(roi.name, roi.colour) for roi in read_segments(dataset)] == [("liver", None)]
    with pytest.raises(UsageError, match=r"pip install 'volseg\[seg\]'"):
        write_dicom_seg(tmp_path / "a.dcm", None, TABLE)  # type: ignore[arg-type]


def test_the_settings_of_pydicom_are_not_changed_anew_for_each_frame(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each change empties the caches of all loggers of the program, which took half of the time of a large object."""
    save(tmp_path / "images", series(noise()))
    stack = read_stack(scan(tmp_path / "images").series[0])
    write_dicom_seg(tmp_path / "images/out.dcm", place(Volume(labels_of(), stack.affine_ras), stack), TABLE)
    changed: list[int] = []
    logger = logging.getLogger("pydicom")
    monkeypatch.setattr(logger, "setLevel", changed.append)
    source = Dicom(tmp_path / "images")
    source.load(source.keys()[0])
    assert len(changed) < 100

"""Texts of DICOM files: names of regions however they are spelled, character sets, deflated files, values in UN."""

from __future__ import annotations

import time
import zlib
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import grid, noise, save, series, square, structure_set
from pydicom.dataelem import RawDataElement
from pydicom.tag import Tag

from volseg.dicom import Dicom, place, read_stack, scan, write_dicom_seg, write_rtstruct
from volseg.dicom.deflated import Inflating
from volseg.dicom.file import Quiet, items, read_header, series_of_numbers
from volseg.dicom.names import fold, parse_rules, region_of
from volseg.errors import LabelError, SourceError, UsageError
from volseg.labels import LabelTable
from volseg.volume import Volume

DEFLATED = "1.2.840.10008.1.2.1.99"


def _drawn(folder: Path, patient: str, names: list[str]) -> None:
    affine = grid()
    images = series(noise(), affine, study=f"1.2.3.{len(patient)}", PatientID=patient)
    outlines = {name: [square(affine, n, n + 1, 2)] for n, name in enumerate(names)}
    save(folder / patient, [*images, structure_set(images, outlines)])


def test_spellings_of_one_name_are_one_region_and_that_is_told(tmp_path: Path) -> None:
    for patient, name in (("a", "Heart"), ("bb", "heart"), ("ccc", "HEART"), ("dddd", "Heart "), ("eeeee", "He art")):
        _drawn(tmp_path, patient, [name])
    source = Dicom(tmp_path)
    assert source.labels.names == ("He art", "Heart")
    warned = [source.load(key).warnings for key in source.keys()]  # noqa: SIM118
    told = sorted(text for texts in warned for text in texts if "spell" in text)
    assert told == ["'HEART' is taken for Heart, as others spell it", "'heart' is taken for Heart, as others spell it"]


def test_two_regions_of_one_patient_that_differ_in_case_are_refused_with_the_cure(tmp_path: Path) -> None:
    _drawn(tmp_path, "a", ["Heart", "heart"])
    source = Dicom(tmp_path)
    with pytest.raises(LabelError, match='--labels "Heart=a,heart=b"'):
        source.load(source.keys()[0])
    apart = Dicom(tmp_path, labels=["Heart=a,heart=b"])
    assert apart.labels.names == ("a", "b")
    label = apart.load(apart.keys()[0]).label
    assert label is not None
    assert [int(mask.sum()) for mask in apart.labels.masks(label.voxels)] == [4, 4]
    assert Dicom(tmp_path, labels=["Heart=a,heart=a"]).labels.names == ("a",)


@pytest.mark.parametrize(
    ("rules", "name", "region"),
    [
        ("GTV [1]=x", "GTV [1]", "x"),
        ("GTV [1]=x", "GTV 1", None),
        ("GTV [1-3]=x", "GTV 2", None),
        ("[!a]=x", "b", None),
        ("GTV*=x,GTV 1=y", "GTV 1", "y"),
        ("GTV*=x,GTV 1=y", "gtv  1 ", "y"),
        ("gtv?1=x", "GTV 1", "x"),
        (r"GTV\*=x", "GTV*", "x"),
        (r"GTV\*=x", "GTV1", None),
        (r"PTV 60\,4=x", "PTV 60,4", "x"),
        (r"Lung\=L=x", "Lung=L", "x"),
        ("GRÖSSE=x", "Größe", "x"),
        ("größe=x", "Gro\u0308ße", "x"),
        ("Left Lung=x", "left_lung", "x"),
        ("L*g=x", "Left_Lung", "x"),
    ],
)
def test_rules_take_names_before_patterns_and_brackets_as_they_are(rules: str, name: str, region: str | None) -> None:
    assert region_of(name, parse_rules([rules])) == region


def test_rules_that_are_none_are_refused() -> None:
    for text in ("=x", "a=", "a=b=c", ","):
        with pytest.raises(UsageError, match="backslash"):
            parse_rules([text])
    assert fold("Lung_L") == fold(" lung  l")


# --- character sets

BYTES = {
    "GBK": "王^小东".encode("gbk"),
    "Shift JIS": "山田^ソ能表".encode("shift_jis"),
    "Latin-1": "Müller^Jörg".encode("latin-1"),
    "UTF-8": "王^小东=Groß".encode(),
    "ISO 2022": b"Yamada=" + "山田".encode("iso2022_jp") + b"^" + "太郎".encode("iso2022_jp"),
}


def _named(folder: Path, raw: bytes, charset: object) -> Path:
    """A series whose patient's name and study description are these bytes."""
    raw += b" " * (len(raw) % 2)
    with Quiet():
        paths = save(folder, series(noise(), **({} if charset is None else {"SpecificCharacterSet": charset})))
    for path in paths:
        with Quiet():
            dataset = pydicom.dcmread(path)
        for keyword, vr in (("PatientName", "PN"), ("StudyDescription", "LO")):
            tag = Tag(keyword)
            dataset._dict[tag] = RawDataElement(tag, vr, len(raw), raw, 0, is_implicit_VR=False, is_little_endian=True)
        with Quiet():
            dataset.save_as(path, enforce_file_format=True)
    return folder


def _exported(folder: Path, out: Path, region: str = "liver", meaning: str = "Liver") -> list[pydicom.Dataset]:
    stack = read_stack(scan(folder).series[0])
    target = place(Volume(np.ones(stack.shape, np.uint8), stack.affine_ras), stack)
    found = []
    for name, write in (("a.dcm", write_rtstruct), ("b.dcm", write_dicom_seg)):
        write(out / name, target, LabelTable.of({region: 1}, {"codes": {region: ["SCT", "10200004", meaning]}}))
        found.append(pydicom.dcmread(out / name))
    return found


@pytest.mark.parametrize("kind", sorted(BYTES))
@pytest.mark.parametrize("charset", [None, "", "ISO_IR 6"])
def test_texts_without_a_character_set_keep_their_bytes(tmp_path: Path, kind: str, charset: str | None) -> None:
    folder = _named(tmp_path / "in", BYTES[kind], charset)
    for got in _exported(folder, tmp_path):
        for keyword in ("PatientName", "StudyDescription"):
            assert got.get_item(keyword).value.rstrip(b" ") == BYTES[kind]
        assert "SpecificCharacterSet" not in got
    with pytest.raises(LabelError, match="not in ASCII, and the series states no character set"):
        _exported(folder, tmp_path, "Größe")
    with pytest.raises(LabelError, match="not in ASCII, and the series states no character set"):
        _exported(folder, tmp_path, meaning="Größe")


@pytest.mark.parametrize(
    ("charset", "raw", "text"),
    [
        ("GB18030", BYTES["GBK"], "王^小东"),
        ("ISO_IR 192", BYTES["UTF-8"], "王^小东=Groß"),
        ("ISO_IR 100", BYTES["Latin-1"], "Müller^Jörg"),
        (["", "ISO 2022 IR 87"], BYTES["ISO 2022"], "Yamada=山田^太郎"),
        ("ISO 2022 IR 87", BYTES["ISO 2022"], "Yamada=山田^太郎"),
    ],
)
def test_texts_of_a_stated_character_set_are_the_same_texts(
    tmp_path: Path, charset: object, raw: bytes, text: str
) -> None:
    for got in _exported(_named(tmp_path / "in", raw, charset), tmp_path, "Größe"):
        assert str(got.PatientName) == text
        assert got.SpecificCharacterSet == "ISO_IR 192"


@pytest.mark.parametrize("charset", ["ISO_IR 192", "ISO_IR 999"])
def test_texts_that_are_not_in_the_stated_character_set_are_refused(tmp_path: Path, charset: str) -> None:
    folder = _named(tmp_path / "in", BYTES["Latin-1"], charset)
    with pytest.raises(SourceError, match=r"PatientName, StudyDescription\) are not in the character set") as caught:
        _exported(folder, tmp_path)
    assert "ller" not in str(caught.value)


# --- deflated files and values in UN


def _deflate(path: Path) -> None:
    dataset = pydicom.dcmread(path)
    dataset.file_meta.TransferSyntaxUID = DEFLATED
    dataset.save_as(path, enforce_file_format=True)


def test_deflated_images_outlines_and_segmentations_are_read(tmp_path: Path) -> None:
    affine = grid()
    images = series(noise(), affine)
    paths = save(tmp_path / "in", [*images, structure_set(images, {"organ": [square(affine, 1, 3, 2)]})])
    stack = read_stack(scan(tmp_path / "in").series[0])
    mask = np.zeros(stack.shape, np.uint8)
    mask[2:4, 2:4, 1] = 1
    write_dicom_seg(
        tmp_path / "in/seg.dcm", place(Volume(mask, stack.affine_ras), stack), LabelTable.exclusive(["liver"])
    )
    for path in [*paths, tmp_path / "in/seg.dcm"]:
        _deflate(path)
    source = Dicom(tmp_path / "in")
    case = source.load(source.keys()[0])
    np.testing.assert_array_equal(case.channels[0].voxels, noise())
    assert case.label is not None
    sizes = {
        name: int(m.sum()) for name, m in zip(source.labels.names, source.labels.masks(case.label.voxels), strict=True)
    }
    assert sizes == {"liver": 4, "organ": 9}
    exported = _exported(tmp_path / "in", tmp_path)
    assert exported[0].PatientID == images[0].PatientID


def test_inflating_has_a_bound_and_reads_no_further_than_it_must(tmp_path: Path) -> None:
    packed = zlib.compressobj(9, zlib.DEFLATED, -15)
    path = tmp_path / "bomb"
    path.write_bytes(packed.compress(bytes(2**25)) + packed.flush())
    with path.open("rb") as file:
        stream = Inflating(b"head", file, limit=2**20)
        assert stream.read(8) == b"head\0\0\0\0"
        with pytest.raises(SourceError, match="holds more than 1 MiB"):
            stream.read()
    path.write_bytes(path.read_bytes()[:100])
    with path.open("rb") as file, pytest.raises(SourceError, match="has no end"):
        Inflating(b"", file).read()


def test_sequences_and_numbers_in_un_are_read(tmp_path: Path) -> None:
    """As archives write what they do not know: VR UN, items of Implicit VR."""
    affine = grid()
    images = series(noise(), affine)
    dataset = structure_set(images, {"organ": [square(affine, 1, 3, 2)]})
    dataset.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2"
    path = save(tmp_path, [dataset])[0]
    implicit = path.read_bytes()
    at = implicit.index(b"\x06\x30\x39\x00")
    value = pydicom.dcmread(path)
    raw = value.get_item(0x30060039)
    del at, raw
    explicit = pydicom.dcmread(path)
    content = _implicit_items(explicit, tmp_path)
    explicit.file_meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    tag = Tag("ROIContourSequence")
    explicit._dict[tag] = RawDataElement(
        tag, "UN", len(content), content, 0, is_implicit_VR=False, is_little_endian=True
    )
    explicit.save_as(path, enforce_file_format=True, implicit_vr=False, little_endian=True)
    header = read_header(path)
    contour = items(items(header, "ROIContourSequence")[0], "ContourSequence")[0]
    assert len(series_of_numbers(contour, "ContourData")) == 12


def _implicit_items(dataset: pydicom.Dataset, folder: Path) -> bytes:
    """The items of the outlines as Implicit VR has them."""
    alone = pydicom.Dataset()
    alone.ROIContourSequence = dataset.ROIContourSequence
    path = folder / "alone"
    alone.save_as(path, implicit_vr=True, little_endian=True)
    return path.read_bytes()[8:]


def test_thousands_of_names_typed_by_hand_are_found_at_once() -> None:
    names = [f"Structure {number} of the left side" for number in range(3000)]
    rules = [(name, name.upper()) for name in names]
    began = time.process_time()
    assert [region_of(name, rules) for name in names] == [name.upper() for name in names]
    assert time.process_time() - began < 5  # longer, if each name is compared with all rules


def test_a_backslash_in_the_name_of_a_region_is_a_slash(tmp_path: Path) -> None:
    """It separates values, so such a name is read as two, and no object that is written could hold it."""
    _drawn(tmp_path, "a", ["PTV\\60", "Heart"])
    assert Dicom(tmp_path).labels.names == ("Heart", "PTV/60")

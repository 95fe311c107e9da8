"""Damaged DICOM series: a volume is whole or a refusal that says what is absent; no message holds a value of a file."""

from __future__ import annotations

import logging
import random
import re
import warnings
from pathlib import Path

import numpy as np
import pydicom
import pytest
from dicom_series import grid, noise, save, series
from pydicom import Dataset
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
    generate_uid,
)

from volseg.deploy.watch.inbox import Inbox
from volseg.deploy.watch.item import items_of
from volseg.dicom import (
    Dicom,
    list_series,
    place,
    read_listed,
    read_stack,
    scan,
    write_dicom_seg,
    write_list,
    write_rtstruct,
)
from volseg.errors import VolsegError
from volseg.labels import LabelTable
from volseg.volume import Volume

# Values that stand in the headers of all files and must stand in no message.
PLANTED = {
    "PatientName": "Qlovelacex^Zadaxx",
    "PatientID": "QMRNX4711",
    "PatientBirthDate": "18151210",
    "PatientAddress": "Qstreetx",
    "OtherPatientNames": "Qbyronxx",
    "PatientComments": "Qcommentx",
    "InstitutionName": "Qhospitalx",
    "InstitutionAddress": "Qtownxx",
    "ReferringPhysicianName": "Qsomervillex",
    "PhysiciansOfRecord": "Qbabbagex",
    "OperatorsName": "Qoperatorx",
    "AccessionNumber": "QACCX99",
    "StudyID": "QSTUDYX7",
    "StudyDescription": "Qstudytextx",
    "SeriesDescription": "Qseriestextx",
    "ProtocolName": "Qprotocolx",
    "StationName": "Qstationx",
    "DeviceSerialNumber": "Qserialx",
    "MilitaryRank": "Qcountessx",
    "RequestingPhysician": "Qlacroixx",
}
SLICES = 6


# How the files are called, their transfer syntax, and how long the UID of their study is.
LAYOUTS = [
    ("{:03d}.dcm", ExplicitVRLittleEndian, 60),
    ("IM{:04d}", ImplicitVRLittleEndian, 24),
    ("I{:d}.IMA", ExplicitVRBigEndian, 41),
    ("{:08X}", DeflatedExplicitVRLittleEndian, 33),
]


def _write(folder: Path, layout: tuple[str, UID, int] = LAYOUTS[0]) -> tuple[np.ndarray, list[Path]]:
    name, syntax, length = layout
    voxels = noise((8, 7, SLICES))
    # The usual UID of a study in tests starts that of other objects.
    images = series(voxels, grid((8, 7, SLICES)), study=f"{generate_uid()[: length - 3]}1.7")
    for image in images:
        for keyword, value in PLANTED.items():
            setattr(image, keyword, value)
        person = Dataset()
        person.PatientID, person.ReferringPhysicianName = PLANTED["PatientID"], PLANTED["OtherPatientNames"]
        image.RequestAttributesSequence = image.OtherPatientIDsSequence = [person]
        image.add_new(0x00290010, "LO", "SIEMENS CSA HEADER")
        image.add_new(0x00291001, "UN", PLANTED["StudyDescription"].encode() + bytes(range(40)))
        image.file_meta.TransferSyntaxUID = syntax
        if syntax == ExplicitVRBigEndian:
            image.PixelData = np.frombuffer(image.PixelData, "<i2").astype(">i2").tobytes()
    return voxels, save(folder, images, name.format)


def _damage(content: bytes, chance: random.Random) -> tuple[bytes, bool]:
    """One fault somewhere in the header: cut, zeroed, flipped, inserted, a sector lost, or a length that takes in more.

    Also whether the file was cut, so that it is no slice any more. Of a deflated file all of it counts as the header.
    """
    end = max(content.rfind(tag) for tag in (b"\xe0\x7f\x10\x00", b"\x7f\xe0\x00\x10"))
    end = len(content) - 8 if end < 0 else end
    at = chance.randrange(end)
    kind = chance.randrange(7)
    if kind == 6:
        start = at // 512 * 512
        size = min(512, end - start)
        return content[:start] + bytes(size) + content[start + size :], False
    if kind in (0, 1):
        return content[:at], True
    if kind == 2:
        return content[:at] + b"\0" * min(64, end - at) + content[at + min(64, end - at) :], False
    if kind == 3:
        return content[:at] + bytes(chance.randrange(256) for _ in range(4)) + content[at + 4 :], False
    if kind == 4:
        return content[:at] + bytes([content[at] ^ (1 << chance.randrange(8))]) + content[at + 1 :], False
    return content[:at] + b"xx" + content[at:], False


WAYS = ("convert", "predict", "watch", "export")


def _messages(folder: Path, out: Path) -> tuple[dict[str, list[str]], dict[str, list[np.ndarray]]]:
    """All that is said of a folder, and the volumes that come out of it, by the way that they are read."""
    all_told: dict[str, list[str]] = {way: [] for way in WAYS}
    all_volumes: dict[str, list[np.ndarray]] = {way: [] for way in WAYS}
    told, volumes = all_told["convert"], all_volumes["convert"]

    def attempt(act: object) -> None:
        try:
            act()  # type: ignore[operator]
        except VolsegError as error:
            told.append(str(error))

    def convert() -> None:
        source = Dicom(folder)
        told.extend(source.keys())
        for key in source.keys():  # noqa: SIM118
            attempt(lambda key=key: keep(source.load(key)))

    def keep(case: object) -> None:
        told.extend(case.warnings)  # type: ignore[attr-defined]
        told.append(case.source)  # type: ignore[attr-defined]
        volumes.append(case.channels[0].voxels)  # type: ignore[attr-defined]

    def predict() -> None:
        for path in list_series(folder):
            attempt(lambda path=path: volumes.append(read_listed(path).voxels))

    def watch() -> None:
        time = iter(range(0, 1000, 100))
        inbox = Inbox(folder, settle_s=5, clock=lambda: next(time))
        inbox.look()
        for delivery in inbox.look():
            for item in items_of(delivery, root=folder):
                told.extend([item.key, item.error or "", item.aside or ""])
                if item.series is not None and item.error is None:
                    listed = write_list(out.parent, "watched", item.files)
                    attempt(lambda listed=listed: volumes.append(read_listed(listed).voxels))

    def export() -> None:
        for item in scan(folder).series:
            stack = read_stack(item)
            target = place(Volume(np.ones(stack.shape, np.uint8), stack.affine_ras), stack)
            attempt(lambda target=target: write_rtstruct(out, target, LabelTable.exclusive(["liver"])))
            attempt(lambda target=target: write_dicom_seg(out, target, LabelTable.exclusive(["liver"])))

    for way, act in zip(WAYS, (convert, predict, watch, export), strict=True):
        told, volumes = all_told[way], all_volumes[way]
        attempt(act)
    index = scan(folder)
    all_told["export"] += [*index.skipped, *index.unreadable.values()]
    return all_told, all_volumes


def _names_place(text: str, victim: int) -> bool:
    """Whether a message names the number and the position of a slice of the series, and that it is not there."""
    named = re.search(rf"image {victim + 1}\b", text) and f", {-100 + 2.5 * victim:g} mm (LPS)" in text
    return bool(named) and ("absent" in text or "cut short" in text)


def _check(
    folder: Path,
    seeds: range,
    caplog: pytest.LogCaptureFixture,
    tmp_path: Path,
    layout: tuple[str, UID, int] = LAYOUTS[0],
) -> None:
    voxels, paths = _write(folder, layout)
    whole = [path.read_bytes() for path in paths]
    assert len(PLANTED) == 20
    needles = [part for value in PLANTED.values() for part in value.replace("^", " ").split()]
    header = pydicom.dcmread(paths[0])
    needles += [str(header[name].value) for name in ("StudyInstanceUID", "SeriesInstanceUID", "FrameOfReferenceUID")]
    for seed in seeds:
        chance = random.Random(seed)
        victim = chance.choice([0, 0, 1, SLICES - 1, SLICES - 1])
        content, cut = _damage(whole[victim], chance)
        paths[victim].write_bytes(content)
        with warnings.catch_warnings(record=True) as warned, caplog.at_level(logging.DEBUG):
            warnings.simplefilter("always")
            told, volumes = _messages(folder, tmp_path / "out.dcm")
        texts = [text for of_way in told.values() for text in of_way]
        said = " ".join([*texts, caplog.text, *(str(item.message) for item in warned)]).replace(str(folder), "")
        assert [needle for needle in needles if needle.lower() in said.lower()] == [], (seed, said)
        for way in WAYS:
            assert all(got.shape == voxels.shape for got in volumes[way]), (seed, way, said)
            if way != "export":  # whoever gets no volume is told why; of a shortened stack, where its slice is absent
                assert volumes[way] or any(len(text) > 20 for text in told[way]), (seed, way)
            if cut:
                assert any(_names_place(text, victim) for text in told[way]), (seed, way, told[way])
        caplog.clear()
        paths[victim].write_bytes(whole[victim])


def test_a_writer_does_not_quote_what_a_reference_holds(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, capfd: pytest.CaptureFixture[str]
) -> None:
    images = series(noise((8, 7, SLICES)), grid((8, 7, SLICES)))
    paths = save(tmp_path / "in", images)
    uid = images[2].SOPInstanceUID
    paths[2].write_bytes(paths[2].read_bytes().replace(uid.encode(), f"{uid[:30]}<{uid[31:]}".encode()))
    (item,) = scan(tmp_path / "in").series
    stack = read_stack(item)
    target = place(Volume(np.ones(stack.shape, np.uint8), stack.affine_ras), stack)
    for write in (write_rtstruct, write_dicom_seg):
        write(tmp_path / "out.dcm", target, LabelTable.exclusive(["liver"]))  # a warning would be an error
        assert pydicom.dcmread(tmp_path / "out.dcm").Modality in ("RTSTRUCT", "SEG")
    assert caplog.text + "".join(capfd.readouterr()) == ""


@pytest.mark.parametrize("high", [16, 40, 65535])
def test_a_high_bit_outside_of_the_values_is_not_heeded(tmp_path: Path, high: int) -> None:
    voxels = noise((8, 7, SLICES))
    images = series(voxels, grid((8, 7, SLICES)))
    for image in images:
        image.HighBit = high
    save(tmp_path / "in", images)
    (path,) = list_series(tmp_path / "in")
    np.testing.assert_array_equal(read_listed(path).voxels, voxels)


@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout[1].name)
def test_a_damaged_series_is_whole_or_refused_and_nothing_of_it_is_told(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: tuple[str, UID, int]
) -> None:
    _check(tmp_path / "in", range(6), caplog, tmp_path, layout)


@pytest.mark.slow
@pytest.mark.parametrize("layout", LAYOUTS, ids=lambda layout: layout[1].name)
def test_two_hundred_damaged_series(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, layout: tuple[str, UID, int]
) -> None:
    _check(tmp_path / "in", range(1000, 1050), caplog, tmp_path, layout)


def test_a_sector_without_uid_and_place_is_a_lost_slice(tmp_path: Path) -> None:
    _, paths = _write(tmp_path / "in")
    header = pydicom.dcmread(paths[-1])
    for keyword in ("SeriesInstanceUID", "StudyInstanceUID", "ImagePositionPatient", "SeriesNumber", "InstanceNumber"):
        delattr(header, keyword)
    header.save_as(paths[-1])
    (path,) = list_series(tmp_path / "in")
    with pytest.raises(VolsegError, match=r"the stack is not whole: .* -87\.5 mm"):
        read_listed(path)

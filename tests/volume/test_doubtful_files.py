"""Files that other programs read and that are not what they seem: bytes behind gzip data, lengths in another unit."""

import gzip
import logging
import re
import struct
import zlib
from pathlib import Path

import nibabel
import numpy as np
import pytest

from volseg.errors import VolumeError
from volseg.volume import (
    SliceStream,
    Volume,
    gzip_members,
    read_grid,
    read_image_file,
    read_image_grid,
    size_notes,
    write_volume,
)

VOXELS = np.random.default_rng(0).integers(0, 9, (12, 10, 9)).astype(np.int16)
AFFINE = np.diag([1.0, 1.0, 2.0, 1.0])
NRRD = (
    b"NRRD0004\ntype: short\ndimension: 3\nsizes: 12 10 9\nencoding: gzip\nendian: little\nspace: LPS\n"
    b"space directions: (-1,0,0) (0,-1,0) (0,0,2)\n\n"
)
# What gzip 1.12 leaves out with a warning, but for zeros, and SimpleITK 2.5.7 in silence.
BEHIND = {
    "zeros": bytes(3),
    "a block of zeros": bytes(512),
    "a line break": b"\n",
    "few bytes": b"junk!",
    "many bytes": b"junk" * 30,
    "zeros, then bytes": bytes(20) + b"abc",
    "half a magic number": b"\x1f",
    "a magic number": b"\x1f\x8b",
    "a second member": gzip.compress(b""),
}


def _plain(path: Path) -> bytes:
    nibabel.save(nibabel.Nifti1Image(VOXELS, AFFINE), path)
    return path.read_bytes()


@pytest.mark.parametrize("behind", BEHIND)
def test_bytes_behind_gzip_data_are_left_out(behind: str, tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    raw = _plain(tmp_path / "plain.nii")
    nifti, nrrd, mgz = tmp_path / "a.nii.gz", tmp_path / "a.nrrd", tmp_path / "a.mgz"
    nifti.write_bytes(gzip.compress(raw[:700]) + gzip.compress(raw[700:]) + BEHIND[behind])
    nrrd.write_bytes(NRRD + gzip.compress(VOXELS.tobytes(order="F")) + BEHIND[behind])
    nibabel.save(nibabel.MGHImage(VOXELS.astype(np.int32), AFFINE), mgz)
    mgz.write_bytes(mgz.read_bytes() + BEHIND[behind])
    with caplog.at_level(logging.WARNING):
        for path in (nifti, nrrd, mgz):
            (volume,) = read_image_file(path)
            np.testing.assert_array_equal(volume.voxels, VOXELS)
            assert read_image_grid(path)[0] == VOXELS.shape
        chunks = [chunk for _, chunk in SliceStream.open(nifti).chunks(4)]
    np.testing.assert_array_equal(np.concatenate(chunks, axis=2), VOXELS)
    silent = behind in ("zeros", "a block of zeros", "a second member")
    told = [record.getMessage() for record in caplog.records]
    assert bool(told) != silent
    assert all("behind its compressed data" in line for line in told)


@pytest.mark.parametrize("left_out", [1, 8, 40])
def test_gzip_data_that_are_cut_short_are_refused(left_out: int, tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(_plain(tmp_path / "plain.nii"))[:-left_out])
    with pytest.raises(VolumeError, match="cut short"):
        read_image_file(path)
    with pytest.raises(VolumeError, match="cut short"):
        list(SliceStream.open(path).chunks(4))


def test_grids_are_read_from_headers_alone(tmp_path: Path) -> None:
    """The same shape and affine as of the whole file, which may end behind its header."""
    head = NRRD.replace(b"dimension: 3", b"dimension: 4").replace(b"sizes: 12 10 9", b"sizes: 2 12 10 9")
    head = head.replace(b"(-1,0,0)", b"none (-1,0,0)")
    channels = tmp_path / "channels.nrrd"
    channels.write_bytes(head + gzip.compress(np.stack([VOXELS, VOXELS]).tobytes(order="F")))
    mha = tmp_path / "a.mha"
    text = "ObjectType = Image\nNDims = 3\nDimSize = 12 10 9\nElementType = MET_SHORT\nElementSpacing = 0.5 0.5 3\n"
    text += "TransformMatrix = 0 1 0 1 0 0 0 0 -1\nOffset = 4 5 6\nElementDataFile = LOCAL\n"
    mha.write_bytes(text.encode() + VOXELS.tobytes(order="F"))
    flat = tmp_path / "flat.mha"
    flat.write_bytes(
        b"ObjectType = Image\nNDims = 2\nDimSize = 12 10\nElementType = MET_SHORT\nTransformMatrix = 1 0 0 1\n"
        b"ElementNumberOfChannels = 3\nElementDataFile = LOCAL\n" + VOXELS[:, :, :3].tobytes()
    )
    mgz = tmp_path / "a.mgz"
    nibabel.save(nibabel.MGHImage(VOXELS.astype(np.int32), AFFINE), mgz)
    for path, shape in ((channels, (12, 10, 9, 2)), (mha, (12, 10, 9)), (flat, (12, 10, 1, 3)), (mgz, (12, 10, 9))):
        whole = read_image_file(path)
        got, affine = read_image_grid(path)
        assert got == shape == (*whole[0].shape, *((len(whole),) if len(whole) > 1 else ()))
        np.testing.assert_array_equal(affine, whole[0].affine_ras)
    mha.write_bytes(text.encode())
    assert read_image_grid(mha)[0] == (12, 10, 9)


@pytest.mark.parametrize(
    ("shape", "spacing", "told"),
    [
        ((256, 256, 200), (0.7, 0.7, 5), ""),
        ((256, 256, 200), (0.0007, 0.0007, 0.005), "0.0007 x 0.0007 x 0.005 mm are none of a patient"),  # metres
        ((256, 256, 200), (700, 700, 5000), "700 x 700 x 5000 mm are none of a patient"),  # micrometres
        ((64, 64, 64), (100, 100, 100), "100 x 100 x 100 mm"),
        ((64, 64, 64), (1, 1, 0.001), "1 x 1 x 0.001 mm"),
        ((512, 512, 1300), (1, 1, 5), "6.5 m long"),
        ((512, 512, 1), (1, 1, 1e6), ""),  # the length of one voxel says nothing
        ((512, 512, 1), (0.00025, 0.00025, 1), ""),  # a slide of pathology
        ((500, 500, 300), (0.03, 0.03, 0.03), ""),  # micro-CT
        ((600, 600, 3), (1, 1, 30), ""),  # scouts
        ((512, 512, 1100), (1.5, 1.5, 1.8), ""),  # a whole body
    ],
)
def test_sizes_that_no_patient_has_are_told(shape: tuple[int, ...], spacing: tuple[float, ...], told: str) -> None:
    notes = size_notes(shape, np.diag([*spacing, 1.0]))
    assert len(notes) == bool(told)
    if told:
        assert re.search(told, notes[0])
        assert ";" not in notes[0]


def test_volumes_of_any_file_have_the_note(tmp_path: Path) -> None:
    path = tmp_path / "a.nii.gz"
    write_volume(path, Volume(VOXELS, np.diag([0.001, 0.001, 0.001, 1.0])))
    assert "none of a patient" in " ".join(read_image_file(path)[0].notes)
    assert "none of a patient" in " ".join(size_notes(*read_grid(path)))
    nrrd = tmp_path / "a.nrrd"
    nrrd.write_bytes(NRRD.replace(b"(0,0,2)", b"(0,0,200)") + gzip.compress(VOXELS.tobytes(order="F")))
    assert "1 x 1 x 200 mm" in " ".join(read_image_file(nrrd)[0].notes)


@pytest.mark.parametrize(
    ("kind", "place", "code"), [(nibabel.Nifti1Image, 108, "<f"), (nibabel.Nifti2Image, 168, "<q")]
)
def test_voxels_that_begin_within_the_header_are_refused(kind: type, place: int, code: str, tmp_path: Path) -> None:
    """Of offset 0 nibabel 5.4.2 gives the header as voxels, SimpleITK 2.5.7 begins four bytes too early."""
    path = tmp_path / "a.nii"
    for offset in (0, 348, 544 if place == 168 else 352):
        nibabel.save(kind(VOXELS, AFFINE), path)
        content = bytearray(path.read_bytes())
        struct.pack_into(code, content, place, offset)
        path.write_bytes(content)
        if offset > 348:
            np.testing.assert_array_equal(read_image_file(path)[0].voxels, VOXELS)
            continue
        for read in (read_image_file, SliceStream.open, read_grid):
            with pytest.raises(VolumeError, match=r"write it again"):
                read(path)


@pytest.mark.parametrize(("kind", "place"), [(nibabel.Nifti1Image, 72), (nibabel.Nifti2Image, 14)])
def test_the_type_of_voxels_counts_and_not_their_bits_beside_it(kind: type, place: int, tmp_path: Path) -> None:
    voxels = np.random.default_rng(0).integers(-1000, 1000, (128, 128, 80)).astype(np.int16)
    content = bytearray(kind(voxels, np.eye(4)).to_bytes())
    content[place : place + 2] = bytes(2)  # bitpix
    path = tmp_path / "a.nii.gz"
    path.write_bytes(gzip.compress(content, 1))
    np.testing.assert_array_equal(np.asarray(nibabel.load(path).dataobj), voxels)
    np.testing.assert_array_equal(read_image_file(path)[0].voxels, voxels)


def test_a_large_extension_before_the_voxels_is_read(tmp_path: Path) -> None:
    """As dcmstack keeps what DICOM stated of a whole series; it may be larger than the voxels."""
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    words = np.random.default_rng(0).integers(32, 127, 3 << 20).astype(np.uint8).tobytes()
    image.header.extensions.append(nibabel.nifti1.Nifti1Extension("comment", words))
    path = tmp_path / "a.nii.gz"
    nibabel.save(image, path)
    np.testing.assert_array_equal(read_image_file(path)[0].voxels, VOXELS)
    ((_, voxels),) = SliceStream.open(path).chunks(9)
    np.testing.assert_array_equal(voxels, VOXELS)


def test_work_grows_with_the_size_of_a_file_of_many_members(monkeypatch):
    """Zlib was given the whole rest for each member: 15 s for 37 MiB that bgzip had packed, an hour for 500."""
    handed = []

    class Counted:
        def __init__(self, *, wbits: int) -> None:
            self._real = real(wbits=wbits)

        def decompress(self, content: bytes, limit: int) -> bytes:
            handed.append(len(content))
            return self._real.decompress(content, limit)

        def __getattr__(self, name: str) -> object:
            return getattr(self._real, name)

    real = zlib.decompressobj
    monkeypatch.setattr(gzip_members.zlib, "decompressobj", Counted)
    member = np.random.default_rng(0).integers(0, 256, 50_000).astype(np.uint8).tobytes()
    work = []
    for count in (10, 20):
        handed.clear()
        content = gzip.compress(member) * count + bytes(512)
        assert gzip_members.inflate_members(content, 10**9, name="a.nii.gz") == member * count
        work.append(sum(handed))
    assert work[1] <= 2.1 * work[0]

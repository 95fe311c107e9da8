"""NIfTI in and out: round trips, nibabel as oracle, and what is refused before it is believed."""

from __future__ import annotations

import gzip
import os
import random
import struct
import tracemalloc

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from volseg.errors import GeometryError, VolumeError
from volseg.files import atomic
from volseg.volume import MAX_BYTES, Grid, Volume, read_channels, read_grid, read_volume, resampled, write_volume

# Rotated, anisotropic and shifted; float32, as NIfTI-1 stores it.
AFFINE = np.array([[-1.4, 0.2, 0, 7], [0.2, 1.4, 0, -8], [0, 0, 3, 9], [0, 0, 0, 1]], np.float32).astype(float)
DTYPES = ["uint8", "int8", "uint16", "int16", "uint32", "int32", "float32"]
VOXELS = np.arange(4 * 5 * 6, dtype=np.int16).reshape(4, 5, 6)

arrays = st.sampled_from(DTYPES).flatmap(
    lambda dtype: hnp.arrays(
        dtype, st.tuples(*[st.integers(1, 6)] * 3), elements={"allow_nan": True} if "f" in dtype else None
    )
)


def as_nibabel(path, voxels=VOXELS, *, kind=nibabel.Nifti1Image, endianness="<", affine=AFFINE, slope=None):
    """A file as nibabel writes it."""
    header = kind.header_class(endianness=endianness)
    image = kind(voxels, affine, header)
    image.header.set_data_dtype(voxels.dtype.newbyteorder(endianness))
    image.set_sform(affine, code=1)
    if slope is not None:
        image.header.set_slope_inter(*slope)
    nibabel.save(image, path)
    return path


@given(arrays, st.sampled_from(["a.nii", "a.nii.gz"]))
def test_what_is_written_is_read_back(tmp_path_factory, voxels, name):
    path = tmp_path_factory.mktemp("volume") / name
    write_volume(path, Volume(voxels, AFFINE))
    back = read_volume(path)
    assert back.voxels.dtype == voxels.dtype
    np.testing.assert_array_equal(back.voxels, voxels)
    np.testing.assert_array_equal(back.affine_ras, AFFINE)
    oracle = nibabel.load(path)
    np.testing.assert_array_equal(np.asanyarray(oracle.dataobj), voxels)
    np.testing.assert_array_equal(oracle.affine, AFFINE)
    shape, affine = read_grid(path)
    assert shape == voxels.shape
    np.testing.assert_array_equal(affine, AFFINE)


def test_the_file_says_millimetres_and_where_it_lies(tmp_path):
    write_volume(tmp_path / "a.nii.gz", Volume(VOXELS, AFFINE))
    header = nibabel.load(tmp_path / "a.nii.gz").header
    assert header.get_xyzt_units()[0] == "mm"
    assert (int(header["qform_code"]), int(header["sform_code"])) == (1, 1)
    np.testing.assert_allclose(header.get_qform(), AFFINE, atol=1e-5)


@given(arrays)
def test_the_bytes_are_those_that_nibabel_writes(tmp_path_factory, voxels):
    path = tmp_path_factory.mktemp("volume") / "a.nii"
    write_volume(path, Volume(voxels, AFFINE))
    image = nibabel.Nifti1Image(voxels, AFFINE)
    image.header.set_xyzt_units("mm")
    image.set_sform(AFFINE, code=1)
    image.set_qform(AFFINE, code=1)
    written = path.read_bytes()
    assert written[352:] == voxels.tobytes("F")
    assert written == image.to_bytes()


def test_equal_volumes_give_equal_bytes(tmp_path):
    for name, voxels in (("a", VOXELS), ("b", np.asfortranarray(VOXELS)), ("c", VOXELS[::-1][::-1])):
        write_volume(tmp_path / f"{name}.nii.gz", Volume(voxels, AFFINE))
    contents = {(tmp_path / f"{name}.nii.gz").read_bytes() for name in "abc"}
    assert len(contents) == 1


def test_a_mask_is_written_as_uint8_and_64_bits_are_refused(tmp_path):
    write_volume(tmp_path / "a.nii.gz", Volume(VOXELS > 9, AFFINE))
    assert read_volume(tmp_path / "a.nii.gz").voxels.dtype == np.uint8
    with pytest.raises(VolumeError, match="int64 do not go into NIfTI"):
        write_volume(tmp_path / "b.nii.gz", Volume(VOXELS.astype(np.int64), AFFINE))
    assert [path.name for path in tmp_path.iterdir()] == ["a.nii.gz"]


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("endianness", "<>")
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_every_nifti_is_read_as_nibabel_reads_it(tmp_path, kind, endianness, name):
    volume = read_volume(as_nibabel(tmp_path / name, kind=kind, endianness=endianness))
    assert volume.voxels.dtype == np.int16
    assert volume.voxels.dtype.isnative
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_array_equal(volume.affine_ras, AFFINE)


@pytest.mark.parametrize("dtype", ["float64", "float32"])
@pytest.mark.parametrize("endianness", "<>")
def test_floats_become_native_float32(tmp_path, dtype, endianness):
    volume = read_volume(as_nibabel(tmp_path / "a.nii", VOXELS.astype(dtype) / 8, endianness=endianness))
    assert volume.voxels.dtype == np.float32
    assert volume.voxels.dtype.isnative
    np.testing.assert_array_equal(volume.voxels, VOXELS / 8)


def test_scaled_integers_become_float32(tmp_path):
    path = as_nibabel(tmp_path / "a.nii.gz", slope=(0.5, 3))
    # nibabel divides by the slope as it writes, so the values stay.
    volume = read_volume(path)
    assert volume.voxels.dtype == np.float32
    np.testing.assert_allclose(volume.voxels, np.asanyarray(nibabel.load(path).dataobj))


def test_a_fourth_axis_is_the_channel(tmp_path):
    channels = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], axis=-1)
    found = read_channels(as_nibabel(tmp_path / "a.nii.gz", channels))
    assert [volume.voxels[0, 0, 0] for volume in found] == [0, 1, 2]
    assert {volume.shape for volume in found} == {VOXELS.shape}
    with pytest.raises(VolumeError, match=r"a\.nii\.gz must hold one 3D volume, got 3 channels"):
        read_volume(tmp_path / "a.nii.gz")
    assert read_volume(as_nibabel(tmp_path / "b.nii.gz", VOXELS[..., None])).shape == VOXELS.shape


@pytest.mark.parametrize("more", [(2, 2), (1, 2, 2), (2, 1, 2)])
def test_further_axes_than_that_of_channels_are_refused(tmp_path, more):
    with pytest.raises(VolumeError, match=r"a\.nii has shape"):
        read_channels(
            as_nibabel(tmp_path / "a.nii", VOXELS.reshape(*VOXELS.shape, *[1] * len(more)) * np.ones(more, "i2"))
        )


@pytest.mark.parametrize(("more", "channels"), [((1, 1, 1), 1), ((1, 1, 1, 1), 1), ((2, 1), 2), ((2, 1, 1), 2)])
def test_axes_of_length_1_behind_the_others_say_nothing(tmp_path, more, channels):
    path = as_nibabel(tmp_path / "a.nii", VOXELS.reshape(*VOXELS.shape, *[1] * len(more)) * np.ones(more, "i2"))
    found = read_channels(path)
    assert len(found) == channels
    np.testing.assert_array_equal(found[0].voxels, VOXELS)
    assert read_grid(path)[0] == (*VOXELS.shape, channels)


def test_two_axes_are_one_slice(tmp_path):
    volume = read_volume(as_nibabel(tmp_path / "a.nii", VOXELS[:, :, 0]))
    np.testing.assert_array_equal(volume.voxels, VOXELS[:, :, :1])
    assert read_grid(tmp_path / "a.nii")[0] == (4, 5, 1)


def test_the_fifth_axis_is_the_channel_as_itk_stores_vectors(tmp_path):
    vectors = np.stack([VOXELS, VOXELS + 1, VOXELS + 2], axis=-1)[:, :, :, None]
    found = read_channels(as_nibabel(tmp_path / "a.nii.gz", vectors))
    assert [volume.voxels[0, 0, 1] for volume in found] == [1, 2, 3]
    assert {volume.shape for volume in found} == {VOXELS.shape}


@pytest.mark.parametrize(
    ("dtype", "cure"),
    [("complex64", "write their magnitude"), ([("R", "u1"), ("G", "u1"), ("B", "u1")], "one file per channel")],
)
def test_complex_and_coloured_voxels_are_refused(tmp_path, dtype, cure):
    with pytest.raises(VolumeError, match=f"expected real numbers: {cure}"):
        read_volume(as_nibabel(tmp_path / "a.nii", np.zeros((2, 2, 2), dtype)))


def test_voxels_need_three_axes():
    for shape in ((4, 5), (4, 5, 6, 1), (4, 0, 6)):
        with pytest.raises(VolumeError, match="expected three axes"):
            Volume(np.zeros(shape), AFFINE)


def test_a_file_without_orientation_is_refused_unless_asked_for(tmp_path):
    image = nibabel.Nifti1Image(VOXELS, AFFINE)
    image.set_qform(None, code=0)
    image.set_sform(None, code=0)
    nibabel.save(image, tmp_path / "a.nii.gz")
    with pytest.raises(GeometryError, match=r"a\.nii\.gz states no orientation"):
        read_volume(tmp_path / "a.nii.gz")
    np.testing.assert_array_equal(read_volume(tmp_path / "a.nii.gz", oriented=False).voxels, VOXELS)


def test_an_affine_of_zeros_is_refused_by_both_readers(tmp_path):
    content = bytearray(nibabel.Nifti1Image(VOXELS, AFFINE).to_bytes())
    struct.pack_into("<2h", content, 252, 0, 1)  # qform_code, sform_code
    struct.pack_into("<12f", content, 280, *[0.0] * 12)  # srow_x, srow_y, srow_z
    (tmp_path / "a.nii").write_bytes(content)
    for read in (read_volume, read_grid):
        with pytest.raises(GeometryError, match=r"a\.nii: the affine is singular"):
            read(tmp_path / "a.nii")


@pytest.mark.parametrize("read", [read_volume, read_grid])
def test_an_absent_file_is_told(tmp_path, read):
    with pytest.raises(VolumeError, match=r"a\.nii\.gz is not there"):
        read(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("share", [0.0, 0.001, 0.02, 0.3, 0.6, 0.9, 0.999])
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_cut_short_anywhere_is_refused_by_name(tmp_path, name, share):
    voxels = np.random.default_rng(0).integers(0, 4000, (20, 20, 20), dtype=np.int16)
    write_volume(tmp_path / "whole.nii.gz" if name.endswith("gz") else tmp_path / "whole.nii", Volume(voxels, AFFINE))
    whole = next(tmp_path.iterdir()).read_bytes()
    (tmp_path / name).write_bytes(whole[: int(share * len(whole))])
    with pytest.raises(VolumeError, match=rf"^{name} "):
        read_volume(tmp_path / name)


@pytest.mark.parametrize("cut", range(1, 20))
def test_every_missing_byte_at_the_end_of_a_gzip_is_noticed(tmp_path, cut):
    write_volume(tmp_path / "whole.nii.gz", Volume(VOXELS, AFFINE))
    (tmp_path / "a.nii.gz").write_bytes((tmp_path / "whole.nii.gz").read_bytes()[:-cut])
    with pytest.raises(VolumeError, match=r"^a\.nii\.gz cannot be read as NIfTI"):
        read_volume(tmp_path / "a.nii.gz")


def test_a_changed_byte_in_a_gzip_is_noticed(tmp_path):
    write_volume(tmp_path / "a.nii.gz", Volume(VOXELS, AFFINE))
    content = bytearray((tmp_path / "a.nii.gz").read_bytes())
    content[len(content) * 3 // 4] ^= 0x10
    (tmp_path / "a.nii.gz").write_bytes(content)
    with pytest.raises(VolumeError, match=r"^a\.nii\.gz "):
        read_volume(tmp_path / "a.nii.gz")


@pytest.mark.parametrize("read", [read_volume, read_grid])
@pytest.mark.parametrize(
    "content",
    [b"", b"\x1f", b"\x1f\x8b", gzip.compress(b""), gzip.compress(b"not a volume"), b"PK\x03\x04" * 200, bytes(400)],
    ids=["empty", "one byte", "gzip magic", "gzip of nothing", "gzip of text", "zip", "zeros"],
)
@pytest.mark.parametrize("name", ["a.nii", "a.nii.gz"])
def test_a_file_that_is_no_nifti_is_refused_by_name(tmp_path, name, content, read):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(VolumeError, match=rf"^{name} "):
        read(tmp_path / name)


def test_a_folder_is_no_volume(tmp_path):
    with pytest.raises(VolumeError):
        read_volume(tmp_path)


@given(st.binary(max_size=2000))
def test_any_bytes_are_a_volume_or_a_volume_error(tmp_path_factory, content):
    path = tmp_path_factory.mktemp("volume") / "a.nii"
    path.write_bytes(content)
    for read in (read_volume, read_grid):
        with pytest.raises(VolumeError):
            read(path)


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("zipped", [False, True])
def test_a_damaged_header_is_a_volume_or_a_volume_error(tmp_path, kind, zipped):
    generator = random.Random(0)
    whole = as_nibabel(tmp_path / "whole.nii", kind=kind).read_bytes()
    path = tmp_path / ("a.nii.gz" if zipped else "a.nii")
    refused = 0
    for _ in range(400):
        content = bytearray(whole)
        for _ in range(generator.randint(1, 8)):
            content[generator.randrange(4, kind.header_class.sizeof_hdr)] = generator.choice([0, 1, 127, 128, 255])
        path.write_bytes(gzip.compress(content, 1) if zipped else content)
        for read in (read_volume, read_grid):
            try:
                read(path)
            except VolumeError as error:
                assert "a.nii" in str(error)  # noqa: PT017
                refused += 1
    assert refused > 100


@pytest.mark.parametrize("kind", [nibabel.Nifti1Image, nibabel.Nifti2Image])
@pytest.mark.parametrize("zipped", [False, True])
@pytest.mark.parametrize("side", [1500, 10000])
def test_a_claim_of_many_voxels_allocates_nothing(tmp_path, kind, zipped, side):
    content = bytearray(kind(np.zeros((2, 2, 2), np.float32), AFFINE).to_bytes())
    if kind is nibabel.Nifti1Image:
        struct.pack_into("<4h", content, 40, 3, side, side, side)
    else:
        struct.pack_into("<4q", content, 16, 3, side, side, side)
    path = tmp_path / ("a.nii.gz" if zipped else "a.nii")
    path.write_bytes(gzip.compress(content) if zipped else content)
    tracemalloc.start()
    with pytest.raises(VolumeError, match=r"^a\.nii.* (claims 3725 GiB|is cut short)"):
        read_volume(path)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20


def test_a_bomb_is_refused_before_it_is_inflated(tmp_path):
    content = as_nibabel(tmp_path / "a.nii").read_bytes()
    (tmp_path / "b.nii.gz").write_bytes(gzip.compress(content + bytes(64 * 2**20), 9))
    tracemalloc.start()
    with pytest.raises(VolumeError, match=r"b\.nii\.gz inflates to more than its header claims"):
        read_volume(tmp_path / "b.nii.gz")
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 20 * 2**20 < MAX_BYTES


def test_zeros_pack_as_tightly_as_deflate_can_and_are_read(tmp_path):
    voxels = np.zeros((300, 300, 100), np.uint8)
    (tmp_path / "a.nii.gz").write_bytes(gzip.compress(nibabel.Nifti1Image(voxels, AFFINE).to_bytes(), 9))
    assert not read_volume(tmp_path / "a.nii.gz").voxels.any()


def test_an_interrupted_write_leaves_the_old_file_whole_and_nothing_else(tmp_path):
    path = tmp_path / "a.txt"
    path.write_text("old")

    def interrupted():
        with atomic(path) as partial:
            partial.write_text("new and unfini")
            assert path.read_text() == "old"
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        interrupted()
    assert {entry.name: entry.read_text() for entry in tmp_path.iterdir()} == {"a.txt": "old"}


def test_an_atomic_file_appears_whole_in_a_new_folder_with_the_usual_rights(tmp_path):
    path = tmp_path / "new" / "a.txt"
    with atomic(path) as partial:
        partial.write_text("new")
        assert partial.name.startswith(".partial-")
        assert not path.exists()
    assert [entry.name for entry in path.parent.iterdir()] == ["a.txt"]
    usual = tmp_path / "usual"
    usual.touch()
    assert os.stat(path).st_mode == os.stat(usual).st_mode  # noqa: PTH116


def test_a_changed_byte_anywhere_in_a_gzip_is_a_volume_error(tmp_path):
    """The stream itself may make no sense, which isal tells with an error of its own."""
    write_volume(tmp_path / "whole.nii.gz", Volume(VOXELS, AFFINE))
    whole = (tmp_path / "whole.nii.gz").read_bytes()
    for at in range(10, len(whole), 3):
        (tmp_path / "a.nii.gz").write_bytes(whole[:at] + bytes([whole[at] ^ 0xFF]) + whole[at + 1 :])
        for read in (read_volume, read_grid):
            try:
                read(tmp_path / "a.nii.gz")
            except VolumeError:
                continue


def test_an_intercept_counts_for_nothing_where_the_slope_is_0(tmp_path):
    """As the standard and nibabel have it, and SimpleITK has not; see findings/nifti_slope_zero.sh."""
    image = nibabel.Nifti1Image(np.full((2, 2, 2), 7, np.int16), np.eye(4))
    content = bytearray(image.to_bytes())
    content[112:120] = np.array([0.0, 5.0], "<f4").tobytes()  # scl_slope, scl_inter
    (tmp_path / "a.nii").write_bytes(content)
    assert read_volume(tmp_path / "a.nii").voxels.max() == 7


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.float32])
def test_whole_numbers_are_resampled_without_being_cut(tmp_path, dtype):
    """SimpleITK cuts what lies between two of them towards zero; see findings/resampled_whole_numbers.sh."""
    voxels = np.array([0, 3, 10, 7], dtype).reshape(4, 1, 1)
    write_volume(tmp_path / "a.nii", Volume(voxels, np.eye(4)))
    aside = np.eye(4)
    aside[0, 3] = 0.37
    found, _ = resampled(read_volume(tmp_path / "a.nii"), Grid((3, 1, 1), aside))
    np.testing.assert_allclose(found.voxels.ravel(), [1.11, 5.59, 8.89], rtol=1e-6)


@pytest.mark.parametrize("shape", [(40000, 2, 1), (32768, 1, 1)])
def test_an_axis_too_long_for_nifti_1_is_told_and_nothing_is_written(tmp_path, shape):
    with pytest.raises(VolumeError, match=rf"at most 32767 voxels, got {shape[0]}; cut the image"):
        write_volume(tmp_path / "a.nii.gz", Volume(np.zeros(shape, np.uint8), np.eye(4)))
    assert list(tmp_path.iterdir()) == []

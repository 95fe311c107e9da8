"""NRRD, MetaImage and MGH files: ITK and nibabel as oracles, headers checked by hand, and what is refused."""

from __future__ import annotations

import bz2
import gzip

import itk
import nibabel
import numpy as np
import pytest

from volseg.errors import GeometryError, VolumeError
from volseg.volume import (
    Volume,
    image_suffix,
    read_image_file,
    read_image_grid,
    read_nrrd_with_pairs,
    write_nrrd,
    write_volume,
)

COS, SIN = 0.8, 0.6
DIRECTION = np.array([[COS, -SIN, 0], [SIN, COS, 0], [0, 0, -1.0]])  # LPS, columns are axes
SPACING, ORIGIN = (0.5, 0.75, 3.0), (-7.0, 11.0, 4.0)
VOXELS = np.arange(4 * 3 * 2, dtype=np.int16).reshape(4, 3, 2) - 5


def affine_ras():
    lps = np.eye(4)
    lps[:3, :3], lps[:3, 3] = DIRECTION * SPACING, ORIGIN
    return np.diag([-1.0, -1, 1, 1]) @ lps


def by_itk(path, voxels=VOXELS, *, compressed=False):
    """A file as ITK writes it."""
    image = itk.image_from_array(np.ascontiguousarray(voxels.T))
    n = voxels.ndim
    image.SetSpacing(SPACING[:n])
    image.SetOrigin(ORIGIN[:n])
    image.SetDirection(itk.matrix_from_array(np.ascontiguousarray(DIRECTION[:n, :n])))
    itk.imwrite(image, str(path), compression=compressed)
    return path


@pytest.mark.parametrize("name", ["a.nrrd", "a.nhdr", "a.mha", "a.mhd"])
@pytest.mark.parametrize("compressed", [False, True])
def test_what_itk_writes_is_read_to_the_voxel(tmp_path, name, compressed):
    (volume,) = read_image_file(by_itk(tmp_path / name, compressed=compressed))
    assert volume.voxels.dtype == np.int16
    np.testing.assert_array_equal(volume.voxels, VOXELS)
    np.testing.assert_allclose(volume.affine_ras, affine_ras(), atol=1e-9)


def test_itk_and_this_reader_place_one_file_at_one_point(tmp_path):
    """The same point of the body, in the spaces that ITK turns, RAS and LAS, and by the short names of all three."""
    turned = (("right-anterior-superior", (-1, -1, 1)), ("left-anterior-superior", (1, -1, 1)))
    for space, sign in (*turned, ("RAS", (-1, -1, 1)), ("LAS", (1, -1, 1)), ("LPS", (1, 1, 1))):
        path = nrrd(tmp_path / "a.nrrd", space=space)
        image = itk.imread(str(path))
        point = np.array(image.TransformIndexToPhysicalPoint([3, 1, 1]))  # LPS
        (volume,) = read_image_file(path)
        np.testing.assert_allclose((volume.affine_ras @ [3, 1, 1, 1])[:3] * (-1, -1, 1), point)
        np.testing.assert_allclose(point, np.array([1 + 3 * 0.5, 2 + 0.75, 3 + 2]) * sign)


def nrrd(path, *, space="left-posterior-superior", kind="short", sizes="4 3 2", encoding="raw", data=None, **fields):
    """A file by hand: 0.5 x 0.75 x 2 mm, first voxel at (1, 2, 3)."""
    lines = ["NRRD0005", "# made by hand", f"type: {kind}", f"dimension: {len(sizes.split())}"]
    named = {"space directions": "(0.5,0,0) (0,0.75,0) (0,0,2)", "space origin": "(1,2,3)", "endian": "little"}
    named = {**({"space": space} if space else {}), "sizes": sizes, "encoding": encoding, **named, **fields}
    lines += [f"{key}: {value}" for key, value in named.items() if value is not None]
    path.write_bytes(
        ("\n".join([*lines, "note:=kept: out", "", ""])).encode() + (VOXELS.tobytes("F") if data is None else data)
    )
    return path


@pytest.mark.parametrize(
    ("space", "sign"),
    [
        (None, (1, 1, 1)),  # as SimpleITK 2.5.7 and ITK write a series of volumes: "space dimension: 4"
        ("left-posterior-superior-time", (1, 1, 1)),
        ("RAST", (-1, -1, 1)),
    ],
)
def test_a_series_of_volumes_has_a_time_in_its_vectors(tmp_path, space, sign):
    data = np.stack([VOXELS, VOXELS + 1], axis=-1)
    path = nrrd(
        tmp_path / "a.nrrd",
        space=space,
        sizes="4 3 2 2",
        data=data.tobytes("F"),
        **{"space dimension": None if space else "4", "space origin": "(1,2,3,7)", "space units": '"mm" "mm" "mm" "s"'},
        **{"space directions": "(0.5,0,0,0) (0,0.75,0,0) (0,0,2,0) (0,0,0,2.5)"},
    )
    first, second = read_image_file(path)
    np.testing.assert_array_equal(first.voxels, VOXELS)
    np.testing.assert_array_equal(second.voxels, VOXELS + 1)
    lps = (first.affine_ras @ [3, 1, 1, 1])[:3] * (-1, -1, 1)
    np.testing.assert_allclose(lps, np.array([1 + 3 * 0.5, 2 + 0.75, 3 + 2]) * sign)
    assert read_image_grid(path)[0] == (4, 3, 2, 2)
    path.write_bytes(path.read_bytes().replace(b"(0,0,2,0)", b"(0,0,2,1)"))
    with pytest.raises(GeometryError, match="turns an axis of space into time"):
        read_image_file(path)


@pytest.mark.parametrize(
    ("word", "dtype"), [("int8", "i1"), ("long long int", "<i8"), ("uint", "<u4"), ("double", "<f8")]
)
def test_types_that_the_wheels_of_itk_lack_are_read_too(tmp_path, word, dtype):
    (volume,) = read_image_file(nrrd(tmp_path / "a.nrrd", kind=word, data=np.abs(VOXELS).astype(dtype).tobytes("F")))
    np.testing.assert_array_equal(volume.voxels, np.abs(VOXELS))


def test_big_endian_bzip2_text_and_skipped_bytes(tmp_path):
    big = VOXELS.astype(">i2").tobytes("F")
    text = " ".join(map(str, VOXELS.ravel(order="F").tolist())).encode()
    for path in (
        nrrd(tmp_path / "a.nrrd", endian="big", data=big),
        nrrd(tmp_path / "b.nrrd", encoding="bzip2", data=bz2.compress(VOXELS.tobytes("F"))),
        nrrd(tmp_path / "c.nrrd", encoding="ascii", data=text),
        nrrd(tmp_path / "d.nrrd", data=b"head" + VOXELS.tobytes("F"), **{"byte skip": "-1"}),
        nrrd(
            tmp_path / "e.nrrd",
            encoding="gzip",
            data=gzip.compress(b"\0\0" + VOXELS.tobytes("F")),
            **{"byte skip": "2"},
        ),
    ):
        (volume,) = read_image_file(path)
        np.testing.assert_array_equal(volume.voxels, VOXELS)
        assert volume.voxels.dtype.isnative


@pytest.mark.parametrize(
    ("sizes", "directions", "order"),
    [
        ("2 4 3 2", "none (0.5,0,0) (0,0.75,0) (0,0,2)", (1, 2, 3, 0)),  # as Slicer writes segmentations
        ("4 3 2 2", "(0.5,0,0) (0,0.75,0) (0,0,2) none", (0, 1, 2, 3)),
        ("4 3 2 2", "(0.5,0,0) (0,0.75,0) (0,0,2) (nan,nan,nan)", (0, 1, 2, 3)),  # as pynrrd writes
    ],
)
def test_an_axis_without_direction_is_that_of_the_channels(tmp_path, sizes, directions, order):
    numbers = np.arange(48, dtype="<i2").reshape([int(n) for n in sizes.split()], order="F")
    path = nrrd(tmp_path / "a.nrrd", sizes=sizes, data=numbers.tobytes("F"), **{"space directions": directions})
    volumes = read_image_file(path)
    np.testing.assert_array_equal(np.stack([v.voxels for v in volumes], axis=-1), numbers.transpose(order))
    assert volumes[0].spacing_mm == (0.5, 0.75, 2.0)


def by_itk_too(path):
    """The voxels of a file, which ITK reads alike and places alike."""
    image = itk.imread(str(path))
    (volume,) = read_image_file(path)
    np.testing.assert_array_equal(volume.voxels, itk.array_view_from_image(image).T)
    columns = itk.array_from_matrix(image.GetDirection()) * list(image.GetSpacing())
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ volume.affine_ras[:3, :3], columns, atol=1e-9)
    return volume.voxels


@pytest.mark.parametrize(
    ("before", "fields"),
    [
        (b"head", {"byteskip": "4"}),  # the format lets names be spelt with a blank or without
        (b"head\n", {"lineskip": "1"}),
        (b"one\ntwo\n??", {"lineskip": "2", "byteskip": "2"}),
        (b"head", {"byteskip": "-1"}),
        (b"", {"space directions": "(0.5,0,0)  (0,0.75,0)\t(0,0,2)"}),
        (b"", {"space directions": "( 0.5, 0 , 0)(0,0.75,0) (0,0,2)"}),
        (b"", {"kind": "Short"}),
        (b"", {"space units": '"" "" ""'}),
        (b"", {"space units": '"mm" "mm" "???"'}),
    ],
)
def test_spellings_of_one_nrrd_header_are_one_volume(tmp_path, before, fields):
    path = nrrd(tmp_path / "a.nrrd", data=before + VOXELS.tobytes("F"), **fields)
    np.testing.assert_array_equal(by_itk_too(path), VOXELS)


def test_hexadecimal_numbers(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", encoding="hex", data=VOXELS.tobytes("F").hex().encode())
    np.testing.assert_array_equal(by_itk_too(path), VOXELS)


def test_bytes_of_no_stated_order_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="must state the order of bytes"):
        read_image_file(nrrd(tmp_path / "a.nrrd", endian=None))


METAIMAGE = (
    "ObjectType = Image\nNDims = 3\nComment = ElementDataFile is below\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    "Offset = 0 0 0\nElementSpacing = 1 1 2\nDimSize = 4 3 2\n"
)


@pytest.mark.parametrize("word", ["LOCAL", "Local", "local"])
def test_voxels_behind_the_header_of_a_metaimage_in_any_spelling(tmp_path, word):
    path = tmp_path / "a.mha"
    head = f"{METAIMAGE}ElementType = MET_SHORT\nElementDataFile = {word}\n"
    path.write_bytes(head.encode() + VOXELS.astype("<i2").tobytes("F"))
    np.testing.assert_array_equal(read_image_file(path)[0].voxels, VOXELS)
    np.testing.assert_array_equal(itk.array_from_image(itk.imread(str(path))).T, VOXELS)


@pytest.mark.parametrize("source", ["LOCAL", "numbers.txt"])
@pytest.mark.parametrize(("word", "kind"), [("MET_SHORT", "i2"), ("MET_FLOAT", "f4"), ("MET_UCHAR", "u1")])
def test_metaimage_of_numbers_as_text(tmp_path, source, word, kind):
    """Read as bytes, "-5 -4" would be the voxels 13613, 11552, ..."""
    numbers = (VOXELS + 5 + (0.25 if kind == "f4" else 0)).astype(kind)
    text = (" ".join(map(str, numbers.ravel(order="F").tolist())) + "\n").encode()
    head = f"{METAIMAGE}BinaryData = False\nElementType = {word}\nElementDataFile = {source}\n".encode()
    (tmp_path / "numbers.txt").write_bytes(text)
    path = tmp_path / "a.mhd"
    path.write_bytes(head + (text if source == "LOCAL" else b""))
    np.testing.assert_array_equal(by_itk_too(path), numbers)


@pytest.mark.parametrize(("text", "told"), [(b"1 2 3", "cut short"), (b"1 " * 23 + b"x", "must hold numbers as text")])
def test_metaimage_of_text_that_is_no_image(tmp_path, text, told):
    path = tmp_path / "a.mha"
    path.write_bytes(
        f"{METAIMAGE}BinaryData = False\nElementType = MET_SHORT\nElementDataFile = LOCAL\n".encode() + text
    )
    with pytest.raises(VolumeError, match=told):
        read_image_file(path)


def test_metaimage_with_colons(tmp_path):
    path = tmp_path / "a.mha"
    head = f"{METAIMAGE}ElementType = MET_SHORT\nElementDataFile = LOCAL\n".replace(" = ", ": ")
    path.write_bytes(head.encode() + VOXELS.tobytes("F"))
    np.testing.assert_array_equal(by_itk_too(path), VOXELS)


def test_metaimage_keeps_channels_and_64_bits(tmp_path):
    """As SimpleITK 2.5.3 writes a vector image and an int64 image; the header's lines are its own."""
    head = (
        "ObjectType = Image\nNDims = 3\nBinaryData = True\nBinaryDataByteOrderMSB = False\nCompressedData = False\n"
        "TransformMatrix = 1 0 0 0 1 0 0 0 1\nOffset = 0 0 0\nCenterOfRotation = 0 0 0\n"
        "AnatomicalOrientation = RAI\nElementSpacing = 1 1 2\nDimSize = 4 3 2\n"
    )
    two = np.arange(48, dtype="<f4").reshape((2, 4, 3, 2), order="F")
    (tmp_path / "v.mha").write_bytes(
        f"{head}ElementNumberOfChannels = 2\nElementType = MET_FLOAT\nElementDataFile = LOCAL\n".encode()
        + two.tobytes("F")
    )
    (tmp_path / "l.mha").write_bytes(
        f"{head}ElementType = MET_LONG_LONG\nElementDataFile = LOCAL\n".encode() + VOXELS.astype("<i8").tobytes("F")
    )
    first, second = read_image_file(tmp_path / "v.mha")
    np.testing.assert_array_equal(first.voxels, two[0])
    np.testing.assert_array_equal(second.voxels, two[1])
    np.testing.assert_array_equal(read_image_file(tmp_path / "l.mha")[0].voxels, VOXELS)


@pytest.mark.parametrize("name", ["a.mha", "a.nrrd"])
def test_a_flat_image_is_one_slice(tmp_path, name):
    (volume,) = read_image_file(by_itk(tmp_path / name, VOXELS[..., 0]))
    np.testing.assert_array_equal(volume.voxels, VOXELS[..., :1])
    np.testing.assert_allclose(volume.affine_ras[:2, [0, 1, 3]], affine_ras()[:2, [0, 1, 3]], atol=1e-9)


@pytest.mark.parametrize("name", ["T1.mgz", "T1.mgh"])
def test_freesurfer_agrees_with_nibabel(tmp_path, name):
    codes = (VOXELS.astype(np.int32) + 5) * 600  # beyond 255, as aparc+aseg has
    image = nibabel.MGHImage(codes, affine_ras())
    image.to_filename(tmp_path / name)
    (volume,) = read_image_file(tmp_path / name)
    np.testing.assert_array_equal(volume.voxels, codes)
    np.testing.assert_allclose(volume.affine_ras, image.affine)


def test_lengths_come_in_the_units_that_the_header_states(tmp_path):
    path = nrrd(tmp_path / "a.nrrd", **{"space units": '"um" "um" "um"'})
    np.testing.assert_allclose(read_image_file(path)[0].spacing_mm, (0.0005, 0.00075, 0.002))


def test_nifti_goes_the_way_of_nifti(tmp_path):
    write_volume(tmp_path / "a.nii.gz", Volume(VOXELS, affine_ras()))
    np.testing.assert_array_equal(read_image_file(tmp_path / "a.nii.gz")[0].voxels, VOXELS)
    assert image_suffix("a.b.nii.gz") == ".nii.gz"
    assert image_suffix(".nrrd") is None


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (lambda p: nrrd(p / "a.nrrd", space=None, **{"space directions": None}), "states no orientation"),
        (lambda p: nrrd(p / "a.nrrd", space="scanner-xyz"), "scanner-xyz"),
        (lambda p: nrrd(p / "a.nrrd", data=b"12"), "cut short"),
        (lambda p: nrrd(p / "a.nrrd", sizes="40000 40000 40000"), "damaged"),
        (lambda p: nrrd(p / "a.nrrd", kind="block"), "'block'"),
        (lambda p: nrrd(p / "a.nrrd", encoding="bzip2", data=b"BZh9 no stream"), "cannot be read as NRRD"),
        (lambda p: nrrd(p / "a.nrrd", encoding="gzip", data=b"\x1f\x8b\x08" + bytes(7) + b"\xff" * 40), "decompressed"),
        (lambda p: nrrd(p / "a.nrrd", encoding="ascii", data=b"1 2 x"), "cannot be read as NRRD"),
        (lambda p: nrrd(p / "a.nrrd", encoding="ascii", data=b"1 2 3"), "cannot be read as NRRD"),
        (lambda p: nrrd(p / "a.nrrd", **{"byte skip": "many"}), "cannot be read as NRRD"),
        (lambda p: nrrd(p / "a.nhdr", **{"data file": "../../etc/passwd"}), "outside its folder"),
        (lambda p: nrrd(p / "a.nhdr", **{"data file": "LIST"}), "several files"),
        (lambda p: nrrd(p / "a.nhdr", **{"data file": "a\0b.raw"}), "no name of a file"),
        (lambda p: nrrd(p / "a.nhdr", **{"data file": "a.raw"}), "not there"),
        (lambda p: p / "a.mha", "is not there"),
        (lambda p: p / "a.nii.zst", "Zstandard"),
        (lambda p: p / "a.mnc", "MINC, which is not read; convert it with mnc2nii or nibabel"),
        (lambda p: p / "a.txt", "no format that is read"),
    ],
)
def test_what_is_wrong_is_said(tmp_path, make, told):
    with pytest.raises((VolumeError, GeometryError), match=told):
        read_image_file(make(tmp_path))


@pytest.mark.parametrize("name", ["a.mha", "z.mha", "a.nrrd", "z.nrrd", "a.mgz", "a.mgh"])
def test_damage_is_an_error_of_ours(tmp_path, name):
    """Files cut anywhere, and with any byte of the header changed, read as something or raise a VolumeError."""
    path = tmp_path / name
    if "mg" in name:
        nibabel.MGHImage(VOXELS.astype(np.int32), affine_ras()).to_filename(path)
    else:
        by_itk(path, compressed=name[0] == "z")
    content = path.read_bytes()
    rng = np.random.default_rng(1)
    for n in range(60):
        damaged = bytearray(content[: int(rng.integers(0, len(content)))]) if n % 2 else bytearray(content)
        for at in rng.integers(0, max(1, min(len(damaged), 400)), 3) if damaged else ():
            damaged[at] = int(rng.integers(256))
        path.write_bytes(damaged)
        try:
            read_image_file(path)
        except VolumeError:
            continue


def test_64_bits_are_those_of_nifti_files_in_every_format(tmp_path):
    """pynrrd writes arrays of NumPy's default type so; what was read must go into a NIfTI file."""
    meta = b"NDims = 3\nDimSize = 4 3 2\nElementType = MET_LONG_LONG\nTransformMatrix = 1 0 0 0 1 0 0 0 1\n"
    (tmp_path / "a.mha").write_bytes(meta + b"ElementDataFile = LOCAL\n" + VOXELS.astype("<i8").tobytes("F"))
    nrrd(tmp_path / "a.nrrd", kind="int64", data=VOXELS.astype("<i8").tobytes("F"))
    for name in ("a.mha", "a.nrrd"):
        (volume,) = read_image_file(tmp_path / name)
        assert volume.voxels.dtype == np.int16
        np.testing.assert_array_equal(volume.voxels, VOXELS)
        write_volume(tmp_path / "a.nii.gz", volume)
    large = np.full((4, 3, 2), 2**32 - 1, "<u8")
    (volume,) = read_image_file(nrrd(tmp_path / "b.nrrd", kind="uint64", data=large.tobytes("F")))
    assert volume.voxels.dtype == np.uint32
    np.testing.assert_array_equal(volume.voxels, large)


def test_an_escaped_backslash_before_an_n_is_no_line_break(tmp_path):
    nrrd(tmp_path / "a.nrrd", **{"content": "x\nSegment0_Name:=a\\\\nodule\\nleft"})
    pairs = read_nrrd_with_pairs(tmp_path / "a.nrrd")[1]
    assert pairs["Segment0_Name"] == "a\\nodule\nleft"


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float32", ">i2"])
def test_a_nrrd_file_is_to_itk_what_it_is_to_us(tmp_path, dtype):
    turned = np.array([[0, -1.5, 0, 12.25], [1.25, 0, 0.1, -7], [0, 0, 3, 1 / 3], [0, 0, 0, 1]])
    written = Volume(VOXELS.astype(dtype), turned)
    write_nrrd(tmp_path / "a.nrrd", written)
    image = itk.imread(str(tmp_path / "a.nrrd"))
    np.testing.assert_array_equal(itk.array_view_from_image(image).T, written.voxels)
    columns = itk.array_from_matrix(image.GetDirection()) * list(image.GetSpacing())
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ columns, turned[:3, :3], atol=1e-9)
    np.testing.assert_allclose(np.diag([-1, -1, 1]) @ list(image.GetOrigin()), turned[:3, 3])
    (read,) = read_image_file(tmp_path / "a.nrrd")
    np.testing.assert_array_equal(read.voxels, written.voxels)
    np.testing.assert_array_equal(read.affine_ras, turned)


def test_voxels_that_nrrd_has_no_word_for_are_refused(tmp_path):
    with pytest.raises(VolumeError, match="voxels of type bool do not go into NRRD"):
        write_nrrd(tmp_path / "a.nrrd", Volume(VOXELS > 0, np.eye(4)))

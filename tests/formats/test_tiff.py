"""TIFF files of every kind, beside the values that other readers gave for the same files."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import imagecodecs
import numpy as np
import pytest
import tifffile
from hypothesis import given, settings
from hypothesis import strategies as st
from image_files import colours, encoded, save, tiff
from PIL import Image, ImageOps

from volseg.errors import SourceError
from volseg.formats import Images
from volseg.formats.image_file import is_colour, read_picture
from volseg.volume import orientation

RAMP = np.arange(24, dtype=np.uint8).reshape(4, 6) * 10
STACK = np.random.default_rng(0).integers(0, 4000, (5, 30, 40)).astype(np.uint16)
MARKED = np.zeros((4, 6), bool)
MARKED[0, 1:3] = True


def read(path: Path, **options):
    return read_picture(path, name=path.name, **options)


def written(path: Path, pixels: np.ndarray, **options) -> Path:
    tifffile.imwrite(path, pixels, **options)
    return path


# The first pixels of files of tifffile 2026.3.3, as read by tifffile (imageio 2.38.1 and scikit-image 0.26.0 read the
# same), Pillow 13.0.0 and OpenCV 5.0.0; None where the reader refuses the file.
PEERS = {
    "bool": (MARKED, {}, [0, 1, 1, 0], [1, 0, 0, 1], [255, 0, 0, 255]),
    "white is zero, 8 bits": (RAMP, {"photometric": "miniswhite"}, [0, 10, 20, 30], [255, 245, 235], [255, 245, 235]),
    "white is zero, 16 bits": (
        RAMP.astype(np.uint16) * 250,
        {"photometric": "miniswhite"},
        [0, 2500, 5000],
        [0, 2500, 5000],
        [0, 2500, 5000],
    ),
    "10 bits": (RAMP.astype(np.uint16) * 4, {"bitspersample": 10}, [0, 40, 80], None, [0, 2560, 5120]),
    "12 bits": (RAMP.astype(np.uint16) * 4, {"bitspersample": 12}, [0, 40, 80], [0, 40, 80], [0, 640, 1280]),
    "14 bits": (RAMP.astype(np.uint16) * 4, {"bitspersample": 14}, [0, 40, 80], None, [0, 160, 320]),
    "4 bits": (RAMP // 17, {"bitspersample": 4}, [0, 0, 1, 1, 2], [0, 0, 17, 17, 34], None),
    "float16": (RAMP.astype(np.float16) / 4, {}, [0, 2.5, 5], None, None),
    "float64": (RAMP / 4, {}, [0, 2.5, 5], None, [0, 2.5, 5]),
    "big endian": (RAMP.astype(np.uint16), {"byteorder": ">"}, [0, 10, 20], [0, 10, 20], [0, 10, 20]),
    "transparency mask": (MARKED, {"photometric": "mask"}, [0, 1, 1, 0], None, None),
}
# What volseg shows of them; its stored numbers are those of tifffile.
SHOWN = {
    "bool": [255, 0, 0, 255],
    "white is zero, 8 bits": [255, 245, 235],
    "white is zero, 16 bits": [65535, 63035, 60535],
    "4 bits": [0, 0, 17, 17, 34],
    "transparency mask": [0, 255, 255, 0],
}


@pytest.mark.parametrize("kind", PEERS)
def test_numbers_are_those_of_tifffile_and_brightness_that_of_the_standard(tmp_path, kind):
    pixels, options, of_tifffile, *_ = PEERS[kind]
    found = read(written(tmp_path / "a.tif", pixels, **options))
    assert found.numbers.ravel()[: len(of_tifffile)].tolist() == of_tifffile
    shown = SHOWN.get(kind, of_tifffile)
    assert found.pixels.ravel()[: len(shown)].tolist() == shown
    assert found.inverted == (kind in ("bool", "white is zero, 8 bits", "white is zero, 16 bits"))
    assert any("turned round" in note for note in found.notes) == found.inverted


def test_colours_of_one_bit(tmp_path):
    """A plane per colour is read; samples side by side are refused: see findings/bool_colours_in_tiff.sh."""
    pixels = np.random.default_rng(0).random((5, 6, 3)) > 0.5
    planes = np.moveaxis(pixels, -1, 0)
    found = read(written(tmp_path / "a.tif", planes, photometric="rgb", planarconfig="separate"))
    assert np.array_equal(found.pixels, pixels)
    with pytest.raises(SourceError, match=r"b\.tif holds colours of one bit that tifffile has stored in an order"):
        read(written(tmp_path / "b.tif", pixels, photometric="rgb", planarconfig="contig"))


@settings(max_examples=60, deadline=None)
@given(data=st.data())
def test_random_files_are_read_as_tifffile_reads_them(data, tmp_path_factory):
    path = tmp_path_factory.mktemp("tiff") / "a.tif"
    kind = data.draw(st.sampled_from(["?", "u1", "u2", "u4", "i1", "i2", "i4", "f2", "f4", "f8"]))
    photometric = data.draw(st.sampled_from(["minisblack", "miniswhite", "rgb", "palette"]))
    planar = data.draw(st.sampled_from(["contig", "separate"])) if photometric == "rgb" else None
    codecs = [None, "lzw", "deflate", "zstd", "packbits", "lzma"]
    codecs += ["jpeg2000", "png", "webp", "jpeg"] if kind == "u1" else []
    slices = data.draw(st.sampled_from([1, 3]))
    axes = ("Z" if slices > 1 else "") + {"contig": "YXS", "separate": "SYX", None: "YX"}[planar]
    sizes = {"Z": slices, "Y": data.draw(st.integers(1, 40)), "X": data.draw(st.integers(1, 40)), "S": 3}
    values = np.random.default_rng(data.draw(st.integers(0, 9))).integers(0, 120, [sizes[axis] for axis in axes])
    options = {
        "photometric": photometric,
        "planarconfig": planar,
        "compression": data.draw(st.sampled_from(codecs)),
        "tile": data.draw(st.sampled_from([None, (16, 32)])),
        "byteorder": data.draw(st.sampled_from("<>")),
        "bigtiff": data.draw(st.booleans()),
        "predictor": data.draw(st.sampled_from([None, True])),
        "metadata": {"axes": axes},
    }
    if photometric == "palette":
        kind = "u1"
        options["colormap"] = np.arange(3 * 256, dtype=np.uint16).reshape(3, 256) * 80
    try:
        written(path, values > 60 if kind == "?" else values.astype(kind), **options)
        expected = tifffile.imread(path)
    except (ValueError, TypeError, RuntimeError, AttributeError):
        return  # a combination that does not exist
    if kind == "?" and planar == "contig":
        return  # refused, see the test above
    found = read(path)
    stored = found.pixels if found.numbers is None else found.numbers
    expected = np.moveaxis(expected, axes.index("S") - len(axes), -1) if planar else expected
    if kind == "?" and slices == 1:
        assert stored.dtype == np.uint8  # of colours too, which have no numbers
    assert np.array_equal(stored, expected), options
    assert found.stacked == (slices > 1)


def test_a_palette_of_16_or_of_8_bits_gives_its_colours(tmp_path):
    palette = np.random.default_rng(0).integers(0, 256, (3, 256)).astype(np.uint16)
    for number, scale in enumerate((257, 1)):  # old writers fill 8 of the 16 bits
        path = written(tmp_path / f"{number}.tif", RAMP, photometric="palette", colormap=palette * scale)
        found = read(path)
        assert np.array_equal(found.numbers, RAMP)
        assert np.array_equal(found.pixels, palette.T[RAMP])
        assert is_colour(path)


def test_colours_of_16_bits_keep_their_depth_and_extra_samples_are_dropped(tmp_path):
    deep = colours().astype(np.uint16) * 200
    assert np.array_equal(read(written(tmp_path / "a.tif", deep, photometric="rgb")).pixels, deep)
    source = Images(tmp_path, colour="grey")
    grey = source.load("a").channels[0].voxels[..., 0].T
    assert np.abs(grey - deep @ np.array([0.299, 0.587, 0.114])).max() < 1
    alpha = np.dstack([colours(), np.full((24, 40), 255, np.uint8)])
    alpha[0, :5, 3] = 9
    found = read(written(tmp_path / "b.tif", alpha, photometric="rgb", extrasamples=["unassalpha"]))
    assert found.clear == 5
    assert np.array_equal(found.pixels, colours())
    found = read(written(tmp_path / "c.tif", alpha, photometric="rgb", extrasamples=["unspecified"]))
    assert (found.clear, len(found.notes)) == (0, 1)
    with pytest.raises(SourceError, match="2 samples a pixel and does not say what they are"):
        read(written(tmp_path / "d.tif", alpha[..., :2], photometric="minisblack", planarconfig="contig"))


def test_three_planes_of_tifffile_may_be_slices_and_it_is_said(tmp_path):
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, STACK[:3], photometric="rgb", planarconfig="separate")
    assert "tifffile stores a stack of three slices in the same way" in read(path).notes[0]


# --- stacks


@pytest.mark.parametrize("truncate", [False, True])
def test_a_stack_of_imagej_is_a_volume_with_its_spacing(tmp_path, truncate):
    metadata = {"axes": "ZYX", "spacing": 0.5, "unit": "um"}
    options = {"imagej": True, "resolution": (4, 2), "metadata": metadata}
    for name in ("a", "b"):
        written(tmp_path / "i" / f"{name}.tif" if (tmp_path / "i").mkdir(exist_ok=True) is None else tmp_path, STACK,
                truncate=truncate, **options)  # fmt: skip
    (tmp_path / "m").mkdir()
    mask = (STACK > 3000).astype(np.uint8)
    written(tmp_path / "m" / "a.tif", mask, imagej=True, metadata={"axes": "ZYX"})
    written(tmp_path / "m" / "b.tif", mask[0])
    source = Images(tmp_path, images="i/{key}.tif", masks=["cell=m/{key}.tif"])
    case = source.load("a")
    assert np.array_equal(case.channels[0].voxels, STACK.transpose(2, 1, 0))
    assert np.array_equal(case.label.voxels, mask.transpose(2, 1, 0))
    assert case.channels[0].spacing_mm == pytest.approx((0.00025, 0.0005, 0.0005))
    assert orientation(case.channels[0].affine_ras) == "LPS"
    assert case.warnings[0] == "spacing from ImageJ"
    with pytest.raises(
        SourceError, match=r"b\.tif is 40 wide and 30 high, its image i/b\.tif 40 wide and 30 high with 5"
    ):
        source.load("b")
    content = (tmp_path / "i" / "a.tif").read_bytes()
    (tmp_path / "i" / "a.tif").write_bytes(content[:-100] if truncate else content[: len(content) // 2])
    with pytest.raises(SourceError, match="cut short"):
        source.load("a")


def test_units_of_imagej_and_what_is_no_length(tmp_path):
    def spacing(unit: str | None, resolution=(4, 4)):
        metadata = {"axes": "ZYX", "spacing": 2.0, **({"unit": unit} if unit else {})}
        found = read(written(tmp_path / "a.tif", STACK, imagej=True, resolution=resolution, metadata=metadata))
        return found.spacing_mm, found.slice_mm

    for unit, mm in {"micron": 1e-3, "um": 1e-3, "mm": 1, "cm": 10, "inch": 25.4, "nm": 1e-6}.items():
        assert spacing(unit) == (pytest.approx((mm / 4, mm / 4)), pytest.approx(2 * mm)), unit
    for unit in (None, "pixel", "furlong"):
        assert spacing(unit) == (None, None), unit


@pytest.mark.parametrize(
    ("axes", "shape", "told"),
    [
        ("ZYX", (5, 30, 40), None),
        ("TZCYX", (1, 5, 1, 30, 40), None),
        ("ZYXS", (5, 30, 40, 3), None),
        ("TYX", (5, 30, 40), "holds 5 time points"),
        ("CYX", (5, 30, 40), "holds 5 channels"),
        ("TZCYX", (2, 5, 3, 30, 40), "holds 2 time points and 3 channels"),
    ],
)
def test_axes_of_ome(tmp_path, axes, shape, told):
    size = {"PhysicalSizeX": 0.25, "PhysicalSizeY": 500, "PhysicalSizeZ": 2}
    units = {"PhysicalSizeXUnit": "µm", "PhysicalSizeYUnit": "nm", "PhysicalSizeZUnit": "mm"}
    pixels = np.random.default_rng(0).integers(0, 255, shape).astype(np.uint8)
    colour = {"photometric": "rgb" if axes.endswith("S") else "minisblack"}
    path = written(tmp_path / "a.ome.tif", pixels, ome=True, metadata={"axes": axes, **size, **units}, **colour)
    if told:
        with pytest.raises(SourceError, match=told):
            read(path)
        return
    found = read(path)
    assert np.array_equal(found.pixels, pixels.reshape(found.pixels.shape))
    assert (found.spacing_mm, found.slice_mm) == (pytest.approx((0.00025, 0.0005)), 2.0)


def test_pages_of_which_nothing_is_said_are_slices_with_a_word(tmp_path):
    for number, options in enumerate(({}, {"metadata": None})):
        folder = tmp_path / str(number)
        folder.mkdir()
        written(folder / "a.tif", STACK, **options)
        case = Images(folder).load("a")
        assert np.array_equal(case.channels[0].voxels, STACK.transpose(2, 1, 0))
        assert "5 pages taken as slices of a volume; the file does not say what they are" in case.warnings
        assert any(warning.startswith("distance between slices unknown") for warning in case.warnings)
    assert Images(tmp_path / "0", spacing_mm=[0.5, 0.25, 3]).load("a").channels[0].spacing_mm == (0.5, 0.25, 3)
    assert read(written(tmp_path / "b.tif", STACK[:1])).shape == (30, 40)
    with pytest.raises(SourceError, match=r"claims 40 x 30 x 5 pixels, more than 5999.*--max-pixels 6000"):
        read(tmp_path / "0" / "a.tif", max_pixels=5999)


def one_by_one(path, pages):
    with tifffile.TiffWriter(path) as file:
        for page in pages:
            file.write(page)
    return path


def test_slices_that_were_written_one_by_one_are_a_stack(tmp_path):
    """`tifffile.imread` 2026.3.3 gives the first one alone."""
    path = one_by_one(tmp_path / "a.tif", STACK)
    assert tifffile.imread(path).shape == STACK.shape[1:]
    found = read(path)
    np.testing.assert_array_equal(found.pixels, STACK)
    assert found.stacked
    assert found.notes == ("5 pages taken as slices of a volume; the file does not say what they are",)


@pytest.mark.parametrize(
    "pages", [[STACK[0], STACK[1, :9]], [STACK[0], STACK[1] > 9], [STACK[0], STACK[1].astype(np.uint8)]]
)
def test_images_of_different_kinds_are_no_stack(tmp_path, pages):
    with pytest.raises(SourceError, match="holds 2 images of different kinds"):
        read(one_by_one(tmp_path / "a.tif", pages))


def test_colours_that_were_written_one_by_one_are_refused(tmp_path):
    colour = np.stack([RAMP] * 3, axis=-1)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        for _ in range(2):
            file.write(colour, photometric="rgb")
    with pytest.raises(SourceError, match="holds 2"):
        read(tmp_path / "a.tif")


@pytest.mark.parametrize(
    ("metadata", "expected", "told"),
    [
        ({"cf": 0, "c0": -32768.0, "c1": 1.0}, STACK.astype(np.int32) - 32768, "-32768 + 1 * stored"),
        ({"cf": 0, "c0": -1024.0, "c1": 1.0, "vunit": "HU"}, STACK.astype(np.int16) - 1024, "-1024 + 1 * stored"),
        ({"cf": 0, "c0": 0.5, "c1": 0.25}, (STACK * 0.25 + 0.5).astype(np.float32), "0.5 + 0.25 * stored"),
        ({"cf": 0, "c0": 0.0, "c1": 1.0}, STACK, ""),
        ({"cf": 20}, STACK, ""),
        ({"cf": 4, "c0": 1.0, "c1": 2.0}, STACK, "calibration function 4 is not applied"),
        ({}, STACK, ""),
    ],
)
def test_values_are_those_that_imagej_shows(tmp_path, metadata, expected, told):
    """ImageJ keeps a signed image as unsigned numbers and a line; masks go by the stored ones."""
    found = read(written(tmp_path / "a.tif", STACK, imagej=True, metadata={"axes": "ZYX", **metadata}))
    np.testing.assert_array_equal(found.pixels, expected)
    np.testing.assert_array_equal(found.numbers, STACK)
    assert told in " ".join(found.notes)
    assert bool(found.notes) == bool(told)


def test_a_part_of_a_set_of_files_is_refused(tmp_path):
    planes = "".join(
        f'<TiffData FirstZ="{z}" IFD="0" PlaneCount="1"><UUID FileName="{z}.tif">urn:uuid:{z}</UUID></TiffData>'
        for z in range(2)
    )
    ome = (
        '<?xml version="1.0"?><OME xmlns="http://www.openmicroscopy.org/Schemas/OME/2016-06" UUID="urn:uuid:0">'
        '<Image ID="Image:0"><Pixels ID="Pixels:0" DimensionOrder="XYZCT" Type="uint8" SizeX="6" SizeY="4" SizeZ="2" '
        f'SizeC="1" SizeT="1"><Channel ID="Channel:0" SamplesPerPixel="1"/>{planes}</Pixels></Image></OME>'
    )
    with pytest.raises(SourceError, match="one file of a data set of several"):
        read(written(tmp_path / "0.tif", RAMP, description=ome, metadata=None))


def test_of_a_pyramid_the_full_resolution_is_read_and_thumbnails_are_left_aside(tmp_path):
    full = np.random.default_rng(0).integers(0, 255, (64, 96), dtype=np.uint8)
    with tifffile.TiffWriter(tmp_path / "a.tif") as file:
        file.write(full, subifds=1, tile=(32, 32))
        file.write(full[::2, ::2], subfiletype=1, tile=(32, 32))
    with tifffile.TiffWriter(tmp_path / "b.tif") as file:
        file.write(full[::4, ::4], subfiletype=1, metadata=None)
        file.write(full, metadata=None)
        file.write(full > 9, photometric="mask", subfiletype=4, metadata=None)
    for name in "ab":
        assert np.array_equal(read(tmp_path / f"{name}.tif").pixels, full)
    with tifffile.TiffWriter(tmp_path / "c.tif") as file:
        file.write(full, metadata=None)
        file.write(full[:50, :70], metadata=None)
    with pytest.raises(SourceError, match=r"2 images of different kinds \(64x96, 50x70\)"):
        read(tmp_path / "c.tif")


def test_resolution_tags_of_every_unit(tmp_path):
    for unit, mm in {"INCH": 25.4, "CENTIMETER": 10, "MILLIMETER": 1, "MICROMETER": 1e-3}.items():
        path = written(tmp_path / "a.tif", RAMP, resolution=(200, 100), resolutionunit=unit)
        found = read(path).spacing_mm
        assert found == (pytest.approx((mm / 200, mm / 100)) if unit != "MICROMETER" else found)
    assert read(written(tmp_path / "a.tif", RAMP, resolution=(200, 100), resolutionunit="NONE")).spacing_mm is None


# --- what is refused


@pytest.mark.parametrize(
    ("pixels", "options", "reason"),
    [
        (np.zeros((4, 6, 4), np.uint8), {"photometric": "separated"}, "CMYK colours"),
        (np.zeros((4, 6), np.complex64), {}, "complex numbers; save their magnitude"),
        (np.full((4, 6), 2**40), {}, "more than 32 bits keep"),
        (np.zeros((32, 32), np.uint8), {"compression": "jpegxl"}, "compressed by JPEGXL, which is not read"),
        (np.full((4, 6), np.nan), {}, "NaN"),
        (
            np.zeros((2, 3, 4, 6), np.uint8),
            {"metadata": {"axes": "TZYX"}, "photometric": "minisblack"},
            "holds 2 time points",
        ),
    ],
)
def test_the_true_cause_is_named(tmp_path, pixels, options, reason):
    with pytest.raises(SourceError, match=reason) as told:
        read(written(tmp_path / "a.tif", pixels, **options))
    assert "copy it again" not in str(told.value)


@pytest.mark.parametrize("options", [{}, {"metadata": None}, {"compression": "lzw"}, {"tile": (16, 16)}, {"ome": True}])
def test_a_stack_cut_anywhere_is_refused_or_whole(tmp_path, options):
    pixels = STACK[:4, :12, :17]
    content = written(tmp_path / "a.tif", pixels, photometric="minisblack", **options).read_bytes()
    with tifffile.TiffFile(tmp_path / "a.tif") as file:
        page = file.pages[1]
    for end in {*range(1, len(content) - 1, 1 + len(content) // 25), len(content) - 1, page.offset}:
        (tmp_path / "a.tif").write_bytes(content[:end])
        try:
            found = read(tmp_path / "a.tif")
        except SourceError:
            continue
        assert np.array_equal(found.pixels, pixels), end


@pytest.mark.parametrize(
    ("compression", "stream"),
    [
        (8, zlib.compress(bytes(10**6))),
        (50000, imagecodecs.zstd_encode(bytes(10**6))),
        (7, encoded(np.zeros((900, 900), np.uint8), "JPEG")),
        (34933, encoded(np.zeros((900, 900), np.uint8), "PNG")),
        (34712, imagecodecs.jpeg2k_encode(np.zeros((900, 900), np.uint8))),
        (34887, imagecodecs.lerc_encode(np.zeros((900, 900), np.uint8))),
    ],
)
def test_a_strip_that_unpacks_to_more_than_it_states_is_refused(tmp_path, compression, stream):
    plain = tiff(np.zeros((10, 10), np.uint8), photometric=1)
    head = bytearray(plain[:-100])
    for at in range(10, 10 + 9 * 12, 12):
        tag = struct.unpack_from("<H", head, at)[0]
        if tag in (259, 279):
            struct.pack_into("<I", head, at + 8, compression if tag == 259 else len(stream))
    (tmp_path / "a.tif").write_bytes(bytes(head) + stream)
    with pytest.raises(SourceError, match=r"900 x 900 pixels where 10 x 10 belong|cannot be decoded"):
        read(tmp_path / "a.tif")


def test_the_orientation_tag_of_a_stack_and_its_spacing(tmp_path):
    written(tmp_path / "a.tif", STACK, resolution=(254, 508), resolutionunit="INCH", extratags=[(274, 3, 1, 6, True)])
    found = read(tmp_path / "a.tif")
    assert np.array_equal(found.pixels, np.rot90(STACK, -1, axes=(1, 2)))
    assert found.spacing_mm == pytest.approx((0.05, 0.1))


def test_pillow_agrees_on_all_orientations_and_the_spacing_turns_too(tmp_path):
    pixels = np.arange(12, dtype=np.uint8).reshape(3, 4)
    for tag in range(1, 9):
        exif = Image.Exif()
        exif[274] = tag
        path = save(tmp_path / f"{tag}.png", pixels, exif=exif, dpi=(254, 508))
        written(tmp_path / f"{tag}.tif", pixels, extratags=[(274, 3, 1, tag, True)])
        with Image.open(path) as image:
            expected = np.asarray(ImageOps.exif_transpose(image))
        assert np.array_equal(read(path).pixels, expected)
        assert np.array_equal(read(tmp_path / f"{tag}.tif").pixels, expected)
        assert read(path).orientation == read(tmp_path / f"{tag}.tif").orientation == tag
        assert read(path).spacing_mm == pytest.approx((0.1, 0.05) if tag < 5 else (0.05, 0.1), rel=1e-3)

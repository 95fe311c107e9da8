"""Masks whose meaning is not plain, orientation tags of a pair, and image files beside PNG, JPEG and TIFF."""

from __future__ import annotations

import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
import tifffile
from image_files import colours, encoded, png, save
from PIL import Image

from volseg.errors import LabelError, SourceError
from volseg.formats import Images
from volseg.formats.image_file import is_colour, read_picture
from volseg.volume import to_raster

CLASSES = np.zeros((40, 50), np.uint8)
CLASSES[5:15, 5:15] = 1
CLASSES[20:35, 20:45] = 2
OBJECT = (CLASSES == 1).astype(np.uint8)


def read(path: Path, **options):
    return read_picture(path, name=path.name, **options)


def label(folder: Path, mask: str, **options) -> tuple[np.ndarray, tuple[str, ...]]:
    save(folder / "i" / "a.png", colours(40, 50)[..., 0])
    source = Images(folder, images="i/{key}.png", masks=[f"m/{{key}}.{mask}"], axes="LPS", spacing_mm=[1], **options)
    case = source.load("a")
    return to_raster(case.label), case.warnings


# --- which numbers are the object


@pytest.mark.parametrize(("bits", "imagej"), [(1, False), (8, False), (8, True), (16, False), (16, True)])
def test_masks_that_store_white_as_zero_are_read_by_their_numbers(tmp_path, bits, imagej):
    (tmp_path / "m").mkdir()
    mask = OBJECT.astype(bool) if bits == 1 else OBJECT.astype(f"u{bits // 8}") * (2**bits - 1)
    tifffile.imwrite(tmp_path / "m" / "a.tif", mask, photometric="miniswhite", imagej=imagej)
    assert np.array_equal(label(tmp_path, "tif")[0], OBJECT)
    assert label(tmp_path, "tif")[1] == ()  # tifffile and ImageJ are known to mean the numbers
    found, warnings = label(tmp_path, "tif", classes=["cell=0", f"background={2**bits - 1}"])
    assert np.array_equal(found, 1 - OBJECT)
    assert warnings == ()


def test_of_an_unknown_writer_it_is_said(tmp_path):
    save(tmp_path / "m" / "a.tif", OBJECT.astype(bool), tiffinfo={262: 0})  # Pillow stores white as 0 then
    found, warnings = label(tmp_path, "tif")
    assert np.array_equal(found, 1 - OBJECT)
    assert "store white as zero: stored numbers above 0 are taken as marked, 95 % of the pixels" in warnings[0]
    assert np.array_equal(label(tmp_path, "tif", classes=["cell=0", "background=1"])[0], OBJECT)


def test_objects_and_classes_by_number_where_white_is_zero(tmp_path):
    (tmp_path / "m").mkdir()
    tifffile.imwrite(tmp_path / "m" / "a.tif", CLASSES, photometric="miniswhite")
    assert np.array_equal(label(tmp_path, "tif", classes=["a=1", "b=2"])[0], CLASSES)
    assert np.array_equal(label(tmp_path, "tif", objects="values")[0], CLASSES > 0)


def test_a_palette_that_shows_zero_white_is_said(tmp_path):
    image = Image.fromarray(OBJECT)
    image.putpalette([255, 255, 255, 0, 0, 0])
    (tmp_path / "m").mkdir()
    image.save(tmp_path / "m" / "a.png")
    found, warnings = label(tmp_path, "png")
    assert np.array_equal(found, 1 - OBJECT)
    assert "palette shows 0 as another colour than black" in warnings[-1]


# --- several values without a word


COLOURS = np.array([[0, 0, 0], [250, 50, 83], [51, 221, 255]], np.uint8)
SAME_BRIGHTNESS = np.array([[0, 0, 0], [255, 0, 0], [0, 255, 0]], np.uint8)


@pytest.mark.parametrize(
    ("mask", "told"),
    [
        (COLOURS[CLASSES], "2 colours beside the background (#33ddff, #fa3253)"),  # CVAT
        (SAME_BRIGHTNESS[CLASSES], "2 colours beside the background (#00ff00, #ff0000)"),
        (np.array([0, 63, 126], np.uint8)[CLASSES], "2 values beside the background (63, 126)"),  # CHAOS
        (CLASSES.astype(np.uint16), "2 values beside the background (1, 2)"),
    ],
)
def test_several_values_are_refused_with_what_was_found(tmp_path, mask, told):
    save(tmp_path / "m" / "a.png", mask)
    with pytest.raises(LabelError) as error:
        label(tmp_path, "png")
    assert told in str(error.value)
    assert "--classes NAME=" in str(error.value)
    assert np.array_equal(label(tmp_path, "png", threshold=1)[0], CLASSES > 0)


def test_a_palette_of_classes_is_told_by_its_numbers(tmp_path):
    image = Image.fromarray(np.where(CLASSES == 2, 255, CLASSES).astype(np.uint8))
    image.putpalette([*COLOURS[:2].ravel().tolist(), *[7] * 3 * 254])
    (tmp_path / "m").mkdir()
    image.save(tmp_path / "m" / "a.png")
    with pytest.raises(LabelError, match=r"2 values beside the background \(1, 255\)"):
        label(tmp_path, "png")


def test_one_value_that_may_be_one_class_of_several_is_said(tmp_path):
    save(tmp_path / "m" / "a.png", OBJECT * 63)
    found, warnings = label(tmp_path, "png")
    assert np.array_equal(found, OBJECT)
    assert warnings == ("masks marked by 63 alone, taken for the region (--classes tells values apart)",)
    for usual in (1, 255):
        save(tmp_path / "m" / "a.png", OBJECT * np.uint8(usual))
        assert label(tmp_path, "png")[1] == ()


def test_probabilities_are_no_mask(tmp_path):
    """`--threshold 1` would mark none of them, and whatever is not 0 would be marked otherwise."""
    (tmp_path / "m").mkdir()
    tifffile.imwrite(tmp_path / "m" / "a.tif", np.where(OBJECT, 0.95, 0.05).astype(np.float32))
    with pytest.raises(LabelError, match=r"holds fractions of 1 \(0\.05, 0\.95\), as probabilities do; decide which"):
        label(tmp_path, "tif")
    found, warnings = label(tmp_path, "tif", threshold=1)
    assert not found.any()
    assert warnings == ("masks in which nothing reaches the threshold of 1 (the largest value is 0.95)",)


def test_a_threshold_above_all_values_is_said(tmp_path):
    save(tmp_path / "m" / "a.png", OBJECT * np.uint8(100))
    told = "masks in which nothing reaches the threshold of 128 (the largest value is 100)"
    assert label(tmp_path, "png", threshold=128)[1] == (told,)
    save(tmp_path / "m" / "a.png", OBJECT * np.uint8(0))
    assert label(tmp_path, "png", threshold=128)[1] == ()


@pytest.mark.parametrize("quality", [50, 75, 95])
def test_a_jpeg_of_classes_is_refused_and_one_of_a_region_is_cut_in_the_middle(tmp_path, quality):
    large = np.kron(CLASSES, np.ones((4, 4), np.uint8))
    save(tmp_path / "i" / "a.png", large)
    for table in (COLOURS, SAME_BRIGHTNESS, np.array([0, 63, 126], np.uint8), np.array([0, 127, 255], np.uint8)):
        save(tmp_path / "a.jpg", table[large], quality=quality)
        source = Images(tmp_path, images="i/{key}.png", masks=["{key}.jpg"])
        with pytest.raises(SourceError, match=r"a\.jpg is a JPEG"):
            source.load("a")
    save(tmp_path / "a.jpg", np.uint8(255) * (large > 0), quality=quality)
    case = Images(tmp_path, images="i/{key}.png", masks=["{key}.jpg"]).load("a")
    assert np.count_nonzero((to_raster(case.label) > 0) != (large > 0)) < 30


def test_a_jpeg_that_marks_nothing_though_it_is_not_black_is_refused(tmp_path):
    save(tmp_path / "m" / "a.jpg", OBJECT * 60)
    with pytest.raises(SourceError, match=r"JPEG whose largest value is 75, .* give --threshold 37"):
        label(tmp_path, "jpg")
    assert np.count_nonzero(label(tmp_path, "jpg", threshold=30)[0] != OBJECT) < 10
    save(tmp_path / "m" / "a.jpg", OBJECT * 0)
    assert not label(tmp_path, "jpg")[0].any()


# --- orientation tags


def tagged(path: Path, pixels: np.ndarray, tag: int | None) -> Path:
    exif = Image.Exif()
    if tag:
        exif[274] = tag
    return save(path, pixels, exif=exif)


def turned(pixels: np.ndarray, tag: int) -> np.ndarray:
    """By NumPy alone."""
    return {
        1: lambda raster: raster,
        2: np.fliplr,
        3: lambda raster: np.rot90(raster, 2),
        4: np.flipud,
        5: np.transpose,
        6: lambda raster: np.rot90(raster, -1),
        7: lambda raster: np.rot90(raster, 2).T,
        8: np.rot90,
    }[tag](pixels)


@pytest.mark.parametrize("tag", range(1, 9))
@pytest.mark.parametrize("square", [False, True])
@pytest.mark.parametrize("which", ["both", "image, mask as stored", "image, mask as shown", "mask"])
def test_image_and_mask_are_one_geometry_or_refused(tmp_path, tag, square, which):
    rows, columns = (9, 9) if square else (9, 14)
    image = np.random.default_rng(0).integers(1, 250, (rows, columns)).astype(np.uint8)
    mask = ((image > 128) * 255).astype(np.uint8)
    tagged(tmp_path / "i" / "a.png", turned(image, 1), tag if which != "mask" else None)
    if which == "image, mask as shown":
        tagged(tmp_path / "m" / "a.png", turned(mask, tag), None)
    else:
        tagged(tmp_path / "m" / "a.png", mask, tag if which in ("both", "mask") else None)
    source = Images(tmp_path, images="i/{key}.png", masks=["m/{key}.png"])
    told_by_size = tag >= 5 and not square and which != "mask"
    if which == "both" or tag == 1 or told_by_size:
        case = source.load("a")
        shown = to_raster(case.channels[0])
        assert np.array_equal(shown, turned(image, tag if which != "mask" else 1))
        assert np.array_equal(to_raster(case.label) > 0, shown > 128)
        said = any("their size is that before turning" in warning for warning in case.warnings)
        assert said == (which == "image, mask as stored" and tag > 1)
    else:
        with pytest.raises(SourceError, match=f"is turned by its orientation tag {tag} and .* save both upright"):
            source.load("a")


# --- other files


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"P5 3 1 7", "cut short"),  # right behind its header: these were a ValueError
        (b"P4 9 2", "cut short"),
        (b"P2 2 1 255\n1 x", "holds b'x'"),
        (b"P2 2 1 255\n1 99999999999999999999", "holds b'99999999999999999999'"),
        (b"P2 2 1 255\n1 -3", "holds b'-3'"),  # this was 253
    ],
)
def test_netpbm_that_is_no_image_is_one_line(tmp_path, content, told):
    (tmp_path / "a.pgm").write_bytes(content)
    with pytest.raises(SourceError, match=told):
        read(tmp_path / "a.pgm")


def test_netpbm_keeps_the_numbers_that_others_scale(tmp_path):
    # Pillow 13.0.0 and imageio 2.38.1 give 0, 182, 255 for the first, OpenCV 5.0.0 the numbers.
    (tmp_path / "a.pgm").write_bytes(b"P5\n# made by hand\n3 1\n7\n\x00\x05\x07")
    (tmp_path / "b.pgm").write_bytes(b"P5 2 1 4095\n" + np.array([300, 4095], ">u2").tobytes())
    (tmp_path / "c.ppm").write_bytes(b"P3 1 1 255\n1 2 3\n")
    (tmp_path / "d.pbm").write_bytes(b"P4 3 2\n" + bytes([0b01000000, 0b11100000]))
    (tmp_path / "e.pbm").write_bytes(b"P1 3 2\n0 1 0 111\n")
    assert read(tmp_path / "a.pgm").numbers.tolist() == [[0, 5, 7]]
    assert read(tmp_path / "b.pgm").pixels.tolist() == [[300, 4095]]
    assert read(tmp_path / "c.ppm").pixels.tolist() == [[[1, 2, 3]]]
    assert is_colour(tmp_path / "c.ppm")
    for name in ("d.pbm", "e.pbm"):  # 1 is black, which every reader turns round
        assert read(tmp_path / name).pixels.tolist() == [[255, 0, 255], [0, 0, 0]]
    for name, size in (("a.pgm", -1), ("d.pbm", -1), ("c.ppm", -3)):
        content = (tmp_path / name).read_bytes()
        (tmp_path / name).write_bytes(content[:size])
        with pytest.raises(SourceError, match="cut short"):
            read(tmp_path / name)
    (tmp_path / "f.pgm").write_bytes(b"P5 90000 90000 255\n")
    with pytest.raises(SourceError, match="claims 90000 x 90000 pixels"):
        read(tmp_path / "f.pgm")


@pytest.mark.parametrize(("form", "options"), [("BMP", {}), ("GIF", {}), ("WebP", {"lossless": True})])
def test_still_bmp_gif_and_webp_are_read(tmp_path, form, options):
    grey = colours()[..., 0]
    mask = (grey > 99).astype(np.uint8) * np.uint8(255)
    for number, pixels in enumerate((grey, mask)):
        path = tmp_path / f"{number}.{form.lower()}"
        path.write_bytes(encoded(pixels, form, **options))
        found = read(path)
        shown = found.pixels if not found.colour else found.pixels[..., 0]
        assert np.array_equal(shown, pixels)
        assert not found.lossy
        content = path.read_bytes()
        path.write_bytes(content[: len(content) // 2])
        with pytest.raises(SourceError, match="cannot be decoded"):
            read(path)
    path.write_bytes(encoded(np.dstack([grey] * 3), "WebP", quality=50))
    assert read(path).lossy


@pytest.mark.parametrize(
    ("content", "told"),
    [
        (b"\0\0\0\x0cjP  \r\n\x87\n", "JPEG 2000"),
        (b"\0\0\0\x1cftypheic", "HEIC or AVIF"),
        (b"%PDF-1.7", "PDF"),
        (b"\x93NUMPY\x01\0", "NumPy array"),
        (bytes(128) + b"DICM", "DICOM file; use volseg convert dicom"),
    ],
)
def test_files_that_are_not_read_are_named(tmp_path, content, told):
    (tmp_path / "a.png").write_bytes(content)
    with pytest.raises(SourceError, match=told):
        read(tmp_path / "a.png")


def test_png_interlaced_with_gamma_or_of_one_transparent_value(tmp_path):
    plain = png(4, 2, 16, 0, b"\0\x00\x01\x00\x02\x00\x03\x00\x04\0\x00\x01\x00\x01\x00\x06\x00\x07")
    at = plain.index(b"IDAT") - 4

    def with_chunk(kind: bytes, data: bytes) -> Path:
        chunk = struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
        (tmp_path / "a.png").write_bytes(plain[:at] + chunk + plain[at:])
        return tmp_path / "a.png"

    stored = [[1, 2, 3, 4], [1, 1, 6, 7]]
    assert read(with_chunk(b"gAMA", (100000).to_bytes(4, "big"))).pixels.tolist() == stored  # numbers, not light
    found = read(with_chunk(b"tRNS", b"\0\1"))
    assert (found.pixels.tolist(), found.clear) == (stored, 3)

"""One image file: every kind at its full depth, and every kind of damage refused."""

from __future__ import annotations

import numpy as np
import pytest
from image_files import colours, encoded, png, save, tiff
from PIL import Image

from volseg.errors import SourceError
from volseg.formats import MAX_PIXELS
from volseg.formats.image_file import is_colour, read_picture


def read(path, **options):
    return read_picture(path, name=path.name, **options)


def write(path, content):
    path.write_bytes(content)
    return path


@pytest.mark.parametrize("form", ["png", "tif"])
@pytest.mark.parametrize(
    "pixels",
    [
        colours()[..., 0],
        colours(),
        np.arange(24 * 40, dtype=np.uint16).reshape(24, 40) * 68,
    ],
    ids=["grey", "rgb", "grey16"],
)
def test_lossless_files_come_back_to_the_bit(tmp_path, form, pixels):
    found = read(save(tmp_path / f"a.{form}", pixels))
    assert found.pixels.dtype == pixels.dtype
    assert np.array_equal(found.pixels, pixels)
    assert (found.numbers is None) == (pixels.ndim == 3)
    assert (found.lossy, found.clear, found.notes) == (False, 0, ())


@pytest.mark.parametrize("compression", ["tiff_lzw", "tiff_adobe_deflate", "packbits"])
def test_compressed_tiff_of_16_bits(tmp_path, compression):
    pixels = np.random.default_rng(0).integers(0, 65536, (9, 70), dtype=np.uint16)
    assert np.array_equal(read(save(tmp_path / "a.tif", pixels, compression=compression)).pixels, pixels)


def test_other_numbers_of_tiff(tmp_path):
    whole = np.array([[-5, 70000], [3, 4]], dtype=np.int32)
    assert np.array_equal(read(save(tmp_path / "a.tif", whole)).pixels, whole)
    part = np.array([[0.5, -1.5], [3, 4]], dtype=np.float32)
    assert np.array_equal(read(save(tmp_path / "b.tif", part)).pixels, part)
    with pytest.raises(SourceError, match="NaN"):
        read(save(tmp_path / "c.tif", np.array([[np.nan, 1]], dtype=np.float32)))


def test_white_is_zero_is_turned_round(tmp_path):
    pixels = np.array([[0, 1000, 65535]], dtype=np.uint16)
    assert read(write(tmp_path / "a.tif", tiff(pixels, photometric=0))).pixels.tolist() == [[65535, 64535, 0]]
    assert read(write(tmp_path / "b.tif", tiff(pixels, photometric=1))).pixels.tolist() == pixels.tolist()
    small = pixels.astype(np.uint8)
    assert read(write(tmp_path / "c.tif", tiff(small, photometric=0))).pixels.tolist() == [[255, 23, 0]]


def test_jpeg_is_lossy(tmp_path):
    smooth = np.add.outer(np.arange(64), np.arange(64)).astype(np.uint8)
    found = read(save(tmp_path / "a.jpg", smooth, quality=95))
    assert found.lossy
    assert np.abs(found.pixels.astype(int) - smooth).max() < 6


def test_a_palette_gives_colours_and_its_indices(tmp_path):
    image = Image.fromarray(np.array([[0, 1, 2], [2, 2, 0]], dtype=np.uint8))
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255])
    image.save(tmp_path / "a.png")
    found = read(tmp_path / "a.png")
    assert found.numbers.tolist() == [[0, 1, 2], [2, 2, 0]]
    assert found.pixels[0].tolist() == [[255, 0, 0], [0, 255, 0], [0, 0, 255]]
    assert is_colour(tmp_path / "a.png")


def test_few_bits_are_shown_spread_and_kept_as_stored(tmp_path):
    four = write(tmp_path / "a.png", png(4, 1, 4, 0, b"\0\x01\x2f"))
    assert (read(four).numbers.tolist(), read(four).pixels.tolist()) == ([[0, 1, 2, 15]], [[0, 17, 34, 255]])
    two = write(tmp_path / "b.png", png(4, 1, 2, 0, b"\0\x1b"))
    assert (read(two).numbers.tolist(), read(two).pixels.tolist()) == ([[0, 1, 2, 3]], [[0, 85, 170, 255]])
    one = write(tmp_path / "c.png", png(4, 1, 1, 0, b"\0\x50"))
    assert (read(one).numbers.tolist(), read(one).pixels.tolist()) == ([[0, 1, 0, 1]], [[0, 255, 0, 255]])


def test_transparency_is_counted(tmp_path):
    pixels = np.dstack([colours(), np.full((24, 40), 255, np.uint8)])
    opaque = read(save(tmp_path / "a.png", pixels))
    assert opaque.clear == 0
    assert np.array_equal(opaque.pixels, pixels[..., :3])
    pixels[0, :5, 3] = 128
    half = read(save(tmp_path / "b.png", pixels))
    assert half.clear == 5
    assert np.array_equal(half.pixels, pixels[..., :3])  # alpha is dropped, not blended
    grey = pixels[..., 2:]
    assert read(save(tmp_path / "c.png", grey)).clear == 5
    assert np.array_equal(read(tmp_path / "c.png").pixels, grey[..., 0])
    save(tmp_path / "d.png", pixels[..., 0], transparency=int(pixels[0, 0, 0]))
    assert read(tmp_path / "d.png").clear == np.count_nonzero(pixels[..., 0] == pixels[0, 0, 0])


@pytest.mark.parametrize("form", ["png", "jpg", "tif"])
def test_spacing_comes_from_a_physical_resolution(tmp_path, form):
    grey = colours()[..., 0]
    x, y = read(save(tmp_path / f"a.{form}", grey, dpi=(254, 508))).spacing_mm
    assert (x, y) == (pytest.approx(0.1, rel=1e-3), pytest.approx(0.05, rel=1e-3))
    for screen in (72, 96):
        assert read(save(tmp_path / f"b.{form}", grey, dpi=(screen, screen))).spacing_mm is None
    assert read(save(tmp_path / f"c.{form}", grey)).spacing_mm is None


def test_spacing_from_centimetres_and_from_no_unit(tmp_path):
    grey = colours()[..., 0]
    found = read(save(tmp_path / "a.tif", grey, resolution_unit=3, x_resolution=100.0, y_resolution=50.0))
    assert found.spacing_mm == pytest.approx((0.1, 0.2))
    assert (
        read(save(tmp_path / "b.tif", grey, resolution_unit=1, x_resolution=2.0, y_resolution=2.0)).spacing_mm is None
    )


@pytest.mark.parametrize("form", ["jpg", "png", "tif"])
def test_the_orientation_tag_is_obeyed(tmp_path, form):
    pixels = np.zeros((16, 32), dtype=np.uint8)
    pixels[:, :8] = 255
    exif = Image.Exif()
    exif[274] = 6  # to be turned to the right by a quarter
    found = read(save(tmp_path / f"a.{form}", pixels, exif=exif, **({"quality": 95} if form == "jpg" else {})))
    assert found.pixels.shape == (32, 16)
    assert found.pixels[:8].min() > 240
    assert found.pixels[8:].max() < 15
    assert "orientation tag 6" in found.notes[0]


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("empty.png", b"", r"is empty \(0 bytes\)"),
        ("text.png", b"hello world", "is no PNG, JPEG, TIFF, BMP, GIF, WebP or Netpbm"),
        (
            "moving.gif",
            encoded(colours()[..., 0], "GIF", save_all=True, append_images=[Image.fromarray(colours(seed=1)[..., 0])]),
            "holds 2 frames, and no option chooses one",
        ),
        (
            "pages.tif",
            encoded(colours(), "TIFF", save_all=True, append_images=[Image.fromarray(colours(seed=1))] * 2),
            "holds 3 pages, and no option chooses one",
        ),
        (
            "moving.png",
            encoded(colours(), "PNG", save_all=True, append_images=[Image.fromarray(colours(seed=1))]),
            "holds 2 frames",
        ),
        ("ink.tif", tiff(np.zeros((2, 2, 4), np.uint8), photometric=5, samples=4), "CMYK"),
        ("deep.png", png(1, 1, 16, 2, b"\0" + bytes(6)), "16-bit RGB"),
        ("deep_alpha.png", png(1, 1, 16, 4, b"\0" + bytes(4)), "16-bit"),
        ("bomb.png", png(30000, 30000, 8, 0, b""), "30000 x 30000 pixels, more than 89478485"),
    ],
)
def test_refused_with_a_reason(tmp_path, name, content, reason):
    with pytest.raises(SourceError, match=reason) as caught:
        read(write(tmp_path / name, content))
    assert name in str(caught.value)


def test_cmyk_jpeg_is_refused(tmp_path):
    Image.new("CMYK", (8, 8)).save(tmp_path / "a.jpg")
    with pytest.raises(SourceError, match="CMYK"):
        read(tmp_path / "a.jpg")


def test_the_limit_of_pixels_can_be_lowered_and_raised(tmp_path):
    path = save(tmp_path / "a.png", colours()[..., 0])
    with pytest.raises(SourceError, match="--max-pixels 960"):
        read(path, max_pixels=959)
    assert read(path, max_pixels=960).pixels.shape == (24, 40)
    # Pillow's own limit for the whole program does not stand in the way of a raised one.
    large = write(tmp_path / "b.png", png(9600, 9600, 1, 0, bytes(1201 * 9600)))
    assert Image.MAX_IMAGE_PIXELS == MAX_PIXELS < 9600 * 9600
    with pytest.raises(SourceError, match="more than"):
        read(large)
    assert read(large, max_pixels=10**8).pixels.shape == (9600, 9600)


@pytest.mark.filterwarnings("ignore::UserWarning:PIL")
@pytest.mark.parametrize("form", ["PNG", "JPEG", "TIFF"])
def test_a_file_cut_anywhere_is_refused(tmp_path, form):
    content = encoded(colours(), form)
    for end in [*range(1, len(content) - 1, max(1, len(content) // 40)), len(content) - 1]:
        path = write(tmp_path / "a", content[:end])
        try:
            found = read(path)
        except SourceError:
            continue
        # A TIFF may end in tags that mean nothing for the pixels.
        assert form == "TIFF", end
        assert np.array_equal(found.pixels, colours()), end


def test_a_flipped_bit_of_a_png_is_found(tmp_path):
    content = bytearray(encoded(colours(), "PNG"))
    content[len(content) // 2] ^= 4
    with pytest.raises(SourceError, match="damaged"):
        read(write(tmp_path / "a.png", bytes(content)))


def test_an_absent_file(tmp_path):
    with pytest.raises(SourceError, match="cannot be opened"):
        read(tmp_path / "a.png")
    assert not is_colour(tmp_path / "a.png")

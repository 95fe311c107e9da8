"""Run-length masks: published examples, laws, and every string that describes no mask."""

from __future__ import annotations

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from volseg.errors import RleError, SourceError
from volseg.formats.rle import decode, encode

SHAPES = st.tuples(st.integers(1, 12), st.integers(1, 12))
MASKS = npst.arrays(np.bool_, SHAPES)


def slow_decode(rle: str, shape: tuple[int, int]) -> np.ndarray:
    """The definition, pixel by pixel: 1-based, row after row."""
    rows, columns = shape
    numbers = [int(word) for word in rle.split()]
    mask = np.zeros(shape, dtype=bool)
    for start, length in zip(numbers[::2], numbers[1::2], strict=True):
        for pixel in range(start, start + length):
            row, column = divmod(pixel - 1, columns)
            assert row < rows
            mask[row, column] = True
    return mask


@given(MASKS)
def test_decode_undoes_encode(mask):
    np.testing.assert_array_equal(decode(encode(mask), mask.shape), mask)


@given(MASKS)
def test_decode_agrees_with_the_definition(mask):
    np.testing.assert_array_equal(slow_decode(encode(mask), mask.shape), mask)


@given(MASKS)
def test_runs_are_the_fewest_and_ascend(mask):
    numbers = [int(word) for word in encode(mask).split()]
    starts, lengths = numbers[::2], numbers[1::2]
    assert sum(lengths) == mask.sum()
    gaps = [after - (start + length) for start, length, after in zip(starts, lengths, starts[1:], strict=False)]
    assert all(gap >= 1 for gap in gaps)


@given(MASKS)
def test_a_mask_that_is_no_contiguous_array_encodes_the_same(mask):
    assert encode(mask) == encode(np.asfortranarray(mask)) == encode(mask[::-1, ::-1][::-1, ::-1])


@pytest.mark.parametrize(
    ("rle", "pixels"),
    [
        # "1 3" means the pixels 1, 2, 3; "1 3 10 5" the pixels 1, 2, 3, 10, 11, 12, 13, 14 (the competition's page).
        ("1 3", [1, 2, 3]),
        ("1 3 10 5", [1, 2, 3, 10, 11, 12, 13, 14]),
        ("", []),
        ("  ", []),
        ("16 1", [16]),
        ("1 16", list(range(1, 17))),
        ("1 2 3 2", [1, 2, 3, 4]),  # runs that touch
    ],
)
def test_published_examples_count_from_1_and_row_after_row(rle, pixels):
    expected = np.zeros(16, dtype=bool)
    expected[np.array(pixels, dtype=int) - 1] = True
    np.testing.assert_array_equal(decode(rle, (4, 4)), expected.reshape(4, 4))


def test_pixels_run_along_the_row_not_the_column():
    assert decode("1 3", (4, 5))[0].tolist() == [True, True, True, False, False]
    assert decode("6 1", (4, 5))[1, 0]  # the pixel after a row of five
    assert decode("5 2", (4, 5))[[0, 1], [4, 0]].all()  # a run goes on in the next row


def test_wide_slice_has_fewer_rows_than_columns():
    mask = np.zeros((310, 360), dtype=bool)
    mask[2, 7:9] = True
    assert encode(mask) == f"{2 * 360 + 7 + 1} 2"
    assert decode(encode(mask), (310, 360)).shape == (310, 360)


@pytest.mark.parametrize(
    ("rle", "message"),
    [
        ("1", "pairs"),
        ("1 2 3", "pairs"),
        ("a 3", "whole number"),
        ("1.5 3", "whole number"),
        ("nan 3", "whole number"),
        ("99999999999999999999999 1", "whole number"),
        ("0 3", "below 1"),
        ("-4 3", "below 1"),
        ("3 0", "below 1"),
        ("3 -1", "below 1"),
        ("17 1", "past the 16 pixels"),
        ("15 3", "past the 16 pixels"),
        ("1 17", "past the 16 pixels"),
        ("1 3 3 2", "overlap or go back"),
        ("9 2 1 2", "overlap or go back"),
        ("4 1 4 1", "overlap or go back"),
    ],
)
def test_a_string_that_describes_no_mask_is_refused(rle, message):
    with pytest.raises(RleError, match=message):
        decode(rle, (4, 4))


def test_a_run_longer_than_any_integer_is_refused():
    with pytest.raises(RleError, match="past"):
        decode("9223372036854775807 9223372036854775807", (4, 4))


def test_an_error_is_a_source_error():
    assert issubclass(RleError, SourceError)


@given(st.text(alphabet="0123456789 -.ax", max_size=20), SHAPES)
def test_any_text_gives_a_mask_of_the_shape_or_the_one_error(text, shape):
    try:
        mask = decode(text, shape)
    except RleError:
        return
    assert mask.shape == shape
    assert mask.dtype == np.bool_

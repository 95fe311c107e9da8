"""A case: one grid, a key that is a file name, and at least one channel."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.cohort import Case, check_key
from volseg.errors import GeometryError, SourceError
from volseg.volume import Volume

ONE = Volume(np.zeros((4, 5, 6), np.int16), np.eye(4))
SHORTER = Volume(np.zeros((4, 5, 5), np.int16), np.eye(4))
MOVED = Volume(np.zeros((4, 5, 6), np.int16), np.array([[1, 0, 0, 9], [0, 1, 0, 0], [0, 0, 1, 0], [0, 0, 0, 1.0]]))


def make(*channels, label=None, key="case1_day2"):
    return Case(key, "case1", "day2", channels, label, "made here")


def test_channels_and_label_on_one_grid_are_a_case():
    assert make(ONE, ONE, label=ONE).warnings == ()


@pytest.mark.parametrize(
    ("volumes", "label", "message"),
    [
        ((ONE, ONE, SHORTER), ONE, "^case1_day2: channel 2 .* grid: shape 4 x 5 x 6 against 4 x 5 x 5;"),
        ((ONE, MOVED), None, "^case1_day2: channel 1 is not on the image's grid: a corner of the grid is 9 mm away"),
        ((ONE,), MOVED, "^case1_day2: the label is not on the image's grid"),
    ],
)
def test_another_grid_is_told(volumes, label, message):
    with pytest.raises(GeometryError, match=message):
        make(*volumes, label=label)


def test_a_case_needs_an_image():
    with pytest.raises(SourceError, match=r"^case1_day2: there is no image"):
        make()


@pytest.mark.parametrize("key", ["a", "case123_day20", "A-1.b_2", "007", "x" * 100])
def test_a_word_is_a_key(key):
    assert check_key(key) == key


@pytest.mark.parametrize(
    "key", ["", "a/b", "..", "../a", ".hidden", "-a", "_a", "a b", "a\n", "a\\b", "a:b", "é", "a\0"]
)
def test_what_is_no_file_name_is_no_key(key):
    with pytest.raises(SourceError, match="is no file name"):
        check_key(key)
    with pytest.raises(SourceError, match="is no file name"):
        make(ONE, key=key)

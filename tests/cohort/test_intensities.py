"""What the intensities of a cohort tell against the names of its channels."""

from __future__ import annotations

import numpy as np
import pytest

from volseg.cohort import ChannelRange, intensity_notes, range_of

AIR = ChannelRange(-1024, 3071, 40)
SCALED = ChannelRange(0, 255, 90)


@pytest.mark.parametrize(
    ("name", "ranges", "message"),
    [
        ("CT", [AIR, AIR], None),
        ("CT", [AIR, SCALED], "channel 0 (CT) is never below 0 in 1 of 2 cases (case1)"),
        ("HU", [ChannelRange(0, 1, 0.5)], "is never below 0 in 1 of 1 case (case0)"),
        ("MR", [SCALED, ChannelRange(-3, 900, 200)], None),
        ("MR", [AIR, AIR], "reaches -1024 or less in 2 of 2 cases (case0, case1), as Hounsfield units do in air"),
        ("image", [AIR, AIR, SCALED], "reaches -1024 or less in 2 of 3 cases"),
        ("T1", [AIR, SCALED, SCALED], None),
        ("PET", [ChannelRange(-0.001, 20, 1), ChannelRange(0, 9, 0.7)], None),
        ("PET", [ChannelRange(-2, 6, 1)], "is below 0 in 1 of 1 case (case0), and uptake is not"),
        ("QSM", [ChannelRange(-0.2, 0.3, 0.05)], None),
        ("SUV", [ChannelRange(0, 9, 0.7), ChannelRange(0, 5e4, 4e3)], "has a mean of 0.7 in the body of case0"),
        ("red", [ChannelRange(0, 255, 100)], None),
        ("red", [ChannelRange(0, 65535, 100)], "has values outside 0 to 255 in 1 of 1 case"),
        ("T2", [ChannelRange(0, 0, 0), SCALED], "channel 0 (T2) has one value everywhere in 1 of 2 cases (case0)"),
        ("noNorm", [AIR], None),
    ],
)
def test_what_contradicts_a_channels_name_is_told(name, ranges, message):
    notes = intensity_notes([name], {f"case{number}": {0: one} for number, one in enumerate(ranges)})
    assert len(notes) == (message is not None)
    assert message is None or message in notes[0]


def test_a_scheme_that_the_user_names_counts_more_than_the_channels_name():
    ranges = {"a": {0: AIR, 1: SCALED}}
    assert len(intensity_notes(["MR", "CT"], ranges)) == 2
    assert intensity_notes(["MR", "CT"], ranges, schemes=["ct", "mr"]) == []


def test_a_range_is_measured():
    voxels = np.zeros((20, 20, 20), np.int16)
    voxels[5:15, 5:15, 5:15] = 100
    voxels[10, 10, 10] = -5
    assert range_of(voxels) == ChannelRange(-5, 100, 100)
    assert range_of(np.full((3, 3, 3), 7)) == ChannelRange(7, 7, 7)

"""A label is on the series that it was drawn on, and an object for the series that it was made from: no other."""

from __future__ import annotations

from pathlib import Path
from tempfile import TemporaryDirectory

import numpy as np
import pytest
from dicom_set_ups import Place, SetUp, set_ups
from hypothesis import given, settings

from volseg.dicom import Dicom


def read(set_up: SetUp, folder: Path) -> tuple[dict[tuple[Place, str], set[int]], dict[Place, str]]:
    """The slices of each region on each series, and the warnings of each series; each modality by itself."""
    slices: dict[tuple[Place, str], set[int]] = {}
    warned: dict[Place, str] = {}
    for modality in sorted({set_up.modality_of(one) for one in set_up.there}):
        source = Dicom(folder, modality=modality, keep_ids=True)
        for key in source.keys():  # noqa: SIM118
            case = source.load(key)
            name = source._cases[key][0].first.name
            (place,) = [one for one in set_up.there if name.startswith(f"{one.name}_")]
            warned[place] = " ".join(case.warnings)
            for region in source.labels.regions if case.label is not None else ():
                there = np.isin(case.label.voxels, region.values).any(axis=(0, 1))
                if there.any():
                    slices[place, region.name] = set(np.flatnonzero(there).tolist())
    return slices, warned


def check_labels(set_up: SetUp) -> None:
    """No region on a series that it was not drawn on, and each on its own where the drawing says so."""
    with TemporaryDirectory() as name:
        set_up.write(Path(name))
        slices, warned = read(set_up, Path(name))
    for drawing in set_up.drawn:
        for target in filter(None, (drawing.target, drawing.second)):
            for place, told in warned.items():
                held = slices.get((place, target.name), set())
                if held:
                    assert not set_up.contradicted(drawing), (drawing, place)
                    if "frame" not in drawing.ways or set_up.frames == "absent":
                        assert "no frame of reference" in told, (drawing, told)
                for z in held:
                    if drawing.owner(target, z) != place:
                        assert set_up.may_label(drawing, place), (drawing, place, set_up)
                        assert "was matched by" in told, (drawing, told)
            if drawing.explicit and target in warned and not set_up.contradicted(drawing):
                drawn = {z for z in (0, 1) if drawing.owner(target, z) == target}
                assert slices.get((target, target.name), set()) == drawn, (drawing, set_up, warned)


@given(set_ups())
@settings(max_examples=40)
def test_no_label_is_on_what_it_was_not_drawn_on(set_up: SetUp) -> None:
    check_labels(set_up)


@pytest.mark.slow
@given(set_ups())
@settings(max_examples=3000)
def test_no_label_is_on_what_it_was_not_drawn_on_in_three_thousand_set_ups(set_up: SetUp) -> None:
    check_labels(set_up)

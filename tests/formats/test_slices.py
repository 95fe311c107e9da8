"""Volumes written as slices and run lengths and read back: real data bit for bit."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import hypothesis.extra.numpy as npst
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.cohort import Case
from volseg.errors import LabelError, SourceError, UsageError
from volseg.formats import UwMadison, write_raw, write_scan
from volseg.formats.uw_madison import LABELS
from volseg.labels import LabelTable
from volseg.volume import Volume, affine_of_axes, read_volume

PLAIN = affine_of_axes("LPI", (1.5, 1.5, 3))
HIPPOCAMPUS = LabelTable.exclusive(["Anterior", "Posterior"])
# Ten whose intensities are whole numbers; the files hold uint8.
WHOLE = ("001", "033", "070", "087", "109", "124", "142", "163", "220", "319")
# Float volumes with fractions.
BROKEN = ("003", "004", "007")
ABDOMEN = LabelTable.of({"stomach": 6, "small_bowel": 13, "colon": 15})


def a_case(
    key: str = "case1_day2", *, label: Volume | bool = True, affine: np.ndarray = PLAIN, **changes: object
) -> Case:
    rng = np.random.default_rng(len(key))
    image = rng.integers(0, 65536, (5, 4, 3)).astype(np.uint16)
    values = rng.integers(0, 8, (5, 4, 3)).astype(np.uint8)
    parts = {
        "key": key,
        "patient": key.rsplit("_day", 1)[0],
        "session": "",
        "channels": (Volume(image, affine),),
        "label": label if isinstance(label, Volume) else Volume(values, affine) if label else None,
        "source": "test",
    }
    return Case(**(parts | changes))


def with_voxels(voxels: np.ndarray) -> Case:
    return a_case(channels=(Volume(voxels, PLAIN),), label=False)


def table_of(raw: Path) -> list[list[str]]:
    with (raw / "train.csv").open(newline="") as file:
        return list(csv.reader(file))


def check_same(case: Case, back: Case) -> None:
    np.testing.assert_array_equal(back.channels[0].voxels, case.channels[0].voxels)
    assert np.array_equal(back.channels[0].affine_ras, case.channels[0].affine_ras)
    if case.label is None:
        assert back.label is None
    else:
        np.testing.assert_array_equal(back.label.voxels, case.label.voxels)


# --- real data


def test_ten_hippocampus_volumes_survive_bit_for_bit(shared_data, tmp_path):
    folder = shared_data / "Task04_Hippocampus"
    cases = {}
    for number in WHOLE:
        name = f"hippocampus_{number}"
        image, label = (read_volume(folder / part / f"{name}.nii.gz") for part in ("imagesTr", "labelsTr"))
        values = HIPPOCAMPUS.check(label.voxels)
        assert set(np.unique(values)) == {0, 1, 2}
        cases[name] = Case(name, name, "", (image,), Volume(values, label.affine_ras), "Task04_Hippocampus")
    write_raw(tmp_path / "raw", cases.values(), HIPPOCAMPUS)

    source = UwMadison(tmp_path / "raw", labels=HIPPOCAMPUS)
    assert list(source.keys()) == sorted(f"{name}_day0" for name in cases)
    for name, case in cases.items():
        back = source.load(f"{name}_day0")
        check_same(case, back)
        assert back.patient == name
        assert back.warnings == ()


@pytest.mark.parametrize("number", BROKEN)
def test_hippocampus_volumes_with_fractions_are_refused_and_leave_nothing(shared_data, tmp_path, number):
    image = read_volume(shared_data / "Task04_Hippocampus" / "imagesTr" / f"hippocampus_{number}.nii.gz")
    key = f"hippocampus_{number}"
    with pytest.raises(SourceError, match=f"^{key}: the intensities hold fractions.*scale and round the image first"):
        write_raw(tmp_path / "raw", [Case(key, key, "", (image,), None, "")], HIPPOCAMPUS)
    assert not list(tmp_path.iterdir())


def test_stomach_small_bowel_and_colon_of_a_real_mr_survive(shared_data, tmp_path):
    image = read_volume(shared_data / "abdomen" / "mr.nii.gz")
    organs = read_volume(shared_data / "abdomen" / "mr_labels.nii.gz")
    assert image.voxels.dtype == np.int16
    assert image.voxels.min() < 0  # the slices hold no negative number: shift it by its minimum, which loses nothing
    shifted = Volume((image.voxels - image.voxels.min()).astype(np.uint16), image.affine_ras)
    values = np.where(np.isin(organs.voxels, (6, 13, 15)), organs.voxels, 0).astype(np.uint8)
    case = Case("s0001_day0", "s0001", "day0", (shifted,), Volume(values, organs.affine_ras), "abdomen")
    write_raw(tmp_path / "raw", [case], ABDOMEN)

    back = UwMadison(tmp_path / "raw", labels=ABDOMEN).load("s0001_day0")
    check_same(case, back)
    for value in (6, 13, 15):
        assert (back.label.voxels == value).sum() == (organs.voxels == value).sum() > 300
    np.testing.assert_array_equal(back.channels[0].voxels.astype(np.int16) + image.voxels.min(), image.voxels)
    with pytest.raises(SourceError, match=r"from -47 to 833, .* shift the image by its minimum"):
        write_scan(tmp_path / "other", Case("s0001", "s0001", "", (image,), None, ""), ABDOMEN)


# --- the layout


def test_layout_and_rows(tmp_path):
    values = np.zeros((5, 4, 3), np.uint8)
    values[1, 0, 0] = 3  # both bowels
    values[2:4, 0, 0] = 1
    values[4, 3, 2] = 4
    write_raw(tmp_path / "raw", [a_case(label=Volume(values, PLAIN))], LABELS)
    files = sorted(path.relative_to(tmp_path).as_posix() for path in tmp_path.rglob("*") if path.is_file())
    assert files == [
        "raw/train.csv",
        *(f"raw/train/case1/case1_day2/scans/slice_{i:04d}_5_4_1.50_1.50.png" for i in (1, 2, 3)),
    ]
    assert table_of(tmp_path / "raw") == [
        ["id", "class", "segmentation"],
        ["case1_day2_slice_0001", "large_bowel", "2 3"],
        ["case1_day2_slice_0001", "small_bowel", "2 1"],
        ["case1_day2_slice_0001", "stomach", ""],
        ["case1_day2_slice_0002", "large_bowel", ""],
        ["case1_day2_slice_0002", "small_bowel", ""],
        ["case1_day2_slice_0002", "stomach", ""],
        ["case1_day2_slice_0003", "large_bowel", ""],
        ["case1_day2_slice_0003", "small_bowel", ""],
        ["case1_day2_slice_0003", "stomach", "20 1"],
    ]


def test_cases_without_label_go_to_test(tmp_path):
    cases = [a_case("case1_day2"), a_case("case2_day0", label=False)]
    write_raw(tmp_path / "raw", cases, LABELS)
    source = UwMadison(tmp_path / "raw")
    assert [source.labelled(case.key) for case in cases] == [True, False]
    for case in cases:
        check_same(case, source.load(case.key))
    write_raw(tmp_path / "unlabelled", cases[1:], LABELS)
    check_same(cases[1], UwMadison(tmp_path / "unlabelled").load("case2_day0"))


@pytest.mark.parametrize(
    "affine",
    [
        np.array([[-1.5, 0, 0, 1e-9], [0, -1.63, 0, 0], [0, 0, 3, 0], [0, 0, 0, 1]]),  # a hair off the origin
        affine_of_axes("LPI", (1.625, 1.5, 3)),
        affine_of_axes("LPI", (1.5, 1.5, 1.5)),
        np.diag([1.5, 1.5, 3, 1]),
        affine_of_axes("LPS", (1.5, 1.5, 3)),  # of cohorts that earlier versions wrote
        affine_of_axes("LPI", (0.001, 0.001, 0.002)),
        np.array([[0.1, 0.9, 0, -7.25], [-0.8, 0.2, 0.3, 1 / 3], [0.1, 0, 2.5, 1e3], [0, 0, 0, 1]]),
        np.diag(np.array([-1.63, -1.63, 3, 1], np.float32)),  # 1.63 as float32 is not 1.63
    ],
)
def test_an_affine_that_the_layout_cannot_state_comes_back_exactly(tmp_path, affine):
    cases = [a_case("case1_day2", affine=affine), a_case("case1_day3")]
    write_raw(tmp_path / "raw", cases, LABELS)
    assert list(json.loads((tmp_path / "raw" / "geometry.json").read_text())) == ["case1_day2"]
    source = UwMadison(tmp_path / "raw")
    for case in cases:
        check_same(case, source.load(case.key))


@pytest.mark.parametrize("spacing", [(1.5, 1.5, 3), (1.63, 1.63, 3), (0.01, 12.34, 3.0)])
def test_an_affine_that_the_layout_states_needs_no_sidecar(tmp_path, spacing):
    case = a_case(affine=affine_of_axes("LPI", spacing))
    write_raw(tmp_path / "raw", [case], LABELS)
    assert not (tmp_path / "raw" / "geometry.json").exists()
    check_same(case, UwMadison(tmp_path / "raw").load(case.key))


@settings(max_examples=25, deadline=None)
@given(data=st.data())
def test_any_case_comes_back(tmp_path_factory, data):
    shape = data.draw(st.tuples(st.integers(1, 6), st.integers(1, 6), st.integers(1, 4)))
    image = data.draw(npst.arrays(np.uint16, shape))
    values = data.draw(npst.arrays(np.uint8, shape, elements=st.integers(0, 7)))
    affine = affine_of_axes("LPI", [data.draw(st.integers(1, 999)) / 100 for _ in range(2)] + [3])
    case = Case("a_day1", "a", "day1", (Volume(image, affine),), Volume(values, affine), "")
    raw = tmp_path_factory.mktemp("any") / "raw"
    write_raw(raw, [case], LABELS)
    back = UwMadison(raw).load("a_day1")
    check_same(case, back)
    assert back.warnings == ()


def test_names_that_a_table_must_quote_come_back(tmp_path):
    table = LabelTable.overlapping(["left, upper", 'the "core"', "NA"])
    case = a_case()
    write_raw(tmp_path / "raw", [case], table)
    check_same(case, UwMadison(tmp_path / "raw", labels=table).load(case.key))


def test_a_table_of_many_regions_comes_back(tmp_path):
    table = LabelTable.exclusive([f"organ{i}" for i in range(1, 31)])
    values = (np.arange(60) % 31).reshape(5, 4, 3).astype(np.uint8)
    case = a_case(label=Volume(values, PLAIN))
    write_raw(tmp_path / "raw", [case], table)
    check_same(case, UwMadison(tmp_path / "raw", labels=table).load(case.key))


def test_day0_is_added_to_other_keys_and_a_lost_patient_is_said(tmp_path, caplog):
    write_raw(tmp_path / "raw", [a_case("sub1_ses2", patient="sub1"), a_case("b")], LABELS)
    source = UwMadison(tmp_path / "raw")
    assert list(source.keys()) == ["b_day0", "sub1_ses2_day0"]
    assert caplog.text.count("takes the patient from the key") == 1
    assert "sub1 becomes sub1_ses2" in caplog.text


# --- intensities


@pytest.mark.parametrize("dtype", [np.uint8, np.int16, np.uint16, np.int32, np.float32, np.float64, bool])
def test_whole_numbers_of_any_type_are_written(tmp_path, dtype):
    voxels = np.array([0, 1, 127, 1], np.int64).reshape(2, 2, 1).astype(dtype)
    write_raw(tmp_path / "raw", [with_voxels(voxels)], LABELS)
    np.testing.assert_array_equal(UwMadison(tmp_path / "raw").load("case1_day2").channels[0].voxels, voxels)


def test_the_whole_range_of_floats_is_written(tmp_path):
    voxels = np.array([0, 65535, 255, 256], np.float32).reshape(2, 2, 1)
    write_raw(tmp_path / "raw", [with_voxels(voxels)], LABELS)
    np.testing.assert_array_equal(UwMadison(tmp_path / "raw").load("case1_day2").channels[0].voxels, voxels)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (0.5, "fractions"),
        (np.nan, "fractions, NaN"),
        (np.inf, "infinity"),
        (-1.0, "from -1 to 0, .* hold 0 to 65535"),
        (65536.0, "from 0 to 65536, .* hold 0 to 65535"),
        (1e30, "from 0 to 1e"),
    ],
)
def test_intensities_that_slices_do_not_hold_are_refused(tmp_path, value, message):
    voxels = np.zeros((2, 2, 1), np.float32)
    voxels[1, 0, 0] = value
    with pytest.raises(SourceError, match=f"^case1_day2: the intensities .*{message}.*keep it as NIfTI"):
        write_scan(tmp_path, with_voxels(voxels), LABELS)
    assert not list(tmp_path.iterdir())


# --- refusals leave nothing behind


def test_two_channels_are_refused(tmp_path):
    channel = Volume(np.zeros((2, 2, 1), np.uint16), PLAIN)
    with pytest.raises(SourceError, match=r"2 channels, the slices hold one; write each channel"):
        write_scan(tmp_path, a_case(channels=(channel, channel), label=False), LABELS)


def test_a_value_that_the_table_lacks_is_refused(tmp_path):
    with pytest.raises(LabelError, match=r"^case1_day2: the label map holds"):
        write_raw(tmp_path / "raw", [a_case()], HIPPOCAMPUS)
    assert not list(tmp_path.iterdir())


def test_two_cases_of_one_key_are_refused(tmp_path):
    with pytest.raises(SourceError, match="two cases are written under the key a_day0"):
        write_raw(tmp_path / "raw", [a_case("a"), a_case("a_day0")], LABELS)
    with pytest.raises(SourceError, match="two cases are written under the key a_day0"):
        write_raw(tmp_path / "raw", [a_case("a"), a_case("a_day0", label=False)], LABELS)
    assert not list(tmp_path.iterdir())


def test_no_case_is_refused(tmp_path):
    with pytest.raises(SourceError, match="no case"):
        write_raw(tmp_path / "raw", [], LABELS)


def test_a_full_folder_is_refused_and_an_empty_one_is_filled(tmp_path):
    (tmp_path / "raw").mkdir()
    write_raw(tmp_path / "raw", [a_case()], LABELS)
    with pytest.raises(UsageError, match="is not empty"):
        write_raw(tmp_path / "raw", [a_case()], LABELS)
    with pytest.raises(SourceError, match="is there already"):
        write_scan(tmp_path / "raw", a_case(), LABELS)
    assert [path.name for path in tmp_path.iterdir()] == ["raw"]


def test_a_run_that_dies_between_two_cases_leaves_nothing(tmp_path):
    def cases():
        yield a_case()
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        write_raw(tmp_path / "raw", cases(), LABELS)
    assert not list(tmp_path.iterdir())

"""The label table: masks and label maps are inverse, and networks' channels become the right values."""

from __future__ import annotations

import json

import nibabel
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from volseg.errors import LabelError
from volseg.labels import Code, LabelTable, Region
from volseg.volume import read_volume

NAMES = [f"organ{i}" for i in range(8)]
NESTED = LabelTable.of({"whole": [1, 2, 3], "core": [2, 3], "enhancing": 3})
BOWELS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])

overlapping = st.integers(1, 8).map(lambda count: LabelTable.overlapping(NAMES[:count]))
exclusive = st.integers(1, 8).map(lambda count: LabelTable.exclusive(NAMES[:count]))
shapes = st.tuples(*[st.integers(1, 5)] * 3)


def masks_of(table):
    return shapes.flatmap(lambda shape: hnp.arrays(bool, (len(table.regions), *shape)))


def maps_of(table):
    return hnp.arrays(np.uint8, shapes, elements=st.sampled_from(table.values))


@given(overlapping.flatmap(lambda table: st.tuples(st.just(table), masks_of(table))))
def test_overlapping_masks_survive_the_label_map(drawn):
    table, masks = drawn
    np.testing.assert_array_equal(table.masks(table.encode(masks)), masks)


@given(st.one_of(overlapping, exclusive, st.just(NESTED)).flatmap(lambda t: st.tuples(st.just(t), maps_of(t))))
def test_a_label_map_survives_its_masks(drawn):
    table, label_map = drawn
    back = table.encode(table.masks(label_map))
    assert back.dtype == np.uint8
    np.testing.assert_array_equal(back, label_map)


@given(masks_of(NESTED))
def test_encoding_loses_no_voxel_and_adds_none(masks):
    np.testing.assert_array_equal(NESTED.encode(masks) > 0, masks.any(axis=0))


def test_a_combination_that_no_value_stands_for_is_painted_in_order():
    # whole, core, enhancing; what nested regions cannot say falls to the last region painted.
    combinations = {(0, 0, 0): 0, (1, 0, 0): 1, (1, 1, 0): 2, (1, 1, 1): 3}
    combinations |= {(0, 1, 0): 2, (0, 0, 1): 3, (1, 0, 1): 3, (0, 1, 1): 3}
    masks = np.array(list(combinations), bool).T
    assert NESTED.encode(masks).tolist() == list(combinations.values())


def test_masks_that_share_a_voxel_without_a_value_for_it_give_the_last():
    table = LabelTable.exclusive(["a", "b"])
    assert table.encode(np.array([[1, 1, 0], [0, 1, 1]], bool)).tolist() == [1, 2, 2]


def probabilities_of(table):
    channels = hnp.arrays(np.float32, (table.channels, 3, 2, 4), elements=st.floats(0, 1, width=16))
    return st.tuples(st.just(table), channels)


@given(overlapping.filter(lambda table: table.overlap).flatmap(probabilities_of))
def test_sigmoid_channels_are_decided_at_one_half(drawn):
    table, probabilities = drawn
    np.testing.assert_array_equal(table.decide(probabilities), table.encode(probabilities > 0.5))


@given(exclusive.flatmap(probabilities_of))
def test_softmax_channels_are_decided_by_the_largest(drawn):
    table, probabilities = drawn
    np.testing.assert_array_equal(table.decide(probabilities), probabilities.argmax(axis=0))


def test_softmax_with_values_that_are_no_channel_numbers():
    table = LabelTable.of({"a": 5, "b": [7, 9]})
    assert (table.activation, table.channels) == ("softmax", 3)
    probabilities = np.eye(3, dtype=np.float32)[:, [0, 1, 2]]
    assert table.decide(probabilities).tolist() == [0, 5, 7]


@pytest.mark.parametrize("table", [BOWELS, NESTED, LabelTable.exclusive(["a", "b"])])
def test_another_number_of_channels_or_masks_is_refused(table):
    with pytest.raises(LabelError, match=f"gave {table.channels + 1} channels, the table has {table.channels}"):
        table.decide(np.zeros((table.channels + 1, 2, 2, 2), np.float32))
    with pytest.raises(LabelError, match="masks were given"):
        table.encode(np.zeros((len(table.regions) + 1, 2, 2, 2), bool))


def test_channels_follow_overlap():
    assert BOWELS.channel_names == ("large_bowel", "small_bowel", "stomach")
    assert NESTED.activation == "sigmoid"
    assert LabelTable.exclusive(["a", "b"]).channel_names == ("background", "a", "b")
    # Several values, yet no voxel in two regions.
    assert LabelTable.of({"tumour": [1, 2], "organ": 3}).activation == "softmax"


LUNG = Region("left lung", (4,), (1, 2, 3), Code("44029006", "Left lung"))
LESION = Region("lesion", (1, 2), (9, 8, 7), Code("L1", "Lesion", "99LOCAL"))


@pytest.mark.parametrize("table", [BOWELS, NESTED, LabelTable.exclusive(NAMES), LabelTable((LUNG, LESION))])
def test_dataset_json_carries_the_whole_table(table):
    dataset = json.loads(json.dumps(table.to_dataset_json()))
    assert LabelTable.from_dataset_json(dataset) == table
    assert ("regions_class_order" in dataset) == any(len(region.values) > 1 for region in table.regions)


def test_regions_class_order_paints_as_nnunet_does():
    # nnU-Net: segmentation[probability of region i > 0.5] = regions_class_order[i], one region after the other.
    assert NESTED.to_dataset_json()["regions_class_order"] == [1, 2, 3]
    masks = NESTED.masks(np.array([0, 1, 2, 3], np.uint8))
    painted = np.zeros(4, np.uint8)
    for mask, value in zip(masks, NESTED.to_dataset_json()["regions_class_order"], strict=True):
        painted[mask] = value
    assert painted.tolist() == [0, 1, 2, 3]


def test_the_decathlon_writes_value_to_name():
    table = LabelTable.from_dataset_json({"labels": {"0": "background", "1": "Anterior", "2": "Posterior"}})
    assert [(region.name, region.values) for region in table.regions] == [("Anterior", (1,)), ("Posterior", (2,))]


@pytest.mark.parametrize(
    ("dataset", "message"),
    [
        ({}, 'no "labels" object'),
        ({"labels": ["a"]}, 'no "labels" object'),
        ({"labels": {}}, "no region"),
        ({"labels": {"background": 0}}, "no region"),
        ({"labels": {"a": 0}}, "0 is the value of the background"),
        ({"labels": {"a": 256}}, "from 1 to 255"),
        ({"labels": {"a": []}}, "from 1 to 255"),
        ({"labels": {"a": 1.5}}, "expected a whole number"),
        ({"labels": {"a": "1.5"}}, "expected a whole number"),
        ({"labels": {"a": True}}, "expected a whole number"),
        ({"labels": {"a": None}}, "expected a whole number"),
        ({"labels": {"a": [1, "two"]}}, "expected a whole number"),
        ({"labels": {"1": "a", "2": "a"}}, "several values one name"),
        ({"labels": {"1": ["a"], "2": "b"}}, "must give each value one name"),
        ({"labels": {"a": 1}, "volseg": "x"}, "must be objects"),
        ({"labels": {"a": 1}, "volseg": {"colours": ["a"]}}, "must be objects"),
        ({"labels": {"a": 1}, "volseg": {"colours": {"a": [1, 2]}}}, "colour"),
        ({"labels": {"a": 1}, "volseg": {"codes": {"a": 5}}}, "code"),
        ({"labels": {"a": 1}, "volseg": {"codes": {"a": ["SCT", None, "A"]}}}, "texts"),
        ({"labels": {"a": 1}, "volseg": {"colours": {"a": [300, 0, 0]}}}, "from 0 to 255"),
        ({"labels": {"a": 1}, "volseg": {"colours": {"a": [0.9, 0.6, 0.1]}}}, "from 0 to 255"),
    ],
)
def test_a_wrong_declaration_is_refused(dataset, message):
    with pytest.raises(LabelError, match=message):
        LabelTable.from_dataset_json(dataset)


def test_a_name_needs_to_be_there_once():
    region = LabelTable.exclusive(["a"]).regions[0]
    with pytest.raises(LabelError, match="repeat a name"):
        LabelTable((region, region))


@pytest.mark.parametrize("count", [0, 9])
def test_a_uint8_keeps_one_to_eight_overlapping_regions(count):
    with pytest.raises(LabelError, match="keeps 1 to 8"):
        LabelTable.overlapping([f"organ{i}" for i in range(count)])


@pytest.mark.parametrize("dtype", ["uint8", "int8", "uint16", "int32", "int64", "float32", "float64", ">i2"])
@pytest.mark.parametrize("order", "CF")
def test_declared_values_pass_as_uint8(dtype, order):
    label_map = np.array([[[0, 1], [3, 7]], [[7, 7], [0, 0]]]).astype(dtype, order=order)
    checked = BOWELS.check(label_map)
    assert checked.dtype == np.uint8
    np.testing.assert_array_equal(checked, label_map)


def test_a_mask_passes_where_1_is_declared():
    assert LabelTable.exclusive(["a"]).check(np.array([True, False])).tolist() == [1, 0]
    assert BOWELS.check(np.zeros((0, 4, 4), np.uint8)).shape == (0, 4, 4)


@pytest.mark.parametrize(
    ("label_map", "shown"),
    [
        (np.array([0, 8], np.uint8), "8"),
        (np.array([0, 255], np.uint8), "255"),
        (np.array([0, 300], np.int16), "300"),
        (np.array([0, -1], np.int16), "-1"),
        (np.array([0, 257], np.int64), "257"),  # 1 as uint8
        (np.arange(20), "8, 9, 10, 11, 12, ..."),
    ],
)
def test_an_undeclared_value_is_named(label_map, shown):
    with pytest.raises(LabelError) as caught:
        BOWELS.check(label_map, case="case1_day2")
    assert str(caught.value).startswith(
        f"case1_day2: the label map holds {shown}; dataset.json declares [0, 1, 2, 3, 4, 5, 6, 7]. "
    )


@pytest.mark.parametrize(("value", "shown"), [(0.5, "0.5"), (2.002, "2.002"), (np.nan, "nan"), (np.inf, "inf")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_fraction_is_refused_with_its_cause(value, shown, dtype):
    cause = ".* interpolation" if np.isfinite(value) else "write 0 there"
    with pytest.raises(LabelError, match=rf"^k: the label map holds {shown}, expected whole numbers; {cause}"):
        BOWELS.check(np.array([0, value], dtype), case="k")


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_a_value_that_was_rounded_on_its_way_is_the_whole_number(dtype):
    """0.99999994 is what ITK's resampling gives for 1; -1e-7 for 0."""
    stored = np.array([0, -1e-7, 0.99999994, 2.0009, 6.9999], dtype)
    checked = BOWELS.check(stored)
    assert checked.dtype == np.uint8
    assert checked.tolist() == [0, 0, 1, 2, 7]
    with pytest.raises(LabelError, match=r"holds 9; dataset\.json declares"):
        BOWELS.check(np.array([8.99999], dtype))


@pytest.mark.parametrize("kind", [np.uint8, np.int8, np.int16, np.uint16, np.int32])
@pytest.mark.parametrize(
    "labels", [(0, 1, 2), (0, 1, 2, 3, 4), (0, 1, 4, 14), (1, 5, 104), tuple(range(118)), (0, 7, 127)]
)
def test_labels_that_nibabel_stored_as_floats_under_the_header_of_an_image_are_whole(tmp_path, kind, labels):
    """`Nifti1Image(mask.astype(float), image.affine, image.header)`: 1 of 0, 1, 2 comes back as 0.996."""
    header = nibabel.Nifti1Header()
    header.set_data_dtype(kind)
    stored = np.resize(np.array(labels, float), (8, 8, 8))
    nibabel.save(nibabel.Nifti1Image(stored, np.eye(4), header), tmp_path / "a.nii")
    table = LabelTable.of({f"r{value}": value for value in labels if value})
    read = read_volume(tmp_path / "a.nii").voxels
    np.testing.assert_array_equal(table.check(read), stored)


@pytest.mark.parametrize("steps", [255, 65535])
def test_probabilities_in_steps_are_no_labels(steps):
    """A soft mask of 8 bits holds the same steps, and values between them."""
    for most in (1, 2):
        soft = np.linspace(0, 1, 12)[:, None, None] ** 2 * most
        soft = np.rint(soft * steps / most) * most / steps
        with pytest.raises(LabelError, match="expected whole numbers"):
            BOWELS.check(soft.astype(np.float32))


def test_the_check_changes_nothing():
    label_map = np.array([0, 3], np.int16)
    BOWELS.check(label_map)
    assert (label_map.dtype, label_map.tolist()) == (np.int16, [0, 3])


@given(maps_of(NESTED), st.integers(0, 255), st.sampled_from(["uint8", "int16", "float32"]))
def test_the_check_finds_what_numpy_finds(label_map, value, dtype):
    label_map = label_map.astype(dtype)
    label_map[0, 0, 0] = value
    if value in (0, 1, 2, 3):
        np.testing.assert_array_equal(NESTED.check(label_map), label_map)
    else:
        with pytest.raises(LabelError, match=f"holds {value};"):
            NESTED.check(label_map)


def test_the_digest_tells_names_and_values_and_order_not_colours():
    digests = [
        table.digest
        for table in (
            LabelTable.of({"a": 1, "b": 2}),
            LabelTable.of({"b": 2, "a": 1}),
            LabelTable.of({"a": 1, "c": 2}),
            LabelTable.of({"a": 1, "b": 3}),
            LabelTable.of({"a": 1, "b": [2, 3]}),
        )
    ]
    assert len(set(digests)) == 5
    assert all(len(digest) == 12 for digest in digests)
    red = LabelTable.of({"a": 1, "b": 2}, {"colours": {"a": [255, 0, 0]}})
    assert red.digest == digests[0]
    assert red != LabelTable.of({"a": 1, "b": 2})


def test_the_ignore_label_of_nnunet_is_no_region() -> None:
    table = LabelTable.from_dataset_json({"labels": {"background": 0, "organ": 1, "ignore": 2}})
    assert (table.names, table.values, table.ignore) == (("organ",), (0, 1), 2)


@pytest.mark.parametrize("turn", [(0, 1, 2), (2, 0, 1)])
def test_voxels_of_regions_are_those_of_their_masks(monkeypatch, turn):
    monkeypatch.setattr("volseg.labels.values._SLAB_VOXELS", 50)
    table = LabelTable.overlapping(["a", "b", "c"])
    label_map = np.random.default_rng(0).integers(0, 8, (7, 9, 11)).astype(np.uint8).transpose(turn)[:, ::-1, ::2]
    masks = dict(zip(table.names, table.masks(label_map), strict=True))
    assert table.voxels_of_regions(label_map) == {name: int(mask.sum()) for name, mask in masks.items()}
    assert set(table.voxels_of_regions(np.zeros((0, 3), np.uint8)).values()) == {0}


@pytest.mark.parametrize(
    "table",
    [
        LabelTable.exclusive(["a", "b", "c"]),
        LabelTable.of({"a": 3, "b": 7}),
        LabelTable.of({"whole": [1, 2], "core": 2}),
        LabelTable.overlapping(["a", "b"]),
    ],
)
def test_masks_hold_the_values_of_their_regions_alone(table):
    """Also of a region of one value, and where a voxel bears another value than the table's, such as `ignore`."""
    label_map = np.arange(256, dtype=np.uint8).reshape(4, 8, 8)
    expected = [np.isin(label_map, region.values) for region in table.regions]
    np.testing.assert_array_equal(table.masks(label_map), expected)
    for mask, one in zip(table.each_mask(label_map[:, ::-1]), expected, strict=True):
        np.testing.assert_array_equal(mask, one[:, ::-1])
        assert mask.dtype == bool


@pytest.mark.parametrize("kind", [np.uint8, np.uint16])
def test_numbers_become_values_in_an_array_of_its_own(kind):
    numbers = np.array([[0, 1], [2, 1]], kind)
    for table, expected in (
        (LabelTable.exclusive(["a", "b"]), [0, 1, 2]),
        (LabelTable.of({"a": 9, "b": 4}), [0, 9, 4]),
    ):
        found = table.from_numbers(numbers)
        assert found.dtype == np.uint8
        assert not np.shares_memory(found, numbers)
        np.testing.assert_array_equal(found, np.array(expected)[numbers])


def test_of_several_values_of_one_combination_the_least_is_written_as_in_nnunet_s_order():
    """BraTS without its third region: core and enhancing tumour are one combination, and 4 would say enhancing."""
    table = LabelTable.of({"whole": [1, 2, 4], "core": [1, 4]})
    masks = np.array([[True, True, False], [True, False, False]])
    assert table.encode(masks).tolist() == [1, 2, 0]
    assert table.to_dataset_json()["regions_class_order"] == [2, 1]
    assert table.encode(table.masks(np.array([0, 1, 2, 4], np.uint8))).tolist() == [0, 1, 2, 1]
    many = LabelTable.of({"all": [1, 2, 3], "both": [2, 3], **{f"r{n}": n for n in range(4, 12)}})
    assert many.encode(many.masks(np.array([1, 2, 3], np.uint8))).tolist() == [1, 2, 2]  # more than eight regions


@pytest.mark.parametrize("labels", [{"0": "bg", "1": "x"}, {"bg": 0, "x": 1}, {"background": 0, "x": [0, 1]}])
def test_a_region_of_the_value_0_is_told_that_it_is_the_background(labels):
    with pytest.raises(LabelError, match=r"0 is the value of the background; .* call it background"):
        LabelTable.from_dataset_json({"labels": labels})

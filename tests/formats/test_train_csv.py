"""The table train.csv: read once, painted as each mask decoded alone would be."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from volseg.formats.rle import encode
from volseg.formats.train_csv import Rows, _by_slice, label_map, read_table
from volseg.labels import LabelTable


@st.composite
def checked_rows(draw: st.DrawFn) -> tuple[Rows, tuple[int, int, int], np.ndarray]:
    shape = draw(st.tuples(st.integers(1, 3), st.integers(1, 5), st.integers(1, 5)))
    count = draw(st.sampled_from([1, 3, 8, 9]))
    bits = draw(st.lists(st.booleans(), min_size=count * int(np.prod(shape)), max_size=count * int(np.prod(shape))))
    masks = np.array(bits, dtype=bool).reshape(count, *shape)
    lines = [(z + 1, f"r{i}", encode(masks[i, z])) for z in range(shape[0]) for i in range(count)]
    lines = draw(st.permutations(lines))
    slices, classes, texts = zip(*lines, strict=True)
    return Rows(np.array(slices), list(classes), list(texts)), shape, masks


@settings(deadline=None)
@given(checked_rows())
def test_painting_agrees_with_decoding_each_mask(drawn):
    rows, shape, masks = drawn
    names = [f"r{i}" for i in range(len(masks))]
    tables = [LabelTable.exclusive(names)] + ([LabelTable.overlapping(names)] if len(names) <= 8 else [])
    for table in tables:
        painted = label_map(rows, shape, table)
        np.testing.assert_array_equal(painted, table.encode(masks))
        np.testing.assert_array_equal(painted, _by_slice(rows, shape, table))


def test_the_table_is_read_once_for_all_cases(tmp_path):
    path = tmp_path / "train.csv"
    path.write_text("id,class,segmentation\na_day1_slice_0002,x,1 1\nb_day1_slice_0001,y,\na_day1_slice_0001,x,\n")
    rows = read_table(path)
    assert sorted(rows) == ["a_day1", "b_day1"]
    assert rows["a_day1"].slices.tolist() == [2, 1]
    assert rows["a_day1"].texts == ["1 1", ""]


def test_words_of_pandas_for_an_empty_cell(tmp_path):
    """`astype(str)` makes nan of what was empty; any other word is told with its row as the case is painted."""
    path = tmp_path / "train.csv"
    cells = ["nan", "NaN", "None", "null", "<NA>", "", "1 2", "-1"]
    lines = [f"a_day1_slice_{n:04d},x,{cell}" for n, cell in enumerate(cells, start=1)]
    path.write_text("\n".join(["id,class,segmentation", *lines]))
    assert list(read_table(path)["a_day1"].texts) == ["", "", "", "", "", "", "1 2", "-1"]

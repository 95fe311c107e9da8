"""Comparison of prediction sets: laws, a table by hand, files, the command."""

from __future__ import annotations

import csv
import itertools
import json
import xml.etree.ElementTree as ElementTree
from pathlib import Path

import numpy as np
import pytest

from volseg.cli import main
from volseg.errors import UsageError
from volseg.evaluation import RegionScores, compare, set_names
from volseg.labels import LabelTable
from volseg.report import short_comparison, write_comparison
from volseg.report.comparison import comparison_as_markdown
from volseg.report.comparison_figure import comparison_figure
from volseg.volume import Volume, write_volume

LABELS = LabelTable.exclusive(["a", "b"])


def rows_of(seed: int, *, cases: int = 20, shift: float = 0.0) -> list[RegionScores]:
    """Two cases a patient, two regions; some values are undefined."""
    generator = np.random.default_rng(seed)
    rows = []
    for i in range(cases):
        for region in ("a", "b"):
            value = float(np.clip(generator.normal(0.8 + shift, 0.05), 0, 1))
            undefined = generator.random() < 0.1
            rows.append(
                RegionScores(
                    f"c{i:02d}",
                    f"p{i // 2}",
                    region,
                    dice=None if undefined else value,
                    hd95_mm=None if undefined else 10 * (1 - value),
                )
            )
    return rows


@pytest.mark.parametrize("metric", ["dice", "hd95_mm"])
def test_identical_sets_differ_by_nothing_and_nobody_wins(metric):
    for found in compare({"A": rows_of(0), "B": rows_of(0)}, metric=metric).differences:
        assert (found.mean, found.low, found.high, found.median) == (0, 0, 0, 0)
        assert (found.wins, found.losses) == (0, 0)
        assert found.ties == found.cases
        assert (found.p, found.p_holm, found.reason) == (None, None, "no patient differs")


@pytest.mark.parametrize("metric", ["dice", "hd95_mm"])
def test_the_other_order_flips_signs_and_swaps_wins(metric):
    a, b = rows_of(1), rows_of(2, shift=0.05)
    forth, back = compare({"A": a, "B": b}, metric=metric), compare({"B": b, "A": a}, metric=metric)
    for there, here in zip(forth.differences, back.differences, strict=True):
        assert (there.first, there.second) == (here.second, here.first)
        assert there.mean == pytest.approx(-here.mean)
        assert (there.low, there.high) == pytest.approx((-here.high, -here.low))
        assert (there.wins, there.ties, there.losses) == (here.losses, here.ties, here.wins)
        assert (there.undefined_first, there.undefined_second) == (here.undefined_second, here.undefined_first)
        assert (there.p, there.p_holm) == (here.p, here.p_holm)


def test_the_order_of_the_rows_does_not_matter():
    a, b = rows_of(1), rows_of(2)
    assert compare({"A": a, "B": b}).differences == compare({"A": a[::2] + a[1::2], "B": b[::2] + b[1::2]}).differences


def test_better_is_more_dice_and_less_distance():
    a, b = rows_of(1), rows_of(1, shift=0.05)
    assert all(found.wins > found.losses for found in compare({"A": a, "B": b}).differences)
    assert all(
        found.wins > found.losses for found in compare({"A": a, "B": b}, metric="hd95_mm", tolerance=0.1).differences
    )
    assert all(found.mean < 0 for found in compare({"A": a, "B": b}, metric="hd95_mm").differences)


def test_a_table_by_hand():
    a = [
        RegionScores("k", "p", "a", dice=0.50),
        RegionScores("l", "p", "a", dice=0.60),
        RegionScores("m", "q", "a", dice=None),
    ]
    b = [
        RegionScores("k", "p", "a", dice=0.75),
        RegionScores("l", "p", "a", dice=0.605),
        RegionScores("m", "q", "a", dice=0.0),
    ]
    comparison = compare({"A": a, "B": b})
    found = comparison.differences[0]
    assert found.mean == pytest.approx((0.25 + 0.005) / 2)
    assert (found.wins, found.ties, found.losses) == (1, 1, 0)  # a difference of just the tolerance is a tie
    assert (found.cases, found.patients) == (2, 1)
    assert (found.undefined_first, found.undefined_second, found.undefined_both) == (1, 0, 0)
    assert found.low is None  # one patient has no interval
    assert found.p is None
    assert found.reason == "fewer than 6 patients differ"
    assert comparison.means["A", "a"] == pytest.approx(0.55)
    assert compare({"A": a, "B": b}, tolerance=0.3).differences[0].ties == 2


def test_the_test_is_over_patients_and_holm_over_regions_and_pairs():
    sets = {name: rows_of(seed, shift=shift) for seed, (name, shift) in enumerate([("A", 0), ("B", 0.03), ("C", 0.08)])}
    comparison = compare(sets)
    assert [(found.first, found.second, found.region) for found in comparison.differences] == [
        (first, second, region) for first, second in (("A", "B"), ("A", "C"), ("B", "C")) for region in ("a", "b")
    ]
    p = [found.p for found in comparison.differences]
    assert min(found.p_holm for found in comparison.differences) == pytest.approx(6 * min(p))
    # Each case twice, under the same patient, says nothing new.
    doubled = {
        name: [*rows, *(RegionScores(f"{row.key}x", row.patient, row.region, dice=row.dice) for row in rows)]
        for name, rows in sets.items()
    }
    assert [found.p for found in compare(doubled).differences] == pytest.approx(p)


def test_what_is_not_shared_is_named():
    a, b = rows_of(0, cases=4), rows_of(1, cases=3)
    b.append(RegionScores("c09", "p9", "", error="the prediction is not on the reference's grid"))
    a.append(RegionScores("c09", "p9", "a", dice=0.5))
    comparison = compare({"A": a, "B": b})
    assert comparison.not_shared == {"c03": ("B",)}
    assert comparison.failed == {"c09": "B: the prediction is not on the reference's grid"}
    assert list(comparison.patients) == ["c00", "c01", "c02"]
    page = comparison_as_markdown(comparison, title="T", details={})
    assert "| c03 | no prediction in B |" in page
    assert "| c09 | B: the prediction is not" in page
    assert "fewer than 6 patients differ" in page


def test_what_cannot_be_compared_is_refused():
    with pytest.raises(UsageError, match="at least two"):
        compare({"A": rows_of(0)})
    with pytest.raises(UsageError, match="must share a case"):
        compare({"A": [RegionScores("k", "p", "a", dice=1.0)], "B": [RegionScores("l", "p", "a", dice=1.0)]})
    with pytest.raises(UsageError, match="must be one of dice"):
        compare({"A": rows_of(0), "B": rows_of(0)}, metric="reference_ml")
    with pytest.raises(UsageError, match="must hold surface_dice of a shared case"):
        compare({"A": rows_of(0), "B": rows_of(0)}, metric="surface_dice")
    with pytest.raises(UsageError, match="0 or more"):
        compare({"A": rows_of(0), "B": rows_of(0)}, tolerance=float("nan"))
    with pytest.raises(UsageError, match="more than once"):
        set_names([Path("a"), Path("b/../a")])


def test_the_files_agree_with_each_other(tmp_path: Path):
    comparison = compare({"A<b>": rows_of(0), "B|c": rows_of(1, shift=0.1)})
    files = write_comparison(comparison, tmp_path, title="T", details={"cohort": "x"})
    assert [path.name for path in files] == [f"comparison.{ending}" for ending in ("csv", "json", "md", "svg")]
    first = [path.read_bytes() for path in files]
    write_comparison(comparison, tmp_path, title="T", details={"cohort": "x"})
    assert first == [path.read_bytes() for path in files]
    lines = list(csv.DictReader(files[0].read_text().splitlines()))
    content = json.loads(files[1].read_text())
    for found in content["differences"]:
        pairs = [
            (float(line["A<b>"]), float(line["B|c"]))
            for line in lines
            if line["region"] == found["region"] and line["A<b>"] and line["B|c"]
        ]
        assert len(pairs) == found["cases"]
        assert np.mean([b - a for a, b in pairs]) == pytest.approx(found["mean"], abs=1e-5)
    tree = ElementTree.fromstring(files[3].read_text())
    assert len(list(tree.iter("{http://www.w3.org/2000/svg}circle"))) == sum(
        found.cases for found in comparison.differences
    )
    assert "B|c − A<b>" in short_comparison(comparison)


def test_a_mean_tells_the_cases_that_it_covers():
    """A set that misses an organ where it is difficult has no HD95 there, and the better mean, which nothing told."""
    far = [RegionScores(f"k{one}", f"k{one}", "a", hd95_mm=mm) for one, mm in enumerate((2.0, 4.0, 30.0))]
    missing = [*far[:2], RegionScores("k2", "k2", "a", hd95_mm=None, outcome="missed")]
    page = comparison_as_markdown(compare({"A": far, "B": missing}, metric="hd95_mm"), title="T", details={})
    assert "| A | 12.00 |" in page
    assert "| B | 3.00 (2 of 3 cases) |" in page


def test_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]):
    cohort = tmp_path / "cohort"
    affine = np.diag([-1.0, -1, 2, 1])
    for i in range(3):
        label = np.zeros((10, 10, 6), np.uint8)
        label[2:6, 2:8, 1:5] = 1
        label[7:9, 2:8, 1:5] = 2
        write_volume(cohort / f"imagesTr/c{i}_0000.nii.gz", Volume(label, affine))
        write_volume(cohort / f"labelsTr/c{i}.nii.gz", Volume(label, affine))
        write_volume(tmp_path / f"a/c{i}.nii.gz", Volume(label, affine))
        if i < 2:
            write_volume(tmp_path / f"b/c{i}.nii.gz", Volume(np.roll(label, 1, axis=1), affine))
    (cohort / "dataset.json").write_text(
        json.dumps({"channel_names": {"0": "MR"}, "file_ending": ".nii.gz", **LABELS.to_dataset_json()})
    )
    with pytest.raises(SystemExit) as left:
        main(["compare", str(cohort), str(tmp_path / "a"), str(tmp_path / "b"), "-o", str(tmp_path / "out")])
    assert left.value.code == 0
    told = capsys.readouterr()
    assert "b − a" in told.out
    assert "left out  c2: no prediction in b" in told.err
    assert (tmp_path / "out/comparison.svg").is_file()
    with pytest.raises(SystemExit) as left:
        main(["compare", str(cohort), str(tmp_path / "a"), "-o", str(tmp_path / "out")])
    assert left.value.code == 2


def test_pairs_of_long_names_are_told_apart_in_the_figure():
    """Their label ended within the first name: `fold1/predictions − fold0` and `− fold2` were one and the same."""
    names = [f"nnunet_3d_fullres_adapted_fold{number}/predictions" for number in range(3)]
    rows = {name: rows_of(number) for number, name in enumerate(names)}
    svg = ElementTree.fromstring(comparison_figure(compare(rows)))
    texts = [text.text for text in svg.iter("{http://www.w3.org/2000/svg}text")]
    told = ["".join(pair) for pair in itertools.pairwise(texts) if pair[1].startswith("− ")]
    assert len(told) == 6
    assert len(set(told)) == 3
    for first, second in ((0, 1), (0, 2), (1, 2)):
        (found,) = {one for one in told if f"fold{second}/predictions− " in one and f"fold{first}/" in one}
        assert max(len(part) for part in found.split("− ")) <= 30


def test_a_pair_of_short_names_stays_in_one_line():
    svg = comparison_figure(compare({"A": rows_of(1), "B": rows_of(2)}))
    assert svg.count("B − A<") == 2


def test_a_figure_of_very_many_cases_has_the_farthest_of_each_row(monkeypatch):
    """A circle for each of 1,000 cases by 115 regions is more than a browser opens."""
    monkeypatch.setattr("volseg.report.comparison_figure._MOST_POINTS", 50)
    found = compare({"A": rows_of(1, cases=40), "B": rows_of(2, cases=40)})
    svg = comparison_figure(found)
    assert svg.count("<circle") == 50
    assert "Points: the 25 farthest of each row." in svg
    for lane in found.differences:
        farthest = sorted(map(abs, found.of_pair(lane).values()))[-25:]
        assert all(f"{value:.3f}" in svg for value in farthest)
    assert "Points:" not in comparison_figure(compare({"A": rows_of(1), "B": rows_of(2)}))

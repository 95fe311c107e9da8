"""The order of sessions, and which may be whose prior."""

from __future__ import annotations

import json
from pathlib import Path

import pandas as pd
import pytest

from volseg.cohort import (
    Adaptation,
    CaseRow,
    Cohort,
    adapted_networks,
    adapted_path,
    earlier_sessions,
    inspect_cohort,
    is_ordered,
    other_sessions,
    read_table,
    sessions_of,
)
from volseg.cohort.sessions import order_note
from volseg.cohort.table import write_table
from volseg.errors import CohortError, UsageError


def row(key, patient, session, day=None):
    return CaseRow(key, patient, session, (4, 4, 4), (1.0, 1.0, 1.0), "RAS", "", (), day=day)


def names(rows):
    return [one.name for one in sessions_of(rows)["p"]]


@pytest.mark.parametrize(
    ("told", "ordered"),
    [
        (["day10", "day9", "day0"], ["day0", "day9", "day10"]),
        (["ses-02", "ses-10", "ses-1"], ["ses-1", "ses-02", "ses-10"]),
        (["week2_day3", "week1_day10", "week2_day1"], ["week1_day10", "week2_day1", "week2_day3"]),
        (["Day2", "day11", "day1.5"], ["day1.5", "Day2", "day11"]),
        (["", "day3"], ["", "day3"]),
        (["02.01.2024", "31.12.2023", "05.01.2024"], ["31.12.2023", "02.01.2024", "05.01.2024"]),
        (["MR 02.01.24", "MR 31.12.23"], ["MR 31.12.23", "MR 02.01.24"]),
        (["2024.10.2", "2024.1.2", "2024.2.10"], ["2024.1.2", "2024.2.10", "2024.10.2"]),
        (["ses-20240201", "ses-2024-01-31"], ["ses-2024-01-31", "ses-20240201"]),
    ],
)
def test_sessions_are_ordered_by_their_numbers(told, ordered):
    assert names([row(f"k{i}", "p", name) for i, name in enumerate(told)]) == ordered


def test_patients_and_sessions_of_any_letters_have_networks_of_their_own():
    names = ["Müller", "Möller", "M_ller", "患者一", "患者二", "a b", "a_b"]
    paths = [adapted_path(Path("run"), *pair) for name in names for pair in ((name, "day1"), ("p", name))]
    assert len(set(paths)) == len(paths)


def test_the_column_day_decides():
    rows = [row("a", "p", "post", 30.0), row("b", "p", "pre", 0.0), row("c", "p", "mid", 12.5)]
    assert names(rows) == ["pre", "mid", "post"]
    with pytest.raises(CohortError, match="states the day of a and not of d"):
        sessions_of([*rows, row("d", "p", "late")])


def test_a_day_names_the_sessions_that_have_no_name_of_their_own():
    """Networks adapted to several days were one file, and `volseg adapt --before` could name none of them."""
    assert names([row("a", "p", "", 20240103.0), row("b", "p", "", 20240104.0)]) == ["day20240103", "day20240104"]
    assert names([row("a", "p", "mr", 9.0), row("b", "p", "mr", 0.0), row("c", "p", "ct", 3.5)]) == [
        "mr_day0",
        "ct",
        "mr_day9",
    ]
    assert names([row("a", "p", "")]) == [""]


def test_two_scans_on_one_day_are_one_session_and_no_prior_of_each_other():
    rows = [row("a", "p", "day0"), row("b", "p", "day4"), row("c", "p", "day4"), row("d", "p", "Day4")]
    found = sessions_of(rows)
    assert [one.keys for one in found["p"]] == [("a",), ("b", "c", "d")]
    for one in rows[1:]:
        assert [session.keys for session in earlier_sessions(found, one)] == [("a",)]
        assert [session.keys for session in other_sessions(found, one)] == [("a",)]
    same_day = [row("a", "p", "first", 3.0), row("b", "p", "second", 3.0)]
    assert [one.keys for one in sessions_of(same_day)["p"]] == [("a", "b")]


def test_the_last_earlier_session_comes_first_and_a_single_day_has_none():
    rows = [row(f"k{day}", "p", f"day{day}") for day in (0, 9, 10, 21)] + [row("one", "q", "day0")]
    found = sessions_of(rows)
    assert [one.name for one in earlier_sessions(found, rows[2])] == ["day9", "day0"]
    assert [one.name for one in other_sessions(found, rows[2])] == ["day0", "day9", "day21"]
    assert earlier_sessions(found, rows[-1]) == other_sessions(found, rows[-1]) == []
    assert [one.day for one in found["p"]] == [0, 9, 10, 21]


@pytest.mark.parametrize("told", [["12/3/2023", "1/2/2024"], ["12-3-2023", "1-2-2024"], ["13.1.2024", "1.13.2024"]])
def test_a_date_that_can_be_read_in_two_ways_tells_no_order(told):
    """By its first number 1/2/2024 was earlier than 12/3/2023."""
    rows = [row(f"k{place}", "p", name) for place, name in enumerate(told)]
    assert not is_ordered(sessions_of(rows)["p"])
    assert "tell no order of time" in str(order_note(rows))


def test_names_without_numbers_are_told():
    assert "2 patients (p, q)" in str(order_note([row(f"{p}{s}", p, s) for p in "pq" for s in ("pre", "post")]))
    assert order_note([row("a", "p", "day1"), row("b", "p", "day2"), row("c", "q", "only")]) is None


@pytest.mark.parametrize(
    ("told", "known"),
    [
        (["day9", "day10"], True),
        (["ses-01", "ses-02", "ses-02a"], False),
        (["day1a", "day1b", "day2a"], True),
        (["week1_day3", "week2_day1"], True),
        (["2024-01-31", "2024-02-01"], True),
        (["pre", "post"], False),
        (["pre1", "post2"], False),
        (["ses-pre01", "ses-post01"], False),
        (["a_day9", "b_day1"], False),
        (["", "day3"], False),
    ],
)
def test_an_order_is_one_of_time_where_numbers_make_it(told, known):
    """By the alphabet `post2` was earlier than `pre1`."""
    rows = [row(f"k{place}", "p", name) for place, name in enumerate(told)]
    found = sessions_of(rows)
    assert is_ordered(found["p"]) is known
    assert (order_note(rows) is None) is known
    earlier = [earlier_sessions(found, one) for one in rows]
    assert any(earlier) is known
    stated = [row(f"k{place}", "p", name, float(place)) for place, name in enumerate(told)]
    assert is_ordered(sessions_of(stated)["p"])


def test_the_column_comes_back_from_the_table(tmp_path):
    rows = [row("a", "p", "pre", 0.0), row("b", "p", "post", 12.5)]
    write_table(tmp_path / "cases.csv", rows)
    assert read_table(tmp_path / "cases.csv") == rows
    text = (tmp_path / "cases.csv").read_text()
    (tmp_path / "cases.csv").write_text(text.replace("12.5", "monday"))
    with pytest.raises(CohortError, match="b has the day 'monday', which is no number"):
        read_table(tmp_path / "cases.csv")


def test_check_counts_patients_by_their_sessions(tmp_path):
    import numpy as np

    from volseg.volume import Volume, write_volume

    keys = ["p_day0", "p_day9", "p_day10", "q_day0"]
    for key in keys:
        write_volume(tmp_path / "imagesTr" / f"{key}_0000.nii.gz", Volume(np.ones((4, 4, 4), np.uint8), np.eye(4)))
        write_volume(tmp_path / "labelsTr" / f"{key}.nii.gz", Volume(np.ones((4, 4, 4), np.uint8), np.eye(4)))
    (tmp_path / "dataset.json").write_text(
        '{"channel_names": {"0": "MR"}, "labels": {"background": 0, "organ": 1}, "file_ending": ".nii.gz"}'
    )
    assert "sessions: 1 patient with 1, 1 patient with 3" in inspect_cohort(Cohort.open(tmp_path)).text


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig"])
def test_days_are_read_as_a_spreadsheet_with_decimal_commas_saves_them(tmp_path, encoding):
    rows = [row("a", "p", "day0", 0), row("b", "p", "later", 12.5)]
    path = tmp_path / "cases.csv"
    write_table(path, rows)
    table = pd.read_csv(path, dtype={"session": str}, keep_default_na=False)
    table.to_csv(path, sep=";", decimal=",", encoding=encoding, index=False)
    assert "12,5" in path.read_text(encoding=encoding)
    assert read_table(path) == rows


@pytest.mark.parametrize("day", [0.0, 1.5, 20240103.0, 45294.25])
def test_a_day_comes_back_from_the_table_as_it_was(day):
    """Dates as numbers have eight digits: with six, two days of one week were one session."""
    assert CaseRow.from_csv(row("a", "p", "s", day).to_csv()).day == day


def test_adapted_networks_of_several_runs_are_not_mixed(tmp_path):
    """Of a folder of folds the last was taken, which had trained on the patient."""
    seen = Adaptation("p", ("day0",), ("p_day0",))
    for run in ("fold_0", "fold_1"):
        network = adapted_path(tmp_path / run, "p", "day0")
        network.parent.mkdir(parents=True)
        network.touch()
        network.with_suffix(".json").write_text(json.dumps(seen.to_json()))
    for folder in (tmp_path / "fold_0", tmp_path / "fold_0" / "adapted", tmp_path / "fold_0" / "adapted" / "p"):
        assert list(adapted_networks(folder).values()) == [seen]
    with pytest.raises(UsageError, match=r"must hold the adapted networks of one run, got those of .*fold_0, .*fold_1"):
        adapted_networks(tmp_path)

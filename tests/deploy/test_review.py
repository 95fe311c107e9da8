"""Which cases come first, what is written out for 3D Slicer, and the way back through `adopt`."""

from __future__ import annotations

import base64
import csv
import io
import json
import shutil
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any
from xml.etree import ElementTree

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from PIL import Image

from volseg.cli import main
from volseg.cohort import Cohort, read_corrections, write_labels, write_uncertainty
from volseg.deploy.corrections import adopt, choice, read_todo, review
from volseg.deploy.corrections.choice import ALIKE, Candidate, choose
from volseg.deploy.corrections.expected import Promise, lacking_dice
from volseg.deploy.corrections.likeness import Likeness, describe
from volseg.deploy.corrections.review import _compared
from volseg.deploy.corrections.todo import TodoRow, write_todo
from volseg.errors import CohortError, LabelError, UsageError
from volseg.formats import read_segmentation, write_segmentation
from volseg.labels import LabelTable
from volseg.volume import RGB, Volume, read_volume, write_volume

SHAPE = (16, 14, 6)
AFFINE = np.diag([1.0, 1.0, 3.0, 1.0])
TABLE = LabelTable.exclusive(["liver", "spleen"])


def label(seed: int) -> np.ndarray:
    side = 3 + seed % 5
    found = np.zeros(SHAPE, np.uint8)
    found[1 : 1 + side, 1:6, 1:5], found[10:14, 2 : 2 + side, 1:5] = 1, 2
    return found


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> tuple[Cohort, Path]:
    """Six labelled cases of six patients, and nine without label: three patients with three days each."""
    folder = tmp_path_factory.mktemp("review")
    cohort, predictions = folder / "cohort", folder / "predictions"
    keys = {f"case{n}_day0": True for n in range(6)}
    keys |= {f"case{n}_day{d}": False for n in range(7, 10) for d in range(3)}
    uncertainty = {}
    for seed, (key, labelled) in enumerate(keys.items()):
        part = "imagesTr" if labelled else "imagesTs"
        image = label(seed).astype(np.int16) * 40 + seed
        write_volume(cohort / part / f"{key}_0000.nii.gz", Volume(image, AFFINE))
        if labelled:
            write_volume(cohort / "labelsTr" / f"{key}.nii.gz", Volume(label(seed), AFFINE))
        else:
            write_volume(predictions / f"{key}.nii.gz", Volume(label(seed), AFFINE))
            uncertainty[key] = {"liver": 0.95 - 0.05 * seed, "spleen": 0.9}
    entries = {"channel_names": {"0": "CT"}, "numTraining": 6, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    (cohort / "dataset.json").write_text(json.dumps(entries))
    write_labels(predictions, TABLE, channel_names=["CT"])
    write_uncertainty(predictions, uncertainty)
    return Cohort.open(cohort), predictions


def case(key: str, patient: str, lacking: dict[str, float], **more: Any) -> Candidate:
    return Candidate(key, patient, {name: 100 * value for name, value in lacking.items()}, lacking, **more)


def test_one_in_five_is_drawn_at_random_and_a_patient_comes_once():
    cases = [case(f"p{n}_day{day}", f"p{n}", {"a": n / 30, "b": 0.1}) for n in range(30) for day in range(3)]
    chosen = choose(cases, budget=10, seed=3)
    assert [one.how for one in chosen] == ["order"] * 8 + ["random"] * 2
    assert len({one.candidate.patient for one in chosen}) == 10
    assert choose(cases, budget=10, seed=3) == chosen
    drawn = {
        one.candidate.key for seed in range(200) for one in choose(cases, budget=5, seed=seed) if one.how == "random"
    }
    assert len(drawn) > 75  # of 90: every case may be drawn
    assert [one.region for one in chosen[:4]] == ["a", "b", "a", "b"]
    assert len(choose(cases[:6], budget=10)) == 2


def test_gain_and_work_decide_together_and_no_region_is_forgotten():
    cases = [
        Candidate("dear", "1", {"a": 300.0, "b": 0.0}, {"a": 0.5, "b": 0.0}),
        Candidate("cheap", "2", {"a": 60.0, "b": 0.0}, {"a": 0.4, "b": 0.0}),
        Candidate("b alone", "3", {"a": 0.0, "b": 5.0}, {"a": 0.0, "b": 0.1}),
    ]
    assert [one.candidate.key for one in choose(cases, budget=2)] == ["cheap", "b alone"]
    assert [one.candidate.key for one in choose(cases, budget=3)] == ["cheap", "b alone", "dear"]


def kinds() -> tuple[list[Candidate], Likeness, list[str]]:
    """30 usual cases, four dark and three with gas of which little is right, and six usual labelled ones."""
    order = np.random.default_rng(0)
    cases, numbers = [], {}

    def add(key: str, *, grey: float = 0.0, edge: float = 0.0, size: float = 0.0) -> str:
        found = {"a/grey": grey, "a/edge": edge, "a/size": size}
        numbers[key] = {f"{name} {n}": float(value + order.normal()) for name, value in found.items() for n in range(4)}
        return key

    for n in range(30):
        cases.append(Candidate(add(f"usual{n}"), f"u{n}", {"a": 50.0}, {"a": 0.05}))
    for n in range(4):
        cases.append(case(add(f"dark{n}", grey=-20, edge=-20), f"d{n}", {"a": 1.0}))
    for n in range(3):
        cases.append(case(add(f"gas{n}", edge=20, size=-20), f"g{n}", {"a": 0.6}))
    return cases, Likeness(numbers), [add(f"labelled{n}") for n in range(6)]


def test_one_case_of_each_kind_comes_before_a_second_one():
    cases, likeness, known = kinds()
    chosen = choose(cases, budget=4, likeness=likeness, known=known)
    assert {one.candidate.key[:-1] for one in chosen[:2]} == {"dark", "gas"}
    assert {one.candidate.key.rstrip("0123456789") for one in chosen[2:]} == {"usual"}
    assert chosen[0].likeness < ALIKE
    assert {chosen[0].alike, chosen[1].alike} == {3, 2}
    of_no_kind = choose(cases, budget=4)
    assert [one.candidate.key[:-1] for one in of_no_kind] == ["dark"] * 4
    known_dark = choose(
        [one for one in cases if one.key != "dark0"], budget=1, likeness=likeness, known=[*known, "dark0"]
    )
    assert known_dark[0].candidate.key.startswith("gas")


def test_cases_of_one_kind_are_drawn_the_likelier_the_more_they_lack():
    cases = [case(f"c{n}", f"p{n}", {"a": 0.5}) for n in range(20)]
    cases += [case(f"more{n}", f"t{n}", {"a": 0.75}) for n in range(3)]
    order = np.random.default_rng(4)
    alike = Likeness({one.key: {"a/x": float(order.normal()), "a/y": float(order.normal())} for one in cases})
    first = [choose(cases, budget=1, seed=seed, likeness=alike)[0].candidate.key for seed in range(300)]
    assert len(set(first)) > 10
    # The three of rank 2 have a chance of 1 / 2 each, the twenty of rank 13.5 one of 1 / 13.5; some are too far off.
    assert 130 < sum(key.startswith("more") for key in first) < 240


@pytest.mark.parametrize(("lacking", "least", "most"), [(0.5, 120, 280), (0.8, 232, 320)])
def test_a_patient_of_many_days_counts_as_one_of_a_single_day(lacking, least, most):
    days = {n: 5 if n < 4 else 1 for n in range(8)}
    lacks = {n: lacking if n < 4 else 0.5 for n in days}
    cases = [case(f"p{n}_day{day}", f"p{n}", {"a": lacks[n]}) for n, number in days.items() for day in range(number)]
    order = np.random.default_rng(4)
    alike = Likeness({one.key: {"a/x": float(order.normal()), "a/y": float(order.normal())} for one in cases})
    first = [choose(cases, budget=1, seed=seed, likeness=alike)[0].candidate.patient for seed in range(400)]
    assert least < sum(int(patient[1:]) < 4 for patient in first) < most  # of the four with five days


def test_of_cases_that_are_alike_the_list_is_as_varied_as_a_random_one():
    order = np.random.default_rng(1)
    sizes = order.normal(size=(140, 3))
    cases = [Candidate(f"c{n:03}", f"p{n:03}", {"a": 600.0}, {"a": 0.1}) for n in range(120)]
    numbers = {
        f"c{n:03}": {f"a/{name}": float(value) for name, value in zip("xyz", one, strict=True)}
        for n, one in enumerate(sizes)
    }
    known = [f"c{n:03}" for n in range(120, 140)]
    spreads = []
    for seed in range(20):
        chosen = choose(cases, budget=10, seed=seed, likeness=Likeness(numbers), known=known)
        rows = [int(one.candidate.key[1:]) for one in chosen if one.how == "order"]
        spreads.append(float(sizes[rows].std(axis=0).mean()))
    assert np.mean(spreads) > 0.7 * float(sizes.std(axis=0).mean())


def test_a_usual_case_counts_by_what_is_promised_alone():
    promised = {"liver": Promise(0.9, "network")}
    assert lacking_dice(promised, 0.3) == lacking_dice(promised, 2.9) == {"liver": pytest.approx(0.1)}
    assert lacking_dice(promised, 9.0) == {"liver": pytest.approx(0.3)}


def test_the_choice_does_not_depend_on_the_order_of_cases():
    cases, likeness, known = kinds()
    chosen = choose(cases, budget=10, seed=2, likeness=likeness, known=known)
    for seed in range(5):
        order = np.random.default_rng(seed)
        others = [cases[n] for n in order.permutation(len(cases))]
        mixed = Likeness({key: likeness.cases[key] for key in order.permutation(sorted(likeness.cases)).tolist()})
        assert choose(others, budget=10, seed=2, likeness=mixed, known=order.permutation(known).tolist()) == chosen


def test_likeness_leaves_the_random_part_alone():
    cases, likeness, known = kinds()
    for seed in range(10):
        drawn = [
            [one.candidate.key for one in choose(cases, budget=10, seed=seed, **more) if one.how == "random"]
            for more in ({}, {"likeness": likeness, "known": known})
        ]
        assert drawn[0] == drawn[1]


def test_a_duplicate_of_a_chosen_or_labelled_case_comes_last():
    cases, likeness, known = kinds()
    (first, *_) = choose(cases, budget=1, likeness=likeness, known=known)
    twin = replace(first.candidate, key="twin", patient="twin")
    copies = Likeness({**likeness.cases, "twin": likeness.cases[first.candidate.key]})
    chosen = choose([*cases, twin], budget=4, likeness=copies, known=known)
    assert not {"twin", first.candidate.key} <= {one.candidate.key for one in chosen}
    chosen = choose([*cases, twin], budget=38, likeness=copies, known=known)
    order = [one.candidate.key for one in chosen if one.how == "order"]
    drawn = {one.candidate.key for one in chosen if one.how == "random"}
    assert {"twin", first.candidate.key} & drawn or order[-1] in {"twin", first.candidate.key}
    last = next(one for one in chosen if one.candidate.key == order[-1])
    assert last.likeness == 1.0
    labelled = [*known, first.candidate.key]
    others = [one for one in cases if one is not first.candidate]
    seen = choose([*others, twin], budget=37, likeness=copies, known=labelled)
    assert [one.candidate.key for one in seen if one.how == "order"][-1] == "twin"


def test_without_numbers_with_one_case_and_with_equal_cases_there_is_still_a_choice():
    cases, likeness, known = kinds()
    for empty in (Likeness({}), Likeness({one.key: {} for one in cases})):
        assert len(choose(cases, budget=30, likeness=empty, known=known)) == 30
    (only,) = choose(cases[:1], budget=5, likeness=likeness, known=known)
    assert only.candidate.key == "usual0"
    (alone,) = choose(cases[:1], budget=1, likeness=Likeness({"usual0": {"a/x": 1.0}}))
    assert (alone.nearest, alone.alike) == ("", 0)
    equal = [case(f"c{n}", f"p{n}", {"a": 0.5}) for n in range(6)]
    same = Likeness({one.key: {"a/x": 1.0} for one in equal})
    assert [one.candidate.key for one in choose(equal, budget=4, likeness=same)][1:] == ["c0", "c1", "c2"]
    nothing = [case(f"c{n}", f"p{n}", {"a": 0.0}) for n in range(6)]
    assert len(choose(nothing, budget=4, likeness=same)) == 4
    assert len(choose([Candidate("c", "p", {}, {})], budget=1)) == 1


@given(st.integers(0, 10_000))
def test_likeness_is_symmetric_and_does_not_depend_on_units(seed):
    order = np.random.default_rng(seed)
    names = ["x", "a/y", "b/z"]
    cases = {
        f"c{n}": {name: float(order.normal()) for name in names if order.random() < 0.8}
        for n in range(order.integers(2, 9))
    }
    keys = sorted(cases)
    found = Likeness(cases).of(keys, keys, region="a")
    np.testing.assert_allclose(found, found.T)
    np.testing.assert_array_equal(np.diag(found), 1.0)
    assert ((found >= 0) & (found <= 1)).all()
    scaled = {key: {name: 7 * value - 3 for name, value in one.items()} for key, one in cases.items()}
    np.testing.assert_allclose(Likeness(scaled).of(keys, keys, region="a"), found, atol=1e-6)
    without = {key: {name: value for name, value in one.items() if name != "b/z"} for key, one in cases.items()}
    np.testing.assert_array_equal(Likeness(without).of(keys, keys, region="a"), found)


def test_a_description_does_not_depend_on_the_units_of_the_scanner_and_sees_a_dark_organ():
    order = np.random.default_rng(0)
    mask = np.zeros((12, 12, 8), np.uint8)
    mask[3:9, 3:9, 2:6] = 1
    image = np.where(mask > 0, 145.0, 100.0) + order.normal(0, 5, mask.shape)
    one = describe([Volume(image, AFFINE)], Volume(mask, AFFINE), TABLE, TABLE.names)
    other = describe([Volume(image * 3 + 50, AFFINE)], Volume(mask, AFFINE), TABLE, TABLE.names)
    assert {name.split("/")[0] for name in one if "/" in name} == {"liver"}
    for name in one:
        assert other[name] == pytest.approx(one[name] + (np.log(3) if name == "range 0" else 0), abs=1e-4)
    dark = describe([Volume(2 * 100 - image, AFFINE)], Volume(mask, AFFINE), TABLE, TABLE.names)
    assert dark["liver/inside 0 middle"] < dark["liver/outside 0 middle"]
    assert one["liver/inside 0 middle"] > one["liver/outside 0 middle"]
    flat = describe([Volume(np.zeros(SHAPE), AFFINE)], Volume(label(1), AFFINE), TABLE, TABLE.names)
    assert all(np.isfinite(list(flat.values())))


def test_the_folder_opens_in_slicer_and_comes_home(made, tmp_path):
    cohort, predictions = made
    todo, failed = review(predictions, cohort, tmp_path / "todo", budget=3)
    assert failed == {}
    assert len({row.patient for row in todo.rows}) == 3
    assert todo == read_todo(tmp_path / "todo") or todo.rows[0].key == read_todo(tmp_path / "todo").rows[0].key
    key = todo.rows[0].key
    place = tmp_path / "todo" / key
    scene = ElementTree.parse(place / f"{key}.mrml").getroot()
    nodes = {node.get("id"): node for node in scene}
    assert len(nodes) == len(scene)
    volume, segmentation = scene.find("Volume"), scene.find("Segmentation")
    for node in (volume, segmentation):
        for reference in filter(None, node.get("references").split(";")):
            assert reference.split(":")[1] in nodes
    assert "referenceImageGeometryRef:vtkMRMLScalarVolumeNode1" in segmentation.get("references")
    for tag in ("VolumeArchetypeStorage", "SegmentationStorage"):
        assert (place / scene.find(tag).get("fileName")).is_file()
    for view in scene.findall("SliceComposite"):
        assert view.get("backgroundVolumeID") == volume.get("id")
    written = read_segmentation(place / f"{key}.seg.nrrd")
    assert [segment.name for segment in written.segments] == list(TABLE.names)
    page = (tmp_path / "todo" / "worksheet.html").read_text()
    assert page.count("data:image/webp") == 3
    assert f'href="{key}/{key}.mrml"' in page

    # Nobody has touched it: nothing is adopted, unless they say that it is right.
    fresh = Cohort.open(cohort.folder)
    assert adopt(tmp_path / "todo", fresh).unchanged == tuple(sorted(row.key for row in todo.rows))
    new = read_volume(predictions / f"{key}.nii.gz").voxels.copy()
    new[14, 2:5, 1:5] = 2
    write_segmentation(place / f"{key}.seg.nrrd", Volume(new, AFFINE), TABLE)
    table = (tmp_path / "todo" / "todo.csv").read_text().splitlines()
    table[1] += "7,5".replace(",", ".")
    (tmp_path / "todo" / "todo.csv").write_text("\n".join(table) + "\n")
    found = adopt(tmp_path / "todo", fresh)
    assert list(found.adopted) == [key]
    rows = {row.region: row for row in read_corrections(cohort.folder)}
    assert rows["spleen"].before == "prediction"
    assert rows["spleen"].voxels == 12
    assert rows["spleen"].slices == 4
    assert rows["liver"].added_path_mm == 0
    assert rows["liver"].case_minutes == 7.5
    assert key in Cohort.open(cohort.folder).labelled
    second, _ = review(predictions, Cohort.open(cohort.folder), tmp_path / "second", budget=9)
    assert key not in [row.key for row in second.rows]
    with pytest.raises(UsageError, match="holds a list already"):
        review(predictions, fresh, tmp_path / "todo")
    dataset = json.loads((cohort.folder / "dataset.json").read_text())
    changed = tmp_path / "changed"
    changed.mkdir()
    for name in ("imagesTr", "labelsTr", "imagesTs"):
        (changed / name).symlink_to(cohort.folder / name)
    dataset["labels"]["kidney"] = 3
    (changed / "dataset.json").write_text(json.dumps(dataset))
    with pytest.raises(CohortError, match=r"label table of .* has changed"):
        adopt(tmp_path / "todo", Cohort.open(changed))


def test_each_line_says_why_and_earlier_lists_are_read(made, tmp_path):
    cohort, predictions = made
    todo, _ = review(predictions, cohort, tmp_path / "todo", budget=3, labelled=False)
    page = (tmp_path / "todo" / "worksheet.html").read_text()
    for row in todo.rows:
        assert row.reason.startswith(("unlike anything labelled", f"like {row.nearest}, and", "drawn at random"))
        assert row.reason in page
        assert row.nearest == "" or row.nearest in cohort.rows
        assert 0 <= row.likeness <= 1
    again = read_todo(tmp_path / "todo")
    assert [row.nearest for row in again.rows] == [row.nearest for row in todo.rows]
    kept = ["rank", "key", "patient", "chosen", "expected_mm", "unlikeness", "region", "reason"]
    with (tmp_path / "todo" / "todo.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, [*kept, "image_digest", "segmentation_digest", "minutes"], extrasaction="ignore")
        writer.writeheader()
        writer.writerows(asdict(row) for row in again.rows)
    earlier = read_todo(tmp_path / "todo")
    assert [(row.key, row.nearest, row.likeness) for row in earlier.rows] == [(row.key, "", None) for row in again.rows]


def test_keys_and_digests_that_a_spreadsheet_took_for_numbers_are_known(tmp_path):
    """Who put minutes into the list by a spreadsheet was told that a case is not in it, or that its image changed."""
    one = TodoRow(1, "001", "0007", "order", 3.5, 1.0, "liver", "", "1234567890123456", "00000000000012e3")
    write_todo(tmp_path, [one, replace(one, rank=2, key="case2")], labels="0", facts={"budget": 2})
    path = tmp_path / "todo.csv"
    saved = (
        path.read_text().replace("001,0007", "1,7").replace("1234567890123456,00000000000012e3", "1.23457E+15,12000")
    )
    lines = saved.splitlines()
    path.write_text("\n".join([lines[0], f"{lines[2]}8", f"{lines[1]}7.5", ""]))
    found = read_todo(tmp_path)
    assert found.rows == (replace(one, rank=2, key="case2", minutes=8.0), replace(one, minutes=7.5))
    assert found.facts == {"budget": 2}


def test_a_case_that_has_a_label_itself_is_not_told_to_be_unlike_what_is_labelled(made, tmp_path):
    cohort, _ = made
    every = tmp_path / "every"
    write_labels(every, TABLE, channel_names=["CT"])
    for seed, key in enumerate(cohort.keys):
        write_volume(every / f"{key}.nii.gz", Volume(label(seed), AFFINE))
    for budget, out in ((2, "two"), (4, "four")):
        todo, _ = review(every, cohort, tmp_path / out, budget=budget, labelled=True)
        assert todo.rows[0].reason.startswith("unlike anything in this list; "), todo.rows[0].reason
        assert not any("labelled" in row.reason for row in todo.rows)
    assert _compared(True, False) == "labelled or in this list"
    assert _compared(True, True) == "in this list, or labelled and not predicted"
    for key in ("case0_day0", "case1_day0", "case2_day0"):  # three are left that are labelled and not predicted
        (every / f"{key}.nii.gz").unlink()
    todo, _ = review(every, cohort, tmp_path / "some", budget=4, labelled=True)
    assert not any(row.reason.startswith("unlike anything labelled") for row in todo.rows)


def test_the_command(made, tmp_path, capsys):
    cohort, predictions = made
    with pytest.raises(SystemExit) as left:
        main(["review", str(predictions), str(cohort.folder), "-o", str(tmp_path / "todo"), "--budget", "2"])
    assert not left.value.code
    told = capsys.readouterr().out
    assert " mm and a Dice of " in told
    assert "volseg adopt" in told


def test_odd_predictions_are_told_in_a_line(made, tmp_path):
    cohort, predictions = made
    todo, failed = review(predictions, cohort, tmp_path / "many", budget=99)
    assert (len(todo.rows), failed) == (3, {})  # one day of each patient
    (tmp_path / "none").mkdir()
    with pytest.raises(UsageError):
        review(tmp_path / "none", cohort, tmp_path / "out")
    other = tmp_path / "other"
    write_volume(other / "case7_day0.nii.gz", Volume(label(1), AFFINE))
    write_labels(other, LabelTable.exclusive(["colon"]), channel_names=["CT"])
    with pytest.raises(LabelError, match="no region is the same"):
        review(other, cohort, tmp_path / "out")
    write_volume(other / "case7_day0.nii.gz", Volume(label(1), AFFINE @ np.diag([2.0, 2, 1, 1])))
    write_labels(other, LabelTable.of({"Spleen": 1, "Liver": 2}), channel_names=["CT"])  # the other way round
    with pytest.raises(UsageError, match=r"no prediction of .* could be read"):
        review(other, cohort, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    write_volume(other / "case7_day0.nii.gz", Volume(label(1), AFFINE))
    todo, _ = review(other, cohort, tmp_path / "out")  # one case of another network
    (row,) = todo.rows
    file = read_segmentation(todo.place(row.key) / f"{row.key}.seg.nrrd")
    spleen = next(one for one in file.segments if one.name == "spleen")
    np.testing.assert_array_equal(file.mask(spleen), label(1) == 1)


def test_the_worksheet_shows_a_label_that_is_stored_the_other_way_round(tmp_path: Path) -> None:
    pages = []
    for turned in (False, True):
        cohort, predictions = tmp_path / f"cohort{turned}", tmp_path / f"predictions{turned}"
        for number in range(2):
            key, drawn = f"case{number}", label(number)
            write_volume(cohort / "imagesTr" / f"{key}_0000.nii.gz", Volume(drawn.astype(np.int16) * 40, AFFINE))
            affine = AFFINE @ np.diag([-1.0, 1, 1, 1]) if turned else AFFINE
            affine = affine.copy()
            affine[0, 3] = SHAPE[0] - 1.0 if turned else 0.0
            stored = drawn[::-1] if turned else drawn
            write_volume(cohort / "labelsTr" / f"{key}.nii.gz", Volume(stored, affine))
            write_volume(predictions / f"{key}.nii.gz", Volume(label(number + 1), AFFINE))
        entries = {"channel_names": {"0": "CT"}, "numTraining": 2, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
        (cohort / "dataset.json").write_text(json.dumps(entries))
        write_labels(predictions, TABLE, channel_names=["CT"])
        review(predictions, Cohort.open(cohort), tmp_path / f"todo{turned}", budget=1, labelled=True)
        pages.append((tmp_path / f"todo{turned}" / "worksheet.html").read_text())
    assert pages[0] == pages[1]


def test_the_minutes_of_a_list_are_of_one_round(made: tuple[Cohort, Path], tmp_path: Path) -> None:
    cohort, predictions = made
    shutil.copytree(cohort.folder, tmp_path / "cohort")
    todo, _ = review(predictions, Cohort.open(tmp_path / "cohort"), tmp_path / "todo", budget=1)
    (key,) = [row.key for row in todo.rows]
    table = tmp_path / "todo" / "todo.csv"
    table.write_text(f"{table.read_text().rstrip()}12.5\n")
    drawn = read_volume(predictions / f"{key}.nii.gz").voxels.copy()
    minutes = []
    for row, stated in ((12, "12.5"), (13, "12.5"), (14, "20")):
        drawn[row, 8:12, 1:5] = 1
        write_segmentation(tmp_path / "todo" / key / f"{key}.seg.nrrd", Volume(drawn, AFFINE), TABLE)
        table.write_text(table.read_text().replace("12.5\n", f"{stated}\n"))
        adopt(tmp_path / "todo", Cohort.open(tmp_path / "cohort"))
        minutes.append(read_corrections(tmp_path / "cohort")[-1].case_minutes)
    assert minutes == [12.5, None, 20.0], "what is stated once is counted once"


def test_the_page_shows_images_in_their_colours(tmp_path: Path) -> None:
    """A slide without red was black on the page."""
    rising = np.broadcast_to(np.linspace(0, 255, 16)[:, None, None], (16, 16, 1)).astype(np.uint8)
    for number, voxels in enumerate((0 * rising, rising, 0 * rising)):
        write_volume(tmp_path / "cohort" / "imagesTs" / f"slide_{number:04d}.nii.gz", Volume(voxels, np.eye(4)))
    names = {str(number): name for number, name in enumerate(RGB)}
    entries = {"channel_names": names, "numTraining": 0, "file_ending": ".nii.gz", **TABLE.to_dataset_json()}
    (tmp_path / "cohort" / "dataset.json").write_text(json.dumps(entries))
    write_volume(tmp_path / "predictions" / "slide.nii.gz", Volume(0 * rising, np.eye(4)))
    write_labels(tmp_path / "predictions", TABLE, channel_names=list(RGB))
    review(tmp_path / "predictions", Cohort.open(tmp_path / "cohort"), tmp_path / "todo", budget=1)
    page = (tmp_path / "todo" / "worksheet.html").read_text()
    data = base64.b64decode(page.partition("data:image/webp;base64,")[2].partition('"')[0])
    pixels = np.asarray(Image.open(io.BytesIO(data)).convert("RGB")).astype(int)
    assert (pixels[..., 1] - pixels[..., 0]).max() > 150, "green"


def test_a_correction_that_another_reader_takes_back_without_knowing_is_told(
    made: tuple[Cohort, Path], tmp_path: Path
) -> None:
    """Two readers with lists of their own: what the second had left as predicted undid the work of the first."""
    cohort, predictions = made
    shutil.copytree(cohort.folder, tmp_path / "cohort")
    folder = tmp_path / "cohort"
    for reader in ("first", "second"):
        todo, _ = review(predictions, Cohort.open(folder), tmp_path / reader, budget=1)
    (key,) = [row.key for row in todo.rows]
    predicted = read_volume(predictions / f"{key}.nii.gz").voxels

    def adopted(reader: str, at: tuple[slice, ...], *, further: bool = False) -> tuple[str, ...]:
        label = Cohort.open(folder).label_path(key)
        drawn = (read_volume(label).voxels if further and label is not None else predicted).copy()
        drawn[at] = 1 - (drawn[at] == 1)
        path = tmp_path / reader / key / f"{key}.seg.nrrd"
        write_segmentation(path, Volume(drawn, AFFINE), TABLE)
        return adopt(tmp_path / reader, Cohort.open(folder)).adopted[key].notes

    first = np.s_[2:5, 8:12, 1:5]
    assert not any("began from the prediction" in note for note in adopted("first", first))
    assert not any(
        "began from the prediction" in note for note in adopted("first", np.s_[2:3, 8:12, 5:6], further=True)
    )
    told = [note for note in adopted("second", np.s_[14:16, 8:12, 1:5]) if "began from the prediction" in note]
    assert told == [
        "52 of the 52 voxels that an earlier correction changed are as predicted again: this edit began from "
        "the prediction, and not from that correction"
    ]


def test_cases_are_compared_by_the_regions_whose_turn_comes_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    generator = np.random.default_rng(0)
    names = [f"r{number}" for number in range(20)]
    cases = {f"c{n:02d}": {f"{name}/{what}": generator.normal() for name in names for what in "ab"} for n in range(30)}
    candidates = [
        Candidate(key, key, {name: generator.uniform(9, 99) for name in names}, dict.fromkeys(names, 0.4))
        for key in list(cases)[:24]
    ]
    compared: list[str] = []

    class Counting(Likeness):
        def of(self, keys: Any, others: Any, *, region: str = "") -> Any:
            if len(keys) == len(others) == len(candidates):
                compared.append(region)
            return super().of(keys, others, region=region)

    def chosen(budget: int) -> list[Any]:
        compared.clear()
        return choose(candidates, budget=budget, likeness=Counting(cases), known=list(cases)[24:])

    chosen(1)
    assert len(compared) == 1, "a client of `volseg serve` waits for the next case"
    several = chosen(12)
    assert len(compared) == len(set(compared)) <= 14
    monkeypatch.setattr(choice, "_MOST_BYTES", 1)
    assert chosen(12) == several, "whatever is made anew"

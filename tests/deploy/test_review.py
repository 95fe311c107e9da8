"""Which cases come first, what is written out for 3D Slicer, and the way back through `adopt`."""

from __future__ import annotations

import json
from pathlib import Path
from xml.etree import ElementTree

import numpy as np
import pytest

from volseg.cli import main
from volseg.cohort import Cohort, read_corrections, write_labels, write_uncertainty
from volseg.deploy.corrections import adopt, read_todo, review
from volseg.deploy.corrections.choice import Candidate, choose
from volseg.errors import CohortError, LabelError, UsageError
from volseg.formats import read_segmentation, write_segmentation
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

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


def test_one_in_five_is_drawn_by_lot_and_a_patient_comes_once():
    cases = [Candidate(f"p{n}_day{day}", f"p{n}", {"a": float(n), "b": 1.0}) for n in range(30) for day in range(3)]
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


def test_unlikeness_and_work_decide_together_and_no_region_is_forgotten():
    cases = [
        Candidate("usual", "1", {"a": 100.0, "b": 0.0}),
        Candidate("strange", "2", {"a": 60.0, "b": 0.0}, unlikeness=3.0),
        Candidate("b alone", "3", {"a": 0.0, "b": 5.0}),
    ]
    assert [one.candidate.key for one in choose(cases, budget=2)] == ["strange", "b alone"]
    assert [one.candidate.key for one in choose(cases, budget=3)] == ["strange", "b alone", "usual"]


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


def test_the_command(made, tmp_path, capsys):
    cohort, predictions = made
    with pytest.raises(SystemExit) as left:
        main(["review", str(predictions), str(cohort.folder), "-o", str(tmp_path / "todo"), "--budget", "2"])
    assert not left.value.code
    told = capsys.readouterr().out
    assert "mm expected, Dice reckoned with" in told
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

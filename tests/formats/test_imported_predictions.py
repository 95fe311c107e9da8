"""Predictions that Slicer and its neighbours saved: by name, placed by position, and never a region for another one."""

from __future__ import annotations

import csv
import gzip
import json
import re
import shutil
import tracemalloc
from pathlib import Path

import nibabel
import numpy as np
import pytest

from volseg.cli import main
from volseg.cohort import Cohort, Predictions
from volseg.errors import GeometryError, LabelError, VolumeError
from volseg.formats import export_slicer, import_predictions, read_segmentation, read_table_names, write_segmentation
from volseg.formats.named_masks import read_named_masks
from volseg.formats.value_names import find_table, header_names
from volseg.labels import LabelTable
from volseg.volume import Volume, read_volume, write_volume

SHAPE = (9, 8, 6)
AFFINE = np.array([[-1.5, 0, 0, 20], [0, -1.5, 0, 30], [0, 0, 3, -40], [0, 0, 0, 1.0]])
BOWELS = LabelTable.overlapping(["large_bowel", "small_bowel", "stomach"])
ABDOMEN = LabelTable.of({"liver": 2, "spleen": 1})


def voxels_of(table: LabelTable, seed: int, *, overlap: bool) -> np.ndarray:
    values = [0, 0, *table.values[1:]] if overlap else [0, 0, *(1, 2, 4)[: len(table.regions)]]
    return np.random.default_rng(seed).choice(np.array(values, np.uint8), SHAPE)


def cohort_of(folder: Path, table: LabelTable, *, overlap: bool = False) -> Cohort:
    for number in range(2):
        label = voxels_of(table, number, overlap=overlap)
        write_volume(folder / "imagesTr" / f"c{number}_0000.nii.gz", Volume(label.astype(np.int16) * 50, AFFINE))
        write_volume(folder / "labelsTr" / f"c{number}.nii.gz", Volume(label, AFFINE))
    entries = {"channel_names": {"0": "MR"}, "numTraining": 2, "file_ending": ".nii.gz", **table.to_dataset_json()}
    (folder / "dataset.json").write_text(json.dumps(entries))
    return Cohort.open(folder)


def run(*words: object) -> int:
    with pytest.raises(SystemExit) as left:
        main([str(word) for word in words])
    return int(left.value.code or 0)


def dice(report: Path) -> list[float | None]:
    with (report / "cases.csv").open() as file:
        return [float(row["dice"]) if row["dice"] else None for row in csv.DictReader(file)]


@pytest.mark.parametrize("segments", [False, True])
def test_memory_grows_neither_with_cases_nor_with_names(tmp_path: Path, segments: bool) -> None:
    """It took a byte per voxel, name and case: 16 GB for each CT of 512 x 512 x 600 voxels and 104 names."""
    shape, most = (64, 64, 64), 24  # bytes per voxel of one case
    for cases, count in ((2, 10), (6, 10), (2, 60)):
        folder = tmp_path / f"{cases}_{count}"
        table = LabelTable.exclusive([f"part_{n}" for n in range(count)])
        label = np.random.default_rng(0).integers(0, count + 1, shape).astype(np.uint8)
        for number in range(cases):
            for name in (f"imagesTr/c{number}_0000", f"labelsTr/c{number}"):
                write_volume(folder / f"{name}.nii.gz", Volume(label, AFFINE))
            if segments:
                write_segmentation(folder / f"theirs/c{number}.seg.nrrd", Volume(label, AFFINE), table)
            else:
                write_volume(folder / f"theirs/c{number}.nii.gz", Volume(label, AFFINE))
        entries = {"channel_names": {"0": "MR"}, "numTraining": cases, "file_ending": ".nii.gz"}
        (folder / "dataset.json").write_text(json.dumps({**entries, **table.to_dataset_json()}))
        if not segments:
            rows = "".join(f"{n}\t{name}\n" for n, name in enumerate(table.names, start=1))
            (folder / "theirs/labels.tsv").write_text(f"index\tname\n{rows}")
        cohort = Cohort.open(folder)
        tracemalloc.start()
        try:
            done = import_predictions(folder / "theirs", cohort, folder / "ours")
            peak = tracemalloc.get_traced_memory()[1] / np.prod(shape)
        finally:
            tracemalloc.stop()
        assert not done.failed
        assert peak < most, (cases, count)
        for key in cohort.keys:
            np.testing.assert_array_equal(read_volume(folder / f"ours/{key}.nii.gz").voxels, label)


# --- a small writer of what others save, so that the tests need none of them


def parsed(path: Path) -> tuple[list[str], dict[str, str], np.ndarray]:
    """Field lines, key-value pairs and the array (list axis first, if there is one) of one of our files."""
    head, _, data = path.read_bytes().partition(b"\n\n")
    lines = head.decode().splitlines()[1:]
    fields = [line for line in lines if ":=" not in line]
    pairs = dict(line.split(":=", 1) for line in lines if ":=" in line)
    sizes = [int(n) for line in fields if line.startswith("sizes:") for n in line.split()[1:]]
    return fields, pairs, np.frombuffer(gzip.decompress(data), np.uint8).reshape(sizes, order="F")


def saved(path: Path, fields: list[str], pairs: dict[str, str], array: np.ndarray) -> None:
    fields = [f"sizes: {' '.join(map(str, array.shape))}" if line.startswith("sizes:") else line for line in fields]
    head = "\n".join(["NRRD0005", *fields, *(f"{key}:={value}" for key, value in pairs.items()), "", ""])
    path.write_bytes(head.encode() + gzip.compress(array.tobytes(order="F")))


def renumbered(path: Path, order: list[int], values: list[int]) -> None:
    """Segments in another order and with other values, as Slicer saves them after they were moved."""
    fields, pairs, array = parsed(path)
    layers = array if array.ndim == 4 else array[None]
    new = np.zeros_like(layers)
    kept = {key: value for key, value in pairs.items() if not re.match(r"Segment\d+_", key)}
    for place, (number, value) in enumerate(zip(order, values, strict=True)):
        old = {key.split("_", 1)[1]: text for key, text in pairs.items() if key.startswith(f"Segment{number}_")}
        layer = int(old["Layer"])
        new[layer][layers[layer] == int(old["LabelValue"])] = value
        kept |= {f"Segment{place}_{fact}": text for fact, text in {**old, "LabelValue": str(value)}.items()}
    saved(path, fields, kept, new if array.ndim == 4 else new[0])


def moved_grid(path: Path, *, before: tuple[int, int, int], after: tuple[int, int, int]) -> None:
    """The file grown (or cropped, by negative numbers) by voxels on each side, with its origin moved along."""
    fields, pairs, array = parsed(path)
    axes = array.ndim - 3
    for axis, (low, high) in enumerate(zip(before, after, strict=True)):
        index = axis + axes
        keep = slice(max(-low, 0), array.shape[index] - max(-high, 0))
        array = np.take(array, range(*keep.indices(array.shape[index])), axis=index)
        array = np.pad(array, [(max(low, 0), max(high, 0)) if n == index else (0, 0) for n in range(array.ndim)])
    origin = (np.diag([-1.0, -1, 1, 1]) @ AFFINE @ [*(-n for n in before), 1])[:3]
    text = f"space origin: ({','.join(map(str, origin))})"
    saved(path, [text if line.startswith("space origin") else line for line in fields], pairs, array)


# --- there and back


@pytest.mark.parametrize("table", [BOWELS, ABDOMEN], ids=["bowels", "abdomen"])
@pytest.mark.parametrize("overlap", [False, True], ids=["one layer", "layers"])
@pytest.mark.parametrize("edit", ["untouched", "vector", "renumbered", "ras", "grown", "raw", "big endian"])
def test_a_file_that_comes_back_is_what_went_out(tmp_path, table, overlap, edit):
    cohort = cohort_of(tmp_path / "cohort", table, overlap=overlap and table.overlap)
    home = tmp_path / "home"
    export_slicer(tmp_path / "cohort" / "labelsTr", home, table)
    for path in home.glob("*.seg.nrrd"):
        fields, pairs, array = parsed(path)
        if edit == "vector":  # as SimpleITK saves it
            saved(path, [line.replace("kinds: list", "kinds: vector") for line in fields], pairs, array)
        if edit == "renumbered":
            names = len(table.regions)
            renumbered(path, list(range(names))[::-1], [7, 9, 3][:names])
        if edit == "ras":
            turned = [line.replace("left-posterior-superior", "right-anterior-superior") for line in fields]
            turned = [
                _negated(line) if line.startswith(("space directions", "space origin")) else line for line in turned
            ]
            saved(path, turned, pairs, array)
        if edit == "grown":
            moved_grid(path, before=(2, 0, 1), after=(0, 3, 1))
        if edit in ("raw", "big endian"):
            wide = array.astype(">u2" if edit == "big endian" else "u1")
            kept = [line for line in fields if not line.startswith(("encoding", "type"))]
            kept += ["encoding: raw", *(["type: uint16", "endian: big"] if edit == "big endian" else ["type: uint8"])]
            head = "\n".join(["NRRD0004", *kept, *(f"{k}:={v}" for k, v in pairs.items()), "", ""])
            path.write_bytes(head.encode() + wide.tobytes(order="F"))
    found = import_predictions(home, cohort, tmp_path / "out")
    assert found.failed == {}
    for key in cohort.keys:
        again, label = read_volume(Predictions(found.folder).path(key)), read_volume(cohort.label_path(key))
        assert np.array_equal(again.voxels, label.voxels)
        assert np.array_equal(again.affine_ras, label.affine_ras)
    (tmp_path / "home" / "labels.ctbl").unlink()
    assert run("evaluate", home, tmp_path / "cohort", "-o", tmp_path / "report", "--no-html") == 0
    assert set(dice(tmp_path / "report")) == {1.0}


def _negated(line: str) -> str:
    def turn(found: re.Match[str]) -> str:
        x, y, z = found[1].split(",")
        return f"({-float(x)},{-float(y)},{z})"

    return re.sub(r"\(([^)]*)\)", turn, line)


def test_slicerio_saves_what_we_read(tmp_path):
    slicerio = pytest.importorskip("slicerio")
    write_segmentation(tmp_path / "a.seg.nrrd", Volume(voxels_of(BOWELS, 0, overlap=True), AFFINE), BOWELS)
    slicerio.write_segmentation(str(tmp_path / "b.seg.nrrd"), slicerio.read_segmentation(str(tmp_path / "a.seg.nrrd")))
    ours, theirs = read_segmentation(tmp_path / "a.seg.nrrd"), read_segmentation(tmp_path / "b.seg.nrrd")
    assert [segment.name for segment in theirs.segments] == list(BOWELS.names)
    assert [segment.code for segment in theirs.segments] == [region.code for region in BOWELS.regions]
    assert np.allclose(ours.affine_ras, theirs.affine_ras)
    for one, other in zip(ours.segments, theirs.segments, strict=True):
        assert np.array_equal(ours.mask(one), theirs.mask(other))


def test_what_simpleitk_saved_is_read() -> None:
    """The values 0 to 7 as SimpleITK 2.5.7 saved our file: three layers in a first axis of kind vector."""
    read = read_segmentation(Path(__file__).with_name("saved_by_simpleitk_2_5_7.seg.nrrd"))
    assert [segment.name for segment in read.segments] == list(BOWELS.names)
    values = (np.arange(24) % 8).astype(np.uint8).reshape(4, 3, 2)
    assert np.array_equal(BOWELS.encode(np.stack([read.mask(segment) for segment in read.segments])), values)
    assert np.array_equal(read.affine_ras, np.diag([-1.5, -1.5, 3, 1]))


def test_a_cropped_file_loses_nothing_and_voxels_beyond_the_image_are_counted(tmp_path, capsys):
    cohort = cohort_of(tmp_path / "cohort", ABDOMEN)
    label = np.zeros(SHAPE, np.uint8)
    label[3:6, 2:5, 2:4] = 1
    label[6:8, 2:5, 2:4] = 2
    write_volume(tmp_path / "cohort" / "labelsTr" / "c0.nii.gz", Volume(label, AFFINE))
    (tmp_path / "home").mkdir()
    path = tmp_path / "home" / "c0.seg.nrrd"
    write_segmentation(path, Volume(label, AFFINE), ABDOMEN)
    moved_grid(path, before=(-3, -2, -2), after=(-1, -3, -2))
    assert parsed(path)[2].shape == (5, 3, 2)
    assert run("evaluate", tmp_path / "home", tmp_path / "cohort", "-o", tmp_path / "a", "--no-html") == 0
    assert set(dice(tmp_path / "a")) == {1.0}
    fields, pairs, array = parsed(path)
    saved(path, fields, pairs, np.pad(array, [(0, 4), (0, 0), (0, 0)], mode="edge"))
    found = import_predictions(tmp_path / "home", cohort, tmp_path / "out")
    assert found.notes["c0"] == ["18 voxels of liver lie outside the image"]  # 3 of 4 new columns of 3 x 2


def test_deleted_is_not_cleared(tmp_path, capsys):
    cohort = cohort_of(tmp_path / "cohort", BOWELS)
    home = tmp_path / "home"
    export_slicer(tmp_path / "cohort" / "labelsTr", home, BOWELS)
    renumbered(home / "c0.seg.nrrd", [0, 2], [1, 2])
    assert run("evaluate", home, tmp_path / "cohort", "-o", tmp_path / "report", "--no-html") == 1
    said = capsys.readouterr().err
    assert "failed  c0: small_bowel is not among the segments (large_bowel, stomach)" in said
    write_segmentation(home / "c0.seg.nrrd", Volume(np.zeros(SHAPE, np.uint8), AFFINE), BOWELS)
    found = import_predictions(home, cohort, tmp_path / "out")
    assert found.failed == {}
    assert not read_volume(tmp_path / "out" / "c0.nii.gz").voxels.any()


def test_a_renamed_segment_is_known_by_its_code_and_a_strange_one_is_told(tmp_path, capsys):
    table = LabelTable.exclusive(["stomach", "colon"])
    cohort_of(tmp_path / "cohort", table)
    home = tmp_path / "home"
    export_slicer(tmp_path / "cohort" / "labelsTr", home, table)
    for path in home.glob("*.seg.nrrd"):
        path.write_bytes(path.read_bytes().replace(b"Name:=stomach", b"Name:=Magen"))
    assert run("evaluate", home, tmp_path / "cohort", "-o", tmp_path / "report", "--no-html") == 0
    assert set(dice(tmp_path / "report")) == {1.0}


def test_segments_of_no_region_are_told_under_the_folder_that_was_named(tmp_path, capsys):
    """One that is spelt almost as a region, beside that region itself, would be lost in silence."""
    cohort_of(tmp_path / "cohort", ABDOMEN)
    home = tmp_path / "home"
    more = LabelTable.of({"liver": 2, "Liver": 1, "Segment_1": 3})
    for key in ("c0", "c1"):
        label = read_volume(tmp_path / "cohort" / "labelsTr" / f"{key}.nii.gz")
        write_segmentation(home / f"{key}.seg.nrrd", label, more)
    shutil.copytree(home, tmp_path / "again")
    for words in (("evaluate", home, tmp_path / "cohort"), ("compare", tmp_path / "cohort", home, tmp_path / "again")):
        run(*words, "-o", tmp_path / f"report_{words[0]}")
        said = capsys.readouterr().err
        assert f"{home}: its files hold Liver, Segment_1 too, of which the cohort has no region; left out" in said
        assert f"{home}: the references hold spleen too, which the predictions do not" in said


def test_values_that_no_segment_has_are_told(tmp_path, capsys):
    """A program that numbers anew and forgets LabelValue would give an empty region, without a word."""
    cohort_of(tmp_path / "cohort", ABDOMEN)
    home = tmp_path / "home"
    for key in ("c0", "c1"):
        label = read_volume(tmp_path / "cohort" / "labelsTr" / f"{key}.nii.gz")
        write_segmentation(home / f"{key}.seg.nrrd", label, ABDOMEN)
    path = home / "c0.seg.nrrd"
    fields, pairs, array = parsed(path)
    saved(path, fields, pairs, np.where(array == 1, 7, array).astype(np.uint8))
    count = int((array == 1).sum())
    assert run("evaluate", home, tmp_path / "cohort", "-o", tmp_path / "report", "--no-html") == 0
    said = capsys.readouterr().err
    assert f"c0: {count} voxels hold values that no segment has (7), and were left out, while spleen has none" in said
    assert "c1: " not in said


def test_an_overlap_that_the_cohort_cannot_hold_is_refused_with_its_size(tmp_path):
    cohort = cohort_of(tmp_path / "cohort", ABDOMEN)
    both = LabelTable.overlapping(["spleen", "liver"])
    (tmp_path / "home").mkdir()
    voxels = np.zeros(SHAPE, np.uint8)
    voxels[0, 0, :2], voxels[1] = 3, 1
    write_segmentation(tmp_path / "home" / "c0.seg.nrrd", Volume(voxels, AFFINE), both)
    found = import_predictions(tmp_path / "home", cohort, tmp_path / "out")
    assert found.failed["c0"].startswith("2 voxels belong to several regions at once (liver, spleen)")


@pytest.mark.parametrize(
    ("change", "error", "says"),
    [
        ((b"Binary labelmap\nSegmentation_Ref", b"Closed surface\nSegmentation_Ref"), LabelError, "Closed surface"),
        ((b"type: unsigned char", b"type: block"), VolumeError, "voxels of type 'block', expected numbers"),
        ((b"encoding: gzip", b"encoding: bzip2"), VolumeError, "cannot be read as NRRD (Invalid data stream)"),
        ((b"encoding: gzip", b"data file: a.raw"), VolumeError, "names the voxels a.raw, which are not there"),
        ((b"space: left-posterior-superior", b"space: scanner-xyz"), GeometryError, "scanner-xyz"),
        ((b"_LabelValue:=1", b"_LabelValue:=0"), LabelError, "the value 0"),
        ((b"Segment0_ID", b"Segment9_ID"), LabelError, "names no segment"),
        ((b"Name:=liver", b"Name:=spleen"), LabelError, "2 segments named 'spleen'"),
        ((b"sizes: 9 8 6", b"sizes: 9 8 7"), VolumeError, "cut short"),
        ((b"_Layer:=0", b"_Layer:=4"), LabelError, "got layer 4"),
        ((b"_LabelValue:=2", b"_LabelValue:=1"), LabelError, "'liver' and 'spleen' have one value, 1, in one layer"),
        ((b"_LabelValue:=", b"_Value:="), LabelError, "have one value, 1, in one layer"),
        ((b"Segment1_", b"Segment2_"), LabelError, "numbers its segments 0 to 0, and has Segment2_ID beyond"),
        ((b"Segment1_ID:=", b"Segment1_Id:="), LabelError, "and has Segment1_Id beyond"),
    ],
)
def test_what_is_no_segmentation_is_named(tmp_path, change, error, says):
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(path, Volume(voxels_of(ABDOMEN, 0, overlap=False), AFFINE), ABDOMEN)
    content = path.read_bytes()
    assert change[0] in content
    path.write_bytes(content.replace(*change))
    with pytest.raises(error, match=re.escape(says)):
        read_segmentation(path)


def test_cleared_segments_may_share_a_value(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(path, Volume(np.zeros((9, 8, 6), np.uint8), AFFINE), ABDOMEN)
    path.write_bytes(path.read_bytes().replace(b"_LabelValue:=2", b"_LabelValue:=1"))
    assert [segment.value for segment in read_segmentation(path).segments][:2] == [1, 1]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("semicolons.csv", b"LabelValue;Name;Color_R\n5;spleen;1\n6;liver;2\n"),
        ("decimals.tsv", b"index\tname\n5.0\tspleen\n6.0\tliver\n"),
        ("sheet.csv", "LabelValue,Name\r\n5,spleen\r\n6,liver\r\n".encode("utf-16")),
        ("macintosh.csv", b"LabelValue;Name\r5;spleen\r6;liver\r"),  # this was a csv.Error
    ],
)
def test_tables_that_a_spreadsheet_saved_are_read(tmp_path, name, content):
    (tmp_path / name).write_bytes(content)
    assert read_table_names(tmp_path / name) == {5: "spleen", 6: "liver"}


def test_a_file_of_run_lengths_beside_label_maps_is_no_table_of_names(tmp_path):
    """A cell of more than 128 kB was a csv.Error."""
    rows = ["index,name,predicted", "a,liver,1 2", f"b,spleen,{'1 2 ' * 2**16}"]
    (tmp_path / "submission.csv").write_text("\n".join(rows))
    assert find_table(tmp_path) is None


def test_fractions_are_no_segmentation(tmp_path):
    path = tmp_path / "a.seg.nrrd"
    write_segmentation(path, Volume(voxels_of(ABDOMEN, 0, overlap=False), AFFINE), ABDOMEN)
    fields, pairs, array = parsed(path)
    fields = [line.replace("unsigned char", "float") for line in fields]
    saved(path, [*fields, "endian: little"], pairs, array.astype("<f4"))
    with pytest.raises(VolumeError, match="must hold whole numbers, got float32"):
        read_segmentation(path)


def test_names_beyond_ascii_are_kept_apart(tmp_path):
    """Others drop these letters, so that two names become one; see findings/segment_names_in_nrrd.sh."""
    table = LabelTable.exclusive(["肝脏", "脾脏"])
    cohort_of(tmp_path / "cohort", table)
    export_slicer(tmp_path / "cohort" / "labelsTr", tmp_path / "home", table)
    assert run("evaluate", tmp_path / "home", tmp_path / "cohort", "-o", tmp_path / "report", "--no-html") == 0
    assert dice(tmp_path / "report") == [1.0] * 4


def test_another_spacing_is_refused(tmp_path):
    cohort = cohort_of(tmp_path / "cohort", ABDOMEN)
    (tmp_path / "home").mkdir()
    fine = Volume(voxels_of(ABDOMEN, 0, overlap=False), AFFINE @ np.diag([0.5, 0.5, 0.5, 1]))
    write_segmentation(tmp_path / "home" / "c0.seg.nrrd", fine, ABDOMEN)
    found = import_predictions(tmp_path / "home", cohort, tmp_path / "out")
    assert "have another spacing" in found.failed["c0"]


# --- label maps with names beside them


TABLES = {
    "labels.ctbl": "# Color table file x\n# 3 values\n0 Background 0 0 0 0\n5 Spleen 1 2 3 255\n6 Liver 1 2 3 255\n",
    "labels.csv": "LabelValue,Name,Color_R,Color_G,Color_B\n5,spleen,1,2,3\n6,liver,1,2,3\n",
    "snap.txt": '# ITK-SnAP Label Description File\n    0     0    0    0        0  0  0    "Clear Label"\n'
    '    5   255    0    0        1  1  1    "Spleen"\n    6   255    0    0        0.5  1  1    "Liver"\n',
    "c_dseg.tsv": "index\tname\tabbreviation\n0\tBackground\tBG\n5\tspleen\tSP\n6\tliver\tLI\n",
    "FreeSurfer.lut": "#No. Label Name:  R G B A\n0 Unknown 0 0 0 0\n5 spleen 1 2 3 0\n6 liver 4 5 6 0\n",
}


@pytest.mark.parametrize("name", TABLES)
def test_a_label_map_is_imported_by_the_table_beside_it(tmp_path, name):
    cohort_of(tmp_path / "cohort", ABDOMEN)
    home = tmp_path / "home"
    for key in ("c0", "c1"):
        label = read_volume(tmp_path / "cohort" / "labelsTr" / f"{key}.nii.gz")
        values = np.array([0, 5, 6], np.uint16)[label.voxels]
        write_volume(home / f"{key}.nii.gz", Volume(values, AFFINE))
    (home / name).write_text(TABLES[name])
    assert {key.casefold(): value for value, key in read_table_names(home / name).items()} == {"spleen": 5, "liver": 6}
    assert run("evaluate", home, tmp_path / "cohort", "-o", tmp_path / "report", "--no-html") == 0
    assert set(dice(tmp_path / "report")) == {1.0}
    (home / name).rename(tmp_path / name)
    words = ("evaluate", home, tmp_path / "cohort", "-o", tmp_path / "again", "--no-html", "--table", tmp_path / name)
    assert run(*words) == 0
    assert set(dice(tmp_path / "again")) == {1.0}


CELLS = LabelTable.of({"CD4+": 1, "CD8+": 2, "CD4+CD8": 4})
MARGINS = LabelTable.of({"GTV": 1, "GTV+1cm": 2})
OF_CELLS = LabelTable.overlapping(["CD4+", "CD8+"])


@pytest.mark.parametrize("table", [CELLS, MARGINS, OF_CELLS], ids=["cells", "margins", "overlapping"])
def test_a_plus_sign_in_a_name_is_no_combination(tmp_path, table):
    """The table of `export slicer` names a combination after its regions: liver+tumour."""
    cohort = cohort_of(tmp_path / "cohort", table, overlap=table.overlap)
    export_slicer(tmp_path / "cohort/labelsTr", tmp_path / "home", table)
    for key in ("c0", "c1"):
        shutil.copy(tmp_path / "cohort/labelsTr" / f"{key}.nii.gz", tmp_path / "home")
        (tmp_path / "home" / f"{key}.seg.nrrd").unlink()
    found = import_predictions(tmp_path / "home", cohort, tmp_path / "out")
    assert (found.failed, found.unknown) == ({}, ())
    for key in ("c0", "c1"):
        ours, theirs = (
            read_volume(folder / f"{key}.nii.gz").voxels for folder in (tmp_path / "cohort/labelsTr", found.folder)
        )
        assert np.array_equal(ours, theirs)


def test_a_name_that_may_be_a_region_or_a_combination_is_refused(tmp_path):
    cohort = cohort_of(tmp_path / "cohort", LabelTable.of({"GTV": 1}))
    write_volume(tmp_path / "home/c0.nii.gz", Volume(voxels_of(MARGINS, 0, overlap=False), AFFINE))
    (tmp_path / "home/labels.csv").write_text("LabelValue,Name\n1,GTV\n2,GTV+1cm\n")
    found = import_predictions(tmp_path / "home", cohort, tmp_path / "out")
    assert "the name 'GTV+1cm' must be that of a region or of a combination" in found.failed["c0"]


def test_a_label_map_is_imported_by_the_names_in_its_header(tmp_path):
    cohort_of(tmp_path / "cohort", ABDOMEN)
    home = tmp_path / "home"
    home.mkdir()
    for key in ("c0", "c1"):
        label = read_volume(tmp_path / "cohort" / "labelsTr" / f"{key}.nii.gz")
        image = nibabel.Nifti1Image(np.array([0, 3, 2], np.uint8)[label.voxels], AFFINE)
        xml = "<CaretExtension><VolumeInformation Index='0'><LabelTable>"
        xml += "<Label Key='3' Red='1'>spleen</Label><Label Key='2'>liver</Label>"
        xml += "</LabelTable></VolumeInformation></CaretExtension>"
        image.header.extensions.append(nibabel.nifti1.Nifti1Extension(0, xml.encode()))
        nibabel.save(image, home / f"{key}.nii.gz")
    assert run("evaluate", home, tmp_path / "cohort", "-o", tmp_path / "report", "--no-html") == 0
    assert set(dice(tmp_path / "report")) == {1.0}
    (home / "labels.csv").write_text("LabelValue,Name\n3,liver\n2,spleen\n")
    found = import_predictions(home, Cohort.open(tmp_path / "cohort"), tmp_path / "out")
    assert "contradict the table beside it" in found.failed["c0"]


def test_tables_that_differ_are_refused_and_the_csv_goes_before_the_ctbl(tmp_path):
    (tmp_path / "a.csv").write_text(TABLES["labels.csv"])
    (tmp_path / "a.ctbl").write_text(TABLES["labels.ctbl"].replace("Spleen", "large_bowel"))
    assert find_table(tmp_path) == tmp_path / "a.csv"
    (tmp_path / "b.tsv").write_text("index\tname\n5\tkidney\n")
    with pytest.raises(LabelError, match=r"a\.csv and b\.tsv give the values different names"):
        find_table(tmp_path)


def test_what_is_no_table_of_names(tmp_path):
    for name, text in {"a.csv": "key,dice\nc0,1.0\n", "b.txt": "some words\n5 spleen 1 2 3 255\n", "c.tsv": ""}.items():
        (tmp_path / name).write_text(text)
    assert find_table(tmp_path) is None
    with pytest.raises(LabelError, match="no line of it gives a value and a name"):
        read_table_names(tmp_path / "a.csv")
    assert header_names([(0, b"<!DOCTYPE x><LabelTable><Label Key='1'>a</Label></LabelTable>"), (6, b"text")]) == {}
    (tmp_path / "d.csv").write_text("LabelValue,Name\n1,NA\n")
    assert read_table_names(tmp_path / "d.csv") == {1: "NA"}


def test_an_absent_folder_and_an_absent_table_are_named(tmp_path, capsys):
    cohort_of(tmp_path / "cohort", ABDOMEN)
    (tmp_path / "home").mkdir()
    for folder, says in (("nowhere", "nowhere is no folder"), ("home", "there is no table no.csv")):
        words = ("evaluate", tmp_path / folder, tmp_path / "cohort", "-o", tmp_path / "r", "--table", "no.csv")
        assert run(*words) == 2
        assert says in capsys.readouterr().err


def test_compare_takes_segmentations(tmp_path, capsys):
    cohort_of(tmp_path / "cohort", BOWELS)
    export_slicer(tmp_path / "cohort" / "labelsTr", tmp_path / "a", BOWELS)
    export_slicer(tmp_path / "cohort" / "labelsTr", tmp_path / "b", BOWELS)
    assert run("compare", tmp_path / "cohort", tmp_path / "a", tmp_path / "b", "-o", tmp_path / "out") == 0
    assert "0/2/0" in capsys.readouterr().out


def test_convert_takes_segmentations_for_labels(tmp_path):
    cohort = cohort_of(tmp_path / "raw", BOWELS, overlap=True)
    expected = {key: read_volume(cohort.label_path(key)).voxels for key in cohort.keys}
    export_slicer(tmp_path / "raw" / "labelsTr", tmp_path / "home", BOWELS)
    for key in cohort.keys:
        renumbered(tmp_path / "home" / f"{key}.seg.nrrd", [2, 0, 1], [4, 6, 5])
        cohort.label_path(key).unlink()
        (tmp_path / "home" / f"{key}.seg.nrrd").rename(tmp_path / "raw" / "labelsTr" / f"{key}.seg.nrrd")
    assert run("convert", "decathlon", tmp_path / "raw", tmp_path / "cohort") == 0
    again = Cohort.open(tmp_path / "cohort")
    assert all(np.array_equal(read_volume(again.label_path(key)).voxels, expected[key]) for key in again.keys)
    renumbered(tmp_path / "raw" / "labelsTr" / "c0.seg.nrrd", [0, 1], [1, 2])
    assert run("convert", "decathlon", tmp_path / "raw", tmp_path / "other") == 1


def test_label_maps_of_floats_are_rounded_or_refused_and_never_lose_voxels(tmp_path: Path) -> None:
    voxels = np.zeros(SHAPE, np.float32)
    voxels[0], voxels[1], voxels[2] = 1, 1.0000001, 0.99999994
    write_volume(tmp_path / "a.nii.gz", Volume(voxels, AFFINE))
    found = read_named_masks(tmp_path / "a.nii.gz", {1: "liver"})
    assert found.masks["liver"].sum() == 3 * SHAPE[1] * SHAPE[2]
    for odd, told in ((1.5, r"holds 1\.5, expected whole numbers; it was resampled"), (np.nan, "holds nan")):
        voxels[3] = odd
        write_volume(tmp_path / "a.nii.gz", Volume(voxels, AFFINE))
        with pytest.raises(LabelError, match=told):
            read_named_masks(tmp_path / "a.nii.gz", {1: "liver"})

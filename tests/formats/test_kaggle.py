"""The submission CSV: from masks to run lengths on the native slices and back, and every way it can be wrong."""

from __future__ import annotations

import csv
import json
import shutil
from collections.abc import Callable
from pathlib import Path

import nibabel
import nibabel.orientations as axes
import numpy as np
import pytest
from command import told

from volseg.cohort import Case, Cohort, write_cohort
from volseg.datasets import write_phantom
from volseg.errors import CohortError, GeometryError, SourceError, UsageError, VolsegError
from volseg.formats import UwMadison, check_submission, write_raw, write_submission
from volseg.formats.kaggle import read_wanted
from volseg.formats.slice_grid import on_grid
from volseg.formats.uw_madison import LABELS
from volseg.volume import Volume, affine_of_axes, read_volume, write_volume

Lines = list[list[str]]
PLAIN = affine_of_axes("LPI", (1.5, 1.5, 3))


def lines_of(path: Path) -> Lines:
    with path.open(newline="") as file:
        return list(csv.reader(file))


def write_lines(path: Path, lines: Lines) -> Path:
    with path.open("w", newline="") as file:
        csv.writer(file, lineterminator="\n").writerows(lines)
    return path


def small_raw(folder: Path, *, oblique: bool = False) -> Path:
    """Two scans of 5 columns, 4 rows and 3 slices whose masks overlap at random."""
    cases = []
    for number, key in enumerate(("case1_day0", "case2_day20")):
        rng = np.random.default_rng(number)
        affine = PLAIN
        if oblique and number:
            turn = nibabel.eulerangles.euler2mat(0.2, -0.3, 0.4)
            affine = nibabel.affines.from_matvec(turn @ np.diag([1.5, 1.6, 3.0]), [7, -8, 9])
        image = Volume(rng.integers(0, 900, (5, 4, 3)).astype(np.uint16), affine)
        label = rng.integers(0, 8, (5, 4, 3)).astype(np.uint8)
        label[:, :, 1] = 0
        cases.append(Case(key, key.split("_")[0], "", (image,), Volume(label, affine), "test"))
    write_raw(folder, cases, LABELS)
    return folder


@pytest.fixture
def place(tmp_path: Path) -> Path:
    """A folder with `raw`, `cohort`, `predictions` (the labels) and `test.csv`."""
    return prepared(tmp_path, small_raw(tmp_path / "raw"))


def prepared(tmp_path: Path, raw: Path) -> Path:
    write_cohort(UwMadison(raw), tmp_path / "cohort")
    shutil.copytree(tmp_path / "cohort" / "labelsTr", tmp_path / "predictions")
    write_lines(tmp_path / "test.csv", [line[:2] for line in lines_of(raw / "train.csv")])
    return tmp_path


def written(place: Path, **options: bool) -> Lines:
    cohort = Cohort.open(place / "cohort")
    path = place / "submission.csv"
    write_submission(path, place / "predictions", cohort, place / "test.csv", labels=cohort.labels, **options)
    return lines_of(path)


def checked(place: Path, lines: Lines) -> None:
    cohort = Cohort.open(place / "cohort")
    path = write_lines(place / "other.csv", lines)
    check_submission(path, place / "predictions", cohort, place / "test.csv", labels=cohort.labels)


def change(place: Path, key: str, turn: Callable[[Volume], Volume]) -> None:
    path = place / "predictions" / f"{key}.nii.gz"
    write_volume(path, turn(read_volume(path)))


def reoriented(volume: Volume, letters: str) -> Volume:
    turn = axes.ornt_transform(axes.io_orientation(volume.affine_ras), axes.axcodes2ornt(letters))
    voxels = axes.apply_orientation(volume.voxels, turn)
    return Volume(voxels, volume.affine_ras @ axes.inv_ornt_aff(turn, volume.shape))


# --- round trips


def test_the_phantom_comes_back_from_its_submission_slice_by_slice(tmp_path: Path) -> None:
    """raw -> cohort -> its labels as predictions -> CSV -> the reader of train.csv: every mask is the same."""
    raw = write_phantom(tmp_path / "raw", patients=2, days=1)
    expected = UwMadison(raw)
    place = prepared(tmp_path, raw)
    got = written(place)
    assert got[0] == ["id", "class", "predicted"]
    assert [line[:2] for line in got[1:]] == [line[:2] for line in lines_of(raw / "train.csv")[1:]]
    write_lines(raw / "train.csv", [["id", "class", "segmentation"], *got[1:]])
    again = UwMadison(raw)
    for key in again.keys():  # noqa: SIM118 - a source is no dict
        label = expected.load(key).label
        back = again.load(key).label
        assert label is not None
        assert back is not None
        assert label.voxels.any()
        np.testing.assert_array_equal(back.voxels, label.voxels)


@pytest.mark.parametrize("oblique", [False, True])
@pytest.mark.parametrize("image_axes", [None, "RAS", "SPL"])
@pytest.mark.parametrize("prediction_axes", [None, "RAS", "PIR"])
def test_turned_files_give_the_same_rows(
    tmp_path: Path, oblique: bool, image_axes: str | None, prediction_axes: str | None
) -> None:
    """Programs store NIfTI with the axes they like; columns and rows are those of the slices all the same."""
    place = prepared(tmp_path, small_raw(tmp_path / "raw", oblique=oblique))
    for folder, letters in (("cohort/imagesTr", image_axes), ("predictions", prediction_axes)):
        for path in (place / folder).iterdir():
            if letters is not None:
                write_volume(path, reoriented(read_volume(path), letters))
    assert written(place)[1:] == lines_of(place / "raw/train.csv")[1:]


def test_rows_come_in_the_order_of_the_test_csv_and_other_columns_do_not_matter(place: Path) -> None:
    expected = {tuple(line[:2]): line[2] for line in lines_of(place / "raw/train.csv")[1:]}
    rows = list(expected)
    np.random.default_rng(0).shuffle(rows)
    rows = [(str(id_), str(name)) for id_, name in rows[:11]]
    write_lines(place / "test.csv", [["class", "predicted", "id"], *([name, "1 1", id_] for id_, name in rows)])
    assert written(place)[1:] == [[*row, expected[row]] for row in rows]


@pytest.mark.parametrize(("separator", "encoding"), [(";", "utf-8-sig"), ("\t", "utf-16")])
def test_a_test_csv_that_a_spreadsheet_saved_gives_the_same_submission(
    place: Path, separator: str, encoding: str
) -> None:
    before = written(place)
    lines = lines_of(place / "test.csv")
    lines[0] = [name.upper() for name in lines[0]]
    (place / "test.csv").write_text("\r\n".join(map(separator.join, lines)), encoding=encoding)
    assert written(place) == before
    path = place / "other.csv"
    path.write_text((place / "submission.csv").read_text().replace(",", ";"))
    cohort = Cohort.open(place / "cohort")
    with pytest.raises(SourceError, match="id;class;predicted"):
        check_submission(path, place / "predictions", cohort, place / "test.csv", labels=cohort.labels)


def test_a_finer_prediction_comes_back_exactly_and_a_coarser_one_by_the_nearest_voxel(place: Path) -> None:
    expected = written(place)

    def finer(volume: Volume) -> Volume:
        voxels = volume.voxels.repeat(3, 0).repeat(3, 1).repeat(3, 2)
        affine = volume.affine_ras @ np.diag([1 / 3, 1 / 3, 1 / 3, 1])
        affine[:3, 3] = volume.affine_ras[:3, :3] @ np.full(3, -1 / 3) + volume.affine_ras[:3, 3]
        return reoriented(Volume(voxels, affine), "RAS")

    change(place, "case1_day0", finer)
    cohort = Cohort.open(place / "cohort")
    done = write_submission(
        place / "submission.csv", place / "predictions", cohort, place / "test.csv", labels=cohort.labels
    )
    assert done.resampled == ("case1_day0",)
    assert lines_of(place / "submission.csv") == expected
    coarse = Volume(np.arange(1, 4, dtype=np.uint8).reshape(3, 1, 1), np.diag([2.0, 2, 2, 1]))
    voxels, resampled = on_grid(coarse, (5, 2, 1), np.diag([1.0, 1, 1, 1]))
    assert resampled
    assert voxels[:, 0, 0].tolist() == [1, 2, 2, 3, 3], "halves go one way, so that none gets more than its share"


# --- what is refused before anything is written


def test_a_prediction_of_another_place_or_part_is_refused(place: Path) -> None:
    def moved(volume: Volume) -> Volume:
        affine = volume.affine_ras.copy()
        affine[0, 3] += 50
        return Volume(volume.voxels, affine)

    change(place, "case2_day20", moved)
    with pytest.raises(GeometryError, match=r"^case2_day20: the prediction does not cover the scan"):
        written(place)
    change(place, "case2_day20", lambda volume: Volume(volume.voxels[:, :, :1], PLAIN))
    with pytest.raises(GeometryError, match="slice 2 reaches 1 of its voxels beyond"):
        written(place)
    assert not (place / "submission.csv").exists()


def test_a_prediction_that_lacks_a_slice_a_row_or_a_column_is_refused() -> None:
    """Not filled with its neighbour; what rounding leaves out at the end of a coarser grid is."""
    whole, affine = (6, 5, 4), np.diag([1.5, 1.5, 3, 1])
    voxels = np.ones(whole, np.uint8)
    for axis in range(3):
        for first in (0, 1):
            part = voxels.take(range(first, whole[axis] - 1 + first), axis)
            place = affine.copy()
            place[axis, 3] = first * affine[axis, axis]
            with pytest.raises(GeometryError, match="reaches 1 of its voxels beyond"):
                on_grid(Volume(part, place), whole, affine)
    # 54 mm at 8 mm are 6.75 voxels: 7, of which the last centre lies 4.5 mm before that of the case.
    coarse = Volume(np.ones((7, 5, 4), np.uint8), np.diag([8, 1.5, 3, 1]))
    assert on_grid(coarse, (36, 5, 4), affine)[0].all()
    with pytest.raises(GeometryError, match="does not cover"):
        on_grid(Volume(np.ones((6, 5, 4), np.uint8), coarse.affine_ras), (36, 5, 4), affine)


def test_cases_without_prediction_are_listed_or_left_empty(place: Path) -> None:
    expected = written(place)
    (place / "predictions" / "case1_day0.nii.gz").unlink()
    with pytest.raises(UsageError, match=r"1 of 2 cases .* no prediction: case1_day0 \(9 rows\); .*--empty-missing"):
        written(place)
    got = written(place, empty_missing=True)
    assert got == [line if "case1_" not in line[0] else [*line[:2], ""] for line in expected]
    with pytest.raises(UsageError, match="case1_day0"):
        checked(place, got)
    (place / "predictions" / "case2_day20.nii.gz").unlink()
    with pytest.raises(UsageError, match="holds no prediction KEY"):
        written(place, empty_missing=True)


def ignoring(folder: Path) -> None:
    """Let the label table of a folder know the label `ignore` of nnU-Net."""
    path = folder / "dataset.json"
    entries = json.loads(path.read_text())
    entries["labels"]["ignore"] = 8
    path.write_text(json.dumps(entries))


@pytest.mark.parametrize("own_table", [False, True])
@pytest.mark.parametrize("work", ["write", "check"])
def test_slices_that_nobody_looked_at_are_refused_and_not_written_as_empty(
    capsys: pytest.CaptureFixture[str], place: Path, own_table: bool, work: str
) -> None:
    """Run lengths cannot say it; voxels of no case that the test.csv wants do not matter."""
    written(place)
    before = (place / "submission.csv").read_bytes()
    ignoring(place / "cohort")
    if own_table:
        shutil.copyfile(place / "cohort" / "dataset.json", place / "predictions" / "dataset.json")
    assert len(written(place)) == len(before.splitlines()), "a table that knows the label alone changes nothing"

    def unseen(volume: Volume) -> Volume:
        voxels = volume.voxels.copy()
        voxels[:, :, 2] = 8
        return Volume(voxels, volume.affine_ras)

    change(place, "case2_day20", unseen)
    words = [place / "predictions", place / "cohort", "--test-csv", place / "test.csv", "-o", place / "submission.csv"]
    code, text = told(capsys, "export", "kaggle", *words, *(["--check"] if work == "check" else []))
    assert code != 0
    assert "case2_day20" in text
    assert "voxels have the label 'ignore'" in text
    assert (place / "submission.csv").read_bytes() == before
    wanted = [line for line in lines_of(place / "test.csv") if not line[0].startswith("case2_day20")]
    write_lines(place / "test.csv", wanted)
    assert len(written(place)) == len(wanted)


def test_a_cohort_that_does_not_know_its_slices_is_refused(place: Path) -> None:
    dataset = place / "cohort/dataset.json"
    content = json.loads(dataset.read_text())
    image = place / "cohort/imagesTr/case1_day0_0000.nii.gz"
    kept = read_volume(image)
    write_volume(image, Volume(kept.voxels.repeat(2, 0), kept.affine_ras))
    with pytest.raises(CohortError, match=r"^case1_day0: .* has no longer the 5 x 4 x 3 voxels"):
        written(place)
    dataset.write_text(json.dumps({**content, "volseg": {**content["volseg"], "source": "decathlon"}}))
    with pytest.raises(CohortError, match="volseg convert uw_madison"):
        written(place)


@pytest.mark.parametrize(
    ("lines", "message"),
    [
        ([["id", "classes"]], "expected id and class"),
        ([["id", "class"]], "holds no id"),
        ([["id", "class"], ["case1_day0", "stomach"]], "has the id 'case1_day0', expected"),
        ([["id", "class"], ["case1_day0_slice_0001", "liver"]], r"class 'liver' at case1_day0_slice_0001"),
        ([["id", "class"], *[["case1_day0_slice_0001", "stomach"]] * 2], r"slice_0001, stomach stands there twice"),
        ([["id", "class"], ["case1_day0_slice_0004", "stomach"]], r"slice_0004: the scan has the slices 1 to 3"),
        ([["id", "class"], ["case1_day0_slice_0000", "stomach"]], r"slice_0000: the scan has the slices 1 to 3"),
        ([["id", "class"], ["case1_day0_slice_0001", "stomach", "", ""]], "more cells|cannot be read"),
        ([["id", "class"], ["case9_day0_slice_0001", "stomach"]], "no prediction KEY.nii.gz of any case"),
    ],
)
def test_a_wrong_test_csv_is_told(place: Path, lines: Lines, message: str) -> None:
    write_lines(place / "test.csv", lines)
    with pytest.raises(VolsegError, match=message):
        written(place)
    assert not (place / "submission.csv").exists()


def test_files_that_are_not_there_or_no_table_are_told(place: Path) -> None:
    with pytest.raises(UsageError, match="there is no file"):
        read_wanted(place / "tset.csv", LABELS)
    with pytest.raises(SourceError, match="cannot be read as CSV"):
        read_wanted(place / "raw", LABELS)
    cohort, test_csv = Cohort.open(place / "cohort"), place / "test.csv"
    with pytest.raises(UsageError, match=r"no submission .*absent\.csv to check"):
        check_submission(place / "absent.csv", place / "predictions", cohort, test_csv, labels=LABELS)
    (place / "test.csv").write_bytes(b"")
    with pytest.raises(SourceError, match="cannot be read as CSV"):
        read_wanted(place / "test.csv", LABELS)


# --- what the check finds in a file that others wrote


def test_the_check_passes_what_was_written(place: Path) -> None:
    checked(place, written(place))


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda lines: lines[0].__setitem__(2, "segmentation"), "expected id, class, predicted"),
        (lambda lines: lines.pop(4), r"case1_day0_slice_0002, large_bowel is missing; write"),
        (lambda lines: lines.append(lines[3]), r"slice_0001, stomach stands there twice"),
        (lambda lines: lines[3].__setitem__(1, "liver"), "slice_0001, stomach is missing"),
        (lambda lines: lines.append(["case1_day0_slice_0009", "stomach", ""]), "slice_0009, stomach was not asked for"),
        (lambda lines: lines.__setitem__(slice(3, 5), lines[4:2:-1]), "stands where .* is expected"),
        (lambda lines: lines[1].__setitem__(2, "20 2"), "slice_0001, large_bowel: a run goes past the 20 pixels"),
        (lambda lines: lines[1].__setitem__(2, "0 2"), "slice_0001, large_bowel: .* starts count from 1"),
        (lambda lines: lines[1].__setitem__(2, "5 2 1 2"), "slice_0001, large_bowel: the runs .* overlap or go back"),
        (lambda lines: lines[1].__setitem__(2, "5 2 1"), "slice_0001, large_bowel: .* expected pairs"),
        (lambda lines: lines[1].__setitem__(2, "nan"), "slice_0001, large_bowel: .*"),
        (lambda lines: lines[1].__setitem__(2, ""), "slice_0001, large_bowel: 0 pixels, of which 0 are among the"),
        (lambda lines: lines[4].__setitem__(2, "1 3"), "slice_0002, large_bowel: 3 pixels, of which 0 are among the 0"),
    ],
)
def test_the_check_names_the_id_of_what_is_wrong(place: Path, damage: Callable[[Lines], object], message: str) -> None:
    lines = written(place)
    damage(lines)
    with pytest.raises(SourceError, match=message):
        checked(place, lines)


def test_run_lengths_down_the_columns_are_recognised(place: Path) -> None:
    from volseg.formats import rle

    lines = written(place)
    for line in lines[1:]:
        line[2] = rle.encode(rle.decode(line[2], (4, 5)).T)
    with pytest.raises(SourceError, match="slice_0001, large_bowel: the run lengths go down the columns"):
        checked(place, lines)


def test_runs_of_a_noisy_mask_are_read_whatever_their_length(place: Path) -> None:
    lines = written(place)
    lines[1][2] = " ".join(["1 1"] * 40_000)
    with pytest.raises(SourceError, match=r"slice_0001, large_bowel: .* overlap or go back"):
        checked(place, lines)


# --- the command


def test_the_command_writes_checks_and_refuses(capsys: pytest.CaptureFixture[str], place: Path) -> None:
    words = ["export", "kaggle", place / "predictions", place / "cohort", "--test-csv", place / "test.csv", "-o"]
    code, text = told(capsys, *words, place / "submission.csv")
    assert (code, "18 rows of 2 scans; was read back and is equal to the predictions" in text) == (0, True)
    code, text = told(capsys, *words, place / "submission.csv", "--check")
    assert (code, "18 rows of 2 scans; is equal to the predictions" in text) == (0, True)
    before = (place / "submission.csv").read_text()
    (place / "submission.csv").write_text(before.replace("case2_day20_slice_0003", "case2_day20_slice_0007"))
    code, text = told(capsys, *words, place / "submission.csv", "--check")
    assert code == 2
    assert "case2_day20_slice_0003, large_bowel is missing (3 rows in all)" in text
    (place / "predictions/case1_day0.nii.gz").unlink()
    code, text = told(capsys, *words, place / "new.csv")
    assert (code, "case1_day0 (9 rows)" in text) == (2, True)
    code, text = told(capsys, *words, place / "new.csv", "--empty-missing")
    assert (code, ", 1 of them without prediction and empty" in text) == (0, True)
    words[2] = place / "prediction"
    code, text = told(capsys, *words, place / "new.csv")
    assert (code, "is no folder" in text) == (2, True)

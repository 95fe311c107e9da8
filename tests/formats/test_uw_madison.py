"""The UW-Madison reader: order, orientation, depth, overlap, and every bad input by name."""

from __future__ import annotations

import csv
import json
import os
import shutil
from collections.abc import Callable, Mapping
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from volseg.errors import RleError, SourceError, UsageError
from volseg.formats import UwMadison
from volseg.formats.rle import encode
from volseg.formats.uw_madison import LABELS, SUSPECT
from volseg.labels import LabelTable

ORGANS = ("large_bowel", "small_bowel", "stomach")
Make = Callable[..., Path]


def pixels(number: int, size: tuple[int, int]) -> np.ndarray:
    """A slice (rows, columns) in which each pixel tells its place: 1000 * slice + 10 * row + column."""
    width, height = size
    return (1000 * number + 10 * np.arange(height)[:, None] + np.arange(width)).astype(np.uint16)


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Write a raw folder of scans with the given masks; pixels are made by `pixels`."""

    def write(
        keys: Mapping[str, int] | None = None,
        *,
        size: tuple[int, int] = (6, 4),
        spacing: str = "1.50_1.50",
        masks: Mapping[tuple[str, int, str], str] | None = None,
        part: str = "train",
    ) -> Path:
        raw = tmp_path / "raw"
        (raw / "train").mkdir(parents=True, exist_ok=True)
        lines = []
        for key, count in (keys or {"case1_day2": 3}).items():
            scans = raw / part / key.rsplit("_day", 1)[0] / key / "scans"
            scans.mkdir(parents=True)
            for number in range(1, count + 1):
                name = f"slice_{number:04d}_{size[0]}_{size[1]}_{spacing}.png"
                Image.fromarray(pixels(number, size)).save(scans / name)
                for organ in ORGANS:
                    lines.append((f"{key}_slice_{number:04d}", organ, (masks or {}).get((key, number, organ), "")))
        if part == "train" or not (raw / "train.csv").exists():
            write_table(raw, lines if part == "train" else [])
        return raw

    return write


def write_table(raw: Path, lines: list[tuple[str, str, str]]) -> None:
    with (raw / "train.csv").open("w", newline="") as file:
        csv.writer(file).writerows([("id", "class", "segmentation"), *lines])


def table_of(raw: Path) -> list[tuple[str, str, str]]:
    with (raw / "train.csv").open(newline="") as file:
        return [(a, b, c) for a, b, c in list(csv.reader(file))[1:]]


def slice_file(raw: Path, number: int, key: str = "case1_day2") -> Path:
    return next((raw / "train" / key.rsplit("_day", 1)[0] / key / "scans").glob(f"slice_{number:04d}_*"))


# --- what comes out


def test_slices_come_in_order_with_columns_as_x_and_rows_as_y(make):
    case = UwMadison(make({"case1_day2": 12})).load("case1_day2")
    voxels = case.channels[0].voxels
    assert voxels.shape == (6, 4, 12)
    x, y, z = np.mgrid[:6, :4, :12]
    np.testing.assert_array_equal(voxels, 1000 * (z + 1) + 10 * y + x)


def test_width_stands_first_in_the_name_of_a_360_x_310_slice(make):
    masks = {("case1_day2", 1, "stomach"): f"{360 * 2 + 5} 3"}
    case = UwMadison(make({"case1_day2": 2}, size=(360, 310), masks=masks)).load("case1_day2")
    assert case.channels[0].shape == (360, 310, 2)
    assert np.argwhere(case.label.voxels).tolist() == [[4, 2, 0], [5, 2, 0], [6, 2, 0]]


def test_depth_of_16_bits_is_kept_never_8(make):
    raw = make({"case1_day2": 2})
    cube = np.random.default_rng(0).integers(0, 65536, (2, 4, 6)).astype(np.uint16)
    cube[0, 0, :3] = 0, 1, 65535
    for number in (1, 2):
        Image.fromarray(cube[number - 1]).save(slice_file(raw, number))
    voxels = UwMadison(raw).load("case1_day2").channels[0].voxels
    assert voxels.dtype == np.uint16
    np.testing.assert_array_equal(voxels, cube.T)


def test_a_slice_of_8_bits_is_refused(make):
    raw = make()
    Image.fromarray(np.zeros((4, 6), np.uint8)).save(slice_file(raw, 2))
    with pytest.raises(SourceError, match=r"^case1_day2: slice_0002.*8 bits.*originals"):
        UwMadison(raw).load("case1_day2")


def test_affine_is_3_mm_and_lpi_with_the_spacing_of_the_names(make):
    raw = make(spacing="1.63_1.25")
    affine = UwMadison(raw).load("case1_day2").channels[0].affine_ras
    np.testing.assert_array_equal(affine, np.diag([-1.63, -1.25, -3, 1]))
    assert UwMadison(raw, thickness_mm=1.5).load("case1_day2").channels[0].spacing_mm == (1.63, 1.25, 1.5)


@pytest.mark.parametrize(("axes", "diagonal"), [("LPS", [-1.5, -1.5, 3, 1]), ("rai", [1.5, 1.5, -3, 1])])
def test_axes_are_an_option_that_changes_the_affine_and_the_digest_alone(make, axes, diagonal):
    raw = make()
    default, turned = UwMadison(raw), UwMadison(raw, axes=axes)
    image = turned.load("case1_day2").channels[0]
    np.testing.assert_array_equal(image.affine_ras, np.diag(diagonal))
    np.testing.assert_array_equal(image.voxels, default.load("case1_day2").channels[0].voxels)
    assert default.digest("case1_day2") == UwMadison(raw, axes="LPI").digest("case1_day2")
    assert default.digest("case1_day2") != turned.digest("case1_day2")


@pytest.mark.parametrize("axes", ["", "LP", "LPX", "LPSI", "LLS", "LRS"])
def test_axes_that_are_none_are_refused(make, axes):
    with pytest.raises(UsageError, match=rf"must be three letters.* got '{axes}'; give LPI"):
        UwMadison(make(), axes=axes)


def test_axes_leave_an_affine_that_is_stated_as_it_is(make, caplog):
    raw = make({"case1_day2": 1, "case1_day3": 1})
    stated = np.diag([1.0, 1.0, 2.0, 1.0])
    (raw / "geometry.json").write_text(json.dumps({"case1_day2": stated.tolist()}))
    source = UwMadison(raw, axes="LPS")
    assert "geometry.json states the affine of 1 cases" in caplog.text
    np.testing.assert_array_equal(source.load("case1_day2").channels[0].affine_ras, stated)
    np.testing.assert_array_equal(source.load("case1_day3").channels[0].affine_ras, np.diag([-1.5, -1.5, 3, 1]))


def test_a_phantom_says_which_way_its_slices_run_and_an_earlier_one_ran_to_the_head(make):
    raw = make()
    for content, z in (({"seed": 0}, 3), ({"seed": 0, "axes": "LPI"}, -3)):
        (raw / "phantom.json").write_text(json.dumps(content))
        assert UwMadison(raw).load("case1_day2").channels[0].affine_ras[2, 2] == z
        assert UwMadison(raw, axes="LPI").load("case1_day2").channels[0].affine_ras[2, 2] == -3
    for damaged in ("{", "[]", '{"axes": 3}', '{"axes": "LPX"}'):
        (raw / "phantom.json").write_text(damaged)
        with pytest.raises(SourceError, match=r"phantom\.json must be what.*--axes"):
            UwMadison(raw)
        assert UwMadison(raw, axes="LPI").axes == "LPI"


def test_patient_session_and_source_of_a_case(make):
    case = UwMadison(make({"case123_day20": 1})).load("case123_day20")
    assert (case.key, case.patient, case.session) == ("case123_day20", "case123", "day20")
    assert case.source == "train/case123/case123_day20"
    assert case.warnings == ()


def test_overlap_of_organs_is_kept(make):
    masks = {("case1_day2", 2, organ): rle for organ, rle in zip(ORGANS, ("1 3", "2 3", "3 3"), strict=True)}
    label = UwMadison(make(masks=masks)).load("case1_day2").label
    assert label.voxels[:, 0, 1].tolist() == [1, 3, 7, 6, 4, 0]
    for organ, mask in zip(ORGANS, LABELS.masks(label.voxels), strict=True):
        assert encode(mask[:, :, 1].T) == masks["case1_day2", 2, organ]


def test_a_slice_without_organ_is_empty_and_the_last_slice_counts(make):
    label = UwMadison(make(masks={("case1_day2", 3, "stomach"): "24 1"})).load("case1_day2").label
    assert np.argwhere(label.voxels).tolist() == [[5, 3, 2]]


def test_suspect_scans_are_marked_and_converted(make):
    source = UwMadison(make({"case7_day0": 1, "case7_day1": 1}))
    assert source.load("case7_day0").warnings[0].startswith("suspect")
    assert source.load("case7_day1").warnings == ()


def test_twelve_scans_are_suspect():
    assert len(SUSPECT) == 12


def test_scans_of_test_have_no_label(make):
    make()
    source = UwMadison(make({"case9_day1": 2}, part="test"))
    assert list(source.keys()) == ["case1_day2", "case9_day1"]
    assert [source.labelled(key) for key in sorted(source.keys())] == [True, False]
    assert source.load("case9_day1").label is None
    assert source.load("case9_day1").source == "test/case9/case9_day1"


def test_any_safe_word_names_a_patient(make):
    source = UwMadison(make({"Patient-A.1_day0": 1, "a_day1_day2": 1}))
    assert [source.load(key).patient for key in sorted(source.keys())] == ["Patient-A.1", "a_day1"]


def test_other_classes_are_read_with_their_table(make):
    raw = make({"case1_day2": 1})
    lines = [("case1_day2_slice_0001", "tumour", "1 4"), ("case1_day2_slice_0001", "core", "2 2")]
    write_table(raw, lines)
    table = LabelTable.of({"tumour": [1, 2], "core": 2})
    label = UwMadison(raw, labels=table).load("case1_day2").label
    assert label.voxels[:, 0, 0].tolist() == [1, 2, 2, 1, 0, 0]


def test_the_sidecar_overrides_the_affine(make):
    raw = make()
    affine = [[0, 2, 0, 5], [1, 0, 0, -3.25], [0, 0, 4, 7], [0, 0, 0, 1]]
    before = UwMadison(raw).digest("case1_day2")
    (raw / "geometry.json").write_text(json.dumps({"case1_day2": affine}))
    source = UwMadison(raw)
    np.testing.assert_array_equal(source.load("case1_day2").channels[0].affine_ras, affine)
    assert source.digest("case1_day2") != before


def test_many_threads_read_what_one_reads(make):
    source = UwMadison(make({f"case{i}_day0": 4 for i in range(6)}, masks={("case3_day0", 2, "stomach"): "3 4"}))
    alone = [source.load(key) for key in sorted(source.keys())]
    with ThreadPoolExecutor(4) as pool:
        together = list(pool.map(source.load, source.keys()))
    for a, b in zip(alone, together, strict=True):
        np.testing.assert_array_equal(a.channels[0].voxels, b.channels[0].voxels)
        np.testing.assert_array_equal(a.label.voxels, b.label.voxels)


# --- which cases


def test_day2_is_no_prefix_of_day20(make):
    keys = {"case1_day2": 1, "case1_day20": 2, "case10_day2": 3}
    raw = make(keys, masks={("case1_day20", 1, "stomach"): "1 1"})
    assert list(UwMadison(raw, cases=["case1_day2"]).keys()) == ["case1_day2"]
    assert list(UwMadison(raw, cases=["case1"]).keys()) == ["case1_day2", "case1_day20"]
    assert list(UwMadison(raw, cases=["case1_day2", "case10"]).keys()) == ["case10_day2", "case1_day2"]
    source = UwMadison(raw)
    assert not source.load("case1_day2").label.voxels.any()
    assert source.load("case1_day20").label.voxels.any()
    assert {key: source.load(key).channels[0].shape[2] for key in sorted(source.keys())} == keys


@pytest.mark.parametrize("cases", [["case1_day3"], ["case"], ["case1_day2", "nobody"], []])
def test_an_unknown_name_among_the_cases_is_refused(make, cases):
    with pytest.raises(UsageError, match=r"no case.*case1_day2"):
        UwMadison(make(), cases=cases)


def test_a_subset_on_disk_will_do(make):
    raw = make({"case1_day2": 1})
    write_table(raw, table_of(raw) + [(f"case99_day1_slice_{i:04d}", "stomach", "1 1") for i in range(1, 9)])
    source = UwMadison(raw)
    assert list(source.keys()) == ["case1_day2"]
    assert source.load("case1_day2").warnings == ()


def test_the_folder_above_and_stray_files_are_accepted(make, caplog):
    raw = make()
    for stray in (raw / "train/.hidden/x_day1", raw / "train/case1/.partial-x", raw / "train/case1/case1_day3 copy"):
        stray.mkdir(parents=True)
    (raw / "train/notes.txt").touch()
    scans = slice_file(raw, 1).parent
    (scans / "Thumbs.db").touch()
    (scans / "._slice_0001_6_4_1.50_1.50.png").touch()
    source = UwMadison(raw.parent)
    assert list(source.keys()) == ["case1_day2"]
    assert source.load("case1_day2").channels[0].shape == (6, 4, 3)
    assert "case1_day3 copy is left out" in caplog.text


def test_absent_rows_are_taken_as_empty_and_said(make):
    raw = make(masks={("case1_day2", 2, "stomach"): "1 2"})
    write_table(raw, [line for line in table_of(raw) if line[2]])
    case = UwMadison(raw).load("case1_day2")
    assert case.label.voxels.sum() == 8
    assert case.warnings == ("8 rows are absent from train.csv and were taken as empty masks",)


@pytest.mark.parametrize("absent", ["case3_day0", "case1_day20"])
def test_rows_of_scans_that_are_not_there_are_said(make, absent, caplog):
    raw = make({"case1_day2": 2, absent: 2})
    shutil.rmtree(slice_file(raw, 1, key=absent).parent.parent)
    source = UwMadison(raw)
    assert source.warnings == [f"train.csv has rows of 1 scans that are not there: {absent}"]
    assert source.warnings[0] in caplog.text
    assert not UwMadison(raw, cases=["case1_day2"]).warnings, "the others were left out on purpose"
    assert list(source.keys()) == ["case1_day2"]


# --- digest


def test_digest_changes_with_the_raw_data_of_its_case_only(make):
    raw = make({"case1_day2": 2, "case2_day0": 2})
    first = UwMadison(raw)
    before = {key: first.digest(key) for key in sorted(first.keys())}
    again = UwMadison(raw)
    assert {key: again.digest(key) for key in sorted(again.keys())} == before
    assert UwMadison(raw, thickness_mm=2).digest("case1_day2") != before["case1_day2"]

    os.utime(slice_file(raw, 1), ns=(1, 1))
    assert first.digest("case1_day2") != before["case1_day2"]
    lines = table_of(raw)
    lines[-1] = (*lines[-1][:2], "1 1")  # of case2_day0
    write_table(raw, lines)
    assert UwMadison(raw).digest("case2_day0") != before["case2_day0"]


def test_digest_of_a_broken_scan_is_no_error(make):
    raw = make()
    source = UwMadison(raw)
    before = source.digest("case1_day2")
    for path in slice_file(raw, 1).parent.iterdir():
        path.unlink()
    slice_file_folder = raw / "train/case1/case1_day2/scans"
    (slice_file_folder / "slice_0001_6_4_1.50_1.50.png").symlink_to("nowhere")
    assert source.digest("case1_day2") != before


# --- bad input: nothing opens


@pytest.mark.parametrize(
    ("files", "cure"),
    [
        (("dataset.json", "cases.csv"), "it is a cohort already: run `volseg check"),
        (("dataset.json", "imagesTr/a.nii.gz"), "it has a dataset.json: run `volseg convert decathlon"),
        (("scan/1.dcm",), "it holds DICOM files: run `volseg convert dicom"),
        (("a/1.png",), "it holds pictures such as a/1.png: run `volseg convert images"),
    ],
)
def test_a_folder_of_another_kind_is_told_with_its_command(files: tuple[str, ...], cure: str, tmp_path: Path) -> None:
    for name in files:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    with pytest.raises(SourceError, match="holds no folder `train`") as refused:
        UwMadison(tmp_path)
    assert cure in str(refused.value)


def test_an_empty_folder_is_refused(tmp_path):
    with pytest.raises(SourceError, match=r"no folder `train`; name the folder that holds"):
        UwMadison(tmp_path)
    with pytest.raises(SourceError, match="is no folder"):
        UwMadison(tmp_path / "absent")
    (tmp_path / "train").mkdir()
    with pytest.raises(SourceError, match=r"holds no scan; expected folders like train/case1/case1_day2/scans"):
        UwMadison(tmp_path)


def test_the_train_folder_itself_is_refused_with_the_right_one(make):
    raw = make()
    with pytest.raises(SourceError, match=f"{raw}$"):
        UwMadison(raw / "train")


def test_the_same_scan_in_train_and_test_is_refused(make):
    make()
    with pytest.raises(SourceError, match="both"):
        UwMadison(make(part="test"))


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (None, "is not there; it belongs beside"),
        ("", "cannot be read"),
        ("a,b\n1,2\n", "has the columns a, b; expected id, class, segmentation"),
        ("id,class,segmentation\nx,stomach,1 2,3\n", "expected id, class, segmentation"),
        ('id,class,segmentation\nx,stomach,"1 2\n', "cannot be read"),
        ("id,class,segmentation\nwhat,stomach,\n", "id 'what', which names no case"),
        ("id,class,segmentation\ncase1_day2x_slice_0001,stomach,\n", "names no case"),
    ],
)
def test_a_table_that_is_none_is_refused_at_opening(make, content, message):
    raw = make()
    (raw / "train.csv").unlink()
    if content is not None:
        (raw / "train.csv").write_text(content)
    with pytest.raises(SourceError, match=message):
        UwMadison(raw)


@pytest.mark.parametrize(
    ("separator", "encoding", "header"),
    [
        (",", "utf-8-sig", ["id", "class", "segmentation"]),
        (";", "utf-8", ["id", "class", "segmentation"]),
        ("\t", "utf-16", ["id", "class", "segmentation"]),
        (";", "utf-16-be", ["ID", " Class", "Segmentation "]),
        (", ", "utf-8", ["id", "class", "segmentation"]),
    ],
)
def test_a_table_that_a_spreadsheet_saved_is_read(make, separator, encoding, header):
    raw = make(masks={("case1_day2", 2, "stomach"): "1 2"})
    lines = [header, *table_of(raw)]
    mark = "\ufeff" if encoding == "utf-16-be" else ""
    text = mark + "\r\n".join(separator.join(line) for line in lines)
    (raw / "train.csv").write_bytes(text.encode(encoding))
    assert UwMadison(raw).load("case1_day2").label.voxels.sum() == 8


def test_texts_in_another_encoding_and_two_columns_of_one_name_are_refused(make):
    raw = make()
    (raw / "train.csv").write_bytes("id,class,segmentation\ncase1_day2_slice_0001,m\xe9,\n".encode("latin-1"))
    with pytest.raises(SourceError, match=r"no text in UTF-8.*save it"):
        UwMadison(raw)
    (raw / "train.csv").write_text("id,ID,class,segmentation\ncase1_day2_slice_0001,x,stomach,\n")
    with pytest.raises(SourceError, match="has the columns id, id, class"):
        UwMadison(raw)


def test_endings_in_capitals_count(make):
    """Copies by way of old file systems and cameras' programs write .PNG: the last one must not be lost in silence."""
    raw = make()
    last = slice_file(raw, 3)
    last.rename(last.with_suffix(".PNG"))
    write_table(raw, [line for line in table_of(raw) if "_0003" not in line[0]])
    assert UwMadison(raw).load("case1_day2").channels[0].shape == (6, 4, 3)


def test_a_day_in_no_folder_of_its_patient_is_told(make, caplog):
    raw = make({"case1_day2": 1, "case2_day0": 1})
    (raw / "train/case2/case2_day0").rename(raw / "train/case2_day0")
    assert list(UwMadison(raw).keys()) == ["case1_day2"]
    assert "train/case2_day0 is left out, since it lies in no folder of its patient; move it into train/case2" in (
        caplog.text
    )


def test_a_thickness_must_be_positive(make):
    with pytest.raises(UsageError, match="above 0 mm"):
        UwMadison(make(), thickness_mm=0)


@pytest.mark.parametrize("content", ["[]", "{", '{"case1_day2": [[0]]}', '{"case1_day2": "x"}', '{"case1_day2": null}'])
def test_a_broken_sidecar_is_refused(make, content):
    raw = make()
    (raw / "geometry.json").write_text(content)
    with pytest.raises(SourceError, match=r"geometry\.json.*remove"):
        UwMadison(raw).load("case1_day2")


# --- bad input: one case fails, by key, slice and cure; the others go on


def bad_case(raw: Path, match: str, kind: type[SourceError] = SourceError) -> None:
    """Loading case1_day2 fails with the key in front; case2_day0 still loads."""
    source = UwMadison(raw)
    with pytest.raises(kind, match=f"^case1_day2: .*{match}"):
        source.load("case1_day2")
    source.load("case2_day0")


@pytest.fixture
def two(make) -> Path:
    """A raw folder of case1_day2 with 12 slices and case2_day0 with one."""
    return make({"case1_day2": 12, "case2_day0": 1})


def test_an_empty_scan(two):
    for path in slice_file(two, 1).parent.iterdir():
        path.unlink()
    bad_case(two, "holds no PNG slice; copy the scan again")
    slice_file_folder = two / "train/case1/case1_day2/scans"
    slice_file_folder.rmdir()
    bad_case(two, "holds no PNG slice")


def test_a_scan_that_cannot_be_listed_is_no_empty_one(two, monkeypatch):
    folder, listed = slice_file(two, 1).parent, Path.iterdir

    def list_it(path):
        if path == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return listed(path)

    monkeypatch.setattr(Path, "iterdir", list_it)
    with pytest.raises(SourceError, match=r"cannot be listed \(Permission denied\); give the right to read it"):
        UwMadison(two).load("case1_day2")


@pytest.mark.parametrize("kept", [0, 4, 20, 40, 0.5, -20, -1])
def test_a_png_cut_short(two, kept):
    path = slice_file(two, 7)
    content = path.read_bytes()
    path.write_bytes(content[: int(len(content) * kept) if isinstance(kept, float) else kept])
    bad_case(two, "slice_0007_.*copy it again")


def test_a_png_with_a_flipped_bit(two):
    path = slice_file(two, 7)
    content = bytearray(path.read_bytes())
    content[content.index(b"IDAT") + 12] ^= 1
    path.write_bytes(content)
    bad_case(two, "slice_0007_.*damaged.*IDAT")


def test_a_slice_that_cannot_be_opened(two):
    path = slice_file(two, 7)
    path.unlink()
    path.symlink_to("nowhere")
    bad_case(two, "slice_0007_.*cannot be opened")


@pytest.mark.parametrize("number", [1, 7])
def test_a_missing_slice(two, number):
    slice_file(two, number).unlink()
    bad_case(two, rf"slice {number:04d} is missing \(11 slices, the last is 0012.*copy the scan again")


def test_the_last_slice_missing_is_seen_by_its_rows(two):
    slice_file(two, 12).unlink()
    bad_case(two, "rows of slice 0012, the folder holds the slices 0001 to 0011; the PNG is missing")


def test_a_slice_of_another_size_than_its_name_says(two):
    Image.fromarray(pixels(7, (4, 6))).save(slice_file(two, 7))
    bad_case(two, "slice_0007_.*is 4 wide and 6 high, expected 6 wide and 4 high")


@pytest.mark.parametrize("name", ["slice_0007_5_4_1.50_1.50.png", "slice_0007_6_4_1.50_1.63.png"])
def test_a_slice_unlike_the_others(two, name):
    path = slice_file(two, 7)
    path.rename(path.with_name(name))
    bad_case(two, "slice_0007_.* and slice_0001_.* differ")


def test_a_slice_twice(two):
    path = slice_file(two, 7)
    path.with_name("slice_0007_6_4_1.63_1.63.png").write_bytes(path.read_bytes())
    bad_case(two, "slice 0007 is there twice")


@pytest.mark.parametrize("name", ["slice_7_6_4_1.50_1.50.png", "slice_0007.png", "picture.png"])
def test_a_png_that_is_no_slice_by_name(two, name):
    path = slice_file(two, 7)
    path.rename(path.with_name(name))
    bad_case(two, f"{name} is no slice's name, expected")


def test_a_spacing_of_0(make):
    make({"case2_day0": 1})
    raw = make({"case1_day2": 1}, spacing="0.00_1.50")
    with pytest.raises(SourceError, match="spacing of 0 mm"):
        UwMadison(raw).load("case1_day2")


@pytest.mark.parametrize("mode", ["RGB", "P", "LA", "1"])
def test_a_picture_that_is_not_grey(two, mode):
    Image.new(mode, (6, 4)).save(slice_file(two, 7))
    bad_case(two, "slice_0007_.*expected grey of 8 or 16 bits")


def change(raw: Path, number: int, organ: str, line: tuple[str, str, str] | None, *, append: bool = False) -> None:
    """Replace the row of case1_day2 at a slice and organ, or add one after it."""
    lines = table_of(raw)
    at = next(i for i, row in enumerate(lines) if row[:2] == (f"case1_day2_slice_{number:04d}", organ))
    lines[at : at + 1] = [*([lines[at]] if append else []), *([line] if line else [])]
    write_table(raw, lines)


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("24 2", "past the 24 pixels"),
        ("25 1", "past the 24 pixels"),
        ("1 2 3", "pairs"),
        ("0 1", "below 1"),
        ("1 0", "below 1"),
        ("5 2 1 1", "go back"),
        ("x 2", "no whole number"),
    ],
)
def test_a_segmentation_that_is_none(two, text, message):
    change(two, 7, "stomach", ("case1_day2_slice_0007", "stomach", text))
    bad_case(two, f"slice 0007, stomach: .*{message}.*correct the row in train.csv", RleError)


@pytest.mark.parametrize("text", ["", "1 2"])
def test_an_id_and_class_twice(two, text):
    change(two, 7, "stomach", ("case1_day2_slice_0007", "stomach", text), append=True)
    bad_case(two, "slice 0007 with class 'stomach' more than once; keep the right row")


@pytest.mark.parametrize("name", ["spleen", "", "Stomach", "nan"])
def test_an_unknown_class(two, name):
    change(two, 7, "stomach", ("case1_day2_slice_0007", name, ""))
    bad_case(two, f"class '{name}' at slice 0007, expected large_bowel, small_bowel, stomach")


@pytest.mark.parametrize("text", ["case1_day2_slice_7", "case1_day2_slice_000x", "case1_day2", "case1_day2-slice_0007"])
def test_an_id_that_names_the_case_but_no_slice(two, text):
    change(two, 7, "stomach", (text, "stomach", ""))
    bad_case(two, f"the id '{text}', expected case1_day2_slice_0001")


@pytest.mark.parametrize("number", [0, 13, 999])
def test_a_row_of_a_slice_that_is_not_there(two, number):
    change(two, 7, "stomach", (f"case1_day2_slice_{number:04d}", "stomach", ""))
    bad_case(two, f"rows of slice {number:04d}")


def test_a_scan_without_rows(two):
    write_table(two, [line for line in table_of(two) if not line[0].startswith("case1_")])
    bad_case(two, "no row of this scan; get the whole train.csv")


def test_a_key_that_is_not_there(two):
    with pytest.raises(UsageError, match="no case 'case1_day3'; name one of case1_day2, case2_day0"):
        UwMadison(two).load("case1_day3")

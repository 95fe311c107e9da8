"""The HTML report without a browser: figures, escaping, what goes into the page and what beside it."""

from __future__ import annotations

import base64
import gzip
import json
import re
import subprocess
import sys
from html.parser import HTMLParser
from io import BytesIO
from xml.etree import ElementTree

import nibabel
import numpy as np
import pytest
from PIL import Image
from scored_cohort import AFFINE, REFERENCE, SHAPE, TABLE, box, label_map, make_cohort, write

from volseg.cohort import CaseRow, sessions_of
from volseg.errors import GeometryError, LabelError, UsageError, VolumeError
from volseg.evaluation import RegionScores, evaluate
from volseg.labels import LabelTable
from volseg.pictures import draw_case, read_review_case, viewer_data
from volseg.pictures.case import ReviewCase
from volseg.pictures.case_picture import acquired_plane
from volseg.pictures.viewer import colour_table, shrink
from volseg.report import write_html
from volseg.report.figures import Point, Session, curve_figure, strip_figure, ticks
from volseg.report.html_cases import session_times
from volseg.volume import Volume, read_volume

SVG = "{http://www.w3.org/2000/svg}"
EVIL = "<script>window.ran=1</script>\"'&"
PREDICTED = label_map(
    large_bowel=box(1, 5, 1, 5, 1, 5), small_bowel=box(4, 8, 3, 7, 1, 5), stomach=box(0, 1, 0, 1, 0, 1)
)


class Page(HTMLParser):
    """The elements of a page: tag, attributes, text."""

    VOID = frozenset({"meta", "img", "input", "link", "br"})

    def __init__(self, text):
        super().__init__()
        self.elements, self.open = [], []
        self.feed(text)
        assert not self.open, f"left open: {self.open}"

    def handle_starttag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])
        if tag not in self.VOID:
            self.open.append(len(self.elements) - 1)

    def handle_startendtag(self, tag, attrs):
        self.elements.append([tag, dict(attrs), ""])

    def handle_endtag(self, tag):
        last = self.elements[self.open.pop()][0]
        assert last == tag, f"</{tag}> closes <{last}>"

    def handle_data(self, data):
        for number in self.open:
            self.elements[number][2] += data

    def all(self, tag, **wanted):
        return [e for e in self.elements if e[0] == tag and all(e[1].get(k) == v for k, v in wanted.items())]


@pytest.fixture
def cohort(tmp_path):
    return make_cohort(
        tmp_path / "cohort", {"p1_day1": REFERENCE, "p1_day2": REFERENCE, "p2_day1": REFERENCE, "p3_day1": REFERENCE}
    )


@pytest.fixture
def predictions(tmp_path):
    folder = tmp_path / "predictions"
    for key in ("p1_day1", "p1_day2"):
        write(folder / f"{key}.nii.gz", PREDICTED)
    write(folder / "p2_day1.nii.gz", REFERENCE)
    return folder


def written(tmp_path, cohort, predictions, *, keys=None, rows=None, **options):
    rows = evaluate(predictions, cohort, keys=keys) if rows is None else rows
    told = {"title": "Test", "details": {"cohort": "c"}, **options}
    path = write_html(rows, tmp_path / "report", cohort=cohort, predictions=predictions, **told)
    assert path == tmp_path / "report" / "report.html"
    return path.read_text(encoding="utf-8")


def test_the_page_holds_every_part_and_asks_for_nothing_outside(tmp_path, cohort, predictions):
    text = written(tmp_path, cohort, predictions, keys=cohort.keys)
    page = Page(text)
    assert [e[2] for e in page.all("h1")] == ["Test"]
    ids = {e[1]["id"] for e in page.elements if "id" in e[1]}
    assert ids >= {"failed", "result", "spread", "table", "cases", "definitions", "case-1", "case-2", "case-3"}
    for _, attributes, _ in page.all("a"):
        assert attributes["href"].removeprefix("#") in ids, "each link leads to a place in the page"
    assert not page.all("link")
    for tag, attributes, _ in page.elements:
        assert not any(name.startswith("on") for name in attributes), f"<{tag}> runs a script of its own"
        assert attributes.get("src", "data:").startswith("data:")
    policy = next(e[1]["content"] for e in page.all("meta") if "http-equiv" in e[1])
    assert policy.startswith("default-src 'none';")
    assert "http" not in policy
    assert [path.name for path in (tmp_path / "report").iterdir()] == ["report.html"]


def test_failed_cases_come_first_with_their_errors(tmp_path, cohort, predictions):
    text = written(tmp_path, cohort, predictions, keys=cohort.keys)
    assert "1 case could not be scored" in text
    assert text.index("there is no prediction p3_day1.nii.gz") < text.index('id="result"')
    assert 'class="bad"><b>1</b>failed' in text


def test_rows_stand_worst_first_and_both_empty_last(tmp_path, cohort, predictions):
    table = Page(written(tmp_path, cohort, predictions)).all("table", id="case-table")[0][2]
    order = re.findall(r"(p\d_day\d).*?(both present|missed|invented|both empty)", table)
    assert [outcome for _, outcome in order[:2]] == ["invented", "invented"]
    assert order[-1] == ("p2_day1", "both empty")


def test_what_a_file_or_a_user_says_cannot_run(tmp_path, cohort, predictions):
    rows = [*evaluate(predictions, cohort, keys=["p1_day1"]), RegionScores(EVIL, EVIL, "", error=EVIL)]
    rows.append(RegionScores(f"{EVIL}2", EVIL, EVIL, dice=0.5, reference_ml=1, predicted_ml=1, outcome="both present"))
    page = Page(written(tmp_path, cohort, predictions, rows=rows, title=EVIL, details={EVIL: EVIL}))
    assert len(page.all("script")) == 3  # library, volumes, the page's own
    assert page.all("h1")[0][2] == EVIL
    assert page.all("dd")[0][2] == EVIL
    assert "No picture" in page.all("details", id="case-1")[0][2] + page.all("details", id="case-2")[0][2]


def test_the_viewer_has_whole_label_maps_of_the_worst_cases(tmp_path, cohort, predictions):
    page = Page(written(tmp_path, cohort, predictions, viewers=2))
    assert [e[1]["data-volumes"] for e in page.all("div") if e[1].get("class") == "viewer"] == ["1", "2"]
    data = json.loads(page.all("script", id="volumes-1")[0][2])
    for name, expected in (("reference", REFERENCE), ("prediction", PREDICTED)):
        image = nibabel.Nifti1Image.from_bytes(gzip.decompress(base64.b64decode(data[name])))
        assert np.array_equal(np.asanyarray(image.dataobj), expected)
        assert np.allclose(image.affine, AFFINE)
    library = gzip.decompress(base64.b64decode(page.all("script", id="niivue")[0][2]))
    assert b"niivue" in library
    assert "BSD 2-Clause License" in page.all("footer")[0][2]


def test_without_viewers_no_library_is_carried(tmp_path, cohort, predictions):
    text = written(tmp_path, cohort, predictions, viewers=0)
    assert len(text) < 200_000
    assert "NiiVue" not in text.partition("<footer>")[2].partition("<script>")[0]


def test_above_the_limit_the_data_lies_beside_the_page(tmp_path, cohort, predictions):
    folder = tmp_path / "report"
    written(tmp_path, cohort, predictions, viewers=2, limit_bytes=1000)
    names = {path.name for path in (folder / "report_data").iterdir()}
    assert names == {"case-1.webp", "case-2.webp", "case-3.webp", "volumes-1.js", "volumes-2.js"}
    page = Page((folder / "report.html").read_text(encoding="utf-8"))
    assert not page.all("script", id="volumes-1")
    for _, attributes, _ in page.all("img"):
        with Image.open(folder / attributes["src"]) as image:
            assert image.size == (int(attributes["width"]), int(attributes["height"]))
    script = (folder / "report_data" / "volumes-1.js").read_text()
    name, _, data = script.partition(" = ")
    assert name == 'window.volsegVolumes["1"]'
    assert "image" in json.loads(data.strip().removesuffix(";"))
    # A later report that needs none of them takes its own files away, and no other.
    (folder / "report_data" / "notes.txt").write_text("mine")
    written(tmp_path, cohort, predictions)
    assert [path.name for path in (folder / "report_data").iterdir()] == ["notes.txt"]


def test_a_large_cohort_has_its_worst_rows_in_the_page(tmp_path, cohort, predictions):
    """Each of 100,000 rows of 1000 cases with 100 regions takes a kilobyte: the page was as large as all together."""
    rows = [
        RegionScores(f"k{number}", f"k{number}", "stomach", dice=number / 1000, outcome="both present")
        for number in range(300)
    ]
    text = written(tmp_path, cohort, predictions, rows=rows, limit_bytes=4000)
    assert "The 200 worst of 300 rows; cases.csv holds all." in text
    shown = re.findall(r"#case-\d+\">(k\d+)</a>", text)
    assert shown == [f"k{number}" for number in range(200)]
    whole = written(tmp_path, cohort, predictions, rows=rows)
    assert "cases.csv holds all" not in whole
    assert len(re.findall(r"#case-\d+\">(k\d+)</a>", whole)) == 300


def test_fifty_cases_of_a_real_size_stay_below_the_limit(tmp_path):
    # 266 x 266 pixels of noise, the worst for WebP: what one picture costs, fifty times, with the library and the text.
    noise = np.random.default_rng(0).integers(0, 1000, (266, 266, 4)).astype(np.uint16)
    empty = Volume(np.zeros(noise.shape, np.uint8), AFFINE)
    picture = draw_case(ReviewCase("a", Volume(noise, AFFINE), "MR", empty, empty, TABLE))
    assert 50 * len(picture.webp) * 4 / 3 < 12_500_000


def test_equal_input_gives_an_equal_page(tmp_path, cohort, predictions):
    assert written(tmp_path, cohort, predictions) == written(tmp_path, cohort, predictions)


def test_nothing_scored_is_said(tmp_path, cohort, predictions):
    text = written(tmp_path, cohort, predictions, rows=[RegionScores("p3_day1", "p3", "", error="unreadable")])
    assert "No case could be scored." in text
    Page(text)
    Page(written(tmp_path, cohort, predictions, rows=[]))


def test_a_case_that_is_there_twice_is_refused(tmp_path, cohort, predictions):
    row = RegionScores("p1_day1", "p1", "stomach", dice=0.5)
    with pytest.raises(UsageError, match="p1_day1"):
        written(tmp_path, cohort, predictions, rows=[row, row])


def test_progress_is_told(tmp_path, cohort, predictions):
    told = []
    written(tmp_path, cohort, predictions, progress=lambda done, total: told.append((done, total)))
    assert told == [(1, 3), (2, 3), (3, 3)]


# --- figures


def test_a_strip_has_each_case_at_its_value():
    region = TABLE.regions[0]
    values = [0.55, 0.6, 0.65, 0.9, None]
    points = [Point(f"c{i}", value, "both present", "#x") for i, value in enumerate(values)]
    figure = strip_figure([(region, points)], title="Dice", unit="", digits=3, ratio=True)
    svg = ElementTree.fromstring(figure)
    dots = {link.find(f"{SVG}title").text: link.find(f"{SVG}circle") for link in svg.iter(f"{SVG}a")}
    assert set(dots) == {"c0: 0.550", "c1: 0.600", "c2: 0.650", "c3: 0.900"}
    x = [float(dot.get("cx")) for dot in dots.values()]
    assert x == pytest.approx(np.interp(values[:4], (0.55, 0.9), (x[0], x[3])), abs=0.1)
    assert "1 undefined" in figure
    assert "4 cases" in figure
    links = list(svg.iter(f"{SVG}a"))
    assert [link.get("tabindex") for link in links] == ["0", "-1", "-1", "-1"], "one stop of the Tab key"


def test_missed_and_invented_have_marks_of_their_own():
    region = TABLE.regions[0]
    points = [Point("a", 0.0, "missed", ""), Point("b", 0.0, "invented", ""), Point("c", 0.7, "both present", "")]
    svg = ElementTree.fromstring(strip_figure([(region, points)], title="Dice", unit="", digits=3, ratio=True))
    assert len(list(svg.iter(f"{SVG}circle"))) == 1
    assert [title.text for title in svg.iter(f"{SVG}title")] == [
        "a: 0.000, missed",
        "b: 0.000, invented",
        "c: 0.700",
    ]


def test_of_a_crowd_the_cases_beyond_the_whiskers_are_points():
    region = TABLE.regions[0]
    points = [Point(f"c{number}", 0.8 + number / 10000, "both present", "") for number in range(100)]
    points += [Point("far", 0.6, "both present", ""), Point("none", 0.0, "missed", "")]
    options = {"title": "Dice", "unit": "", "digits": 3, "ratio": True}
    all_, few = (strip_figure([(region, points)], **options, outside_only=one) for one in (False, True))
    assert (all_.count("<title>"), few.count("<title>")) == (102, 2)
    assert "far: 0.600" in few
    assert "none: 0.000, missed" in few
    assert "102 cases" in few


def test_figures_escape_what_they_write():
    region = LabelTable.exclusive([EVIL]).regions[0]
    for figure in (
        strip_figure([(region, [Point(EVIL, 1.0, "", EVIL)])], title=EVIL, unit=EVIL, digits=1, ratio=False),
        curve_figure(region, [Session(EVIL, 0, 1, 2), Session("2", 1, 1, 2)], axis=EVIL),
    ):
        assert not list(ElementTree.fromstring(figure).iter(f"{SVG}script"))


def test_curves_keep_the_distances_between_days():
    days = [Session(str(day), day, 10.0 * day, 5.0) for day in (0, 8, 10)]
    svg = ElementTree.fromstring(curve_figure(TABLE.regions[0], days, axis="day"))
    x = [float(dot.get("cx")) for dot in svg.iter(f"{SVG}circle")]
    assert len(x) == 6
    assert (x[1] - x[0]) / (x[2] - x[0]) == pytest.approx(0.8, abs=0.01)


def test_sessions_without_a_number_of_their_own_stand_in_order():
    assert session_times(sessions(a="day1", b="day1"))[1] == "session"
    assert session_times(sessions(a="", b=""))[0] == {"a": (0.0, "a"), "b": (1.0, "b")}
    assert session_times(sessions(a="v1-10", b="v1-2"))[0] == {"b": (0.0, "v1-2"), "a": (1.0, "v1-10")}


def sessions(*, days=(), **names):
    stated = dict(zip(names, days, strict=False))
    return {
        key: CaseRow(key, "p", name, (1, 1, 1), (1.0, 1.0, 1.0), "RAS", "", (), day=stated.get(key))
        for key, name in names.items()
    }


@pytest.mark.parametrize("names", ["ses-1 ses-2 ses-10", "ses-01 ses-02 ses-10", "day0 day3 day12", "fx_1 fx_2 fx_25"])
def test_a_later_session_stands_further_right(names):
    """BIDS writes ses-01: the hyphen is no sign, by which a treatment ran backwards."""
    rows = sessions(**{f"k{number}": name for number, name in enumerate(names.split())})
    times, _ = session_times(rows)
    assert sorted(times, key=lambda key: times[key][0]) == list(rows)
    (in_order,) = sessions_of(rows.values()).values()
    assert [key for one in in_order for key in one.keys] == list(rows)


def test_the_column_day_is_the_axis():
    rows = sessions(days=(0.0, 14.0, 30.0), a="pre", b="mid", c="post")
    assert session_times(rows) == ({"a": (0.0, "0"), "b": (14.0, "14"), "c": (30.0, "30")}, "day")
    twice = session_times(sessions(days=(3.0, 3.0, 1.0), a="x", b="y", c="z"))
    assert (sorted(twice[0], key=lambda key: twice[0][key][0]), twice[1]) == (["c", "a", "b"], "session")
    some = session_times(sessions(days=(7.0,), a="ses-2", b="ses-1"))
    assert (sorted(some[0], key=lambda key: some[0][key][0]), some[1]) == (["b", "a"], "ses")


@pytest.mark.parametrize("form", ["{}{}{}", "ses-{}{}{}", "{}-{}-{}", "{}_{}_{}_MR"])
def test_dates_stand_by_the_days_between_them(form):
    """As numbers, 31 January and 1 February of a year lie 70 apart, and its last day 8,870 before the next one."""
    dates = [("2023", "12", "31"), ("2024", "01", "31"), ("2024", "02", "01"), ("2024", "03", "01")]
    rows = sessions(**{f"k{number}": form.format(*one) for number, one in enumerate(dates)})
    times, axis = session_times(rows)
    assert list(times.values()) == [(0.0, "0"), (31.0, "31"), (32.0, "32"), (61.0, "61")]
    assert axis == "day"


def test_numbers_that_are_no_dates_stay_numbers():
    times, axis = session_times(sessions(a="scan20241350", b="scan20241301"))
    assert (times["a"][0] - times["b"][0], axis) == (49.0, "scan")
    same = session_times(sessions(a="20240131_a", b="20240131_b"))
    assert (same[0]["a"][0], same[0]["b"][0], same[1]) == (0.0, 1.0, "session")


@pytest.mark.parametrize("name", ["W" * 26, "W" * 40, "左" * 26, "m_w" * 8, "stomach", "ET", "L" * 26])
def test_a_name_of_wide_letters_is_not_cut_off(name):
    """26 times W are 13 pixels each in a margin of 7.4: the first third of the name was outside the figure."""
    (region,) = LabelTable.exclusive([name]).regions
    svg = ElementTree.fromstring(
        strip_figure([(region, [Point("a", 0.5, "", "")])], title="Dice", unit="", digits=3, ratio=True)
    )
    (text,) = (one for one in svg.iter(f"{SVG}text") if one.get("class") == "name")
    letter = 14 if name[0] == "左" else 13 if name[0] == "W" else 7.4
    width = float(text.get("textLength") or letter * len(text.text))
    assert float(text.get("x")) - width >= 0
    assert (text.get("textLength") is None) == (name in ("stomach", "ET", "L" * 26))


def test_the_axis_of_values_that_are_all_0_has_a_length():
    svg = strip_figure([(TABLE.regions[0], [Point("a", 0.0, "", "")])], title="HD95", unit="mm", digits=2, ratio=False)
    assert re.findall(r">([\d.e-]+)</text>", svg) == ["0", "0.2", "0.4", "0.6", "0.8", "1"]


@pytest.mark.parametrize("high", [1e-6, 0.3, 1.0, 7.0, 99.0, 12345.0])
def test_ticks_cover_the_range_evenly(high):
    marks = ticks(0, high)
    assert marks[0] == 0
    assert marks[-1] >= high * 0.999
    assert 3 <= len(marks) <= 8
    assert np.allclose(np.diff(marks), marks[1])


# --- pictures and volumes


@pytest.mark.parametrize("signs", [(1, 1, 1), (-1, -1, 1), (-1, 1, -1), (1, -1, -1)])
def test_the_patients_right_is_at_the_left_however_the_file_is_stored(signs):
    # One bright block at the patient's right front, in RAS; the same patient is stored in other orientations.
    ras = np.zeros((20, 20, 6), np.uint16)
    ras[14:18, 13:19, :] = 1000
    mask = np.zeros(ras.shape, np.uint8)
    mask[14:18, 13:19, 4] = 1
    turn = tuple(slice(None, None, sign) for sign in signs)
    affine = np.diag([*signs, 1.0])
    labels = LabelTable.exclusive(["block"])
    reference = Volume(mask[turn], affine)
    picture = draw_case(ReviewCase("a", Volume(ras[turn], affine), "MR", reference, reference, labels))
    pixels = np.asarray(Image.open(BytesIO(picture.webp)).convert("L"))
    panel = pixels[:, : pixels.shape[1] // 3]
    rows, columns = np.nonzero(panel > 128)
    assert columns.mean() < panel.shape[1] / 2, "the patient's right is at the left"
    assert rows.mean() < panel.shape[0] / 2, "the front is up"
    assert picture.edges == ("R", "A")
    assert picture.slice == (5 if signs[2] > 0 else 2)  # counted as the file stores them


def test_thick_coronal_slices_are_shown_as_they_were_acquired():
    empty = np.zeros((8, 4, 8), np.uint8)
    for spacing, plane in (((1, 6, 1), "coronal"), ((6, 1, 1), "sagittal"), ((1, 1, 6), "axial"), ((1, 1, 1), "axial")):
        volume = Volume(empty, np.diag([*spacing, 1.0]))
        assert acquired_plane(ReviewCase("a", volume, "MR", volume, volume, TABLE)) == plane


def test_shrinking_keeps_places():
    grid = np.indices((410, 30, 6))[0].astype(np.float32)
    affine = np.array([[-0.5, 0, 0, 10], [0, 2, 0, -4], [0, 0, 3, 7], [0, 0, 0, 1.0]])
    small = shrink(Volume(grid, affine))
    assert small.shape == (136, 30, 6)
    # The value of each voxel is its index along X in the large grid: the affine must say the same place.
    x_mm = small.affine_ras[0, 0] * np.arange(136) + small.affine_ras[0, 3]
    assert x_mm == pytest.approx(affine[0, 0] * small.voxels[:, 0, 0] + affine[0, 3])


def test_overlaps_have_mixed_colours_and_only_present_values_a_name():
    table = colour_table(LabelTable.overlapping(["a", "b"]), held=[0, 1, 3])
    assert table["I"] == [0, 1, 2, 3]
    assert table["labels"] == ["", "a", "", "a and b"]
    assert table["A"] == [0, 255, 255, 255]


def test_viewer_data_can_stand_in_a_script_element():
    labels = LabelTable.exclusive(["</script><script>"])
    volume = Volume(np.ones(SHAPE, np.uint8), AFFINE)
    assert "<" not in viewer_data(ReviewCase("a", volume, "CT", volume, volume, labels))


def test_a_scene_is_refused_where_its_parts_do_not_fit(cohort, predictions):
    scene = read_review_case("p1_day1", predictions, cohort)
    assert scene.image.shape == scene.reference.shape == scene.prediction.shape == SHAPE
    write(predictions / "p1_day1.nii.gz", PREDICTED, np.diag([1.0, 1, 1, 1]))
    with pytest.raises(GeometryError, match=r"p1_day1: the prediction: it is not on the image's grid"):
        read_review_case("p1_day1", predictions, cohort)
    write(predictions / "p1_day1.nii.gz", np.full(SHAPE, 9, np.uint8))
    with pytest.raises(LabelError, match="the prediction: the label map holds 9"):
        read_review_case("p1_day1", predictions, cohort)
    with pytest.raises(VolumeError, match="p3_day1"):
        read_review_case("p3_day1", predictions, cohort)


def test_the_vendored_library_is_the_published_file():
    import hashlib
    from importlib.resources import files

    content = (files("volseg.pictures") / "page" / "niivue.umd.js").read_bytes()
    digest = hashlib.sha256(content).hexdigest()
    assert digest == "47b896b77ec4a5be3ef1949c33ad393b6f45629921f326c279000bcf51bdb4af"


def test_the_command_writes_the_page_unless_told_not_to(tmp_path, cohort, predictions):
    def run(*options):
        command = [
            sys.executable,
            "-c",
            "from volseg.cli import main; main()",
            "evaluate",
            str(predictions),
            str(cohort.folder),
            *options,
        ]
        return subprocess.run(command, capture_output=True, text=True, check=False)

    done = run("-o", str(tmp_path / "with"))
    assert done.returncode == 0, done.stderr
    assert "report.html" in done.stdout
    assert (tmp_path / "with" / "report.html").is_file()
    done = run("-o", str(tmp_path / "without"), "--no-html")
    assert done.returncode == 0, done.stderr
    assert not (tmp_path / "without" / "report.html").exists()


def test_the_page_can_be_read_back_as_volumes(tmp_path, cohort, predictions):
    path = tmp_path / "image.nii.gz"
    page = Page(written(tmp_path, cohort, predictions, viewers=1))
    path.write_bytes(base64.b64decode(json.loads(page.all("script", id="volumes-1")[0][2])["image"]))
    assert read_volume(path).shape == SHAPE

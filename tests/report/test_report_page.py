"""The HTML report in a real browser: headless Chromium with WebGL in software; skipped where there is none."""

from __future__ import annotations

import time
from io import BytesIO

import numpy as np
import pytest
from chromium import coloured, requested, start
from PIL import Image
from scored_cohort import TABLE, make_cohort, write

from volseg.cohort import Cohort
from volseg.evaluation import RegionScores, evaluate
from volseg.report import write_html

pytestmark = pytest.mark.slow

EVIL = "<script>window.ran=1</script><img src=x onerror=window.ran=1>"
SHAPE = (48, 40, 24)
AFFINE = np.diag([-2.0, -2.0, 3.0, 1.0])


@pytest.fixture(scope="module")
def browser(tmp_path_factory):
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


def ball(centre, radius):
    grid = np.indices(SHAPE)
    middle = np.reshape(centre, (3, 1, 1, 1))
    return (((grid - middle) * np.reshape((2, 2, 3), (3, 1, 1, 1))) ** 2).sum(axis=0) < radius**2


def label_map(shift):
    masks = np.stack([ball((14, 20, 12), 16), ball((30 + shift, 18, 12), 14), ball((24, 30, 8 + shift), 8)])
    return TABLE.encode(masks)


@pytest.fixture(scope="module")
def cohort(tmp_path_factory):
    keys = {f"p{patient}_day{day}": label_map(0) for patient in (1, 2) for day in (1, 2, 10)}
    folder = tmp_path_factory.mktemp("page") / "cohort"
    make_cohort(folder, keys)
    noise = np.random.default_rng(0)
    for key, label in keys.items():
        image = 200 + 300 * (label > 0) + noise.normal(0, 20, SHAPE)
        write(folder / "imagesTr" / f"{key}_0000.nii.gz", image.astype(np.uint16), AFFINE)
        write(folder / "labelsTr" / f"{key}.nii.gz", label, AFFINE)
    return Cohort.open(folder)


@pytest.fixture(scope="module")
def predictions(tmp_path_factory, cohort):
    folder = tmp_path_factory.mktemp("predictions")
    for number, key in enumerate(cohort.keys):
        predicted = label_map(number)
        if number == 4:
            predicted[np.isin(predicted, TABLE.regions[2].values)] = 0  # a stomach missed
        write(folder / f"{key}.nii.gz", predicted, AFFINE)
    return folder


@pytest.fixture(scope="module")
def page(tmp_path_factory, cohort, predictions):
    rows = [*evaluate(predictions, cohort), RegionScores(EVIL, EVIL, "", error=EVIL)]
    rows.append(
        RegionScores(f"{EVIL}2", EVIL, "stomach", dice=0.9, reference_ml=1, predicted_ml=1, outcome="both present")
    )
    folder = tmp_path_factory.mktemp("report")
    return write_html(rows, folder, cohort=cohort, predictions=predictions, title=EVIL, details={"a": EVIL}, viewers=2)


@pytest.fixture
def opened(browser, page):
    return visit(browser, page)


def visit(browser, page):
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)  # what was said before is not about this page
    browser.get(page.as_uri())
    return browser


def column(browser, name):
    """The shown text of a column of the table of cases, from top to bottom."""
    heads = [head.text.split("\n")[0] for head in browser.find_elements("css selector", "#case-table thead th")]
    number = next(i for i, head in enumerate(heads) if head.startswith(name)) + 1
    cells = browser.find_elements("css selector", f"#case-table tbody tr:not([hidden]) > *:nth-child({number})")
    return [cell.text for cell in cells]


def press(browser, name):
    for button in browser.find_elements("css selector", "#case-table thead button"):
        if button.text.startswith(name):
            button.click()
            return button.find_element("xpath", "..").get_attribute("aria-sort")
    raise LookupError(name)


def open_viewer(browser):
    browser.execute_script("document.querySelector('.viewer').scrollIntoView({block: 'center'})")
    browser.find_element("css selector", ".viewer button").click()
    until = time.monotonic() + 60
    while time.monotonic() < until:
        state = browser.execute_script("return document.querySelector('.viewer').dataset.state")
        if state:
            return state
        time.sleep(0.2)
    return "nothing within 60 s"


def drawn(browser):
    """The canvas as it is on the screen: (rows, columns, 3)."""
    canvas = browser.find_element("css selector", ".viewer canvas")
    return np.asarray(Image.open(BytesIO(canvas.screenshot_as_png)).convert("RGB"), np.int16)


def test_it_opens_without_an_error_and_asks_for_no_other_file(opened, page):
    assert opened.get_log("browser") == []
    assert requested(opened) == [page.as_uri()]
    assert opened.find_element("tag name", "h1").text == EVIL


def test_what_came_from_outside_did_not_run(opened):
    assert opened.execute_script("return window.ran") is None
    # Nor would it, had it come through: the page lets only its own scripts run.
    opened.execute_script("document.body.insertAdjacentHTML('beforeend', '<img src=x onerror=\"window.ran=1\">')")
    time.sleep(0.3)
    assert opened.execute_script("return window.ran") is None


def test_the_table_sorts_by_a_click_on_any_column(opened):
    assert press(opened, "Dice") == "ascending"
    values = [float(text) for text in column(opened, "Dice")]
    assert values == sorted(values)
    assert press(opened, "Dice") == "descending"
    assert [float(text) for text in column(opened, "Dice")] == sorted(values, reverse=True)
    assert press(opened, "Case") == "ascending"
    keys = [key for key in column(opened, "Case") if key.startswith("p1")]
    assert keys == ["p1_day1"] * 3 + ["p1_day2"] * 3 + ["p1_day10"] * 3, "numbers count as numbers"
    assert press(opened, "HD95") == "ascending"
    assert column(opened, "HD95")[-2:] == ["–", "–"], "the undefined stay below"
    assert press(opened, "HD95") == "descending"
    assert column(opened, "HD95")[-2:] == ["–", "–"]
    sorted_heads = opened.find_elements("css selector", "#case-table th[aria-sort]")
    assert len(sorted_heads) == 1


def test_the_keyboard_sorts_too(opened):
    button = next(b for b in opened.find_elements("css selector", "#case-table button") if b.text.startswith("Dice"))
    button.send_keys("\ue007")  # Enter
    assert opened.find_element("css selector", "#case-table th[aria-sort]").text.startswith("Dice")


def test_rows_are_found_and_columns_shown(opened):
    find = opened.find_element("id", "find")
    find.send_keys("p2_day10")
    assert set(column(opened, "Case")) == {"p2_day10"}
    assert opened.find_element("id", "shown").text == "3 of 19 rows"
    find.clear()
    opened.find_element("css selector", "#region option[value=stomach]").click()
    assert set(column(opened, "Region")) == {"stomach"}
    shown = len([e for e in opened.find_elements("css selector", "#case-table th.num") if e.is_displayed()])
    opened.find_element("id", "all-columns").click()
    assert len([e for e in opened.find_elements("css selector", "#case-table th.num") if e.is_displayed()]) > shown


def test_a_link_opens_the_picture_of_its_case(opened):
    last = opened.find_elements("css selector", "details.case:not([open])")[0].get_attribute("id")
    opened.execute_script(f"document.querySelector('#case-table a[href=\"#{last}\"]').click()")
    time.sleep(0.3)
    assert opened.find_element("id", last).get_attribute("open")
    for image in opened.find_elements("css selector", "details[open] img"):
        opened.execute_script("arguments[0].scrollIntoView()", image)
        opened.execute_async_script("const [image, done] = arguments; image.decode().then(done, done)", image)
        assert opened.execute_script("return arguments[0].naturalWidth", image) > 0


def test_the_viewer_draws_what_it_is_asked_for(opened, page):
    assert open_viewer(opened) == "ready"
    time.sleep(0.5)
    prediction = drawn(opened)
    assert coloured(prediction) > 2000, "organs in their colours"
    assert prediction.std() > 10
    shown = {}
    for name in ("image", "reference", "difference"):
        opened.find_element("css selector", f".viewer input[value={name}]").click()
        time.sleep(0.5)
        shown[name] = drawn(opened)
    assert coloured(shown["image"]) < 200, "no organ over the bare image"
    assert shown["image"].std() > 10
    for name in ("reference", "difference"):
        assert np.abs(shown[name] - prediction).max() > 60, f"{name} looks other than the prediction"
    opened.find_element("css selector", '.viewer input[name^=view][value="4"]').click()
    time.sleep(0.5)
    assert coloured(drawn(opened)) > 2000, "the difference in 3D"
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []
    assert requested(opened) == [page.as_uri()]


def test_the_viewer_finds_its_data_beside_the_page(browser, tmp_path, cohort, predictions):
    rows = evaluate(predictions, cohort)
    path = write_html(
        rows, tmp_path, cohort=cohort, predictions=predictions, title="t", details={}, viewers=1, limit_bytes=1000
    )
    opened = visit(browser, path)
    assert open_viewer(opened) == "ready"
    time.sleep(0.5)
    assert coloured(drawn(opened)) > 2000
    assert [entry for entry in opened.get_log("browser") if entry["level"] == "SEVERE"] == []
    beside = (tmp_path / "report_data").as_uri()
    assert all(url == path.as_uri() or url.startswith(beside) for url in requested(opened))


def test_data_that_was_left_behind_is_told(browser, tmp_path, cohort, predictions):
    rows = evaluate(predictions, cohort)
    path = write_html(
        rows, tmp_path, cohort=cohort, predictions=predictions, title="t", details={}, viewers=1, limit_bytes=1000
    )
    (tmp_path / "report_data" / "volumes-1.js").unlink()
    opened = visit(browser, path)
    assert open_viewer(opened) == "failed"
    assert "keep the folder report_data beside this page" in opened.find_element("css selector", ".problem").text

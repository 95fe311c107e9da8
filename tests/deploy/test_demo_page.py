"""`volseg demo` as a visitor sees it: the command in a process, its page in Chromium, files compared with `predict`."""

from __future__ import annotations

import base64
import gzip
import io
import json
import os
import signal
import socket
import stat
import subprocess
import time
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable, Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from chromium import coloured, requested, start
from command import told
from PIL import Image
from tiny_bundle import write_bundle, write_checkpoint
from warm_process import WarmCommands

from volseg.cohort import Cohort
from volseg.evaluation import evaluate
from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

pytest.importorskip("gradio", reason="gradio is not installed")
pytestmark = pytest.mark.slow

LABELS = LabelTable.overlapping(["large", "small"])  # those of the tiny cohort
CASE = "case3_day0"
MAX_MB = 2


class Demo:
    """A running demo: its address, its temporary folder, and the files it was given."""

    def __init__(self, place: Path, cohort: Path, volseg: Path) -> None:
        self.place, self.cohort = place, Cohort.open(cohort)
        self.temporary = place / "tmp"
        self.temporary.mkdir()
        words = ["demo", place / "bundle", "--checkpoint", place / "model.pt", "--cohort", cohort, "--port", "0"]
        words += ["--device", "cpu", "--max-mb", MAX_MB]
        environment = {**os.environ, "TMPDIR": str(self.temporary), "OMP_NUM_THREADS": "1"}
        self.log = place / "log"
        with self.log.open("w") as log:
            self.process = subprocess.Popen(
                [volseg, *map(str, words)], env=environment, stdout=subprocess.PIPE, stderr=log, text=True
            )
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().partition(" ")[0]
        assert self.url.startswith("http://127.0.0.1:"), self.log.read_text()

    def asked(self, path: str, data: bytes | None = None, **headers: str) -> tuple[int, bytes]:
        """Status and body of a request that no browser would send."""
        request = urllib.request.Request(self.url + path, data=data, headers=headers)
        try:
            with urllib.request.urlopen(request, timeout=60) as answer:
                return answer.status, answer.read()
        except urllib.error.HTTPError as error:
            return error.code, error.read()

    @property
    def kept(self) -> list[Path]:
        """The files of all visitors; Gradio leaves an empty one for each upload, which goes at the end."""
        files = [path for path in self.temporary.glob("volseg-demo-*/**/*") if path.is_file()]
        return [path for path in files if path.stat().st_size]


@pytest.fixture(scope="module")
def demo(tmp_path_factory: pytest.TempPathFactory, tiny_cohort: Path, warm_commands: WarmCommands) -> Iterator[Demo]:
    place = tmp_path_factory.mktemp("demo")
    write_bundle(place / "bundle")
    write_checkpoint(place / "model.pt", LABELS)
    running = Demo(place, tiny_cohort, warm_commands.volseg)
    yield running
    running.process.send_signal(signal.SIGTERM)
    with suppress(subprocess.TimeoutExpired):
        running.process.communicate(timeout=30)
    running.process.kill()


@pytest.fixture(scope="module")
def browser(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Any]:
    driver = start(tmp_path_factory.mktemp("profile"))
    yield driver
    driver.quit()


@pytest.fixture
def page(browser: Any, demo: Demo) -> Any:
    browser.get("about:blank")
    for kind in ("browser", "performance"):
        browser.get_log(kind)
    browser.get(demo.url)
    shown(browser, "#segment")
    return browser


def until(holds: Callable[[], Any], *, seconds: float = 120) -> Any:
    """What a condition gives once it holds."""
    end = time.monotonic() + seconds
    while time.monotonic() < end:
        with suppress(Exception):  # an element that the page has just replaced
            if found := holds():
                return found
        time.sleep(0.2)
    return None


def shown(page: Any, css: str, words: str = "") -> Any:
    """The element, once it is there and says so."""

    def there() -> Any:
        return next(
            (e for e in page.find_elements("css selector", css) if e.is_displayed() and words in e.text.lower()), None
        )

    found = until(there)
    assert found is not None, f"no {css} {words!r} in: {page.find_element('tag name', 'body').text}"
    return found


def upload(page: Any, path: Path) -> None:
    before = page.find_elements("css selector", "#upload button[aria-label='Clear']")
    if before:
        before[0].click()
    until(lambda: page.find_elements("css selector", "#upload input[type=file]"))
    page.find_element("css selector", "#upload input[type=file]").send_keys(str(path))
    shown(page, "#upload .file-preview")
    time.sleep(1)  # the server takes the file into the visit


def segment(page: Any) -> None:
    """Press the button, which is grey while the network is at work."""
    until(lambda: page.find_element("id", "segment").is_enabled())
    page.find_element("id", "segment").click()


def picture(page: Any) -> np.ndarray:
    """The slice as it was sent: (rows, columns, 3)."""
    source = page.find_element("css selector", "#picture img").get_attribute("src")
    return np.asarray(Image.open(io.BytesIO(base64.b64decode(source.partition(",")[2]))), np.int16)


def changed(page: Any, before: np.ndarray) -> bool:
    return bool(until(lambda: not np.array_equal(picture(page), before), seconds=30))


def fetched(page: Any, demo: Demo, ending: str) -> tuple[str, bytes]:
    """Name and content of the file behind a link."""
    link = page.find_element("css selector", f"#links a[href$='{ending}']").get_attribute("href")
    assert link.startswith(demo.url)
    status, content = demo.asked(link.removeprefix(demo.url))
    assert status == 200
    return link.rpartition("/")[2], content


def difference(one: bytes, other: bytes) -> str:
    """Of two files whose end is zipped: where they part, before and after unzipping."""
    words = []
    for name, (a, b) in {"zipped": (one, other), "unzipped": (unzipped(one), unzipped(other))}.items():
        places = [place for place, (x, y) in enumerate(zip(a, b, strict=False)) if x != y]
        words.append(f"{name} {len(a)} and {len(b)} bytes, {len(places)} differ, the first at {places[:5]}")
    return "; ".join(words)


def unzipped(content: bytes) -> bytes:
    """The content with what is zipped at its end."""
    start = content.find(b"\x1f\x8b")
    return content[:start] + gzip.decompress(content[start:])


def test_an_upload_gives_contours_and_the_files_of_predict(
    page: Any, demo: Demo, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    (scan,) = demo.cohort.image_paths("case4_day0")
    mine = tmp_path / "my-scan.nii.gz"
    mine.write_bytes(scan.read_bytes())
    upload(page, mine)
    segment(page)
    shown(page, "#picture img")
    whole = picture(page)
    assert coloured(whole) > 50, "contours in the regions' colours"
    assert "expected dice" in shown(page, "#table table").text.lower()
    assert "my-scan" in page.find_element("css selector", ".headline").text

    page.find_element("css selector", "#parts input").click()
    assert changed(page, whole)
    assert coloured(picture(page)) == 0, "the bare image"
    page.find_element("css selector", "#parts input").click()
    until(lambda: np.array_equal(picture(page), whole))
    slider = page.find_element("css selector", "#slice input[type=range]")
    assert slider.get_attribute("max") == "20"
    slider.send_keys("\ue014" if slider.get_attribute("value") == "1" else "\ue012")  # right or left: the next slice
    assert changed(page, whole)
    number = int(slider.get_attribute("value"))
    shown(page, "#picture figcaption", f"axial slice {number} of 20")
    page.find_element("css selector", "#plane input[value=coronal]").click()
    shown(page, "#picture figcaption", "of 36")

    words = ["predict", demo.place / "bundle", mine, "--checkpoint", demo.place / "model.pt", "-o", tmp_path / "out"]
    assert told(capsys, *words, "--device", "cpu", "--engine", "torch")[0] == 0
    assert told(capsys, "export", "slicer", tmp_path / "out")[0] == 0
    for ending in (".nii.gz", ".seg.nrrd"):
        name, content = fetched(page, demo, ending)
        assert name == f"my-scan{ending}"
        own = (tmp_path / "out" / f"my-scan{ending}").read_bytes()
        assert content == own, f"{ending} is not that of predict: {difference(content, own)}"
    assert all(url.startswith(demo.url) for url in requested(page)), "nothing is asked of any other place"
    assert [entry for entry in page.get_log("browser") if entry["level"] == "SEVERE"] == []


def test_the_3d_view_opens(page: Any, demo: Demo) -> None:
    upload(page, demo.cohort.image_paths("case4_day0")[0])
    segment(page)
    shown(page, "#picture img")
    shown(page, "button[role=tab]", "slices")
    next(tab for tab in page.find_elements("css selector", "button[role=tab]") if tab.text == "3D").click()
    shown(page, ".viewer button").click()
    assert until(lambda: page.execute_script("return document.querySelector('.viewer').dataset.state")) == "ready"
    time.sleep(1)
    canvas = page.find_element("css selector", ".viewer canvas")
    drawn = np.asarray(Image.open(io.BytesIO(canvas.screenshot_as_png)).convert("RGB"), np.int16)
    assert coloured(drawn) > 2000
    options = [label.text for label in page.find_elements("css selector", ".viewer fieldset:first-of-type label")]
    assert options == ["image", "prediction"], "there is no reference to show"
    assert all(url.startswith(demo.url) for url in requested(page))


def test_a_case_of_the_cohort_is_scored(page: Any, demo: Demo, tmp_path: Path) -> None:
    choice = page.find_element("css selector", "#case input")
    choice.click()
    choice.send_keys(CASE)
    choice.send_keys("\ue007")
    segment(page)
    shown(page, "#table table", "surface dice")
    _, content = fetched(page, demo, ".nii.gz")
    (tmp_path / f"{CASE}.nii.gz").write_bytes(content)
    rows = evaluate(tmp_path, demo.cohort)
    lines = page.find_elements("css selector", "#table tbody tr")
    assert len(lines) == len(rows) == 2
    for line, row in zip(lines, rows, strict=True):
        cells = [cell.text for cell in line.find_elements("css selector", "th, td")]
        assert cells[:5] == [
            row.region,
            f"{row.predicted_ml:.2f}",
            f"{row.reference_ml:.2f}",
            f"{row.dice:.3f}",
            f"{row.surface_dice:.3f}",
        ]
        by_hand, saved = map(float, cells[5:])
        assert by_hand > 0
        assert abs(by_hand - row.correction_minutes - saved) <= 0.11
    assert "estimated time saved" in shown(page, "#table").text.lower()
    whole = picture(page)
    page.find_elements("css selector", "#parts input")[1].click()
    assert changed(page, whole), "the reference is drawn too"


def test_bad_files_are_refused_in_one_sentence(page: Any, demo: Demo, tmp_path: Path) -> None:
    label = demo.cohort.label_path(CASE)
    assert label is not None
    (tmp_path / "nothing.nii.gz").touch()
    (tmp_path / "words.txt").write_text("some words")
    with zipfile.ZipFile(tmp_path / "up.zip", "w") as content:
        content.writestr("../../up.nii", b"x")
    nan = np.full((20, 20, 10), np.nan, np.float32)
    nan[5:15] = np.random.default_rng(0).normal(size=(10, 20, 10))
    write_volume(tmp_path / "nan.nii.gz", Volume(nan, np.eye(4)))
    (tmp_path / "<img src=x onerror='window.ran=1'>.nii").write_bytes(b"not a volume at all")
    segment(page)
    shown(page, "#told .problem", "choose a file or a case first")
    for path, reason in (
        (label, "label map"),
        (tmp_path / "words.txt", "is of no known kind"),
        (tmp_path / "up.zip", "leaves its folder"),
        (tmp_path / "nan.nii.gz", "holds nan or infinity"),
        (tmp_path / "<img src=x onerror='window.ran=1'>.nii", "is of no known kind"),
    ):
        upload(page, path)
        segment(page)
        message = shown(page, "#told .problem", reason)
        assert "\n" not in message.text
        assert "Traceback" not in page.page_source
        assert page.find_elements("css selector", "#picture img") == []
    assert page.execute_script("return window.ran") is None
    assert "Traceback" not in demo.log.read_text()


def test_what_was_uploaded_goes_when_the_page_is_closed(page: Any, demo: Demo) -> None:
    (folder,) = demo.temporary.glob("volseg-demo-*")
    assert stat.S_IMODE(folder.stat().st_mode) == 0o700
    upload(page, demo.cohort.image_paths("case4_day0")[0])
    segment(page)
    shown(page, "#picture img")
    link = page.find_element("css selector", "#links a").get_attribute("href").removeprefix(demo.url)
    assert demo.kept
    page.get("about:blank")
    assert until(lambda: not demo.kept, seconds=60), demo.kept
    assert demo.asked(link)[0] == 404
    assert folder.is_dir()


def test_nothing_but_the_page_is_served(demo: Demo) -> None:
    assert demo.asked("/health") == (200, b"ok")
    for path in (
        "/gradio_api/file=/etc/passwd",
        "/gradio_api/file=setup.cfg",
        "/gradio_api/file=https://example.org/",
        "/gradio_api/proxy=https://example.org/",
        "/gradio_api/runs",
        "/monitoring",
        "/docs",
        "/openapi.json",
        "/results/x/y",
        "/results/..%2F..%2Fetc/passwd",
        "/viewer/..%2Fpage.py",
        "/viewer/page.py",
        "/assets/..%2F..%2F..%2Frequirements.txt",
    ):
        status, content = demo.asked(path)
        assert status in (403, 404), path
        assert b"root:" not in content
    assert demo.asked("/", Host="evil.example")[0] == 421
    assert demo.asked("/", Host=demo.url.removeprefix("http://"))[0] == 200


def posted(demo: Demo, content: bytes, name: str = "a.nii") -> tuple[int, bytes]:
    head = f'--x\r\nContent-Disposition: form-data; name="files"; filename="{name}"\r\n\r\n'.encode()
    body = head + content + b"\r\n--x--\r\n"
    return demo.asked("/gradio_api/upload", body, **{"Content-Type": "multipart/form-data; boundary=x"})


def test_an_upload_has_a_limit_and_a_place(demo: Demo) -> None:
    status, answer = posted(demo, b"x", "../../../outside.nii")
    assert status == 200
    (path,) = map(Path, json.loads(answer))
    assert path.resolve().is_relative_to(demo.temporary.resolve())
    path.unlink()
    assert posted(demo, bytes(MAX_MB * 2**20 + 1))[0] == 413, "Gradio's own limit"
    with suppress(urllib.error.URLError, ConnectionError):  # refused before all was sent
        assert posted(demo, bytes((MAX_MB + 2) * 2**20))[0] == 413
    assert not [path for path in demo.kept if path.stat().st_size > MAX_MB * 2**20]


def test_an_upload_that_breaks_off_is_deleted_at_once(demo: Demo) -> None:
    before = set(demo.kept)
    host, _, port = demo.url.removeprefix("http://").partition(":")
    head = '--x\r\nContent-Disposition: form-data; name="files"; filename="a.nii"\r\n\r\n'
    with socket.create_connection((host, int(port))) as connection:
        words = [
            "POST /gradio_api/upload HTTP/1.1",
            f"Host: {host}",
            "Content-Type: multipart/form-data; boundary=x",
            f"Content-Length: {2**20}",
        ]
        connection.sendall(("\r\n".join(words) + "\r\n\r\n" + head).encode() + bytes(2**19))
        assert until(lambda: set(demo.kept) - before, seconds=30), "it is being written"
    assert until(lambda: not set(demo.kept) - before, seconds=10), set(demo.kept) - before


def test_a_path_of_the_server_is_not_taken_for_an_upload(demo: Demo) -> None:
    before = set(demo.kept)  # uploads of other tests' visits among them, which are kept for a while
    _, answer = demo.asked("/config")
    take = next(d["id"] for d in json.loads(answer)["dependencies"] if d["targets"][0][1] == "upload")
    for path in ("/etc/passwd", str(demo.place / "model.pt"), "http://127.0.0.1:9/x"):
        file = {"path": path, "meta": {"_type": "gradio.FileData"}}
        body = json.dumps({"data": [file], "fn_index": take, "session_hash": "intruder"}).encode()
        assert demo.asked("/gradio_api/queue/join", body, **{"Content-Type": "application/json"})[0] == 200
        _, events = demo.asked("/gradio_api/queue/data?session_hash=intruder")
        assert b"root:" not in events
        assert b'"success":false' in events.replace(b" ", b"") or b"no longer there" in events
    assert (demo.place / "model.pt").is_file()
    assert not [path for path in set(demo.kept) - before if path.name == "upload"]


def test_the_end_of_the_demo_deletes_everything(demo: Demo) -> None:
    """The last test of this file."""
    assert posted(demo, b"x")[0] == 200
    assert demo.kept
    demo.process.send_signal(signal.SIGTERM)
    assert demo.process.wait(30) == 0
    assert list(demo.temporary.glob("volseg-demo-*")) == []
    assert "Traceback" not in demo.log.read_text()

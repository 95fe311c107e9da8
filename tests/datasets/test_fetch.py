"""Public data sets, from a server on this machine: gone on with, compared, unpacked safely, or told how by hand."""

from __future__ import annotations

import ast
import hashlib
import importlib.util
import io
import json
import os
import re
import shlex
import shutil
import stat
import struct
import sys
import tarfile
import zipfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from typer.main import get_command
from web_site import Site, web_site

from volseg.cli import app, main
from volseg.datasets import PUBLISHED, Published, fetch, find
from volseg.datasets.archive import unpack
from volseg.datasets.kaggle import download_competition
from volseg.datasets.transfer import Resuming
from volseg.errors import RemoteError, UsageError
from volseg.files import take_lock
from volseg.remote import locked

pytest.importorskip("pooch", reason="pip install 'volseg[fetch]'")


@pytest.fixture
def site(monkeypatch: pytest.MonkeyPatch) -> Iterator[Site]:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    with web_site() as here:
        yield here


def zipped(files: dict[str, bytes]) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        for name, content in files.items():
            archive.writestr(name, content)
    return stream.getvalue()


def tarred(files: dict[str, bytes], *links: tarfile.TarInfo) -> bytes:
    stream = io.BytesIO()
    with tarfile.open(fileobj=stream, mode="w") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
        for link in links:
            archive.addfile(link)
    return stream.getvalue()


TASK = {
    "Task99_Tiny/dataset.json": b"{}",
    "Task99_Tiny/imagesTr/a.nii.gz": os.urandom(200_000),
    "Task99_Tiny/labelsTr/a.nii.gz": b"label",
    "Task99_Tiny/._dataset.json": b"of macOS",
}


@pytest.fixture
def tiny(site: Site) -> Published:
    """A data set of the site, with the right checksum."""
    site.files["Task99_Tiny.tar"] = tarred(TASK)
    return replace(
        find("msd-hippocampus"),
        name="tiny",
        url=site.url("Task99_Tiny.tar"),
        file="Task99_Tiny.tar",
        root="Task99_Tiny",
        checksum=f"md5:{hashlib.md5(site.files['Task99_Tiny.tar']).hexdigest()}",
    )


def names(folder: Path) -> set[str]:
    return {path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file()}


# --- from the network


def test_a_data_set_comes_whole_and_once(site: Site, tiny: Published, tmp_path: Path) -> None:
    moved: list[tuple[int, int]] = []
    record = fetch(tiny, tmp_path / "tiny", progress=lambda done, total: moved.append((done, total)))
    assert names(tmp_path) == {
        f"tiny/{name}" for name in (".fetched.json", "dataset.json", "imagesTr/a.nii.gz", "labelsTr/a.nii.gz")
    }
    assert (tmp_path / "tiny/imagesTr/a.nii.gz").read_bytes() == TASK["Task99_Tiny/imagesTr/a.nii.gz"]
    content = site.files["Task99_Tiny.tar"]
    assert record["sha256"] == hashlib.sha256(content).hexdigest()
    assert record["bytes"] == len(content)
    assert json.loads((tmp_path / "tiny/.fetched.json").read_text()) == record
    assert moved[-1] == (len(content), len(content))
    assert fetch(tiny, tmp_path / "tiny") == record
    assert site.asked == [None]
    (tmp_path / "tiny/dataset.json").unlink()
    with pytest.raises(RemoteError, match="has lost files; remove it and run again"):
        fetch(tiny, tmp_path / "tiny")


def test_a_broken_download_goes_on_with_the_rest(site: Site, tiny: Published, tmp_path: Path) -> None:
    site.breaks_after = 100_000
    with pytest.raises(RemoteError, match="the connection broke; run again to go on from there"):
        fetch(tiny, tmp_path / "tiny")
    assert not (tmp_path / "tiny").exists()
    site.breaks_after = None
    fetch(tiny, tmp_path / "tiny", keep=True)
    assert site.asked == [None, f"bytes={2**16}-"]
    assert (tmp_path / "Task99_Tiny.tar").read_bytes() == site.files["Task99_Tiny.tar"]


def test_a_file_that_was_published_anew_is_not_mixed_with_the_old_one(
    site: Site, tiny: Published, tmp_path: Path
) -> None:
    site.breaks_after = 100_000
    with pytest.raises(RemoteError):
        fetch(tiny, tmp_path / "tiny")
    site.breaks_after, site.version = None, '"2"'
    site.files["Task99_Tiny.tar"] = anew = tarred({**TASK, "Task99_Tiny/imagesTr/b.nii.gz": b"b"})
    fetch(replace(tiny, checksum=None), tmp_path / "tiny", keep=True)
    assert (tmp_path / "Task99_Tiny.tar").read_bytes() == anew


def test_a_server_without_ranges_sends_all_again(site: Site, tiny: Published, tmp_path: Path) -> None:
    site.ranges, site.breaks_after = False, 100_000
    with pytest.raises(RemoteError):
        fetch(tiny, tmp_path / "tiny")
    site.breaks_after = None
    assert fetch(tiny, tmp_path / "tiny")["bytes"] == len(site.files["Task99_Tiny.tar"])


def test_a_part_longer_than_the_file_is_thrown_away(site: Site, tmp_path: Path) -> None:
    site.files["x"] = b"0123456789"
    part = tmp_path / "x.part"
    part.write_bytes(b"9" * 12)
    part.with_name("x.part.json").write_text(json.dumps({"url": site.url("x"), "version": '"1"', "size": 20}))
    Resuming(part)(site.url("x"), str(tmp_path / "x"), None)
    assert (tmp_path / "x").read_bytes() == b"0123456789"
    assert site.asked == ["bytes=12-", None]
    assert names(tmp_path) == {"x"}


def test_another_checksum_is_refused_and_fetched_anew(site: Site, tiny: Published, tmp_path: Path) -> None:
    right = site.files["Task99_Tiny.tar"]
    site.files["Task99_Tiny.tar"] = right[:-1] + b"!"
    with pytest.raises(RemoteError, match="is not the one that MONAI's DecathlonDataset knows") as caught:
        fetch(tiny, tmp_path / "tiny")
    assert "By hand:" in str(caught.value)
    site.files["Task99_Tiny.tar"] = right
    fetch(tiny, tmp_path / "tiny")


def test_without_a_checksum_the_content_is_looked_at(site: Site, tiny: Published, tmp_path: Path) -> None:
    unknown = replace(tiny, checksum=None, holds={"imagesTr/*.nii.gz": 2})
    with pytest.raises(RemoteError, match=r"1 files match imagesTr/.* expected at least 2"):
        fetch(unknown, tmp_path / "tiny")
    site.files["Task99_Tiny.tar"] = tarred({**TASK, "Task99_Tiny/imagesTr/b.nii.gz": b"b"})
    assert fetch(unknown, tmp_path / "tiny")["compared"] == "by what it holds"


def test_an_absent_page_is_told_with_the_steps(site: Site, tiny: Published, tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="answers 404 Not Found") as caught:
        fetch(replace(tiny, url=site.url("absent")), tmp_path / "tiny")
    for words in ("http://medicaldecathlon.com/", "--archive Task99_Tiny.tar", "volseg convert decathlon"):
        assert words in str(caught.value)


def test_a_folder_that_holds_something_else_is_left_alone(tiny: Published, tmp_path: Path) -> None:
    (tmp_path / "mine").write_text("mine")
    with pytest.raises(UsageError, match="is not empty and was not fetched as tiny"):
        fetch(tiny, tmp_path)
    assert names(tmp_path) == {"mine"}


def test_two_fetches_of_one_set_do_not_mix(tiny: Published, tmp_path: Path) -> None:
    with locked(tmp_path / ".fetch-tiny"), pytest.raises(UsageError, match="another `volseg fetch tiny` is at work"):
        fetch(tiny, tmp_path / "tiny")


def test_nothing_is_removed_while_its_lock_is_held(
    tiny: Published, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Windows removes no file that is open: the data were there, and the command ended with "permission denied"."""
    true, work = shutil.rmtree, tmp_path / ".fetch-tiny"

    def as_on_windows(path: Path, **more: bool) -> None:
        if Path(path) == work:
            take_lock(work / "lock", refusal="the lock is open").release()
        true(path, **more)

    monkeypatch.setattr("volseg.datasets.fetching.shutil.rmtree", as_on_windows)
    fetch(tiny, tmp_path / "tiny")
    assert not work.exists()


def test_what_a_run_left_that_was_stopped_at_its_end_goes_with_the_next(tiny: Published, tmp_path: Path) -> None:
    """An archive of 27 GB stayed in a hidden folder for good."""
    record = fetch(tiny, tmp_path / "tiny")
    (tmp_path / ".fetch-tiny").mkdir()
    (tmp_path / ".fetch-tiny" / "Task99_Tiny.tar").write_bytes(b"the archive")
    with locked(tmp_path / ".fetch-tiny"):  # of a run for another folder
        assert fetch(tiny, tmp_path / "tiny") == record
        assert (tmp_path / ".fetch-tiny" / "Task99_Tiny.tar").exists()
    assert fetch(tiny, tmp_path / "tiny") == record
    assert not (tmp_path / ".fetch-tiny").exists()


def test_a_disk_that_is_too_small_is_told_first(tmp_path: Path) -> None:
    from volseg.datasets.space import check_space

    with pytest.raises(RemoteError, match="make room, or name a folder on a larger disk"):
        check_space(tmp_path, 2**60, what="x")


# --- by hand


def test_an_archive_that_came_by_hand_is_compared_and_unpacked(tiny: Published, site: Site, tmp_path: Path) -> None:
    archive = tmp_path / "downloads.tar"
    archive.write_bytes(site.files["Task99_Tiny.tar"])
    fetch(tiny, tmp_path / "tiny", archive=archive)
    assert (tmp_path / "tiny/dataset.json").is_file()
    assert archive.is_file()
    assert site.asked == []
    archive.write_bytes(b"cut short")
    with pytest.raises(RemoteError, match=r"has the md5 .*, expected .* download it again"):
        fetch(tiny, tmp_path / "other", archive=archive)
    with pytest.raises(UsageError, match="there is no file"):
        fetch(tiny, tmp_path / "other", archive=tmp_path / "absent")


def test_offline_the_command_tells_the_steps(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("HTTPS_PROXY", "https_proxy"):
        monkeypatch.setenv(name, "http://127.0.0.1:9")
    monkeypatch.chdir(tmp_path)
    with pytest.raises(SystemExit) as stopped:
        main(["fetch", "msd-hippocampus"])
    assert stopped.value.code == 2
    told = capsys.readouterr().err
    for words in (
        "it cannot be reached from here",
        "1. download Task04_Hippocampus.tar (27 MB) from http://medicaldecathlon.com/",
        "2. volseg fetch msd-hippocampus data/Task04_Hippocampus --archive Task04_Hippocampus.tar",
        "3. volseg convert decathlon data/Task04_Hippocampus data/Task04_Hippocampus-cohort",
    ):
        assert words in told
    assert not (tmp_path / "data/Task04_Hippocampus").exists()


# --- archives of others


@pytest.mark.parametrize("name", ["../outside", "a/../../outside", "/outside", "C:\\outside", "a\\..\\b"])
@pytest.mark.parametrize("pack", [zipped, tarred])
def test_a_name_that_leaves_the_folder_is_refused(tmp_path: Path, name: str, pack: object) -> None:
    archive = tmp_path / "a"
    archive.write_bytes(pack({"good": b"1", name: b"2"}))  # type: ignore[operator]
    with pytest.raises(RemoteError, match="would leave the folder; nothing was unpacked"):
        unpack(archive, tmp_path / "deep/folder")
    assert names(tmp_path) == {"a"}


def test_links_and_devices_are_refused(tmp_path: Path) -> None:
    for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.CHRTYPE, tarfile.FIFOTYPE):
        link = tarfile.TarInfo("link")
        link.type, link.linkname = kind, "/etc/passwd"
        (tmp_path / "a.tar").write_bytes(tarred({}, link))
        with pytest.raises(RemoteError, match="is a link or a device"):
            unpack(tmp_path / "a.tar", tmp_path / "folder")
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        member = zipfile.ZipInfo("link")
        member.external_attr = (stat.S_IFLNK | 0o777) << 16
        archive.writestr(member, "/etc/passwd")
    with pytest.raises(RemoteError, match="is a link or a device"):
        unpack(tmp_path / "a.zip", tmp_path / "folder")
    assert names(tmp_path) == {"a.tar", "a.zip"}


def test_a_damaged_archive_is_refused(tmp_path: Path) -> None:
    whole = zipped({"a": os.urandom(3000)})
    changed = whole[:100] + bytes([whole[100] ^ 1]) + whole[101:]
    for content in (b"", b"no archive", whole[:2000], changed, tarred(TASK)[:3000]):
        (tmp_path / "a").write_bytes(content)
        with pytest.raises(RemoteError, match="is damaged or no zip or tar file"):
            unpack(tmp_path / "a", tmp_path / "folder")


def test_an_archive_that_swells_beyond_the_disk_is_refused(tmp_path: Path) -> None:
    content = zipped({"a": b"x"})
    at, end = content.rfind(b"PK\x01\x02"), content.rfind(b"PK\x05\x06")
    entry = bytearray(content[at:end])
    entry[24:28] = b"\xff" * 4  # the size stands in a field of its own, see ZIP64
    entry[30:32] = (12).to_bytes(2, "little")
    entry += struct.pack("<HHQ", 1, 8, 2**60)
    close = bytearray(content[end:])
    close[12:16] = len(entry).to_bytes(4, "little")
    (tmp_path / "bomb.zip").write_bytes(content[:at] + entry + close)
    with pytest.raises(RemoteError, match=r"unpacking bomb.zip needs \d+\.\d+ GiB"):
        unpack(tmp_path / "bomb.zip", tmp_path / "folder")


# --- Kaggle


KAGGLE = """#!{python}
import pathlib, sys
said = {said!r}
if said:
    print(said, file=sys.stderr)
    sys.exit(1)
assert sys.argv[1:5] == ["competitions", "download", "a-competition", "-p"], sys.argv
pathlib.Path(sys.argv[5], "a.zip").write_bytes({content!r})
"""


def kaggle(folder: Path, monkeypatch: pytest.MonkeyPatch, *, said: str = "", content: bytes = b"") -> None:
    """A program of that name, first on the path, which says something and fails, or writes the archive."""
    folder.mkdir(exist_ok=True)
    (folder / "kaggle").write_text(KAGGLE.format(python=sys.executable, said=said, content=content))
    (folder / "kaggle").chmod(0o755)
    monkeypatch.setattr(sys, "executable", str(folder / "python"))
    monkeypatch.setenv("PATH", str(folder))


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ("403 Client Error: Forbidden for url: https://www.kaggle.com/api", "accept the rules .*a-competition/rules"),
        ("OSError: Could not find kaggle.json. Make sure it's located in", "found no valid token"),
        ("Authentication required to call the Kaggle API.\n\nFirst, you will need a Kaggle account.", "no valid token"),
        ("401 - Unauthorized", "found no valid token"),
        ("HTTPSConnectionPool: Max retries exceeded (Failed to resolve)", "cannot be reached from here"),
        ("something else with hunter22", r"stopped: something else with \*\*\*"),
    ],
)
def test_what_kaggle_refuses_is_told_with_its_cure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, said: str, words: str
) -> None:
    monkeypatch.setenv("KAGGLE_KEY", "hunter22")
    kaggle(tmp_path / "bin", monkeypatch, said=said)
    with pytest.raises(RemoteError, match=words):
        download_competition("a-competition", tmp_path, file="a.zip")


def test_a_competition_is_fetched_by_kaggles_program(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    published = replace(find("uw-madison"), competition="a-competition", file="a.zip")
    files = {"train.csv": b"id,class,segmentation\n"}
    files |= {f"train/case{n}/case{n}_day0/scans/slice_0001_2_2_1.50_1.50.png": b"" for n in range(85)}
    kaggle(tmp_path / "bin", monkeypatch, content=zipped(files))
    fetch(published, tmp_path / "uw-madison")
    assert names(tmp_path / "uw-madison") == {".fetched.json", *files}
    monkeypatch.setenv("PATH", str(tmp_path))
    monkeypatch.setattr(sys, "executable", str(tmp_path / "python"))
    with pytest.raises(RemoteError, match=r"pip install 'volseg\[fetch\]'") as caught:
        fetch(published, tmp_path / "other")
    assert "volseg convert uw_madison" in str(caught.value)


# --- the catalogue


def test_the_checksums_are_those_of_monai() -> None:
    """Read from its text: MONAI takes seconds to import."""
    package = Path(str(importlib.util.find_spec("monai").origin)).parent  # type: ignore[union-attr]
    tree = ast.parse((package / "apps/datasets.py").read_text())
    (published,) = [node for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "DecathlonDataset"]
    values = {
        node.targets[0].id: ast.literal_eval(node.value)  # type: ignore[attr-defined]
        for node in published.body
        if isinstance(node, ast.Assign)
    }
    md5, resource = values["md5"], values["resource"]
    ours = {one.root: one for one in PUBLISHED.values() if one.name.startswith("msd-")}
    assert {task: one.checksum for task, one in ours.items()} == {task: f"md5:{sum_}" for task, sum_ in md5.items()}
    assert {task: one.url for task, one in ours.items()} == resource


@pytest.mark.parametrize("published", PUBLISHED.values(), ids=list(PUBLISHED))
def test_each_step_by_hand_is_a_command_that_exists(published: Published) -> None:
    steps = published.steps(Path("data/x"))
    commands = re.findall(r"^  \d\. volseg (.*)$", steps, re.M)
    assert len(commands) == 2
    for line in commands:
        name, *words = shlex.split(line)
        command: Any = get_command(app).commands[name]  # type: ignore[attr-defined]
        while hasattr(command, "commands"):
            name, *words = words
            command = command.commands[name]
        command.make_context(name, words)
    assert published.url is None or published.url.startswith("https://")
    assert published.url is None or published.url.endswith(published.file)


def test_the_list_names_every_data_set(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        main(["fetch", "--list"])
    told = capsys.readouterr().out
    assert all(name in told for name in PUBLISHED)
    with pytest.raises(SystemExit):
        main(["fetch", "msd-hipocampus"])
    assert "did you mean msd-hippocampus?" in capsys.readouterr().err


LAYOUTS = {
    "montgomery": """CXR_png/MCUCXR_0001_0.png ManualMask/leftMask/MCUCXR_0001_0.png
        ManualMask/rightMask/MCUCXR_0001_0.png CXR_png/MCUCXR_0002_0.png ManualMask/leftMask/MCUCXR_0002_0.png
        ManualMask/rightMask/MCUCXR_0002_0.png ClinicalReadings/x.txt""",
    "nuclei": """00ae/images/00ae.png 00ae/masks/07a9.png 00ae/masks/0e54.png
        0bf4/images/0bf4.png 0bf4/masks/1111.png""",
}


@pytest.mark.parametrize("name", LAYOUTS)
def test_the_conversion_that_follows_reads_the_layout(
    tmp_path: Path, name: str, capsys: pytest.CaptureFixture[str]
) -> None:
    import numpy as np
    from PIL import Image

    folder = tmp_path / "set"
    for number, path in enumerate(LAYOUTS[name].split()):
        (folder / path).parent.mkdir(parents=True, exist_ok=True)
        if path.endswith(".png"):
            pixels = np.zeros((6, 8), np.uint8)
            pixels[number % 5, 1:4] = 255
            Image.fromarray(pixels).save(folder / path)
    (folder / ".fetched.json").write_text("{}")
    with pytest.raises(SystemExit) as stopped:
        main(shlex.split(find(name).command(folder))[1:])
    assert stopped.value.code in (0, None), capsys.readouterr().err
    assert "2 written, 0 finished before, 0 failed" in capsys.readouterr().out

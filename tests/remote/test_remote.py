"""Folders behind a URL: copies that are whole and up to date, downloads that go on, and no credential anywhere."""

from __future__ import annotations

import json
import os
import shutil
import threading
import time
from pathlib import Path

import fsspec
import pytest

from volseg.cohort import Cohort
from volseg.errors import RemoteError, UsageError
from volseg.jobs import Entry, Journal, remove_unproven, stamp
from volseg.jobs.job import Answer, input_digest
from volseg.remote import check_apart, identity, is_url, local, mirror, writing
from volseg.remote.address import Address
from volseg.remote.download import download
from volseg.remote.ledger import FILE, Ledger
from volseg.remote.listing import Item, list_items
from volseg.remote.messages import told


@pytest.fixture(autouse=True)
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    folder = tmp_path / "cache"
    monkeypatch.setenv("VOLSEG_CACHE", str(folder))
    return folder


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder that is reached as file://."""
    folder = tmp_path / "store"
    for name, content in {"a.bin": b"a" * 10, "deep/b.bin": b"b" * 25, "deep/empty": b""}.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def content(folder: Path) -> dict[str, bytes]:
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


class Flaky:
    """A file system that breaks after some bytes were read, and counts them."""

    protocol = "memory"

    def __init__(self, objects: dict[str, bytes], *, breaks_after: float = float("inf")) -> None:
        self.objects = objects
        self.left = breaks_after
        self.reads: list[tuple[int, int]] = []

    def cat_file(self, path: str, *, start: int, end: int) -> bytes:
        if self.left < end - start:
            raise ConnectionResetError("Connection reset by peer")
        self.left -= end - start
        self.reads.append((start, end))
        return self.objects[path][start:end]


BYTES = bytes(range(256)) * 4  # 1024, no two windows of it within a period alike
MD5 = "b2ea9f7fcea831a4a63b213f41a8855b"


def fetch(file_system: Flaky, folder: Path, item: Item | None = None) -> int:
    """Download the one object; the bytes that were told as come."""
    moved: list[int] = []
    download(
        file_system,
        "x",
        folder / "x",
        item=item or Item(len(BYTES), ""),
        part=folder / "parts" / "x",
        url="memory://x",
        moved=moved.append,
        chunk=100,
    )
    return sum(moved)


# --- one file


def test_a_download_that_broke_reads_only_the_rest(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match=r"memory://x: the transfer stopped .*run again, what has come is kept"):
        fetch(Flaky({"x": BYTES}, breaks_after=550), tmp_path)
    assert not (tmp_path / "x").exists()
    assert (tmp_path / "parts" / "x").read_bytes() == BYTES[:500]
    again = Flaky({"x": BYTES})
    assert fetch(again, tmp_path) == len(BYTES)
    assert again.reads[0] == (500, 600)
    assert sum(end - start for start, end in again.reads) == len(BYTES) - 500
    assert (tmp_path / "x").read_bytes() == BYTES
    assert not (tmp_path / "parts" / "x").exists()


def test_a_part_that_was_damaged_is_read_anew_where_the_store_tells_an_md5(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "x").write_bytes(b"torn" * 50)
    assert fetch(Flaky({"x": BYTES}), tmp_path, Item(len(BYTES), f"ETag {MD5}")) == len(BYTES)
    assert (tmp_path / "x").read_bytes() == BYTES


def test_a_part_that_is_too_long_is_thrown_away(tmp_path: Path) -> None:
    (tmp_path / "parts").mkdir()
    (tmp_path / "parts" / "x").write_bytes(BYTES * 2)
    fetch(Flaky({"x": BYTES}), tmp_path)
    assert (tmp_path / "x").read_bytes() == BYTES


def test_an_etag_that_is_no_md5_is_believed_after_two_equal_reads(tmp_path: Path) -> None:
    twice = Flaky({"x": BYTES})
    fetch(twice, tmp_path, Item(len(BYTES), "ETag " + "0" * 32))
    assert sum(end - start for start, end in twice.reads) == 2 * len(BYTES)
    assert (tmp_path / "x").read_bytes() == BYTES


def test_an_object_that_is_shorter_than_listed_is_not_taken(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="bytes 1000 to 1100 were asked for and 24 came"):
        fetch(Flaky({"x": BYTES}), tmp_path, Item(1500, ""))
    assert not (tmp_path / "x").exists()


# --- a folder


def test_a_copy_equals_the_folder_and_is_fetched_once(store: Path) -> None:
    moved: list[tuple[int, int]] = []
    copy = mirror(f"file://{store}", progress=lambda done, total: moved.append((done, total)))
    assert content(copy) == content(store)
    assert copy.name == store.name
    assert moved[-1] == (35, 35)
    moved.clear()
    assert mirror(f"file://{store}/", progress=lambda done, total: moved.append((done, total))) == copy
    assert moved == []


def test_what_changed_is_fetched_again_and_what_is_gone_goes(store: Path, cache: Path) -> None:
    copy = mirror(f"file://{store}")
    (store / "a.bin").write_bytes(b"A" * 10)
    os.utime(store / "a.bin", ns=(1, 1))
    (store / "deep/b.bin").unlink()
    (store / "new").write_bytes(b"n")
    (copy / "deep/empty").write_bytes(b"edited here")
    totals = set()
    mirror(f"file://{store}", progress=lambda _, total: totals.add(total))
    assert content(copy) == content(store)
    assert totals == {11}
    # A damaged ledger costs a download, no wrong file.
    (ledger,) = cache.rglob(FILE)
    ledger.write_text(ledger.read_text()[:-20] + "\n{torn")
    assert content(mirror(f"file://{store}")) == content(store)


def test_two_processes_get_the_same_copy(store: Path) -> None:
    copies: list[Path] = []
    threads = [threading.Thread(target=lambda: copies.append(mirror(f"file://{store}"))) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(copies) == 4
    assert len(set(copies)) == 1
    assert content(copies[0]) == content(store)


def test_a_single_file_is_a_place_too(store: Path) -> None:
    copy = local(f"file://{store}/deep/b.bin")
    assert (copy.name, copy.read_bytes()) == ("b.bin", b"b" * 25)
    assert local(store) == store


@pytest.mark.parametrize("name", ["parts", "ledger.jsonl", "file"])
def test_a_folder_that_is_called_as_something_of_the_cache_is_copied_as_any_other(store: Path, name: str) -> None:
    """Of a folder `parts` the files were taken for what is left of downloads, and removed: here, and then there."""
    store.rename(store.with_name(name))
    url = f"file://{store.with_name(name)}"
    before = content(store.with_name(name))
    for _ in range(2):
        assert content(mirror(url)) == before
    for number in range(2):
        with writing(url) as staging:
            (staging.folder / f"{number}.bin").write_bytes(b"new")
        assert content(store.with_name(name)) == before | {f"{one}.bin": b"new" for one in range(number + 1)}


def test_names_that_would_leave_the_folder_are_refused(tmp_path: Path) -> None:
    class Wrong:
        protocol = "memory"

        def find(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
            return {f"{path}/../../etc/cron.d/x": {"size": 1, "type": "file"}}

    with pytest.raises(RemoteError, match="is not one of a file below it"):
        list_items(Wrong(), "/bucket", url="memory://bucket")


def test_a_store_that_tells_no_sizes_is_refused() -> None:
    class Sizeless:
        protocol = "http"

        def find(self, path: str, *, detail: bool) -> dict[str, dict[str, object]]:
            return {f"{path}/a": {"size": None, "type": "file"}}

    with pytest.raises(RemoteError, match="the size of a is not told"):
        list_items(Sizeless(), "http://host/x", url="http://host/x")


def test_a_folder_that_never_rests_is_told(store: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def written_to(*_: int) -> None:
        (store / "a.bin").write_bytes(os.urandom(30))

    # By the listing after it, or by a read that falls into a moment in which the file is empty.
    with pytest.raises(RemoteError, match=r"is being (written to|changed)"):
        mirror(f"file://{store}", progress=written_to)


def test_a_disk_that_is_too_small_is_told_before_anything_comes(tmp_path: Path) -> None:
    from volseg.remote.mirror import pull

    ledger = Ledger(tmp_path / "home", "memory://bucket")
    with pytest.raises(RemoteError, match=r"1024.0 GiB are to come .* set VOLSEG_CACHE"):
        pull(Flaky({}), "", {"x": Item(2**40, "")}, tmp_path / "home" / "bucket", ledger=ledger)


# --- a cohort


def test_a_cohort_is_opened_by_its_url(tiny_cohort: Path) -> None:
    opened = Cohort.open(f"file://{tiny_cohort}")
    assert opened.digest == Cohort.open(tiny_cohort).digest
    assert opened.folder != tiny_cohort


def test_a_copied_file_is_the_same_input_on_every_machine(
    store: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    first = mirror(f"file://{store}") / "a.bin"
    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / "another machine"))
    second = mirror(f"file://{store}") / "a.bin"
    assert first != second
    assert identity(first) == identity(second)
    assert identity(first).startswith(f"file://{store}/a.bin\n10\n")  # type: ignore[union-attr]
    assert input_digest((first,)) == input_digest((second,))
    assert identity(store / "a.bin") is None
    second.write_bytes(b"edited")
    assert identity(second) is None


# --- writing


def test_what_is_written_is_there_at_the_end_and_comes_back_elsewhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    url = f"file://{tmp_path}/far/predictions"
    with writing(url) as place:
        (place.folder / "deep").mkdir()
        (place.folder / "deep/a.nii.gz").write_bytes(b"a")
        (place.folder / ".partial-x-b.nii.gz").write_bytes(b"half")
        (place.folder / ".volseg").mkdir()
        (place.folder / ".volseg/predict.jsonl").write_bytes(b'{"key": "a"}\n{"key": "b')
    far = tmp_path / "far/predictions"
    assert content(far) == {"deep/a.nii.gz": b"a", ".volseg/predict.jsonl": b'{"key": "a"}\n'}
    monkeypatch.setenv("VOLSEG_CACHE", str(tmp_path / "another machine"))
    with writing(url) as place:
        assert sorted(place.fetched) == [".volseg/predict.jsonl", "deep/a.nii.gz"]
        assert (place.folder / "deep/a.nii.gz").read_bytes() == b"a"
        (place.folder / "deep/a.nii.gz").unlink()
        (place.folder / "c.nii.gz").write_bytes(b"c")
    assert content(far) == {"c.nii.gz": b"c", ".volseg/predict.jsonl": b'{"key": "a"}\n'}


def test_what_was_finished_is_sent_when_the_work_fails(tmp_path: Path) -> None:
    def work() -> None:
        with writing(f"file://{tmp_path}/far") as place:
            (place.folder / "a.nii.gz").write_bytes(b"a")
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        work()
    assert content(tmp_path / "far") == {"a.nii.gz": b"a"}


def test_files_are_sent_while_the_work_goes_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.remote.staging._EVERY_S", 0.01)
    with writing(f"file://{tmp_path}/far") as place:
        (place.folder / "a.nii.gz").write_bytes(b"a")
        end = time.monotonic() + 60
        while not (tmp_path / "far/a.nii.gz").exists():
            assert time.monotonic() < end
            time.sleep(0.01)


def test_a_failed_transfer_stops_the_work(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("volseg.remote.staging._EVERY_S", 0.01)
    (tmp_path / "far").write_text("a file where the folder should be")

    def work() -> None:
        with writing(f"file://{tmp_path}/far/predictions") as place:
            (place.folder / "a.nii.gz").write_bytes(b"a")
            told_of = place.watched()
            end = time.monotonic() + 60
            while time.monotonic() < end:
                told_of(1, 2)
                time.sleep(0.01)
            pytest.fail("the error did not arrive")

    with pytest.raises(RemoteError, match=r"file://.*/far/predictions"):
        work()


def test_a_cache_that_is_removed_under_a_run_takes_nothing_with_it(tmp_path: Path, cache: Path) -> None:
    with writing(f"file://{tmp_path}/far") as place:
        (place.folder / "a.nii.gz").write_bytes(b"a")

    def work() -> None:
        with writing(f"file://{tmp_path}/far") as place:
            shutil.rmtree(cache)
            place.folder.mkdir(parents=True)
            (place.folder / "b.nii.gz").write_bytes(b"b")

    with pytest.raises(RemoteError, match="was removed while the run wrote to it"):
        work()
    assert content(tmp_path / "far") == {"a.nii.gz": b"a"}


def test_a_second_run_on_one_url_is_refused_unless_it_is_another_shard(tmp_path: Path) -> None:
    url = f"file://{tmp_path}/far"
    with writing(url):
        with pytest.raises(UsageError, match="another run on this machine writes to"), writing(url):
            pass
        with writing(url, apart="1/2"):
            pass


def test_a_prediction_that_its_journal_does_not_know_is_done_again(tmp_path: Path) -> None:
    for key in ("a", "b", "c", "d"):
        (tmp_path / f"{key}.nii.gz").write_bytes(key.encode())
    with Journal(tmp_path / ".volseg/predict.jsonl") as journal:
        for key in ("a", "b", "c"):
            answer = Answer(key, "0", 0.0, (stamp(tmp_path / f"{key}.nii.gz"),))
            journal.add(Entry.of(answer, work="w", inputs="i", attempt=1))
    (tmp_path / "b.nii.gz").write_bytes(b"B")
    (tmp_path / "c.nii.gz").write_bytes(b"C")
    names = [path.name for path in tmp_path.glob("*.nii.gz")]
    remove_unproven(tmp_path, names, keys={"a", "b", "d"})
    assert sorted(path.name for path in tmp_path.glob("*.nii.gz")) == ["a.nii.gz", "c.nii.gz", "d.nii.gz"]


# --- addresses and errors


@pytest.mark.parametrize(
    "url",
    [
        "s3://key:secret@bucket/cohort",
        "s3://secret@bucket/cohort",
        "s3://AKIAKEY:sec/ret@bucket/cohort",
        "https://user:pa/ss@host/cohort",
        "https://host/cohort?X-Amz-Signature=secret",
        "S3://key:secret@bucket",
    ],
)
def test_a_credential_in_a_url_is_refused_and_not_repeated(url: str) -> None:
    for ask in (Address.parse, local, Cohort.open):
        with pytest.raises(UsageError, match="holds a credential") as caught:
            ask(url)
        for word in ("secret", "sec/", "ret@", "pa/ss", "AKIA", "user"):
            assert word not in str(caught.value)


def test_paths_and_urls_are_told_apart() -> None:
    assert all(map(is_url, ["s3://b", "s3://b/c", "file:///c", "memory://x", "gs://b"]))
    assert not any(map(is_url, ["data/cohort", "/data/s3://x", "C:\\cohort", "C:/cohort", "./a::b", Path("s3://b")]))
    assert Address.parse("sftp://host:22/folder").url == "sftp://host:22/folder"
    for wrong in ("s3://bucket/../other", "simplecache::s3://bucket"):
        with pytest.raises(UsageError, match="give the URL of the folder"):
            Address.parse(wrong)
    with pytest.raises(UsageError, match="lie in one another"):
        check_apart("s3://bucket/a", "s3://bucket/a/predictions")
    check_apart("data/a", "data/a/predictions")


class NoCredentialsError(Exception):
    """As botocore names it."""


class EndpointConnectionError(Exception):
    """As botocore names it."""


@pytest.mark.parametrize(
    ("error", "words"),
    [
        (ImportError("Install s3fs to access S3"), r"install it with `pip install 'volseg\[s3\]'`"),
        (PermissionError("Forbidden"), "access was denied"),
        (FileNotFoundError("The specified bucket does not exist"), "there is nothing of this name"),
        (NoCredentialsError("Unable to locate credentials"), "no credentials were found"),
        (EndpointConnectionError("http://127.0.0.1:1"), "cannot be reached"),
        (ConnectionRefusedError(111, "Connection refused"), "cannot be reached"),
        (OSError(5, "IncompleteRead"), "run again, what has come is kept"),
    ],
)
def test_each_trouble_is_a_line_with_its_cure(error: Exception, words: str) -> None:
    with pytest.raises(RemoteError, match=words) as caught, told("s3://bucket/cohort"):
        raise error
    assert "\n" not in str(caught.value)
    assert str(caught.value).startswith("s3://bucket/cohort: ")


def test_no_secret_of_the_environment_stands_in_an_error(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("AWS_SECRET_ACCESS_KEY", "wJalrXUtnFEMI")
    with pytest.raises(RemoteError) as caught, told("s3://bucket"):
        raise OSError("signature of wJalrXUtnFEMI is wrong")
    assert "wJalrXUtnFEMI" not in str(caught.value)


def test_urls_that_nobody_knows_and_places_that_are_empty_are_told(tmp_path: Path) -> None:
    with pytest.raises(RemoteError, match="nothing is known of nonsense:// URLs"):
        mirror("nonsense://bucket/cohort")
    with pytest.raises(RemoteError, match="there is nothing of this name"):
        mirror(f"file://{tmp_path}/absent")
    with pytest.raises(RemoteError, match="there is nothing of this name"):
        mirror("memory://absent/cohort")


def test_memory_is_a_store_as_any_other() -> None:
    memory = fsspec.filesystem("memory")
    memory.pipe({"/volseg-test/cohort/a": b"a", "/volseg-test/cohort/b/c": b"c"})
    try:
        copy = mirror("memory://volseg-test/cohort")
        assert content(copy) == {"a": b"a", "b/c": b"c"}
        with writing("memory://volseg-test/out") as place:
            (place.folder / "x.json").write_text(json.dumps({}))
        assert memory.cat("/volseg-test/out/x.json") == b"{}"
    finally:
        memory.rm("/volseg-test", recursive=True)

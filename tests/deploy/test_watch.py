"""A watch folder: when a series is complete, each done once, whatever stops the program at whatever moment."""

from __future__ import annotations

import csv
import json
import os
import random
import shutil
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest
import watch_stub
from dicom_series import image, noise, save, series
from watch_stub import Clock, segment, watch

from volseg.deploy.watch import Inbox, Ledger, Watcher, check_folders
from volseg.deploy.watch.inbox import Delivery
from volseg.deploy.watch.item import Item, items_of
from volseg.deploy.watch.ledger import DEATHS
from volseg.errors import UsageError
from volseg.files import atomic
from volseg.jobs import Facts
from volseg.volume import Volume, write_volume


@pytest.fixture
def inbox(tmp_path: Path) -> Path:
    (tmp_path / "in").mkdir()
    return tmp_path / "in"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def nifti(path: Path, seed: int = 0) -> Path:
    voxels = np.random.default_rng(seed).integers(0, 99, (4, 3, 2)).astype(np.int16)
    write_volume(path, Volume(voxels, np.diag([1.0, 1, 2, 1])))
    return path


def table(out: Path) -> list[dict[str, str]]:
    with (out / "series.csv").open(newline="") as file:
        return list(csv.DictReader(file))


def folders(out: Path) -> list[str]:
    return sorted(path.name for path in out.iterdir() if path.is_dir() and not path.name.startswith("."))


def states(out: Path) -> list[str]:
    lines = (out / ".volseg/watch.jsonl").read_text().splitlines()
    return [json.loads(line)["facts"]["state"] for line in lines]


def names(deliveries: list[Delivery]) -> list[list[str]]:
    return [[path.name for path in delivery.files] for delivery in deliveries]


# --- when a series is complete


def test_a_series_is_given_when_none_of_its_files_has_changed_for_a_while(inbox: Path) -> None:
    clock = Clock()
    box = Inbox(inbox, settle_s=60, clock=clock)
    slices = series(noise())
    assert box.look() == []
    save(inbox, slices[:2], "a{}.dcm".format)
    assert box.look() == []
    assert box.waiting == 1
    clock.now += 59
    save(inbox / "elsewhere", slices[2:], "{}".format)
    assert box.look() == []
    clock.now += 59
    assert box.look() == []
    clock.now += 1
    (delivery,) = box.look()
    assert [path.name for path in delivery.files] == ["a0.dcm", "a1.dcm", "0", "1", "2"]
    assert box.waiting == 0
    assert box.look() == [delivery], "until it is done"
    box.done(delivery)
    assert box.look() == []
    clock.now += 10
    (inbox / "a1.dcm").write_bytes((inbox / "a1.dcm").read_bytes())
    assert not box.unchanged(delivery)
    assert (box.look(), box.waiting) == ([], 1)
    clock.now += 60
    assert names(box.look()) == names([delivery])


def test_series_in_one_folder_do_not_wait_for_each_other(inbox: Path) -> None:
    clock = Clock()
    box = Inbox(inbox, settle_s=60, clock=clock)
    save(inbox, series(noise()), "one{}".format)
    box.look()
    for count, item in enumerate(series(noise(), series="2")):
        clock.now += 30
        save(inbox, [item], f"two{count}_{{}}".format)
        found = box.look()
    assert [path.name[:3] for path in found[0].files] == ["one"] * 5
    assert len(found) == 1
    assert box.waiting == 1


@pytest.mark.parametrize("name", [".x.dcm", "~x.dcm", "x.dcm.tmp", "x.part", "X.PARTIAL", "x.filepart", "x.dcm~"])
def test_a_file_under_a_temporary_name_keeps_its_series_waiting_and_is_never_taken(inbox: Path, name: str) -> None:
    clock = Clock()
    box = Inbox(inbox, settle_s=60, clock=clock)
    *slices, last = series(noise())
    save(inbox, slices)
    box.look()
    clock.now += 50
    save(inbox, [last], lambda _: name)
    box.look()
    clock.now += 59
    assert box.look() == []
    (inbox / name).rename(inbox / "last.dcm")
    assert box.look() == []
    clock.now += 60
    (delivery,) = box.look()
    assert len(delivery.files) == 5
    (inbox / "last.dcm").rename(inbox / name)
    box.look()
    clock.now += 60
    assert len(box.look()[0].files) == 4, "a name that was forgotten does not block for ever"


@pytest.mark.parametrize("beginning", [b"", b"\0" * 4000, b"\0" * 128 + b"DICM\x02\0"])
def test_a_file_that_cannot_be_read_yet_keeps_its_folder_waiting(inbox: Path, beginning: bytes) -> None:
    clock = Clock()
    box = Inbox(inbox, settle_s=60, clock=clock)
    save(inbox / "flat", series(noise()))
    save(inbox / "other", series(noise(), series="2"))
    box.look()
    clock.now += 59
    (inbox / "flat" / "new").write_bytes(beginning)
    box.look()
    clock.now += 1
    assert [delivery.files[0].parent.name for delivery in box.look()] == ["other"]
    clock.now += 59
    assert "flat" in [delivery.files[0].parent.name for delivery in box.look()]


def test_other_files_block_nothing(inbox: Path) -> None:
    clock = Clock()
    box = Inbox(inbox, settle_s=60, clock=clock)
    save(inbox, series(noise()))
    for second in range(70):
        (inbox / "router.log").write_text("a line of a log\n" * (20 + second))
        found = box.look()
        clock.now += 1
    assert len(found) == 1
    assert len(found[0].files) == 5


def test_channels_of_a_nifti_case_belong_together(inbox: Path) -> None:
    clock = Clock()
    box = Inbox(inbox, settle_s=10, clock=clock)
    for name in ("a_0001.nii.gz", "b.nii", "a_0000.nii.gz", "half.nii.gz.part", ".hidden/c.nii.gz"):
        nifti(inbox / "x.nii.gz").rename((inbox / name).parent.mkdir(exist_ok=True) or inbox / name)
    box.look()
    clock.now += 10
    assert sorted(names(box.look())) == [["a_0000.nii.gz", "a_0001.nii.gz"], ["b.nii"]]


def test_an_inbox_must_be_there(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="there is no folder"):
        Inbox(tmp_path / "nowhere", settle_s=1)
    for one, other in (("a", "a"), ("a/b", "a"), ("a", "a/b")):
        with pytest.raises(UsageError, match="lie in each other"):
            check_folders(tmp_path / one, tmp_path / other)
    check_folders(tmp_path / "a", tmp_path / "ab")
    (tmp_path / "file").touch()
    with pytest.raises(UsageError, match="is a file"):
        check_folders(tmp_path / "a", tmp_path / "file")


# --- what is done


def test_each_series_is_segmented_once(inbox: Path, out: Path) -> None:
    save(inbox / "study", series(noise()))
    nifti(inbox / "mr7.nii.gz")
    nifti(inbox / "Ada Lovelace.nii.gz")
    assert (watch(inbox, out).done, watch(inbox, out).before) == (3, 3)
    found = folders(out)
    assert "mr7" in found
    assert "mr7/mr7.nii.gz" in [row["outputs"] for row in table(out)]
    assert [row["status"] for row in table(out)] == ["done"] * 3
    assert table(out)[0]["expected_dice"] == "0.5000"
    for path in inbox.rglob("*"):
        if path.is_file():
            path.touch()  # sent again
    save(inbox / "again", series(noise(), SOPInstanceUID="1.2.3"))
    for path in (inbox / "again").iterdir():
        path.unlink()
    assert watch(inbox, out).done == 0
    assert folders(out) == found


def test_late_files_make_a_new_version_and_fewer_make_none(
    inbox: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    slices = series(noise())
    paths = save(inbox, slices[:3])
    watch(inbox, out)
    (key,) = folders(out)
    first = (out / key / f"{key}.nii.gz").read_text()
    paths += save(inbox, slices[3:], "late{}".format)
    watch(inbox, out)
    assert folders(out) == [key, f"{key}_v2"]
    assert (out / key / f"{key}.nii.gz").read_text() == first
    assert len((out / f"{key}_v2" / f"{key}_v2.nii.gz").read_text().splitlines()) == 6
    assert f"{key}_v2: segmented, 5 files" in caplog.text
    assert "2 files are new or changed, so this is version 2" in caplog.text
    for path in paths[:2]:
        path.unlink()
    assert (watch(inbox, out).done, folders(out)) == (0, [key, f"{key}_v2"])
    paths[2].write_bytes(paths[2].read_bytes()[:-2] + b"\1\1")
    assert watch(inbox, out).done == 1
    assert [(row["key"], row["version"], row["files"]) for row in table(out)] == [
        (key, "1", "3"),
        (key, "2", "5"),
        (key, "3", "3"),
    ]


def test_files_that_change_while_they_are_read_are_not_mixed(inbox: Path, out: Path) -> None:
    nifti(inbox / "a.nii.gz")

    def meddling(item: Item, folder: Path, name: str) -> Facts:
        if not list(out.glob("**/meddled")):
            (out / "meddled").touch()
            nifti(inbox / "a.nii.gz", seed=1)
        return segment(item, folder, name)

    assert watch(inbox, out, load=lambda: meddling).done == 1
    assert states(out) == ["started", "withdrawn", "started", "staged", "done"]
    assert folders(out) == ["a"]


def test_a_failure_is_tried_once_more_and_no_more(inbox: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    nifti(inbox / "bad.nii.gz")
    nifti(inbox / "good.nii.gz")
    (inbox / "Lovelace.dcm").write_bytes(b"\0" * 128 + b"DICM" + b"Lovelace" * 10)
    told = watch(inbox, out)
    assert told.done == 1
    assert "damaged" in " ".join(told.failed)
    assert told.failed["bad"] == "a file of it is no image"
    assert caplog.text.count("bad: a file of it is no image; it is tried once more") == 1
    assert caplog.text.count("a file of it is no image") == 1, "the second attempt failed in the same way"
    assert caplog.text.count("bad: failed again in the same way") == 1
    assert sorted((row["status"], bool(row["error"])) for row in table(out)) == [
        ("done", False),
        ("failed", True),
        ("failed", True),
    ]
    before = len(states(out))
    assert (watch(inbox, out).done, len(states(out))) == (0, before), "nor after a restart"
    assert len(watch(inbox, out, retry=True).failed) == 2, "unless that is asked for"
    assert watch(inbox, out).given_up == 2
    nifti(inbox / "bad.nii.gz", seed=1)
    assert len(watch(inbox, out).failed) == 1, "other files, another chance"
    assert "Lovelace" not in (out / ".volseg/watch.jsonl").read_text() + (out / "series.csv").read_text() + caplog.text


def test_what_is_no_volume_or_of_another_modality_is_left_aside(
    inbox: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    save(inbox / "ct", series(noise()))
    save(inbox / "mr", series(noise(), modality="MR", series="2"))
    save(inbox / "scout", series(noise(), series="3", ImageType=["ORIGINAL", "PRIMARY", "LOCALIZER"]))
    save(inbox / "report", [image("SR", series="9", SOPClassUID="1.2.840.10008.5.1.4.1.1.88.11")])
    assert watch(inbox, out, modality="mr").done == 1
    assert "left aside: a series of the modality CT" in caplog.text
    assert "left aside: 5 localizers (CT)" in caplog.text


def test_the_key_is_that_of_predict_and_the_secret_changes_it(inbox: Path) -> None:
    from volseg.dicom import list_series

    save(inbox, series(noise()))
    (delivery,) = Inbox(inbox, settle_s=0).look()
    for secret in ("", "s"):
        (item,) = items_of(delivery, root=inbox, secret=secret)
        assert list_series(inbox, secret=secret)[0].name == f"{item.key}_0000.series"


def test_a_second_watcher_of_the_same_outputs_is_refused(out: Path) -> None:
    ledger = Ledger(out)
    with pytest.raises(UsageError, match="another run is writing"):
        Ledger(out)
    ledger.close()
    Ledger(out).close()


def test_it_ends_after_the_series_in_hand(inbox: Path, out: Path) -> None:
    stop = threading.Event()
    for name in "abc":
        nifti(inbox / f"{name}.nii.gz", seed=ord(name))

    def stopping(item: Item, folder: Path, name: str) -> Facts:
        stop.set()
        return segment(item, folder, name)

    ledger = Ledger(out)
    told = Watcher(Inbox(inbox, settle_s=0), ledger, lambda: stopping, stop=stop).run()
    ledger.close()
    assert told.done == 1
    assert len(folders(out)) == 1
    assert watch(inbox, out).done == 2


def test_an_inbox_that_goes_away_is_waited_for(inbox: Path, out: Path, caplog: pytest.LogCaptureFixture) -> None:
    stop = threading.Event()
    ledger = Ledger(out)
    watcher = Watcher(Inbox(inbox, settle_s=0), ledger, lambda: segment, stop=stop, poll_s=0.01)
    inbox.rename(inbox.with_name("unmounted"))
    thread = threading.Thread(target=watcher.run)
    thread.start()
    while "waiting for it" not in caplog.text:
        time.sleep(0.01)
    nifti(inbox.with_name("unmounted") / "a.nii.gz")
    inbox.with_name("unmounted").rename(inbox)
    while not watcher.watched.done:
        time.sleep(0.01)
    stop.set()
    thread.join()
    ledger.close()
    assert caplog.text.count("waiting for it") == 1


def test_a_full_disk_stops_and_counts_for_nothing(inbox: Path, out: Path) -> None:
    nifti(inbox / "a.nii.gz")

    def full(item: Item, folder: Path, name: str) -> Facts:
        raise OSError(28, "No space left on device", str(folder / name))

    for _ in range(2 * DEATHS):
        with pytest.raises(OSError, match="No space left"):
            watch(inbox, out, load=lambda: full)
    assert watch(inbox, out).done == 1
    assert folders(out) == ["a"]


def test_names_of_any_bytes_and_letters_are_taken_and_not_told(
    inbox: Path, out: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """A name in Latin-1, as old servers write it, ended the watcher for every series."""
    folder = inbox / os.fsdecode(b"F\xfcrst")
    try:
        folder.mkdir()
    except OSError:
        pytest.skip("this file system takes no names but UTF-8")
    for number, made in enumerate(series(noise(), modality="MR")):
        save(inbox, [made], lambda _: "one.dcm")
        (inbox / "one.dcm").rename(folder / os.fsdecode(b"\xe4 %d.dcm" % number))
    nifti(inbox / "one.nii.gz")
    (inbox / "one.nii.gz").rename(folder / os.fsdecode(b"M\xfcller.nii.gz"))
    nifti(inbox / "Müller, Hans.nii.gz", 1)
    nifti(inbox / "Mu\u0308ller, Hans.nii.gz", 2)
    nifti(inbox / "Patient Sch\nmidt" / "a.nii.gz", 3)

    def quiet(item: Item, folder: Path, name: str) -> Facts:
        (folder / f"{name}.nii.gz").write_bytes(b"label map")
        return {}

    told = watch(inbox, out, load=lambda: quiet)
    assert (told.done, told.failed) == (5, {})
    assert len(folders(out)) == 5
    everything = caplog.text + (out / "series.csv").read_text() + (out / ".volseg/watch.jsonl").read_text()
    assert not any(word in everything for word in ("ller", "rst", "midt"))
    assert watch(inbox, out).before == 5


def test_a_disk_that_is_full_loses_nothing_that_was_done(inbox: Path, out: Path) -> None:
    """On a disk of 40 kB that holds the outputs of two series."""
    for number in range(3):
        nifti(inbox / f"a{number}.nii.gz", number)
    out.mkdir()
    mount = shutil.which("mount") if sys.platform == "linux" else None
    size = ["-t", "tmpfs", "-o", "size=40k", "tmpfs", str(out)]
    if mount is None or subprocess.run([mount, *size], capture_output=True).returncode:
        pytest.skip("no disk of a chosen size can be mounted here")
    try:

        def large(item: Item, folder: Path, name: str) -> Facts:
            with atomic(folder / f"{name}.nii.gz") as partial:
                partial.write_bytes(bytes(12_000))
            return {}

        with pytest.raises(OSError, match="No space left"):
            watch(inbox, out, load=lambda: large)
        done = folders(out)
        assert len(done) == 2
        for name in done:
            assert (out / name / f"{name}.nii.gz").stat().st_size == 12_000
        shutil.rmtree(out / done[0])  # as an archive does that has taken it
        told = watch(inbox, out, load=lambda: large)
        assert (told.done, told.before, told.failed) == (1, 2, {})
        assert [row["status"] for row in table(out)] == ["done"] * 3
    finally:
        subprocess.run(["umount", str(out)], check=True)


# --- a kill at each step


def stages(out: Path, prints: tuple[str, ...], step: str) -> None:
    """Do a series as far as a step, and go away as a killed program does."""
    from volseg.jobs import stamp

    ledger = Ledger(out)
    attempt = ledger.next_attempt("a", prints)
    assert attempt is not None
    folder = ledger.begin(attempt)
    if step != "started":
        (folder / f"{attempt.name}.nii.gz").write_text("out")
        (folder / ".partial-abc").write_text("half")
        if step != "written":
            (folder / ".partial-abc").unlink()
            stamps = {f"{attempt.name}.nii.gz": stamp(folder / f"{attempt.name}.nii.gz")}
            ledger.finish(attempt, stamps, seconds=1.0, facts={})
    ledger.close()
    journal = out / ".volseg/watch.jsonl"
    lines = journal.read_bytes().splitlines(keepends=True)
    if step in ("staged", "renamed"):
        journal.write_bytes(b"".join(lines[:-1]) + lines[-1][:20])  # the line `done` is torn
    if step == "staged":
        (out / attempt.name).rename((out / ".volseg/staging").mkdir(exist_ok=True) or out / ".volseg/staging/a")


@pytest.mark.parametrize(
    ("step", "again"), [("started", True), ("written", True), ("staged", False), ("renamed", False), ("done", False)]
)
def test_a_kill_between_two_steps_loses_and_doubles_nothing(out: Path, step: str, again: bool) -> None:
    stages(out, ("p1", "p2"), step)
    ledger = Ledger(out)
    attempt = ledger.next_attempt("a", ("p1", "p2"))
    ledger.close()
    assert (attempt is not None) == again
    assert folders(out) == ([] if again else ["a"])
    assert not (out / ".volseg/staging").exists()
    if attempt is not None:
        assert (attempt.version, attempt.number, attempt.deaths) == (1, 1, 1)
        stages(out, ("p1", "p2"), "done")
    assert [(row["key"], row["status"]) for row in table(out)] == [("a", "done")]
    assert states(out).count("done") == 1
    if step == "renamed":
        assert (out / "a/a.nii.gz").read_text() == "out"


def test_a_table_that_was_moved_away_is_written_anew_with_its_head(out: Path) -> None:
    stages(out, ("p1",), "done")
    ledger = Ledger(out)
    (out / "series.csv").rename(out / "series_january.csv")
    attempt = ledger.next_attempt("b", ("p2",))
    assert attempt is not None
    ledger.begin(attempt)
    ledger.finish(attempt, {}, seconds=1.0, facts={})
    ledger.close()
    assert [(row["key"], row["status"]) for row in table(out)] == [("a", "done"), ("b", "done")]


def test_outputs_that_were_taken_away_are_not_made_again(out: Path) -> None:
    stages(out, ("p1",), "renamed")
    shutil.rmtree(out / "a")
    ledger = Ledger(out)
    assert ledger.next_attempt("a", ("p1",)) is None
    ledger.close()
    assert states(out)[-1] == "done"


def test_a_series_that_kills_the_program_is_given_up(inbox: Path, out: Path) -> None:
    nifti(inbox / "deadly.nii.gz")
    nifti(inbox / "good.nii.gz", seed=1)

    def deadly(item: Item, folder: Path, name: str) -> Facts:
        if item.key == "deadly":
            raise SystemExit(137)
        return segment(item, folder, name)

    for _ in range(DEATHS):
        with pytest.raises(SystemExit):
            watch(inbox, out, load=lambda: deadly)
    told = watch(inbox, out, load=lambda: deadly)
    assert told.done == 1
    assert "was killed 5 times" in told.failed["deadly"]
    assert watch(inbox, out, load=lambda: deadly).done == 0


def test_a_lost_journal_replaces_the_outputs(inbox: Path, out: Path) -> None:
    nifti(inbox / "a.nii.gz")
    watch(inbox, out)
    first = (out / "a/a.nii.gz").read_text()
    (out / ".volseg/watch.jsonl").unlink()
    watch(inbox, out)
    assert folders(out) == ["a"]
    assert (out / "a/a.nii.gz").read_text() != first


@pytest.mark.slow
def test_ten_kills_lose_and_double_nothing(inbox: Path, out: Path) -> None:
    """Outputs carry a random word: one that was seen never changes, and at the end each series has one."""
    count = 40
    for number in range(count):
        nifti(inbox / f"case{number:02d}.nii.gz", seed=number)
    draw = random.Random(0)
    seen: dict[str, str] = {}
    kills = 0
    while kills < 10:
        run = subprocess.Popen([sys.executable, Path(watch_stub.__file__), inbox, out, "0.02"])
        began = sum(state == "started" for state in states(out)) if (out / ".volseg/watch.jsonl").exists() else 0
        while run.poll() is None:  # until it works, whatever the machine does besides
            lines = (out / ".volseg/watch.jsonl").read_bytes() if (out / ".volseg/watch.jsonl").exists() else b""
            if lines.count(b'"started"') > began + kills % 2:  # a case that is killed five times is given up
                break
            time.sleep(0.005)
        time.sleep(draw.uniform(0, 0.1))
        run.send_signal(signal.SIGKILL)
        kills += run.wait() == -signal.SIGKILL
        now = {name: (out / name / f"{name}.nii.gz").read_text() for name in folders(out)}
        assert now.items() >= seen.items()
        seen = now
        assert len(seen) < count, "it was finished before the tenth kill; the pauses are too long for this machine"
    watch(inbox, out)
    assert folders(out) == [f"case{number:02d}" for number in range(count)]
    assert {name: (out / name / f"{name}.nii.gz").read_text() for name in seen} == seen
    assert states(out).count("done") == count
    assert sorted(row["key"] for row in table(out)) == folders(out)

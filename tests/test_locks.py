"""Locks between processes: one holds, the other is refused or waits, and a kill frees it."""

from __future__ import annotations

import errno
import fcntl
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from volseg.errors import UsageError
from volseg.files import locked, take_lock
from volseg.jobs import Entry, Journal

_HOLD = "import sys, time; from pathlib import Path; from volseg.files import take_lock; "
_HOLD += "lock = take_lock(Path(sys.argv[1])); print('held', flush=True); time.sleep(60)"


@pytest.fixture
def holder(tmp_path):
    """Another process that holds a lock, and its file."""
    path = tmp_path / "there" / "lock"
    process = subprocess.Popen([sys.executable, "-c", _HOLD, str(path)], stdout=subprocess.PIPE, text=True)
    assert process.stdout.readline() == "held\n"
    yield process, path
    process.kill()
    process.wait()
    process.stdout.close()


def test_another_process_is_refused_until_a_kill_frees_the_lock(holder):
    process, path = holder
    for _ in range(2):
        with pytest.raises(UsageError, match=r"^somebody else is at work$"):
            take_lock(path, refusal="somebody else is at work")
    process.send_signal(signal.SIGKILL)
    process.wait()
    lock = take_lock(path, refusal="somebody else is at work")
    assert lock.is_intact()
    lock.release()


def test_without_a_refusal_one_waits(holder):
    process, path = holder
    process.send_signal(signal.SIGTERM)
    began = time.monotonic()
    with locked(path.parent) as intact:
        assert intact()
    assert time.monotonic() - began < 30


def test_one_process_may_take_a_lock_again_where_it_says_so(tmp_path):
    path = tmp_path / "lock"
    outer = take_lock(path, refusal="held", again=True)
    inner = take_lock(path, refusal="held", again=True)
    inner.release()
    inner.release()
    with pytest.raises(UsageError, match="held"):
        take_lock(path, refusal="held")
    outer.release()
    take_lock(path, refusal="held").release()


def test_a_folder_that_was_removed_or_made_anew_is_not_intact(tmp_path):
    with locked(tmp_path / "home") as intact:
        assert intact()
        (tmp_path / "home" / "lock").unlink()
        assert not intact()
        (tmp_path / "home" / "other").touch()
        (tmp_path / "home" / "lock").touch()
        assert not intact()


@pytest.mark.parametrize("number", [errno.ENOLCK, errno.EOPNOTSUPP])
def test_a_file_system_without_locks_costs_a_warning(tmp_path, monkeypatch, caplog, number):
    def refuse(*_: object) -> None:
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(fcntl, "flock", refuse)
    lock = take_lock(tmp_path / "lock", refusal="held")
    assert "is on a file system without locks" in caplog.text
    assert lock.is_intact()
    lock.release()


def test_a_read_only_folder_is_told_with_its_name(tmp_path):
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match="file"):
        take_lock(tmp_path / "file" / "lock", refusal="held")


def test_a_journal_is_locked_by_a_file_beside_it_and_a_device_by_none(tmp_path):
    with Journal(tmp_path / "predict.jsonl") as journal:
        journal.add(Entry("a", "w", "i"))
        with pytest.raises(UsageError, match=r"another run is writing .*predict.jsonl; wait for it, or name another"):
            Journal(tmp_path / "predict.jsonl")
    Journal(tmp_path / "predict.jsonl").close()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["predict.jsonl", "predict.jsonl.lock"]
    with Journal(Path("/dev/null")):
        assert not Path("/dev/null.lock").exists()

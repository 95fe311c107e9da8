"""What the disk refuses is told with its place and a cure, whoever wrote."""

from __future__ import annotations

import errno
import os
from pathlib import Path

import pytest
from command import told

from volseg.cli.disk import told_of_disk
from volseg.files import atomic


def test_a_full_disk_names_the_file_that_was_written(tmp_path: Path) -> None:
    for number in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG):
        with pytest.raises(OSError, match=r"table\.csv") as caught, atomic(tmp_path / "table.csv"):
            raise OSError(number, os.strerror(number))  # what writing to an open file raises
        line, code = told_of_disk(caught.value, [])
        assert line.startswith(f"{os.strerror(number)}: {tmp_path / 'table.csv'}; make room there, and run again")
        assert code == 1
    with pytest.raises(OSError, match="Input/output") as caught, atomic(tmp_path / "table.csv"):
        raise OSError(errno.EIO, "Input/output error")  # of another file, which was read
    assert caught.value.filename is None
    assert list(tmp_path.iterdir()) == []


def test_no_temporary_name_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with pytest.raises(OSError, match=r"out\.csv'") as caught, atomic(tmp_path / "gone" / "out.csv"):
        (tmp_path / "gone").rename(tmp_path / "elsewhere")
    assert ".partial" not in str(caught.value)


def test_a_table_that_is_open_in_excel_is_told_on_windows(tmp_path: Path) -> None:
    table = tmp_path / "cases.csv"
    table.touch()
    for path, words in ((table, "has it open; close it there"), (tmp_path / "absent.csv", "permission denied")):
        error = PermissionError(errno.EACCES, "Access is denied", str(path))
        error.winerror = 5
        line, code = told_of_disk(error, [])
        assert line.startswith(str(path))
        assert words in line
        assert code == 2


@pytest.mark.parametrize(
    ("number", "line", "code"),
    [
        (errno.EROFS, "x/out cannot be written: the file system is read-only; name a folder elsewhere", 2),
        (errno.EACCES, "x/out: permission denied; take a place of your own, or let its owner change its rights", 2),
        (errno.EPERM, "x/out: permission denied; take a place of your own, or let its owner change its rights", 2),
        (errno.ENOENT, "there is no x/out; correct its name", 2),
        (errno.EISDIR, "x/out must be a file, got a folder; name a file", 2),
        (errno.ENOTDIR, "x/out must be a folder, got a file; name another folder, or move the file away", 2),
        (errno.EIO, "Input/output error: x/out; what was finished is kept, run again to go on", 1),
    ],
)
def test_each_refusal_has_its_line(
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
    tmp_path: Path,
    number: int,
    line: str,
    code: int,
) -> None:
    def refuse(*_: object, **__: object) -> None:
        raise OSError(number, os.strerror(number), "x/out")

    monkeypatch.setattr("volseg.cohort.Cohort.open", refuse)
    assert told(capsys, "check", tmp_path) == (code, f"volseg: {line}\n")


def test_a_full_disk_is_looked_for_among_the_words(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    class Usage:
        free = 5

    error = OSError(errno.ENOSPC, "No space left on device")
    words = ["convert", "--workers=2", str(tmp_path / "out")]
    monkeypatch.setattr("volseg.cli.disk.shutil.disk_usage", lambda place: Usage if place == tmp_path else os.statvfs)
    monkeypatch.chdir("/")
    monkeypatch.setattr(Usage, "free", 5)
    assert told_of_disk(error, [str(tmp_path / "out")])[0].startswith(f"No space left on device: {tmp_path / 'out'};")
    monkeypatch.setattr(Usage, "free", 2**30)
    assert told_of_disk(error, words[2:])[0].startswith("No space left on device; make room there")

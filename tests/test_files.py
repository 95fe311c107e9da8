"""Links to files and trees of files: what a link names is taken, each folder once, and nothing half is left."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

import pytest

from volseg.files import atomic, files_below, link_or_copy


def below(folder: Path, *, hidden: bool = True) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in files_below(folder, hidden=hidden)]


def test_linked_folders_are_entered_once_and_by_their_own_path_if_they_have_one(tmp_path: Path) -> None:
    root, elsewhere = tmp_path / "root", tmp_path / "elsewhere"
    for folder in (root / "b", elsewhere / "deep"):
        folder.mkdir(parents=True)
        (folder / "x").touch()
    (root / "a").symlink_to(root / "b")  # comes before its target, by name
    (root / "b" / "up").symlink_to(root)  # a circle
    (root / "c").symlink_to(elsewhere)
    (root / "d").symlink_to(elsewhere / "deep")
    assert below(root) == ["b/x", "c/deep/x"]


def test_hidden_files_and_folders_may_be_left_out(tmp_path: Path) -> None:
    for name in (".git/a", "b", ".c", "d/.e/f"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).touch()
    assert below(tmp_path, hidden=False) == ["b"]
    assert sorted(below(tmp_path)) == [".c", ".git/a", "b", "d/.e/f"]


def test_a_folder_that_cannot_be_listed_is_no_empty_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "kept").mkdir()
    (tmp_path / "a").touch()
    refuse_to_list(monkeypatch, tmp_path / "kept")
    with pytest.raises(PermissionError, match="kept"):
        below(tmp_path)
    told: list[OSError] = []
    assert [path.name for path in files_below(tmp_path, unlisted=told.append)] == ["a"]
    assert [error.filename for error in told] == [str(tmp_path / "kept")]


def refuse_to_list(monkeypatch: pytest.MonkeyPatch, folder: Path) -> None:
    """Let the system refuse to list a folder, as it does to others than root."""
    scandir = os.scandir

    def scan(path: str = ".") -> object:
        if Path(path) == folder:
            raise PermissionError(13, "Permission denied", str(path))
        return scandir(path)

    monkeypatch.setattr(os, "scandir", scan)


def test_of_a_link_the_file_is_taken_that_it_names(tmp_path: Path) -> None:
    """As git-annex and datalad keep data: a relative link leads nowhere from another folder."""
    (tmp_path / "store").mkdir()
    (tmp_path / "store" / "x").write_text("label")
    (tmp_path / "labelsTr").mkdir()
    (tmp_path / "labelsTr" / "a").symlink_to("../store/x")
    link_or_copy(tmp_path / "labelsTr" / "a", tmp_path / "far" / "away" / "a")
    assert (tmp_path / "far" / "away" / "a").read_text() == "label"
    assert not (tmp_path / "far" / "away" / "a").is_symlink()


def test_nothing_is_left_beside_a_link_that_was_there_or_a_copy_that_failed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "a").write_text("weights")
    for _ in range(2):
        link_or_copy(tmp_path / "a", tmp_path / "there" / "a")
    assert [path.name for path in (tmp_path / "there").iterdir()] == ["a"]

    def cut(source: Path, target: Path) -> None:
        target.write_text("wei")
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(os, "link", lambda *_: (_ for _ in ()).throw(OSError(18, "Invalid cross-device link")))
    monkeypatch.setattr(shutil, "copy2", cut)
    with pytest.raises(OSError, match="No space left"):
        link_or_copy(tmp_path / "a", tmp_path / "full" / "a")
    assert list((tmp_path / "full").iterdir()) == []


@pytest.mark.skipif(os.name == "nt", reason="Windows has no mask")
def test_a_file_has_the_rights_of_a_new_one_and_the_mask_stays_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    taken_off: list[int] = []
    before = os.umask(0o027)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(os, "umask", lambda mask: taken_off.append(mask) or 0o027)
            with atomic(tmp_path / "mask.nii.gz") as partial:
                assert partial.name.startswith(".partial-")
                partial.write_text("mask")
    finally:
        os.umask(before)
    assert taken_off == [], "else files that other threads make meanwhile may be written by everyone"
    assert (tmp_path / "mask.nii.gz").stat().st_mode & 0o777 == 0o640

"""A watch folder never takes a part of a stack for the whole: what lies beside it is looked at as in a conversion."""

from __future__ import annotations

import logging
from collections.abc import Callable
from pathlib import Path

import pytest
from dicom_series import grid, noise, save, series
from watch_stub import Clock, watch

from volseg.deploy.watch import Inbox
from volseg.dicom import Dicom
from volseg.errors import VolsegError

SHAPE = (7, 6, 6)


def names(number: int) -> str:
    return f"IM{number:04d}"


def broken(number: int, content: bytes, name: str = "") -> Callable[[Path], None]:
    """Write a series in which one file holds something else, perhaps under another name."""

    def write(inbox: Path) -> None:
        save(inbox, series(noise(SHAPE), grid(SHAPE)), names)
        path = inbox / names(number)
        whole = path.read_bytes()
        path.unlink()
        path.with_name(name or path.name).write_bytes(content or whole)

    return write


def link(inbox: Path) -> None:
    broken(5, b"x", "elsewhere")(inbox)
    (inbox / names(5)).symlink_to("nowhere")


def halves(inbox: Path, **elements: str) -> None:
    """A series of which two slices state something else."""
    images = series(noise(SHAPE), grid(SHAPE))
    for image in images[4:]:
        for name, value in elements.items():
            setattr(image, name, value)
    save(inbox, images, names)


PARTS: dict[str, Callable[[Path], None]] = {
    "page of a web server": broken(5, b"<html>504 Gateway Time-out</html>" * 9),
    "zeros": broken(0, bytes(2000)),
    "nothing": broken(5, b"\0"),
    "text of a copy that broke off": broken(0, b"no space left on device " * 40),
    "unfinished copy": broken(5, b"", "IM0005.part"),
    "unfinished copy, cut": broken(5, b"\0" * 128 + b"DICM" + b"\2\0\0\0UL\4\0\2\0\0\0", "IM0005.part"),
    "compressed": broken(0, b"\x1f\x8b" + b"x" * 400, "IM0000.gz"),
    "link to nothing": link,
    "another patient": lambda inbox: halves(inbox, PatientID="MRN-4712"),
    "no patient": lambda inbox: halves(inbox, PatientID="", PatientName="", PatientBirthDate=""),
    "another study": lambda inbox: halves(inbox, StudyInstanceUID="1.2.3"),
}


@pytest.mark.parametrize("kind", PARTS)
def test_a_part_is_refused_in_watch_as_in_convert(tmp_path: Path, kind: str) -> None:
    (tmp_path / "in").mkdir()
    PARTS[kind](tmp_path / "in")
    found = watch(tmp_path / "in", tmp_path / "out")
    assert found.done == 0, kind
    assert any("the stack is not whole" in told for told in found.failed.values()), found.failed
    source = Dicom(tmp_path / "in")
    for key in source.keys() if kind != "unfinished copy" else ():
        with pytest.raises(VolsegError):
            source.load(key)


def test_a_refused_series_is_taken_once_what_was_wrong_is_gone(tmp_path: Path) -> None:
    inbox, out = tmp_path / "in", tmp_path / "out"
    images = series(noise(SHAPE), grid(SHAPE))
    save(inbox, images[:5], names)
    (inbox / names(5)).write_bytes(b"<html>" * 50)
    assert watch(inbox, out).done == 0
    save(inbox, images[5:], lambda _: names(5))
    assert watch(inbox, out).done == 1
    # A file that is called as the slices are and is none of them: the slices themselves are as they were.
    save(tmp_path / "in2", images, names)
    (tmp_path / "in2" / names(6)).write_bytes(b"<html>" * 50)
    assert watch(tmp_path / "in2", tmp_path / "out2").done == 0
    (tmp_path / "in2" / names(6)).unlink()
    assert watch(tmp_path / "in2", tmp_path / "out2").done == 1


@pytest.mark.parametrize("left", [900, None])
def test_what_is_left_of_a_copy_that_was_made_again_is_no_slice(tmp_path: Path, left: int | None) -> None:
    save(tmp_path / "in", series(noise(SHAPE), grid(SHAPE)), names)
    (tmp_path / "in/IM0005.part").write_bytes((tmp_path / "in/IM0005").read_bytes()[:left])
    found = watch(tmp_path / "in", tmp_path / "out")
    assert (found.done, found.failed) == (1, {})
    source = Dicom(tmp_path / "in")
    (key,) = source.keys()
    assert source.load(key).channels[0].shape == SHAPE


def test_what_is_not_opened_is_told_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    (tmp_path / "in").mkdir()
    (tmp_path / "in/Lovelace.zip").write_bytes(b"PK\3\4" + bytes(300))
    (tmp_path / "in/link").symlink_to(tmp_path)
    box = Inbox(tmp_path / "in", settle_s=0, clock=Clock())
    with caplog.at_level(logging.INFO):
        assert [box.look(), box.look()] == [[], []]
    assert sorted(record.getMessage() for record in caplog.records) == [
        "a link to a folder in the inbox is not followed; put the folder there",
        "an archive in the inbox is not opened; put the files there that it holds",
    ]


def test_an_image_of_another_study_is_no_part_of_an_image_alone(tmp_path: Path) -> None:
    inbox = tmp_path / "in"
    inbox.mkdir()
    box = Inbox(inbox, settle_s=0, clock=Clock())

    def drop(number: int) -> None:
        image, *_ = series(noise(), series=f"9.{number}", StudyInstanceUID=f"1.2.{number}", PatientID="ANON")
        save(inbox, [image], lambda _: names(number))

    for number in range(3):
        drop(number)
    deliveries = box.look()
    assert [delivery.beside for delivery in deliveries] == [(), (), ()], "else each looks at all others"
    for delivery in deliveries:
        box.done(delivery)
    drop(3)
    assert [delivery.files for delivery in box.look()] == [(inbox / names(3),)], "those that are done stay done"


@pytest.mark.parametrize("damaged", [{}, {"PatientID": "MRN-4712"}, {"StudyInstanceUID": "1.2.3"}])
def test_an_image_with_a_damaged_series_is_a_part_of_the_stack_of_its_patient_or_study(
    tmp_path: Path, damaged: dict[str, str]
) -> None:
    images = series(noise(SHAPE), grid(SHAPE))
    images[5].SeriesInstanceUID = "1.2.4"
    for name, value in damaged.items():
        setattr(images[5], name, value)
    save(tmp_path / "in", images, names)
    found = watch(tmp_path / "in", tmp_path / "out")
    assert found.done == 0
    assert any("the stack is not whole" in told for told in found.failed.values()), found.failed

"""Uploads and visits of the demo, without a browser: what becomes a case, what is refused and why, what is deleted."""

from __future__ import annotations

import asyncio
import gzip
import io
import stat
import struct
import subprocess
import sys
import zipfile
from pathlib import Path

import numpy as np
import pytest
from dicom_series import grid, noise, save, series
from PIL import Image

from volseg.bundle import Recipe
from volseg.deploy.demo.abandon import Uploads
from volseg.deploy.demo.image_check import check_grid, check_voxels
from volseg.deploy.demo.session import Visits
from volseg.deploy.demo.upload import Upload, receive
from volseg.deploy.demo.uploaded_zip import unpack
from volseg.dicom import list_series
from volseg.errors import SourceError, VolsegError, VolumeError
from volseg.formats import Images
from volseg.formats.png import write_grey
from volseg.inference import read_image
from volseg.labels import LabelTable
from volseg.volume import Volume, affine_of_axes, orientation, read_volume, write_volume

SHAPE = (12, 10, 6)
AFFINE = np.diag([-1.5, -1.5, 3.0, 1.0])
ONE = ("MR",)


def recipe(*channels: str) -> Recipe:
    return Recipe(LabelTable.exclusive(["organ"]), channels or ONE, [1.5, 1.5, 3.0], [32, 32, 16], {})


def voxels(seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 1000, SHAPE).astype(np.uint16)


def nifti(folder: Path, name: str = "scan.nii.gz", content: np.ndarray | None = None) -> Path:
    write_volume(folder / name, Volume(voxels() if content is None else content, AFFINE))
    return folder / name


def zipped(path: Path, files: dict[str, bytes | Path]) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as content:
        for name, data in files.items():
            content.writestr(name, data if isinstance(data, bytes) else data.read_bytes())
    return path


def taken(path: Path, folder: Path, *channels: str, name: str = "") -> Upload:
    return receive(path, folder / "visit", name=name or path.name, recipe=recipe(*channels), max_bytes=2**24)


def entry(name: str, *, mode: int = stat.S_IFREG | 0o644) -> zipfile.ZipInfo:
    made = zipfile.ZipInfo(name)
    made.external_attr = mode << 16
    return made


# --- the zip


def refused(tmp_path: Path, *entries: tuple[zipfile.ZipInfo | str, bytes], **limits: int) -> str:
    with zipfile.ZipFile(tmp_path / "a.zip", "w", zipfile.ZIP_DEFLATED) as content:
        for info, data in entries:
            content.writestr(info, data)
    before = sorted(tmp_path.rglob("*"))
    with pytest.raises(SourceError) as told:
        unpack(tmp_path / "a.zip", tmp_path / "in" / "side", name="a.zip", **{"max_bytes": 1000, **limits})
    assert sorted(tmp_path.rglob("*")) == before, "nothing was written"
    return str(told.value)


@pytest.mark.parametrize(
    "name",
    [
        "../up",
        "a/../../up",
        "/etc/passwd",
        "..\\up",
        "a\\..\\..\\up",
        "C:/up",
        "c:up",
        "\\\\host\\up",
        "..",
        "a/..",
        "//up",
    ],
)
def test_a_path_that_leaves_the_folder_is_refused(tmp_path: Path, name: str) -> None:
    told = refused(tmp_path, ("good.txt", b"x"), (entry(name), b"x"))
    assert "leaves its folder" in told
    assert "a.zip" in told


@pytest.mark.parametrize("kind", [stat.S_IFLNK, stat.S_IFCHR, stat.S_IFIFO, stat.S_IFSOCK])
def test_links_and_devices_are_refused(tmp_path: Path, kind: int) -> None:
    assert "link or a device" in refused(tmp_path, (entry("link", mode=kind | 0o777), b"/etc/passwd"))


def test_bombs_are_refused_by_what_they_claim(tmp_path: Path) -> None:
    assert "unpack to more than" in refused(tmp_path, ("zeros", bytes(1001)))
    assert "unpack to more than" in refused(tmp_path, *((f"{i}", bytes(300)) for i in range(4)))
    assert "more than 3 files" in refused(tmp_path, *((f"{i}", b"") for i in range(4)), max_files=3)


def test_a_bomb_that_claims_to_be_small_gives_no_more_than_it_claims(tmp_path: Path) -> None:
    content = bytearray(zipped(tmp_path / "a.zip", {"zeros": bytes(100_000)}).read_bytes())
    for signature, at in ((b"PK\1\2", 24), (b"PK\3\4", 22)):
        start = content.index(signature) + at
        assert struct.unpack_from("<I", content, start) == (100_000,)
        struct.pack_into("<I", content, start, 10)
    (tmp_path / "a.zip").write_bytes(content)
    with pytest.raises(SourceError, match="cannot be unpacked"):
        unpack(tmp_path / "a.zip", tmp_path / "out", max_bytes=1000, name="a.zip")
    assert sum(path.stat().st_size for path in (tmp_path / "out").rglob("*")) <= 1000


def test_a_huge_list_of_contents_is_not_read(tmp_path: Path) -> None:
    path, long = tmp_path / "a.zip", 9 * 2**20
    end = struct.pack("<4s4H2LH", b"PK\5\6", 0, 0, 40_000, 40_000, long, 4, 0)
    path.write_bytes(b"PK\3\4" + bytes(long) + end)
    with pytest.raises(SourceError, match="list of contents"):
        unpack(path, tmp_path / "out", max_bytes=1000, name="a.zip")


def test_what_is_no_sound_zip_is_refused(tmp_path: Path) -> None:
    assert "twice" in refused_twice(tmp_path)
    assert "holds no file" in refused(tmp_path, (entry("folder/"), b""), ("__MACOSX/._scan", b"x"), (".DS_Store", b"x"))
    assert "no file system keeps" in refused(tmp_path, ("a" * 300, b"x"))
    assert "no file system keeps" in refused(tmp_path, ("a\nb", b"x"))
    whole = zipped(tmp_path / "b.zip", {"scan": bytes(range(256)) * 40}).read_bytes()
    damaged = bytearray(whole)
    damaged[60:70] = b"\xff" * 10
    for content in (whole[:-30], b"PK\3\4" + bytes(100), bytes(damaged)):
        (tmp_path / "b.zip").write_bytes(content)
        with pytest.raises(SourceError, match="cannot be unpacked"):
            unpack(tmp_path / "b.zip", tmp_path / "b", max_bytes=10**6, name="b.zip")
    locked = bytearray(whole)
    for signature, at in ((b"PK\1\2", 8), (b"PK\3\4", 6)):
        locked[locked.index(signature) + at] |= 1
    (tmp_path / "b.zip").write_bytes(locked)
    with pytest.raises(SourceError, match="encrypted"):
        unpack(tmp_path / "b.zip", tmp_path / "c", max_bytes=10**6, name="b.zip")


def refused_twice(tmp_path: Path) -> str:
    with pytest.warns(UserWarning, match="Duplicate"):
        return refused(tmp_path, ("a", b"x"), ("a", b"y"))


def test_a_file_and_a_folder_of_one_name_are_refused(tmp_path: Path) -> None:
    for names in (("a", "a/b"), ("a/b", "a")):
        path = zipped(tmp_path / "a.zip", dict.fromkeys(names, b"x"))
        with pytest.raises(SourceError, match="a file and a folder of one name"):
            unpack(path, tmp_path / names[0].replace("/", "_"), max_bytes=100, name="a.zip")


def test_what_was_packed_comes_out(tmp_path: Path) -> None:
    files = {"a/b.txt": b"1", "c.txt": b"2", "windows\\d.txt": b"3"}
    written = unpack(zipped(tmp_path / "a.zip", files), tmp_path / "out", max_bytes=100, name="a.zip")
    assert [(path.relative_to(tmp_path / "out").as_posix(), path.read_bytes()) for path in written] == [
        ("a/b.txt", b"1"),
        ("c.txt", b"2"),
        ("windows/d.txt", b"3"),
    ]


# --- what becomes a case


@pytest.mark.parametrize("name", ["scan.nii.gz", "scan.nii"])
@pytest.mark.parametrize("packed", [False, True])
def test_a_nifti_file_alone_or_in_a_zip(tmp_path: Path, name: str, packed: bool) -> None:
    path = nifti(tmp_path, name)
    upload = taken(zipped(tmp_path / "a.zip", {f"folder/{name}": path}) if packed else path, tmp_path)
    assert (upload.key, upload.measured) == ("scan", True)
    (file,) = upload.files
    assert file.is_relative_to(tmp_path / "visit")
    np.testing.assert_array_equal(read_volume(file).voxels, voxels())
    np.testing.assert_array_equal(read_volume(file).affine_ras, AFFINE)


def test_the_content_counts_and_not_the_ending(tmp_path: Path) -> None:
    content = nifti(tmp_path).read_bytes()
    for name, key in (
        ("scan", "scan"),
        ("Scan 1 (a).zip", "Scan_1_a_"),
        ("case7_0000.nii.gz", "case7"),
        ("....nii", "image"),
    ):
        (tmp_path / "upload").write_bytes(content)
        upload = receive(tmp_path / "upload", tmp_path / key, name=name, recipe=recipe(), max_bytes=2**24)
        assert upload.key == key


def test_several_channels_come_in_one_zip(tmp_path: Path) -> None:
    files = {f"x/k_{i:04d}.nii.gz": nifti(tmp_path, f"k_{i:04d}.nii.gz", voxels(i)) for i in range(2)}
    upload = taken(zipped(tmp_path / "a.zip", files), tmp_path, "T1", "T2")
    assert upload.key == "k"
    assert [path.name for path in upload.files] == ["k_0000.nii.gz", "k_0001.nii.gz"]
    with pytest.raises(SourceError, match=r"2 NIfTI files, the network takes 1 channel \(MR\); upload the image alone"):
        receive(tmp_path / "a.zip", tmp_path / "b", name="a.zip", recipe=recipe(), max_bytes=2**24)
    with pytest.raises(SourceError, match=r"upload KEY_0000\.nii\.gz and so on in a zip"):
        receive(files["x/k_0000.nii.gz"], tmp_path / "c", name="k", recipe=recipe("T1", "T2"), max_bytes=2**24)


def test_a_zip_of_dicom_is_the_series_that_predict_sees(tmp_path: Path) -> None:
    save(tmp_path / "raw", series(noise((14, 12, 7)), grid((14, 12, 7)), "MR"), "Lovelace Ada/{}".format)
    (listed,) = list_series(tmp_path / "raw")
    files = {path.relative_to(tmp_path).as_posix(): path for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    upload = taken(zipped(tmp_path / "a.zip", {**files, "readme.txt": b"x"}), tmp_path)
    assert f"{upload.key}_0000.series" == listed.name
    assert upload.what == "MR series of 7 files"
    assert "Lovelace" not in upload.key
    np.testing.assert_array_equal(read_image(upload.files[0]).voxels, read_image(listed).voxels)
    np.testing.assert_array_equal(read_image(upload.files[0]).affine_ras, read_image(listed).affine_ras)


def test_two_series_and_a_gap_are_refused(tmp_path: Path) -> None:
    made = [series(noise((14, 12, 7), seed=int(number)), grid((14, 12, 7)), "MR", series=number) for number in "12"]
    for number, images in enumerate(made):
        save(tmp_path / "raw", images, f"{number}/{{}}".format)
    files = {path.relative_to(tmp_path).as_posix(): path for path in (tmp_path / "raw").rglob("*") if path.is_file()}
    with pytest.raises(SourceError, match=r"2 DICOM series \(MR of 7 files, MR of 7 files\); upload one of them"):
        taken(zipped(tmp_path / "a.zip", files), tmp_path)
    first = [path for name, path in sorted(files.items()) if name.startswith("raw/0/")]
    gap = {path.name: path for path in first if path != sorted(first)[3]}
    with pytest.raises(VolsegError, match="absent"):
        receive(zipped(tmp_path / "b.zip", gap), tmp_path / "b", name="b.zip", recipe=recipe(), max_bytes=2**24)
    broken = {"a.dcm": bytes(128) + b"DICM" + b"Lovelace" * 10}
    with pytest.raises(SourceError, match=r"b.zip holds a damaged DICOM file"):
        receive(zipped(tmp_path / "b.zip", broken), tmp_path / "c", name="b.zip", recipe=recipe(), max_bytes=2**24)


def test_a_zip_of_slices_is_the_volume_that_convert_makes(tmp_path: Path) -> None:
    x, y, z = SHAPE
    names = [f"slice_{i:04d}_{x}_{y}_1.50_1.50.png" for i in range(1, z + 1)]
    for i, name in enumerate(names):
        write_grey(tmp_path / name, np.ascontiguousarray(voxels()[:, :, i].T))
    files = {f"case1/case1_day2/scans/{name}": tmp_path / name for name in names}
    upload = taken(zipped(tmp_path / "case1_day2.zip", files), tmp_path)
    told = "6 slices (columns to the patient's left, rows to the back, slices to the feet)"
    assert (upload.key, upload.what) == ("case1_day2", told)
    volume = read_volume(upload.files[0])
    np.testing.assert_array_equal(volume.voxels, voxels())
    np.testing.assert_array_equal(volume.affine_ras, affine_of_axes("LPI", (1.5, 1.5, 3)))
    turned = receive(
        tmp_path / "case1_day2.zip", tmp_path / "t", name="a.zip", recipe=recipe(), max_bytes=2**24, axes="LPS"
    )
    assert turned.what.endswith("slices to the head)")
    assert orientation(read_volume(turned.files[0]).affine_ras) == "LPS"
    del files[f"case1/case1_day2/scans/{names[2]}"]
    with pytest.raises(SourceError, match="slice 0003 is missing"):
        receive(zipped(tmp_path / "b.zip", files), tmp_path / "b", name="b.zip", recipe=recipe(), max_bytes=2**24)


@pytest.mark.parametrize("channels", [("grey",), ("red", "green", "blue")])
@pytest.mark.parametrize("packed", [False, True])
def test_an_image_is_a_volume_of_one_slice(tmp_path: Path, channels: tuple[str, ...], packed: bool) -> None:
    pixels = np.random.default_rng(0).integers(0, 255, (9, 7, 3)).astype(np.uint8)
    (tmp_path / "raw").mkdir()
    path = tmp_path / "raw" / "lung.png"
    Image.fromarray(pixels).save(path)
    upload = taken(zipped(tmp_path / "lung.zip", {"lung.png": path}) if packed else path, tmp_path, *channels)
    case = Images(tmp_path / "raw", colour="grey" if len(channels) == 1 else "rgb").load("lung")
    assert (upload.key, upload.measured, upload.what) == ("lung", False, "image (directions assumed)")
    assert len(upload.files) == len(case.channels) == len(channels)
    for file, channel in zip(upload.files, case.channels, strict=True):
        np.testing.assert_array_equal(read_volume(file).voxels, channel.voxels)
        np.testing.assert_array_equal(read_volume(file).affine_ras, channel.affine_ras)


# --- what is refused


def header(shape: tuple[int, ...], mm: float = 1.0) -> bytes:
    """A NIfTI file that claims a shape and holds nothing."""
    import nibabel

    made = nibabel.Nifti1Header()
    made.set_data_dtype(np.int16)
    made.set_data_shape(shape)
    made.set_sform(np.diag([mm, mm, mm, 1]), code=1)
    made["vox_offset"], made["magic"] = 352, b"n+1"
    return bytes(made.binaryblock) + bytes(4 + 2000)


def picture(kind: str, mode: str, frames: int = 1) -> bytes:
    drawn = [Image.fromarray(np.full((8, 8), 40 * i, np.uint8)).convert(mode) for i in range(frames)]
    content = io.BytesIO()
    drawn[0].save(content, kind, **({"save_all": True, "append_images": drawn[1:]} if frames > 1 else {}))
    return content.getvalue()


@pytest.mark.parametrize(
    ("name", "content", "reason"),
    [
        ("a.nii.gz", b"", r"a.nii.gz is empty \(0 bytes\)"),
        ("a.txt", b"some words", r"is of no known kind \(it starts with b'some'\); upload a NIfTI file"),
        ("a.exe", b"MZ\x90\0\3", "is of no known kind"),
        ("a.nii.gz", gzip.compress(b"no volume at all" * 40, mtime=0), "is no NIfTI file"),
        ("a.nii", header((60, 50, 40)), "cut short"),
        ("a.nii", header((30000, 30000, 30000)), "27000000 million voxels"),
        ("a.nii.gz", gzip.compress(header((2000, 2000, 2000)), mtime=0), "8000 million voxels, more than 300"),
        ("a.nii", header((30, 30, 30), mm=1000.0), "on the network's grid of 1.5 x 1.5 x 3 mm"),
        ("a.gif", picture("GIF", "P", 3), "a.gif holds 3 frames"),
        ("a.tif", picture("TIFF", "CMYK"), "holds CMYK colours"),
        ("a.tif", picture("TIFF", "RGB", 2), "holds 2 pages"),
        ("a.jpg", picture("JPEG", "L")[:-40], "a.jpg is cut short"),
        ("a.zip", b"PK\3\4" + bytes(40), "a.zip cannot be unpacked"),
    ],
)
def test_a_bad_file_is_refused_with_a_reason(tmp_path: Path, name: str, content: bytes, reason: str) -> None:
    (tmp_path / "upload").write_bytes(content)
    with pytest.raises(VolsegError, match=reason) as told:
        taken(tmp_path / "upload", tmp_path, name=name)
    assert "\n" not in told.value.message
    assert str(tmp_path) not in told.value.message, "a visitor learns no path"


def test_a_decompression_bomb_is_not_decoded(tmp_path: Path) -> None:
    import zlib

    def chunk(kind: bytes, data: bytes) -> bytes:
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    size = struct.pack(">IIBBBBB", 60_000, 60_000, 8, 0, 0, 0, 0)
    bomb = (
        b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", size) + chunk(b"IDAT", zlib.compress(bytes(10_000))) + chunk(b"IEND", b"")
    )
    (tmp_path / "upload").write_bytes(bomb)
    with pytest.raises(SourceError, match="60000 x 60000 pixels"):
        taken(tmp_path / "upload", tmp_path, name="a.png")


def test_what_a_zip_must_not_hold(tmp_path: Path) -> None:
    image = picture("PNG", "L")
    for files, reason in (
        ({"a.txt": b"x"}, r"a.zip holds no image \(1 other files\)"),
        ({"a.png": image, "b.png": image}, "holds 2 images that are not called slice_0001"),
        ({"inner.zip": b"PK\3\4"}, "holds no image"),
        ({"a/slice_0001_8_8_1.0_1.0.png": image, "b/slice_0001_8_8_1.0_1.0.png": image}, "slices in 2 folders"),
    ):
        with pytest.raises(SourceError, match=reason):
            receive(zipped(tmp_path / "a.zip", files), tmp_path / "v", name="a.zip", recipe=recipe(), max_bytes=2**20)


def test_masks_and_label_maps_are_no_images(tmp_path: Path) -> None:
    x, y, z = np.indices((40, 36, 20))
    label = ((x - 20) ** 2 + (y - 18) ** 2 < 100).astype(np.uint8)
    many = label * (1 + (z // 4)).astype(np.uint8)
    for content, reason in (
        (label, r"looks like a mask \(it holds 0 and 1 only\)"),
        (np.float32(many), r"looks like a mask or label map \(6 whole numbers in patches\)"),
        (np.zeros((4, 4, 4), np.int16), "holds nothing but the value 0"),
    ):
        with pytest.raises(VolumeError, match=reason):
            taken(nifti(tmp_path, content=content), tmp_path / str(content.dtype), name="a")
    noisy = 100 * label + np.random.default_rng(0).integers(0, 30, label.shape).astype(np.uint8)
    check_voxels(noisy, name="an image of 8 bits")
    check_voxels(np.clip(noisy.astype(int) - 20, 0, 90), name="an image with much background, and saturated")


def test_label_maps_and_images_of_real_data_are_told_apart(shared_data: Path) -> None:
    told = []
    for part in ("imagesTr", "labelsTr"):
        for path in sorted((shared_data / "Task04_Hippocampus" / part).glob("[!.]*.nii.gz"))[:30]:
            try:
                check_voxels(read_volume(path).voxels, name=path.name)
                told.append((part, "image"))
            except VolumeError:
                told.append((part, "label"))
    assert set(told) == {("imagesTr", "image"), ("labelsTr", "label")}


def test_a_grid_is_judged_by_its_header() -> None:
    check_grid((600, 600, 800), np.eye(4), grid_mm=(1, 1, 1), name="a")
    check_grid((512, 512, 1), np.diag([0.2, 0.2, 1, 1]), grid_mm=(1, 1, 1), name="a")
    with pytest.raises(VolumeError, match="more than 300; cut it"):
        check_grid((600, 600, 900), np.eye(4), grid_mm=(1, 1, 1), name="a")
    with pytest.raises(
        VolumeError, match="on the network's grid"
    ):  # the third voxel axis runs along the first of the body
        check_grid(
            (200, 200, 200),
            np.array([[0, 0, 4, 0], [0, 4, 0, 0], [4, 0, 0, 0], [0, 0, 0, 1]]),
            grid_mm=(0.5, 1, 1),
            name="a",
        )


# --- visits


def test_a_visit_keeps_one_upload_and_takes_all_with_it(tmp_path: Path) -> None:
    visits: Visits[str] = Visits(parent=tmp_path)
    assert stat.S_IMODE(visits.root.stat().st_mode) == 0o700
    for number in range(2):
        path = visits.uploads / f"{number}.nii"
        path.write_text(str(number))
        visits.keep("a", path, name=f"scan {number}.nii")
        assert not path.exists()
    visit = visits.of("a")
    assert (visit.upload.read_text(), visit.name) == ("1", "scan 1.nii")
    assert stat.S_IMODE(visit.folder.stat().st_mode) == 0o700
    assert len(visit.token) >= 20
    assert visits.find(visit.token) is visit
    assert visits.find(visits.of("b").token) is not visit
    visits.forget("a")
    assert (visit.upload.exists(), visit.name) == (False, "")
    visits.leave("a")
    visits.leave("nobody")
    assert not visit.folder.exists()
    assert visits.find(visit.token) is None
    visits.close()
    assert list(tmp_path.iterdir()) == []
    visits.close()


def test_a_visit_that_ends_while_the_network_is_at_work_leaves_nothing(tmp_path: Path) -> None:
    visits: Visits[str] = Visits(parent=tmp_path)
    visit = visits.of("a")
    visits.settle(visit)
    assert visit.folder.is_dir(), "it lasts"
    for end in (lambda: visits.leave("a"), visits.close):
        end()
        late = visit.work / "label.nii.gz"
        late.parent.mkdir(parents=True)
        late.touch()
        visit.result = "found"
        visits.settle(visit)
        assert not visit.folder.exists()
        assert visit.result is None
    visits.close()
    assert list(tmp_path.iterdir()) == []


def test_a_visitor_who_leaves_is_known_and_one_who_made_room_may_go_on(tmp_path: Path) -> None:
    visits: Visits[str] = Visits(parent=tmp_path, most=1)
    first = visits.of("a")
    visits.of("b")
    assert first.left.is_set(), "its work ends"
    assert not visits.has_left("a"), "its page is open"
    assert not visits.of("a").left.is_set()
    visits.leave("a")
    assert visits.has_left("a")
    last = visits.of("c")
    visits.close()
    assert last.left.is_set()


def test_an_upload_that_breaks_off_leaves_nothing_and_takes_no_other(tmp_path: Path) -> None:
    uploads = Uploads(tmp_path)

    async def receive() -> str:
        return "message"

    async def run() -> None:
        (tmp_path / "whole").mkdir()
        (tmp_path / "whole" / "scan.nii").touch()
        broken, slow = uploads.watching(receive, "broken"), None
        assert await broken() == "message"
        (tmp_path / "tmp1").touch()
        await broken()
        slow = uploads.watching(receive, "slow")
        (tmp_path / "tmp2").touch()  # of either of them
        await slow()
        uploads.ended("broken")
        assert sorted(path.name for path in tmp_path.iterdir()) == ["tmp2", "whole"]
        await slow()
        (tmp_path / "tmp2").rename(tmp_path / "whole" / "tmp2")
        (tmp_path / "tmp3").touch()
        uploads.ended("slow")

    asyncio.run(run())
    assert [path.name for path in tmp_path.iterdir()] == ["whole"]
    assert sorted(path.name for path in (tmp_path / "whole").iterdir()) == ["scan.nii", "tmp2"]


def test_only_what_lies_among_the_uploads_is_taken(tmp_path: Path) -> None:
    visits: Visits[str] = Visits(parent=tmp_path)
    secret = tmp_path / "secret"
    secret.write_text("x")
    (visits.uploads / "link").symlink_to(secret)
    (visits.uploads / "folder").mkdir()
    for path in (secret, visits.uploads / "link", visits.uploads / "folder", visits.uploads / ".." / ".." / "secret"):
        with pytest.raises(FileNotFoundError):
            visits.keep("a", path, name="x")
    assert secret.read_text() == "x"
    visits.close()
    assert secret.read_text() == "x"


def test_the_visit_that_was_longest_unused_makes_room(tmp_path: Path) -> None:
    visits: Visits[str] = Visits(parent=tmp_path, most=2)
    first, second = visits.of("a"), visits.of("b")
    visits.of("a")
    visits.of("c")
    assert first.folder.exists()
    assert not second.folder.exists()
    visits.close()


def test_the_end_of_the_program_ends_the_visits(tmp_path: Path) -> None:
    code = "import sys, pathlib, volseg.deploy.demo.session as s; s.Visits(parent=pathlib.Path(sys.argv[1])).of('a')"
    subprocess.run([sys.executable, "-c", code, str(tmp_path)], check=True)
    assert list(tmp_path.iterdir()) == []


def test_uploads_need_neither_gradio_nor_torch() -> None:
    code = "import sys, volseg.deploy.demo.upload, volseg.deploy.demo.session; "
    code += "print({'torch', 'gradio', 'monai'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout.strip() == "set()"


def test_large_slices_of_air_alone_are_no_reason_to_refuse_a_volume() -> None:
    voxels = np.full((1500, 1400, 4), -1024, np.int16)
    with pytest.raises(VolumeError, match="nothing but the value -1024"):
        check_voxels(voxels, name="empty.nii")
    voxels[..., 2] = np.arange(1500 * 1400).reshape(1500, 1400) % 1000
    check_voxels(voxels, name="of a specimen, whose first slices hold none of it")
    voxels[..., 2] = 7
    with pytest.raises(VolumeError, match="looks like a mask"):
        check_voxels(voxels, name="mask.nii")

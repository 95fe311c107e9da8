"""Networks of a catalogue, from a server on this machine or a folder: compared, gone on with, used, or refused."""

from __future__ import annotations

import hashlib
import json
import shutil
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import tiny_bundle
from command import told
from web_site import Site, web_site

from volseg.datasets import catalogue_of_networks, fetch, read_networks
from volseg.deploy.pack import pack
from volseg.errors import RemoteError, UsageError
from volseg.inference import Predictor

pytest.importorskip("pooch", reason="pip install 'volseg[fetch]'")


@pytest.fixture(scope="module")
def published(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a package and a checkpoint."""
    folder = tmp_path_factory.mktemp("published")
    bundle = tiny_bundle.write_bundle(folder / "of" / "tiny")
    checkpoint = tiny_bundle.write_checkpoint(folder / "plain.pt")
    pack(bundle, checkpoint=checkpoint, output=folder / "mine.zip")
    return folder


@pytest.fixture
def here(published: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of it as the working directory's `published/`."""
    (tmp_path / "published").mkdir()
    for name in ("mine.zip", "plain.pt"):
        shutil.copy(published / name, tmp_path / "published" / name)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    monkeypatch.delenv("VOLSEG_CATALOGUE", raising=False)
    return tmp_path / "published"


@pytest.fixture
def catalogue(here: Path, capsys: pytest.CaptureFixture[str]) -> Path:
    words = ("published/mine.zip", "published/plain.pt", "-o", "published/networks.json", "--licence", "CC0")
    assert told(capsys, "bundles", "catalogue", *words) == (0, "wrote published/networks.json: mine, plain\n")
    return here / "networks.json"


@pytest.fixture
def site(catalogue: Path) -> Iterator[Site]:
    with web_site() as served:
        served.files = {path.name: path.read_bytes() for path in catalogue.parent.iterdir()}
        yield served


def test_what_is_written_is_read_with_digests(catalogue: Path) -> None:
    entries = json.loads(catalogue.read_text())["networks"]
    networks = read_networks(str(catalogue))
    assert list(networks) == ["mine", "plain"]
    for entry in entries:
        content = (catalogue.parent / entry["file"]).read_bytes()
        assert (entry["bytes"], entry["sha256"]) == (len(content), hashlib.sha256(content).hexdigest())
        assert networks[entry["name"]].checksum == f"sha256:{entry['sha256']}"
    assert networks["plain"].licence == "CC0"


@pytest.mark.parametrize("far", [False, True])
def test_a_package_is_used_by_its_name(
    far: bool, catalogue: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    address = site.url("networks.json") if far else "published/networks.json"
    code, printed = told(capsys, "fetch", "mine", "--catalogue", address)
    assert code == 0, printed
    assert printed.splitlines()[-1] == "next: volseg predict bundles/mine IMAGE -o data/predictions"
    assert Predictor.from_bundle(Path("bundles") / "mine").recipe.labels.names == tiny_bundle.LABELS.names
    assert told(capsys, "fetch", "mine", "--catalogue", address) == (0, printed), "a second call does nothing"
    assert site.asked.count(None) == (3 if far else 0), "the catalogue twice, the package once"
    assert "mine" in {line.split()[0] for line in told(capsys, "bundles")[1].splitlines()}


def test_a_checkpoint_lies_in_a_folder_of_its_name(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    code, printed = told(capsys, "fetch", "plain", "--catalogue", str(catalogue))
    assert code == 0, printed
    assert Path("data/networks/plain/plain.pt").read_bytes() == (catalogue.parent / "plain.pt").read_bytes()
    assert "--checkpoint data/networks/plain/plain.pt" in printed


def test_a_broken_transfer_goes_on_with_the_rest(
    catalogue: Path, site: Site, capsys: pytest.CaptureFixture[str]
) -> None:
    address = site.url("networks.json")
    with zipfile.ZipFile(catalogue.with_name("mine.zip"), "a") as archive:
        archive.writestr("mine/docs/picture.png", bytes(2**17))  # so that more than one piece comes
    site.files["mine.zip"] = catalogue.with_name("mine.zip").read_bytes()
    content = json.loads(site.files["networks.json"])
    content["networks"][0] |= {"sha256": hashlib.sha256(site.files["mine.zip"]).hexdigest()}
    site.files["networks.json"] = json.dumps(content).encode()
    site.breaks_after = 2**16 + 5
    code, printed = told(capsys, "fetch", "mine", "--catalogue", address)
    assert code == 2
    assert "the connection broke; run again to go on from there" in printed
    assert f"volseg fetch mine bundles/mine --catalogue {address} --archive mine.zip" in printed
    assert not Path("bundles/mine").exists()
    site.breaks_after = None
    assert told(capsys, "fetch", "mine", "--catalogue", address)[0] == 0
    assert site.asked == [None, None, None, f"bytes={2**16}-"]


@pytest.mark.parametrize("far", [False, True])
def test_another_digest_is_refused(far: bool, catalogue: Path, site: Site, capsys: pytest.CaptureFixture[str]) -> None:
    content = catalogue.with_name("mine.zip").read_bytes()
    site.files["mine.zip"] = content[:-1] + b"!"
    catalogue.with_name("mine.zip").write_bytes(content[:-1] + b"!")
    code, printed = told(capsys, "fetch", "mine", "--catalogue", site.url("networks.json") if far else str(catalogue))
    assert code == 2
    assert ("is not the one that" if far else "expected") in printed
    assert not Path("bundles").exists() or list(Path("bundles").glob("mine*")) == []


def test_a_network_that_was_published_anew_replaces_nothing(
    catalogue: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert told(capsys, "fetch", "plain", "--catalogue", str(catalogue))[0] == 0
    (catalogue.parent / "plain.pt").write_bytes(b"another")
    told(capsys, "bundles", "catalogue", "published/plain.pt", "-o", "published/networks.json", "--licence", "CC0")
    code, printed = told(capsys, "fetch", "plain", "--catalogue", str(catalogue))
    assert code == 2
    assert "as it was published before; move it away, or name another folder" in printed


def test_a_list_of_the_catalogue(catalogue: Path, capsys: pytest.CaptureFixture[str]) -> None:
    names = [line.split()[0] for line in told(capsys, "fetch", "--list", "--catalogue", str(catalogue))[1].splitlines()]
    assert names[::2] == ["mine", "plain"]


def test_the_environment_names_one_for_all_commands(
    catalogue: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("VOLSEG_CATALOGUE", str(catalogue))
    assert catalogue_of_networks(None) == str(catalogue)
    assert catalogue_of_networks("other.json") == "other.json"
    shown = told(capsys, "fetch", "--list")[1]
    assert "msd-hippocampus" in shown
    assert "\nmine " in shown
    assert told(capsys, "fetch", "plain")[0] == 0
    assert "has no network 'plian'; did you mean plain? It has mine, plain" in told(capsys, "fetch", "plian")[1]


def test_without_a_catalogue_a_network_is_told_what_is_missing(here: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert catalogue_of_networks(None) is None
    assert "a network needs --catalogue" in told(capsys, "fetch", "mine")[1]


# --- catalogues that are none


def entry(**change: Any) -> dict[str, Any]:
    given = {"name": "a", "title": "A", "file": "a.zip", "bytes": 1, "sha256": "0" * 64, "licence": "CC0", **change}
    return {word: value for word, value in given.items() if value is not None}


def of(*entries: object) -> str:
    return json.dumps({"format": "volseg networks 1", "networks": list(entries)})


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("<html>", "is not JSON"),
        ("[]", "is no catalogue of networks"),
        (json.dumps({"format": "volseg networks 2", "networks": []}), "is no catalogue of networks"),
        (of("a"), "network 1 must be an object, got str"),
        (of(entry(), entry(name="b", sha256=None)), "network 2 must have 'sha256' as str, got None"),
        (of(entry(bytes=True)), "must have 'bytes' as int, got True"),
        (of(entry(sha256="0" * 63)), "64 hexadecimal digits"),
        (of(entry(name="../a")), "has the name '../a'"),
        (of(entry(name=".a")), "has the name '.a'"),
        (of(entry(file="a.exe")), "must be a .zip, .pt or .safetensors file"),
        (of(entry(file="/etc/a.zip")), "must name a file beside the catalogue"),
        (of(entry(file="../a.zip")), "must name a file beside the catalogue"),
        (of(entry(), entry()), "two networks named a"),
        (" " * 2**20 + "{}", "larger than 1 MiB"),
    ],
)
def test_what_is_no_catalogue_is_named(text: str, words: str, tmp_path: Path) -> None:
    (tmp_path / "networks.json").write_text(text)
    with pytest.raises(RemoteError, match=r"networks\.json") as caught:
        read_networks(str(tmp_path / "networks.json"))
    assert words in str(caught.value)


@pytest.mark.parametrize("word", ["https://me:secret@example.org/n.json", "https://example.org/n.json?token=secret"])
def test_a_credential_is_neither_taken_nor_shown(word: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds a credential") as caught:
        read_networks(word)
    assert "secret" not in str(caught.value)
    (tmp_path / "networks.json").write_text(of(entry(file=word.replace("n.json", "a.zip") + ".zip")))
    with pytest.raises(UsageError, match="holds a credential"):
        read_networks(str(tmp_path / "networks.json"))


def test_what_cannot_be_had_is_told(site: Site, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=r"there is no file .*absent\.json; name the catalogue"):
        read_networks(str(tmp_path / "absent.json"))
    with pytest.raises(UsageError, match="must be a https URL or a file, got s3:"):
        read_networks("s3://bucket/networks.json")
    with pytest.raises(RemoteError, match="answers 404"):
        read_networks(site.url("absent.json"))
    with pytest.raises(RemoteError, match="cannot be reached from here"):
        read_networks("http://127.0.0.1:9/networks.json")


def test_a_package_that_is_none_is_refused_whole(tmp_path: Path) -> None:
    with zipfile.ZipFile(tmp_path / "a.zip", "w") as archive:
        archive.writestr("a/readme.txt", "no network")
        archive.writestr("b/readme.txt", "no network")
    digest = hashlib.sha256((tmp_path / "a.zip").read_bytes()).hexdigest()
    (tmp_path / "networks.json").write_text(of(entry(sha256=digest)))
    network = read_networks(str(tmp_path / "networks.json"))["a"]
    with pytest.raises(RemoteError, match="must hold one folder, got 2 entries"):
        fetch(network, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize(
    ("words", "told_of"),
    [
        (("published/absent.zip",), "there is no file published/absent.zip"),
        (("published/plain.pt",), "states no licence of its weights"),
        (("published/mine.zip", "published/mine.zip"), "two files give the network mine"),
        (("other.pt",), "must lie in the folder of published/networks.json"),
        (("published/notes.txt",), "must be .zip, .pt or .safetensors"),
        (("published/no.zip",), "is no package"),
        (("published/my net.pt", "--licence", "CC0"), "a name must be letters, digits, . - and _; rename the file"),
    ],
)
def test_what_cannot_be_published_is_refused(
    words: tuple[str, ...], told_of: str, here: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    for name in ("other.pt", "published/notes.txt", "published/no.zip", "published/my net.pt"):
        Path(name).write_text("x")
    code, printed = told(capsys, "bundles", "catalogue", *words, "-o", "published/networks.json")
    assert code == 2
    assert told_of in printed
    assert not Path("published/networks.json").exists()

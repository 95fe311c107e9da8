"""A catalogue of trained networks: a JSON file with digests, beside packages and checkpoints; read and written."""

from __future__ import annotations

import difflib
import hashlib
import json
import os
import re
import zipfile
from collections.abc import Mapping, Sequence
from importlib.metadata import PackageNotFoundError, metadata
from pathlib import Path, PurePosixPath
from typing import Any
from urllib.parse import urljoin

from volseg.datasets.catalogue import Published
from volseg.errors import RemoteError, UsageError
from volseg.files import atomic
from volseg.remote import Address, is_url

FORMAT = "volseg networks 1"
SETTING = "VOLSEG_CATALOGUE"
_MAX_BYTES = 2**20
_TIMEOUT_S = (15, 60)
_LABEL = "networks"  # of the project's URL in the metadata of the installed package
_ENTRIES = {"name": str, "title": str, "file": str, "bytes": int, "sha256": str, "licence": str}
_NAME = re.compile(r"[\w][\w.-]*")
_PACKAGE = {"configs/inference.json": 1, "configs/metadata.json": 1, "models/model.*": 1}
_CHECKPOINTS = (".pt", ".safetensors")


def catalogue_of_networks(named: str | None) -> str | None:
    """The catalogue that the user names, that of `VOLSEG_CATALOGUE`, or that of the release; None if there is none.

    >>> catalogue_of_networks("https://example.org/networks.json")
    'https://example.org/networks.json'
    """
    if named or os.environ.get(SETTING):
        return named or os.environ[SETTING]
    try:
        urls = metadata("volseg").get_all("Project-URL") or []
    except PackageNotFoundError:
        return None
    found = (str(line).partition(", ") for line in urls)
    return next((url for label, _, url in found if label.lower() == _LABEL), None)


def read_networks(catalogue: str) -> dict[str, Published]:
    """The networks of a catalogue, by name.

    Args:
        catalogue: URL (https, http) or path of the JSON file. Files are beside it unless they have a URL of their own.

    Returns:
        What `fetch` takes. A zip holds a package and comes into `bundles/NAME`; a checkpoint into `data/networks/NAME`.

    Raises:
        UsageError: The URL holds a credential, or there is no such file.
        RemoteError: It cannot be reached, or is no such catalogue.
    """
    if is_url(catalogue):
        catalogue = _web_address(catalogue)
    content = _read(catalogue)
    if (
        not isinstance(content, dict)
        or content.get("format") != FORMAT
        or not isinstance(content.get("networks"), list)
    ):
        raise RemoteError(
            f'{catalogue} is no catalogue of networks: it must be a JSON object with "format": "{FORMAT}" and a list '
            '"networks"; `volseg bundles catalogue` writes one'
        )
    found: dict[str, Published] = {}
    for number, entry in enumerate(content["networks"], 1):
        network = _network(entry, catalogue, f"{catalogue}: network {number}")
        if network.name in found:
            raise RemoteError(
                f"{catalogue} has two networks named {network.name}; its publisher must give each its own name"
            )
        found[network.name] = network
    return found


def find_network(name: str, networks: Mapping[str, Published], catalogue: str) -> Published:
    """A network by its name.

    Raises:
        UsageError: There is none of this name; the nearest one is told.
    """
    if name in networks:
        return networks[name]
    near = difflib.get_close_matches(name, networks, n=1)
    hint = f"did you mean {near[0]}? It has" if near else "it has"
    raise UsageError(f"{catalogue} has no network {name!r}; {hint} {', '.join(networks) or 'none'}")


def write_networks(files: Sequence[Path], output: Path, *, licence: str = "", title: str = "") -> dict[str, Any]:
    """Write the catalogue of packages and checkpoints that are published beside it.

    Args:
        files: Packages (.zip of `volseg pack`) and checkpoints (.pt, .safetensors), in the folder of the catalogue.
        output: JSON file.
        licence: Licence of the weights of checkpoints, which state none; that of a package stands in it.
        title: Title of the catalogue.

    Returns:
        What was written.

    Raises:
        UsageError: A file is absent, is neither, or lies in another folder; or two have one name, or one a name that
            `read_networks` refuses.
    """
    entries = [_entry(file, output, licence) for file in files]
    names = [entry["name"] for entry in entries]
    for name, file in zip(names, files, strict=True):
        if names.count(name) > 1:
            raise UsageError(f"two files give the network {name}; rename one")
        if not _NAME.fullmatch(name):  # a reader refuses the whole catalogue
            raise UsageError(
                f"{file} gives the network {name!r}, and a name must be letters, digits, . - and _; "
                + ("pack it anew under such a name" if file.suffix == ".zip" else "rename the file")
            )
    content = {"format": FORMAT, "title": title, "networks": entries}
    with atomic(output) as partial:
        partial.write_text(json.dumps(content, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    return content


# --- reading


def _web_address(catalogue: str) -> str:
    url = Address.parse(catalogue).url
    if not url.startswith(("https://", "http://")):
        raise UsageError(
            f"--catalogue must be a https URL or a file, got {catalogue}; download the folder and name the file"
        )
    return url


def _read(catalogue: str) -> Any:  # noqa: ANN401 - JSON, looked at by the caller
    try:
        return json.loads(_download(catalogue) if is_url(catalogue) else _of_disk(Path(catalogue)))
    except ValueError as error:
        raise RemoteError(
            f"{catalogue} is not JSON ({error}); name the file networks.json itself, not a page about it"
        ) from error


def _of_disk(file: Path) -> bytes:
    if not file.is_file():
        raise UsageError(f"there is no file {file}; name the catalogue, a JSON file or its URL")
    if file.stat().st_size > _MAX_BYTES:
        raise RemoteError(f"{file} is larger than 1 MiB, so it is no catalogue of networks; name the JSON file")
    return file.read_bytes()


def _download(url: str) -> bytes:
    try:
        import requests
    except ImportError as error:
        raise RemoteError(f"{error.name} is not installed; `pip install 'volseg[fetch]'` brings it") from error
    try:
        with requests.get(url, stream=True, timeout=_TIMEOUT_S) as answer:
            answer.raise_for_status()
            content = bytearray()
            for part in answer.iter_content(2**16):
                content += part
                if len(content) > _MAX_BYTES:
                    raise RemoteError(
                        f"{url} is larger than 1 MiB, so it is no catalogue of networks; name the JSON file"
                    )
            return bytes(content)
    except requests.HTTPError as error:
        raise RemoteError(
            f"{url} answers {error.response.status_code} {error.response.reason}; correct --catalogue"
        ) from error
    except requests.RequestException as error:
        raise RemoteError(
            f"{url} cannot be reached from here; download its folder elsewhere, and name the file"
        ) from error


def _network(entry: object, catalogue: str, told: str) -> Published:
    if not isinstance(entry, dict):
        raise RemoteError(f"{told} must be an object, got {type(entry).__name__}; its publisher must mend it")
    for word, kind in _ENTRIES.items():
        if type(entry.get(word)) is not kind:
            raise RemoteError(
                f"{told} must have {word!r} as {kind.__name__}, got {entry.get(word)!r}; its publisher must mend it"
            )
    name, sha256 = entry["name"], entry["sha256"].lower()
    if not _NAME.fullmatch(name):
        raise RemoteError(
            f"{told} has the name {name!r}, expected letters, digits, . - and _; its publisher must mend it"
        )
    if not re.fullmatch(r"[0-9a-f]{64}", sha256):
        raise RemoteError(
            f"{told} ({name}) must have a sha256 of 64 hexadecimal digits, got {sha256!r}; its publisher must mend it"
        )
    file = PurePosixPath(entry["file"].rpartition("/")[2]).name
    packed = file.endswith(".zip")
    if not packed and not file.endswith(_CHECKPOINTS):
        raise RemoteError(
            f"{told} ({name}) must be a .zip, .pt or .safetensors file, got {file!r}; its publisher must mend it"
        )
    folder = f"bundles/{name}" if packed else f"data/networks/{name}"
    after = "volseg predict " + (
        "{folder} IMAGE -o data/predictions"
        if packed
        else f"BUNDLE IMAGE --checkpoint {{folder}}/{file} -o data/predictions"
    )
    return Published(
        name=name,
        title=entry["title"],
        page=str(entry.get("page") or catalogue),
        file=file,
        about=_size(entry["bytes"]),
        url=_beside(entry["file"], catalogue, told),
        folder=folder,
        holds=_PACKAGE if packed else {file: 1},
        licence=entry["licence"],
        convert=after,
        checksum=f"sha256:{sha256}",
        source=catalogue,
        root="*" if packed else "",
        catalogue=catalogue,
        packed=packed,
    )


def _beside(file: str, catalogue: str, told: str) -> str:
    """URL or path of a file of a catalogue."""
    if is_url(file):
        return _web_address(file)
    if PurePosixPath(file).is_absolute() or ".." in PurePosixPath(file).parts or "\\" in file or not file:
        raise RemoteError(
            f"{told} must name a file beside the catalogue or its https URL, got {file!r}; its publisher must mend it"
        )
    return urljoin(catalogue, file) if is_url(catalogue) else str(Path(catalogue).parent / file)


def _size(count: int) -> str:
    """The size of a file for people.

    >>> _size(2_675_176)
    '2.7 MB'
    >>> _size(12_400), _size(1_200_000_000)
    ('12 kB', '1.2 GB')
    """
    if count < 1e5:
        return f"{count / 1e3:.0f} kB"
    return f"{count / 1e6:.1f} MB" if count < 1e9 else f"{count / 1e9:.1f} GB"


# --- writing


def _entry(file: Path, output: Path, licence: str) -> dict[str, Any]:
    if not file.is_file():
        raise UsageError(f"there is no file {file}; name packages (.zip of `volseg pack`) and checkpoints")
    if file.resolve().parent != output.resolve().parent:
        raise UsageError(f"{file} must lie in the folder of {output}, which is published as a whole; move it there")
    if file.suffix == ".zip":
        name, title, licence = _of_package(file)
    elif file.suffix in _CHECKPOINTS:
        name, title = file.stem, file.stem
        if not licence:
            raise UsageError(f"{file} states no licence of its weights; say it with --licence")
    else:
        raise UsageError(f"a file must be .zip, .pt or .safetensors, got {file.name}; name packages and checkpoints")
    digest = hashlib.sha256(file.read_bytes()).hexdigest()
    size = file.stat().st_size
    return {"name": name, "title": title, "file": file.name, "bytes": size, "sha256": digest, "licence": licence}


def _of_package(file: Path) -> tuple[str, str, str]:
    """Name, title and licence of a packed network."""
    try:
        with zipfile.ZipFile(file) as archive:
            (inside,) = [name for name in archive.namelist() if re.fullmatch(r"[^/]+/configs/metadata\.json", name)]
            stated = json.loads(archive.read(inside))
        return inside.partition("/")[0], str(stated["description"]), str(stated.get("license") or "not stated")
    except (ValueError, KeyError, zipfile.BadZipFile) as error:
        raise UsageError(f"{file} is no package; write one with `volseg pack BUNDLE -o {file.name}`") from error

"""A listing: the objects below an address, with their versions."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import PurePosixPath
from typing import Any

from volseg.errors import RemoteError
from volseg.files import is_partial
from volseg.remote.messages import told

# s3fs takes what follows in a name for a version of the object before it, and gives the bytes of that.
_S3_VERSION = "?versionId="
# Names of the version in the file systems of fsspec; the first that is there counts.
_VERSIONS = ("ETag", "etag", "md5Hash", "generation", "mtime", "LastModified", "last_modified", "updated", "created")


@dataclass(frozen=True, slots=True)
class Item:
    """An object behind a URL.

    Attributes:
        size: Size in bytes.
        version: Text that differs if the content does: the ETag, or else the time of the last change; empty if neither
            is known.
    """

    size: int
    version: str

    @classmethod
    def of(cls, info: Mapping[str, Any]) -> Item:
        """Build an item from the information of a file system.

        >>> Item.of({"size": 3, "ETag": '"900150983cd24fb0d6963f7d28e17f72"'}).md5
        '900150983cd24fb0d6963f7d28e17f72'
        """
        named = next((f"{name} {info[name]}" for name in _VERSIONS if info.get(name) is not None), "")
        return cls(int(info["size"]), named.replace('"', ""))

    @property
    def md5(self) -> str | None:
        """The MD5 that an ETag is, for objects uploaded in one piece and not encrypted by KMS; else None."""
        found = re.fullmatch(r"(?:ETag|etag) ([0-9a-f]{32})", self.version)
        return found[1] if found else None


Listing = dict[str, Item]
"""Items by path below the folder, with `/` between names; a single file has the name it has in its folder."""


def list_items(file_system: Any, path: str, *, url: str) -> Listing:  # noqa: ANN401 - fsspec has no types
    """List everything below a path except half-written files; empty if there is nothing.

    Raises:
        RemoteError: It cannot be listed, or holds a name that no copy can have or that stands for another object.
    """
    with told(url):
        try:
            found = file_system.find(path, detail=True)
        except FileNotFoundError:
            found = {}
        if not found and "s3" in file_system.protocol:
            _check_bucket(file_system, path, url)
    items: Listing = {}
    for name, info in found.items():
        full = str(name)
        if info.get("type") == "directory" or full.endswith("/"):
            continue
        below = full.rpartition("/")[2] if full == path else full.removeprefix(f"{path}/")
        pure = PurePosixPath(below)
        if pure.is_absolute() or ".." in pure.parts or "\\" in below or str(pure) != below:
            raise RemoteError(f"{url}: the name {below!r} is not one of a file below it; rename it there")
        if _S3_VERSION in below and "s3" in file_system.protocol:
            raise RemoteError(
                f"{url}: the name {below!r} holds {_S3_VERSION!r}, which s3fs takes for a version of another object; "
                "rename it there"
            )
        if info.get("size") is None:
            raise RemoteError(
                f"{url}: the size of {below} is not told, so no copy can be checked; copy it by other means"
            )
        if not is_partial(pure.name):
            items[below] = Item.of(info)
    return _without_folders(items, url)


def _without_folders(items: Listing, url: str) -> Listing:
    """The items without empty objects that stand for a folder: a store may hold `labelsTr` beside `labelsTr/a.nii.gz`.

    Raises:
        RemoteError: Such an object holds something, and no disk has a file and a folder of one name.
    """
    folders = {str(parent) for name in items for parent in PurePosixPath(name).parents}
    for name in sorted(folders & items.keys()):
        if items[name].size:
            raise RemoteError(
                f"{url}: {name} is a file of {items[name].size} bytes and a folder of others; rename one of them there"
            )
    return {name: item for name, item in items.items() if name not in folders}


def _check_bucket(file_system: Any, path: str, url: str) -> None:  # noqa: ANN401
    """Refuse a bucket that is not there; s3fs lists it as an empty one.

    The request is that of the listing: whoever may look into one folder alone may not ask for the bucket.
    """
    bucket, _, key = path.strip("/").partition("/")
    try:
        file_system.call_s3("list_objects_v2", Bucket=bucket, Prefix=f"{key}/" if key else "", MaxKeys=1)
    except FileNotFoundError:
        raise RemoteError(f"{url}: there is no bucket {bucket}; check the name") from None

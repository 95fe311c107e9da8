"""An address: the URL of a folder or file, checked, and the file system behind it."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from volseg.errors import UsageError
from volseg.remote.messages import told

# `name::` begins a chain of fsspec's file systems.
_URL = re.compile(r"([A-Za-z][A-Za-z0-9+.-]+)(?:://|::)")
# After the slashes comes a bucket: a text without a colon.
_BUCKETS = {"s3", "s3a", "gs", "gcs", "az", "abfs", "abfss", "memory", "file", "local"}


def is_url(place: object) -> bool:
    """Whether a place is a URL; a path is none.

    >>> is_url("s3://bucket/cohort"), is_url("data/cohort"), is_url("C:/cohort"), is_url(Path("cohort"))
    (True, False, False, False)
    """
    return isinstance(place, str) and _URL.match(place) is not None


@dataclass(frozen=True)
class Address:
    """The address of a folder or a file. It holds no credential, so it can be shown.

    Attributes:
        url: URL without a slash at its end.
    """

    url: str

    @classmethod
    def parse(cls, text: str) -> Address:
        """Check a URL.

        Raises:
            UsageError: The URL holds a credential, which would appear in logs and in the history of the shell; or it is
                none.

        >>> Address.parse("s3://bucket/cohort/").name
        'cohort'
        >>> Address.parse("s3://key:secret@bucket/cohort")
        Traceback (most recent call last):
        volseg.errors.UsageError: the s3:// URL holds a credential...
        """
        found = _URL.match(text)
        if found is None:
            raise UsageError(f"{text!r} is no URL; expected one such as s3://bucket/cohort")
        scheme, rest = found[1].lower(), text[found.end() :]
        if "::" in text:
            raise UsageError(f"a chain of file systems ({scheme}::…) was given; give the URL of the folder alone")
        host = rest.partition("/")[0]
        port = host.partition(":")[2]
        if "@" in host or (":" in host and (scheme in _BUCKETS or not port.isdigit())) or "?" in rest:
            raise UsageError(
                f"the {scheme}:// URL holds a credential, or something that could be one (@, : or ? in it); give the "
                "URL without it, and the credential in the environment, for S3 as AWS_PROFILE or AWS_ACCESS_KEY_ID"
            )
        if ".." in rest.split("/"):
            raise UsageError(f"{text!r} holds '..'; give the URL of the folder itself")
        return cls(f"{scheme}://{rest.rstrip('/')}")

    @property
    def name(self) -> str:
        """The last part of the URL."""
        return self.url.rpartition("/")[2] or "root"

    @property
    def parent(self) -> str:
        """The URL of the parent folder."""
        return self.url.rpartition("/")[0]

    @property
    def scheme(self) -> str:
        """The scheme: the word before the slashes."""
        return self.url.partition("://")[0]

    def open(self) -> tuple[Any, str]:
        """The file system, as a new instance that remembers no listing, and the path in it.

        Credentials and endpoints are those of the environment, as the libraries behind fsspec read them.

        Raises:
            RemoteError: The library for the URL is not installed, or its scheme is unknown.
        """
        with told(self.url):
            import fsspec

            file_system, path = fsspec.core.url_to_fs(self.url, use_listings_cache=False, skip_instance_cache=True)
            return file_system, str(path).rstrip("/")


def check_apart(first: str | Path, second: str | Path) -> None:
    """Refuse two URLs of which one contains the other: outputs must not mix with inputs.

    Raises:
        UsageError: One contains the other.

    >>> check_apart("s3://bucket/cohort", "s3://bucket/cohort-predictions")
    >>> check_apart("s3://bucket/cohort", "s3://bucket/cohort/")
    Traceback (most recent call last):
    volseg.errors.UsageError: s3://bucket/cohort and s3://bucket/cohort/ lie in one another; name another place for...
    """
    if is_url(first) and is_url(second):
        one, other = (Address.parse(str(place)).url + "/" for place in (first, second))
        if one.startswith(other) or other.startswith(one):
            raise UsageError(f"{first} and {second} lie in one another; name another place for what is written")

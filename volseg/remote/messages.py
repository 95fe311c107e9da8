"""Errors of file systems behind a URL, as a sentence with its cure and without any credential."""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from contextlib import contextmanager

from volseg.errors import RemoteError, VolsegError

_SECRET = re.compile(r"KEY|SECRET|TOKEN|PASSW|CREDENTIAL", re.IGNORECASE)
# Errors by name, since the libraries they come from need not be installed.
_NO_CREDENTIALS = {
    "NoCredentialsError",
    "PartialCredentialsError",
    "CredentialRetrievalError",
    "TokenRetrievalError",
    "SSOTokenLoadError",
    "DefaultCredentialsError",
}
# What a store of the S3 kind says by a code, and its cure.
_EXPIRED = {"ExpiredToken", "ExpiredTokenException", "InvalidToken", "TokenRefreshRequired"}
_OTHER_REGION = {
    "AuthorizationHeaderMalformed",
    "IllegalLocationConstraintException",
    "PermanentRedirect",
    "Redirect",
    "301",
}
_UNREACHABLE = {
    "ClientConnectorError",
    "ClientConnectorDNSError",
    "ClientConnectorCertificateError",
    "ConnectTimeoutError",
    "ConnectionClosedError",
    "ConnectionRefusedError",
    "ConnectionTimeoutError",
    "EndpointConnectionError",
    "HTTPClientError",
    "InvalidEndpointError",
    "ProxyConnectionError",
    "SSLError",
    "ServerTimeoutError",
    "gaierror",
}


@contextmanager
def told(url: str) -> Iterator[None]:
    """Turn any error of a file system into a RemoteError that names the URL and the cure.

    Only calls of the file system belong inside: an error of the local disk is none of a URL.

    >>> with told("s3://bucket/cohort"):
    ...     raise PermissionError("Forbidden")
    Traceback (most recent call last):
    volseg.errors.RemoteError: s3://bucket/cohort: access was denied (Forbidden); the credentials in the environment...
    """
    try:
        yield
    except VolsegError:
        raise
    except Exception as error:
        raise RemoteError(f"{url}: {_sentence(error, url.partition('://')[0])}") from error


def without_secrets(text: str) -> str:
    """Remove the values of environment variables whose names are those of secrets from a text.

    >>> os.environ["EXAMPLE_TOKEN"] = "hunter22"
    >>> without_secrets("bad token hunter22")
    'bad token ***'
    >>> del os.environ["EXAMPLE_TOKEN"]
    """
    for name, value in os.environ.items():
        if len(value) >= 6 and _SECRET.search(name):
            text = text.replace(value, "***")
    return text


def _sentence(error: BaseException, scheme: str) -> str:
    chain = list(_chain(error))
    names = {kind.__name__ for one in chain for kind in type(one).__mro__}
    if isinstance(error, ImportError):
        extra = "'volseg[s3]'" if scheme in ("s3", "s3a") else (re.findall(r"[\w-]+fs\b", str(error)) or ["fsspec"])[0]
        return f"its library is not installed; install it with `pip install {extra}`"
    if isinstance(error, ValueError) and "rotocol not known" in str(error):
        return f"nothing is known of {scheme}:// URLs; s3://bucket/folder and file:///folder are read"
    if names & _NO_CREDENTIALS:
        return (
            "no credentials were found in the environment; set AWS_PROFILE, or AWS_ACCESS_KEY_ID and "
            "AWS_SECRET_ACCESS_KEY, or for a public bucket FSSPEC_S3_ANON=true"
        )
    said = str(getattr(error, "strerror", None) or error).strip()  # without the number that s3fs gives it
    words = without_secrets((said or "no message").splitlines()[0])
    if "ProfileNotFound" in names:
        return f"{words}; correct AWS_PROFILE, or add the profile to ~/.aws/config"
    if isinstance(error, ValueError) and "nvalid endpoint" in str(error):
        return f"{words}; AWS_ENDPOINT_URL must be a URL such as https://store.example.org:9000, correct it"
    codes = {_code(one) for one in chain}
    if codes & _EXPIRED:
        return f"the credentials in the environment are valid no longer ({words}); renew them"
    if "RequestTimeTooSkewed" in codes:
        return f"the store refuses the clock of this machine ({words}); set the clock"
    if codes & _OTHER_REGION:
        return f"the bucket is in another region ({words}); set AWS_DEFAULT_REGION to that of the bucket"
    if isinstance(error, PermissionError):
        return f"access was denied ({words}); the credentials in the environment lack the right, or are wrong"
    if isinstance(error, FileNotFoundError):
        return "there is nothing of this name; check bucket and folder"
    if names & _UNREACHABLE or isinstance(error, (ConnectionRefusedError, TimeoutError)):
        return "cannot be reached; check the network, and AWS_ENDPOINT_URL where the store is your own"
    return f"the transfer stopped ({type(error).__name__}: {words}); run again, what has come is kept"


def _code(error: BaseException) -> str:
    """The code in the answer of a store of the S3 kind; empty if the error holds no answer."""
    answer = getattr(error, "response", None)
    told_error = answer.get("Error") if isinstance(answer, Mapping) else None
    return str(told_error.get("Code", "")) if isinstance(told_error, Mapping) else ""


def _chain(error: BaseException | None) -> Iterator[BaseException]:
    seen: set[int] = set()
    while error is not None and id(error) not in seen:
        seen.add(id(error))
        yield error
        error = error.__cause__ or error.__context__

"""Kaggle's own program fetches the archive of a competition, with the user's own token."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

from volseg.datasets.transfer import Progress
from volseg.errors import RemoteError
from volseg.remote import without_secrets

_LOOK_EVERY_S = 0.5


def download_competition(competition: str, folder: Path, *, file: str, progress: Progress | None = None) -> Path:
    """Download the archive of a competition with `kaggle competitions download`.

    The program finds the token where Kaggle's own pages say: volseg never reads it. A second call goes on where the
    program can.

    Args:
        competition: Name of the competition in its URL.
        folder: Folder for the archive.
        file: Name of the archive.
        progress: Function that is called with the number of bytes that have come, twice, since the size is not known.

    Raises:
        RemoteError: The program is not installed, the token is missing, or the rules were not accepted.
    """
    program = shutil.which("kaggle", path=os.pathsep.join([str(Path(sys.executable).parent), os.environ["PATH"]]))
    if program is None:
        raise RemoteError("Kaggle's program is not installed; `pip install 'volseg[fetch]'` brings it")
    words = [program, "competitions", "download", competition, "-p", str(folder)]
    with tempfile.TemporaryFile() as told:
        process = subprocess.Popen(words, stdin=subprocess.DEVNULL, stdout=told, stderr=subprocess.STDOUT)
        try:
            while True:
                try:
                    code = process.wait(_LOOK_EVERY_S)
                    break
                except subprocess.TimeoutExpired:
                    if progress and (folder / file).is_file():
                        have = (folder / file).stat().st_size
                        progress(have, have)
        except BaseException:
            process.terminate()
            process.wait()
            raise
        told.seek(0)
        text = told.read().decode(errors="replace")
    if code != 0 or not (folder / file).is_file():
        raise RemoteError(_reason(text, competition))
    return folder / file


def _reason(text: str, competition: str) -> str:
    """What Kaggle's program says, with the cure.

    >>> _reason("403 Client Error: Forbidden for url", "a-competition")[:39]
    'Kaggle refuses: accept the rules of the'
    """
    low = text.lower()
    if "403" in low or "forbidden" in low:
        page = f"https://www.kaggle.com/competitions/{competition}/rules"
        return f"Kaggle refuses: accept the rules of the competition at {page}, then run again"
    if any(word in low for word in ("max retries", "failed to resolve", "connection", "timed out", "proxyerror")):
        return "Kaggle cannot be reached from here"
    if any(word in low for word in ("401", "unauthorized", "kaggle.json", "authenticat", "credential", "api token")):
        return (
            "Kaggle's program found no valid token: run `kaggle auth login`, or make a token at "
            "https://www.kaggle.com/settings/api and put it into KAGGLE_API_TOKEN or ~/.kaggle/access_token"
        )
    lines = [line for line in text.strip().splitlines() if line.strip()]
    return f"Kaggle's program stopped: {without_secrets(lines[-1]) if lines else 'it said nothing'}"

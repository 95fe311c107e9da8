"""`volseg serve` in a process of its own, and the requests that MONAI Label's client sends it."""

from __future__ import annotations

import hashlib
import json
import signal
import socket
import subprocess
import time
import urllib.request
from collections.abc import Sequence
from email.message import EmailMessage
from email.parser import BytesParser
from pathlib import Path
from typing import Any

START_S = 300


class Server:
    """The command in a process of its own."""

    def __init__(self, python: Path, cohort: Path, *words: str, given: Sequence[str] = ("hippocampus",)) -> None:
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]
        command = "from volseg.cli import main; main()"
        options = ["--cohort", str(cohort), "--port", str(self.port), *words]
        self.log = (cohort.parent / f"server_{self.port}.txt").open("w+")
        self.process = subprocess.Popen(
            [python, "-c", command, "serve", *given, *options], stdout=self.log, stderr=subprocess.STDOUT
        )
        self.url = f"http://127.0.0.1:{self.port}"
        end = time.monotonic() + START_S
        while True:
            try:
                with urllib.request.urlopen(f"{self.url}/auth/", timeout=5):
                    return
            except OSError:
                assert self.process.poll() is None, self.told()
                assert time.monotonic() < end, self.told()
                time.sleep(0.3)

    def ask(self, way: str, path: str, body: bytes | None = None, kind: str = "application/json"):
        request = urllib.request.Request(f"{self.url}{path}", body, {"Content-Type": kind}, method=way)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

    def told(self) -> str:
        self.log.flush()
        return Path(self.log.name).read_text()

    def kill(self) -> None:
        self.process.send_signal(signal.SIGKILL)
        self.process.wait()
        until(self.is_gone)
        self.log.close()

    def is_gone(self) -> bool:
        with socket.socket() as asked:
            return asked.connect_ex(("127.0.0.1", self.port)) != 0


def state(folder: Path) -> dict[str, str]:
    """Digests of all that readers of a cohort see."""
    files = [path for path in sorted(folder.rglob("*")) if path.is_file() and ".volseg" not in path.parts]
    return {str(path.relative_to(folder)): hashlib.sha256(path.read_bytes()).hexdigest() for path in files}


def until(true, seconds: float = 300.0):
    end = time.monotonic() + seconds
    while not true():
        assert time.monotonic() < end
        time.sleep(0.2)


class ClientOfMonaiLabel:
    """The requests of `monailabel.client.MONAILabelClient` 0.8.5, recorded from it, byte for byte but for the host.

    It sends a client_id only if it is given one, the local path of a file as its name, and the same boundary always.
    """

    _LIMIT = "----------lImIt_of_THE_fIle_eW_$"

    def __init__(self, url: str, client_id: str = "") -> None:
        self.url, self._who = url, {"client_id": client_id} if client_id else {}

    def info(self) -> Any:
        return self._asked("GET", "/info/")

    def datastore(self) -> Any:
        return self._asked("GET", "/datastore/?output=all")

    def next_sample(self, strategy: str) -> Any:
        return self._asked("POST", f"/activelearning/{strategy}", self._who)

    def infer(self, model: str, image: str, **params: Any) -> tuple[bytes, dict[str, Any]]:
        """The file of the answer, and its parameters."""
        body, kind = self._multipart({"params": json.dumps({**params, **self._who})}, {})
        request = urllib.request.Request(
            f"{self.url}/infer/{model}?image={image}", body, {"content-type": kind}, method="POST"
        )
        with urllib.request.urlopen(request, timeout=120) as answer:
            head = f"Content-Type: {answer.headers['content-type']}\r\n\r\n".encode()
            told = BytesParser(EmailMessage).parsebytes(head + answer.read())
        parts = {
            part.get_param("name", header="content-disposition"): part.get_payload(decode=True)
            for part in told.iter_parts()
        }
        return parts["image"], json.loads(parts["params"])

    def save_label(self, image: str, file: Path, tag: str = "final") -> Any:
        body, kind = self._multipart({"params": json.dumps(self._who)}, {"label": file})
        return self._asked("PUT", f"/datastore/label?image={image}{f'&tag={tag}' if tag else ''}", body, kind)

    def upload_image(self, image: str, file: Path) -> Any:
        body, kind = self._multipart({"params": json.dumps(self._who)}, {"file": file})
        return self._asked("PUT", f"/datastore/?image={image}", body, kind)

    def train_start(self, model: str) -> Any:
        return self._asked("POST", f"/train/{model}", self._who)

    def train_status(self) -> Any:
        return self._asked("GET", "/train/")

    def train_stop(self) -> Any:
        return self._asked("DELETE", "/train/")

    def _multipart(self, fields: dict[str, str], files: dict[str, Path]) -> tuple[bytes, str]:
        body = b""
        for name, value in fields.items():
            body += f'--{self._LIMIT}\r\nContent-Disposition: form-data; name="{name}"\r\n\r\n{value}\r\n'.encode()
        for name, path in files.items():
            body += f'--{self._LIMIT}\r\nContent-Disposition: form-data; name="{name}"; filename="{path}"\r\n'.encode()
            body += b"Content-Type: application/octet-stream\r\n\r\n" + path.read_bytes() + b"\r\n"
        return body + f"--{self._LIMIT}--\r\n\r\n".encode(), f"multipart/form-data; boundary={self._LIMIT}"

    def _asked(self, way: str, path: str, body: Any = None, kind: str = "application/json") -> Any:
        content = json.dumps(body).encode() if isinstance(body, dict) and body else body or None
        headers = {"content-type": kind} if content else {}
        request = urllib.request.Request(f"{self.url}{path}", content, headers, method=way)
        with urllib.request.urlopen(request, timeout=120) as answer:
            return json.loads(answer.read())

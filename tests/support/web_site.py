"""A web server on this machine that knows ranges, and breaks off when it is told to."""

from __future__ import annotations

import http.server
import re
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field


@dataclass
class Site:
    """What the server has and what was asked of it; it closes the connection after `breaks_after` bytes."""

    files: dict[str, bytes] = field(default_factory=dict)
    breaks_after: int | None = None
    ranges: bool = True
    version: str = '"1"'
    asked: list[str | None] = field(default_factory=list)
    port: int = 0

    def url(self, name: str) -> str:
        return f"http://127.0.0.1:{self.port}/{name}"


@contextmanager
def web_site() -> Iterator[Site]:
    """A server on this machine, for as long as the context lasts."""
    here = Site()

    class Handler(http.server.BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            content = here.files.get(self.path.lstrip("/"))
            asked = self.headers.get("Range")
            here.asked.append(asked)
            if content is None:
                self.send_error(404)
                return
            begin = 0
            if asked and here.ranges and self.headers.get("If-Range") == here.version:
                begin = int(re.fullmatch(r"bytes=(\d+)-", asked)[1])  # type: ignore[index]
                if begin >= len(content):
                    self.send_error(416)
                    return
            self.send_response(206 if begin else 200)
            if begin:
                self.send_header("Content-Range", f"bytes {begin}-{len(content) - 1}/{len(content)}")
            self.send_header("ETag", here.version)
            self.send_header("Content-Length", str(len(content) - begin))
            self.end_headers()
            self.wfile.write(content[begin:][: here.breaks_after])

        def log_message(self, *_: object) -> None:
            """Say nothing."""

    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Handler) as server:
        here.port = server.server_port
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield here
        server.shutdown()

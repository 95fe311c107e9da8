"""The server of the demo: the page, the visitors' files, and a filter that refuses all other requests."""

from __future__ import annotations

import contextlib
import ipaddress
import os
import re
import socket
from collections.abc import AsyncIterator, Awaitable, Callable, Collection, MutableMapping
from dataclasses import dataclass
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

from volseg.deploy.demo.abandon import Uploads
from volseg.deploy.demo.page import build
from volseg.deploy.demo.segmentation import VOLUMES, Segmentation, Segmenter
from volseg.deploy.demo.session import Visits
from volseg.errors import UsageError

if TYPE_CHECKING:
    from fastapi import FastAPI
    from fastapi.responses import Response

_Message = MutableMapping[str, Any]
_Receive = Callable[[], Awaitable[_Message]]
_Send = Callable[[_Message], Awaitable[None]]

# Paths that the page needs. Gradio has more, such as one that fetches a URL for anyone.
_ROUTES = re.compile(
    r"/|/(config|theme\.css|favicon\.ico|manifest\.json|robots\.txt)|/(assets|static|viewer|results)/.+|/health"
    r"|/gradio_api/(startup-events|info|app_id|upload|upload_progress|reset|cancel|theme\.css)/?"
    r"|/gradio_api/(queue|heartbeat)/[^/]+"
)
_UPLOAD = "/gradio_api/upload"
_SMALL = 2**20  # bytes of a request that uploads nothing
_ASSETS = {
    "viewer.js": "volseg.pictures/page",
    "viewer.css": "volseg.pictures/page",
    "niivue.umd.js": "volseg.pictures/page",
    "niivue.LICENSE.txt": "volseg.pictures/page",
    "demo.js": "volseg.deploy.demo/assets",
    "demo.css": "volseg.deploy.demo/assets",
}
_KINDS = {".js": "text/javascript", ".css": "text/css", ".txt": "text/plain"}
_HEAD = """
<link rel="stylesheet" href="viewer/viewer.css"><link rel="stylesheet" href="viewer/demo.css">
<script src="viewer/viewer.js"></script><script src="viewer/demo.js"></script>
"""
# Gradio's own scripts are in the page and build functions from text; no other source is allowed.
_POLICY = (
    "default-src 'self'; script-src 'self' 'unsafe-inline' 'unsafe-eval'; style-src 'self' 'unsafe-inline'; "
    "img-src 'self' data: blob:; font-src 'self' data:; connect-src 'self' data: blob:; worker-src 'self' blob:; "
    "object-src 'none'; base-uri 'self'; form-action 'self'; frame-ancestors "
)
_LOCAL = frozenset({"localhost", "127.0.0.1", "::1"})


def asset_bytes(name: str) -> bytes:
    """Read a file that the page asks for, from the package that holds it.

    >>> asset_bytes("demo.css").startswith(b":root")
    True
    """
    package, _, folder = _ASSETS[name].partition("/")
    return (files(package) / folder / name).read_bytes()


def is_local(host: str) -> bool:
    """Whether an address can be reached from this computer alone.

    >>> is_local("127.0.0.1"), is_local("localhost"), is_local("0.0.0.0")
    (True, True, False)
    """
    if host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def make_app(
    segmenter: Segmenter,
    visits: Visits[Segmentation],
    *,
    max_bytes: int,
    local: bool = True,
    names: Collection[str] = (),
    framed_by: str = "'self'",
) -> FastAPI:
    """The whole demo as an ASGI application; when it ends, all visits do.

    Args:
        segmenter: Network, and the cohort if there is one.
        visits: Visits, which keep uploads and results.
        max_bytes: Largest size of an upload in bytes.
        local: Whether only this computer can reach it; then other names for it are refused.
        names: Names by which the computer may be called instead; none for its own names if it is local, else for any.
        framed_by: Sites that may show the page in a frame, as in the header Content-Security-Policy.
    """
    # Gradio reads these when it is imported, and when it makes a page.
    os.environ.update(
        GRADIO_ANALYTICS_ENABLED="False", HF_HUB_DISABLE_TELEMETRY="1", GRADIO_TEMP_DIR=str(visits.uploads)
    )
    import gradio as gr
    from fastapi import FastAPI
    from fastapi.responses import FileResponse, PlainTextResponse, Response

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        visits.close()

    app = FastAPI(lifespan=lifespan, docs_url=None, redoc_url=None, openapi_url=None)

    def asset(name: str) -> Response:
        if name not in _ASSETS:
            return PlainTextResponse("not found", 404)
        return Response(asset_bytes(name), media_type=_KINDS[Path(name).suffix], headers={"Cache-Control": "no-cache"})

    def fetch(token: str, name: str) -> Response:
        visit = visits.find(token)
        found = visit.result if visit else None
        if found is None or name not in (*found.files, VOLUMES) or not (found.folder / name).is_file():
            return PlainTextResponse("This result is no longer kept; segment again", 404)
        return FileResponse(found.folder / name, filename=name, headers={"Cache-Control": "no-store"})

    def health() -> Response:
        return PlainTextResponse("ok")

    app.add_api_route("/viewer/{name}", asset, response_model=None)
    app.add_api_route("/results/{token}/{name}", fetch, response_model=None)
    app.add_api_route("/health", health, response_model=None)
    gr.mount_gradio_app(
        app,
        build(segmenter, visits, max_bytes=max_bytes, local=local),
        path="/",
        theme=gr.themes.Base(font=["system-ui", "sans-serif"], font_mono=["ui-monospace", "monospace"]),
        head=_HEAD,
        footer_links=[],
        run_history=False,  # it would keep results in the browser
        ssr_mode=False,
        mcp_server=False,
        pwa=False,
        enable_monitoring=False,
        show_error=False,
        allowed_paths=[],
        max_file_size=max_bytes,
    )
    app.state.gradio = app.routes[-1].app
    hosts = frozenset(names) or (_LOCAL if local else None)
    app.add_middleware(
        Door, max_bytes=max_bytes, hosts=hosts, framed_by=framed_by, uploads=Uploads(visits.uploads.resolve())
    )
    return app


@dataclass
class Door:
    """A filter that passes the requests that the page needs, and forbids browsers to load anything from elsewhere.

    Attributes:
        app: Application behind the filter.
        max_bytes: Largest size of an upload in bytes.
        hosts: Names by which the computer may be called, against pages that point a name of theirs to it; None for any.
        framed_by: Sites that may show the page in a frame.
        uploads: Uploads under way: one that breaks off leaves nothing.
    """

    app: Callable[[_Message, _Receive, _Send], Awaitable[None]]
    max_bytes: int
    hosts: frozenset[str] | None
    framed_by: str
    uploads: Uploads | None = None

    async def __call__(self, scope: _Message, receive: _Receive, send: _Send) -> None:
        """Answer a request."""
        if scope["type"] == "lifespan":
            await self.app(scope, receive, send)
            return
        if scope["type"] != "http":
            await send({"type": "websocket.close", "code": 1008})
            return
        headers = {name.lower(): value.decode("latin-1") for name, value in scope["headers"]}
        uploads = self.uploads if scope["path"].rstrip("/") == _UPLOAD else None
        limit = self.max_bytes + _SMALL if scope["path"].rstrip("/") == _UPLOAD else _SMALL
        length = headers.get(b"content-length", "0")
        if not _ROUTES.fullmatch(scope["path"]):
            await _refuse(send, 404, "not found")
        elif self.hosts is not None and _host(headers.get(b"host", "")) not in self.hosts:
            await _refuse(send, 421, "open the page by the address that volseg printed")
        elif not length.isdigit() or int(length) > limit:
            await _refuse(send, 413, f"more than {limit} bytes")
        elif uploads is not None:
            from starlette.requests import ClientDisconnect

            upload = object()
            try:
                watched = uploads.watching(_limited(receive, limit), upload)
                with contextlib.suppress(ClientDisconnect):  # nobody is there to be told
                    await self.app(scope, watched, self._with_headers(send))
            finally:
                uploads.ended(upload)
        else:
            await self.app(scope, _limited(receive, limit), self._with_headers(send))

    def _with_headers(self, send: _Send) -> _Send:
        own = {
            b"content-security-policy": (_POLICY + self.framed_by).encode(),
            b"x-content-type-options": b"nosniff",
            b"referrer-policy": b"no-referrer",
        }

        async def sending(message: _Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message.get("headers", []), *own.items()]}
            await send(message)

        return sending


def serve(app: FastAPI, listening: socket.socket) -> None:
    """Serve until Ctrl-C or SIGTERM."""
    import uvicorn

    class Server(uvicorn.Server):  # type: ignore[misc]  # uvicorn counts as untyped
        """Uvicorn waits for open connections; of these a page keeps one until Gradio is told of the end."""

        async def shutdown(self, sockets: list[socket.socket] | None = None) -> None:
            app.state.gradio.stop_event.set()
            await super().shutdown(sockets)

    config = uvicorn.Config(app, log_level="warning", access_log=False, timeout_graceful_shutdown=2, lifespan="on")
    Server(config).run(sockets=[listening])


def listen(host: str, port: int) -> socket.socket:
    """Open a socket at an address; port 0 takes a free one.

    Raises:
        UsageError: The address cannot be used.
    """
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        return socket.create_server((host, port), family=family)
    except OSError as error:
        raise UsageError(
            f"{host}:{port} cannot be listened at ({error.strerror}); name another --port or --host"
        ) from error


def address(listening: socket.socket) -> str:
    """The address of the page for a browser."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def _host(header: str) -> str:
    """The name in a Host header, without its port.

    >>> _host("localhost:7860"), _host("[::1]:7860")
    ('localhost', '::1')
    """
    return header.partition("]")[0].removeprefix("[") if header.startswith("[") else header.partition(":")[0]


def _limited(receive: _Receive, limit: int) -> _Receive:
    """Pass the same messages; a body that exceeds the limit ends as if the sender had disconnected."""
    got = 0

    async def receiving() -> _Message:
        nonlocal got
        message = await receive()
        got += len(message.get("body", b""))
        return {"type": "http.disconnect"} if got > limit else message

    return receiving


async def _refuse(send: _Send, status: int, reason: str) -> None:
    await send({"type": "http.response.start", "status": status, "headers": [(b"content-type", b"text/plain")]})
    await send({"type": "http.response.body", "body": reason.encode()})

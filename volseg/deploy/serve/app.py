"""The HTTP contract of MONAI Label, as its plug-in for 3D Slicer and its client speak it."""

import contextlib
import hmac
import json
import shutil
import tempfile
import time
import uuid
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator
from pathlib import Path
from typing import Annotated, Any

from fastapi import FastAPI, File, Form, Request, UploadFile
from fastapi.responses import FileResponse, JSONResponse, PlainTextResponse, Response
from starlette.background import BackgroundTask
from starlette.concurrency import run_in_threadpool
from starlette.middleware.trustedhost import TrustedHostMiddleware

import volseg
from volseg.deploy.serve.received import received_image
from volseg.deploy.serve.service import Service
from volseg.deploy.serve.sessions import NotFoundError
from volseg.deploy.serve.shown import client_of
from volseg.deploy.serve.training import BusyError
from volseg.errors import VolsegError

LOCAL = ("localhost", "127.0.0.1", "[::1]")
_OPEN = ("/auth", "/docs", "/openapi.json")


def make_app(
    service: Service, *, token: str = "", hosts: tuple[str, ...] = ("localhost", "127.0.0.1", "[::1]")
) -> FastAPI:
    """The server as an ASGI application; when it ends, so does its training.

    Args:
        service: What it does.
        token: Word that every request must bear; empty for none, which is for this computer alone.
        hosts: Names by which the computer may be called.
    """

    @contextlib.asynccontextmanager
    async def lifespan(_: FastAPI) -> AsyncIterator[None]:
        yield
        service.close()

    handed = Handed()
    app = FastAPI(title="volseg", version=volseg.__version__, lifespan=lifespan, redoc_url=None)
    app.add_middleware(TrustedHostMiddleware, allowed_hosts=list(hosts))

    @app.middleware("http")
    async def guard(request: Request, following: Callable[[Request], Awaitable[Response]]) -> Response:
        if not (request.url.path.startswith(_OPEN) or _bears(request, token) or handed.has(request)):
            return JSONResponse({"detail": "the token is missing or wrong"}, 401)
        return await following(request)

    @app.exception_handler(VolsegError)
    async def refuse(_: Request, error: VolsegError) -> Response:
        code = 404 if isinstance(error, NotFoundError) else 429 if isinstance(error, BusyError) else 400
        return JSONResponse({"detail": str(error)}, code)

    _add_cases(app, service)
    _add_work(app, service, handed)
    _add_sessions(app, service)

    @app.get("/auth/")
    def auth() -> dict[str, bool]:
        return {"enabled": bool(token)}

    @app.post("/auth/token")
    def auth_token(username: str = Form(""), password: str = Form("")) -> Response:
        if token and not hmac.compare_digest(password.encode(), token.encode()):
            return JSONResponse({"detail": "the token is wrong"}, 401)
        return JSONResponse({"access_token": password, "token_type": "bearer", "username": username})

    @app.get("/auth/token/valid")
    def auth_valid(request: Request) -> Response:
        return JSONResponse({}, 200 if _bears(request, token) else 401)

    return app


class Handed:
    """The cases that computers were given a moment ago, whose images they may fetch once without the token.

    MONAI Label's plug-in for 3D Slicer sends the token with every request but that for the image of the next case.
    Through a proxy all computers look like one, so nothing is fetched without the token there.

    Args:
        clock: Function that gives the time in seconds.
    """

    SECONDS = 60.0

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._at: dict[tuple[str, str], float] = {}

    def add(self, request: Request, key: str) -> None:
        """Note that the computer of a request was given a case."""
        now = self._clock()
        self._at = {pair: at for pair, at in self._at.items() if now - at < self.SECONDS}
        if key and request.client is not None and not _by_proxy(request):
            self._at[request.client.host, key] = now

    def has(self, request: Request) -> bool:
        """Whether a request is the first one for the image of a case that its computer was given a moment ago."""
        if request.method != "GET" or request.url.path != "/datastore/image" or request.client is None:
            return False
        if _by_proxy(request):
            return False
        at = self._at.pop((request.client.host, request.query_params.get("image", "")), None)
        return at is not None and self._clock() - at < self.SECONDS


def _bears(request: Request, token: str) -> bool:
    """Whether a request bears the token, or none is asked for."""
    given = request.headers.get("authorization", "").rpartition(" ")[2]
    return not token or hmac.compare_digest(given.encode(), token.encode())


def _by_proxy(request: Request) -> bool:
    """Whether a request says that another computer passed it on."""
    return any(name in request.headers for name in ("forwarded", "via", "x-forwarded-for", "x-real-ip"))


def _add_cases(app: FastAPI, service: Service) -> None:
    """What there is: cases, images, labels."""

    @app.get("/info/")
    def info() -> dict[str, Any]:
        return service.info()

    @app.get("/datastore/")
    def datastore(output: str = "stats") -> Any:  # noqa: ANN401 - a list or an object
        if output == "all":
            return service.datastore()
        return service.status()["train"] if output == "train" else service.status()

    @app.put("/datastore/", include_in_schema=False)
    @app.put("/datastore/image")
    def add_image(file: Annotated[UploadFile, File()], image: str = "") -> dict[str, str]:
        with _received(file) as path:
            key = image or Path(file.filename or "").name.partition(".")[0]
            return {"image": service.add_image(key, received_image([path]))}

    @app.get("/datastore/image")
    def image(image: str) -> Response:
        path = service.image(image)
        return FileResponse(path, media_type="application/octet-stream", filename=f"{image}.nii.gz")

    @app.head("/datastore/image")
    def has_image(image: str) -> Response:
        service.image(image)
        return Response()

    @app.get("/datastore/image/info")
    def image_info(image: str) -> dict[str, Any]:
        service.image(image)
        return {"name": f"{image}.nii.gz"}

    @app.put("/datastore/label")
    def save_label(
        image: str, label: Annotated[UploadFile, File()], params: str = Form("{}"), tag: str = "final"
    ) -> dict[str, Any]:
        if tag not in ("", "final"):
            raise VolsegError(f"a label comes home as final, got the tag {tag!r}; leave the tag out")
        with _received(label) as path:
            return service.save_label(image, path, _object(params))

    @app.get("/datastore/label")
    def label(label: str, tag: str = "final") -> Response:
        return _sent(service.label(label, tag), name=label)

    @app.head("/datastore/label")
    def has_label(image: str, tag: str = "final") -> Response:
        service.label(image, tag).unlink()
        return Response()

    @app.get("/datastore/label/info")
    def label_info(label: str, tag: str = "final") -> dict[str, Any]:
        return service.label_info(label, tag)


def _add_work(app: FastAPI, service: Service, handed: Handed) -> None:
    """What is done: the next case, predictions, trainings."""

    @app.post("/activelearning/{strategy}")
    async def next_case(strategy: str, request: Request) -> dict[str, Any]:
        given = _object((await request.body()).decode() or "{}")
        found = await run_in_threadpool(service.next_case, strategy, client_of(given))
        handed.add(request, str(found.get("id", "")))
        return found

    @app.post("/infer/{model}")
    def infer(
        model: str,
        image: str = "",
        session_id: str = "",
        params: str = Form("{}"),
        file: Annotated[UploadFile | None, File()] = None,
        output: str = "all",
    ) -> Response:
        if model != service.name:
            raise NotFoundError(f"there is no model {model}; there is {service.name}")
        given = _object(params)
        ending, client = str(given.get("result_extension", "")), client_of(given)
        if file is not None and not session_id:
            with _received(file) as path:
                session_id = service.sessions.add(received_image([path])).name
                try:
                    found, facts = service.infer("", session=session_id, ending=ending)
                finally:
                    service.sessions.remove(session_id)
        else:
            found, facts = service.infer(image, session=session_id, ending=ending, client=client)
        if output == "json":
            found.unlink()
            return JSONResponse(facts)
        # A key is the name of a file anywhere; what a person calls an image of his own, as `3: AX "T1"`, is not.
        name = image if image and not session_id else "image"
        return _sent(found, name=name) if output == "image" else _with_file(facts, found, name=name)

    @app.post("/batch/infer/{model}")
    def predict_ahead(model: str, images: str = "unlabeled") -> dict[str, Any]:
        if model != service.name:
            raise NotFoundError(f"there is no model {model}; there is {service.name}")
        return service.predict_ahead(images)

    @app.get("/batch/infer")
    def ahead_state(check_if_running: bool = False) -> Response:
        state = service.ahead.state()
        if state is None or (check_if_running and not service.ahead.running):
            return JSONResponse({"detail": "no cases are being predicted"}, 404)
        return JSONResponse(state)

    @app.delete("/batch/infer")
    def stop_ahead() -> dict[str, Any]:
        return service.ahead.stop()

    @app.get("/logs/")
    def logs(lines: int = 300) -> Response:
        text = [*list(service.log)[-lines:], *list(service.training.log)[-lines:]] if lines > 0 else []
        return PlainTextResponse("\n".join([*text, ""]))

    @app.get("/train/")
    def train_state(check_if_running: bool = False) -> Response:
        state = service.training.state()
        if state is None or (check_if_running and not service.training.running):
            return JSONResponse({"detail": "no training is running"}, 404)
        return JSONResponse(state)

    @app.post("/train/", include_in_schema=False)  # all models, of which there is one
    @app.post("/train/{model}")
    async def train(request: Request, model: str = "", enqueue: bool = False) -> dict[str, Any]:
        if (model := model or service.name) != service.name:
            raise NotFoundError(f"there is no model {model}; there is {service.name}")
        given = _object((await request.body()).decode() or "{}")
        return service.training.start(model, given, enqueue=enqueue)

    @app.delete("/train/")
    def stop() -> dict[str, Any]:
        return service.training.stop()


def _add_sessions(app: FastAPI, service: Service) -> None:
    """Images that a client sends for itself."""

    @app.put("/session/")
    def create(files: Annotated[list[UploadFile], File()]) -> dict[str, Any]:
        with _received(*files) as path:
            made = service.sessions.add(received_image(sorted(path.parent.iterdir())))
        return {"session_id": made.name, "session_info": made.to_json()}

    @app.get("/session/{session_id}")
    def session(session_id: str) -> dict[str, Any]:
        return service.sessions.get(session_id).to_json()

    @app.delete("/session/{session_id}")
    def remove(session_id: str) -> dict[str, Any]:
        return service.sessions.remove(session_id).to_json()


@contextlib.contextmanager
def _received(*files: UploadFile) -> Iterator[Path]:
    """What a client sent, in a folder that lasts as long as the block; only the endings of the names are kept."""
    with tempfile.TemporaryDirectory(prefix="volseg-received-") as place:
        for number, file in enumerate(files):
            name = Path(file.filename or "").name
            suffix = ".seg.nrrd" if name.lower().endswith(".seg.nrrd") else "".join(Path(name).suffixes[-2:])
            with (Path(place) / f"file{number or ''}{suffix}").open("wb") as out:
                shutil.copyfileobj(file.file, out)
        yield next(path for path in Path(place).iterdir() if path.name.partition(".")[0] == "file")


def _sent(path: Path, *, name: str) -> Response:
    """A file that is removed once it was sent."""
    ending = path.name.partition(".")[2]
    return FileResponse(
        path,
        media_type="application/octet-stream",
        filename=f"{name}.{ending}",
        background=BackgroundTask(path.unlink, missing_ok=True),
    )


def _with_file(facts: dict[str, Any], path: Path, *, name: str) -> Response:
    """Facts and a file as multipart/form-data: the parts `params` and `image`."""
    boundary = uuid.uuid4().hex
    ending = path.name.partition(".")[2]
    heads = (
        'Content-Disposition: form-data; name="params"\r\nContent-Type: application/json\r\n\r\n',
        f'Content-Disposition: form-data; name="image"; filename="{name}.{ending}"\r\n'
        "Content-Type: application/octet-stream\r\n\r\n",
    )
    parts = (json.dumps(facts).encode(), path.read_bytes())
    path.unlink()
    body = b"".join(
        f"--{boundary}\r\n{head}".encode() + part + b"\r\n" for head, part in zip(heads, parts, strict=True)
    )
    return Response(body + f"--{boundary}--\r\n".encode(), media_type=f"multipart/form-data; boundary={boundary}")


def _object(text: str) -> dict[str, Any]:
    """The JSON object of a request.

    Raises:
        VolsegError: It is none.
    """
    try:
        found = json.loads(text or "{}")
    except ValueError as error:
        raise VolsegError(f"the parameters are no JSON ({error})") from error
    if not isinstance(found, dict):
        raise VolsegError("the parameters must be a JSON object")
    return found

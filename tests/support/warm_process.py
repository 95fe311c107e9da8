"""Processes that begin with the imports done: a server imports once what takes seconds, and forks for each command.

`volseg` and `python` of a `WarmCommands` are small scripts that hand words, directory, environment and the three
streams to the server, pass signals on, and end as the command ends. A command is a process of its own from its first
line on: it may be killed, change directory, fail. What a start costs or loads is tested with real ones.
"""

from __future__ import annotations

import atexit
import contextlib
import gc
import importlib
import json
import os
import random
import runpy
import select
import signal
import socket
import subprocess
import sys
import threading
import types
from pathlib import Path

PRELOAD = ("monai.bundle", "volseg.cli", "volseg.training", "volseg.inference", "volseg.networks", "volseg.transforms")

_SCRIPT = """#!{python} -IS
import json, os, signal, socket, sys

name, words = os.path.basename(sys.argv[0]), sys.argv[1:]
while name == "python" and words[:1] == ["-u"]:
    del words[0]
if name == "python" and (not words or words[0][0] == "-" and words[0] not in ("-m", "-c")):
    os.execv({python!r}, [{python!r}, *sys.argv[1:]])
server = socket.socket(socket.AF_UNIX)
server.connect({address!r})
asked = json.dumps([name, words, os.getcwd(), dict(os.environ)]).encode("utf-8", "surrogateescape")
socket.send_fds(server, [len(asked).to_bytes(8, "big")], [0, 1, 2])
server.sendall(asked)
for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP, signal.SIGUSR1):
    if signal.getsignal(number) != signal.SIG_IGN:
        signal.signal(number, lambda number, frame: server.sendall(bytes([number])))
status = int(server.recv(16) or b"-9")
if status < 0:
    signal.signal(-status, signal.SIG_DFL) if -status != signal.SIGKILL else None
    os.kill(os.getpid(), -status)
os._exit(status)
"""


class WarmCommands:
    """The scripts of a server, which is started at once and ends with `close`, or with the process that started it.

    Args:
        folder: Folder for the scripts and the server's socket.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder / "bin"
        self.folder.mkdir(parents=True)
        self.python, self.volseg = self.folder / "python", self.folder / "volseg"
        address = str(folder / "s")
        for script in (self.python, self.volseg):
            script.write_text(_SCRIPT.format(python=sys.executable, address=address))
            script.chmod(0o755)
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        words = [sys.executable, str(Path(__file__).resolve()), address]
        piped = subprocess.PIPE
        self._server = subprocess.Popen(words, env=environment, stdin=piped, stdout=piped, start_new_session=True)
        stream = self._server.stdout
        if stream is None or stream.readline() != b"ready\n":
            raise RuntimeError("the server of warm processes did not start")

    @property
    def path(self) -> str:
        """PATH with the scripts first, then the commands of this Python."""
        return os.pathsep.join((str(self.folder), str(Path(sys.executable).parent), os.environ["PATH"]))

    def close(self) -> None:
        """End the server; commands that still run are killed by their keepers."""
        self._server.kill()
        self._server.communicate()


def serve(address: str) -> tuple[str, list[str]]:
    """Wait for commands; returns in the process that is to run one, with its name and words."""
    for name in PRELOAD:
        importlib.import_module(name)
    gc.collect()
    gc.freeze()  # what is loaded stays on pages that the processes share
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(address)
    listener.listen(64)
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    os.write(sys.stdout.fileno(), b"ready\n")
    while True:
        if sys.stdin.fileno() in select.select([listener, sys.stdin], [], [])[0]:
            os._exit(0)
        connection, _ = listener.accept()
        if os.fork() == 0:
            signal.signal(signal.SIGCHLD, signal.SIG_DFL)
            listener.close()
            return _keep(connection)
        connection.close()


def _keep(connection: socket.socket) -> tuple[str, list[str]]:
    """Run the command in a process of its own, and pass signals to it and its end back; returns in that process."""
    size, streams, _, _ = socket.recv_fds(connection, 8, 3)
    asked = b""
    while len(asked) < int.from_bytes(size, "big"):
        asked += connection.recv(1 << 20)
    name, words, directory, environment = json.loads(asked.decode("utf-8", "surrogateescape"))
    process = os.fork()
    if process == 0:
        connection.close()
        for number, stream in enumerate(streams):
            os.dup2(stream, number)
            os.close(stream)
        os.chdir(directory)
        os.environ.clear()
        os.environ.update(environment)
        return name, words
    for stream in (0, 1, 2, *streams):
        os.close(stream)
    ended = os.pidfd_open(process)
    while True:
        ready = select.select([connection, ended], [], [])[0]
        if ended in ready:
            status = os.waitstatus_to_exitcode(os.waitpid(process, 0)[1])
            with contextlib.suppress(OSError):
                connection.sendall(str(status).encode())
            os._exit(0)
        if numbers := connection.recv(1):
            os.kill(process, numbers[0])
        else:  # the script was killed
            os.kill(process, signal.SIGKILL)
            os.waitpid(process, 0)
            os._exit(0)


def run(name: str, words: list[str]) -> None:
    """Be the command: `volseg`, or `python -m MODULE`, `python -c CODE`, `python FILE`."""
    for loaded in ("numpy.random", "random"):
        sys.modules.get(loaded, random).seed()
    sys.path[0] = ""
    sys.path[1:1] = [place for place in os.environ.get("PYTHONPATH", "").split(os.pathsep) if place]
    if name == "volseg":
        from volseg.cli import main

        sys.argv = [name, *words]
        sys.path[0] = str(Path(sys.executable).parent)
        sys.exit(main())
    if words[0] == "-m":
        sys.argv = words[1:]
        runpy.run_module(words[1], run_name="__main__", alter_sys=True)
    elif words[0] == "-c":
        sys.argv = ["-c", *words[2:]]
        main_module = sys.modules["__main__"] = types.ModuleType("__main__")
        exec(compile(words[1], "<string>", "exec"), vars(main_module))
    else:
        sys.argv = words
        sys.path[0] = str(Path(words[0]).resolve().parent)
        runpy.run_path(words[0], run_name="__main__")


def end(error: BaseException | None) -> None:
    """End as an interpreter does that `error` has left, but for taking down its modules, which takes seconds here."""
    code = getattr(error, "code", 1) if error is not None else 0
    if isinstance(error, KeyboardInterrupt):
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        os.kill(os.getpid(), signal.SIGINT)
    if error is not None and not isinstance(error, SystemExit):
        sys.excepthook(type(error), error, error.__traceback__)
    elif isinstance(code, str):
        sys.stderr.write(f"{code}\n")
    threading._shutdown()
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        with contextlib.suppress(OSError, ValueError):
            stream.flush()
    os._exit(1 if isinstance(code, str) else int(code or 0) & 0xFF)


if __name__ == "__main__":
    asked = serve(sys.argv[1])
    try:
        run(*asked)
    except BaseException as error:  # noqa: BLE001 - whatever it is, the process ends with it
        end(error)
    end(None)

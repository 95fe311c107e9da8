"""What every benchmark shares: facts of the machine, paired rounds, ratios with their spread, the result's file.

This process stays small (the standard library only), so that the peak memory of the programs it starts is theirs.
"""

from __future__ import annotations

import argparse
import ctypes
import gc
import importlib.metadata
import json
import math
import multiprocessing
import multiprocessing.connection
import os
import platform
import shlex
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from datetime import datetime, timezone
from pathlib import Path
from typing import Any

from harness import cells

ROOT = Path(__file__).resolve().parents[2]
RESULTS = ROOT / "data" / "benchmarks"
SCHEMA = "volseg.benchmark/1"

Values = Mapping[str, float]  # one round of one way: measure to number


class LeftOut(Exception):  # noqa: N818 - no error: a way that this machine cannot go
    """Raised by a way that cannot be measured here; the text says why."""


@dataclass(frozen=True)
class Measure:
    """A number that each round gives; less is better.

    Attributes:
        name: its key in the rounds' values.
        title: heading of its column.
        unit: Unit of the median, or empty.
        digits: decimals of the median.
        compared: whether the ratio to the reference gets a column.
    """

    name: str
    title: str
    unit: str = ""
    digits: int = 1
    compared: bool = True


WALL = Measure("wall_s", "Wall", "s", 2)
CPU = Measure("cpu_s", "CPU", "s", 2)
PEAK = Measure("peak_mib", "Peak memory", "MiB", 0)


def tell(line: str) -> None:
    """Write one line at once."""
    sys.stdout.write(f"{line}\n")
    sys.stdout.flush()


# --- measuring


def run(
    words: Sequence[str | Path],
    *,
    env: Mapping[str, str] | None = None,
    cwd: Path | None = None,
    peer: bool = False,
) -> Values:
    """Run a program to its end: wall seconds, processor seconds with those of its children, peak memory in MiB.

    Args:
        words: the program and its arguments.
        env: added to the environment.
        cwd: its working directory.
        peer: in the environment of peers.

    Raises:
        RuntimeError: it failed; the text ends with what it wrote last.
    """
    with tempfile.TemporaryFile() as log:
        began = time.perf_counter()
        everything = {**(environment_of_peers() if peer else os.environ), **(env or {})}
        everything.pop("PYTHONDONTWRITEBYTECODE", None)  # an installed program has its byte code, and need not compile
        process = subprocess.Popen([str(word) for word in words], stdout=log, stderr=log, env=everything, cwd=cwd)
        _, status, usage = os.wait4(process.pid, 0)
        wall_s = time.perf_counter() - began
        process.returncode = os.waitstatus_to_exitcode(status)
        if process.returncode:
            log.seek(0)
            said = log.read().decode(errors="replace").strip()[-2000:]
            raise RuntimeError(f"{' '.join(map(str, words))} ended with {process.returncode}:\n{said}")
    kib = usage.ru_maxrss / (1024 if sys.platform == "darwin" else 1)
    return {"wall_s": wall_s, "cpu_s": usage.ru_utime + usage.ru_stime, "peak_mib": kib / 1024}


def memory_of(action: Callable[[], object]) -> Values | None:
    """What an action adds to the resident memory of a fresh fork in MiB: at the `peak`, and `kept` beside mapped files.

    The result of the action lives on until `kept` is read. What the fork has left of freed memory is given back first,
    and the action's own before `kept`: otherwise new memory would be taken from it unseen, since glibc is told to hold
    on to freed memory here.

    Returns:
        `peak` and `kept`, or None where Linux's /proc is not there.

    Raises:
        RuntimeError: the action ended the fork.
    """
    if not Path("/proc/self/clear_refs").is_file():
        return None

    def read(name: str) -> float:
        status = Path("/proc/self/status").read_text()
        return int(next(line for line in status.splitlines() if line.startswith(name)).split()[1]) / 1024

    def give_back() -> None:
        gc.collect()
        trim = getattr(ctypes.CDLL(None), "malloc_trim", None)  # glibc's
        if trim:
            trim(0)

    def measure(pipe: multiprocessing.connection.Connection) -> None:
        give_back()
        Path("/proc/self/clear_refs").write_text("5")  # the peak starts anew
        before, own = read("VmRSS"), read("RssAnon")
        result = action()
        peak = read("VmHWM") - before
        give_back()
        pipe.send({"peak": peak, "kept": max(0.0, read("RssAnon") - own)})
        del result

    context = multiprocessing.get_context("fork")
    ours, theirs = context.Pipe()
    process = context.Process(target=measure, args=(theirs,))
    process.start()
    theirs.close()
    try:
        found: Values = ours.recv()
    except EOFError as error:
        process.join()
        raise RuntimeError(f"what was measured ended its process with {process.exitcode}") from error
    process.join()
    return found


def paired(ways: Mapping[str, Callable[[], Values]], *, rounds: int) -> tuple[dict[str, list[Values]], dict[str, str]]:
    """Each way once a round, every second round backwards, so that what drifts on the machine meets all alike.

    A way that cannot be measured here, or fails, is left out. The others are compared with the first, so its error is
    raised.

    Returns:
        The rounds of each way in order, and the ways that were left out with their reasons.
    """
    found: dict[str, list[Values]] = {name: [] for name in ways}
    left_out: dict[str, str] = {}
    for number in range(rounds):
        for name in list(ways) if number % 2 == 0 else list(ways)[::-1]:
            if name in left_out:
                continue
            try:
                values = ways[name]()
            except (LeftOut, RuntimeError) as reason:
                if name == next(iter(ways)):
                    raise
                tell(f"{name} is left out: {reason}")
                left_out[name] = str(reason).splitlines()[0]
                found.pop(name)
                continue
            found[name].append(values)
            told = ", ".join(f"{key} {value:.4g}" for key, value in values.items())
            tell(f"round {number + 1} of {rounds}, {name}: {told}")
    return found, left_out


def ratio(own: Sequence[float], reference: Sequence[float]) -> dict[str, float] | None:
    """The median of the rounds' ratios with the smallest and the largest; None where the reference was ever 0.

    >>> ratio([4.0, 9.0, 8.0], [2.0, 3.0, 2.0])  # 2, 3, 4
    {'median': 3.0, 'low': 2.0, 'high': 4.0}
    """
    if not all(reference):
        return None
    each = [one / other for one, other in zip(own, reference, strict=True)]
    return {"median": statistics.median(each), "low": min(each), "high": max(each)}


# --- the result


def table(
    title: str,
    measures: Sequence[Measure],
    found: Mapping[str, Sequence[Values]],
    *,
    way: str = "Way",
    reference: str | Mapping[str, str] | None = None,
    facts: Mapping[str, Mapping[str, str | float | None]] | None = None,
    left_out: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """One table of a result: every round, the medians, and the ratios to the reference.

    Args:
        title: what was measured.
        measures: the columns.
        found: the rounds of each way, as `paired` gives them.
        way: heading of the first column.
        reference: the way that the others are compared with, or one for each way that is compared.
        facts: further columns of a way, by their headings.
        left_out: ways that were not measured, with their reasons.
    """
    rows = []
    for name, rounds in found.items():
        other = reference.get(name) if isinstance(reference, Mapping) else reference
        values = {one.name: [float(r[one.name]) for r in rounds] for one in measures if one.name in rounds[0]}
        ratios = {}
        if other is not None and other != name:
            for one in measures:
                if one.compared and one.name in values:
                    ratios[one.name] = ratio(values[one.name], [float(r[one.name]) for r in found[other]])
        rows.append(
            {
                "name": name,
                "reference": other if other != name else None,
                "values": values,
                "median": {key: statistics.median(each) for key, each in values.items()},
                "ratio": ratios,
                "facts": dict((facts or {}).get(name, {})),
            }
        )
    return {
        "title": title,
        "way": way,
        "rounds": max((len(rounds) for rounds in found.values()), default=0),
        "measures": [asdict(one) for one in measures],
        "rows": rows,
        "left_out": dict(left_out or {}),
    }


def versions(*packages: str, python: Path | None = None) -> dict[str, str]:
    """The versions of Python and of packages, here or in the environment of another Python."""
    if python is not None:
        code = "import sys; sys.path.insert(0, sys.argv[1]); import json; from harness import measurement as m; "
        code += "print(json.dumps(m.versions(*sys.argv[2:])))"
        words = [str(python), "-c", code, str(ROOT / "benchmarks"), *packages]
        found: dict[str, str] = json.loads(subprocess.run(words, capture_output=True, text=True, check=True).stdout)
        return {name: version for name, version in found.items() if name != "python"}
    found = {"python": platform.python_version()}
    for package in packages:
        try:
            found[package] = importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
    return found


def machine() -> dict[str, Any]:
    """Processor, usable cores, memory, system, GPU, and the load before the benchmark: what else was running."""
    facts = {}
    if Path("/proc/cpuinfo").is_file():
        lines = Path("/proc/cpuinfo").read_text().splitlines()
        facts = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    flags = facts.get("flags", "").split()
    gpu = None
    if shutil.which("nvidia-smi"):
        words = ["nvidia-smi", "--query-gpu=name", "--format=csv,noheader"]
        gpu = ", ".join(subprocess.run(words, capture_output=True, text=True, check=False).stdout.splitlines()) or None
    usable = getattr(os, "sched_getaffinity", lambda _: range(os.cpu_count() or 1))
    return {
        "processor": facts.get("model name") or platform.processor() or platform.machine(),
        "instructions": [flag for flag in ("avx2", "avx512f", "avx512_bf16", "amx_bf16") if flag in flags],
        "cores": len(usable(0)),
        "memory_gib": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "system": f"{platform.system()} {platform.machine()}",
        "gpu": gpu,
        "load": round(os.getloadavg()[0], 1),
    }


def commit() -> dict[str, Any] | None:
    """The commit of this checkout and whether tracked files differ from it; None where git does not know."""
    asked = [["rev-parse", "--short=10", "HEAD"], ["status", "--porcelain", "--untracked-files=no"]]
    said = [
        subprocess.run(["git", "-C", str(ROOT), *words], capture_output=True, text=True, check=False) for words in asked
    ]
    if any(one.returncode for one in said):
        return None
    return {"id": said[0].stdout.strip(), "changed": bool(said[1].stdout.strip())}


def result(
    name: str,
    tables: Sequence[Mapping[str, Any]],
    *,
    quick: bool,
    machine: Mapping[str, Any],
    versions: Mapping[str, str],
    notes: Sequence[str] = (),
) -> dict[str, Any]:
    """The content of a result file; its JSON Schema is `result.schema.json` beside this file."""
    content = {
        "schema": SCHEMA,
        "name": name,
        "quick": quick,
        "measured": datetime.now(timezone.utc).isoformat(timespec="seconds"),
        "commit": commit(),
        "command": os.environ.get("VOLSEG_BENCHMARK") or shlex.join(["python", *sys.argv]),
        "machine": dict(machine),
        "versions": dict(versions),
        "tables": list(tables),
        "notes": list(notes),
    }
    rounded: dict[str, Any] = _rounded(content)
    return rounded


def write(content: Mapping[str, Any]) -> Path:
    """Write a result into `data/benchmarks/NAME.json` and show its tables."""
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{content['name']}.json"
    path.write_text(json.dumps(content, indent=1, allow_nan=False) + "\n", encoding="utf-8")
    tell(f"\n{cells.as_markdown(content)}\nwrote {path}")
    return path


def _rounded(content: Any) -> Any:  # noqa: ANN401 - any JSON
    """Numbers with six significant digits; what is not finite becomes null."""
    if isinstance(content, Mapping):
        return {key: _rounded(value) for key, value in content.items()}
    if isinstance(content, (list, tuple)):
        return [_rounded(value) for value in content]
    if isinstance(content, float):
        return float(f"{content:.6g}") if math.isfinite(content) else None
    return content


def options(name: str, description: str | None) -> argparse.ArgumentParser:
    """The parser of a benchmark with what all of them take."""
    text = (description or "").partition("\n")[0]
    parser = argparse.ArgumentParser(description=text, formatter_class=argparse.ArgumentDefaultsHelpFormatter)
    parser.add_argument("--quick", action="store_true", help="a trial of seconds; its result is never published")
    parser.add_argument(
        "-o", "--output", type=Path, default=RESULTS / name, help="folder for what is made on the way", metavar="FOLDER"
    )
    return parser


def environment_of_peers() -> dict[str, str]:
    """The environment without volseg's choice that idle cores sleep: a peer alone on the machine is faster without it.

    Measured for a training step of volseg's unet on two cores: 1.3 to 1.6 s, and 1.4 to 2.7 s where they sleep.
    """
    return {name: value for name, value in os.environ.items() if name != "OMP_WAIT_POLICY"}


def peer(name: str) -> Path:
    """The Python of a peer's environment, which `run.sh` makes.

    Raises:
        LeftOut: it is not there.
    """
    python = ROOT / "data" / "peers" / name / "bin" / "python"
    if not python.is_file():
        raise LeftOut(f"data/peers/{name} is not there; run.sh makes it")
    return python

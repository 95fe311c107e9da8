"""The pool that reads ahead and writes behind: the same answers, in bounded memory, each failure alone."""

from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from fleet_stub import jobs_in

from volseg.errors import VolsegError
from volseg.jobs import Facts, History, Job, Journal, Serial, WorkerSlot, run_jobs
from volseg.jobs.job import Stages
from volseg.jobs.journal import siblings
from volseg.jobs.pipeline import Pipeline
from volseg.jobs.run import RunResult


@dataclass
class Capitals:
    """A work whose outputs are the inputs in capitals; it fails at the stage that the key names."""

    digest: str = "capitals"
    at_once: int = 0
    most: int = 0
    threads: dict[str, set[int]] = field(default_factory=dict)
    lock: threading.Lock = field(default_factory=threading.Lock)

    def start(self, _: WorkerSlot) -> Capitals:
        return self

    def __call__(self, job: Job) -> Facts:
        return self.write(job, self.compute(job, self.read(job)))

    def read(self, job: Job) -> str:
        with self.lock:
            self.at_once += 1
            self.most = max(self.most, self.at_once)
        self._stage("read", job)
        return job.inputs[0].read_text()

    def compute(self, job: Job, read: str) -> str:
        self._stage("compute", job)
        return read.upper()

    def write(self, job: Job, computed: str) -> Facts:
        self._stage("write", job)
        job.outputs[0].parent.mkdir(exist_ok=True)
        job.outputs[0].write_text(computed)
        with self.lock:
            self.at_once -= 1
        return {"letters": len(computed)}

    def _stage(self, name: str, job: Job) -> None:
        self.threads.setdefault(name, set()).add(threading.get_ident())
        time.sleep(0.002)
        if f"{name}-fails" in job.key:
            with self.lock:
                self.at_once -= 1
            raise VolsegError(f"cannot {name}")
        if f"{name}-full" in job.key:
            raise OSError(28, "No space left on device", str(job.outputs[0]))


def done(place: Path, keys: list[str], pool: Serial | Pipeline, work: Capitals) -> RunResult:
    path = place / "out" / ".volseg" / "capitals.jsonl"
    with Journal(path) as journal:
        history = History(siblings(path))
        return run_jobs(work, jobs_in(place, keys), pool=pool, journal=journal, history=history)


KEYS = ["a", "read-fails", "b", "compute-fails", "c", "write-fails", "d", "e"]


def test_the_outputs_are_those_of_one_case_after_the_other(tmp_path: Path) -> None:
    results, contents = [], []
    for name, work in (("plain", Capitals()), ("ahead", Capitals())):
        pool = Serial(work) if name == "plain" else Pipeline(work)
        results.append(done(tmp_path / name, KEYS, pool, work))
        contents.append({p.name: p.read_bytes() for p in (tmp_path / name / "out").iterdir() if p.is_file()})
    assert contents[0] == contents[1]
    assert sorted(contents[1]) == ["a", "b", "c", "d", "e"]
    for result in results:
        assert (result.done, result.retried, result.by_worker["0"]) == (5, 3, 5)
        assert result.failed == {f"{stage}-fails": f"cannot {stage}" for stage in ("read", "compute", "write")}


def test_each_stage_has_its_thread_and_at_most_three_cases_are_in_hand(tmp_path: Path) -> None:
    work = Capitals()
    done(tmp_path, [f"case{n}" for n in range(12)], Pipeline(work), work)
    threads = [work.threads[stage] for stage in ("read", "compute", "write")]
    assert all(len(of_stage) == 1 for of_stage in threads)
    assert threads[1] == {threading.get_ident()}
    assert len(set.union(*threads)) == 3
    assert 2 <= work.most <= 4  # read ahead, its turn come, computing, writing
    assert work.at_once == 0


def test_one_case_is_enough_and_none_too(tmp_path: Path) -> None:
    work = Capitals()
    assert done(tmp_path, ["a"], Pipeline(work), work).done == 1
    assert done(tmp_path, ["a"], Pipeline(work), work).before == 1


def test_a_full_disk_stops_the_run_which_is_resumed(tmp_path: Path) -> None:
    work = Capitals()
    with pytest.raises(OSError, match="No space left"):
        done(tmp_path, ["a", "b", "write-full", "c", "d", "e"], Pipeline(work), work)
    result = done(tmp_path, ["a", "b", "c", "d", "e"], Pipeline(Capitals()), Capitals())
    assert result.before >= 2
    assert result.before + result.done == 5


def test_a_stop_while_computing_ends_the_threads(tmp_path: Path) -> None:
    class Stopped(Capitals):
        def compute(self, job: Job, read: str) -> str:
            if job.key == "c":
                raise KeyboardInterrupt
            return super().compute(job, read)

    work = Stopped()
    before = threading.active_count()
    with pytest.raises(KeyboardInterrupt):
        done(tmp_path, ["a", "b", "c", "d", "e"], Pipeline(work), work)
    assert threading.active_count() == before
    assert done(tmp_path, ["a", "b", "d", "e"], Pipeline(Capitals()), Capitals()).before >= 1


def test_what_has_stages_is_told_from_what_has_none() -> None:
    assert isinstance(Capitals(), Stages)
    assert not isinstance(Capitals().read, Stages)

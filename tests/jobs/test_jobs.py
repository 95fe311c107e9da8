"""The fleet: every case exactly once, whatever is killed, fails or fills up."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
import sys
import time
from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from fleet_stub import Stub, do_jobs, jobs_in

from volseg.errors import UsageError, VolsegError
from volseg.jobs import Entry, History, Job, Journal, Processes, Serial, WorkerOptions, WorkerPool, run_jobs
from volseg.jobs.journal import siblings
from volseg.jobs.options import Shard

ROOT = Path(__file__).resolve().parents[2]
STUB = ROOT / "tests" / "support" / "fleet_stub.py"


def lines(place: Path) -> list[dict[str, object]]:
    """The journal, each line of which must be whole."""
    text = (place / "out" / ".volseg" / "stub.jsonl").read_text()
    return [json.loads(line) for line in text.splitlines()]


def outputs(place: Path) -> dict[str, str]:
    return {path.name: path.read_text() for path in (place / "out").iterdir() if path.is_file()}


def attempts(place: Path) -> dict[str, int]:
    return {path.name: path.stat().st_size for path in (place / "calls").iterdir()}


@pytest.mark.parametrize("pool", [Serial(), Processes(2)], ids=["serial", "processes"])
def test_each_failure_is_isolated_and_tried_once_more(
    tmp_path: Path, pool: WorkerPool, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = jobs_in(tmp_path, ["a", "bad", "b", "flaky", "c"])
    result = do_jobs(tmp_path, jobs, pool)
    assert (result.done, result.failed, result.retried) == (4, {"bad": "the image is no image"}, 2)
    assert caplog.text.count("bad: the image is no image") == 1, "the second attempt refers to the first"
    assert "bad: failed again in the same way" in caplog.text
    assert outputs(tmp_path) == {key: f"TEXT OF {key.upper()}" for key in ("a", "b", "c", "flaky")}
    told = {line["key"]: line for line in lines(tmp_path)}
    assert len(told) == len(lines(tmp_path)) == 5  # one line a case
    assert (told["flaky"]["attempt"], told["bad"]["attempt"], told["a"]["attempt"]) == (2, 2, 1)
    assert told["bad"]["error"] == "the image is no image"
    assert told["a"]["facts"] == {"letters": 9}
    assert attempts(tmp_path) == {"a": 1, "b": 1, "c": 1, "flaky": 2, "bad": 2}


def test_a_dead_worker_costs_an_attempt_and_its_case_goes_to_another(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, ["a", "mortal", "b", "deadly", "c"])
    result = do_jobs(tmp_path, jobs, Processes(2))
    assert (result.done, result.deaths) == (4, 3)
    assert result.failed == {"deadly": "the worker died (SIGKILL, as for lack of memory)"}
    assert outputs(tmp_path).keys() == {"a", "b", "c", "mortal"}  # and nothing half written
    assert attempts(tmp_path) == {"a": 1, "b": 1, "c": 1, "mortal": 2, "deadly": 2}


def test_a_death_does_not_end_a_case_that_failed_once(tmp_path: Path) -> None:
    result = do_jobs(tmp_path, jobs_in(tmp_path, ["a", "unlucky", "b", "bad"]), Processes(2))
    assert (result.done, result.deaths, result.retried) == (3, 1, 2)
    assert result.failed.keys() == {"bad"}
    assert attempts(tmp_path) == {"a": 1, "b": 1, "unlucky": 3, "bad": 2}
    assert {line["key"]: line["attempt"] for line in lines(tmp_path)}["unlucky"] == 3


def test_a_second_run_does_what_is_new_changed_damaged_or_failed(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, ["a", "b", "c", "d", "bad"])
    do_jobs(tmp_path, jobs, Serial())
    (tmp_path / "in" / "b").write_text("another text")
    (tmp_path / "out" / "c").unlink()
    (tmp_path / "out" / "d").write_text("torn")
    result = do_jobs(tmp_path, jobs_in(tmp_path, ["a", "b", "c", "d", "bad", "e"]), Serial())
    assert (result.before, result.done, list(result.failed)) == (1, 4, ["bad"])
    assert outputs(tmp_path)["b"] == "ANOTHER TEXT"
    assert outputs(tmp_path)["d"] == "TEXT OF D"
    assert do_jobs(tmp_path, jobs[:4], Processes(64)).before == 4  # and no process is started for nothing


def test_other_work_does_everything_anew_and_its_forerunner_is_no_longer_believed(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, ["a", "b"])
    do_jobs(tmp_path, jobs, Serial())
    with pytest.raises(VolsegError, match="no checkpoint"):
        do_jobs(tmp_path, jobs, Serial(), digest="cannot start")
    result = do_jobs(tmp_path, jobs, Serial())
    assert (result.before, result.done) == (1, 1)  # the first had been taken away already
    assert do_jobs(tmp_path, jobs, Serial(), digest="other").done == 2


def test_a_case_is_done_anew_if_what_is_read_beside_its_files_changes(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, ["a", "b"])
    do_jobs(tmp_path, jobs, Serial())
    changed = [replace(jobs[0], facts="read in another way"), jobs[1]]
    result = do_jobs(tmp_path, changed, Serial())
    assert (result.before, result.done) == (1, 1)
    assert attempts(tmp_path) == {"a": 2, "b": 1}
    assert do_jobs(tmp_path, changed, Serial()).before == 2


def test_workers_that_cannot_start_stop_the_run(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, ["a", "b"])
    with pytest.raises(VolsegError, match="cannot start: there is no checkpoint"):
        do_jobs(tmp_path, jobs, Processes(2), digest="cannot start")
    with pytest.raises(VolsegError, match="every worker died while it loaded"):
        do_jobs(tmp_path, jobs, Processes(2), digest="dies at start")


@pytest.mark.parametrize("pool", [Serial(), Processes(1)], ids=["serial", "processes"])
def test_a_full_disk_stops_the_run_which_goes_on_later(tmp_path: Path, pool: WorkerPool) -> None:
    keys = ["a", "b", "full", "c"]
    with pytest.raises(OSError, match=r"No space left on device: .*full"):
        do_jobs(tmp_path, jobs_in(tmp_path, keys), pool)
    assert outputs(tmp_path).keys() == {"a", "b"}
    result = do_jobs(tmp_path, jobs_in(tmp_path, ["a", "b", "c"]), Serial())
    assert (result.before, result.done) == (2, 1)


def test_a_full_disk_under_the_journal_is_told_by_its_name() -> None:
    if not Path("/dev/full").exists():
        pytest.skip("this system has no /dev/full")
    journal = Journal(Path("/dev/full"))
    with pytest.raises(OSError, match="No space left on device: '/dev/full'"):
        journal.add(Entry("a", "w", "i"))
    journal.close()


def test_an_output_folder_that_cannot_be_written_stops_the_run(tmp_path: Path) -> None:
    jobs = jobs_in(tmp_path, ["a", "b"])
    (tmp_path / "blocked").write_text("a file, not a folder")
    blocked = [Job(job.key, job.inputs, (tmp_path / "blocked" / job.key,)) for job in jobs]
    with pytest.raises(OSError, match="blocked"):
        do_jobs(tmp_path, blocked, Serial())
    if os.geteuid() == 0:
        return  # for root nothing is read-only
    (tmp_path / "out").chmod(0o500)
    with pytest.raises(OSError, match="Permission denied"):
        do_jobs(tmp_path, jobs, Serial())


def test_a_torn_last_line_is_cut_and_a_damaged_one_counts_for_nothing(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    jobs = jobs_in(tmp_path, ["a", "b", "c"])
    do_jobs(tmp_path, jobs, Serial())
    path = tmp_path / "out" / ".volseg" / "stub.jsonl"
    whole = path.read_bytes().splitlines(keepends=True)
    path.write_bytes(whole[0] + b'{"key": "b", "rubbish"}\n' + whole[2][:-1])
    result = do_jobs(tmp_path, jobs, Serial())
    assert (result.before, result.done) == (1, 2)
    assert "1 damaged lines" in caplog.text
    for cut in range(0, len(whole[2]), 17):
        path.write_bytes(whole[0] + whole[2][:cut])
        with Journal(path):
            assert path.read_bytes() == whole[0]
        assert len(History([path])) == 1


@pytest.mark.parametrize("content", ["dear diary", '{"labels": {"background": 0}}', '{\n "labels": {}\n}\n', "\n"])
def test_what_is_no_journal_is_not_written_to(tmp_path: Path, content: str) -> None:
    """`--journal COHORT/dataset.json` emptied that file: its only line had no end, as one that a kill has torn."""
    path = tmp_path / "notes.txt"
    path.write_text(content)
    with pytest.raises(UsageError, match="no journal"):
        Journal(path)
    assert path.read_text() == content
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("folder", [".", "", "out"])
def test_a_folder_is_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, folder: str) -> None:
    """It ended with an unexpected ValueError, or as a full disk does."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "out").mkdir()
    with pytest.raises(UsageError, match="--journal must be a file, got the folder "):
        WorkerOptions.parse(journal=Path(folder))


@pytest.mark.parametrize("torn", [b"", b"{", b'{"ke'])
def test_a_journal_whose_first_line_is_torn_begins_again(tmp_path: Path, torn: bytes) -> None:
    path = tmp_path / "journal.jsonl"
    path.write_bytes(torn)
    with Journal(path) as journal:
        journal.add(Entry("a", "w", "i"))
    assert len(History([path])) == 1


def test_two_runs_do_not_write_one_journal(tmp_path: Path) -> None:
    with Journal(tmp_path / "a.jsonl"), pytest.raises(UsageError, match="another run"):
        Journal(tmp_path / "a.jsonl")
    with Journal(tmp_path / "a.jsonl"):
        pass


def test_shards_part_the_cases_and_know_of_each_other(tmp_path: Path) -> None:
    keys = [f"case{number}" for number in range(300)]
    shards = [Shard.parse(f"{number}/7") for number in range(7)]
    owners = Counter(shard.number for key in keys for shard in shards if key in shard)
    assert sum(owners.values()) == 300
    assert min(owners.values()) > 25
    assert [shard.number for shard in shards if "case123_day20" in shard] == [4]  # on every machine, for ever
    for wrong in ("7/7", "1", "-1/2", "a/b", "0/0"):
        with pytest.raises(UsageError, match="0 to N - 1"):
            Shard.parse(wrong)
    folder = tmp_path / "out" / ".volseg"
    jobs = jobs_in(tmp_path, keys[:20])
    for shard in shards:
        path = folder / f"stub{shard.suffix}.jsonl"
        mine = [job for job in jobs if job.key in shard]
        with Journal(path) as journal:
            done = run_jobs(
                Stub(tmp_path / "calls"), mine, pool=Serial(), journal=journal, history=History(siblings(path))
            )
        assert (done.before, done.done) == (0, len(mine))
    assert do_jobs(tmp_path, jobs, Serial()).before == 20  # another number of shards does nothing twice


def test_a_job_array_is_one_shard_a_task(tmp_path: Path) -> None:
    """With any first index and step, and without SLURM; `volseg` here only tells its words."""
    fake = tmp_path / "volseg"
    fake.write_text('#!/bin/sh\necho "$@"\n')
    fake.chmod(0o755)
    script = ROOT / "scripts" / "slurm_predict.sh"
    path = {"PATH": f"{tmp_path}:{os.environ['PATH']}"}
    for number, first, step, expected in ((0, 0, 1, "0/4"), (3, 0, 1, "3/4"), (14, 8, 2, "3/4")):
        names = {"ID": number, "MIN": first, "STEP": step, "COUNT": 4}
        task = {f"SLURM_ARRAY_TASK_{name}": str(value) for name, value in names.items()}
        words = ["sh", str(script), "bundle", "in put", "out", "--overlap", "0.25"]
        run = subprocess.run(words, env={**path, **task}, capture_output=True, text=True, check=True)
        assert run.stdout == f"predict bundle in put -o out --shard {expected} --overlap 0.25\n"
    run = subprocess.run(words, env=path, capture_output=True, text=True, check=True)
    assert "--shard 0/1" in run.stdout
    assert subprocess.run(words[:3], env=path, capture_output=True, check=False).returncode == 2


@pytest.mark.slow
@pytest.mark.parametrize("workers", [1, 2])
def test_killed_at_ten_moments_a_run_ends_as_if_it_was_never_killed(tmp_path: Path, workers: int) -> None:
    """SIGKILL to the run; its workers follow it. Then one run to the end."""
    cases, seconds = 200, 0.002
    chance = random.Random(workers)
    command = [sys.executable, str(STUB), str(tmp_path), str(cases), str(workers), str(seconds)]
    killed = 0
    journal = tmp_path / "out" / ".volseg" / "stub.jsonl"
    while killed < 10:
        before = journal.stat().st_size if journal.exists() else 0
        run = subprocess.Popen(command, stderr=subprocess.DEVNULL)
        while run.poll() is None and (not journal.exists() or journal.stat().st_size == before):
            time.sleep(0.001)  # until it does its first case
        time.sleep(chance.uniform(0, 0.03))
        assert run.poll() is None, "the run ended before it could be killed"
        os.kill(run.pid, signal.SIGKILL)
        run.wait()
        killed += 1
    done_then = len(lines_whole(journal))
    assert 10 <= done_then < cases
    assert subprocess.run(command, check=False).returncode == 0
    keys = [str(line["key"]) for line in lines(tmp_path)]
    assert sorted(keys) == sorted(set(keys))  # nothing twice
    assert outputs(tmp_path) == {f"case{n:03d}": f"TEXT OF CASE{n:03d}" for n in range(cases)}  # nothing lost or torn
    assert max(attempts(tmp_path).values()) <= 11
    assert sum(attempts(tmp_path).values()) <= cases + 10 * workers  # only what was in hand is done again


def lines_whole(path: Path) -> list[bytes]:
    return [line for line in path.read_bytes().splitlines(keepends=True) if line.endswith(b"\n")]

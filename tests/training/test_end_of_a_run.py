"""How a run ended, as run.json tells it: signals, processes that are gone, and validations that say nothing."""

from __future__ import annotations

import json
import math
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine, Events
from recorded_run import read, trainer_of
from run_example import RUN

from volseg.cohort import Cohort
from volseg.errors import UsageError
from volseg.labels import LabelTable
from volseg.report import has_best, read_run, run_as_markdown, running_process, status_of, this_process
from volseg.report.process import is_alive
from volseg.training import Checkpoints, Progress, VolumetricDice
from volseg.training.handlers.record import _best
from volseg.training.handlers.signals import Signals, Stopped
from volseg.training.run_lock import lock_run


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP", "SIGXCPU"])
def test_a_signal_is_recorded_and_handlers_are_given_back(tiny_cohort, tmp_path, name):
    number = getattr(signal, name)
    signal.signal(number, signal.SIG_DFL)  # under nohup SIGHUP is ignored, and stays so
    trainer = trainer_of(Cohort.open(tiny_cohort), tmp_path)
    trainer.add_event_handler(Events.EPOCH_STARTED(once=3), lambda: os.kill(os.getpid(), number))
    with pytest.raises(Stopped) as caught:
        trainer.run()
    assert caught.value.code == 128 + number
    run = read(tmp_path)
    assert (run["status"], run["error"], len(run["history"])) == ("interrupted", f"stopped by {name}", 2)
    assert f"Error: stopped by {name}" in (tmp_path / "summary.md").read_text()
    assert signal.getsignal(number) is signal.SIG_DFL
    trainer_of(Cohort.open(tiny_cohort), tmp_path, resume=True).run()
    assert [one["status"] for one in read(tmp_path)["sessions"]] == ["interrupted", "finished"]
    assert signal.getsignal(number) is signal.SIG_DFL


def test_a_second_training_of_a_folder_is_refused_whatever_its_record_says(tiny_cohort, tmp_path, warm_commands):
    code = "import os, sys; from volseg.training.run_lock import lock_run; lock = lock_run(sys.argv[1]); "
    code += "print('held', flush=True); sys.stdin.read(); os.kill(os.getpid(), 9)"
    with subprocess.Popen(
        [warm_commands.python, "-c", code, str(tmp_path)], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as other:
        assert other.stdout.readline() == "held\n"
        trainer = trainer_of(Cohort.open(tiny_cohort), tmp_path)
        refused = r"is being written by another training; stop it, or name another --output_dir"
        with pytest.raises(UsageError, match=refused):
            trainer.run()
        assert [path.name for path in tmp_path.iterdir()] == [".volseg"]
        run = {"status": "running", "process": {**this_process(), "host": "node7", "pid": 31}}
        (tmp_path / "run.json").write_text(json.dumps(run))
        with pytest.raises(UsageError, match="by a training that runs on node7, process 31; stop it"):
            lock_run(tmp_path)
        other.stdin.close()
        assert other.wait() == -signal.SIGKILL
    (tmp_path / "run.json").unlink()
    trainer_of(Cohort.open(tiny_cohort), tmp_path).run()
    assert read(tmp_path)["status"] == "finished"
    lock_run(tmp_path).release()


def test_a_signal_that_is_ignored_stays_so():
    before = signal.signal(signal.SIGHUP, signal.SIG_IGN)  # nohup
    try:
        listening = Signals()
        listening.enter()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
        os.kill(os.getpid(), signal.SIGHUP)
        listening.leave()
        assert signal.getsignal(signal.SIGHUP) is signal.SIG_IGN
    finally:
        signal.signal(signal.SIGHUP, before)


def test_running_out_of_memory_is_recorded(tiny_cohort, tmp_path):
    trainer = trainer_of(Cohort.open(tiny_cohort), tmp_path)

    def fail() -> None:
        raise MemoryError

    trainer.add_event_handler(Events.EPOCH_STARTED(once=2), fail)
    with pytest.raises(MemoryError):
        trainer.run()
    assert (read(tmp_path)["status"], read(tmp_path)["error"]) == ("failed", "MemoryError")


def killed_process() -> dict:
    """What a process told of itself that is gone."""
    code = "import json; from volseg.report import this_process; print(json.dumps(this_process()))"
    return json.loads(subprocess.run([sys.executable, "-c", code], capture_output=True, check=True, text=True).stdout)


def test_a_process_that_is_gone_is_known_by_number_start_and_boot(tmp_path):
    gone, here = killed_process(), this_process()
    assert is_alive(gone) is False
    assert is_alive(here) is True
    if here["boot"] is not None:
        assert is_alive({**here, "started": 1}) is False  # its number was given to another
        assert is_alive({**here, "boot": "x"}) is False  # the host was booted since
        assert is_alive({**here, "namespace": "x"}) is None  # another container
    assert is_alive({**here, "host": "elsewhere"}) is None
    record = {**RUN, "status": "running", "process": gone}
    assert status_of(record) == "killed"
    assert status_of({**record, "process": here}) == "running"
    assert status_of({name: value for name, value in record.items() if name != "process"}) == "running"  # earlier
    (tmp_path / "run.json").write_text(json.dumps(record))
    assert running_process(tmp_path) is None
    (tmp_path / "run.json").write_text(json.dumps({**record, "process": here}))
    assert running_process(tmp_path) == os.getpid()


def test_a_folder_that_another_training_writes_is_refused(tiny_cohort, tmp_path):
    from preflight_check import check

    other = subprocess.Popen([sys.executable, "-c", "import sys; sys.stdin.read()"], stdin=subprocess.PIPE)
    try:
        from volseg.report.process import _started

        process = {**this_process(), "pid": other.pid, "started": _started(other.pid)}
        (tmp_path / "run.json").write_text(json.dumps({**RUN, "status": "running", "process": process}))
        with pytest.raises(UsageError, match=f"written by a training that runs, process {other.pid} of this host"):
            check(tiny_cohort, tmp_path)
    finally:
        other.communicate()
    check(tiny_cohort, tmp_path)  # gone


def test_a_killed_session_is_told_on_resume(tiny_cohort, tmp_path, caplog):
    trainer_of(Cohort.open(tiny_cohort), tmp_path, max_epochs=2).run()
    run = read(tmp_path)
    run["status"] = run["sessions"][-1]["status"] = "running"
    (tmp_path / "run.json").write_text(json.dumps({**run, "process": killed_process()}))
    with caplog.at_level("WARNING"):
        trainer_of(Cohort.open(tiny_cohort), tmp_path, max_epochs=3, resume=True).run()
    assert "the last session of this run was killed: it wrote nothing after" in caplog.text
    assert [one["status"] for one in read(tmp_path)["sessions"]] == ["killed", "finished"]


def masks(*rows: list[int]) -> torch.Tensor:
    return torch.tensor(rows, dtype=torch.bool)[:, :, None, None]


def test_what_is_invented_of_a_region_that_no_reference_has_is_undefined():
    metric = VolumetricDice(LabelTable.exclusive(["a", "b"]))
    right, invented = masks([1, 1, 0], [0, 0, 0]), masks([1, 1, 0], [0, 0, 1])
    metric.update(([invented, right], [right, right], ["case1", "case2"]))
    assert metric.compute() == 1.0  # b is left out, not counted 0
    assert math.isnan(metric.by_region()["b"])
    assert math.isnan(metric.by_case()["case1"]["b"])
    metric.update(([invented], [masks([1, 1, 0], [0, 1, 0])], ["case3"]))
    assert metric.by_region()["b"] == 0  # now it is known: invented once, missed once
    nothing = VolumetricDice(LabelTable.exclusive(["a", "b"]))
    nothing.update(([invented], [masks([0, 0, 0], [0, 0, 0])], ["case1"]))
    assert math.isnan(nothing.compute())


class Part:
    epoch = 0

    def state_dict(self) -> dict[str, int]:
        return {"epoch": self.epoch}


@pytest.mark.parametrize(
    ("scores", "kept"),
    [
        ([0.0, 0.0, 0.0], 3),
        ([math.nan, 0.0, math.nan], 3),
        ([0.0, 0.1, 0.0], 2),
        ([0.3, 0.3, math.nan], 1),
        ([math.nan, 0.2, 0.2], 2),
    ],
)
def test_of_validations_that_say_nothing_the_last_is_kept(tmp_path, scores, kept):
    part, evaluator = Part(), Engine(lambda *_: None)
    Checkpoints(tmp_path, {"model": part}).attach(evaluator)
    evaluator.state.key_metric_name = "dice"
    for part.epoch, score in enumerate(scores, start=1):
        evaluator.state.epoch, evaluator.state.metrics = part.epoch, {"dice": score}
        evaluator.fire_event(Events.EPOCH_COMPLETED)
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content["validation"]["epoch"] == content["model"]["epoch"] == kept
    rows = [{"epoch": n, "dice": None if math.isnan(s) else s, "regions": None} for n, s in enumerate(scores, start=1)]
    best = _best(rows)
    assert best is None if max(s for s in (*scores, 0) if s == s) == 0 else best["epoch"] == kept


def test_a_run_whose_validations_say_nothing_calls_no_network_the_best(tmp_path):
    history = [{**RUN["history"][0], "epoch": epoch, "dice": 0.0, "regions": {}} for epoch in (1, 2)]
    run = {**RUN, "history": history, "best": None}
    assert "model.pt is the network of the last validation" in run_as_markdown(run)
    (tmp_path / "run.json").write_text(json.dumps(run))
    assert not has_best(tmp_path)
    with pytest.raises(UsageError, match="no validation with a Dice above 0"):
        read_run(tmp_path)


def test_the_progress_says_undefined(caplog):
    trainer, evaluator = Engine(lambda *_: [{"loss": torch.tensor(0.5)}]), Engine(lambda *_: None)
    evaluator.state.metrics = {"dice": math.nan, "dice_a": math.nan}
    evaluator.state.key_metric_name, evaluator.state.best_metric = "dice", -1
    Progress(evaluator, interval=1).attach(trainer)
    with caplog.at_level("INFO"):
        trainer.run([0], max_epochs=1)
    assert "Dice undefined  [a undefined]" in caplog.text


LOST = """
import sys, torch, logging
import torch.distributed as dist
from volseg.errors import VolsegError
from volseg.training import join
join("cpu")
if dist.get_rank() == 1:
    raise {error}
dist.all_reduce(torch.ones(3))
"""


@pytest.mark.parametrize(
    ("error", "lines"),
    [
        ("RuntimeError('applying X') from VolsegError('the image holds NaN', case='case7')", 0),
        ("ZeroDivisionError('no reason')", 1),
    ],
)
def test_of_several_processes_the_one_that_failed_speaks(tmp_path: Path, warm_commands, error: str, lines: int):
    (tmp_path / "parts.py").write_text(LOST.format(error=error))
    python = str(warm_commands.python)
    words = [python, "-m", "torch.distributed.run", "--standalone", "--nproc_per_node=2"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "CUDA_VISIBLE_DEVICES": "", "PYTHON_EXEC": python}
    done = subprocess.run(
        [*words, str(tmp_path / "parts.py")], env=environment, capture_output=True, text=True, check=False, timeout=300
    )
    assert done.returncode == 1
    own, _, torchruns = done.stderr.partition("torch/distributed/elastic")
    assert "terminate called" not in done.stderr
    assert own.count("Traceback") == lines  # of an error that nobody foresaw, once
    if lines == 0:
        assert [line for line in own.splitlines() if "volseg" in line] == [
            "volseg: process 1 of 2: case7: the image holds NaN"
        ]
    assert "process 1 of 2: " in torchruns  # it stands in torchrun's last words

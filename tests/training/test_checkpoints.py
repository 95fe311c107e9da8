"""Checkpoints of the best validations: which are kept, under which names, and what a full disk does to them."""

from __future__ import annotations

import errno
import logging
import math
import os
import random
import resource
import signal
from contextlib import contextmanager
from pathlib import Path

import pytest
import torch
from ignite.engine import Engine
from small_training import trainer_of

from volseg.errors import UsageError
from volseg.training import Checkpoints
from volseg.training.handlers.checkpoints import save, set_aside
from volseg.training.handlers.signals import Stopped


class Part:
    """Something with a state."""

    def __init__(self, value: int = 0) -> None:
        self.value = value

    def state_dict(self) -> dict[str, torch.Tensor]:
        return {"value": torch.tensor(self.value)}


def validate(checkpoints: Checkpoints, part: Part, scores: dict[int, float]) -> None:
    """Validations of some epochs; the part's value is the epoch."""
    engine = Engine(lambda *_: None)
    engine.state.key_metric_name = "dice"
    for epoch, score in scores.items():
        part.value = engine.state.epoch = epoch
        engine.state.metrics = {"dice": score, "dice_a": score / 2}
        checkpoints._save(engine)


def there(folder: Path) -> dict[str, int]:
    """The epoch in each checkpoint."""
    found = {}
    for path in sorted(folder.glob("model*.pt")):
        content = torch.load(path, weights_only=True)
        assert int(content["model"]["value"]) == content["validation"]["epoch"]
        found[path.name] = content["validation"]["epoch"]
    return found


def test_the_best_is_model_pt_and_the_next_ones_follow(tmp_path):
    part = Part()
    checkpoints = Checkpoints(tmp_path, {"model": part}, keep=3)
    for epoch, score, expected in [
        (1, 0.5, [1]),
        (2, 0.4, [1, 2]),
        (3, 0.7, [3, 1, 2]),
        (4, 0.6, [3, 4, 1]),
        (5, 0.1, [3, 4, 1]),
        (6, 0.7, [3, 6, 4]),  # of equals the first is better
        (7, math.nan, [3, 6, 4]),
    ]:
        validate(checkpoints, part, {epoch: score})
        assert list(there(tmp_path).values()) == expected
    assert list(there(tmp_path)) == ["model.pt", "model_2.pt", "model_3.pt"]
    assert {path.name for path in tmp_path.iterdir()} == set(there(tmp_path))
    content = torch.load(tmp_path / "model.pt", weights_only=True)
    assert content["validation"] == {"epoch": 3, "dice": 0.7, "dice_a": 0.35}


@pytest.mark.parametrize("keep", [1, 2, 4])
def test_the_files_are_the_best_of_any_series(tmp_path, keep):
    draw = random.Random(keep)
    scores = {epoch: draw.choice([0.1, 0.2, 0.3, 0.4, math.nan]) for epoch in range(1, 30)}
    part = Part()
    validate(Checkpoints(tmp_path, {"model": part}, keep=keep), part, scores)
    order = sorted(scores, key=lambda epoch: (-math.inf if math.isnan(scores[epoch]) else scores[epoch], -epoch))
    assert list(there(tmp_path).values()) == order[::-1][:keep]


def test_a_validation_of_nothing_is_better_than_no_checkpoint(tmp_path):
    part = Part()
    validate(Checkpoints(tmp_path, {"model": part}), part, {1: math.nan, 2: math.nan})
    assert there(tmp_path) == {"model.pt": 2}  # none is better, and the later one has learnt for longer


def test_a_resumed_run_goes_on_with_the_files_and_replaces_epochs_that_are_done_again(tmp_path):
    part = Part()
    scores = {1: 0.5, 2: 0.6, 3: 0.3, 4: 0.7, 5: 0.65, 6: 0.1}
    validate(Checkpoints(tmp_path / "unbroken", {"model": part}, keep=3), part, scores)
    for killed in (2, 5, 6):
        for back in range(1, killed + 1):
            folder = tmp_path / f"{killed}_{back}"
            validate(Checkpoints(folder, {"model": part}, keep=3), part, {e: scores[e] for e in range(1, killed + 1)})
            resumed = Checkpoints(folder, {"model": part}, keep=3)
            resumed.load_state_dict({})
            validate(resumed, part, {e: scores[e] for e in range(back, 7)})
            assert there(folder) == there(tmp_path / "unbroken")


@pytest.mark.parametrize("names", [[3, 2, 1], [3, 2, 2], [3, 3, 2], [4, 3, 2]])
def test_a_stop_while_files_move_to_their_names_loses_none(tmp_path, names):
    """The fourth of four is the best: the others move, from the last to the first, and then it comes."""
    part = Part()
    for rank, epoch in enumerate(names, start=1):
        folder = tmp_path / "one"
        validate(Checkpoints(folder, {"model": part}), part, {epoch: epoch / 10})
        (folder / "model.pt").replace(tmp_path / ("model.pt" if rank == 1 else f"model_{rank}.pt"))
    resumed = Checkpoints(tmp_path, {"model": part}, keep=3)
    resumed.load_state_dict({})
    validate(resumed, part, {4: 0.4})
    assert there(tmp_path) == {"model.pt": 4, "model_2.pt": 3, "model_3.pt": 2}


def test_a_damaged_file_is_left_out(tmp_path, caplog):
    part = Part()
    validate(Checkpoints(tmp_path, {"model": part}, keep=2), part, {1: 0.1, 2: 0.2})
    (tmp_path / "model.pt").write_bytes(b"damaged")
    resumed = Checkpoints(tmp_path, {"model": part}, keep=2)
    resumed.load_state_dict({})
    validate(resumed, part, {3: 0.05})
    assert there(tmp_path) == {"model.pt": 1, "model_2.pt": 3}
    assert "is left out of the best" in caplog.text


def test_an_earlier_run_is_set_aside_when_the_first_checkpoint_is_written(tmp_path, caplog):
    part = Part()
    validate(Checkpoints(tmp_path, {"model": part}, keep=2), part, {7: 0.9, 8: 0.8})
    (tmp_path / "model_notes.pt").write_bytes(b"not ours")
    fresh = Checkpoints(tmp_path, {"model": part}, keep=2)
    assert (tmp_path / "model.pt").is_file()  # until there is another
    with caplog.at_level(logging.INFO, logger="volseg.training"):
        validate(fresh, part, {1: 0.1})
    (tmp_path / "model_notes.pt").unlink()
    assert there(tmp_path) == {"model.pt": 1}
    assert sorted(there(tmp_path / "earlier").values()) == [7, 8]
    assert "of an earlier run, is now" in caplog.text


def test_what_is_set_aside_keeps_its_name_and_time(tmp_path):
    path = tmp_path / "last.pt"
    set_aside(path)  # nothing there
    assert not list(tmp_path.iterdir())
    path.write_bytes(b"1")
    os.utime(path, (0, 0))
    set_aside(path)
    (kept,) = (tmp_path / "earlier").iterdir()
    assert kept.name.startswith("last_19")
    assert kept.read_bytes() == b"1"


@contextmanager
def files_up_to(size: int):
    """A disk, as it were, on which no file grows beyond `size` bytes."""
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))


@pytest.mark.parametrize("room", [0, 100, 5_000, 60_000])
def test_a_full_disk_leaves_the_checkpoint_that_is_there(tmp_path, room):
    path = tmp_path / "model.pt"
    save({"model": torch.zeros(3)}, path)
    before = path.read_bytes()
    with files_up_to(room), pytest.raises(OSError, match="while a checkpoint was saved") as caught:
        save({"model": torch.zeros(100_000), "other": torch.zeros(3)}, path)
    assert caught.value.errno == errno.EFBIG
    assert caught.value.filename == str(path)
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


@pytest.mark.parametrize("stop", [Stopped(signal.SIGTERM), KeyboardInterrupt()])
def test_a_signal_while_a_checkpoint_is_saved_stays_a_signal(tmp_path, monkeypatch, stop):
    path = tmp_path / "model.pt"
    save({"model": torch.zeros(3)}, path)
    before = path.read_bytes()
    opened = Path.open

    def open_for(self, mode="r", *more, **named):
        file = opened(self, mode, *more, **named)
        return Interrupted(file, stop) if mode == "wb" else file

    monkeypatch.setattr(Path, "open", open_for)
    with pytest.raises(type(stop)) as caught:
        save({"model": torch.zeros(100_000), "other": torch.zeros(3)}, path)
    assert caught.value is stop
    assert path.read_bytes() == before
    assert list(tmp_path.iterdir()) == [path]


class Interrupted:
    """A file at whose third write a signal arrives."""

    def __init__(self, file, stop):
        self.file, self.stop, self.writes = file, stop, 0

    def write(self, content):
        self.writes += 1
        if self.writes == 3:
            raise self.stop
        return self.file.write(content)

    def __getattr__(self, name):
        return getattr(self.file, name)

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self.file.close()


def test_a_training_on_a_full_disk_stops_with_its_last_checkpoints(tmp_path):
    trainer_of(tmp_path, max_epochs=2, keep=1).run()
    before = {path.name: path.read_bytes() for path in tmp_path.glob("*.pt")}
    assert set(before) == {"model.pt", "last.pt"}
    with files_up_to(3_000), pytest.raises(OSError, match="while a checkpoint was saved"):
        trainer_of(tmp_path, max_epochs=2, keep=1, resume=False).run()
    kept = {path.name: path.read_bytes() for path in tmp_path.rglob("*.pt")}
    assert before["model.pt"] in kept.values()
    assert before["last.pt"] in kept.values()  # set aside, since the other run was not resumed
    trainer_of(tmp_path, max_epochs=2, keep=1, resume=True).run()
    assert {path.name for path in tmp_path.glob("*.pt")} == {"model.pt", "last.pt"}


@pytest.mark.parametrize("keep", [0, -1, 1.0, "2", None])
def test_another_number_is_refused(tmp_path, keep):
    with pytest.raises(UsageError, match="--keep must be"):
        Checkpoints(tmp_path, {}, keep=keep)

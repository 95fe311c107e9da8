"""The training loop of a bundle as JSON states it: everything on, everything off, other programs' habits, a kill."""

from __future__ import annotations

import json
import os
import random
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch
from ignite.engine import Events
from monai.bundle import ConfigParser
from monai.utils import set_determinism

from volseg.bundle import read_recipe

BUNDLE = Path(__file__).resolve().parents[2] / "bundles" / "swinunetr"
SMALL: dict[str, Any] = {
    "network_def": {
        "_target_": "UNet",
        "spatial_dims": 3,
        "in_channels": "$len(@cohort.channel_names)",
        "out_channels": "$@labels.channels",
        "channels": [4, 8],
        "strides": [2],
        "dropout": 0.2,
    },
    "roi_divisor": [2, 2, 2],
    "roi_size": [16, 16, 8],
    "device": "cpu",
    "precision": "fp32",
    "crops_per_case": 1,
    "max_epochs": 3,
    "val_interval": 1,
    "loader_workers": 0,
}
ALL_ON = {"accumulate": 2, "clip_norm": 1.0, "ema_decay": 0.9, "patience": 3, "keep": 2}


def parser_of(cohort: Path, output_dir: Path, **settings: Any) -> ConfigParser:
    parser = ConfigParser()
    parser.read_config(BUNDLE / "train.json")
    places = {"bundle_root": str(BUNDLE), "dataset_dir": str(cohort), "output_dir": str(output_dir)}
    parser.update({**SMALL, **places, **settings})
    return parser


def run(parser: ConfigParser) -> Any:
    """What monai.bundle does with the ids `initialize` and `training`; gives the trainer."""
    try:
        parser.get_parsed_content("initialize")
        parser.get_parsed_content("training")
        return parser.get_parsed_content("train#trainer")
    finally:
        set_determinism(None)


def same(one: dict[str, torch.Tensor], other: dict[str, torch.Tensor]) -> bool:
    return one.keys() == other.keys() and all(torch.equal(tensor, other[name]) for name, tensor in one.items())


def read(path: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(path, weights_only=True)
    return content


def test_the_same_command_gives_the_same_weights_with_or_without_workers(tiny_cohort, tmp_path):
    for name, workers in (("one", 0), ("two", 0), ("three", 2)):
        run(parser_of(tiny_cohort, tmp_path / name, loader_workers=workers, max_epochs=1))
    one, two, three = (read(tmp_path / name / "last.pt")["network"] for name in ("one", "two", "three"))
    assert same(one, two)
    assert same(one, three)


def test_everything_on_is_reached_through_the_settings_and_resumes(tiny_cohort, tmp_path):
    unbroken = run(parser_of(tiny_cohort, tmp_path / "unbroken", **ALL_ON))
    assert unbroken.accumulation_steps == 2
    assert sorted(path.name for path in (tmp_path / "unbroken").glob("*.pt")) == ["last.pt", "model.pt", "model_2.pt"]
    read_recipe(tmp_path / "unbroken" / "model_2.pt")

    class Killed(Exception):  # noqa: N818 - it is no error
        pass

    def kill(engine: Any) -> None:
        if engine.state.iteration == 5:
            raise Killed

    broken = parser_of(tiny_cohort, tmp_path / "broken", **ALL_ON)
    broken.get_parsed_content("initialize")
    trainer = broken.get_parsed_content("train#trainer")
    trainer.add_event_handler(Events.ITERATION_COMPLETED, kill)
    with pytest.raises(RuntimeError, match="Failed to evaluate"):  # as MONAI words it
        run(broken)
    run(parser_of(tiny_cohort, tmp_path / "broken", **ALL_ON, resume=True))
    for name in ("last.pt", "model.pt", "model_2.pt"):
        one, other = (read(tmp_path / folder / name) for folder in ("unbroken", "broken"))
        for part in ("network", "average", "model"):
            assert same(one.get(part, {}), other.get(part, {}))
        assert one.get("validation") == other.get("validation")


def test_with_everything_off_there_is_no_second_network(tiny_cohort, tmp_path):
    parser = parser_of(tiny_cohort, tmp_path, max_epochs=1, clip_norm=0)
    trainer = run(parser)
    assert parser.get_parsed_content("validate#evaluator").network is trainer.network
    state = read(tmp_path / "last.pt")
    assert state["average"] == {}
    assert same(state["network"], read(tmp_path / "model.pt")["model"])


def test_the_habits_of_monai_label(tiny_cohort, tmp_path):
    """A handler goes to the front of train#handlers, the number of epochs into the trainer, and the old model loads."""
    run(parser_of(tiny_cohort, tmp_path, max_epochs=1, seed=5))
    before = read(tmp_path / "model.pt")["model"]
    parser = parser_of(tiny_cohort, tmp_path)
    handlers = parser["train#handlers"]
    loader = {
        "_target_": "CheckpointLoader",
        "load_path": str(tmp_path / "model.pt"),
        "load_dict": {"model": "@network"},
    }
    handlers.insert(0, {**loader, "strict": False})
    parser.update({"train#handlers": handlers, "train#trainer#max_epochs": 2})
    trainer = parser.get_parsed_content("train#trainer")
    began_with: dict[str, torch.Tensor] = {}

    def look(engine: Any) -> None:
        began_with.update({name: tensor.clone() for name, tensor in engine.network.state_dict().items()})

    trainer.add_event_handler(Events.STARTED, look)
    run(parser)
    assert same(began_with, before)
    assert trainer.state.epoch == 2
    assert parser.get_parsed_content("iterations") == 2 * 3  # the learning rate comes down within them
    assert read(tmp_path / "model.pt")["validation"]["epoch"] in (1, 2)
    assert any(same(read(path)["model"], before) for path in (tmp_path / "earlier").glob("model_*.pt"))


@pytest.mark.slow
@pytest.mark.parametrize("how", ["monai", "volseg"])
def test_a_bundle_killed_at_random_steps_ends_as_an_unbroken_one(tiny_cohort, tmp_path, warm_commands, how):
    """SIGKILL at random steps, with both commands; the same command goes on."""
    (tmp_path / "small.json").write_text(json.dumps({**SMALL, **ALL_ON}))
    if how == "monai":
        files = ["--config_file", f"['{BUNDLE / 'train.json'}','{tmp_path / 'small.json'}']"]
        command = ["-m", "monai.bundle", "run", "training", *files]
    else:
        start = "import sys; from volseg.cli import main; sys.exit(main())"
        command = ["-c", start, "train", str(BUNDLE), "--config_file", str(tmp_path / "small.json")]

    def train(folder: str, *more: str) -> int:
        words = [*command, "--dataset_dir", str(tiny_cohort), "--output_dir", str(tmp_path / folder), *more]
        environment = {**os.environ, "OMP_NUM_THREADS": "1"}
        done = subprocess.run(
            [warm_commands.python, *words], env=environment, capture_output=True, text=True, check=False
        )
        assert done.returncode in (0, -signal.SIGKILL), done.stdout + done.stderr
        return done.returncode

    assert train("unbroken") == 0
    for iteration in sorted(random.sample(range(1, 3 * 3 + 1), 2)):
        kill = f"lambda e: os.kill(os.getpid(), 9) if e.state.iteration == {iteration} else None"
        event = "Events.ITERATION_COMPLETED"
        training = [f"$@train#trainer.add_event_handler({event}, {kill})", "$@train#trainer.run()"]
        imports = "['$import os','$from ignite.engine import Events','$import torch','$import volseg']"
        more = ("--imports", imports, "--training", str(training))
        assert train("broken", "--resume", "True", *more) == -signal.SIGKILL
    assert train("broken", "--resume", "True") == 0
    for name, part in (("last.pt", "network"), ("last.pt", "average"), ("model.pt", "model"), ("model_2.pt", "model")):
        one, other = (read(tmp_path / folder / name) for folder in ("unbroken", "broken"))
        assert same(one[part], other[part])

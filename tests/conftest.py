"""What several test files need."""

from __future__ import annotations

import functools
import json
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import absl.logging
import numpy as np
import pytest
from hypothesis import HealthCheck, settings
from warm_process import WarmCommands

from volseg.labels import LabelTable
from volseg.volume import Volume, write_volume

# No test reaches for the Hugging Face hub, or for what someone has of it at home; both are read at the first import.
os.environ.update(HF_HUB_OFFLINE="1", HF_HUB_CACHE="/nonexistent")

# A machine may be busy: no test is one of time.
settings.register_profile("volseg", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("volseg")

# absl's handler (of tensorboard) closes its stream, pytest's capture of stderr, when MONAI configures logging anew.
absl.logging.get_absl_handler().python_handler.close = lambda: None

# A shell starts what ends in & with SIGINT ignored, and so would be the commands that tests interrupt.
if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
    signal.signal(signal.SIGINT, signal.default_int_handler)

# Run by the Python of another program, with packages that are not here.
collect_ignore = ["support/monai_deploy_app.py"]

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


def pytest_addoption(parser: pytest.Parser) -> None:
    """`--long` runs the tests that train for minutes."""
    parser.addoption("--long", action="store_true", help="run the tests marked long too: minutes each")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave the long tests out unless they are asked for."""
    if not config.getoption("--long"):
        for item in items:
            if item.get_closest_marker("long"):
                item.add_marker(pytest.mark.skip(reason="takes minutes; run it with --long"))


@pytest.fixture(autouse=True)
def _own_sys_path(monkeypatch: pytest.MonkeyPatch) -> None:
    """MONAI puts the folder of each bundle that it runs on `sys.path`, where the next test would find it."""
    monkeypatch.setattr(sys, "path", list(sys.path))


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside a checkout of the developers; elsewhere the test is skipped."""
    if not _SHARED.is_dir():
        pytest.skip(f"the real test data is not at {_SHARED}")
    return _SHARED


@pytest.fixture(scope="session")
def warm_commands(tmp_path_factory: pytest.TempPathFactory) -> Iterator[WarmCommands]:
    """`volseg` and `python` as processes that have done their imports: for tests of what commands do, not of starts."""
    commands = WarmCommands(tmp_path_factory.mktemp("warm"))
    yield commands
    commands.close()


@pytest.fixture(scope="session")
def help_of_script(
    warm_commands: WarmCommands, tmp_path_factory: pytest.TempPathFactory
) -> Callable[[str | Path], str]:
    """A function that tells what `python SCRIPT --help` prints, from a folder of its own; each script is asked once."""
    folder = tmp_path_factory.mktemp("help")

    @functools.cache
    def ask(script: str | Path) -> str:
        words = [warm_commands.python, script, "--help"]
        done = subprocess.run(words, capture_output=True, text=True, check=False, cwd=folder, timeout=300)
        assert done.returncode == 0, done.stderr
        assert not list(folder.iterdir())
        return done.stdout

    return ask


@pytest.fixture(scope="session")
def tiny_cohort(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A cohort folder of five small scans in which two regions overlap; fold 0 trains on three. Not to be changed."""
    folder = tmp_path_factory.mktemp("tiny") / "cohort"
    labels = LabelTable.overlapping(["large", "small"])
    generator = np.random.default_rng(0)
    x, y, z = np.mgrid[:40, :36, :20]
    keys = [f"case{number}_day0" for number in range(5)]
    for key in keys:
        a, b, c = generator.uniform(12, 20, 3)
        squared = (x - a) ** 2 + (y - b) ** 2 + (z - c / 2) ** 2
        label = (squared < 64) + 2 * ((x - a - 5) ** 2 + (y - b) ** 2 + (z - c / 2) ** 2 < 36)
        image = (200 * (label > 0) + generator.integers(0, 80, label.shape)).astype(np.uint16)
        affine = np.diag([1.5, 1.5, 3.0, 1.0])
        write_volume(folder / "imagesTr" / f"{key}_0000.nii.gz", Volume(image, affine))
        write_volume(folder / "labelsTr" / f"{key}.nii.gz", Volume(label.astype(np.uint8), affine))
    dataset = {"channel_names": {"0": "MR"}, **labels.to_dataset_json(), "numTraining": 5, "file_ending": ".nii.gz"}
    (folder / "dataset.json").write_text(json.dumps(dataset))
    (folder / "splits.json").write_text(json.dumps([{"training": keys[:3], "validation": keys[3:]}]))
    return folder

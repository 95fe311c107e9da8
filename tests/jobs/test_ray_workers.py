"""The fleet on a Ray cluster of two nodes, one of which is killed in the middle."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fleet_stub
import numpy as np
import pytest
from command import told
from fleet_stub import do_jobs, jobs_in
from job_report import contents, report
from tiny_bundle import write_bundle, write_checkpoint
from two_steps import image, write_lungs

from volseg.errors import UsageError, VolsegError
from volseg.jobs import Job
from volseg.jobs.ray_workers import RayPool, _not_reached
from volseg.volume import Volume, write_volume

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore::ResourceWarning", "ignore::DeprecationWarning", "ignore::FutureWarning"),
    pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning"),
]

MORE = 20  # cases after the death


@pytest.fixture
def cluster(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Two nodes of two cores each; the second is `cluster.second`."""
    ray = pytest.importorskip("ray", reason="ray is not installed: pip install 'volseg[ray]'")
    from ray.cluster_utils import Cluster

    there = [path for path in [os.environ.get("PYTHONPATH")] if path]
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(Path(fleet_stub.__file__).parent), *there]))
    monkeypatch.setenv("RAY_USAGE_STATS_ENABLED", "0")
    size = 128 * 2**20
    made = Cluster(initialize_head=True, head_node_args={"num_cpus": 2, "object_store_memory": size, "num_gpus": 0})
    made.second = made.add_node(num_cpus=2, object_store_memory=size, num_gpus=0)
    made.wait_for_nodes()
    ray.init(address=made.address, log_to_driver=False)
    yield made
    ray.shutdown()
    made.shutdown()


def test_a_node_is_killed_and_every_case_is_in_the_journal_once(tmp_path: Path, cluster: Any) -> None:
    pool = RayPool(cluster.address, workers=4)
    keys: list[str] = []

    def jobs() -> Iterator[Job]:
        """Cases until all four workers are at it; then a node goes; cases until that is noticed, and a few more."""
        phases = iter((lambda: pool.alive() == 4, lambda: pool.alive() < 4, lambda: left == 0))
        phase, left = next(phases, None), MORE
        while phase is not None:
            keys.append({5: "bad", 9: "flaky"}.get(len(keys), f"case{len(keys):04d}"))
            yield from jobs_in(tmp_path, keys[-1:])
            left -= 1
            if phase():
                phase, left = next(phases, None), MORE
                if pool.alive() == 4:
                    cluster.remove_node(cluster.second, allow_graceful=False)

    result = do_jobs(tmp_path, jobs(), pool, seconds=0.05)
    assert result.failed.keys() == {"bad"}
    assert result.done == len(keys) - 1
    assert result.deaths >= 1
    told = [json.loads(line) for line in (tmp_path / "out" / ".volseg" / "stub.jsonl").read_text().splitlines()]
    assert sorted(line["key"] for line in told) == sorted(keys)
    for line in told:
        if line["error"] is None:
            assert (tmp_path / "out" / line["key"]).read_text() == f"TEXT OF {line['key'].upper()}"
    assert do_jobs(tmp_path, jobs_in(tmp_path, keys), RayPool(cluster.address)).before == len(keys) - 1

    with pytest.raises(VolsegError, match="cannot start: there is no checkpoint"):
        do_jobs(tmp_path, jobs_in(tmp_path, keys), RayPool(cluster.address), digest="cannot start")


def test_a_cluster_makes_what_one_process_makes(
    tmp_path: Path, cluster: Any, capsys: pytest.CaptureFixture[str]
) -> None:
    """An ensemble with mirror images, clean-up and probabilities, within a region."""
    write_bundle(tmp_path / "bundle")
    write_lungs(tmp_path / "lungs")
    write_checkpoint(tmp_path / "model.pt")
    write_checkpoint(tmp_path / "finer.pt", spacing_mm=(1.5, 2, 3))
    for number in range(4):
        volume = Volume(image(number, blocks=number != 2), np.diag([-2.0, 2.0, 3.0, 1.0]))
        write_volume(tmp_path / "images" / f"case{number}.nii.gz", volume)
    words = ["--checkpoint", tmp_path / "model.pt", "--checkpoint", tmp_path / "finer.pt", "--flips", "0,1"]
    words += ["--within", f"{tmp_path / 'lungs'}={tmp_path / 'lungs/model.pt'}", "--absent", "empty", "--keep-margin"]
    words += ["--save-probabilities", "--fill-holes", "stomach", "--min-ml", "large_bowel=0.05", "--no-skip-empty"]
    words += ["--device", "cpu", "--engine", "torch", "--precision", "fp32"]
    for name, more in (("one", []), ("ray", ["--ray", cluster.address, "--workers", "2"])):
        out = tmp_path / name
        code, text = told(capsys, "predict", tmp_path / "bundle", tmp_path / "images", "-o", out, *words, *more)
        assert (code, "4 predicted, 0 failed" in text) == (0, True), text
        assert "note  case2: no voxel of left and right" in text
    assert contents(tmp_path / "one") == contents(tmp_path / "ray")
    assert contents(tmp_path / "one/probabilities") == contents(tmp_path / "ray/probabilities")
    assert (tmp_path / "one/dataset.json").read_bytes() == (tmp_path / "ray/dataset.json").read_bytes()
    assert report(tmp_path / "ray")["engine"] == "ray"


@pytest.mark.parametrize(("mode", "cure"), [(None, "set RAY_AUTH_MODE=token"), ("token", "must hold the token of the")])
def test_a_cluster_that_asks_for_a_token_is_no_absent_one(
    mode: str | None, cure: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What Ray raises at either kind, by its own words."""
    monkeypatch.delenv("RAY_AUTH_MODE", raising=False)
    if mode:
        monkeypatch.setenv("RAY_AUTH_MODE", mode)
    refused = _not_reached("192.0.2.2:6379", ConnectionError("Failed to connect to Ray cluster at 192.0.2.2:6379"))
    assert "does not let this process in" in refused
    assert cure in refused
    assert "no Ray cluster at" in _not_reached("auto", ConnectionError("Could not find any running Ray instance."))


def test_no_cluster_is_wrong_use(tmp_path: Path) -> None:
    pytest.importorskip("ray", reason="ray is not installed: pip install 'volseg[ray]'")
    with pytest.raises(UsageError, match="no Ray cluster at"):
        do_jobs(tmp_path, jobs_in(tmp_path, ["a"]), RayPool("127.0.0.1:1"))

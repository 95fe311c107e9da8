"""The wheel: its bundles, its page, and what an installed bundle writes where; a slow test installs it."""

from __future__ import annotations

import json
import os
import re
import runpy
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from shipped_bundles import BUNDLES, NAMES

import volseg.bundle
from volseg.bundle import data_dir, find, find_all, installed, is_trained, models_dir
from volseg.bundle import folder as room
from volseg.cli import main
from volseg.errors import BundleError

ROOT = Path(__file__).resolve().parents[2]
PYTHON = os.environ.get("VOLSEG_CLEAN_PYTHON")


@pytest.fixture(scope="module")
def built(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The package as the build step lays it out."""
    folder = tmp_path_factory.mktemp("built")
    words = [sys.executable, "setup.py", "-q", "build_py", "--build-lib", str(folder)]
    subprocess.run(words, cwd=ROOT, check=True, capture_output=True)
    return folder / "volseg"


@pytest.fixture
def site(built: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """An installed volseg, seen from an empty working directory."""
    monkeypatch.setattr(room, "files", lambda _: built)
    (tmp_path / "work").mkdir()
    monkeypatch.chdir(tmp_path / "work")
    return built


def test_the_wheel_holds_each_file_of_each_bundle_and_not_what_writes_them(built: Path) -> None:
    def files(folder: Path) -> dict[str, bytes]:
        found = [path for path in folder.rglob("*") if path.is_file() and "__pycache__" not in path.parts]
        return {path.relative_to(folder).as_posix(): path.read_bytes() for path in found}

    committed = {name: text for name, text in files(BUNDLES).items() if name.split("/")[0] != "_base"}
    assert files(built / "bundles") == {name: text for name, text in committed.items() if "/data/" not in name}
    package = {path.relative_to(ROOT / "volseg") for path in (ROOT / "volseg").rglob("*") if path.is_file()}
    package = {path for path in package if "__pycache__" not in path.parts}
    assert {path for path in package if not (built / path).is_file()} == set(), "see package_data in setup.cfg"


def test_a_folder_of_ones_own_comes_before_the_installed_bundle(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert find("unet") == site / "bundles" / "unet"
    assert [folder.name for folder in find_all() if not is_trained(folder)] == NAMES
    own = Path("bundles") / "unet"
    capsys.readouterr()
    main_of("bundles", "copy", "unet", str(own))
    assert f"is a copy of {site / 'bundles' / 'unet'}; use it as unet" in capsys.readouterr().out
    assert find("unet") == own.resolve()
    assert find("unetr") == site / "bundles" / "unetr"
    assert own.resolve() in find_all()
    assert site / "bundles" / "unet" not in find_all()
    assert (own / "train.json").read_bytes() == (BUNDLES / "unet" / "train.json").read_bytes()


def test_an_installed_bundle_writes_to_the_working_directory(site: Path) -> None:
    assert data_dir(find("unet")) == str(Path.cwd() / "data")
    assert models_dir(find("unet")) == str(Path.cwd() / "data" / "runs" / "unet")
    shutil.copytree(find("unet"), "mine")
    assert data_dir("mine") == str(Path.cwd() / "mine" / "data"), "a copy is the user's own"
    assert models_dir("mine") == str(Path.cwd() / "mine" / "models")


def test_a_name_that_is_none_says_which_there_are_and_where(site: Path) -> None:
    with pytest.raises(
        BundleError, match=rf"did you mean unet\?; {re.escape(str(site))}/bundles holds dense_unet, "
    ) as told:
        find("unett")
    assert str(Path.cwd()) not in str(told.value), "nothing lies there"
    for word in ("../bundles/unet", ".", "", "a/unet"):
        with pytest.raises(BundleError, match="is no bundle"):
            find(word)


@pytest.mark.parametrize("there", ["file", "full"])
def test_a_copy_replaces_nothing(there: str, site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    if there == "file":
        Path("mine").touch()
    else:
        Path("mine").mkdir()
        (Path("mine") / "notes").touch()
    assert main_of("bundles", "copy", "unet", "mine") == 2
    assert "mine is there already" in capsys.readouterr().err
    assert main_of("bundles", "copy", "unet", str(site / "bundles" / "unet" / "in")) == 2


def test_the_list_tells_each_in_a_sentence(site: Path, capsys: pytest.CaptureFixture[str]) -> None:
    main_of("bundles")
    lines = capsys.readouterr().out.splitlines()
    for name in NAMES:
        (line,) = [line for line in lines if line.split()[0] == name]
        assert line.endswith(json.loads((BUNDLES / name / "metadata.json").read_text())["description"])
    main_of("bundles", "path", "swinunetr")
    assert capsys.readouterr().out == f"{site / 'bundles' / 'swinunetr'}\n"


def main_of(*words: str) -> int:
    with pytest.raises(SystemExit) as stop:
        main(list(words))
    return int(stop.value.code or 0)


def test_in_a_checkout_the_bundles_are_those_of_the_checkout() -> None:
    assert installed() == BUNDLES
    assert volseg.bundle.find("unet") == BUNDLES / "unet"
    assert data_dir(BUNDLES / "unet") == str(ROOT / "data")


def test_the_page_of_the_package_has_no_link_that_leads_nowhere() -> None:
    description = runpy.run_path(str(ROOT / "setup.py"))["description"]
    page = (ROOT / "README.md").read_text()
    with_address = re.findall(r"\]\(([^)]+)\)", description(page, files_url="https://example.org/volseg/"))
    assert all(link.startswith(("https://", "#")) for link in with_address)
    assert "https://example.org/volseg/LICENSE" in with_address
    assert len(with_address) == len(re.findall(r"\]\(([^)]+)\)", page))
    without = description(page)
    assert all(link.startswith(("https://", "#")) for link in re.findall(r"\]\(([^)]+)\)", without))
    assert "![" not in without
    assert "A held-out scan" not in without
    assert "swinunetr | Swin UNETR of MONAI" in without


def test_the_page_of_the_package_links_to_what_has_an_address(monkeypatch: pytest.MonkeyPatch) -> None:
    handed: dict[str, Any] = {}
    monkeypatch.setattr("setuptools.setup", handed.update)
    for name in ("VOLSEG_URL", "VOLSEG_FILES_URL", "VOLSEG_CATALOGUE_URL"):
        monkeypatch.delenv(name, raising=False)
    runpy.run_path(str(ROOT / "setup.py"), run_name="__main__")
    assert handed["project_urls"] == {}
    monkeypatch.setenv("VOLSEG_URL", "https://example.org/volseg")
    monkeypatch.setenv("VOLSEG_FILES_URL", "https://example.org/volseg/blob/v1/")
    runpy.run_path(str(ROOT / "setup.py"), run_name="__main__")
    links = handed["project_urls"]
    assert links == {
        "Source": "https://example.org/volseg",
        "Documentation": "https://example.org/volseg/blob/v1/docs/index.md",
        "Changelog": "https://example.org/volseg/blob/v1/CHANGELOG.md",
    }
    for link in list(links.values())[1:]:
        assert (ROOT / link.partition("/blob/v1/")[2]).is_file()


@pytest.mark.slow
@pytest.mark.skipif(PYTHON is None, reason="VOLSEG_CLEAN_PYTHON names no Python of an environment with the wheel alone")
def test_a_clean_environment_trains_predicts_and_runs_monais_own_command(tmp_path: Path) -> None:
    """`VOLSEG_CLEAN_PYTHON=ENV/bin/python pytest tests/end_to_end/test_wheel.py`, where ENV holds the wheel only."""
    binaries = Path(str(PYTHON)).parent
    environment = {"PATH": f"{binaries}:/usr/bin:/bin", "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"}

    def run(*words: str) -> str:
        done = subprocess.run(words, cwd=tmp_path, env=environment, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr[-2000:]
        return done.stdout

    root = run(str(PYTHON), "-c", "import volseg; print(volseg.__file__)").strip()
    assert "site-packages" in root
    before = sorted(Path(root).parent.rglob("*.json")) + sorted(Path(root).parent.rglob("*.pt"))
    run("volseg", "phantom", "raw", "--patients", "3", "--days", "1")
    run("volseg", "convert", "uw_madison", "raw", "cohort", "--folds", "2")
    settings = ("--dataset_dir", "cohort", "--max_epochs", "1", "--width", "4", "--roi_size", "[32,32,16]")
    run("volseg", "train", "unet", *settings)
    assert (tmp_path / "data/runs/unet/model.pt").is_file()
    run("volseg", "predict", "unet", "cohort", "--part", "validation", "-o", "predictions")
    run("volseg", "evaluate", "predictions", "cohort", "--part", "validation", "-o", "report")
    config = f"{run('volseg', 'bundles', 'path', 'dense_unet').strip()}/train.json"
    small = ("--growth_rate", "2", "--roi_size", "[32,32,16]", "--max_epochs", "1", "--dataset_dir", "cohort")
    run(str(PYTHON), "-m", "monai.bundle", "run", "training", "--config_file", config, *small)
    assert (tmp_path / "data/runs/dense_unet/model.pt").is_file()
    after = sorted(Path(root).parent.rglob("*.json")) + sorted(Path(root).parent.rglob("*.pt"))
    assert after == before, "nothing is written to where the wheel is installed"

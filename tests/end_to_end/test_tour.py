"""docs/tour.ipynb: what is committed is whole and names no machine; run from end to end, it segments unseen scans.

`python tests/end_to_end/test_tour.py` runs it and puts the new results in.
"""

from __future__ import annotations

import base64
import os
import re
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Mapping
from pathlib import Path
from statistics import mean
from typing import Any

import nbclient
import nbformat
import pytest

ROOT = Path(__file__).resolve().parents[2]
TOUR = ROOT / "docs" / "tour.ipynb"
SHORTER = "--max_epochs 2 --val_interval 1"


@pytest.fixture(scope="module")
def tour() -> nbformat.NotebookNode:
    return nbformat.read(TOUR, as_version=nbformat.NO_CONVERT)


@pytest.fixture
def results(tour: nbformat.NotebookNode) -> nbformat.NotebookNode:
    """The tour as it is committed, where it was run before that."""
    if not any(cell.outputs for cell in code(tour)):
        pytest.skip("the tour has no results; python tests/end_to_end/test_tour.py puts them in")
    return tour


def code(tour: nbformat.NotebookNode, name: str = "") -> list[nbformat.NotebookNode]:
    return [cell for cell in tour.cells if cell.cell_type == "code" and name in ("", cell.id)]


def outputs(cell: nbformat.NotebookNode) -> list[tuple[str, str]]:
    """Media type and content of each output, what was printed included."""
    found: list[tuple[str, str]] = []
    for output in cell.outputs:
        if output.output_type == "stream":
            found.append(("text/plain", output.text))
        elif output.output_type != "error":
            found += list(output.data.items())
    return found


def last_table(tour: nbformat.NotebookNode) -> dict[str, float]:
    """The row of means of the last table that the tour shows: Dice by region."""
    texts = [text for cell in code(tour) for kind, text in outputs(cell) if kind == "text/plain" and "\nmean " in text]
    head, *lines = texts[-1].splitlines()
    (last,) = [line.split()[1:] for line in lines if line.startswith("mean ")]
    return dict(zip(head.split()[-len(last) :], map(float, last), strict=True))


# --- as committed


def test_it_is_a_valid_notebook(tour: nbformat.NotebookNode) -> None:
    nbformat.validate(tour)
    assert tour.metadata.kernelspec == {"display_name": "Python 3", "language": "python", "name": "python3"}


def test_its_results_are_those_of_one_run(results: nbformat.NotebookNode) -> None:
    assert [cell.execution_count for cell in code(results)] == list(range(1, len(code(results)) + 1)), (
        "python tests/end_to_end/test_tour.py runs it from top to bottom"
    )
    assert not [output for cell in code(results) for output in cell.outputs if output.output_type == "error"]
    assert mean(last_table(results).values()) > 0.3


def test_its_pictures_are_small(results: nbformat.NotebookNode) -> None:
    kinds = [kind for cell in code(results) for kind, _ in outputs(cell)]
    assert sum(kind.startswith("image/") for kind in kinds) >= 3
    assert TOUR.stat().st_size < 1_000_000
    for cell in code(results):
        for kind, content in outputs(cell):
            if kind.startswith("image/"):
                assert base64.b64decode(content)[:4] in (b"\x89PNG", b"GIF8"), "which GitHub and all browsers show"


def test_it_names_no_machine(tour: nbformat.NotebookNode) -> None:
    shown = [text for cell in code(tour) for kind, text in outputs(cell) if not kind.startswith("image/")]
    for text in [*(cell.source for cell in tour.cells), *shown]:
        assert not re.search(r"(?<![\w.])/(home|root|tmp|work|usr|opt|mnt|Users|var)\b", text), text[:400]


def test_its_links_lead_somewhere(tour: nbformat.NotebookNode) -> None:
    links = [link for cell in tour.cells for link in re.findall(r"\]\(([^)]+)\)", cell.source)]
    assert len(links) > 5
    for link in links:
        assert link.startswith("https://") or (TOUR.parent / link.partition("#")[0]).exists(), link


def test_ruff_has_nothing_to_say() -> None:
    ruff = Path(sys.executable).with_name("ruff")
    for words in (["check"], ["format", "--check"]):
        done = subprocess.run([ruff, *words, TOUR], cwd=ROOT, capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stdout


# --- where it runs: the first cell, with other places for /content and /kaggle


def find_checkout(tour: nbformat.NotebookNode, root: Path, **changes: str) -> Path:
    """What the first cell takes for the checkout on a machine whose /content and /kaggle are under `root`."""
    (places,) = code(tour, "places")
    source = places.source.replace('"/content"', f'"{root}/content"').replace('"/kaggle"', f'"{root}/kaggle"')
    for old, new in changes.items():
        assert old in source
        source = source.replace(f'{old} = ""', f'{old} = "{new}"')
    before, environment = Path.cwd(), dict(os.environ)
    try:
        found: dict[str, Any] = {}
        exec(compile(source, "places", "exec"), found)
        assert Path.cwd() == found["checkout"].resolve()
        assert shutil.which("volseg"), "the command of this Python is on PATH"
        return Path(found["checkout"])
    finally:
        os.chdir(before)
        os.environ.clear()
        os.environ.update(environment)


def make_checkout(folder: Path) -> Path:
    (folder / "docs").mkdir(parents=True)
    (folder / "bundles" / "unet").mkdir(parents=True)
    shutil.copy(ROOT / "bundles" / "unet" / "train.json", folder / "bundles" / "unet")
    return folder


def test_it_finds_the_checkout_that_it_lies_in(tour, tmp_path, monkeypatch):
    checkout = make_checkout(tmp_path / "anywhere")
    (checkout / "data/tour/raw").mkdir(parents=True)
    monkeypatch.chdir(checkout / "docs")
    assert find_checkout(tour, tmp_path) == checkout
    assert not (checkout / "data/tour").exists(), "what an earlier run left is removed"


def test_colab_has_it_in_content(tour, tmp_path, monkeypatch):
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    with pytest.raises(FileNotFoundError, match="set REPOSITORY"):
        find_checkout(tour, tmp_path)
    checkout = make_checkout(tmp_path / "content/volseg")
    assert find_checkout(tour, tmp_path) == checkout


@pytest.mark.parametrize("upload", ["input/volseg", "input/datasets/somebody/volseg"])
def test_kaggle_has_it_among_the_inputs_and_works_on_a_copy(tour, tmp_path, monkeypatch, upload):
    working = tmp_path / "kaggle/working"
    working.mkdir(parents=True)
    make_checkout(tmp_path / "kaggle" / upload)
    monkeypatch.setattr(os, "access", lambda path, mode: "input" not in Path(path).parts)
    monkeypatch.chdir(working)
    assert find_checkout(tour, tmp_path) == working / "volseg"
    assert (working / "volseg/bundles/unet/train.json").is_file()


def test_it_is_cloned_where_it_is_not(tour, tmp_path, monkeypatch):
    origin = make_checkout(tmp_path / "origin")
    git = ["git", "-C", str(origin), "-c", "user.name=a", "-c", "user.email=a@example.org"]
    for words in (["init", "-q"], ["add", "."], ["commit", "-q", "-m", "first"]):
        subprocess.run([*git, *words], check=True)
    (tmp_path / "content").mkdir()
    monkeypatch.chdir(tmp_path / "content")
    assert find_checkout(tour, tmp_path, REPOSITORY=origin.as_uri()) == tmp_path / "content/volseg"
    assert (tmp_path / "content/volseg/bundles/unet/train.json").is_file()


# --- run


def execute(
    tour: nbformat.NotebookNode, folder: Path, changes: Mapping[str, str] | None = None
) -> nbformat.NotebookNode:
    """The tour with its results, run with changes of its text in a checkout in `folder`; raises what a cell raises."""
    tour = nbformat.from_dict(tour)
    for old, new in (changes or {}).items():
        (cell,) = [cell for cell in code(tour) if old in cell.source]
        cell.source = cell.source.replace(old, new)
    checkout = folder / "checkout"
    shutil.copytree(ROOT / "bundles", checkout / "bundles")
    shutil.copy(ROOT / "setup.cfg", checkout)  # by which a bundle knows its checkout
    # The tour finds the command `volseg` itself.
    environment = {**os.environ, "PATH": "/usr/bin:/bin", "IPYTHONDIR": str(folder / "ipython")}
    resources = {"metadata": {"path": str(checkout)}}
    client = nbclient.NotebookClient(
        tour,
        timeout=1800,
        startup_timeout=300,
        resources=resources,
        record_timing=False,
        coalesce_streams=True,
    )
    ran = client.execute(env=environment)
    ran.metadata = tour.metadata  # without the version of this Python
    for cell in code(ran):
        for output in cell.outputs:
            if output.output_type == "stream":  # paths as they are in the checkout
                output.text = output.text.replace(f"{checkout}/", "")
    return ran


@pytest.mark.slow
def test_it_runs_from_slices_to_report(tour, tmp_path, warm_commands):
    """Each cell, with a shorter training; that the whole one learns stands in the results, and is the long test."""
    changes = {"{Path(sys.executable).parent}": warm_commands.path, "--max_epochs 24 --val_interval 4": SHORTER}
    look(execute(tour, tmp_path, changes), tmp_path)


@pytest.mark.long
def test_as_it_stands_it_segments_unseen_scans(tour, tmp_path):
    ran = execute(tour, tmp_path)
    look(ran, tmp_path)
    assert mean(last_table(ran).values()) > 0.3


def look(ran: nbformat.NotebookNode, tmp_path: Path) -> None:
    """The tour has made what it says it makes."""
    assert last_table(ran).keys() == {"large_bowel", "small_bowel", "stomach"}
    made = tmp_path / "checkout/data/tour"
    assert (made / "report/report.html").is_file()
    assert len(list((made / "slicer").glob("*.seg.nrrd"))) == 4
    assert [kind for cell in code(ran) for kind, _ in outputs(cell)].count("image/png") == 2


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as place:
        nbformat.write(execute(nbformat.read(TOUR, as_version=nbformat.NO_CONVERT), Path(place)), TOUR)

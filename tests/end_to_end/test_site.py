"""The documentation site: it builds without a warning, every room has its page, and the page about Python runs."""

from __future__ import annotations

import importlib
import inspect
import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from volseg.cohort import write_cohort
from volseg.datasets import write_phantom
from volseg.formats import UwMadison

ROOT = Path(__file__).resolve().parents[2]
PYTHON = ROOT / "docs" / "get-started" / "python.md"


@pytest.fixture(scope="module")
def site(tmp_path_factory):
    folder = tmp_path_factory.mktemp("site")
    command = [sys.executable, "-m", "mkdocs", "build", "--strict", "--site-dir", str(folder)]
    environment = {**os.environ, "NO_MKDOCS_2_WARNING": "1"}
    done = subprocess.run(command, cwd=ROOT, env=environment, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return folder


@pytest.mark.slow
def test_every_public_name_is_in_the_reference(site):
    for page in sorted((site / "reference" / "python").glob("*/index.html")):
        room = page.parent.name
        shown = set(re.findall(rf'id="volseg\.{room}\.(\w+)"', page.read_text()))
        face = importlib.import_module(f"volseg.{room}")
        told = {
            name for name in face.__all__ if inspect.isclass(found := getattr(face, name)) or inspect.isfunction(found)
        }
        # Functions that bear the name of their module: the builder takes them for that.
        assert told - shown <= {"in_plane", "mirror"}, room


@pytest.mark.slow
def test_examples_are_code_and_not_quotations(site):
    text = (site / "reference" / "python" / "volume" / "index.html").read_text()
    assert "&gt;&gt;&gt;" in text
    assert "<blockquote>" not in text


@pytest.mark.slow
def test_the_lines_of_python_run(tmp_path, monkeypatch, capsys):
    place = tmp_path / "data" / "quickstart"
    write_phantom(place / "raw", patients=2, days=1)
    write_cohort(UwMadison(place / "raw"), place / "cohort", folds=2)
    (tmp_path / "bundles").symlink_to(ROOT / "bundles")
    monkeypatch.chdir(tmp_path)
    (lines,) = re.findall(r"```python\n(.*?)```", PYTHON.read_text(encoding="utf-8"), re.DOTALL)
    found: dict[str, object] = {}
    exec(compile(lines, PYTHON.name, "exec"), found)
    assert len(found["rows"]) == 3 * len(found["validation"])
    assert all(not row.error for row in found["rows"])
    assert "stomach" in capsys.readouterr().out

"""A command of volseg run in the process of a test."""

from __future__ import annotations

from pathlib import Path

import pytest

from volseg.cli import main


def told(capsys: pytest.CaptureFixture[str], *words: str | Path) -> tuple[int, str]:
    """Exit code and what was printed on both streams."""
    code = 0
    try:
        main([str(word) for word in words])
    except SystemExit as stop:
        code = int(stop.code or 0)
    printed = capsys.readouterr()
    return code, printed.out + printed.err

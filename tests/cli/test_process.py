"""What a command sets for its process and those that it starts."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_", "MALLOC_ARENA_MAX")
SCRIPT = f"import os; from volseg.cli.process import settle; settle(); print(*(os.environ[name] for name in {NAMES!r}))"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "passive 4294967296 8589934592 1"),
        ({"OMP_WAIT_POLICY": "active", "MALLOC_TRIM_THRESHOLD_": "1000"}, "active 4294967296 1000 1"),
    ],
)
def test_what_the_environment_says_stays(given: dict[str, str], expected: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=inherited | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected.split()

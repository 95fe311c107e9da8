"""What a command sets for its process and those that it starts."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

NAMES = ("OMP_WAIT_POLICY", "MALLOC_MMAP_THRESHOLD_", "MALLOC_TRIM_THRESHOLD_")
SCRIPT = f"import os; from volseg.process import settle; settle(); print(*(os.environ[name] for name in {NAMES!r}))"


@pytest.mark.parametrize(
    ("given", "expected"),
    [
        ({}, "passive 4294967296 8589934592"),
        ({"OMP_WAIT_POLICY": "active", "MALLOC_TRIM_THRESHOLD_": "1000"}, "active 4294967296 1000"),
    ],
)
def test_what_the_environment_says_stays(given: dict[str, str], expected: str) -> None:
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    done = subprocess.run(
        [sys.executable, "-c", SCRIPT], env=inherited | given, capture_output=True, text=True, check=True
    )
    assert done.stdout.split() == expected.split()


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="of glibc")
def test_memory_that_is_given_back_is_kept() -> None:
    """Blocks of 64 MiB, taken and given back: their pages come from the system once."""
    script = """
import resource, sys
from volseg.process import settle
if sys.argv[1] == "settled":
    settle()
import numpy as np
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(20):
    np.empty(2**23).fill(1)
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""
    inherited = {name: value for name, value in os.environ.items() if name not in NAMES}
    plain, settled = (
        int(
            subprocess.run(
                [sys.executable, "-c", script, how], env=inherited, capture_output=True, text=True, check=True
            ).stdout
        )
        for how in ("plain", "settled")
    )
    assert settled < plain / 3

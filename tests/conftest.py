"""What several test files need."""

from __future__ import annotations

from pathlib import Path

import pytest

_SHARED = Path(__file__).resolve().parents[2] / "shared" / "data"


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder of real test data beside a checkout of the developers; elsewhere the test is skipped."""
    if not _SHARED.is_dir():
        pytest.skip(f"the real test data is not at {_SHARED}")
    return _SHARED

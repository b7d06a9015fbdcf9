"""What all tests share."""

from __future__ import annotations

import pytest


@pytest.fixture(autouse=True)
def _no_settings_from_outside(monkeypatch):
    """A developer's own BATCHRUN_* variables and key must not change a test."""
    import os

    for name in list(os.environ):
        if name.startswith("BATCHRUN_") or name == "FIREWORKS_API_KEY":
            monkeypatch.delenv(name)

"""Whoever asks for no trace pays nothing for it; whoever asks without the packages is told what to install."""

from __future__ import annotations

import subprocess
import sys

import pytest
from commands import at, prompts
from servers import ROOT, simulated

CODE = """
import sys
from batchrun.__main__ import main
if "--otel" in sys.argv:
    sys.modules["opentelemetry"] = None  # as if it were not installed
try:
    main()
finally:
    print(*[name for name in sys.modules if name.partition(".")[0] in {"opentelemetry", "google", "requests"}])
    print(*[name for name in sys.modules if name.startswith("batchrun.tracing")])
"""


@pytest.fixture(scope="module")
def server():
    with simulated() as endpoint:
        yield endpoint


@pytest.fixture
def start(server, tmp_path):
    """Start a run in a process of its own, which names what it has imported of all that a trace needs."""

    def begin(*more):
        words = ["run", prompts(tmp_path / "in.jsonl", 2), *at(server.base_url, tmp_path / "out"), *more]
        env = {"PYTHONPATH": str(ROOT), "OTEL_EXPORTER_OTLP_ENDPOINT": "http://127.0.0.1:1"}
        command = [sys.executable, "-c", CODE, *map(str, words)]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return begin


def test_nothing_is_imported_unless_asked_for(start):
    """A whole run knows nothing of OpenTelemetry, whatever its variables say."""
    done = start("-qq")
    assert (done.returncode, done.stdout.split(), done.stderr) == (0, [], "")


def test_missing_packages_are_named_before_anything_is_sent(start, server, tmp_path):
    """One line of what is missing, one of what to type, and no folder."""
    before = server.totals()["requests"]
    done = start("--otel")
    assert done.returncode == 2
    assert done.stderr.splitlines() == [
        "error: to send a trace, the packages of OpenTelemetry are missing",
        "exit 2: nothing was sent. Next: pip install 'batchrun-llm[otel]', or leave --otel out",
    ]
    assert server.totals()["requests"] == before
    assert not (tmp_path / "out").exists()

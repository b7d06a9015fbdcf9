"""The processes that are measured: the server, the clients, and what the system says that they took."""

from __future__ import annotations

import os
import resource
import subprocess
import sys
import tempfile
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

ENVIRONMENT = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
"""As after an installation: what is imported a second time is not compiled again."""

_MB = 1 << 20 if sys.platform == "darwin" else 1 << 10  # in the units of ru_maxrss


class Figure(NamedTuple):
    """One line of the table; `most` is what the value must not pass, None where it is only good to know."""

    name: str
    value: float
    unit: str
    most: float | None = None


class Took(NamedTuple):
    """What a process took from its start to its end; `cpu_s` is user and system time together."""

    wall_s: float
    cpu_s: float
    peak_mb: float


class Server:
    """The benchmark's server in a process of its own; what it took, and had at once, is there when `serving` ends."""

    took: Took
    most_at_once: int

    def __init__(self, *arguments: str) -> None:
        self._started = time.perf_counter()
        command = [sys.executable, "-m", "benchmarks.server", *arguments]
        self._process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        self.base_url = self._process.stdout.readline().strip()

    def close(self) -> None:
        """End the server, and learn what it took."""
        self._process.stdin.close()
        self.most_at_once = int(self._process.stdout.read())
        self._process.stdout.close()
        self.took = _wait(self._process, self._started)


@contextmanager
def serving(*arguments: str) -> Iterator[Server]:
    server = Server(*arguments)
    try:
        yield server
    finally:
        server.close()


def run(*arguments: str, python: str = sys.executable, stderr: int | None = None) -> Took:
    """Run `python -m ARGUMENTS` to its end; what it says is shown only if it fails, but for a `stderr` of its own."""
    with tempfile.TemporaryFile() as said:
        started = time.perf_counter()
        command = [python, "-m", *arguments]
        process = subprocess.Popen(command, stdout=said, stderr=stderr or said, env=ENVIRONMENT)
        took = _wait(process, started)
        if process.returncode:
            said.seek(0)
            sys.exit(f"{' '.join(arguments)} ended with {process.returncode}:\n{said.read().decode()}")
        return took


def own_peak_mb() -> float:
    """The most memory that this process has had so far."""
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / _MB


def _wait(process: subprocess.Popen[bytes] | subprocess.Popen[str], started: float) -> Took:
    """Wait for one process: `wait4` says what it took, apart from all others."""
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    return Took(time.perf_counter() - started, usage.ru_utime + usage.ru_stime, usage.ru_maxrss / _MB)

"""How long a user waits: for `--help`, and for the first request of a small run, and of a large one, to leave."""

from __future__ import annotations

import socket
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

from benchmarks.process import ENVIRONMENT, Figure, run
from benchmarks.work import batchrun_command, write_rows

TIMES = 9
ROWS, MANY_ROWS = 200, 1_000_000
MOST_HELP_S = 0.2
MOST_FIRST_REQUEST_S, MOST_OF_MANY_S = 0.6, 25


def measure() -> list[Figure]:
    return [
        Figure("`batchrun --help`", median(run("batchrun", "--help").wall_s for _ in range(TIMES)), "s", MOST_HELP_S),
        Figure("`batchrun --version`", median(run("batchrun", "--version").wall_s for _ in range(TIMES)), "s"),
        Figure(
            f"start to first request, {ROWS} rows",
            median(first_request_s() for _ in range(TIMES)),
            "s",
            MOST_FIRST_REQUEST_S,
        ),
        Figure(
            f"start to first request, {MANY_ROWS:,} rows, each of them checked",
            first_request_s(MANY_ROWS),
            "s",
            MOST_OF_MANY_S,
        ),
    ]


def first_request_s(rows: int = ROWS) -> float:
    """Seconds from the start of the process to the first bytes of a request; nobody answers it."""
    with tempfile.TemporaryDirectory() as folder, socket.create_server(("127.0.0.1", 0)) as listener:
        prompts = Path(folder) / "prompts.jsonl"
        write_rows(prompts, rows)
        command = batchrun_command(prompts, Path(folder) / "out", f"http://127.0.0.1:{listener.getsockname()[1]}/v1")
        listener.settimeout(60)
        started = time.perf_counter()
        process = subprocess.Popen([sys.executable, "-m", *command], stderr=subprocess.DEVNULL, env=ENVIRONMENT)
        try:
            connection, _ = listener.accept()
            connection.recv(1)
            took_s = time.perf_counter() - started
            connection.close()
            return took_s
        finally:
            process.kill()
            process.wait()


if __name__ == "__main__":
    for figure in measure():
        print(*figure)

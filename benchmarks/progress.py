"""What it costs to watch a run: the same one with the bar on a terminal and with `--quiet`, in turn.

The terminal is a pty of eighty columns that this process reads. What `--quiet` leaves out is all counted: the bar, the
import of tqdm, and the report that is printed at the end.
"""

from __future__ import annotations

import fcntl
import os
import pty
import struct
import sys
import tempfile
import termios
import threading
from contextlib import contextmanager, suppress
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING

from benchmarks.process import Figure, run, serving
from benchmarks.work import batchrun_command, write_rows

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_RATIO = 1.01


def measure(rows: int = 20_000, pairs: int = 15) -> list[Figure]:
    """The ratio of CPU times, and of the times by the clock, as medians of pairs."""
    quiet, shown = [], []
    with tempfile.TemporaryDirectory() as folder, serving() as server, terminal() as stderr:
        prompts = Path(folder) / "prompts.jsonl"
        write_rows(prompts, rows)
        for number in range(pairs):
            for took, how in ((quiet, ["-q"]), (shown, [])):
                out = Path(folder) / f"out-{number}-{len(how)}"
                took.append(run(*batchrun_command(prompts, out, server.base_url, *how), stderr=stderr))
    cpu = [bar.cpu_s / none.cpu_s for bar, none in zip(shown, quiet, strict=True)]
    return [
        Figure("progress on a terminal : --quiet, CPU", median(cpu), "x", MOST_RATIO),
        Figure("… lowest of the pairs", min(cpu), "x"),
        Figure("… highest of the pairs", max(cpu), "x"),
        Figure("… CPU of --quiet", median(one.cpu_s for one in quiet), "s"),
    ]


@contextmanager
def terminal() -> Iterator[int]:
    """A terminal whose other end takes all that comes."""
    ours, theirs = pty.openpty()
    fcntl.ioctl(theirs, termios.TIOCSWINSZ, struct.pack("HHHH", 24, 80, 0, 0))

    def drain() -> None:
        with suppress(OSError):  # how Linux says that the other end is closed
            while os.read(ours, 65_536):
                pass

    reader = threading.Thread(target=drain)
    reader.start()
    try:
        yield theirs
    finally:
        os.close(theirs)
        reader.join()
        os.close(ours)


if __name__ == "__main__":
    for figure in measure(*map(int, sys.argv[1:])):
        print(*figure)

"""Pairs: a bare loop and `batchrun run` in turn, over the same prompts and against the same server.

Only the ratios travel from machine to machine. The CPU time is that of the whole client process, from its start to its
end: checking the input, sending, parsing, keeping, sealing and the report are all in it.
"""

from __future__ import annotations

import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, NamedTuple

from benchmarks.process import Figure, Server, Took, run, serving
from benchmarks.work import CONCURRENCY, batchrun_command, write_rows

if TYPE_CHECKING:
    from collections.abc import Sequence


class Work(NamedTuple):
    """What is measured: `server` and `ours` are further arguments of the server and of `batchrun run`."""

    rows: int
    concurrency: int = CONCURRENCY
    server: Sequence[str] = ()
    ours: Sequence[str] = ()


class Pairs(NamedTuple):
    """What the two took, pair by pair; the server has ended."""

    rows: int
    bare: list[Took]
    ours: list[Took]
    server: Server

    @property
    def cpu_ratios(self) -> list[float]:
        """CPU time of batchrun over that of the bare loop, of each pair."""
        return [ours.cpu_s / bare.cpu_s for bare, ours in zip(self.bare, self.ours, strict=True)]

    @property
    def time_ratio(self) -> float:
        """The same for the time by the clock, the median."""
        return median(ours.wall_s / bare.wall_s for bare, ours in zip(self.bare, self.ours, strict=True))

    def figures(self, what: str, most_cpu: float | None = None, most_time: float | None = None) -> list[Figure]:
        """The lines of a table; `what` begins each, the ratios reach no more than `most_…`."""
        ratios, us = self.cpu_ratios, 1e6 / self.rows
        return [
            Figure(f"{what}: CPU per request, batchrun : bare loop", median(ratios), "x", most_cpu),
            Figure(f"{what}: lowest of the pairs", min(ratios), "x"),
            Figure(f"{what}: highest of the pairs", max(ratios), "x"),
            Figure(f"{what}: time per request, batchrun : bare loop", self.time_ratio, "x", most_time),
            Figure(f"{what}: CPU per request, batchrun", median(one.cpu_s for one in self.ours) * us, "µs"),
            Figure(f"{what}: CPU per request, bare loop", median(one.cpu_s for one in self.bare) * us, "µs"),
            Figure(f"{what}: CPU per request, server", self.server.took.cpu_s / len(ratios) / 2 * us, "µs"),
            Figure(f"{what}: requests a second, batchrun", self.rows / median(one.wall_s for one in self.ours), ""),
            Figure(f"{what}: requests a second, bare loop", self.rows / median(one.wall_s for one in self.bare), ""),
        ]


def in_pairs(work: Work, pairs: int) -> Pairs:
    bare, ours = [], []
    with tempfile.TemporaryDirectory() as folder:
        prompts = Path(folder) / "prompts.jsonl"
        write_rows(prompts, work.rows)
        with serving(*work.server) as server:
            for number in range(pairs):
                stream = ["stream"] if "stream" in work.server else []
                bare.append(run("benchmarks.bare", str(prompts), server.base_url, str(work.concurrency), *stream))
                out = Path(folder) / f"out-{number}"
                options = ["-c", str(work.concurrency), *work.ours]
                ours.append(run(*batchrun_command(prompts, out, server.base_url, *options)))
    return Pairs(work.rows, bare, ours, server)

"""The store alone: how many records it takes, how late it lets the loop be, and how long a start takes that finds many.

python -m benchmarks.storage                     # all but the last, about four minutes
python -m benchmarks.storage feed 200000
python -m benchmarks.storage steady 60           # seconds at 50 rows a second
python -m benchmarks.storage resume 10000000 0   # rows, and about how many bytes of text each; 0 is the release form
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
import time
from collections import deque
from pathlib import Path
from typing import TYPE_CHECKING

import msgspec

from batchrun.cli.lean import be_lean
from batchrun.config import StoreConfig, check_config
from batchrun.engine.lag import Lag
from batchrun.prompts import open_prompts
from batchrun.prompts.check import check
from batchrun.prompts.render import Renderer
from batchrun.store.folder import RunFolder
from batchrun.store.fs import Fs
from batchrun.store.identity import describe
from batchrun.store.keeper import Store
from batchrun.store.manifest import Session
from benchmarks.process import Figure, run
from benchmarks.records import fill, records, run_of
from benchmarks.work import MODEL

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

MOST_RECORD_US, MOST_CPU_US, MOST_LAG_MS, MOST_COMMIT_MS = 1e6 / 20_000, 35, 50, 100
LEAST_PART_BYTES = 16 * 1024 * 1024
MOST_RESUME = {1_000_000: (5, 150), 10_000_000: (40, 600)}
"""By rows: seconds, and MB above an empty run."""

STEADY_ROWS_PER_S = 50
_SAMPLE_S = 0.02
_A_TURN = 32  # records that reach the loop at once
_SIMULATED = ["--set", "endpoint.base_url=simulated"]
_DONE = Session(exit_code=0, cause="nothing left to do")


def measure() -> list[Figure]:
    return [*resume(), *nothing_left(), *steady(), *feed()]  # a child's peak memory is never below its parent's


def feed(rows: int = 200_000) -> list[Figure]:
    """The storage path without anything before it: journal, sealing, closing."""
    be_lean()
    lag, kept = Lag(), records(rows)

    async def feeding(store: Store) -> None:
        sampling = asyncio.create_task(_sample(lag))
        for at, record in enumerate(kept):
            await store.may_send(record.index)
            store.keep(record)
            if at % _A_TURN == 0:
                await asyncio.sleep(0)
            await store.room()
        await asyncio.to_thread(store.close, _DONE, [])
        sampling.cancel()

    with tempfile.TemporaryDirectory() as path:
        began_s, began_cpu_s = time.perf_counter(), time.process_time()
        _run(RunFolder(Path(path, "out")), rows, feeding)
        wall_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
    line_bytes = len(msgspec.json.encode(kept[-1]))
    return [
        Figure(
            f"time of a record in the store, {rows:,} of {line_bytes:,} bytes",
            wall_s / rows * 1e6,
            "µs",
            MOST_RECORD_US,
        ),
        Figure("CPU of a record in the store, all threads", cpu_s / rows * 1e6, "µs", MOST_CPU_US),
        Figure("lag of the loop while the store works, p99", (lag.p99_s or 0) * 1e3, "ms", MOST_LAG_MS),
        Figure("lag of the loop while the store works, most", lag.max_s * 1e3, "ms"),
    ]


class _TimedFs(Fs):
    """Notes how long each record waited until the flush that covers it had returned."""

    def __init__(self) -> None:
        self.kept_at_s: deque[float] = deque()
        self.waited_s: list[float] = []
        self._written = 0

    def write(self, fd: int, data: bytes, path: Path) -> None:
        super().write(fd, data, path)
        self._written += data.count(b'{"kind":"record"')

    def flush(self, fd: int, path: Path) -> None:
        super().flush(fd, path)
        if path.suffix == ".jl":
            now_s, written, self._written = time.perf_counter(), self._written, 0
            self.waited_s += [now_s - self.kept_at_s.popleft() for _ in range(written)]


def steady(seconds: int = 60) -> list[Figure]:
    """What each answer of a run waits for the disk, and what is left of such a run."""
    kept, fs = records(STEADY_ROWS_PER_S * seconds), _TimedFs()

    async def feeding(store: Store) -> None:
        began_s = time.perf_counter()
        for at, record in enumerate(kept):
            await asyncio.sleep(max(0, began_s + at / STEADY_ROWS_PER_S - time.perf_counter()))
            await store.may_send(record.index)
            fs.kept_at_s.append(time.perf_counter())
            store.keep(record)
        await asyncio.to_thread(store.close, _DONE, [])

    with tempfile.TemporaryDirectory() as path:
        folder = RunFolder(Path(path, "out"), fs)
        _run(folder, len(kept), feeding)
        *parts, _ = [part for part in Store(folder, run_of(len(kept))).recovered.manifest.parts.values() if part.rows]
    small = sum(part.bytes < LEAST_PART_BYTES for part in parts)
    what = f"at {STEADY_ROWS_PER_S} rows a second for {seconds} s"
    return [
        Figure(f"time until an answer is on disk, most, {what}", max(fs.waited_s) * 1e3, "ms", MOST_COMMIT_MS),
        Figure(f"parts under 16 MB but the last, {what}", small, "", 0),
    ]


def resume(rows: int = 1_000_000, text_chars: int = 480) -> list[Figure]:
    """A start, with every part checked, that finds all rows done: the whole process, imports and all."""
    with tempfile.TemporaryDirectory() as path:
        for name, count in (("empty", 1), ("full", rows)):
            run("benchmarks.records", str(Path(path, name)), str(count), str(text_chars))
        empty, full = (run("benchmarks.storage", "open", str(Path(path, name))) for name in ("empty", "full"))
        disk_mb = sum(part.stat().st_size for part in Path(path, "full", "results").iterdir()) / 1e6
    most_s, most_mb = MOST_RESUME.get(rows, (None, None))
    what = f"{rows:,} rows done, {disk_mb:,.0f} MB of parts"
    return [
        Figure(f"a start that finds {what}", full.wall_s, "s", most_s),
        Figure("its CPU", full.cpu_s, "s"),
        Figure("memory that it takes above an empty run", full.peak_mb - empty.peak_mb, "MB", most_mb),
    ]


def nothing_left(rows: int = 1_000_000) -> list[Figure]:
    """All that a user waits for where nothing is left to do: the check of the input, the store, the report."""
    with tempfile.TemporaryDirectory() as path:
        prompts = Path(path, "prompts.jsonl")
        with prompts.open("w") as file:
            file.writelines(f'{{"prompt": "What is the parcel with number {n:012d} worth?"}}\n' for n in range(rows))
        simulated = {"endpoint": {"base_url": "simulated"}, "request": {"model": MODEL}}
        config = check_config({**simulated, "input": str(prompts), "output": str(Path(path, "out"))})
        began_s = time.perf_counter()
        checked = check(open_prompts(config.input), Renderer(config))
        check_s = time.perf_counter() - began_s
        fill(Path(path, "out"), describe(config, rows=rows, models=checked.models, fingerprint=checked.fingerprint))
        took = run("batchrun", "run", str(prompts), "-o", config.output, "-m", MODEL, *_SIMULATED)
    return [
        Figure(f"the check of {rows:,} rows before such a start", check_s, "s"),
        Figure(f"`batchrun run` with nothing left to do, {rows:,} rows: check, store, report", took.wall_s, "s"),
    ]


def _run(folder: RunFolder, rows: int, feeding: Callable[[Store], Awaitable[None]]) -> None:
    folder.make()
    folder.write_run_file(run_of(rows))

    async def start_and_feed() -> None:
        store = Store(folder, run_of(rows))
        store.start(StoreConfig(), lambda error: sys.exit(str(error)))
        await feeding(store)

    with folder.locked():
        asyncio.run(start_and_feed())


async def _sample(lag: Lag) -> None:
    while True:
        began_s = time.perf_counter()
        await asyncio.sleep(_SAMPLE_S)
        lag.add(time.perf_counter() - began_s - _SAMPLE_S)


def _open(path: str) -> None:
    folder = RunFolder(path)
    with folder.locked():
        if Store(folder, folder.read_run_file()).open_rows():
            sys.exit("not every row is done")


PARTS = {"feed": feed, "steady": steady, "resume": resume, "nothing_left": nothing_left}

if __name__ == "__main__":
    part, *rest = sys.argv[1:] or ["all"]
    if part == "open":
        _open(*rest)
    else:
        for figure in PARTS.get(part, measure)(*map(int, rest)):
            print(*figure)

"""What a report of a whole run takes: the command, from its start to its end, on a folder as a run leaves it.

python -m benchmarks.report                 # 200 rows and a million
python -m benchmarks.report 4000000         # past the size from which on percentiles are read from a histogram
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.config import Config
from batchrun.pricing import load_prices
from batchrun.store.folder import RunFile, RunFolder, part_name
from batchrun.store.keeper import Store
from batchrun.store.manifest import Entry, Session
from batchrun.store.parts import PartWriter
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.types import Attempt, Record
from benchmarks.process import Figure, run
from benchmarks.records import records, run_of
from benchmarks.work import MODEL

MOST = {200: (1, 150), 1_000_000: (3, 300)}
"""By rows: seconds, and MB."""

_PIECE_ROWS, _PART_ROWS, _FAILURES = 5_000, 40_000, 100
_BEGAN_AT = 1_800_000_000_000_000
_ROW_US = 10_000
_PICO = load_prices().prices[MODEL].pico_usd_per_token
_PERF = (
    '{"prompt-tokens":"211","cached-prompt-tokens":"0","server-time-to-first-token":"0.21",'
    '"server-processing-time":"0.93","fireworks-sampling-options":"{}"}'
)


def measure(*sizes: int) -> list[Figure]:
    figures: list[Figure] = []
    with tempfile.TemporaryDirectory() as folder:
        for rows in sizes or tuple(MOST):
            out = Path(folder) / str(rows)
            run("benchmarks.report", "fill", str(out), str(rows))
            took = [run("batchrun", "report", str(out), *options) for options in ((), (), ("--by", "label"))]
            most_s, most_mb = MOST.get(rows, (None, None))
            figures += [
                Figure(f"a report of {rows:,} rows", min(took[0].wall_s, took[1].wall_s), "s", most_s),
                Figure("… its memory", took[1].peak_mb, "MB", most_mb),
                Figure("… with `--by label`", took[2].wall_s, "s"),
            ]
    return figures


def fill(path: Path, rows: int) -> None:
    """A closed run: streams of all lengths, of which every fiftieth took two attempts, and failures in every part."""
    folder, run_file = RunFolder(path), _run_file(rows)
    folder.make()
    folder.write_run_file(run_file)
    good = to_batch([_success(record) for record in records(min(rows, _PIECE_ROWS))], RESULTS)
    bad = to_batch([_failure(record) for record in records(min(rows, _FAILURES))], FAILURES)
    with folder.locked():
        recovered = Store(folder, run_file).recovered
        manifest, epoch = recovered.manifest, recovered.epoch or 0
        for segment, start in enumerate(range(0, rows, _PART_ROWS), start=1):
            stop, name = min(start + _PART_ROWS, rows), part_name(epoch, segment)
            failed = min(_FAILURES, (stop - start) // 2)
            results = PartWriter(folder, folder.results, name, RESULTS)
            for first in range(start, stop - failed, _PIECE_ROWS):
                results.add(_moved(good, first, min(first + _PIECE_ROWS, stop - failed), seed=first))
            failures = PartWriter(folder, folder.failures, name, FAILURES)
            failures.add(_moved(bad, stop - failed, stop, seed=stop))
            parts = [results.finish(), failures.finish()]
            manifest.put(Entry(kind="part", at=_BEGAN_AT, epoch=epoch, segment=segment, parts=parts))
        wall_s = rows * _ROW_US / 1e6
        session = Session(exit_code=3, cause="done", wall_s=wall_s, limited_s={"concurrency": wall_s})
        manifest.put(Entry(kind="close", at=_BEGAN_AT + rows * _ROW_US, epoch=epoch, session=session))


def _run_file(rows: int) -> RunFile:
    config = msgspec.to_builtins(Config(input="x", keep_columns=["label"]))
    return msgspec.structs.replace(run_of(rows), config=config, prices=msgspec.to_builtins(load_prices()))


def _success(record: Record) -> Record:
    label = f'{{"label":"{"abcdefg"[record.index % 7]}"}}'
    nano_usd = record.prompt_tokens * _PICO[0] // 1000 + record.completion_tokens * _PICO[2] // 1000
    return msgspec.structs.replace(
        record, attempts=1 + _is_retried(record.index), perf_metrics=_PERF, input=label, cost_usd=nano_usd / 1e9
    )


def _is_retried(index: int) -> bool:
    return index % 50 == 0


def _log(started_at: int) -> str:
    """One attempt that was turned away a second before."""
    turned_away = Attempt(
        number=1,
        started_at=started_at - 1_000_000,
        latency_s=0.2,
        error_type="overloaded",
        error_message="HTTP 503",
        status_code=503,
    )
    return msgspec.json.encode([turned_away]).decode()


def _failure(record: Record) -> Record:
    return Record(
        index=record.index,
        custom_id=record.custom_id,
        requested_model=MODEL,
        error_type=("server_error", "timed_out")[record.index % 2],
        error_message="HTTP 500: the engine is gone",
        status_code=500,
        attempts=1,
        input='{"label":"a"}',
        latency_s=0.5,
    )


def _moved(piece: pa.RecordBatch, first: int, stop: int, *, seed: int) -> pa.RecordBatch:
    """A piece as other rows: their numbers, ids and times, and latencies of their own."""
    rows, rng = stop - first, np.random.default_rng(seed)
    index = np.arange(first, stop)
    latency_s = rng.lognormal(0, 0.5, rows)
    started_at = _BEGAN_AT + index * _ROW_US
    columns = {
        "index": pa.array(index),
        "custom_id": pc.binary_join_element_wise("row", pa.array(index).cast(pa.string()), "-"),
        "latency_s": pa.array(latency_s),
        "queued_s": pa.array(rng.exponential(0.01, rows)),
        "attempt_log": pa.array([_log(at) if _is_retried(row) else None for row, at in enumerate(started_at.tolist())]),
        "started_at": pa.array(started_at),
        "finished_at": pa.array(started_at + (latency_s * 1e6).astype(np.int64)),
        "ttft_s": pa.array(latency_s * 0.2),
        "ttfvt_s": pa.array(latency_s * 0.3),
        "itl_mean_s": pa.array(latency_s / 100),
        "itl_p99_s": pa.array(latency_s / 50),
        "server_ttft_s": pa.array(latency_s * 0.15),
        "server_processing_s": pa.array(latency_s * 0.9),
    }
    batch = piece.slice(0, rows)
    return pa.record_batch(
        [columns.get(field.name, batch[field.name]).cast(field.type) for field in batch.schema], batch.schema
    )


if __name__ == "__main__":
    if sys.argv[1:2] == ["fill"]:
        fill(Path(sys.argv[2]), int(sys.argv[3]))
    else:
        for figure in measure(*map(int, sys.argv[1:])):
            print(*figure)

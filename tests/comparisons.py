"""Pairs of run folders to be compared: from records, and large ones from columns."""

from __future__ import annotations

import asyncio

import numpy as np
import pyarrow as pa
from stores import feed, record, run_file

from batchrun.comparing import compare_folders
from batchrun.report.compare.gates import parse_gate
from batchrun.store.folder import RunFolder, part_name
from batchrun.store.identity import fit
from batchrun.store.keeper import Store
from batchrun.store.manifest import Entry, Session
from batchrun.store.parts import PartWriter
from batchrun.store.schema import RESULTS

ENDPOINT = {"base_url": "https://api.example.com/v1", "api": "chat"}
CONFIG = {"input": "in.jsonl", "endpoint": ENDPOINT, "request": {"model": "m"}, "keep_columns": ["label", "topic"]}
_PIECE_ROWS = 10_000
_PART_ROWS = 50_000


def make(path, records, rows: int | None = None, **config):
    """A folder that holds some records of a run, with a configuration of its own; returns its path."""
    records = list(records)
    folder = RunFolder(path)
    folder.make()
    run = run_file(len(records) if rows is None else rows, run_id=f"{len(str(path)):032x}", config=CONFIG | config)
    with folder.locked():
        asyncio.run(feed(Store(folder, fit(folder, run).run), records, part_mb=1, group=1000))
    return path


def answer(index: int, content: str = "yes", **values):
    """A record of an answer, a dollar for its id, two seconds, and what was expected."""
    usual = {"content": content, "cost_usd": 1.0, "latency_s": 2.0, "ttft_s": 0.5, "input": '{"label":"yes"}'}
    return record(index, **{"total_tokens": 10, "completion_tokens": 5, "prompt_tokens": 5, **usual, **values})


def failure(index: int, error_type: str = "server_error", **values):
    """A record of a failure that was not charged."""
    message = f"{error_type} of row {index}"
    usual = {"error_type": error_type, "error_message": message, "cost_usd": None, "input": '{"label":"yes"}'}
    return record(index, failed=True, **{**usual, **values})


def compared(a, b, *gates: str, column: str | None = None):
    """The comparison of two folders."""
    asked = [parse_gate(gate, accuracy=column is not None) for gate in gates]
    return compare_folders(str(a), str(b), column=column, gates=asked)


def make_large(path, rows: int, seed: int, answer_chars: int = 400):
    """A closed run of many answers, written column by column; returns its path."""
    folder = RunFolder(path)
    folder.make()
    folder.write_run_file(run_file(rows, run_id=f"{seed:032x}", config=CONFIG))
    draw = np.random.default_rng(seed)
    with folder.locked():
        manifest = Store(folder, run_file(rows, run_id=f"{seed:032x}")).recovered.manifest
        for segment, start in enumerate(range(0, rows, _PART_ROWS), start=1):
            writer = PartWriter(folder, folder.results, part_name(0, segment), RESULTS)
            for first in range(start, min(start + _PART_ROWS, rows), _PIECE_ROWS):
                writer.add(_piece(np.arange(first, min(first + _PIECE_ROWS, rows)), draw, seed, answer_chars))
            manifest.put(Entry(kind="part", at=1, epoch=0, segment=segment, parts=[writer.finish()]))
        manifest.put(Entry(kind="close", at=1, epoch=0, session=Session(exit_code=0, cause="done")))
    return path


def _piece(index: np.ndarray, draw: np.random.Generator, seed: int, answer_chars: int) -> pa.RecordBatch:
    rows = len(index)
    drawn = draw.integers(0, 2, rows)
    columns = {
        "index": index,
        "custom_id": [f"ticket-{row:08d}" for row in index],
        "request_key": [f"{seed:08x}{row:024x}" for row in index],
        "content": [f"answer {one} to {row} " + "x" * answer_chars for row, one in zip(index, drawn, strict=True)],
        "input": ['{"label":"answer"}'] * rows,
        "cost_usd": np.rint(draw.lognormal(10, 0.5, rows)) / 1e9,
        "prompt_tokens": draw.integers(100, 1000, rows),
        "completion_tokens": draw.integers(10, 100, rows),
        "latency_s": draw.lognormal(0, 0.5, rows),
        "ttft_s": draw.lognormal(-1, 0.5, rows),
    }
    arrays = [
        pa.array(columns[one.name], one.type) if one.name in columns else pa.nulls(rows, one.type) for one in RESULTS
    ]
    return pa.record_batch(arrays, schema=RESULTS)

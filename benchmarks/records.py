"""What the store is measured with: records of 1.6 KB as the journal has them, and folders that hold many of them."""

from __future__ import annotations

import random
import string
import sys
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.store.folder import RunFile, RunFolder, part_name
from batchrun.store.keeper import Store
from batchrun.store.manifest import Entry
from batchrun.store.parts import PartWriter
from batchrun.store.schema import RESULTS, to_batch
from batchrun.types import Record
from benchmarks.work import MODEL

if TYPE_CHECKING:
    from batchrun.store.manifest import Part

PIECE_ROWS, PART_ROWS = 5_000, 40_000
_TEXTS, _TEXT_CHARS, _WORDS = 8_192, 480, 4_000
_BEGAN_AT = 1_800_000_000_000_000


def run_of(rows: int, *, fingerprint: str = "f", run_id: str = "0" * 32) -> RunFile:
    return RunFile(
        run_id=run_id,
        created_at="2026-11-22T00:00:00+00:00",
        batchrun_version="0",
        rows=rows,
        models={MODEL: rows},
        fingerprint=fingerprint,
        config={},
        prices={"date": "2026-11-22", "source": "a benchmark", "prices": {}},
    )


def records(count: int, text_chars: int = _TEXT_CHARS) -> list[Record]:
    """Successes with texts that no page of a part holds twice, and that compress about as well as words do."""
    chance = random.Random(1)
    words = ["".join(chance.choices(string.ascii_lowercase, k=3 + at % 7)) for at in range(_WORDS)]
    texts = [" ".join(chance.choices(words, k=text_chars // 7))[:text_chars] for _ in range(min(count, _TEXTS))]
    return [_record(index, texts[index % len(texts)]) for index in range(count)]


def fill(path: Path, run: RunFile, *, text_chars: int = _TEXT_CHARS) -> None:
    """Make a closed run folder in which every row has succeeded; its parts are written by Arrow, not row by row."""
    folder = RunFolder(path)
    folder.make()
    folder.write_run_file(run)
    piece = to_batch(records(min(PIECE_ROWS, run.rows), text_chars), RESULTS)
    with folder.locked():
        recovered = Store(folder, run).recovered
        manifest, epoch = recovered.manifest, recovered.epoch or 0
        for segment, start in enumerate(range(0, run.rows, PART_ROWS), start=1):
            part = _write_part(folder, part_name(epoch, segment), piece, start, min(start + PART_ROWS, run.rows))
            manifest.put(Entry(kind="part", at=_BEGAN_AT, epoch=epoch, segment=segment, parts=[part]))
        manifest.put(Entry(kind="close", at=_BEGAN_AT, epoch=epoch))


def _write_part(folder: RunFolder, name: str, piece: pa.RecordBatch, start: int, stop: int) -> Part:
    writer = PartWriter(folder, folder.results, name, RESULTS)
    for first in range(start, stop, PIECE_ROWS):
        index = pa.array(np.arange(first, min(first + PIECE_ROWS, stop)))
        number = index.cast(pa.string())
        batch = piece.slice(0, len(index)).set_column(0, "index", index)
        batch = batch.set_column(
            1, "custom_id", pc.binary_join_element_wise("row", number, "-").cast(pa.large_string())
        )
        writer.add(batch.set_column(2, "request_key", pc.utf8_lpad(number, 32, "0")).cast(RESULTS))
    return writer.finish()


def _record(index: int, text: str) -> Record:
    return Record(
        index=index,
        custom_id=f"row-{index}",
        request_key=f"{index:032d}",
        requested_model=MODEL,
        model=MODEL,
        content=text,
        finish_reason="stop",
        prompt_tokens=180 + index % 61,
        cached_tokens=0,
        completion_tokens=90 + index % 47,
        total_tokens=270 + index % 61 + index % 47,
        usage_source="endpoint",
        cost_usd=(20_000 + index % 977) / 1e9,
        attempts=1,
        queued_s=0.001 * (index % 13),
        latency_s=1 + index % 1009 / 1000,
        server_ttft_s=0.2,
        server_processing_s=0.9,
        status_code=200,
        request_id=f"chatcmpl-{index:012d}",
        started_at=_BEGAN_AT + index * 1000,
        finished_at=_BEGAN_AT + index * 1000 + 1_500_000,
        response=f'{{"id":"chatcmpl-{index}","choices":[{{"message":{{"content":"{text}"}}}}]}}',
    )


if __name__ == "__main__":
    fill(Path(sys.argv[1]), run_of(int(sys.argv[2])), text_chars=int(sys.argv[3]))

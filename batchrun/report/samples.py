"""A few prompts and answers of a run, spread evenly over what is there: a look at what was bought."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    import pyarrow as pa

SAMPLE_COLUMNS = (
    "custom_id",
    "content",
    "reasoning_content",
    "refusal",
    "tool_calls",
    "messages",
    "finish_reason",
    "input",
)
TEXT_CHARS = 2000


class Sample(msgspec.Struct, frozen=True, kw_only=True):
    """One row: what is known of its prompt, and its answer, as texts under a role or the name of a column.

    `asked` is empty where the folder has nothing of the prompt.
    """

    custom_id: str
    finish_reason: str
    asked: list[tuple[str, str]]
    answered: list[tuple[str, str]]


def samples_of(results: Iterable[pa.RecordBatch], total: int, wanted: int) -> list[Sample]:
    """At most `wanted` of `total` results, from batches with SAMPLE_COLUMNS; their texts are cut to TEXT_CHARS."""
    count = min(wanted, total)
    positions = [total * (2 * number + 1) // (2 * count) for number in range(count)]
    found: list[Sample] = []
    before = 0
    for batch in results:
        rows = [position - before for position in positions if before <= position < before + batch.num_rows]
        found += [_sample(row) for row in batch.take(rows).to_pylist()] if rows else []
        before += batch.num_rows
        if len(found) == count:
            break
    return found


def _sample(row: dict[str, Any]) -> Sample:
    conversation = _parsed(row["messages"])
    turns = conversation if isinstance(conversation, list) else []
    asked = [(_text(turn.get("role")), _text(turn.get("content"))) for turn in turns if isinstance(turn, dict)]
    if asked and asked[-1][0] == "assistant":
        asked.pop()  # it is the answer
    columns = _parsed(row["input"])
    asked += [(name, _text(value)) for name, value in columns.items()] if isinstance(columns, dict) else []
    parts = {"reasoning": "reasoning_content", "answer": "content", "refusal": "refusal", "tool calls": "tool_calls"}
    answered = [(label, _cut(row[column])) for label, column in parts.items() if row[column]]
    reason = _text(row["finish_reason"] or "")
    return Sample(custom_id=_text(row["custom_id"] or ""), finish_reason=reason, asked=asked, answered=answered)


def _parsed(text: str | None) -> Any:
    try:
        return json.loads(text) if text else None
    except (ValueError, RecursionError):
        return None


def _text(value: object) -> str:
    return _cut(value if isinstance(value, str) else json.dumps(value, ensure_ascii=False))


def _cut(text: str) -> str:
    return text if len(text) <= TEXT_CHARS else f"{text[:TEXT_CHARS]} ... ({len(text):,} characters)"

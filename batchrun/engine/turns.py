"""Conversations: what a turn's record adds to those of the turns before it, and the request that asks the next turn.

A conversation is one row. Its record holds the last answer, the sums of all turns, all that was said (`messages`), and
a line for each finished turn (`turn_log`); so it is at the same time all that is needed to go on with it later.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.engine.records import sum_usd
from batchrun.types import Record, Request, Usage, UsageSource

if TYPE_CHECKING:
    from collections.abc import Iterable


class Turn(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """One finished turn, from 1, as `turn_log` keeps it: attempts and cost are those of the start that finished it."""

    turn: int
    finish_reason: str | None = None
    prompt_tokens: int | None = None
    cached_tokens: int | None = None
    completion_tokens: int | None = None
    reasoning_tokens: int | None = None
    total_tokens: int | None = None
    usage_source: UsageSource | None = None
    cost_usd: float | None = None
    latency_s: float | None = None
    ttft_s: float | None = None
    ttfvt_s: float | None = None
    server_ttft_s: float | None = None
    server_processing_s: float | None = None
    attempts: int = 0
    started_at: int | None = None
    request_id: str | None = None


_OF_A_RECORD = [name for name in Turn.__struct_fields__ if name != "turn"]
_SOURCES: list[UsageSource | None] = [None, "endpoint", "estimated", "missing"]
"""Of the sources of several turns the one that is least certain holds for their sum."""


def number_of(request: Request) -> int | None:
    """Which turn a request asks, from 1; None where it belongs to no conversation."""
    if request.so_far is None:
        return 1 if request.turns else None
    return len(_finished(request.so_far)) + 1


def following(request: Request, record: Record) -> Request | None:
    """The request of the turn after those that a record has finished; None if it is a failure, or no turn is left.

    Args:
        request: asks any turn that was finished by the record, or comes before those.
        record: of the same conversation, from the same start of the run or from an earlier one.
    """
    if not request.turns or record.error_type is not None:
        return None
    finished = len(_finished(record)) - len(_finished(request.so_far))
    body: dict[str, Any] = msgspec.json.decode(request.body, type=dict[str, msgspec.Raw])
    messages: list[Any] = msgspec.json.decode(record.messages or "[]", type=list[msgspec.Raw])
    body["messages"] = [*messages, {"role": "user", "content": request.turns[finished - 1]}]
    return msgspec.structs.replace(
        request, body=msgspec.json.encode(body), turns=request.turns[finished:], so_far=record
    )


def with_turns_before(record: Record, request: Request) -> Record:
    """A turn's record with what the turns before it have used and said; any other record as it is.

    Of a failure `messages` and `turn_log` hold the finished turns only: the next start asks the failed one again.
    """
    number = number_of(request)
    if number is None:
        return record
    before = request.so_far or Record(index=request.index, custom_id=request.custom_id, queued_s=record.queued_s)
    turns, messages, started_at = _finished(before), before.messages, record.started_at
    charged: list[Turn | Record] = [*turns, record]
    if record.error_type is None:
        turns.append(Turn(turn=number, **{name: getattr(record, name) for name in _OF_A_RECORD}))
        messages, started_at = _said(request.body, record), turns[0].started_at
    return msgspec.structs.replace(
        record,
        **{name: _sum(getattr(one, name) for one in charged) for name in Usage.__struct_fields__},
        usage_source=max((one.usage_source for one in charged), key=_SOURCES.index),
        cost_usd=sum_usd(before.cost_usd, record.cost_usd),
        attempts=before.attempts + record.attempts,
        attempt_log=_joined(before.attempt_log, record.attempt_log),
        messages=messages,
        turn_log=msgspec.json.encode(turns).decode() if turns else None,
        queued_s=before.queued_s,
        started_at=started_at,
    )


def _finished(record: Record | None) -> list[Turn]:
    return msgspec.json.decode(record.turn_log, type=list[Turn]) if record and record.turn_log else []


def _said(body: bytes, record: Record) -> str:
    """The messages of a request's body and the answer to them, as JSON text."""
    sent: dict[str, msgspec.Raw] = msgspec.json.decode(body, type=dict[str, msgspec.Raw])
    content = record.refusal if record.content is None else record.content
    answer: dict[str, Any] = {"role": "assistant", "content": content}
    if record.tool_calls:
        answer["tool_calls"] = msgspec.Raw(record.tool_calls.encode())
    if record.reasoning_content and bytes(sent.get("reasoning_history", b"null")) not in {b"null", b'"disabled"'}:
        answer["reasoning_content"] = record.reasoning_content
    messages = msgspec.json.decode(sent["messages"], type=list[msgspec.Raw])
    return msgspec.json.encode([*messages, answer]).decode()


def _sum(counts: Iterable[int | None]) -> int | None:
    """A sum; None if nothing of it is known."""
    known = [count for count in counts if count is not None]
    return sum(known) if known else None


def _joined(earlier: str | None, later: str | None) -> str | None:
    """Two attempt logs as one."""
    if not earlier or not later:
        return earlier or later
    return msgspec.json.encode([*_raw(earlier), *_raw(later)]).decode()


def _raw(log: str) -> list[msgspec.Raw]:
    return msgspec.json.decode(log, type=list[msgspec.Raw])

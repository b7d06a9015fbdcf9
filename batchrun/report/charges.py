"""What the rows of a batch were charged for: every answer that stated its usage, the rejected and retried ones too.

The columns of a row hold the usage of its last answer, and of a conversation that of all its turns together; what came
before stands in its logs. A charge is what was rounded to a whole nano-dollar, so that sums of charges are exact.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import msgspec
import numpy as np
import pyarrow.compute as pc

from batchrun.report.columns import flags, has_usage, ints, texts
from batchrun.types import Usage

if TYPE_CHECKING:
    import pyarrow as pa

    from batchrun.report.columns import Ints

UNSETTLED = ("timed_out", "response_unreadable", "response_truncated", "response_too_large", "connection_failed")
"""How an attempt ends that was sent and worked on, and whose answer was not read to its end: it may be charged."""

_NOT_SENT = ": cannot connect: "
"""What the message of a broken connection says if there was none, so that nothing can be charged."""

_UNSETTLED_IN_A_LOG = f'"error_type":"({"|".join(UNSETTLED)})"'


MOST_INT64 = 2**63 - 1


class Charges(NamedTuple):
    """Columns of the same length: the charge's row in its batch, when its attempt began (microseconds), its tokens."""

    row: Ints
    started_at: Ints
    prompt_tokens: Ints
    cached_tokens: Ints
    completion_tokens: Ints

    def since(self, started_at: int) -> Charges:
        """Those whose attempt began at a time or later."""
        return Charges(*(column[self.started_at >= started_at] for column in self))


class _Attempt(msgspec.Struct, frozen=True):
    """Of an entry of `attempt_log` what matters here."""

    started_at: int
    error_type: str
    error_message: str
    usage: Usage | None = None


class _Turn(Usage, frozen=True, kw_only=True):
    """Of an entry of `turn_log` what matters here."""

    started_at: int = 0


_attempts = msgspec.json.Decoder(list[_Attempt]).decode
_turns = msgspec.json.Decoder(list[_Turn]).decode


def charges_of(batch: pa.RecordBatch) -> Charges:
    """All charges of a batch of results or failures, in no order."""
    return Charges(*np.concatenate([_last(batch), retried(batch), _turned(batch)], axis=1))


def retried(batch: pa.RecordBatch) -> Charges:
    """The charges of attempts that another one followed."""
    log = texts(batch, "attempt_log")
    found: list[tuple[int, ...]] = []
    for row in np.flatnonzero(flags(pc.match_substring(log, '"usage":'))).tolist():
        attempts = [one for one in _attempts(log[row].as_py()) if _is_stated(one.usage)]
        found += [(row, one.started_at, *_counts(one.usage)) for one in attempts]
    return _columns(found)


def unsettled_attempts(batch: pa.RecordBatch) -> Ints:
    """How many attempts of each row, before its last, may have been charged without our knowing the usage."""
    log = texts(batch, "attempt_log")
    counts = np.zeros(batch.num_rows, np.int64)
    for row in np.flatnonzero(flags(pc.match_substring_regex(log, _UNSETTLED_IN_A_LOG))).tolist():
        attempts = _attempts(log[row].as_py())
        counts[row] = sum(
            one.error_type in UNSETTLED and _NOT_SENT not in one.error_message and not _is_stated(one.usage)
            for one in attempts
        )
    return counts


def _last(batch: pa.RecordBatch) -> Charges:
    """The last answers of rows that are no conversations."""
    rows = np.flatnonzero(has_usage(batch) & ~flags(texts(batch, "turn_log").is_valid()))
    names = ("started_at", "prompt_tokens", "cached_tokens", "completion_tokens")
    return Charges(rows, *(ints(batch, name)[0][rows] for name in names))


def _turned(batch: pa.RecordBatch) -> Charges:
    """Every turn of every conversation, and what a turn that failed was charged for."""
    log = texts(batch, "turn_log")
    totals = [ints(batch, name)[0] for name in ("prompt_tokens", "cached_tokens", "completion_tokens")]
    started_at, _ = ints(batch, "started_at")
    found: list[tuple[int, ...]] = []
    for row in np.flatnonzero(flags(log.is_valid())).tolist():
        turns = _turns(log[row].as_py())
        found += [(row, turn.started_at, *_counts(turn)) for turn in turns]
        of_turns = [sum(counts) for counts in zip(*map(_counts, turns), strict=True)] or [0, 0, 0]
        rest = [max(int(total[row]) - count, 0) for total, count in zip(totals, of_turns, strict=True)]
        if any(rest):
            found.append((row, int(started_at[row]), *rest))
    return _columns(found)


def _columns(found: list[tuple[int, ...]]) -> Charges:
    return Charges(*np.array(found, np.int64).reshape(-1, len(Charges._fields)).T)


def _is_stated(usage: Usage | None) -> bool:
    return usage is not None and (usage.prompt_tokens is not None or usage.completion_tokens is not None)


def _counts(usage: Usage | None) -> tuple[int, ...]:
    """Prompt, cached and completion tokens, each as an int64 that is not negative."""
    counts = (usage.prompt_tokens, usage.cached_tokens, usage.completion_tokens) if usage else ()
    return tuple(min(max(count or 0, 0), MOST_INT64) for count in counts)

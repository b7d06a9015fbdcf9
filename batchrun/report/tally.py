"""Running totals over record batches: exact integer sums by model, and how rows ended."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING, Any

import numpy as np
import pyarrow.compute as pc

from batchrun.report.charges import unsettled_attempts
from batchrun.report.columns import UNKNOWN, equals, has_usage, ints, lacks_usage, models, nano_usd, texts
from batchrun.report.summary import FailureExample, FailureGroup
from batchrun.report.sums import MAX_NAMES, OTHER, TEXT_CHARS, ExactSums, Names

if TYPE_CHECKING:
    from collections.abc import Sequence

    import pyarrow as pa

    from batchrun.report.columns import Flags, Ints
    from batchrun.report.logged import Logged

EXAMPLES = 3


class Tally:
    """The totals of one side of a run, its results or its failures."""

    def __init__(self, session_starts: Sequence[int], *, failures: bool = False) -> None:
        self.rows = 0
        self.models = Names()
        self.sums: dict[str, ExactSums] = {}
        self.dearest = np.zeros(MAX_NAMES + 1, np.int64)
        self.first_started_at: int | None = None
        self.session_ends = np.full(len(session_starts) + 1, np.iinfo(np.int64).min, np.int64)
        self._session_starts = np.array(session_starts, np.int64)
        self._failures = failures

    def add(self, batch: pa.RecordBatch, attempts: Logged) -> None:
        """Count one batch; columns that it does not have are unknown in all its rows."""
        if not batch.num_rows:
            return
        self.rows += batch.num_rows
        slots = self.models.slots_of(models(batch))
        self._add("rows", slots, np.ones(batch.num_rows, np.int64))
        self._add_usage(batch, slots)
        self._add_cost(batch, slots)
        self._add_attempts(batch, slots)
        self._add_retried(slots[attempts.row], attempts)
        self._add_times(batch)

    def total(self, name: str) -> int:
        """A sum over all models."""
        return self.sums[name].total() if name in self.sums else 0

    def _add(self, name: str, slots: Ints, values: Ints | Flags) -> None:
        self.sums.setdefault(name, ExactSums()).add(slots, values)

    def _add_attempts(self, batch: pa.RecordBatch, slots: Ints) -> None:
        """Count attempts and those that brought an answer: one for a result, one for each turn of a conversation."""
        attempts, _ = ints(batch, "attempts")
        log = texts(batch, "turn_log")
        turns = np.zeros(batch.num_rows, np.int64)
        if log.null_count < len(log):
            turns = pc.fill_null(pc.count_substring(log, '"turn":'), 0).to_numpy(zero_copy_only=False)
        answered = turns if self._failures else np.maximum(turns, 1)
        self._add("attempts", slots, attempts)
        self._add("answered", slots, answered)
        self._add("retried", slots, attempts > (answered + 1 if self._failures else answered))

    def _add_retried(self, slots: Ints, attempts: Logged) -> None:
        """Count what was charged for attempts that another one followed."""
        priced = np.isfinite(attempts.nano_usd)
        self._add("retried_prompt_tokens", slots, attempts.prompt_tokens)
        self._add("retried_completion_tokens", slots, attempts.completion_tokens)
        self._add("retried_tokens", slots, attempts.prompt_tokens + attempts.completion_tokens)
        self._add("retried_nano_usd", slots[priced], attempts.nano_usd[priced].astype(np.int64))
        self._add("retried_unpriced", slots, ~priced & (attempts.prompt_tokens + attempts.completion_tokens > 0))

    def _add_usage(self, batch: pa.RecordBatch, slots: Ints) -> None:
        prompt, _ = ints(batch, "prompt_tokens")
        completion, _ = ints(batch, "completion_tokens")
        cached, has_cached = ints(batch, "cached_tokens")
        reasoning, _ = ints(batch, "reasoning_tokens")
        total, has_total = ints(batch, "total_tokens")
        for name, values in (
            ("prompt_tokens", prompt),
            ("prompt_tokens_of_known_caching", np.where(has_cached, prompt, 0)),
            ("cached_tokens", cached),
            ("cached_prompt_tokens", np.minimum(cached, prompt)),
            ("completion_tokens", completion),
            ("reasoning_tokens", reasoning),
            ("total_tokens", total),
            ("total_tokens", np.where(has_total, 0, prompt)),
            ("total_tokens", np.where(has_total, 0, completion)),
            ("without_usage", lacks_usage(batch, failures=self._failures)),
            ("estimated", equals(texts(batch, "usage_source"), "estimated")),
        ):
            self._add(name, slots, values)

    def _add_cost(self, batch: pa.RecordBatch, slots: Ints) -> None:
        nano, priced = nano_usd(batch)
        self._add("nano_usd", slots, nano)
        self._add("priced", slots, priced)
        self._add("unpriced", slots, ~priced & has_usage(batch))
        self._add("unsettled", slots, unsettled_attempts(batch))
        np.maximum.at(self.dearest, slots[priced], nano[priced])

    def _add_times(self, batch: pa.RecordBatch) -> None:
        started, known = ints(batch, "started_at")
        if known.any():
            first = int(started[known].min())
            self.first_started_at = first if self.first_started_at is None else min(first, self.first_started_at)
        finished, known = ints(batch, "finished_at")
        finished = finished[known]
        np.maximum.at(self.session_ends, np.searchsorted(self._session_starts, finished, side="right"), finished)


class AnswerCounts:
    """How the successes ended."""

    def __init__(self) -> None:
        self.reasons: Counter[str] = Counter()
        self.overflow = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Count one batch of results."""
        reason = texts(batch, "finish_reason")
        for value, count in _value_counts(reason.drop_null()):
            name = value[:TEXT_CHARS]
            self.reasons[name if name in self.reasons or len(self.reasons) < MAX_NAMES else OTHER] += count
        self.overflow += int((equals(reason, "length") & _all_reasoning(batch)).sum())


class ErrorCounts:
    """Why the failures failed, with the first examples of each reason."""

    def __init__(self) -> None:
        self.types: Counter[str] = Counter()
        self.examples: dict[str, list[FailureExample]] = {}
        self.overflow = 0

    def add(self, batch: pa.RecordBatch) -> None:
        """Count one batch of failures."""
        error_type, custom_id, message = (texts(batch, name) for name in ("error_type", "custom_id", "error_message"))
        error_type = error_type.fill_null(UNKNOWN)
        for name, count in _value_counts(error_type):
            self.types[name] += count
            examples = self.examples.setdefault(name, [])
            if len(examples) < EXAMPLES:
                rows = np.flatnonzero(equals(error_type, name))[: EXAMPLES - len(examples)]
                examples += [_example(custom_id[row].as_py(), message[row].as_py()) for row in rows.tolist()]
        self.overflow += int((equals(error_type, "empty_response") & _all_reasoning(batch)).sum())

    def groups(self) -> list[FailureGroup]:
        """The reasons, the most frequent first."""
        ordered = sorted(self.types.items(), key=lambda item: (-item[1], item[0]))
        return [
            FailureGroup(
                error_type=name, rows=count, share=count / self.types.total(), examples=self.examples.get(name, [])
            )
            for name, count in ordered
        ]


def _example(custom_id: str | None, message: str | None) -> FailureExample:
    return FailureExample(custom_id=(custom_id or "")[:TEXT_CHARS], message=(message or "")[:TEXT_CHARS])


def _value_counts(column: pa.Array) -> list[tuple[str, int]]:
    counts: list[dict[str, Any]] = column.value_counts().to_pylist()
    return [(pair["values"], pair["counts"]) for pair in counts]


def _all_reasoning(batch: pa.RecordBatch) -> Flags:
    completion, _ = ints(batch, "completion_tokens")
    reasoning, _ = ints(batch, "reasoning_tokens")
    spent: Flags = (completion > 0) & (reasoning >= completion)
    return spent

"""Where the time went: the life of each row, from being taken up to its last byte, in phases that add up.

How far an answer's own time can be split depends on what was measured. A dedicated Fireworks deployment states queues,
prefill and generation; serverless the time to its first token and its processing time; of any stream we saw the first
token ourselves; else there is one phase alone. Source of the server's names: Fireworks' documentation, performance
metrics; all are seconds.
"""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.report.columns import credible, flags, floats, ints, mentions, texts

if TYPE_CHECKING:
    from collections.abc import Sequence

    from batchrun.report.columns import Flags, Floats, Ints
    from batchrun.report.logged import Logged

PHASES = {
    "waiting": "waiting to be sent: limits, places, pauses",
    "failed_attempts": "attempts that brought no result",
    "between_attempts": "waiting for the next attempt",
    "connecting": "connecting, and this machine's own work",
    "network": "network",
    "server_queue": "server: in its queues",
    "prefill": "server: prefill",
    "server_ttft": "server: queue and prefill",
    "decode": "server: decode",
    "server": "server: queue, prefill and decode",
    "ttft": "until the first token: network, queue, prefill",
    "after_ttft": "after the first token: decode, network",
    "answering": "network and server, not told apart",
    "between_turns": "between the turns of conversations",
}
"""The phases in the order of a row's life, and what each is."""

_QUEUES = ("tokenizer-queue-duration", "prefill-queue-duration", "generation-queue-duration")
_PREFILL = ("tokenizer-duration", "prefill-duration")
_NUMBER = r'"?(?P<s>\d+(?:\.\d+)?(?:[eE][-+]?\d+)?)'


class _Turn(msgspec.Struct, frozen=True):
    latency_s: float | None = None


_turns = msgspec.json.Decoder(list[_Turn]).decode


class RunningPhases:
    """Seconds by phase, summed over rows; the sessions' starts (microseconds) tell waiting from not running at all."""

    def __init__(self, session_starts: Sequence[int]) -> None:
        self._session_starts = np.array(session_starts, np.int64)
        self._sums: defaultdict[str, float] = defaultdict(float)

    def add(self, batch: pa.RecordBatch, attempts: Logged, *, failures: bool = False) -> None:
        """Count a batch of results or failures, and the attempts that stand in its log."""
        started_at, _ = ints(batch, "started_at")
        finished_at, _ = ints(batch, "finished_at")
        latency_s = _known(batch, "latency_s")
        conversation = flags(texts(batch, "turn_log").is_valid())
        alone = ~conversation
        self._add("waiting", _known(batch, "queued_s"))
        self._add("failed_attempts", attempts.latency_us / 1e6)
        self._add("between_attempts", self._gaps_s(attempts, started_at, alone))
        out_s = np.where(latency_s > 0, (finished_at - started_at) / 1e6 - latency_s, 0)
        self._add("connecting", np.maximum(out_s, 0)[alone])
        if failures:
            self._add("failed_attempts", latency_s)
        else:
            self._split(batch, np.where(conversation, 0, latency_s))
        if conversation.any():
            self._add_conversations(batch.filter(pa.array(conversation)), failures=failures)

    def seconds(self) -> dict[str, float]:
        """The sums, of phases that took any time, in the order of a row's life."""
        return {phase: self._sums[phase] / 1e6 for phase in PHASES if self._sums[phase] > 0}

    def _add(self, phase: str, seconds: Floats) -> None:
        self._sums[phase] += float(np.rint(seconds * 1e6).sum())  # whole numbers: their order does not matter

    def _gaps_s(self, attempts: Logged, started_at: Ints, alone: Flags) -> Floats:
        """From each attempt's end to the start of the next, unless a session ended in between."""
        next_at = np.where(attempts.is_last, started_at[attempts.row], np.roll(attempts.started_at, -1))
        ours = alone[attempts.row] & (self._session_of(attempts.started_at) == self._session_of(next_at))
        gaps_s: Floats = np.maximum(next_at - attempts.started_at - attempts.latency_us, 0)[ours] / 1e6
        return gaps_s

    def _session_of(self, at: Ints) -> Ints:
        return np.searchsorted(self._session_starts, at, side="right")

    def _split(self, batch: pa.RecordBatch, latency_s: Floats) -> None:
        """An answer's latency by what was measured of it; no part is longer than the whole."""
        processing_s, server_ttft_s = floats(batch, "server_processing_s"), floats(batch, "server_ttft_s")
        ttft_s = floats(batch, "ttft_s")
        by_server, by_us = np.isfinite(processing_s), np.isfinite(ttft_s)
        served_s = np.minimum(np.where(by_server, processing_s, 0), latency_s)
        self._add("network", np.where(by_server, latency_s - served_s, 0))
        queue_s, prefill_s = _detailed(batch)
        detailed = by_server & np.isfinite(prefill_s)
        queue_s = np.minimum(np.where(detailed, queue_s, 0), served_s)
        prefill_s = np.minimum(np.where(detailed, prefill_s, 0), served_s - queue_s)
        self._add("server_queue", queue_s)
        self._add("prefill", prefill_s)
        half = by_server & ~detailed & np.isfinite(server_ttft_s)
        first_s = np.minimum(np.where(half, server_ttft_s, 0), served_s)
        self._add("server_ttft", first_s)
        rest_s = served_s - queue_s - prefill_s - first_s
        self._add("decode", rest_s[detailed | half])
        self._add("server", rest_s[by_server & ~detailed & ~half])
        seen = ~by_server & by_us
        first_s = np.minimum(np.where(seen, ttft_s, 0), latency_s)
        self._add("ttft", first_s)
        self._add("after_ttft", np.where(seen, latency_s - first_s, 0))
        self._add("answering", latency_s[~by_server & ~by_us])

    def _add_conversations(self, batch: pa.RecordBatch, *, failures: bool) -> None:
        """The turns' latencies; what lies between them only where one session had them all."""
        logs = texts(batch, "turn_log").to_pylist()
        turns_s = np.array([sum(turn.latency_s or 0 for turn in _turns(log)) for log in logs])
        self._add("answering", turns_s)
        started_at, finished_at = ints(batch, "started_at")[0], ints(batch, "finished_at")[0]
        at_once = self._session_of(started_at) == self._session_of(finished_at)
        if not failures:
            self._add("between_turns", np.maximum((finished_at - started_at) / 1e6 - turns_s, 0)[at_once])


def _known(batch: pa.RecordBatch, name: str) -> Floats:
    return np.nan_to_num(floats(batch, name), nan=0, posinf=0, neginf=0)


def _detailed(batch: pa.RecordBatch) -> tuple[Floats, Floats]:
    """Seconds in queues and in prefill, NaN where the server does not say."""
    metrics = texts(batch, "perf_metrics")
    if not mentions(metrics, f'"{_PREFILL[-1]}"'):
        return np.full(batch.num_rows, np.nan), np.full(batch.num_rows, np.nan)
    queue_s = np.sum([np.nan_to_num(_stated(metrics, name)) for name in _QUEUES], axis=0)
    prefill_s = [_stated(metrics, name) for name in _PREFILL]
    return queue_s, np.where(np.isfinite(prefill_s[-1]), np.sum(np.nan_to_num(prefill_s), axis=0), np.nan)


def _stated(metrics: pa.Array, name: str) -> Floats:
    """A number of JSON text, or a number in a text of it, by its name; a quote inside a text has a backslash before."""
    found = pc.struct_field(pc.extract_regex(metrics, f'"{name}":{_NUMBER}'), "s")
    stated: Floats = found.cast(pa.float64()).to_numpy(zero_copy_only=False)
    return credible(stated)

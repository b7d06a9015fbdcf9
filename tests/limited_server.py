"""An endpoint with limits of its own, as a script for the engine in virtual time, and what it saw."""

from __future__ import annotations

from collections import Counter, deque
from typing import TYPE_CHECKING, Any, NamedTuple

from engines import Sent, completion, request

from batchrun.endpoint.hints import hints_of
from batchrun.endpoint.refusal import retry_after_s
from batchrun.errors import Throttled
from batchrun.types import Completion, Request, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping

REFUSAL_S = 0.005
PROMPT_TOKENS = 100


class Window:
    """No 60 s hold more than `limit` of something."""

    def __init__(self, limit: float | Callable[[float], float], what: str = "requests") -> None:
        self.limit, self.what = _of_time(limit), what
        self._taken: deque[tuple[float, float]] = deque()
        self._sum = 0.0

    def admits(self, at: float, need: Mapping[str, float]) -> bool:
        while self._taken and self._taken[0][0] <= at - 60:
            self._sum -= self._taken.popleft()[1]
        # one larger than the whole limit is let through alone
        return not self._taken or self._sum + need[self.what] <= self.limit(at)

    def take(self, at: float, need: Mapping[str, float], _ends_at: float) -> None:
        self._taken.append((at, need[self.what]))
        self._sum += need[self.what]


class Leaky:
    """A bucket as nginx' `limit_req zone rate=per_s burst=burst nodelay` has it."""

    def __init__(self, per_s: float | Callable[[float], float], burst: float = 0.0, what: str = "requests") -> None:
        self.per_s, self.burst, self.what = _of_time(per_s), burst, what
        self._excess, self._at = 0.0, 0.0

    def admits(self, at: float, need: Mapping[str, float]) -> bool:
        self._excess = max(0.0, self._excess - self.per_s(at) * (at - self._at))
        self._at = at
        return self._excess == 0 or self._excess - 1 + need[self.what] <= self.burst

    def take(self, _at: float, need: Mapping[str, float], _ends_at: float) -> None:
        self._excess += need[self.what]


class Places:
    """So many at once."""

    def __init__(self, most: float | Callable[[float], float]) -> None:
        self.most = _of_time(most)
        self._ends: list[float] = []

    def admits(self, at: float, _need: Mapping[str, float]) -> bool:
        self._ends = [end for end in self._ends if end > at]
        return len(self._ends) < self.most(at)

    def take(self, _at: float, _need: Mapping[str, float], ends_at: float) -> None:
        self._ends.append(ends_at)


class Served(NamedTuple):
    """A request that was served: when it came, its row, and what it took."""

    at: float
    index: int
    need: dict[str, float]


class Server:
    """Serves what all of its limits admit, turns the rest away with 429; an outcome of `trouble` comes first."""

    def __init__(
        self,
        *limits: Window | Leaky | Places,
        latency_s: float = 0.1,
        headers: Callable[[Sent], dict[str, str]] | dict[str, str] | None = None,
        generated: Callable[[int], int] = lambda _: 10,
        trouble: Callable[[Sent], tuple[float, Any] | None] = lambda _: None,
    ) -> None:
        self._limits, self._latency_s, self._generated, self._trouble = limits, latency_s, generated, trouble
        self._headers = headers if callable(headers) else lambda _: headers or {}
        self.served: list[Served] = []
        self.refused: list[float] = []
        self.came: Counter[int] = Counter()

    def __call__(self, sent: Sent) -> tuple[float, Completion | Exception]:
        self.came[sent.index] += 1
        trouble = self._trouble(sent)
        if trouble:
            return trouble
        headers = self._headers(sent)
        generated = self._generated(sent.index)
        need = {"requests": 1, "prompt_tokens": PROMPT_TOKENS, "generated_tokens": generated}
        if not all(limit.admits(sent.at, need) for limit in self._limits):
            self.refused.append(sent.at)
            return REFUSAL_S, refusal(headers)
        for limit in self._limits:
            limit.take(sent.at, need, sent.at + self._latency_s)
        self.served.append(Served(sent.at, sent.index, need))
        usage = Usage(prompt_tokens=PROMPT_TOKENS, completion_tokens=generated, total_tokens=PROMPT_TOKENS + generated)
        return self._latency_s, completion(usage=usage, hints=hints_of(headers))

    def share_refused(self, after_s: float = 0.0) -> float:
        """Of what came after this time, the share that was turned away by the limits."""
        refused = sum(at >= after_s for at in self.refused)
        served = sum(one.at >= after_s for one in self.served)
        return refused / max(1, refused + served)

    def rate(self, begin_s: float, end_s: float, what: str = "requests") -> float:
        """How much was served a second between two times."""
        return sum(one.need[what] for one in self.served if begin_s <= one.at < end_s) / (end_s - begin_s)

    def most_in_a_minute(self, what: str = "requests") -> float:
        """The most that any 60 s of it held."""
        window: deque[Served] = deque()
        held = most = 0.0
        for one in self.served:
            while window and window[0].at <= one.at - 60:
                held -= window.popleft().need[what]
            window.append(one)
            held += one.need[what]
            most = max(most, held)
        return most


def refusal(headers: Mapping[str, str] | None = None) -> Throttled:
    """A 429 with these headers, read as the wire reads them."""
    headers = headers or {}
    return Throttled(
        "HTTP 429",
        error_type="rate_limited",
        status_code=429,
        retry_after_s=retry_after_s(headers),
        hints=hints_of(headers),
    )


def tap(count: int, *, models: tuple[str, ...] = ("m",), max_tokens: int | None = None) -> Iterator[Request]:
    """So many requests, of each model in turn."""
    limit = b"" if max_tokens is None else b'"max_tokens":%d,' % max_tokens
    for index in range(count):
        one = request(index, model=models[index % len(models)])
        yield Request(
            index=index,
            custom_id=one.custom_id,
            request_key=one.request_key,
            api="chat",
            model=one.model,
            body=b"{" + limit + b'"messages":"' + b"x" * (4 * PROMPT_TOKENS - len(limit) - 15) + b'"}',
        )


def _of_time(value: float | Callable[[float], float]) -> Callable[[float], float]:
    return value if callable(value) else lambda _: value

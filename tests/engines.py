"""The engine driven in virtual time against an endpoint that answers as a script says."""

from __future__ import annotations

import asyncio
import math
from collections import Counter
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec

from batchrun.config import Config, check_config
from batchrun.engine.attempts import Fulfiller
from batchrun.engine.lanes import Lanes
from batchrun.engine.pool import Pool
from batchrun.engine.watch import Watch
from batchrun.errors import Ambiguous, EndpointError, EndpointUnusable, NotSent, Rejected, Throttled
from batchrun.pricing import Price
from batchrun.types import Completion, Record, Request, Usage

if TYPE_CHECKING:
    from collections.abc import Callable, Generator, Iterable

    from batchrun.engine.validity import Validity

USAGE = Usage(prompt_tokens=100, completion_tokens=10, total_tokens=110)
PRICE = Price(model="m", input_usd_per_mtok=1.0, output_usd_per_mtok=2.0)
COST_USD = 0.00012


def completion(**values: Any) -> Completion:
    """A success."""
    return Completion(**{"content": "yes", "latency_s": 1.0, "status_code": 200, "usage": USAGE, **values})


def server_error(**values: Any) -> EndpointError:
    """A 500: nobody knows whether it was served."""
    return Ambiguous("HTTP 500", **{"error_type": "server_error", "status_code": 500, **values})


def no_answer() -> EndpointError:
    """The connection broke after the request was sent."""
    return Ambiguous("broken", error_type="connection_failed")


def refused() -> EndpointError:
    """Nobody listens."""
    return NotSent("cannot connect", error_type="connection_failed")


def throttled(retry_after_s: float | None = None) -> EndpointError:
    """A 429."""
    return Throttled("HTTP 429", error_type="rate_limited", status_code=429, retry_after_s=retry_after_s)


def rejected() -> EndpointError:
    """A 400."""
    return Rejected("HTTP 400", error_type="request_rejected", status_code=400)


def unusable(status_code: int = 401) -> EndpointError:
    """No request can succeed."""
    error_type = "not_found" if status_code in {302, 404} else "authentication"
    return EndpointUnusable(f"HTTP {status_code}", error_type=error_type, status_code=status_code)


class Sent(NamedTuple):
    """One request that reached the endpoint: when, which row, which try of that row, from 1, and its body."""

    at: float
    index: int
    number: int
    body: bytes = b"{}"


class FakeEndpoint:
    """Answers each try after a while with an outcome; `script` tells both."""

    def __init__(self, script: Callable[[Sent], tuple[float, Completion | Exception]]) -> None:
        self._script = script
        self.sent: list[Sent] = []
        self._tries: Counter[int] = Counter()
        self.in_flight = 0
        self.most_in_flight = 0

    async def complete(self, request: Request, *, within_s: float = math.inf) -> Completion:
        """What the script says, or a time-out."""
        now = asyncio.get_running_loop().time()
        self._tries[request.index] += 1
        sent = Sent(now, request.index, self._tries[request.index], request.body)
        self.sent.append(sent)
        self.in_flight += 1
        self.most_in_flight = max(self.most_in_flight, self.in_flight)
        try:
            after_s, outcome = self._script(sent)
            if after_s > within_s:
                await asyncio.sleep(within_s)
                raise Ambiguous(f"no whole answer within {within_s:g} s", error_type="timed_out")
            await asyncio.sleep(after_s)
        finally:
            self.in_flight -= 1
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def tries(self, index: int) -> list[float]:
        """When a row was sent."""
        return [sent.at for sent in self.sent if sent.index == index]


class FakeKeeper:
    """Keeps records in memory."""

    def __init__(self) -> None:
        self.records: dict[int, Record] = {}
        self.turns: list[Record] = []

    async def may_send(self, index: int) -> None:
        """At once."""

    def keep(self, record: Record) -> None:
        """Keep it, once."""
        if record.index in self.records:
            raise AssertionError(f"row {record.index} is kept twice")
        self.records[record.index] = record

    def keep_turn(self, record: Record) -> None:
        """Keep what is finished of a conversation."""
        if record.index in self.records:
            raise AssertionError(f"row {record.index} is settled")
        self.turns.append(record)

    async def room(self) -> None:
        """Always."""


class FakeWatch(Watch):
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.rows = 0

    def begin(self, status) -> None:
        """Sending begins."""
        self.told.append("begin")
        self.status = status

    def row(self, _) -> None:
        """A row is settled."""
        self.rows += 1

    def stopping(self, cause, _) -> None:
        """The run ends early."""
        self.told.append(f"stopping: {cause}")

    def end(self) -> None:
        """All is over."""
        self.told.append("end")


def request(index: int, *, model: str = "m") -> Request:
    """The request of a row."""
    return Request(
        index=index, custom_id=f"row-{index}", request_key=f"{index:032x}", api="chat", model=model, body=b"{}"
    )


def conversation(index: int = 0, *turns: str, **body: Any) -> Request:
    """The request of a row's first turn, which asks "Q1"; `turns` are asked after it."""
    asked = {"messages": [{"role": "user", "content": "Q1"}], **body}
    return msgspec.structs.replace(request(index), body=msgspec.json.encode(asked), turns=turns)


def rows(count: int) -> Generator[Request, None, None]:
    """A tap with so many requests."""
    yield from (request(index) for index in range(count))


def config_of(**sections: dict[str, Any]) -> Config:
    """A configuration with these keys, e.g. `limits={"concurrency": 4}`."""
    return check_config({"input": "prompts.jsonl", **sections})


class Engine:
    """One run of the engine; make it inside the running loop."""

    def __init__(
        self,
        script: Callable[[Sent], tuple[float, Completion | Exception]],
        tap: Iterable[Request] | int,
        *,
        price_for: Callable[[str], Price | None] = lambda _: PRICE,
        validity: Validity | None = None,
        models: int = 1,
        count: int | None = None,
        **sections: dict[str, Any],
    ) -> None:
        config = config_of(**sections)
        if count is None:
            count = tap if isinstance(tap, int) else 0
        self.endpoint, self.keeper, self.watch = FakeEndpoint(script), FakeKeeper(), FakeWatch()
        self.lanes = Lanes(config.limits)
        self.turnstile = self.lanes.of("m")
        self.fulfiller = Fulfiller(
            self.endpoint, self.lanes, config, rows=count, models=models, price_for=price_for, validity=validity
        )
        self.tap = rows(tap) if isinstance(tap, int) else tap
        self.pool = Pool(self.fulfiller, self.keeper, self.lanes, config=config, watch=self.watch, models=models)

    @property
    def records(self) -> dict[int, Record]:
        """What was kept, by row."""
        return self.keeper.records

    async def run(self) -> Engine:
        """Run it to its end."""
        await self.pool.run(self.tap)
        self.ended_at = asyncio.get_running_loop().time()
        return self

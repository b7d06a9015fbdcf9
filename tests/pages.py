"""Reports to make pages of, and what a page is made of, as a strict reader sees it."""

from __future__ import annotations

import math
import random
from functools import cache
from html.parser import HTMLParser
from typing import Any

from batchrun.pricing import Price, PriceBook
from batchrun.report.metrics import summarise
from batchrun.report.samples import Sample
from batchrun.report.summary import Report, RunFacts, Session
from batchrun.store.schema import FAILURES, RESULTS, to_batch
from batchrun.types import Record

SECOND = 1_000_000
START = 1_795_368_000 * SECOND
MODEL = "accounts/fireworks/models/glm-5p3-flash"
BOOK = PriceBook(
    date="2026-11-22",
    source="a contract",
    prices={
        MODEL: Price(
            model=MODEL,
            input_usd_per_mtok=0.15,
            cached_input_usd_per_mtok=0.03,
            output_usd_per_mtok=0.5,
            note="invented",
        )
    },
)
VOID = {"meta", "br", "hr", "img", "input", "link", "base", "embed", "source"}


def success(index: int, **values: Any) -> Record:
    """An answer of 100 + 50 tokens, half of the prompt cached, for 34,000 nano-dollars; one row begins each second."""
    usual = {
        "requested_model": MODEL,
        "finish_reason": "stop",
        "prompt_tokens": 100,
        "cached_tokens": 50,
        "completion_tokens": 50,
        "total_tokens": 150,
        "usage_source": "endpoint",
        "cost_usd": 0.000034,
        "attempts": 1,
        "queued_s": 0.0001,
        "latency_s": 1 + index / 10,
        "server_processing_s": 0.75,
        "started_at": START + index * SECOND,
        "finished_at": START + (index + 2) * SECOND,
    }
    return Record(index=index, **{"custom_id": f"row-{index}", **usual, **values})


def streamed(index: int, **values: Any) -> Record:
    """The same as a stream that takes as long as streams do, many of them at a time."""
    latency_s = math.exp(random.Random(index).gauss(0, 0.6))
    began_at = START + index * SECOND // 5
    usual = {
        "queued_s": 0.002 * (index % 50),
        "latency_s": latency_s,
        "ttft_s": latency_s / 5,
        "server_processing_s": latency_s / 2,
        "started_at": began_at,
        "finished_at": began_at + int(latency_s * SECOND),
    }
    return success(index, **{**usual, **values})


def failure(index: int, error_type: str = "timed_out", message: str = "no answer for 60 s", **values: Any) -> Record:
    """A row that failed; it began when a stream of this index would have."""
    began_at = START + index * SECOND // 5
    usual = {"requested_model": MODEL, "attempts": 1, "latency_s": 0.04, "started_at": began_at}
    usual |= {"finished_at": began_at + SECOND // 25, "custom_id": f"row-{index}"}
    return Record(index=index, error_type=error_type, error_message=message, **{**usual, **values})


def report_of(good: list[Record], bad: list[Record] | None = None, **facts: Any) -> Report:
    """The report of a few records."""
    run = RunFacts(**{"name": "run", "rows": len(good) + len(bad or []), **facts})
    return summarise([to_batch(good, RESULTS)], [to_batch(bad or [], FAILURES)], run, prices=BOOK)


@cache
def full_report() -> Report:
    """A run of two sessions and two models with something in every section; it was stopped before its end."""
    log = f'[{{"number":1,"started_at":{START + 9 * SECOND},"latency_s":0.1,"status_code":429}}]'
    good = [streamed(index) for index in range(300)]
    good += [streamed(index, requested_model="accounts/fireworks/models/kimi-k3") for index in range(300, 330)]
    good += [streamed(index, finish_reason="length", attempts=2, attempt_log=log) for index in range(330, 340)]
    bad = [failure(340 + index) for index in range(12)]
    bad += [failure(352 + index, "context_length_exceeded", "400: the prompt has 140000 tokens") for index in range(4)]
    limited_s = {"requests": 20.0, "pause": 8.0, "concurrency": 5.0}
    sessions = [
        Session(
            started_at=START + began_s * SECOND,
            ended_at=START + (began_s + 33) * SECOND,
            exit_code=130,
            cause="stopped by SIGINT",
            wall_s=33,
            requests=180,
            throttled=5,
            limited_s=limited_s,
            ceilings=[(0, 8), (5, 16), (12.5, 64), (20, 32)],
            loop_lag_p99_s=0.002,
            loop_lag_max_s=0.01,
        )
        for began_s in (0, 36)
    ]
    return report_of(
        good,
        bad,
        name="runs/tickets",
        rows=400,
        concurrency=64,
        models=[MODEL, "accounts/fireworks/models/kimi-k3"],
        endpoint="https://api.fireworks.ai/inference/v1",
        price_date=BOOK.date,
        price_source=BOOK.source,
        sessions=sessions,
    )


def report_with(text: str) -> Report:
    """A report with one text in every place that takes text from outside; too few rows for a plot."""
    limited_s = {text: 9.0, "requests": 1.0}
    return report_of(
        [streamed(0, requested_model=text, finish_reason=text, cost_usd=None), streamed(1, custom_id=text)],
        [failure(2, "server_error", text), failure(3, text, custom_id=text)],
        name=text,
        models=[text],
        endpoint=text,
        price_date=text,
        price_source=text,
        sessions=[Session(started_at=START, exit_code=8, cause=text, wall_s=10, limited_s=limited_s)],
    )


def sample_of(text: str) -> Sample:
    """A sample that has one text everywhere."""
    return Sample(custom_id=text, finish_reason=text, asked=[(text, text)], answered=[("answer", text)])


class Parsed(HTMLParser):
    """A page's elements with their attributes, and its text; an element that is not closed in order is an error."""

    def __init__(self, page: str) -> None:
        super().__init__(convert_charrefs=True)
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: list[str] = []
        self._open: list[str] = []
        self.feed(page)
        self.close()
        assert self._open == []

    def handle_starttag(self, tag, attrs):
        assert len({name for name, _ in attrs}) == len(attrs), f"an attribute twice: <{tag} {attrs}>"
        self.elements.append((tag, dict(attrs)))
        if tag not in VOID:
            self._open.append(tag)

    def handle_startendtag(self, tag, attrs):
        assert "svg" in self._open, f"only SVG closes a tag in itself: <{tag}/>"
        self.elements.append((tag, dict(attrs)))

    def handle_endtag(self, tag):
        assert self._open.pop() == tag, self.getpos()

    def handle_data(self, data):
        self.texts.append(data)

    @property
    def text(self) -> str:
        """All text of the page, its title and style sheet too."""
        return "".join(self.texts)

    def all(self, tag: str) -> list[dict[str, str | None]]:
        """The attributes of every element of a kind."""
        return [attributes for name, attributes in self.elements if name == tag]

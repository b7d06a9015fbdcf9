"""What a record says of itself as a span: its attributes and its times, without OpenTelemetry."""

from __future__ import annotations

import json

import msgspec
import pytest

from batchrun.config import check_config
from batchrun.tracing.spans import (
    attempt_attributes,
    endpoint_attributes,
    failed_attempts,
    record_attributes,
    times_of,
)
from batchrun.types import Attempt, Record

FIREWORKS = "https://api.fireworks.ai/inference/v1"


def endpoint(base_url, api="chat"):
    """What all spans of a run say of where it is sent to."""
    return endpoint_attributes(check_config({"input": "x", "endpoint": {"base_url": base_url, "api": api}}).endpoint)


def record(**values):
    """A record of a row that was sent."""
    return Record(**{"index": 3, "custom_id": "c3", "requested_model": "m", "attempts": 1, **values})


def attempt(started_at, **values):
    """An attempt that failed."""
    told = {"number": 1, "latency_s": 0.5, "error_type": "server_error", "error_message": "SECRET"}
    return Attempt(**{**told, "started_at": started_at, **values})


def log(*attempts):
    """As a record keeps them."""
    return msgspec.json.encode(attempts).decode()


@pytest.mark.parametrize(
    ("api", "operation"), [("chat", "chat"), ("completions", "text_completion"), ("embeddings", "embeddings")]
)
def test_operations_have_the_names_of_the_conventions(api, operation):
    """Not those of our configuration."""
    assert endpoint("http://localhost:8000", api)["gen_ai.operation.name"] == operation


@pytest.mark.parametrize(
    ("base_url", "provider", "address", "port"),
    [
        (FIREWORKS, "fireworks", "api.fireworks.ai", 443),
        ("http://vllm.example:8000", "openai", "vllm.example", 8000),
        ("http://[::1]/v1", "openai", "::1", 80),
        ("simulated", "simulated", None, None),
    ],
)
def test_the_provider_and_its_address(base_url, provider, address, port):
    """Fireworks has a name of its own; any other server is known by its dialect and its address."""
    told = endpoint(base_url)
    assert told["gen_ai.provider.name"] == provider
    assert (told.get("server.address"), told.get("server.port")) == (address, port)


def test_what_is_unknown_is_left_out():
    """No zero stands for it."""
    told = record_attributes(record())
    assert told == {
        "gen_ai.request.model": "m",
        "batchrun.index": 3,
        "batchrun.custom_id": "c3",
        "batchrun.attempts": 1,
    }


def test_tokens_have_the_names_of_the_conventions():
    """Those of the cache are part of the input, those of reasoning part of the output."""
    tokens = {"prompt_tokens": 10, "cached_tokens": 4, "completion_tokens": 7, "reasoning_tokens": 0}
    told = record_attributes(record(**tokens))
    assert {name: value for name, value in told.items() if name.startswith("gen_ai.usage.")} == {
        "gen_ai.usage.input_tokens": 10,
        "gen_ai.usage.cache_read.input_tokens": 4,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.reasoning.output_tokens": 0,
    }


def test_one_choice_has_one_finish_reason():
    """In a list, as there may be several."""
    assert record_attributes(record(finish_reason="length"))["gen_ai.response.finish_reasons"] == ["length"]


def test_each_choice_has_its_finish_reason():
    """One that has none has broken off: `error`, as the conventions want it."""
    choices = [{"message": {"content": "SECRET"}, "finish_reason": reason} for reason in ("stop", "length", None)]
    told = record_attributes(record(finish_reason="stop", choices=json.dumps(choices)))
    assert told["gen_ai.response.finish_reasons"] == ["stop", "length", "error"]
    assert "SECRET" not in str(told)


@pytest.mark.parametrize("choices", ["", "[null]", "{}", '["\\ud800"]', "[\ud800]"])
def test_odd_choices_are_no_trouble(choices):
    """Then the first choice's reason is told, as the record has it."""
    told = record_attributes(record(finish_reason="stop", choices=choices))
    assert told["gen_ai.response.finish_reasons"] == ["stop"]


def test_nothing_that_was_said_is_told():
    """Of all fields of a record only those of the list: no prompt, no answer, no message, no input column."""
    texts = ("content", "reasoning_content", "refusal", "tool_calls", "messages", "logprobs", "input", "response")
    more = ("error_code", "error_message", "turn_log", "perf_metrics", "request_key")
    told = record_attributes(record(**dict.fromkeys((*texts, *more), "SECRET"), attempt_log=log(attempt(1))))
    assert "SECRET" not in str({**told, **attempt_attributes(attempt(1, error_code="SECRET"))})


def test_what_the_protocol_cannot_hold_is_made_to_fit():
    """An odd answer spoils no other span: half a character is replaced, a long name cut, a huge number left out."""
    told = record_attributes(record(model="a\ud800b", finish_reason="x" * 10_000, prompt_tokens=2**63, attempts=2**62))
    assert told["gen_ai.response.model"] == "a?b"
    assert [len(reason) for reason in told["gen_ai.response.finish_reasons"]] == [500]
    assert "gen_ai.usage.input_tokens" not in told
    assert told["batchrun.attempts"] == 2**62


def test_an_attempt_says_how_it_failed():
    """Its kind, its status and its times."""
    told = attempt_attributes(attempt(1, number=2, turn=3, status_code=503, retry_after_s=1.5))
    assert told == {
        "error.type": "server_error",
        "http.response.status_code": 503,
        "batchrun.attempt": 2,
        "batchrun.turn": 3,
        "batchrun.latency_s": 0.5,
        "batchrun.retry_after_s": 1.5,
    }


def test_attempts_of_earlier_starts_are_theirs():
    """Of a conversation that goes on, the log goes back to them."""
    kept = failed_attempts(record(attempt_log=log(attempt(99), attempt(100), attempt(150))), since=100)
    assert [one.started_at for one in kept] == [100, 150]


@pytest.mark.parametrize(
    ("started_at", "finished_at", "attempts", "times"),
    [
        (200, 300, [], (200, 300)),
        (200, 300, [120, 160], (120, 300)),
        (50, 300, [], (100, 300)),
        (200, 150, [], (200, 200)),
    ],
    ids=["once", "retried", "begun by an earlier start", "a clock that was set back"],
)
def test_a_span_is_as_long_as_its_row_took(started_at, finished_at, attempts, times):
    """From the first sending of this start to the record, and never of a negative length."""
    row = record(started_at=started_at, finished_at=finished_at)
    assert times_of(row, [attempt(at) for at in attempts], since=100) == times

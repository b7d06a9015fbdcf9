"""What the engine may expect of any endpoint, against a server that knows nothing of these tests.

By default that is the simulated one, as a process of its own. With BATCHRUN_TEST_BASE_URL, BATCHRUN_TEST_MODEL and
perhaps BATCHRUN_TEST_KEY in the environment it is any OpenAI-compatible server.
"""

from __future__ import annotations

import asyncio
import json
import os

import pytest
from asking import endpoint, request
from servers import simulated

from batchrun.errors import EndpointError, Rejected
from batchrun.types import Completion

SETTINGS = {name: os.environ.get(f"BATCHRUN_TEST_{name}") for name in ("BASE_URL", "MODEL", "KEY")}


@pytest.fixture(scope="module")
def base_url():
    """Where the server is."""
    if SETTINGS["BASE_URL"]:
        yield SETTINGS["BASE_URL"]
    else:
        with simulated() as server:
            yield server.base_url


def body(prompt: str, **params) -> bytes:
    """A chat completion of a few tokens."""
    messages = [{"role": "user", "content": prompt}]
    return json.dumps(
        {"model": SETTINGS["MODEL"] or "simulated/small", "messages": messages, "max_tokens": 16, **params}
    ).encode()


def ask_each(base_url: str, *bodies: bytes) -> list[Completion | EndpointError]:
    """Ask them all at once."""

    async def one(opened, index, content):
        try:
            return await opened.complete(request(index, content))
        except EndpointError as error:
            return error

    async def main():
        async with endpoint(base_url, key=SETTINGS["KEY"], attempt_s=120, first_byte_s=120, idle_s=120) as opened:
            return await asyncio.gather(*(one(opened, index, content) for index, content in enumerate(bodies)))

    return asyncio.run(main())


def test_a_completion_has_text_usage_and_times(base_url):
    """All that a record needs."""
    (done,) = ask_each(base_url, body("Name a colour."))
    assert isinstance(done, Completion), done
    assert done.content
    assert done.finish_reason in {"stop", "length"}
    assert done.usage.prompt_tokens > 0
    assert 0 < done.usage.completion_tokens <= 16
    assert done.usage.total_tokens == done.usage.prompt_tokens + done.usage.completion_tokens
    assert done.latency_s > 0
    assert done.status_code == 200
    assert json.loads(done.response)["choices"]


def test_a_length_that_is_too_short_is_told(base_url):
    """`finish_reason` says so, and the text is there."""
    (done,) = ask_each(base_url, body("Count from one to a thousand.", max_tokens=3))
    assert (done.finish_reason, done.usage.completion_tokens) == ("length", 3)


def test_many_at_once_are_answered(base_url):
    """Each with a completion of its own."""
    answers = ask_each(base_url, *(body(f"Name the number {number}.") for number in range(40)))
    assert all(isinstance(answer, Completion) for answer in answers)


def test_a_request_that_cannot_be_is_rejected(base_url):
    """With words for people, and without an end of the run."""
    (error,) = ask_each(base_url, b'{"model": "simulated/small", "messages": 7}')
    assert isinstance(error, Rejected), error
    assert error.status_code in {400, 422}
    assert error.message

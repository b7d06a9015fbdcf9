"""The other paths: text completions and embeddings, plain, and judged as strictly as chats."""

from __future__ import annotations

import asyncio
import base64
import json
import struct

import msgspec
import pytest
from asking import endpoint, request
from peers import READ, http, peer

from batchrun.errors import Ambiguous, EndpointError, Rejected
from batchrun.types import Usage

USAGE = {"prompt_tokens": 5, "total_tokens": 5}
VECTOR = [0.5, -0.25, 1.0]


def ask_of(api: str, answer: object):
    """What becomes of one request to this API, and the first line of what was sent."""

    async def once(base_url):
        async with endpoint(base_url) as opened:
            try:
                return await opened.complete(msgspec.structs.replace(request(), api=api))
            except EndpointError as error:
                return error

    with peer([READ, http(answer)]) as there:
        return asyncio.run(once(there.base_url)), there.requests[0].partition(b"\r\n")[0]


def test_a_text_completion_has_its_text():
    """In `content`, as a chat's."""
    choice = {"index": 0, "text": "yes", "finish_reason": "length", "logprobs": {"tokens": ["yes"]}}
    done, line = ask_of("completions", {"id": "cmpl-1", "model": "served", "choices": [choice], "usage": USAGE})
    assert line == b"POST /v1/completions HTTP/1.1"
    assert (done.content, done.finish_reason, done.model) == ("yes", "length", "served")
    assert json.loads(done.logprobs) == {"tokens": ["yes"]}


def test_an_empty_text_completion_is_no_success():
    """Nothing was bought."""
    error, _ = ask_of("completions", {"choices": [{"text": "", "finish_reason": "stop"}]})
    assert (type(error), error.error_type) == (Rejected, "empty_response")


def embeddings(vector: object) -> dict:
    """An answer with this vector."""
    return {"object": "list", "data": [{"object": "embedding", "index": 0, "embedding": vector}], "usage": USAGE}


@pytest.mark.parametrize(
    "vector", [VECTOR, base64.b64encode(struct.pack("<3f", *VECTOR)).decode()], ids=["list", "base64"]
)
def test_a_vector_comes_as_numbers_or_as_base64(vector):
    """As `encoding_format` asks for it; nothing is generated, so nothing is unknown about the usage."""
    done, line = ask_of("embeddings", embeddings(vector))
    assert line == b"POST /v1/embeddings HTTP/1.1"
    assert done.embedding == VECTOR
    assert done.usage == Usage(prompt_tokens=5, completion_tokens=0, total_tokens=5)
    assert done.content is None


@pytest.mark.parametrize(
    "answer",
    [
        {},
        {"data": []},
        {"data": [{}]},
        {"data": None},
        {"data": [{"embedding": []}]},
        {"data": [{"embedding": ["a"]}]},
        {"data": [{"embedding": [1e300]}]},
        {"data": [{"embedding": "AAA"}]},
        {"data": [{"embedding": "AAAA"}]},
        {"data": [{"embedding": "no base64"}]},
        {"data": [{"embedding": {}}]},
        {"data": [5]},
        {"choices": [{"message": {"content": "a chat"}}]},
    ],
    ids=lambda answer: json.dumps(answer)[:40],
)
def test_what_is_no_vector_is_no_success(answer):
    """Empty, text, out of range, or something else altogether."""
    error, _ = ask_of("embeddings", answer)
    assert (type(error), error.error_type) == (Ambiguous, "response_invalid")


def test_an_error_inside_is_an_error_there_too():
    """Status 200 alone is not success."""
    error, _ = ask_of("embeddings", {"error": {"message": "boom", "code": 500}})
    assert (type(error), error.error_type) == (Ambiguous, "server_error")

from __future__ import annotations

import pytest
from servers import simulated

openai = pytest.importorskip("openai")

ASK = [{"role": "user", "content": "hello"}]


@pytest.fixture(scope="module")
def server():
    """A server that serves any model but those that are missing."""
    with simulated() as running:
        yield running


@pytest.fixture
def client(server):
    """The official client, without its retries."""
    with openai.OpenAI(base_url=server.base_url, api_key="none", max_retries=0) as made:
        yield made


def test_the_official_client_reads_a_plain_answer(client):
    """Words, finish_reason and usage are where it looks for them."""
    answer = client.chat.completions.create(model="m", messages=ASK)
    assert answer.choices[0].message.content.startswith("Simulated answer")
    assert answer.usage.total_tokens == answer.usage.prompt_tokens + answer.usage.completion_tokens


def test_the_official_client_reads_a_stream(client):
    """Put together, its chunks are the plain answer."""
    plain = client.chat.completions.create(model="m", messages=ASK)
    options = {"include_usage": True}
    chunks = list(client.chat.completions.create(model="m", messages=ASK, stream=True, stream_options=options))
    words = "".join(chunk.choices[0].delta.content or "" for chunk in chunks if chunk.choices)
    assert words == plain.choices[0].message.content
    assert chunks[-1].usage == plain.usage


def test_the_official_client_reads_an_error(client):
    """A missing model is its NotFoundError, with the message of the endpoint."""
    with pytest.raises(openai.NotFoundError, match="Model not found"):
        client.chat.completions.create(model="missing", messages=ASK)


def test_the_official_client_lists_the_models(client):
    """GET /models is read as a list."""
    assert "simulated" in [model.id for model in client.models.list()]

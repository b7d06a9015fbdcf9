"""Three APIs: what each takes, and how a batch line chooses its own."""

from __future__ import annotations

import json
from hashlib import blake2b

import pytest
from rows import ELSEWHERE, USER, body, prompt, refusal, renderer

BODIES = {
    "chat": {"model": "b", "messages": [USER]},
    "completions": {"model": "b", "prompt": "Once"},
    "embeddings": {"model": "b", "input": "Once"},
}
PATHS = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}


def line(api, *, version="/v1", **over):
    """An OpenAI batch line for this API."""
    return {"method": "POST", "url": version + PATHS[api], "body": BODIES[api] | over}


def test_a_completion_is_asked_with_its_prompt():
    """The bytes are model, prompt and the parameters, in this order."""
    request = renderer(api="completions").render(prompt(prompt="Once"))
    assert request.body == b'{"model":"m","prompt":"Once","max_tokens":9}'


@pytest.mark.parametrize("key", ["prompt", "input"])
def test_an_embedding_is_asked_with_its_input(key):
    """The text may stand under either name; the bytes are the same."""
    request = renderer(api="embeddings", params={"dimensions": 8, "max_tokens": None, "temperature": None}).render(
        prompt(**{key: "Once"})
    )
    assert request.body == b'{"model":"m","input":"Once","dimensions":8}'


@pytest.mark.parametrize(("api", "key"), [("completions", "prompt"), ("embeddings", "input")])
def test_a_template_gives_the_text(api, key):
    """As it gives the user's message of a chat."""
    assert body({"word": "Once"}, api=api, template="{{ word }}!")[key] == "Once!"


@pytest.mark.parametrize("api", PATHS)
def test_a_request_knows_its_api_and_its_key_covers_the_path(api):
    """The same text under another API is another request."""
    request = renderer(api=api).render(prompt(prompt="Once"))
    assert request.api == api
    hashed = f"{ELSEWHERE}\0{PATHS[api]}\0".encode() + request.body
    assert request.request_key == blake2b(hashed, digest_size=16).hexdigest()


@pytest.mark.parametrize("configured", PATHS)
@pytest.mark.parametrize("version", ["/v1", ""])
@pytest.mark.parametrize("api", PATHS)
def test_the_url_of_a_batch_line_decides_for_its_row(api, version, configured):
    """Whatever the configuration says, so that one file may mix them; the body is sent as it is."""
    request = renderer(api=configured).render(prompt(**line(api, version=version)))
    assert (request.api, json.loads(request.body)) == (api, BODIES[api])
    hashed = f"{ELSEWHERE}\0{PATHS[api]}\0".encode() + request.body
    assert request.request_key == blake2b(hashed, digest_size=16).hexdigest()


@pytest.mark.parametrize("api", PATHS)
def test_a_fireworks_line_goes_where_the_configuration_says(api):
    """It has no url."""
    request = renderer(api=api).render(prompt(body=BODIES[api]))
    assert (request.api, json.loads(request.body)) == (api, BODIES[api])


def test_a_null_method_is_absent():
    """Parquet has it where other lines name one."""
    assert renderer().render(prompt(**line("chat") | {"method": None})).api == "chat"


@pytest.mark.parametrize("method", ["GET", ["POST"]])
def test_only_post_is_sent(method):
    """Anything else is refused with what is known."""
    error = refusal(line("chat") | {"method": method})
    assert f"asks for {method} /v1/chat/completions" in error.message
    assert error.remedy == "supported are POST /v1/chat/completions, POST /v1/completions, POST /v1/embeddings"


def test_tokens_of_a_text_are_a_text():
    """A batch body may hold one text as a list of tokens."""
    assert body(line("embeddings", input=[1, 2]))["input"] == [1, 2]


@pytest.mark.parametrize(
    ("api", "row", "why"),
    [
        ("completions", {"messages": [USER]}, "`messages` has no meaning under api completions"),
        ("completions", {"turns": ["a", "b"]}, "`turns` has no meaning under api completions"),
        ("completions", {"prompt": "a", "system": "S"}, "`system` has no meaning under api completions"),
        ("completions", {"prompt": ["a"]}, "prompt is a list, not text"),
        ("completions", {"input": "a"}, "nothing to send: the row has only `input`"),
        ("completions", {"prompt": "a", "params": {"input": "b"}}, "params holds `input`, no sampling parameter"),
        ("completions", line("completions", prompt=None), "body.prompt is null, not text"),
        ("completions", line("completions", prompt=["a", "b"]), "body.prompt is a list, and each row has one answer"),
        ("completions", {"body": {"messages": [USER]}}, "body.prompt is null, not text"),
        ("embeddings", {"messages": [USER]}, "`messages` has no meaning under api embeddings"),
        ("embeddings", {"turns": ["a"]}, "`turns` has no meaning under api embeddings"),
        ("embeddings", {"input": "a", "system": ""}, "`system` has no meaning under api embeddings"),
        ("embeddings", {"input": "a", "prompt": "b"}, "the row has `prompt`, `input`, which exclude each other"),
        ("embeddings", {"input": ["a", "b"]}, "input is a list, not text"),
        ("embeddings", {"text": "a"}, "nothing to send: the row has only `text`"),
        ("embeddings", line("embeddings", input=["a"]), "body.input is a list, and each row has one answer"),
        ("embeddings", line("embeddings", input=[[1], [2]]), "body.input is a list, and each row has one answer"),
        ("embeddings", line("embeddings", input=[True]), "body.input is a list, and each row has one answer"),
        ("embeddings", line("embeddings", input=[]), "body.input is a list, not text"),
        ("embeddings", line("embeddings", input=5), "body.input is a number, not text"),
        ("embeddings", line("embeddings", stream=True), "body.stream is set, but embeddings have no stream"),
        ("chat", {"input": "a"}, "nothing to send: the row has only `input`"),
        ("chat", line("chat", messages=None), "body.messages is not a list with at least one message"),
        ("chat", line("chat", messages=[{"role": "user"}]), "body.messages[0] has no content but `role`"),
    ],
)
def test_what_an_api_does_not_take_is_refused(api, row, why):
    """Before anything is sent, with the line and a remedy."""
    assert why in refusal(row, api=api).message


def test_the_remedy_names_the_key_of_the_api():
    """It can be typed."""
    assert refusal({"messages": [USER]}, api="embeddings").remedy == "write it into `input`, or set endpoint.api: chat"
    assert "write one row a text" in refusal(line("embeddings", input=["a"])).remedy
    assert "`input`, or a batch line's `body`" in refusal({"text": "a"}, api="embeddings").remedy
    assert "`prompt`, or a batch line's `body`" in refusal({"text": "a"}, api="completions").remedy

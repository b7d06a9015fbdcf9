"""Streams where they are needed, metrics where they are known, and everything else as it was given."""

from __future__ import annotations

import json

import pytest
from rows import ELSEWHERE, FIREWORKS, USER, body, prompt, refusal, renderer

from batchrun.errors import ConfigError

STREAMED = {"stream": True, "stream_options": {"include_usage": True}}
ANY_BODY = {"model": "b", "messages": [USER]}


def asked(row, **configured):
    """The keys of a body that are about streams; the request must agree with them."""
    request = renderer(**configured).render(prompt(**row))
    sent = json.loads(request.body)
    assert request.stream == bool(sent.get("stream"))
    return {key: value for key, value in sent.items() if key.startswith("stream")}


@pytest.mark.parametrize("api", ["chat", "completions"])
@pytest.mark.parametrize(
    ("request_", "streamed"),
    [
        ({"stream": "always"}, True),
        ({"stream": "never", "params": {"max_tokens": 9000}}, False),
        ({}, False),
        ({"params": {"max_tokens": 4096}}, False),
        ({"params": {"max_tokens": 4097}}, True),
        ({"params": {"max_completion_tokens": 4097}}, True),
        ({"params": {"max_completion_tokens": 4096}}, False),
        ({"params": {"max_tokens": None}}, False),
        ({"stop_stream": {"max_chars": 5}}, True),
        ({"measure_ttft": True}, True),
    ],
)
def test_the_configuration_decides_what_is_streamed(api, request_, streamed):
    """`auto` streams what Fireworks refuses otherwise, and what somebody watches; a plain body has no such key."""
    assert asked({"prompt": "hi"}, api=api, **request_) == (STREAMED if streamed else {})


def test_a_rows_own_tokens_decide_for_it():
    """`auto` looks at what is sent, whoever asked for it."""
    assert asked({"prompt": "hi", "params": {"max_tokens": 5000}}) == STREAMED
    assert asked({"prompt": "hi", "params": {"max_tokens": 50}}, params={"max_tokens": 5000}) == {}
    assert asked({"body": ANY_BODY | {"max_tokens": 5000}}) == STREAMED
    assert asked({"body": ANY_BODY}, params={"max_tokens": 5000}) == {}


def test_the_body_of_a_batch_line_decides_for_itself():
    """Its own `stream` wins over the configuration, and stands as it was given."""
    assert asked({"body": ANY_BODY | {"stream": True}}, stream="never") == STREAMED
    assert asked({"body": ANY_BODY | {"stream": False}}, stream="always") == {"stream": False}
    assert asked({"body": ANY_BODY | {"stream": None}}, stream="always") == STREAMED


def test_their_stream_options_are_kept_and_usage_is_asked_for():
    """Without usage nobody knows what the answer cost."""
    theirs = {"include_usage": False, "buffer_ms": 5}
    wanted = {"stream": True, "stream_options": {"include_usage": True, "buffer_ms": 5}}
    assert asked({"prompt": "hi"}, stream="always", params={"stream_options": theirs}) == wanted
    assert asked({"prompt": "hi", "params": {"stream_options": theirs}}, stream="always") == wanted
    assert asked({"body": ANY_BODY | {"stream": True, "stream_options": theirs}}) == wanted


def test_stream_options_go_with_a_stream_only():
    """OpenAI refuses them otherwise, and `auto` streams some rows of a file and not others."""
    assert asked({"prompt": "hi"}, params={"stream_options": {"include_usage": True}}) == {}
    assert asked({"body": ANY_BODY | {"stream_options": {}}}) == {}


@pytest.mark.parametrize(
    ("row", "configured", "why"),
    [
        ({"body": ANY_BODY | {"stream": 1}}, {}, "body.stream is neither true nor false"),
        ({"body": ANY_BODY | {"stream_options": "usage"}}, {}, "body.stream_options is not an object"),
        ({"prompt": "hi", "params": {"stream_options": [1]}}, {}, "stream_options is not an object"),
        ({"prompt": "hi", "params": {"n": 2}}, {"stop_stream": {"max_chars": 5}}, "would lose the others"),
        ({"body": ANY_BODY | {"n": 2}}, {"stop_stream": {"max_chars": 5}}, "would lose the others"),
        ({"prompt": "hi", "params": {"stream": True}}, {}, "params holds `stream`"),
    ],
)
def test_what_cannot_be_streamed_is_refused(row, configured, why):
    """With the line and a remedy."""
    assert why in refusal(row, **configured).message


def test_the_remedy_for_a_stream_in_params_is_its_own_key():
    """It is a key of the request."""
    assert "request.stream" in refusal({"prompt": "hi", "params": {"stream": True}}).remedy


def test_several_choices_are_fine_where_no_stream_is_stopped():
    """A batch line that asks for a plain answer gets all of them."""
    row = {"body": ANY_BODY | {"n": 2, "stream": False}}
    assert body(row, stop_stream={"max_chars": 5})["n"] == 2
    assert body({"prompt": "hi", "params": {"n": 2}}, stream="always")["n"] == 2


@pytest.mark.parametrize(
    ("request_", "why"),
    [
        ({"params": {"n": 2}, "stop_stream": {"max_chars": 5}}, "request.params.n is more than 1"),
        ({"params": {"stream_options": 5}}, "request.params.stream_options is not an object"),
    ],
)
def test_configured_params_are_an_error_of_the_configuration(request_, why):
    """Not of each row."""
    with pytest.raises(ConfigError, match=why) as caught:
        renderer(**request_)
    assert caught.value.remedy


def test_embeddings_are_never_streamed():
    """However many tokens are asked for; nor is there anything of a stream in the body."""
    row = {"method": "POST", "url": "/v1/embeddings", "body": {"model": "b", "input": "x", "max_tokens": 9000}}
    assert asked(row, stream="always") == {}
    assert asked({"input": "x", "params": {"max_tokens": 9000}}, api="embeddings") == {}


@pytest.mark.parametrize("base_url", [FIREWORKS, "https://us.api.fireworks.ai/inference/v1", "simulated"])
@pytest.mark.parametrize("row", [{"prompt": "hi"}, {"prompt": "hi", "params": {"seed": 1}}])
@pytest.mark.parametrize("api", ["chat", "completions"])
def test_fireworks_is_asked_for_its_metrics(base_url, row, api):
    """Chat and completions, plain and streamed."""
    assert body(row, base_url=base_url, api=api)["perf_metrics_in_response"] is True
    assert body(row, base_url=base_url, api=api, stream="always")["perf_metrics_in_response"] is True


def test_batch_lines_are_asked_for_metrics_too():
    """The body is otherwise as it was."""
    assert body({"body": ANY_BODY}, base_url=FIREWORKS) == ANY_BODY | {"perf_metrics_in_response": True}


@pytest.mark.parametrize("row", [{"body": ANY_BODY}, {"prompt": "hi"}])
def test_other_hosts_are_not_asked_for_metrics(row):
    """They refuse keys that they do not know."""
    assert "perf_metrics_in_response" not in body(row, base_url=ELSEWHERE)


def test_embeddings_have_no_metrics():
    """The key belongs to chat and completions."""
    assert "perf_metrics_in_response" not in body({"input": "x"}, base_url=FIREWORKS, api="embeddings")


@pytest.mark.parametrize("value", [False, None])
def test_what_a_body_says_of_metrics_stands(value):
    """It is there already."""
    sent = body({"body": ANY_BODY | {"perf_metrics_in_response": value}}, base_url=FIREWORKS)
    assert sent["perf_metrics_in_response"] is value


def test_params_can_turn_metrics_off():
    """From the configuration and from a row."""
    off = {"perf_metrics_in_response": False}
    assert body({"prompt": "hi"}, base_url=FIREWORKS, params=off)["perf_metrics_in_response"] is False
    assert body({"prompt": "hi", "params": off}, base_url=FIREWORKS)["perf_metrics_in_response"] is False


SCHEMA = {"type": "object", "properties": {"a": {"type": ["string", "null"]}}, "additionalProperties": False}
PASSED = {
    "tools": [{"type": "function", "function": {"name": "f", "parameters": SCHEMA, "strict": True}}],
    "tool_choice": {"type": "function", "function": {"name": "f"}},
    "parallel_tool_calls": False,
    "json_object": {"type": "json_object"},
    "json_schema": {"type": "json_schema", "json_schema": {"name": "s", "schema": SCHEMA}},
    "grammar": {"type": "grammar", "grammar": 'root ::= "yes" | "no"'},
    "logprobs": True,
    "top_logprobs": 5,
    "n": 3,
    "seed": 0,
    "stop": ["\n", "é"],
    "logit_bias": {"5": -100.0},
    "reasoning_effort": "none",
    "thinking": {"type": "enabled", "budget_tokens": 1024},
    "service_tier": "priority",
    "prompt_cache_key": "k",
    "user": "u",
    "metadata": {"team": "a"},
    "context_length_exceeded_behavior": "error",
    "chat_template_kwargs": {"enable_thinking": False},
    "anything_else": [0, 1.5, "", {}],
}


@pytest.mark.parametrize("name", PASSED)
@pytest.mark.parametrize("base_url", [FIREWORKS, ELSEWHERE])
def test_parameters_pass_untouched(name, base_url):
    """From the configuration, a row's params and a batch body alike; a row's null takes a configured one away."""
    key = "response_format" if name in {"json_object", "json_schema", "grammar"} else name
    value = PASSED[name]
    assert body({"prompt": "hi"}, base_url=base_url, params={key: value})[key] == value
    assert body({"prompt": "hi", "params": {key: value}}, base_url=base_url)[key] == value
    assert body({"body": ANY_BODY | {key: value}}, base_url=base_url)[key] == value
    assert key not in body({"prompt": "hi", "params": {key: None}}, base_url=base_url, params={key: value})


def test_nothing_is_defaulted():
    """A body holds what was asked for, and on Fireworks the wish for metrics."""
    assert set(body({"prompt": "hi"})) == {"model", "messages", "max_tokens"}
    assert set(body({"prompt": "hi"}, base_url=FIREWORKS)) == {
        "model",
        "messages",
        "max_tokens",
        "perf_metrics_in_response",
    }


def test_unknown_keys_of_messages_pass():
    """Also a history with calls of tools, their answers and reasoning."""
    messages = [
        USER,
        {"role": "assistant", "content": "", "reasoning_content": "r", "tool_calls": [{"id": "c"}], "x": None},
        {"role": "tool", "tool_call_id": "c", "content": "42"},
        {"role": "user", "content": [{"type": "text", "text": "t"}, {"type": "video_url", "video_url": {"url": "v"}}]},
    ]
    assert body({"messages": messages})["messages"] == messages
    assert body({"body": ANY_BODY | {"messages": messages}})["messages"] == messages

"""The providers' own batch output: what their types and a reader of their files accept."""

from __future__ import annotations

import json

import pytest
from exports import ended, exported, failed, fireworks_results, lines, make, openai_results
from hypothesis import given
from hypothesis import strategies as st

from batchrun.export.bodies import answer_body, error_body
from batchrun.export.envelopes import COLUMNS, fireworks_line, openai_line
from batchrun.export.text import json_lines

CALLS = [{"id": "call_1", "type": "function", "function": {"name": "f", "arguments": "{}"}}]
KEPT = {
    "id": "chatcmpl-k",
    "object": "chat.completion",
    "created": 1,
    "model": "m",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "kept"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 1, "completion_tokens": 2, "total_tokens": 3},
}
SSE = 'data: {"id":"1","object":"chat.completion.chunk","choices":[{"delta":{"content":"x"}}]}\n\ndata: [DONE]\n\n'


def row(**values) -> dict:
    """A row as it comes out of the columns."""
    nothing = dict.fromkeys(COLUMNS)
    usual = {"index": 3, "custom_id": "c3", "request_key": "ab", "model": "served", "finish_reason": "stop"}
    usual |= {"status_code": 200, "request_id": "chatcmpl-3", "finished_at": 1_795_368_000_123_456}
    return nothing | usual | {"content": "hello", "prompt_tokens": 10, "completion_tokens": 5} | values


def written(made: object) -> dict:
    """What a reader gets of a body."""
    return json.loads(json_lines([made]))


def chat(body: dict):
    """A body in the eyes of the official types, which convert nothing."""
    types = pytest.importorskip("openai.types.chat")
    return types.ChatCompletion.model_validate(body, strict=True)


@pytest.mark.parametrize(
    "values",
    [
        {},
        {"content": None, "tool_calls": json.dumps(CALLS), "finish_reason": "tool_calls"},
        {"content": None, "refusal": "no"},
        {"reasoning_content": "hm", "reasoning_tokens": 2, "cached_tokens": 4, "total_tokens": 15},
        {"logprobs": '{"content": [{"token": "a", "logprob": -0.5, "bytes": null, "top_logprobs": []}]}'},
        {"prompt_tokens": None, "completion_tokens": None},
        {"request_id": None, "model": None, "requested_model": "m"},
        {"choices": json.dumps([{"message": {"content": text}, "finish_reason": "stop"} for text in "ab"])},
        {"response": json.dumps(KEPT, indent=2)},
        {"response": SSE},
    ],
    ids=["text", "tools", "refusal", "reasoning", "logprobs", "no usage", "no id", "n", "kept", "stream"],
)
def test_a_chat_completion_is_one_to_the_official_types(values):
    """Kept or rebuilt, plain or streamed, the body passes `ChatCompletion` in strict mode."""
    assert chat(written(answer_body(row(**values), "chat"))).choices


def test_a_rebuilt_chat_completion_has_what_the_columns_say():
    """All of it, and nothing that they do not say."""
    values = {"reasoning_content": "hm", "cached_tokens": 4, "reasoning_tokens": 2, "tool_calls": json.dumps(CALLS)}
    assert written(answer_body(row(**values), "chat")) == {
        "id": "chatcmpl-3",
        "object": "chat.completion",
        "created": 1_795_368_000,
        "model": "served",
        "choices": [
            {
                "index": 0,
                "message": {
                    "role": "assistant",
                    "content": "hello",
                    "refusal": None,
                    "reasoning_content": "hm",
                    "tool_calls": CALLS,
                },
                "finish_reason": "stop",
                "logprobs": None,
            }
        ],
        "usage": {
            "prompt_tokens": 10,
            "completion_tokens": 5,
            "total_tokens": 15,
            "prompt_tokens_details": {"cached_tokens": 4},
            "completion_tokens_details": {"reasoning_tokens": 2},
        },
    }


def test_a_kept_answer_goes_out_as_it_came():
    """Numbers that no float can hold and keys that nobody knows, but on one line."""
    text = '{\n "choices": [{"index": 0}],\r\n "big": 123456789012345678901234567890, "tiny": 1e-999, "é": "a\\nb"}'
    line = json_lines([answer_body(row(response=text), "chat")])
    assert line == text.replace("\n ", "").replace("\r", "").replace(": ", ":").replace(", ", ",").encode() + b"\n"


@pytest.mark.parametrize("response", ["", "{", "[]", '{"choices": []}', '{"choices": "x"}', '{"choices": [NaN]}', SSE])
def test_what_is_no_answer_is_not_taken_for_one(response):
    """The body is then rebuilt."""
    assert written(answer_body(row(response=response), "chat"))["choices"][0]["message"]["content"] == "hello"


def test_half_a_surrogate_pair_does_not_reach_the_file():
    """Many readers refuse it: the body is rebuilt from the columns, where it has been replaced."""
    kept = '{"choices": [{"message": {"content": "\\ud83d"}}]}'
    body = written(answer_body(row(response=kept, content="\ufffd"), "chat"))
    assert body["choices"][0]["message"]["content"] == "\ufffd"


def test_an_early_end_is_called_by_its_name():
    """`stopped_by_client` is no word of OpenAI's, and `stop` would say that the model had finished: it is `length`."""
    body = written(answer_body(row(finish_reason="stopped_by_client", response=SSE), "chat"))
    assert body["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize(
    ("values", "api"),
    [
        ({}, "completions"),
        ({"response": 'data: {"id":"1","object": "text_completion"}\n\n'}, "chat"),
        ({"choices": '[{"index": 0, "text": "a", "finish_reason": "stop"}]'}, "chat"),
    ],
    ids=["run", "stream", "choices"],
)
def test_a_text_completion_is_told_apart(values, api):
    """By its kept stream or its choices, else by what the run asked for."""
    types = pytest.importorskip("openai.types")
    body = written(answer_body(row(**values), api))
    assert types.Completion.model_validate(body, strict=True).choices[0].text in {"hello", "a"}


def test_an_answer_that_speaks_of_a_text_completion_is_none():
    """Inside a text of the stream the quotes are escaped."""
    said = json.dumps({"object": "chat.completion.chunk", "choices": [{"text": '"object": "text_completion"'}]})
    response = f"data: {said}\n\n"
    assert written(answer_body(row(response=response), "chat"))["object"] == "chat.completion"


def test_an_embedding_is_a_list_of_one():
    """It passes `CreateEmbeddingResponse`."""
    types = pytest.importorskip("openai.types")
    values = {"content": None, "embedding": [0.5, -0.25], "completion_tokens": 0, "total_tokens": 10}
    found = types.CreateEmbeddingResponse.model_validate(written(answer_body(row(**values), "embeddings")), strict=True)
    assert (found.data[0].embedding, found.usage.total_tokens) == ([0.5, -0.25], 10)


def test_an_http_error_is_a_response_with_the_envelope():
    """Status and body as an error file of the Batch API has them."""
    failure = row(error_type="request_rejected", error_code="BAD", error_message="no", status_code=400)
    line = written(openai_line(failure, "chat", "0" * 32))
    error = {"message": "no", "type": "request_rejected", "param": None, "code": "BAD"}
    assert line["response"] == {"status_code": 400, "request_id": "chatcmpl-3", "body": {"error": error}}
    assert line["error"] is None


def test_an_error_in_the_envelope_goes_out_as_it_came():
    """With the endpoint's own type, code and param."""
    told = '{"error": {"message": "Model not found", "param": "model", "code": "NOT_FOUND", "type": "error"}}'
    assert written(error_body(row(error_type="not_found", error_message="m", response=told))) == json.loads(told)


@pytest.mark.parametrize(
    "told",
    [None, "<html>", '{"error": "Too Many Requests", "message": "m"}', '{"detail": []}', '{"error": {"message'],
)
def test_an_error_of_another_shape_is_put_into_the_envelope(told):
    """Page, text, list, a head that breaks off: the message is ours."""
    error = written(error_body(row(error_type="server_error", error_message="HTTP 500", response=told)))["error"]
    assert error == {"message": "HTTP 500", "type": "server_error", "param": None, "code": None}


@pytest.mark.parametrize("status", [None, 200, 302])
def test_a_failure_without_an_http_error_has_no_response(status):
    """Nor has a 200 that was unusable: a reader would look for an answer in it."""
    failure = row(error_type="response_invalid", error_message="no choice", status_code=status, response="{}")
    line = written(openai_line(failure, "chat", "0" * 32))
    assert (line["response"], line["error"]) == (None, {"code": "response_invalid", "message": "no choice"})


def test_a_line_of_fireworks_is_flat():
    """The completion is right under `response`; an error in its place has message and code."""
    assert written(fireworks_line(row(response=json.dumps(KEPT)), "chat")) == {"custom_id": "c3", "response": KEPT}
    failure = row(error_type="timed_out", error_message="after 3 s")
    error = {"message": "after 3 s", "code": "timed_out"}
    assert written(fireworks_line(failure, "chat")) == {"custom_id": "c3", "error": error}


@given(st.text(st.characters(exclude_categories=["Cs"])))
def test_a_text_never_breaks_its_line(text):
    """Whatever counts as a line break somewhere, one row is one line and comes back as it was, rebuilt or kept."""
    kept = json.dumps({**KEPT, "model": text}, ensure_ascii=False, indent=1)
    block = json_lines([answer_body(row(content=text), "chat"), answer_body(row(response=kept), "chat")]).decode()
    rebuilt, as_it_came = map(json.loads, block.splitlines())
    assert (rebuilt["choices"][0]["message"]["content"], as_it_came["model"]) == (text, text)


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    """Answers kept and not kept, a refusal, a time-out, an unusable 200; two prompts are the same."""
    rows = [
        ended(0, response=json.dumps(KEPT)),
        ended(1, request_key="same"),
        ended(2, request_key="same"),
        failed(3, "request_rejected", status_code=400, request_id="r"),
        failed(4, "timed_out"),
        failed(5, "empty_response", status_code=200),
    ]
    return make(tmp_path_factory.mktemp("run") / "out", rows)


def test_a_reader_of_openai_output_reads_ours(folder, tmp_path):
    """Every row once: three answers that its types accept, three errors with a message."""
    bodies, errors = openai_results(exported(folder, tmp_path / "a.jsonl", "openai"))
    assert {key: chat(body).choices[0].message.content for key, body in bodies.items()} == {
        "row-0": "kept",
        "row-1": "answer 1",
        "row-2": "answer 2",
    }
    assert {key: (error["code"], error["message"]) for key, error in errors.items()} == {
        "row-3": (None, "no luck"),
        "row-4": ("timed_out", "no luck"),
        "row-5": ("empty_response", "no luck"),
    }


def test_a_reader_of_fireworks_output_reads_ours(folder, tmp_path):
    """The same rows."""
    bodies, errors = fireworks_results(exported(folder, tmp_path / "a.jsonl", "fireworks"))
    assert {key: chat(body).usage.prompt_tokens for key, body in bodies.items()} == {
        "row-0": 1,
        "row-1": 10,
        "row-2": 10,
    }
    codes = {key: error["code"] for key, error in errors.items()}
    assert codes == {"row-3": "request_rejected", "row-4": "timed_out", "row-5": "empty_response"}


def test_the_id_of_a_line_is_its_own(folder, tmp_path):
    """Also where two prompts are the same, and the same in every export."""
    ids = [line["id"] for line in lines(exported(folder, tmp_path / "a.jsonl", "openai"))]
    assert len(set(ids)) == 6
    assert all(one.startswith("batch_req_") for one in ids)
    assert ids == [line["id"] for line in lines(exported(folder, tmp_path / "b.jsonl", "openai"))]

"""From a row to the bytes that are sent: every row form, the row's own keys, and what is refused."""

from __future__ import annotations

import json

import pytest
from rows import USER, body, prompt, refusal, renderer

from batchrun.types import Prompt


def test_a_prompt_becomes_a_user_message():
    """The bytes are model, messages and the configured parameters, in this order."""
    request = renderer().render(prompt(prompt="hé"))
    assert request.body == '{"model":"m","messages":[{"role":"user","content":"hé"}],"max_tokens":9}'.encode()


def test_a_request_knows_its_prompt():
    """Index, id, model and API come along."""
    request = renderer().render(prompt(prompt="hi"))
    assert (request.index, request.custom_id, request.model, request.api, request.input) == (
        4,
        "id4",
        "m",
        "chat",
        None,
    )


def test_messages_are_sent_as_they_are():
    """Keys, their order and nulls of messages are not touched."""
    messages = [
        {"content": "hi", "role": "user", "name": "ann"},
        {"role": "assistant", "content": None, "tool_calls": [{"id": "t", "function": {"name": "f"}}]},
        {"role": "tool", "tool_call_id": "t", "content": [{"type": "text", "text": "42"}]},
    ]
    sent = renderer().render(prompt(messages=messages)).body
    assert json.dumps(messages, separators=(",", ":")).encode() in sent


def test_an_assistant_message_may_lack_its_content():
    """A call of a tool needs no text."""
    messages = [USER, {"role": "assistant", "tool_calls": []}]
    assert body({"messages": messages})["messages"] == messages


def test_messages_may_be_json_text():
    """A CSV cell cannot hold them otherwise."""
    assert body({"messages": json.dumps([USER])})["messages"] == [USER]


@pytest.mark.parametrize(
    ("messages", "why"),
    [
        ([], "messages is not a list with at least one message"),
        ({"role": "user"}, "messages is not a list with at least one message"),
        ("hello", "messages is text that is not JSON"),
        (["hi"], "messages[0] is text, not an object"),
        ([USER, {"role": "human", "content": "x"}], "messages[1].role is `human`"),
        ([{"content": "x"}], "messages[0].role is null"),
        ([{"role": ["user"], "content": "x"}], "messages[0].role is a list"),
        ([{"role": "user", "content": 5}], "messages[0].content is a number, neither text nor a list"),
        ([{"role": "user", "contents": "x"}], "messages[0] has no content but `role`, `contents`"),
    ],
)
def test_unusable_messages_are_refused(messages, why):
    """What every endpoint would refuse is found before anything is sent, and the message is named."""
    assert why in refusal({"messages": messages}).message


def test_a_system_message_is_put_in_front():
    """The configured one, for prompts and messages alike."""
    expected = [{"role": "system", "content": "S"}, USER]
    assert body({"prompt": "hi"}, system="S")["messages"] == expected
    assert body({"messages": [USER]}, system="S")["messages"] == expected


def test_the_rows_system_wins():
    """A row may have its own."""
    assert body({"prompt": "hi", "system": "R"}, system="S")["messages"][0] == {"role": "system", "content": "R"}


def test_a_null_system_is_absent():
    """A Parquet null does not take the configured one away."""
    assert body({"prompt": "hi", "system": None}, system="S")["messages"][0]["content"] == "S"


def test_an_empty_system_message_is_sent():
    """On Fireworks it means: no system prompt at all."""
    assert body({"prompt": "hi"}, system="")["messages"][0] == {"role": "system", "content": ""}


@pytest.mark.parametrize("role", ["system", "developer"])
def test_messages_with_a_system_message_keep_it(role):
    """The row's own conversation is not given a second one."""
    messages = [{"role": role, "content": "mine"}, USER]
    assert body({"messages": messages}, system="S")["messages"] == messages


def test_rows_override_model_and_params():
    """A row's model replaces, its params are merged, a null takes a parameter away."""
    row = {"prompt": "hi", "model": "other", "params": {"top_k": 5, "temperature": 1, "max_tokens": None}}
    sent = body(row, params={"max_tokens": 9, "seed": 3, "temperature": 0})
    del sent["messages"]
    assert sent == {"model": "other", "temperature": 1, "seed": 3, "top_k": 5}


def test_params_may_be_json_text():
    """A CSV cell cannot hold them otherwise."""
    assert body({"prompt": "hi", "params": '{"seed": 1}'})["seed"] == 1


def test_one_row_does_not_change_the_next():
    """Merging leaves the configuration alone."""
    same = renderer(system="S")
    before = same.render(prompt(prompt="hi"))
    same.render(prompt(prompt="hi", params={"max_tokens": 1}, system="x", model="y"))
    assert same.render(prompt(prompt="hi")) == before


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"prompt": "hi", "params": [1]}, "params is a list, not an object"),
        ({"prompt": "hi", "params": {"stream": True}}, "params holds `stream`"),
        ({"prompt": "hi", "params": "{"}, "params is text that is not JSON"),
        ({"prompt": "hi", "system": 5}, "system is a number, not text"),
        ({"prompt": "hi", "model": ""}, "model is empty text, not a name"),
        ({"prompt": "hi", "model": 5}, "model is a number, not a name"),
        ({"prompt": ["hi"]}, "prompt is a list, not text"),
        ({"prompt": True}, "prompt is true or false, not text"),
        ({"question": "hi", "id": 1}, "nothing to send: the row has only `question`, `id`"),
        ({}, "nothing to send: the row has only no columns"),
        ({"prompt": None, "label": "x"}, "nothing to send"),
        ({"prompt": "hi", "messages": [USER]}, "the row has `messages`, `prompt`, which exclude each other"),
        ({"body": "hello"}, "body is text that is not JSON"),
        ({"body": [1]}, "body is a list, not an object"),
        ({"body": {}}, "body is an object, not an object with keys"),
        ({"body": {"messages": [USER], "model": 5}}, "body.model is a number"),
        ({"url": "/v1/responses", "method": "POST", "body": {"input": "x"}}, "asks for POST /v1/responses"),
        ({"body": {"prompt": "hi"}}, "body.messages is not a list with at least one message"),
        ({"body": {"messages": [USER, {"role": "human"}]}}, "body.messages[1].role is `human`"),
        ({"url": "/v1/chat/completions", "method": "GET", "body": {"messages": [USER]}}, "GET /v1/chat/completions"),
        ({"method": "POST", "body": {"messages": [USER]}}, "the batch line asks for POST None"),
        ({"prompt": "\ud83d"}, "lone surrogate"),
        ({"messages": [USER], "max_tokens": 9, "n": 2}, "`max_tokens`, `n` beside `messages` would not be sent"),
        ({"prompt": "hi", "params": {"stop": object()}}, "cannot be written as JSON"),
    ],
)
def test_unusable_rows_are_refused(row, why):
    """Each refusal says what is wrong, where, and what to do."""
    assert why in refusal(row).message


def test_an_unknown_form_says_what_was_expected():
    """The remedy names the forms."""
    assert "`messages`, `prompt`, `turns`, or a batch line's `body`" in refusal({"question": "hi"}).remedy


@pytest.mark.parametrize(("name", "meant"), [("promt", "prompt"), ("Messages", "messages"), ("turn", "turns")])
def test_a_misspelt_form_is_named(name, meant):
    """As keys of a configuration are."""
    assert refusal({"id": 1, name: "hi"}).remedy == f"rename `{name}` to `{meant}`"


def test_a_form_that_is_null_is_not_misspelt():
    """It is there, with nothing in it."""
    assert refusal({"prompt": None}).remedy.startswith("a row needs `messages`, `prompt`, `turns`")


def test_column_names_are_not_shown_raw():
    """A hostile name cannot move the cursor, and a wide table does not fill the screen."""
    message = refusal({"\x1b[2J": 1, **{f"c{n}": n for n in range(50)}}).message
    assert "\x1b" not in message
    assert message.endswith("and 39 more")


def test_no_model_anywhere_is_refused_with_the_option():
    """The remedy can be typed."""
    assert "-m MODEL" in refusal({"prompt": "hi"}, model=None).remedy
    assert "-m MODEL" in refusal({"body": {"messages": [USER]}}, model=None).remedy


def test_a_batch_body_is_sent_as_it_is():
    """Configured params, system and model do not touch a body that has a model."""
    sent = {"temperature": 1.0, "messages": [USER], "model": "theirs", "x": None}
    line = {"method": "POST", "url": "/v1/chat/completions", "body": sent}
    request = renderer(system="S").render(prompt(**line))
    assert request.body == json.dumps(sent, separators=(",", ":")).encode()
    assert request.model == "theirs"


def test_a_batch_body_gets_a_missing_model():
    """A Fireworks batch line has none; the row's, then the configured one is filled in."""
    assert body({"body": {"messages": [USER]}}) == {"messages": [USER], "model": "m"}
    assert body({"body": {"messages": [USER]}, "model": "r"})["model"] == "r"


@pytest.mark.parametrize(
    ("row", "form"),
    [
        ({"prompt": "hi"}, "prompt"),
        ({"messages": [USER], "prompt": None}, "messages"),
        ({"body": {"messages": [USER]}}, "fireworks_batch"),
        ({"url": "/v1/chat/completions", "method": "POST", "body": {"messages": [USER]}}, "openai_batch"),
    ],
)
def test_forms_are_told_apart(row, form):
    """By the keys that are not null."""
    assert renderer().form(prompt(**row)) == form


def test_the_key_is_of_endpoint_path_and_body():
    """Same endpoint and body: same key, whatever the row. Another endpoint, model or parameter: another key."""
    key = renderer().render(prompt(prompt="hi")).request_key
    other_row = Prompt(index=9, custom_id="z", where="f:1", row={"prompt": "hi", "label": "x"})
    assert renderer().render(other_row).request_key == key
    assert len(key) == 32
    others = [
        renderer(base_url="http://localhost:2/v1"),
        renderer(model="n"),
        renderer(params={"max_tokens": 10}),
        renderer(system=""),
    ]
    assert len({key, *(other.render(prompt(prompt="hi")).request_key for other in others)}) == 5


@pytest.mark.parametrize(
    ("row", "config"),
    [
        ({"stop": None}, {}),
        ({"stop": "Rome"}, {"keep_columns": ["stop"]}),
        ({"stop": "Rome"}, {"template": "{{ prompt }}"}),
    ],
)
def test_a_column_named_as_a_parameter_may_be_data(row, config):
    """Where it is null, where it is kept beside the answer, and where a template says what is sent."""
    body = json.loads(renderer(**config).render(prompt(prompt="hi", **row)).body)
    assert "stop" not in body


def test_kept_columns_are_json_text():
    """In the order of the configuration, nulls kept."""
    row = prompt(prompt="hi", label="é", split=None, other=1)
    assert renderer(keep_columns=["split", "label"]).render(row).input == '{"split":null,"label":"é"}'


def test_a_missing_kept_column_is_named():
    """With the columns there are."""
    message = refusal({"prompt": "hi", "labels": 1}, keep_columns=["label"]).message
    assert "keep_columns names `label`, but the row has `prompt`, `labels`" in message

from __future__ import annotations

import json

import pytest

from batchrun.simulated.author import Author
from batchrun.simulated.chat import ChatRequest
from batchrun.simulated.forms import payload
from batchrun.simulated.refusals import Refusal
from batchrun.simulated.scenario import Answers, Latency, Scenario
from batchrun.simulated.text import labels_in
from batchrun.simulated.wire import parse_request

ASK = [{"role": "user", "content": "Why is the sky blue?"}]


def body(**params):
    """A request for the usual prompt."""
    return json.dumps({"model": "m", "messages": ASK, **params}).encode()


def images(count, url="https://example.org/1.png"):
    """A request with so many images."""
    parts = [{"type": "image_url", "image_url": {"url": url}}] * count
    return body(messages=[{"role": "user", "content": [{"type": "text", "text": "What is it?"}, *parts]}])


def answer(scenario=None, **params):
    """The answer to the usual prompt, from an author who has seen nothing yet."""
    return Author(scenario or Scenario()).answer(parse_request(body(**params), ChatRequest), 1)


def words(**params):
    """The words of its first choice."""
    return answer(**params).choices[0].content


def refusal(raw):
    """The message of the 400 with which a body is refused."""
    with pytest.raises(Refusal) as caught:
        parse_request(raw, ChatRequest)
    assert caught.value.status == 400
    return caught.value.payload["error"]["message"]


def test_the_same_prompt_gets_the_same_answer():
    """Words, counts and durations depend on seed and prompt alone."""
    first, again = answer(), answer()
    assert first == again


def test_another_seed_gives_another_answer():
    """The seed of the scenario changes what is drawn."""
    assert answer(Scenario(seed=1)).choices != answer(Scenario(seed=2)).choices


def test_streaming_changes_nothing_but_the_form():
    """A prompt gets the same words plain and streamed."""
    assert words(stream=True) == words()


def test_an_answer_says_that_it_is_simulated():
    """Nobody can take it for a model's."""
    assert words().startswith('Simulated answer to "Why is the sky blue?":')


@pytest.mark.parametrize(
    ("prompt", "labels"),
    [
        ("Classify it as one of: billing, shipping, or other. Answer with it.", ["billing", "shipping", "other"]),
        ("Labels: positive, negative, neutral\nText: I love it", ["positive", "negative", "neutral"]),
        ("Choose one of these categories: a | b | c", ["a", "b", "c"]),
        ("Answer with exactly one of positive, negative or neutral.", ["positive", "negative", "neutral"]),
        ("Options:\n- red wine\n- green tea\n", ["red wine", "green tea"]),
        ("Which category (spam or ham)?", ["spam", "ham"]),
        ('Answer with one label: "billing", "account".', ["billing", "account"]),
        ("Summarise this: it was late, it rained, and we went home.", []),
        ("One of the people I met there said that he would come, or his brother would.", []),
    ],
)
def test_labels_are_found(prompt, labels):
    """The lists that people write into classification prompts are read, and plain talk is not taken for one."""
    assert labels_in(prompt) == labels


def test_a_prompt_with_labels_gets_one_of_them():
    """A classification is answered with a label, marked as simulated."""
    asked = [{"role": "user", "content": "Answer with one of: spam, ham."}]
    assert words(messages=asked) in {"spam (simulated)", "ham (simulated)"}


def test_max_tokens_cuts():
    """The answer is cut at the limit, and says so."""
    cut = answer(max_tokens=5)
    assert (cut.completion_tokens, cut.choices[0].finish_reason) == (5, "length")
    assert cut.choices[0].content == words()[:20]


def test_a_whole_answer_ends_with_stop():
    """An answer within the limit ends by itself, at the end of a sentence."""
    whole = answer().choices[0]
    assert (whole.finish_reason, whole.content[-1]) == ("stop", ".")


def test_stop_texts_cut_before_themselves():
    """The earliest of the stop texts ends the answer and is not part of it."""
    assert words(stop=["blue", "sky"]) == 'Simulated answer to "Why is the '


def test_n_gives_as_many_choices():
    """Choices are numbered, differ, and all count."""
    some = answer(n=3)
    assert [choice.index for choice in some.choices] == [0, 1, 2]
    assert len({choice.content for choice in some.choices}) == 3
    assert some.completion_tokens == sum(choice.tokens for choice in some.choices)


def test_ignore_eos_generates_to_the_limit():
    """As a benchmark wants it."""
    assert answer(max_tokens=300, ignore_eos=True).completion_tokens == 300


def test_json_object_is_an_object():
    """JSON mode answers JSON that says what it is."""
    assert json.loads(words(response_format={"type": "json_object"}))["simulated"] is True


def test_a_grammar_is_accepted():
    """The answer is plain words, as nothing here reads grammars."""
    assert words(response_format={"type": "grammar", "grammar": 'root ::= "a"'}) == words()


def test_a_schema_is_followed_where_it_leads():
    """References, alternatives and bounds; one that contains itself ends."""
    schema = {
        "$defs": {"node": {"type": "object", "properties": {"next": {"$ref": "#/$defs/node"}}}},
        "properties": {
            "score": {"type": "integer", "minimum": 40, "maximum": 41},
            "maybe": {"anyOf": [{"type": "string"}, {"type": "null"}]},
            "either": {"anyOf": [{"const": 1}, {"const": 2}]},
            "node": {"$ref": "#/$defs/node"},
        },
    }
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    got = json.loads(words(response_format=shape))
    assert (got["score"], got["maybe"], got["either"]) == (40, None, 1)
    assert "next" in got["node"]["next"]


def test_what_is_no_schema_is_refused():
    """400, not a failure of the server."""
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": {"type": "object", "properties": [1]}}}
    with pytest.raises(Refusal) as caught:
        words(response_format=shape)
    assert caught.value.status == 400


def test_json_schema_is_fitted():
    """Names and types of the schema are in the answer."""
    schema = {
        "type": "object",
        "properties": {
            "label": {"enum": ["a", "b"]},
            "score": {"type": "number"},
            "count": {"type": ["null", "integer"]},
            "sure": {"type": "boolean"},
            "tags": {"type": "array", "items": {"type": "string"}},
        },
    }
    shape = {"type": "json_schema", "json_schema": {"name": "x", "schema": schema}}
    got = json.loads(words(response_format=shape))
    assert got["label"] in {"a", "b"}
    assert [type(got[name]) for name in ("score", "count", "sure", "tags")] == [float, int, bool, list]


@pytest.mark.parametrize("choice", ["required", {"type": "function", "function": {"name": "look"}}])
def test_a_tool_that_must_be_called_is_called(choice):
    """One call, with arguments that fit its parameters, and no words."""
    parameters = {"type": "object", "properties": {"at": {"type": "string"}}}
    tools = [{"type": "function", "function": {"name": "look", "parameters": parameters}}]
    got = answer(tools=tools, tool_choice=choice).choices[0]
    assert (got.content, got.finish_reason) == (None, "tool_calls")
    assert got.tool_calls[0]["function"]["name"] == "look"
    assert list(json.loads(got.tool_calls[0]["function"]["arguments"])) == ["at"]


def test_several_tools_are_called_only_where_that_is_allowed():
    """One by default; all with parallel_tool_calls; none where nothing must be called."""
    tools = [{"type": "function", "function": {"name": name}} for name in ("look", "listen")]
    some, one, none = (
        answer(tools=tools, **asked).choices[0].tool_calls
        for asked in (
            {"tool_choice": "any", "parallel_tool_calls": True},
            {"tool_choice": "required"},
            {"parallel_tool_calls": True},
        )
    )
    assert [call["function"]["name"] for call in some] == ["look", "listen"]
    assert [call["function"]["name"] for call in one] == ["look"]
    assert none is None


def test_a_system_prompt_is_cached_once_seen():
    """The first request with it pays in full, the next ones have it cached; another model has a cache of its own."""
    author = Author(Scenario())
    shared = [{"role": "system", "content": "Be brief. " * 20}, *ASK]

    def ask(model):
        return author.answer(parse_request(body(messages=shared, model=model), ChatRequest), 1).cached_tokens

    assert [ask("m"), ask("m"), ask("other")] == [0, 50, 0]


def test_the_turns_so_far_are_cached_for_the_next_one():
    """A conversation that goes on has all but its last message cached, if its first turn was asked here."""
    author = Author(Scenario())
    first = [{"role": "user", "content": "x" * 40}]
    second = [*first, {"role": "assistant", "content": "y" * 80}, {"role": "user", "content": "and now?"}]
    third = [*second, {"role": "assistant", "content": "z" * 4}, {"role": "user", "content": "and now?"}]

    def ask(messages, **params):
        return author.answer(parse_request(body(messages=messages, **params), ChatRequest), 1).cached_tokens

    assert [ask(first), ask(second), ask(third)] == [0, 10, 32]
    assert ask(third, prompt_cache_isolation_key="mine") == 0
    assert ask(third, prompt_cache_max_len=0) == 0


def test_an_empty_system_message_is_no_system_prompt():
    """It is accepted and costs nothing."""
    empty = [{"role": "system", "content": ""}, *ASK]
    assert answer(messages=empty).prompt_tokens == answer().prompt_tokens


def test_images_are_tokens():
    """They are part of the prompt, and another image gets another answer."""

    def asked(url):
        parts = [{"type": "text", "text": ASK[0]["content"]}, {"type": "image_url", "image_url": {"url": url}}]
        return answer(messages=[{"role": "user", "content": parts}])

    one, other = asked("https://example.org/1.png"), asked("data:image/png;base64,AAAA")
    assert one.prompt_tokens == answer().prompt_tokens + 500
    assert one.choices != other.choices


def test_logprobs_come_in_both_forms():
    """`true` is OpenAI's form, with offsets and alternatives; a number is the legacy form."""
    request = parse_request(body(logprobs=True, top_logprobs=1, max_tokens=2), ChatRequest)
    (choice,) = payload(request, answer(max_tokens=2))["choices"]
    first, second = choice["logprobs"]["content"]
    assert (first["token"], second["text_offset"], bytes(first["bytes"])) == ("Simu", 4, b"Simu")
    assert [other["token"] for other in first["top_logprobs"]] == ["Simu"]
    request = parse_request(body(logprobs=0, max_tokens=2), ChatRequest)
    (choice,) = payload(request, answer(max_tokens=2))["choices"]
    assert choice["logprobs"]["tokens"] == ["Simu", "late"]


def test_cached_tokens_are_part_of_the_prompt():
    """Usage adds up as the protocol says."""
    usage = answer().usage()
    assert usage["total_tokens"] == usage["prompt_tokens"] + usage["completion_tokens"]
    assert usage["prompt_tokens_details"]["cached_tokens"] <= usage["prompt_tokens"]


def test_a_seed_gives_the_same_text_again():
    """The request's own seed decides, with that of the scenario."""
    assert words(seed=1) == words(seed=1) != words(seed=2)


def test_a_limit_beyond_the_context_is_lowered_or_refused():
    """Silently by default; with `error` it is a 400."""
    asked = {"max_tokens": 100, "ignore_eos": True}
    assert answer(Scenario(context_tokens=20), **asked).completion_tokens == 11
    with pytest.raises(Refusal):
        answer(Scenario(context_tokens=20), context_length_exceeded_behavior="error", **asked)


def test_zero_latency_is_zero():
    """A scenario without latency answers at once."""
    assert answer(Scenario(latency=Latency(ttft_s=0, per_token_s=0))).processing_s == 0


def test_sigma_zero_is_always_the_median():
    """Without spread the medians are the durations."""
    steady = answer(Scenario(latency=Latency(ttft_s=2, per_token_s=0.5, sigma=0)))
    assert steady.processing_s == 2 + 0.5 * steady.completion_tokens


def test_answers_are_as_long_as_the_scenario_says():
    """Without spread an answer ends at the first sentence past the median."""
    assert 300 <= answer(Scenario(answers=Answers(tokens=300, sigma=0))).completion_tokens < 330


def test_a_prompt_beyond_the_context_is_refused():
    """The message is the one by which clients tell this case."""
    with pytest.raises(Refusal) as caught:
        answer(Scenario(context_tokens=3))
    assert caught.value.payload["error"]["message"] == "The prompt is too long: 9, model maximum context length: 3"


@pytest.mark.parametrize(
    ("raw", "message"),
    [
        (body(best_of=2), "Extra inputs are not permitted, field: 'best_of'"),
        (body(messages=[{**ASK[0], "cache": 1}]), "Extra inputs are not permitted, field: 'messages[0].cache'"),
        (body(max_tokens=4097), "Requests with max_tokens > 4096 must have stream=true"),
        (body(max_tokens=1, max_completion_tokens=1), "max_tokens and max_completion_tokens cannot be given together"),
        (body(thinking={"type": "enabled"}, reasoning_effort="low"), "thinking and reasoning_effort"),
        (body(top_logprobs=2), "top_logprobs needs logprobs"),
        (body(stream_options={"buffer": 1}), "Extra inputs are not permitted, field: 'stream_options.buffer'"),
        (images(31), "At most 30 images are allowed, got 31"),
        (images(1, "file:///etc/passwd"), "web address or a base64 data URL"),
        (images(1, "data:application/pdf;base64,AA"), "web address or a base64 data URL"),
        (body(temperature=3), "Expected float <= 2.0, field: 'temperature'"),
        (body(messages=[]), "length >= 1, field: 'messages'"),
        (body(messages=[{"role": "developer", "content": "x"}]), "Invalid enum value 'developer'"),
        (b'{"messages": [{"role": "user", "content": "x"}]}', "missing required field model"),
        (b'{"model": "m"', "The body is not JSON"),
        (b"[]", "Expected object, got array"),
        (b'{"model": "\xff"}', "The body is not JSON"),
    ],
)
def test_a_wrong_body_is_refused(raw, message):
    """400, with the reason in the words of the endpoint where they are known."""
    assert message in refusal(raw)


def test_images_are_together_at_most_10_mb():
    """As base64 counts them."""
    assert "larger than 10 MB" in refusal(images(2, "data:image/png;base64," + "A" * 5_300_000))


def test_what_is_unknown_may_be_passed_over():
    """Where a server is not strict, at any depth; the rest is read as ever."""
    loose = body(best_of=2, messages=[{**ASK[0], "cache": 1}], stream_options={"buffer": 1})
    request = parse_request(loose, ChatRequest, strict=False)
    assert request == parse_request(body(stream_options={}), ChatRequest)
    with pytest.raises(Refusal, match="400"):
        parse_request(body(best_of=2, temperature=3), ChatRequest, strict=False)


def test_thirty_images_are_allowed():
    """By address or embedded."""
    assert parse_request(images(30), ChatRequest).messages[0].images[0].endswith("1.png")
    assert parse_request(images(1, "data:image/jpeg;base64,AA"), ChatRequest).last_user == "What is it?"


def test_more_than_4096_tokens_may_be_streamed():
    """The limit is one of plain answers only."""
    assert parse_request(body(max_tokens=4097, stream=True), ChatRequest).token_limit == 4097


def test_every_documented_parameter_is_accepted():
    """What Fireworks documents and this server does not need is let through."""
    params = {
        "top_p": 0.9, "top_k": 40, "min_p": 0.1, "frequency_penalty": 1, "repetition_penalty": 1.1, "seed": 3,
        "logprobs": True, "top_logprobs": 2, "logit_bias": {"5": -100}, "prompt_cache_key": "k", "user": "u",
        "metadata": {"a": "b"}, "service_tier": "priority", "reasoning_effort": "low", "safe_tokenization": True,
        "context_length_exceeded_behavior": "error", "stream_options": {"include_usage": True}, "stream": True,
    }  # fmt: skip
    assert parse_request(body(**params), ChatRequest).model == "m"

"""What a peer may write as JSON where one object is expected, in answer to a plain request or to one for a stream."""

# ruff: noqa: E501 (a table is read by the row)

from __future__ import annotations

import copy
import json
from typing import Any

from catalogue import EMPTY, GOOD, INVALID, SERVER_ERROR, TRUNCATED, UNREADABLE, Case, Form, case
from peers import ANSWER, http
from test_endpoint_answers import COMPLETION, NO_COMPLETION

WRONG: list[Any] = [
    *(None, True, False, 0, -7, 1.5, 1e308, 2**63, 10**60),
    *("", "x", "7", "\x00\x1b[2J", [], [None], [[]], {}, {"": {}}, {"prompt_tokens": "x"}, float("nan")),
]
"""Values of every type, for fields of any type."""

BESIDE = [
    *("id", "object", "created", "model", "usage", "perf_metrics", "system_fingerprint"),
    *("choices.0.index", "choices.0.finish_reason", "choices.0.logprobs", "choices.0.message.role"),
    *("choices.0.message.reasoning_content", "choices.0.message.refusal", "choices.0.message.tool_calls"),
    *("usage.prompt_tokens", "usage.completion_tokens", "usage.total_tokens", "usage.prompt_tokens_details"),
]
"""The fields that are no reason to pay twice, whatever is in them."""


def with_field(path: str, value: Any) -> dict[str, Any]:
    """The usual answer with this in that place."""
    body: Any = copy.deepcopy(ANSWER)
    *way, last = path.split(".")
    holder = body
    for step in way:
        holder = holder[int(step) if step.isdigit() else step]
    holder[last] = value
    return body


NOTHING_OF_A_STREAM = {"nothing", "blank", "NUL", "no UTF-8", "UTF-16", "a text", "null"}
"""What has no event in it, and does not look like a plain answer: a stream that broke off."""


def bodies(form: Form) -> dict[str, Case]:
    """What the tests of plain answers know already, on both kinds of request."""
    taken = {
        name: case(_http(body), GOOD, content=fields.get("content", "yes"))
        for name, (body, fields) in COMPLETION.items()
    }
    refused = {name: case(_http(body), (kind, error_type)) for name, (body, kind, error_type) in NO_COMPLETION.items()}
    if form.stream:
        refused |= {name: refused[name]._replace(outcomes={TRUNCATED}) for name in NOTHING_OF_A_STREAM}
    refused["a stream"] = case(_http(NO_COMPLETION["a stream"][0]), INVALID)
    return {**taken, **refused}


def beside(_: Form) -> dict[str, Case]:
    """Every field that is read beside the content, with a value of every type."""
    return {
        f"{path} is {json.dumps(value)[:20]}": case(_http(with_field(path, value)), GOOD)
        for path in BESIDE
        for value in WRONG
    }


def charges(_: Form) -> dict[str, Case]:
    """What was charged is kept where it is stated, whatever else is wrong."""
    whole = json.dumps(ANSWER)
    return {
        "no choice": case(_http({**ANSWER, "choices": []}), INVALID, charged=True),
        "choices null": case(_http({**ANSWER, "choices": None}), INVALID, charged=True),
        "an error": case(_http({**ANSWER, "error": "boom"}), SERVER_ERROR, charged=True),
        "empty content": case(_http(with_field("choices.0.message.content", "")), EMPTY, charged=True),
        "a good answer": case(_http(ANSWER), GOOD, charged=True),
        "tokens as text": case(_http(with_field("usage.prompt_tokens", "7")), GOOD, charged=True),
        "no usage": case(_http(with_field("usage", None)), GOOD, charged=False),
        "usage a list": case(_http(with_field("usage", [7, 1])), GOOD, charged=False),
        "negative usage": case(_http(with_field("usage", {"prompt_tokens": -7, "completion_tokens": -1})), GOOD, charged=False),
        "usage of 10^60": case(_http(with_field("usage", {"prompt_tokens": 10**60})), GOOD, charged=False),
        "half an answer": case(_http(whole[:-9].encode()), UNREADABLE, charged=False),
    }  # fmt: skip


def _http(body: Any) -> bytes:
    return http(body if isinstance(body, bytes) else json.dumps(body), content_type="application/json")


def behaviours(form: Form) -> dict[str, Case]:
    """All of them, by chapter and name."""
    chapters = [bodies, beside, charges]
    return {f"{chapter.__name__}: {name}": one for chapter in chapters for name, one in chapter(form).items()}

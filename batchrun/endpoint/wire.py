"""The OpenAI-compatible JSON: read leniently (unknown keys, other shapes), judged strictly (200 alone is not success).

Sources: OpenAI's chat-completions reference; Fireworks' documentation of the same.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from batchrun.endpoint.answer import head, lenient_json
from batchrun.endpoint.fireworks import as_text, perf_metrics_of, seconds, whole
from batchrun.endpoint.refusal import as_error, error_inside
from batchrun.errors import Ambiguous, Rejected
from batchrun.types import Completion, Usage

if TYPE_CHECKING:
    from batchrun.endpoint.answer import Answer

_NOTHING = msgspec.Raw(b"null")


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: msgspec.Raw = _NOTHING


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: Any = None
    logprobs: msgspec.Raw = _NOTHING


class _Body(msgspec.Struct):
    """What is read of an answer. Only choices and content must be of their type: the rest is no reason to pay twice."""

    id: Any = None
    model: Any = None
    choices: list[_Choice] | None = None
    usage: Any = None
    error: Any = None
    perf_metrics: Any = None


class _Choices(msgspec.Struct):
    choices: msgspec.Raw


_decode = msgspec.json.Decoder(_Body).decode


def completion_of(answer: Answer) -> Completion:
    """Judge a 2xx answer; raises an EndpointError where it is no usable completion, with the usage it was charged."""
    body, content = _parsed(answer)
    metrics = perf_metrics_of(answer.headers, body.perf_metrics)
    usage = _usage_of(body.usage, whole(metrics.get("cached-prompt-tokens")))
    if body.error:
        raise error_inside(answer, body.error, usage)
    if not body.choices or body.choices[0].message is None:
        raise as_error(answer, Ambiguous, "response_invalid", None, "the answer holds no choice", usage=usage)
    choice, message = body.choices[0], body.choices[0].message
    said, tool_calls, refusal = _content_text(message.content), _calls_text(message.tool_calls), _text(message.refusal)
    reasoning = _text(message.reasoning_content) or _text(message.reasoning)
    if not said and not tool_calls and not refusal:
        _refuse_empty(answer, _text(choice.finish_reason), reasoning, usage)
    return Completion(
        model=_text(body.model),
        content=said,
        reasoning_content=reasoning,
        refusal=refusal,
        tool_calls=tool_calls,
        choices=_json_text(msgspec.json.decode(content, type=_Choices).choices) if len(body.choices) > 1 else None,
        logprobs=_json_text(choice.logprobs),
        finish_reason=_text(choice.finish_reason),
        usage=usage,
        latency_s=answer.latency_s,
        server_ttft_s=seconds(metrics.get("server-time-to-first-token")),
        server_processing_s=seconds(metrics.get("server-processing-time")),
        perf_metrics=as_text(metrics),
        status_code=answer.status,
        request_id=answer.headers.get("x-request-id") or _text(body.id),
        response=answer.text,
    )


def _parsed(answer: Answer) -> tuple[_Body, bytes]:
    """The body, and the JSON that it was read from: the answer's, or what a lenient reader makes of it."""
    try:
        return _decode(answer.content), answer.content
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:
        content = json.dumps(lenient_json(answer.content)).encode()
        return _decode(content), content
    except msgspec.ValidationError as error:
        raise as_error(answer, Ambiguous, "response_invalid", None, f"not a completion: {error}") from error
    except (msgspec.DecodeError, ValueError, RecursionError) as error:
        said = f"the answer is not JSON: {head(answer.text) or 'it is empty'}"
        raise as_error(answer, Ambiguous, "response_unreadable", None, said) from error


def _usage_of(stated: Any, cached_tokens: int | None) -> Usage | None:
    """The tokens that an answer states; a count that cannot be one is None."""
    if not isinstance(stated, dict):
        return None
    prompt_tokens, completion_tokens = whole(stated.get("prompt_tokens")), whole(stated.get("completion_tokens"))
    if prompt_tokens is None and completion_tokens is None:
        return None
    details, produced = stated.get("prompt_tokens_details"), stated.get("completion_tokens_details")
    stated_cached = whole(details.get("cached_tokens")) if isinstance(details, dict) else None
    return Usage(
        prompt_tokens=prompt_tokens,
        cached_tokens=cached_tokens if stated_cached is None else stated_cached,
        completion_tokens=completion_tokens,
        reasoning_tokens=whole(produced.get("reasoning_tokens")) if isinstance(produced, dict) else None,
        total_tokens=whole(stated.get("total_tokens")),
    )


def _refuse_empty(answer: Answer, finish_reason: str | None, reasoning: str | None, usage: Usage | None) -> NoReturn:
    code = head(finish_reason) if finish_reason else None
    if code == "content_filter":
        said = "the endpoint's content filter withheld the answer"
        raise as_error(answer, Rejected, "content_filtered", code, said, usage=usage)
    if code == "length" and reasoning:
        said = "all tokens went into reasoning and none into the answer; raise max_tokens"
        raise as_error(answer, Rejected, "empty_response", "reasoning_exhausted", said, usage=usage)
    said = f"the answer is empty (finish_reason {code or 'missing'})"
    raise as_error(answer, Rejected, "empty_response", code, said, usage=usage)


def _text(value: Any) -> str | None:
    return value if isinstance(value, str) and value else None


def _content_text(content: str | list[Any] | None) -> str | None:
    """Content as text: some endpoints answer with a list of parts."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "".join(text for text in texts if isinstance(text, str))


def _calls_text(raw: msgspec.Raw) -> str | None:
    """Tool calls as JSON text; None unless it is a list with a call in it."""
    text = bytes(raw).decode("utf-8", "replace")
    return text if text.startswith("[") and "{" in text else None


def _json_text(raw: msgspec.Raw) -> str | None:
    text = bytes(raw).decode("utf-8", "replace")
    return None if text in {"null", "[]", "{}"} else text

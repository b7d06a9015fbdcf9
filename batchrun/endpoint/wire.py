"""The OpenAI-compatible JSON: read leniently (unknown keys, other shapes), judged strictly (200 alone is not success).

Sources: OpenAI's chat-completions reference; Fireworks' documentation of the same.
"""

from __future__ import annotations

import codecs
import json
from typing import TYPE_CHECKING, Any, NoReturn

import msgspec

from batchrun.endpoint.answer import head, lenient_json
from batchrun.endpoint.embeddings import first_vector
from batchrun.endpoint.fireworks import as_text, perf_metrics_of, seconds, whole
from batchrun.endpoint.hints import hints_of
from batchrun.endpoint.refusal import as_error, error_inside
from batchrun.errors import Ambiguous, Rejected
from batchrun.types import Completion, Usage

if TYPE_CHECKING:
    from batchrun.endpoint.answer import Answer
    from batchrun.types import Api

NOTHING = msgspec.Raw(b"null")


class Message(msgspec.Struct, omit_defaults=True):
    """What is said in one choice."""

    role: Any = None
    content: str | list[Any] | None = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: msgspec.Raw = NOTHING


class Choice(msgspec.Struct, omit_defaults=True):
    """One choice of an answer: of a chat (`message`) or of a text completion (`text`)."""

    index: Any = None
    message: Message | None = None
    text: str | None = None
    finish_reason: Any = None
    logprobs: msgspec.Raw = NOTHING


class Body(msgspec.Struct):
    """What is read of an answer. Only choices and content must be of their type: the rest is no reason to pay twice."""

    id: Any = None
    model: Any = None
    choices: list[Choice] | None = None
    data: msgspec.Raw = NOTHING
    usage: Any = None
    error: Any = None
    perf_metrics: Any = None
    service_tier: Any = None


class _Choices(msgspec.Struct):
    choices: msgspec.Raw


_decode = msgspec.json.Decoder(Body).decode


def completion_of(answer: Answer, api: Api = "chat") -> Completion:
    """Judge a 2xx answer; raises an EndpointError where it is no usable completion, with the usage it was charged."""
    body, content = _parsed(answer)
    if api == "embeddings":
        return _embedding_of(answer, body)
    choices = None
    if body.choices and len(body.choices) > 1:
        choices = json_text(msgspec.json.decode(content, type=_Choices).choices)
    return judged(answer, body, choices, mended=not answer.content.endswith(content))


def judged(answer: Answer, body: Body, choices: str | None, *, mended: bool, **more: Any) -> Completion:
    """The completion that a body holds; raises an EndpointError where it holds none.

    Args:
        answer: where the body came from.
        body: what was read of it.
        choices: all choices as JSON text, where there are several.
        mended: whether the answer held what no column can.
        more: further fields of the completion; they win.
    """
    told = _told(answer, body)
    if not body.choices or (body.choices[0].message is None and body.choices[0].text is None):
        raise as_error(answer, Ambiguous, "response_invalid", None, "the answer holds no choice", usage=told.usage)
    choice = body.choices[0]
    message = choice.message or Message(content=choice.text)
    said, tool_calls, refusal = (
        _content_text(message.content),
        _calls_text(message.tool_calls),
        text_of(message.refusal),
    )
    reasoning = text_of(message.reasoning_content) or text_of(message.reasoning)
    if not said and not tool_calls and not refusal and not more.get("finish_reason"):
        _refuse_empty(answer, text_of(choice.finish_reason), reasoning, told.usage)
    completion = msgspec.structs.replace(
        told,
        content=said,
        reasoning_content=reasoning,
        refusal=refusal,
        tool_calls=tool_calls,
        choices=choices,
        logprobs=json_text(choice.logprobs),
        finish_reason=text_of(choice.finish_reason),
        mended=mended,
    )
    return msgspec.structs.replace(completion, **more) if more else completion


def _embedding_of(answer: Answer, body: Body) -> Completion:
    told = _told(answer, body)
    vector, usage = first_vector(body.data), told.usage
    if vector is None:
        raise as_error(answer, Ambiguous, "response_invalid", None, "the answer holds no embedding", usage=usage)
    if usage and usage.completion_tokens is None:
        usage = msgspec.structs.replace(usage, completion_tokens=0)  # nothing is generated, and nothing charged for it
    return msgspec.structs.replace(told, embedding=vector, usage=usage)


def _told(answer: Answer, body: Body) -> Completion:
    """What an answer tells beside what it says; an error in its body is raised with the usage."""
    metrics = perf_metrics_of(answer.headers, body.perf_metrics)
    usage = usage_of(body.usage, whole(metrics.get("cached-prompt-tokens")))
    if body.error:
        raise error_inside(answer, body.error, usage)
    return Completion(
        model=text_of(body.model),
        usage=usage,
        service_tier=text_of(body.service_tier),
        latency_s=answer.latency_s,
        server_ttft_s=seconds(metrics.get("server-time-to-first-token")),
        server_processing_s=seconds(metrics.get("server-processing-time")),
        perf_metrics=as_text(metrics),
        status_code=answer.status,
        request_id=answer.headers.get("x-request-id") or text_of(body.id),
        response=answer.text,
        hints=hints_of(answer.headers),
    )


def _parsed(answer: Answer) -> tuple[Body, bytes]:
    """The body, and the JSON that it was read from: the answer's own, or what a lenient reader makes of it."""
    content = answer.content.removeprefix(codecs.BOM_UTF8)
    try:
        return _decode(content), content
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


def usage_of(stated: Any, cached_tokens: int | None) -> Usage | None:
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


def text_of(value: Any) -> str | None:
    """A text with something in it, else None."""
    return value if isinstance(value, str) and value else None


def _content_text(content: str | list[Any] | None) -> str | None:
    """Content as text: some endpoints answer with a list of parts."""
    if not isinstance(content, list):
        return content
    texts = [part.get("text") if isinstance(part, dict) else part for part in content]
    return "".join(text for text in texts if isinstance(text, str))


def _calls_text(raw: msgspec.Raw) -> str | None:
    """Tool calls as JSON text; None unless it is a list with a call in it."""
    if raw is NOTHING:
        return None
    text = bytes(raw).decode("utf-8", "replace")
    return text if text.startswith("[") and "{" in text else None


def json_text(raw: msgspec.Raw) -> str | None:
    """JSON text as it came, None for nothing."""
    if raw is NOTHING:
        return None
    text = bytes(raw).decode("utf-8", "replace")
    return None if text in {"null", "[]", "{}"} else text

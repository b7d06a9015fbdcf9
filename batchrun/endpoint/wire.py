"""The OpenAI-compatible JSON: read leniently (unknown keys, other shapes), judged strictly (200 alone is not success).

Sources: OpenAI's chat-completions reference; Fireworks' inference error codes and rate-limit pages, and error bodies
as they were seen on the wire: wrapped, bare, with a text where an object should be, lists of details, HTML, nothing.
"""

from __future__ import annotations

import json
import re
import time
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.endpoint.fireworks import as_text, perf_metrics_of, seconds, whole
from batchrun.errors import Ambiguous, EndpointError, EndpointUnusable, Rejected, Throttled
from batchrun.types import Completion, Usage

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.types import ErrorType

RESPONSE_HEAD_CHARS = 2048
_MESSAGE_CHARS = 500
_CONTEXT_MESSAGE = re.compile(r"context.length|prompt is too long|maximum context", re.IGNORECASE)

Outcome = tuple[type[EndpointError], "ErrorType", str]
"""The kind of error (what follows), its label, and what the user may do."""

_KEY: Outcome = EndpointUnusable, "authentication", "check the key in the variable that endpoint.api_key_env names"
_BILL: Outcome = EndpointUnusable, "billing", "check the account's plan, limits and invoices, then run it again"
_LOST: Outcome = EndpointUnusable, "not_found", "check request.model and endpoint.base_url"
_BY_STATUS: dict[int, Outcome] = {
    401: _KEY,
    402: _BILL,
    403: _KEY,
    404: _LOST,
    405: _LOST,
    408: (Ambiguous, "timed_out", ""),
    409: (Ambiguous, "server_error", ""),
    412: _BILL,
    425: (Ambiguous, "server_error", ""),
    429: (Throttled, "rate_limited", ""),
    503: (Throttled, "overloaded", ""),
}
_BY_CODE: dict[str, Outcome] = {
    "insufficient_quota": _BILL,
    "billing_hard_limit_reached": _BILL,
    "context_length_exceeded": (Rejected, "context_length_exceeded", ""),
    "content_filter": (Rejected, "content_filtered", ""),
    "content_policy_violation": (Rejected, "content_filtered", ""),
}


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """An HTTP answer as it came: header names in lower case, content unpacked, the key taken out."""

    status: int
    headers: dict[str, str]
    content: bytes
    latency_s: float

    @property
    def ok(self) -> bool:
        """Whether the status says success; the content may still say otherwise."""
        return 200 <= self.status < 300  # noqa: PLR2004

    @property
    def text(self) -> str:
        """The content as text; what is not UTF-8 is replaced visibly."""
        return self.content.decode("utf-8", "replace")


class _Message(msgspec.Struct):
    content: str | list[Any] | None = None
    reasoning_content: str | None = None
    reasoning: Any = None
    refusal: str | None = None
    tool_calls: msgspec.Raw | None = None


class _Choice(msgspec.Struct):
    message: _Message | None = None
    finish_reason: str | None = None
    logprobs: msgspec.Raw | None = None


class _PromptDetails(msgspec.Struct):
    cached_tokens: int | None = None


class _CompletionDetails(msgspec.Struct):
    reasoning_tokens: int | None = None


class _Usage(msgspec.Struct):
    prompt_tokens: int | None = None
    completion_tokens: int | None = None
    total_tokens: int | None = None
    prompt_tokens_details: _PromptDetails | None = None
    completion_tokens_details: _CompletionDetails | None = None


class _Body(msgspec.Struct):
    id: Any = None
    model: str | None = None
    choices: list[_Choice] | None = None
    usage: _Usage | None = None
    error: Any = None
    perf_metrics: Any = None


_decode = msgspec.json.Decoder(_Body, strict=False).decode


def completion_of(answer: Answer) -> Completion:
    """Judge a 2xx answer; raises an EndpointError where it is no usable completion, with the usage it was charged."""
    body = _parsed(answer)
    metrics = perf_metrics_of(answer.headers, body.perf_metrics)
    usage = _usage_of(body.usage, whole(metrics, "cached-prompt-tokens"))
    if body.error:
        raise _error(answer, Ambiguous, "server_error", *_code_and_message(body.error), usage=usage)
    if not body.choices or body.choices[0].message is None:
        raise _error(answer, Ambiguous, "response_invalid", None, "the answer holds no choice", usage=usage)
    choice, message = body.choices[0], body.choices[0].message
    content = _content_text(message.content)
    reasoning = message.reasoning_content or (message.reasoning if isinstance(message.reasoning, str) else None)
    tool_calls = _json_text(message.tool_calls)
    if not content and not tool_calls and not message.refusal:
        raise _empty(answer, choice.finish_reason, reasoning, usage)
    return Completion(
        model=body.model,
        content=content,
        reasoning_content=reasoning,
        refusal=message.refusal,
        tool_calls=tool_calls,
        choices=_choices_text(answer) if len(body.choices) > 1 else None,
        logprobs=_json_text(choice.logprobs),
        finish_reason=choice.finish_reason,
        usage=usage,
        latency_s=answer.latency_s,
        server_ttft_s=seconds(metrics, "server-time-to-first-token"),
        server_processing_s=seconds(metrics, "server-processing-time"),
        perf_metrics=as_text(metrics),
        status_code=answer.status,
        request_id=answer.headers.get("x-request-id") or (body.id if isinstance(body.id, str) else None),
        response=answer.text,
    )


def error_of(answer: Answer, url: str) -> EndpointError:
    """Say what an answer other than 2xx means. Status and code decide what follows; the message is for people."""
    code, said = _code_and_message(_json_or_none(answer.content))
    kind, error_type, remedy = _BY_CODE.get(code or "") or _BY_STATUS.get(answer.status) or _by_class(answer.status)
    if 300 <= answer.status < 400:  # noqa: PLR2004
        said = f"redirects to {_head(answer.headers.get('location', 'an unnamed place'))}; redirects are not followed"
    elif error_type == "request_rejected" and _CONTEXT_MESSAGE.search(said):
        error_type = "context_length_exceeded"  # a label only: what follows is the same
    message = f"HTTP {answer.status} from {url}: {said or _head(answer.text) or 'no explanation'}"
    return _error(answer, kind, error_type, code, message, remedy=remedy)


def _by_class(status: int) -> Outcome:
    if 300 <= status < 400:  # noqa: PLR2004
        return EndpointUnusable, "not_found", "put the final address into endpoint.base_url, if you trust it"
    if status >= 500:  # noqa: PLR2004
        return Ambiguous, "server_error", ""
    return Rejected, "request_rejected", ""


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that an answer asks for: `retry-after-ms`, `retry-after` in seconds or as a date; None if it asks none.

    A proxy may have renamed the header (`llm_provider-retry-after`). A date counts from the answer's own Date header.
    """
    for prefix in ("", "llm_provider-"):
        for name, unit in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            value = headers.get(prefix + name)
            if value is None:
                continue
            wait_s = _number(value)
            wait_s = _until(value, headers.get("date")) if wait_s is None else wait_s * unit
            if wait_s is not None:
                return max(0.0, wait_s)
    return None


def _parsed(answer: Answer) -> _Body:
    try:
        return _decode(answer.content)
    except msgspec.ValidationError as error:
        raise _error(answer, Ambiguous, "response_invalid", None, f"not a completion: {error}") from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    try:  # what a lenient reader can still make sense of: a byte-order mark, NaN, half a surrogate pair
        return _decode(msgspec.json.encode(_mended(json.loads(answer.text))))
    except msgspec.ValidationError as error:
        raise _error(answer, Ambiguous, "response_invalid", None, f"not a completion: {error}") from error
    except (ValueError, RecursionError) as error:
        said = f"the answer is not JSON: {_head(answer.text) or 'it is empty'}"
        raise _error(answer, Ambiguous, "response_unreadable", None, said) from error


def _mended(value: Any) -> Any:
    """A JSON value whose texts can be encoded: half a surrogate pair becomes the replacement character."""
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, list):
        return [_mended(item) for item in value]
    if isinstance(value, dict):
        return {_mended(key): _mended(item) for key, item in value.items()}
    return value


def _usage_of(usage: _Usage | None, cached_tokens: int | None) -> Usage | None:
    if usage is None or (usage.prompt_tokens is None and usage.completion_tokens is None):
        return None
    details, produced = usage.prompt_tokens_details, usage.completion_tokens_details
    if details and details.cached_tokens is not None:
        cached_tokens = details.cached_tokens
    return Usage(
        prompt_tokens=usage.prompt_tokens,
        cached_tokens=cached_tokens,
        completion_tokens=usage.completion_tokens,
        reasoning_tokens=produced.reasoning_tokens if produced else None,
        total_tokens=usage.total_tokens,
    )


def _empty(answer: Answer, finish_reason: str | None, reasoning: str | None, usage: Usage | None) -> EndpointError:
    if finish_reason == "content_filter":
        said = "the endpoint's content filter withheld the answer"
        return _error(answer, Rejected, "content_filtered", finish_reason, said, usage=usage)
    if finish_reason == "length" and reasoning:
        said = "all tokens went into reasoning and none into the answer; raise max_tokens"
        return _error(answer, Rejected, "empty_response", "reasoning_exhausted", said, usage=usage)
    said = f"the answer is empty (finish_reason {finish_reason or 'missing'})"
    return _error(answer, Rejected, "empty_response", finish_reason, said, usage=usage)


def _error(
    answer: Answer,
    kind: type[EndpointError],
    error_type: ErrorType,
    code: str | None,
    message: str,
    *,
    usage: Usage | None = None,
    remedy: str = "",
) -> EndpointError:
    return kind(
        message,
        error_type=error_type,
        error_code=code,
        status_code=answer.status,
        request_id=answer.headers.get("x-request-id"),
        retry_after_s=retry_after_s(answer.headers),
        usage=usage,
        response=answer.text[:RESPONSE_HEAD_CHARS],
        remedy=remedy,
    )


def _code_and_message(body: Any) -> tuple[str | None, str]:
    """Code and message of an error body of any of the shapes seen: `{error: {…}}`, bare, text, `{detail: […]}`."""
    error = body.get("error", body) if isinstance(body, dict) else body
    if isinstance(error, str):
        more = body.get("message") if isinstance(body, dict) else None
        return None, _head(f"{error}: {more}" if isinstance(more, str) else error)
    if not isinstance(error, dict):
        return None, ""
    code = error.get("code") if error.get("code") not in {None, ""} else error.get("type")
    said = error.get("message") or error.get("detail") or error.get("details") or ""
    if isinstance(said, list):
        said = "; ".join(str(item.get("msg", item)) if isinstance(item, dict) else str(item) for item in said[:3])
    return (str(code)[:100] if code is not None else None), _head(str(said))


def _json_or_none(content: bytes) -> Any:
    try:
        return _mended(json.loads(content.decode("utf-8", "replace")))
    except (ValueError, RecursionError):
        return None


def _content_text(content: str | list[Any] | None) -> str | None:
    """Content as text: some endpoints answer with a list of parts."""
    if not isinstance(content, list):
        return content
    return "".join(part["text"] for part in content if isinstance(part, dict) and isinstance(part.get("text"), str))


def _json_text(raw: msgspec.Raw | None) -> str | None:
    text = bytes(raw).decode("utf-8", "replace") if raw else ""
    return None if text in {"", "null", "[]", "{}"} else text


def _choices_text(answer: Answer) -> str | None:
    body = _json_or_none(answer.content)
    return msgspec.json.encode(body["choices"]).decode() if isinstance(body, dict) and "choices" in body else None


def _head(text: str) -> str:
    """The beginning of a foreign text on one line, without control characters."""
    return "".join(c if c.isprintable() else " " for c in text[:_MESSAGE_CHARS]).strip()


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if value == value and abs(value) != float("inf") else None  # noqa: PLR0124 (NaN)


def _until(date: str, now: str | None) -> float | None:
    try:
        start = parsedate_to_datetime(now).timestamp() if now else time.time()
        return parsedate_to_datetime(date).timestamp() - start
    except (TypeError, ValueError):
        return None

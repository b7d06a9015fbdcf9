"""What an answer without a completion means: what follows, its label, the wait it asks for, and its own words.

Status and code decide; the words are for people. Sources: Fireworks' inference error codes and rate-limit pages, and
error bodies as they were seen on the wire: wrapped, bare, a text where an object should be, lists of details, HTML,
nothing.
"""

from __future__ import annotations

import re
import time
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import TYPE_CHECKING, Any

from batchrun.endpoint.answer import head, lenient_json
from batchrun.endpoint.hints import hints_of, reset_s
from batchrun.errors import Ambiguous, EndpointError, EndpointUnusable, Rejected, Throttled

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.endpoint.answer import Answer
    from batchrun.types import ErrorType, Usage

RESPONSE_HEAD_CHARS = 2048
_CODE_CHARS = 100
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


def error_of(answer: Answer, url: str) -> EndpointError:
    """Say what an answer other than 2xx means."""
    try:
        codes, said = _codes_and_words(lenient_json(answer.content))
    except ValueError:
        codes, said = [], ""
    kind, error_type, remedy = _by_code(codes) or _by_status(answer.status)
    if _is_redirect(answer.status):
        said = f"redirects to {head(answer.headers.get('location', 'an unnamed place'))}; redirects are not followed"
    elif error_type == "request_rejected" and _CONTEXT_MESSAGE.search(said):
        error_type = "context_length_exceeded"  # a label only: what follows is the same
    message = f"HTTP {answer.status} from {url}: {said or head(answer.text) or 'no explanation'}"
    return as_error(answer, kind, error_type, codes[0] if codes else None, message, remedy=remedy)


def error_inside(answer: Answer, error: Any, usage: Usage | None) -> EndpointError:
    """Say what the error inside an answer of 2xx means; a code of three digits there counts as the status."""
    codes, said = _codes_and_words({"error": error})
    status = next((int(code) for code in codes if re.fullmatch(r"[45]\d\d", code)), None)
    outcome = _by_code(codes) or (_by_status(status) if status else (Ambiguous, "server_error", ""))
    kind, error_type, remedy = outcome
    message = f"the answer holds an error: {said or 'no explanation'}"
    return as_error(answer, kind, error_type, codes[0] if codes else None, message, usage=usage, remedy=remedy)


def as_error(
    answer: Answer,
    kind: type[EndpointError],
    error_type: ErrorType,
    code: str | None,
    message: str,
    *,
    usage: Usage | None = None,
    remedy: str = "",
) -> EndpointError:
    """An error of a kind, with all that the answer says for it."""
    wait_s = retry_after_s(answer.headers)
    if wait_s is None and issubclass(kind, Throttled):
        wait_s = reset_s(answer.headers)
    return kind(
        message,
        error_type=error_type,
        error_code=code,
        status_code=answer.status,
        request_id=answer.headers.get("x-request-id"),
        retry_after_s=wait_s,
        usage=usage,
        response=answer.text[:RESPONSE_HEAD_CHARS],
        hints=hints_of(answer.headers),
        remedy=remedy,
    )


def retry_after_s(headers: Mapping[str, str]) -> float | None:
    """The wait that an answer asks for: `retry-after-ms`, `retry-after` in seconds or as a date; None if it asks none.

    A proxy may have renamed the header (`llm_provider-retry-after`). A date counts from the answer's own Date header.
    """
    for prefix in ("", "llm_provider-"):
        for name, unit_s in (("retry-after-ms", 0.001), ("retry-after", 1.0)):
            value = headers.get(prefix + name)
            if value is None:
                continue
            number = _number(value)
            wait_s = _until(value, headers.get("date")) if number is None else number * unit_s
            if wait_s is not None:
                return max(0.0, wait_s)
    return None


def _by_code(codes: list[str]) -> Outcome | None:
    return next((_BY_CODE[code] for code in codes if code in _BY_CODE), None)


def _by_status(status: int) -> Outcome:
    if status in _BY_STATUS:
        return _BY_STATUS[status]
    if _is_redirect(status):
        return EndpointUnusable, "not_found", "put the final address into endpoint.base_url, if you trust it"
    if 400 <= status < 500:  # noqa: PLR2004
        return Rejected, "request_rejected", ""
    return Ambiguous, "server_error" if status >= 500 else "response_invalid", ""  # noqa: PLR2004


def _is_redirect(status: int) -> bool:
    return 300 <= status < 400  # noqa: PLR2004


def _codes_and_words(body: Any) -> tuple[list[str], str]:
    """Code and type, and the message, of an error body of any of the shapes seen."""
    error = (body.get("error") or body) if isinstance(body, dict) else body
    if isinstance(error, str):
        more = body.get("message") if isinstance(body, dict) else None
        return [], head(f"{error}: {more}" if isinstance(more, str) else error)
    if not isinstance(error, dict):
        return [], ""
    codes = [code for name in ("code", "type") if (code := _code(error.get(name)))]
    said = next((words for name in ("message", "detail", "details") if (words := _words(error.get(name)))), "")
    return codes, head(said)


def _code(value: Any) -> str | None:
    if isinstance(value, int) and not isinstance(value, bool) and abs(value) < 10**9:
        return str(value)
    return head(value)[:_CODE_CHARS] if isinstance(value, str) else None


def _words(value: Any) -> str:
    """A message, or the first of a list of them: `[{"loc": ["body", "messages"], "msg": "Field required"}]`."""
    if isinstance(value, str):
        return value
    if isinstance(value, dict):
        where = value.get("loc")
        path = ".".join(str(step) for step in where if isinstance(step, str | int)) if isinstance(where, list) else ""
        said = _words(value.get("msg") or value.get("message"))
        return f"{path}: {said}" if path and said else said
    if isinstance(value, list):
        return "; ".join(words for item in value[:3] if not isinstance(item, list) and (words := _words(item)))
    return ""


def _number(text: str) -> float | None:
    try:
        value = float(text)
    except ValueError:
        return None
    return value if abs(value) < float("inf") else None


def _until(date: str, now: str | None) -> float | None:
    start = _timestamp(now) if now else None
    end = _timestamp(date)
    return None if end is None else end - (time.time() if start is None else start)


def _timestamp(date: str) -> float | None:
    """Seconds since 1970 of an HTTP date, which is in UTC whatever it says or leaves out."""
    try:
        moment = parsedate_to_datetime(date)
        return (moment if moment.tzinfo else moment.replace(tzinfo=UTC)).timestamp()
    except (TypeError, ValueError, OverflowError, IndexError):
        return None

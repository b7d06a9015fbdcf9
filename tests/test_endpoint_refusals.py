"""Answers without a completion: status and code decide what follows, the words are for people."""

# ruff: noqa: E501 (a table is read by the row)

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime

import pytest
from asking import ask
from peers import READ, http, peer

from batchrun.endpoint.answer import Answer
from batchrun.endpoint.refusal import error_of, retry_after_s
from batchrun.errors import Ambiguous, EndpointUnusable, Rejected, Throttled
from batchrun.types import Hints

URL = "http://127.0.0.1:1/v1/chat/completions"


def refusal(status, body=b"", **headers):
    """What an answer is taken for, without a socket between."""
    content = body if isinstance(body, bytes) else json.dumps(body).encode()
    return error_of(Answer(status=status, headers=headers, content=content, latency_s=0.5), URL)


@pytest.mark.parametrize(
    ("status", "kind", "error_type"),
    [
        (100, Ambiguous, "response_invalid"),
        (302, EndpointUnusable, "not_found"),
        (304, EndpointUnusable, "not_found"),
        (400, Rejected, "request_rejected"),
        (401, EndpointUnusable, "authentication"),
        (402, EndpointUnusable, "billing"),
        (403, EndpointUnusable, "authentication"),
        (404, EndpointUnusable, "not_found"),
        (405, EndpointUnusable, "not_found"),
        (406, Rejected, "request_rejected"),
        (408, Ambiguous, "timed_out"),
        (409, Ambiguous, "server_error"),
        (412, EndpointUnusable, "billing"),
        (413, Rejected, "request_rejected"),
        (418, Rejected, "request_rejected"),
        (422, Rejected, "request_rejected"),
        (425, Ambiguous, "server_error"),
        (429, Throttled, "rate_limited"),
        (500, Ambiguous, "server_error"),
        (501, Ambiguous, "server_error"),
        (502, Ambiguous, "server_error"),
        (503, Throttled, "overloaded"),
        (504, Ambiguous, "server_error"),
        *((status, Ambiguous, "server_error") for status in (520, 521, 522, 523, 524, 529, 599, 999)),
    ],
)
def test_the_status_decides_what_follows(status, kind, error_type):
    """With an empty body; the message names status and address."""
    error = refusal(status)
    assert (type(error), error.error_type, error.status_code) == (kind, error_type, status)
    assert error.message.startswith(f"HTTP {status} from {URL}: ")


FIRST_TOKEN = "Request didn't generate first token before the given deadline, the service is overloaded"
SHAPES = {
    "wrapped": (404, {"error": {"message": "Model not found", "param": "model", "code": "NOT_FOUND", "type": "error"}},
                EndpointUnusable, "not_found", "NOT_FOUND", "Model not found"),
    "stream wanted": (400, {"error": {"message": "Requests with max_tokens > 4096 must have stream=true", "param": "max_tokens",
                      "code": "BAD_REQUEST", "type": "error"}}, Rejected, "request_rejected", "BAD_REQUEST", "stream=true"),
    "a wrong key": (401, {"error": {"message": "The API key you provided is invalid.", "param": None, "code": "UNAUTHORIZED",
                    "type": "error"}, "request_id": "x"}, EndpointUnusable, "authentication", "UNAUTHORIZED", "invalid"),
    "suspended": (412, {"error": {"message": "Account X is suspended, possibly due to reaching the monthly spending limit",
                  "code": "PRECONDITION_FAILED", "type": "error"}}, EndpointUnusable, "billing", "PRECONDITION_FAILED", "suspended"),
    "scaling up": (503, {"error": {"message": "Deployment is currently scaled to zero", "code": "DEPLOYMENT_SCALING_UP",
                   "type": "error"}}, Throttled, "overloaded", "DEPLOYMENT_SCALING_UP", "scaled to zero"),
    "gRPC": (404, {"code": 5, "message": "resource not found", "details": []}, EndpointUnusable, "not_found", "5", "resource"),
    "bare": (429, {"object": "error", "type": "invalid_request_error", "code": "invalid_request_error",
             "message": "rate limit exceeded, please try again later"}, Throttled, "rate_limited", "invalid_request_error", "try again"),
    "first token": (429, {"error": {"object": "error", "type": "invalid_request_error", "code": "too_many_requests",
                    "message": FIRST_TOKEN}}, Throttled, "rate_limited", "too_many_requests", "first token"),
    "a text": (429, {"error": "Too Many Requests", "message": "You have exceeded your usage limits."},
               Throttled, "rate_limited", None, "Too Many Requests: You have exceeded"),
    "a text alone": (500, {"error": "boom"}, Ambiguous, "server_error", None, "boom"),
    "a JSON text": (500, "boom", Ambiguous, "server_error", None, "boom"),
    "details": (422, {"detail": [{"loc": ["body", "messages", 0, "role"], "msg": "Input should be 'user'", "type": "enum"},
                {"loc": ["body", "n"], "msg": "too large"}]}, Rejected, "request_rejected", None,
                "body.messages.0.role: Input should be 'user'; body.n: too large"),
    "a detail": (404, {"detail": "Not Found"}, EndpointUnusable, "not_found", None, "Not Found"),
    "a code that is a number": (400, {"error": {"code": 400, "message": "no"}}, Rejected, "request_rejected", "400", "no"),
    "a type alone": (500, {"error": {"type": "internal_server_error", "code": None}}, Ambiguous, "server_error",
                     "internal_server_error", "internal_server_error"),
    "HTML": (502, b"<html>\r\n<head><title>502 Bad Gateway</title></head>\r\n</html>", Ambiguous, "server_error", None,
             "<title>502 Bad Gateway</title>"),
    "plain text": (503, b"upstream connect error or disconnect/reset before headers", Throttled, "overloaded", None, "upstream"),
    "nothing": (429, b"", Throttled, "rate_limited", None, "no explanation"),
    "quota": (429, {"error": {"type": "insufficient_quota", "code": "insufficient_quota", "message": "pay"}},
              EndpointUnusable, "billing", "insufficient_quota", "pay"),
    "quota in the type": (429, {"error": {"type": "insufficient_quota", "code": 429, "message": "pay"}},
                          EndpointUnusable, "billing", "429", "pay"),
    "hard limit": (400, {"error": {"code": "billing_hard_limit_reached"}}, EndpointUnusable, "billing",
                   "billing_hard_limit_reached", "billing_hard"),
    "context": (400, {"error": {"code": "context_length_exceeded", "message": "long"}}, Rejected, "context_length_exceeded",
                "context_length_exceeded", "long"),
    "context in words": (400, {"error": {"message": "The prompt is too long: 9, model maximum context length: 8"}},
                         Rejected, "context_length_exceeded", None, "9"),
    "content filter": (400, {"error": {"code": "content_filter", "message": "no"}}, Rejected, "content_filtered", "content_filter", "no"),
    "content policy": (400, {"error": {"code": "content_policy_violation"}}, Rejected, "content_filtered",
                       "content_policy_violation", "content_policy"),
    # nonsense where a code or a message should be
    "a code that is a list": (400, {"error": {"code": [], "type": {}}}, Rejected, "request_rejected", None, "code"),
    "a code of 60 digits": (400, {"error": {"code": 10**60, "message": "no"}}, Rejected, "request_rejected", None, "no"),
    "a code that is true": (400, {"error": {"code": True, "message": "no"}}, Rejected, "request_rejected", None, "no"),
    "a message that is an object": (400, {"error": {"message": {"a": [1]}}}, Rejected, "request_rejected", None, "message"),
    "a message of lists": (400, {"error": {"message": [[["no"]]]}}, Rejected, "request_rejected", None, "message"),
    "a place that is no list": (422, {"detail": [{"loc": 7, "msg": "no"}, {"loc": [[], {}]}, 7]}, Rejected, "request_rejected", None, "no"),
    "an error that is a list": (400, {"error": [{"message": "no"}]}, Rejected, "request_rejected", None, "no"),
    "an error that is null": (400, {"error": None, "message": "no"}, Rejected, "request_rejected", None, "no"),
    "a list": (400, [{"error": {"message": "no"}}], Rejected, "request_rejected", None, "no"),
    "a number": (400, 7, Rejected, "request_rejected", None, "7"),
    "100,000 deep": (400, b'{"error": ' + b"[" * 100_000, Rejected, "request_rejected", None, "[[["),
    "half a surrogate pair": (400, b'{"error": {"code": "\\ud800", "message": "a\\udc00b"}}', Rejected, "request_rejected", "\ufffd", "a\ufffdb"),
    "no UTF-8": (400, b'{"error": "a\xff"}', Rejected, "request_rejected", None, "a\ufffd"),
}  # fmt: skip


@pytest.mark.parametrize("name", SHAPES)
def test_every_shape_of_an_error_body_is_understood(name):
    """Over a socket: code and words where they can be found, the beginning of the body where not."""
    status, body, kind, error_type, code, words = SHAPES[name]
    with peer([READ, http(body if isinstance(body, bytes) else json.dumps(body), status)]) as there:
        error = ask(there.base_url)
    assert (type(error), error.error_type, error.error_code) == (kind, error_type, code), error
    assert words in error.message
    assert error.message.startswith(f"HTTP {status} from {there.base_url}/chat/completions: ")


def test_what_ends_a_run_says_what_to_do():
    """Each has a remedy."""
    for status in (301, 401, 402, 403, 404, 412):
        assert refusal(status).remedy


def test_nothing_raw_reaches_a_terminal():
    """Neither the words nor the code hold a control character, and both are short."""
    nasty = "\x1b[2J\x07\r\n\u202e" * 500
    error = refusal(400, {"error": {"message": nasty, "code": nasty}})
    assert error.message.isprintable()
    assert error.error_code.isprintable()
    assert len(error.message) < 700
    assert len(error.error_code) <= 100
    assert refusal(302, location="http://x/\x1b[2J" + "y" * 9000).message.isprintable()
    assert refusal(500, nasty.encode()).message.isprintable()


def test_the_beginning_of_the_answer_is_kept():
    """2,048 characters of it, as they came."""
    assert refusal(500, b"\x1b<html>" + b"x" * 9000).response == "\x1b<html>" + "x" * 2041


def test_the_request_id_is_kept():
    """For the support of whoever runs the endpoint."""
    assert refusal(500, **{"x-request-id": "r-1"}).request_id == "r-1"


NOW = datetime(2026, 11, 22, 12, tzinfo=UTC)
DATE = {"date": format_datetime(NOW, usegmt=True)}
LATER = format_datetime(NOW + timedelta(seconds=30), usegmt=True)


@pytest.mark.parametrize(
    ("headers", "expected"),
    [
        ({}, None),
        ({"retry-after": "7"}, 7.0),
        ({"retry-after": " 0.5 "}, 0.5),
        ({"retry-after": "0"}, 0.0),
        ({"retry-after": "-7"}, 0.0),
        ({"retry-after": "1e12"}, 1e12),
        ({"retry-after": "1e999"}, None),
        ({"retry-after": "nan"}, None),
        ({"retry-after": "inf"}, None),
        ({"retry-after": "soon"}, None),
        ({"retry-after": ""}, None),
        ({"retry-after": " "}, None),
        ({"retry-after": "9" * 5000}, None),
        ({"retry-after-ms": "1500"}, 1.5),
        ({"retry-after-ms": "1500", "retry-after": "7"}, 1.5),
        ({"retry-after-ms": "soon", "retry-after": "7"}, 7.0),
        ({"llm_provider-retry-after": "7"}, 7.0),
        ({"llm_provider-retry-after-ms": "500"}, 0.5),
        ({"llm_provider-retry-after": "9", "retry-after": "7"}, 7.0),
        ({"retry-after": LATER, **DATE}, 30.0),
        ({"retry-after": DATE["date"], "date": LATER}, 0.0),
        ({"retry-after": "Sun Nov 22 12:00:30 2026", **DATE}, 30.0),
        ({"retry-after": "Sun, 22 Nov 2026 12:00:30 -0000", **DATE}, 30.0),
        ({"retry-after": "Sun, 22 Nov 99999 12:00:30 GMT", **DATE}, None),
        ({"retry-after": "Sun, 22 Nov 2026 99:99:99 GMT", **DATE}, None),
        ({"retry-after": "Mon, 01 Jan 0001 00:00:00 +2359", **DATE}, 0.0),
        ({"retry-after": ",", **DATE}, None),
    ],
)
def test_a_retry_after_is_read_in_every_spelling(headers, expected):
    """Seconds, milliseconds, dates, renamed by a proxy; nonsense is none."""
    assert retry_after_s(headers) == expected


def test_a_date_without_a_date_header_counts_from_now():
    """Also where that header is nonsense."""
    later = format_datetime(datetime.now(UTC) + timedelta(seconds=100), usegmt=True)
    for headers in ({}, {"date": "yesterday"}):
        assert 95 < retry_after_s({"retry-after": later, **headers}) <= 100


def test_the_wait_reaches_the_engine():
    """Over a socket, for a 429 and for a 500."""
    for status in (429, 500):
        with peer([READ, http("", status, retry_after="7")]) as there:
            assert ask(there.base_url).retry_after_s == 7


USED_UP = {"x-ratelimit-remaining-requests": "0", "x-ratelimit-reset-requests": "6m0s"}


@pytest.mark.parametrize("status", [429, 503])
def test_a_used_up_budget_is_waited_for_where_no_wait_is_asked(status):
    """Its reset is the wait."""
    assert refusal(status, **USED_UP).retry_after_s == 360


def test_the_wait_that_is_asked_for_counts_more_than_a_reset():
    """Unless it is nonsense."""
    assert refusal(429, **{"retry-after": "2"}, **USED_UP).retry_after_s == 2
    assert refusal(429, **{"retry-after": "soon"}, **USED_UP).retry_after_s == 360


def test_other_refusals_wait_for_no_reset():
    """A server error has nothing to do with a budget."""
    assert refusal(500, **USED_UP).retry_after_s is None


def test_the_limits_reach_the_engine_with_a_refusal():
    """Over a socket, with a name in any case."""
    with peer([READ, http("", 429, **{"X-RateLimit-Limit-Tokens-Generated": "36000"})]) as there:
        assert ask(there.base_url).hints == Hints(generated_tokens_per_minute=36_000)

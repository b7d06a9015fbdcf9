"""Every status that an endpoint refuses with, and 200, each with every shape of an error body that was seen."""

from __future__ import annotations

import gzip
import json
from typing import Any

from catalogue import (
    BILL,
    GOOD,
    INVALID,
    KEY,
    LIMITED,
    LOST,
    OVERLOADED,
    REFUSED,
    SERVER_ERROR,
    TRUNCATED,
    UNREADABLE,
    Case,
    Form,
    Outcome,
    case,
)
from peers import END_OF_CHUNKS, chunked, http

from batchrun.errors import Ambiguous

STATUSES: dict[int, Outcome] = {
    **dict.fromkeys((400, 406, 410, 413, 415, 418, 422, 431), REFUSED),
    **dict.fromkeys((401, 403), KEY),
    **dict.fromkeys((402, 412), BILL),
    **dict.fromkeys((404, 405), LOST),
    408: (Ambiguous, "timed_out"),
    **dict.fromkeys((409, 425, 500, 501, 502, 504, 520, 521, 522, 523, 524, 529, 599), SERVER_ERROR),
    429: LIMITED,
    503: OVERLOADED,
}

SHAPES: dict[str, Any] = {
    "wrapped": {"error": {"message": "Model not found", "param": "model", "code": "NOT_FOUND", "type": "error"}},
    "wrapped with an id": {"error": {"message": "no", "param": None, "code": "UNAUTHORIZED"}, "request_id": "x"},
    "bare": {"object": "error", "type": "invalid_request_error", "code": "invalid_request_error", "message": "no"},
    "a text and a message": {"error": "Too Many Requests", "message": "You have exceeded your usage limits."},
    "a code that is a number": {"error": {"code": 7, "message": "no"}},
    "gRPC": {"code": 5, "message": "resource not found", "details": []},
    "details": {"detail": [{"loc": ["body", "messages"], "msg": "Field required", "type": "missing"}]},
    "a detail": {"detail": "Not Found"},
    "HTML": b"<html><head><title>502 Bad Gateway</title></head></html>",
    "plain text": b"upstream connect error or disconnect/reset before headers",
    "nothing": b"",
}

INSIDE = dict.fromkeys(
    ("wrapped", "wrapped with an id", "a text and a message", "a code that is a number"), SERVER_ERROR
)
"""What an error inside an answer of 200 leads to; without a key `error` it is an answer without choices."""

UNREAD = {"HTML": UNREADABLE, "plain text": UNREADABLE, "nothing": UNREADABLE}


def refused(_: Form) -> dict[str, Case]:
    """The status decides, whatever stands in the body."""
    return {
        f"{status}, {name}": case(_http(body, status), outcome)
        for status, outcome in STATUSES.items()
        for name, body in SHAPES.items()
    }


def in_200(form: Form) -> dict[str, Case]:
    """The same bodies as a success, each in four wrappings."""
    unread = UNREAD | ({"plain text": TRUNCATED, "nothing": TRUNCATED} if form.stream else {})
    cases: dict[str, Case] = {}
    for name, shape in SHAPES.items():
        body = shape if isinstance(shape, bytes) else json.dumps(shape).encode()
        outcome = INSIDE.get(name) or unread.get(name) or INVALID
        cases[name] = case(http(body), outcome)
        cases[f"{name}, with status 201"] = case(http(body, 201), outcome)
        cases[f"{name}, in gzip"] = case(http(gzip.compress(body), content_encoding="gzip"), outcome)
        if body:
            cases[f"{name}, in chunks"] = case(chunked(body) + END_OF_CHUNKS, outcome)
    return cases | {"a good answer": case(http(form.body), GOOD)}


def _http(body: Any, status: int) -> bytes:
    return http(body, status, x_request_id="r-1")


def behaviours(form: Form) -> dict[str, Case]:
    """All of them, by chapter and name."""
    chapters = [refused, in_200]
    return {f"{chapter.__name__}: {name}": one for chapter in chapters for name, one in chapter(form).items()}

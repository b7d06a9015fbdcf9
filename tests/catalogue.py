"""Behaviours of a peer, and what each must lead to; the tables are in the modules catalogue_*."""

from __future__ import annotations

import json
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

from peers import ANSWER, CLOSE, READ, STREAMED, sse

from batchrun.errors import Ambiguous, EndpointUnusable, NotSent, Rejected, Throttled
from batchrun.types import Completion

if TYPE_CHECKING:
    from collections.abc import Mapping

Outcome = tuple[type, str | None]
"""The class that comes out, and its error_type."""

GOOD: Outcome = Completion, None
UNREADABLE: Outcome = Ambiguous, "response_unreadable"
TRUNCATED: Outcome = Ambiguous, "response_truncated"
TOO_LARGE: Outcome = Ambiguous, "response_too_large"
INVALID: Outcome = Ambiguous, "response_invalid"
LATE: Outcome = Ambiguous, "timed_out"
NOT_SENT: Outcome = NotSent, "connection_failed"
BROKEN: Outcome = Ambiguous, "connection_failed"
SERVER_ERROR: Outcome = Ambiguous, "server_error"
EMPTY: Outcome = Rejected, "empty_response"
FILTERED: Outcome = Rejected, "content_filtered"
REFUSED: Outcome = Rejected, "request_rejected"
LIMITED: Outcome = Throttled, "rate_limited"
OVERLOADED: Outcome = Throttled, "overloaded"
KEY: Outcome = EndpointUnusable, "authentication"
BILL: Outcome = EndpointUnusable, "billing"
LOST: Outcome = EndpointUnusable, "not_found"

WAIT_S = 0.25
"""The limit that a behaviour has which is to run into it."""


class Case(NamedTuple):
    """A script for the peer, and what may come of it.

    There are several outcomes where both readings are right, and where a race decides. `charged` is whether the usage
    is kept, `content` what a completion says, None where that does not matter. `limits` are time limits other than
    10 s; `heavy` ones send megabytes.
    """

    script: list[Any]
    outcomes: set[Outcome]
    charged: bool | None = None
    content: str | None = "yes"
    limits: Mapping[str, float] = MappingProxyType({})
    heavy: bool = False


def case(answer: Any, outcome: Outcome | set[Outcome], **more: Any) -> Case:
    """A case whose peer reads the request, sends these bytes and closes, or does what a script says."""
    script = answer if isinstance(answer, list) else [READ, answer, CLOSE]
    return Case(script, outcome if isinstance(outcome, set) else {outcome}, **more)


class Form(NamedTuple):
    """What is asked for: a plain answer or a stream, with the body of a good answer to it.

    `whole` is what comes of a body that was all there when the connection broke: a stream says itself that it is whole.
    """

    stream: bool
    body: bytes
    whole: Outcome


PLAIN = Form(stream=False, body=json.dumps(ANSWER).encode(), whole=TRUNCATED)
STREAM = Form(stream=True, body=sse(*STREAMED), whole=GOOD)
FORMS = {"plain": PLAIN, "stream": STREAM}

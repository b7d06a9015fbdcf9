"""An endpoint that does not know `stream_options`: the option is dropped once, and that is remembered."""

from __future__ import annotations

import asyncio
import json

from asking import endpoint, outcome
from peers import READ, http, peer

from batchrun.errors import Rejected
from batchrun.types import Completion

BODY = json.dumps({"model": "m", "stream": True, "stream_options": {"include_usage": True}, "messages": []}).encode()
LESS = {"model": "m", "stream": True, "messages": []}
STREAM = http('data: {"choices": [{"delta": {"content": "yes"}, "finish_reason": "stop"}]}\n\ndata: [DONE]\n\n')
REFUSED = http({"error": {"message": "Extra inputs are not permitted, field: 'stream_options'"}}, 400)


def asked(*answers: bytes, times: int, body: bytes = BODY, stream: bool = True):
    """What becomes of some requests in turn, the bodies that were sent, and how many of them were probes."""

    async def main(base_url):
        async with endpoint(base_url) as opened:
            done = [await outcome(opened, body=body, stream=stream) for _ in range(times)]
            return done, opened.probes

    script = [step for answer in [*answers, *answers[-1:] * 20] for step in (READ, answer)]
    with peer(script) as there:
        done, probes = asyncio.run(main(there.base_url))
        return done, [sent.partition(b"\r\n\r\n")[2] for sent in there.requests], probes


def test_the_option_is_dropped_once_and_for_all():
    """The second request does not even try."""
    done, bodies, probes = asked(REFUSED, STREAM, STREAM, times=2)
    assert [type(one) for one in done] == [Completion, Completion]
    assert bodies[0] == BODY
    assert [json.loads(body) for body in bodies[1:]] == [LESS, LESS]
    assert probes == 1


def test_a_request_that_is_bad_anyway_is_refused():
    """Its refusal is the one that counts, and nothing is remembered."""
    done, bodies, probes = asked(REFUSED, http({"error": "bad"}, 400), STREAM, times=2)
    assert [type(one) for one in done] == [Rejected, Completion]
    assert "stream_options" in done[0].message
    assert bodies[2] == BODY
    assert probes == 1


def test_an_endpoint_that_has_streamed_knows_the_option():
    """A later refusal has another reason: it is not sent again."""
    done, bodies, probes = asked(STREAM, REFUSED, times=2)
    assert [type(one) for one in done] == [Completion, Rejected]
    assert (len(bodies), probes) == (2, 0)


def test_it_is_not_tried_for_ever():
    """Rows that are refused for what they are say nothing about the option, however many they are."""
    _, bodies, probes = asked(REFUSED, times=8)
    assert (len(bodies), probes) == (13, 5)


def test_a_stream_without_the_option_is_not_probed():
    """There is nothing to take away."""
    _, bodies, probes = asked(REFUSED, times=1, body=b'{"stream": true}')
    assert (len(bodies), probes) == (1, 0)


def test_a_plain_request_is_not_probed():
    """It has no such option."""
    _, bodies, probes = asked(REFUSED, times=1, stream=False)
    assert (len(bodies), probes) == (1, 0)


def test_other_refusals_are_not_probed():
    """A key, a limit, a fault: the option is not to blame."""
    for status in (401, 404, 429, 500):
        _, bodies, probes = asked(http("", status), times=1)
        assert (len(bodies), probes) == (1, 0)

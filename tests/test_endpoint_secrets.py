"""The key is in nothing that comes out, wherever a peer puts it."""

from __future__ import annotations

import gzip
import json
import traceback
from urllib.parse import quote

import msgspec
import pytest
from asking import KEY, ask
from peers import ANSWER, CLOSE, READ, http, nobody, peer

from batchrun.errors import EndpointError
from batchrun.types import Completion


def everything(result) -> str:
    """All that could be printed or kept of an outcome."""
    if isinstance(result, Completion):
        return msgspec.json.encode(result).decode()
    assert isinstance(result, EndpointError)
    told = "".join(traceback.format_exception(result))
    fields = [getattr(result, name) for name in vars(result)]
    return "\n".join([told, str(result), repr(result), *map(str, fields)])


PLACES = {
    "JSON": http({"error": {"message": f"Incorrect API key: {KEY}", "code": KEY, "type": KEY}}, 401),
    "JSON of another encoder": http(json.dumps({"error": f"Incorrect: {KEY}"}).replace("/", "\\/"), 401),
    "HTML": http(f"<html><body>Authorization: Bearer {KEY}</body></html>", 401),
    "plain text": http(f"{KEY}" * 100, 403),
    "a header": http("", 401, x_request_id=KEY, www_authenticate=f"Bearer {KEY}", retry_after=KEY),
    "a place to go": http("", 302, location=f"http://elsewhere.example/{KEY}"),
    "a place to go, quoted": http("", 307, location=f"http://elsewhere.example/?key={quote(KEY, safe='')}"),
    "gzip": http(gzip.compress(f"{KEY}".encode()), 500, content_encoding="gzip"),
    "a 429": http({"error": {"message": KEY}}, 429),
    "an answer": http({**ANSWER, "id": KEY, "model": KEY, "choices": [{"message": {"content": f"It is {KEY}."}}]}),
    "metrics": http({**ANSWER, "perf_metrics": {"deployment": KEY}}, fireworks_backend_host=KEY, x_request_id=KEY),
    "an error in 200": http({"error": {"message": KEY, "code": KEY}}),
    "no JSON": http(f"<html>{KEY}</html>"),
    "an unknown encoding": http("", content_encoding=KEY),
    "a status line": f"HTTP/1.1 {KEY} OK\r\n\r\n".encode(),
    "a broken header": f"HTTP/1.1 200 OK\r\n{KEY}\x00: x\r\n\r\n".encode(),
    "a chunk size": f"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n{KEY}\r\n".encode(),
    "a huge header": f"HTTP/1.1 200 OK\r\nx: {KEY * 1000}\r\n\r\n".encode(),
    "half an answer": http(KEY, length=1000),
}


SPLIT = [KEY[:9], KEY[9:]]
ESCAPED = "".join(f"\\u{ord(letter):04x}" for letter in KEY)
HIDDEN = {
    "in escapes": http(json.dumps(ANSWER).replace("yes", ESCAPED)),
    "in the escapes of an error": http('{"error": {"message": "' + ESCAPED + '"}}', 401),
    "in two pieces of a stream": http(
        "".join(f'data: {{"choices": [{{"delta": {{"content": "{part}"}}}}]}}\n\n' for part in SPLIT)
        + 'data: {"choices": [{"delta": {}, "finish_reason": "stop"}]}\n\n'
    ),
    "in the error of a stream": http('data: {"error": {"message": "' + ESCAPED + '"}}\n\n'),
    "in half a stream": http('data: {"choices": [{"delta": {"content": "' + KEY + '"}}]}\n\n', length=9999),
}
PLACES |= HIDDEN


@pytest.mark.parametrize("name", PLACES)
def test_a_key_that_is_echoed_is_taken_out(name):
    """Not in the message, the code, the answer, the metrics or a traceback, in no spelling."""
    with peer([READ, PLACES[name], CLOSE]) as there:
        result = ask(there.base_url, key=KEY, stream="stream" in name)
        assert f"Authorization: Bearer {KEY}".encode() in there.requests[0]
    told = everything(result)
    for spelling in (KEY, KEY.replace("/", "\\/"), quote(KEY, safe="")):
        assert spelling not in told


def test_a_lower_case_key_in_the_name_of_a_metric_is_taken_out():
    """Names of headers are kept in lower case, and some of them as metrics."""
    with peer([READ, http(ANSWER, fireworks_sk_0123456789="1")]) as there:
        assert "sk-0123456789" not in everything(ask(there.base_url, key="sk-0123456789"))


def test_a_connection_that_fails_does_not_name_the_key():
    """The library's own errors would, in their repr."""
    assert KEY not in everything(ask(nobody(), key=KEY))


def test_a_dummy_key_does_not_change_answers():
    """`EMPTY` is what local servers take for a key, and an ordinary word."""
    with peer([READ, http({**ANSWER, "choices": [{"message": {"content": "EMPTY or none"}}]})]) as there:
        assert ask(there.base_url, key="EMPTY").content == "EMPTY or none"
        assert b"Bearer EMPTY" in there.requests[0]


def test_what_was_taken_out_can_be_seen():
    """Nobody is to wonder about a hole."""
    with peer([READ, http(f"Incorrect API key: {KEY}.", 401)]) as there:
        assert "Incorrect API key: [key]." in ask(there.base_url, key=KEY).message

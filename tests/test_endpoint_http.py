"""Hostile HTTP over real sockets: each behaviour has an error class and an error_type, and nothing else comes out."""

# ruff: noqa: E501 (a table is read by the row)

from __future__ import annotations

import asyncio
import gzip
import json
import socket
import tracemalloc
import zlib

import pytest
from asking import ask, endpoint, outcome
from peers import ANSWER, CLOSE, END_OF_CHUNKS, READ, RESET, chunked, echo_length, for_ever, http, nobody, peer

from batchrun.config import check_config
from batchrun.endpoint.http import MOST_BODY_BYTES, HttpEndpoint
from batchrun.endpoint.unpack import UnpackError, unpack
from batchrun.errors import Ambiguous, ConfigError, EndpointUnusable, NotSent, Rejected, Throttled
from batchrun.types import Completion

BODY = json.dumps(ANSWER).encode()
RAW_DEFLATE = zlib.compressobj(wbits=-15)
DEFLATED = RAW_DEFLATE.compress(BODY) + RAW_DEFLATE.flush()
BOMB = gzip.compress(b" " * (MOST_BODY_BYTES + 1), compresslevel=1)
ENDLESS = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
CHUNK = b"10000\r\n" + b" " * 65536 + b"\r\n"


def lines(*headers: bytes, status: bytes = b"HTTP/1.1 200 OK") -> bytes:
    """The head of an answer."""
    return b"\r\n".join([status, *headers, b"", b""])


BEHAVIOURS = {
    # status lines
    "not HTTP": ([READ, b"hello world\r\n\r\n", CLOSE], Ambiguous, "response_unreadable"),
    "speaks first": ([b"220 smtp ready\r\n", READ, CLOSE], Ambiguous, "response_unreadable"),
    "HTTP/2 in words": ([READ, lines(status=b"HTTP/2 200 OK"), CLOSE], Ambiguous, "response_unreadable"),
    "a status of five digits": ([READ, lines(status=b"HTTP/1.1 99999 X"), CLOSE], Ambiguous, "response_unreadable"),
    "a status that is a word": ([READ, lines(status=b"HTTP/1.1 OK OK"), CLOSE], Ambiguous, "response_unreadable"),
    "a status of 999": ([READ, http("", 999)], Ambiguous, "server_error"),
    "101": ([READ, lines(b"connection: upgrade", b"upgrade: x", status=b"HTTP/1.1 101 X")], Ambiguous, "response_invalid"),
    "204": ([READ, lines(status=b"HTTP/1.1 204 X")], Ambiguous, "response_unreadable"),
    "nothing at all": ([READ, CLOSE], Ambiguous, "connection_failed"),
    "closed before the request": ([CLOSE], Ambiguous, "connection_failed"),
    "reset": ([READ, RESET], Ambiguous, "connection_failed"),
    # headers
    "a header without a name": ([READ, lines(b": x"), CLOSE], Ambiguous, "response_unreadable"),
    "a header with a NUL": ([READ, lines(b"x\x00y: z"), CLOSE], Ambiguous, "response_unreadable"),
    "a header line without a colon": ([READ, lines(b"garbage"), CLOSE], Ambiguous, "response_unreadable"),
    "a huge header": ([READ, lines(b"x: " + b"a" * 100_000), CLOSE], Ambiguous, "response_unreadable"),
    "an endless header": ([READ, b"HTTP/1.1 200 OK\r\nx: ", for_ever(b"a" * 65536)], Ambiguous, "response_unreadable"),
    "five thousand headers": ([READ, lines(*[b"x: y"] * 5000), CLOSE], Ambiguous, "response_unreadable"),
    "endless headers": ([READ, b"HTTP/1.1 200 OK\r\n", for_ever(b"x: y\r\n" * 9000)], Ambiguous, "response_unreadable"),
    # lengths and chunks
    "two lengths": ([READ, lines(b"content-length: 2", b"content-length: 3"), CLOSE], Ambiguous, "response_unreadable"),
    "a negative length": ([READ, lines(b"content-length: -2"), CLOSE], Ambiguous, "response_unreadable"),
    "a length that is a word": ([READ, lines(b"content-length: x"), CLOSE], Ambiguous, "response_unreadable"),
    "a length that is too large": ([READ, http(BODY, length=len(BODY) + 1), CLOSE], Ambiguous, "response_truncated"),
    "a length that is too small": ([READ, http(BODY, length=len(BODY) - 1), CLOSE], Ambiguous, "response_unreadable"),
    "a length of 2^70": ([READ, http(BODY, length=2**70), CLOSE], Ambiguous, "response_unreadable"),
    "chunks that break off": ([READ, chunked(BODY), CLOSE], Ambiguous, "response_truncated"),
    "a chunk that breaks off": ([READ, chunked(BODY)[:-9], CLOSE], Ambiguous, "response_truncated"),
    "a chunk size that is a word": ([READ, ENDLESS + b"zz\r\n{}\r\n0\r\n\r\n", CLOSE], Ambiguous, "response_unreadable"),
    "a chunk of 2^80 bytes": ([READ, ENDLESS + b"f" * 20 + b"\r\n{}", CLOSE], Ambiguous, "response_unreadable"),
    "no length, broken off": ([READ, lines() + BODY[:-3], CLOSE], Ambiguous, "response_unreadable"),
    "an endless body": ([READ, ENDLESS, for_ever(CHUNK)], Ambiguous, "response_too_large"),
    "a body that says it is too long": ([READ, lines(b"content-length: 9999999999"), for_ever(CHUNK)], Ambiguous, "response_too_large"),
    # encodings
    "a gzip bomb": ([READ, http(BOMB, content_encoding="gzip")], Ambiguous, "response_too_large"),
    "half a gzip": ([READ, http(gzip.compress(BODY)[:-20], content_encoding="gzip")], Ambiguous, "response_truncated"),
    "gzip without its last byte": ([READ, http(gzip.compress(BODY)[:-1], content_encoding="gzip")], Ambiguous, "response_truncated"),
    "gzip with a wrong checksum": ([READ, http(gzip.compress(BODY)[:-8] + b"12345678", content_encoding="gzip")], Ambiguous, "response_unreadable"),
    "no gzip at all": ([READ, http(BODY, content_encoding="gzip")], Ambiguous, "response_unreadable"),
    "no deflate at all": ([READ, http(BODY, content_encoding="deflate")], Ambiguous, "response_unreadable"),
    "half a deflate": ([READ, http(zlib.compress(BODY)[:-9], content_encoding="deflate")], Ambiguous, "response_truncated"),
    "nothing, in gzip": ([READ, http(b"", content_encoding="gzip")], Ambiguous, "response_truncated"),
    "brotli": ([READ, http(BODY, content_encoding="br")], Ambiguous, "response_unreadable"),
    "gzip twice": ([READ, http(BODY, content_encoding="gzip, gzip")], Ambiguous, "response_unreadable"),
    # an answer that is no success keeps its meaning, whatever is wrong with its body
    "429 in broken gzip": ([READ, http(b"", 429, content_encoding="gzip")], Throttled, "rate_limited"),
    "429 that breaks off": ([READ, http("{", 429, length=99), CLOSE], Throttled, "rate_limited"),
    "401 that breaks off": ([READ, http("{", 401, length=99), RESET], EndpointUnusable, "authentication"),
    "400 without an end": ([READ, lines(b"transfer-encoding: chunked", status=b"HTTP/1.1 400 X"), for_ever(CHUNK)], Rejected, "request_rejected"),
    "an answer before the body was read": ([http({}, 413), 0.05, READ], Rejected, "request_rejected"),
}  # fmt: skip


@pytest.mark.parametrize("name", BEHAVIOURS)
def test_a_hostile_peer_leads_to_a_classified_error(name):
    """No exception of another kind, no hang, and a reason for people."""
    script, kind, error_type = BEHAVIOURS[name]
    limits = {"idle_s": 0.2, "first_byte_s": 0.2} if error_type == "timed_out" else {}
    with peer(script) as there:
        error = ask(there.base_url, **limits)
    assert (type(error), error.error_type) == (kind, error_type), error
    assert error.message
    assert error.message.isprintable()


GOOD = {
    "with a length": http(BODY),
    "in one chunk": chunked(BODY) + END_OF_CHUNKS,
    "in chunks of a byte": chunked(*[bytes([byte]) for byte in BODY]) + END_OF_CHUNKS,
    "to the end of the connection": lines() + BODY,
    "as HTTP/1.0": lines(status=b"HTTP/1.0 200 OK") + BODY,
    "after 100 Continue": b"HTTP/1.1 100 Continue\r\n\r\n" * 3 + http(BODY),
    "with trailers": chunked(BODY) + b"0\r\nx: y\r\n\r\n",
    "with status 201": http(BODY, 201),
    "in gzip": http(gzip.compress(BODY), content_encoding="gzip"),
    "in two gzip members": http(gzip.compress(BODY[:50]) + gzip.compress(BODY[50:]), content_encoding="x-gzip"),
    "in zlib, which is deflate": http(zlib.compress(BODY), content_encoding="deflate"),
    "in bare deflate": http(DEFLATED, content_encoding="Deflate"),
    "as identity": http(BODY, content_encoding="identity"),
    "with a body that is called HTML": http(BODY, content_type="text/html"),
    "with odd header values": http(BODY, x="\udcff\udcfe é".encode("utf-8", "surrogateescape").decode("latin-1")),
    "with cookies": http(BODY, set_cookie="a=b; Domain=example.com"),
}


@pytest.mark.parametrize("name", GOOD)
def test_a_good_answer_is_taken_however_it_is_wrapped(name):
    """Length, chunks, encodings."""
    with peer([READ, GOOD[name], CLOSE]) as there:
        answer = ask(there.base_url)
    assert isinstance(answer, Completion), answer
    assert answer.content == "yes"
    assert json.loads(answer.response) == ANSWER


@pytest.mark.parametrize("name", ["an endless body", "a gzip bomb", "400 without an end", "an endless header"])
def test_memory_is_bounded_whatever_the_peer_sends(name):
    """A few times the cap at most."""
    script, _, _ = BEHAVIOURS[name]
    tracemalloc.start()
    try:
        with peer(script) as there:
            ask(there.base_url)
        assert tracemalloc.get_traced_memory()[1] < 4 * MOST_BODY_BYTES
    finally:
        tracemalloc.stop()


def test_an_answer_of_31_mib_is_taken():
    """The cap is what it says."""
    content = "x" * (31 * 1024 * 1024)

    async def is_whole(base_url):
        async with endpoint(base_url) as opened:
            return (await outcome(opened)).content == content

    with peer([READ, http({"choices": [{"message": {"content": content}}]})]) as there:
        assert asyncio.run(is_whole(there.base_url))


def test_a_request_of_five_megabytes_is_sent_whole():
    """Without a warning: warnings are errors here."""
    with peer([echo_length]) as there:
        assert ask(there.base_url, body=b" " * 5_000_000).content == "5000000"


def test_a_large_request_goes_out_whole_again_after_a_dead_connection():
    """What was read of it the first time is not missing the second time."""

    async def both(base_url):
        async with endpoint(base_url) as opened:
            await outcome(opened)
            return await outcome(opened, body=b" " * 5_000_000)

    with peer([echo_length, READ, CLOSE], [echo_length]) as there:
        assert asyncio.run(both(there.base_url)).content == "5000000"


def test_the_request_says_what_it_is_and_nothing_more():
    """Header by header; no cookie, no key where there is none."""
    with peer([READ, http(ANSWER)]) as there:
        ask(there.base_url, headers={"X-Team": "eval"})
    head, _, body = there.requests[0].partition(b"\r\n\r\n")
    first, *rest = head.decode().split("\r\n")
    headers = dict(line.split(": ", 1) for line in rest)
    assert first == "POST /v1/chat/completions HTTP/1.1"
    assert set(headers) == {
        *("Host", "Content-Type", "Accept", "Accept-Encoding", "User-Agent", "X-Team", "Content-Length"),
    }
    assert headers["Accept-Encoding"] == "identity"
    assert body == b'{"messages": []}'


@pytest.mark.parametrize("status", [301, 302, 303, 307, 308])
def test_a_redirect_is_not_followed(status):
    """The host is named, nothing is sent there, and the run ends."""
    with peer([READ, http(ANSWER)]) as elsewhere:
        place = f"http://127.0.0.1:{elsewhere.port}/v1/chat/completions"
        with peer([READ, http("", status, location=place)]) as there:
            error = ask(there.base_url)
        assert elsewhere.connections == 0
    assert (type(error), error.error_type) == (EndpointUnusable, "not_found")
    assert place in error.message


def test_cookies_are_not_kept():
    """A peer cannot make one request depend on another."""

    async def both(base_url):
        async with endpoint(base_url) as opened:
            await outcome(opened)
            await outcome(opened)

    with peer([READ, http(ANSWER, set_cookie="a=b; Path=/"), READ, http(ANSWER)]) as there:
        asyncio.run(both(there.base_url))
    assert len(there.requests) == 2
    assert b"ookie" not in there.requests[1]


def test_a_refused_connection_was_not_sent():
    """It costs nothing to try again; the message names the place and what to look at."""
    base_url = nobody()
    error = ask(base_url)
    assert (type(error), error.error_type) == (NotSent, "connection_failed")
    assert error.message == f"{base_url.split('/')[2]}: cannot connect: Connection refused"
    assert error.remedy


def test_an_unknown_host_was_not_sent(monkeypatch):
    """A name server that is down for a moment must not end a run."""

    def unknown(*_, **__):
        raise socket.gaierror(socket.EAI_NONAME, "Name or service not known")

    monkeypatch.setattr(socket, "getaddrinfo", unknown)
    error = ask("http://nosuch.example/v1")
    assert (type(error), error.error_type) == (NotSent, "connection_failed")
    assert "nosuch.example: cannot connect: Name or service not known" in error.message


def test_a_connection_that_does_not_come_about_in_time_was_not_sent():
    """A listener whose queue is full answers to no handshake."""
    with socket.socket() as full:
        full.bind(("127.0.0.1", 0))
        full.listen(0)
        port = full.getsockname()[1]
        fillers = [socket.socket() for _ in range(4)]
        for filler in fillers:
            filler.setblocking(False)  # noqa: FBT003 (its only way)
            filler.connect_ex(("127.0.0.1", port))
        error = ask(f"http://127.0.0.1:{port}/v1", connect_s=0.2, first_byte_s=0.1, attempt_s=0.15)
        for filler in fillers:
            filler.close()
    assert (type(error), error.error_type) == (NotSent, "connection_failed")
    assert "took too long" in error.message


@pytest.mark.parametrize("base_url", ["http://a..b/v1", f"http://{'a' * 64}.example/v1", "http://localhost:99999/v1"])
def test_an_address_that_cannot_be_is_refused_before_anything_is_sent(base_url):
    """As an error of the configuration."""
    config = check_config({"input": "x"})
    with pytest.raises(ConfigError, match="base_url"):
        HttpEndpoint(config, base_url=base_url, key=None)


@pytest.mark.parametrize(
    "header", [{"x y": "a"}, {"": "a"}, {"x:": "a"}, {"x": "a\r\ny: b"}, {"x": "a\x00"}, {"é": "a"}]
)
def test_a_header_that_cannot_be_sent_is_refused_before_anything_is_sent(header):
    """Least of all may it smuggle in another one."""
    config = check_config({"input": "x", "endpoint": {"base_url": "http://127.0.0.1:1", "headers": header}})
    with pytest.raises(ConfigError, match=r"endpoint\.headers"):
        HttpEndpoint(config, base_url="http://127.0.0.1:1/v1", key=None)


def test_unpacking_knows_each_encoding():
    """And refuses what was not asked for."""
    assert unpack(b"x", "", 10) == unpack(b"x", " Identity ", 10) == b"x"
    with pytest.raises(UnpackError, match="not asked for"):
        unpack(b"x", "zstd", 10)


def test_unpacking_takes_no_more_memory_than_the_cap():
    """However much would come out."""
    bomb = gzip.compress(b" " * (64 << 20), compresslevel=1)
    tracemalloc.start()
    try:
        with pytest.raises(UnpackError, match="unpacks to more than 1 MiB"):
            unpack(bomb, "gzip", 1 << 20)
        assert tracemalloc.get_traced_memory()[1] < 4 << 20
    finally:
        tracemalloc.stop()


def test_unpacking_stops_at_the_cap_also_over_many_members():
    """The decoded size of all of them counts."""
    member = gzip.compress(b"x" * 600)
    assert unpack(member, "gzip", 600) == b"x" * 600
    for content in (member * 2, gzip.compress(b"x" * 1001)):
        with pytest.raises(UnpackError) as caught:
            unpack(content, "gzip", 1000)
        assert caught.value.error_type == "response_too_large"

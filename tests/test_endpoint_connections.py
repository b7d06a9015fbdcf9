"""Connections that break, that were dead before, or on which something comes unasked; and what is left behind."""

from __future__ import annotations

import asyncio
import json
import os
import ssl
import subprocess
import sys
from pathlib import Path

import pytest
from asking import ask, endpoint, outcome
from peers import ANSWER, CLOSE, END_OF_CHUNKS, READ, RESET, chunked, http, peer
from servers import ROOT
from waiting import until

from batchrun.endpoint import connections as module
from batchrun.endpoint.http import HttpEndpoint
from batchrun.errors import Ambiguous, EndpointUnusable, NotSent
from batchrun.types import Completion

BODY = json.dumps(ANSWER).encode()
PLAIN = http(ANSWER, content_type="application/json", x_request_id="r-1")
CHUNKED = chunked(BODY[:100], BODY[100:]) + END_OF_CHUNKS
UNTIL_CLOSED = b"HTTP/1.1 200 OK\r\n\r\n" + BODY
BROKEN = {"connection_failed", "response_truncated", "response_unreadable"}


def in_turn(there, count, *, between_s=0.0, **options):
    """Send so many requests one after another; their outcomes, and the free retries."""

    async def main():
        async with endpoint(there.base_url, **options) as opened:
            outcomes = []
            for number in range(count):
                outcomes.append(await outcome(opened, index=number))
                await asyncio.sleep(between_s)
            return outcomes, opened.free_retries

    return asyncio.run(main())


def at_every_offset(answer: bytes, end: str, step: int = 1) -> dict[int, object]:
    """What comes of an answer that breaks off after n bytes, for each n, one connection each."""
    offsets = list(range(0, len(answer) + 1, step))
    scripts = [[READ, answer[:offset], end] for offset in offsets]

    async def main(there):
        async with endpoint(there.base_url) as opened:
            one = {}
            for offset in offsets:
                one[offset] = await outcome(opened)
            return one, opened.free_retries

    with peer(*scripts) as there:
        outcomes, free_retries = asyncio.run(main(there))
        assert there.connections == len(offsets)
    assert free_retries == 0
    return outcomes


def is_ambiguous(answer: bytes, outcomes: dict[int, object]) -> None:
    """Nothing that is not whole is a completion, and no other exception comes of it."""
    for offset, result in outcomes.items():
        if isinstance(result, Completion):  # all of the JSON was there: at most the end mark of the chunks was missing
            assert answer[:offset].rstrip().endswith((b"}", b"\r\n0")), offset
            assert json.loads(result.response) == ANSWER
        else:
            assert (type(result), result.error_type in BROKEN) == (Ambiguous, True), (offset, result)


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_an_answer_that_breaks_off_at_any_byte_is_ambiguous(end):
    """Each byte of 300, a connection each: not one may be missing, and none leads to a free retry."""
    outcomes = at_every_offset(PLAIN, end)
    is_ambiguous(PLAIN, outcomes)
    completions = [offset for offset, result in outcomes.items() if isinstance(result, Completion)]
    assert completions in ([[len(PLAIN)]] if end == CLOSE else [[len(PLAIN)], []])


OTHERS = {"chunks": CHUNKED, "until closed": UNTIL_CLOSED}


@pytest.mark.parametrize("framing", OTHERS)
def test_an_answer_without_a_length_that_breaks_off_is_ambiguous(framing):
    """In chunks, or to the end of the connection: every third byte."""
    is_ambiguous(OTHERS[framing], at_every_offset(OTHERS[framing], CLOSE, step=3))


@pytest.mark.rig
@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("framing", OTHERS)
def test_an_answer_without_a_length_that_breaks_off_at_any_byte_is_ambiguous(framing, end):
    """The same at every byte, closed and reset."""
    is_ambiguous(OTHERS[framing], at_every_offset(OTHERS[framing], end))


@pytest.mark.rig
@pytest.mark.parametrize("end", [CLOSE, RESET])
@pytest.mark.parametrize("encoding", ["gzip", "deflate"])
def test_a_packed_answer_that_breaks_off_at_any_byte_is_ambiguous(encoding, end):
    """A decoder that does not insist on the end would take some of them."""
    import gzip
    import zlib

    long = json.dumps({**ANSWER, "pad": [str(number) for number in range(400)]}).encode()
    packed = gzip.compress(long) if encoding == "gzip" else zlib.compress(long)
    for framed in (
        http(packed, content_encoding=encoding),
        chunked(packed[:200], packed[200:]).replace(
            b"\r\n\r\n", f"\r\ncontent-encoding: {encoding}\r\n\r\n".encode(), 1
        )
        + END_OF_CHUNKS,
    ):
        outcomes = at_every_offset(framed, end)
        outcomes.pop(len(framed))
        for offset, result in outcomes.items():
            if isinstance(result, Completion):
                assert result.response.encode() == long
                assert offset > len(framed) - 5
            else:
                assert (type(result), result.error_type in BROKEN) == (Ambiguous, True), (offset, result)


# Dead connections


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_dead_kept_alive_connection_costs_a_free_retry(end):
    """The second request meets a connection that breaks unanswered: it goes out once more, and is counted apart."""
    with peer([READ, http(ANSWER), READ, end], [READ, http(ANSWER)]) as there:
        (first, second), free_retries = in_turn(there, 2)
        assert (there.connections, len(there.requests)) == (2, 3)
    assert isinstance(first, Completion)
    assert isinstance(second, Completion), second
    assert free_retries == 1
    assert there.requests[1].partition(b"\r\n\r\n")[2] == there.requests[2].partition(b"\r\n\r\n")[2]


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_the_free_retry_is_free_once(end):
    """The fresh connection breaks as well: that is an outcome nobody knows."""
    with peer([READ, http(ANSWER), READ, end], [READ, end]) as there:
        (_, second), free_retries = in_turn(there, 2)
        assert (there.connections, len(there.requests)) == (2, 3)
    assert (type(second), second.error_type, free_retries) == (Ambiguous, "connection_failed", 1)


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_fresh_connection_that_breaks_is_ambiguous(end):
    """The request may have been served and charged."""
    with peer([READ, end]) as there:
        (only,), free_retries = in_turn(there, 1)
        assert there.connections == 1
    assert (type(only), only.error_type, free_retries) == (Ambiguous, "connection_failed", 0)


def test_a_free_retry_does_not_come_from_the_pool():
    """Of ten kept-alive connections all may be dead: one retry is enough, for it gets a connection of its own."""

    async def main(there):
        async with endpoint(there.base_url) as opened:
            await asyncio.gather(*(outcome(opened) for _ in range(10)))
            return await outcome(opened), opened.free_retries

    dying = [READ, 0.05, http(ANSWER), READ, CLOSE]
    with peer(*[dying] * 10, [READ, http(ANSWER)]) as there:
        result, free_retries = asyncio.run(main(there))
        assert there.connections == 11
    assert isinstance(result, Completion), result
    assert free_retries == 1


def test_each_free_retry_has_a_connection_of_its_own():
    """Also the second one: that of the first is not kept, and the peer is told so."""
    kept, single = [READ, http(ANSWER), READ, CLOSE], [READ, http(ANSWER), READ, http(ANSWER)]
    with peer(kept, single, kept, single) as there:
        outcomes, free_retries = in_turn(there, 4)
        assert there.connections == 4
        closing = [b"connection: close" in request.lower() for request in there.requests]
    assert all(isinstance(result, Completion) for result in outcomes)
    assert free_retries == 2
    assert closing == [False, False, True, False, False, True]


@pytest.mark.parametrize("begun", [b"H", b"HTTP/1.1 200 OK\r\nContent-Le", http(ANSWER)[:-5]])
@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_reused_connection_on_which_an_answer_has_begun_is_no_free_retry(begun, end):
    """One byte of an answer says that the request was received."""
    with peer([READ, http(ANSWER), READ, begun, 0.05, end], [READ, http(ANSWER)]) as there:
        (_, second), free_retries = in_turn(there, 2)
        assert there.connections == 1
    assert (type(second), free_retries) == (Ambiguous, 0)


def test_a_reused_connection_that_breaks_late_is_no_free_retry(monkeypatch):
    """A dead connection shows at once; one that breaks after a while was alive, and the request may be charged."""
    monkeypatch.setattr(module, "_STALE_S", 0.05)
    with peer([READ, http(ANSWER), READ, 0.2, CLOSE], [READ, http(ANSWER)]) as there:
        (_, second), free_retries = in_turn(there, 2)
        assert there.connections == 1
    assert (type(second), second.error_type, free_retries) == (Ambiguous, "connection_failed", 0)


def test_a_connection_that_the_peer_has_closed_openly_is_not_used():
    """That costs nothing at all."""
    with peer([READ, http(ANSWER), CLOSE]) as there:
        outcomes, free_retries = in_turn(there, 3, between_s=0.05)
        assert there.connections == 3
    assert all(isinstance(result, Completion) for result in outcomes)
    assert free_retries == 0


# Answers to nobody

EVIL = http({"choices": [{"message": {"content": "EVIL"}}]})


@pytest.mark.parametrize(
    "script",
    [[READ, http(ANSWER), 0.03, EVIL, READ, http(ANSWER)], [READ, http(ANSWER) + EVIL, READ, http(ANSWER)]],
    ids=["later", "at once"],
)
def test_an_answer_that_nobody_asked_for_is_given_to_nobody(script):
    """Two answers to one request: the second one must not pass for the answer to the next request."""
    with peer(script) as there:
        outcomes, free_retries = in_turn(there, 3, between_s=0.15)
    assert [result.content for result in outcomes] == ["yes"] * 3
    assert free_retries == 0


def test_the_beginning_of_an_answer_that_nobody_asked_for_ends_a_connection():
    """What would come behind it is the rest of a foreign answer."""
    with peer([READ, http(ANSWER), 0.03, EVIL[:10], READ, EVIL[10:]], [READ, http(ANSWER)]) as there:
        outcomes, free_retries = in_turn(there, 2, between_s=0.15)
        assert there.connections == 2
    assert [result.content for result in outcomes] == ["yes"] * 2
    assert free_retries == 0


def test_an_answer_to_half_a_request_ends_its_connection():
    """What is left of the request would be taken for the next one."""
    large = b'{"messages": [], "user": "' + b"x" * 30_000_000 + b'"}'

    def refuse(connection):
        connection.recv(1000)
        connection.sendall(http({"error": {"message": "too large"}}, 413))

    async def main(there):
        async with endpoint(there.base_url) as opened:
            return await outcome(opened, body=large), await outcome(opened)

    with peer([refuse, 0.5], [READ, http(ANSWER)]) as there:
        first, second = asyncio.run(main(there))
        assert there.connections == 2
    assert (first.status_code, type(second)) == (413, Completion)


def test_a_connection_that_was_idle_for_long_is_not_used(monkeypatch):
    """Many servers close such a one at any moment."""
    monkeypatch.setattr(module, "KEEP_ALIVE_S", 0.05)
    with peer([READ, http(ANSWER), READ, http(ANSWER)]) as there:
        outcomes, _ = in_turn(there, 2, between_s=0.1)
        assert there.connections == 2
    assert all(isinstance(result, Completion) for result in outcomes)


def test_an_answer_that_comes_faster_than_it_is_read_comes_in_full(monkeypatch):
    """The peer is told to wait, and then to go on."""
    at_once = HttpEndpoint._read

    async def later(*args):
        await asyncio.sleep(0.1)
        await at_once(*args)

    monkeypatch.setattr(HttpEndpoint, "_read", later)
    size = 20_000_000
    with peer([READ, http({"choices": [{"message": {"content": "x" * size}}]})]) as there:
        answer = ask(there.base_url)
    assert len(answer.content) == size


def test_a_time_out_on_a_connection_is_its_end():
    """The late answer to one request must not pass for the answer to the next one."""
    with peer([READ, 0.4, EVIL, READ, EVIL], [READ, http(ANSWER)]) as there:
        (first, second), _ = in_turn(there, 2, first_byte_s=0.2)
    assert (first.error_type, second.content) == ("timed_out", "yes")


def test_connections_are_kept_alive():
    """Twenty requests in turn need one."""
    with peer([READ, http(ANSWER)] * 20) as there:
        outcomes, _ = in_turn(there, 20)
        assert there.connections == 1
    assert all(isinstance(result, Completion) for result in outcomes)


def test_as_many_connections_as_requests_are_opened_at_once():
    """The number in flight is the engine's business: 150 at once, where the library would stop at 100."""

    async def main(there):
        async with endpoint(there.base_url) as opened:
            asking = [asyncio.create_task(outcome(opened)) for _ in range(150)]
            await until(lambda: len(there.requests) == 150)
            for task in asking:
                task.cancel()
            await asyncio.gather(*asking, return_exceptions=True)

    with peer([READ]) as there:
        asyncio.run(main(there))
        assert there.connections == 150


# TLS


@pytest.fixture(scope="module")
def certificate(tmp_path_factory):
    """A self-signed certificate for 127.0.0.1, with its key, in one file."""
    folder = tmp_path_factory.mktemp("tls")
    command = (
        "openssl req -x509 -newkey rsa:2048 -nodes -days 2 -subj /CN=127.0.0.1 -addext subjectAltName=IP:127.0.0.1"
    )
    subprocess.run(
        [*command.split(), "-keyout", "key.pem", "-out", "certificate.pem"], cwd=folder, check=True, capture_output=True
    )
    whole = folder / "whole.pem"
    whole.write_text((folder / "key.pem").read_text() + (folder / "certificate.pem").read_text())
    return whole


def speaking_tls(certificate) -> ssl.SSLContext:
    """The peer's side."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(certificate)
    return context


def test_a_certificate_that_nobody_vouches_for_ends_the_run(certificate):
    """Nothing is sent there, nothing is tried unverified, and the message says what is wrong."""
    with peer([READ, http(ANSWER)], tls=speaking_tls(certificate)) as there:
        error = ask(there.base_url, key="fw_long_enough")
        assert there.requests == []
    assert (type(error), error.error_type) == (EndpointUnusable, "connection_failed")
    assert "self-signed certificate" in error.message.replace("self signed", "self-signed")
    assert "endpoint.ca_file" in error.remedy


@pytest.mark.parametrize("script", [[b"220 smtp ready\r\n", READ], [READ, b"\x15\x03\x01\x00\x02\x02\x28", CLOSE]])
def test_a_peer_that_speaks_no_tls_ends_the_run(script):
    """Or refuses every version of it."""
    with peer([0.05, *script[-2:]] if script[0] == READ else script) as there:
        error = ask(there.base_url.replace("http:", "https:"))
    assert (type(error), error.error_type) == (EndpointUnusable, "connection_failed")


@pytest.mark.parametrize("end", [CLOSE, RESET])
def test_a_handshake_that_breaks_off_was_not_sent(end):
    """A busy gateway does that: the request costs nothing to send again."""
    with peer([end]) as there:
        error = ask(there.base_url.replace("http:", "https:"))
    assert (type(error), error.error_type) == (NotSent, "connection_failed")


def test_a_silent_handshake_was_not_sent():
    """The connection did not come about in time."""
    with peer([5]) as there:
        error = ask(there.base_url.replace("http:", "https:"), connect_s=0.2)
    assert (type(error), error.error_type) == (NotSent, "connection_failed")


# Nothing is left behind

PROGRAM = """
import asyncio, sys
from asking import endpoint, outcome

async def main(base_urls):
    for base_url in base_urls:
        async with endpoint(base_url, first_byte_s=0.3) as opened:
            hanging = [asyncio.create_task(outcome(opened)) for _ in range(3)]
            print(*[type(await outcome(opened)).__name__ for _ in range(4)])
            await asyncio.sleep(0.05)
            for task in hanging[:2]:
                task.cancel()
            await asyncio.gather(*hanging, return_exceptions=True)

asyncio.run(main(sys.argv[1:]))
"""


def test_nothing_is_left_unclosed(certificate):
    """Every warning is an error; there were answers, resets, a time-out, cancelled requests, plain and over TLS."""
    script = [READ, http(ANSWER), READ, http(ANSWER, 500), READ, CLOSE]
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(Path(__file__).parent)])}
    env["SSL_CERT_FILE"] = str(certificate)
    with peer(script, [READ, RESET], [READ], script) as plain, peer(script, tls=speaking_tls(certificate)) as secure:
        command = [sys.executable, "-W", "error", "-c", PROGRAM, plain.base_url, secure.base_url]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert set(done.stdout.split()[-4:]) == {"Completion", "Ambiguous"}

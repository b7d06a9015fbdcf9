"""The network between us and an endpoint: slow, sliced, cut, silent, stopped, unknown; and TLS of every wrong kind."""

# ruff: noqa: E501 (a table is read by the row)

from __future__ import annotations

import asyncio
import os
import signal
import socket
import subprocess
import sys
import time
from pathlib import Path as FilePath
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, NamedTuple

import pytest
from asking import ask, endpoint, outcome, request
from catalogue import BROKEN, FORMS, GOOD, LATE, NOT_SENT, PLAIN, STREAM, TRUNCATED, UNREADABLE, WAIT_S, Form, Outcome
from certificates import Authority
from peers import CLOSE, READ, RESET, http, nobody, peer
from servers import ROOT, simulated
from toxic import CLEAR, Flow, Path, toxic

from batchrun.errors import ConfigError, EndpointUnusable
from batchrun.types import Completion

if TYPE_CHECKING:
    from collections.abc import Mapping

UNUSABLE: Outcome = EndpointUnusable, "connection_failed"
PADDING = b', "user": "' + b"x" * 300_000 + b'"}'
HEAD_BYTES = len(http(b""))
FIRST = {"first_byte_s": WAIT_S}
IDLE = {"idle_s": WAIT_S}
ATTEMPT = {"attempt_s": WAIT_S}


class Scenario(NamedTuple):
    """What the network does to one request, what comes of it, and whether it reached the server."""

    path: Path
    outcome: Outcome
    reached: bool = True
    limits: Mapping[str, float] = MappingProxyType({})
    large: bool = False


def scenarios(form: Form) -> dict[str, Scenario]:
    """For an answer with a length; the server is a good one."""
    whole = HEAD_BYTES + len(str(len(form.body))) + len(form.body) - 1
    half = whole - len(form.body) // 2
    one = Scenario

    def down(**flow: Any) -> Path:
        return Path(down=Flow(**flow))

    def up(**flow: Any) -> Path:
        return Path(up=Flow(**flow))

    return {
        "nothing": one(CLEAR, GOOD),
        "latency both ways": one(Path(Flow(latency_s=0.05), Flow(latency_s=0.05)), GOOD),
        "latency beyond the first byte": one(down(latency_s=1), LATE, limits=FIRST),
        "an answer in slices of a byte": one(down(slice_bytes=1), GOOD),
        "an answer in slices of 7 bytes": one(down(slice_bytes=7), GOOD),
        "an answer at 5 KB a second": one(down(slice_bytes=50, bytes_per_s=5000), GOOD),
        "an answer at 50 bytes a second": one(down(slice_bytes=1, bytes_per_s=50), LATE, limits=ATTEMPT),
        "a request in slices": one(up(slice_bytes=1000), GOOD, large=True),
        "a request at 1 MB a second": one(up(slice_bytes=10_000, bytes_per_s=1e6), GOOD, large=True),
        "a request at 50 KB a second": one(up(slice_bytes=1000, bytes_per_s=50_000), LATE, reached=False, limits=ATTEMPT, large=True),
        "a late connection": one(Path(connect_after_s=0.1), GOOD),
        "a connection that comes too late": one(Path(connect_after_s=1), LATE, reached=False, limits=FIRST),
        "reset at the first byte": one(down(ends_after=1), BROKEN),
        "reset in the status line": one(down(ends_after=10), BROKEN),
        "reset in the headers": one(down(ends_after=HEAD_BYTES - 5), BROKEN),
        "reset in the body": one(down(ends_after=half), TRUNCATED),
        "reset after the answer": one(down(ends_after=whole), GOOD),
        "closed at the first byte": one(down(ends_after=1, end="close"), BROKEN),
        "closed in the body": one(down(ends_after=half, end="close"), TRUNCATED),
        "closed after the answer": one(down(ends_after=whole, end="close"), GOOD),
        "half closed in the body": one(down(ends_after=half, end="half"), TRUNCATED),
        "half closed after the answer": one(down(ends_after=whole, end="half"), GOOD),
        "silent from the first byte": one(down(ends_after=1, end="silent"), LATE, limits=FIRST),
        "silent in the body": one(down(ends_after=half, end="silent"), LATE, limits=IDLE),
        "silent after the answer": one(down(ends_after=whole, end="silent"), GOOD, limits=IDLE),
        "reset at the first byte of the request": one(up(ends_after=1), BROKEN, reached=False),
        "reset in the request": one(up(ends_after=100_000), BROKEN, reached=False, large=True),
        "closed in the request": one(up(ends_after=100_000, end="close"), BROKEN, reached=False, large=True),
        "half closed in the request": one(up(ends_after=100_000, end="half"), BROKEN, reached=False, large=True),
        "silent in the request": one(up(ends_after=100_000, end="silent"), LATE, reached=False, limits=FIRST, large=True),
    }  # fmt: skip


SCENARIOS = 30
"""For each form; with those that follow there are more than a hundred."""


@pytest.mark.parametrize("form", FORMS)
def test_what_the_network_does_has_an_outcome(form):
    """All at once, a proxy each: class and error_type, and no request reaches the server twice."""
    table = scenarios(FORMS[form])
    assert len(table) >= SCENARIOS
    assert asyncio.run(_all(FORMS[form], table)) == {}


async def _all(form: Form, table: dict[str, Scenario]) -> dict[str, str]:
    said = await asyncio.gather(*(_try(form, one) for one in table.values()))
    return {name: text for name, text in zip(table, said, strict=True) if text}


async def _try(form: Form, one: Scenario) -> str:
    """What is wrong with one outcome; nothing if all is right."""
    body = request(stream=form.stream).body[:-1] + PADDING if one.large else None
    with peer([READ, http(form.body)]) as there, toxic(there.port, one.path) as between:
        async with endpoint(f"http://127.0.0.1:{between.port}/v1", **one.limits) as opened:
            result = await outcome(opened, body=body, stream=form.stream)
        reached = len(there.requests)
    got = type(result), getattr(result, "error_type", None)
    right = got == one.outcome and reached == one.reached and getattr(result, "content", "yes") == "yes"
    return "" if right else f"{got}, reached by {reached}: {result!r:.100}"


# Dead connections, and the one retry that is free


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize("end", ["close", "reset"])
@pytest.mark.parametrize("paths", [1, 2], ids=["the retry is answered", "the retry dies too"])
def test_a_connection_that_dies_between_two_requests_costs_one_free_retry(form, end, paths):
    """A middlebox drops what was idle: sent again once, on a fresh connection, and never more than that."""
    dying = Path(up=Flow(ends_after=1, end=end))

    async def both(between):
        async with endpoint(f"http://127.0.0.1:{between.port}/v1") as opened:
            first = await outcome(opened, stream=form.stream)
            second = await outcome(opened, stream=form.stream)
            return first, second, opened.free_retries

    size = len(_request_bytes(form))
    kept = Path(up=Flow(ends_after=size + 1, end=end))
    with peer([READ, http(form.body)] * 2) as there, toxic(there.port, kept, CLEAR if paths == 1 else dying) as between:
        first, second, free_retries = asyncio.run(both(between))
        assert (between.connections, free_retries) == (2, 1)
        assert len(there.requests) == (2 if paths == 1 else 1)
    assert first.content == "yes"
    assert (type(second), getattr(second, "error_type", None)) == (GOOD if paths == 1 else BROKEN)


def _request_bytes(form: Form) -> bytes:
    """All that is sent for one request; the port of the proxy has as many digits as this one's."""
    with peer([READ, http(form.body)]) as there:
        ask(there.base_url, stream=form.stream)
        return there.requests[0]


# A server that is stopped, killed, gone


@pytest.fixture(scope="module")
def server():
    """The simulated endpoint as a process of its own, which a test may stop."""
    with simulated() as one:
        yield one


BODIES = {
    "plain": b'{"model": "simulated/small", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8}',
    "stream": b'{"model": "simulated/small", "messages": [{"role": "user", "content": "Hello"}], "max_tokens": 8, "stream": true}',
}


@pytest.mark.rig
@pytest.mark.parametrize("form", BODIES)
def test_a_server_that_is_stopped_is_late_and_good_again_afterwards(server, form):
    """The kernel takes the request in its name; nobody answers. When it goes on, so do we."""

    async def main():
        stream = form == "stream"
        async with endpoint(server.base_url, first_byte_s=WAIT_S) as opened:
            os.kill(server.pid, signal.SIGSTOP)
            try:
                during = await outcome(opened, body=BODIES[form], stream=stream)
            finally:
                os.kill(server.pid, signal.SIGCONT)
        async with endpoint(server.base_url) as opened:
            return during, await outcome(opened, body=BODIES[form], stream=stream)

    during, after = asyncio.run(main())
    assert (type(during), during.error_type) == LATE
    assert isinstance(after, Completion), after


@pytest.mark.rig
@pytest.mark.parametrize("form", BODIES)
def test_a_server_that_is_stopped_for_a_moment_is_waited_for(server, form):
    """Within the deadline nothing is lost and nothing sent twice."""

    async def main():
        async with endpoint(server.base_url) as opened:
            os.kill(server.pid, signal.SIGSTOP)
            asyncio.get_running_loop().call_later(0.2, os.kill, server.pid, signal.SIGCONT)
            return await outcome(opened, body=BODIES[form], stream=form == "stream")

    before = len(server.ledger())
    assert isinstance(asyncio.run(main()), Completion)
    assert len(server.ledger()) == before + 1


@pytest.mark.rig
def test_a_server_that_is_stopped_in_the_middle_of_a_stream_is_ended_by_the_idle_deadline():
    """What had come is no answer."""
    tokens = {"latency": {"ttft_s": 0, "per_token_s": 0.05, "sigma": 0}, "answers": {"tokens": 40, "sigma": 0}}

    async def main(one, between):
        async with endpoint(f"http://127.0.0.1:{between.port}/v1", idle_s=0.4) as opened:
            asking = asyncio.create_task(outcome(opened, body=BODIES["stream"].replace(b": 8", b": 400"), stream=True))
            await asyncio.sleep(0.3)
            os.kill(one.pid, signal.SIGSTOP)
            return await asking

    with simulated(tokens) as one, toxic(int(one.base_url.split(":")[2].split("/")[0])) as between:
        error = asyncio.run(main(one, between))
        os.kill(one.pid, signal.SIGCONT)
    assert (type(error), error.error_type) == LATE


@pytest.mark.rig
@pytest.mark.parametrize("form", BODIES)
def test_a_server_that_is_killed_breaks_and_then_refuses(form):
    """What was in flight may have been charged; what comes later was not sent."""
    silent = {"latency": {"ttft_s": 5, "per_token_s": 0, "sigma": 0}}

    async def main(one):
        async with endpoint(one.base_url) as opened:
            asking = asyncio.create_task(outcome(opened, body=BODIES[form], stream=form == "stream"))
            await asyncio.sleep(0.3)
            one.kill()
            return await asking, await outcome(opened, body=BODIES[form], stream=form == "stream")

    with simulated(silent) as one:
        during, after = asyncio.run(main(one))
    assert (type(during), during.error_type) in (BROKEN, TRUNCATED)
    assert (type(after), after.error_type) == NOT_SENT


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_nobody_listens(form):
    """Refused is not sent."""
    error = ask(nobody(), stream=form.stream)
    assert (type(error), error.error_type) == NOT_SENT


# Names

NAMES = {
    "an unknown name": socket.gaierror(socket.EAI_NONAME, "Name or service not known"),
    "a name server that is down": socket.gaierror(socket.EAI_AGAIN, "Temporary failure in name resolution"),
    "a name server that fails": socket.gaierror(socket.EAI_FAIL, "Non-recoverable failure in name resolution"),
    "no more files": OSError(24, "Too many open files"),
}


@pytest.mark.parametrize("name", NAMES)
def test_a_name_that_leads_nowhere_was_not_sent(name, monkeypatch):
    """Without asking a name server: its answer is put in."""

    def answer(*_: Any, **__: Any) -> Any:
        raise NAMES[name]

    monkeypatch.setattr(socket, "getaddrinfo", answer)
    error = ask("http://nosuch.example/v1", connect_s=2)
    assert (type(error), error.error_type) == NOT_SENT, error
    assert "nosuch.example" in error.message


def test_a_name_server_that_does_not_answer_is_waited_for_as_long_as_a_connection(monkeypatch):
    """And no longer."""
    monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: time.sleep(0.6) or [])
    error = ask("http://nosuch.example/v1", connect_s=0.2)
    assert (type(error), error.error_type) == NOT_SENT
    assert "took too long" in error.message


def test_of_several_addresses_one_that_answers_is_enough(monkeypatch):
    """The first one refuses, as ::1 does where a server listens on 127.0.0.1 alone."""
    with peer([READ, http(PLAIN.body)]) as there:
        dead = int(nobody().split(":")[2].split("/")[0])
        found = [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("127.0.0.1", port)) for port in (dead, there.port)]
        monkeypatch.setattr(socket, "getaddrinfo", lambda *_, **__: found)
        assert ask(f"http://two.example:{there.port}/v1").content == "yes"


# TLS


@pytest.fixture(scope="module")
def authority(tmp_path_factory):
    """Ours."""
    return Authority(tmp_path_factory.mktemp("authority"))


@pytest.fixture(scope="module")
def right(authority):
    """A server's side with which nothing is wrong."""
    return authority.issue("right")


@pytest.fixture(scope="module")
def certificates(authority):
    """A server's side of each kind, with what is wrong with it."""
    return {
        "expired": (authority.issue("expired", ends="20200201"), "certificate has expired"),
        "not valid yet": (authority.issue("early", starts="20480101"), "certificate is not yet valid"),
        "for another host": (authority.issue("other", hosts="DNS:other.example"), "IP address mismatch"),
        "for this host by name only": (authority.issue("named", hosts="DNS:localhost"), "IP address mismatch"),
        "signed by itself": (authority.sign_itself("itself"), "self-signed certificate"),
    }


@pytest.mark.parametrize(
    "kind", ["expired", "not valid yet", "for another host", "for this host by name only", "signed by itself"]
)
@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_wrong_certificate_ends_the_run(certificates, authority, kind, form):
    """Nothing is sent there, nothing is tried unverified, and the message says what is wrong."""
    server_side, why = certificates[kind]
    with peer([READ, http(form.body)], tls=server_side) as there:
        error = ask(there.base_url, key="fw_long_enough", ca_file=authority.ca_file, stream=form.stream)
        assert there.requests == []
    assert (type(error), error.error_type) == UNUSABLE
    assert why in error.message.replace("self signed", "self-signed")


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_a_right_certificate_of_an_authority_in_ca_file_is_taken(authority, right, form):
    """By address, and by name; and its authority is not trusted without being named."""
    with peer([READ, http(form.body)], tls=right) as there:
        assert ask(there.base_url, ca_file=authority.ca_file, stream=form.stream).content == "yes"
        by_name = there.base_url.replace("127.0.0.1", "localhost")
        assert ask(by_name, ca_file=authority.ca_file, stream=form.stream).content == "yes"
        error = ask(there.base_url, stream=form.stream)
        assert len(there.requests) == 2
    assert (type(error), error.error_type) == UNUSABLE
    assert "endpoint.ca_file" in error.remedy


def test_an_authority_of_another_is_not_trusted(right, tmp_path):
    """A certificate by the same name, but not of that key."""
    other = Authority(tmp_path)
    with peer([READ, http(PLAIN.body)], tls=right) as there:
        error = ask(there.base_url, ca_file=other.ca_file)
        assert there.requests == []
    assert (type(error), error.error_type) == UNUSABLE


@pytest.mark.parametrize(
    "content", [None, "", "no certificate", "-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
def test_a_ca_file_that_is_none_is_refused_before_anything_is_sent(content, tmp_path):
    """Missing, empty, something else, broken."""
    path = tmp_path / "ca.pem"
    if content is not None:
        path.write_text(content)
    with pytest.raises(ConfigError, match=r"endpoint\.ca_file"):
        ask(nobody(), ca_file=str(path))


PROGRAM = "import sys; from asking import ask; print(type(ask(sys.argv[1])).__name__)"


@pytest.mark.rig
def test_the_variable_of_openssl_names_an_authority_too(authority, right):
    """SSL_CERT_FILE, as every program has it; read by a process of its own."""
    env = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), str(FilePath(__file__).parent)])}
    env["SSL_CERT_FILE"] = authority.ca_file
    with peer([READ, http(PLAIN.body)], tls=right) as there:
        command = [sys.executable, "-c", PROGRAM, there.base_url]
        done = subprocess.run(command, env=env, capture_output=True, text=True, timeout=30, check=False)
    assert (done.stdout.strip(), done.stderr) == ("Completion", "")


def test_a_plain_server_where_tls_is_expected_ends_the_run():
    """It answers a handshake with HTTP 400, in words that are no TLS."""
    with peer([b"HTTP/1.1 400 Bad Request\r\n\r\n", CLOSE]) as there:
        error = ask(there.base_url.replace("http:", "https:"))
    assert (type(error), error.error_type) == UNUSABLE


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
def test_plain_http_to_a_server_that_speaks_tls_is_no_answer(right, form):
    """It answers with an alert, or breaks the connection."""
    with peer([READ, http(form.body)], tls=right) as there:
        error = ask(there.base_url.replace("https:", "http:"), stream=form.stream)
        assert there.requests == []
    assert (type(error), error.error_type) in (UNREADABLE, BROKEN), error


@pytest.mark.parametrize("ends_after", [1, 100, 500])
@pytest.mark.parametrize("end", ["close", "reset", "half"])
def test_a_handshake_that_breaks_off_was_not_sent(authority, right, ends_after, end):
    """After any number of bytes of the server's part."""
    path = Path(down=Flow(ends_after=ends_after, end=end))
    with peer([READ, http(PLAIN.body)], tls=right) as there, toxic(there.port, path) as between:
        error = ask(f"https://127.0.0.1:{between.port}/v1", ca_file=authority.ca_file)
        assert there.requests == []
    assert (type(error), error.error_type) == NOT_SENT, error


def test_a_handshake_that_falls_silent_was_not_sent(authority, right):
    """The connection did not come about in time."""
    path = Path(down=Flow(ends_after=100, end="silent"))
    with peer([READ, http(PLAIN.body)], tls=right) as there, toxic(there.port, path) as between:
        error = ask(f"https://127.0.0.1:{between.port}/v1", ca_file=authority.ca_file, connect_s=0.4)
        assert there.requests == []
    assert (type(error), error.error_type) == NOT_SENT


@pytest.mark.parametrize("form", FORMS.values(), ids=FORMS)
@pytest.mark.parametrize(("script", "expected"), [([READ, CLOSE], BROKEN), ([READ, RESET], BROKEN), ([READ, http("{", length=99), CLOSE], TRUNCATED)], ids=["closed", "reset", "closed in the body"])  # fmt: skip
def test_a_break_over_tls_is_like_one_without(authority, right, form, script, expected):
    """After the handshake nothing is special."""
    with peer(script, tls=right) as there:
        error = ask(there.base_url, ca_file=authority.ca_file, stream=form.stream)
        assert len(there.requests) == 1
    assert (type(error), error.error_type) == expected


def test_a_stream_over_tls_comes_in_slices(authority, right):
    """Records of TLS cut up by the network."""
    path = Path(down=Flow(slice_bytes=11))
    with peer([READ, http(STREAM.body)], tls=right) as there, toxic(there.port, path) as between:
        assert ask(f"https://127.0.0.1:{between.port}/v1", ca_file=authority.ca_file, stream=True).content == "yes"

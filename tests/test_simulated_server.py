from __future__ import annotations

import hashlib
import json
import socket
from contextlib import ExitStack, suppress
from http.client import HTTPConnection, IncompleteRead, RemoteDisconnected
from urllib.parse import urlsplit

import pytest
from servers import simulated

REFUSED = {"rate_limited": 429, "overloaded": 503, "server_error": 500, "auth": 401, "redirect": 307, "html": 200}
CHARGED = ("reset_before_answer", "reset", "truncated", "bad_json", "empty", "no_choices", "error_in_200", "slow")


@pytest.fixture(scope="module")
def server():
    """A server where every fault strikes the prompts that name it, and the model `m` is there."""
    kinds = [*REFUSED, *CHARGED, "silent", "close_silently"]
    faults = [{"kind": kind, "match": f"please {kind}", "seconds": 0.01} for kind in kinds]
    faults.append({"kind": "server_error", "match": "bad gateway", "status": 502})
    faults.append({"kind": "rate_limited", "match": "come back", "retry_after_s": 1.5})
    with simulated({"faults": faults}) as running:
        yield running


@pytest.fixture(scope="module")
def busy():
    """A server with three places that takes an hour for an answer."""
    with simulated({"limits": {"concurrency": 3}, "latency": {"ttft_s": 3600}}) as running:
        yield running


def opened(server, prompt, **params):
    """A connection on which a request was sent and no answer read."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": prompt}], **params}).encode()
    url = urlsplit(server.base_url)
    connection = socket.create_connection((url.hostname, url.port), timeout=10)
    head = f"POST /v1/chat/completions HTTP/1.1\r\nhost: {url.netloc}\r\ncontent-length: {len(body)}\r\n\r\n"
    connection.sendall(head.encode() + body)
    return connection


def wait_until(condition):
    """Ask again until it holds; each time is a round trip to the server."""
    for _ in range(20_000):
        if condition():
            return
    raise AssertionError("it did not happen")


def test_an_answer_has_the_documented_shape(server):
    """Body, usage and choice are those of a chat completion."""
    answer = server.ask("hello")
    assert (answer.status, answer.json["object"], answer.json["model"]) == (200, "chat.completion", "m")
    assert list(answer.json["usage"]) == ["prompt_tokens", "completion_tokens", "total_tokens", "prompt_tokens_details"]
    (choice,) = answer.json["choices"]
    assert (list(choice), choice["finish_reason"]) == (["index", "message", "finish_reason"], "stop")
    assert answer.content.startswith('Simulated answer to "hello":')


def test_an_answer_has_the_performance_headers(server):
    """Counts and seconds are in headers, and in the body only when asked for."""
    answer = server.ask("hello", perf_metrics_in_response=True)
    names = (
        "prompt-tokens",
        "cached-prompt-tokens",
        "server-time-to-first-token",
        "server-processing-time",
    )
    assert {name: answer.headers[f"fireworks-{name}"] for name in names} == answer.json["perf_metrics"]
    assert "perf_metrics" not in server.ask("hello").json


def test_an_answer_names_its_server_and_request(server):
    """The server says what it is; the request id is unique, and the client's own where it sent one."""
    first, second = server.ask("hello"), server.ask("hello")
    assert first.headers["server"] == "batchrun-simulated"
    assert first.headers["x-request-id"] != second.headers["x-request-id"]
    assert first.headers["x-ratelimit-over-limit"] == "no"


@pytest.mark.parametrize("path", ["/v1/chat/completions", "/inference/v1/chat/completions", "/chat/completions"])
def test_any_prefix_is_served(server, path):
    """The endpoint stands wherever a base URL may point."""
    assert server.post(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', path).status == 200


def test_other_paths_are_not_found(server):
    """404 in the shape of the endpoint, naming the path."""
    answer = server.post(b"{}", "/v1/rerank")
    assert (answer.status, answer.json["error"]["code"]) == (404, "NOT_FOUND")
    assert "/v1/rerank" in answer.json["error"]["message"]


def test_a_missing_model_is_not_found(server):
    """A model whose name contains `missing` is not there."""
    answer = server.ask("hello", model="accounts/fireworks/models/missing-1")
    assert answer.status == 404
    assert answer.json["error"]["message"] == "Model not found, inaccessible, and/or not deployed"


def test_models_are_listed(server):
    """GET /models is an OpenAI list."""
    connection = HTTPConnection(urlsplit(server.base_url).netloc, timeout=10)
    connection.request("GET", "/inference/v1/models")
    listed = json.loads(connection.getresponse().read())
    connection.close()
    assert "accounts/fireworks/models/glm-5p3-flash" in [model["id"] for model in listed["data"]]


def test_a_key_is_asked_for_only_when_one_is_set(server):
    """With --api-key every other key is refused, and nothing is charged for it."""
    with simulated(api_key="right") as guarded:
        answers = [guarded.ask("x", key=key) for key in (None, "wrong", "right")]
        assert [answer.status for answer in answers] == [401, 401, 200]
        assert answers[0].json["error"]["code"] == "UNAUTHORIZED"
        assert len(guarded.ledger()) == 1
    assert server.ask("x").status == 200


def test_a_served_request_is_in_the_ledger(server):
    """The line has the hash of the exact body, the words, and the counts of the answer."""
    body = json.dumps({"model": "m", "messages": [{"role": "user", "content": "a line " + "y" * 300}]}).encode()
    usage = server.post(body).json["usage"]
    line = server.ledger()[-1]
    assert line["body_sha256"] == hashlib.sha256(body).hexdigest()
    assert line["last_user"] == ("a line " + "y" * 300)[:200]
    assert {name: line[name] for name in ("prompt_tokens", "completion_tokens")} == {
        name: usage[name] for name in ("prompt_tokens", "completion_tokens")
    }
    assert (line["status"], line["model"], line["in_flight"]) == (200, "m", 1)


@pytest.mark.parametrize(("kind", "status"), REFUSED.items())
def test_a_refusing_fault_is_not_charged(server, kind, status):
    """The request was not worked on, so the ledger does not grow."""
    before = len(server.ledger())
    assert server.ask(f"please {kind}").status == status
    assert len(server.ledger()) == before


@pytest.mark.parametrize("kind", CHARGED)
@pytest.mark.parametrize("stream", [False, True])
def test_a_spoilt_answer_is_charged(server, kind, stream):
    """The work was done, whatever became of the answer."""
    before = len(server.ledger())
    with suppress(ConnectionResetError, IncompleteRead):
        server.ask(f"please {kind}", stream=stream)
    assert len(server.ledger()) == before + 1


def test_the_status_of_a_server_error_can_be_chosen(server):
    """A scenario can have any of its relatives."""
    assert server.ask("bad gateway").status == 502


def test_rate_limits_come_in_every_shape_that_was_seen(server):
    """Three in a row have the bare, the wrapped and the string form."""
    bodies = [server.ask("please rate_limited").json for _ in range(3)]
    assert sorted(type(body.get("error")).__name__ for body in bodies) == ["NoneType", "dict", "str"]


def test_retry_after_is_sent_only_if_it_is_given(server):
    """Fireworks was not seen to send it."""
    assert "retry-after" not in server.ask("please rate_limited").headers
    assert server.ask("come back").headers["retry-after"] == "1.5"


def test_a_redirect_that_is_followed_shows_in_the_ledger(server):
    """The other path is served here, so nobody follows it unseen."""
    location = server.ask("please redirect").headers["location"]
    assert location.startswith(server.base_url.removesuffix("/v1"))
    before = len(server.ledger())
    server.post(b'{"model":"m","messages":[{"role":"user","content":"x"}]}', urlsplit(location).path)
    assert len(server.ledger()) == before + 1


def test_html_is_a_page(server):
    """A page with 200, as networks with a sign-in send it."""
    answer = server.ask("please html")
    assert answer.headers["content-type"].startswith("text/html")
    assert answer.body.startswith(b"<!DOCTYPE html>")


@pytest.mark.parametrize("stream", [False, True])
def test_a_reset_is_a_reset(server, stream):
    """The peer sees ECONNRESET, not an orderly end."""
    for kind in ("reset", "reset_before_answer"):
        with pytest.raises(ConnectionResetError):
            server.ask(f"please {kind}", stream=stream)


def test_a_truncated_answer_is_shorter_than_it_said(server):
    """The connection ends before Content-Length is reached."""
    with pytest.raises(IncompleteRead) as caught:
        server.ask("please truncated")
    assert caught.value.partial
    assert caught.value.expected, "the rest that Content-Length promised"


def test_bad_json_is_whole_but_unreadable(server):
    """Content-Length is right, the JSON is not."""
    with pytest.raises(json.JSONDecodeError):
        _ = server.ask("please bad_json").json


def test_empty_answers(server):
    """One has no words in its choice, the other no choice."""
    assert server.ask("please empty").content == ""
    assert server.ask("please no_choices").json["choices"] == []


def test_an_error_can_hide_in_a_200(server):
    """The status is good, the body is an error."""
    answer = server.ask("please error_in_200")
    assert (answer.status, list(answer.json)) == (200, ["error"])


def test_a_silent_request_is_charged_and_stays_in_flight_until_the_client_leaves(server):
    """Nothing comes back; the ledger has it."""
    before = server.totals()["charged"]
    with opened(server, "please silent"):
        wait_until(lambda: server.totals()["charged"] == before + 1)
        assert server.totals()["in_flight"] == 1
    wait_until(lambda: server.totals()["in_flight"] == 0)


def test_a_client_that_leaves_a_plain_request_is_charged_in_full(busy):
    """Only streams can be cut short: the ledger has the whole answer, with no status sent."""
    with opened(busy, "hello"):
        wait_until(lambda: busy.totals()["in_flight"] == 1)
    wait_until(lambda: busy.totals()["in_flight"] == 0)
    line = busy.ledger()[-1]
    assert line["status"] == 0
    assert line["completion_tokens"] > 10
    assert line["aborted"]


def test_the_server_counts_what_is_in_flight_and_refuses_beyond_its_ceiling(busy):
    """With three places the fourth request at the same time gets 429; the peak is seen."""
    with ExitStack() as connections:
        for _ in range(3):
            connections.enter_context(opened(busy, "hello"))
        wait_until(lambda: busy.totals()["in_flight"] == 3)
        assert busy.ask("hello").status == 429
        assert busy.totals()["peak_in_flight"] == 4
    wait_until(lambda: busy.totals()["in_flight"] == 0)


def test_a_connection_is_kept_alive(server):
    """Several requests go over one connection, also after a refusal."""
    connection = HTTPConnection(urlsplit(server.base_url).netloc, timeout=10)
    statuses = []
    for body in (b"no", b'{"model":"m","messages":[{"role":"user","content":"x"}]}', b"no"):
        connection.request("POST", "/v1/chat/completions", body)
        answer = connection.getresponse()
        answer.read()
        statuses.append(answer.status)
        assert connection.sock is not None
    connection.close()
    assert statuses == [400, 200, 400]


def test_a_connection_can_be_closed_silently(server):
    """The answer is whole and does not say so; the next request on that connection gets none, and is not counted."""
    connection = HTTPConnection(urlsplit(server.base_url).netloc, timeout=10)
    body = b'{"model":"m","messages":[{"role":"user","content":"please close_silently"}]}'
    connection.request("POST", "/v1/chat/completions", body)
    answer = connection.getresponse()
    assert json.loads(answer.read())["choices"]
    assert answer.getheader("connection") is None
    before = server.totals()["requests"]
    connection.request("POST", "/v1/chat/completions", body)
    with pytest.raises(RemoteDisconnected):
        connection.getresponse()
    connection.close()
    assert server.totals()["requests"] == before

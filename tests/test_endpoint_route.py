"""The way to an endpoint: through a proxy if one is asked for, vouched for by a file if one is named."""

from __future__ import annotations

import socket
import threading

import pytest
from asking import KEY, ask
from peers import ANSWER, CLOSE, READ, http, nobody, peer
from test_endpoint_connections import certificate, speaking_tls  # noqa: F401 (a fixture)

from batchrun.errors import ConfigError, EndpointUnusable, NotSent
from batchrun.types import Completion

PROXIES = ("HTTP_PROXY", "HTTPS_PROXY", "NO_PROXY", "ALL_PROXY")


@pytest.fixture(autouse=True)
def _no_proxies(monkeypatch):
    """Whatever the machine has."""
    for name in PROXIES:
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.lower(), raising=False)


def test_a_named_proxy_gets_the_request():
    """With the address of the endpoint in its first line."""
    with peer([READ, http(ANSWER)]) as proxy:
        done = ask("http://models.example/v1", proxy=f"http://127.0.0.1:{proxy.port}", key=KEY)
        line = proxy.requests[0].partition(b"\r\n")[0]
    assert isinstance(done, Completion), done
    assert line == b"POST http://models.example/v1/chat/completions HTTP/1.1"


def test_the_environment_is_read_only_on_request(monkeypatch):
    """`proxy: env` does; without it nothing of it counts."""
    with peer([READ, http(ANSWER)]) as proxy, peer([READ, http(ANSWER)]) as there:
        monkeypatch.setenv("http_proxy", f"127.0.0.1:{proxy.port}")
        assert isinstance(ask(there.base_url), Completion)
        assert (proxy.connections, there.connections) == (0, 1)
        assert isinstance(ask("http://models.example/v1", proxy="env"), Completion)
        assert proxy.connections == 1


def test_no_proxy_names_hosts_to_ask_directly(monkeypatch):
    """As for other programs."""
    with peer([READ, http(ANSWER)]) as there:
        monkeypatch.setenv("http_proxy", nobody().removesuffix("/v1"))
        monkeypatch.setenv("no_proxy", "127.0.0.1")
        assert isinstance(ask(there.base_url, proxy="env"), Completion)


def test_a_password_in_the_environment_is_sent_and_told_to_nobody(monkeypatch):
    """It goes to the proxy as Basic authorization, and out of everything that comes back."""
    answer = http({**ANSWER, "choices": [{"message": {"content": "the word is s3cret-enough"}}]})
    with peer([READ, answer]) as proxy:
        monkeypatch.setenv("http_proxy", f"http://me:s3cret-enough@127.0.0.1:{proxy.port}")
        done = ask("http://models.example/v1", proxy="env")
        assert b"Proxy-Authorization: Basic" in proxy.requests[0]
    assert done.content == "the word is [key]"


def test_a_proxy_that_is_not_there_costs_nothing():
    """The request was not sent."""
    error = ask("http://models.example/v1", proxy=nobody().removesuffix("/v1"))
    assert (type(error), error.error_type) == (NotSent, "connection_failed")


@pytest.mark.parametrize(("status", "kind"), [(407, EndpointUnusable), (502, NotSent), (403, NotSent)])
def test_a_proxy_that_opens_no_tunnel_has_sent_nothing(status, kind):
    """A wrong password ends the run, other refusals may pass."""
    with peer([READ, http("", status), CLOSE]) as proxy:
        error = ask("https://models.example/v1", proxy=f"http://127.0.0.1:{proxy.port}", key=KEY)
        assert proxy.requests[0].startswith(b"CONNECT models.example:443 HTTP/1.1\r\n")
        assert KEY.encode() not in proxy.requests[0]
    assert (type(error), error.error_type) == (kind, "connection_failed")


def test_tls_goes_through_a_tunnel(certificate):  # noqa: F811
    """The proxy sees a host and a port; the certificate of the endpoint is checked all the same."""
    with peer([READ, http(ANSWER)], tls=speaking_tls(certificate)) as there:

        def tunnel(connection: socket.socket) -> None:
            connection.sendall(b"HTTP/1.1 200 Connection established\r\n\r\n")
            with socket.create_connection(("127.0.0.1", there.port)) as onward:
                back = threading.Thread(target=pump, args=(onward, connection), daemon=True)
                back.start()
                pump(connection, onward)
                back.join(10)

        proxy_scripts = [READ, tunnel]
        with peer(proxy_scripts, proxy_scripts) as proxy:
            way = f"http://127.0.0.1:{proxy.port}"
            done = ask(there.base_url, proxy=way, ca_file=str(certificate))
            refused = ask(there.base_url, proxy=way)
    assert isinstance(done, Completion), done
    assert isinstance(refused, EndpointUnusable), refused


def pump(source: socket.socket, target: socket.socket) -> None:
    """Pass on what comes until it ends."""
    try:
        while data := source.recv(65536):
            target.sendall(data)
        target.shutdown(socket.SHUT_WR)
    except OSError:
        return


def test_a_private_authority_vouches_for_an_endpoint(certificate):  # noqa: F811
    """Named in the configuration."""
    with peer([READ, http(ANSWER)], tls=speaking_tls(certificate)) as there:
        assert isinstance(ask(there.base_url, ca_file=str(certificate)), Completion)


@pytest.mark.parametrize("text", [None, "", "no PEM"])
def test_an_authority_file_that_is_none_is_refused(tmp_path, text):
    """Before anything is sent, by its name."""
    path = tmp_path / "ca.pem"
    if text is not None:
        path.write_text(text)
    with pytest.raises(ConfigError, match=r"ca\.pem"):
        ask("https://models.example/v1", ca_file=str(path))


@pytest.mark.parametrize("proxy", ["ftp://a:1", "http://", "nonsense", "", "http://me:pass@host:1", "http://[::1"])
def test_a_proxy_that_cannot_be_is_refused(proxy):
    """And so is a password in a file."""
    with pytest.raises(ConfigError, match=r"endpoint\.proxy"):
        ask("http://models.example/v1", proxy=proxy)

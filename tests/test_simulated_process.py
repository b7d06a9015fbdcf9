from __future__ import annotations

import os
import re
import signal
import socket
import subprocess
import sys
import urllib.request
from urllib.parse import urlsplit

import pytest
from click.testing import CliRunner
from servers import COMMAND, ROOT, end, first_line, simulated, start

from batchrun.cli.simulate import simulate
from batchrun.errors import ConfigError


def address(base_url):
    """Host and port of a base URL."""
    parts = urlsplit(base_url)
    return parts.hostname, parts.port


def answers(base_url):
    """Whether the server is there."""
    with urllib.request.urlopen(f"{base_url}/models", timeout=10) as answer:
        return answer.status == 200


def test_the_only_line_on_stdout_is_the_base_url():
    """Whoever starts it reads one line and knows where it is."""
    with start("--exit-with-stdin") as process:
        line = process.stdout.readline()
        assert re.fullmatch(r"http://127\.0\.0\.1:\d+/v1\n", line)
        assert answers(line.strip())
        assert end(process) == 0
        assert process.stdout.read() == ""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_by_hand_only_a_signal_ends_it(number):
    """The end of stdin is nothing, as in the background; a signal is exit 0, also with a request under way."""
    with start() as process:
        url = first_line(process)
        process.stdin.close()
        assert answers(url)
        with socket.create_connection(address(url)) as connection:
            connection.sendall(b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: 10\r\n\r\n{")
            process.send_signal(number)
            assert process.wait(10) == 0


def test_what_was_under_way_at_its_end_is_charged():
    """A server that is stopped has worked all the same."""
    with simulated({"latency": {"ttft_s": 3600}}) as server:
        body = b'{"model":"m","messages":[{"role":"user","content":"x"}]}'
        with socket.create_connection(address(server.base_url)) as connection:
            head = b"POST /v1/chat/completions HTTP/1.1\r\nhost: x\r\ncontent-length: %d\r\n\r\n" % len(body)
            connection.sendall(head + body)
            while server.totals()["in_flight"] == 0:
                pass
            assert end(server.process) == 0
        assert [line["status"] for line in server.ledger()] == [0]


def test_with_a_parent_ctrl_c_is_left_to_the_parent():
    """A terminal sends SIGINT to both; the parent may still want its answers."""
    with simulated() as server:
        server.process.send_signal(signal.SIGINT)
        assert [server.ask("hello").status for _ in range(20)] == [200] * 20


def test_it_does_not_outlive_a_parent_that_is_killed():
    """Killing the parent with -9 closes the pipe, and that ends it: the stdout that both share comes to its end."""
    parent = (
        "import subprocess, sys, time\n"
        "child = subprocess.Popen(sys.argv[1:], stdin=subprocess.PIPE)\n"
        "child.wait()\n"
    )  # fmt: skip
    with subprocess.Popen(
        [sys.executable, "-c", parent, *COMMAND, "--exit-with-stdin"],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as process:
        assert answers(first_line(process))
        process.kill()
        rest, _ = process.communicate(timeout=10)
        assert rest == ""


def test_help_has_an_example():
    """-h shows how it is used, and not what is for machines only."""
    result = CliRunner().invoke(simulate, ["-h"])
    assert result.exit_code == 0
    assert "batchrun simulate --port 8099" in result.output
    assert "exit-with-stdin" not in result.output


def test_a_port_that_is_taken_is_an_error_for_people():
    """The message names the address, the remedy another port."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = CliRunner().invoke(simulate, ["--port", str(port)])
    assert isinstance(result.exception, ConfigError)
    assert result.exception.message == f"127.0.0.1:{port} cannot be served: Address already in use"
    assert "--port" in result.exception.remedy

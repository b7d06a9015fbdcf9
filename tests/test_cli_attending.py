"""A run that nobody looks at: deadline, overlap, heartbeat, webhook, gauges, and a cron-like environment."""

from __future__ import annotations

import json
import re
import socket
import threading
import time
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from commands import at, begun, called, kept, prompts, typed, wait_for
from servers import simulated

from batchrun.cli import pings
from batchrun.cli.attending import Attendance, seconds_of
from batchrun.errors import ConfigError
from batchrun.store.folder import RunFolder


@pytest.fixture(scope="module")
def server():
    """Answers at once; a prompt with `bad` is refused."""
    with simulated({"faults": [{"kind": "server_error", "match": "bad", "status": 400}]}) as endpoint:
        yield endpoint


@contextmanager
def listening(status=200, **headers):
    """A server that notes each message: its path and its body."""
    heard = []

    class Handler(BaseHTTPRequestHandler):
        def do_POST(self):
            heard.append((self.path, self.rfile.read(int(self.headers["content-length"] or 0)).decode()))
            self.send_response(status)
            for name, value in headers.items():
                self.send_header(name, value)
            self.send_header("content-length", "0")
            self.end_headers()

        def log_message(self, *_):
            """Say nothing."""

    with ThreadingHTTPServer(("127.0.0.1", 0), Handler) as http:
        thread = threading.Thread(target=http.serve_forever, kwargs={"poll_interval": 0.01})
        thread.start()
        try:
            yield f"http://127.0.0.1:{http.server_port}/ping/uuid", heard
        finally:
            http.shutdown()
            thread.join()


def quickly(tmp_path, server, *more, rows=3, words=""):
    """Run a few rows in this process."""
    source = prompts(tmp_path / "in.jsonl", rows, words=words)
    return called("run", source, *at(server.base_url, tmp_path / "out"), "-q", *more)


# Deadline


@pytest.mark.parametrize(
    ("text", "seconds"), [("90", 90), ("90s", 90), ("1.5m", 90), ("45m", 2700), ("1h30m", 5400), ("2d", 172800)]
)
def test_times_are_read(text, seconds):
    """A number of seconds, or with units."""
    assert seconds_of(text) == seconds


@pytest.mark.parametrize("text", ["", "soon", "0", "-5", "1h 30m", "h", "5 m", "1e3", "nan", "5m3"])
def test_what_is_no_time_is_refused(text):
    """With examples of what is."""
    with pytest.raises(ConfigError) as refused:
        seconds_of(text)
    assert "1h30m" in refused.value.remedy


@pytest.mark.parametrize(("deadline", "stops_at_s"), [("100s", 80), ("10s", 5)])
def test_what_is_out_has_its_grace_before_the_deadline(deadline, stops_at_s):
    """Sending stops earlier by that, but never before half of the time."""
    others = dict.fromkeys(["heartbeat_url", "webhook", "metrics_file"])
    after_s = Attendance({"deadline": deadline, **others}).stop_after_s(grace_s=20)
    assert after_s == pytest.approx(stops_at_s, abs=1)


def test_the_deadline_ends_a_run_in_good_order(tmp_path):
    """It ends by itself with 4, nothing is lost, and the same command goes on."""
    with simulated({"latency": {"ttft_s": 0.05, "per_token_s": 0, "sigma": 0}}) as slow:
        source = prompts(tmp_path / "in.jsonl", 100_000 // 20)
        command = ["run", source, *at(slow.base_url, tmp_path / "out", "-c", 2), "-q"]
        ended = called(*command, "--deadline", "1s")
        assert ended.code == 4
        assert ended.last.startswith("exit 4: the deadline of 1s is reached; ")
        assert ended.last.endswith("--deadline 1s")
        assert len(kept(tmp_path / "out")) == slow.totals()["charged"] == slow.totals()["requests"]


# Overlap


def test_another_run_is_no_alarm_if_asked(tmp_path, server):
    """5 without the option; with it 0, and nobody is told that this one began or ended."""
    assert quickly(tmp_path, server).code == 0
    with listening() as (url, heard), RunFolder(tmp_path / "out").locked():
        assert quickly(tmp_path, server).code == 5
        ended = quickly(tmp_path, server, "--skip-if-running", "--heartbeat-url", url)
        assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert heard == []


# Heartbeat and webhook


def test_a_heartbeat_begins_and_ends(tmp_path, server):
    """URL/start before anything is sent, URL when all is well, with a line for people."""
    with listening() as (url, heard):
        assert quickly(tmp_path, server, "--heartbeat-url", url).code == 0
    (start, _), (end, said) = heard
    assert (start, end) == ("/ping/uuid/start", "/ping/uuid")
    assert said == "exit 0: all that was to be done was done; 3 of 3 rows have a result, 0 failed"


@pytest.mark.parametrize(("words", "more", "code"), [("bad", [], 3), ("", ["-c", "0"], 2), ("", ["-m", ""], 2)])
def test_a_heartbeat_that_fails(tmp_path, server, words, more, code):
    """URL/fail for any other ending, also of a run that was refused; a wrong command line never gets so far."""
    with listening() as (url, heard):
        assert quickly(tmp_path, server, "--heartbeat-url", f"{url}?a=b", *more, words=words).code == code
    assert [path for path, _ in heard if "fail" in path] == ([] if "-c" in more else ["/ping/uuid/fail?a=b"])


def test_a_webhook_hears_how_it_ended(tmp_path, server):
    """One JSON object, with the counts and the cost."""
    with listening() as (url, heard):
        assert quickly(tmp_path, server, "--webhook", url).code == 0
    ((_, body),) = heard
    found = json.loads(body)
    assert (found["event"], found["exit_code"]) == ("ended", 0)
    assert (found["run"]["succeeded"], found["run"]["rows"], found["run"]["state"]) == (3, 3, "complete")


def test_a_heartbeat_that_hangs_delays_nothing(tmp_path, server, monkeypatch):
    """The run goes its way, ends with its own code, and says that nobody heard."""
    monkeypatch.setattr(pings, "PING_S", 0.2)
    with socket.create_server(("127.0.0.1", 0)) as deaf:
        url = f"http://127.0.0.1:{deaf.getsockname()[1]}/secret"
        ended = quickly(tmp_path, server, "--heartbeat-url", url)
    assert ended.code == 0
    assert ended.err.count("warning: --heartbeat-url: 127.0.0.1 was not reached: TimeoutError\n") == 2
    assert ended.last.startswith("exit 0: ")
    assert ended.err.count("secret") == ended.last.count("secret")


@pytest.mark.parametrize(("status", "headers"), [(500, {}), (302, {"location": "http://127.0.0.1:1/elsewhere"})])
def test_a_heartbeat_that_is_refused(tmp_path, server, status, headers):
    """It is a warning; and it goes nowhere else."""
    with listening(status, **headers) as (url, _):
        ended = quickly(tmp_path, server, "--heartbeat-url", url)
    assert ended.code == 0
    assert f"warning: --heartbeat-url: 127.0.0.1 answered {status}" in ended.err


@pytest.mark.parametrize("url", ["file:///etc/passwd", "hc-ping.com/x", "http://", "http://a b/", "ftp://x/y"])
@pytest.mark.parametrize("option", ["--heartbeat-url", "--webhook"])
def test_what_is_no_url(tmp_path, server, option, url):
    """It is refused before anything is sent."""
    ended = quickly(tmp_path, server, option, url)
    assert ended.code == 2
    assert f"error: {option}: is not an http(s) URL" in ended.err


# Gauges


def gauges(path):
    """The values of a file for Prometheus, by name and labels; every line of it is one that it reads."""
    found = {}
    for line in path.read_text().splitlines():
        assert re.fullmatch(r'# (HELP|TYPE) batchrun_\w+ .+|batchrun_\w+\{run="[^"]*"(,\w+="\w+")*\} -?[\d.]+', line)
        if not line.startswith("#"):
            name, _, value = line.rpartition(" ")
            found[name.replace(f'run="{path.stem}",', "").replace(f'{{run="{path.stem}"}}', "")] = float(value)
    return found


def test_gauges_say_how_it_ended(tmp_path, server):
    """Rows, tokens, cost, the exit code; the last success outlives a failure."""
    file = tmp_path / "nightly.prom"
    assert quickly(tmp_path, server, "--metrics-file", file).code == 0
    first = gauges(file)
    assert first['batchrun_rows{state="succeeded"}'] == 3
    assert (first["batchrun_exit_code"], first["batchrun_running"]) == (0, 0)
    assert first["batchrun_cost_usd"] > 0
    assert file.stat().st_mode & 0o444 == 0o444
    assert quickly(tmp_path, server, "--metrics-file", file, "-m", "other").code == 7
    second = gauges(file)
    assert second["batchrun_exit_code"] == 7
    assert second["batchrun_last_success_timestamp_seconds"] == first["batchrun_last_success_timestamp_seconds"]


@pytest.mark.rig
def test_gauges_while_it_runs(tmp_path):
    """`batchrun_running` is 1 from before the first request."""
    file = tmp_path / "nightly.prom"
    with simulated({"faults": [{"kind": "slow", "seconds": 3600, "first": 1}]}) as slow:
        command = ["run", prompts(tmp_path / "in.jsonl", 1), *at(slow.base_url, tmp_path / "out")]
        with begun(*command, "--metrics-file", file) as process:
            wait_for(lambda: slow.totals()["in_flight"], process)
            assert gauges(file)["batchrun_running"] == 1


def test_gauges_that_cannot_be_written(tmp_path, server):
    """It is said before anything is sent."""
    before = server.totals()["requests"]
    ended = quickly(tmp_path, server, "--metrics-file", tmp_path / "no" / "such.prom")
    assert ended.code == 2
    assert "such.prom: cannot be written" in ended.err.splitlines()[0]
    assert server.totals()["requests"] == before


# Cron


def test_twice_quiet_is_silent_when_all_is_well(tmp_path, server):
    """Cron mails what is written; nothing to do is nothing to say, and a failure is."""
    assert quickly(tmp_path, server, "-q") == (0, "", "")
    assert quickly(tmp_path, server, "-q") == (0, "", "")
    failed = called("run", prompts(tmp_path / "bad.jsonl", 2, words="bad"), *at(server.base_url, tmp_path / "b"), "-qq")
    assert failed.code == 3
    assert failed.last.startswith("exit 3: 2 of 2 rows failed")
    assert len(failed.err.splitlines()) == 1


def test_an_environment_like_crons(tmp_path, server):
    """No HOME, no terminal, the C locale, stdin closed, umask 077, a PATH of two folders."""
    bare = {"PATH": "/usr/bin:/bin", "LC_ALL": "C", "HOME": "", "USER": "", "TERM": "", "LANG": ""}
    (tmp_path / "in.jsonl").write_text('{"prompt": "größer als ü"}\n', encoding="utf-8")
    command = ["run", tmp_path / "in.jsonl", *at(server.base_url, tmp_path / "out")]
    ended = typed(*command, env=bare, stdin=-3, umask=0o077)
    assert ended.code == 0, ended.err
    assert "\r" not in ended.err
    assert len(kept(tmp_path / "out")) == 1


def test_a_date_in_the_output(tmp_path, server):
    """Each day has a folder of its own; the same day goes on in it."""
    source = prompts(tmp_path / "in.jsonl", 1)
    for _ in range(2):
        assert called("run", source, *at(server.base_url, tmp_path / "{date}"), "-q").code == 0
    (folder,) = (path for path in tmp_path.iterdir() if path.is_dir())
    assert folder.name == time.strftime("%Y-%m-%d", time.gmtime())


def test_settings_come_from_the_environment_as_well(tmp_path, server, monkeypatch):
    """Each of these options has its variable."""
    with listening() as (url, heard):
        monkeypatch.setenv("BATCHRUN_HEARTBEAT_URL", url)
        monkeypatch.setenv("BATCHRUN_METRICS_FILE", str(tmp_path / "x.prom"))
        monkeypatch.setenv("BATCHRUN_QUIET", "2")
        assert called("run", prompts(tmp_path / "in.jsonl", 1), *at(server.base_url, tmp_path / "out")) == (0, "", "")
    assert len(heard) == 2
    assert (tmp_path / "x.prom").exists()

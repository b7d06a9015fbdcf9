"""Runs with `--otel`, against a collector on a real socket: what it is sent, and what happens where there is none."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
import threading
from contextlib import aclosing, contextmanager

import pytest
from commands import at, begun, called, prompts
from servers import simulated

import batchrun
from batchrun.config import check_config
from batchrun.engine.watch import Plan, Watch
from batchrun.errors import Interrupted
from batchrun.store.folder import RunFolder
from batchrun.store.snapshot import read
from batchrun.tracing import traced

pytest.importorskip("opentelemetry.sdk", reason="the packages of OpenTelemetry come with .[otel]")

from collectors import collecting, nobody, silent
from opentelemetry.sdk.trace import TracerProvider

KEY = "fw_a-key-that-nobody-may-see"
SAID = "a-prompt-that-is-private"
INTERNAL, CLIENT = 1, 3
UNSET, ERROR = 0, 2
FAULTS = [
    {"kind": "server_error", "match": "q1 ", "tries": 1},
    {"kind": "server_error", "match": "q2 ", "status": 400},
]
NONSENSE = {
    "OTEL_BSP_MAX_QUEUE_SIZE": ("-5", "max_queue_size must be"),
    "OTEL_PYTHON_EXPORTER_OTLP_HTTP_TRACES_CREDENTIAL_PROVIDER": ("nobody", "'nobody' not found"),
}


@pytest.fixture(scope="module")
def server():
    """Answers at once; q1 fails once, q2 always."""
    with simulated({"faults": FAULTS}) as endpoint:
        yield endpoint


@pytest.fixture(autouse=True)
def _no_variables_from_outside(monkeypatch):
    for name in [name for name in os.environ if name.startswith("OTEL_") or name in {"TRACEPARENT", "TRACESTATE"}]:
        monkeypatch.delenv(name)


@pytest.fixture
def collector(monkeypatch):
    """A collector that the variables name."""
    with collecting() as there:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", there.url)
        yield there


@pytest.fixture
def start(server, tmp_path):
    """Start a run of four rows that is traced."""

    def begin(*more):
        source = prompts(tmp_path / "in.jsonl", 4, words=tmp_path.name)  # q1 fails once for each text
        return called("run", source, *at(server.base_url, tmp_path / "out"), "-q", "--otel", *more)

    return begin


def said_of_it(ended):
    """What was said of OpenTelemetry, if all else is as it always is."""
    *said, last = ended.err.splitlines()
    assert (ended.code, last.startswith("exit 3: 1 of 4 rows failed")) == (3, True)
    return said


def columns(out, *names):
    """What a run folder says of each row that succeeded, by its index."""
    frame = read(str(out)).to_pandas("results")
    return {row["index"]: tuple(row[name] for name in names) for _, row in frame.iterrows()}


def micros(time):
    """Microseconds since 1970."""
    return time.value // 1000


# What is sent


@pytest.fixture(scope="module")
def ran(tmp_path_factory):
    """One run of four rows with a key: what the collector was sent, and the run folder."""
    out = tmp_path_factory.mktemp("traced") / "out"
    with (
        simulated({"faults": FAULTS}, api_key=KEY) as server,
        collecting() as there,
        pytest.MonkeyPatch.context() as env,
    ):
        env.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", there.url)
        env.setenv("THE_KEY", KEY)
        source = prompts(out.with_name("in.jsonl"), 4, words=SAID)
        more = ("--set", "endpoint.api_key_env=THE_KEY", "-q", "--otel")
        assert said_of_it(called("run", source, *at(server.base_url, out, *more))) == []
        yield there, out


def test_a_span_for_the_run_and_one_for_each_row(ran):
    """All in one trace, the rows below the run."""
    collector, _ = ran
    (run,), rows = collector.runs(), collector.rows()
    assert {row.trace_id for row in rows} == {run.trace_id}
    assert [(row.parent_id, row.kind, row.name) for row in rows] == [(run.span_id, CLIENT, "chat simulated/small")] * 4
    assert (run.parent_id, run.kind, run.status) == ("", INTERNAL, UNSET)


def test_a_row_says_what_its_record_says(ran):
    """Model, tokens, money, how it ended and where it was sent, in the words of the conventions."""
    collector, out = ran
    told = collector.rows()[0].attributes
    names = ("model", "finish_reason", "prompt_tokens", "completion_tokens", "cost_usd", "request_id")
    model, reason, prompt_tokens, completion_tokens, cost_usd, request_id = columns(out, *names)[0]
    assert {name: told[name] for name in told if name.startswith("gen_ai.")} == {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "openai",
        "gen_ai.request.model": "simulated/small",
        "gen_ai.response.model": model,
        "gen_ai.response.finish_reasons": [reason],
        "gen_ai.usage.input_tokens": prompt_tokens,
        "gen_ai.usage.cache_read.input_tokens": 0,
        "gen_ai.usage.output_tokens": completion_tokens,
    }
    assert (told["batchrun.index"], told["batchrun.custom_id"]) == (0, "c0")
    assert (told["batchrun.cost_usd"], told["batchrun.request_id"]) == (cost_usd, request_id)


def test_the_times_are_those_of_the_records(ran):
    """To the microsecond; that of the run holds them all."""
    collector, out = ran
    told = columns(out, "started_at", "finished_at")
    (run,), rows = collector.runs(), collector.rows()
    for index in (0, 3):
        assert (rows[index].began_at, rows[index].ended_at) == tuple(map(micros, told[index]))
    assert run.began_at <= min(row.began_at for row in rows)
    assert max(row.ended_at for row in rows) <= run.ended_at


def test_a_retried_row_is_one_span_from_its_first_attempt_on(ran):
    """An event for each attempt that failed, when it failed."""
    collector, out = ran
    row = collector.rows()[1]
    attempts, log, finished_at = columns(out, "attempts", "attempt_log", "finished_at")[1]
    (failed,) = json.loads(log)
    assert (row.status, row.attributes["batchrun.attempts"], attempts) == (UNSET, 2, 2)
    assert (row.began_at, row.ended_at) == (failed["started_at"], micros(finished_at))
    (event,) = row.events
    assert event.name == "batchrun.attempt_failed"
    assert event.at == failed["started_at"] + round(failed["latency_s"] * 1e9) // 1000
    assert event.attributes["error.type"] == failed["error_type"] == "server_error"


def test_a_failed_row_is_an_error(ran):
    """With its type and its status code."""
    row = ran[0].rows()[2]
    assert row.status == ERROR
    assert (row.attributes["error.type"], row.attributes["http.response.status_code"]) == ("request_rejected", 400)


def test_the_run_says_what_it_comes_to(ran):
    """Its id, its rows, and the sums over them: money to the nano-dollar."""
    collector, out = ran
    (run,), rows = collector.runs(), collector.rows()
    sums = {
        name: sum(row.attributes.get(f"gen_ai.usage.{tokens}_tokens", 0) for row in rows)
        for name, tokens in (("batchrun.prompt_tokens", "input"), ("batchrun.completion_tokens", "output"))
    }
    nano_usd = sum(round(row.attributes.get("batchrun.cost_usd", 0) * 1e9) for row in rows)
    assert run.attributes == {
        "batchrun.run_id": json.loads((out / "run.json").read_text())["run_id"],
        "batchrun.folder": str(out),
        "batchrun.rows": 4,
        "batchrun.open_rows": 4,
        "batchrun.succeeded": 3,
        "batchrun.failed": 1,
        "batchrun.unpriced": 0,
        **sums,
        "batchrun.cost_usd": nano_usd / 1e9,
    }


def test_neither_what_was_said_nor_the_key_is_sent(ran):
    """Not of answers, which repeat the prompt, nor of refusals, nor in a header."""
    collector, out = ran
    assert SAID in str(columns(out, "content"))
    sent = b"".join(collector.bodies) + str(collector.headers).encode()
    assert [secret for secret in (SAID, KEY) if secret.encode() in sent] == []


def test_the_sender_names_itself(ran):
    """As batchrun, with its version."""
    collector, _ = ran
    (told,) = collector.resources()
    assert (told["service.name"], told["service.version"]) == ("batchrun", batchrun.__version__)
    assert collector.headers[0]["path"] == "/v1/traces"


def test_an_unknown_cost_is_not_zero(start, collector):
    """It is left out, and the rows are counted that have none."""
    start("-m", "nobody/knows-this-one")
    told = collector.runs()[0].attributes
    assert (told["batchrun.unpriced"], "batchrun.cost_usd" in told) == (3, False)


def test_a_row_that_was_not_sent_has_no_span(server, collector, tmp_path):
    """The run counts it."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "q0"}\n{"nothing": 1}\n')
    called("run", source, *at(server.base_url, tmp_path / "out"), "-q", "--otel", "--skip-invalid")
    assert [row.attributes["batchrun.index"] for row in collector.rows()] == [0]
    assert collector.runs()[0].attributes["batchrun.failed"] == 1


def test_each_start_has_a_trace(start, collector):
    """The second has no rows: nothing was left to send."""
    start("--retry-failed", "none")
    start("--retry-failed", "none")
    first, second = collector.runs()
    assert first.trace_id != second.trace_id
    assert {row.trace_id for row in collector.rows()} == {first.trace_id}
    assert first.attributes["batchrun.run_id"] == second.attributes["batchrun.run_id"]
    assert [run.attributes["batchrun.open_rows"] for run in (first, second)] == [4, 0]


def test_what_ends_a_run_early_is_an_error_of_its_span(start, collector):
    """By the name that it has here."""
    assert start("--max-cost", "0.000001").code == 4
    (run,) = collector.runs()
    assert (run.status, run.attributes["error.type"]) == (ERROR, "BudgetReached")


def test_an_endpoint_that_cannot_be_used_is_named(start, collector):
    """By its error_type."""
    assert start("--set", f"endpoint.base_url={nobody()}", "--set", "timeouts.connect_s=0.1").code == 8
    assert collector.runs()[0].attributes["error.type"] == "connection_failed"


def test_a_start_that_is_refused_is_an_error_too(start, collector):
    """Nothing was sent, and there is no folder to name."""
    assert start("--limit", "2", "--pilot", "9").code == 2
    (run,) = collector.runs()
    assert (run.status, run.attributes["error.type"]) == (ERROR, "ConfigError")


def test_a_signal_before_anything_is_sent_is_an_error_by_the_same_name(collector, tmp_path):
    """Ctrl-C while the input still comes: no name of our own code."""
    with begun("run", "-", *at("simulated", tmp_path / "out"), "--otel", stdin=subprocess.PIPE) as run:
        run.stdin.write('{"prompt": "x"}\n' * 20_000)  # more than a pipe holds: it is being read
        run.stdin.flush()
        run.send_signal(signal.SIGINT)
        run.stdin.close()  # Python hears of a signal when a read returns
        assert run.wait(60) == 130
    (span,) = collector.runs()
    assert (span.status, span.attributes["error.type"]) == (ERROR, "Interrupted")


def test_a_start_beside_another_run_is_not_told(start, collector, tmp_path):
    """From cron that comes every minute, and the other run has a trace."""
    start()
    before = len(collector.spans())
    with RunFolder(tmp_path / "out").locked():
        assert start().code == 5
    assert len(collector.spans()) == before


def test_a_run_that_is_left_is_an_error(server, collector, tmp_path):
    """What was settled until then is told."""
    config = {"endpoint": {"base_url": server.base_url}, "request": {"model": "simulated/small"}}

    async def main():
        options = batchrun.Options(otel=True)
        stream = batchrun.stream(["q7", "q8"], config, output=tmp_path / "out", options=options)
        async with aclosing(stream):
            return await anext(stream)

    assert asyncio.run(main()).error_type is None
    (run,) = collector.runs()
    assert (run.status, run.attributes["error.type"]) == (ERROR, "CancelledError")
    assert run.attributes["batchrun.succeeded"] == len(collector.rows()) >= 1


# Whose trace, and what it is called


def test_the_parent_is_what_the_environment_names(start, collector, monkeypatch):
    """As a pipeline hands it to what it starts."""
    monkeypatch.setenv("TRACEPARENT", f"00-{'ab' * 16}-{'cd' * 8}-01")
    start()
    assert [(run.trace_id, run.parent_id) for run in collector.runs()] == [("ab" * 16, "cd" * 8)]


def test_a_parent_that_is_not_sampled_is_obeyed(start, collector, monkeypatch):
    """Nothing is sent, and nobody warns."""
    monkeypatch.setenv("TRACEPARENT", f"00-{'ab' * 16}-{'cd' * 8}-00")
    assert "OpenTelemetry" not in start().err
    assert collector.bodies == []


def test_a_broken_parent_is_none(start, collector, monkeypatch):
    """The run is the beginning of its trace."""
    monkeypatch.setenv("TRACEPARENT", "what is this?")
    start()
    assert [run.parent_id for run in collector.runs()] == [""]


def test_in_a_program_the_parent_is_the_span_that_is_open(server, collector, tmp_path):
    """It wins over the environment, and the program's own tracing stays as it was set up."""
    config = {"endpoint": {"base_url": server.base_url}, "request": {"model": "simulated/small"}}

    async def main():
        with TracerProvider(shutdown_on_exit=False).get_tracer("a program").start_as_current_span("outer") as outer:
            await batchrun.amap(["q7"], config, output=tmp_path / "out", options=batchrun.Options(otel=True))
        return outer.get_span_context()

    outer = asyncio.run(main())
    (run,) = collector.runs()
    assert (int(run.trace_id, 16), int(run.parent_id, 16)) == (outer.trace_id, outer.span_id)


def test_a_folder_of_any_name_can_be_told(collector):
    """What is not text in its name spoils nothing."""
    plan = {"rows": 1, "open_rows": 1, "concurrency": 1, "flush_s": 1, "simulated": False, "exposed": []}

    async def main():
        async with traced.traced(check_config({"input": "x"}), Watch()) as start:
            start.watch.plan(Plan(folder="runs/\udcff", **plan))

    asyncio.run(main())
    assert collector.runs()[0].attributes["batchrun.folder"] == "runs/?"


def test_the_option_has_a_variable(server, collector, tmp_path, monkeypatch):
    """As all options have."""
    monkeypatch.setenv("BATCHRUN_OTEL", "1")
    called("run", prompts(tmp_path / "in.jsonl", 1), *at(server.base_url, tmp_path / "out"), "-qq")
    assert len(collector.rows()) == 1


def test_the_user_names_the_sender(start, collector, monkeypatch):
    """And adds what his collector wants to know."""
    monkeypatch.setenv("OTEL_SERVICE_NAME", "nightly-labels")
    monkeypatch.setenv("OTEL_RESOURCE_ATTRIBUTES", "deployment.environment.name=test")
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_HEADERS", "x-team=data")
    start()
    (told,) = collector.resources()
    assert (told["service.name"], told["deployment.environment.name"]) == ("nightly-labels", "test")
    assert collector.headers[0]["x-team"] == "data"


def test_it_can_be_switched_off_from_outside(start, collector, monkeypatch):
    """By the variable that all such programs know."""
    monkeypatch.setenv("OTEL_SDK_DISABLED", "true")
    assert start().code == 3
    assert collector.bodies == []


@pytest.mark.parametrize("name", NONSENSE)
def test_a_variable_that_makes_no_sense_is_refused(start, server, tmp_path, monkeypatch, name):
    """Before anything is sent."""
    value, said = NONSENSE[name]
    monkeypatch.setenv(name, value)
    before = server.totals()["requests"]
    ended = start()
    assert (ended.code, len(ended.err.splitlines())) == (2, 2)
    assert said in ended.err
    assert server.totals()["requests"] == before
    assert not (tmp_path / "out").exists()


# Collectors that fail


@pytest.mark.parametrize("status", [400, 401, 404, 500])
def test_a_collector_that_refuses_costs_one_line(start, monkeypatch, status):
    """It names the host, and not the path, which may be a secret."""
    with collecting(status) as there:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_TRACES_ENDPOINT", f"{there.url}/token-xyz/v1/traces")
        host = there.url.removeprefix("http://")
        assert said_of_it(start()) == [f"warning: OpenTelemetry: {host} has not taken 5 of 5 spans"]


def test_where_nobody_listens_the_run_goes_on(start, monkeypatch):
    """The same line, after no long wait."""
    monkeypatch.setattr(traced, "END_S", 0.05)
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url := nobody())
    assert said_of_it(start()) == [f"warning: OpenTelemetry: {url.removeprefix('http://')} has not taken 5 of 5 spans"]


@pytest.mark.parametrize("url", ["collector", "http://[::1:4318"])
def test_no_address_is_no_reason_to_fail(start, monkeypatch, url):
    """It is said like the others."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
    assert said_of_it(start()) == ["warning: OpenTelemetry: no host has not taken 5 of 5 spans"]


def senders():
    """The threads that send what is left of a run."""
    return {thread for thread in threading.enumerate() if thread.name == "batchrun-otel"}


@contextmanager
def not_waited_for():
    """The block ends while what is to be sent still waits for an answer, which then does not come."""
    before = senders()
    with silent() as url:
        yield url
        (waiting,) = senders() - before
        waiting.join(0.05)  # one that has done is gone by then
        assert waiting.is_alive()
    waiting.join(10)
    assert not waiting.is_alive()


def test_a_collector_that_hangs_is_not_waited_for(start, monkeypatch):
    """It costs the same line."""
    monkeypatch.setattr(traced, "END_S", 0.05)
    with not_waited_for() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        host = url.removeprefix("http://")
        assert said_of_it(start()) == [f"warning: OpenTelemetry: {host} has not taken 5 of 5 spans"]


@pytest.mark.parametrize("cause", [Interrupted(2, "SIGINT"), asyncio.CancelledError(), SystemExit(130)])
def test_who_is_in_a_hurry_waits_less(monkeypatch, cause):
    """A second Ctrl-C is out in under 2 seconds, whatever the collector does; so is one before anything is sent."""

    async def main():
        async with traced.traced(check_config({"input": "x"}), Watch()) as start:
            start.cause = cause

    assert traced.HURRIED_END_S < 2
    monkeypatch.setattr(traced, "HURRIED_END_S", 0.05)
    monkeypatch.setattr(traced, "END_S", 60)
    with not_waited_for() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        asyncio.run(main())


def test_after_the_end_nobody_asks_again(start, monkeypatch):
    """A collector that wants patience is not pestered by a program that has done with the run."""
    monkeypatch.setattr(traced, "END_S", 0.05)
    before = senders()
    with collecting(503) as there:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", there.url)
        assert len(said_of_it(start())) == 1
        for sender in senders() - before:
            sender.join(10)
        assert len(there.bodies) <= 1


def test_what_does_not_fit_the_queue_is_let_go(start, monkeypatch):
    """Nobody waits for a slow collector while the run goes on."""
    monkeypatch.setattr(traced, "END_S", 0.05)
    monkeypatch.setenv("OTEL_BSP_MAX_QUEUE_SIZE", "1")
    monkeypatch.setenv("OTEL_BSP_MAX_EXPORT_BATCH_SIZE", "1")
    with silent() as url:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", url)
        assert said_of_it(start())[0].endswith("has not taken 5 of 5 spans")


def test_a_program_hears_of_it_by_its_own_logging(server, tmp_path, monkeypatch, caplog):
    """As a library does it: nothing on stderr, and a record for whoever listens."""
    monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", "collector")
    config = {"endpoint": {"base_url": server.base_url}, "request": {"model": "simulated/small"}}
    answers = batchrun.map(["q7"], config, output=tmp_path / "out", options=batchrun.Options(otel=True))
    assert answers["error_type"].isna().all()
    assert {record.name.partition(".")[0] for record in caplog.records} == {"opentelemetry"}

from __future__ import annotations

import contextlib
import json
import resource
from collections import Counter

import pandas as pd
import pytest
from commands import asked, at, begun, called, kept, prompts, typed, wait_for
from disks import disk_of
from servers import simulated

import batchrun
from batchrun.engine import retry
from batchrun.pricing import load_prices

AMBIGUOUS = ["server_error", "reset", "reset_before_answer", "truncated", "bad_json", "error_in_200"]
MODEL = "accounts/fireworks/models/glm-5p3-flash"


def nano_usd(ledger):
    """What a ledger says should have been paid, in whole nano-dollars, line by line."""
    price = load_prices(None).price_for(MODEL)
    assert price is not None
    return sum(price_of(line, price) for line in ledger)


def price_of(line, price):
    from batchrun.pricing import cost_nano_usd
    from batchrun.types import Usage

    names = ("prompt_tokens", "cached_tokens", "completion_tokens")
    return cost_nano_usd(Usage(**{name: line[name] for name in names}), price)


@pytest.fixture
def impatient(monkeypatch):
    """Waits between attempts are a hundredth of what they are."""
    for name in ("TRANSIENT_BASE_S", "THROTTLED_BASE_S"):
        monkeypatch.setattr(retry, name, getattr(retry, name) / 100)


@pytest.mark.usefixtures("impatient")
def test_a_run_through_trouble(tmp_path):
    """Every row is kept once, with an attempt for each request that the endpoint saw, whatever went wrong with it."""
    faults = [{"kind": kind, "match": f"q{number} ", "tries": 1} for number, kind in enumerate(AMBIGUOUS)]
    faults += [{"kind": "rate_limited", "match": "q6 ", "tries": 2, "retry_after_s": 0}]
    faults += [{"kind": "overloaded", "match": "q7 ", "tries": 1}]
    with simulated({"faults": faults}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 12), *at(server.base_url, tmp_path / "out"), "-c", "8"]
        ended = called(*command)
        assert ended.code == 0, ended.err
        frame = batchrun.read(tmp_path / "out").to_pandas().set_index("custom_id")
        assert list(frame.index) == [f"c{index}" for index in range(12)]
        assert frame["attempts"].sum() == server.totals()["requests"]
    assert frame["attempts"].tolist() == [2] * 6 + [3, 2] + [1] * 4
    errors = [[attempt["error_type"] for attempt in json.loads(log)] for log in frame["attempt_log"].fillna("[]")]
    assert errors[:8] == [
        ["server_error"],
        ["response_truncated"],
        ["connection_failed"],
        ["response_truncated"],
        ["response_unreadable"],
        ["server_error"],
        ["rate_limited", "rate_limited"],
        ["overloaded"],
    ]
    assert errors[8:] == [[]] * 4


@pytest.mark.usefixtures("impatient")
def test_a_failure_that_is_tried_again_becomes_a_success(tmp_path):
    """It leaves `failures/`, and its attempts stay in the success's attempt_log."""
    faults = [{"kind": "server_error", "match": "q1 ", "tries": 2}]
    with simulated({"faults": faults}) as server:
        more = ["--set", "retry.max_attempts=2"]
        command = ["run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out", *more)]
        ended = called(*command)
        assert ended.code == 3
        assert ended.last.startswith("exit 3: 1 of 3 rows failed (1 server_error). Next: batchrun run ")
        assert kept(tmp_path / "out", "failures") == ["c1"]
        assert called(*command).code == 0
        assert Counter(asked(server.ledger())) == {"q0": 1, "q1": 1, "q2": 1}
    assert kept(tmp_path / "out", "failures") == []
    assert len(pd.read_parquet(tmp_path / "out/failures")) == 0
    frame = batchrun.read(tmp_path / "out").to_pandas().set_index("custom_id")
    assert frame["attempts"].tolist() == [1, 3, 1]
    log = json.loads(frame["attempt_log"]["c1"])
    assert [(attempt["number"], attempt["status_code"]) for attempt in log] == [(1, 500), (2, 500)]


def test_which_failures_are_tried_again(tmp_path):
    """By default those that may pass; `none` and `all` do as they say."""
    faults = [
        {"kind": "server_error", "match": "q0 ", "status": 500},
        {"kind": "server_error", "match": "q1 ", "status": 422},
    ]
    with simulated({"faults": faults}) as server:
        more = ["--set", "retry.max_attempts=1"]
        command = ["run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out", *more)]
        sent = []
        for which in ("retryable", "none", "retryable", "all"):
            before = server.totals()["requests"]
            ended = called(*command, "--retry-failed", which)
            sent.append(server.totals()["requests"] - before)
            assert ended.code == 3
            assert "(1 request_rejected, 1 server_error)" in ended.last
    assert sent == [3, 0, 1, 2]


@pytest.mark.usefixtures("impatient")
def test_the_cost_is_what_the_ledger_says(tmp_path):
    """Row costs add up to the report's total, and that to tokens times price of all that brought a usage; exactly."""
    faults = [{"kind": "server_error", "probability": 0.2}]
    with simulated({"faults": faults}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 30), *at(server.base_url, tmp_path / "out"), "-m", MODEL]
        called(*command)
        assert called(*command).code == 0
        owed = nano_usd(server.ledger())
    frame = pd.read_parquet(tmp_path / "out/results")
    assert sum(round(cost * 1e9) for cost in frame["cost_usd"]) == owed > 0
    summary = json.loads((tmp_path / "out/report/summary.json").read_text())
    assert round(summary["cost"]["cost_usd"] * 1e9) == owed


@pytest.fixture
def small_disk():
    """A disk of 8 MB of its own."""
    with disk_of("8m") as disk:
        yield disk


def fill(file):
    """Take all the room that is left."""
    with contextlib.suppress(OSError):
        while True:
            file.write(bytes(4096))


def test_a_full_disk_stops_the_run_and_loses_nothing(tmp_path, small_disk):
    """Exit 6 with all that was committed; once there is room the same command pays for none of it again."""
    rows = 400
    with simulated({"latency": {"ttft_s": 0.03, "per_token_s": 0}, "answers": {"tokens": 3000}}) as server:
        more = ["-c", "8", "--set", "request.params.max_tokens=4000"]
        command = ["run", prompts(tmp_path / "in.jsonl", rows), *at(server.base_url, small_disk / "out", *more)]
        with begun(*command) as run, (small_disk / "ballast").open("wb", buffering=0) as ballast:
            wait_for(lambda: len(server.ledger()) > 50, run)
            wait_for(lambda: fill(ballast) or run.poll() is not None)
            _, err = run.communicate(timeout=60)
        assert run.returncode == 6, err
        assert "No space left on device" in err
        committed = kept(small_disk / "out")
        last = (
            f"exit 6: the disk failed or is full; {len(committed)} of {rows} rows have a result. Next: free or repair"
        )
        assert err.splitlines()[-1].startswith(last)
        assert 0 < len(committed) < rows
        (small_disk / "ballast").unlink()
        ended = called(*command)
        assert ended.code == 0, ended.err
        charged = Counter(asked(server.ledger()))
    assert kept(small_disk / "out") == [f"c{index}" for index in range(rows)]
    assert not [row for row in committed if charged[row.replace("c", "q")] > 1]


def test_a_disk_without_room_is_found_before_anything_is_sent(tmp_path):
    """The journal claims its reserve first; without it nothing is paid for."""

    def no_room():
        resource.setrlimit(resource.RLIMIT_FSIZE, (1_000_000, 1_000_000))

    with simulated() as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out")]
        ended = typed(*command, preexec_fn=no_room)
        assert server.totals()["requests"] == 0
        assert (ended.code, "File too large" in ended.err) == (6, True)
        assert called(*command).code == 0

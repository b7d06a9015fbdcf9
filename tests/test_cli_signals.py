from __future__ import annotations

import signal
import time
from collections import Counter

import pytest
from commands import asked, at, begun, called, kept, prompts, wait_for
from servers import simulated

ROWS = 24


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_the_first_signal_waits_for_what_is_in_flight(tmp_path, number, code):
    """Nothing new is sent, what is out is answered and kept, and the same command finishes without paying twice."""
    with simulated({"faults": [{"kind": "slow", "seconds": 0.3, "first": 12}]}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", ROWS), *at(server.base_url, tmp_path / "out"), "-c", "4"]
        with begun(*command) as run:
            wait_for(server.ledger, run)
            wait_for(lambda: server.totals()["in_flight"], run)
            run.send_signal(number)
            _, err = run.communicate(timeout=60)
        assert run.returncode == code, err
        sent = server.totals()
        assert sent["requests"] == sent["charged"] < ROWS
        assert len(kept(tmp_path / "out")) == sent["charged"]
        assert list((tmp_path / "out/_journal").iterdir()) == []
        assert (
            err.splitlines()[-1]
            == f"exit {code}: stopped by {number.name}; {sent['charged']} of {ROWS} rows have a result. "
            f"Next: batchrun {' '.join(map(str, command))}"
        )
        ended = called(*command)
        assert ended.code == 0, ended.err
        assert "warning" not in ended.err
        assert Counter(asked(server.ledger())) == {f"q{index}": 1 for index in range(ROWS)}


def test_the_second_signal_leaves_at_once(tmp_path):
    """Nobody waits for a slow endpoint then; the next start names what was out, and finishes."""
    slow = {"faults": [{"kind": "slow", "seconds": 3600, "match": "q[0-3] ", "tries": 1}]}
    with simulated(slow) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 6), *at(server.base_url, tmp_path / "out"), "-c", "4"]
        with begun(*command) as run:
            wait_for(lambda: len(server.ledger()) == 4, run)
            run.send_signal(signal.SIGTERM)
            wait_for(lambda: "waiting for 4 in flight" in run.stderr.readline(), run)
            asked_at = time.monotonic()
            run.send_signal(signal.SIGTERM)
            run.communicate(timeout=60)
            took_s = time.monotonic() - asked_at
        assert run.returncode == 143
        assert took_s < 2
        ended = called(*command)
        assert ended.code == 0, ended.err
        assert "rows may have been sent already, and be paid for twice: 0-" in ended.err
        assert Counter(asked(server.ledger())) == {"q0": 2, "q1": 2, "q2": 2, "q3": 2, "q4": 1, "q5": 1}
    assert kept(tmp_path / "out") == [f"c{index}" for index in range(6)]


@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_the_input_is_checked(tmp_path, number, code):
    """Nothing has been sent, so there is nothing to wait for; no traceback, and no folder is left behind."""
    source = tmp_path / "in.jsonl"
    source.write_text('{"prompt": "x"}\n' * 2_000_000)
    with simulated() as server:
        with begun("run", source, *at(server.base_url, tmp_path / "out"), "-v") as run:
            wait_for(lambda: run.stderr.readline().startswith("prices:"), run)
            run.send_signal(number)
            _, err = run.communicate(timeout=60)
        assert server.totals()["requests"] == 0
    assert run.returncode == code
    assert err.startswith(
        f"exit {code}: stopped by {number.name}; nothing that was answered is lost. Next: batchrun run"
    )
    assert not (tmp_path / "out").exists()

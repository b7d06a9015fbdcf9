"""An outage is waited out with one probe at a time."""

from __future__ import annotations

import math

from batchrun.engine.breaker import FIRST_PROBE_S, MOST_PROBE_S, OPENS_AFTER, SLOWER, Breaker


def broken(now: float = 0.0) -> Breaker:
    """One that has just opened."""
    breaker = Breaker()
    for _ in range(OPENS_AFTER):
        breaker.trouble(now, probe=False)
    return breaker


def probed(breaker: Breaker, now: float) -> None:
    """A probe goes out and fails."""
    assert breaker.sent() is True
    breaker.trouble(now, probe=True)
    breaker.returned(probe=True)


def test_it_opens_after_ten_troubles_in_a_row():
    """Nine do not open it, nor do nine and nine with an answer in between."""
    breaker = Breaker()
    for _ in range(2):
        for _ in range(OPENS_AFTER - 1):
            breaker.trouble(1.0, probe=False)
        assert not breaker.is_open
        assert breaker.probe_at == 0.0
        breaker.alive()
    for _ in range(OPENS_AFTER):
        breaker.trouble(2.0, probe=False)
    assert breaker.is_open
    assert breaker.open_since == 2.0


def test_the_first_probe_comes_after_half_a_second():
    """Give or take a fifth."""
    assert 0.8 * FIRST_PROBE_S <= broken(3.0).probe_at - 3.0 <= 1.2 * FIRST_PROBE_S


def test_there_is_one_probe_at_a_time():
    """While one is out nobody else may go; when it is back, the time of the next is known."""
    breaker = broken()
    assert breaker.sent() is True
    assert breaker.probe_at == math.inf
    breaker.returned(probe=True)
    assert breaker.probe_at < 100.0


def test_the_return_of_an_older_request_is_not_that_of_the_probe():
    """The probe is still out."""
    breaker = broken()
    breaker.sent()
    breaker.returned(probe=False)
    assert breaker.probe_at == math.inf


def test_the_probes_become_rarer():
    """Half as late again each time, up to five seconds."""
    breaker, now = broken(), 0.0
    waits = []
    for _ in range(10):
        wait_s = breaker.probe_at - now
        waits.append(wait_s)
        now += wait_s
        probed(breaker, now)
    for number, wait_s in enumerate(waits):
        middle_s = min(MOST_PROBE_S, FIRST_PROBE_S * SLOWER**number)
        assert 0.8 * middle_s <= wait_s <= 1.2 * middle_s + 1e-9


def test_troubles_of_requests_sent_before_do_not_put_off_the_probe():
    """They say nothing new."""
    breaker = broken()
    probe_at = breaker.probe_at
    for _ in range(50):
        breaker.trouble(0.1, probe=False)
    assert breaker.probe_at == probe_at


def test_an_answer_ends_it_and_the_next_outage_begins_anew():
    """The intervals too begin at the first one."""
    breaker, now = broken(), 0.0
    for _ in range(5):
        now += 10
        probed(breaker, now)
    breaker.alive()
    assert not breaker.is_open
    assert breaker.probe_at == 0.0
    assert breaker.sent() is False
    for _ in range(OPENS_AFTER):
        breaker.trouble(now, probe=False)
    assert breaker.probe_at - now <= 1.2 * FIRST_PROBE_S

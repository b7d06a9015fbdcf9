"""The pace: a rate that doubles until somebody says stop, and is then what was served."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.engine.pace import (
    COOLDOWN_S,
    GROWTH_PER_S,
    LEAST_PER_S,
    MOST_PER_S,
    QUIET_GROWTH_PER_S,
    QUIET_S,
    START_PER_S,
    Pace,
)


def serving(pace: Pace, per_s: int, begin_s: float, end_s: float) -> None:
    """So many a second are served."""
    for number in range(int((end_s - begin_s) * per_s)):
        pace.succeeded(begin_s + number / per_s)


def cut(per_s: int = 100, seconds: float = 10.0, pause_s: float = COOLDOWN_S) -> Pace:
    """A pace that was cut after so many seconds of so many a second."""
    pace = Pace(0.0)
    serving(pace, per_s, 0.0, seconds)
    pace.throttled(0.0, seconds, pause_s)
    return pace


def test_it_starts_at_500_a_second_and_doubles_four_times_a_second():
    """Which is no limit after two seconds."""
    pace = Pace(0.0)
    assert [pace.per_s(at) / START_PER_S for at in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1, 2, 4, 16])
    assert pace.per_s(2.0) == math.inf


def test_what_is_not_adaptive_has_no_pace():
    """Not after a 429 or a storm either."""
    pace = Pace(0.0, adaptive=False)
    pace.succeeded(0.0)
    pace.throttled(0.0, 1.0, 10.0)
    pace.resume(2.0)
    assert (pace.per_s(3.0), pace.cuts) == (math.inf, 0)


def test_requests_go_out_at_the_pace():
    """One after the other; a timer that woke a few milliseconds late is made up for, one that slept is not."""
    pace = Pace(0.0)
    pace.took(0.0)
    assert pace.wait_s(0.0) == pytest.approx(1 / START_PER_S)
    pace.took(0.003)
    assert pace.wait_s(0.003) < 2 / START_PER_S - 0.002
    pace.took(1.0)
    assert pace.wait_s(1.0) == 0


def test_a_cut_sets_it_to_what_was_served_the_pause_included():
    """A hundred a second for five seconds, and a pause of five: fifty."""
    assert cut(pause_s=5.0).per_s(10.0) == pytest.approx(50, rel=0.05)


def test_without_a_pause_a_little_less():
    """The endpoint has no time to come to itself."""
    assert 70 <= cut(pause_s=0.0).per_s(10.0) <= 100


def test_where_nothing_was_served_a_cut_says_nothing():
    """There is nothing to set it to; the breaker is for that."""
    pace = Pace(0.0)
    pace.throttled(0.0, 0.1, 0.0)
    assert (pace.cuts, pace.per_s(0.0)) == (0, START_PER_S)


def test_it_grows_slowly_and_after_a_quiet_time_faster():
    """By 3 % a second at first."""
    pace = cut()
    rates = [pace.per_s(10.0 + at) for at in (0, 1, QUIET_S, QUIET_S + 1)]
    assert rates[1] / rates[0] == pytest.approx(GROWTH_PER_S)
    assert rates[1] / rates[0] <= 1.05
    assert rates[3] / rates[2] == pytest.approx(QUIET_GROWTH_PER_S)


def test_a_crowded_429_lets_it_come_back_sooner():
    """It may be the number in flight that was too much."""
    pace = Pace(0.0)
    serving(pace, 100, 0.0, 10.0)
    pace.throttled(0.0, 10.0, COOLDOWN_S, crowded=True)
    assert pace.per_s(11.0) / pace.per_s(10.0) == pytest.approx(QUIET_GROWTH_PER_S)


@pytest.mark.parametrize(("sent_at", "now", "cuts"), [(9.9, 12.0, 1), (10.1, 10.9, 1), (10.1, 11.1, 2)])
def test_there_is_one_cut_a_cooldown_and_none_for_what_was_sent_before(sent_at, now, cuts):
    """The rest of a burst says nothing new."""
    pace = cut()
    pace.succeeded(10.5)
    pace.throttled(sent_at, now, 0.0)
    assert pace.cuts == cuts


def test_after_a_storm_it_is_what_was_served_in_the_last_minute():
    """Of a minute in which 1,000 were served, 1,000 / 60 a second; what is older is forgotten."""
    pace = Pace(0.0)
    serving(pace, 100, 0.0, 50.0)
    serving(pace, 100, 100.0, 110.0)
    pace.resume(150.0)
    assert pace.per_s(150.0) == pytest.approx(1000 / 60, rel=0.05)


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["served", "throttled", "storm", "sent"]), st.floats(0, 30), st.floats(0, 300)),
        max_size=80,
    )
)
def test_it_never_leaves_its_bounds(events):
    """A tenth of a request a second to no limit, and no wait longer than ten seconds, whatever happens."""
    pace, now = Pace(0.0), 0.0
    for event, passed_s, pause_s in events:
        now += passed_s
        if event == "served":
            pace.succeeded(now)
        elif event == "throttled":
            pace.throttled(now, now, pause_s)
        elif event == "storm":
            pace.resume(now)
        elif pace.wait_s(now) == 0:
            pace.took(now)
        rate = pace.per_s(now)
        assert LEAST_PER_S - 1e-9 <= rate <= MOST_PER_S * (1 + 1e-9) or rate == math.inf
        assert pace.wait_s(now) <= 1 / LEAST_PER_S + 1e-6

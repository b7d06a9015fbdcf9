"""The pace: a rate that doubles until somebody says stop, and is then what was served."""

from __future__ import annotations

import math

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.engine.pace import (
    BELOW_WALL,
    CLIMB_PER_S,
    CLIMB_S,
    LEAST_PER_S,
    LEAST_SHARE,
    MOST_PER_S,
    QUICK_CLIMB_S,
    START_PER_S,
    UNSURE_CLIMB_S,
    Pace,
)


def serving(pace: Pace, per_s: float, begin_s: float, end_s: float) -> None:
    """So many a second go out, and are not turned away."""
    for number in range(round((end_s - begin_s) * per_s)):
        pace.took(begin_s + number / per_s)


def cut(per_s: int = 100, seconds: float = 10.0, pause_s: float = 0.0) -> Pace:
    """A pace that was cut after so many seconds of so many a second."""
    pace = Pace(0.0)
    serving(pace, per_s, 0.0, seconds)
    pace.throttled(seconds - 0.01, seconds, pause_s)
    return pace


def wall(pace: Pace, now: float) -> float:
    """The wall of a pace that was cut just now."""
    return pace.per_s(now) / (1 - BELOW_WALL)


def test_it_starts_at_500_a_second_and_doubles_four_times_a_second():
    """Which is no limit after two seconds."""
    pace = Pace(0.0)
    assert [pace.per_s(at) / START_PER_S for at in (0.0, 0.25, 0.5, 1.0)] == pytest.approx([1, 2, 4, 16])
    assert pace.per_s(2.0) == math.inf


def test_what_is_not_adaptive_has_no_pace():
    """Not after a 429 or a storm either."""
    pace = Pace(0.0, adaptive=False)
    serving(pace, 100, 0.0, 1.0)
    pace.throttled(0.5, 1.0, 10.0)
    pace.resume(20.0, 10.0)
    assert (pace.per_s(20.0), pace.cuts, pace.accepted(1.0, 1.0)) == (math.inf, 0, 0)


def test_requests_go_out_at_the_pace():
    """One after the other; a timer that woke a few milliseconds late is made up for, one that slept is not."""
    pace = Pace(0.0)
    pace.took(0.0)
    assert pace.next_at == pytest.approx(1 / START_PER_S)
    pace.took(0.003)
    assert pace.next_at < 2 / START_PER_S + 0.001
    pace.took(1.0)
    assert pace.next_at <= 1.0


def test_the_first_wall_is_what_was_let_in_just_now():
    """A hundred a second; the one that was turned away does not count."""
    assert wall(cut(), 10.0) == pytest.approx(100, rel=0.05)


def test_a_pause_that_follows_counts_for_the_wall():
    """A hundred a second for five seconds, and a pause of five: fifty."""
    assert wall(cut(pause_s=5.0), 15.0) == pytest.approx(50, rel=0.05)


def test_nothing_is_climbed_during_a_pause():
    """The climb begins when it is over."""
    pace = cut(pause_s=5.0)
    assert pace.per_s(12.0) == pace.per_s(15.0) < pace.per_s(15.1)


def test_who_is_turned_away_was_not_let_in():
    """Half of a hundred a second is turned away: the wall is fifty."""
    pace = cut()
    serving(pace, 100, 10.0, 13.0)
    for number in range(0, 300, 2):
        pace.throttled(10.0 + number / 100, 10.1, 0.0)
    pace.throttled(12.99, 13.0, 0.0)
    assert pace.cuts == 2
    assert pace.accepted(13.0, 2.0) == pytest.approx(100, abs=5)
    assert wall(pace, 13.0) == pytest.approx(50, rel=0.1)


def test_where_nothing_was_let_in_a_cut_says_nothing():
    """There is nothing to set it to; the breaker is for that."""
    pace = Pace(0.0)
    pace.throttled(29.0, 30.0, 0.0)
    assert (pace.cuts, pace.per_s(30.0)) == (0, math.inf)


def test_a_guess_is_no_less_than_a_third_of_the_rate():
    """As the first few requests say little."""
    pace = Pace(0.0)
    pace.took(0.0)
    pace.throttled(0.0, 0.01, 1.0)
    assert wall(pace, 1.01) == pytest.approx(START_PER_S * LEAST_SHARE, rel=0.05)


def test_it_climbs_to_the_wall_and_beyond_as_a_cube():
    """Nine tenths, all, eleven tenths, and nearly twice as much after once, twice, three times as long."""
    pace = cut()
    rates = [pace.per_s(10.0 + times * QUICK_CLIMB_S) for times in range(4)]
    assert [rate / rates[1] for rate in rates] == pytest.approx([0.9, 1.0, 1.1, 1.8])


@pytest.mark.parametrize(("lasted_s", "climb_s"), [(1.0, QUICK_CLIMB_S), (2.0, CLIMB_S)])
def test_a_wall_is_sure_where_the_rate_has_lasted(lasted_s, climb_s):
    """Then the way back to it is long; a guess is soon left behind."""
    pace = cut()
    now = 10.0 + lasted_s
    serving(pace, pace.per_s(now), 10.0, now)
    pace.throttled(now - 0.01, now, 0.0)
    assert pace.per_s(now + climb_s) == pytest.approx(wall(pace, now))
    assert pace.cuts == 2


def test_a_wall_that_was_passed_fast_is_less_sure():
    """Less was sent lately than the rate of the moment says."""
    pace = cut()
    serving(pace, 100, 10.0, 15.0)
    assert pace.per_s(15.0) > 120
    pace.throttled(14.99, 15.0, 0.0)
    assert wall(pace, 15.0) == pytest.approx(100, rel=0.05)
    assert pace.per_s(15.0 + UNSURE_CLIMB_S) == pytest.approx(wall(pace, 15.0))


def test_where_little_is_sent_the_climb_is_longer():
    """Few requests find out where the wall is."""
    pace = cut(1, 60.0)
    assert wall(pace, 60.0) < 1
    assert pace.per_s(60.0 + QUICK_CLIMB_S * CLIMB_PER_S / wall(pace, 60.0)) == pytest.approx(wall(pace, 60.0))


@pytest.mark.parametrize(("sent_at", "now", "cuts"), [(9.9, 12.0, 1), (10.1, 10.15, 1), (10.1, 10.25, 2)])
def test_there_is_one_cut_a_cooldown_and_none_for_what_was_sent_before(sent_at, now, cuts):
    """The rest of a burst says nothing new; a cooldown is at most a second, or twenty requests."""
    pace = cut()
    pace.took(10.1)
    pace.throttled(sent_at, now, 0.0)
    assert pace.cuts == cuts


def test_a_cooldown_is_no_longer_than_a_second():
    """However few are sent."""
    pace = cut(1, 60.0)
    pace.took(60.5)
    for now in (60.9, 61.1):
        pace.throttled(60.5, now, 0.0)
    assert pace.cuts == 2


def test_after_a_storm_it_is_what_was_let_in_in_the_last_minute():
    """Of a minute in which 1,000 were, 1,000 / 60 a second; what is older is forgotten."""
    pace = Pace(0.0)
    serving(pace, 100, 0.0, 50.0)
    serving(pace, 100, 100.0, 110.0)
    pace.resume(150.0, 40.0)
    assert wall(pace, 150.0) == pytest.approx(1000 / 60, rel=0.05)


def test_a_short_storm_changes_nothing():
    """It is how a rate is found out."""
    pace = cut()
    pace.resume(13.0, 3.0)
    assert pace.cuts == 1


@settings(max_examples=60)
@given(
    st.lists(
        st.tuples(st.sampled_from(["throttled", "storm", "sent"]), st.floats(0, 30), st.floats(0, 300)),
        max_size=80,
    )
)
def test_it_never_leaves_its_bounds(events):
    """A tenth of a request a second to no limit, and no wait longer than pause and interval."""
    pace, now = Pace(0.0), 0.0
    for event, passed_s, pause_s in events:
        now += passed_s
        if event == "throttled":
            pace.throttled(now, now, pause_s)
        elif event == "storm":
            pace.resume(now, pause_s)
        elif pace.next_at <= now:
            pace.took(now)
        rate = pace.per_s(now)
        assert 0.9 * LEAST_PER_S - 1e-9 <= rate <= MOST_PER_S * (1 + 1e-9) or rate == math.inf
        assert pace.next_at - now <= 1 / (0.9 * LEAST_PER_S) + 300 + 1e-6


def test_what_was_sent_before_the_last_cut_says_nothing_new():
    """However late it is turned away."""
    pace = cut()
    serving(pace, 100, 10.0, 30.0)
    pace.throttled(9.5, 30.0, 0.0)
    assert pace.cuts == 1
    pace.throttled(29.0, 30.0, 0.0)
    assert pace.cuts == 2

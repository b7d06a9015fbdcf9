"""Which outcome is worth another try, and how long to wait before it."""

from __future__ import annotations

import engines
import pytest
from hypothesis import given
from hypothesis import strategies as st

from batchrun.config import RetryConfig
from batchrun.engine.retry import CAP_S, Again, EndRun, GiveUp, Tally, backoff_s, judge
from batchrun.errors import Ambiguous

CONFIG = RetryConfig(max_attempts=4, max_wait_s=300)


def verdict(error, *, any_succeeded=False, **tally):
    return judge(error, Tally(**tally), CONFIG, any_succeeded=any_succeeded)


@given(times=st.integers(1, 10**9), base_s=st.floats(0.1, 10))
def test_a_backoff_is_never_longer_than_a_minute(times, base_s):
    """However often a request has failed, and however large the exponent would be."""
    assert 0 <= backoff_s(times, base_s) <= CAP_S


def test_a_backoff_doubles_and_is_fully_jittered():
    """It may be next to nothing, and its bound doubles each time."""
    for times, bound_s in ((1, 0.5), (2, 1.0), (3, 2.0), (5, 8.0)):
        waits = [backoff_s(times, 0.5) for _ in range(2000)]
        assert max(waits) <= bound_s
        assert max(waits) > 0.95 * bound_s
        assert min(waits) < 0.05 * bound_s


@pytest.mark.parametrize(("ambiguous", "expected"), [(1, Again), (3, Again), (4, GiveUp), (5, GiveUp)])
def test_an_ambiguous_outcome_is_tried_again_up_to_max_attempts(ambiguous, expected):
    """The fourth of four attempts is the last."""
    assert isinstance(verdict(engines.server_error(), ambiguous=ambiguous), expected)


@pytest.mark.parametrize("error", [engines.throttled(), engines.refused()])
def test_flow_control_and_what_was_not_sent_use_no_attempt(error):
    """A thousand of them do not end a row."""
    assert isinstance(verdict(error, throttled=1000, not_sent=1000), Again)


def test_what_was_rejected_is_not_tried_again():
    """The endpoint understood it and will never serve it."""
    assert verdict(engines.rejected()) == GiveUp()


@pytest.mark.parametrize("make", [engines.throttled, lambda s: engines.server_error(retry_after_s=s)])
@pytest.mark.parametrize("retry_after_s", [0.0, 0.2, 300.0])
def test_a_retry_after_is_a_floor_with_jitter_on_top(make, retry_after_s):
    """No wait is shorter, and no two are the same."""
    waits = [verdict(make(retry_after_s), throttled=1, ambiguous=1).wait_s for _ in range(200)]
    assert min(waits) >= retry_after_s
    assert max(waits) - min(waits) > 0.3


@pytest.mark.parametrize("make", [engines.throttled, lambda s: engines.server_error(retry_after_s=s)])
def test_a_retry_after_beyond_max_wait_s_ends_the_row(make):
    """Nobody sleeps for hours; of a rate limit once for the longest wait."""
    assert verdict(make(300.001), throttled=1, ambiguous=1, too_long=1) == GiveUp()


def test_a_rate_limit_beyond_max_wait_s_is_tried_once_more():
    """After as long as may be waited: an account may have been given more by then."""
    assert 300 <= verdict(engines.throttled(3600.0), throttled=1).wait_s <= 301


@pytest.mark.parametrize(("alike", "again"), [(2, True), (3, False)])
def test_the_same_broken_answer_three_times_ends_a_row(alike, again):
    """It is the request that breaks it, and no bad moment."""
    error = Ambiguous("broke off", error_type="response_truncated")
    assert isinstance(verdict(error, ambiguous=3, alike=alike), Again) == again
    assert isinstance(verdict(engines.server_error(), ambiguous=3, alike=alike), Again)


@pytest.mark.parametrize("any_succeeded", [False, True])
@pytest.mark.parametrize("status_code", [401, 302])
def test_what_no_row_can_pass_ends_the_run_at_any_time(status_code, any_succeeded):
    """A refused key and a redirect are never one row's trouble."""
    assert verdict(engines.unusable(status_code), any_succeeded=any_succeeded) == EndRun()


def test_not_found_ends_the_run_only_while_nothing_has_succeeded():
    """Afterwards it is one row's wrong model."""
    assert verdict(engines.unusable(404)) == EndRun()
    assert verdict(engines.unusable(404), any_succeeded=True) == GiveUp()

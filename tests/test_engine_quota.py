"""The purse that pays for retries."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.quota import CAPACITY, REFILL_PER_S, SUCCESS, THROTTLED, TRANSIENT, Quota


def test_thirty_five_retries_are_free():
    """500 tokens, 14 for each; the next one has to wait."""
    quota = Quota(0.0)
    waits = [quota.take(TRANSIENT, 0.0) for _ in range(36)]
    assert waits[:35] == [0.0] * 35
    assert waits[35] == (TRANSIENT - (CAPACITY - 35 * TRANSIENT)) / REFILL_PER_S


def test_a_retry_after_a_429_is_cheaper():
    """A hundred of them."""
    quota = Quota(0.0)
    assert sum(quota.take(THROTTLED, 0.0) == 0 for _ in range(101)) == 100


def test_time_fills_it_by_one_retry_a_second():
    """An empty purse has one retry in it a second later, and no two."""
    quota = Quota(0.0)
    while quota.take(1.0, 0.0) == 0:
        pass
    assert quota.take(TRANSIENT, 0.99) > 0
    assert quota.take(TRANSIENT, 1.0) == 0
    assert quota.take(TRANSIENT, 1.0) > 0


def test_a_success_puts_back_what_its_retries_took_and_one_more():
    """After an empty purse and a success that took two retries there are two, and one token."""
    quota = Quota(0.0)
    while quota.take(1.0, 0.0) == 0:
        pass
    quota.succeeded(2 * TRANSIENT)
    assert [quota.take(TRANSIENT, 0.0) for _ in range(2)] == [0.0, 0.0]
    assert quota.take(SUCCESS, 0.0) == 0
    assert quota.take(SUCCESS, 0.0) > 0


def test_who_waits_has_paid_nothing():
    """Asking does not cost anything."""
    quota = Quota(0.0)
    while quota.take(1.0, 0.0) == 0:
        pass
    assert [quota.take(TRANSIENT, 0.0) for _ in range(3)] == [1.0, 1.0, 1.0]


@given(st.lists(st.tuples(st.sampled_from(["take", "success"]), st.floats(0, 100), st.floats(0, 5)), max_size=60))
def test_it_never_holds_more_than_it_can(events):
    """Nor less than nothing, whatever happens."""
    quota, now = Quota(0.0), 0.0
    for event, amount, passed_s in events:
        now += passed_s
        if event == "take":
            assert quota.take(amount, now) >= 0
        else:
            quota.succeeded(amount)
        assert 0 <= quota._tokens <= CAPACITY

"""The ceiling: it falls when the endpoint asks for patience and grows back while that helps."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.adaptive import COOLDOWN_S, SUCCESSES_PER_STEP, Ceiling


def test_it_starts_at_what_is_allowed_or_at_64():
    """A large number is not tried at once."""
    assert [Ceiling(n).limit for n in (1, 63, 64, 65, 1000)] == [1, 63, 64, 64, 64]


def test_it_grows_by_one_for_each_success_at_first():
    """Slow start, up to what is allowed and no further."""
    ceiling = Ceiling(100)
    for _ in range(20):
        ceiling.succeeded(0.0, ceiling.limit)
    assert ceiling.limit == 84
    for _ in range(100):
        ceiling.succeeded(0.0, ceiling.limit)
    assert ceiling.limit == 100


def test_it_does_not_grow_while_it_does_not_bind():
    """Nothing is learnt from a success while less than half of it is in use."""
    ceiling = Ceiling(100)
    ceiling.succeeded(0.0, 31)
    assert ceiling.limit == 64


def test_answers_that_come_in_batches_let_it_grow_too():
    """All that are in flight are answered in one turn of the loop: half of them count."""
    ceiling = Ceiling(1000)
    for in_flight in range(64, 0, -1):
        ceiling.succeeded(0.0, in_flight)
    assert ceiling.limit >= 80


def test_a_throttled_request_halves_it():
    """Down to one, and no further."""
    ceiling = Ceiling(8)
    limits = []
    for number in range(6):
        ceiling.throttled(number * COOLDOWN_S, number * COOLDOWN_S)
        limits.append(ceiling.limit)
    assert limits == [4, 2, 1, 1, 1, 1]


def test_a_burst_that_met_the_same_wall_halves_it_once():
    """What was sent before the cut, or is refused within the cooldown, says nothing new."""
    ceiling = Ceiling(64)
    ceiling.throttled(0.0, 1.0)
    for _ in range(63):
        ceiling.throttled(0.0, 1.0)
    ceiling.throttled(0.9, 10.0)
    ceiling.throttled(1.5, 1.9)
    assert ceiling.limit == 32


def test_it_recovers_by_one_for_each_32_successes_sent_since():
    """Those that were sent before the cut do not count."""
    ceiling = Ceiling(64)
    ceiling.throttled(0.0, 1.0)
    for _ in range(100):
        ceiling.succeeded(0.5, 32)
    assert ceiling.limit == 32
    for _ in range(SUCCESSES_PER_STEP):
        ceiling.succeeded(1.5, 32)
    assert ceiling.limit == 33


def test_it_stays_where_it_is_when_it_is_not_adaptive():
    """`limits.adaptive: false` means exactly `limits.concurrency`."""
    ceiling = Ceiling(1000, adaptive=False)
    ceiling.throttled(0.0, 1.0)
    ceiling.succeeded(0.0, 1000)
    assert ceiling.limit == 1000


@given(
    maximum=st.integers(1, 200),
    events=st.lists(st.tuples(st.booleans(), st.floats(0, 5), st.integers(1, 200)), max_size=200),
)
def test_it_never_leaves_its_bounds(maximum, events):
    """Between 1 and what the user allows, whatever happens."""
    ceiling, now = Ceiling(maximum), 0.0
    for throttled, passed_s, in_flight in events:
        sent_at, now = now, now + passed_s
        if throttled:
            ceiling.throttled(sent_at, now)
        else:
            ceiling.succeeded(sent_at, in_flight)
        assert 1 <= ceiling.limit <= maximum

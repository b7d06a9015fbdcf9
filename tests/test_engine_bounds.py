"""What limited a run."""

from __future__ import annotations

from batchrun.engine.bounds import _MOST_CEILINGS, Bounds


def test_the_seconds_of_each_reason_add_up():
    """Each sample counts for the time since the last one."""
    bounds = Bounds(10.0)
    for reason, now in [("input", 11.0), ("pace", 11.5), ("input", 13.5)]:
        bounds.add(reason, now, 64)
    assert bounds.seconds == {"input": 3.0, "pace": 0.5}


def test_a_ceiling_is_noted_when_it_changes():
    """With the second from which on it held."""
    bounds = Bounds(10.0)
    for now, ceiling in [(10.1, 64), (10.2, 64), (10.3, 32), (10.4, 64)]:
        bounds.add("ceiling", now, ceiling)
    assert bounds.ceilings == [(0.1, 64), (0.3, 32), (0.4, 64)]


def test_the_history_of_a_long_run_is_thinned():
    """It stays short, and keeps its beginning."""
    bounds = Bounds(0.0)
    for number in range(20 * _MOST_CEILINGS):
        bounds.add("ceiling", float(number), number)
    assert len(bounds.ceilings) <= _MOST_CEILINGS
    assert bounds.ceilings[0] == (0.0, 0)

"""Which row of A goes with which row of B: the same `custom_id`, else the same request.

A request's key covers model and endpoint, so it is of no help where two models were asked; an id that the input gives
is. Keys come second: they pair the rows of inputs that name the same requests differently.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

import numpy as np

if TYPE_CHECKING:
    from batchrun.report.columns import Flags, Ints
    from batchrun.report.compare.side import Side


class Pairs(NamedTuple):
    """The rows of A and of B that belong together, of equal length, in the order of A's input."""

    a: Ints
    b: Ints
    by_custom_id: int
    only_in_a: int
    only_in_b: int


def pair(a: Side, b: Side) -> Pairs:
    """Pair the rows that are settled in both runs, each with one row at most."""
    settled_a, settled_b = np.flatnonzero(a.states), np.flatnonzero(b.states)
    of_a, of_b = _equal(a.ids[settled_a], b.ids[settled_b])
    pairs_a, pairs_b = [settled_a[of_a]], [settled_b[of_b]]
    left_a, left_b = np.delete(settled_a, of_a), np.delete(settled_b, of_b)
    left_a = left_a[a.keys[left_a] != 0]
    by_key_a, by_key_b = _equal(a.keys[left_a], b.keys[left_b])
    pairs_a.append(left_a[by_key_a])
    pairs_b.append(left_b[by_key_b])
    together_a, together_b = np.concatenate(pairs_a), np.concatenate(pairs_b)
    order = np.argsort(together_a, kind="stable")
    return Pairs(
        a=together_a[order],
        b=together_b[order],
        by_custom_id=len(of_a),
        only_in_a=len(settled_a) - len(together_a),
        only_in_b=len(settled_b) - len(together_b),
    )


def same_request(a: Side, b: Side, pairs: Pairs) -> Flags:
    """Which pairs were sent the same body to the same model and endpoint."""
    keys: Ints = a.keys[pairs.a]
    same: Flags = (keys == b.keys[pairs.b]) & (keys != 0)
    return same


def _equal(a: Ints, b: Ints) -> tuple[Ints, Ints]:
    """Positions of equal numbers; of several that are equal the first with the first, the second with the second."""
    if np.array_equal(a, b):
        return np.arange(len(a)), np.arange(len(a))
    order_a, order_b = np.argsort(a, kind="stable"), np.argsort(b, kind="stable")
    a, b = a[order_a], b[order_b]
    at = np.searchsorted(b, a) + np.arange(len(a)) - np.searchsorted(a, a)
    found = at < len(b)
    found[found] = b[at[found]] == a[found]
    return order_a[found], order_b[at[found]]

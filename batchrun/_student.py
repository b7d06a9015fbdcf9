"""The 97.5 % point of Student's distribution: how much wider a 95 % interval of few values is than one of many."""

from __future__ import annotations

from statistics import NormalDist

_Z = NormalDist().inv_cdf(0.975)
_FIRST = (12.706, 4.303, 3.182, 2.776, 2.571)
"""From one to five degrees of freedom, where the expansion is not good enough."""


def t_975(degrees: int) -> float:
    """The 97.5 % point by the expansion of Fisher and Cornish (1960); infinite without a degree of freedom.

    >>> [round(t_975(degrees), 3) for degrees in (1, 5, 6, 30)]
    [12.706, 2.571, 2.446, 2.042]
    """
    if degrees < 1:
        return float("inf")
    if degrees <= len(_FIRST):
        return _FIRST[degrees - 1]
    first, second = (_Z**3 + _Z) / 4, (5 * _Z**5 + 16 * _Z**3 + 3 * _Z) / 96
    third = (3 * _Z**7 + 19 * _Z**5 + 17 * _Z**3 - 15 * _Z) / 384
    return _Z + first / degrees + second / degrees**2 + third / degrees**3

"""How much of the prompts a prefix cache can serve: in the order of the input as it is, and at best.

A cache serves the beginning that a request shares with an earlier one. Two measures, in bytes of rendered bodies:

- what each body shares with the one right before it: a cache needs to remember one request only;
- what each shares with any before it, which is the same in every order, but only a good order brings it within reach
  of a cache that forgets. It is measured at a few lengths: as many bodies as have a length, less the different
  beginnings of that length, did not have to be read that far.

Of the different beginnings of a length MOST_KEPT are kept, as hashes; when there are more, only those of a known share
of all hashes, so that memory stays the same. Both choices err towards less: what is found can be shared.
"""

from __future__ import annotations

from math import sqrt
from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

LENGTHS = [256 << power for power in range(17)]
"""Where beginnings are compared, in bytes from the first content on: 256, 512, and on to 16 MiB."""

MOST_KEPT = 8192
_CERTAINTY = 2
"""Standard errors by which an estimated count is taken larger; one is 1.1 % to 1.6 % of it."""

_SAID = (b'"content":', b'"prompt":', b'"input":')
_NEAR = 64
_WORD = 128
_AT_ONCE = 512
_MOST_WAITING_BYTES = 4 << 20


class Shared(msgspec.Struct, frozen=True, kw_only=True):
    """Bytes of all bodies from their first content on, and how many of them a cache could serve."""

    rows: int = 0
    total_bytes: int = 0
    with_previous_bytes: int = 0
    with_any_bytes: int = 0

    @property
    def with_previous_share(self) -> float:
        """What a cache that remembers one request serves in this order, from 0 to 1."""
        return self.with_previous_bytes / self.total_bytes if self.total_bytes else 0.0

    @property
    def with_any_share(self) -> float:
        """What a cache that remembers all serves at least, from 0 to 1; in a good order a small one does too."""
        return self.with_any_bytes / self.total_bytes if self.total_bytes else 0.0


class Prefixes:
    """Takes bodies in the order of the input; they are looked at some hundred at a time, which is quicker."""

    def __init__(self) -> None:
        self._waiting: list[bytes] = []
        self._waiting_bytes = 0
        self._previous = b""
        self._common = self._start = self._rows = self._total = self._with_previous = 0
        self._ended = [0] * (len(LENGTHS) + 1)
        self._kept: list[set[int]] = [set() for _ in LENGTHS]
        self._masks = [0] * len(LENGTHS)

    def add(self, body: bytes) -> None:
        """Count one rendered body."""
        self._waiting.append(body)
        self._waiting_bytes += len(body)
        if len(self._waiting) == _AT_ONCE or self._waiting_bytes > _MOST_WAITING_BYTES:
            self._take()

    def _take(self) -> None:
        previous, common, start = self._previous, self._common, self._start
        ended, kept, masks = self._ended, self._kept, self._masks
        for body in self._waiting:
            common = common_bytes(previous, body, common)
            if common < start or not common:
                start = _start_of(body)
            previous = body
            shared = common - start if common > start else 0
            said = len(body) - start
            self._with_previous += shared
            self._total += said
            reached = _lengths_within(said)
            ended[reached] += 1
            for level in range(_lengths_within(shared), reached):  # shorter beginnings are those of the previous
                beginning = hash(body[: start + LENGTHS[level]])
                if not beginning & masks[level] and beginning not in kept[level]:
                    self._keep(level, beginning)
        self._previous, self._common, self._start = previous, common, start
        self._rows += len(self._waiting)
        self._waiting.clear()
        self._waiting_bytes = 0

    def found(self) -> Shared:
        """What was found so far."""
        self._take()
        rows, with_any, shorter = self._rows, 0, 0
        for level, length in enumerate(LENGTHS):
            rows -= self._ended[level]
            with_any += (length - shorter) * max(rows - self._different(level), 0)
            shorter = length
        return Shared(
            rows=self._rows,
            total_bytes=self._total,
            with_previous_bytes=self._with_previous,
            with_any_bytes=max(with_any, self._with_previous),
        )

    def _keep(self, level: int, beginning: int) -> None:
        kept = self._kept[level]
        kept.add(beginning)
        while len(kept) > MOST_KEPT:
            mask = self._masks[level] = 2 * self._masks[level] + 1
            kept = self._kept[level] = {one for one in kept if not one & mask}

    def _different(self, level: int) -> int:
        """How many different beginnings of a length there were, rather too many than too few."""
        kept, mask = len(self._kept[level]), self._masks[level]
        return round((kept + _CERTAINTY * sqrt(kept)) * (mask + 1)) if mask else kept


def shared_prefixes(bodies: Iterable[bytes]) -> Shared:
    """How much of some rendered bodies a prefix cache could serve."""
    prefixes = Prefixes()
    for body in bodies:
        prefixes.add(body)
    return prefixes.found()


def common_bytes(one: bytes, other: bytes, guess: int = 0) -> int:
    """How many bytes two texts have in common at their beginning; quick if it is about as many as guessed."""
    low, high = 0, min(len(one), len(other))
    below, above = guess - _NEAR, guess + _NEAR
    if 0 < below < high:
        if one[:below] != other[:below]:
            high = below
        elif above < high and one[below:above] != other[below:above]:
            low, high = below, above
    while high - low > _WORD:  # equal up to `low`
        middle = (low + high) // 2
        if one[low:middle] == other[low:middle]:
            low = middle
        else:
            high = middle
    differing = int.from_bytes(one[low:high], "little") ^ int.from_bytes(other[low:high], "little")
    return low + ((differing & -differing).bit_length() - 1) // 8 if differing else high


def _lengths_within(said: int) -> int:
    """How many of LENGTHS are not more than that."""
    return min(max(said.bit_length() - 8, 0), len(LENGTHS))


def _start_of(body: bytes) -> int:
    """Where the first content begins; the whole body, where none is seen."""
    for key in _SAID:
        at = body.find(key)
        if at >= 0:
            return at + len(key)
    return 0

"""Which request goes wrong, and how: decided by the seed and the count of requests, so a run can be repeated."""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from typing import TYPE_CHECKING

from batchrun.simulated import refusals

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.simulated.refusals import Refusal
    from batchrun.simulated.scenario import Fault, Scenario


class Draw:
    """One fault of a scenario, and what it has counted so far."""

    def __init__(self, fault: Fault, salt: str) -> None:
        self.fault = fault
        self._salt = salt
        self._matching = 0
        self._tries: Counter[bytes] = Counter()
        self._pattern = re.compile(fault.match.encode()) if fault.match else None

    def strikes(self, number: int, body: bytes) -> bool:
        """Whether this request goes wrong; asked once for each request."""
        fault = self.fault
        if self._pattern is not None and self._pattern.search(body) is None:
            return False
        self._matching += 1
        if fault.first is not None and self._matching > fault.first:
            return False
        if fault.every is not None and self._matching % fault.every != 0:
            return False
        if fault.tries is not None:
            key = hashlib.blake2b(body, digest_size=8).digest()
            self._tries[key] += 1
            if self._tries[key] > fault.tries:
                return False
        return fault.probability >= 1 or _fraction(f"{self._salt}/{number}") < fault.probability


class Faults:
    """All faults of a scenario; where several strike, the first in the list is the one."""

    def __init__(self, scenario: Scenario) -> None:
        self._draws = [Draw(fault, f"{scenario.seed}/{at}") for at, fault in enumerate(scenario.faults)]

    def draw(self, number: int, body: bytes) -> Fault | None:
        """The fault of request `number`, if it has one."""
        struck = [draw.fault for draw in self._draws if draw.strikes(number, body)]
        return struck[0] if struck else None


def refusal(fault: Fault, number: int, elsewhere: str) -> Refusal | None:
    """How a fault answers before any work is done (a redirect leads `elsewhere`); None when it is worked on first."""
    wait_s = fault.retry_after_s
    answers: dict[str, Callable[[], Refusal]] = {
        "rate_limited": lambda: refusals.rate_limited(number, wait_s),
        "overloaded": lambda: refusals.overloaded(wait_s),
        "server_error": lambda: refusals.server_error(fault.status or 500),
        "auth": refusals.unauthorized,
        "redirect": lambda: refusals.Refusal(307, "", {"location": elsewhere}),
        "html": lambda: refusals.Refusal(fault.status or 200, refusals.PAGE),
    }
    answer = answers.get(fault.kind)
    return answer() if answer else None


def _fraction(key: str) -> float:
    return int.from_bytes(hashlib.blake2b(key.encode(), digest_size=8).digest()) / 2**64

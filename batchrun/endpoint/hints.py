"""What an answer's headers say of the endpoint's limits: how much a minute, and when a used-up budget is there again.

Two families of headers: Fireworks' three token limits, and OpenAI's requests and tokens, which many servers send. Both
state their limits per minute: Fireworks' page says seconds, but the values it sends are those of its limits per
minute. OpenAI's one token limit counts prompt and answer together, and the most that the answer might have been, so
that it says nothing of either alone: it is left out. Nothing here is promised by anybody: what makes no sense is
taken as not said.
"""

from __future__ import annotations

import functools
import re
from typing import TYPE_CHECKING

from batchrun.types import Hints

if TYPE_CHECKING:
    from collections.abc import Mapping

_NOTHING = Hints()
_LEAST_PER_MINUTE, _MOST_PER_MINUTE = 1.0, 1e12
_UNIT_S = {"ms": 1e-3, "s": 1.0, "m": 60.0, "h": 3600.0, "d": 86_400.0}
_PIECE = re.compile(r"([0-9]+(?:\.[0-9]+)?)(ms|s|m|h|d)")
_DURATION = re.compile(rf"([+-]?)((?:{_PIECE.pattern})+)")


def hints_of(headers: Mapping[str, str]) -> Hints | None:
    """The limits that an answer states, by header names in lower case; None if it states none."""
    requests = headers.get("x-ratelimit-limit-requests")
    prompt = headers.get("x-ratelimit-limit-tokens-prompt")
    uncached = headers.get("x-ratelimit-limit-tokens-cache-adjusted-prompt")
    generated = headers.get("x-ratelimit-limit-tokens-generated")
    if requests is prompt is uncached is generated is None:
        return None
    return _hints(requests, prompt, uncached, generated)


@functools.lru_cache(64)
def _hints(requests: str | None, prompt: str | None, uncached: str | None, generated: str | None) -> Hints | None:
    """What these four headers say: most answers of a run say the same."""
    hints = Hints(
        requests_per_minute=_limit(requests),
        prompt_tokens_per_minute=_limit(prompt),
        uncached_prompt_tokens_per_minute=_limit(uncached),
        generated_tokens_per_minute=_limit(generated),
    )
    return None if hints == _NOTHING else hints


def reset_s(headers: Mapping[str, str]) -> float | None:
    """Seconds until what is used up is there again, of requests and tokens the later; None if nothing is used up.

    OpenAI writes them as `1s`, `6m0s` or `250ms`; a number without a unit may as well be a time of day, and is ignored.
    """
    waits_s = [
        wait_s
        for budget in ("requests", "tokens")
        if _is_used_up(headers.get(f"x-ratelimit-remaining-{budget}"))
        and (wait_s := _duration_s(headers.get(f"x-ratelimit-reset-{budget}"))) is not None
    ]
    return max(waits_s, default=None)


def _limit(text: str | None) -> float | None:
    value = _number(text)
    return value if value is not None and _LEAST_PER_MINUTE <= value <= _MOST_PER_MINUTE else None


def _is_used_up(remaining: str | None) -> bool:
    value = _number(remaining)
    return value is not None and value <= 0


def _duration_s(text: str | None) -> float | None:
    stated = _DURATION.fullmatch(text.strip()) if text else None
    if stated is None:
        return None
    wait_s = sum(float(number) * _UNIT_S[unit] for number, unit in _PIECE.findall(stated[2]))
    if wait_s == float("inf"):
        return None
    return 0.0 if stated[1] == "-" else wait_s


def _number(text: str | None) -> float | None:
    try:
        return None if text is None else float(text)
    except ValueError:
        return None

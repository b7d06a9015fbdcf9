"""How many tokens a request will take, learnt from what the answers say that theirs took.

Of the prompt: characters a token, and the share that was cached. Of the answer: the mean of those with the same token
limit. Everything is per model, and forgets old answers slowly.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from batchrun.config import LimitsConfig
    from batchrun.types import Request, Usage

_FIRST_CHARS_PER_TOKEN = 4.0
_FIRST_GENERATED = 512
_WEIGHT = 0.05
"""Of a new answer; the first ones weigh more, so that a guess is soon forgotten."""

_IMAGES = re.compile(rb";base64,[A-Za-z0-9+/=]*")


class Need(msgspec.Struct):
    """What a request is expected to take, in tokens."""

    prompt_tokens: float
    uncached_prompt_tokens: float
    generated_tokens: float


class Asked(msgspec.Struct):
    """Of a request's body what says how much it may cost."""

    max_tokens: float | None = None
    max_completion_tokens: float | None = None
    n: float | None = None
    service_tier: Any = None

    @property
    def most_generated(self) -> int | None:
        """How many tokens the answer may have, all choices together; None if there is no limit."""
        most = self.max_tokens if self.max_tokens is not None else self.max_completion_tokens
        if most is None:
            return None
        return int(most) if self.n is None else int(most * max(1.0, self.n))


_decode = msgspec.json.Decoder(Asked).decode


class Mean:
    """A mean that forgets: plain over the first twenty values, then each new one counts a twentieth."""

    def __init__(self, first: float) -> None:
        self.value, self._count = first, 0

    def add(self, value: float) -> None:
        """Learn from one value."""
        self._count += 1
        self.value += (value - self.value) * max(_WEIGHT, 1 / self._count)


class Tokens:
    """What has been learnt of one model."""

    def __init__(self) -> None:
        self._chars_per_token = Mean(_FIRST_CHARS_PER_TOKEN)
        self._uncached_share = Mean(1.0)
        self._generated: dict[int | None, Mean] = {}

    def need(self, request: Request) -> Need:
        """What a request will take; its answer at most as much as its own limit allows."""
        prompt_tokens = prompt_chars(request) / self._chars_per_token.value
        most = most_generated(request)
        mean = self._generated.get(most)
        generated = mean.value if mean else float(_FIRST_GENERATED)
        return Need(
            prompt_tokens=prompt_tokens,
            uncached_prompt_tokens=prompt_tokens * self._uncached_share.value,
            generated_tokens=generated if most is None else min(generated, float(most)),
        )

    def learn(self, request: Request, usage: Usage) -> None:
        """Take in what one request really took."""
        if usage.prompt_tokens:
            self._chars_per_token.add(prompt_chars(request) / usage.prompt_tokens)
            self._uncached_share.add(1 - (usage.cached_tokens or 0) / usage.prompt_tokens)
        if usage.completion_tokens is not None:
            most = most_generated(request)
            mean = self._generated.setdefault(most, Mean(0.0))
            mean.add(float(usage.completion_tokens))


def narrow_limits(limits: LimitsConfig, request: Request) -> list[str]:
    """Which token limits are below the size of one request, in words: such requests go one at a time."""
    need = Tokens().need(request)
    sizes = {"prompt_tokens": need.prompt_tokens, "generated_tokens": float(most_generated(request) or 0)}
    return [
        f"limits.{name}_per_minute {limit:,.0f} is less than one request may take ({size:,.0f}): they go one at a time"
        for name, size in sizes.items()
        if (limit := getattr(limits, f"{name}_per_minute")) is not None and limit < size
    ]


def most_generated(request: Request) -> int | None:
    """How many tokens the answer may have, all choices together; None if the request sets no limit."""
    return asked_of(request).most_generated


def asked_of(request: Request) -> Asked:
    """What a request asks for; nothing where it cannot be read."""
    try:
        return _decode(request.body)
    except msgspec.DecodeError:
        return Asked()


def prompt_chars(request: Request) -> int:
    """The length of what is sent, without images: their letters are no tokens."""
    body = request.body
    return len(_IMAGES.sub(b"", body)) if b";base64," in body else len(body)

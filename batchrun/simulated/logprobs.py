"""Probabilities of tokens, invented: in OpenAI's form, or in the legacy form where a number is asked for."""

from __future__ import annotations

import zlib
from typing import TYPE_CHECKING, Any

from batchrun.simulated.text import pieces

if TYPE_CHECKING:
    from batchrun.simulated.wire import Generation


class Logprobs:
    """What a request wants to know of its tokens."""

    def __init__(self, request: Generation) -> None:
        wanted = request.logprobs
        self._legacy = isinstance(wanted, int) and not isinstance(wanted, bool)
        self._wanted = self._legacy or wanted is True
        self._top = int(wanted or 0) if self._legacy else request.top_logprobs or 0

    def add(self, choice: dict[str, Any], text: str, offset: int = 0) -> dict[str, Any]:
        """Put those of a text, which begins `offset` characters into the answer, into a choice, if anybody asked."""
        if self._wanted:
            choice["logprobs"] = self._of(pieces(text), offset)
        return choice

    def _of(self, tokens: list[str], offset: int) -> dict[str, Any]:
        offsets = [offset + sum(map(len, tokens[:at])) for at in range(len(tokens))]
        if self._legacy:
            return {
                "tokens": tokens,
                "token_logprobs": [_logprob(token) for token in tokens],
                "top_logprobs": [dict(_most_likely(token, self._top)) for token in tokens],
                "text_offset": offsets,
                "token_ids": [_token_id(token) for token in tokens],
            }
        content = [
            {
                **_entry(token, _logprob(token)),
                "token_id": _token_id(token),
                "text_offset": at,
                "top_logprobs": [_entry(*other) for other in _most_likely(token, self._top)],
            }
            for token, at in zip(tokens, offsets, strict=True)
        ]
        return {"content": content}


def _entry(token: str, logprob: float) -> dict[str, Any]:
    return {"token": token, "logprob": logprob, "bytes": list(token.encode())}


def _most_likely(token: str, count: int) -> list[tuple[str, float]]:
    """The token itself and others that might have stood there, the likeliest first."""
    others = [(f"{token}{at}", _logprob(token) - at) for at in range(1, count)]
    return [(token, _logprob(token)), *others][:count]


def _logprob(token: str) -> float:
    return -(_token_id(token) % 1000) / 1000


def _token_id(token: str) -> int:
    return zlib.crc32(token.encode()) % 128_000

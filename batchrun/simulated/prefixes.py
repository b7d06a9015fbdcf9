"""The prompt cache: the messages with which a conversation begins like one that was seen before."""

from __future__ import annotations

from typing import TYPE_CHECKING

from batchrun.simulated.text import tokens_in

if TYPE_CHECKING:
    from batchrun.simulated.chat import ChatRequest

MAX_PREFIXES = 100_000


class Prefixes:
    """Hashes of all beginnings so far; forgotten together when there are too many."""

    def __init__(self) -> None:
        self._seen: set[int] = set()

    def cached_tokens(self, request: ChatRequest) -> int:
        """How many tokens of a conversation are cached; its last message never is, but will be for its next turn."""
        if request.prompt_cache_max_len == 0:
            return 0
        prefix = hash((request.model, request.prompt_cache_isolation_key))
        prefixes = []
        tokens = cached = 0
        for message in request.messages:
            if prefix in self._seen:
                cached = tokens
            prefix = hash((prefix, message.role, message.text, *message.images))
            prefixes.append(prefix)
            tokens += tokens_in(message.text)
        if len(self._seen) > MAX_PREFIXES:
            self._seen.clear()
        self._seen.update(prefixes)
        return cached

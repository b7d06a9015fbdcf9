"""What is generated for a request, whatever the form in which it is sent."""

from __future__ import annotations

from typing import Any

import msgspec

from batchrun.simulated.text import tokens_in


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One of the answers: words, or calls of tools, perhaps after reasoning; `echo` is the prompt, if it is wanted."""

    index: int
    content: str | None
    reasoning: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str = "stop"
    echo: str = ""

    @property
    def reasoning_tokens(self) -> int:
        """How many tokens of it nobody asked to see."""
        return tokens_in(self.reasoning or "")

    @property
    def tokens(self) -> int:
        """How many tokens were generated for it."""
        called = sum(tokens_in(call["function"]["arguments"]) for call in self.tool_calls or [])
        return self.reasoning_tokens + called + tokens_in(self.content or "")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """All choices, or all vectors of /embeddings, and how long they take."""

    request_id: str
    model: str
    choices: list[Choice] = []
    vectors: list[list[float] | str] = []
    prompt_tokens: int
    cached_tokens: int = 0
    ttft_s: float
    per_token_s: float = 0

    @property
    def completion_tokens(self) -> int:
        """The tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def processing_s(self) -> float:
        """The whole generation; choices are generated side by side."""
        return self.ttft_s + self.per_token_s * max((choice.tokens for choice in self.choices), default=0)

    def usage(self, generated: int | None = None) -> dict[str, Any]:
        """The `usage` object, at the end or when so many tokens were `generated`."""
        generated = self.completion_tokens if generated is None else generated
        usage = {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": generated,
            "total_tokens": self.prompt_tokens + generated,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }
        if any(choice.reasoning is not None for choice in self.choices):
            reasoning = sum(choice.reasoning_tokens for choice in self.choices)
            usage["completion_tokens_details"] = {"reasoning_tokens": min(reasoning, generated)}
        return usage

    def metrics(self, *, finished: bool = True) -> dict[str, str]:
        """What is measured, by its name without `fireworks-`; the processing time only when it is over."""
        known = {
            "prompt-tokens": str(self.prompt_tokens),
            "cached-prompt-tokens": str(self.cached_tokens),
            "server-time-to-first-token": f"{self.ttft_s:.3f}",
        }
        return known | {"server-processing-time": f"{self.processing_s:.3f}"} if finished else known

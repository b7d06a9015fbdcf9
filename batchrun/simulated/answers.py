"""From a request to its answer, the same each time: words, counts and durations are drawn from seed and prompt."""

from __future__ import annotations

import hashlib
import math
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.simulated import refusals, text

if TYPE_CHECKING:
    from batchrun.simulated.scenario import Scenario
    from batchrun.simulated.wire import ChatRequest

MESSAGE_OVERHEAD_TOKENS = 4
MAX_CACHED_PROMPTS = 10_000


class Choice(msgspec.Struct, frozen=True, kw_only=True):
    """One of the `n` answers: words, or calls of tools."""

    index: int
    content: str | None
    tool_calls: list[dict[str, Any]] | None = None
    finish_reason: str = "stop"

    @property
    def tokens(self) -> int:
        """How many tokens were generated for it."""
        called = sum(text.tokens_in(call["function"]["arguments"]) for call in self.tool_calls or [])
        return called + text.tokens_in(self.content or "")


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What is generated for a request, and how long that takes."""

    request_id: str
    model: str
    choices: list[Choice]
    prompt_tokens: int
    cached_tokens: int
    ttft_s: float
    per_token_s: float

    @property
    def completion_tokens(self) -> int:
        """The tokens of all choices."""
        return sum(choice.tokens for choice in self.choices)

    @property
    def processing_s(self) -> float:
        """The whole generation; choices are generated side by side."""
        return self.ttft_s + self.per_token_s * max((choice.tokens for choice in self.choices), default=0)

    def usage(self) -> dict[str, Any]:
        """The `usage` object."""
        return {
            "prompt_tokens": self.prompt_tokens,
            "completion_tokens": self.completion_tokens,
            "total_tokens": self.prompt_tokens + self.completion_tokens,
            "prompt_tokens_details": {"cached_tokens": self.cached_tokens},
        }

    def metrics(self, *, finished: bool = True) -> dict[str, str]:
        """What is measured, by its name without `fireworks-`; the processing time only when it is over."""
        known = {
            "prompt-tokens": str(self.prompt_tokens),
            "cached-prompt-tokens": str(self.cached_tokens),
            "server-time-to-first-token": f"{self.ttft_s:.3f}",
        }
        return known | {"server-processing-time": f"{self.processing_s:.3f}"} if finished else known


class Author:
    """Writes answers. It remembers only which system prompts it has seen, as those are cached from then on."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._cached: set[int] = set()

    def answer(self, request: ChatRequest, number: int) -> Answer:
        """Generate an answer.

        Raises:
            Refusal: the prompt is longer than the model's context.
        """
        words = [message.text for message in request.messages]
        prompt_tokens = sum(text.tokens_in(some) + MESSAGE_OVERHEAD_TOKENS for some in words)
        if request.tools:
            prompt_tokens += text.tokens_in(msgspec.json.encode(request.tools).decode())
        longest = self._scenario.context_tokens
        if prompt_tokens > longest:
            message = f"The prompt is too long: {prompt_tokens}, model maximum context length: {longest}"
            raise refusals.bad_request(message, param="messages")
        prompt = "\n".join(words)
        key = f"{self._scenario.seed}\n{request.seed}\n{request.model}\n{prompt}"
        digest = hashlib.blake2b(key.encode("utf-8", "surrogatepass"), digest_size=8)
        draw = Random(int.from_bytes(digest.digest()))
        latency = self._scenario.latency
        return Answer(
            request_id=f"chatcmpl-{digest.hexdigest()}-{number}",
            model=request.model,
            ttft_s=_log_normal(latency.ttft_s, latency.sigma, draw),
            per_token_s=_log_normal(latency.per_token_s, latency.sigma, draw),
            choices=[self._choice(request, prompt, index, draw) for index in range(request.n or 1)],
            prompt_tokens=prompt_tokens,
            cached_tokens=self._cached_tokens(request),
        )

    def _choice(self, request: ChatRequest, prompt: str, index: int, draw: Random) -> Choice:
        tool = _tool_to_call(request)
        if tool is not None:
            arguments = msgspec.json.encode(text.fitting(tool.get("parameters") or {"type": "object"}, draw)).decode()
            function = {"name": tool.get("name", "simulated"), "arguments": arguments}
            call = {"id": f"call_{draw.getrandbits(64):016x}", "type": "function", "function": function}
            return Choice(index=index, content=None, tool_calls=[call], finish_reason="tool_calls")
        content = self._words(request, prompt, draw)
        for stop in request.stop_texts:
            content = content.partition(stop)[0]
        longest = request.token_limit * text.CHARS_PER_TOKEN
        if len(content) > longest:
            return Choice(index=index, content=content[:longest], finish_reason="length")
        return Choice(index=index, content=content)

    def _words(self, request: ChatRequest, prompt: str, draw: Random) -> str:
        shape = request.response_format
        if shape is not None and shape.type == "json_schema":
            return msgspec.json.encode(text.fitting((shape.json_schema or {}).get("schema"), draw)).decode()
        labels = text.labels_in(prompt)
        if shape is not None and shape.type == "json_object":
            answer = draw.choice(labels) if labels else text.plain_answer(request.last_user, 1, draw)
            return msgspec.json.encode({"simulated": True, "answer": answer}).decode()
        if request.ignore_eos:
            return text.plain_answer(request.last_user, request.token_limit + 1, draw)
        if labels:
            return text.label_answer(labels, draw)
        usual = self._scenario.answers
        return text.plain_answer(request.last_user, round(_log_normal(usual.tokens, usual.sigma, draw)), draw)

    def _cached_tokens(self, request: ChatRequest) -> int:
        first = request.messages[0]
        if first.role != "system" or not first.text:
            return 0
        key = hash((request.model, first.text))
        if key in self._cached:
            return text.tokens_in(first.text)
        if len(self._cached) >= MAX_CACHED_PROMPTS:
            self._cached.clear()
        self._cached.add(key)
        return 0


def _tool_to_call(request: ChatRequest) -> dict[str, Any] | None:
    """The function that must be called, if one must be: `required`, `any`, or one that is named."""
    functions = [tool["function"] for tool in request.tools or [] if isinstance(tool.get("function"), dict)]
    wanted = request.tool_choice
    if isinstance(wanted, dict) and isinstance(wanted.get("function"), dict):
        functions = [function for function in functions if function.get("name") == wanted["function"].get("name")]
    elif wanted not in {"required", "any"}:
        return None
    return functions[0] if functions else None


def _log_normal(median: float, sigma: float, draw: Random) -> float:
    return median * math.exp(draw.gauss(0, sigma))

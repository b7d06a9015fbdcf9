"""From a request to its answer, the same each time: words, counts and durations are drawn from seed and prompt."""

from __future__ import annotations

import hashlib
import math
from random import Random
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.simulated import refusals, text
from batchrun.simulated.answers import Answer, Choice
from batchrun.simulated.chat import ChatRequest
from batchrun.simulated.prefixes import Prefixes
from batchrun.simulated.schemas import fitting

if TYPE_CHECKING:
    from batchrun.simulated.scenario import Scenario
    from batchrun.simulated.wire import Asked, Generation


class Author:
    """Writes answers. It remembers only which beginnings of conversations it has seen, as those are cached."""

    def __init__(self, scenario: Scenario) -> None:
        self._scenario = scenario
        self._prefixes = Prefixes()

    def answer(self, request: Generation, number: int) -> Answer:
        """Generate an answer to request `number`.

        Raises:
            Refusal: a prompt is longer than the model's context.
        """
        prompts = request.prompts()
        limits = [self._token_limit(request, asked) for asked in prompts]
        digests = [self._digest(request, asked) for asked in prompts]
        draws = [Random(int.from_bytes(digest)) for digest in digests]
        latency, draw = self._scenario.latency, draws[0]
        chat, each = isinstance(request, ChatRequest), request.n or 1
        return Answer(
            request_id=f"{'chatcmpl' if chat else 'cmpl'}-{digests[0].hex()}-{number}",
            model=request.model,
            ttft_s=log_normal(latency.ttft_s, latency.sigma, draw),
            per_token_s=log_normal(latency.per_token_s, latency.sigma, draw),
            choices=[
                self._choice(request, prompts[at // each], at, limits[at // each], draws[at // each])
                for at in range(each * len(prompts))
            ],
            prompt_tokens=sum(asked.tokens for asked in prompts),
            cached_tokens=self._prefixes.cached_tokens(request) if isinstance(request, ChatRequest) else 0,
        )

    def _token_limit(self, request: Generation, asked: Asked) -> int:
        longest, limit = self._scenario.context_tokens, request.token_limit
        if asked.tokens > longest:
            raise refusals.prompt_too_long(asked.tokens, longest)
        if asked.tokens + limit > longest and request.context_length_exceeded_behavior == "error":
            raise refusals.prompt_too_long(asked.tokens + limit, longest)
        return min(limit, longest - asked.tokens)

    def _digest(self, request: Generation, asked: Asked) -> bytes:
        key = f"{self._scenario.seed}\n{request.seed}\n{request.model}\n{asked.words}"
        return hashlib.blake2b(key.encode(), digest_size=8).digest()

    def _choice(self, request: Generation, asked: Asked, index: int, limit: int, draw: Random) -> Choice:
        reasoning = self._reasoning(request, asked, draw)
        if reasoning is not None:
            reasoning = reasoning[: limit * text.CHARS_PER_TOKEN]
            limit -= text.tokens_in(reasoning)
            if limit <= 0:
                return Choice(index=index, content=None, reasoning=reasoning, finish_reason="length")
        calls = [_call(function, draw) for function in request.functions_to_call]
        if calls:
            return Choice(index=index, content=None, reasoning=reasoning, tool_calls=calls, finish_reason="tool_calls")
        content = self._words(request, asked, limit, draw)
        for stop in request.stop_texts:
            content = content.partition(stop)[0]
        longest = limit * text.CHARS_PER_TOKEN
        return Choice(
            index=index,
            content=content[:longest],
            reasoning=reasoning,
            finish_reason="length" if len(content) > longest else "stop",
            echo=asked.words if request.echo else "",
        )

    def _reasoning(self, request: Generation, asked: Asked, draw: Random) -> str | None:
        if request.reasoning_limit == 0:
            return None
        usual = self._scenario.answers
        tokens = round(log_normal(usual.reasoning_tokens, usual.sigma, draw))
        words = text.sentences("reasoning about", asked.question, tokens, draw)
        return words[: request.reasoning_limit * text.CHARS_PER_TOKEN]

    def _words(self, request: Generation, asked: Asked, limit: int, draw: Random) -> str:
        shape = request.response_format
        if shape is not None and shape.type == "json_schema":
            return msgspec.json.encode(fitting((shape.json_schema or {}).get("schema"), draw)).decode()
        labels = text.labels_in(asked.words)
        if shape is not None and shape.type == "json_object":
            answer = draw.choice(labels) if labels else text.sentences("answer to", asked.question, 1, draw)
            return msgspec.json.encode({"simulated": True, "answer": answer}).decode()
        if request.ignore_eos:
            return text.sentences("answer to", asked.question, limit + 1, draw)
        if labels:
            return text.label_answer(labels, draw)
        usual = self._scenario.answers
        tokens = round(log_normal(usual.tokens, usual.sigma, draw))
        return text.sentences("answer to", asked.question, tokens, draw)


def log_normal(median: float, sigma: float, draw: Random) -> float:
    """A draw from a log-normal distribution."""
    return median * math.exp(draw.gauss(0, sigma))


def _call(function: dict[str, Any], draw: Random) -> dict[str, Any]:
    arguments = msgspec.json.encode(fitting(function.get("parameters") or {"type": "object"}, draw)).decode()
    called = {"name": function.get("name", "simulated"), "arguments": arguments}
    return {"id": f"call_{draw.getrandbits(64):016x}", "type": "function", "function": called}

"""How choices look in a body and in the chunks of a stream, on each path."""

from __future__ import annotations

import time
from typing import TYPE_CHECKING, Any, ClassVar, Protocol

from batchrun.simulated.chat import ChatRequest
from batchrun.simulated.logprobs import Logprobs
from batchrun.simulated.text import CHARS_PER_TOKEN, pieces

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.simulated.answers import Answer, Choice
    from batchrun.simulated.wire import Generation


class Form(Protocol):
    """Everything here is an element of `choices`."""

    whole_object: ClassVar[str]
    chunk_object: ClassVar[str]

    def whole(self, choice: Choice) -> dict[str, Any]:
        """All of it, in a plain answer."""

    def opening(self, choice: Choice) -> dict[str, Any] | None:
        """What comes before the first token in a stream, if anything does."""

    def tokens(self, choice: Choice) -> Iterator[dict[str, Any]]:
        """Each token."""

    def ending(self, choice: Choice) -> dict[str, Any]:
        """What has the finish_reason and no token."""


def form_for(request: Generation) -> Form:
    """The form of the path on which a request came."""
    return ChatForm(request) if isinstance(request, ChatRequest) else TextForm(request)


def payload(request: Generation, answer: Answer) -> dict[str, Any]:
    """The body of a plain answer."""
    form = form_for(request)
    body = {
        "id": answer.request_id,
        "object": form.whole_object,
        "created": int(time.time()),
        "model": answer.model,
        "choices": [form.whole(choice) for choice in answer.choices],
        "usage": answer.usage(),
    }
    return body | {"perf_metrics": answer.metrics()} if request.perf_metrics_in_response else body


class ChatForm:
    """Messages and deltas of /chat/completions."""

    whole_object: ClassVar = "chat.completion"
    chunk_object: ClassVar = "chat.completion.chunk"

    def __init__(self, request: Generation) -> None:
        self._logprobs = Logprobs(request)

    def whole(self, choice: Choice) -> dict[str, Any]:
        """One message, with only the fields that it has."""
        message: dict[str, Any] = {"role": "assistant", "content": choice.content}
        if choice.reasoning is not None:
            message["reasoning_content"] = choice.reasoning
        if choice.tool_calls is not None:
            message["tool_calls"] = choice.tool_calls
        whole = {"index": choice.index, "message": message, "finish_reason": choice.finish_reason}
        return self._logprobs.add(whole, choice.content or "")

    def opening(self, choice: Choice) -> dict[str, Any]:
        """The role."""
        return _delta(choice, {"role": "assistant", "content": ""})

    def tokens(self, choice: Choice) -> Iterator[dict[str, Any]]:
        """Reasoning, then words or calls. Of a call, the first piece has id and name; all have its index."""
        for piece in pieces(choice.reasoning or ""):
            yield _delta(choice, {"reasoning_content": piece})
        for number, piece in enumerate(pieces(choice.content or "")):
            yield self._logprobs.add(_delta(choice, {"content": piece}), piece, number * CHARS_PER_TOKEN)
        for at, call in enumerate(choice.tool_calls or []):
            function = call["function"]
            opening: dict[str, Any] = {"id": call["id"], "type": "function"}
            for number, piece in enumerate(pieces(function["arguments"])):
                name = {"name": function["name"]} if number == 0 else {}
                fragment = {"index": at, **opening, "function": {**name, "arguments": piece}}
                yield _delta(choice, {"tool_calls": [fragment]})
                opening = {}

    def ending(self, choice: Choice) -> dict[str, Any]:
        """An empty delta."""
        return {"index": choice.index, "delta": {}, "finish_reason": choice.finish_reason}


class TextForm:
    """Texts of /completions; whole answers and chunks are the same kind of object."""

    whole_object: ClassVar = "text_completion"
    chunk_object: ClassVar = "text_completion"

    def __init__(self, request: Generation) -> None:
        self._logprobs = Logprobs(request)

    def whole(self, choice: Choice) -> dict[str, Any]:
        """One text, after the prompt if that is to be echoed."""
        content = choice.content or ""
        whole = _text(choice, choice.echo + content, choice.finish_reason)
        return self._logprobs.add(whole, content, len(choice.echo))

    def opening(self, choice: Choice) -> dict[str, Any] | None:
        """The prompt, if that is to be echoed."""
        return _text(choice, choice.echo) if choice.echo else None

    def tokens(self, choice: Choice) -> Iterator[dict[str, Any]]:
        """Words only."""
        for number, piece in enumerate(pieces(choice.content or "")):
            yield self._logprobs.add(_text(choice, piece), piece, len(choice.echo) + number * CHARS_PER_TOKEN)

    def ending(self, choice: Choice) -> dict[str, Any]:
        """An empty text."""
        return _text(choice, "", choice.finish_reason)


def _delta(choice: Choice, delta: dict[str, Any]) -> dict[str, Any]:
    return {"index": choice.index, "delta": delta, "finish_reason": None}


def _text(choice: Choice, text: str, finish_reason: str | None = None) -> dict[str, Any]:
    return {"index": choice.index, "text": text, "finish_reason": finish_reason}

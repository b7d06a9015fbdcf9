"""One choice of a streamed answer, from its pieces: text, reasoning, refusal, tool calls, logprobs."""

from __future__ import annotations

from typing import Any

import msgspec

from batchrun.endpoint.fireworks import whole
from batchrun.endpoint.wire import NOTHING, Choice, Message

_MOST_CALLS = 1024


class Delta(msgspec.Struct):
    """What a chunk adds to a choice."""

    content: Any = None
    reasoning_content: Any = None
    reasoning: Any = None
    refusal: Any = None
    tool_calls: Any = None


class ChunkChoice(msgspec.Struct):
    """One choice in a chunk: of a chat (`delta`; some servers send `message`) or of a text completion (`text`)."""

    index: Any = 0
    delta: Delta | None = None
    message: Delta | None = None
    text: Any = None
    finish_reason: Any = None
    logprobs: Any = None


class Pieces:
    """One choice in the making. `visible` and `reasoning` are what has come of its text, piece by piece."""

    def __init__(self) -> None:
        self.visible: list[str] = []
        self.reasoning: list[str] = []
        self.finish_reason: str | None = None
        self.chars = 0
        self._refusal: list[str] = []
        self._calls: list[dict[str, Any]] = []
        self._logprobs: dict[str, Any] = {}

    def add(self, choice: ChunkChoice) -> tuple[bool, bool]:
        """Take what a chunk has for this choice; returns whether it holds a token, and whether a visible one."""
        if choice.finish_reason and isinstance(choice.finish_reason, str):
            self.finish_reason = choice.finish_reason
        if isinstance(choice.logprobs, dict):
            self._add_logprobs(choice.logprobs)
        delta = choice.delta or choice.message
        if delta is None:
            shown = self._add(self.visible, choice.text)
            return shown, shown
        shown = self._add(self.visible, delta.content)
        shown = self._add(self._refusal, delta.refusal) or shown
        if isinstance(delta.tool_calls, list):
            shown = self._add_calls(delta.tool_calls) or shown
        thought = self._add(self.reasoning, delta.reasoning_content or delta.reasoning)
        return shown or thought, shown

    def choice(self, index: int) -> Choice:
        """The choice as a plain answer would hold it."""
        calls = msgspec.Raw(msgspec.json.encode(self._calls)) if self._calls else NOTHING
        message = Message(
            role="assistant",
            content="".join(self.visible) or None,
            reasoning_content="".join(self.reasoning) or None,
            refusal="".join(self._refusal) or None,
            tool_calls=calls,
        )
        logprobs = msgspec.Raw(msgspec.json.encode(self._logprobs)) if self._logprobs else NOTHING
        return Choice(index=index, message=message, finish_reason=self.finish_reason, logprobs=logprobs)

    def _add(self, pieces: list[str], text: Any) -> bool:
        if isinstance(text, list):  # some endpoints send a list of parts
            text = "".join(
                part["text"] for part in text if isinstance(part, dict) and isinstance(part.get("text"), str)
            )
        if not text or not isinstance(text, str):
            return False
        pieces.append(text)
        self.chars += len(text)
        return True

    def _add_calls(self, fragments: list[Any]) -> bool:
        """Join the fragments of calls by their index: the first has id and name, the later ones add arguments."""
        added = False
        for fragment in fragments:
            if isinstance(fragment, dict) and (call := self._call_of(fragment)) is not None:
                added = True
                function = fragment.get("function")
                if isinstance(function, dict):
                    _join(call["function"], function)
                for name in ("id", "type"):
                    if isinstance(fragment.get(name), str) and fragment[name]:
                        call[name] = fragment[name]
        return added

    def _call_of(self, fragment: dict[str, Any]) -> dict[str, Any] | None:
        """The call that a fragment belongs to; without an index a new id begins a new call."""
        at = whole(fragment.get("index"))
        if at is None:
            new = not self._calls or (fragment.get("id") and fragment["id"] != self._calls[-1]["id"])
            at = len(self._calls) if new else len(self._calls) - 1
        if at >= _MOST_CALLS:
            return None
        while len(self._calls) <= at:
            self._calls.append({"id": "", "type": "function", "function": {"name": "", "arguments": ""}})
        return self._calls[at]

    def _add_logprobs(self, logprobs: dict[str, Any]) -> None:
        """Append a chunk's lists to those before, in OpenAI's form (`content`) as in the legacy one (`tokens`)."""
        for name, value in logprobs.items():
            there = self._logprobs.get(name)
            if isinstance(there, list) and isinstance(value, list):
                there.extend(value)
            elif value is not None or name not in self._logprobs:
                self._logprobs[name] = value


def _join(function: dict[str, Any], fragment: dict[str, Any]) -> None:
    if isinstance(name := fragment.get("name"), str) and not function["name"]:
        function["name"] = name
    arguments = fragment.get("arguments")
    if isinstance(arguments, str):
        function["arguments"] += arguments
    elif isinstance(arguments, dict):
        function["arguments"] += msgspec.json.encode(arguments).decode()

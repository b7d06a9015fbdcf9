"""A streamed answer put together from its chunks, into the same Completion that a plain one gives.

Theory of operation. Events are taken as they arrive, with the time of the piece of bytes that completed them. Usage,
performance metrics, id and model are taken from whichever chunk has them, the last one wins; a chunk may have no
choices. A stream is `over` when `[DONE]` came, when a stop rule struck, or when it cannot be read any further. It is
as good as over, `finished`, when every choice has its finish_reason or an error came, for not every server says
`[DONE]`. What ends otherwise is a truncation. A peer that answers the request for a stream with one JSON object has
it judged as a plain answer.

Sources: OpenAI's chat-completions streaming reference; Fireworks' documentation of the same.
"""

from __future__ import annotations

import math
from array import array
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.endpoint.answer import head, lenient_json
from batchrun.endpoint.events import EventParser, EventTooLarge
from batchrun.endpoint.fireworks import whole
from batchrun.endpoint.pieces import ChunkChoice, Pieces
from batchrun.endpoint.refusal import as_error
from batchrun.endpoint.wire import Body, completion_of, judged, usage_of
from batchrun.errors import Ambiguous
from batchrun.types import Usage

if TYPE_CHECKING:
    from batchrun.endpoint.answer import Answer
    from batchrun.endpoint.events import Event
    from batchrun.endpoint.stop import Stop
    from batchrun.types import Completion, ErrorType, Request

STOPPED = "stopped_by_client"
_MOST_CHOICES = 128
_PLAIN_STARTS = (b"{", b"[", b"<")
_STARTS = (b"data:", b"event:", b":", b"id:", b"retry:")
_SPACE = b" \t\r\n\xef\xbb\xbf"
_CHARS_PER_TOKEN = 4


class _Chunk(msgspec.Struct):
    id: Any = None
    model: Any = None
    choices: list[ChunkChoice] | None = None
    usage: Any = None
    error: Any = None
    perf_metrics: Any = None
    service_tier: Any = None


class _Wanted(msgspec.Struct):
    n: Any = None


_decode = msgspec.json.Decoder(_Chunk).decode


def looks_like_events(content: bytes) -> bool:
    """Whether content that should be JSON is a stream all the same."""
    return content[:1] != b"{" and content[:64].lstrip(_SPACE).startswith(_STARTS)


class Stream:
    """One streamed answer in the making; times are the loop's, in seconds.

    `over` says that nothing more is to be read of it, `done` that the peer said so; its last bytes came at `fed_at`.
    """

    def __init__(self, request: Request, *, sent_at: float, stop: Stop | None = None) -> None:
        self._request, self._sent_at, self._stop = request, sent_at, stop
        self._parser = EventParser()
        self._plain: bool | None = None
        self._body = Body()
        self._choices: dict[int, Pieces] = {}
        self._broken: tuple[ErrorType, str] | None = None
        self._stopped = False
        self._stop_seen = [0, 0]
        self._tokens = 0
        self._first_at: float | None = None
        self._visible_at: float | None = None
        self._last_at: float | None = None
        self._gaps_s = array("d")
        self.over = self.done = self._mended = False
        self.fed_at: float | None = None

    @property
    def finished(self) -> bool:
        """Whether every choice that was asked for has ended, or an error came: nothing more has to come."""
        if self._body.error:
            return True
        if not self._choices or any(choice.finish_reason is None for choice in self._choices.values()):
            return False
        return len(self._choices) >= (whole(msgspec.json.decode(self._request.body, type=_Wanted).n) or 1)

    def feed(self, piece: bytes, at: float) -> None:
        """Take bytes as they came, at this time."""
        if self._plain is None and (start := piece.lstrip(_SPACE)):
            self._plain = start.startswith(_PLAIN_STARTS)
        if self.over:
            return
        self.fed_at = at
        if self._plain:
            return
        try:
            events = self._parser.feed(piece)
        except EventTooLarge as error:
            self._break("response_too_large", str(error))
            return
        for event in events:
            self._take(event, at)
        if self._stop is not None and not self.over:
            self._watch(self._stop)

    def completion(self, answer: Answer) -> Completion:
        """Judge what came; raises an EndpointError where it is no usable completion, with the usage it was charged."""
        if self._plain:
            return completion_of(answer, self._request.api)
        if not self.over:
            self._take_rest()
        usage = usage_of(self._body.usage, None)
        if self._broken:
            raise as_error(answer, Ambiguous, self._broken[0], None, self._broken[1], usage=usage)
        if not self.over and not self.finished:
            said = "the stream broke off: neither a finish_reason nor [DONE] came"
            raise as_error(answer, Ambiguous, "response_truncated", None, said, usage=usage)
        choices = self._body.choices = [self._choices[at].choice(at) for at in sorted(self._choices)]
        text = msgspec.json.encode(choices).decode() if len(choices) > 1 else None
        return judged(answer, self._body, text, mended=self._mended, **self._times(), **self._ending(answer, usage))

    def usage(self) -> Usage | None:
        """What the chunks so far have stated."""
        return usage_of(self._body.usage, None)

    def _take(self, event: Event, at: float) -> None:
        kind, data = event
        if self.over or not data.strip():
            return
        if data.strip() == b"[DONE]":
            self.over = self.done = True
            return
        chunk = self._chunk(data)
        if chunk is None:
            return
        body = self._body
        body.error = body.error or chunk.error or (lenient_json(data) if kind == b"error" else None)
        body.id, body.model = chunk.id or body.id, chunk.model or body.model
        body.usage, body.perf_metrics = chunk.usage or body.usage, chunk.perf_metrics or body.perf_metrics
        body.service_tier = chunk.service_tier or body.service_tier
        for choice in chunk.choices or ():
            index = choice.index if choice.index.__class__ is int else whole(choice.index) or 0
            pieces = self._choices.get(index)
            if pieces is None:
                if not 0 <= index < _MOST_CHOICES:
                    continue
                pieces = self._choices[index] = Pieces()
            token, visible = pieces.add(choice)
            if token:
                self._count(at, visible=visible, timed=index == 0)

    def _take_rest(self) -> None:
        """Take what the end left without its blank line; half an event is no fault of its own, but a truncation."""
        for event in self._parser.rest():
            self._take(event, self._last_at or self._sent_at)
        if self._broken:
            self._broken, self.over = None, False

    def _chunk(self, data: bytes) -> _Chunk | None:
        try:
            return _decode(data)
        except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
            pass
        try:
            chunk = msgspec.convert(lenient_json(data), _Chunk)
        except msgspec.ValidationError as error:
            self._break("response_invalid", f"an event of the stream is no chunk of a completion: {error}")
        except (ValueError, RecursionError):
            self._break(
                "response_unreadable", f"an event of the stream is not JSON: {head(data.decode('utf-8', 'replace'))}"
            )
        else:
            self._mended = True
            return chunk
        return None

    def _count(self, at: float, *, visible: bool, timed: bool) -> None:
        self._tokens += 1
        if self._first_at is None:
            self._first_at = at
        if visible and self._visible_at is None:
            self._visible_at = at
        if timed:
            if self._last_at is not None:
                self._gaps_s.append(at - self._last_at)
            self._last_at = at

    def _watch(self, stop: Stop) -> None:
        """Show the stop rules the text of the first choice that is new."""
        first = self._choices.get(0)
        if first is None or first.finish_reason is not None:
            return
        visible, reasoning = first.visible[self._stop_seen[0] :], first.reasoning[self._stop_seen[1] :]
        self._stop_seen = [len(first.visible), len(first.reasoning)]
        if (visible or reasoning) and stop.strikes("".join(visible), "".join(reasoning)):
            self._stopped = self.over = True

    def _break(self, error_type: ErrorType, message: str) -> None:
        self._broken, self.over = (error_type, message), True

    def _times(self) -> dict[str, float | None]:
        gaps_s = sorted(self._gaps_s)
        return {
            "ttft_s": None if self._first_at is None else self._first_at - self._sent_at,
            "ttfvt_s": None if self._visible_at is None else self._visible_at - self._sent_at,
            "itl_mean_s": math.fsum(gaps_s) / len(gaps_s) if gaps_s else None,
            "itl_p99_s": gaps_s[math.ceil(0.99 * len(gaps_s)) - 1] if gaps_s else None,
        }

    def _ending(self, answer: Answer, usage: Usage | None) -> dict[str, Any]:
        """What a stream that we closed has instead of a finish_reason and a usage."""
        if not self._stopped:
            return {}
        return {
            "finish_reason": STOPPED,
            "usage": usage or self._estimated(answer),
            "usage_estimated": True,
        }

    def _estimated(self, answer: Answer) -> Usage:
        """A token a chunk at least; of the prompt what the headers say, else a guess that an image would spoil."""
        prompt_tokens = whole(answer.headers.get("fireworks-prompt-tokens"))
        if prompt_tokens is None and b";base64," not in self._request.body:
            prompt_tokens = len(self._request.body) // _CHARS_PER_TOKEN
        chars = sum(choice.chars for choice in self._choices.values())
        completion_tokens = max(self._tokens, chars // _CHARS_PER_TOKEN)
        return Usage(
            prompt_tokens=prompt_tokens,
            cached_tokens=whole(answer.headers.get("fireworks-cached-prompt-tokens")),
            completion_tokens=completion_tokens,
            total_tokens=None if prompt_tokens is None else prompt_tokens + completion_tokens,
        )

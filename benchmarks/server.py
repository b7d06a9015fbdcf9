"""The endpoint that the clients are measured against: one fixed chat completion, as fast as Python can send it.

`python -m benchmarks.server` prints its base URL and serves until its standard input closes; then it prints how many
requests it had at once. With `stream` the answer is a stream of 50 tokens, an event, a chunk and a write each, two
milliseconds apart; with `timed LEDGER` it has ten, 0.2 to 0.6 s apart, and the ledger is written at the end: of
each row its index, and the seconds until its first token and its last byte were sent. With `late MILLISECONDS` an
answer comes after so many; with `large` it has 100 KB.
"""

from __future__ import annotations

import asyncio
import json
import random
import resource
import sys
import time
from pathlib import Path
from typing import ClassVar

from benchmarks.work import MODEL

TOKENS, GAP_S = 50, 0.002
FEW_TOKENS, LONG_GAPS_S = 10, (0.2, 0.6)
LARGE = 75
CONTENT = "Your parcel is with the carrier, and the tracking page will catch up by tomorrow evening. " * 8
HEADERS = {
    "Content-Type": "application/json",
    "Date": "Sun, 01 Nov 2026 12:00:00 GMT",
    "Server": "benchmark",
    "x-request-id": "chatcmpl-5d1b7c9e2f",
    "fireworks-prompt-tokens": "212",
    "fireworks-cached-prompt-tokens": "64",
    "fireworks-server-time-to-first-token": "0.044",
    "fireworks-server-processing-time": "0.871",
    "x-ratelimit-limit-requests": "6000",
    "x-ratelimit-remaining-requests": "5999",
}


def answer(content: str = CONTENT) -> bytes:
    """A whole HTTP answer in Fireworks' shape; its body has about 1.3 KB."""
    message = {"role": "assistant", "content": content, "reasoning_content": None, "tool_calls": None}
    usage = {"prompt_tokens": 212, "completion_tokens": 148, "total_tokens": 360}
    body = json.dumps(
        {
            "id": "chatcmpl-5d1b7c9e2f",
            "object": "chat.completion",
            "created": 1793534400,
            "model": MODEL,
            "choices": [{"index": 0, "message": message, "finish_reason": "stop", "logprobs": None}],
            "usage": {**usage, "prompt_tokens_details": {"cached_tokens": 64}},
            "perf_metrics": {"server-time-to-first-token": 0.044, "server-processing-time": 0.871},
        }
    ).encode()
    headers = {**HEADERS, "Content-Length": len(body)}
    head = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    return head.encode() + b"\r\n" + body


def events(tokens: int = TOKENS) -> list[bytes]:
    """The head and the events of a stream in Fireworks' shape, each a chunk of HTTP of about 250 bytes."""
    head = {"id": "chatcmpl-5d1b7c9e2f", "object": "chat.completion.chunk", "created": 1793534400, "model": MODEL}
    words = [word + " " for word in CONTENT.split()[: tokens - 1]]
    deltas = [{"role": "assistant", "content": ""}, *({"content": word} for word in words)]
    chunks = [
        {**head, "choices": [{"index": 0, "delta": delta, "finish_reason": None}], "usage": None} for delta in deltas
    ]
    usage = {"prompt_tokens": 212, "completion_tokens": tokens, "total_tokens": 212 + tokens}
    metrics = {"server-time-to-first-token": "0.044", "server-processing-time": "0.871"}
    chunks.append({**head, "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}], "usage": None})
    chunks.append({**head, "choices": [], "usage": usage, "perf_metrics": metrics})
    texts = [json.dumps(chunk, separators=(",", ":")) for chunk in chunks]
    pieces = [f"data: {text}\n\n".encode() for text in [*texts, "[DONE]"]]
    headers = {**HEADERS, "Content-Type": "text/event-stream", "Transfer-Encoding": "chunked"}
    lines = "HTTP/1.1 200 OK\r\n" + "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    wire = [b"%x\r\n%s\r\n" % (len(piece), piece) for piece in pieces]
    # the ends of choice, usage and stream leave together, as from real servers
    return [lines.encode() + b"\r\n" + wire[0], *wire[1:tokens], b"".join(wire[tokens:]) + b"0\r\n\r\n"]


class Answerer(asyncio.Protocol):
    """Answers every whole request on a kept-alive connection at once, without looking into it."""

    whole = answer()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Begin with nothing received."""
        self.transport = transport
        self.pending = b""

    def data_received(self, data: bytes) -> None:
        """Answer what is complete."""
        self.pending += data
        while (length := request_length(self.pending)) and len(self.pending) >= length:
            self.pending = self.pending[length:]
            self.transport.write(self.whole)


class Large(Answerer):
    """The same with a hundred kilobytes."""

    whole = answer(CONTENT * LARGE * 2)


class Late(Answerer):
    """The same, each answer after a while; counts how many are waited for."""

    at_once = most_at_once = 0
    after_s = 0.1

    def data_received(self, data: bytes) -> None:
        """Answer what is complete, later; the next one comes only after the answer."""
        self.pending += data
        if (length := request_length(self.pending)) and len(self.pending) >= length:
            self.pending = self.pending[length:]
            Late.at_once += 1
            Late.most_at_once = max(Late.most_at_once, Late.at_once)
            asyncio.get_running_loop().call_later(self.after_s, self._answer)

    def _answer(self) -> None:
        Late.at_once -= 1
        if not self.transport.is_closing():
            self.transport.write(self.whole)


class Streamer(Answerer):
    """The same with a stream."""

    pieces = events()
    gap_s = most_gap_s = GAP_S

    def data_received(self, data: bytes) -> None:
        """Begin to stream once a request is complete; the next one comes only after the answer."""
        self.pending += data
        if (length := request_length(self.pending)) and len(self.pending) >= length:
            self.pending = self.pending[length:]
            self._write(0)

    def _write(self, at: int) -> None:
        if self.transport.is_closing():
            return
        self.transport.write(self.pieces[at])
        if at + 1 < len(self.pieces):
            asyncio.get_running_loop().call_later(random.uniform(self.gap_s, self.most_gap_s), self._write, at + 1)


class Timed(Streamer):
    """The same with few tokens, and the times of each."""

    pieces = events(FEW_TOKENS)
    gap_s, most_gap_s = LONG_GAPS_S
    ledger: ClassVar[list[tuple[int, float, float]]] = []

    def data_received(self, data: bytes) -> None:
        """Begin to stream; the row's index is the first word of its prompt."""
        super().data_received(data)
        self.began_at = time.monotonic()
        self.index = int(data.partition(b'"content":"')[2].split(maxsplit=1)[0])

    def _write(self, at: int) -> None:
        super()._write(at)
        if at == 1:
            self.first_s = time.monotonic() - self.began_at
        if at + 1 == len(self.pieces):
            self.ledger.append((self.index, self.first_s, time.monotonic() - self.began_at))


def request_length(data: bytes) -> int:
    """The bytes of the request that `data` begins with, 0 as long as its head is not complete."""
    end = data.find(b"\r\n\r\n")
    if end < 0:
        return 0
    _, _, rest = data[:end].lower().partition(b"\r\ncontent-length:")
    return end + 4 + int(rest.partition(b"\r\n")[0] or 0)


async def serve(protocol: type[Answerer]) -> None:
    server = await asyncio.get_running_loop().create_server(protocol, "127.0.0.1", 0, backlog=2048)
    print(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}/v1", flush=True)
    await asyncio.to_thread(sys.stdin.read)


def main() -> None:
    try:
        from uvloop import run
    except ImportError:
        from asyncio import run
    kind, argument = [*sys.argv[1:], "", ""][:2]
    if kind == "late" and argument:
        Late.after_s = int(argument) / 1000
    hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    run(serve({"stream": Streamer, "timed": Timed, "late": Late, "large": Large}.get(kind, Answerer)))
    if kind == "timed":
        Path(argument).write_text(json.dumps(Timed.ledger))
    print(Late.most_at_once)


if __name__ == "__main__":
    main()

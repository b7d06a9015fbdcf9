"""A raw TCP peer that does what a script says: any bytes, any delay, a close or a reset at any point."""

from __future__ import annotations

import json
import re
import socket
import struct
import threading
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    import ssl
    from collections.abc import Callable, Iterator

READ = "read"
"""Read one request, to the end of its body."""

CLOSE = "close"
"""End the connection with all that was sent delivered."""

RESET = "reset"
"""Break the connection: the other side gets an error."""

END_S = 10
ENDLESS_S = 50
END_OF_CHUNKS = b"0\r\n\r\n"
_LENGTH = re.compile(rb"\r\ncontent-length: *(\d+)", re.IGNORECASE)

ANSWER = {
    "id": "chatcmpl-1",
    "object": "chat.completion",
    "model": "served",
    "choices": [{"index": 0, "message": {"role": "assistant", "content": "yes"}, "finish_reason": "stop"}],
    "usage": {"prompt_tokens": 7, "completion_tokens": 1, "total_tokens": 8},
}


STREAMED: list[Any] = [
    {"id": "chatcmpl-1", "model": "served", "choices": [{"index": 0, "delta": {"role": "assistant", "content": ""}}]},
    {"id": "chatcmpl-1", "model": "served", "choices": [{"index": 0, "delta": {"content": "y"}}]},
    {"id": "chatcmpl-1", "model": "served", "choices": [{"index": 0, "delta": {"content": "es"}}]},
    {"id": "chatcmpl-1", "model": "served", "choices": [{"index": 0, "delta": {}, "finish_reason": "stop"}]},
    {"id": "chatcmpl-1", "model": "served", "choices": [], "usage": ANSWER["usage"]},
]
"""The same answer as a stream has it, without its end mark."""


def http(body: bytes | str | Any, status: int = 200, *, length: int | None = None, **headers: str) -> bytes:
    """A whole HTTP answer; what is neither bytes nor text becomes JSON. `retry_after="3"` is `retry-after: 3`."""
    if not isinstance(body, bytes):
        body = (body if isinstance(body, str) else json.dumps(body)).encode()
    named = {"content-length": str(len(body) if length is None else length)}
    named |= {name.replace("_", "-"): value for name, value in headers.items()}
    lines = "".join(f"{name}: {value}\r\n" for name, value in named.items())
    return f"HTTP/1.1 {status} Said\r\n{lines}\r\n".encode("utf-8", "surrogateescape") + body


def chunked(*chunks: bytes) -> bytes:
    """An answer in chunks, without the last one, which is `END_OF_CHUNKS`."""
    head = b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n"
    return head + b"".join(b"%x\r\n%s\r\n" % (len(chunk), chunk) for chunk in chunks)


def sse(*events: Any, end: bytes = b"data: [DONE]\n\n") -> bytes:
    """The body of a stream; what is no bytes becomes the JSON of an event, `end` is what comes after the last one."""
    texts = [event if isinstance(event, bytes) else b"data: %s\n\n" % json.dumps(event).encode() for event in events]
    return b"".join(texts) + end


class Peer:
    """Listens on a free port, or a given one. The n-th connection gets the n-th script, all others the last."""

    def __init__(self, scripts: list[list[Any]], tls: ssl.SSLContext | None = None, port: int = 0) -> None:
        self._scripts, self._tls = scripts, tls
        self._server = socket.create_server(("127.0.0.1", port), backlog=512)
        self._open: list[socket.socket] = []
        self._ended = False
        self.port = self._server.getsockname()[1]
        self.base_url = f"http{'s' if tls else ''}://127.0.0.1:{self.port}/v1"
        self.connections = 0
        self.requests: list[bytes] = []
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def end(self) -> None:
        """Break everything; it may be said twice."""
        if self._ended:
            return
        self._ended = True
        self._server.shutdown(socket.SHUT_RDWR)
        self._accepting.join(END_S)
        self._server.close()
        for connection in self._open:
            try:
                connection.shutdown(socket.SHUT_RDWR)
            except OSError:
                continue

    def _accept(self) -> None:
        while not self._ended:
            try:
                connection, _ = self._server.accept()
            except OSError:
                return
            script = self._scripts[min(self.connections, len(self._scripts) - 1)]
            self.connections += 1
            self._open.append(connection)
            threading.Thread(target=self._play, args=(connection, script), daemon=True).start()

    def _play(self, connection: socket.socket, script: list[Any]) -> None:
        connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connection.settimeout(END_S)
        try:
            if self._tls:
                connection = self._tls.wrap_socket(connection, server_side=True)
            for step in script:
                if not self._do(step, connection):
                    return
            while connection.recv(65536):
                pass
        except OSError:
            pass
        finally:
            connection.close()

    def _do(self, step: Any, connection: socket.socket) -> bool:
        if step == READ:
            request = _read(connection)
            if request:
                self.requests.append(request)
            return bool(request)
        if step == CLOSE:
            return False
        if step == RESET:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
            return False
        if isinstance(step, bytes):
            connection.sendall(step)
        elif callable(step):
            step(connection)
        else:
            time.sleep(step)
        return True


def for_ever(piece: bytes, after_s: float = 0.0) -> Callable[[socket.socket], None]:
    """A step that sends the same bytes until the other side has enough, on however busy a machine."""

    def send(connection: socket.socket) -> None:
        until = time.monotonic() + ENDLESS_S
        while time.monotonic() < until:
            connection.sendall(piece)
            time.sleep(after_s)

    return send


def echo_length(connection: socket.socket) -> None:
    """A step that reads a request and answers with the length of its body."""
    body = _read(connection).partition(b"\r\n\r\n")[2]
    answer = {"choices": [{"message": {"content": str(len(body))}}]}
    connection.sendall(http(answer))


def _read(connection: socket.socket) -> bytes:
    """One request; nothing if the other side has closed before its end."""
    data = bytearray()
    while b"\r\n\r\n" not in data:
        piece = connection.recv(65536)
        if not piece:
            return b""
        data += piece
    head_bytes = data.index(b"\r\n\r\n") + 4
    match = _LENGTH.search(data[:head_bytes])
    whole = head_bytes + (int(match[1]) if match else 0)
    while len(data) < whole:
        piece = connection.recv(1 << 20)
        if not piece:
            return b""
        data += piece
    return bytes(data)


@contextmanager
def peer(*scripts: list[Any], tls: ssl.SSLContext | None = None, port: int = 0) -> Iterator[Peer]:
    """A peer with these scripts, until the block ends."""
    one = Peer(list(scripts), tls, port)
    try:
        yield one
    finally:
        one.end()


def nobody() -> str:
    """A base URL at which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return f"http://127.0.0.1:{server.getsockname()[1]}/v1"

"""A TCP proxy that spoils what passes: late, slow, in slices, cut off, swallowed; each direction for itself."""

from __future__ import annotations

import select
import socket
import struct
import threading
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Literal, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Iterator

END_S = 10
LINGER_NOT = struct.pack("ii", 1, 0)


class Flow(NamedTuple):
    """One direction of a connection.

    Every piece waits `latency_s`, passes at `bytes_per_s` in slices of `slice_bytes`; after `ends_after` bytes the
    whole connection is closed or reset, only this direction is closed (`half`), or nothing comes any more (`silent`).
    """

    latency_s: float = 0.0
    bytes_per_s: float | None = None
    slice_bytes: int | None = None
    ends_after: int | None = None
    end: Literal["close", "reset", "half", "silent"] = "reset"


class Path(NamedTuple):
    """One connection: what goes to the server, what comes from it, and how late it is taken up."""

    up: Flow = Flow()
    down: Flow = Flow()
    connect_after_s: float = 0.0


CLEAR = Path()


class Toxic:
    """Listens on a free port and passes on to another. The n-th connection takes the n-th path, all others the last."""

    def __init__(self, upstream_port: int, paths: list[Path]) -> None:
        self._upstream_port, self._paths = upstream_port, paths
        self._server = socket.create_server(("127.0.0.1", 0), backlog=128)
        self._open: list[socket.socket] = []
        self.port = self._server.getsockname()[1]
        self.connections = 0
        self._accepting = threading.Thread(target=self._accept, daemon=True)
        self._accepting.start()

    def end(self) -> None:
        """Break everything."""
        self._server.shutdown(socket.SHUT_RDWR)
        self._accepting.join(END_S)
        self._server.close()
        for connection in self._open:
            with suppress(OSError):
                connection.shutdown(socket.SHUT_RDWR)

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._server.accept()
            except OSError:
                return
            path = self._paths[min(self.connections, len(self._paths) - 1)]
            self.connections += 1
            self._open.append(client)
            threading.Thread(target=self._join, args=(client, path), daemon=True).start()

    def _join(self, client: socket.socket, path: Path) -> None:
        time.sleep(path.connect_after_s)
        upstream = "127.0.0.1", self._upstream_port
        with client, suppress(OSError), socket.create_connection(upstream, END_S) as server:
            self._open.append(server)
            _pass_on({client: _Way(server, path.up), server: _Way(client, path.down)})


class _Way:
    """One direction on its way; `open` until it has ended, `swallows` when nothing passes any more."""

    def __init__(self, sink: socket.socket, flow: Flow) -> None:
        sink.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self.sink, self.flow, self.room, self.swallows = sink, flow, flow.ends_after, False

    def pass_on(self, data: bytes) -> bool:
        """Send a piece on, as the flow wants it; returns whether the flow's end is reached."""
        time.sleep(self.flow.latency_s)
        size = self.flow.slice_bytes or len(data)
        for at in range(0, len(data), size):
            piece = data[at : at + size][: self.room]
            self.sink.sendall(piece)
            if self.flow.bytes_per_s:
                time.sleep(len(piece) / self.flow.bytes_per_s)
            if self.room is not None:
                self.room -= len(piece)
                if self.room <= 0:
                    return True
        return False


def _pass_on(ways: dict[socket.socket, _Way]) -> None:
    """Pass bytes on, both ways in turn, until either side or a flow ends the connection."""
    both = list(ways)
    while ways:
        ready, _, _ = select.select(list(ways), [], [], END_S)
        if not ready:
            return
        for source in ready:
            way, data = ways[source], source.recv(65536)
            if not data:
                way.sink.shutdown(socket.SHUT_WR)
                del ways[source]
            elif not way.swallows and way.pass_on(data):
                if way.flow.end == "silent":
                    way.swallows = True
                elif way.flow.end == "half":
                    way.sink.shutdown(socket.SHUT_WR)
                    way.swallows = True
                else:
                    for one in both if way.flow.end == "reset" else []:
                        one.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, LINGER_NOT)
                    return


@contextmanager
def toxic(upstream_port: int, *paths: Path) -> Iterator[Toxic]:
    """A proxy with these paths, until the block ends."""
    one = Toxic(upstream_port, list(paths) or [CLEAR])
    try:
        yield one
    finally:
        one.end()

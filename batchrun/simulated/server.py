"""The simulated endpoint as an HTTP server: where it listens, and when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from typing import TYPE_CHECKING

import click
from aiohttp import web

from batchrun.errors import ConfigError
from batchrun.simulated.endpoint import SimulatedEndpoint
from batchrun.simulated.ledger import Ledger

if TYPE_CHECKING:
    from batchrun.simulated.scenario import Scenario

MAX_OPEN_FILES = 65_536
BACKLOG = 4096


def run_server(
    scenario: Scenario,
    *,
    host: str = "127.0.0.1",
    port: int = 0,
    ledger: str | None = None,
    api_key: str | None = None,
    exit_with_stdin: bool = False,
) -> None:
    """Serve until SIGTERM or SIGINT, or, with `exit_with_stdin`, until stdin ends.

    The first line on stdout is the base URL, e.g. `http://127.0.0.1:41234/v1`. With `exit_with_stdin` SIGINT is left to
    the parent: Ctrl-C reaches both, and the parent may want to wait for what is in flight here.

    Raises:
        ConfigError: the address or the ledger cannot be used.
    """
    endpoint = SimulatedEndpoint(scenario, Ledger(ledger), api_key)
    serving = _serve(endpoint, host, port, scenario.keep_alive_s, exit_with_stdin=exit_with_stdin)
    try:
        import uvloop
    except ImportError:
        asyncio.run(serving)
    else:
        uvloop.run(serving)


async def _serve(
    endpoint: SimulatedEndpoint, host: str, port: int, keep_alive_s: float, *, exit_with_stdin: bool
) -> None:
    loop = asyncio.get_running_loop()
    stop = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, stop.set)
    loop.add_signal_handler(signal.SIGINT, (lambda: None) if exit_with_stdin else stop.set)
    if exit_with_stdin:
        threading.Thread(target=_watch_stdin, args=(loop, stop), daemon=True).start()
    _allow_many_connections()
    server = web.Server(endpoint.handle, handler_cancellation=True, access_log=None, keepalive_timeout=keep_alive_s)
    try:
        listener = await loop.create_server(server, host, port, backlog=BACKLOG)
    except OSError as error:
        message = f"{host}:{port} cannot be served: {os.strerror(error.errno) if error.errno else error}"
        raise ConfigError(message, remedy="give another --port, or leave it out for a free one") from error
    port = listener.sockets[0].getsockname()[1]
    click.echo(f"http://{f'[{host}]' if ':' in host else host}:{port}/v1")
    await stop.wait()
    listener.close()


def _watch_stdin(loop: asyncio.AbstractEventLoop, stop: asyncio.Event) -> None:
    """A thread, as an event loop cannot watch every kind of file."""
    with contextlib.suppress(OSError):
        while os.read(sys.stdin.fileno(), 4096):
            pass
    with contextlib.suppress(RuntimeError):  # the loop has ended already
        loop.call_soon_threadsafe(stop.set)


def _allow_many_connections() -> None:
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    wanted = MAX_OPEN_FILES if hard == resource.RLIM_INFINITY else min(hard, MAX_OPEN_FILES)
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(resource.RLIMIT_NOFILE, (wanted, hard))

"""The HTTP server: what is asked for, whether it is let in, which fault it meets, how it is answered."""

from __future__ import annotations

import asyncio
import contextlib
import os
import resource
import signal
import sys
import threading
from functools import partial
from typing import TYPE_CHECKING, Any

import click
import msgspec
from aiohttp import web

from batchrun.errors import ConfigError
from batchrun.simulated import faults, refusals
from batchrun.simulated.answers import Answer, Author
from batchrun.simulated.ledger import Ledger
from batchrun.simulated.limits import Turnstile
from batchrun.simulated.plain import send_plain, vanish
from batchrun.simulated.refusals import Refusal
from batchrun.simulated.stream import send_stream
from batchrun.simulated.wire import ChatRequest, parse_request

if TYPE_CHECKING:
    from batchrun.simulated.scenario import Fault, Scenario

MODELS = ("accounts/fireworks/models/glm-5p3-flash", "accounts/fireworks/models/gpt-oss-120b", "simulated")
MAX_BODY_BYTES = 64 * 1024 * 1024
MAX_OPEN_FILES = 65_536
BACKLOG = 4096
_SERVER = {"server": "batchrun-simulated"}


class SimulatedEndpoint:
    """One request in, one answer out; all state is in the rooms' own objects."""

    def __init__(self, scenario: Scenario, ledger: Ledger, api_key: str | None = None) -> None:
        self._ledger = ledger
        self._authorization = None if api_key is None else f"Bearer {api_key}"
        self._turnstile = Turnstile(scenario.limits)
        self._faults = faults.Faults(scenario)
        self._author = Author(scenario)

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer anything. GET of the ledger and of the models is not counted."""
        if http.method == "GET" and http.path == "/ledger":
            return _json(200, self._ledger.totals())
        if http.method == "GET" and http.path.endswith("/models"):
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "fireworks"} for name in MODELS]
            return _json(200, {"object": "list", "data": models})
        number = self._ledger.begin()
        try:
            return await self._chat(http, number)
        except Refusal as refusal:
            self._ledger.refused(refusal.status)
            return self._refused(refusal, number)
        finally:
            self._ledger.end()

    async def _chat(self, http: web.BaseRequest, number: int) -> web.StreamResponse:
        body = await _body(http)
        if self._authorization is not None and http.headers.get("authorization") != self._authorization:
            raise refusals.unauthorized()
        if not http.path.endswith("/chat/completions"):
            raise refusals.path_not_found(http.path)
        if http.method != "POST":
            raise Refusal(405, refusals.error_body("Method not allowed", code="METHOD_NOT_ALLOWED"), {"allow": "POST"})
        self._turnstile.admit(number, in_flight=self._ledger.in_flight, now=_now())
        request = parse_request(body)
        if "missing" in request.model:
            raise refusals.model_not_found()
        fault = self._faults.draw(number, body)
        refusal = fault and faults.refusal(fault, number, f"{http.scheme}://{http.host}")
        if refusal:
            raise refusal
        answer = _emptied(self._author.answer(request, number), fault)
        charge = partial(self._charge, number, request, body, answer)
        return await self._send(http, request, answer, fault, charge)

    async def _send(
        self, http: web.BaseRequest, request: ChatRequest, answer: Answer, fault: Fault | None, charge: partial[None]
    ) -> web.StreamResponse:
        if fault is not None and fault.kind in {"silent", "reset_before_answer"}:
            return await vanish(http, answer, silent=fault.kind == "silent", charge=charge)
        request_id = http.headers.get("x-request-id", answer.request_id)
        headers = _SERVER | {"x-request-id": request_id} | self._turnstile.headers(_now())
        if request.stream:
            return await send_stream(http, request, answer, fault=fault, headers=headers, charge=charge)
        perf_metrics = bool(request.perf_metrics_in_response)
        return await send_plain(http, answer, fault=fault, perf_metrics=perf_metrics, headers=headers, charge=charge)

    def _charge(
        self, number: int, request: ChatRequest, body: bytes, answer: Answer, tokens: int, *, status: int = 200
    ) -> None:
        self._turnstile.settle(prompt_tokens=answer.prompt_tokens, completion_tokens=tokens, now=_now())
        self._ledger.charge(number, request, body, answer, tokens=tokens, status=status)

    def _refused(self, refusal: Refusal, number: int) -> web.Response:
        headers = {"x-request-id": f"chatcmpl-refused-{number}", **self._turnstile.headers(_now()), **refusal.headers}
        return _json(refusal.status, refusal.payload, headers)


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


async def _body(http: web.BaseRequest) -> bytes:
    if (http.content_length or 0) > MAX_BODY_BYTES:
        raise Refusal(413, refusals.error_body("The request is too large", code="PAYLOAD_TOO_LARGE"))
    return await http.content.read()


def _emptied(answer: Answer, fault: Fault | None) -> Answer:
    """The answer as the faults `empty` and `no_choices` leave it."""
    if fault is None or fault.kind not in {"empty", "no_choices"}:
        return answer
    kept = answer.choices if fault.kind == "empty" else []
    choices = [msgspec.structs.replace(choice, content="", tool_calls=None, finish_reason="stop") for choice in kept]
    return msgspec.structs.replace(answer, choices=choices)


def _json(status: int, payload: dict[str, Any] | str, headers: dict[str, str] | None = None) -> web.Response:
    """JSON, or a page where the payload is text."""
    if isinstance(payload, str):
        body, content_type = payload.encode(), "text/html"
    else:
        body, content_type = msgspec.json.encode(payload), "application/json"
    return web.Response(status=status, body=body, content_type=content_type, headers=_SERVER | (headers or {}))


def _now() -> float:
    return asyncio.get_running_loop().time()

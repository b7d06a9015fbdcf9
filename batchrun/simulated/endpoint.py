"""What is asked for, whether it is let in, which fault it meets, how it is answered."""

from __future__ import annotations

import asyncio
from functools import partial
from typing import TYPE_CHECKING, Any
from weakref import WeakSet

import msgspec
from aiohttp import web

from batchrun.simulated import embeddings, faults, forms, refusals
from batchrun.simulated.answers import Choice
from batchrun.simulated.author import Author
from batchrun.simulated.chat import ChatRequest
from batchrun.simulated.completions import CompletionRequest
from batchrun.simulated.embeddings import EmbeddingRequest
from batchrun.simulated.limits import Turnstile
from batchrun.simulated.plain import hang_up, send_plain, vanish
from batchrun.simulated.price_list import price_list
from batchrun.simulated.refusals import Refusal
from batchrun.simulated.stream import send_stream
from batchrun.simulated.wire import Generation, parse_request

if TYPE_CHECKING:
    from batchrun.simulated.answers import Answer
    from batchrun.simulated.ledger import Ledger
    from batchrun.simulated.scenario import Fault, Scenario

MODELS = ("accounts/fireworks/models/glm-5p3-flash", "accounts/fireworks/models/gpt-oss-120b", "simulated")
AnyRequest = Generation | EmbeddingRequest
PATHS: dict[str, type[AnyRequest]] = {
    "/chat/completions": ChatRequest,
    "/completions": CompletionRequest,
    "/embeddings": EmbeddingRequest,
}
MAX_BODY_BYTES = 64 * 1024 * 1024
_SERVER = {"server": "batchrun-simulated"}


class SimulatedEndpoint:
    """One request in, one answer out; all state is in the rooms' own objects."""

    def __init__(self, scenario: Scenario, ledger: Ledger, api_key: str | None = None) -> None:
        self._scenario = scenario
        self._ledger = ledger
        self._authorization = None if api_key is None else f"Bearer {api_key}"
        self._turnstile = Turnstile(scenario.limits)
        self._faults = faults.Faults(scenario)
        self._author = Author(scenario)
        self._as_good_as_closed: WeakSet[asyncio.Transport] = WeakSet()

    async def handle(self, http: web.BaseRequest) -> web.StreamResponse:
        """Answer anything. GET of the ledger, of the models and of their prices is not counted."""
        if http.transport in self._as_good_as_closed:
            await http.content.read()  # what is left unread would make a reset of the close
            await hang_up(http, reset=False)
            return web.Response()
        if http.method == "GET" and (told := self._told(http)) is not None:
            return told
        number = self._ledger.begin()
        try:
            return await self._answer(http, number)
        except Refusal as refusal:
            self._ledger.refused(refusal.status)
            return self._refused(refusal, number)
        finally:
            self._ledger.end()

    def _told(self, http: web.BaseRequest) -> web.Response | None:
        """The answer to a question that costs nothing, if it is one."""
        if http.path == "/ledger":
            return _json(200, self._ledger.totals())
        if http.path.endswith("/serverless/models"):
            refusal = refusals.unauthorized() if self._is_stranger(http) else None
            return _json(refusal.status, refusal.payload) if refusal else _json(200, price_list())
        if http.path.endswith("/models"):
            models = [{"id": name, "object": "model", "created": 0, "owned_by": "fireworks"} for name in MODELS]
            return _json(200, {"object": "list", "data": models})
        return None

    async def _answer(self, http: web.BaseRequest, number: int) -> web.StreamResponse:
        body = await _body(http)
        if self._is_stranger(http):
            raise refusals.unauthorized()
        kind = next((kind for path, kind in PATHS.items() if http.path.endswith(path)), None)
        if kind is None:
            raise refusals.path_not_found(http.path)
        if http.method != "POST":
            raise Refusal(405, refusals.error_body("Method not allowed", code="METHOD_NOT_ALLOWED"), {"allow": "POST"})
        self._turnstile.admit(number, in_flight=self._ledger.in_flight, now=_now())
        request = self._read(body, kind)
        fault = self._faults.draw(number, body)
        refusal = fault and faults.refusal(fault, number, f"{http.scheme}://{http.host}/elsewhere{http.path}")
        if refusal:
            raise refusal
        answer = _emptied(self._served(request, number), fault)
        charge = partial(self._charge, number, request, body, answer)
        return await self._send(http, request, answer, fault, charge)

    def _is_stranger(self, http: web.BaseRequest) -> bool:
        return self._authorization is not None and http.headers.get("authorization") != self._authorization

    def _read(self, body: bytes, kind: type[AnyRequest]) -> AnyRequest:
        request = parse_request(body, kind, strict=self._scenario.strict)
        if "missing" in request.model:
            raise refusals.model_not_found()
        if (
            isinstance(request, Generation)
            and request.stream_options is not None
            and self._scenario.stream.stream_options == "rejected"
        ):
            raise refusals.extra_input("stream_options")
        return request

    def _served(self, request: AnyRequest, number: int) -> Answer:
        if isinstance(request, EmbeddingRequest):
            return embeddings.embed(self._scenario, request, number)
        return self._author.answer(request, number)

    async def _send(
        self, http: web.BaseRequest, request: AnyRequest, answer: Answer, fault: Fault | None, charge: partial[None]
    ) -> web.StreamResponse:
        kind = fault.kind if fault else None
        if kind in {"silent", "reset_before_answer"}:
            return await vanish(http, answer, silent=kind == "silent", charge=charge)
        if kind == "close_silently" and http.transport is not None:
            self._as_good_as_closed.add(http.transport)
        request_id = http.headers.get("x-request-id", answer.request_id)
        headers = _SERVER | {"x-request-id": request_id} | self._turnstile.headers(_now())
        scenario = self._scenario
        if isinstance(request, EmbeddingRequest):
            payload = embeddings.payload(answer)
        elif request.stream:
            return await send_stream(
                http, request, answer, scenario=scenario, fault=fault, headers=headers, charge=charge
            )
        else:
            payload = forms.payload(request, answer)
        return await send_plain(
            http, answer, payload, fault=fault, headers=headers, compressed=scenario.gzip, charge=charge
        )

    def _charge(
        self, number: int, request: AnyRequest, body: bytes, answer: Answer, tokens: int, **ending: Any
    ) -> None:
        self._turnstile.settle(prompt_tokens=answer.prompt_tokens, completion_tokens=tokens, now=_now())
        self._ledger.charge(number, request, body, answer, tokens=tokens, **ending)

    def _refused(self, refusal: Refusal, number: int) -> web.Response:
        headers = {"x-request-id": f"chatcmpl-refused-{number}", **self._turnstile.headers(_now()), **refusal.headers}
        return _json(refusal.status, refusal.payload, headers)


async def _body(http: web.BaseRequest) -> bytes:
    if (http.content_length or 0) > MAX_BODY_BYTES:
        raise Refusal(413, refusals.error_body("The request is too large", code="PAYLOAD_TOO_LARGE"))
    return await http.content.read()


def _emptied(answer: Answer, fault: Fault | None) -> Answer:
    """The answer as the faults `empty` and `no_choices` leave it."""
    if fault is None or fault.kind not in {"empty", "no_choices"}:
        return answer
    if fault.kind == "no_choices":
        return msgspec.structs.replace(answer, choices=[], vectors=[])
    choices = [Choice(index=choice.index, content="") for choice in answer.choices]
    return msgspec.structs.replace(answer, choices=choices, vectors=[[] for _ in answer.vectors])


def _json(status: int, payload: dict[str, Any] | str, headers: dict[str, str] | None = None) -> web.Response:
    """JSON, or a page where the payload is text."""
    if isinstance(payload, str):
        body, content_type = payload.encode(), "text/html"
    else:
        body, content_type = msgspec.json.encode(payload), "application/json"
    return web.Response(status=status, body=body, content_type=content_type, headers=_SERVER | (headers or {}))


def _now() -> float:
    return asyncio.get_running_loop().time()

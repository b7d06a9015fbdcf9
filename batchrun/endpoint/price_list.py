"""The endpoint's own list of models and prices, asked for once, on the same terms as every request.

Source: `GET https://api.fireworks.ai/v1/serverless/models` with the key, as Fireworks serves it. Redirects are not
followed, sizes are capped, and the key is taken out of what comes back.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any
from urllib.parse import unquote, urlsplit

import aiohttp

from batchrun import __version__
from batchrun.endpoint.answer import MOST_MENDED_BYTES, Answer, is_success, lenient_json
from batchrun.endpoint.connections import Connector, translated
from batchrun.endpoint.deadline import Deadline
from batchrun.endpoint.refusal import as_error, error_of
from batchrun.endpoint.route import checked_headers, proxy_of, tls_of, urls_of
from batchrun.endpoint.secrets import Secrets
from batchrun.errors import Ambiguous, EndpointError

if TYPE_CHECKING:
    from batchrun.config import Config

MOST_BYTES = MOST_MENDED_BYTES
_NOT_THERE = {404, 405}


def price_list_url(base_url: str) -> str:
    """Where the list is, beside the API that requests go to.

    >>> price_list_url("https://api.fireworks.ai/inference/v1")
    'https://api.fireworks.ai/v1/serverless/models'
    """
    return re.sub(r"(/inference)?(/v\d+\w*)$", r"\2", base_url) + "/serverless/models"


async def read_price_list(config: Config, *, base_url: str, key: str | None) -> Any:
    """The list as JSON values, which nobody has looked at yet.

    Raises:
        ConfigError: the proxy, the certificates or a header cannot be used.
        EndpointError: there is no such list, or it could not be had.
    """
    urls_of(base_url)
    url, proxy = price_list_url(base_url), proxy_of(config.endpoint, base_url)
    secrets = Secrets(key, unquote(proxy.password or "") if proxy else None)
    headers = {
        "Accept": "application/json",
        "Accept-Encoding": "identity",
        "User-Agent": f"batchrun/{__version__}",
        **checked_headers(config.endpoint.headers),
        **({"Authorization": f"Bearer {key}"} if key else {}),
    }
    try:
        async with aiohttp.ClientSession(
            connector=Connector(force_close=True, ssl=tls_of(config.endpoint.ca_file)),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            timeout=aiohttp.ClientTimeout(total=None, connect=config.timeouts.connect_s),
        ) as session:
            with Deadline() as deadline:
                deadline.start(first_s=config.timeouts.first_byte_s, total_s=config.timeouts.attempt_s)
                async with session.get(url, headers=headers, allow_redirects=False, proxy=proxy) as response:
                    content = await _content(response, deadline, config.timeouts.idle_s)
    except (aiohttp.ClientError, TimeoutError) as error:
        raise translated(error, urlsplit(base_url).netloc) from None
    raw = {name.decode("latin-1").lower(): value.decode("latin-1") for name, value in response.raw_headers}
    answer = Answer(
        status=response.status, headers=secrets.out_of_headers(raw), content=secrets.out_of(content), latency_s=0.0
    )
    try:
        return _values(answer, url)
    except EndpointError as error:
        secrets.out_of_error(error)
        raise


async def _content(response: aiohttp.ClientResponse, deadline: Deadline, idle_s: float) -> bytes:
    pieces, room = [], MOST_BYTES
    async for piece in response.content.iter_any():
        deadline.moved(idle_s)
        room -= len(piece)
        if room < 0:
            message = f"the price list is longer than {MOST_BYTES >> 20} MiB"
            raise Ambiguous(message, error_type="response_too_large", status_code=response.status)
        pieces.append(piece)
    return b"".join(pieces)


def _values(answer: Answer, url: str) -> Any:
    if not is_success(answer.status):
        error = error_of(answer, url)
        if answer.status in _NOT_THERE:
            error.remedy = "not every endpoint has such a list; write the prices down yourself: docs/prices.md"
        raise error
    try:
        return lenient_json(answer.content)
    except ValueError as error:
        message = f"{url}: the price list is not JSON"
        raise as_error(answer, Ambiguous, "response_unreadable", None, message) from error

"""The way to an endpoint: its URLs, the headers of a user, a proxy, and who vouches for the other side."""

from __future__ import annotations

import re
import ssl
from typing import TYPE_CHECKING
from urllib.parse import urlsplit
from urllib.request import getproxies, proxy_bypass

from yarl import URL

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from batchrun.config import EndpointConfig
    from batchrun.types import Api

_PATHS: dict[Api, str] = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}
_HEADER_NAME = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")


def urls_of(base_url: str) -> dict[Api, URL]:
    """Where each API is; raises ConfigError."""
    try:
        urlsplit(base_url).netloc.encode("idna")
        return {api: URL(base_url + path) for api, path in _PATHS.items()}
    except ValueError as error:
        remedy = "write e.g. https://api.fireworks.ai/inference/v1, http://localhost:8000/v1, or simulated"
        raise ConfigError(f"endpoint.base_url {base_url!r} is not an http(s) URL", remedy=remedy) from error


def checked_headers(headers: dict[str, str]) -> dict[str, str]:
    """The headers, if they can be sent; raises ConfigError."""
    for name, value in headers.items():
        if not _HEADER_NAME.fullmatch(name) or not value.isprintable():
            raise ConfigError(
                f"endpoint.headers: {name!r} or its value cannot be sent in a header",
                remedy="use letters, digits and dashes for a name, and one line of text for a value",
            )
    return headers


def proxy_of(config: EndpointConfig, base_url: str) -> URL | None:
    """The proxy to go through, if one is asked for; raises ConfigError."""
    text = config.proxy
    if text is None or config.simulated:
        return None
    if text == "env":
        target = urlsplit(base_url)
        text = getproxies().get(target.scheme)
        if not text or proxy_bypass(target.netloc):
            return None
    try:
        url = URL(text if "://" in text else f"http://{text}")
        if url.scheme in {"http", "https"} and url.host:
            return url
    except ValueError:
        pass
    raise ConfigError("the proxy that endpoint.proxy names is not an http URL", remedy="write http://host:port")


def tls_of(ca_file: str | None) -> ssl.SSLContext | bool:
    """Whom to trust: the system's authorities, or those of a file; raises ConfigError."""
    if ca_file is None:
        return True
    try:
        return ssl.create_default_context(cafile=ca_file)
    except (OSError, ssl.SSLError) as error:
        remedy = "name a PEM file with the certificate of the authority"
        raise ConfigError(f"endpoint.ca_file {ca_file} cannot be used: {error}", remedy=remedy) from error

"""Where requests go: the one spelling of a base URL, and whose it is."""

from __future__ import annotations

import re
from urllib.parse import urlsplit, urlunsplit

from batchrun.errors import ConfigError

SIMULATED = "simulated"
"""The base URL of the embedded endpoint."""


def normal_base_url(text: str) -> str:
    """The one spelling of a base URL: no trailing slash, no API path, a version segment (`/v1` where none is given).

    >>> normal_base_url("http://localhost:8000/")
    'http://localhost:8000/v1'
    >>> normal_base_url("https://api.fireworks.ai/inference/v1/chat/completions")
    'https://api.fireworks.ai/inference/v1'
    """
    text = text.strip()
    if text == SIMULATED:
        return text
    parts = urlsplit(text if _host(text) else "")
    if parts.scheme not in {"http", "https"} or re.search(r"\s", text):
        raise ConfigError(
            f"endpoint.base_url {text!r} is not an http(s) URL",
            remedy="write e.g. https://api.fireworks.ai/inference/v1, http://localhost:8000/v1, or simulated",
        )
    if "@" in parts.netloc or parts.query or parts.fragment:
        raise ConfigError(
            "endpoint.base_url has a user, a query or a fragment; these may hold secrets and are not sent",
            remedy="leave them out; the key comes from the variable that endpoint.api_key_env names",
        )
    path = re.sub(r"(/(chat/completions|completions|embeddings|models))?/*$", "", parts.path.rstrip("/"))
    if not any(re.fullmatch(r"v\d+\w*", segment) for segment in path.split("/")):
        path += "/v1"
    return urlunsplit((parts.scheme, parts.netloc.lower(), path, "", ""))


def is_fireworks(base_url: str) -> bool:
    """Whether Fireworks itself answers there."""
    host = _host(base_url)
    return host == "fireworks.ai" or host.endswith(".fireworks.ai")


def is_us_only(base_url: str) -> bool:
    """Whether that is Fireworks' host that serves from the United States alone, which costs more."""
    return _host(base_url) == "us.api.fireworks.ai"


def _host(url: str) -> str:
    """The host of a URL, nothing if it has none or cannot be taken apart."""
    try:
        parts = urlsplit(url)
        port = parts.port
    except ValueError:
        return ""
    return (parts.hostname or "") if port != 0 else ""

"""Short messages to a URL of the user's, in the background: a heartbeat, a webhook. None of them can hold a run up."""

from __future__ import annotations

import queue
import threading
import urllib.error
import urllib.request
from contextlib import closing
from typing import Any
from urllib.parse import urlsplit

from batchrun.cli.lines import say
from batchrun.errors import ConfigError

PING_S, END_S = 5.0, 8.0
"""How long one message may take, and how long the end of a run waits for all that are still out."""


class _NoRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: Any, **__: Any) -> None:
        """Follow none: a message goes where the user said, and nowhere else."""


class Pings:
    """Sends one message after the other; a URL is a secret, so that only its host is ever named.

    `urls` are those to come, by option; raises ConfigError for one that no message can be sent to.
    """

    def __init__(self, urls: dict[str, str | None]) -> None:
        for option, url in urls.items():
            _check(option, url)
        self._messages: queue.SimpleQueue[tuple[str, str, bytes, str] | None] = queue.SimpleQueue()
        self._thread: threading.Thread | None = None

    def send(self, what: str, url: str, body: bytes = b"", kind: str = "text/plain; charset=utf-8") -> None:
        """Send a message some time soon; where that fails the user is warned."""
        if self._thread is None:
            self._thread = threading.Thread(target=self._work, name="batchrun-pings", daemon=True)
            self._thread.start()
        self._messages.put((what, url, body, kind))

    def finish(self) -> None:
        """Return when all are sent, or after END_S."""
        if self._thread:
            self._messages.put(None)
            self._thread.join(END_S)
            if self._thread.is_alive():
                say(f"warning: a message was not sent within {END_S:g} s")

    def _work(self) -> None:
        send = urllib.request.build_opener(_NoRedirects).open
        while message := self._messages.get():
            what, url, body, kind = message
            request = urllib.request.Request(url, data=body, headers={"Content-Type": kind}, method="POST")  # noqa: S310
            try:
                with closing(send(request, timeout=PING_S)):
                    pass
            except urllib.error.HTTPError as error:
                error.close()
                say(f"warning: {what}: {urlsplit(url).hostname} answered {error.code}")
            except Exception as error:  # noqa: BLE001 (whatever it is, the run is not about this)
                why = getattr(error, "reason", None) or error
                say(f"warning: {what}: {urlsplit(url).hostname} was not reached: {type(why).__name__}")


def _check(option: str, url: str | None) -> None:
    if url is None:
        return
    parts = urlsplit(url)
    if parts.scheme not in {"http", "https"} or not parts.hostname or not url.isascii() or " " in url:
        raise ConfigError(f"{option}: is not an http(s) URL", remedy=f"{option} https://hc-ping.com/your-uuid")

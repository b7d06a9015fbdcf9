"""The oracle of tests: a line for every request that would be charged, and counts of everything."""

from __future__ import annotations

import hashlib
import os
import time
from collections import Counter
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from batchrun.simulated.answers import Answer
    from batchrun.simulated.wire import Body

LAST_USER_CHARS = 200


class Ledger:
    """Lines go straight to the file, one write each, so that they outlive this process however it ends."""

    def __init__(self, path: str | None = None) -> None:
        self.requests = 0
        self.in_flight = 0
        self._peak_in_flight = 0
        self._charged = 0
        self._prompt_tokens = 0
        self._completion_tokens = 0
        self._by_status: Counter[str] = Counter()
        self._file: int | None = None
        if path is not None:
            try:
                self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
            except OSError as error:
                message = f"{path}: the ledger cannot be written: {error.strerror}"
                raise ConfigError(message, remedy="name a file in a folder of yours: --ledger charged.jsonl") from error

    def begin(self) -> int:
        """Count a request in; its number, from 1."""
        self.requests += 1
        self.in_flight += 1
        self._peak_in_flight = max(self._peak_in_flight, self.in_flight)
        return self.requests

    def end(self) -> None:
        """Count it out."""
        self.in_flight -= 1

    def refused(self, status: int) -> None:
        """It was answered without being served."""
        self._by_status[str(status)] += 1

    def charge(
        self,
        number: int,
        request: Body,
        body: bytes,
        answer: Answer,
        *,
        tokens: int,
        status: int = 200,
        aborted: bool = False,
    ) -> None:
        """It was served: `tokens` were generated. `status` 0 says that no status line will be sent.

        Raises:
            OSError: the line could not be written.
        """
        self._by_status[str(status)] += 1
        self._charged += 1
        self._prompt_tokens += answer.prompt_tokens
        self._completion_tokens += tokens
        if self._file is None:
            return
        line = {
            "at": round(time.time(), 6),
            "request": number,
            "api": request.api,
            "body_sha256": hashlib.sha256(body).hexdigest(),
            "last_user": request.last_user[:LAST_USER_CHARS],
            "status": status,
            "prompt_tokens": answer.prompt_tokens,
            "cached_tokens": answer.cached_tokens,
            "completion_tokens": tokens,
            "aborted": aborted,
            "in_flight": self.in_flight,
            "model": answer.model,
        }
        os.write(self._file, msgspec.json.encode(line) + b"\n")

    def totals(self) -> dict[str, Any]:
        """The answer to GET /ledger."""
        return {
            "requests": self.requests,
            "charged": self._charged,
            "by_status": dict(self._by_status),
            "in_flight": self.in_flight,
            "peak_in_flight": self._peak_in_flight,
            "prompt_tokens": self._prompt_tokens,
            "completion_tokens": self._completion_tokens,
        }

"""One request over HTTP: from the bytes of a Request to a Completion, or to an EndpointError that says what to do."""

from __future__ import annotations

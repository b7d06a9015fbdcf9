"""A server that speaks the wire of a chat-completions endpoint and costs nothing."""

from __future__ import annotations

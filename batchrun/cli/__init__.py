"""The terminal: the group below is the table of contents, one file a command."""

from __future__ import annotations

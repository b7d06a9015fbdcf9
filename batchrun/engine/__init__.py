"""Many requests at once, within limits."""

from __future__ import annotations

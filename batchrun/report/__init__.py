"""What it cost and how long it took."""

from __future__ import annotations

"""Run a file of prompts through a language-model endpoint, and never pay twice."""

from __future__ import annotations

__version__ = "0.1.0"

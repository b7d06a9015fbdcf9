"""What is on disk: journal, then parts, then manifest; and the way back from whatever a crash left."""

from __future__ import annotations

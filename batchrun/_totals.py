"""What the rows add up to that a start has settled, for those who watch it: bars, lines and traces."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

if TYPE_CHECKING:
    from batchrun.types import Record


class Totals(msgspec.Struct):
    """Sums of settled rows; `unpriced` are those that succeeded at an unknown cost."""

    succeeded: int = 0
    failed: int = 0
    unpriced: int = 0
    prompt_tokens: int = 0
    completion_tokens: int = 0
    nano_usd: int = 0

    @property
    def done(self) -> int:
        """All that are settled."""
        return self.succeeded + self.failed

    def add(self, record: Record) -> None:
        """Count a row."""
        if record.error_type is None:
            self.succeeded += 1
            self.unpriced += record.cost_usd is None
        else:
            self.failed += 1
        self.prompt_tokens += record.prompt_tokens or 0
        self.completion_tokens += record.completion_tokens or 0
        self.nano_usd += round((record.cost_usd or 0.0) * 1e9)

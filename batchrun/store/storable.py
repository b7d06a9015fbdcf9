"""What neither a journal line nor a column can hold, replaced visibly: half a surrogate pair, a number out of range."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from batchrun.types import Record

_LARGEST = {"status_code": 2**31 - 1}
_LARGEST_WHOLE = 2**63 - 1


def storable(record: Record) -> Record:
    """The same record with U+FFFD for half a surrogate pair, and null for a number that its column cannot hold."""
    return type(record)(**{name: _fitting(name, value) for name, value in msgspec.structs.asdict(record).items()})


def _fitting(name: str, value: Any) -> Any:
    if isinstance(value, str):
        return value.encode("utf-16-le", "surrogatepass").decode("utf-16-le", "replace")
    if isinstance(value, int) and abs(value) > _LARGEST.get(name, _LARGEST_WHOLE):
        return None
    return value

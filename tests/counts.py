"""The counts that the rigs reached, kept in `docs/counts.json`: a count that falls fails its rig."""

from __future__ import annotations

import json
from pathlib import Path

COUNTS = Path(__file__).parent.parent / "docs/counts.json"


def read_counts(path: Path = COUNTS) -> dict[str, dict[str, int]]:
    """What is kept: by rig what was counted, and how many."""
    return json.loads(path.read_text(encoding="utf-8")) if path.exists() else {}


def reach(rig: str, what: str, count: int, at_least: int, *, path: Path = COUNTS, write: bool = False) -> None:
    """Fail where a count is too low, or lower than the one kept; `write` keeps it in place of that."""
    kept = read_counts(path)
    floor = at_least if write else max(at_least, kept.get(rig, {}).get(what, 0))
    assert count >= floor, f"{rig}: {count:,} {what}; it has to reach {floor:,}"
    if write:
        kept.setdefault(rig, {})[what] = count
        by_number = sorted(kept.items(), key=lambda item: int(item[0].removeprefix("T")))
        path.write_text(json.dumps(dict(by_number), indent=2) + "\n", encoding="utf-8")

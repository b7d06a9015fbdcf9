"""What a command does without, so that it starts fast and a request costs little."""

from __future__ import annotations

import gc
import os
import sys


class _Hidden:
    @staticmethod
    def find_spec(name: str, *_: object) -> None:
        if name == "pandas":
            raise ImportError(name)


def be_lean() -> None:
    """Collect garbage less often: an exchange makes some hundred objects and hardly a cycle. And no pandas.

    To be called before anything that is heavy is imported: some modules convert a value when they are.
    """
    gc.set_threshold(10_000)
    _leave_pandas_out()
    _take_less_memory()


def _leave_pandas_out() -> None:
    """Let pyarrow ask for pandas now and find none: else it imports it (0.3 s) with the first value it converts.

    `to_pandas` imports it all the same, when it is called.
    """
    import pyarrow as pa

    sys.meta_path.insert(0, _Hidden)
    try:
        pa.scalar(0)
    finally:
        sys.meta_path.remove(_Hidden)


def _take_less_memory() -> None:
    """Let Arrow take its memory from jemalloc where it has that, and nobody has chosen: docs/decisions/0004 has why."""
    import pyarrow as pa

    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ and "jemalloc" in pa.supported_memory_backends():
        pa.set_memory_pool(pa.jemalloc_memory_pool())

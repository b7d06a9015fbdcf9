"""Run a file of prompts through a language-model endpoint, and never pay twice.

>>> import batchrun
>>> report = batchrun.run("configs/quickstart.yaml")    # doctest: +SKIP
>>> answers = batchrun.read("runs/quickstart").to_pandas()    # doctest: +SKIP
>>> frame["answer"] = batchrun.map(frame, model="m", template="Translate: {{ text }}")["content"]    # doctest: +SKIP
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"
__all__ = ["Options", "amap", "arun", "map", "read", "run", "stream"]

if TYPE_CHECKING:
    from batchrun.mapping import amap, map, stream  # noqa: A004 (what it is)
    from batchrun.run import Options, arun, run
    from batchrun.store.snapshot import read


def __getattr__(name: str) -> Any:
    """Import what is asked for when it is asked for: `import batchrun` costs nothing."""
    if name not in __all__:
        raise AttributeError(f"module 'batchrun' has no attribute {name!r}")
    import importlib

    where = {"read": "store.snapshot", "map": "mapping", "amap": "mapping", "stream": "mapping"}
    return getattr(importlib.import_module(f"batchrun.{where.get(name, 'run')}"), name)


def __dir__() -> list[str]:
    """What a prompt offers after a dot, also before it was imported."""
    return sorted({*globals(), *__all__})

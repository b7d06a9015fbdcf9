"""What is this run, and does it fit the folder? The same requests under the same ids do, whatever else changed."""

from __future__ import annotations

import uuid
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun import __version__
from batchrun.errors import FolderUnusable
from batchrun.pricing import load_prices
from batchrun.store.folder import RunFile

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.config import Config
    from batchrun.store.folder import RunFolder

_SHAPES_REQUESTS = ("input", "endpoint.base_url", "endpoint.api", "request.")
_SHOWN_CHARS = 60


def describe(config: Config, *, rows: int, models: dict[str, int], fingerprint: str) -> RunFile:
    """What `run.json` says of a new run: its configuration, its requests' fingerprint, the prices of its models."""
    book = load_prices(config.prices)
    ours = config.endpoint.simulated or config.endpoint.is_fireworks
    prices = {model: price for model in models if (price := book.price_for(model, short_names=ours))}
    return RunFile(
        run_id=uuid.uuid4().hex,
        created_at=datetime.now(UTC).isoformat("T", "seconds"),
        batchrun_version=__version__,
        rows=rows,
        models=models,
        fingerprint=fingerprint,
        config=msgspec.to_builtins(config),
        prices=msgspec.to_builtins(msgspec.structs.replace(book, prices=prices)),
    )


def fit(folder: RunFolder, run: RunFile) -> RunFile:
    """Make `run.json` say `run`, keeping the identity and the prices of a run that is there.

    Raises:
        FolderUnusable: the folder holds answers to other requests; the message lists what differs.
    """
    if not folder.exists():
        folder.write_run_file(run)
        return run
    there = folder.read_run_file()
    if there.fingerprint != run.fingerprint:
        differences = list(_differences(there, run))
        raise FolderUnusable(
            f"{folder}: holds the results of other requests than these:\n  " + "\n  ".join(differences),
            remedy="undo the change, or write into a new folder with -o",
        )
    same_prices = there.config.get("prices") == run.config.get("prices")
    kept = msgspec.structs.replace(
        run, run_id=there.run_id, created_at=there.created_at, prices=there.prices if same_prices else run.prices
    )
    if kept != there:
        folder.write_run_file(kept)
    return kept


def _differences(there: RunFile, run: RunFile) -> Iterator[str]:
    before, now = dict(_flat(there.config)), dict(_flat(run.config))
    for key in sorted(before.keys() | now.keys()):
        if key.startswith(_SHAPES_REQUESTS) and before.get(key) != now.get(key):
            yield f"{key}: {_shown(before.get(key))} -> {_shown(now.get(key))}"
    if there.rows != run.rows:
        yield f"rows of the input: {there.rows:,} -> {run.rows:,}"
    else:
        yield "the ids or the requests of some rows"


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"

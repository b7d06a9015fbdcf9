"""Does this run fit the folder? The same requests under the same ids do, whatever else of the configuration changed."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.errors import FolderUnusable

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.store.folder import RunFile, RunFolder

_SHAPES_REQUESTS = ("input", "endpoint.base_url", "endpoint.api", "request.")
_SHOWN_CHARS = 60


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

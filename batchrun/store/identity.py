"""What is this run, does it fit the folder, and if not, what may be done? Only the requests and ids count."""

from __future__ import annotations

import os
import tempfile
import uuid
from datetime import UTC, datetime
from itertools import count
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from batchrun import __version__
from batchrun.errors import FolderUnusable
from batchrun.pricing import load_prices
from batchrun.store.changes import Change, InputRows, Names, compare
from batchrun.store.folder import RunFile, RunFolder
from batchrun.store.manifest import Manifest
from batchrun.store.moving import move

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.config import Config

OnChange = Literal["refuse", "append", "rerun", "new"]

_SHAPES_REQUESTS = ("input", "endpoint.base_url", "endpoint.api", "request.")
_SHOWN_CHARS = 60


class Fitted(msgspec.Struct, frozen=True, kw_only=True):
    """A run that its folder is ready for; `exposed` are rows of the input before `change` that a crash exposed."""

    run: RunFile
    change: Change | None = None
    exposed: list[int] = []


def describe(config: Config, *, rows: int, models: dict[str, int], fingerprint: str) -> RunFile:
    """What `run.json` says of a new run: its configuration, its requests' fingerprint, the prices of its models."""
    book = load_prices(config.prices, base_url=config.endpoint.base_url)
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


def fit(folder: RunFolder, run: RunFile, input_rows: InputRows = lambda: (), on_change: OnChange = "refuse") -> Fitted:
    """Make a locked folder, and its `run.json`, one of `run`, keeping the identity and the prices of a run in it.

    Args:
        folder: where the run lives.
        run: what is to be run.
        input_rows: reads the input's rows; called only if the folder holds answers to other requests.
        on_change: what to do then: `append` takes new rows in, `rerun` also sets aside what has changed or is gone.

    Raises:
        FolderUnusable: the folder is damaged, or it holds answers to other requests and this is not allowed; the
            message lists what differs.
    """
    if not folder.exists():
        folder.write_run_file(run)
        return Fitted(run=run)
    there = held_by(folder)
    if there.fingerprint == run.fingerprint:
        return Fitted(run=_take_over(folder, there, run))
    new = Names.of_input(input_rows())
    change, _ = compare(folder, new)
    if on_change != "rerun" and (on_change != "append" or change.changed or change.gone):
        differences = [*_differences(there, run), f"rows: {change}"]
        if on_change == "append":
            differences.append("--on-change append is for new rows alone: some have changed or are gone")
        raise FolderUnusable(
            f"{folder}: holds the results of other requests than these:\n  " + "\n  ".join(differences),
            remedy=_ways_out(change),
        )
    exposed = move(folder, there, run, input_rows, new)
    return Fitted(run=_take_over(folder, there, run), change=change, exposed=exposed)


def held_by(folder: RunFolder) -> RunFile:
    """What a folder holds: what `run.json` says, with the input as it is since the last change of it."""
    there = folder.read_run_file()
    return Manifest(folder, there.run_id).with_input(there)


def folder_of(path: str, run: RunFile) -> RunFolder:
    """The first of `path`, `path-2`, `path-3` … that holds this run, or nothing yet."""
    folders = map(RunFolder, _beside(path))
    return next(one for one in folders if not one.exists() or held_by(one).fingerprint == run.fingerprint)


def fresh_folder(path: str) -> RunFolder:
    """The first of `path`, `path-2`, `path-3` … that is not there."""
    return RunFolder(next(one for one in _beside(path) if not os.path.lexists(one)))


def temporary_folder() -> str:
    """The path of a folder that is not there yet, for a run whose user has named none."""
    return os.path.join(tempfile.gettempdir(), f"batchrun-{uuid.uuid4().hex[:12]}")  # noqa: PTH118 (what is passed on is text)


def _beside(path: str) -> Iterator[str]:
    yield path
    yield from (f"{path.rstrip('/')}-{number}" for number in count(2))


def _take_over(folder: RunFolder, there: RunFile, run: RunFile) -> RunFile:
    same_prices = there.config.get("prices") == run.config.get("prices")
    kept = msgspec.structs.replace(
        run, run_id=there.run_id, created_at=there.created_at, prices=there.prices if same_prices else run.prices
    )
    if kept != folder.read_run_file():
        folder.write_run_file(kept)
    return kept


def _ways_out(change: Change) -> str:
    if not change.changed and not change.gone:
        return "--on-change append to send the new rows, or --on-change new to write into a new folder"
    return (
        f"undo the change, or --on-change rerun to send {change.changed:,} changed and {change.new:,} new rows and set "
        "answers that nobody asks for aside, or --on-change new to write into a new folder"
    )


def _differences(there: RunFile, run: RunFile) -> Iterator[str]:
    before, now = dict(_flat(there.config)), dict(_flat(run.config))
    for key in sorted(before.keys() | now.keys()):
        if key.startswith(_SHAPES_REQUESTS) and before.get(key) != now.get(key):
            yield f"{key}: {_shown(before.get(key))} -> {_shown(now.get(key))}"
    if there.rows != run.rows:
        yield f"rows of the input: {there.rows:,} -> {run.rows:,}"


def _flat(values: Any, path: str = "") -> Iterator[tuple[str, Any]]:
    if isinstance(values, dict):
        for key, value in values.items():
            yield from _flat(value, f"{path}.{key}" if path else str(key))
    else:
        yield path, values


def _shown(value: Any) -> str:
    text = msgspec.json.encode(value).decode()
    return text if len(text) <= _SHOWN_CHARS else text[:_SHOWN_CHARS] + "…"

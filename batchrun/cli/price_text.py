"""Prices as people and programs read them: one model with its reasons, all of them, or what a new list changes."""

from __future__ import annotations

from datetime import UTC, date, datetime
from typing import TYPE_CHECKING, Any

import msgspec

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchrun.pricing import Deployment, Price, PriceBook, Why
    from batchrun.pricing.renewed import Change

_WHY = {
    "name": "the row of this very name",
    "short name": "the short name of {model}",
    "pattern": "the first pattern that fits: {model}",
    "size": "a GUESS from the size in its name; no run is charged by it",
}
_HEADS = ("model", "input", "cached", "output", "priority", "")


def one_as_text(model: str, found: tuple[Why, Price] | None, deployment: Deployment | None) -> str:
    """What one model costs, why, and which row says so."""
    if found is None:
        return "" if deployment is None else _deployment(model, deployment)
    why, price = found
    half = ", half of input" if price.cached_input_usd_per_mtok is None else ""
    lines = [
        ("input", f"${_usd(price.pico_usd_per_token[0])} per million tokens"),
        ("cached", f"${_usd(price.pico_usd_per_token[1])}{half}"),
        ("output", f"${_usd(price.pico_usd_per_token[2])}"),
        ("priority", _priority(price, sign="$") or "not known"),
        ("why", _WHY[why].format(model=price.model)),
        *_from(price),
    ]
    if price.context_tokens:
        lines.append(("context", f"{price.context_tokens:,} tokens"))
    lines += [("note", text) for text in (_retirement(price), price.note) if text]
    return _block(model, lines)


def all_as_text(book: PriceBook, rows: Iterable[Price]) -> str:
    """All rows as a table, in US dollars per million tokens."""
    cells = [_HEADS, *(_cells(price) for price in rows)]
    widths = [max(len(row[column]) for row in cells) for column in range(len(_HEADS) - 1)]
    lines = [f"US dollars per million tokens; {book.date}, {book.source}", ""]
    for name, *numbers, note in cells:
        right = "  ".join(text.rjust(width) for text, width in zip(numbers, widths[1:], strict=True))
        lines.append(f"{name.ljust(widths[0])}  {right}  {note}".rstrip())
    by_hour = [f"{row.model}: {_hourly(row)}" for row in book.deployments]
    return "\n".join([*lines, *by_hour]) + "\n"


def as_json(found: Iterable[tuple[str, Any]]) -> str:
    """The rows as JSON, one object a row, with why each is in force."""
    rows = [{"why": why, **msgspec.to_builtins(row)} for why, row in found]
    return msgspec.json.format(msgspec.json.encode(rows)).decode()


def changes_as_text(changes: Iterable[Change]) -> str:
    """What a list changes, a line a model; what is new has no prices before it."""
    lines = [f"{change.what.ljust(7)}  {change.model}  {_difference(change)}" for change in changes]
    return "\n".join(lines or ["no price has changed"]) + "\n"


def _difference(change: Change) -> str:
    names = [name for name in {**change.before, **change.after} if change.before.get(name) != change.after.get(name)]
    if change.what == "kept":
        listed = ", ".join(f"{_short(name)} {change.after.get(name, 'not given')}" for name in names)
        return f"yours; the list has {listed}"
    if not change.before or not change.after:
        return ", ".join(f"{_short(name)} {usd:g}" for name, usd in (change.before or change.after).items())
    pairs = [(_short(name), *(side.get(name, "unknown") for side in (change.before, change.after))) for name in names]
    return ", ".join(f"{name} {before} -> {after}" for name, before, after in pairs)


def _short(name: str) -> str:
    return name.removesuffix("_usd_per_mtok").replace("cached_input", "cached").replace("_", " ")


def _cells(price: Price) -> tuple[str, ...]:
    pico = price.pico_usd_per_token
    notes = (_retirement(price), "a guess" if price.guess else "", price.note)
    return (
        price.model,
        *map(_usd, pico),
        _priority(price),
        "; ".join(note for note in notes if note),
    )


def _priority(price: Price, sign: str = "") -> str:
    pico = price.pico_at("priority")
    return " / ".join(sign + _usd(one) for one in pico) if pico else ""


def _deployment(model: str, row: Deployment) -> str:
    lines = [("price", _hourly(row)), ("why", f"the first row of `deployments` that fits: {row.model}"), *_from(row)]
    lines.append(("note", "its time is paid, not its tokens: rows have no cost of their own"))
    return _block(model, lines + ([("note", row.note)] if row.note else []))


def _hourly(row: Deployment) -> str:
    each = f"${row.usd_per_gpu_hour:g} an hour for each GPU"
    return each if row.gpus == 1 else f"{each}, {row.gpus} GPUs: ${row.usd_per_gpu_hour * row.gpus:g} an hour"


def _from(row: Price | Deployment) -> list[tuple[str, str]]:
    about = ", ".join(text for text in (row.date, row.source) if text)
    return [("row", row.origin), ("source", about or "not given")]


def _retirement(price: Price) -> str:
    if not price.retired_on:
        return ""
    today = datetime.now(UTC).date()
    if date.fromisoformat(price.retired_on) > today:
        return f"will be retired on {price.retired_on}"
    return f"retired on {price.retired_on}"


def _block(model: str, lines: list[tuple[str, str]]) -> str:
    return "\n".join([model, *(f"  {name:<9} {text}" for name, text in lines)]) + "\n"


def _usd(pico_per_token: int) -> str:
    """US dollars per million tokens, with all the digits there are, cents at least."""
    dollars, rest = divmod(pico_per_token, 1_000_000)
    return f"{dollars}.{f'{rest:06}'.rstrip('0').ljust(2, '0')}"

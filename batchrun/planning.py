"""What a run is about to do, as its user is told before anything is sent."""

from __future__ import annotations

from collections import Counter
from contextlib import suppress
from itertools import chain
from typing import TYPE_CHECKING, Any

import msgspec
import pyarrow as pa

from batchrun.engine.money import worst_nano_usd
from batchrun.engine.tokens import most_generated, narrow_limits
from batchrun.engine.watch import Plan
from batchrun.errors import ConfigError, PromptError
from batchrun.pricing import PriceBook
from batchrun.store.folder import REPLACED
from batchrun.store.rows import MISSING
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from batchrun.config import Config
    from batchrun.prompts import Prompts
    from batchrun.prompts.render import Renderer
    from batchrun.store.folder import RunFile, RunFolder
    from batchrun.store.identity import Fitted
    from batchrun.store.keeper import Store
    from batchrun.types import Request

_CHARGES = ("index", "attempts", "attempt_log", "cost_usd", "usage_source")
_TOLD = ["endpoint", "estimated"]
_UNCHARGED = {
    "input_invalid",
    "request_rejected",
    "context_length_exceeded",
    "content_filtered",
    "authentication",
    "billing",
    "not_found",
    "rate_limited",
    "overloaded",
}
"""Failures of an attempt that the endpoint did not serve."""


def plan_of(
    config: Config,
    fitted: Fitted,
    store: Store,
    prompts: Prompts,
    renderer: Renderer,
    *,
    limit: int | None,
    first: Request | None,
    early: Iterable[int] = (),
) -> Plan:
    """Rows, what is open of the first `limit` of them, and what the user should know.

    `first` is the first request; the `early` rows, a pilot's, are sent before others.
    """
    change = [f"the input has changed: {fitted.change}"] if fitted.change else []
    folder, exposed, budget_usd = store.recovered.folder, store.recovered.exposed, config.limits.max_cost_usd
    return Plan(
        folder=str(folder),
        run_id=fitted.run.run_id,
        rows=fitted.run.rows,
        open_rows=store.open_rows(limit),
        concurrency=config.limits.concurrency,
        flush_s=config.store.flush_ms / 1000,
        simulated=config.endpoint.simulated,
        exposed=fitted.exposed or exposed,
        exposed_nano_usd=most_nano_usd(prompts, renderer, Counter(exposed), fitted.run) if exposed else None,
        budget_usd=budget_usd,
        spent_nano_usd=spent_nano_usd(prompts, renderer, exposed, fitted.run, folder) if budget_usd else 0,
        notes=change + (narrow_limits(config.limits, first) if first else []),
        pilot_rows=sum(map(store.is_open, early)),
    )


def most_nano_usd(prompts: Prompts, renderer: Renderer, answers: Mapping[int, int], run: RunFile) -> int | None:
    """The most that so many answers to each of some rows cost; None where a price or a token limit is not known."""
    price_for, nano_usd = msgspec.convert(run.prices, PriceBook).price_for, 0
    for prompt in prompts.read(lambda index: index not in answers) if answers else ():
        if isinstance(prompt, PromptError):
            continue
        with suppress(PromptError):
            request = renderer.render(prompt)
            worst = worst_nano_usd(request, price_for(request.model))
            if worst is None:
                return None
            nano_usd += worst * answers[prompt.index]
    return nano_usd


def spent_nano_usd(prompts: Prompts, renderer: Renderer, exposed: list[int], run: RunFile, folder: RunFolder) -> int:
    """What earlier starts may have spent: what is known, and the worst case of each answer of which it is not."""
    known, answers = charged_so_far(folder)
    return known + (most_nano_usd(prompts, renderer, answers + Counter(exposed), run) or 0)


def refuse_unlimited(request: Request | None) -> None:
    """Under a budget every request needs a token limit; raises ConfigError."""
    if request and request.api != "embeddings" and most_generated(request) is None:
        raise ConfigError(
            f"{request.custom_id}: sets no max_tokens, so nobody can say what it may cost under limits.max_cost_usd",
            remedy="set request.params.max_tokens, or max_tokens in the rows that set parameters of their own",
        )


def refuse_unpriced(run: RunFile) -> None:
    """Under a budget every model needs a price; raises ConfigError."""
    price_for = msgspec.convert(run.prices, PriceBook).price_for
    unpriced = [model for model in run.models if price_for(model) is None]
    if unpriced:
        raise ConfigError(
            f"no price is known for {', '.join(unpriced[:5])}, so that limits.max_cost_usd could not be kept",
            remedy="put prices into a file and name it as `prices`, or --allow-unpriced to leave such rows uncounted",
        )


def charged_so_far(folder: RunFolder) -> tuple[int, Counter[int]]:
    """What is known to have been charged in a folder, in nano-dollars, and by row the answers whose cost is not."""
    import pyarrow.compute as pc

    snapshot, unknown = Snapshot(folder.path), Counter[int]()
    parts = snapshot.manifest.parts.values()
    nano_usd = sum(part.cost_nano_usd for part in parts if part.name.startswith(f"{REPLACED}/"))
    batches = chain(snapshot.batches("results", _CHARGES), snapshot.batches("failures", (*_CHARGES, "error_type")))
    for batch in batches:
        cost = batch.column("cost_usd")
        nano_usd += pc.sum(pc.round(pc.multiply(cost, 1e9)).cast(pa.int64())).as_py() or 0
        told = pc.is_in(batch.column("usage_source"), pa.array(_TOLD))
        doubtful = pc.or_(pc.greater(batch.column("attempts"), 1), pc.invert(told))
        for row in batch.filter(doubtful).to_pylist():
            unknown[row["index"]] += _unknown_answers(row)
    turns = {record.index: record.cost_usd for record in snapshot.manifest.turns()}
    nano_usd += sum(round(usd * 1e9) for index, usd in turns.items() if usd and snapshot.rows[index] == MISSING)
    return nano_usd, +unknown


def _unknown_answers(row: dict[str, Any]) -> int:
    """How many attempts of a row may have been charged without a word about it."""
    last = {"error_type": row.get("error_type"), "cost_usd": 0 if row["usage_source"] in _TOLD else None}
    log = msgspec.json.decode(row["attempt_log"] or "[]")
    return sum(one.get("cost_usd") is None and one.get("error_type") not in _UNCHARGED for one in [*log, last])

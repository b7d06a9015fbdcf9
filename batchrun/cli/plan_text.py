"""A plan as people read it: no line wider than a terminal, each number with what it rests on, and what nobody knows."""

from __future__ import annotations

import textwrap
from typing import TYPE_CHECKING

from batchrun.report.format import dollars, duration, percent
from batchrun.report.format import rows as counted

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.forecast.models import ModelForecast
    from batchrun.forecast.ranges import Range
    from batchrun.forecasting import Forecast

_WIDTH = 100
_INDENT = 10
_REQUEST_CHARS = 2000
_MODELS_SHOWN = 10
_LEAST_SAVED_USD = 0.0001
_BY = {
    "guess": "a guess of 2 to 6 bytes a token, with all of them cached for `low`",
    "answers": "as the {answers:,} answers in the folder",
    "tokenizer": "text counted with {tokenizer}; what the chat template adds is a guess",
    "tokenizer and answers": "text counted with {tokenizer}; what the chat template adds, as in {answers:,} answers",
}


def to_text(found: Forecast) -> str:
    """The plan in lines of text."""
    lines = [f"{found.folder}: {counted(found.rows)} ({_forms(found)}), {found.to_send:,} to send"]
    if found.change:
        lines.append(f"The input has changed: {found.change}. It takes --on-change to go on.")
    lines += [f"problem: {problem}" for problem in found.problems]
    if found.invalid > len(found.problems):
        lines.append(f"and {found.invalid - len(found.problems):,} more")
    if found.to_send:
        lines += ["", f"{'':{_INDENT}}{'low':>14}{'likely':>14}{'high':>14}"]
        lines.append(_tokens("Prompt", found.prompt_tokens))
        lines.append(_tokens("Answers", found.completion_tokens))
        if found.cost_usd:
            lines.append(_cost(found.cost_usd, found))
        lines.append("")
        for name, texts in (
            ("Models", _models(found)),
            ("Budget", _budget(found)),
            ("Time", _time(found)),
            ("GPUs", _deployments(found)),
            ("Caching", _caching(found)),
        ):
            for text in texts:
                lines += textwrap.wrap(
                    text,
                    _WIDTH,
                    initial_indent=f"{name:{_INDENT}}",
                    subsequent_indent=" " * _INDENT,
                    break_on_hyphens=False,
                    break_long_words=False,
                )
                name = ""  # noqa: PLW2901 (it stands once)
    return "\n".join([*lines, *_first(found)])


def _forms(found: Forecast) -> str:
    forms = [f"{count:,} {form}" for form, count in found.forms.items()]
    return ", ".join([*forms, *([f"{found.invalid:,} that cannot be sent"] if found.invalid else [])])


def _tokens(name: str, tokens: Range) -> str:
    return f"{name:{_INDENT}}{tokens.low:14,.0f}{tokens.likely:14,.0f}{tokens.high:14,.0f}  tokens"


def _cost(cost: Range, found: Forecast) -> str:
    usd = "".join(f"{dollars(value):>14}" for value in (cost.low, cost.likely, cost.high))
    about = "a GUESS of prices, see below" if found.guessed_models else f"at the prices of {found.price_date}"
    return f"{'Cost':{_INDENT}}{usd}  {about}{', of those that have one' if found.unpriced_models else ''}"


def _models(found: Forecast) -> Iterator[str]:
    for one in found.models[:_MODELS_SHOWN]:
        yield from _why(one, found)
    if len(found.models) > _MODELS_SHOWN:
        yield f"and {len(found.models) - _MODELS_SHOWN:,} more models"
    if found.unpriced_models:
        names = ", ".join(found.unpriced_models[:_MODELS_SHOWN])
        yield f"unpriced: {names}; put a price into a file and name it as `prices`"


def _why(one: ModelForecast, found: Forecast) -> Iterator[str]:
    tier = f" in the {one.tier} tier" if one.tier != "standard" else ""
    turns = f", {one.requests:,} requests" if one.requests != one.rows else ""
    by = _BY[one.prompt_tokens_by].format(answers=one.learnt_from, tokenizer=found.tokenizer)
    yield f"{one.model}{tier}: {counted(one.rows)}{turns}"
    yield f"prompts: {by}"
    if one.learnt_from:
        yield f"answers: as long as the {one.learnt_from:,} in the folder"
    else:
        yield "answers: a guess of one token to their limit; `run --pilot 20` would learn it"
    if found.tokenizer and "tokenizer" not in one.prompt_tokens_by and one.learnt_from:
        yield f"{found.tokenizer} counts more than the endpoint did, or is another model's: not used"
    if one.unlimited_rows:
        yield f"{one.unlimited_rows:,} rows set no max_tokens: their answers may cost more than `high`"
    if one.image_rows:
        yield f"{one.image_rows:,} rows have images or videos, whose tokens nobody here can count"
    if one.price_guessed:
        yield "its price is a GUESS from the size in its name: a run shows it as unpriced, and no budget goes by it"


def _budget(found: Forecast) -> Iterator[str]:
    if found.budget_usd is None:
        return
    cost, budget = found.cost_usd, dollars(found.budget_usd)
    if found.unpriced_models or found.guessed_models or cost is None:
        yield f"{budget}: models without a price of their own are refused, unless --allow-unpriced leaves them out"
    elif found.budget_usd >= cost.high:
        yield f"{budget} is enough for all of it"
    elif found.budget_usd >= cost.likely:
        yield f"{budget} is likely to be enough"
    else:
        share = percent(found.budget_usd, cost.likely)
        yield f"{budget} is likely to end the run after about {share} of it; a larger one goes on"


def _time(found: Forecast) -> Iterator[str]:
    if found.least_s is not None:
        yield f"at least {duration(found.least_s)}: {found.bound_by}"
    else:
        yield "not known: no limit a minute is set, and no answer is there to tell how long one takes"


def _deployments(found: Forecast) -> Iterator[str]:
    if found.usd_per_hour is None:
        return
    hourly = f"{dollars(found.usd_per_hour)} an hour, apart from the cost above, for as long as they are up"
    least = "" if found.least_s is None else f": at least {dollars(found.usd_per_hour * found.least_s / 3600)}"
    yield f"{hourly}{least}"


def _caching(found: Forecast) -> Iterator[str]:
    cache = found.caching
    if not cache.at_best_share:
        yield "no two prompts begin alike: a prefix cache has nothing to serve"
        return
    kept = _saves(cache.as_ordered_saves_usd)
    yield f"a prompt begins as the one before it for {percent(cache.as_ordered_share, 1)} of its text{kept}"
    if cache.reordering_pays:
        best = _saves(cache.at_best_saves_usd)
        yield (
            f"as any other for at least {percent(cache.at_best_share, 1)} of it{best}: put rows that begin alike next "
            "to each other, for endpoints forget"
        )
    else:
        yield "no other order would do better"


def _saves(usd: float | None) -> str:
    return f", which a perfect cache makes {dollars(usd)} cheaper" if usd and usd >= _LEAST_SAVED_USD else ""


def _first(found: Forecast) -> list[str]:
    if not found.first_url:
        return []
    import msgspec

    body = msgspec.json.format(msgspec.json.encode(found.first_request), indent=2).decode()
    cut = body if len(body) <= _REQUEST_CHARS else body[:_REQUEST_CHARS] + "…"
    lines = [part for line in cut.splitlines() for part in textwrap.wrap(line, _WIDTH, drop_whitespace=False)]
    return ["", f"The first request: POST {found.first_url}", *lines]

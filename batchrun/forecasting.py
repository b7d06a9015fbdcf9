"""What a run would send, cost and take, before it sends anything: `batchrun plan`.

Tokens are estimates. Of models that the run folder has answers of, their means are used: prompt tokens a byte, tokens
an answer, seconds a request. Of others a guess is: a token has two to six bytes, an answer between one token and its
limit; `tokenizer` counts the prompts' text instead. Each range holds what is to be expected; its middle is the
likeliest.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from batchrun.endpoint.route import urls_of
from batchrun.engine.tokens import asked_of, prompt_chars
from batchrun.forecast.caching import Caching, caching_of
from batchrun.forecast.duration import bound_of
from batchrun.forecast.models import (
    LEAST_LEARNT,
    UNLIMITED,
    Learnt,
    ModelForecast,
    Rows,
    cached_shares,
    cost_of,
    of_tokens,
)
from batchrun.forecast.ranges import NOTHING, Range
from batchrun.forecast.tokenizer import TokenCounts
from batchrun.pricing import load_prices
from batchrun.prompts import open_prompts
from batchrun.prompts.check import Checked, check, keys_of
from batchrun.prompts.prefixes import Prefixes
from batchrun.prompts.render import Renderer
from batchrun.store.changes import InputRows, Names, compare
from batchrun.store.folder import RunFolder
from batchrun.store.rows import OPEN_STATES
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterable

    from batchrun.config import Config
    from batchrun.pricing import Price, PriceBook, Tier
    from batchrun.types import Request

_NO_MODEL = 0xFFFFFFFF
_MOST_CALLS = 0xFFFF
_LEARNT = ["index", "requested_model", "prompt_tokens", "cached_tokens", "completion_tokens", "latency_s"]


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What `batchrun plan` says; `change` is how the input differs from the one that the folder holds answers to.

    `cost_usd` is of the models that have a price, guessed ones included; None if none has. `usd_per_hour` is what all
    deployments that it would run on cost together. `least_s` is the time that what `bound_by` names makes the run take
    at least; None where no limit is configured and no answer is there to tell how long one takes.
    """

    folder: str
    files: list[str]
    rows: int
    forms: dict[str, int]
    invalid: int
    problems: list[str]
    to_send: int
    requests: int
    change: str | None
    models: list[ModelForecast]
    prompt_tokens: Range
    completion_tokens: Range
    cost_usd: Range | None
    unpriced_models: list[str]
    guessed_models: list[str]
    price_date: str
    budget_usd: float | None
    usd_per_hour: float | None
    tokenizer: str | None
    caching: Caching
    least_s: float | None
    bound_by: str | None
    first_url: str | None
    first_request: Any


class Sizes:
    """Fourteen bytes a row: its model and tier, the bytes of its prompts, its token limit, its requests.

    `frame_bytes` of the first request are not text: its parameters, its keys.
    """

    def __init__(self, tokenizer: str | None) -> None:
        self.models: dict[tuple[str, Tier], int] = {}
        self.frame_bytes = 0
        self.images: dict[int, int] = {}
        self.prefixes = Prefixes()
        self._counts = TokenCounts(tokenizer) if tokenizer else None
        self._model, self._bytes, self._most, self._calls = array("I"), array("I"), array("I"), array("H")

    def add(self, request: Request | None) -> None:
        """Append a row; None is one that cannot be sent."""
        if self._counts:
            self._counts.add(request)
        if request is None:
            self._append(_NO_MODEL, 0, 0, 0)
            return
        if not self.models:
            self.frame_bytes = _frame_bytes(request)
        body, asked = request.body, asked_of(request)
        tier: Tier = "priority" if asked.service_tier == "priority" else "standard"
        model = self.models.setdefault((request.model, tier), len(self.models))
        most = asked.most_generated if request.api != "embeddings" else 0
        length, calls = len(body), 1
        if b'_url":' in body:
            self.images[model] = self.images.get(model, 0) + 1
            length = prompt_chars(request)
        if request.turns:
            calls = min(1 + len(request.turns), _MOST_CALLS)
            length = length * calls + sum(
                len(turn.encode()) * (calls - asked) for asked, turn in enumerate(request.turns[: calls - 1], 1)
            )
        self.prefixes.add(body)
        self._append(model, length, UNLIMITED if most is None else most, calls)

    def rows(self) -> tuple[np.ndarray, Rows]:
        """The number of each row's model, and what there is to know of the rows."""
        rows = Rows(
            prompt_bytes=np.frombuffer(self._bytes, np.uint32),
            most=np.frombuffer(self._most, np.uint32),
            calls=np.frombuffer(self._calls, np.uint16),
            counted=self._counts.counted() if self._counts else None,
            frame_bytes=self.frame_bytes,
        )
        return np.frombuffer(self._model, np.uint32), rows

    def _append(self, model: int, length: int, most: int, calls: int) -> None:
        self._model.append(model)
        self._bytes.append(min(length, UNLIMITED))
        self._most.append(min(most, UNLIMITED))
        self._calls.append(calls)


def forecast(config: Config, *, limit: int | None, retry_failed: str) -> Forecast:
    """Read and render every row, look at what the folder holds, send nothing and change nothing.

    Raises:
        ConfigError, PromptError: the input as a whole cannot be run as given; single bad rows are in `problems`.
        FolderUnusable: the folder is damaged, or something else lives there.
    """
    prompts, renderer, sizes = open_prompts(config.input), Renderer(config), Sizes(config.tokenizer)
    checked = check(prompts, renderer, sizes.add)
    folder = RunFolder(config.output)
    wanted, change, answered = _open_rows(folder, checked, retry_failed, lambda: keys_of(prompts, renderer))
    if limit is not None:
        wanted[limit:] = False
    book = load_prices(config.prices, base_url=config.endpoint.base_url)
    models = _models(config, sizes, wanted, answered, book)
    priced = [one.cost_usd for one, _ in models if one.cost_usd]
    requests = sum(one.requests for one, _ in models)
    prompt_tokens = sum((one.prompt_tokens for one, _ in models), NOTHING)
    completion_tokens = sum((one.completion_tokens for one, _ in models), NOTHING)
    shared = sizes.prefixes.found()
    bound_by, least_s = bound_of(config.limits, [one for one, _ in models])
    hourly = book.deployments_of([one.model for one, _ in models if one.usd_per_hour is not None])
    first = checked.first
    return Forecast(
        folder=str(folder),
        files=prompts.files,
        rows=checked.rows,
        forms=checked.forms,
        invalid=checked.invalid,
        problems=[str(problem) for problem in checked.problems],
        to_send=sum(one.rows for one, _ in models),
        requests=requests,
        change=change,
        models=[one for one, _ in models],
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=sum(priced, NOTHING) if priced or not models else None,
        unpriced_models=_named(one for one, _ in models if one.cost_usd is None and one.usd_per_hour is None),
        guessed_models=_named(one for one, _ in models if one.price_guessed),
        price_date=book.date,
        budget_usd=config.limits.max_cost_usd,
        usd_per_hour=sum(row.usd_per_hour for row in hourly.values()) if hourly else None,
        tokenizer=config.tokenizer,
        caching=caching_of(shared.with_previous_share, shared.with_any_share, models),
        least_s=least_s,
        bound_by=bound_by,
        first_url=_url_of(config, first) if first else None,
        first_request=msgspec.json.decode(first.body) if first else None,
    )


def _open_rows(
    folder: RunFolder, checked: Checked, retry_failed: str, input_rows: InputRows
) -> tuple[np.ndarray, str | None, Snapshot | None]:
    """Which rows a run would send, how the input has changed since the folder was made, what it holds if it has not."""
    if not folder.exists():
        return np.ones(checked.rows, bool), None, None
    answered = Snapshot(folder.path)
    if answered.run.fingerprint == checked.fingerprint:
        states = np.frombuffer(answered.rows.states, np.uint8)
        return np.isin(states, list(OPEN_STATES[retry_failed])), None, answered
    change, kept = compare(folder, Names.of_input(input_rows()))
    return ~kept, str(change), None


def _models(
    config: Config, sizes: Sizes, wanted: np.ndarray, answered: Snapshot | None, book: PriceBook
) -> list[tuple[ModelForecast, Price | None]]:
    """What each model and tier with open rows will take, and its price."""
    numbers, rows = sizes.rows()
    table = answered.table("results", _LEARNT) if answered else None
    answers = {name: table.column(name).to_numpy() for name in _LEARNT} if table else {}
    open_rows = np.flatnonzero(wanted & (numbers != _NO_MODEL))
    if len(sizes.models) > 1:
        open_rows = open_rows[np.argsort(numbers[open_rows], kind="stable")]
    ends = np.searchsorted(numbers[open_rows], np.arange(len(sizes.models)), side="right")
    ours = config.endpoint.simulated or config.endpoint.is_fireworks
    models, begin = [], 0
    for ((model, tier), number), end in zip(sizes.models.items(), ends.tolist(), strict=True):
        its_rows, begin = open_rows[begin:end], end
        if not len(its_rows):
            continue
        price = book.price_for(model, short_names=ours, guesses=ours)
        fits = config.request.model in (None, model)  # the tokenizer, which is one model's
        its = rows if fits else rows._replace(counted=None)
        learnt = _learnt(answers, model, its)
        prompt, by, generated = of_tokens(its.of(its_rows), learnt)
        deployment = None if price else book.deployment_for(model)
        one = ModelForecast(
            model=model,
            tier=tier,
            rows=len(its_rows),
            requests=int(rows.calls[its_rows].sum(dtype=np.int64)),
            prompt_tokens=prompt,
            prompt_tokens_by=by,
            cached_share=learnt.cached_share,
            completion_tokens=generated,
            cost_usd=cost_of(prompt, generated, cached_shares(learnt), price, tier) if price else None,
            price_guessed=bool(price and price.guess),
            usd_per_hour=deployment.usd_per_hour if deployment else None,
            learnt_from=learnt.answers,
            latency_s=learnt.latency_s,
            unlimited_rows=int((rows.most[its_rows] == UNLIMITED).sum()),
            image_rows=sizes.images.get(number, 0),
        )
        models.append((one, price))
    return models


def _learnt(answers: dict[str, np.ndarray], model: str, rows: Rows) -> Learnt:
    """What the answers in the folder say of a model."""
    if not answers:
        return Learnt(np.zeros(0), np.zeros(0), rows.of(np.zeros(0, np.int64)), 0.0, None)
    prompt, cached, completion, latency_s = (answers[name].astype(float) for name in _LEARNT[2:])
    told = (answers["requested_model"] == model) & (prompt > 0) & (completion >= 0)
    seconds = latency_s[told & np.isfinite(latency_s)]
    return Learnt(
        prompt_tokens=prompt[told],
        completion_tokens=completion[told],
        rows=rows.of(answers["index"][told]),
        cached_share=float(np.nansum(cached[told]) / prompt[told].sum()) if told.any() else 0.0,
        latency_s=float(seconds.mean()) if len(seconds) >= LEAST_LEARNT else None,
    )


def _named(models: Iterable[ModelForecast]) -> list[str]:
    return list(dict.fromkeys(one.model for one in models))


def _frame_bytes(request: Request) -> int:
    body = msgspec.json.decode(request.body)
    said = body.get("messages") or body.get("prompt") or body.get("input") or ""
    texts = [one.get("content") for one in said] if isinstance(said, list) and request.api == "chat" else [said]
    return prompt_chars(request) - sum(len(text.encode()) for text in texts if isinstance(text, str))


def _url_of(config: Config, first: Request) -> str:
    if config.endpoint.simulated:
        return f"the simulated endpoint, {first.api}"
    return str(urls_of(config.endpoint.base_url)[first.api])

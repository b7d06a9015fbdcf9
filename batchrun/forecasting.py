"""What a run would send, cost and take, before it sends anything: `batchrun plan`.

Tokens are estimates. Of models that the run folder has answers of, their means are used: prompt tokens a byte, tokens
an answer. Of others a guess is: a token has two to six bytes, an answer between one token and its limit. Each range
holds what is to be expected; its middle is the likeliest.
"""

from __future__ import annotations

from array import array
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from batchrun.endpoint.route import urls_of
from batchrun.engine.tokens import most_generated, prompt_chars
from batchrun.pricing import Price, cost_nano_usd, load_prices
from batchrun.prompts import open_prompts
from batchrun.prompts.check import Checked, check, keys_of
from batchrun.prompts.render import Renderer
from batchrun.store.changes import InputRows, Names, compare
from batchrun.store.folder import RunFolder
from batchrun.store.rows import OPEN_STATES
from batchrun.store.snapshot import Snapshot
from batchrun.types import Usage

if TYPE_CHECKING:
    from batchrun.config import Config
    from batchrun.types import Request

_UNLIMITED = 0xFFFFFFFF
_BYTES_PER_TOKEN = (6.0, 4.0, 2.0)
"""Of a prompt nobody has counted the tokens of: few, likely, many tokens."""

_LIKELY_GENERATED = 512
_LEAST_LEARNT = 20
_LEAST_SPREAD = 0.05


class Range(msgspec.Struct, frozen=True, kw_only=True):
    """A number that is not known yet."""

    low: float
    likely: float
    high: float

    def __add__(self, other: Range) -> Range:
        return Range(low=self.low + other.low, likely=self.likely + other.likely, high=self.high + other.high)


NOTHING = Range(low=0.0, likely=0.0, high=0.0)


class ModelForecast(msgspec.Struct, frozen=True, kw_only=True):
    """What the open rows of one model will take; `learnt_from` answers of it (0: a guess).

    `unlimited_rows` set no token limit, so that `completion_tokens.high` and `cost_usd.high` do not hold for them.
    """

    model: str
    rows: int
    prompt_tokens: Range
    completion_tokens: Range
    cost_usd: Range | None
    learnt_from: int
    unlimited_rows: int


class Forecast(msgspec.Struct, frozen=True, kw_only=True):
    """What `batchrun plan` says; `change` is how the input differs from the one that the folder holds answers to.

    `least_s` is the time that the limit named `bound_by` makes the run take at least; None where none is configured.
    """

    folder: str
    files: list[str]
    rows: int
    forms: dict[str, int]
    invalid: int
    problems: list[str]
    to_send: int
    change: str | None
    models: list[ModelForecast]
    prompt_tokens: Range
    completion_tokens: Range
    cost_usd: Range | None
    unpriced_models: list[str]
    price_date: str
    least_s: float | None
    bound_by: str | None
    first_url: str | None
    first_request: Any


class Sizes:
    """Ten bytes a row: its model, the bytes of its prompt, and how many tokens its answer may have.

    `frame_bytes` of the first request are not text: its parameters, its keys.
    """

    def __init__(self) -> None:
        self.models: dict[str, int] = {}
        self.frame_bytes = 0
        self._model, self._bytes, self._most = array("H"), array("I"), array("I")

    def add(self, request: Request | None) -> None:
        """Append a row; None is one that cannot be sent."""
        if request and not self.models:
            self.frame_bytes = _frame_bytes(request)
        most: int | None = 0
        if request and request.api != "embeddings":
            most = most_generated(request)
        self._model.append(0xFFFF if request is None else self.models.setdefault(request.model, len(self.models)))
        self._bytes.append(0 if request is None else min(prompt_chars(request), _UNLIMITED))
        self._most.append(_UNLIMITED if most is None else min(most, _UNLIMITED))

    @property
    def columns(self) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Model numbers, prompt bytes, token limits."""
        return np.array(self._model), np.array(self._bytes, np.int64), np.array(self._most, np.int64)


def forecast(config: Config, *, limit: int | None, retry_failed: str) -> Forecast:
    """Read and render every row, look at what the folder holds, send nothing and change nothing.

    Raises:
        ConfigError, PromptError: the input as a whole cannot be run as given; single bad rows are in `problems`.
        FolderUnusable: the folder is damaged, or something else lives there.
    """
    prompts, renderer, sizes = open_prompts(config.input), Renderer(config), Sizes()
    checked = check(prompts, renderer, sizes.add)
    folder = RunFolder(config.output)
    wanted, change, answered = _open_rows(folder, checked, retry_failed, lambda: keys_of(prompts, renderer))
    if limit is not None:
        wanted[limit:] = False
    learnt = _Learnt(answered, sizes)
    book = load_prices(config.prices)
    ours = config.endpoint.simulated or config.endpoint.is_fireworks
    models = [
        _of_model(model, rows, sizes, learnt, book.price_for(model, short_names=ours))
        for model, number in sizes.models.items()
        if len(rows := np.flatnonzero(wanted & (sizes.columns[0] == number)))
    ]
    prompt_tokens = sum((one.prompt_tokens for one in models), NOTHING)
    completion_tokens = sum((one.completion_tokens for one in models), NOTHING)
    priced = [one.cost_usd for one in models if one.cost_usd]
    to_send = sum(one.rows for one in models)
    bound_by, least_s = _bound(config, to_send, prompt_tokens, completion_tokens)
    first = checked.first
    return Forecast(
        folder=str(folder),
        files=prompts.files,
        rows=checked.rows,
        forms=checked.forms,
        invalid=checked.invalid,
        problems=[str(problem) for problem in checked.problems],
        to_send=to_send,
        change=change,
        models=models,
        prompt_tokens=prompt_tokens,
        completion_tokens=completion_tokens,
        cost_usd=sum(priced, NOTHING) if priced or not models else None,
        unpriced_models=[one.model for one in models if one.cost_usd is None],
        price_date=book.date,
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


class _Learnt:
    """What the answers in a folder say of tokens, by model."""

    def __init__(self, answered: Snapshot | None, sizes: Sizes) -> None:
        self._columns: dict[str, np.ndarray] = {}
        if answered is not None:
            names = ["index", "requested_model", "prompt_tokens", "cached_tokens", "completion_tokens"]
            table = answered.table("results", names)
            self._columns = {name: table.column(name).to_numpy() for name in names}
            self._bytes = sizes.columns[1][self._columns["index"]]

    def of(self, model: str) -> tuple[np.ndarray, np.ndarray, float]:
        """Of each answer of a model the prompt tokens a byte and the tokens; the share of prompts that was cached."""
        if not self._columns:
            return np.zeros(0), np.zeros(0), 0.0
        prompt, completion = (self._columns[name].astype(float) for name in ("prompt_tokens", "completion_tokens"))
        told = (self._columns["requested_model"] == model) & (prompt > 0) & (completion >= 0)
        cached = np.nansum(self._columns["cached_tokens"].astype(float)[told])
        rates = prompt[told] / np.maximum(self._bytes[told], 1)
        return rates, completion[told], float(cached / prompt[told].sum()) if told.any() else 0.0


def _of_model(model: str, rows: np.ndarray, sizes: Sizes, learnt: _Learnt, price: Price | None) -> ModelForecast:
    _, row_bytes, limits = (column[rows] for column in sizes.columns)
    rates, answers, cached = learnt.of(model)
    total_bytes, unlimited = float(row_bytes.sum()), limits == _UNLIMITED
    known = np.where(unlimited, _LIKELY_GENERATED, limits)
    most = float(known.sum())
    if len(rates) >= _LEAST_LEARNT:
        prompt = _around(rates, len(rows), total_bytes)
        generated = _around(answers, len(rows), float(len(rows)))
        if not unlimited.any():
            generated = Range(**{name: min(getattr(generated, name), most) for name in Range.__struct_fields__})
    else:
        text_bytes = float(np.maximum(row_bytes - sizes.frame_bytes, 1).sum())
        few, likely, many = _BYTES_PER_TOKEN
        prompt = Range(low=text_bytes / few, likely=text_bytes / likely, high=total_bytes / many)
        some = float(np.minimum(known / 2, _LIKELY_GENERATED).sum())
        generated = Range(low=float(np.minimum(known, 1).sum()), likely=some, high=most)
        cached = 0.0
    guessed = len(rates) < _LEAST_LEARNT
    shares = Range(low=1.0 if guessed else min(1.0, 1.5 * cached), likely=cached, high=0.0 if guessed else cached / 2)
    return ModelForecast(
        model=model,
        rows=len(rows),
        prompt_tokens=prompt,
        completion_tokens=generated,
        cost_usd=_cost(prompt, generated, shares, price) if price else None,
        learnt_from=0 if guessed else len(rates),
        unlimited_rows=int(unlimited.sum()),
    )


def _frame_bytes(request: Request) -> int:
    body = msgspec.json.decode(request.body)
    said = body.get("messages") or body.get("prompt") or body.get("input") or ""
    texts = [one.get("content") for one in said] if isinstance(said, list) and request.api == "chat" else [said]
    return prompt_chars(request) - sum(len(text.encode()) for text in texts if isinstance(text, str))


def _around(seen: np.ndarray, rows: int, factor: float) -> Range:
    """What the mean of a sample, times a factor, will be for other rows: three standard errors to either side."""
    mean = float(seen.mean())
    error = 3 * float(seen.std()) / mean * (1 / len(seen) + 1 / max(rows, 1)) ** 0.5 if mean else 0.0
    spread = max(error, _LEAST_SPREAD)
    return Range(low=factor * mean * max(0.0, 1 - spread), likely=factor * mean, high=factor * mean * (1 + spread))


def _cost(prompt: Range, generated: Range, cached_shares: Range, price: Price) -> Range:
    def usd(which: str) -> float:
        tokens = getattr(prompt, which)
        usage = Usage(
            prompt_tokens=round(tokens),
            cached_tokens=round(tokens * getattr(cached_shares, which)),
            completion_tokens=round(getattr(generated, which)),
        )
        return (cost_nano_usd(usage, price) or 0) / 1e9

    return Range(low=usd("low"), likely=usd("likely"), high=usd("high"))


def _bound(config: Config, rows: int, prompt: Range, generated: Range) -> tuple[str | None, float | None]:
    """Which configured limit makes the run take longest, and how long at least."""
    limits = config.limits
    minutes = {
        name: amount / limit
        for name, amount, limit in (
            ("requests_per_minute", rows, limits.requests_per_minute),
            ("prompt_tokens_per_minute", prompt.likely, limits.prompt_tokens_per_minute),
            ("generated_tokens_per_minute", generated.likely, limits.generated_tokens_per_minute),
        )
        if limit
    }
    if not minutes:
        return None, None
    name = max(minutes, key=lambda one: minutes[one])
    return f"limits.{name}", 60 * minutes[name]


def _url_of(config: Config, first: Request) -> str:
    if config.endpoint.simulated:
        return f"the simulated endpoint, {first.api}"
    return str(urls_of(config.endpoint.base_url)[first.api])

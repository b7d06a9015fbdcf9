"""The folder becomes a report: the store's rows meet the report's arithmetic, and nothing else is asked."""

from __future__ import annotations

import difflib
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

import msgspec

from batchrun.address import SIMULATED, is_fireworks
from batchrun.errors import ConfigError
from batchrun.pricing import PriceBook, Tier, load_prices
from batchrun.report.bills import OtherPrices
from batchrun.report.markdown import to_markdown
from batchrun.report.metrics import FAILURE_COLUMNS, INPUT, RESULT_COLUMNS, Report, RunFacts, Session, summarise
from batchrun.report.samples import SAMPLE_COLUMNS, Sample, samples_of
from batchrun.report.summary import to_json
from batchrun.store.folder import REPLACED
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator

    import pyarrow as pa

    from batchrun.pricing import Price
    from batchrun.pricing.book import Pico
    from batchrun.store.folder import RunFile, RunFolder


class Question(msgspec.Struct, frozen=True, kw_only=True):
    """What a report is asked beyond the usual.

    `prices`, `model` and `tier` put the same tokens under other prices: those of a file, of another model, of another
    tier. `by` is an input column among the run's `keep_columns`, for the cost of each of its values.
    """

    prices: str | None = None
    model: str | None = None
    tier: Tier | None = None
    by: str | None = None


def report_on(folder: RunFolder, question: Question | None = None) -> Report:
    """Make the report from the folder alone, at any time, with the answer to a question if one is asked.

    Raises:
        FolderUnusable: there is no run.
        ConfigError: the prices that the question names are not there, or the run kept no such column.
    """
    snapshot = Snapshot(folder.path)
    prices = msgspec.convert(snapshot.run.prices, PriceBook)
    base_url = snapshot.run.config["endpoint"]["base_url"]
    replaced = [part for part in snapshot.manifest.parts.values() if part.name.startswith(REPLACED)]
    facts = RunFacts(
        name=str(folder),
        rows=snapshot.run.rows,
        concurrency=snapshot.run.config["limits"]["concurrency"],
        models=list(snapshot.run.models),
        endpoint=base_url,
        simulated=base_url == SIMULATED,
        tier=_tier_of(snapshot.run),
        price_date=prices.date,
        price_source=prices.source,
        sessions=[Session(**session) for session in snapshot.sessions()],
        replaced_rows=sum(part.rows for part in replaced),
        replaced_cost_usd=sum(part.cost_nano_usd for part in replaced) / 1e9,
    )
    asked = question or Question()
    kept = []
    if asked.by is not None:
        snapshot.refuse_unkept(asked.by)
        kept = [INPUT]
    return summarise(
        _read_ahead(snapshot.batches("results", [*RESULT_COLUMNS, *kept])),
        _read_ahead(snapshot.batches("failures", [*FAILURE_COLUMNS, *kept])),
        facts,
        prices=prices,
        what_if=_other_prices(asked, snapshot.run, prices) if asked.prices or asked.model or asked.tier else None,
        by=asked.by,
    )


def write_report(folder: RunFolder, report: Report) -> None:
    """Put the report into the folder, for programs and for people."""
    folder.write_report("summary.json", to_json(report))
    folder.write_report("report.md", to_markdown(report).encode())
    from batchrun.report.html import to_html  # not before it is needed: templates and plots take their time

    folder.write_report("report.html", to_html(report).encode())


def samples_from(folder: RunFolder, report: Report, wanted: int) -> list[Sample]:
    """Take some prompts and answers out of a report's folder, spread evenly over its results, in their order there."""
    return samples_of(Snapshot(folder.path).batches("results", SAMPLE_COLUMNS), report.rows.succeeded, wanted)


def _read_ahead(batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
    """The same batches, of which the next one is read while one is added up."""
    with ThreadPoolExecutor(1) as reader:
        following = reader.submit(next, batches, None)
        while (batch := following.result()) is not None:
            following = reader.submit(next, batches, None)
            yield batch


def _other_prices(question: Question, run: RunFile, paid: PriceBook) -> OtherPrices:
    """What a question asks for: the file's prices over the shipped ones, or the run's own and then the shipped ones."""
    base_url = run.config["endpoint"]["base_url"]
    listed = load_prices(question.prices, base_url=base_url)
    books = [listed] if question.prices else [paid, listed]
    words = [
        f"as {question.model}" if question.model else "",
        f"in the {question.tier} tier" if question.tier else "",
        f"at the prices of {question.prices}" if question.prices else "",
    ]
    name, tier = " ".join(filter(None, words)), question.tier or _tier_of(run)
    if question.model is None:
        ours = base_url == SIMULATED or is_fireworks(base_url)
        return OtherPrices(name, lambda model: _pico(books[0].price_for(model, short_names=ours), tier))
    named = next(filter(None, (book.price_for(question.model) for book in books)), None)
    if named is None:
        raise _unpriced(question.model, books[-1])
    return OtherPrices(name, lambda _: _pico(named, tier))


def _tier_of(run: RunFile) -> Tier:
    """What the configuration asks for; rows with parameters of their own may ask for something else."""
    return "priority" if run.config["request"]["params"].get("service_tier") == "priority" else "standard"


def _pico(price: Price | None, tier: Tier) -> Pico | None:
    return price.pico_at(tier) if price else None


def _unpriced(model: str, book: PriceBook) -> ConfigError:
    short_names = {name.rpartition("/")[2]: name for name in book.prices}
    near = difflib.get_close_matches(model.rpartition("/")[2], short_names, n=1, cutoff=0.8)
    remedy = f"did you mean {short_names[near[0]]}?" if near else "put its price into a file: --prices FILE"
    return ConfigError(f"{model} has no price in {book.source}", remedy=remedy)

"""The folder becomes a report: the store's rows meet the report's arithmetic, and nothing else is asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

import msgspec

from batchrun.address import SIMULATED
from batchrun.pricing import PriceBook
from batchrun.report.markdown import to_markdown
from batchrun.report.metrics import FAILURE_COLUMNS, RESULT_COLUMNS, Report, RunFacts, Session, summarise
from batchrun.report.summary import to_json
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from batchrun.store.folder import RunFolder


def report_on(folder: RunFolder) -> Report:
    """Make the report from the folder alone, at any time; raises FolderUnusable if there is no run."""
    snapshot = Snapshot(folder.path)
    prices = msgspec.convert(snapshot.run.prices, PriceBook)
    base_url = snapshot.run.config["endpoint"]["base_url"]
    facts = RunFacts(
        name=str(folder),
        rows=snapshot.run.rows,
        concurrency=snapshot.run.config["limits"]["concurrency"],
        models=list(snapshot.run.models),
        endpoint=base_url,
        simulated=base_url == SIMULATED,
        price_date=prices.date,
        price_source=prices.source,
        sessions=[Session(**session) for session in snapshot.sessions()],
    )
    results = snapshot.batches("results", RESULT_COLUMNS)
    return summarise(results, snapshot.batches("failures", FAILURE_COLUMNS), facts, prices=prices)


def write_report(folder: RunFolder, report: Report) -> None:
    """Put the report into the folder, for programs and for people."""
    folder.write_report("summary.json", to_json(report))
    folder.write_report("report.md", to_markdown(report).encode())

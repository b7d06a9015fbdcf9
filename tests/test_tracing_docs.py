"""docs/tracing.md: its commands run, against a collector as well as without one, and its tables are the code's."""

from __future__ import annotations

import re

import pytest
from test_docs import clone, page, sessions, steady, type_in  # noqa: F401 (a fixture)

from batchrun.config import check_config
from batchrun.tracing.spans import attempt_attributes, endpoint_attributes, record_attributes
from batchrun.types import Attempt, Record

pytest.importorskip("opentelemetry.sdk", reason="the packages of OpenTelemetry come with .[otel]")

from collectors import collecting

PAGE = page("tracing.md")


def named(heading):
    """The attributes in the tables under a heading."""
    section = PAGE.partition(f"## {heading}\n")[2].partition("\n## ")[0]
    tables = re.split(r"\n\n", section)
    lines = [line for table in tables if table.startswith("| attribute") for line in table.splitlines()]
    return {name for line in lines for name in re.findall(r"`([\w.]+)`", line.split(" | ")[0])}


def test_the_attributes_of_rows_are_those_of_the_page():
    """All that a row and its events may say, and nothing else."""
    said = {"error_type": "timed_out", "finish_reason": "stop", "attempt_log": "[]"}
    counts = {"index", "started_at", "finished_at", "attempts", "status_code"}
    counts |= {name for name in Record.__struct_fields__ if name.endswith(("_tokens", "_s", "_usd"))}
    texts = {"custom_id", "requested_model", "model", "request_id"}
    record = Record(**{**dict.fromkeys(counts, 1), **dict.fromkeys(texts, "x"), **said})
    counts = ("number", "turn", "started_at", "latency_s", "status_code", "retry_after_s")
    attempt = Attempt(**dict.fromkeys(counts, 1), error_type="timed_out", error_message="")
    endpoint = check_config({"input": "x"}).endpoint
    told = {**endpoint_attributes(endpoint), **record_attributes(record), **attempt_attributes(attempt)}
    assert named("What a row says") == told.keys()


@pytest.mark.rig
@pytest.mark.usefixtures("clone")
def test_the_page_shows_what_comes(monkeypatch):
    """Both commands end as shown; the collector gets a span for each row and one for the run, with the page's names."""
    with collecting() as there:
        monkeypatch.setenv("OTEL_EXPORTER_OTLP_ENDPOINT", there.url)
        for command, shown in sessions(PAGE):
            code, said = type_in(command)
            assert (code, [steady(line) for line in shown]) == (0, [steady(line) for line in said.splitlines()])
    (run,) = there.runs()
    assert len(there.rows()) == run.attributes["batchrun.succeeded"] == 20
    assert run.attributes.keys() == named("What the run says") - {"error.type"}
    assert {name for row in there.rows() for name in row.attributes} <= named("What a row says")

"""Reports of real runs: numbers against pandas on the folder's files, the schema, and folders in every state."""

from __future__ import annotations

import json
import re
from pathlib import Path

import jsonschema
import msgspec
import numpy as np
import pandas as pd
import pytest
from commands import at, called
from servers import simulated
from stores import keep_all, record, run_file

import batchrun.report
from batchrun.config import Config
from batchrun.pricing import PriceBook
from batchrun.report.phases import PHASES
from batchrun.report.summary import Latency, PerRow, Report, Throughput, to_json, to_schema
from batchrun.store.folder import RunFolder

SCHEMA = Path(batchrun.report.__file__).parent / "summary.schema.json"
SECOND = 1_000_000
ROWS = 36
PRIORITY = "accounts/fireworks/models/kimi-k3"
LATENCIES = ("latency_s", "ttft_s", "ttfvt_s", "itl_mean_s", "itl_p99_s", "queued_s", "server_ttft_s")


def scenario(seed: int) -> dict:
    """Answers of all lengths; a row that is turned away once, and rows that fail at the first start, or for good."""
    return {
        "seed": seed,
        "latency": {"ttft_s": 0.01, "per_token_s": 0.0002, "sigma": 0.5},
        "answers": {"tokens": 20, "sigma": 0.8},
        "faults": [
            {"kind": "empty", "match": "q[0-9]*3 ", "tries": 1},
            {"kind": "html", "match": "q[0-9]*5 ", "status": 400},
            {"kind": "overloaded", "match": "q17 ", "tries": 1},
        ],
    }


def write_rows(path: Path, seed: int) -> Path:
    """Rows with labels, some of another model, some of these in another tier."""
    rng = np.random.default_rng(seed)
    rows = []
    for index in range(ROWS):
        row = {"custom_id": f"c{index}", "prompt": f"q{index} " + "word " * int(rng.integers(1, 50))}
        row["label"] = [None, "a", "b", 7][index % 4]
        if index % 3 == 0:
            row |= {"model": PRIORITY, "params": {"service_tier": "priority"} if index % 2 else {}}
        rows.append(json.dumps(row))
    path.write_text("\n".join(rows) + "\n")
    return path


@pytest.fixture(scope="module", params=[1, 2])
def run(request, tmp_path_factory):
    """A run of two starts, plain or streamed: its results and failures as pandas has them, and its report."""
    place = tmp_path_factory.mktemp("runs")
    with simulated(scenario(request.param)) as server:
        options = ["--set", "keep_columns=[label]", "--set", f"request.stream={['never', 'always'][request.param - 1]}"]
        source = write_rows(place / "in.jsonl", request.param)
        command = ["run", source, *at(server.base_url, place / "out", *options)]
        assert [called(*command).code for _ in range(2)] == [3, 3]
    asked = called("report", place / "out", "--format", "json", "--by", "label")
    sides = [pd.read_parquet(place / "out" / kind) for kind in ("results", "failures")]
    for side in sides:
        for name in ("started_at", "finished_at"):
            side[name] = side[name].astype("int64") // (1 if side[name].dtype.unit == "us" else 1000)
    return *sides, json.loads(asked.out)


def attempts_of(side: pd.DataFrame) -> pd.DataFrame:
    """One row for each attempt that another one followed."""
    logs = side[side.attempt_log.notna()]
    found = [{"at": at, **one} for at, text in logs.attempt_log.items() for one in json.loads(text)]
    return pd.DataFrame(found, columns=["at", "started_at", "latency_s", "status_code", "usage", "cost_usd"])


def test_rows_and_failures(run):
    """All rows are settled, the failures by their type."""
    good, bad, report = run
    assert report["rows"] == {"total": ROWS, "succeeded": len(good), "failed": len(bad), "missing": 0}
    assert len(bad) == 4
    counts = {group["error_type"]: group["rows"] for group in report["failures"]}
    assert counts == bad.error_type.value_counts().to_dict()


@pytest.mark.parametrize("name", LATENCIES)
def test_distributions(run, name):
    """Count, mean and percentiles, or nothing where nothing was measured."""
    good, _, report = run
    measured, values = report["latency"][name], good[name].dropna()
    assert (measured is None) == values.empty
    if measured:
        found = [measured[key] for key in ("count", "mean_s", "p50_s", "p90_s", "p95_s", "p99_s", "max_s")]
        expected = [len(values), values.mean(), *values.quantile([0.5, 0.9, 0.95, 0.99]), values.max()]
        assert found == pytest.approx(expected)
        assert measured["quantiles_s"] == pytest.approx(values.quantile(np.arange(101) / 100).tolist())


def test_lengths_and_the_speed_of_answers(run):
    """Tokens of prompts and answers, and tokens a second of each answer."""
    good, _, report = run
    for name, values in (
        ("prompt_tokens", good.prompt_tokens),
        ("completion_tokens", good.completion_tokens),
        ("completion_tokens_per_s", good.completion_tokens / good.latency_s),
    ):
        assert report["per_row"][name]["p90"] == pytest.approx(values.quantile(0.9))
        assert report["per_row"][name]["count"] == len(good)


def test_retries_and_waste(run):
    """Attempts, and what those were charged for that brought nothing."""
    good, bad, report = run
    logged = pd.concat([attempts_of(good), attempts_of(bad)])
    charged = [usage for usage in logged.usage if isinstance(usage, dict)]
    retries = report["retries"]
    assert charged
    assert retries["attempts"] == good.attempts.sum() + bad.attempts.sum()
    assert retries["attempts_wasted"] == len(logged) + len(bad)
    assert retries["throttled"] == (logged.status_code == 503).sum() == 1
    wasted = sum(usage["prompt_tokens"] for usage in charged) + bad.prompt_tokens.fillna(0).sum()
    assert retries["wasted_prompt_tokens"] == wasted
    assert retries["wasted_completion_tokens"] == sum(usage.get("completion_tokens", 0) for usage in charged)
    assert retries["wasted_cost_usd"] == pytest.approx(logged.cost_usd.fillna(0).sum(), abs=1e-12)


def test_the_timeline_adds_up(run):
    """Rows, tokens and dollars of all intervals are those of the run; so are the requests that were out."""
    good, bad, report = run
    timeline, both = report["timeline"], pd.concat([good, bad])
    logged = pd.concat([attempts_of(good), attempts_of(bad)])
    assert (sum(timeline["succeeded"]), sum(timeline["failed"])) == (len(good), len(bad))
    assert sum(timeline["completion_tokens"]) == both.completion_tokens.sum()
    assert sum(timeline["cost_usd"]) == pytest.approx(both.cost_usd.sum(), abs=1e-9)
    assert sum(timeline["throttled"]) == 1
    out_s = ((both.finished_at - both.started_at).sum() + (logged.latency_s * SECOND).round().sum()) / SECOND
    assert sum(timeline["in_flight"]) * timeline["interval_s"] == pytest.approx(out_s, abs=0.01)
    assert report["throughput"]["mean_in_flight"] == pytest.approx(out_s / report["throughput"]["active_s"])
    number = (good.finished_at - timeline["began_at"]) // round(timeline["interval_s"] * SECOND)
    expected = number.value_counts().reindex(range(len(timeline["succeeded"])), fill_value=0)
    assert timeline["succeeded"] == expected.tolist()


def test_where_the_time_went(run):
    """Each phase by the columns; together they are the lives of all rows."""
    good, bad, report = run
    both, seconds = pd.concat([good, bad]), report["time_s"]
    logged = pd.concat([attempts_of(good), attempts_of(bad)])
    known = good[good.server_processing_s.notna()]
    served = known.server_processing_s.clip(upper=known.latency_s)
    assert seconds["waiting"] == pytest.approx(both.queued_s.sum(), abs=1e-4)
    assert seconds["failed_attempts"] == pytest.approx(logged.latency_s.sum() + bad.latency_s.sum(), abs=1e-4)
    assert seconds.get("network", 0) == pytest.approx((known.latency_s - served).sum(), abs=1e-4)
    around = ((both.finished_at - both.started_at) / SECOND - both.latency_s).clip(lower=0).sum()
    assert seconds["connecting"] == pytest.approx(around, abs=1e-4)
    assert sum(report["time_shares"].values()) == pytest.approx(1)


def test_the_slowest_rows(run):
    """Ten, the slowest first."""
    good, _, report = run
    slow = good.nlargest(10, "latency_s")
    assert [row["custom_id"] for row in report["slowest"]] == slow.custom_id.tolist()
    assert [row["latency_s"] for row in report["slowest"]] == slow.latency_s.tolist()


def test_cost_by_an_input_column(run):
    """A group for each value; numbers are JSON, and what is missing is `(none)`."""
    good, bad, report = run
    both = pd.concat([good.assign(failed=0), bad.assign(failed=1)])
    both["label"] = [json.loads(text)["label"] for text in both.input]
    both["label"] = both.label.map(lambda value: "(none)" if value is None else str(value))
    groups = report["by_column"]["groups"]
    assert report["by_column"]["column"] == "label"
    assert {group["name"] for group in groups} == {"(none)", "a", "b", "7"}
    for group in groups:
        mine = both[both.label == group["name"]]
        assert (group["rows"], group["failed"]) == (len(mine), mine.failed.sum())
        assert group["prompt_tokens"] == mine.prompt_tokens.sum()
        assert group["completion_tokens"] == mine.completion_tokens.sum()
        assert group["cost_usd"] == pytest.approx(mine.cost_usd.sum(), abs=1e-12)
    assert [group["cost_usd"] for group in groups] == sorted((group["cost_usd"] for group in groups), reverse=True)
    assert sum(round(group["cost_usd"] * 1e9) for group in groups) == round(report["cost"]["cost_usd"] * 1e9)


def test_cost_by_tier(run):
    """Rows that asked for priority stand apart, by what they cost."""
    good, bad, report = run
    both = pd.concat([good, bad])
    both = both[both.cost_usd.notna()]
    number = both.custom_id.str[1:].astype(int)
    priority = both[(number % 3 == 0) & (number % 2 == 1)]
    tiers = {group["name"]: group for group in report["by_tier"]}
    assert set(tiers) == {"standard", "priority"}
    assert tiers["priority"]["rows"] == len(priority) > 0
    assert tiers["priority"]["cost_usd"] == pytest.approx(priority.cost_usd.sum(), abs=1e-12)
    assert tiers["standard"]["rows"] == len(both) - len(priority)


def test_a_report_fits_the_schema_that_is_shipped(run):
    """The one in the package, of draft 2020-12."""
    schema = json.loads(SCHEMA.read_bytes())
    jsonschema.Draft202012Validator.check_schema(schema)
    jsonschema.Draft202012Validator(schema).validate(run[2])


def test_the_schema_that_is_shipped_is_that_of_the_structs():
    """To renew it: write what `to_schema()` gives into batchrun/report/summary.schema.json."""
    assert SCHEMA.read_bytes() == to_schema()


def test_lists_of_numbers_are_one_line(run):
    """Whoever reads summary.json scrolls past no percentiles."""
    text = to_json(msgspec.convert(run[2], Report)).decode()
    assert json.loads(text) == run[2]
    assert not re.search(r"^\s*[-\d.e]+,?$", text, re.MULTILINE)


def folder_of(path: Path, records: list, rows: int) -> Path:
    """A folder that holds some records."""
    keep_all(path, records, rows)
    config = msgspec.to_builtins(Config(input="x", keep_columns=["label", "split"]))
    prices = msgspec.to_builtins(PriceBook(date="", source="", prices={}))
    RunFolder(path).write_run_file(run_file(rows, config=config, prices=prices))
    return path


@pytest.mark.parametrize(
    ("records", "rows", "says"),
    [
        ([], 0, "the input has no rows."),
        ([], 5, "no row has an answer yet."),
        ([record(0)], 1, "its one row succeeded."),
        ([record(0, failed=True), record(1, failed=True)], 2, "0 of 2 rows succeeded, 2 failed."),
        ([record(0)], 3, "1 of 3 rows succeeded, 2 are missing."),
    ],
)
@pytest.mark.parametrize("form", ["text", "markdown", "json"])
def test_folders_in_every_state(tmp_path, records, rows, says, form):
    """Nothing, only failures, one row: each has its words, in every form."""
    asked = called("report", folder_of(tmp_path / "out", records, rows), "--format", form)
    assert (asked.code, asked.err) == (0, "")
    if form == "json":
        jsonschema.Draft202012Validator(json.loads(SCHEMA.read_bytes())).validate(json.loads(asked.out))
    else:
        assert says.lower() in " ".join(asked.out.split()).lower()


def test_a_part_that_is_damaged_is_named(tmp_path):
    """The report stops with the file's name and the command that looks closer."""
    out = folder_of(tmp_path / "out", [record(index) for index in range(200)], 200)
    part = max((out / "results").glob("part-*.parquet"), key=lambda path: path.stat().st_size)
    held = bytearray(part.read_bytes())
    held[len(held) // 4 : len(held) // 2] = bytes(len(held) // 2 - len(held) // 4)
    part.write_bytes(held)
    asked = called("report", out)
    assert (asked.code, asked.out) == (7, "")
    assert part.name in asked.err
    assert "batchrun verify" in asked.err


def test_a_column_that_was_not_kept(tmp_path):
    """It is said which ones were."""
    out = folder_of(tmp_path / "out", [record(0)], 1)
    asked = called("report", out, "--by", "lable")
    assert asked.code == 2
    assert "the column lable was not kept, only label, split" in asked.err
    assert asked.last == "exit 2: nothing was sent. Next: did you mean label?"


def test_no_escape_of_the_data_reaches_the_terminal(tmp_path):
    """Ids, messages, models, reasons and labels that would steer it are shown as what they are."""
    hostile = "\x1b[2J\x1b]0;owned\x07\x9b31m\u202e\r\n\x00"
    kept = {
        "requested_model": hostile,
        "finish_reason": hostile,
        "input": json.dumps({"label": hostile}),
        "cost_usd": 1.0,
    }
    records = [
        record(0, **kept),
        record(1, failed=True, custom_id=hostile, error_message=hostile, **kept | {"finish_reason": None}),
    ]
    out = folder_of(tmp_path / "out", records, 2)
    for form in ("text", "markdown", "json"):
        shown = called("report", out, "--by", "label", "--format", form).out
        assert len(shown) > 500
        assert all(char.isprintable() or char == "\n" for char in shown)


def test_the_glossary_has_every_measure_and_phase():
    """Each with its formula, in docs/report.md."""
    glossary = (Path(__file__).parent.parent / "docs" / "report.md").read_text(encoding="utf-8")
    names = {*Latency.__struct_fields__, *PerRow.__struct_fields__, *Throughput.__struct_fields__, *PHASES}
    assert {name for name in names if not re.search(rf"\b{name}`", glossary)} == set()

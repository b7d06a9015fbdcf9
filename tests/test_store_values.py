"""No answer can break a flush or a seal: what no column holds is replaced visibly, counted, and kept raw beside."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from peers import ANSWER, READ, http, peer, sse
from stores import keep_all, opened, record, started

import batchrun
from batchrun.store.manifest import Session
from batchrun.store.schema import FAILURES, RESULTS
from batchrun.store.snapshot import Snapshot

DONE = Session(exit_code=0, cause="done")
LONE = "half a pair: \ud800"

ANY_TEXT = st.none() | st.text(st.characters(codec=None, exclude_categories=[])) | st.sampled_from(["\x00", LONE])
ANY_COUNT = st.none() | st.integers(-(2**70), 2**70) | st.sampled_from([2**62, 2**63 - 1, 2**63, 2**64, 10**60])
ANY_NUMBER = st.none() | st.floats() | st.sampled_from([1e300, -1e300])
OURS = {"index", "custom_id", "attempts", "error_type", "usage_source", "started_at", "finished_at", "attempt_log"}


def anything(schema: pa.Schema) -> st.SearchStrategy:
    """Any value in every column that a peer has a say in."""
    kinds = {"int64": ANY_COUNT, "int32": ANY_COUNT, "double": ANY_NUMBER}
    lists = st.none() | st.lists(st.none() | st.floats(), max_size=3)
    names = {field.name: str(field.type) for field in schema if field.name not in OURS}
    return st.fixed_dictionaries(
        {name: kinds.get(kind, ANY_TEXT if kind.endswith("string") else lists) for name, kind in names.items()}
    )


@settings(max_examples=10, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(st.lists(anything(RESULTS) | anything(FAILURES).map(lambda row: row | {"error_type": "timed_out"}), min_size=1))
def test_whatever_a_record_holds_it_is_kept_and_sealed(rows):
    """Any text in any text column, any number in any number's: the rows around it are kept, too."""
    records = [record(index, **row) for index, row in enumerate(rows)]
    records.append(record(len(records)))
    with tempfile.TemporaryDirectory() as folder:
        keep_all(Path(folder, "out"), records, len(records))
        found = [pq.read_table(Path(folder, "out", room), columns=["index"]) for room in ("results", "failures")]
    assert sorted(index for table in found for index in table["index"].to_pylist()) == list(range(len(records)))


@pytest.mark.parametrize(
    ("put_in", "kept"),
    [
        ({"content": LONE}, {"content": "half a pair: \ufffd"}),
        ({"content": "NUL \x00"}, {"content": "NUL \x00"}),
        ({"prompt_tokens": 2**63 - 1}, {"prompt_tokens": 2**63 - 1}),
        ({"prompt_tokens": 2**63}, {"prompt_tokens": None}),
        ({"prompt_tokens": 10**60, "content": "ok"}, {"prompt_tokens": None, "content": "ok"}),
        ({"status_code": 2**31}, {"status_code": None}),
        ({"latency_s": float("nan"), "ttft_s": float("inf")}, {"latency_s": None, "ttft_s": None}),
        ({"cost_usd": 9e18}, {"cost_usd": 9e18}),
    ],
)
def test_what_no_column_holds_is_replaced_visibly(tmp_path, put_in, kept):
    """Half a surrogate pair becomes U+FFFD, a number out of range null; what can be kept is kept as it is."""
    keep_all(tmp_path / "out", [record(0, **put_in), record(1)], 2)
    rows = {row["index"]: row for row in Snapshot(tmp_path / "out").table("results").to_pylist()}
    assert {name: rows[0][name] for name in kept} == kept
    assert rows[1]["content"] == "answer 1"


def test_the_sums_of_a_part_are_of_what_is_known_and_credible(tmp_path):
    """Exact, whatever is missing or absurd in the rows beside."""
    kept = [record(index, prompt_tokens=10**9 + index, cost_usd=index / 1e9) for index in range(3)]
    odd = [record(3, prompt_tokens=None, cost_usd=None), record(4, prompt_tokens=2**62, cost_usd=1e300)]
    keep_all(tmp_path / "out", kept + odd, 5)
    with opened(tmp_path / "out", 5) as store:
        parts = store.recovered.manifest.parts.values()
    assert (sum(part.prompt_tokens for part in parts), sum(part.cost_nano_usd for part in parts)) == (3 * 10**9 + 3, 3)


def test_the_store_counts_what_it_had_to_replace(tmp_path):
    """Records and finished turns alike."""
    with opened(tmp_path / "out", 3) as store:
        started(store)
        store.keep(record(0))
        store.keep(record(1, content=LONE))
        store.keep_turn(record(2, messages=LONE))
        store.close(DONE, [])
        assert store.mended == 2


def said(**changes) -> bytes:
    """The usual answer, with something else in it."""
    return json.dumps({**ANSWER, **changes}).encode()


def saying(content: str) -> list:
    """The choices of an answer with this text."""
    return [{"index": 0, "message": {"role": "assistant", "content": content}, "finish_reason": "stop"}]


HALF = {"choices": [{"index": 0, "delta": {"content": LONE}, "finish_reason": "stop"}]}
HOSTILE = {
    "half a pair": (http(said(choices=saying(LONE))), "half a pair: \ufffd", r"half a pair: \ud800"),
    "no UTF-8": (http(said(choices=saying("a")).replace(b'"a"', b'"a\xff"')), "a\ufffd", r'"a\xff"'),
    "not a number": (http(said(usage={"prompt_tokens": float("nan"), "completion_tokens": 1})), "yes", "NaN"),
    "half a pair in a stream": (http(sse(HALF), content_type="text/event-stream"), "half a pair: \ufffd", r"\ud800"),
}
HARMLESS = {
    "NUL": (http(said(choices=saying("a\x00b"))), "a\x00b", r"a\u0000b"),
    "byte-order mark": (http(b"\xef\xbb\xbf" + said()), "yes", "chatcmpl-1"),
    "2^63 tokens": (http(said(usage={"prompt_tokens": 2**63, "completion_tokens": 1})), "yes", str(2**63)),
    "2^62 tokens": (http(said(usage={"prompt_tokens": 2**62, "completion_tokens": 2**62})), "yes", str(2**62)),
}


@pytest.mark.parametrize("name", [*HOSTILE, *HARMLESS])
def test_an_answer_that_no_column_holds_is_kept_beside_as_it_came(tmp_path, name):
    """From a real server to the part: the column has the replacement, `response` the answer, the report the count."""
    answer, content, raw = (HOSTILE | HARMLESS)[name]
    (tmp_path / "prompts.jsonl").write_text('{"prompt": "hello"}\n')
    (tmp_path / "prices.yaml").write_text("models: [{model: m, input_usd_per_mtok: 900, output_usd_per_mtok: 900}]")
    with peer([READ, answer]) as server:
        report = batchrun.run(
            {
                "input": str(tmp_path / "prompts.jsonl"),
                "output": str(tmp_path / "out"),
                "endpoint": {"base_url": server.base_url, "api_key_env": None},
                "request": {"model": "m"},
                "prices": str(tmp_path / "prices.yaml"),
            }
        )
    (row,) = pq.read_table(tmp_path / "out" / "results").to_pylist()
    assert row["content"] == content
    assert raw in row["response"]
    assert bool(report.answers.mended) == (name in HOSTILE)

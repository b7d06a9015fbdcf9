"""sample_data/ is what its README says, and every file of it becomes requests."""

from __future__ import annotations

from collections import Counter
from pathlib import Path

import pytest

from batchrun.config import check_config
from batchrun.prompts import open_prompts
from batchrun.prompts.check import check
from batchrun.prompts.render import Renderer

SAMPLES = Path(__file__).parent.parent / "sample_data"
LABELS = {"billing": 36, "shipping": 36, "account": 34, "technical": 36, "returns": 32, "other": 26}


def checked(name, **request):
    """Check one sample file."""
    prompts = open_prompts(str(SAMPLES / name))
    return check(prompts, Renderer(check_config({"input": "x", "request": {"model": "m"} | request})))


@pytest.mark.parametrize(
    ("name", "rows", "forms", "request_"),
    [
        ("prompts.jsonl", 200, {"prompt": 200}, {}),
        ("prompts.parquet", 200, {"prompt": 200}, {}),
        ("openai_batch.jsonl", 20, {"openai_batch": 20}, {}),
        ("conversations.jsonl", 6, {"turns": 6}, {}),
        ("tickets.csv", 30, {"template": 30}, {"template": "{{ customer_message }}"}),
    ],
)
def test_every_row_becomes_a_request(name, rows, forms, request_):
    """Each file is whole and sound."""
    found = checked(name, **request_)
    assert (found.rows, found.invalid, found.forms) == (rows, 0, forms)


def test_the_parquet_copy_is_the_same_input():
    """Ids and bodies are identical."""
    assert checked("prompts.parquet").fingerprint == checked("prompts.jsonl").fingerprint


def test_no_message_is_there_twice():
    """200 different prompts, and 30 other messages."""
    prompts = [prompt.row["prompt"] for prompt in open_prompts(str(SAMPLES / "prompts.jsonl")).read()]
    tickets = [prompt.row["customer_message"] for prompt in open_prompts(str(SAMPLES / "tickets.csv")).read()]
    assert len(set(prompts)) == 200
    assert len(set(tickets)) == 30
    assert not [ticket for ticket in tickets if any(ticket in prompt for prompt in prompts)]


def test_labels_are_as_described():
    """The expected answers are the labels that the prompt offers, as often as the README says."""
    rows = [prompt.row for prompt in open_prompts(str(SAMPLES / "prompts.jsonl")).read()]
    assert Counter(row["label"] for row in rows) == LABELS
    assert all(", ".join(LABELS) in row["prompt"] for row in rows)
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert ", ".join(f"{label} {count}" for label, count in LABELS.items()) in readme.replace("\n", " ")


def test_conversations_are_as_described():
    """Every turn is a message of its own, as many as the README says."""
    rows = [prompt.row for prompt in open_prompts(str(SAMPLES / "conversations.jsonl")).read()]
    turns = [turn for row in rows for turn in row["turns"]]
    assert (len(turns), len(set(turns)), sum("system" in row for row in rows)) == (15, 15, 2)
    assert {len(row["turns"]) for row in rows} == {1, 2, 3, 4}


def test_every_file_is_described():
    """The README names each file."""
    readme = (SAMPLES / "README.md").read_text(encoding="utf-8")
    assert [file.name for file in SAMPLES.iterdir() if f"`{file.name}`" not in readme] == ["README.md"]

"""Rows in their place, and what a configuration makes of them."""

from __future__ import annotations

import json

import pytest

from batchrun.config import check_config
from batchrun.errors import PromptError
from batchrun.prompts.render import Renderer
from batchrun.types import Prompt

USER = {"role": "user", "content": "hi"}
ELSEWHERE = "http://localhost:1/v1"
FIREWORKS = "https://api.fireworks.ai/inference/v1"


def renderer(keep_columns=(), base_url=ELSEWHERE, api="chat", **request):
    """Configure a run with model m and max_tokens 9."""
    request = {"model": "m", "params": {"max_tokens": 9, "temperature": None}} | request
    endpoint = {"base_url": base_url, "api": api}
    return Renderer(
        check_config({"input": "x", "endpoint": endpoint, "request": request, "keep_columns": list(keep_columns)})
    )


def prompt(where="in.jsonl:5", **row):
    """Put a row in its place."""
    return Prompt(index=4, custom_id="id4", where=where, row=row)


def body(row, **configured):
    """Render a row and parse what would be sent."""
    return json.loads(renderer(**configured).render(prompt(**row)).body)


def refusal(row, where="in.jsonl:5", **configured):
    """Render a row that cannot be sent; whatever is wrong, its place is known, and a remedy."""
    with pytest.raises(PromptError) as caught:
        renderer(**configured).render(Prompt(index=4, custom_id="id4", where=where, row=row))
    error = caught.value
    assert (error.where, error.index, error.custom_id) == (where, 4, "id4")
    assert error.message.startswith(where + ": ")
    assert error.remedy
    return error

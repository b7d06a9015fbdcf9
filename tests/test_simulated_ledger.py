from __future__ import annotations

import json

import pytest

from batchrun.errors import ConfigError
from batchrun.simulated.author import Author
from batchrun.simulated.chat import ChatRequest
from batchrun.simulated.ledger import Ledger
from batchrun.simulated.scenario import Scenario
from batchrun.simulated.wire import parse_request

BODY = b'{"model":"m","messages":[{"role":"user","content":"hello"}]}'
REQUEST = parse_request(BODY, ChatRequest)
ANSWER = Author(Scenario()).answer(REQUEST, 1)


@pytest.fixture
def path(tmp_path):
    """Where a ledger is to be."""
    return tmp_path / "ledger.jsonl"


def charge(ledger, tokens):
    """Let a request in, charge it and let it out."""
    ledger.charge(ledger.begin(), REQUEST, BODY, ANSWER, tokens=tokens)
    ledger.end()


def test_totals_count_what_was_refused_apart_from_what_was_charged():
    """They add up: all requests, those charged, and each status."""
    ledger = Ledger()
    charge(ledger, 5)
    ledger.begin()
    ledger.refused(429)
    assert ledger.totals() == {
        "requests": 2,
        "charged": 1,
        "by_status": {"200": 1, "429": 1},
        "in_flight": 1,
        "peak_in_flight": 1,
        "prompt_tokens": ANSWER.prompt_tokens,
        "completion_tokens": 5,
    }


def test_the_peak_stays():
    """It is the most that was in flight at once, not what is now."""
    ledger = Ledger()
    for _ in range(3):
        ledger.begin()
    for _ in range(3):
        ledger.end()
    assert (ledger.totals()["in_flight"], ledger.totals()["peak_in_flight"]) == (0, 3)


def test_a_line_is_there_as_soon_as_it_is_charged(path):
    """Nothing is kept back in this process."""
    ledger = Ledger(str(path))
    charge(ledger, 5)
    assert [json.loads(line)["completion_tokens"] for line in path.read_text().splitlines()] == [5]


def test_a_ledger_is_continued(path):
    """Another server on the same file adds to it."""
    charge(Ledger(str(path)), 5)
    charge(Ledger(str(path)), 6)
    assert [json.loads(line)["completion_tokens"] for line in path.read_text().splitlines()] == [5, 6]


def test_the_ledger_is_private(path):
    """It holds prompts, so nobody else may read it."""
    Ledger(str(path))
    assert path.stat().st_mode & 0o777 == 0o600


def test_a_ledger_that_cannot_be_written_is_an_error_for_people(tmp_path):
    """It is found at the start and names the path."""
    with pytest.raises(ConfigError, match="the ledger cannot be written: Is a directory"):
        Ledger(str(tmp_path))

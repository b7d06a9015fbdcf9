"""What limited the run: shares over all sessions, one sentence of advice, and silence where nothing is known."""

from __future__ import annotations

import json

import msgspec
import pytest
from stores import opened, run_file, started

from batchrun.config import Config
from batchrun.pricing import PriceBook
from batchrun.report.limited import advice, limits
from batchrun.report.markdown import to_markdown
from batchrun.report.metrics import summarise
from batchrun.report.summary import Report, RunFacts, Session, to_json
from batchrun.report.text import to_text
from batchrun.reporting import report_on
from batchrun.store.folder import RunFolder
from batchrun.store.manifest import Session as Close

BOUNDS = (
    "requests",
    "prompt_tokens",
    "uncached_prompt_tokens",
    "generated_tokens",
    "pace",
    "ceiling",
    "pause",
    "outage",
    "concurrency",
    "client",
    "input",
)
MIXED = {"generated_tokens": 71.0, "input": 18.0, "pause": 8.0, "client": 3.0}


def limited(*sessions: dict[str, float], concurrency: int | None = 64, throttled: int = 0) -> Report:
    """The report of sessions that measured what bound them."""
    measured = [Session(started_at=at, limited_s=seconds) for at, seconds in enumerate(sessions)]
    if throttled:
        measured.append(Session(started_at=99, throttled=throttled))
    return summarise([], [], RunFacts(name="run", rows=9, concurrency=concurrency, sessions=measured))


def test_shares_are_of_the_time_of_all_sessions():
    """A long session counts more than a short one, and the largest share comes first."""
    report = limited({"concurrency": 10.0, "input": 10.0}, {"pause": 60.0, "input": 20.0})
    assert list(report.limited.items()) == [("pause", 0.6), ("input", 0.3), ("concurrency", 0.1)]


def test_what_took_no_time_has_no_share():
    """And without any time there are no shares."""
    assert limited({"concurrency": 8.0, "pause": 0.0, "input": -1.0}).limited == {"concurrency": 1.0}
    assert limited({"concurrency": 0.0}).limited == {}
    assert limited().limited == {}


def test_the_summary_has_shares_and_the_history_of_the_ceiling():
    """For programs: `limited`, and for each session its seconds and its ceilings."""
    session = Session(started_at=0, limited_s={"pause": 6.0}, ceilings=[(0.0, 64), (2.5, 32)])
    summary = json.loads(to_json(summarise([], [], RunFacts(name="run", sessions=[session]))))
    assert summary["limited"] == {"pause": 1.0}
    assert summary["run"]["sessions"][0]["limited_s"] == {"pause": 6.0}
    assert summary["run"]["sessions"][0]["ceilings"] == [[0.0, 64], [2.5, 32]]


def test_the_folder_keeps_what_a_report_needs(tmp_path):
    """What a start measured of itself and what it allowed is read back from the folder."""
    config = msgspec.to_builtins(Config(input="x"))
    prices = msgspec.to_builtins(PriceBook(date="", source="", prices={}))
    with opened(tmp_path / "out", 1) as store:
        started(store)
        store.close(Close(exit_code=0, cause="", limited_s={"pause": 6.0}, ceilings=[(0.5, 8)]), [])
    RunFolder(tmp_path / "out").write_run_file(run_file(1, config=config, prices=prices))
    report = report_on(RunFolder(tmp_path / "out"))
    assert (report.run.concurrency, report.limited) == (64, {"pause": 1.0})
    assert [list(ceiling) for ceiling in report.run.sessions[0].ceilings] == [[0.5, 8]]


TEXT = """\
What limited the run
          71.0 %  generated tokens a minute
          18.0 %  too few rows left to send
           8.0 %  pauses after 429 or 503
Generated tokens a minute limited the run 71 % of the time; more concurrency
will not help: raise the limit if it is yours, else ask for a higher one, or
lower max_tokens.
"""

MARKDOWN = """\
## What limited the run

|  |  |
| ---: | --- |
| 71.0 % | generated tokens a minute |
| 18.0 % | too few rows left to send |
| 8.0 % | pauses after 429 or 503 |

Generated tokens a minute limited the run 71 % of the time; more concurrency will not help: raise the limit if it is yours, else ask for a higher one, or lower max_tokens.
"""  # noqa: E501 (a paragraph is one line)


def test_the_section_of_the_text():
    """Shares of at least 5 %, and a sentence on the largest."""
    assert TEXT in to_text(limited(MIXED))


def test_the_section_of_the_markdown():
    """The same."""
    assert to_markdown(limited(MIXED)).endswith(MARKDOWN)


@pytest.mark.parametrize("width", [40, 60, 80, 200])
def test_the_section_keeps_to_the_width(width):
    """Whatever the bound."""
    for bound in BOUNDS:
        assert max(map(len, to_text(limited({bound: 9.0}), width).splitlines())) <= width


@pytest.mark.parametrize("write", [to_text, to_markdown])
@pytest.mark.parametrize("sessions", [[], [{}], [{"concurrency": 4.9}], [{"pause": 2.0}, {"pause": 2.9}]])
def test_a_short_run_says_nothing(write, sessions):
    """Below five seconds of measured time, as without any."""
    assert "limited" not in write(limited(*sessions))


@pytest.mark.parametrize("bound", BOUNDS)
def test_every_bound_has_a_name_and_advice(bound):
    """A sentence of two halves, in words rather than in keys."""
    report = limited({bound: 9.0})
    assert limits(report)[0].value == "100 %"
    assert "_" not in limits(report)[0].meaning
    name, _, done = advice(report).partition(" limited the run 100 % of the time; ")
    assert name.lower() == limits(report)[0].meaning.lower()
    assert len(done) > 10


@pytest.mark.parametrize(("concurrency", "said"), [(64, "; try -c 128."), (60_000, "; try -c 100000.")])
def test_concurrency_that_binds_may_be_doubled(concurrency, said):
    """Up to the most that a run takes."""
    assert advice(limited({"concurrency": 9.0}, concurrency=concurrency)).endswith(said)


@pytest.mark.parametrize("concurrency", [None, 100_000])
def test_concurrency_that_cannot_be_doubled(concurrency):
    """The fact is said without advice."""
    said = "Concurrency limited the run 100 % of the time."
    assert advice(limited({"concurrency": 9.0}, concurrency=concurrency)) == said


def test_more_concurrency_is_not_advised_where_the_endpoint_refused():
    """It has said that it takes no more."""
    said = advice(limited({"concurrency": 9.0}, throttled=1))
    assert "-c" not in said
    assert "may not help" in said


def test_a_ceiling_that_was_never_cut_was_still_growing():
    """One that was cut is the endpoint's."""
    assert "still growing" in advice(limited({"ceiling": 9.0}))
    assert "ask for a higher limit" in advice(limited({"ceiling": 9.0}, throttled=1))


def test_a_bound_of_a_later_version_is_named_as_it_is():
    """Its key is all that is known of it."""
    report = limited({"disk_space": 9.0})
    assert limits(report)[0].meaning == "disk space"
    assert advice(report) == "Disk space limited the run 100 % of the time."

"""The page of a run as a user meets it: left behind by every ending, asked for by a command, wherever it runs."""

from __future__ import annotations

import pytest
from commands import at, called, prompts, typed
from pages import Parsed
from servers import simulated

KEY = "fw_sentinel_0123456789abcdef"


@pytest.fixture(scope="module")
def out(tmp_path_factory):
    """A run of 30 rows, one of which is not answered; with a key, against a real server."""
    place = tmp_path_factory.mktemp("page")
    with simulated({"faults": [{"kind": "empty", "match": "q1 "}]}) as server, pytest.MonkeyPatch.context() as patch:
        patch.setenv("FIREWORKS_API_KEY", KEY)
        command = ["run", prompts(place / "in.jsonl", 30), *at(server.base_url, place / "out"), "-c", "8"]
        assert called(*command, "--set", "retry.max_attempts=1", "--set", "keep_columns=[prompt]").code == 3
    return place / "out"


def test_an_ending_leaves_a_page(out):
    """It is whole, and the same that the command makes later."""
    page = (out / "report/report.html").read_text()
    assert "29 of 30 rows succeeded, 1 failed" in Parsed(page).text
    assert called("report", out, "--format", "html").out == page


def test_a_bad_ending_leaves_one_too(tmp_path):
    """A run without a single answer says why."""
    with simulated({"faults": [{"kind": "redirect"}]}) as server:
        ended = called("run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out"))
    assert ended.code == 8
    page = Parsed((tmp_path / "out/report/report.html").read_text())
    assert "The last session ended with exit code 8" in page.text


def test_it_goes_where_it_is_told(out, tmp_path):
    """Into a file, and then nothing is on the terminal."""
    ended = called("report", out, "--format", "html", "-o", tmp_path / "page.html")
    assert (ended.code, ended.out, ended.err) == (0, "", "")
    assert (tmp_path / "page.html").read_text() == (out / "report/report.html").read_text()


def test_samples_are_on_the_page(out):
    """As many as asked for, with the column that the run kept and the answer."""
    page = called("report", out, "--format", "html", "--samples", "3").out
    assert page.count("<article") == 3
    assert page.count('<p class="hint">prompt</p>') == page.count('<p class="hint">answer</p>') == 3


def test_samples_need_a_page(out):
    """Elsewhere there is no place for them; what to add is said."""
    ended = called("report", out, "--samples", "3")
    assert (ended.code, ended.out) == (2, "")
    assert ended.last.endswith("Next: add --format html")


def test_no_key_is_on_the_page(out):
    """Nor anything else of it, with samples and without."""
    for page in (
        (out / "report/report.html").read_text(),
        called("report", out, "--format", "html", "--samples", 9).out,
    ):
        assert KEY[3:] not in page


def test_a_home_that_cannot_be_written_to_is_no_obstacle(out, tmp_path):
    """As under cron or in a container: the same page, and nothing is left behind."""
    home = {"HOME": "/proc/nobody", "XDG_CONFIG_HOME": "", "XDG_CACHE_HOME": "", "TMPDIR": str(tmp_path)}
    ended = typed("report", out, "--format", "html", env=home)
    assert (ended.code, ended.err) == (0, "")
    assert ended.out == (out / "report/report.html").read_text()
    assert list(tmp_path.iterdir()) == []

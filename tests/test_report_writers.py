"""A report as text and as Markdown: two golden pages, every state of a run, and nothing hostile gets through."""

from __future__ import annotations

import unicodedata

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import BOOK, MODEL, SECOND, START, failure, report_of, report_with, success

from batchrun.report import format as fmt
from batchrun.report.html import to_html
from batchrun.report.markdown import to_markdown
from batchrun.report.outline import headline
from batchrun.report.summary import Report, Session, to_json
from batchrun.report.text import to_text


@pytest.fixture(scope="module")
def small() -> Report:
    """Ten rows, of which two were cut off, three failed and one is missing."""
    good = [success(i, finish_reason="length" if i > 3 else "stop", attempts=1 + (i == 0)) for i in range(6)]
    limited = "429: You have exceeded your usage limits. \nPlease try again later."
    bad = [
        failure(6, "rate_limited", limited),
        failure(7, "rate_limited", limited, attempts=4),
        failure(8, "context_length_exceeded", "400: The prompt is too long: 140000"),
    ]
    session = Session(
        started_at=START, ended_at=START + 8 * SECOND, exit_code=130, cause="stopped by SIGINT", wall_s=8, throttled=3
    )
    facts = {
        "name": "quickstart",
        "rows": 10,
        "models": [MODEL],
        "endpoint": "https://api.fireworks.ai/inference/v1",
        "price_date": BOOK.date,
        "price_source": BOOK.source,
        "sessions": [session],
    }
    return report_of(good, bad, **facts)


GOLDEN_TEXT = """\
quickstart: 6 of 10 rows succeeded, 3 failed, 1 is missing.
It cost $0.000204 and took 8.0 s.
The last session ended with exit code 130: stopped by SIGINT.

Model     accounts/fireworks/models/glm-5p3-flash
Endpoint  https://api.fireworks.ai/inference/v1
Prices    2026-11-22, a contract
When      2026-11-22 17:20:00 to 17:20:07 UTC
Active    8.0 s

Rows              6  succeeded, 60.0 %
                  3  failed, 30.0 %
                  1  missing, 10.0 %
                 10  in all

Failures          2  rate_limited, 66.7 %
          row-6, row-7: 429: You have exceeded your usage limits. Please try
            again later.
                  1  context_length_exceeded, 33.3 %
          row-8: 400: The prompt is too long: 140000

Tokens          600  prompt, 50.0 % of them cached
                300  completion
                900  in all

Cost      $0.000204  in all
             $0.034  per 1,000 rows
          $0.000036  saved by caching

Speed          1.12  rows/s
               75.0  prompt tokens/s
               37.5  completion tokens/s
               1.51  requests in flight on the mean

Retries           2  rows took more than one attempt
                  7  of 13 attempts brought no result
                  3  times throttled (429, 503)

Answers           4  finish_reason stop
                  2  finish_reason length

Where the time went
              1.0 %  attempts that brought no result
             37.1 %  connecting, and this machine's own work
             24.8 %  network
             37.1 %  server: queue, prefill and decode
All rows together took 12.1 s. The endpoint does not tell its queue from its
work.

Seconds                    mean      p50      p90      p95      p99      max
latency                   1.250    1.250    1.450    1.475    1.495    1.500
waiting to be sent       <0.001   <0.001   <0.001   <0.001   <0.001   <0.001
server: processing        0.750    0.750    0.750    0.750    0.750    0.750
network, this machine     0.500    0.500    0.700    0.725    0.745    0.750
latency of failures       0.040    0.040    0.040    0.040    0.040    0.040

Tokens a row               mean      p50      p90      p95      p99      max
prompt                      100      100      100      100      100      100
completion                 50.0     50.0     50.0     50.0     50.0     50.0
completion/s               40.8     40.1     47.7     48.9     49.8     50.0

- 1 row still to do: the same command again goes on.
- Cut off at the token limit: 2 rows. Raise max_tokens if that matters.
"""

GOLDEN_MARKDOWN = """\
# quickstart

**6 of 10 rows succeeded, 3 failed, 1 is missing.**

It cost $0.000204 and took 8.0 s.

The last session ended with exit code 130: stopped by SIGINT.

- 1 row still to do: the same command again goes on.
- Cut off at the token limit: 2 rows. Raise max_tokens if that matters.

|  |  |
| --- | --- |
| Model | accounts/fireworks/models/glm-5p3-flash |
| Endpoint | https&#58;//api.fireworks.ai/inference/v1 |
| Prices | 2026-11-22, a contract |
| When | 2026-11-22 17:20:00 to 17:20:07 UTC |
| Active | 8.0 s |

## Rows

|  |  |
| ---: | --- |
| 6 | succeeded, 60.0 % |
| 3 | failed, 30.0 % |
| 1 | missing, 10.0 % |
| 10 | in all |

## Failures

| rows | share | error_type | for example |
| ---: | ---: | --- | --- |
| 2 | 66.7 % | rate_limited | row-6, row-7: 429: You have exceeded your usage limits. Please try again later. |
| 1 | 33.3 % | context_length_exceeded | row-8: 400: The prompt is too long: 140000 |

## Tokens

|  |  |
| ---: | --- |
| 600 | prompt, 50.0 % of them cached |
| 300 | completion |
| 900 | in all |

## Cost

|  |  |
| ---: | --- |
| $0.000204 | in all |
| $0.034 | per 1,000 rows |
| $0.000036 | saved by caching |

## Speed

|  |  |
| ---: | --- |
| 1.12 | rows/s |
| 75.0 | prompt tokens/s |
| 37.5 | completion tokens/s |
| 1.51 | requests in flight on the mean |

## Retries

|  |  |
| ---: | --- |
| 2 | rows took more than one attempt |
| 7 | of 13 attempts brought no result |
| 3 | times throttled (429, 503) |

## Answers

|  |  |
| ---: | --- |
| 4 | finish_reason stop |
| 2 | finish_reason length |

## Where the time went

|  |  |
| ---: | --- |
| 1.0 % | attempts that brought no result |
| 37.1 % | connecting, and this machine's own work |
| 24.8 % | network |
| 37.1 % | server: queue, prefill and decode |

All rows together took 12.1 s. The endpoint does not tell its queue from its work.

## Seconds

|  | rows | mean | min | p50 | p90 | p95 | p99 | max |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| latency | 6 | 1.250 | 1.000 | 1.250 | 1.450 | 1.475 | 1.495 | 1.500 |
| waiting to be sent | 6 | <0.001 | <0.001 | <0.001 | <0.001 | <0.001 | <0.001 | <0.001 |
| server: processing | 6 | 0.750 | 0.750 | 0.750 | 0.750 | 0.750 | 0.750 | 0.750 |
| network, this machine | 6 | 0.500 | 0.250 | 0.500 | 0.700 | 0.725 | 0.745 | 0.750 |
| latency of failures | 3 | 0.040 | 0.040 | 0.040 | 0.040 | 0.040 | 0.040 | 0.040 |

## Tokens a row

|  | rows | mean | min | p50 | p90 | p95 | p99 | max |
| --- | ---: | ---: | ---: | ---: | ---: | ---: | ---: | ---: |
| prompt | 6 | 100 | 100 | 100 | 100 | 100 | 100 | 100 |
| completion | 6 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 | 50.0 |
| completion/s | 6 | 40.8 | 33.3 | 40.1 | 47.7 | 48.9 | 49.8 | 50.0 |
"""


def test_text_is_the_golden_page(small):
    """What a person sees after a run, to the character."""
    assert to_text(small) == GOLDEN_TEXT


def test_markdown_is_the_golden_page(small):
    """The same, for a pull request."""
    assert to_markdown(small) == GOLDEN_MARKDOWN


@pytest.mark.parametrize("width", [10, 40, 53, 60, 80, 120, 200])
def test_text_keeps_to_its_width(small, width):
    """No line is longer than the terminal is wide, down to forty columns."""
    assert max(map(len, to_text(small, width).splitlines())) <= max(width, 40)


@pytest.mark.parametrize(("width", "shown"), [(40, ["524,350"]), (80, ["996,153", "1,038,091", "1,048,576"])])
def test_columns_of_large_numbers_do_not_touch(width, shown):
    """Some models take a million tokens; the columns that no longer fit are left out."""
    page = to_text(report_of([success(0, prompt_tokens=1_048_576), success(1, prompt_tokens=123)]), width)
    (line,) = [line for line in page.splitlines() if line.startswith("prompt  ")]
    assert line.split()[-len(shown) :] == shown
    assert len(line) <= width


@pytest.mark.parametrize("write", [to_text, to_markdown, to_html, to_json])
def test_what_no_endpoint_can_mean_breaks_no_page(write):
    """Two times of 1e308 seconds have no finite sum; they are left out as what is not known."""
    claims = {"server_processing_s": 1e308, "perf_metrics": '{"prefill-duration":1e308,"tokenizer-duration":1e308}'}
    report = report_of([success(0, **claims), success(1, **claims), success(2)])
    assert (report.latency.server_processing_s.count, report.latency.overhead_s.count) == (1, 1)
    assert write(report)


def test_wide_characters_take_two_columns():
    """Japanese error messages keep to the width too."""
    page = to_text(report_of([], [failure(0, "server_error", "混雑しています" * 40)], name="評価" * 40), 60)
    columns = [sum(1 + (unicodedata.east_asian_width(c) in "WF") for c in line) for line in page.splitlines()]
    assert page.count("評") == 40
    assert page.count("混雑") > 1
    assert max(columns) <= 60


@pytest.mark.parametrize(
    ("report", "says"),
    [
        (report_of([]), "the input has no rows"),
        (report_of([], rows=5), "no row has an answer yet"),
        (report_of([success(0)]), "its one row succeeded"),
        (report_of([success(0), success(1)]), "all 2 rows succeeded"),
        (report_of([success(0)], rows=None), "1 row succeeded"),
        (report_of([], [failure(0, "timed_out", "")]), "0 of 1 row succeeded, 1 failed"),
        (report_of([success(0)], rows=2), "1 of 2 rows succeeded, 1 is missing"),
        (report_of([success(0)], rows=2000), "1 of 2,000 rows succeeded, 1,999 are missing"),
    ],
)
def test_headline_says_whether_it_worked(report, says):
    """One sentence for each state of a run."""
    assert headline(report) == says
    assert f"run: {says}." in to_text(report)


@pytest.mark.parametrize("write", [to_text, to_markdown])
class TestBoth:
    """What either page says."""

    def test_simulated_answers_are_called_so(self, write):
        """Nobody takes invented answers, or their cost, for real ones."""
        page = write(report_of([success(0)], simulated=True))
        assert "Simulated: no model answered, and nothing was paid." in page
        assert "It cost" not in page

    def test_an_unpriced_run_shows_no_dollars(self, write):
        """Unpriced is said, with the model and what to do; $0 is not."""
        page = write(report_of([success(0, cost_usd=None, requested_model="local")]))
        assert "unpriced" in page
        assert "Unpriced: local. Put a price into a file" in page
        assert "$" not in page

    def test_a_partial_cost_is_called_partial(self, write):
        """The total says what is missing in it."""
        page = write(report_of([success(0), success(1, cost_usd=None), success(2, **dict.fromkeys(NO_USAGE))]))
        assert "It cost at least $0.000034" in page
        assert "partial: 1 row unpriced, 1 row without usage" in page

    def test_unknown_usage_is_unknown(self, write):
        """Without any usage the cost is neither free nor unpriced."""
        page = write(report_of([success(0, **dict.fromkeys(NO_USAGE))]))
        assert "no row has a known cost" in page
        assert "unpriced" not in page
        assert "$" not in page

    def test_failures_without_a_charge_are_not_free(self, write):
        """A run of failures does not claim to have cost nothing."""
        page = write(report_of([], [failure(0, "timed_out", "no answer for 60 s")]))
        assert "no charge is known of" in page
        assert "$" not in page

    def test_costs_of_two_models_stand_apart(self, write):
        """The dearest comes first, the unpriced one is there."""
        page = write(report_of([success(0), success(1), success(2, requested_model="local", cost_usd=None)]))
        assert page.index(f"2 rows of {MODEL}") < page.index("1 row of local")

    def test_the_client_as_bottleneck(self, write):
        """Latencies that are our own loop's are said to be."""
        page = write(report_of([success(0)], sessions=[Session(started_at=START, exit_code=0, loop_lag_p99_s=0.3)]))
        assert "This machine was the bottleneck (loop lag p99 300 ms)" in page

    def test_reasoning_overflow(self, write):
        """Answers that are all reasoning are named."""
        page = write(report_of([success(0, finish_reason="length", reasoning_tokens=50)]))
        assert "All tokens went into reasoning: 1 row." in page

    def test_estimated_usage(self, write):
        """An estimate is not shown as a measurement."""
        assert "Usage is estimated for 1 row." in write(report_of([success(0, usage_source="estimated")]))

    def test_a_session_without_an_end(self, write):
        """Going on, or killed: the folder cannot tell, and says so."""
        page = write(report_of([success(0)], rows=9, sessions=[Session(started_at=START)]))
        assert "still going on, or was killed" in page

    def test_a_clean_end_is_not_talked_about(self, write):
        """Exit code 0 and 3 say nothing that the headline does not."""
        page = write(report_of([success(0)], sessions=[Session(started_at=START, exit_code=3, cause="1 failed")]))
        assert "session" not in page


NO_USAGE = ("prompt_tokens", "cached_tokens", "completion_tokens", "total_tokens", "cost_usd")
HOSTILE = (
    "\x1b]0;owned\x07\x1b[31m|<script>alert(1)</script>`x`\r\n# big\u202e\u2066\x9b2J\u2028![a](http://e.vil) @you\x00"
)


@pytest.mark.parametrize("write", [to_text, to_markdown])
def test_a_run_that_a_limit_of_its_own_ended_does_not_go_on_by_itself(write):
    """A budget, a deadline or a pilot would end it again."""
    ended = [Session(started_at=START, exit_code=4, cause="the budget of $1 is reached")]
    page = write(report_of([success(0)], rows=2, sessions=ended))
    assert "1 row still to do: raise or lift the limit that ended it, and run it again." in page


@pytest.mark.parametrize("write", [to_text, to_markdown])
@pytest.mark.parametrize(
    "text", [HOSTILE, *map(chr, range(32)), *map(chr, range(0x7F, 0xA0)), "\u061c", "\ufeff", "\ud800"]
)
def test_nothing_unseen_passes(write, text):
    """No control, bidi mark or surrogate from outside reaches a page, wherever it stood."""
    report = report_with(text if text != "\ud800" else "x")
    page = write(report) if text != "\ud800" else write(report_of([], name=text))
    assert [c for c in page if c != "\n" and not c.isprintable()] == []


PLAIN = to_markdown(report_with("x"))


WORDS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40)


@settings(max_examples=50, deadline=None)
@given(WORDS)
def test_markdown_tables_keep_their_shape(text):
    """No text from outside opens a cell, a line, a tag, a code span, a link or an image."""
    page = to_markdown(report_with(f"x{text}"))
    assert [line.count("|") for line in page.splitlines()] == [line.count("|") for line in PLAIN.splitlines()]
    for opener in ("<", "`", "](", "!["):
        assert page.count(opener) == PLAIN.count(opener)


@pytest.mark.rig
@settings(max_examples=200, deadline=None)
@given(WORDS)
def test_markdown_tables_keep_their_shape_whatever_comes(text):
    """The same for many more."""
    test_markdown_tables_keep_their_shape.hypothesis.inner_test(text)


def test_markdown_shows_hostile_text_as_text():
    """Everything that GitHub could act on has become an entity."""
    page = to_markdown(report_with(HOSTILE))
    assert "&#60;script&#62;alert(1)&#60;/script&#62;" in page
    for harmful in ("<script", "`x`", "![a]", "http://e.vil", "@you", "\n# big"):
        assert harmful not in page


@pytest.mark.parametrize(
    ("usd", "text"),
    [
        (None, "unknown"),
        (0, "$0"),
        (1e-9, "$0.000000001"),
        (3.4e-05, "$0.000034"),
        (0.0123456, "$0.0123"),
        (0.5, "$0.50"),
        (0.9999, "$1.00"),
        (1234.5, "$1,234.50"),
        (-0.25, "-$0.25"),
        (-3, "-$3.00"),
    ],
)
def test_dollars(usd, text):
    """Sensible digits, and a positive amount is never $0.00."""
    assert fmt.dollars(usd) == text


@given(st.integers(1, 10**18))
def test_a_positive_amount_is_never_shown_as_nothing(nano):
    """From a nano-dollar upwards something other than zeros is shown."""
    assert fmt.dollars(nano / 1e9).strip("$0.,")


@pytest.mark.parametrize(
    ("part", "whole", "text"),
    [(0, 0, "0 %"), (0, 5, "0 %"), (5, 5, "100 %"), (1, 10**6, "0.1 %"), (999_999, 10**6, "99.9 %"), (1, 3, "33.3 %")],
)
def test_percent(part, whole, text):
    """Only none is 0 %, only all is 100 %."""
    assert fmt.percent(part, whole) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0 ms"),
        (0.0421, "42 ms"),
        (0.9996, "1.0 s"),
        (4.218, "4.2 s"),
        (59.97, "1 min 00 s"),
        (278, "4 min 38 s"),
        (7500, "2 h 05 min"),
        (190_000, "2 d 04 h"),
    ],
)
def test_duration(value, text):
    """The two units that matter."""
    assert fmt.duration(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (0, "0.000"),
        (0.0001, "<0.001"),
        (1.23456, "1.235"),
        (999.9, "999.900"),
        (999.9996, "1,000"),
        (12_345.6, "12,346"),
        (1e29, "1.00e+29"),
    ],
)
def test_seconds(value, text):
    """Milliseconds as long as they matter; a positive time is not 0."""
    assert fmt.seconds(value) == text


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (None, "unknown"),
        (0, "0.00"),
        (1e-6, "<0.0001"),
        (0.01234, "0.0123"),
        (2, "2.00"),
        (32.123, "32.1"),
        (99.96, "100"),
        (4685.4, "4,685"),
        (2**63, "9.22e+18"),
    ],
)
def test_rate(value, text):
    """Three significant digits, or whole numbers."""
    assert fmt.rate(value) == text


@pytest.mark.parametrize(
    ("last", "text"),
    [
        (START + 90 * SECOND, "2026-11-22 17:20:00 to 17:21:30 UTC"),
        (START + 86_400 * SECOND, "2026-11-22 17:20:00 to 2026-11-23 17:20:00 UTC"),
    ],
)
def test_period(last, text):
    """The date stands once if it is the same day."""
    assert fmt.period(START, last) == text

"""A comparison as text, as Markdown and as JSON: golden pages, every state, and nothing hostile gets through."""

from __future__ import annotations

import json
import unicodedata
from html.parser import HTMLParser

import msgspec
import pytest
from comparisons import ENDPOINT, answer, compared, failure, make

from batchrun.report.compare import outline
from batchrun.report.compare.gates import judge, parse_gate
from batchrun.report.compare.html import to_html
from batchrun.report.compare.markdown import to_markdown
from batchrun.report.compare.shape import Comparison, to_json
from batchrun.report.compare.text import to_text

HOSTILE = "\x1b[31m\x07<script>alert(1)</script>|[x](javascript:a)\r\n`@all` ![](http://x/y)\u202e$(rm)"


def pages(place):
    """Sixteen rows; B is dearer, slower and better, failed a row that A answered and answered one that A failed."""
    rows = range(16)
    a = [answer(row, "yes" if row % 2 else "no", cost_usd=0.001, latency_s=2 + row / 10, ttft_s=None) for row in rows]
    b = [answer(row, cost_usd=0.002 + row / 1e5, latency_s=3 + row / 8, ttft_s=None) for row in rows]
    a[3], b[4] = failure(3, "rate_limited", error_message="429: slow down"), failure(4, error_message="500: sorry")
    a[5], b[5] = failure(5, "timed_out"), failure(5, "timed_out")
    make(place / "a", a)
    make(place / "b", b, request={"model": "large"})
    return compared(place / "a", place / "b", "cost_usd > +10%", "failures > +0", column="label")


@pytest.fixture
def small(tmp_path, monkeypatch):
    """Those runs, under short names."""
    monkeypatch.chdir(tmp_path)
    return pages(tmp_path.relative_to(tmp_path))


GOLDEN_TEXT = """\
B against A in 16 pairs of rows, by their position, as the inputs have no
custom_id.
Significant: cost, latency, accuracy.

A         a: 14 of 16 rows succeeded, 2 failed, $0.014
B         b: 14 of 16 rows succeeded, 2 failed, $0.0291
Differs   request.model: "m" -> "large"

                         A        B  B against A, 95 % interval
cost                $0.013  $0.0271  +108.3 % (+105.3 to +110.9), significant
prompt tokens           65       65  0 % (0 to 0)
completion tokens       65       65  0 % (0 to 0)
latency, mean        2.831    4.038  +1.208 s (+1.133 to +1.273), significant
latency, p50         2.900    4.125  +1.225 s (+1.116 to +1.310), significant
latency, p95         3.440    4.800  +1.360 s (too few pairs)
failures                 2        2  0 points (-23.9 to +23.9)
accuracy            46.2 %    100 %  +53.8 points (+18.8 to +76.8), significant

Failures  1  answered -> server_error
          row-4: 500: sorry
          1  rate_limited -> answered
          row-3: 429: slow down
          1  timed_out -> timed_out
          row-5: timed_out of row 5

Answers   6  identical, 46.2 %
          7  different, 53.8 %
          1  only A answered
          1  only B answered
          row-0
            A: no
            B: yes
          row-2
            A: no
            B: yes
          row-6
            A: no
            B: yes
          row-8
            A: no
            B: yes
          row-10
            A: no
            B: yes

Accuracy  6  both right
          0  only A right
          7  only B right
          0  neither right

Gates     FAILED  cost_usd > +10%: +108.308% (0.013 -> 0.02708)
          passed  failures > +0: +0 (2 -> 2)
"""

GOLDEN_MARKDOWN = """\
# b against a

**B against A in 16 pairs of rows, by their position, as the inputs have no custom_id.**

Significant: cost, latency, accuracy.

## Gates

|  |  |
| ---: | --- |
| FAILED | cost_usd &#62; +10%: +108.308% (0.013 -&#62; 0.02708) |
| passed | failures &#62; +0: +0 (2 -&#62; 2) |

|  |  |
| --- | --- |
| A | a: 14 of 16 rows succeeded, 2 failed, &#36;0.014 |
| B | b: 14 of 16 rows succeeded, 2 failed, &#36;0.0291 |
| Differs | request.model: "m" -&#62; "large" |

## Metrics

|  | A | B | B against A, 95 % interval |
| --- | ---: | ---: | --- |
| cost | $0.013 | $0.0271 | +108.3 % (+105.3 to +110.9), significant |
| prompt tokens | 65 | 65 | 0 % (0 to 0) |
| completion tokens | 65 | 65 | 0 % (0 to 0) |
| latency, mean | 2.831 | 4.038 | +1.208 s (+1.133 to +1.273), significant |
| latency, p50 | 2.900 | 4.125 | +1.225 s (+1.116 to +1.310), significant |
| latency, p95 | 3.440 | 4.800 | +1.360 s (too few pairs) |
| failures | 2 | 2 | 0 points (-23.9 to +23.9) |
| accuracy | 46.2 % | 100 % | +53.8 points (+18.8 to +76.8), significant |

## Failures

| pairs | A -> B | for example |
| ---: | --- | --- |
| 1 | answered -&#62; server_error | row-4: 500: sorry |
| 1 | rate_limited -&#62; answered | row-3: 429: slow down |
| 1 | timed_out -&#62; timed_out | row-5: timed_out of row 5 |

## Answers

|  |  |
| ---: | --- |
| 6 | identical, 46.2 % |
| 7 | different, 53.8 % |
| 1 | only A answered |
| 1 | only B answered |

| for example | A | B |
| --- | --- | --- |
| row-0 | no | yes |
| row-2 | no | yes |
| row-6 | no | yes |
| row-8 | no | yes |
| row-10 | no | yes |

## Accuracy

|  |  |
| ---: | --- |
| 6 | both right |
| 0 | only A right |
| 7 | only B right |
| 0 | neither right |
"""


def test_the_text(small):
    """All that there is to say, on a screen."""
    assert to_text(small) == GOLDEN_TEXT


def test_the_markdown(small):
    """The same for a pull request."""
    assert to_markdown(small) == GOLDEN_MARKDOWN


@pytest.mark.parametrize("width", [20, 40, 60, 66, 120])
def test_no_line_is_wider_than_the_terminal(small, width):
    """And at every width it is said what is significant."""
    text = to_text(small, width=width)
    assert max(map(len, text.splitlines())) <= max(width, 40)
    assert text.count("significant") == GOLDEN_TEXT.count("significant") > 2


def test_the_json_is_the_comparison(small):
    """It is read back as it was, and knows its version."""
    assert msgspec.json.decode(to_json(small), type=Comparison) == small
    assert json.loads(to_json(small))["comparison_version"] == 1


def test_significant_is_what_leaves_out_zero(small):
    """And no metric without an interval is."""
    for metric in filter(None, small.metrics.values()):
        holds_zero = metric.difference_low is None or metric.difference_low <= 0 <= metric.difference_high
        assert metric.significant is not holds_zero
    assert small.metrics["cost_usd"].significant
    assert not small.metrics["failures"].significant


@pytest.fixture
def hostile(tmp_path):
    """Two runs whose every text wants out."""
    name = HOSTILE.replace("/", "_")
    kept = json.dumps({"label": HOSTILE})
    request = {"model": HOSTILE, "params": {HOSTILE: 1}}
    a = [answer(0, HOSTILE, custom_id=HOSTILE, input=kept), answer(1, custom_id=HOSTILE + "1")]
    b = [
        answer(0, HOSTILE * 2, custom_id=HOSTILE, input=kept),
        failure(1, custom_id=HOSTILE + "1", error_message=HOSTILE),
    ]
    make(tmp_path / ("a" + name), a, input=HOSTILE)
    make(tmp_path / ("b" + name), b, request=request, endpoint={**ENDPOINT, "base_url": HOSTILE})
    return compared(tmp_path / ("a" + name), tmp_path / ("b" + name), "unpaired > 0", column="label")


def test_a_terminal_obeys_nothing_from_outside(hostile):
    """Every character can be printed."""
    text = to_text(hostile)
    assert "script" in text
    assert [c for c in text if unicodedata.category(c).startswith("C") and c != "\n"] == []


def test_markdown_shows_text_from_outside_as_text(hostile):
    """No tag, link, image, mention or cell of its own."""
    page = to_markdown(hostile).replace("<br>", "")
    assert "script" in page
    assert not any(mark in page for mark in ("<", "](", "@all", "`", "http://"))
    assert {line.count("|") for line in page.splitlines() if "alert" in line and line.startswith("|")} <= {3, 4}


class Tags(HTMLParser):
    """The tags of a page, with the names of their attributes, and its text."""

    def __init__(self, page: str):
        super().__init__()
        self.seen, self.words = set(), []
        self.feed(page)

    def handle_starttag(self, tag, attrs):
        self.seen |= {tag, *(f"{tag} {name}" for name, _ in attrs)}

    def handle_data(self, data):
        self.words.append(data)


def test_a_page_shows_text_from_outside_as_text(hostile, small):
    """It has no tag and no attribute that a harmless page does not have, and no script, link or picture."""
    tame, wild = Tags(to_html(small)), Tags(to_html(hostile))
    assert wild.seen - tame.seen <= {"div class", "ul", "li"}
    assert not wild.seen & {"script", "a", "img", "link", "iframe", "form"}
    assert "script" in " ".join(wild.words)
    assert [c for c in to_html(hostile) if unicodedata.category(c).startswith("C") and c != "\n"] == []


def test_a_page_has_all_that_the_text_has(small):
    """Every metric, move, answer, figure and gate."""
    words = " ".join(" ".join(Tags(to_html(small)).words).split())
    said = [text for line in outline.metrics(small) for text in line if text]
    said += [figure.meaning for figure in [*outline.answers(small), *outline.gates(small)]]
    said += [ending for _, ending, _ in outline.moves(small)]
    assert [text for text in said if text not in words] == []


@pytest.mark.parametrize(
    ("gates", "title", "verdict"),
    [
        ([], "Significant: cost, latency, accuracy", "mixed"),
        (["failures > +0"], "The gate passed", "good"),
        (["failures > +0", "cost_usd > +1"], "All 2 gates passed", "good"),
        (["cost_usd > +10%"], "The gate failed", "bad"),
        (["cost_usd > +10%", "failures > 1"], "2 of 2 gates failed", "bad"),
    ],
)
def test_a_page_opens_with_what_became_of_it(small, gates, title, verdict):
    """The gates if there are any, else what is significant."""
    found = msgspec.structs.replace(small, gates=[judge(parse_gate(gate, accuracy=True), small) for gate in gates])
    page = to_html(found)
    assert f"<h1>{title}</h1>" in page
    assert f'class="verdict {verdict}"' in page


def notes(place, a, b, column=None, **config) -> str:
    """What is said of two runs, of which the second has another configuration."""
    found = compared(make(place / "a", a), make(place / "b", b, **config), column=column)
    return " ".join(to_text(found, width=120).split())


def other_requests(rows):
    """The same ids, with other bodies."""
    return [answer(row, request_key=f"{row + 77:032x}") for row in rows]


@pytest.mark.parametrize(
    ("a", "b", "config", "says"),
    [
        ([answer(0)], [answer(0)], {}, "2.000 0 s (too few pairs)"),
        ([answer(0), answer(1)], [answer(0)], {}, "Of A some rows have no partner: 1 row."),
        ([answer(0)], [answer(0), answer(1), answer(2)], {}, "Of B some rows have no partner: 2 rows."),
        (
            map(answer, range(3)),
            other_requests(range(3)),
            {},
            "The inputs differ: 3 rows with the same id ask something",
        ),
        (map(answer, range(3)), [answer(0), *other_requests([1, 2])], {}, "The inputs differ: 2 rows with the same id"),
        (
            map(answer, range(3)),
            other_requests(range(3)),
            {"input": "other.jsonl", "request": {"model": "n"}},
            "The inputs have different names. Their ids agree; that the prompts do was not checked.",
        ),
        ([failure(0)], [answer(0)], {}, "A has only failures"),
        ([answer(0)], [answer(0)], {"endpoint": {"base_url": "simulated"}}, "B is simulated: no model answered"),
        ([answer(0)], [answer(0, cost_usd=None)], {}, "Cost: not known of 1 row that both answered."),
        ([answer(0)], [answer(0)], {}, "by their position, as the inputs have no custom_id"),
        ([answer(0, custom_id="x")], [answer(0, custom_id="x")], {}, "B against A in 1 pair of rows, by custom_id."),
        ([answer(0, custom_id="x")], [answer(0, custom_id="y")], {}, "by what was asked, as their ids differ"),
        (
            [answer(0, custom_id="x"), answer(1)],
            [answer(0, custom_id="y"), answer(1)],
            {},
            "1 by custom_id and 1 by what was asked",
        ),
    ],
)
def test_what_a_reader_must_know(tmp_path, a, b, config, says):
    """It is said in words, and not said where it is not so."""
    assert says in notes(tmp_path, a, b, **config)


def test_nothing_is_said_without_a_reason(tmp_path):
    """Two models, the same input, all rows: no note."""
    a, b = [answer(row) for row in range(12)], other_requests(range(12))
    said = to_text(compared(make(tmp_path / "a", a), make(tmp_path / "b", b, request={"model": "n"})))
    assert "\n- " not in said


def test_what_no_pair_expects(tmp_path):
    """Accuracy of nothing is said to be of nothing."""
    rows = [answer(0, input='{"label":null}')]
    assert "No pair that both answered has an expected answer in label." in notes(tmp_path, rows, rows, column="label")


def test_other_labels_are_told(tmp_path):
    """Rows that the inputs disagree on are not judged."""
    said = notes(tmp_path, [answer(0)], [answer(0, input='{"label":"no"}')], column="label")
    assert "The inputs expect different answers of 1 row, which are not judged." in said


def test_from_nothing_there_is_no_percentage(tmp_path):
    """What cost nothing and now costs something has no ratio."""
    a, b = ([answer(row, cost_usd=usd) for row in range(12)] for usd in (0.0, 0.5))
    assert "from none" in notes(tmp_path, a, b)


def test_a_ratio_without_bounds_is_shown_without(tmp_path):
    """What cost nothing in nearly every row: the difference has an interval, the ratio none, and pairs are enough."""
    a, b = ([answer(row, cost_usd=0.1 if row == 0 else usd) for row in range(12)] for usd in (0.0, 0.5))
    said = notes(tmp_path, a, b)
    assert "+5,500.0 %, significant" in said

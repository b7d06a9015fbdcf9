"""The report as a page: it says what the others say, is whole and accessible HTML, and shows hostile text as text."""

from __future__ import annotations

import base64
import hashlib
import re
from functools import cache
from pathlib import Path
from xml.etree import ElementTree as ET

import pytest
from hostile import HOSTILE, KINDS
from hypothesis import given, settings
from hypothesis import strategies as st
from pages import START, Parsed, failure, full_report, report_of, report_with, sample_of, streamed

from batchrun.report import outline
from batchrun.report.charts import LEAST_ROWS, MOST_TICKS, Axis, Chart, Line, charts
from batchrun.report.format import visible
from batchrun.report.html import to_html, verdict
from batchrun.report.limited import advice
from batchrun.report.plots import draw
from batchrun.report.samples import TEXT_CHARS, samples_of
from batchrun.report.summary import Session
from batchrun.store.schema import RESULTS, to_batch

MOST_BYTES = 600_000
MICROSECONDS = st.integers(0, 10**12)
HEADINGS = re.compile(r"h[1-6]")
ENDED = [
    report_of([]),
    report_of([], rows=5),
    report_of([streamed(0)]),
    report_of([streamed(0)], rows=None),
    report_of([streamed(0)], rows=9, sessions=[Session(started_at=0)]),
    report_of([], [failure(index) for index in range(30)]),
    report_of([streamed(index, cost_usd=None, requested_model="local") for index in range(30)]),
    report_of([streamed(index) for index in range(30)], simulated=True),
]


@cache
def full() -> str:
    """The page of a report with everything in it."""
    return to_html(full_report(), [sample_of("What is asked, and answered")])


@cache
def parsed() -> Parsed:
    """The same, taken apart."""
    return Parsed(full())


@cache
def harmless() -> Parsed:
    """A page of the same shape as those of hostile texts."""
    return Parsed(to_html(report_with("x"), [sample_of("x")]))


def said(page: Parsed) -> str:
    """The text of a page with its white space as `visible` leaves it."""
    return " ".join(page.text.split())


def test_it_says_what_text_and_markdown_say():
    """Headline, ending, notes, advice, every figure and every example are those of the outline."""
    report, text = full_report(), said(parsed())
    headline = outline.headline(report)
    sentences = [headline[:1].upper() + headline[1:], outline.price_and_time(report), outline.ending(report)]
    sentences += [*outline.notes(report), advice(report)]
    sentences += [part for pair in outline.about(report) for part in pair]
    sentences += [part for _, lines in outline.figures(report) for figure in lines for part in figure]
    sentences += [part for group in report.failures for pair in outline.examples(group) for part in pair]
    assert [sentence for sentence in sentences if visible(sentence) not in text] == []


@pytest.mark.parametrize("report", ENDED)
def test_every_state_of_a_run_has_a_page(report):
    """No rows, only failures, one row, a run that is going on: each is whole, and has its headline."""
    page = Parsed(to_html(report))
    assert outline.headline(report)[1:] in said(page)


@pytest.mark.parametrize(
    ("report", "is_a"),
    [
        (report_of([streamed(0)]), "good"),
        (report_of([]), "mixed"),
        (report_of([streamed(0)], rows=2), "mixed"),
        (report_of([streamed(0)], [failure(1)]), "mixed"),
        (report_of([], [failure(0)]), "bad"),
        (report_of([], rows=1), "bad"),
    ],
)
def test_its_mark_says_whether_it_worked(report, is_a):
    """Only a run that has all its rows is good, only one that has none is bad."""
    assert verdict(report) == is_a
    assert f'class="verdict {is_a}"' in to_html(report)


def test_the_same_report_is_the_same_page():
    """To the byte: pages can be compared, and cached."""
    assert to_html(full_report(), [sample_of("What is asked, and answered")]) == full()


class TestAlone:
    """Nothing runs on it, nothing is loaded by it."""

    def test_the_policy_allows_its_own_style_and_nothing_else(self):
        """By its hash: not even a style that somebody smuggled in would count."""
        style = full().partition("<style>")[2].partition("</style>")[0]
        digest = base64.b64encode(hashlib.sha256(style.encode()).digest()).decode()
        allowed = f"default-src 'none'; style-src 'sha256-{digest}'; base-uri 'none'; form-action 'none'"
        policies = [meta["content"] for meta in parsed().all("meta") if "http-equiv" in meta]
        assert policies == [allowed]

    def test_there_is_nothing_to_forbid(self):
        """No script, no handler, no style of an element, no address but of an id on the page."""
        elements = parsed().elements
        assert {tag for tag, _ in elements} & {
            "script",
            "link",
            "img",
            "image",
            "iframe",
            "object",
            "form",
            "a",
        } == set()
        named = {name for _, attributes in elements for name in attributes}
        assert {
            name for name in named if name.startswith("on") or name in {"style", "src", "srcset", "action"}
        } == set()
        addresses = [attributes[name] or "" for _, attributes in elements for name in attributes if "href" in name]
        assert [address for address in addresses if not address.startswith("#")] == []
        assert set(re.findall(r"url\(([^)]*)", full())) <= {f"#{one['id']}" for _, one in elements if "id" in one}

    def test_it_is_small(self):
        """Also with as many samples as can be asked for, each as long as they are cut to."""
        page = to_html(full_report(), [sample_of("w" * 1900)] * 50)
        assert len(page.encode()) < MOST_BYTES


class TestAccessible:
    """What somebody meets who does not see it."""

    def test_it_has_a_title_and_a_language(self):
        """The title begins with what a reader wants to know."""
        assert parsed().all("html") == [{"lang": "en"}]
        assert full().partition("<title>")[2].startswith("340 of 400 rows succeeded")

    def test_headings_are_in_order(self):
        """One of the first level, and no level is left out on the way down."""
        levels = [int(tag[1]) for tag, _ in parsed().elements if HEADINGS.fullmatch(tag)]
        assert levels.count(1) == 1
        assert all(after - before <= 1 for before, after in zip([0, *levels], levels, strict=False))

    def test_ids_are_unique_and_what_is_named_is_there(self):
        """Over all plots of a page."""
        ids = [attributes["id"] for _, attributes in parsed().elements if "id" in attributes]
        assert len(ids) == len(set(ids)) > 0
        labels = [attributes.get("aria-labelledby") or "" for _, attributes in parsed().elements]
        assert {name for label in labels for name in label.split()} <= set(ids)

    def test_every_drawing_is_hidden_or_named(self):
        """A plot has a title and a description; a bar repeats a number beside it."""
        drawings = parsed().all("svg")
        assert [one for one in drawings if one.get("aria-hidden") != "true" and one.get("role") != "img"] == []
        assert len([one for one in drawings if one.get("role") == "img"]) == len(charts(full_report())) == 6
        assert len(parsed().all("desc")) == 6

    def test_tables_have_captions_and_heads_a_scope(self):
        """Each table says what it is, each head what it is the head of."""
        assert len(parsed().all("caption")) == len(parsed().all("table")) > 9
        assert {head.get("scope") for head in parsed().all("th")} == {"col", "row", "rowgroup"}

    @pytest.mark.parametrize("theme", ["light", "dark", "print"])
    def test_contrasts_are_enough(self, theme):
        """WCAG AA: 4.5 to 1 for text, 3 to 1 for lines and bars, in each theme."""
        colors = palettes()[theme]
        texts = ("ink", "muted", "good", "mixed", "bad")
        lines = ("series-1", "series-2", "series-3", "bad")
        low = [(name, ground) for name in texts for ground in ("paper", "card") if contrast(colors, name, ground) < 4.5]
        low += [(name, "card") for name in lines if contrast(colors, name, "card") < 3]
        low += [(name, "grid") for name in ("series-1", "bad") if contrast(colors, name, "grid") < 3]
        assert low == []

    def test_every_theme_has_every_color(self):
        """What one theme names the others do too, and what is used is named."""
        light, dark, paper = palettes().values()
        assert light.keys() == dark.keys() == paper.keys()
        assert set(re.findall(r"var\(--([\w-]+)\)", full())) <= light.keys()


def palettes() -> dict[str, dict[str, str]]:
    """The colours of each theme by name."""
    css = full().partition("<style>")[2].partition("</style>")[0]
    roots = [
        dict(re.findall(r"--([\w-]+): (#\w{6});", root)) for root in re.findall(r":root \{(.*?)\}", css, re.DOTALL)
    ]
    return dict(zip(("light", "dark", "print"), roots, strict=True))


def contrast(colors: dict[str, str], one: str, other: str) -> float:
    """The contrast of two colours, 1 to 21, as WCAG 2 defines it."""
    darker, lighter = sorted(luminance(colors[name]) for name in (one, other))
    return (lighter + 0.05) / (darker + 0.05)


def luminance(color: str) -> float:
    """The relative luminance of `#rrggbb`."""
    parts = [int(color[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [part / 12.92 if part <= 0.04045 else ((part + 0.055) / 1.055) ** 2.4 for part in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


class TestHostile:
    """What came from outside is text."""

    def test_there_are_enough(self):
        """Each of them once."""
        assert len(set(HOSTILE)) == len(HOSTILE) > 150

    @pytest.mark.parametrize("kind", KINDS)
    def test_they_are_shown_as_text_wherever_they_stand(self, kind):
        """They make no element and no attribute, pass nothing unseen, and can be read."""
        for text in KINDS[kind]:
            page = Parsed(to_html(report_with(text), [sample_of(text)]))
            assert page.elements == harmless().elements, text
            assert [c for c in page.text if c != "\n" and not c.isprintable()] == [], text
            kept, mended = visible(text[:150]).strip(), visible(text[:150].encode("utf-8", "replace").decode()).strip()
            assert said(page).count(kept) + said(page).count(mended) >= 10, text

    @settings(max_examples=20, deadline=None)
    @given(st.text(max_size=60))
    def test_so_is_whatever_else_may_come(self, text):
        """The elements of a page do not depend on it."""
        page = Parsed(to_html(report_with(f"x{text}"), [sample_of(f"x{text}")]))
        assert page.elements == harmless().elements

    def test_long_texts_are_cut(self):
        """A cause of a megabyte does not make a page of one."""
        page = to_html(report_with("long " * 200_000))
        assert len(page.encode()) < 60_000


class TestSamples:
    """A look at what was bought."""

    def rows(self, **values):
        return to_batch([streamed(index, **{"content": f"answer {index}", **values}) for index in range(10)], RESULTS)

    def test_they_are_spread_over_the_results(self):
        """Two of ten, whatever the batches: the middle of each half."""
        batches = [self.rows().slice(0, 7), self.rows().slice(7)]
        assert [one.custom_id for one in samples_of(batches, 10, 2)] == ["row-2", "row-7"]

    def test_no_more_than_there_are(self):
        """Ten of ten, in their order."""
        taken = samples_of([self.rows()], 10, 99)
        assert [one.answered for one in taken] == [[("answer", f"answer {index}")] for index in range(10)]

    def test_a_conversation_is_its_prompt(self):
        """All that was said before the answer."""
        messages = '[{"role":"user","content":"a"},{"role":"assistant","content":"b"},{"role":"user","content":["c"]}]'
        taken = samples_of([self.rows(messages=messages[:-1] + ',{"role":"assistant","content":"d"}]')], 10, 1)
        assert taken[0].asked == [("user", "a"), ("assistant", "b"), ("user", '["c"]')]

    def test_kept_columns_are_shown(self):
        """They are what the folder has of a prompt that was asked once."""
        taken = samples_of([self.rows(input='{"label":"spam","n":2}')], 10, 1)
        assert taken[0].asked == [("label", "spam"), ("n", "2")]

    def test_where_nothing_is_there_it_is_said(self):
        """With what would have kept it; and an answer without text is said to be."""
        page = to_html(report_of([streamed(0)]), samples_of([self.rows(content=None)], 10, 1))
        assert "The folder does not hold this prompt" in page
        assert "The answer has no text." in page

    def test_long_ones_are_cut(self):
        """And say how long they are."""
        taken = samples_of([self.rows(content="x" * 5000)], 10, 1)
        assert taken[0].answered == [("answer", f"{'x' * TEXT_CHARS} ... (5,000 characters)")]

    def test_lines_are_kept(self):
        """An answer of several lines is shown in several lines, and code with its indents."""
        page = to_html(report_of([streamed(0)]), samples_of([self.rows(content="one\n\n  <two>  2\x07")], 10, 1))
        assert "<pre>\none\n\n  &lt;two&gt; 2\\x07</pre>" in page

    @pytest.mark.parametrize("damaged", ["{", "[[[", '"text"', "[" * 100_000, '[1, {"role": 2}]'])
    def test_what_is_no_conversation_is_left_out(self, damaged):
        """A column that somebody else wrote stops no report."""
        assert len(samples_of([self.rows(messages=damaged, input=damaged)], 10, 10)) == 10


class TestCharts:
    """What is drawn is what was measured."""

    def test_few_rows_have_no_chart(self):
        """The table of the slowest rows has them all."""
        assert charts(report_of([streamed(index) for index in range(LEAST_ROWS - 1)])) == []
        assert charts(report_of([streamed(index) for index in range(LEAST_ROWS)])) != []

    def test_the_latency_curve_is_the_quantiles(self):
        """One point for each percentile."""
        report = full_report()
        line = charts(report)[0].lines[0]
        assert (line.label, line.x) == ("latency", report.latency.latency_s.quantiles_s)
        assert line.y == list(range(101))

    def test_the_cost_ends_at_its_total(self):
        """The last point of the curve is the sum of the rows."""
        report = full_report()
        spend = next(chart for chart in charts(report) if chart.name == "spend")
        assert spend.lines[0].y[-1] == pytest.approx(report.cost.cost_usd)

    def test_rows_per_second_add_up_to_the_rows(self):
        """Successes and failures apart."""
        report = full_report()
        chart = next(chart for chart in charts(report) if chart.name == "throughput")
        sums = {line.label: sum(line.y[:-1]) * line.x[1] for line in chart.lines}
        assert sums == {"succeeded": pytest.approx(340), "failed": pytest.approx(16)}

    def test_intervals_hold_enough_rows_to_mean_something(self):
        """A few rows are not spread over 120 intervals; many are."""
        few, many = full_report(), report_of([streamed(index) for index in range(1000)])
        intervals = [len(report.timeline.succeeded) for report in (few, many)]
        drawn = [len(charts(report)[1].lines[0].x) - 1 for report in (few, many)]
        assert drawn == [intervals[0] / 2, intervals[1]]

    def test_ceilings_are_drawn_where_the_sessions_were(self):
        """Each from its session's start to its end; one of them is named."""
        chart = next(chart for chart in charts(full_report()) if chart.name == "in-flight")
        first, second = (line for line in chart.lines if line.dashed)
        assert (first.label, second.label) == ("ceiling", "")
        assert (first.x, first.y) == ([0, 5, 12.5, 20, 33], [8, 16, 64, 32, 32])
        assert second.x[0] == 36
        assert second.x[-1] <= chart.x.high

    def test_ceilings_end_with_the_chart(self):
        """A session that went on after its last row is drawn up to that row."""
        session = Session(started_at=START, wall_s=900, ceilings=[(0, 8), (2, 16), (800, 9)])
        chart = charts(report_of([streamed(index) for index in range(30)], sessions=[session]))[2]
        assert chart.lines[1].x == [0, 2, chart.x.high]

    def test_what_did_not_happen_is_not_drawn(self):
        """No chart of refusals without one, none of a cost that is not known."""
        report = report_of([streamed(index, cost_usd=None) for index in range(30)])
        assert {"refused", "spend"} & {chart.name for chart in charts(report)} == set()

    @settings(max_examples=25, deadline=None)
    @given(st.lists(MICROSECONDS, min_size=LEAST_ROWS, max_size=LEAST_ROWS), st.integers(20_000, 10**11))
    def test_axes_hold_their_lines_and_have_ticks(self, latencies_us, pause_us):
        """Whatever was measured: rising ticks within the axis, two to seven of them, and no line beyond its end."""
        times = [(index * pause_us, index * pause_us + latency) for index, latency in enumerate(latencies_us)]
        good = [
            streamed(index, latency_s=(ended - began) / 1e6, started_at=began, finished_at=ended)
            for index, (began, ended) in enumerate(times)
        ]
        for chart in charts(report_of(good)):
            for axis, values in (
                (chart.x, [x for line in chart.lines for x in line.x]),
                (chart.y, [y for line in chart.lines for y in line.y]),
            ):
                ticks = [at for at, _ in axis.ticks]
                assert ticks == sorted(set(ticks))
                assert axis.low <= ticks[0] <= ticks[-1] <= axis.high
                assert 2 <= len(ticks) <= MOST_TICKS
                assert axis.low <= min(values) <= max(values) <= axis.high * (1 + 1e-9)


@pytest.fixture(scope="module")
def drawn():
    """Every chart with its picture, as XML."""
    return [(chart, ET.fromstring(draw(chart))) for chart in charts(full_report())]


def chart_of(x, y, *, logarithmic=False, steps=False, filled=False):
    """A chart of one line, from the first to the last of its `x`, and from 0 to 100."""
    return Chart(
        name="x",
        title="",
        says="",
        x=Axis(label="", low=x[0], high=x[-1], ticks=[], logarithmic=logarithmic),
        y=Axis(label="", low=0, high=100, ticks=[]),
        lines=[Line(label="", x=x, y=y, filled=filled)],
        steps=steps,
    )


def lines_of(chart):
    """The paths of a chart without ticks."""
    return [one.get("d") for one in ET.fromstring(draw(chart)).iter("path")]


class TestPlots:
    """What is drawn, as the page takes it."""

    def test_labels_are_text(self, drawn):
        """Every tick of a chart can be read, found and copied."""
        for chart, picture in drawn:
            labels = [label for axis in (chart.x, chart.y) for _, label in axis.ticks]
            texts = [element.text for element in picture.iter("text")]
            assert sorted(texts) == sorted([*labels, *filter(None, (chart.x.label, chart.y.label))])

    def test_colors_are_the_themes(self, drawn):
        """All of them by name, so that a plot is light in the light and dark in the dark."""
        painted = {one.get(name) for _, picture in drawn for one in picture.iter() for name in ("fill", "stroke")}
        assert {color for color in painted if color and not color.startswith("var(--")} == {"none"}

    @pytest.mark.parametrize(
        ("logarithmic", "x", "path"),
        [(False, [0.0, 5.0, 10.0], "M56 176L201 93L346 10"), (True, [1.0, 10.0, 100.0], "M56 176L201 93L346 10")],
    )
    def test_a_value_stands_where_its_axis_says(self, logarithmic, x, path):
        """From edge to edge, and half way in between: of a logarithmic axis that is the geometric mean."""
        assert lines_of(chart_of(x, [0.0, 50.0, 100.0], logarithmic=logarithmic)) == [path]

    def test_in_steps_a_value_holds_until_the_next(self):
        """Across first, and then up."""
        assert lines_of(chart_of([0.0, 5.0, 10.0], [0.0, 50.0, 100.0], steps=True)) == ["M56 176H201V93H346V10"]

    def test_what_is_filled_is_filled_down_to_zero(self):
        """Below its line, which is drawn over it."""
        drawn = lines_of(chart_of([0.0, 10.0], [50.0, 100.0], filled=True))
        assert drawn == ["M56 93L346 10V176H56Z", "M56 93L346 10"]

    def test_a_hundredth_of_a_pixel_is_enough(self, drawn):
        """No coordinate has more than two decimals: a page is half as large."""
        values = [value for _, picture in drawn for one in picture.iter() for value in one.attrib.values()]
        assert [value for value in values if re.search(r"\.\d{3}", value)] == []


def test_the_templates_are_in_the_package():
    """What a page is made of lies beside the module that fills it in, where a build takes it along."""
    from batchrun.report import page

    assert {path.name for path in Path(page.__file__).parent.glob("*.[hc]*")} >= {
        "page.html",
        "parts.html",
        "report.html",
        "page.css",
    }

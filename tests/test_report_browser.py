"""The report in a real browser: nothing runs, nothing leaves, and it fits a phone, a screen, the dark and paper."""

from __future__ import annotations

import shutil
from typing import TYPE_CHECKING

import pytest
from hostile import HOSTILE
from pages import full_report, report_of, report_with, sample_of, streamed
from playwright.sync_api import sync_playwright

from batchrun.report.format import visible
from batchrun.report.html import to_html

if TYPE_CHECKING:
    from playwright.sync_api import Page, Route

ADDRESS = "http://report.invalid/"
NAMES = ("chromium", "chromium-browser", "google-chrome", "chrome")
WIDTHS = (390, 820, 1400)


OVERFLOWING = """() => [...document.querySelectorAll('body *')]
    .filter(one => one.getBoundingClientRect().right > innerWidth + 1)
    .map(one => `${one.tagName}: ${one.textContent.slice(0, 40)}`)"""


class Reader:
    """A browser's window: opens pages as a server would send them, and notes what they ask for and say."""

    def __init__(self, window: Page) -> None:
        self.window = window
        self.requests: list[str] = []
        self.messages: list[str] = []
        self._html = ""
        window.route("**/*", self._answer)
        window.on("console", lambda message: self.messages.append(message.text))
        window.on("pageerror", lambda error: self.messages.append(str(error)))
        window.on("dialog", lambda dialog: self.messages.append(dialog.message))

    def open(self, html: str, *, width: int = 1400, theme: str = "light", media: str = "screen") -> None:
        """Open a page; whatever else it asks for is kept from it."""
        self.requests.clear()
        self.messages.clear()
        self._html = html
        self.window.set_viewport_size({"width": width, "height": 900})
        self.window.emulate_media(media=media, color_scheme=theme)
        self.window.goto(ADDRESS)

    def _answer(self, route: Route) -> None:
        if route.request.url == ADDRESS:
            route.fulfill(body=self._html, content_type="text/html; charset=utf-8")
        else:
            self.requests.append(route.request.url)
            route.abort()

    @property
    def quiet(self) -> bool:
        """Whether the page kept to itself, and no script of it ran."""
        return not self.requests and not self.messages and self.window.evaluate("window.owned") is None

    @property
    def overflows(self) -> list[str]:
        """What is wider than the window."""
        scrolls = self.window.evaluate("document.documentElement.scrollWidth > innerWidth")
        return self.window.evaluate(OVERFLOWING) or (["the page"] if scrolls else [])

    def color(self, selector: str, name: str) -> str:
        """A colour as it is painted."""
        return self.window.evaluate(f"getComputedStyle(document.querySelector('{selector}')).{name}")


@pytest.fixture(scope="module")
def reader():
    """One browser, and one window of it, for all of these tests."""
    path = next(filter(None, map(shutil.which, NAMES)), None)
    if path is None:
        pytest.skip("no Chromium on this machine; Debian's is `apt-get install chromium`")
    with sync_playwright() as playwright:
        browser = playwright.chromium.launch(executable_path=path)
        yield Reader(browser.new_page())
        browser.close()


@pytest.fixture(scope="module")
def full():
    """The page of a report with everything in it."""
    return to_html(full_report(), [sample_of("What is asked, and answered")])


@pytest.mark.parametrize("theme", ["light", "dark"])
def test_it_fits_every_screen_and_keeps_to_itself(reader, full, theme):
    """No scrolling to the side on a phone, a tablet and a screen; no message, no request."""
    reader.open(full, theme=theme)
    for width in WIDTHS:
        reader.window.set_viewport_size({"width": width, "height": 900})
        assert reader.overflows == []
    assert reader.quiet


def test_the_dark_is_dark_and_plots_are_seen_in_it(reader, full):
    """Ground, labels and lines change with the reader's theme."""
    seen = {}
    for theme in ("light", "dark"):
        reader.open(full, theme=theme)
        line = reader.color("figure path[fill=none][stroke-width]", "stroke")
        seen[theme] = (reader.color("body", "backgroundColor"), reader.color("figure text", "fill"), line)
    assert seen["light"][0] == "rgb(244, 246, 249)"
    assert seen["dark"][0] == "rgb(16, 20, 27)"
    assert all(light != dark for light, dark in zip(*seen.values(), strict=True))


def test_paper_is_white(reader, full):
    """Whatever the reader's theme; nothing is cut off at the side."""
    reader.open(full, width=690, theme="dark", media="print")
    assert reader.color("body", "backgroundColor") == "rgb(255, 255, 255)"
    assert reader.color("body", "color") == "rgb(0, 0, 0)"
    assert reader.overflows == []


def test_plots_have_names(reader, full):
    """As a screen reader is told them."""
    reader.open(full)
    assert reader.window.get_by_role("img", name="How long the rows took").count() == 1
    assert reader.window.get_by_role("img").count() == 6
    assert reader.window.get_by_role("table").count() > 9


def test_what_is_smuggled_in_does_not_run(reader, full):
    """Were there a hole all the same, the policy stands behind it: no handler, no script, no image, no style."""
    smuggled = (
        "<img src='http://evil.invalid/x.gif' onerror='window.owned=1'>"
        "<style>body{color:#010203 !important}</style><p style='color:#010203' id=styled>x</p>"
        "<script>window.owned=1</script><iframe srcdoc='<script>parent.owned=1</script>'></iframe>"
    )
    reader.open(full.replace("<main>", f"<main>{smuggled}"))
    assert reader.window.evaluate("window.owned") is None
    assert reader.requests == []
    assert reader.color("body", "color") == reader.color("#styled", "color") == "rgb(27, 34, 48)"
    assert reader.messages != []  # the browser tells what it refused


def test_hostile_texts_are_shown_and_do_nothing(reader):
    """More than 150 of them, each as an id, a role, a prompt, an answer and a reason to finish."""
    reader.open(to_html(report_of([streamed(0)]), [sample_of(text) for text in HOSTILE]), width=390)
    assert reader.quiet
    assert reader.overflows == []
    shown = " ".join(reader.window.evaluate("document.body.textContent").split())
    assert [text for text in HOSTILE if visible(text) not in shown] == []


@pytest.mark.parametrize("text", HOSTILE[::12])
def test_hostile_texts_do_nothing_anywhere(reader, text):
    """In every place that takes text from outside, also on a phone."""
    reader.open(to_html(report_with(text), [sample_of(text)]), width=390)
    assert reader.quiet
    assert reader.overflows == []


@pytest.mark.rig
@pytest.mark.parametrize("text", HOSTILE)
def test_none_of_the_hostile_texts_does_anything(reader, text):
    """Each of them, everywhere."""
    test_hostile_texts_do_nothing_anywhere(reader, text)

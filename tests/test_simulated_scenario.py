from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from batchrun.errors import ConfigError
from batchrun.simulated.faults import Faults
from batchrun.simulated.limits import Turnstile, Window
from batchrun.simulated.refusals import Refusal
from batchrun.simulated.scenario import Fault, Limits, Scenario, load_scenario

EXAMPLE = Path(__file__).parent.parent / "configs" / "simulated-scenario.yaml"


def written(tmp_path, text):
    """The path of a scenario file with this text."""
    path = tmp_path / "scenario.yaml"
    path.write_text(text)
    return str(path)


def struck(fault, bodies, seed=0):
    """The positions of the bodies that a single fault strikes."""
    faults = Faults(Scenario(seed=seed, faults=[fault]))
    return [at for at, body in enumerate(bodies) if faults.draw(at + 1, body)]


def test_the_example_names_every_key_with_its_default():
    """The example scenario loads, and what it says of latency and answers are the defaults."""
    example = load_scenario(str(EXAMPLE))
    assert (example.latency, example.answers) == (Scenario().latency, Scenario().answers)
    text = EXAMPLE.read_text()
    for section in (
        Scenario,
        *(type(getattr(example, name)) for name in ("latency", "answers", "limits", "stream")),
        Fault,
    ):
        assert [name for name in section.__struct_fields__ if name not in text] == []


def test_no_file_is_the_default_and_an_empty_file_too(tmp_path):
    """Every key may be left out."""
    assert load_scenario(None) == load_scenario(written(tmp_path, "")) == Scenario()


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        ("latency: {tftf_s: 1}", "unknown field tftf_s at latency", "did you mean `ttft_s`?"),
        ("latency: {ttft_s: fast}", "expected float, got str at latency.ttft_s", "correct that key"),
        ("faults: [{kind: flood}]", "invalid enum value 'flood' at faults[0].kind", "correct that key"),
        ("faults: [{kind: slow, match: '('}]", "faults: match '('", "regular expression"),
        ("faults: [{kind: slow, probability: 2}]", "expected float <= 1.0", "correct that key"),
        ("seed: 1\nseed: 2", "stands twice", "correct that line"),
        ("- 1", "holds a list, not keys", "write e.g."),
    ],
)
def test_a_wrong_scenario_is_refused(tmp_path, text, message, remedy):
    """A wrong key or value is a ConfigError that names it and says what to do."""
    with pytest.raises(ConfigError) as caught:
        load_scenario(written(tmp_path, text))
    assert message in caught.value.message
    assert remedy in caught.value.remedy


def test_a_missing_file_is_refused(tmp_path):
    """A file that is not there is a ConfigError that names it."""
    with pytest.raises(ConfigError, match=r"none\.yaml: cannot be read: No such file"):
        load_scenario(str(tmp_path / "none.yaml"))


def test_a_fault_without_conditions_strikes_always():
    """The probability is 1 by default."""
    assert struck(Fault(kind="reset"), [b"a"] * 3) == [0, 1, 2]


def test_first_counts_the_requests_that_match():
    """`first: 2` with a pattern spares others, and the third that matches."""
    assert struck(Fault(kind="reset", match="b+", first=2), [b"a", b"bb", b"b", b"b"]) == [1, 2]


def test_every_strikes_each_nth():
    """`every: 3` strikes the third, the sixth."""
    assert struck(Fault(kind="reset", every=3), [b"a"] * 7) == [2, 5]


def test_tries_counts_each_body_apart():
    """`tries: 1` strikes each body once."""
    assert struck(Fault(kind="reset", tries=1), [b"a", b"b", b"a", b"b", b"c"]) == [0, 1, 4]


def test_probability_is_kept_and_repeatable():
    """A tenth of many requests is struck, the same ones again with the same seed, others with another."""
    fault = Fault(kind="reset", probability=0.1)
    first, again, other = (struck(fault, [b"a"] * 5000, seed) for seed in (1, 1, 2))
    assert 400 < len(first) < 600
    assert first == again != other


def test_the_first_fault_in_the_list_is_the_one():
    """Where two strike, the order of the list decides."""
    faults = Faults(Scenario(faults=[Fault(kind="slow", match="x"), Fault(kind="reset")]))
    assert [faults.draw(n, body).kind for n, body in enumerate([b"x", b"y"])] == ["slow", "reset"]


def test_a_window_slides():
    """What was used comes back `window_s` after it was used, not at the turn of a minute."""
    window = Window(60, 60)
    window.use(40, 0.0)
    window.use(20, 30.0)
    assert [window.left(now) for now in (30.0, 59.9, 60.0, 90.0)] == [0, 0, 40, 60]


def test_a_shorter_window_has_a_smaller_budget():
    """A limit of 60 a minute is one in a window of a second."""
    assert Window(60, 1).left(0.0) == 1


def refused(turnstile, now, in_flight=1):
    """The status with which a request is refused, or None when it is let in."""
    try:
        turnstile.admit(1, in_flight=in_flight, now=now)
    except Refusal as refusal:
        return refusal.status
    return None


def test_requests_beyond_the_limit_are_refused_until_the_window_has_slid():
    """Two a minute: the third is refused, and let in when the first is a minute old."""
    turnstile = Turnstile(Limits(requests_per_minute=2))
    assert [refused(turnstile, now) for now in (0.0, 1.0, 2.0, 59.9, 60.0, 60.5)] == [None, None, 429, 429, None, 429]


@pytest.mark.parametrize("budget", ["prompt_tokens_per_minute", "generated_tokens_per_minute"])
def test_tokens_are_counted_when_they_are_there(budget):
    """A budget of tokens refuses when it is used up, also if the last answer went past it."""
    turnstile = Turnstile(msgspec.convert({budget: 10}, Limits))
    assert refused(turnstile, 0.0) is None
    turnstile.settle(prompt_tokens=25, completion_tokens=25, now=0.0)
    assert [refused(turnstile, now) for now in (1.0, 60.0)] == [429, None]


def test_concurrency_is_a_ceiling():
    """Two at once are served, the third is not."""
    turnstile = Turnstile(Limits(concurrency=2))
    assert [refused(turnstile, 0.0, in_flight) for in_flight in (1, 2, 3)] == [None, None, 429]


def test_the_budgets_are_stated_in_headers():
    """Limit and rest are tokens a minute, as Fireworks names them."""
    turnstile = Turnstile(Limits(generated_tokens_per_minute=100))
    turnstile.settle(prompt_tokens=5, completion_tokens=30, now=0.0)
    stated = turnstile.headers(0.0)
    assert stated["x-ratelimit-limit-tokens-generated"] == "100"
    assert stated["x-ratelimit-remaining-tokens-generated"] == "70"
    assert stated["x-ratelimit-over-limit"] == "no"

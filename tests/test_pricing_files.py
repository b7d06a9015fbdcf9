"""What cannot be a price, or a price file: each is refused with its file, its line, and what to write instead."""

from __future__ import annotations

import pytest

from batchrun.errors import ConfigError
from batchrun.pricing import full_model_id, load_prices

FLASH = full_model_id("glm-5p3-flash")
HEAD = "models:\n- model: m\n  output_usd_per_mtok: 1\n  "
ROW = HEAD + "input_usd_per_mtok: {}"
HOURLY = "models: []\ndeployments:\n- model: '*#accounts/me/*'\n  usd_per_gpu_hour: {}\n  gpus: {}"


@pytest.fixture
def refusal(tmp_path):
    """What is said of a price file with this text, without its path, and the remedy."""

    def refuse(text: str, name: str = "mine.yaml") -> tuple[str, str]:
        path = tmp_path / name
        path.write_text(text, encoding="utf-8")
        with pytest.raises(ConfigError) as refused:
            load_prices(str(path))
        return refused.value.message.replace(str(path), name), refused.value.remedy.replace(str(path), name)

    return refuse


@pytest.mark.parametrize(
    ("text", "says", "remedy"),
    [
        (ROW.format(-1), "mine.yaml:4: m: input_usd_per_mtok: -1 is below 0", "0 is a price"),
        (ROW.format("'0.15'"), "mine.yaml:4: m: input_usd_per_mtok: '0.15' is not a number", "without quotes"),
        (ROW.format("$0.15"), "mine.yaml:4: m: input_usd_per_mtok: '$0.15' is not a number", "a currency"),
        (ROW.format("0.15 EUR"), "mine.yaml:4: m: input_usd_per_mtok: '0.15 EUR' is not a number", "US dollars"),
        (ROW.format("true"), "mine.yaml:4: m: input_usd_per_mtok: True is not a number", "e.g. 0.15"),
        (ROW.format("[1]"), "mine.yaml:4: m: input_usd_per_mtok: [1] is not a number", "e.g. 0.15"),
        (ROW.format(".nan"), "mine.yaml:4: m: input_usd_per_mtok: nan is not a number", "if unknown"),
        (ROW.format(".inf"), "mine.yaml:4: m: input_usd_per_mtok: inf is not a number", "if unknown"),
        (ROW.format("9" * 400), "mine.yaml:4: m: input_usd_per_mtok: 99999999999999999999 is not", "if unknown"),
        (ROW.format("1000001"), "mine.yaml:4: m: input_usd_per_mtok: 1000001 is not a number", "if unknown"),
        (ROW.format("1.5e-7"), "mine.yaml:4: m: input_usd_per_mtok: 1.5e-07 is too small", "write 0.15"),
        (ROW.format("1\n  priority_output_usd_per_mtok: -2"), "mine.yaml:5: m: priority_output", "0 is a price"),
        (ROW.format("1\n  cached_input_usd_per_mtok: free"), "mine.yaml:5: m: cached_input", "e.g. 0.15"),
        (ROW.format("1\n  retired_on: soon"), "mine.yaml:5: m: retired_on: 'soon' is not a date", "2026-11-22"),
        (ROW.format("1\n  context_tokens: 0"), "mine.yaml:5: m: context_tokens: expected int >= 1", "million"),
        (ROW.format("1\n  currency: EUR"), "mine.yaml:5: m: prices in EUR are not read", "US dollars"),
        (ROW.format("1\n  input_cost_per_token: 1"), "mine.yaml:5: m: unknown key `input_cost", "per million tokens"),
        (ROW.format("1\n  origin: here"), "mine.yaml:5: m: unknown key `origin`", "known here"),
        (ROW.format("null"), "mine.yaml:4: m: input_usd_per_mtok: expected float, got null", "input and output"),
        (HEAD, "mine.yaml:2: m: has no input_usd_per_mtok", "input and output are needed"),
        (HEAD + "input_usd: 1", "mine.yaml:4: m: unknown key `input_usd`", "did you mean `input_usd_per_mtok`"),
        ("models:\n- {input_usd_per_mtok: 1}", "mine.yaml:2: names no model", "models: [{model: my-model"),
        ("models:\n- {model: 7, input_usd_per_mtok: 1}", "mine.yaml:2: names no model", "models: [{model: my-model"),
        ("models: [kimi]", "mine.yaml: row 1 of `models`: names no model", "models: [{model: my-model"),
        ("models: {kimi: 1}", "mine.yaml: has no list `models`", "models: [{model: my-model"),
        ("sizes: []\nmodels: kimi", "mine.yaml:2: `models` is not a list", "models: [{model: my-model"),
        ("- 1", "mine.yaml: has no list `models` (it holds a list, not keys)", "models: [{model: my-model"),
        ("", "mine.yaml: has no list `models`", "models: [{model: my-model"),
        ("modles: []\nmodels: []", "mine.yaml:1: unknown key `modles`", "did you mean `models`"),
        ("currency: EUR\nmodels: []", "mine.yaml:1: prices in EUR are not read", "convert them"),
        ("{m: {litellm_provider: x}}", "mine.yaml: has no list `models`", "batchrun prices --import mine.yaml"),
        ("models: [", "mine.yaml:1: not YAML", "correct that line"),
        ("models: []\nmodels: []", "mine.yaml:2: not YAML: the key 'models' stands twice", "correct that line"),
        ("models: []\nsizes: [{kind: huge, usd_per_mtok: 1}]", "mine.yaml:2: kind: invalid enum value", "kind: dense"),
        (
            "models: []\nsizes: [{kind: moe, usd_per_mtok: -1}]",
            "mine.yaml:2: usd_per_mtok: -1 is below",
            "0 is a price",
        ),
        (HOURLY.format(-8, 1), "mine.yaml:4: *#accounts/me/*: usd_per_gpu_hour: -8 is below 0", "hour of one GPU"),
        (HOURLY.format("'8'", 1), "mine.yaml:4: *#accounts/me/*: usd_per_gpu_hour: '8' is not a", "hour of one GPU"),
        (HOURLY.format(8, 0), "mine.yaml:5: *#accounts/me/*: gpus: expected int >= 1", "usd_per_gpu_hour: 8"),
    ],
)
def test_a_bad_price_file_is_refused_with_its_line(refusal, text, says, remedy):
    """A price that cannot be stops the run before it costs anything."""
    message, advice = refusal(text)
    assert message.startswith(says)
    assert remedy in advice


def test_a_price_by_the_hour_may_be_small(tmp_path):
    """A hundredth of a cent an hour is no price per token by mistake."""
    (tmp_path / "mine.yaml").write_text(HOURLY.format(0.00001, 1))
    assert load_prices(str(tmp_path / "mine.yaml")).deployments[0].usd_per_gpu_hour == 0.00001


@pytest.mark.parametrize("names", [("m", "m"), ("glm-5p3-flash", FLASH), (FLASH, "glm-5p3-flash")])
def test_a_model_listed_twice_is_refused_with_both_lines(refusal, names):
    """Two prices for one model, also under its two names, are no price."""
    rows = "".join(f"- {{model: {name}, input_usd_per_mtok: 1, output_usd_per_mtok: 1}}\n" for name in names)
    message, remedy = refusal(f"models:\n{rows}")
    assert message == f"mine.yaml:3: {max(names, key=len)} is listed twice; the other row is mine.yaml:2"
    assert remedy == "remove one of its rows"


def test_a_key_that_stands_twice_is_refused(refusal):
    """Two input prices in one row are no price either."""
    message, _ = refusal(HEAD + "input_usd_per_mtok: 1\n  input_usd_per_mtok: 2")
    assert message == "mine.yaml:5: not YAML: the key 'input_usd_per_mtok' stands twice"


def test_toml_is_read_too_but_has_no_lines(refusal):
    """What is wrong is named by file and model."""
    text = '[[models]]\nmodel = "m"\ninput_usd_per_mtok = -1\noutput_usd_per_mtok = 1\n'
    assert refusal(text, "mine.toml")[0] == "mine.toml: m: input_usd_per_mtok: -1 is below 0"


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    """Missing, or not text: the message names the file."""
    path = tmp_path / "prices.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"prices\.yaml: cannot be read"):
        load_prices(str(path))


def test_dollars_may_be_named(tmp_path):
    """`currency: USD` says what is so anyway, and a number may have an exponent without a point."""
    (tmp_path / "mine.yaml").write_text("currency: USD\n" + ROW.format("1e-2"))
    assert load_prices(str(tmp_path / "mine.yaml")).price_for("m").pico_usd_per_token[0] == 10_000

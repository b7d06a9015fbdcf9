"""What tokens cost: the shipped table, a user's table over it, and costs in whole nano-dollars."""

from __future__ import annotations

from fractions import Fraction
from importlib import resources

import msgspec
import pytest
import yaml
from hypothesis import given
from hypothesis import strategies as st

from batchrun._yaml import Loader
from batchrun.errors import ConfigError
from batchrun.pricing import Price, PriceBook, cost_nano_usd, full_model_id, load_prices
from batchrun.types import Usage

FLASH = "accounts/fireworks/models/glm-5p3-flash"
TOKENS = st.none() | st.integers(-5, 2**63 - 1)
USD_PER_MTOK = st.integers(0, 100_000_000).map(lambda micro: 0.0 if micro < 100 else micro / 1e6)


@pytest.fixture(scope="module")
def shipped():
    """The table that comes with the package."""
    return load_prices(None)


@pytest.fixture
def own(tmp_path):
    """Write a price file and give its path."""

    def write(text: str) -> str:
        path = tmp_path / "mine.yaml"
        path.write_text(text, encoding="utf-8")
        return str(path)

    return write


def price(input_usd: float, output_usd: float, cached_usd: float | None = None) -> Price:
    """A price of the model m."""
    return Price(
        model="m",
        input_usd_per_mtok=input_usd,
        output_usd_per_mtok=output_usd,
        cached_input_usd_per_mtok=cached_usd,
    )


def test_shipped_table_is_dated_and_sourced(shipped):
    """The shipped table says of which day it is and where it comes from."""
    assert (shipped.date, len(shipped.prices)) == ("2026-11-22", 47)
    assert "docs.fireworks.ai" in shipped.source


@pytest.mark.parametrize(
    ("model", "prices"),
    [
        ("accounts/fireworks/models/kimi-k3", (3.0, 0.3, 15.0)),
        ("accounts/fireworks/routers/glm-5p3-fast", (2.1, 0.39, 6.6)),
        ("accounts/fireworks/models/deepseek-v3p2", (0.56, 0.28, 1.68)),
        ("accounts/fireworks/models/qwen3-embedding-8b", (0.1, None, 0.0)),
        ("accounts/fireworks/models/qwen3-reranker-8b", (0.2, None, 0.0)),
        ("simulated/anything", (0.15, 0.03, 0.5)),
    ],
)
def test_shipped_prices(shipped, model, prices):
    """Rows of the shipped table, of each kind."""
    row = shipped.price_for(model)
    assert (row.input_usd_per_mtok, row.cached_input_usd_per_mtok, row.output_usd_per_mtok) == prices


def test_shipped_table_holds_no_key_twice():
    """The strict loader, which refuses a key that stands twice, reads the same table."""
    text = resources.files("batchrun").joinpath("prices.yaml").read_text(encoding="utf-8")
    models = [row["model"] for row in yaml.load(text, Loader=Loader)["models"]]
    assert models == list(load_prices(None).prices)


def test_priority_context_and_retirement_are_data(shipped):
    """What is not charged is kept for information."""
    row = shipped.price_for("accounts/fireworks/models/gpt-oss-120b")
    assert (row.priority_output_usd_per_mtok, row.context_tokens, row.retired_on) == (0.72, 131072, "2026-11-07")


@pytest.mark.parametrize("name", ["glm-5p3-flash", "models/glm-5p3-flash", FLASH])
def test_short_names_find_their_model(shipped, name):
    """A model is found without the prefix that Fireworks puts before it."""
    assert shipped.price_for(name).model == FLASH


def test_a_fast_short_name_is_a_router():
    """Fireworks' own rule: names in -fast are routers."""
    assert full_model_id("glm-5p3-fast") == "accounts/fireworks/routers/glm-5p3-fast"


@pytest.mark.parametrize(
    "name", [FLASH, "accounts/me/deployments/a-fast", "glm-5p3#accounts/me/deployments/1", "lora#1"]
)
def test_a_full_id_is_taken_as_it_is(name):
    """What names an account or a deployment is no short name."""
    assert full_model_id(name) == name


@pytest.mark.parametrize(
    "name", ["gpt-9", "", "accounts/me/models/glm-5p3-flash", FLASH + "#accounts/me/deployments/1"]
)
def test_an_unknown_model_has_no_price(shipped, name):
    """What is not in the table is never guessed, a model on a deployment of one's own least of all."""
    assert shipped.price_for(name) is None


def test_a_plain_name_goes_before_a_pattern(own):
    """The pattern is for the models that have no row."""
    row = "- {{model: {}, input_usd_per_mtok: {}, output_usd_per_mtok: 0}}\n"
    book = load_prices(own("models:\n" + row.format("'local/*'", 1) + row.format("local/b", 2)))
    assert [book.price_for(f"local/{name}").input_usd_per_mtok for name in "ab"] == [1, 2]


def test_own_rows_replace_shipped_ones(own, shipped):
    """A user's row, by short name too, replaces the shipped row of that model and leaves the others."""
    path = own("models: [{model: glm-5p3-flash, input_usd_per_mtok: 9, output_usd_per_mtok: 10}]")
    book = load_prices(path)
    assert (book.price_for(FLASH).input_usd_per_mtok, len(book.prices)) == (9, len(shipped.prices) + 1)
    assert f"1 price of {path} over it" in book.source


def test_a_bare_name_is_fireworks_model_only_on_fireworks(own):
    """Elsewhere only a row of that very name prices it, a user's own."""
    assert load_prices().price_for("glm-5p3-flash", short_names=False) is None
    path = own("models: [{model: glm-5p3-flash, input_usd_per_mtok: 9, output_usd_per_mtok: 10}]")
    assert load_prices(path).price_for("glm-5p3-flash", short_names=False).input_usd_per_mtok == 9


def test_own_file_may_carry_a_date_as_yaml_means_it(own):
    """A date without quotes is a date to YAML, and text to us."""
    book = load_prices(
        own(
            "date: 2026-12-01\nsource: my contract\n"
            "models: [{model: m, input_usd_per_mtok: 1, output_usd_per_mtok: 1, retired_on: 2027-01-01}]"
        )
    )
    assert book.source.endswith("1 price of my contract (2026-12-01) over it")
    assert book.prices["m"].retired_on == "2027-01-01"


def test_prices_survive_run_json(shipped):
    """A price table that went through JSON is the same table."""
    assert msgspec.json.decode(msgspec.json.encode(shipped), type=PriceBook) == shipped


ROW = "models: [{{model: m, input_usd_per_mtok: {}, output_usd_per_mtok: 1}}]"


@pytest.mark.parametrize(
    ("text", "says"),
    [
        (ROW.format(-1), "m: input_usd_per_mtok: expected float >= 0.0"),
        (ROW.format("'0.15'"), "m: input_usd_per_mtok: expected float, got str"),
        (ROW.format(".nan"), "m: input_usd_per_mtok: expected float >= 0.0"),
        (ROW.format(".inf"), "m: input_usd_per_mtok: inf cannot be"),
        (ROW.format("1.5e-7"), "m: input_usd_per_mtok: 1.5e-07 cannot be"),
        (ROW.format("true"), "m: input_usd_per_mtok: expected float, got bool"),
        ("models: [{model: m, output_usd_per_mtok: 1}]", "m: object missing required field input_usd_per_mtok"),
        ("models: [{model: m, input_usd: 1}]", "m: unknown key `input_usd`"),
        ("models: [{input_usd_per_mtok: 1}]", "row 1 of `models` names no model"),
        ("models: [kimi]", "row 1 of `models` names no model"),
        ("models: {kimi: 1}", "has no list `models`"),
        ("- 1", "holds a list, not keys"),
        ("", "has no list `models`"),
        ("modles: []\nmodels: []", "unknown key `modles`"),
        ("models: [", ":1: not YAML"),
    ],
)
def test_a_bad_price_file_is_refused_with_file_and_model(own, text, says):
    """A price that cannot be stops the run before it costs anything."""
    path = own(text)
    with pytest.raises(ConfigError) as refused:
        load_prices(path)
    assert path in refused.value.message
    assert says.replace("`", "") in refused.value.message.replace("`", "")
    assert refused.value.remedy


@pytest.mark.parametrize("names", [("m", "m"), ("glm-5p3-flash", FLASH)])
def test_a_model_listed_twice_is_refused(own, names):
    """Two prices for one model, also under its two names, are no price."""
    rows = [f"{{model: {name}, input_usd_per_mtok: 1, output_usd_per_mtok: 1}}" for name in names]
    with pytest.raises(ConfigError, match=f"{names[1]} is listed twice"):
        load_prices(own(f"models: [{', '.join(rows)}]"))


def test_a_key_that_stands_twice_is_refused(own):
    """Two input prices in one row are no price either."""
    with pytest.raises(ConfigError, match="stands twice"):
        load_prices(own("models: [{model: m, input_usd_per_mtok: 1, input_usd_per_mtok: 2, output_usd_per_mtok: 1}]"))


@pytest.mark.parametrize("content", [None, b"\xff\xfe\x00"])
def test_a_file_that_cannot_be_read_is_refused(tmp_path, content):
    """Missing, or not text: the message names the file."""
    path = tmp_path / "prices.yaml"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(ConfigError, match=r"prices\.yaml: cannot be read"):
        load_prices(str(path))


def test_cost_of_a_known_usage():
    """900 fresh and 100 cached prompt tokens and 300 completion tokens at 0.15 / 0.03 / 0.50 are $0.000288."""
    usage = Usage(prompt_tokens=1000, cached_tokens=100, completion_tokens=300)
    assert cost_nano_usd(usage, price(0.15, 0.5, 0.03)) == 288_000


def test_cached_tokens_cost_half_where_no_price_is_given():
    """Fireworks' rule for models whose cached price is not listed."""
    usage = Usage(prompt_tokens=1000, cached_tokens=1000, completion_tokens=0)
    assert cost_nano_usd(usage, price(0.6, 1)) == 300_000


def test_a_half_nano_dollar_is_rounded_up():
    """One token at $0.0005 per million is half a nano-dollar."""
    assert cost_nano_usd(Usage(prompt_tokens=1), price(0.0005, 0)) == 1


@pytest.mark.parametrize("usage", [Usage(), Usage(cached_tokens=5, total_tokens=10)])
def test_unknown_usage_has_no_cost(usage):
    """Unknown is not zero."""
    assert cost_nano_usd(usage, price(1, 1)) is None


def test_unknown_price_has_no_cost():
    """A model without a price is unpriced, not free."""
    assert cost_nano_usd(Usage(prompt_tokens=1, completion_tokens=1), None) is None


@given(st.tuples(TOKENS, TOKENS, TOKENS), st.tuples(USD_PER_MTOK, USD_PER_MTOK, USD_PER_MTOK))
def test_cost_is_the_formula_in_exact_arithmetic(tokens, usd):
    """For any usage, the cost is the exact one rounded half up, and never negative."""
    prompt, cached, completion = tokens
    usage = Usage(prompt_tokens=prompt, cached_tokens=cached, completion_tokens=completion)
    cost = cost_nano_usd(usage, price(usd[0], usd[2], usd[1]))
    if prompt is None and completion is None:
        assert cost is None
        return
    tokens_in, tokens_out = max(prompt or 0, 0), max(completion or 0, 0)
    tokens_cached = min(max(cached or 0, 0), tokens_in)
    rates = [Fraction(round(one * 1e6), 1000) for one in usd]
    exact = (tokens_in - tokens_cached) * rates[0] + tokens_cached * rates[1] + tokens_out * rates[2]
    assert cost == (exact + Fraction(1, 2)).__floor__() >= 0

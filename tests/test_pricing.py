"""Which price a model has: the shipped table, a user's file over it, patterns, guesses, deployments."""

from __future__ import annotations

from importlib import resources

import msgspec
import pytest
import yaml

from batchrun._yaml import Loader
from batchrun.pricing import PriceBook, full_model_id, load_prices

FLASH = "accounts/fireworks/models/glm-5p3-flash"


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


def test_every_shipped_row_says_of_when_and_whence_it_is(shipped):
    """A row has a date, a source, and the line that it stands on."""
    rows = [*shipped.prices.values(), *shipped.sizes]
    assert [row for row in rows if not (row.date and row.source and row.origin.rpartition(":")[2].isdigit())] == []


def test_us_and_fast_routers_are_dearer_than_their_model(shipped):
    """US-only is 1.5 times the base price, to the pico-dollar; fast ones cost 1.5 to 2.2 times as much."""
    for name, row in shipped.prices.items():
        slug, _, kind = name.rpartition("/")[2].rpartition("-")
        if "/routers/" in name:
            base = shipped.prices[f"accounts/fireworks/models/{slug}"]
            times = [mine / its for mine, its in zip(row.pico_usd_per_token, base.pico_usd_per_token, strict=True)]
            assert kind in {"us", "fast"}
            assert times == ([1.5] * 3 if kind == "us" else times)
            assert all(1.5 <= one <= 2.2 for one in times)


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


@pytest.mark.parametrize(
    ("model", "usd"),
    [
        ("accounts/fireworks/models/some-3b", 0.10),
        ("accounts/fireworks/models/some-4b-instruct", 0.20),
        ("accounts/fireworks/models/some-v3p1-16b", 0.20),
        ("some-70b", 0.90),
        ("accounts/fireworks/models/mixtral-8x7b-instruct", 0.50),
        ("accounts/fireworks/models/mixtral-8x22b", 1.20),
        ("accounts/fireworks/models/qwen9-30b-a3b", 0.50),
        ("accounts/fireworks/models/some-embed-137m", 0.008),
        ("accounts/fireworks/models/some-embedding-335m", 0.016),
    ],
)
def test_a_guess_is_made_where_it_is_asked_for(shipped, model, usd):
    """By the size in the id, as Fireworks' price page has it, and marked."""
    guess = shipped.price_for(model, guesses=True)
    assert (guess.input_usd_per_mtok, guess.guess) == (usd, True)
    assert guess.output_usd_per_mtok == (0 if "embed" in model else usd)
    assert shipped.price_for(model) is None


@pytest.mark.parametrize(
    "model",
    [
        "accounts/fireworks/models/qwen9-600b-a40b",
        "accounts/fireworks/models/some-embedding-8b",
        "accounts/fireworks/models/some-reranker-8b",
        "accounts/fireworks/models/glm-9",
        "accounts/fireworks/models/0b",
        "accounts/fireworks/routers/some-70b-fast",
        "accounts/me/models/some-70b",
        "accounts/fireworks/models/some-70b#accounts/me/deployments/1",
        "meta-llama/some-70b",
        "",
    ],
)
def test_no_guess_is_made_where_the_page_has_no_rate(shipped, model):
    """Beyond the last bound, of other kinds, of other accounts, on a deployment."""
    assert shipped.price_for(model, guesses=True) is None


def test_a_guess_is_not_made_for_another_host(shipped):
    """A bare name is a model of Fireworks on Fireworks only."""
    assert shipped.price_for("some-70b", short_names=False, guesses=True) is None


@pytest.mark.parametrize(
    ("model", "why", "row"),
    [
        (FLASH, "name", FLASH),
        ("glm-5p3-flash", "short name", FLASH),
        ("simulated/small", "pattern", "simulated/*"),
        ("some-70b", "size", "accounts/fireworks/models/some-70b"),
    ],
)
def test_the_reason_of_a_price_is_told(shipped, model, why, row):
    """By name, by short name, by pattern, by size."""
    found = shipped.find(model)
    assert (found[0], found[1].model) == (why, row)


def test_an_own_row_under_a_short_name_is_told_by_name(own):
    """It is the very name that was asked for."""
    book = load_prices(own("models: [{model: glm-5p3-flash, input_usd_per_mtok: 9, output_usd_per_mtok: 10}]"))
    assert book.find("glm-5p3-flash")[0] == "name"
    assert book.find(FLASH)[0] == "name"


def test_a_row_has_the_date_and_source_of_its_file_unless_it_has_its_own(own):
    """And says on which line it stands."""
    row = "- {{model: {}, input_usd_per_mtok: 1, output_usd_per_mtok: 1{}}}\n"
    text = "date: 2026-12-01\nsource: contract\nmodels:\n" + row.format("a", "") + row.format("b", ", source: letter")
    path = own(text)
    rows = load_prices(path).prices
    assert (rows["a"].date, rows["a"].source, rows["a"].origin) == ("2026-12-01", "contract", f"{path}:4")
    assert (rows["b"].date, rows["b"].source, rows["b"].origin) == ("2026-12-01", "letter", f"{path}:5")


US_ONLY = "https://us.api.fireworks.ai/inference/v1"


def test_the_us_host_costs_what_the_us_routers_do(shipped):
    """Of every model that has such a router: in all three prices, and in both tiers."""
    there = load_prices(base_url=US_ONLY)
    routers = [name for name in shipped.prices if name.endswith("-us")]
    assert len(routers) >= 4
    for router in routers:
        model = router.replace("/routers/", "/models/").removesuffix("-us")
        for tier in ("standard", "priority"):
            assert there.price_for(model).pico_at(tier) == shipped.price_for(router).pico_at(tier)
        assert there.price_for(router) == shipped.price_for(router)


def test_the_us_host_says_why_it_is_dearer_and_knows_no_price_of_fast_routers():
    """A note on each row; a guess is dearer too."""
    there, elsewhere = load_prices(base_url=US_ONLY), load_prices()
    assert there.price_for(FLASH).note == "1.5 times the base price, as the host serves from the US alone"
    assert there.price_for("glm-5p3-fast") is None
    guesses = [book.price_for("some-70b", guesses=True).input_usd_per_mtok for book in (there, elsewhere)]
    assert guesses == [pytest.approx(1.35), 0.9]


def test_own_prices_hold_on_the_us_host_as_they_are(own):
    """Who writes a price knows what is paid."""
    row = "{model: glm-5p3-flash, input_usd_per_mtok: 1, output_usd_per_mtok: 2}"
    there = load_prices(own(f"models: [{row}]"), base_url=US_ONLY)
    assert there.price_for(FLASH).input_usd_per_mtok == 1


@pytest.mark.parametrize("url", ["", "simulated", "https://api.fireworks.ai/inference/v1", "https://us.example.com/v1"])
def test_no_other_host_is_dearer(shipped, url):
    """Only that one."""
    assert load_prices(base_url=url).prices == shipped.prices


def test_models_on_one_deployment_cost_once(own):
    """And those that have a price of their own, or are on none that is known, not at all."""
    book = load_prices(own(DEPLOYMENTS))
    models = ["a#accounts/me/deployments/d1", "b#accounts/me/deployments/d1", "accounts/me/deployments/d2", FLASH, "x"]
    found = book.deployments_of(models)
    assert {name: row.usd_per_hour for name, row in found.items()} == {
        "accounts/me/deployments/d1": 16,
        "accounts/me/deployments/d2": 16,
    }


DEPLOYMENTS = "deployments: [{model: '*accounts/me/deployments/*', usd_per_gpu_hour: 8, gpus: 2}]"


@pytest.mark.parametrize("model", ["accounts/me/deployments/d1", FLASH + "#accounts/me/deployments/d1"])
def test_a_deployment_is_paid_by_the_hour(own, model):
    """Its tokens have no price; a quarter of an hour on two GPUs at $8 is $4."""
    book = load_prices(own(DEPLOYMENTS))
    assert book.price_for(model, guesses=True) is None
    assert book.deployment_for(model).cost_nano_usd(900.0) == 4_000_000_000


def test_a_half_nano_dollar_of_an_hour_is_rounded_up(own):
    """At $9 an hour a millionth of a second is two and a half."""
    book = load_prices(own("deployments: [{model: m, usd_per_gpu_hour: 9}]"))
    assert book.deployment_for("m").cost_nano_usd(0.000001) == 3


@pytest.mark.parametrize("model", [FLASH, "accounts/you/deployments/d1", FLASH + "#accounts/you/deployments/d1"])
def test_what_is_on_no_known_deployment_has_no_price_by_the_hour(own, model):
    """Neither serverless models nor deployments of others."""
    assert load_prices(own(DEPLOYMENTS)).deployment_for(model) is None


def test_frozen_prices_keep_patterns_guesses_tiers_and_deployments(own):
    """A run keeps the rows of its models under their names: what it reads back says and charges the same."""
    book = load_prices(own(DEPLOYMENTS))
    models = ["simulated/small", "glm-5p3-flash", "some-70b"]
    kept = {model: book.price_for(model, guesses=True) for model in models}
    frozen = msgspec.json.encode(msgspec.to_builtins(msgspec.structs.replace(book, prices=kept)))
    again = msgspec.convert(msgspec.json.decode(frozen), PriceBook)
    assert {model: again.price_for(model) for model in models} == kept
    assert [again.price_for(model).guess for model in models] == [False, False, True]
    assert again.price_for("glm-5p3-flash").pico_at("priority") == (187_500, 37_500, 625_000)
    assert again.deployment_for("accounts/me/deployments/1") == book.deployments[0]


def test_prices_frozen_by_an_older_version_are_read():
    """A run folder of before has rows without dates, and no deployments."""
    row = {"model": "m", "input_usd_per_mtok": 0.15, "output_usd_per_mtok": 0.5}
    book = msgspec.convert({"date": "2026-11-22", "source": "s", "prices": {"m": row}}, PriceBook)
    assert book.price_for("m").pico_usd_per_token == (150_000, 75_000, 500_000)

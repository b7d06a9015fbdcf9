"""Price lists of others: what of them becomes a price, and what is left out rather than guessed."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.pricing.listed import Listed, prices_of_endpoint
from batchrun.pricing.litellm import prices_of_litellm

HERE = Path(__file__).parent
MODEL = "accounts/fireworks/models/new-1"
FAST = "accounts/fireworks/routers/new-1-fast"
SKUS = ("LLM input tokens (uncached)", "LLM input tokens (cached)", "LLM output tokens")


def entry(*amounts: object, unit: str = "1M tokens", **keys: object) -> dict:
    """One entry of the endpoint's list."""
    pricing = [{"sku": sku, "amount": amount, "unit": unit} for sku, amount in zip(SKUS, amounts, strict=False)]
    return {"id": MODEL, "object": "model", "serverless_mode": "standard", "pricing": pricing, **keys}


def read(*entries: object) -> Listed:
    """What is read of a list with these entries."""
    return prices_of_endpoint({"object": "list", "data": list(entries)}, source="list", today="2026-11-23")


def usd(listed: Listed) -> dict[str, tuple]:
    """Input, cached, output and the output of the priority tier, by model."""
    return {
        row.model: (
            row.input_usd_per_mtok,
            row.cached_input_usd_per_mtok,
            row.output_usd_per_mtok,
            row.priority_output_usd_per_mtok,
        )
        for row in listed.prices
    }


def test_modes_of_one_model_become_its_rows():
    """Standard and priority are one row; fast is the router that it is billed as."""
    listed = read(
        entry("0.14", "0.028", "0.28", context_length=1048576),
        entry("0.21", "0.042", "0.42", serverless_mode="priority", service_tier="priority"),
        entry("0.28", "0.056", "0.56", serverless_mode="fast", usage_identifier=FAST),
    )
    assert usd(listed) == {MODEL: (0.14, 0.028, 0.28, 0.42), FAST: (0.28, 0.056, 0.56, None)}
    assert [(row.date, row.source, row.context_tokens) for row in listed.prices] == [
        ("2026-11-23", "list", 1048576),
        ("2026-11-23", "list", None),
    ]


def test_an_alias_has_the_price_of_its_model():
    """Requests may name it, and it is told whose name it is."""
    alias = "accounts/fireworks/routers/new-latest"
    listed = read(entry("1", "0.1", "3", aliases=[alias, 7, "no name\n"]))
    assert usd(listed)[alias] == (1.0, 0.1, 3.0, None)
    assert listed.prices[1].note == f"another name of {MODEL}"


def test_an_alias_of_two_models_has_no_price():
    """Which of them it is cannot be known."""
    other = entry("2", "0.2", "6", aliases=["latest"], id="accounts/fireworks/models/new-2")
    assert "latest" not in usd(read(entry("1", "0.1", "3", aliases=["latest"]), other))


@pytest.mark.parametrize(
    ("one", "reason"),
    [
        (entry("1", "0.1"), "without prices of input and output per million tokens"),
        (entry("1", "0.1", "3", unit="1K tokens"), "without prices of input and output per million tokens"),
        (entry("-1", "0.1", "3"), "without prices of input and output per million tokens"),
        (entry("NaN", "0.1", "3"), "without prices of input and output per million tokens"),
        (entry("$1", "0.1", "3"), "without prices of input and output per million tokens"),
        (entry("1", {"units": "1"}, "3"), "without prices of input and output per million tokens"),
        (entry([1], "0.1", "3"), "without prices of input and output per million tokens"),
        (entry("1", "0.1", "1e-7"), "without prices of input and output per million tokens"),
        (entry("1", "0.1", "9" * 40), "without prices of input and output per million tokens"),
        (entry("1", "0.1", "1e9"), "without prices of input and output per million tokens"),
        (entry("1", "0.1", "3", pricing={"a": 1}), "without prices of input and output per million tokens"),
        (entry("1", "0.1", "3", id=None), "without a usable name"),
        (entry("1", "0.1", "3", id="\x1b[2J"), "without a usable name"),
        (entry("1", "0.1", "3", id="a" * 201), "without a usable name"),
        (entry("1", "0.1", "3", serverless_mode="fast"), "without a usable name"),
        (entry("1", "0.1", "3", serverless_mode="spot"), "in a mode that is not known here"),
        (entry("1", "0.1", "3", serverless_mode=["fast"]), "in a mode that is not known here"),
        (entry("1", "0.1", "3", serverless_mode="priority"), "of the priority tier alone"),
        ("text", "without a usable name"),
    ],
)
def test_what_cannot_be_understood_is_left_out_and_counted(one, reason):
    """Each reason has a name; nothing is made up."""
    assert read(one) == Listed(prices=[], left_out={reason: 1})


def test_a_price_in_another_currency_is_left_out():
    """Numbers of one currency are no numbers of another."""
    one = entry("1", "0.1", "3")
    one["pricing"][0]["currency"] = "EUR"
    assert read(one).prices == []


def test_of_two_prices_for_one_model_the_first_is_kept():
    """The second is counted; the same price again is no second one."""
    listed = read(entry("1", "0.1", "3"), entry("1.0", "0.10", "3"), entry("2", "0.1", "3"))
    assert usd(listed) == {MODEL: (1.0, 0.1, 3.0, None)}
    assert listed.left_out == {"with a second, other price": 1}


JSON = st.recursive(
    st.none()
    | st.booleans()
    | st.integers()
    | st.floats()
    | st.text(max_size=8)
    | st.sampled_from(["1", *SKUS, MODEL]),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["data", "id", "serverless_mode", "pricing", "sku", "amount", "unit", "aliases", "mode"]),
            inner,
            max_size=4,
        )
    ),
    max_leaves=8,
)


@settings(max_examples=60)
@given(JSON)
def test_no_list_makes_it_stumble(values):
    """Whatever JSON comes: prices that can be, or none."""
    for listed in (
        prices_of_endpoint(values, source="s", today="2026-11-23"),
        prices_of_endpoint({"data": [values]}, source="s", today="2026-11-23"),
        prices_of_litellm({"m": values}, provider="p", source="s", today="2026-11-23"),
    ):
        assert all(row.input_usd_per_mtok >= 0 for row in listed.prices)


def litellm(provider: str = "fireworks_ai") -> Listed:
    """What is read of the file in tests/."""
    values = json.loads((HERE / "litellm_prices.json").read_text(encoding="utf-8"))
    return prices_of_litellm(values, provider=provider, source="file", today="2026-11-23")


def test_prices_of_litellm_are_per_million_tokens():
    """Golden: the provider is taken off the name, unknown keys are passed over, decimals are exact."""
    assert usd(litellm()) == {
        "accounts/fireworks/models/glm-5p3-flash": (0.15, 0.03, 0.5, 0.625),
        "accounts/fireworks/routers/glm-5p3-flash-us": (0.225, 0.045, 0.75, 0.9375),
        "accounts/fireworks/models/deepseek-v4-flash-0731": (0.22, 0.007, 0.66, 0.825),
        "accounts/fireworks/models/qwen3-embedding-8b": (0.1, None, 0.0, None),
        "glm-5p3": (1.4, 0.26, 4.4, None),
    }


def test_context_and_retirement_of_litellm_are_kept():
    """Where they are what they should be."""
    rows = {row.model.rpartition("/")[2]: row for row in litellm().prices}
    assert [(rows[name].context_tokens, rows[name].retired_on) for name in ("glm-5p3-flash-us", "glm-5p3")] == [
        (1048576, "2026-11-07"),
        (None, None),
    ]


def test_what_litellm_prices_otherwise_is_left_out():
    """Rules for sizes, prices by the second, text for a number."""
    assert litellm().left_out == {
        "for a size instead of a model": 1,
        "without prices of input and output per token": 2,
        "with a second, other price": 1,
    }


def test_another_provider_of_litellm_has_its_own_names():
    """A model of OpenAI has no provider before its name."""
    assert list(usd(litellm("openai"))) == ["gpt-9"]

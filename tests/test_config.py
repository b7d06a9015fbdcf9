from __future__ import annotations

import re
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.config import (
    Config,
    EndpointConfig,
    check_config,
    load_config,
    merge_params,
    normal_base_url,
    read_config,
    read_key,
)
from batchrun.errors import ConfigError


def written(path, text):
    """The path of a file with this text."""
    path.write_text(text)
    return str(path)


def test_the_defaults_are_those_of_the_contract():
    """With nothing but an input everything has a value."""
    config = check_config({"input": "in.jsonl"})
    assert config == Config(input="in.jsonl", output="runs/in")
    assert (config.limits.concurrency, config.retry.max_attempts, config.store.flush_ms) == (64, 4, 50)
    assert config.request.params == {"max_tokens": 512, "temperature": 0}


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("c.yaml", "input: in.jsonl\nlimits:\n  concurrency: 3\nrequest: {params: {top_p: 1e-3}}\n"),
        ("c.yml", "\ufeffinput: in.jsonl\nlimits: {concurrency: 3}\nrequest: {params: {top_p: 0.001}}\n"),
        ("c.toml", 'input = "in.jsonl"\n[limits]\nconcurrency = 3\n[request.params]\ntop_p = 1e-3\n'),
    ],
)
def test_yaml_and_toml_say_the_same(tmp_path, name, text):
    """The suffix decides how a file is read, not what it means."""
    config = load_config(written(tmp_path / name, text))
    assert config.limits.concurrency == 3
    assert config.request.params == {"max_tokens": 512, "temperature": 0, "top_p": 0.001}
    assert config.output == "runs/c"


def test_options_win_over_the_file_and_sets_over_options(tmp_path):
    """What is not given, None, changes nothing; a set may go as deep as it likes."""
    path = written(tmp_path / "c.yaml", "input: a\nlimits: {concurrency: 3}\n")
    config = load_config(path, overrides={"limits.concurrency": 4, "input": None}, sets=["request.params.stop=[a, b]"])
    assert (config.input, config.limits.concurrency) == ("a", 4)
    assert config.request.params["stop"] == ["a", "b"]
    assert load_config(path, overrides={"limits.concurrency": 4}, sets=["limits.concurrency=5"]).limits.concurrency == 5


def test_a_null_takes_a_parameter_away():
    """And the two names of the token limit replace each other, so that never both are sent."""
    assert merge_params({"max_tokens": 5, "top_p": 1}, {"top_p": None}) == {"max_tokens": 5}
    assert merge_params({"max_tokens": 5}, {"max_completion_tokens": 7}) == {"max_completion_tokens": 7}
    assert merge_params({"max_completion_tokens": 7}, {"max_tokens": 5}) == {"max_tokens": 5}


def test_the_output_is_filled_in(tmp_path):
    """{name} is the configuration's, or the input's, without its suffixes; {date} is today."""
    assert check_config({"input": "data/x.jsonl.gz", "output": "o/{name}"}).output == "o/x"
    assert check_config({"input": "-", "output": "o/{name}"}).output == "o/stdin"
    assert load_config(written(tmp_path / "night.yaml", "input: x\n")).output == "runs/night"
    assert re.fullmatch(r"\d{4}-\d\d-\d\d", check_config({"input": "x", "output": "{date}"}).output)


@pytest.mark.parametrize(
    ("values", "key", "nearest"),
    [
        ({"limts": {}}, "limts", "limits"),
        ({"limits": {"concurency": 1}}, "limits.concurency", "limits.concurrency"),
        ({"concurrency": 1}, "concurrency", "limits.concurrency"),
        ({"max_tokens": 1}, "max_tokens", "request.params.max_tokens"),
        ({"request": {"temperature": 1}}, "request.temperature", "request.params.temperature"),
        ({"endpoint": {"modle": 1}}, "endpoint.modle", "request.model"),
    ],
)
def test_a_misspelt_key_names_the_nearest(values, key, nearest):
    """A setting in the wrong section is found in the right one."""
    with pytest.raises(ConfigError) as refused:
        check_config({"input": "x", **values})
    assert refused.value.message == f"configuration: unknown key `{key}`"
    assert refused.value.remedy == f"did you mean `{nearest}`?"


def test_an_unknown_key_like_no_other_lists_the_known():
    """Where nothing is near, all that is known there is told."""
    with pytest.raises(ConfigError) as refused:
        check_config({"input": "x", "retry": {"zzz": 1}})
    assert refused.value.remedy == "known here: max_attempts, max_wait_s"


@pytest.mark.parametrize("value", [float("inf"), float("nan")])
def test_numbers_are_finite(value):
    """Infinity passes a minimum, and then no clock understands it."""
    with pytest.raises(ConfigError, match=r"`timeouts\.connect_s`"):
        check_config({"input": "x", "timeouts": {"connect_s": value}})


BASE = "https://api.fireworks.ai/inference/v1"


@pytest.mark.parametrize("text", ["", "/", "/chat/completions", "/chat/completions/", "/completions", "/models"])
def test_every_spelling_of_a_base_url_is_one(text):
    """With or without the API's path and slashes."""
    assert normal_base_url(BASE + text) == BASE


@pytest.mark.parametrize(
    ("text", "url"),
    [
        ("http://localhost:8000", "http://localhost:8000/v1"),
        ("http://LOCALHOST:8000/v1/", "http://localhost:8000/v1"),
        (" http://localhost/api ", "http://localhost/api/v1"),
        ("http://x/openai/v1beta", "http://x/openai/v1beta"),
        ("simulated", "simulated"),
    ],
)
def test_a_version_is_added_where_none_is_given(text, url):
    """A server of one's own is named by host and port."""
    assert normal_base_url(text) == url


@settings(max_examples=50, deadline=None)
@given(st.text(max_size=40))
def test_any_base_url_is_normal_or_refused(text):
    """And what is normal stays as it is."""
    try:
        url = normal_base_url("http://" + text)
    except ConfigError as error:
        assert error.remedy
    except ValueError as error:
        pytest.fail(f"not refused, but raised: {error}")
    else:
        assert normal_base_url(url) == url


def test_a_key_for_fireworks_goes_to_fireworks_only():
    """Another endpoint gets the key that its configuration names, or none."""
    assert check_config({"input": "x"}).endpoint.api_key_env == "FIREWORKS_API_KEY"
    assert check_config({"input": "x", "endpoint": {"base_url": "http://localhost"}}).endpoint.api_key_env is None
    named = {"base_url": "http://localhost", "api_key_env": "MINE"}
    assert check_config({"input": "x", "endpoint": named}).endpoint.api_key_env == "MINE"


def test_the_key_comes_from_its_variable(monkeypatch):
    """Surrounding white space, as `export` from a file leaves it, is no part of it."""
    monkeypatch.setenv("MINE", " fw-123\n")
    assert read_key(EndpointConfig(api_key_env="MINE")) == "fw-123"
    assert read_key(EndpointConfig(api_key_env=None)) is None
    assert read_key(EndpointConfig(base_url="simulated", api_key_env="UNSET")) is None


@pytest.mark.parametrize("name", ["Authorization", "x-api-key", "Cookie"])
def test_secrets_do_not_belong_into_headers(name):
    """They would end up in run.json."""
    with pytest.raises(ConfigError, match="would put a secret into a file"):
        check_config({"input": "x", "endpoint": {"headers": {name: "s"}}})


@pytest.mark.parametrize("named", [str, Path])
def test_a_path_names_a_file(named, tmp_path):
    """As a text or as a Path."""
    (tmp_path / "try.yaml").write_text("input: p.jsonl\n")
    assert read_config(named(tmp_path / "try.yaml")).output == "runs/try"


def test_a_ready_config_is_checked_like_a_file():
    """One spelling of the URL, `{name}` filled in, and no key of Fireworks for another host."""
    config = read_config(Config(input="p.jsonl", endpoint=EndpointConfig(base_url="http://other:1/")))
    assert (config.endpoint.base_url, config.endpoint.api_key_env, config.output) == (
        "http://other:1/v1",
        None,
        "runs/p",
    )
    assert read_config(config) == config
    assert read_config(Config(input="p.jsonl")).endpoint.api_key_env == "FIREWORKS_API_KEY"

"""configs/: every file loads, and fireworks.yaml has every key with its default and why."""

from __future__ import annotations

import re
from pathlib import Path

import msgspec
import pytest
import yaml

from batchrun.config import Config, EndpointConfig, check_config, load_config
from batchrun.simulated.scenario import load_scenario

ROOT = Path(__file__).parent.parent
FIREWORKS = ROOT / "configs" / "fireworks.yaml"
RUNS = sorted(path for path in (ROOT / "configs").glob("*.yaml") if not path.name.endswith("scenario.yaml"))
NOT_DEFAULTS = {"input", "request.model"}


def keys_of(section=Config, path="") -> dict[str, object]:
    """Every dotted key of the configuration, with its default (`...` where there is none)."""
    keys = {}
    for field in msgspec.structs.fields(section):
        if isinstance(field.type, type) and issubclass(field.type, msgspec.Struct):
            keys |= keys_of(field.type, f"{path}{field.name}.")
        elif field.default_factory is not msgspec.NODEFAULT:
            keys[path + field.name] = field.default_factory()
        else:
            keys[path + field.name] = ... if field.required else field.default
    return keys


def flat(values, path="") -> dict[str, object]:
    """The dotted keys of a file, as deep as the configuration has them."""
    known = keys_of()
    found = {}
    for key, value in values.items():
        dotted = path + key
        found |= {dotted: value} if dotted in known else flat(value, f"{dotted}.")
    return found


def comment_lines() -> list[str]:
    """The lines of fireworks.yaml that are comments as a whole."""
    return [line for line in FIREWORKS.read_text(encoding="utf-8").splitlines() if line.startswith("#")]


@pytest.mark.parametrize("path", RUNS, ids=lambda path: path.name)
def test_every_configuration_loads(path):
    """No file in configs/ is refused."""
    assert load_config(str(path)).output == f"runs/{path.stem}"


def test_the_scenario_loads():
    """The simulated endpoint takes the scenario that is shipped."""
    assert load_scenario(str(ROOT / "configs" / "simulated-scenario.yaml"))


def test_fireworks_has_every_key():
    """None is left out, none is invented."""
    present = flat(yaml.safe_load(FIREWORKS.read_text(encoding="utf-8"))).keys()
    assert {*keys_of()} == present


def test_fireworks_shows_the_defaults():
    """A value in the file is the default, but for the two that must be chosen."""
    found = flat(yaml.safe_load(FIREWORKS.read_text(encoding="utf-8")))
    defaults = {key: value for key, value in keys_of().items() if key in found}
    assert {key for key in found if found[key] != defaults[key]} == NOT_DEFAULTS


def test_fireworks_says_why():
    """Each line with a value has a comment."""
    lines = [line for line in FIREWORKS.read_text(encoding="utf-8").splitlines() if re.match(r"\s*\w+: ", line)]
    assert [line for line in lines if "  # " not in line] == []
    assert len(lines) == len(keys_of())


@pytest.mark.parametrize("url", ["https://api.fireworks.ai/inference/v1", "https://us.api.fireworks.ai/inference/v1"])
def test_fireworks_gets_its_key(url):
    """Its own hosts need no `api_key_env`."""
    assert check_config({"input": "x", "endpoint": {"base_url": url}}).endpoint.api_key_env == "FIREWORKS_API_KEY"


@pytest.mark.parametrize(
    "url",
    ["http://127.0.0.1:8000/v1", "https://fireworks.ai.example.com/v1", "https://notfireworks.ai/v1", "simulated"],
)
def test_no_other_host_gets_the_key(url):
    """A key is sent elsewhere only where its variable is named."""
    assert check_config({"input": "x", "endpoint": {"base_url": url}}).endpoint.api_key_env is None


def test_an_endpoint_of_ones_own_names_its_variable():
    """What is named is kept, whatever the host."""
    endpoint = {"base_url": "https://llm.example.com", "api_key_env": "MY_KEY"}
    assert check_config({"input": "x", "endpoint": endpoint}).endpoint == EndpointConfig(
        base_url="https://llm.example.com/v1", api_key_env="MY_KEY"
    )

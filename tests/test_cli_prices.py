"""`batchrun prices`: what is in force and why, and price files written from lists of others."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest
from commands import called
from peers import CLOSE, READ, RESET, for_ever, http, nobody, peer
from servers import simulated
from test_pricing_lists import entry

from batchrun.pricing import Deployment, Price, full_model_id, load_prices

HERE = Path(__file__).parent
PAGE = (HERE.parent / "docs" / "prices.md").read_text(encoding="utf-8")
FLASH = full_model_id("glm-5p3-flash")
KEY = "fw-a-sentinel-key"
NEW = "accounts/fireworks/models/new-1"


@pytest.fixture(scope="module")
def server():
    """A simulated endpoint that wants a key."""
    with simulated(api_key=KEY) as one:
        yield one


@pytest.fixture(autouse=True)
def place(tmp_path, monkeypatch):
    """The folder that a command is typed in, with a key in the environment."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("THE_KEY", KEY)
    return tmp_path


def refresh(base_url: str, *more: object):
    """Ask an endpoint for its prices."""
    at = ["--set", f"endpoint.base_url={base_url}", "--set", "endpoint.api_key_env=THE_KEY"]
    return called("prices", "--refresh", *at, *more)


def answered(*script: object, more: tuple[object, ...] = ()):
    """Ask a peer that does this for its prices; what came of it, and what it was asked."""
    with peer([READ, *script, CLOSE]) as one:
        return refresh(f"http://127.0.0.1:{one.port}/inference/v1", *more), one.requests


def listing(*entries: object) -> bytes:
    """An answer with a list of these entries."""
    return http({"object": "list", "data": list(entries)})


def test_one_model_is_told_with_its_row():
    """Prices, why, which line of which file, of when and from where."""
    told = called("prices", "glm-5p3-flash")
    assert (told.code, told.err) == (0, "")
    for line in (
        "  input     $0.15 per million tokens",
        "  cached    $0.03",
        "  output    $0.50",
        "  priority  $0.1875 / $0.0375 / $0.625",
        f"  why       the short name of {FLASH}",
        "  source    2026-11-22, docs.fireworks.ai/serverless/pricing and the price file of litellm 1.106.2",
    ):
        assert line in told.out.splitlines()
    origin = next(line for line in told.out.splitlines() if line.startswith("  row "))
    number = int(origin.rpartition(":")[2])
    assert load_prices().prices[FLASH].origin == f"the shipped prices.yaml:{number}"


def test_the_page_shows_what_is_so(place):
    """The output in docs/prices.md comes, its commands are understood, and its file is a price file."""
    command, _, shown = re.search(r"^```console\n\$ (.*?)\n```$", PAGE, re.MULTILINE | re.DOTALL)[1].partition("\n")
    assert called(*command.split()[1:]).out.rstrip() == shown
    (place / "mine.yaml").write_text(re.search(r"^```yaml\n(.*?)^```$", PAGE, re.MULTILINE | re.DOTALL)[1])
    book = load_prices("mine.yaml")
    assert book.price_for(FLASH).pico_usd_per_token == (120_000, 20_000, 400_000)
    assert book.deployment_for("glm#accounts/my-account/deployments/x").gpus == 2


def test_every_key_of_a_row_is_on_the_page():
    """And of a deployment."""
    keys = {*Price.__struct_fields__, *Deployment.__struct_fields__} - {"origin", "guess"}
    assert {key for key in keys if key not in PAGE} == set()


def test_a_guess_is_marked():
    """As a guess, in capitals, with the size it follows from."""
    told = called("prices", "some-70b").out
    assert "a GUESS from the size in its name; no run is charged by it" in told
    assert "(70B, dense)" in told


def test_a_retired_model_is_marked():
    """With its date, also in the table of all."""
    assert "retired on 2026-09-25" in called("prices", "glm-5p2").out
    line = next(
        line for line in called("prices").out.splitlines() if line.startswith("accounts/fireworks/models/glm-5p2")
    )
    assert line.endswith("retired on 2026-09-25")


def test_a_retirement_to_come_is_told(place):
    """A date that is not there yet."""
    row = "{model: m, input_usd_per_mtok: 1, output_usd_per_mtok: 2, retired_on: 2999-01-01}"
    (place / "mine.yaml").write_text(f"models: [{row}]")
    assert "will be retired on 2999-01-01" in called("prices", "m", "--prices", "mine.yaml").out


def test_own_rows_are_told_with_their_file(place):
    """They replace the shipped one, and say where they stand."""
    (place / "mine.yaml").write_text(
        "source: my contract\nmodels:\n- {model: glm-5p3-flash, input_usd_per_mtok: 9, output_usd_per_mtok: 10}\n"
    )
    told = called("prices", FLASH, "--prices", "mine.yaml").out
    assert "$9.00" in told
    assert "mine.yaml:3" in told
    assert "my contract" in told


def test_the_prices_of_a_configuration_are_those_in_force(place):
    """`prices` of a run's own configuration counts as it does for the run."""
    (place / "mine.yaml").write_text("models: [{model: m, input_usd_per_mtok: 7, output_usd_per_mtok: 10}]")
    (place / "run.yaml").write_text("input: prompts.jsonl\nprices: mine.yaml\n")
    assert "$7.00" in called("prices", "m", "--config", "run.yaml").out


def test_a_deployment_is_told_by_the_hour(place):
    """With the GPUs it has."""
    text = "deployments: [{model: '*accounts/me/deployments/*', usd_per_gpu_hour: 8, gpus: 2}]"
    (place / "mine.yaml").write_text(text)
    told = called("prices", f"{FLASH}#accounts/me/deployments/d", "--prices", "mine.yaml").out
    assert "$8 an hour for each GPU, 2 GPUs: $16 an hour" in told
    assert "rows have no cost of their own" in told


@pytest.mark.parametrize(
    ("model", "advice"),
    [
        ("glm-5p9", "did you mean glm-5p3"),
        ("accounts/me/deployments/d", "paid by the hour"),
        ("gpt-9", "a file of your own"),
    ],
)
def test_a_model_without_a_price_is_unpriced(model, advice):
    """Exit 2, with what may be meant or done; never $0."""
    told = called("prices", model)
    assert (told.code, told.out) == (2, "")
    assert advice in told.last


def test_a_bare_name_is_no_model_of_fireworks_elsewhere():
    """Another host has other prices."""
    assert called("prices", "glm-5p3-flash", "--set", "endpoint.base_url=http://localhost:8000/v1").code == 2


def test_json_is_for_programs():
    """One object a row, with why it is in force."""
    (row,) = json.loads(called("prices", "glm-5p3-flash", "--format", "json").out)
    assert (row["why"], row["model"], row["input_usd_per_mtok"]) == ("short name", FLASH, 0.15)
    rows = json.loads(called("prices", "--format", "json").out)
    assert {row["model"] for row in rows} == set(load_prices().prices)


def test_refresh_writes_what_the_endpoint_says(server):
    """A price file with today's rows; the run's own loader reads it."""
    told = refresh(server.base_url)
    assert told.code == 0, told.err
    assert "new      simulated/small  input 0.15" in told.out
    rows = load_prices("prices.yaml").prices
    assert rows["simulated/small"].pico_at("priority") == (187_500, 37_500, 625_000)
    assert rows["simulated/routers/small-fast"].pico_usd_per_token == (300_000, 60_000, 1_000_000)
    assert rows["simulated/small"].source.endswith(server.base_url + "/serverless/models")


def test_refresh_again_changes_nothing(server, place):
    """The same list brings the same file."""
    refresh(server.base_url)
    before = (place / "prices.yaml").read_bytes()
    assert refresh(server.base_url).out == "no price has changed\n"
    assert (place / "prices.yaml").read_bytes() == before


def test_the_embedded_endpoint_has_a_list_too():
    """The example of `--help` runs without a key."""
    told = called("prices", "--refresh", "--set", "endpoint.base_url=simulated", "-o", "simulated.yaml")
    assert (told.code, "wrote 2 prices to simulated.yaml" in told.err) == (0, True)


def test_refresh_costs_nothing(server):
    """It is no request that an endpoint would charge."""
    before = len(server.ledger())
    refresh(server.base_url)
    assert len(server.ledger()) == before


def test_a_wrong_key_is_refused(server, monkeypatch):
    """Exit 8, nothing is written."""
    monkeypatch.setenv("THE_KEY", "another")
    told = refresh(server.base_url)
    assert (told.code, Path("prices.yaml").exists()) == (8, False)
    assert "HTTP 401" in told.err


def test_what_is_asked():
    """One GET beside the API's path, with the key."""
    told, requests = answered(listing(entry("1", "0.1", "3")))
    assert told.code == 0
    assert len(requests) == 1
    assert requests[0].startswith(b"GET /v1/serverless/models HTTP/1.1\r\n")
    assert f"authorization: bearer {KEY}".encode() in requests[0].lower()


def test_what_changes_is_shown():
    """With the prices before and after."""
    with peer([READ, listing(entry("1", "0.1", "3")), CLOSE], [READ, listing(entry("2", "0.1", "3")), CLOSE]) as one:
        address = f"http://127.0.0.1:{one.port}/v1"
        refresh(address, "-o", "one.yaml")
        told = refresh(address, "-o", "one.yaml")
    assert told.out == f"changed  {NEW}  input 1.0 -> 2.0\n"
    assert load_prices("one.yaml").prices[NEW].input_usd_per_mtok == 2.0


def test_what_a_list_names_no_more_is_gone():
    """A price that the endpoint has taken back is no price."""
    both, one = listing(entry("1", "0.1", "3"), entry("2", "0.2", "6", id="old-1")), listing(entry("1", "0.1", "3"))
    with peer([READ, both, CLOSE], [READ, one, CLOSE]) as server:
        address = f"http://127.0.0.1:{server.port}/v1"
        refresh(address)
        told = refresh(address)
    assert told.out.startswith("gone     old-1  input 2")
    assert load_prices("prices.yaml").price_for("old-1") is None


def test_rows_of_ones_own_are_kept(place):
    """Whoever took the mark off a row keeps its price, under either name of the model, and is told of the other."""
    answered(listing(entry("1", "0.1", "3")))
    row = "- {model: glm-5p3-flash, input_usd_per_mtok: 9, output_usd_per_mtok: 10, note: contract}\n"
    (place / "prices.yaml").write_text((place / "prices.yaml").read_text() + row)
    told, _ = answered(listing(entry("2", "0.1", "3"), entry("0.14", "0.03", "0.5", id=FLASH)))
    assert f"kept     {FLASH}  yours; the list has input 0.14" in told.out
    price = load_prices("prices.yaml").price_for("glm-5p3-flash")
    assert (price.input_usd_per_mtok, price.note) == (9, "contract")


def test_prices_of_two_lists_stand_in_one_file(place):
    """Rows of another list stay, and the newer price of one model goes before the older."""
    shutil.copy(HERE / "litellm_prices.json", place)
    assert called("prices", "--import", "litellm_prices.json").code == 0
    told, _ = answered(listing(entry("0.14", "0.03", "0.5", id=FLASH)))
    assert told.code == 0
    rows = load_prices("prices.yaml").prices
    assert (rows[FLASH].input_usd_per_mtok, rows["glm-5p3"].input_usd_per_mtok) == (0.14, 1.4)


def test_deployments_in_a_written_file_are_kept(place):
    """They are nobody's but the user's."""
    answered(listing(entry("1", "0.1", "3")))
    text = "deployments: [{model: 'd/*', usd_per_gpu_hour: 8}]\nsizes: [{kind: dense, usd_per_mtok: 1}]\n"
    (place / "prices.yaml").write_text((place / "prices.yaml").read_text() + text)
    answered(listing(entry("2", "0.1", "3")))
    book = load_prices("prices.yaml")
    assert (book.deployment_for("d/1").usd_per_gpu_hour, book.sizes[0].usd_per_mtok) == (8, 1)


def test_a_file_of_somebody_else_is_not_written(place):
    """Nor is anything asked for it."""
    (place / "prices.yaml").write_text("models: []\n")
    told, requests = answered(listing(entry("1", "0.1", "3")))
    assert (told.code, requests) == (2, [])
    assert "was not written by `batchrun prices`" in told.err
    assert (place / "prices.yaml").read_text() == "models: []\n"


def test_a_written_file_that_was_spoilt_is_refused(place):
    """With its line, before anything is asked."""
    answered(listing(entry("1", "0.1", "3")))
    (place / "prices.yaml").write_text(
        (place / "prices.yaml").read_text().replace("output_usd_per_mtok: 3.0", "output_usd_per_mtok: -3")
    )
    told, requests = answered(listing(entry("1", "0.1", "3")))
    assert (told.code, requests) == (2, [])
    assert "output_usd_per_mtok: -3 is below 0" in told.err


@pytest.mark.parametrize(
    ("script", "code", "says"),
    [
        ([http({"error": "no"}, 404)], 8, "HTTP 404"),
        ([http("", 302, location="http://127.0.0.1:9/")], 8, "redirects are not followed"),
        ([http("<html>")], 8, "the price list is not JSON"),
        ([http({"data": []})], 2, "the list has no price that can be read: it is empty"),
        ([listing(entry("1"))], 2, "1 without prices of input and output per million tokens"),
        ([http("[" * 100_000)], 8, "the price list is not JSON"),
        ([http(b"\x1f\x8b\x08", content_encoding="gzip")], 8, "the price list is not JSON"),
        ([b"HTTP/1.1 200 OK\r\n\r\n", for_ever(b" " * 1_000_000)], 8, "the price list is longer than 4 MiB"),
        ([http("{", length=100), CLOSE], 8, "the answer broke off"),
        ([RESET], 8, "the connection broke before an answer came"),
        ([b"SSH-2.0-OpenSSH\r\n"], 8, "the answer is not HTTP"),
    ],
)
def test_a_bad_list_writes_nothing(script, code, says):
    """Whatever comes instead of a list, it is told and no file is there."""
    told, _ = answered(*script)
    assert told.code == code
    assert says in told.err
    assert not Path("prices.yaml").exists()


def test_a_slow_list_is_not_waited_for():
    """The time-outs of a run hold here as well."""
    with peer([READ, for_ever(b"", 0.05)]) as one:
        told = refresh(f"http://127.0.0.1:{one.port}/v1", "--set", "timeouts.first_byte_s=0.2")
    assert told.code == 8
    assert "no answer began within 0.2 s" in told.err


def test_an_endpoint_without_a_list_says_what_to_do():
    """Most have none."""
    told, _ = answered(http({"error": "no"}, 404))
    assert "write the prices down yourself" in told.last


def test_nobody_is_there():
    """Exit 8."""
    assert refresh(nobody()).code == 8


def test_a_proxy_is_gone_through():
    """The one that a run would go through."""
    with peer([READ, listing(entry("1", "0.1", "3")), CLOSE]) as proxy:
        told = refresh("http://example.invalid/v1", "--set", f"endpoint.proxy=http://127.0.0.1:{proxy.port}")
    assert told.code == 0, told.err
    assert proxy.requests[0].startswith(b"GET http://example.invalid/v1/serverless/models HTTP/1.1")


def test_the_key_is_in_nothing_that_is_shown_or_written():
    """Also if the peer echoes it, in an error, a name or a price."""
    told, _ = answered(http({"error": {"message": f"bad key {KEY}"}}, 403))
    assert KEY not in told.out + told.err
    told, _ = answered(listing(entry("1", "0.1", "3"), entry("1", "0.1", "3", id=KEY)))
    assert KEY not in told.out + told.err + Path("prices.yaml").read_text()


def test_a_missing_key_is_told_before_anything_is_asked(monkeypatch):
    """As for a run."""
    monkeypatch.delenv("THE_KEY")
    told, requests = answered(listing(entry("1", "0.1", "3")))
    assert (told.code, requests) == (2, [])
    assert "THE_KEY is not set" in told.err


def test_litellms_file_becomes_a_price_file():
    """With what was left out, and why."""
    told = called("prices", "--import", HERE / "litellm_prices.json", "-o", "lite.yaml")
    assert told.code == 0, told.err
    assert "left out: 1 entry for a size instead of a model" in told.err
    assert "wrote 5 prices to lite.yaml" in told.err
    assert load_prices("lite.yaml").prices["glm-5p3"].source == "batchrun prices --import, litellm_prices.json"


def test_changes_are_json_for_programs():
    """With what was left out."""
    told = called("prices", "--import", HERE / "litellm_prices.json", "--format", "json")
    done = json.loads(told.out)
    assert done["rows"] == 5
    assert {"model": "glm-5p3", "what": "new", "after": {
        "input_usd_per_mtok": 1.4, "output_usd_per_mtok": 4.4, "cached_input_usd_per_mtok": 0.26
    }} in done["changes"]  # fmt: skip


@pytest.mark.parametrize(
    ("arguments", "says"),
    [
        (["--import", "nothing.json"], "nothing.json: cannot be read"),
        (["--import", "bad.json"], "bad.json: not JSON"),
        (["--import", "list.json"], "list.json: has no prices of fireworks_ai"),
        (["--import", str(HERE / "litellm_prices.json"), "--provider", "nobody"], "azure, fireworks_ai, one of"),
        (["--import", "list.json", "--refresh"], "each write all they find, alone"),
        (["glm-5p3", "--refresh"], "each write all they find, alone"),
        (["glm-5p3", "-o", "x.yaml"], "-o is for --refresh and --import"),
        (["--import", "list.json", "-o", "-"], "-: a price file is YAML"),
        (["--import", str(HERE / "litellm_prices.json"), "-o", "no/x.yaml"], "no/x.yaml: cannot be written"),
        (["--import", str(HERE / "litellm_prices.json"), "-o", "."], ".: is there, and was not written"),
        (["--prices", "nothing.yaml"], "nothing.yaml: cannot be read"),
        (["--config", "nothing.yaml"], "nothing.yaml: cannot be read"),
    ],
)
def test_a_command_that_makes_no_sense_is_refused(place, arguments, says):
    """Exit 2, and what is wrong."""
    (place / "bad.json").write_text("{")
    (place / "list.json").write_text("[]")
    told = called("prices", *arguments)
    assert told.code == 2
    assert says in told.err

from __future__ import annotations

import base64
import json
import math
import struct
from contextlib import suppress
from http.client import IncompleteRead

import pytest
from servers import simulated

from batchrun.simulated.embeddings import EmbeddingRequest, embed, payload
from batchrun.simulated.refusals import Refusal
from batchrun.simulated.scenario import Scenario
from batchrun.simulated.wire import parse_request

CHARGED = ("reset_before_answer", "reset", "truncated", "bad_json", "error_in_200", "no_choices", "empty", "slow")


@pytest.fixture(scope="module")
def server():
    """Answers at once, except for the texts that name a fault."""
    kinds = [*CHARGED, "rate_limited"]
    faults = [{"kind": kind, "match": f"please {kind}", "seconds": 0.01} for kind in kinds]
    with simulated({"faults": faults}) as running:
        yield running


def answer(scenario=None, **params):
    """The body of the answer to these parameters."""
    body = json.dumps({"model": "m", "input": "some words", **params}).encode()
    return payload(embed(scenario or Scenario(), parse_request(body, EmbeddingRequest), 1))


def vectors(**params):
    """All vectors."""
    return [one["embedding"] for one in answer(**params)["data"]]


def post(server, text):
    """Send a request."""
    return server.post(json.dumps({"model": "m", "input": text}).encode(), "/v1/embeddings")


def test_the_answer_is_a_list_of_embeddings(server):
    """Shape and usage are as documented, and the ledger has prompt tokens only."""
    got = post(server, "some words").json
    assert (got["object"], got["model"]) == ("list", "m")
    assert [(one["object"], one["index"]) for one in got["data"]] == [("embedding", 0)]
    assert got["usage"] == {"prompt_tokens": 3, "total_tokens": 3}
    line = server.ledger()[-1]
    assert [line[name] for name in ("api", "last_user", "prompt_tokens", "completion_tokens")] == [
        "embeddings", "some words", 3, 0,
    ]  # fmt: skip


def test_vectors_have_length_one_and_as_many_dimensions_as_asked():
    """1024 unless the request says."""
    assert [len(vector) for vector in (*vectors(), *vectors(dimensions=7))] == [1024, 7]
    assert math.hypot(*vectors()[0]) == pytest.approx(1, abs=1e-6)


def test_a_text_has_one_vector_and_another_text_another():
    """Wherever it stands in a list; another model or seed has vectors of its own."""
    assert vectors(input=["b", "a"])[1] == vectors(input="a")[0] != vectors(input="b")[0]
    assert vectors(model="other") != vectors() != [answer(Scenario(seed=1))["data"][0]["embedding"]]


def test_base64_holds_the_same_numbers():
    """Little-endian floats of 32 bits."""
    (encoded,) = vectors(encoding_format="base64", dimensions=9)
    assert list(struct.unpack("<9f", base64.b64decode(encoded))) == vectors(dimensions=9)[0]


@pytest.mark.parametrize(
    ("params", "message"),
    [
        ({"stream": True}, "Extra inputs are not permitted, field: 'stream'"),
        ({"input": []}, "length >= 1, field: 'input'"),
        ({"dimensions": 0}, "field: 'dimensions'"),
        ({"encoding_format": "hex"}, "Invalid enum value 'hex'"),
        ({"input": ["x", "y" * 100]}, "The prompt is too long: 25, model maximum context length: 20"),
    ],
)
def test_a_wrong_body_is_refused(params, message):
    """400, with the reason."""
    with pytest.raises(Refusal) as caught:
        answer(Scenario(context_tokens=20), **params)
    assert message in caught.value.payload["error"]["message"]


@pytest.mark.parametrize("kind", CHARGED)
def test_faults_strike_here_too(server, kind):
    """A spoilt answer is charged."""
    before = len(server.ledger())
    with suppress(ConnectionResetError, IncompleteRead):
        post(server, f"please {kind}")
    assert len(server.ledger()) == before + 1


def test_refusals_are_not_charged(server):
    """Nor is anything embedded for them."""
    before = len(server.ledger())
    assert post(server, "please rate_limited").status == 429
    assert len(server.ledger()) == before


def test_empty_embeddings(server):
    """One fault leaves a vector without numbers, the other no vector."""
    assert post(server, "please empty").json["data"][0]["embedding"] == []
    assert post(server, "please no_choices").json["data"] == []

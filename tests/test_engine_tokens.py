"""What a request will take: learnt from what the answers say that theirs took."""

from __future__ import annotations

import msgspec
import pytest
from engines import config_of, request
from hypothesis import given
from hypothesis import strategies as st

from batchrun.engine.tokens import Mean, Tokens, most_generated, narrow_limits
from batchrun.types import Usage


def asking(body: bytes):
    """A request with this body."""
    return msgspec.structs.replace(request(0), body=body)


def answered(tokens: Tokens, body: bytes, times: int = 1, **usage: int | None) -> None:
    """So many answers with this usage."""
    for _ in range(times):
        tokens.learn(asking(body), Usage(**usage))


def test_at_first_four_letters_are_a_token_and_an_answer_has_512():
    """A guess."""
    need = Tokens().need(asking(b"x" * 400))
    assert (need.prompt_tokens, need.uncached_prompt_tokens, need.generated_tokens) == (100, 100, 512)


def test_the_first_answer_replaces_the_guess():
    """Two letters a token, half of them cached, 40 tokens of answer."""
    tokens = Tokens()
    answered(tokens, b"x" * 400, prompt_tokens=200, completion_tokens=40, cached_tokens=100)
    need = tokens.need(asking(b"x" * 100))
    assert (need.prompt_tokens, need.uncached_prompt_tokens, need.generated_tokens) == (50, 25, 40)


def test_old_answers_are_forgotten_slowly():
    """After a hundred of one length and a hundred of another, the later one is what is expected."""
    tokens = Tokens()
    answered(tokens, b"{}", 100, completion_tokens=1000)
    answered(tokens, b"{}", 5, completion_tokens=100)
    assert 700 < tokens.need(asking(b"{}")).generated_tokens < 900
    answered(tokens, b"{}", 95, completion_tokens=100)
    assert tokens.need(asking(b"{}")).generated_tokens < 110


def test_each_token_limit_has_answers_of_its_own():
    """What was learnt with one says nothing of another."""
    tokens = Tokens()
    answered(tokens, b'{"max_tokens":50}', completion_tokens=20)
    assert tokens.need(asking(b'{"max_tokens":50}')).generated_tokens == 20
    assert tokens.need(asking(b'{"max_tokens":400}')).generated_tokens == 400
    assert tokens.need(asking(b"{}")).generated_tokens == 512


def test_no_more_is_expected_than_the_request_allows():
    """Also where an answer said that it took more."""
    tokens = Tokens()
    answered(tokens, b'{"max_tokens":50}', completion_tokens=5000)
    assert tokens.need(asking(b'{"max_tokens":50}')).generated_tokens == 50


def test_an_answer_without_usage_teaches_nothing():
    """Nor does one of no prompt tokens."""
    tokens = Tokens()
    answered(tokens, b"x" * 400)
    answered(tokens, b"x" * 400, prompt_tokens=0)
    need = tokens.need(asking(b"x" * 400))
    assert (need.prompt_tokens, need.generated_tokens) == (100, 512)


@pytest.mark.parametrize(
    ("body", "most"),
    [
        (b"{}", None),
        (b'{"max_tokens":7}', 7),
        (b'{"max_completion_tokens":8}', 8),
        (b'{"max_tokens":7,"max_completion_tokens":8}', 7),
        (b'{"max_tokens":7,"n":3}', 21),
        (b'{"max_tokens":7,"n":0}', 7),
        (b'{"max_tokens":"many"}', None),
        (b"no json", None),
    ],
)
def test_how_many_tokens_an_answer_may_have(body, most):
    """All its choices together; None where the request does not say."""
    assert most_generated(asking(body)) == most


def test_the_letters_of_an_image_are_no_tokens():
    """A megabyte of base64 counts as the words around it."""
    image = b'"data:image/png;base64,' + b"A" * 1_000_000 + b'="'
    assert Tokens().need(asking(b"x" * 400 + image)).prompt_tokens < 110


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=100))
def test_a_mean_lies_between_the_least_and_the_most(values):
    """Of what it was told; the first guess is forgotten with the first value."""
    mean = Mean(1e9)
    for value in values:
        mean.add(value)
    assert min(values) - 1e-3 <= mean.value <= max(values) + 1e-3


@pytest.mark.parametrize(
    ("limits", "named"),
    [
        ({"prompt_tokens_per_minute": 99}, ["prompt_tokens"]),
        ({"prompt_tokens_per_minute": 200, "generated_tokens_per_minute": 49}, ["generated_tokens"]),
        ({"prompt_tokens_per_minute": 200, "generated_tokens_per_minute": 50}, []),
        ({}, []),
    ],
)
def test_limits_below_the_size_of_one_request_are_named(limits, named):
    """With the limit and what one request may take."""
    body = b'{"max_tokens":50}' + b" " * 383
    told = narrow_limits(config_of(limits=limits).limits, asking(body))
    assert [name for line in told for name in ("prompt_tokens", "generated_tokens") if name in line] == named

"""What prompts share at their beginnings: exactly with the row before, and at least so much with any other."""

from __future__ import annotations

import random
from itertools import pairwise

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from batchrun.prompts import prefixes
from batchrun.prompts.prefixes import LENGTHS, Prefixes, common_bytes, shared_prefixes

CONTENT = b'{"model":"m","messages":[{"role":"user","content":'


def body(text: bytes, head: bytes = CONTENT) -> bytes:
    """A body that says a text; all that is counted of it is the text."""
    return head + text


def shared_with_any(texts: list[bytes]) -> int:
    """Bytes that sorted neighbours share: the texts less the tree of their beginnings."""
    texts = sorted(texts)
    return sum(common_bytes(*pair) for pair in pairwise(texts))


pieces = st.sampled_from([b"a" * 200, b"b" * 300, b"c", b"d" * 900])
texts = st.lists(st.lists(pieces, max_size=5).map(b"".join), max_size=12)


@settings(max_examples=30, deadline=None)
@given(st.binary(max_size=600), st.binary(max_size=9), st.binary(max_size=9), st.integers(0, 900))
def test_common_bytes(beginning, one, other, guess):
    """Whatever was guessed, it is the first byte that differs."""
    one, other = beginning + one, beginning + other
    differing = (at for at, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    assert common_bytes(one, other, guess) == next(differing, min(len(one), len(other)))


@settings(max_examples=30, deadline=None)
@given(texts)
def test_what_is_shared_with_the_row_before_is_exact(said):
    """Byte by byte, from the first content on."""
    found = shared_prefixes(map(body, said))
    assert (found.rows, found.total_bytes) == (len(said), sum(map(len, said)))
    assert found.with_previous_bytes == sum(common_bytes(*pair) for pair in pairwise(said))


@settings(max_examples=30, deadline=None)
@given(texts)
def test_what_is_shared_with_any_row_is_there(said):
    """Never more than sorting shares; and of each row at least half of that, less the first length."""
    found, exact = shared_prefixes(map(body, said)), shared_with_any(said)
    assert found.with_previous_bytes <= found.with_any_bytes <= exact
    assert 2 * found.with_any_bytes >= exact - 2 * LENGTHS[0] * len(said)


@settings(max_examples=30, deadline=None)
@given(texts, st.randoms())
def test_order_does_not_change_what_any_row_shares(said, order):
    """Unless neighbours share more than was measured at the lengths."""
    found = shared_prefixes(map(body, said))
    order.shuffle(said)
    again = shared_prefixes(map(body, said))
    best = max(found.with_previous_bytes, again.with_previous_bytes)
    assert max(found.with_any_bytes, best) == max(again.with_any_bytes, best)


def test_an_input_in_a_bad_order():
    """Two questions about each document, all first questions before all second ones: sorted, half is shared."""
    documents = [random.Random(seed).randbytes(1024) for seed in range(50)]
    apart = shared_prefixes(body(document + question) for question in (b"?", b"!") for document in documents)
    together = shared_prefixes(body(document + question) for document in documents for question in (b"?", b"!"))
    assert (round(apart.with_previous_share, 2), round(apart.with_any_share, 2)) == (0, 0.5)
    assert round(together.with_previous_share, 2) == 0.5


@pytest.mark.parametrize("head", [b'{"model":"m","prompt":', b'{"model":"m","input":'])
def test_other_apis(head):
    """What is said stands elsewhere."""
    assert shared_prefixes([body(b"x" * 9, head)] * 2).total_bytes == 18


def test_another_model_shares_nothing():
    """Its cache is its own; so the same texts to two models are shared once only."""
    text = b"x" * 1024
    other = body(text, CONTENT.replace(b'"m"', b'"n"'))
    found = shared_prefixes([body(text), other, body(text)])
    assert (found.with_previous_bytes, found.with_any_bytes) == (0, 1024)


def test_what_is_said_begins_where_it_does():
    """Behind names of any length, in any order."""
    heads = [CONTENT, CONTENT.replace(b'"m"', b'"a longer name"'), CONTENT, CONTENT.replace(b'"m"', b'"mm"')]
    assert shared_prefixes(body(b"x" * 9, head) for head in heads).total_bytes == 4 * 9


def test_nothing_is_shared_by_nothing():
    """No rows, or empty ones, have no share."""
    assert shared_prefixes([]).with_any_share == shared_prefixes([]).with_previous_share == 0.0
    assert msgspec.structs.astuple(shared_prefixes([b"", b""])) == (2, 0, 0, 0)


@settings(max_examples=5, deadline=None)
@given(st.integers(2, 6))
def test_memory_is_bounded_and_the_estimate_does_not_promise_too_much(most_kept, groups):
    """Of many beginnings a share is kept; what is found is near what is there, and not more."""
    rng = random.Random(groups)
    said = [rng.randbytes(512) for _ in range(3000)]
    said += [text[:256] + rng.randbytes(256) for text in said for _ in range(groups - 1)]
    rng.shuffle(said)
    taken = Prefixes()
    for text in said:
        taken.add(body(text))
    assert max(map(len, taken._kept)) <= most_kept
    true_share = (groups - 1) / groups / 2
    assert 0.8 * true_share < taken.found().with_any_share < 1.02 * true_share


@pytest.fixture(scope="module")
def most_kept():
    """A smaller bound, so that it is met soon."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(prefixes, "MOST_KEPT", 1024)
        yield 1024

"""Which rows go together, and what counts as the same answer or the right one."""

from __future__ import annotations

import json

import pytest
from comparisons import answer, compared, failure, make


def test_two_models_pair_by_id(tmp_path):
    """Their requests have no key in common, as the model is part of it; so the ids decide, whatever the order."""
    a = make(tmp_path / "a", [answer(row, request_key=f"{row + 1:032x}") for row in range(12)])
    rows = [answer(row, custom_id=f"row-{11 - row}", request_key=f"{row + 99:032x}") for row in range(12)]
    pairing = compared(a, make(tmp_path / "b", rows)).pairing
    assert (pairing.rows, pairing.by_custom_id, pairing.same_request_rows) == (12, 12, 0)


def test_other_ids_pair_by_the_request(tmp_path):
    """The same bodies to the same model under other names."""
    a = make(
        tmp_path / "a",
        [answer(row, str(row), custom_id=f"a-{row}", request_key=f"{row + 1:032x}") for row in range(12)],
    )
    rows = [answer(row, str(11 - row), custom_id=f"b-{row}", request_key=f"{12 - row:032x}") for row in range(12)]
    found = compared(a, make(tmp_path / "b", rows))
    assert (found.pairing.by_custom_id, found.pairing.by_request) == (0, 12)
    assert found.pairing.same_request_rows == found.answers.identical == 12


def test_an_id_comes_before_a_request(tmp_path):
    """And no row is taken twice: of what is left the first goes with the first."""
    rows = {"a": ("x", "y", "z"), "b": ("v", "z", "w", "u")}
    answers = {"x": "1", "y": "2", "z": "3", "v": "1", "w": "2", "u": "4"}
    a, b = (
        make(
            tmp_path / side,
            [answer(row, answers[one], custom_id=one, request_key="1" * 32) for row, one in enumerate(ids)],
        )
        for side, ids in rows.items()
    )
    found = compared(a, b)
    pairing = found.pairing
    assert (pairing.by_custom_id, pairing.by_request, pairing.only_in_a, pairing.only_in_b) == (1, 2, 0, 1)
    assert found.answers.identical == 3


def test_rows_without_a_key_pair_by_nothing_else(tmp_path):
    """What could not be sent is the same as nothing else that could not."""
    a, b = (make(tmp_path / side, [answer(0), failure(1, custom_id=side, request_key=None)]) for side in ("a", "b"))
    pairing = compared(a, b).pairing
    assert (pairing.rows, pairing.only_in_a, pairing.only_in_b) == (1, 1, 1)


def test_rows_that_are_missing_have_no_partner(tmp_path):
    """A run that is not at its end is compared as far as it is."""
    a = make(tmp_path / "a", [answer(row) for row in range(4)])
    b = make(tmp_path / "b", [answer(3), failure(1)], rows=4)
    found = compared(a, b)
    assert (found.pairing.rows, found.pairing.only_in_a, found.pairing.only_in_b, found.b.missing) == (2, 2, 0, 2)


def test_made_up_ids_are_told(tmp_path):
    """An input without ids pairs by position."""
    a, b = (make(tmp_path / name, [answer(row) for row in range(3)]) for name in "ab")
    assert compared(a, b).pairing.made_up_ids
    c = make(tmp_path / "c", [answer(row, custom_id=f"row-{row + 1}") for row in range(3)])
    assert not compared(a, c).pairing.made_up_ids


CALL = '[{{"id":"{}","type":"function","function":{{"name":"f","arguments":"{}"}}}}]'


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        ({"content": "x"}, {"content": "x"}, True),
        ({"content": "x"}, {"content": "x "}, False),
        ({"content": "x"}, {"content": None}, False),
        (
            {"content": None, "tool_calls": CALL.format("c1", 1)},
            {"content": None, "tool_calls": CALL.format("c2", 1)},
            True,
        ),
        (
            {"content": None, "tool_calls": CALL.format("c1", 1)},
            {"content": None, "tool_calls": CALL.format("c1", 2)},
            False,
        ),
        ({"content": None, "refusal": "no"}, {"content": None, "refusal": "no"}, True),
        ({"content": None, "refusal": "no"}, {"content": "no"}, False),
        ({"content": None, "tool_calls": "{"}, {"content": None, "tool_calls": "["}, False),
        ({"content": None, "embedding": [1.0, 2.0]}, {"content": None, "embedding": [1.0, 2.0]}, True),
        ({"content": None, "embedding": [1.0, 2.0]}, {"content": None, "embedding": [1.0, 2.5]}, False),
        ({"content": "x", "reasoning_content": "a"}, {"content": "x", "reasoning_content": "b"}, True),
    ],
)
def test_the_same_answer(tmp_path, one, other, same):
    """Words, refusal, calls or vector; not the ids of calls, and not the thoughts; whatever other rows hold."""
    a = make(tmp_path / "a", [answer(0, **one), answer(1)])
    b = make(tmp_path / "b", [answer(0, **other), answer(1, refusal="n"), answer(2, tool_calls="[]", embedding=[0.0])])
    assert compared(a, b).answers.different == (1 if same else 2)


@pytest.mark.parametrize(
    ("content", "expected", "right"),
    [
        ("yes", "yes", True),
        (" yes\n", "yes ", True),
        ("Yes", "yes", False),
        ("yes, it is", "yes", False),
        ("4", 4, True),
        ("true", True, True),
        (None, "yes", False),
        ("", "", True),
    ],
)
def test_the_right_answer(tmp_path, content, expected, right):
    """Is the same text, but for white space around it; what is no text is compared as JSON."""
    kept = json.dumps({"topic": "t", "label": expected})
    a, b = (make(tmp_path / name, [answer(0, content, input=kept)]) for name in "ab")
    found = compared(a, b, column="label")
    assert (found.accuracy.pairs, found.accuracy.both_right) == (1, int(right))


def test_what_is_not_judged(tmp_path):
    """A row that one of them failed, that expects nothing, or that the inputs expect different answers of."""
    inputs = ['{"label":"yes"}', '{"label":null}', '{"label":"yes"}', '{"label":"yes"}']
    a = make(tmp_path / "a", [answer(row, input=text) for row, text in enumerate(inputs)])
    b = make(tmp_path / "b", [answer(0), answer(1), answer(2, input='{"label":"no"}'), failure(3)])
    found = compared(a, b, column="label")
    assert (found.accuracy.pairs, found.accuracy.pairs_expecting_otherwise) == (1, 1)


def test_only_failures(tmp_path):
    """There is nothing to measure, and the failures are compared all the same."""
    a, b = (
        make(tmp_path / name, [failure(row, error_type=f"{kind}") for row in range(3)])
        for name, kind in (("a", "timed_out"), ("b", "overloaded"))
    )
    found = compared(a, b)
    assert {name for name, metric in found.metrics.items() if metric} == {"failures"}
    assert [(move.a, move.b, move.rows) for move in found.moves] == [("timed_out", "overloaded", 3)]
    assert found.moves[0].examples[0].a_message == "timed_out of row 0"
    assert found.a.cost_usd is None


def test_a_total_that_is_not_stated(tmp_path):
    """Is that of prompt and completion; where one of these is not known either, the pair is left out."""
    a = make(tmp_path / "a", [answer(0, total_tokens=None), answer(1)])
    b = make(tmp_path / "b", [answer(0), answer(1, total_tokens=None, prompt_tokens=None)])
    total = compared(a, b).metrics["total_tokens"]
    assert (total.pairs, total.a, total.b) == (1, 10, 10)


def test_counts_that_no_float_holds_are_rounded(tmp_path):
    """An endpoint may state any number of tokens."""
    a = make(tmp_path / "a", [answer(0, total_tokens=2**63 - 1)])
    b = make(tmp_path / "b", [answer(0, total_tokens=2**62)])
    total = compared(a, b).metrics["total_tokens"]
    assert (total.a, total.b, total.ratio) == (2.0**63, 2.0**62, 0.5)


def test_a_failure_and_back(tmp_path):
    """Each way is told apart, with the message of whichever failed."""
    a = make(tmp_path / "a", [answer(0), failure(1), failure(2)])
    b = make(tmp_path / "b", [failure(0), answer(1), answer(2)])
    moves = compared(a, b).moves
    assert [(move.a, move.b, move.rows) for move in moves] == [("server_error", None, 2), (None, "server_error", 1)]
    assert (moves[0].examples[0].custom_id, moves[0].examples[0].b_message) == ("row-1", None)
    assert (moves[1].examples[0].custom_id, moves[1].examples[0].b_message) == ("row-0", "server_error of row 0")


def test_the_example_is_of_the_row_that_moved(tmp_path):
    """Also where it stands elsewhere in the other input."""
    a = make(tmp_path / "a", [answer(0), answer(1)])
    b = make(tmp_path / "b", [answer(0, custom_id="row-1"), failure(1, custom_id="row-0", error_message="mine")])
    (move,) = compared(a, b).moves
    assert [(one.custom_id, one.b_message) for one in move.examples] == [("row-0", "mine")]


def test_examples_are_cut(tmp_path):
    """A long answer does not fill the page."""
    a, b = (make(tmp_path / name, [answer(0, name * 10_000)]) for name in "ab")
    (example,) = compared(a, b).answers.examples
    assert (example.a, example.b) == ("a" * 200, "b" * 200)


def test_settings_that_differ_are_named(tmp_path):
    """What shapes requests or their pace; not where the folder is."""
    a = make(tmp_path / "a", [answer(0)], output="x", limits={"concurrency": 8, "adaptive": True})
    request = {"model": "m", "params": {"temperature": 1}}
    b = make(tmp_path / "b", [answer(0)], output="y", limits={"concurrency": 9, "adaptive": False}, request=request)
    said = [(one.key, one.a, one.b) for one in compared(a, b).settings]
    assert said == [("limits.concurrency", "8", "9"), ("request.params.temperature", "null", "1")]

"""Conversations: the first turn is asked, the others wait, and one key stands for all of them."""

from __future__ import annotations

import json
from hashlib import blake2b

import pytest
from rows import ELSEWHERE, prompt, refusal, renderer

TOOLS = [{"type": "function", "function": {"name": "f"}}]


def test_the_first_turn_is_asked_and_the_others_follow():
    """The body is that of a prompt; what the user says later comes along as texts."""
    request = renderer(system="S").render(prompt(turns=["a", "b", "ç"]))
    assert request.body == renderer(system="S").render(prompt(prompt="a")).body
    assert request.turns == ("b", "ç")


def test_a_row_of_turns_has_its_own_system_model_and_params():
    """Row keys override the configuration, as for other forms."""
    row = {"turns": ["a", "b"], "system": "R", "model": "r", "params": {"seed": 1}}
    request = renderer(system="S").render(prompt(**row))
    assert json.loads(request.body) == {
        "model": "r",
        "messages": [{"role": "system", "content": "R"}, {"role": "user", "content": "a"}],
        "max_tokens": 9,
        "seed": 1,
    }


def test_turns_may_be_json_text():
    """A CSV cell or a text column of Parquet cannot hold them otherwise."""
    assert renderer().render(prompt(turns='["a", "b"]')) == renderer().render(prompt(turns=["a", "b"]))


def test_one_turn_is_a_prompt():
    """Nothing follows it, so it is the same request."""
    assert renderer().render(prompt(turns=["a"])) == renderer().render(prompt(prompt="a"))


def test_turns_are_a_form():
    """They are counted as such."""
    assert renderer().form(prompt(turns=["a"])) == "turns"


def test_the_key_is_of_all_turns():
    """Hash of endpoint, path, first body, a NUL and the JSON of the remaining turns."""
    request = renderer().render(prompt(turns=["a", "b"]))
    hashed = f"{ELSEWHERE}\0/chat/completions\0".encode() + request.body + b'\0["b"]'
    assert request.request_key == blake2b(hashed, digest_size=16).hexdigest()


def test_other_turns_have_another_key():
    """Also where the first turn is the same, or the same words are cut in other places."""
    rows = [["a"], ["a", "b"], ["a", "c"], ["a", "b", "c"], ["a", 'b","c']]
    assert len({renderer().render(prompt(turns=turns)).request_key for turns in rows}) == len(rows)


def test_a_stream_of_turns_is_a_stream():
    """How the answer is asked for is the same for each turn."""
    request = renderer(stream="always").render(prompt(turns=["a", "b"]))
    assert (request.stream, json.loads(request.body)["stream"]) == (True, True)


@pytest.mark.parametrize(
    ("row", "why"),
    [
        ({"turns": "hello"}, "turns is text that is not JSON"),
        ({"turns": {"a": 1}}, "turns is not a list with at least one text"),
        ({"turns": []}, "turns is not a list with at least one text"),
        ({"turns": 5}, "turns is not a list with at least one text"),
        ({"turns": ["a", ""]}, "turns[1] is empty text, not text"),
        ({"turns": ["a", None]}, "turns[1] is null, not text"),
        ({"turns": ["a", {"role": "user", "content": "b"}]}, "turns[1] is an object, not text"),
        ({"turns": ["a", "\ud83d"]}, "lone surrogate"),
        ({"turns": ["a"], "messages": []}, "the row has `messages`, `turns`, which exclude each other"),
        ({"turns": ["a"], "prompt": "b"}, "the row has `prompt`, `turns`, which exclude each other"),
        ({"turns": ["a", "b"], "params": {"n": 2}}, "n is more than 1, and only one answer can be followed"),
        ({"turns": ["a", "b"], "params": {"tools": TOOLS}}, "turns go with tools, whose calls nobody would answer"),
        ({"turns": ["a", "b"], "params": {"functions": [{"name": "f"}]}}, "turns go with tools"),
    ],
)
def test_unusable_turns_are_refused(row, why):
    """Before anything is sent, with the line."""
    assert why in refusal(row).message


def test_configured_choices_and_tools_exclude_turns_too():
    """Wherever they were asked for."""
    assert "n is more than 1" in refusal({"turns": ["a", "b"]}, params={"n": 2}).message
    assert "turns go with tools" in refusal({"turns": ["a", "b"]}, params={"tools": TOOLS}).message


def test_no_tools_and_one_choice_are_fine():
    """An empty list of tools calls nothing."""
    assert renderer(params={"n": 1, "tools": []}).render(prompt(turns=["a", "b"])).turns == ("b",)

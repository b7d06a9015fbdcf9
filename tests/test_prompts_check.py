"""The pass before the first request: counts, problems, fingerprint, duplicate ids."""

from __future__ import annotations

import json
from array import array

import pytest

from batchrun.config import check_config
from batchrun.errors import PromptError
from batchrun.prompts import open_prompts
from batchrun.prompts.check import _refuse_duplicates, check
from batchrun.prompts.render import Renderer


@pytest.fixture
def run(tmp_path):
    """Check some rows; bytes are taken as a line as they stand."""
    request = {"model": "m", "params": {"max_tokens": 9, "temperature": 0}}

    def run(*rows):
        lines = [row if isinstance(row, bytes) else json.dumps(row).encode() for row in rows]
        (tmp_path / "in.jsonl").write_bytes(b"".join(line + b"\n" for line in lines))
        renderer = Renderer(
            check_config({"input": "x", "endpoint": {"base_url": "http://localhost:1/v1"}, "request": request})
        )
        return check(open_prompts(str(tmp_path / "in.jsonl")), renderer)

    return run


def test_rows_models_and_forms_are_counted(run):
    """Invalid rows are rows, but have neither a model nor a form."""
    messages = [{"role": "user", "content": "q"}]
    others = {"body": {"messages": messages}}, {"turns": ["a", "b"]}
    checked = run({"prompt": "p"}, {"prompt": "p", "model": "n"}, b"{", *others)
    assert (checked.rows, checked.invalid) == (5, 1)
    assert checked.models == {"m": 3, "n": 1}
    assert checked.forms == {"prompt": 2, "fireworks_batch": 1, "turns": 1}


def test_the_first_request_is_kept_to_be_shown(run):
    """It is that of the first valid row."""
    assert run(b"{", {"prompt": "p", "custom_id": "x"}, {"prompt": "q"}).first.custom_id == "x"


def test_problems_are_collected_not_raised(run):
    """Reading and rendering problems alike, at most twenty of them, all counted; the caller decides."""
    checked = run(*([b"{", {"label": "x"}] * 15), {"prompt": "p"})
    assert (checked.rows, checked.invalid, len(checked.problems)) == (31, 30, 20)
    assert [problem.index for problem in checked.problems] == list(range(20))
    assert all(problem.__traceback__ is None for problem in checked.problems)


def test_every_problem_has_its_line(run, tmp_path):
    """Also those of images, turns and bodies that are found only when a row is rendered."""
    image = [{"type": "image_url", "image_url": {"url": "a.png"}}]
    checked = run(
        {"turns": []},
        {"messages": [{"role": "user", "content": image}]},
        {"url": "/v1/embeddings", "method": "POST", "body": {"input": ["a", "b"]}},
        {"turns": ["a", "b"], "params": {"n": 2}},
        {"prompt": "p", "params": {"stream_options": 1}},
    )
    assert checked.invalid == 5
    places = [f"{tmp_path / 'in.jsonl'}:{number}" for number in range(1, 6)]
    assert [problem.where for problem in checked.problems] == places
    assert all(str(problem).startswith(problem.where + ": ") and problem.remedy for problem in checked.problems)


def test_an_input_of_bad_rows_alone_has_no_first_request(run):
    """It is still checked to its end."""
    assert run(b"{").first is None


def test_an_input_without_rows_is_refused(run):
    """Blank lines are no rows."""
    with pytest.raises(PromptError, match=r"in\.jsonl: holds no rows"):
        run(b"", b"  ")


def test_duplicate_ids_name_both_places(run):
    """Before anything is sent."""
    with pytest.raises(PromptError) as caught:
        run({"custom_id": "a", "prompt": "1"}, {"custom_id": "b", "prompt": "2"}, {"custom_id": "a", "prompt": "1"})
    message = caught.value.message
    assert "1 row repeats the custom_id of another row: 'a' at" in message
    assert "in.jsonl:1 and" in message
    assert message.endswith("in.jsonl:3")


def test_duplicate_ids_and_other_problems_are_told_at_once(run):
    """Nobody mends an input twice."""
    with pytest.raises(PromptError) as caught:
        run({"custom_id": "a", "prompt": "1"}, b"not json", {"custom_id": "a", "prompt": "1"})
    assert caught.value.message.splitlines()[1].endswith("in.jsonl:2: not JSON: expecting value at column 1")


def test_an_id_that_looks_like_a_made_one_is_a_duplicate_of_it(run):
    """Made ids are ids."""
    with pytest.raises(PromptError, match="'row-1' at"):
        run({"custom_id": "row-1", "prompt": "p"}, {"prompt": "q"})


def test_numbers_and_their_text_are_the_same_id(run):
    """As ids are text."""
    with pytest.raises(PromptError, match="'7' at"):
        run({"custom_id": "7", "prompt": "p"}, {"custom_id": 7, "prompt": "q"})


def test_an_unusable_row_holds_its_id(run):
    """A row that cannot be rendered is a duplicate all the same: its failure would stand under that id."""
    with pytest.raises(PromptError, match="'a' at"):
        run({"custom_id": "a", "prompt": "p"}, {"custom_id": "a", "label": "x"})


def test_many_duplicates_are_counted_and_five_named(run):
    """The message stays readable."""
    with pytest.raises(PromptError) as caught:
        run(*({"custom_id": f"{n % 50}", "prompt": "p"} for n in range(150)))
    assert "100 rows repeat" in caught.value.message
    assert caught.value.message.count(" and ") == 5
    assert caught.value.message.endswith("…")


def test_ids_that_only_share_their_hash_are_no_duplicates(tmp_path):
    """Where a hash repeats, the ids themselves are read again and decide."""
    # as if "b" had the hash of "a"
    (tmp_path / "in.jsonl").write_text('{"custom_id": "a"}\n{"custom_id": "b"}\n')
    prompts = open_prompts(str(tmp_path / "in.jsonl"))
    collided = array("q", [hash("a"), hash("a")])
    _refuse_duplicates(prompts, collided, [])


ROW = {"custom_id": "a", "prompt": "p"}


@pytest.mark.parametrize(
    "other",
    [
        [{"custom_id": "a", "prompt": "q"}],
        [{"custom_id": "b", "prompt": "p"}],
        [{"custom_id": "a", "prompt": "p", "params": {"seed": 1}}],
        [{"custom_id": "a", "turns": ["p", "q"]}],
        [ROW, {"prompt": "p"}],
        [ROW, b"{"],
        [b"{", ROW],
    ],
)
def test_the_fingerprint_changes_with_the_input(run, other):
    """Another id, request, row, or order is another input."""
    assert run(*other).fingerprint != run(ROW).fingerprint


def test_the_fingerprint_knows_the_order(run):
    """The index of a row is its place."""
    other = {"custom_id": "b", "prompt": "p"}
    assert run(ROW, other).fingerprint != run(other, ROW).fingerprint


def test_the_fingerprint_ignores_what_is_not_sent(run):
    """A label, spaces and the order of keys do not make another run."""
    assert run(b'{ "prompt":"p", "label": 1, "custom_id":"a" }').fingerprint == run(ROW).fingerprint


def test_the_fingerprint_is_the_same_tomorrow(run):
    """It is compared with that of an earlier run, so it may never depend on the process."""
    assert run(ROW, {"prompt": "é"}, b"{").fingerprint == "1232affd4a5ded68f0469c2a7c8e262d"

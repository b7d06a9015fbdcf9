"""Structured answers: what is checked, what is asked once more, and what a schema file has to be."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest
import virtual_time
from engines import COST_USD, USAGE, Engine, completion, conversation, server_error

from batchrun.config import ValidateConfig
from batchrun.engine.validity import Validity
from batchrun.errors import ConfigError

PERSON = {
    "type": "object",
    "properties": {"name": {"type": "string", "pattern": "^[A-Z]"}, "tags": {"type": "array", "uniqueItems": True}},
    "required": ["name"],
    "additionalProperties": False,
}


def schema_file(tmp_path, schema) -> str:
    """A file that holds a schema, or any text."""
    path = tmp_path / "schema.json"
    path.write_text(schema if isinstance(schema, str) else json.dumps(schema), encoding="utf-8")
    return str(path)


def fitting(tmp_path, schema) -> Validity:
    """A check against a schema."""
    return Validity(ValidateConfig(schema=schema_file(tmp_path, schema)))


def words(validity, content, **values) -> str | None:
    """What is wrong with an answer of this text."""
    problem = validity.problem(completion(content=content, **values))
    return problem.message if problem else None


def run(script, tap=1, *, validity=None, **sections):
    """Run an engine to its end in virtual time; answers have to be JSON."""

    async def to_the_end():
        return await Engine(script, tap, validity=validity or Validity(ValidateConfig(json=True)), **sections).run()

    return virtual_time.run(to_the_end())


# What an answer has to be


@pytest.mark.parametrize("content", ["{}", " [1, 2.5, null]\n", '"text"', "0"])
def test_json_is_valid(content):
    """Any JSON value, with white space around it."""
    assert words(Validity(ValidateConfig(json=True)), content) is None


@pytest.mark.parametrize("content", ["", "yes", "{", "{'a': 1}", "```json\n{}\n```", "NaN", '"\ud800"', "[" * 100_000])
def test_what_is_no_json_is_invalid(content):
    """Python's own words for numbers, fences around it and what nests without end are none."""
    problem = Validity(ValidateConfig(json=True)).problem(completion(content=content))
    assert (problem.error_type, problem.error_code) == ("response_invalid", "not_json")
    assert problem.message.startswith("the answer is not JSON: ")
    assert len(problem.message) < 300


@pytest.mark.parametrize(("values", "said"), [({"tool_calls": "[]"}, "a call of a tool"), ({}, "no text")])
def test_an_answer_without_text_is_no_json(values, said):
    """The message says what came instead."""
    assert words(Validity(ValidateConfig(json=True)), None, **values) == f"the answer is {said} and not JSON"


def test_nothing_is_checked_where_nothing_is_asked_for():
    """`json: false` without a schema is as if it was not there."""
    assert words(Validity(ValidateConfig()), "yes") is None


@pytest.mark.parametrize("answer", [{"name": "Ada"}, {"name": "Ada", "tags": [1, True, "1", [1], {"a": 1}]}])
def test_what_fits_the_schema_is_valid(tmp_path, answer):
    """Nothing is said of it."""
    assert words(fitting(tmp_path, PERSON), json.dumps(answer)) is None


@pytest.mark.parametrize(
    ("answer", "said"),
    [
        ([], "$: [] is not of type 'object'"),
        ({}, "$: 'name' is a required property"),
        ({"name": "ada"}, "$.name: 'ada' does not match '^[A-Z]'"),
        ({"name": "A", "age": 3}, "$: has a property 'age', which is not in the schema"),
        ({"name": "A", "tags": [1, 1.0]}, "$.tags: has items that are equal"),
        ({"name": "A", "tags": [{"a": [1]}, {"a": [1]}]}, "$.tags: has items that are equal"),
        ({"name": "a" * 10_000}, "$.name: does not fit pattern: '^[A-Z]'"),
    ],
)
def test_what_does_not_fit_is_said_with_its_place(tmp_path, answer, said):
    """A JSON path and what was expected there, in few words however long the answer is."""
    problem = fitting(tmp_path, PERSON).problem(completion(content=json.dumps(answer)))
    assert (problem.error_code, problem.message) == ("schema", f"the answer does not fit the schema: {said}")


@pytest.mark.parametrize(
    ("schema", "fits", "fails"),
    [
        ({"patternProperties": {"^n_": {"type": "integer"}}}, {"n_a": 1, "b": "x"}, {"n_a": "x"}),
        ({"patternProperties": {"^n_": {}}, "additionalProperties": False}, {"n_a": 1}, {"n_a": 1, "b": 1}),
        ({"properties": {"a": {}}, "additionalProperties": {"type": "null"}}, {"a": 1, "b": None}, {"b": 1}),
        ({"$ref": "#/$defs/n", "$defs": {"n": {"type": "integer"}}}, 3, "3"),
        ({"$ref": "#/shared/n", "shared": {"n": {"type": "integer"}}}, 3, "3"),
        ({"$ref": "#tree", "$defs": {"t": {"$anchor": "tree", "items": {"$ref": "#tree"}}}}, [[]], None),
        ({"$schema": "http://json-schema.org/draft-07/schema#", "items": [{"type": "null"}]}, [None], [1]),
        ({"type": "string", "pattern": r"\p{Lu}$"}, "É", "é"),
        ({"uniqueItems": False}, [1, 1], None),
        ({"pattern": "^a", "uniqueItems": True, "patternProperties": {"a": {}}, "additionalProperties": False}, 3, ""),
    ],
)
def test_keywords_of_schemas_are_kept(tmp_path, schema, fits, fails):
    """Also those that are looked after differently from the library, and references within the file."""
    validity = fitting(tmp_path, schema)
    assert words(validity, json.dumps(fits)) is None
    assert fails is None or words(validity, json.dumps(fails))


# Hostile answers


@pytest.mark.parametrize(
    ("schema", "answer", "valid"),
    [
        ({"pattern": "^(a+)+$"}, "a" * 50_000 + "!", False),
        ({"patternProperties": {"^(a+)+$": False}}, {"a" * 50_000 + "!": 1}, True),
        ({"patternProperties": {"^(a|a)*$": {}}, "additionalProperties": False}, {"a" * 50_000 + "!": 1}, False),
        ({"uniqueItems": True}, [{"a": number} for number in range(20_000)], True),
    ],
)
def test_no_answer_keeps_the_check_busy(tmp_path, schema, answer, valid):
    """Patterns that backtrack for ever, and comparing each item with each: this test ends."""
    assert (words(fitting(tmp_path, schema), json.dumps(answer)) is None) == valid


def test_what_cannot_be_checked_is_invalid(tmp_path):
    """A number beyond all floats, and nesting that follows a schema down: invalid, no bug."""
    assert "cannot be checked: OverflowError" in words(fitting(tmp_path, {"multipleOf": 0.1}), "9" * 400)
    nested = {"items": {"$ref": "#"}}
    assert "cannot be checked: RecursionError" in words(fitting(tmp_path, nested), "[" * 900 + "]" * 900)


# What a schema file has to be


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{\n"type": }', r"schema\.json:2: is not JSON"),
        ("[" * 100_000, r"schema\.json: is not JSON"),
        ("[]", "it holds no object"),
        ({"type": "strng"}, r"can be used: \$\.type: 'strng' is not valid"),
        ({"properties": {"a": {"pattern": "(?=a)"}}}, r"can be used: \$\.properties\.a\.pattern: .*\(\?="),
        ({"patternProperties": {r"(a)\1": {}}}, "can be used: .*invalid escape"),
        ({"$ref": "#/shared/x", "shared": {"x": {"pattern": "(?!a)"}}}, "can be used: .*invalid perl operator"),
        ({"$ref": "https://example.org/schema"}, "refers to 'https://example.org/schema', which is not in it"),
        ({"items": {"$ref": "#/$defs/none"}}, "refers to '/\\$defs/none', which is not in it"),
        ({"$schema": "http://json-schema.org/draft-04/schema#"}, "draft before 6"),
        ({"patternProperties": {"a": {}}, "items": {"unevaluatedProperties": False}}, "has both"),
        ({"$ref": "#node"}, "it refers to 'node', which is not in it"),
        ({"$ref": "#"}, "goes round in circles"),
        ({"$ref": "#/a/b", "a": 3}, "can be used: 'int' object"),
        ({"$schema": 5}, "can be used: 'int' object"),
        ({"$id": 3}, "can be used: 'int' object"),
    ],
)
def test_a_file_that_is_no_schema_is_refused_before_anything_is_sent(tmp_path, text, said):
    """With the file, the line or the path in it, and what to do."""
    with pytest.raises(ConfigError, match=said) as refused:
        fitting(tmp_path, text)
    assert "schema.json" in refused.value.message
    assert refused.value.remedy
    assert len(refused.value.message) < 400


def test_a_missing_file_is_refused(tmp_path):
    """It is named, with the key that names it."""
    with pytest.raises(ConfigError, match=r"request\.validate\.schema: .*none\.json: No such file"):
        Validity(ValidateConfig(schema=str(tmp_path / "none.json")))


def test_bytes_that_are_no_text_are_refused(tmp_path):
    """As no JSON."""
    (tmp_path / "schema.json").write_bytes(b'{"title": "\xff"}')
    with pytest.raises(ConfigError, match="is not JSON"):
        Validity(ValidateConfig(schema=str(tmp_path / "schema.json")))


def test_the_library_is_loaded_only_where_there_is_a_schema():
    """JSON alone needs neither jsonschema nor pyarrow."""
    code = (
        "import sys; from batchrun.engine.validity import Validity; from batchrun.config import ValidateConfig;"
        "Validity(ValidateConfig(json=True)); print(*sys.modules)"
    )
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert {"jsonschema", "pyarrow", "referencing"} & set(loaded) == set()


# What becomes of a row


def test_an_invalid_answer_is_asked_for_once_more_at_once():
    """The second answer is the row's; the first was charged, and is in the log."""
    engine = run(lambda sent: (1.0, completion(content="{}" if sent.number == 2 else "no")))
    record = engine.records[0]
    assert (record.error_type, record.content, record.attempts) == (None, "{}", 2)
    assert record.cost_usd == 2 * COST_USD
    assert json.loads(record.attempt_log)[0]["error_code"] == "not_json"
    assert engine.ended_at == pytest.approx(2.0, abs=0.001)


def test_two_invalid_answers_are_a_failure_that_keeps_the_text():
    """With the usage of the last and the cost of both; the text is cut at 2 KiB like that of other failures."""
    engine = run(lambda _: (1.0, completion(content="no" * 5_000, response="{…}")), retry={"max_attempts": 9})
    record = engine.records[0]
    assert (record.error_type, record.error_code, record.attempts) == ("response_invalid", "not_json", 2)
    assert (record.response, record.content) == ("no" * 1024, None)
    assert (record.cost_usd, record.prompt_tokens, record.usage_source) == (2 * COST_USD, 100, "endpoint")
    assert (record.status_code, record.latency_s) == (200, pytest.approx(1.0))


@pytest.mark.parametrize(("values", "source"), [({"usage": None}, "missing"), ({"usage_estimated": True}, "estimated")])
def test_an_invalid_answer_was_charged_whatever_is_known_of_it(values, source):
    """Its usage is missing or estimated like that of a valid one."""
    record = run(lambda _: (1.0, completion(**values))).records[0]
    assert (record.error_type, record.usage_source) == ("response_invalid", source)


def test_an_answer_that_was_cut_off_is_not_asked_for_again():
    """The same limit would cut it off again: one attempt, and the message says so."""
    record = run(lambda _: (1.0, completion(content='{"a": [1,', finish_reason="length"))).records[0]
    assert (record.error_type, record.attempts) == ("response_invalid", 1)
    assert "raise max_tokens" in record.error_message


def test_other_errors_between_do_not_bring_another_chance():
    """Invalid, 500, invalid: the row has been asked for a valid answer twice."""
    record = run(lambda sent: (0.1, server_error() if sent.number == 2 else completion())).records[0]
    assert (record.error_type, record.attempts) == ("response_invalid", 3)


def test_an_answer_that_is_invalid_is_an_answer():
    """The endpoint works: the ceiling grows, and nobody takes it for dead."""
    engine = run(lambda _: (0.1, completion()), 49, limits={"concurrency": 128})
    assert engine.turnstile.ceiling.limit > 64
    assert (engine.fulfiller.counts.succeeded, engine.pool.cause) == (98, None)


def test_only_the_last_turn_of_a_conversation_is_checked():
    """Talk may come before the answer that counts; a failure there leaves the finished turns."""
    answers = {1: "talk", 2: "{}"}
    good = run(lambda sent: (0.1, completion(content=answers[sent.number])), iter([conversation(0, "Q2")]))
    assert (good.records[0].error_type, good.records[0].content) == (None, "{}")
    tap = (one for one in [conversation(0, "Q2")])
    bad = run(lambda sent: (0.1, completion(content="talk")), tap).records[0]
    assert (bad.error_type, bad.attempts, bad.prompt_tokens) == ("response_invalid", 3, 2 * USAGE.prompt_tokens)
    assert (len(json.loads(bad.turn_log)), bad.response) == (1, "talk")

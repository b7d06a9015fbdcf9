"""Templates: filling in columns, naming what is missing, and what they may not do."""

from __future__ import annotations

import json

import pytest

from batchrun.config import check_config
from batchrun.errors import ConfigError, PromptError
from batchrun.prompts.render import Renderer
from batchrun.types import Prompt


def renderer(template):
    """Configure a run with this template."""
    return Renderer(check_config({"input": "x", "request": {"model": "m", "template": template}}))


def fill_in(template, **row):
    """Render a row to the text of its user message."""
    request = renderer(template).render(Prompt(index=0, custom_id="a", where="in.csv:2", row=row))
    (message,) = json.loads(request.body)["messages"]
    return message["content"]


def refusal(template, **row):
    """Render a row that the template cannot take; its place is known."""
    with pytest.raises(PromptError) as caught:
        fill_in(template, **row)
    assert (caught.value.where, caught.value.index, caught.value.custom_id) == ("in.csv:2", 0, "a")
    return caught.value


def test_columns_are_filled_in():
    """The text becomes the user message; nothing is escaped, the last line break stays."""
    assert fill_in("Sort: {{ text }} ({{ n + 1 }})\n", text="<b> & 'q'", n=1) == "Sort: <b> & 'q' (2)\n"


def test_a_template_takes_any_row():
    """With a template, `messages`, `prompt` and `body` are columns like others."""
    assert fill_in("{{ body }}/{{ prompt }}", body="mail text", prompt="p") == "mail text/p"


def test_json_text_stays_text():
    """A column that happens to hold JSON is filled in as it stands."""
    assert fill_in("{{ body }}", body='{"a": 1}') == '{"a": 1}'


def test_a_name_that_is_no_identifier_is_reached_through_row():
    """CSV headers have spaces."""
    assert fill_in('{{ row["Order no."] }}', **{"Order no.": "7"}) == "7"


def test_a_missing_column_is_named_with_the_nearest():
    """A misspelt column says what there is, and which was meant."""
    error = refusal("{{ customer_mesage }}", customer_message="x", label="y")
    assert "'customer_mesage' is undefined; columns here: `customer_message`, `label`" in error.message
    assert error.remedy == "did you mean `customer_message`?"


def test_a_missing_column_of_row_is_named_too():
    """Also through `row`."""
    assert refusal('{{ row["Order no"] }}', **{"Order no.": "7"}).remedy == "did you mean `Order no.`?"


def test_a_null_is_not_printed():
    """`None` in a prompt would be paid for and useless; the null column is named."""
    assert refusal("{{ note }}", note=None, text="x").message.endswith("; null: `note`")


def test_a_null_can_be_asked_for():
    """Optional columns are optional."""
    assert fill_in("{% if note %}{{ note }}{% else %}-{% endif %}{{ note or '?' }}", note=None) == "-?"


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ 1 / n }}", "ZeroDivisionError"),
        ("{{ range(999999) | list }}", "OverflowError"),
        ("{{ text.__class__.__mro__ }}", "SecurityError"),
        ("{{ row.clear() }}", "SecurityError"),
        ("{{ ('%' ~ 'd') | format(text) }}", "TypeError"),
        ("{{ text + n }}", "TypeError"),
    ],
)
def test_a_template_that_fails_spoils_its_row_alone(template, why):
    """Whatever it raises is an error of that row."""
    assert why in refusal(template, n=0, text="x").message


@pytest.mark.parametrize(
    ("template", "why"),
    [
        ("{{ text", "request.template, line 1: unexpected end of template"),
        ("a\n{% for x in y %}", "request.template, line 2"),
        ("{{ text | nonsense }}", "No filter named 'nonsense'"),
        ("{% include 'x' %}", "refers to another template"),
        ("{% extends '/etc/passwd' %}", "refers to another template"),
        ("{% import x as y %}", "refers to another template"),
        ("{{ " + "(" * 5000, "does not compile"),
    ],
)
def test_a_template_that_does_not_compile_is_an_error_of_the_configuration(template, why):
    """Found before the first row is read."""
    with pytest.raises(ConfigError, match=why.replace(".", r"\.")) as caught:
        renderer(template)
    assert caught.value.remedy


@pytest.mark.parametrize("template", ["{{ [1, 2] | random }}", "{{ lipsum() }}"])
def test_a_template_cannot_roll_dice(template):
    """The same row must give the same request, or a resumed run would pay again."""
    with pytest.raises((ConfigError, PromptError)):
        fill_in(template)


def test_rows_are_no_templates():
    """What a row holds is data: it is never rendered itself."""
    assert fill_in("{{ text }}", text="{{ 7 * 7 }}") == "{{ 7 * 7 }}"

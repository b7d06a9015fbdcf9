"""What a row wants to say, checked before it is paid for: messages, turns, and the one text of the other APIs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.prompts.unfit import kind, names, unfit

if TYPE_CHECKING:
    from batchrun.types import Prompt

SYSTEM_ROLES = frozenset({"system", "developer"})
_ROLES = SYSTEM_ROLES | {"user", "assistant", "tool", "function"}


def parsed(prompt: Prompt, column: str) -> Any:
    """Take a value that may stand as JSON text, for a CSV cell or a Parquet column of text cannot hold it otherwise."""
    value = prompt.row[column]
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        problem = f"{column} is text that is not JSON: {error}"
        raise unfit(prompt, problem, f"write {column} as JSON") from error


def check_messages(prompt: Prompt, messages: Any, place: str = "messages") -> None:
    """Refuse what every endpoint would refuse: unknown roles, messages without content. Other keys are not looked at.

    Raises:
        PromptError: it names the message, under the name of the `place` where all of them stand.
    """
    if not isinstance(messages, list) or not messages:
        raise unfit(prompt, f"{place} is not a list with at least one message", 'write [{"role": …, "content": …}]')
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise unfit(prompt, f"{place}[{number}] is {kind(message)}, not an object", "give it a role and content")
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in _ROLES:
            problem = f"{place}[{number}].role is {names([role]) if isinstance(role, str) else kind(role)}"
            raise unfit(prompt, problem, "known roles: " + ", ".join(sorted(_ROLES)))
        if content is None:
            if role != "assistant" and "content" not in message:
                raise unfit(prompt, f"{place}[{number}] has no content but {names(message)}", "give it a content")
        elif not isinstance(content, str | list):
            problem = f"{place}[{number}].content is {kind(content)}, neither text nor a list"
            raise unfit(prompt, problem, "write it as text, or as a list of parts")


def check_turns(prompt: Prompt, turns: Any) -> None:
    """Refuse turns that are no list of texts; raises PromptError."""
    remedy = 'write what the user says, turn after turn: ["first question", "second question"]'
    if not isinstance(turns, list) or not turns:
        raise unfit(prompt, "turns is not a list with at least one text", remedy)
    for number, turn in enumerate(turns):
        if not isinstance(turn, str) or not turn:
            raise unfit(prompt, f"turns[{number}] is {kind(turn)}, not text", remedy)


def check_one_text(prompt: Prompt, value: Any, place: str) -> None:
    """Refuse a `prompt` or `input` of a batch body that is not one text, or the tokens of one; raises PromptError."""
    if isinstance(value, str) or (isinstance(value, list) and value and all(type(token) is int for token in value)):
        return
    if isinstance(value, list) and value:
        raise unfit(prompt, f"{place} is a list, and each row has one answer", "write one row a text")
    raise unfit(prompt, f"{place} is {kind(value)}, not text", "write it as text")

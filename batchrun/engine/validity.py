"""Is an answer what was asked for: JSON, and JSON that fits a schema?"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.errors import AnswerInvalid

if TYPE_CHECKING:
    from batchrun.config import ValidateConfig
    from batchrun.types import Completion

_SHOWN_CHARS = 200


class Validity:
    """Checks the text of a completion's first choice."""

    def __init__(self, config: ValidateConfig) -> None:
        """Read the schema, if there is one; raises ConfigError where it is none that can be used."""
        self._json, self._schema = config.json or config.schema is not None, None
        if config.schema is not None:
            from batchrun.engine.json_schema import read_schema

            self._schema = read_schema(config.schema)

    def problem(self, completion: Completion) -> AnswerInvalid | None:
        """What is wrong with an answer, with the place in it as a JSON path; None if nothing is."""
        if not self._json:
            return None
        if completion.content is None:
            instead = "a call of a tool" if completion.tool_calls else "no text"
            return _invalid(completion, "not_json", f"the answer is {instead} and not JSON")
        try:
            value = msgspec.json.decode(completion.content)
        except (msgspec.DecodeError, RecursionError, UnicodeEncodeError) as error:
            return _invalid(completion, "not_json", f"the answer is not JSON: {str(error)[:_SHOWN_CHARS]}")
        misfit = self._misfit(value) if self._schema else None
        return _invalid(completion, "schema", f"the answer does not fit the schema: {misfit}") if misfit else None

    def _misfit(self, value: Any) -> str | None:
        """Where a value does not fit the schema and what was expected there, as `$.items[3].name: …`."""
        from jsonschema.exceptions import best_match

        try:
            error = best_match(self._schema.iter_errors(value)) if self._schema else None
        except (RecursionError, ArithmeticError, ValueError) as trouble:
            return f"it cannot be checked: {type(trouble).__name__}"
        if error is None:
            return None
        path, message = error.json_path, error.message
        if len(message) > _SHOWN_CHARS:  # it quotes the answer
            message = f"does not fit {error.validator}: {error.validator_value!r}"
        return f"{path[:_SHOWN_CHARS]}: {message[:_SHOWN_CHARS]}"


def _invalid(completion: Completion, error_code: str, message: str) -> AnswerInvalid:
    if completion.finish_reason == "length":
        message += "; it was cut off by the token limit, and would be again: raise max_tokens"
    return AnswerInvalid(
        message,
        error_type="response_invalid",
        error_code=error_code,
        status_code=completion.status_code,
        request_id=completion.request_id,
        usage=completion.usage,
        response=completion.content or completion.response,
    )

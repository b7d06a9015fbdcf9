"""Prompt → Request: from messages, a prompt, a batch line's body, or a template."""

from __future__ import annotations

import difflib
import re
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal

import msgspec

from batchrun.config import merge_params
from batchrun.errors import ConfigError, PromptError
from batchrun.types import Request

if TYPE_CHECKING:
    import jinja2

    from batchrun.config import Config
    from batchrun.types import Prompt

Form = Literal["messages", "prompt", "openai_batch", "fireworks_batch", "template"]

API_PATHS = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}

_FORM_KEYS = ("messages", "prompt", "body", "turns")
_FORMS_WANTED = "a row needs `messages`, `prompt`, or a batch line's `body`; for other columns set request.template"
_ROLES = frozenset({"system", "developer", "user", "assistant", "tool", "function"})
_SYSTEM_ROLES = frozenset({"system", "developer"})
_NOT_PARAMS = frozenset({"messages", "prompt", "model", "stream"})
_NAMES_SHOWN = 12


class Renderer:
    """Makes the exact bytes that are sent for a prompt, under one configuration.

    Raises:
        ConfigError: the template does not compile.
    """

    def __init__(self, config: Config) -> None:
        self._api = config.endpoint.api
        path = API_PATHS[self._api]
        self._batch_url = "/v1" + path
        self._model = config.request.model
        self._system = config.request.system
        self._params = merge_params(config.request.params, {})
        self._template = None if config.request.template is None else _compile(config.request.template)
        self._keep_columns = config.keep_columns
        self._key_start = blake2b(f"{config.endpoint.base_url}\0{path}\0".encode(), digest_size=16)
        self._encode = msgspec.json.Encoder().encode

    def render(self, prompt: Prompt) -> Request:
        """Make the request of a prompt.

        Raises:
            PromptError: the row cannot become a request; it says where the row stands and what to correct.
        """
        form = self.form(prompt)
        if form in {"openai_batch", "fireworks_batch"}:
            body = self._batch_body(prompt, form)
        else:
            params = self._params_of(prompt)
            body = {"model": self._model_of(prompt), "messages": self._messages(prompt, form), **params}
        encoded = self._encoded(prompt, body)
        key = self._key_start.copy()
        key.update(encoded)
        return Request(
            index=prompt.index,
            custom_id=prompt.custom_id,
            request_key=key.hexdigest(),
            api=self._api,
            model=body["model"],
            body=encoded,
            input=self._input(prompt) if self._keep_columns else None,
        )

    def form(self, prompt: Prompt) -> Form:
        """Tell the form of a row by its keys; a null counts as absent.

        Raises:
            PromptError: the row has no form that is known, or more than one.
        """
        if self._template is not None:
            return "template"
        row = prompt.row
        present = [key for key in _FORM_KEYS if row.get(key) is not None]
        if len(present) != 1:
            if not present:
                raise _unfit(prompt, f"nothing to send: the row has only {_names(row)}", _FORMS_WANTED)
            raise _unfit(prompt, f"the row has {_names(present)}, which exclude each other", "keep one of them")
        if present[0] == "turns":
            raise _unfit(prompt, "turns are not built yet", "send each turn as a row of its own, with `messages`")
        if present[0] == "body":
            return "fireworks_batch" if row.get("url") is None and row.get("method") is None else "openai_batch"
        return "messages" if present[0] == "messages" else "prompt"

    def _batch_body(self, prompt: Prompt, form: Form) -> dict[str, Any]:
        """Take a batch line's body as it is; only a missing model is filled in."""
        row = prompt.row
        if form == "openai_batch" and (row.get("url") != self._batch_url or row.get("method", "POST") != "POST"):
            problem = f"the batch line asks for {row.get('method')} {row.get('url')}"
            raise _unfit(prompt, problem, f"supported is POST {self._batch_url}")
        body = _parsed(prompt, "body")
        if not isinstance(body, dict) or not body:
            raise _unfit(prompt, f"body is {_kind(body)}, not an object with keys", "write the request into it")
        if body.get("stream"):
            raise _unfit(prompt, "body.stream is set, and streams are not built yet", "leave `stream` out")
        if body.get("model") is None:
            return {**body, "model": self._model_of(prompt)}
        if not isinstance(body["model"], str):
            raise _unfit(prompt, f"body.model is {_kind(body['model'])}, not text", "name a model, or leave it out")
        return body

    def _messages(self, prompt: Prompt, form: Form) -> list[Any]:
        messages: list[Any]
        if form == "messages":
            messages = _parsed(prompt, "messages")
            _check_messages(prompt, messages)
        else:
            text = prompt.row["prompt"] if self._template is None else _fill_in(self._template, prompt)
            if not isinstance(text, str):
                raise _unfit(prompt, f"prompt is {_kind(text)}, not text", "write it as text, or use `messages`")
            messages = [{"role": "user", "content": text}]
        system = prompt.row.get("system")
        if system is None:
            system = self._system
        elif not isinstance(system, str):
            raise _unfit(prompt, f"system is {_kind(system)}, not text", "write it as text")
        if system is None or messages[0]["role"] in _SYSTEM_ROLES:
            return messages
        return [{"role": "system", "content": system}, *messages]

    def _model_of(self, prompt: Prompt) -> str:
        model = prompt.row.get("model")
        if model is None:
            model = self._model
        if model is None:
            raise _unfit(prompt, "no model is named", "name one with -m MODEL, or as request.model")
        if not isinstance(model, str) or not model:
            raise _unfit(prompt, f"model is {_kind(model)}, not a name", "name a model, or leave it out")
        return model

    def _params_of(self, prompt: Prompt) -> dict[str, Any]:
        if prompt.row.get("params") is None:
            return self._params
        params = _parsed(prompt, "params")
        if not isinstance(params, dict):
            raise _unfit(prompt, f"params is {_kind(params)}, not an object", 'write e.g. {"max_tokens": 64}')
        if foreign := _NOT_PARAMS & params.keys():
            raise _unfit(prompt, f"params holds {_names(foreign)}, no sampling parameter", "take it out of params")
        return merge_params(self._params, params)

    def _encoded(self, prompt: Prompt, values: Any) -> bytes:
        try:
            return self._encode(values)
        except UnicodeEncodeError as error:
            problem = "the text has a lone surrogate, half of a pair \\ud800-\\udfff, which stands for no character"
            raise _unfit(prompt, problem, "correct that text") from error
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise _unfit(prompt, f"cannot be written as JSON: {error}", "use text, numbers, lists, objects") from error

    def _input(self, prompt: Prompt) -> str:
        row = prompt.row
        if missing := [column for column in self._keep_columns if column not in row]:
            problem = f"keep_columns names {_names(missing)}, but the row has {_names(row)}"
            raise _unfit(prompt, problem, "correct keep_columns, or give every row that column")
        return self._encoded(prompt, {column: row[column] for column in self._keep_columns}).decode()


def _unfit(prompt: Prompt, problem: str, remedy: str) -> PromptError:
    return PromptError(problem, where=prompt.where, index=prompt.index, custom_id=prompt.custom_id, remedy=remedy)


def _names(names: Any) -> str:
    shown = [f"`{name}`" if name.isprintable() else ascii(name) for name in list(names)[:_NAMES_SHOWN]]
    more = len(names) - len(shown)
    return (", ".join(shown) or "no columns") + (f" and {more} more" if more else "")


def _kind(value: Any) -> str:
    kinds = {dict: "an object", list: "a list", str: "text" if value else "empty text", bool: "true or false"}
    return kinds.get(type(value), "null" if value is None else "a number")


def _parsed(prompt: Prompt, column: str) -> Any:
    """Take a value that may stand as JSON text, for a CSV cell or a Parquet column of text cannot hold it otherwise."""
    value = prompt.row[column]
    if not isinstance(value, str):
        return value
    try:
        return msgspec.json.decode(value)
    except (msgspec.DecodeError, UnicodeEncodeError, RecursionError) as error:
        problem = f"{column} is text that is not JSON: {error}"
        raise _unfit(prompt, problem, f"write {column} as JSON") from error


def _check_messages(prompt: Prompt, messages: Any) -> None:
    if not isinstance(messages, list) or not messages:
        raise _unfit(prompt, "messages is not a list with at least one message", 'write [{"role": …, "content": …}]')
    for number, message in enumerate(messages):
        if not isinstance(message, dict):
            raise _unfit(prompt, f"messages[{number}] is {_kind(message)}, not an object", "give it a role and content")
        role, content = message.get("role"), message.get("content")
        if not isinstance(role, str) or role not in _ROLES:
            problem = f"messages[{number}].role is {_names([role]) if isinstance(role, str) else _kind(role)}"
            raise _unfit(prompt, problem, "known roles: " + ", ".join(sorted(_ROLES)))
        if content is None:
            if role != "assistant" and "content" not in message:
                raise _unfit(prompt, f"messages[{number}] has no content but {_names(message)}", "give it a content")
        elif not isinstance(content, str | list):
            problem = f"messages[{number}].content is {_kind(content)}, neither text nor a list"
            raise _unfit(prompt, problem, "write it as text, or as a list of parts")


def _compile(text: str) -> jinja2.Template:
    import jinja2.meta
    from jinja2.sandbox import ImmutableSandboxedEnvironment

    environment = ImmutableSandboxedEnvironment(
        undefined=jinja2.StrictUndefined, autoescape=False, keep_trailing_newline=True, finalize=_refuse_null
    )
    del environment.globals["lipsum"], environment.filters["random"]  # the same row must give the same request
    try:
        if list(jinja2.meta.find_referenced_templates(environment.parse(text))):
            raise ConfigError("request.template refers to another template", remedy="put all of it into one text")
        return environment.from_string(text)
    except jinja2.TemplateSyntaxError as error:
        problem = f"request.template, line {error.lineno}: {error.message}"
        raise ConfigError(problem, remedy="correct it; columns are written {{ column }}") from error
    except (SyntaxError, RecursionError, ValueError, ArithmeticError) as error:
        raise ConfigError(f"request.template does not compile: {error}", remedy="make it simpler") from error


def _refuse_null(value: Any) -> Any:
    if value is None:
        import jinja2

        raise jinja2.UndefinedError("a null would be printed as `None`")
    return value


def _fill_in(template: jinja2.Template, prompt: Prompt) -> str:
    """Fill in the columns of a row; `row` is all of them, for names that are no identifiers: {{ row["Order no."] }}."""
    from jinja2 import UndefinedError

    row = prompt.row
    try:
        return template.render({"row": row, **row})
    except UndefinedError as error:
        nulls = [name for name, value in row.items() if value is None]
        problem = f"the template does not fit the row: {error}; columns here: {_names(row)}"
        missing = re.match(r"'(\w+)' is undefined|.* has no attribute '(.*)'", str(error))
        near = difflib.get_close_matches(missing[1] or missing[2], row, n=1) if missing else []
        remedy = f"did you mean `{near[0]}`?" if near else "correct the template, or give every row that column"
        raise _unfit(prompt, problem + (f"; null: {_names(nulls)}" if nulls else ""), remedy) from error
    except Exception as error:  # a template may raise anything, and one bad row never stops the others
        raise _unfit(prompt, f"the template fails: {type(error).__name__}: {error}", "correct the template") from error

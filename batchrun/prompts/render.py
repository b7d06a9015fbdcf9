"""Prompt → Request: from messages, turns, a prompt, a batch line's body, or a template."""

from __future__ import annotations

import difflib
from functools import partial
from hashlib import blake2b
from typing import TYPE_CHECKING, Any, Literal, cast

import msgspec

from batchrun.config import merge_params
from batchrun.errors import ConfigError, PromptError
from batchrun.prompts.delivery import Delivery, more_than_one
from batchrun.prompts.images import FIREWORKS_LIMITS, OTHER_LIMITS, has_parts, with_images
from batchrun.prompts.messages import SYSTEM_ROLES, check_messages, check_one_text, check_turns, parsed
from batchrun.prompts.template import compile_template, fill_in
from batchrun.prompts.unfit import kind, names, unfit
from batchrun.types import Api, Request

if TYPE_CHECKING:
    from batchrun.config import Config
    from batchrun.types import Prompt

Form = Literal["messages", "prompt", "turns", "input", "openai_batch", "fireworks_batch", "template"]

API_PATHS: dict[Api, str] = {"chat": "/chat/completions", "completions": "/completions", "embeddings": "/embeddings"}

_API_OF_URL = {version + path: api for api, path in API_PATHS.items() for version in ("/v1", "")}
_SAID_IN: dict[Api, str] = {"chat": "messages", "completions": "prompt", "embeddings": "input"}
"""The key of a body that holds what is asked."""

_FORM_KEYS = ("messages", "prompt", "body", "turns")
_FORMS_WANTED = "a row needs {}, or a batch line's `body`; for other columns set request.template"
_NOT_PARAMS = frozenset({"messages", "turns", "prompt", "input", "model", "stream"})
_PARAMS = frozenset(
    {
        "max_tokens",
        "max_completion_tokens",
        "temperature",
        "top_p",
        "top_k",
        "min_p",
        "stop",
        "n",
        "logprobs",
        "tools",
        "tool_choice",
        "functions",
        "response_format",
        "reasoning_effort",
        "frequency_penalty",
        "presence_penalty",
    }
)
"""Who writes one of these beside `messages` means it to be sent."""


class Renderer:
    """Makes the exact bytes that are sent for a prompt, under one configuration.

    Raises:
        ConfigError: the template does not compile, or the parameters contradict the rest.
    """

    def __init__(self, config: Config) -> None:
        self._api = config.endpoint.api
        self._form_keys = (*_FORM_KEYS, "input") if self._api == "embeddings" else _FORM_KEYS
        self._model = config.request.model
        self._system = config.request.system
        self._template = None if config.request.template is None else compile_template(config.request.template)
        self._keep_columns = config.keep_columns
        self._misplaced = frozenset() if self._template else _PARAMS.difference(config.keep_columns)
        documented = config.endpoint.is_fireworks or config.endpoint.simulated
        self._image_limits = FIREWORKS_LIMITS if documented else OTHER_LIMITS
        self._delivery = Delivery(config)
        self._params = merge_params(config.request.params, {})
        self._asked_of_all = self._delivery.ask(self._api, self._params, _contradiction)
        start = config.endpoint.base_url
        self._key_start = {
            api: blake2b(f"{start}\0{path}\0".encode(), digest_size=16) for api, path in API_PATHS.items()
        }
        self._encode = msgspec.json.Encoder().encode

    def render(self, prompt: Prompt, form: Form | None = None) -> Request:
        """Make the request of a prompt, whose form may be known.

        Raises:
            PromptError: the row cannot become a request; it says where the row stands and what to correct.
        """
        form = form or self.form(prompt)
        turns: tuple[str, ...] = ()
        if form in {"openai_batch", "fireworks_batch"}:
            api, body, stream = self._batch_line(prompt, form)
        else:
            api = self._api
            body, stream, turns = self._row(prompt, form)
        encoded = self._encoded(prompt, body)
        key = self._key_start[api].copy()
        key.update(encoded)
        if turns:
            key.update(b"\0" + self._encoded(prompt, turns))
        return Request(
            index=prompt.index,
            custom_id=prompt.custom_id,
            request_key=key.hexdigest(),
            api=api,
            model=body["model"],
            body=encoded,
            input=self._input(prompt) if self._keep_columns else None,
            stream=stream,
            turns=turns,
        )

    def form(self, prompt: Prompt) -> Form:
        """Tell the form of a row by its keys; a null counts as absent.

        Raises:
            PromptError: the row has no form that is known, or more than one.
        """
        if self._template is not None:
            return "template"
        row = prompt.row
        present = [key for key in self._form_keys if row.get(key) is not None]
        if len(present) != 1:
            if present:
                raise unfit(prompt, f"the row has {names(present)}, which exclude each other", "keep one of them")
            raise unfit(prompt, f"nothing to send: the row has only {names(row)}", self._form_remedy(row))
        if present[0] == "body":
            return "fireworks_batch" if row.get("url") is None and row.get("method") is None else "openai_batch"
        return cast("Form", present[0])

    def _form_remedy(self, row: dict[str, Any]) -> str:
        """What to correct in a row that has no form: a key that is nearly one of ours, or else the whole of it."""
        others = [name for name in row if name not in self._form_keys]  # a null is there, and not misspelt
        for key in self._form_keys:
            if near := difflib.get_close_matches(key, others, n=1):
                return f"rename {names(near)} to `{key}`"
        wanted = {"chat": "`messages`, `prompt`, `turns`", "embeddings": "`input`"}.get(self._api, "`prompt`")
        return _FORMS_WANTED.format(wanted)

    def _row(self, prompt: Prompt, form: Form) -> tuple[dict[str, Any], bool, tuple[str, ...]]:
        """The body of a row that is no batch line, whether it is a stream, and the turns that follow."""
        if not self._misplaced.isdisjoint(prompt.row):
            self._refuse_misplaced(prompt, form)
        params, stream = self._asked(prompt)
        model = self._model_of(prompt)
        if self._api != "chat":
            return {"model": model, _SAID_IN[self._api]: self._one_text(prompt, form), **params}, stream, ()
        if form == "turns":
            first, *rest = self._turns(prompt, params)
            messages, turns = [{"role": "user", "content": first}], tuple(rest)
        else:
            messages, turns = self._messages(prompt, form), ()
        return {"model": model, "messages": self._with_system(prompt, messages), **params}, stream, turns

    def _refuse_misplaced(self, prompt: Prompt, form: Form) -> None:
        if misplaced := [key for key in self._misplaced & prompt.row.keys() if prompt.row[key] is not None]:
            remedy = "move it into `params`, or name it in keep_columns if it is no parameter"
            raise unfit(prompt, f"{names(sorted(misplaced))} beside `{form}` would not be sent", remedy)

    def _batch_line(self, prompt: Prompt, form: Form) -> tuple[Api, dict[str, Any], bool]:
        """Take a batch line's body as it is; a missing model is filled in, and what the delivery needs."""
        api = self._api if form == "fireworks_batch" else _api_of(prompt)
        body = parsed(prompt, "body")
        if not isinstance(body, dict) or not body:
            raise unfit(prompt, f"body is {kind(body)}, not an object with keys", "write the request into it")
        said = _SAID_IN[api]
        if api != "chat":
            check_one_text(prompt, body.get(said), f"body.{said}")
        else:
            check_messages(prompt, body.get(said), "body.messages")
            if has_parts(body[said]):
                body = {**body, said: with_images(prompt, body[said], self._image_limits)}
        if body.get("model") is None:
            body = {**body, "model": self._model_of(prompt)}
        elif not isinstance(body["model"], str):
            raise unfit(prompt, f"body.model is {kind(body['model'])}, not text", "name a model, or leave it out")
        return api, *self._delivery.ask(api, body, partial(_unfit_body, prompt))

    def _messages(self, prompt: Prompt, form: Form) -> list[dict[str, Any]]:
        if form != "messages":
            return [{"role": "user", "content": self._text(prompt, form)}]
        messages: list[dict[str, Any]] = parsed(prompt, "messages")
        check_messages(prompt, messages)
        return with_images(prompt, messages, self._image_limits) if has_parts(messages) else messages

    def _with_system(self, prompt: Prompt, messages: list[dict[str, Any]]) -> list[dict[str, Any]]:
        system = prompt.row.get("system")
        if system is None:
            system = self._system
        elif not isinstance(system, str):
            raise unfit(prompt, f"system is {kind(system)}, not text", "write it as text")
        if system is None or messages[0]["role"] in SYSTEM_ROLES:
            return messages
        return [{"role": "system", "content": system}, *messages]

    def _turns(self, prompt: Prompt, params: dict[str, Any]) -> list[str]:
        turns: list[str] = parsed(prompt, "turns")
        check_turns(prompt, turns)
        if more_than_one(params):
            raise unfit(prompt, "n is more than 1, and only one answer can be followed by a turn", "take n away")
        if params.get("tools") or params.get("functions"):
            problem = "turns go with tools, whose calls nobody would answer"
            raise unfit(prompt, problem, "take the tools away, or write the whole history as `messages`")
        return turns

    def _one_text(self, prompt: Prompt, form: Form) -> str:
        """The text of a request that is no conversation."""
        foreign = form if form in {"messages", "turns"} else "system"
        if foreign == form or prompt.row.get("system") is not None:
            remedy = f"write it into `{_SAID_IN[self._api]}`, or set endpoint.api: chat"
            raise unfit(prompt, f"`{foreign}` has no meaning under api {self._api}", remedy)
        return self._text(prompt, form)

    def _text(self, prompt: Prompt, form: Form) -> str:
        text = prompt.row[form] if self._template is None else fill_in(self._template, prompt)
        if not isinstance(text, str):
            remedy = "write it as text, or use `messages`" if self._api == "chat" else "write one text a row"
            raise unfit(prompt, f"{form} is {kind(text)}, not text", remedy)
        return text

    def _model_of(self, prompt: Prompt) -> str:
        model = prompt.row.get("model")
        if model is None:
            model = self._model
        if model is None:
            raise unfit(prompt, "no model is named", "name one with -m MODEL, or as request.model")
        if not isinstance(model, str) or not model:
            raise unfit(prompt, f"model is {kind(model)}, not a name", "name a model, or leave it out")
        return model

    def _asked(self, prompt: Prompt) -> tuple[dict[str, Any], bool]:
        """The parameters of a row with those of the delivery, and whether it is a stream."""
        if prompt.row.get("params") is None:
            return self._asked_of_all
        params = parsed(prompt, "params")
        if not isinstance(params, dict):
            raise unfit(prompt, f"params is {kind(params)}, not an object", 'write e.g. {"max_tokens": 64}')
        if foreign := _NOT_PARAMS & params.keys():
            remedy = "set request.stream instead" if foreign == {"stream"} else "take it out of params"
            raise unfit(prompt, f"params holds {names(foreign)}, no sampling parameter", remedy)
        return self._delivery.ask(self._api, merge_params(self._params, params), partial(unfit, prompt))

    def _encoded(self, prompt: Prompt, values: Any) -> bytes:
        try:
            return self._encode(values)
        except UnicodeEncodeError as error:
            problem = "the text has a lone surrogate, half of a pair \\ud800-\\udfff, which stands for no character"
            raise unfit(prompt, problem, "correct that text") from error
        except (TypeError, ValueError, OverflowError, RecursionError, msgspec.MsgspecError) as error:
            raise unfit(prompt, f"cannot be written as JSON: {error}", "use text, numbers, lists, objects") from error

    def _input(self, prompt: Prompt) -> str:
        row = prompt.row
        if missing := [column for column in self._keep_columns if column not in row]:
            problem = f"keep_columns names {names(missing)}, but the row has {names(row)}"
            raise unfit(prompt, problem, "correct keep_columns, or give every row that column")
        return self._encoded(prompt, {column: row[column] for column in self._keep_columns}).decode()


def _api_of(prompt: Prompt) -> Api:
    """The API that an OpenAI batch line asks for, which holds for its row."""
    row = prompt.row
    url, method = row.get("url"), row.get("method")
    if not isinstance(url, str) or url not in _API_OF_URL or method not in (None, "POST"):
        known = ", ".join(f"POST {url}" for url in _API_OF_URL if url.startswith("/v1"))
        raise unfit(prompt, f"the batch line asks for {method} {url}", f"supported are {known}")
    return _API_OF_URL[url]


def _unfit_body(prompt: Prompt, problem: str, remedy: str) -> PromptError:
    return unfit(prompt, f"body.{problem}", remedy)


def _contradiction(problem: str, remedy: str) -> ConfigError:
    return ConfigError(f"request.params.{problem}", remedy=remedy)

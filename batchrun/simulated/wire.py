"""The body of a request as Fireworks documents it, read as strictly: an unknown key anywhere is refused by its name."""

from __future__ import annotations

import re
from abc import abstractmethod
from functools import cache
from typing import Annotated, Any, ClassVar, Literal, TypeVar

import msgspec
from msgspec import Meta

from batchrun.simulated.refusals import Refusal, bad_request, extra_input

MAX_TOKENS_WITHOUT_STREAM = 4096
DEFAULT_MAX_TOKENS = 2048

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`include_usage` asks for a last chunk with the usage and no choices."""

    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct):
    """`json_schema` holds `{name, schema}`."""

    type: Literal["text", "json_object", "json_schema", "grammar"] = "text"
    json_schema: dict[str, Any] | None = None
    grammar: str | None = None


class Asked(msgspec.Struct, frozen=True, kw_only=True):
    """One prompt of a request: all its words, the words that are the question, and how many tokens they are."""

    words: str
    question: str
    tokens: int


class Body(msgspec.Struct, kw_only=True, forbid_unknown_fields=True):
    """What every request has."""

    api: ClassVar[str]
    model: str
    user: str | None = None

    @property
    @abstractmethod
    def last_user(self) -> str:
        """The words by which a request is known in the ledger."""

    def check(self) -> None:
        """Raise a Refusal for what no type says."""


class Generation(Body, kw_only=True, forbid_unknown_fields=True):
    """What /chat/completions and /completions share; what changes nothing here is accepted and not looked at."""

    max_tokens: Count | None = None
    max_completion_tokens: Count | None = None
    temperature: Annotated[float, Meta(ge=0, le=2)] | None = None
    top_p: Share | None = None
    top_k: Annotated[int, Meta(ge=0, le=100)] | None = None
    min_p: float | None = None
    typical_p: float | None = None
    frequency_penalty: Penalty | None = None
    presence_penalty: Penalty | None = None
    repetition_penalty: Annotated[float, Meta(ge=0, le=2)] | None = None
    mirostat_target: float | None = None
    mirostat_lr: float | None = None
    n: Annotated[int, Meta(ge=1, le=128)] | None = None
    stop: str | Annotated[list[str], Meta(max_length=4)] | None = None
    seed: int | None = None
    stream: bool | None = None
    stream_options: StreamOptions | None = None
    logprobs: bool | Annotated[int, Meta(ge=0, le=5)] | None = None
    top_logprobs: Annotated[int, Meta(ge=0, le=5)] | None = None
    logit_bias: dict[str, float] | None = None
    echo: bool | None = None
    echo_last: int | None = None
    ignore_eos: bool | None = None
    raw_output: bool | None = None
    return_token_ids: bool | None = None
    perf_metrics_in_response: bool | None = None
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    prompt_cache_max_len: int | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    reasoning_effort: str | bool | int | None = None
    thinking: dict[str, Any] | None = None
    reasoning_history: Literal["disabled", "interleaved", "preserved"] | None = None
    response_format: ResponseFormat | None = None
    prediction: Any = None
    speculation: Any = None

    @property
    def token_limit(self) -> int:
        """How many tokens each choice may have."""
        for limit in (self.max_tokens, self.max_completion_tokens):
            if limit is not None:
                return limit
        return DEFAULT_MAX_TOKENS

    @property
    def reasoning_limit(self) -> int:
        """How many of them may be reasoning; 0 asks for none."""
        return 0

    @property
    def stop_texts(self) -> list[str]:
        """The texts before which an answer is cut."""
        texts = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in texts if text]

    @property
    def functions_to_call(self) -> list[dict[str, Any]]:
        """The functions that must be called."""
        return []

    @abstractmethod
    def prompts(self) -> list[Asked]:
        """What is asked; each prompt gets `n` choices."""

    def check(self) -> None:
        """Refuse what Fireworks refuses before it looks at the model."""
        if self.max_tokens is not None and self.max_completion_tokens is not None:
            raise bad_request("max_tokens and max_completion_tokens cannot be given together", param="max_tokens")
        if self.token_limit > MAX_TOKENS_WITHOUT_STREAM and not self.stream:
            message = f"Requests with max_tokens > {MAX_TOKENS_WITHOUT_STREAM} must have stream=true"
            raise bad_request(message, param="max_tokens")
        if self.top_logprobs is not None and (self.logprobs is None or self.logprobs is False):
            raise bad_request("top_logprobs needs logprobs", param="top_logprobs")


Kind = TypeVar("Kind", bound=Body)


def parse_request(body: bytes, kind: type[Kind], *, strict: bool = True) -> Kind:
    """Read a body; unless `strict`, keys that Fireworks does not know are passed over.

    Raises:
        Refusal: 400, for everything that Fireworks would refuse before it looks at the model.
    """
    try:
        request = _decoder(kind).decode(body) if strict else _leniently(body, kind)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not JSON: {error}") from error
    request.check()
    return request


@cache
def _decoder(kind: type[Kind]) -> msgspec.json.Decoder[Kind]:
    return msgspec.json.Decoder(kind)


def _leniently(body: bytes, kind: type[Kind]) -> Kind:
    """Leave out each key that is refused as unknown, until none is."""
    values = msgspec.json.decode(body)
    while True:
        try:
            return msgspec.convert(values, kind)
        except msgspec.ValidationError as error:
            problem, where = _parts(str(error))
            unknown = _unknown(problem)
            if unknown is None:
                raise
            inner = values
            for step in re.findall(r"[^.\[\]]+", where):
                inner = inner[int(step) if isinstance(inner, list) else step]
            del inner[unknown]


def _parts(message: str) -> tuple[str, str]:
    """What is wrong, and where: `messages[0].content`."""
    problem, _, where = message.partition(" - at ")
    return problem, where.strip("`").removeprefix("$").lstrip(".")


def _unknown(problem: str) -> str | None:
    """The key that is unknown, if that is the problem."""
    found = re.fullmatch(r"Object contains unknown field `(.+)`", problem, re.DOTALL)
    return found and found[1]


def _invalid(message: str) -> Refusal:
    problem, path = _parts(message)
    unknown = _unknown(problem)
    if unknown is None:
        return bad_request(f"{problem.replace('`', '')}, field: '{path}'", param=path or None)
    return extra_input(f"{path}.{unknown}" if path else unknown)

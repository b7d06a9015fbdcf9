"""The request as Fireworks documents it, read as strictly: an unknown key anywhere is refused by its name."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

import msgspec
from msgspec import Meta

from batchrun.simulated.refusals import Refusal, bad_request

MAX_TOKENS_WITHOUT_STREAM = 4096
DEFAULT_MAX_TOKENS = 2048

Penalty = Annotated[float, Meta(ge=-2, le=2)]
Share = Annotated[float, Meta(ge=0, le=1)]
Count = Annotated[int, Meta(ge=0)]


class Message(msgspec.Struct, forbid_unknown_fields=True):
    """One message of a conversation; `content` is text, a list of parts, or null beside tool calls."""

    role: Literal["system", "user", "assistant", "tool"]
    content: str | list[dict[str, Any]] | None = None
    name: str | None = None
    reasoning_content: str | None = None
    tool_calls: list[dict[str, Any]] | None = None
    tool_call_id: str | None = None

    @property
    def text(self) -> str:
        """The words of it, without images."""
        if isinstance(self.content, list):
            return "\n".join(str(part.get("text", "")) for part in self.content)
        return self.content or ""


class StreamOptions(msgspec.Struct, forbid_unknown_fields=True):
    """`include_usage` asks for a last chunk with the usage and no choices."""

    include_usage: bool | None = None


class ResponseFormat(msgspec.Struct):
    """`json_schema` holds `{name, schema}`."""

    type: Literal["text", "json_object", "json_schema", "grammar"] = "text"
    json_schema: dict[str, Any] | None = None


class ChatRequest(msgspec.Struct, forbid_unknown_fields=True):
    """The body of POST /chat/completions; what changes nothing here is accepted and not looked at."""

    model: str
    messages: Annotated[list[Message], Meta(min_length=1)]
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
    prompt_truncate_len: int | None = None
    context_length_exceeded_behavior: Literal["truncate", "error"] | None = None
    safe_tokenization: bool | None = None
    prompt_cache_key: str | None = None
    prompt_cache_isolation_key: str | None = None
    prompt_cache_max_len: int | None = None
    user: str | None = None
    metadata: dict[str, str] | None = None
    service_tier: Literal["auto", "default", "flex", "priority"] | None = None
    reasoning_effort: str | bool | int | None = None
    thinking: dict[str, Any] | None = None
    reasoning_history: Literal["disabled", "interleaved", "preserved"] | None = None
    response_format: ResponseFormat | None = None
    tools: list[dict[str, Any]] | None = None
    tool_choice: str | dict[str, Any] | None = None
    parallel_tool_calls: bool | None = None
    functions: list[dict[str, Any]] | None = None
    function_call: Any = None
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
    def stop_texts(self) -> list[str]:
        """The texts before which an answer is cut."""
        texts = [self.stop] if isinstance(self.stop, str) else self.stop or []
        return [text for text in texts if text]

    @property
    def last_user(self) -> str:
        """The words of the last user message, or nothing."""
        return next((message.text for message in reversed(self.messages) if message.role == "user"), "")


_decoder = msgspec.json.Decoder(ChatRequest)


def parse_request(body: bytes) -> ChatRequest:
    """Read a body.

    Raises:
        Refusal: 400, for everything that Fireworks would refuse before it looks at the model.
    """
    try:
        request = _decoder.decode(body)
    except msgspec.ValidationError as error:
        raise _invalid(str(error)) from error
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise bad_request(f"The body is not JSON: {error}") from error
    if request.max_tokens is not None and request.max_completion_tokens is not None:
        raise bad_request("max_tokens and max_completion_tokens cannot be given together", param="max_tokens")
    if request.token_limit > MAX_TOKENS_WITHOUT_STREAM and not request.stream:
        raise bad_request(
            f"Requests with max_tokens > {MAX_TOKENS_WITHOUT_STREAM} must have stream=true", param="max_tokens"
        )
    if request.thinking is not None and request.reasoning_effort is not None:
        raise bad_request("thinking and reasoning_effort cannot be given together", param="thinking")
    return request


def _invalid(message: str) -> Refusal:
    problem, _, where = message.partition(" - at ")
    path = where.strip("`").removeprefix("$").lstrip(".")
    unknown = re.fullmatch(r"Object contains unknown field `(.+)`", problem)
    if unknown is None:
        return bad_request(f"{problem.replace('`', '')}, field: '{path}'", param=path or None)
    field = f"{path}.{unknown[1]}" if path else unknown[1]
    return bad_request(f"Extra inputs are not permitted, field: '{field}'", param=field)

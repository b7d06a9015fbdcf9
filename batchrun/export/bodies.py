"""The answer to one row as the endpoint's JSON: as it came where that was kept, else rebuilt from the columns.

Sources: OpenAI's references of chat completions, completions and embeddings.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.export.text import on_one_line, spliced

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.types import Api

    Row = Mapping[str, Any]

_TEXT_COMPLETION = re.compile(r'"object"\s*:\s*"text_completion"')
_LOOKED_AT_CHARS = 4096


class _Kept(msgspec.Struct):
    choices: list[msgspec.Raw] | None = None
    data: list[msgspec.Raw] | None = None


class _KeptError(msgspec.Struct):
    error: _Told


class _Told(msgspec.Struct):
    message: str


_decode_kept = msgspec.json.Decoder(_Kept).decode
_decode_kept_error = msgspec.json.Decoder(_KeptError).decode


def answer_body(row: Row, api: Api) -> msgspec.Raw | dict[str, Any]:
    """The body of a success; `api` is what the run asked, where the row itself does not tell."""
    return _kept(row["response"]) or _rebuilt(row, api)


def error_body(row: Row) -> msgspec.Raw | dict[str, Any]:
    """The body of a refusal in OpenAI's error envelope: the endpoint's own, if it was kept whole and has that shape."""
    told = row["response"]
    try:
        if told and _decode_kept_error(told):
            return on_one_line(told)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        pass
    error = {"message": row["error_message"], "type": row["error_type"], "param": None, "code": row["error_code"]}
    return {"error": error}


def _kept(response: str | None) -> msgspec.Raw | None:
    """The answer as it came; None if it was not kept, or is a stream, or no JSON."""
    if not response:
        return None
    try:
        kept = _decode_kept(response)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError):
        return None
    return on_one_line(response) if kept.choices or kept.data else None


def _rebuilt(row: Row, api: Api) -> dict[str, Any]:
    if row["embedding"] is not None:
        data = [{"object": "embedding", "index": 0, "embedding": row["embedding"]}]
        counts = {"prompt_tokens": row["prompt_tokens"], "total_tokens": row["total_tokens"] or row["prompt_tokens"]}
        usage = None if row["prompt_tokens"] is None else counts
        return {"object": "list", "data": data, "model": _model(row), "usage": usage}
    several = msgspec.json.decode(row["choices"]) if row["choices"] else []
    is_text = "text" in several[0] if several else _is_text_completion(row, api)
    only = _text_choice(row) if is_text else _chat_choice(row)
    return {
        "id": row["request_id"] or f"{'cmpl' if is_text else 'chatcmpl'}-{row['request_key']}",
        "object": "text_completion" if is_text else "chat.completion",
        "created": (row["finished_at"] or 0) // 1_000_000,
        "model": _model(row),
        "choices": [_completed(choice, index) for index, choice in enumerate(several)] or [only],
        "usage": _usage(row),
    }


def _is_text_completion(row: Row, api: Api) -> bool:
    if row["response"]:
        return bool(_TEXT_COMPLETION.search(row["response"][:_LOOKED_AT_CHARS]))
    return api == "completions"


def _chat_choice(row: Row) -> dict[str, Any]:
    message = {"role": "assistant", "content": row["content"], "refusal": row["refusal"]}
    if row["reasoning_content"] is not None:
        message["reasoning_content"] = row["reasoning_content"]
    if row["tool_calls"]:
        message["tool_calls"] = spliced(row["tool_calls"])
    return {"index": 0, "message": message, **_end(row)}


def _text_choice(row: Row) -> dict[str, Any]:
    return {"index": 0, "text": row["content"] or "", **_end(row)}


def _end(row: Row) -> dict[str, Any]:
    logprobs = spliced(row["logprobs"]) if row["logprobs"] else None
    finish_reason = row["finish_reason"]
    if finish_reason == "stopped_by_client":  # no word of OpenAI's; `length` says that the text is not whole
        finish_reason = "length"
    return {"finish_reason": finish_reason, "logprobs": logprobs}


def _completed(choice: dict[str, Any], index: int) -> dict[str, Any]:
    """One of several choices, with what a stream leaves out."""
    whole = {"index": index, "finish_reason": None, "logprobs": None, **choice}
    if isinstance(message := whole.get("message"), dict):
        whole["message"] = {"role": "assistant", "content": None, "refusal": None, **message}
    return whole


def _model(row: Row) -> str | None:
    model: str | None = row["model"] or row["requested_model"]
    return model


def _usage(row: Row) -> dict[str, Any] | None:
    """The counts, with details where they are known; None unless both prompt and completion were counted."""
    prompt_tokens, completion_tokens = row["prompt_tokens"], row["completion_tokens"]
    if prompt_tokens is None or completion_tokens is None:
        return None
    total_tokens = row["total_tokens"]
    usage: dict[str, Any] = {
        "prompt_tokens": prompt_tokens,
        "completion_tokens": completion_tokens,
        "total_tokens": prompt_tokens + completion_tokens if total_tokens is None else total_tokens,
    }
    if row["cached_tokens"] is not None:
        usage["prompt_tokens_details"] = {"cached_tokens": row["cached_tokens"]}
    if row["reasoning_tokens"] is not None:
        usage["completion_tokens_details"] = {"reasoning_tokens": row["reasoning_tokens"]}
    return usage

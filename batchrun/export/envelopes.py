"""One row as a line of a provider's own batch output: OpenAI's envelope, or Fireworks' flat form.

Sources: OpenAI's Batch API reference, "the request output object"; Fireworks' guide to batch inference. Fireworks does
not document its error lines; ours are what a careful reader of its output accepts.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.export.bodies import answer_body, error_body

if TYPE_CHECKING:
    from collections.abc import Mapping

    from batchrun.types import Api

COLUMNS = [
    "index",
    "custom_id",
    "request_key",
    "model",
    "requested_model",
    "content",
    "reasoning_content",
    "refusal",
    "tool_calls",
    "choices",
    "logprobs",
    "embedding",
    "finish_reason",
    "prompt_tokens",
    "cached_tokens",
    "completion_tokens",
    "reasoning_tokens",
    "total_tokens",
    "status_code",
    "request_id",
    "finished_at",
    "response",
    "error_type",
    "error_code",
    "error_message",
]
"""What the lines are made of."""

_REFUSED_FROM = 400


def openai_line(row: Mapping[str, Any], api: Api, run_id: str) -> dict[str, Any]:
    """OpenAI's envelope. A failure without an HTTP error, an unusable 200 too, has `error` and no `response`."""
    response = error = None
    status = row["status_code"]
    if row["error_type"] is None:
        response = {"status_code": status or 200, "request_id": row["request_id"], "body": answer_body(row, api)}
    elif status is not None and status >= _REFUSED_FROM:
        response = {"status_code": status, "request_id": row["request_id"], "body": error_body(row)}
    else:
        error = {"code": row["error_type"], "message": row["error_message"]}
    line_id = f"batch_req_{run_id[:16]}{row['index']:016x}"
    return {"id": line_id, "custom_id": row["custom_id"], "response": response, "error": error}


def fireworks_line(row: Mapping[str, Any], api: Api) -> dict[str, Any]:
    """Fireworks' form: the completion right under `response`; a failure has `error` in its place."""
    if row["error_type"] is None:
        return {"custom_id": row["custom_id"], "response": answer_body(row, api)}
    error = {"message": row["error_message"], "code": row["error_type"]}
    return {"custom_id": row["custom_id"], "error": error}

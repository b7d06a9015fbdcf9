"""Answers that are not a completion, in the body shapes that Fireworks was seen to send."""

from __future__ import annotations

from typing import Any


class Refusal(Exception):
    """A request is answered without being served, so it costs nothing: a status, headers, and JSON or a page."""

    def __init__(self, status: int, payload: dict[str, Any] | str, headers: dict[str, str] | None = None) -> None:
        super().__init__(status)
        self.status = status
        self.payload = payload
        self.headers = headers or {}


RATE_LIMITED: tuple[dict[str, Any], ...] = (
    {
        "object": "error",
        "type": "invalid_request_error",
        "code": "invalid_request_error",
        "message": "rate limit exceeded, please try again later",
    },
    {
        "error": {
            "object": "error",
            "type": "invalid_request_error",
            "code": "too_many_requests",
            "message": "Request didn't generate first token before the given deadline, the service is overloaded",
        }
    },
    {
        "error": "Too Many Requests",
        "message": "You have exceeded your usage limits. Consider dedicated capacity.",
    },
)
PAGE = "<!DOCTYPE html>\n<html><head><title>Sign in</title></head><body><h1>Sign in to the network</h1></body></html>\n"


def error_body(message: str, *, code: str, param: str | None = None) -> dict[str, Any]:
    """The usual shape: everything inside `error`."""
    return {"error": {"message": message, "param": param, "code": code, "type": "error"}}


def bad_request(message: str, *, param: str | None = None) -> Refusal:
    """400: this request will never be served."""
    return Refusal(400, error_body(message, code="BAD_REQUEST", param=param))


def extra_input(field: str) -> Refusal:
    """400: Fireworks does not know this key."""
    return bad_request(f"Extra inputs are not permitted, field: '{field}'", param=field)


def prompt_too_long(tokens: int, longest: int) -> Refusal:
    """400, in the words by which clients tell this case."""
    return bad_request(f"The prompt is too long: {tokens}, model maximum context length: {longest}")


def unauthorized() -> Refusal:
    """401: the key is missing or not the one that was set."""
    return Refusal(401, error_body("The API key you provided is invalid.", code="UNAUTHORIZED"))


def path_not_found(path: str) -> Refusal:
    """404: nothing is served at this path."""
    return Refusal(404, error_body(f"Path not found: {path}", code="NOT_FOUND"))


def model_not_found() -> Refusal:
    """404: no such model."""
    message = "Model not found, inaccessible, and/or not deployed"
    return Refusal(404, error_body(message, code="NOT_FOUND", param="model"))


def rate_limited(request_number: int, retry_after_s: float | None) -> Refusal:
    """429, in one of the three shapes by turns; Retry-After only if one is given."""
    return Refusal(429, RATE_LIMITED[request_number % len(RATE_LIMITED)], retry_after(retry_after_s))


def overloaded(retry_after_s: float | None) -> Refusal:
    """503: shared capacity is short, whatever the limits of this account."""
    body = error_body("The service is overloaded, please try again later", code="SERVICE_UNAVAILABLE")
    return Refusal(503, body, retry_after(retry_after_s))


def server_error(status: int) -> Refusal:
    """500 and its relatives."""
    return Refusal(status, error_body("Simulated internal error", code="INTERNAL_SERVER_ERROR"))


def retry_after(seconds: float | None) -> dict[str, str]:
    """The header, if it is to be sent at all."""
    return {} if seconds is None else {"retry-after": f"{seconds:g}"}

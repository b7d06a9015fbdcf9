"""How an answer is asked for: as a stream or whole, and with what the endpoint measured."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping

    from batchrun.config import Config
    from batchrun.types import Api

    Refuse = Callable[[str, str], Exception]
    """Makes the error of a problem and its remedy."""

PLAIN_MAX_TOKENS = 4096
"""Fireworks refuses to generate more than this many tokens without a stream (400, "must have stream=true")."""


class Delivery:
    """What one configuration asks for, beside what a request says itself."""

    def __init__(self, config: Config) -> None:
        self._mode = config.request.stream
        self._stops = config.request.stop_stream is not None
        self._watched = self._stops or config.request.measure_ttft
        self._measures = config.endpoint.is_fireworks or config.endpoint.simulated

    def ask(self, api: Api, values: dict[str, Any], refuse: Refuse) -> tuple[dict[str, Any], bool]:
        """Put the keys of the delivery to the values of a body, and tell whether it is a stream.

        A `stream` among the values decides for itself; `stream_options` go with a stream only, as OpenAI refuses them
        otherwise. `values` are not changed.
        """
        own = values.get("stream")
        if own is not None and not isinstance(own, bool):
            raise refuse("stream is neither true nor false", "write true or false, or leave `stream` out")
        if api == "embeddings":
            if own:
                raise refuse("stream is set, but embeddings have no stream", "leave `stream` out")
            return values, False
        if self._measures and "perf_metrics_in_response" not in values:
            values = {**values, "perf_metrics_in_response": True}
        theirs = values.get("stream_options")
        if theirs is not None and not isinstance(theirs, dict):
            raise refuse("stream_options is not an object", 'write it as an object: {"key": value}')
        if not (self._wants_stream(values) if own is None else own):
            if theirs is not None:
                values = {name: value for name, value in values.items() if name != "stream_options"}
            return values, False
        if self._stops and more_than_one(values):
            problem = "n is more than 1: to stop the stream for one choice would lose the others"
            raise refuse(problem, "ask for one choice, or remove request.stop_stream")
        return {**values, "stream": True, "stream_options": {**(theirs or {}), "include_usage": True}}, True

    def _wants_stream(self, values: Mapping[str, Any]) -> bool:
        if self._mode != "auto":
            return self._mode == "always"
        return (
            self._watched
            or _above(values.get("max_tokens"), PLAIN_MAX_TOKENS)
            or _above(values.get("max_completion_tokens"), PLAIN_MAX_TOKENS)
        )


def more_than_one(values: Mapping[str, Any]) -> bool:
    """Whether more than one choice is asked for."""
    return _above(values.get("n"), 1)


def _above(value: Any, most: int) -> bool:
    return isinstance(value, int | float) and value > most

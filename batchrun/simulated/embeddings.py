"""POST /embeddings: a vector of length 1 for each text, drawn from its hash."""

from __future__ import annotations

import base64
import hashlib
import math
import struct
from random import Random
from typing import TYPE_CHECKING, Annotated, Any, ClassVar, Literal

from msgspec import Meta

from batchrun.simulated import refusals
from batchrun.simulated.answers import Answer
from batchrun.simulated.author import log_normal
from batchrun.simulated.text import tokens_in
from batchrun.simulated.wire import Body

if TYPE_CHECKING:
    from batchrun.simulated.scenario import Scenario

DEFAULT_DIMENSIONS = 1024


class EmbeddingRequest(Body, kw_only=True, forbid_unknown_fields=True):
    """Its body."""

    api: ClassVar[str] = "embeddings"
    input: str | Annotated[list[str], Meta(min_length=1)]
    dimensions: Annotated[int, Meta(ge=1, le=16_384)] | None = None
    encoding_format: Literal["float", "base64"] = "float"
    normalize: bool | None = None
    prompt_template: str | None = None
    return_logits: list[int] | None = None

    @property
    def texts(self) -> list[str]:
        """What is to be embedded."""
        return [self.input] if isinstance(self.input, str) else self.input

    @property
    def last_user(self) -> str:
        """The last of the texts."""
        return self.texts[-1]


def embed(scenario: Scenario, request: EmbeddingRequest, number: int) -> Answer:
    """Embed all texts of request `number`.

    Raises:
        Refusal: a text is longer than the model's context.
    """
    counts = [tokens_in(text) for text in request.texts]
    if max(counts) > scenario.context_tokens:
        raise refusals.prompt_too_long(max(counts), scenario.context_tokens)
    dimensions = request.dimensions or DEFAULT_DIMENSIONS
    vectors = [_vector(f"{scenario.seed}\n{request.model}\n{text}", dimensions) for text in request.texts]
    draw = Random("\n".join(request.texts))
    return Answer(
        request_id=f"embd-{number}",
        model=request.model,
        prompt_tokens=sum(counts),
        ttft_s=log_normal(scenario.latency.ttft_s, scenario.latency.sigma, draw),
        vectors=[_list_or_base64(vector, request.encoding_format) for vector in vectors],
    )


def payload(answer: Answer) -> dict[str, Any]:
    """The body in which vectors are sent; only the prompt counts."""
    data = [{"object": "embedding", "index": at, "embedding": vector} for at, vector in enumerate(answer.vectors)]
    usage = {"prompt_tokens": answer.prompt_tokens, "total_tokens": answer.prompt_tokens}
    return {"object": "list", "data": data, "model": answer.model, "usage": usage}


def _vector(key: str, dimensions: int) -> bytes:
    """As many little-endian 32-bit floats."""
    drawn = struct.unpack(f"<{dimensions}i", hashlib.shake_256(key.encode()).digest(4 * dimensions))
    length = math.hypot(*drawn)
    return struct.pack(f"<{dimensions}f", *(value / length for value in drawn))


def _list_or_base64(vector: bytes, encoding: str) -> list[float] | str:
    if encoding == "base64":
        return base64.b64encode(vector).decode()
    return list(struct.unpack(f"<{len(vector) // 4}f", vector))

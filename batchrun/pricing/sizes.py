"""What a model of Fireworks costs that no table names: its price page has a rate for each size, its id often the size.

That is a guess: an id may lie about the size, and a retired model may be served at all or not.
"""

from __future__ import annotations

import re
from typing import Annotated, Literal

import msgspec
from msgspec import Meta

Kind = Literal["dense", "moe", "embedding"]
_OURS = "accounts/fireworks/models/"


class SizePrice(msgspec.Struct, frozen=True, kw_only=True, omit_defaults=True):
    """What a million tokens cost for models of a kind up to some billion parameters; without a bound for all larger."""

    kind: Kind
    usd_per_mtok: Annotated[float, Meta(ge=0)]
    up_to_billion: Annotated[float, Meta(gt=0)] | None = None
    date: str = ""
    source: str = ""
    origin: str = ""

    def fits(self, size: Size) -> bool:
        """Whether it is the rate of that size, if no smaller one is."""
        return self.kind == size.kind and (self.up_to_billion is None or size.billion <= self.up_to_billion)


class Size(msgspec.Struct, frozen=True, kw_only=True):
    """How large a model is by its name: all parameters, also those that a token does not use."""

    kind: Kind
    billion: float


def size_of(model: str) -> Size | None:
    """The size in the id of a model of Fireworks' own; None if there is none, and for rerankers.

    >>> size_of("accounts/fireworks/models/qwen3-30b-a3b")
    Size(kind='moe', billion=30.0)
    """
    name = model.removeprefix(_OURS).lower()
    if not model.startswith(_OURS) or "rerank" in name or "/" in name:
        return None
    kind: Kind = "embedding" if "embed" in name else "dense"
    billion = None
    for word in name.split("-"):
        if experts := re.fullmatch(r"(\d{1,4})x(\d{1,4}(?:p\d+)?)b", word):
            return Size(kind="moe", billion=int(experts[1]) * _number(experts[2]))
        if re.fullmatch(r"a\d{1,4}(p\d+)?b", word):
            kind = "moe"
        elif (found := re.fullmatch(r"(\d{1,4}(?:p\d+)?)([bm])", word)) and billion is None:
            billion = _number(found[1]) / (1000 if found[2] == "m" else 1)
    return None if not billion else Size(kind=kind, billion=billion)


def _number(text: str) -> float:
    return float(text.replace("p", "."))

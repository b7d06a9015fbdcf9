"""`--fail-if`: a limit to a change from A to B, or to a number of B's own, that a pipeline stops at."""

from __future__ import annotations

import difflib
import operator
import re
from typing import TYPE_CHECKING

import msgspec

from batchrun.errors import ConfigError
from batchrun.report.compare.shape import METRICS, GateResult

if TYPE_CHECKING:
    from batchrun.report.compare.shape import Comparison

COUNTS = ("different", "unpaired")
"""They belong to both runs: there is one number, and no change."""
SHARES = ("failures", "accuracy", *COUNTS)
"""They can be said in percent of the pairs."""
NAMES = (*METRICS, *COUNTS)

_HOW = "write it as METRIC > +10%, with >, >=, < or <=; a change from A to B has a sign, a number of B has none"
_FORM = re.compile(
    r"\s*(?P<metric>\w+)\s*(?P<sign>>=|<=|>|<)\s*(?P<limit>[+-]?(?:\d+\.?\d*|\.\d+))\s*(?P<percent>%?)\s*"
)
_HOLDS = {">": operator.gt, ">=": operator.ge, "<": operator.lt, "<=": operator.le}
_DIGITS = 9


class Gate(msgspec.Struct, frozen=True, kw_only=True):
    """What must not be so. `change`: of B against A, else of B alone; `percent`: of A, or of the pairs."""

    text: str
    metric: str
    sign: str
    limit: float
    change: bool
    percent: bool


def parse_gate(text: str, *, accuracy: bool) -> Gate:
    """Read a gate; `accuracy` says whether there will be one. Raises ConfigError."""
    found = _FORM.fullmatch(text)
    if found is None:
        raise ConfigError(f"--fail-if {text!r}: nobody can tell what is meant", remedy=_HOW)
    metric, change, percent = found["metric"], found["limit"][0] in "+-", bool(found["percent"])
    if metric not in NAMES:
        near = difflib.get_close_matches(metric, NAMES, n=1)
        remedy = f"did you mean {near[0]}?" if near else f"known are {', '.join(NAMES)}"
        raise ConfigError(f"--fail-if {text!r}: there is no metric {metric}", remedy=remedy)
    if metric == "accuracy" and not accuracy:
        raise ConfigError(f"--fail-if {text!r}: nobody knows what is right", remedy="add --column NAME")
    if change and metric in COUNTS:
        remedy = f"take the sign away: {metric} {found['sign']} {found['limit'][1:]}{found['percent']}"
        raise ConfigError(f"--fail-if {text!r}: {metric} is one number for both runs, without a change", remedy=remedy)
    if percent and not change and metric not in SHARES:
        remedy = f"write +{found['limit']}% or -{found['limit']}%"
        raise ConfigError(f"--fail-if {text!r}: percent of what? A change has a sign", remedy=remedy)
    return Gate(
        text=f"{metric} {found['sign']} {found['limit']}{found['percent']}",
        metric=metric,
        sign=found["sign"],
        limit=float(found["limit"]),
        change=change,
        percent=percent,
    )


def judge(gate: Gate, comparison: Comparison) -> GateResult:
    """Hold a comparison against a gate; what is not known fails it."""
    a, b, whole = _numbers(gate.metric, comparison)
    value = None
    if b is not None and gate.change and a is not None:
        value = _percent(b - a, a) if gate.percent else b - a
    elif b is not None and not gate.change:
        value = _percent(b, whole) if gate.percent else b
    if value is not None:
        value = round(value, _DIGITS)
    failed = value is None or _HOLDS[gate.sign](value, gate.limit)
    return GateResult(gate=gate.text, failed=failed, a=a, b=b, value=value)


def _numbers(metric: str, comparison: Comparison) -> tuple[float | None, float | None, float]:
    """The numbers of A and B, and what they are a share of."""
    if metric == "different":
        return None, float(comparison.answers.different), comparison.answers.both
    if metric == "unpaired":
        pairing = comparison.pairing
        unpaired = pairing.only_in_a + pairing.only_in_b
        return None, float(unpaired), pairing.rows + unpaired
    found = comparison.metrics[metric]
    if found is None:
        return None, None, 1
    return found.a, found.b, 1 if metric == "accuracy" else found.pairs


def _percent(part: float, whole: float) -> float | None:
    """None where something is compared with nothing."""
    if whole:
        return 100 * part / whole
    return None if part else 0.0

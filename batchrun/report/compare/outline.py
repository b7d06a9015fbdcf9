"""What a comparison says, in its order, before a writer lays it out.

Strings may hold text from outside as it came; a writer makes it safe.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

from batchrun.report.format import Figure, dollars, number, percent, rows, seconds

if TYPE_CHECKING:
    from batchrun.report.compare.shape import Accuracy, Comparison, GateResult, Metric, Move, Run

ANSWER = "answered"

_LABELS = {
    "cost_usd": "cost",
    "prompt_tokens": "prompt tokens",
    "completion_tokens": "completion tokens",
    "latency_s": "latency, mean",
    "latency_p50_s": "latency, p50",
    "latency_p95_s": "latency, p95",
    "ttft_s": "first token, mean",
    "ttft_p50_s": "first token, p50",
    "ttft_p95_s": "first token, p95",
    "failures": "failures",
    "accuracy": "accuracy",
}


_TENTHS_FROM_S = 10
_TENTHS_FROM = 0.1


class Line(NamedTuple):
    """A metric of A and of B, and by how much it changed."""

    label: str
    a: str
    b: str
    change: str


def headline(comparison: Comparison) -> str:
    """What is compared."""
    pairing = comparison.pairing
    if pairing.made_up_ids and pairing.by_custom_id == pairing.rows:
        how = "by their position, as the inputs have no custom_id"
    elif not pairing.by_request:
        how = "by custom_id"
    elif not pairing.by_custom_id:
        how = "by what was asked, as their ids differ"
    else:
        how = f"{number(pairing.by_custom_id)} by custom_id and {number(pairing.by_request)} by what was asked"
    return f"B against A in {number(pairing.rows)} pair{'' if pairing.rows == 1 else 's'} of rows, {how}"


def significant(comparison: Comparison) -> str:
    """Which differences are more than chance, in a sentence."""
    metrics = comparison.metrics
    found = dict.fromkeys(label.partition(",")[0] for name, label in _LABELS.items() if _is_significant(metrics[name]))
    return f"Significant: {', '.join(found)}" if found else "No difference is significant"


def _is_significant(metric: Metric | None) -> bool:
    return metric is not None and metric.significant


def runs(comparison: Comparison) -> list[tuple[str, str]]:
    """The two runs, and in what they were configured differently: labels and texts."""
    lines = [("A", _run(comparison.a)), ("B", _run(comparison.b))]
    settings = [f"{one.key}: {one.a} -> {one.b}" for one in comparison.settings]
    return [*lines, *zip(["Differs", *[""] * len(settings)], settings, strict=False)]


def metrics(comparison: Comparison) -> list[Line]:
    """The metrics that there are."""
    found = [(name, comparison.metrics.get(name)) for name in _LABELS]
    return [_line(name, metric) for name, metric in found if metric is not None]


def moves(comparison: Comparison) -> list[tuple[int, str, list[str]]]:
    """How many pairs went from which ending to which, with examples."""
    return [(move.rows, _moved(move), _examples(move)) for move in comparison.moves]


def answers(comparison: Comparison) -> list[Figure]:
    """Who answered, and whether the same."""
    found = comparison.answers
    lines = [
        Figure(number(found.identical), f"identical, {percent(found.identical, found.both)}"),
        Figure(number(found.different), f"different, {percent(found.different, found.both)}"),
    ]
    alone = {"only A answered": found.only_in_a, "only B answered": found.only_in_b}
    return [*(lines if found.both else []), *(Figure(number(count), who) for who, count in alone.items() if count)]


def accuracy(found: Accuracy) -> list[Figure]:
    """Who was right."""
    return [
        Figure(number(found.both_right), "both right"),
        Figure(number(found.only_a_right), "only A right"),
        Figure(number(found.only_b_right), "only B right"),
        Figure(number(found.neither_right), "neither right"),
    ]


def gates(comparison: Comparison) -> list[Figure]:
    """What became of each gate."""
    return [Figure("FAILED" if gate.failed else "passed", judged(gate)) for gate in comparison.gates]


def judged(gate: GateResult) -> str:
    """A gate and its numbers, in one line: `cost_usd > +10%: +23.4% (0.0123 -> 0.0152)`."""
    if gate.value is None:
        return f"{gate.gate}: not known"
    limit = gate.gate.rpartition(" ")[2].lstrip("<>=")
    value = f"{gate.value:+.6g}" if limit[0] in "+-" else f"{gate.value:.6g}"
    between = "" if gate.a is None else f" ({_plain(gate.a)} -> {_plain(gate.b or 0)})"
    return f"{gate.gate}: {value}{'%' if gate.gate.endswith('%') else ''}{between}"


def notes(comparison: Comparison) -> list[str]:
    """What a reader must know to trust the numbers."""
    said = [
        f"Of {name} some rows have no partner: {rows(count)}."
        for name, count in (("A", comparison.pairing.only_in_a), ("B", comparison.pairing.only_in_b))
        if count
    ]
    said += [*_about_inputs(comparison), *_about_runs({"A": comparison.a, "B": comparison.b})]
    for name in ("cost_usd", "prompt_tokens"):
        metric, both = comparison.metrics.get(name), comparison.answers.both
        if unknown := both - min(both, metric.pairs if metric else 0):
            said.append(f"{_LABELS[name].capitalize()}: not known of {rows(unknown)} that both answered.")
    found = comparison.accuracy
    if found and found.pairs_expecting_otherwise:
        count = rows(found.pairs_expecting_otherwise)
        said.append(f"The inputs expect different answers of {count}, which are not judged.")
    if found and not found.pairs:
        said.append(f"No pair that both answered has an expected answer in {found.column}.")
    return said


def _about_inputs(comparison: Comparison) -> list[str]:
    pairing = comparison.pairing
    other = pairing.rows - pairing.same_request_rows
    shaping = {one.key for one in comparison.settings if one.key.startswith(("request.", "endpoint."))}
    if other and not shaping:
        return [f"The inputs differ: {rows(other)} with the same id ask something else in B."]
    if other and any(one.key == "input" for one in comparison.settings):
        return ["The inputs have different names. Their ids agree; that the prompts do was not checked."]
    return []


def _about_runs(named: dict[str, Run]) -> list[str]:
    going_on = "is still going on, or was killed: this is what is on disk."
    said = [f"{name} {going_on}" for name, run in named.items() if run.exit_code is None]
    nothing = "has only failures: answers, latency and first token cannot be compared."
    said += [f"{name} {nothing}" for name, run in named.items() if not run.succeeded]
    if simulated := [name for name, run in named.items() if run.simulated]:
        verb = "are" if len(simulated) > 1 else "is"
        said.append(f"{' and '.join(simulated)} {verb} simulated: no model answered, and nothing was paid.")
    return said


def _run(run: Run) -> str:
    done = f"{number(run.succeeded)} of {rows(run.rows)} succeeded"
    failed = f", {number(run.failed)} failed" if run.failed else ""
    missing = f", {number(run.missing)} missing" if run.missing else ""
    cost = "" if run.cost_usd is None else f", {dollars(run.cost_usd)}"
    return f"{run.name}: {done}{failed}{missing}{cost}"


def _line(name: str, metric: Metric) -> Line:
    if name == "accuracy":
        a, b = percent(metric.a, 1), percent(metric.b, 1)
    elif name.endswith("_s"):
        a, b = seconds(metric.a), seconds(metric.b)
    else:
        a, b = (dollars(value) if name == "cost_usd" else number(round(value)) for value in (metric.a, metric.b))
    return Line(_LABELS[name], a, b, _change(name, metric))


def _change(name: str, metric: Metric) -> str:
    """By how much it changed, and between which bounds."""
    if not metric.a and not metric.b:
        return ""
    unit, values = _in_its_unit(name, metric)
    if not values:
        return "from none"
    tenths = max(map(abs, values)) >= (_TENTHS_FROM_S if unit == "s" else _TENTHS_FROM)
    middle, *bounds = (_signed(value, 1 if tenths else 3) for value in values)
    between = f" ({bounds[0]} to {bounds[1]})" if bounds else "" if metric.interval else " (too few pairs)"
    return f"{middle} {unit}{between}{', significant' if metric.significant else ''}"


def _in_its_unit(name: str, metric: Metric) -> tuple[str, list[float]]:
    """The change and its bounds, as far as they are known: in seconds, in points, or of sums in percent."""
    changes = [metric.difference, metric.difference_low, metric.difference_high]
    if name.endswith("_s"):
        unit, scale = "s", 1.0
    elif name in {"failures", "accuracy"}:
        unit, scale = "points", 100 / (metric.pairs if name == "failures" else 1)
    else:
        ratios = (metric.ratio, metric.ratio_low, metric.ratio_high)
        unit, scale, changes = "%", 100.0, [None if ratio is None else ratio - 1 for ratio in ratios]
    return unit, [scale * change for change in changes if change is not None]


def _signed(value: float, digits: int) -> str:
    return f"{value:+,.{digits}f}" if round(value, digits) else "0"


def _plain(value: float) -> str:
    return f"{value:,.0f}" if value == round(value) else f"{value:.6g}"


def _moved(move: Move) -> str:
    return f"{move.a or ANSWER} -> {move.b or ANSWER}"


def _examples(move: Move) -> list[str]:
    said = [(one.custom_id, one.b_message if one.b_message is not None else one.a_message) for one in move.examples]
    return [f"{custom_id}: {message}" if message else custom_id for custom_id, message in said]

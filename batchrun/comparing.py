"""Two folders become a comparison: the rows of both meet, and nothing else is asked."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

import msgspec
import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from batchrun.address import SIMULATED
from batchrun.errors import ConfigError
from batchrun.report.compare.gates import judge
from batchrun.report.compare.measure import accuracy_of, answers_of, cost_usd, metrics_of, moves_of
from batchrun.report.compare.pairs import pair, same_request
from batchrun.report.compare.shape import Answers, Comparison, DifferentAnswer, Move, MovedRow, Pairing, Run, Setting
from batchrun.report.compare.side import ANSWERED, FAILED, FAILURE_COLUMNS, RESULT_COLUMNS, Side
from batchrun.report.sums import TEXT_CHARS, Names
from batchrun.store.snapshot import Snapshot

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from batchrun.report.columns import Ints
    from batchrun.report.compare.gates import Gate
    from batchrun.report.compare.measure import AnswerCounts, Moved
    from batchrun.report.compare.pairs import Pairs
    from batchrun.store.snapshot import Kind

_COMPARED = ("input", "endpoint.", "request.", "limits.concurrency")
_ANSWER = ["content", "refusal", "tool_calls"]


class _Told(NamedTuple):
    custom_id: str
    text: str


def compare_folders(a: str, b: str, *, column: str | None = None, gates: Sequence[Gate] = ()) -> Comparison:
    """Compare run B with run A, from their folders alone, at any time.

    Args:
        a: the folder of one run.
        b: the folder of the other.
        column: one of `keep_columns` of both, with the expected answer of each row.
        gates: what a pipeline wants to know.

    Raises:
        ConfigError: it is one folder, one of them has no rows yet, no row of one is in the other, or the column was
            not kept.
        FolderUnusable: there is no run, or it is damaged.
    """
    if Path(a).resolve() == Path(b).resolve():
        raise ConfigError(f"{a} and {b} are the same folder", remedy="name the folders of two runs")
    one, other = Snapshot(a), Snapshot(b)
    if column is not None:
        one.refuse_unkept(column)
        other.refuse_unkept(column)
    names = Names()
    side_a, side_b = _side(one, names, column), _side(other, names, column)
    for name, side in ((a, side_a), (b, side_b)):
        if not side.states.any():
            raise ConfigError(f"{name}: no row has an answer or a failure yet", remedy="wait for one, or run it first")
    pairs = pair(side_a, side_b)
    if not len(pairs.a):
        raise ConfigError(
            f"no row of {a} is in {b}: neither the ids agree ({_first_id(one)}, {_first_id(other)}) nor the requests",
            remedy="give the same prompts the same custom_id in both inputs, and run them again",
        )
    accuracy = None if column is None else accuracy_of(side_a, side_b, pairs, column)
    comparison = Comparison(
        a=_run(a, one, side_a),
        b=_run(b, other, side_b),
        settings=list(_settings(one, other)),
        pairing=_pairing(side_a, side_b, pairs),
        metrics=metrics_of(side_a, side_b, pairs, accuracy),
        moves=_moves((one, other), pairs, moves_of(side_a, side_b, pairs), list(names.slots)),
        answers=_answers((one, other), pairs, answers_of(side_a, side_b, pairs)),
        accuracy=accuracy,
    )
    return msgspec.structs.replace(comparison, gates=[judge(gate, comparison) for gate in gates])


def _side(snapshot: Snapshot, names: Names, column: str | None) -> Side:
    side = Side(snapshot.run.rows, names, column)
    for batch in snapshot.batches("results", [*RESULT_COLUMNS, *(["input"] if column else [])]):
        side.add_results(batch)
    for batch in snapshot.batches("failures", FAILURE_COLUMNS):
        side.add_failures(batch)
    return side


def _run(name: str, snapshot: Snapshot, side: Side) -> Run:
    run, sessions = snapshot.run, snapshot.sessions()
    succeeded, failed = (int((side.states == state).sum()) for state in (ANSWERED, FAILED))
    base_url = run.config["endpoint"]["base_url"]
    return Run(
        name=name,
        rows=run.rows,
        succeeded=succeeded,
        failed=failed,
        missing=run.rows - succeeded - failed,
        models=list(run.models),
        endpoint=base_url,
        simulated=base_url == SIMULATED,
        exit_code=sessions[-1].get("exit_code") if sessions else None,
        cost_usd=cost_usd(side),
    )


def _pairing(a: Side, b: Side, pairs: Pairs) -> Pairing:
    return Pairing(
        rows=len(pairs.a),
        by_custom_id=pairs.by_custom_id,
        by_request=len(pairs.a) - pairs.by_custom_id,
        only_in_a=pairs.only_in_a,
        only_in_b=pairs.only_in_b,
        same_request_rows=int(same_request(a, b, pairs).sum()),
        made_up_ids=a.made_up_ids and b.made_up_ids,
    )


def _settings(a: Snapshot, b: Snapshot) -> Iterator[Setting]:
    """What was configured differently and may explain a difference."""
    before, now = (dict(_flat(one.run.config)) | {"prices": one.run.prices.get("date")} for one in (a, b))
    for key in sorted(before.keys() | now.keys()):
        if before.get(key) != now.get(key) and (key.startswith(_COMPARED) or key == "prices"):
            yield Setting(key=key, a=_json(before.get(key)), b=_json(now.get(key)))


def _flat(values: dict[str, Any], path: str = "") -> Iterator[tuple[str, Any]]:
    for key, value in values.items():
        if isinstance(value, dict):
            yield from _flat(value, f"{path}{key}.")
        else:
            yield path + key, value


def _json(value: Any) -> str:
    return msgspec.json.encode(value).decode()[:TEXT_CHARS]


def _moves(
    snapshots: tuple[Snapshot, Snapshot], pairs: Pairs, moved: list[Moved], error_types: list[str]
) -> list[Move]:
    first = np.array([at for move in moved for at in move.first], np.int64)
    a, b = snapshots
    told_a = _told(a, "failures", pairs.a[first], ["error_message"])
    told_b = _told(b, "failures", pairs.b[first], ["error_message"])
    slots = [*error_types, None]  # -1 is the last: an answer
    return [
        Move(
            a=slots[move.a],
            b=slots[move.b],
            rows=move.rows,
            examples=[_moved(told_a.get(int(pairs.a[at])), told_b.get(int(pairs.b[at]))) for at in move.first],
        )
        for move in moved
    ]


def _moved(a: _Told | None, b: _Told | None) -> MovedRow:
    known = a or b
    custom_id = known.custom_id if known else ""
    return MovedRow(custom_id=custom_id, a_message=a.text if a else None, b_message=b.text if b else None)


def _answers(snapshots: tuple[Snapshot, Snapshot], pairs: Pairs, told: AnswerCounts) -> Answers:
    rows_a, rows_b = pairs.a[told.first], pairs.b[told.first]
    a, b = (
        _told(snapshot, "results", rows, _ANSWER) for snapshot, rows in zip(snapshots, (rows_a, rows_b), strict=True)
    )
    return Answers(
        both=told.both,
        identical=told.identical,
        different=told.both - told.identical,
        only_in_a=told.only_in_a,
        only_in_b=told.only_in_b,
        examples=[
            DifferentAnswer(custom_id=a[one].custom_id, a=a[one].text, b=b[other].text)
            for one, other in zip(rows_a.tolist(), rows_b.tolist(), strict=True)
        ],
    )


def _told(snapshot: Snapshot, kind: Kind, rows: Ints, columns: list[str]) -> dict[int, _Told]:
    """The ids of some rows and the first of the columns that is not null, cut, by index; it stops when it has all."""
    found: dict[int, _Told] = {}
    wanted = pa.array(np.unique(rows))
    for batch in snapshot.batches(kind, ["index", "custom_id", *columns]) if len(wanted) else ():
        for row in batch.filter(pc.is_in(batch.column("index"), wanted)).to_pylist():
            text = next((row[name] for name in columns if row[name] is not None), "(no words)")
            found[row["index"]] = _Told(custom_id=row["custom_id"][:TEXT_CHARS], text=text[:TEXT_CHARS])
        if len(found) == len(wanted):
            break
    return found


def _first_id(snapshot: Snapshot) -> str:
    kinds: tuple[Kind, Kind] = ("results", "failures")
    ids = (one for kind in kinds for batch in snapshot.batches(kind, ["custom_id"]) for one in batch.column(0))
    return str(next(ids, ""))[:TEXT_CHARS]

"""Conversations in the store: a finished turn is kept, and the next start goes on behind it, whatever came between."""

from __future__ import annotations

import asyncio
import json
import os
import tempfile
from pathlib import Path

import msgspec
import pyarrow.parquet as pq
import pytest
import virtual_time
from engines import COST_USD, USAGE, Engine, completion, conversation, server_error
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import CRASHED, FaultyFs, finished_turns, keep_all, opened, record, started

from batchrun.config import StoreConfig
from batchrun.engine.turns import following
from batchrun.errors import StoreError
from batchrun.store.manifest import Manifest, Session
from batchrun.store.schema import FAILURES
from batchrun.store.snapshot import Snapshot

QUESTIONS = ("Q2", "Q3", "Q4")
DONE = Session(exit_code=0, cause="done")


def asked(index: int):
    """The request of a row's first turn, as it is rendered in every start."""
    return msgspec.structs.replace(conversation(index, *QUESTIONS), request_key=f"{index:032x}")


def turns_of(found) -> int:
    """How many turns are finished."""
    return len(json.loads(found.turn_log)) if found else 0


def leave(path, rows: int, *lines) -> None:
    """One start that keeps turns (of rows without an answer) and records, and then dies."""
    with opened(path, rows) as store:
        started(store)
        for line in lines:
            (store.keep_turn if line.content == "so far" else store.keep)(line)
        store.abandon()


def turns(index: int, count: int, **changes):
    """What is kept between two turns."""
    return finished_turns(index, count, content="so far", **changes)


def so_far(path, index: int, rows: int = 3):
    """What the next start knows of a row's conversation."""
    with opened(path, rows) as store:
        return store.so_far(asked(index))


def test_what_a_crash_leaves_of_a_conversation_is_there_at_the_next_start(tmp_path):
    """The words and the log of the last finished turn; what it took and cost is added when the row is kept."""
    kept = turns(1, 2)
    leave(tmp_path / "out", 3, turns(1, 1), kept)
    found = so_far(tmp_path / "out", 1)
    assert (found.messages, found.turn_log, found.queued_s) == (kept.messages, kept.turn_log, 0.5)
    assert (found.attempts, found.attempt_log, found.cost_usd, found.error_type) == (0, None, None, None)
    assert so_far(tmp_path / "out", 0) is None


def test_recovering_twice_is_recovering_once(tmp_path):
    """Nothing is kept twice or lost by starts that do nothing."""
    leave(tmp_path / "out", 3, turns(1, 2))
    found = [so_far(tmp_path / "out", 1) for _ in range(3)]
    assert found[0] == found[1] == found[2]
    assert turns_of(found[0]) == 2
    assert list((tmp_path / "out" / "_journal").iterdir()) == []


def test_a_row_that_has_its_record_has_no_turns_left(tmp_path):
    """Nothing of it is carried into the manifest."""
    leave(tmp_path / "out", 3, turns(0, 1), record(0), turns(1, 1), record(1, failed=True))
    with opened(tmp_path / "out", 3) as store:
        assert not store.recovered.manifest.has_turns
        assert store.so_far(asked(0)) is None
        assert store.so_far(asked(1)) is None


def test_turns_of_a_row_that_has_succeeded_since_are_no_history(tmp_path):
    """An entry from before is still there; the row is not open, so it is not read."""
    leave(tmp_path / "out", 3, turns(1, 2))
    leave(tmp_path / "out", 3, record(1))
    with opened(tmp_path / "out", 3) as store:
        assert store.recovered.manifest.has_turns
        assert (store.is_open(1), store.so_far(asked(1))) == (False, None)


def test_a_late_turn_of_a_row_that_has_succeeded_is_left_out(tmp_path):
    """It says nothing about an open row."""
    keep_all(tmp_path / "out", [record(1)], 3)
    leave(tmp_path / "out", 3, turns(1, 2))
    with opened(tmp_path / "out", 3) as store:
        assert not store.recovered.manifest.has_turns


def test_another_conversation_is_not_gone_on_with(tmp_path):
    """Its request_key tells; what the row has cost is remembered all the same."""
    leave(tmp_path / "out", 3, turns(1, 2, request_key="other"))
    assert so_far(tmp_path / "out", 1) is None
    keep_all(tmp_path / "out", [record(1, cost_usd=5e-9)], 3)
    row = Snapshot(tmp_path / "out").table("results").to_pylist()[0]
    assert (row["attempts"], row["cost_usd"], row["attempt_log"]) == (3, 7e-9, None)


def test_a_failure_keeps_what_was_finished_and_the_next_start_goes_on_there(tmp_path):
    """`messages` and `turn_log` are columns of failures/; the failed attempt joins the log with its turn."""
    failure = finished_turns(1, 2, attempts=3, error_type="server_error", error_message="HTTP 500", content=None)
    keep_all(tmp_path / "out", [failure], 3)
    assert pq.read_table(tmp_path / "out" / "failures").column("turn_log").to_pylist() == [failure.turn_log]
    with opened(tmp_path / "out", 3) as store:
        found = store.so_far(asked(1))
        started(store)
        store.keep(record(1))
        store.close(DONE, [])
    assert (found.messages, found.turn_log, found.error_type) == (failure.messages, failure.turn_log, None)
    kept = Snapshot(tmp_path / "out").table("results").to_pylist()[0]
    assert [(attempt["turn"], attempt["number"]) for attempt in json.loads(kept["attempt_log"])] == [(3, 3)]


def test_turns_after_a_failure_win_over_it_also_when_failures_are_merged(tmp_path):
    """A merged part is younger than the turns, the failure in it is older: the one with more attempts is the last."""
    failure = finished_turns(1, 1, attempts=2, error_type="server_error", error_message="HTTP 500", content=None)
    keep_all(tmp_path / "out", [failure, record(0, failed=True)], 3)
    with opened(tmp_path / "out", 3) as store:
        started(store)
        store.keep_turn(turns(1, 2, attempts=1, cost_usd=1e-9))
        store.keep(record(0))
        store.close(DONE, [])
    with opened(tmp_path / "out", 3) as store:
        assert turns_of(store.so_far(asked(1))) == 2
        started(store)
        store.keep(record(1, cost_usd=1e-9))
        store.close(DONE, [])
    kept = {row["index"]: row for row in Snapshot(tmp_path / "out").table("results").to_pylist()}
    assert (kept[1]["attempts"], kept[1]["cost_usd"]) == (2 + 1 + 1, 3e-9)


def test_a_row_that_could_not_be_sent_adds_no_attempt_to_the_history(tmp_path):
    """A row that was left out as invalid has none; a later start with the same rows finds none either."""
    invalid = record(1, failed=True, attempts=0, error_type="input_invalid", cost_usd=None)
    keep_all(tmp_path / "out", [invalid], 3)
    keep_all(tmp_path / "out", [record(1)], 3, retry_failed="all")
    kept = Snapshot(tmp_path / "out").table("results").to_pylist()[0]
    assert (kept["attempts"], kept["attempt_log"]) == (1, None)


def test_a_failure_after_turns_of_an_earlier_start_wins_over_them(tmp_path):
    """It holds what they held, and more attempts."""
    leave(tmp_path / "out", 3, turns(1, 2))
    with opened(tmp_path / "out", 3) as store:
        started(store)
        store.keep(finished_turns(1, 2, attempts=1, cost_usd=4e-9, error_type="timed_out", content=None))
        store.close(DONE, [])
    keep_all(tmp_path / "out", [record(1, cost_usd=None)], 3)
    kept = Snapshot(tmp_path / "out").table("results").to_pylist()[0]
    assert (kept["attempts"], kept["cost_usd"]) == (2 + 1 + 1, 6e-9)


def test_a_full_segment_takes_the_turns_of_rows_in_flight_along(tmp_path):
    """Segments are sealed while a conversation goes on: after a crash its last turn is known, and no other's."""

    async def keep(store):
        store.start(StoreConfig(flush_ms=1, part_mb=0.002), lambda error: None)
        for index in range(1, 100):
            store.keep_turn(turns(0, 1 + index // 50))
            store.keep_turn(turns(index, 1))
            store.keep(record(index, content="x" * 200))
            if index % 10 == 0:
                await store.journal.settled()
        await asyncio.to_thread(store.abandon)

    with opened(tmp_path / "out", 200) as store:
        asyncio.run(keep(store))
    manifest = recovered_manifest(tmp_path / "out", 200)
    assert len(manifest.parts) > 6
    assert {one.index for one in manifest.turns()} == {0}
    assert all(entry.turns == [] for entry in manifest.entries)
    assert turns_of(so_far(tmp_path / "out", 0, 200)) == 2


def recovered_manifest(path, rows: int) -> Manifest:
    """The manifest after a start that does nothing."""
    with opened(path, rows) as store:
        return Manifest(store.recovered.folder, store.recovered.run_id)


def test_the_words_of_intermediate_answers_are_kept_once(tmp_path):
    """A turn's line has what is needed to go on, not the whole answer as it came."""
    leave(tmp_path / "out", 3, turns(1, 1, response="the raw answer", reasoning_content="hm"))
    (kept,) = recovered_manifest(tmp_path / "out", 3).turns()
    assert (kept.response, kept.reasoning_content, kept.content) == (None, None, None)


@pytest.mark.parametrize("cut", [1, 40, 200])
def test_a_torn_line_of_a_turn_costs_that_turn_only(tmp_path, cut):
    """The turn before it is the last one."""
    leave(tmp_path / "out", 3, turns(1, 1), turns(1, 2))
    (segment,) = (tmp_path / "out" / "_journal").glob("*.jl")
    segment.write_bytes(segment.read_bytes()[:-cut])
    assert turns_of(so_far(tmp_path / "out", 1)) == 1


def test_a_turn_in_the_open_journal_is_no_row_of_a_snapshot(tmp_path):
    """Who reads while the run goes on sees settled rows."""
    leave(tmp_path / "out", 3, turns(1, 1), record(0))
    snapshot = Snapshot(tmp_path / "out")
    assert [snapshot.table(kind).num_rows for kind in ("results", "failures")] == [1, 0]


def test_parts_from_before_there_were_turns_are_read(tmp_path):
    """Failures that an earlier version wrote lack two columns: they are null, and can be retried and merged."""
    path = tmp_path / "out"
    with pytest.MonkeyPatch.context() as patch:
        old = FAILURES.remove(FAILURES.get_field_index("turn_log")).remove(FAILURES.get_field_index("messages"))
        patch.setattr("batchrun.store.parts.FAILURES", old)
        keep_all(path, [record(0, failed=True), record(1, failed=True)], 2)
    assert "messages" not in pq.read_schema(max((path / "failures").glob("part-*"))).names
    assert Snapshot(path).table("failures", ["index", "messages"]).column("messages").to_pylist() == [None, None]
    keep_all(path, [record(0)], 2)
    (failure,) = Snapshot(path).table("failures").to_pylist()
    assert (failure["index"], failure["turn_log"], failure["attempts"]) == (1, None, 1)


def test_large_conversations_are_read_row_group_by_row_group(tmp_path, monkeypatch):
    """Batches do not grow with the part."""
    monkeypatch.setattr("batchrun.store.parts._ROW_GROUP_MOST_BYTES", 1)
    keep_all(tmp_path / "out", [record(index) for index in range(3)], 3)
    with opened(tmp_path / "out", 3) as store:
        from batchrun.store.parts import PartWriter, read_columns
        from batchrun.store.schema import RESULTS, to_batch

        folder = store.recovered.folder
        writer = PartWriter(folder, folder.results, "part-000009-000001.parquet", RESULTS)
        for index in range(4):
            writer.add(to_batch([record(index)], RESULTS))
        part = writer.finish()
        assert [batch.num_rows for batch in read_columns(folder, part, ["index"])] == [1, 1, 1, 1]


# The law of totals

ERROR = server_error(usage=USAGE)
OUTCOMES = {"answer": [0], "retried answer": [ERROR, 0], "fail": [ERROR, ERROR], "lost answer": [0]}
ACTIONS = st.lists(st.sampled_from([*OUTCOMES, "crash", "close"]), max_size=10)


class Talk:
    """One conversation of four turns over many starts, beside what an outsider has seen charged and kept."""

    def __init__(self, path: Path) -> None:
        self.path = path
        self.cost_usd, self.attempts, self.errors = 0.0, 0, 0
        self.settled = False

    def start(self, actions: list[str]) -> None:
        """One start of the run: goes on where it can, until it is told to end."""
        with opened(self.path, 1) as store:
            so_far = store.so_far(asked(0))
            request = following(asked(0), so_far) if so_far else asked(0)
            started(store)
            how = "close"
            while request and actions and not self.settled:
                how = actions.pop(0)
                if how in {"crash", "close"}:
                    break
                request = self._turn(store, request, how)
            if how == "crash":
                store.abandon()
            else:
                store.close(DONE, [])

    def _turn(self, store, request, how: str):
        outcomes = OUTCOMES[how]
        one = fulfilled(request, outcomes)
        if how == "lost answer":
            return request
        self.cost_usd += COST_USD * len(outcomes)
        self.attempts += len(outcomes)
        self.errors += len(outcomes) - outcomes.count(0)
        if next_request := following(request, one):
            store.keep_turn(one)
        else:
            store.keep(one)
            self.settled = one.error_type is None
        return next_request


def fulfilled(request, outcomes):
    """A request's record, from an endpoint that gives these outcomes; 0 stands for an answer."""

    async def once():
        def script(sent):
            words = json.loads(sent.body)["messages"][-1]["content"]
            return 0.1, outcomes[sent.number - 1] or completion(content=f"A{words[1:]}")

        return await Engine(script, 1, retry={"max_attempts": 2}).fulfiller.fulfil(request)

    return virtual_time.run(once())


@settings(max_examples=10, deadline=None)
@given(ACTIONS)
def test_totals_are_what_was_charged_and_kept_whatever_came_between(actions):
    """Answers, failures, crashes and ends in any order: cost, usage, attempts and log count all of it, once."""
    talk_through(actions)


@pytest.mark.rig
@settings(max_examples=300, deadline=None)
@given(ACTIONS)
def test_totals_are_what_was_charged_and_kept_many_times(actions):
    """The long form."""
    talk_through(actions)


def talk_through(actions) -> None:
    """These actions, then answers until the row has settled; then its totals are compared with what was seen."""
    with tempfile.TemporaryDirectory() as folder:
        talk = Talk(Path(folder, "out"))
        while actions and not talk.settled:
            talk.start(actions)
        while not talk.settled:
            talk.start(["answer"] * 4)
        (row,) = Snapshot(talk.path).table("results").to_pylist()
        left = Snapshot(talk.path).table("failures").num_rows
    assert row["cost_usd"] == pytest.approx(talk.cost_usd, abs=1e-12)
    assert (row["attempts"], left) == (talk.attempts, 0)
    assert len(json.loads(row["attempt_log"] or "[]")) == talk.errors
    assert (row["prompt_tokens"], row["completion_tokens"], row["usage_source"]) == (400, 40, "endpoint")
    assert [turn["turn"] for turn in json.loads(row["turn_log"])] == [1, 2, 3, 4]
    said = [message["content"] for message in json.loads(row["messages"])]
    assert said == ["Q1", "A1", "Q2", "A2", "Q3", "A3", "Q4", "A4"]


# A disk that stops or fails anywhere

pytest_fork = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
ROWS = 6


def session(path, fs, writer) -> None:
    """One start that goes on with every conversation, a turn of each row in turn; says what was committed."""
    with opened(path, ROWS, fs) as store:
        talks = {index: store.so_far(asked(index)) for index in range(ROWS) if store.is_open(index)}
        asyncio.run(_talk(store, {index: turns_of(found) for index, found in talks.items()}, writer))


async def _talk(store, finished: dict[int, int], writer) -> None:
    os.write(writer, b"".join(b"found %d %d\n" % pair for pair in finished.items()))
    store.start(StoreConfig(flush_ms=1, part_mb=0.002), lambda error: None)
    for index in finished:
        await store.may_send(index)
    for turn in range(1, 5):
        for index in [index for index, done in finished.items() if done < turn]:
            if turn < 4:
                store.keep_turn(turns(index, turn, **_taken(turn - finished[index])))
            else:
                store.keep(finished_turns(index, 4, **_taken(4 - finished[index])))
        await store.journal.settled()
        os.write(writer, b"".join(b"kept %d %d\n" % (index, turn) for index, done in finished.items() if done < turn))
    await asyncio.to_thread(store.close, DONE, [])


def _taken(turns_of_this_start: int) -> dict[str, float]:
    """What a record says of the turns of its own start."""
    return {"attempts": turns_of_this_start, "cost_usd": turns_of_this_start / 1e9}


def forked(path, fs=None) -> tuple[dict[int, int], dict[int, int]]:
    """A start in a process of its own: the finished turns it found of each open row, and those it committed."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        code = CRASHED - 1
        try:
            session(path, fs, writer)
            code = 0
        except StoreError as error:
            code = error.exit_code
        finally:
            os._exit(code)
    os.close(writer)
    seen: dict[str, dict[int, int]] = {"found": {}, "kept": {}}
    with os.fdopen(reader, "rb") as file:
        for line in file.read().decode().splitlines():
            kind, index, turn = line.split()
            seen[kind][int(index)] = int(turn)
    code = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
    assert code in ({0, CRASHED, 6} if fs else {0}), f"the process ended with {code}"
    return seen["found"], seen["kept"]


def strike(tmp_path, at: int, fault: str) -> None:
    """A fault at one operation: the next start finds at least every committed turn, and the totals come out right."""
    path = tmp_path / f"{fault}-{at}"
    _, committed = forked(path, FaultyFs(at, fault))
    found, _ = forked(path)
    for index, turn in committed.items():
        assert found.get(index, 4) >= turn  # a row that is not open has all four
    results = Snapshot(path).table("results").to_pylist()
    assert sorted(row["index"] for row in results) == list(range(ROWS))
    assert {(row["attempts"], row["cost_usd"]) for row in results} == {(4, 4e-9)}
    assert list((path / "_journal").iterdir()) == []


def operations(tmp_path) -> int:
    """How many operations a start without a fault takes, give or take a group."""
    fs = FaultyFs()
    reader, writer = os.pipe()
    session(tmp_path / "counted", fs, writer)
    os.close(reader)
    os.close(writer)
    return fs.count


@pytest_fork
@pytest.mark.parametrize("fault", ["before", "torn"])
def test_a_fault_at_many_operations_loses_no_committed_turn(tmp_path, fault):
    """The short form: every 61st operation, each way to fail."""
    for at in range(10, operations(tmp_path) + 1, 61):
        strike(tmp_path, at, fault)


@pytest_fork
@pytest.mark.rig
@pytest.mark.parametrize("fault", ["before", "after", "torn", "full", "broken"])
def test_a_fault_at_any_operation_loses_no_committed_turn(tmp_path, fault):
    """The long form: every operation, each way to fail."""
    for at in range(1, operations(tmp_path) + 1):
        strike(tmp_path, at, fault)

"""The store against a dict: whatever happens in whatever order, both say the same of every question."""

from __future__ import annotations

import asyncio
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import NamedTuple

import pytest
from hypothesis import HealthCheck, Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule, run_state_machine_as_test
from promises import quick_folder
from stores import record, run_file

from batchrun.config import StoreConfig
from batchrun.errors import FolderBusy
from batchrun.store.compacting import compact
from batchrun.store.folder import RunFolder
from batchrun.store.identity import fit
from batchrun.store.keeper import Store
from batchrun.store.manifest import Session
from batchrun.store.snapshot import Snapshot

QUESTIONS = range(12)
FAILURES = {"server_error": "retryable", "request_rejected": "all"}
"""A kind of failure, and from which `retry_failed` on it is tried again."""
TRIED_AGAIN = {"none": set(), "retryable": {"retryable"}, "all": {"retryable", "all"}}
LEAST_STEPS = 3
"""So often a start sends or settles, if it can, before it is stopped: starts take the most time."""

INPUT = st.lists(st.sampled_from(QUESTIONS), unique=True, min_size=1)


class Kept(NamedTuple):
    """What the dict says of a question: its text is another for each attempt."""

    text: str
    attempts: int
    error_type: str | None


class StoreMachine(RuleBasedStateMachine):
    """One folder, through many starts."""

    def __init__(self):
        super().__init__()
        self.held = ExitStack()
        self.path = Path(self.held.enter_context(quick_folder())) / "out"
        self.loop = asyncio.new_event_loop()
        self.held.callback(self.loop.close)
        self.kept: dict[int, Kept] = {}
        self.aside: dict[int, Kept] = {}
        self.exposed: set[int] = set()
        self.pending: list[tuple[int, Kept]] = []
        self.serial = 0
        self.running = False

    # Starts and stops

    @initialize(asked=INPUT)
    def first_start(self, asked):
        self.asked: list[int] = asked
        self._start("retryable")

    @precondition(lambda self: self.since_start >= LEAST_STEPS or not self.to_send)
    @rule(
        how=st.sampled_from(["close", "crash", "cut", "change the input"]),
        retry=st.sampled_from(sorted(TRIED_AGAIN)),
        compacted=st.booleans(),
        asked=INPUT,
        part=st.floats(0, 1),
    )
    def stop_and_start(self, how, retry, compacted, asked, part):
        if how in {"crash", "cut"}:
            self._crash(part if how == "cut" else 1)
        else:
            self._close()
        if how == "change the input":
            self._change(asked)
        self._start(retry, compacted=compacted)

    def _change(self, asked):
        """Answers move with their question, are set aside, and come back; failures of what is gone are forgotten."""
        gone = {question: kept for question, kept in self.kept.items() if question not in asked}
        self.aside |= {question: kept for question, kept in gone.items() if kept.error_type is None}
        back = {question: self.aside.pop(question) for question in asked if question in self.aside}
        self.kept = {question: kept for question, kept in self.kept.items() if question in asked} | back
        self.exposed = self.exposed if asked == self.asked else set()
        self.asked = asked

    def _crash(self, part):
        """Of what nobody was told that it is on disk, any first part is: what was handed over later is lost."""
        self.running = False
        self.store.abandon()
        self.session.close()
        if segments := sorted((self.path / "_journal").glob("*.jl")):
            data = segments[-1].read_bytes()
            floor = self.floors.get(segments[-1].name, data.index(b"\n") + 1)
            segments[-1].write_bytes(data[: floor + round(part * (len(data) - floor))])
        self.exposed |= set(self.in_flight)

    def _close(self):
        self._flush()
        self.running = False
        places = [self.asked.index(question) for question in self.in_flight]
        self._do(asyncio.to_thread(self.store.close, Session(exit_code=0, cause=""), places))
        self.session.close()
        self.exposed |= set(self.in_flight)

    def _start(self, retry, *, compacted=False):
        self.session = ExitStack()
        folder = RunFolder(self.path)
        folder.make()
        self.session.enter_context(folder.locked())
        if compacted:
            compact(folder)
        run = run_file(len(self.asked), fingerprint=str(self.asked))
        fitted = fit(folder, run, self._input, "rerun")
        self.store = Store(folder, fitted.run, retry_failed=retry)
        self._compare()
        self._compare_open(retry)
        self.in_flight: list[int] = []
        self.floors: dict[str, int] = {}
        self._do(self._start_store())
        self.running, self.since_start = True, 0

    async def _start_store(self):
        self.store.start(StoreConfig(flush_ms=10_000, part_mb=0.002), lambda error: None)

    def _input(self):
        return [(index, f"row-{question}", f"{question + 1:032x}") for index, question in enumerate(self.asked)]

    def _do(self, work):
        return self.loop.run_until_complete(work)

    # What a start does

    @precondition(lambda self: self.to_send)
    @rule()
    def send(self):
        self.since_start += 1
        question = self.to_send.pop(0)
        self._do(self.store.may_send(self.asked.index(question)))
        self._note_what_is_on_disk()
        self.in_flight.append(question)

    @precondition(lambda self: self.in_flight)
    @rule(which=st.integers(0), error_type=st.sampled_from([None, None, *FAILURES]), long=st.booleans())
    def settle(self, which, error_type, long):
        question = self.in_flight.pop(which % len(self.in_flight))
        self.since_start += 1
        self.serial += 1
        text = f"{question} {self.serial}" + long * ("x" * 1000)
        names = {"custom_id": f"row-{question}", "request_key": f"{question + 1:032x}", "cost_usd": 1e-9}
        said = {"error_type": error_type, "error_message": text} if error_type else {"content": text}
        self.store.keep(record(self.asked.index(question), failed=bool(error_type), **names, **said))
        before = self.kept.get(question)
        self.pending.append((question, Kept(text, 1 + (before.attempts if before else 0), error_type)))

    @rule()
    def flush(self):
        self._flush()

    def _flush(self):
        self._do(self.store.journal.settled())
        self._note_what_is_on_disk()
        for question, kept in self.pending:
            self._settled(question, kept)
        self.pending = []

    def _note_what_is_on_disk(self):
        """A crash takes away at most what comes behind it."""
        self.floors = {}
        for path in (self.path / "_journal").glob("*.jl"):
            with suppress(FileNotFoundError):  # a segment that was absorbed just now
                self.floors[path.name] = path.stat().st_size

    def _settled(self, question, kept):
        self.kept[question] = kept
        self.exposed.discard(question)

    @rule()
    def start_a_second_time(self):
        with pytest.raises(FolderBusy), RunFolder(self.path).locked():
            pass

    @rule()
    def look(self):
        """A reader finds what is kept, and perhaps a first part of what is about to be."""
        found = self._found()
        for question, kept in self.pending:
            found.pop(question) if found.get(question) == kept else None
        pending = dict(self.pending)
        expected = {
            question: kept for question, kept in self.kept.items() if question in found or question not in pending
        }
        assert {question: kept.text for question, kept in found.items()} == {
            question: kept.text for question, kept in expected.items()
        }

    # What must be the same

    def _found(self) -> dict[int, Kept]:
        snapshot, found = Snapshot(self.path), {}
        for kind, text in (("results", "content"), ("failures", "error_message")):
            for row in snapshot.table(kind).to_pylist():
                question = int(row["request_key"], 16) - 1
                assert question not in found
                assert self.asked[row["index"]] == question
                assert row["custom_id"] == f"row-{question}"
                assert round(row["cost_usd"] * 1e9) == row["attempts"]
                found[question] = Kept(row[text], row["attempts"], row.get("error_type"))
        return found

    def _compare(self):
        """Of what was handed over before a crash a first part may be there; all else is as the dict says."""
        found, lost = self._found(), False
        for question, kept in self.pending:
            there = question in found and found[question].text == kept.text
            assert not (there and lost)
            lost = not there
            if there:
                self._settled(question, kept)
            else:
                self.exposed.add(question)
        self.pending = []
        assert found == self.kept

    def _compare_open(self, retry):
        states = {question: FAILURES.get(kept.error_type or "", "never") for question, kept in self.kept.items()}
        self.to_send = [q for q in self.asked if q not in states or states[q] in TRIED_AGAIN[retry]]
        assert self.to_send == [q for index, q in enumerate(self.asked) if self.store.is_open(index)]
        named = {self.asked[index] for index in self.store.recovered.exposed}
        assert {q for q in self.exposed if states.get(q) in {None, "retryable"}} <= named
        assert not {q for q in named if states.get(q) == "never"}

    def teardown(self):
        with self.held:
            if self.running:
                self._close()
                self._start("none")
                self._close()
                assert list((self.path / "_journal").iterdir()) == []


def run_machine(examples: int, steps: int) -> None:
    """So many examples of so many steps."""
    quick = {"deadline": None, "suppress_health_check": list(HealthCheck), "database": None}
    some = settings(max_examples=examples, stateful_step_count=steps, phases=[Phase.generate, Phase.shrink], **quick)
    run_state_machine_as_test(StoreMachine, settings=some)


def test_the_store_is_a_dict():
    """The short form."""
    run_machine(6, 25)


@pytest.mark.rig
def test_the_store_is_a_dict_whatever_happens(reached):
    """T6: the long form."""
    run_machine(400, 50)
    reached("T6", "examples of 50 steps", 400, 400)

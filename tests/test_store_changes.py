"""The input changes: what is the same is kept wherever it has moved, what is not is set aside, and nothing is lost."""

from __future__ import annotations

import asyncio
import json
import shutil
from contextlib import contextmanager

import pandas as pd
import pyarrow.parquet as pq
import pytest
from damages import mend
from hypothesis import given, settings
from hypothesis import strategies as st
from stores import FaultyFs, feed, finished_turns, in_a_child, record, run_file, started

from batchrun.errors import FolderUnusable
from batchrun.store.folder import RunFolder
from batchrun.store.identity import fit, folder_of, fresh_folder
from batchrun.store.keeper import Store
from batchrun.store.snapshot import Snapshot
from batchrun.types import Request

pytestmark = pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")


def rows(*asked: str) -> list[tuple[int, str, str | None]]:
    """An input by what it asks: `name=words` has an id of its own, `words` one made from its place."""
    made = []
    for index, text in enumerate(asked):
        name, _, words = text.rpartition("=")
        made.append((index, name or f"row-{index}", f"{int.from_bytes(words.encode()[:16]):032x}"))
    return made


def fingerprint(asked) -> str:
    """What stands for all ids and requests."""
    return repr(rows(*asked))


def settle(path, asked, on_change="refuse", *, fs=None, failed=(), only=None) -> list[str]:
    """One start of a run on an input; returns the words that were sent."""
    folder, wanted = RunFolder(path, fs), rows(*asked)
    folder.make()
    with folder.locked():
        run = fit(folder, run_file(len(asked), fingerprint=fingerprint(asked)), lambda: wanted, on_change).run
        store = Store(folder, run)
        todo = [row for row in wanted if store.is_open(row[0])][:only]
        records = [
            record(
                index,
                failed=asked[index] in failed,
                custom_id=custom_id,
                request_key=key,
                **({} if asked[index] in failed else {"content": asked[index].rpartition("=")[2]}),
            )
            for index, custom_id, key in todo
        ]
        asyncio.run(feed(store, records, part_mb=0.002))
    return [asked[index] for index, _, _ in todo]


@contextmanager
def opened_as(path, asked):
    """The store of an input, opened under its lock."""
    folder = RunFolder(path)
    folder.make()
    with folder.locked():
        run = fit(folder, run_file(len(asked), fingerprint=fingerprint(asked))).run
        yield Store(folder, run)


def answers(path) -> list[tuple[str, str]]:
    """Ids and answers in the order of the input, as any reader of Parquet finds them."""
    frame = pd.read_parquet(path / "results").sort_values("index")
    assert frame["index"].is_unique
    return list(zip(frame["custom_id"], frame["content"], strict=True))


def set_aside(path) -> list[str]:
    """The answers that are kept beside the results."""
    parts = sorted((path / "_replaced" / "results").glob("part-*"))
    return sorted(text for part in parts for text in pq.read_table(part)["content"].to_pylist())


def test_a_change_is_refused_with_what_it_means_and_nothing_is_touched(tmp_path):
    """Rows by what becomes of them, and what may be typed next."""
    path = tmp_path / "out"
    settle(path, ["a", "b", "c"])
    before = {one: one.stat().st_mtime_ns for one in path.rglob("*") if one.name != "_lock"}
    with pytest.raises(FolderUnusable) as refused:
        settle(path, ["a", "x", "d", "c"])
    assert "2 kept, 1 new, 1 changed, 0 gone" in refused.value.message
    assert "--on-change rerun" in refused.value.remedy
    assert before == {one: one.stat().st_mtime_ns for one in path.rglob("*") if one.name != "_lock"}


def test_rows_that_only_moved_cost_nothing(tmp_path):
    """Reversed, with made ids: every answer is where its question is now."""
    path = tmp_path / "out"
    settle(path, ["a", "b", "c", "d"])
    assert settle(path, ["d", "c", "b", "a"], "append") == []
    assert answers(path) == [("row-0", "d"), ("row-1", "c"), ("row-2", "b"), ("row-3", "a")]
    assert not set_aside(path)


def test_rows_with_another_id_cost_nothing(tmp_path):
    """The request decides; the record gets the new id."""
    path = tmp_path / "out"
    settle(path, ["one=a", "two=b"])
    assert settle(path, ["eins=a", "two=b"], "append") == []
    assert answers(path) == [("eins", "a"), ("two", "b")]


def test_the_same_question_asked_often_keeps_as_many_answers(tmp_path):
    """Three samples of one prompt are three answers; a fourth is new."""
    path = tmp_path / "out"
    settle(path, ["a", "a", "a"])
    assert settle(path, ["a", "a", "a", "a"], "append") == ["a"]
    assert len(answers(path)) == 4


def test_new_rows_are_appended_without_rewriting_a_part(tmp_path):
    """What is kept stays as it is on disk."""
    path = tmp_path / "out"
    settle(path, ["a", "b"])
    before = {part.name: part.stat().st_ino for part in (path / "results").iterdir()}
    assert settle(path, ["a", "b", "c"], "append") == ["c"]
    assert before.items() <= {part.name: part.stat().st_ino for part in (path / "results").iterdir()}.items()
    assert settle(path, ["a", "b", "c"]) == []


@pytest.mark.parametrize("asked", [["a", "x"], ["a"], ["x=a", "b=y"]])
def test_append_takes_additions_only(tmp_path, asked):
    """A row that changed or is gone is refused."""
    path = tmp_path / "out"
    settle(path, ["a", "b=b"])
    with pytest.raises(FolderUnusable):
        settle(path, asked, "append")
    assert len(answers(path)) == 2


def test_what_changed_or_is_gone_is_sent_again_and_its_answer_set_aside(tmp_path):
    """Three answers were paid for, three are kept: one in place, two beside."""
    path = tmp_path / "out"
    settle(path, ["a", "b=b", "c=c"])
    assert settle(path, ["a", "b=x"], "rerun") == ["b=x"]
    assert answers(path) == [("row-0", "a"), ("b", "x")]
    assert set_aside(path) == ["b", "c"]
    assert settle(path, ["a", "b=x"]) == []


def test_an_answer_that_was_set_aside_comes_back(tmp_path):
    """An edit that is undone is not paid for."""
    path = tmp_path / "out"
    settle(path, ["a", "b"])
    settle(path, ["a", "x"], "rerun")
    assert settle(path, ["a", "b"], "rerun") == []
    assert answers(path) == [("row-0", "a"), ("row-1", "b")]
    assert set_aside(path) == ["x"]


def test_a_folder_without_an_answer_takes_any_input(tmp_path):
    """There is nothing to lose, but it still asks."""
    path = tmp_path / "out"
    settle(path, ["a"], only=0)
    assert settle(path, ["x", "y"], "append") == ["x", "y"]


def test_failures_move_with_their_rows(tmp_path):
    """One that may be tried again is, one that is gone is set aside, and no row stands twice."""
    path = tmp_path / "out"
    settle(path, ["a", "b", "c"], failed={"b", "c"})
    assert settle(path, ["b", "a"], "rerun", failed={"b"}) == ["b"]
    snapshot = Snapshot(path)
    assert snapshot.table("failures")["index"].to_pylist() == [0]
    assert snapshot.table("failures")["attempts"].to_pylist() == [2]
    assert answers(path) == [("row-1", "a")]


def test_a_settled_failure_is_not_set_aside(tmp_path):
    """Its attempts are in the success's log already."""
    path = tmp_path / "out"
    settle(path, ["a", "b"], failed={"b"})
    with opened_as(path, ["a", "b"]) as store:  # a crash right after: the failure is still in its part
        started(store)
        store.keep(record(1, custom_id="row-1", request_key=rows("a", "b")[1][2], content="b"))
        store.abandon()
    assert settle(path, ["b", "a"], "rerun") == []
    assert answers(path) == [("row-0", "b"), ("row-1", "a")]
    assert not (path / "_replaced").exists()


def test_finished_turns_of_a_conversation_move_with_their_row(tmp_path):
    """It goes on where it was, at its new place."""
    path, key = tmp_path / "out", rows("a", "b")[1][2]
    with opened_as(path, ["a", "b"]) as store:
        started(store)
        store.keep_turn(finished_turns(1, 2, request_key=key))
        store.abandon()
    folder, wanted = RunFolder(path), rows("new", "b=b")
    with folder.locked():
        run = fit(folder, run_file(2, fingerprint="g"), lambda: wanted, "rerun").run
        store = Store(folder, run)
        index, custom_id, _ = wanted[1]
        request = Request(index=index, custom_id=custom_id, request_key=key, api="chat", model="m", body=b"")
        so_far = store.so_far(request)
    assert (so_far.index, so_far.custom_id, len(json.loads(so_far.turn_log))) == (1, "b", 2)


def test_a_part_that_is_copied_back_is_still_a_stray(tmp_path):
    """A dropped part is taken away again; one that nobody knows is refused."""
    path = tmp_path / "out"
    settle(path, ["a", "b"])
    old = [part for part in (path / "results").iterdir() if "000000-000000" not in part.name]
    data = old[0].read_bytes()
    settle(path, ["b", "a"], "rerun")
    old[0].write_bytes(data)
    settle(path, ["b", "a"])
    assert len(answers(path)) == 2
    settle(path, ["a", "b"], "rerun")
    old[0].write_bytes(data)  # not one of those that the last change has dropped
    settle(path, ["a", "b"])
    assert len(answers(path)) == 2


def test_an_answer_that_was_set_aside_is_mended_too(tmp_path):
    """It was paid for, and a later input may ask for it again."""
    path = tmp_path / "out"
    settle(path, ["a", "b"])
    settle(path, ["c", "b"], "rerun")
    with next((path / "_replaced/results").glob("part-*")).open("ab") as part:
        part.write(b"more")
    assert (mend(path).saved_rows, set_aside(path)) == (1, ["a"])
    assert settle(path, ["a", "b"], "rerun") == []


def test_new_goes_on_in_the_folder_that_it_made(tmp_path):
    """The same command again finds it; the next change gets a folder of its own."""
    path = tmp_path / "out"
    settle(path, ["a"])
    first = folder_of(str(path), run_file(1, fingerprint=fingerprint(["x"])))
    assert first.path.name == "out-2"
    settle(first.path, ["x"])
    assert folder_of(str(path), run_file(1, fingerprint=fingerprint(["x"]))).path == first.path
    assert folder_of(str(path), run_file(1, fingerprint=fingerprint(["a"]))).path == path
    assert folder_of(f"{path}/", run_file(1, fingerprint="y")).path.name == "out-3"


def test_fresh_takes_the_first_name_that_is_free(tmp_path):
    """Nothing is deleted, nothing is written into what is there."""
    path = tmp_path / "out"
    assert fresh_folder(str(path)).path == path
    path.mkdir()
    (tmp_path / "out-2").symlink_to("nowhere")
    assert fresh_folder(str(path)).path.name == "out-3"


# Crashes


BEFORE = ["a", "b=b", "c", "d=d", "e", "f", "g"]
AFTER = ["g", "a", "b=x", "d=d", "new", "e"]


def strike(tmp_path, at: int, fault: str) -> None:
    """A change that is cut at one operation, then the same command again: every answer once, none lost."""
    path, before = tmp_path / f"{fault}-{at}", tmp_path / "before"
    if not before.exists():
        settle(before, BEFORE, failed={"c"})
    shutil.copytree(before, path)
    in_a_child(lambda: settle(path, AFTER, "rerun", fs=FaultyFs(at, fault)))
    Snapshot(path)
    settle(path, AFTER, "rerun")
    expected = [("row-0", "g"), ("row-1", "a"), ("b", "x"), ("d", "d"), ("row-4", "new"), ("row-5", "e")]
    assert answers(path) == expected
    assert set_aside(path) == ["b", "f"]
    assert not [one for one in path.rglob(".*") if one.name.endswith(".tmp")]


@pytest.mark.parametrize("fault", ["before", "full"])
def test_a_change_that_is_cut_is_finished_by_the_same_command(tmp_path, fault):
    """The short form: a few operations."""
    for at in range(9 if fault == "before" else 30, 130, 47):
        strike(tmp_path, at, fault)


@pytest.mark.rig
@pytest.mark.parametrize("fault", ["before", "after", "torn", "full", "broken"])
def test_a_change_that_is_cut_anywhere_is_finished_by_the_same_command(tmp_path, fault):
    """The long form: every operation that a kill may precede, every fourth for the other ways to fail."""
    for at in range(1, 131, 1 if fault == "before" else 4):
        strike(tmp_path, at, fault)


# Any change at all

WORDS = st.lists(st.sampled_from(["a", "b", "c", "1=a", "1=b", "2=a", "3=d"]), min_size=1, max_size=8)
INPUTS = WORDS.filter(lambda asked: len({name for _, name, _ in rows(*asked)}) == len(asked))


def follow(path, inputs) -> None:
    """After each change the answers are those to the questions, and nothing is ever sent that is kept somewhere."""
    paid: dict[str, int] = {}
    for number, asked in enumerate(inputs, start=1):
        sent = settle(path, asked, "rerun")
        words = [text.rpartition("=")[2] for text in asked]
        assert answers(path) == [(name, word) for (_, name, _), word in zip(rows(*asked), words, strict=True)]
        for text in sent:
            paid[text.rpartition("=")[2]] = paid.get(text.rpartition("=")[2], 0) + 1
        kept = [answer for _, answer in answers(path)] + set_aside(path)
        assert {word: kept.count(word) for word in paid} == paid
        for word, count in paid.items():
            assert count <= max(sum(text.rpartition("=")[2] == word for text in one) for one in inputs[:number])


@settings(max_examples=4, deadline=None)
@given(inputs=st.lists(INPUTS, min_size=2, max_size=4))
def test_no_answer_is_paid_for_twice_whatever_the_changes(tmp_path_factory, inputs):
    """Of each question no more answers were bought than an input ever asked for at once."""
    follow(tmp_path_factory.mktemp("changes") / "out", inputs)


@pytest.mark.rig
@settings(max_examples=60, deadline=None)
@given(inputs=st.lists(INPUTS, min_size=2, max_size=5))
def test_no_answer_is_paid_for_twice_whatever_many_changes(tmp_path_factory, inputs):
    """The long form."""
    follow(tmp_path_factory.mktemp("changes") / "out", inputs)

"""The two small files by which a run that is going on says how it stands, and is asked to do something."""

from __future__ import annotations

import errno
import os
import platform
import threading

import msgspec
import pytest
from commands import wait_for
from refused_calls import can_refuse, in_thread, refuse

from batchrun.errors import ConfigError, FolderBusy
from batchrun.store import live
from batchrun.store.folder import RunFolder
from batchrun.store.live import Answer, Board, Control, Live, ask, is_held, look

STANDS = Live(
    pid=1,
    at=0,
    open_rows=9,
    in_flight=1,
    ceiling=8,
    concurrency=8,
    paused=False,
    throttled=0,
    retrying=0,
    oldest_s=0.5,
    oldest="c0",
    waits_for="the endpoint",
)
PAUSE = Control(id="a", do="pause")


@pytest.fixture
def folder(tmp_path):
    """A folder that a process of this machine holds, one that is always there."""
    (tmp_path / "_lock").write_bytes(msgspec.json.encode({"host": platform.node(), "pid": 1}))
    return RunFolder(tmp_path)


def put(folder, control) -> None:
    """Ask without waiting."""
    (folder.path / ".control.json").write_bytes(msgspec.json.encode(control))


def test_what_is_asked_is_given_until_it_is_answered(folder):
    """A question whose answer has been said is taken away: its asker has not waited."""
    board = Board(folder)
    put(folder, PAUSE)
    assert board.exchange(STANDS) == PAUSE
    assert board.exchange(STANDS) == PAUSE
    done = Answer(id="a", done=True, said="paused")
    assert board.exchange(msgspec.structs.replace(STANDS, answer=done)) is None
    assert board.exchange(STANDS) is None
    board.close()
    assert [path.name for path in folder.path.iterdir()] == ["_lock"]


def test_what_is_no_control_is_taken_away(folder):
    """Nobody knows what it asks for."""
    board = Board(folder)
    (folder.path / ".control.json").write_bytes(b"please")
    assert board.exchange(STANDS) is None
    assert not (folder.path / ".control.json").exists()
    board.close()


def test_a_run_that_cannot_say_how_it_stands_goes_on(tmp_path):
    """It goes unseen, and nothing else happens."""
    board = Board(RunFolder(tmp_path / "gone"))
    assert board.exchange(STANDS) is None
    board.close()


def test_what_is_being_written_is_read_a_moment_later(folder, monkeypatch):
    """A file that stays in pieces is that of a run that says nothing."""
    path = folder.path / ".live.json"
    path.write_bytes(b"{")
    assert look(folder) is None
    monkeypatch.setattr(live, "_TORN_S", 60)
    monkeypatch.setattr(live.time, "sleep", lambda _: path.write_bytes(msgspec.json.encode(STANDS)))
    assert look(folder) == STANDS


def test_a_run_that_has_not_sent_yet_says_nothing(folder):
    """It holds the folder, and there is no file."""
    assert look(folder) is None


@pytest.mark.parametrize("holder", [b"", b"[]", b'{"host":"elsewhere","pid":1}', None])
def test_nobody_holds_it(folder, holder):
    """Its holder is of another machine, is this process, or cannot be read."""
    own = {"host": platform.node(), "pid": os.getpid()}
    (folder.path / "_lock").write_bytes(msgspec.json.encode(own) if holder is None else holder)
    assert not is_held(folder)


@pytest.mark.skipif(not can_refuse(), reason="this kernel refuses no system call on request")
def test_another_users_process_is_there_all_the_same(folder):
    """The system says so by refusing a signal to it."""

    def asked():
        refuse("kill", errno.EPERM)
        return is_held(folder)

    assert in_thread(asked)


def answered(folder, reply) -> None:
    """Reply to the first question, from a thread of its own, by what `reply` does to the folder."""
    wait_for((folder.path / ".control.json").exists)
    reply()


@pytest.fixture
def replying(folder):
    """A run that says how it stands, and does something as soon as it is asked."""
    board = Board(folder)
    board.exchange(STANDS)
    threads = []

    def reply(action):
        threads.append(threading.Thread(target=answered, args=(folder, action)))
        threads[-1].start()
        return board

    yield reply
    for thread in threads:
        thread.join()


def test_who_asks_gets_the_answer(folder, replying):
    """And the question is taken away."""
    done = Answer(id="a", done=True, said="paused")
    board = replying(lambda: board.exchange(msgspec.structs.replace(STANDS, answer=done)))
    assert ask(folder, PAUSE) == done
    assert not (folder.path / ".control.json").exists()


def test_who_asks_is_told_that_the_run_has_ended(folder, replying):
    """It does not wait for nobody."""
    replying((folder.path / ".live.json").unlink)
    with pytest.raises(ConfigError, match="the run ended before it answered"):
        ask(folder, PAUSE)


def test_the_last_word_of_a_run_is_heard(folder, replying):
    """It may answer and end before anybody has looked again."""
    done = Answer(id="a", done=True, said="the run ends")

    def answer_and_end():
        board.exchange(msgspec.structs.replace(STANDS, answer=done))
        board.close()

    board = replying(answer_and_end)
    assert ask(folder, PAUSE) == done


def test_an_answer_that_is_being_written_is_none_yet(tmp_path):
    """It is looked for again."""
    (tmp_path / "live").write_bytes(b'{"pid":')
    with (tmp_path / "live").open("rb") as file:
        assert live._answer_in(file) is None


def test_who_asks_does_not_wait_for_ever(folder, replying):
    """A run that does not answer is as it was."""
    replying(lambda: None)
    with pytest.raises(FolderBusy, match=r"has not answered for 0\.05 s; nothing was changed"):
        ask(folder, PAUSE, within_s=0.05)
    assert not (folder.path / ".control.json").exists()


def test_one_asks_at_a_time(folder):
    """The second is refused, and the question of the first stays."""
    Board(folder).exchange(STANDS)
    put(folder, Control(id="b", do="drain"))
    with pytest.raises(FolderBusy, match="is being asked something else"):
        ask(folder, PAUSE)
    assert b"drain" in (folder.path / ".control.json").read_bytes()


def test_nobody_is_asked_where_no_run_is_sending(tmp_path):
    """The remedy is to look how it stands."""
    with pytest.raises(ConfigError, match="no run is sending from it"):
        ask(RunFolder(tmp_path), PAUSE)

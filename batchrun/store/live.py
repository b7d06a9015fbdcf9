"""What a run that is going on says of itself and is asked to do, in two small files of its folder.

Theory of operation. The run writes `.live.json` about once a second, over the same open file: no flush, no new name.
Who wants something of it puts `.control.json` where none is; link(2) lets only one in at a time. The run sees it at its
next look, does it, and says so as `answer` in `.live.json`; then who asked takes the question away. The run takes both
files with it when it ends; what a kill leaves is removed by the next start. The folder is its owner's alone, and so is
this channel.
"""

from __future__ import annotations

import os
import platform
import shlex
import threading
import time
from contextlib import suppress
from typing import TYPE_CHECKING, Any, BinaryIO, Literal

import msgspec

from batchrun.errors import ConfigError, FolderBusy, FolderUnusable, StoreError
from batchrun.store.fs import Fs, read, reading

if TYPE_CHECKING:
    from batchrun.store.folder import RunFolder

PERIOD_S = 1.0
_LOOK_S = 0.02
_TORN_S = 0.2
_MOST_BYTES = 1 << 20


class Control(msgspec.Struct, frozen=True, kw_only=True):
    """What a run is asked to do; `id` is of one asking, `key` and `value` are of `set`."""

    id: str
    do: Literal["set", "pause", "resume", "drain"]
    key: str = ""
    value: Any = None


class Answer(msgspec.Struct, frozen=True, kw_only=True):
    """What a run has done about the control of that `id`, or why it has not."""

    id: str
    done: bool
    said: str
    remedy: str = ""


class Live(msgspec.Struct, frozen=True, kw_only=True):
    """How a run stands at `at` (microseconds since 1970, UTC); it began with `open_rows` rows to send.

    `concurrency` is what the user allows now, `ceiling` what the endpoint has been found to take of it; `oldest` is the
    custom_id of the row that has been at it for `oldest_s`. While it is `paused` nothing new is sent.
    """

    pid: int
    at: int
    open_rows: int
    in_flight: int
    ceiling: int
    concurrency: int
    paused: bool
    throttled: int
    retrying: int
    oldest_s: float
    oldest: str
    waits_for: str
    answer: Answer | None = None


class Board:
    """The run's side of both files. A disk that fails here fails nobody: the run only goes on unseen.

    `exchange` may wait for the disk: it is for a thread of its own.
    """

    def __init__(self, folder: RunFolder) -> None:
        self._fs, self._live, self._control = Fs(), folder.path / ".live.json", folder.path / ".control.json"
        self._fd: int | None = None
        self._mutex = threading.Lock()
        with suppress(StoreError, OSError):
            self._fs.unlink(self._control)
            self._fs.unlink(self._live)
            self._fd = self._fs.create(self._live)

    def exchange(self, live: Live) -> Control | None:
        """Say how the run stands; returns what it is asked to do, unless that was answered already."""
        with self._mutex, suppress(StoreError, OSError):
            if self._fd is not None:
                self._fs.overwrite(self._fd, msgspec.json.encode(live), self._live)
                return self._asked(live.answer)
        return None

    def close(self) -> None:
        """The run has ended."""
        with self._mutex, suppress(StoreError, OSError):
            if self._fd is not None:
                self._fs.close(self._fd)
                self._fd = None
            self._fs.unlink(self._live)
            self._fs.unlink(self._control)

    def _asked(self, answer: Answer | None) -> Control | None:
        if not os.path.lexists(self._control):
            return None
        with suppress(StoreError, msgspec.DecodeError):
            control = msgspec.json.decode(read(self._control), type=Control)
            if not answer or control.id != answer.id:
                return control
        self._fs.unlink(self._control)  # nobody knows what it says, or its asker has not waited for the answer
        return None


def is_held(folder: RunFolder) -> bool:
    """Whether the process that last held the folder, if it was of this machine, is there still. It disturbs nobody."""
    try:
        holder = msgspec.json.decode(read(folder.path / "_lock"))
        if holder["host"] != platform.node() or holder["pid"] == os.getpid():
            return False
        os.kill(holder["pid"], 0)
    except PermissionError:
        return True
    except (OSError, StoreError, msgspec.DecodeError, KeyError, TypeError):
        return False
    return True


def look(folder: RunFolder) -> Live | None:
    """What the run that holds the folder says of itself; None where none does, or before it sends."""
    give_up_at = time.monotonic() + _TORN_S
    while is_held(folder):
        with suppress(FolderUnusable):
            try:
                return msgspec.json.decode(read(folder.path / ".live.json"), type=Live)
            except msgspec.DecodeError:  # it is being written
                if time.monotonic() < give_up_at:
                    time.sleep(_LOOK_S)
                    continue
        return None
    return None


def ask(folder: RunFolder, control: Control, *, within_s: float = 10.0) -> Answer:
    """Ask the run that is going on in a folder to do something, and wait for its answer.

    Raises:
        ConfigError: no run is going on there, or it ended meanwhile.
        FolderBusy: somebody else is asking, or it does not answer.
    """
    path, out = folder.path / ".control.json", folder.path
    status = f"batchrun status {shlex.quote(str(out))}"
    if look(folder) is None:
        raise ConfigError(f"{out}: no run is sending from it", remedy=status)
    with reading(folder.path / ".live.json") as file:  # which can be read to its last word once the run has ended
        try:
            folder.fs.put_if_absent(path, msgspec.json.encode(control))
        except FileExistsError as error:
            raise FolderBusy(f"{out}: its run is being asked something else", remedy="type it again") from error
        give_up_at = time.monotonic() + within_s
        try:
            while time.monotonic() < give_up_at:
                goes_on = look(folder) is not None
                answer = _answer_in(file)
                if answer and answer.id == control.id:
                    return answer
                if not goes_on:
                    raise ConfigError(f"{out}: the run ended before it answered", remedy=status)
                time.sleep(_LOOK_S)
        finally:
            folder.fs.unlink(path)
    problem = f"{out}: its run has not answered for {within_s:g} s; nothing was changed"
    raise FolderBusy(problem, remedy=f"{status}, and type it again")


def _answer_in(file: BinaryIO) -> Answer | None:
    with suppress(msgspec.DecodeError):  # it is being written
        return msgspec.json.decode(os.pread(file.fileno(), _MOST_BYTES, 0), type=Live).answer
    return None

"""The command as a user types it: in a process of its own, or in this one where a process is not the point."""

from __future__ import annotations

import contextlib
import fcntl
import io
import json
import os
import pty
import struct
import subprocess
import sys
import termios
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, NamedTuple, NoReturn

import pytest
from servers import ROOT

from batchrun.__main__ import main
from batchrun.store.snapshot import read

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator, Mapping
    from pathlib import Path

BATCHRUN = [sys.executable, "-m", "batchrun"]
END_S = 60


class Outcome(NamedTuple):
    """How a command ended, and what it wrote to stdout and stderr."""

    code: int
    out: str
    err: str

    @property
    def last(self) -> str:
        """The last line on stderr."""
        return self.err.splitlines()[-1]


def lacking(what: str) -> NoReturn:
    """Skip a test that this machine cannot do; in CI, where all of it has to be done, it fails."""
    (pytest.fail if os.environ.get("CI") else pytest.skip)(f"there is no {what} here")


def typed(*arguments: object, **options: Any) -> Outcome:
    """Type `batchrun` and some arguments, in a process of its own."""
    with begun(*arguments, **options) as process:
        out, err = process.communicate(timeout=END_S)
    return Outcome(process.returncode, out, err)


@contextmanager
def begun(
    *arguments: object, program: list[str] = BATCHRUN, env: Mapping[str, str] | None = None, **options: Any
) -> Iterator[subprocess.Popen[str]]:
    """Begin a command; what is still running at the end of the block is killed."""
    env = {**os.environ, "PYTHONPATH": str(ROOT), **(env or {})}
    pipes = {"stdout": subprocess.PIPE, "stderr": subprocess.PIPE, **options}
    with subprocess.Popen([*program, *map(str, arguments)], text=True, env=env, **pipes) as process:
        try:
            yield process
        finally:
            process.kill()


def on_a_terminal(
    *arguments: object,
    streams: tuple[str, ...] = ("stderr",),
    columns: int = 80,
    program: list[str] = BATCHRUN,
    reply: Callable[[bytes, subprocess.Popen[str]], bytes] = lambda _seen, _process: b"",
) -> tuple[int, str]:
    """Type a command where some of its streams are a terminal: how it ended, and all that the terminal got.

    `reply` is asked after each piece what to type, and is given all of them and the process.
    """
    ours, theirs = pty.openpty()
    size_of(theirs, columns)
    others = {"stdout": subprocess.DEVNULL, "stderr": subprocess.DEVNULL}
    env = {"TERM": "xterm", "COLUMNS": "", "LINES": ""}
    seen = b""
    with begun(*arguments, program=program, env=env, **{**others, **dict.fromkeys(streams, theirs)}) as process:
        os.close(theirs)
        with contextlib.suppress(OSError):  # how Linux says that the other end is closed
            while piece := os.read(ours, 4096):
                seen += piece
                os.write(ours, reply(seen, process))
        code = process.wait(END_S)
    os.close(ours)
    return code, seen.decode()


def size_of(terminal: int, columns: int) -> None:
    """Make a terminal so wide."""
    fcntl.ioctl(terminal, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))


def called(*arguments: object) -> Outcome:
    """The same within this process: quick, and with warnings as errors."""
    out, err = io.StringIO(), io.StringIO()
    before, sys.argv = sys.argv, ["batchrun", *map(str, arguments)]
    try:
        with contextlib.redirect_stdout(out), contextlib.redirect_stderr(err):
            main()
    except SystemExit as end:
        return Outcome(int(end.code or 0), out.getvalue(), err.getvalue())
    finally:
        sys.argv = before
    raise AssertionError("main returned")


def prompts(path: Path, rows: int, *, words: str = "") -> Path:
    """Write an input of some rows, whose prompts begin with `q0`, `q1` and so on, and give its path."""
    lines = [json.dumps({"custom_id": f"c{index}", "prompt": f"q{index} {words}"}) for index in range(rows)]
    path.write_text("\n".join(lines) + "\n")
    return path


def at(base_url: str, out: object, *more: object) -> list[object]:
    """The arguments that send to an endpoint and keep in `out`; some more may follow."""
    return ["-o", out, "-m", "simulated/small", "--set", f"endpoint.base_url={base_url}", *more]


def asked(ledger: list[dict[str, Any]]) -> list[str]:
    """Which prompts were charged, in order, by their first word."""
    return [line["last_user"].split()[0] for line in ledger]


def kept(out: object, kind: str = "results") -> list[str]:
    """The ids that a run folder holds, sorted by input order; from its files alone."""
    return read(str(out)).to_pandas(kind)["custom_id"].tolist()


def wait_for(fact: Callable[[], object], process: subprocess.Popen[str] | None = None) -> None:
    """Return when a condition holds; fails after a minute, or when the process that should bring it about has ended."""
    give_up_at = time.monotonic() + END_S
    while not fact():
        if process is not None and process.poll() is not None:
            raise AssertionError(f"it ended before: exit {process.returncode}")
        if time.monotonic() > give_up_at:
            raise AssertionError("it did not come about")
        time.sleep(0.005)

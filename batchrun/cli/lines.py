"""What a command says: data on stdout, talk on stderr; a reader that has left is no reason to end a run."""

from __future__ import annotations

import os
import shlex
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import click

if TYPE_CHECKING:
    from batchrun.errors import BatchrunError

_log = {"form": "text"}
_MEANS = {
    1: "a bug in batchrun; nothing that was kept is lost",
    2: "nothing was sent",
    5: "nothing was sent",
    6: "the disk failed or is full; what was answered before is kept",
    7: "nothing was sent",
    8: "the endpoint cannot be used; what was answered is kept",
}


def fill_closed_streams() -> None:
    """Put /dev/null in place of standard streams that were closed, so that no file of a run gets their numbers."""
    for number in range(3):
        try:
            os.fstat(number)
        except OSError:
            os.open(os.devnull, os.O_RDWR)


def log_as(form: str) -> None:
    """Say all that follows as `text`, or as `json`: one object a line."""
    _log["form"] = form


def logs_json() -> bool:
    """Whether what is said is for programs."""
    return _log["form"] == "json"


def say(text: str, **facts: object) -> None:
    """Say something on stderr; control characters, which may come from a peer, are shown and not obeyed.

    The facts are for programs only.
    """
    with suppress(OSError):
        click.echo(_json_line(text, facts) if logs_json() else shown(text), err=True)


def _json_line(text: str, facts: dict[str, object]) -> str:
    import json
    from datetime import UTC, datetime

    level, _, message = text.partition(": ")
    if level not in {"note", "warning", "error"}:
        level, message = "info", text
    at = datetime.now(UTC).isoformat(timespec="milliseconds")
    return json.dumps({"at": at, "level": level, "message": message, **facts})


def shown(text: str) -> str:
    """A text with its control characters, but for newlines, made visible."""
    return "".join(c if c.isprintable() or c == "\n" else f"\\x{ord(c):02x}" for c in text)


def put(text: str) -> bool:
    """Write data to stdout, as much of it as its reader wants; returns False, and says why, if that fails."""
    try:
        click.echo(text, nl=not text.endswith("\n"))
    except OSError as error:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # what is still buffered goes there
        if not isinstance(error, BrokenPipeError):
            say(f"warning: stdout: {error.strerror}")
            return False
    return True


def last_line(code: int, why: str, next_command: str) -> None:
    """The last line of a command: its exit code, why, and what to type next."""
    after = next_command or "batchrun --help"
    say(f"exit {code}: {why.rstrip('.')}. Next: {after}", event="ended", exit_code=code, why=why, next=after)


def refuse(error: BatchrunError) -> int:
    """Say what cannot be done and what to do about it; returns the exit code."""
    say(f"error: {error.message}")
    last_line(error.exit_code, _MEANS[error.exit_code], error.remedy)
    return error.exit_code


def report_bug(error: BaseException) -> int:
    """Say that this is ours, with all that is needed to find it; returns the exit code."""
    import traceback

    say("".join(traceback.format_exception(error)).rstrip())
    last_line(1, _MEANS[1], f"report the lines above, and go on with: {same_command()}")
    return 1


def same_command(folder: str | None = None) -> str:
    """What was typed, to be typed again; after a fresh start in a `folder` what goes on there."""
    words = sys.argv[1:]
    if folder and "--fresh" in words:
        words = [*(word for word in words if word != "--fresh"), "-o", folder]
    return shlex.join(["batchrun", *words])

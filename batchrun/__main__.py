"""`python -m batchrun`, and the installed command: every ending has a last line and an exit code."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from contextlib import contextmanager
from typing import TYPE_CHECKING

import click

from batchrun.cli import batchrun
from batchrun.cli.lines import fill_closed_streams, last_line, refuse, report_bug, same_command, say
from batchrun.errors import BatchrunError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from types import FrameType

_PLAIN_WORDS = {"a valid integer range": "a whole number", "a valid float range": "a number"}
"""What click calls a thing, and what everybody else does."""


def main() -> None:
    """Run the command line; never returns."""
    os.environ.setdefault(
        "OPENBLAS_NUM_THREADS", "1"
    )  # numpy starts a thread a core that spins, and we multiply nothing
    atexit.register(gc.freeze)  # what is left at the end goes with the process: to search it for garbage takes 0.1 s
    fill_closed_streams()
    try:
        with _left_at_signals():
            code = batchrun.main(prog_name="batchrun", standalone_mode=False) or 0
    except click.ClickException as error:
        code = _refuse_usage(error)
    except BatchrunError as error:
        code = refuse(error)
    except _Left as left:
        code = 128 + left.signal
        last_line(code, f"stopped by {left.signal.name}; nothing that was answered is lost", same_command())
    except Exception as error:  # noqa: BLE001 (the last line is owed in any case)
        code = report_bug(error)
    sys.exit(code)


class _Left(SystemExit):
    """A signal came while there was no answer to wait for. As a SystemExit it passes through every event loop."""

    def __init__(self, number: signal.Signals) -> None:
        super().__init__(128 + number)
        self.signal = number


@contextmanager
def _left_at_signals() -> Iterator[None]:
    """SIGINT and SIGTERM end the block at once; while requests are out, the engine puts its own handlers over these."""
    before = {number: signal.signal(number, _leave) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _leave(number: int, _frame: FrameType | None) -> None:
    raise _Left(signal.Signals(number))


def _refuse_usage(error: click.ClickException) -> int:
    """Say what is wrong with a command line, and where its options are explained."""
    context = error.ctx if isinstance(error, click.UsageError) else None
    help_command = f"{context.command_path} --help" if context else "batchrun --help"
    if isinstance(error, click.exceptions.NoArgsIsHelpError):
        say(error.format_message())
        last_line(2, "no command is named", "batchrun run --help")
        return 2
    said = error.format_message()
    for theirs, ours in _PLAIN_WORDS.items():
        said = said.replace(theirs, ours)
    say(f"error: {said}")
    last_line(2, "nothing was sent", help_command)
    return 2


if __name__ == "__main__":
    main()

"""`python -m batchrun`, and the installed command: every ending has a last line and an exit code."""

from __future__ import annotations

import os
import signal
import sys

import click

from batchrun.cli import batchrun
from batchrun.cli.lines import last_line, say
from batchrun.errors import BatchrunError


def main() -> None:
    """Run the command line; never returns."""
    try:
        batchrun.main(prog_name="batchrun", standalone_mode=False)
    except click.ClickException as error:
        error.show()
        code = error.exit_code
    except BatchrunError as error:
        say(f"error: {error.message}")
        last_line(error.exit_code, "nothing was sent" if error.exit_code in {2, 5, 7} else error.message, error.remedy)
        code = error.exit_code
    except (click.Abort, KeyboardInterrupt):
        code = 128 + signal.SIGINT
        last_line(code, "stopped by SIGINT before anything was sent", "run the same command again")
    except click.exceptions.Exit as end:
        code = end.exit_code
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())  # the reader left: nothing more to say to it
        code = 128 + signal.SIGPIPE
    else:
        code = 0
    sys.exit(code)


if __name__ == "__main__":
    main()

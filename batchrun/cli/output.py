"""The data of a command: in what form, how wide on a terminal, and where it goes."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Any

import click

from batchrun.cli.lines import put
from batchrun.errors import ConfigError, StoreError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]

_LEAST_COLUMNS, _MOST_COLUMNS = 60, 120


def text_or_json(command: str) -> Decorator:
    """The option `--format text|json` of the command of that name, and its environment variable."""
    return _form_of(command, ["text", "json"], "For people, or for programs.")


def text_or_page(command: str) -> Decorator:
    """The same with `markdown` and `html` as well."""
    forms = ["text", "markdown", "json", "html"]
    return _form_of(command, forms, "For the terminal, a pull request, a program, or a page to look at and to mail.")


def terminal_width() -> int:
    """Columns of the terminal, as far as texts are laid out for them; 80 where there is none."""
    import shutil

    return min(_MOST_COLUMNS, max(_LEAST_COLUMNS, shutil.get_terminal_size((80, 24)).columns))


def write_out(text: str, output: str) -> None:
    """Write all that a command has found to `output`, `-` for stdout.

    Raises:
        ConfigError: there is no such place, or stdout is closed.
        StoreError: stdout cannot be written.
    """
    if output == "-":
        if sys.stdout is None:
            raise ConfigError("stdout is closed", remedy="name a file with -o")
        if not put(text):
            raise StoreError("the output could not be written", remedy="free the disk, or name a file with -o")
        return
    from pathlib import Path

    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        remedy = "name a file in a folder that is there and yours"
        raise ConfigError(f"{output}: cannot be written: {error.strerror}", remedy=remedy) from error


def _form_of(command: str, forms: Sequence[str], says: str) -> Decorator:
    return click.option(
        "--format",
        "form",
        type=click.Choice(forms),
        default="text",
        show_default=True,
        envvar=f"BATCHRUN_{command.upper()}_FORMAT",
        help=says,
    )

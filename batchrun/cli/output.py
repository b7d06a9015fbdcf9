"""Where the data of a command goes: to stdout, or into a file of the user's."""

from __future__ import annotations

from pathlib import Path

from batchrun.cli.lines import put
from batchrun.errors import ConfigError, StoreError


def write_out(text: str, output: str) -> None:
    """Write all that a command has found to `output`, `-` for stdout.

    Raises:
        ConfigError: there is no such place.
        StoreError: stdout cannot be written.
    """
    if output == "-":
        if not put(text):
            raise StoreError("the output could not be written", remedy="free the disk, or name a file with -o")
        return
    try:
        Path(output).write_text(text, encoding="utf-8")
    except OSError as error:
        remedy = "name a file in a folder that is there and yours"
        raise ConfigError(f"{output}: cannot be written: {error.strerror}", remedy=remedy) from error

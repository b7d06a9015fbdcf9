"""JSON lines: one object a line, UTF-8; blank lines, CRLF and a byte order mark are fine."""

from __future__ import annotations

import json
import re
from typing import TYPE_CHECKING, Any

import msgspec

from batchrun.errors import PromptError
from batchrun.prompts.row import ROW_LIMIT_BYTES, to_prompt

if TYPE_CHECKING:
    from typing import BinaryIO

    from batchrun.prompts.row import Rows, Skip
    from batchrun.types import Prompt

_BOM = b"\xef\xbb\xbf"
_REMEDY = "each line must be one JSON object; of a JSON array, `jq -c '.[]' IN > OUT.jsonl` makes such lines"

_decode = msgspec.json.Decoder(dict[str, Any]).decode


def read(stream: BinaryIO, name: str, index: int, skip: Skip) -> Rows:
    """Read the rows of a file whose first row has this index. Lines are counted from 1, blank ones too."""
    number = 0
    while line := stream.readline(ROW_LIMIT_BYTES + 1):
        number += 1
        if number == 1:
            line = line.removeprefix(_BOM)
        too_long = len(line) > ROW_LIMIT_BYTES and not line.endswith(b"\n")
        if too_long:
            _drop_line(stream)
        elif not line or line.isspace():
            continue
        if skip is None or not skip(index):
            where = f"{name}:{number}"
            yield _too_long(where, index) if too_long else _prompt(line, where, index)
        index += 1
    return index


def _prompt(line: bytes, where: str, index: int) -> Prompt | PromptError:
    try:
        row = _decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        return PromptError(_why(line, error), where=where, index=index, remedy=_REMEDY)
    return to_prompt(index, where, row)


def _drop_line(stream: BinaryIO) -> None:
    while (piece := stream.readline(1 << 20)) and not piece.endswith(b"\n"):
        pass


def _too_long(where: str, index: int) -> PromptError:
    problem = f"line is longer than {ROW_LIMIT_BYTES >> 20} MiB"
    return PromptError(problem, where=where, index=index, remedy="shorten it; are its line breaks missing?")


def _why(line: bytes, error: Exception) -> str:
    if kind := re.fullmatch(r"Expected `object`, got `(\w+)`", str(error)):
        return f"not a JSON object but {kind[1]}"
    if isinstance(error, msgspec.ValidationError):
        return f"not usable JSON: {str(error).partition(' - at ')[0].lower()}"
    if isinstance(error, RecursionError):
        return "not usable JSON: nested too deeply"
    try:
        return _why_not_json(line)
    except (RecursionError, ValueError):
        return "not JSON, and nested too deeply or with numbers too long to say where"


def _why_not_json(line: bytes) -> str:
    """Ask the standard library: it says the column, and accepts what many programs write although it is not JSON."""
    constants: list[str] = []
    try:
        json.loads(line.rstrip().decode(), parse_constant=constants.append)
    except UnicodeDecodeError as error:
        return f"not UTF-8: byte 0x{line[error.start]:02x} at column {error.start + 1}"
    except json.JSONDecodeError as error:
        return f"not JSON: {error.msg[:1].lower()}{error.msg[1:]} at column {error.colno}"
    if constants:
        return f"not JSON: {constants[0]} is no JSON number (null is what is meant, as a rule)"
    return "not text: a lone surrogate, half of a pair \\ud800-\\udfff, stands for no character"

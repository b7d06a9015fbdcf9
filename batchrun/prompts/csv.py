"""CSV with a header: every cell is text, an empty cell is null."""

from __future__ import annotations

import csv
import re
from typing import TYPE_CHECKING

from batchrun.errors import PromptError
from batchrun.prompts.row import ROW_LIMIT_BYTES, to_prompt

if TYPE_CHECKING:
    from collections.abc import Iterator
    from typing import BinaryIO

    from batchrun.prompts.row import Rows, Skip
    from batchrun.types import Prompt

_BOM = "\ufeff"
_UNDECODED = re.compile("[\udc80-\udcff]")  # what surrogateescape makes of bytes that are not UTF-8


def read(stream: BinaryIO, name: str, index: int, skip: Skip) -> Rows:
    """Read the rows of a file whose first row has this index; a row stands where its first line stands.

    Raises:
        PromptError: there is no usable header, or quotes do not match, so that nothing after that line can be trusted.
    """
    csv.field_size_limit(ROW_LIMIT_BYTES)
    reader = csv.reader(_lines(stream, name), strict=True)
    number = 0
    header: list[str] = []
    try:
        for cells in reader:
            where = f"{name}:{number + 1}"
            number = reader.line_num
            if not cells:
                continue
            if not header:
                header = _header(cells, where)
                continue
            if skip is None or not skip(index):
                yield _prompt(header, cells, where, index)
            index += 1
    except csv.Error as error:
        remedy = "quote cells that hold commas, quotes or line breaks, and double the quotes inside them"
        raise PromptError(f"not CSV: {error}", where=f"{name}:{number + 1}", remedy=remedy) from error
    return index


def _lines(stream: BinaryIO, name: str) -> Iterator[str]:
    """Decode line by line; what is not UTF-8 becomes lone surrogates, so that only its own row suffers."""
    number = 0
    while line := stream.readline(ROW_LIMIT_BYTES + 1):
        number += 1
        if len(line) > ROW_LIMIT_BYTES:
            problem = f"line is longer than {ROW_LIMIT_BYTES >> 20} MiB"
            raise PromptError(problem, where=f"{name}:{number}", remedy="shorten it; are its line breaks missing?")
        text = line.decode("utf-8", "surrogateescape")
        yield text.removeprefix(_BOM) if number == 1 else text


def _header(cells: list[str], where: str) -> list[str]:
    unusable = [cell for cell in cells if not cell.strip() or cells.count(cell) > 1 or _UNDECODED.search(cell)]
    if unusable:
        problem = f"the header has an empty, repeated or unreadable name: {unusable[0]!r}"
        raise PromptError(problem, where=where, remedy="name each column once in the first line")
    return cells


def _prompt(header: list[str], cells: list[str], where: str, index: int) -> Prompt | PromptError:
    if len(cells) != len(header):
        problem = f"{len(cells)} cells, but the header names {len(header)} columns"
        return PromptError(problem, where=where, index=index, remedy="quote cells that hold commas or line breaks")
    for column, cell in zip(header, cells, strict=True):
        if _UNDECODED.search(cell):
            remedy = "save the file as UTF-8, e.g. `iconv -f WINDOWS-1252 -t UTF-8 IN > OUT`"
            return PromptError(f"not UTF-8 in column {column!r}", where=where, index=index, remedy=remedy)
    row = {column: cell or None for column, cell in zip(header, cells, strict=True)}
    return to_prompt(index, where, row)

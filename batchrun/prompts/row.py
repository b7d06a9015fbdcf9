"""What every reader does with a row it has decoded: find its id, and make a Prompt of it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from batchrun.errors import PromptError
from batchrun.types import Prompt

if TYPE_CHECKING:
    from collections.abc import Callable, Generator

    Skip = Callable[[int], bool] | None
    """Told a row's index, whether to leave the row out, undecoded."""

    Rows = Generator[Prompt | PromptError, None, int]
    """The rows of one file in order, an unusable one as an error; returns the index that follows the last row."""

ROW_LIMIT_BYTES = 32 * 1024 * 1024


def to_prompt(index: int, where: str, row: dict[str, Any]) -> Prompt | PromptError:
    """Make a Prompt of a row; without a `custom_id` of its own it gets `row-{index}`. A null counts as absent."""
    custom_id = row.get("custom_id")
    if custom_id is None:
        custom_id = f"row-{index}"
    elif type(custom_id) is int:
        custom_id = str(custom_id)
    elif not isinstance(custom_id, str):
        problem = f"custom_id is a {type(custom_id).__name__}, not text or a whole number"
        return PromptError(problem, where=where, index=index, remedy="make it text, or leave it out")
    elif not custom_id:
        return PromptError("custom_id is empty", where=where, index=index, remedy="fill it in, or leave it out")
    return Prompt(index=index, custom_id=custom_id, where=where, row=row)

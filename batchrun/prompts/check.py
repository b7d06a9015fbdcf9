"""The pass over the whole input before the first request: is every row usable, is every id its own?

It holds eight bytes a row, the hash of its id. Only where a hash repeats is the input read once more, to compare the
ids themselves.
"""

from __future__ import annotations

from array import array
from collections import Counter
from contextlib import suppress
from hashlib import blake2b
from typing import TYPE_CHECKING

import msgspec

from batchrun.errors import PromptError
from batchrun.types import Prompt, Request

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from batchrun.prompts import Prompts
    from batchrun.prompts.render import Renderer

_PROBLEMS_KEPT = 20
_PAIRS_NAMED = 5
_SUSPECTS_COMPARED = 1000


class Checked(msgspec.Struct, frozen=True, kw_only=True):
    """What the pass found.

    `rows` counts all rows, `invalid` those of them that cannot be sent, of which `problems` holds the first twenty;
    `fingerprint` stands for all ids and requests in their order; `models` and `forms` count the valid rows.
    """

    rows: int
    invalid: int
    problems: list[PromptError]
    fingerprint: str
    models: dict[str, int]
    forms: dict[str, int]
    first: Request | None


def check(prompts: Prompts, renderer: Renderer, each: Callable[[Request | None], None] | None = None) -> Checked:
    """Read and render every row, without keeping it; `each` is told every request, None for a row without one.

    Raises:
        PromptError: there is no row, an id is there twice, or a file cannot be read to its end. A single bad row does
            not raise: it is counted and collected.
    """
    digest = blake2b(digest_size=16)
    id_hashes = array("q")
    models: Counter[str] = Counter()
    forms: Counter[str] = Counter()
    problems: list[PromptError] = []
    first: Request | None = None
    for prompt in prompts.read():
        id_hashes.append(hash(_custom_id(prompt)))
        try:
            if isinstance(prompt, PromptError):
                raise prompt
            form = renderer.form(prompt)
            request = renderer.render(prompt, form)
        except PromptError as error:
            digest.update(b"!%d " % (len(id_hashes) - 1))
            if len(problems) < _PROBLEMS_KEPT:
                problems.append(error.with_traceback(None))  # its frames would keep the row
            if each:
                each(None)
            continue
        # the length says where the id ends and the key, always of 32 characters, begins
        digest.update(f"{len(request.custom_id)}:{request.custom_id}{request.request_key}".encode())
        models[request.model] += 1
        forms[form] += 1
        first = first or request
        if each:
            each(request)
    rows = len(id_hashes)
    if not rows:
        files = ", ".join(prompts.files)
        raise PromptError("holds no rows", where=files, remedy="write one row a line into it, or name another input")
    _refuse_duplicates(prompts, id_hashes, problems)
    return Checked(
        rows=rows,
        invalid=rows - models.total(),
        problems=problems,
        fingerprint=digest.hexdigest(),
        models=dict(models),
        forms=dict(forms),
        first=first,
    )


def keys_of(prompts: Prompts, renderer: Renderer) -> Iterator[tuple[int, str, str | None]]:
    """Every row's index, id and request key (None: it cannot be sent), in order."""
    for index, prompt in enumerate(prompts.read()):
        request_key = None
        if not isinstance(prompt, PromptError):
            with suppress(PromptError):
                request_key = renderer.render(prompt).request_key
        yield index, _custom_id(prompt), request_key


def refuse_invalid(checked: Checked) -> None:
    """Stop before anything is sent if rows cannot be; raises PromptError with the first of them."""
    if not checked.invalid:
        return
    first = checked.problems[0]
    others = "".join(f"\n  {problem}" for problem in checked.problems[1:])
    untold = checked.invalid - len(checked.problems)
    raise PromptError(
        f"{first}{others}" + (f"\n  and {untold:,} more" if untold else ""),
        index=first.index,
        remedy=f"{first.remedy}; or leave such rows out with --skip-invalid".removeprefix("; or "),
    )


def _custom_id(prompt: Prompt | PromptError) -> str:
    return f"row-{prompt.index}" if prompt.custom_id is None else prompt.custom_id


def _refuse_duplicates(prompts: Prompts, id_hashes: array[int], problems: list[PromptError]) -> None:
    import numpy as np

    hashes = np.frombuffer(id_hashes, dtype=np.int64)
    hashes.sort()
    repeats = hashes[1:][hashes[1:] == hashes[:-1]]
    if not len(repeats):
        return
    suspects = set(repeats[:_SUSPECTS_COMPARED].tolist())
    places: dict[str, str] = {}
    pairs: list[str] = []
    for prompt in prompts.read():
        custom_id = _custom_id(prompt)
        if hash(custom_id) in suspects:
            place = places.setdefault(custom_id, prompt.where)
            if place != prompt.where:
                pairs.append(f"{custom_id!r} at {place} and {prompt.where}")
        if len(pairs) == _PAIRS_NAMED:
            break
    if pairs:
        repeat = "1 row repeats" if len(repeats) == 1 else f"{len(repeats):,} rows repeat"
        more = "; …" if len(repeats) > len(pairs) else ""
        others = "".join(f"\n  {problem}" for problem in problems)
        raise PromptError(
            f"{repeat} the custom_id of another row: {'; '.join(pairs)}{more}{others}",
            remedy="give each row a custom_id of its own, or none: then its position is its id",
        )

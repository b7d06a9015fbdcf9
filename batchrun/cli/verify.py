"""`batchrun verify`: is all of a run folder as it was written, and if not, what can be saved of it."""

from __future__ import annotations

import shlex
from typing import TYPE_CHECKING

import click

from batchrun.cli.lines import last_line, put, shown
from batchrun.cli.output import text_or_json

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.prompts import Prompts
    from batchrun.store.repair import How, Repaired
    from batchrun.store.verify import Problem, Verified
    from batchrun.verifying import Compared

_SAME_RUN = "the same `batchrun run` command as before"
_MB = 1024 * 1024


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_VERIFY"})
@click.argument("out", metavar="OUT", type=click.Path())
@click.option("--input", "source", metavar="FILE", type=click.Path(), help="Also look for each row of this input.")
@click.option(
    "--repair",
    type=click.Choice(["salvage", "rerun"]),
    help="Mend the folder: keep what can be proven of what is damaged, or set it aside whole.",
)
@text_or_json("verify")
def verify(*, out: str, source: str | None, repair: How | None, form: str) -> int:
    """Check every part, entry and journal line of the run folder OUT.

    It changes nothing and works while a run is going on. With --repair what is
    damaged is moved to OUT/_quarantine, and nothing is sent: the next run buys
    again what is lost, after you have read here what that is and what it cost.

    \b
    Examples:
      batchrun verify runs/quickstart
      batchrun verify runs/quickstart --input sample_data/prompts.jsonl
    """  # noqa: D301 (click reads the backspace)
    from batchrun.cli.lean import be_lean
    from batchrun.prompts import open_prompts
    from batchrun.store.folder import RunFolder
    from batchrun.store.remains import read_run
    from batchrun.store.repair import repair as mend
    from batchrun.store.verify import verify as look
    from batchrun.verifying import compare_with

    be_lean()
    folder = RunFolder(out)
    prompts = None if source is None else open_prompts(source)
    done = None
    if repair:
        read_run(folder)
        with folder.locked():
            done = mend(folder, repair)
    found = look(folder)
    compared = compare_with(folder, prompts) if prompts and not found.problems else None
    text = _to_json(found, done, compared) if form == "json" else "\n".join(_to_text(found, done, compared, prompts))
    put(shown(text))
    return _conclude(found, done, compared)


def _to_json(found: Verified, done: Repaired | None, compared: Compared | None) -> str:
    import msgspec

    whole = {"whole": not found.problems, **msgspec.to_builtins(found), "repair": done, "input": compared}
    return msgspec.json.format(msgspec.json.encode(whole), indent=2).decode()


def _to_text(
    found: Verified, done: Repaired | None, compared: Compared | None, prompts: Prompts | None
) -> Iterator[str]:
    if done and done.problems:
        yield from _of_repair(done, prompts)
    yield f"parts     {found.parts:,}: {found.rows:,} results, {found.failures:,} failures, {_size(found.bytes)}"
    yield f"manifest  {found.entries:,} entries"
    journal = f"{found.segments:,} files with {found.segment_records:,} records" if found.segments else "empty"
    yield f"journal   {journal}"
    if found.running:
        yield "running   a run is going on: what it is writing at this moment was left out"
    if compared:
        yield from _of_input(compared)
    yield from (f"note      {note}" for note in found.notes)
    for problem in found.problems:
        yield f"damaged   {problem.file}: {problem.what}"
        yield from _of_rows(problem)


def _of_rows(problem: Problem) -> Iterator[str]:
    if problem.rows is None:
        yield "          nobody can tell how many rows are lost before it is repaired"
    elif problem.rows:
        saved = f"; {problem.whole_rows:,} of them can be saved" if problem.whole_rows else "; none can be saved"
        yield f"          {problem.rows:,} committed rows, which cost ${problem.cost_usd or 0:.4f}{saved}"


def _of_repair(done: Repaired, prompts: Prompts | None) -> Iterator[str]:
    yield f"repaired  {_problems(done.problems)}; what was damaged is in {done.quarantine}"
    yield from (f"          {problem.file}: {problem.what}" for problem in done.problems)
    if done.saved_rows:
        yield f"saved     {done.saved_rows:,} rows"
    if done.lost_rows:
        least = "at least " if done.uncertain else ""
        yield f"lost      {least}{done.lost_rows:,} committed rows, which cost {least}${done.lost_usd:.4f}"
        more = " …" if done.uncertain or done.lost_rows > len(done.lost) else ""
        yield f"          {', '.join(_named(done.lost, prompts))}{more}"
    elif done.uncertain:
        yield "lost      no row that is known of; if there is one, it is among the open ones"
    if done.open_rows:
        yield f"open      {done.open_rows:,} rows have no answer; a next run buys them, and nothing was sent now"


def _named(rows: list[int], prompts: Prompts | None) -> list[str]:
    from batchrun.verifying import ids_of

    ids = ids_of(prompts, rows) if prompts else {}
    return [f"row {row:,} ({ids[row]})" if row in ids else f"row {row:,}" for row in rows]


def _problems(problems: list[Problem]) -> str:
    return f"{len(problems):,} problem{'s' if len(problems) > 1 else ''}"


def _size(count: int) -> str:
    return f"{count / _MB:,.1f} MB" if count >= _MB else f"{count / 1024:.0f} KB"


def _of_input(compared: Compared) -> Iterator[str]:
    yield f"input     {compared.input}: {compared.rows:,} rows" + (", each there once" if compared.whole else "")
    whats = {
        "missing": "have no answer",
        "foreign": "answers are to another request, or of another id",
        "twice": "have several answers",
    }
    for kind, what in whats.items():
        if count := getattr(compared, kind):
            names = compared.named[kind]
            yield f"          {count:,} {what}: {', '.join(names)}{' …' if count > len(names) else ''}"


def _conclude(found: Verified, done: Repaired | None, compared: Compared | None) -> int:
    """The last line, and the exit code."""
    out = shlex.quote(found.folder)
    if found.problems:
        why = f"{out} is damaged ({_problems(found.problems)})"
        after = f"batchrun verify {out} --repair salvage (or rerun, to buy again what is damaged)"
        last_line(7, why, f"wait for the run to end, then {after}" if found.running else after)
        return 7
    mended = bool(done and done.problems)
    if compared and not compared.whole and not found.running and not mended:
        last_line(7, f"{out} does not hold each row of {compared.input} exactly once", _SAME_RUN)
        return 7
    again = _SAME_RUN if mended or (compared and compared.missing) else f"batchrun report {out}"
    last_line(0, f"{out} is whole" + (" again" if mended else ""), again)
    return 0

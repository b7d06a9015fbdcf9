"""A damaged run folder is mended: what can be proven is kept, all else is set aside, and nothing is sent.

Theory of operation. Before anything changes, what is damaged gets a second name in `_quarantine/`, so that nothing of
it can be lost. Then come `run.json` from its copy, a stand-in for every entry of the manifest that cannot be read, one
`merge` entry that puts the rows that were saved in place of the damaged parts, and an entry for each damaged journal
file. At the end a recovery, the one that every start makes, proves that the folder can be gone on with. A crash in
between leaves the folder damaged or whole: another repair, or a run, goes on from there.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import islice
from typing import TYPE_CHECKING, Literal

import msgspec

from batchrun.store.failures import merge_failures
from batchrun.store.folder import QUARANTINE, segment_name
from batchrun.store.framing import frame, seed_of
from batchrun.store.manifest import Entry, Manifest, now_us
from batchrun.store.merging import complete
from batchrun.store.parts import PartWriter, aside, problem_of, schema_of
from batchrun.store.recovery import Recovered, absorb, load_rows, recover
from batchrun.store.remains import Remains, read_run
from batchrun.store.rows import MISSING
from batchrun.store.saving import Saved, Source, save_rows
from batchrun.store.verify import Problem, verify

if TYPE_CHECKING:
    from batchrun.store.folder import RunFolder
    from batchrun.store.manifest import Part

How = Literal["salvage", "rerun"]
_NAMED = 5
_WHY = """\
`batchrun verify --repair` found these files damaged or out of place, and has set aside those that were there. No run
reads this folder. Delete it once nothing is missed.
"""


class Repaired(msgspec.Struct, frozen=True, kw_only=True):
    """What a repair found and did.

    `saved_rows` of the damaged parts are kept. `lost_rows` were committed and are not any more, or more if it is
    `uncertain` how many: a next run buys them again, for about `lost_usd`, which is what they cost. `open_rows` are all
    rows without an answer, and `lost` the first of them that were among the damaged.
    """

    problems: list[Problem]
    quarantine: str | None = None
    saved_rows: int = 0
    lost_rows: int = 0
    lost_usd: float = 0.0
    uncertain: bool = False
    open_rows: int = 0
    lost: list[int] = []


def repair(folder: RunFolder, how: How) -> Repaired:
    """Mend a locked folder; it changes nothing where nothing is damaged.

    Args:
        folder: whose lock is held.
        how: `salvage` keeps what can be proven of what is damaged, `rerun` sets damaged files aside whole.

    Raises:
        FolderUnusable: nothing can be proven, as neither `run.json` nor its copy can be read; or what is in a file's
            place is no file.
    """
    found = verify(folder).problems
    if not found:
        return Repaired(problems=[])
    folder.look(whole=False)
    run, wrong = read_run(folder)
    folder.run_id = run.run_id
    folder.make()
    room = _set_aside(folder, found)
    if wrong:
        folder.write_run_file(run)
    remains = Remains(folder, run)
    _stand_in(remains)
    proven = {problem.file for problem in found if problem.proven}
    bad = _put_back(remains, proven)
    _renew_empty(remains, bad)
    saved = _save(remains, bad, proven, salvage=how == "salvage")
    _absorb(remains, salvage=how == "salvage")
    recovered = _recover(remains)
    lost = [part for name, part in bad.items() if name not in proven]
    rows, usd = _lost_of_journal(found, salvage=how == "salvage")
    uncertain = any(problem.rows is None for problem in found)
    return Repaired(
        problems=found,
        quarantine=room,
        saved_rows=saved.rows,
        lost_rows=rows + max(0, sum(part.rows for part in lost) - saved.listed_rows),
        lost_usd=usd + max(0.0, sum(part.cost_nano_usd for part in lost) / 1e9 - saved.listed_usd),
        uncertain=uncertain,
        open_rows=recovered.rows.count(MISSING),
        lost=_first_lost(recovered, [] if rows or uncertain else lost),
    )


def _lost_of_journal(found: list[Problem], *, salvage: bool) -> tuple[int, float]:
    """How many records of damaged journal files are lost at most, and what they cost if they are like the others."""
    rows, usd = 0, 0.0
    for problem in found:
        if problem.file.startswith("_journal/") and problem.rows:
            gone = problem.rows - (problem.whole_rows if salvage else 0)
            rows += gone
            usd += (problem.cost_usd or 0.0) * gone / problem.rows
    return rows, usd


def _set_aside(folder: RunFolder, found: list[Problem]) -> str:
    """Give what is damaged a second name in the quarantine, with a note that says why; returns where."""
    now = datetime.now(UTC).strftime("%Y%m%dT%H%M%SZ")
    number = 1
    while (folder.path / QUARANTINE / f"{now}-{number}").exists():
        number += 1
    room = f"{QUARANTINE}/{now}-{number}"
    folder.make_room(room)
    lines = [f"{problem.file}: {problem.what}" for problem in found]
    folder.fs.put_if_absent(folder.path / room / "README.txt", "\n".join([_WHY, *lines, ""]).encode())
    for name in dict.fromkeys(problem.file for problem in found):
        path, target = folder.path / name, folder.path / room / name
        if path.is_file():
            folder.make_room(target.parent.relative_to(folder.path).as_posix())
            folder.fs.link(path, target)
            folder.fs.flush_dir(target.parent)
    return room


def _stand_in(remains: Remains) -> None:
    """Put an entry in place of each that cannot be read: a start where something was written by that epoch."""
    folder, run_id = remains.folder, remains.run.run_id
    epochs = {entry.epoch for entry in remains.entries.values()} | {one.number[0] for one in remains.segments}
    for number in sorted(remains.lost):
        before = [entry.at for other, entry in remains.entries.items() if other < number]
        kind: Literal["start", "merge"] = "start" if number in epochs else "merge"
        entry = Entry(kind=kind, at=before[-1] if before else now_us(), epoch=number if kind == "start" else 0)
        line = frame(msgspec.json.encode(entry), seed_of(run_id, "manifest", number))
        folder.fs.replace(folder.manifest / f"{number:020d}.json", line)


def _put_back(remains: Remains, proven: set[str]) -> dict[str, Part]:
    """Give files that are whole, but under another's name, their own; returns the parts that stay damaged."""
    folder, bad = remains.folder, {}
    whole = [path for path in (folder.path / QUARANTINE).rglob("*.parquet") if path.is_file()]
    for name, part in remains.parts.items():
        target = folder.path / name
        if name not in proven and not (problem_of(target, part) and problem_of(aside(target), part)):
            continue
        path = next((path for path in whole if problem_of(path, part) is None), None)
        if name in proven or path is None:
            bad[name] = part
            continue
        folder.fs.unlink(aside(target))
        folder.fs.link(path, aside(target))
        folder.fs.rename(aside(target), target)
        folder.fs.flush_dir(target.parent)
        folder.fs.unlink(path)
    return bad


def _renew_empty(remains: Remains, bad: dict[str, Part]) -> None:
    """Write the first parts again, without which a folder of no answers would have no columns."""
    folder = remains.folder
    for part in [part for part in bad.values() if not part.rows]:
        path = folder.path / part.name
        new = PartWriter(folder, path.parent, path.name, schema_of(part.name)).finish()
        if new != part:
            manifest = Manifest(folder, remains.run.run_id)
            manifest.put(Entry(kind="merge", at=now_us(), epoch=manifest.next_number(), parts=[new]))
        del bad[part.name]


def _save(remains: Remains, bad: dict[str, Part], proven: set[str], *, salvage: bool) -> Saved:
    """Put what can be saved of damaged and unlisted parts into new ones, and take their names away."""
    folder = remains.folder
    for path in remains.not_entries:
        folder.fs.unlink(path)
    manifest = Manifest(folder, remains.run.run_id)
    complete(folder, manifest)
    strays = [*remains.unlisted(), *remains.hidden()]
    sources = [
        Source(room=name.rpartition("/")[0], path=folder.path / name, part=part, wanted=salvage or name in proven)
        for name, part in bad.items()
    ]
    for path in strays:
        room = path.parent.relative_to(folder.path).as_posix()
        sources.append(Source(room=room, path=path, part=None, wanted=salvage))
    if not sources:
        return Saved()
    saved = save_rows(folder, remains.run, manifest, sources, remains.rows)
    for path in strays:
        folder.fs.unlink(path)
    return saved


def _absorb(remains: Remains, *, salvage: bool) -> None:
    """Make parts of what is whole in damaged journal files; those that are gone get an entry that says so."""
    folder, run = remains.folder, remains.run
    manifest = Manifest(folder, run.run_id)
    rows = load_rows(folder, manifest, remains.rows)
    recovered = Recovered(folder=folder, run_id=run.run_id, manifest=manifest, epoch=None, rows=rows, exposed=[])
    for segment in remains.segments:
        if remains.is_stray(segment):
            folder.fs.unlink(folder.journal / segment_name(*segment.number))
        elif segment.damaged and salvage:
            absorb(recovered, segment.number, lenient=True)
        elif segment.damaged:
            manifest.put(_nothing(segment.number, segment.dispatched_below))
            folder.fs.unlink(folder.journal / segment_name(*segment.number))
    for number in Remains(folder, run).lost_segments():
        manifest.put(_nothing(number, 0))


def _nothing(number: tuple[int, int], dispatched_below: int) -> Entry:
    """A journal file that nothing was kept of."""
    epoch, segment = number
    return Entry(kind="part", at=now_us(), epoch=epoch, segment=segment, dispatched_below=dispatched_below)


def _recover(remains: Remains) -> Recovered:
    """Do what every start does; what it began is closed at once, as nothing is sent."""
    recovered = recover(remains.folder, remains.run.run_id, remains.rows)
    if recovered.epoch is not None:
        merge_failures(recovered, 1)
        recovered.manifest.put(Entry(kind="close", at=now_us(), epoch=recovered.epoch, exposed=recovered.exposed))
    return recovered


def _first_lost(recovered: Recovered, parts: list[Part]) -> list[int]:
    """The first rows without an answer, if parts were lost those that can have been in them."""
    ranges = [(part.index_min or 0, part.index_max or 0) for part in parts]
    missing = recovered.rows.below(len(recovered.rows.states), MISSING)
    fit = (index for index in missing if not ranges or any(first <= index <= last for first, last in ranges))
    return list(islice(fit, _NAMED))

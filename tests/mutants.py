"""Bugs to plant into the store, each of which a rig has to catch; `python tests/mutants.py` prints their table."""

from __future__ import annotations

from pathlib import Path
from typing import NamedTuple

ROOT = Path(__file__).parent.parent


class Mutant(NamedTuple):
    """A change of one place in the store (`old` stands there once), and the kind of start in which a rig catches it."""

    name: str
    breaks: str
    old: str
    new: str
    rig: str
    scene: str


MUTANTS = (
    Mutant(
        "the journal is not flushed",
        "D1: kept rows are lost when the power goes",
        "        self._fs.flush(self._fd, path)\n        self._size += len(data)",
        "        self._size += len(data)",
        "T2",
        "fresh",
    ),
    Mutant(
        "a part is not flushed before it is named",
        "D1, D2: a visible part is not whole",
        "        self._fs.flush(self._fd, self._path)\n",
        "",
        "T2",
        "fresh",
    ),
    Mutant(
        "a part's name is not flushed before its entry",
        "D1: the manifest lists a part that is not there",
        "rename(self._aside, self._final)\n        self._folder.fs.flush_dir(self._final.parent)",
        "rename(self._aside, self._final)",
        "T2",
        "fresh",
    ),
    Mutant(
        "a merged part's hidden name is not flushed before its entry",
        "D1: the parts that it replaces are gone, and it is not there",
        "        part = self._finish()\n        self._folder.fs.flush_dir(self._final.parent)\n",
        "        part = self._finish()\n",
        "T2",
        "compacted",
    ),
    Mutant(
        "an entry of the manifest is not flushed",
        "D1, D5: an entry is there, and empty",
        "            self.write(fd, data, path)\n            self.flush(fd, path)",
        "            self.write(fd, data, path)",
        "T2",
        "fresh",
    ),
    Mutant(
        "the name of an entry is not flushed",
        "D1: the segment is gone before the entry is there",
        "            self.unlink(aside)\n        self.flush_dir(path.parent)",
        "            self.unlink(aside)",
        "T2",
        "fresh",
    ),
    Mutant(
        "the name of run.json is not flushed",
        "D1: the run's identity is gone, and its journal is of nobody",
        "        self.rename(aside, path)\n        self.flush_dir(path.parent)",
        "        self.rename(aside, path)",
        "T2",
        "fresh",
    ),
    Mutant(
        "the name of a new segment is not flushed",
        "D1: rows are kept in a file that is not there after a power cut",
        "        self._fs.flush_dir(self._folder.journal)\n",
        "",
        "T2",
        "fresh",
    ),
    Mutant(
        "folders above a new run folder are not flushed",
        "D1: the whole run is gone after a power cut",
        "            self.fs.make_dir(path, 0o777)\n            self.fs.flush_dir(path.parent)\n",
        "            self.fs.make_dir(path, 0o777)\n",
        "T2",
        "fresh",
    ),
    Mutant(
        "a segment goes before its entry is there",
        "D1: a crash between the two loses its rows",
        "    recovered.manifest.put(entry)\n    recovered.folder.fs.unlink(reader.path)",
        "    recovered.folder.fs.unlink(reader.path)\n    recovered.manifest.put(entry)",
        "T1",
        "fresh",
    ),
    Mutant(
        "merged parts go before the entry that says so",
        "D1: a crash between the two loses their rows",
        "        recovered.manifest.put(entry)\n        complete(",
        "        for name in drops:\n            recovered.folder.fs.unlink(recovered.folder.path / name)\n"
        "        recovered.manifest.put(entry)\n        complete(",
        "T1",
        "compacted",
    ),
    Mutant(
        "merged parts are named before the old ones are gone",
        "D2: a row is in two parts that can be seen",
        "    for path in dropped:\n        folder.fs.unlink(path)\n",
        "    for path in hidden:\n        folder.fs.link(aside(path), path)\n"
        "    for path in dropped:\n        folder.fs.unlink(path)\n",
        "T1",
        "compacted",
    ),
    Mutant(
        "a merge that a crash cut is not finished",
        "D2, D5: committed parts stay hidden",
        "    complete(folder, manifest)\n    _refuse_strays",
        "    _refuse_strays",
        "T1",
        "compacted",
    ),
    Mutant(
        "an entry is put before its part has its name",
        "D1: the manifest lists a part that is not there",
        "    parts = write_parts(recovered.folder, *number, fresh())\n",
        "    from batchrun.store.parts import PartWriter, aside\n\n"
        "    finish, PartWriter.finish = PartWriter.finish, PartWriter.finish_hidden\n"
        "    parts = write_parts(recovered.folder, *number, fresh())\n"
        "    PartWriter.finish = finish\n"
        "    put = recovered.manifest.put\n\n"
        "    def put_and_name(entry):\n"
        "        recovered.manifest.put = put\n"
        "        put(entry)\n"
        "        for path in [recovered.folder.path / part.name for part in parts]:\n"
        "            recovered.folder.fs.rename(aside(path), path)\n\n"
        "    recovered.manifest.put = put_and_name\n",
        "T1",
        "fresh",
    ),
    Mutant(
        "rows are said to be kept before they are flushed",
        "D1, M1: a row is lost that the run counts as done",
        "                self._write_group()\n                self._tell(asked)",
        "                told, self._lines = self._lines, deque()\n"
        "                self._tell(asked)\n"
        "                asyncio.run_coroutine_threadsafe(asyncio.sleep(0), self._loop).result()\n"
        "                later, self._lines = self._lines, told\n"
        "                self._write_group()\n"
        "                self._lines.extend(later)",
        "T1",
        "fresh",
    ),
    Mutant(
        "the names of segments are used again",
        "D1: a new segment looks as if it had been absorbed",
        "    epoch = manifest.next_number()\n",
        "    epoch = 0\n",
        "T1",
        "killed",
    ),
    Mutant(
        "checksums are not seeded",
        "D1: what a block held before passes as ours",
        '    return zlib.crc32("/".join(map(str, place)).encode())',
        "    return 0",
        "T2",
        "fresh",
    ),
    Mutant(
        "checksums are not compared",
        "D5: a torn tail is taken for a line",
        '    return line if framed[: _CRC_CHARS + 1] == b"%08x " % zlib.crc32(line, seed) else None',
        "    return line",
        "T2",
        "fresh",
    ),
    Mutant(
        "a flush that failed is repeated",
        "D1: the second flush says yes, and the data is not there",
        '            self._fs.unlink(self._folder.journal / ".reserve")\n            self._finish_segment()\n'
        "            self._open(previous_bytes=self._size)\n            self._write_lines(lines)",
        "            self._fs.flush(self._fd, self._path(self._segment))",
        "T2",
        "flush-fails",
    ),
    Mutant(
        "a group that could not be written is forgotten",
        "D1: kept rows were never written",
        "            self._finish_segment()\n            self._open(previous_bytes=self._size)\n"
        "            self._write_lines(lines)",
        "            pass",
        "T1",
        "fresh",
    ),
    Mutant(
        "a short write is not continued",
        "D1: half a group is flushed and counted",
        "            while view:\n                view = view[os.write(fd, view) :]",
        "            os.write(fd, view)",
        "T1",
        "fresh",
    ),
    Mutant(
        "what was in flight counts as done",
        "D3, M2: exposed rows are never sent again",
        "states[index] in self._open_states",
        "states[index] in self._open_states and index not in self.recovered.exposed",
        "T1",
        "killed",
    ),
    Mutant(
        "rows are sent before the mark for them is on disk",
        "M2: a crash cannot name what it exposed",
        "        if must_wait:\n            await self.journal.settled()",
        "",
        "T2",
        "fresh",
    ),
    Mutant(
        "rows that a crash exposed are not named",
        "M2: nobody knows what may be paid for twice",
        "        exposed.update(rows.below(mark, MISSING, RETRYABLE, but=answered))\n",
        "",
        "T1",
        "fresh",
    ),
    Mutant(
        "the wall clock orders the manifest",
        "D5, D6: a clock that was set back turns history round",
        'names = sorted(path.name for path in self._folder.manifest.iterdir() if path.suffix == ".json")',
        "names = [path.name for path in sorted(self._folder.manifest.iterdir(), key=lambda path: path.stat().st_mtime)"
        ' if path.suffix == ".json"]',
        "T2",
        "fresh",
    ),
    Mutant(
        "a second answer to a row is kept as well",
        "D1: a row is in the results twice",
        "kept = [record for record in block if rows[record.index] != SUCCEEDED]",
        "kept = list(block)",
        "T2",
        "answered-twice",
    ),
    Mutant(
        "a failure replaces a success",
        "D6, M1: a row that is paid for is sent again",
        "open_rows = self._view[at] != SUCCEEDED",
        "open_rows = self._view[at] >= 0",
        "T2",
        "failures-leave",
    ),
)


def place_of(mutant: Mutant, package: Path) -> Path:
    """The file of the store that holds its place; raises ValueError where that is not one file, or not once in it."""
    sources = {path: path.read_text(encoding="utf-8") for path in (package / "store").glob("*.py")}
    places = [path for path, source in sources.items() for _ in range(source.count(mutant.old))]
    if len(places) != 1:
        raise ValueError(f"{mutant.name}: its place is there {len(places)} times")
    return places[0]


def plant(mutant: Mutant, package: Path) -> None:
    """Put it into a copy of the package."""
    path = place_of(mutant, package)
    path.write_text(path.read_text(encoding="utf-8").replace(mutant.old, mutant.new), encoding="utf-8")


def table() -> str:
    """The table of `docs/mutants.md`."""
    lines = ["| planted bug | breaks | caught by |", "|---|---|---|"]
    lines += [f"| {mutant.name} | {mutant.breaks} | {mutant.rig}, {mutant.scene} |" for mutant in MUTANTS]
    return "\n".join(lines) + "\n"


if __name__ == "__main__":
    print(table(), end="")  # noqa: T201

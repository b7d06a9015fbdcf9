"""A strict model of a disk: what may be left of a folder when the power goes between any two calls.

What POSIX promises, and nothing that a certain file system happens to do besides. A file's data is there once its flush
has returned, and a name (made, given, changed, taken) once the folder that holds it has been flushed; flushing one does
nothing for the other. Until then any part of it may be there: of the data nothing, a beginning, zeros, holes, or what
the blocks held before; of the changes of names any subset, those of one name in their order. After a flush that failed
the data stays in doubt, however often it is flushed again.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    import random
    from collections.abc import Iterable
    from pathlib import Path

    from system_calls import Act, Call

BLOCK_BYTES = 128
"""Small, as the files of the rigs are."""

DATA = ("nothing", "all", "beginning", "zeros", "holes", "stale", "stale")
"""What may be there of data that is not flushed."""

_FOLDER = -1
NOON = 1_800_000_000


class Recorder:
    """Does the calls and writes them down, with what the driver was told in between: see `Told`."""

    def __init__(self, fault=None) -> None:
        self.log: list[Call | tuple[str, int, bool]] = []
        self.fault = fault or (lambda call, act: act())

    def __call__(self, call: Call, act: Act) -> object:
        try:
            result = self.fault(call, act)
        except OSError:
            if call.name == "flush":
                self.log.append(call._replace(name="flush_failed"))
            raise
        self.log.append(call._replace(data=call.data[:result]) if call.name == "write" else call)
        return result

    def tell(self, event: str, index: int, *, failed: bool) -> None:
        self.log.append((event, index, failed))


class _Data(NamedTuple):
    """Data of a file, in the order of its writing; `doubtful` once a flush of it has failed."""

    offset: int
    data: bytes
    flushed: bool = False
    doubtful: bool = False


class Disk:
    """What a folder certainly holds after some calls, and what else it may hold."""

    def __init__(self, root: Path, calls: Iterable[Call], before: Path | None = None) -> None:
        """A disk under `root`, on which a copy of `before` is safe from the start."""
        self.root = root
        self.files: list[list[_Data]] = []
        self.names: dict[Path, int] = {}
        self.waiting: dict[Path, list[tuple[Path | None, Path | None, int]]] = {}
        self._now: dict[Path, int] = {}
        for path in sorted(before.rglob("*")) if before else ():
            there = root / path.relative_to(before)
            self._now[there] = _FOLDER if path.is_dir() else self._new([_Data(0, path.read_bytes(), flushed=True)])
        self.names.update(self._now)
        self._opened = dict(self._now)
        for call in calls:
            getattr(self, f"_{call.name}")(call)

    def _new(self, data: list[_Data]) -> int:
        self.files.append(data)
        return len(self.files) - 1

    def _create(self, call: Call) -> None:
        self._opened[call.path] = self._new([])
        self._name(None, call.path, self._opened[call.path])

    def _make_dir(self, call: Call) -> None:
        self._name(None, call.path, _FOLDER)

    def _write(self, call: Call) -> None:
        self.files[self._opened[call.path]].append(_Data(call.offset, call.data))

    def _resize(self, call: Call) -> None:
        """Only of the lock's file, whose content counts for nothing."""

    def _reserve(self, call: Call) -> None:
        """Only of the reserve, whose content counts for nothing."""

    def _flush(self, call: Call) -> None:
        data = self.files[self._opened[call.path]]
        data[:] = [one if one.doubtful else one._replace(flushed=True) for one in data]

    def _flush_failed(self, call: Call) -> None:
        data = self.files[self._opened[call.path]]
        data[:] = [one if one.flushed else one._replace(doubtful=True) for one in data]

    def _rename(self, call: Call) -> None:
        self._name(call.path, call.target, self._now[call.path])

    def _link(self, call: Call) -> None:
        self._name(None, call.target, self._now[call.path])

    def _unlink(self, call: Call) -> None:
        self._name(call.path, None, self._now[call.path])

    def _name(self, gone: Path | None, there: Path | None, file: int) -> None:
        _rename(self._now, gone, there, file)
        self.waiting.setdefault((there or gone).parent, []).append((gone, there, file))

    def _flush_dir(self, call: Call) -> None:
        for change in self.waiting.pop(call.path, ()):
            _rename(self.names, *change)

    def after_power_cut(
        self, randomly: random.Random, stale: list[bytes], wish: str | None
    ) -> dict[Path, bytes | None]:
        """A legal state: the content of every file by its path, None for folders.

        `wish` is `nothing` or `all`: how much is there of what need not be; by default this is left to chance.
        """
        names = dict(self.names)
        share = {"nothing": 0.0, "all": 1.0, None: randomly.choice((0.0, 0.3, 0.7, 1.0))}[wish]
        for change in (change for changes in self.waiting.values() for change in changes):
            if randomly.random() < share:
                _rename(names, *change)
        contents = {file: self._content(file, randomly, stale, wish) for file in sorted({*names.values()} - {_FOLDER})}
        there: dict[Path, bytes | None] = {}
        for path in sorted(names):
            if path.parent == self.root or path.parent in there:
                there[path] = contents.get(names[path])
        return there

    def _content(self, file: int, randomly: random.Random, stale: list[bytes], wish: str | None) -> bytes:
        data = self.files[file]
        doubtful = sum(len(one.data) for one in data if not one.flushed)
        kind = wish or randomly.choice(DATA)
        left = {"all": doubtful, "nothing": 0, "beginning": randomly.randint(0, doubtful)}.get(kind, doubtful)
        content = bytearray()
        for one in data:
            some = one.data if one.flushed else _found(kind, one.data[:left], randomly, stale)
            left -= 0 if one.flushed else len(some)
            if some:
                content.extend(bytes(max(0, one.offset + len(some) - len(content))))
                content[one.offset : one.offset + len(some)] = some
        return bytes(content)


def _rename(names: dict[Path, int], gone: Path | None, there: Path | None, file: int) -> None:
    if gone is not None:
        names.pop(gone, None)
    if there is not None:
        names[there] = file


def _found(kind: str, data: bytes, randomly: random.Random, stale: list[bytes]) -> bytes:
    """What is found where data was written and not flushed."""
    if kind == "zeros":
        return bytes(len(data))
    if kind == "holes":
        blocks = (data[at : at + BLOCK_BYTES] for at in range(0, len(data), BLOCK_BYTES))
        return b"".join(block if randomly.random() < 0.5 else bytes(len(block)) for block in blocks)
    if kind == "stale" and stale:
        return (randomly.choice(stale) * (len(data) // BLOCK_BYTES + 1))[: len(data)].ljust(len(data), b"\0")
    return data


def lay_out(there: dict[Path, bytes | None]) -> None:
    """Make a state real, under a clock that goes backwards: what is later in the order of names is older."""
    for age_s, (path, content) in enumerate(there.items()):
        if content is None:
            path.mkdir()
        else:
            path.write_bytes(content)
            os.utime(path, (NOON - age_s, NOON - age_s))

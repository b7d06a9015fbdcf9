"""Damage in any file of a run folder: never silent, never believed, mended as far as anything can be proven."""

from __future__ import annotations

import asyncio
import hashlib
import random
import shutil
from contextlib import suppress

import msgspec
import pyarrow.parquet as pq
import pytest
from damages import (
    ROWS,
    Cut,
    Cutting,
    Damage,
    Quick,
    Rows,
    answer,
    build,
    contents,
    damage,
    finish,
    flip,
    mend,
    problems,
    start,
)
from stores import feed, opened

from batchrun.errors import FolderUnusable
from batchrun.store.folder import RunFolder
from batchrun.store.framing import frame, seed_of
from batchrun.store.manifest import Entry, Manifest, Part
from batchrun.store.parts import PartWriter, schema_of
from batchrun.store.replay import SegmentReader
from batchrun.store.schema import to_batch
from batchrun.store.snapshot import Snapshot
from batchrun.store.verify import verify

LONG, SHORT = 3008, 16
REPAIRED_EACH, FINISHED_EACH = 8, 16
PART = "results/part-000000-000001.parquet"
RUN = "0" * 32


class Base:
    """A whole folder, what it holds, and which rows are in which of its files."""

    def __init__(self, path):
        self.path, self.rows = path, contents(path)
        self.in_file = {
            file.relative_to(path).as_posix(): set(pq.read_table(file, columns=["index"])["index"].to_pylist())
            for file in path.glob("*/part-*")
        }
        for file in sorted(path.glob("_journal/*.jl")):
            reader = SegmentReader(file, "0" * 32, *map(int, file.stem.split("-")))
            self.in_file[f"_journal/{file.name}"] = {one.index for block in reader.blocks(1) for one in block}
        self.last_journal = max(
            (name for name in self.in_file if self.in_file[name] and "_journal" in name), default=""
        )


@pytest.fixture(scope="module")
def bases(tmp_path_factory):
    root = tmp_path_factory.mktemp("bases")
    with pytest.MonkeyPatch.context() as patch:
        return [Base(build(root / name, patch, crashed=name == "crashed")) for name in ("closed", "crashed")]


def strike(base: Base, path, seed: int) -> tuple[Damage, str]:
    """Damage a copy of a folder and see that nothing is silent; returns what was done, and what became of it."""
    dice = random.Random(seed)
    done = None
    while done is None:
        shutil.rmtree(path, ignore_errors=True)
        shutil.copytree(base.path, path)
        done = damage(path, dice)
    found = problems(path)
    try:
        rows, exposed = start(path)
    except FolderUnusable as error:
        assert found, f"{done}: a start refuses it, and verify finds nothing: {error}"
        assert "--repair" in error.remedy, error.remedy
        return done, "refused"
    unlike = {index for index in rows if rows[index] != base.rows.get(index)}
    lost = base.rows.keys() - rows.keys()
    assert not unlike, f"{done}: believed"
    if lost:  # the end of an open journal is gone: so it looks when a crash came before
        assert {done.victim, f"_journal/{done.detail}"} & {base.last_journal}, f"{done}: silent"
        assert lost <= base.in_file[base.last_journal], f"{done}: more than the end"
        assert lost <= set(exposed), f"{done}: not named as exposed"
        return done, "like a crash"
    return done, "named" if found else "harmless"


def repaired(base: Base, done: Damage, path) -> None:
    """Nothing is invented, what is not damaged is kept, and a second repair has nothing to do."""
    mend(path)
    rows = contents(path)
    assert {index for index in rows if rows[index] != base.rows.get(index)} == set(), f"{done}: invented"
    may_be_lost = base.in_file.get(done.victim, set())
    if done.way == "exchange":
        may_be_lost = may_be_lost | base.in_file.get(f"{done.victim.rpartition('/')[0]}/{done.detail}", set())
    assert base.rows.keys() - rows.keys() <= may_be_lost, f"{done}: lost"
    assert problems(path) == [], f"{done}: still damaged"
    assert mend(path).problems == []


def trials(bases, tmp_path, seeds) -> dict[str, int]:
    """Strike, repair, finish; returns how often what came of it."""
    outcomes = dict.fromkeys(("refused", "named", "harmless", "like a crash", "repaired", "finished"), 0)
    for seed in seeds:
        base = bases[seed % 2]
        done, outcome = strike(base, tmp_path / "out", seed)
        outcomes[outcome] += 1
        if outcome in {"refused", "named"} and (seed // 2) % REPAIRED_EACH == 0:
            repaired(base, done, tmp_path / "out")
            outcomes["repaired"] += 1
            if (seed // 2) % FINISHED_EACH == 0:
                assert sorted(finish(tmp_path / "out")) == list(range(ROWS)), f"{done}: not whole"
                assert problems(tmp_path / "out") == []
                outcomes["finished"] += 1
    return outcomes


def test_no_damage_is_silent(bases, tmp_path):
    """The short form: a start refuses the folder and verify says why, or all is there as it was."""
    outcomes = trials(bases, tmp_path, range(SHORT))
    assert outcomes["refused"] > SHORT // 2


@pytest.mark.rig
def test_no_damage_is_silent_ever(bases, tmp_path, reached):
    """The long form."""
    outcomes = trials(bases, tmp_path, range(LONG))
    assert outcomes["like a crash"] < LONG // 50
    reached("T7", "damages", LONG, 3000)
    reached("T7", "folders mended", outcomes["repaired"], 300)


def test_a_damaged_folder_is_not_read(copy):
    """Neither what a part holds nor what a journal file does."""
    whole, name = (copy / PART).read_bytes(), "_journal/000007-000002.jl"
    (copy / PART).write_bytes(whole[:-9])
    with pytest.raises(FolderUnusable, match=f"{PART}: cannot be read"):
        Snapshot(copy)
    (copy / PART).write_bytes(whole)
    flip(copy / name, 100)
    with pytest.raises(FolderUnusable, match=f"{name}: is damaged"):
        Snapshot(copy)


# A repair


@pytest.fixture
def copy(bases, tmp_path):
    """A folder that has crashed, to be damaged."""
    return shutil.copytree(bases[1].path, tmp_path / "out")


def ruin(path) -> None:
    """Damage something of everything: a row group, a footer, an entry, the journal and `run.json`."""
    first, second = sorted((path / "results").glob("part-*"))[1:]
    flip(first, len(first.read_bytes()) // 4)
    flip(second, -9)
    flip(path / "_manifest" / f"{1:020d}.json", 50)
    flip(path / "_journal" / "000007-000002.jl", 400)
    (path / "run.json").write_text("{")


def test_of_a_damaged_part_the_other_row_groups_are_kept(bases, copy):
    """Each has a checksum of its own in the manifest, and so has the footer."""
    part = next((copy / "results").glob("part-000000-000001*"))
    held = bases[1].in_file["results/part-000000-000001.parquet"]
    flip(part, 200)
    done = mend(copy)
    assert 0 < done.saved_rows < len(held)
    assert done.saved_rows + done.lost_rows == len(held)
    assert done.lost_usd == pytest.approx(sum(bases[1].rows[index]["cost_usd"] for index in lost(bases[1], copy)))
    assert set(done.lost) <= lost(bases[1], copy)


def lost(base: Base, path) -> set[int]:
    """Which rows are not there any more."""
    return base.rows.keys() - contents(path).keys()


def test_without_its_footer_a_part_proves_nothing(bases, copy):
    """Nobody can tell what its pages mean."""
    name = "results/part-000000-000001.parquet"
    flip(copy / name, -20)
    assert mend(copy).saved_rows == 0
    assert lost(bases[1], copy) == bases[1].in_file[name]


def test_bytes_behind_the_end_of_a_part_cost_nothing(bases, copy):
    """All that was written is still there."""
    with next((copy / "results").glob("part-000000-000001*")).open("ab") as file:
        file.write(b"more")
    mend(copy)
    assert lost(bases[1], copy) == set()


def test_a_part_under_another_name_gets_its_own_again(bases, copy):
    """Its SHA-256 tells which it is."""
    first, second = sorted((copy / "results").glob("part-*"))[1:]
    first.rename(copy / "aside")
    second.rename(first)
    (copy / "aside").rename(second)
    before = first.read_bytes()
    mend(copy)
    assert second.read_bytes() == before
    assert lost(bases[1], copy) == set()
    assert problems(copy) == []


def test_rerun_sets_a_damaged_part_aside_whole(bases, copy):
    """None of its rows is kept, and the part is in the quarantine as it was."""
    name = "results/part-000000-000001.parquet"
    flip(copy / name, 200)
    before = (copy / name).read_bytes()
    done = mend(copy, "rerun")
    assert lost(bases[1], copy) == bases[1].in_file[name]
    assert (copy / done.quarantine / name).read_bytes() == before
    assert name in (copy / done.quarantine / "README.txt").read_text()


def test_the_parts_of_a_lost_history_are_found_again(bases, copy):
    """Without any entry of the manifest every row of every part, and of the journal, is still kept."""
    for entry in (copy / "_manifest").glob("*.json"):
        entry.unlink()
    mend(copy)
    assert contents(copy) == bases[1].rows


def test_run_json_comes_back_from_its_copy(bases, copy):
    """Without the run's id nothing could be proven."""
    (copy / "run.json").unlink()
    with pytest.raises(FolderUnusable, match="is missing"):
        start(copy)
    mend(copy)
    assert (copy / "run.json").read_bytes() == (bases[1].path / "run.json").read_bytes()
    assert contents(copy) == bases[1].rows


def test_without_run_json_and_its_copy_nothing_can_be_proven(copy):
    """Nothing is changed then."""
    (copy / "run.json").unlink()
    (copy / "_manifest/run.json.copy").unlink()
    with pytest.raises(FolderUnusable):
        mend(copy)
    assert not (copy / "_quarantine").exists()


def test_run_json_is_believed_only_as_far_as_its_copy(bases, copy):
    """A changed digit leaves it readable; what counts is what was last written."""
    path = copy / "run.json"
    path.write_text(path.read_text().replace('"rows": 20', '"rows": 21'))
    assert RunFolder(copy).read_run_file().rows == ROWS
    assert problems(copy) == ["run.json: is not as it was last written"]
    mend(copy)
    assert path.read_bytes() == (bases[1].path / "run.json").read_bytes()


def test_two_journal_files_that_have_changed_places_are_noticed(copy):
    """No line in them is where it belongs, so they are not taken for the torn end of a write."""
    first, second = sorted((copy / "_journal").iterdir())[:2]
    first.rename(copy / "_journal" / "aside")
    second.rename(first)
    (copy / "_journal" / "aside").rename(second)
    with pytest.raises(FolderUnusable, match="damaged at byte 0"):
        start(copy)
    assert len(problems(copy)) == 2


def test_a_copy_of_a_part_adds_nothing(bases, copy):
    """Its rows are there already."""
    shutil.copy(copy / PART, copy / "results/part-000009-000001.parquet")
    assert mend(copy).saved_rows == 0
    assert contents(copy) == bases[1].rows


def test_a_part_of_another_run_adds_nothing(bases, copy, tmp_path):
    """Every part names its run: rows of another one are not taken for ours."""
    with opened(tmp_path / "other", ROWS, Quick(), run_id="1" * 32) as store:
        asyncio.run(feed(store, [answer(index) for index in range(ROWS)], part_mb=1))
    shutil.copy(tmp_path / "other" / PART, copy / "results/part-000009-000001.parquet")
    assert mend(copy).saved_rows == 0
    assert contents(copy) == bases[1].rows


def test_a_merge_whose_entry_is_lost_before_its_part_had_its_name(bases, copy):
    """The part is found under its hidden name."""
    merged = copy / "failures/part-000003-000002.parquet"
    merged.rename(merged.with_name(f".{merged.name}.tmp"))
    flip(copy / "_manifest" / f"{5:020d}.json", 40)
    mend(copy)
    assert contents(copy) == bases[1].rows


def test_the_empty_first_part_is_written_again(copy):
    """Without it a folder of no answers would have no columns."""
    first = copy / "results/part-000000-000000.parquet"
    before = first.read_bytes()
    first.unlink()
    mend(copy)
    assert first.read_bytes() == before


def test_a_journal_file_that_is_gone_is_missed(bases, copy):
    """The one after it was written, so it was there."""
    (copy / "_journal/000007-000002.jl").unlink()
    with pytest.raises(FolderUnusable, match="is missing"):
        start(copy)
    assert problems(copy) == ["_journal/000007-000002.jl: is missing"]
    assert mend(copy).uncertain
    assert lost(bases[1], copy) == bases[1].in_file["_journal/000007-000002.jl"]


def test_a_repair_sends_nothing_and_names_what_a_run_buys_again(copy):
    """The rows that are lost are open, and only they and those that were."""
    ruin(copy)
    done = mend(copy)
    assert done.open_rows == ROWS - len(contents(copy))
    assert sorted(finish(copy)) == list(range(ROWS))


def test_where_nothing_is_damaged_a_repair_changes_nothing(copy):
    """Not even a file of its own."""
    before = {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "_lock"}
    assert mend(copy).problems == []
    assert {path: path.read_bytes() for path in copy.rglob("*") if path.is_file() and path.name != "_lock"} == before


# What no damage of a file explains


def put(path, records, *, room="results", metadata=None, **changes) -> None:
    """Commit one more part, of which the manifest may say something else."""
    with opened(path, ROWS, Quick()) as store:
        folder, manifest = RunFolder(path, Quick()), store.recovered.manifest
        schema = schema_of(f"{room}/")
        writer = PartWriter(folder, path / room, "part-000099-000001.parquet", schema.with_metadata(metadata))
        writer.add(to_batch(records, schema))
        part = msgspec.structs.replace(writer.finish(), **changes)
        manifest.put(Entry(kind="merge", at=0, epoch=99, parts=[part]))
        manifest.put(Entry(kind="close", at=0, epoch=99))


@pytest.mark.parametrize(
    ("records", "options", "said"),
    [
        ([answer(0)], {}, "holds 1 rows that results/part-000000-000001.parquet holds too: 0"),
        ([answer(19), answer(19)], {}, "holds a row twice"),
        ([answer(70)], {}, "holds 1 rows that the input does not have: 70"),
        ([answer(19)], {"rows": 2}, "has 1 rows from 19 to 19, and the manifest says otherwise"),
        (
            [answer(0, failed=True)],
            {"room": "failures"},
            "holds 1 rows that results/part-000000-000001.parquet holds too: 0",
        ),
    ],
)
def test_a_part_that_does_not_fit_the_others_is_named_and_mended(records, options, said, bases, copy):
    """Its file is what was written, so what is in it stays, each row once."""
    put(copy, records, **options)
    room = options.get("room", "results")
    assert problems(copy) == [f"{room}/part-000099-000001.parquet: {said}"]
    mend(copy)
    assert problems(copy) == []
    rows = contents(copy)
    assert {index: rows[index] for index in bases[1].rows} == bases[1].rows
    assert rows.keys() - bases[1].rows.keys() <= {19}


def test_a_part_that_was_written_broken_is_named_and_set_aside(bases, copy):
    """It is what was written, and nobody can read it."""
    name, data = "results/part-000099-000001.parquet", b"PAR1, and nothing else"
    (copy / name).write_bytes(data)
    part = Part(name=name, bytes=len(data), sha256=hashlib.sha256(data).hexdigest(), rows=1)
    Manifest(RunFolder(copy), RUN).put(Entry(kind="merge", at=0, epoch=99, parts=[part]))
    assert [line.partition(": Parquet")[0] for line in problems(copy)] == [f"{name}: cannot be read"]
    done = mend(copy)
    assert problems(copy) == []
    assert contents(copy) == bases[1].rows
    assert (copy / done.quarantine / name).read_bytes() == data


def test_an_empty_first_part_that_others_wrote_is_written_as_we_write_it(copy):
    """Another release of the Parquet library makes another file of the same columns."""
    entry = Manifest(RunFolder(copy), RUN).entries[0]
    parts = [msgspec.structs.replace(part, bytes=part.bytes + 1) for part in entry.parts]
    line = msgspec.json.encode(msgspec.structs.replace(entry, parts=parts))
    (copy / "_manifest" / f"{0:020d}.json").write_bytes(frame(line, seed_of(RUN, "manifest", 0)))
    assert len(problems(copy)) == 2
    mend(copy)
    assert problems(copy) == []
    assert sorted(finish(copy)) == list(range(ROWS))


def test_a_link_to_a_part_is_not_that_part(copy, tmp_path):
    """What it leads to may change after it has been looked at."""
    (copy / PART).rename(tmp_path / "elsewhere")
    (copy / PART).symlink_to(tmp_path / "elsewhere")
    assert problems(copy) == [f"{PART}: is a symbolic link (rows 0 to 6 of the input)"]


def test_files_that_are_not_ours_are_set_aside_where_they_would_be_read(bases, copy):
    """Beside what a run reads they are only noted."""
    strays = ["results/notes.parquet", "_manifest/notes.json"]
    for name in (*strays, "notes.txt", "_journal/notes.txt"):
        (copy / name).write_text("precious")
    assert problems(copy) == [
        "_manifest/notes.json: is not an entry of this run",
        "results/notes.parquet: is not a run's file, and readers take it for rows",
    ]
    assert verify(RunFolder(copy)).notes == ["not a run's: notes.txt, _journal/notes.txt"]
    done = mend(copy)
    assert [(copy / done.quarantine / name).read_text() for name in strays] == ["precious", "precious"]
    assert [(copy / name).read_text() for name in ("notes.txt", "_journal/notes.txt")] == ["precious", "precious"]
    assert (problems(copy), contents(copy)) == ([], bases[1].rows)


def test_a_journal_file_that_says_nothing_is_nobodys(bases, copy):
    """No start began it: it is named, and taken away."""
    (copy / "_journal/000090-000001.jl").touch()
    with pytest.raises(FolderUnusable, match="the manifest does not say that this was begun"):
        start(copy)
    assert problems(copy) == ["_journal/000090-000001.jl: is not this run's"]
    mend(copy)
    assert contents(copy) == bases[1].rows
    assert problems(copy) == []


def test_rerun_sets_a_damaged_journal_file_aside_whole(bases, copy):
    """None of its rows is kept, and it is in the quarantine as it was."""
    name = "_journal/000007-000002.jl"
    flip(copy / name, 400)
    before = (copy / name).read_bytes()
    done = mend(copy, "rerun")
    assert lost(bases[1], copy) == bases[1].in_file[name]
    assert done.lost_rows == len(lost(bases[1], copy))
    assert (copy / done.quarantine / name).read_bytes() == before


def test_an_entry_of_a_newer_batchrun_is_no_damage(copy):
    """Whoever looks is told what would read it."""
    line = b'{"kind":"vacuum","at":0,"epoch":0}'
    number = Manifest(RunFolder(copy), RUN).next_number()
    (copy / "_manifest" / f"{number:020d}.json").write_bytes(frame(line, seed_of(RUN, "manifest", number)))
    for look in (start, contents, problems, mend):
        with pytest.raises(FolderUnusable, match="newer batchrun") as error:
            look(copy)
        assert "pip install --upgrade" in error.value.remedy


class WhileARunGoesOn(RunFolder):
    """A folder whose history has grown by an entry each time that somebody looks at it, until it is `told` to stay."""

    def __init__(self, path, looks: int) -> None:
        super().__init__(path)
        self.looks, self.looked = looks, 0

    def read_run_file(self):
        """Say what is being run, after the run has gone on for a moment."""
        self.looked += 1
        if self.looked <= self.looks:
            Manifest(RunFolder(self.path), RUN).put(Entry(kind="exposed", at=0, epoch=0))
        else:
            (self.path / "results/part-000099-000001.parquet").unlink(missing_ok=True)
        return super().read_run_file()


@pytest.mark.parametrize(("looks", "found", "looked"), [(1, 0, 2), (4, 0, 5), (5, 1, 5)])
def test_what_seems_wrong_while_a_run_goes_on_is_looked_at_again(copy, looks, found, looked):
    """A part that is about to be listed is a stray for a moment; what is still one at the fifth look is told."""
    (copy / "results/part-000099-000001.parquet").write_bytes(b"PAR1")
    folder = WhileARunGoesOn(copy, looks)
    assert (len(verify(folder).problems), folder.looked) == (found, looked)


def test_a_part_of_a_newer_batchrun_is_no_damage(copy):
    """It is refused, and says what would read it."""
    put(copy, [answer(19)], metadata={"batchrun_schema_version": "99"})
    with pytest.raises(FolderUnusable, match="newer batchrun"):
        problems(copy)


def test_what_a_crash_left_of_an_unfinished_part_is_no_damage(copy):
    """The next start sweeps it."""
    (copy / "results/.part-000099-000001.parquet.tmp").write_bytes(b"PAR1")
    assert problems(copy) == []


def cut(base: Base, path, kept: Rows, at: int, *, after: bool) -> None:
    """A repair ends at an operation: the next one, or a run, goes on from there as if it had not."""
    shutil.rmtree(path, ignore_errors=True)
    shutil.copytree(base.path, path)
    ruin(path)
    with pytest.raises(Cut):
        mend(path, fs=Cutting(at, after=after))
    if after:
        with suppress(FolderUnusable):  # a run that refuses the folder leaves it as it is
            start(path)
    mend(path)
    assert problems(path) == []
    assert contents(path) == kept


def uncut(base: Base, path) -> tuple[int, Rows]:
    """How many operations a repair of all that takes, and what it keeps."""
    shutil.copytree(base.path, path)
    ruin(path)
    fs = Cutting()
    mend(path, fs=fs)
    return fs.count, contents(path)


def test_a_repair_that_is_cut_is_gone_on_with(bases, tmp_path):
    """The short form: some of its operations."""
    count, kept = uncut(bases[1], tmp_path / "whole")
    for at in range(3, count, count // 4):
        cut(bases[1], tmp_path / "out", kept, at, after=bool(at % 2))


@pytest.mark.rig
def test_a_repair_that_is_cut_anywhere_is_gone_on_with(bases, tmp_path, reached):
    """The long form: all of them."""
    count, kept = uncut(bases[1], tmp_path / "whole")
    for at in range(1, count + 1):
        for after in (False, True):
            cut(bases[1], tmp_path / "out", kept, at, after=after)
    reached("T7", "cut repairs", 2 * count, 150)

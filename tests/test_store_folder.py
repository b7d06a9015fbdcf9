"""A run folder in hostile or broken surroundings: each has its clear error, and nothing is touched."""

from __future__ import annotations

import asyncio
import errno
import os
import shlex
import shutil
import socket
import stat
import subprocess
import tempfile
from contextlib import ExitStack, contextmanager, suppress
from itertools import count
from pathlib import Path

import pytest
from commands import at, begun, called, prompts, wait_for
from disks import disk_of, remount
from refused_calls import can_refuse, in_thread, refuse
from servers import simulated
from stores import keep_all, opened, record, started
from system_calls import intercepted

import batchrun
from batchrun.config import StoreConfig
from batchrun.errors import BatchrunError, FolderBusy, FolderUnusable, StoreError
from batchrun.store.counting import count_kept
from batchrun.store.folder import RunFolder
from batchrun.store.fs import Fs, read
from batchrun.store.journal import RESERVE_BYTES
from batchrun.store.manifest import Manifest, Session
from batchrun.store.recovery import recover
from batchrun.store.snapshot import Snapshot
from batchrun.store.verify import verify

ROOMS = ["results", "failures", "report", "_journal", "_manifest"]
SOMEBODY = 12345
as_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root can give a file to somebody else")
with_seccomp = pytest.mark.skipif(not can_refuse(), reason="this kernel refuses no system call on request")


@pytest.fixture(scope="module")
def kept(tmp_path_factory):
    """A folder with answers, a segment of the journal that a crash left, and a report."""
    path = tmp_path_factory.mktemp("kept") / "out"
    keep_all(path, [record(0), record(1, failed=True)], 4)
    with opened(path, 4) as store:
        started(store)
        store.keep(record(2))
        store.abandon()
        store.recovered.folder.write_report("summary.json", b"{}")
    return path


@pytest.fixture
def out(kept, tmp_path):
    """A copy of it."""
    return Path(shutil.copytree(kept, tmp_path / "out"))


def seen(folder: Path) -> dict[str, object]:
    """All that is in a folder and in what its links lead to: kind, mode and content."""
    found: dict[str, object] = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        content = (
            path.read_bytes() if stat.S_ISREG(status.st_mode) else stat.S_ISLNK(status.st_mode) and path.readlink()
        )
        found[str(path)] = (status.st_mode, status.st_mtime_ns, content)
    return found


def refused(folder: Path, *, reading: bool = True) -> BatchrunError:
    """The error of a run there, which must be that of whoever only reads, and must leave all as it is."""
    before = seen(folder.parent)
    with pytest.raises(FolderUnusable) as error:
        RunFolder(folder).exists()
    if reading:
        with pytest.raises(FolderUnusable) as of_reading:
            Snapshot(folder)
        assert str(of_reading.value) == str(error.value)
    assert seen(folder.parent) == before
    assert error.value.exit_code == 7
    assert error.value.remedy
    return error.value


# 1. Who may write there


@pytest.mark.parametrize("umask", [0o000, 0o022, 0o777])
def test_what_a_run_makes_is_for_its_user_alone(tmp_path, umask):
    """Folders are 0700 and files 0600, whatever the umask."""
    before = os.umask(umask)
    try:
        keep_all(tmp_path / "out", [record(0)], 2)
    finally:
        os.umask(before)
    modes = {path: stat.S_IMODE(path.stat().st_mode) for path in [tmp_path / "out", *(tmp_path / "out").rglob("*")]}
    assert modes == {path: 0o700 if path.is_dir() else 0o600 for path in modes}


@pytest.mark.parametrize("mode", [0o770, 0o702, 0o777, 0o1777])
@pytest.mark.parametrize("room", [".", *ROOMS])
def test_a_folder_that_others_may_write_is_refused(out, room, mode):
    """The remedy is the command to type, and it helps; who only reads is not refused."""
    (out / room).chmod(mode)
    error = refused(out, reading=False)
    assert f"{out / room}: other users may write there" in error.message
    subprocess.run(shlex.split(error.remedy), check=True)
    assert RunFolder(out).exists()


def test_all_that_others_may_write_is_in_one_command(out):
    """Nobody types it six times, also where a name has a space in it."""
    spaced = out.rename(out.with_name("my out"))
    for path in [spaced, *map(spaced.joinpath, ROOMS)]:
        path.chmod(0o777)
    subprocess.run(shlex.split(refused(spaced, reading=False).remedy), check=True)
    assert RunFolder(spaced).exists()


def test_an_empty_folder_that_others_may_write_is_refused(tmp_path):
    """What they could lay into it would be believed."""
    (tmp_path / "out").mkdir()
    (tmp_path / "out").chmod(0o777)
    assert "other users may write there" in refused(tmp_path / "out", reading=False).message


@as_root
@pytest.mark.parametrize("room", [".", *ROOMS])
def test_a_folder_of_another_user_is_refused(out, room):
    """Its owner could change it at any moment, also for root."""
    os.chown(out / room, SOMEBODY, -1)
    assert f"{out / room}: belongs to another user" in refused(out, reading=False).message


@as_root
def test_what_is_quicker_than_the_run_is_refused(tmp_path):
    """A folder that was not there when it was looked for is looked at once more when it is made."""
    (tmp_path / "out").mkdir()
    os.chown(tmp_path / "out", SOMEBODY, -1)
    with pytest.raises(FolderUnusable, match="belongs to another user"):
        RunFolder(tmp_path / "out").make()


def test_a_place_for_everybody_is_fine(tmp_path):
    """The folder in it is made for its user alone."""
    (tmp_path / "everybody").mkdir()
    (tmp_path / "everybody").chmod(0o1777)
    keep_all(tmp_path / "everybody" / "out", [record(0)], 1)
    assert RunFolder(tmp_path / "everybody" / "out").exists()


def test_a_link_to_the_folder_is_followed_if_the_user_made_it(out, tmp_path):
    """Whoever has a larger disk elsewhere may say so."""
    (tmp_path / "link").symlink_to(out)
    keep_all(tmp_path / "link", [record(3)], 4)
    assert Snapshot(out).table("results").num_rows == 3


@as_root
def test_a_link_that_another_user_made_is_not(out, tmp_path):
    """It could lead elsewhere tomorrow."""
    (tmp_path / "link").symlink_to(out)
    os.chown(tmp_path / "link", SOMEBODY, -1, follow_symlinks=False)
    assert "is a link that somebody else has made" in refused(tmp_path / "link", reading=False).message


# 2. What is in the place of a file

FILES = ["run.json", "_lock", ".run.json.tmp", "_manifest/*0.json", "_journal/*.jl", "_journal/.reserve"]
FILES += ["results/part-*1.parquet", "failures/part-*1.parquet", "report/summary.json"]
FILES += ["results/.part-000009-000001.parquet.tmp", "_manifest/.00000000000000000009.json.tmp"]


def file_at(out: Path, pattern: str) -> Path:
    """The first file that fits, or where it would be."""
    return next(iter(sorted(out.glob(pattern))), out / pattern)


@pytest.mark.parametrize("pattern", FILES)
def test_a_link_in_place_of_a_file_is_refused(out, tmp_path, pattern):
    """Nothing is read or written through it, and it is named."""
    path = file_at(out, pattern)
    if path.exists():
        path.rename(tmp_path / "elsewhere")
    else:
        (tmp_path / "elsewhere").write_bytes(b"precious")
    path.symlink_to(tmp_path / "elsewhere")
    assert f"{path}: is a symbolic link" in refused(out).message


@pytest.mark.parametrize("room", [*ROOMS, "_replaced", "_replaced/results"])
def test_a_link_in_place_of_a_room_is_refused(out, tmp_path, room):
    """Also where it leads to what the room held."""
    (tmp_path / "elsewhere").mkdir()
    if (out / room).exists():
        (out / room).rename(tmp_path / "elsewhere" / "room")
    (out / room).parent.mkdir(exist_ok=True)
    (out / room).symlink_to(tmp_path / "elsewhere" / "room")
    assert f"{out / room}: is a symbolic link" in refused(out).message


def pipe(path: Path) -> None:
    os.mkfifo(path)


def socket_at(path: Path) -> None:
    here = os.open(".", os.O_RDONLY)
    try:
        os.chdir(path.parent)  # the path of a socket must be short
        with socket.socket(socket.AF_UNIX) as one:
            one.bind(path.name)
    finally:
        os.fchdir(here)
        os.close(here)


def device(path: Path) -> None:
    os.mknod(path, 0o600 | stat.S_IFCHR, os.makedev(1, 3))


SPECIAL = [
    pytest.param(pipe, "is a pipe", id="pipe"),
    pytest.param(socket_at, "is a socket", id="socket"),
    pytest.param(Path.mkdir, "is a folder", id="folder"),
    pytest.param(device, "is a device", id="device", marks=as_root),
]


@pytest.mark.parametrize(("make", "what"), SPECIAL)
@pytest.mark.parametrize("pattern", FILES)
def test_what_is_no_file_is_not_opened(out, pattern, make, what):
    """A pipe would make the run wait for ever, a device may act."""
    path = file_at(out, pattern)
    path.unlink(missing_ok=True)
    make(path)
    assert f"{path}: {what} where a file of the run should be" in refused(out).message


@pytest.mark.parametrize("room", ROOMS)
def test_a_file_in_place_of_a_room_is_refused(out, room):
    """It is not replaced."""
    shutil.rmtree(out / room)
    (out / room).write_bytes(b"precious")
    assert f"{out / room}: is not a folder" in refused(out).message


def test_a_folder_that_a_desktop_or_a_notebook_left_is_let_be(out):
    """Its name is none of ours, so nobody takes it for a file of the run."""
    (out / "results" / ".ipynb_checkpoints").mkdir()
    assert RunFolder(out).exists()
    keep_all(out, [record(3)], 4)
    assert (out / "results" / ".ipynb_checkpoints").is_dir()


def test_reading_follows_no_link(tmp_path):
    """Also that of a single file, whatever was looked at before."""
    (tmp_path / "file").write_bytes(b"text")
    (tmp_path / "link").symlink_to("file")
    assert read(tmp_path / "file") == b"text"
    with pytest.raises(FolderUnusable, match="is a symbolic link"):
        read(tmp_path / "link")


def test_writing_follows_no_link(tmp_path):
    """A name that is taken by a link is taken, and a lock is not laid on what it leads to."""
    (tmp_path / "link").symlink_to("file")
    with pytest.raises(FileExistsError):
        Fs().create(tmp_path / "link")
    with pytest.raises(StoreError):
        Fs().lock(tmp_path / "link")
    assert not (tmp_path / "file").exists()


# 3. Half of a folder


@pytest.mark.parametrize("room", sorted({*ROOMS} - {"report"}))
def test_a_missing_room_is_named(out, room):
    """The remedy can be typed if a copy has left out an empty folder."""
    shutil.rmtree(out / room)
    error = refused(out)
    assert f"{out / room}: is missing" in error.message
    assert f"mkdir -m 700 {out / room}" in error.remedy


def test_a_report_that_was_removed_is_written_again(out):
    """Nothing depends on it."""
    shutil.rmtree(out / "report")
    keep_all(out, [record(3)], 4)
    RunFolder(out).write_report("summary.json", b"{}")
    assert (out / "report" / "summary.json").read_bytes() == b"{}"


@pytest.mark.parametrize("without", ["results/part-*1.parquet", "_journal/*.jl", "nothing"])
def test_answers_without_their_history_are_refused(out, without):
    """Parts and segments say nothing without the manifest, and would be taken for left-overs of a first start."""
    for path in [*(out / "_manifest").glob("*"), *out.glob(without)]:
        path.unlink()
    assert f"{out / '_manifest'}: is empty, and answers are here" in refused(out).message


@pytest.mark.parametrize("gone", [[], ["_manifest"], ["results", "failures", "_journal"]])
def test_answers_without_what_they_answer_are_refused(out, gone):
    """A new `run.json` would make them somebody else's."""
    (out / "run.json").unlink()
    for room in gone:
        shutil.rmtree(out / room)
    assert f"{out / 'run.json'}: is missing, and answers are here" in refused(out, reading=False).message
    with pytest.raises(FolderUnusable, match="is not a run folder"):
        Snapshot(out)


def test_what_a_first_start_left_before_its_run_json_is_no_answer(tmp_path):
    """A crash between the rooms and `run.json` is gone on from."""
    RunFolder(tmp_path / "out").make()
    (tmp_path / "out" / ".run.json.tmp").write_bytes(b"{")
    assert not RunFolder(tmp_path / "out").exists()
    keep_all(tmp_path / "out", [record(0)], 1)


# 4. Places where no folder can be


def test_a_name_that_is_too_long(tmp_path):
    """It is refused before anything is made."""
    assert "File name too long" in refused(tmp_path / ("x" * 300), reading=False).message


def test_a_file_on_the_way(tmp_path):
    """A component of the path is no folder."""
    (tmp_path / "file").write_bytes(b"precious")
    assert "Not a directory" in refused(tmp_path / "file" / "out", reading=False).message
    with pytest.raises(StoreError, match="Not a directory"):
        RunFolder(tmp_path / "file" / "out").make()


def test_links_that_lead_to_one_another(tmp_path):
    """Not followed for ever."""
    (tmp_path / "a").symlink_to("b")
    (tmp_path / "b").symlink_to("a")
    assert "Too many levels of symbolic links" in refused(tmp_path / "a", reading=False).message


def test_a_file_in_the_place_of_the_folder(tmp_path):
    """It is refused, and stays."""
    (tmp_path / "out").write_bytes(b"precious")
    assert "out: is not a folder" in refused(tmp_path / "out", reading=False).message


def test_a_link_that_leads_nowhere(tmp_path):
    """Nobody can have a run write elsewhere by laying one."""
    (tmp_path / "out").symlink_to("nowhere")
    assert "out: cannot be read: No such file or directory" in refused(tmp_path / "out", reading=False).message


class Killed(BaseException):
    """The process ends here."""


@pytest.mark.parametrize("at", range(1, 17))
def test_names_that_a_killed_start_has_made_are_flushed_by_the_next(tmp_path, at):
    """Wherever it was killed: a power cut after the next one would else take the folder with all that is in it."""
    unflushed, calls = set(), count(1)

    def note(call, act):
        act()
        if call.name == "make_dir":
            unflushed.add(call.path)
        elif call.name == "flush_dir":
            unflushed.difference_update([path for path in unflushed if path.parent == call.path])
        if next(calls) == at:
            raise Killed

    def start():
        folder = RunFolder(tmp_path / "a" / "b" / "out")
        folder.make()
        folder.make_room("_replaced/results")

    with intercepted(tmp_path, note):
        with pytest.raises(Killed):
            start()
        start()
    assert unflushed == set()


def test_a_file_in_the_place_of_a_room_that_is_to_be_made(tmp_path):
    """Something that came in the meantime is an error of the disk."""
    (tmp_path / "results").write_bytes(b"")
    with pytest.raises(StoreError, match="Not a directory"):
        Fs().make_dir(tmp_path / "results")


@contextmanager
def as_somebody():
    """Without root's rights."""
    os.seteuid(SOMEBODY)
    try:
        yield
    finally:
        os.seteuid(0)


@as_root
def test_a_folder_without_permission():
    """Looking, reading and writing are refused in words."""
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        folder.chmod(0o755)
        keep_all(folder / "closed", [record(0)], 1)
        (folder / "mine").mkdir(mode=0o755)
        with as_somebody():
            with pytest.raises(FolderUnusable, match="Permission denied"):
                RunFolder(folder / "closed").exists()
            with pytest.raises(FolderUnusable, match=r"run\.json: cannot be read: Permission denied"):
                Snapshot(folder / "closed")
            with pytest.raises(StoreError, match="Permission denied") as error:
                RunFolder(folder / "mine" / "out").make()
        assert "make the folder writable for you" in error.value.remedy


@as_root
def test_a_folder_above_that_is_not_ours_to_read():
    """Home folders often stand in one: nothing in it was made by us."""
    with tempfile.TemporaryDirectory() as name:
        Path(name).chmod(0o711)
        (Path(name) / "mine").mkdir()
        os.chown(Path(name) / "mine", SOMEBODY, SOMEBODY)
        with as_somebody():
            keep_all(Path(name) / "mine" / "out", [record(0)], 1)
        assert Snapshot(Path(name) / "mine" / "out").table("results").num_rows == 1


# 5. The lock


@with_seccomp
@pytest.mark.parametrize("error", [errno.ENOLCK, errno.ENOTSUP, errno.ENOSYS])
def test_a_disk_without_locks_is_an_error(tmp_path, error):
    """There is no run without a lock."""

    def start():
        refuse("flock", error)
        with opened(tmp_path / "out", 1):
            return "a run without a lock"

    with pytest.raises(StoreError, match=f"out/_lock: {os.strerror(error)}"):
        in_thread(start)


def test_a_holder_that_has_not_said_yet_who_it_is(tmp_path):
    """It holds the folder all the same."""
    with opened(tmp_path / "out", 1):
        (tmp_path / "out" / "_lock").write_bytes(b"")
        with pytest.raises(FolderBusy, match="its process could not be read"), RunFolder(tmp_path / "out").locked():
            pass


def stopped_by(store, hand) -> StoreError:
    """What a run is told that keeps a row, and then another after a hand has reached into its folder."""

    async def keep():
        store.start(StoreConfig(flush_ms=1), lambda error: None)
        store.keep(record(0))
        await store.journal.settled()
        hand()
        store.keep(record(1))
        try:
            with pytest.raises(StoreError) as error:
                await store.journal.settled()
        finally:
            with suppress(StoreError):
                await asyncio.to_thread(store.close, Session(exit_code=6, cause=""), [])
        return error.value

    return asyncio.run(keep())


def test_a_lock_that_is_taken_away_stops_the_run(tmp_path):
    """A second run could come in: what is handed over then is not confirmed any more."""
    with opened(tmp_path / "out", 2) as store:
        error = stopped_by(store, (tmp_path / "out" / "_lock").unlink)
    assert (error.exit_code, "_lock: has been taken away" in error.message) == (6, True)


def test_a_lock_that_is_replaced_is_another_run(tmp_path):
    """It says which."""
    other = ExitStack()

    def hand():
        (tmp_path / "out" / "_lock").unlink()
        other.enter_context(RunFolder(tmp_path / "out").locked())

    with other, opened(tmp_path / "out", 2) as store:
        error = stopped_by(store, hand)
    assert (error.exit_code, f"taken it over (process {os.getpid()} on " in error.message) == (5, True)


def test_a_folder_that_is_removed_while_a_run_goes_on_stops_it(tmp_path):
    """Nothing more is paid for: the next flush finds out."""
    with opened(tmp_path / "out", 2) as store:
        error = stopped_by(store, lambda: (tmp_path / "out").rename(tmp_path / "elsewhere"))
    assert (error.exit_code, "has been taken away" in error.message) == (6, True)


# 6. What the system says


@with_seccomp
@pytest.mark.parametrize(
    ("call", "error", "remedy"),
    [
        ("write", errno.EDQUOT, "free some of your quota"),
        ("write", errno.ENOSPC, "free or repair the disk"),
        ("openat", errno.EROFS, "make the disk writable"),
        ("openat", errno.EMFILE, "ulimit -n"),
        ("fdatasync", errno.EIO, "free or repair the disk"),
        ("link", errno.EPERM, "name another folder with -o"),
        ("fallocate", errno.ENOSPC, "free or repair the disk"),
    ],
)
def test_what_the_system_refuses_is_an_error_of_the_disk(tmp_path, call, error, remedy):
    """It names the path, gives the system's words, and a remedy that fits."""

    def start():
        with opened(tmp_path / "out", 1) as store:
            refuse(call, error)
            try:
                started(store)
                store.keep(record(0))
                store.close(Session(exit_code=0, cause=""), [])
            except StoreError as refusal:
                return f"{refusal} -> {refusal.remedy}"
        return "nothing was noticed"

    said = in_thread(start)
    assert str(tmp_path / "out") in said
    assert os.strerror(error) in said
    assert remedy in said


@pytest.mark.parametrize(
    ("room", "look"),
    [
        ("_journal", lambda folder: recover(folder, "0" * 32, 4)),
        ("_journal", lambda folder: count_kept(folder, folder.read_run_file())),
        ("_manifest", lambda folder: Manifest(folder, "0" * 32)),
    ],
)
def test_a_room_that_goes_while_somebody_looks_is_told_in_words(out, room, look):
    """Whichever of its steps meets it."""
    shutil.rmtree(out / room)
    with pytest.raises(FolderUnusable, match=f"{room}: cannot be read: No such file or directory"):
        look(RunFolder(out))


@with_seccomp
@pytest.mark.parametrize(
    ("call", "look"),
    [
        ("getdents64", RunFolder.exists),
        ("getdents64", RunFolder.make),
        ("openat", RunFolder.read_run_file),
        ("getdents64", lambda folder: Snapshot(folder.path)),
        ("openat", lambda folder: Snapshot(folder.path)),
        ("getdents64", verify),
        ("getdents64", lambda folder: recover(folder, "0" * 32, 4)),
    ],
)
def test_a_disk_that_cannot_be_read_is_no_damage(out, call, look):
    """Its folder may be whole: nothing is said of a repair of it."""

    def start():
        refuse(call, errno.EIO)
        look(RunFolder(out))

    with pytest.raises(StoreError, match=f"^{out}.*: Input/output error") as error:
        in_thread(start)
    assert (error.value.exit_code, error.value.remedy) == (6, "repair the disk, then run the same command again")


@with_seccomp
@pytest.mark.parametrize("error", [errno.EIO, errno.ENOSPC, errno.EDQUOT, errno.EINTR])
def test_what_closing_says_comes_too_late_to_count(tmp_path, error):
    """All that counts was flushed before: the answers are there, whatever the system says then."""

    def start():
        with opened(tmp_path / "out", 1) as store:
            started(store)
            refuse("close", error)
            store.keep(record(0))
            store.close(Session(exit_code=0, cause=""), [])
        return "done"

    assert in_thread(start) == "done"
    assert Snapshot(tmp_path / "out").table("results").num_rows == 1


def test_where_no_room_can_be_claimed_it_is_written(tmp_path, monkeypatch):
    """As on macOS."""
    monkeypatch.delattr(os, "posix_fallocate", raising=False)
    with opened(tmp_path / "out", 1) as store:
        started(store)
        assert (tmp_path / "out" / "_journal" / ".reserve").stat().st_size == RESERVE_BYTES
        store.abandon()


def test_closing_twice_is_a_bug(tmp_path):
    """It could close somebody else's file."""
    fd = Fs().create(tmp_path / "file")
    Fs().close(fd)
    with pytest.raises(OSError, match="Bad file descriptor"):
        Fs().close(fd)


class DiskOfOneFailure(Fs):
    """A disk that fails to flush a segment once; it remembers which files it was asked to flush."""

    def __init__(self):
        self.failed: Path | None = None
        self.again = 0

    def flush(self, fd, path):
        self.again += path == self.failed
        if path.suffix == ".jl" and os.fstat(fd).st_size > 1000 and not self.failed:
            self.failed = path
            raise StoreError(f"{path}: Input/output error")
        super().flush(fd, path)


def test_a_failed_flush_is_never_repeated_on_that_file(tmp_path):
    """The system may have thrown the data away and say yes the next time: the group goes into another file."""
    disk = DiskOfOneFailure()
    keep_all(tmp_path / "out", [record(0, content="x" * 2000), record(1)], 2, fs=disk)
    assert (disk.failed is not None, disk.again) == (True, 0)
    assert Snapshot(tmp_path / "out").table("results")["index"].to_pylist() == [0, 1]


# 7. The commands


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    """A folder that the command has filled, and the command."""
    where = tmp_path_factory.mktemp("finished")
    with simulated() as server:
        command = ["run", prompts(where / "in.jsonl", 3), *at(server.base_url, where / "out")]
        assert called(*command).code == 0
        yield where / "out", command, server


def to_runs_own_files(out: Path) -> None:
    (out / "run.json").rename(out.parent / "real.json")
    (out / "run.json").symlink_to(out.parent / "real.json")


DAMAGES = {
    "link": to_runs_own_files,
    "pipe": lambda out: ((out / "_manifest" / "00000000000000000001.json").unlink(), pipe(out / "_manifest/x.json")),
    "no journal": lambda out: shutil.rmtree(out / "_journal"),
    "no results": lambda out: shutil.rmtree(out / "results"),
    "no manifest": lambda out: shutil.rmtree(out / "_manifest"),
    "empty manifest": lambda out: [path.unlink() for path in (out / "_manifest").iterdir()],
}


@pytest.mark.parametrize("how", DAMAGES)
def test_every_command_refuses_it_alike(finished, tmp_path, how):
    """run, report, export and read(): 7, in words, and nothing is sent or touched."""
    whole, command, server = finished
    out = Path(shutil.copytree(whole, tmp_path / "out"))
    DAMAGES[how](out)
    before, asked = seen(tmp_path), server.totals()["requests"]
    again = [str(out) if one == whole else one for one in command]
    for words in (again, ["report", out], ["export", out]):
        ended = called(*words)
        assert (ended.code, "Traceback" in ended.err) == (7, False), ended.err
        assert str(out) in ended.err.splitlines()[0]
    with pytest.raises(FolderUnusable):
        batchrun.read(out)
    assert (seen(tmp_path), server.totals()["requests"]) == (before, asked)


@pytest.fixture
def read_only(finished):
    """A copy of the folder on a disk that can only be read."""
    with disk_of("4m") as disk:
        shutil.copytree(finished[0], disk / "out")
        remount(disk, "ro")
        yield disk / "out"


def test_a_folder_that_can_only_be_read(finished, read_only, tmp_path):
    """Reports and exports work; a run says what it lacks."""
    whole, command, _ = finished
    assert called("report", read_only).code == 0
    assert called("export", read_only, "-o", tmp_path / "answers.jsonl").code == 0
    for out in (read_only, read_only.with_name("new")):
        ended = called(*[out if one == whole else one for one in command])
        assert (ended.code, "Read-only file system" in ended.err) == (6, True)
        assert "make the disk writable" in ended.last


def test_a_run_whose_folder_is_removed_says_so(tmp_path):
    """It stops within a flush, with 6 and without a traceback."""
    with simulated({"latency": {"ttft_s": 0.01, "per_token_s": 0}}) as server:
        command = ["run", prompts(tmp_path / "in.jsonl", 3000), *at(server.base_url, tmp_path / "out"), "-c", "2"]
        with begun(*command) as run:
            wait_for(lambda: server.totals()["requests"] > 3, run)
            (tmp_path / "out").rename(tmp_path / "elsewhere")
            _, said = run.communicate(timeout=60)
        assert server.totals()["requests"] < 3000
    assert (run.returncode, "Traceback" in said) == (6, False), said
    assert "has been taken away while the run was going on" in said


# 8. Input and output in one another


def overlap(tmp_path, source, output):
    """How a run of an input ends whose folder lies there."""
    (tmp_path / "data" / "out").mkdir(parents=True)
    prompts(tmp_path / "data" / "in.jsonl", 2)
    prompts(tmp_path / "data" / "out" / "more.jsonl", 2)
    before = seen(tmp_path)
    ended = called("run", source, "-o", output, "-m", "m", "--set", "endpoint.base_url=http://127.0.0.1:1")
    assert seen(tmp_path) == before
    return ended


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("data/in.jsonl", "data/in.jsonl"),
        ("data/in.jsonl", "data"),
        ("data/in.jsonl", "."),
        ("data/*.jsonl", "data"),
        ("data/out/run.json", "data/out"),
        ("data/out/more.jsonl", "data/out"),
        ("data/out/../in.jsonl", "data"),
        ("data/**/*.parquet", "data/out"),
        ("data/**", "data/out"),
        ("data/*/*.json", "data/new"),
        ("data/out/*/*.json", "data/out"),
        ("**/results/*.parquet", "new"),
    ],
)
def test_input_and_output_in_one_another(tmp_path, monkeypatch, source, output):
    """A run must not read what it writes: both paths are named, and nothing is touched."""
    monkeypatch.chdir(tmp_path)
    ended = overlap(tmp_path, source, output)
    assert ended.code == 2, ended.err
    assert f"the input {source} and the run folder {output} lie in one another" in ended.err


def test_a_link_does_not_hide_it(tmp_path, monkeypatch):
    """What counts is where a path leads."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "link").symlink_to("data")
    assert "lie in one another" in overlap(tmp_path, "link/in.jsonl", "data").err


@pytest.mark.parametrize(
    ("source", "output"),
    [
        ("data/in.jsonl", "data/new"),
        ("data/*.jsonl", "data/new"),
        ("data/*.parquet", "data/new"),
        ("data/**/*.jsonl", "data/new"),
        ("data/*/*.json", "data/.new"),
        ("data/out/more.jsonl", "data/new"),
        ("-", "data/new"),
        ("no-such-folder/*.jsonl", "data/new"),
        ("~nobody-of-this-name/x.jsonl", "data/new"),
        ("x" * 300, "data/new"),
    ],
)
def test_input_and_output_beside_one_another(tmp_path, monkeypatch, source, output):
    """A folder beside its input, or under it where no glob finds it, is what people use."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "data").mkdir()
    from batchrun.config import check_config

    assert check_config({"input": source, "output": output}).output == output

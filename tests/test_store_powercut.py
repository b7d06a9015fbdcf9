"""The store on real file systems whose power goes: shut down at some call, mounted again, and recovered.

A file system in an image of its own is told to shut down without writing anything more, which leaves on its disk what a
power cut would. Where this machine cannot mount one the rig says what is missing, and is skipped.
"""

from __future__ import annotations

import errno
import fcntl
import os
import shutil
import struct
import subprocess
from typing import TYPE_CHECKING

import pytest
from promises import MAY_END, Broken, assert_done, assert_kept, copied, driven, quick_folder
from system_calls import CRASHED
from test_store_crash import calls_of, compacted, fresh, killed, with_failures

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from system_calls import Act, Call
    from test_store_crash import Scene

pytestmark = [pytest.mark.rig, pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")]
SHUTDOWN = 0x8004587D
WITHOUT_WRITING = struct.pack("I", 2)
"""The ioctl of ext4 and xfs (FS_IOC_SHUTDOWN), and its argument that not even the file system's log is written."""

NOT_HERE = {errno.EPERM, errno.ENOTTY, errno.EOPNOTSUPP}
"""What a kernel says that does not let anybody shut a file system down."""

IMAGE_BYTES = 512 * 1024 * 1024
KINDS = {
    "ext4": (["mkfs.ext4", "-q", "-F", "-E", "nodiscard"], "loop,noauto_da_alloc,commit=300"),
    "xfs": (["mkfs.xfs", "-q", "-f", "-K"], "loop"),
}
"""How each is made, and mounted so that it does nothing for us before it is asked."""

CUTS = 200
ENOUGH = 4
"""Every so many cuts the run is finished afterwards, and not only recovered."""


class RealDisk:
    """A file system of its own, in an image, that can lose its power."""

    def __init__(self, kind: str, folder: Path) -> None:
        self.make, self.options = KINDS[kind]
        self.image, self.root = folder / "disk.img", folder / "disk"
        self.mounted = False
        self.root.mkdir()
        with self.image.open("wb") as file:
            file.truncate(IMAGE_BYTES)
        _do([*self.make, str(self.image)])

    def mount(self) -> None:
        """Mount it; what it had written down is there."""
        _do(["mount", "-o", self.options, str(self.image), str(self.root)])
        self.mounted = True

    def unmount(self, *how: str) -> None:
        """Unmount it, if it is mounted: of that we keep the books, as xfs answers nothing without power."""
        if self.mounted:
            _do(["umount", *how, str(self.root)])
        self.mounted = False

    def settle(self) -> None:
        """Return when all that is on it is safe."""
        _do(["sync", "-f", str(self.root)])

    def cut(self) -> None:
        """Take its power; never that of the disk below it."""
        fd = os.open(self.root, os.O_RDONLY | os.O_DIRECTORY)
        try:
            assert os.fstat(fd).st_dev != self.root.parent.stat().st_dev, "it is not mounted"
            fcntl.ioctl(fd, SHUTDOWN, WITHOUT_WRITING)
        finally:
            os.close(fd)


def _do(command: list[str]) -> None:
    """Run a command of the system."""
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert not done.returncode, f"{' '.join(command)}: {done.stderr.strip()}"


@pytest.fixture(params=KINDS)
def disk(request, tmp_path) -> Iterator[RealDisk]:
    """A mounted disk."""
    tools = KINDS[request.param][0][0], "mount", "umount"
    for tool in tools:
        if shutil.which(tool, path=f"{os.environ['PATH']}:/usr/sbin:/sbin") is None:
            pytest.skip(f"{tool} is missing")
    if os.geteuid():
        pytest.skip("only root may mount")
    there = RealDisk(request.param, tmp_path)
    try:  # a machine may allow neither; what else fails, before and after, is a finding
        there.mount()
    except AssertionError as error:
        pytest.skip(str(error))
    try:
        there.cut()
    except OSError as error:
        if error.errno not in NOT_HERE:
            raise
        pytest.skip(f"{request.param} cannot be shut down here: {error}")
    finally:
        there.unmount()
    there.mount()
    try:
        yield there
    finally:
        there.unmount("--lazy")  # each cut has unmounted it strictly; here it only has to go


class Cut:
    """The power goes before call number `at`: the process ends with it, or meets a disk that only refuses."""

    def __init__(self, disk: RealDisk, at: int, *, lives: bool) -> None:
        self.disk, self.left, self.lives = disk, at, lives

    def __call__(self, _: Call, act: Act) -> object:
        self.left -= 1
        if not self.left:
            self.disk.cut()
            if not self.lives:
                os._exit(CRASHED)
        return act()


def cut_power(disk: RealDisk, scene: Scene, at: int, number: int) -> None:
    """One cut, and what the next start finds."""
    out = disk.root / f"new-{number}" / "deep" / "out"
    if any(scene.path.iterdir()):
        out.parent.mkdir(parents=True)
        copied(scene.path, out)
        disk.settle()
    told = driven(out, scene.run, Cut(disk, at, lives=number % 2 == 1), may_end=MAY_END)  # what cannot be read either
    disk.unmount()
    disk.mount()
    try:
        assert_kept(out, scene.told, told)
        if number % ENOUGH == 0:
            assert_done(out, scene.told | told)
    except Exception as error:
        raise Broken(f"{scene.path.name}, cut {number}, at call {at}: {error}") from error
    shutil.rmtree(disk.root / f"new-{number}")


def test_power_cuts(disk, reached):
    """At calls all over every kind of start, nothing that was kept is lost."""
    with quick_folder() as folder:
        number = 0
        scenes = [
            (scene, len(calls_of(scene)))
            for scene in (kind(folder) for kind in (fresh, killed, with_failures, compacted))
        ]
        share = CUTS / sum(calls for _, calls in scenes)
        for scene, calls in scenes:
            for turn in range(round(calls * share) + 1):
                cut_power(disk, scene, 1 + int(turn / share) % calls, number)
                number += 1
    kind = "xfs" if "mkfs.xfs" in disk.make else "ext4"
    reached("T3", f"power cuts of {kind}", number, at_least=CUTS)

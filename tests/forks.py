"""Simulated endpoints forked from a process that has done their imports, which is most of what a start takes.

Theory of operation. Run as a program this file listens on a socket, its stdin. A message there holds the arguments of
`batchrun simulate` and three descriptors. The first two become stdin and stdout of a process that serves; to the third
another one, which waits for it, writes its process id and, in the end, its exit code. The end of the socket ends the
program; a server ends with its stdin: none outlives the tests, however they end.
"""

from __future__ import annotations

import atexit
import functools
import gc
import json
import os
import random
import select
import signal
import socket
import subprocess
import sys
import traceback
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Iterator

MOST_BYTES = 1 << 16


class Forked:
    """A process that serves: as much of `subprocess.Popen` as tests need."""

    def __init__(self, stdin: int, stdout: int, told: int) -> None:
        self.stdin, self.stdout = os.fdopen(stdin, "w"), os.fdopen(stdout)
        self._told = os.fdopen(told, "rb", buffering=0)
        self._code: int | None = None
        self.pid = int(self._told.readline())

    def wait(self, timeout: float | None = None) -> int:
        """Wait until it has ended; its exit code, or the number of the signal that killed it, negative.

        Raises:
            subprocess.TimeoutExpired: it goes on.
        """
        if self._code is None:
            if not select.select([self._told], [], [], timeout)[0]:
                raise subprocess.TimeoutExpired("simulate", timeout or 0)
            self._code = int(self._told.readline())
        return self._code

    def send_signal(self, number: int) -> None:
        """Send it a signal, unless it is known to have ended."""
        if self._code is None:
            with suppress(ProcessLookupError):
                os.kill(self.pid, number)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.send_signal(signal.SIGKILL)

    def close(self) -> None:
        """Let go of its pipes."""
        for file in (self.stdin, self.stdout, self._told):
            with suppress(BrokenPipeError):
                file.close()


@contextmanager
def forked(*arguments: str) -> Iterator[Forked]:
    """Run `batchrun simulate` with these arguments; what is still running when the block ends is killed."""
    asked = _program()
    pipes = [os.pipe() for _ in range(3)]
    (their_stdin, stdin), (stdout, their_stdout), (told, telling) = pipes
    socket.send_fds(asked, [json.dumps(arguments).encode()], [their_stdin, their_stdout, telling])
    for descriptor in (their_stdin, their_stdout, telling):
        os.close(descriptor)
    process = Forked(stdin, stdout, told)
    try:
        yield process
    finally:
        process.kill()
        process.wait()
        process.close()


@functools.cache
def _program() -> socket.socket:
    """The socket of the program below, which is started once and ends with this process."""
    ours, theirs = socket.socketpair()
    path = os.pathsep.join(filter(None, [str(Path(__file__).parent.parent), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path}
    process = subprocess.Popen([sys.executable, __file__], stdin=theirs, env=env, start_new_session=True)
    theirs.close()
    atexit.register(process.wait)
    atexit.register(ours.close)
    return ours


def main() -> None:
    """Fork whenever the socket says so, until it ends."""
    import batchrun.simulated.server  # noqa: F401 (for those that are forked)

    with suppress(ImportError):
        import uvloop  # noqa: F401 (as above)
    gc.freeze()
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # nobody asks how those that wait have ended
    asked = socket.socket(fileno=0)
    while True:
        message, given, _, _ = socket.recv_fds(asked, MOST_BYTES, 3)
        if not message:
            return
        if not os.fork():
            _watch(json.loads(message), *given)
        for descriptor in given:
            os.close(descriptor)


def _watch(arguments: list[str], stdin: int, stdout: int, telling: int) -> NoReturn:
    signal.signal(signal.SIGCHLD, signal.SIG_DFL)
    pid = os.fork()
    if not pid:
        os.dup2(stdin, 0)
        os.dup2(stdout, 1)
        os.closerange(3, telling + 1)
        _serve(arguments)
    os.close(stdin)
    os.close(stdout)
    with suppress(BrokenPipeError):
        os.write(telling, b"%d\n" % pid)
        os.write(telling, b"%d\n" % os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
    os._exit(0)


def _serve(arguments: list[str]) -> NoReturn:
    from batchrun.cli.simulate import simulate

    random.seed()
    code = 1
    try:
        simulate(arguments, standalone_mode=False)
        code = 0
    except BaseException:  # noqa: BLE001 (as in any process, it is told on stderr)
        traceback.print_exc()
    finally:
        sys.stdout.flush()
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    main()

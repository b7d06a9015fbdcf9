"""System calls that the kernel itself refuses to a process, for errors that no disk at hand can be brought to give."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = {
    "x86_64": {"write": 1, "close": 3, "flock": 73, "fdatasync": 75, "link": 86, "openat": 257, "fallocate": 285},
    "aarch64": {"write": 64, "close": 57, "flock": 32, "fdatasync": 83, "link": 37, "openat": 56, "fallocate": 47},
}
_NO_NEW_PRIVILEGES, _SECCOMP, _FILTER = 38, 22, 2
_LOAD_NUMBER, _UNLESS_EQUAL_SKIP, _RETURN = 0x20, 0x15, 0x06
_SAY_ERROR, _LET_PASS = 0x0005_0000, 0x7FFF_0000


class _Program(ctypes.Structure):
    _fields_ = (("length", ctypes.c_ushort), ("instructions", ctypes.c_void_p))


def can_refuse() -> bool:
    """Whether this machine has seccomp filters, and we know its system calls by number."""
    return sys.platform == "linux" and platform.machine() in _NUMBERS and os.path.exists("/proc/sys/kernel/seccomp")  # noqa: PTH110


def refuse(call: str, error: int) -> None:
    """From now on this process, and all that it starts, is told `error` by every such call: there is no way back."""
    number = _NUMBERS[platform.machine()][call]
    code = struct.pack("HBBI", _LOAD_NUMBER, 0, 0, 0)
    code += struct.pack("HBBI", _UNLESS_EQUAL_SKIP, 0, 1, number)
    code += struct.pack("HBBI", _RETURN, 0, 0, _SAY_ERROR | error)
    code += struct.pack("HBBI", _RETURN, 0, 0, _LET_PASS)
    instructions = ctypes.create_string_buffer(code, len(code))
    program = _Program(len(code) // 8, ctypes.addressof(instructions))
    libc = ctypes.CDLL(None, use_errno=True)
    for arguments in ((_NO_NEW_PRIVILEGES, 1, 0, 0, 0), (_SECCOMP, _FILTER, ctypes.byref(program), 0, 0)):
        if libc.prctl(*arguments):
            raise OSError(ctypes.get_errno(), "no seccomp filter")


def in_child(work: Callable[[], str]) -> str:
    """What `work` says, in a process of its own: it may refuse itself calls there."""
    reader, writer = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            said = work()
        except BaseException as error:  # noqa: BLE001 (whatever it is, the test should see it)
            said = f"{type(error).__name__}: {error}"
        os.writev(writer, [said.encode()])  # write itself may be refused
        os._exit(0)
    os.close(writer)
    with os.fdopen(reader) as file:
        said = file.read()
    os.waitpid(pid, 0)
    return said

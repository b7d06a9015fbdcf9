"""System calls that the kernel itself refuses to a thread, for errors that no disk at hand can be brought to give."""

from __future__ import annotations

import ctypes
import os
import platform
import struct
import sys
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_NUMBERS = {
    "x86_64": {
        "write": 1,
        "close": 3,
        "kill": 62,
        "flock": 73,
        "fdatasync": 75,
        "link": 86,
        "getdents64": 217,
        "openat": 257,
        "fallocate": 285,
    },
    "aarch64": {
        "write": 64,
        "close": 57,
        "kill": 129,
        "flock": 32,
        "fdatasync": 83,
        "link": 37,
        "getdents64": 61,
        "openat": 56,
        "fallocate": 47,
    },
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
    """From now on this thread, and all that it starts, is told `error` by every such call: there is no way back."""
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


def in_thread(work: Callable[[], str]) -> str:
    """What `work` returns or raises, in a thread of its own, which alone is refused what it refuses itself."""
    with ThreadPoolExecutor(1) as threads:
        return threads.submit(work).result()

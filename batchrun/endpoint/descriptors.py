"""Room for connections: each takes a file descriptor, and the usual soft limit is 1,024 or 256."""

from __future__ import annotations

import resource

from batchrun.errors import ConfigError

_OTHERS = 64


def make_room(connections: int) -> None:
    """Raise the soft limit on open files for that many connections; raises ConfigError if the hard limit forbids it."""
    needed = connections + _OTHERS
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    if soft == resource.RLIM_INFINITY or soft >= needed:
        return
    if hard != resource.RLIM_INFINITY and hard < needed:
        raise ConfigError(
            f"limits.concurrency {connections} needs {needed} open files, and this system allows {hard}",
            remedy=f"lower it to {max(1, hard - _OTHERS)}, or raise the limit (`ulimit -Hn`)",
        )
    resource.setrlimit(resource.RLIMIT_NOFILE, (needed, hard))

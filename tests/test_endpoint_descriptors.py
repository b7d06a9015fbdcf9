"""Room for connections: the soft limit on open files is raised, or the number that is short is named."""

from __future__ import annotations

import subprocess
import sys

import pytest

PROGRAM = """
import resource
from batchrun.endpoint.descriptors import make_room
from batchrun.errors import ConfigError
resource.setrlimit(resource.RLIMIT_NOFILE, ({soft}, {hard}))
try:
    make_room({connections})
    print(resource.getrlimit(resource.RLIMIT_NOFILE)[0])
except ConfigError as error:
    print(error.message, error.remedy)
"""


def after(soft: int, hard: int, connections: int) -> str:
    """What a process with these limits prints when it makes room."""
    program = PROGRAM.format(soft=soft, hard=hard, connections=connections)
    command = [sys.executable, "-c", program]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout.strip()


@pytest.mark.parametrize(
    ("soft", "hard", "connections", "expected"),
    [(256, 512, 64, "256"), (256, 512, 192, "256"), (256, 512, 193, "257"), (256, 512, 448, "512")],
)
def test_the_soft_limit_is_raised_where_it_is_too_low(soft, hard, connections, expected):
    """As far as needed, with 64 for everything else, and not at all where there is room."""
    assert after(soft, hard, connections) == expected


def test_a_hard_limit_that_is_too_low_is_named():
    """With the largest concurrency that it allows."""
    said = after(256, 512, 449)
    assert "limits.concurrency 449 needs 513 open files, and this system allows 512" in said
    assert "lower it to 448" in said

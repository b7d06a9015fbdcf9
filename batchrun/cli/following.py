"""A page that is shown again and again while a run goes on, and for good when it has ended."""

from __future__ import annotations

import sys
import time
from typing import TYPE_CHECKING

from batchrun.cli.lines import put
from batchrun.errors import ConfigError

if TYPE_CHECKING:
    from collections.abc import Callable

    from batchrun.store.folder import RunFolder

_LEAST_S, _SHARE = 2.0, 0.1
_CLEAR = "\x1b[H\x1b[2J"


def follow(folder: RunFolder, page: Callable[[], str]) -> None:
    """Redraw a page on the terminal until the run ends; to make it takes at most a tenth of the time.

    Without a terminal it is written once, at the end.

    Raises:
        ConfigError: stdout is closed.
    """
    from batchrun.standing import is_running

    if sys.stdout is None:
        raise ConfigError("stdout is closed", remedy="leave out --follow, and name a file with -o")
    redraws = sys.stdout.isatty()
    while is_running(folder):
        began_at = time.monotonic()
        if redraws:
            put(_CLEAR + page())
        time.sleep(max(_LEAST_S, (time.monotonic() - began_at) / _SHARE))
    put((_CLEAR if redraws else "") + page())

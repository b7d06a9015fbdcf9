"""The simulated endpoint in a process of its own, for what is measured against an endpoint's limits and troubles."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from benchmarks.process import ENVIRONMENT

if TYPE_CHECKING:
    from collections.abc import Iterator


class Charge(NamedTuple):
    """One answer that would be charged: when it was given (seconds since 1970), and how many tokens it had."""

    at: float
    tokens: int


class Simulated:
    """A running simulated endpoint."""

    def __init__(self, process: subprocess.Popen[str], ledger: Path) -> None:
        self._process, self._ledger = process, ledger
        self.base_url = process.stdout.readline().strip()
        self.address = self.base_url.removeprefix("http://").removesuffix("/v1")

    def totals(self) -> dict[str, Any]:
        """What it counted so far, refused requests too."""
        with urllib.request.urlopen(f"http://{self.address}/ledger") as answer:
            return json.load(answer)

    def charges(self) -> list[Charge]:
        """What it answered so far, in order."""
        lines = map(json.loads, self._ledger.read_text().splitlines())
        return [Charge(line["at"], line["completion_tokens"]) for line in lines]

    def freeze(self) -> None:
        """Answer nothing any more; connections still come about."""
        os.kill(self._process.pid, signal.SIGSTOP)

    def thaw(self) -> None:
        """Go on."""
        os.kill(self._process.pid, signal.SIGCONT)


@contextmanager
def simulated(scenario: dict[str, Any]) -> Iterator[Simulated]:
    """Serve a scenario until the block ends."""
    with tempfile.TemporaryDirectory() as folder:
        plan, ledger = Path(folder, "scenario.yaml"), Path(folder, "ledger.jsonl")
        plan.write_text(json.dumps(scenario))
        ledger.touch()
        command = [sys.executable, "-m", "batchrun", "simulate", "--exit-with-stdin"]
        command += ["--scenario", str(plan), "--ledger", str(ledger)]
        pipe = subprocess.PIPE
        with subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True, env=ENVIRONMENT) as process:
            endpoint = Simulated(process, ledger)
            try:
                yield endpoint
            finally:
                endpoint.thaw()
                process.stdin.close()

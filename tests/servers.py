"""The simulated endpoint as a process of its own, for every test that needs a real server."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import urllib.request
from contextlib import closing, contextmanager
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple
from urllib.parse import urlsplit

from forks import Forked, forked

if TYPE_CHECKING:
    from collections.abc import Iterator

ROOT = Path(__file__).resolve().parent.parent
COMMAND = [sys.executable, "-c", "from batchrun.cli.simulate import simulate; simulate()"]
AT_ONCE = {"ttft_s": 0, "per_token_s": 0}
END_S = 10


class Answer(NamedTuple):
    """What came back for a request; header names are in lower case."""

    status: int
    headers: dict[str, str]
    body: bytes

    @property
    def json(self) -> dict[str, Any]:
        """The body, where it is one JSON object."""
        return json.loads(self.body)

    @property
    def content(self) -> str:
        """The words of the first choice."""
        return self.json["choices"][0]["message"]["content"]

    @property
    def events(self) -> list[dict[str, Any]]:
        """The events of a stream, without its end mark."""
        lines = [line.removeprefix(b"data: ") for line in self.body.split(b"\n\n") if line]
        return [json.loads(line) for line in lines if line != b"[DONE]"]


class Simulated:
    """A running server: `base_url` ends in /v1; `ledger_path` has a line for every request that was charged."""

    def __init__(self, process: Forked, base_url: str, ledger_path: Path) -> None:
        self.process = process
        self.base_url = base_url
        self.ledger_path = ledger_path

    @property
    def pid(self) -> int:
        """Its process id."""
        return self.process.pid

    def ledger(self) -> list[dict[str, Any]]:
        """The charged requests so far, also after the server has ended; a line that is being written does not count."""
        whole, _, _ = self.ledger_path.read_text().rpartition("\n")
        return [json.loads(line) for line in whole.splitlines()]

    def ask(self, prompt: str, *, key: str | None = None, **params: Any) -> Answer:
        """Send one chat completion and read its answer, whatever its status.

        Raises:
            OSError, http.client.HTTPException: there was no whole answer.
        """
        body = {"model": "m", "messages": [{"role": "user", "content": prompt}], **params}
        return self.post(json.dumps(body).encode(), key=key)

    def post(self, body: bytes, path: str = "/v1/chat/completions", *, key: str | None = None) -> Answer:
        """Send these bytes."""
        headers = {"content-type": "application/json"} | ({"authorization": f"Bearer {key}"} if key else {})
        connection = HTTPConnection(urlsplit(self.base_url).netloc, timeout=END_S)
        with closing(connection):
            connection.request("POST", path, body, headers)
            answer = connection.getresponse()
            return Answer(answer.status, {name.lower(): value for name, value in answer.getheaders()}, answer.read())

    def totals(self) -> dict[str, Any]:
        """What the server counted so far, refused requests too."""
        with urllib.request.urlopen(self.base_url.removesuffix("/v1") + "/ledger", timeout=END_S) as answer:
            return json.load(answer)

    def kill(self) -> None:
        """End it as a power cut would."""
        self.process.kill()
        self.process.wait(END_S)


@contextmanager
def simulated(
    scenario: dict[str, Any] | None = None, ledger: Path | None = None, **options: str | int
) -> Iterator[Simulated]:
    """Run `batchrun simulate` on a free port, in a process of its own, until the block ends.

    Args:
        scenario: keys of a scenario file; answers come at once unless `latency` is given.
        ledger: where charged requests are written; by default a file that goes with the block.
        options: options of the command, e.g. `api_key="k"` for `--api-key k`.
    """
    with tempfile.TemporaryDirectory() as folder:
        plan = Path(folder, "scenario.yaml")
        plan.write_text(json.dumps({"latency": AT_ONCE, **(scenario or {})}))
        ledger = ledger or Path(folder, "ledger.jsonl")
        given = {"scenario": plan, "ledger": ledger, **options}
        arguments = [text for name, value in given.items() for text in (f"--{name.replace('_', '-')}", str(value))]
        with forked("--exit-with-stdin", *arguments) as process:
            try:
                yield Simulated(process, first_line(process), ledger)
            finally:
                end(process)


def embedded_at_once(folder: Path) -> dict[str, str]:
    """The environment in which the embedded endpoint, too, answers at once."""
    plan = folder / "at-once.yaml"
    plan.write_text(json.dumps({"latency": AT_ONCE}))
    return {"BATCHRUN_SIMULATE_SCENARIO": str(plan)}


@contextmanager
def start(*arguments: str) -> Iterator[subprocess.Popen[str]]:
    """Run the command with these arguments; what is still running when the block ends is killed."""
    path = os.pathsep.join(filter(None, [str(ROOT), os.environ.get("PYTHONPATH")]))
    env = {**os.environ, "PYTHONPATH": path}
    pipe = subprocess.PIPE
    with subprocess.Popen([*COMMAND, *arguments], stdin=pipe, stdout=pipe, text=True, env=env) as process:
        try:
            yield process
        finally:
            process.kill()


def first_line(process: subprocess.Popen[str] | Forked) -> str:
    """The base URL, which is all it ever writes to stdout."""
    line = process.stdout.readline().strip() if process.stdout else ""
    if not line.startswith("http://"):
        raise RuntimeError(f"the simulated endpoint did not start: {line!r}")
    return line


def end(process: subprocess.Popen[str] | Forked) -> int:
    """Close its stdin and wait for the exit code; kill it if that does not end it."""
    if process.stdin:
        process.stdin.close()
    try:
        return process.wait(END_S)
    except subprocess.TimeoutExpired:
        process.kill()
        return process.wait(END_S)

"""Other ways to do it: the openai client with gather, litellm, two batch runners, each as its own documents show it.

`python -m benchmarks --peers FOLDER` installs each into an environment of its own in that folder (about a minute each,
once), and leaves out, with a word, what cannot be installed. All send the same prompts to the same server, none keeps
anything on disk, and the start of each process is in its figures.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import TYPE_CHECKING, Any

from benchmarks.process import Figure, Took, run, serving
from benchmarks.work import CONCURRENCY, MODEL, batchrun_command, write_rows

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Iterable

PARAMS: dict[str, Any] = {"max_tokens": 512, "temperature": 0}
KEY = "none"


async def openai(prompts: list[str], base_url: str, concurrency: int, http_client: Any = None) -> None:
    from openai import AsyncOpenAI

    # its 5 s for a connection are not enough for a thousand at once
    client = AsyncOpenAI(base_url=base_url, api_key=KEY, timeout=600, max_retries=0, http_client=http_client)
    await _gather(
        (client.chat.completions.create(model=MODEL, messages=_messages(prompt), **PARAMS) for prompt in prompts),
        concurrency,
    )


async def openai_aiohttp(prompts: list[str], base_url: str, concurrency: int) -> None:
    from openai import DefaultAioHttpClient

    async with DefaultAioHttpClient() as http_client:
        await openai(prompts, base_url, concurrency, http_client)


async def litellm(prompts: list[str], base_url: str, concurrency: int) -> None:
    from litellm import acompletion

    common = {"model": f"openai/{MODEL}", "api_base": base_url, "api_key": KEY, **PARAMS}
    await _gather((acompletion(messages=_messages(prompt), **common) for prompt in prompts), concurrency)


async def flexllm(prompts: list[str], base_url: str, concurrency: int) -> None:
    from flexllm import LLMClient

    client = LLMClient(
        base_url=base_url, api_key=KEY, model=MODEL, concurrency_limit=concurrency, max_qps=1_000_000, cache=False
    )
    await client.chat_batch([_messages(prompt) for prompt in prompts], show_progress=False, **PARAMS)


async def async_batch_llm(prompts: list[str], base_url: str, concurrency: int) -> None:
    from async_batch_llm import llm, process_prompts

    strategy = llm(f"openai-compatible:{MODEL}", base_url=base_url, api_key=KEY, temperature=0)
    await process_prompts(strategy, prompts, concurrency=concurrency)


PEERS: dict[str, tuple[str, Callable[[list[str], str, int], Awaitable[None]]]] = {
    "openai, gather": ("openai", openai),
    "openai over aiohttp, gather": ("openai[aiohttp]", openai_aiohttp),
    "litellm, gather": ("litellm", litellm),
    "flexllm": ("flexllm", flexllm),
    "async-batch-llm": ("async-batch-llm[openai]", async_batch_llm),
}
"""What to install for each, and how to run it."""


def measure(
    folder: Path, rows: int = 5_000, concurrency: int = CONCURRENCY, pairs: int = 5, *names: str
) -> list[Figure]:
    """Each beside batchrun in turn, `pairs` times; all of them, or those that are named."""
    figures = []
    with tempfile.TemporaryDirectory() as path, serving() as server:
        prompts = Path(path) / "prompts.jsonl"
        write_rows(prompts, rows)
        for name, (package, _) in PEERS.items():
            python = _installed(folder, package) if name in (names or PEERS) else None
            if python is None:
                continue
            theirs, ours = [], []
            try:
                for _ in range(pairs):
                    out = tempfile.mkdtemp(dir=path)
                    ours.append(run(*batchrun_command(prompts, Path(out), server.base_url, "-c", str(concurrency))))
                    asked = ("benchmarks.peers", name, str(prompts), server.base_url, str(concurrency))
                    theirs.append(run(*asked, python=python))
            except SystemExit as failed:
                print(f"{name} is left out: {str(failed).strip().splitlines()[-1]}", file=sys.stderr)
                continue
            figures += _figures(name, theirs, ours, rows)
    return figures


def _figures(name: str, theirs: list[Took], ours: list[Took], rows: int) -> list[Figure]:
    each = list(zip(theirs, ours, strict=True))
    return [
        Figure(f"{name}: CPU per request", median(one.cpu_s for one in theirs) / rows * 1e6, "µs"),
        Figure(f"{name}: requests a second", rows / median(one.wall_s for one in theirs), ""),
        Figure(
            f"{name}: CPU per request, as many times as batchrun's", median(a.cpu_s / b.cpu_s for a, b in each), "x"
        ),
        Figure(
            f"{name}: time per request, as many times as batchrun's", median(a.wall_s / b.wall_s for a, b in each), "x"
        ),
        Figure(f"beside {name}: batchrun, requests a second", rows / median(one.wall_s for one in ours), ""),
    ]


def _installed(folder: Path, package: str) -> str | None:
    """The Python of an environment with a package in it; None, with a word, if there cannot be one."""
    place = folder / "".join(letter if letter.isalnum() else "-" for letter in package)
    python = place / "bin" / "python"
    if python.exists():
        return str(python)
    for command in (
        [sys.executable, "-m", "venv", str(place)],
        [str(python), "-m", "pip", "install", "--quiet", package],
    ):
        done = subprocess.run(command, capture_output=True, text=True, check=False)
        if done.returncode:
            said = done.stderr.strip().splitlines()[-1:]
            print(f"{package} cannot be installed and is left out: {''.join(said)}", file=sys.stderr)
            shutil.rmtree(place, ignore_errors=True)
            return None
    return str(python)


def _messages(prompt: str) -> list[dict[str, str]]:
    return [{"role": "user", "content": prompt}]


async def _gather(calls: Iterable[Awaitable[Any]], concurrency: int) -> None:
    """All at once, as most programs do it, with a semaphore for the number in flight."""
    gate = asyncio.Semaphore(concurrency)

    async def one(call: Awaitable[Any]) -> None:
        async with gate:
            await call

    await asyncio.gather(*(one(call) for call in calls))


if __name__ == "__main__":
    if sys.argv[1] in PEERS:
        lines = Path(sys.argv[2]).read_text().splitlines()
        asyncio.run(
            PEERS[sys.argv[1]][1]([json.loads(line)["prompt"] for line in lines], sys.argv[3], int(sys.argv[4]))
        )
    else:
        for figure in measure(Path(sys.argv[1]), *map(int, sys.argv[2:5]), *sys.argv[5:]):
            print(*figure)

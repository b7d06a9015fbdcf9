"""The reference: aiohttp in a loop that does nothing else. Nothing is checked, retried, counted or kept.

`python -m benchmarks.bare PROMPTS BASE_URL CONCURRENCY [stream]`; a stream's bytes are read, and not looked at.
"""

from __future__ import annotations

import asyncio
import json
import sys
from pathlib import Path

import aiohttp

from benchmarks.work import MODEL


def bodies(path: str) -> list[dict]:
    prompts = [json.loads(line)["prompt"] for line in Path(path).read_text().splitlines()]
    return [
        {
            "model": MODEL,
            "messages": [{"role": "user", "content": prompt}],
            "max_tokens": 512,
            "temperature": 0,
        }
        for prompt in prompts
    ]


async def main(path: str, base_url: str, concurrency: int, *, stream: bool) -> None:
    tap = iter([{**body, "stream": True} for body in bodies(path)] if stream else bodies(path))
    url = f"{base_url}/chat/completions"

    async def worker() -> None:
        for body in tap:
            async with session.post(url, json=body) as response:
                if not stream:
                    await response.json()
                    continue
                async for _ in response.content.iter_any():
                    pass

    connector = aiohttp.TCPConnector(limit=concurrency)
    async with aiohttp.ClientSession(connector=connector) as session, asyncio.TaskGroup() as workers:
        for _ in range(concurrency):
            workers.create_task(worker())


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], sys.argv[2], int(sys.argv[3]), stream="stream" in sys.argv[4:]))

"""What the check before the first request costs: µs a row, and peak memory, over bare prompt rows of about 800 bytes.

Run it as `python benchmarks/check.py [ROWS]`; 200,000 rows where none are given.
"""

from __future__ import annotations

import resource
import sys
import tempfile
import time
from pathlib import Path

from batchrun.config import check_config
from batchrun.prompts import open_prompts
from batchrun.prompts.check import check
from batchrun.prompts.render import Renderer

SENTENCE = "The parcel was due on Monday, and the tracking page has said the same thing ever since. "


def write_rows(path: Path, rows: int) -> None:
    text = SENTENCE * 8
    with path.open("w") as file:
        for index in range(rows):
            file.write(f'{{"custom_id": "ticket-{index:07d}", "prompt": "{index} {text}", "label": "shipping"}}\n')


def peak_mb() -> float:
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak / (1 << 20 if sys.platform == "darwin" else 1 << 10)


def main(rows: int) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "prompts.jsonl"
        write_rows(path, rows)
        renderer = Renderer(check_config({"input": str(path), "request": {"model": "m"}}))
        prompts = open_prompts(str(path))
        before_mb = peak_mb()
        started = time.perf_counter()
        checked = check(prompts, renderer)
        took_s = time.perf_counter() - started
        read_started = time.perf_counter()
        skipped = sum(1 for _ in prompts.read(lambda _: True))
        skip_s = time.perf_counter() - read_started
    print(f"rows            {checked.rows:>12,}   ({prompts.size_bytes / rows:.0f} bytes each)")
    print(f"check           {took_s / rows * 1e6:>12.1f} µs a row")
    print(f"skip            {skip_s / rows * 1e6:>12.2f} µs a row   ({skipped} yielded)")
    print(f"peak memory     {peak_mb():>12.1f} MB   ({peak_mb() - before_mb:+.1f} MB by the check)")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 200_000)

"""How near to an endpoint's limits a run goes, and how seldom it passes them.

`python -m benchmarks.limits [nginx] [tokens] [peaks] [turnstile] [untold]`: against an nginx that limits requests; the
simulated endpoint that limits generated tokens, as configured; what it counts in flight at most; what the turnstile
costs; and its token limit again, of which the run was not told.
"""

from __future__ import annotations

import json
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

from benchmarks import nginx, turnstile
from benchmarks.process import ENVIRONMENT, Figure
from benchmarks.simulated import simulated
from benchmarks.work import batchrun_command, write_rows

MOST_REFUSED, MOST_REFUSED_TOKENS, MOST_UNUSED = 3, 1, 5
MEAN_TOKENS = 95
"""What an answer of `ANSWERS` has on average: it ends with a whole sentence."""
ANSWERS = {"answers": {"tokens": 80}, "latency": {"ttft_s": 0.2, "per_token_s": 0.003}}
NO_RUN_TAKES_S = 900


class Run(NamedTuple):
    """How a run went; rows without a result are lost."""

    wall_s: float
    lost: int
    summary: dict[str, Any]


def run(base_url: str, rows: int, *options: str) -> Run:
    """Run `batchrun run` to its end, however that is."""
    with tempfile.TemporaryDirectory() as folder:
        prompts, out = Path(folder, "prompts.jsonl"), Path(folder, "out")
        write_rows(prompts, rows)
        command = [sys.executable, "-m", *batchrun_command(prompts, out, base_url, *options)]
        started = time.perf_counter()
        with subprocess.Popen(
            command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ENVIRONMENT
        ) as process:
            try:
                _, said = process.communicate(timeout=NO_RUN_TAKES_S)
            except subprocess.TimeoutExpired:
                process.terminate()
                _, said = process.communicate()
        wall_s = time.perf_counter() - started
        written = out / "report" / "summary.json"
        if not written.exists():
            sys.exit(f"{' '.join(command)} ended with {process.returncode}:\n{said}")
        summary = json.loads(written.read_text())
        return Run(wall_s, rows - summary["rows"]["succeeded"], summary)


def behind_nginx(rows: int = 2_000, per_second: int = 100) -> list[Figure]:
    """A server that answers at once, allows `per_second` and a burst of as many, with nothing configured and with."""
    if not nginx.there():
        return []
    ideal_s = rows / per_second - 1
    told = ("--rpm", str(60 * per_second))
    return [
        *_behind_nginx("nothing configured", rows, per_second, (), most_s=ideal_s + 3, most_refused=MOST_REFUSED),
        *_behind_nginx(
            f"requests_per_minute: {60 * per_second}", rows, per_second, told, most_s=ideal_s + 2, most_refused=0
        ),
    ]


def _behind_nginx(
    name: str, rows: int, per_second: int, options: tuple[str, ...], *, most_s: float, most_refused: float
) -> list[Figure]:
    with nginx.limiting(per_second, burst=per_second) as server:
        ran = run(server.base_url, rows, *options)
        answered = server.answered()
    refused = sum(answer.status == 429 for answer in answered) / len(answered)
    return [
        Figure(f"rows lost of {rows:,}, nginx allows {per_second}/s, {name}", ran.lost, "", 0),
        Figure(f"time for them, {name}", ran.wall_s, "s", most_s),
        Figure(f"share of 429s, {name}", 100 * refused, "%", most_refused),
    ]


def generated_tokens(seconds: float = 75, budgets: tuple[int, ...] = (36_000, 216_000)) -> list[Figure]:
    """Endpoints that allow so many generated tokens in any minute, and runs that were told so, side by side."""
    with ThreadPoolExecutor() as threads:
        parts = threads.map(lambda per_minute: _generated_tokens(per_minute, seconds, configured=True), budgets)
        return [figure for part in parts for figure in part]


def untold_tokens(seconds: float = 150, per_minute: int = 36_000) -> list[Figure]:
    """The same where nothing is configured: what the endpoint allows at once is gone in seconds."""
    return _generated_tokens(per_minute, seconds, configured=False)


def _generated_tokens(per_minute: int, seconds: float, *, configured: bool) -> list[Figure]:
    rows = int(per_minute / 60 * seconds / MEAN_TOKENS)
    told = ("--set", f"limits.generated_tokens_per_minute={per_minute}") if configured else ()
    with simulated({**ANSWERS, "limits": {"generated_tokens_per_minute": per_minute}}) as endpoint:
        ran = run(endpoint.base_url, rows, *told)
        charges, totals = endpoint.charges(), endpoint.totals()
    used = sum(charge.tokens for charge in charges[1:]) / (charges[-1].at - charges[0].at) / (per_minute / 60)
    refused = totals["by_status"].get("429", 0) / totals["requests"]
    name = f"{per_minute:,} generated tokens a minute, {'configured' if configured else 'nothing configured'}"
    most_unused, most_refused = (MOST_UNUSED, MOST_REFUSED_TOKENS) if configured else (None, None)
    return [
        Figure(f"rows lost of {rows:,}, {name}", ran.lost, "", 0),
        Figure(f"allowed and not used, {name}", 100 * (1 - used), "%", most_unused),
        Figure(f"share of 429s, {name}", 100 * refused, "%", most_refused),
    ]


def peaks(concurrencies: tuple[int, ...] = (1, 100, 101, 1000)) -> list[Figure]:
    """What the server sees in flight at most, beside what is configured."""
    return [_peak(concurrency) for concurrency in concurrencies]


def _peak(concurrency: int) -> Figure:
    latency_s = max(0.3, concurrency / 1000)  # more than 1,000 answers a second are too many for this endpoint
    rows = 8 * concurrency + 10
    with simulated({"latency": {"ttft_s": latency_s, "per_token_s": 0, "sigma": 0}}) as endpoint:
        run(endpoint.base_url, rows, "-c", str(concurrency))
        peak = endpoint.totals()["peak_in_flight"]
    name = f"peak in flight beside concurrency {concurrency:,} (server saw {peak:,})"
    return Figure(name, abs(peak - concurrency), "", 0)


QUICK = {"nginx": behind_nginx, "tokens": generated_tokens, "peaks": peaks, "turnstile": turnstile.measure}
MEASUREMENTS = {**QUICK, "untold": untold_tokens}


def measure() -> list[Figure]:
    return [figure for measurement in QUICK.values() for figure in measurement()]


if __name__ == "__main__":
    for chosen in sys.argv[1:] or MEASUREMENTS:
        for figure in MEASUREMENTS[chosen]():
            print(*figure)

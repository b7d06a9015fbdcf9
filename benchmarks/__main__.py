"""`python -m benchmarks`: every benchmark, one Markdown table on stdout, the same as JSON in a file."""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
from functools import partial
from importlib import metadata
from pathlib import Path

from benchmarks import (
    abort,
    accounting,
    check,
    crowd,
    fidelity,
    limits,
    memory,
    outages,
    peers,
    plan,
    progress,
    report,
    startup,
    storage,
    streaming,
    throughput,
)

PACKAGES = ("aiohttp", "batchrun-llm", "msgspec", "pyarrow", "uvloop")


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--rows", type=int, default=20_000, help="rows of a run; memory takes half, and fifty times")
    parser.add_argument("--pairs", type=int, default=5, help="pairs of runs that the ratios are the medians of")
    parser.add_argument("--only", metavar="NAME", help="one of them, named as its file is")
    parser.add_argument("--peers", type=Path, metavar="FOLDER", help="others as well, installed into FOLDER")
    parser.add_argument("-o", "--output", type=Path, default=Path("benchmarks.json"), help="where the JSON goes")
    options = parser.parse_args()
    parts = {
        "startup": startup.measure,
        "throughput": partial(throughput.measure, options.rows, options.pairs),
        "streaming": partial(streaming.measure, options.rows // 4, options.pairs),
        "fidelity": fidelity.measure,
        "crowd": crowd.measure,
        "abort": abort.measure,
        "accounting": accounting.measure,
        "progress": partial(progress.measure, options.rows, 3 * options.pairs),
        "memory": partial(memory.measure, options.rows // 2),
        "storage": storage.measure,
        "report": report.measure,
        "check": partial(check.measure, 10 * options.rows),
        "plan": partial(plan.measure, 10 * options.rows),
        "limits": limits.measure,
        "outages": outages.measure,
    }
    if options.peers:
        parts["peers"] = partial(peers.measure, options.peers)
    if options.only and options.only not in parts:
        parser.error(f"--only {options.only}: there are {', '.join(parts)}")
    figures = [figure for name, part in parts.items() if options.only in {None, name} for figure in part()]
    print("| | measured | reach | |\n|---|---:|---:|---|")
    for name, value, unit, most in figures:
        reach, verdict = ("", "") if most is None else (f"≤ {most:g} {unit}", "yes" if value <= most else "**no**")
        print(f"| {name} | {_rounded(value)} {unit} | {reach} | {verdict} |")
    machine = {"python": platform.python_version(), "system": platform.platform(), "cpus": os.cpu_count()}
    facts = {**machine, **{name: _version(name) for name in PACKAGES}}
    results = {"machine": facts, "figures": [figure._asdict() for figure in figures]}
    options.output.write_text(json.dumps(results, indent=2, ensure_ascii=False) + "\n")
    sys.exit(any(most is not None and value > most for _, value, _, most in figures))


def _rounded(value: float) -> str:
    return f"{value:,.0f}" if value >= 100 else f"{value:.2f}"


def _version(name: str) -> str | None:
    try:
        return metadata.version(name)
    except metadata.PackageNotFoundError:
        return None


if __name__ == "__main__":
    main()

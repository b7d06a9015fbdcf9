"""How a run stands as Prometheus reads it: a file for the textfile collector of node-exporter."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING

from batchrun.export.target import opened

if TYPE_CHECKING:
    from collections.abc import Iterator

    from batchrun.standing import Standing

_LAST_SUCCESS = "batchrun_last_success_timestamp_seconds"


def write_gauges(file: str, found: Standing | None, *, now_s: float, exit_code: int | None) -> None:
    """Replace the file, whole; `exit_code` is None while the run goes on.

    Every series has a label `run`, the file's own name without its suffix, so that files of several runs can lie side
    by side. When it last succeeded is taken over from the file that is there.

    Raises:
        ConfigError: it cannot be written there.
        StoreError: the disk is full or failed.
    """
    label = Path(file).name.partition(".")[0].replace("\\", "").replace('"', "")
    success_s = now_s if exit_code == 0 else _last_success(file)
    lines = list(_gauges(found, now_s, exit_code, success_s))
    text = "".join(
        f"# HELP {name} {says}\n# TYPE {name} gauge\n"
        + "".join(f'{name}{{run="{label}"{labels}}} {value}\n' for labels, value in values)
        for name, says, values in lines
    )
    with opened(file, binary=False) as sink:
        sink.write(text.encode())


def _gauges(
    found: Standing | None, now_s: float, exit_code: int | None, success_s: float | None
) -> Iterator[tuple[str, str, list[tuple[str, object]]]]:
    yield "batchrun_running", "1 while a run goes on.", [("", int(exit_code is None))]
    yield "batchrun_updated_timestamp_seconds", "When this was written.", [("", f"{now_s:.3f}")]
    if exit_code is not None:
        yield "batchrun_exit_code", "How the last run ended; 0 is well.", [("", exit_code)]
    if success_s is not None:
        yield _LAST_SUCCESS, "When a run last ended with 0.", [("", f"{success_s:.3f}")]
    if found is None:
        return
    states = (("succeeded", found.succeeded), ("failed", found.failed), ("missing", found.missing))
    rows: list[tuple[str, object]] = [(f',state="{state}"', count) for state, count in states]
    yield "batchrun_rows", "Rows of the input by what has become of them.", rows
    kinds = (("prompt", found.prompt_tokens), ("completion", found.completion_tokens))
    tokens: list[tuple[str, object]] = [(f',kind="{kind}"', count) for kind, count in kinds]
    yield "batchrun_tokens", "Tokens that the endpoint has counted.", tokens
    yield "batchrun_cost_usd", "What is known of the cost, in US dollars.", [("", f"{found.cost_usd:.9f}")]


def _last_success(file: str) -> float | None:
    try:
        line = re.search(rf"^{_LAST_SUCCESS}\{{.*\}} ([\d.]+)$", Path(file).read_text(encoding="utf-8"), re.MULTILINE)
        return float(line[1]) if line else None
    except (OSError, ValueError):
        return None

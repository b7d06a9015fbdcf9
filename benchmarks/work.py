"""The work that is measured: rows of about 800 bytes, and the run over them with default settings."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from pathlib import Path

CONCURRENCY = 64
MODEL = "accounts/fireworks/models/glm-5p3-flash"
SENTENCE = "The parcel was due on Monday, and the tracking page has said the same thing ever since. "


def write_rows(path: Path, rows: int) -> None:
    text = SENTENCE * 8
    with path.open("w") as file:
        for index in range(rows):
            file.write(f'{{"custom_id": "ticket-{index:07d}", "prompt": "{index} {text}", "label": "shipping"}}\n')


def batchrun_command(prompts: Path, folder: Path, base_url: str, *options: str) -> list[str]:
    command = ["batchrun", "run", str(prompts), "-o", str(folder), "-m", MODEL, "-c", str(CONCURRENCY)]
    return [*command, "--set", f"endpoint.base_url={base_url}", *options]

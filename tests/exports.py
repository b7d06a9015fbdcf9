"""Run folders to be exported, and readers of what comes out, written as the providers' pages show."""

from __future__ import annotations

import asyncio
import json
from contextlib import contextmanager

from stores import feed, record, run_file

from batchrun.export.target import opened
from batchrun.exporting import export, open_folder
from batchrun.prompts import open_prompts
from batchrun.store.folder import RunFolder
from batchrun.store.identity import fit
from batchrun.store.keeper import Store

ROWS = 12


def ended(index: int, **values):
    """A record of an answer as the engine leaves it, its body not kept."""
    usual = {
        "model": "served",
        "requested_model": "m",
        "finish_reason": "stop",
        "completion_tokens": 5,
        "total_tokens": 15,
        "usage_source": "endpoint",
        "status_code": 200,
        "request_id": f"chatcmpl-{index}",
    }
    return record(index, **(usual | values))


def failed(index: int, error_type: str, **values):
    """A record of a failure."""
    return record(index, failed=True, **({"error_type": error_type, "error_message": "no luck"} | values))


def make(path, records, rows: int | None = None, *, api: str = "chat", source: str = "x", part_mb: float = 0.002):
    """A folder that holds some records of a run of `rows` rows, in small parts; returns its path."""
    records = list(records)
    with begun(path, len(records) if rows is None else rows, api=api, source=source) as store:
        asyncio.run(feed(store, records, part_mb=part_mb))
    return path


@contextmanager
def begun(path, rows: int, *, api: str = "chat", source: str = "x"):
    """The store of a run that is going on."""
    config = {"input": source, "endpoint": {"api": api, "base_url": "simulated"}}
    folder = RunFolder(path)
    folder.make()
    with folder.locked():
        yield Store(folder, fit(folder, run_file(rows, config=config)).run)


def exported(path, target, form: str, *, join=None, sort: bool = False):
    """Export a folder into a file; returns the file."""
    with opened(str(target), binary=False) as sink:
        export(open_folder(RunFolder(path)), sink, form, sort=sort, join=join and open_prompts(str(join)))
    return target


def lines(path) -> list[dict]:
    """The objects of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text(encoding="utf-8").splitlines()]


def openai_results(path) -> tuple[dict[str, dict], dict[str, dict]]:
    """Bodies and errors by custom_id, as OpenAI's guide to the Batch API says to read its output and error files."""
    bodies, errors = {}, {}
    with path.open(encoding="utf-8") as file:
        for line in file:
            result = json.loads(line.strip())
            assert set(result) == {"id", "custom_id", "response", "error"}
            if result["error"] is not None:
                assert result["response"] is None
                errors[result["custom_id"]] = result["error"]
            elif result["response"]["status_code"] != 200:
                errors[result["custom_id"]] = result["response"]["body"]["error"]
            else:
                bodies[result["custom_id"]] = result["response"]["body"]
    return bodies, errors


def fireworks_results(path) -> tuple[dict[str, dict], dict[str, dict]]:
    """Completions and errors by custom_id, as Fireworks' guide to batch inference shows its lines."""
    results = lines(path)
    bodies = {result["custom_id"]: result["response"] for result in results if "response" in result}
    errors = {result["custom_id"]: result["error"] for result in results if "error" in result}
    assert len(bodies) + len(errors) == len(results)
    return bodies, errors

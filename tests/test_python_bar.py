"""The bar of a run that Python started: on a terminal and in a notebook, with or without widgets; elsewhere nothing."""

from __future__ import annotations

import json
import re
import sys

import pytest
from commands import on_a_terminal, typed
from servers import simulated

PYTHON = [sys.executable, "-c"]
RUN = """
import asyncio, json, sys
import batchrun
async def main():
    await batchrun.arun(json.loads(sys.argv[1]), options=batchrun.Options(skip_invalid=True, **json.loads(sys.argv[2])))
asyncio.run(main())
"""
MAP = """
import json, sys
import batchrun
config = json.loads(sys.argv[1])
batchrun.map(["q0", "q1"], {key: config[key] for key in config if key != "input"})
"""
STREAM = """
import asyncio, json, sys
import batchrun
async def main():
    config = json.loads(sys.argv[1])
    async for record in batchrun.stream(["q0", "q1"], {key: config[key] for key in config if key != "input"}):
        pass
asyncio.run(main())
"""
NOTEBOOK = """
import sys, types
sys.modules["ipywidgets"] = None
sys.modules["ipykernel"] = sys.modules["ipykernel.zmqshell"] = types.ModuleType("ipykernel")
sys.modules["IPython"] = kernel = types.ModuleType("IPython")
kernel.version_info = (9, 0)
kernel.get_ipython = lambda: types.SimpleNamespace(config={"IPKernelApp": {}})
kernel.display = display = types.ModuleType("IPython.display")
display.display = display.HTML = display.clear_output = print
sys.modules["IPython.display"] = display
"""


@pytest.fixture(scope="module")
def server():
    """Answers at once."""
    with simulated() as endpoint:
        yield endpoint


@pytest.fixture
def config(tmp_path, server):
    """Three rows, one of which cannot be sent."""
    (tmp_path / "in.jsonl").write_text('{"prompt": "q0"}\n{"prompt": "q1"}\n{"prompt": 7}\n')
    return {
        "input": str(tmp_path / "in.jsonl"),
        "output": str(tmp_path / "out"),
        "endpoint": {"base_url": server.base_url},
        "request": {"model": "simulated/small"},
    }


def shown(script, config, **options):
    """What a terminal shows of it, warnings too."""
    code, seen = on_a_terminal(script, json.dumps(config), json.dumps(options), program=PYTHON)
    assert code == 0, seen
    return seen


def piped(script, config):
    """What it writes where stdout and stderr are no terminal, warnings too."""
    done = typed(script, json.dumps(config), "{}", program=PYTHON)
    assert done.code == 0, done.err
    return done.out + done.err


@pytest.mark.parametrize(("look", "script"), [(shown, RUN), (piped, NOTEBOOK + RUN)], ids=["terminal", "notebook"])
def test_somebody_looks(config, look, script):
    """The bar ends with all rows, the failed ones and the cost; nothing else is written. A notebook has no widgets."""
    lines = re.split(r"[\r\n]+", look(script, config).strip())
    assert all(re.match(r"\s*\d+%\|", line) for line in lines)
    assert re.match(r"100%\|.*\| 3/3 \[.*, 1 failed, \$0\.000\d\]", lines[-1])


@pytest.mark.rig
def test_rows_of_a_program_are_shown_too(config):
    """By `map`."""
    assert "2/2" in shown(MAP, config)


@pytest.mark.parametrize(("script", "options"), [(RUN, {"progress": False}), (STREAM, {})])
def test_nobody_wants_it(config, script, options):
    """It was switched off, or the loop body of `stream` writes there itself."""
    assert shown(script, config, **options) == ""


def test_nobody_looks(config):
    """Where stderr is a file or a pipe a program is silent."""
    assert piped(RUN, config) == ""


@pytest.mark.parametrize("theirs", ["tqdm.tqdm", "tqdm.auto.tqdm"])
def test_the_lock_of_a_program_stays(theirs):
    """Whoever has set one shares it between his bars, in this process or in several; ours is one of them."""
    code = f"import threading, tqdm.auto\nown = threading.RLock()\n{theirs}.set_lock(own)\n"
    code += "from batchrun.bar import bars\nprint(bars().get_lock() is own)"
    assert typed(program=[*PYTHON, code]).out == "True\n"


@pytest.mark.rig
def test_no_lock_for_other_processes(config):
    """A bar needs no multiprocessing, which on macOS would start a process."""
    assert "3/3" in shown(f"{RUN}\nassert 'multiprocessing.synchronize' not in sys.modules", config)

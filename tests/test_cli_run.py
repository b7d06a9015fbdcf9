from __future__ import annotations

import asyncio
import io
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
from commands import BATCHRUN, END_S, asked, at, called, kept, prompts, typed
from servers import ROOT, embedded_at_once, simulated

import batchrun
from batchrun.errors import ConfigError


@pytest.fixture
def clone(tmp_path, monkeypatch):
    """A folder with the configurations and the sample data, as after `git clone`."""
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, tmp_path / name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture(scope="module")
def server():
    """An endpoint that answers at once."""
    with simulated() as server:
        yield server


def test_the_readmes_command_does_the_whole_job(clone):
    """The quickstart ends with 0, an answer for each row, a report on stdout, and the next command on stderr."""
    ended = typed("run", "configs/quickstart.yaml", "--limit", 20, cwd=clone, env=embedded_at_once(clone))
    assert ended.code == 0, ended.err
    assert ended.last.startswith("exit 0: 20 of 200 rows have a result; 20 requests sent. Next: ")
    frame = pd.read_parquet("runs/quickstart/results")
    assert sorted(frame["index"]) == list(range(20))
    assert (frame["content"].str.len() > 0).all()
    assert json.loads(frame["input"][0]).keys() == {"label"}
    assert "Simulated" in ended.out
    assert not set("\r\x1b") & set(ended.err + ended.out), "there is no terminal to draw a bar on"
    summary = json.loads((clone / "runs/quickstart/report/summary.json").read_text())
    assert summary["rows"]["succeeded"] == 20
    assert "simulated/small" in (clone / "runs/quickstart/report/report.md").read_text()
    assert list((clone / "runs/quickstart/_journal").iterdir()) == []


def test_a_second_time_nothing_is_sent(tmp_path, server):
    """What is kept is not asked again, and the last line says so."""
    command = ["run", prompts(tmp_path / "in.jsonl", 7), *at(server.base_url, tmp_path / "out")]
    assert called(*command).code == 0
    before = server.totals()
    again = called(*command)
    assert again.code == 0
    assert "7 of 7 rows have a result; nothing was left to send" in again.last
    assert server.totals() == before


def test_a_limit_is_lifted_by_the_next_command(tmp_path, server):
    """`--limit` sends the first rows; without it the others follow, and none is sent twice."""
    command = ["run", prompts(tmp_path / "in.jsonl", 9, words="limit"), *at(server.base_url, tmp_path / "out")]
    first = called(*command, "--limit", 4)
    assert first.last == "exit 0: 4 of 9 rows have a result; 4 requests sent. Next: the same without --limit for 5 more"
    assert "; 5 requests sent." in called(*command).last
    assert sorted(asked([line for line in server.ledger() if "limit" in line["last_user"]])) == [
        f"q{index}" for index in range(9)
    ]


def test_no_configuration_file_is_needed(tmp_path, server, monkeypatch):
    """An input, a folder and a model are enough; stdin is an input too."""
    monkeypatch.setattr(sys, "stdin", io.TextIOWrapper(io.BytesIO(b'{"prompt": "from a pipe"}\n')))
    assert called("run", "-", *at(server.base_url, tmp_path / "out")).code == 0
    assert kept(tmp_path / "out") == ["row-0"]


def test_without_stdout_and_stderr_it_runs_all_the_same(tmp_path, server):
    """As from cron: closed descriptors are no reason to end a run."""
    arguments = ["run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out")]
    command = ["sh", "-c", '"$@" >&- 2>&-', "sh", *BATCHRUN, *map(str, arguments)]
    assert subprocess.run(command, cwd=ROOT, timeout=END_S, check=False).returncode == 0
    assert len(kept(tmp_path / "out")) == 3


def test_a_report_that_cannot_be_written_is_an_error(tmp_path, server):
    """Unlike a run's, whose answers are kept: here the report is all that was asked for."""
    called("run", prompts(tmp_path / "in.jsonl", 1), *at(server.base_url, tmp_path / "out"))
    assert "one row" in called("report", tmp_path / "out").out
    assert json.loads(called("report", tmp_path / "out", "--format", "json").out)["rows"]["succeeded"] == 1
    ended = called("report", tmp_path / "out", "-o", tmp_path / "nowhere" / "report.txt")
    assert ended.code == 2
    assert "cannot be written: No such file or directory" in ended.err


@pytest.mark.skipif(not Path("/dev/full").exists(), reason="there is no /dev/full here")
def test_a_report_onto_a_full_disk_is_an_error(tmp_path, server):
    """Half a report with exit 0 would deceive whoever reads it."""
    called("run", prompts(tmp_path / "in.jsonl", 1), *at(server.base_url, tmp_path / "out"))
    with Path("/dev/full").open("w") as full:
        ended = typed("report", tmp_path / "out", stdout=full)
    assert ended.code == 6
    assert ended.last.startswith("exit 6: the disk failed or is full")


@pytest.mark.parametrize("quiet", [True, False])
def test_stdout_is_data_and_stderr_is_talk(tmp_path, server, quiet):
    """The report is on stdout, all else on stderr; `-q` leaves the last line only."""
    flags = ["-q"] if quiet else []
    ended = called("run", prompts(tmp_path / "in.jsonl", 3), *at(server.base_url, tmp_path / "out"), *flags)
    assert (ended.out == "") is quiet
    assert (len(ended.err.splitlines()) == 1) is quiet
    assert "exit 0" not in ended.out


def test_a_reader_that_leaves_does_not_matter(tmp_path, server):
    """`| head -1` neither ends the run nor brings a traceback, and the exit code is the run's."""
    arguments = map(str, ["run", prompts(tmp_path / "in.jsonl", 5), *at(server.base_url, tmp_path / "out")])
    with subprocess.Popen(
        [*BATCHRUN, *arguments], stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=ROOT
    ) as process:
        process.stdout.close()
        err = process.stderr.read()
        assert process.wait(END_S) == 0
    assert "Traceback" not in err
    assert "Broken" not in err
    assert err.splitlines()[-1].startswith("exit 0: 5 of 5 rows")


@pytest.mark.parametrize("name", ["run", "report", "export"])
def test_no_command_waits_for_pandas(tmp_path, server, name):
    """Left alone pyarrow imports it with the first value that it converts, and a command would start half as fast."""
    run = list(map(str, [prompts(tmp_path / "in.jsonl", 2), *at(server.base_url, tmp_path / "out")]))
    assert called("run", *run).code == 0
    code = (
        "import sys; sys.argv[0] = 'batchrun'\n"
        "from batchrun.__main__ import main\n"
        "try: main()\n"
        "except SystemExit as end: print(end.code, 'pyarrow' in sys.modules, 'pandas' in sys.modules)\n"
    )
    command = [sys.executable, "-c", code, name, *(run if name == "run" else [str(tmp_path / "out")])]
    done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[-1] == "0 True False"


@pytest.mark.parametrize("chosen", ["", "system"])
def test_arrow_takes_its_memory_from_jemalloc_unless_told_otherwise(chosen):
    """Where it has it: the peak of a run is a quarter lower."""
    code = (
        "from batchrun.cli.lean import be_lean; be_lean(); import pyarrow as pa\n"
        "print(pa.default_memory_pool().backend_name, *pa.supported_memory_backends())"
    )
    env = {name: value for name, value in os.environ.items() if name != "ARROW_DEFAULT_MEMORY_POOL"}
    env |= {"ARROW_DEFAULT_MEMORY_POOL": chosen} if chosen else {}
    command = [sys.executable, "-c", code]
    taken, *there = subprocess.run(command, capture_output=True, text=True, env=env, check=True).stdout.split()
    assert taken == (chosen or ("jemalloc" if "jemalloc" in there else there[0]))


def test_what_is_in_force_is_said_on_demand(tmp_path, server):
    """`-v` writes the effective configuration as YAML; file < environment < option."""
    config = tmp_path / "c.yaml"
    config.write_text("limits: {concurrency: 3, requests_per_minute: 60000}\nretry: {max_attempts: 2}\n")
    command = ["run", config, prompts(tmp_path / "in.jsonl", 1), *at(server.base_url, tmp_path / "out"), "-v"]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("BATCHRUN_CONCURRENCY", "4")
        patch.setenv("BATCHRUN_RPM", "7000")
        said = called(*command, "--rpm", "8000").err
    assert "  concurrency: 4\n" in said
    assert "  requests_per_minute: 8000" in said
    assert "  max_attempts: 2\n" in said


def test_options_of_the_environment_have_the_names_of_the_options(tmp_path, server, monkeypatch):
    """BATCHRUN_INPUT, _OUTPUT, _MODEL and _SET do what --input, --output, --model and --set do."""
    monkeypatch.setenv("BATCHRUN_INPUT", str(prompts(tmp_path / "in.jsonl", 2)))
    monkeypatch.setenv("BATCHRUN_OUTPUT", str(tmp_path / "out"))
    monkeypatch.setenv("BATCHRUN_MODEL", "simulated/other")
    monkeypatch.setenv("BATCHRUN_SET", f"endpoint.base_url={server.base_url}")
    assert called("run").code == 0
    assert set(batchrun.read(tmp_path / "out").to_pandas()["requested_model"]) == {"simulated/other"}


def test_an_argument_wins_over_the_environments_input(tmp_path, server, monkeypatch):
    """Whoever types a file means that file."""
    monkeypatch.setenv("BATCHRUN_INPUT", "elsewhere.jsonl")
    ended = called("run", prompts(tmp_path / "in.jsonl", 2), *at(server.base_url, tmp_path / "out"))
    assert ended.code == 0, ended.err


def test_failures_below_the_threshold_are_a_success(tmp_path):
    """`--fail-threshold 50%` turns a run with fewer failures into exit 0, and still counts them."""
    with simulated({"faults": [{"kind": "html", "match": "q1 "}]}) as server:
        given = ["--set", "retry.max_attempts=1", "--retry-failed", "none"]
        command = ["run", prompts(tmp_path / "in.jsonl", 4), *at(server.base_url, tmp_path / "out", *given)]
        assert called(*command).code == 3
        ended = called(*command, "--fail-threshold", "50%")
    assert ended.code == 0
    assert "1 of 4 rows failed (1 response_unreadable)" in ended.last


# From Python


def values(base_url, source, out):
    """A configuration as keys and values."""
    return {
        "input": str(source),
        "output": str(out),
        "endpoint": {"base_url": base_url},
        "request": {"model": "simulated/small"},
    }


def test_from_python(tmp_path, server):
    """`batchrun.run` takes keys and values and gives the report; `batchrun.read` gives the answers."""
    report = batchrun.run(values(server.base_url, prompts(tmp_path / "in.jsonl", 4), tmp_path / "out"))
    assert (report.rows.succeeded, report.rows.failed) == (4, 0)
    frame = batchrun.read(tmp_path / "out").to_pandas()
    assert frame["custom_id"].tolist() == ["c0", "c1", "c2", "c3"]


def test_from_a_running_loop(tmp_path, server):
    """In a notebook `await batchrun.arun(...)` does it, and `batchrun.run` says so."""
    config = values(server.base_url, prompts(tmp_path / "in.jsonl", 2), tmp_path / "out")

    async def cell():
        with pytest.raises(ConfigError) as refused:
            batchrun.run(config)
        return refused.value.remedy, await batchrun.arun(config)

    remedy, report = asyncio.run(cell())
    assert "await batchrun.arun" in remedy
    assert report.rows.succeeded == 2


def test_the_module_of_that_name_is_no_trap():
    """`batchrun.run` can be called whichever way it came to be imported."""
    code = (
        "import batchrun.run, batchrun\n"
        "for run in (batchrun.run, __import__('batchrun').run):\n"
        "    try: run({})\n"
        "    except batchrun.run.ConfigError as error: print(error.message)\n"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines() == ["configuration: no input is named"] * 2


def test_rows_that_fail_are_no_exception(tmp_path):
    """From Python, failed rows are in the report; only what ends a run early is raised."""
    with simulated({"faults": [{"kind": "html", "match": "q0 "}]}) as server:
        config = values(server.base_url, prompts(tmp_path / "in.jsonl", 2), tmp_path / "out")
        report = batchrun.run({**config, "retry": {"max_attempts": 1}})
    assert [(group.error_type, group.rows) for group in report.failures] == [("response_unreadable", 1)]

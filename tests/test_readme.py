"""The README says what is so: its commands run, its tables are the code's."""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import get_args

import pytest
import yaml
from counts import read_counts
from servers import embedded_at_once, simulated
from test_configs import keys_of

import batchrun
from batchrun.cli import batchrun as group
from batchrun.config import check_config
from batchrun.store.schema import FAILURES, RESULTS
from batchrun.types import ErrorType

ROOT = Path(__file__).parent.parent
README = (ROOT / "README.md").read_text(encoding="utf-8")
REQUESTS = (ROOT / "docs" / "requests.md").read_text(encoding="utf-8")
SAMPLES = sorted(path.name for path in (ROOT / "sample_data").iterdir() if path.suffix != ".md")
EXIT_CODES = {0, 1, 2, 3, 4, 5, 6, 7, 8, 130, 143}
INSTALL = "pip install -e . && "
STEADY = ("runs/quickstart: ", "Simulated: ", "Model ", "Endpoint ", "Rows ", "Tokens ", "Cost ", "answers ", "exit ")
"""How the lines begin that are the same in every run of the quickstart."""


def blocks(kind: str, text: str = README) -> list[str]:
    """The fenced blocks of one kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```$", text, re.MULTILINE | re.DOTALL)


def sessions() -> list[tuple[str, list[str]]]:
    """Each command that is shown with its output, in order."""
    shown = [*blocks("console"), *blocks("console", REQUESTS)]
    parts = [part for block in shown for part in re.split(r"^\$ ", block, flags=re.MULTILINE)[1:]]
    return [(part.partition("\n")[0], part.partition("\n")[2].splitlines()) for part in parts]


def commands() -> list[list[str]]:
    """Every `batchrun` command line, also those that are not run here."""
    text = "\n".join([*blocks("sh"), *(command for command, _ in sessions())]).replace("\\\n", " ")
    words = [shlex.split(line.removeprefix(INSTALL), comments=True) for line in text.splitlines()]
    return [line[1:] for line in words if line[:1] == ["batchrun"]]


def table(heading: str) -> list[list[str]]:
    """The rows of the first table under a heading, cell by cell."""
    lines = README.partition(f"# {heading}\n")[2].splitlines()
    start = next(number for number, line in enumerate(lines) if line.startswith("|---"))
    rows = []
    for line in lines[start + 1 :]:
        if not line.startswith("|"):
            break
        rows.append([cell.strip() for cell in line.strip("|").split(" | ")])
    return rows


def in_turn() -> list[list[str]]:
    """The shown commands by what they run: those of one input follow each other, the others need not wait."""
    turns: dict[str, list[str]] = {}
    for command, _ in sessions():
        turns.setdefault(shlex.split(command.removeprefix(INSTALL))[2], []).append(command)
    return list(turns.values())


@pytest.fixture(scope="module")
def ran(tmp_path_factory) -> dict[str, subprocess.CompletedProcess[str]]:
    """What the shown commands said, each run once, in a copy of what they need."""
    place = tmp_path_factory.mktemp("clone")
    for name in ("configs", "sample_data"):
        shutil.copytree(ROOT / name, place / name)
    env = {name: value for name, value in os.environ.items() if not name.startswith("BATCHRUN_")}
    # the same prompts bring the same answers however many are out at once
    env |= {"PATH": f"{Path(sys.executable).parent}{os.pathsep}{env['PATH']}", "COLUMNS": "80"}
    env |= {"BATCHRUN_CONCURRENCY": "200", "PYTHONPATH": str(ROOT), **embedded_at_once(place)}

    def run(command: str) -> subprocess.CompletedProcess[str]:
        line = re.sub(r"^batchrun\b", "python -m batchrun", command.removeprefix(INSTALL))
        return subprocess.run(
            line, shell=True, cwd=place, env=env, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
        )

    turns = in_turn()
    with ThreadPoolExecutor(len(turns)) as threads:
        done = threads.map(lambda turn: {command: run(command) for command in turn}, turns)
        return {command: ended for turn in done for command, ended in turn.items()}


@pytest.mark.parametrize("command", [command for command, _ in sessions()])
def test_a_shown_command_runs(command, ran):
    """It ends well."""
    assert ran[command].returncode == 0, ran[command].stderr


@pytest.mark.parametrize(("command", "shown"), sessions())
def test_a_shown_output_is_what_comes(command, shown, ran):
    """All of it; of the quickstart's report the lines that are the same every time."""
    said = [line.rstrip() for line in (ran[command].stdout + ran[command].stderr).splitlines()]
    expected = [line for line in shown if not command.startswith(INSTALL) or line.startswith(STEADY)]
    assert expected
    assert [line for line in expected if line not in said] == []
    if "--help" in command:
        assert shown == said


@pytest.mark.parametrize("arguments", commands(), ids=" ".join)
def test_every_command_line_is_understood(arguments):
    """Also those that need a key: their options exist."""
    command = group.commands[arguments[0]]
    assert command.make_context(arguments[0], arguments[1:], resilient_parsing="--help" in arguments)


@pytest.mark.parametrize("name", sorted(group.commands))
def test_every_command_is_documented(name):
    """The table of commands has a row for it."""
    assert [row for row in table("Commands") if row[0].startswith(f"`batchrun {name}")]


def test_no_command_is_invented():
    """Each command of the table is there."""
    assert {row[0].strip("`").split()[1] for row in table("Commands")} == set(group.commands)


def test_every_exit_code_is_documented():
    """The table has each code of the contract."""
    assert {int(code) for row in table("Exit codes") for code in row[0].split(", ")} == EXIT_CODES


def test_the_configuration_is_the_code():
    """Every key, with its true default."""
    shown = {row[0].strip("`"): row[1] for row in table("Configuration")}
    values = {key: ... if cell == "(required)" else yaml.safe_load(cell.strip("`")) for key, cell in shown.items()}
    assert values == keys_of()


def test_the_counts_are_those_that_the_rigs_reached():
    """Each of `docs/counts.json`, as it is."""
    kept = [[rig, what, f"{count:,}"] for rig, counts in read_counts().items() for what, count in counts.items()]
    assert table("What it is tested with") == kept


@pytest.mark.parametrize(("kind", "schema"), [("results", RESULTS), ("failures", FAILURES)])
def test_the_columns_are_the_schema(kind, schema):
    """Every column with its type, and no other."""
    types = {"double": "float64", "timestamp[us, tz=UTC]": "timestamp(us, UTC)", "list<item: float>": "list<float32>"}
    shown = {name.strip("`"): row[1] for row in table("Columns") if row[2] in {kind, "both"} for name in row[0].split()}
    assert shown == {field.name: types.get(str(field.type), str(field.type)) for field in schema}


def test_every_error_type_is_named():
    """The list under the columns is complete."""
    named = README.partition("`error_type` is one of ")[2].partition(".\n")[0]
    assert re.findall(r"`(\w+)`", named) == list(get_args(ErrorType))


def test_links_lead_somewhere():
    """To a file that is there, or to a heading."""
    titles = re.findall(r"^#+ (.*)$", README, re.MULTILINE)
    headings = {re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in titles}
    targets = re.findall(r"\]\(([^)]+)\)", README)
    broken = [to for to in targets if to.removeprefix("#") not in headings and not (ROOT / to).exists()]
    assert targets
    assert broken == []


def test_every_decision_is_linked():
    """The list under Decisions is that of the folder, each with its title."""
    for path in sorted((ROOT / "docs" / "decisions").glob("*.md")):
        number, _, title = path.read_text(encoding="utf-8").partition("\n")[0].removeprefix("# ").partition(": ")
        assert f"- [{number}](docs/decisions/{path.name}): {title}" in README.replace("\n  ", " ")


def test_the_walk_names_the_rooms():
    """Each folder in the picture is a room."""
    picture = next(block for block in blocks("text") if "──>" in block)
    rooms = re.findall(r"(\w+)/", picture)
    assert [room for room in rooms if not (ROOT / "batchrun" / room / "__init__.py").exists()] == []
    assert rooms == ["prompts", "engine", "endpoint", "store", "report"]


@pytest.fixture(scope="module")
def run_here():
    """Run a file against an endpoint that answers at once, into a folder `out`."""
    with simulated() as server:

        def run(folder: Path, source: Path, **request):
            return batchrun.run(
                {
                    "input": str(source),
                    "output": str(folder / "out"),
                    "endpoint": {"base_url": server.base_url},
                    "request": {"model": "simulated/small", **request},
                }
            )

        yield run


@pytest.mark.parametrize("rows", [*blocks("json"), *blocks("json", REQUESTS)])
def test_the_shown_rows_are_rows(tmp_path, run_here, rows):
    """Each of them becomes a request, and is answered."""
    (tmp_path / "rows.jsonl").write_text(rows, encoding="utf-8")
    assert run_here(tmp_path, tmp_path / "rows.jsonl").rows.succeeded == rows.count("\n")


@pytest.mark.parametrize("keys", blocks("yaml", REQUESTS))
def test_the_shown_keys_are_keys(tmp_path, keys):
    """They make a configuration, with whatever a file holds that they name."""
    values = yaml.safe_load(keys.replace("answer.schema.json", str(tmp_path / "answer.schema.json")))
    (tmp_path / "answer.schema.json").write_text("{}", encoding="utf-8")
    assert check_config({"input": "prompts.jsonl", **values})


@pytest.mark.parametrize("name", SAMPLES)
def test_every_sample_runs(name, tmp_path, run_here):
    """Each file of sample_data/ brings an answer for every row."""
    template = {"template": "{{ customer_message }}"} if name.endswith(".csv") else {}
    report = run_here(tmp_path, ROOT / "sample_data" / name, **template)
    assert report.rows.succeeded == report.rows.total > 0


def test_the_python_example_is_true(tmp_path, run_here, monkeypatch):
    """What it calls is there and gives what it says."""
    monkeypatch.chdir(tmp_path)
    report = run_here(tmp_path, ROOT / "sample_data" / "openai_batch.jsonl")
    (example,) = blocks("python")
    code = re.sub(r"batchrun\.run\(.*?\)", "report", example).replace("runs/quickstart", str(tmp_path / "out"))
    names = {"report": report}
    exec(code, names)
    assert len(names["answers"]) == report.rows.succeeded
    assert names["failures"].num_rows == 0
    assert names["answers"]["again"].notna().all()

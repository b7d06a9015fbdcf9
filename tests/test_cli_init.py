"""`batchrun init`, `--version`, other tools' names for our options, and completion."""

from __future__ import annotations

import io
import re
import subprocess
import sys
from importlib import metadata

import pytest
from commands import called, on_a_terminal, prompts, typed
from servers import ROOT

from batchrun import __version__
from batchrun.cli import batchrun as group
from batchrun.cli.contents import ALIASES, without_aliases
from batchrun.config import load_config


@pytest.fixture(autouse=True)
def _here(tmp_path, monkeypatch):
    """Nothing is asked, and nothing is written anywhere else."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("sys.stdin", io.StringIO())


def test_what_is_written_is_a_configuration(tmp_path):
    """From options alone, with a comment on each value, and the next command is what it would cost."""
    options = ["-i", "rows.jsonl", "--base-url", "simulated", "-c", 8, "--max-cost", "2.5"]
    ended = called("init", "try.yaml", *options)
    assert ended.last.startswith("exit 0: wrote try.yaml. Next: ")
    config = load_config("try.yaml")
    assert (config.input, config.output, config.request.model) == ("rows.jsonl", "runs/try", "simulated/small")
    assert (config.limits.concurrency, config.limits.max_cost_usd) == (8, 2.5)
    lines = (tmp_path / "try.yaml").read_text().splitlines()
    assert [line for line in lines if not line.endswith(":") and "# " not in line] == []


def test_the_defaults_are_for_fireworks():
    """Without an answer and without options: its endpoint, its key, a model of it."""
    assert called("init").code == 0
    config = load_config("batchrun.yaml")
    assert config.endpoint.is_fireworks
    assert config.endpoint.api_key_env == "FIREWORKS_API_KEY"


def test_a_newcomer_has_something_to_run(tmp_path):
    """Where there are no prompts yet, the next command writes one, and what follows sends it."""
    after = called("init", "--base-url", "simulated").last.partition(" Next: ")[2]
    assert after.endswith("; batchrun plan batchrun.yaml")
    subprocess.run(["/bin/sh", "-c", after.partition(";")[0]], check=True, cwd=tmp_path)
    assert called("run", "batchrun.yaml", "-q").last.startswith("exit 0: 1 of 1 rows have a result")


@pytest.mark.parametrize("source", ["data/p.jsonl", "p?.jsonl", "p[12].jsonl", "*.jsonl"])
def test_no_prompts_are_written_where_they_cannot_be(source):
    """Into a folder that is not there, or into a file that is called like a glob."""
    assert called("init", "-i", source, "--base-url", "simulated").last.endswith(" Next: batchrun plan batchrun.yaml")


def test_what_it_wrote_can_be_planned(tmp_path):
    """The example of `--help`, and the command that it names next."""
    prompts(tmp_path / "prompts.jsonl", 3)
    assert "batchrun init try.yaml -i prompts.jsonl --base-url simulated" in called("init", "--help").out
    ended = called("init", "try.yaml", "-i", "prompts.jsonl", "--base-url", "simulated")
    assert called(*ended.last.partition("Next: batchrun ")[2].split()).code == 0


@pytest.mark.parametrize("value", ["a: b", "*.jsonl", "#x", "yes", "", "€", 'a"b', "{x}", "on", "null", "1e3"])
def test_any_value_is_kept_as_it_is(value):
    """YAML would read some words as something else."""
    assert called("init", "-m", value, "--base-url", "http://localhost:8000/v1").code == 0
    assert load_config("batchrun.yaml").request.model == value


def test_nothing_is_replaced_unless_told(tmp_path):
    """A file that is there is refused, with what would replace it."""
    (tmp_path / "batchrun.yaml").write_text("mine")
    ended = called("init")
    assert (ended.code, ended.err.splitlines()[0]) == (2, "error: batchrun.yaml is there already")
    assert (tmp_path / "batchrun.yaml").read_text() == "mine"
    assert called("init", "--force").code == 0
    assert "mine" not in (tmp_path / "batchrun.yaml").read_text()


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (["--max-cost", "much"], "limits.max_cost_usd"),
        (["--max-cost", "-1"], "limits.max_cost_usd"),
        (["--base-url", "ftp://x"], "is not an http(s) URL"),
        (["conf.txt"], "is not named as a YAML file"),
        (["no/such/folder.yaml"], "cannot be written"),
    ],
)
def test_what_no_run_would_take_is_not_written(tmp_path, arguments, said):
    """In two lines, and no file is left."""
    ended = called("init", *arguments)
    assert ended.code == 2
    assert said in ended.err.splitlines()[0]
    assert len(ended.err.splitlines()) == 2
    assert list(tmp_path.iterdir()) == []


def test_on_a_terminal_it_asks(tmp_path):
    """An empty line takes the default that is shown; what an option says is not asked for."""
    answers = [b"\n", b"rows.csv\n", b"\n", b"7\n"]
    code, seen = on_a_terminal(
        *("init", "--base-url", "simulated"),
        streams=("stdin", "stdout", "stderr"),
        reply=lambda seen, _: answers.pop(0) if seen.endswith(b"]: ") and answers else b"",
    )
    assert code == 0
    assert "Model [simulated/small]: " in seen
    assert "Endpoint" not in seen
    config = load_config(str(tmp_path / "batchrun.yaml"))
    assert (config.input, config.limits.max_cost_usd) == ("rows.csv", 7)


def test_whoever_leaves_the_questions(tmp_path):
    """Ctrl-D is no bug of ours: it says that nothing is written."""
    code, seen = on_a_terminal(
        "init", streams=("stdin", "stderr"), reply=lambda seen, _: b"\x04" if seen.endswith(b"]: ") else b""
    )
    assert code == 2
    assert "error: not all was answered, and nothing is written\r\nexit 2: " in seen
    assert list(tmp_path.iterdir()) == []


def test_the_versions_that_matter():
    """Ours, Python's, and those of the libraries that a bug may be in; nothing heavy is imported for it."""
    code = "import sys; sys.argv[1:] = ['--version']; import batchrun.__main__ as m\ntry: m.main()\nexcept SystemExit: "
    code += "print(*sys.modules, file=sys.stderr)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, cwd=ROOT, check=True)
    assert done.stdout.splitlines()[0] == f"batchrun {__version__}"
    assert re.match(r"Python 3\.\d+\.\d+ on \w+", done.stdout.splitlines()[1])
    assert f"pyarrow {metadata.version('pyarrow')}" in done.stdout
    assert {"pyarrow", "aiohttp", "msgspec", "asyncio"} & set(done.stderr.split()) == set()


def test_every_alias_stands_for_an_option():
    """Of both commands that take them."""
    for name in ("run", "plan"):
        known = {option for parameter in group.commands[name].params for option in parameter.opts}
        assert set(ALIASES.values()) <= known
        assert not set(ALIASES) & known


def test_aliases_are_taken_in_either_spelling(tmp_path):
    """With a space or an equals sign; what follows `--` is nobody's option."""
    source = prompts(tmp_path / "in.jsonl", 2)
    ended = called("plan", "--input-file", source, "--api-base=simulated", "-m", "simulated/small", "--budget", "3")
    assert ended.code == 0, ended.err
    assert without_aliases(["--budget=3", "--", "--budget=3"]) == ["--max-cost=3", "--", "--budget=3"]


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["rnu"], "Did you mean 'run'?"),
        (["stats"], "'status'"),
        (["run", "--concurency", "3"], "Did you mean '--concurrency'?"),
        (["status", "--formt", "json"], "Did you mean '--format'?"),
    ],
)
def test_a_slip_is_answered_with_what_was_meant(arguments, meant):
    """Commands and options alike."""
    ended = called(*arguments)
    assert ended.code == 2
    assert meant in ended.err.splitlines()[0]


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_each_shell_gets_its_completion(shell):
    """The line of `batchrun --help` prints a script for it, and the script's question is answered."""
    line = next(line for line in called("--help").out.splitlines() if f"_BATCHRUN_COMPLETE={shell}_source" in line)
    assert len(line) <= 80
    script = typed(env={"_BATCHRUN_COMPLETE": f"{shell}_source"})
    assert script.code == 0
    assert "_BATCHRUN_COMPLETE=" in script.out
    words = {"COMP_WORDS": "batchrun run --conc", "COMP_CWORD": "--conc" if shell == "fish" else "2"}
    answer = typed(env={"_BATCHRUN_COMPLETE": f"{shell}_complete", **words})
    assert "--concurrency" in answer.out


def test_bash_takes_the_script(tmp_path):
    """A real bash sources it and completes a command."""
    script = typed(env={"_BATCHRUN_COMPLETE": "bash_source"}).out
    (tmp_path / "complete.sh").write_text(script)
    code = ". ./complete.sh && complete -p batchrun"
    done = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=True)
    assert "_batchrun_completion" in done.stdout

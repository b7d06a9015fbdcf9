"""configs/examples/: each file is what its tool reads, as far as can be told here; each command line is ours."""

from __future__ import annotations

import ast
import re
import shlex
import shutil
import subprocess
import sys
from pathlib import Path

import pandas as pd
import pytest
import yaml
from commands import prompts
from servers import ROOT, embedded_at_once

from batchrun.cli import batchrun as group
from batchrun.cli.contents import without_aliases

EXAMPLES = ROOT / "configs" / "examples"
FILES = sorted(path.name for path in EXAMPLES.iterdir())
FIELDS = [(0, 59), (0, 23), (1, 31), (1, 12), (0, 7)]


def text_of(name: str) -> str:
    """What a file says, its long lines in one."""
    return (EXAMPLES / name).read_text(encoding="utf-8").replace("\\\n", " ")


def command_lines() -> list[tuple[str, list[str]]]:
    """Every `batchrun …` of every file, as words; what a template fills in is one word."""
    found = []
    for name in FILES:
        if name == "cronjob.yaml":
            job = yaml.safe_load(text_of(name))["spec"]["jobTemplate"]["spec"]["template"]["spec"]
            found.append((name, job["containers"][0]["args"][1:]))
            continue
        if name == "evaluation.sh":
            commands = [line for line in text_of(name).splitlines() if line.lstrip().startswith("batchrun ")]
            found += [(name, shlex.split(command)[1:]) for command in commands]
            continue
        lines = [line for line in text_of(name).splitlines() if not line.lstrip().startswith("#")]
        for line in lines:
            for words in re.findall(r"\bbatchrun (?:run|report|export|status|compare) [^\"&|;>]*", line):
                plain = re.sub(r"\{\{ \w+ \}\}|\$\(\w+\)|\$[@<]", "word", words).replace("\\%", "%")
                found.append((name, shlex.split(plain)[1:]))
    return found


def test_there_is_one_of_each():
    """Cron, systemd, Kubernetes, GitHub, Airflow, make, and an evaluation, which GitHub's calls."""
    assert FILES == [
        "Makefile",
        "airflow_dag.py",
        "batchrun.service",
        "batchrun.timer",
        "cronjob.yaml",
        "crontab",
        "evaluation.sh",
        "github-actions.yml",
    ]
    assert {name for name, _ in command_lines()} == {*FILES} - {"batchrun.timer", "github-actions.yml"}


@pytest.mark.parametrize(("name", "words"), command_lines(), ids=lambda value: value if isinstance(value, str) else "")
def test_every_command_line_is_understood(name, words):
    """Its command and its options exist, and take such values."""
    command = group.commands[words[0]]
    assert command.make_context(words[0], without_aliases(words[1:])), name


def documented() -> list[list[str]]:
    """Every `batchrun …` that the page on running shows, as words."""
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    blocks = "".join(re.findall(r"^```sh\n(.*?)^```$", page, re.MULTILINE | re.DOTALL))
    return [shlex.split(words)[1:] for words in re.findall(r"\bbatchrun [^|>\n]*", blocks)]


@pytest.mark.parametrize("words", documented(), ids=" ".join)
def test_what_the_page_on_running_shows_is_understood(words):
    """As above."""
    command = group.commands[words[0]]
    assert command.make_context(words[0], without_aliases(words[1:]))


def test_the_page_on_running_names_what_is_there():
    """Each option in its table is one of `run`, and each way to retune is one of `ctl`."""
    page = (ROOT / "docs" / "running.md").read_text(encoding="utf-8")
    known = {option for parameter in group.commands["run"].params for option in parameter.opts}
    named = re.findall(r"^\| `(-[-\w]+)", page, re.MULTILINE)
    assert {"-q" if option == "-qq" else option for option in named} <= known
    assert len(named) == 10


def test_the_crontab_is_one():
    """Five fields within their bounds and a command, in which no percent sign ends the line."""
    lines = [line for line in text_of("crontab").splitlines() if line and not line.startswith("#")]
    jobs = [line for line in lines if not re.match(r"\w+=", line)]
    assert len(jobs) == 2
    for job in jobs:
        *fields, command = job.split(None, 5)
        for field, (least, most) in zip(fields, FIELDS, strict=True):
            assert field == "*" or least <= int(field) <= most
        assert re.search(r"(?<!\\)%", command) is None
        subprocess.run(["/bin/sh", "-n", "-c", command.replace("\\%", "%")], check=True)


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="there is no systemd here")
def test_systemd_takes_the_units(tmp_path):
    """All that it says about them is that the command is not installed where they say; here it is."""
    for name in ("batchrun.service", "batchrun.timer"):
        text = text_of(name).replace("/srv/batchrun/venv/bin/batchrun", sys.executable)
        (tmp_path / name).write_text(text, encoding="utf-8")
    command = ["systemd-analyze", "verify", "--man=no", str(tmp_path / "batchrun.service")]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")


def test_the_cron_job_has_what_kubernetes_wants():
    """Names that are used are there, and only one runs at a time."""
    job = yaml.safe_load(text_of("cronjob.yaml"))
    assert (job["apiVersion"], job["kind"]) == ("batch/v1", "CronJob")
    assert job["spec"]["concurrencyPolicy"] == "Forbid"
    assert len(job["spec"]["schedule"].split()) == 5
    spec = job["spec"]["jobTemplate"]["spec"]
    pod = spec["template"]["spec"]
    assert pod["restartPolicy"] == "Never"  # a pod failure policy needs that
    (container,) = pod["containers"]
    mounted = {mount["name"] for mount in container["volumeMounts"]}
    assert mounted == {volume["name"] for volume in pod["volumes"]}
    for rule in spec["podFailurePolicy"]["rules"]:
        assert rule.get("onExitCodes", {}).get("containerName", container["name"]) == container["name"]
    assert all(isinstance(value, str) for value in container["args"])


def test_the_workflow_is_one():
    """It has a trigger and jobs, and each step either uses or runs something."""
    flow = yaml.safe_load(text_of("github-actions.yml"))
    assert {"name", True, "jobs", "permissions"} <= set(flow)  # YAML 1.1 reads `on` as true; GitHub does not
    (job,) = flow["jobs"].values()
    assert all(("uses" in step) != ("run" in step) for step in job["steps"])
    for step in job["steps"]:
        if "run" in step:
            subprocess.run(["/bin/sh", "-n", "-c", step["run"]], check=True)


def test_the_workflow_keeps_what_was_paid_for():
    """Also where the evaluation fails, under the name by which the next one finds it."""
    (job,) = yaml.safe_load(text_of("github-actions.yml"))["jobs"].values()
    restore, save = (step for step in job["steps"] if step.get("uses", "").startswith("actions/cache/"))
    assert save["if"] == "always()"
    assert restore["with"] == {**save["with"], "restore-keys": "runs-"}
    assert save["with"]["key"].startswith("runs-")


@pytest.fixture
def evaluated(tmp_path, monkeypatch):
    """Runs the evaluation of two configurations, with an embedded endpoint that answers at once."""
    for folder in ("configs", "sample_data"):
        shutil.copytree(ROOT / folder, tmp_path / folder)
    worse = (ROOT / "configs" / "labels-small.yaml").read_text().replace("max_tokens: 16", "max_tokens: 1")
    (tmp_path / "configs" / "labels-cut.yaml").write_text(worse)
    monkeypatch.chdir(tmp_path)
    env = {"PATH": f"{Path(sys.executable).parent}:/usr/bin:/bin", **embedded_at_once(tmp_path)}

    def run(baseline, candidate):
        configs = [f"configs/labels-{name}.yaml" for name in (baseline, candidate)]
        command = ["sh", str(EXAMPLES / "evaluation.sh"), *configs, "sample_data/prompts.jsonl"]
        return subprocess.run(command, env=env, capture_output=True, text=True, check=False)

    return run


@pytest.mark.rig
def test_an_evaluation_stops_at_a_regression(evaluated, tmp_path):
    """Code 3, and 0 again when it is mended; the baseline is asked once, and each answer stands beside its label."""
    as_good, worse, mended = evaluated("large", "small"), evaluated("large", "cut"), evaluated("large", "small")
    assert [done.returncode for done in (as_good, worse, mended)] == [0, 3, 0], as_good.stderr + mended.stderr
    assert "1 of 3 gates failed: accuracy < -0.02: -0.17 " in worse.stderr
    assert ["nothing was left to send" in done.stderr for done in (as_good, worse, mended)] == [False, True, True]
    rows = pd.read_parquet(tmp_path / "runs" / "evaluation" / "candidate.parquet")
    assert len(rows) == 200
    assert (rows["content"] == rows["label"]).sum() == 35
    assert "17.5 %" in (tmp_path / "runs" / "evaluation" / "comparison.md").read_text()


@pytest.mark.rig
def test_an_evaluation_stops_at_a_dearer_model(evaluated):
    """Its accuracy is as good, its price is not."""
    done = evaluated("small", "large")
    assert (done.returncode, "1 of 3 gates failed: cost_usd > +10%: +" in done.stderr) == (3, True)


def test_the_dag_is_python():
    """It parses, and asks Airflow for no more than it has."""
    names = {
        alias.name for node in ast.walk(ast.parse(text_of("airflow_dag.py"))) for alias in getattr(node, "names", [])
    }
    assert {"DAG", "BashOperator"} <= names


def test_make_knows_what_to_do(tmp_path):
    """Run, then both files that are made of the run."""
    prompts(tmp_path / "prompts.jsonl", 2)
    planned = made(tmp_path, "-n").splitlines()
    assert [line.split()[1] for line in planned if line.startswith("batchrun")] == ["run", "export", "report"]


@pytest.mark.rig
def test_make_makes_it(tmp_path):
    """Once; the second time there is nothing to do, and a new row is all that is bought the third time."""
    prompts(tmp_path / "prompts.jsonl", 2)
    made(tmp_path)
    assert (tmp_path / "answers.parquet").exists()
    assert "Nothing to be done" in made(tmp_path)
    prompts(tmp_path / "prompts.jsonl", 3)
    assert "3 rows" in made(tmp_path) + (tmp_path / "report.md").read_text()


def made(folder: Path, *options: str) -> str:
    """What `make` prints in a folder."""
    command = ["make", "-f", str(EXAMPLES / "Makefile"), *options]
    path = f"{Path(sys.executable).parent}:/usr/bin:/bin"
    done = subprocess.run(command, cwd=folder, env={"PATH": path}, capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout + done.stderr

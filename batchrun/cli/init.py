"""`batchrun init`: writes a commented configuration, from options or from answers."""

from __future__ import annotations

import re
import shlex

import click

from batchrun.cli.lines import last_line, say
from batchrun.errors import ConfigError

_FIREWORKS = "https://api.fireworks.ai/inference/v1"
_COMMENTS_AT = 44
_PLAIN = re.compile(r"simulated|(?=.*[./])[A-Za-z][\w./:-]*(?<!:)")
_MODELS = {_FIREWORKS: "accounts/fireworks/models/glm-5p3-flash", "simulated": "simulated/small"}


@click.command(context_settings={"auto_envvar_prefix": "BATCHRUN_INIT"})
@click.argument("file", metavar="[FILE]", default="batchrun.yaml", type=click.Path())
@click.option(
    "-i",
    "--input",
    "source",
    metavar="FILE",
    type=click.Path(),
    help="The prompts: .jsonl, .csv or .parquet, or a glob.",
)
@click.option(
    "-o", "--output", metavar="OUT", type=click.Path(), default="runs/{name}", show_default=True, help="The run folder."
)
@click.option("--base-url", metavar="URL", help="The endpoint; `simulated` needs no key and costs nothing.")
@click.option("--api-key-env", metavar="NAME", help="The variable that holds the key, where it is not Fireworks'.")
@click.option("-m", "--model", metavar="MODEL", help="The model.")
@click.option("-c", "--concurrency", metavar="N", type=click.IntRange(min=1), help="At most N requests in flight.")
@click.option("--max-cost", metavar="USD", help="At most so many dollars; `none` for no limit.")
@click.option("--force", is_flag=True, help="Replace FILE if it is there.")
def init(*, file: str, force: bool, output: str, **given: str | int | None) -> int:
    """Write a commented configuration to FILE (batchrun.yaml; - is stdout).

    On a terminal it asks for what the options do not say; else it takes the
    defaults. It never replaces a file without --force.

    \b
    Examples:
      batchrun init
      batchrun init try.yaml -i prompts.jsonl --base-url simulated
    """  # noqa: D301 (click reads the backspace)
    from pathlib import Path

    if file != "-" and Path(file).exists() and not force:
        raise ConfigError(
            f"{file} is there already",
            remedy=f"batchrun init {shlex.quote(file)} --force replaces it; or name another file",
        )
    if file != "-" and not file.endswith((".yaml", ".yml")):
        raise ConfigError(f"{file}: is not named as a YAML file", remedy=f"batchrun init {shlex.quote(file)}.yaml")
    answers = _ask_for_the_rest(given)
    text = _written(file, output, answers)
    _check(text, file)
    from batchrun.export.target import opened

    with opened(file, binary=False) as sink:
        sink.write(text.encode())
    if file != "-":
        last_line(0, f"wrote {file}", _next(file, answers["source"]))
    return 0


def _next(file: str, source: str) -> str:
    """What it would cost; where there are no prompts yet, and could be, they come first."""
    from pathlib import Path

    plan = f"batchrun plan {shlex.quote(file)}"
    path, is_glob = Path(source), set("*?[") & set(source)
    if source.endswith(".jsonl") and not is_glob and path.parent.is_dir() and not path.exists():
        return f"""echo '{{"prompt": "Name a river."}}' > {shlex.quote(source)}; {plan}"""
    return plan


def _ask_for_the_rest(given: dict[str, str | int | None]) -> dict[str, str]:
    """What was not given: asked for on a terminal, else the default."""
    from batchrun.cli.question import can_ask

    asks = can_ask()

    def answer(name: str, question: str, default: str) -> str:
        value = given.get(name)
        if value is None:
            value = _prompted(question, default) if asks else default
        return str(value).strip()

    base_url = answer("base_url", "Endpoint: a URL, or `simulated` (no key, no cost)", _FIREWORKS)
    theirs = base_url not in _MODELS
    return {
        "base_url": base_url,
        "api_key_env": answer("api_key_env", "Variable that holds its key, or none", "none") if theirs else "",
        "model": answer("model", "Model", _MODELS.get(base_url, "my-model")),
        "source": answer("source", "File of prompts", "prompts.jsonl"),
        "concurrency": answer("concurrency", "Requests in flight, at most", "64"),
        "max_cost": answer("max_cost", "Dollars to spend, at most, or none", "none"),
    }


def _prompted(question: str, default: str) -> str:
    try:
        return str(click.prompt(question, default=default, err=True))
    except click.Abort:  # Ctrl-D
        say("")
        raise ConfigError("not all was answered, and nothing is written", remedy="batchrun init --help") from None


def _written(file: str, output: str, answers: dict[str, str]) -> str:
    """The configuration; a text is written as JSON, which YAML reads."""
    name = "batchrun.yaml" if file == "-" else shlex.quote(file)
    budget = "null" if answers["max_cost"] == "none" else answers["max_cost"]
    key = "FIREWORKS_API_KEY" if answers["base_url"] == _FIREWORKS else answers["api_key_env"]
    key_line = f"  api_key_env: {key}" if key and key != "none" else "  # api_key_env: MY_KEY"
    lines = [
        (f"input: {_text(answers['source'])}", ".jsonl, .csv or .parquet, also .gz and .zst; a glob; - is stdin"),
        (f"output: {_text(output)}", "the run folder; {name} is this file's name, {date} today"),
        ("endpoint:", ""),
        (f"  base_url: {_text(answers['base_url'])}", "any OpenAI-compatible server, or simulated"),
        (key_line, "the variable that holds the key, never the key itself"),
        ("request:", ""),
        (f"  model: {_text(answers['model'])}", "where a row names none"),
        ("  # system: Answer in one word.", "a system message, where a row brings none"),
        ('  # template: "{{ question }}"', "Jinja2 over the columns of a row that has no prompt or messages"),
        ("  params: {max_tokens: 512, temperature: 0}", "thinking counts as max_tokens too"),
        ("limits:", ""),
        (f"  concurrency: {answers['concurrency']}", "requests in flight at most; fewer where the endpoint wants that"),
        ("  requests_per_minute: null", "your account's limit, if you know it"),
        (f"  max_cost_usd: {budget}", "dollars; what could pass it is not sent"),
        ("# keep_columns: [label]", "columns of the input to carry into the results"),
    ]
    head = f"# What it would cost: batchrun plan {name}\n# Run it, or go on with it: batchrun run {name}\n"
    return head + "".join(f"{line:{_COMMENTS_AT}}  # {why}\n" if why else f"{line}\n" for line, why in lines)


def _text(value: str) -> str:
    import json

    return value if _PLAIN.fullmatch(value) else json.dumps(value)


def _check(text: str, file: str) -> None:
    """Raise ConfigError if a run would refuse what was asked for: then nothing is written."""
    from batchrun._yaml import parse_yaml
    from batchrun.config import check_config

    check_config(parse_yaml(text, file), origin=file if file != "-" else "configuration")

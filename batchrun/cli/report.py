"""`batchrun report`: what a run cost and how long it took, from its folder alone."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(context_settings={"help_option_names": ["-h", "--help"], "auto_envvar_prefix": "BATCHRUN"})
@click.argument("out", metavar="OUT")
@click.option(
    "--format", "form", type=click.Choice(["text", "json", "markdown"]), default="text", show_default=True, help="Form."
)
@click.option("-o", "--output", metavar="FILE", default="-", show_default=True, help="Where to; - is stdout.")
def report(*, out: str, form: str, output: str) -> None:
    """Report on the run folder OUT, at any time, also while the run is going on.

    \b
    Example:
      batchrun report runs/quickstart --format markdown -o report.md
    """  # noqa: D301 (click reads the backspace)
    from batchrun.report.markdown import to_markdown
    from batchrun.report.summary import to_json
    from batchrun.report.text import to_text
    from batchrun.run import report_on
    from batchrun.store.folder import RunFolder

    found = report_on(RunFolder(out))
    if form == "json":
        text = to_json(found).decode()
    else:
        text = to_markdown(found) if form == "markdown" else to_text(found, width=terminal_width())
    if output == "-":
        click.echo(text, nl=not text.endswith("\n"))
    else:
        try:
            Path(output).write_text(text, encoding="utf-8")
        except OSError as error:
            raise click.FileError(output, hint=error.strerror) from error


def terminal_width() -> int:
    """Columns of the terminal, between 60 and 120; 80 where there is none."""
    import shutil

    return min(120, max(60, shutil.get_terminal_size((80, 24)).columns))

"""The group of commands: other tools' names for our options, completion, and the versions that matter."""

from __future__ import annotations

import os
from typing import Any

import click

from batchrun.cli.lines import put

ALIASES = {
    "--input-file": "--input",
    "--output-file": "--output",
    "--max-concurrency": "--concurrency",
    "--max-requests-per-minute": "--rpm",
    "--api-base": "--base-url",
    "--budget": "--max-cost",
}
"""What whoever comes from another tool types, and what it is called here."""

_TAKE_ALIASES = {"run", "plan"}
_LIBRARIES = ("aiohttp", "click", "msgspec", "pyarrow")


class Contents(click.Group):
    """A group whose help is data like any other, and whose commands that run something know the aliases as well."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        _explains(self)

    def add_command(self, cmd: click.Command, name: str | None = None) -> None:
        """Take a command in."""
        _explains(cmd)
        super().add_command(cmd, name)

    def main(self, *args: Any, **options: Any) -> Any:
        """Run what is typed, or complete it: then click is asked by a variable, and nothing is run."""
        if "_BATCHRUN_COMPLETE" in os.environ:
            from click.shell_completion import add_completion_class

            from batchrun.cli.completing import Zsh

            add_completion_class(Zsh)
        return super().main(*args, **options)

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        """All of them, in the order in which one needs them."""
        return list(self.commands)

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """Find the command and, for it, put our names in place of others'."""
        name, command, rest = super().resolve_command(ctx, args)
        return name, command, without_aliases(rest) if name in _TAKE_ALIASES else rest


def without_aliases(words: list[str]) -> list[str]:
    """The same command line in our own words, up to a `--`."""
    end = words.index("--") if "--" in words else len(words)
    parts = [word.partition("=") for word in words[:end]]
    return ["".join((ALIASES.get(name, name), equals, value)) for name, equals, value in parts] + words[end:]


def _explains(command: click.Command) -> None:
    """Have `--help` of a command written as all data is, in place of click's own, to which a full disk is a bug."""
    click.help_option("-h", "--help", callback=_show_help)(command)


def _show_help(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 (click's own)
    if wanted and not context.resilient_parsing:
        put(context.get_help())
        context.exit()


def show_versions(context: click.Context, _option: click.Parameter, wanted: bool) -> None:  # noqa: FBT001 (click's own)
    """Print what a bug report should name, and end."""
    if not wanted or context.resilient_parsing:
        return
    import platform
    from importlib.metadata import version

    from batchrun import __version__

    system = f"{platform.system()} {platform.release()} {platform.machine()}"
    libraries = ", ".join(f"{name} {version(name)}" for name in _LIBRARIES)
    put(f"batchrun {__version__}\nPython {platform.python_version()} on {system}\n{libraries}")
    context.exit()
